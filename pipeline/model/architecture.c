#include "model/architecture.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/family.h"
#include "model/json_text.h"
#include "model/rotary_setting.h"
#include "model/setting.h"

enum { MAX_EXTENT = 1 << 24 }; /* of heads × head_dim, as of every other width */

const char *lode_model_type_name(lode_model_type_t model_type) {
    return lode_family(model_type)->model_type;
}

/* --- parts of a config ---------------------------------------------------------------------- */

static lode_status_t read_model_type(lode_model_type_t *out, json_t *root, const char *name) {
    json_t *value = json_object_get(root, "model_type");
    const char *text = json_string_value(value);
    if (!text)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"model_type\" is missing or not a string", name);
    char supported[256] = "";
    for (int type = 0; type < LODE_MODEL_TYPE_COUNT; type++) {
        const char *known = lode_model_type_name((lode_model_type_t)type);
        *out = (lode_model_type_t)type;
        if (strcmp(text, known) == 0)
            return LODE_OK;
        size_t used = strlen(supported);
        snprintf(supported + used, sizeof supported - used, "%s\"%s\"", used ? ", " : "", known);
    }
    char remedy[400];
    snprintf(remedy, sizeof remedy, "%ssupported: %s",
             json_is_object(json_object_get(root, "text_config"))
                 ? "it wraps a language model (\"text_config\"), which must be saved as a "
                   "checkpoint of its own; "
                 : "",
             supported);
    return lode_setting_refuse(value, "model_type", remedy, name);
}

static bool is_neutral(json_t *value, unsigned neutral) {
    if (json_is_boolean(value))
        return neutral & (json_is_true(value) ? LODE_NEUTRAL_TRUE : LODE_NEUTRAL_FALSE);
    if (json_is_number(value))
        return (json_number_value(value) == 0 && (neutral & LODE_NEUTRAL_ZERO)) ||
               (json_number_value(value) == 1 && (neutral & LODE_NEUTRAL_ONE));
    bool empty = (json_is_array(value) && json_array_size(value) == 0) ||
                 (json_is_object(value) && json_object_size(value) == 0);
    return empty && (neutral & LODE_NEUTRAL_EMPTY);
}

static lode_status_t check_option(const lode_family_option_t *option, json_t *root,
                                  const char *name) {
    json_t *value = lode_setting_get(root, option->key);
    if (!value || is_neutral(value, option->neutral))
        return LODE_OK;
    return lode_setting_refuse(value, option->key, "use a checkpoint without it", name);
}

static lode_status_t check_options(const lode_family_t *family, json_t *root, const char *name) {
    for (const lode_family_option_t *option = family->options; option && option->key; option++)
        LODE_TRY(check_option(option, root, name));
    for (const lode_family_option_t *option = lode_family_common_options(); option->key; option++)
        if (!lode_family_reads(family, option->key))
            LODE_TRY(check_option(option, root, name));
    return LODE_OK;
}

/* Puts what stands under other names of keys under the keys. */
static lode_status_t resolve_aliases(const lode_family_t *family, json_t *root, const char *name) {
    for (const lode_family_alias_t *one = family->aliases; one && one->alias; one++) {
        json_t *other = lode_setting_get(root, one->alias);
        json_t *own = lode_setting_get(root, one->key);
        if (!other)
            continue;
        if (own && !json_equal(own, other))
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: \"%s\" and \"%s\" are the same setting and differ; keep one of "
                             "them",
                             name, one->alias, one->key);
        if (json_object_set(root, one->key, other) != 0)
            return lode_fail(LODE_ERR_MEMORY, "%s: no memory for its settings", name);
    }
    return LODE_OK;
}

static lode_status_t read_activation(lode_activation_t *out, const lode_family_t *family,
                                     json_t *root, const char *name) {
    static const struct {
        const char *text;
        lode_activation_t activation;
    } known[] = {
        {"silu", LODE_ACTIVATION_SILU},          {"swish", LODE_ACTIVATION_SILU},
        {"gelu_new", LODE_ACTIVATION_GELU_TANH}, {"gelu_pytorch_tanh", LODE_ACTIVATION_GELU_TANH},
        {"gelu", LODE_ACTIVATION_GELU},          {"relu", LODE_ACTIVATION_RELU},
    };
    const char *key = family->activation_key;
    json_t *value = lode_setting_get(root, key);
    *out = family->activation_preset;
    if (!value)
        return LODE_OK;
    if (!json_is_string(value))
        return lode_setting_wrong(value, key, "a string", name);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        *out = known[i].activation;
        if (strcmp(json_string_value(value), known[i].text) == 0)
            return LODE_OK;
    }
    return lode_setting_refuse(
        value, key, "supported: \"silu\", \"gelu\", \"gelu_new\", \"gelu_pytorch_tanh\", \"relu\"",
        name);
}

/* The plain numbers and switches of the family's tables. */
static lode_status_t read_tables(lode_architecture_t *out, const lode_family_t *family,
                                 json_t *root, const char *name) {
    char *base = (char *)out;
    for (const lode_family_size_t *size = family->sizes; size->key; size++) {
        int64_t value, preset = size->preset;
        if (size->field == offsetof(lode_architecture_t, intermediate) && family->ffn_multiple)
            preset = family->ffn_multiple * out->hidden;
        LODE_TRY(lode_setting_size(&value, root, size->key, size->maximum, preset, name));
        memcpy(base + size->field, &value, sizeof value);
    }
    for (const lode_family_real_t *real = family->reals; real->key; real++) {
        const bool without = real->optional && lode_setting_is_null(root, real->key);
        double value = without ? 0 : real->preset;
        LODE_TRY(lode_setting_real(&value, root, real->key, name));
        memcpy(base + real->field, &value, sizeof value);
    }
    for (const lode_family_switch_t *entry = family->switches; entry && entry->key; entry++) {
        bool value = entry->preset;
        LODE_TRY(lode_setting_bool(&value, root, entry->key, name));
        memcpy(base + entry->field, &value, sizeof value);
    }
    return LODE_OK;
}

static lode_status_t read_kv_heads(lode_architecture_t *out, const lode_family_t *family,
                                   json_t *root, const char *name) {
    const char *key = family->kv_heads_key;
    out->kv_heads = out->heads;
    if (!key)
        return LODE_OK;
    int64_t preset = family->kv_heads_preset;
    if (preset == 0 || lode_setting_is_null(root, key))
        preset = out->heads;
    LODE_TRY(lode_setting_size(&out->kv_heads, root, key, MAX_EXTENT, preset, name));
    if (out->kv_heads > out->heads || out->heads % out->kv_heads != 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"%s\" %" PRId64 " is not a multiple of \"%s\" %" PRId64, name,
                         family->heads_key, out->heads, key, out->kv_heads);
    return LODE_OK;
}

static lode_status_t read_heads(lode_architecture_t *out, const lode_family_t *family, json_t *root,
                                const char *name) {
    LODE_TRY(read_kv_heads(out, family, root, name));
    const char *key = family->head_dim_key;
    int64_t preset = family->head_dim_preset;
    if (preset == 0) {
        preset = out->hidden / out->heads;
        if ((!key || !lode_setting_get(root, key)) && out->hidden % out->heads != 0)
            return lode_fail(
                LODE_ERR_FORMAT, "%s: \"%s\" %" PRId64 " is not a multiple of \"%s\" %" PRId64 "%s",
                name, lode_family_size_key(family, offsetof(lode_architecture_t, hidden)),
                out->hidden, family->heads_key, out->heads,
                key ? ", and there is no \"head_dim\"" : "");
    }
    out->head_dim = preset;
    if (key)
        LODE_TRY(
            lode_setting_size(&out->head_dim, root, key, MAX_EXTENT / out->heads, preset, name));
    double scalar = (double)out->head_dim;
    if (family->attention_scalar_key) {
        scalar = family->attention_scalar_preset;
        LODE_TRY(lode_setting_real(&scalar, root, family->attention_scalar_key, name));
    }
    out->attention_scale = 1 / sqrt(scalar);
    return LODE_OK;
}

/* --- windows -------------------------------------------------------------------------------- */

static bool has_window(const lode_architecture_t *a, int64_t layer) {
    return a->window > 0 && (a->window_layers[layer / 8] >> (layer % 8) & 1);
}

static void set_window(lode_architecture_t *a, int64_t layer, bool windowed) {
    const unsigned bit = 1u << (layer % 8), others = a->window_layers[layer / 8] & ~bit;
    a->window_layers[layer / 8] = (uint8_t)(windowed ? others | bit : others);
}

/* What "layer_types" says instead of the family's own pattern; families without one may only
 * repeat theirs. */
static lode_status_t read_layer_types(lode_architecture_t *out, const lode_family_t *family,
                                      json_t *root, const char *name) {
    static const char key[] = "layer_types";
    json_t *types = lode_setting_get(root, key);
    if (!types || (json_is_array(types) && json_array_size(types) == 0))
        return LODE_OK;
    if (!json_is_array(types) || (int64_t)json_array_size(types) != out->layers)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"%s\" must be a list of %" PRId64 " strings, one for each layer",
                         name, key, out->layers);
    const bool fixed =
        family->window == LODE_FAMILY_WINDOW_NEVER || family->window == LODE_FAMILY_WINDOW_ALL;
    for (int64_t l = 0; l < out->layers; l++) {
        json_t *type = json_array_get(types, (size_t)l);
        const char *text = json_string_value(type);
        const bool sliding = text && strcmp(text, "sliding_attention") == 0;
        if (!sliding && (!text || strcmp(text, "full_attention") != 0))
            return lode_setting_refuse(
                type, key, "supported: \"full_attention\", \"sliding_attention\"", name);
        if (fixed && sliding != has_window(out, l))
            return lode_setting_refuse(type, key,
                                       "all layers of this model type attend alike; use a "
                                       "checkpoint without it",
                                       name);
        if (sliding && out->window == 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: \"%s\" asks for windows, but \"sliding_window\" does not say how "
                             "long (or \"use_sliding_window\" is false)",
                             name, key);
        set_window(out, l, sliding);
    }
    return LODE_OK;
}

/* The window's length, 0 for none. */
static lode_status_t read_window(int64_t *window, const lode_family_t *family, json_t *root,
                                 const char *name) {
    static const char key[] = "sliding_window";
    bool used = family->window != LODE_FAMILY_WINDOW_UPPER;
    *window = 0;
    if (family->window == LODE_FAMILY_WINDOW_NEVER)
        return LODE_OK;
    if (!used)
        LODE_TRY(lode_setting_bool(&used, root, "use_sliding_window", name));
    if (family->window == LODE_FAMILY_WINDOW_ALTERNATE && lode_setting_is_null(root, key) &&
        !lode_setting_get(root, "layer_types"))
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"%s\" is null, but every other layer of \"%s\" attends to a window; "
                         "say how long it is, or list \"layer_types\"",
                         name, key, family->model_type);
    if (!used || lode_setting_is_null(root, key))
        return LODE_OK;
    if (family->window_preset == 0 && !lode_setting_get(root, key))
        return LODE_OK;
    return lode_setting_size(window, root, key, INT32_MAX, family->window_preset, name);
}

static lode_status_t read_windows(lode_architecture_t *out, const lode_family_t *family,
                                  json_t *root, const char *name) {
    int64_t first = 0, step = 1;
    LODE_TRY(read_window(&out->window, family, root, name));
    if (family->window == LODE_FAMILY_WINDOW_ALTERNATE)
        step = 2;
    if (family->window == LODE_FAMILY_WINDOW_UPPER) {
        json_t *value = lode_setting_get(root, "max_window_layers");
        first = value ? json_integer_value(value) : 28;
        if (first < 0 || (value && !json_is_integer(value)))
            return lode_setting_wrong(value, "max_window_layers", "a whole number from 0", name);
    }
    if (out->window > 0)
        for (int64_t l = first; l < out->layers; l += step)
            set_window(out, l, true);
    LODE_TRY(read_layer_types(out, family, root, name));
    /* A key of other programs; transformers reads sliding_window alone. */
    json_t *other = lode_setting_get(root, "sliding_window_size");
    if (other && !(json_is_integer(other) && json_integer_value(other) == out->window))
        return lode_setting_refuse(other, "sliding_window_size",
                                   "it must be the attention window of the model; remove the key "
                                   "if it is not meant",
                                   name);
    return LODE_OK;
}

int64_t lode_architecture_window(const lode_architecture_t *architecture, int64_t layer) {
    LODE_ASSERT(layer >= 0 && layer < architecture->layers);
    return has_window(architecture, layer) ? architecture->window : 0;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* A token id: a number, the first of a list, or −1 for null, [] and the negative ids by which some
 * exports say "none". */
static lode_status_t read_token(int32_t *out, json_t *root, const char *key, int32_t preset,
                                int64_t vocab, const char *name) {
    json_t *value = json_object_get(root, key);
    if (!value) {
        *out = preset < vocab ? preset : -1;
        return LODE_OK;
    }
    *out = -1;
    json_t *first = json_is_array(value) ? json_array_get(value, 0) : value;
    if (!first || json_is_null(first))
        return LODE_OK;
    if (!json_is_integer(first))
        return lode_setting_wrong(value, key, "a token id, a list of them, or null", name);
    int64_t id = json_integer_value(first);
    if (id >= vocab) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "below \"vocab_size\" %" PRId64, vocab);
        return lode_setting_wrong(value, key, wanted, name);
    }
    *out = id < 0 ? -1 : (int32_t)id;
    return LODE_OK;
}

static lode_status_t read_root(lode_architecture_t *out, json_t *root, const char *name) {
    lode_model_type_t model_type;
    LODE_TRY(read_model_type(&model_type, root, name));
    const lode_family_t *family = lode_family(model_type);
    *out = family->constant;
    out->model_type = model_type;
    LODE_TRY(resolve_aliases(family, root, name));
    LODE_TRY(check_options(family, root, name));
    LODE_TRY(read_activation(&out->activation, family, root, name));
    LODE_TRY(read_tables(out, family, root, name));
    LODE_TRY(read_heads(out, family, root, name));
    LODE_TRY(read_windows(out, family, root, name));
    LODE_TRY(lode_rotary_setting(out, family, root, name));
    out->embedding_scale = family->scale_embedding ? sqrt((double)out->hidden) : 1;
    out->tied = family->tied_preset;
    LODE_TRY(lode_setting_bool(&out->tied, root, family->tied_key, name));
    LODE_TRY(read_token(&out->bos, root, "bos_token_id", family->bos_preset, out->vocab, name));
    return read_token(&out->eos, root, "eos_token_id", family->eos_preset, out->vocab, name);
}

lode_status_t lode_architecture_parse(lode_architecture_t *out, const char *json, size_t size,
                                      const char *name) {
    *out = (lode_architecture_t){0};
    json_t *root;
    LODE_TRY(lode_json_text_object(&root, json, size, name));
    lode_status_t status = read_root(out, root, name);
    json_decref(root);
    if (status != LODE_OK)
        *out = (lode_architecture_t){0};
    return status;
}

lode_status_t lode_architecture_read(lode_architecture_t *out, const char *folder) {
    *out = (lode_architecture_t){0};
    char *path, *json;
    size_t size;
    LODE_TRY(lode_path_join(&path, folder, "config.json"));
    lode_status_t status = lode_file_read(&json, &size, path);
    if (status == LODE_OK) {
        status = lode_architecture_parse(out, json, size, path);
        free(json);
    }
    free(path);
    return status;
}

/* --- counts --------------------------------------------------------------------------------- */

/* Elements of the roles in [first, end); of matrices alone on demand. */
static int64_t count_elements(const lode_architecture_t *a, int first, int end, bool matrices) {
    const lode_family_t *family = lode_family(a->model_type);
    int64_t total = 0;
    for (int role = first; role < end; role++)
        if (!matrices || family->tensors[role].shape[1] != LODE_EXTENT_NONE)
            total += lode_family_elements(a, (lode_role_t)role);
    return total;
}

int64_t lode_architecture_layer_parameters(const lode_architecture_t *architecture) {
    return count_elements(architecture, 0, LODE_LAYER_ROLES, false);
}

int64_t lode_architecture_embedding_parameters(const lode_architecture_t *architecture) {
    return count_elements(architecture, LODE_ROLE_EMBEDDING, LODE_ROLE_FINAL_NORM, false);
}

int64_t lode_architecture_head_parameters(const lode_architecture_t *architecture) {
    return count_elements(architecture, LODE_ROLE_FINAL_NORM, LODE_ROLE_COUNT, false);
}

int64_t lode_architecture_parameters(const lode_architecture_t *architecture) {
    return architecture->layers * lode_architecture_layer_parameters(architecture) +
           lode_architecture_embedding_parameters(architecture) +
           lode_architecture_head_parameters(architecture);
}

int64_t lode_architecture_layer_flops(const lode_architecture_t *architecture, int64_t layer,
                                      int64_t context) {
    /* Token t of T attends to t + 1 positions, (T + 1)/2 on average, or to W of them from W on:
     * W − W·(W − 1)/(2·T) on average. Scores and values take two multiply-adds a position and
     * element. */
    const int64_t window = lode_architecture_window(architecture, layer);
    const int64_t positions = window > 0 && window < context
                                  ? 2 * window - window * (window - 1) / context
                                  : context + 1; /* twice the average */
    const int64_t matrices = count_elements(architecture, 0, LODE_LAYER_ROLES, true);
    return 2 * matrices + 2 * architecture->heads * architecture->head_dim * positions;
}

int64_t lode_architecture_head_flops(const lode_architecture_t *architecture) {
    return 2 * architecture->vocab * architecture->hidden;
}
