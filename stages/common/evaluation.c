#include "common/evaluation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/edit_hash.h"
#include "common/stacked.h"

/* --- what variants have in common ------------------------------------------------------------ */

/* Digests of this rank's layers, in their places. */
static lode_status_t digest_layers(lode_edit_digests_t *digests, const lode_run_t *run,
                                   lode_edit_callback_t edit, void *context) {
    if (!lode_run_owns_layers(run))
        return LODE_OK;
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end; l++)
        for (int64_t v = 0; v < digests->variants; v++) {
            lode_layer_edit_t answer = {0};
            lode_hash_t *hash;
            LODE_TRY(edit(context, v, l, &answer));
            LODE_TRY(lode_hash_create(&hash));
            lode_edit_hash(hash, &answer, &run->architecture, l);
            lode_hash_text(hash, digests->layer[v * digests->layers + l]);
            lode_hash_destroy(&hash);
        }
    return LODE_OK;
}

static lode_status_t digest_variants(lode_edit_digests_t *digests) {
    const int64_t layers = digests->layers;
    for (int64_t v = 0; v < digests->variants; v++) {
        lode_hash_t *hash;
        LODE_TRY(lode_hash_create(&hash));
        lode_hash_add(hash, digests->layer[v * layers], (size_t)layers * sizeof *digests->layer);
        lode_hash_text(hash, digests->variant[v]);
        lode_hash_destroy(&hash);
    }
    return LODE_OK;
}

lode_status_t lode_edit_digests_create(lode_edit_digests_t *digests, const lode_run_t *run,
                                       int64_t variants, lode_edit_callback_t edit, void *context) {
    const int64_t layers = run->architecture.layers;
    int bytes = 0;
    *digests = (lode_edit_digests_t){.variants = variants, .layers = layers};
    lode_status_t status = LODE_NEW(&digests->layer, variants * layers, "digests of variants");
    if (status == LODE_OK)
        status = LODE_NEW(&digests->variant, variants, "digests of variants");
    if (status == LODE_OK)
        status = lode_narrow(&bytes, variants * layers * LODE_DIGEST_TEXT, "digests of variants");
    if (status == LODE_OK)
        status = digest_layers(digests, run, edit, context);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        /* Each was set by one rank and is zero on the others. */
        MPI_Allreduce(MPI_IN_PLACE, digests->layer, bytes, MPI_CHAR, MPI_MAX, run->comm->comm);
        status = lode_comm_agree(run->comm, digest_variants(digests));
    }
    if (status != LODE_OK)
        lode_edit_digests_free(digests);
    return status;
}

void lode_edit_digests_free(lode_edit_digests_t *digests) {
    free(digests->layer);
    free(digests->variant);
    *digests = (lode_edit_digests_t){0};
}

/* A variant among those that agree in all layers so far: `group` is the first of these. */
typedef struct member {
    int64_t group;
    const char *digest; /* of the layer in hand */
    int64_t place;
} member_t;

static int compare_edits(const member_t *a, const member_t *b) {
    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    return strcmp(a->digest, b->digest);
}

static int compare_members(const void *left, const void *right) {
    const member_t *a = left, *b = right;
    const int edits = compare_edits(a, b);
    return edits != 0 ? edits : a->place < b->place ? -1 : a->place > b->place;
}

lode_status_t lode_edit_digests_share(const lode_edit_digests_t *digests, const int64_t *selected,
                                      int64_t count, int64_t *parent, int64_t *start) {
    member_t *member;
    int64_t *group;
    LODE_TRY(LODE_NEW(&member, count, "common layers"));
    lode_status_t status = LODE_NEW(&group, count, "common layers");
    for (int64_t i = 0; i < count; i++) {
        parent[i] = -1;
        start[i] = 0;
    }
    for (int64_t l = 0; l < digests->layers && count > 0 && status == LODE_OK; l++) {
        for (int64_t i = 0; i < count; i++)
            member[i] = (member_t){.group = group[i],
                                   .digest = digests->layer[selected[i] * digests->layers + l],
                                   .place = i};
        qsort(member, (size_t)count, sizeof *member, compare_members);
        for (int64_t i = 0, first = 0; i < count; i++) {
            const int64_t place = member[i].place;
            if (compare_edits(&member[first], &member[i]) != 0)
                first = i;
            group[place] = member[first].place;
            if (i == first)
                continue;
            parent[place] = member[first].place;
            start[place] = l + 1;
        }
    }
    free(member);
    free(group);
    return status;
}

/* What all variants of an evaluation have in common. Collective. */
static lode_status_t find_sharing(const lode_run_t *run, const lode_evaluation_t *evaluation,
                                  int64_t *parent, int64_t *start, int64_t *selected) {
    lode_edit_digests_t digests;
    for (int64_t v = 0; v < evaluation->variants; v++)
        selected[v] = v;
    LODE_TRY(lode_edit_digests_create(&digests, run, evaluation->variants, evaluation->edit,
                                      evaluation->context));
    const lode_status_t status =
        lode_edit_digests_share(&digests, selected, evaluation->variants, parent, start);
    lode_edit_digests_free(&digests);
    return lode_comm_agree(run->comm, status);
}

/* --- running --------------------------------------------------------------------------------- */

static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    const lode_evaluation_t *evaluation = context;
    for (int64_t l = 0; l < stack->count && evaluation->edit; l++) {
        lode_layer_edit_t edit = {0};
        if (stack->first_layer + l < start)
            continue;
        LODE_TRY(evaluation->edit(evaluation->context, variant, stack->first_layer + l, &edit));
        lode_stack_edit(stack, l, &edit);
    }
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    const lode_evaluation_t *evaluation = context;
    return evaluation->losses(evaluation->context, variant, batch, nll, greedy);
}

/* Runs the micro-batches that are not `done`. Collective. */
static lode_status_t run_batches(const lode_run_t *run, lode_evaluation_t *evaluation,
                                 const lode_batches_t *batches, const uint8_t *done) {
    const int64_t tokens = evaluation->text->offsets[evaluation->text->sequences];
    const lode_pass_t pass = {
        .stage = evaluation->stage,
        .batches = batches,
        .variants = evaluation->variants,
        .parent = evaluation->parent,
        .start = evaluation->start,
        .compact = true,
        .head_batches = batches->count,
        .done = done,
        .observer = {.context = evaluation, .variant = on_variant, .losses = on_losses}};
    return lode_stacked_pass(run, pass,
                             evaluation->other + tokens * (int64_t)(2 * sizeof(int32_t)));
}

static lode_status_t run_pass(const lode_run_t *run, lode_evaluation_t *evaluation) {
    lode_batches_t batches;
    uint8_t *done = NULL;
    int64_t count = 0;
    lode_status_t status =
        lode_batches_create(&batches, evaluation->text, run->config->micro_batch);
    if (status == LODE_OK)
        status = LODE_NEW(&done, batches.count, "micro-batches");
    status = lode_comm_agree(run->comm, status);
    for (int64_t b = 0; b < batches.count && status == LODE_OK && evaluation->done; b++)
        count += done[b] = evaluation->done(evaluation->context, &batches.batch[b]);
    lode_run_say_resumed(evaluation->stage, count, batches.count, "micro-batches");
    if (status == LODE_OK && count < batches.count)
        status = run_batches(run, evaluation, &batches, done);
    free(done);
    lode_batches_destroy(&batches);
    return status;
}

lode_status_t lode_evaluation_run(const lode_run_t *run, const lode_evaluation_t *evaluation) {
    lode_evaluation_t found = *evaluation;
    int64_t *sharing = NULL;
    const int64_t variants = evaluation->variants;
    if (variants == 0)
        return LODE_OK;
    LODE_ASSERT(!evaluation->parent == !evaluation->start);
    if (!evaluation->parent && evaluation->edit && variants > 1) {
        lode_status_t status =
            lode_comm_agree(run->comm, LODE_NEW(&sharing, 3 * variants, "common layers"));
        if (status == LODE_OK)
            status =
                find_sharing(run, evaluation, sharing, sharing + variants, sharing + 2 * variants);
        found.parent = sharing;
        found.start = sharing + variants;
        if (status != LODE_OK) {
            free(sharing);
            return status;
        }
    }
    const lode_status_t status = run_pass(run, &found);
    free(sharing);
    return status;
}

/* --- texts of perplexities ------------------------------------------------------------------- */

static lode_status_t read_token(lode_store_t *tokenize, const char *group, const char *name,
                                int32_t *id) {
    int64_t value = -1;
    LODE_TRY(lode_store_get_attribute_i64(tokenize, group, name, &value));
    *id = (int32_t)value;
    return LODE_OK;
}

lode_status_t lode_evaluation_windows(lode_windows_t *windows, int32_t *bos, lode_store_t *tokenize,
                                      const lode_config_perplexity_t *entry) {
    char group[512], path[520];
    int32_t *ids = NULL;
    int64_t *offsets = NULL, count = 0;
    lode_documents_t documents = {0};
    lode_status_t status;
    *windows = (lode_windows_t){0};
    snprintf(group, sizeof group, "/perplexity/%s", entry->name);
    LODE_TRY(read_token(tokenize, group, "bos", &documents.bos));
    LODE_TRY(read_token(tokenize, group, "prefix", &documents.prefix));
    LODE_TRY(lode_store_get_attribute_i64(tokenize, group, "words", &documents.words));
    LODE_TRY(lode_store_get_attribute_i64(tokenize, group, "bytes", &documents.bytes));
    snprintf(path, sizeof path, "%s/offsets", group);
    LODE_GUARD(status, lode_store_read_all(tokenize, path, LODE_TYPE_I64, &offsets, &count), done);
    snprintf(path, sizeof path, "%s/ids", group);
    LODE_GUARD(status, lode_store_read_all(tokenize, path, LODE_TYPE_I32, &ids, NULL), done);
    documents.ids = ids;
    documents.offsets = offsets;
    documents.count = count - 1;
    *bos = documents.bos;
    status = lode_windows_create(windows, entry->protocol, entry->length, &documents);
done:
    free(ids);
    free(offsets);
    return status;
}
