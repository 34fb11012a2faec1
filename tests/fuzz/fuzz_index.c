/* Fuzz target: whatever bytes the index of a sharded checkpoint has, it is refused, or leads to
 * tensors that lie in the shards. */
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"
#include "scratch.h"
#include "testing/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const lode_architecture_t architecture = {.layers = 1,
                                                 .hidden = 8,
                                                 .intermediate = 4,
                                                 .heads = 1,
                                                 .kv_heads = 1,
                                                 .head_dim = 8,
                                                 .vocab = 8,
                                                 .max_positions = 8,
                                                 .norm_eps = 1e-5,
                                                 .rotary.theta = 10000,
                                                 .bos = 0,
                                                 .eos = 1};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool written;
    lode_checkpoint_t *checkpoint;
    if (!written)
        require(lode_test_write_checkpoint(scratch_path(""), &architecture, LODE_DTYPE_F32, 2, 3) ==
                LODE_OK);
    written = true;
    scratch_write("model.safetensors.index.json", data, size);
    if (lode_checkpoint_open(&checkpoint, scratch_path("")) != LODE_OK) {
        require(checkpoint == NULL && lode_error_message()[0] != '\0');
        return 0;
    }
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const void *bytes;
        require(lode_checkpoint_tensor_bytes(checkpoint, i, &bytes) == LODE_OK);
        lode_checkpoint_release_tensor(checkpoint, i);
    }
    lode_layer_weights_t layer;
    require(lode_checkpoint_layer(checkpoint, 0, &layer) == LODE_OK);
    lode_checkpoint_close(&checkpoint);
    return 0;
}
