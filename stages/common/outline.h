/* stages/common/outline: a model without its weights: what its config.json says. Everything here is
 * Local. */
#ifndef LODE_STAGES_COMMON_OUTLINE_H
#define LODE_STAGES_COMMON_OUTLINE_H

#include <jansson.h>

#include "base/error.h"
#include "model/architecture.h"
#include "model/tensor.h"

typedef struct lode_outline {
    char *config; /* path of the JSON file */
    char *folder; /* the Hugging Face folder that it belongs to; NULL where it lies alone */
    json_t *json; /* the document */
    lode_architecture_t architecture;
    lode_dtype_t dtype; /* of its weights as the file has it, BF16 where it does not say */
} lode_outline_t;

/* Reads `path`, a JSON file or a folder that holds a config.json; a file of that name is taken to
 * belong to its folder. *out is for lode_outline_close, {0} on failure. Errors: LODE_ERR_INPUT
 * (nothing there) and those of lode_architecture_parse. */
LODE_MUST_USE lode_status_t lode_outline_open(lode_outline_t *out, const char *path);
void lode_outline_close(lode_outline_t *outline); /* leaves {0} */

/* Gives the model another number of layers, in the document and the architecture: further ones are
 * like the first ones, in their order. Errors: LODE_ERR_MEMORY and those of
 * lode_architecture_parse. */
LODE_MUST_USE lode_status_t lode_outline_set_layers(lode_outline_t *outline, int64_t layers);

/* Gives its weights another type, which the document then names. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_outline_set_dtype(lode_outline_t *outline, lode_dtype_t dtype);

/* The type called F32, F16 or BF16; false where it is none of them. */
bool lode_outline_find_dtype(lode_dtype_t *out, const char *name);

#endif
