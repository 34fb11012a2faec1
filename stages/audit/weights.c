#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit/work.h"
#include "base/log.h"
#include "base/memory.h"
#include "score/match.h"
#include "score/retention.h"

/* Sets of channels, and what else is compared as one. */
enum { CORE, HALO, REST, ATTENTION, SETS };

static const char *const set_names[SETS] = {"core", "halo", "rest", "attention"};
static const char *const core_figures[] = {"core_removed", "core_zeroed", "core_changed"};

/* One layer of a version. */
typedef struct layer {
    lode_audit_t *audit;
    const lode_audit_item_t *item;
    int64_t number, m, n, d;
    lode_layer_weights_t original, version;
    int32_t *kept;                     /* [n] */
    int32_t *place;                    /* [m] where the version has a channel, −1: it lacks it */
    double *similarity;                /* [n] */
    uint8_t *set;                      /* [m] CORE, HALO or REST */
    int32_t *members;                  /* [m] of the core or the halo */
    lode_retention_channel_t *channel; /* [m] */
} layer_t;

lode_status_t lode_audit_weights_create(const lode_audit_t *audit, const lode_audit_item_t *item) {
    lode_store_t *store = audit->store;
    const int64_t L = audit->run->architecture.layers;
    const int64_t kept[] = {L, item->version.run.architecture.intermediate};
    char path[LODE_AUDIT_PATH], what[64];
    lode_audit_path(item, "kept", path);
    LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_I32, 2, kept, true));
    lode_audit_path(item, "similarity", path);
    LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 1, &L, true));
    for (size_t i = 0; i < sizeof core_figures / sizeof *core_figures; i++) {
        lode_audit_path(item, core_figures[i], path);
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 1, &L, true));
    }
    for (int i = 0; i < SETS; i++) {
        snprintf(what, sizeof what, "weight_error_%s", set_names[i]);
        lode_audit_path(item, what, path);
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 1, &L, true));
        snprintf(what, sizeof what, "zero_%s", set_names[i]);
        lode_audit_path(item, what, path);
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 1, &L, true));
    }
    return LODE_OK;
}

int64_t lode_audit_weights_memory(const lode_run_t *run) {
    const int64_t m = run->architecture.intermediate;
    return m * (int64_t)(3 * sizeof(int32_t) + sizeof(double) + sizeof(uint8_t) +
                         sizeof(lode_retention_channel_t)) +
           lode_match_memory(m, m, run->architecture.hidden);
}

static void release(layer_t *layer) {
    free(layer->kept);
    free(layer->place);
    free(layer->similarity);
    free(layer->set);
    free(layer->members);
    free(layer->channel);
}

static lode_status_t allocate(layer_t *layer) {
    static const char what[] = "channels of a layer";
    LODE_TRY(LODE_NEW(&layer->kept, layer->n, what));
    LODE_TRY(LODE_NEW(&layer->place, layer->m, what));
    LODE_TRY(LODE_NEW(&layer->similarity, layer->n, what));
    LODE_TRY(LODE_NEW(&layer->set, layer->m, what));
    LODE_TRY(LODE_NEW(&layer->members, layer->m, what));
    return LODE_NEW(&layer->channel, layer->m, what);
}

/* --- which channels it has ------------------------------------------------------------------- */

/* The least similarity of channels that are matched, NaN for none. */
static lode_status_t check_similarity(const layer_t *layer, double *least) {
    int64_t worst = -1;
    *least = NAN;
    for (int64_t i = 0; i < layer->n; i++)
        if (layer->kept[i] >= 0 && !(layer->similarity[i] >= *least)) {
            worst = i;
            *least = layer->similarity[i];
        }
    if (worst < 0 || *least >= LODE_AUDIT_SIMILAR)
        return LODE_OK;
    return lode_fail(LODE_ERR_SHAPE,
                     "%s: channel %lld of layer %lld is none of the original's: what it reads is "
                     "most like channel %lld's that was left, with a similarity of %.3f, and %.1f "
                     "is the least; name a folder whose channels were removed and not merged, or "
                     "add lodestone.json with \"source\" and \"kept\" as lode export writes it",
                     layer->item->version.folder, (long long)worst, (long long)layer->number,
                     (long long)layer->kept[worst], *least, LODE_AUDIT_SIMILAR);
}

static lode_status_t find_channels(layer_t *layer, double *least) {
    const lode_audit_version_t *version = &layer->item->version;
    *least = NAN;
    for (int64_t i = 0; i < layer->n; i++)
        layer->kept[i] = version->known == LODE_AUDIT_NOTE
                             ? version->kept[layer->number * layer->n + i]
                             : (int32_t)i;
    if (version->known == LODE_AUDIT_SIMILARITY) {
        LODE_TRY(
            lode_match_channels(layer->kept, layer->similarity,
                                (lode_match_rows_t){&layer->original.gate, &layer->original.up},
                                (lode_match_rows_t){&layer->version.gate, &layer->version.up}));
        LODE_TRY(check_similarity(layer, least));
    }
    for (int64_t j = 0; j < layer->m; j++)
        layer->place[j] = -1;
    for (int64_t i = 0; i < layer->n; i++)
        if (layer->kept[i] >= 0)
            layer->place[layer->kept[i]] = (int32_t)i;
    return LODE_OK;
}

/* --- figures --------------------------------------------------------------------------------- */

static lode_status_t mark_set(layer_t *layer, const char *name, int64_t count, uint8_t set) {
    const int64_t offset[] = {layer->number, 0}, extent[] = {1, count};
    if (count == 0)
        return LODE_OK;
    LODE_TRY(lode_store_read(layer->audit->classify, name, offset, extent, LODE_TYPE_I32,
                             layer->members));
    for (int64_t i = 0; i < count; i++)
        layer->set[layer->members[i]] = set;
    return LODE_OK;
}

static lode_status_t write_core(const layer_t *layer) {
    const lode_audit_t *audit = layer->audit;
    int64_t removed = 0, zeroed = 0, changed = 0;
    for (int64_t j = 0; j < layer->m; j++) {
        const lode_retention_channel_t *channel = &layer->channel[j];
        if (layer->set[j] != CORE)
            continue;
        removed += channel->removed;
        zeroed += channel->zeroed;
        changed += !channel->removed && channel->changed > 0;
    }
    const double counts[] = {(double)removed, (double)zeroed, (double)changed};
    for (int i = 0; i < 3; i++)
        LODE_TRY(lode_audit_figure(audit, layer->item, core_figures[i], layer->number,
                                   counts[i] / (double)audit->core_size));
    return LODE_OK;
}

static lode_status_t compare_attention(const layer_t *layer, lode_retention_share_t *share) {
    static const struct {
        lode_role_t role;
        const char *name;
    } matrices[] = {{LODE_ROLE_Q, "q_proj"},
                    {LODE_ROLE_K, "k_proj"},
                    {LODE_ROLE_V, "v_proj"},
                    {LODE_ROLE_O, "o_proj"}};
    lode_layer_weights_t original = layer->original, version = layer->version;
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        LODE_TRY(lode_retention_add_matrix(
            share, lode_layer_weights_role(&original, matrices[i].role),
            lode_layer_weights_role(&version, matrices[i].role), matrices[i].name));
    return LODE_OK;
}

static lode_status_t write_shares(const layer_t *layer) {
    const int64_t elements = (layer->original.gate.data ? 3 : 2) * layer->d;
    lode_retention_share_t share[SETS] = {{0}};
    char what[64];
    for (int64_t j = 0; j < layer->m; j++)
        lode_retention_add_channel(&share[layer->set[j]], &layer->channel[j], elements);
    LODE_TRY(compare_attention(layer, &share[ATTENTION]));
    for (int i = 0; i < SETS; i++) {
        snprintf(what, sizeof what, "weight_error_%s", set_names[i]);
        LODE_TRY(lode_audit_figure(layer->audit, layer->item, what, layer->number,
                                   lode_retention_error(&share[i])));
        snprintf(what, sizeof what, "zero_%s", set_names[i]);
        LODE_TRY(lode_audit_figure(layer->audit, layer->item, what, layer->number,
                                   lode_retention_zeros(&share[i])));
    }
    return LODE_OK;
}

static lode_status_t measure(layer_t *layer) {
    const lode_audit_t *audit = layer->audit;
    const int64_t offset[] = {layer->number, 0}, count[] = {1, layer->n};
    char path[LODE_AUDIT_PATH];
    double least;
    LODE_TRY(find_channels(layer, &least));
    lode_audit_path(layer->item, "kept", path);
    LODE_TRY(lode_store_write(audit->store, path, offset, count, layer->kept));
    LODE_TRY(lode_audit_figure(audit, layer->item, "similarity", layer->number, least));
    LODE_TRY(lode_retention_block(
        layer->channel,
        (lode_retention_block_t){&layer->original.gate, &layer->original.up, &layer->original.down},
        (lode_retention_block_t){&layer->version.gate, &layer->version.up, &layer->version.down},
        layer->place));
    for (int64_t j = 0; j < layer->m; j++)
        layer->set[j] = REST;
    LODE_TRY(mark_set(layer, "/halo", audit->halo_size, HALO));
    LODE_TRY(mark_set(layer, "/core", audit->core_size, CORE));
    LODE_TRY(write_core(layer));
    return write_shares(layer);
}

/* --- layers ---------------------------------------------------------------------------------- */

static lode_status_t compare_layer(layer_t *layer) {
    lode_checkpoint_t *original = layer->audit->run->checkpoint;
    lode_checkpoint_t *version = layer->item->version.checkpoint;
    LODE_TRY(lode_checkpoint_layer(original, layer->number, &layer->original));
    LODE_TRY(lode_checkpoint_layer(version, layer->number, &layer->version));
    const lode_status_t status = measure(layer);
    lode_checkpoint_release_layer(version, layer->number);
    lode_checkpoint_release_layer(original, layer->number);
    return status == LODE_ERR_NUMERIC
               ? lode_fail_context(status, "%s: layer %lld", layer->item->version.folder,
                                   (long long)layer->number)
               : status;
}

lode_status_t lode_audit_weights(lode_audit_t *audit, int64_t index) {
    const lode_audit_item_t *item = &audit->items[index];
    const lode_run_t *run = &item->version.run;
    const int64_t L = run->architecture.layers, first = run->layout.first_layer;
    const int64_t end = run->layout.layer_end;
    const lode_comm_t alone = lode_comm_alone();
    layer_t layer = {.audit = audit,
                     .item = item,
                     .m = audit->run->architecture.intermediate,
                     .n = run->architecture.intermediate,
                     .d = run->architecture.hidden};
    lode_progress_t progress;
    int64_t before = 0;
    double seconds = 0;
    if (!lode_run_owns_layers(run) || first == end)
        return LODE_OK;
    for (int64_t l = first; l < end; l++)
        before += lode_store_done(audit->store, LODE_AUDIT_LAYERS_PART, index * L + l, 1);
    lode_status_t status = allocate(&layer);
    lode_progress_start(&progress, item->title, "layer", end - first);
    lode_progress_resume(&progress, before);
    for (layer.number = first; layer.number < end && status == LODE_OK; layer.number++) {
        const int64_t unit = index * L + layer.number;
        const double start = lode_time();
        if (lode_store_done(audit->store, LODE_AUDIT_LAYERS_PART, unit, 1))
            continue;
        status = lode_comm_stop(&alone, seconds); /* ranks have layers of their own */
        if (status == LODE_OK)
            status = compare_layer(&layer);
        if (status == LODE_OK)
            status = lode_store_mark(audit->store, LODE_AUDIT_LAYERS_PART, unit, 1);
        if (status == LODE_OK)
            lode_progress_add(&progress, 1, 0);
        seconds = lode_time() - start;
    }
    lode_progress_end(&progress);
    release(&layer);
    return status;
}
