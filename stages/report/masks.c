#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/choices.h"
#include "report/figures.h"
#include "report/shelf.h"
#include "score/order.h"

enum { MOST = 20 }; /* rows of a map */

/* Sets of channels of every layer: member[i] is [layers, channels], 1 where in set i. */
typedef struct sets {
    lode_store_t *store;
    int64_t layers, channels, count;
    uint8_t *member[MOST];
    char *names[MOST];
} sets_t;

static void empty(sets_t *sets) {
    for (int64_t i = 0; i < sets->count; i++) {
        free(sets->member[i]);
        free(sets->names[i]);
    }
    sets->count = 0;
}

/* Jaccard index of sets a and b in every layer, averaged over layers; 1 where both are empty. */
static double mean_jaccard(const sets_t *sets, int64_t a, int64_t b) {
    double sum = 0;
    for (int64_t l = 0; l < sets->layers; l++) {
        int64_t both = 0, either = 0;
        const uint8_t *x = sets->member[a] + l * sets->channels;
        const uint8_t *y = sets->member[b] + l * sets->channels;
        for (int64_t j = 0; j < sets->channels; j++) {
            both += x[j] & y[j];
            either += x[j] | y[j];
        }
        sum += either > 0 ? (double)both / (double)either : 1;
    }
    return sum / (double)sets->layers;
}

/* Shades begin at `chance`, what independent sets would come to. */
static lode_status_t draw(const sets_t *sets, const char *title, const char *caption, double chance,
                          lode_buffer_t *page) {
    const int64_t n = sets->count;
    double *values, *shades;
    if (n < 2)
        return LODE_OK;
    LODE_TRY(LODE_NEW(&values, 2 * n * n, "overlaps"));
    shades = values + n * n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            values[i * n + j] = j < i ? values[j * n + i] : j == i ? NAN : mean_jaccard(sets, i, j);
            shades[i * n + j] = fmax(0, (values[i * n + j] - chance) / (1 - chance));
        }
    const lode_heatmap_t map = {.title = title,
                                .rows = n,
                                .columns = n,
                                .row_names = (const char *const *)sets->names,
                                .column_names = (const char *const *)sets->names,
                                .upright = true,
                                .values = values,
                                .shades = shades,
                                .decimals = 2,
                                .scale = 1};
    lode_status_t status = lode_figure_heatmap(&map, caption, page);
    free(values);
    return status;
}

/* --- what methods rank highest ---------------------------------------------------------- */

/* The top of every layer by a method's scores, as many channels as the layer's core has. */
static lode_status_t add_top(sets_t *sets, const lode_report_channels_t *channels,
                             const char *method, const char *path) {
    lode_shelf_t shelf = {0};
    const int64_t m = sets->channels;
    int64_t shape[2] = {sets->layers, m}, at = sets->count;
    double *scores;
    int32_t *top = NULL;
    lode_status_t status;
    LODE_GUARD(status, lode_shelf_f64(&shelf, sets->store, path, 2, shape, &scores), done);
    LODE_GUARD(status, LODE_NEW(&top, channels->core_extent + 1, "top channels"), done);
    sets->count++;
    LODE_GUARD(status, lode_strdup(&sets->names[at], method), done);
    LODE_GUARD(status, LODE_NEW(&sets->member[at], sets->layers * m, "top channels"), done);
    for (int64_t l = 0; status == LODE_OK && l < sets->layers; l++) {
        const int64_t size = lode_report_row_length(channels->core + l * channels->core_extent,
                                                    channels->core_extent);
        status = lode_order_top(top, size, scores + l * m, m, path);
        for (int64_t i = 0; status == LODE_OK && i < size; i++)
            sets->member[at][l * m + top[i]] = 1;
    }
done:
    free(top);
    lode_shelf_free(&shelf);
    return status;
}

static lode_status_t draw_tops(sets_t *sets, const lode_report_channels_t *channels,
                               lode_buffer_t *page) {
    lode_status_t status = LODE_OK;
    for (const lode_choice_t *method = lode_method_choices;
         status == LODE_OK && method->name && sets->count < MOST; method++) {
        char path[96];
        snprintf(path, sizeof path, "/scores/%s", method->name);
        if (lode_store_has(sets->store, path))
            status = add_top(sets, channels, method->name, path);
    }
    if (status == LODE_OK)
        status = draw(sets, "Overlap of what methods rank highest",
                      "Jaccard index of the two methods’ top channels of a layer, as many as the "
                      "layer’s core has; mean over layers. 1: the same channels; independent "
                      "rankings would come close to 0.",
                      0, page);
    empty(sets);
    return status;
}

/* --- what methods keep ------------------------------------------------------------------ */

/* The sparsity closest to one half of variants without compensation, whose masks are the same as
 * with it; 0 where there is none. */
static double chosen_sparsity(const lode_report_variant_t *variants, int64_t count) {
    double best = 0;
    for (int64_t i = 0; i < count; i++) {
        const double sparsity = variants[i].sparsity;
        if (!(sparsity > 0))
            continue;
        if (best == 0 || fabs(sparsity - 0.5) < fabs(best - 0.5))
            best = sparsity;
    }
    return best;
}

/* Whether an earlier variant of the list has the same mask: the same but for compensation. */
static bool is_repeated(const lode_report_variant_t *variants, int64_t index) {
    const lode_report_variant_t *a = &variants[index];
    for (int64_t i = 0; i < index; i++) {
        const lode_report_variant_t *b = &variants[i];
        if (strcmp(a->method, b->method) == 0 && a->sparsity == b->sparsity &&
            strcmp(a->core, b->core) == 0 && strcmp(a->allocation, b->allocation) == 0)
            return true;
    }
    return false;
}

static lode_status_t add_kept(sets_t *sets, const lode_report_variant_t *variant) {
    lode_buffer_t path = {0};
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES], at = sets->count;
    lode_status_t status;
    LODE_GUARD(status, lode_buffer_printf(&path, "/keep/%s", variant->name), done);
    LODE_GUARD(status, lode_store_shape(sets->store, path.data, &axes, shape), done);
    if (axes != 2 || shape[0] != sets->layers || shape[1] != sets->channels) {
        status = lode_fail(LODE_ERR_SHAPE,
                           "dataset \"%s\" does not have the shape of the statistics; run prune "
                           "again (--force)",
                           path.data);
        goto done;
    }
    sets->count++;
    LODE_GUARD(status, lode_strdup(&sets->names[at], variant->name), done);
    LODE_GUARD(status,
               lode_store_read_all(sets->store, path.data, LODE_TYPE_U8, &sets->member[at], NULL),
               done);
    /* Whatever the file holds counts as kept or not. */
    for (int64_t i = 0; i < sets->layers * sets->channels; i++)
        sets->member[at][i] = sets->member[at][i] != 0;
done:
    lode_buffer_free(&path);
    return status;
}

/* Adds the masks of one sparsity; of more than MOST, those of plain variants alone. */
static lode_status_t add_masks(sets_t *sets, const lode_report_variant_t *variants, int64_t count,
                               double sparsity) {
    int64_t masks = 0, plain = 0;
    for (int64_t i = 0; i < count; i++)
        if (variants[i].sparsity == sparsity && !is_repeated(variants, i)) {
            masks++;
            plain += variants[i].options[0] == '\0';
        }
    const bool all = masks <= MOST || plain < 2;
    for (int64_t i = 0; i < count && sets->count < MOST; i++)
        if (variants[i].sparsity == sparsity && !is_repeated(variants, i) &&
            (all || variants[i].options[0] == '\0'))
            LODE_TRY(add_kept(sets, &variants[i]));
    return LODE_OK;
}

static int compare_variants(const void *left, const void *right) {
    const lode_report_variant_t *a = left, *b = right;
    return a->order != b->order ? (a->order < b->order ? -1 : 1) : strcmp(a->name, b->name);
}

static lode_status_t draw_masks(sets_t *sets, lode_buffer_t *page) {
    char **names, caption[400];
    int64_t count;
    lode_report_variant_t *variants = NULL;
    LODE_TRY(lode_store_list(sets->store, "/keep", &names, &count));
    lode_status_t status = LODE_NEW(&variants, count, "variants");
    for (int64_t i = 0; status == LODE_OK && i < count; i++)
        status = lode_report_variant_parse(&variants[i], names[i]);
    if (status == LODE_OK && count > 0)
        qsort(variants, (size_t)count, sizeof *variants, compare_variants);
    const double sparsity = status == LODE_OK ? chosen_sparsity(variants, count) : 0;
    if (sparsity > 0)
        status = add_masks(sets, variants, count, sparsity);
    snprintf(caption, sizeof caption,
             "Jaccard index of the channels that two variants keep of a layer with %g %% removed; "
             "mean over layers. Independent choices would come to %.2f. Compensation changes no "
             "mask.",
             100 * sparsity, (1 - sparsity) / (1 + sparsity));
    if (status == LODE_OK && sparsity > 0)
        status =
            draw(sets, "Overlap of what is kept", caption, (1 - sparsity) / (1 + sparsity), page);
    empty(sets);
    for (int64_t i = 0; variants && i < count; i++)
        free(variants[i].name);
    free(variants);
    lode_store_list_free(&names, count);
    return status;
}

lode_status_t lode_figures_masks(lode_report_case_t *item, const lode_report_channels_t *channels) {
    sets_t sets = {.layers = channels->layers, .channels = channels->channels};
    lode_buffer_t *page = &item->topics[LODE_TOPIC_PRUNING];
    LODE_TRY(lode_report_open(&sets.store, item, "prune"));
    if (!sets.store)
        return LODE_OK;
    lode_status_t status = draw_tops(&sets, channels, page);
    if (status == LODE_OK)
        status = draw_masks(&sets, page);
    lode_store_close(&sets.store);
    return lode_fail_context(status, "%s/prune.h5", item->folder);
}
