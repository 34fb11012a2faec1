/* base/size: sizes in bytes as people write them. Local. */
#ifndef LODE_BASE_SIZE_H
#define LODE_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* Reads a size: a number, perhaps with a fraction, then nothing or B, or K, M, G or T (powers of
 * 1024), perhaps followed by B or iB. False where the text is something else, or not above 0, or
 * 2⁶³ and more; *bytes is set only where true. */
bool lode_size_parse(int64_t *bytes, const char *text);

#endif
