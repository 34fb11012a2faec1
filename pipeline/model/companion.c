#include "model/companion.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"

/* Endings of names of files that hold weights, in this format or another, or say where they are. */
static const char *const weight_endings[] = {
    ".safetensors", ".index.json", ".bin", ".pt",   ".pth",       ".ckpt",   ".h5",
    ".msgpack",     ".onnx",       ".ot",  ".gguf", ".onnx_data", ".tflite", ".partial",
};

static bool ends_with(const char *text, const char *ending) {
    const size_t length = strlen(text), wanted = strlen(ending);
    return length >= wanted && strcmp(text + length - wanted, ending) == 0;
}

static bool is_companion(const char *folder, const char *name) {
    if (name[0] == '.' || strcmp(name, "config.json") == 0 || strcmp(name, "lodestone.json") == 0)
        return false;
    for (size_t i = 0; i < sizeof weight_endings / sizeof *weight_endings; i++)
        if (ends_with(name, weight_endings[i]))
            return false;
    char *path;
    struct stat info;
    if (lode_path_join(&path, folder, name) != LODE_OK)
        return false;
    const bool regular = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    free(path);
    return regular;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lode_status_t append(char ***names, int64_t *count, int64_t *room, const char *name) {
    if (*count == *room) {
        const int64_t wanted = *room ? 2 * *room : 16;
        LODE_TRY(lode_resize(names, wanted, sizeof **names, "list of files"));
        *room = wanted;
    }
    LODE_TRY(lode_strdup(&(*names)[*count], name));
    (*count)++;
    return LODE_OK;
}

lode_status_t lode_companion_list(char ***names, int64_t *count, const char *folder) {
    *names = NULL;
    *count = 0;
    int64_t room = 0;
    DIR *directory = opendir(folder);
    if (!directory)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be listed: %s", folder, strerror(errno));
    lode_status_t status = LODE_OK;
    for (struct dirent *entry; status == LODE_OK && (entry = readdir(directory)) != NULL;)
        if (is_companion(folder, entry->d_name))
            status = append(names, count, &room, entry->d_name);
    closedir(directory);
    if (status != LODE_OK)
        lode_companion_free(names, *count);
    else if (*count > 0)
        qsort(*names, (size_t)*count, sizeof **names, by_text);
    return status;
}

void lode_companion_free(char ***names, int64_t count) {
    for (int64_t i = 0; *names && i < count; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

lode_status_t lode_companion_copy(const char *from, const char *to, const char *name) {
    char *source = NULL, *target = NULL;
    lode_mapping_t mapping = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_path_join(&source, from, name), done);
    LODE_GUARD(status, lode_path_join(&target, to, name), done);
    LODE_GUARD(status, lode_file_map(&mapping, source), done);
    status = lode_file_write_atomic(target, mapping.size > 0 ? (const void *)mapping.data : "",
                                    mapping.size);
done:
    lode_file_unmap(&mapping);
    free(source);
    free(target);
    return status;
}
