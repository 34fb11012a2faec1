#include "report/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/compare.h"
#include "report/entropy.h"
#include "report/figures.h"
#include "report/page.h"
#include "report/result.h"
#include "report/retention.h"
#include "report/training.h"
#include "report/trajectory.h"
#include "store/lock.h"

static lode_status_t set_folder(const lode_report_t *report, lode_report_case_t *item) {
    lode_buffer_t folder = {0};
    lode_status_t status =
        item->point[0]
            ? lode_buffer_printf(&folder, "%s/%s/%s", report->folder, item->point, item->model)
            : lode_buffer_printf(&folder, "%s/%s", report->folder, item->model);
    if (status == LODE_OK)
        item->folder = folder.data;
    else
        lode_buffer_free(&folder);
    return status;
}

/* Everything of one case; its large arrays are gone when this returns. */
static lode_status_t load_case(lode_plot_t *plot, lode_report_case_t *item) {
    lode_report_channels_t channels = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_report_case_load(item), done);
    LODE_GUARD(status, lode_report_channels_load(&channels, item), done);
    LODE_GUARD(status, lode_report_measure(item, &channels), done);
    LODE_GUARD(status, lode_figures_curves(plot, item), done);
    LODE_GUARD(status, lode_figures_quantization(plot, item), done);
    LODE_GUARD(status, lode_figures_joint(plot, item), done);
    LODE_GUARD(status, lode_compare_case(item), done);
    if (item->layer_count > 0) {
        LODE_GUARD(status, lode_figures_masks(item, &channels), done);
        LODE_GUARD(status, lode_figures_supernodes(plot, item, &channels), done);
        LODE_GUARD(status, lode_figures_structure(plot, item), done);
        LODE_GUARD(status, lode_figures_connectivity(plot, item, &channels), done);
        LODE_GUARD(status, lode_figures_halo(plot, item, &channels), done);
        LODE_GUARD(status, lode_figures_entropy(plot, item, &channels), done);
    }
    LODE_GUARD(status, lode_figures_spectra(plot, item), done);
    LODE_GUARD(status, lode_figures_checks(plot, item), done);
    LODE_GUARD(status, lode_figures_super_weights(plot, item), done);
    status = lode_figures_retention(plot, item);
done:
    lode_report_channels_free(&channels);
    return status;
}

static lode_status_t write_file(const lode_report_t *report, const char *name,
                                const lode_buffer_t *text) {
    char *path;
    LODE_TRY(lode_path_join(&path, report->folder, name));
    lode_status_t status = lode_file_write_atomic(path, text->data, text->length);
    free(path);
    return status;
}

/* audit.csv, where there is an audit, or was one that it would still tell of. */
static lode_status_t write_audit(const lode_report_t *report, const lode_report_case_t *cases,
                                 int64_t count) {
    char *path;
    bool any = false;
    for (int64_t i = 0; i < count; i++)
        any |= cases[i].audit.length > 0;
    LODE_TRY(lode_path_join(&path, report->folder, "audit.csv"));
    any |= lode_file_exists(path);
    free(path);
    if (!any)
        return LODE_OK;
    lode_buffer_t rows = {0};
    lode_status_t status = lode_retention_csv(cases, count, &rows);
    if (status == LODE_OK)
        status = write_file(report, "audit.csv", &rows);
    lode_buffer_free(&rows);
    return status;
}

/* trajectory.csv, where there is a series, or was one that it would still tell of. */
static lode_status_t write_trajectory(const lode_report_t *report, const lode_buffer_t *rows) {
    char *path;
    LODE_TRY(lode_path_join(&path, report->folder, "trajectory.csv"));
    const bool stale = rows->length == 0 && lode_file_exists(path);
    lode_status_t status = LODE_OK;
    if (stale && remove(path) != 0)
        status = lode_fail(LODE_ERR_IO, "%s: cannot be removed: %s", path, strerror(errno));
    free(path);
    LODE_TRY(status);
    return rows->length > 0 ? write_file(report, "trajectory.csv", rows) : LODE_OK;
}

static lode_status_t load_cases(const lode_report_t *report, lode_plot_t *plot,
                                lode_report_case_t *cases, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const lode_report_entry_t *entry = &report->entries[i];
        cases[i].point = entry->point;
        cases[i].model = entry->model;
        cases[i].series = entry->series ? entry->series : "";
        cases[i].step = entry->step;
        cases[i].scratch = entry->scratch;
        cases[i].budget = entry->budget;
        LODE_TRY(set_folder(report, &cases[i]));
        LODE_TRY(load_case(plot, &cases[i]));
    }
    return LODE_OK;
}

static lode_status_t write_files(const lode_report_t *report, const lode_report_case_t *cases,
                                 int64_t count, const lode_buffer_t *trajectory,
                                 const lode_buffer_t *page) {
    lode_buffer_t table = {0}, comparisons = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_report_csv(cases, count, &table), done);
    LODE_GUARD(status, lode_compare_csv(cases, count, &comparisons), done);
    LODE_GUARD(status, write_file(report, "summary.csv", &table), done);
    LODE_GUARD(status, write_file(report, "comparisons.csv", &comparisons), done);
    LODE_GUARD(status, write_audit(report, cases, count), done);
    LODE_GUARD(status, write_trajectory(report, trajectory), done);
    status = write_file(report, "report.html", page);
done:
    lode_buffer_free(&table);
    lode_buffer_free(&comparisons);
    return status;
}

static lode_status_t build(const lode_report_t *report, lode_report_case_t *cases, int64_t count) {
    lode_buffer_t trajectory = {0}, page = {0};
    lode_page_across_t across = {0};
    lode_plot_t plot = {0};
    lode_status_t status;
    LODE_GUARD(status, load_cases(report, &plot, cases, count), done);
    LODE_GUARD(status, lode_training_page(&plot, &across.training, cases, count), done);
    LODE_GUARD(
        status,
        lode_trajectory_all(&plot, &across.trajectory, &trajectory, cases, count, report->seed),
        done);
    LODE_GUARD(status, lode_entropy_page(&plot, &across.entropy, cases, count), done);
    LODE_GUARD(status, lode_page_write(&page, report, cases, count, &across, &plot), done);
    status = write_files(report, cases, count, &trajectory, &page);
done:
    lode_buffer_free(&across.training);
    lode_buffer_free(&across.trajectory);
    lode_buffer_free(&across.entropy);
    lode_buffer_free(&trajectory);
    lode_buffer_free(&page);
    return status;
}

lode_status_t lode_report_build(const lode_report_t *report) {
    const int64_t count = report->count;
    char *path;
    int lock = -1;
    LODE_TRY(lode_path_join(&path, report->folder, "summary.lock"));
    const double patience = 600; /* s; the jobs of an array may all be done at once */
    lode_status_t status = lode_store_lock_wait(&lock, path, "the summary", patience);
    free(path);
    LODE_TRY(status);
    lode_report_case_t *cases;
    status = LODE_NEW(&cases, count, "cases of a report");
    if (status == LODE_OK)
        status = build(report, cases, count);
    for (int64_t i = 0; cases && i < count; i++)
        lode_report_case_free(&cases[i]);
    free(cases);
    lode_store_unlock(&lock);
    return status;
}
