#include "base/random.h"

#include <stddef.h>
#include <string.h>

static const uint64_t increment = 0x9e3779b97f4a7c15u; /* 2⁶⁴ / golden ratio, odd */

/* The output function of SplitMix64: a bijection of 64-bit words. */
static uint64_t mix(uint64_t word) {
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

static uint64_t absorb(uint64_t key, uint64_t word) {
    return mix((key ^ word) + increment);
}

uint64_t lode_random_key(int64_t seed, const char *purpose, int64_t major, int64_t minor) {
    size_t length = strlen(purpose);
    uint64_t key = absorb(0, (uint64_t)seed);
    for (size_t i = 0; i < length; i++)
        key = absorb(key, (unsigned char)purpose[i]);
    key = absorb(key, length);
    key = absorb(key, (uint64_t)major);
    return absorb(key, (uint64_t)minor);
}

uint64_t lode_random_bits(uint64_t key, uint64_t counter) {
    return mix(key + (counter + 1) * increment);
}

double lode_random_uniform(uint64_t key, uint64_t counter) {
    return (double)(lode_random_bits(key, counter) >> 11) * 0x1p-53;
}

int64_t lode_random_below(uint64_t key, uint64_t counter, int64_t bound) {
    LODE_ASSERT(bound > 0);
    unsigned __int128 product =
        (unsigned __int128)lode_random_bits(key, counter) * (unsigned __int128)bound;
    return (int64_t)(product >> 64);
}

void lode_random_sample(uint64_t key, int64_t *sample, int64_t count, int64_t total) {
    LODE_ASSERT(0 <= count && count <= total);
    int64_t taken = 0;
    for (int64_t i = 0; i < total && taken < count; i++)
        if (lode_random_below(key, (uint64_t)i, total - i) < count - taken)
            sample[taken++] = i;
}
