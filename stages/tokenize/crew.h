/* stages/tokenize/crew: all ranks encode the texts of one.
 *
 * Rank 0 has the texts and decides what is to be encoded; the others serve it:
 *
 *     if (comm->rank == 0) {
 *         … lode_crew_encode() as often as it takes …
 *         lode_crew_dismiss();
 *     } else {
 *         lode_crew_serve();
 *     }
 *     lode_comm_agree()
 *
 * so that what rank 0 does between is ordinary code, which may fail and return wherever it likes.
 * The ids do not depend on the number of ranks.
 */
#ifndef LODE_STAGES_TOKENIZE_CREW_H
#define LODE_STAGES_TOKENIZE_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/context.h"
#include "text/tokenizer.h"
#include "tokenize/ids.h"

typedef struct lode_crew {
    const lode_comm_t *comm;
    const lode_tokenizer_t *tokenizer; /* the same on all ranks */
    int64_t round; /* bytes of text that a rank takes at a time, 0 for 16 MiB: encoding takes some
                    * twenty times as much memory */
} lode_crew_t;

/* A text: UTF-8, not terminated, the caller's. */
typedef struct lode_span {
    const char *text;
    size_t length; /* bytes */
} lode_span_t;

/* Encodes texts [count] and appends one sequence for each to `ids`, in their order; an empty one
 * where a text has no tokens. On rank 0, the others being in lode_crew_serve().
 *   add_special   put the special tokens of the tokenizer (mostly BOS) around each text
 *   failed        out, where not NULL: the text at fault, −1 where no single text is
 * Errors: those of lode_tokenizer_encode of the first text that has one, LODE_ERR_COMM. */
LODE_MUST_USE lode_status_t lode_crew_encode(const lode_crew_t *crew, lode_ids_t *ids,
                                             const lode_span_t *texts, int64_t count,
                                             bool add_special, int64_t *failed);

/* What ranks other than 0 do until rank 0 dismisses them. Collective with what rank 0 does. */
void lode_crew_serve(const lode_crew_t *crew);

/* Ends the others' lode_crew_serve(). On rank 0, once. */
void lode_crew_dismiss(const lode_crew_t *crew);

#endif
