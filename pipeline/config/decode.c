#include "config/decode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "config/fields.h"
#include "config/schema.h"

enum { PATH_MAX_TEXT = 192, NAME_MAX_TEXT = 128, SHOWN_MAX = 80 };

/* --- unknown keys ----------------------------------------------------------------------- */

static lode_status_t check_group(const lode_value_t *group, const char *schema_path,
                                 const char *path);

static lode_status_t fail_unknown(const lode_value_t *value, const char *group, const char *path) {
    lode_buffer_t advice = {0};
    lode_status_t status = lode_schema_suggest(&advice, group, value->name);
    if (status == LODE_OK)
        status = lode_value_fail(value, path, "unknown key; %s", advice.data);
    lode_buffer_free(&advice);
    return status;
}

static lode_status_t check_elements(const lode_value_t *list, const char *schema_path,
                                    const char *path) {
    char inner[PATH_MAX_TEXT];
    snprintf(inner, sizeof inner, "%.*s.[]", PATH_MAX_TEXT - 8, schema_path);
    for (int64_t i = 0; i < list->count; i++) {
        char shown[PATH_MAX_TEXT];
        snprintf(shown, sizeof shown, "%.*s.[%lld]", PATH_MAX_TEXT - 32, path, (long long)i);
        if (list->children[i].kind != LODE_VALUE_GROUP)
            return lode_value_fail(&list->children[i], shown, "must be a group { key = value; }");
        LODE_TRY(check_group(&list->children[i], inner, shown));
    }
    return LODE_OK;
}

static lode_status_t check_child(const lode_value_t *child, const char *schema_path,
                                 const char *path) {
    char inner[PATH_MAX_TEXT], shown[PATH_MAX_TEXT];
    const char *dot = *path ? "." : "";
    snprintf(inner, sizeof inner, "%.*s%s%.*s", SHOWN_MAX, schema_path, dot, SHOWN_MAX,
             child->name);
    snprintf(shown, sizeof shown, "%.*s%s%.*s", SHOWN_MAX, path, dot, SHOWN_MAX, child->name);
    const lode_key_t *key = lode_schema_find(inner);
    if (key)
        return key->type == LODE_KEY_GROUPS && child->kind == LODE_VALUE_LIST
                   ? check_elements(child, inner, shown)
                   : LODE_OK;
    if (!lode_schema_is_group(inner))
        return fail_unknown(child, schema_path, shown);
    if (child->kind != LODE_VALUE_GROUP)
        return lode_value_fail(child, shown, "must be a group { key = value; }");
    return check_group(child, inner, shown);
}

static lode_status_t check_group(const lode_value_t *group, const char *schema_path,
                                 const char *path) {
    for (int64_t i = 0; i < group->count; i++)
        LODE_TRY(check_child(&group->children[i], schema_path, path));
    return LODE_OK;
}

/* --- one value -------------------------------------------------------------------------- */

static lode_status_t fail_type(const lode_value_t *value, const char *path, const char *expected) {
    lode_buffer_t found = {0};
    lode_status_t status = LODE_OK;
    if (value->kind == LODE_VALUE_GROUP)
        status = lode_buffer_printf(&found, "a group");
    else if (value->kind == LODE_VALUE_LIST)
        status = lode_buffer_printf(&found, "a list");
    else
        status = lode_value_text(value, &found);
    if (status == LODE_OK)
        status =
            lode_value_fail(value, path, "must be %s, not %.*s", expected, SHOWN_MAX, found.data);
    lode_buffer_free(&found);
    return status;
}

static lode_status_t check_range(const lode_key_t *key, const lode_value_t *value, const char *path,
                                 double number) {
    bool low = key->low_open ? number > key->low : number >= key->low;
    bool high = key->high_open ? number < key->high : number <= key->high;
    if (low && high)
        return LODE_OK;
    lode_buffer_t text = {0};
    lode_status_t status = lode_value_text(value, &text);
    if (status == LODE_OK)
        status = lode_buffer_printf(&text, " is out of range; it must be ");
    if (status == LODE_OK)
        status = lode_schema_range_text(key, &text);
    if (status == LODE_OK)
        status = lode_value_fail(value, path, "%s", text.data);
    lode_buffer_free(&text);
    return status;
}

static lode_status_t decode_integer(const lode_key_t *key, const lode_value_t *value,
                                    const char *path, int64_t *field) {
    if (value->kind != LODE_VALUE_INTEGER)
        return fail_type(value, path, "an integer");
    LODE_TRY(check_range(key, value, path, (double)value->integer));
    *field = value->integer;
    return LODE_OK;
}

static lode_status_t decode_real(const lode_key_t *key, const lode_value_t *value, const char *path,
                                 double *field) {
    if (value->kind != LODE_VALUE_REAL && value->kind != LODE_VALUE_INTEGER)
        return fail_type(value, path, "a number");
    double number = value->kind == LODE_VALUE_REAL ? value->real : (double)value->integer;
    LODE_TRY(check_range(key, value, path, number));
    *field = number;
    return LODE_OK;
}

static lode_status_t decode_bytes(const lode_key_t *key, const lode_value_t *value,
                                  const char *path, int64_t *field) {
    if (value->kind == LODE_VALUE_INTEGER)
        return decode_integer(key, value, path, field);
    const char *expected = "a size like \"8G\" or \"512M\", or an integer of bytes";
    if (value->kind != LODE_VALUE_TEXT)
        return fail_type(value, path, expected);
    int64_t bytes;
    if (!lode_size_parse(&bytes, value->text))
        return fail_type(value, path, expected);
    LODE_TRY(check_range(key, value, path, (double)bytes));
    *field = bytes;
    return LODE_OK;
}

static bool is_name(const char *text) {
    static const char bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(text);
    return length > 0 && length <= NAME_MAX_TEXT && strspn(text, bytes) == length &&
           strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static lode_status_t decode_text(const lode_key_t *key, const lode_value_t *value, const char *path,
                                 char **field) {
    if (value->kind != LODE_VALUE_TEXT)
        return fail_type(value, path, "a string in double quotes");
    if (value->text[0] == '\0' && key->may_be_empty && !key->list)
        return lode_strdup(field, value->text);
    if (key->type == LODE_KEY_NAME && !is_name(value->text))
        return fail_type(value, path,
                         "a name of letters, digits, '.', '_' and '-', up to 128 bytes, other "
                         "than . and ..");
    if (value->text[0] == '\0')
        return lode_value_fail(value, path, "is empty");
    return lode_strdup(field, value->text);
}

static lode_status_t decode_choice(const lode_key_t *key, const lode_value_t *value,
                                   const char *path, void *field) {
    if (value->kind != LODE_VALUE_TEXT)
        return fail_type(value, path, "a string in double quotes");
    const lode_choice_t *choice = lode_choice_find(key->choices, value->text);
    if (choice) {
        memcpy(field, &choice->value, sizeof choice->value);
        return LODE_OK;
    }
    lode_buffer_t all = {0};
    lode_status_t status = lode_schema_choices_text(key->choices, &all);
    const char *near = lode_schema_near_choice(key->choices, value->text);
    if (status == LODE_OK && near)
        status = lode_value_fail(value, path, "\"%.*s\" is not a choice; did you mean \"%s\"?",
                                 SHOWN_MAX, value->text, near);
    else if (status == LODE_OK)
        status = lode_value_fail(value, path, "\"%.*s\" is not a choice; choose from %s", SHOWN_MAX,
                                 value->text, all.data);
    lode_buffer_free(&all);
    return status;
}

/* The granularity that the text is most likely meant to be; room: for it. NULL where none is near.
 */
static const char *near_granularity(char room[LODE_GRANULARITY_NAME], const char *text) {
    char group[LODE_GRANULARITY_NAME], block[LODE_GRANULARITY_NAME];
    const char *digits = text + strcspn(text, "123456789");
    const int length = (int)strspn(digits, "0123456789");
    const char *size = length > 0 && length < 6 ? digits : "128";
    snprintf(group, sizeof group, "group-%.*s", size == digits ? length : 3, size);
    snprintf(block, sizeof block, "block-%.*s", size == digits ? length : 3, size);
    const char *const names[] = {"tensor", "channel", group, block};
    const char *near = lode_config_nearest(text, names, 4);
    lode_granularity_t parsed;
    if (!near || !lode_granularity_parse(&parsed, near))
        return NULL;
    lode_granularity_name(room, parsed);
    return room;
}

static lode_status_t decode_granularity(const lode_value_t *value, const char *path,
                                        lode_granularity_t *field) {
    char near[LODE_GRANULARITY_NAME];
    if (value->kind != LODE_VALUE_TEXT)
        return fail_type(value, path, "a string in double quotes");
    if (lode_granularity_parse(field, value->text))
        return LODE_OK;
    if (near_granularity(near, value->text))
        return lode_value_fail(value, path, "\"%.*s\" is no granularity; did you mean \"%s\"?",
                               SHOWN_MAX, value->text, near);
    return lode_value_fail(value, path,
                           "\"%.*s\" is no granularity; write tensor, channel, group-N with N from "
                           "%d to %d, or block-N with N from %d to %d",
                           SHOWN_MAX, value->text, (int)LODE_GRANULARITY_LEAST,
                           (int)LODE_GRANULARITY_MOST_GROUP, (int)LODE_GRANULARITY_LEAST,
                           (int)LODE_GRANULARITY_MOST_BLOCK);
}

static lode_status_t decode_scalar(const lode_key_t *key, const lode_value_t *value,
                                   const char *path, void *field) {
    lode_buffer_t text = {0};
    switch (key->type) {
    case LODE_KEY_INTEGER:
        return decode_integer(key, value, path, field);
    case LODE_KEY_REAL:
        return decode_real(key, value, path, field);
    case LODE_KEY_BYTES:
        return decode_bytes(key, value, path, field);
    case LODE_KEY_CHOICE:
        return decode_choice(key, value, path, field);
    case LODE_KEY_GRANULARITY:
        return decode_granularity(value, path, field);
    case LODE_KEY_BOOLEAN:
        if (value->kind != LODE_VALUE_BOOLEAN)
            return fail_type(value, path, "true or false");
        *(bool *)field = value->boolean;
        return LODE_OK;
    case LODE_KEY_VALUES:
        LODE_TRY(lode_value_text(value, &text));
        *(char **)field = text.data;
        return LODE_OK;
    default:
        return decode_text(key, value, path, field);
    }
}

/* --- lists ------------------------------------------------------------------------------ */

/* Whether two sparsities give variants of one name, which has them as %g. */
static bool same_in_names(double a, double b) {
    char a_text[32], b_text[32];
    if (fabs(a - b) > 1e-4 * fabs(a))
        return false;
    snprintf(a_text, sizeof a_text, "%g", a);
    snprintf(b_text, sizeof b_text, "%g", b);
    return strcmp(a_text, b_text) == 0;
}

static bool same_items(const lode_key_t *key, const void *a, const void *b) {
    double x, y;
    switch (key->type) {
    case LODE_KEY_REAL:
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return same_in_names(x, y);
    case LODE_KEY_INTEGER:
    case LODE_KEY_CHOICE:
        return memcmp(a, b, lode_field_size(key)) == 0;
    case LODE_KEY_GRANULARITY:
        return lode_granularity_equal(*(const lode_granularity_t *)a,
                                      *(const lode_granularity_t *)b);
    default:
        return strcmp(*(char *const *)a, *(char *const *)b) == 0;
    }
}

static lode_status_t check_list(const lode_key_t *key, const lode_value_t *value,
                                const char *path) {
    if (value->kind != LODE_VALUE_LIST)
        return fail_type(value, path, "a list ( )");
    if (value->count == 0 && !key->may_be_empty)
        return lode_value_fail(value, path, "is empty; it must hold at least one value");
    if (value->count > LODE_DECODE_MAX_LIST)
        return lode_value_fail(value, path, "holds %lld values, more than %d",
                               (long long)value->count, (int)LODE_DECODE_MAX_LIST);
    return LODE_OK;
}

/* Makes room for the list's items in the experiment or its element. */
static lode_status_t make_items(const lode_key_t *key, int64_t count, void *base, char **items) {
    LODE_TRY(lode_alloc(items, count, lode_field_size(key), key->path));
    memcpy(lode_field(key, base), items, sizeof *items);
    memcpy((char *)base + key->count_offset, &count, sizeof count);
    return LODE_OK;
}

static lode_status_t fail_twice(const lode_value_t *value, const char *path) {
    lode_buffer_t text = {0};
    lode_status_t status = lode_value_text(value, &text);
    if (status == LODE_OK)
        status = lode_value_fail(value, path, "%.*s is listed twice", SHOWN_MAX, text.data);
    lode_buffer_free(&text);
    return status;
}

static lode_status_t decode_list(const lode_key_t *key, const lode_value_t *value, const char *path,
                                 void *base) {
    char *items;
    size_t size = lode_field_size(key);
    LODE_TRY(make_items(key, value->count, base, &items));
    for (int64_t i = 0; i < value->count; i++) {
        char *item = items + (size_t)i * size;
        LODE_TRY(decode_scalar(key, &value->children[i], path, item));
        for (int64_t j = 0; j < i; j++)
            if (same_items(key, items + (size_t)j * size, item))
                return fail_twice(&value->children[i], path);
    }
    return LODE_OK;
}

/* --- keys ------------------------------------------------------------------------------- */

static lode_status_t add_place(lode_config_places_t *places, const char *key,
                               const lode_value_t *value) {
    if (places->count == places->capacity) {
        int64_t capacity = places->capacity ? 2 * places->capacity : 64;
        lode_config_place_t *items;
        LODE_TRY(LODE_NEW(&items, capacity, "places of keys"));
        if (places->count > 0)
            memcpy(items, places->items, (size_t)places->count * sizeof *items);
        free(places->items);
        places->items = items;
        places->capacity = capacity;
    }
    lode_config_place_t *place = &places->items[places->count++];
    LODE_TRY(lode_strdup(&place->key, key));
    lode_buffer_t where = {0};
    lode_status_t status = lode_buffer_printf(&where, "%s", value->file);
    if (status == LODE_OK && value->line > 0)
        status = lode_buffer_printf(&where, ":%lld", (long long)value->line);
    place->where = where.data;
    return status;
}

static lode_status_t decode_groups(const lode_key_t *key, const lode_value_t *value,
                                   const char *path, lode_config_t *config);

static lode_status_t store(const lode_key_t *key, const lode_value_t *value, const char *path,
                           void *base, lode_config_t *config) {
    bool list = key->list || key->type == LODE_KEY_GROUPS;
    if (list)
        LODE_TRY(check_list(key, value, path));
    if (key->type == LODE_KEY_GROUPS)
        return decode_groups(key, value, path, config);
    return list ? decode_list(key, value, path, base)
                : decode_scalar(key, value, path, lode_field(key, base));
}

static lode_status_t store_default(const lode_key_t *key, const char *path, void *base,
                                   lode_config_t *config) {
    char text[256];
    snprintf(text, sizeof text, "value = %s;", key->fallback);
    lode_source_t source = {0};
    lode_value_t root = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_source_take(&source, text, strlen(text), "default"), done);
    LODE_GUARD(status, lode_value_read(&root, &source), done);
    status = store(key, &root.children[0], path, base, config);
done:
    lode_value_free(&root);
    lode_source_free(&source);
    return status;
}

/* `parent` is the root or an element, `base` its experiment or field, `prefix` the element's path
 * and a '.'. */
static lode_status_t decode_key(const lode_key_t *key, const lode_value_t *parent, void *base,
                                const char *prefix, lode_config_t *config) {
    char path[PATH_MAX_TEXT];
    const char *local = lode_schema_local_path(key);
    snprintf(path, sizeof path, "%.*s%.*s", SHOWN_MAX, prefix, SHOWN_MAX, local);
    const lode_value_t *value = lode_value_find(parent, local);
    if (value) {
        LODE_TRY(add_place(config->places, path, value));
        return store(key, value, path, base, config);
    }
    if (!key->fallback)
        return lode_value_fail(parent, path, "required key is missing; %s", key->meaning);
    return store_default(key, path, base, config);
}

static lode_status_t check_distinct(const lode_key_t *key, const lode_key_t *groups, int64_t index,
                                    const lode_value_t *element, const lode_config_t *config) {
    const char *text = lode_field_items(key, lode_field_element(groups, config, index));
    for (int64_t i = 0; i < index; i++) {
        const void *other = lode_field_element(groups, config, i);
        char path[PATH_MAX_TEXT];
        snprintf(path, sizeof path, "%s.[%lld].%s", groups->path, (long long)index,
                 lode_schema_local_path(key));
        if (strcmp(text, lode_field_items(key, other)) == 0)
            return lode_value_fail(lode_value_find(element, lode_schema_local_path(key)), path,
                                   "\"%s\" is used twice; each needs its own", text);
    }
    return LODE_OK;
}

static lode_status_t decode_groups(const lode_key_t *groups, const lode_value_t *value,
                                   const char *path, lode_config_t *config) {
    int64_t key_count;
    const lode_key_t *keys = lode_schema(&key_count);
    char *items;
    LODE_TRY(make_items(groups, value->count, config, &items));
    for (int64_t i = 0; i < value->count; i++) {
        const lode_value_t *element = &value->children[i];
        char prefix[PATH_MAX_TEXT];
        snprintf(prefix, sizeof prefix, "%.*s.[%lld].", SHOWN_MAX, path, (long long)i);
        for (int64_t k = 0; k < key_count; k++) {
            if (lode_schema_owner(&keys[k]) != groups)
                continue;
            void *base = items + (size_t)i * groups->element;
            LODE_TRY(decode_key(&keys[k], element, base, prefix, config));
            if (keys[k].distinct)
                LODE_TRY(check_distinct(&keys[k], groups, i, element, config));
        }
    }
    return LODE_OK;
}

lode_status_t lode_decode(lode_config_t **out, const lode_value_t *root, const char *origin) {
    *out = NULL;
    LODE_TRY(check_group(root, "", ""));
    lode_config_t *config;
    lode_status_t status;
    LODE_TRY(LODE_NEW(&config, 1, "experiment"));
    LODE_GUARD(status, LODE_NEW(&config->places, 1, "places of keys"), fail);
    LODE_GUARD(status, lode_strdup(&config->places->origin, origin), fail);
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++)
        if (!lode_schema_owner(&keys[i]))
            LODE_GUARD(status, decode_key(&keys[i], root, config, "", config), fail);
    *out = config;
    return LODE_OK;
fail:
    lode_config_destroy(&config);
    return status;
}

/* --- paths and places ------------------------------------------------------------------- */

lode_status_t lode_decode_expand_path(lode_value_t *value, const char *key) {
    char *expanded;
    if (value->kind != LODE_VALUE_TEXT)
        return LODE_OK;
    lode_status_t status = lode_path_expand(&expanded, value->text);
    if (status == LODE_ERR_CONFIG) {
        char message[LODE_MESSAGE_MAX];
        snprintf(message, sizeof message, "%s", lode_error_message());
        return lode_value_fail(value, key, "%s", message);
    }
    LODE_TRY(status);
    free(value->text);
    value->text = expanded;
    return LODE_OK;
}

/* Expands the path in every element of a list of groups. */
static lode_status_t expand_elements(lode_value_t *root, const lode_key_t *key) {
    const lode_value_t *list = lode_value_find(root, lode_schema_owner(key)->path);
    for (int64_t i = 0; list && list->kind == LODE_VALUE_LIST && i < list->count; i++) {
        char path[PATH_MAX_TEXT];
        snprintf(path, sizeof path, "%s.[%lld].%s", lode_schema_owner(key)->path, (long long)i,
                 lode_schema_local_path(key));
        lode_value_t *value = lode_value_find(root, path);
        if (value)
            LODE_TRY(lode_decode_expand_path(value, path));
    }
    return LODE_OK;
}

lode_status_t lode_decode_expand_paths(lode_value_t *root) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++) {
        if (keys[i].type != LODE_KEY_PATH)
            continue;
        lode_value_t *value = NULL;
        if (lode_schema_owner(&keys[i]))
            LODE_TRY(expand_elements(root, &keys[i]));
        else
            value = lode_value_find(root, keys[i].path);
        if (value)
            LODE_TRY(lode_decode_expand_path(value, keys[i].path));
    }
    return LODE_OK;
}

const char *lode_config_where(const lode_config_t *config, const char *key) {
    const lode_config_places_t *places = config->places;
    for (int64_t i = 0; i < places->count; i++)
        if (strcmp(places->items[i].key, key) == 0)
            return places->items[i].where;
    return places->origin;
}

void lode_decode_places_destroy(lode_config_places_t **places) {
    if (!*places)
        return;
    for (int64_t i = 0; i < (*places)->count; i++) {
        free((*places)->items[i].key);
        free((*places)->items[i].where);
    }
    free((*places)->items);
    free((*places)->origin);
    free(*places);
    *places = NULL;
}
