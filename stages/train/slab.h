/* stages/train/slab: a stretch of a matrix's elements as rectangles, for datasets in full shape. */
#ifndef LODE_STAGES_TRAIN_SLAB_H
#define LODE_STAGES_TRAIN_SLAB_H

#include <stdint.h>

typedef struct lode_train_slab {
    int64_t offset[2], count[2]; /* rows and columns */
} lode_train_slab_t;

enum { LODE_TRAIN_SLABS = 3 };

/* Covers elements [first, end) of a matrix of `columns` columns, in C order, with rectangles that
 * follow each other in that order; returns how many there are, 0 where the stretch is empty. A
 * vector is a matrix of one row. Local. */
int lode_train_slabs(lode_train_slab_t slabs[LODE_TRAIN_SLABS], int64_t columns, int64_t first,
                     int64_t end);

#endif
