/* kernels/rope: rotary position embedding (Su et al. 2021) in the half-split pairing of the Hugging
 * Face models: of the first `dims` dimensions of a head, dimension i turns with dimension i +
 * dims/2; the others stay as they are. Everything here is Local. */
#ifndef LODE_KERNELS_ROPE_H
#define LODE_KERNELS_ROPE_H

#include <stdbool.h>

#include "kernels/real.h"
#include "model/rotary.h"

/* Cosines and sines [positions, dims/2], times the attention factor. */
typedef struct lode_rope_table {
    int64_t length; /* for sequences that turn like one of so many tokens */
    const lode_real_t *cosines, *sines;
} lode_rope_table_t;

/* The positions of a model. A few tables serve the sequences' usual lengths; what a sequence turns
 * by depends on its own length alone, never on those beside it. */
enum { LODE_ROPE_TABLES = 2 };
typedef struct lode_rope {
    const lode_rotary_t *rotary; /* NULL: nothing turns; not owned */
    int64_t tables;
    lode_rope_table_t table[LODE_ROPE_TABLES]; /* not owned */
} lode_rope_t;

/* Reals of memory that lode_rope_create wants for sequences of up to `longest` tokens. */
int64_t lode_rope_memory(const lode_rotary_t *rotary, int64_t longest);

/* Describes the positions and fills the tables in `memory`, which stays the caller's and in use. */
lode_rope_t lode_rope_create(const lode_rotary_t *rotary, int64_t longest, lode_real_t *memory);

/* The same description without its tables, to ask lode_rope_workspace. */
lode_rope_t lode_rope_outline(const lode_rotary_t *rotary, int64_t longest);

/* Reals of `workspace` that lode_rope_turn needs for sequences of up to `longest` tokens. */
int64_t lode_rope_workspace(const lode_rope_t *rope, int64_t longest);

/* Turns the queries q [tokens, heads, head_dim] and the keys k [tokens, kv_heads, head_dim] of one
 * sequence in place; token t is at position t. `inverse` turns back instead, with the attention
 * factor once more: that is the gradient. */
void lode_rope_turn(const lode_rope_t *rope, int64_t tokens, int64_t heads, int64_t kv_heads,
                    int64_t head_dim, bool inverse, lode_real_t *q, lode_real_t *k,
                    lode_real_t *workspace);

/* Fills cosines and sines [positions, dims/2] for sequences of `length` tokens, in double. */
void lode_rope_fill(const lode_rotary_t *rotary, int64_t length, int64_t positions,
                    lode_real_t *cosines, lode_real_t *sines);

#endif
