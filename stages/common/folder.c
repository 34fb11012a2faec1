#include "common/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"

const char lode_folder_note[] = "lodestone.json";

static const char partial_ending[] = ".partial", replaced_ending[] = ".replaced";

static lode_status_t with_ending(char **out, const char *path, const char *ending) {
    lode_buffer_t text = {0};
    lode_status_t status = lode_buffer_printf(&text, "%s%s", path, ending);
    *out = text.data;
    return status;
}

static lode_status_t fail_system(const char *path, const char *what) {
    return lode_fail(LODE_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* --- whose a folder is ---------------------------------------------------------------------- */

/* The note of a folder, NULL where it has none that makes sense. */
static json_t *read_note(const char *folder) {
    char *path;
    if (lode_path_join(&path, folder, lode_folder_note) != LODE_OK)
        return NULL;
    json_t *note = json_load_file(path, 0, NULL);
    free(path);
    if (json_is_string(json_object_get(note, "lodestone")) &&
        json_is_array(json_object_get(note, "files")))
        return note;
    json_decref(note);
    return NULL;
}

/* Whether the file is the note or one that it names, finished or not. */
static bool is_known(const json_t *note, const char *name) {
    const size_t length = strlen(name), ending = strlen(partial_ending);
    const size_t stem = length > ending && strcmp(name + length - ending, partial_ending) == 0
                            ? length - ending
                            : length;
    size_t i;
    json_t *file;
    if (strlen(lode_folder_note) == stem && strncmp(name, lode_folder_note, stem) == 0)
        return true;
    json_array_foreach(json_object_get(note, "files"), i, file) {
        const char *text = json_string_value(file);
        if (text &&
            (strcmp(text, name) == 0 || (strlen(text) == stem && strncmp(text, name, stem) == 0)))
            return true;
    }
    return false;
}

/* Finds the first entry, in the order of bytes, that is not ours; "" where there is none. Folders
 * never are. */
static lode_status_t find_foreign(char foreign[NAME_MAX + 1], const char *folder) {
    foreign[0] = '\0';
    DIR *directory = opendir(folder);
    if (!directory)
        return fail_system(folder, "cannot be listed");
    json_t *note = read_note(folder);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        const char *name = entry->d_name;
        struct stat info;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        const bool ours = is_known(note, name) &&
                          fstatat(dirfd(directory), name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
                          S_ISREG(info.st_mode);
        if (!ours && (!*foreign || strcmp(name, foreign) < 0))
            snprintf(foreign, NAME_MAX + 1, "%s", name);
    }
    json_decref(note);
    closedir(directory);
    return LODE_OK;
}

/* Refuses a path that something of somebody else's has. */
static lode_status_t check_free(const char *path) {
    struct stat info;
    char foreign[NAME_MAX + 1];
    if (lstat(path, &info) != 0)
        return errno == ENOENT    ? LODE_OK
               : errno == ENOTDIR ? lode_fail(LODE_ERR_IO,
                                              "%s: a file is in the way of a folder above it; "
                                              "choose another path",
                                              path)
                                  : fail_system(path, "cannot be looked up");
    if (!S_ISDIR(info.st_mode))
        return lode_fail(LODE_ERR_IO,
                         "%s: is in the way and no folder; move it, or choose another path", path);
    LODE_TRY(find_foreign(foreign, path));
    if (*foreign)
        return lode_fail(
            LODE_ERR_IO,
            "%s: holds \"%s\", which lode did not write, so the folder is not replaced; "
            "move it away, or choose another path",
            path, foreign);
    return LODE_OK;
}

lode_status_t lode_folder_check(const char *path) {
    json_t *note = read_note(path);
    const bool ours = note != NULL;
    json_decref(note);
    return ours ? LODE_OK : check_free(path);
}

/* --- removing ------------------------------------------------------------------------------- */

/* Unlinks the files of a folder that was found to be ours, the note last, and the folder. */
static lode_status_t remove_folder(const char *path) {
    DIR *directory = opendir(path);
    if (!directory)
        return errno == ENOENT ? LODE_OK : fail_system(path, "cannot be listed");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, lode_folder_note) != 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    unlinkat(dirfd(directory), lode_folder_note, 0);
    closedir(directory);
    return rmdir(path) == 0 ? LODE_OK : fail_system(path, "cannot be removed");
}

static lode_status_t remove_leftover(const char *path) {
    LODE_TRY(check_free(path));
    return remove_folder(path);
}

/* --- a folder's life ------------------------------------------------------------------------ */

/* The folder above, the caller's. */
static lode_status_t parent_of(char **out, const char *path) {
    LODE_TRY(lode_strdup(out, path));
    char *slash = strrchr(*out, '/');
    if (slash) {
        slash[slash == *out] = '\0'; /* "/" keeps its slash */
        return LODE_OK;
    }
    free(*out);
    return lode_strdup(out, ".");
}

static lode_status_t sync_folder(const char *path) {
    const int descriptor =
        lode_fault(LODE_FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return fail_system(path, "cannot be opened");
    const bool failed = (lode_fault(LODE_FAULT_WRITE) || fsync(descriptor) != 0) && errno != EINVAL;
    lode_status_t status = failed ? fail_system(path, "cannot be synced") : LODE_OK;
    close(descriptor);
    return status;
}

static lode_status_t create(const char *partial, const char *note) {
    char *path;
    if (lode_fault(LODE_FAULT_WRITE) || mkdir(partial, 0777) != 0)
        return fail_system(partial, "the folder cannot be created");
    LODE_TRY(lode_path_join(&path, partial, lode_folder_note));
    lode_status_t status = lode_file_write_atomic(path, note, strlen(note));
    free(path);
    return status;
}

lode_status_t lode_folder_begin(char **partial, const char *path, const char *note) {
    char *replaced = NULL, *parent = NULL;
    lode_status_t status;
    *partial = NULL;
    LODE_TRY(check_free(path));
    LODE_TRY(with_ending(partial, path, partial_ending));
    LODE_GUARD(status, with_ending(&replaced, path, replaced_ending), done);
    LODE_GUARD(status, parent_of(&parent, path), done);
    LODE_GUARD(status, lode_directory_create(parent), done);
    LODE_GUARD(status, remove_leftover(*partial), done);
    LODE_GUARD(status, remove_leftover(replaced), done);
    status = create(*partial, note);
    if (status != LODE_OK)
        lode_folder_abandon(path);
done:
    free(replaced);
    free(parent);
    if (status != LODE_OK) {
        free(*partial);
        *partial = NULL;
    }
    return status;
}

/* Swaps the names; what was there before keeps its own where that fails. */
static lode_status_t swap(const char *partial, const char *path, const char *replaced) {
    const bool old = access(path, F_OK) == 0;
    if (old && (lode_fault(LODE_FAULT_WRITE) || rename(path, replaced) != 0))
        return fail_system(path, "cannot be renamed");
    if (!lode_fault(LODE_FAULT_WRITE) && rename(partial, path) == 0)
        return LODE_OK;
    lode_status_t status = fail_system(partial, "cannot be renamed");
    if (old && rename(replaced, path) != 0)
        return lode_fail(LODE_ERR_IO, "%s: cannot be renamed back to %s: %s", replaced, path,
                         strerror(errno));
    return status;
}

lode_status_t lode_folder_commit(const char *path) {
    char *partial = NULL, *replaced = NULL, *parent = NULL;
    lode_status_t status;
    LODE_TRY(with_ending(&partial, path, partial_ending));
    LODE_GUARD(status, with_ending(&replaced, path, replaced_ending), done);
    LODE_GUARD(status, parent_of(&parent, path), done);
    LODE_GUARD(status, sync_folder(partial), done);
    LODE_GUARD(status, check_free(path), done); /* still */
    LODE_GUARD(status, swap(partial, path, replaced), done);
    LODE_GUARD(status, sync_folder(parent), done);
    status = remove_folder(replaced);
done:
    free(partial);
    free(replaced);
    free(parent);
    return status;
}

void lode_folder_abandon(const char *path) {
    char message[LODE_MESSAGE_MAX], *partial;
    snprintf(message, sizeof message, "%s", lode_error_message());
    if (with_ending(&partial, path, partial_ending) == LODE_OK) {
        (void)!remove_folder(partial);
        free(partial);
    }
    (void)!lode_fail(LODE_ERR_IO, "%s", message);
}

bool lode_folder_is(const char *path, const char digest[LODE_DIGEST_TEXT]) {
    json_t *note = read_note(path), *file;
    const char *found = json_string_value(json_object_get(note, "digest"));
    bool same = found && strcmp(found, digest) == 0;
    size_t i;
    json_array_foreach(json_object_get(note, "files"), i, file) {
        char *name;
        if (!same || !json_is_string(file) ||
            lode_path_join(&name, path, json_string_value(file)) != LODE_OK) {
            same = false;
            break;
        }
        same = lode_file_exists(name);
        free(name);
    }
    json_decref(note);
    return same;
}

void lode_folder_text(char text[LODE_DIGEST_TEXT], const char *path, const char *key) {
    json_t *note = read_note(path);
    const char *found = json_string_value(json_object_get(note, key));
    snprintf(text, LODE_DIGEST_TEXT, "%s", found && strlen(found) < LODE_DIGEST_TEXT ? found : "");
    json_decref(note);
}

int64_t lode_folder_integer(const char *path, const char *key) {
    json_t *note = read_note(path), *found = json_object_get(note, key);
    const int64_t value = json_is_integer(found) ? (int64_t)json_integer_value(found) : -1;
    json_decref(note);
    return value;
}
