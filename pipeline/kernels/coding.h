/* kernels/coding: what a codec (kernels/codec) makes of parts of lines, for the kernels alone.
 * Everything here is Local. */
#ifndef LODE_KERNELS_CODING_H
#define LODE_KERNELS_CODING_H

#include "kernels/codec.h"

/* The block of element [row, col] of a matrix with `in` columns, and how many elements from there
 * on, of the same row and at most `count`, are in it too. Not for columns' bits. */
typedef struct lode_coding_run {
    int64_t block, count;
    int bits;
} lode_coding_run_t;
lode_coding_run_t lode_coding_run(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col,
                                  int64_t count);

/* The first of codec->held at or after [row, col], held_count where there is none. */
int64_t lode_coding_find(const lode_codec_t *codec, int64_t row, int64_t col);

/* x[i] *= smooth[col + i]. */
void lode_coding_smooth(const lode_codec_t *codec, int64_t col, int64_t count, lode_real_t *x);

/* x [count], stored values of columns [col, col + count) of a row of a matrix with `in` columns, is
 * coded in place, but for held weights. */
void lode_coding_row(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col, int64_t count,
                     lode_real_t *x);

/* Their integers q [count], 0 where there is none; x is smoothed already. */
void lode_coding_integers(const lode_codec_t *codec, int64_t in, int64_t row, int64_t col,
                          int64_t count, const lode_real_t *x, uint8_t *q);

/* out [places] = part of a line as lode_weight_line reads it, coded where the weight has a codec,
 * but for held weights. */
void lode_coding_line(const lode_weight_t *weight, int64_t line, int64_t place, int64_t places,
                      lode_real_t *out);

/* The values of held weights in lines [line, line + lines) × places [place, place + places), into
 * block [lines, places]. */
void lode_coding_hold(const lode_weight_t *weight, int64_t line, int64_t lines, int64_t place,
                      int64_t places, lode_real_t *block);

#endif
