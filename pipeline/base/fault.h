/* base/fault: failures on demand, so that tests reach every path that a full disk, a lost file or a
 * lack of memory would take.
 *
 * The places that can fail ask lode_fault() whether they must, next to the call that may fail by
 * itself, and then go on exactly as if it had. Which call of which rank fails is told by the
 * environment variable LODE_FAULT, faults separated by commas, each
 *
 *     <kind>[:rank=R][:call=N | :from=N]
 *
 * Without rank every rank fails; call=N is the N-th call of that kind on the rank (1 where left
 * out), from=N that one and all after it, as on a full disk. A kind of its own is "kill": the rank
 * ends with SIGKILL at its N-th write. "count" instead of a fault has every rank print at its end
 * how many calls of each kind it came through. Unset, all this costs one predictable branch.
 * Everything here is Local, and may be called from any thread.
 */
#ifndef LODE_BASE_FAULT_H
#define LODE_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* kind, its name in LODE_FAULT: what asks */
#define LODE_FAULT_LIST(X)                                                                         \
    X(ALLOCATION, "allocation") /* memory */                                                       \
    X(OPEN, "open")             /* opening or creating a file */                                   \
    X(READ, "read")             /* reading or mapping one */                                       \
    X(WRITE, "write")           /* writing, extending, syncing, closing, renaming one */           \
    X(RECEIVE, "receive")       /* what another rank has sent */                                   \
    X(KILL, "kill")             /* never asked: see above */

typedef enum lode_fault_kind {
#define LODE_FAULT_ENUM(kind, name) LODE_FAULT_##kind,
    LODE_FAULT_LIST(LODE_FAULT_ENUM)
#undef LODE_FAULT_ENUM
        LODE_FAULT_KINDS
} lode_fault_kind_t;

/* Takes the faults of `text` for this process, which is rank `rank`, and starts counting calls from
 * 0; NULL or "" disarms. Errors: LODE_ERR_USAGE, naming the part that is none of the above. */
LODE_MUST_USE lode_status_t lode_fault_arm(const char *text, int rank);

/* Whether faults are armed; use lode_fault(). */
extern bool lode_fault_armed;
bool lode_fault_due(lode_fault_kind_t kind);

/* Counts a call of this kind; true where it must fail, errno then says why: ENOMEM, EMFILE, EIO,
 * ENOSPC, ECOMM. Put it before a call that has no effect yet, or after one that every rank must
 * make: if (lode_fault(LODE_FAULT_OPEN) || (descriptor = open(…)) < 0). */
static inline bool lode_fault(lode_fault_kind_t kind) {
    return __builtin_expect(lode_fault_armed, false) && lode_fault_due(kind);
}

/* Calls of a kind since the faults were armed. */
int64_t lode_fault_calls(lode_fault_kind_t kind);

/* Prints the counts on stderr, one line, where "count" was asked for. */
void lode_fault_report(void);

#endif
