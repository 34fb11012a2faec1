/* model/describe: a model's peculiarities in a line of text, for people. */
#ifndef LODE_MODEL_DESCRIBE_H
#define LODE_MODEL_DESCRIBE_H

#include <stddef.h>

#include "model/architecture.h"

enum { LODE_DESCRIPTION_BYTES = 320 };

/* Writes the model type and, in brackets, whatever differs from a plain Llama: "llama",
 * "gemma2 (gelu_tanh, norms after attention and FFN, …)". Local. */
void lode_architecture_describe(char text[LODE_DESCRIPTION_BYTES],
                                const lode_architecture_t *architecture);

#endif
