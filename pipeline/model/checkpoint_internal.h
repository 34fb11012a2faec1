/* model/checkpoint_internal: what the checkpoint's own files share.
 *
 * checkpoint_files.c knows the folder and its shards, checkpoint.c the tensors in them.
 */
#ifndef LODE_MODEL_CHECKPOINT_INTERNAL_H
#define LODE_MODEL_CHECKPOINT_INTERNAL_H

#include "model/checkpoint.h"
#include "model/safetensors.h"

/* A tensor of any file. */
typedef struct lode_checkpoint_item {
    int64_t file, index;
    int64_t owner;
    int part_count;
    lode_tensor_part_t parts[LODE_TENSOR_MAX_PARTS];
    const char *name;    /* the entry's, or the caller's */
    const float *memory; /* instead of a file's; NULL otherwise */
} lode_checkpoint_item_t;

/* Where the weights of a role are. */
typedef struct lode_checkpoint_slot {
    const lode_checkpoint_item_t *item; /* NULL where the model has none */
    int64_t begin;                      /* of the part */
} lode_checkpoint_slot_t;

struct lode_checkpoint {
    lode_architecture_t architecture;
    bool in_memory;  /* has no files */
    char *folder;    /* in memory, words for it */
    char *tokenizer; /* NULL where there is none */
    char *config;
    char *index; /* NULL where the checkpoint is one file */
    int64_t file_count;
    lode_safetensors_t **files; /* [file_count], by name */
    int64_t item_count;
    lode_checkpoint_item_t *items; /* [item_count], by name */
    bool head_is_tied; /* an lm_head.weight of a tied model was found equal to the embedding */
    lode_checkpoint_slot_t *slots; /* [L · LODE_LAYER_ROLES + the other roles] */
};

/* --- checkpoint_files.c ---------------------------------------------------------------------- */

/* Opens the one file or the shards of the folder. Errors: as lode_checkpoint_open(). Local. */
LODE_MUST_USE lode_status_t lode_checkpoint_open_weights(lode_checkpoint_t *checkpoint);

/* Puts the path of `name` into *out where the folder has such a file, NULL otherwise. *out is the
 * caller's. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_checkpoint_find_file(char **out, const char *folder,
                                                      const char *name);

#endif
