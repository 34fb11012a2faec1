/* testing/tokenizer_json: the small tokenizers of tests/golden/tokenizer_vectors.json. */
#ifndef LODE_TESTING_TOKENIZER_JSON_H
#define LODE_TESTING_TOKENIZER_JSON_H

#include <jansson.h>

/* One of the file's bases, a tokenizer.json, with members of it and of its model replaced; in
 * model's "vocab", null removes a token. `members` and `model` may be NULL. The result is the
 * caller's; NULL where there is no such base or no such token. */
json_t *lode_test_tokenizer(const json_t *vectors, const char *base, json_t *members,
                            json_t *model);

#endif
