/* stages/common/protocol: how a text becomes windows, which positions are scored, and what the
 * figure is (section 7 of the specification: figures of different protocols never compare).
 *
 *   gptq       ⌊N/L⌋ disjoint windows, all L − 1 targets of each (Frantar et al. 2023); the value
 *              is the exponential of the mean of the windows' means
 *   llama.cpp  ⌊N/n⌋ disjoint windows, the first token of each replaced by BOS where the tokenizer
 *              adds one, positions n/2 … n − 2 scored (tools/perplexity of llama.cpp)
 *
 * Pure functions; everything here is Local.
 */
#ifndef LODE_STAGES_COMMON_PROTOCOL_H
#define LODE_STAGES_COMMON_PROTOCOL_H

#include "config/choices.h"
#include "transformer/batch.h"

typedef struct lode_windows {
    lode_text_t text; /* the windows as sequences, with their targets */
    int64_t windows;
    int64_t per_window;   /* targets of one window */
    int64_t first_scored; /* position within a window whose next token is the first target */
    int64_t *offsets;
    int32_t *ids, *target;
} lode_windows_t;

/* Cuts `ids` [count] into windows of `length` ≥ 2 tokens; count ≥ length. `bos` replaces first
 * tokens where the protocol wants it, and is −1 where the text does not begin with one.
 * Errors: LODE_ERR_MEMORY, LODE_ERR_CONFIG where the protocol scores nothing at this length. */
LODE_MUST_USE lode_status_t lode_windows_create(lode_windows_t *windows, lode_protocol_t protocol,
                                                int64_t length, const int32_t *ids, int64_t count,
                                                int32_t bos);
void lode_windows_free(lode_windows_t *windows);

/* The perplexity and its standard error (of the mean over tokens, times the perplexity) from the
 * losses [windows · per_window] in text order; sums in that order. stderr is NaN for one target. */
void lode_windows_value(lode_protocol_t protocol, const double *nll, int64_t windows,
                        int64_t per_window, double *value, double *standard_error);

#endif
