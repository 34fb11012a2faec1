/* Edited feed-forward blocks against their formula y = x' + u·Wdownᵀ + b, written out in double
 * from what the unedited layer computes; and variants of a model through the shared evaluator,
 * against a model whose layers were edited by hand. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "common/evaluation.h"
#include "common/edits.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/temporary.h"
#include "transformer/pass.h"

enum { LAYERS = 3, D = 24, M = 52, VOCAB = 61, TOKENS = 40, SEQUENCES = 3, LONGEST = 16 };

static const lode_architecture_t architecture = {.layers = LAYERS,
                                                 .hidden = D,
                                                 .intermediate = M,
                                                 .heads = 3,
                                                 .kv_heads = 3,
                                                 .head_dim = 8,
                                                 .vocab = VOCAB,
                                                 .max_positions = 64,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 1e4,
                                                 .bos = 1,
                                                 .eos = 2};
static lode_comm_t self;
static const int64_t offsets[] = {0, 16, 26, 40};
static int32_t ids[TOKENS], targets[TOKENS];

/* --- a model -------------------------------------------------------------------------------- */

/* A random model in a folder of its own, with what a stage is given. */
typedef struct model {
    lode_run_t run;
    lode_config_t config;
    lode_batches_t batches;
    lode_stack_t *stack;
} model_t;

static const lode_text_t text = {
    .sequences = SEQUENCES, .offsets = offsets, .ids = ids, .target = targets};

static void model_open(model_t *model, const char *name, lode_dtype_t dtype) {
    char *folder;
    lode_run_t *run = &model->run;
    *model = (model_t){.config = {.threads = 1, .memory = 1 << 28, .micro_batch = 20}};
    *run = (lode_run_t){.comm = &self, .config = &model->config};
    LODE_ASSERT_OK(lode_path_join(&folder, lode_test_temporary(), name));
    LODE_ASSERT_OK(lode_directory_create(folder));
    LODE_ASSERT_OK(lode_test_write_checkpoint(folder, &architecture, dtype, 1, 3));
    LODE_ASSERT_OK(lode_checkpoint_open(&run->checkpoint, folder));
    run->architecture = *lode_checkpoint_architecture(run->checkpoint);
    run->folder = folder;
    LODE_ASSERT_OK(lode_layout_create(&run->layout, &run->architecture, LONGEST, 1, 0, 0));
    LODE_ASSERT_OK(lode_batches_create(&model->batches, &text, model->config.micro_batch));
    LODE_ASSERT_OK(
        lode_stack_create(&model->stack, run->checkpoint, &run->layout, TOKENS, LONGEST, 1));
}

static void model_close(model_t *model) {
    lode_stack_destroy(&model->stack);
    lode_batches_destroy(&model->batches);
    lode_checkpoint_close(&model->run.checkpoint);
    free(model->run.folder);
}

/* --- one layer ------------------------------------------------------------------------------ */

/* What a layer makes of random hidden states: x' and u are of the unedited layer. */
typedef struct layer_run {
    lode_real_t x[TOKENS * D], y[TOKENS * D], x_mid[TOKENS * D], u[TOKENS * M];
    lode_real_t *memory;
} layer_run_t;

static void run_layer(layer_run_t *out, const model_t *model, int64_t index) {
    const lode_sequences_t sequences = {.count = SEQUENCES, .offsets = offsets};
    const lode_layer_t *whole = &model->stack->whole[index], *layer = &model->stack->layer[index];
    const uint64_t key = lode_random_key(5, "x", 0, 0);
    lode_activations_t act;
    const lode_real_t *u;
    LODE_ASSERT_OK(LODE_NEW(&out->memory, TOKENS * lode_activations_per_token(whole), "test"));
    lode_activations_place(&act, whole, TOKENS, out->memory);
    for (int64_t i = 0; i < TOKENS * D; i++)
        out->x[i] = (lode_real_t)(lode_random_below(key, (uint64_t)i, 2001) / 1000.0 - 1);
    act.x = out->x;
    lode_layer_forward(layer, &sequences, &act, out->y, model->stack->workspace, NULL, &u);
    memcpy(out->x_mid, act.x_mid, sizeof out->x_mid);
    memcpy(out->u, u, (size_t)(TOKENS * layer->m) * sizeof *u);
    free(out->memory);
}

static double stored_down(const lode_layer_t *layer, int64_t row, int64_t column) {
    lode_real_t value;
    lode_convert(&value,
                 (const char *)layer->down.data +
                     (size_t)(row * M + column) * lode_dtype_size(layer->down.dtype),
                 layer->down.dtype, 1);
    return value;
}

/* Checks one edit of layer 1; `down` [D, count] as floats, or NULL. */
static void check_edit(const model_t *model, const lode_layer_edit_t *edit, const float *down) {
    static layer_run_t plain, edited;
    static double want[TOKENS * D];
    const int64_t count = edit->channels ? edit->count : M;
    run_layer(&plain, model, 1);
    lode_stack_edit(model->stack, 1, edit);
    run_layer(&edited, model, 1);
    lode_stack_edit(model->stack, 1, NULL);
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t i = 0; i < D; i++) {
            double sum = (double)plain.x_mid[t * D + i];
            for (int64_t k = 0; k < count; k++) {
                const int64_t j = edit->channels ? edit->channels[k] : k;
                sum += (double)plain.u[t * M + j] *
                       (down ? (double)down[i * count + k]
                             : stored_down(&model->stack->whole[1], i, j));
            }
            want[t * D + i] = sum + (edit->bias ? (double)edit->bias[i] : 0);
        }
    LODE_ASSERT_CLOSE(lode_compare_f32("y", edited.y, TOKENS * D, want, TOKENS * D, 2e-6, 2e-6));
    static layer_run_t again;
    run_layer(&again, model, 1);
    assert_memory_equal(again.y, plain.y, sizeof plain.y);
}

static void formula(const char *name, lode_dtype_t dtype) {
    static float bytes[D * M + 1], bias[D];
    static int32_t channels[M];
    model_t model;
    int64_t count = 0;
    model_open(&model, name, dtype);
    const uint64_t key = lode_random_key(6, "down", 0, 0);
    for (int64_t i = 0; i < D * M + 1; i++)
        bytes[i] = (float)lode_random_below(key, (uint64_t)i, 2001) / 5000 - 0.2F;
    for (int64_t i = 0; i < D; i++)
        bias[i] = (float)i / 7 - 1;
    for (int32_t j = 0; j < M; j++)
        if (j % 3 != 1)
            channels[count++] = j;
    const lode_tensor_t kept = lode_tensor_matrix(bytes, LODE_DTYPE_F32, D, count);
    const lode_tensor_t all = lode_tensor_matrix(bytes, LODE_DTYPE_F32, D, M);
    const lode_tensor_t none = lode_tensor_matrix(bytes, LODE_DTYPE_F32, D, 0);
    check_edit(&model, &(lode_layer_edit_t){0}, NULL);
    check_edit(&model, &(lode_layer_edit_t){.bias = bias}, NULL);
    check_edit(&model, &(lode_layer_edit_t){.channels = channels, .count = count}, NULL);
    check_edit(&model, &(lode_layer_edit_t){.channels = channels, .count = count, .bias = bias},
               NULL);
    check_edit(&model, &(lode_layer_edit_t){.channels = channels, .count = count, .down = kept},
               bytes);
    check_edit(
        &model,
        &(lode_layer_edit_t){.channels = channels, .count = count, .down = kept, .bias = bias},
        bytes);
    check_edit(&model, &(lode_layer_edit_t){.down = all}, bytes);
    check_edit(&model, &(lode_layer_edit_t){.channels = channels, .bias = bias}, NULL);
    check_edit(&model, &(lode_layer_edit_t){.channels = channels, .down = none, .bias = bias},
               bytes);
    /* bytes that are not aligned to their elements */
    static char shifted[sizeof bytes + 1];
    memcpy(shifted + 1, bytes, sizeof bytes);
    lode_tensor_t unaligned = kept;
    unaligned.data = shifted + 1;
    check_edit(&model,
               &(lode_layer_edit_t){.channels = channels, .count = count, .down = unaligned},
               bytes);
    model_close(&model);
}

static void formula_float(void **state) {
    (void)state;
    formula("float", LODE_DTYPE_F32);
}

static void formula_brain(void **state) {
    (void)state;
    formula("brain", LODE_DTYPE_BF16);
}

/* --- variants of a model -------------------------------------------------------------------- */

enum { VARIANTS = 7 };

/* Which edit a variant makes of each layer; equal letters are equal edits. Variant 3 equals 1, 4
 * has two layers of it, 5 one, and 6 begins like none. */
static const char *const letters[VARIANTS] = {"---", "abc", "-bc", "abc", "aba", "acc", "ccc"};

typedef struct variants {
    int32_t channels[LAYERS][M]; /* of the last question about each layer */
    float bias[D];
    double losses[VARIANTS][TOKENS];
    int64_t calls[VARIANTS];
    int64_t only; /* the variant that is run by itself, −1 for all */
} variants_t;

static lode_status_t on_edit(void *context, int64_t variant, int64_t layer,
                             lode_layer_edit_t *edit) {
    variants_t *variants = context;
    const char letter = letters[variants->only < 0 ? variant : variants->only][layer];
    int32_t *channels = variants->channels[layer];
    if (letter == '-')
        return LODE_OK;
    for (int32_t j = 0; j < M; j++)
        if (j % 4 != letter - 'a')
            channels[edit->count++] = j;
    edit->channels = channels;
    if (letter == 'b')
        edit->bias = variants->bias;
    return LODE_OK;
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)greedy;
    variants_t *variants = context;
    const int64_t v = variants->only < 0 ? variant : variants->only;
    memcpy(variants->losses[v] + batch->first_token, nll, (size_t)batch->tokens * sizeof *nll);
    variants->calls[v] += batch->tokens;
    return LODE_OK;
}

static variants_t new_variants(int64_t only) {
    variants_t variants = {.only = only};
    for (int64_t i = 0; i < D; i++)
        variants.bias[i] = 0.1F * (float)(i % 5);
    return variants;
}

static void check_sharing(const model_t *model, variants_t *variants) {
    static const int64_t parents[] = {-1, -1, -1, 1, 1, 1, -1}, starts[] = {0, 0, 0, 3, 2, 1, 0};
    int64_t selected[] = {0, 1, 2, 3, 4, 5, 6}, parent[VARIANTS], start[VARIANTS];
    lode_edit_digests_t digests;
    LODE_ASSERT_OK(lode_edit_digests_create(&digests, &model->run, VARIANTS, on_edit, variants));
    LODE_ASSERT_OK(lode_edit_digests_share(&digests, selected, VARIANTS, parent, start));
    /* variant 2 has the unpruned model's first layer */
    for (int64_t v = 0; v < VARIANTS; v++) {
        assert_int_equal(parent[v], v == 2 ? 0 : parents[v]);
        assert_int_equal(start[v], v == 2 ? 1 : starts[v]);
    }
    assert_string_equal(digests.variant[1], digests.variant[3]);
    for (int64_t v = 0; v < VARIANTS; v++)
        for (int64_t w = 0; w < v; w++)
            assert_int_equal(strcmp(digests.variant[v], digests.variant[w]) == 0, v == 3 && w == 1);
    /* among some of them: places in the selection count */
    const int64_t some[] = {2, 3, 5, 4};
    LODE_ASSERT_OK(lode_edit_digests_share(&digests, some, 4, parent, start));
    assert_true(parent[0] == -1 && parent[1] == -1 && parent[2] == 1 && parent[3] == 1);
    assert_true(start[2] == 1 && start[3] == 2);
    lode_edit_digests_free(&digests);
}

static void evaluator(void **state) {
    (void)state;
    static variants_t together, alone;
    model_t model;
    model_open(&model, "variants", LODE_DTYPE_F16);
    together = new_variants(-1);
    lode_evaluation_t evaluation = {.stage = "test",
                                    .text = &text,
                                    .variants = VARIANTS,
                                    .context = &together,
                                    .edit = on_edit,
                                    .losses = on_losses};
    check_sharing(&model, &together);
    LODE_ASSERT_OK(lode_evaluation_run(&model.run, &evaluation));
    for (int64_t v = 0; v < VARIANTS; v++) {
        alone = new_variants(v);
        evaluation.context = &alone;
        evaluation.variants = 1;
        LODE_ASSERT_OK(lode_evaluation_run(&model.run, &evaluation));
        assert_int_equal(together.calls[v], TOKENS);
        assert_int_equal(alone.calls[v], TOKENS);
        assert_memory_equal(together.losses[v], alone.losses[v], sizeof alone.losses[v]);
        for (int64_t w = 0; w < v; w++)
            assert_int_equal(
                memcmp(together.losses[v], together.losses[w], sizeof together.losses[v]) == 0,
                strcmp(letters[v], letters[w]) == 0);
    }
    model_close(&model);
}

/* --- edits that stages left ------------------------------------------------------------------ */

static lode_store_t *create(model_t *model, lode_stage_t stage) {
    lode_store_t *store;
    memset(model->run.fingerprint[stage], 'a' + (int)stage, LODE_DIGEST_TEXT - 1);
    LODE_ASSERT_OK(lode_run_create(&store, &model->run, stage));
    return store;
}

static void commit(model_t *model, lode_store_t *store, lode_stage_t stage) {
    const lode_provenance_t provenance = {.fingerprint = model->run.fingerprint[stage]};
    LODE_ASSERT_OK(lode_store_provenance(store, &provenance));
    LODE_ASSERT_OK(lode_store_commit(&store));
}

enum { KEPT = 40 };

/* prune.h5 and compensate.h5 as their stages write them; the down projections of layer l have
 * `columns` columns, KEPT where they fit the masks. */
static void write_stages(model_t *model, const lode_variant_t *variants, int64_t count,
                         int64_t columns) {
    static uint8_t keep[LAYERS * M];
    static float down[D * M];
    static double bias[LAYERS * D];
    const int64_t masks[] = {LAYERS, M}, zero[] = {0, 0}, projection[] = {D, columns},
                  biases[] = {LAYERS, D};
    for (int64_t i = 0; i < LAYERS * M; i++)
        keep[i] = (i + i / M) % M < KEPT; /* every layer removes others */
    for (int64_t i = 0; i < LAYERS * D; i++)
        bias[i] = 0.5 * (double)i;
    lode_store_t *store = create(model, LODE_STAGE_PRUNE);
    char path[128];
    for (int64_t v = 0; v < count; v++) {
        snprintf(path, sizeof path, "/keep/%s", variants[v].name);
        LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_U8, 2, masks, false));
        LODE_ASSERT_OK(lode_store_write(store, path, zero, masks, keep));
    }
    commit(model, store, LODE_STAGE_PRUNE);
    store = create(model, LODE_STAGE_COMPENSATE);
    for (int64_t l = 0; l < LAYERS; l++) {
        for (int64_t i = 0; i < D * columns; i++)
            down[i] = (float)(i + 1000 * l);
        snprintf(path, sizeof path, "/down/%s/%lld", variants[1].name, (long long)l);
        LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_F32, 2, projection, false));
        LODE_ASSERT_OK(lode_store_write(store, path, zero, projection, down));
    }
    snprintf(path, sizeof path, "/bias/%s", variants[2].name);
    LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_F64, 2, biases, false));
    LODE_ASSERT_OK(lode_store_write(store, path, zero, biases, bias));
    commit(model, store, LODE_STAGE_COMPENSATE);
}

static void compensated(void **state) {
    (void)state;
    static char names[3][40] = {"lp@0.25", "lp@0.25+least-squares", "lp@0.25+bias"};
    const lode_variant_t variants[] = {
        {.name = names[0], .pruned = true, .base = -1},
        {.name = names[1],
         .pruned = true,
         .base = -1,
         .compensation = LODE_COMPENSATION_LEAST_SQUARES},
        {.name = names[2], .pruned = true, .base = -1, .compensation = LODE_COMPENSATION_BIAS}};
    lode_edits_t *edits;
    model_t model;
    model_open(&model, "compensated", LODE_DTYPE_F32);
    write_stages(&model, variants, 3, KEPT);
    LODE_ASSERT_OK(lode_edits_open(&edits, &model.run, variants, 3));
    for (int64_t v = 0; v < 3; v++)
        for (int64_t l = 0; l < LAYERS; l++) {
            const lode_layer_edit_t edit = lode_edits_of(edits, v, l);
            assert_int_equal(edit.count, KEPT);
            for (int64_t k = 0; k < KEPT; k++)
                assert_true((edit.channels[k] + l * M + l) % M < KEPT &&
                            (k == 0 || edit.channels[k] > edit.channels[k - 1]));
            assert_int_equal(edit.down.data != NULL, v == 1);
            if (v == 1)
                assert_true(((const float *)edit.down.data)[KEPT + 3] ==
                            (float)(KEPT + 3 + 1000 * l));
            assert_int_equal(edit.bias != NULL, v == 2);
            if (v == 2)
                assert_true(edit.bias[5] == 0.5F * (float)(l * D + 5));
        }
    /* A bit for each channel of each variant, one layer's channels and bias for each layer, and of
     * each variant the place of its mask and where its bias lies. */
    const int64_t masks = 3 * LAYERS * ((M + 7) / 8 + (int64_t)sizeof(int32_t));
    const int64_t down =
        3 * (LAYERS * (int64_t)sizeof(lode_tensor_t) + (int64_t)(sizeof(int64_t) + sizeof(void *)));
    assert_int_equal(lode_edits_memory(edits), masks + down + LAYERS * (M + D) * 4);
    lode_edits_close(&edits);

    write_stages(&model, variants, 3, KEPT - 1);
    LODE_ASSERT_FAILS(lode_edits_open(&edits, &model.run, variants, 3), LODE_ERR_SHAPE,
                      "does not have the shape [24, 40]");
    assert_null(edits);
    LODE_ASSERT_OK(lode_edits_open(&edits, &model.run, variants, 1)); /* needs no compensation */
    assert_null(lode_edits_of(edits, 0, 0).down.data);
    lode_edits_close(&edits);
    model_close(&model);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    self = lode_comm_describe(MPI_COMM_SELF);
    lode_log_enable(false);
    lode_set_threads(1);
    const uint64_t key = lode_random_key(4, "ids", 0, 0);
    for (int64_t t = 0; t < TOKENS; t++)
        ids[t] = (int32_t)lode_random_below(key, (uint64_t)t, VOCAB);
    for (int64_t t = 0; t < TOKENS; t++)
        targets[t] = t + 1 == 16 || t + 1 == 26 || t + 1 == TOKENS ? -1 : ids[t + 1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formula_float),
        cmocka_unit_test(formula_brain),
        cmocka_unit_test(evaluator),
        cmocka_unit_test(compensated),
    };
    const int result = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return result;
}
