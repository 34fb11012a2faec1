/* store/store: the HDF5 files that stages hand each other.
 *
 * All ranks write one file together, under <path>.partial; lode_store_commit() verifies it and
 * renames it to <path>. A file under its final name is therefore always complete.
 *
 * Datasets are contiguous, little-endian, C order, and have their space from the moment they are
 * created, so that any rank may write any part of them at any time without the others. Objects
 * are named by their path in the file, with or without the leading '/'; "/" is the root.
 *
 * One rank opens a file through plain POSIX calls, several through MPI-IO. HDF5 is not
 * thread-safe: only one thread of a rank calls in here. HDF5's own error printing is off; its
 * innermost message is part of ours.
 */
#ifndef LODE_STORE_STORE_H
#define LODE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "comm/context.h"

typedef enum lode_type {
    LODE_TYPE_F64,
    LODE_TYPE_F32,
    LODE_TYPE_I32,
    LODE_TYPE_I64,
    LODE_TYPE_U8,
} lode_type_t;

enum { LODE_STORE_MAX_AXES = 8 };

/* Bytes of one element. Local. */
size_t lode_type_size(lode_type_t type);
/* "f64", "f32", "i32", "i64", "u8". Local. */
const char *lode_type_name(lode_type_t type);

typedef struct lode_store lode_store_t;

/* --- writing ---------------------------------------------------------------------------- */

/* Creates <path>.partial for all ranks of `comm`, in place of any left by an interrupted run; the
 * folder must exist. *out is the caller's, to be ended by commit or abandon. Collective.
 * Errors: LODE_ERR_IO (folder missing or unwritable), the same on all ranks. */
LODE_MUST_USE lode_status_t lode_store_create(lode_store_t **out, const lode_comm_t *comm,
                                              const char *path);

/* Adds a dataset of `axes` extents shape[axes] (1 ≤ axes ≤ LODE_STORE_MAX_AXES, extents may be 0)
 * and the groups above it. With `fill` every element starts as "missing": NaN, −1, or 0 for u8;
 * without, elements that nobody writes are 0. Its disk space is reserved here, so that a full disk
 * is found before the computation. Collective, same arguments on all ranks.
 * Errors: LODE_ERR_IO (no space), LODE_ERR_INTERNAL (bad or repeated name, bad extents). */
LODE_MUST_USE lode_status_t lode_store_dataset(lode_store_t *store, const char *name,
                                               lode_type_t type, int axes, const int64_t *shape,
                                               bool fill);

/* Writes the hyperslab that starts at offset[axes] with extents count[axes]; `data` is dense, C
 * order, of the dataset's type, and still the caller's. Ranks must not write the same element
 * between two synchronisations. A failure also sticks to the store, and fails its commit on all
 * ranks: a caller may go on and find out there. Local. */
LODE_MUST_USE lode_status_t lode_store_write(lode_store_t *store, const char *name,
                                             const int64_t *offset, const int64_t *count,
                                             const void *data);

/* Adds a dataset as lode_store_dataset() does, without `fill`, and has rank 0 write all of it,
 * `data` being of no account on the others. A failed write sticks to the store and fails its
 * commit; it is a warning here. Collective, same other arguments on all ranks. Errors: those of
 * lode_store_dataset(). */
LODE_MUST_USE lode_status_t lode_store_put(lode_store_t *store, const char *name, lode_type_t type,
                                           int axes, const int64_t *shape, const void *data);

/* Makes everything that any rank has written readable by every rank with lode_store_read() on this
 * store. Returns any rank's sticky error on all. Collective. */
LODE_MUST_USE lode_status_t lode_store_synchronise(lode_store_t *store);

/* Sets an attribute of a dataset, group or "/" (replacing an old value of the name). Rank 0's
 * value is written. Text is UTF-8 of any length. Collective. */
LODE_MUST_USE lode_status_t lode_store_attribute_f64(lode_store_t *store, const char *object,
                                                     const char *name, double value);
LODE_MUST_USE lode_status_t lode_store_attribute_i64(lode_store_t *store, const char *object,
                                                     const char *name, int64_t value);
LODE_MUST_USE lode_status_t lode_store_attribute_text(lode_store_t *store, const char *object,
                                                      const char *name, const char *value);

/* Where a file comes from; texts are borrowed, NULL counts as "". */
typedef struct lode_provenance {
    const char *experiment;        /* the resolved experiment file */
    const char *experiment_sha256; /* of that text */
    const char *stage;
    const char *fingerprint; /* of everything the stage's result depends on, 32 hex digits */
    const char *inputs;      /* one "<digest>  <path>" a line */
    const char *version, *commit;
    const char *libraries; /* one "name version" a line */
    int64_t ranks, threads;
    const char *host, *start, *end; /* times are ISO 8601, UTC */
    int64_t peak_private_bytes;     /* seen during the stage, on the rank that had most */
} lode_provenance_t;

/* Writes the group /provenance, one attribute for each field; rank 0's values. Collective. */
LODE_MUST_USE lode_status_t lode_store_provenance(lode_store_t *store,
                                                  const lode_provenance_t *provenance);

/* Ends writing: agrees that no rank failed, flushes and closes the file, lets rank 0 reopen it and
 * check every dataset's type, shape and extent on disk, seals it with checksums of what is there
 * (store/seal.h), then syncs, renames and syncs the folder.
 * On any rank's failure, all return that error, a file that was under <path> before stays as it
 * was, and nothing is left under <path>.partial but what a resumable store (store/journal.h) keeps.
 * Always releases *store. Collective. */
LODE_MUST_USE lode_status_t lode_store_commit(lode_store_t **store);

/* Closes and deletes the partial file, unless the store is resumable (store/journal.h) and has
 * finished units; keeps the current error message. NULL is fine (on all ranks). Collective. */
void lode_store_abandon(lode_store_t **store);

/* The same, but leaves nothing for a later run. Collective. */
void lode_store_remove(lode_store_t **store);

/* --- counting --------------------------------------------------------------------------- */

/* A store without a file, for plans: it takes datasets and attributes as one that is written, and
 * counts what they would take on disk. What is written to it is forgotten; nothing can be read.
 * *out is for lode_store_tally_end, NULL on failure. Local, like all calls with such a store. */
LODE_MUST_USE lode_status_t lode_store_tally_create(lode_store_t **out);

/* Bytes of the file that the store stands for, provenance included: those of datasets exactly, of
 * metadata to some ten thousand. Releases *store; 0 where that is NULL. Local. */
int64_t lode_store_tally_end(lode_store_t **store);

/* --- reading ---------------------------------------------------------------------------- */

/* Opens a complete file for reading. *out is the caller's, to be ended by close. Collective.
 * Errors: LODE_ERR_INPUT (missing), LODE_ERR_FORMAT (not an HDF5 file, cut short, changed). */
LODE_MUST_USE lode_status_t lode_store_open(lode_store_t **out, const lode_comm_t *comm,
                                            const char *path);

/* Reads the whole file, the ranks between them, and compares it with the checksums it was committed
 * with (store/seal.h); LODE_OK for files of versions that wrote none. What HDF5 needs to make sense
 * of the file was compared when it was opened. Where one rank opens a file alone, reading a dataset
 * does the same for that one; several ranks must call this, or read what they are given.
 * Errors: LODE_ERR_FORMAT, naming file and dataset; LODE_ERR_IO. Collective. */
LODE_MUST_USE lode_status_t lode_store_verify(lode_store_t *store);

/* Reads without comparing: the caller knows that the file is sound. Local. */
void lode_store_trust(lode_store_t *store);

/* Closes a store opened for reading; NULL is fine. Collective. */
void lode_store_close(lode_store_t **store);

/* Whether there is a dataset or group of that name. Local. */
bool lode_store_has(lode_store_t *store, const char *name);

/* Number of axes and extents of a dataset; shape holds LODE_STORE_MAX_AXES. Local.
 * Errors, here and below: LODE_ERR_INPUT (no such dataset), LODE_ERR_FORMAT (broken file). */
LODE_MUST_USE lode_status_t lode_store_shape(lode_store_t *store, const char *name, int *axes,
                                             int64_t *shape);
LODE_MUST_USE lode_status_t lode_store_type(lode_store_t *store, const char *name,
                                            lode_type_t *type);

/* Reads a hyperslab, dense and in C order, into the caller's out[∏ count], as elements of `type`:
 * the stored type or a wider one of its kind (f32 as f64; u8 or i32 as i64). Local.
 * Errors: LODE_ERR_SHAPE (outside the dataset, wrong kind). */
LODE_MUST_USE lode_status_t lode_store_read(lode_store_t *store, const char *name,
                                            const int64_t *offset, const int64_t *count,
                                            lode_type_t type, void *out);

/* Reads a whole dataset: *(T **)out is allocated here (NULL where it has no elements) and the
 * caller's; *elements (may be NULL) is their number. Local. */
LODE_MUST_USE lode_status_t lode_store_read_all(lode_store_t *store, const char *name,
                                                lode_type_t type, void *out, int64_t *elements);

/* Gives a dataset's bytes as they lie in the file, mapped read-only, for what is too large to be
 * copied into private memory: *data is *elements (may be NULL) elements of `type`, aligned to their
 * size, until the store is closed; never NULL. Local.
 * Errors: LODE_ERR_SHAPE (another type than the stored one), LODE_ERR_FORMAT (not in one piece or
 * not little-endian, which Lodestone does not write), LODE_ERR_INPUT, LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_store_map(lode_store_t *store, const char *name, lode_type_t type,
                                           const void **data, int64_t *elements);

/* Reads an attribute of a dataset, group or "/"; *value is untouched on failure, a text is the
 * caller's. Local. Errors: LODE_ERR_INPUT (no such attribute), LODE_ERR_FORMAT (wrong kind). */
LODE_MUST_USE lode_status_t lode_store_get_attribute_f64(lode_store_t *store, const char *object,
                                                         const char *name, double *value);
LODE_MUST_USE lode_status_t lode_store_get_attribute_i64(lode_store_t *store, const char *object,
                                                         const char *name, int64_t *value);
LODE_MUST_USE lode_status_t lode_store_get_attribute_text(lode_store_t *store, const char *object,
                                                          const char *name, char **value);
/* Whether the object exists and has the attribute. Local. */
bool lode_store_has_attribute(lode_store_t *store, const char *object, const char *name);

/* Names of the members of a group, sorted by their bytes; release with lode_store_list_free().
 * A group that does not exist has none. Local. */
LODE_MUST_USE lode_status_t lode_store_list(lode_store_t *store, const char *group, char ***names,
                                            int64_t *count);
void lode_store_list_free(char ***names, int64_t count);

/* The /provenance fingerprint of a complete file; "" where the file is missing, broken or without
 * one; a broken one is also a warning. Never fails, keeps the current error message. Local. */
void lode_store_fingerprint(const char *path, char fingerprint[LODE_DIGEST_TEXT]);

/* Whether HDF5 has failed to close a file on this rank. It frees what it still refers to then, and
 * would crash in MPI_Finalize(), where it ends: leave without. Local. */
bool lode_store_stranded(void);

#endif
