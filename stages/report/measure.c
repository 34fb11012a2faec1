#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/result.h"
#include "score/concentration.h"
#include "score/order.h"

int64_t lode_report_row_length(const int32_t *row, int64_t extent) {
    int64_t length = 0;
    while (length < extent && row[length] >= 0)
        length++;
    return length;
}

void lode_report_classes(const lode_report_channels_t *channels, uint8_t *class) {
    const int64_t m = channels->channels;
    memset(class, LODE_CLASS_REST, (size_t)(channels->layers * m));
    for (int64_t l = 0; l < channels->layers; l++) {
        const int32_t *core = channels->core + l * channels->core_extent;
        const int32_t *halo = channels->halo + l * channels->halo_extent;
        for (int64_t i = 0; i < channels->halo_extent && halo[i] >= 0; i++)
            class[l * m + halo[i]] = LODE_CLASS_HALO;
        for (int64_t i = 0; i < channels->core_extent && core[i] >= 0; i++)
            class[l * m + core[i]] = LODE_CLASS_CORE;
    }
}

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double lode_report_median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

void lode_report_quantiles(double out[5], double *values, int64_t count) {
    static const double shares[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(values[i])) {
            const double value = values[i];
            values[i] = values[finite];
            values[finite++] = value;
        }
    if (finite > 0)
        qsort(values, (size_t)finite, sizeof *values, compare_doubles);
    for (int q = 0; q < 5; q++) {
        const double place = shares[q] * (double)(finite - 1);
        const int64_t below = (int64_t)place;
        out[q] = finite == 0 ? NAN : values[below];
        if (below + 1 < finite)
            out[q] += (place - (double)below) * (values[below + 1] - values[below]);
    }
}

static lode_status_t measure_layer(lode_report_layer_t *out, const lode_report_channels_t *channels,
                                   int64_t layer, int32_t *top) {
    int64_t m = channels->channels;
    const double *loss_proxy = channels->loss_proxy + layer * m;
    const double *power = channels->activation_power + layer * m;
    const int32_t *core = channels->core + layer * channels->core_extent;
    int64_t core_size = lode_report_row_length(core, channels->core_extent);
    out->core_size = core_size;
    out->core_mass = channels->core_mass[layer];
    const double *interval = channels->core_mass_interval;
    out->core_mass_low = interval ? interval[2 * layer] : NAN;
    out->core_mass_high = interval ? interval[2 * layer + 1] : NAN;
    LODE_TRY(lode_concentration_gini(&out->gini, loss_proxy, m, "loss_proxy"));
    LODE_TRY(lode_concentration_effective(&out->effective, loss_proxy, m, "loss_proxy"));
    LODE_TRY(lode_concentration_spearman(&out->spearman, loss_proxy, power, m,
                                         "loss_proxy and activation_power"));
    LODE_TRY(lode_order_top(top, core_size, power, m, "activation_power"));
    return lode_concentration_jaccard(&out->jaccard, core, core_size, top, core_size, m);
}

lode_status_t lode_report_measure(lode_report_case_t *item,
                                  const lode_report_channels_t *channels) {
    item->layer_count = channels->layers;
    item->channel_count = channels->channels;
    if (channels->layers == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&item->layers, channels->layers, "layer table"));
    int32_t *top;
    LODE_TRY(LODE_NEW(&top, channels->channels, "largest activation powers"));
    lode_status_t status = LODE_OK;
    for (int64_t layer = 0; status == LODE_OK && layer < channels->layers; layer++)
        status = lode_fail_context(measure_layer(&item->layers[layer], channels, layer, top),
                                   "%s: layer %lld", item->folder, (long long)layer);
    free(top);
    return status;
}
