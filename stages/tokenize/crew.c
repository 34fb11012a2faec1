#include "tokenize/crew.h"

#include <stdlib.h>

lode_status_t lode_crew_encode(const lode_crew_t *crew, lode_ids_t *ids, const lode_span_t *texts,
                               int64_t count, bool add_special, int64_t *failed) {
    lode_status_t status = LODE_OK;
    if (failed)
        *failed = -1;
    for (int64_t i = 0; i < count && status == LODE_OK; i++) {
        int32_t *id;
        int64_t length;
        status = lode_tokenizer_encode(crew->tokenizer, texts[i].text, texts[i].length, add_special,
                                       &id, &length);
        if (status != LODE_OK) {
            if (failed)
                *failed = i;
            return status;
        }
        status = lode_ids_append(ids, id, length);
        if (status == LODE_OK)
            status = lode_ids_cut(ids);
        free(id);
    }
    return status;
}

lode_status_t lode_crew_serve(const lode_crew_t *crew) {
    int32_t done = 0;
    return lode_comm_broadcast(crew->comm, &done, sizeof done, 0);
}

void lode_crew_dismiss(const lode_crew_t *crew) {
    int32_t done = 1;
    (void)!lode_comm_broadcast(crew->comm, &done, sizeof done, 0);
}
