/* The stage export on masks and compensations made up here: which element of the source ends up
 * where, in which type, and what is refused. The whole pipeline around it is
 * tests/stages/export.sh. One expected folder for all rank counts. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "export/export.h"
#include "export/folder.h"
#include "model/safetensors.h"
#include "model/writer.h"
#include "testing/check.h"
#include "testing/checkpoint.h"
#include "testing/temporary.h"

enum { L = 3, D = 8, M = 20, PATH_BYTES = 1024 };

static lode_comm_t comm;
static char folder[PATH_BYTES]; /* of the whole test; the same on all ranks */

/* Uniform: 10 channels a layer; global: 6, 10 and 14. */
static bool kept(const char *variant, int64_t layer, int64_t channel) {
    const int64_t width = strstr(variant, "+global") ? 6 + 4 * layer : 10;
    return (channel * 7 + layer) % M < width;
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
                                                 .layers = L,
                                                 .hidden = D,
                                                 .intermediate = M,
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

static void path_of(char path[PATH_BYTES], const char *format, ...) LODE_PRINTF(2, 3);
static void path_of(char path[PATH_BYTES], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    LODE_REQUIRE(vsnprintf(path, PATH_BYTES, format, arguments) < PATH_BYTES);
    va_end(arguments);
}

static void join(char path[PATH_BYTES], const char *name) {
    path_of(path, "%s/%s", folder, name);
}

/* A checkpoint with files beside it, by rank 0. */
static void write_model(const char *name, lode_dtype_t dtype) {
    char path[PATH_BYTES];
    join(path, name);
    if (comm.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_checkpoint(path, &architecture, dtype, 2, 5) == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "tokenizer.json", "{}") == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "pytorch_model.bin", "no") == LODE_OK);
    }
    MPI_Barrier(comm.comm);
}

/* Opens the run of a model with the given exports; everything is for close_run. */
static void open_run(lode_run_t *run, const char *model, const char *exports) {
    char text[4096], path[PATH_BYTES];
    lode_config_t *config;
    join(path, model);
    const int length = snprintf(
        text, sizeof text,
        "name = \"e\"; models = ({ name = \"%s\"; path = \"%s\"; });\n"
        "calibration = { corpus = \"c\"; };\n"
        "prune = { methods = [\"magnitude\"]; sparsity = (0.5); allocation = [\"uniform\", "
        "\"global\"]; compensation = [\"none\", \"bias\", \"least-squares\"]; };\nexport = (%s);\n",
        model, path, exports);
    LODE_REQUIRE(length < (int)sizeof text);
    LODE_REQUIRE(lode_config_parse(&config, text, (size_t)length, "e.cfg") == LODE_OK);
    *run = (lode_run_t){.comm = &comm, .config = config, .model = &config->models[0], .point = ""};
    LODE_REQUIRE(lode_checkpoint_open(&run->checkpoint, path) == LODE_OK);
    run->architecture = *lode_checkpoint_architecture(run->checkpoint);
    LODE_REQUIRE(lode_layout_create(&run->layout, &run->architecture, 64, comm.size, comm.rank,
                                    0) == LODE_OK);
    path_of(path, "%s/results-%s", folder, model);
    LODE_REQUIRE(lode_strdup(&run->folder, path) == LODE_OK);
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        snprintf(run->fingerprint[s], LODE_DIGEST_TEXT, "%032d", s);
    snprintf(run->model_digest, LODE_DIGEST_TEXT, "%032d", model[0]);
    if (comm.rank == 0)
        LODE_REQUIRE(lode_directory_create(run->folder) == LODE_OK);
    MPI_Barrier(comm.comm);
}

static void close_run(lode_run_t *run) {
    lode_config_t *config = (lode_config_t *)(uintptr_t)run->config;
    lode_checkpoint_close(&run->checkpoint);
    lode_config_destroy(&config);
    free(run->folder);
    lode_buffer_free(&run->inputs);
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
        uint8_t keep[L * M];
        double bias[L * D];
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
            float down[D * M];
            int64_t width = 0;
            for (int64_t j = 0; j < M; j++)
                width += kept(variants[v], l, j);
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

/* The bytes of an element, of up to four. */
static uint32_t element(const lode_tensor_t *tensor, int64_t row, int64_t column) {
    uint32_t bits = 0;
    const size_t size = lode_dtype_size(tensor->dtype);
    const int64_t at = row * tensor->shape[1] + column;
    memcpy(&bits, (const char *)tensor->data + (size_t)at * size, size);
    return bits;
}

static uint32_t rounded(lode_dtype_t dtype, float value) {
    uint32_t bits = 0;
    LODE_CHECK(lode_writer_round(&bits, dtype, &value, 1) == LODE_OK);
    return bits;
}

static bool same_tensor(const lode_tensor_t *a, const lode_tensor_t *b) {
    int64_t count = 1;
    for (int i = 0; i < a->rank; i++)
        count *= a->shape[i];
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
           memcmp(a->data, b->data, (size_t)count * lode_dtype_size(a->dtype)) == 0;
}

/* Compares one layer; `width` is the folder's intermediate size. */
static void check_layer(const char *variant, lode_checkpoint_t *source, lode_checkpoint_t *made,
                        int64_t l, int64_t width) {
    lode_layer_weights_t a, b;
    LODE_REQUIRE(lode_checkpoint_layer(source, l, &a) == LODE_OK);
    LODE_REQUIRE(lode_checkpoint_layer(made, l, &b) == LODE_OK);
    LODE_CHECK(same_tensor(&a.attention_norm, &b.attention_norm) && same_tensor(&a.q, &b.q) &&
               same_tensor(&a.k, &b.k) && same_tensor(&a.v, &b.v) && same_tensor(&a.o, &b.o) &&
               same_tensor(&a.ffn_norm, &b.ffn_norm));
    LODE_CHECK(b.gate.shape[0] == width && b.down.shape[1] == width);
    LODE_CHECK(b.gate.dtype == a.gate.dtype && b.down.dtype == a.down.dtype);
    int64_t k = 0;
    bool equal = true;
    for (int64_t j = 0; j < M; j++) {
        if (strcmp(variant, "dense") != 0 && !kept(variant, l, j))
            continue;
        for (int64_t i = 0; i < D; i++) {
            const uint32_t down = strstr(variant, "+least")
                                      ? rounded(a.down.dtype, down_value(l, i, k))
                                      : element(&a.down, i, j);
            equal = equal && element(&b.gate, k, i) == element(&a.gate, j, i) &&
                    element(&b.up, k, i) == element(&a.up, j, i) && element(&b.down, i, k) == down;
        }
        k++;
    }
    LODE_CHECK(equal);
    for (; k < width; k++)
        for (int64_t i = 0; i < D; i++)
            equal = equal && element(&b.gate, k, i) == 0 && element(&b.up, k, i) == 0 &&
                    element(&b.down, i, k) == 0;
    LODE_CHECK(equal);
}

/* The biases: none, or zeros for gate and up and the given one for down. */
static void check_biases(const char *path, lode_dtype_t dtype, int64_t width) {
    /* Our reader refuses mlp_bias, so the index of the file is asked for the tensors. */
    char name[PATH_BYTES];
    lode_safetensors_t *file;
    path_of(name, "%s/model.safetensors", path);
    LODE_REQUIRE(lode_safetensors_open(&file, name) == LODE_OK);
    for (int64_t l = 0; l < L; l++) {
        static const char *const projections[] = {"gate", "up", "down"};
        for (int p = 0; p < 3; p++) {
            lode_tensor_t tensor;
            snprintf(name, sizeof name, "model.layers.%d.mlp.%s_proj.bias", (int)l, projections[p]);
            const int64_t found = lode_safetensors_find(file, name);
            LODE_REQUIRE(found >= 0);
            LODE_REQUIRE(lode_safetensors_map(file, found, &tensor) == LODE_OK);
            LODE_CHECK(tensor.dtype == dtype && tensor.rank == 1 &&
                       tensor.shape[0] == (p < 2 ? width : D));
            for (int64_t i = 0; i < tensor.shape[0]; i++) {
                const double value = p < 2 ? 0 : bias_value(l, i);
                uint32_t want = 0;
                LODE_CHECK(lode_writer_round_f64(&want, dtype, &value, 1) == LODE_OK);
                LODE_CHECK(element(&tensor, 0, i) == want);
            }
        }
    }
    lode_safetensors_close(&file);
}

static bool file_has(const char *path, const char *name, const char *text) {
    char full[PATH_BYTES], *data;
    size_t size;
    path_of(full, "%s/%s", path, name);
    if (lode_file_read(&data, &size, full) != LODE_OK)
        return false;
    const bool has = strstr(data, text) != NULL;
    free(data);
    return has;
}

/* One folder against its source, by every rank. */
static void check_folder(const char *model, const char *name, const char *variant, int64_t width) {
    char source_path[PATH_BYTES], path[PATH_BYTES], size[64];
    lode_checkpoint_t *source, *made;
    join(source_path, model);
    join(path, name);
    LODE_REQUIRE(lode_checkpoint_open(&source, source_path) == LODE_OK);
    LODE_CHECK(file_has(path, "tokenizer.json", "{}"));
    LODE_CHECK(!file_has(path, "pytorch_model.bin", ""));
    LODE_CHECK(file_has(path, "lodestone.json", variant));
    snprintf(size, sizeof size, "\"intermediate_size\": %d", (int)width);
    LODE_CHECK(strcmp(variant, "dense") == 0 || file_has(path, "config.json", size));
    if (strstr(variant, "+bias")) {
        lode_layer_weights_t weights;
        LODE_REQUIRE(lode_checkpoint_layer(source, 0, &weights) == LODE_OK);
        LODE_CHECK(file_has(path, "config.json", "\"mlp_bias\": true"));
        LODE_CHECK(lode_checkpoint_open(&made, path) == LODE_ERR_UNSUPPORTED);
        check_biases(path, weights.down.dtype, width);
    } else {
        lode_tensor_t a, b;
        if (lode_checkpoint_open(&made, path) != LODE_OK)
            LODE_REQUIRE(!"the folder can be read");
        for (int64_t l = 0; l < L; l++)
            check_layer(variant, source, made, l, width);
        LODE_CHECK(lode_checkpoint_tensor_count(source) == lode_checkpoint_tensor_count(made));
        LODE_REQUIRE(lode_checkpoint_embedding(source, &a) == LODE_OK &&
                     lode_checkpoint_embedding(made, &b) == LODE_OK);
        LODE_CHECK(same_tensor(&a, &b));
        LODE_REQUIRE(lode_checkpoint_final_norm(source, &a) == LODE_OK &&
                     lode_checkpoint_final_norm(made, &b) == LODE_OK);
        LODE_CHECK(same_tensor(&a, &b));
        lode_checkpoint_close(&made);
    }
    lode_checkpoint_close(&source);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_model(const char *model, lode_dtype_t dtype) {
    static const struct {
        const char *variant, *layout;
        int64_t width;
    } cases[] = {{"magnitude@0.5", "sliced", 10},
                 {"magnitude@0.5+global", "auto", 14},
                 {"magnitude@0.5+global", "padded", 14},
                 {"magnitude@0.5+least-squares", "auto", 10},
                 {"magnitude@0.5+global+least-squares", "auto", 14},
                 {"magnitude@0.5+bias", "auto", 10},
                 {"magnitude@0.5+global+bias", "auto", 14},
                 {"dense", "auto", M}};
    enum { CASES = sizeof cases / sizeof *cases };
    lode_run_t run;
    lode_buffer_t exports = {0};
    write_model(model, dtype);
    for (int i = 0; i < CASES; i++)
        LODE_REQUIRE(lode_buffer_printf(&exports,
                                        "%s{ variant = \"%s\"; layout = \"%s\"; path = "
                                        "\"%s/%s-%d/deep\"; }",
                                        i ? ", " : "", cases[i].variant, cases[i].layout, folder,
                                        model, i) == LODE_OK);
    open_run(&run, model, exports.data);
    lode_buffer_free(&exports);
    write_stores(&run);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    for (int i = 0; i < CASES; i++) {
        char name[PATH_BYTES];
        path_of(name, "%s-%d/deep", model, i);
        check_folder(model, name, cases[i].variant, cases[i].width);
    }
    LODE_CHECK(lode_export_present(&run));
    MPI_Barrier(comm.comm);
    char path[PATH_BYTES];
    path_of(path, "%s/%s-2/deep/tokenizer.json", folder, model);
    if (comm.rank == 0)
        LODE_CHECK(remove(path) == 0);
    MPI_Barrier(comm.comm);
    LODE_CHECK(!lode_export_present(&run));
    close_run(&run);
}

/* One export that must be refused: nothing is left, and the message has `text`. */
static void refuse(const char *variant, const char *layout, const char *name, lode_status_t status,
                   const char *text) {
    char exports[PATH_BYTES + 256], path[PATH_BYTES];
    lode_run_t run;
    snprintf(exports, sizeof exports, "{ variant = \"%s\"; layout = \"%s\"; path = \"%s/%s\"; }",
             variant, layout, folder, name);
    open_run(&run, "half", exports);
    const lode_status_t got = lode_stage_export(&run);
    LODE_CHECK(got == status);
    if (!strstr(lode_error_message(), text)) {
        fprintf(stderr, "\"%s\" has no \"%s\"\n", lode_error_message(), text);
        LODE_CHECK(!"the message names it");
    }
    path_of(path, "%s/%s.partial", folder, name);
    LODE_CHECK(!lode_file_exists(path));
    close_run(&run);
}

static void test_refusals(void) {
    char path[PATH_BYTES];
    join(path, "foreign");
    if (comm.rank == 0) {
        LODE_REQUIRE(lode_directory_create(path) == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(path, "thesis.tex", "years") == LODE_OK);
        LODE_REQUIRE(lode_test_write_text(folder, "file", "x") == LODE_OK);
        path_of(path, "%s/half-0/deep", folder);
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
    join(path, "foreign/thesis.tex");
    LODE_CHECK(lode_file_exists(path));
    join(path, "x");
    LODE_CHECK(!lode_file_exists(path));
}

/* A folder of ours is replaced, and what interrupted runs leave goes. */
static void test_replacement(void) {
    char exports[PATH_BYTES + 256], path[PATH_BYTES];
    lode_run_t run;
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
    open_run(&run, "half", exports);
    LODE_CHECK(lode_stage_export(&run) == LODE_OK);
    close_run(&run);
    LODE_CHECK(!lode_file_exists(path));
    join(path, "half-1/deep.replaced");
    LODE_CHECK(!lode_file_exists(path));
    check_folder("half", "half-1/deep", "magnitude@0.5", 10);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    comm = lode_comm_describe(MPI_COMM_WORLD);
    if (comm.rank == 0)
        snprintf(folder, sizeof folder, "%s", lode_test_temporary());
    MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, comm.comm);
    test_model("half", LODE_DTYPE_F16);
    test_model("brain", LODE_DTYPE_BF16);
    test_model("single", LODE_DTYPE_F32);
    test_refusals();
    test_replacement();
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
