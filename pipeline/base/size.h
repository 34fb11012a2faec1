/* base/size: sizes in bytes as people write them. Local. */
#ifndef LODE_BASE_SIZE_H
#define LODE_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* Reads a size: a number, perhaps with a fraction, then nothing or B, or K, M, G or T (powers of
 * 1024), perhaps followed by B or iB. False where the text is something else, or not above 0, or
 * 2⁶³ and more; *bytes is set only where true. */
bool lode_size_parse(int64_t *bytes, const char *text);

/* Writes a size, at least 0, in the unit, a power of 1000, that fits it: "512 B", "3.15 MB",
 * "12.34 GB". Returns text. */
enum { LODE_SIZE_TEXT = 32 };
const char *lode_size_text(char text[LODE_SIZE_TEXT], double bytes);

#endif
