#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "probe/work.h"
#include "score/mask.h"
#include "score/probe.h"
#include "score/weights.h"

static lode_probe_stream_t stream_of(const lode_probe_work_t *work, int64_t layer, int64_t draw) {
    return (lode_probe_stream_t){.seed = work->run->config->seed, .layer = layer, .draw = draw};
}

/* --- masks ----------------------------------------------------------------------------------- */

static uint8_t *keep_row(const lode_probe_work_t *work, const lode_probe_group_t *group,
                         int64_t candidate, int64_t layer) {
    return group->keep + (candidate * work->owned + layer - work->first_layer) * work->m;
}

static lode_status_t draw_dose_response(lode_probe_work_t *work, lode_probe_group_t *group,
                                        int64_t layer) {
    const int32_t *draw = lode_probe_integers(group, "draw"),
                  *core_removed = lode_probe_integers(group, "core_removed");
    for (int64_t c = 0; c < group->count; c++)
        LODE_TRY(lode_probe_random_mask(keep_row(work, group, c, layer), work->m, work->core,
                                        work->core_size, core_removed[c], work->removed,
                                        stream_of(work, layer, draw[c])));
    return LODE_OK;
}

static void protect(lode_probe_work_t *work, const int32_t *core) {
    memset(work->mask, 0, (size_t)work->m);
    for (int64_t i = 0; core && i < work->core_size; i++)
        work->mask[core[i]] = 1;
}

static lode_status_t draw_random_cores(lode_probe_work_t *work, lode_probe_group_t *group,
                                       int64_t layer) {
    const int32_t *draw = lode_probe_integers(group, "draw"),
                  *kind = lode_probe_integers(group, "core");
    const double sparsity = work->run->config->probe.sparsity;
    int32_t *random;
    LODE_TRY(LODE_NEW(&random, work->core_size, "random core"));
    lode_status_t status = LODE_OK;
    for (int64_t c = 0; c < group->count && status == LODE_OK; c++) {
        if (draw[c] >= 0)
            status = lode_probe_random_set(random, work->core_size, work->m, NULL, "random core",
                                           stream_of(work, layer, draw[c]));
        protect(work, draw[c] >= 0 ? random : kind[c] == LODE_PROBE_LP_CORE ? work->core : NULL);
        if (status == LODE_OK)
            status = lode_mask_uniform(keep_row(work, group, c, layer), work->loss_proxy,
                                       work->mask, work->m, sparsity, layer);
    }
    free(random);
    return status;
}

static lode_status_t draw_score_core(lode_probe_work_t *work, lode_probe_group_t *group,
                                     int64_t layer) {
    const int32_t *score = lode_probe_integers(group, "score"),
                  *core = lode_probe_integers(group, "core");
    for (int64_t c = 0; c < group->count; c++) {
        protect(work, core[c] == LODE_PROBE_LP_CORE           ? work->core
                      : core[c] == LODE_PROBE_ACTIVATION_CORE ? work->activation_core
                                                              : NULL);
        LODE_TRY(lode_mask_uniform(keep_row(work, group, c, layer),
                                   score[c] == LODE_PROBE_BY_LP ? work->loss_proxy
                                                                : work->activation_power,
                                   work->mask, work->m, work->run->config->probe.sparsity, layer));
    }
    return LODE_OK;
}

/* --- one layer at a time --------------------------------------------------------------------- */

/* Number of a layer among those that are ablated, −1 where it is not. */
static int64_t probed_index(const lode_probe_work_t *work, int64_t layer) {
    const int64_t step = work->run->config->probe.layer_step;
    return layer % step == 0 ? layer / step : -1;
}

static lode_status_t draw_ablation(lode_probe_work_t *work, lode_probe_group_t *group,
                                   int64_t layer) {
    const int64_t probed = probed_index(work, layer), each = group->count / work->probed;
    if (probed < 0)
        return LODE_OK;
    const int64_t first = probed * each;
    int32_t *channel = lode_probe_integers(group, "channel") + first,
            *bin = lode_probe_integers(group, "bin") + first;
    double *loss_proxy = lode_probe_reals(group, "loss_proxy") + first,
           *power = lode_probe_reals(group, "activation_power") + first;
    LODE_TRY(lode_probe_binned_sample(channel, bin, each, work->loss_proxy, work->m,
                                      work->run->config->probe.bins, stream_of(work, layer, 0)));
    for (int64_t i = 0; i < each; i++) {
        group->layer[first + i] = (int32_t)layer;
        group->removed[first + i] = channel[i];
        loss_proxy[i] = work->loss_proxy[channel[i]];
        power[i] = work->activation_power[channel[i]];
    }
    return LODE_OK;
}

static void set_roles(lode_probe_work_t *work) {
    memset(work->role, LODE_PROBE_OTHER, (size_t)work->m);
    for (int64_t i = 0; i < work->halo_size; i++)
        work->role[work->halo[i]] = LODE_PROBE_HALO;
    for (int64_t i = 0; i < work->core_size; i++)
        work->role[work->core[i]] = LODE_PROBE_CORE;
}

static lode_status_t draw_halo_ablation(lode_probe_work_t *work, lode_probe_group_t *group,
                                        int64_t layer) {
    const int64_t probed = probed_index(work, layer), each = group->count / work->probed;
    const int32_t *kind = lode_probe_integers(group, "kind"),
                  *draw = lode_probe_integers(group, "draw");
    if (probed < 0)
        return LODE_OK;
    set_roles(work);
    for (int64_t c = probed * each; c < (probed + 1) * each; c++) {
        int32_t *removed = group->removed + c * group->width;
        const bool core = kind[c] >= LODE_PROBE_SET_CORE;
        group->layer[c] = (int32_t)layer;
        if (core)
            memcpy(removed, work->core, (size_t)work->core_size * sizeof *removed);
        removed += core ? work->core_size : 0;
        if (kind[c] == LODE_PROBE_SET_HALO || kind[c] == LODE_PROBE_SET_CORE_HALO)
            memcpy(removed, work->halo, (size_t)work->matched * sizeof *removed);
        if (draw[c] >= 0)
            LODE_TRY(lode_probe_matched_set(removed, work->halo, work->matched, work->role,
                                            work->loss_proxy, work->m,
                                            stream_of(work, layer, draw[c])));
    }
    return LODE_OK;
}

/* --- mean replacement ------------------------------------------------------------------------ */

static int32_t *set_of(const lode_probe_work_t *work, const lode_probe_group_t *group, int64_t set,
                       int64_t layer) {
    return group->sets + (set * work->L + layer) * work->core_size;
}

/* What the sets write on average: for each, Σ_j mean_j·v_j [d], added up in the set's order. */
static lode_status_t mean_outputs(lode_probe_work_t *work, lode_probe_group_t *group, int64_t layer,
                                  double *mean) {
    const int64_t offset[] = {layer, 0}, count[] = {1, work->m};
    lode_layer_weights_t weights;
    lode_weights_reader_t reader;
    LODE_TRY(
        lode_store_read(work->calibrate, "/activation_mean", offset, count, LODE_TYPE_F64, mean));
    LODE_TRY(lode_checkpoint_layer(work->run->checkpoint, layer, &weights));
    lode_status_t status = lode_weights_open(&reader, &weights.down, work->d, work->m, "down_proj");
    for (int64_t h = 0; h < work->d && status == LODE_OK; h++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, h, &row), done);
        for (int64_t s = 0; s < group->set_count; s++) {
            const int32_t *set = set_of(work, group, s, layer);
            double sum = 0;
            for (int64_t i = 0; i < work->core_size; i++)
                sum += mean[set[i]] * row[set[i]];
            group->bias[(s * work->owned + layer - work->first_layer) * work->d + h] =
                (lode_real_t)sum;
        }
    }
done:
    lode_weights_close(&reader);
    return status;
}

static lode_status_t draw_mean_replacement(lode_probe_work_t *work, lode_probe_group_t *group,
                                           int64_t layer) {
    const size_t bytes = (size_t)work->core_size * sizeof(int32_t);
    memcpy(set_of(work, group, 0, layer), work->core, bytes);
    memcpy(set_of(work, group, 1, layer), work->activation_core, bytes);
    protect(work, work->core);
    for (int64_t i = 0; i < work->core_size; i++)
        work->mask[work->activation_core[i]] = 1;
    for (int64_t s = 2; s < group->set_count; s++)
        LODE_TRY(lode_probe_random_set(set_of(work, group, s, layer), work->core_size, work->m,
                                       work->mask, "mean replacement",
                                       stream_of(work, layer, s - 2)));
    if (layer < work->first_layer || layer >= work->first_layer + work->owned)
        return LODE_OK;
    double *mean;
    LODE_TRY(LODE_NEW(&mean, work->m, "mean outputs"));
    const lode_status_t status = mean_outputs(work, group, layer, mean);
    free(mean);
    return status;
}

lode_status_t lode_probe_draw_layer(lode_probe_work_t *work, lode_probe_group_t *group,
                                    int64_t layer) {
    typedef lode_status_t (*draw_t)(lode_probe_work_t *, lode_probe_group_t *, int64_t);
    static const draw_t draws[LODE_PROBE_CHECKS] = {
        [LODE_PROBE_DOSE_RESPONSE] = draw_dose_response,
        [LODE_PROBE_RANDOM_CORES] = draw_random_cores,
        [LODE_PROBE_SCORE_CORE] = draw_score_core,
        [LODE_PROBE_ABLATION] = draw_ablation,
        [LODE_PROBE_HALO_ABLATION] = draw_halo_ablation,
        [LODE_PROBE_MEAN_REPLACEMENT] = draw_mean_replacement,
    };
    const bool owned = layer >= work->first_layer && layer < work->first_layer + work->owned;
    return group->masks && !owned ? LODE_OK : draws[group->check](work, group, layer);
}
