#include "lode/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/stop.h"
#include "common/run.h"
#include "lode/command.h"

static lode_status_t check_operands(const lode_command_t *command,
                                    const lode_arguments_t *arguments) {
    const int64_t least = command->experiment ? 1 : command->least;
    const int64_t most = command->experiment ? 1 : command->most;
    if (arguments->operand_count < least && command->too_few)
        return lode_fail(LODE_ERR_USAGE, "%s", command->too_few);
    if (arguments->operand_count < least)
        return lode_fail(LODE_ERR_USAGE, "lode %s needs a file; see lode --help", command->name);
    if (arguments->operand_count <= most)
        return LODE_OK;
    if (most == 0)
        return lode_fail(LODE_ERR_USAGE, "lode %s takes no file, but there is %s; see lode --help",
                         command->name, arguments->operands[0]);
    if (most == 1)
        return lode_fail(LODE_ERR_USAGE, "lode %s takes one file, not %s and %s", command->name,
                         arguments->operands[0], arguments->operands[1]);
    return lode_fail(LODE_ERR_USAGE, "lode %s has no use for %s; see lode --help", command->name,
                     arguments->operands[most]);
}

/* Rank 0 reads the experiment; the others get its resolved text. */
static lode_status_t load(lode_config_t **config, const lode_comm_t *comm,
                          const lode_arguments_t *arguments) {
    lode_buffer_t text = {0};
    lode_status_t status = LODE_OK;
    const char *file = arguments->operands[0];
    *config = NULL;
    if (comm->rank == 0) {
        status = lode_config_load(config, file, arguments->overrides, arguments->override_count);
        if (status == LODE_OK)
            status = lode_config_text(*config, &text);
    }
    status = lode_comm_share(comm, &text.data, &text.length, 0, status);
    if (status == LODE_OK) {
        if (comm->rank != 0)
            status = lode_config_parse(config, text.data, text.length, file);
        status = lode_comm_agree(comm, status);
    }
    free(text.data);
    if (status != LODE_OK)
        lode_config_destroy(config);
    return status;
}

static lode_status_t execute(const lode_comm_t *comm, const lode_command_t *command, int argc,
                             char **argv, const char *stage) {
    lode_arguments_t arguments = {0};
    lode_config_t *config = NULL;
    lode_status_t status;
    if (!command)
        return lode_fail(LODE_ERR_USAGE, "lode has no command %s; see lode --help", argv[1]);
    status = lode_arguments_parse(&arguments, command->name, command->options, argc, argv,
                                  stage ? 1 : 2);
    if (status == LODE_OK && stage && !arguments.value[LODE_OPTION_STAGES])
        arguments.value[LODE_OPTION_STAGES] = stage;
    if (status == LODE_OK)
        status = check_operands(command, &arguments);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK && command->experiment)
        status = load(&config, comm, &arguments);
    if (status == LODE_OK && command->run)
        status = lode_comm_agree(comm, command->run(comm, config, &arguments));
    else if (status == LODE_OK && comm->rank == 0)
        lode_command_help();
    lode_config_destroy(&config);
    lode_arguments_free(&arguments);
    return status;
}

/* What was printed must have arrived, like any other result. */
static lode_status_t flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return LODE_OK;
    return lode_fail(LODE_ERR_IO, "standard output cannot be written: %s; check where it goes",
                     strerror(errno));
}

/* Whether something that starts ranks has started this process: mpirun, srun or mpiexec. */
static bool launched(void) {
    static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                                        "MPI_LOCALNRANKS"};
    for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
        if (getenv(marks[m]))
            return true;
    return false;
}

/* Ends MPI, where that is safe; else the process, once all ranks have come here. */
static void leave(const lode_comm_t *comm, lode_status_t status) {
    int stranded = lode_store_stranded();
    MPI_Allreduce(MPI_IN_PLACE, &stranded, 1, MPI_INT, MPI_MAX, comm->comm);
    if (stranded)
        _exit((int)status);
    MPI_Finalize();
}

static int program(int argc, char **argv, const char *stage) {
    const char *name = stage ? "run" : argc > 1 ? argv[1] : "--help";
    const lode_command_t *command = lode_command_find(name);
    const bool alone = (!command || command->alone) && !launched();
    lode_comm_t comm = lode_comm_alone();
    int provided;
    /* A write beyond the limit on file sizes then fails with a message, instead of killing us. */
    signal(SIGXFSZ, SIG_IGN);
    if (command && command->stops)
        lode_stop_install();
    if (!alone) {
        if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
            fprintf(stderr, "lode: error: MPI cannot be initialised\n");
            return LODE_ERR_COMM;
        }
        lode_comm_guard(MPI_COMM_WORLD);
        comm = lode_comm_describe(MPI_COMM_WORLD);
    }
    lode_log_enable(comm.rank == 0);
    lode_status_t status = lode_fault_arm(getenv("LODE_FAULT"), comm.rank);
    status = lode_comm_agree(&comm, status);
    if (status == LODE_OK)
        status = execute(&comm, command, argc, argv, stage);
    if (status == LODE_OK)
        status = flush_output();
    status = lode_comm_agree(&comm, status);
    if (status == LODE_STOPPED) /* no error: somebody asked for it */
        lode_log_info("%s", lode_error_message());
    else if (status != LODE_OK && comm.rank == 0)
        lode_error_print(lode_error_message());
    lode_fault_report();
    if (!alone)
        leave(&comm, status);
    return (int)status;
}

int lode_program_main(int argc, char **argv) {
    return program(argc, argv, NULL);
}

int lode_program_stage_main(int argc, char **argv, const char *stage) {
    return program(argc, argv, stage);
}
