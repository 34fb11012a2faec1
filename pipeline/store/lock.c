#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"

/* The holder's own words, "" if it has not written them yet. */
static void read_holder(int descriptor, char holder[256]) {
    ssize_t got = pread(descriptor, holder, 255, 0);
    holder[got > 0 ? got : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
}

static void write_holder(int descriptor) {
    char host[128] = "", holder[256];
    if (gethostname(host, sizeof host - 1) != 0)
        snprintf(host, sizeof host, "an unknown host");
    int length = snprintf(holder, sizeof holder, "process %ld on %s\n", (long)getpid(), host);
    /* Only a message depends on this, and the lock is held with or without it. */
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, holder, (size_t)length, 0) != length)
        lode_log_warning("the holder of a lock could not be noted: %s", strerror(errno));
}

lode_status_t lode_store_lock_wait(int *descriptor, const char *path, const char *what,
                                   double seconds) {
    *descriptor = -1;
    int file = lode_fault(LODE_FAULT_OPEN) ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        return lode_fail(LODE_ERR_IO, "%s: the lock file cannot be opened: %s", path,
                         strerror(errno));
    double end = lode_time() + seconds;
    int failed;
    while ((failed = flock(file, LOCK_EX | LOCK_NB)) != 0 &&
           (errno == EINTR || (errno == EWOULDBLOCK && lode_time() < end)))
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    if (failed && errno == EWOULDBLOCK) {
        char holder[256];
        read_holder(file, holder);
        close(file);
        return lode_fail(LODE_ERR_BUSY,
                         "%s is in use by %s (lock %s); wait for that run to end or stop it", what,
                         holder[0] ? holder : "another process", path);
    }
    if (failed && errno != ENOSYS && errno != EOPNOTSUPP && errno != ENOLCK) {
        int error = errno;
        close(file);
        return lode_fail(LODE_ERR_IO, "%s: cannot be locked: %s", path, strerror(error));
    }
    if (failed)
        lode_log_warning("%s: this file system has no locks; do not start two runs on %s", path,
                         what);
    write_holder(file);
    *descriptor = file;
    return LODE_OK;
}

lode_status_t lode_store_lock(int *descriptor, const char *path, const char *what) {
    return lode_store_lock_wait(descriptor, path, what, 0);
}

void lode_store_unlock(int *descriptor) {
    if (*descriptor < 0)
        return;
    if (ftruncate(*descriptor, 0) != 0)
        lode_log_warning("a lock file could not be emptied: %s", strerror(errno));
    close(*descriptor);
    *descriptor = -1;
}
