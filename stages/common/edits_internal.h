/* stages/common/edits_internal: what the files of stages/common/edits share. */
#ifndef LODE_STAGES_COMMON_EDITS_INTERNAL_H
#define LODE_STAGES_COMMON_EDITS_INTERNAL_H

#include "base/memory.h"
#include "common/edits.h"
#include "kernels/codec.h"
#include "kernels/layer.h"
#include "store/store.h"

enum { LODE_EDITS_PATH = 512 }; /* bytes of a dataset's name */

/* A matrix as the checkpoint has it. */
typedef struct lode_edits_matrix {
    int64_t out, in; /* 0 where the layer has none */
    lode_dtype_t dtype;
} lode_edits_matrix_t;

typedef struct lode_edits_super {
    int32_t layer, row, channel;
    float value;
} lode_edits_super_t;

/* Weights that are zero, by layer and matrix. */
typedef struct lode_edits_outliers {
    lode_held_t *held;
    int64_t *start; /* [layers · LODE_MATRICES + 1] */
} lode_edits_outliers_t;

/* A quantized matrix's parameters as they lie in the file. */
typedef struct lode_edits_parameters {
    const float *scale, *minimum;
    const uint8_t *row_bits, *col_bits;
} lode_edits_parameters_t;

/* What was asked for last of a layer. */
typedef struct lode_edits_layer {
    lode_codec_t codec[LODE_MATRICES];
    lode_input_codec_t input[LODE_INPUTS];
} lode_edits_layer_t;

/* Divisors of SmoothQuant of a layer's inputs. */
typedef const float *lode_edits_smooth_t[LODE_INPUTS];

struct lode_edits {
    const lode_run_t *run;
    const lode_variant_t *variants;
    int64_t count;
    int64_t first_layer, layers, m, d;
    int64_t bytes; /* private, of all that follows */
    lode_store_t *prune, *compensate, *superweight, *classify, *quantize;

    /* Pruned variants. */
    int64_t *mask; /* [count] place of a variant's mask, −1 for none */
    int64_t masks;
    uint8_t *keep;         /* [masks, layers, ⌈m/8⌉] bit j%8 of j/8: channel j is kept */
    int32_t *kept;         /* [masks, layers] how many are */
    lode_tensor_t *down;   /* [masks, layers], data NULL where it is the checkpoint's */
    const double **stored; /* [masks] biases [L, d] as they lie in the file, NULL for none */
    int32_t *channels;     /* [layers, m], asked for last */
    lode_real_t *bias;     /* [layers, d], asked for last; NULL where no variant has biases */

    /* Super weights of the whole model, ascending in layer, row and channel, and what of them was
     * asked for last of each layer. */
    lode_edits_super_t *super; /* [supers] */
    int64_t supers;
    int64_t *first;       /* [layers + 1] places of the layers' own */
    uint8_t *alive;       /* [masks, supers] whether their channels are kept; NULL: not asked */
    lode_held_t *held;    /* in the places of the layers' own */
    lode_held_t *restore; /* likewise */
    int32_t *held_down;   /* likewise, held channels of u */
    int32_t *held_hidden; /* [layers, supers] held channels of hidden states */
    lode_edits_outliers_t tensor, global;

    /* Quantized variants. */
    lode_edits_matrix_t (*matrix)[LODE_MATRICES]; /* [layers] */
    lode_edits_layer_t *layer;                    /* [layers] */
    int64_t *packed; /* [count] place of a variant's parameters, −1 */
    lode_edits_parameters_t (*parameters)[LODE_MATRICES]; /* [packed, layers] */
    lode_edits_smooth_t *smooth; /* [1 + masks, layers] of the dense model and of pruned variants;
                                  * NULL: not asked */
    uint8_t *core;               /* [layers, m] whether a channel is protected; NULL */
    uint8_t *protected;          /* [layers, m] of those kept, asked for last; NULL */
};

/* Allocates what the edits own, and counts it. Local. */
LODE_MUST_USE lode_status_t lode_edits_take(lode_edits_t *edits, void *out, int64_t count,
                                            size_t size);
#define LODE_EDITS_NEW(edits, out, count) lode_edits_take((edits), (out), (count), sizeof **(out))

/* --- edits_pruned.c: Local ------------------------------------------------------------------- */

/* Reads the masks of pruned variants, and what compensates where that file is open. */
LODE_MUST_USE lode_status_t lode_edits_read_pruned(lode_edits_t *edits);

/* Adds what pruned variant `variant` changes in own layer l. */
void lode_edits_of_pruned(lode_edits_t *edits, int64_t variant, int64_t l, lode_layer_edit_t *edit);

/* Channels that own layer l keeps in `variant`, all of them where it is −1. */
int64_t lode_edits_kept(const lode_edits_t *edits, int64_t variant, int64_t l);

/* --- edits_weights.c: Local ------------------------------------------------------------------ */

/* Reads super weights, and the outliers of experiments. */
LODE_MUST_USE lode_status_t lode_edits_read_weights(lode_edits_t *edits);

/* Adds what an experiment changes in own layer l. */
void lode_edits_of_experiment(lode_edits_t *edits, const lode_variant_t *variant, int64_t l,
                              lode_layer_edit_t *edit);

/* --- edits_quantized.c: Local ---------------------------------------------------------------- */

/* Maps the parameters of quantized variants, and reads protected channels. */
LODE_MUST_USE lode_status_t lode_edits_read_quantized(lode_edits_t *edits);

/* Adds what quantizing changes in own layer l, whose edit has what pruning changes. */
void lode_edits_of_quantized(lode_edits_t *edits, int64_t variant, int64_t l,
                             lode_layer_edit_t *edit);

#endif
