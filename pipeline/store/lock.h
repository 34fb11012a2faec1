/* store/lock: one run at a time in a folder. A lock is an advisory flock() on a small file that
 * says who holds it; it ends with its process, however that dies. Everything here is Local; the
 * caller decides which rank takes it. */
#ifndef LODE_STORE_LOCK_H
#define LODE_STORE_LOCK_H

#include "base/error.h"

/* Takes the lock file `path`, made where it is missing, at once or not at all. *descriptor is the
 * caller's, for lode_store_unlock(). `what` names the locked thing in the message. On a file
 * system without locks it warns and succeeds.
 * Errors: LODE_ERR_BUSY naming process and host of the holder; LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_store_lock(int *descriptor, const char *path, const char *what);

/* The same, but waits up to `seconds` for another holder to finish. */
LODE_MUST_USE lode_status_t lode_store_lock_wait(int *descriptor, const char *path,
                                                 const char *what, double seconds);

/* Releases the lock; the file stays, empty. −1 is fine, and what it leaves. */
void lode_store_unlock(int *descriptor);

#endif
