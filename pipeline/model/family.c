#include "model/family.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool lode_family_reads(const lode_family_t *family, const char *key) {
    for (const lode_family_size_t *size = family->sizes; size->key; size++)
        if (strcmp(size->key, key) == 0)
            return true;
    for (const lode_family_real_t *real = family->reals; real->key; real++)
        if (strcmp(real->key, key) == 0)
            return true;
    for (const lode_family_switch_t *entry = family->switches; entry && entry->key; entry++)
        if (strcmp(entry->key, key) == 0)
            return true;
    for (const lode_family_option_t *option = family->options; option && option->key; option++)
        if (strcmp(option->key, key) == 0)
            return true;
    if (family->attention_scalar_key && strcmp(family->attention_scalar_key, key) == 0)
        return true;
    return family->window != LODE_FAMILY_WINDOW_NEVER &&
           (strcmp(key, "sliding_window") == 0 || strcmp(key, "use_sliding_window") == 0);
}

const char *lode_family_size_key(const lode_family_t *family, size_t field) {
    const lode_family_size_t *size = family->sizes;
    while (size->field != field)
        size++;
    return size->key;
}

const char *lode_family_width_key(const lode_family_t *family) {
    return lode_family_size_key(family, offsetof(lode_architecture_t, intermediate));
}

int64_t lode_family_extent(const lode_architecture_t *architecture, lode_extent_t extent) {
    switch (extent) {
    case LODE_EXTENT_NONE:
        return 0;
    case LODE_EXTENT_HIDDEN:
        return architecture->hidden;
    case LODE_EXTENT_INTERMEDIATE:
        return architecture->intermediate;
    case LODE_EXTENT_QUERY:
        return architecture->heads * architecture->head_dim;
    case LODE_EXTENT_KEY_VALUE:
        return architecture->kv_heads * architecture->head_dim;
    case LODE_EXTENT_HEAD:
        return architecture->head_dim;
    case LODE_EXTENT_VOCAB:
        return architecture->vocab;
    case LODE_EXTENT_POSITIONS:
        return architecture->max_positions;
    }
    return 0;
}

float lode_family_neutral(const lode_architecture_t *architecture, lode_role_t role) {
    switch (role) {
    case LODE_ROLE_ATTENTION_NORM:
    case LODE_ROLE_ATTENTION_POST_NORM:
    case LODE_ROLE_FFN_NORM:
    case LODE_ROLE_FFN_POST_NORM:
    case LODE_ROLE_FINAL_NORM:
        return architecture->norm_offset ? 0 : 1;
    case LODE_ROLE_Q_NORM:
    case LODE_ROLE_K_NORM:
        return 1;
    default:
        return 0;
    }
}

bool lode_family_has(const lode_architecture_t *architecture, lode_role_t role) {
    const lode_family_tensor_t *tensor = &lode_family(architecture->model_type)->tensors[role];
    if (!tensor->name || (role == LODE_ROLE_HEAD && architecture->tied))
        return false;
    return tensor->only_if == 0 || *((const char *)architecture + tensor->only_if) != 0;
}

int64_t lode_family_elements(const lode_architecture_t *architecture, lode_role_t role) {
    if (!lode_family_has(architecture, role))
        return 0;
    const lode_extent_t *shape = lode_family(architecture->model_type)->tensors[role].shape;
    const int64_t rows = lode_family_extent(architecture, shape[0]);
    return shape[1] == LODE_EXTENT_NONE ? rows : rows * lode_family_extent(architecture, shape[1]);
}

/* Whether both roles are parts of one tensor. */
static bool share_tensor(const lode_architecture_t *a, lode_role_t one, lode_role_t two) {
    const lode_family_tensor_t *tensors = lode_family(a->model_type)->tensors;
    return lode_family_has(a, one) && lode_family_has(a, two) &&
           strcmp(tensors[one].name, tensors[two].name) == 0;
}

int lode_family_stored_shape(const lode_architecture_t *architecture, lode_role_t role,
                             int64_t shape[2]) {
    const lode_family_tensor_t *tensors = lode_family(architecture->model_type)->tensors;
    const lode_family_tensor_t *wanted = &tensors[role];
    int64_t out = 0;
    for (int part = 0; part < LODE_ROLE_COUNT; part++)
        if (share_tensor(architecture, role, (lode_role_t)part))
            out += lode_family_extent(architecture, tensors[part].shape[0]);
    const int64_t in = lode_family_extent(architecture, wanted->shape[1]); /* 0 in vectors */
    shape[0] = wanted->transposed ? in : out;
    shape[1] = wanted->transposed ? out : in;
    return wanted->shape[1] == LODE_EXTENT_NONE ? 1 : 2;
}

bool lode_family_leads(const lode_architecture_t *architecture, lode_role_t role) {
    for (int part = 0; part < (int)role; part++)
        if (share_tensor(architecture, role, (lode_role_t)part))
            return false;
    return lode_family_has(architecture, role);
}

void lode_family_tensor_name(char *bytes, size_t capacity, const lode_family_t *family,
                             lode_role_t role, int64_t layer, bool prefixed) {
    const char *prefix = prefixed && role != LODE_ROLE_HEAD ? family->prefix : "";
    const char *name = family->tensors[role].name;
    const char *mark = strchr(name, '#');
    int length;
    if (mark)
        length = snprintf(bytes, capacity, "%s%.*s%" PRId64 "%s", prefix, (int)(mark - name), name,
                          layer, mark + 1);
    else
        length = snprintf(bytes, capacity, "%s%s", prefix, name);
    LODE_ASSERT(length >= 0 && (size_t)length < capacity);
}
