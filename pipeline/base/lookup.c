#include "base/lookup.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { LEAST_SLOTS = 16 };

/* Puts an entry into the first free slot. */
static void enter(lode_lookup_t *table, uint64_t key, int64_t value) {
    uint64_t at = lode_lookup_home(table, key);
    while (table->slots[at].value >= 0)
        at = (at + 1) & table->mask;
    table->slots[at] = (lode_lookup_slot_t){key, value};
}

lode_status_t lode_lookup_reserve(lode_lookup_t *table, int64_t count, const char *what) {
    uint64_t slots = LEAST_SLOTS;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    if (table->slots && slots <= table->mask + 1)
        return LODE_OK;
    lode_lookup_t grown = {.mask = slots - 1, .count = table->count};
    LODE_TRY(LODE_NEW_RAW(&grown.slots, (int64_t)slots, what));
    memset(grown.slots, 0xFF, slots * sizeof *grown.slots); /* every value −1 */
    for (uint64_t at = 0; table->slots && at <= table->mask; at++)
        if (table->slots[at].value >= 0)
            enter(&grown, table->slots[at].key, table->slots[at].value);
    free(table->slots);
    *table = grown;
    return LODE_OK;
}

lode_status_t lode_lookup_add(lode_lookup_t *table, uint64_t key, int64_t value, const char *what) {
    LODE_ASSERT(value >= 0);
    LODE_TRY(lode_lookup_reserve(table, table->count + 1, what));
    enter(table, key, value);
    table->count++;
    return LODE_OK;
}

lode_status_t lode_lookup_set(lode_lookup_t *table, uint64_t key, int64_t value, const char *what) {
    LODE_ASSERT(value >= 0);
    if (table->slots)
        for (uint64_t at = lode_lookup_home(table, key); table->slots[at].value >= 0;
             at = (at + 1) & table->mask)
            if (table->slots[at].key == key) {
                table->slots[at].value = value;
                return LODE_OK;
            }
    return lode_lookup_add(table, key, value, what);
}

void lode_lookup_free(lode_lookup_t *table) {
    free(table->slots);
    *table = (lode_lookup_t){0};
}
