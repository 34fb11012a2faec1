#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

struct lode_regex {
    pcre2_code *code; /* NULL for a literal */
    pcre2_match_context *limits;
    char *literal;
    size_t literal_length;
};

enum {
    DEEPEST = 64,             /* nested groups of a pattern */
    MOST_STEPS = 50000000,    /* of one match: a fraction of a second */
    MOST_HEAP_KIB = 256 << 10 /* of one match */
};

/* --- rewriting ------------------------------------------------------------------------------ */

typedef struct group {
    bool caseless;
    bool lookaround;
} group_t;

typedef struct rewriter {
    const char *pattern, *where;
    size_t length, at;
    lode_buffer_t out;
    group_t groups[DEEPEST]; /* the open ones; groups[0] is the pattern itself */
    int depth;
    bool quantifiable; /* what was written last may be repeated */
    char last_letter;  /* it was this ASCII letter, in lower case; 0 otherwise */
} rewriter_t;

/* White_Space, which is Oniguruma's \s; PCRE2's has U+180E in addition. */
static const char SPACES[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                             "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

static lode_status_t refuse(const rewriter_t *rewriter, size_t from, size_t bytes) {
    size_t left = rewriter->length - from;
    return lode_fail(LODE_ERR_UNSUPPORTED,
                     "%s: the regular expression has \"%.*s\" at offset %zu, which is not "
                     "implemented",
                     rewriter->where, (int)(bytes < left ? bytes : left), rewriter->pattern + from,
                     from);
}

static lode_status_t put(rewriter_t *rewriter, const char *text) {
    return lode_buffer_append(&rewriter->out, text, strlen(text));
}

static bool is_letter(uint32_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_punctuation(uint32_t c) {
    return c > 0x20 && c < 0x7F && !is_letter(c) && !(c >= '0' && c <= '9');
}

static bool looking_at(const rewriter_t *rewriter, const char *text) {
    size_t length = strlen(text);
    return rewriter->length - rewriter->at >= length &&
           memcmp(rewriter->pattern + rewriter->at, text, length) == 0;
}

/* The pattern is valid UTF-8 and at < length. */
static uint32_t take(rewriter_t *rewriter) {
    uint32_t c = 0;
    rewriter->at += (size_t)lode_utf8_decode(rewriter->pattern + rewriter->at,
                                             rewriter->length - rewriter->at, &c);
    return c;
}

/* Where case does not count, Oniguruma takes one character for two ("ss" for ß, "fi" for a
 * ligature) and has foldings of its own; those are not followed. */
static lode_status_t check_caseless(rewriter_t *rewriter, uint32_t c, size_t from) {
    static const char *const folded[] = {"ff", "fi", "fl", "ss", "st"};
    if (c >= 0x80)
        return refuse(rewriter, from, 4);
    char lower = (char)(is_letter(c) ? c | 0x20 : 0);
    for (int i = 0; lower && i < 5; i++)
        if (rewriter->last_letter == folded[i][0] && lower == folded[i][1])
            return refuse(rewriter, from - 1, 2);
    rewriter->last_letter = lower;
    return LODE_OK;
}

static lode_status_t put_literal(rewriter_t *rewriter, uint32_t c, size_t from) {
    if (rewriter->groups[rewriter->depth].caseless)
        LODE_TRY(check_caseless(rewriter, c, from));
    rewriter->quantifiable = true;
    return lode_buffer_printf(&rewriter->out, "\\x{%x}", (unsigned)c);
}

/* The property whose braces start at the cursor: general categories only, which both libraries
 * take from Unicode's table. */
static lode_status_t put_property(rewriter_t *rewriter, bool negated, size_t from) {
    static const char names[] = " C Cc Cf Cn Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd "
                                "Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs ";
    if (rewriter->groups[rewriter->depth].caseless || !looking_at(rewriter, "{"))
        return refuse(rewriter, from, 8);
    rewriter->at++;
    if (looking_at(rewriter, "^")) {
        negated = !negated;
        rewriter->at++;
    }
    const char *name = rewriter->pattern + rewriter->at;
    const char *brace = memchr(name, '}', rewriter->length - rewriter->at);
    size_t length = brace ? (size_t)(brace - name) : 0;
    char padded[5] = {' '};
    if (length < 1 || length > 2)
        return refuse(rewriter, from, brace ? (size_t)(brace - rewriter->pattern) - from + 1 : 8);
    memcpy(padded + 1, name, length);
    padded[length + 1] = ' ';
    if (!strstr(names, padded))
        return refuse(rewriter, from, length + 4);
    rewriter->at += length + 1;
    return lode_buffer_printf(&rewriter->out, "\\%c{%.*s}", negated ? 'P' : 'p', (int)length, name);
}

/* A control character by its letter, or a punctuation character: what an escape can stand for as
 * one character, in a class or out of it. */
static bool escaped_character(uint32_t c, uint32_t *value) {
    switch (c) {
    case 'n':
        *value = '\n';
        return true;
    case 'r':
        *value = '\r';
        return true;
    case 't':
        *value = '\t';
        return true;
    case 'f':
        *value = '\f';
        return true;
    default:
        *value = c;
        return is_punctuation(c);
    }
}

/* \d, \D, \p and \P, which read the same in a class and out of it; *done says whether it was one.
 * `c` is the character behind the backslash. */
static lode_status_t put_shorthand(rewriter_t *rewriter, bool *done, uint32_t c, size_t from) {
    *done = c == 'd' || c == 'D' || c == 'p' || c == 'P';
    if (c == 'd' || c == 'D')
        return put(rewriter, c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
    return *done ? put_property(rewriter, c == 'P', from) : LODE_OK;
}

static lode_status_t rewrite_escape(rewriter_t *rewriter) {
    size_t from = rewriter->at++;
    uint32_t c = rewriter->at < rewriter->length ? take(rewriter) : 0, value;
    if (escaped_character(c, &value))
        return put_literal(rewriter, value, from);
    rewriter->last_letter = 0;
    rewriter->quantifiable = true;
    if (c == 's' || c == 'S') {
        LODE_TRY(put(rewriter, c == 's' ? "[" : "[^"));
        LODE_TRY(put(rewriter, SPACES));
        return put(rewriter, "]");
    }
    bool done;
    LODE_TRY(put_shorthand(rewriter, &done, c, from));
    return done ? LODE_OK : refuse(rewriter, from, 2);
}

/* One character of a class, plain or escaped; *single is false where it was a set, already
 * written. */
static lode_status_t take_class_item(rewriter_t *rewriter, bool *single, uint32_t *value) {
    size_t from = rewriter->at;
    *single = true;
    *value = take(rewriter);
    if (*value == '[' || (*value == '&' && looking_at(rewriter, "&")))
        return refuse(rewriter, from, 2); /* nested classes and intersections */
    if (*value != '\\') {
        if (*value >= 0x80 && rewriter->groups[rewriter->depth].caseless)
            return refuse(rewriter, from, 4);
        return LODE_OK;
    }
    uint32_t c = rewriter->at < rewriter->length ? take(rewriter) : 0;
    if (escaped_character(c, value))
        return LODE_OK;
    *single = false;
    if (c == 's')
        return put(rewriter, SPACES);
    bool done;
    LODE_TRY(put_shorthand(rewriter, &done, c, from));
    return done ? LODE_OK : refuse(rewriter, from, 2);
}

static lode_status_t rewrite_class(rewriter_t *rewriter) {
    size_t from = rewriter->at++;
    bool negated = looking_at(rewriter, "^");
    rewriter->at += negated;
    rewriter->last_letter = 0;
    rewriter->quantifiable = true;
    if (looking_at(rewriter, "]"))
        return refuse(rewriter, from, 3);
    LODE_TRY(put(rewriter, negated ? "[^" : "["));
    bool first = true, may_start_range = false;
    while (rewriter->at < rewriter->length && !looking_at(rewriter, "]")) {
        size_t item = rewriter->at;
        bool single;
        uint32_t value;
        if (looking_at(rewriter, "-") && !first && !looking_at(rewriter, "-]")) {
            if (!may_start_range)
                return refuse(rewriter, item, 2);
            rewriter->at++;
            LODE_TRY(take_class_item(rewriter, &single, &value));
            if (!single)
                return refuse(rewriter, item, 3);
            LODE_TRY(lode_buffer_printf(&rewriter->out, "-\\x{%x}", (unsigned)value));
            may_start_range = false;
        } else {
            LODE_TRY(take_class_item(rewriter, &single, &value));
            if (single)
                LODE_TRY(lode_buffer_printf(&rewriter->out, "\\x{%x}", (unsigned)value));
            may_start_range = single;
        }
        first = false;
    }
    if (rewriter->at == rewriter->length)
        return lode_fail(LODE_ERR_FORMAT, "%s: the regular expression has a '[' without its ']'",
                         rewriter->where);
    rewriter->at++;
    return put(rewriter, "]");
}

static lode_status_t open_group(rewriter_t *rewriter) {
    static const struct {
        const char *text;
        bool caseless, lookaround;
    } openings[] = {{"(?:", false, false}, {"(?i:", true, false}, {"(?>", false, false},
                    {"(?=", false, true},  {"(?!", false, true},  {"(?<=", false, true},
                    {"(?<!", false, true}};
    group_t group = {.caseless = rewriter->groups[rewriter->depth].caseless};
    size_t from = rewriter->at;
    if (rewriter->depth + 1 == DEEPEST)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: the regular expression nests more than %d "
                         "groups",
                         rewriter->where, DEEPEST - 1);
    rewriter->quantifiable = false;
    rewriter->last_letter = 0;
    rewriter->at++;
    if (looking_at(rewriter, "?")) {
        rewriter->at = from;
        size_t i = 0, kinds = sizeof openings / sizeof *openings;
        while (i < kinds && !looking_at(rewriter, openings[i].text))
            i++;
        if (i == kinds)
            return refuse(rewriter, from, 4);
        group.caseless |= openings[i].caseless;
        group.lookaround = openings[i].lookaround;
        rewriter->groups[++rewriter->depth] = group;
        rewriter->at += strlen(openings[i].text);
        return put(rewriter, openings[i].text);
    }
    if (looking_at(rewriter, "*"))
        return refuse(rewriter, from, 4);
    rewriter->groups[++rewriter->depth] = group;
    return put(rewriter, "(?:"); /* what a group captured is never asked for */
}

static lode_status_t close_group(rewriter_t *rewriter) {
    if (rewriter->depth == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: the regular expression has a ')' without its '('",
                         rewriter->where);
    rewriter->at++;
    rewriter->last_letter = 0;
    rewriter->quantifiable = !rewriter->groups[rewriter->depth--].lookaround;
    return put(rewriter, ")");
}

/* {n}, {n,} or {n,m}; what else Ruby reads braces as is refused. */
static lode_status_t put_bounds(rewriter_t *rewriter, bool *exact) {
    size_t from = rewriter->at, end = from + 1;
    int digits[2] = {0, 0}, side = 0;
    for (; end < rewriter->length && rewriter->pattern[end] != '}'; end++) {
        char c = rewriter->pattern[end];
        if (c == ',' && side == 0 && digits[0] > 0)
            side = 1;
        else if (c >= '0' && c <= '9' && digits[side] < 5)
            digits[side]++;
        else
            return refuse(rewriter, from, 8);
    }
    if (end == rewriter->length || digits[0] == 0)
        return refuse(rewriter, from, 8);
    *exact = side == 0;
    rewriter->at = end + 1;
    return lode_buffer_append(&rewriter->out, rewriter->pattern + from, end + 1 - from);
}

static lode_status_t rewrite_quantifier(rewriter_t *rewriter) {
    size_t from = rewriter->at;
    bool braces = looking_at(rewriter, "{"), exact = false;
    if (!rewriter->quantifiable) /* a quantifier of nothing, or of a quantifier */
        return refuse(rewriter, from, 2);
    if (braces) {
        LODE_TRY(put_bounds(rewriter, &exact));
    } else {
        LODE_TRY(lode_buffer_append(&rewriter->out, rewriter->pattern + from, 1));
        rewriter->at++;
    }
    rewriter->last_letter = 0;
    rewriter->quantifiable = false;
    if (looking_at(rewriter, "?") && !exact) {
        rewriter->at++;
        return put(rewriter, "?");
    }
    if (looking_at(rewriter, "+") && !braces) {
        rewriter->at++;
        return put(rewriter, "+");
    }
    return LODE_OK;
}

static lode_status_t rewrite_one(rewriter_t *rewriter) {
    size_t from = rewriter->at;
    switch (rewriter->pattern[from]) {
    case '\\':
        return rewrite_escape(rewriter);
    case '[':
        return rewrite_class(rewriter);
    case '(':
        return open_group(rewriter);
    case ')':
        return close_group(rewriter);
    case '*':
    case '+':
    case '?':
    case '{':
        return rewrite_quantifier(rewriter);
    case '|':
        rewriter->at++;
        rewriter->last_letter = 0;
        rewriter->quantifiable = false;
        return put(rewriter, "|");
    case '.':
        rewriter->at++;
        rewriter->last_letter = 0;
        rewriter->quantifiable = true;
        return put(rewriter, "[^\\x{a}]");
    case '$': /* the end of a line, whether a newline follows or nothing */
        rewriter->at++;
        rewriter->last_letter = 0;
        rewriter->quantifiable = false;
        return put(rewriter, "(?![^\\x{a}])");
    case '^':
        return refuse(rewriter, from, 1);
    default:
        return put_literal(rewriter, take(rewriter), from);
    }
}

static lode_status_t rewrite(rewriter_t *rewriter) {
    LODE_TRY(lode_utf8_check(rewriter->pattern, rewriter->length, rewriter->where));
    while (rewriter->at < rewriter->length)
        LODE_TRY(rewrite_one(rewriter));
    if (rewriter->depth > 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: the regular expression has a '(' without its ')'",
                         rewriter->where);
    return put(rewriter, "");
}

/* --- compiling ------------------------------------------------------------------------------ */

static lode_status_t compile(lode_regex_t *regex, const char *pattern, size_t length,
                             const char *where) {
    int error;
    PCRE2_SIZE offset;
    regex->code =
        pcre2_compile((PCRE2_SPTR)pattern, length, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    if (!regex->code) {
        PCRE2_UCHAR text[256];
        pcre2_get_error_message(error, text, sizeof text);
        return lode_fail(LODE_ERR_FORMAT, "%s: the regular expression is wrong: %s", where,
                         (const char *)text);
    }
    regex->limits = pcre2_match_context_create(NULL);
    if (!regex->limits)
        return lode_fail(LODE_ERR_MEMORY, "%s: no memory for the regular expression", where);
    pcre2_set_match_limit(regex->limits, MOST_STEPS);
    pcre2_set_heap_limit(regex->limits, MOST_HEAP_KIB);
    /* Where the machine has no JIT the interpreter gives the same matches. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    return LODE_OK;
}

lode_status_t lode_regex_compile(lode_regex_t **out, const char *pattern, size_t length,
                                 const char *where) {
    *out = NULL;
    lode_regex_t *regex = NULL;
    LODE_TRY(LODE_NEW(&regex, 1, "regular expression"));
    rewriter_t rewriter = {.pattern = pattern, .where = where, .length = length};
    lode_status_t status = rewrite(&rewriter);
    if (status == LODE_OK)
        status = compile(regex, rewriter.out.data, rewriter.out.length, where);
    lode_buffer_free(&rewriter.out);
    if (status != LODE_OK)
        lode_regex_destroy(&regex);
    *out = regex;
    return status;
}

lode_status_t lode_regex_compile_literal(lode_regex_t **out, const char *text, size_t length,
                                         const char *where) {
    *out = NULL;
    if (length == 0)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: an empty pattern is not implemented", where);
    lode_regex_t *regex = NULL;
    LODE_TRY(LODE_NEW(&regex, 1, "pattern"));
    regex->literal_length = length;
    lode_status_t status = LODE_NEW_RAW(&regex->literal, (int64_t)length, "pattern");
    if (status == LODE_OK)
        memcpy(regex->literal, text, length);
    else
        lode_regex_destroy(&regex);
    *out = regex;
    return status;
}

lode_status_t lode_regex_parse(lode_regex_t **out, const json_t *json, const char *where) {
    *out = NULL;
    const json_t *literal = json_object_get(json, "String");
    const json_t *pattern = json_object_get(json, "Regex");
    if (json_is_string(literal) && !pattern)
        return lode_regex_compile_literal(out, json_string_value(literal),
                                          json_string_length(literal), where);
    if (json_is_string(pattern) && !literal)
        return lode_regex_compile(out, json_string_value(pattern), json_string_length(pattern),
                                  where);
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: \"pattern\" must have one string, under \"String\" or \"Regex\"", where);
}

void lode_regex_destroy(lode_regex_t **regex) {
    if (!*regex)
        return;
    pcre2_code_free((*regex)->code);
    pcre2_match_context_free((*regex)->limits);
    free((*regex)->literal);
    free(*regex);
    *regex = NULL;
}

int lode_regex_ascii_length(const lode_regex_t *regex) {
    size_t length = 0;
    while (length < regex->literal_length && (unsigned char)regex->literal[length] < 0x80)
        length++;
    return length == regex->literal_length && length < 1024 ? (int)length : 0;
}

bool lode_regex_looks_behind(const lode_regex_t *regex) {
    uint32_t characters = 0;
    if (regex->code && pcre2_pattern_info(regex->code, PCRE2_INFO_MAXLOOKBEHIND, &characters) != 0)
        return true;
    return characters > 0;
}

/* --- matching ------------------------------------------------------------------------------- */

lode_status_t lode_regex_walk_start(lode_regex_walk_t *walk, const lode_regex_t *regex) {
    *walk = (lode_regex_walk_t){.regex = regex, .last_end = SIZE_MAX};
    if (!regex->code)
        return LODE_OK;
    walk->scratch = pcre2_match_data_create(1, NULL);
    if (!walk->scratch)
        return lode_fail(LODE_ERR_MEMORY, "no memory for matching a regular expression");
    return LODE_OK;
}

void lode_regex_walk_stop(lode_regex_walk_t *walk) {
    pcre2_match_data_free(walk->scratch);
    walk->scratch = NULL;
}

/* Searches from walk->at; *found and, if so, walk->start and walk->end. */
static lode_status_t search(lode_regex_walk_t *walk, bool *found, const char *text, size_t length) {
    const lode_regex_t *regex = walk->regex;
    *found = false;
    walk->none_before = length;
    if (!regex->code) {
        if (walk->open) /* one may start in the last bytes */
            walk->none_before =
                length < regex->literal_length ? 0 : length - regex->literal_length + 1;
        const char *hit =
            memmem(text + walk->at, length - walk->at, regex->literal, regex->literal_length);
        *found = hit != NULL;
        walk->start = hit ? (size_t)(hit - text) : length;
        walk->end = hit ? walk->start + regex->literal_length : length;
        return LODE_OK;
    }
    const uint32_t options = PCRE2_NO_UTF_CHECK | (walk->open ? PCRE2_PARTIAL_HARD : 0);
    int result = pcre2_match(regex->code, (PCRE2_SPTR)text, length, walk->at, options,
                             walk->scratch, regex->limits);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
        result = pcre2_match(regex->code, (PCRE2_SPTR)text, length, walk->at,
                             options | PCRE2_NO_JIT, walk->scratch, regex->limits);
    if (result == PCRE2_ERROR_PARTIAL) /* what follows decides whether a match starts here */
        walk->none_before = pcre2_get_ovector_pointer(walk->scratch)[0];
    if (result == PCRE2_ERROR_NOMATCH || result == PCRE2_ERROR_PARTIAL)
        return LODE_OK;
    if (result < 0) {
        PCRE2_UCHAR reason[256];
        pcre2_get_error_message(result, reason, sizeof reason);
        return lode_fail(result == PCRE2_ERROR_NOMEMORY ? LODE_ERR_MEMORY : LODE_ERR_UNSUPPORTED,
                         "the tokenizer's regular expression cannot be matched on this text: %s",
                         (const char *)reason);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(walk->scratch);
    walk->start = bounds[0];
    walk->end = bounds[1];
    *found = true;
    return LODE_OK;
}

lode_status_t lode_regex_walk_next(lode_regex_walk_t *walk, bool *found, const char *text,
                                   size_t length) {
    for (;;) {
        *found = false;
        walk->none_before = length;
        if (walk->at > length)
            return LODE_OK;
        LODE_TRY(search(walk, found, text, length));
        if (!*found)
            return LODE_OK;
        if (walk->end > walk->start || walk->last_end != walk->end)
            break;
        walk->at += walk->at < length ? lode_utf8_length(text[walk->at]) : 1;
    }
    walk->at = walk->last_end = walk->end;
    return LODE_OK;
}

lode_status_t lode_regex_replace(lode_buffer_t *out, const lode_regex_t *pattern, const char *text,
                                 size_t length, const char *content, size_t content_length,
                                 size_t most) {
    lode_regex_walk_t walk;
    LODE_TRY(lode_regex_walk_start(&walk, pattern));
    size_t copied = 0;
    bool found = true;
    lode_status_t status = LODE_OK;
    while (status == LODE_OK && found) {
        LODE_GUARD(status, lode_regex_walk_next(&walk, &found, text, length), done);
        size_t stop = found ? walk.start : length;
        LODE_GUARD(status, lode_buffer_append(out, text + copied, stop - copied), done);
        if (found)
            LODE_GUARD(status, lode_buffer_append(out, content, content_length), done);
        copied = found ? walk.end : length;
        if (out->length > most)
            status = lode_fail(LODE_ERR_UNSUPPORTED,
                               "a replacement of the tokenizer makes %zu bytes of text more than "
                               "%zu",
                               length, most);
    }
done:
    lode_regex_walk_stop(&walk);
    return status;
}
