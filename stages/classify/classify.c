#include "classify/classify.h"

#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "classify/work.h"
#include "score/entropy.h"
#include "score/halo.h"
#include "score/supernode.h"

enum { LAYERS, READ_HALOS, PARTS }; /* of the journal */

static void work_free(lode_classify_t *work) {
    free(work->loss_proxy);
    free(work->redundancy);
    free(work->core);
    free(work->halo);
    free(work->support);
}

static lode_status_t work_allocate(lode_classify_t *work) {
    LODE_TRY(LODE_NEW(&work->loss_proxy, 5 * work->m, "classify"));
    work->activation_power = work->loss_proxy + work->m;
    work->connectivity = work->activation_power + work->m;
    work->protection = work->connectivity + work->m;
    work->entropy = work->protection + work->m;
    LODE_TRY(LODE_NEW(&work->redundancy, work->halo_size, "classify"));
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

/* Private bytes: the arrays of work_allocate(), the draws of the bootstrap, and redundancies, for
 * which tokens and channels come together. */
static int64_t work_bytes(const lode_classify_t *work) {
    const lode_config_classify_t *classify = &work->run->config->classify;
    const int64_t halo = work->halo_size, random = work->random_size, core = work->core_size;
    const int64_t longest = halo > random ? halo : random;
    int64_t redundancies = lode_redundancy_memory(work->tokens, longest, core);
    if (classify->controls.channels > 0) {
        const int64_t pairs = lode_redundancy_memory(work->tokens, longest, longest) +
                              longest * longest * (int64_t)sizeof(double);
        redundancies = pairs > redundancies ? pairs : redundancies;
    }
    return redundancies + ((5 + 3) * work->m + classify->controls.draws) * (int64_t)sizeof(double);
}

static lode_status_t check_memory(const lode_classify_t *work) {
    const int64_t needed = work_bytes(work);
    if (needed <= work->run->config->memory)
        return LODE_OK;
    return lode_fail(
        LODE_ERR_MEMORY,
        "classify needs %.0f MB for the redundancies of %lld channels over %lld tokens "
        "and memory is %.0f MB; lower classify.redundancy.sequences or max_length, or "
        "raise memory",
        (double)needed / 1e6,
        (long long)(work->halo_size > work->random_size ? work->halo_size : work->random_size),
        (long long)work->tokens, (double)work->run->config->memory / 1e6);
}

static lode_status_t input_sizes(lode_classify_t *work) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    work_sizes(work);
    LODE_TRY(lode_store_shape(work->accumulate, "/redundancy/q", &axes, shape));
    work->tokens = shape[0];
    LODE_TRY(lode_store_shape(work->accumulate, "/sequences/loss_proxy", &axes, shape));
    work->sequences = shape[0];
    return check_memory(work);
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
    return (lode_q_t){.q = work->q + work->layer * work->m,
                      .tokens = work->tokens,
                      .stride = work->run->architecture.layers * work->m,
                      .channels = work->m};
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
    LODE_TRY(lode_store_dataset(store, "/entropy", LODE_TYPE_F64, 2, channels, true));
    LODE_TRY(lode_store_attribute_f64(store, "/entropy", "uniform",
                                      log((double)work->run->architecture.hidden)));
    LODE_TRY(lode_classify_structure_create(work));
    LODE_TRY(lode_classify_controls_create(work));
    if (work->run->config->classify.controls.read_halo)
        LODE_TRY(lode_store_dataset(store, "/controls/read_connectivity", LODE_TYPE_F64, 2,
                                    channels, true));
    return lode_store_attribute_i64(store, "/", "write_support", work->support_size);
}

static lode_status_t map_statistics(lode_classify_t *work) {
    const void *data[3];
    LODE_TRY(lode_store_map(work->accumulate, "/redundancy/q", LODE_TYPE_F32, &data[0], NULL));
    LODE_TRY(
        lode_store_map(work->accumulate, "/sequences/loss_proxy", LODE_TYPE_F64, &data[1], NULL));
    LODE_TRY(lode_store_map(work->accumulate, "/sequences/activation_power", LODE_TYPE_F64,
                            &data[2], NULL));
    work->q = data[0];
    work->proxy_sums = data[1];
    work->power_sums = data[2];
    return LODE_OK;
}

static lode_status_t read_layer(lode_classify_t *work) {
    const int64_t row[] = {work->layer, 0}, channels[] = {1, work->m};
    LODE_TRY(lode_store_read(work->accumulate, "/loss_proxy", row, channels, LODE_TYPE_F64,
                             work->loss_proxy));
    LODE_TRY(lode_store_read(work->accumulate, "/activation_power", row, channels, LODE_TYPE_F64,
                             work->activation_power));
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

/* How evenly the channels write: of the weights alone. */
static lode_status_t measure_entropy(lode_classify_t *work) {
    LODE_TRY(lode_entropy_tensor(work->entropy, &work->weights.down, LODE_ENTROPY_ABSOLUTE,
                                 "down_proj"));
    return lode_classify_write(work, "/entropy", work->m, work->entropy);
}

static lode_status_t classify_layer(lode_classify_t *work) {
    LODE_TRY(read_layer(work));
    LODE_TRY(classify_channels(work));
    LODE_TRY(measure_entropy(work));
    LODE_TRY(lode_classify_structure(work));
    return lode_classify_controls(work);
}

/* This rank's layers. */
static lode_status_t classify_layers(lode_classify_t *work) {
    const lode_layout_t *layout = &work->run->layout;
    if (!lode_run_owns_layers(work->run))
        return LODE_OK;
    const int64_t count = layout->layer_end - layout->first_layer;
    const lode_comm_t alone = lode_comm_alone();
    lode_progress_t progress;
    double seconds = 0;
    int64_t before = 0;
    LODE_TRY(work_allocate(work));
    LODE_TRY(map_statistics(work));
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
        before += lode_store_done(work->store, LAYERS, l, 1);
    lode_progress_start(&progress, "classify", "layer", count);
    lode_progress_resume(&progress, before);
    for (work->layer = layout->first_layer; work->layer < layout->layer_end; work->layer++) {
        if (lode_store_done(work->store, LAYERS, work->layer, 1))
            continue;
        const double start = lode_time();
        LODE_TRY(lode_comm_stop(&alone, seconds)); /* ranks have layers of their own */
        lode_status_t status = classify_layer(work);
        if (status == LODE_OK)
            status = lode_store_mark(work->store, LAYERS, work->layer, 1);
        if (status != LODE_OK)
            return lode_fail_context(status, "classify, layer %lld", (long long)work->layer);
        lode_progress_add(&progress, 1, 0);
        seconds = lode_time() - start;
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
        if (work->layer == 0 || lode_store_done(work->store, READ_HALOS, work->layer, 1))
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
        LODE_TRY(lode_store_mark(work->store, READ_HALOS, work->layer, 1));
    }
    return LODE_OK;
}

/* Collective. */
static lode_status_t classify(lode_classify_t *work) {
    const int64_t layers = work->run->architecture.layers;
    const lode_part_t parts[PARTS] = {
        [LAYERS] = {"layers", layers}, [READ_HALOS] = {"read-halos", layers}};
    LODE_TRY(create_datasets(work));
    LODE_TRY(lode_store_resume(work->store, parts, PARTS));
    lode_run_say_resumed("classify", lode_store_done_count(work->store, LAYERS), layers, "layers");
    lode_status_t status = classify_layers(work);
    if (!work->run->config->classify.controls.read_halo)
        return status;
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(lode_store_synchronise(work->store));
    return read_halos(work);
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
        status = lode_run_create_resumable(&work.store, run, LODE_STAGE_CLASSIFY);
    if (status == LODE_OK)
        status = lode_run_finish(&work.store, run, LODE_STAGE_CLASSIFY, classify(&work));
    work_free(&work);
    lode_store_close(&work.accumulate);
    return status;
}
