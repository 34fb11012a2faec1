#include "classify/classify.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "classify/work.h"
#include "score/halo.h"
#include "score/supernode.h"

static void work_free(lode_classify_t *work) {
    free(work->loss_proxy);
    free(work->redundancy);
    free(work->q);
    free(work->core);
    free(work->halo);
    free(work->support);
}

static lode_status_t work_allocate(lode_classify_t *work) {
    LODE_TRY(LODE_NEW(&work->loss_proxy, 4 * work->m, "classify"));
    work->activation_power = work->loss_proxy + work->m;
    work->connectivity = work->activation_power + work->m;
    work->protection = work->connectivity + work->m;
    LODE_TRY(LODE_NEW(&work->redundancy, work->halo_size, "classify"));
    LODE_TRY(LODE_NEW(&work->q, work->tokens * work->m, "q"));
    LODE_TRY(LODE_NEW(&work->core, work->core_size, "core"));
    LODE_TRY(LODE_NEW(&work->halo, work->halo_size, "halo"));
    return LODE_NEW(&work->support, work->support_size, "write support");
}

static void work_sizes(lode_classify_t *work) {
    const lode_run_t *run = work->run;
    const lode_config_classify_t *classify = &run->config->classify;
    work->m = run->architecture.intermediate;
    work->core_size = lode_supernode_size(classify->core_fraction, work->m);
    work->halo_size = lode_halo_size(classify->halo_fraction, work->m, work->core_size);
    work->random_size = work->m - work->core_size - work->halo_size;
    if (work->random_size > classify->controls.channels)
        work->random_size = classify->controls.channels;
    work->support_size = classify->write_support;
    if (work->support_size == 0)
        work->support_size = run->architecture.hidden < 16 ? 1 : run->architecture.hidden / 16;
}

static lode_status_t input_sizes(lode_classify_t *work) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    work_sizes(work);
    LODE_TRY(lode_store_shape(work->accumulate, "/redundancy/q", &axes, shape));
    work->tokens = shape[0];
    LODE_TRY(lode_store_shape(work->accumulate, "/sequences/loss_proxy", &axes, shape));
    work->sequences = shape[0];
    return LODE_OK;
}

lode_status_t lode_classify_write(const lode_classify_t *work, const char *name, int64_t width,
                                  const void *row) {
    const int64_t offset[] = {work->layer, 0}, count[] = {1, width};
    return width == 0 ? LODE_OK : lode_store_write(work->store, name, offset, count, row);
}

lode_redundancy_t lode_classify_redundancy(const lode_classify_t *work) {
    const lode_config_redundancy_t *redundancy = &work->run->config->classify.redundancy;
    return (lode_redundancy_t){.top_k = redundancy->top_k,
                               .positive_only = redundancy->positive_only,
                               .correlation = redundancy->correlation};
}

lode_q_t lode_classify_q(const lode_classify_t *work) {
    return (lode_q_t){.q = work->q, .tokens = work->tokens, .stride = work->m, .channels = work->m};
}

static lode_status_t create_datasets(const lode_classify_t *work) {
    lode_store_t *store = work->store;
    const int64_t L = work->run->architecture.layers;
    const int64_t core[] = {L, work->core_size}, halo[] = {L, work->halo_size};
    const int64_t channels[] = {L, work->m}, support[] = {L, work->support_size};
    LODE_TRY(lode_store_dataset(store, "/core", LODE_TYPE_I32, 2, core, true));
    LODE_TRY(lode_store_dataset(store, "/halo", LODE_TYPE_I32, 2, halo, true));
    LODE_TRY(lode_store_dataset(store, "/write_support", LODE_TYPE_I32, 2, support, true));
    LODE_TRY(lode_store_dataset(store, "/connectivity", LODE_TYPE_F64, 2, channels, true));
    LODE_TRY(lode_store_dataset(store, "/redundancy_to_core", LODE_TYPE_F64, 2, halo, true));
    LODE_TRY(lode_store_dataset(store, "/protection", LODE_TYPE_F64, 2, channels, true));
    LODE_TRY(lode_classify_structure_create(work));
    LODE_TRY(lode_classify_controls_create(work));
    if (work->run->config->classify.controls.read_halo)
        LODE_TRY(lode_store_dataset(store, "/controls/read_connectivity", LODE_TYPE_F64, 2,
                                    channels, true));
    return lode_store_attribute_i64(store, "/", "write_support", work->support_size);
}

static lode_status_t read_layer(lode_classify_t *work) {
    const int64_t row[] = {work->layer, 0}, channels[] = {1, work->m};
    const int64_t q_at[] = {0, work->layer, 0}, q_count[] = {work->tokens, 1, work->m};
    LODE_TRY(lode_store_read(work->accumulate, "/loss_proxy", row, channels, LODE_TYPE_F64,
                             work->loss_proxy));
    LODE_TRY(lode_store_read(work->accumulate, "/activation_power", row, channels, LODE_TYPE_F64,
                             work->activation_power));
    LODE_TRY(
        lode_store_read(work->accumulate, "/redundancy/q", q_at, q_count, LODE_TYPE_F32, work->q));
    return lode_checkpoint_layer(work->run->checkpoint, work->layer, &work->weights);
}

/* Core, write support, connectivity, halo, redundancy and protection. */
static lode_status_t classify_channels(lode_classify_t *work) {
    const lode_config_protection_t *protection = &work->run->config->classify.protection;
    LODE_TRY(lode_supernode_select(work->core, work->core_size, work->loss_proxy, work->m));
    LODE_TRY(lode_halo_support(work->support, work->support_size, &work->weights.down, work->core,
                               work->core_size));
    LODE_TRY(lode_halo_connectivity(work->connectivity, &work->weights.down, work->support,
                                    work->support_size));
    LODE_TRY(lode_halo_select(work->halo, work->halo_size, work->connectivity, work->m, work->core,
                              work->core_size));
    LODE_TRY(lode_redundancy_to_core(work->redundancy, lode_classify_q(work), work->core,
                                     work->core_size, work->halo, work->halo_size,
                                     lode_classify_redundancy(work)));
    LODE_TRY(lode_halo_protection(work->protection, work->m, work->halo, work->redundancy,
                                  work->halo_size, protection->floor, protection->power));
    LODE_TRY(lode_classify_write(work, "/core", work->core_size, work->core));
    LODE_TRY(lode_classify_write(work, "/write_support", work->support_size, work->support));
    LODE_TRY(lode_classify_write(work, "/connectivity", work->m, work->connectivity));
    LODE_TRY(lode_classify_write(work, "/halo", work->halo_size, work->halo));
    LODE_TRY(lode_classify_write(work, "/redundancy_to_core", work->halo_size, work->redundancy));
    return lode_classify_write(work, "/protection", work->m, work->protection);
}

static lode_status_t classify_layer(lode_classify_t *work) {
    LODE_TRY(read_layer(work));
    LODE_TRY(classify_channels(work));
    LODE_TRY(lode_classify_structure(work));
    return lode_classify_controls(work);
}

/* This rank's layers. */
static lode_status_t classify_layers(lode_classify_t *work) {
    const lode_layout_t *layout = &work->run->layout;
    if (!lode_run_owns_layers(work->run))
        return LODE_OK;
    lode_progress_t progress;
    LODE_TRY(work_allocate(work));
    lode_progress_start(&progress, "classify", "layer", layout->layer_end - layout->first_layer);
    for (work->layer = layout->first_layer; work->layer < layout->layer_end; work->layer++) {
        lode_status_t status = classify_layer(work);
        if (status != LODE_OK)
            return lode_fail_context(status, "classify, layer %lld", (long long)work->layer);
        lode_progress_add(&progress, 1, 0);
    }
    lode_progress_end(&progress);
    return LODE_OK;
}

/* The read halo of this rank's layers: what they read of what the core of the layer before writes,
 * which may be another rank's. There is none before the first. */
static lode_status_t read_halos(lode_classify_t *work) {
    const lode_layout_t *layout = &work->run->layout;
    if (!lode_run_owns_layers(work->run))
        return LODE_OK;
    for (work->layer = layout->first_layer; work->layer < layout->layer_end; work->layer++) {
        const int64_t before[] = {work->layer - 1, 0}, count[] = {1, work->support_size};
        if (work->layer == 0)
            continue;
        LODE_TRY(lode_store_read(work->store, "/write_support", before, count, LODE_TYPE_I32,
                                 work->support));
        LODE_TRY(lode_checkpoint_layer(work->run->checkpoint, work->layer, &work->weights));
        lode_status_t status =
            lode_halo_read_connectivity(work->connectivity, &work->weights.gate, &work->weights.up,
                                        work->support, work->support_size);
        if (status != LODE_OK)
            return lode_fail_context(status, "classify, layer %lld", (long long)work->layer);
        LODE_TRY(
            lode_classify_write(work, "/controls/read_connectivity", work->m, work->connectivity));
    }
    return LODE_OK;
}

/* Collective. */
static lode_status_t classify(lode_classify_t *work) {
    LODE_TRY(create_datasets(work));
    lode_status_t status = classify_layers(work);
    if (!work->run->config->classify.controls.read_halo)
        return status;
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(lode_store_synchronise(work->store));
    return read_halos(work);
}

/* Private bytes: the arrays of work_allocate(), sums and draws of the bootstrap, and pairs of halo
 * and random channels with the standardised q of either. */
static int64_t work_bytes(const lode_classify_t *work) {
    const int64_t longest =
        work->halo_size > work->random_size ? work->halo_size : work->random_size;
    const int64_t doubles = (4 + 3) * work->m + 2 * work->sequences * work->m +
                            work->run->config->classify.controls.draws;
    const bool controls = work->run->config->classify.controls.channels > 0;
    return doubles * (int64_t)sizeof(double) + work->tokens * work->m * (int64_t)sizeof(float) +
           (controls ? longest * (longest + work->tokens) * (int64_t)sizeof(double) : 0);
}

lode_status_t lode_classify_size(lode_stage_size_t *size, lode_run_t *run, int64_t sequences,
                                 int64_t tokens) {
    lode_classify_t work = {.run = run};
    work_sizes(&work);
    work.sequences = sequences;
    work.tokens = tokens;
    *size = (lode_stage_size_t){.memory = work_bytes(&work)};
    LODE_TRY(lode_store_tally_create(&work.store));
    const lode_status_t status = create_datasets(&work);
    size->file = lode_store_tally_end(&work.store);
    return status;
}

lode_status_t lode_stage_classify(lode_run_t *run) {
    lode_classify_t work = {.run = run};
    LODE_TRY(lode_run_open(&work.accumulate, run, LODE_STAGE_ACCUMULATE));
    lode_status_t status = lode_comm_agree(run->comm, input_sizes(&work));
    if (status == LODE_OK)
        status = lode_run_create(&work.store, run, LODE_STAGE_CLASSIFY);
    if (status == LODE_OK)
        status = lode_run_finish(&work.store, run, LODE_STAGE_CLASSIFY, classify(&work));
    work_free(&work);
    lode_store_close(&work.accumulate);
    return status;
}
