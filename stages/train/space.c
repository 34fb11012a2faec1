#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/size.h"
#include "train/work.h"

/* Bytes of the folders that are still to be written; another takes the place of one that is there
 * only when it is complete. */
static lode_status_t folders_to_come(int64_t *bytes, const lode_train_t *train) {
    int64_t each;
    *bytes = 0;
    LODE_TRY(lode_train_folder_bytes(&each, &train->folders));
    for (int64_t i = 0; i < train->record.checkpoints; i++)
        if (!*train->record.digest[i])
            *bytes += each;
    return LODE_OK;
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
    char texts[3][LODE_SIZE_TEXT];
    struct statvfs info;
    int64_t folders, state;
    LODE_TRY(folders_to_come(&folders, train));
    LODE_TRY(state_to_come(&state, train));
    if (statvfs(train->run->folder, &info) != 0)
        return LODE_OK; /* writing will say what is wrong */
    const double of_folders = (double)folders, of_state = state > 0 ? (double)state : 0;
    const double there = (double)info.f_bavail * (double)info.f_frsize;
    if (of_folders + of_state <= there)
        return LODE_OK;
    return lode_fail(LODE_ERR_IO,
                     "%s: training needs %s for checkpoints and %s for its state, and the disk has "
                     "%s free; free some space, choose another disk for results, or fewer "
                     "train.checkpoints",
                     train->run->folder, lode_size_text(texts[0], of_folders),
                     lode_size_text(texts[1], of_state), lode_size_text(texts[2], there));
}
