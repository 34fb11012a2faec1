/* model/inventory: the tensors that a checkpoint of an architecture has, in the order of the model.
 * Everything here is Local. */
#ifndef LODE_MODEL_INVENTORY_H
#define LODE_MODEL_INVENTORY_H

#include "base/error.h"
#include "model/family.h"
#include "model/tensor.h"
#include "model/writer.h"

enum { LODE_INVENTORY_NAME_BYTES = 128 };

typedef struct lode_inventory {
    int64_t count, bytes;       /* tensors, and what they all take */
    lode_writer_tensor_t *list; /* [count], of `dtype`, in their stored shapes, for
                                 * lode_writer_create */
    lode_role_t *roles;         /* [count], of their first parts */
    int64_t *layers;            /* [count], −1 for those of no layer */
    char *names;                /* storage */
} lode_inventory_t;

/* *out is for lode_inventory_free, {0} on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_inventory_create(lode_inventory_t *out,
                                                  const lode_architecture_t *architecture,
                                                  lode_dtype_t dtype);
void lode_inventory_free(lode_inventory_t *inventory);

/* Elements of tensor `index` of the list. */
int64_t lode_inventory_elements(const lode_inventory_t *inventory, int64_t index);

#endif
