/* probe/work: what the stage's own files share.
 *
 * A check is a list of candidates, numbered 0 … count − 1. Those of the checks that share a text
 * are variants of one evaluation, whose variant 0 is the unchanged model.
 */
#ifndef LODE_STAGES_PROBE_WORK_H
#define LODE_STAGES_PROBE_WORK_H

#include "common/evaluation.h"
#include "probe/probe.h"

enum {
    LODE_PROBE_CHECKS = LODE_PROBE_MEAN_REPLACEMENT + 1,
    LODE_PROBE_COLUMNS = 6,
    LODE_PROBE_PATH = 96 /* bytes of a dataset's path */
};

/* Values of the columns score, core, kind and replacement, in the order of their names. */
enum { LODE_PROBE_BY_LP, LODE_PROBE_BY_ACTIVATION };
enum {
    LODE_PROBE_LP_CORE,
    LODE_PROBE_ACTIVATION_CORE,
    LODE_PROBE_NO_CORE,
    LODE_PROBE_RANDOM_CORE,
};
enum {
    LODE_PROBE_SET_HALO,
    LODE_PROBE_SET_MATCHED,
    LODE_PROBE_SET_CORE,
    LODE_PROBE_SET_CORE_HALO,
    LODE_PROBE_SET_CORE_MATCHED,
};
enum { LODE_PROBE_BY_ZERO, LODE_PROBE_BY_MEAN };

/* The texts that losses are measured on. */
enum {
    LODE_PROBE_TEXT_PERPLEXITY,
    LODE_PROBE_TEXT_ABLATION,
    LODE_PROBE_TEXT_HALO,
    LODE_PROBE_TEXTS,
};

typedef struct lode_probe_text {
    const char *name, *source, *protocol; /* borrowed; name "perplexity" … */
    int64_t length;                       /* most tokens of a sequence */
    lode_text_t text;
    int64_t *targets; /* [sequences] scored tokens of each */
    double per_unit;  /* scored tokens per unit of the perplexity: a token, of lm-eval a word */
    lode_windows_t windows; /* owns what `text` points at, for the windows of a perplexity */
    int64_t *offsets;       /* the same for other texts, with the following */
    int32_t *ids, *target;
    int64_t variants; /* candidates of all its checks, and the unchanged model; 0: not used */
    double *mean, *variance; /* [variants, sequences] of losses; one allocation at mean. Of what
                                this rank has computed, and once all is, on rank 0 of all */
} lode_probe_text_t;

/* A dataset [candidates] that says what a candidate is. Exactly one of the arrays is set. */
typedef struct lode_probe_column {
    const char *name;
    int32_t *i32;
    double *f64;
} lode_probe_column_t;

/* One check. What a candidate does to a layer is said by a mask of its own for each of them, or
 * else by the channels that it removes. */
typedef struct lode_probe_group {
    lode_probe_check_t check;
    const char *path; /* "/ablation" */
    int text;         /* LODE_PROBE_TEXT_… */
    int64_t count;    /* candidates; 0: the check is not asked for */
    int64_t first;    /* variant of candidate 0 */
    lode_probe_column_t column[LODE_PROBE_COLUMNS];
    int64_t columns;
    bool masks;       /* the same on all ranks, unlike whether the following is NULL */
    uint8_t *keep;    /* [count, this rank's layers, m] of masks */
    int32_t *layer;   /* [count] borrowed from the columns: the layer it changes, −1 for all */
    int32_t *removed; /* [count, width], −1 beyond; of a single layer */
    int64_t width;
    /* mean replacement: a candidate takes out a set, in one layer or in all */
    int32_t *set, *replacement; /* [count] borrowed from the columns */
    int32_t *sets;              /* [set_count, L, core_size] */
    int64_t set_count;
    lode_real_t *bias; /* [set_count, this rank's layers, d] mean output of a set */
} lode_probe_group_t;

typedef struct lode_probe_work {
    lode_run_t *run;
    lode_store_t *tokenize, *calibrate, *accumulate, *classify; /* open for reading */
    lode_store_t *store;
    lode_store_t *scratch; /* the texts' mean and variance while they are computed; its parts are
                              the texts, a unit is a variant and a sequence */
    int64_t L, m, d, first_layer, owned;         /* owned: layers of this rank */
    int64_t core_size, halo_size, matched;       /* matched: halo channels taken out at once */
    int64_t probed;                              /* layers that are ablated: 0, step, 2·step … */
    int64_t removed;                             /* channels of a layer, at probe.sparsity */
    lode_probe_group_t group[LODE_PROBE_CHECKS]; /* by lode_probe_check_t */
    lode_probe_text_t text[LODE_PROBE_TEXTS];
    int32_t *kept; /* [this rank's layers, m] channels of the edit last asked for */
    uint8_t *mask; /* [m] */
    /* buffers for one layer while channels are drawn */
    double *loss_proxy, *activation_power;  /* [m] each */
    int32_t *core, *activation_core, *halo; /* [core_size] twice, [halo_size] */
    uint8_t *role;                          /* [m] LODE_PROBE_CORE … */
    int in_hand;                            /* the text that is being measured */
    double *scored;                         /* [longest sequence of it] */
} lode_probe_work_t;

/* --- texts.c --------------------------------------------------------------------------------- */

/* Reads the texts that checks use and sets their variants. Collective. */
LODE_MUST_USE lode_status_t lode_probe_texts_read(lode_probe_work_t *work);
void lode_probe_texts_free(lode_probe_work_t *work);

/* Names the texts and numbers the variants of each, from the groups. Local. */
void lode_probe_texts_number(lode_probe_work_t *work);

/* --- candidates.c ---------------------------------------------------------------------------- */

/* Sets the sizes, and lists the candidates of the checks that are asked for, without their
 * channels. Local. */
LODE_MUST_USE lode_status_t lode_probe_candidates_list(lode_probe_work_t *work);

/* Sets up the groups of the checks that are asked for and draws their channels. Local. */
LODE_MUST_USE lode_status_t lode_probe_candidates_draw(lode_probe_work_t *work);
void lode_probe_candidates_free(lode_probe_work_t *work);

/* Which layer a candidate changes first. */
int64_t lode_probe_candidate_start(const lode_probe_group_t *group, int64_t candidate);

/* The edit of one of this rank's layers, as lode_edit_callback_t asks for it; *edit is {0}. */
void lode_probe_candidate_edit(lode_probe_work_t *work, const lode_probe_group_t *group,
                               int64_t candidate, int64_t layer, lode_layer_edit_t *edit);

/* Creates and writes the datasets that say what the candidates are. Collective. */
LODE_MUST_USE lode_status_t lode_probe_candidates_write(lode_probe_work_t *work);

/* A column's array by its name. */
int32_t *lode_probe_integers(const lode_probe_group_t *group, const char *name);
double *lode_probe_reals(const lode_probe_group_t *group, const char *name);

/* --- draw.c ---------------------------------------------------------------------------------- */

/* Draws the candidates of a group that lie in `layer`, whose rows are in the buffers. Local. */
LODE_MUST_USE lode_status_t lode_probe_draw_layer(lode_probe_work_t *work,
                                                  lode_probe_group_t *group, int64_t layer);

/* --- probe.c --------------------------------------------------------------------------------- */

/* Creates the dataset <group>/<name> and lets rank 0 fill it. A failed write sticks to the store
 * and fails its commit, so that rank 0 does not leave the others waiting. Collective. */
LODE_MUST_USE lode_status_t lode_probe_put(lode_probe_work_t *work, const char *group,
                                           const char *name, lode_type_t type, int axes,
                                           const int64_t *shape, const void *data);

/* --- measure.c ------------------------------------------------------------------------------- */

/* Creates the scratch file, or goes on with an interrupted run's. Collective. */
LODE_MUST_USE lode_status_t lode_probe_measure_begin(lode_probe_work_t *work);
/* Private bytes of the stage beside the evaluation's. Local. */
int64_t lode_probe_held(const lode_probe_work_t *work);

/* Runs a text's variants, works the figures out and writes them. Collective. */
LODE_MUST_USE lode_status_t lode_probe_measure(lode_probe_work_t *work, int text);

#endif
