/* store/seal: checksums of every byte of a result file, behind its end.
 *
 * HDF5 does not notice when a file's data change on the disk or in a copy, and may crash where its
 * own structures do. A complete file is therefore sealed: lines of text follow the last byte that
 * HDF5 knows of, which it and everything built on it ignore, one for each segment of the file,
 *
 *     <XXH3-128 of the segment, 32 hexadecimal digits> <first byte> <bytes> <dataset>
 *
 * in the order of the file and without gaps. A segment is a piece of one dataset's elements, or a
 * stretch between datasets, where HDF5 keeps its structures; that is named "-". The last 64 bytes
 * tell the XXH3-128 and the length of these lines:
 *
 *     seal <32 hexadecimal digits> <15 decimal digits> lodestone
 *
 * Whoever has no Lodestone checks a segment with: tail -c +$((first+1)) FILE | head -c BYTES |
 * xxhsum -H2. It is a protection from accidents, not from an adversary.
 */
#ifndef LODE_STORE_SEAL_H
#define LODE_STORE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/context.h"

enum { LODE_SEAL_SEGMENT = 64 << 20 }; /* most bytes of one segment: ranks can share a dataset */

/* Where a dataset's elements lie in the file. */
typedef struct lode_seal_extent {
    const char *name;     /* without leading '/' */
    int64_t first, bytes; /* bytes > 0 */
} lode_seal_extent_t;

/* Seals a file that HDF5 has closed, of `bytes` bytes: the ranks read it between them and rank 0
 * appends the seal.
 *   extents [count]   in, on rank 0: all datasets with elements, in any order, not overlapping
 *   bytes             in, on rank 0
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY, LODE_ERR_INTERNAL (overlapping extents). Collective. */
LODE_MUST_USE lode_status_t lode_seal_write(const lode_comm_t *comm, const char *path,
                                            int64_t bytes, const lode_seal_extent_t *extents,
                                            int64_t count);

/* Checks what HDF5 will look at before it sees any element: *sealed tells whether the file has a
 * seal at all (true: it holds, as does everything but the datasets' elements).
 * Errors: LODE_ERR_FORMAT, naming the file; LODE_ERR_INPUT, LODE_ERR_IO, LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_seal_check_structure(const char *path, bool *sealed);

/* LODE_ERR_FORMAT with a message that says that `what` of the file has changed. Local. */
LODE_MUST_USE lode_status_t lode_seal_broken(const char *path, const char *what);

/* Checks the elements of one dataset, named without leading '/'; LODE_OK for a file without a seal.
 * Errors: LODE_ERR_FORMAT, naming the file, the dataset and the remedy; as above. Local. */
LODE_MUST_USE lode_status_t lode_seal_check_dataset(const char *path, const char *name);

/* A file's seal, for digests of its datasets. */
typedef struct lode_seal lode_seal_t;

/* Reads the seal of a file, and nothing else; one without has no digests. *seal is for
 * lode_seal_close(), NULL on failure. Errors: those of lode_seal_check_structure(). Local. */
LODE_MUST_USE lode_status_t lode_seal_open(lode_seal_t **seal, const char *path);
void lode_seal_close(lode_seal_t **seal);

/* Appends the digests of a dataset's segments to `digests`, 32 digits each, in their order; *bytes
 * is how many bytes they are of: 0 where the file has no seal, or does not keep the dataset in one
 * place. Errors: LODE_ERR_MEMORY. Local. */
LODE_MUST_USE lode_status_t lode_seal_digests(lode_buffer_t *digests, int64_t *bytes,
                                              const lode_seal_t *seal, const char *name);

/* Checks all elements of a file, which the ranks read between them; LODE_OK for one without a seal.
 * Errors: the same. Collective. */
LODE_MUST_USE lode_status_t lode_seal_check_data(const lode_comm_t *comm, const char *path);

#endif
