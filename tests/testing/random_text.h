/* testing/random_text: texts that try a tokenizer: mixed scripts, emoji with joiners, stacks of
 * combining marks, control characters and NULs, runs of white space, numbers, code, texts of
 * special tokens and halves of them, escapes of lone surrogates. Text i is the same wherever it is
 * made: tests/golden/tokenizer_corpora.py makes the same ones. Every code point in them is older
 * than Unicode 9, so that tables of all ages agree on it. */
#ifndef LODE_TESTING_RANDOM_TEXT_H
#define LODE_TESTING_RANDOM_TEXT_H

#include <stdint.h>

#include "base/memory.h"

/* Appends text `index` to `text`. */
LODE_MUST_USE lode_status_t lode_test_random_text(lode_buffer_t *text, int64_t index);

enum { LODE_TEST_LONG_TEXTS = 4 };

/* Appends a long text without a place to rest: 0 words without spaces, 1 one letter, 2 Han
 * characters, 3 spaces and newlines. `size` is about how many bytes. */
LODE_MUST_USE lode_status_t lode_test_long_text(lode_buffer_t *text, int kind, int64_t size);

#endif
