#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/setting.h"
#include "plan/forecast.h"

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* What "dtype" or, before transformers 5, "torch_dtype" says the weights are. */
static void read_dtype(lode_forecast_model_t *model, const char *json, size_t size) {
    json_t *root = json_loadb(json, size, 0, NULL);
    json_t *value = root ? lode_setting_get(root, "dtype") : NULL;
    if (root && !value)
        value = lode_setting_get(root, "torch_dtype");
    const char *name = json_is_string(value) ? json_string_value(value) : "";
    if (strncmp(name, "torch.", 6) == 0)
        name += 6;
    model->dtype = strcmp(name, "bfloat16") == 0  ? LODE_DTYPE_BF16
                   : strcmp(name, "float16") == 0 ? LODE_DTYPE_F16
                                                  : LODE_DTYPE_F32;
    model->guessed = model->dtype == LODE_DTYPE_F32 && strcmp(name, "float32") != 0;
    json_decref(root);
}

static void sizes_of_dtype(lode_forecast_model_t *model) {
    const lode_architecture_t *a = &model->architecture;
    const int64_t each = (int64_t)lode_dtype_size(model->dtype);
    model->layer_bytes = lode_architecture_layer_parameters(a) * each;
    model->embedding_bytes = lode_architecture_embedding_parameters(a) * each;
    model->head_bytes = lode_architecture_head_parameters(a) * each;
    model->bytes = lode_architecture_parameters(a) * each;
    model->tied_bytes = a->tied ? a->vocab * a->hidden * each : 0;
    model->head_bytes += model->tied_bytes;
}

void lode_forecast_retype(lode_forecast_model_t *model, lode_dtype_t dtype) {
    model->dtype = dtype;
    model->guessed = false;
    sizes_of_dtype(model);
}

/* The same of weights that are there. */
static void sizes_of_weights(lode_forecast_model_t *model, const lode_checkpoint_t *checkpoint) {
    const lode_architecture_t *a = &model->architecture;
    int64_t layers = 0, ends[2] = {0};
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        if (info.owner >= 0) {
            layers += info.bytes;
            if (info.rank == 2)
                model->dtype = strcmp(info.dtype, "F32") == 0   ? LODE_DTYPE_F32
                               : strcmp(info.dtype, "F16") == 0 ? LODE_DTYPE_F16
                                                                : LODE_DTYPE_BF16;
        } else if (info.owner != LODE_OWNER_UNUSED) {
            ends[info.owner == LODE_OWNER_EMBEDDING ? 0 : 1] += info.bytes;
        }
    }
    model->guessed = false;
    model->layer_bytes = layers / a->layers;
    model->embedding_bytes = ends[0];
    model->tied_bytes = a->tied ? a->vocab * a->hidden * (int64_t)lode_dtype_size(model->dtype) : 0;
    model->head_bytes = model->tied_bytes + ends[1];
    model->bytes = layers + ends[0] + ends[1];
}

lode_status_t lode_forecast_model(lode_forecast_model_t *model, const char *path) {
    *model = (lode_forecast_model_t){0};
    char *file = NULL, *json = NULL;
    size_t size;
    lode_checkpoint_t *checkpoint = NULL;
    const bool folder = is_folder(path);
    lode_status_t status =
        folder ? lode_path_join(&file, path, "config.json") : lode_strdup(&file, path);
    if (status == LODE_OK)
        status = lode_file_read(&json, &size, file);
    if (status == LODE_OK)
        status = lode_architecture_parse(&model->architecture, json, size, file);
    if (status == LODE_OK) {
        read_dtype(model, json, size);
        sizes_of_dtype(model);
        /* Weights that are missing or broken are no concern of a plan. */
        if (folder && lode_checkpoint_open(&checkpoint, path) == LODE_OK)
            sizes_of_weights(model, checkpoint);
    }
    lode_checkpoint_close(&checkpoint);
    free(json);
    free(file);
    return status;
}

int64_t lode_forecast_weights(const lode_forecast_model_t *model, const lode_layout_t *layout) {
    int64_t bytes = (layout->layer_end - layout->first_layer) * model->layer_bytes;
    if (layout->embedding)
        bytes += model->embedding_bytes;
    if (layout->head)
        bytes += model->head_bytes;
    if (layout->embedding && layout->head)
        bytes -= model->tied_bytes; /* one mapping */
    return bytes;
}
