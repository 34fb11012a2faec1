/* report/trajectory: how the figures of a series' checkpoints change with the step of training.
 * Local.
 *
 * A series is what the models of one name for `series` are at one point of a sweep, by step; a
 * model without a step is in none. Overlaps and rank correlations are with the last checkpoint that
 * has accumulate.h5 and classify.h5.
 *
 * trajectory.csv: series, model, step, layer, figure, value, low, high, point, a row for each
 * figure of each layer, and then with `layer` "median", of the figures of LODE_TRAJECTORY_LIST that
 * have one, the median over layers with the least and the largest, and with "all" what is of the
 * model as a whole. low and high of a layer are a 95 % bootstrap interval over the calibration
 * sequences (score/resample.h), of core_overlap and proxy_correlation with the same sequences drawn
 * for both checkpoints; and of perplexities, accuracies and validation losses 1.96 standard errors
 * either way (of the logarithm, for perplexities); empty where there is none. What is not known has
 * no row.
 */
#ifndef LODE_REPORT_TRAJECTORY_H
#define LODE_REPORT_TRAJECTORY_H

#include "report/plot.h"
#include "report/result.h"
#include "report/shelf.h"

/* Figures of a layer: name, and whether their median over layers means anything. */
#define LODE_TRAJECTORY_LIST(X)                                                                    \
    X(MASS, "core_mass", true)            /* at the experiment's ρ: classify.h5 */                \
    X(MASS_HALF, "core_mass@0.005", true) /* at fixed ρ, from accumulate.h5 */                    \
    X(MASS_ONE, "core_mass@0.01", true)                                                            \
    X(MASS_TWO, "core_mass@0.02", true)                                                            \
    X(MASS_FIVE, "core_mass@0.05", true)                                                           \
    X(GINI, "gini", true) /* of the loss proxy */                                                  \
    X(EFFECTIVE, "effective_number", true)                                                         \
    X(OVERLAP, "core_overlap", true)                    /* share of the last core that is core */  \
    X(CHANCE, "core_overlap_chance", true)              /* of as many channels at random */        \
    X(CORRELATION, "proxy_correlation", true)           /* Spearman's, with the last loss proxy */ \
    X(ACTIVATION_OVERLAP, "overlap_activation", true)   /* of the core with the activation core */ \
    X(ACTIVATION_MASS, "activation_core_mass", true)    /* of the activation core in Σ E[u²] */  \
    X(ACTIVATION_RATIO, "activation_ratio", true)       /* largest |u| ÷ median channel's */      \
    X(ACTIVATION_OUTLIERS, "activation_outliers", true) /* share above OUTLIER × that median */   \
    X(ACTIVATION_KURTOSIS, "activation_kurtosis", true)                                            \
    X(SUPER_WEIGHTS, "superweights", false) /* found */                                            \
    X(SPIKE, "superweight_ratio", false)    /* largest |Y| ÷ its scale, over prompts */           \
    X(ENTROPY, "entropy_mean", true)        /* of the channels' write entropies */                 \
    X(ENTROPY_LOW, "entropy_p05", true)                                                            \
    X(ENTROPY_HIGH, "entropy_p95", true)

typedef enum lode_trajectory_figure {
#define LODE_TRAJECTORY_ENUM(figure, name, median) LODE_TRAJECTORY_##figure,
    LODE_TRAJECTORY_LIST(LODE_TRAJECTORY_ENUM)
#undef LODE_TRAJECTORY_ENUM
        LODE_TRAJECTORY_FIGURES,
} lode_trajectory_figure_t;

/* An activation outlier's largest |u| is more than so many times that of its layer's median
 * channel. */
#define LODE_TRAJECTORY_OUTLIER 6.0

typedef struct lode_trajectory_checkpoint {
    const lode_report_case_t *item;
    double *value[LODE_TRAJECTORY_FIGURES]; /* [layers], NULL where not known; the shelf's */
    double *low[LODE_TRAJECTORY_FIGURES], *high[LODE_TRAJECTORY_FIGURES]; /* NULL: no interval */
    double validation, validation_error; /* nats a target, at this step; NaN where not known */
} lode_trajectory_checkpoint_t;

typedef struct lode_trajectory {
    const char *series, *point;
    lode_trajectory_checkpoint_t *checkpoints; /* [count] ascending by step */
    int64_t count, layers, channels;           /* layers 0: none is classified */
    int64_t last;                              /* that overlaps are with, −1 for none */
    int64_t draws;                             /* of intervals that are made here, 0 for none */
    /* Validation while the series was trained, [validations]; of the series' own model. */
    int64_t validations;
    int64_t *step;
    double *loss, *error;
    double *scratch; /* [layers] */
    lode_shelf_t shelf;
} lode_trajectory_t;

/* "core_mass" …; static. */
const char *lode_trajectory_name(lode_trajectory_figure_t figure);

/* Reads the series that cases[first] begins. *trajectory is the caller's, on failure too.
 *   seed  of the bootstrap
 * Errors: LODE_ERR_SHAPE where the checkpoints are not of one shape; of the files. */
LODE_MUST_USE lode_status_t lode_trajectory_read(lode_trajectory_t *trajectory,
                                                 const lode_report_case_t *cases, int64_t count,
                                                 int64_t first, int64_t seed);
void lode_trajectory_free(lode_trajectory_t *trajectory);

/* Whether cases[index] is the first of its series at its point. */
bool lode_trajectory_begins(const lode_report_case_t *cases, int64_t count, int64_t index);

/* Median, least and largest of a figure over the layers in which it is known, NaN where it is in
 * none: summary[3]. */
void lode_trajectory_median(double summary[3], const lode_trajectory_t *trajectory,
                            int64_t checkpoint, lode_trajectory_figure_t figure);

/* Of figures of the whole model: super weights in all layers, or the largest ratio of any. */
double lode_trajectory_whole(const lode_trajectory_t *trajectory, int64_t checkpoint,
                             lode_trajectory_figure_t figure);

/* value ± 1.96 standard errors. */
void lode_trajectory_band(double *low, double *high, double value, double standard_error);

/* The 95 % interval of a figure of evaluate.h5, NaN where it has no standard error. */
void lode_trajectory_interval(double *low, double *high, const lode_report_figure_t *figure);

/* Appends the rows of a series to trajectory.csv. */
LODE_MUST_USE lode_status_t lode_trajectory_rows(lode_buffer_t *out,
                                                 const lode_trajectory_t *trajectory);

/* All series of a report: their sections of the page, and trajectory.csv with its heading; both
 * stay empty where there is no series. */
LODE_MUST_USE lode_status_t lode_trajectory_all(lode_plot_t *plot, lode_buffer_t *page,
                                                lode_buffer_t *table,
                                                const lode_report_case_t *cases, int64_t count,
                                                int64_t seed);

#endif
