/* stages/lode/check: proves an experiment's inputs sound before anything is computed. */
#ifndef LODE_STAGES_LODE_CHECK_H
#define LODE_STAGES_LODE_CHECK_H

#include "config/config.h"

/* Opens every model's checkpoint and tokenizer, reads every corpus, and compares what depends on
 * both, for one point of a sweep (a config without sweep; its label, "" without one). `model`
 * restricts it to one model, with its checkpoints, or to one checkpoint, or is NULL. Of a model
 * from scratch there need only be config.json, and checkpoints yet to be written are taken for
 * granted. With `verbose`, a line on stdout for each input. Local. Errors: whatever an input has;
 * LODE_ERR_USAGE where no model is called `model`. */
LODE_MUST_USE lode_status_t lode_check_inputs(const lode_config_t *config, const char *point,
                                              const char *model, bool verbose);

#endif
