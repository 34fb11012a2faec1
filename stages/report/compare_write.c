/* How comparisons are written: comparisons.csv, and tables and maps for the page. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/compare.h"
#include "report/figures.h"
#include "report/page.h"

enum { MAP = 12, TABLE = 24 }; /* variants on the page at most */

/* --- comparisons.csv -------------------------------------------------------------------- */

static lode_status_t write_field(lode_buffer_t *out, const char *text) {
    LODE_TRY(lode_report_csv_field(out, text));
    return lode_buffer_append(out, ",", 1);
}

static const char *csv_verdict(lode_verdict_t verdict) {
    static const char *const texts[] = {"a better",        "a likely better", "equal",  "undecided",
                                        "b likely better", "b better",        "unknown"};
    return texts[verdict];
}

static lode_status_t write_row(lode_report_case_t *item, const lode_comparison_family_t *family,
                               const lode_report_figure_t *a, const lode_report_figure_t *b,
                               const lode_comparison_pair_t *pair) {
    lode_buffer_t *out = &item->comparisons;
    const lode_paired_t *paired = &pair->paired;
    const double loss = family->accuracy ? NAN : paired->difference;
    const char *fields[] = {item->model, a->dataset, a->protocol, a->variant.name, b->variant.name};
    for (int i = 0; i < 5; i++)
        LODE_TRY(write_field(out, fields[i]));
    LODE_TRY(lode_buffer_printf(out, "%.17g,%.17g,%.17g,%.17g,%s,", loss, paired->low, paired->high,
                                exp(loss * family->per_unit), csv_verdict(pair->verdict)));
    LODE_TRY(write_field(out, item->point));
    return lode_buffer_printf(out, "%.17g,%.17g,%.17g,%.17g,%lld,%lld,%s,%.17g\n",
                              a->variant.sparsity, paired->standard_error, paired->p,
                              pair->adjusted, (long long)family->blocks, (long long)family->targets,
                              a->metric, paired->difference);
}

lode_status_t lode_compare_rows(lode_report_case_t *item, const lode_comparison_family_t *family) {
    for (int64_t i = 0; i < family->count; i++)
        for (int64_t j = i + 1; j < family->count; j++)
            LODE_TRY(write_row(item, family, family->members[i], family->members[j],
                               &family->pairs[i * family->count + j]));
    for (int64_t i = 0; family->to_dense && i < family->count; i++)
        LODE_TRY(write_row(item, family, family->members[i], family->dense, &family->to_dense[i]));
    return LODE_OK;
}

lode_status_t lode_compare_csv(const lode_report_case_t *cases, int64_t count, lode_buffer_t *out) {
    LODE_TRY(lode_buffer_printf(out, "model,dataset,protocol,variant_a,variant_b,delta_nll,low,"
                                     "high,perplexity_ratio,verdict,point,sparsity,stderr,p,"
                                     "p_adjusted,blocks,targets,metric,difference\n"));
    for (int64_t i = 0; i < count; i++)
        if (cases[i].comparisons.length > 0)
            LODE_TRY(
                lode_buffer_append(out, cases[i].comparisons.data, cases[i].comparisons.length));
    return LODE_OK;
}

/* --- table ------------------------------------------------------------------------------ */

/* "0.123 [0.101, 0.145]". */
static lode_status_t write_interval(lode_buffer_t *page, const lode_paired_t *paired) {
    return lode_buffer_printf(page,
                              "<td class=\"n\">%+.4f <span class=\"point\">[%+.4f, %+.4f]"
                              "</span></td>",
                              paired->difference, paired->low, paired->high);
}

/* The ratio of perplexities to the unpruned model's, with its interval; and the verdict where it is
 * not what everybody expects of a pruned model. */
static lode_status_t write_ratio(lode_buffer_t *page, const lode_comparison_family_t *family,
                                 const lode_comparison_pair_t *pair) {
    const double unit = family->per_unit;
    const lode_paired_t *paired = &pair->paired;
    return lode_buffer_printf(
        page,
        "<td class=\"n\">%.3f <span class=\"point\">[%.3f, %.3f]%s%s"
        "</span></td>",
        exp(unit * paired->difference), exp(unit * paired->low), exp(unit * paired->high),
        pair->verdict == LODE_VERDICT_WORSE ? "" : " ",
        pair->verdict == LODE_VERDICT_WORSE ? "" : lode_verdict_text(pair->verdict));
}

/* The interval against the best as a small drawing; `widest` is what the right edge stands for. */
static lode_status_t write_bar(lode_buffer_t *page, const lode_paired_t *paired, double widest) {
    enum { BAR_WIDTH = 130, BAR_LEFT = 16 };
    const double unit = (BAR_WIDTH - BAR_LEFT - 4) / widest;
    const double low = fmax(1, BAR_LEFT + unit * paired->low);
    return lode_buffer_printf(
        page,
        "<td><svg class=\"bar\" width=\"%d\" height=\"12\" viewBox=\"0 0 %d 12\" role=\"img\">"
        "<title>interval of the difference to the best</title>"
        "<path d=\"M%d 0V12\" class=\"axis\"/><path d=\"M%.1f 6H%.1f\" class=\"reach\"/>"
        "<circle cx=\"%.1f\" cy=\"6\" r=\"2.6\"/></svg></td>",
        BAR_WIDTH, BAR_WIDTH, BAR_LEFT, low, fmax(low, BAR_LEFT + unit * paired->high),
        fmax(1, BAR_LEFT + unit * paired->difference));
}

static lode_status_t write_table_row(lode_buffer_t *page, const lode_comparison_family_t *family,
                                     int64_t i, double widest) {
    const lode_report_figure_t *figure = family->members[i];
    const lode_comparison_pair_t *pair = &family->pairs[i * family->count];
    LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">"));
    LODE_TRY(lode_page_text(page, figure->variant.name));
    LODE_TRY(lode_buffer_printf(page, "</th><td class=\"n\">%.5g</td>", figure->value));
    if (i == 0) {
        LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">0</td><td></td><td>lowest</td>"));
    } else {
        LODE_TRY(write_interval(page, &pair->paired));
        LODE_TRY(write_bar(page, &pair->paired, widest));
        LODE_TRY(lode_buffer_printf(page, "<td class=\"%s\">%s</td>",
                                    pair->verdict == LODE_VERDICT_UNDECIDED ? "open" : "",
                                    lode_verdict_text(pair->verdict)));
    }
    if (family->to_dense)
        LODE_TRY(write_ratio(page, family, &family->to_dense[i]));
    return lode_buffer_printf(page, "</tr>\n");
}

static lode_status_t write_table(lode_buffer_t *page, const lode_comparison_family_t *family) {
    const int64_t rows = family->count < TABLE ? family->count : TABLE;
    double widest = 1e-12;
    for (int64_t i = 1; i < rows; i++)
        if (isfinite(family->pairs[i * family->count].paired.high))
            widest = fmax(widest, family->pairs[i * family->count].paired.high);
    LODE_TRY(lode_buffer_printf(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table class=\"small\">\n<thead><tr>"
        "<th>variant</th><th class=\"n\">%s</th><th class=\"n\">ΔNLL to the lowest "
        "[95 %%]</th><th></th><th>verdict</th>%s</tr></thead>\n<tbody>\n",
        family->members[0]->words > 0 ? "word perplexity" : "perplexity",
        family->to_dense ? "<th class=\"n\">÷ dense [95 %]</th>" : ""));
    for (int64_t i = 0; i < rows; i++)
        LODE_TRY(write_table_row(page, family, i, widest));
    LODE_TRY(lode_buffer_printf(page, "</tbody></table></div>\n"));
    if (family->count + family->left_out > rows)
        LODE_TRY(lode_buffer_printf(page,
                                    "<p class=\"method\">%lld variants of higher perplexity "
                                    "are not shown.%s</p>\n",
                                    (long long)(family->count + family->left_out - rows),
                                    family->left_out ? " Compared are the 40 of lowest." : ""));
    return LODE_OK;
}

/* --- map -------------------------------------------------------------------------------- */

typedef struct map {
    double values[MAP * MAP], shades[MAP * MAP];
    bool marks[MAP * MAP];
    const char *names[MAP];
} map_t;

static lode_status_t write_map(lode_buffer_t *page, const lode_comparison_family_t *family) {
    const int64_t n = family->count < MAP ? family->count : MAP;
    map_t *map;
    if (n < 3)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&map, 1, "comparisons"));
    double widest = 1e-12;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (i != j && isfinite(family->pairs[i * family->count + j].paired.difference))
                widest = fmax(widest, fabs(family->pairs[i * family->count + j].paired.difference));
    for (int64_t i = 0; i < n; i++) {
        map->names[i] = family->members[i]->variant.name;
        for (int64_t j = 0; j < n; j++) {
            const lode_comparison_pair_t *pair = &family->pairs[i * family->count + j];
            map->values[i * n + j] = i == j ? NAN : pair->paired.difference;
            /* The root keeps small differences visible beside large ones. */
            map->shades[i * n + j] =
                copysign(sqrt(fabs(pair->paired.difference) / widest), pair->paired.difference);
            map->marks[i * n + j] =
                pair->verdict == LODE_VERDICT_BETTER || pair->verdict == LODE_VERDICT_WORSE;
        }
    }
    const lode_heatmap_t heatmap = {.title = "Pairwise ΔNLL",
                                    .rows = n,
                                    .columns = n,
                                    .row_names = map->names,
                                    .column_names = map->names,
                                    .upright = true,
                                    .values = map->values,
                                    .shades = map->shades,
                                    .diverging = true,
                                    .marks = map->marks,
                                    .decimals = widest < 0.1 ? 4 : 3,
                                    .scale = 1};
    char caption[320];
    snprintf(caption, sizeof caption,
             "Loss of the row’s variant minus that of the column’s, in nats a target, of the "
             "variants of lowest perplexity; blue where the row does better. Bold: better or worse "
             "beyond chance among all comparisons of this %s.",
             family->members[0]->variant.kind == LODE_KIND_PRUNED ? "sparsity" : "group");
    lode_status_t status = lode_figure_heatmap(&heatmap, caption, page);
    free(map);
    return status;
}

lode_status_t lode_compare_summary(lode_buffer_t *page, const lode_comparison_family_t *family,
                                   bool open, const char *best) {
    const lode_report_variant_t *first = &family->members[0]->variant;
    char family_text[LODE_REPORT_FAMILY];
    int64_t behind = 0;
    lode_report_family(family_text, first);
    for (int64_t i = 1; i < family->count; i++)
        behind += family->pairs[i].verdict == LODE_VERDICT_BETTER;
    LODE_TRY(lode_buffer_printf(
        page, "<details class=\"part\"%s><summary>%s: ", open ? " open" : "", family_text));
    LODE_TRY(lode_page_text(page, first->name));
    if (family->count > 1)
        LODE_TRY(lode_buffer_printf(page,
                                    " is %s, and better beyond chance than %lld of %lld others",
                                    best, (long long)behind, (long long)(family->count - 1)));
    return lode_buffer_printf(page, "</summary>\n");
}

lode_status_t lode_compare_page(lode_report_case_t *item, const lode_comparison_family_t *family,
                                bool open) {
    lode_buffer_t *page = &item->topics[LODE_TOPIC_COMPARISONS];
    LODE_TRY(lode_compare_summary(page, family, open, "lowest"));
    LODE_TRY(write_table(page, family));
    LODE_TRY(write_map(page, family));
    return lode_buffer_printf(page, "</details>\n");
}
