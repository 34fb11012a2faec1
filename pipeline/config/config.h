/* config/config: experiment files.
 *
 * An experiment is libconfig text. Loading checks all of it against one table of keys
 * (config/schema.h), fills in the defaults, and leaves a plain struct. Every error is
 * LODE_ERR_CONFIG and reads
 *     exp.cfg:12: calibration.sequnces: unknown key; did you mean "sequences"?
 * with the file that holds the line, also where it came by @include; a value given with --set is
 * named by its argument instead. A file that cannot be read is LODE_ERR_INPUT, a --set argument
 * without a key is LODE_ERR_USAGE, and any function here may return LODE_ERR_MEMORY.
 * Everything here is Local.
 */
#ifndef LODE_CONFIG_CONFIG_H
#define LODE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "config/choices.h"

/* A Hugging Face folder, perhaps one of a series that shows a model at several steps. */
typedef struct lode_config_model {
    char *name;
    char *path;
    char *steps;  /* of an experiment file: the folder above those of a series; "" once read */
    char *series; /* "" for none */
    int64_t step; /* of the series, −1 for none */
} lode_config_model_t;

typedef struct lode_config_decay {
    double matrices;
    double embeddings; /* of tokens and positions, and the head */
    double vectors;    /* norms and biases */
} lode_config_decay_t;

typedef struct lode_config_init {
    double deviation;
    bool depth; /* output projections divided by √(2L) */
} lode_config_init_t;

typedef struct lode_config_validation {
    char *corpus; /* "" for none */
    lode_corpus_format_t format;
    char *field; /* of a jsonl line */
    int64_t sequences;
    int64_t every; /* steps; 0: only before the first and after the last */
} lode_config_validation_t;

/* A tokenizer of one's own, for models from scratch. */
typedef struct lode_config_tokenizer {
    int64_t vocabulary; /* 0: none is made */
    int64_t sample;     /* bytes of text at most, 0 for all */
} lode_config_tokenizer_t;

/* The entropy of the channels' outgoing weights in the loss. */
typedef struct lode_config_entropy {
    double weight; /* λ */
    lode_entropy_form_t form;
    lode_entropy_schedule_t schedule;
    int64_t *layers;
    int64_t layer_count; /* 0: all of the model */
} lode_config_entropy_t;

/* How models are trained. */
typedef struct lode_config_train {
    int64_t steps; /* 0: nothing is trained */
    lode_train_from_t from;
    char *corpus;
    lode_corpus_format_t format;
    char *field;    /* of a jsonl line */
    int64_t length; /* tokens of a sequence */
    int64_t batch;  /* sequences of a step */
    int64_t groups; /* of the micro-batches of a step */
    double learning_rate;
    int64_t warmup; /* steps */
    lode_train_decay_t decay;
    double final; /* share of the rate at the end */
    double beta1, beta2, epsilon;
    double clip; /* of the gradient's norm, 0 for none */
    lode_config_decay_t weight_decay;
    lode_config_init_t init;
    int64_t *checkpoints; /* ascending; with lode_config_checkpoint_at() the last step too */
    int64_t checkpoint_count;
    lode_train_dtype_t dtype;
    int64_t save;    /* steps between states */
    bool keep_state; /* that of the last step */
    lode_config_validation_t validation;
    lode_config_tokenizer_t tokenizer;
    lode_config_entropy_t entropy;
} lode_config_train_t;

/* The sequences that statistics are taken over. */
typedef struct lode_config_calibration {
    char *corpus; /* may be "" where there is merged */
    lode_corpus_format_t format;
    char *field; /* of a jsonl line */
    lode_select_t select;
    int64_t sequences;
    int64_t max_length; /* tokens, BOS included */
    lode_packing_t packing;
    lode_padding_t padding;
    lode_loss_t loss;
    int64_t keep_logits; /* first sequences whose logits are kept */
    lode_second_moment_t second_moment;
    char *merged; /* folder above those of merged statistics, "" for none */
} lode_config_calibration_t;

/* Sequences and rules of the redundancy between channels. */
typedef struct lode_config_redundancy {
    int64_t sequences;  /* the first of the calibration */
    int64_t max_length; /* tokens of each */
    int64_t top_k;      /* largest core redundancies averaged */
    bool positive_only;
    lode_correlation_t correlation;
} lode_config_redundancy_t;

/* Protection of halo channels: floor + (1 − floor) · (1 − rank^power). */
typedef struct lode_config_protection {
    double floor;
    double power;
} lode_config_protection_t;

/* What halo and core are compared with. */
typedef struct lode_config_controls {
    int64_t channels; /* random ones outside core and halo, of a layer */
    int64_t draws;    /* of every bootstrap and of random sets */
    bool nodelens;    /* redundancies in NodeLens's form too */
    bool read_halo;   /* connectivity by what the next layer reads */
} lode_config_controls_t;

typedef struct lode_config_classify {
    double core_fraction;
    double halo_fraction;
    int64_t write_support; /* rows; 0 = a sixteenth of the model's hidden size */
    lode_config_redundancy_t redundancy;
    lode_config_protection_t protection;
    lode_config_controls_t controls;
    lode_spectrum_t *spectra;
    int64_t spectra_count; /* may be 0 */
} lode_config_classify_t;

/* Variants are the product of the lists. No list holds a value twice. */
typedef struct lode_config_prune {
    lode_method_t *methods;
    int64_t method_count; /* may be 0: nothing is pruned */
    lode_core_t *cores;
    int64_t core_count;
    double *sparsity; /* in (0, 1) */
    int64_t sparsity_count;
    lode_allocation_t *allocation;
    int64_t allocation_count;
    lode_compensation_t *compensation;
    int64_t compensation_count;
    double ridge;
    double floor; /* share of its channels every layer keeps under global allocation */
} lode_config_prune_t;

/* One perplexity, of every variant or of the unpruned model alone. */
typedef struct lode_config_perplexity {
    char *name;
    char *corpus;
    lode_corpus_format_t format;
    char *field; /* of a jsonl line */
    lode_protocol_t protocol;
    lode_bos_t bos;
    int64_t length; /* tokens of a window */
    bool pruned;    /* of pruned variants too */
} lode_config_perplexity_t;

/* One set of questions or last words, of every variant or of the unpruned model alone. */
typedef struct lode_config_task {
    char *name;
    char *path;
    int64_t limit; /* first items taken, 0 for all */
    int64_t shots; /* solved items before each */
    lode_bos_t bos;
    bool pruned; /* of pruned variants too */
} lode_config_task_t;

typedef struct lode_config_evaluate {
    lode_config_perplexity_t *perplexity;
    int64_t perplexity_count; /* may be 0 */
    lode_config_task_t *tasks;
    int64_t task_count; /* may be 0 */
} lode_config_evaluate_t;

/* Causal checks. Texts are those of a corpus of their own or else the calibration's. */
typedef struct lode_config_probe {
    lode_probe_check_t *checks;
    int64_t check_count; /* may be 0 */
    char *perplexity;    /* name of an evaluate.perplexity, "" for the first */
    char *corpus;        /* "" for the calibration sequences */
    lode_corpus_format_t format;
    char *field; /* of a jsonl line */
    int64_t sequences;
    int64_t max_length; /* tokens, BOS included */
    double sparsity;
    double *rates; /* shares of the core removed by the dose response */
    int64_t rate_count;
    int64_t draws;
    int64_t random_cores;
    int64_t layer_step; /* every so manieth layer is ablated, from the first */
    int64_t channels;   /* ablated of a layer */
    int64_t bins;       /* quantiles of log loss proxy they are drawn from */
    int64_t halo_sequences;
    int64_t halo_max_length;
} lode_config_probe_t;

/* How super weights are found, what is tried with them, and the texts of stopword probabilities. */
typedef struct lode_config_superweight {
    char **prompts;
    int64_t prompt_count; /* 0: nothing is looked for */
    lode_bos_t bos;
    lode_spike_rule_t rule;
    double ratio;    /* of a spike to the layer's scale, relative rule */
    double absolute; /* of a spike, absolute rule */
    double product;  /* least share of an output spike that one product explains */
    int64_t limit;   /* weights found */
    lode_experiment_t *experiments;
    int64_t experiment_count; /* may be 0 */
    double *scales;           /* factors of the experiment scale */
    int64_t scale_count;
    double others_fraction; /* of each matrix */
    int64_t others_least;   /* of each matrix */
    int64_t others_count;   /* of the whole model */
    char *stopwords;        /* file, "" for none */
    char *corpus;           /* texts of the stopword probabilities, "" for none */
    lode_corpus_format_t format;
    char *field; /* of a jsonl line */
    int64_t sequences;
    int64_t max_length; /* tokens, BOS included */
    char *known;        /* file of published coordinates, "" for none */
} lode_config_superweight_t;

/* Quantized variants are the product of the lists. No list holds a value twice. */
typedef struct lode_config_quantize {
    lode_quantizer_t *methods;
    int64_t method_count; /* may be 0: nothing is quantized */
    int64_t *bits;
    int64_t bit_count;
    lode_granularity_t *granularity;
    int64_t granularity_count;
    lode_clip_t *clip;
    int64_t clip_count;
    double *z; /* candidates of the search */
    int64_t z_count;
    lode_protection_t *protection;
    int64_t protection_count;
    lode_activations_quantized_t *activations;
    int64_t activation_count;
    double smooth;     /* exponent α of SmoothQuant */
    int64_t sequences; /* the first of the calibration */
    lode_quantized_tensors_t tensors;
    bool pruned;    /* pruned variants are quantized too */
    int64_t budget; /* bytes of the joint plan, 0 for none */
} lode_config_quantize_t;

/* Another folder of a model, whoever has made it. */
typedef struct lode_config_folder {
    char *name;
    char *path;
    char *model; /* of the experiment that it is a version of; "" for every one */
} lode_config_folder_t;

typedef struct lode_config_audit {
    lode_config_folder_t *folders;
    int64_t folder_count; /* may be 0 */
    bool loss_proxy;      /* is measured again in each folder */
} lode_config_audit_t;

/* A variant to be written as a Hugging Face folder. */
typedef struct lode_config_export {
    char *variant; /* as named in results, or "dense" */
    char *path;
    lode_export_layout_t layout;
    bool codes; /* of quantized weights, beside them */
} lode_config_export_t;

/* One swept key. The values are libconfig text, as lode_config_text writes them. */
typedef struct lode_config_sweep {
    char *key; /* with indices of list elements: evaluate.perplexity.[0].length */
    char **values;
    int64_t value_count;
} lode_config_sweep_t;

/* A whole experiment, everything resolved; owns all it points to. Paths are expanded. */
typedef struct lode_config {
    char *name;
    int64_t seed;
    char *results;
    int64_t threads;     /* of a rank */
    int64_t memory;      /* private bytes of a rank */
    int64_t micro_batch; /* tokens */
    int64_t replicas;    /* 0 = automatic */
    lode_config_model_t *models;
    int64_t model_count;          /* at least 1 */
    lode_config_model_t *trained; /* what training will write; of a point of a sweep alone */
    int64_t trained_count;
    lode_config_train_t train;
    lode_config_calibration_t calibration;
    lode_config_classify_t classify;
    lode_config_superweight_t superweight;
    lode_config_prune_t prune;
    lode_config_quantize_t quantize;
    lode_config_evaluate_t evaluate;
    lode_config_probe_t probe;
    lode_config_audit_t audit;
    lode_config_export_t *exports;
    int64_t export_count;
    lode_config_sweep_t *sweep;
    int64_t sweep_count;
    struct lode_config_places *places; /* where each key was written, for later messages */
} lode_config_t;

/* One point of a sweep. */
typedef struct lode_config_point {
    char *label;           /* "key=value,key=value", a safe file name; "" without a sweep */
    lode_config_t *config; /* has no sweep */
} lode_config_point_t;

/* Reads an experiment file. *out is the caller's, NULL on failure.
 * path: in; @include "file" in it is relative to the including file, or to the working directory
 * where there is none of the name beside that. overrides: in, [override_count] arguments of --set,
 * "key.path=value", applied in order over the file. The value is libconfig text or else a bare
 * string; an element of a list is addressed by its index, "models.[0].path=…"; a single value is
 * accepted for a list of them. */
LODE_MUST_USE lode_status_t lode_config_load(lode_config_t **out, const char *path,
                                             const char *const *overrides, int64_t override_count);

/* The same of a text in memory, which messages call `origin`; there is no @include in it. */
LODE_MUST_USE lode_status_t lode_config_load_text(lode_config_t **out, const char *text,
                                                  const char *origin, const char *const *overrides,
                                                  int64_t override_count);

/* Reads the text that lode_config_text wrote, on this rank or another: paths are taken as they
 * stand and there is no @include. *out is the caller's, NULL on failure.
 * text: in, [size] bytes, no NUL needed; origin: in, what messages call the text. */
LODE_MUST_USE lode_status_t lode_config_parse(lode_config_t **out, const char *text, size_t size,
                                              const char *origin);

/* Appends the resolved experiment as libconfig text, the same bytes for equal experiments: every
 * key in the table's order, numbers to their last bit. Parsing it gives an equal experiment. */
LODE_MUST_USE lode_status_t lode_config_text(const lode_config_t *config, lode_buffer_t *text);

/* The points of the sweep: the product of its keys, the last key fastest; without a sweep one
 * point, labelled "". Of paths the label has the last part, where that tells them apart; a value
 * that cannot stand in a file name is altered in the label and told apart by a digest. Where models
 * are trained, each point has the list of those that come of it, if they are measured, and a model
 * that is trained from its checkpoint is step 0 of the series of its name. *points, [*count], is
 * the caller's, for lode_config_points_destroy. */
LODE_MUST_USE lode_status_t lode_config_expand(const lode_config_t *config,
                                               lode_config_point_t **points, int64_t *count);
void lode_config_points_destroy(lode_config_point_t **points, int64_t count);

/* Whether there is a text, or merged statistics, to measure models on. Where not, the experiment
 * trains models from scratch, and that is all. */
bool lode_config_measures(const lode_config_t *config);

/* The models of a point: those of the experiment, then what training writes of each of them, by
 * model and ascending by step. 0 ≤ index < total. */
int64_t lode_config_model_total(const lode_config_t *config);
const lode_config_model_t *lode_config_model_at(const lode_config_t *config, int64_t index);

/* Whether the model is trained: training is asked for, and the model is one of the experiment's. */
bool lode_config_is_trained(const lode_config_t *config, const lode_config_model_t *model);

/* Whether it is trained from scratch, so that its folder need not have weights, and no stage but
 * those that train runs on it. */
bool lode_config_is_scratch(const lode_config_t *config, const lode_config_model_t *model);

/* The model that another one is a checkpoint of, NULL where `model` is not in config->trained. */
const lode_config_model_t *lode_config_trained_from(const lode_config_t *config,
                                                    const lode_config_model_t *model);

/* Whether `only`, the name of a model or of a series, or NULL for all, takes the model: it is
 * called so, is one of a series that is, or is a checkpoint of a model that is. */
bool lode_config_selects(const lode_config_t *config, const char *only,
                         const lode_config_model_t *model);

/* The steps at which folders are written, ascending, the last step among them; 0 in all where
 * nothing is trained. 0 ≤ index < total. */
int64_t lode_config_checkpoint_total(const lode_config_t *config);
int64_t lode_config_checkpoint_at(const lode_config_t *config, int64_t index);

/* Appends the name of the folder of a step, "step-000043". */
LODE_MUST_USE lode_status_t lode_config_step_name(lode_buffer_t *text, int64_t step);

/* Sequences of a micro-batch of training, and micro-batches of a step. */
int64_t lode_config_train_rows(const lode_config_t *config);
int64_t lode_config_train_batches(const lode_config_t *config);

/* Adds the keys that decide the numbers of `stage` ("tokenizer", "tokenize", "train", "calibrate",
 * "accumulate", "moments", "classify", "superweight", "spectra", "prune", "compensate", "quantize",
 * "evaluate", "probe", "export", "audit") beyond what the stages before it wrote; never names of
 * the experiment or of models, paths, memory or replicas. Another stage is LODE_ERR_USAGE. */
LODE_MUST_USE lode_status_t lode_config_stage_hash(const lode_config_t *config, const char *stage,
                                                   lode_hash_t *hash);

/* Adds the keys of training that decide its weights after any number of steps: those of the stage
 * train but for what it writes and measures, and for train.steps where neither the learning rate
 * nor the weight of the entropy depends on it. */
LODE_MUST_USE lode_status_t lode_config_weights_hash(const lode_config_t *config,
                                                     lode_hash_t *hash);

/* Appends the first of the keys that decide the numbers of `stage` in which two experiments differ,
 * with its two values: "calibration.loss is \"mean\" and \"sum\""; nothing where they agree. Keys
 * of lists of groups are left out. Another stage is LODE_ERR_USAGE. */
LODE_MUST_USE lode_status_t lode_config_stage_difference(const lode_config_t *a,
                                                         const lode_config_t *b, const char *stage,
                                                         lode_buffer_t *text);

/* Whether variants need super weights: experiments with them, or a quantization that protects them
 * or holds their activations. */
bool lode_config_needs_superweights(const lode_config_t *config);

/* Whether quantized variants do, by what they protect or hold. */
bool lode_config_quantizes_superweights(const lode_config_t *config);

/* Checks what depends on a model: no sequence or window longer than its max_position_embeddings
 * (`max_positions`, tokens), write support below its hidden size (`hidden`, channels).
 * model_name: in, for the message. */
LODE_MUST_USE lode_status_t lode_config_check_model(const lode_config_t *config,
                                                    int64_t max_positions, int64_t hidden,
                                                    const char *model_name);

/* Checks what training wants of a model: sequences within its positions, the layers of the entropy
 * within its `layers`, a vocabulary of one's own within its `vocab` tokens. Nothing where nothing
 * is trained. model_name: in, for the message. */
LODE_MUST_USE lode_status_t lode_config_check_training(const lode_config_t *config,
                                                       int64_t max_positions, int64_t layers,
                                                       int64_t vocab, const char *model_name);

/* Checks that the model has a BOS wherever a text is to begin with it (bos = "always").
 * bos: in, token id, −1 for none; model_name: in, for the message. */
LODE_MUST_USE lode_status_t lode_config_check_bos(const lode_config_t *config, int32_t bos,
                                                  const char *model_name);

/* Where the key at an indexed path ("models.[0].path") was written, like "exp.cfg:12" or "--set …";
 * the file alone where the key has its default. The experiment's own. */
const char *lode_config_where(const lode_config_t *config, const char *key);

/* The one of names[count] that `name` is most likely meant to be, NULL where none is near. */
const char *lode_config_nearest(const char *name, const char *const *names, int64_t count);

/* Appends the table of keys as a Markdown table: key, type, default, range, meaning. */
LODE_MUST_USE lode_status_t lode_config_describe(lode_buffer_t *text);

/* Releases everything the experiment owns; *config becomes NULL. NULL is fine. */
void lode_config_destroy(lode_config_t **config);

#endif
