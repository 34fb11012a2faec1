/* stages/probe/size: what the causal checks take, for plans. Everything here is Local. */
#ifndef LODE_STAGES_PROBE_SIZE_H
#define LODE_STAGES_PROBE_SIZE_H

#include "common/run.h"
#include "common/size.h"

/* The evaluations of the stage: the text of the perplexity, that of the ablations, that of the halo
 * ablations. */
enum { LODE_PROBE_SIZE_TEXTS = 3 };

typedef struct lode_probe_size {
    lode_stage_size_t size;                   /* memory: of the layout's rank */
    int64_t sequences[LODE_PROBE_SIZE_TEXTS]; /* of each text, at most */
    int64_t length[LODE_PROBE_SIZE_TEXTS];    /* tokens of a sequence, at most */
    int64_t variants[LODE_PROBE_SIZE_TEXTS];  /* the unchanged model too; 0: the text is not used */
    double layers[LODE_PROBE_SIZE_TEXTS];     /* computed for all variants, of a micro-batch; what a
                                                 variant shares with the unchanged model left out */
} lode_probe_size_t;

/* What the stage takes on the rank of run->layout. windows, length: of the perplexity that the
 * checks use, 0 where there is none. Errors: LODE_ERR_MEMORY, and what the checks refuse. */
LODE_MUST_USE lode_status_t lode_probe_measure_size(lode_probe_size_t *out, lode_run_t *run,
                                                    int64_t windows, int64_t length);

#endif
