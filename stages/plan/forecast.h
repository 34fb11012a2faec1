/* stages/plan/forecast: what a run will take, before there are ranks, weights or token ids.
 *
 * A forecast is of one model at one point of an experiment on a number of ranks. It lays the model
 * out as the run will, asks every stage what it writes and holds (common/size.h), every pass what
 * it keeps (transformer/pass.h, transformer/stack.h), and runs the schedule of the pipeline against
 * a simulated clock (transformer/simulate.h). Where token ids exist already they are counted, else
 * their number is bounded by the experiment's keys or estimated from the size of the corpus. Left
 * out as too little to matter: journals (a byte a unit) and seals (a line a dataset on disk, and
 * hashing what was written, at several gigabytes a second).
 * Everything here is Local.
 */
#ifndef LODE_STAGES_PLAN_FORECAST_H
#define LODE_STAGES_PLAN_FORECAST_H

#include "common/run.h"
#include "plan/machine.h"

/* --- the model ------------------------------------------------------------------------------- */

/* A model as far as a config.json tells, or its weights where they are there. */
typedef struct lode_forecast_model {
    lode_architecture_t architecture;
    lode_dtype_t dtype;      /* of its matrices */
    bool guessed;            /* config.json does not say, and there are no weights */
    int64_t layer_bytes;     /* of a layer's weights, as they are mapped */
    int64_t embedding_bytes; /* with learned positions */
    int64_t head_bytes;      /* with the final norm; the embedding's table again where tied */
    int64_t tied_bytes;      /* of that table, 0 where it is not */
    int64_t bytes;           /* of all weights, a tied embedding once */
} lode_forecast_model_t;

/* Gives the model, which training writes, another type of its weights. */
void lode_forecast_retype(lode_forecast_model_t *model, lode_dtype_t dtype);

/* Reads `path`: a folder with a config.json, perhaps with weights, or a config.json itself.
 * Errors: LODE_ERR_INPUT, LODE_ERR_FORMAT, LODE_ERR_UNSUPPORTED. */
LODE_MUST_USE lode_status_t lode_forecast_model(lode_forecast_model_t *model, const char *path);

/* Bytes that the rank of `layout` maps. */
int64_t lode_forecast_weights(const lode_forecast_model_t *model, const lode_layout_t *layout);

/* --- texts ----------------------------------------------------------------------------------- */

/* How well a number of tokens is known. */
typedef enum lode_known {
    LODE_KNOWN_EXACTLY, /* counted in tokenize.h5 */
    LODE_KNOWN_BOUND,   /* no more than that */
    LODE_KNOWN_GUESS,   /* from the size of a file */
} lode_known_t;

/* Sequences that pass through the model. */
typedef struct lode_forecast_text {
    const char *name;
    lode_known_t known;
    int64_t sequences, tokens, longest;
    int64_t targets;      /* scored tokens */
    int64_t items, width; /* of a task, else 0 */
    int64_t ids;          /* in tokenize.h5 */
    double context;       /* mean length of the sequence that a token stands in */
    int64_t *offsets;     /* [sequences + 1] */
    lode_text_t text;     /* offsets alone */
    lode_batches_t batches;
} lode_forecast_text_t;

typedef struct lode_forecast_texts {
    lode_forecast_text_t calibration;
    int64_t kept_tokens;              /* of which q is kept */
    lode_forecast_text_t *evaluation; /* [perplexity_count + task_count] in their order */
    int64_t count;
    int64_t probe_ids; /* of the checks' own corpus, in tokenize.h5 */
    /* Blocks of training and validation, of train.length tokens, in tokenize.h5; 0 of a model that
     * is not trained. */
    int64_t train_blocks, validation_blocks;
    int64_t train_bytes; /* of the text that they come of */
    /* Of memory that a tokenizer is trained in; 0 where none is. */
    int64_t tokenizer_bytes;
    lode_known_t train_known;
    /* Of the stage superweight: what super weights are looked for with, and the texts and words of
     * stopword probabilities; without sequences where they are not asked for. */
    lode_forecast_text_t prompts, stopwords;
    int64_t words;
} lode_forecast_texts_t;

/* `standard` takes perplexities whose corpus is missing to have LODE_FORECAST_WIKITEXT tokens.
 * *texts is for lode_forecast_texts_free, also on failure. Errors: LODE_ERR_MEMORY. */
enum { LODE_FORECAST_WIKITEXT = 341469 }; /* WikiText-2 test, joined, by Llama 2's tokenizer */
LODE_MUST_USE lode_status_t lode_forecast_texts(lode_forecast_texts_t *texts, const lode_run_t *run,
                                                bool standard);
void lode_forecast_texts_free(lode_forecast_texts_t *texts);

/* --- the forecast ---------------------------------------------------------------------------- */

/* Work is told by stages; CALIBRATE is the pass that calibrate and accumulate share, and MOMENTS
 * what follows it. */

typedef struct lode_forecast_memory {
    int64_t least;   /* private bytes without which the stage cannot run */
    int64_t all;     /* with which it computes nothing twice */
    int64_t used;    /* within `memory` of the experiment; least where that is too little */
    int64_t process; /* of these, what a process takes before it does anything: not in `memory` */
    int64_t idle;    /* what `memory` must leave room for beside these, though it is not touched */
} lode_forecast_memory_t;

/* A stage of the pipeline: the ranks of all replicas that own the same layers. */
typedef struct lode_forecast_rank {
    lode_layout_t layout; /* of the first replica */
    int64_t weights;      /* mapped bytes */
    lode_forecast_memory_t memory[LODE_STAGE_COUNT];
    lode_forecast_memory_t peak; /* over stages */
    int64_t kept;                /* layers whose activations are kept for the backward pass */
} lode_forecast_rank_t;

typedef struct lode_forecast_stage {
    bool wanted;
    int64_t file, scratch; /* bytes on disk */
    int64_t tokens;        /* that pass through the model, once for each variant; 0: none */
    double seconds;
    double bubble; /* share of ranks' time in which they wait; 0 where nothing is pipelined */
} lode_forecast_stage_t;

typedef struct lode_forecast {
    const lode_config_t *config; /* borrowed, like the following two */
    const lode_config_model_t *entry;
    const lode_machine_t *machine;
    bool scratch;   /* a model that is trained from nothing, which only train runs on */
    int64_t copies; /* models of which this is one, alike but for their weights: checkpoints */
    lode_run_t run; /* as the sizes of stages want it; its layout is that of rank 0 */
    lode_forecast_model_t model;
    lode_forecast_texts_t texts;
    int ranks, replicas, stages, idle;
    int64_t variants; /* all of them; of these: */
    int64_t pruned, quantized;
    lode_forecast_rank_t *rank; /* [stages] */
    lode_forecast_stage_t stage[LODE_STAGE_COUNT];
    int64_t spilled[LODE_STAGE_COUNT]; /* by passes of all ranks, in files without names */
    int64_t exports;                   /* bytes of folders that export writes */
    int64_t checkpoints;               /* bytes of folders and states that train leaves */
    int64_t disk, temporary; /* of all result files; the most that is there only for a while */
    double reading; /* seconds of the first run alone: every rank reads its weights to hash them */
    double seconds; /* of all stages, and that */
} lode_forecast_t;

/* Forecasts `entry` of `config`, which has no sweep, on `ranks` ranks: one of its models, or one
 * that training will write, which need not be there. point: of a sweep, "" without. *forecast is
 * for lode_forecast_free, also on failure. Errors: LODE_ERR_CONFIG where the model does not allow
 * the experiment, those of lode_forecast_model, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_forecast_make(lode_forecast_t *forecast,
                                               const lode_config_t *config,
                                               const lode_config_model_t *entry, const char *point,
                                               const lode_machine_t *machine, int ranks,
                                               bool standard);
void lode_forecast_free(lode_forecast_t *forecast);

/* The parts of it, each from those before: lays out `ranks` ranks; memory; disk; time. */
LODE_MUST_USE lode_status_t lode_forecast_layout(lode_forecast_t *forecast, int ranks);
LODE_MUST_USE lode_status_t lode_forecast_memory(lode_forecast_t *forecast);
LODE_MUST_USE lode_status_t lode_forecast_disk(lode_forecast_t *forecast);
LODE_MUST_USE lode_status_t lode_forecast_time(lode_forecast_t *forecast);

/* The folder that says what the model is like: its own, or that of the one it is trained from. */
const char *lode_forecast_source(const lode_config_t *config, const lode_config_model_t *entry);

/* Private bytes of one node: `per_node` ranks one after the other, and the weights that they map,
 * of the node that takes most. */
typedef struct lode_forecast_node {
    int64_t private_bytes, weights;
} lode_forecast_node_t;
lode_forecast_node_t lode_forecast_node(const lode_forecast_t *forecast, int per_node);

/* The fewest ranks, up to `most`, on which every stage fits the experiment's memory and, where
 * node_memory is not 0, nodes of so many bytes hold `per_node` ranks each with their weights; 0
 * where none do. `forecast` is not changed. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_forecast_fewest(int *ranks, const lode_forecast_t *forecast,
                                                 int64_t node_memory, int per_node, int most);

/* Whether every stage fits the experiment's memory on these ranks. */
bool lode_forecast_fits(const lode_forecast_t *forecast);

#endif
