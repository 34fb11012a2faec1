/* fuzz/scratch: inputs as files, for targets whose readers take paths. */
#ifndef LODE_FUZZ_SCRATCH_H
#define LODE_FUZZ_SCRATCH_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "testing/temporary.h"

static inline void require(int condition) {
    if (!condition)
        abort();
}

/* The path of a file in a folder of this process, or of the folder where `name` is ""; it goes at
 * the end, unless the target has crashed. One of four static buffers. */
static inline const char *scratch_path(const char *name) {
    static const char *folder;
    static char paths[4][600];
    static int next;
    if (!folder)
        folder = lode_test_temporary();
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s%s%s", folder, *name ? "/" : "", name);
    return paths[next];
}

static inline void scratch_write(const char *name, const uint8_t *data, size_t size) {
    const int file = open(scratch_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    require(file >= 0 && write(file, data, size) == (ssize_t)size && close(file) == 0);
}

#endif
