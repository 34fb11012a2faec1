/* Fuzz target: any bytes are either refused or yield a config.json's numbers within bounds that the
 * rest relies on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/architecture.h"
#include "model/describe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

/* Frequencies are numbers, for sequences of any length. */
static void require_rotary(const lode_architecture_t *a) {
    const lode_rotary_t *rotary = &a->rotary;
    double frequencies[LODE_ROTARY_MAX_FREQUENCIES], factor;
    if (rotary->kind == LODE_ROTARY_NONE)
        return;
    require(rotary->dims > 0 && rotary->dims % 2 == 0 && rotary->dims <= a->head_dim);
    for (int64_t length = 1; length <= a->max_positions; length *= 16) {
        lode_rotary_frequencies(rotary, length, frequencies, &factor);
        require(isfinite(factor));
        for (int64_t i = 0; i < rotary->dims / 2; i++)
            require(isfinite(frequencies[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lode_architecture_t a;
    if (lode_architecture_parse(&a, (const char *)data, size, "fuzz") != LODE_OK) {
        require(a.layers == 0 && lode_error_message()[0] != '\0');
        return 0;
    }
    require(a.layers > 0 && a.hidden > 0 && a.intermediate > 0 && a.vocab > 0);
    require(a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.head_dim > 0);
    require(a.max_positions > 0 && a.norm_eps > 0 && a.attention_scale > 0);
    for (int64_t l = 0; l < a.layers; l++)
        require(lode_architecture_window(&a, l) >= 0);
    require_rotary(&a);
    char text[LODE_DESCRIPTION_BYTES];
    lode_architecture_describe(text, &a);
    require(strlen(text) > 0);
    require(a.bos >= -1 && a.bos < a.vocab && a.eos >= -1 && a.eos < a.vocab);
    require(lode_architecture_parameters(&a) > 0);
    return 0;
}
