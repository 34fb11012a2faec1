/* stages/export/plan: what one exported folder will hold. Every rank makes the same plan.
 * Everything here is Local.
 */
#ifndef LODE_STAGES_EXPORT_PLAN_H
#define LODE_STAGES_EXPORT_PLAN_H

#include "common/run.h"
#include "model/writer.h"
#include "common/variants.h"

/* How a tensor comes about. Lines are those that the file stores. */
typedef enum lode_export_kind {
    LODE_EXPORT_COPY,     /* as it is */
    LODE_EXPORT_LINES,    /* the lines of kept channels */
    LODE_EXPORT_ELEMENTS, /* of every line, the elements of kept channels */
    LODE_EXPORT_DOWN,     /* the compensated matrix */
    LODE_EXPORT_BIAS,     /* the output bias, on top of the source where there is one */
    LODE_EXPORT_ZEROS,
} lode_export_kind_t;

typedef struct lode_export_tensor {
    lode_export_kind_t kind;
    int64_t source; /* index in the checkpoint, −1 for none */
    int64_t owner;  /* as in lode_tensor_info_t */
    int64_t source_bytes;
    int64_t parts;      /* LINES, ELEMENTS: how often the channels occur, one after the other */
    bool transposed;    /* DOWN: stored [channels, d] */
    lode_dtype_t dtype; /* meaningful unless COPY */
    char name[200];     /* where there is no source, "" otherwise: the source's */
} lode_export_tensor_t;

typedef struct lode_export_plan {
    const lode_config_export_t *entry;
    int64_t number;                /* of the entry */
    const lode_variant_t *variant; /* NULL for the unpruned model */
    char *folder;
    int64_t layers, channels; /* of the source */
    uint8_t *keep;            /* [layers, channels] */
    int64_t *widths;          /* [layers] channels kept */
    int64_t width;            /* channels of a layer of the folder */
    bool padded;
    bool compensated, biased;      /* by new down weights, by an output bias */
    bool new_biases;               /* the model has no biases to add it to, and gets them all */
    lode_export_tensor_t *tensors; /* [count] in the order of the model */
    lode_writer_tensor_t *list;    /* [count], the same for the writer */
    int64_t count;
    char digest[LODE_DIGEST_TEXT]; /* of all that decides the folder's bytes */
} lode_export_plan_t;

/* Plans entry `number` of the experiment's exports.
 *   variants [count]   of the experiment, must outlive the plan
 *   prune, compensate  open stores; compensate may be NULL where no variant needs it
 * *plan is for lode_export_plan_free, also on failure. */
LODE_MUST_USE lode_status_t lode_export_plan_create(lode_export_plan_t *plan, const lode_run_t *run,
                                                    int64_t number, const lode_variant_t *variants,
                                                    int64_t count, lode_store_t *prune,
                                                    lode_store_t *compensate);
void lode_export_plan_free(lode_export_plan_t *plan);

/* "sliced" or "padded". */
const char *lode_export_plan_layout(const lode_export_plan_t *plan);

/* Appends the folder's config.json: the source's text, or where it must change its JSON with the
 * members in their order. */
LODE_MUST_USE lode_status_t lode_export_plan_config(const lode_export_plan_t *plan,
                                                    const lode_run_t *run, lode_buffer_t *text);

/* Appends lodestone.json; files [count] are the names of all other files of the folder. */
LODE_MUST_USE lode_status_t lode_export_plan_note(const lode_export_plan_t *plan,
                                                  const lode_run_t *run, const char *const *files,
                                                  int64_t count, lode_buffer_t *text);

/* The folder of an entry of `export` with this path: a part for the point and one for the model
 * where there may be others. *folder is the caller's. Local. */
LODE_MUST_USE lode_status_t lode_export_folder(char **folder, const lode_config_t *config,
                                               const char *point, const char *model,
                                               const char *path);

/* Refuses, with LODE_ERR_CONFIG, a folder of entry `number` that is the folder of a model. Local.
 */
LODE_MUST_USE lode_status_t lode_export_check_source(const lode_config_t *config, int64_t number,
                                                     const char *folder, const char *model);

#endif
