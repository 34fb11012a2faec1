/* text/regex: the patterns of tokenizer.json, run by PCRE2.
 *
 * The `tokenizers` library runs them with Oniguruma in its Ruby syntax, which is not Perl's. A
 * pattern is therefore read here, construct by construct, and written anew for PCRE2 so that it
 * matches the same text; what has no equal, or has not been compared, is refused. Understood are
 * literals, classes, \s \S \d \D, general categories (\p{L}, \P{Lu} …), groups ( (?: (?i: (?> ,
 * lookaround, alternation, greedy, lazy and possessive quantifiers, '.', and '$', which is the end
 * of any line.
 *
 * Everything here is Local. A lode_regex_t is never written after it is compiled, so threads may
 * share it, each with its own walk.
 */
#ifndef LODE_TEXT_REGEX_H
#define LODE_TEXT_REGEX_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"

typedef struct lode_regex lode_regex_t;

/* Compiles a pattern of `length` bytes of UTF-8 in Oniguruma's syntax.
 *   out     the caller's to destroy; NULL on failure
 *   where   file and part, for messages
 * Errors: LODE_ERR_UNSUPPORTED (a construct that is not understood, quoted), LODE_ERR_FORMAT (a
 * pattern that PCRE2 rejects), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_regex_compile(lode_regex_t **out, const char *pattern,
                                               size_t length, const char *where);

/* Compiles a literal text, which must not be empty (LODE_ERR_UNSUPPORTED). */
LODE_MUST_USE lode_status_t lode_regex_compile_literal(lode_regex_t **out, const char *text,
                                                       size_t length, const char *where);

/* Compiles the "pattern" of a tokenizer.json: {"String": literal} or {"Regex": pattern}.
 * Errors: those above, and LODE_ERR_FORMAT where it is neither. */
LODE_MUST_USE lode_status_t lode_regex_parse(lode_regex_t **out, const json_t *json,
                                             const char *where);
void lode_regex_destroy(lode_regex_t **regex);

/* How many bytes of ASCII the literal is; 0 where it has others or is no literal. */
int lode_regex_ascii_length(const lode_regex_t *regex);

/* Whether a match can depend on what is before it. */
bool lode_regex_looks_behind(const lode_regex_t *regex);

/* A walk over the matches of one text, from left to right. */
typedef struct lode_regex_walk {
    const lode_regex_t *regex; /* by reference */
    void *scratch;             /* PCRE2's */
    size_t start, end;         /* the match that was found */
    size_t at;                 /* where the next search starts */
    size_t last_end;           /* end of the last match, SIZE_MAX before the first */
    bool open;                 /* the caller's to set: the text goes on behind what is shown */
    size_t none_before;        /* where nothing was found: no match starts before this */
} lode_regex_walk_t;

LODE_MUST_USE lode_status_t lode_regex_walk_start(lode_regex_walk_t *walk,
                                                  const lode_regex_t *regex);
void lode_regex_walk_stop(lode_regex_walk_t *walk); /* {0} is allowed */

/* Finds the next match in text[0 … length), valid UTF-8; *found says whether there was one. An
 * empty match right behind another match does not count. The text may move between calls. In a walk
 * that is `open`, a match counts only where nothing that follows the text could change it; the
 * first that something could change ends the walk. Errors: LODE_ERR_UNSUPPORTED (a match that takes
 * too many steps), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_regex_walk_next(lode_regex_walk_t *walk, bool *found,
                                                 const char *text, size_t length);

/* Appends text[0 … length) to `out` with every match replaced by a literal content. `text` is not
 * in `out`, which may grow to `most` bytes.
 * Errors: those of lode_regex_walk_next, and LODE_ERR_UNSUPPORTED where it would grow further. */
LODE_MUST_USE lode_status_t lode_regex_replace(lode_buffer_t *out, const lode_regex_t *pattern,
                                               const char *text, size_t length, const char *content,
                                               size_t content_length, size_t most);

#endif
