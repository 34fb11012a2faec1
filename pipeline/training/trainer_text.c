/* The texts that a trainer hands to the layers. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "training/trainer_state.h"

lode_status_t lode_trainer_text_create(lode_trainer_text_t *out, int64_t sequences, int64_t length,
                                       bool weighted) {
    const int64_t tokens = sequences * length;
    *out = (lode_trainer_text_t){0};
    LODE_TRY(LODE_NEW(&out->offsets, sequences + 1, "text"));
    LODE_TRY(LODE_NEW(&out->ids, tokens, "text"));
    LODE_TRY(LODE_NEW(&out->target, tokens, "text"));
    if (weighted)
        LODE_TRY(LODE_NEW(&out->weight, tokens, "text"));
    for (int64_t s = 0; s <= sequences; s++)
        out->offsets[s] = s * length;
    for (int64_t t = 0; weighted && t < tokens; t++)
        out->weight[t] = (t + 1) % length == 0 ? 0 : 1 / (double)(sequences * (length - 1));
    out->text = (lode_text_t){.sequences = sequences,
                              .offsets = out->offsets,
                              .ids = out->ids,
                              .target = out->target,
                              .weight = out->weight};
    return LODE_OK;
}

void lode_trainer_text_free(lode_trainer_text_t *text) {
    free(text->offsets);
    free(text->ids);
    free(text->target);
    free(text->weight);
    *text = (lode_trainer_text_t){0};
}

void lode_trainer_text_copy(lode_trainer_text_t *text, int64_t first_token, const int32_t *from,
                            int64_t sequences, int64_t length) {
    int32_t *target = text->target + first_token;
    memcpy(text->ids + first_token, from, (size_t)(sequences * length) * sizeof *from);
    for (int64_t s = 0; s < sequences; s++) {
        memcpy(target + s * length, from + s * length + 1, (size_t)(length - 1) * sizeof *target);
        target[(s + 1) * length - 1] = -1;
    }
}
