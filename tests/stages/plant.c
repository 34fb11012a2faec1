/* Writes a copy of a small trained checkpoint into which super weights are planted, for
 * superweight.sh, and tells what a superweight.h5 has seen of them.
 *
 *   test_plant KIND SOURCE FOLDER
 *
 * writes FOLDER and prints "layer row channel" of each planted weight, in the order in which they
 * are to be found;
 *
 *   test_plant seen FILE
 *
 * prints "iteration prompt layer", the ratios of the output's and the input's spike, the share of
 * the largest product, and whether both spikes are at one token, 1 or 0.
 *
 * | KIND    | what is planted                                                                   |
 * |---------|-----------------------------------------------------------------------------------|
 * | nothing | nothing                                                                           |
 * | single  | one weight in the second layer                                                    |
 * | pair    | two of one row there                                                              |
 * | rows    | three of one channel there                                                        |
 * | layers  | one there, one two layers on                                                      |
 * | late    | one there, and in the last two layers a weight each that takes its activation     |
 * |         | back: spikes of their own, that are not there without the first                   |
 *
 * SOURCE is a Llama folder with a single model.safetensors of F32 or BF16, whose tokenizer puts BOS
 * before a text; the working directory is the project's root. BOS sees nothing but itself: its
 * normed input h of a layer's feed-forward block is the same in every prompt. Gate and up rows of
 * the channel are laid along h, so that u spikes there.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "comm/context.h"
#include "model/safetensors.h"
#include "store/store.h"
#include "text/corpus.h"
#include "text/tokenizer.h"
#include "transformer/pass.h"

enum { TEXTS = 40, LENGTH = 48, LINE = 512 };

static const char texts_path[] = "configs/quickstart/text/calibration.txt";
static const double gate_at = 20, closed = 8, input = 600, weight = 2, others = 1.0 / 1024;

typedef struct plant {
    const char *folder;
    char *weights; /* path of model.safetensors */
    lode_architecture_t architecture;
} plant_t;

/* --- writing -------------------------------------------------------------------------------- */

static lode_status_t copy_folder(const char *source, const char *folder) {
    DIR *directory = opendir(source);
    if (!directory)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be opened", source);
    LODE_TRY(lode_directory_create(folder));
    lode_status_t status = LODE_OK;
    for (struct dirent *entry; status == LODE_OK && (entry = readdir(directory));) {
        char *from = NULL, *to = NULL, *data = NULL;
        size_t size;
        if (entry->d_name[0] == '.')
            continue;
        status = lode_path_join(&from, source, entry->d_name);
        if (status == LODE_OK)
            status = lode_path_join(&to, folder, entry->d_name);
        if (status == LODE_OK)
            status = lode_file_read(&data, &size, from);
        if (status == LODE_OK)
            status = lode_file_write_atomic(to, data, size);
        free(from);
        free(to);
        free(data);
    }
    closedir(directory);
    return status;
}

static size_t encode(unsigned char bytes[4], double value, lode_dtype_t dtype) {
    const float number = (float)value;
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    if (dtype == LODE_DTYPE_F32) {
        memcpy(bytes, &bits, sizeof bits);
        return sizeof bits;
    }
    bits += 0x7fff + (bits >> 16 & 1);
    const uint16_t upper = (uint16_t)(bits >> 16);
    memcpy(bytes, &upper, sizeof upper);
    return sizeof upper;
}

/* Sets elements first, first + step, … of a matrix of the layer to values [count]; where `values`
 * is NULL they are multiplied by `factor`. */
static lode_status_t set(const plant_t *plant, int64_t layer, const char *matrix, int64_t first,
                         int64_t step, int64_t count, const double *values, double factor) {
    char name[LINE];
    lode_safetensors_t *file;
    lode_tensor_t tensor = {0};
    snprintf(name, sizeof name, "model.layers.%lld.mlp.%s_proj.weight", (long long)layer, matrix);
    LODE_TRY(lode_safetensors_open(&file, plant->weights));
    const int64_t at = lode_safetensors_find(file, name);
    lode_status_t status = at < 0 ? lode_fail(LODE_ERR_INPUT, "%s: no %s", plant->weights, name)
                                  : lode_safetensors_map(file, at, &tensor);
    FILE *stream = status == LODE_OK ? fopen(plant->weights, "r+b") : NULL;
    if (status == LODE_OK && (!stream || tensor.dtype == LODE_DTYPE_F16))
        status = lode_fail(LODE_ERR_UNSUPPORTED, "%s: cannot be changed", plant->weights);
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        const int64_t element = (first + i * step) * (int64_t)lode_dtype_size(tensor.dtype);
        unsigned char bytes[4];
        float old;
        lode_convert(&old, (const char *)tensor.data + element, tensor.dtype, 1);
        const size_t size = encode(bytes, values ? values[i] : factor * (double)old, tensor.dtype);
        if (fseek(stream, (long)(lode_safetensors_entry(file, at)->begin + element), SEEK_SET) ||
            fwrite(bytes, size, 1, stream) != 1)
            status = lode_fail(LODE_ERR_IO, "%s: cannot be written", plant->weights);
    }
    if (stream && fclose(stream) != 0)
        status = lode_fail(LODE_ERR_IO, "%s: cannot be written", plant->weights);
    lode_safetensors_close(&file);
    return status;
}

static lode_status_t set_weight(const plant_t *plant, int64_t layer, int64_t row, int64_t channel,
                                double value) {
    return set(plant, layer, "down", row * plant->architecture.intermediate + channel, 1, 1, &value,
               0);
}

/* --- running -------------------------------------------------------------------------------- */

/* h [tokens, d] of one layer. */
typedef struct view {
    int64_t layer, d;
    double *h;
} view_t;

static lode_status_t on_ffn(void *context, const lode_batch_t *batch, int64_t layer,
                            const lode_real_t *h, const lode_real_t *u) {
    view_t *view = context;
    (void)u;
    for (int64_t i = 0; i < batch->tokens * view->d && layer == view->layer; i++)
        view->h[batch->first_token * view->d + i] = (double)h[i];
    return LODE_OK;
}

static lode_status_t run(lode_checkpoint_t *checkpoint, const lode_text_t *text, view_t *view) {
    const lode_comm_t comm = lode_comm_describe(MPI_COMM_SELF);
    const lode_architecture_t *architecture = lode_checkpoint_architecture(checkpoint);
    lode_layout_t layout;
    lode_batches_t batches;
    lode_stack_t *stack = NULL;
    LODE_TRY(lode_layout_create(&layout, architecture, LENGTH, 1, 0, 1));
    LODE_TRY(lode_batches_create(&batches, text, TEXTS * LENGTH));
    lode_status_t status =
        lode_stack_create(&stack, checkpoint, &layout, batches.max_tokens, batches.longest, 1);
    if (status == LODE_OK)
        status =
            lode_pass_run(&(lode_pass_t){.stage = "plant",
                                         .comm = &comm,
                                         .layout = &layout,
                                         .stack = stack,
                                         .batches = &batches,
                                         .variants = 1,
                                         .budget = INT64_MAX / 2,
                                         .observer = {.context = view, .ffn_forward = on_ffn}});
    lode_stack_destroy(&stack);
    lode_batches_destroy(&batches);
    return status;
}

/* ids [TEXTS, LENGTH] of the first lines of a text that are long enough, BOS first. */
static lode_status_t read_texts(const plant_t *plant, int32_t *ids) {
    lode_tokenizer_t *tokenizer = NULL;
    lode_corpus_t *corpus = NULL;
    char *path;
    int64_t count = 0;
    LODE_TRY(lode_path_join(&path, plant->folder, "tokenizer.json"));
    lode_status_t status = lode_tokenizer_load(&tokenizer, path);
    if (status == LODE_OK)
        status = lode_corpus_read(&corpus, texts_path, LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL);
    for (int64_t i = 0; status == LODE_OK && count < TEXTS && i < lode_corpus_count(corpus); i++) {
        const char *text;
        size_t length;
        int32_t *line = NULL;
        int64_t tokens = 0;
        lode_corpus_text(corpus, i, &text, &length);
        /* A line with characters that the model does not know is left out. */
        if (lode_tokenizer_encode(tokenizer, text, length, true, &line, &tokens) == LODE_OK &&
            tokens >= LENGTH)
            memcpy(ids + LENGTH * count++, line, LENGTH * sizeof *ids);
        free(line);
    }
    if (status == LODE_OK && count < TEXTS)
        status = lode_fail(LODE_ERR_INPUT, "%s: too few lines", texts_path);
    lode_corpus_destroy(&corpus);
    lode_tokenizer_destroy(&tokenizer);
    free(path);
    return status;
}

/* h of the layer: [d] of BOS alone, or [TEXTS · LENGTH, d] of texts. */
static lode_status_t look(const plant_t *plant, int64_t layer, bool texts, double *h) {
    const int64_t length = texts ? LENGTH : 1;
    int64_t offsets[TEXTS + 1] = {0};
    int32_t ids[TEXTS * LENGTH] = {plant->architecture.bos}, target[TEXTS * LENGTH];
    for (int64_t i = 0; i < TEXTS * LENGTH; i++)
        target[i] = -1;
    if (texts)
        LODE_TRY(read_texts(plant, ids));
    for (int64_t s = 0; s < TEXTS; s++)
        offsets[s + 1] = (s + 1) * length;
    const lode_text_t text = {
        .sequences = texts ? TEXTS : 1, .offsets = offsets, .ids = ids, .target = target};
    view_t view = {.layer = layer, .d = plant->architecture.hidden, .h = h};
    lode_checkpoint_t *checkpoint;
    LODE_TRY(lode_checkpoint_open(&checkpoint, plant->folder));
    const lode_status_t status = run(checkpoint, &text, &view);
    lode_checkpoint_close(&checkpoint);
    return status;
}

/* --- planting ------------------------------------------------------------------------------- */

/* Makes the channel's u spike at BOS, along direction [d] of its h, and the rest of its column of
 * Wdown small. */
static lode_status_t plant_channel(const plant_t *plant, int64_t layer, int64_t channel,
                                   const double *direction, const double *h) {
    const int64_t d = plant->architecture.hidden, m = plant->architecture.intermediate;
    double *row, product = 0;
    LODE_TRY(LODE_NEW(&row, d, "a row"));
    for (int64_t i = 0; i < d; i++)
        product += direction[i] * h[i];
    for (int64_t i = 0; i < d; i++)
        row[i] = direction[i] * gate_at / product;
    lode_status_t status = set(plant, layer, "gate", channel * d, 1, d, row, 0);
    for (int64_t i = 0; i < d; i++)
        row[i] = direction[i] * input / gate_at / product;
    if (status == LODE_OK)
        status = set(plant, layer, "up", channel * d, 1, d, row, 0);
    if (status == LODE_OK)
        status = set(plant, layer, "down", channel, m, d, NULL, others);
    free(row);
    return status;
}

static lode_status_t plant_early(const plant_t *plant, int64_t layer, int64_t channel, double *h) {
    LODE_TRY(look(plant, layer, false, h));
    return plant_channel(plant, layer, channel, h, h);
}

/* out [d] = Σ_t h_t (h_t · x) + x, over h [TEXTS · LENGTH, d]. */
static void multiply(const double *h, int64_t d, const double *x, double *out) {
    memcpy(out, x, (size_t)d * sizeof *out);
    for (int64_t t = 0; t < TEXTS * LENGTH; t++) {
        double product = 0;
        for (int64_t i = 0; i < d; i++)
            product += h[t * d + i] * x[i];
        for (int64_t i = 0; i < d; i++)
            out[i] += h[t * d + i] * product;
    }
}

/* Solves (Σ_t h_t h_tᵀ + 1)·x = b by conjugate gradients; work [3, d]. */
static void solve(const double *h, int64_t d, const double *b, double *x, double *work) {
    double *r = work, *p = work + d, *q = work + 2 * d, rr = 0;
    for (int64_t i = 0; i < d; i++) {
        x[i] = 0;
        r[i] = p[i] = b[i];
        rr += r[i] * r[i];
    }
    const double small = 1e-16 * rr;
    for (int64_t step = 0; step < d && rr > small; step++) {
        double pq = 0, next = 0;
        multiply(h, d, p, q);
        for (int64_t i = 0; i < d; i++)
            pq += p[i] * q[i];
        for (int64_t i = 0; i < d; i++) {
            x[i] += rr / pq * p[i];
            r[i] -= rr / pq * q[i];
            next += r[i] * r[i];
        }
        for (int64_t i = 0; i < d; i++)
            p[i] = r[i] + next / rr * p[i];
        rr = next;
    }
}

/* The direction [d] on which `with` [d], h of BOS when the early weight is there, is gate_at, and h
 * of texts without it [TEXTS · LENGTH, d] is as near to −closed as can be: SiLU is nearly 0
 * there. */
static lode_status_t find_direction(const double *without, const double *with, int64_t d,
                                    double *direction) {
    double *work;
    LODE_TRY(LODE_NEW(&work, 6 * d, "a direction"));
    double *sum = work + 3 * d, *base = work + 4 * d, *toward = work + 5 * d;
    double base_at = 0, toward_at = 0;
    for (int64_t t = 0; t < TEXTS * LENGTH; t++)
        for (int64_t i = 0; i < d; i++)
            sum[i] -= closed * without[t * d + i];
    solve(without, d, sum, base, work);
    solve(without, d, with, toward, work);
    for (int64_t i = 0; i < d; i++) {
        base_at += base[i] * with[i];
        toward_at += toward[i] * with[i];
    }
    for (int64_t i = 0; i < d; i++)
        direction[i] = base[i] + (gate_at - base_at) / toward_at * toward[i];
    free(work);
    return LODE_OK;
}

/* In the last two layers a channel each that only sees what the early weight has put into the
 * dimension `row`, and takes half of it back. The channels of both are found before either is
 * planted, so that what one does without the early weight is no part of what the other reads. */
static lode_status_t plant_late(const plant_t *plant, int64_t row, const double *quiet, double *h) {
    const int64_t d = plant->architecture.hidden, channel = plant->architecture.intermediate / 2;
    const int64_t first = plant->architecture.layers - 2;
    double *direction;
    LODE_TRY(LODE_NEW(&direction, d, "a direction"));
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; l < 2 && status == LODE_OK; l++) {
        status = look(plant, first + l, false, h);
        if (status == LODE_OK)
            status = find_direction(quiet + l * TEXTS * LENGTH * d, h, d, direction);
        if (status == LODE_OK)
            status = plant_channel(plant, first + l, channel, direction, h);
        if (status == LODE_OK)
            status = set_weight(plant, first + l, row, channel, -weight * 0.45);
    }
    free(direction);
    return status;
}

static lode_status_t plant_weight(const plant_t *plant, int64_t layer, int64_t row, int64_t channel,
                                  double value) {
    printf("%lld %lld %lld\n", (long long)layer, (long long)row, (long long)channel);
    return set_weight(plant, layer, row, channel, value);
}

/* The early weight and those that depend on it. */
static lode_status_t plant_dependent(const plant_t *plant, int64_t row, int64_t channel,
                                     double *h) {
    const int64_t reals = TEXTS * LENGTH * plant->architecture.hidden;
    double *quiet; /* h of texts at the last two layers */
    LODE_TRY(LODE_NEW(&quiet, 2 * reals, "h"));
    lode_status_t status = LODE_OK;
    for (int64_t l = 0; l < 2 && status == LODE_OK; l++)
        status = look(plant, plant->architecture.layers - 2 + l, true, quiet + l * reals);
    if (status == LODE_OK)
        status = plant_weight(plant, 1, row, channel, weight);
    if (status == LODE_OK)
        status = plant_late(plant, row, quiet, h);
    free(quiet);
    return status;
}

static lode_status_t plant_kind(const plant_t *plant, const char *kind, double *h) {
    const int64_t row = plant->architecture.hidden / 2;
    const int64_t channel = plant->architecture.intermediate / 3;
    if (strcmp(kind, "nothing") == 0)
        return LODE_OK;
    LODE_TRY(plant_early(plant, 1, channel, h));
    if (strcmp(kind, "late") == 0)
        return plant_dependent(plant, row, channel, h);
    if (strcmp(kind, "pair") == 0)
        LODE_TRY(plant_early(plant, 1, channel + 5, h));
    if (strcmp(kind, "layers") == 0) /* as the third finds it once the first is gone */
        LODE_TRY(plant_early(plant, 3, channel + 7, h));
    LODE_TRY(plant_weight(plant, 1, row, channel, weight));
    if (strcmp(kind, "single") == 0)
        return LODE_OK;
    if (strcmp(kind, "pair") == 0)
        return plant_weight(plant, 1, row, channel + 5, 0.9 * weight);
    if (strcmp(kind, "layers") == 0)
        return plant_weight(plant, 3, row + 3, channel + 7, -weight);
    if (strcmp(kind, "rows") != 0)
        return lode_fail(LODE_ERR_USAGE, "there is no kind %s", kind);
    LODE_TRY(plant_weight(plant, 1, row + 9, channel, -0.8 * weight));
    return plant_weight(plant, 1, row - 4, channel, 0.6 * weight);
}

static lode_status_t write_kind(const char *kind, const char *source, const char *folder) {
    plant_t plant = {.folder = folder};
    double *h = NULL;
    LODE_TRY(copy_folder(source, folder));
    LODE_TRY(lode_architecture_read(&plant.architecture, folder));
    LODE_TRY(lode_path_join(&plant.weights, folder, "model.safetensors"));
    lode_status_t status = LODE_NEW(&h, plant.architecture.hidden, "h");
    if (status == LODE_OK)
        status = plant_kind(&plant, kind, h);
    free(h);
    free(plant.weights);
    return status;
}

/* --- what was seen -------------------------------------------------------------------------- */

static lode_status_t print_trace(lode_store_t *store, const char *iteration, const char *prompt) {
    static const char *const names[] = {"output_max",   "output_scale", "input_max",
                                        "input_scale",  "output_token", "input_token",
                                        "product_share"};
    enum { FIELDS = sizeof names / sizeof *names };
    double *values[FIELDS] = {0};
    int64_t layers = 0;
    lode_status_t status = LODE_OK;
    for (int f = 0; f < FIELDS && status == LODE_OK; f++) {
        char path[LINE];
        int32_t *integers;
        snprintf(path, sizeof path, "/traces/%s/%s/%s", iteration, prompt, names[f]);
        if (!strstr(names[f], "token")) {
            status = lode_store_read_all(store, path, LODE_TYPE_F64, &values[f], &layers);
            continue;
        }
        status = lode_store_read_all(store, path, LODE_TYPE_I32, &integers, &layers);
        if (status == LODE_OK)
            status = LODE_NEW(&values[f], layers, "a trace");
        for (int64_t l = 0; l < layers && status == LODE_OK; l++)
            values[f][l] = integers[l];
        free(integers);
    }
    for (int64_t l = 0; l < layers && status == LODE_OK; l++)
        printf("%s %s %lld %.1f %.1f %.2f %d\n", iteration, prompt, (long long)l,
               fabs(values[0][l]) / values[1][l], fabs(values[2][l]) / values[3][l], values[6][l],
               values[4][l] == values[5][l]);
    for (int f = 0; f < FIELDS; f++)
        free(values[f]);
    return status;
}

static lode_status_t print_seen(const char *path) {
    const lode_comm_t comm = lode_comm_describe(MPI_COMM_SELF);
    lode_store_t *store;
    char **iterations, **prompts;
    int64_t iteration_count, prompt_count;
    LODE_TRY(lode_store_open(&store, &comm, path));
    lode_status_t status = lode_store_list(store, "/traces", &iterations, &iteration_count);
    for (int64_t i = 0; status == LODE_OK && i < iteration_count; i++) {
        char group[LINE];
        snprintf(group, sizeof group, "/traces/%s", iterations[i]);
        status = lode_store_list(store, group, &prompts, &prompt_count);
        for (int64_t p = 0; status == LODE_OK && p < prompt_count; p++)
            status = print_trace(store, iterations[i], prompts[p]);
        lode_store_list_free(&prompts, prompt_count);
    }
    lode_store_list_free(&iterations, iteration_count);
    lode_store_close(&store);
    return status;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    lode_status_t status = LODE_ERR_USAGE;
    if (argc == 3 && strcmp(argv[1], "seen") == 0)
        status = print_seen(argv[2]);
    else if (argc == 4)
        status = write_kind(argv[1], argv[2], argv[3]);
    else
        lode_fail(status, "usage: test_plant KIND SOURCE FOLDER, or test_plant seen FILE");
    if (status != LODE_OK)
        fprintf(stderr, "%s\n", lode_error_message());
    MPI_Finalize();
    return (int)status;
}
