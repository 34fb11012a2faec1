/* What the report makes of tasks: rows of the summary, curves of their own with the level of
 * chance, comparisons item by item, and last words only once. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/report.h"
#include "score/answer.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { ITEMS = 40 };

static void put_flags(lode_store_t *store, const char *path, const int64_t *shape,
                      const uint8_t *flags) {
    const int64_t offset[2] = {0};
    LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_U8, 2, shape, false));
    LODE_ASSERT_OK(lode_store_write(store, path, offset, shape, flags));
}

static void put_number(lode_store_t *store, const char *path, const char *name, double value) {
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, name, value));
}

/* A variant that has the items from `first` on right, of a task with one request or with four. */
static void put_answers(lode_store_t *store, const char *task, const char *variant, int width,
                        int first) {
    const int64_t shape[2] = {ITEMS, width};
    double log_likelihood[ITEMS * 4];
    uint8_t greedy[ITEMS * 4];
    char path[128];
    const double acc = (double)(ITEMS - first) / ITEMS;
    for (int i = 0; i < ITEMS; i++)
        for (int r = 0; r < width; r++) {
            log_likelihood[i * width + r] = r == (i >= first ? 0 : 1) ? -1 : -2;
            greedy[i * width + r] = i >= first;
        }
    snprintf(path, sizeof path, "/task_greedy/%s/%s", task, variant);
    put_flags(store, path, shape, greedy);
    snprintf(path, sizeof path, "/tasks/%s/%s", task, variant);
    lode_test_put_f64(store, path, 2, shape, log_likelihood);
    put_number(store, path, "acc", acc);
    put_number(store, path, "acc_stderr", 0.01);
    put_number(store, path, "acc_norm", acc);
    put_number(store, path, "acc_norm_stderr", 0.02);
    put_number(store, path, "chance", width == 1 ? NAN : 1.0 / width);
    if (width == 1) {
        put_number(store, path, "perplexity", 30 + first);
        put_number(store, path, "perplexity_stderr", 1);
    }
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "items", ITEMS));
}

static void put_task(lode_store_t *store, const char *task, int width) {
    const int64_t shape[2] = {ITEMS, width}, items = ITEMS, offset = 0;
    int32_t gold[ITEMS] = {0}, characters[ITEMS * 4];
    char path[128];
    for (int i = 0; i < ITEMS * 4; i++)
        characters[i] = 3;
    snprintf(path, sizeof path, "/task_items/%s/characters", task);
    lode_test_put_i32(store, path, shape, characters);
    snprintf(path, sizeof path, "/task_items/%s/gold", task);
    LODE_ASSERT_OK(lode_store_dataset(store, path, LODE_TYPE_I32, 1, &items, false));
    LODE_ASSERT_OK(lode_store_write(store, path, &offset, &items, gold));
    put_answers(store, task, "dense", width, 8);
    put_answers(store, task, "lp@0.5", width, 10);
    put_answers(store, task, "magnitude@0.5", width, 30);
}

static char *build(const char *folder) {
    const char *points[] = {""}, *models[] = {"m"};
    lode_report_t report = lode_test_report(folder, "tasks", points, 1, models, 1, 0);
    char *model;
    LODE_ASSERT_OK(lode_path_join(&model, folder, "m"));
    lode_store_t *store = lode_test_stage_create(model, "evaluate");
    put_task(store, "questions", 4);
    put_task(store, "words", 1);
    lode_test_stage_finish(store, "");
    free(model);
    LODE_ASSERT_OK(lode_report_build(&report));
    return lode_test_result(folder, "report.html");
}

/* The row of a table of CSV with these texts in columns i and j; fails where there is none. */
static void find_row(char *table, int i, const char *a, int j, const char *b, int k, const char *c,
                     char *fields[LODE_TEST_FIELDS]) {
    int count;
    for (char *line = table; *line;) {
        line = lode_test_row(line, fields, &count);
        assert_true(count > i && count > j && count > k);
        if (strcmp(fields[i], a) == 0 && strcmp(fields[j], b) == 0 && strcmp(fields[k], c) == 0)
            return;
    }
    fail_msg("no row with %s, %s and %s", a, b, c);
}

static void test_summary(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    free(build(folder));
    char *fields[LODE_TEST_FIELDS], *table = lode_test_result(folder, "summary.csv");
    /* acc and acc_norm of both, and the perplexity of the last words: three variants each. */
    assert_int_equal(lode_test_lines(table), 1 + 5 * 3);
    char *copy = strdup(table);
    find_row(copy, 7, "questions", 6, "acc", 1, "lp@0.5", fields);
    assert_true(strtod(fields[9], NULL) == 0.75 && strtod(fields[10], NULL) == 0.01);
    assert_string_equal(fields[11], "40");
    free(copy);
    find_row(table, 7, "words", 6, "perplexity", 1, "magnitude@0.5", fields);
    assert_true(strtod(fields[9], NULL) == 60);
    assert_string_equal(fields[8], "");
    free(table);
}

static void test_comparisons(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    free(build(folder));
    char *fields[LODE_TEST_FIELDS], *table = lode_test_result(folder, "comparisons.csv");
    /* One pair and two with dense: of both accuracies of the questions, of one of the words. */
    assert_int_equal(lode_test_lines(table), 1 + 3 * 3);
    char *copy = strdup(table);
    find_row(copy, 1, "questions", 17, "acc_norm", 4, "magnitude@0.5", fields);
    assert_string_equal(fields[3], "lp@0.5");
    assert_string_equal(fields[9], "a better");
    assert_true(isnan(strtod(fields[5], NULL)) && isnan(strtod(fields[8], NULL)));
    assert_true(strtod(fields[18], NULL) == 0.5);
    /* 20 items that lp alone has right. */
    assert_true(fabs(strtod(fields[13], NULL) - ldexp(1, -19)) < 1e-15);
    const double error = sqrt((20 - 40 * 0.25) / 39 / 40);
    const double reach = lode_student_quantile(0.95, ITEMS - 1) * error;
    assert_true(fabs(strtod(fields[6], NULL) - (0.5 - reach)) < 1e-12);
    assert_true(fabs(strtod(fields[7], NULL) - (0.5 + reach)) < 1e-12);
    free(copy);
    /* Two items more make no difference: the first row after that of lp against magnitude. */
    char *row = strstr(table, "questions,,lp@0.5,dense");
    assert_non_null(row);
    find_row(row - strlen("m,"), 1, "questions", 17, "acc", 4, "dense", fields);
    assert_string_equal(fields[9], "undecided");
    assert_true(strtod(fields[13], NULL) == 0.5);
    free(table);
}

static void test_page(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    char *html = build(folder);
    lode_test_page(html);
    assert_non_null(strstr(html, "Accuracy on questions"));
    assert_non_null(strstr(html, "Normalised accuracy on questions"));
    assert_non_null(strstr(html, "Accuracy on words"));
    const char *continuations = strstr(html, "Perplexity of continuations on words");
    assert_non_null(continuations);
    assert_true(continuations > strstr(html, "Accuracy on questions")); /* with its task */
    assert_null(strstr(html, "Normalised accuracy on words"));
    if (!strstr(html, "No figure: ")) {
        assert_non_null(strstr(html, ">chance<"));
        assert_int_equal(lode_test_count(html, ">chance</text>"), 2);
    }
    assert_non_null(strstr(html, "differences of normalised accuracy over the same 40 items"));
    assert_non_null(strstr(html, "lp@0.5 is highest, and better beyond chance than 1 of 1 others"));
    /* Points: to the highest, then to dense. */
    assert_non_null(strstr(html, "-50.0 <span class=\"point\">["));
    assert_non_null(strstr(html, "-5.0 <span class=\"point\">["));
    /* The table of tasks: chance, dense, best. */
    assert_non_null(strstr(html, "<td class=\"n\">25.0 %</td><td class=\"n\">80.0 % ± 1.0 %</td>"
                                 "<td>75.0 % <span class=\"point\">lp@0.5</span>"));
    free(html);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_page),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
