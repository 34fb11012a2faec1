#include "model/rotary_setting.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/setting.h"

/* The object that describes them, NULL for plain positions, and its key. transformers takes
 * rope_scaling before rope_parameters. */
static lode_status_t find_object(json_t **out, const char **key, json_t *root, const char *name) {
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    *out = NULL;
    *key = keys[1];
    for (int i = 0; i < 2; i++) {
        json_t *value = lode_setting_get(root, keys[i]);
        if (value && !json_is_object(value))
            return lode_setting_wrong(value, keys[i], "an object or null", name);
        if (!value || json_object_size(value) == 0)
            continue;
        if (*out && !json_equal(*out, value))
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: \"rope_scaling\" and \"rope_parameters\" differ; keep one of "
                             "them",
                             name);
        if (!*out)
            *key = keys[i];
        *out = value;
    }
    return LODE_OK;
}

/* Lists the kinds that a family knows, for a message. */
static void list_kinds(char *text, size_t capacity, unsigned kinds) {
    text[0] = '\0';
    for (int kind = 0; kind < LODE_ROTARY_KINDS; kind++) {
        const size_t used = strlen(text);
        if (kinds & (1u << kind))
            snprintf(text + used, capacity - used, "%s\"%s\"",
                     used ? ", " : "supported: ", lode_rotary_name((lode_rotary_kind_t)kind));
    }
}

static lode_status_t read_kind(lode_rotary_kind_t *out, const lode_family_t *family, json_t *rope,
                               const char *key, const char *name) {
    *out = LODE_ROTARY_DEFAULT;
    if (!rope)
        return LODE_OK;
    json_t *type = lode_setting_get(rope, "rope_type");
    if (!type)
        type = lode_setting_get(rope, "type");
    /* Without a type, a bare rope_theta is plain; anything else (a factor, one object for each kind
     * of layer) is not. */
    if (!type && lode_setting_get(rope, "rope_theta") && !lode_setting_get(rope, "factor"))
        return LODE_OK;
    const char *text = json_string_value(type);
    if (!text)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" has no \"rope_type\" string", name, key);
    /* Early Phi-3 called its own kind by these names. */
    if (family->partial_rotary && (strcmp(text, "su") == 0 || strcmp(text, "yarn") == 0))
        text = "longrope";
    for (int kind = LODE_ROTARY_DEFAULT; kind < LODE_ROTARY_KINDS; kind++) {
        *out = (lode_rotary_kind_t)kind;
        if (strcmp(text, lode_rotary_name(*out)) == 0 && family->rotary_kinds & (1u << kind))
            return LODE_OK;
    }
    char remedy[160];
    list_kinds(remedy, sizeof remedy, family->rotary_kinds);
    return lode_setting_refuse(type, key, remedy, name);
}

/* A number that may stand beside the object and in it; where in both, they must agree. *out keeps
 * its value where it is in neither. */
static lode_status_t read_both(double *out, json_t *root, json_t *rope, const char *inner,
                               const char *key, const char *name) {
    double outer = 0, own = 0;
    LODE_TRY(lode_setting_real(&outer, root, key, name));
    if (rope)
        LODE_TRY(lode_setting_real(&own, rope, key, name));
    if (own > 0 && outer > 0 && own != outer)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" is %g and \"%s\" says %g; make them agree",
                         name, key, outer, inner, own);
    if (own > 0 || outer > 0)
        *out = own > 0 ? own : outer;
    return LODE_OK;
}

/* The turned dimensions: all, or the fraction that the family reads. */
static lode_status_t read_dims(lode_architecture_t *out, const lode_family_t *family, json_t *root,
                               json_t *rope, const char *key, const char *name) {
    double fraction = 1;
    LODE_TRY(read_both(&fraction, root, rope, key, "partial_rotary_factor", name));
    if (fraction > 1)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"partial_rotary_factor\" is %g, must be at most 1",
                         name, fraction);
    if (fraction != 1 && !family->partial_rotary)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: \"partial_rotary_factor\" is %g, which this version does not "
                         "implement for \"%s\"; use a checkpoint without it",
                         name, fraction, family->model_type);
    out->rotary.dims = (int64_t)((double)out->head_dim * fraction);
    if (out->rotary.dims % 2 != 0 || out->rotary.dims < 2)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: rotary positions turn %" PRId64 " of the %" PRId64
                         " elements of a head (\"head_dim\", by default \"hidden_size\" / "
                         "\"num_attention_heads\"); they need an even number",
                         name, out->rotary.dims, out->head_dim);
    return LODE_OK;
}

/* A positive number that a kind cannot do without. */
static lode_status_t require_real(double *out, json_t *rope, const char *inner, const char *key,
                                  const char *name) {
    if (!lode_setting_get(rope, key))
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" has no \"%s\"", name, inner, key);
    return lode_setting_real(out, rope, key, name);
}

/* Beside the object it goes before what the object says, and so does the preset of a family that
 * has one: where the two differ, one of them is not meant. */
static lode_status_t read_original(lode_architecture_t *out, const lode_family_t *family,
                                   json_t *root, json_t *rope, const char *inner,
                                   const char *name) {
    static const char key[] = "original_max_position_embeddings";
    int64_t own, outer, preset = family->original_preset;
    LODE_TRY(lode_setting_size(&own, rope, key, INT32_MAX, out->max_positions, name));
    if (preset == 0)
        preset = own;
    LODE_TRY(lode_setting_size(&outer, root, key, INT32_MAX, preset, name));
    if (lode_setting_get(rope, key) && own != outer)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"%s\" is %" PRId64 "%s and \"%s\" says %" PRId64 "; make them agree",
                         name, key, outer, lode_setting_get(root, key) ? "" : " by default", inner,
                         own);
    out->rotary.original_positions = outer;
    return LODE_OK;
}

static lode_status_t read_llama3(lode_rotary_t *out, json_t *rope, const char *key,
                                 const char *name) {
    LODE_TRY(require_real(&out->factor, rope, key, "factor", name));
    LODE_TRY(require_real(&out->low_frequency, rope, key, "low_freq_factor", name));
    LODE_TRY(require_real(&out->high_frequency, rope, key, "high_freq_factor", name));
    if (out->high_frequency <= out->low_frequency)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"high_freq_factor\" %g is not above \"low_freq_factor\" %g", name,
                         out->high_frequency, out->low_frequency);
    return LODE_OK;
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

static lode_status_t read_yarn(lode_rotary_t *out, json_t *rope, const char *key,
                               const char *name) {
    double mscale = 1, all = 0, own = 0;
    out->beta_fast = 32;
    out->beta_slow = 1;
    out->truncate = true;
    LODE_TRY(require_real(&out->factor, rope, key, "factor", name));
    LODE_TRY(lode_setting_real(&out->beta_fast, rope, "beta_fast", name));
    LODE_TRY(lode_setting_real(&out->beta_slow, rope, "beta_slow", name));
    LODE_TRY(lode_setting_bool(&out->truncate, rope, "truncate", name));
    LODE_TRY(lode_setting_real(&mscale, rope, "mscale", name));
    LODE_TRY(lode_setting_real(&all, rope, "mscale_all_dim", name));
    LODE_TRY(lode_setting_real(&own, rope, "attention_factor", name));
    if (out->theta == 1)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"rope_theta\" is 1; \"yarn\" needs another", name);
    /* One of the two alone has no effect. */
    const bool both = lode_setting_get(rope, "mscale") && all > 0;
    out->attention_factor = own > 0 ? own
                            : both  ? yarn_scale(out->factor, mscale) / yarn_scale(out->factor, all)
                                    : yarn_scale(out->factor, 1);
    return LODE_OK;
}

/* Divisors [dims/2] of the frequencies. */
static lode_status_t read_divisors(double *out, int64_t count, json_t *rope, const char *inner,
                                   const char *key, const char *name) {
    json_t *list = lode_setting_get(rope, key);
    if (!list)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" has no \"%s\"", name, inner, key);
    if (!json_is_array(list) || (int64_t)json_array_size(list) != count)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"%s\" must be a list of %" PRId64
                         " numbers, one for each pair of turned dimensions",
                         name, key, count);
    for (int64_t i = 0; i < count; i++) {
        json_t *value = json_array_get(list, (size_t)i);
        out[i] = json_number_value(value); /* 0 for what is no number */
        if (!isfinite(out[i]) || out[i] <= 0)
            return lode_setting_wrong(value, key, "a list of numbers above 0", name);
    }
    return LODE_OK;
}

static lode_status_t read_longrope(lode_architecture_t *architecture, json_t *rope, const char *key,
                                   const char *name) {
    lode_rotary_t *out = &architecture->rotary;
    const double original = (double)out->original_positions;
    double own = 0;
    LODE_TRY(read_divisors(out->short_factor, out->dims / 2, rope, key, "short_factor", name));
    LODE_TRY(read_divisors(out->long_factor, out->dims / 2, rope, key, "long_factor", name));
    out->factor = (double)architecture->max_positions / original;
    LODE_TRY(lode_setting_real(&out->factor, rope, "factor", name));
    LODE_TRY(lode_setting_real(&own, rope, "attention_factor", name));
    if (own == 0 && out->factor > 1 && out->original_positions < 2)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: \"original_max_position_embeddings\" is 1; \"longrope\" needs more",
                         name);
    out->attention_factor = own > 0            ? own
                            : out->factor <= 1 ? 1.0
                                               : sqrt(1 + log(out->factor) / log(original));
    return LODE_OK;
}

static lode_status_t read_kind_settings(lode_architecture_t *out, const lode_family_t *family,
                                        json_t *root, json_t *rope, const char *key,
                                        const char *name) {
    lode_rotary_t *rotary = &out->rotary;
    const bool dynamic = rotary->kind == LODE_ROTARY_DYNAMIC;
    if (rotary->kind == LODE_ROTARY_DEFAULT)
        return LODE_OK;
    if (rotary->kind == LODE_ROTARY_LINEAR || dynamic) {
        rotary->original_positions = out->max_positions;
        return require_real(&rotary->factor, rope, key, "factor", name);
    }
    LODE_TRY(read_original(out, family, root, rope, key, name));
    if (rotary->kind == LODE_ROTARY_LLAMA3)
        return read_llama3(rotary, rope, key, name);
    if (rotary->kind == LODE_ROTARY_YARN)
        return read_yarn(rotary, rope, key, name);
    return read_longrope(out, rope, key, name);
}

/* Settings that are numbers may still give frequencies that are not. */
static lode_status_t check_frequencies(const lode_architecture_t *out, const char *name) {
    const int64_t lengths[2] = {1, out->max_positions};
    double frequencies[LODE_ROTARY_MAX_FREQUENCIES], factor;
    for (int i = 0; i < 2; i++) {
        lode_rotary_frequencies(&out->rotary, lengths[i], frequencies, &factor);
        bool finite = isfinite(factor);
        for (int64_t f = 0; f < out->rotary.dims / 2; f++)
            finite = finite && isfinite(frequencies[f]);
        if (!finite)
            return lode_fail(
                LODE_ERR_FORMAT,
                "%s: the \"%s\" rotary positions have frequencies that are no numbers; "
                "correct \"rope_theta\" and the factors",
                name, lode_rotary_name(out->rotary.kind));
    }
    return LODE_OK;
}

lode_status_t lode_rotary_setting(lode_architecture_t *out, const lode_family_t *family,
                                  json_t *root, const char *name) {
    json_t *rope;
    const char *key;
    if (family->rotary_kinds == 0)
        return LODE_OK;
    out->rotary.attention_factor = 1;
    out->rotary.theta = 10000;
    LODE_TRY(find_object(&rope, &key, root, name));
    LODE_TRY(read_kind(&out->rotary.kind, family, rope, key, name));
    LODE_TRY(read_both(&out->rotary.theta, root, rope, key, "rope_theta", name));
    LODE_TRY(read_dims(out, family, root, rope, key, name));
    if (out->rotary.dims > 2 * LODE_ROTARY_MAX_FREQUENCIES)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: rotary positions turn %" PRId64
                         " elements of a head, this version at most %d; use a checkpoint with "
                         "smaller heads",
                         name, out->rotary.dims, 2 * LODE_ROTARY_MAX_FREQUENCIES);
    LODE_TRY(read_kind_settings(out, family, root, rope, key, name));
    return check_frequencies(out, name);
}
