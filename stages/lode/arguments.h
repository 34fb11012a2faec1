/* stages/lode/arguments: the options of lode's commands, and what a command line gives of them.
 * Everything here is Local. */
#ifndef LODE_STAGES_LODE_ARGUMENTS_H
#define LODE_STAGES_LODE_ARGUMENTS_H

#include <stdint.h>

#include "base/error.h"

/* name, spelling, whether a value follows */
#define LODE_OPTION_LIST(X)                                                                        \
    X(SET, "--set", true) /* the only one that may be repeated */                                  \
    X(STAGES, "--stages", true)                                                                    \
    X(MODEL, "--model", true)                                                                      \
    X(FORCE, "--force", false)                                                                     \
    X(TIME_LIMIT, "--time-limit", true)                                                            \
    X(RESOLVED, "--resolved", false)                                                               \
    X(LIST, "--list", false)                                                                       \
    X(OUTPUT, "--output", true)                                                                    \
    X(LAYERS, "--layers", true)                                                                    \
    X(DTYPE, "--dtype", true)                                                                      \
    X(SEED, "--seed", true)                                                                        \
    X(SHARD_SIZE, "--shard-size", true)                                                            \
    X(THREADS, "--threads", true)                                                                  \
    X(TOKENS, "--tokens", true)                                                                    \
    X(LENGTH, "--length", true)

typedef enum lode_option {
#define LODE_OPTION_ENUM(name, spelling, value) LODE_OPTION_##name,
    LODE_OPTION_LIST(LODE_OPTION_ENUM)
#undef LODE_OPTION_ENUM
        LODE_OPTION_COUNT
} lode_option_t;

#define LODE_OPTION_BIT(name) (1u << LODE_OPTION_##name)

typedef struct lode_arguments {
    const char *command;
    const char **operands; /* [operand_count] what is no option, in order */
    int64_t operand_count;
    const char **overrides; /* [override_count] values of --set, in order */
    int64_t override_count;
    /* The value of an option, the last one given; "" for one without value; NULL: not given. */
    const char *value[LODE_OPTION_COUNT];
} lode_arguments_t;

/* Reads argv[first … argc − 1]. command: in, its name, for messages. options: in, a bit for each
 * option that it takes. The texts stay argv's, the lists go with lode_arguments_free(), also after
 * an error. Errors: LODE_ERR_USAGE, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_arguments_parse(lode_arguments_t *out, const char *command,
                                                 unsigned options, int argc, char **argv,
                                                 int first);
void lode_arguments_free(lode_arguments_t *arguments);

/* The value of an option as a whole number from `least` to `most`; `fallback` where it was not
 * given. Errors: LODE_ERR_USAGE. */
LODE_MUST_USE lode_status_t lode_arguments_integer(int64_t *out, const lode_arguments_t *arguments,
                                                   lode_option_t option, int64_t least,
                                                   int64_t most, int64_t fallback);

/* The same as a size in bytes, like 4G (base/size). Errors: LODE_ERR_USAGE. */
LODE_MUST_USE lode_status_t lode_arguments_size(int64_t *out, const lode_arguments_t *arguments,
                                                lode_option_t option, int64_t fallback);

#endif
