/* stages/evaluate/reuse: losses that were computed before.
 *
 * Every variant's losses carry a digest of all that they depend on: the weights, the text and what
 * of it is scored, the micro-batches, the variant's edits. Where a result file of the experiment
 * holds losses of the same digest, they are these, bit for bit.
 */
#ifndef LODE_STAGES_EVALUATE_REUSE_H
#define LODE_STAGES_EVALUATE_REUSE_H

#include "common/run.h"

/* Digest of the losses of a variant over a text; `edits` is that of its edits. Errors:
 * LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_reuse_digest(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                                              const lode_text_t *text, const char *edits);

/* What the results of one data set look like. */
typedef struct lode_reuse_kind {
    const char *group;  /* "/perplexity": the datasets f64 are <group>/<data set>/<variant> */
    const char *beside; /* group of datasets u8 of the same names and shape; NULL for none */
    int axes;
    int64_t shape[2];
} lode_reuse_kind_t;

/* Results that are wanted: where they go, and which they are. */
typedef struct lode_reuse_item {
    char *path; /* of the dataset f64 in the new file, the caller's */
    char digest[LODE_DIGEST_TEXT];
    bool done;     /* by an interrupted run of the stage: not looked for */
    int32_t found; /* out */
} lode_reuse_item_t;

/* Looks through run->earlier, and writes what is found into the open `store`. A file that cannot be
 * read counts as holding nothing. items [count]: `found` is set, the same on all ranks. Errors:
 * LODE_ERR_IO, LODE_ERR_MEMORY. Collective; rank 0 reads and writes. */
LODE_MUST_USE lode_status_t lode_reuse_take(lode_store_t *store, const lode_run_t *run,
                                            const lode_reuse_kind_t *kind, lode_reuse_item_t *items,
                                            int64_t count);

#endif
