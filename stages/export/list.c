#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "export/plan.h"

/* --- weights --------------------------------------------------------------------------------- */

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

/* The matrix that a role is, LODE_MATRICES for what is none. */
static lode_layer_matrix_t matrix_of(lode_role_t role) {
    int which = 0;
    while (which < LODE_MATRICES && lode_matrix_role((lode_layer_matrix_t)which) != role)
        which++;
    return (lode_layer_matrix_t)which;
}

/* Whether a part of the tensor is coded. */
static bool is_coded(const lode_export_plan_t *plan, const lode_tensor_info_t *info) {
    for (int p = 0; p < info->part_count; p++) {
        const lode_layer_matrix_t matrix = matrix_of(info->parts[p].role);
        if (matrix < LODE_MATRICES && plan->codings[info->owner * LODE_MATRICES + matrix].coded)
            return true;
    }
    return false;
}

/* What becomes of a tensor that the variant may change. */
static void change_tensor(const lode_export_plan_t *plan, const lode_family_t *family,
                          const lode_tensor_info_t *info, lode_export_tensor_t *tensor,
                          lode_writer_tensor_t *item) {
    const lode_extent_t *extents = family->tensors[info->role].shape;
    const bool rows = extents[0] == LODE_EXTENT_INTERMEDIATE;
    const bool channels = plan->pruned && (rows || extents[1] == LODE_EXTENT_INTERMEDIATE);
    const int axis = rows == info->transposed; /* along which channels are stored */
    if (info->role == LODE_ROLE_DOWN_BIAS && plan->biased)
        tensor->kind = LODE_EXPORT_BIAS;
    if (is_coded(plan, info) || (channels && info->rank == 2))
        tensor->kind = LODE_EXPORT_MATRIX;
    else if (channels)
        tensor->kind = LODE_EXPORT_VECTOR;
    if (!channels)
        return;
    tensor->parts = info->part_count;
    item->shape[axis] = tensor->parts * plan->width;
    item->bytes = item->bytes / plan->channels * plan->width;
}

/* Appends the tensor of the folder that the source's tensor `index` becomes. */
static lode_status_t add_tensor(lode_export_plan_t *plan, const lode_family_t *family,
                                int64_t index, const lode_tensor_info_t *info) {
    lode_export_tensor_t *tensor = &plan->tensors[plan->count[LODE_EXPORT_WEIGHTS]];
    lode_writer_tensor_t *item = &plan->list[LODE_EXPORT_WEIGHTS][plan->count[LODE_EXPORT_WEIGHTS]];
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
    if (info->role != LODE_ROLE_COUNT && info->owner >= 0 && plan->variant)
        change_tensor(plan, family, info, tensor, item);
    plan->count[LODE_EXPORT_WEIGHTS]++;
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
    lode_export_tensor_t *tensor = &plan->tensors[plan->count[LODE_EXPORT_WEIGHTS]];
    lode_writer_tensor_t *item = &plan->list[LODE_EXPORT_WEIGHTS][plan->count[LODE_EXPORT_WEIGHTS]];
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
    plan->count[LODE_EXPORT_WEIGHTS]++;
}

/* Whether a bias of ours takes the place of the source's tensor, which nothing computes with. */
static bool is_replaced(const lode_export_plan_t *plan, const char *name) {
    for (int64_t i = 0; i < plan->count[LODE_EXPORT_WEIGHTS]; i++)
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

static lode_status_t list_weights(lode_export_plan_t *plan, const lode_run_t *run) {
    const int64_t most =
        lode_checkpoint_tensor_count(run->checkpoint) + (plan->new_biases ? 3 * plan->layers : 0);
    LODE_TRY(LODE_NEW(&plan->tensors, most, "tensors to export"));
    LODE_TRY(LODE_NEW(&plan->list[LODE_EXPORT_WEIGHTS], most, "tensors to export"));
    for (int64_t place = -1; place <= plan->layers + 2; place++)
        LODE_TRY(add_place(plan, run, place));
    return LODE_OK;
}

/* --- what lies beside ------------------------------------------------------------------------ */

/* Appends the parameters of one part of a tensor, which has the name of the tensor where it is all
 * of it. */
static void add_parameters(lode_export_plan_t *plan, const lode_tensor_info_t *info, int part) {
    const lode_layer_matrix_t matrix = matrix_of(info->parts[part].role);
    const bool fused = info->part_count > 1;
    for (int p = 0; p < LODE_EXPORT_PARAMETER_COUNT && matrix < LODE_MATRICES; p++) {
        const lode_export_parameter_t parameter = (lode_export_parameter_t)p;
        const int64_t at = plan->count[LODE_EXPORT_PARAMETERS];
        lode_export_beside_t *beside = &plan->beside[at];
        lode_writer_tensor_t *item = &plan->list[LODE_EXPORT_PARAMETERS][at];
        if (!lode_export_parameter_describe(item,
                                            &plan->codings[info->owner * LODE_MATRICES + matrix],
                                            parameter, plan->entry->codes))
            continue;
        *beside =
            (lode_export_beside_t){.layer = info->owner, .matrix = matrix, .parameter = parameter};
        snprintf(beside->name, sizeof beside->name, "%s%s%s%s", info->name, fused ? "." : "",
                 fused ? lode_matrix_name(matrix) : "", lode_export_parameter_suffix(parameter));
        item->name = beside->name;
        plan->count[LODE_EXPORT_PARAMETERS]++;
    }
}

static lode_status_t list_parameters(lode_export_plan_t *plan, const lode_run_t *run) {
    const int64_t most = plan->layers * LODE_MATRICES * LODE_EXPORT_PARAMETER_COUNT;
    if (!plan->variant || !plan->variant->quantized)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&plan->beside, most, "parameters to export"));
    LODE_TRY(LODE_NEW(&plan->list[LODE_EXPORT_PARAMETERS], most, "parameters to export"));
    for (int64_t i = 0; i < plan->count[LODE_EXPORT_WEIGHTS]; i++) {
        if (plan->tensors[i].kind != LODE_EXPORT_MATRIX)
            continue;
        const lode_tensor_info_t info =
            lode_checkpoint_tensor_info(run->checkpoint, plan->tensors[i].source);
        for (int part = 0; part < info.part_count; part++)
            add_parameters(plan, &info, part);
    }
    return LODE_OK;
}

lode_status_t lode_export_plan_tensors(lode_export_plan_t *plan, const lode_run_t *run) {
    LODE_TRY(list_weights(plan, run));
    return list_parameters(plan, run);
}
