/* config/series: models given as a folder of folders, one for each step of a run of training.
 *
 * Internal to config/; everything here is Local.
 */
#ifndef LODE_CONFIG_SERIES_H
#define LODE_CONFIG_SERIES_H

#include <stdbool.h>

#include "base/error.h"
#include "config/value.h"

/* The step in a folder's name: the number behind "step", with '-', '_' or '=' between or nothing,
 * else the last number. False where there is none, or more digits than a step can have. */
bool lode_series_step(int64_t *step, const char *name);

/* Puts in place of each model that has the key steps its models, ascending by step, each with name,
 * path, series and step; what is no well-formed model is left for others to refuse.
 * found: out, whether there was any.
 * Errors: LODE_ERR_CONFIG, naming the key's place: a folder that cannot be listed, that has no
 * folder of a step, or has two of one. */
LODE_MUST_USE lode_status_t lode_series_resolve(lode_value_t *root, bool *found);

#endif
