/* store/digest: one digest of everything a result file says, to show that two runs agree bit for
 * bit. Where and when a file was made (/provenance) does not count, nor how HDF5 laid it out. */
#ifndef LODE_STORE_DIGEST_H
#define LODE_STORE_DIGEST_H

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "store/store.h"

/* Digests the groups and datasets of a complete file outside /provenance, in the order of their
 * names: each with its path, type, shape, elements and attributes. Elements count by the XXH3-128
 * of every LODE_SEAL_SEGMENT bytes of them, in C order and little-endian, which the file's seal
 * knows. `listing` (may be NULL) gets a line "<digest>  <type>[<extents>]  <path>" for each object
 * appended; `digest` is the XXH3-128 of those lines. Local.
 * Errors: those of lode_store_open(), lode_store_verify() and lode_store_read(). */
LODE_MUST_USE lode_status_t lode_store_digest(const char *path, char digest[LODE_DIGEST_TEXT],
                                              lode_buffer_t *listing);

/* The same of a file that is open, and trusted to be what its seal says: elements are read only
 * where there is no seal. Local; the store must be this rank's alone. */
LODE_MUST_USE lode_status_t lode_store_digest_sealed(lode_store_t *store,
                                                     char digest[LODE_DIGEST_TEXT],
                                                     lode_buffer_t *listing);

/* One digest of several files: the XXH3-128 of `lines`, one "<digest>  <name>\n" for each file.
 * Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_store_digest_lines(char digest[LODE_DIGEST_TEXT],
                                                    const lode_buffer_t *lines);

#endif
