#include "base/hash.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/fault.h"

struct lode_hash {
    XXH3_state_t *state;
};

lode_status_t lode_hash_create(lode_hash_t **hash) {
    *hash = malloc(sizeof **hash);
    XXH3_state_t *state = lode_fault(LODE_FAULT_ALLOCATION) ? NULL : XXH3_createState();
    if (!*hash || !state || XXH3_128bits_reset(state) != XXH_OK) {
        XXH3_freeState(state);
        free(*hash);
        *hash = NULL;
        return lode_fail(LODE_ERR_MEMORY, "no memory for a hash state");
    }
    (*hash)->state = state;
    return LODE_OK;
}

void lode_hash_destroy(lode_hash_t **hash) {
    if (!*hash)
        return;
    XXH3_freeState((*hash)->state);
    free(*hash);
    *hash = NULL;
}

void lode_hash_add(lode_hash_t *hash, const void *bytes, size_t length) {
    if (length > 0)
        LODE_ASSERT(XXH3_128bits_update(hash->state, bytes, length) == XXH_OK);
}

void lode_hash_add_text(lode_hash_t *hash, const char *text) {
    uint64_t length = strlen(text);
    lode_hash_add(hash, &length, sizeof length);
    lode_hash_add(hash, text, length);
}

void lode_hash_text(const lode_hash_t *hash, char digest[LODE_DIGEST_TEXT]) {
    XXH128_hash_t value = XXH3_128bits_digest(hash->state);
    snprintf(digest, LODE_DIGEST_TEXT, "%016llx%016llx", (unsigned long long)value.high64,
             (unsigned long long)value.low64);
}

lode_status_t lode_hash_bytes(char digest[LODE_DIGEST_TEXT], const void *bytes, size_t length) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, bytes, length);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

lode_status_t lode_sha256_text(char digest[LODE_SHA256_TEXT], const void *bytes, size_t length) {
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_Digest(bytes, length, raw, &size, EVP_sha256(), NULL) != 1 || size != 32)
        return lode_fail(LODE_ERR_INTERNAL, "OpenSSL cannot compute SHA-256");
    for (unsigned int i = 0; i < size; i++)
        snprintf(digest + 2 * i, 3, "%02x", raw[i]);
    return LODE_OK;
}
