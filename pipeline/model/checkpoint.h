/* model/checkpoint: a Hugging Face folder: config.json, one or many safetensors files, and perhaps
 * a tokenizer.json; or tensors in memory that are used as if they came from one.
 *
 * Opening reads headers only. Weights are mapped when they are asked for, tensor by tensor, so a
 * rank touches the bytes of its own layers and of nothing else; the handle remembers which tensors
 * were ever mapped. Tensor names may lack the family's prefix. One thread at a time may
 * use a handle. Everything here is Local.
 */
#ifndef LODE_MODEL_CHECKPOINT_H
#define LODE_MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"
#include "model/family.h"
#include "model/tensor.h"

typedef struct lode_checkpoint lode_checkpoint_t;

/* The weights of one layer; shapes in the notation of model/architecture.h. All matrices are
 * [out, in], as y = x·Wᵀ + b wants them; they may be views of a fused or a transposed tensor. data
 * is NULL where the model has none; the order is that of the roles. */
typedef struct lode_layer_weights {
    lode_tensor_t attention_norm, attention_norm_bias; /* [d] */
    lode_tensor_t q;                                   /* [H·a, d] */
    lode_tensor_t k, v;                                /* [G·a, d] */
    lode_tensor_t o;                                   /* [d, H·a] */
    lode_tensor_t q_bias;                              /* [H·a] */
    lode_tensor_t k_bias, v_bias;                      /* [G·a] */
    lode_tensor_t o_bias;                              /* [d] */
    lode_tensor_t q_norm, k_norm;                      /* [H·a] and [G·a], or [a] twice */
    lode_tensor_t attention_post_norm;                 /* [d] */
    lode_tensor_t ffn_norm, ffn_norm_bias;             /* [d] */
    lode_tensor_t gate, up;                            /* [m, d] */
    lode_tensor_t down;                                /* [d, m] */
    lode_tensor_t gate_bias, up_bias;                  /* [m] */
    lode_tensor_t down_bias;                           /* [d] */
    lode_tensor_t ffn_post_norm;                       /* [d] */
} lode_layer_weights_t;

/* The weights of a role of a layer. Local. */
lode_tensor_t *lode_layer_weights_role(lode_layer_weights_t *weights, lode_role_t role);

/* Who uses a tensor: a layer's index from 0, or one of these. */
enum {
    LODE_OWNER_EMBEDDING = -1, /* and learned positions; also the head of a tied model */
    LODE_OWNER_FINAL_NORM = -2,
    LODE_OWNER_HEAD = -3,
    LODE_OWNER_UNUSED = -4, /* in the files, but no part of the computation */
};

enum { LODE_TENSOR_MAX_PARTS = 3 };

/* What a part of a tensor is for. Parts lie along the first stored extent, or along the last one
 * where the tensor is stored transposed. */
typedef struct lode_tensor_part {
    lode_role_t role;
    int64_t begin, count; /* lines of the role's [out, in], or elements of a vector */
} lode_tensor_part_t;

/* One tensor of the checkpoint, used or not. The strings belong to the checkpoint. */
typedef struct lode_tensor_info {
    const char *name;  /* as the file spells it */
    const char *dtype; /* as safetensors spells it; unused tensors may have any */
    int rank;          /* extents, may exceed LODE_TENSOR_MAX_RANK in unused tensors */
    int64_t shape[LODE_TENSOR_MAX_RANK]; /* the leading ones, as they are stored */
    int64_t bytes;
    const char *file; /* path */
    int64_t owner;    /* layer, or LODE_OWNER_… */
    lode_role_t role; /* of the first part; LODE_ROLE_COUNT where unused */
    int part_count;   /* 0 where unused, 1 for most, more for fused tensors */
    lode_tensor_part_t parts[LODE_TENSOR_MAX_PARTS]; /* they cover the tensor, in order */
    bool transposed;                                 /* a matrix stored [in, out] */
    bool mapped_ever;                                /* by this handle */
} lode_tensor_info_t;

/* Opens the folder and proves, without touching weights, that every tensor the architecture needs
 * is there with the right shape and a dtype of F32, F16 or BF16. Prefers model.safetensors to
 * model.safetensors.index.json, as transformers does. The handle goes to lode_checkpoint_close();
 * *out is NULL on failure.
 * Errors: LODE_ERR_INPUT (folder, config.json, weights or a shard missing), LODE_ERR_FORMAT
 * (config.json, index or a header broken; a tensor missing, twice, or not in the shard that the
 * index names), LODE_ERR_SHAPE, LODE_ERR_UNSUPPORTED, LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_checkpoint_open(lode_checkpoint_t **out, const char *folder);

/* Unmaps everything; tensors obtained from the handle are dangling afterwards. NULL is allowed. */
void lode_checkpoint_close(lode_checkpoint_t **checkpoint);

/* A tensor in memory, F32, in its stored shape, under the name with the family's prefix. */
typedef struct lode_memory_tensor {
    const char *name;  /* borrowed for as long as the handle lives */
    const float *data; /* the caller's */
} lode_memory_tensor_t;

/* A checkpoint of such tensors, which need not be all of the architecture's: asking for one of the
 * others is LODE_ERR_INTERNAL. Both the architecture, which is copied, and the names must be of one
 * family; tensors of other names are LODE_ERR_INTERNAL. The handle is for lode_checkpoint_close();
 * it has no folder and no files, no tensors to list, and maps nothing. Errors: also
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_checkpoint_of_memory(lode_checkpoint_t **out,
                                                      const lode_architecture_t *architecture,
                                                      const lode_memory_tensor_t *tensors,
                                                      int64_t count);

/* What config.json says; belongs to the checkpoint. */
const lode_architecture_t *lode_checkpoint_architecture(const lode_checkpoint_t *checkpoint);

/* Maps the weights of `layer` in [0,L) (once; later calls give the same bytes). On failure nothing
 * of the layer stays mapped and *out is zeroed. Errors: LODE_ERR_IO, LODE_ERR_INTERNAL (no such
 * layer). */
LODE_MUST_USE lode_status_t lode_checkpoint_layer(lode_checkpoint_t *checkpoint, int64_t layer,
                                                  lode_layer_weights_t *out);

/* Unmaps the weights of `layer`, if they are mapped; their bytes can be mapped again. */
void lode_checkpoint_release_layer(lode_checkpoint_t *checkpoint, int64_t layer);

/* Maps the token embedding, [V,d]. */
LODE_MUST_USE lode_status_t lode_checkpoint_embedding(lode_checkpoint_t *checkpoint,
                                                      lode_tensor_t *out);

/* Maps the learned positions, [P,d]; {0} where the model has none. */
LODE_MUST_USE lode_status_t lode_checkpoint_positions(lode_checkpoint_t *checkpoint,
                                                      lode_tensor_t *out);

/* Maps the weight of the norm before the head, [d], and its bias; {0} where the model has none. */
LODE_MUST_USE lode_status_t lode_checkpoint_final_norm(lode_checkpoint_t *checkpoint,
                                                       lode_tensor_t *out);
LODE_MUST_USE lode_status_t lode_checkpoint_final_norm_bias(lode_checkpoint_t *checkpoint,
                                                            lode_tensor_t *out);

/* Maps the output head, [V,d]: the embedding where config.json ties them. An lm_head.weight in the
 * files must then hold the same bytes: transformers 4 ignores it, 5 takes it where it differs.
 * Errors: LODE_ERR_IO, LODE_ERR_FORMAT. */
LODE_MUST_USE lode_status_t lode_checkpoint_head(lode_checkpoint_t *checkpoint, lode_tensor_t *out);

/* Bytes of the tensors that are mapped now; windows are whole pages, tensors are what counts. */
int64_t lode_checkpoint_bytes_mapped(const lode_checkpoint_t *checkpoint);

/* Bytes of the tensors that were ever mapped by this handle, each counted once. */
int64_t lode_checkpoint_bytes_mapped_ever(const lode_checkpoint_t *checkpoint);

/* The tensors of all files in the order of their names (bytewise), whatever the sharding: for
 * fingerprints, plans and tests. `index` must be in [0, count). */
int64_t lode_checkpoint_tensor_count(const lode_checkpoint_t *checkpoint);
lode_tensor_info_t lode_checkpoint_tensor_info(const lode_checkpoint_t *checkpoint, int64_t index);

/* Maps the bytes of that tensor, info.bytes of them in row-major order, used or not; they are the
 * checkpoint's, until released. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_checkpoint_tensor_bytes(lode_checkpoint_t *checkpoint,
                                                         int64_t index, const void **bytes);
void lode_checkpoint_release_tensor(lode_checkpoint_t *checkpoint, int64_t index);

/* The folder it was opened with; belongs to the checkpoint. */
const char *lode_checkpoint_folder(const lode_checkpoint_t *checkpoint);

/* Paths of the files that were read or whose weights may be: config.json, the index if there is
 * one, then the safetensors files in the order of their names. The strings belong to the
 * checkpoint; `index` must be in [0, count). */
int64_t lode_checkpoint_file_count(const lode_checkpoint_t *checkpoint);
const char *lode_checkpoint_file_path(const lode_checkpoint_t *checkpoint, int64_t index);

/* Path of tokenizer.json, which belongs to the checkpoint and has not been read. Errors:
 * LODE_ERR_INPUT where the folder had none when it was opened. */
LODE_MUST_USE lode_status_t lode_checkpoint_tokenizer(const lode_checkpoint_t *checkpoint,
                                                      const char **path);

#endif
