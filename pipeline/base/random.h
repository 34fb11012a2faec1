/* base/random: seeded numbers that depend on nothing but a key and a counter.
 *
 * There is no state to carry: draw number i of a stream is a hash of the stream's key and i, so any
 * rank can draw any number in any order and all ranks agree. A key names what the numbers are for
 * ("random score", layer 3), so that two uses of one seed never share a stream. Good enough for
 * sampling and permutations, not for cryptography. Everything here is Local.
 *
 * Draw i is output i of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
 * Generators, OOPSLA 2014) started at the key.
 */
#ifndef LODE_BASE_RANDOM_H
#define LODE_BASE_RANDOM_H

#include <stdint.h>

#include "base/error.h"

/* The key of a stream: `seed` is the experiment's, `purpose` a short fixed text, `major` and
 * `minor` number the streams of one purpose (layer, draw …; 0 where there is one). */
uint64_t lode_random_key(int64_t seed, const char *purpose, int64_t major, int64_t minor);

/* Draw `counter` of the stream: 64 uniform bits. */
uint64_t lode_random_bits(uint64_t key, uint64_t counter);

/* Draw `counter` as a multiple of 2⁻⁵³, uniform in [0, 1). */
double lode_random_uniform(uint64_t key, uint64_t counter);

/* Draw `counter` as an integer uniform in [0, bound); `bound` must be positive. One draw whatever
 * the bound, which leaves a bias below bound / 2⁶⁴. */
int64_t lode_random_below(uint64_t key, uint64_t counter, int64_t bound);

/* A uniform sample of `count` of the integers 0 … total − 1 without repetition.
 *   sample [count] out, ascending; 0 ≤ count ≤ total
 * Takes draws 0 … total − 1 of the stream at most and no memory besides (selection sampling). */
void lode_random_sample(uint64_t key, int64_t *sample, int64_t count, int64_t total);

#endif
