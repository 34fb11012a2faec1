#include "export/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/version.h"
#include "model/json_text.h"

enum { NAME_BYTES = 512 };

const char *lode_export_plan_layout(const lode_export_plan_t *plan) {
    return lode_export_layout_name(plan->padded ? LODE_EXPORT_PADDED : LODE_EXPORT_SLICED);
}

void lode_export_plan_free(lode_export_plan_t *plan) {
    free(plan->folder);
    free(plan->keep);
    free(plan->widths);
    free(plan->tensors);
    free(plan->list);
    *plan = (lode_export_plan_t){0};
}

/* --- what is kept --------------------------------------------------------------------------- */

lode_status_t lode_export_folder(char **folder, const lode_config_t *config, const char *point,
                                 const char *model, const char *path) {
    const bool several = config->model_count > 1 || *point;
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
    if (plan->variant) {
        const int64_t offset[] = {0, 0}, count[] = {L, m};
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "/keep/%s", plan->variant->name);
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

/* What compensate.h5 has for the variant. */
static lode_status_t find_compensation(lode_export_plan_t *plan, const lode_run_t *run,
                                       lode_store_t *compensate) {
    char name[NAME_BYTES];
    if (!plan->variant || plan->variant->compensation == LODE_COMPENSATION_NONE)
        return LODE_OK;
    snprintf(name, sizeof name, "/down/%s", plan->variant->name);
    plan->compensated = lode_store_has(compensate, name);
    snprintf(name, sizeof name, "/bias/%s", plan->variant->name);
    plan->biased = lode_store_has(compensate, name);
    if (!plan->compensated && !plan->biased)
        return lode_fail(LODE_ERR_INPUT,
                         "compensate.h5 has nothing for %s; run the stage compensate again "
                         "(--force)",
                         plan->variant->name);
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

/* --- tensors -------------------------------------------------------------------------------- */

static lode_dtype_t dtype_of(const char *name) {
    for (int dtype = LODE_DTYPE_F32; dtype < LODE_DTYPE_BF16; dtype++)
        if (strcmp(lode_dtype_name((lode_dtype_t)dtype), name) == 0)
            return (lode_dtype_t)dtype;
    return LODE_DTYPE_BF16;
}

/* Where a tensor stands in the model: embedding, layers, final norm, head, the unused. */
static int64_t place_of(int64_t owner, int64_t layers) {
    return owner == LODE_OWNER_EMBEDDING    ? -1
           : owner == LODE_OWNER_FINAL_NORM ? layers
           : owner == LODE_OWNER_HEAD       ? layers + 1
           : owner == LODE_OWNER_UNUSED     ? layers + 2
                                            : owner;
}

/* What becomes of a tensor that the variant changes. */
static void change_tensor(const lode_export_plan_t *plan, const lode_family_t *family,
                          const lode_tensor_info_t *info, lode_export_tensor_t *tensor,
                          lode_writer_tensor_t *item) {
    const lode_extent_t *extents = family->tensors[info->role].shape;
    const bool rows = extents[0] == LODE_EXTENT_INTERMEDIATE;
    const int axis = rows == info->transposed; /* along which channels are stored */
    if (info->role == LODE_ROLE_DOWN_BIAS && plan->biased)
        tensor->kind = LODE_EXPORT_BIAS;
    if (!rows && extents[1] != LODE_EXTENT_INTERMEDIATE)
        return;
    tensor->kind = axis == 0 ? LODE_EXPORT_LINES : LODE_EXPORT_ELEMENTS;
    if (info->role == LODE_ROLE_DOWN && plan->compensated)
        tensor->kind = LODE_EXPORT_DOWN;
    tensor->transposed = info->transposed;
    tensor->parts = info->part_count;
    item->shape[axis] = tensor->parts * plan->width;
    item->bytes = item->bytes / plan->channels * plan->width;
}

/* Appends the tensor of the folder that the source's tensor `index` becomes. */
static lode_status_t add_tensor(lode_export_plan_t *plan, const lode_family_t *family,
                                int64_t index, const lode_tensor_info_t *info) {
    lode_export_tensor_t *tensor = &plan->tensors[plan->count];
    lode_writer_tensor_t *item = &plan->list[plan->count];
    if (info->rank > LODE_TENSOR_MAX_RANK)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: tensor \"%.200s\" has %d axes, and nothing computes with it; remove "
                         "it from the checkpoint to export from it",
                         info->file, info->name, info->rank);
    *tensor = (lode_export_tensor_t){.kind = LODE_EXPORT_COPY,
                                     .source = index,
                                     .owner = info->owner,
                                     .source_bytes = info->bytes,
                                     .dtype = dtype_of(info->dtype)};
    *item = (lode_writer_tensor_t){
        .name = info->name, .dtype = info->dtype, .rank = info->rank, .bytes = info->bytes};
    memcpy(item->shape, info->shape, sizeof item->shape);
    if (info->role != LODE_ROLE_COUNT && plan->variant)
        change_tensor(plan, family, info, tensor, item);
    plan->count++;
    return LODE_OK;
}

/* The bias of a projection, or LODE_ROLE_COUNT for what is none of the feed-forward block. */
static lode_role_t bias_role(lode_role_t role) {
    return role == LODE_ROLE_GATE   ? LODE_ROLE_GATE_BIAS
           : role == LODE_ROLE_UP   ? LODE_ROLE_UP_BIAS
           : role == LODE_ROLE_DOWN ? LODE_ROLE_DOWN_BIAS
                                    : LODE_ROLE_COUNT;
}

/* Appends the new bias of a projection, whose weight `info` describes. */
static void add_bias(lode_export_plan_t *plan, const lode_family_t *family,
                     const lode_tensor_info_t *info) {
    lode_export_tensor_t *tensor = &plan->tensors[plan->count];
    lode_writer_tensor_t *item = &plan->list[plan->count];
    const bool down = info->role == LODE_ROLE_DOWN;
    const bool prefixed = strncmp(info->name, family->prefix, strlen(family->prefix)) == 0;
    *tensor = (lode_export_tensor_t){.kind = down ? LODE_EXPORT_BIAS : LODE_EXPORT_ZEROS,
                                     .source = -1,
                                     .owner = info->owner,
                                     .dtype = dtype_of(info->dtype)};
    lode_family_tensor_name(tensor->name, sizeof tensor->name, family, bias_role(info->role),
                            info->owner, prefixed);
    *item = (lode_writer_tensor_t){.name = tensor->name, .dtype = info->dtype, .rank = 1};
    item->shape[0] = down ? info->shape[0] : plan->width;
    item->bytes = item->shape[0] * (int64_t)lode_dtype_size(tensor->dtype);
    plan->count++;
}

/* Whether a bias of ours takes the place of the source's tensor, which nothing computes with. */
static bool is_replaced(const lode_export_plan_t *plan, const char *name) {
    for (int64_t i = 0; i < plan->count; i++)
        if (*plan->tensors[i].name && strcmp(plan->tensors[i].name, name) == 0)
            return true;
    return false;
}

/* All tensors of one place in the model, in the order of their names. */
static lode_status_t add_place(lode_export_plan_t *plan, const lode_run_t *run, int64_t place) {
    const int64_t count = lode_checkpoint_tensor_count(run->checkpoint);
    const lode_family_t *family = lode_family(run->architecture.model_type);
    for (int64_t i = 0; i < count; i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(run->checkpoint, i);
        if (place_of(info.owner, plan->layers) != place || is_replaced(plan, info.name))
            continue;
        LODE_TRY(add_tensor(plan, family, i, &info));
        if (plan->new_biases && bias_role(info.role) != LODE_ROLE_COUNT)
            add_bias(plan, family, &info);
    }
    return LODE_OK;
}

static lode_status_t list_tensors(lode_export_plan_t *plan, const lode_run_t *run) {
    const int64_t most =
        lode_checkpoint_tensor_count(run->checkpoint) + (plan->new_biases ? 3 * plan->layers : 0);
    LODE_TRY(LODE_NEW(&plan->tensors, most, "tensors to export"));
    LODE_TRY(LODE_NEW(&plan->list, most, "tensors to export"));
    for (int64_t place = -1; place <= plan->layers + 2; place++)
        LODE_TRY(add_place(plan, run, place));
    return LODE_OK;
}

/* --- the plan ------------------------------------------------------------------------------- */

static lode_status_t make_digest(lode_export_plan_t *plan, const lode_run_t *run) {
    const int32_t revision = LODE_RESULTS_REVISION;
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, &revision, sizeof revision);
    lode_hash_add_text(hash, run->model_digest);
    lode_hash_add_text(hash, run->companion_digest);
    lode_hash_add_text(hash, plan->entry->variant);
    lode_hash_add_text(hash, lode_export_plan_layout(plan));
    lode_hash_add(hash, plan->keep, (size_t)(plan->layers * plan->channels));
    if (plan->compensated || plan->biased)
        lode_hash_add_text(hash, run->fingerprint[LODE_STAGE_COMPENSATE]);
    lode_hash_text(hash, plan->digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

lode_status_t lode_export_plan_create(lode_export_plan_t *plan, const lode_run_t *run,
                                      int64_t number, const lode_variant_t *variants, int64_t count,
                                      lode_store_t *prune, lode_store_t *compensate) {
    *plan = (lode_export_plan_t){.entry = &run->config->exports[number],
                                 .number = number,
                                 .layers = run->architecture.layers,
                                 .channels = run->architecture.intermediate};
    for (int64_t i = 0; i < count; i++)
        if (strcmp(variants[i].name, plan->entry->variant) == 0)
            plan->variant = &variants[i];
    LODE_TRY(lode_export_folder(&plan->folder, run->config, run->point, run->model->name,
                                plan->entry->path));
    LODE_TRY(lode_export_check_source(run->config, number, plan->folder, run->model->path));
    LODE_TRY(read_keep(plan, prune));
    LODE_TRY(choose_layout(plan, run));
    LODE_TRY(find_compensation(plan, run, compensate));
    LODE_TRY(list_tensors(plan, run));
    return make_digest(plan, run);
}

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

/* All of it but the kept channels, which may be millions. */
static json_t *make_note(const lode_export_plan_t *plan, const lode_run_t *run,
                         const char *const *files, int64_t count) {
    json_t *names = json_array(), *widths = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(files[i]));
    for (int64_t l = 0; l < plan->layers; l++)
        json_array_append_new(widths, json_integer(plan->widths[l]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:o, s:o}", "lodestone",
                     lode_version(), "commit", lode_commit(), "model", run->model->name, "variant",
                     plan->entry->variant, "layout", lode_export_plan_layout(plan),
                     "intermediate_size", (json_int_t)plan->width, "source", run->model_digest,
                     "digest", plan->digest, "files", names, "widths", widths);
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
