#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/decode.h"
#include "config/fields.h"
#include "config/schema.h"
#include "config/series.h"
#include "config/source.h"
#include "config/value.h"

enum { SWEEP_MAX_POINTS = 4096, LABEL_MAX = 200, KEY_MAX = 128 };

/* One value that replaces what the text says. */
typedef struct override {
    const char *key;   /* indexed path */
    const char *value; /* libconfig text, or else a bare string */
    const char *where; /* what messages call it */
} override_t;

/* Releases the field of one key; `base` is the experiment or an element. */
static void free_field(const lode_key_t *key, void *base) {
    bool strings = key->type == LODE_KEY_TEXT || key->type == LODE_KEY_NAME ||
                   key->type == LODE_KEY_PATH || key->type == LODE_KEY_VALUES;
    if (!strings && !key->list)
        return;
    void *items = lode_field_items(key, base);
    for (int64_t i = 0; items && strings && key->list && i < lode_field_count(key, base); i++)
        free(((char **)items)[i]);
    free(items);
}

/* Releases a list of groups with its elements' fields. */
static void free_groups(const lode_key_t *groups, lode_config_t *config) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    void *items = lode_field_items(groups, config);
    for (int64_t i = 0; items && i < lode_field_count(groups, config); i++)
        for (int64_t k = 0; k < count; k++)
            if (lode_schema_owner(&keys[k]) == groups)
                free_field(&keys[k], lode_field_element(groups, config, i));
    free(items);
}

void lode_config_destroy(lode_config_t **config) {
    if (!*config)
        return;
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++) {
        if (keys[i].type == LODE_KEY_GROUPS)
            free_groups(&keys[i], *config);
        else if (!lode_schema_owner(&keys[i]))
            free_field(&keys[i], *config);
    }
    lode_training_free(*config);
    lode_decode_places_destroy(&(*config)->places);
    free(*config);
    *config = NULL;
}

/* --- overrides -------------------------------------------------------------------------- */

static void set_place(lode_value_t *value, const char *where) {
    value->file = where;
    value->line = 0;
    for (int64_t i = 0; i < value->count; i++)
        set_place(&value->children[i], where);
}

/* Parses "value = <text>"; *parsed tells whether that is one libconfig value and nothing else. */
static lode_status_t read_value(lode_value_t *value, bool *parsed, const char *text) {
    lode_buffer_t line = {0};
    lode_source_t source = {0};
    lode_value_t root = {0};
    lode_status_t status;
    *parsed = false;
    LODE_GUARD(status, lode_buffer_printf(&line, "value = %s\n", text), done);
    LODE_GUARD(status, lode_source_take(&source, line.data, line.length, "value"), done);
    LODE_GUARD(status, lode_value_read(&root, &source), done);
    if (root.count == 1) {
        *parsed = true;
        *value = root.children[0];
        root.children[0] = (lode_value_t){0};
        set_place(value, ""); /* the source goes */
    }
done:
    lode_buffer_free(&line);
    lode_source_free(&source);
    lode_value_free(&root);
    return status == LODE_ERR_CONFIG ? LODE_OK : status;
}

/* Whether a bare word that looks like a number or a truth value is to be the key's string. */
static bool wants_string(const lode_key_t *key, const lode_value_t *value) {
    bool word = value->kind == LODE_VALUE_INTEGER || value->kind == LODE_VALUE_REAL ||
                value->kind == LODE_VALUE_BOOLEAN;
    return word && key && !key->list &&
           (key->type == LODE_KEY_TEXT || key->type == LODE_KEY_NAME ||
            key->type == LODE_KEY_PATH || key->type == LODE_KEY_CHOICE);
}

static lode_status_t apply_override(lode_value_t *root, const override_t *override) {
    char schema_path[KEY_MAX];
    lode_schema_path(schema_path, sizeof schema_path, override->key);
    const lode_key_t *key = lode_schema_find(schema_path);
    lode_value_t value = {0};
    bool parsed;
    lode_status_t status;
    LODE_GUARD(status, read_value(&value, &parsed, override->value), fail);
    if (!parsed || wants_string(key, &value)) {
        lode_value_free(&value);
        value.kind = LODE_VALUE_TEXT;
        LODE_GUARD(status, lode_strdup(&value.text, override->value), fail);
    }
    if (key && key->list && value.kind != LODE_VALUE_LIST && value.kind != LODE_VALUE_GROUP)
        LODE_GUARD(status, lode_value_wrap(&value), fail);
    set_place(&value, override->where);
    return lode_value_set(root, override->key, &value);
fail:
    lode_value_free(&value);
    return status;
}

static int compare_steps(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* One order, so that equal experiments have equal texts. */
static void sort_checkpoints(lode_config_train_t *train) {
    if (train->checkpoint_count > 1)
        qsort(train->checkpoints, (size_t)train->checkpoint_count, sizeof *train->checkpoints,
              compare_steps);
}

/* From a scanned text and overrides to an experiment whose sweep is unchecked. */
static lode_status_t build(lode_config_t **out, const lode_source_t *source,
                           const override_t *overrides, int64_t override_count, bool expand_paths) {
    *out = NULL;
    lode_value_t root;
    LODE_TRY(lode_value_read(&root, source));
    lode_status_t status = LODE_OK;
    bool series = false;
    for (int64_t i = 0; i < override_count && status == LODE_OK; i++)
        status = apply_override(&root, &overrides[i]);
    if (status == LODE_OK && expand_paths)
        status = lode_decode_expand_paths(&root);
    if (status == LODE_OK)
        status = lode_series_resolve(&root, &series);
    if (status == LODE_OK)
        status = lode_decode(out, &root, source->files[0]);
    lode_value_free(&root);
    if (status == LODE_OK) {
        (*out)->places->series = series;
        sort_checkpoints(&(*out)->train);
        status = lode_decode_check(*out);
    }
    if (status != LODE_OK)
        lode_config_destroy(out);
    return status;
}

/* --- sweeps ----------------------------------------------------------------------------- */

/* Scans the canonical text of the experiment less its sweep. */
static lode_status_t plain_source(lode_source_t *source, const lode_config_t *config) {
    lode_config_t plain = *config;
    plain.sweep = NULL;
    plain.sweep_count = 0;
    lode_buffer_t text = {0};
    lode_status_t status = lode_config_text(&plain, &text);
    if (status == LODE_OK)
        status = lode_source_take(source, text.data, text.length, config->places->origin);
    lode_buffer_free(&text);
    return status;
}

/* What messages call a swept key's values; *where is the caller's. */
static lode_status_t sweep_where(char **where, const lode_config_t *config, int64_t index,
                                 const char *part) {
    char key[64];
    snprintf(key, sizeof key, "sweep.[%lld].%s", (long long)index, part);
    lode_buffer_t text = {0};
    lode_status_t status = lode_buffer_printf(&text, "%s: sweep", lode_config_where(config, key));
    *where = text.data;
    return status;
}

static lode_status_t check_sweep_key(const lode_config_t *config, int64_t index) {
    char schema_path[KEY_MAX];
    const char *path = config->sweep[index].key;
    lode_schema_path(schema_path, sizeof schema_path, path);
    const lode_key_t *key = lode_schema_find(schema_path);
    const lode_key_t *owner = key ? lode_schema_owner(key) : NULL;
    const bool steps = key && key == lode_schema_find("models.[].steps");
    const bool shifted = config->places->series && strncmp(path, "models.", 7) == 0;
    if (key && key->type != LODE_KEY_GROUPS && !steps && !shifted &&
        !(owner && owner->offset == offsetof(lode_config_t, sweep)))
        return LODE_OK;
    char *where;
    LODE_TRY(sweep_where(&where, config, index, "key"));
    lode_status_t status;
    if (key && (steps || shifted)) {
        status = lode_fail(LODE_ERR_CONFIG,
                           "%s: %s: cannot be swept beside a folder of steps, which stands for "
                           "several models; list them all as models",
                           where, path);
    } else if (key || lode_schema_is_group(schema_path)) {
        status = lode_fail(LODE_ERR_CONFIG, "%s: %s: cannot be swept; sweep its single keys", where,
                           path);
    } else {
        const char *dot = strrchr(schema_path, '.');
        lode_buffer_t advice = {0};
        if (dot)
            schema_path[dot - schema_path] = '\0';
        status = lode_schema_suggest(&advice, dot ? schema_path : "", dot ? dot + 1 : path);
        if (status == LODE_OK)
            status = lode_fail(LODE_ERR_CONFIG, "%s: %.*s: unknown key; %s", where, KEY_MAX, path,
                               advice.data);
        lode_buffer_free(&advice);
    }
    free(where);
    return status;
}

/* Expands the path that a swept value is; the result is libconfig text again. */
static lode_status_t expand_sweep_path(char **text, const char *key, const char *where) {
    lode_value_t value = {0};
    bool parsed;
    lode_buffer_t expanded = {0};
    lode_status_t status;
    LODE_GUARD(status, read_value(&value, &parsed, *text), done);
    LODE_ASSERT(parsed);
    set_place(&value, where);
    LODE_GUARD(status, lode_decode_expand_path(&value, key), done);
    LODE_GUARD(status, lode_value_text(&value, &expanded), done);
    free(*text);
    *text = expanded.data;
    expanded.data = NULL;
done:
    lode_buffer_free(&expanded);
    lode_value_free(&value);
    return status;
}

/* Checks one swept value by trying it, and writes it as the key's type does. */
static lode_status_t resolve_value(lode_config_t *config, const lode_source_t *plain, int64_t index,
                                   int64_t value_index, const char *where, bool expand_paths) {
    lode_config_sweep_t *sweep = &config->sweep[index];
    char **value = &sweep->values[value_index];
    char schema_path[KEY_MAX];
    lode_schema_path(schema_path, sizeof schema_path, sweep->key);
    if (expand_paths && lode_schema_find(schema_path)->type == LODE_KEY_PATH)
        LODE_TRY(expand_sweep_path(value, sweep->key, where));
    override_t override = {sweep->key, *value, where};
    lode_config_t *point = NULL;
    lode_buffer_t text = {0};
    lode_status_t status;
    LODE_GUARD(status, build(&point, plain, &override, 1, false), done);
    LODE_GUARD(status, lode_field_path_text(point, sweep->key, &text), done);
    free(*value);
    *value = text.data;
    text.data = NULL;
    for (int64_t i = 0; i < value_index && status == LODE_OK; i++)
        if (strcmp(sweep->values[i], *value) == 0)
            status =
                lode_fail(LODE_ERR_CONFIG, "%s: %s: %s is listed twice", where, sweep->key, *value);
done:
    lode_buffer_free(&text);
    lode_config_destroy(&point);
    return status;
}

static lode_status_t resolve_sweep(lode_config_t *config, bool expand_paths) {
    int64_t points = 1;
    lode_source_t plain = {0};
    lode_status_t status = LODE_OK;
    char *where = NULL;
    if (config->sweep_count == 0)
        return LODE_OK;
    LODE_GUARD(status, plain_source(&plain, config), done);
    for (int64_t i = 0; i < config->sweep_count; i++) {
        LODE_GUARD(status, check_sweep_key(config, i), done);
        free(where);
        LODE_GUARD(status, sweep_where(&where, config, i, "values"), done);
        points *= config->sweep[i].value_count;
        if (points > SWEEP_MAX_POINTS) {
            status = lode_fail(LODE_ERR_CONFIG, "%s: the sweep has more than %d points", where,
                               (int)SWEEP_MAX_POINTS);
            goto done;
        }
        for (int64_t j = 0; j < config->sweep[i].value_count; j++)
            LODE_GUARD(status, resolve_value(config, &plain, i, j, where, expand_paths), done);
    }
done:
    free(where);
    lode_source_free(&plain);
    return status;
}

/* Appends a key or a value's text without quotes, a list's brackets and the L of wide integers,
 * other bytes than a file name's as '_'; *altered where the label then may not tell it from others.
 */
static lode_status_t append_label_part(lode_buffer_t *label, const char *part, bool *altered) {
    static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(part);
    if (part[0] == '(') { /* "( 0.25, 0.5 )" */
        part += 2;
        length = length > 4 ? length - 4 : 0;
    }
    if (length > 1 && part[length - 1] == 'L' && part[length - 2] >= '0' && part[length - 2] <= '9')
        length--;
    for (size_t i = 0; i < length; i++) {
        if (part[i] == '"')
            continue;
        bool kept = strchr(safe, part[i]) != NULL;
        *altered = *altered || !kept;
        LODE_TRY(lode_buffer_append(label, kept ? &part[i] : "_", 1));
    }
    return LODE_OK;
}

/* The last part of a path. */
static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What a label needs of a swept value: of a path its last part, where that tells the values apart,
 * so that a label does not depend on where the files lie. */
static const char *value_shown(const lode_config_sweep_t *sweep, const char *value) {
    char schema_path[KEY_MAX];
    lode_schema_path(schema_path, sizeof schema_path, sweep->key);
    const lode_key_t *key = lode_schema_find(schema_path);
    if (!key || key->type != LODE_KEY_PATH)
        return value;
    for (int64_t i = 0; i < sweep->value_count; i++)
        for (int64_t j = 0; j < i; j++)
            if (strcmp(base_name(sweep->values[i]), base_name(sweep->values[j])) == 0)
                return value;
    return base_name(value);
}

/* Label of a point: the key and value of each override. `exact` is room for the same unaltered. */
static lode_status_t point_label(const lode_config_t *config, const override_t *overrides,
                                 lode_buffer_t *label, lode_buffer_t *exact) {
    bool altered = false;
    LODE_TRY(lode_buffer_printf(label, "%s", ""));
    for (int64_t i = 0; i < config->sweep_count; i++) {
        const char *separator = i > 0 ? "," : "";
        LODE_TRY(lode_buffer_printf(label, "%s", separator));
        LODE_TRY(append_label_part(label, overrides[i].key, &altered));
        LODE_TRY(lode_buffer_printf(label, "="));
        LODE_TRY(
            append_label_part(label, value_shown(&config->sweep[i], overrides[i].value), &altered));
        LODE_TRY(
            lode_buffer_printf(exact, "%s%s=%s", separator, overrides[i].key, overrides[i].value));
    }
    if (!altered && label->length <= LABEL_MAX)
        return LODE_OK;
    if (label->length > LABEL_MAX)
        label->length = LABEL_MAX;
    char digest[LODE_SHA256_TEXT];
    LODE_TRY(lode_sha256_text(digest, exact->data, exact->length));
    return lode_buffer_printf(label, "-%.12s", digest);
}

/* Makes the point's messages name the lines of the experiment rather than of its resolved text. */
static lode_status_t inherit_places(lode_config_t *point, const lode_config_t *config,
                                    const override_t *overrides, int64_t count) {
    for (int64_t i = 0; i < point->places->count; i++) {
        lode_config_place_t *place = &point->places->items[i];
        const char *where = lode_config_where(config, place->key);
        for (int64_t j = 0; j < count; j++)
            if (strcmp(overrides[j].key, place->key) == 0)
                where = overrides[j].where;
        char *copy;
        LODE_TRY(lode_strdup(&copy, where));
        free(place->where);
        place->where = copy;
    }
    return LODE_OK;
}

static lode_status_t make_point(lode_config_point_t *point, const lode_config_t *config,
                                const lode_source_t *plain, const override_t *overrides) {
    lode_buffer_t label = {0}, exact = {0};
    lode_status_t status = point_label(config, overrides, &label, &exact);
    lode_buffer_free(&exact);
    point->label = label.data;
    LODE_TRY(status);
    LODE_TRY(build(&point->config, plain, overrides, config->sweep_count, false));
    LODE_TRY(inherit_places(point->config, config, overrides, config->sweep_count));
    return lode_training_expand(point->config, point->label);
}

/* Point number `index` as one value of each swept key, the last key fastest. */
static void choose_values(override_t *overrides, const lode_config_t *config, int64_t index) {
    for (int64_t i = config->sweep_count - 1; i >= 0; i--) {
        const lode_config_sweep_t *sweep = &config->sweep[i];
        overrides[i].key = sweep->key;
        overrides[i].value = sweep->values[index % sweep->value_count];
        index /= sweep->value_count;
    }
}

lode_status_t lode_config_expand(const lode_config_t *config, lode_config_point_t **points,
                                 int64_t *count) {
    *points = NULL;
    *count = 0;
    int64_t total = 1;
    for (int64_t i = 0; i < config->sweep_count; i++)
        total *= config->sweep[i].value_count;
    override_t *overrides = NULL;
    char **places = NULL;
    lode_source_t plain = {0};
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&overrides, config->sweep_count, "sweep"), done);
    LODE_GUARD(status, LODE_NEW(&places, config->sweep_count, "sweep"), done);
    LODE_GUARD(status, LODE_NEW(points, total, "points of the sweep"), done);
    LODE_GUARD(status, plain_source(&plain, config), done);
    for (int64_t i = 0; i < config->sweep_count; i++) {
        LODE_GUARD(status, sweep_where(&places[i], config, i, "values"), done);
        overrides[i].where = places[i];
    }
    for (int64_t i = 0; i < total && status == LODE_OK; i++) {
        choose_values(overrides, config, i);
        *count = i + 1;
        status = make_point(&(*points)[i], config, &plain, overrides);
    }
done:
    if (status != LODE_OK) {
        lode_config_points_destroy(points, *count);
        *count = 0;
    }
    for (int64_t i = 0; places && i < config->sweep_count; i++)
        free(places[i]);
    free(places);
    free(overrides);
    lode_source_free(&plain);
    return status;
}

void lode_config_points_destroy(lode_config_point_t **points, int64_t count) {
    for (int64_t i = 0; *points && i < count; i++) {
        free((*points)[i].label);
        lode_config_destroy(&(*points)[i].config);
    }
    free(*points);
    *points = NULL;
}

/* --- loading ---------------------------------------------------------------------------- */

/* Key and value of one --set argument; key and where are the caller's. */
static lode_status_t split_override(const char *argument, override_t *override, char **key,
                                    char **where) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument)
        return lode_fail(LODE_ERR_USAGE, "--set %s: must read key.path=value", argument);
    LODE_TRY(LODE_NEW(key, equals - argument + 1, "key"));
    memcpy(*key, argument, (size_t)(equals - argument));
    lode_buffer_t text = {0};
    lode_status_t status = lode_buffer_printf(&text, "--set %.200s", argument);
    *where = text.data;
    *override = (override_t){*key, equals + 1, *where};
    return status;
}

/* An experiment of the user's, from its source, with arguments of --set over it. */
static lode_status_t load(lode_config_t **out, const lode_source_t *source,
                          const char *const *overrides, int64_t override_count) {
    override_t *values = NULL;
    char **texts = NULL; /* key and place of each override */
    lode_config_t *config = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&values, override_count, "overrides"), done);
    LODE_GUARD(status, LODE_NEW(&texts, 2 * override_count, "overrides"), done);
    for (int64_t i = 0; i < override_count; i++)
        LODE_GUARD(status,
                   split_override(overrides[i], &values[i], &texts[2 * i], &texts[2 * i + 1]),
                   done);
    LODE_GUARD(status, build(&config, source, values, override_count, true), done);
    LODE_GUARD(status, resolve_sweep(config, true), done);
    *out = config;
    config = NULL;
done:
    lode_config_destroy(&config);
    for (int64_t i = 0; texts && i < 2 * override_count; i++)
        free(texts[i]);
    free(texts);
    free(values);
    return status;
}

lode_status_t lode_config_load(lode_config_t **out, const char *path, const char *const *overrides,
                               int64_t override_count) {
    lode_source_t source = {0};
    *out = NULL;
    lode_status_t status = lode_source_read(&source, path);
    if (status == LODE_OK)
        status = load(out, &source, overrides, override_count);
    lode_source_free(&source);
    return status;
}

lode_status_t lode_config_load_text(lode_config_t **out, const char *text, const char *origin,
                                    const char *const *overrides, int64_t override_count) {
    lode_source_t source = {0};
    *out = NULL;
    lode_status_t status = lode_source_take(&source, text, strlen(text), origin);
    if (status == LODE_OK)
        status = load(out, &source, overrides, override_count);
    lode_source_free(&source);
    return status;
}

lode_status_t lode_config_parse(lode_config_t **out, const char *text, size_t size,
                                const char *origin) {
    *out = NULL;
    lode_source_t source = {0};
    lode_config_t *config = NULL;
    lode_status_t status;
    LODE_GUARD(status, lode_source_take(&source, text, size, origin), done);
    LODE_GUARD(status, build(&config, &source, NULL, 0, false), done);
    LODE_GUARD(status, resolve_sweep(config, false), done);
    *out = config;
    config = NULL;
done:
    lode_config_destroy(&config);
    lode_source_free(&source);
    return status;
}
