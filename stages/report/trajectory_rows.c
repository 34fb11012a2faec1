/* trajectory.csv. */
#include "report/trajectory.h"

#include <math.h>
#include <stdio.h>

#include "report/table.h"

static lode_status_t write_bound(lode_buffer_t *out, double bound) {
    return isfinite(bound) ? lode_buffer_printf(out, ",%.17g", bound)
                           : lode_buffer_append(out, ",", 1);
}

/* One row; `layer` is a number or a word. Nothing where the value is not known. */
static lode_status_t write_row(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                               const lode_report_case_t *item, const char *layer,
                               const char *figure, double value, double low, double high) {
    if (!isfinite(value))
        return LODE_OK;
    LODE_TRY(lode_report_csv_field(out, trajectory->series));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, item->model));
    LODE_TRY(lode_buffer_printf(out, ",%lld,%s,", (long long)item->step, layer));
    LODE_TRY(lode_report_csv_field(out, figure));
    LODE_TRY(lode_buffer_printf(out, ",%.17g", value));
    LODE_TRY(write_bound(out, low));
    LODE_TRY(write_bound(out, high));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, item->point));
    return lode_buffer_append(out, "\n", 1);
}

static bool has_median(lode_trajectory_figure_t figure) {
    static const bool has[] = {
#define FIGURE_MEDIAN(figure, name, median) median,
        LODE_TRAJECTORY_LIST(FIGURE_MEDIAN)
#undef FIGURE_MEDIAN
    };
    return has[figure];
}

static lode_status_t write_figure(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                                  int64_t index, lode_trajectory_figure_t figure) {
    const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[index];
    const double *value = checkpoint->value[figure], *low = checkpoint->low[figure],
                 *high = checkpoint->high[figure];
    const char *name = lode_trajectory_name(figure);
    double summary[3];
    char layer[24];
    for (int64_t l = 0; value && l < trajectory->layers; l++) {
        snprintf(layer, sizeof layer, "%lld", (long long)l);
        LODE_TRY(write_row(out, trajectory, checkpoint->item, layer, name, value[l],
                           low ? low[l] : NAN, high ? high[l] : NAN));
    }
    lode_trajectory_median(summary, trajectory, index, figure);
    if (has_median(figure))
        return write_row(out, trajectory, checkpoint->item, "median", name, summary[0], summary[1],
                         summary[2]);
    return write_row(out, trajectory, checkpoint->item, "all", name,
                     lode_trajectory_whole(trajectory, index, figure), NAN, NAN);
}

/* The figures of evaluate.h5 of the unchanged model: "perplexity/books/gptq/256", "acc/arc". */
static lode_status_t write_evaluated(lode_buffer_t *out, const lode_trajectory_t *trajectory,
                                     const lode_report_case_t *item) {
    lode_buffer_t name = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < item->figure_count; i++) {
        const lode_report_figure_t *figure = &item->figures[i];
        double low, high;
        if (figure->variant.kind != LODE_KIND_DENSE || figure->repeats)
            continue;
        name.length = 0;
        status = lode_buffer_printf(&name, "%s/%s", figure->metric, figure->dataset);
        if (status == LODE_OK && figure->protocol[0])
            status =
                lode_buffer_printf(&name, "/%s/%lld", figure->protocol, (long long)figure->length);
        lode_trajectory_interval(&low, &high, figure);
        if (status == LODE_OK)
            status = write_row(out, trajectory, item, "all", name.data, figure->value, low, high);
    }
    lode_buffer_free(&name);
    return status;
}

lode_status_t lode_trajectory_rows(lode_buffer_t *out, const lode_trajectory_t *trajectory) {
    for (int64_t i = 0; i < trajectory->count; i++) {
        const lode_trajectory_checkpoint_t *checkpoint = &trajectory->checkpoints[i];
        double low, high;
        for (lode_trajectory_figure_t f = 0; f < LODE_TRAJECTORY_FIGURES; f++)
            LODE_TRY(write_figure(out, trajectory, i, f));
        LODE_TRY(write_evaluated(out, trajectory, checkpoint->item));
        lode_trajectory_band(&low, &high, checkpoint->validation, checkpoint->validation_error);
        LODE_TRY(write_row(out, trajectory, checkpoint->item, "all", "validation_loss",
                           checkpoint->validation, low, high));
    }
    return LODE_OK;
}
