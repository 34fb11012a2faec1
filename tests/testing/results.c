#include "testing/results.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "testing/cmocka_all.h"
#include "testing/compare.h"

/* --- stage files ------------------------------------------------------------------------ */

lode_store_t *lode_test_stage_create(const char *folder, const char *stage) {
    lode_buffer_t path = {0};
    lode_store_t *store;
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    LODE_ASSERT_OK(lode_directory_create(folder));
    LODE_ASSERT_OK(lode_buffer_printf(&path, "%s/%s.h5", folder, stage));
    LODE_ASSERT_OK(lode_store_create(&store, &alone, path.data));
    lode_buffer_free(&path);
    return store;
}

void lode_test_stage_finish(lode_store_t *store, const char *experiment) {
    lode_provenance_t provenance = {
        .experiment = experiment,
        .experiment_sha256 = "6a3f0f5a1d3bd9a3b1ff9a3cf37e2bb3a5d0d3a4f1f0a6c2b8a4a5c0e9d1f7b2",
        .stage = "stage",
        .fingerprint = "00112233445566778899aabbccddeeff",
        .inputs = "0123456789abcdef  models/books3m/model.safetensors\n"
                  "fedcba9876543210  corpora/books-eval-small.txt\n",
        .version = "0.1.0",
        .commit = "ed73c441cff7",
        .libraries = "HDF5 1.10.8\nOpen MPI 4.1.4\n",
        .ranks = 4,
        .threads = 1,
        .host = "node-17",
        .start = "2026-01-05T10:00:00Z",
        .end = "2026-01-05T10:00:42Z"};
    LODE_ASSERT_OK(lode_store_provenance(store, &provenance));
    LODE_ASSERT_OK(lode_store_commit(&store));
}

void lode_test_put_f64(lode_store_t *store, const char *name, int axes, const int64_t *shape,
                       const double *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_F64, axes, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, name, (int64_t[8]){0}, shape, values));
}

void lode_test_put_i32(lode_store_t *store, const char *name, const int64_t *shape,
                       const int32_t *values) {
    LODE_ASSERT_OK(lode_store_dataset(store, name, LODE_TYPE_I32, 2, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, name, (int64_t[2]){0}, shape, values));
}

/* --- what the report wrote -------------------------------------------------------------- */

lode_report_t lode_test_report(const char *folder, const char *name, const char *const *points,
                               int64_t point_count, const char *const *models, int64_t model_count,
                               int64_t budget) {
    static lode_report_entry_t entries[LODE_TEST_CASES];
    assert_true(point_count * model_count <= LODE_TEST_CASES);
    for (int64_t i = 0; i < point_count * model_count; i++)
        entries[i] = (lode_report_entry_t){.point = points[i / model_count],
                                           .model = models[i % model_count],
                                           .series = "",
                                           .step = -1,
                                           .budget = budget};
    return (lode_report_t){
        .folder = folder, .name = name, .entries = entries, .count = point_count * model_count};
}

char *lode_test_result(const char *folder, const char *name) {
    char *path, *text;
    size_t size;
    LODE_ASSERT_OK(lode_path_join(&path, folder, name));
    LODE_ASSERT_OK(lode_file_read(&text, &size, path));
    assert_int_equal(strlen(text), size);
    free(path);
    return text;
}

int64_t lode_test_lines(const char *text) {
    int64_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* Fields of one line, unquoted in place; returns the start of the next line. */
char *lode_test_row(char *line, char *fields[LODE_TEST_FIELDS], int *count) {
    *count = 0;
    for (;;) {
        bool quoted = *line == '"';
        char *into = line += quoted;
        assert_true(*count < LODE_TEST_FIELDS);
        fields[(*count)++] = into;
        for (;; line++) {
            if (quoted && line[0] == '"' && line[1] == '"')
                line++;
            else if (quoted && line[0] == '"')
                break;
            else if (!quoted && (*line == ',' || *line == '\n'))
                break;
            assert_true(*line != '\0');
            *into++ = *line;
        }
        line += quoted;
        char end = *line++;
        *into = '\0';
        if (end == '\n')
            return line;
        assert_int_equal(end, ',');
    }
}

static bool is_void_tag(const char *name) {
    return strcmp(name, "meta") == 0 || strcmp(name, "br") == 0;
}

/* Every element is closed by its own tag, in order. */
void lode_test_balanced(const char *html) {
    char open[64][32];
    int depth = 0;
    const char *cursor = html;
    while ((cursor = strchr(cursor, '<')) != NULL) {
        if (strncmp(cursor, "<!--", 4) == 0) {
            cursor = strstr(cursor, "-->");
            assert_non_null(cursor);
            continue;
        }
        if (cursor[1] == '!') {
            cursor++;
            continue;
        }
        bool closing = cursor[1] == '/';
        const char *name = cursor + 1 + closing, *end = strchr(cursor, '>');
        char tag[32];
        assert_non_null(end);
        snprintf(tag, sizeof tag, "%.*s", (int)strcspn(name, " \t\n>/"), name);
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], tag);
        } else if (end[-1] != '/' && !is_void_tag(tag)) {
            assert_true(depth < 64);
            memcpy(open[depth++], tag, sizeof tag);
        }
        cursor = end;
    }
    assert_int_equal(depth, 0);
}

/* Every occurrence of `mark` goes on with '#': a reference inside the page. */
static void check_inside(const char *html, const char *mark) {
    for (const char *at = html; (at = strstr(at, mark)) != NULL; at += strlen(mark))
        if (at[strlen(mark)] != '#')
            fail_msg("the page refers to the outside: %.60s", at);
}

void lode_test_page(const char *html) {
    lode_test_balanced(html);
    check_inside(html, "href=\"");
    check_inside(html, "href='");
    check_inside(html, "url(");
    assert_null(strstr(html, "src="));
    assert_null(strstr(html, "@import"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<link"));
    assert_null(strstr(html, "<iframe"));
    assert_null(strstr(html, ">nan"));
}

int lode_test_count(const char *text, const char *part) {
    int count = 0;
    for (; (text = strstr(text, part)) != NULL; text += strlen(part))
        count++;
    return count;
}
