#include "lode/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/outline.h"

/* The weights, or config.json alone where there are none yet. */
static lode_status_t open_weights(lode_run_t *run) {
    if (!lode_config_is_scratch(run->config, run->model)) {
        LODE_TRY(lode_checkpoint_open(&run->checkpoint, run->model->path));
        run->architecture = *lode_checkpoint_architecture(run->checkpoint);
        return LODE_OK;
    }
    lode_outline_t outline;
    LODE_TRY(lode_outline_open(&outline, run->model->path));
    run->architecture = outline.architecture;
    lode_outline_close(&outline);
    return LODE_OK;
}

/* The tokenizer: one that is made, or the folder's. */
static lode_status_t find_tokenizer(lode_run_t *run) {
    static const char name[] = "tokenizer.json";
    const char *path;
    if (lode_stage_wanted_of(run->config, run->model, LODE_STAGE_TOKENIZER))
        return lode_path_join(&run->tokenizer, run->folder, name);
    if (!run->checkpoint)
        return lode_path_join(&run->tokenizer, run->model->path, name);
    LODE_TRY(lode_checkpoint_tokenizer(run->checkpoint, &path));
    return lode_strdup(&run->tokenizer, path);
}

static lode_status_t check_run(const lode_run_t *run) {
    const lode_architecture_t *a = &run->architecture;
    const lode_config_model_t *model = run->model;
    if (lode_config_is_trained(run->config, model))
        LODE_TRY(lode_config_check_training(run->config, a->max_positions, a->layers, a->vocab,
                                            model->name));
    LODE_TRY(lode_config_check_model(run->config, a->max_positions, a->hidden, model->name));
    return lode_config_check_bos(run->config, a->bos, model->name);
}

lode_status_t lode_model_open(lode_run_t *run, const char *results) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s%s%s/%s", results, *run->point ? "/" : "", run->point,
             run->model->name);
    LODE_TRY(lode_strdup(&run->folder, folder));
    LODE_TRY(LODE_NEW(&run->sound, 1, "stages"));
    LODE_TRY(open_weights(run));
    LODE_TRY(find_tokenizer(run));
    LODE_TRY(check_run(run));
    return lode_layout_create(&run->layout, &run->architecture, run->config->calibration.max_length,
                              run->comm->size, run->comm->rank, run->config->replicas);
}

void lode_model_close(lode_run_t *run) {
    for (int64_t i = 0; i < run->earlier_count; i++)
        free(run->earlier[i]);
    free(run->earlier);
    lode_checkpoint_close(&run->checkpoint);
    lode_buffer_free(&run->inputs);
    free(run->tokenizer);
    free(run->folder);
    free(run->sound);
    *run = (lode_run_t){0};
}

lode_status_t lode_model_list_earlier(lode_run_t *run, const char *results,
                                      const lode_config_point_t *points, int64_t count) {
    if (run->force)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&run->earlier, count + 1, "list of results"));
    LODE_TRY(lode_run_path(&run->earlier[0], run, LODE_STAGE_EVALUATE));
    run->earlier_count = 1;
    for (int64_t p = 0; p < count; p++) {
        const char *label = points[p].label;
        lode_buffer_t path = {0};
        const lode_status_t status =
            lode_buffer_printf(&path, "%s%s%s/%s/%s.h5", results, *label ? "/" : "", label,
                               run->model->name, lode_stage_name(LODE_STAGE_EVALUATE));
        if (status == LODE_OK && strcmp(path.data, run->earlier[0]) != 0)
            run->earlier[run->earlier_count++] = path.data; /* handed over */
        else
            lode_buffer_free(&path);
        LODE_TRY(status);
    }
    return LODE_OK;
}

void lode_model_describe(const lode_run_t *run, bool computed) {
    const char *point = run->point;
    const lode_layout_t *layout = &run->layout;
    const int idle = run->comm->size - layout->replicas * layout->stages;
    char over[48] = "", replicas[96] = "", idling[64] = "";
    if (computed)
        snprintf(over, sizeof over, " over %d %s", layout->stages,
                 layout->stages == 1 ? "rank" : "ranks");
    if (computed && layout->replicas > 1)
        snprintf(replicas, sizeof replicas, ", in %d replicas that share the sequences",
                 layout->replicas);
    if (computed && idle > 0)
        snprintf(idling, sizeof idling, "; %d %s", idle, idle == 1 ? "rank idles" : "ranks idle");
    lode_log_info("model %s%s%s: %lld layers%s%s%s", run->model->name, *point ? ", " : "", point,
                  (long long)run->architecture.layers, over, replicas, idling);
}
