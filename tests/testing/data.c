#include "testing/data.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Neither files nor folders of the system. */
static int is_case(const struct dirent *entry) {
    return strchr(entry->d_name, '.') == NULL;
}

int lode_test_families(void (*check)(const char *name)) {
    struct dirent **entries = NULL;
    const int count = scandir(LODE_TEST_FAMILIES, &entries, is_case, alphasort);
    for (int i = 0; i < count; i++) {
        check(entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return count;
}
