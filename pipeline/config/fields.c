#include "config/fields.h"

#include <stdlib.h>
#include <string.h>

#include "config/value.h"

size_t lode_field_size(const lode_key_t *key) {
    switch (key->type) {
    case LODE_KEY_INTEGER:
    case LODE_KEY_BYTES:
        return sizeof(int64_t);
    case LODE_KEY_REAL:
        return sizeof(double);
    case LODE_KEY_BOOLEAN:
        return sizeof(bool);
    case LODE_KEY_CHOICE:
        return sizeof(int);
    case LODE_KEY_GRANULARITY:
        return sizeof(lode_granularity_t);
    case LODE_KEY_GROUPS:
        return key->element;
    default:
        return sizeof(char *);
    }
}

void *lode_field(const lode_key_t *key, const void *base) {
    return (char *)(uintptr_t)base + key->offset;
}

void *lode_field_items(const lode_key_t *key, const void *base) {
    void *items;
    memcpy(&items, lode_field(key, base), sizeof items);
    return items;
}

int64_t lode_field_count(const lode_key_t *key, const void *base) {
    int64_t count;
    memcpy(&count, (const char *)base + key->count_offset, sizeof count);
    return count;
}

void *lode_field_element(const lode_key_t *groups, const lode_config_t *config, int64_t index) {
    return (char *)lode_field_items(groups, config) + (size_t)index * groups->element;
}

static const char *choice_text(const lode_choice_t *choices, int value) {
    while (choices->name && choices->value != value)
        choices++;
    LODE_ASSERT(choices->name != NULL);
    return choices->name;
}

static lode_status_t scalar_text(const lode_key_t *key, const void *item, lode_buffer_t *text) {
    int64_t integer;
    double real;
    int choice;
    lode_granularity_t granularity;
    char name[LODE_GRANULARITY_NAME];
    const char *string;
    switch (key->type) {
    case LODE_KEY_INTEGER:
    case LODE_KEY_BYTES:
        memcpy(&integer, item, sizeof integer);
        return lode_value_integer_text(text, integer);
    case LODE_KEY_REAL:
        memcpy(&real, item, sizeof real);
        return lode_value_real_text(text, real);
    case LODE_KEY_BOOLEAN:
        return lode_buffer_printf(text, "%s", *(const bool *)item ? "true" : "false");
    case LODE_KEY_CHOICE:
        memcpy(&choice, item, sizeof choice);
        return lode_value_string_text(text, choice_text(key->choices, choice));
    case LODE_KEY_GRANULARITY:
        memcpy(&granularity, item, sizeof granularity);
        lode_granularity_name(name, granularity);
        return lode_value_string_text(text, name);
    default:
        memcpy(&string, item, sizeof string);
        if (key->type == LODE_KEY_VALUES)
            return lode_buffer_printf(text, "%s", string);
        return lode_value_string_text(text, string);
    }
}

lode_status_t lode_field_text(const lode_key_t *key, const void *base, lode_buffer_t *text) {
    if (!key->list)
        return scalar_text(key, lode_field(key, base), text);
    const char *items = lode_field_items(key, base);
    int64_t count = lode_field_count(key, base);
    LODE_TRY(lode_buffer_printf(text, "( "));
    for (int64_t i = 0; i < count; i++) {
        LODE_TRY(scalar_text(key, items + (size_t)i * lode_field_size(key), text));
        LODE_TRY(lode_buffer_printf(text, i + 1 < count ? ", " : " "));
    }
    return lode_buffer_printf(text, ")");
}

lode_status_t lode_field_path_text(const lode_config_t *config, const char *path,
                                   lode_buffer_t *text) {
    char schema_path[128];
    lode_schema_path(schema_path, sizeof schema_path, path);
    const lode_key_t *key = lode_schema_find(schema_path);
    const lode_key_t *owner = key ? lode_schema_owner(key) : NULL;
    if (!owner)
        return lode_field_text(key, config, text);
    int64_t index = strtoll(strchr(path, '[') + 1, NULL, 10);
    return lode_field_text(key, lode_field_element(owner, config, index), text);
}

/* Text being written group by group. */
typedef struct writer {
    lode_buffer_t *text;
    const char *group; /* path of a key in the group that is open */
    size_t length;     /* of the group's own path */
} writer_t;

static lode_status_t indent(const writer_t *writer, size_t length) {
    size_t depth = length > 0;
    for (size_t i = 0; i < length; i++)
        depth += writer->group[i] == '.';
    return lode_buffer_printf(writer->text, "%*s", (int)(4 * depth), "");
}

/* Closes groups until the open one is the key's or holds it. */
static lode_status_t close_groups(writer_t *writer, const char *path) {
    while (writer->length > 0 &&
           (strncmp(path, writer->group, writer->length) != 0 || path[writer->length] != '.')) {
        do
            writer->length--;
        while (writer->length > 0 && writer->group[writer->length] != '.');
        LODE_TRY(indent(writer, writer->length));
        LODE_TRY(lode_buffer_printf(writer->text, "};\n"));
    }
    return LODE_OK;
}

static lode_status_t open_groups(writer_t *writer, const char *path) {
    writer->group = path;
    for (;;) {
        size_t start = writer->length + (writer->length > 0);
        size_t name = strcspn(path + start, ".");
        if (path[start + name] == '\0')
            return LODE_OK;
        LODE_TRY(indent(writer, writer->length));
        LODE_TRY(lode_buffer_printf(writer->text, "%.*s = {\n", (int)name, path + start));
        writer->length = start + name;
    }
}

/* Appends one element of a list of groups, on one line. */
static lode_status_t element_text(const lode_key_t *groups, const void *base, lode_buffer_t *text) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    LODE_TRY(lode_buffer_printf(text, "{ "));
    for (int64_t i = 0; i < count; i++) {
        if (lode_schema_owner(&keys[i]) != groups)
            continue;
        LODE_TRY(lode_buffer_printf(text, "%s = ", lode_schema_local_path(&keys[i])));
        LODE_TRY(lode_field_text(&keys[i], base, text));
        LODE_TRY(lode_buffer_printf(text, "; "));
    }
    return lode_buffer_printf(text, "}");
}

static lode_status_t groups_text(const lode_key_t *key, const lode_config_t *config,
                                 lode_buffer_t *text) {
    int64_t count = lode_field_count(key, config);
    LODE_TRY(lode_buffer_printf(text, "( "));
    for (int64_t i = 0; i < count; i++) {
        LODE_TRY(element_text(key, lode_field_element(key, config, i), text));
        LODE_TRY(lode_buffer_printf(text, i + 1 < count ? ",\n    " : " "));
    }
    return lode_buffer_printf(text, ")");
}

lode_status_t lode_config_text(const lode_config_t *config, lode_buffer_t *text) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    writer_t writer = {.text = text, .group = ""};
    for (int64_t i = 0; i < count; i++) {
        const lode_key_t *key = &keys[i];
        if (lode_schema_owner(key))
            continue;
        LODE_TRY(close_groups(&writer, key->path));
        LODE_TRY(open_groups(&writer, key->path));
        LODE_TRY(indent(&writer, writer.length));
        LODE_TRY(
            lode_buffer_printf(text, "%s = ", key->path + writer.length + (writer.length > 0)));
        LODE_TRY(key->type == LODE_KEY_GROUPS ? groups_text(key, config, text)
                                              : lode_field_text(key, config, text));
        LODE_TRY(lode_buffer_printf(text, ";\n"));
    }
    return close_groups(&writer, "");
}

/* Adds one value; `text` is room that is used again. */
static lode_status_t hash_field(const lode_key_t *key, const void *base, lode_buffer_t *text,
                                lode_hash_t *hash) {
    text->length = 0;
    LODE_TRY(lode_field_text(key, base, text));
    lode_hash_add_text(hash, text->data);
    return LODE_OK;
}

static lode_status_t hash_key(const lode_key_t *key, const lode_config_t *config,
                              lode_buffer_t *text, lode_hash_t *hash) {
    const lode_key_t *owner = lode_schema_owner(key);
    lode_hash_add_text(hash, key->path);
    if (key->type == LODE_KEY_GROUPS || owner) {
        int64_t count = lode_field_count(owner ? owner : key, config);
        text->length = 0;
        LODE_TRY(lode_buffer_printf(text, "%lld", (long long)count));
        lode_hash_add_text(hash, text->data);
        for (int64_t i = 0; owner && i < count; i++)
            LODE_TRY(hash_field(key, lode_field_element(owner, config, i), text, hash));
        return LODE_OK;
    }
    return hash_field(key, config, text, hash);
}

static lode_status_t find_stage(unsigned *bit, const char *stage) {
    *bit = lode_schema_stage(stage);
    if (*bit != 0)
        return LODE_OK;
    lode_buffer_t all = {0};
    lode_status_t status = lode_schema_stages_text(&all);
    if (status == LODE_OK)
        status =
            lode_fail(LODE_ERR_USAGE, "\"%s\" is not a stage; the stages are %s", stage, all.data);
    lode_buffer_free(&all);
    return status;
}

lode_status_t lode_config_stage_hash(const lode_config_t *config, const char *stage,
                                     lode_hash_t *hash) {
    unsigned bit;
    LODE_TRY(find_stage(&bit, stage));
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    lode_buffer_t text = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        if (keys[i].stages & bit)
            status = hash_key(&keys[i], config, &text, hash);
    lode_buffer_free(&text);
    return status;
}

/* Whether what a step does depends on how many there will be. */
static bool is_timed(const lode_config_train_t *train) {
    return train->decay != LODE_DECAY_CONSTANT ||
           (train->entropy.weight > 0 && train->entropy.schedule != LODE_SCHEDULE_CONSTANT);
}

lode_status_t lode_config_weights_hash(const lode_config_t *config, lode_hash_t *hash) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    lode_buffer_t text = {0};
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        if (keys[i].stages & LODE_DECIDES_TRAIN && !keys[i].spares_weights)
            status = hash_key(&keys[i], config, &text, hash);
    if (status == LODE_OK && is_timed(&config->train))
        status = hash_key(lode_schema_find("train.steps"), config, &text, hash);
    lode_buffer_free(&text);
    return status;
}

/* Appends "key is x and y" where the key's values differ. */
static lode_status_t compare_field(const lode_key_t *key, const lode_config_t *a,
                                   const lode_config_t *b, lode_buffer_t *text) {
    lode_buffer_t one = {0}, two = {0};
    lode_status_t status = lode_field_text(key, a, &one);
    if (status == LODE_OK)
        status = lode_field_text(key, b, &two);
    if (status == LODE_OK && strcmp(one.data, two.data) != 0)
        status = lode_buffer_printf(text, "%s is %s and %s", key->path, one.data, two.data);
    lode_buffer_free(&one);
    lode_buffer_free(&two);
    return status;
}

lode_status_t lode_config_stage_difference(const lode_config_t *a, const lode_config_t *b,
                                           const char *stage, lode_buffer_t *text) {
    unsigned bit;
    int64_t count;
    LODE_TRY(find_stage(&bit, stage));
    const lode_key_t *keys = lode_schema(&count);
    const size_t before = text->length;
    for (int64_t i = 0; i < count && text->length == before; i++) {
        const bool plain = keys[i].type != LODE_KEY_GROUPS && !lode_schema_owner(&keys[i]);
        if (plain && (keys[i].stages & bit))
            LODE_TRY(compare_field(&keys[i], a, b, text));
    }
    return LODE_OK;
}
