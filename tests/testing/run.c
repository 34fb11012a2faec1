#include "testing/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "testing/check.h"

void lode_test_path(char path[LODE_TEST_PATH], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    LODE_REQUIRE(vsnprintf(path, LODE_TEST_PATH, format, arguments) < LODE_TEST_PATH);
    va_end(arguments);
}

void lode_test_run_open(lode_run_t *run, const lode_comm_t *comm, const char *experiment,
                        const char *source, const char *results) {
    lode_config_t *config;
    LODE_REQUIRE(lode_config_parse(&config, experiment, strlen(experiment), "test.cfg") == LODE_OK);
    *run = (lode_run_t){.comm = comm, .config = config, .model = &config->models[0], .point = ""};
    LODE_REQUIRE(lode_checkpoint_open(&run->checkpoint, source) == LODE_OK);
    run->architecture = *lode_checkpoint_architecture(run->checkpoint);
    LODE_REQUIRE(lode_strdup(&run->folder, results) == LODE_OK);
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        snprintf(run->fingerprint[s], LODE_DIGEST_TEXT, "%032d", s);
    if (comm->rank == 0)
        LODE_REQUIRE(lode_directory_create(run->folder) == LODE_OK);
    MPI_Barrier(comm->comm);
}

void lode_test_run_close(lode_run_t *run) {
    lode_config_t *config = (lode_config_t *)(uintptr_t)run->config;
    lode_checkpoint_close(&run->checkpoint);
    lode_config_destroy(&config);
    free(run->folder);
    lode_buffer_free(&run->inputs);
}
