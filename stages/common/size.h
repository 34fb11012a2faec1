/* stages/common/size: what a stage takes, for plans.
 *
 * Each stage has a function lode_<stage>_size beside the code that creates its datasets and
 * allocates its buffers; it goes through the same code with a store that only counts. Of the run it
 * reads config, model and architecture, and comm, which must be a group of one; there need be no
 * checkpoint and no file of any stage before. All of these are Local; errors: LODE_ERR_MEMORY, and
 * those of settings that the stage itself refuses. */
#ifndef LODE_STAGES_COMMON_SIZE_H
#define LODE_STAGES_COMMON_SIZE_H

#include <stdint.h>

typedef struct lode_stage_size {
    int64_t file;    /* bytes of the stage's result file */
    int64_t scratch; /* bytes of files that are there only while it runs */
    int64_t memory;  /* private bytes of a rank beside the layers' and those of a pass */
} lode_stage_size_t;

#endif
