/* Fuzz target: whatever lines a seal has, and whatever bytes are before it, the file is refused, or
 * counts as unsealed, or every byte of it is as the lines say. The first byte of the input says how
 * many bytes come before the lines, and whether the last line is made to fit them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "scratch.h"
#include "store/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_footer(lode_buffer_t *file, const uint8_t *lines, size_t size) {
    char digest[LODE_DIGEST_TEXT];
    lode_hash_t *hash;
    require(lode_hash_create(&hash) == LODE_OK);
    lode_hash_add(hash, lines, size);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    require(lode_buffer_printf(file, "seal %s %015zu lodestone\n", digest, size) == LODE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const lode_comm_t alone = lode_comm_alone();
    lode_buffer_t file = {0};
    bool sealed;
    if (size < 1)
        return 0;
    const size_t before = data[0] % 128;
    require(lode_buffer_append(&file, data + 1, size - 1) == LODE_OK);
    if (data[0] < 128 && size - 1 >= before)
        add_footer(&file, data + 1 + before, size - 1 - before);
    scratch_write("sealed", (const uint8_t *)file.data, file.length);
    const lode_status_t structure = lode_seal_check_structure(scratch_path("sealed"), &sealed);
    const lode_status_t contents = lode_seal_check_data(&alone, scratch_path("sealed"));
    const lode_status_t one = lode_seal_check_dataset(scratch_path("sealed"), "a");
    require(structure == LODE_OK || structure == LODE_ERR_FORMAT);
    require(contents == LODE_OK || contents == LODE_ERR_FORMAT);
    require(one == LODE_OK || contents == LODE_ERR_FORMAT);
    /* Where all of it holds, a change of any byte does not. */
    if (structure == LODE_OK && contents == LODE_OK && sealed && file.length < 4096) {
        file.data[data[0] % before] ^= 1;
        scratch_write("sealed", (const uint8_t *)file.data, file.length);
        require(lode_seal_check_structure(scratch_path("sealed"), &sealed) != LODE_OK ||
                lode_seal_check_data(&alone, scratch_path("sealed")) != LODE_OK);
    }
    lode_buffer_free(&file);
    return 0;
}
