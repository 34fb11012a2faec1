/* stages/tokenize/pair: the ids of a context and of the continuation that is scored after it, by
 * the rules of lm_eval 0.4.13 (TemplateLM._encode_pair and loglikelihood, HFLM.tok_encode).
 *
 *   - White space at the context's end belongs to the continuation.
 *   - Context and continuation are encoded as one text; the continuation's ids are those after as
 *     many as the context has alone.
 *   - An empty context is the prefix token (model/prefix), unless that is what the continuation
 *     begins with: then this is the context.
 *   - BOS: "auto" encodes with the tokenizer's special tokens, but not a text that begins with the
 *     prefix token's own text. "always" puts BOS before a context that does not begin with it,
 *     "never" puts nothing there.
 *
 * A context of nothing but white space, which lm_eval stumbles over where there is no BOS, counts
 * as empty then. Pure functions; everything here is Local.
 */
#ifndef LODE_STAGES_TOKENIZE_PAIR_H
#define LODE_STAGES_TOKENIZE_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/choices.h"
#include "tokenize/ids.h"

typedef struct lode_pair_rule {
    lode_bos_t bos;
    int32_t bos_id;          /* that "always" puts first; −1 where there is none */
    int32_t prefix;          /* the prefix token, −1 where there is none */
    const char *prefix_text; /* its text, "" where there is none */
} lode_pair_rule_t;

/* Bytes of the context [length], valid UTF-8, that stay with it. */
size_t lode_pair_context_length(const char *context, size_t length);

/* Whether a text [length] is to be encoded with the tokenizer's special tokens. `alone` says that
 * it is a continuation whose context is empty. */
bool lode_pair_special(const lode_pair_rule_t *rule, const char *text, size_t length, bool alone);

/* Appends the ids of a pair to `ids` as one sequence.
 *   context  in, number of ids of the context encoded by itself; 0 where it is empty
 *   whole    in, [count], ids of context and continuation together
 *   of_context  out, how many of the sequence are context, ≥ 1 and less than the sequence has
 * Errors: LODE_ERR_INPUT where no id is left to the continuation, or where there is no prefix token
 * and one is needed; the message wants a name of the request before it. LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_pair_append(const lode_pair_rule_t *rule, lode_ids_t *ids,
                                             int64_t context, const int32_t *whole, int64_t count,
                                             int32_t *of_context);

#endif
