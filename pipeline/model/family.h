/* model/family: what tells one model type from another, as tables.
 *
 * A family says which keys of config.json hold which number, which of its options this version
 * does not implement, and how its tensors are called and shaped. A new model type is a new entry;
 * the code that reads configs and checkpoints walks the tables and knows no model by name.
 */
#ifndef LODE_MODEL_FAMILY_H
#define LODE_MODEL_FAMILY_H

#include <stddef.h>
#include <stdint.h>

#include "model/architecture.h"

/* A whole number in config.json. */
typedef struct lode_family_size {
    const char *key;
    size_t field;    /* offset of an int64_t in lode_architecture_t */
    int64_t maximum; /* at least 1, at most this */
    int64_t preset;  /* where the key is absent or null; 0: the key is required */
} lode_family_size_t;

/* A positive real number in config.json. */
typedef struct lode_family_real {
    const char *key;
    size_t field; /* offset of a double in lode_architecture_t */
    double preset;
} lode_family_real_t;

/* Values of an option that leave the computation as it is; null and absence always do. */
enum {
    LODE_NEUTRAL_FALSE = 1,
    LODE_NEUTRAL_ZERO = 2,
    LODE_NEUTRAL_ONE = 4,
    LODE_NEUTRAL_EMPTY = 8,           /* [] or {} */
    LODE_NEUTRAL_FULL_ATTENTION = 16, /* an array of nothing but "full_attention" */
};

/* An option that is refused unless its value is neutral. */
typedef struct lode_family_option {
    const char *key;
    unsigned neutral; /* LODE_NEUTRAL_… or-ed */
} lode_family_option_t;

/* What a tensor is for. The roles of a layer come first. */
typedef enum lode_role {
    LODE_ROLE_INPUT_NORM,
    LODE_ROLE_Q,
    LODE_ROLE_K,
    LODE_ROLE_V,
    LODE_ROLE_O,
    LODE_ROLE_POST_NORM,
    LODE_ROLE_GATE,
    LODE_ROLE_UP,
    LODE_ROLE_DOWN,
    LODE_LAYER_ROLES,
    LODE_ROLE_EMBEDDING = LODE_LAYER_ROLES,
    LODE_ROLE_FINAL_NORM,
    LODE_ROLE_HEAD,
    LODE_ROLE_COUNT,
} lode_role_t;

typedef enum lode_extent {
    LODE_EXTENT_NONE, /* the tensor has fewer dimensions */
    LODE_EXTENT_HIDDEN,
    LODE_EXTENT_INTERMEDIATE,
    LODE_EXTENT_QUERY,     /* H·a */
    LODE_EXTENT_KEY_VALUE, /* G·a */
    LODE_EXTENT_VOCAB,
} lode_extent_t;

typedef struct lode_family_tensor {
    const char *name; /* without the family's prefix; # stands for the layer */
    lode_extent_t shape[2];
} lode_family_tensor_t;

/* Lists end with an entry whose key is NULL. */
typedef struct lode_family {
    const char *model_type;
    const lode_family_size_t *sizes;
    const lode_family_real_t *reals;
    const lode_family_option_t *options;
    const char *activation_key;
    const char *ffn_bias_key; /* whether the FFN's three projections have biases; NULL: never */
    const char *tied_key;
    bool tied_preset;
    int32_t bos_preset, eos_preset;
    const char *prefix;                            /* of all tensor names but the head's */
    lode_family_tensor_t tensors[LODE_ROLE_COUNT]; /* by role */
} lode_family_t;

/* The family of a model type. Local. */
const lode_family_t *lode_family(lode_model_type_t model_type);

/* The length of an extent in an architecture. Local. */
int64_t lode_family_extent(const lode_architecture_t *architecture, lode_extent_t extent);

/* Writes the name of a tensor, `layer` in place of #; `bytes` holds `capacity` bytes, and 128 are
 * enough for every family. `prefixed` chooses the name with the family's prefix. Local. */
void lode_family_tensor_name(char *bytes, size_t capacity, const lode_family_t *family,
                             lode_role_t role, int64_t layer, bool prefixed);

#endif
