/* plan_check: whether a run takes what lode plan says, on a small model.
 *
 *   plan_check LODE MPIEXEC EXPERIMENT.cfg RANKS [--set key=value ...]
 *
 * Runs the experiment, then forecasts its first model and, where that is trained, the last of its
 * checkpoints, and compares, for every stage, the size of its file and the private memory that its
 * provenance has: within 15 %, or, of what is small, 8 MB and 64 kB; 12 MB in stages after those
 * that spread matrices over ranks. So are the folders of the checkpoints, all together, with the
 * state that stays beside them.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "plan/forecast.h"
#include "testing/temporary.h"

enum { MOST_OVERRIDES = 32 };
/* What lies beside the weights of a folder is a tokenizer, in the main. */
static const double TOLERANCE = 0.15, MEMORY_FLOOR = 8e6, FILE_FLOOR = 65536, FOLDER_FLOOR = 3e5;
/* Where matrices are spread over ranks, the heap keeps some of what they took, and panels that are
 * bounded are counted in full. */
static const double MATRIX_FLOOR = 12e6;

static bool is_close(const char *what, const char *stage, double said, double got, double floor) {
    const double allowed = fmax(TOLERANCE * got, floor);
    const bool close = got > 0 && fabs(said - got) <= allowed;
    fprintf(stderr, "%-12s %-8s planned %12.0f, took %12.0f%s\n", stage, what, said, got,
            close ? "" : "   WRONG");
    return close;
}

static lode_status_t measured(const lode_run_t *run, lode_stage_t stage, int64_t *file,
                              int64_t *memory) {
    char *path;
    struct stat info;
    lode_store_t *store;
    LODE_TRY(lode_run_path(&path, run, stage));
    *file = stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
    lode_status_t status = lode_store_open(&store, run->comm, path);
    free(path);
    LODE_TRY(status);
    status = lode_store_get_attribute_i64(store, "/provenance", "peak_private_bytes", memory);
    lode_store_close(&store);
    return status;
}

static lode_status_t compare(const lode_forecast_t *forecast, int *wrong) {
    for (int s = 0; s < LODE_STAGE_COUNT; s++) {
        const lode_stage_t stage = (lode_stage_t)s;
        const char *name = lode_stage_name(stage);
        int64_t file, memory, most = 0;
        if (!forecast->stage[s].wanted)
            continue;
        LODE_TRY(measured(&forecast->run, stage, &file, &memory));
        *wrong +=
            !is_close("file", name, (double)forecast->stage[s].file, (double)file, FILE_FLOOR);
        /* calibrate and accumulate are one pass; moments is that pass, or what follows it. */
        const bool statistics = stage == LODE_STAGE_ACCUMULATE || stage == LODE_STAGE_MOMENTS;
        for (int r = 0; r < forecast->stages; r++) {
            const lode_forecast_memory_t *of = forecast->rank[r].memory;
            const int64_t pass = statistics ? of[LODE_STAGE_CALIBRATE].used : 0;
            const int64_t own = of[s].used > pass ? of[s].used : pass;
            most = own > most ? own : most;
        }
        const bool spread = forecast->stage[LODE_STAGE_MOMENTS].wanted && s > LODE_STAGE_MOMENTS;
        *wrong += !is_close("memory", name, (double)most, (double)memory,
                            spread ? MATRIX_FLOOR : MEMORY_FLOOR);
    }
    return LODE_OK;
}

/* Bytes of all files in the folders of a model's checkpoints. */
static int64_t folder_bytes(const lode_config_t *config) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < config->trained_count; i++) {
        struct dirent *entry;
        DIR *folder = opendir(config->trained[i].path);
        while (folder && (entry = readdir(folder))) {
            char path[4096];
            struct stat info;
            snprintf(path, sizeof path, "%s/%s", config->trained[i].path, entry->d_name);
            if (stat(path, &info) == 0 && S_ISREG(info.st_mode))
                bytes += (int64_t)info.st_size;
        }
        if (folder)
            closedir(folder);
    }
    return bytes;
}

/* Of the state that a training of the model has left, 0 where it has left none. */
static int64_t state_bytes(const lode_config_t *config, const lode_config_model_t *model) {
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s/%s/train-state.h5", config->results, config->name,
             model->name);
    return stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
}

/* Forecasts one model of the experiment and compares. */
static lode_status_t check_model(const lode_config_t *config, const lode_config_model_t *model,
                                 int ranks, int *wrong) {
    const lode_machine_t machine = {.threads = 1,
                                    .sgemm = 1e11,
                                    .forward = 1e11,
                                    .backward = 1e11,
                                    .head = 1e11,
                                    .head_backward = 1e11,
                                    .training = 1e11,
                                    .optimizer = 1e10,
                                    .dgemm = 5e10,
                                    .vector = 1e9,
                                    .disk = 1e9};
    lode_forecast_t forecast;
    lode_status_t status = lode_forecast_make(&forecast, config, model, "", &machine, ranks, false);
    fprintf(stderr, "%s\n", model->name);
    if (status == LODE_OK)
        status = compare(&forecast, wrong);
    if (status == LODE_OK && forecast.stage[LODE_STAGE_TRAIN].wanted)
        *wrong +=
            !is_close("folders", "train", (double)forecast.checkpoints,
                      (double)(folder_bytes(config) + state_bytes(config, model)), FOLDER_FLOOR);
    lode_forecast_free(&forecast);
    return status;
}

static int run(char **argv, int ranks, const char *results) {
    lode_buffer_t command = {0};
    lode_status_t status = LODE_OK;
    if (ranks > 1)
        status = lode_buffer_printf(&command, "%s -n %d --oversubscribe --bind-to none ", argv[2],
                                    ranks);
    if (status == LODE_OK)
        status =
            lode_buffer_printf(&command, "%s run %s --set results=%s", argv[1], argv[3], results);
    for (char **rest = argv + 5; *rest && status == LODE_OK; rest++)
        status = lode_buffer_printf(&command, " '%s'", *rest);
    const int outcome = status == LODE_OK ? system(command.data) : -1;
    lode_buffer_free(&command);
    return outcome;
}

static lode_status_t check(char **argv, int argc, int ranks, const char *results, int *wrong) {
    const char *overrides[MOST_OVERRIDES];
    char place[4096];
    int64_t count = 0, point_count = 0;
    lode_config_t *config;
    lode_config_point_t *points = NULL;
    snprintf(place, sizeof place, "results=%s", results);
    overrides[count++] = place;
    for (int i = 6; i < argc && count < MOST_OVERRIDES; i += 2) /* after each --set */
        overrides[count++] = argv[i];
    LODE_TRY(lode_config_load(&config, argv[3], overrides, count));
    lode_status_t status = lode_config_expand(config, &points, &point_count);
    if (status == LODE_OK) {
        const lode_config_t *point = points[0].config;
        status = check_model(point, &point->models[0], ranks, wrong);
        if (status == LODE_OK && point->trained_count > 0)
            status = check_model(point, &point->trained[point->trained_count - 1], ranks, wrong);
    }
    lode_config_points_destroy(&points, point_count);
    lode_config_destroy(&config);
    return status;
}

int main(int argc, char **argv) {
    int wrong = 0;
    if (argc < 5)
        return 2;
    const int ranks = atoi(argv[4]);
    const char *results = lode_test_temporary();
    lode_status_t status = LODE_OK;
    if (run(argv, ranks, results) != 0)
        wrong = 1;
    else
        status = check(argv, argc, ranks, results, &wrong);
    if (status != LODE_OK)
        fprintf(stderr, "%s\n", lode_error_message());
    return status != LODE_OK || wrong > 0;
}
