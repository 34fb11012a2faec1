#include "model/inventory.h"

#include <stdlib.h>

#include "base/memory.h"

static int64_t elements_of(const lode_writer_tensor_t *tensor) {
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->shape[i];
    return elements;
}

/* Appends the tensor that the role leads; none for other roles. */
static void add(lode_inventory_t *inventory, const lode_architecture_t *architecture,
                lode_role_t role, int64_t layer, lode_dtype_t dtype) {
    if (!lode_family_leads(architecture, role))
        return;
    char *name = inventory->names + inventory->count * LODE_INVENTORY_NAME_BYTES;
    lode_writer_tensor_t tensor = {.name = name, .dtype = lode_dtype_name(dtype)};
    tensor.rank = lode_family_stored_shape(architecture, role, tensor.shape);
    tensor.bytes = elements_of(&tensor) * (int64_t)lode_dtype_size(dtype);
    lode_family_tensor_name(name, LODE_INVENTORY_NAME_BYTES, lode_family(architecture->model_type),
                            role, layer, true);
    inventory->bytes += tensor.bytes;
    inventory->roles[inventory->count] = role;
    inventory->layers[inventory->count] = role < LODE_LAYER_ROLES ? layer : -1;
    inventory->list[inventory->count++] = tensor;
}

lode_status_t lode_inventory_create(lode_inventory_t *out, const lode_architecture_t *architecture,
                                    lode_dtype_t dtype) {
    const int64_t most = LODE_ROLE_COUNT + architecture->layers * LODE_LAYER_ROLES;
    lode_status_t status;
    *out = (lode_inventory_t){0};
    LODE_GUARD(status, LODE_NEW(&out->list, most, "list of tensors"), failed);
    LODE_GUARD(status, LODE_NEW(&out->roles, most, "list of tensors"), failed);
    LODE_GUARD(status, LODE_NEW(&out->layers, most, "list of tensors"), failed);
    LODE_GUARD(status, LODE_NEW(&out->names, most * LODE_INVENTORY_NAME_BYTES, "list of tensors"),
               failed);
    add(out, architecture, LODE_ROLE_EMBEDDING, 0, dtype);
    add(out, architecture, LODE_ROLE_POSITIONS, 0, dtype);
    for (int64_t layer = 0; layer < architecture->layers; layer++)
        for (int role = 0; role < LODE_LAYER_ROLES; role++)
            add(out, architecture, (lode_role_t)role, layer, dtype);
    add(out, architecture, LODE_ROLE_FINAL_NORM, 0, dtype);
    add(out, architecture, LODE_ROLE_FINAL_NORM_BIAS, 0, dtype);
    add(out, architecture, LODE_ROLE_HEAD, 0, dtype);
    return LODE_OK;
failed:
    lode_inventory_free(out);
    return status;
}

void lode_inventory_free(lode_inventory_t *inventory) {
    free(inventory->list);
    free(inventory->roles);
    free(inventory->layers);
    free(inventory->names);
    *inventory = (lode_inventory_t){0};
}

int64_t lode_inventory_elements(const lode_inventory_t *inventory, int64_t index) {
    return elements_of(&inventory->list[index]);
}
