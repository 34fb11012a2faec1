/* transformer/spill: a scratch file for what does not fit the memory budget.
 *
 * The file loses its name as soon as it is open, so nothing is left of it however the program ends.
 * Its space is claimed first: a full disk fails before the work, not within it. The system's page
 * cache writes behind and reads ahead; no memory of this process is involved. Everything here is
 * Local.
 */
#ifndef LODE_TRANSFORMER_SPILL_H
#define LODE_TRANSFORMER_SPILL_H

#include <stdint.h>

#include "base/error.h"

/* {0} is closed. */
typedef struct lode_spill {
    char *folder; /* for messages; NULL: closed */
    int descriptor;
} lode_spill_t;

/* Makes a file of `bytes` > 0 in the existing `folder`. Errors: LODE_ERR_IO, naming the folder;
 * LODE_ERR_MEMORY. The spill may then only be closed. */
LODE_MUST_USE lode_status_t lode_spill_open(lode_spill_t *spill, const char *folder, int64_t bytes);
void lode_spill_close(lode_spill_t *spill); /* leaves {0} */

/* Bytes [offset, offset + bytes) of the file, which were written before they are read. Errors:
 * LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_spill_write(const lode_spill_t *spill, int64_t offset,
                                             const void *data, int64_t bytes);
LODE_MUST_USE lode_status_t lode_spill_read(const lode_spill_t *spill, int64_t offset, void *data,
                                            int64_t bytes);

/* They are to be read soon. */
void lode_spill_ahead(const lode_spill_t *spill, int64_t offset, int64_t bytes);

#endif
