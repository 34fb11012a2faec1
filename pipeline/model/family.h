/* model/family: what tells one model type from another, as tables.
 *
 * A family says which keys of config.json hold which number and what they default to, which of its
 * options this version does not implement, what is the same in all its models, and how its tensors
 * are called, shaped and stored. A new model type is a new entry; the code that reads configs and
 * checkpoints walks the tables and knows no model by name.
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
    bool optional; /* null means 0, that is without it; otherwise null means the preset */
} lode_family_real_t;

/* A truth value in config.json; null means the preset. */
typedef struct lode_family_switch {
    const char *key;
    size_t field; /* offset of a bool in lode_architecture_t */
    bool preset;
} lode_family_switch_t;

/* Values of an option that leave the computation as it is; null and absence always do. */
enum {
    LODE_NEUTRAL_FALSE = 1,
    LODE_NEUTRAL_TRUE = 2,
    LODE_NEUTRAL_ZERO = 4,
    LODE_NEUTRAL_ONE = 8,
    LODE_NEUTRAL_EMPTY = 16, /* [] or {} */
};

/* An option that is refused unless its value is neutral. */
typedef struct lode_family_option {
    const char *key;
    unsigned neutral; /* LODE_NEUTRAL_… or-ed */
} lode_family_option_t;

/* Another name of a key, which transformers reads as the key itself. */
typedef struct lode_family_alias {
    const char *alias, *key;
} lode_family_alias_t;

/* Which layers attend to a window, where config.json has no "layer_types". */
typedef enum lode_family_window {
    LODE_FAMILY_WINDOW_NEVER,     /* "sliding_window" is no option of the family */
    LODE_FAMILY_WINDOW_ALL,       /* all, whatever "layer_types" says */
    LODE_FAMILY_WINDOW_ALTERNATE, /* 0, 2, 4, … */
    LODE_FAMILY_WINDOW_UPPER,     /* from "max_window_layers" on, if "use_sliding_window" */
} lode_family_window_t;

/* What a tensor, or a part of a fused one, is for. The roles of a layer come first. */
typedef enum lode_role {
    LODE_ROLE_ATTENTION_NORM,
    LODE_ROLE_ATTENTION_NORM_BIAS,
    LODE_ROLE_Q,
    LODE_ROLE_K,
    LODE_ROLE_V,
    LODE_ROLE_O,
    LODE_ROLE_Q_BIAS,
    LODE_ROLE_K_BIAS,
    LODE_ROLE_V_BIAS,
    LODE_ROLE_O_BIAS,
    LODE_ROLE_Q_NORM,
    LODE_ROLE_K_NORM,
    LODE_ROLE_ATTENTION_POST_NORM,
    LODE_ROLE_FFN_NORM,
    LODE_ROLE_FFN_NORM_BIAS,
    LODE_ROLE_GATE,
    LODE_ROLE_UP,
    LODE_ROLE_DOWN,
    LODE_ROLE_GATE_BIAS,
    LODE_ROLE_UP_BIAS,
    LODE_ROLE_DOWN_BIAS,
    LODE_ROLE_FFN_POST_NORM,
    LODE_LAYER_ROLES,
    LODE_ROLE_EMBEDDING = LODE_LAYER_ROLES,
    LODE_ROLE_POSITIONS,
    LODE_ROLE_FINAL_NORM,
    LODE_ROLE_FINAL_NORM_BIAS,
    LODE_ROLE_HEAD,
    LODE_ROLE_COUNT,
} lode_role_t;

typedef enum lode_extent {
    LODE_EXTENT_NONE, /* the tensor has fewer dimensions */
    LODE_EXTENT_HIDDEN,
    LODE_EXTENT_INTERMEDIATE,
    LODE_EXTENT_QUERY,     /* H·a */
    LODE_EXTENT_KEY_VALUE, /* G·a */
    LODE_EXTENT_HEAD,      /* a */
    LODE_EXTENT_VOCAB,
    LODE_EXTENT_POSITIONS,
} lode_extent_t;

/* Where a role's weights are. Roles of the same name share one tensor, whose parts lie one after
 * the other in the order of the roles, along the first extent. */
typedef struct lode_family_tensor {
    const char *name;       /* without the family's prefix; # stands for the layer; NULL: never */
    lode_extent_t shape[2]; /* [out, in] of matrices, [extent] of vectors */
    bool transposed;        /* stored [in, out] */
    size_t only_if;         /* offset of a bool in lode_architecture_t; 0: always */
} lode_family_tensor_t;

/* Lists end with an entry whose key is NULL; those that may be empty may be NULL. */
typedef struct lode_family {
    const char *model_type;
    lode_architecture_t constant; /* what is the same in all models of the family */
    const lode_family_size_t *sizes;
    const lode_family_real_t *reals;
    const lode_family_switch_t *switches; /* may be empty, as may the next two */
    const lode_family_option_t *options;  /* of this family, before those refused in all */
    const lode_family_alias_t *aliases;
    const char *heads_key;
    const char *kv_heads_key; /* NULL: as many as heads */
    int64_t kv_heads_preset;  /* where absent; 0, and null: as many as heads */
    const char *head_dim_key; /* NULL: hidden / heads */
    int64_t head_dim_preset;  /* where absent or null; 0: hidden / heads */
    int64_t ffn_multiple;     /* the default of intermediate is this times hidden; 0: none */
    const char *activation_key;
    lode_activation_t activation_preset;
    const char *ffn_bias_key;         /* switches biases of all projections of the FFN; NULL: no */
    const char *attention_scalar_key; /* attention_scale is 1/√ of it; NULL: 1/√a */
    double attention_scalar_preset;
    bool scale_embedding; /* by √d */
    lode_family_window_t window;
    int64_t window_preset;   /* where "sliding_window" is absent; 0 and null: none */
    bool partial_rotary;     /* reads "partial_rotary_factor" */
    unsigned rotary_kinds;   /* bits 1 << lode_rotary_kind_t, 0: no rotary positions */
    int64_t original_preset; /* original_max_position_embeddings; 0: max_position_embeddings */
    const char *tied_key;
    bool tied_preset;
    int32_t bos_preset, eos_preset;
    const char *prefix;                            /* of all tensor names but the head's */
    lode_family_tensor_t tensors[LODE_ROLE_COUNT]; /* by role */
} lode_family_t;

/* The family of a model type. Local. */
const lode_family_t *lode_family(lode_model_type_t model_type);

/* Options that are refused in every family, but for the keys that it reads. Local. */
const lode_family_option_t *lode_family_common_options(void);

/* Whether a family reads a key or has an option of that name, which then is none of the common
 * ones. Local. */
bool lode_family_reads(const lode_family_t *family, const char *key);

/* The key of the number at offset `field` of lode_architecture_t. Local. */
const char *lode_family_size_key(const lode_family_t *family, size_t field);

/* The key of the number of channels. Local. */
const char *lode_family_width_key(const lode_family_t *family);

/* The length of an extent in an architecture. Local. */
int64_t lode_family_extent(const lode_architecture_t *architecture, lode_extent_t extent);

/* What the elements of a vector are where it changes nothing: 1 for the factors of norms, 0 where
 * the architecture adds 1 to them, and for biases. Local. */
float lode_family_neutral(const lode_architecture_t *architecture, lode_role_t role);

/* Whether models of this architecture have weights of a role; a tied head has none. Local. */
bool lode_family_has(const lode_architecture_t *architecture, lode_role_t role);

/* Elements of a role, 0 where there are none. Local. */
int64_t lode_family_elements(const lode_architecture_t *architecture, lode_role_t role);

/* The shape in which the tensor of a role that models of this architecture have is stored, all
 * parts together; the rank, 1 or 2, is returned, and shape[1] is 0 in vectors. Local. */
int lode_family_stored_shape(const lode_architecture_t *architecture, lode_role_t role,
                             int64_t shape[2]);

/* Whether a role is the first of those that share its tensor; false where there is none. Local. */
bool lode_family_leads(const lode_architecture_t *architecture, lode_role_t role);

/* Writes the name of a tensor, `layer` in place of #; `bytes` holds `capacity` bytes, and 128 are
 * enough for every family. `prefixed` chooses the name with the family's prefix. Local. */
void lode_family_tensor_name(char *bytes, size_t capacity, const lode_family_t *family,
                             lode_role_t role, int64_t layer, bool prefixed);

#endif
