#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "common/version.h"
#include "export/plan.h"
#include "model/json_text.h"

/* --- config.json ---------------------------------------------------------------------------- */

/* The source's JSON with another number of channels, and the switch of the biases. */
static lode_status_t change_config(const lode_export_plan_t *plan, const lode_family_t *family,
                                   json_t *root, lode_buffer_t *text) {
    int failed =
        json_object_set_new(root, lode_family_width_key(family), json_integer(plan->width));
    if (plan->new_biases)
        failed |= json_object_set_new(root, family->ffn_bias_key, json_true());
    char *dump = failed ? NULL : lode_json_text_dump(root);
    if (!dump)
        return lode_fail(LODE_ERR_MEMORY, "no memory for config.json");
    lode_status_t status = lode_buffer_printf(text, "%s\n", dump);
    free(dump);
    return status;
}

lode_status_t lode_export_plan_config(const lode_export_plan_t *plan, const lode_run_t *run,
                                      lode_buffer_t *text) {
    const lode_family_t *family = lode_family(run->architecture.model_type);
    const char *path = lode_checkpoint_file_path(run->checkpoint, 0);
    char *source;
    size_t size;
    json_t *root = NULL;
    LODE_TRY(lode_file_read(&source, &size, path));
    lode_status_t status;
    if (plan->width == plan->channels && !plan->new_biases) {
        status = lode_buffer_append(text, source, size);
    } else {
        status = lode_json_text_object(&root, source, size, path);
        if (status == LODE_OK)
            status = change_config(plan, family, root, text);
    }
    json_decref(root);
    free(source);
    return status;
}

/* --- lodestone.json ------------------------------------------------------------------------- */

/* Weights of which the variant says a value of its own. */
static int64_t count_held(const lode_export_plan_t *plan) {
    int64_t held = 0;
    for (int64_t i = 0; i < plan->layers * LODE_MATRICES; i++)
        held += plan->codings[i].held;
    return held;
}

/* How a quantized folder's weights came about. */
static json_t *describe_quantization(const lode_export_plan_t *plan) {
    const lode_variant_t *variant = plan->variant;
    char granularity[LODE_GRANULARITY_NAME];
    lode_granularity_name(granularity, variant->granularity);
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:I, s:f, s:b, s:s, s:b}", "method",
                     lode_quantizer_name(variant->quantizer), "bits", variant->bits, "granularity",
                     granularity, "clip", lode_clip_name(variant->clip), "protection",
                     lode_protection_name(variant->protection), "bytes", (json_int_t)plan->bytes,
                     "bits_per_weight", plan->bits_per_weight, "dequantized", 1, "parameters",
                     "quantization.safetensors", "codes", (int)plan->entry->codes);
}

/* What an experiment with super weights has changed. */
static json_t *describe_experiment(const lode_export_plan_t *plan) {
    const lode_variant_t *variant = plan->variant;
    json_t *text = json_pack("{s:s, s:I}", "experiment", lode_experiment_name(variant->what),
                             "changed_weights", (json_int_t)count_held(plan));
    if (text && variant->what == LODE_EXPERIMENT_SCALE)
        json_object_set_new(text, "factor", json_real(variant->factor));
    return text;
}

/* All of it but the kept channels, which may be millions. */
static json_t *make_note(const lode_export_plan_t *plan, const lode_run_t *run,
                         const char *const *files, int64_t count) {
    json_t *names = json_array(), *widths = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(files[i]));
    for (int64_t l = 0; l < plan->layers; l++)
        json_array_append_new(widths, json_integer(plan->widths[l]));
    json_t *note = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:o, s:o}", "lodestone", lode_version(), "commit",
        lode_commit(), "model", run->model->name, "variant", plan->entry->variant, "layout",
        lode_export_plan_layout(plan), "intermediate_size", (json_int_t)plan->width, "source",
        run->model_digest, "digest", plan->digest, "files", names, "widths", widths);
    int failed = !note;
    if (note && plan->variant && plan->variant->quantized)
        failed = json_object_set_new(note, "quantization", describe_quantization(plan));
    if (note && plan->variant && plan->variant->experiment)
        failed = json_object_set_new(note, "super_weight", describe_experiment(plan));
    if (!failed)
        return note;
    json_decref(note);
    return NULL;
}

lode_status_t lode_export_plan_note(const lode_export_plan_t *plan, const lode_run_t *run,
                                    const char *const *files, int64_t count, lode_buffer_t *text) {
    json_t *note = make_note(plan, run, files, count);
    char *dump = note ? json_dumps(note, JSON_INDENT(1)) : NULL;
    json_decref(note);
    if (!dump)
        return lode_fail(LODE_ERR_MEMORY, "no memory for lodestone.json");
    /* Without the end of the object: the channels of each layer follow, a line each. */
    lode_status_t status = lode_buffer_append(text, dump, strlen(dump) - strlen("\n}"));
    free(dump);
    if (status == LODE_OK)
        status = lode_buffer_printf(text, ",\n \"kept\": [");
    for (int64_t l = 0; l < plan->layers && status == LODE_OK; l++) {
        const char *separator = "";
        status = lode_buffer_printf(text, l > 0 ? ",\n  [" : "\n  [");
        for (int64_t j = 0; j < plan->channels && status == LODE_OK; j++) {
            if (!plan->keep[l * plan->channels + j])
                continue;
            status = lode_buffer_printf(text, "%s%lld", separator, (long long)j);
            separator = ",";
        }
        if (status == LODE_OK)
            status = lode_buffer_printf(text, "]");
    }
    if (status == LODE_OK)
        status = lode_buffer_printf(text, "\n ]\n}\n");
    return status;
}
