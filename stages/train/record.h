/* stages/train/record: what is known of a training: its curves, its validations, and the digests of
 * its checkpoints. Every rank has all of it. What is known need not end at one step: a checkpoint
 * in the middle may have been lost, and a longer training knows less than it asks for.
 */
#ifndef LODE_STAGES_TRAIN_RECORD_H
#define LODE_STAGES_TRAIN_RECORD_H

#include "base/hash.h"
#include "comm/context.h"
#include "config/config.h"
#include "store/store.h"

typedef enum lode_train_curve {
    LODE_TRAIN_LOSS,
    LODE_TRAIN_GRADIENT_NORM,
    LODE_TRAIN_LEARNING_RATE,
    LODE_TRAIN_ENTROPY_WEIGHT,
    LODE_TRAIN_ENTROPY,
    LODE_TRAIN_CURVES,
} lode_train_curve_t;

typedef struct lode_train_record {
    int64_t steps, layers;
    double *curve[LODE_TRAIN_CURVES]; /* [steps] each, NaN where not done */
    int64_t validations;              /* n */
    int64_t *validation_step;         /* [n] ascending, from 0 */
    double *loss, *error;             /* [n], NaN where not done */
    double *entropy;                  /* [n, layers] */
    int64_t checkpoints;              /* k */
    int64_t *checkpoint_step;         /* [k] ascending */
    char (*digest)[LODE_DIGEST_TEXT]; /* [k], "" where not written */
} lode_train_record_t;

/* Makes the record of a training of `layers` layers that has not begun. *record is for
 * lode_train_record_free, also on failure. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_train_record_create(lode_train_record_t *record,
                                                     const lode_config_t *config, int64_t layers);
void lode_train_record_free(lode_train_record_t *record); /* leaves {0}. Local. */

/* Indices of what is due after `step` updates, −1 where nothing is. Local. */
int64_t lode_train_record_validation(const lode_train_record_t *record, int64_t step);
int64_t lode_train_record_checkpoint(const lode_train_record_t *record, int64_t step);

/* Creates the record's datasets in a store, as train.h5 has them. Collective. */
LODE_MUST_USE lode_status_t lode_train_record_datasets(lode_store_t *store,
                                                       const lode_train_record_t *record);

/* Fills them; a failed write sticks to the store and fails its commit. By one rank. Local. */
void lode_train_record_write(lode_store_t *store, const lode_train_record_t *record);

/* Adds the digests of the checkpoints that are written. Collective. */
LODE_MUST_USE lode_status_t lode_train_record_digests(lode_store_t *store,
                                                      const lode_train_record_t *record);

/* Takes over what the store of another training knows, of the same weights step for step, with as
 * many steps, checkpoints and validations as it had; the losses of validations only where
 * `validated`, which says that they are of the same text. Errors: LODE_ERR_FORMAT where the file
 * does not have what such files have, those of reading; what was taken until then stays. Local. */
LODE_MUST_USE lode_status_t lode_train_record_take(lode_train_record_t *record, lode_store_t *store,
                                                   bool validated);

/* Reads the digest of a step's checkpoint, "" where the store has none. Local. */
LODE_MUST_USE lode_status_t lode_train_record_digest(char digest[LODE_DIGEST_TEXT],
                                                     lode_store_t *store, int64_t step);

/* Gives all ranks what rank 0 knows. Collective. */
LODE_MUST_USE lode_status_t lode_train_record_share(lode_train_record_t *record,
                                                    const lode_comm_t *comm);

/* The first step after `step` of which something is not known, be it of its update, of a validation
 * or a checkpoint after it; −1 where there is none. Local. */
int64_t lode_train_record_missing(const lode_train_record_t *record, int64_t step);

/* Whether the curves have the update of a step from 1 on. Local. */
bool lode_train_record_trained(const lode_train_record_t *record, int64_t step);

#endif
