#include "transformer/batch.h"

#include <stdlib.h>

#include "base/memory.h"

/* One past the last sequence of the micro-batch that begins with `first`. */
static int64_t batch_end(const lode_text_t *text, int64_t first, int64_t tokens_per_batch) {
    int64_t end = first + 1;
    while (end < text->sequences &&
           text->offsets[end + 1] - text->offsets[first] <= tokens_per_batch)
        end++;
    return end;
}

lode_status_t lode_batches_create(lode_batches_t *batches, const lode_text_t *text,
                                  int64_t tokens_per_batch) {
    *batches = (lode_batches_t){.text = text};
    for (int64_t s = 0; s < text->sequences; s = batch_end(text, s, tokens_per_batch))
        batches->count++;
    lode_status_t status = LODE_NEW(&batches->batch, batches->count, "micro-batches");
    if (status == LODE_OK)
        status = LODE_NEW(&batches->offsets, text->sequences + batches->count, "micro-batches");
    if (status != LODE_OK) {
        lode_batches_destroy(batches);
        return status;
    }
    int64_t first = 0, *offsets = batches->offsets;
    for (int64_t i = 0; i < batches->count; i++) {
        const int64_t end = batch_end(text, first, tokens_per_batch);
        lode_batch_t *batch = &batches->batch[i];
        batch->first_sequence = first;
        batch->first_token = text->offsets[first];
        batch->tokens = text->offsets[end] - batch->first_token;
        batch->sequences = (lode_sequences_t){.count = end - first, .offsets = offsets};
        for (int64_t s = first; s <= end; s++)
            *offsets++ = text->offsets[s] - batch->first_token;
        for (int64_t s = first; s < end; s++) {
            const int64_t length = text->offsets[s + 1] - text->offsets[s];
            batches->longest = length > batches->longest ? length : batches->longest;
        }
        batches->max_tokens =
            batch->tokens > batches->max_tokens ? batch->tokens : batches->max_tokens;
        first = end;
    }
    return LODE_OK;
}

void lode_batches_destroy(lode_batches_t *batches) {
    free(batches->batch);
    free(batches->offsets);
    *batches = (lode_batches_t){0};
}
