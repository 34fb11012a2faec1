/* stages/common/run: what a stage is given: one model at one point of one experiment. */
#ifndef LODE_STAGES_COMMON_RUN_H
#define LODE_STAGES_COMMON_RUN_H

#include "base/hash.h"
#include "comm/context.h"
#include "config/config.h"
#include "model/checkpoint.h"
#include "store/journal.h"
#include "store/store.h"
#include "transformer/batch.h"
#include "transformer/layout.h"
#include "transformer/stack.h"

/* The stages that leave a file, in the order in which they run: name. Some run only where the
 * experiment asks for what they do: see lode_stage_wanted. */
#define LODE_STAGE_LIST(X)                                                                         \
    X(TOKENIZER, "tokenizer")                                                                      \
    X(TOKENIZE, "tokenize")                                                                        \
    X(TRAIN, "train")                                                                              \
    X(CALIBRATE, "calibrate")                                                                      \
    X(ACCUMULATE, "accumulate")                                                                    \
    X(MOMENTS, "moments")                                                                          \
    X(CLASSIFY, "classify")                                                                        \
    X(SUPERWEIGHT, "superweight")                                                                  \
    X(SPECTRA, "spectra")                                                                          \
    X(PRUNE, "prune")                                                                              \
    X(COMPENSATE, "compensate")                                                                    \
    X(QUANTIZE, "quantize")                                                                        \
    X(EVALUATE, "evaluate")                                                                        \
    X(PROBE, "probe")                                                                              \
    X(EXPORT, "export")                                                                            \
    X(AUDIT, "audit")

typedef enum lode_stage {
#define LODE_STAGE_ENUM(stage, name) LODE_STAGE_##stage,
    LODE_STAGE_LIST(LODE_STAGE_ENUM)
#undef LODE_STAGE_ENUM
        LODE_STAGE_COUNT,
} lode_stage_t;

/* "tokenize" …; Local. */
const char *lode_stage_name(lode_stage_t stage);

/* Whether the experiment asks for anything that the stage does; always so for tokenize, calibrate,
 * accumulate, classify, prune and evaluate. Local. */
bool lode_stage_wanted(const lode_config_t *config, lode_stage_t stage);

/* The same for one model: tokenizer and train are for those that are trained, and the stages behind
 * train for those that have weights before. Local. */
bool lode_stage_wanted_of(const lode_config_t *config, const lode_config_model_t *model,
                          lode_stage_t stage);

typedef struct lode_run {
    const lode_comm_t *comm;
    const lode_config_t *config; /* without sweep */
    const lode_config_model_t *model;
    char *folder;                  /* <results>/<name>[/<point>]/<model> */
    const char *point;             /* of the sweep, "" without one */
    bool force;                    /* write what is there already */
    lode_checkpoint_t *checkpoint; /* NULL for a model from scratch, which has none yet */
    char *tokenizer;               /* path of the tokenizer.json that its texts are encoded by */
    lode_architecture_t architecture;
    lode_layout_t layout;
    char fingerprint[LODE_STAGE_COUNT][LODE_DIGEST_TEXT]; /* what each stage's file must carry */
    char model_digest[LODE_DIGEST_TEXT]; /* of config.json and all weights there are */
    char text_digest[LODE_DIGEST_TEXT];  /* of the tokenizer, if it is not made, and all corpora */
    char companion_digest[LODE_DIGEST_TEXT]; /* of the files beside the weights; for folders that
                                              * are written only */
    lode_buffer_t inputs;                    /* "<digest>  <path>" lines for provenance */
    /* result files of evaluate that losses may be taken from, whether they exist or not */
    char **earlier;
    int64_t earlier_count;
    char start[32];  /* ISO 8601; of the stage in hand */
    unsigned *sound; /* bit s: the file of stage s was written or verified by this run; NULL: none
                      * is remembered */
} lode_run_t;

/* The same experiment with the weights of another checkpoint, another version of the run's model: a
 * view of `run` with that checkpoint, its architecture, and the layout that goes with it. Files,
 * settings and texts are the run's own; nothing of the view is to be released, and both it and the
 * checkpoint must not outlive what they are views of. Errors: LODE_ERR_CONFIG where a sequence or
 * window is longer than the version's positions, those of lode_layout_create. Local. */
LODE_MUST_USE lode_status_t lode_run_view(lode_run_t *view, const lode_run_t *run,
                                          lode_checkpoint_t *checkpoint);

/* Whether this rank does work that is done once a layer: the first replica's ranks do. Local. */
bool lode_run_owns_layers(const lode_run_t *run);

/* Path of a stage's file, the caller's. Local. */
LODE_MUST_USE lode_status_t lode_run_path(char **path, const lode_run_t *run, lode_stage_t stage);

/* Path of a stage's file that lode merge wrote for a model, <merged>/<model>/<stage>.h5, the
 * caller's; config->calibration.merged must not be "". Local. */
LODE_MUST_USE lode_status_t lode_run_merged_path(char **path, const lode_config_t *config,
                                                 const char *model, lode_stage_t stage);

/* Opens the file of an earlier stage, whose fingerprint is in run->fingerprint; a missing one, and
 * one of other inputs or settings, is LODE_ERR_INPUT and names the stage to run; one that is not as
 * it was written is LODE_ERR_FORMAT. The store is the caller's to close. Collective. */
LODE_MUST_USE lode_status_t lode_run_open(lode_store_t **store, const lode_run_t *run,
                                          lode_stage_t stage);

/* Creates the file of the stage in hand and notes its start. Collective. */
LODE_MUST_USE lode_status_t lode_run_create(lode_store_t **store, lode_run_t *run,
                                            lode_stage_t stage);

/* The same for a stage that goes on from where an interrupted run stopped, unless --force was
 * given; lode_store_resume() (store/journal.h) must follow. Collective. */
LODE_MUST_USE lode_status_t lode_run_create_resumable(lode_store_t **store, lode_run_t *run,
                                                      lode_stage_t stage);

/* Creates <run's folder>/<stage>-scratch.h5.partial, for what a stage keeps while it runs;
 * lode_store_resume() must follow. Collective. */
LODE_MUST_USE lode_status_t lode_run_create_scratch(lode_store_t **store, const lode_run_t *run,
                                                    lode_stage_t stage);

/* Deletes that where the stage has ended well, which all ranks agree on; else leaves it to the next
 * run. NULL is fine on all ranks. Collective. */
void lode_run_end_scratch(lode_store_t **store, lode_status_t stage);

/* Says how much an interrupted run has done, where that is anything: "accumulate", 12, 32,
 * "micro-batches". Local. */
void lode_run_say_resumed(const char *stage, int64_t done, int64_t all, const char *units);

/* Deletes what interrupted runs have left of a stage, but not its file. By one rank. Local. */
void lode_run_tidy(const lode_run_t *run, lode_stage_t stage);

/* Ends a stage: `local` is this rank's status so far. Where it is LODE_OK on all ranks, writes the
 * provenance and commits the file; else leaves nothing but what a resumable store keeps. *store is
 * released. Returns the same on all ranks. Collective. */
LODE_MUST_USE lode_status_t lode_run_finish(lode_store_t **store, lode_run_t *run,
                                            lode_stage_t stage, lode_status_t local);

/* Sequences read from a tokenize file, with the arrays that lode_text_t points at. */
typedef struct lode_sequences_read {
    lode_text_t text;
    int64_t *offsets;
    int32_t *ids, *target;
    double *weight;
} lode_sequences_read_t;

/* The calibration sequences: every next token is a target; weights are 1/(targets of the sequence)
 * for loss = "mean", 1 for "sum". Everyone reads all ids. The result is for
 * lode_sequences_free. Collective. */
LODE_MUST_USE lode_status_t lode_run_calibration(lode_sequences_read_t *read, lode_run_t *run);
void lode_sequences_free(lode_sequences_read_t *read);

/* Private bytes that are left for activations beside what the stack and `other` take. Local. */
int64_t lode_run_budget(const lode_run_t *run, const lode_stack_t *stack, int64_t other);

#endif
