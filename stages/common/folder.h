/* stages/common/folder: a folder that appears under its name when it is complete.
 *
 * It is written as <path>.partial, beginning with lodestone.json, whose "files" names all other
 * files to come; so what an interrupted run left can be told from what somebody else put there. A
 * folder of ours is replaced: it steps aside as <path>.replaced until the new one has its name.
 * Everything here is Local, for one rank.
 */
#ifndef LODE_STAGES_COMMON_FOLDER_H
#define LODE_STAGES_COMMON_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

/* Name of the file that says what a folder is. */
extern const char lode_folder_note[];

/* Refuses a path that a file has, or a folder that lode did not write; what was added to one of
 * ours matters only once that is to be replaced. Errors: LODE_ERR_IO, naming what is in the way. */
LODE_MUST_USE lode_status_t lode_folder_check(const char *path);

/* Makes sure that `path` is free, empty or a folder of ours, removes what earlier runs left, and
 * creates <path>.partial with lodestone.json, the JSON object `note`, in it. *partial is its path
 * and the caller's; NULL on failure. Errors: LODE_ERR_IO, naming what is in the way. */
LODE_MUST_USE lode_status_t lode_folder_begin(char **partial, const char *path, const char *note);

/* Gives <path>.partial its name. Errors: LODE_ERR_IO; the folder then stays as it was before. */
LODE_MUST_USE lode_status_t lode_folder_commit(const char *path);

/* Removes <path>.partial and its files; keeps the current error message. */
void lode_folder_abandon(const char *path);

/* Whether the folder is complete, with every file it says it has, and its lodestone.json carries
 * this "digest". Never fails. */
bool lode_folder_is(const char *path, const char digest[LODE_DIGEST_TEXT]);

/* The text that a folder's lodestone.json has under `key`; "" where it has none, or one that is
 * longer than a digest. Never fails. */
void lode_folder_text(char text[LODE_DIGEST_TEXT], const char *path, const char *key);

/* The integer that it has under `key`; −1 where it has none. Never fails. */
int64_t lode_folder_integer(const char *path, const char *key);

#endif
