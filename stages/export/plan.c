#include "export/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "common/version.h"

enum { NAME_BYTES = 512 };

const char *lode_export_plan_layout(const lode_export_plan_t *plan) {
    return lode_export_layout_name(plan->padded ? LODE_EXPORT_PADDED : LODE_EXPORT_SLICED);
}

void lode_export_plan_free(lode_export_plan_t *plan) {
    free(plan->folder);
    free(plan->keep);
    free(plan->widths);
    free(plan->tensors);
    free(plan->beside);
    for (int set = 0; set < LODE_EXPORT_SETS; set++)
        free(plan->list[set]);
    *plan = (lode_export_plan_t){0};
}

/* --- what is kept --------------------------------------------------------------------------- */

lode_status_t lode_export_folder(char **folder, const lode_config_t *config, const char *point,
                                 const char *model, const char *path) {
    const bool several = lode_config_model_total(config) > 1 || *point;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    lode_buffer_t text = {0};
    lode_status_t status =
        lode_buffer_printf(&text, "%.*s%s%s%s%s", (int)length, path, *point ? "/" : "", point,
                           several ? "/" : "", several ? model : "");
    *folder = text.data;
    return status;
}

lode_status_t lode_export_check_source(const lode_config_t *config, int64_t number,
                                       const char *folder, const char *model) {
    char *target = realpath(folder, NULL), *source = realpath(model, NULL);
    const bool same = target && source && strcmp(target, source) == 0;
    free(target);
    free(source);
    if (!same)
        return LODE_OK;
    char key[64];
    snprintf(key, sizeof key, "export.[%lld].path", (long long)number);
    return lode_fail(LODE_ERR_CONFIG, "%s: %s: %s is the model itself; export to another path",
                     lode_config_where(config, key), key, folder);
}

static lode_status_t read_keep(lode_export_plan_t *plan, lode_store_t *prune) {
    const int64_t L = plan->layers, m = plan->channels;
    LODE_TRY(LODE_NEW(&plan->keep, L * m, "masks"));
    LODE_TRY(LODE_NEW(&plan->widths, L, "widths of layers"));
    if (plan->pruned) {
        const int64_t offset[] = {0, 0}, count[] = {L, m};
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "/keep/%s", plan->pruned->name);
        LODE_TRY(lode_store_read(prune, name, offset, count, LODE_TYPE_U8, plan->keep));
    } else {
        memset(plan->keep, 1, (size_t)(L * m));
    }
    for (int64_t l = 0; l < L; l++) {
        for (int64_t j = 0; j < m; j++)
            plan->widths[l] += plan->keep[l * m + j] != 0;
        if (plan->widths[l] > plan->width)
            plan->width = plan->widths[l];
    }
    return LODE_OK;
}

/* Sliced or padded: what was asked for, if the widths allow it. */
static lode_status_t choose_layout(lode_export_plan_t *plan, const lode_run_t *run) {
    int64_t narrowest = 0, widest = 0;
    for (int64_t l = 1; l < plan->layers; l++) {
        narrowest = plan->widths[l] < plan->widths[narrowest] ? l : narrowest;
        widest = plan->widths[l] > plan->widths[widest] ? l : widest;
    }
    const bool equal = plan->widths[narrowest] == plan->widths[widest];
    plan->padded = plan->entry->layout == LODE_EXPORT_PADDED ||
                   (plan->entry->layout == LODE_EXPORT_AUTO && !equal);
    if (plan->width == 0)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s keeps no channel of any layer; export another variant",
                         plan->entry->variant);
    if (equal || plan->padded)
        return LODE_OK;
    char key[64];
    snprintf(key, sizeof key, "export.[%lld].layout", (long long)plan->number);
    return lode_fail(
        LODE_ERR_CONFIG,
        "%s: %s: sliced needs layers of one width, and %s keeps %lld channels of layer "
        "%lld but %lld of layer %lld; set it to \"padded\" or \"auto\"",
        lode_config_where(run->config, key), key, plan->entry->variant,
        (long long)plan->widths[narrowest], (long long)narrowest, (long long)plan->widths[widest],
        (long long)widest);
}

/* Whether the family has a place for the output bias of a variant that has one. */
static lode_status_t find_bias(lode_export_plan_t *plan, const lode_run_t *run) {
    plan->biased = plan->pruned && plan->pruned->compensation == LODE_COMPENSATION_BIAS;
    if (!plan->biased)
        return LODE_OK;
    const lode_family_t *family = lode_family(run->architecture.model_type);
    plan->new_biases = !lode_family_has(&run->architecture, LODE_ROLE_DOWN_BIAS);
    if (plan->new_biases && !family->ffn_bias_key)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "export of %s: models of the type %s have no place for an output bias; "
                         "export a variant with +least-squares or without compensation",
                         plan->variant->name, lode_model_type_name(run->architecture.model_type));
    return LODE_OK;
}

/* What the stage quantize says the variant takes. */
static lode_status_t read_bytes(lode_export_plan_t *plan, lode_store_t *quantize) {
    char group[NAME_BYTES];
    if (!plan->variant || !plan->variant->quantized)
        return LODE_OK;
    snprintf(group, sizeof group, "/variants/%s", plan->variant->name);
    LODE_TRY(lode_store_get_attribute_i64(quantize, group, "bytes", &plan->bytes));
    return lode_store_get_attribute_f64(quantize, group, "bits_per_weight", &plan->bits_per_weight);
}

/* --- the plan ------------------------------------------------------------------------------- */

static lode_status_t make_digest(lode_export_plan_t *plan, const lode_run_t *run) {
    const int32_t revision = LODE_RESULTS_REVISION;
    const lode_variant_t *variant = plan->variant;
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, &revision, sizeof revision);
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add_text(hash, run->companion_digest);
    lode_hash_add_text(hash, plan->entry->variant);
    lode_hash_add_text(hash, lode_export_plan_layout(plan));
    lode_hash_add(hash, plan->keep, (size_t)(plan->layers * plan->channels));
    if (plan->pruned && plan->pruned->compensation != LODE_COMPENSATION_NONE)
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_COMPENSATE]);
    if (variant && (variant->experiment || variant->quantized)) {
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_SUPERWEIGHT]);
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_QUANTIZE]);
        lode_hash_add_text(hash, plan->entry->codes ? "codes" : "");
    }
    lode_hash_text(hash, plan->digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

lode_status_t lode_export_plan_create(lode_export_plan_t *plan, const lode_run_t *run,
                                      int64_t number, const lode_export_inputs_t *inputs,
                                      const lode_export_coding_t *codings) {
    const int64_t index = inputs->entry[number];
    *plan = (lode_export_plan_t){.entry = &run->config->exports[number],
                                 .number = number,
                                 .index = index,
                                 .variant = index >= 0 ? &inputs->variants[index] : NULL,
                                 .pruned = lode_export_pruned(inputs, index),
                                 .layers = run->architecture.layers,
                                 .channels = run->architecture.intermediate,
                                 .codings = codings};
    LODE_TRY(lode_export_folder(&plan->folder, run->config, run->point, run->model->name,
                                plan->entry->path));
    LODE_TRY(lode_export_check_source(run->config, number, plan->folder, run->model->path));
    LODE_TRY(read_keep(plan, inputs->prune));
    LODE_TRY(choose_layout(plan, run));
    LODE_TRY(find_bias(plan, run));
    LODE_TRY(read_bytes(plan, inputs->quantize));
    LODE_TRY(lode_export_plan_tensors(plan, run));
    return make_digest(plan, run);
}
