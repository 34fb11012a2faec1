/* report/result: what the report takes from the stage files of one model at one point. Local. */
#ifndef LODE_REPORT_RESULT_H
#define LODE_REPORT_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "store/store.h"

enum { LODE_REPORT_NAME = 96 }; /* bytes of a part of a variant's name, NUL included */

/* What a variant does to the model. */
typedef enum lode_report_kind {
    LODE_KIND_OTHER, /* a name in no known form */
    LODE_KIND_DENSE,
    LODE_KIND_PRUNED,
    LODE_KIND_EXPERIMENT, /* something done to the super weights */
    LODE_KIND_QUANTIZED,  /* a pruned model or the dense one */
} lode_report_kind_t;

/* A variant's name taken apart: dense;
 * <method>@<sparsity>[~<core>][+<allocation>][+<compensation>];
 * super-weight:<experiment>[-<factor>];
 * [<pruned variant>:]<int or lp><bits>-<granularity>[-clip][-a8-<activations>][:<protection>].
 * Of a quantized pruned variant, the parts of the pruned one are those of its own name. */
typedef struct lode_report_variant {
    char *name;
    lode_report_kind_t kind;
    char method[LODE_REPORT_NAME]; /* "dense" for the unpruned model, "super-weight:scale" of an
                                    * experiment, "int4-channel" of the dense model quantized */
    double sparsity;               /* 0 where nothing is pruned */
    char core[LODE_REPORT_NAME];   /* what was protected: a default is resolved */
    char allocation[LODE_REPORT_NAME], compensation[LODE_REPORT_NAME];
    char options[LODE_REPORT_NAME]; /* what follows the sparsity in the name, "" by default */
    int order;                      /* of the method in tables, legends and colours */
    double factor;                  /* that super weights are multiplied by; NaN where not said */
    int bits;                       /* of quantized weights, 0 where they are as stored */
    char base[LODE_REPORT_NAME]; /* the pruned variant that is quantized, "" for the dense model */
    char quantization[LODE_REPORT_NAME]; /* "int4-group-128-clip", "none" */
    char scheme[LODE_REPORT_NAME];       /* the same without the bits, "" for none */
    char protection[LODE_REPORT_NAME];   /* "none", "super-weight", "supernode", "both" */
    int64_t bytes;          /* that a packed folder takes by quantize.h5, −1 where not known */
    double bits_per_weight; /* of what is quantized, by quantize.h5; NaN where not known */
} lode_report_variant_t;

/* Takes `name` apart into *variant, which then owns a copy of it. A name in no known form is all
 * method, with sparsity NaN. */
LODE_MUST_USE lode_status_t lode_report_variant_parse(lode_report_variant_t *variant,
                                                      const char *name);

/* Whether two variants are of one family, within which a best one is looked for: of one kind, one
 * sparsity, one number of bits. No variant of unknown sparsity is in any. */
bool lode_report_same_family(const lode_report_variant_t *a, const lode_report_variant_t *b);

/* What a family has in common: "50 % removed", "4 bits", "50 % removed, 4 bits". */
enum { LODE_REPORT_FAMILY = 64 };
void lode_report_family(char text[LODE_REPORT_FAMILY], const lode_report_variant_t *variant);

/* One figure: a row of summary.csv. */
typedef struct lode_report_figure {
    const char *metric; /* "perplexity", "byte_perplexity", "bits_per_byte", "acc" or "acc_norm";
                         * static */
    char *dataset, *protocol;
    lode_report_variant_t variant;
    bool per_token;               /* evaluate.h5 has the loss of every target */
    double value, standard_error; /* NaN where not known */
    int64_t count;                /* targets of a perplexity, items of a task */
    int64_t length, windows;      /* of a perplexity, else 0 */
    double chance;                /* accuracy of drawn answers, NaN where that means nothing */
    bool repeats;  /* says what another figure of the data set says: acc_norm of last words */
    int64_t words; /* that a perplexity by words is of, else 0 */
} lode_report_figure_t;

/* One layer's supernodes. */
typedef struct lode_report_layer {
    int64_t core_size;
    double core_mass;
    double core_mass_low, core_mass_high; /* 95 % over sequences, NaN where not known */
    double effective, gini;               /* of the loss proxy */
    double spearman;                      /* loss proxy against activation power */
    double jaccard; /* core against the equally many channels of largest activation power */
} lode_report_layer_t;

/* Where one stage file came from; any text may be "". */
typedef struct lode_report_origin {
    const char *stage; /* static */
    bool always;       /* whether every experiment has it */
    bool exists;
    char *experiment, *experiment_sha256, *fingerprint, *inputs, *version, *commit, *libraries,
        *host, *start, *end;
    int64_t ranks, threads;
    char digest[LODE_DIGEST_TEXT]; /* of the file's results */
} lode_report_origin_t;

enum { LODE_REPORT_STAGES = 16 };

/* What a case's page is divided into: each topic its heading and the figures about it. */
#define LODE_TOPIC_LIST(X)                                                                         \
    X(PRUNING, "pruning", "Pruning")                                                               \
    X(QUANTIZATION, "quantization", "Quantization")                                                \
    X(JOINT, "joint-plan", "Joint plan")                                                           \
    X(COMPARISONS, "comparisons", "Which variant is better")                                       \
    X(SUPERNODES, "supernodes", "Supernodes")                                                      \
    X(HALO, "halo", "Halo")                                                                        \
    X(ENTROPY, "write-entropy", "Write entropy")                                                   \
    X(SPECTRA, "spectra", "Spectra")                                                               \
    X(CHECKS, "checks", "Causal checks")                                                           \
    X(SUPER_WEIGHTS, "super-weights", "Super weights")                                             \
    X(RETENTION, "retention", "Retention")

typedef enum lode_topic {
#define LODE_TOPIC_ENUM(topic, id, title) LODE_TOPIC_##topic,
    LODE_TOPIC_LIST(LODE_TOPIC_ENUM)
#undef LODE_TOPIC_ENUM
        LODE_TOPIC_COUNT,
} lode_topic_t;

/* What an overview says of a case in a few words, each a column where any case has one. */
typedef enum lode_glance {
    LODE_GLANCE_SUPER_WEIGHTS,
    LODE_GLANCE_JOINT,
    LODE_GLANCE_RETENTION,
    LODE_GLANCES,
} lode_glance_t;

/* One model at one point of the sweep. */
typedef struct lode_report_case {
    const char *point, *model; /* borrowed from the report */
    const char *series;        /* that it is a checkpoint of, "" for none; borrowed likewise */
    int64_t step;              /* of the series, −1 for none */
    bool scratch;              /* trained from nothing: no stage but those that train runs on it */
    char *folder;
    int64_t budget;                /* bytes, of the joint plan; 0 for none */
    lode_report_figure_t *figures; /* by axis (lode_report_same_axis), then dense
                                    * first, sparsity, method */
    int64_t figure_count;
    int64_t layer_count, channel_count; /* 0 where there is no classification */
    lode_report_layer_t *layers;
    int64_t tokens, sequences; /* of the calibration; 0 where not known */
    int64_t redundancy_tokens; /* that correlations of q are taken over */
    lode_report_origin_t origins[LODE_REPORT_STAGES];
    lode_buffer_t topics[LODE_TOPIC_COUNT]; /* HTML, without the headings */
    lode_buffer_t glances[LODE_GLANCES];    /* HTML */
    lode_buffer_t comparisons;              /* rows of comparisons.csv */
    lode_buffer_t audit;                    /* rows of audit.csv */
} lode_report_case_t;

/* The arrays behind the supernode figures, [layers, channels] unless said otherwise; large, so
 * they live only while their case is drawn. */
typedef struct lode_report_channels {
    int64_t layers, channels, core_extent, halo_extent;
    double *loss_proxy, *activation_power, *connectivity;
    double *core_mass;          /* [layers] */
    double *core_mass_interval; /* [layers, 2], NULL where classify.h5 has none */
    int32_t *core;              /* [layers, core_extent], −1 where a row is shorter */
    int32_t *halo;              /* [layers, halo_extent] */
} lode_report_channels_t;

/* Opens a stage's file of the case; *store, the caller's to close, is NULL where there is none. */
LODE_MUST_USE lode_status_t lode_report_open(lode_store_t **store, const lode_report_case_t *item,
                                             const char *stage);

/* " Calibration: 7094 tokens in 64 sequences." for captions, "" where that is not known. */
enum { LODE_REPORT_EXTENT = 96 };
void lode_report_extent(char text[LODE_REPORT_EXTENT], const lode_report_case_t *item);

/* Reads evaluate.h5 and every file's provenance. `item` is zero but for what the report says of it,
 * and its folder. */
LODE_MUST_USE lode_status_t lode_report_case_load(lode_report_case_t *item);
void lode_report_case_free(lode_report_case_t *item);

/* Reads classify.h5 and accumulate.h5; layers is 0 where one of them is missing. */
LODE_MUST_USE lode_status_t lode_report_channels_load(lode_report_channels_t *channels,
                                                      const lode_report_case_t *item);
void lode_report_channels_free(lode_report_channels_t *channels);

/* Fills item->layers from the arrays. */
LODE_MUST_USE lode_status_t lode_report_measure(lode_report_case_t *item,
                                                const lode_report_channels_t *channels);

/* Whether two figures may share an axis: the same metric of the same dataset, taken by the same
 * protocol at the same length. */
bool lode_report_same_axis(const lode_report_figure_t *a, const lode_report_figure_t *b);

/* The place after the last of the figures that share an axis with item->figures[begin]. */
int64_t lode_report_axis_end(const lode_report_case_t *item, int64_t begin);

/* Whether a figure is one of losses rather than of answers: lower is better. */
bool lode_report_is_loss(const lode_report_figure_t *figure);

/* Whether it says in other units what a perplexity of the same losses says. */
bool lode_report_is_derived(const lode_report_figure_t *figure);

/* What the figure is, to begin a title with: "Perplexity", "Word perplexity" …; static. */
const char *lode_report_metric_title(const lode_report_figure_t *figure);

/* Class of every channel, [layers, channels]: 0 core, 1 halo, 2 rest. */
enum { LODE_CLASS_CORE, LODE_CLASS_HALO, LODE_CLASS_REST, LODE_CLASSES };
void lode_report_classes(const lode_report_channels_t *channels, uint8_t *class);

/* Entries of a row of ragged indices before its first −1. */
int64_t lode_report_row_length(const int32_t *row, int64_t extent);

/* The median of count ≥ 1 values; sorts them. */
double lode_report_median(double *values, int64_t count);

/* A five-number summary of values, which it sorts: 5, 25, 50, 75 and 95 %, interpolated linearly;
 * NaN where count is 0. Values that are not finite are moved to the end and left out. */
void lode_report_quantiles(double out[5], double *values, int64_t count);

/* Appends a field as RFC 4180 wants it: quoted only where it has to be. */
LODE_MUST_USE lode_status_t lode_report_csv_field(lode_buffer_t *out, const char *text);

/* summary.csv of all cases: model, variant, method, sparsity, allocation, compensation, metric,
 * dataset, protocol, value, stderr, count, core, point, quantization, protection, bytes. The last
 * is empty where it is not known. */
LODE_MUST_USE lode_status_t lode_report_csv(const lode_report_case_t *cases, int64_t count,
                                            lode_buffer_t *out);

#endif
