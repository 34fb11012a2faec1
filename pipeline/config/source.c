#include "config/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* One file being scanned. */
typedef struct scan {
    lode_source_t *source;
    const char *cursor, *end;
    int64_t file, line;
    int64_t includes; /* above this file; −1 where @include is not allowed */
    char brackets[LODE_SOURCE_MAX_DEPTH];
    int64_t depth;
    char previous; /* last token: a punctuation mark, '"' for a string, 'x' for a word */
} scan_t;

static lode_status_t scan_text(scan_t *scan);

static lode_status_t scan_fail(const scan_t *scan, int64_t line, const char *what) {
    return lode_fail(LODE_ERR_CONFIG, "%s:%lld: %s", scan->source->files[scan->file],
                     (long long)line, what);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static lode_status_t emit(scan_t *scan, const char *bytes, size_t length) {
    if (scan->source->text.length + length > LODE_SOURCE_MAX_BYTES)
        return scan_fail(scan, scan->line,
                         "the experiment is over 256 KiB with its includes; is this the right "
                         "file?");
    return lode_buffer_append(&scan->source->text, bytes, length);
}

/* Says that the text written from here on, to the end of its line, is this file's line. */
static void mark_line(scan_t *scan) {
    lode_source_t *source = scan->source;
    source->lines[source->line_count - 1] = (lode_source_line_t){scan->file, scan->line};
}

static lode_status_t add_line(scan_t *scan) {
    lode_source_t *source = scan->source;
    if (source->line_count == source->line_capacity) {
        int64_t capacity = source->line_capacity ? 2 * source->line_capacity : 256;
        lode_source_line_t *lines;
        LODE_TRY(LODE_NEW(&lines, capacity, "line map"));
        if (source->line_count > 0)
            memcpy(lines, source->lines, (size_t)source->line_count * sizeof *lines);
        free(source->lines);
        source->lines = lines;
        source->line_capacity = capacity;
    }
    source->line_count++;
    mark_line(scan);
    return LODE_OK;
}

static lode_status_t emit_newline(scan_t *scan) {
    LODE_TRY(emit(scan, "\n", 1));
    scan->line++;
    return add_line(scan);
}

/* A string may follow '=', and in a list also a bracket, a comma or another string. libconfig
 * never frees one that stands elsewhere. */
static bool string_may_stand_here(const scan_t *scan) {
    if (scan->previous == '=' || scan->previous == ':' || scan->previous == '"')
        return true;
    char bracket = scan->depth > 0 ? scan->brackets[scan->depth - 1] : '{';
    return bracket != '{' && strchr(",([", scan->previous) && scan->previous;
}

static lode_status_t scan_string(scan_t *scan) {
    int64_t first_line = scan->line;
    if (!string_may_stand_here(scan))
        return scan_fail(scan, first_line,
                         "a string cannot stand here; every setting reads key = value; with ';' "
                         "between settings");
    LODE_TRY(emit(scan, scan->cursor++, 1));
    while (scan->cursor < scan->end && *scan->cursor != '"') {
        if (*scan->cursor == '\0')
            return scan_fail(scan, scan->line, "the string holds a NUL byte");
        if (*scan->cursor == '\n') {
            LODE_TRY(emit_newline(scan));
            scan->cursor++;
            continue;
        }
        bool escape = *scan->cursor == '\\' && scan->cursor + 1 < scan->end &&
                      (scan->cursor[1] == '"' || scan->cursor[1] == '\\');
        LODE_TRY(emit(scan, scan->cursor, escape ? 2 : 1));
        scan->cursor += escape ? 2 : 1;
    }
    if (scan->cursor == scan->end)
        return scan_fail(scan, first_line, "the string that starts here is never closed");
    LODE_TRY(emit(scan, scan->cursor++, 1));
    scan->previous = '"';
    return LODE_OK;
}

/* Leaves the comment out, but not its line ends. */
static lode_status_t skip_block_comment(scan_t *scan) {
    int64_t first_line = scan->line;
    LODE_TRY(emit(scan, " ", 1));
    for (scan->cursor += 2; scan->end - scan->cursor >= 2; scan->cursor++) {
        if (scan->cursor[0] == '*' && scan->cursor[1] == '/') {
            scan->cursor += 2;
            return LODE_OK;
        }
        if (*scan->cursor == '\n')
            LODE_TRY(emit_newline(scan));
    }
    return scan_fail(scan, first_line, "the comment that starts here is never closed");
}

static void skip_line_comment(scan_t *scan) {
    while (scan->cursor < scan->end && *scan->cursor != '\n')
        scan->cursor++;
}

static lode_status_t scan_name(scan_t *scan) {
    const char *start = scan->cursor;
    while (scan->cursor < scan->end &&
           (is_letter(*scan->cursor) || is_digit(*scan->cursor) || strchr("-_*", *scan->cursor)) &&
           *scan->cursor)
        scan->cursor++;
    scan->previous = 'x';
    return emit(scan, start, (size_t)(scan->cursor - start));
}

static bool starts_number(const scan_t *scan) {
    const char *c = scan->cursor;
    if (c < scan->end && (*c == '-' || *c == '+'))
        c++;
    if (c < scan->end && *c == '.')
        c++;
    return c < scan->end && is_digit(*c);
}

/* Whether `digits` is an integer as libconfig writes it, up to an L that it may end in. */
static bool is_integer(const char *digits, bool *hexadecimal, bool *wide) {
    *hexadecimal = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    if (!*hexadecimal && (*digits == '-' || *digits == '+'))
        digits++;
    digits += *hexadecimal ? 2 : 0;
    size_t count = strspn(digits, *hexadecimal ? "0123456789abcdefABCDEF" : "0123456789");
    *wide = digits[count] == 'L';
    size_t suffix = strspn(digits + count, "L");
    return count > 0 && suffix <= 2 && digits[count + suffix] == '\0';
}

static lode_status_t scan_number(scan_t *scan) {
    char token[64];
    size_t length = 0;
    const char *c = scan->cursor;
    for (; c < scan->end && length < sizeof token - 2; c++) {
        bool exponent_sign =
            (*c == '-' || *c == '+') && (length == 0 || c[-1] == 'e' || c[-1] == 'E');
        if (!is_letter(*c) && !is_digit(*c) && *c != '.' && !exponent_sign)
            break;
        token[length++] = *c;
    }
    if (length == sizeof token - 2)
        return scan_fail(scan, scan->line, "a number of more than 61 characters");
    token[length] = '\0';
    scan->cursor = c;
    scan->previous = 'x';
    bool hexadecimal, wide;
    if (is_integer(token, &hexadecimal, &wide)) {
        errno = 0;
        long long value = strtoll(token, NULL, hexadecimal ? 16 : 10);
        if (errno == ERANGE)
            return scan_fail(scan, scan->line, "the integer does not fit 64 bits");
        if (!wide && (value > INT32_MAX || value < INT32_MIN))
            token[length++] = 'L';
    }
    return emit(scan, token, length);
}

static lode_status_t scan_punctuation(scan_t *scan) {
    char c = *scan->cursor;
    if ((unsigned char)c < ' ' && !strchr("\t\r\f", c))
        return scan_fail(scan, scan->line, "control byte; an experiment file is plain text");
    if (c == '\0')
        return scan_fail(scan, scan->line, "NUL byte; an experiment file is plain text");
    if (strchr("({[", c)) {
        if (scan->depth == LODE_SOURCE_MAX_DEPTH)
            return scan_fail(scan, scan->line, "brackets are nested more than 32 deep");
        scan->brackets[scan->depth++] = c;
    }
    if (strchr(")}]", c) && scan->depth > 0)
        scan->depth--;
    if (!strchr(" \t\r\f", c))
        scan->previous = c;
    return emit(scan, scan->cursor++, 1);
}

/* Whether an @include starts at the cursor, which is at the start of a line. */
static bool at_include(const scan_t *scan) {
    const char *c = scan->cursor;
    while (c < scan->end && (*c == ' ' || *c == '\t'))
        c++;
    return scan->end - c > 8 && memcmp(c, "@include", 8) == 0;
}

/* The quoted path of the @include at the cursor, which moves past it. */
static lode_status_t scan_include_path(scan_t *scan, char **path) {
    const char *open = scan->cursor;
    while (*open != '@')
        open++;
    open += strlen("@include");
    while (open < scan->end && (*open == ' ' || *open == '\t'))
        open++;
    const char *close = open + 1;
    while (close < scan->end && *close != '"' && *close != '\n' && *close != '\0')
        close++;
    if (open >= scan->end || *open != '"' || close >= scan->end || *close != '"')
        return scan_fail(scan, scan->line, "an include reads @include \"file\"");
    scan->cursor = close + 1;
    char *written;
    LODE_TRY(LODE_NEW(&written, close - open, "path"));
    memcpy(written, open + 1, (size_t)(close - open - 1));
    lode_status_t status = lode_path_expand(path, written);
    free(written);
    return lode_fail_context(status, "%s:%lld: @include", scan->source->files[scan->file],
                             (long long)scan->line);
}

/* Path of `included` as seen from the file that names it, or else from the working directory, as
 * all other paths of an experiment are. */
static lode_status_t resolve_include(char **path, const char *including, const char *included) {
    const char *slash = strrchr(including, '/');
    if (included[0] == '/' || !slash)
        return lode_strdup(path, included);
    char *folder;
    LODE_TRY(lode_strdup(&folder, including));
    folder[slash - including] = '\0';
    lode_status_t status = lode_path_join(path, folder, included);
    free(folder);
    if (status != LODE_OK || lode_file_exists(*path) || !lode_file_exists(included))
        return status;
    free(*path);
    return lode_strdup(path, included);
}

static lode_status_t scan_named_file(scan_t *scan, const char *path) {
    lode_source_t *source = scan->source;
    scan->file = source->file_count;
    LODE_TRY(lode_strdup(&source->files[source->file_count], path));
    source->file_count++;
    struct stat info;
    if (stat(path, &info) == 0 && info.st_size > LODE_SOURCE_MAX_FILE)
        return lode_fail(LODE_ERR_CONFIG, "%s: is over 16 MiB; is this an experiment file?", path);
    char *data;
    size_t size;
    LODE_TRY(lode_file_read(&data, &size, path));
    scan->cursor = data;
    scan->end = data + size;
    scan->line = 1;
    lode_status_t status = source->line_count == 0 ? add_line(scan) : LODE_OK;
    if (status == LODE_OK)
        status = scan_text(scan);
    free(data);
    return status;
}

static lode_status_t scan_include(scan_t *scan) {
    if (scan->includes < 0)
        return scan_fail(scan, scan->line, "@include works in files only");
    if (scan->includes == LODE_SOURCE_MAX_INCLUDES)
        return scan_fail(scan, scan->line,
                         "@include is nested more than 10 deep; does a file include itself?");
    if (scan->source->file_count == LODE_SOURCE_MAX_FILES)
        return scan_fail(scan, scan->line, "more than 63 @include");
    char *written = NULL, *path = NULL;
    lode_status_t status;
    LODE_GUARD(status, scan_include_path(scan, &written), done);
    LODE_GUARD(status, resolve_include(&path, scan->source->files[scan->file], written), done);
    scan_t inner = *scan;
    inner.includes++;
    LODE_GUARD(status, scan_named_file(&inner, path), done);
    memcpy(scan->brackets, inner.brackets, sizeof scan->brackets);
    scan->depth = inner.depth;
    scan->previous = inner.previous;
    LODE_GUARD(status, emit_newline(&inner), done);
    mark_line(scan);
done:
    if (status != LODE_OK && status != LODE_ERR_CONFIG)
        status = lode_fail_context(status, "%s:%lld: @include", scan->source->files[scan->file],
                                   (long long)scan->line);
    free(written);
    free(path);
    return status;
}

static lode_status_t scan_text(scan_t *scan) {
    const char *start = scan->cursor;
    mark_line(scan);
    while (scan->cursor < scan->end) {
        const char *c = scan->cursor;
        char next = c + 1 < scan->end ? c[1] : '\0';
        if ((c == start || c[-1] == '\n') && at_include(scan)) {
            LODE_TRY(scan_include(scan));
        } else if (*c == '\n') {
            LODE_TRY(emit_newline(scan));
            scan->cursor++;
        } else if (*c == '"') {
            LODE_TRY(scan_string(scan));
        } else if (*c == '#' || (*c == '/' && next == '/')) {
            skip_line_comment(scan);
        } else if (*c == '/' && next == '*') {
            LODE_TRY(skip_block_comment(scan));
        } else if (is_letter(*c) || *c == '*') {
            LODE_TRY(scan_name(scan));
        } else if (starts_number(scan)) {
            LODE_TRY(scan_number(scan));
        } else {
            LODE_TRY(scan_punctuation(scan));
        }
    }
    return LODE_OK;
}

lode_status_t lode_source_read(lode_source_t *source, const char *path) {
    scan_t scan = {.source = source};
    return scan_named_file(&scan, path);
}

lode_status_t lode_source_take(lode_source_t *source, const char *text, size_t size,
                               const char *origin) {
    scan_t scan = {.source = source, .cursor = text, .end = text + size, .line = 1};
    scan.includes = -1;
    LODE_TRY(lode_strdup(&source->files[0], origin));
    source->file_count = 1;
    LODE_TRY(add_line(&scan));
    return scan_text(&scan);
}

const char *lode_source_place(const lode_source_t *source, int64_t line, int64_t *file_line) {
    if (line > source->line_count)
        line = source->line_count;
    if (line < 1)
        line = 1;
    *file_line = source->lines[line - 1].line;
    return source->files[source->lines[line - 1].file];
}

void lode_source_free(lode_source_t *source) {
    for (int64_t i = 0; i < source->file_count; i++)
        free(source->files[i]);
    free(source->lines);
    lode_buffer_free(&source->text);
    *source = (lode_source_t){0};
}
