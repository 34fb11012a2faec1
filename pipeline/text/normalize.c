#include "text/normalize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/field.h"
#include "text/regex.h"
#include "text/utf8.h"

enum { MOST_STEPS = 64 };

typedef enum step_kind { STEP_PREPEND, STEP_REPLACE, STEP_UNICODE } step_kind_t;

typedef struct step {
    step_kind_t kind;
    char *content; /* what is prepended or put in */
    size_t length;
    lode_regex_t *pattern;     /* STEP_REPLACE */
    utf8proc_option_t options; /* STEP_UNICODE: the form */
} step_t;

struct lode_normalizer {
    step_t steps[MOST_STEPS];
    int count;
};

/* --- parsing -------------------------------------------------------------------------------- */

static lode_status_t copy_content(step_t *step, const json_t *json, const char *key,
                                  const char *where) {
    const char *text;
    LODE_TRY(lode_field_string(&text, &step->length, json, key, where));
    LODE_TRY(LODE_NEW_RAW(&step->content, (int64_t)step->length + 1, "normalizer"));
    memcpy(step->content, text, step->length + 1);
    return LODE_OK;
}

static lode_status_t parse_unicode(step_t *step, const char *type, const char *where) {
    static const struct {
        const char *name;
        int options;
    } forms[] = {{"NFC", UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].name) == 0) {
            step->kind = STEP_UNICODE;
            step->options = (utf8proc_option_t)(forms[i].options | UTF8PROC_STABLE);
            return LODE_OK;
        }
    }
    return lode_fail(LODE_ERR_UNSUPPORTED, "%s: type \"%.100s\" is not implemented", where, type);
}

static lode_status_t parse_step(step_t *step, const json_t *json, const char *type,
                                const char *where) {
    if (strcmp(type, "Prepend") == 0) {
        step->kind = STEP_PREPEND;
        return copy_content(step, json, "prepend", where);
    }
    if (strcmp(type, "Replace") == 0) {
        json_t *pattern;
        step->kind = STEP_REPLACE;
        LODE_TRY(lode_field_get(&pattern, json, "pattern", JSON_OBJECT, where));
        LODE_TRY(lode_regex_parse(&step->pattern, pattern, where));
        return copy_content(step, json, "content", where);
    }
    return parse_unicode(step, type, where);
}

static lode_status_t parse_into(lode_normalizer_t *normalizer, const json_t *json, int depth,
                                const char *where) {
    const char *type;
    LODE_TRY(lode_field_expect(json, JSON_OBJECT, "it", where));
    LODE_TRY(lode_field_string(&type, NULL, json, "type", where));
    if (strcmp(type, "Sequence") != 0) {
        if (normalizer->count == MOST_STEPS)
            return lode_fail(LODE_ERR_UNSUPPORTED, "%s: more than %d steps", where, MOST_STEPS);
        return parse_step(&normalizer->steps[normalizer->count++], json, type, where);
    }
    if (depth == MOST_STEPS)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: sequences nested too deep", where);
    json_t *list;
    LODE_TRY(lode_field_get(&list, json, "normalizers", JSON_ARRAY, where));
    for (size_t i = 0; i < json_array_size(list); i++)
        LODE_TRY(parse_into(normalizer, json_array_get(list, i), depth + 1, where));
    return LODE_OK;
}

lode_status_t lode_normalizer_parse(lode_normalizer_t **out, const json_t *json, const char *name) {
    *out = NULL;
    char where[512];
    snprintf(where, sizeof where, "%.490s: normalizer", name);
    lode_normalizer_t *normalizer = NULL;
    LODE_TRY(LODE_NEW(&normalizer, 1, "normalizer"));
    lode_status_t status = LODE_OK;
    if (json && !json_is_null(json))
        status = parse_into(normalizer, json, 0, where);
    if (status != LODE_OK)
        lode_normalizer_destroy(&normalizer);
    *out = normalizer;
    return status;
}

void lode_normalizer_destroy(lode_normalizer_t **normalizer) {
    if (!*normalizer)
        return;
    for (int i = 0; i < (*normalizer)->count; i++) {
        free((*normalizer)->steps[i].content);
        lode_regex_destroy(&(*normalizer)->steps[i].pattern);
    }
    free(*normalizer);
    *normalizer = NULL;
}

/* --- Unicode forms -------------------------------------------------------------------------- */

typedef struct points {
    utf8proc_int32_t *data; /* [capacity] code points */
    int64_t count, capacity;
} points_t;

static lode_status_t reserve_points(points_t *points, int64_t extra) {
    if (points->count + extra <= points->capacity)
        return LODE_OK;
    int64_t capacity = 2 * (points->count + extra) + 64;
    utf8proc_int32_t *data = NULL;
    LODE_TRY(LODE_NEW_RAW(&data, capacity, "normalization"));
    if (points->count)
        memcpy(data, points->data, (size_t)points->count * sizeof *data);
    free(points->data);
    points->data = data;
    points->capacity = capacity;
    return LODE_OK;
}

/* Whether Unicode gave the code point a combining class or a decomposition after its version 9. The
 * normal forms of the `tokenizers` library are still those of Unicode 9, where these code points
 * are unassigned and so neither move nor change; utf8proc is newer, and differs from one release to
 * the next. Where all of a block is younger, the list has the block. */
static bool is_younger(uint32_t c) {
    static const uint32_t ranges[][2] = {
        {0x7FD, 0x7FD},     {0x870, 0x89F},     {0x8C8, 0x8D3},     {0x9FE, 0x9FE},
        {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0xECE, 0xECE},
        {0x1715, 0x1715},   {0x1ABF, 0x1AFF},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},
        {0xA7F1, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x105C0, 0x105FF},
        {0x10780, 0x107BF}, {0x10D00, 0x10D8F}, {0x10E80, 0x10EFF}, {0x10F00, 0x10FAF},
        {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11380, 0x113FF}, {0x1145E, 0x1145E},
        {0x11800, 0x1184F}, {0x11900, 0x1195F}, {0x119A0, 0x119FF}, {0x11A00, 0x11AAF},
        {0x11D00, 0x11DAF}, {0x11F00, 0x11F5F}, {0x16100, 0x1613F}, {0x16D40, 0x16D7F},
        {0x16FF0, 0x16FF1}, {0x1CC00, 0x1CEBF}, {0x1E030, 0x1E08F}, {0x1E100, 0x1E14F},
        {0x1E290, 0x1E2FF}, {0x1E4D0, 0x1E4FF}, {0x1E5D0, 0x1E5FF}, {0x1E6C0, 0x1E6FF},
        {0x1F16C, 0x1F16C}, {0x1FB00, 0x1FBFF}};
    if (c < ranges[0][0])
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges && c >= ranges[i][0]; i++)
        if (c <= ranges[i][1])
            return true;
    return false;
}

static lode_status_t decompose(points_t *points, const char *text, size_t length,
                               utf8proc_option_t options) {
    enum { LONGEST = 32 }; /* the longest decomposition has 18 code points */
    points->count = 0;
    for (size_t i = 0; i < length;) {
        uint32_t c = 0;
        i += (size_t)lode_utf8_decode(text + i, length - i, &c);
        LODE_TRY(reserve_points(points, LONGEST));
        if (is_younger(c)) {
            points->data[points->count++] = (utf8proc_int32_t)c;
            continue;
        }
        utf8proc_ssize_t made =
            utf8proc_decompose_char((utf8proc_int32_t)c, points->data + points->count, LONGEST,
                                    options | UTF8PROC_DECOMPOSE, NULL);
        if (made < 0 || made > LONGEST)
            return lode_fail(LODE_ERR_INTERNAL, "U+%04X cannot be decomposed", (unsigned)c);
        points->count += made;
    }
    return LODE_OK;
}

static int combining_class(utf8proc_int32_t point) {
    return is_younger((uint32_t)point) ? 0 : utf8proc_get_property(point)->combining_class;
}

/* Sorts a run of combining marks by class, keeping the order of equals: by counting, because a text
 * may be one long run of marks. */
static void sort_marks(utf8proc_int32_t *marks, utf8proc_int32_t *spare, int64_t count) {
    int64_t starts[257] = {0};
    for (int64_t i = 0; i < count; i++)
        starts[combining_class(marks[i]) + 1]++;
    for (int class = 0; class < 256; class ++)
        starts[class + 1] += starts[class];
    for (int64_t i = 0; i < count; i++)
        spare[starts[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, spare, (size_t)count * sizeof *marks);
}

static lode_status_t order_marks(points_t *points) {
    for (int64_t i = 0; i < points->count;) {
        int64_t end = i;
        bool sorted = true;
        while (end < points->count && combining_class(points->data[end]) != 0) {
            sorted &= end == i ||
                      combining_class(points->data[end - 1]) <= combining_class(points->data[end]);
            end++;
        }
        if (!sorted) {
            LODE_TRY(reserve_points(points, end - i));
            sort_marks(points->data + i, points->data + points->count, end - i);
        }
        i = end + 1;
    }
    return LODE_OK;
}

/* Composes code points in place; returns how many are left. */
static lode_status_t compose(utf8proc_int32_t *data, int64_t *count, utf8proc_option_t options) {
    utf8proc_ssize_t left = utf8proc_normalize_utf32(data, *count, options);
    if (left < 0)
        return lode_fail(LODE_ERR_INTERNAL, "Unicode normalization failed: %s",
                         utf8proc_errmsg(left));
    *count = left;
    return LODE_OK;
}

static lode_status_t append_points(lode_buffer_t *out, const utf8proc_int32_t *data,
                                   int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        char bytes[4];
        int used = lode_utf8_encode((uint32_t)data[i], bytes);
        LODE_TRY(lode_buffer_append(out, bytes, (size_t)used));
    }
    return LODE_OK;
}

/* The form of text[0 … length), which starts at a character that composes with nothing before. */
static lode_status_t append_form(lode_buffer_t *out, points_t *points, const char *text,
                                 size_t length, utf8proc_option_t options) {
    LODE_TRY(decompose(points, text, length, options));
    LODE_TRY(order_marks(points));
    if (!(options & UTF8PROC_COMPOSE))
        return append_points(out, points->data, points->count);
    for (int64_t start = 0; start < points->count;) {
        /* A younger code point composes with nothing and nothing composes across it. */
        int64_t end = start;
        while (end < points->count && !is_younger((uint32_t)points->data[end]))
            end++;
        int64_t count = end - start;
        if (count > 0)
            LODE_TRY(compose(points->data + start, &count, options));
        LODE_TRY(append_points(out, points->data + start, count));
        if (end < points->count)
            LODE_TRY(append_points(out, points->data + end, 1));
        start = end + 1;
    }
    return LODE_OK;
}

/* ASCII is in every form, and composes with what follows it only. So runs of it are copied but for
 * the last character, which goes with the other characters behind it. */
static lode_status_t append_normalized(lode_buffer_t *out, const char *text, size_t length,
                                       utf8proc_option_t options) {
    points_t points = {0};
    lode_status_t status = LODE_OK;
    for (size_t i = 0; status == LODE_OK && i < length;) {
        size_t end = i;
        while (end < length && (unsigned char)text[end] < 0x80)
            end++;
        size_t plain = end < length && end > i ? end - 1 : end;
        status = lode_buffer_append(out, text + i, plain - i);
        while (end < length && (unsigned char)text[end] >= 0x80)
            end++;
        if (status == LODE_OK && end > plain)
            status = append_form(out, &points, text + plain, end - plain, options);
        i = end;
    }
    free(points.data);
    return status;
}

/* --- applying ------------------------------------------------------------------------------- */

static lode_status_t apply_step(const step_t *step, lode_buffer_t *out, const lode_buffer_t *text,
                                size_t most) {
    switch (step->kind) {
    case STEP_PREPEND:
        if (text->length > 0)
            LODE_TRY(lode_buffer_append(out, step->content, step->length));
        return lode_buffer_append(out, text->data, text->length);
    case STEP_REPLACE:
        return lode_regex_replace(out, step->pattern, text->data, text->length, step->content,
                                  step->length, most);
    case STEP_UNICODE:
        return append_normalized(out, text->data, text->length, step->options);
    }
    return LODE_OK;
}

bool lode_normalizer_divisible(const lode_normalizer_t *normalizer) {
    bool replaced = false;
    for (int i = 0; i < normalizer->count; i++) {
        const step_t *step = &normalizer->steps[i];
        const int single = step->kind == STEP_REPLACE ? lode_regex_ascii_length(step->pattern) : 1;
        /* What a replacement puts in may combine with what is before it. */
        if (single != 1 || (step->kind == STEP_UNICODE && replaced))
            return false;
        replaced |= step->kind == STEP_REPLACE;
    }
    return true;
}

lode_status_t lode_normalizer_apply(const lode_normalizer_t *normalizer, lode_buffer_t *text,
                                    lode_buffer_t *spare, bool continued) {
    /* No Unicode form takes more than 18 times the bytes; a file whose replacements grow a text
     * without bound is not served. */
    const size_t most = 64 * text->length + (1 << 20);
    for (int i = 0; i < normalizer->count; i++) {
        if (continued && normalizer->steps[i].kind == STEP_PREPEND)
            continue;
        spare->length = 0;
        LODE_TRY(apply_step(&normalizer->steps[i], spare, text, most));
        lode_buffer_t swap = *text;
        *text = *spare;
        *spare = swap;
    }
    return LODE_OK;
}
