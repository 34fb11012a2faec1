/* stages/train/record: what a training has shown so far: its curves, its validations, and the
 * digests of its checkpoints. Every rank has all of it.
 */
#ifndef LODE_STAGES_TRAIN_RECORD_H
#define LODE_STAGES_TRAIN_RECORD_H

#include "base/hash.h"
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

/* Reads all that back, into a record that was created for the same experiment. Errors:
 * LODE_ERR_SHAPE where the file is of another one, those of reading. Local. */
LODE_MUST_USE lode_status_t lode_train_record_read(lode_train_record_t *record,
                                                   lode_store_t *store);

#endif
