/* stages/train/checkpoint: a step's weights as a Hugging Face folder. */
#ifndef LODE_STAGES_TRAIN_CHECKPOINT_H
#define LODE_STAGES_TRAIN_CHECKPOINT_H

#include "common/run.h"
#include "model/inventory.h"
#include "training/parameters.h"

/* What goes into the folders of a training. */
typedef struct lode_train_folders {
    const lode_run_t *run;
    const lode_layout_t *layout;       /* of the training */
    const lode_inventory_t *inventory; /* of the folders' dtype */
    const char *course;                /* of the weights (train/course.h) */
    lode_dtype_t dtype;
    char *config; /* config.json */
} lode_train_folders_t;

/* Prepares the folders of a run. *folders is for lode_train_folders_free, also on failure; what is
 * pointed at must outlive it. Errors: those of reading config.json. Local. */
LODE_MUST_USE lode_status_t lode_train_folders_create(lode_train_folders_t *folders,
                                                      const lode_run_t *run,
                                                      const lode_layout_t *layout,
                                                      const lode_inventory_t *inventory,
                                                      const char *course, lode_dtype_t dtype);
void lode_train_folders_free(lode_train_folders_t *folders); /* leaves {0}. Local. */

/* Path of the folder of a step in that of the run, the caller's. Local. */
LODE_MUST_USE lode_status_t lode_train_folder_path(char **path, const char *folder, int64_t step);

/* Bytes that one folder takes on the disk, with all that lies beside the weights. Errors:
 * LODE_ERR_INPUT (the model's folder cannot be listed), LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_train_folder_bytes(int64_t *bytes,
                                                    const lode_train_folders_t *folders);

/* The digest of a step's folder as it is on disk, complete, of this step and of these weights; ""
 * where it is not. For one rank. Local. */
void lode_train_folder_find(char digest[LODE_DIGEST_TEXT], const lode_train_folders_t *folders,
                            int64_t step);

/* Writes the folder of a step, unless it is there with the same contents, as one of this training,
 * and run->force is not set.
 *   digest   out, of config.json and all tensors as they are written, in the order of the model
 *   *written out, whether it was written (false: it was there)
 * Errors: LODE_ERR_NUMERIC (a weight that is not finite, or beyond the type's range), LODE_ERR_IO
 * (a folder of somebody else's, no space). Collective. */
LODE_MUST_USE lode_status_t lode_train_folder_write(char digest[LODE_DIGEST_TEXT], bool *written,
                                                    const lode_train_folders_t *folders,
                                                    const lode_parameters_t *parameters,
                                                    int64_t step);

#endif
