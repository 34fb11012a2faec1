/* text/field: members of a JSON object, with their types checked.
 *
 * `where` says which file and which part of it the object is ("tokenizer.json: model"); it opens
 * every message. Values stay the JSON's. Every error is LODE_ERR_FORMAT. Everything here is Local.
 */
#ifndef LODE_TEXT_FIELD_H
#define LODE_TEXT_FIELD_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* `value` itself must be of `type` ("object", "array" …); `what` names it in the message. */
LODE_MUST_USE lode_status_t lode_field_expect(const json_t *value, json_type type, const char *what,
                                              const char *where);

/* The member `key`, of `type`; an error where it is missing. */
LODE_MUST_USE lode_status_t lode_field_get(json_t **out, const json_t *object, const char *key,
                                           json_type type, const char *where);

/* The same where the member may be missing or null: *out is then NULL. */
LODE_MUST_USE lode_status_t lode_field_find(json_t **out, const json_t *object, const char *key,
                                            json_type type, const char *where);

/* A required string; *length (may be NULL) counts its bytes, which may include NULs. */
LODE_MUST_USE lode_status_t lode_field_string(const char **out, size_t *length,
                                              const json_t *object, const char *key,
                                              const char *where);

/* A boolean; `fallback` where it is missing or null. */
LODE_MUST_USE lode_status_t lode_field_bool(bool *out, const json_t *object, const char *key,
                                            bool fallback, const char *where);

enum { LODE_TOKEN_ID_LIMIT = 1 << 22 }; /* no vocabulary comes near; bounds what a file can ask */

/* `value` as a token id: an integer of at least 0 and below LODE_TOKEN_ID_LIMIT. `token` names
 * whose id it is. */
LODE_MUST_USE lode_status_t lode_field_id(int32_t *out, const json_t *value, const char *token,
                                          const char *where);

#endif
