/* text/utf8: decoding and checking UTF-8, and the few character classes that texts need.
 * Everything here is Local and pure. */
#ifndef LODE_TEXT_UTF8_H
#define LODE_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Decodes the sequence that starts at bytes[0] of `size` ≥ 1 bytes. Returns its length, 1 to 4, and
 * stores the code point; 0 where the sequence is not valid UTF-8 (RFC 3629: no overlong form, no
 * surrogate, nothing above U+10FFFF, no truncation). */
int lode_utf8_decode(const char *bytes, size_t size, uint32_t *code_point);

/* Writes the 1 to 4 bytes of a valid code point; returns how many. */
int lode_utf8_encode(uint32_t code_point, char bytes[4]);

/* Bytes of the sequence that `lead` starts, in text known to be valid. */
static inline size_t lode_utf8_length(char lead) {
    unsigned char byte = (unsigned char)lead;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* Checks a whole text. `name` (a path, or what the text is) opens the message.
 * Errors: LODE_ERR_FORMAT, naming the offset and the value of the first byte that cannot be. */
LODE_MUST_USE lode_status_t lode_utf8_check(const char *bytes, size_t size, const char *name);

/* Refuses a document that begins with a byte order mark, which no JSON may and nobody can see in a
 * message that quotes it. Errors: LODE_ERR_FORMAT, naming the remedy. */
LODE_MUST_USE lode_status_t lode_utf8_check_start(const char *bytes, size_t size, const char *name);

/* Code points of a valid text. */
int64_t lode_utf8_count(const char *bytes, size_t size);

/* The Unicode property White_Space. */
bool lode_utf8_is_space(uint32_t code_point);

/* Whether a valid text has nothing but white space: Python's str.isspace, or empty. That is
 * White_Space and the separators U+001C to U+001F. */
bool lode_utf8_is_blank(const char *bytes, size_t size);

#endif
