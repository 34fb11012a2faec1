/* kernels/codec: weights as a quantized matrix has them, without ever holding that matrix.
 *
 * A codec belongs to a weight (kernels/weight). Wherever the weight is read, each element x becomes
 *
 *   q = rint((x − minimum) / scale), held to 0 … 2^bits − 1, ties to even
 *   x̂ = scale·q + minimum, and x̂ = minimum where scale is 0
 *
 * with the scale and minimum of its block, in float32, each operation rounded by itself, and x̂ is
 * then rounded to the dtype of the checkpoint. So products, written folders and audits see the same
 * bits. Everything is of the matrix as used: [out, in], after a selection of rows or columns.
 *
 * In order: x is the stored value; where there is a smoothing it is multiplied by smooth[column];
 * it is rounded as above unless it is kept or in a block of 16 bits; it is rounded to the dtype, to
 * nearest, ties to even, and what is finite stays finite: beyond the largest number of the dtype it
 * becomes that. Held weights take their value instead of x, are smoothed and rounded to the dtype.
 *
 * Everything here is Local.
 */
#ifndef LODE_KERNELS_CODEC_H
#define LODE_KERNELS_CODEC_H

#include "base/error.h"
#include "config/choices.h"
#include "kernels/weight.h"

/* A single weight of the matrix as used: one that has another value, or stays as it is; or one
 * whose product with its input is added (kernels/layer.h). */
typedef struct lode_held {
    int32_t row, col;
    float value; /* before any smoothing */
} lode_held_t;

/* No array is owned. */
typedef struct lode_codec {
    int bits;                       /* 2 … 8; 0: nothing is rounded, `held` and `smooth` apply */
    lode_granularity_t granularity; /* what a block is */
    const float *scale, *minimum;   /* [blocks] */
    /* Mixed precision: bits of each row [out], or of each column [in] (2 … 8, or 16: as stored).
     * The blocks are then these rows or columns, and bits and granularity are not read. At most one
     * of them is not NULL. */
    const uint8_t *row_bits, *col_bits;
    const uint8_t *keep_row, *keep_col; /* [out], [in]: 1 where all stays as stored; NULL: none */
    const lode_held_t *held;            /* ascending (row, col), each place once */
    int64_t held_count;
    const float *smooth; /* [in] weights are multiplied by it first, and the input codec divides by
                            it (SmoothQuant); NULL: none */
    lode_dtype_t dtype;  /* x̂ is rounded to it: the checkpoint's, what a written folder holds */
} lode_codec_t;

/* Whether it can change anything. */
bool lode_codec_changes(const lode_codec_t *codec);

/* Blocks of an [out, in] matrix, which are numbered in the order of their first elements; 0 where
 * nothing is rounded. */
int64_t lode_codec_blocks(const lode_codec_t *codec, int64_t out, int64_t in);

/* Sets scale and minimum [blocks] out so that each block's elements span 0 … 2^bits − 1. Elements
 * that are kept or held take no part; where none does, and in blocks of 16 bits, both are 0.
 * `clip`: with z, elements are first clipped to mean ± z·std of their block (population std;
 * float64 sums in an order that depends on the matrix alone; bounds rounded to float32); INFINITY:
 * not at all. Reads all of the codec but scale and minimum; weight->codec is not read. The matrix
 * is streamed, no room is needed.
 * Errors: LODE_ERR_NUMERIC for a weight that is not finite, with its row and column, and for blocks
 * that are wider than float32; name the tensor with lode_fail_context. */
LODE_MUST_USE lode_status_t lode_codec_fit(const lode_codec_t *codec, const lode_weight_t *weight,
                                           double clip, float *scale, float *minimum);

/* out [rows, cols] = rows [row, row + rows) × columns [col, col + cols) of a weight, coded where it
 * has a codec: what products use and folders hold. */
void lode_codec_read(const lode_weight_t *weight, int64_t row, int64_t rows, int64_t col,
                     int64_t cols, lode_real_t *out);

/* The integers q of the same part [rows, cols] of a weight with a codec that rounds; 0 where
 * elements are kept, held, or in blocks of 16 bits or of scale 0. */
void lode_codec_integers(const lode_weight_t *weight, int64_t row, int64_t rows, int64_t col,
                         int64_t cols, uint8_t *q);

#endif
