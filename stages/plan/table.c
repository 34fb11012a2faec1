#include <stdio.h>
#include <string.h>

#include "model/describe.h"
#include "plan/internal.h"
#include "plan/show.h"

/* --- numbers --------------------------------------------------------------------------------- */

const char *lode_plan_bytes(char text[LODE_PLAN_TEXT], int64_t bytes) {
    const double b = (double)bytes;
    if (bytes == 0)
        snprintf(text, LODE_PLAN_TEXT, "-");
    else if (b < 1e6)
        snprintf(text, LODE_PLAN_TEXT, "%.0f kB", b / 1e3);
    else if (b < 999.5e6)
        snprintf(text, LODE_PLAN_TEXT, "%.*f MB", b < 9.995e6 ? 1 : 0, b / 1e6);
    else
        snprintf(text, LODE_PLAN_TEXT, "%.*f GB", b < 99.95e9 ? 2 : 0, b / 1e9);
    return text;
}

const char *lode_plan_limit(char text[LODE_PLAN_TEXT], int64_t bytes) {
    const int64_t megabyte = 1 << 20, gigabyte = 1 << 30;
    if (bytes % gigabyte == 0)
        snprintf(text, LODE_PLAN_TEXT, "%lldG", (long long)(bytes / gigabyte));
    else if (bytes % megabyte == 0)
        snprintf(text, LODE_PLAN_TEXT, "%lldM", (long long)(bytes / megabyte));
    else
        lode_plan_bytes(text, bytes);
    return text;
}

const char *lode_plan_seconds(char text[LODE_PLAN_TEXT], double seconds) {
    const long long whole = (long long)(seconds + 0.5);
    if (seconds < 10)
        snprintf(text, LODE_PLAN_TEXT, "%.*f s", seconds < 1 ? 2 : 1, seconds);
    else if (whole < 120)
        snprintf(text, LODE_PLAN_TEXT, "%lld s", whole);
    else if (whole < 7200)
        snprintf(text, LODE_PLAN_TEXT, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(text, LODE_PLAN_TEXT, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
    return text;
}

const char *lode_plan_stage_name(const lode_forecast_t *forecast, lode_stage_t stage) {
    if (stage == LODE_STAGE_CALIBRATE)
        return forecast->stage[LODE_STAGE_MOMENTS].wanted ? "calibrate, accumulate, moments"
                                                          : "calibrate, accumulate";
    return stage == LODE_STAGE_MOMENTS ? "moments (products)" : lode_stage_name(stage);
}

/* --- what is planned ------------------------------------------------------------------------- */

static lode_status_t put_model(lode_buffer_t *text, const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    const lode_config_t *config = forecast->config;
    char description[LODE_DESCRIPTION_BYTES], bytes[LODE_PLAN_TEXT], memory[LODE_PLAN_TEXT];
    char more[64] = "";
    lode_architecture_describe(description, a);
    if (forecast->copies > 1)
        snprintf(more, sizeof more, " and %lld like it", (long long)forecast->copies - 1);
    LODE_TRY(lode_buffer_printf(
        text, "model %s%s: %s, %lld layers, hidden %lld, %lld channels, %.3g G parameters, %s %s\n",
        forecast->entry->name, more, description, (long long)a->layers, (long long)a->hidden,
        (long long)a->intermediate, (double)lode_architecture_parameters(a) / 1e9,
        lode_plan_bytes(bytes, forecast->model.bytes), lode_dtype_name(forecast->model.dtype)));
    LODE_TRY(lode_buffer_printf(text, "%d %s of %lld %s, memory %s each; ", forecast->ranks,
                                forecast->ranks == 1 ? "rank" : "ranks", (long long)config->threads,
                                config->threads == 1 ? "thread" : "threads",
                                lode_plan_limit(memory, config->memory)));
    if (forecast->stage[LODE_STAGE_TRAIN].wanted)
        LODE_TRY(lode_buffer_printf(text, "%lld steps of %lld sequences of %lld tokens, ",
                                    (long long)config->train.steps, (long long)config->train.batch,
                                    (long long)config->train.length));
    if (!forecast->scratch)
        LODE_TRY(lode_buffer_printf(text, "%lld sequences of up to %lld tokens, ",
                                    (long long)forecast->texts.calibration.sequences,
                                    (long long)config->calibration.max_length));
    LODE_TRY(lode_buffer_printf(text, "micro-batches of %lld", (long long)config->micro_batch));
    if (forecast->replicas > 1)
        LODE_TRY(lode_buffer_printf(text, "; %d replicas of %d stages", forecast->replicas,
                                    forecast->stages));
    return lode_buffer_printf(text, "\n\n");
}

/* --- ranks ----------------------------------------------------------------------------------- */

/* A row without the column in which the ranks of a row may differ. */
static void rank_row(char row[128], const lode_forecast_rank_t *rank) {
    char weights[LODE_PLAN_TEXT], least[LODE_PLAN_TEXT], used[LODE_PLAN_TEXT];
    const int64_t layers = rank->layout.layer_end - rank->layout.first_layer;
    char owns[LODE_PLAN_TEXT];
    snprintf(owns, sizeof owns, "%lld%s%s", (long long)layers,
             rank->layout.embedding ? " + embedding" : "", rank->layout.head ? " + head" : "");
    snprintf(row, 128, "%-22s %10s %11s %11s", owns, lode_plan_bytes(weights, rank->weights),
             lode_plan_bytes(least, rank->peak.least), lode_plan_bytes(used, rank->peak.used));
}

static lode_status_t put_ranks(lode_buffer_t *text, const lode_forecast_t *forecast) {
    LODE_TRY(lode_buffer_printf(text, "%-10s %-22s %10s %11s %11s %19s\n", "rank", "layers",
                                "weights", "private:min", "peak", "to keep everything"));
    for (int first = 0, end; first < forecast->stages; first = end) {
        char row[128], other[128], ranks[LODE_PLAN_TEXT], low[LODE_PLAN_TEXT], high[LODE_PLAN_TEXT];
        int64_t least = forecast->rank[first].peak.all, most = least;
        rank_row(row, &forecast->rank[first]);
        for (end = first + 1; end < forecast->stages; end++) {
            const int64_t all = forecast->rank[end].peak.all;
            rank_row(other, &forecast->rank[end]);
            if (strcmp(row, other) != 0)
                break;
            least = all < least ? all : least;
            most = all > most ? all : most;
        }
        if (end == first + 1)
            snprintf(ranks, sizeof ranks, "%d", first);
        else
            snprintf(ranks, sizeof ranks, "%d-%d", first, end - 1);
        lode_plan_bytes(low, least);
        lode_plan_bytes(high, most);
        const bool same = strcmp(low, high) == 0;
        LODE_TRY(lode_buffer_printf(text, "%-10s %s %s%s%s\n", ranks, row, low, same ? "" : " to ",
                                    same ? "" : high));
    }
    return forecast->replicas > 1
               ? lode_buffer_printf(text, "(of each of %d replicas)\n\n", forecast->replicas)
               : lode_buffer_printf(text, "\n");
}

/* --- stages ---------------------------------------------------------------------------------- */

static int64_t stage_memory(const lode_forecast_t *forecast, int stage) {
    int64_t most = 0;
    for (int s = 0; s < forecast->stages; s++)
        if (forecast->rank[s].memory[stage].used > most)
            most = forecast->rank[s].memory[stage].used;
    return most;
}

static lode_status_t put_stage(lode_buffer_t *text, const lode_forecast_t *forecast,
                               lode_stage_t which, const lode_plan_sweep_t *sweep) {
    const lode_forecast_stage_t *stage = &forecast->stage[which];
    char memory[LODE_PLAN_TEXT], file[LODE_PLAN_TEXT], scratch[LODE_PLAN_TEXT],
        seconds[LODE_PLAN_TEXT], bubble[LODE_PLAN_TEXT] = "-", speed[LODE_PLAN_TEXT] = "-",
                                 runs[LODE_PLAN_TEXT] = "";
    if (stage->tokens > 0 && stage->seconds > 0) {
        snprintf(bubble, sizeof bubble, "%.1f %%", 100 * stage->bubble);
        snprintf(speed, sizeof speed, "%.*f", (double)stage->tokens < 10 * stage->seconds ? 2 : 0,
                 (double)stage->tokens / stage->seconds);
    }
    if (sweep->points > 1)
        snprintf(runs, sizeof runs, "  × %lld", (long long)sweep->runs[which]);
    /* Its pass is that of calibrate. */
    const bool shared = which == LODE_STAGE_ACCUMULATE;
    return lode_buffer_printf(
        text, "%-31s %10s %10s %10s %13s %7s %9s%s\n",
        shared ? "accumulate" : lode_plan_stage_name(forecast, which),
        shared ? "" : lode_plan_bytes(memory, stage_memory(forecast, (int)which)),
        lode_plan_bytes(file, stage->file), lode_plan_bytes(scratch, stage->scratch),
        shared ? "" : lode_plan_seconds(seconds, stage->seconds), shared ? "" : bubble,
        shared ? "" : speed, runs);
}

static lode_status_t put_stages(lode_buffer_t *text, const lode_forecast_t *forecast,
                                const lode_plan_sweep_t *sweep) {
    char disk[LODE_PLAN_TEXT], scratch[LODE_PLAN_TEXT], seconds[LODE_PLAN_TEXT];
    LODE_TRY(lode_buffer_printf(text, "%-31s %10s %10s %10s %13s %7s %9s\n", "stage", "peak",
                                "file", "scratch", "time", "bubble", "tokens/s"));
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        if (forecast->stage[s].wanted)
            LODE_TRY(put_stage(text, forecast, (lode_stage_t)s, sweep));
    if (forecast->reading > 0)
        LODE_TRY(lode_buffer_printf(text, "%-31s %10s %10s %10s %13s\n",
                                    "weights, read and hashed once", "", "", "",
                                    lode_plan_seconds(seconds, forecast->reading)));
    LODE_TRY(lode_buffer_printf(text, "%-31s %10s %10s %10s %13s\n", "all", "",
                                lode_plan_bytes(disk, forecast->disk),
                                lode_plan_bytes(scratch, forecast->temporary),
                                lode_plan_seconds(seconds, forecast->seconds)));
    if (forecast->checkpoints > 0)
        LODE_TRY(
            lode_buffer_printf(text, "folders of checkpoints%s: %s\n",
                               forecast->config->train.keep_state ? ", and the last state" : "",
                               lode_plan_bytes(disk, forecast->checkpoints)));
    if (forecast->exports > 0)
        LODE_TRY(lode_buffer_printf(text, "exported folders: %s\n",
                                    lode_plan_bytes(disk, forecast->exports)));
    if (forecast->copies > 1 && sweep->points == 1)
        LODE_TRY(lode_buffer_printf(text, "all %lld checkpoints: %s on disk, %s\n",
                                    (long long)forecast->copies, lode_plan_bytes(disk, sweep->disk),
                                    lode_plan_seconds(seconds, sweep->seconds)));
    if (sweep->points > 1)
        LODE_TRY(lode_buffer_printf(
            text, "all %lld points of the sweep: %s on disk, %s; × says how often a stage runs\n",
            (long long)sweep->points, lode_plan_bytes(disk, sweep->disk),
            lode_plan_seconds(seconds, sweep->seconds)));
    return lode_buffer_printf(text, "\n");
}

/* --- advice ---------------------------------------------------------------------------------- */

static lode_status_t put_advice(lode_buffer_t *text, const lode_forecast_t *forecast,
                                const lode_plan_advice_t *advice) {
    char memory[LODE_PLAN_TEXT], bytes[LODE_PLAN_TEXT], weights[LODE_PLAN_TEXT];
    int64_t private_bytes = 0, mapped = 0;
    for (int s = 0; s < forecast->stages; s++) {
        private_bytes += forecast->rank[s].peak.used;
        mapped += forecast->rank[s].weights;
    }
    lode_plan_limit(memory, forecast->config->memory);
    if (advice->fewest > 0)
        LODE_TRY(lode_buffer_printf(text, "fewest ranks that fit memory = %s: %d\n", memory,
                                    advice->fewest));
    else
        LODE_TRY(lode_buffer_printf(text, "no number of ranks up to %d fits memory = %s\n",
                                    advice->most, memory));
    LODE_TRY(lode_buffer_printf(
        text, "all nodes together: %s private and %s of weights, which should stay in memory\n",
        lode_plan_bytes(bytes, private_bytes * forecast->replicas),
        lode_plan_bytes(weights, mapped)));
    if (advice->node_memory > 0) {
        LODE_TRY(lode_buffer_printf(text, "a node of %d %s: %s private and %s of weights, of %s\n",
                                    advice->ranks_per_node,
                                    advice->ranks_per_node == 1 ? "rank" : "ranks",
                                    lode_plan_bytes(bytes, advice->node.private_bytes),
                                    lode_plan_bytes(weights, advice->node.weights),
                                    lode_plan_limit(memory, advice->node_memory)));
        if (advice->fewest_nodes > 0)
            LODE_TRY(lode_buffer_printf(
                text, "fewest ranks that fit such nodes with their weights: %d on %d %s\n",
                advice->fewest_nodes,
                (advice->fewest_nodes + advice->ranks_per_node - 1) / advice->ranks_per_node,
                advice->fewest_nodes <= advice->ranks_per_node ? "node" : "nodes"));
        else
            LODE_TRY(lode_buffer_printf(text,
                                        "no number of ranks up to %d fits such nodes with their "
                                        "weights\n",
                                        advice->most));
    }
    for (const char *line = advice->notes.data; line && *line;) {
        const size_t length = strcspn(line, "\n");
        LODE_TRY(lode_buffer_printf(text, "- %.*s\n", (int)length, line));
        line += length + 1;
    }
    return LODE_OK;
}

lode_status_t lode_plan_table(lode_buffer_t *text, const lode_forecast_t *forecast,
                              const lode_plan_advice_t *advice, const lode_plan_sweep_t *sweep) {
    LODE_TRY(put_model(text, forecast));
    LODE_TRY(put_ranks(text, forecast));
    LODE_TRY(put_stages(text, forecast, sweep));
    return put_advice(text, forecast, advice);
}
