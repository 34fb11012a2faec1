#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

static bool is_name_byte(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Appends the value of the variable at *cursor (just past its '$') and moves the cursor on. */
static lode_status_t expand_variable(lode_buffer_t *out, const char **cursor, const char *path) {
    const char *start = *cursor;
    bool braced = *start == '{';
    start += braced;
    const char *end = start;
    while (is_name_byte(*end))
        end++;
    if (end == start || (braced && *end != '}'))
        return lode_fail(LODE_ERR_CONFIG, "path \"%s\": '$' is not followed by a variable name",
                         path);
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(end - start), start);
    const char *value = getenv(name);
    if (!value)
        return lode_fail(LODE_ERR_CONFIG,
                         "path \"%s\": the environment variable %s is not set; export it or write "
                         "the path out",
                         path, name);
    *cursor = end + braced;
    return lode_buffer_append(out, value, strlen(value));
}

lode_status_t lode_path_expand(char **out, const char *path) {
    *out = NULL;
    lode_buffer_t text = {0};
    lode_status_t status = LODE_OK;
    const char *cursor = path;
    if (cursor[0] == '~' && (cursor[1] == '/' || cursor[1] == '\0')) {
        const char *home = getenv("HOME");
        if (!home)
            return lode_fail(LODE_ERR_CONFIG, "path \"%s\": HOME is not set", path);
        LODE_GUARD(status, lode_buffer_append(&text, home, strlen(home)), done);
        cursor++;
    }
    while (*cursor) {
        if (*cursor == '$') {
            cursor++;
            LODE_GUARD(status, expand_variable(&text, &cursor, path), done);
        } else {
            LODE_GUARD(status, lode_buffer_append(&text, cursor++, 1), done);
        }
    }
    status = lode_strdup(out, text.data ? text.data : "");
done:
    lode_buffer_free(&text);
    return status;
}

lode_status_t lode_path_join(char **out, const char *directory, const char *name) {
    size_t bytes = strlen(directory) + strlen(name) + 2;
    LODE_TRY(lode_alloc_raw(out, (int64_t)bytes, 1, "path"));
    snprintf(*out, bytes, "%s/%s", directory, name);
    return LODE_OK;
}

/* Opens a regular file for reading and tells its size. */
static lode_status_t open_regular(int *descriptor, size_t *size, const char *path) {
    *descriptor = lode_fault(LODE_FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (*descriptor < 0)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    struct stat info;
    lode_status_t status = LODE_OK;
    if (fstat(*descriptor, &info) != 0)
        status = lode_fail(LODE_ERR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = lode_fail(LODE_ERR_INPUT, "%s: is not a regular file", path);
    if (status != LODE_OK) {
        close(*descriptor);
        return status;
    }
    *size = (size_t)info.st_size;
    return LODE_OK;
}

lode_status_t lode_file_read(char **data, size_t *size, const char *path) {
    *data = NULL;
    *size = 0;
    int descriptor;
    size_t expected = 0, done = 0;
    LODE_TRY(open_regular(&descriptor, &expected, path));
    lode_status_t status = lode_alloc_raw(data, (int64_t)expected + 1, 1, path);
    while (status == LODE_OK && done < expected) {
        ssize_t got =
            lode_fault(LODE_FAULT_READ) ? -1 : read(descriptor, *data + done, expected - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = lode_fail(LODE_ERR_IO, "%s: read failed: %s", path, strerror(errno));
        else if (got == 0)
            status = lode_fail(LODE_ERR_IO, "%s: shrank while it was being read", path);
        else
            done += (size_t)got;
    }
    close(descriptor);
    if (status != LODE_OK) {
        free(*data);
        *data = NULL;
        return status;
    }
    (*data)[expected] = '\0';
    *size = expected;
    return LODE_OK;
}

lode_status_t lode_file_write_atomic(const char *path, const void *data, size_t size) {
    char *partial;
    size_t bytes = strlen(path) + sizeof ".partial";
    LODE_TRY(lode_alloc_raw(&partial, (int64_t)bytes, 1, "path"));
    snprintf(partial, bytes, "%s.partial", path);
    lode_status_t status = LODE_OK;
    int descriptor = lode_fault(LODE_FAULT_OPEN)
                         ? -1
                         : open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        status = lode_fail(LODE_ERR_IO, "%s: cannot be written: %s", partial, strerror(errno));
        free(partial);
        return status;
    }
    size_t done = 0;
    while (done < size) {
        ssize_t put = lode_fault(LODE_FAULT_WRITE)
                          ? -1
                          : write(descriptor, (const char *)data + done, size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            break;
        done += (size_t)put;
    }
    bool failed = done < size || lode_fault(LODE_FAULT_WRITE) || fsync(descriptor) != 0;
    int error = errno;
    if (close(descriptor) != 0 && !failed) {
        failed = true;
        error = errno;
    }
    if (!failed && (lode_fault(LODE_FAULT_WRITE) || rename(partial, path) != 0)) {
        failed = true;
        error = errno;
    }
    if (failed) {
        unlink(partial);
        status = lode_fail(LODE_ERR_IO, "%s: write failed: %s", path, strerror(error));
    }
    free(partial);
    return status;
}

lode_status_t lode_file_map(lode_mapping_t *mapping, const char *path) {
    *mapping = (lode_mapping_t){0};
    int descriptor;
    size_t size = 0;
    LODE_TRY(open_regular(&descriptor, &size, path));
    void *data = NULL;
    if (size > 0)
        data = lode_fault(LODE_FAULT_READ)
                   ? MAP_FAILED
                   : mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int error = errno;
    close(descriptor);
    if (data == MAP_FAILED)
        return lode_fail(LODE_ERR_IO, "%s: cannot be mapped: %s", path, strerror(error));
    *mapping = (lode_mapping_t){.data = data, .size = size};
    return LODE_OK;
}

void lode_file_unmap(lode_mapping_t *mapping) {
    if (mapping->data)
        munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (lode_mapping_t){0};
}

bool lode_file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

lode_status_t lode_directory_create(const char *path) {
    char *copy;
    LODE_TRY(lode_strdup(&copy, path));
    lode_status_t status = LODE_OK;
    for (char *cursor = copy + 1; status == LODE_OK; cursor++) {
        bool last = *cursor == '\0';
        if (*cursor != '/' && !last)
            continue;
        *cursor = '\0';
        struct stat info;
        if ((lode_fault(LODE_FAULT_WRITE) || mkdir(copy, 0777) != 0) &&
            (errno != EEXIST || stat(copy, &info) != 0 || !S_ISDIR(info.st_mode)))
            status = lode_fail(LODE_ERR_IO,
                               "%s: the directory cannot be created: %s; choose another "
                               "results folder or free the name",
                               copy, errno == EEXIST ? "a file is in the way" : strerror(errno));
        if (last)
            break;
        *cursor = '/';
    }
    free(copy);
    return status;
}
