#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/internal.h"

/* What HDF5 adds, measured on files of this module with 1.10 and 1.14: a dataset's header and its
 * entry in a group, an attribute, a text's place in the heap. Metadata come in blocks (see
 * lode_store_access), and the file ends with the last of them. */
enum { DATASET_BYTES = 800, ATTRIBUTE_BYTES = 160, FILE_BYTES = 4096, BLOCK_BYTES = 65536 };
/* Provenance and what else every finished file has. */
enum { PROVENANCE_BYTES = 14000 };

lode_status_t lode_store_tally_create(lode_store_t **out) {
    lode_store_t *store;
    *out = NULL;
    LODE_TRY(LODE_NEW(&store, 1, "tally"));
    store->comm = (lode_comm_t){.comm = MPI_COMM_NULL, .rank = 0, .size = 1};
    store->file = H5I_INVALID_HID;
    store->descriptor = -1;
    store->tallied = true;
    const lode_status_t status = lode_strdup(&store->path, "tally");
    if (status == LODE_OK)
        *out = store;
    else
        free(store);
    return status;
}

void lode_store_tally_dataset(lode_store_t *store, lode_type_t type, int axes,
                              const int64_t *shape) {
    int64_t bytes = (int64_t)lode_type_size(type);
    for (int axis = 0; axis < axes; axis++)
        bytes *= shape[axis];
    store->tally_data += (bytes + 7) / 8 * 8;
    store->tally_metadata += DATASET_BYTES;
}

void lode_store_tally_attribute(lode_store_t *store, int64_t bytes) {
    store->tally_metadata += ATTRIBUTE_BYTES + bytes;
}

int64_t lode_store_tally_end(lode_store_t **store) {
    if (!*store)
        return 0;
    const int64_t metadata = (*store)->tally_metadata + PROVENANCE_BYTES;
    const int64_t blocks = (metadata + BLOCK_BYTES - 1) / BLOCK_BYTES;
    const int64_t bytes = FILE_BYTES + (*store)->tally_data + blocks * BLOCK_BYTES;
    lode_store_free(store);
    return bytes;
}
