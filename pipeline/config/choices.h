/* config/choices: the closed sets of values an experiment may choose from, and their spellings.
 *
 * Every set has a table of lode_choice_t; the position in a set is stored nowhere, the spelling is.
 * Everything here is Local.
 */
#ifndef LODE_CONFIG_CHOICES_H
#define LODE_CONFIG_CHOICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/corpus_format.h"
#include "base/entropy_form.h"

/* What a pruned layer keeps first: one score a channel. */
typedef enum lode_method {
    LODE_METHOD_SCAR_LP,
    LODE_METHOD_SCAR_PROT,
    LODE_METHOD_SCAR_CONN,
    LODE_METHOD_LP,
    LODE_METHOD_WANDA_CHANNEL,
    LODE_METHOD_MAGNITUDE,
    LODE_METHOD_ACTIVATION,
    LODE_METHOD_TAYLOR,
    LODE_METHOD_ENTROPY,
    LODE_METHOD_RANDOM,
    LODE_METHOD_SPARSEGPT_CHANNEL,
    LODE_METHOD_FLAP,
    LODE_METHOD_ENTROPY_SQUARE,
    LODE_METHOD_ENTROPY_SOFTMAX,
    LODE_METHOD_ENTROPY_REVERSED,   /* concentrated writers go first */
    LODE_METHOD_MAGNITUDE_REVERSED, /* large weights go first */
} lode_method_t;
enum { LODE_METHOD_COUNT = LODE_METHOD_MAGNITUDE_REVERSED + 1 };

/* Which channels are never removed. DEFAULT is the method's own: the LP core for the scar methods,
 * none for the others. */
typedef enum lode_core {
    LODE_CORE_DEFAULT,
    LODE_CORE_LP,
    LODE_CORE_ACTIVATION,
    LODE_CORE_RANDOM,
    LODE_CORE_NONE,
} lode_core_t;

/* How the removed channels are shared out over layers. */
typedef enum lode_allocation {
    LODE_ALLOCATION_UNIFORM,
    LODE_ALLOCATION_GLOBAL,
} lode_allocation_t;

/* What is done after pruning about what is missing. */
typedef enum lode_compensation {
    LODE_COMPENSATION_NONE,
    LODE_COMPENSATION_BIAS,          /* the removed channels' mean output as a bias */
    LODE_COMPENSATION_LEAST_SQUARES, /* new down weights, every layer by itself */
    LODE_COMPENSATION_SEQUENTIAL,    /* the same, layer by layer on the model as changed so far */
} lode_compensation_t;

/* How a super activation is told from the rest of a layer's values. */
typedef enum lode_spike_rule {
    LODE_SPIKE_RELATIVE, /* so many times the layer's own scale */
    LODE_SPIKE_ABSOLUTE, /* the paper's: above a number */
} lode_spike_rule_t;

/* What is done to the super weights of a model in a variant of it. */
typedef enum lode_experiment {
    LODE_EXPERIMENT_PRUNE,         /* they are zero */
    LODE_EXPERIMENT_RESTORE,       /* they are zero, but the super activations are put back */
    LODE_EXPERIMENT_SCALE,         /* they are multiplied by a factor */
    LODE_EXPERIMENT_OTHERS_TENSOR, /* the largest other weights of each matrix are zero */
    LODE_EXPERIMENT_OTHERS_GLOBAL, /* the largest other weights of the whole model are zero */
} lode_experiment_t;

/* How the integers of weights are chosen. */
typedef enum lode_quantizer {
    LODE_QUANTIZER_RTN, /* asymmetric round-to-nearest */
    LODE_QUANTIZER_LP,  /* the same with bits that follow the loss proxy of channels */
} lode_quantizer_t;

/* Which weights of a matrix share a scale and a minimum. */
typedef enum lode_granularity_kind {
    LODE_GRANULARITY_TENSOR,  /* all of a matrix */
    LODE_GRANULARITY_CHANNEL, /* a row of [out, in] */
    LODE_GRANULARITY_GROUP,   /* N consecutive ones of a row; the last of a row may be shorter */
    LODE_GRANULARITY_BLOCK,   /* N² consecutive ones of the matrix, row after row, the last one
                               * shorter: the paper's blocks of 128² to 1024² */
} lode_granularity_kind_t;

typedef struct lode_granularity {
    lode_granularity_kind_t kind;
    int64_t size; /* N; 0 where the kind has none */
} lode_granularity_t;

/* Which weights keep the checkpoint's precision. */
typedef enum lode_protection {
    LODE_PROTECT_NONE,
    LODE_PROTECT_SUPER_WEIGHT, /* single weights */
    LODE_PROTECT_SUPERNODE,    /* the core's rows of gate and up, and its columns of down */
    LODE_PROTECT_BOTH,
} lode_protection_t;

/* Whether weights beyond mean ± z·std of their block are moved there. */
typedef enum lode_clip {
    LODE_CLIP_NONE,
    LODE_CLIP_SEARCHED, /* z found on the calibration error */
} lode_clip_t;

/* How the inputs of linear layers are rounded to 8 bits: one scale a token or a sequence; HELD
 * leaves the super activation out, SMOOTH moves scales of channels into the weights. */
typedef enum lode_activations_quantized {
    LODE_INPUTS_NONE,
    LODE_INPUTS_TOKEN,
    LODE_INPUTS_TENSOR,
    LODE_INPUTS_TOKEN_HELD,
    LODE_INPUTS_TENSOR_HELD,
    LODE_INPUTS_TOKEN_SMOOTH,
    LODE_INPUTS_TENSOR_SMOOTH,
} lode_activations_quantized_t;

/* Which matrices are quantized. */
typedef enum lode_quantized_tensors {
    LODE_QUANTIZED_ALL, /* the seven of each layer */
    LODE_QUANTIZED_FFN, /* gate, up and down */
} lode_quantized_tensors_t;

/* Type in which the second moments of channels are kept. AUTO keeps them only where something asked
 * for needs them, as float64. */
typedef enum lode_second_moment {
    LODE_SECOND_MOMENT_AUTO,
    LODE_SECOND_MOMENT_FLOAT32,
    LODE_SECOND_MOMENT_FLOAT64,
} lode_second_moment_t;

/* How the correlation of two channels is normalised. */
typedef enum lode_correlation {
    LODE_CORRELATION_SCALE_FREE, /* Pearson's */
    LODE_CORRELATION_NODELENS,   /* with the reference program's constant under the root */
} lode_correlation_t;

/* Matrices whose spectra are taken, m × m a layer. */
typedef enum lode_spectrum {
    LODE_SPECTRUM_Q,     /* correlations of q */
    LODE_SPECTRUM_U,     /* correlations of u */
    LODE_SPECTRUM_WRITE, /* Gram matrix of the write vectors */
} lode_spectrum_t;

/* Causal checks. */
typedef enum lode_probe_check {
    LODE_PROBE_DOSE_RESPONSE,
    LODE_PROBE_RANDOM_CORES,
    LODE_PROBE_SCORE_CORE,
    LODE_PROBE_ABLATION,
    LODE_PROBE_HALO_ABLATION,
    LODE_PROBE_MEAN_REPLACEMENT,
} lode_probe_check_t;

/* Shape of an exported feed-forward block. AUTO slices where all layers keep the same width. */
typedef enum lode_export_layout {
    LODE_EXPORT_AUTO,
    LODE_EXPORT_SLICED,
    LODE_EXPORT_PADDED,
} lode_export_layout_t;

/* What training starts from. */
typedef enum lode_train_from {
    LODE_TRAIN_CHECKPOINT,
    LODE_TRAIN_SCRATCH, /* seeded random weights */
} lode_train_from_t;

/* How the learning rate falls after the warm-up. */
typedef enum lode_train_decay {
    LODE_DECAY_COSINE,
    LODE_DECAY_LINEAR,
    LODE_DECAY_CONSTANT,
} lode_train_decay_t;

/* Type of the weights that training writes. */
typedef enum lode_train_dtype {
    LODE_TRAIN_BF16,
    LODE_TRAIN_F32,
} lode_train_dtype_t;

/* How the weight of the entropy loss goes over all steps. */
typedef enum lode_entropy_schedule {
    LODE_SCHEDULE_CONSTANT,
    LODE_SCHEDULE_LINEAR, /* grows from zero */
    LODE_SCHEDULE_COSINE, /* falls to zero */
} lode_entropy_schedule_t;

/* Which texts of the calibration corpus are used. */
typedef enum lode_select {
    LODE_SELECT_FIRST,
    LODE_SELECT_RANDOM,
} lode_select_t;

/* How texts become sequences. */
typedef enum lode_packing {
    LODE_PACKING_NONE,
    LODE_PACKING_PACKED,
} lode_packing_t;

/* Whether Wanda's input norms count sequences as they are, or padded to full length. */
typedef enum lode_padding {
    LODE_PADDING_NONE,
    LODE_PADDING_EOS,
} lode_padding_t;

/* How the token losses of a sequence are combined. */
typedef enum lode_loss {
    LODE_LOSS_MEAN,
    LODE_LOSS_SUM,
} lode_loss_t;

/* How a perplexity is taken: section 7 of the specification, stages/common/protocol. */
typedef enum lode_protocol {
    LODE_PROTOCOL_GPTQ,
    LODE_PROTOCOL_LLAMA_CPP,
    LODE_PROTOCOL_LM_EVAL,
    LODE_PROTOCOL_NODELENS,
} lode_protocol_t;

/* Whether BOS is put before a text. AUTO leaves it to the tokenizer and to what the text is for. */
typedef enum lode_bos {
    LODE_BOS_AUTO,
    LODE_BOS_ALWAYS,
    LODE_BOS_NEVER,
} lode_bos_t;

/* The spelling of a value in experiment files, variant names and results. Never NULL, static. */
const char *lode_method_name(lode_method_t method);
const char *lode_core_name(lode_core_t core);
const char *lode_allocation_name(lode_allocation_t allocation);
const char *lode_compensation_name(lode_compensation_t compensation);
const char *lode_select_name(lode_select_t select);
const char *lode_packing_name(lode_packing_t packing);
const char *lode_loss_name(lode_loss_t loss);
const char *lode_protocol_name(lode_protocol_t protocol);
const char *lode_bos_name(lode_bos_t bos);
const char *lode_corpus_format_name(lode_corpus_format_t format);
const char *lode_correlation_name(lode_correlation_t correlation);
const char *lode_spectrum_name(lode_spectrum_t spectrum);
const char *lode_probe_check_name(lode_probe_check_t check);
const char *lode_export_layout_name(lode_export_layout_t layout);
const char *lode_experiment_name(lode_experiment_t experiment);
const char *lode_quantizer_name(lode_quantizer_t quantizer);
const char *lode_protection_name(lode_protection_t protection);
const char *lode_clip_name(lode_clip_t clip);
const char *lode_activations_quantized_name(lode_activations_quantized_t activations);
const char *lode_train_from_name(lode_train_from_t from);
const char *lode_train_decay_name(lode_train_decay_t decay);
const char *lode_train_dtype_name(lode_train_dtype_t dtype);
const char *lode_entropy_form_name(lode_entropy_form_t form);
const char *lode_entropy_schedule_name(lode_entropy_schedule_t schedule);

enum {
    LODE_GRANULARITY_NAME = 32, /* bytes of a spelling, NUL included */
    LODE_GRANULARITY_LEAST = 2, /* elements of a group, side of a block */
    LODE_GRANULARITY_MOST_GROUP = 1 << 20,
    LODE_GRANULARITY_MOST_BLOCK = 4096,
};

/* The spelling of a granularity: "tensor", "channel", "group-128", "block-512".
 * name: out, its NUL included. */
void lode_granularity_name(char name[LODE_GRANULARITY_NAME], lode_granularity_t granularity);

/* Reads such a spelling; false, and *out as it was, where it is none or N is out of range. */
bool lode_granularity_parse(lode_granularity_t *out, const char *text);

bool lode_granularity_equal(lode_granularity_t a, lode_granularity_t b);

/* Whether the activations leave the super activation out; whether they need SmoothQuant's scales;
 * whether they have one scale for a sequence. */
bool lode_activations_quantized_held(lode_activations_quantized_t activations);
bool lode_activations_quantized_smooth(lode_activations_quantized_t activations);
bool lode_activations_quantized_tensor(lode_activations_quantized_t activations);

/* Whether the protection keeps super weights; whether it keeps supernodes. */
bool lode_protects_super_weight(lode_protection_t protection);
bool lode_protects_supernode(lode_protection_t protection);

/* One spelling of a set. */
typedef struct lode_choice {
    const char *name; /* NULL ends the table */
    int value;        /* of the enum */
} lode_choice_t;

extern const lode_choice_t lode_method_choices[];
extern const lode_choice_t lode_core_choices[];
extern const lode_choice_t lode_allocation_choices[];
extern const lode_choice_t lode_compensation_choices[];
extern const lode_choice_t lode_select_choices[];
extern const lode_choice_t lode_packing_choices[];
extern const lode_choice_t lode_padding_choices[];
extern const lode_choice_t lode_loss_choices[];
extern const lode_choice_t lode_protocol_choices[];
extern const lode_choice_t lode_bos_choices[];
extern const lode_choice_t lode_corpus_format_choices[];
extern const lode_choice_t lode_second_moment_choices[];
extern const lode_choice_t lode_correlation_choices[];
extern const lode_choice_t lode_spectrum_choices[];
extern const lode_choice_t lode_probe_check_choices[];
extern const lode_choice_t lode_export_layout_choices[];
extern const lode_choice_t lode_spike_rule_choices[];
extern const lode_choice_t lode_experiment_choices[];
extern const lode_choice_t lode_quantizer_choices[];
extern const lode_choice_t lode_protection_choices[];
extern const lode_choice_t lode_clip_choices[];
extern const lode_choice_t lode_activations_quantized_choices[];
extern const lode_choice_t lode_quantized_tensors_choices[];
extern const lode_choice_t lode_train_from_choices[];
extern const lode_choice_t lode_train_decay_choices[];
extern const lode_choice_t lode_train_dtype_choices[];
extern const lode_choice_t lode_entropy_form_choices[];
extern const lode_choice_t lode_entropy_schedule_choices[];

/* The entry of `choices` spelled `name`, NULL where there is none. Static. */
const lode_choice_t *lode_choice_find(const lode_choice_t *choices, const char *name);

#endif
