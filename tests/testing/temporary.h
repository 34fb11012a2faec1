/* testing/temporary: folders that disappear with the test. */
#ifndef LODE_TESTING_TEMPORARY_H
#define LODE_TESTING_TEMPORARY_H

#include "comm/context.h"

/* Creates an empty folder under $TMPDIR (else /tmp), which is removed with all it holds when the
 * program ends; ends the program with status 1 where that fails. The string lives as long as the
 * program; at most 256 folders a program. Local. */
const char *lode_test_temporary(void);

/* The same folder for all ranks, made and removed by rank 0.
 *   path  out, [bytes], cut off where that is too short
 * Collective. */
void lode_test_temporary_shared(char *path, int bytes, const lode_comm_t *comm);

#endif
