#include "testing/temporary.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FOLDERS = 256 };
static char folders[MAX_FOLDERS][512];
static int folder_count = 0;
static pid_t creator; /* a forked child must not clean up */

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

static void remove_all(void) {
    if (getpid() != creator)
        return;
    for (int i = 0; i < folder_count; i++)
        nftw(folders[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *lode_test_temporary(void) {
    if (folder_count == 0) {
        creator = getpid();
        atexit(remove_all);
    }
    const char *root = getenv("TMPDIR");
    if (folder_count == MAX_FOLDERS) {
        fprintf(stderr, "more than %d temporary folders in one program\n", MAX_FOLDERS);
        exit(1);
    }
    char *path = folders[folder_count];
    snprintf(path, sizeof folders[0], "%s/lode-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(path)) {
        perror(path);
        exit(1);
    }
    folder_count++;
    return path;
}

void lode_test_temporary_shared(char *path, int bytes, const lode_comm_t *comm) {
    if (comm->rank == 0)
        snprintf(path, (size_t)bytes, "%s", lode_test_temporary());
    MPI_Bcast(path, bytes, MPI_CHAR, 0, comm->comm);
}
