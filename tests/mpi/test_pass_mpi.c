/* A pass over a model that is split over ranks: every number has the bits that one rank computes
 * alone, whatever the layout and the memory; every rank reads its own weights and no others; and a
 * failure anywhere is everybody's. Each rank runs the whole model alone first, on MPI_COMM_SELF. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/stop.h"
#include "model/checkpoint.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/temporary.h"
#include "transformer/pass.h"

enum { LAYERS = 5, D = 32, M = 88, VOCAB = 113, SEQUENCES = 14, MICRO_BATCH = 24 };

/* Variants of the tests without and with something in common. */
enum { VARIANTS = 4, SHARING = 10, MOST_VARIANTS = SHARING };

static lode_comm_t world;
static char folder[512]; /* of the test, on rank 0's machine, which is everybody's */

/* --- the text ------------------------------------------------------------------------------- */

static int64_t offsets[SEQUENCES + 1];
static int32_t *ids, *target;
static double *weight;
static int64_t tokens;

static lode_text_t make_text(void) {
    const uint64_t key = lode_random_key(3, "text", 0, 0);
    for (int64_t s = 0; s < SEQUENCES; s++)
        offsets[s + 1] = offsets[s] + (s == 4 ? 40 : 2 + lode_random_below(key, (uint64_t)s, 17));
    tokens = offsets[SEQUENCES];
    LODE_REQUIRE(LODE_NEW(&ids, tokens, "ids") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&target, tokens, "targets") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&weight, tokens, "weights") == LODE_OK);
    for (int64_t t = 0; t < tokens; t++)
        ids[t] = t % 5 == 0 ? 0 : (int32_t)lode_random_below(key, (uint64_t)(1000 + t), VOCAB);
    for (int64_t s = 0; s < SEQUENCES; s++)
        for (int64_t t = offsets[s]; t < offsets[s + 1]; t++) {
            /* the last of a sequence has no next token, and a third is not asked for */
            const bool scored = t + 1 < offsets[s + 1] && t % 3 != 1;
            target[t] = scored ? ids[t + 1] : -1;
            weight[t] = scored ? 1.0 / (double)(offsets[s + 1] - offsets[s]) : 0;
        }
    return (lode_text_t){
        .sequences = SEQUENCES, .offsets = offsets, .ids = ids, .target = target, .weight = weight};
}

/* --- what observers saw --------------------------------------------------------------------- */

typedef enum kind { INPUT, CHANNELS, CHANNELS_AGAIN, GRADIENTS, LOGITS, LOSSES, KINDS } kind_t;

typedef struct record {
    /* h, u, u of the backward, g: [LAYERS, tokens, width]; logits [tokens, VOCAB] as float; losses
     * [MOST_VARIANTS, tokens] as double */
    float *values[KINDS];
    double *losses;
    uint8_t *greedy;      /* [MOST_VARIANTS, tokens] */
    int32_t *seen[KINDS]; /* how often: [LAYERS, tokens], [tokens], [MOST_VARIANTS, tokens] */
    int32_t *channels;    /* of the variant in hand [LAYERS, M] */
    int64_t layers_run;   /* times that a layer was computed, with sharing */
    lode_status_t fail_with;
    int64_t fail_after; /* calls of observers, forward and backward */
    bool fail_backward; /* only the backward's count */
    int64_t stop_after; /* the same, until a stop is asked for; 0: none is */
} record_t;

static int64_t width_of(kind_t kind) {
    return kind == INPUT ? D : kind == LOGITS ? VOCAB : M;
}

/* Rows of tokens that a kind has. */
static int64_t groups_of(kind_t kind) {
    return kind == LOGITS ? 1 : kind == LOSSES ? MOST_VARIANTS : LAYERS;
}

static record_t record_create(void) {
    record_t record = {.fail_with = LODE_OK};
    for (int kind = 0; kind < KINDS; kind++) {
        const int64_t rows = groups_of((kind_t)kind) * tokens;
        LODE_REQUIRE(LODE_NEW(&record.seen[kind], rows, "record") == LODE_OK);
        if (kind != LOSSES)
            LODE_REQUIRE(LODE_NEW(&record.values[kind], rows * width_of((kind_t)kind), "record") ==
                         LODE_OK);
    }
    LODE_REQUIRE(LODE_NEW(&record.losses, MOST_VARIANTS * tokens, "record") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&record.greedy, MOST_VARIANTS * tokens, "record") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&record.channels, LAYERS * M, "record") == LODE_OK);
    return record;
}

static void record_free(record_t *record) {
    for (int kind = 0; kind < KINDS; kind++) {
        free(record->values[kind]);
        free(record->seen[kind]);
    }
    free(record->losses);
    free(record->greedy);
    free(record->channels);
}

static lode_status_t maybe_fail(record_t *record, bool backward) {
    if (record->stop_after > 0 && --record->stop_after == 0)
        lode_stop_after(1e-9);
    if (record->fail_with == LODE_OK || (record->fail_backward && !backward) ||
        record->fail_after-- > 0)
        return LODE_OK;
    record->fail_with = LODE_OK; /* once */
    return lode_fail(LODE_ERR_INPUT, "the failure that rank %d was asked for", world.rank);
}

static void keep(record_t *record, kind_t kind, int64_t group, int64_t first, int64_t rows,
                 const float *values) {
    const int64_t at = group * tokens + first, width = width_of(kind);
    memcpy(record->values[kind] + at * width, values, (size_t)(rows * width) * sizeof *values);
    for (int64_t t = 0; t < rows; t++)
        record->seen[kind][at + t]++;
}

static lode_status_t on_forward(void *context, const lode_batch_t *batch, int64_t layer,
                                const lode_real_t *h, const lode_real_t *u) {
    keep(context, INPUT, layer, batch->first_token, batch->tokens, h);
    keep(context, CHANNELS, layer, batch->first_token, batch->tokens, u);
    return maybe_fail(context, false);
}

static lode_status_t on_backward(void *context, const lode_batch_t *batch, int64_t layer,
                                 const lode_real_t *u, const lode_real_t *g) {
    keep(context, CHANNELS_AGAIN, layer, batch->first_token, batch->tokens, u);
    keep(context, GRADIENTS, layer, batch->first_token, batch->tokens, g);
    return maybe_fail(context, true);
}

static lode_status_t on_logits(void *context, int64_t first_token, int64_t rows,
                               const lode_real_t *logits) {
    keep(context, LOGITS, 0, first_token, rows, logits);
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    record_t *record = context;
    const int64_t at = variant * tokens + batch->first_token;
    memcpy(record->losses + at, nll, (size_t)batch->tokens * sizeof *nll);
    memcpy(record->greedy + at, greedy, (size_t)batch->tokens);
    for (int64_t t = 0; t < batch->tokens; t++)
        record->seen[LOSSES][at + t]++;
    return maybe_fail(record, false);
}

/* Variant 0 is the whole model, 1 keeps two channels of three, 2 none at all, 3 all by name. */
static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    record_t *record = context;
    lode_layer_edit_t edit = {.channels = record->channels};
    LODE_CHECK(start == 0);
    for (int32_t j = 0; j < M; j++)
        if (variant == 3 || (variant == 1 && j % 3 != 1))
            record->channels[edit.count++] = j;
    for (int64_t l = 0; l < stack->count; l++)
        lode_stack_edit(stack, l, variant == 0 ? NULL : &edit);
    return LODE_OK;
}

/* --- variants with something in common ------------------------------------------------------- */

/* Trees of variants: 4 and 9 equal their parents; 3, 7 and 8 descend from other than the unpruned
 * model, 7 with less in common than its parent has with the parent's parent. */
static const int64_t tree_parent[SHARING] = {-1, 0, 0, 1, 1, -1, 5, 3, 4, 8};
static const int64_t tree_start[SHARING] = {0, 2, 4, 3, LAYERS, 0, 1, 2, 4, LAYERS};
/* Layers to compute: for each variant those from where it leaves the rest; and where nothing can be
 * kept, all of those that equal no other. */
enum { TREE_FEWEST = 5 + 3 + 1 + 2 + 0 + 5 + 4 + 3 + 1 + 0, TREE_MOST = 8 * LAYERS };

/* The variant that a layer's edit is named after. */
static int64_t origin(int64_t variant, int64_t layer) {
    while (layer < tree_start[variant])
        variant = tree_parent[variant];
    return variant;
}

static lode_status_t on_tree_variant(void *context, int64_t variant, int64_t start,
                                     lode_stack_t *stack) {
    static const lode_real_t bias[D] = {0.25F, -0.5F, 0.125F};
    record_t *record = context;
    LODE_CHECK(start < stack->first_layer + stack->count || stack->count == 0);
    for (int64_t l = 0; l < stack->count; l++) {
        const int64_t layer = stack->first_layer + l, name = origin(variant, layer);
        lode_layer_edit_t edit = {.channels = record->channels + l * M,
                                  .bias = name == 3 || name == 8 ? bias : NULL};
        for (int32_t j = 0; j < M; j++)
            if ((j + name) % 3 != 1)
                record->channels[l * M + edit.count++] = j;
        if (layer >= start) /* what lies below is left as it happens to be */
            lode_stack_edit(stack, l, name == 0 ? NULL : &edit);
    }
    return LODE_OK;
}

static lode_status_t on_tree_layer(void *context, const lode_batch_t *batch, int64_t layer,
                                   const lode_real_t *h, const lode_real_t *u) {
    (void)batch, (void)layer, (void)h, (void)u;
    ((record_t *)context)->layers_run++;
    return maybe_fail(context, false);
}

/* --- running -------------------------------------------------------------------------------- */

/* Spill all inputs of layers, or some; compute all activations again, or some, or none. The last
 * two fail: too little for anything, and for a pass without a scratch file. */
typedef enum budget {
    BUDGET_LEAST,
    BUDGET_SPILL,
    BUDGET_INPUTS,
    BUDGET_MIDDLE,
    BUDGET_ALL,
    BUDGET_TOO_SMALL,
    BUDGET_NO_SPILL
} budget_t;

typedef struct job {
    const char *checkpoint;
    const lode_text_t *text;
    int64_t replicas, variants;
    bool backward, compact;
    int64_t head_batches; /* −1: all */
    bool tree;            /* the variants are those of the trees */
    bool sharing;         /* and the pass is told */
    budget_t budget;
    const uint8_t *done; /* as the pass has it */
} job_t;

/* Logits are of one variant, and of all positions. */
static bool wants_logits(const job_t *job) {
    return !job->compact && job->variants == 1;
}

/* What a run leaves beside the record. */
typedef struct outcome {
    lode_layout_t layout;
    lode_batches_t batches;
    lode_checkpoint_t *checkpoint;
} outcome_t;

static void outcome_free(outcome_t *outcome) {
    lode_batches_destroy(&outcome->batches);
    lode_checkpoint_close(&outcome->checkpoint);
}

static int64_t budget_of(const job_t *job, const lode_pass_memory_t *memory) {
    switch (job->budget) {
    case BUDGET_LEAST:
        return memory->least;
    case BUDGET_SPILL:
        return (memory->least + memory->inputs) / 2;
    case BUDGET_INPUTS:
        return memory->inputs;
    case BUDGET_MIDDLE:
        return (memory->inputs + memory->all) / 2;
    case BUDGET_ALL:
        return memory->all;
    default:
        return (job->budget == BUDGET_NO_SPILL ? memory->inputs : memory->least) - 1;
    }
}

/* A scratch file is made where the budget asks for one, and only there. */
static void check_scratch(const job_t *job, const lode_pass_size_t *size,
                          const lode_pass_memory_t *memory) {
    const int64_t budget = budget_of(job, memory);
    int64_t bytes, most;
    LODE_REQUIRE(lode_pass_scratch(size, budget, &bytes) == LODE_OK);
    LODE_REQUIRE(lode_pass_scratch(size, memory->least, &most) == LODE_OK);
    LODE_CHECK((bytes > 0) == (budget < memory->inputs));
    LODE_CHECK(bytes <= most && (job->backward || most == 0));
}

static lode_status_t run(const lode_comm_t *comm, const job_t *job, record_t *record,
                         outcome_t *outcome) {
    lode_stack_t *stack = NULL;
    *outcome = (outcome_t){0};
    LODE_REQUIRE(lode_checkpoint_open(&outcome->checkpoint, job->checkpoint) == LODE_OK);
    LODE_REQUIRE(lode_layout_create(&outcome->layout,
                                    lode_checkpoint_architecture(outcome->checkpoint), 40,
                                    comm->size, comm->rank, job->replicas) == LODE_OK);
    LODE_REQUIRE(lode_batches_create(&outcome->batches, job->text, MICRO_BATCH) == LODE_OK);
    if (outcome->layout.replica >= 0)
        LODE_REQUIRE(lode_stack_create(&stack, outcome->checkpoint, &outcome->layout,
                                       outcome->batches.max_tokens, outcome->batches.longest,
                                       1) == LODE_OK);
    lode_pass_t pass = {.stage = "test",
                        .comm = comm,
                        .layout = &outcome->layout,
                        .stack = stack,
                        .batches = &outcome->batches,
                        .variants = job->variants,
                        .backward = job->backward,
                        .compact = job->compact,
                        .head_batches =
                            job->head_batches < 0 ? outcome->batches.count : job->head_batches,
                        .parent = job->sharing ? tree_parent : NULL,
                        .start = job->sharing ? tree_start : NULL,
                        .done = job->done,
                        .observer = {.context = record,
                                     .variant = job->tree           ? on_tree_variant
                                                : job->variants > 1 ? on_variant
                                                                    : NULL,
                                     .ffn_forward = job->tree           ? on_tree_layer
                                                    : job->variants > 1 ? NULL
                                                                        : on_forward,
                                     .ffn_backward = job->backward ? on_backward : NULL,
                                     .logits = wants_logits(job) ? on_logits : NULL,
                                     .losses = on_losses}};
    const lode_pass_size_t size = lode_pass_size(&pass);
    lode_pass_memory_t memory;
    LODE_REQUIRE(lode_pass_memory(&size, &memory) == LODE_OK);
    LODE_CHECK(memory.least <= memory.inputs && memory.inputs <= memory.all);
    LODE_CHECK((memory.least > 0) == (stack != NULL));
    pass.budget = budget_of(job, &memory);
    pass.scratch = job->budget == BUDGET_NO_SPILL || job->budget == BUDGET_INPUTS ? NULL : folder;
    if (stack && job->budget < BUDGET_TOO_SMALL)
        check_scratch(job, &size, &memory);
    const lode_status_t status = lode_pass_run(&pass);
    lode_stack_destroy(&stack);
    return status;
}

/* Whether the run was to call this rank's observer for the token's row of a kind. */
static bool expected(const outcome_t *outcome, const job_t *job, kind_t kind, int64_t group,
                     int64_t batch) {
    const lode_layout_t *layout = &outcome->layout;
    const int64_t variant = kind == LOSSES ? group : 0;
    lode_plan_share_t share = {0};
    if (layout->replica < 0 || variant >= job->variants || (job->done && job->done[batch]))
        return false;
    int64_t item = 0, items = 0; /* micro-batches that are left out are nobody's */
    for (int64_t b = 0; b < outcome->batches.count; b++) {
        item += b < batch && !(job->done && job->done[b]);
        items += !(job->done && job->done[b]);
    }
    LODE_REQUIRE(lode_plan_divide(&share, items, job->variants, job->sharing ? tree_start : NULL,
                                  LAYERS, layout->replicas, layout->replica) == LODE_OK);
    if (item / layout->replicas < share.whole
            ? item % layout->replicas != layout->replica
            : item != share.part_batch || variant < share.part_first || variant >= share.part_end)
        return false;
    if (kind == LOGITS || kind == LOSSES)
        return layout->head && (kind == LOSSES || wants_logits(job)) &&
               (job->head_batches < 0 || batch < job->head_batches);
    if ((kind == CHANNELS_AGAIN || kind == GRADIENTS) && !job->backward)
        return false;
    return job->variants == 1 && group >= layout->first_layer && group < layout->layer_end;
}

/* Every row that this rank owes was seen once and has the bits of `want`; no other was seen. After
 * a failure some rows may be missing, but nothing wrong was shown. */
static void compare(const outcome_t *outcome, const job_t *job, const record_t *got,
                    const record_t *want, bool failed) {
    for (int k = 0; k < KINDS; k++) {
        const kind_t kind = (kind_t)k;
        const int64_t width = kind == LOSSES ? 0 : width_of(kind);
        int64_t wrong = 0, unseen = 0;
        for (int64_t group = 0; group < groups_of(kind); group++)
            for (int64_t b = 0; b < outcome->batches.count; b++) {
                const lode_batch_t *batch = &outcome->batches.batch[b];
                const bool owed = expected(outcome, job, kind, group, b);
                for (int64_t t = 0; t < batch->tokens; t++) {
                    const int64_t row = group * tokens + batch->first_token + t;
                    const int32_t seen = got->seen[kind][row];
                    unseen += seen != owed && !(failed && seen == 0);
                    if (!owed || seen == 0)
                        continue;
                    LODE_CHECK(want->seen[kind][row] == 1);
                    if (kind == LOSSES)
                        wrong += memcmp(&got->losses[row], &want->losses[row], 8) != 0 ||
                                 got->greedy[row] != want->greedy[row];
                    else
                        wrong += memcmp(got->values[kind] + row * width,
                                        want->values[kind] + row * width,
                                        (size_t)width * sizeof(float)) != 0;
                }
            }
        if (wrong || unseen)
            fprintf(stderr, "rank %d of %d, kind %d: %lld rows differ, %lld not seen once\n",
                    world.rank, world.size, k, (long long)wrong, (long long)unseen);
        LODE_CHECK(wrong == 0);
        LODE_CHECK(unseen == 0);
    }
}

/* The tensors that were mapped are exactly those of this rank. */
static void check_bytes(const outcome_t *outcome) {
    const lode_layout_t *layout = &outcome->layout;
    const bool tied = lode_checkpoint_architecture(outcome->checkpoint)->tied;
    int64_t bytes = 0, all = 0;
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(outcome->checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(outcome->checkpoint, i);
        bool own = info.owner >= layout->first_layer && info.owner < layout->layer_end;
        if (info.owner == LODE_OWNER_EMBEDDING)
            own = layout->embedding || (tied && layout->head);
        if (info.owner == LODE_OWNER_FINAL_NORM || info.owner == LODE_OWNER_HEAD)
            own = layout->head;
        LODE_CHECK(info.owner != LODE_OWNER_UNUSED);
        LODE_CHECK(info.mapped_ever == own);
        bytes += own ? info.bytes : 0;
        all += info.bytes;
    }
    LODE_CHECK(lode_checkpoint_bytes_mapped_ever(outcome->checkpoint) == bytes);
    LODE_CHECK(lode_checkpoint_bytes_mapped(outcome->checkpoint) == bytes);
    LODE_CHECK(layout->stages == 1 || bytes < all);
}

/* Runs the job on all ranks and compares with what one rank computed alone. */
static void run_and_compare(const job_t *job, const record_t *alone) {
    outcome_t outcome;
    record_t record = record_create();
    LODE_CHECK(run(&world, job, &record, &outcome) == LODE_OK);
    compare(&outcome, job, &record, alone, false);
    check_bytes(&outcome);
    outcome_free(&outcome);
    record_free(&record);
}

static record_t run_alone(const job_t *job) {
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    outcome_t outcome;
    record_t record = record_create();
    LODE_REQUIRE(run(&self, job, &record, &outcome) == LODE_OK);
    compare(&outcome, job, &record, &record, false); /* all of it was seen */
    check_bytes(&outcome);
    outcome_free(&outcome);
    return record;
}

/* --- checkpoints ---------------------------------------------------------------------------- */

/* Writes a random model under the test's folder and gives everybody its path. */
static void write_model(char path[600], const char *name, lode_dtype_t dtype, bool tied,
                        int shards) {
    const lode_architecture_t architecture = {.layers = LAYERS,
                                              .hidden = D,
                                              .intermediate = M,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .head_dim = 8,
                                              .vocab = VOCAB,
                                              .max_positions = 64,
                                              .norm_eps = 1e-5,
                                              .rotary.theta = 1e4,
                                              .tied = tied,
                                              .bos = 1,
                                              .eos = 2};
    snprintf(path, 600, "%s/%s", folder, name);
    if (world.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, dtype, shards, 5) == LODE_OK);
    }
    MPI_Barrier(world.comm);
}

/* Puts a NaN `from_end` bytes before the end of a float32 checkpoint's weights. */
static void damage(const char *model, int64_t from_end) {
    if (world.rank == 0) {
        char path[700];
        snprintf(path, sizeof path, "%s/model.safetensors", model);
        FILE *file = fopen(path, "r+b");
        const float nan = NAN;
        LODE_REQUIRE(file != NULL);
        LODE_CHECK(fseek(file, (long)-from_end, SEEK_END) == 0);
        LODE_CHECK(fwrite(&nan, sizeof nan, 1, file) == 1);
        LODE_CHECK(fclose(file) == 0);
    }
    MPI_Barrier(world.comm);
}

/* --- tests ---------------------------------------------------------------------------------- */

/* The gradients and losses that everything is compared with must not be trivial. */
static void check_substance(const record_t *record) {
    double gradient = 0, loss = 0;
    int64_t largest = 0;
    for (int64_t i = 0; i < LAYERS * tokens * M; i++)
        gradient += fabs((double)record->values[GRADIENTS][i]);
    for (int64_t t = 0; t < tokens; t++) {
        loss += record->losses[t];
        LODE_CHECK((record->losses[t] > 0) == (target[t] >= 0));
        const float *logits = record->values[LOGITS] + t * VOCAB;
        bool greedy = target[t] >= 0;
        for (int64_t j = 0; greedy && j < VOCAB; j++)
            greedy = logits[j] < logits[target[t]] || j == target[t];
        LODE_CHECK(record->greedy[t] == greedy);
        largest += greedy;
    }
    LODE_CHECK(largest > 0);
    LODE_CHECK(gradient > 1e-3 && isfinite(gradient));
    LODE_CHECK(loss > (double)tokens && isfinite(loss));
    LODE_CHECK(memcmp(record->values[CHANNELS], record->values[CHANNELS_AGAIN],
                      (size_t)(LAYERS * tokens * M) * sizeof(float)) == 0);
}

/* Makes what the model finds most likely the target of some positions. */
static void ask_for_largest(const record_t *record) {
    for (int64_t t = 0; t < tokens; t += 4) {
        const float *logits = record->values[LOGITS] + t * VOCAB;
        int32_t largest = 0;
        for (int32_t j = 1; j < VOCAB; j++)
            largest = logits[j] > logits[largest] ? j : largest;
        target[t] = target[t] < 0 ? -1 : largest;
    }
}

/* Losses of a pass whose head sees scored positions alone. */
static void check_compact(const job_t *full, const record_t *alone) {
    job_t job = *full;
    job.backward = false;
    job.compact = true;
    record_t compact = run_alone(&job);
    for (int64_t t = 0; t < tokens; t++) {
        LODE_CHECK(fabs(compact.losses[t] - alone->losses[t]) <= 1e-6 * (1 + alone->losses[t]));
        LODE_CHECK(target[t] >= 0 || compact.losses[t] == 0);
        LODE_CHECK(compact.greedy[t] == alone->greedy[t]);
    }
    run_and_compare(&job, &compact);
    record_free(&compact);
}

static void check_variants(const job_t *full, const record_t *alone) {
    job_t job = *full;
    job.backward = false;
    job.variants = VARIANTS;
    record_t variants = run_alone(&job);
    LODE_CHECK(memcmp(variants.losses, alone->losses, (size_t)tokens * 8) == 0);
    for (int64_t t = 0; t < tokens; t++) /* all channels by name: converted, but the same sums */
        LODE_CHECK(fabs(variants.losses[3 * tokens + t] - alone->losses[t]) <= 1e-5);
    LODE_CHECK(memcmp(variants.losses, variants.losses + tokens, (size_t)tokens * 8) != 0);
    LODE_CHECK(memcmp(variants.losses, variants.losses + 2 * tokens, (size_t)tokens * 8) != 0);
    for (job.replicas = 0; job.replicas <= 2 && job.replicas <= world.size; job.replicas++)
        run_and_compare(&job, &variants);
    record_free(&variants);
}

/* Layers that all ranks computed together. */
static int64_t layers_run(const record_t *record) {
    int64_t sum = record->layers_run;
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT64_T, MPI_SUM, world.comm);
    return sum;
}

/* Whether what is in common is computed once changes nothing but how much is computed. */
static void check_sharing(const job_t *full) {
    job_t job = *full;
    job.backward = false;
    job.compact = true;
    job.tree = true;
    job.variants = SHARING;
    record_t alone = run_alone(&job);
    for (int64_t v = 0; v < SHARING; v++) {
        const bool equal = tree_start[v] == LAYERS;
        const int64_t other = tree_parent[v] < 0 ? (v + 5) % SHARING : tree_parent[v];
        LODE_CHECK((memcmp(alone.losses + v * tokens, alone.losses + other * tokens,
                           (size_t)tokens * 8) == 0) == equal);
    }
    job.sharing = true;
    for (job.replicas = 0; job.replicas <= 3 && job.replicas <= world.size; job.replicas++) {
        int64_t before = INT64_MAX;
        for (job.budget = BUDGET_LEAST; job.budget <= BUDGET_ALL; job.budget++) {
            outcome_t outcome;
            record_t record = record_create();
            LODE_CHECK(run(&world, &job, &record, &outcome) == LODE_OK);
            compare(&outcome, &job, &record, &alone, false);
            const int64_t run_now = layers_run(&record), count = outcome.batches.count;
            LODE_CHECK(run_now <= before);
            /* a micro-batch that replicas share is computed with less in common */
            const bool divided = count % outcome.layout.replicas != 0;
            if (job.budget == BUDGET_LEAST)
                LODE_CHECK(run_now == count * TREE_MOST || divided);
            if (job.budget == BUDGET_ALL)
                LODE_CHECK(run_now == count * TREE_FEWEST || divided);
            LODE_CHECK(run_now >= count * TREE_FEWEST);
            before = run_now;
            outcome_free(&outcome);
            record_free(&record);
        }
    }
    record_free(&alone);
}

static void test_model(const char *name, lode_dtype_t dtype, bool tied, int shards,
                       const lode_text_t *text) {
    char path[600];
    write_model(path, name, dtype, tied, shards);
    job_t job = {.checkpoint = path,
                 .text = text,
                 .variants = 1,
                 .backward = true,
                 .head_batches = -1,
                 .budget = BUDGET_ALL};
    record_t alone = run_alone(&job);
    ask_for_largest(&alone);
    record_free(&alone);
    alone = run_alone(&job);
    check_substance(&alone);
    for (job.replicas = 0; job.replicas <= 2 && job.replicas <= world.size; job.replicas++)
        for (job.budget = BUDGET_LEAST; job.budget <= BUDGET_ALL; job.budget++)
            run_and_compare(&job, &alone);
    job.replicas = 0;
    job.budget = BUDGET_LEAST;
    job_t forward = job;
    forward.backward = false;
    run_and_compare(&forward, &alone);
    for (forward.head_batches = 0; forward.head_batches < 3; forward.head_batches++)
        run_and_compare(&forward, &alone);
    check_compact(&job, &alone);
    check_variants(&job, &alone);
    if (dtype == LODE_DTYPE_F16)
        check_sharing(&job);
    record_free(&alone);
}

/* Whether the rank would call an observer often enough to fail as it is asked to. */
static bool can_fail(int rank, int64_t replicas, bool backward) {
    const lode_architecture_t architecture = {.layers = LAYERS,
                                              .hidden = D,
                                              .intermediate = M,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .head_dim = 8,
                                              .vocab = VOCAB};
    lode_layout_t layout;
    LODE_REQUIRE(lode_layout_create(&layout, &architecture, 40, world.size, rank, replicas) ==
                 LODE_OK);
    return layout.replica >= 0 && (!backward || layout.layer_end > layout.first_layer);
}

/* An observer that fails on one rank: all ranks return its error, nobody waits for ever, and nobody
 * is shown what was computed from nothing. */
static void test_failures(const job_t *job) {
    record_t alone = run_alone(job);
    for (int rank = 0; rank < world.size; rank++)
        for (int64_t after = 0; after <= 2; after += 2)
            for (int backward = 0; backward < 2; backward++) {
                if ((backward && !job->backward) || !can_fail(rank, job->replicas, backward))
                    continue;
                outcome_t outcome;
                record_t record = record_create();
                if (rank == world.rank)
                    record.fail_with = LODE_ERR_INPUT;
                record.fail_after = after;
                record.fail_backward = backward;
                char want[100];
                snprintf(want, sizeof want, "the failure that rank %d was asked for", rank);
                LODE_CHECK(run(&world, job, &record, &outcome) == LODE_ERR_INPUT);
                LODE_CHECK(strcmp(lode_error_message(), want) == 0);
                compare(&outcome, job, &record, &alone, true);
                outcome_free(&outcome);
                record_free(&record);
            }
    record_free(&alone);
}

/* Marks the micro-batches whose rows all ranks together have seen, which is each row or none: what
 * is begun is ended. Only where replicas share the variants of one micro-batch, some of them may
 * have ended their part and others not have begun. Returns how many. */
static int64_t find_done(const outcome_t *outcome, const job_t *job, const record_t *record,
                         uint8_t *done) {
    int64_t count = 0;
    for (int64_t b = 0; b < outcome->batches.count; b++) {
        const lode_batch_t *batch = &outcome->batches.batch[b];
        int64_t seen = 0;
        for (int64_t v = 0; v < job->variants; v++)
            for (int64_t t = 0; t < batch->tokens; t++)
                seen += record->seen[LOSSES][v * tokens + batch->first_token + t];
        for (int64_t l = 0; l < LAYERS && job->backward; l++)
            for (int64_t t = 0; t < batch->tokens; t++)
                seen += record->seen[GRADIENTS][l * tokens + batch->first_token + t];
        MPI_Allreduce(MPI_IN_PLACE, &seen, 1, MPI_INT64_T, MPI_SUM, world.comm);
        const int64_t all = batch->tokens * (job->variants + (job->backward ? LAYERS : 0));
        LODE_CHECK(seen == 0 || seen == all ||
                   (job->variants > 1 && outcome->layout.replicas > 1 && seen < all));
        done[b] = seen == all;
        count += done[b];
    }
    return count;
}

/* Stopped at every moment, as one rank sees it, and gone on from there: all micro-batches are seen
 * once, by the one run or the other, and have the same bits. Returns how many different numbers of
 * micro-batches were done first. */
static void test_stops(const job_t *whole) {
    record_t alone = run_alone(whole);
    bool had[SEQUENCES + 1] = {false};
    int64_t different = 0, count = 0;
    for (int64_t after = 1; after < 400; after += world.size == 1 ? 10 : 7) {
        job_t job = *whole;
        outcome_t outcome;
        uint8_t done[SEQUENCES] = {0};
        record_t first = record_create(), second = record_create();
        first.stop_after = world.rank == after % world.size ? after : 0;
        const lode_status_t status = run(&world, &job, &first, &outcome);
        count = outcome.batches.count;
        LODE_CHECK(status == LODE_OK || status == LODE_STOPPED);
        LODE_CHECK(status == LODE_OK || strstr(lode_error_message(), "run the same command again"));
        const int64_t left = count - find_done(&outcome, &job, &first, done);
        LODE_CHECK((left == 0) == (status == LODE_OK));
        different += !had[left];
        had[left] = true;
        outcome_free(&outcome);
        lode_stop_after(0);
        job.done = done;
        LODE_CHECK(run(&world, &job, &second, &outcome) == LODE_OK);
        compare(&outcome, &job, &second, &alone, true);
        for (int64_t b = 0; b < count; b++)
            done[b] = !done[b];
        uint8_t rest[SEQUENCES];
        find_done(&outcome, &job, &second, rest);
        LODE_CHECK(memcmp(rest, done, (size_t)count) == 0);
        outcome_free(&outcome);
        record_free(&first);
        record_free(&second);
        if (status == LODE_OK)
            break;
    }
    /* A long pipeline may have begun every micro-batch before the first stage hears of a stop. */
    LODE_CHECK(different >= (world.size == 1 ? count : world.size <= 3 ? 2 : 1));
    record_free(&alone);
}

/* Too little memory on one rank alone, and weights that are no numbers. */
static void test_errors(const job_t *sound) {
    job_t job = *sound;
    outcome_t outcome;
    record_t record = record_create();
    if (world.rank == world.size / 2)
        job.budget = BUDGET_TOO_SMALL;
    const bool idle = !can_fail(world.size / 2, job.replicas, false);
    LODE_CHECK(run(&world, &job, &record, &outcome) == (idle ? LODE_OK : LODE_ERR_MEMORY));
    LODE_CHECK(idle || strstr(lode_error_message(), "memory budget"));
    outcome_free(&outcome);
    record_free(&record);
    record = record_create();
    job.budget = BUDGET_NO_SPILL;
    LODE_CHECK(run(&world, &job, &record, &outcome) == LODE_ERR_MEMORY);
    LODE_CHECK(strstr(lode_error_message(), "memory budget"));
    outcome_free(&outcome);
    record_free(&record);

    char path[600];
    const struct {
        const char *name, *part;
        int64_t from_end;
    } cases[] = {
        {"nan-head", "the loss is not finite", VOCAB * D * 4},
        {"nan-layer", "layer 4 gives NaN", (VOCAB * D + D + D * M) * 4}, /* its down projection */
    };
    job = *sound;
    job.checkpoint = path;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_model(path, cases[i].name, LODE_DTYPE_F32, false, 1);
        damage(path, cases[i].from_end);
        record = record_create();
        LODE_CHECK(run(&world, &job, &record, &outcome) == LODE_ERR_NUMERIC);
        LODE_CHECK(strstr(lode_error_message(), cases[i].part));
        outcome_free(&outcome);
        record_free(&record);
    }
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_log_enable(false);
    lode_set_threads(1);
    lode_test_temporary_shared(folder, sizeof folder, &world);
    const lode_text_t text = make_text();
    test_model("float", LODE_DTYPE_F32, false, 1, &text);
    test_model("half", LODE_DTYPE_F16, true, 3, &text);
    test_model("brain", LODE_DTYPE_BF16, false, 2, &text);
    char path[600];
    write_model(path, "sound", LODE_DTYPE_F32, false, 1);
    job_t job = {.checkpoint = path,
                 .text = &text,
                 .variants = 1,
                 .backward = true,
                 .head_batches = -1,
                 .budget = BUDGET_ALL};
    test_failures(&job);
    test_stops(&job);
    test_errors(&job);
    job.backward = false;
    job.compact = job.tree = job.sharing = true;
    job.variants = SHARING;
    test_failures(&job);
    test_stops(&job);
    free(ids);
    free(target);
    free(weight);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
