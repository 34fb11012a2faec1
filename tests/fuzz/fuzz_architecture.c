/* Fuzz target: any bytes are either refused or yield a config.json's numbers within bounds that the
 * rest relies on. */
#include <stdlib.h>

#include "model/architecture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lode_architecture_t a;
    if (lode_architecture_parse(&a, (const char *)data, size, "fuzz") != LODE_OK) {
        require(a.layers == 0 && lode_error_message()[0] != '\0');
        return 0;
    }
    require(a.layers > 0 && a.hidden > 0 && a.intermediate > 0 && a.vocab > 0);
    require(a.kv_heads > 0 && a.heads % a.kv_heads == 0 && a.head_dim > 0 && a.head_dim % 2 == 0);
    require(a.max_positions > 0 && a.norm_eps > 0 && a.rotary.theta > 0);
    require(a.bos >= -1 && a.bos < a.vocab && a.eos >= -1 && a.eos < a.vocab);
    require(lode_architecture_parameters(&a) > 0);
    return 0;
}
