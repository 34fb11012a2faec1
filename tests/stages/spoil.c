/* Writes the tiny checkpoints that errors.sh wants: sound ones, and ones with a single thing wrong.
 *
 *   test_spoil KIND FOLDER
 *
 * FOLDER exists; it gets config.json and the weights, no tokenizer.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/safetensors.h"
#include "testing/checkpoint.h"

static const lode_architecture_t architecture = {.layers = 3,
                                                 .hidden = 16,
                                                 .intermediate = 48,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 32,
                                                 .max_positions = 64,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .bos = 1,
                                                 .eos = 2};

/* In the layer that the third of three ranks owns, so that the others must hear of it. */
static const char spoiled[] = "model.layers.2.mlp.up_proj.weight";

/* Changes one tensor of the list; false where `kind` is none of these. */
static bool spoil_list(const char *kind, lode_test_tensor_t *tensors, int64_t *count) {
    int64_t i = 0;
    while (strcmp(tensors[i].name, spoiled) != 0)
        i++;
    if (strcmp(kind, "missing-tensor") == 0)
        tensors[i] = tensors[--*count];
    else if (strcmp(kind, "wrong-shape") == 0)
        tensors[i].shape[0]++;
    else if (strcmp(kind, "wrong-dtype") == 0)
        tensors[i].dtype = "I32";
    else
        return false;
    return true;
}

/* Overwrites the first element of a tensor with a NaN. */
static lode_status_t write_nan(const char *folder, const char *tensor) {
    char *path;
    lode_safetensors_t *file;
    LODE_TRY(lode_path_join(&path, folder, "model.safetensors"));
    lode_status_t status = lode_safetensors_open(&file, path);
    if (status == LODE_OK) {
        const int64_t at = lode_safetensors_find(file, tensor);
        const int64_t begin = lode_safetensors_entry(file, at)->begin;
        const unsigned char nan[4] = {0xff, 0xff, 0xff, 0xff};
        lode_safetensors_close(&file);
        FILE *stream = fopen(path, "r+b");
        if (!stream || fseek(stream, (long)begin, SEEK_SET) != 0 ||
            fwrite(nan, sizeof nan, 1, stream) != 1 || fclose(stream) != 0)
            status = lode_fail(LODE_ERR_IO, "%s: cannot be changed", path);
    }
    free(path);
    return status;
}

static lode_status_t write_kind(const char *kind, const char *folder) {
    if (strcmp(kind, "sound") == 0)
        return lode_test_write_checkpoint(folder, &architecture, LODE_DTYPE_F32, 1, 7);
    if (strcmp(kind, "sharded") == 0)
        return lode_test_write_checkpoint(folder, &architecture, LODE_DTYPE_F32, 2, 7);
    const char *nan = strcmp(kind, "nan-layer") == 0  ? spoiled
                      : strcmp(kind, "nan-head") == 0 ? "lm_head.weight"
                                                      : NULL;
    if (nan) {
        LODE_TRY(lode_test_write_checkpoint(folder, &architecture, LODE_DTYPE_F32, 1, 7));
        return write_nan(folder, nan);
    }
    lode_test_tensor_t *tensors;
    int64_t count;
    LODE_TRY(lode_test_write_config(folder, &architecture));
    LODE_TRY(lode_test_list_tensors(&tensors, &count, &architecture, LODE_DTYPE_F32));
    lode_status_t status = LODE_OK;
    if (spoil_list(kind, tensors, &count))
        status = lode_test_write_safetensors(folder, "model.safetensors", tensors, count, 7);
    else
        status = lode_fail(LODE_ERR_USAGE, "there is no kind %s", kind);
    free(tensors);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: test_spoil KIND FOLDER\n");
        return LODE_ERR_USAGE;
    }
    const lode_status_t status = write_kind(argv[1], argv[2]);
    if (status != LODE_OK)
        fprintf(stderr, "%s\n", lode_error_message());
    return (int)status;
}
