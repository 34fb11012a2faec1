/* base/hash: fingerprints of files, parameters and results. Everything here is Local. */
#ifndef LODE_BASE_HASH_H
#define LODE_BASE_HASH_H

#include <stddef.h>

#include "base/error.h"

enum { LODE_DIGEST_TEXT = 33, LODE_SHA256_TEXT = 65 }; /* hexadecimal digits and a NUL */

/* Streaming 128-bit XXH3: content fingerprints, not a defence against an adversary. */
typedef struct lode_hash lode_hash_t;
LODE_MUST_USE lode_status_t lode_hash_create(lode_hash_t **hash);
void lode_hash_destroy(lode_hash_t **hash);
void lode_hash_add(lode_hash_t *hash, const void *bytes, size_t length);
/* A string with its length before it, so that neighbouring strings cannot trade bytes. */
void lode_hash_add_text(lode_hash_t *hash, const char *text);
/* The digest of everything added so far, as 32 lower-case hexadecimal digits. */
void lode_hash_text(const lode_hash_t *hash, char digest[LODE_DIGEST_TEXT]);

/* The digest of a buffer alone. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_hash_bytes(char digest[LODE_DIGEST_TEXT], const void *bytes,
                                            size_t length);

/* SHA-256 of a buffer, for provenance that others check with their own tools. */
LODE_MUST_USE lode_status_t lode_sha256_text(char digest[LODE_SHA256_TEXT], const void *bytes,
                                             size_t length);

#endif
