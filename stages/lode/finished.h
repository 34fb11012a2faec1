/* stages/lode/finished: results that are complete, by their fingerprints, so that points of a sweep
 * that agree on a stage share its file and what lies beside it. Everything here is Local, for one
 * rank. */
#ifndef LODE_STAGES_LODE_FINISHED_H
#define LODE_STAGES_LODE_FINISHED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/run.h"

typedef struct lode_finished_file {
    char fingerprint[LODE_DIGEST_TEXT];
    char *path;
} lode_finished_file_t;

/* Initialise with {0}. */
typedef struct lode_finished {
    lode_finished_file_t *list; /* [count] */
    int64_t count, room;
} lode_finished_t;

/* Adds a file. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_finished_note(lode_finished_t *finished, const char *fingerprint,
                                               const char *path);

/* Takes over for the run's file of the stage, at `path`, a finished one of the same fingerprint,
 * with the folders of checkpoints or the tokenizer that go with it: as second names, or as copies
 * where the file system has none for them. False where there is none that can be taken, which never
 * is an error: the stage is simply computed. */
bool lode_finished_share(const lode_finished_t *finished, const lode_run_t *run, lode_stage_t stage,
                         const char *path);

/* Whether what a stage leaves beside its file is there too: the folders of train and export, the
 * tokenizer of tokenizer. */
bool lode_finished_whole(const lode_run_t *run, lode_stage_t stage);

void lode_finished_free(lode_finished_t *finished); /* leaves {0} */

#endif
