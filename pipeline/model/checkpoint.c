#include "model/checkpoint_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/family.h"

enum { NAME_BYTES = 128, SHAPE_BYTES = 128 };

static int64_t slot_count(const lode_checkpoint_t *checkpoint) {
    return checkpoint->architecture.layers * LODE_LAYER_ROLES + LODE_ROLE_COUNT - LODE_LAYER_ROLES;
}

/* The place of a role; `layer` counts only in the roles of a layer. */
static lode_checkpoint_slot_t *slot(const lode_checkpoint_t *checkpoint, lode_role_t role,
                                    int64_t layer) {
    int64_t layers = checkpoint->architecture.layers;
    if (role < LODE_LAYER_ROLES)
        return &checkpoint->slots[layer * LODE_LAYER_ROLES + (int64_t)role];
    return &checkpoint->slots[layers * LODE_LAYER_ROLES + (int64_t)role - LODE_LAYER_ROLES];
}

static const lode_safetensors_entry_t *entry_of(const lode_checkpoint_t *checkpoint,
                                                const lode_checkpoint_item_t *item) {
    return lode_safetensors_entry(checkpoint->files[item->file], item->index);
}

/* --- tensors -------------------------------------------------------------------------------- */

static int by_item_name(const void *a, const void *b) {
    const lode_checkpoint_item_t *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Lists the tensors of all files by name, each of which may occur once. */
static lode_status_t list_items(lode_checkpoint_t *checkpoint) {
    int64_t total = 0;
    for (int64_t f = 0; f < checkpoint->file_count; f++)
        total += lode_safetensors_count(checkpoint->files[f]);
    LODE_TRY(LODE_NEW(&checkpoint->items, total, "checkpoint tensors"));
    checkpoint->item_count = total;
    lode_checkpoint_item_t *item = checkpoint->items;
    for (int64_t f = 0; f < checkpoint->file_count; f++) {
        for (int64_t i = 0; i < lode_safetensors_count(checkpoint->files[f]); i++, item++) {
            *item = (lode_checkpoint_item_t){.file = f, .index = i, .owner = LODE_OWNER_UNUSED};
            item->name = entry_of(checkpoint, item)->name;
        }
    }
    if (total > 0)
        qsort(checkpoint->items, (size_t)total, sizeof checkpoint->items[0], by_item_name);
    for (int64_t i = 1; i < total; i++) {
        const lode_checkpoint_item_t *one = &checkpoint->items[i - 1], *two = &checkpoint->items[i];
        if (strcmp(one->name, two->name) == 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: holds tensor \"%.200s\", and so does %s; keep one of them",
                             lode_safetensors_path(checkpoint->files[one->file]), one->name,
                             lode_safetensors_path(checkpoint->files[two->file]));
    }
    return LODE_OK;
}

static lode_checkpoint_item_t *find_item(const lode_checkpoint_t *checkpoint, const char *name) {
    if (checkpoint->item_count == 0)
        return NULL;
    lode_checkpoint_item_t key = {.name = name};
    return bsearch(&key, checkpoint->items, (size_t)checkpoint->item_count,
                   sizeof checkpoint->items[0], by_item_name);
}

/* "[4096, 11008]" of the leading extents. */
static void shape_text(char text[SHAPE_BYTES], const int64_t *shape, int rank) {
    int used = snprintf(text, SHAPE_BYTES, "[");
    for (int i = 0; i < rank && i < LODE_TENSOR_MAX_RANK; i++)
        used += snprintf(text + used, (size_t)(SHAPE_BYTES - used), "%s%" PRId64, i ? ", " : "",
                         shape[i]);
    snprintf(text + used, (size_t)(SHAPE_BYTES - used), rank > LODE_TENSOR_MAX_RANK ? ", …]" : "]");
}

static lode_status_t check_tensor(const lode_checkpoint_t *checkpoint,
                                  const lode_checkpoint_item_t *item, lode_role_t role) {
    const lode_safetensors_entry_t *entry = entry_of(checkpoint, item);
    const char *path = lode_safetensors_path(checkpoint->files[item->file]);
    int64_t shape[2];
    int rank = lode_family_stored_shape(&checkpoint->architecture, role, shape);
    bool fits = entry->rank == rank && entry->shape[0] == shape[0] && entry->shape[1] == shape[1];
    if (!fits) {
        char found[SHAPE_BYTES], expected[SHAPE_BYTES];
        shape_text(found, entry->shape, entry->rank);
        shape_text(expected, shape, rank);
        return lode_fail(LODE_ERR_SHAPE,
                         "%s: tensor \"%.200s\" has shape %s, config.json makes it %s; they are of "
                         "different models",
                         path, entry->name, found, expected);
    }
    if (!entry->readable)
        return lode_fail(LODE_ERR_SHAPE,
                         "%s: tensor \"%.200s\" has dtype %s; supported: F32, F16, BF16 (use an "
                         "unquantised checkpoint)",
                         path, entry->name, entry->dtype);
    return LODE_OK;
}

/* Makes the next part of a tensor a role's, and `owner` its owner. */
static void place(lode_checkpoint_t *checkpoint, lode_checkpoint_item_t *item, lode_role_t role,
                  int64_t layer, int64_t owner) {
    const lode_architecture_t *a = &checkpoint->architecture;
    LODE_ASSERT(item->part_count < LODE_TENSOR_MAX_PARTS);
    const lode_tensor_part_t *last = item->part_count ? &item->parts[item->part_count - 1] : NULL;
    lode_tensor_part_t *part = &item->parts[item->part_count++];
    part->role = role;
    part->begin = last ? last->begin + last->count : 0;
    part->count = lode_family_extent(a, lode_family(a->model_type)->tensors[role].shape[0]);
    item->owner = owner;
    *slot(checkpoint, role, layer) = (lode_checkpoint_slot_t){.item = item, .begin = part->begin};
}

/* Whether a checkpoint that has no `name` has the weight packed instead: GPTQ and AWQ write
 * "….qweight", compressed-tensors "….weight_packed". */
static bool is_packed(const lode_checkpoint_t *checkpoint, const char *name) {
    static const char *const ends[] = {".qweight", ".weight_packed"};
    const char *dot = strrchr(name, '.');
    bool found = false;
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends && !found; i++) {
        char packed[NAME_BYTES + 16];
        snprintf(packed, sizeof packed, "%.*s%s", (int)(dot - name), name, ends[i]);
        found = find_item(checkpoint, packed) != NULL;
    }
    return found;
}

/* What to do about a tensor that is not there. */
static lode_status_t fail_missing(const lode_checkpoint_t *checkpoint, lode_role_t role,
                                  const char *name) {
    const char *place =
        checkpoint->index ? checkpoint->index : lode_safetensors_path(checkpoint->files[0]);
    if (is_packed(checkpoint, name))
        return lode_fail(
            LODE_ERR_UNSUPPORTED,
            "%s: holds \"%s\" packed into integers, and only F32, F16 and BF16 "
            "weights can be read; dequantize the model, save that, and name its folder",
            place, name);
    return lode_fail(LODE_ERR_FORMAT, "%s: has no tensor \"%s\", which config.json asks for%s",
                     place, name,
                     role == LODE_ROLE_HEAD ? "; where the head is the embedding, config.json must "
                                              "say \"tie_word_embeddings\": true"
                                            : "; fetch the whole checkpoint");
}

/* Finds the tensor of a role, with or without the family's prefix, and makes `owner` its owner. */
static lode_status_t assign(lode_checkpoint_t *checkpoint, lode_role_t role, int64_t layer,
                            int64_t owner) {
    const lode_architecture_t *a = &checkpoint->architecture;
    const lode_family_t *family = lode_family(a->model_type);
    char name[NAME_BYTES], bare[NAME_BYTES];
    if (!lode_family_has(a, role))
        return LODE_OK;
    lode_family_tensor_name(name, sizeof name, family, role, layer, true);
    lode_family_tensor_name(bare, sizeof bare, family, role, layer, false);
    lode_checkpoint_item_t *item = find_item(checkpoint, name);
    if (checkpoint->in_memory) {
        if (item)
            place(checkpoint, item, role, layer, owner);
        return LODE_OK; /* another rank's */
    }
    if (!item)
        item = find_item(checkpoint, bare);
    /* Some programs save what is tied once, under the other name. */
    if (!item && role == LODE_ROLE_EMBEDDING && a->tied)
        item = find_item(checkpoint, family->tensors[LODE_ROLE_HEAD].name);
    if (!item)
        return fail_missing(checkpoint, role, name);
    place(checkpoint, item, role, layer, owner);
    return check_tensor(checkpoint, item, role);
}

/* The roles of a layer in order, so that the parts of fused tensors are. */
static lode_status_t assign_all(lode_checkpoint_t *checkpoint) {
    LODE_TRY(LODE_NEW(&checkpoint->slots, slot_count(checkpoint), "checkpoint slots"));
    LODE_TRY(assign(checkpoint, LODE_ROLE_EMBEDDING, 0, LODE_OWNER_EMBEDDING));
    LODE_TRY(assign(checkpoint, LODE_ROLE_POSITIONS, 0, LODE_OWNER_EMBEDDING));
    for (int64_t layer = 0; layer < checkpoint->architecture.layers; layer++)
        for (int role = 0; role < LODE_LAYER_ROLES; role++)
            LODE_TRY(assign(checkpoint, (lode_role_t)role, layer, layer));
    LODE_TRY(assign(checkpoint, LODE_ROLE_FINAL_NORM, 0, LODE_OWNER_FINAL_NORM));
    LODE_TRY(assign(checkpoint, LODE_ROLE_FINAL_NORM_BIAS, 0, LODE_OWNER_FINAL_NORM));
    return assign(checkpoint, LODE_ROLE_HEAD, 0, LODE_OWNER_HEAD);
}

/* --- handles -------------------------------------------------------------------------------- */

static lode_status_t open_folder(lode_checkpoint_t *checkpoint, const char *folder) {
    struct stat info;
    if (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode))
        return lode_fail(LODE_ERR_INPUT,
                         "%s: there is no such folder; a model is a Hugging Face folder with "
                         "config.json and safetensors files",
                         folder);
    LODE_TRY(lode_strdup(&checkpoint->folder, folder));
    LODE_TRY(lode_path_join(&checkpoint->config, folder, "config.json"));
    LODE_TRY(lode_architecture_read(&checkpoint->architecture, folder));
    LODE_TRY(lode_checkpoint_open_weights(checkpoint));
    LODE_TRY(list_items(checkpoint));
    LODE_TRY(assign_all(checkpoint));
    return lode_checkpoint_find_file(&checkpoint->tokenizer, folder, "tokenizer.json");
}

lode_status_t lode_checkpoint_open(lode_checkpoint_t **out, const char *folder) {
    *out = NULL;
    lode_checkpoint_t *checkpoint;
    LODE_TRY(LODE_NEW(&checkpoint, 1, "checkpoint handle"));
    lode_status_t status = open_folder(checkpoint, folder);
    if (status != LODE_OK)
        lode_checkpoint_close(&checkpoint);
    *out = checkpoint;
    return status;
}

static lode_status_t take_memory(lode_checkpoint_t *checkpoint, const lode_memory_tensor_t *tensors,
                                 int64_t count) {
    LODE_TRY(lode_strdup(&checkpoint->folder, "weights in memory"));
    LODE_TRY(LODE_NEW(&checkpoint->items, count, "checkpoint tensors"));
    checkpoint->item_count = count;
    for (int64_t i = 0; i < count; i++)
        checkpoint->items[i] = (lode_checkpoint_item_t){
            .owner = LODE_OWNER_UNUSED, .name = tensors[i].name, .memory = tensors[i].data};
    if (count > 0)
        qsort(checkpoint->items, (size_t)count, sizeof checkpoint->items[0], by_item_name);
    LODE_TRY(assign_all(checkpoint));
    for (int64_t i = 0; i < count; i++)
        if (checkpoint->items[i].part_count == 0)
            return lode_fail(LODE_ERR_INTERNAL, "\"%.200s\" is no tensor of the architecture",
                             checkpoint->items[i].name);
    return LODE_OK;
}

lode_status_t lode_checkpoint_of_memory(lode_checkpoint_t **out,
                                        const lode_architecture_t *architecture,
                                        const lode_memory_tensor_t *tensors, int64_t count) {
    *out = NULL;
    lode_checkpoint_t *checkpoint;
    LODE_TRY(LODE_NEW(&checkpoint, 1, "checkpoint handle"));
    checkpoint->architecture = *architecture;
    checkpoint->in_memory = true;
    lode_status_t status = take_memory(checkpoint, tensors, count);
    if (status != LODE_OK)
        lode_checkpoint_close(&checkpoint);
    *out = checkpoint;
    return status;
}

void lode_checkpoint_close(lode_checkpoint_t **checkpoint) {
    lode_checkpoint_t *closing = *checkpoint;
    *checkpoint = NULL;
    if (!closing)
        return;
    for (int64_t f = 0; f < closing->file_count; f++)
        lode_safetensors_close(&closing->files[f]);
    free((void *)closing->files);
    free(closing->items);
    free(closing->slots);
    free(closing->folder);
    free(closing->tokenizer);
    free(closing->config);
    free(closing->index);
    free(closing);
}

const lode_architecture_t *lode_checkpoint_architecture(const lode_checkpoint_t *checkpoint) {
    return &checkpoint->architecture;
}

/* --- weights -------------------------------------------------------------------------------- */

/* The whole tensor that a role is in. */
static lode_status_t map_item(lode_checkpoint_t *checkpoint, const lode_checkpoint_item_t *item,
                              lode_role_t role, lode_tensor_t *whole) {
    if (!item->memory)
        return lode_safetensors_map(checkpoint->files[item->file], item->index, whole);
    *whole = (lode_tensor_t){.data = item->memory, .dtype = LODE_DTYPE_F32};
    whole->rank = lode_family_stored_shape(&checkpoint->architecture, role, whole->shape);
    return LODE_OK;
}

/* Maps a role's tensor and describes its part in it; {0} where the model has none. */
static lode_status_t map_role(lode_checkpoint_t *checkpoint, lode_role_t role, int64_t layer,
                              lode_tensor_t *out) {
    const lode_checkpoint_slot_t *place = slot(checkpoint, role, layer);
    const lode_architecture_t *a = &checkpoint->architecture;
    const lode_family_tensor_t *wanted = &lode_family(a->model_type)->tensors[role];
    *out = (lode_tensor_t){0};
    if (!place->item && checkpoint->in_memory && lode_family_has(a, role))
        return lode_fail(LODE_ERR_INTERNAL, "the \"%s\" of layer %" PRId64 " is not in memory",
                         wanted->name, layer);
    if (!place->item)
        return LODE_OK;
    lode_tensor_t whole;
    LODE_TRY(map_item(checkpoint, place->item, role, &whole));
    const int64_t out_extent = lode_family_extent(a, wanted->shape[0]);
    const int64_t in_extent = lode_family_extent(a, wanted->shape[1]);
    const bool lines = whole.rank == 2 && !wanted->transposed;
    const int64_t skipped = place->begin * (lines ? whole.shape[1] : 1);
    const char *data = (const char *)whole.data + skipped * (int64_t)lode_dtype_size(whole.dtype);
    *out = whole.rank == 1 ? lode_tensor_vector(data, whole.dtype, out_extent)
                           : lode_tensor_matrix(data, whole.dtype, out_extent, in_extent);
    out->transposed = wanted->transposed;
    if (wanted->transposed)
        out->pitch = whole.shape[1];
    return LODE_OK;
}

lode_tensor_t *lode_layer_weights_role(lode_layer_weights_t *weights, lode_role_t role) {
    lode_tensor_t *const tensors[LODE_LAYER_ROLES] = {
        [LODE_ROLE_ATTENTION_NORM] = &weights->attention_norm,
        [LODE_ROLE_ATTENTION_NORM_BIAS] = &weights->attention_norm_bias,
        [LODE_ROLE_Q] = &weights->q,
        [LODE_ROLE_K] = &weights->k,
        [LODE_ROLE_V] = &weights->v,
        [LODE_ROLE_O] = &weights->o,
        [LODE_ROLE_Q_BIAS] = &weights->q_bias,
        [LODE_ROLE_K_BIAS] = &weights->k_bias,
        [LODE_ROLE_V_BIAS] = &weights->v_bias,
        [LODE_ROLE_O_BIAS] = &weights->o_bias,
        [LODE_ROLE_Q_NORM] = &weights->q_norm,
        [LODE_ROLE_K_NORM] = &weights->k_norm,
        [LODE_ROLE_ATTENTION_POST_NORM] = &weights->attention_post_norm,
        [LODE_ROLE_FFN_NORM] = &weights->ffn_norm,
        [LODE_ROLE_FFN_NORM_BIAS] = &weights->ffn_norm_bias,
        [LODE_ROLE_GATE] = &weights->gate,
        [LODE_ROLE_UP] = &weights->up,
        [LODE_ROLE_DOWN] = &weights->down,
        [LODE_ROLE_GATE_BIAS] = &weights->gate_bias,
        [LODE_ROLE_UP_BIAS] = &weights->up_bias,
        [LODE_ROLE_DOWN_BIAS] = &weights->down_bias,
        [LODE_ROLE_FFN_POST_NORM] = &weights->ffn_post_norm,
    };
    LODE_ASSERT(role < LODE_LAYER_ROLES);
    return tensors[role];
}

lode_status_t lode_checkpoint_layer(lode_checkpoint_t *checkpoint, int64_t layer,
                                    lode_layer_weights_t *out) {
    *out = (lode_layer_weights_t){0};
    if (layer < 0 || layer >= checkpoint->architecture.layers)
        return lode_fail(LODE_ERR_INTERNAL, "%s: has no layer %" PRId64, checkpoint->folder, layer);
    for (int role = 0; role < LODE_LAYER_ROLES; role++) {
        lode_status_t status = map_role(checkpoint, (lode_role_t)role, layer,
                                        lode_layer_weights_role(out, (lode_role_t)role));
        if (status != LODE_OK) {
            lode_checkpoint_release_layer(checkpoint, layer);
            *out = (lode_layer_weights_t){0};
            return status;
        }
    }
    return LODE_OK;
}

void lode_checkpoint_release_layer(lode_checkpoint_t *checkpoint, int64_t layer) {
    LODE_ASSERT(layer >= 0 && layer < checkpoint->architecture.layers);
    for (int role = 0; role < LODE_LAYER_ROLES; role++) {
        const lode_checkpoint_item_t *item = slot(checkpoint, (lode_role_t)role, layer)->item;
        if (item && !item->memory)
            lode_safetensors_unmap(checkpoint->files[item->file], item->index);
    }
}

lode_status_t lode_checkpoint_embedding(lode_checkpoint_t *checkpoint, lode_tensor_t *out) {
    return map_role(checkpoint, LODE_ROLE_EMBEDDING, 0, out);
}

lode_status_t lode_checkpoint_positions(lode_checkpoint_t *checkpoint, lode_tensor_t *out) {
    return map_role(checkpoint, LODE_ROLE_POSITIONS, 0, out);
}

lode_status_t lode_checkpoint_final_norm(lode_checkpoint_t *checkpoint, lode_tensor_t *out) {
    return map_role(checkpoint, LODE_ROLE_FINAL_NORM, 0, out);
}

lode_status_t lode_checkpoint_final_norm_bias(lode_checkpoint_t *checkpoint, lode_tensor_t *out) {
    return map_role(checkpoint, LODE_ROLE_FINAL_NORM_BIAS, 0, out);
}

/* A head beside the embedding of a tied model: transformers 4 ignores it, 5 takes it where the two
 * differ. */
static lode_status_t check_tied_head(lode_checkpoint_t *checkpoint) {
    const lode_family_t *family = lode_family(checkpoint->architecture.model_type);
    const lode_checkpoint_item_t *own = find_item(checkpoint, family->tensors[LODE_ROLE_HEAD].name);
    const lode_checkpoint_item_t *tied = slot(checkpoint, LODE_ROLE_EMBEDDING, 0)->item;
    if (!own || own == tied || checkpoint->in_memory || checkpoint->head_is_tied)
        return LODE_OK;
    const lode_safetensors_entry_t *one = entry_of(checkpoint, own);
    const lode_safetensors_entry_t *other = entry_of(checkpoint, tied);
    const void *own_bytes, *tied_bytes;
    LODE_TRY(lode_safetensors_map_bytes(checkpoint->files[own->file], own->index, &own_bytes));
    LODE_TRY(lode_safetensors_map_bytes(checkpoint->files[tied->file], tied->index, &tied_bytes));
    const int64_t bytes = one->end - one->begin;
    const bool equal = strcmp(one->dtype, other->dtype) == 0 &&
                       bytes == other->end - other->begin &&
                       memcmp(own_bytes, tied_bytes, (size_t)bytes) == 0;
    lode_safetensors_unmap(checkpoint->files[own->file], own->index);
    checkpoint->head_is_tied = equal;
    if (!equal)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: tensor \"%.200s\" is not the \"%.200s\" that config.json makes the "
                         "head; say \"%s\": false there, or remove the tensor",
                         lode_safetensors_path(checkpoint->files[own->file]), one->name,
                         other->name, family->tied_key);
    return LODE_OK;
}

lode_status_t lode_checkpoint_head(lode_checkpoint_t *checkpoint, lode_tensor_t *out) {
    *out = (lode_tensor_t){0};
    if (!checkpoint->architecture.tied)
        return map_role(checkpoint, LODE_ROLE_HEAD, 0, out);
    LODE_TRY(check_tied_head(checkpoint));
    return map_role(checkpoint, LODE_ROLE_EMBEDDING, 0, out);
}

int64_t lode_checkpoint_bytes_mapped(const lode_checkpoint_t *checkpoint) {
    int64_t bytes = 0;
    for (int64_t f = 0; f < checkpoint->file_count; f++)
        bytes += lode_safetensors_bytes_mapped(checkpoint->files[f]);
    return bytes;
}

int64_t lode_checkpoint_bytes_mapped_ever(const lode_checkpoint_t *checkpoint) {
    int64_t bytes = 0;
    for (int64_t f = 0; f < checkpoint->file_count; f++)
        bytes += lode_safetensors_bytes_mapped_ever(checkpoint->files[f]);
    return bytes;
}

/* --- descriptions --------------------------------------------------------------------------- */

int64_t lode_checkpoint_tensor_count(const lode_checkpoint_t *checkpoint) {
    return checkpoint->in_memory ? 0 : checkpoint->item_count;
}

lode_tensor_info_t lode_checkpoint_tensor_info(const lode_checkpoint_t *checkpoint, int64_t index) {
    LODE_ASSERT(index >= 0 && index < checkpoint->item_count);
    const lode_checkpoint_item_t *item = &checkpoint->items[index];
    const lode_safetensors_entry_t *entry = entry_of(checkpoint, item);
    lode_tensor_info_t info = {
        .name = entry->name,
        .dtype = entry->dtype,
        .rank = entry->rank,
        .bytes = entry->end - entry->begin,
        .file = lode_safetensors_path(checkpoint->files[item->file]),
        .owner = item->owner,
        .role = LODE_ROLE_COUNT,
        .part_count = item->part_count,
        .mapped_ever = entry->mapped_ever,
    };
    memcpy(info.shape, entry->shape, sizeof info.shape);
    memcpy(info.parts, item->parts, sizeof info.parts);
    if (item->part_count > 0) {
        info.role = item->parts[0].role;
        info.transposed =
            lode_family(checkpoint->architecture.model_type)->tensors[info.role].transposed;
    }
    return info;
}

lode_status_t lode_checkpoint_tensor_bytes(lode_checkpoint_t *checkpoint, int64_t index,
                                           const void **bytes) {
    LODE_ASSERT(index >= 0 && index < checkpoint->item_count);
    const lode_checkpoint_item_t *item = &checkpoint->items[index];
    return lode_safetensors_map_bytes(checkpoint->files[item->file], item->index, bytes);
}

void lode_checkpoint_release_tensor(lode_checkpoint_t *checkpoint, int64_t index) {
    LODE_ASSERT(index >= 0 && index < checkpoint->item_count);
    const lode_checkpoint_item_t *item = &checkpoint->items[index];
    lode_safetensors_unmap(checkpoint->files[item->file], item->index);
}
