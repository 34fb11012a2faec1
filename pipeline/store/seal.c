#include "store/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/memory.h"

enum {
    FOOTER = 64,      /* bytes of the last line */
    BUFFER = 1 << 20, /* bytes read at a time */
    DIGITS = LODE_DIGEST_TEXT - 1,
};

typedef struct segment {
    int64_t first, bytes;
    const char *name; /* "-": HDF5's structures */
    char *digest;     /* [DIGITS], not terminated */
} segment_t;

/* A seal taken apart. */
typedef struct lode_seal {
    char *text;          /* what the segments point into, its lines ended by NUL */
    segment_t *segments; /* [count] */
    int64_t count;
    int64_t bytes; /* sealed, from the beginning of the file */
} seal_t;

static void free_seal(seal_t *seal) {
    free(seal->text);
    free(seal->segments);
    *seal = (seal_t){0};
}

lode_status_t lode_seal_broken(const char *path, const char *what) {
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: %s changed since the file was written, on the disk or in a copy; delete "
                     "the file and run the same command again",
                     path, what);
}

/* --- reading -------------------------------------------------------------------------------- */

static lode_status_t open_file(int *descriptor, int64_t *bytes, const char *path) {
    struct stat info;
    *descriptor = lode_fault(LODE_FAULT_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (*descriptor < 0)
        return lode_fail(LODE_ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (fstat(*descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(*descriptor);
        *descriptor = -1;
        return lode_fail(LODE_ERR_INPUT, "%s: is not a regular file", path);
    }
    *bytes = (int64_t)info.st_size;
    return LODE_OK;
}

static lode_status_t read_at(int descriptor, const char *path, void *data, int64_t bytes,
                             int64_t first) {
    for (int64_t done = 0; done < bytes;) {
        const ssize_t got = lode_fault(LODE_FAULT_READ)
                                ? -1
                                : pread(descriptor, (char *)data + done, (size_t)(bytes - done),
                                        (off_t)(first + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lode_fail(LODE_ERR_IO, "%s: read failed: %s", path, strerror(errno));
        if (got == 0)
            return lode_seal_broken(path, "its length");
        done += got;
    }
    return LODE_OK;
}

static lode_status_t hash_range(char digest[LODE_DIGEST_TEXT], int descriptor, const char *path,
                                int64_t first, int64_t bytes, char *buffer) {
    lode_hash_t *hash;
    lode_status_t status = LODE_OK;
    LODE_TRY(lode_hash_create(&hash));
    for (int64_t done = 0; status == LODE_OK && done < bytes;) {
        const int64_t some = bytes - done < BUFFER ? bytes - done : BUFFER;
        status = read_at(descriptor, path, buffer, some, first + done);
        if (status == LODE_OK)
            lode_hash_add(hash, buffer, (size_t)some);
        done += some;
    }
    if (status == LODE_OK)
        lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return status;
}

/* The last line, for these lines, which are at most 15 decimal digits long. */
static lode_status_t make_footer(char footer[2 * FOOTER], const char *lines, int64_t length) {
    char digest[LODE_DIGEST_TEXT];
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, lines, (size_t)length);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    snprintf(footer, 2 * FOOTER, "seal %s %015" PRId64 " lodestone\n", digest, length);
    return LODE_OK;
}

/* --- lines ---------------------------------------------------------------------------------- */

/* "<digest> <first> <bytes> <name>", ended by NUL; the segment must begin at `expected`. */
static bool parse_line(segment_t *segment, char *line, int64_t expected) {
    char *end;
    if (strnlen(line, DIGITS + 1) <= DIGITS || line[DIGITS] != ' ')
        return false;
    segment->digest = line;
    segment->first = strtoll(line + DIGITS + 1, &end, 10);
    if (*end != ' ' || segment->first != expected)
        return false;
    segment->bytes = strtoll(end + 1, &end, 10);
    if (*end != ' ' || end[1] == '\0' || segment->bytes <= 0 ||
        segment->bytes > INT64_MAX - expected)
        return false;
    segment->name = end + 1;
    return true;
}

/* Takes lines apart, which become the seal's also on failure. `broken` where they are none. */
static lode_status_t parse(seal_t *seal, char *text, int64_t length, bool *broken) {
    int64_t lines = 0;
    seal->text = text;
    *broken = true;
    for (int64_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    if (lines == 0 || text[length - 1] != '\n')
        return LODE_OK;
    LODE_TRY(LODE_NEW(&seal->segments, lines, "seal"));
    for (char *line = text; line < text + length;) {
        char *end = memchr(line, '\n', (size_t)(text + length - line));
        *end = '\0';
        segment_t *segment = &seal->segments[seal->count++];
        if (!parse_line(segment, line, seal->bytes))
            return LODE_OK;
        seal->bytes += segment->bytes;
        line = end + 1;
    }
    *broken = false;
    return LODE_OK;
}

/* The lines' length as the footer tells it, −1 where it is none. */
static int64_t footer_length(const char footer[FOOTER], int64_t file_bytes) {
    char text[FOOTER + 1], digest[LODE_DIGEST_TEXT];
    int64_t length;
    int used = 0;
    memcpy(text, footer, FOOTER);
    text[FOOTER] = '\0';
    if (sscanf(text, "seal %32[0-9a-f] %15" SCNd64 " lodestone%n", digest, &length, &used) != 2 ||
        used != FOOTER - 1 || text[FOOTER - 1] != '\n')
        return -1;
    return length < 0 || length > file_bytes - FOOTER ? -1 : length;
}

/* Reads the lines of an open file; *text is NULL where it has none, else the caller's and intact.
 */
static lode_status_t read_lines(char **text, int64_t *length, int descriptor, const char *path,
                                int64_t file_bytes) {
    char footer[FOOTER], wanted[2 * FOOTER];
    *text = NULL;
    *length = 0;
    if (file_bytes < FOOTER)
        return LODE_OK;
    LODE_TRY(read_at(descriptor, path, footer, FOOTER, file_bytes - FOOTER));
    *length = footer_length(footer, file_bytes);
    if (*length <= 0)
        return LODE_OK;
    LODE_TRY(lode_alloc(text, *length + 1, 1, "seal"));
    lode_status_t status = read_at(descriptor, path, *text, *length, file_bytes - FOOTER - *length);
    if (status == LODE_OK)
        status = make_footer(wanted, *text, *length);
    if (status == LODE_OK && memcmp(wanted, footer, FOOTER) != 0)
        status = lode_seal_broken(path, "its checksums");
    if (status != LODE_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

/* Takes the lines of a file of `file_bytes` bytes apart. */
static lode_status_t read_seal(seal_t *seal, char *text, int64_t length, const char *path,
                               int64_t file_bytes) {
    bool broken;
    *seal = (seal_t){0};
    LODE_TRY(parse(seal, text, length, &broken));
    if (broken || seal->bytes != file_bytes - FOOTER - length)
        return lode_seal_broken(path, "its length");
    return LODE_OK;
}

/* --- checking ------------------------------------------------------------------------------- */

static bool is_structure(const segment_t *segment) {
    return strcmp(segment->name, "-") == 0;
}

static lode_status_t check_segment(const segment_t *segment, int descriptor, const char *path,
                                   char *buffer) {
    char digest[LODE_DIGEST_TEXT];
    LODE_TRY(hash_range(digest, descriptor, path, segment->first, segment->bytes, buffer));
    if (memcmp(digest, segment->digest, DIGITS) == 0)
        return LODE_OK;
    if (is_structure(segment))
        return lode_seal_broken(path, "its structure");
    char what[256];
    snprintf(what, sizeof what, "the data of \"%.200s\"", segment->name);
    return lode_seal_broken(path, what);
}

/* Checks segments that begin in [begin, end): those of the dataset `name`, of all datasets where it
 * is "", of HDF5's structures where it is NULL. */
static lode_status_t check_range(const seal_t *seal, int descriptor, const char *path,
                                 const char *name, int64_t begin, int64_t end) {
    char *buffer;
    LODE_TRY(LODE_NEW_RAW(&buffer, BUFFER, "checksums"));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < seal->count; i++) {
        const segment_t *segment = &seal->segments[i];
        const bool wanted = is_structure(segment)
                                ? name == NULL
                                : name && (!*name || strcmp(name, segment->name) == 0);
        if (wanted && segment->first >= begin && segment->first < end)
            status = check_segment(segment, descriptor, path, buffer);
    }
    free(buffer);
    return status;
}

/* Opens a file and takes its seal apart; one without has no segments. The descriptor is open only
 * where that succeeds; the seal is the caller's in any case. */
static lode_status_t open_sealed(int *descriptor, seal_t *seal, const char *path) {
    int64_t bytes = 0, length = 0;
    char *text;
    *seal = (seal_t){0};
    LODE_TRY(open_file(descriptor, &bytes, path));
    lode_status_t status = read_lines(&text, &length, *descriptor, path, bytes);
    if (status == LODE_OK && text)
        status = read_seal(seal, text, length, path, bytes);
    if (status != LODE_OK)
        close(*descriptor);
    return status;
}

/* What lies between datasets where `name` is NULL, else that dataset's elements. */
static lode_status_t check_named(const char *path, const char *name, bool *sealed) {
    int descriptor;
    seal_t seal;
    *sealed = false;
    lode_status_t status = open_sealed(&descriptor, &seal, path);
    if (status == LODE_OK) {
        *sealed = seal.count > 0;
        status = check_range(&seal, descriptor, path, name, 0, INT64_MAX);
        close(descriptor);
    }
    free_seal(&seal);
    return status;
}

lode_status_t lode_seal_check_structure(const char *path, bool *sealed) {
    return check_named(path, NULL, sealed);
}

lode_status_t lode_seal_check_dataset(const char *path, const char *name) {
    bool sealed;
    return check_named(path, name, &sealed);
}

/* By name, and in the order of the file. */
static int compare_segments(const void *left, const void *right) {
    const segment_t *a = left, *b = right;
    const int names = strcmp(a->name, b->name);
    return names != 0 ? names : a->first < b->first ? -1 : a->first > b->first;
}

lode_status_t lode_seal_open(lode_seal_t **out, const char *path) {
    int descriptor;
    LODE_TRY(LODE_NEW(out, 1, "seal"));
    lode_status_t status = open_sealed(&descriptor, *out, path);
    if (status == LODE_OK)
        close(descriptor);
    else
        lode_seal_close(out);
    /* Files have many datasets, each of which is looked for. */
    if (status == LODE_OK && (*out)->count > 0)
        qsort((*out)->segments, (size_t)(*out)->count, sizeof *(*out)->segments, compare_segments);
    return status;
}

void lode_seal_close(lode_seal_t **seal) {
    if (*seal)
        free_seal(*seal);
    free(*seal);
    *seal = NULL;
}

lode_status_t lode_seal_digests(lode_buffer_t *digests, int64_t *bytes, const lode_seal_t *seal,
                                const char *name) {
    int64_t first = 0, end = seal->count;
    while (first < end) {
        const int64_t middle = first + (end - first) / 2;
        if (strcmp(seal->segments[middle].name, name) < 0)
            first = middle + 1;
        else
            end = middle;
    }
    *bytes = 0;
    for (; first < seal->count && strcmp(seal->segments[first].name, name) == 0; first++) {
        LODE_TRY(lode_buffer_append(digests, seal->segments[first].digest, DIGITS));
        *bytes += seal->segments[first].bytes;
    }
    return LODE_OK;
}

/* The share of rank `rank` in `bytes` bytes begins here. */
static int64_t share_begin(int64_t bytes, int rank, int size) {
    return bytes / size * rank + bytes % size * rank / size;
}

lode_status_t lode_seal_check_data(const lode_comm_t *comm, const char *path) {
    int descriptor;
    seal_t seal;
    lode_status_t status = open_sealed(&descriptor, &seal, path);
    if (status == LODE_OK) {
        status = check_range(&seal, descriptor, path, "",
                             share_begin(seal.bytes, comm->rank, comm->size),
                             share_begin(seal.bytes, comm->rank + 1, comm->size));
        close(descriptor);
    }
    free_seal(&seal);
    return lode_comm_agree(comm, status);
}

/* --- sealing -------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const lode_seal_extent_t *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Lines for a stretch, in segments, with zeros for digests. A name is one line. */
static lode_status_t add_lines(lode_buffer_t *lines, int64_t first, int64_t bytes,
                               const char *name) {
    for (int64_t done = 0; done < bytes; done += LODE_SEAL_SEGMENT) {
        const int64_t some = bytes - done < LODE_SEAL_SEGMENT ? bytes - done : LODE_SEAL_SEGMENT;
        LODE_TRY(lode_buffer_printf(lines, "%0*d %" PRId64 " %" PRId64 " ", DIGITS, 0, first + done,
                                    some));
        const size_t at = lines->length;
        LODE_TRY(lode_buffer_printf(lines, "%s\n", name));
        for (char *c = lines->data + at; c[1]; c++)
            if (*c == '\n')
                *c = '?';
    }
    return LODE_OK;
}

/* All lines, on rank 0. */
static lode_status_t list_segments(lode_buffer_t *lines, const char *path, int64_t bytes,
                                   const lode_seal_extent_t *extents, int64_t count) {
    lode_seal_extent_t *sorted;
    int64_t at = 0;
    LODE_TRY(LODE_NEW(&sorted, count, "seal"));
    lode_status_t status = LODE_OK;
    if (count > 0) {
        memcpy(sorted, extents, (size_t)count * sizeof *sorted);
        qsort(sorted, (size_t)count, sizeof *sorted, by_place);
    }
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        if (sorted[i].first < at || sorted[i].bytes > bytes - sorted[i].first)
            status = lode_fail(LODE_ERR_INTERNAL, "%s: \"%s\" overlaps what else is in the file",
                               path, sorted[i].name);
        if (status == LODE_OK)
            status = add_lines(lines, at, sorted[i].first - at, "-");
        if (status == LODE_OK)
            status = add_lines(lines, sorted[i].first, sorted[i].bytes, sorted[i].name);
        at = sorted[i].first + sorted[i].bytes;
    }
    if (status == LODE_OK)
        status = add_lines(lines, at, bytes - at, "-");
    free(sorted);
    return status;
}

/* This rank's digests into their places of digests [count × DIGITS], which is all zero. */
static lode_status_t hash_share(const lode_comm_t *comm, const seal_t *seal, const char *path,
                                char *digests) {
    const int64_t begin = share_begin(seal->bytes, comm->rank, comm->size);
    const int64_t end = share_begin(seal->bytes, comm->rank + 1, comm->size);
    int descriptor;
    int64_t bytes;
    char *buffer, digest[LODE_DIGEST_TEXT];
    LODE_TRY(open_file(&descriptor, &bytes, path));
    lode_status_t status = LODE_NEW_RAW(&buffer, BUFFER, "checksums");
    for (int64_t i = 0; status == LODE_OK && i < seal->count; i++) {
        const segment_t *segment = &seal->segments[i];
        if (segment->first < begin || segment->first >= end)
            continue;
        status = hash_range(digest, descriptor, path, segment->first, segment->bytes, buffer);
        if (status == LODE_OK)
            memcpy(digests + i * DIGITS, digest, DIGITS);
    }
    free(buffer);
    close(descriptor);
    return status;
}

/* Appends the lines, now with their digests, and the footer. By rank 0. */
static lode_status_t append(const char *path, int64_t bytes, const char *lines, int64_t length) {
    char footer[2 * FOOTER];
    lode_buffer_t text = {0};
    LODE_TRY(make_footer(footer, lines, length));
    lode_status_t status = lode_buffer_append(&text, lines, (size_t)length);
    if (status == LODE_OK)
        status = lode_buffer_append(&text, footer, FOOTER);
    int descriptor = -1;
    if (status == LODE_OK)
        descriptor = lode_fault(LODE_FAULT_OPEN) ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    bool failed = status == LODE_OK && descriptor < 0;
    for (size_t done = 0; descriptor >= 0 && !failed && done < text.length;) {
        const ssize_t put = lode_fault(LODE_FAULT_WRITE)
                                ? -1
                                : pwrite(descriptor, text.data + done, text.length - done,
                                         (off_t)bytes + (off_t)done);
        if (put < 0 && errno == EINTR)
            continue;
        failed = put <= 0;
        done += failed ? 0 : (size_t)put;
    }
    const int error = errno;
    if (descriptor >= 0)
        close(descriptor); /* synced by who publishes the file */
    if (failed)
        status = lode_fail(LODE_ERR_IO, "%s: its checksums cannot be written: %s", path,
                           strerror(error));
    lode_buffer_free(&text);
    return status;
}

/* Hashes the segments that `lines` lists, on all ranks, and lets rank 0 seal the file. `lines` are
 * the seal's afterwards. Collective. */
static lode_status_t hash_and_append(const lode_comm_t *comm, const char *path, char *lines,
                                     int64_t length, seal_t *seal) {
    char *digests = NULL;
    bool broken;
    lode_status_t status = parse(seal, lines, length, &broken);
    LODE_ASSERT(status != LODE_OK || !broken);
    const int64_t bytes = seal->count * DIGITS;
    int narrow = 0;
    if (status == LODE_OK)
        status = lode_narrow(&narrow, bytes, "checksums");
    if (status == LODE_OK)
        status = LODE_NEW(&digests, bytes, "checksums");
    if (status == LODE_OK)
        status = hash_share(comm, seal, path, digests);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK && comm->size > 1) {
        /* Each was set by one rank and is zero on the others. */
        MPI_Allreduce(MPI_IN_PLACE, digests, narrow, MPI_CHAR, MPI_MAX, comm->comm);
        status = lode_comm_agree(comm, lode_comm_received(comm, "checksums"));
    }
    if (status == LODE_OK && comm->rank == 0) {
        for (int64_t i = 0; i < seal->count; i++)
            memcpy(seal->segments[i].digest, digests + i * DIGITS, DIGITS);
        for (int64_t i = 0; i < length; i++)
            lines[i] = lines[i] ? lines[i] : '\n';
        status = append(path, seal->bytes, lines, length);
    }
    free(digests);
    return lode_comm_agree(comm, status);
}

lode_status_t lode_seal_write(const lode_comm_t *comm, const char *path, int64_t bytes,
                              const lode_seal_extent_t *extents, int64_t count) {
    lode_buffer_t lines = {0};
    seal_t seal = {0};
    lode_status_t status = LODE_OK;
    if (comm->rank == 0)
        status = list_segments(&lines, path, bytes, extents, count);
    status = lode_comm_share(comm, &lines.data, &lines.length, 0, status);
    if (status != LODE_OK) {
        free(lines.data);
        return status;
    }
    status = hash_and_append(comm, path, lines.data, (int64_t)lines.length, &seal);
    free_seal(&seal);
    return status;
}
