/* What the report makes of an experiment with all perplexity protocols and two lengths: nothing of
 * one stands on an axis, in a table or in a comparison with anything of another. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/report.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { TARGETS = 640, WORDS = 320, BYTES = 2560, SETS = 6 };

/* A data set of each protocol, of one at two lengths too; "p<i>." begins the name of set i and
 * stands in nothing else. */
static const struct {
    const char *name, *protocol;
    int64_t length;
} sets[SETS] = {
    {"p0.text", "gptq", 256},    {"p1.text", "gptq", 128},     {"p2.text", "llama.cpp", 256},
    {"p3.text", "lm-eval", 256}, {"p4.text", "nodelens", 256}, {"p5.text", "nodelens", 2048},
};
static const char *const variants[] = {"dense", "lp@0.5", "magnitude@0.5"};

static void put_estimate(lode_store_t *store, const char *path, const char *name, double value) {
    char error[64];
    snprintf(error, sizeof error, "%s_stderr", name);
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, name, value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, error, 0.01 * value));
}

/* Losses that differ by variant and set, with the attributes that the stage evaluate writes. */
static void put_perplexity(lode_store_t *store, const char *name, const char *variant,
                           const char *protocol, int64_t length, double shift) {
    const int64_t targets = TARGETS;
    const bool words = strcmp(protocol, "lm-eval") == 0;
    double nll[TARGETS], sum = 0;
    char path[128];
    snprintf(path, sizeof path, "/perplexity/%s/%s", name, variant);
    for (int64_t t = 0; t < TARGETS; t++) {
        nll[t] = 2 + shift + 0.1 * sin(0.7 * (double)t + shift);
        sum += nll[t];
    }
    lode_test_put_f64(store, path, 1, &targets, nll);
    const double value = exp(sum / (words ? WORDS : TARGETS));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "value", value));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "stderr", 0.01 * value));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "protocol", protocol));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "length", length));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "windows", 4));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "targets", TARGETS));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "bos", 1));
    if (!words)
        return;
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "words", WORDS));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "bytes", BYTES));
    put_estimate(store, path, "word_perplexity", value);
    put_estimate(store, path, "byte_perplexity", exp(sum / BYTES));
    put_estimate(store, path, "bits_per_byte", sum / BYTES / log(2.0));
}

static void put_all(lode_store_t *store) {
    for (int s = 0; s < SETS; s++)
        for (int v = 0; v < 3; v++)
            put_perplexity(store, sets[s].name, variants[v], sets[s].protocol, sets[s].length,
                           0.03 * s + 0.2 * v);
}

static void report(const char *folder, const char *const *points, int64_t count) {
    static const char *const models[] = {"m"};
    const lode_report_t what = lode_test_report(folder, "protocols", points, count, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&what));
}

/* --- files ------------------------------------------------------------------------------- */

/* The set that a data set's name is of. */
static int set_of(const char *name) {
    for (int s = 0; s < SETS; s++)
        if (strcmp(name, sets[s].name) == 0)
            return s;
    return -1;
}

static void rows_keep_their_protocol(const char *folder) {
    char *table = lode_test_result(folder, "summary.csv"), *fields[LODE_TEST_FIELDS];
    const double per_byte = (double)WORDS / BYTES;
    double word = 0, perplexities = 0, bytes = 0, bits = 0;
    int count;
    for (char *line = lode_test_row(table, fields, &count); *line;) {
        line = lode_test_row(line, fields, &count);
        const int s = set_of(fields[7]);
        const double value = strtod(fields[9], NULL);
        assert_in_range(s, 0, SETS - 1);
        assert_string_equal(fields[8], sets[s].protocol);
        assert_int_equal(strtol(fields[11], NULL, 10), TARGETS);
        if (strcmp(fields[6], "perplexity") == 0) {
            perplexities++;
            word = value;
            continue;
        }
        /* the rows of a metric follow those of the one before, in the order of variants */
        assert_string_equal(fields[8], "lm-eval");
        bytes += strcmp(fields[6], "byte_perplexity") == 0;
        bits += strcmp(fields[6], "bits_per_byte") == 0;
        if (strcmp(fields[6], "byte_perplexity") == 0 && strcmp(fields[1], variants[2]) == 0) {
            const double want = exp(per_byte * log(word));
            LODE_ASSERT_CLOSE(lode_compare_f64("byte", &value, 1, &want, 1, 0, 1e-12));
        }
    }
    assert_true(perplexities == 3 * SETS && bytes == 3 && bits == 3);
    free(table);
}

static void comparisons_stay_within_one(const char *folder) {
    char *table = lode_test_result(folder, "comparisons.csv"), *fields[LODE_TEST_FIELDS];
    int count, rows[SETS] = {0};
    for (char *line = lode_test_row(table, fields, &count); *line;) {
        line = lode_test_row(line, fields, &count);
        const int s = set_of(fields[1]);
        assert_in_range(s, 0, SETS - 1);
        assert_string_equal(fields[2], sets[s].protocol);
        rows[s]++;
        /* of losses, and the ratio that the figures of the protocol have */
        const double difference = strtod(fields[5], NULL), ratio = strtod(fields[8], NULL);
        const double unit = strcmp(sets[s].protocol, "lm-eval") == 0 ? (double)TARGETS / WORDS : 1;
        const double want = exp(unit * difference);
        LODE_ASSERT_CLOSE(lode_compare_f64("ratio", &ratio, 1, &want, 1, 0, 1e-12));
        assert_true(fabs(difference) < 0.5);
    }
    for (int s = 0; s < SETS; s++)
        assert_int_equal(rows[s], 3); /* one pair, and each against the unpruned model */
    free(table);
}

/* --- the page ---------------------------------------------------------------------------- */

/* How many of the sets' names occur in text [from, to), and whether that of `set` does. */
static int sets_named(const char *from, const char *to, int set, bool *named) {
    int found = 0;
    *named = false;
    for (int s = 0; s < SETS; s++) {
        const char *at = strstr(from, sets[s].name);
        if (!at || at >= to)
            continue;
        found++;
        *named = *named || s == set;
    }
    return found;
}

/* Between every `begin` and the next `end` of the page, at most one set is named. Returns how many
 * such parts name one. */
static int parts_of_one(const char *html, const char *begin, const char *end) {
    int parts = 0;
    for (const char *at = strstr(html, begin); at; at = strstr(at + 1, begin)) {
        const char *stop = strstr(at, end);
        bool named;
        assert_non_null(stop);
        const int found = sets_named(at, stop, 0, &named);
        assert_in_range(found, 0, 1);
        parts += found;
    }
    return parts;
}

/* The table after every heading of a protocol and length has the sets of these, and no other. */
static int tables_of_one_axis(const char *html) {
    int tables = 0;
    for (int s = 0; s < SETS; s++) {
        char heading[96];
        snprintf(heading, sizeof heading, "Protocol <b>%s</b> at length <b>%lld</b>",
                 sets[s].protocol, (long long)sets[s].length);
        for (const char *at = strstr(html, heading); at; at = strstr(at + 1, heading)) {
            const char *stop = strstr(at, "</table>");
            bool named;
            assert_non_null(stop);
            assert_int_equal(sets_named(at, stop, s, &named), 1);
            assert_true(named);
            tables++;
        }
    }
    return tables;
}

static void every_axis_is_its_own(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *points[] = {""};
    char *model;
    LODE_ASSERT_OK(lode_path_join(&model, folder, "m"));
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    put_all(store);
    lode_test_stage_finish(store, "");
    report(folder, points, 1);
    rows_keep_their_protocol(folder);
    comparisons_stay_within_one(folder);
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    assert_int_equal(tables_of_one_axis(html), SETS);
    assert_int_equal(parts_of_one(html, "<table", "</table>"), SETS);
    assert_int_equal(parts_of_one(html, "<figure", "</figure>"), SETS);
    assert_int_equal(lode_test_count(html, "do not compare"), 1);
    assert_true(lode_test_count(html, "Word perplexity on p3.text") > 0);
    assert_int_equal(lode_test_count(html, "Byte perplexity on"), 0);
    assert_int_equal(lode_test_count(html, "Word perplexity of the unpruned model"), 1);
    assert_int_equal(lode_test_count(html, "<th class=\"n\">word perplexity</th>"), 1);
    free(html);
    free(model);
}

/* A sweep over the protocol gives one name to different quantities. */
static void swept_protocols(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    const char *points[] = {"protocol=gptq", "protocol=nodelens", "length=128"};
    for (int p = 0; p < 3; p++) {
        char path[64], *model;
        snprintf(path, sizeof path, "%s/m", points[p]);
        LODE_ASSERT_OK(lode_path_join(&model, folder, path));
        lode_store_t *store = lode_test_stage_create(model, "evaluate");
        put_perplexity(store, "text", "dense", p == 1 ? "nodelens" : "gptq", p == 2 ? 128 : 256,
                       0.1 * p);
        lode_test_stage_finish(store, "");
        free(model);
    }
    report(folder, points, 3);
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    const char *overview = strstr(html, "<h2>Overview</h2>"), *end = strstr(html, "id=\"case-1\"");
    assert_true(overview && end);
    char *part = strndup(overview, (size_t)(end - overview));
    assert_int_equal(lode_test_count(part, "<table"), 3);
    assert_int_equal(lode_test_count(part, "do not compare"), 1);
    for (char *table = strstr(part, "<table"); table; table = strstr(table + 1, "<table")) {
        char *stop = strstr(table, "</table>"), *one = strndup(table, (size_t)(stop - table));
        assert_int_equal(lode_test_count(one, "<th scope=\"row\">"), 1);
        free(one);
    }
    free(part);
    free(html);
}

/* With one protocol and length there is nothing to keep apart, and nothing is said about it. */
static void one_axis(void **state) {
    (void)state;
    const char *folder = lode_test_temporary(), *points[] = {"a=1", "a=2"};
    for (int p = 0; p < 2; p++) {
        char path[64], *model;
        snprintf(path, sizeof path, "%s/m", points[p]);
        LODE_ASSERT_OK(lode_path_join(&model, folder, path));
        lode_store_t *store = lode_test_stage_create(model, "evaluate");
        put_perplexity(store, "text", "dense", "gptq", 256, 0.1 * p);
        put_perplexity(store, "other", "dense", "gptq", 256, 0.1 * p);
        lode_test_stage_finish(store, "");
        free(model);
    }
    report(folder, points, 2);
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    assert_int_equal(lode_test_count(html, "do not compare"), 0);
    const char *overview = strstr(html, "<h2>Overview</h2>"), *end = strstr(html, "id=\"case-1\"");
    char *part = strndup(overview, (size_t)(end - overview));
    assert_int_equal(lode_test_count(part, "<table"), 1);
    assert_int_equal(lode_test_count(part, "<th scope=\"row\">"), 2);
    free(part);
    free(html);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_axis_is_its_own),
        cmocka_unit_test(swept_protocols),
        cmocka_unit_test(one_axis),
    };
    MPI_Init(&argc, &argv);
    const int failed = cmocka_run_group_tests_name("report_protocols", tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
