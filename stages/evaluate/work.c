#include "evaluate/work.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

const char *lode_evaluate_variant_name(const lode_evaluate_work_t *work, int64_t variant) {
    return variant == 0 ? "dense" : work->variants[variant - 1].name;
}

lode_status_t lode_evaluate_edit(void *context, int64_t variant, int64_t layer,
                                 lode_layer_edit_t *edit) {
    const lode_evaluate_work_t *work = context;
    if (variant > 0)
        *edit = lode_edits_of(work->edits, variant - 1, layer);
    return LODE_OK;
}

lode_status_t lode_evaluate_set_edit(void *context, int64_t variant, int64_t layer,
                                     lode_layer_edit_t *edit) {
    const lode_evaluate_set_t *set = context;
    return lode_evaluate_edit(set->work, set->selected[variant], layer, edit);
}

lode_status_t lode_evaluate_set_create(lode_evaluate_set_t *set, lode_evaluate_work_t *work,
                                       const char *group, const char *name, bool pruned,
                                       const lode_text_t *text) {
    *set = (lode_evaluate_set_t){.work = work,
                                 .name = name,
                                 .sequences = text->sequences,
                                 .variants = pruned ? 1 + work->variant_count : 1};
    LODE_TRY(LODE_NEW(&set->items, set->variants, "results"));
    LODE_TRY(LODE_NEW(&set->selected, 3 * set->variants, "results"));
    set->parent = set->selected + set->variants;
    set->start = set->parent + set->variants;
    for (int64_t v = 0; v < set->variants; v++) {
        lode_buffer_t path = {0};
        const lode_status_t status =
            lode_buffer_printf(&path, "%s/%s/%s", group, name, lode_evaluate_variant_name(work, v));
        set->items[v].path = path.data;
        LODE_TRY(status);
        LODE_TRY(
            lode_reuse_digest(set->items[v].digest, work->run, text, work->digests.variant[v]));
    }
    return LODE_OK;
}

void lode_evaluate_set_free(lode_evaluate_set_t *set) {
    for (int64_t v = 0; set->items && v < set->variants; v++)
        free(set->items[v].path);
    free(set->items);
    free(set->selected);
    *set = (lode_evaluate_set_t){0};
}

bool lode_evaluate_set_done(void *context, const lode_batch_t *batch) {
    const lode_evaluate_set_t *set = context;
    for (int64_t i = 0; i < set->computed; i++)
        if (!lode_store_done(set->losses, set->part,
                             set->selected[i] * set->sequences + batch->first_sequence,
                             batch->sequences.count))
            return false;
    return true;
}

lode_status_t lode_evaluate_set_mark(const lode_evaluate_set_t *set, int64_t computed,
                                     const lode_batch_t *batch) {
    return lode_store_mark(set->losses, set->part,
                           set->selected[computed] * set->sequences + batch->first_sequence,
                           batch->sequences.count);
}

lode_status_t lode_evaluate_set_select(lode_evaluate_set_t *set) {
    const lode_edit_digests_t *digests = &set->work->digests;
    int64_t equal = 0, found = 0;
    set->computed = 0;
    for (int64_t v = 0; v < set->variants; v++) {
        found += set->items[v].found;
        if (!set->items[v].found && !set->items[v].done)
            set->selected[set->computed++] = v;
    }
    LODE_TRY(
        lode_edit_digests_share(digests, set->selected, set->computed, set->parent, set->start));
    for (int64_t i = 0; i < set->computed; i++)
        equal += set->start[i] == digests->layers;
    lode_log_info("evaluate: %s: %lld %s, %lld equal to others, %lld taken from earlier results",
                  set->name, (long long)set->variants, set->variants == 1 ? "variant" : "variants",
                  (long long)equal, (long long)found);
    return LODE_OK;
}
