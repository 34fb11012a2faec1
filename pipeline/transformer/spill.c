#include "transformer/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"

/* Makes the file `bytes` long, with blocks behind them where the file system can. Leaves errno. */
static bool claim(int descriptor, int64_t bytes) {
    if (lode_fault(LODE_FAULT_WRITE))
        return false;
    while (fallocate(descriptor, 0, 0, bytes) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
            return false;
        return ftruncate(descriptor, bytes) == 0;
    }
    return true;
}

static lode_status_t fail(const lode_spill_t *spill, const char *what, int error) {
    return lode_fail(LODE_ERR_IO, "%s: %s of a scratch file failed: %s", spill->folder, what,
                     strerror(error));
}

lode_status_t lode_spill_open(lode_spill_t *spill, const char *folder, int64_t bytes) {
    char *path;
    *spill = (lode_spill_t){.descriptor = -1};
    LODE_TRY(lode_strdup(&spill->folder, folder));
    LODE_TRY(lode_path_join(&path, folder, ".inputs-XXXXXX"));
    if (!lode_fault(LODE_FAULT_OPEN))
        spill->descriptor = mkostemp(path, O_CLOEXEC);
    const int error = errno;
    if (spill->descriptor >= 0)
        unlink(path);
    free(path);
    if (spill->descriptor < 0)
        return fail(spill, "creation", error);
    if (!claim(spill->descriptor, bytes))
        return lode_fail(LODE_ERR_IO,
                         "%s: a scratch file of %.1f MB for the inputs of layers cannot be made: "
                         "%s; free space there, raise memory, lower micro_batch or use more ranks",
                         folder, (double)bytes / 1e6, strerror(errno));
    return LODE_OK;
}

void lode_spill_close(lode_spill_t *spill) {
    if (spill->folder && spill->descriptor >= 0)
        close(spill->descriptor);
    free(spill->folder);
    *spill = (lode_spill_t){0};
}

lode_status_t lode_spill_write(const lode_spill_t *spill, int64_t offset, const void *data,
                               int64_t bytes) {
    for (int64_t done = 0; done < bytes;) {
        if (lode_fault(LODE_FAULT_WRITE))
            return fail(spill, "writing", errno);
        const ssize_t put = pwrite(spill->descriptor, (const char *)data + done,
                                   (size_t)(bytes - done), offset + done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail(spill, "writing", put < 0 ? errno : ENOSPC);
        done += put;
    }
    return LODE_OK;
}

lode_status_t lode_spill_read(const lode_spill_t *spill, int64_t offset, void *data,
                              int64_t bytes) {
    for (int64_t done = 0; done < bytes;) {
        if (lode_fault(LODE_FAULT_READ))
            return fail(spill, "reading", errno);
        const ssize_t got =
            pread(spill->descriptor, (char *)data + done, (size_t)(bytes - done), offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(spill, "reading", got < 0 ? errno : EIO);
        done += got;
    }
    return LODE_OK;
}

void lode_spill_ahead(const lode_spill_t *spill, int64_t offset, int64_t bytes) {
    (void)posix_fadvise(spill->descriptor, offset, bytes, POSIX_FADV_WILLNEED);
}
