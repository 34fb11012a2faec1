/* training/initialise: normal numbers that depend on a key and a counter alone.
 *
 * Numbers 2k and 2k + 1 are both of a pair that Box and Muller make (A Note on the Generation of
 * Random Normal Deviates, 1958) of draw k of base/random: its high 32 bits the radius, its low 32
 * bits the angle. Logarithm, sine and cosine are series in plain arithmetic, so that the bits do
 * not depend on a library or on how a loop is compiled. The largest magnitude is 6.8. Everything
 * here is Local.
 */
#ifndef LODE_TRAINING_INITIALISE_H
#define LODE_TRAINING_INITIALISE_H

#include <stdint.h>

/* out [count] = deviation · numbers 0 … count − 1 of the stream, rounded once. On as many threads
 * as OpenMP has. */
void lode_normal_fill(float *out, int64_t count, uint64_t key, double deviation);

#endif
