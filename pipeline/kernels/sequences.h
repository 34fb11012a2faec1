/* kernels/sequences: the sequences of a micro-batch, one after the other without padding. */
#ifndef LODE_KERNELS_SEQUENCES_H
#define LODE_KERNELS_SEQUENCES_H

#include <stdint.h>

/* Where they begin: sequence s is tokens [offsets[s], offsets[s+1]). */
typedef struct lode_sequences {
    int64_t count;
    const int64_t *offsets; /* [count + 1], offsets[0] = 0 */
} lode_sequences_t;

#endif
