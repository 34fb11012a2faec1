/* model/rotary: rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and the ways in which
 * checkpoints stretch them, as numbers. Everything here is Local.
 *
 * Dimension i of the first `dims` of a head turns with dimension i + dims/2 by the angle
 * position · frequency[i]; cosines and sines are multiplied by the attention factor. The other
 * dimensions of the head stay as they are.
 */
#ifndef LODE_MODEL_ROTARY_H
#define LODE_MODEL_ROTARY_H

#include <stdbool.h>
#include <stdint.h>

/* "rope_type" of config.json; the order is not stored anywhere. */
typedef enum lode_rotary_kind {
    LODE_ROTARY_NONE,     /* the model has no rotary positions */
    LODE_ROTARY_DEFAULT,  /* θ^(−2i/dims) */
    LODE_ROTARY_LINEAR,   /* … / factor */
    LODE_ROTARY_DYNAMIC,  /* NTK: θ grows with the length of sequences beyond original_positions */
    LODE_ROTARY_LLAMA3,   /* long wavelengths / factor, short ones kept, a ramp between */
    LODE_ROTARY_YARN,     /* arXiv:2309.00071 */
    LODE_ROTARY_LONGROPE, /* arXiv:2402.13753: a divisor for each frequency */
    LODE_ROTARY_KINDS,
} lode_rotary_kind_t;

enum { LODE_ROTARY_MAX_FREQUENCIES = 256 };

typedef struct lode_rotary {
    lode_rotary_kind_t kind;
    int64_t dims;               /* turned dimensions of a head, even, at most the head's */
    double theta;               /* base of the frequencies */
    double factor;              /* linear, dynamic, llama3, yarn */
    double low_frequency;       /* llama3: low_freq_factor */
    double high_frequency;      /* llama3: high_freq_factor */
    double beta_fast;           /* yarn: turns in original_positions from where nothing is scaled */
    double beta_slow;           /* yarn: turns up to which everything is */
    bool truncate;              /* yarn: the ramp begins and ends at whole dimensions */
    int64_t original_positions; /* dynamic, llama3, yarn, longrope: tokens, as in pretraining */
    double attention_factor;    /* of cosines and sines; 1 but for yarn and longrope */
    double short_factor[LODE_ROTARY_MAX_FREQUENCIES]; /* longrope: divisors [dims/2] up to
                                                         original_positions tokens … */
    double long_factor[LODE_ROTARY_MAX_FREQUENCIES];  /* … and beyond */
} lode_rotary_t;

/* Writes frequencies [dims/2], radians a position, for a sequence of `length` tokens, and the
 * attention factor into *attention_factor (may be NULL). Formulas and their order as in
 * transformers' modeling_rope_utils.py, in double. */
void lode_rotary_frequencies(const lode_rotary_t *rotary, int64_t length, double *frequencies,
                             double *attention_factor);

/* Whether sequences of `one` and `other` tokens turn by different frequencies; only dynamic and
 * longrope positions depend on the length. */
bool lode_rotary_differs(const lode_rotary_t *rotary, int64_t one, int64_t other);

/* "default", "linear", … as config.json spells them; "none" for LODE_ROTARY_NONE. */
const char *lode_rotary_name(lode_rotary_kind_t kind);

#endif
