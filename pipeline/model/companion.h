/* model/companion: the files that lie beside a checkpoint's weights and belong to the model all the
 * same: tokenizer, generation settings, templates, licence. Everything here is Local.
 */
#ifndef LODE_MODEL_COMPANION_H
#define LODE_MODEL_COMPANION_H

#include <stdint.h>

#include "base/error.h"

/* Names of the companions in `folder`, sorted by their bytes: its regular files, less hidden ones,
 * config.json and lodestone.json, which are written anew, and whatever holds weights or an index of
 * them by its name's ending. *names is the caller's, for lode_companion_free.
 * Errors: LODE_ERR_INPUT (no such folder), LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_companion_list(char ***names, int64_t *count, const char *folder);
void lode_companion_free(char ***names, int64_t count);

/* Copies the file `name` from one folder to another and syncs the copy.
 * Errors: LODE_ERR_INPUT, LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_companion_copy(const char *from, const char *to, const char *name);

#endif
