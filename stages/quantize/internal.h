/* stages/quantize/internal: what the stage's files share. */
#ifndef LODE_STAGES_QUANTIZE_INTERNAL_H
#define LODE_STAGES_QUANTIZE_INTERNAL_H

#include "base/log.h"
#include "common/edits.h"
#include "common/run.h"
#include "common/variants.h"
#include "kernels/codec.h"
#include "kernels/input.h"
#include "quantize/quantize.h"
#include "transformer/batch.h"

enum { LODE_QUANTIZE_PATH = 512 }; /* bytes of a dataset's name */

/* Parts of the journal of quantize.h5: a unit is a row of /sizes ("dense" first) and a layer; a
 * variant of the quantizer lp. */
enum { LODE_QUANTIZE_FITS, LODE_QUANTIZE_ALLOCATIONS, LODE_QUANTIZE_PARTS };

/* Parts of the scratch file's: a unit of the first two is a base, a micro-batch and a layer; of the
 * third a family and a layer. */
enum {
    LODE_QUANTIZE_MAXIMA,
    LODE_QUANTIZE_ERRORS,
    LODE_QUANTIZE_CURVES,
    LODE_QUANTIZE_SCRATCH_PARTS,
};

/* An unquantized model that variants start from. */
typedef struct lode_quantize_base {
    int64_t variant;         /* in the list of variants; −1: the dense model */
    bool smoothed, searched; /* whether a quantized variant of it is */
    int64_t *kept;           /* [L] channels */
} lode_quantize_base_t;

/* What variants of the quantizer lp have one set of error curves for. */
typedef struct lode_quantize_family {
    int64_t base;
    bool holds; /* super weights take no part */
} lode_quantize_family_t;

/* A super weight, as superweight.h5 has it. */
typedef struct lode_quantize_weight {
    int32_t layer, row, channel;
} lode_quantize_weight_t;

typedef struct lode_quantize {
    lode_run_t *run;
    lode_store_t *store;   /* quantize.h5 */
    lode_store_t *scratch; /* NULL where nothing is kept besides */
    lode_variant_t *variants;
    int64_t count, pruned_count; /* of all variants, and of the first ones, which are pruned */
    lode_edits_t *edits;         /* of the pruned ones, NULL without any */
    lode_store_t *prune;         /* the same, open for reading */
    lode_quantize_base_t *bases;
    int64_t base_count;
    lode_quantize_family_t *families;
    int64_t family_count;
    double *candidates; /* [candidate_count] quantize.z and infinity */
    int64_t candidate_count;
    lode_quantize_weight_t *weights; /* super weights */
    int64_t weight_count;
    int32_t *core; /* [L, core_size], NULL where nothing asks for it */
    int64_t core_size;
    double *loss_proxy;         /* [L, m], rank 0's, NULL without the quantizer lp */
    lode_sequences_read_t read; /* calibration, of which `text` is the beginning */
    lode_text_t text;
    lode_batches_t batches;
    int64_t layers, m, d;
} lode_quantize_t;

/* --- what there is (work.c) ------------------------------------------------------------------ */

/* Lists variants, bases, families and candidates. Local. */
LODE_MUST_USE lode_status_t lode_quantize_prepare(lode_quantize_t *work);

/* Releases all that lies in memory. Local. */
void lode_quantize_release(lode_quantize_t *work);

/* "dense" or the variant's name. */
const char *lode_quantize_base_name(const lode_quantize_t *work, int64_t base);

/* Number of the base of a quantized variant, of its family (quantizer lp). */
int64_t lode_quantize_base_of(const lode_quantize_t *work, const lode_variant_t *variant);
int64_t lode_quantize_family_of(const lode_quantize_t *work, const lode_variant_t *variant);

bool lode_quantize_is_searched(const lode_variant_t *variant);
bool lode_quantize_is_smoothed(const lode_variant_t *variant);
bool lode_quantize_is_mixed(const lode_variant_t *variant);

/* Whether quantize.tensors and the architecture have the matrix quantized. */
bool lode_quantize_has(const lode_quantize_t *work, lode_layer_matrix_t which);

/* Rows and columns of a layer's matrix with `kept` channels. */
void lode_quantize_extents(const lode_quantize_t *work, int64_t kept, lode_layer_matrix_t which,
                           int64_t *out, int64_t *in);

/* Blocks of a variant's matrix. */
int64_t lode_quantize_blocks(const lode_variant_t *variant, lode_layer_matrix_t which, int64_t out,
                             int64_t in);

/* Name of a base's smoothing of a layer's input. */
void lode_quantize_smooth_path(char path[LODE_QUANTIZE_PATH], const lode_quantize_t *work,
                               int64_t base, int64_t layer, lode_input_t input);

/* Has the stack compute layer `layer` as the pruned variant of that place in the list does, −1: as
 * the dense model; *channels as in lode_layer_edit_t. Local. */
void lode_quantize_use(const lode_quantize_t *work, lode_stack_t *stack, int64_t pruned,
                       int64_t layer, const int32_t **channels);

/* Private bytes that a rank holds all the time, beside edits. Local. */
int64_t lode_quantize_held_memory(const lode_quantize_t *work);

/* --- codecs of a layer (codecs.c) ------------------------------------------------------------ */

typedef struct lode_quantize_codecs {
    lode_codec_t codec[LODE_MATRICES]; /* without scale and minimum */
    bool coded[LODE_MATRICES];         /* which of them there are */
    uint8_t *keep, *bits;              /* [kept channels] */
    lode_held_t *held;
    float *smooth[LODE_INPUTS]; /* [d] */
    int64_t kept, held_count;   /* channels and weights that stay as stored */
} lode_quantize_codecs_t;

/* The codecs of a variant's layer as the stack has it after lode_quantize_use; `channels` from
 * there. Smoothing and bits are read from quantize.h5, which must have them. For
 * lode_quantize_codecs_free, also on failure. Local. */
LODE_MUST_USE lode_status_t lode_quantize_codecs_create(lode_quantize_codecs_t *codecs,
                                                        lode_quantize_t *work,
                                                        const lode_variant_t *variant,
                                                        const lode_stack_t *stack, int64_t layer,
                                                        const int32_t *channels);
void lode_quantize_codecs_free(lode_quantize_codecs_t *codecs);

/* Super weights of a layer as the matrix with these channels has them, [weight_count] at most,
 * ascending. Local. */
int64_t lode_quantize_held(lode_held_t *held, const lode_quantize_t *work, int64_t layer,
                           const lode_weight_t *down, const int32_t *channels);

/* --- passes (search.c) ----------------------------------------------------------------------- */

/* Inputs' largest magnitudes and the smoothing made of them, for all smoothed bases. Collective. */
LODE_MUST_USE lode_status_t lode_quantize_smooth(lode_quantize_t *work);

/* Errors of all candidates of all variants with a searched clip, into the scratch file.
 * Collective. */
LODE_MUST_USE lode_status_t lode_quantize_search(lode_quantize_t *work);

/* Private bytes of a rank that the passes take beside layers, activations and edits. Local. */
int64_t lode_quantize_search_memory(const lode_quantize_t *work, int64_t max_tokens);

/* --- mixed precision (mixed.c) --------------------------------------------------------------- */

/* Bits of every channel of all variants of the quantizer lp, into quantize.h5. Collective. */
LODE_MUST_USE lode_status_t lode_quantize_distribute(lode_quantize_t *work);

/* Private bytes of rank 0 for that. Local. */
int64_t lode_quantize_distribute_memory(const lode_quantize_t *work);

/* --- fits and sizes (fit.c) ------------------------------------------------------------------ */

/* Parameters of all variants, and sizes. Collective. */
LODE_MUST_USE lode_status_t lode_quantize_fit(lode_quantize_t *work);

/* Attributes that need all layers. Collective. */
LODE_MUST_USE lode_status_t lode_quantize_describe(lode_quantize_t *work);

/* Those of a variant's group. Collective. */
LODE_MUST_USE lode_status_t lode_quantize_describe_variant(lode_quantize_t *work,
                                                           const lode_variant_t *variant,
                                                           int64_t bytes, double bits);

/* LODE_STOPPED, with a message: for work between whose layers a stop was asked for. Local. */
LODE_MUST_USE lode_status_t lode_quantize_stopped(void);

#endif
