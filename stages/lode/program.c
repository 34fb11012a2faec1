#include "lode/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/run.h"
#include "common/version.h"
#include "lode/check.h"
#include "lode/driver.h"
#include "merge/merge.h"
#include "store/digest.h"

static const char *const usage_text =
    "usage: lode <command> [arguments]\n"
    "\n"
    "  lode run EXPERIMENT.cfg     run what is not complete, then build the report\n"
    "      --set key.path=value    change a key of the experiment; may be repeated\n"
    "      --stages a,b            only these: tokenize calibrate accumulate moments classify\n"
    "                              spectra prune compensate evaluate probe export report\n"
    "      --model NAME            only this model\n"
    "      --force                 run the stages again though they are complete\n"
    "  lode check EXPERIMENT.cfg   validate the file and every input it names\n"
    "      --set key.path=value\n"
    "      --resolved              print the experiment with every key written out\n"
    "  lode report EXPERIMENT.cfg  rebuild summary.csv and report.html\n"
    "      --set key.path=value\n"
    "  lode merge FOLDER FOLDER... join statistics of one model, from <results>/<name>/<model>\n"
    "      --output FOLDER         into this one; calibration.merged names the folder above it\n"
    "  lode digest FILE.h5         digest of all results in a file, provenance left out\n"
    "      --list                  and one of each dataset\n"
    "  lode keys                   every key of an experiment file, as a table\n"
    "  lode --version\n"
    "\n"
    "Start it under mpirun for more than one rank: mpirun -n P --bind-to none lode run exp.cfg\n";

typedef struct arguments {
    const char *command, *file, *output;
    const char **folders; /* of merge */
    int64_t folder_count;
    const char **overrides;
    int64_t override_count;
    bool resolved, list;
    lode_request_t request;
} arguments_t;

/* --- parsing -------------------------------------------------------------------------------- */

static lode_status_t fail_stages(const char *what) {
    lode_buffer_t stages = {0};
    lode_status_t status = LODE_OK;
    for (int s = 0; s < LODE_STAGE_COUNT && status == LODE_OK; s++)
        status = lode_buffer_printf(&stages, "%s, ", lode_stage_name((lode_stage_t)s));
    if (status == LODE_OK)
        status =
            lode_fail(LODE_ERR_USAGE, "--stages: %s; the stages are %sreport", what, stages.data);
    lode_buffer_free(&stages);
    return status;
}

static lode_status_t parse_stages(lode_request_t *request, const char *list) {
    request->stages = 0;
    request->report = false;
    for (const char *start = list; *start;) {
        const size_t length = strcspn(start, ",");
        bool known = length == strlen("report") && strncmp(start, "report", length) == 0;
        request->report |= known;
        for (int s = 0; s < LODE_STAGE_COUNT; s++) {
            const char *name = lode_stage_name((lode_stage_t)s);
            if (strlen(name) == length && strncmp(start, name, length) == 0) {
                request->stages |= 1u << s;
                known = true;
            }
        }
        if (!known) {
            char what[128];
            snprintf(what, sizeof what, "there is no stage \"%.*s\"",
                     (int)(length < 64 ? length : 64), start);
            return fail_stages(what);
        }
        start += length + (start[length] == ',');
    }
    if (request->stages == 0 && !request->report)
        return fail_stages("names no stage");
    return LODE_OK;
}

/* The value of option argv[*i], which moves on. */
static lode_status_t option_value(const char **value, int argc, char **argv, int *i) {
    if (*i + 1 >= argc)
        return lode_fail(LODE_ERR_USAGE, "%s needs a value; see lode --help", argv[*i]);
    *value = argv[++*i];
    return LODE_OK;
}

static lode_status_t parse_option(arguments_t *arguments, int argc, char **argv, int *i) {
    const char *option = argv[*i], *value = NULL;
    const bool run = strcmp(arguments->command, "run") == 0;
    const bool digest = strcmp(arguments->command, "digest") == 0;
    const bool merge = strcmp(arguments->command, "merge") == 0;
    if (strcmp(option, "--set") == 0 && !digest && !merge) {
        LODE_TRY(option_value(&value, argc, argv, i));
        arguments->overrides[arguments->override_count++] = value;
    } else if (strcmp(option, "--stages") == 0 && run) {
        LODE_TRY(option_value(&value, argc, argv, i));
        LODE_TRY(parse_stages(&arguments->request, value));
    } else if (strcmp(option, "--model") == 0 && run) {
        LODE_TRY(option_value(&arguments->request.model, argc, argv, i));
    } else if (strcmp(option, "--force") == 0 && run) {
        arguments->request.force = true;
    } else if (strcmp(option, "--resolved") == 0 && strcmp(arguments->command, "check") == 0) {
        arguments->resolved = true;
    } else if (strcmp(option, "--list") == 0 && digest) {
        arguments->list = true;
    } else if (strcmp(option, "--output") == 0 && merge) {
        LODE_TRY(option_value(&arguments->output, argc, argv, i));
    } else {
        return lode_fail(LODE_ERR_USAGE, "lode %s has no option %s; see lode --help",
                         arguments->command, option);
    }
    return LODE_OK;
}

/* Reads argv[first …]; the command is set already. */
static lode_status_t parse(arguments_t *arguments, int argc, char **argv, int first) {
    for (int i = first; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0')
            LODE_TRY(parse_option(arguments, argc, argv, &i));
        else if (strcmp(arguments->command, "merge") == 0)
            arguments->folders[arguments->folder_count++] = argv[i];
        else if (!arguments->file)
            arguments->file = argv[i];
        else
            return lode_fail(LODE_ERR_USAGE, "lode %s takes one file, not %s and %s",
                             arguments->command, arguments->file, argv[i]);
    }
    if (strcmp(arguments->command, "merge") == 0) {
        if (arguments->folder_count < 2 || !arguments->output)
            return lode_fail(LODE_ERR_USAGE, "lode merge needs two folders of results or more, and "
                                             "--output FOLDER; see lode --help");
        return LODE_OK;
    }
    if (!arguments->file)
        return lode_fail(LODE_ERR_USAGE, "lode %s needs a file; see lode --help",
                         arguments->command);
    return LODE_OK;
}

/* --- commands ------------------------------------------------------------------------------- */

/* Rank 0 reads the experiment; the others get its resolved text. */
static lode_status_t load(lode_config_t **config, const lode_comm_t *comm,
                          const arguments_t *arguments) {
    lode_buffer_t text = {0};
    lode_status_t status = LODE_OK;
    *config = NULL;
    if (comm->rank == 0) {
        status = lode_config_load(config, arguments->file, arguments->overrides,
                                  arguments->override_count);
        if (status == LODE_OK)
            status = lode_config_text(*config, &text);
    }
    status = lode_comm_share(comm, &text.data, &text.length, 0, status);
    if (status == LODE_OK) {
        if (comm->rank != 0)
            status = lode_config_parse(config, text.data, text.length, arguments->file);
        status = lode_comm_agree(comm, status);
    }
    free(text.data);
    if (status != LODE_OK)
        lode_config_destroy(config);
    return status;
}

static lode_status_t check(const lode_config_t *config, const arguments_t *arguments) {
    lode_config_point_t *points;
    int64_t count;
    if (arguments->resolved) {
        lode_buffer_t text = {0};
        LODE_TRY(lode_config_text(config, &text));
        fputs(text.data, stdout);
        lode_buffer_free(&text);
    }
    LODE_TRY(lode_config_expand(config, &points, &count));
    lode_status_t status = LODE_OK;
    for (int64_t p = 0; p < count && status == LODE_OK; p++) {
        status = lode_check_inputs(points[p].config, points[p].label, NULL,
                                   p == 0 && !arguments->resolved);
        if (status != LODE_OK && *points[p].label)
            status = lode_fail_context(status, "point %s of the sweep", points[p].label);
    }
    if (status == LODE_OK && !arguments->resolved)
        printf("%s is sound: %lld %s, %lld %s of its sweep\n", arguments->file,
               (long long)config->model_count, config->model_count == 1 ? "model" : "models",
               (long long)count, count == 1 ? "point" : "points");
    lode_config_points_destroy(&points, count);
    return status;
}

static lode_status_t digest(const arguments_t *arguments) {
    char text[LODE_DIGEST_TEXT];
    lode_buffer_t listing = {0};
    lode_status_t status =
        lode_store_digest(arguments->file, text, arguments->list ? &listing : NULL);
    if (status == LODE_OK) {
        if (listing.data)
            fputs(listing.data, stdout);
        puts(text);
    }
    lode_buffer_free(&listing);
    return status;
}

static lode_status_t with_experiment(const lode_comm_t *comm, const arguments_t *arguments) {
    lode_config_t *config;
    LODE_TRY(load(&config, comm, arguments));
    lode_status_t status = LODE_OK;
    if (strcmp(arguments->command, "run") == 0)
        status = lode_driver_run(comm, config, &arguments->request);
    else if (strcmp(arguments->command, "report") == 0)
        status = lode_driver_report(comm, config);
    else if (comm->rank == 0)
        status = check(config, arguments);
    lode_config_destroy(&config);
    return lode_comm_agree(comm, status);
}

static lode_status_t execute(const lode_comm_t *comm, int argc, char **argv, const char *stage) {
    arguments_t arguments = {.command = stage      ? "run"
                                        : argc > 1 ? argv[1]
                                                   : "--help",
                             .request = {.stages = (1u << LODE_STAGE_COUNT) - 1, .report = true}};
    const char *command = arguments.command;
    if (stage)
        LODE_TRY(parse_stages(&arguments.request, stage));
    if (strcmp(command, "--help") == 0 || strcmp(command, "--version") == 0) {
        if (comm->rank == 0 && strcmp(command, "--help") == 0)
            fputs(usage_text, stdout);
        else if (comm->rank == 0)
            printf("lode %s (%s)\n", lode_version(), lode_commit());
        return LODE_OK;
    }
    if (strcmp(command, "keys") == 0) {
        lode_buffer_t text = {0};
        LODE_TRY(lode_config_describe(&text));
        if (comm->rank == 0)
            fputs(text.data, stdout);
        lode_buffer_free(&text);
        return LODE_OK;
    }
    if (strcmp(command, "run") != 0 && strcmp(command, "check") != 0 &&
        strcmp(command, "report") != 0 && strcmp(command, "digest") != 0 &&
        strcmp(command, "merge") != 0)
        return lode_fail(LODE_ERR_USAGE, "lode has no command %s; see lode --help", command);
    LODE_TRY(lode_comm_agree(comm, LODE_NEW(&arguments.overrides, argc, "arguments")));
    lode_status_t status = LODE_NEW(&arguments.folders, argc, "arguments");
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = parse(&arguments, argc, argv, stage ? 1 : 2);
    if (status == LODE_OK && strcmp(command, "merge") == 0)
        status = lode_merge(comm, arguments.folders, arguments.folder_count, arguments.output);
    else if (status == LODE_OK && strcmp(command, "digest") == 0)
        status = comm->rank == 0 ? digest(&arguments) : LODE_OK;
    else if (status == LODE_OK)
        status = with_experiment(comm, &arguments);
    free(arguments.overrides);
    free(arguments.folders);
    return status;
}

/* What was printed must have arrived, like any other result. */
static lode_status_t flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return LODE_OK;
    return lode_fail(LODE_ERR_IO, "standard output cannot be written: %s; check where it goes",
                     strerror(errno));
}

static int program(int argc, char **argv, const char *stage) {
    int provided;
    /* A write beyond the limit on file sizes then fails with a message, instead of killing us. */
    signal(SIGXFSZ, SIG_IGN);
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        fprintf(stderr, "lode: error: MPI cannot be initialised\n");
        return LODE_ERR_COMM;
    }
    lode_comm_guard(MPI_COMM_WORLD);
    const lode_comm_t comm = lode_comm_describe(MPI_COMM_WORLD);
    lode_log_enable(comm.rank == 0);
    lode_status_t status = lode_fault_arm(getenv("LODE_FAULT"), comm.rank);
    status = lode_comm_agree(&comm, status);
    if (status == LODE_OK)
        status = execute(&comm, argc, argv, stage);
    if (status == LODE_OK)
        status = flush_output();
    status = lode_comm_agree(&comm, status);
    if (status != LODE_OK && comm.rank == 0)
        lode_error_print(lode_error_message());
    lode_fault_report();
    MPI_Finalize();
    return (int)status;
}

int lode_program_main(int argc, char **argv) {
    return program(argc, argv, NULL);
}

int lode_program_stage_main(int argc, char **argv, const char *stage) {
    return program(argc, argv, stage);
}
