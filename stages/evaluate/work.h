/* stages/evaluate/work: what the parts of the stage share.
 *
 * Variant 0 is the unpruned model, "dense"; variant i is the i − 1 of lode_variants_list.
 */
#ifndef LODE_STAGES_EVALUATE_WORK_H
#define LODE_STAGES_EVALUATE_WORK_H

#include "common/evaluation.h"
#include "common/edits.h"
#include "evaluate/reuse.h"

enum { LODE_EVALUATE_PATH = 1024 }; /* bytes of a dataset's path */

typedef struct lode_evaluate_work {
    lode_run_t *run;
    const char
        *stage; /* "evaluate"; another one that measures the model of `run` alone: its name */
    const char *dense; /* what variant 0 is called: "dense" */
    /* "" where a data set's results lie at <kind>/<data set>/<variant>. Else there is no variant
     * but the first, and they lie at <group>/<kind>/<data set>. */
    const char *group;
    /* Numbers of parts[0] and scratch_parts[0] among the parts of their stores. */
    int first_part, first_scratch_part;
    lode_store_t *tokenize, *store; /* read, written */
    /* With tasks: what sequences give, until it makes a variant's table. */
    lode_store_t *scratch;
    /* Units of `store`, by data set: of a perplexity each variant and sequence, its losses; of a
     * task, which follow, each variant, its table. Those of `scratch`, by task: each variant and
     * sequence. */
    lode_part_t *parts, *scratch_parts;
    lode_variant_t *variants;
    int64_t variant_count; /* without the unpruned model */
    lode_edits_t *edits;
    lode_edit_digests_t digests; /* of all variants, the unpruned model included */
} lode_evaluate_work_t;

/* The variants that one data set is evaluated on, and where their losses go. */
typedef struct lode_evaluate_set {
    lode_evaluate_work_t *work;
    lode_store_t *losses; /* has the units of variant and sequence */
    int part;             /* of them */
    int64_t sequences;
    const char *name;         /* of the data set */
    const lode_text_t *text;  /* its sequences */
    int64_t variants;         /* the first so many of the stage */
    lode_reuse_item_t *items; /* [variants] */
    /* Of the variants that are computed: which they are, and what they have in common. */
    int64_t *selected, *parent, *start; /* [computed] */
    int64_t computed;
} lode_evaluate_set_t;

/* The path of a variant's results of a data set; group "/perplexity", name its name. Local. */
void lode_evaluate_path(const lode_evaluate_work_t *work, const char *group, const char *name,
                        int64_t variant, char path[LODE_EVALUATE_PATH]);

/* Private bytes of the variants' edits. Local. */
int64_t lode_evaluate_edits_memory(const lode_evaluate_work_t *work);

/* "dense" or another variant's name, the work's. Local. */
const char *lode_evaluate_variant_name(const lode_evaluate_work_t *work, int64_t variant);

/* A lode_edit_callback_t by variants of the stage; the context is the work. Local. */
lode_status_t lode_evaluate_edit(void *work, int64_t variant, int64_t layer,
                                 lode_layer_edit_t *edit);

/* Names the datasets <group>/<name>/<variant> and works out the digests of what goes there, the
 * losses over `text`. *set is for lode_evaluate_set_free, also on failure.
 *   group    in, "/perplexity"
 *   name     in, of the data set; must stay, as must text
 *   pruned   in, whether all variants are evaluated, or the dense model alone
 * Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_evaluate_set_create(lode_evaluate_set_t *set,
                                                     lode_evaluate_work_t *work, const char *group,
                                                     const char *name, bool pruned,
                                                     const lode_text_t *text);
void lode_evaluate_set_free(lode_evaluate_set_t *set); /* leaves {0}. Local. */

/* Takes over what was computed before, by an interrupted run or for other settings: the units
 * [v·units, (v + 1)·units) of `part` of the stage's store are variant v's results, which look like
 * `kind`. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_set_take(lode_evaluate_set_t *set,
                                                   const lode_reuse_kind_t *kind, int part,
                                                   int64_t units);

/* lode_evaluation_t's, with any structure that begins with a lode_evaluate_set_t as the context,
 * and with variants numbered as in set->selected. */
typedef lode_status_t (*lode_evaluate_losses_t)(void *set, int64_t computed,
                                                const lode_batch_t *batch, const double *nll,
                                                const uint8_t *greedy);

/* Computes the losses of the variants that are neither done nor found in earlier results, but for
 * the sequences that are marked, and says how many variants these are. `bytes` is what the data set
 * holds on this rank. Errors: those of lode_evaluation_run. Collective. */
LODE_MUST_USE lode_status_t lode_evaluate_set_run(lode_evaluate_set_t *set, int64_t bytes,
                                                  lode_evaluate_losses_t losses);

/* Marks the sequences of a micro-batch for variant `computed` of those that are computed. Local. */
LODE_MUST_USE lode_status_t lode_evaluate_set_mark(const lode_evaluate_set_t *set, int64_t computed,
                                                   const lode_batch_t *batch);

#endif
