/* stages/classify/work: what the parts of the stage share: sizes, files, and buffers of one layer.
 * Everything here is Local unless it says so. */
#ifndef LODE_STAGES_CLASSIFY_WORK_H
#define LODE_STAGES_CLASSIFY_WORK_H

#include "common/run.h"
#include "score/redundancy.h"

#define LODE_CLASSIFY_LEVEL 0.95 /* of all intervals */

typedef struct lode_classify {
    lode_run_t *run;
    lode_store_t *accumulate; /* open for reading */
    lode_store_t *store;      /* being written */
    int64_t m, core_size, halo_size, support_size, tokens, sequences;
    int64_t random_size; /* random channels of a layer: those asked for, or all there are */
    int64_t layer;       /* that is in hand, and whose arrays and weights these are: */
    lode_layer_weights_t weights;
    double *loss_proxy, *activation_power, *connectivity, *protection, *entropy; /* [m] each */
    double *redundancy;                                                          /* [halo_size] */
    /* Mapped where they lie, since they may be large: q of the redundancy's tokens, and the sums of
     * each sequence, of all layers. */
    const float *q;                        /* [tokens, L, m] */
    const double *proxy_sums, *power_sums; /* [sequences, L, m] */
    int32_t *core, *halo, *support;
} lode_classify_t;

/* Writes row `layer` of a dataset [L, width] or [L], width 1; nothing where width is 0. */
LODE_MUST_USE lode_status_t lode_classify_write(const lode_classify_t *work, const char *name,
                                                int64_t width, const void *row);

/* The redundancy that the experiment asks for, and q of the layer in hand. */
lode_redundancy_t lode_classify_redundancy(const lode_classify_t *work);
lode_q_t lode_classify_q(const lode_classify_t *work);

/* structure.c: /structure, /core_mass, /core_mass_interval, /core_stability. Collective. */
LODE_MUST_USE lode_status_t lode_classify_structure_create(const lode_classify_t *work);
/* The figures of the layer in hand, from its statistics and weights. */
LODE_MUST_USE lode_status_t lode_classify_structure(const lode_classify_t *work);

/* controls.c: /controls without the read halo, as far as the experiment asks for it. Collective. */
LODE_MUST_USE lode_status_t lode_classify_controls_create(const lode_classify_t *work);
/* The controls of the layer in hand, given its core and halo. */
LODE_MUST_USE lode_status_t lode_classify_controls(const lode_classify_t *work);

#endif
