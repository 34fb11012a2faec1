/* A file system without locks, preloaded: flock() as some network file systems have it. */
#include <errno.h>
#include <sys/file.h>

int flock(int descriptor, int operation) {
    (void)descriptor;
    (void)operation;
    errno = ENOLCK;
    return -1;
}
