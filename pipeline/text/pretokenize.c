#include "text/pretokenize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/field.h"
#include "text/regex.h"
#include "text/utf8.h"

enum { MOST_STEPS = 64 };

/* What a split does with the matches of its pattern. */
typedef enum behavior {
    BEHAVIOR_REMOVED,
    BEHAVIOR_ISOLATED,
    BEHAVIOR_MERGED_WITH_PREVIOUS,
    BEHAVIOR_MERGED_WITH_NEXT,
    BEHAVIOR_CONTIGUOUS
} behavior_t;

typedef enum step_kind {
    STEP_SPLIT,
    STEP_REPLACE,      /* matches by content */
    STEP_PREFIX,       /* content before a piece that does not start with it */
    STEP_PREFIX_FIRST, /* the same for the first piece of the text only */
    STEP_BYTES         /* nothing left to do: the vocabulary is of bytes */
} step_kind_t;

typedef struct step {
    step_kind_t kind;
    lode_regex_t *pattern; /* STEP_SPLIT, STEP_REPLACE */
    behavior_t behavior;
    bool invert;
    char content[8];
    size_t length;
} step_t;

struct lode_pretokenizer {
    step_t steps[MOST_STEPS];
    int count;
    bool byte_level;
};

/* GPT-2's pattern (Radford et al. 2019), which ByteLevel cuts with unless told not to. */
static const char BYTE_LEVEL_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* --- parsing -------------------------------------------------------------------------------- */

static lode_status_t add_step(lode_pretokenizer_t *pretokenizer, step_t **step, step_kind_t kind,
                              const char *where) {
    *step = pretokenizer->steps; /* never left unset */
    if (pretokenizer->byte_level)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: a step behind \"ByteLevel\" is not implemented",
                         where);
    if (pretokenizer->count == MOST_STEPS)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: more than %d steps", where, MOST_STEPS);
    *step = &pretokenizer->steps[pretokenizer->count++];
    (*step)->kind = kind;
    return LODE_OK;
}

static lode_status_t add_split(lode_pretokenizer_t *pretokenizer, const char *pattern,
                               behavior_t behavior, const char *where) {
    step_t *step;
    LODE_TRY(add_step(pretokenizer, &step, STEP_SPLIT, where));
    step->behavior = behavior;
    return lode_regex_compile(&step->pattern, pattern, strlen(pattern), where);
}

static lode_status_t add_prefix(lode_pretokenizer_t *pretokenizer, step_kind_t kind,
                                const char *content, size_t length, const char *where) {
    step_t *step;
    LODE_TRY(add_step(pretokenizer, &step, kind, where));
    memcpy(step->content, content, length);
    step->length = length;
    return LODE_OK;
}

static lode_status_t parse_split(lode_pretokenizer_t *pretokenizer, const json_t *json,
                                 const char *where) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    json_t *pattern;
    const char *behavior;
    step_t *step;
    LODE_TRY(add_step(pretokenizer, &step, STEP_SPLIT, where));
    LODE_TRY(lode_field_get(&pattern, json, "pattern", JSON_OBJECT, where));
    LODE_TRY(lode_field_string(&behavior, NULL, json, "behavior", where));
    LODE_TRY(lode_field_bool(&step->invert, json, "invert", false, where));
    int i = 0;
    while (i < 5 && strcmp(behavior, names[i]) != 0)
        i++;
    if (i == 5)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: behavior \"%.100s\" is not implemented", where,
                         behavior);
    step->behavior = (behavior_t)i;
    return lode_regex_parse(&step->pattern, pattern, where);
}

static lode_status_t parse_byte_level(lode_pretokenizer_t *pretokenizer, const json_t *json,
                                      const char *where) {
    bool prefix, pattern;
    step_t *step;
    LODE_TRY(lode_field_bool(&prefix, json, "add_prefix_space", true, where));
    LODE_TRY(lode_field_bool(&pattern, json, "use_regex", true, where));
    if (prefix)
        LODE_TRY(add_prefix(pretokenizer, STEP_PREFIX, " ", 1, where));
    if (pattern)
        LODE_TRY(add_split(pretokenizer, BYTE_LEVEL_PATTERN, BEHAVIOR_ISOLATED, where));
    LODE_TRY(add_step(pretokenizer, &step, STEP_BYTES, where));
    pretokenizer->byte_level = true;
    return LODE_OK;
}

static lode_status_t parse_digits(lode_pretokenizer_t *pretokenizer, const json_t *json,
                                  const char *where) {
    bool individual;
    LODE_TRY(lode_field_bool(&individual, json, "individual_digits", false, where));
    return add_split(pretokenizer, "\\p{N}", individual ? BEHAVIOR_ISOLATED : BEHAVIOR_CONTIGUOUS,
                     where);
}

/* Where the space mark goes: "always", "first" or "never", in older files only a flag. */
static lode_status_t parse_scheme(bool *prefix, step_kind_t *kind, const json_t *json,
                                  const char *where) {
    json_t *scheme;
    bool flag;
    *prefix = true;
    *kind = STEP_PREFIX;
    LODE_TRY(lode_field_bool(&flag, json, "add_prefix_space", true, where));
    LODE_TRY(lode_field_find(&scheme, json, "prepend_scheme", JSON_STRING, where));
    const char *name = scheme ? json_string_value(scheme) : flag ? "always" : "never";
    bool first = strcmp(name, "first") == 0, never = strcmp(name, "never") == 0;
    if (!first && !never && strcmp(name, "always") != 0)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: prepend_scheme \"%.100s\" is not implemented",
                         where, name);
    if (!flag && !never)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: add_prefix_space is false but prepend_scheme is \"%s\"", where, name);
    *prefix = !never;
    if (first)
        *kind = STEP_PREFIX_FIRST;
    return LODE_OK;
}

static lode_status_t parse_metaspace(lode_pretokenizer_t *pretokenizer, const json_t *json,
                                     const char *where) {
    const char *mark;
    size_t length;
    bool prefix, split;
    step_kind_t kind;
    step_t *step;
    LODE_TRY(lode_field_string(&mark, &length, json, "replacement", where));
    if (length == 0 || length != lode_utf8_length(mark[0]))
        return lode_fail(LODE_ERR_FORMAT, "%s: \"replacement\" must be one character", where);
    LODE_TRY(parse_scheme(&prefix, &kind, json, where));
    LODE_TRY(lode_field_bool(&split, json, "split", true, where));
    LODE_TRY(add_step(pretokenizer, &step, STEP_REPLACE, where));
    memcpy(step->content, mark, length);
    step->length = length;
    LODE_TRY(lode_regex_compile_literal(&step->pattern, " ", 1, where));
    if (prefix)
        LODE_TRY(add_prefix(pretokenizer, kind, mark, length, where));
    if (!split)
        return LODE_OK;
    LODE_TRY(add_step(pretokenizer, &step, STEP_SPLIT, where));
    step->behavior = BEHAVIOR_MERGED_WITH_NEXT;
    return lode_regex_compile_literal(&step->pattern, mark, length, where);
}

static lode_status_t parse_into(lode_pretokenizer_t *pretokenizer, const json_t *json, int depth,
                                const char *where) {
    const char *type;
    LODE_TRY(lode_field_expect(json, JSON_OBJECT, "it", where));
    LODE_TRY(lode_field_string(&type, NULL, json, "type", where));
    if (strcmp(type, "Split") == 0)
        return parse_split(pretokenizer, json, where);
    if (strcmp(type, "ByteLevel") == 0)
        return parse_byte_level(pretokenizer, json, where);
    if (strcmp(type, "Digits") == 0)
        return parse_digits(pretokenizer, json, where);
    if (strcmp(type, "Metaspace") == 0)
        return parse_metaspace(pretokenizer, json, where);
    if (strcmp(type, "Sequence") != 0)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: type \"%.100s\" is not implemented", where,
                         type);
    if (depth == MOST_STEPS)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: sequences nested too deep", where);
    json_t *list;
    LODE_TRY(lode_field_get(&list, json, "pretokenizers", JSON_ARRAY, where));
    for (size_t i = 0; i < json_array_size(list); i++)
        LODE_TRY(parse_into(pretokenizer, json_array_get(list, i), depth + 1, where));
    return LODE_OK;
}

lode_status_t lode_pretokenizer_parse(lode_pretokenizer_t **out, const json_t *json,
                                      const char *name) {
    *out = NULL;
    char where[512];
    snprintf(where, sizeof where, "%.490s: pre_tokenizer", name);
    lode_pretokenizer_t *pretokenizer = NULL;
    LODE_TRY(LODE_NEW(&pretokenizer, 1, "pre-tokenizer"));
    lode_status_t status = LODE_OK;
    if (json && !json_is_null(json))
        status = parse_into(pretokenizer, json, 0, where);
    if (status != LODE_OK)
        lode_pretokenizer_destroy(&pretokenizer);
    *out = pretokenizer;
    return status;
}

void lode_pretokenizer_destroy(lode_pretokenizer_t **pretokenizer) {
    if (!*pretokenizer)
        return;
    for (int i = 0; i < (*pretokenizer)->count; i++)
        lode_regex_destroy(&(*pretokenizer)->steps[i].pattern);
    free(*pretokenizer);
    *pretokenizer = NULL;
}

bool lode_pretokenizer_byte_level(const lode_pretokenizer_t *pretokenizer) {
    return pretokenizer->byte_level;
}

bool lode_pretokenizer_divisible(const lode_pretokenizer_t *pretokenizer) {
    bool split = false;
    for (int i = 0; i < pretokenizer->count; i++) {
        const step_t *step = &pretokenizer->steps[i];
        if (step->kind == STEP_SPLIT && lode_regex_looks_behind(step->pattern))
            return false;
        if (step->kind == STEP_PREFIX && split)
            return false;
        split |= step->kind == STEP_SPLIT;
    }
    return true;
}

/* --- running -------------------------------------------------------------------------------- */

typedef struct runner {
    const lode_pretokenizer_t *pretokenizer;
    lode_buffer_t *text;
    lode_bpe_encoder_t *encoder;
    bool *joined;
} runner_t;

/* Pieces are stretches within one; offsets, because the text moves when pieces are appended. */
static lode_status_t run_step(const runner_t *runner, int index, lode_stretch_t piece);

/* Matches and the stretches between them, on their way through a split's behaviour: one is held
 * back, because the next may have to join it. */
typedef struct splitter {
    const runner_t *runner;
    const step_t *step;
    int next; /* the step that the pieces go to */
    lode_stretch_t whole;
    bool holding, held_match;
    size_t held_start, held_end; /* relative to the whole */
    bool done;                   /* what comes now is the next part's */
} splitter_t;

static lode_status_t emit(splitter_t *splitter, size_t start, size_t end) {
    const lode_stretch_t *whole = &splitter->whole;
    if (start >= whole->own)
        splitter->done = true;
    if (start == end || splitter->done)
        return LODE_OK;
    splitter->done = end >= whole->own && whole->own < whole->length;
    lode_stretch_t piece = {.start = whole->start + start,
                            .length = end - start,
                            .own = end < whole->own ? end - start : whole->own - start,
                            .first = whole->first && start == 0,
                            .continued = whole->continued && start == 0,
                            .open = end > whole->own && end == whole->length && whole->open};
    return run_step(splitter->runner, splitter->next, piece);
}

static lode_status_t flush(splitter_t *splitter) {
    if (!splitter->holding)
        return LODE_OK;
    splitter->holding = false;
    return emit(splitter, splitter->held_start, splitter->held_end);
}

static lode_status_t feed(splitter_t *splitter, size_t start, size_t end, bool match) {
    behavior_t behavior = splitter->step->behavior;
    match ^= splitter->step->invert;
    if (behavior == BEHAVIOR_ISOLATED || behavior == BEHAVIOR_REMOVED)
        return behavior == BEHAVIOR_REMOVED && match ? LODE_OK : emit(splitter, start, end);
    bool held = splitter->held_match, joins;
    if (behavior == BEHAVIOR_CONTIGUOUS)
        joins = match == held;
    else if (behavior == BEHAVIOR_MERGED_WITH_PREVIOUS)
        joins = match && !held;
    else
        joins = !match && held;
    if (splitter->holding && joins) {
        splitter->held_end = end;
        splitter->held_match = match;
        return LODE_OK;
    }
    LODE_TRY(flush(splitter));
    splitter->holding = true;
    splitter->held_match = match;
    splitter->held_start = start;
    splitter->held_end = end;
    return LODE_OK;
}

/* Feeds the matches of a piece and what is between them. A match across the part's end, or one that
 * what follows may change before it, is not what the next part would find. */
static lode_status_t feed_matches(splitter_t *splitter, lode_regex_walk_t *walk) {
    const runner_t *runner = splitter->runner;
    const lode_stretch_t *whole = &splitter->whole;
    for (size_t fed = 0; !splitter->done;) {
        bool found;
        LODE_TRY(
            lode_regex_walk_next(walk, &found, runner->text->data + whole->start, whole->length));
        size_t stop = found ? walk->start : whole->length;
        if (found ? walk->start < whole->own && walk->end > whole->own
                  : walk->none_before < whole->own) {
            *runner->joined = false;
            splitter->holding = false;
            return LODE_OK;
        }
        if (stop > fed)
            LODE_TRY(feed(splitter, fed, stop, false));
        if (!found)
            break;
        LODE_TRY(feed(splitter, walk->start, walk->end, true));
        fed = walk->end;
    }
    return LODE_OK;
}

static lode_status_t run_split(const runner_t *runner, int index, lode_stretch_t piece) {
    const step_t *step = &runner->pretokenizer->steps[index];
    splitter_t splitter = {.runner = runner, .step = step, .next = index + 1, .whole = piece};
    lode_regex_walk_t walk;
    LODE_TRY(lode_regex_walk_start(&walk, step->pattern));
    walk.open = piece.open;
    lode_status_t status = feed_matches(&splitter, &walk);
    if (status == LODE_OK)
        status = flush(&splitter);
    lode_regex_walk_stop(&walk);
    return status;
}

/* Puts what a step makes of a piece behind the text, and goes on with that. The piece is copied
 * aside first: appending may move the memory it is read from. */
static lode_status_t run_rewrite(const runner_t *runner, int index, lode_stretch_t piece) {
    const step_t *step = &runner->pretokenizer->steps[index];
    lode_buffer_t made = {0};
    const char *from = runner->text->data + piece.start;
    lode_stretch_t rewritten = piece;
    lode_status_t status = LODE_OK;
    if (step->kind ==
        STEP_REPLACE) { /* of one character, so that halves can be done by themselves */
        LODE_GUARD(status,
                   lode_regex_replace(&made, step->pattern, from, piece.own, step->content,
                                      step->length, SIZE_MAX),
                   done);
        rewritten.own = made.length;
        LODE_GUARD(status,
                   lode_regex_replace(&made, step->pattern, from + piece.own,
                                      piece.length - piece.own, step->content, step->length,
                                      SIZE_MAX),
                   done);
    } else {
        LODE_GUARD(status, lode_buffer_append(&made, step->content, step->length), done);
        LODE_GUARD(status, lode_buffer_append(&made, from, piece.length), done);
        rewritten.own = piece.own + step->length;
    }
    rewritten.start = runner->text->length;
    rewritten.length = made.length;
    status = lode_buffer_append(runner->text, made.data, made.length);
done:
    lode_buffer_free(&made);
    return status == LODE_OK ? run_step(runner, index + 1, rewritten) : status;
}

static lode_status_t encode_piece(const runner_t *runner, lode_stretch_t piece) {
    if (piece.own < piece.length &&
        !lode_bpe_divides(lode_bpe_of(runner->encoder), runner->text->data, piece.start,
                          piece.length, piece.own)) {
        *runner->joined = false;
        return LODE_OK;
    }
    return lode_bpe_encode(runner->encoder, runner->text->data, piece.start, piece.own);
}

static lode_status_t run_step(const runner_t *runner, int index, lode_stretch_t piece) {
    if (index == runner->pretokenizer->count)
        return encode_piece(runner, piece);
    const step_t *step = &runner->pretokenizer->steps[index];
    bool has_prefix = piece.length >= step->length &&
                      memcmp(runner->text->data + piece.start, step->content, step->length) == 0;
    switch (step->kind) {
    case STEP_SPLIT:
        return run_split(runner, index, piece);
    case STEP_REPLACE:
        return run_rewrite(runner, index, piece);
    case STEP_PREFIX:
    case STEP_PREFIX_FIRST:
        if (!has_prefix && !piece.continued && (step->kind == STEP_PREFIX || piece.first))
            return run_rewrite(runner, index, piece);
        break;
    case STEP_BYTES:
        break;
    }
    return run_step(runner, index + 1, piece);
}

lode_status_t lode_pretokenizer_run(const lode_pretokenizer_t *pretokenizer, lode_buffer_t *text,
                                    lode_stretch_t stretch, lode_bpe_encoder_t *encoder,
                                    bool *joined) {
    runner_t runner = {
        .pretokenizer = pretokenizer, .text = text, .encoder = encoder, .joined = joined};
    if (stretch.own == 0)
        return LODE_OK;
    return run_step(&runner, 0, stretch);
}
