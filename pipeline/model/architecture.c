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

enum { MAX_EXTENT = 1 << 24 }; /* of heads × head_dim, as of every other width */

const char *lode_model_type_name(lode_model_type_t model_type) {
    return lode_family(model_type)->model_type;
}

/* The value of a key, NULL where it is absent or null. */
static json_t *get(json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A value as one short line for a message. */
static void quote(char text[64], json_t *value) {
    char *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    bool whole = dump && strlen(dump) < 64;
    snprintf(text, 64, whole ? "%s" : "%.60s…", dump ? dump : "");
    free(dump);
}

static lode_status_t wrong(json_t *value, const char *key, const char *wanted, const char *name) {
    char text[64];
    quote(text, value);
    return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is %s, must be %s", name, key, text, wanted);
}

static lode_status_t refuse(json_t *value, const char *key, const char *remedy, const char *name) {
    char text[64];
    quote(text, value);
    return lode_fail(LODE_ERR_UNSUPPORTED,
                     "%s: \"%s\" is %s, which this version does not implement; %s", name, key, text,
                     remedy);
}

/* A whole number in [1, maximum]; `preset` where the key is absent, required where that is 0. */
static lode_status_t read_size(int64_t *out, json_t *object, const char *key, int64_t maximum,
                               int64_t preset, const char *name) {
    json_t *value = get(object, key);
    *out = preset;
    if (!value && preset == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is missing", name, key);
    if (!value)
        return LODE_OK;
    *out = json_is_integer(value) ? json_integer_value(value) : 0;
    if (*out < 1 || *out > maximum) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "a whole number from 1 to %" PRId64, maximum);
        return wrong(value, key, wanted, name);
    }
    return LODE_OK;
}

/* A positive finite number; *out stays as it is where the key is absent. */
static lode_status_t read_real(double *out, json_t *object, const char *key, const char *name) {
    json_t *value = get(object, key);
    if (!value)
        return LODE_OK;
    *out = json_number_value(value); /* 0 for what is no number */
    if (!isfinite(*out) || *out <= 0)
        return wrong(value, key, "a number above 0", name);
    return LODE_OK;
}

/* --- parts of a config ---------------------------------------------------------------------- */

static lode_status_t read_model_type(lode_architecture_t *out, json_t *root, const char *name) {
    const char *text = json_string_value(json_object_get(root, "model_type"));
    if (!text)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"model_type\" is missing or not a string", name);
    char supported[256] = "";
    for (int type = 0; type < LODE_MODEL_TYPE_COUNT; type++) {
        const char *known = lode_model_type_name((lode_model_type_t)type);
        if (strcmp(text, known) == 0) {
            out->model_type = (lode_model_type_t)type;
            return LODE_OK;
        }
        size_t used = strlen(supported);
        snprintf(supported + used, sizeof supported - used, "%s\"%s\"", used ? ", " : "", known);
    }
    char remedy[300];
    snprintf(remedy, sizeof remedy, "supported: %s", supported);
    return refuse(json_object_get(root, "model_type"), "model_type", remedy, name);
}

static bool is_all_full_attention(json_t *value) {
    size_t i;
    json_t *item;
    json_array_foreach(value, i, item) {
        const char *text = json_string_value(item);
        if (!text || strcmp(text, "full_attention") != 0)
            return false;
    }
    return json_is_array(value);
}

static bool is_neutral(json_t *value, unsigned neutral) {
    if (json_is_boolean(value))
        return json_is_false(value) && (neutral & LODE_NEUTRAL_FALSE);
    if (json_is_number(value))
        return (json_number_value(value) == 0 && (neutral & LODE_NEUTRAL_ZERO)) ||
               (json_number_value(value) == 1 && (neutral & LODE_NEUTRAL_ONE));
    bool empty = (json_is_array(value) && json_array_size(value) == 0) ||
                 (json_is_object(value) && json_object_size(value) == 0);
    if (empty && (neutral & LODE_NEUTRAL_EMPTY))
        return true;
    return (neutral & LODE_NEUTRAL_FULL_ATTENTION) && is_all_full_attention(value);
}

static lode_status_t check_options(const lode_family_t *family, json_t *root, const char *name) {
    for (const lode_family_option_t *option = family->options; option->key; option++) {
        json_t *value = get(root, option->key);
        if (value && !is_neutral(value, option->neutral))
            return refuse(value, option->key, "use a checkpoint without it", name);
    }
    const char *key = family->activation_key;
    json_t *value = get(root, key);
    if (value && !json_is_string(value))
        return wrong(value, key, "a string", name);
    if (value && strcmp(json_string_value(value), "silu") != 0)
        return refuse(value, key, "supported: \"silu\"", name);
    return LODE_OK;
}

/* Heads: kv_heads defaults to heads, head_dim to hidden / heads. */
static lode_status_t read_heads(lode_architecture_t *out, json_t *root, const char *name) {
    LODE_TRY(read_size(&out->kv_heads, root, "num_key_value_heads", out->heads, out->heads, name));
    if (out->heads % out->kv_heads != 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"num_attention_heads\" %" PRId64
                         " is not a multiple of \"num_key_value_heads\" %" PRId64,
                         name, out->heads, out->kv_heads);
    if (!get(root, "head_dim") && out->hidden % out->heads != 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"hidden_size\" %" PRId64
                         " is not a multiple of \"num_attention_heads\" %" PRId64
                         ", and there is no \"head_dim\"",
                         name, out->hidden, out->heads);
    LODE_TRY(read_size(&out->head_dim, root, "head_dim", MAX_EXTENT / out->heads,
                       out->hidden / out->heads, name));
    if (out->head_dim % 2 != 0)
        return lode_fail(
            LODE_ERR_FORMAT,
            "%s: \"head_dim\" (by default \"hidden_size\" / \"num_attention_heads\") is "
            "%" PRId64 "; rotary positions need an even number",
            name, out->head_dim);
    return LODE_OK;
}

/* One of the objects that describe rotary positions: "rope_scaling" of transformers 4 and
 * "rope_parameters" of 5, which holds rope_theta too. Only the plain kind is implemented. */
static lode_status_t read_rope(double *theta, json_t *root, const char *key, const char *name) {
    json_t *rope = get(root, key);
    if (!rope)
        return LODE_OK;
    if (!json_is_object(rope))
        return wrong(rope, key, "an object or null", name);
    json_t *type = get(rope, "rope_type");
    if (!type)
        type = get(rope, "type");
    /* Without a type, a bare rope_theta is plain; anything else (a factor, one object for each kind
     * of layer) is not. */
    bool bare = !type && get(rope, "rope_theta") && !get(rope, "factor");
    if (!bare && !json_is_string(type))
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" has no \"rope_type\" string", name, key);
    if (!bare && strcmp(json_string_value(type), "default") != 0)
        return refuse(type, key, "supported: \"default\" rotary positions", name);
    json_t *partial = get(rope, "partial_rotary_factor");
    if (partial && !is_neutral(partial, LODE_NEUTRAL_ONE))
        return refuse(partial, "partial_rotary_factor", "use a checkpoint without it", name);
    double own = 0;
    LODE_TRY(read_real(&own, rope, "rope_theta", name));
    if (own > 0 && *theta > 0 && own != *theta)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"rope_theta\" is %g and \"%s\" says %g; make them agree", name,
                         *theta, key, own);
    if (own > 0)
        *theta = own;
    return LODE_OK;
}

static lode_status_t read_positions(lode_architecture_t *out, json_t *root, const char *name) {
    LODE_TRY(read_real(&out->rope_theta, root, "rope_theta", name));
    LODE_TRY(read_rope(&out->rope_theta, root, "rope_parameters", name));
    LODE_TRY(read_rope(&out->rope_theta, root, "rope_scaling", name));
    if (out->rope_theta == 0)
        out->rope_theta = 10000.0;
    return LODE_OK;
}

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
        return wrong(value, key, "a token id, a list of them, or null", name);
    int64_t id = json_integer_value(first);
    if (id >= vocab) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "below \"vocab_size\" %" PRId64, vocab);
        return wrong(value, key, wanted, name);
    }
    *out = id < 0 ? -1 : (int32_t)id;
    return LODE_OK;
}

static lode_status_t read_tied(bool *out, const lode_family_t *family, json_t *root,
                               const char *name) {
    json_t *value = get(root, family->tied_key);
    *out = family->tied_preset;
    if (!value)
        return LODE_OK;
    if (!json_is_boolean(value))
        return wrong(value, family->tied_key, "true or false", name);
    *out = json_is_true(value);
    return LODE_OK;
}

static lode_status_t read_root(lode_architecture_t *out, json_t *root, const char *name) {
    LODE_TRY(read_model_type(out, root, name));
    const lode_family_t *family = lode_family(out->model_type);
    LODE_TRY(check_options(family, root, name));
    out->activation = LODE_ACTIVATION_SILU;
    for (const lode_family_size_t *size = family->sizes; size->key; size++) {
        int64_t value;
        LODE_TRY(read_size(&value, root, size->key, size->maximum, size->preset, name));
        memcpy((char *)out + size->field, &value, sizeof value);
    }
    for (const lode_family_real_t *real = family->reals; real->key; real++) {
        double value = real->preset;
        LODE_TRY(read_real(&value, root, real->key, name));
        memcpy((char *)out + real->field, &value, sizeof value);
    }
    LODE_TRY(read_heads(out, root, name));
    LODE_TRY(read_positions(out, root, name));
    LODE_TRY(read_tied(&out->tied, family, root, name));
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

static int64_t layer_matrices(const lode_architecture_t *a) {
    int64_t query = a->heads * a->head_dim, key_value = a->kv_heads * a->head_dim;
    return 2 * a->hidden * (query + key_value) + 3 * a->intermediate * a->hidden;
}

int64_t lode_architecture_layer_parameters(const lode_architecture_t *architecture) {
    return layer_matrices(architecture) + 2 * architecture->hidden;
}

int64_t lode_architecture_embedding_parameters(const lode_architecture_t *architecture) {
    return architecture->vocab * architecture->hidden;
}

int64_t lode_architecture_head_parameters(const lode_architecture_t *architecture) {
    int64_t own = architecture->tied ? 0 : architecture->vocab * architecture->hidden;
    return architecture->hidden + own;
}

int64_t lode_architecture_parameters(const lode_architecture_t *architecture) {
    return architecture->layers * lode_architecture_layer_parameters(architecture) +
           lode_architecture_embedding_parameters(architecture) +
           lode_architecture_head_parameters(architecture);
}

int64_t lode_architecture_layer_flops(const lode_architecture_t *architecture, int64_t context) {
    /* Token t of T attends to t + 1 positions, (T + 1)/2 on average; scores and values take two
     * multiply-adds a position and element. */
    int64_t attention = 2 * architecture->heads * architecture->head_dim * (context + 1);
    return 2 * layer_matrices(architecture) + attention;
}

int64_t lode_architecture_head_flops(const lode_architecture_t *architecture) {
    return 2 * architecture->vocab * architecture->hidden;
}
