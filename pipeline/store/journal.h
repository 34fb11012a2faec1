/* store/journal: which units of work an interrupted run has finished, so that the next one goes on
 * from there, on any number of ranks.
 *
 * A long stage writes what a unit of its work gives (a micro-batch's statistics, a layer's
 * spectrum) straight into datasets that exist from the start at fixed places of <path>.partial, and
 * sums them up, in a fixed order, at the end. Beside that file lies <path>.journal: text that names
 * the fingerprint of the stage, its kinds of units, and every dataset with its type, shape and
 * place; then one byte a unit, which is set once the unit's data were written.
 *
 * An interrupted run may leave HDF5's own metadata half-written, so they are never read. The next
 * run of the same fingerprint lays out the same datasets in a new, empty file. Where the journal's
 * text shows the old ones in the same places, as it does whatever the number of ranks, everything
 * of the new file but the datasets' bytes is copied over the old file, which then is a sound one.
 * No data move, so this takes neither time nor space, and being killed meanwhile loses nothing.
 * Whatever does not fit is thrown away with a line in the log, and is never an error.
 *
 * A unit's number must not depend on the layout. Of a unit whose data come from several ranks,
 * either each rank marks its own part as a unit (micro-batch and layer), or all mark it together.
 * Where power is cut, or a node dies, marks may reach the disk before the data do. So a mark says
 * either that the data were handed to the operating system, which counts for a later run after the
 * same start of the one machine that all ranks were on; or that they were synced to disk, which
 * always counts. Syncs are at least a second apart, and far enough to take a twentieth of the time
 * at most.
 */
#ifndef LODE_STORE_JOURNAL_H
#define LODE_STORE_JOURNAL_H

#include "store/store.h"

/* One kind of units, numbered from 0. */
typedef struct lode_part {
    const char *name; /* without blanks */
    int64_t units;
} lode_part_t;

/* Creates <path>.partial like lode_store_create(), to be followed by the datasets that units write
 * and then by lode_store_resume(). What an interrupted run of this fingerprint left is kept aside
 * until then; `afresh` deletes it, as does another fingerprint. Collective.
 * Errors: as lode_store_create(). */
LODE_MUST_USE lode_status_t lode_store_create_resumable(lode_store_t **out, const lode_comm_t *comm,
                                                        const char *path, const char *fingerprint,
                                                        bool afresh);

/* Takes over what an interrupted run left, if its journal fits the datasets created so far and
 * parts[count], and starts the journal of this run. From here on ending the store
 * without a commit, and being killed, leave the units that were marked. Datasets that are created
 * later are no part of this: they are written anew. What was written before this call, to datasets
 * without `fill`, must follow from the fingerprint; it is the interrupted run's. Collective, same
 * arguments on all ranks. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_store_resume(lode_store_t *store, const lode_part_t *parts,
                                              int64_t count);

/* Whether units [first, first + count) all were done before lode_store_resume() returned; false on
 * a store that is not resumable. The same on all ranks, whatever they have marked since. Local. */
bool lode_store_done(const lode_store_t *store, int part, int64_t first, int64_t count);

/* How many units of a part were. Local. */
int64_t lode_store_done_count(const lode_store_t *store, int part);

/* Marks units [first, first + count) all of whose data this rank has written with
 * lode_store_write(). Nothing on a store that is not resumable. A failure sticks to the store.
 * Local. Errors: LODE_ERR_IO, LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_store_mark(lode_store_t *store, int part, int64_t first,
                                            int64_t count);

/* Marks a unit whose data several ranks have written between them; `local` is this rank's status so
 * far, and the same is returned on all. With `sync` its data are on disk on return, and so are
 * those of all units before: for work that is about to write over what made the unit. Collective.
 */
LODE_MUST_USE lode_status_t lode_store_mark_all(lode_store_t *store, int part, int64_t unit,
                                                bool sync, lode_status_t local);

/* Deletes what an interrupted run left of <path>, but not <path>. Never fails. For one rank. Local.
 */
void lode_store_discard(const char *path);

#endif
