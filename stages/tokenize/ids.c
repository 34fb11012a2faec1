#include "tokenize/ids.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static lode_status_t grow(void *array, int64_t *room, int64_t needed, size_t size) {
    if (needed <= *room)
        return LODE_OK;
    int64_t wanted = *room < 1024 ? 1024 : *room;
    while (wanted < needed)
        wanted *= 2;
    LODE_TRY(lode_resize(array, wanted, size, "token ids"));
    *room = wanted;
    return LODE_OK;
}

lode_status_t lode_ids_append(lode_ids_t *ids, const int32_t *id, int64_t count) {
    LODE_TRY(grow(&ids->id, &ids->room, ids->count + count, sizeof *ids->id));
    if (count > 0)
        memcpy(ids->id + ids->count, id, (size_t)count * sizeof *id);
    ids->count += count;
    return LODE_OK;
}

lode_status_t lode_ids_cut(lode_ids_t *ids) {
    LODE_TRY(grow(&ids->offset, &ids->offset_room, ids->sequences + 2, sizeof *ids->offset));
    if (ids->sequences == 0)
        ids->offset[0] = 0;
    ids->offset[++ids->sequences] = ids->count;
    return LODE_OK;
}

lode_status_t lode_ids_put_before(lode_ids_t *ids, int32_t token) {
    const int64_t sequences = ids->sequences, count = ids->count + sequences;
    LODE_TRY(grow(&ids->id, &ids->room, count, sizeof *ids->id));
    for (int64_t s = sequences - 1; s >= 0; s--) {
        const int64_t first = ids->offset[s], length = ids->offset[s + 1] - first;
        memmove(ids->id + first + s + 1, ids->id + first, (size_t)length * sizeof *ids->id);
        ids->id[first + s] = token;
        ids->offset[s + 1] += s + 1;
    }
    ids->count = count;
    return LODE_OK;
}

void lode_ids_free(lode_ids_t *ids) {
    free(ids->id);
    free(ids->offset);
    *ids = (lode_ids_t){0};
}
