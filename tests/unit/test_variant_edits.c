/* Edits of experiments and of quantized variants, from files written by hand as the stages write
 * them: what is changed where, at the positions of pruned matrices too, and what is refused. */
#include "testing/cmocka_all.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/edits.h"
#include "kernels/codec.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/temporary.h"

enum { LAYERS = 3, D = 24, M = 52, KV = 8, CORE = 5, COLUMNS = 64 };

static const lode_architecture_t architecture = {.layers = LAYERS,
                                                 .hidden = D,
                                                 .intermediate = M,
                                                 .heads = 3,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 61,
                                                 .max_positions = 64,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 1e4,
                                                 .bos = 1,
                                                 .eos = 2};

static lode_comm_t self;
static lode_config_t config = {.threads = 1, .memory = 1 << 28, .micro_batch = 20};
static lode_run_t run;

enum {
    PRUNED,
    COMPENSATED,
    PRUNE,
    RESTORE,
    SCALE,
    TENSOR,
    GLOBAL,
    BOTH,
    HELD,
    SMOOTH,
    MIXED,
    HELD_DENSE,
    VARIANTS
};

static char names[VARIANTS][40] = {"lp@0.3",     "lp@0.3+least-squares",
                                   "experiment", "experiment",
                                   "scaled",     "others",
                                   "others",     "both",
                                   "of-base",    "smooth",
                                   "mixed",      "held"};

static const lode_variant_t variants[VARIANTS] = {
    [PRUNED] = {.name = names[PRUNED], .pruned = true, .base = -1},
    [COMPENSATED] = {.name = names[COMPENSATED],
                     .pruned = true,
                     .compensation = LODE_COMPENSATION_LEAST_SQUARES,
                     .base = -1},
    [PRUNE] = {.name = names[PRUNE], .experiment = true, .what = LODE_EXPERIMENT_PRUNE, .base = -1},
    [RESTORE] = {.name = names[RESTORE],
                 .experiment = true,
                 .what = LODE_EXPERIMENT_RESTORE,
                 .base = -1},
    [SCALE] = {.name = names[SCALE],
               .experiment = true,
               .what = LODE_EXPERIMENT_SCALE,
               .factor = 1.5,
               .base = -1},
    [TENSOR] = {.name = names[TENSOR],
                .experiment = true,
                .what = LODE_EXPERIMENT_OTHERS_TENSOR,
                .base = -1},
    [GLOBAL] = {.name = names[GLOBAL],
                .experiment = true,
                .what = LODE_EXPERIMENT_OTHERS_GLOBAL,
                .base = -1},
    [BOTH] = {.name = names[BOTH],
              .quantized = true,
              .bits = 4,
              .granularity = {.kind = LODE_GRANULARITY_CHANNEL},
              .protection = LODE_PROTECT_BOTH,
              .base = -1},
    [HELD] = {.name = names[HELD],
              .quantized = true,
              .bits = 3,
              .granularity = {.kind = LODE_GRANULARITY_GROUP, .size = 7},
              .activations = LODE_INPUTS_TOKEN_HELD,
              .protection = LODE_PROTECT_BOTH,
              .base = COMPENSATED},
    [SMOOTH] = {.name = names[SMOOTH],
                .quantized = true,
                .bits = 8,
                .activations = LODE_INPUTS_TENSOR_SMOOTH,
                .base = -1},
    [MIXED] = {.name = names[MIXED],
               .quantized = true,
               .quantizer = LODE_QUANTIZER_LP,
               .bits = 4,
               .granularity = {.kind = LODE_GRANULARITY_BLOCK, .size = 3},
               .base = PRUNED},
    [HELD_DENSE] = {.name = names[HELD_DENSE],
                    .quantized = true,
                    .bits = 4,
                    .granularity = {.kind = LODE_GRANULARITY_CHANNEL},
                    .activations = LODE_INPUTS_TENSOR_HELD,
                    .base = -1},
};

/* --- files ----------------------------------------------------------------------------------- */

/* Super weights in the order they were found; the fourth's channel is pruned away. */
static const int32_t super_layer[] = {2, 1, 1, 1}, super_row[] = {5, 3, 3, 0},
                     super_channel[] = {18, 9, 41, 10};
static const double super_value[] = {-2.5, 8, 0.25, 3};

static bool is_kept(int64_t layer, int64_t j) {
    return (j + 2 * layer) % 3 != 0;
}

static int64_t kept_of(int64_t layer) {
    int64_t kept = 0;
    for (int64_t j = 0; j < M; j++)
        kept += is_kept(layer, j);
    return kept;
}

/* Place of a channel among those that a layer keeps. */
static int32_t place(int64_t layer, int64_t channel_index) {
    int32_t count = 0;
    for (int64_t j = 0; j < channel_index; j++)
        count += is_kept(layer, j);
    return count;
}

static lode_store_t *create(lode_stage_t stage) {
    lode_store_t *store;
    memset(run.fingerprint[stage], 'a' + (int)stage, LODE_DIGEST_TEXT - 1);
    LODE_ASSERT_OK(lode_run_create(&store, &run, stage));
    return store;
}

static void commit(lode_store_t *store, lode_stage_t stage) {
    const lode_provenance_t provenance = {.fingerprint = run.fingerprint[stage]};
    LODE_ASSERT_OK(lode_store_provenance(store, &provenance));
    LODE_ASSERT_OK(lode_store_commit(&store));
}

static void put(lode_store_t *store, const char *path, lode_type_t type, int axes,
                const int64_t *shape, const void *data) {
    const int64_t zero[2] = {0, 0};
    LODE_ASSERT_OK(lode_store_dataset(store, path, type, axes, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, path, zero, shape, data));
}

static float down_value(int64_t layer, int64_t row, int64_t column) {
    return (float)(row * COLUMNS + column + 10000 * layer);
}

static void write_pruned(void) {
    static uint8_t keep[LAYERS * M];
    static float down[D * M];
    const int64_t masks[] = {LAYERS, M};
    char path[128];
    for (int64_t i = 0; i < LAYERS * M; i++)
        keep[i] = is_kept(i / M, i % M);
    lode_store_t *store = create(LODE_STAGE_PRUNE);
    put(store, "/keep/lp@0.3", LODE_TYPE_U8, 2, masks, keep);
    put(store, "/keep/lp@0.3+least-squares", LODE_TYPE_U8, 2, masks, keep);
    commit(store, LODE_STAGE_PRUNE);
    store = create(LODE_STAGE_COMPENSATE);
    for (int64_t l = 0; l < LAYERS; l++) {
        const int64_t shape[] = {D, kept_of(l)};
        for (int64_t i = 0; i < D * shape[1]; i++)
            down[i] = down_value(l, i / shape[1], i % shape[1]);
        snprintf(path, sizeof path, "/down/lp@0.3+least-squares/%lld", (long long)l);
        put(store, path, LODE_TYPE_F32, 2, shape, down);
    }
    commit(store, LODE_STAGE_COMPENSATE);
}

/* Weights that others-tensor and others-global set to zero: layer, matrix, row, column. */
static const int32_t others[2][3][4] = {
    {{1, LODE_MATRIX_GATE, 51, 23}, {0, LODE_MATRIX_K, 7, 0}, {1, LODE_MATRIX_GATE, 2, 3}},
    {{2, LODE_MATRIX_DOWN, 23, 51}, {2, LODE_MATRIX_DOWN, 0, 0}, {2, LODE_MATRIX_O, 1, 1}}};

/* With the first `count` super weights, the first of them in row `row`. */
static void write_superweight(int64_t count, int32_t row) {
    static const char *const fields[] = {"layer", "matrix", "row", "col"};
    static const char *const groups[] = {"tensor", "global"};
    const int64_t three = 3;
    int32_t rows[4];
    char path[64];
    memcpy(rows, super_row, sizeof rows);
    rows[0] = row;
    lode_store_t *store = create(LODE_STAGE_SUPERWEIGHT);
    put(store, "/weights/layer", LODE_TYPE_I32, 1, &count, super_layer);
    put(store, "/weights/row", LODE_TYPE_I32, 1, &count, rows);
    put(store, "/weights/channel", LODE_TYPE_I32, 1, &count, super_channel);
    put(store, "/weights/value", LODE_TYPE_F64, 1, &count, super_value);
    for (int g = 0; g < 2; g++)
        for (int f = 0; f < 4; f++) {
            const int32_t values[] = {others[g][0][f], others[g][1][f], others[g][2][f]};
            snprintf(path, sizeof path, "/others/%s/%s", groups[g], fields[f]);
            put(store, path, LODE_TYPE_I32, 1, &three, values);
        }
    commit(store, LODE_STAGE_SUPERWEIGHT);
}

/* The last core of a layer is shorter; layer l's begins at channel 10·l. */
static void write_classify(void) {
    const int64_t shape[] = {LAYERS, CORE};
    int32_t core[LAYERS * CORE];
    for (int32_t i = 0; i < LAYERS * CORE; i++)
        core[i] = i == LAYERS * CORE - 1 ? -1 : 10 * (i / CORE) + 2 * (i % CORE);
    lode_store_t *store = create(LODE_STAGE_CLASSIFY);
    put(store, "/core", LODE_TYPE_I32, 2, shape, core);
    commit(store, LODE_STAGE_CLASSIFY);
}

static bool is_core(int64_t layer, int64_t j) {
    return j >= 10 * layer && j < 10 * layer + 10 - 2 * (layer == LAYERS - 1) &&
           (j - 10 * layer) % 2 == 0;
}

/* Extents of a matrix in a variant. */
static void extents(int64_t v, int64_t layer, int which, int64_t *out, int64_t *in) {
    static const int64_t outs[] = {D, KV, KV, D, M, M, D}, ins[] = {D, D, D, D, D, D, M};
    const bool pruned = variants[v].base >= 0;
    *out = outs[which];
    *in = ins[which];
    if (pruned && (which == LODE_MATRIX_GATE || which == LODE_MATRIX_UP))
        *out = kept_of(layer);
    if (pruned && which == LODE_MATRIX_DOWN)
        *in = kept_of(layer);
}

static int64_t blocks_of(int64_t v, int64_t layer, int which) {
    int64_t out, in;
    extents(v, layer, which, &out, &in);
    if (v == MIXED && which >= LODE_MATRIX_GATE)
        return which == LODE_MATRIX_DOWN ? in : out;
    if (v == BOTH || v == HELD_DENSE)
        return out;
    return v == SMOOTH ? 1 : v == HELD ? out * ((in + 6) / 7) : (out * in + 8) / 9;
}

/* What the parameters of a matrix begin with, so that each is told from the others. */
static float mark(int64_t v, int64_t layer, int which) {
    return (float)(v * 1000 + layer * 100 + which);
}

/* All parameters, of matrix `spoilt` of layer 1 in variant HELD one block more. */
static void write_quantize(int spoilt) {
    static float values[D * M];
    static uint8_t bits[M];
    const int64_t d = D;
    char path[128];
    memset(bits, 4, sizeof bits);
    lode_store_t *store = create(LODE_STAGE_QUANTIZE);
    for (int64_t v = BOTH; v < VARIANTS; v++)
        for (int64_t i = 0; i < LAYERS * LODE_MATRICES; i++) {
            const int64_t l = i / LODE_MATRICES;
            const int which = (int)(i % LODE_MATRICES);
            const char *name = lode_matrix_name((lode_layer_matrix_t)which);
            const int64_t blocks =
                blocks_of(v, l, which) + (v == HELD && l == 1 && which == spoilt);
            values[0] = mark(v, l, which);
            snprintf(path, sizeof path, "/variants/%s/%lld/%s/scale", names[v], (long long)l, name);
            put(store, path, LODE_TYPE_F32, 1, &blocks, values);
            values[0] = -mark(v, l, which);
            snprintf(path, sizeof path, "/variants/%s/%lld/%s/minimum", names[v], (long long)l,
                     name);
            put(store, path, LODE_TYPE_F32, 1, &blocks, values);
            snprintf(path, sizeof path, "/variants/%s/%lld/%s/%s_bits", names[v], (long long)l,
                     name, which == LODE_MATRIX_DOWN ? "col" : "row");
            if (v == MIXED && which >= LODE_MATRIX_GATE)
                put(store, path, LODE_TYPE_U8, 1, &blocks, bits);
        }
    for (int64_t l = 0; l < LAYERS; l++)
        for (int i = 0; i < 2; i++) {
            values[0] = (float)(10 * l + i);
            snprintf(path, sizeof path, "/smooth/%lld/%s", (long long)l, i ? "ffn" : "attention");
            put(store, path, LODE_TYPE_F32, 1, &d, values);
        }
    commit(store, LODE_STAGE_QUANTIZE);
}

/* --- experiments ----------------------------------------------------------------------------- */

static void assert_held(const lode_codec_t *codec, int64_t index, int32_t row, int32_t col,
                        float value) {
    assert_true(index < codec->held_count);
    assert_int_equal(codec->held[index].row, row);
    assert_int_equal(codec->held[index].col, col);
    assert_true(codec->held[index].value == value);
}

/* No matrix of the edit has a codec but those of the mask. */
static void assert_codecs(const lode_layer_edit_t *edit, unsigned mask) {
    for (int which = 0; which < LODE_MATRICES; which++)
        assert_int_equal(edit->codec[which] != NULL, mask >> which & 1);
}

static void experiments(void **state) {
    (void)state;
    lode_edits_t *edits;
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    for (int64_t v = PRUNE; v <= SCALE; v++) {
        lode_layer_edit_t edit = lode_edits_of(edits, v, 0);
        const lode_layer_edit_t nothing = {0};
        assert_memory_equal(&edit, &nothing, sizeof edit);
        edit = lode_edits_of(edits, v, 1);
        assert_codecs(&edit, 1u << LODE_MATRIX_DOWN);
        assert_null(edit.channels);
        const lode_codec_t *down = edit.codec[LODE_MATRIX_DOWN];
        assert_int_equal(down->bits, 0);
        assert_int_equal(down->dtype, LODE_DTYPE_BF16);
        assert_int_equal(down->held_count, 3);
        const float factor = v == SCALE ? 1.5F : 0;
        assert_held(down, 0, 0, 10, 3 * factor);
        assert_held(down, 1, 3, 9, 8 * factor);
        assert_held(down, 2, 3, 41, 0.25F * factor);
        assert_int_equal(edit.restore_count, v == RESTORE ? 3 : 0);
        if (v == RESTORE)
            assert_true(edit.restore[1].row == 3 && edit.restore[1].col == 9 &&
                        edit.restore[1].value == 8);
        edit = lode_edits_of(edits, v, 2);
        assert_held(edit.codec[LODE_MATRIX_DOWN], 0, 5, 18, -2.5F * factor);
    }
    lode_layer_edit_t edit = lode_edits_of(edits, TENSOR, 1);
    assert_codecs(&edit, 1u << LODE_MATRIX_GATE);
    assert_int_equal(edit.codec[LODE_MATRIX_GATE]->held_count, 2);
    assert_held(edit.codec[LODE_MATRIX_GATE], 0, 2, 3, 0);
    assert_held(edit.codec[LODE_MATRIX_GATE], 1, 51, 23, 0);
    edit = lode_edits_of(edits, TENSOR, 0);
    assert_codecs(&edit, 1u << LODE_MATRIX_K);
    edit = lode_edits_of(edits, TENSOR, 2);
    assert_codecs(&edit, 0);
    edit = lode_edits_of(edits, GLOBAL, 2);
    assert_codecs(&edit, 1u << LODE_MATRIX_DOWN | 1u << LODE_MATRIX_O);
    assert_held(edit.codec[LODE_MATRIX_DOWN], 1, 23, 51, 0);
    assert_true(lode_edits_memory(edits) <= lode_edits_plan(variants, VARIANTS, LAYERS, M, D));
    lode_edits_close(&edits);
}

/* --- quantized variants ---------------------------------------------------------------------- */

/* The parameters of all matrices are the variant's own, and as many as its matrices need. */
static void assert_parameters(const lode_layer_edit_t *edit, int64_t v, int64_t layer) {
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_codec_t *codec = edit->codec[which];
        int64_t out, in;
        assert_non_null(codec);
        extents(v, layer, which, &out, &in);
        assert_int_equal(lode_codec_blocks(codec, out, in), blocks_of(v, layer, which));
        assert_true(codec->scale[0] == mark(v, layer, which));
        assert_true(codec->minimum[0] == -mark(v, layer, which));
        assert_int_equal(codec->bits, variants[v].bits);
        assert_int_equal(codec->dtype, LODE_DTYPE_BF16);
        const bool mixed = v == MIXED && which >= LODE_MATRIX_GATE;
        assert_int_equal(codec->row_bits != NULL, mixed && which != LODE_MATRIX_DOWN);
        assert_int_equal(codec->col_bits != NULL, mixed && which == LODE_MATRIX_DOWN);
        assert_int_equal(codec->smooth != NULL,
                         v == SMOOTH && which != LODE_MATRIX_O && which != LODE_MATRIX_DOWN);
    }
}

static void assert_core(const lode_layer_edit_t *edit, int64_t layer) {
    const lode_codec_t *const *codec = edit->codec;
    const uint8_t *keep = codec[LODE_MATRIX_DOWN]->keep_col;
    assert_ptr_equal(codec[LODE_MATRIX_GATE]->keep_row, keep);
    assert_ptr_equal(codec[LODE_MATRIX_UP]->keep_row, keep);
    assert_null(codec[LODE_MATRIX_GATE]->keep_col);
    assert_null(codec[LODE_MATRIX_Q]->keep_row);
    for (int64_t k = 0; k < (edit->channels ? edit->count : M); k++)
        assert_int_equal(keep[k], is_core(layer, edit->channels ? edit->channels[k] : k));
}

static void assert_channels(const lode_input_codec_t *input, int64_t count, const int32_t *held) {
    assert_int_equal(input->bits, 8);
    assert_int_equal(input->held_count, count);
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(input->held[i], held[i]);
}

/* Protections of the dense model. */
static void protections(void **state) {
    (void)state;
    lode_edits_t *edits;
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    for (int64_t l = 0; l < LAYERS; l++) {
        const lode_layer_edit_t edit = lode_edits_of(edits, BOTH, l);
        const lode_codec_t *down = edit.codec[LODE_MATRIX_DOWN];
        assert_parameters(&edit, BOTH, l);
        assert_core(&edit, l);
        assert_int_equal(down->held_count, l == 0 ? 0 : l == 1 ? 3 : 1);
        if (l == 1)
            assert_held(down, 2, 3, 41, 0.25F);
        if (l == 2)
            assert_held(down, 0, 5, 18, -2.5F);
        for (int i = 0; i < LODE_INPUTS; i++)
            assert_null(edit.input[i]);
    }
    for (int64_t l = 0; l < LAYERS; l++) {
        const lode_layer_edit_t edit = lode_edits_of(edits, HELD_DENSE, l);
        static const int32_t rows[] = {0, 3}, channels[] = {9, 10, 41}, last[] = {18};
        assert_parameters(&edit, HELD_DENSE, l);
        assert_int_equal(edit.codec[LODE_MATRIX_DOWN]->held_count, 0);
        assert_null(edit.codec[LODE_MATRIX_DOWN]->keep_col);
        assert_true(edit.input[LODE_INPUT_DOWN]->tensor);
        assert_channels(edit.input[LODE_INPUT_ATTENTION], l == 2 ? 2 : 0, rows);
        assert_channels(edit.input[LODE_INPUT_FFN], l == 2 ? 2 : 0, rows);
        assert_channels(edit.input[LODE_INPUT_OUTPUT], 0, NULL);
        assert_channels(edit.input[LODE_INPUT_DOWN],
                        l == 0   ? 0
                        : l == 1 ? 3
                                 : 1,
                        l == 1 ? channels : last);
    }
    lode_edits_close(&edits);
}

/* The same of a compensated variant: places among the kept channels, the compensated values, and
 * nothing of what is pruned away. */
static void protections_of_pruned(void **state) {
    (void)state;
    lode_edits_t *edits;
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    assert_true(is_kept(1, 9) && !is_kept(1, 10) && is_kept(1, 41) && is_kept(2, 18));
    for (int64_t l = 0; l < LAYERS; l++) {
        const lode_layer_edit_t edit = lode_edits_of(edits, HELD, l);
        const lode_codec_t *down = edit.codec[LODE_MATRIX_DOWN];
        const int32_t places[] = {place(1, 9), place(1, 41)}, last = place(2, 18), row = 3;
        assert_parameters(&edit, HELD, l);
        assert_int_equal(edit.count, kept_of(l));
        assert_int_equal(edit.down.shape[1], kept_of(l));
        assert_core(&edit, l);
        assert_int_equal(down->held_count, l == 0 ? 0 : l == 1 ? 2 : 1);
        for (int i = 0; i < 2 && l == 1; i++)
            assert_held(down, i, 3, places[i], down_value(1, 3, places[i]));
        if (l == 2)
            assert_held(down, 0, 5, last, down_value(2, 5, last));
        assert_channels(edit.input[LODE_INPUT_DOWN], down->held_count, l == 1 ? places : &last);
        assert_channels(edit.input[LODE_INPUT_ATTENTION], l == 2, &row);
        assert_channels(edit.input[LODE_INPUT_FFN], l == 2, &row);
        assert_false(edit.input[LODE_INPUT_ATTENTION]->tensor);
    }
    lode_edits_close(&edits);
}

static void smoothing_and_mixed_precision(void **state) {
    (void)state;
    lode_edits_t *edits;
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    for (int64_t l = 0; l < LAYERS; l++) {
        lode_layer_edit_t edit = lode_edits_of(edits, SMOOTH, l);
        assert_parameters(&edit, SMOOTH, l);
        assert_ptr_equal(edit.codec[LODE_MATRIX_V]->smooth,
                         edit.input[LODE_INPUT_ATTENTION]->smooth);
        assert_ptr_equal(edit.codec[LODE_MATRIX_UP]->smooth, edit.input[LODE_INPUT_FFN]->smooth);
        assert_true(edit.input[LODE_INPUT_ATTENTION]->smooth[0] == (float)(10 * l));
        assert_true(edit.input[LODE_INPUT_FFN]->smooth[0] == (float)(10 * l + 1));
        assert_null(edit.input[LODE_INPUT_OUTPUT]->smooth);
        assert_null(edit.input[LODE_INPUT_DOWN]->smooth);
        edit = lode_edits_of(edits, MIXED, l);
        assert_parameters(&edit, MIXED, l);
        assert_null(edit.down.data);
        assert_null(edit.codec[LODE_MATRIX_DOWN]->keep_col);
    }
    lode_edits_close(&edits);
    /* feed-forward blocks alone: attention and its inputs stay as they are */
    config.quantize.tensors = LODE_QUANTIZED_FFN;
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    const lode_layer_edit_t edit = lode_edits_of(edits, SMOOTH, 1);
    assert_codecs(&edit, 1u << LODE_MATRIX_GATE | 1u << LODE_MATRIX_UP | 1u << LODE_MATRIX_DOWN);
    assert_null(edit.input[LODE_INPUT_ATTENTION]);
    assert_null(edit.input[LODE_INPUT_OUTPUT]);
    assert_non_null(edit.input[LODE_INPUT_FFN]->smooth);
    lode_edits_close(&edits);
    config.quantize.tensors = LODE_QUANTIZED_ALL;
}

/* --- what is refused ------------------------------------------------------------------------- */

static void refused(void **state) {
    (void)state;
    lode_edits_t *edits;
    write_quantize(LODE_MATRIX_DOWN);
    LODE_ASSERT_FAILS(lode_edits_open(&edits, &run, variants, VARIANTS), LODE_ERR_SHAPE,
                      "/variants/of-base/1/down/scale of quantize.h5 in ");
    assert_null(edits);
    write_quantize(-1);
    write_superweight(4, D);
    LODE_ASSERT_FAILS(lode_edits_open(&edits, &run, variants, VARIANTS), LODE_ERR_FORMAT,
                      "/weights of superweight.h5 in ");
    write_superweight(4, -1);
    LODE_ASSERT_FAILS(lode_edits_open(&edits, &run, variants, VARIANTS), LODE_ERR_FORMAT,
                      "is no weight of this model, or is there twice; run the stage superweight");
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, 2)); /* needs none */
    lode_edits_close(&edits);
    memset(run.fingerprint[LODE_STAGE_SUPERWEIGHT], 'z', LODE_DIGEST_TEXT - 1);
    LODE_ASSERT_FAILS(lode_edits_open(&edits, &run, &variants[PRUNE], 1), LODE_ERR_INPUT,
                      "run the stage superweight again");
    write_superweight(4, super_row[0]);
}

/* Nothing found: experiments are the dense model, and nothing is protected or held. */
static void nothing_found(void **state) {
    (void)state;
    lode_edits_t *edits;
    const lode_layer_edit_t nothing = {0};
    write_superweight(0, 0);
    LODE_ASSERT_OK(lode_edits_open(&edits, &run, variants, VARIANTS));
    for (int64_t v = PRUNE; v <= SCALE; v++)
        for (int64_t l = 0; l < LAYERS; l++) {
            const lode_layer_edit_t edit = lode_edits_of(edits, v, l);
            assert_memory_equal(&edit, &nothing, sizeof edit);
        }
    const lode_layer_edit_t edit = lode_edits_of(edits, HELD, 2);
    assert_int_equal(edit.codec[LODE_MATRIX_DOWN]->held_count, 0);
    assert_channels(edit.input[LODE_INPUT_DOWN], 0, NULL);
    assert_channels(edit.input[LODE_INPUT_FFN], 0, NULL);
    lode_edits_close(&edits);
    write_superweight(4, super_row[0]);
}

/* --- the model ------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    LODE_ASSERT_OK(lode_path_join(&run.folder, lode_test_temporary(), "model"));
    LODE_ASSERT_OK(lode_directory_create(run.folder));
    LODE_ASSERT_OK(lode_test_write_checkpoint(run.folder, &architecture, LODE_DTYPE_BF16, 1, 3));
    LODE_ASSERT_OK(lode_checkpoint_open(&run.checkpoint, run.folder));
    run.comm = &self;
    run.config = &config;
    run.architecture = *lode_checkpoint_architecture(run.checkpoint);
    LODE_ASSERT_OK(lode_layout_create(&run.layout, &run.architecture, 16, 1, 0, 0));
    write_pruned();
    write_superweight(4, super_row[0]);
    write_classify();
    write_quantize(-1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lode_checkpoint_close(&run.checkpoint);
    free(run.folder);
    return 0;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    self = lode_comm_describe(MPI_COMM_SELF);
    lode_log_enable(false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experiments),
        cmocka_unit_test(protections),
        cmocka_unit_test(protections_of_pruned),
        cmocka_unit_test(smoothing_and_mixed_precision),
        cmocka_unit_test(refused),
        cmocka_unit_test(nothing_found),
    };
    const int result = cmocka_run_group_tests(tests, set_up, tear_down);
    MPI_Finalize();
    return result;
}
