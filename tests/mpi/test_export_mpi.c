/* The stage export on masks and compensations made up here: which element of the source ends up
 * where, in which type, and what is refused. The whole pipeline around it is
 * tests/stages/export.sh. One expected folder for all rank counts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "export/export.h"
#include "common/folder.h"
#include "model/safetensors.h"
#include "model/writer.h"
#include "score/weights.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/run.h"
#include "testing/temporary.h"

enum { MOST_LAYERS = 3, MOST_HIDDEN = 24, MOST_CHANNELS = 40, MOST_ROWS = 256 };

static lode_comm_t comm;
static char folder[LODE_TEST_PATH]; /* of the whole test; the same on all ranks */
static int64_t L, D, M;             /* of the model in hand */
static lode_architecture_t architecture_in_hand;

/* Uniform: half of a layer's channels; global: more in every layer, of 20 channels 6, 10 and 14. */
static int64_t width_of(const char *variant, int64_t layer) {
    return !strchr(variant, '@') ? M : strstr(variant, "+global") ? M / 5 + 2 + 4 * layer : M / 2;
}

static bool kept(const char *variant, int64_t layer, int64_t channel) {
    return (channel * 7 + layer) % M < width_of(variant, layer);
}

static float down_value(int64_t layer, int64_t row, int64_t k) {
    return (float)(0.01 * (double)(layer * 1000 + row * 31 + k) - 3.7);
}

static double bias_value(int64_t layer, int64_t row) {
    return 1.0 / (double)(3 + layer * D + row);
}

/* --- inputs --------------------------------------------------------------------------------- */

static const lode_architecture_t architecture = {.model_type = LODE_MODEL_LLAMA,
                                                 .activation = LODE_ACTIVATION_SILU,
                                                 .layers = 3,
                                                 .hidden = 8,
                                                 .intermediate = 20,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 4,
                                                 .vocab = 11,
                                                 .max_positions = 64,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .tied = true,
                                                 .bos = 1,
                                                 .eos = 2};

static void join(char path[LODE_TEST_PATH], const char *name) {
    lode_test_path(path, "%s/%s", folder, name);
}

/* A checkpoint with files beside it, by rank 0. */
static void write_model(const char *name, lode_dtype_t dtype) {
    char path[LODE_TEST_PATH];
    join(path, name);
    if (comm.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, dtype, 2, 5) == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "tokenizer.json", "{}") == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "pytorch_model.bin", "no") == LODE_OK);
    }
    MPI_Barrier(comm.comm);
}

/* Opens the run of a model, which lies at `source`, with the given exports; everything is for
 * lode_test_run_close. */
static void open_run(lode_run_t *run, const char *model, const char *source, const char *exports) {
    char text[4096], path[LODE_TEST_PATH];
    const int length = snprintf(
        text, sizeof text,
        "name = \"e\"; models = ({ name = \"%s\"; path = \"%s\"; });\n"
        "calibration = { corpus = \"c\"; };\n"
        "prune = { methods = [\"magnitude\"]; sparsity = (0.5); allocation = [\"uniform\", "
        "\"global\"]; compensation = [\"none\", \"bias\", \"least-squares\"]; };\n"
        "quantize = { methods = [\"rtn\"]; bits = (3, 4); pruned = true; activations = [\"none\", "
        "\"token\"]; };\nexport = (%s);\n",
        model, source, exports);
    LODE_REQUIRE(length < (int)sizeof text);
    lode_test_path(path, "%s/results-%s", folder, model);
    lode_test_run_open(run, &comm, text, source, path);
    architecture_in_hand = run->architecture;
    L = run->architecture.layers;
    D = run->architecture.hidden;
    M = run->architecture.intermediate;
    LODE_REQUIRE(L <= MOST_LAYERS && D <= MOST_HIDDEN && M <= MOST_CHANNELS);
    LODE_REQUIRE(lode_layout_create(&run->layout, &run->architecture, 64, comm.size, comm.rank,
                                    0) == LODE_OK);
    snprintf(run->model_digest, LODE_DIGEST_TEXT, "%032d", model[0]);
}

/* What prune and compensate would leave. */
static void write_stores(lode_run_t *run) {
    static const char *const variants[] = {
        "magnitude@0.5",        "magnitude@0.5+bias",        "magnitude@0.5+least-squares",
        "magnitude@0.5+global", "magnitude@0.5+global+bias", "magnitude@0.5+global+least-squares"};
    lode_store_t *prune, *compensate;
    LODE_REQUIRE(lode_run_create(&prune, run, LODE_STAGE_PRUNE) == LODE_OK);
    LODE_REQUIRE(lode_run_create(&compensate, run, LODE_STAGE_COMPENSATE) == LODE_OK);
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        char name[128];
        const int64_t shape[] = {L, M}, bias_shape[] = {L, D}, start[] = {0, 0};
        uint8_t keep[MOST_LAYERS * MOST_CHANNELS];
        double bias[MOST_LAYERS * MOST_HIDDEN];
        for (int64_t i = 0; i < L * M; i++)
            keep[i] = kept(variants[v], i / M, i % M);
        for (int64_t i = 0; i < L * D; i++)
            bias[i] = bias_value(i / D, i % D);
        snprintf(name, sizeof name, "/keep/%s", variants[v]);
        LODE_REQUIRE(lode_store_dataset(prune, name, LODE_TYPE_U8, 2, shape, false) == LODE_OK);
        if (comm.rank == 0)
            LODE_REQUIRE(lode_store_write(prune, name, start, shape, keep) == LODE_OK);
        if (strstr(variants[v], "+bias")) {
            snprintf(name, sizeof name, "/bias/%s", variants[v]);
            LODE_REQUIRE(lode_store_dataset(compensate, name, LODE_TYPE_F64, 2, bias_shape,
                                            false) == LODE_OK);
            if (comm.rank == 0)
                LODE_REQUIRE(lode_store_write(compensate, name, start, bias_shape, bias) ==
                             LODE_OK);
        }
        for (int64_t l = 0; l < L && strstr(variants[v], "+least"); l++) {
            float down[MOST_HIDDEN * MOST_CHANNELS];
            const int64_t width = width_of(variants[v], l);
            const int64_t down_shape[] = {D, width};
            for (int64_t i = 0; i < D * width; i++)
                down[i] = down_value(l, i / width, i % width);
            snprintf(name, sizeof name, "/down/%s/%d", variants[v], (int)l);
            LODE_REQUIRE(lode_store_dataset(compensate, name, LODE_TYPE_F32, 2, down_shape,
                                            false) == LODE_OK);
            if (comm.rank == 0)
                LODE_REQUIRE(lode_store_write(compensate, name, start, down_shape, down) ==
                             LODE_OK);
        }
    }
    LODE_REQUIRE(lode_run_finish(&prune, run, LODE_STAGE_PRUNE, LODE_OK) == LODE_OK);
    LODE_REQUIRE(lode_run_finish(&compensate, run, LODE_STAGE_COMPENSATE, LODE_OK) == LODE_OK);
}

/* --- what must come out --------------------------------------------------------------------- */

/* The bytes of an element, of up to four; of vectors the row is 0. */
static uint32_t element(const lode_tensor_t *tensor, int64_t row, int64_t column) {
    uint32_t bits = 0;
    const size_t size = lode_dtype_size(tensor->dtype);
    const int64_t at =
        tensor->transposed ? column * tensor->pitch + row : row * tensor->pitch + column;
    memcpy(&bits, (const char *)tensor->data + (size_t)at * size, size);
    return bits;
}

static uint32_t rounded(lode_dtype_t dtype, float value) {
    uint32_t bits = 0;
    LODE_CHECK(lode_writer_round(&bits, dtype, &value, 1) == LODE_OK);
    return bits;
}

static bool same_tensor(const lode_tensor_t *a, const lode_tensor_t *b) {
    bool same = !a->data == !b->data && a->dtype == b->dtype && a->rank == b->rank &&
                memcmp(a->shape, b->shape, sizeof a->shape) == 0;
    const int64_t rows = a->rank == 2 ? a->shape[0] : 1, columns = a->shape[a->rank == 2];
    for (int64_t i = 0; same && a->data && i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            same = same && element(a, i, j) == element(b, i, j);
    return same;
}

static bool is_ffn(lode_role_t role) {
    return role == LODE_ROLE_GATE || role == LODE_ROLE_UP || role == LODE_ROLE_DOWN ||
           role == LODE_ROLE_GATE_BIAS || role == LODE_ROLE_UP_BIAS || role == LODE_ROLE_DOWN_BIAS;
}

/* Whether `got` has the rows of `want` that are kept, and zeros in the rest of `width`; a matrix,
 * or a vector of channels. */
static bool same_rows(const char *variant, int64_t l, const lode_tensor_t *want,
                      const lode_tensor_t *got, int64_t width) {
    const bool matrix = want->rank == 2;
    const int64_t columns = matrix ? D : 1;
    bool same = got->shape[0] == width && (!matrix || got->shape[1] == D) &&
                got->rank == want->rank && got->dtype == want->dtype;
    int64_t k = 0;
    for (int64_t j = 0; j < M; j++) {
        if (!kept(variant, l, j))
            continue;
        for (int64_t i = 0; i < columns && same; i++)
            same = matrix ? element(got, k, i) == element(want, j, i)
                          : element(got, 0, k) == element(want, 0, j);
        k++;
    }
    for (; k < width; k++)
        for (int64_t i = 0; i < columns && same; i++)
            same = element(got, matrix ? k : 0, matrix ? i : k) == 0;
    return same;
}

static bool same_down(const char *variant, int64_t l, const lode_tensor_t *want,
                      const lode_tensor_t *got, int64_t width) {
    bool same = got->shape[0] == D && got->shape[1] == width && got->dtype == want->dtype;
    int64_t k = 0;
    for (int64_t j = 0; j < M; j++) {
        if (!kept(variant, l, j))
            continue;
        for (int64_t i = 0; i < D && same; i++)
            same = element(got, i, k) == (strstr(variant, "+least")
                                              ? rounded(want->dtype, down_value(l, i, k))
                                              : element(want, i, j));
        k++;
    }
    for (; k < width; k++)
        for (int64_t i = 0; i < D && same; i++)
            same = element(got, i, k) == 0;
    return same;
}

/* Biases that the variant brings: zeros where gate and up had none, and the given one on top of
 * what down had. */
static bool same_bias(const char *variant, int64_t l, lode_role_t role, const lode_tensor_t *want,
                      const lode_tensor_t *got, int64_t width, lode_dtype_t dtype) {
    if (role != LODE_ROLE_DOWN_BIAS && want->data)
        return same_rows(variant, l, want, got, width);
    bool same = got->dtype == dtype && got->rank == 1 &&
                got->shape[0] == (role == LODE_ROLE_DOWN_BIAS ? D : width);
    double present[MOST_HIDDEN] = {0};
    if (want->data) {
        const lode_tensor_t row = lode_tensor_matrix(want->data, want->dtype, 1, D);
        LODE_CHECK(lode_weights_row(present, &row, 0, "bias") == LODE_OK);
    }
    for (int64_t i = 0; same && i < got->shape[0]; i++) {
        const double value = role == LODE_ROLE_DOWN_BIAS ? present[i] + bias_value(l, i) : 0;
        uint32_t bits = 0;
        LODE_CHECK(lode_writer_round_f64(&bits, dtype, &value, 1) == LODE_OK);
        same = element(got, 0, i) == bits;
    }
    return same;
}

/* Compares one layer; `width` is the folder's number of channels. */
static void check_layer(const char *variant, lode_checkpoint_t *source, lode_checkpoint_t *made,
                        int64_t l, int64_t width) {
    const bool biased = strstr(variant, "+bias") != NULL;
    lode_layer_weights_t a, b;
    LODE_REQUIRE(lode_checkpoint_layer(source, l, &a) == LODE_OK);
    LODE_REQUIRE(lode_checkpoint_layer(made, l, &b) == LODE_OK);
    for (int role = 0; role < LODE_LAYER_ROLES; role++) {
        const lode_tensor_t *want = lode_layer_weights_role(&a, (lode_role_t)role);
        const lode_tensor_t *got = lode_layer_weights_role(&b, (lode_role_t)role);
        const bool bias =
            role == LODE_ROLE_GATE_BIAS || role == LODE_ROLE_UP_BIAS || role == LODE_ROLE_DOWN_BIAS;
        if (role == LODE_ROLE_DOWN)
            LODE_CHECK(same_down(variant, l, want, got, width));
        else if (bias && biased && (got->data || role == LODE_ROLE_DOWN_BIAS))
            LODE_CHECK(same_bias(variant, l, (lode_role_t)role, want, got, width,
                                 want->data ? want->dtype : a.down.dtype));
        else if (is_ffn((lode_role_t)role) && role != LODE_ROLE_DOWN_BIAS && want->data)
            LODE_CHECK(same_rows(variant, l, want, got, width));
        else
            LODE_CHECK(same_tensor(want, got));
    }
}

static bool file_has(const char *path, const char *name, const char *text) {
    char full[LODE_TEST_PATH], *data;
    size_t size;
    lode_test_path(full, "%s/%s", path, name);
    if (lode_file_read(&data, &size, full) != LODE_OK)
        return false;
    const bool has = strstr(data, text) != NULL;
    free(data);
    return has;
}

/* One folder against its source, by every rank. */
static void check_folder(const char *source_path, const char *name, const char *variant,
                         int64_t width) {
    typedef lode_status_t (*map_t)(lode_checkpoint_t *, lode_tensor_t *);
    static const map_t others[] = {lode_checkpoint_embedding, lode_checkpoint_positions,
                                   lode_checkpoint_final_norm, lode_checkpoint_final_norm_bias,
                                   lode_checkpoint_head};
    char path[LODE_TEST_PATH];
    lode_checkpoint_t *source, *made;
    join(path, name);
    LODE_REQUIRE(lode_checkpoint_open(&source, source_path) == LODE_OK);
    LODE_CHECK(!file_has(path, "pytorch_model.bin", ""));
    LODE_CHECK(file_has(path, "lodestone.json", variant));
    if (lode_checkpoint_open(&made, path) != LODE_OK)
        LODE_REQUIRE(!"the folder can be read");
    LODE_CHECK(lode_checkpoint_architecture(made)->intermediate == width);
    for (int64_t l = 0; l < L; l++)
        check_layer(variant, source, made, l, width);
    if (!strstr(variant, "+bias"))
        LODE_CHECK(lode_checkpoint_tensor_count(source) == lode_checkpoint_tensor_count(made));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        lode_tensor_t a, b;
        LODE_REQUIRE(others[i](source, &a) == LODE_OK && others[i](made, &b) == LODE_OK);
        LODE_CHECK(same_tensor(&a, &b));
    }
    lode_checkpoint_close(&made);
    lode_checkpoint_close(&source);
}

/* --- quantized variants ----------------------------------------------------------------------- */

/* Every row of a matrix has a scale and a minimum, which say nothing about its weights. */
static const char *const quantized[] = {"int4-channel", "magnitude@0.5+global:int3-channel",
                                        "magnitude@0.5+global+least-squares:int4-channel"};

static float scale_of(int64_t layer, int which, int64_t row) {
    return (float)(0.01 + 0.003 * (double)((row * 5 + which + layer) % 7));
}

static float minimum_of(int64_t layer, int which, int64_t row) {
    return (float)(-0.02 - 0.004 * (double)((row * 3 + 2 * which + layer) % 11));
}

/* A matrix as a variant computes with it. */
static void extents_of(int64_t extents[2], const char *variant, int64_t layer, int which) {
    lode_architecture_t made = architecture_in_hand;
    made.intermediate = width_of(variant, layer);
    const lode_extent_t *shape =
        lode_family(made.model_type)->tensors[lode_matrix_role((lode_layer_matrix_t)which)].shape;
    for (int axis = 0; axis < 2; axis++)
        extents[axis] = lode_family_extent(&made, shape[axis]);
}

static bool has_matrix(int which) {
    return lode_family_has(&architecture_in_hand, lode_matrix_role((lode_layer_matrix_t)which));
}

static void write_rows(lode_store_t *store, const char *variant, int64_t layer, int which) {
    static const char *const names[] = {"scale", "minimum"};
    int64_t extents[2];
    const int64_t start = 0;
    extents_of(extents, variant, layer, which);
    LODE_REQUIRE(extents[0] <= MOST_ROWS);
    for (int n = 0; n < 2; n++) {
        char path[256];
        float values[MOST_ROWS];
        for (int64_t i = 0; i < extents[0]; i++)
            values[i] = n == 0 ? scale_of(layer, which, i) : minimum_of(layer, which, i);
        snprintf(path, sizeof path, "/variants/%s/%d/%s/%s", variant, (int)layer,
                 lode_matrix_name((lode_layer_matrix_t)which), names[n]);
        LODE_REQUIRE(lode_store_dataset(store, path, LODE_TYPE_F32, 1, extents, false) == LODE_OK);
        if (comm.rank == 0)
            LODE_REQUIRE(lode_store_write(store, path, &start, extents, values) == LODE_OK);
    }
}

/* What quantize would leave. */
static void write_quantize(lode_run_t *run) {
    lode_store_t *store;
    LODE_REQUIRE(lode_run_create(&store, run, LODE_STAGE_QUANTIZE) == LODE_OK);
    for (size_t v = 0; v < sizeof quantized / sizeof *quantized; v++) {
        char group[128];
        for (int64_t l = 0; l < L; l++)
            for (int which = 0; which < LODE_MATRICES; which++)
                if (has_matrix(which))
                    write_rows(store, quantized[v], l, which);
        snprintf(group, sizeof group, "/variants/%s", quantized[v]);
        LODE_REQUIRE(lode_store_attribute_i64(store, group, "bytes", 12345) == LODE_OK);
        LODE_REQUIRE(lode_store_attribute_f64(store, group, "bits_per_weight", 4.5) == LODE_OK);
    }
    LODE_REQUIRE(lode_run_finish(&store, run, LODE_STAGE_QUANTIZE, LODE_OK) == LODE_OK);
}

static float value_of(const lode_tensor_t *tensor, int64_t row, int64_t column) {
    float value;
    const int64_t at =
        tensor->transposed ? column * tensor->pitch + row : row * tensor->pitch + column;
    lode_convert(&value, (const char *)tensor->data + (size_t)at * lode_dtype_size(tensor->dtype),
                 tensor->dtype, 1);
    return value;
}

/* The weight of the variant before it is quantized. */
static float plain_value(const char *variant, int64_t l, int which, const lode_tensor_t *source,
                         const int64_t *channels, int64_t row, int64_t column) {
    const bool ffn = which >= LODE_MATRIX_GATE, down = which == LODE_MATRIX_DOWN;
    if (down && strstr(variant, "+least"))
        return down_value(l, row, column);
    return value_of(source, ffn && !down ? channels[row] : row, down ? channels[column] : column);
}

/* One matrix of a folder: its weights, zeros beyond them, and its codes. */
static void check_matrix(const char *variant, int64_t l, int which, const lode_tensor_t *source,
                         const lode_tensor_t *got, const uint8_t *codes) {
    const int top = strstr(variant, "int3") ? 7 : 15;
    int64_t extents[2], channels[MOST_CHANNELS], count = 0, wrong = 0;
    extents_of(extents, variant, l, which);
    for (int64_t j = 0; j < M; j++)
        if (kept(variant, l, j))
            channels[count++] = j;
    for (int64_t i = 0; i < got->shape[0]; i++)
        for (int64_t j = 0; j < got->shape[1]; j++) {
            if (i >= extents[0] || j >= extents[1]) {
                wrong += element(got, i, j) != 0;
                continue;
            }
            const float scale = scale_of(l, which, i), minimum = minimum_of(l, which, i);
            const float x = plain_value(variant, l, which, source, channels, i, j);
            float q = rintf((x - minimum) / scale);
            q = q < 0 ? 0 : q > (float)top ? (float)top : q;
            const float product = scale * q;
            wrong += element(got, i, j) != rounded(source->dtype, product + minimum);
            wrong += codes[i * extents[1] + j] != (uint8_t)q;
        }
    LODE_CHECK(wrong == 0);
}

/* The bytes of a parameter in quantization.safetensors, which has this extent. */
static const void *parameter(lode_safetensors_t *file, const char *tensor, const char *suffix,
                             const char *dtype, int64_t first) {
    char name[256];
    const void *bytes;
    snprintf(name, sizeof name, "%s.%s", tensor, suffix);
    const int64_t found = lode_safetensors_find(file, name);
    LODE_REQUIRE(found >= 0);
    const lode_safetensors_entry_t *entry = lode_safetensors_entry(file, found);
    LODE_CHECK(strcmp(entry->dtype, dtype) == 0 && entry->shape[0] == first);
    LODE_REQUIRE(lode_safetensors_map_bytes(file, found, &bytes) == LODE_OK);
    return bytes;
}

/* The matrix that a part of a tensor is, and what it is called beside the weights. */
static int find_matrix(char name[200], const lode_tensor_info_t *info, int part) {
    for (int which = 0; which < LODE_MATRICES; which++) {
        if (lode_matrix_role((lode_layer_matrix_t)which) != info->parts[part].role)
            continue;
        snprintf(name, 200, "%s%s%s", info->name, info->part_count > 1 ? "." : "",
                 info->part_count > 1 ? lode_matrix_name((lode_layer_matrix_t)which) : "");
        return which;
    }
    return LODE_MATRICES;
}

/* A quantized folder against its source: every matrix and what lies beside it. */
static void check_quantized(const char *source_path, const char *name, const char *variant) {
    char path[LODE_TEST_PATH];
    lode_checkpoint_t *source, *made;
    lode_safetensors_t *beside;
    int64_t matrices = 0;
    lode_test_path(path, "%s/%s/quantization.safetensors", folder, name);
    LODE_REQUIRE(lode_safetensors_open(&beside, path) == LODE_OK);
    join(path, name);
    LODE_REQUIRE(lode_checkpoint_open(&source, source_path) == LODE_OK);
    LODE_REQUIRE(lode_checkpoint_open(&made, path) == LODE_OK);
    for (int64_t t = 0; t < lode_checkpoint_tensor_count(made); t++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(made, t);
        for (int p = 0; info.owner >= 0 && p < info.part_count; p++) {
            char called[200];
            const int which = find_matrix(called, &info, p);
            lode_layer_weights_t a, b;
            int64_t extents[2];
            if (which == LODE_MATRICES)
                continue;
            const lode_role_t role = info.parts[p].role;
            extents_of(extents, variant, info.owner, which);
            LODE_REQUIRE(lode_checkpoint_layer(source, info.owner, &a) == LODE_OK);
            LODE_REQUIRE(lode_checkpoint_layer(made, info.owner, &b) == LODE_OK);
            const float *scale = parameter(beside, called, "scale", "F32", extents[0]);
            const float *minimum = parameter(beside, called, "minimum", "F32", extents[0]);
            check_matrix(variant, info.owner, which, lode_layer_weights_role(&a, role),
                         lode_layer_weights_role(&b, role),
                         parameter(beside, called, "codes", "U8", extents[0]));
            for (int64_t i = 0; i < extents[0]; i++)
                LODE_CHECK(scale[i] == scale_of(info.owner, which, i) &&
                           minimum[i] == minimum_of(info.owner, which, i));
            matrices++;
        }
    }
    LODE_CHECK(lode_safetensors_count(beside) == 3 * matrices && matrices >= 6 * L);
    LODE_CHECK(file_has(path, "lodestone.json", "\"granularity\": \"channel\"") &&
               file_has(path, "lodestone.json", "\"bytes\": 12345"));
    LODE_CHECK(file_has(path, "model.safetensors.index.json", "\"weight_map\""));
    lode_checkpoint_close(&made);
    lode_checkpoint_close(&source);
    lode_safetensors_close(&beside);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_quantized(const char *model, const char *source) {
    lode_run_t run;
    lode_buffer_t exports = {0};
    const int count = sizeof quantized / sizeof *quantized;
    for (int i = 0; i < count; i++)
        LODE_REQUIRE(lode_buffer_printf(&exports,
                                        "%s{ variant = \"%s\"; codes = true; path = "
                                        "\"%s/%s-quantized-%d\"; }",
                                        i ? ", " : "", quantized[i], folder, model, i) == LODE_OK);
    open_run(&run, model, source, exports.data);
    lode_buffer_free(&exports);
    write_stores(&run);
    write_quantize(&run);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    for (int i = 0; i < count; i++) {
        char name[LODE_TEST_PATH];
        lode_test_path(name, "%s-quantized-%d", model, i);
        check_quantized(source, name, quantized[i]);
    }
    LODE_CHECK(lode_export_present(&run));
    lode_test_run_close(&run);
}

static const char *const all_variants[] = {
    "dense",
    "magnitude@0.5",
    "magnitude@0.5+global",
    "magnitude@0.5+least-squares",
    "magnitude@0.5+global+least-squares",
    "magnitude@0.5+bias",
    "magnitude@0.5+global+bias",
};

/* Exports `count` of all variants of the model at `source`, laid out as their widths allow. */
static void test_model(const char *model, const char *source, int count) {
    lode_run_t run;
    lode_buffer_t exports = {0};
    for (int i = 0; i < count; i++)
        LODE_REQUIRE(
            lode_buffer_printf(&exports, "%s{ variant = \"%s\"; path = \"%s/%s-%d/deep\"; }",
                               i ? ", " : "", all_variants[i], folder, model, i) == LODE_OK);
    /* Of equal widths, and yet padded. */
    LODE_REQUIRE(lode_buffer_printf(&exports,
                                    ", { variant = \"magnitude@0.5\"; layout = \"padded\"; path = "
                                    "\"%s/%s-equal/deep\"; }",
                                    folder, model) == LODE_OK);
    open_run(&run, model, source, exports.data);
    lode_buffer_free(&exports);
    write_stores(&run);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    for (int i = 0; i < count; i++) {
        char name[LODE_TEST_PATH];
        lode_test_path(name, "%s-%d/deep", model, i);
        check_folder(source, name, all_variants[i], width_of(all_variants[i], L - 1));
    }
    LODE_CHECK(lode_export_present(&run));
    lode_test_run_close(&run);
}

/* A llama in each type, its tokenizer copied, and missed when it goes. */
static void test_llama(const char *model, lode_dtype_t dtype) {
    char source[LODE_TEST_PATH], path[LODE_TEST_PATH];
    lode_run_t run;
    write_model(model, dtype);
    join(source, model);
    test_model(model, source, sizeof all_variants / sizeof *all_variants);
    lode_test_path(path, "%s-5/deep", model);
    join(source, path);
    LODE_CHECK(file_has(source, "tokenizer.json", "{}"));
    LODE_CHECK(file_has(source, "config.json", "\"mlp_bias\": true"));
    LODE_CHECK(file_has(source, "config.json", "\"intermediate_size\": 10"));
    lode_test_path(path, "{ variant = \"magnitude@0.5\"; path = \"%s/%s-1/deep\"; }", folder,
                   model);
    join(source, model);
    if (dtype == LODE_DTYPE_F16)
        test_quantized(model, source);
    open_run(&run, model, source, path);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    LODE_CHECK(lode_export_present(&run));
    MPI_Barrier(comm.comm);
    lode_test_path(path, "%s/%s-1/deep/tokenizer.json", folder, model);
    if (comm.rank == 0)
        LODE_CHECK(remove(path) == 0);
    MPI_Barrier(comm.comm);
    LODE_CHECK(!lode_export_present(&run));
    lode_test_run_close(&run);
}

/* Fused, transposed and biased weights, other keys for the number of channels. Only some families
 * have a place for an output bias. */
static void test_families(void) {
    static const struct {
        const char *name, *key;
        bool takes_bias;
    } cases[] = {{"phi3", "\"intermediate_size\": 18", false},
                 {"gpt2", "\"n_inner\": 20", true},
                 {"llama-bias", "\"intermediate_size\": 18", true},
                 {"llama-sharded", "\"intermediate_size\": 18", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char source[LODE_TEST_PATH], path[LODE_TEST_PATH];
        lode_test_path(source, "tests/golden/families/%s", cases[i].name);
        test_model(cases[i].name, source, cases[i].takes_bias ? 7 : 5);
        lode_test_path(path, "%s/%s-1/deep", folder, cases[i].name);
        LODE_CHECK(file_has(path, "config.json", cases[i].key));
        if (i < 2)
            test_quantized(cases[i].name, source);
    }
}

/* One export that must be refused: nothing is left, and the message has `text`. */
static void refuse_from(const char *model, const char *source, const char *variant,
                        const char *layout, const char *name, lode_status_t status,
                        const char *text) {
    char exports[LODE_TEST_PATH + 256], path[LODE_TEST_PATH];
    lode_run_t run;
    snprintf(exports, sizeof exports, "{ variant = \"%s\"; layout = \"%s\"; path = \"%s/%s\"; }",
             variant, layout, folder, name);
    open_run(&run, model, source, exports);
    const lode_status_t got = lode_stage_export(&run);
    LODE_CHECK(got == status);
    if (!strstr(lode_error_message(), text)) {
        fprintf(stderr, "\"%s\" has no \"%s\"\n", lode_error_message(), text);
        LODE_CHECK(!"the message names it");
    }
    lode_test_path(path, "%s/%s.partial", folder, name);
    LODE_CHECK(!lode_file_exists(path));
    lode_test_run_close(&run);
}

static void refuse(const char *variant, const char *layout, const char *name, lode_status_t status,
                   const char *text) {
    char source[LODE_TEST_PATH];
    join(source, "half");
    refuse_from("half", source, variant, layout, name, status, text);
}

static void test_refusals(void) {
    char path[LODE_TEST_PATH];
    join(path, "foreign");
    if (comm.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "thesis.tex", "years") == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(folder, "file", "x") == LODE_OK);
        lode_test_path(path, "%s/half-0/deep", folder);
        LODE_REQUIRE(lode_test_write_text(path, "model.gguf", "x") == LODE_OK);
    }
    MPI_Barrier(comm.comm);
    refuse("magnitude@0.5", "auto", "foreign", LODE_ERR_IO, "foreign: holds \"thesis.tex\"");
    refuse("magnitude@0.5", "auto", "file", LODE_ERR_IO, "file: is in the way");
    refuse("magnitude@0.5", "auto", "file/below", LODE_ERR_IO, "file");
    refuse("magnitude@0.5+global", "auto", "half-0/deep", LODE_ERR_IO,
           "deep: holds \"model.gguf\"");
    refuse("magnitude@0.5", "auto", "half", LODE_ERR_CONFIG, "half is the model itself");
    refuse("magnitude@0.5+global", "sliced", "x", LODE_ERR_CONFIG,
           "keeps 6 channels of layer 0 but 14 of layer 2; set it to \"padded\"");
    refuse("magnitude@0.5+globl", "auto", "x", LODE_ERR_CONFIG,
           "did you mean \"magnitude@0.5+global\"?");
    refuse("quite-another", "auto", "x", LODE_ERR_CONFIG,
           "its variants are dense, magnitude@0.5, magnitude@0.5+bias");
    refuse("int4-channel-a8-token", "auto", "x", LODE_ERR_UNSUPPORTED,
           "quantizes activations while the model runs, which no folder can hold; export "
           "int4-channel, with");
    refuse_from("phi3", "tests/golden/families/phi3", "magnitude@0.5+bias", "auto", "x",
                LODE_ERR_UNSUPPORTED, "models of the type phi3 have no place for an output bias");
    join(path, "foreign/thesis.tex");
    LODE_CHECK(lode_file_exists(path));
    join(path, "x");
    LODE_CHECK(!lode_file_exists(path));
}

/* A folder of ours is replaced, and what interrupted runs leave goes. */
static void test_replacement(void) {
    char exports[LODE_TEST_PATH + 256], path[LODE_TEST_PATH], source[LODE_TEST_PATH];
    lode_run_t run;
    join(source, "half");
    join(path, "half-1/deep.partial");
    if (comm.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "lodestone.json",
                                          "{\"lodestone\": \"0\", \"files\": [\"old\"]}") ==
                     LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "old.partial", "x") == LODE_OK);
    }
    MPI_Barrier(comm.comm);
    snprintf(exports, sizeof exports, "{ variant = \"magnitude@0.5\"; path = \"%s/half-1/deep\"; }",
             folder);
    open_run(&run, "half", source, exports);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    lode_test_run_close(&run);
    LODE_CHECK(!lode_file_exists(path));
    join(path, "half-1/deep.replaced");
    LODE_CHECK(!lode_file_exists(path));
    check_folder(source, "half-1/deep", "magnitude@0.5", 10);
}

/* The bytes of a file of a folder; the caller's. */
static char *contents(const char *name, const char *file, size_t *size) {
    char path[LODE_TEST_PATH], *data;
    lode_test_path(path, "%s/%s/%s", folder, name, file);
    LODE_REQUIRE(lode_file_read(&data, size, path) == LODE_OK);
    return data;
}

/* Exports a variant to `name`; where it is not 0, the write of this number on rank 0 fails. */
static lode_status_t export_failing(const char *name, const char *variant, int write) {
    char exports[LODE_TEST_PATH + 256], source[LODE_TEST_PATH], fault[64] = "";
    lode_run_t run;
    join(source, "half");
    snprintf(exports, sizeof exports, "{ variant = \"%s\"; path = \"%s/%s\"; }", variant, folder,
             name);
    open_run(&run, "half", source, exports);
    if (write > 0)
        snprintf(fault, sizeof fault, "write:rank=0:call=%d", write);
    LODE_REQUIRE(lode_fault_arm(fault, comm.rank) == LODE_OK);
    const lode_status_t status = lode_stage_export(&run);
    LODE_REQUIRE(lode_fault_arm(NULL, comm.rank) == LODE_OK);
    lode_test_run_close(&run);
    MPI_Barrier(comm.comm);
    return status;
}

/* Tensors that the marks of an unfinished folder say are on disk. */
static int64_t marked(const char *name, bool beside) {
    int64_t count = 0;
    size_t size;
    char *marks = contents(
        name, beside ? "quantization.safetensors.partial" : "model.safetensors.partial", &size);
    for (size_t i = 0; i < size; i++)
        count += marks[i] != 0;
    free(marks);
    return count;
}

/* A run whose disk fails leaves what it has written, the next one goes on with that, and the folder
 * is as one that was written at once. */
static void test_going_on(const char *variant, int step) {
    static const char *const files[] = {"model.safetensors", "config.json", "lodestone.json",
                                        "quantization.safetensors"};
    const bool beside = strstr(variant, "int") != NULL;
    char path[LODE_TEST_PATH], broken_name[64], whole_name[64];
    int64_t most = 0;
    snprintf(broken_name, sizeof broken_name, "broken-%s", variant);
    snprintf(whole_name, sizeof whole_name, "whole-%s", variant);
    for (int write = 1; export_failing(broken_name, variant, write) != LODE_OK; write += step) {
        char partial[128];
        LODE_REQUIRE(write < 1000);
        join(path, broken_name);
        const bool whole = lode_file_exists(path); /* and the record's write has failed */
        snprintf(partial, sizeof partial, "%s.partial", broken_name);
        lode_test_path(path, "%s/%s/model.safetensors.partial", folder, partial);
        bool begun = lode_file_exists(path);
        lode_test_path(path, "%s/%s/quantization.safetensors.partial", folder, partial);
        begun = begun && (!beside || lode_file_exists(path));
        int64_t count = begun ? marked(partial, false) : 0;
        count += begun && beside ? marked(partial, true) : 0;
        LODE_CHECK(!(whole && begun) && (!begun || count >= most));
        most = count > most ? count : most;
        MPI_Barrier(comm.comm);
    }
    LODE_CHECK(most > 0);
    LODE_CHECK(export_failing(whole_name, variant, 0) == LODE_OK);
    for (size_t i = 0; i < (beside ? 4 : 3); i++) {
        size_t sizes[2];
        char *broken = contents(broken_name, files[i], &sizes[0]);
        char *whole = contents(whole_name, files[i], &sizes[1]);
        LODE_CHECK(sizes[0] == sizes[1] && memcmp(broken, whole, sizes[0]) == 0);
        free(broken);
        free(whole);
    }
    lode_test_path(path, "%s/%s/model.safetensors.partial", folder, broken_name);
    LODE_CHECK(!lode_file_exists(path));
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    comm = lode_comm_describe(MPI_COMM_WORLD);
    lode_test_temporary_shared(folder, sizeof folder, &comm);
    test_llama("half", LODE_DTYPE_F16);
    test_llama("brain", LODE_DTYPE_BF16);
    test_llama("single", LODE_DTYPE_F32);
    test_families();
    test_refusals();
    test_replacement();
    test_going_on("magnitude@0.5", 9);
    test_going_on("int4-channel", 23);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
