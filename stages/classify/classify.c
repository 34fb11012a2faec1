#include "classify/classify.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "score/halo.h"
#include "score/supernode.h"

enum { BOOTSTRAP_DRAWS = 200 };
static const double BOOTSTRAP_LEVEL = 0.95;

/* Sizes, and buffers for one layer. */
typedef struct work {
    int64_t m, core_size, halo_size, support_size, tokens, sequences;
    double *loss_proxy, *connectivity, *protection; /* [m] each */
    double *redundancy;                             /* [halo_size] */
    double *sums;                                   /* [sequences, m] */
    float *q;                                       /* [tokens, m] */
    int32_t *core, *halo, *support;
} work_t;

static void work_free(work_t *work) {
    free(work->loss_proxy);
    free(work->redundancy);
    free(work->sums);
    free(work->q);
    free(work->core);
    free(work->halo);
    free(work->support);
}

static lode_status_t work_allocate(work_t *work) {
    LODE_TRY(LODE_NEW(&work->loss_proxy, 3 * work->m, "classify"));
    work->connectivity = work->loss_proxy + work->m;
    work->protection = work->connectivity + work->m;
    LODE_TRY(LODE_NEW(&work->redundancy, work->halo_size, "classify"));
    LODE_TRY(LODE_NEW(&work->sums, work->sequences * work->m, "sums of sequences"));
    LODE_TRY(LODE_NEW(&work->q, work->tokens * work->m, "q"));
    LODE_TRY(LODE_NEW(&work->core, work->core_size, "core"));
    LODE_TRY(LODE_NEW(&work->halo, work->halo_size, "halo"));
    return LODE_NEW(&work->support, work->support_size, "write support");
}

static lode_status_t work_sizes(work_t *work, const lode_run_t *run, lode_store_t *accumulate) {
    const lode_config_classify_t *classify = &run->config->classify;
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    work->m = run->architecture.intermediate;
    work->core_size = lode_supernode_size(classify->core_fraction, work->m);
    work->halo_size = lode_halo_size(classify->halo_fraction, work->m, work->core_size);
    work->support_size = classify->write_support;
    if (work->support_size == 0)
        work->support_size = run->architecture.hidden < 16 ? 1 : run->architecture.hidden / 16;
    LODE_TRY(lode_store_shape(accumulate, "/redundancy/q", &axes, shape));
    work->tokens = shape[0];
    LODE_TRY(lode_store_shape(accumulate, "/sequences/loss_proxy", &axes, shape));
    work->sequences = shape[0];
    return LODE_OK;
}

static lode_status_t create_datasets(lode_store_t *store, const lode_run_t *run,
                                     const work_t *work) {
    const int64_t L = run->architecture.layers;
    const int64_t core[] = {L, work->core_size}, halo[] = {L, work->halo_size};
    const int64_t channels[] = {L, work->m}, interval[] = {L, 2};
    LODE_TRY(lode_store_dataset(store, "/core", LODE_TYPE_I32, 2, core, true));
    LODE_TRY(lode_store_dataset(store, "/halo", LODE_TYPE_I32, 2, halo, true));
    LODE_TRY(lode_store_dataset(store, "/connectivity", LODE_TYPE_F64, 2, channels, true));
    LODE_TRY(lode_store_dataset(store, "/redundancy_to_core", LODE_TYPE_F64, 2, halo, true));
    LODE_TRY(lode_store_dataset(store, "/protection", LODE_TYPE_F64, 2, channels, true));
    LODE_TRY(lode_store_dataset(store, "/core_mass", LODE_TYPE_F64, 1, &L, true));
    LODE_TRY(lode_store_dataset(store, "/core_mass_interval", LODE_TYPE_F64, 2, interval, true));
    LODE_TRY(lode_store_dataset(store, "/core_stability", LODE_TYPE_F64, 1, &L, true));
    return lode_store_attribute_i64(store, "/", "write_support", work->support_size);
}

/* Core, its mass, and how firm both are. */
static lode_status_t classify_core(const lode_run_t *run, work_t *work, lode_store_t *accumulate,
                                   lode_store_t *store, int64_t layer) {
    const int64_t row[] = {layer, 0}, channels[] = {1, work->m}, core[] = {1, work->core_size};
    const int64_t sums_at[] = {0, layer, 0}, sums_count[] = {work->sequences, 1, work->m};
    const int64_t one = 1, pair[] = {1, 2};
    double mass;
    lode_stability_t stability;
    LODE_TRY(lode_store_read(accumulate, "/loss_proxy", row, channels, LODE_TYPE_F64,
                             work->loss_proxy));
    LODE_TRY(lode_supernode_select(work->core, work->core_size, work->loss_proxy, work->m));
    LODE_TRY(lode_supernode_mass(&mass, work->core, work->core_size, work->loss_proxy, work->m));
    LODE_TRY(lode_store_read(accumulate, "/sequences/loss_proxy", sums_at, sums_count,
                             LODE_TYPE_F64, work->sums));
    LODE_TRY(lode_supernode_bootstrap(&stability, work->sums, work->sequences, work->m, work->m,
                                      work->core_size, BOOTSTRAP_DRAWS, BOOTSTRAP_LEVEL,
                                      run->config->seed, layer));
    const double interval[] = {stability.mass_low, stability.mass_high};
    LODE_TRY(lode_store_write(store, "/core", row, core, work->core));
    LODE_TRY(lode_store_write(store, "/core_mass", &layer, &one, &mass));
    LODE_TRY(lode_store_write(store, "/core_mass_interval", row, pair, interval));
    return lode_store_write(store, "/core_stability", &layer, &one, &stability.jaccard);
}

/* Connectivity, halo, redundancy and protection, given the core. */
static lode_status_t classify_halo(lode_run_t *run, work_t *work, lode_store_t *accumulate,
                                   lode_store_t *store, int64_t layer) {
    const lode_config_classify_t *classify = &run->config->classify;
    const lode_redundancy_t options = {.top_k = classify->redundancy.top_k,
                                       .positive_only = classify->redundancy.positive_only};
    const int64_t row[] = {layer, 0}, channels[] = {1, work->m}, halo[] = {1, work->halo_size};
    const int64_t q_at[] = {0, layer, 0}, q_count[] = {work->tokens, 1, work->m};
    lode_layer_weights_t weights;
    LODE_TRY(lode_checkpoint_layer(run->checkpoint, layer, &weights));
    LODE_TRY(lode_halo_support(work->support, work->support_size, &weights.down, work->core,
                               work->core_size));
    LODE_TRY(lode_halo_connectivity(work->connectivity, &weights.down, work->support,
                                    work->support_size));
    LODE_TRY(lode_halo_select(work->halo, work->halo_size, work->connectivity, work->m, work->core,
                              work->core_size));
    LODE_TRY(lode_store_read(accumulate, "/redundancy/q", q_at, q_count, LODE_TYPE_F32, work->q));
    LODE_TRY(lode_halo_redundancy(work->redundancy, work->q, work->tokens, work->m, work->m,
                                  work->core, work->core_size, work->halo, work->halo_size,
                                  options));
    LODE_TRY(lode_halo_protection(work->protection, work->m, work->halo, work->redundancy,
                                  work->halo_size, classify->protection.floor,
                                  classify->protection.power));
    LODE_TRY(lode_store_write(store, "/connectivity", row, channels, work->connectivity));
    LODE_TRY(lode_store_write(store, "/halo", row, halo, work->halo));
    LODE_TRY(lode_store_write(store, "/redundancy_to_core", row, halo, work->redundancy));
    return lode_store_write(store, "/protection", row, channels, work->protection);
}

/* This rank's layers. */
static lode_status_t classify_layers(lode_run_t *run, work_t *work, lode_store_t *accumulate,
                                     lode_store_t *store) {
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    lode_progress_t progress;
    LODE_TRY(work_allocate(work));
    lode_progress_start(&progress, "classify", "layer",
                        run->layout.layer_end - run->layout.first_layer);
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end; l++) {
        lode_status_t status = classify_core(run, work, accumulate, store, l);
        if (status == LODE_OK)
            status = classify_halo(run, work, accumulate, store, l);
        if (status != LODE_OK)
            return lode_fail_context(status, "classify, layer %lld", (long long)l);
        lode_progress_add(&progress, 1, 0);
    }
    lode_progress_end(&progress);
    return LODE_OK;
}

lode_status_t lode_stage_classify(lode_run_t *run) {
    lode_store_t *accumulate, *store = NULL;
    work_t work = {0};
    LODE_TRY(lode_run_open(&accumulate, run, LODE_STAGE_ACCUMULATE));
    lode_status_t status = lode_comm_agree(run->comm, work_sizes(&work, run, accumulate));
    if (status == LODE_OK)
        status = lode_run_create(&store, run, LODE_STAGE_CLASSIFY);
    if (status == LODE_OK) {
        status = create_datasets(store, run, &work);
        if (status == LODE_OK)
            status = classify_layers(run, &work, accumulate, store);
        status = lode_run_finish(&store, run, LODE_STAGE_CLASSIFY, status);
    }
    work_free(&work);
    lode_store_close(&accumulate);
    return status;
}
