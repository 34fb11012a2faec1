/* store/internal: what the store's own files share. */
#ifndef LODE_STORE_INTERNAL_H
#define LODE_STORE_INTERNAL_H

#include <hdf5.h>

#include "base/file.h"
#include "store/store.h"

typedef struct lode_store_entry {
    char *name; /* without the leading '/' */
    hid_t dataset;
    lode_type_t type;
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
} lode_store_entry_t;

struct lode_store {
    lode_comm_t comm;
    char *path;
    char *partial; /* NULL where the store was opened for reading */
    hid_t file;
    int descriptor; /* rank 0 of a store being written: its own handle on the partial file */
    lode_mapping_t mapping; /* of the whole file, once lode_store_map() was called */
    lode_status_t status;
    char message[LODE_MESSAGE_MAX];            /* of `status` */
    lode_store_entry_t *entries;               /* open datasets; in writing, all of them */
    int64_t entry_count, entry_capacity, last; /* last: the entry that was found last */
    bool tallied;                              /* no file: only its bytes are counted */
    int64_t tally_data, tally_metadata;
};

/* Allocates a store that is not open yet. Local. */
LODE_MUST_USE lode_status_t lode_store_new(lode_store_t **out, const lode_comm_t *comm,
                                           const char *path, bool writing);
/* Closes what is open; the table of datasets stays, for their shapes. Collective where the file was
 * opened collectively. */
LODE_MUST_USE lode_status_t lode_store_shut(lode_store_t *store);
/* Frees a store that was shut. Local. */
void lode_store_free(lode_store_t **store);

/* Opens `path` for reading into store->file. Collective over the store's ranks, not agreed. */
LODE_MUST_USE lode_status_t lode_store_open_file(lode_store_t *store, const char *path);

/* Counts a dataset, or an attribute of `bytes` beside its header, of a tallied store. */
void lode_store_tally_dataset(lode_store_t *store, lode_type_t type, int axes,
                              const int64_t *shape);
void lode_store_tally_attribute(lode_store_t *store, int64_t bytes);

/* Names as HDF5's iterations hand them over, to be put in byte order. */
typedef struct lode_store_names {
    char **names; /* release with lode_store_list_free() */
    int64_t count, capacity;
    lode_status_t status; /* of the iteration's callback */
} lode_store_names_t;
LODE_MUST_USE lode_status_t lode_store_names_add(lode_store_names_t *list, const char *name);
void lode_store_names_sort(lode_store_names_t *list);

/* The name without leading '/'; "." for the root, which HDF5 takes for the group itself. */
const char *lode_store_relative(const char *name);

/* The entry of a dataset, opened where it is not yet and `open` is set. Local. */
LODE_MUST_USE lode_status_t lode_store_find(lode_store_t *store, const char *name, bool open,
                                            lode_store_entry_t **entry);
/* Takes the open dataset into the table; on failure the dataset is closed. Local. */
LODE_MUST_USE lode_status_t lode_store_remember(lode_store_t *store, const char *name,
                                                hid_t dataset, lode_store_entry_t **entry);

/* Moves a hyperslab between memory and file, in pieces that MPI-IO can count. Local. */
LODE_MUST_USE lode_status_t lode_store_transfer(lode_store_t *store,
                                                const lode_store_entry_t *entry,
                                                const int64_t *offset, const int64_t *count,
                                                lode_type_t type, void *into, const void *from);

/* File access properties for the store's communicator; negative on failure. */
hid_t lode_store_access(const lode_comm_t *comm);
hid_t lode_store_file_type(lode_type_t type);
hid_t lode_store_memory_type(lode_type_t type);
/* Which of our types an HDF5 type is; false where it is none of them. */
bool lode_store_classify(hid_t type, lode_type_t *out);

/* Turns HDF5's error printing off. Local. */
void lode_store_quiet(void);
/* The innermost message on HDF5's error stack, "unknown HDF5 error" if none; clears the stack. The
 * text is valid until the next call. Local. */
const char *lode_store_reason(void);

#endif
