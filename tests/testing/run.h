/* testing/run: a stage's run without the driver, for tests that call a stage by itself. */
#ifndef LODE_TESTING_RUN_H
#define LODE_TESTING_RUN_H

#include "common/run.h"

enum { LODE_TEST_PATH = 1024 };

/* A path; ends all ranks where it is too long. Local. */
void lode_test_path(char path[LODE_TEST_PATH], const char *format, ...) LODE_PRINTF(2, 3);

/* Opens the run of the first model of an experiment; ends all ranks where that fails. What belongs
 * to a fingerprint is made up.
 *   experiment  text of the experiment file
 *   source      folder of the model
 *   results     folder of results, created by rank 0
 * *run is for lode_test_run_close. Collective. */
void lode_test_run_open(lode_run_t *run, const lode_comm_t *comm, const char *experiment,
                        const char *source, const char *results);

/* Local. */
void lode_test_run_close(lode_run_t *run);

#endif
