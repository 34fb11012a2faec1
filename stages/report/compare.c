#include "report/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/page.h"
#include "score/answer.h"

static const double level = 0.95;

const char *lode_verdict_text(lode_verdict_t verdict) {
    static const char *const texts[] = {"better",       "likely better", "equal",  "undecided",
                                        "likely worse", "worse",         "unknown"};
    return texts[verdict];
}

static lode_verdict_t verdict_of(const lode_comparison_pair_t *pair, bool accuracy) {
    const lode_paired_t *paired = &pair->paired;
    if (isnan(paired->p) || isnan(pair->adjusted))
        return LODE_VERDICT_UNKNOWN;
    if (paired->difference == 0 && paired->standard_error == 0)
        return LODE_VERDICT_EQUAL;
    const bool better = accuracy ? paired->difference > 0 : paired->difference < 0;
    if (pair->adjusted < 1 - level)
        return better ? LODE_VERDICT_BETTER : LODE_VERDICT_WORSE;
    if (paired->low > 0 || paired->high < 0)
        return better ? LODE_VERDICT_LIKELY_BETTER : LODE_VERDICT_LIKELY_WORSE;
    return LODE_VERDICT_UNDECIDED;
}

/* --- block means ------------------------------------------------------------------------ */

/* Block means of all figures of a dataset, begun where the first one's losses are read; or what
 * items of a task each has right, where every item is a block. */
typedef struct blocks {
    lode_store_t *store;
    const lode_report_figure_t *figures;
    int64_t count, targets, blocks;
    double *means; /* [count, blocks] */
    bool accuracy;
    double quantile; /* of the accuracies' intervals */
} blocks_t;

static lode_status_t read_means(blocks_t *blocks, int64_t index) {
    const lode_report_figure_t *figure = &blocks->figures[index];
    lode_buffer_t path = {0};
    double *nll = NULL;
    int64_t targets = 0;
    lode_status_t status =
        lode_buffer_printf(&path, "/perplexity/%s/%s", figure->dataset, figure->variant.name);
    if (status == LODE_OK)
        status = lode_store_read_all(blocks->store, path.data, LODE_TYPE_F64, &nll, &targets);
    if (status == LODE_OK && index == 0) {
        blocks->targets = targets;
        blocks->blocks = lode_paired_blocks(targets);
        if (blocks->blocks > 0)
            status = LODE_NEW(&blocks->means, blocks->count * blocks->blocks, "block means");
    } else if (status == LODE_OK && targets != blocks->targets) {
        status = lode_fail(LODE_ERR_SHAPE,
                           "evaluate.h5: dataset \"%s\" has %lld losses where another variant has "
                           "%lld; run evaluate again (--force)",
                           path.data, (long long)targets, (long long)blocks->targets);
    }
    if (status == LODE_OK && blocks->blocks > 0)
        lode_paired_block_means(blocks->means + index * blocks->blocks, blocks->blocks, nll,
                                targets);
    free(nll);
    lode_buffer_free(&path);
    return status;
}

/* --- families --------------------------------------------------------------------------- */

static int compare_members(const void *left, const void *right) {
    const lode_report_figure_t *a = *(const lode_report_figure_t *const *)left;
    const lode_report_figure_t *b = *(const lode_report_figure_t *const *)right;
    if (a->value != b->value)
        return (a->value < b->value) == lode_report_is_loss(a) ? -1 : 1;
    return (a > b) - (a < b); /* both are of one array, in a fixed order */
}

static const double *means_of(const blocks_t *blocks, const lode_report_figure_t *figure) {
    return blocks->means + (figure - blocks->figures) * blocks->blocks;
}

static void compare_pair(const blocks_t *blocks, const lode_report_figure_t *a,
                         const lode_report_figure_t *b, lode_comparison_pair_t *pair) {
    if (blocks->accuracy)
        lode_answers_compare(&pair->paired, means_of(blocks, a), means_of(blocks, b),
                             blocks->blocks, blocks->quantile);
    else
        lode_paired_compare(&pair->paired, means_of(blocks, a), means_of(blocks, b), blocks->blocks,
                            blocks->targets, level);
}

/* Every unordered pair once, and its mirror image. */
static lode_status_t compare_members_all(const blocks_t *blocks, lode_comparison_family_t *family) {
    const int64_t n = family->count;
    double *p, *adjusted;
    LODE_TRY(LODE_NEW(&p, n * (n - 1) + 1, "p values"));
    adjusted = p + n * (n - 1) / 2;
    int64_t next = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            lode_comparison_pair_t *pair = &family->pairs[i * n + j];
            compare_pair(blocks, family->members[i], family->members[j], pair);
            p[next++] = pair->paired.p;
        }
    lode_status_t status = lode_paired_holm(adjusted, p, next);
    next = 0;
    for (int64_t i = 0; status == LODE_OK && i < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            lode_comparison_pair_t *pair = &family->pairs[i * n + j];
            lode_comparison_pair_t *mirrored = &family->pairs[j * n + i];
            pair->adjusted = adjusted[next++];
            pair->verdict = verdict_of(pair, family->accuracy);
            *mirrored = *pair;
            mirrored->paired.difference = -pair->paired.difference;
            mirrored->paired.low = -pair->paired.high;
            mirrored->paired.high = -pair->paired.low;
            mirrored->verdict = verdict_of(mirrored, family->accuracy);
        }
    free(p);
    return status;
}

static lode_status_t compare_to_dense(const blocks_t *blocks, lode_comparison_family_t *family) {
    const int64_t n = family->count;
    double *p;
    LODE_TRY(LODE_NEW(&p, 2 * n, "p values"));
    for (int64_t i = 0; i < n; i++) {
        compare_pair(blocks, family->members[i], family->dense, &family->to_dense[i]);
        p[i] = family->to_dense[i].paired.p;
    }
    lode_status_t status = lode_paired_holm(p + n, p, n);
    for (int64_t i = 0; status == LODE_OK && i < n; i++) {
        family->to_dense[i].adjusted = p[n + i];
        family->to_dense[i].verdict = verdict_of(&family->to_dense[i], family->accuracy);
    }
    free(p);
    return status;
}

/* The family of figures [begin, end). */
static lode_status_t compare_family(lode_report_case_t *item, const blocks_t *blocks, int64_t begin,
                                    int64_t end, const lode_report_figure_t *dense, bool open) {
    lode_comparison_family_t family = {.accuracy = blocks->accuracy,
                                       .dense = dense,
                                       .blocks = blocks->blocks,
                                       .targets = blocks->targets,
                                       .per_unit = 1};
    if (blocks->figures[begin].words > 0)
        family.per_unit = (double)blocks->targets / (double)blocks->figures[begin].words;
    lode_status_t status = LODE_NEW(&family.members, end - begin, "comparisons");
    for (int64_t i = begin; status == LODE_OK && i < end; i++)
        if (isfinite(blocks->figures[i].value))
            family.members[family.count++] = &blocks->figures[i];
    if (status != LODE_OK || family.count == 0)
        goto done;
    qsort(family.members, (size_t)family.count, sizeof *family.members, compare_members);
    if (family.count > LODE_COMPARE_MOST) {
        family.left_out = family.count - LODE_COMPARE_MOST;
        family.count = LODE_COMPARE_MOST;
    }
    LODE_GUARD(status, LODE_NEW(&family.pairs, family.count * family.count, "comparisons"), done);
    LODE_GUARD(status, compare_members_all(blocks, &family), done);
    if (dense) {
        LODE_GUARD(status, LODE_NEW(&family.to_dense, family.count, "comparisons"), done);
        LODE_GUARD(status, compare_to_dense(blocks, &family), done);
    }
    LODE_GUARD(status, lode_compare_rows(item, &family), done);
    status = blocks->accuracy ? lode_compare_page_tasks(item, &family, open)
                              : lode_compare_page(item, &family, open);
done:
    free(family.to_dense);
    free(family.pairs);
    free(family.members);
    return status;
}

/* --- a dataset -------------------------------------------------------------------------- */

/* Whether variants of the figure's family are compared with each other. */
static bool is_compared(const lode_report_figure_t *figure) {
    const lode_report_kind_t kind = figure->variant.kind;
    return kind == LODE_KIND_EXPERIMENT || kind == LODE_KIND_QUANTIZED ||
           (kind == LODE_KIND_PRUNED && figure->variant.sparsity > 0);
}

/* How far a family is from the one to show unfolded: half of the channels removed where any are,
 * else four bits. */
static double distance(const lode_report_variant_t *variant) {
    if (variant->kind == LODE_KIND_PRUNED)
        return fabs(variant->sparsity - 0.5);
    return variant->kind == LODE_KIND_QUANTIZED
               ? 2 + abs(variant->bits - 4) + 20 * variant->sparsity
               : 100;
}

/* A figure of the family that is shown unfolded, NULL where there is none. */
static const lode_report_figure_t *shown_family(const blocks_t *blocks) {
    const lode_report_figure_t *best = NULL;
    for (int64_t i = 0; i < blocks->count; i++) {
        const lode_report_figure_t *figure = &blocks->figures[i];
        if (is_compared(figure) && (!best || distance(&figure->variant) < distance(&best->variant)))
            best = figure;
    }
    return best;
}

/* What the comparisons of a family have in common, for texts. */
static const char *family_word(const blocks_t *blocks) {
    for (int64_t i = 0; i < blocks->count; i++)
        if (is_compared(&blocks->figures[i]) && blocks->figures[i].variant.kind != LODE_KIND_PRUNED)
            return "group";
    return "sparsity";
}

static lode_status_t write_heading(lode_report_case_t *item, const blocks_t *blocks) {
    const lode_report_figure_t *any = &blocks->figures[0];
    lode_buffer_t *page = &item->topics[LODE_TOPIC_COMPARISONS];
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method\">On <b>"));
    LODE_TRY(lode_page_text(page, any->dataset));
    LODE_TRY(lode_buffer_printf(page, "</b>, protocol "));
    LODE_TRY(lode_page_text(page, any->protocol));
    return lode_buffer_printf(
        page,
        " at length %lld: ΔNLL is the mean over the same %lld targets of the difference of two "
        "variants’ losses, %s. Brackets are 95 %% "
        "intervals by Student’s t over the means of %lld consecutive blocks of about %lld targets, "
        "so that correlated neighbours do not count as independent. A variant is <i>worse</i> or "
        "<i>better</i> where that holds at 5 %% among all comparisons of the %s together "
        "(Holm), <i>likely</i> so where only its own interval excludes 0. All pairs are in "
        "comparisons.csv.</p>\n",
        (long long)any->length, (long long)blocks->targets,
        any->words > 0
            ? "which, times the targets of a word, is the log of the ratio of their word "
              "perplexities"
            : "the log of the ratio of their perplexities",
        (long long)blocks->blocks, (long long)(blocks->targets / blocks->blocks),
        family_word(blocks));
}

static lode_status_t write_task_heading(lode_report_case_t *item, const blocks_t *blocks) {
    const lode_report_figure_t *any = &blocks->figures[0];
    lode_buffer_t *page = &item->topics[LODE_TOPIC_COMPARISONS];
    LODE_TRY(lode_buffer_printf(page, "<p class=\"method\">On the task <b>"));
    LODE_TRY(lode_page_text(page, any->dataset));
    return lode_buffer_printf(
        page,
        "</b>: differences of %s over the same %lld items, item by item, with 95 %% intervals by "
        "Student’s t. A variant is <i>worse</i> or <i>better</i> where McNemar’s exact test says "
        "so "
        "at 5 %% among all comparisons of the %s together (Holm), <i>likely</i> so where "
        "only "
        "its own interval excludes 0. All pairs are in comparisons.csv.</p>\n",
        strcmp(any->metric, "acc_norm") == 0 ? "normalised accuracy" : "accuracy",
        (long long)blocks->targets, family_word(blocks));
}

static lode_status_t read_dataset(blocks_t *blocks) {
    if (!blocks->accuracy) {
        for (int64_t i = 0; i < blocks->count; i++)
            LODE_TRY(read_means(blocks, i));
        return LODE_OK;
    }
    LODE_TRY(lode_compare_read_tasks(&blocks->means, &blocks->targets, blocks->store,
                                     blocks->figures, blocks->count));
    blocks->blocks = blocks->targets < 2 ? 0 : blocks->targets;
    if (blocks->blocks > 0)
        blocks->quantile = lode_student_quantile(level, blocks->blocks - 1);
    return LODE_OK;
}

static lode_status_t compare_dataset(lode_report_case_t *item, blocks_t *blocks) {
    LODE_TRY(read_dataset(blocks));
    if (blocks->blocks == 0 || blocks->count < 2)
        return LODE_OK;
    const lode_report_figure_t *dense = NULL;
    for (int64_t i = 0; !dense && i < blocks->count; i++)
        if (strcmp(blocks->figures[i].variant.name, "dense") == 0)
            dense = &blocks->figures[i];
    LODE_TRY(blocks->accuracy ? write_task_heading(item, blocks) : write_heading(item, blocks));
    const lode_report_figure_t *shown = shown_family(blocks);
    for (int64_t begin = 0, end; begin < blocks->count; begin = end) {
        const lode_report_variant_t *first = &blocks->figures[begin].variant;
        for (end = begin + 1; end < blocks->count; end++)
            if (!lode_report_same_family(&blocks->figures[end].variant, first))
                break;
        if (is_compared(&blocks->figures[begin]))
            LODE_TRY(compare_family(item, blocks, begin, end, dense,
                                    lode_report_same_family(&shown->variant, first)));
    }
    return LODE_OK;
}

/* Whether a figure is an accuracy whose items are known. */
static bool has_items(lode_store_t *store, const lode_report_figure_t *figure) {
    lode_buffer_t path = {0};
    const bool has = !lode_report_is_loss(figure) && !figure->repeats &&
                     lode_buffer_printf(&path, "/task_items/%s", figure->dataset) == LODE_OK &&
                     lode_store_has(store, path.data);
    lode_buffer_free(&path);
    return has;
}

lode_status_t lode_compare_case(lode_report_case_t *item) {
    lode_store_t *store;
    LODE_TRY(lode_report_open(&store, item, "evaluate"));
    if (!store)
        return LODE_OK;
    lode_status_t status = LODE_OK;
    for (int64_t begin = 0, end; status == LODE_OK && begin < item->figure_count; begin = end) {
        const lode_report_figure_t *first = &item->figures[begin];
        end = lode_report_axis_end(item, begin);
        const bool accuracy = has_items(store, first);
        if (!first->per_token && !accuracy)
            continue;
        blocks_t blocks = {
            .store = store, .figures = first, .count = end - begin, .accuracy = accuracy};
        status = compare_dataset(item, &blocks);
        free(blocks.means);
    }
    lode_store_close(&store);
    return lode_fail_context(status, "%s", item->folder);
}
