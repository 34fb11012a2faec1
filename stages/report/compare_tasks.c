/* Comparisons of accuracies: what is read for them, and their part of the page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/compare.h"
#include "report/page.h"
#include "score/answer.h"

enum { TABLE = 24 }; /* variants on the page at most */

/* --- reading -------------------------------------------------------------------------------- */

/* What all variants of a task share. */
typedef struct items {
    int64_t items, width;
    int32_t *gold, *characters;
} items_t;

static lode_status_t read_part(lode_store_t *store, const char *group, const char *dataset,
                               const char *part, lode_type_t type, int64_t elements, void *out) {
    lode_buffer_t path = {0};
    int64_t count = 0;
    lode_status_t status = lode_buffer_printf(&path, "%s/%s/%s", group, dataset, part);
    if (status == LODE_OK)
        status = lode_store_read_all(store, path.data, type, out, &count);
    if (status == LODE_OK && count != elements)
        status = lode_fail(LODE_ERR_SHAPE,
                           "evaluate.h5: dataset \"%s\" has %lld elements, not %lld; run evaluate "
                           "again (--force)",
                           path.data, (long long)count, (long long)elements);
    lode_buffer_free(&path);
    return status;
}

/* Gold, and the characters of the continuations, which have the extents of the answers. */
static lode_status_t read_items(items_t *items, lode_store_t *store, const char *dataset) {
    int64_t shape[LODE_STORE_MAX_AXES] = {0};
    int axes = 0;
    lode_buffer_t path = {0};
    lode_status_t status = lode_buffer_printf(&path, "/task_items/%s/characters", dataset);
    if (status == LODE_OK)
        status = lode_store_shape(store, path.data, &axes, shape);
    lode_buffer_free(&path);
    LODE_TRY(status);
    items->items = shape[0];
    items->width = axes == 2 ? shape[1] : 1;
    LODE_TRY(read_part(store, "/task_items", dataset, "gold", LODE_TYPE_I32, items->items,
                       &items->gold));
    return read_part(store, "/task_items", dataset, "characters", LODE_TYPE_I32,
                     items->items * items->width, &items->characters);
}

/* right [items] of one variant. */
static lode_status_t read_right(double *right, const items_t *items, lode_store_t *store,
                                const lode_report_figure_t *figure) {
    const int64_t elements = items->items * items->width;
    const char *variant = figure->variant.name;
    double *log_likelihood = NULL;
    uint8_t *greedy = NULL;
    lode_status_t status = read_part(store, "/tasks", figure->dataset, variant, LODE_TYPE_F64,
                                     elements, &log_likelihood);
    if (status == LODE_OK)
        status = read_part(store, "/task_greedy", figure->dataset, variant, LODE_TYPE_U8, elements,
                           &greedy);
    if (status == LODE_OK) {
        const lode_answers_t answers = {.items = items->items,
                                        .width = items->width,
                                        .log_likelihood = log_likelihood,
                                        .greedy = greedy,
                                        .gold = items->gold,
                                        .characters = items->characters};
        lode_answers_right(&answers, strcmp(figure->metric, "acc_norm") == 0, right);
    }
    free(log_likelihood);
    free(greedy);
    return status;
}

lode_status_t lode_compare_read_tasks(double **right, int64_t *count, lode_store_t *store,
                                      const lode_report_figure_t *figures, int64_t figure_count) {
    items_t items = {0};
    lode_status_t status = read_items(&items, store, figures[0].dataset);
    *right = NULL;
    if (status == LODE_OK)
        status = LODE_NEW(right, figure_count * items.items, "answers");
    for (int64_t i = 0; i < figure_count && status == LODE_OK; i++)
        status = read_right(*right + i * items.items, &items, store, &figures[i]);
    *count = items.items;
    free(items.gold);
    free(items.characters);
    return status;
}

/* --- page ----------------------------------------------------------------------------------- */

/* A difference in points to one decimal, and none that would print as −0.0. */
static double points(double difference) {
    return round(1000 * difference) / 10 + 0.0;
}

/* "−3.5 [−6.2, −0.8]", in points. */
static lode_status_t write_points(lode_buffer_t *page, const lode_paired_t *paired) {
    return lode_buffer_printf(page,
                              "<td class=\"n\">%+.1f <span class=\"point\">[%+.1f, %+.1f]"
                              "</span></td>",
                              points(paired->difference), points(paired->low),
                              points(paired->high));
}

static lode_status_t write_verdict(lode_buffer_t *page, lode_verdict_t verdict) {
    return lode_buffer_printf(page, "<td class=\"%s\">%s</td>",
                              verdict == LODE_VERDICT_UNDECIDED ? "open" : "",
                              lode_verdict_text(verdict));
}

static lode_status_t write_variant(lode_buffer_t *page, const lode_comparison_family_t *family,
                                   int64_t i) {
    const lode_report_figure_t *figure = family->members[i];
    LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">"));
    LODE_TRY(lode_page_text(page, figure->variant.name));
    LODE_TRY(lode_buffer_printf(page, "</th><td class=\"n\">%.1f %%</td>", 100 * figure->value));
    if (i == 0) {
        LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">0</td><td>highest</td>"));
    } else {
        const lode_comparison_pair_t *pair = &family->pairs[i * family->count];
        LODE_TRY(write_points(page, &pair->paired));
        LODE_TRY(write_verdict(page, pair->verdict));
    }
    if (family->to_dense) {
        LODE_TRY(write_points(page, &family->to_dense[i].paired));
        LODE_TRY(write_verdict(page, family->to_dense[i].verdict));
    }
    return lode_buffer_printf(page, "</tr>\n");
}

lode_status_t lode_compare_page_tasks(lode_report_case_t *item,
                                      const lode_comparison_family_t *family, bool open) {
    lode_buffer_t *page = &item->topics[LODE_TOPIC_COMPARISONS];
    const int64_t rows = family->count < TABLE ? family->count : TABLE;
    LODE_TRY(lode_compare_summary(page, family, open, "highest"));
    LODE_TRY(lode_buffer_printf(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table class=\"small\">\n<thead><tr>"
        "<th>variant</th><th class=\"n\">accuracy</th><th class=\"n\">points to the highest "
        "[95 %%]</th><th>verdict</th>%s</tr></thead>\n<tbody>\n",
        family->to_dense ? "<th class=\"n\">points to dense [95 %]</th><th>verdict</th>" : ""));
    for (int64_t i = 0; i < rows; i++)
        LODE_TRY(write_variant(page, family, i));
    LODE_TRY(lode_buffer_printf(page, "</tbody></table></div>\n"));
    if (family->count + family->left_out > rows)
        LODE_TRY(lode_buffer_printf(
            page, "<p class=\"method\">%lld variants of lower accuracy are not shown.</p>\n",
            (long long)(family->count + family->left_out - rows)));
    return lode_buffer_printf(page, "</details>\n");
}
