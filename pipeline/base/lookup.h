/* base/lookup: a hash table from 64-bit keys to values ≥ 0, with open addressing in one array.
 *
 * A key may stand for itself, such as two ids side by side, or be a hash of something longer: then
 * several entries can have it, the caller tells them apart, and walks over them with
 *
 *     uint64_t at = lode_lookup_home(table, key);
 *     while ((value = lode_lookup_next(table, key, &at)) >= 0) …
 *
 * At least half of the slots are free, so that a search looks at two or three of them. Nothing is
 * ever taken out. Everything here is Local. */
#ifndef LODE_BASE_LOOKUP_H
#define LODE_BASE_LOOKUP_H

#include <stdint.h>

#include "base/error.h"

typedef struct lode_lookup_slot {
    uint64_t key;
    int64_t value; /* −1 where the slot is free */
} lode_lookup_slot_t;

/* Initialise with {0}, and reserve before anything else. */
typedef struct lode_lookup {
    lode_lookup_slot_t *slots; /* [mask + 1] */
    uint64_t mask;
    int64_t count; /* entries */
} lode_lookup_t;

/* Makes room for `count` entries in all, 0 or more, so that they go in without growing again.
 * Errors: LODE_ERR_MEMORY, which leaves the table as it was. */
LODE_MUST_USE lode_status_t lode_lookup_reserve(lode_lookup_t *table, int64_t count,
                                                const char *what);

/* Adds an entry, though there be others of that key; value ≥ 0. Errors: as above. */
LODE_MUST_USE lode_status_t lode_lookup_add(lode_lookup_t *table, uint64_t key, int64_t value,
                                            const char *what);

/* Gives the one entry of a key another value, or adds it. Errors: as above. */
LODE_MUST_USE lode_status_t lode_lookup_set(lode_lookup_t *table, uint64_t key, int64_t value,
                                            const char *what);

void lode_lookup_free(lode_lookup_t *table); /* leaves {0} */

/* The slot where the search for a key begins. */
static inline uint64_t lode_lookup_home(const lode_lookup_t *table, uint64_t key) {
    const uint64_t mixed = key * UINT64_C(0x9E3779B97F4A7C15); /* 2⁶⁴ by the golden ratio */
    return (mixed ^ mixed >> 32) & table->mask;
}

/* The value of the next entry that has the key, from slot *at on, which moves behind it; −1 where
 * there is none. */
static inline int64_t lode_lookup_next(const lode_lookup_t *table, uint64_t key, uint64_t *at) {
    for (;;) {
        const lode_lookup_slot_t *slot = &table->slots[*at];
        if (slot->value < 0)
            return -1;
        *at = (*at + 1) & table->mask;
        if (slot->key == key)
            return slot->value;
    }
}

/* The value of the first entry that has the key, −1 where there is none. */
static inline int64_t lode_lookup_find(const lode_lookup_t *table, uint64_t key) {
    uint64_t at = lode_lookup_home(table, key);
    return lode_lookup_next(table, key, &at);
}

#endif
