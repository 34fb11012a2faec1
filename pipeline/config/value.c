#include "config/value.h"

#include <libconfig.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lode_value_free(lode_value_t *value) {
    for (int64_t i = 0; i < value->count; i++)
        lode_value_free(&value->children[i]);
    free(value->children);
    free(value->name);
    free(value->text);
    *value = (lode_value_t){0};
}

lode_status_t lode_value_fail(const lode_value_t *value, const char *key, const char *format, ...) {
    char message[LODE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (value->line > 0)
        return lode_fail(LODE_ERR_CONFIG, "%s:%lld: %s: %s", value->file, (long long)value->line,
                         key, message);
    return lode_fail(LODE_ERR_CONFIG, "%s: %s: %s", value->file, key, message);
}

/* Depth is bounded by the scanner. */
static lode_status_t copy_setting(lode_value_t *value, const config_setting_t *setting,
                                  const lode_source_t *source) {
    *value = (lode_value_t){0};
    value->file = lode_source_place(source, config_setting_source_line(setting), &value->line);
    if (config_setting_name(setting))
        LODE_TRY(lode_strdup(&value->name, config_setting_name(setting)));
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        value->kind = LODE_VALUE_INTEGER;
        value->integer = config_setting_get_int64(setting);
        return LODE_OK;
    case CONFIG_TYPE_FLOAT:
        value->kind = LODE_VALUE_REAL;
        value->real = config_setting_get_float(setting);
        if (!isfinite(value->real))
            return lode_value_fail(value, value->name ? value->name : "element",
                                   "the number is too large for float64");
        return LODE_OK;
    case CONFIG_TYPE_BOOL:
        value->kind = LODE_VALUE_BOOLEAN;
        value->boolean = config_setting_get_bool(setting);
        return LODE_OK;
    case CONFIG_TYPE_STRING:
        value->kind = LODE_VALUE_TEXT;
        return lode_strdup(&value->text, config_setting_get_string(setting));
    default:
        break;
    }
    value->kind = config_setting_is_group(setting) ? LODE_VALUE_GROUP : LODE_VALUE_LIST;
    int count = config_setting_length(setting);
    LODE_TRY(LODE_NEW(&value->children, count, "settings"));
    for (int i = 0; i < count; i++) {
        value->count = i + 1;
        LODE_TRY(copy_setting(&value->children[i], config_setting_get_elem(setting, (unsigned)i),
                              source));
    }
    return LODE_OK;
}

/* What libconfig's few messages mean to the reader of an experiment file. */
static const char *explain(const char *text) {
    if (strcmp(text, "syntax error") == 0)
        return "syntax error; every setting reads key = value; with strings in double quotes and "
               "elements of a list separated by ','";
    if (strcmp(text, "duplicate setting name") == 0)
        return "a key of this group is set twice; remove one of them";
    if (strcmp(text, "mismatched element type in array") == 0)
        return "an array [ ] holds values of one type; write 1.0 instead of 1, or use a list ( )";
    return text;
}

lode_status_t lode_value_read(lode_value_t *root, const lode_source_t *source) {
    *root = (lode_value_t){0};
    config_t parsed;
    config_init(&parsed);
    lode_status_t status = LODE_OK;
    if (config_read_string(&parsed, source->text.data ? source->text.data : "")) {
        status = copy_setting(root, config_root_setting(&parsed), source);
        root->line = 0; /* the root is the whole file, whatever its first line includes */
        root->file = source->files[0];
    } else {
        int64_t line;
        const char *file = lode_source_place(source, config_error_line(&parsed), &line);
        status = lode_fail(LODE_ERR_CONFIG, "%s:%lld: %s", file, (long long)line,
                           explain(config_error_text(&parsed)));
    }
    config_destroy(&parsed);
    if (status != LODE_OK)
        lode_value_free(root);
    return status;
}

/* The index in a path component "[3]", −1 where it is none. */
static int64_t component_index(const char *component, size_t length) {
    if (length < 3 || length > 11 || component[0] != '[' || component[length - 1] != ']')
        return -1;
    int64_t index = 0;
    for (size_t i = 1; i + 1 < length; i++) {
        if (component[i] < '0' || component[i] > '9')
            return -1;
        index = 10 * index + (component[i] - '0');
    }
    return index;
}

/* The child that a path component names, NULL where there is none. */
static lode_value_t *find_child(const lode_value_t *value, const char *component, size_t length) {
    if (value->kind == LODE_VALUE_LIST) {
        int64_t index = component_index(component, length);
        return index >= 0 && index < value->count ? &value->children[index] : NULL;
    }
    for (int64_t i = 0; value->kind == LODE_VALUE_GROUP && i < value->count; i++) {
        const char *name = value->children[i].name;
        if (strlen(name) == length && memcmp(name, component, length) == 0)
            return &value->children[i];
    }
    return NULL;
}

lode_value_t *lode_value_find(const lode_value_t *root, const char *path) {
    const lode_value_t *value = root;
    for (;;) {
        size_t length = strcspn(path, ".");
        lode_value_t *child = find_child(value, path, length);
        if (!child || path[length] == '\0')
            return child;
        value = child;
        path += length + 1;
    }
}

/* Adds an empty group called `name` to a group. */
static lode_status_t add_child(lode_value_t *group, const char *name, size_t length,
                               const lode_value_t *place) {
    lode_value_t *children;
    LODE_TRY(LODE_NEW(&children, group->count + 1, "settings"));
    char *copy;
    lode_status_t status = LODE_NEW(&copy, (int64_t)length + 1, "setting");
    if (status != LODE_OK) {
        free(children);
        return status;
    }
    memcpy(copy, name, length);
    if (group->count > 0)
        memcpy(children, group->children, (size_t)group->count * sizeof *children);
    children[group->count] = (lode_value_t){
        .kind = LODE_VALUE_GROUP, .name = copy, .file = place->file, .line = place->line};
    free(group->children);
    group->children = children;
    group->count++;
    return LODE_OK;
}

/* The child that the component names, made where a group lacks it. `path` is the path up to and
 * including the component, for messages. */
static lode_status_t reach_child(lode_value_t **child, lode_value_t *parent, const char *path,
                                 const char *component, size_t length, const lode_value_t *place) {
    *child = find_child(parent, component, length);
    if (*child)
        return LODE_OK;
    if (length == 0)
        return lode_value_fail(place, path, "the path has an empty part");
    if (parent->kind == LODE_VALUE_LIST)
        return lode_value_fail(place, path,
                               "there is no such element; the list has %lld, counted from [0]",
                               (long long)parent->count);
    if (parent->kind != LODE_VALUE_GROUP)
        return lode_value_fail(place, path, "what it would be set in is not a group or a list");
    LODE_TRY(add_child(parent, component, length, place));
    *child = &parent->children[parent->count - 1];
    return LODE_OK;
}

lode_status_t lode_value_set(lode_value_t *root, const char *path, lode_value_t *value) {
    lode_value_t *target = root;
    lode_status_t status = LODE_OK;
    for (const char *component = path; status == LODE_OK;) {
        size_t length = strcspn(component, ".");
        char reached[256];
        snprintf(reached, sizeof reached, "%.*s", (int)(component + length - path), path);
        status = reach_child(&target, target, reached, component, length, value);
        if (component[length] == '\0')
            break;
        component += length + 1;
    }
    if (status != LODE_OK) {
        lode_value_free(value);
        return status;
    }
    char *name = target->name;
    target->name = NULL;
    lode_value_free(target);
    free(value->name);
    *target = *value;
    target->name = name;
    *value = (lode_value_t){0};
    return LODE_OK;
}

lode_status_t lode_value_wrap(lode_value_t *value) {
    lode_value_t *children;
    LODE_TRY(LODE_NEW(&children, 1, "list"));
    children[0] = *value;
    *value = (lode_value_t){.kind = LODE_VALUE_LIST,
                            .name = children[0].name,
                            .file = children[0].file,
                            .line = children[0].line,
                            .children = children,
                            .count = 1};
    children[0].name = NULL;
    return LODE_OK;
}

lode_status_t lode_value_integer_text(lode_buffer_t *text, int64_t value) {
    bool wide = value > INT32_MAX || value < INT32_MIN;
    return lode_buffer_printf(text, "%lld%s", (long long)value, wide ? "L" : "");
}

/* As few digits as give the value back; 100 is not 1e+02, which labels could not hold. */
lode_status_t lode_value_real_text(lode_buffer_t *text, double value) {
    const bool plain = fabs(value) >= 1 && fabs(value) < 1e15;
    char digits[40];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value && !(plain && strchr(digits, 'e')))
            break;
    }
    bool marked = strpbrk(digits, ".e") != NULL;
    return lode_buffer_printf(text, "%s%s", digits, marked ? "" : ".0");
}

lode_status_t lode_value_string_text(lode_buffer_t *text, const char *value) {
    LODE_TRY(lode_buffer_append(text, "\"", 1));
    for (; *value; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte < ' ' || byte == 0x7f)
            LODE_TRY(lode_buffer_printf(text, "\\x%02X", byte));
        else if (byte == '"' || byte == '\\')
            LODE_TRY(lode_buffer_printf(text, "\\%c", byte));
        else
            LODE_TRY(lode_buffer_append(text, value, 1));
    }
    return lode_buffer_append(text, "\"", 1);
}

static lode_status_t children_text(const lode_value_t *value, lode_buffer_t *text) {
    for (int64_t i = 0; i < value->count; i++) {
        const lode_value_t *child = &value->children[i];
        if (value->kind == LODE_VALUE_GROUP)
            LODE_TRY(lode_buffer_printf(text, "%s = ", child->name));
        LODE_TRY(lode_value_text(child, text));
        if (value->kind == LODE_VALUE_GROUP)
            LODE_TRY(lode_buffer_printf(text, "; "));
        else
            LODE_TRY(lode_buffer_printf(text, i + 1 < value->count ? ", " : " "));
    }
    return LODE_OK;
}

lode_status_t lode_value_text(const lode_value_t *value, lode_buffer_t *text) {
    switch (value->kind) {
    case LODE_VALUE_INTEGER:
        return lode_value_integer_text(text, value->integer);
    case LODE_VALUE_REAL:
        return lode_value_real_text(text, value->real);
    case LODE_VALUE_BOOLEAN:
        return lode_buffer_printf(text, "%s", value->boolean ? "true" : "false");
    case LODE_VALUE_TEXT:
        return lode_value_string_text(text, value->text);
    case LODE_VALUE_GROUP:
    case LODE_VALUE_LIST:
        break;
    }
    bool group = value->kind == LODE_VALUE_GROUP;
    LODE_TRY(lode_buffer_printf(text, group ? "{ " : "( "));
    LODE_TRY(children_text(value, text));
    return lode_buffer_printf(text, group ? "}" : ")");
}
