#include "training/parameters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "kernels/weight.h"
#include "training/initialise.h"

/* Elements that tensors begin at multiples of: a cache line. */
enum { ALIGNMENT = 16, LOAD_ELEMENTS = 1 << 16 };

/* --- the list ------------------------------------------------------------------------------- */

static lode_parameter_kind_t kind_of(const lode_parameter_t *parameter) {
    if (parameter->rank == 1)
        return LODE_PARAMETER_VECTOR;
    return parameter->role < LODE_LAYER_ROLES ? LODE_PARAMETER_MATRIX : LODE_PARAMETER_EMBEDDING;
}

/* Whether the layout's rank has tensor `index` of the inventory. */
static bool owns(const lode_inventory_t *inventory, int64_t index, const lode_layout_t *layout,
                 bool tied) {
    const int64_t layer = inventory->layers[index];
    if (layer >= 0)
        return layer >= layout->first_layer && layer < layout->layer_end;
    switch (inventory->roles[index]) {
    case LODE_ROLE_EMBEDDING:
        return layout->embedding || (tied && layout->head);
    case LODE_ROLE_POSITIONS:
        return layout->embedding;
    default:
        return layout->head;
    }
}

static void add(lode_parameters_t *parameters, int64_t index, const lode_layout_t *layout) {
    const lode_inventory_t *inventory = &parameters->inventory;
    const lode_writer_tensor_t *tensor = &inventory->list[index];
    lode_parameter_t parameter = {.name = tensor->name,
                                  .role = inventory->roles[index],
                                  .layer = inventory->layers[index],
                                  .rank = tensor->rank,
                                  .shape = {tensor->shape[0], tensor->shape[1]},
                                  .elements = lode_inventory_elements(inventory, index),
                                  .offset = parameters->elements,
                                  .index = index,
                                  .counted = true};
    parameter.kind = kind_of(&parameter);
    if (parameter.role == LODE_ROLE_EMBEDDING) {
        parameter.counted = layout->embedding;
        if (parameters->architecture->tied)
            parameters->tied = parameters->count;
    }
    parameters->elements += (parameter.elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    parameters->list[parameters->count++] = parameter;
}

/* Everything but the weights. */
static lode_status_t list_tensors(lode_parameters_t *parameters, const lode_layout_t *layout) {
    const lode_architecture_t *architecture = parameters->architecture;
    LODE_TRY(lode_inventory_create(&parameters->inventory, architecture, LODE_DTYPE_F32));
    LODE_TRY(LODE_NEW(&parameters->list, parameters->inventory.count, "list of parameters"));
    parameters->first_layer = layout->first_layer;
    parameters->layers = layout->layer_end - layout->first_layer;
    parameters->embedding = layout->embedding;
    parameters->head = layout->head;
    parameters->tied = -1;
    for (int64_t i = 0; i < parameters->inventory.count; i++)
        if (owns(&parameters->inventory, i, layout, architecture->tied))
            add(parameters, i, layout);
    parameters->gradients = parameters->elements;
    if (parameters->tied >= 0 && layout->embedding && layout->head)
        parameters->gradients += parameters->list[parameters->tied].elements;
    return LODE_OK;
}

lode_status_t lode_parameters_size(const lode_architecture_t *architecture,
                                   const lode_layout_t *layout, int64_t *elements,
                                   int64_t *gradients) {
    lode_parameters_t parameters = {.architecture = architecture};
    const lode_status_t status = list_tensors(&parameters, layout);
    *elements = parameters.elements;
    *gradients = parameters.gradients;
    lode_inventory_free(&parameters.inventory);
    free(parameters.list);
    return status;
}

/* --- the weights ---------------------------------------------------------------------------- */

static lode_status_t open_view(lode_parameters_t *parameters,
                               const lode_architecture_t *architecture) {
    lode_memory_tensor_t *tensors;
    LODE_TRY(LODE_NEW(&tensors, parameters->count, "list of parameters"));
    for (int64_t i = 0; i < parameters->count; i++) {
        tensors[i].name = parameters->list[i].name;
        tensors[i].data = parameters->weights + parameters->list[i].offset;
    }
    const lode_status_t status = lode_checkpoint_of_memory(&parameters->checkpoint, architecture,
                                                           tensors, parameters->count);
    free(tensors);
    LODE_TRY(status);
    parameters->architecture = lode_checkpoint_architecture(parameters->checkpoint);
    return LODE_OK;
}

lode_status_t lode_parameters_create(lode_parameters_t **out,
                                     const lode_architecture_t *architecture,
                                     const lode_layout_t *layout) {
    LODE_TRY(LODE_NEW(out, 1, "parameters"));
    lode_parameters_t *parameters = *out;
    parameters->architecture = architecture;
    lode_status_t status = list_tensors(parameters, layout);
    if (status == LODE_OK)
        status = LODE_NEW(&parameters->weights, parameters->elements, "weights");
    if (status == LODE_OK)
        status = open_view(parameters, architecture);
    if (status != LODE_OK)
        lode_parameters_destroy(out);
    return status;
}

void lode_parameters_destroy(lode_parameters_t **parameters) {
    lode_parameters_t *going = *parameters;
    *parameters = NULL;
    if (!going)
        return;
    lode_checkpoint_close(&going->checkpoint);
    lode_inventory_free(&going->inventory);
    free(going->list);
    free(going->weights);
    free(going);
}

/* --- loading -------------------------------------------------------------------------------- */

/* The tensor of a checkpoint in the rank's list, NULL where it is not. */
static const lode_parameter_t *find(const lode_parameters_t *parameters,
                                    const lode_tensor_info_t *info) {
    const int64_t layer = info->owner >= 0 ? info->owner : -1;
    for (int64_t i = 0; i < parameters->count; i++)
        if (parameters->list[i].role == info->role && parameters->list[i].layer == layer)
            return &parameters->list[i];
    return NULL;
}

static lode_dtype_t dtype_of(const char *name) {
    for (int dtype = LODE_DTYPE_F32; dtype < LODE_DTYPE_BF16; dtype++)
        if (strcmp(name, lode_dtype_name((lode_dtype_t)dtype)) == 0)
            return (lode_dtype_t)dtype;
    return LODE_DTYPE_BF16;
}

static void widen(float *out, const void *data, lode_dtype_t dtype, int64_t count) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < count; first += LOAD_ELEMENTS) {
        const int64_t left = count - first;
        lode_convert(out + first, (const char *)data + (size_t)first * lode_dtype_size(dtype),
                     dtype, left < LOAD_ELEMENTS ? left : LOAD_ELEMENTS);
    }
}

lode_status_t lode_parameters_load(lode_parameters_t *parameters, lode_checkpoint_t *checkpoint) {
    int64_t loaded = 0;
    if (parameters->head && parameters->architecture->tied) {
        lode_tensor_t head; /* for the check that comes with it */
        LODE_TRY(lode_checkpoint_head(checkpoint, &head));
    }
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        const lode_parameter_t *parameter = info.part_count > 0 ? find(parameters, &info) : NULL;
        const void *bytes;
        if (!parameter)
            continue;
        if (info.rank != parameter->rank || info.shape[0] != parameter->shape[0] ||
            info.shape[1] != parameter->shape[1])
            return lode_fail(LODE_ERR_INTERNAL, "%s: \"%s\" is of another architecture", info.file,
                             info.name);
        LODE_TRY(lode_checkpoint_tensor_bytes(checkpoint, i, &bytes));
        widen(parameters->weights + parameter->offset, bytes, dtype_of(info.dtype),
              parameter->elements);
        lode_checkpoint_release_tensor(checkpoint, i);
        loaded++;
    }
    if (loaded != parameters->count)
        return lode_fail(LODE_ERR_INTERNAL, "%s has not all tensors that are trained",
                         lode_checkpoint_folder(checkpoint));
    return LODE_OK;
}

/* --- initialising --------------------------------------------------------------------------- */

void lode_parameters_initialise(lode_parameters_t *parameters, int64_t seed, double deviation,
                                bool depth) {
    const lode_architecture_t *architecture = parameters->architecture;
    const double deep = deviation / sqrt(2 * (double)architecture->layers);
    for (int64_t i = 0; i < parameters->count; i++) {
        const lode_parameter_t *parameter = &parameters->list[i];
        float *weights = parameters->weights + parameter->offset;
        char stream[LODE_INVENTORY_NAME_BYTES + 16];
        if (parameter->kind == LODE_PARAMETER_VECTOR) {
            const float start = lode_family_neutral(architecture, parameter->role);
            for (int64_t j = 0; j < parameter->elements; j++)
                weights[j] = start;
            continue;
        }
        const bool out = parameter->role == LODE_ROLE_O || parameter->role == LODE_ROLE_DOWN;
        snprintf(stream, sizeof stream, "initialise %s", parameter->name);
        lode_normal_fill(weights, parameter->elements, lode_random_key(seed, stream, 0, 0),
                         depth && out ? deep : deviation);
    }
}
