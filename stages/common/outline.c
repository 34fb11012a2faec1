#include "common/outline.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/family.h"
#include "model/json_text.h"

/* Types as safetensors and as torch call them. */
static const struct {
    lode_dtype_t dtype;
    const char *torch;
} dtypes[] = {
    {LODE_DTYPE_F32, "float32"},
    {LODE_DTYPE_F16, "float16"},
    {LODE_DTYPE_BF16, "bfloat16"},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

/* The key was renamed; older files have the second. */
static const char *const dtype_keys[] = {"dtype", "torch_dtype"};

bool lode_outline_find_dtype(lode_dtype_t *out, const char *name) {
    for (int i = 0; i < DTYPES; i++)
        if (strcmp(lode_dtype_name(dtypes[i].dtype), name) == 0) {
            *out = dtypes[i].dtype;
            return true;
        }
    return false;
}

static lode_dtype_t dtype_of(const json_t *json) {
    for (int k = 0; k < 2; k++) {
        const char *name = json_string_value(json_object_get(json, dtype_keys[k]));
        for (int i = 0; name && i < DTYPES; i++)
            if (strcmp(name, dtypes[i].torch) == 0)
                return dtypes[i].dtype;
    }
    return LODE_DTYPE_BF16;
}

/* The file, and the folder where it is a model's. */
static lode_status_t find_paths(lode_outline_t *outline, const char *path) {
    static const char name[] = "config.json";
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        LODE_TRY(lode_strdup(&outline->folder, path));
        return lode_path_join(&outline->config, path, name);
    }
    LODE_TRY(lode_strdup(&outline->config, path));
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (strcmp(base, name) != 0)
        return LODE_OK;
    LODE_TRY(lode_strdup(&outline->folder, slash == path ? "/" : slash ? path : "."));
    if (slash && slash != path)
        outline->folder[slash - path] = '\0';
    return LODE_OK;
}

static lode_status_t outline_read(lode_outline_t *outline, const char *path) {
    char *text;
    size_t size;
    LODE_TRY(find_paths(outline, path));
    LODE_TRY(lode_file_read(&text, &size, outline->config));
    lode_status_t status =
        lode_architecture_parse(&outline->architecture, text, size, outline->config);
    if (status == LODE_OK)
        status = lode_json_text_object(&outline->json, text, size, outline->config);
    free(text);
    outline->dtype = dtype_of(outline->json);
    return status;
}

lode_status_t lode_outline_open(lode_outline_t *out, const char *path) {
    *out = (lode_outline_t){0};
    const lode_status_t status = outline_read(out, path);
    if (status != LODE_OK)
        lode_outline_close(out);
    return status;
}

void lode_outline_close(lode_outline_t *outline) {
    free(outline->config);
    free(outline->folder);
    json_decref(outline->json);
    *outline = (lode_outline_t){0};
}

/* Lists with an entry for each layer, like "layer_types", begin again where they end. */
static int stretch_lists(json_t *json, int64_t before, int64_t layers) {
    const char *key;
    json_t *list;
    void *next;
    int failed = 0;
    json_object_foreach_safe(json, next, key, list) {
        if (!json_is_array(list) || strncmp(key, "layer", strlen("layer")) != 0 ||
            (int64_t)json_array_size(list) != before)
            continue;
        json_t *longer = json_array();
        for (int64_t l = 0; l < layers; l++)
            failed |= json_array_append(longer, json_array_get(list, (size_t)(l % before)));
        failed |= json_object_set_new(json, key, longer);
    }
    return failed;
}

static lode_status_t no_memory(const lode_outline_t *outline) {
    return lode_fail(LODE_ERR_MEMORY, "no memory for a copy of %s", outline->config);
}

/* The architecture that the document now describes. */
static lode_status_t read_again(lode_outline_t *outline) {
    char *text = lode_json_text_dump(outline->json);
    if (!text)
        return no_memory(outline);
    const lode_status_t status =
        lode_architecture_parse(&outline->architecture, text, strlen(text), outline->config);
    free(text);
    return status;
}

lode_status_t lode_outline_set_layers(lode_outline_t *outline, int64_t layers) {
    const lode_family_t *family = lode_family(outline->architecture.model_type);
    const char *key = lode_family_size_key(family, offsetof(lode_architecture_t, layers));
    if (layers == outline->architecture.layers)
        return LODE_OK;
    int failed = stretch_lists(outline->json, outline->architecture.layers, layers);
    for (const lode_family_alias_t *alias = family->aliases; alias && alias->alias; alias++)
        if (strcmp(alias->key, key) == 0)
            json_object_del(outline->json, alias->alias);
    failed |= json_object_set_new(outline->json, key, json_integer(layers));
    return failed ? no_memory(outline) : read_again(outline);
}

lode_status_t lode_outline_set_dtype(lode_outline_t *outline, lode_dtype_t dtype) {
    const char *name = dtypes[0].torch;
    int failed = 0;
    bool named = false;
    for (int i = 0; i < DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            name = dtypes[i].torch;
    for (int k = 0; k < 2; k++)
        if (json_object_get(outline->json, dtype_keys[k]) || (k == 1 && !named)) {
            failed |= json_object_set_new(outline->json, dtype_keys[k], json_string(name));
            named = true;
        }
    outline->dtype = dtype;
    return failed ? no_memory(outline) : LODE_OK;
}
