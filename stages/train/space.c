#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/folder.h"
#include "train/work.h"

enum { FOLDER_SLACK_BYTES = 1 << 20 }; /* of what lies beside the weights */

/* Bytes of the folders that are still to be written; another takes the place of one that is there
 * only when it is complete. */
static int64_t folders_to_come(const lode_train_t *train) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < train->record.checkpoints; i++)
        if (!*train->record.digest[i])
            bytes += train->inventory.bytes + FOLDER_SLACK_BYTES;
    return bytes;
}

/* Of a state's bytes, those that the one whose place it takes does not have already: the next one
 * is complete before that goes. */
static lode_status_t state_to_come(int64_t *bytes, const lode_train_t *train) {
    const int64_t missing = lode_train_record_missing(&train->record, 0);
    struct stat info;
    char *path;
    *bytes = 0;
    if (missing < 0)
        return LODE_OK;
    const lode_train_slot_t slot = lode_train_slot(train, missing);
    LODE_TRY(lode_train_state_bytes(bytes, &train->parameters->inventory, &train->record));
    LODE_TRY(lode_train_state_path(&path, train->run->folder, slot));
    *bytes = 2 * *bytes - (stat(path, &info) == 0 ? info.st_size : 0);
    free(path);
    return LODE_OK;
}

lode_status_t lode_train_check_space(const lode_train_t *train) {
    const int64_t folders = folders_to_come(train);
    struct statvfs info;
    int64_t state;
    LODE_TRY(state_to_come(&state, train));
    if (statvfs(train->run->folder, &info) != 0)
        return LODE_OK; /* writing will say what is wrong */
    const double needed = (double)folders + (double)(state > 0 ? state : 0);
    const double there = (double)info.f_bavail * (double)info.f_frsize;
    if (needed <= there)
        return LODE_OK;
    return lode_fail(LODE_ERR_IO,
                     "%s: training needs %.3f GB for checkpoints and %.3f GB for its state, and "
                     "the disk has %.3f GB free; free some space, choose another disk for "
                     "results, or fewer train.checkpoints",
                     train->run->folder, (double)folders / 1e9,
                     (double)(state > 0 ? state : 0) / 1e9, there / 1e9);
}
