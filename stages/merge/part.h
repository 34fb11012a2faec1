/* stages/merge/part: the results that are merged, and whether they may be. */
#ifndef LODE_STAGES_MERGE_PART_H
#define LODE_STAGES_MERGE_PART_H

#include "common/run.h"

/* The files that are read, in order: tokenize, then the statistics. */
enum { LODE_MERGE_FILES = 4 };
extern const lode_stage_t lode_merge_stages[LODE_MERGE_FILES];

/* One folder of results; index f stands for lode_merge_stages[f]. */
typedef struct lode_merge_part {
    const char *folder; /* borrowed */
    lode_store_t *store[LODE_MERGE_FILES];
    lode_config_t *config[LODE_MERGE_FILES]; /* that the file was computed by */
    char *model_line;                        /* "<digest>  <path>" of the model */
    char model_digest[LODE_DIGEST_TEXT];
    int64_t sequences, tokens;
    int64_t *offsets; /* [sequences + 1] */
    int32_t *ids;     /* [tokens] */
} lode_merge_part_t;

/* Opens the files of `folder`, moments.h5 only where `moments`, and proves that they are of its
 * sequences and of one model. *part is for lode_merge_part_close, also on failure.
 * Errors: LODE_ERR_INPUT, LODE_ERR_FORMAT. Collective. */
LODE_MUST_USE lode_status_t lode_merge_part_open(lode_merge_part_t *part, const lode_comm_t *comm,
                                                 const char *folder, bool moments);
void lode_merge_part_close(lode_merge_part_t *part); /* Collective. */

/* Makes sure that `other` is of the model and the settings of `first`.
 * Errors: LODE_ERR_INPUT, naming what differs. Local. */
LODE_MUST_USE lode_status_t lode_merge_part_compare(const lode_merge_part_t *first,
                                                    const lode_merge_part_t *other);

#endif
