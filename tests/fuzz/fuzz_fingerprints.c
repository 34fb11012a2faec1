/* Fuzz target: whatever bytes .fingerprints.json has, a file's digest is one, and is the right one
 * where the file has changed since. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/inputs.h"
#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes with the path of the scratch file for each "@", and the time it was changed for each
 * "#", so that entries can be about it. */
static void write_memory(const uint8_t *data, size_t size) {
    lode_buffer_t text = {0};
    struct stat info;
    require(stat(scratch_path("input"), &info) == 0);
    for (size_t i = 0; i < size; i++) {
        lode_status_t status;
        if (data[i] == '@')
            status = lode_buffer_printf(&text, "%s", scratch_path("input"));
        else if (data[i] == '#')
            status = lode_buffer_printf(&text, "%lld, %lld", (long long)info.st_ctim.tv_sec,
                                        (long long)info.st_ctim.tv_nsec);
        else
            status = lode_buffer_append(&text, data + i, 1);
        require(status == LODE_OK);
    }
    scratch_write(".fingerprints.json", (const uint8_t *)text.data, text.length);
    lode_buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const lode_comm_t alone = lode_comm_alone();
    char digest[LODE_DIGEST_TEXT];
    lode_inputs_t *inputs;
    /* A time that the memory can hold. */
    const struct timespec times[] = {{.tv_sec = 1}, {.tv_sec = 1}};
    scratch_write("input", (const uint8_t *)"some text", 9);
    require(utimensat(AT_FDCWD, scratch_path("input"), times, 0) == 0);
    write_memory(data, size);
    require(lode_inputs_open(&inputs, scratch_path("")) == LODE_OK);
    require(lode_inputs_file(digest, inputs, &alone, scratch_path("input")) == LODE_OK);
    require(strlen(digest) == LODE_DIGEST_TEXT - 1 &&
            strspn(digest, "0123456789abcdef") == LODE_DIGEST_TEXT - 1);
    /* Only rank 0 writes the memory back, and syncs it, which takes long. */
    const lode_comm_t elsewhere = {.comm = MPI_COMM_NULL, .rank = 1, .size = 2};
    lode_inputs_close(&inputs, &elsewhere);
    return 0;
}
