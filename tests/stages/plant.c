/* Writes a copy of a small trained checkpoint into which super weights are planted, for
 * superweight.sh, and tells what a superweight.h5 has seen of them.
 *
 *   test_plant KIND SOURCE FOLDER   writes FOLDER, prints "layer row channel" of each planted
 * weight in the order in which they are to be found test_plant seen FILE            prints
 * "iteration prompt layer <ratio of the output spike> <ratio of the input's> <share> <1 where at
 * one token>"
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
 * before a text. BOS sees nothing but itself: its normed input h of a layer's feed-forward block is
 * the same in every prompt. Gate and up rows of the channel are laid along h, so that u spikes
 * there.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "comm/context.h"
#include "model/safetensors.h"
#include "store/store.h"
#include "transformer/pass.h"

enum { TEXTS = 12, LENGTH = 16, LINE = 512 };

static const double gate_at = 20, input = 600, weight = 2, others = 1.0 / 1024;

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

/* The largest of sign · h over all tokens, for every dimension, of one layer's h. */
typedef struct view {
    int64_t layer, d;
    double *most, *least; /* [d] */
} view_t;

static lode_status_t on_ffn(void *context, const lode_batch_t *batch, int64_t layer,
                            const lode_real_t *h, const lode_real_t *u) {
    view_t *view = context;
    (void)u;
    for (int64_t i = 0; i < batch->tokens * view->d && layer == view->layer; i++) {
        const double value = (double)h[i];
        const int64_t at = i % view->d;
        view->most[at] = fmax(view->most[at], value);
        view->least[at] = fmin(view->least[at], value);
    }
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

/* most [d], and least [d] where not NULL: the largest and smallest h of the layer, of BOS alone or
 * over random texts. */
static lode_status_t look(const plant_t *plant, int64_t layer, bool texts, double *most,
                          double *least) {
    const int64_t d = plant->architecture.hidden, length = texts ? LENGTH : 1;
    const uint64_t key = lode_random_key(1, "texts", 0, 0);
    int64_t offsets[TEXTS + 1] = {0};
    int32_t ids[TEXTS * LENGTH], target[TEXTS * LENGTH];
    for (int64_t i = 0; i < TEXTS * LENGTH; i++) {
        target[i] = -1;
        ids[i] = i % length == 0
                     ? plant->architecture.bos
                     : (int32_t)lode_random_below(key, (uint64_t)i, plant->architecture.vocab);
    }
    for (int64_t s = 0; s < TEXTS; s++)
        offsets[s + 1] = (s + 1) * length;
    const lode_text_t text = {
        .sequences = texts ? TEXTS : 1, .offsets = offsets, .ids = ids, .target = target};
    double *own;
    lode_checkpoint_t *checkpoint;
    LODE_TRY(LODE_NEW(&own, d, "h"));
    for (int64_t i = 0; i < d; i++) {
        most[i] = -INFINITY;
        (least ? least : own)[i] = INFINITY;
    }
    view_t view = {.layer = layer, .d = d, .most = most, .least = least ? least : own};
    lode_status_t status = lode_checkpoint_open(&checkpoint, plant->folder);
    if (status == LODE_OK)
        status = run(checkpoint, &text, &view);
    lode_checkpoint_close(&checkpoint);
    free(own);
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
    LODE_TRY(look(plant, layer, false, h, NULL));
    return plant_channel(plant, layer, channel, h, h);
}

/* The dimension that h of the last two layers reaches least in one direction, which *sign is. */
static lode_status_t find_quiet(const plant_t *plant, int64_t *row, double *sign) {
    const int64_t d = plant->architecture.hidden, L = plant->architecture.layers;
    double *most, best = INFINITY;
    LODE_TRY(LODE_NEW(&most, 4 * d, "h"));
    double *least = most + 2 * d;
    lode_status_t status = look(plant, L - 2, true, most, least);
    if (status == LODE_OK)
        status = look(plant, L - 1, true, most + d, least + d);
    for (int64_t i = 0; i < d && status == LODE_OK; i++) {
        const double up = fmax(most[i], most[d + i]), down = fmax(-least[i], -least[d + i]);
        /* In units of its own spread: a dimension with a small norm weight is no quieter. */
        const double reach = fmin(up, down) / (up + down);
        if (reach < best) {
            best = reach;
            *row = i;
            *sign = up < down ? 1 : -1;
        }
    }
    free(most);
    return status;
}

/* In the last two layers a channel each that reads the dimension alone, and takes half of what the
 * early weight has put there back. */
static lode_status_t plant_late(const plant_t *plant, int64_t row, double sign, double *h) {
    const int64_t d = plant->architecture.hidden, channel = plant->architecture.intermediate / 2;
    double *direction;
    LODE_TRY(LODE_NEW(&direction, d, "a direction"));
    direction[row] = sign;
    lode_status_t status = LODE_OK;
    for (int64_t l = plant->architecture.layers - 2;
         l < plant->architecture.layers && status == LODE_OK; l++) {
        status = look(plant, l, false, h, NULL);
        if (status == LODE_OK)
            status = plant_channel(plant, l, channel, direction, h);
        if (status == LODE_OK)
            status = set_weight(plant, l, row, channel, -sign * weight * 0.45);
    }
    free(direction);
    return status;
}

static lode_status_t plant_weight(const plant_t *plant, int64_t layer, int64_t row, int64_t channel,
                                  double value) {
    printf("%lld %lld %lld\n", (long long)layer, (long long)row, (long long)channel);
    return set_weight(plant, layer, row, channel, value);
}

static lode_status_t plant_kind(const plant_t *plant, const char *kind, double *h) {
    int64_t row = plant->architecture.hidden / 2, channel = plant->architecture.intermediate / 3;
    double sign = 1;
    const bool late = strcmp(kind, "late") == 0;
    if (strcmp(kind, "nothing") == 0)
        return LODE_OK;
    if (late)
        LODE_TRY(find_quiet(plant, &row, &sign));
    LODE_TRY(plant_early(plant, 1, channel, h));
    if (strcmp(kind, "pair") == 0)
        LODE_TRY(plant_early(plant, 1, channel + 5, h));
    if (strcmp(kind, "layers") == 0) /* as the third finds it once the first is gone */
        LODE_TRY(plant_early(plant, 3, channel + 7, h));
    LODE_TRY(plant_weight(plant, 1, row, channel, sign * weight));
    if (late)
        return plant_late(plant, row, sign, h);
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
