#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "classify/work.h"
#include "score/structure.h"
#include "score/weights.h"

enum { PATH_MAX_BYTES = 128 };

static void figure_path(char path[PATH_MAX_BYTES], int figure, const char *suffix) {
    snprintf(path, PATH_MAX_BYTES, "/structure/%s%s", lode_structure_name(figure), suffix);
}

lode_status_t lode_classify_structure_create(const lode_classify_t *work) {
    const int64_t L = work->run->architecture.layers, interval[] = {L, 2};
    char path[PATH_MAX_BYTES];
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++) {
        figure_path(path, i, "");
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 1, &L, true));
        figure_path(path, i, "_interval");
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 2, interval, true));
    }
    LODE_TRY(lode_store_dataset(work->store, "/core_mass", LODE_TYPE_F64, 1, &L, true));
    LODE_TRY(
        lode_store_dataset(work->store, "/core_mass_interval", LODE_TYPE_F64, 2, interval, true));
    LODE_TRY(lode_store_dataset(work->store, "/core_stability", LODE_TYPE_F64, 1, &L, true));
    return lode_store_dataset(work->store, "/core_stability_interval", LODE_TYPE_F64, 2, interval,
                              true);
}

static lode_status_t write_figures(const lode_classify_t *work, const lode_structure_t *structure) {
    const double *mass = &structure->figure[LODE_STRUCTURE_CORE_MASS];
    const double *interval = structure->interval[LODE_STRUCTURE_CORE_MASS];
    char path[PATH_MAX_BYTES];
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++) {
        figure_path(path, i, "");
        LODE_TRY(lode_classify_write(work, path, 1, &structure->figure[i]));
        figure_path(path, i, "_interval");
        LODE_TRY(lode_classify_write(work, path, 2, structure->interval[i]));
    }
    LODE_TRY(lode_classify_write(work, "/core_mass", 1, mass));
    LODE_TRY(lode_classify_write(work, "/core_mass_interval", 2, interval));
    LODE_TRY(lode_classify_write(work, "/core_stability", 1, &structure->stability));
    return lode_classify_write(work, "/core_stability_interval", 2, structure->stability_interval);
}

static lode_status_t measure(const lode_classify_t *work, double *norms) {
    const int64_t m = work->m, first = work->layer * m;
    const bool gated = work->weights.gate.data != NULL;
    lode_structure_t structure;
    LODE_TRY(lode_weights_column_norms(norms, &work->weights.down, "down_proj"));
    LODE_TRY(lode_weights_row_norms(norms + m, &work->weights.up, "up_proj"));
    if (gated)
        LODE_TRY(lode_weights_row_norms(norms + 2 * m, &work->weights.gate, "gate_proj"));
    const lode_structure_inputs_t inputs = {.channels = m,
                                            .core_size = work->core_size,
                                            .loss_proxy = work->loss_proxy,
                                            .activation_power = work->activation_power,
                                            .down_norm = norms,
                                            .up_norm = norms + m,
                                            .gate_norm = gated ? norms + 2 * m : NULL,
                                            .sequences = work->sequences,
                                            .stride = work->run->architecture.layers * m,
                                            .loss_proxy_sums = work->proxy_sums + first,
                                            .activation_power_sums = work->power_sums + first,
                                            .draws = work->run->config->classify.controls.draws,
                                            .level = LODE_CLASSIFY_LEVEL,
                                            .seed = work->run->config->seed,
                                            .layer = work->layer};
    LODE_TRY(lode_structure_measure(&structure, &inputs));
    return write_figures(work, &structure);
}

lode_status_t lode_classify_structure(const lode_classify_t *work) {
    double *norms;
    LODE_TRY(LODE_NEW_RAW(&norms, 3 * work->m, "norms of channels"));
    const lode_status_t status = measure(work, norms);
    free(norms);
    return status;
}
