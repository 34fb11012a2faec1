/* stages/bench/sample: a few layers of a model with random weights in memory, and everything that
 * is needed to compute with them. Everything here is Local. */
#ifndef LODE_STAGES_BENCH_SAMPLE_H
#define LODE_STAGES_BENCH_SAMPLE_H

#include "common/outline.h"
#include "kernels/layer.h"
#include "kernels/loss.h"

enum { LODE_SAMPLE_SHAPES = 5, LODE_SAMPLE_WIDE = 5, LODE_SAMPLE_NORMS = 6, LODE_SAMPLE_MOVED = 4 };

/* Linear layers of one shape in a layer. */
typedef struct lode_sample_shape {
    const char *name;            /* "q", "k and v" … */
    const lode_weight_t *weight; /* one of them, NULL where the model has none */
    int count;
} lode_sample_shape_t;

typedef struct lode_sample {
    const lode_architecture_t *architecture;
    lode_dtype_t dtype;
    int64_t tokens, length, layers;
    int threads;
    lode_sequences_t sequences;
    double pairs;        /* of a token and one that it attends to, in all sequences */
    lode_layer_t *layer; /* [layers] */
    lode_activations_t *activations, shared; /* [layers]; and for computing again */
    lode_layer_t narrow;                     /* attention with hardly anything else */
    lode_activations_t narrow_activations;
    lode_weight_t head;
    lode_norm_t final_norm;
    int64_t head_rows; /* of a micro-batch that the head is timed with */
    lode_sample_shape_t shape[LODE_SAMPLE_SHAPES]; /* of layer 0 */
    lode_real_t *x;                                /* [layers + 1, tokens, d] */
    lode_real_t *dy, *narrow_x, *narrow_y;         /* [tokens, d] */
    lode_real_t *wide[LODE_SAMPLE_WIDE];           /* [tokens, widest] any operands */
    lode_real_t *dense;                            /* a float matrix as large as any of a layer */
    /* Of training: all gradients of matrices are added into one such matrix, and those of vectors
     * into one vector, since places do not matter to their speed; and what the optimizer updates.
     */
    lode_layer_gradient_t gradient;
    float *moved[LODE_SAMPLE_MOVED]; /* [moved_count] gradients, weights, first, second moments */
    int64_t moved_count;
    lode_real_t *inverse; /* [tokens · heads] of norms */
    double *sums;         /* [5, m or tokens] */
    int32_t *target;      /* [tokens] */
    lode_real_t *workspace;
    void **owned; /* [owned_count] */
    int64_t owned_count, owned_room;
} lode_sample_t;

/* *out is for lode_sample_free, also after an error. The outline stays in use. Errors:
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_sample_create(lode_sample_t *out, const lode_outline_t *outline,
                                               int64_t tokens, int64_t length, int64_t layers,
                                               int threads);
/* All norms of a layer, those that it does not apply included; the last two are of queries and
 * keys. */
void lode_sample_norms(lode_layer_t *layer, lode_norm_t *norms[LODE_SAMPLE_NORMS]);

void lode_sample_free(lode_sample_t *sample);

#endif
