/* base/stop: being asked to stop, by a signal or by a time limit.
 *
 * A run is asked, never interrupted: it looks between units of work (layers, micro-batches,
 * stages), ends the one in hand, records it, and leaves with LODE_STOPPED. Ranks may be asked at
 * different moments, and some not at all; lode_comm_stop() (comm/context.h) is how they agree.
 *
 * Everything here is Local.
 */
#ifndef LODE_BASE_STOP_H
#define LODE_BASE_STOP_H

#include "base/error.h"

/* Takes SIGTERM, SIGUSR1, SIGUSR2 and SIGINT as requests to stop; a second SIGINT kills. Schedulers
 * and mpirun send them before they kill. Idempotent; the first call starts the clock of
 * lode_stop_after, where nothing else has. */
void lode_stop_install(void);

/* Sets the time limit, in seconds since the program's start; 0: none. */
void lode_stop_after(double seconds);

/* Whether a signal has come, or the limit is over. */
bool lode_stop_requested(void);

/* Whether to stop before a unit of work that takes about `seconds`: a stop was requested, or the
 * unit, and a tenth of its time again, would not end within the limit. */
bool lode_stop_before(double seconds);

/* Why: "SIGTERM", "the time limit of 3600 s"; "" where nothing asks for a stop. A signal goes
 * before the limit. Static storage. */
const char *lode_stop_reason(void);

/* Reads a duration: seconds (3600, 0.5), parts with a unit in falling order (3h30m, 1d12h, 90s), or
 * with colons, as schedulers write it ([days-]hours:minutes:seconds, minutes:seconds). *seconds is
 * above 0. Errors: LODE_ERR_USAGE. */
LODE_MUST_USE lode_status_t lode_stop_parse(double *seconds, const char *text);

#endif
