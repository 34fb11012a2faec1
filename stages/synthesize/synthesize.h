/* stages/synthesize: checkpoints of any shape with random weights, to rehearse a job with before
 * the weights are there. */
#ifndef LODE_STAGES_SYNTHESIZE_SYNTHESIZE_H
#define LODE_STAGES_SYNTHESIZE_SYNTHESIZE_H

#include <stdint.h>

#include "base/error.h"
#include "model/tensor.h"

typedef struct lode_synthesize_request {
    const char *model;         /* a config.json, or the folder that has one */
    const char *folder;        /* to be written */
    int64_t layers;            /* 0: those of the model */
    const lode_dtype_t *dtype; /* NULL: what config.json says, else BF16 */
    int64_t seed;
    int64_t shard_bytes; /* of tensors in a file */
    int threads;
} lode_synthesize_request_t;

/* Writes a Hugging Face folder: config.json, weights of synthesize/weights, the tokenizer of the
 * model's folder or else one of single bytes, and lodestone.json, which says how it was made. The
 * folder has its name when it is complete; one that lode has written before is replaced. Equal
 * requests give equal bytes, whatever the threads. Memory: some megabytes.
 * Errors: LODE_ERR_INPUT, LODE_ERR_IO (something is in the way, or too little space, which is
 * looked at first), LODE_ERR_MEMORY and what reading config.json gives. Local. */
LODE_MUST_USE lode_status_t lode_synthesize(const lode_synthesize_request_t *request);

#endif
