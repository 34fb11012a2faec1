#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/figures.h"
#include "report/shelf.h"

enum { CURVE = 100, PARTS = 4 }; /* points of a curve, at the most about; effective ranks */

/* Eigenvalues of one layer as shares of their sum, at ranks that are evenly spaced in their log. */
static lode_status_t add_curve(lode_shelf_t *shelf, const double *eigenvalues, int64_t m,
                               int64_t layer, lode_chart_series_t *series) {
    double *x, *y, total = 0;
    LODE_TRY(lode_shelf_new(shelf, &x, 2 * CURVE));
    LODE_TRY(lode_shelf_new(shelf, &y, 2 * CURVE));
    for (int64_t j = 0; j < m; j++)
        total += eigenvalues[j] > 0 ? eigenvalues[j] : 0;
    const double growth = pow((double)m, 1.0 / CURVE);
    int64_t count = 0;
    for (int64_t rank = 1; rank <= m && count < 2 * CURVE;) {
        const double share = eigenvalues[rank - 1] / total;
        x[count] = (double)rank;
        y[count++] = share > 1e-9 ? share : NAN; /* below is what rounding left of nothing */
        const int64_t next = (int64_t)ceil((double)rank * growth);
        rank = next > rank ? next : rank + 1;
    }
    *series = (lode_chart_series_t){
        .depth = (double)layer, .mark = LODE_MARK_LINE, .count = count, .x = x, .y = y};
    return LODE_OK;
}

static lode_status_t read_ranks(lode_shelf_t *shelf, lode_store_t *store, const char *matrix,
                                int64_t layers, lode_chart_series_t series[PARTS]) {
    static const struct {
        const char *part, *colour;
    } parts[PARTS] = {{"all", LODE_COLOUR_BLACK},
                      {"rest", LODE_COLOUR_GREY},
                      {"halo", LODE_COLOUR_BLUE},
                      {"core", LODE_COLOUR_VERMILION}};
    for (int i = 0; i < PARTS; i++) {
        char path[96];
        double *values;
        snprintf(path, sizeof path, "/%s/effective_rank_%s", matrix, parts[i].part);
        LODE_TRY(lode_shelf_f64(shelf, store, path, 1, &layers, &values));
        series[i] = (lode_chart_series_t){.name = parts[i].part,
                                          .colour = parts[i].colour,
                                          .mark = LODE_MARK_BOTH,
                                          .point = (const int[]){7, 5, 9, 13}[i],
                                          .size = 0.5,
                                          .count = values ? layers : 0,
                                          .y = values};
    }
    return LODE_OK;
}

static lode_status_t draw_matrix(lode_plot_t *plot, lode_report_case_t *item, lode_store_t *store,
                                 const char *matrix, const char *title, const char *what) {
    lode_shelf_t shelf = {0};
    lode_chart_series_t *curves = NULL, ranks[PARTS];
    double *eigenvalues;
    char path[96];
    int64_t shape[2] = {-1, -1};
    lode_status_t status;
    snprintf(path, sizeof path, "/%s/eigenvalues", matrix);
    LODE_GUARD(status, lode_shelf_f64(&shelf, store, path, 2, shape, &eigenvalues), done);
    if (!eigenvalues)
        goto done;
    LODE_GUARD(status, LODE_NEW(&curves, shape[0], "spectra"), done);
    for (int64_t l = 0; l < shape[0]; l++)
        LODE_GUARD(status, add_curve(&shelf, eigenvalues + l * shape[1], shape[1], l, &curves[l]),
                   done);
    LODE_GUARD(status, read_ranks(&shelf, store, matrix, shape[0], ranks), done);
    const lode_chart_panel_t panels[] = {{.title = "eigenvalues, as shares of their sum",
                                          .x_label = "rank of the eigenvalue",
                                          .log_x = true,
                                          .log_y = true,
                                          .series = curves,
                                          .count = shape[0]},
                                         {.title = "effective rank",
                                          .x_label = "layer",
                                          .log_y = true,
                                          .whole_x = true,
                                          .series = ranks,
                                          .count = PARTS}};
    const lode_chart_t chart = {.panels = panels, .count = 2, .columns = 2, .layers = shape[0]};
    char caption[640];
    snprintf(caption, sizeof caption,
             "%s. Left: one line a layer, coloured by depth; %lld eigenvalues each, down to 10⁻⁹ "
             "of their sum. Right: exp of the entropy of these shares, of the whole matrix and of "
             "its blocks of core, halo and remaining channels.",
             what, (long long)shape[1]);
    status = lode_figure_chart(plot, &chart, title, caption, &item->topics[LODE_TOPIC_SPECTRA]);
done:
    free(curves);
    lode_shelf_free(&shelf);
    return status;
}

lode_status_t lode_figures_spectra(lode_plot_t *plot, lode_report_case_t *item) {
    lode_store_t *store;
    char q[160], u[160];
    LODE_TRY(lode_report_open(&store, item, "spectra"));
    if (!store)
        return LODE_OK;
    snprintf(q, sizeof q,
             "Correlations between a layer’s channels of q = u·∂L/∂u over %lld "
             "calibration tokens",
             (long long)item->redundancy_tokens);
    snprintf(u, sizeof u,
             "Correlations between a layer’s channels of u over all %lld calibration "
             "tokens",
             (long long)item->tokens);
    const struct {
        const char *matrix, *title, *what;
    } matrices[] = {
        {"q", "Spectrum of the correlations of q", q},
        {"u", "Spectrum of the correlations of u", u},
        {"write", "Spectrum of the write vectors",
         "Inner products of a layer’s write vectors, the columns of its down projection"},
    };
    lode_status_t status = LODE_OK;
    for (size_t i = 0; status == LODE_OK && i < sizeof matrices / sizeof matrices[0]; i++)
        status =
            draw_matrix(plot, item, store, matrices[i].matrix, matrices[i].title, matrices[i].what);
    lode_store_close(&store);
    return lode_fail_context(status, "%s/spectra.h5", item->folder);
}
