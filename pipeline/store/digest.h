/* store/digest: one digest of everything a result file says, to show that two runs agree bit for
 * bit. Where and when a file was made (/provenance) does not count, nor how HDF5 laid it out. */
#ifndef LODE_STORE_DIGEST_H
#define LODE_STORE_DIGEST_H

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"

/* Digests the groups and datasets of a complete file outside /provenance, in the order of their
 * names: each with its path, type, shape, bytes in C order (little-endian) and attributes.
 * `listing` (may be NULL) gets a line "<digest>  <type>[<extents>]  <path>" for each object
 * appended; `digest` is the XXH3-128 of those lines. Local.
 * Errors: those of lode_store_open(), lode_store_verify() and lode_store_read(). */
LODE_MUST_USE lode_status_t lode_store_digest(const char *path, char digest[LODE_DIGEST_TEXT],
                                              lode_buffer_t *listing);

#endif
