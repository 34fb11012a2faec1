/* stages/lode/command: the commands of lode. */
#ifndef LODE_STAGES_LODE_COMMAND_H
#define LODE_STAGES_LODE_COMMAND_H

#include "comm/context.h"
#include "config/config.h"
#include "lode/arguments.h"

/* A command of lode. To add one, add a row to the table in lode/command.c (and its options to
 * lode/arguments.h). */
typedef struct lode_command {
    const char *name;
    const char *usage; /* its lines of lode --help */
    unsigned options;  /* LODE_OPTION_BIT of those it takes */
    /* Operands that it takes, and what is said where there are too few; NULL: none. */
    int64_t least, most;
    const char *too_few;
    bool experiment; /* the first operand is an experiment file, which is loaded for it */
    bool alone;      /* works without MPI where no launcher has started it */
    bool stops;      /* looks between units of work whether it is to stop; others are just killed */
    /* Called on all ranks. config: NULL where no experiment was asked for. NULL:
     * lode_command_help() is meant. */
    lode_status_t (*run)(const lode_comm_t *comm, const lode_config_t *config,
                         const lode_arguments_t *arguments);
} lode_command_t;

/* The command of a name; NULL where there is none. Local. */
const lode_command_t *lode_command_find(const char *name);

/* Prints the usage of all commands. Local. */
void lode_command_help(void);

#endif
