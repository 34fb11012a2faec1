#include "evaluate/work.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"

const char *lode_evaluate_variant_name(const lode_evaluate_work_t *work, int64_t variant) {
    return variant == 0 ? work->dense : work->variants[variant - 1].name;
}

void lode_evaluate_path(const lode_evaluate_work_t *work, const char *group, const char *name,
                        int64_t variant, char path[LODE_EVALUATE_PATH]) {
    if (*work->group)
        snprintf(path, LODE_EVALUATE_PATH, "%s%s/%s", work->group, group, name);
    else
        snprintf(path, LODE_EVALUATE_PATH, "%s/%s/%s", group, name,
                 lode_evaluate_variant_name(work, variant));
}

int64_t lode_evaluate_edits_memory(const lode_evaluate_work_t *work) {
    return work->edits ? lode_edits_memory(work->edits) : 0;
}

lode_status_t lode_evaluate_edit(void *context, int64_t variant, int64_t layer,
                                 lode_layer_edit_t *edit) {
    const lode_evaluate_work_t *work = context;
    if (variant > 0)
        *edit = lode_edits_of(work->edits, variant - 1, layer);
    return LODE_OK;
}

lode_status_t lode_evaluate_set_create(lode_evaluate_set_t *set, lode_evaluate_work_t *work,
                                       const char *group, const char *name, bool pruned,
                                       const lode_text_t *text) {
    *set = (lode_evaluate_set_t){.work = work,
                                 .name = name,
                                 .text = text,
                                 .sequences = text->sequences,
                                 .variants = pruned ? 1 + work->variant_count : 1};
    LODE_TRY(LODE_NEW(&set->items, set->variants, "results"));
    LODE_TRY(LODE_NEW(&set->selected, 3 * set->variants, "results"));
    set->parent = set->selected + set->variants;
    set->start = set->parent + set->variants;
    for (int64_t v = 0; v < set->variants; v++) {
        char path[LODE_EVALUATE_PATH];
        lode_evaluate_path(work, group, name, v, path);
        LODE_TRY(lode_strdup(&set->items[v].path, path));
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

lode_status_t lode_evaluate_set_take(lode_evaluate_set_t *set, const lode_reuse_kind_t *kind,
                                     int part, int64_t units) {
    const lode_evaluate_work_t *work = set->work;
    for (int64_t v = 0; v < set->variants; v++)
        set->items[v].done = lode_store_done(work->store, part, v * units, units);
    if (!*work->group)
        LODE_TRY(lode_reuse_take(work->store, work->run, kind, set->items, set->variants));
    lode_status_t status = LODE_OK;
    for (int64_t v = 0; v < set->variants && status == LODE_OK; v++)
        if (set->items[v].found && work->run->comm->rank == 0) /* which has written it */
            status = lode_store_mark(work->store, part, v * units, units);
    return lode_comm_agree(work->run->comm, status);
}

/* Selects the variants that are neither done nor found in earlier results, and says how many these
 * are. */
static lode_status_t select_variants(lode_evaluate_set_t *set) {
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
    if (*set->work->group) /* there is one variant, and it is not called one */
        return LODE_OK;
    for (int64_t i = 0; i < set->computed; i++)
        equal += set->start[i] == digests->layers;
    lode_log_info("%s: %s: %lld %s, %lld equal to others, %lld taken from earlier results",
                  set->work->stage, set->name, (long long)set->variants,
                  set->variants == 1 ? "variant" : "variants", (long long)equal, (long long)found);
    return LODE_OK;
}

/* A lode_edit_callback_t by variants that are computed. */
static lode_status_t edit_computed(void *context, int64_t variant, int64_t layer,
                                   lode_layer_edit_t *edit) {
    const lode_evaluate_set_t *set = context;
    return lode_evaluate_edit(set->work, set->selected[variant], layer, edit);
}

/* Whether an interrupted run has all that is computed of a micro-batch. */
static bool is_done(void *context, const lode_batch_t *batch) {
    const lode_evaluate_set_t *set = context;
    for (int64_t i = 0; i < set->computed; i++)
        if (!lode_store_done(set->losses, set->part,
                             set->selected[i] * set->sequences + batch->first_sequence,
                             batch->sequences.count))
            return false;
    return true;
}

lode_status_t lode_evaluate_set_run(lode_evaluate_set_t *set, int64_t bytes,
                                    lode_evaluate_losses_t losses) {
    const lode_evaluate_work_t *work = set->work;
    LODE_TRY(lode_comm_agree(work->run->comm, select_variants(set)));
    const lode_evaluation_t evaluation = {.stage = work->stage,
                                          .text = set->text,
                                          .variants = set->computed,
                                          .parent = set->parent,
                                          .start = set->start,
                                          .other = lode_evaluate_edits_memory(work) + bytes,
                                          .context = set,
                                          .edit = edit_computed,
                                          .losses = losses,
                                          .done = is_done};
    return lode_evaluation_run(work->run, &evaluation);
}

lode_status_t lode_evaluate_set_mark(const lode_evaluate_set_t *set, int64_t computed,
                                     const lode_batch_t *batch) {
    return lode_store_mark(set->losses, set->part,
                           set->selected[computed] * set->sequences + batch->first_sequence,
                           batch->sequences.count);
}
