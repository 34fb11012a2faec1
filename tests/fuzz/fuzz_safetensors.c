/* Fuzz target: any bytes are either refused or yield entries that hold the format's promises. */
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition)
        abort();
}

static void check(const uint8_t *data, size_t size, int64_t file_size) {
    lode_safetensors_t *file;
    if (lode_safetensors_parse(&file, data, size, file_size, "fuzz") != LODE_OK) {
        require(file == NULL && lode_error_message()[0] != '\0');
        return;
    }
    int64_t covered = 0, header = 8;
    for (int i = 0; i < 4; i++)
        header += (int64_t)data[i] << (8 * i);
    for (int64_t i = 0; i < lode_safetensors_count(file); i++) {
        const lode_safetensors_entry_t *entry = lode_safetensors_entry(file, i);
        require(lode_safetensors_find(file, entry->name) == i);
        require(entry->begin >= header && entry->begin <= entry->end && entry->end <= file_size);
        require(entry->rank >= 0);
        covered += entry->end - entry->begin;
        if (!entry->readable)
            continue;
        int64_t elements = 1;
        for (int k = 0; k < entry->rank; k++)
            elements *= entry->shape[k];
        require(elements * (int64_t)lode_dtype_size(entry->element) == entry->end - entry->begin);
    }
    require(header + covered == file_size);
    lode_safetensors_close(&file);
}

/* The bytes as a file of their own, and as the beginning of a file whose data they describe: the
 * last eight bytes say how many. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check(data, size, (int64_t)size);
    if (size >= 16) {
        uint64_t more;
        memcpy(&more, data + size - 8, 8);
        check(data, size - 8, (int64_t)(size - 8) + (int64_t)(more >> 2));
    }
    return 0;
}
