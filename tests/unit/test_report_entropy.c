/* The report's write entropies: figures of each case by depth and class, and the tables and the
 * chart of several cases beside each other. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/report.h"
#include "testing/compare.h"
#include "testing/results.h"
#include "testing/temporary.h"

enum { LAYERS = 2, CHANNELS = 10, TARGETS = 16 };

static void put_indices(lode_store_t *store, const char *name, int32_t first, int32_t second) {
    lode_test_put_i32(store, name, (int64_t[]){LAYERS, 1}, (int32_t[]){first, second});
}

/* Entropies lowest + 0.01·j in the first layer and 1 more in the second; LP falls with j. */
static void make_classes(const char *folder, double lowest, bool entropies) {
    const int64_t shape[] = {LAYERS, CHANNELS};
    double rising[LAYERS * CHANNELS], falling[LAYERS * CHANNELS];
    for (int i = 0; i < LAYERS * CHANNELS; i++) {
        rising[i] = lowest + 0.01 * (i % CHANNELS) + i / CHANNELS;
        falling[i] = 1.0 / (1 + i % CHANNELS);
    }
    lode_store_t *store = lode_test_stage_create(folder, "accumulate");
    lode_test_put_f64(store, "loss_proxy", 2, shape, falling);
    lode_test_put_f64(store, "activation_power", 2, shape, rising);
    lode_test_stage_finish(store, "");
    store = lode_test_stage_create(folder, "classify");
    lode_test_put_f64(store, "connectivity", 2, shape, falling);
    lode_test_put_f64(store, "core_mass", 1, shape, falling);
    put_indices(store, "core", 0, 1);
    put_indices(store, "halo", 2, 3);
    if (entropies) {
        lode_test_put_f64(store, "entropy", 2, shape, rising);
        LODE_ASSERT_OK(lode_store_attribute_f64(store, "/entropy", "uniform", 5));
    }
    lode_test_stage_finish(store, "");
}

/* Losses that are alike for every target. */
static void put_loss(lode_store_t *store, const char *variant, double nll) {
    char path[128];
    double values[TARGETS];
    const int64_t count = TARGETS;
    for (int t = 0; t < TARGETS; t++)
        values[t] = nll;
    snprintf(path, sizeof path, "/perplexity/books/%s", variant);
    lode_test_put_f64(store, path, 1, &count, values);
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "value", exp(nll)));
    LODE_ASSERT_OK(lode_store_attribute_f64(store, path, "stderr", 0.5));
    LODE_ASSERT_OK(lode_store_attribute_text(store, path, "protocol", "gptq"));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "length", 17));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "windows", 1));
    LODE_ASSERT_OK(lode_store_attribute_i64(store, path, "targets", TARGETS));
}

static void make_losses(const char *folder, double nll) {
    lode_store_t *store = lode_test_stage_create(folder, "evaluate");
    put_loss(store, "dense", nll);
    put_loss(store, "entropy@0.25", nll + log(2));
    put_loss(store, "entropy-reversed@0.5", nll + log(3));
    put_loss(store, "taylor@0.25", nll + log(7)); /* reads data: not beside the others */
    lode_test_stage_finish(store, "");
}

static char *build(const char *folder, const char *const *points, int64_t count) {
    static const char *const models[] = {"m"};
    const lode_report_t report = lode_test_report(folder, "made-up", points, count, models, 1, 0);
    LODE_ASSERT_OK(lode_report_build(&report));
    char *html = lode_test_result(folder, "report.html");
    lode_test_page(html);
    return html;
}

static const char *case_folder(const char *folder, const char *point) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s%sm", folder, point, point[0] ? "/" : "");
    return path;
}

/* The text of the section of all cases, ended there; NULL where there is none. */
static char *section_of(char *html) {
    char *section = strstr(html, "<section id=\"write-entropy\">");
    if (section)
        *strstr(section, "</section>") = '\0';
    return section;
}

/* How the row that begins with `name` goes on, after what stands for each cell. */
static void assert_row(const char *section, const char *name, const char *cells) {
    char start[64];
    snprintf(start, sizeof start, "<th scope=\"row\">%s</th>", name);
    const char *row = strstr(section, start);
    if (!row || strncmp(row + strlen(start), cells, strlen(cells)) != 0)
        fail_msg("row %s is \"%.400s\", wanted \"%s\"", name, row ? row : "absent", cells);
}

static void test_one_case(void **state) {
    (void)state;
    static const char *const points[] = {""};
    const char *folder = lode_test_temporary();
    make_classes(case_folder(folder, ""), 3, true);
    char *html = build(folder, points, 1);
    assert_int_equal(lode_test_count(html, "<b>Entropy of write weights by depth.</b>"), 1);
    assert_int_equal(lode_test_count(html, "<b>Entropy of write weights and the loss proxy.</b>"),
                     1);
    assert_int_equal(lode_test_count(html, "uniform, ln d"), 1);
    assert_null(strstr(html, "gnuplot failed"));
    assert_null(section_of(html)); /* there is nothing beside it */
    free(html);
}

static void test_no_entropies(void **state) {
    (void)state;
    static const char *const points[] = {""};
    const char *folder = lode_test_temporary();
    make_classes(case_folder(folder, ""), 3, false);
    char *html = build(folder, points, 1);
    assert_null(strstr(html, "ntropy of write weights"));
    free(html);
}

static void test_cases_beside_each_other(void **state) {
    (void)state;
    static const char *const points[] = {"weight=0", "weight=1", "weight=2"};
    const char *folder = lode_test_temporary();
    make_classes(case_folder(folder, points[0]), 3, true);
    make_losses(case_folder(folder, points[0]), log(10));
    make_classes(case_folder(folder, points[1]), 2.5, true);
    make_losses(case_folder(folder, points[1]), log(20));
    char *html = build(folder, points, 3); /* of the third there is nothing yet */
    char *section = section_of(html);
    assert_non_null(section);
    assert_int_equal(lode_test_count(section, "<b>Entropy and what pruning costs.</b>"), 1);
    /* 20 channels: means 3.545 and 3.045; the 10 % quantile of the first is its second value */
    assert_row(section, "1",
               "<td>m</td><td>weight=0</td><td class=\"n\">3.5450</td>"
               "<td class=\"n\">3.0095</td>");
    assert_row(section, "2",
               "<td>m</td><td>weight=1</td><td class=\"n\">3.0450</td>"
               "<td class=\"n\">2.5095</td>");
    assert_non_null(strstr(section, "<td class=\"n\">5.0 %</td></tr>"));
    assert_non_null(strstr(section, "<td class=\"n\">50.0 %</td></tr>"));
    /* what pruning costs, with its ratio to the model of the row */
    const char *losses = strstr(section, "Perplexity on books, gptq at 17");
    assert_non_null(losses);
    assert_row(losses, "2",
               "<td>m</td><td>weight=1</td><td class=\"n\">3.0450</td>"
               "<td class=\"n\">20.00</td><td class=\"n\">40.00 <span class=\"point\">2.000×</span>"
               "</td><td class=\"n\">60.00 <span class=\"point\">3.000×</span></td></tr>");
    assert_null(strstr(section, "taylor"));
    assert_null(strstr(section, "weight=2"));
    free(html);
}

/* A model that settings leave as it is has one row beside those that they change. */
static void test_repeated(void **state) {
    (void)state;
    static const char *const points[] = {"weight=0", "weight=1", "weight=2"};
    const char *folder = lode_test_temporary();
    for (int i = 0; i < 3; i++) {
        make_classes(case_folder(folder, points[i]), i == 1 ? 2 : 3, true);
        make_losses(case_folder(folder, points[i]), log(10));
    }
    char *html = build(folder, points, 3);
    char *section = section_of(html);
    assert_non_null(section);
    assert_row(section, "1", "<td>m</td><td>weight=0 and 1 more</td><td class=\"n\">3.5450</td>");
    assert_row(section, "2", "<td>m</td><td>weight=1</td><td class=\"n\">2.5450</td>");
    assert_null(strstr(section, "<th scope=\"row\">3</th>"));
    free(html);
}

/* Settings that leave the weights alone. */
static void test_alike(void **state) {
    (void)state;
    static const char *const points[] = {"k=1", "k=2"};
    const char *folder = lode_test_temporary();
    make_classes(case_folder(folder, points[0]), 3, true);
    make_classes(case_folder(folder, points[1]), 3, true);
    char *html = build(folder, points, 2);
    assert_null(section_of(html));
    free(html);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_case),
        cmocka_unit_test(test_no_entropies),
        cmocka_unit_test(test_cases_beside_each_other),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_alike),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
