#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "superweight/search.h"

lode_status_t lode_superweight_text_read(lode_superweight_text_t *text, lode_store_t *tokenize,
                                         const char *group) {
    char path[64];
    int64_t tokens, offsets;
    *text = (lode_superweight_text_t){0};
    snprintf(path, sizeof path, "%s/ids", group);
    LODE_TRY(lode_store_read_all(tokenize, path, LODE_TYPE_I32, &text->ids, &tokens));
    snprintf(path, sizeof path, "%s/offsets", group);
    LODE_TRY(lode_store_read_all(tokenize, path, LODE_TYPE_I64, &text->offsets, &offsets));
    LODE_TRY(LODE_NEW(&text->target, tokens, "targets"));
    for (int64_t t = 0; t < tokens; t++)
        text->target[t] = -1;
    text->text = (lode_text_t){.sequences = offsets - 1,
                               .offsets = text->offsets,
                               .ids = text->ids,
                               .target = text->target};
    return LODE_OK;
}

void lode_superweight_text_free(lode_superweight_text_t *text) {
    free(text->ids);
    free(text->offsets);
    free(text->target);
    *text = (lode_superweight_text_t){0};
}
