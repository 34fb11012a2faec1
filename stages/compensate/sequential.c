/* Sequential compensation: the second moment of a layer is that of the model whose layers below are
 * pruned and compensated already.
 *
 * A layer of a variant is computed in two halves with the solve between: first up to u, which gives
 * C, then u through the new down projection, which gives the next layer's input. Layers work in a
 * wavefront: in step t, layer l has variant t − l in hand, so that all ranks compute at once as
 * soon as there are several variants. Solves are made by all ranks together, one after the other.
 * Hidden states of all calibration tokens, and u between the halves, lie in a scratch file. A half
 * never writes over what it reads, and what it writes over is needed by nothing that is not known
 * to be on disk. So whatever is interrupted can be done again: all first halves of a step are a
 * unit, and so are all second ones.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/moment.h"
#include "common/spool.h"
#include "compensate/internal.h"
#include "linalg/compensation.h"

enum { NAME_MAX_BYTES = 48 };
enum { FIRST_HALVES, SECOND_HALVES, PARTS }; /* of the scratch file's journal; units are steps */

typedef struct sequential {
    lode_compensate_t *work;
    const lode_variant_t **variants; /* [count] */
    int64_t count;
    lode_sequences_read_t read;
    lode_batches_t batches;
    lode_stack_t *stack; /* NULL on a rank that idles */
    lode_spool_t *spool; /* "x/<variant>", "mid/<variant>" [tokens, d], "u/<layer>" [tokens, m] */
    int64_t steps;
    double seconds; /* that the last step took */
    lode_activations_t activations;
    lode_real_t *arena, *x, *u; /* x [max_tokens, d], u [max_tokens, m] inside arena */
    float *down;                /* [d, kept] of the layer and variant in hand */
    int32_t *kept;              /* [m] channels */
} sequential_t;

/* A layer's input. */
static void x_name(char name[NAME_MAX_BYTES], int64_t variant) {
    snprintf(name, NAME_MAX_BYTES, "x/%lld", (long long)variant);
}

/* What its feed-forward block adds to. */
static void mid_name(char name[NAME_MAX_BYTES], int64_t variant) {
    snprintf(name, NAME_MAX_BYTES, "mid/%lld", (long long)variant);
}

static void u_name(char name[NAME_MAX_BYTES], int64_t layer) {
    snprintf(name, NAME_MAX_BYTES, "u/%lld", (long long)layer);
}

/* The variant that layer `layer` has in hand in a step, −1 for none. */
static int64_t variant_in_hand(const sequential_t *s, int64_t step, int64_t layer) {
    const int64_t variant = step - layer;
    return variant >= 0 && variant < s->count ? variant : -1;
}

/* --- setting up ------------------------------------------------------------------------------ */

/* Reals of one rank beside its stack. */
static int64_t arena_reals(const sequential_t *s) {
    return s->batches.max_tokens *
           (lode_activations_per_token(&s->stack->layer[0]) + s->work->d + s->work->m);
}

/* The text, and the scratch file's panel. */
static int64_t text_bytes(int64_t tokens, int64_t max_tokens) {
    return tokens * (int64_t)(2 * sizeof(int32_t) + sizeof(double)) + lode_spool_memory(max_tokens);
}

static int64_t spool_bytes(const lode_compensate_t *work, int64_t count, int64_t tokens) {
    return 2 * count * lode_spool_bytes(tokens, work->d) +
           work->layers * lode_spool_bytes(tokens, work->m);
}

void lode_compensate_sequential_size(lode_stage_size_t *size, const lode_compensate_t *work,
                                     int64_t count, int64_t tokens, int64_t max_tokens) {
    size->scratch += spool_bytes(work, count, tokens);
    size->memory += text_bytes(tokens, max_tokens) +
                    (work->m * work->d + max_tokens * (work->d + work->m)) * (int64_t)sizeof(float);
}

static int64_t private_bytes(const sequential_t *s) {
    const int64_t tokens = s->read.text.offsets[s->read.text.sequences];
    int64_t bytes = text_bytes(tokens, s->batches.max_tokens);
    if (s->stack)
        bytes +=
            (s->stack->private_count + s->stack->workspace_count) * (int64_t)sizeof(lode_real_t);
    if (s->stack && s->stack->count > 0)
        bytes += arena_reals(s) * (int64_t)sizeof(lode_real_t) +
                 s->work->m * s->work->d * (int64_t)sizeof(float);
    return bytes;
}

static lode_status_t allocate(sequential_t *s) {
    const lode_compensate_t *work = s->work;
    const lode_run_t *run = work->run;
    LODE_TRY(LODE_NEW(&s->variants, s->count, "variants"));
    for (int64_t i = 0, next = 0; i < work->variant_count; i++)
        if (work->variants[i].compensation == LODE_COMPENSATION_SEQUENTIAL)
            s->variants[next++] = &work->variants[i];
    LODE_TRY(lode_batches_create(&s->batches, &s->read.text, run->config->micro_batch));
    lode_layout_t layers = run->layout; /* the head, and its room for logits, are not needed */
    layers.head = false;
    if (run->layout.replica >= 0)
        LODE_TRY(lode_stack_create(&s->stack, run->checkpoint, &layers, s->batches.max_tokens,
                                   s->batches.longest, (int)run->config->threads));
    LODE_TRY(lode_moment_check_memory(run, "sequential compensation",
                                      lode_compensation_elements(work->m, work->d), work->m,
                                      private_bytes(s)));
    if (!s->stack || s->stack->count == 0)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&s->kept, work->m, "channels"));
    LODE_TRY(LODE_NEW_RAW(&s->arena, arena_reals(s), "activations"));
    s->x = s->arena;
    s->u = s->x + s->batches.max_tokens * work->d;
    lode_activations_place(&s->activations, &s->stack->layer[0], s->batches.max_tokens,
                           s->u + s->batches.max_tokens * work->m);
    s->activations.x = s->x;
    return LODE_OK;
}

static lode_status_t create_spool(sequential_t *s) {
    const lode_compensate_t *work = s->work;
    const int64_t tokens = s->read.text.offsets[s->read.text.sequences];
    const lode_part_t parts[PARTS] = {
        [FIRST_HALVES] = {"first-halves", s->steps}, [SECOND_HALVES] = {"second-halves", s->steps}};
    char name[NAME_MAX_BYTES];
    lode_status_t status = lode_spool_create(&s->spool, work->run, LODE_STAGE_COMPENSATE, tokens,
                                             s->batches.max_tokens);
    for (int64_t v = 0; v < s->count && status == LODE_OK; v++) {
        x_name(name, v);
        status = lode_spool_add(s->spool, name, work->d);
        mid_name(name, v);
        if (status == LODE_OK)
            status = lode_spool_add(s->spool, name, work->d);
    }
    for (int64_t l = 0; l < work->layers && status == LODE_OK; l++) {
        u_name(name, l);
        status = lode_spool_add(s->spool, name, work->m);
    }
    if (status == LODE_OK)
        status = lode_spool_resume(s->spool, parts, PARTS);
    if (status == LODE_OK || status == LODE_ERR_MEMORY)
        return status;
    return lode_fail_context(status,
                             "sequential compensation keeps the activations of %lld tokens in a "
                             "scratch file of %.1f MB while it runs",
                             (long long)tokens, (double)spool_bytes(work, s->count, tokens) / 1e6);
}

static bool is_done(sequential_t *s, int part, int64_t step) {
    return lode_store_done(lode_spool_store(s->spool), part, step, 1);
}

/* Whether the scratch file is not ahead of what was solved for: then hidden states would be missing
 * from which to solve. */
static bool is_consistent(sequential_t *s) {
    for (int64_t step = 0; step < s->steps; step++)
        for (int64_t l = 0; l < s->work->layers && is_done(s, SECOND_HALVES, step); l++) {
            const int64_t variant = variant_in_hand(s, step, l);
            if (variant >= 0 && !lode_compensate_solved(s->work, s->variants[variant], l))
                return false;
        }
    return true;
}

static lode_status_t open_spool(sequential_t *s) {
    LODE_TRY(create_spool(s));
    if (is_consistent(s))
        return LODE_OK;
    lode_spool_destroy(&s->spool, LODE_OK);
    return create_spool(s);
}

static void close_sequential(sequential_t *s) {
    lode_stack_destroy(&s->stack);
    lode_batches_destroy(&s->batches);
    lode_sequences_free(&s->read);
    free(s->variants);
    free(s->arena);
    free(s->kept);
}

/* --- the halves of a layer ------------------------------------------------------------------- */

typedef lode_status_t (*half_t)(sequential_t *s, int64_t index, int64_t variant,
                                const lode_batch_t *batch);

/* From the layer's input to u, and to what u's projection is added to. */
static lode_status_t first_half(sequential_t *s, int64_t index, int64_t variant,
                                const lode_batch_t *batch) {
    const int64_t layer = s->stack->first_layer + index;
    char x[NAME_MAX_BYTES], mid[NAME_MAX_BYTES], u[NAME_MAX_BYTES];
    x_name(x, variant);
    mid_name(mid, variant);
    u_name(u, layer);
    if (layer == 0)
        LODE_TRY(
            lode_stack_embed(s->stack, &batch->sequences, s->read.ids + batch->first_token, s->x));
    else
        LODE_TRY(lode_spool_read(s->spool, x, batch->first_token, batch->tokens, s->x));
    lode_layer_forward(&s->stack->layer[index], &batch->sequences, &s->activations, NULL,
                       s->stack->workspace, NULL, NULL);
    lode_layer_channels(&s->stack->layer[index], batch->tokens, &s->activations, s->u);
    LODE_TRY(lode_spool_write(s->spool, u, batch->first_token, batch->tokens, s->u));
    return lode_spool_write(s->spool, mid, batch->first_token, batch->tokens, s->activations.x_mid);
}

/* From there to the layer's output, with the new down projection of the kept channels; the mask of
 * the variant is in work->keep. */
static lode_status_t second_half(sequential_t *s, int64_t index, int64_t variant,
                                 const lode_batch_t *batch) {
    const int64_t m = s->work->m, d = s->work->d, layer = s->stack->first_layer + index;
    char x[NAME_MAX_BYTES], mid[NAME_MAX_BYTES], u[NAME_MAX_BYTES];
    int64_t kept = 0;
    x_name(x, variant);
    mid_name(mid, variant);
    u_name(u, layer);
    for (int64_t j = 0; j < m; j++)
        if (s->work->keep[j])
            s->kept[kept++] = (int32_t)j;
    LODE_TRY(
        lode_spool_read(s->spool, mid, batch->first_token, batch->tokens, s->activations.x_mid));
    LODE_TRY(lode_spool_read(s->spool, u, batch->first_token, batch->tokens, s->u));
    /* Rows only move towards the start. */
    for (int64_t t = 0; t < batch->tokens; t++)
        for (int64_t j = 0; j < kept; j++)
            s->u[t * kept + j] = s->u[t * m + s->kept[j]];
    const lode_tensor_t down = lode_tensor_matrix(s->down, LODE_DTYPE_F32, d, kept);
    lode_layer_t changed = s->stack->layer[index];
    changed.m = kept;
    changed.down = lode_weight_of(&down);
    changed.down.bias = s->stack->layer[index].down.bias;
    lode_layer_finish(&changed, &batch->sequences, &s->activations, s->u, s->x,
                      s->stack->workspace);
    return lode_spool_write(s->spool, x, batch->first_token, batch->tokens, s->x);
}

/* One half for all micro-batches of this rank's replica. */
static lode_status_t run_half(sequential_t *s, half_t half, int64_t index, int64_t variant) {
    const lode_layout_t *layout = &s->work->run->layout;
    for (int64_t b = layout->replica; b < s->batches.count; b += layout->replicas)
        LODE_TRY(half(s, index, variant, &s->batches.batch[b]));
    return LODE_OK;
}

static lode_status_t first_halves(sequential_t *s, int64_t step) {
    for (int64_t i = 0; s->stack && i < s->stack->count; i++) {
        const int64_t variant = variant_in_hand(s, step, s->stack->first_layer + i);
        if (variant >= 0)
            LODE_TRY(run_half(s, first_half, i, variant));
    }
    return LODE_OK;
}

static lode_status_t solves(sequential_t *s, int64_t step) {
    lode_compensate_t *work = s->work;
    const int64_t tokens = s->read.text.offsets[s->read.text.sequences];
    char name[NAME_MAX_BYTES];
    for (int64_t l = 0; l < work->layers; l++) {
        const int64_t variant = variant_in_hand(s, step, l);
        if (variant < 0 || lode_compensate_solved(work, s->variants[variant], l))
            continue;
        u_name(name, l);
        LODE_TRY(lode_moment_of_spool(work->moment, s->spool, name, tokens));
        LODE_TRY(lode_compensate_load_down(work, l));
        LODE_TRY(lode_compensate_solve(work, s->variants[variant], l, true));
    }
    return LODE_OK;
}

static lode_status_t apply(sequential_t *s, int64_t index, int64_t variant) {
    lode_compensate_t *work = s->work;
    const int64_t layer = s->stack->first_layer + index;
    char path[LODE_COMPENSATE_PATH];
    int64_t elements;
    LODE_TRY(lode_compensate_mask(work, s->variants[variant], layer, NULL));
    lode_compensate_down_path(path, s->variants[variant], layer);
    LODE_TRY(lode_store_read_all(work->store, path, LODE_TYPE_F32, &s->down, &elements));
    const lode_status_t status = run_half(s, second_half, index, variant);
    free(s->down);
    s->down = NULL;
    return status;
}

/* The last layer's output is of no use here. */
static lode_status_t second_halves(sequential_t *s, int64_t step) {
    for (int64_t i = 0; s->stack && i < s->stack->count; i++) {
        const int64_t layer = s->stack->first_layer + i;
        const int64_t variant = variant_in_hand(s, step, layer);
        if (variant >= 0 && layer + 1 < s->work->layers)
            LODE_TRY(apply(s, i, variant));
    }
    return LODE_OK;
}

/* What the second halves write over must not be needed again: so marks are synced. */
static lode_status_t run_step(sequential_t *s, int64_t step) {
    const lode_comm_t *comm = s->work->run->comm;
    lode_store_t *scratch = lode_spool_store(s->spool);
    if (is_done(s, SECOND_HALVES, step))
        return LODE_OK;
    LODE_TRY(lode_comm_stop(comm, s->seconds));
    const double start = lode_time();
    if (!is_done(s, FIRST_HALVES, step))
        LODE_TRY(lode_store_mark_all(scratch, FIRST_HALVES, step, true, first_halves(s, step)));
    LODE_TRY(lode_spool_synchronise(s->spool));
    LODE_TRY(solves(s, step));
    LODE_TRY(lode_store_synchronise(s->work->store));
    LODE_TRY(lode_store_mark_all(scratch, SECOND_HALVES, step, true, second_halves(s, step)));
    s->seconds = lode_time() - start;
    return lode_spool_synchronise(s->spool);
}

lode_status_t lode_compensate_sequential(lode_compensate_t *work, lode_spool_t **spool) {
    sequential_t s = {.work = work,
                      .count = lode_compensate_count(work, LODE_COMPENSATION_SEQUENTIAL)};
    if (s.count == 0)
        return LODE_OK;
    s.steps = s.count + work->layers - 1;
    LODE_TRY(lode_run_calibration(&s.read, work->run));
    lode_status_t status = lode_comm_agree(work->run->comm, allocate(&s));
    if (status == LODE_OK)
        status = open_spool(&s);
    for (int64_t step = 0; step < s.steps && status == LODE_OK; step++)
        status = run_step(&s, step);
    *spool = s.spool;
    close_sequential(&s);
    return status;
}
