#include "report/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/style.h"
#include "report/table.h"

lode_status_t lode_page_text(lode_buffer_t *page, const char *text) {
    for (; *text; text++) {
        const char *shown = text;
        size_t length = 1;
        switch (*text) {
        case '&':
            shown = "&amp;";
            break;
        case '<':
            shown = "&lt;";
            break;
        case '>':
            shown = "&gt;";
            break;
        case '"':
            shown = "&quot;";
            break;
        case '\'':
            shown = "&#39;";
            break;
        default:
            if ((unsigned char)*text < ' ' && *text != '\n' && *text != '\t')
                shown = "?";
            break;
        }
        if (shown != text)
            length = strlen(shown);
        LODE_TRY(lode_buffer_append(page, shown, length));
    }
    return LODE_OK;
}

/* A page of many cases would be slow and long if all of them were unfolded, and so would a long
 * table. */
enum { OPEN_CASES = 2, OPEN_ROWS = 48, NAMED_MODELS = 8 };

static lode_status_t write_head(lode_buffer_t *page, const lode_report_t *report) {
    LODE_TRY(lode_buffer_printf(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
                                      "<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                                      "content=\"width=device-width, initial-scale=1\">\n"
                                      "<meta name=\"color-scheme\" content=\"light dark\">\n"
                                      "<title>"));
    LODE_TRY(lode_page_text(page, report->name));
    LODE_TRY(lode_buffer_printf(page, " · Lodestone</title>\n<style>\n"));
    LODE_TRY(lode_buffer_append(page, lode_page_style, strlen(lode_page_style)));
    return lode_buffer_printf(page, "</style>\n</head>\n<body>\n<main>\n");
}

/* "books3m" or "books3m at classify.core_fraction=0.02". */
static lode_status_t write_case_name(lode_buffer_t *page, const lode_report_case_t *item) {
    LODE_TRY(lode_page_text(page, item->model));
    if (item->point[0] == '\0')
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(page, " <span class=\"point\">"));
    LODE_TRY(lode_page_text(page, item->point));
    return lode_buffer_printf(page, "</span>");
}

/* Names of the models, each once, in the order they come; of many, how many more there are. */
static lode_status_t write_models(lode_buffer_t *page, const lode_report_case_t *cases,
                                  int64_t count) {
    int64_t named = 0, more = 0;
    for (int64_t i = 0; i < count; i++) {
        bool fresh = true;
        for (int64_t other = 0; fresh && other < i; other++)
            fresh = strcmp(cases[other].model, cases[i].model) != 0;
        if (!fresh)
            continue;
        if (named == NAMED_MODELS) {
            more++;
            continue;
        }
        LODE_TRY(lode_buffer_printf(page, "%s", named++ ? ", " : ""));
        LODE_TRY(lode_page_text(page, cases[i].model));
    }
    return more > 0 ? lode_buffer_printf(page, " and %lld more", (long long)more) : LODE_OK;
}

static int64_t count_points(const lode_report_case_t *cases, int64_t count) {
    int64_t points = 0;
    for (int64_t i = 0; i < count; i++)
        points += i == 0 || strcmp(cases[i].point, cases[i - 1].point) != 0;
    return points;
}

static lode_status_t write_links(lode_buffer_t *page, const lode_report_case_t *cases,
                                 int64_t count, const lode_page_across_t *across) {
    const bool any =
        across->training.length > 0 || across->trajectory.length > 0 || across->entropy.length > 0;
    if (count < 2 && !any)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(page, "<nav>"));
    if (across->training.length > 0)
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#training\">Training</a> "));
    if (across->trajectory.length > 0)
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#trajectory\">Trajectory</a> "));
    if (across->entropy.length > 0)
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#write-entropy\">Write entropy</a> "));
    for (int64_t i = 0; i < count; i++) {
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#case-%lld\">", (long long)i + 1));
        LODE_TRY(write_case_name(page, &cases[i]));
        LODE_TRY(lode_buffer_printf(page, "</a> "));
    }
    return lode_buffer_printf(page, "</nav>\n");
}

static lode_status_t write_title(lode_buffer_t *page, const lode_report_t *report,
                                 const lode_report_case_t *cases, int64_t count,
                                 const lode_page_across_t *across, const lode_plot_t *plot) {
    int64_t figures = 0;
    const int64_t points = count_points(cases, count);
    for (int64_t i = 0; i < count; i++)
        figures += cases[i].figure_count;
    LODE_TRY(lode_buffer_printf(page, "<header>\n<p class=\"eyebrow\">Lodestone report</p>\n<h1>"));
    LODE_TRY(lode_page_text(page, report->name));
    LODE_TRY(lode_buffer_printf(page, "</h1>\n<p class=\"lede\">"));
    LODE_TRY(write_models(page, cases, count));
    LODE_TRY(lode_buffer_printf(page, " · "));
    if (points > 1)
        LODE_TRY(lode_buffer_printf(page, "%lld settings · ", (long long)points));
    LODE_TRY(lode_buffer_printf(page, "%lld figure%s</p>\n", (long long)figures,
                                figures == 1 ? "" : "s"));
    if (plot->missing)
        LODE_TRY(lode_buffer_printf(page, "<p class=\"note\">gnuplot could not be started, so this "
                                          "page has tables but no drawings. Install gnuplot and "
                                          "run <code>lode report</code> again.</p>\n"));
    LODE_TRY(write_links(page, cases, count, across));
    return lode_buffer_printf(page, "</header>\n");
}

/* Which stages have not left a file. */
static lode_status_t write_missing(lode_buffer_t *page, const lode_report_case_t *item) {
    const char *separator = "<p class=\"note\">Not there yet: ";
    bool any = false;
    for (int stage = 0; stage < LODE_REPORT_STAGES; stage++)
        if (!item->origins[stage].exists && item->origins[stage].always) {
            LODE_TRY(lode_buffer_printf(page, "%s%s.h5", separator, item->origins[stage].stage));
            separator = ", ";
            any = true;
        }
    return any ? lode_buffer_printf(page, ".</p>\n") : LODE_OK;
}

static const struct {
    const char *id, *title;
} topics[LODE_TOPIC_COUNT] = {
#define LODE_TOPIC_ENTRY(topic, id, title) {id, title},
    LODE_TOPIC_LIST(LODE_TOPIC_ENTRY)
#undef LODE_TOPIC_ENTRY
};

/* Begins a part of a case that folds; it is unfolded where `open`. */
static lode_status_t begin_part(lode_buffer_t *page, int64_t number, const char *id,
                                const char *title, bool open) {
    return lode_buffer_printf(page,
                              "<details class=\"topic\" id=\"case-%lld-%s\"%s><summary><h3>%s"
                              "</h3></summary>\n",
                              (long long)number, id, open ? " open" : "", title);
}

/* Links to the parts of a case. */
static lode_status_t write_contents(lode_buffer_t *page, const lode_report_case_t *item,
                                    int64_t number) {
    LODE_TRY(lode_buffer_printf(page, "<nav>"));
    for (int topic = 0; topic < LODE_TOPIC_COUNT; topic++)
        if (item->topics[topic].length > 0)
            LODE_TRY(lode_buffer_printf(page, "<a href=\"#case-%lld-%s\">%s</a> ",
                                        (long long)number, topics[topic].id, topics[topic].title));
    if (item->layer_count > 0)
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#case-%lld-layers\">Layers</a> ",
                                    (long long)number));
    if (item->figure_count > 0)
        LODE_TRY(lode_buffer_printf(page, "<a href=\"#case-%lld-figures\">All figures</a>",
                                    (long long)number));
    return lode_buffer_printf(page, "</nav>\n");
}

static lode_status_t write_case(lode_buffer_t *page, const lode_report_case_t *item, int64_t number,
                                int64_t count) {
    const bool open = count <= OPEN_CASES;
    LODE_TRY(lode_buffer_printf(page, "<section id=\"case-%lld\">\n<h2>", (long long)number));
    LODE_TRY(write_case_name(page, item));
    LODE_TRY(lode_buffer_printf(page, "</h2>\n"));
    LODE_TRY(write_missing(page, item));
    LODE_TRY(write_contents(page, item, number));
    LODE_TRY(lode_table_headline(page, item));
    for (int topic = 0; topic < LODE_TOPIC_COUNT; topic++) {
        if (item->topics[topic].length == 0)
            continue;
        LODE_TRY(begin_part(page, number, topics[topic].id, topics[topic].title, open));
        LODE_TRY(lode_buffer_append(page, item->topics[topic].data, item->topics[topic].length));
        LODE_TRY(lode_buffer_printf(page, "</details>\n"));
    }
    if (item->layer_count > 0) {
        LODE_TRY(begin_part(page, number, "layers", "Layers", open));
        LODE_TRY(lode_table_layers(page, item));
        LODE_TRY(lode_buffer_printf(page, "</details>\n"));
    }
    if (item->figure_count > 0) {
        LODE_TRY(begin_part(page, number, "figures", "All figures",
                            open && item->figure_count <= OPEN_ROWS));
        LODE_TRY(lode_table_figures(page, item));
        LODE_TRY(lode_buffer_printf(page, "</details>\n"));
    }
    return lode_buffer_printf(page, "</section>\n");
}

/* --- provenance ------------------------------------------------------------------------- */

static lode_status_t write_cell(lode_buffer_t *page, const char *text) {
    LODE_TRY(lode_buffer_printf(page, "<td>"));
    LODE_TRY(lode_page_text(page, text && *text ? text : "–"));
    return lode_buffer_printf(page, "</td>");
}

static lode_status_t write_origin(lode_buffer_t *page, const lode_report_case_t *item,
                                  const lode_report_origin_t *origin) {
    LODE_TRY(lode_buffer_printf(page, "<tr><th scope=\"row\">"));
    LODE_TRY(write_case_name(page, item));
    LODE_TRY(lode_buffer_printf(page, "</th>"));
    const char *cells[] = {origin->stage, origin->version, origin->commit, origin->host};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        LODE_TRY(write_cell(page, cells[i]));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"n\">%lld × %lld</td>", (long long)origin->ranks,
                                (long long)origin->threads));
    LODE_TRY(write_cell(page, origin->start));
    LODE_TRY(write_cell(page, origin->end));
    LODE_TRY(lode_buffer_printf(page, "<td class=\"mono\">"));
    LODE_TRY(lode_page_text(page, origin->fingerprint ? origin->fingerprint : ""));
    LODE_TRY(lode_buffer_printf(page, "</td><td class=\"mono\">"));
    LODE_TRY(lode_page_text(page, origin->digest));
    return lode_buffer_printf(page, "</td></tr>\n");
}

/* The texts that fold away: the experiment, what was read, what it was built with. Each distinct
 * experiment, of which a sweep has several, once. */
static lode_status_t write_texts(lode_buffer_t *page, const lode_report_case_t *cases,
                                 int64_t count) {
    const lode_report_origin_t *previous = NULL;
    for (int64_t i = 0; i < count; i++) {
        const lode_report_origin_t *origin = NULL;
        for (int stage = 0; stage < LODE_REPORT_STAGES; stage++)
            if (cases[i].origins[stage].exists)
                origin = &cases[i].origins[stage];
        if (!origin || (previous && strcmp(previous->experiment, origin->experiment) == 0 &&
                        strcmp(previous->inputs, origin->inputs) == 0))
            continue;
        previous = origin;
        const struct {
            const char *title, *text;
        } texts[] = {{"Experiment", origin->experiment},
                     {"Inputs", origin->inputs},
                     {"Libraries", origin->libraries}};
        for (size_t part = 0; part < sizeof texts / sizeof texts[0]; part++) {
            if (texts[part].text[0] == '\0')
                continue;
            LODE_TRY(lode_buffer_printf(page, "<details><summary>%s", texts[part].title));
            if (count > 1) {
                LODE_TRY(lode_buffer_printf(page, " of "));
                LODE_TRY(write_case_name(page, &cases[i]));
            }
            if (part == 0 && origin->experiment_sha256[0]) {
                LODE_TRY(lode_buffer_printf(page, " <span class=\"mono\">SHA-256 "));
                LODE_TRY(lode_page_text(page, origin->experiment_sha256));
                LODE_TRY(lode_buffer_printf(page, "</span>"));
            }
            LODE_TRY(lode_buffer_printf(page, "</summary><pre>"));
            LODE_TRY(lode_page_text(page, texts[part].text));
            LODE_TRY(lode_buffer_printf(page, "</pre></details>\n"));
        }
    }
    return LODE_OK;
}

static lode_status_t write_provenance(lode_buffer_t *page, const lode_report_case_t *cases,
                                      int64_t count) {
    LODE_TRY(lode_buffer_printf(
        page,
        "<section id=\"provenance\">\n<h2>Provenance</h2>\n"
        "<div class=\"wide\" tabindex=\"0\"><table class=\"small\">\n<thead><tr><th>model</th>"
        "<th>stage</th><th>version</th><th>commit</th><th>host</th>"
        "<th class=\"n\">ranks × threads</th><th>start (UTC)</th>"
        "<th>end (UTC)</th><th>fingerprint of what it was made from</th>"
        "<th>digest of its results</th></tr></thead>\n<tbody>\n"));
    for (int64_t i = 0; i < count; i++)
        for (int stage = 0; stage < LODE_REPORT_STAGES; stage++)
            if (cases[i].origins[stage].exists)
                LODE_TRY(write_origin(page, &cases[i], &cases[i].origins[stage]));
    LODE_TRY(lode_buffer_printf(page, "</tbody></table></div>\n"));
    LODE_TRY(write_texts(page, cases, count));
    return lode_buffer_printf(page, "</section>\n");
}

lode_status_t lode_page_write(lode_buffer_t *page, const lode_report_t *report,
                              const lode_report_case_t *cases, int64_t count,
                              const lode_page_across_t *across, const lode_plot_t *plot) {
    LODE_TRY(write_head(page, report));
    LODE_TRY(write_title(page, report, cases, count, across, plot));
    if (count > 1)
        LODE_TRY(lode_table_overview(page, cases, count));
    const lode_buffer_t *sections[] = {&across->training, &across->trajectory, &across->entropy};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (sections[i]->length > 0)
            LODE_TRY(lode_buffer_append(page, sections[i]->data, sections[i]->length));
    for (int64_t i = 0; i < count; i++)
        LODE_TRY(write_case(page, &cases[i], i + 1, count));
    LODE_TRY(write_provenance(page, cases, count));
    return lode_buffer_printf(page, "</main>\n</body>\n</html>\n");
}
