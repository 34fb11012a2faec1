/* Super weights beside published ones, and what they do to the probability of stopwords. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/cells.h"
#include "report/chart.h"
#include "report/figures.h"
#include "report/page.h"
#include "report/superweights.h"

enum { MOST_WORDS = 24 }; /* in the table and the figure */

/* --- published coordinates ---------------------------------------------------------------- */

static lode_status_t read_text(lode_store_t *store, const char *object, const char *name,
                               char **text) {
    if (lode_store_has_attribute(store, object, name))
        return lode_store_get_attribute_text(store, object, name, text);
    return lode_strdup(text, "");
}

static lode_status_t read_count(lode_store_t *store, const char *object, const char *name,
                                int64_t *count) {
    *count = 0;
    if (lode_store_has_attribute(store, object, name))
        return lode_store_get_attribute_i64(store, object, name, count);
    return LODE_OK;
}

static lode_status_t write_known(lode_super_weights_t *source, int64_t count,
                                 int32_t *const place[3], const int32_t *found) {
    static const char *const heads[] = {"published: layer [row, channel]", "here"};
    char *origin = NULL;
    int64_t others, same = 0;
    LODE_TRY(read_count(source->store, "/known", "others", &others));
    LODE_TRY(read_text(source->store, "/known", "source", &origin));
    for (int64_t i = 0; i < count; i++)
        same += found[i] != 0;
    lode_status_t status = lode_buffer_printf(
        source->page,
        "<p class=\"method\">%lld of %lld published coordinates found, %lld found that are "
        "not published.%s",
        (long long)same, (long long)count, (long long)others, *origin ? " Published: " : "");
    if (status == LODE_OK)
        status = lode_page_text(source->page, origin);
    free(origin);
    LODE_TRY(status);
    LODE_TRY(lode_buffer_printf(source->page, "</p>\n"));
    LODE_TRY(lode_cells_begin(source->page, heads, 2));
    for (int64_t i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "%d [%d, %d]", place[0][i], place[1][i], place[2][i]);
        LODE_TRY(lode_cells_row(source->page, text, false));
        LODE_TRY(lode_cells_text(source->page, found[i] ? "found" : "not found"));
        LODE_TRY(lode_cells_row_end(source->page));
    }
    return lode_cells_end(source->page);
}

lode_status_t lode_super_weights_known(lode_super_weights_t *source) {
    static const char *const names[] = {"/known/layer", "/known/row", "/known/channel",
                                        "/known/found"};
    int32_t *parts[4];
    int64_t count = -1;
    bool whole = true;
    for (int i = 0; i < 4; i++) {
        LODE_TRY(lode_shelf_i32(&source->shelf, source->store, names[i], 1, &count, &parts[i]));
        whole &= parts[i] != NULL;
    }
    return whole ? write_known(source, count, parts, parts[3]) : LODE_OK;
}

/* --- stopwords ---------------------------------------------------------------------------- */

/* The words, and their probabilities; arrays are NULL where the file has not got them. */
typedef struct words {
    int64_t count;
    int32_t *tokens;
    double *before, *after, *restored; /* [count] */
    char *text;                        /* all words, cut apart at their ends */
    const char **word;                 /* [count] in the order of the file */
    int64_t *order;                    /* [count] most probable first */
} words_t;

static lode_status_t read_words(lode_super_weights_t *source, words_t *words) {
    lode_shelf_t *shelf = &source->shelf;
    lode_store_t *store = source->store;
    words->count = -1;
    LODE_TRY(lode_shelf_f64(shelf, store, "/stopwords/before", 1, &words->count, &words->before));
    LODE_TRY(lode_shelf_f64(shelf, store, "/stopwords/after", 1, &words->count, &words->after));
    LODE_TRY(
        lode_shelf_f64(shelf, store, "/stopwords/restored", 1, &words->count, &words->restored));
    LODE_TRY(lode_shelf_i32(shelf, store, "/stopwords/tokens", 1, &words->count, &words->tokens));
    if (!words->before || !words->after || words->count < 1)
        return LODE_OK;
    LODE_TRY(read_text(store, "/stopwords", "words", &words->text));
    LODE_TRY(LODE_NEW(&words->word, words->count, "stopwords"));
    LODE_TRY(LODE_NEW(&words->order, words->count, "stopwords"));
    char *cursor = words->text;
    for (int64_t i = 0; i < words->count; i++) {
        words->word[i] = cursor;
        cursor += strcspn(cursor, "\n");
        if (*cursor)
            *cursor++ = '\0';
        int64_t place = i;
        for (; place > 0 && words->before[words->order[place - 1]] < words->before[i]; place--)
            words->order[place] = words->order[place - 1];
        words->order[place] = i;
    }
    return LODE_OK;
}

static lode_status_t write_row(lode_buffer_t *page, const char *name, bool apart, double before,
                               double after, double restored) {
    LODE_TRY(lode_cells_row(page, name, apart));
    LODE_TRY(lode_cells_number(page, 100 * before, 3, " %"));
    LODE_TRY(lode_cells_number(page, 100 * after, 3, " %"));
    LODE_TRY(lode_cells_number(page, before > 0 ? after / before : NAN, 2, "×"));
    LODE_TRY(lode_cells_number(page, 100 * restored, 3, " %"));
    return lode_cells_row_end(page);
}

/* An attribute that says a sum of probabilities. */
static lode_status_t read_sum(lode_store_t *store, const char *name, double *value) {
    *value = NAN;
    if (lode_store_has_attribute(store, "/stopwords", name))
        return lode_store_get_attribute_f64(store, "/stopwords", name, value);
    return LODE_OK;
}

static lode_status_t write_words(lode_super_weights_t *source, const words_t *words) {
    static const char *const heads[] = {"stopword", "#as trained", "#super weights 0", "#ratio",
                                        "#super activations restored"};
    double before, after, restored;
    int64_t texts, positions;
    const int64_t shown = words->count < MOST_WORDS ? words->count : MOST_WORDS;
    LODE_TRY(read_sum(source->store, "before_all", &before));
    LODE_TRY(read_sum(source->store, "after_all", &after));
    LODE_TRY(read_sum(source->store, "restored_all", &restored));
    LODE_TRY(read_count(source->store, "/stopwords", "texts", &texts));
    LODE_TRY(read_count(source->store, "/stopwords", "positions", &positions));
    LODE_TRY(lode_buffer_printf(source->page,
                                "<p class=\"method\">Mean probability of %lld stopwords as the "
                                "next token, over %lld positions of %lld texts%s.</p>\n",
                                (long long)words->count, (long long)positions, (long long)texts,
                                shown < words->count ? "; the most probable are shown" : ""));
    LODE_TRY(lode_cells_begin(source->page, heads, 5));
    if (isfinite(before) && isfinite(after))
        LODE_TRY(write_row(source->page, "all together", false, before, after, restored));
    for (int64_t i = 0; i < shown; i++) {
        const int64_t w = words->order[i];
        LODE_TRY(write_row(source->page, words->word[w], i == 0, words->before[w], words->after[w],
                           words->restored ? words->restored[w] : NAN));
    }
    return lode_cells_end(source->page);
}

static lode_status_t draw_words(lode_super_weights_t *source, const words_t *words) {
    const int64_t shown = words->count < MOST_WORDS ? words->count : MOST_WORDS;
    const char *names[MOST_WORDS];
    double *values[3];
    for (int part = 0; part < 3; part++)
        LODE_TRY(lode_shelf_new(&source->shelf, &values[part], shown));
    for (int64_t i = 0; i < shown; i++) {
        const int64_t w = words->order[i];
        names[i] = words->word[w];
        values[0][i] = 100 * words->before[w];
        values[1][i] = 100 * words->after[w];
        values[2][i] = words->restored ? 100 * words->restored[w] : NAN;
    }
    const lode_chart_series_t series[] = {{.name = "as trained",
                                           .colour = LODE_COLOUR_SKY,
                                           .mark = LODE_MARK_BARS,
                                           .count = shown,
                                           .y = values[0]},
                                          {.name = "super weights 0",
                                           .colour = LODE_COLOUR_VERMILION,
                                           .mark = LODE_MARK_POINTS,
                                           .count = shown,
                                           .y = values[1]},
                                          {.name = "super activations restored",
                                           .colour = LODE_COLOUR_BLACK,
                                           .mark = LODE_MARK_POINTS,
                                           .point = 4,
                                           .count = words->restored ? shown : 0,
                                           .y = values[2]}};
    const lode_chart_panel_t panel = {.y_label = "mean probability, %",
                                      .from_zero = true,
                                      .names = names,
                                      .name_count = shown,
                                      .series = series,
                                      .count = words->restored ? 3 : 2};
    const lode_chart_t chart = {.panels = &panel, .count = 1, .columns = 1};
    return lode_figure_chart(source->plot, &chart, "Stopwords before and after",
                             "The mean probability of the most probable stopwords as the next "
                             "token.",
                             source->page);
}

lode_status_t lode_super_weights_stopwords(lode_super_weights_t *source) {
    words_t words = {0};
    lode_status_t status = read_words(source, &words);
    if (status == LODE_OK && words.word)
        status = write_words(source, &words);
    if (status == LODE_OK && words.word)
        status = draw_words(source, &words);
    free(words.order);
    free(words.word);
    free(words.text);
    return status;
}
