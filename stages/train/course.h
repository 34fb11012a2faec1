/* stages/train/course: by what a training's weights, and its validations, are known again.
 *
 * Two experiments that agree in the weights of a course have the same weights after the same number
 * of steps, to the last bit, and so the same losses, gradients and checkpoints: they may differ in
 * what is written and measured, and in the number of steps where no schedule depends on it.
 */
#ifndef LODE_STAGES_TRAIN_COURSE_H
#define LODE_STAGES_TRAIN_COURSE_H

#include "common/run.h"

/* Packed blocks of tokenize.h5. */
typedef struct lode_train_text {
    const int32_t *ids; /* [sequences · length], mapped */
    int64_t sequences;
} lode_train_text_t;

typedef struct lode_train_course {
    char weights[LODE_DIGEST_TEXT];    /* of all that they depend on, the results revision too */
    char validation[LODE_DIGEST_TEXT]; /* of the text that is measured, without any too */
} lode_train_course_t;

/* Reads both texts, by rank 0. Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_train_course_find(lode_train_course_t *course,
                                                   const lode_run_t *run,
                                                   const lode_train_text_t *text,
                                                   const lode_train_text_t *validation);

#endif
