/* A series in the report: its heading, table and charts, and its rows of trajectory.csv. */
#include "report/trajectory.h"

#include <math.h>

#include "report/page.h"
#include "report/trajectory_view.h"

bool lode_trajectory_known(const lode_trajectory_view_t *view, lode_trajectory_figure_t figure,
                           bool *all_zero) {
    double summary[3];
    bool known = false;
    *all_zero = true;
    for (int64_t i = 0; i < view->trajectory->count; i++) {
        lode_trajectory_median(summary, view->trajectory, i, figure);
        known |= isfinite(summary[0]);
        *all_zero &= !isfinite(summary[0]) || (summary[1] == 0 && summary[2] == 0);
    }
    return known;
}

/* --- the axis of steps ------------------------------------------------------------------------ */

double lode_trajectory_place(const lode_trajectory_view_t *view, double step) {
    return step > 0 ? step : lode_chart_step_place(view->steps, view->step_count);
}

lode_chart_panel_t lode_trajectory_panel(const lode_trajectory_view_t *view, const char *title,
                                         const char *label) {
    return (lode_chart_panel_t){.title = title,
                                .x_label = "step of training",
                                .y_label = label,
                                .log_x = true,
                                .steps = view->steps,
                                .step_count = view->step_count,
                                .x_low = view->low,
                                .x_high = view->high};
}

/* The steps that tics are at, and that say where step 0 lies: those of checkpoints, and of
 * validations only what reaches farther to the left. */
static lode_status_t list_steps(lode_trajectory_view_t *view) {
    const lode_trajectory_t *trajectory = view->trajectory;
    double least = INFINITY, first = INFINITY;
    LODE_TRY(lode_shelf_new(&view->trajectory->shelf, &view->steps, trajectory->count + 2));
    for (int64_t i = 0; i < trajectory->count; i++) {
        const double step = (double)trajectory->checkpoints[i].item->step;
        view->steps[view->step_count++] = step;
        view->zero |= step == 0;
        least = step > 0 ? fmin(least, step) : least;
    }
    bool early = false;
    for (int64_t i = 0; i < trajectory->validations; i++) {
        const double step = (double)trajectory->step[i];
        early |= step == 0;
        first = step > 0 ? fmin(first, step) : first;
    }
    if (early && !view->zero)
        view->steps[view->step_count++] = 0;
    if (first < least)
        view->steps[view->step_count++] = first;
    view->zero |= early;
    return LODE_OK;
}

/* The axis that all charts share. */
static lode_status_t make_axis(lode_trajectory_view_t *view) {
    lode_trajectory_t *trajectory = view->trajectory;
    LODE_TRY(list_steps(view));
    LODE_TRY(lode_shelf_new(&trajectory->shelf, &view->x, trajectory->count));
    view->low = INFINITY;
    for (int64_t i = 0; i < view->step_count; i++) {
        const double place = lode_trajectory_place(view, view->steps[i]);
        view->low = fmin(view->low, place);
        view->high = fmax(view->high, place);
        if (i < trajectory->count)
            view->x[i] = place;
    }
    for (int64_t i = 0; i < trajectory->validations; i++)
        view->high = fmax(view->high, (double)trajectory->step[i]);
    const double room = fmax(1.1, pow(view->high / view->low, 0.07));
    view->low /= room;
    view->high *= room;
    return LODE_OK;
}

/* --- the page -------------------------------------------------------------------------------- */

static lode_status_t write_page(lode_plot_t *plot, lode_buffer_t *page,
                                lode_trajectory_t *trajectory) {
    lode_trajectory_view_t view = {.plot = plot, .page = page, .trajectory = trajectory};
    LODE_TRY(make_axis(&view));
    LODE_TRY(lode_trajectory_table(&view));
    LODE_TRY(lode_trajectory_losses(&view));
    return trajectory->last >= 0 ? lode_trajectory_charts(&view) : LODE_OK;
}

static lode_status_t add_series(lode_plot_t *plot, lode_buffer_t *page, lode_buffer_t *table,
                                lode_trajectory_t *trajectory) {
    LODE_TRY(lode_trajectory_rows(table, trajectory));
    LODE_TRY(lode_buffer_printf(page, "<h3>"));
    LODE_TRY(lode_page_text(page, trajectory->series));
    if (trajectory->point[0]) {
        LODE_TRY(lode_buffer_printf(page, " <span class=\"point\">"));
        LODE_TRY(lode_page_text(page, trajectory->point));
        LODE_TRY(lode_buffer_printf(page, "</span>"));
    }
    LODE_TRY(lode_buffer_printf(page, "</h3>\n"));
    return write_page(plot, page, trajectory);
}

lode_status_t lode_trajectory_all(lode_plot_t *plot, lode_buffer_t *page, lode_buffer_t *table,
                                  const lode_report_case_t *cases, int64_t count, int64_t seed) {
    bool any = false;
    for (int64_t i = 0; i < count; i++) {
        lode_trajectory_t trajectory;
        if (!lode_trajectory_begins(cases, count, i))
            continue;
        if (!any) {
            LODE_TRY(lode_buffer_printf(table, "series,model,step,layer,figure,value,low,high,"
                                               "point\n"));
            LODE_TRY(
                lode_buffer_printf(page, "<section id=\"trajectory\">\n<h2>Trajectory</h2>\n"));
        }
        any = true;
        lode_status_t status = lode_trajectory_read(&trajectory, cases, count, i, seed);
        if (status == LODE_OK)
            status = add_series(plot, page, table, &trajectory);
        lode_trajectory_free(&trajectory);
        LODE_TRY(status);
    }
    return any ? lode_buffer_printf(page, "</section>\n") : LODE_OK;
}
