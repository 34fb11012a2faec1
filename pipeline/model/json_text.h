/* model/json_text: JSON documents that come from outside, and how messages quote them. */
#ifndef LODE_MODEL_JSON_TEXT_H
#define LODE_MODEL_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Parses `size` bytes that must be one JSON object without repeated keys; *out is the caller's to
 * json_decref() and NULL on failure. `name` stands for the document in messages. Errors:
 * LODE_ERR_FORMAT, naming line and column. Local. */
LODE_MUST_USE lode_status_t lode_json_text_object(json_t **out, const char *bytes, size_t size,
                                                  const char *name);

/* The indented text of a document, its real numbers as short as they read back to the same bits, so
 * that 1e-05 stays that; the caller's, NULL without memory. Local. */
char *lode_json_text_dump(const json_t *root);

/* Whether a string holds control characters, which no message could quote safely. Local. */
bool lode_json_text_has_control(const char *text);

#endif
