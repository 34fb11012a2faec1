#include "lode/command.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/stop.h"
#include "bench/bench.h"
#include "common/outline.h"
#include "common/run.h"
#include "common/version.h"
#include "lode/check.h"
#include "lode/driver.h"
#include "merge/merge.h"
#include "model/writer.h"
#include "plan/plan.h"
#include "store/digest.h"
#include "synthesize/synthesize.h"

enum { MAX_THREADS = 4096, MAX_BENCH_TOKENS = 1 << 20 };

static const char merge_needs[] = "lode merge needs two folders of results or more, and --output "
                                  "FOLDER; see lode --help";

/* --- what they do --------------------------------------------------------------------------- */

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

static lode_status_t run(const lode_comm_t *comm, const lode_config_t *config,
                         const lode_arguments_t *arguments) {
    lode_request_t request = {.stages = (1u << LODE_STAGE_COUNT) - 1,
                              .report = true,
                              .model = arguments->value[LODE_OPTION_MODEL],
                              .force = arguments->value[LODE_OPTION_FORCE] != NULL};
    if (arguments->value[LODE_OPTION_STAGES])
        LODE_TRY(parse_stages(&request, arguments->value[LODE_OPTION_STAGES]));
    if (arguments->value[LODE_OPTION_TIME_LIMIT]) {
        double seconds;
        LODE_TRY(lode_fail_context(
            lode_stop_parse(&seconds, arguments->value[LODE_OPTION_TIME_LIMIT]), "--time-limit"));
        lode_stop_after(seconds);
    }
    return lode_driver_run(comm, config, &request);
}

static lode_status_t report(const lode_comm_t *comm, const lode_config_t *config,
                            const lode_arguments_t *arguments) {
    (void)arguments;
    return lode_driver_report(comm, config);
}

static void say_sound(const char *file, const lode_config_t *config, int64_t points) {
    const int64_t models = config->model_count, checkpoints = lode_config_checkpoint_total(config);
    char trained[128] = "";
    if (checkpoints > 0)
        snprintf(trained, sizeof trained, " trained to %lld %s each%s", (long long)checkpoints,
                 checkpoints == 1 ? "checkpoint" : "checkpoints",
                 lode_config_measures(config) ? "" : " and, without calibration.corpus, no more");
    printf("%s is sound: %lld %s%s, %lld %s of its sweep\n", file, (long long)models,
           models == 1 ? "model" : "models", trained, (long long)points,
           points == 1 ? "point" : "points");
}

static lode_status_t check(const lode_comm_t *comm, const lode_config_t *config,
                           const lode_arguments_t *arguments) {
    lode_config_point_t *points;
    int64_t count;
    const bool resolved = arguments->value[LODE_OPTION_RESOLVED] != NULL;
    if (comm->rank != 0)
        return LODE_OK;
    if (resolved) {
        lode_buffer_t text = {0};
        LODE_TRY(lode_config_text(config, &text));
        fputs(text.data, stdout);
        lode_buffer_free(&text);
    }
    LODE_TRY(lode_config_expand(config, &points, &count));
    lode_status_t status = LODE_OK;
    for (int64_t p = 0; p < count && status == LODE_OK; p++) {
        status = lode_check_inputs(points[p].config, points[p].label, NULL, p == 0 && !resolved);
        if (status != LODE_OK && *points[p].label)
            status = lode_fail_context(status, "point %s of the sweep", points[p].label);
    }
    if (status == LODE_OK && !resolved)
        say_sound(arguments->operands[0], config, count);
    lode_config_points_destroy(&points, count);
    return status;
}

static lode_status_t merge(const lode_comm_t *comm, const lode_config_t *config,
                           const lode_arguments_t *arguments) {
    (void)config;
    const char *output = arguments->value[LODE_OPTION_OUTPUT];
    if (!output)
        return lode_fail(LODE_ERR_USAGE, "%s", merge_needs);
    return lode_merge(comm, arguments->operands, arguments->operand_count, output);
}

static lode_status_t plan(const lode_comm_t *comm, const lode_config_t *config,
                          const lode_arguments_t *arguments) {
    (void)config;
    int64_t ranks, per_node;
    if (comm->rank != 0)
        return LODE_OK;
    if (!arguments->value[LODE_OPTION_RANKS])
        return lode_fail(LODE_ERR_USAGE, "lode plan needs --ranks P; see lode --help");
    LODE_TRY(lode_arguments_integer(&ranks, arguments, LODE_OPTION_RANKS, 1, 1 << 20, 1));
    LODE_TRY(
        lode_arguments_integer(&per_node, arguments, LODE_OPTION_RANKS_PER_NODE, 1, 1 << 20, 0));
    const lode_plan_request_t request = {.path = arguments->operands[0],
                                         .overrides = arguments->overrides,
                                         .override_count = arguments->override_count,
                                         .model = arguments->value[LODE_OPTION_MODEL],
                                         .ranks = (int)ranks,
                                         .machine = arguments->value[LODE_OPTION_MACHINE],
                                         .node_memory = arguments->value[LODE_OPTION_NODE_MEMORY],
                                         .ranks_per_node = (int)per_node,
                                         .json = arguments->value[LODE_OPTION_JSON] != NULL};
    return lode_plan_print(&request);
}

static lode_status_t digest(const lode_comm_t *comm, const lode_config_t *config,
                            const lode_arguments_t *arguments) {
    (void)config;
    char text[LODE_DIGEST_TEXT];
    lode_buffer_t listing = {0};
    if (comm->rank != 0)
        return LODE_OK;
    lode_status_t status = lode_store_digest(arguments->operands[0], text,
                                             arguments->value[LODE_OPTION_LIST] ? &listing : NULL);
    if (status == LODE_OK) {
        if (listing.data)
            fputs(listing.data, stdout);
        puts(text);
    }
    lode_buffer_free(&listing);
    return status;
}

/* The type of weights that was asked for; *given stays NULL where none was. */
static lode_status_t take_dtype(const lode_dtype_t **given, lode_dtype_t *dtype,
                                const lode_arguments_t *arguments) {
    const char *name = arguments->value[LODE_OPTION_DTYPE];
    *given = NULL;
    if (!name)
        return LODE_OK;
    if (!lode_outline_find_dtype(dtype, name))
        return lode_fail(LODE_ERR_USAGE, "--dtype %s: there are F32, F16 and BF16", name);
    *given = dtype;
    return LODE_OK;
}

/* --threads, by default as many as this process may use. */
static lode_status_t take_threads(int *threads, const lode_arguments_t *arguments) {
    cpu_set_t set;
    int64_t number = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    LODE_TRY(
        lode_arguments_integer(&number, arguments, LODE_OPTION_THREADS, 1, MAX_THREADS, number));
    *threads = (int)number;
    return LODE_OK;
}

static lode_status_t synthesize(const lode_comm_t *comm, const lode_config_t *config,
                                const lode_arguments_t *arguments) {
    (void)config;
    lode_dtype_t dtype;
    lode_synthesize_request_t request = {.model = arguments->operands[0],
                                         .folder = arguments->operands[1]};
    LODE_TRY(lode_arguments_integer(&request.layers, arguments, LODE_OPTION_LAYERS, 1,
                                    LODE_ARCHITECTURE_MAX_LAYERS, 0));
    LODE_TRY(lode_arguments_integer(&request.seed, arguments, LODE_OPTION_SEED, 0, INT64_MAX, 42));
    LODE_TRY(lode_arguments_size(&request.shard_bytes, arguments, LODE_OPTION_SHARD_SIZE,
                                 LODE_WRITER_SHARD_BYTES));
    LODE_TRY(take_dtype(&request.dtype, &dtype, arguments));
    LODE_TRY(take_threads(&request.threads, arguments));
    return comm->rank == 0 ? lode_synthesize(&request) : LODE_OK;
}

static lode_status_t bench(const lode_comm_t *comm, const lode_config_t *config,
                           const lode_arguments_t *arguments) {
    (void)config;
    lode_dtype_t dtype;
    lode_bench_request_t request = {.model = arguments->operands[0],
                                    .output = arguments->value[LODE_OPTION_OUTPUT]};
    LODE_TRY(lode_arguments_integer(&request.tokens, arguments, LODE_OPTION_TOKENS, 1,
                                    MAX_BENCH_TOKENS, 2048));
    LODE_TRY(lode_arguments_integer(&request.length, arguments, LODE_OPTION_LENGTH, 1,
                                    MAX_BENCH_TOKENS, 0));
    LODE_TRY(lode_arguments_integer(&request.layers, arguments, LODE_OPTION_LAYERS, 1,
                                    LODE_ARCHITECTURE_MAX_LAYERS, 2));
    LODE_TRY(take_dtype(&request.dtype, &dtype, arguments));
    LODE_TRY(take_threads(&request.threads, arguments));
    if (!arguments->value[LODE_OPTION_THREADS] && comm->size > 1) /* taken to share a machine */
        request.threads = request.threads > comm->size ? request.threads / comm->size : 1;
    return lode_bench(comm, &request);
}

static lode_status_t keys(const lode_comm_t *comm, const lode_config_t *config,
                          const lode_arguments_t *arguments) {
    (void)config;
    (void)arguments;
    lode_buffer_t text = {0};
    LODE_TRY(lode_config_describe(&text));
    if (comm->rank == 0)
        fputs(text.data, stdout);
    lode_buffer_free(&text);
    return LODE_OK;
}

static lode_status_t version(const lode_comm_t *comm, const lode_config_t *config,
                             const lode_arguments_t *arguments) {
    (void)config;
    (void)arguments;
    if (comm->rank == 0)
        printf("lode %s (%s)\n", lode_version(), lode_commit());
    return LODE_OK;
}

/* --- the table ------------------------------------------------------------------------------ */

static const lode_command_t commands[] = {
    {.name = "run",
     .usage =
         "  lode run EXPERIMENT.cfg     run what is not complete, then build the report\n"
         "      --set key.path=value    change a key of the experiment; may be repeated\n"
         "      --stages a,b            only these: tokenizer tokenize train calibrate\n"
         "                              accumulate moments classify superweight spectra prune\n"
         "                              compensate quantize evaluate probe export audit report\n"
         "      --model NAME            only this model, with its checkpoints, or one of them, or\n"
         "                              the models of this series\n"
         "      --force                 run the stages again though they are complete\n"
         "      --time-limit 3h30m      stop in time, like on SIGTERM: end the unit in hand and\n"
         "                              exit with status 75; the same command goes on\n",
     .options = LODE_OPTION_BIT(SET) | LODE_OPTION_BIT(STAGES) | LODE_OPTION_BIT(MODEL) |
                LODE_OPTION_BIT(FORCE) | LODE_OPTION_BIT(TIME_LIMIT),
     .experiment = true,
     .stops = true,
     .run = run},
    {.name = "check",
     .usage = "  lode check EXPERIMENT.cfg   validate the file and every input it names\n"
              "      --set key.path=value\n"
              "      --resolved              print the experiment with every key written out\n",
     .options = LODE_OPTION_BIT(SET) | LODE_OPTION_BIT(RESOLVED),
     .experiment = true,
     .alone = true,
     .run = check},
    {.name = "plan",
     .usage =
         "  lode plan FILE --ranks P    layers, memory, disk and time, before there are ranks\n"
         "                              or weights; FILE: an experiment, a config.json, or a\n"
         "                              folder that has one\n"
         "      --set key.path=value\n"
         "      --model NAME            only this model, or the models of this series\n"
         "      --machine BENCH.json    speeds that lode bench measured\n"
         "      --memory-per-node 256G --ranks-per-node N\n"
         "      --json                  for programs\n",
     .options = LODE_OPTION_BIT(SET) | LODE_OPTION_BIT(MODEL) | LODE_OPTION_BIT(RANKS) |
                LODE_OPTION_BIT(MACHINE) | LODE_OPTION_BIT(NODE_MEMORY) |
                LODE_OPTION_BIT(RANKS_PER_NODE) | LODE_OPTION_BIT(JSON),
     .least = 1,
     .most = 1,
     .alone = true,
     .run = plan},
    {.name = "report",
     .usage = "  lode report EXPERIMENT.cfg  rebuild summary.csv and report.html\n"
              "      --set key.path=value\n",
     .options = LODE_OPTION_BIT(SET),
     .experiment = true,
     .run = report},
    {.name = "merge",
     .usage = "  lode merge FOLDER FOLDER... join statistics of one model, from "
              "<results>/<name>/<model>\n"
              "      --output FOLDER         into this one; calibration.merged names the folder "
              "above it\n",
     .options = LODE_OPTION_BIT(OUTPUT),
     .least = 2,
     .most = INT64_MAX,
     .too_few = merge_needs,
     .run = merge},
    {.name = "digest",
     .usage = "  lode digest FILE.h5         digest of all results in a file, provenance left out\n"
              "      --list                  and one of each dataset\n",
     .options = LODE_OPTION_BIT(LIST),
     .least = 1,
     .most = 1,
     .alone = true,
     .run = digest},
    {.name = "bench",
     .usage =
         "  lode bench CONFIG           how fast this machine computes the model of a "
         "config.json:\n"
         "                              passes and kernels against SGEMM, without its weights\n"
         "      --output FILE.json      also for lode plan --machine\n"
         "      --threads N --tokens 2048 --length L --layers 2 --dtype F32|F16|BF16\n",
     .options = LODE_OPTION_BIT(OUTPUT) | LODE_OPTION_BIT(THREADS) | LODE_OPTION_BIT(TOKENS) |
                LODE_OPTION_BIT(LENGTH) | LODE_OPTION_BIT(LAYERS) | LODE_OPTION_BIT(DTYPE),
     .least = 1,
     .most = 1,
     .alone = true,
     .run = bench},
    {.name = "synthesize",
     .usage = "  lode synthesize CONFIG FOLDER  write a model of the shape of a config.json with "
              "random\n"
              "                              weights, and its tokenizer or one of bytes: to "
              "rehearse with\n"
              "      --layers N --dtype F32|F16|BF16 --seed S --shard-size 4G --threads N\n",
     .options = LODE_OPTION_BIT(LAYERS) | LODE_OPTION_BIT(DTYPE) | LODE_OPTION_BIT(SEED) |
                LODE_OPTION_BIT(SHARD_SIZE) | LODE_OPTION_BIT(THREADS),
     .least = 2,
     .most = 2,
     .too_few = "lode synthesize needs a config.json and the folder to write; see lode --help",
     .alone = true,
     .run = synthesize},
    {.name = "keys",
     .usage = "  lode keys                   every key of an experiment file, as a table\n",
     .alone = true,
     .run = keys},
    {.name = "--version", .usage = "  lode --version\n", .alone = true, .run = version},
    {.name = "--help", .usage = "", .alone = true},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

const lode_command_t *lode_command_find(const char *name) {
    for (int c = 0; c < COMMAND_COUNT; c++)
        if (strcmp(commands[c].name, name) == 0)
            return &commands[c];
    return NULL;
}

void lode_command_help(void) {
    puts("usage: lode <command> [arguments]\n");
    for (int c = 0; c < COMMAND_COUNT; c++)
        fputs(commands[c].usage, stdout);
    puts("\nStart it under mpirun for more than one rank: "
         "mpirun -n P --bind-to none lode run exp.cfg");
}
