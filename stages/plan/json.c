#include <string.h>

#include "plan/show.h"

static json_t *memory_json(const lode_forecast_memory_t *memory) {
    return json_pack("{s:I, s:I, s:I}", "least", (json_int_t)memory->least, "peak",
                     (json_int_t)memory->used, "all", (json_int_t)memory->all);
}

static json_t *rank_json(const lode_forecast_t *forecast, int index) {
    const lode_forecast_rank_t *rank = &forecast->rank[index];
    json_t *stages = json_object();
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        if (rank->memory[s].used > 0)
            json_object_set_new(stages, lode_stage_name((lode_stage_t)s),
                                memory_json(&rank->memory[s]));
    return json_pack("{s:i, s:I, s:I, s:b, s:b, s:I, s:I, s:o, s:o}", "rank", index, "first_layer",
                     (json_int_t)rank->layout.first_layer, "layer_end",
                     (json_int_t)rank->layout.layer_end, "embedding", rank->layout.embedding,
                     "head", rank->layout.head, "weights", (json_int_t)rank->weights, "kept_layers",
                     (json_int_t)rank->kept, "private", memory_json(&rank->peak), "stages", stages);
}

static json_t *stage_json(const lode_forecast_stage_t *stage, int64_t runs) {
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:I}", "file", (json_int_t)stage->file, "scratch",
                     (json_int_t)stage->scratch, "tokens", (json_int_t)stage->tokens, "seconds",
                     stage->seconds, "bubble", stage->bubble, "runs", (json_int_t)runs);
}

static json_t *notes_json(const lode_buffer_t *notes) {
    json_t *list = json_array();
    for (const char *line = notes->data; line && *line;) {
        const size_t length = strcspn(line, "\n");
        json_array_append_new(list, json_stringn(line, length));
        line += length + 1;
    }
    return list;
}

static json_t *model_json(const lode_forecast_t *forecast) {
    const lode_architecture_t *a = &forecast->model.architecture;
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:I}", "name", forecast->entry->name,
        "model_type", lode_model_type_name(a->model_type), "layers", (json_int_t)a->layers,
        "hidden", (json_int_t)a->hidden, "intermediate", (json_int_t)a->intermediate, "vocab",
        (json_int_t)a->vocab, "parameters", (json_int_t)lode_architecture_parameters(a), "dtype",
        lode_dtype_name(forecast->model.dtype), "weights", (json_int_t)forecast->model.bytes);
}

static json_t *machine_json(const lode_machine_t *machine) {
    return json_pack("{s:b, s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "measured_now", machine->measured,
                     "file", machine->source, "threads", (json_int_t)machine->threads,
                     "sgemm_gflops", machine->sgemm / 1e9, "forward_gflops", machine->forward / 1e9,
                     "backward_gflops", machine->backward / 1e9, "training_gflops",
                     machine->training / 1e9, "optimizer_gbs", machine->optimizer / 1e9);
}

json_t *lode_plan_json(const lode_forecast_t *forecast, const lode_plan_advice_t *advice,
                       const lode_plan_sweep_t *sweep) {
    json_t *ranks = json_array(), *stages = json_object();
    for (int s = 0; s < forecast->stages; s++)
        json_array_append_new(ranks, rank_json(forecast, s));
    for (int s = 0; s < LODE_STAGE_COUNT; s++)
        if (forecast->stage[s].wanted)
            json_object_set_new(stages, lode_stage_name((lode_stage_t)s),
                                stage_json(&forecast->stage[s], sweep->runs[s]));
    return json_pack(
        "{s:o, s:I, s:i, s:i, s:i, s:i, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:I, "
        "s:f, s:I, "
        "s:I, s:i,"
        " s:i, s:o, s:o}",
        "model", model_json(forecast), "copies", (json_int_t)forecast->copies, "ranks",
        forecast->ranks, "replicas", forecast->replicas, "pipeline", forecast->stages, "idle",
        forecast->idle, "memory", (json_int_t)forecast->config->memory, "threads",
        (json_int_t)forecast->config->threads, "per_rank", ranks, "stages", stages, "disk",
        (json_int_t)forecast->disk, "scratch", (json_int_t)forecast->temporary, "exports",
        (json_int_t)forecast->exports, "checkpoints", (json_int_t)forecast->checkpoints, "reading",
        forecast->reading, "seconds", forecast->seconds, "points", (json_int_t)sweep->points,
        "sweep_seconds", sweep->seconds, "node_private", (json_int_t)advice->node.private_bytes,
        "node_weights", (json_int_t)advice->node.weights, "fewest_ranks", advice->fewest,
        "fewest_ranks_on_nodes", advice->fewest_nodes, "machine", machine_json(forecast->machine),
        "notes", notes_json(&advice->notes));
}
