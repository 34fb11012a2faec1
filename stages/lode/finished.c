#include "lode/finished.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "export/export.h"
#include "tokenizer/tokenizer.h"
#include "train/train.h"

enum { PATH_BYTES = 4200 };

lode_status_t lode_finished_note(lode_finished_t *finished, const char *fingerprint,
                                 const char *path) {
    if (finished->count == finished->room) {
        const int64_t room = finished->room ? 2 * finished->room : 16;
        LODE_TRY(
            lode_resize(&finished->list, room, sizeof *finished->list, "list of finished stages"));
        finished->room = room;
    }
    lode_finished_file_t *entry = &finished->list[finished->count];
    snprintf(entry->fingerprint, sizeof entry->fingerprint, "%s", fingerprint);
    LODE_TRY(lode_strdup(&entry->path, path));
    finished->count++;
    return LODE_OK;
}

void lode_finished_free(lode_finished_t *finished) {
    for (int64_t i = 0; i < finished->count; i++)
        free(finished->list[i].path);
    free(finished->list);
    *finished = (lode_finished_t){0};
}

/* --- files and folders ------------------------------------------------------------------------ */

static bool copy_file(const char *from, const char *to) {
    lode_mapping_t mapping;
    if (lode_file_map(&mapping, from) != LODE_OK)
        return false;
    const bool copied = lode_file_write_atomic(to, mapping.data, mapping.size) == LODE_OK;
    lode_file_unmap(&mapping);
    return copied;
}

/* Gives a file a second name, in place of whatever has it, or else copies it there. */
static bool take_file(const char *from, const char *to) {
    char partial[PATH_BYTES];
    snprintf(partial, sizeof partial, "%s.partial", to);
    unlink(partial);
    if (link(from, partial) == 0 && rename(partial, to) == 0)
        return true;
    unlink(partial);
    return copy_file(from, to);
}

/* The path of `name` beside the file `path`. */
static void beside(char out[PATH_BYTES], const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    snprintf(out, PATH_BYTES, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
}

/* Takes one entry of a folder, if it is a file other than the note. */
static bool take_entry(const char *from, const char *to, const char *name) {
    char *source = NULL, *target = NULL;
    struct stat info;
    bool taken = lode_path_join(&source, from, name) == LODE_OK &&
                 lode_path_join(&target, to, name) == LODE_OK;
    if (taken && strcmp(name, lode_folder_note) != 0 && stat(source, &info) == 0 &&
        S_ISREG(info.st_mode))
        taken = take_file(source, target);
    free(source);
    free(target);
    return taken;
}

static bool take_files(const char *from, const char *to) {
    DIR *directory = opendir(from);
    bool taken = directory != NULL;
    for (struct dirent *entry; taken && (entry = readdir(directory));)
        taken = take_entry(from, to, entry->d_name);
    if (directory)
        closedir(directory);
    return taken;
}

/* Takes a folder that lode wrote. */
static bool take_folder(const char *from, const char *to) {
    char *path, *note, *partial;
    size_t size;
    if (lode_path_join(&path, from, lode_folder_note) != LODE_OK)
        return false;
    const bool read = lode_file_read(&note, &size, path) == LODE_OK;
    free(path);
    if (!read)
        return false;
    bool taken = lode_folder_begin(&partial, to, note) == LODE_OK;
    if (taken) {
        taken = take_files(from, partial) && lode_folder_commit(to) == LODE_OK;
        if (!taken)
            lode_folder_abandon(to);
        free(partial);
    }
    free(note);
    return taken;
}

/* --- what lies beside a stage's file ---------------------------------------------------------- */

static bool take_checkpoints(const lode_run_t *run, const char *from, const char *to) {
    for (int64_t i = 0; i < lode_config_checkpoint_total(run->config); i++) {
        char source[PATH_BYTES], target[PATH_BYTES];
        lode_buffer_t name = {0};
        bool taken =
            lode_config_step_name(&name, lode_config_checkpoint_at(run->config, i)) == LODE_OK;
        if (taken) {
            beside(source, from, name.data);
            beside(target, to, name.data);
            taken = take_folder(source, target);
        }
        lode_buffer_free(&name);
        if (!taken)
            return false;
    }
    return true;
}

static bool take_beside(const lode_run_t *run, lode_stage_t stage, const char *from,
                        const char *to) {
    char tokenizer[PATH_BYTES];
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        beside(tokenizer, from, "tokenizer.json");
        return take_file(tokenizer, run->tokenizer);
    case LODE_STAGE_TRAIN:
        return take_checkpoints(run, from, to);
    default:
        return true;
    }
}

bool lode_finished_share(const lode_finished_t *finished, const lode_run_t *run, lode_stage_t stage,
                         const char *path) {
    for (int64_t i = 0; i < finished->count; i++) {
        const lode_finished_file_t *entry = &finished->list[i];
        if (strcmp(entry->fingerprint, run->fingerprint[stage]) != 0 ||
            strcmp(entry->path, path) == 0)
            continue;
        lode_store_discard(path); /* lest the next run takes the other name for half a file */
        if (take_beside(run, stage, entry->path, path) && take_file(entry->path, path)) {
            lode_log_info("%s is taken from %s", path, entry->path);
            return true;
        }
    }
    return false;
}

bool lode_finished_whole(const lode_run_t *run, lode_stage_t stage) {
    switch (stage) {
    case LODE_STAGE_TOKENIZER:
        return lode_tokenizer_present(run);
    case LODE_STAGE_TRAIN:
        return lode_train_present(run);
    case LODE_STAGE_EXPORT:
        return lode_export_present(run);
    default:
        return true;
    }
}
