#include "model/checkpoint_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/json_text.h"

enum { SHOWN_SHARDS = 4 };

/* --- opening --------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A shard lies in the folder itself: an index must not lead anywhere else. */
static lode_status_t check_shard_name(const char *shard, const char *tensor, const char *index) {
    if (!shard || lode_json_text_has_control(shard) || lode_json_text_has_control(tensor))
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"weight_map\" must map names of tensors to names of files", index);
    if (shard[0] == '\0' || strchr(shard, '/') || strstr(shard, ".."))
        return lode_fail(
            LODE_ERR_FORMAT,
            "%s: tensor \"%.200s\": \"%.200s\" is no plain name of a file in the folder", index,
            tensor, shard);
    return LODE_OK;
}

/* The sorted names of the shards, without repetitions; the strings stay the map's. */
static lode_status_t list_shards(const char **shards, int64_t *count, json_t *map,
                                 const char *index) {
    const char *tensor;
    json_t *value;
    int64_t listed = 0;
    json_object_foreach(map, tensor, value) {
        LODE_TRY(check_shard_name(json_string_value(value), tensor, index));
        shards[listed++] = json_string_value(value);
    }
    qsort(shards, (size_t)listed, sizeof shards[0], by_text);
    *count = 0;
    for (int64_t i = 0; i < listed; i++)
        if (*count == 0 || strcmp(shards[*count - 1], shards[i]) != 0)
            shards[(*count)++] = shards[i];
    return LODE_OK;
}

/* Says at once which shards are missing, so that they can be fetched at once. */
static lode_status_t check_shards_exist(const lode_checkpoint_t *checkpoint, const char **shards,
                                        int64_t count) {
    int64_t missing = 0;
    lode_buffer_t names = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count; i++) {
        char *path;
        LODE_GUARD(status, lode_path_join(&path, checkpoint->folder, shards[i]), done);
        bool exists = lode_file_exists(path);
        free(path);
        if (!exists && missing++ < SHOWN_SHARDS)
            LODE_GUARD(
                status,
                lode_buffer_printf(&names, "%s\"%.200s\"", names.length ? ", " : "", shards[i]),
                done);
    }
    if (missing > 0)
        status = lode_fail(LODE_ERR_INPUT,
                           "%s: %" PRId64 " of its %" PRId64
                           " shards are not in the folder: %s%s; fetch the whole checkpoint",
                           checkpoint->index, missing, count, names.data,
                           missing > SHOWN_SHARDS ? " …" : "");
done:
    lode_buffer_free(&names);
    return status;
}

/* Opens the named files of the folder in the given order. */
static lode_status_t open_files(lode_checkpoint_t *checkpoint, const char *const *names,
                                int64_t count) {
    LODE_TRY(LODE_NEW(&checkpoint->files, count, "checkpoint files"));
    for (int64_t i = 0; i < count; i++) {
        char *path;
        LODE_TRY(lode_path_join(&path, checkpoint->folder, names[i]));
        lode_status_t status = lode_safetensors_open(&checkpoint->files[i], path);
        free(path);
        if (status != LODE_OK)
            return status;
        checkpoint->file_count++;
    }
    return LODE_OK;
}

/* Every tensor of the map must be in the shard that it names. */
static lode_status_t check_map(const lode_checkpoint_t *checkpoint, const char **shards,
                               json_t *map) {
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const char *shard = json_string_value(value);
        const char **found =
            bsearch(&shard, shards, (size_t)checkpoint->file_count, sizeof shards[0], by_text);
        LODE_ASSERT(found);
        const lode_safetensors_t *file = checkpoint->files[found - shards];
        if (lode_safetensors_find(file, tensor) < 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: tensor \"%.200s\" is not in %s, where the index places it; index "
                             "and shards are of different checkpoints",
                             checkpoint->index, tensor, lode_safetensors_path(file));
    }
    return LODE_OK;
}

static lode_status_t open_map(lode_checkpoint_t *checkpoint, json_t *map) {
    int64_t capacity = (int64_t)json_object_size(map), count = 0;
    if (capacity == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"weight_map\" is missing, empty or no object",
                         checkpoint->index);
    const char **shards;
    LODE_TRY(LODE_NEW(&shards, capacity, "names of shards"));
    lode_status_t status;
    LODE_GUARD(status, list_shards(shards, &count, map, checkpoint->index), done);
    LODE_GUARD(status, check_shards_exist(checkpoint, shards, count), done);
    LODE_GUARD(status, open_files(checkpoint, shards, count), done);
    status = check_map(checkpoint, shards, map);
done:
    free((void *)shards);
    return status;
}

static lode_status_t open_sharded(lode_checkpoint_t *checkpoint) {
    char *text;
    size_t size;
    json_t *root;
    LODE_TRY(lode_file_read(&text, &size, checkpoint->index));
    lode_status_t status = lode_json_text_object(&root, text, size, checkpoint->index);
    free(text);
    if (status != LODE_OK)
        return status;
    status = open_map(checkpoint, json_object_get(root, "weight_map"));
    json_decref(root);
    return status;
}

lode_status_t lode_checkpoint_find_file(char **out, const char *folder, const char *name) {
    LODE_TRY(lode_path_join(out, folder, name));
    if (!lode_file_exists(*out)) {
        free(*out);
        *out = NULL;
    }
    return LODE_OK;
}

lode_status_t lode_checkpoint_open_weights(lode_checkpoint_t *checkpoint) {
    static const char *const single = "model.safetensors";
    char *path;
    LODE_TRY(lode_checkpoint_find_file(&path, checkpoint->folder, single));
    bool one_file = path != NULL;
    free(path);
    if (one_file)
        return open_files(checkpoint, &single, 1);
    LODE_TRY(lode_checkpoint_find_file(&checkpoint->index, checkpoint->folder,
                                       "model.safetensors.index.json"));
    if (checkpoint->index)
        return open_sharded(checkpoint);
    return lode_fail(LODE_ERR_INPUT,
                     "%s: has neither model.safetensors nor model.safetensors.index.json; convert "
                     "other formats with transformers' save_pretrained()",
                     checkpoint->folder);
}

/* --- what there is --------------------------------------------------------------------------- */

const char *lode_checkpoint_folder(const lode_checkpoint_t *checkpoint) {
    return checkpoint->folder;
}

int64_t lode_checkpoint_file_count(const lode_checkpoint_t *checkpoint) {
    return checkpoint->in_memory ? 0 : 1 + (checkpoint->index != NULL) + checkpoint->file_count;
}

const char *lode_checkpoint_file_path(const lode_checkpoint_t *checkpoint, int64_t index) {
    LODE_ASSERT(index >= 0 && index < lode_checkpoint_file_count(checkpoint));
    if (index == 0)
        return checkpoint->config;
    if (checkpoint->index && index == 1)
        return checkpoint->index;
    return lode_safetensors_path(checkpoint->files[index - 1 - (checkpoint->index != NULL)]);
}

lode_status_t lode_checkpoint_tokenizer(const lode_checkpoint_t *checkpoint, const char **path) {
    *path = checkpoint->tokenizer;
    if (checkpoint->tokenizer)
        return LODE_OK;
    char *model = NULL;
    LODE_TRY(lode_checkpoint_find_file(&model, checkpoint->folder, "tokenizer.model"));
    const bool convertible = model != NULL;
    free(model);
    return lode_fail(LODE_ERR_INPUT,
                     convertible ? "%s: has tokenizer.model but no tokenizer.json; write one: "
                                   "python3 -c 'import sys, transformers as t; "
                                   "t.AutoTokenizer.from_pretrained(sys.argv[1])"
                                   ".save_pretrained(sys.argv[1])' FOLDER"
                                 : "%s: has no tokenizer.json; fetch the model's",
                     checkpoint->folder);
}
