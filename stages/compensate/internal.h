/* stages/compensate/internal: what the stage's files share. */
#ifndef LODE_STAGES_COMPENSATE_INTERNAL_H
#define LODE_STAGES_COMPENSATE_INTERNAL_H

#include "base/log.h"
#include "common/run.h"
#include "common/size.h"
#include "common/spool.h"
#include "linalg/matrix.h"
#include "common/variants.h"

enum { LODE_COMPENSATE_PATH = 320 }; /* bytes of a dataset's name */

/* Parts of the journal; a unit is a variant, of all, and a layer. */
enum { LODE_COMPENSATE_BIASES, LODE_COMPENSATE_SOLVES, LODE_COMPENSATE_PARTS };

typedef struct lode_compensate {
    lode_run_t *run;
    lode_store_t *prune;      /* open for reading */
    lode_store_t *store;      /* compensate.h5 */
    lode_variant_t *variants; /* of the experiment, those without compensation too */
    int64_t variant_count;
    int64_t layers, m, d;
    int *owner;            /* [layers] rank of the first replica that has the layer */
    uint8_t *keep;         /* [m] mask in hand */
    lode_grid_t *grid;     /* NULL where nothing is solved */
    lode_matrix_t *moment; /* [m, m] of the layer in hand */
    lode_matrix_t *down;   /* [d, m] of the layer in hand */
    lode_progress_t progress;
} lode_compensate_t;

/* Variants that are compensated in this way. Local. */
int64_t lode_compensate_count(const lode_compensate_t *work, lode_compensation_t compensation);

/* Reads a variant's mask of a layer into work->keep; *kept (may be NULL) is how many are kept.
 * Local. */
LODE_MUST_USE lode_status_t lode_compensate_mask(lode_compensate_t *work,
                                                 const lode_variant_t *variant, int64_t layer,
                                                 int64_t *kept);

/* Loads the layer's Wdown, which its owner alone maps, into work->down. Collective. */
LODE_MUST_USE lode_status_t lode_compensate_load_down(lode_compensate_t *work, int64_t layer);

/* Solves for a variant's down projection of a layer from work->moment and work->down, and writes it
 * and its λ; `sync`: onto the disk. Collective. */
LODE_MUST_USE lode_status_t lode_compensate_solve(lode_compensate_t *work,
                                                  const lode_variant_t *variant, int64_t layer,
                                                  bool sync);

/* Whether an interrupted run has done that. Local. */
bool lode_compensate_solved(const lode_compensate_t *work, const lode_variant_t *variant,
                            int64_t layer);

/* Name of a variant's down projection of a layer. Local. */
void lode_compensate_down_path(char path[LODE_COMPENSATE_PATH], const lode_variant_t *variant,
                               int64_t layer);

/* Adds the scratch file of `count` variants of sequential compensation, and what a rank holds
 * beside layers, activations and matrices. Local. */
void lode_compensate_sequential_size(lode_stage_size_t *size, const lode_compensate_t *work,
                                     int64_t count, int64_t tokens, int64_t max_tokens);

/* All variants of sequential compensation. *spool, NULL where there are none, is for
 * lode_spool_destroy() once the stage has ended. Collective. */
LODE_MUST_USE lode_status_t lode_compensate_sequential(lode_compensate_t *work,
                                                       lode_spool_t **spool);

#endif
