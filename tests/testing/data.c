#include "testing/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *lode_test_data(const char *relative) {
    static char paths[8][4096];
    static int next = 0;
    const char *root = getenv("LODE_DATA");
    char *path = paths[next];
    next = (next + 1) % 8;
    snprintf(path, sizeof paths[0], "%s/%s", root ? root : "../shared/data", relative);
    return access(path, R_OK) == 0 ? path : NULL;
}

void lode_test_require(const char *relative) {
    if (lode_test_data(relative))
        return;
    printf("skipped: the data folder has no %s (set LODE_DATA)\n", relative);
    exit(LODE_TEST_SKIP);
}
