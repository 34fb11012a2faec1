/* stages/export/plan: what one exported folder will hold. Every rank makes the same plan.
 * Everything here is Local.
 */
#ifndef LODE_STAGES_EXPORT_PLAN_H
#define LODE_STAGES_EXPORT_PLAN_H

#include "export/coding.h"
#include "export/inputs.h"
#include "model/writer.h"

/* The sets of files of a folder, each with a writer of its own. */
enum { LODE_EXPORT_WEIGHTS, LODE_EXPORT_PARAMETERS, LODE_EXPORT_SETS };

/* How a tensor of weights comes about. */
typedef enum lode_export_kind {
    LODE_EXPORT_COPY,   /* as it is */
    LODE_EXPORT_MATRIX, /* of a layer, as the variant computes with it */
    LODE_EXPORT_VECTOR, /* the elements of kept channels */
    LODE_EXPORT_BIAS,   /* the output bias, on top of the source where there is one */
    LODE_EXPORT_ZEROS,
} lode_export_kind_t;

typedef struct lode_export_tensor {
    lode_export_kind_t kind;
    int64_t source; /* index in the checkpoint, −1 for none */
    int64_t owner;  /* as in lode_tensor_info_t */
    int64_t source_bytes;
    int64_t parts;      /* VECTOR: how often the channels occur, one after the other */
    lode_dtype_t dtype; /* meaningful unless COPY */
    char name[200];     /* where there is no source, "" otherwise: the source's */
} lode_export_tensor_t;

/* A tensor beside the weights: one of a matrix's parameters. */
typedef struct lode_export_beside {
    int64_t layer;
    lode_layer_matrix_t matrix;
    lode_export_parameter_t parameter;
    char name[256];
} lode_export_beside_t;

typedef struct lode_export_plan {
    const lode_config_export_t *entry;
    int64_t number;                /* of the entry */
    int64_t index;                 /* of the variant in the inputs, −1 for the unpruned model */
    const lode_variant_t *variant; /* NULL for that */
    const lode_variant_t *pruned;  /* whose channels it keeps; NULL: all */
    char *folder;
    int64_t layers, channels;            /* of the source */
    uint8_t *keep;                       /* [layers, channels] */
    int64_t *widths;                     /* [layers] channels kept */
    int64_t width;                       /* channels of a layer of the folder */
    const lode_export_coding_t *codings; /* [layers, LODE_MATRICES]; borrowed */
    bool padded;
    bool biased;                   /* by an output bias */
    bool new_biases;               /* the model has no biases to add it to, and gets them all */
    lode_export_tensor_t *tensors; /* [count[LODE_EXPORT_WEIGHTS]] in the order of the model */
    lode_export_beside_t *beside;  /* [count[LODE_EXPORT_PARAMETERS]] in the same order */
    lode_writer_tensor_t *list[LODE_EXPORT_SETS]; /* the same for the writers */
    int64_t count[LODE_EXPORT_SETS];
    int64_t
        bytes; /* of a packed folder, and of a quantized weight, both as quantize counts them; */
    double bits_per_weight;        /* of quantized variants alone */
    char digest[LODE_DIGEST_TEXT]; /* of all that decides the folder's bytes */
} lode_export_plan_t;

/* Plans entry `number` of the experiment's exports. codings [layers, LODE_MATRICES] are those of
 * its variant and must outlive the plan, as the inputs must. *plan is for lode_export_plan_free,
 * also on failure. Errors: LODE_ERR_CONFIG (sliced where widths differ), LODE_ERR_INPUT (an earlier
 * stage has nothing for the variant), LODE_ERR_UNSUPPORTED, LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_export_plan_create(lode_export_plan_t *plan, const lode_run_t *run,
                                                    int64_t number,
                                                    const lode_export_inputs_t *inputs,
                                                    const lode_export_coding_t *codings);
void lode_export_plan_free(lode_export_plan_t *plan);

/* Fills the plan's tensors, those beside, and the lists of both. For lode_export_plan_create. */
LODE_MUST_USE lode_status_t lode_export_plan_tensors(lode_export_plan_t *plan,
                                                     const lode_run_t *run);

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
