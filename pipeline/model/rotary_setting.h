/* model/rotary_setting: what a config.json says of rotary positions, in the spelling of
 * transformers 4 (rope_theta, rope_scaling) and of 5 (rope_parameters). */
#ifndef LODE_MODEL_ROTARY_SETTING_H
#define LODE_MODEL_ROTARY_SETTING_H

#include <jansson.h>

#include "model/family.h"

/* Fills out->rotary; head_dim and max_positions must be set. `name` stands for the file in
 * messages. Errors: LODE_ERR_FORMAT, LODE_ERR_UNSUPPORTED. Local. */
LODE_MUST_USE lode_status_t lode_rotary_setting(lode_architecture_t *out,
                                                const lode_family_t *family, json_t *root,
                                                const char *name);

#endif
