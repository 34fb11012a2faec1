#include "export/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "export/plan.h"
#include "export/tensors.h"
#include "model/companion.h"

enum { NAME_BYTES = 64, SHOWN_VARIANTS = 6 };

/* --- which variants ------------------------------------------------------------------------- */

static bool is_variant(const char *name, const lode_variant_t *variants, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (strcmp(variants[i].name, name) == 0)
            return true;
    return strcmp(name, "dense") == 0;
}

/* Names the nearest variant, or else the first ones. */
static lode_status_t fail_variant(const lode_config_t *config, int64_t number,
                                  const lode_variant_t *variants, int64_t count) {
    const char **names;
    char key[NAME_BYTES];
    lode_buffer_t advice = {0};
    snprintf(key, sizeof key, "export.[%lld].variant", (long long)number);
    LODE_TRY(LODE_NEW(&names, count + 1, "names of variants"));
    names[0] = "dense";
    for (int64_t i = 0; i < count; i++)
        names[i + 1] = variants[i].name;
    const char *name = config->exports[number].variant;
    const char *near = lode_config_nearest(name, names, count + 1);
    lode_status_t status = near ? lode_buffer_printf(&advice, "did you mean \"%s\"?", near)
                                : lode_buffer_printf(&advice, "its variants are dense");
    for (int64_t i = 0; !near && i < count && i < SHOWN_VARIANTS && status == LODE_OK; i++)
        status = lode_buffer_printf(&advice, ", %s", variants[i].name);
    if (!near && count > SHOWN_VARIANTS && status == LODE_OK)
        status = lode_buffer_printf(&advice, " …");
    if (status == LODE_OK)
        status = lode_fail(LODE_ERR_CONFIG, "%s: %s: the experiment has no variant \"%.100s\"; %s",
                           lode_config_where(config, key), key, name, advice.data);
    lode_buffer_free(&advice);
    free((void *)names);
    return status;
}

/* The path without empty and "." components and a slash at the end; the caller's. */
static lode_status_t tidy(char **out, const char *path) {
    LODE_TRY(lode_strdup(out, path));
    char *end = *out;
    for (const char *next = path; *next;) {
        const size_t length = strcspn(next, "/");
        const bool skipped = length == 0 || (length == 1 && *next == '.');
        if (!skipped) {
            if (end != *out || *path == '/')
                *end++ = '/';
            memcpy(end, next, length);
            end += length;
        }
        next += length + (next[length] == '/');
    }
    *end = '\0';
    return LODE_OK;
}

/* Whether `inner` is the folder `outer` or lies in it. */
static bool lies_in(const char *inner, const char *outer) {
    const size_t length = strlen(outer);
    return strncmp(inner, outer, length) == 0 && (inner[length] == '\0' || inner[length] == '/');
}

/* A folder in another's would keep that from ever being replaced, and the names that a folder has
 * on its way are not for others. */
static lode_status_t check_path(const lode_config_t *config, int64_t number) {
    static const char *const endings[] = {".partial", ".replaced"};
    char key[NAME_BYTES], *path = NULL, *other = NULL;
    lode_status_t status = tidy(&path, config->exports[number].path);
    snprintf(key, sizeof key, "export.[%lld].path", (long long)number);
    const char *where = lode_config_where(config, key);
    for (int i = 0; i < 2 && status == LODE_OK; i++) {
        const size_t length = strlen(path), ending = strlen(endings[i]);
        if (length >= ending && strcmp(path + length - ending, endings[i]) == 0)
            status = lode_fail(LODE_ERR_CONFIG,
                               "%s: %s: \"%s\" ends in %s, as unfinished folders do; choose "
                               "another name",
                               where, key, config->exports[number].path, endings[i]);
    }
    for (int64_t i = 0; i < number && status == LODE_OK; i++) {
        status = tidy(&other, config->exports[i].path);
        if (status == LODE_OK && (lies_in(path, other) || lies_in(other, path)))
            status = lode_fail(LODE_ERR_CONFIG,
                               "%s: %s: \"%s\" and \"%s\" are the same folder, or one lies in the "
                               "other; give each export a folder of its own",
                               where, key, config->exports[i].path, config->exports[number].path);
        free(other);
        other = NULL;
    }
    free(path);
    return status;
}

/* Whether the folders of an entry can be written. */
static lode_status_t check_folders(const lode_config_t *config, int64_t number, const char *point,
                                   const char *only) {
    for (int64_t m = 0; m < config->model_count; m++) {
        const lode_config_model_t *model = &config->models[m];
        char *folder;
        if (only && strcmp(only, model->name) != 0)
            continue;
        LODE_TRY(
            lode_export_folder(&folder, config, point, model->name, config->exports[number].path));
        lode_status_t status = LODE_OK;
        for (int64_t i = 0; i < config->model_count && status == LODE_OK; i++)
            status = lode_export_check_source(config, number, folder, config->models[i].path);
        if (status == LODE_OK)
            status = lode_folder_check(folder);
        free(folder);
        LODE_TRY(status);
    }
    return LODE_OK;
}

lode_status_t lode_export_check(const lode_config_t *config, const char *point, const char *model) {
    lode_variant_t *variants;
    int64_t count;
    if (config->export_count == 0)
        return LODE_OK;
    for (int64_t i = 0; i < config->export_count; i++)
        LODE_TRY(check_path(config, i));
    LODE_TRY(lode_variants_list(&variants, &count, config));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < config->export_count && status == LODE_OK; i++)
        if (!is_variant(config->exports[i].variant, variants, count))
            status = fail_variant(config, i, variants, count);
    lode_variants_free(&variants, count);
    for (int64_t i = 0; i < config->export_count && status == LODE_OK; i++)
        status = check_folders(config, i, point, model);
    return status;
}

/* --- the record ----------------------------------------------------------------------------- */

static void group_name(char name[NAME_BYTES], int64_t number) {
    snprintf(name, NAME_BYTES, "/exports/%lld", (long long)number);
}

/* Writes what the plan says into export.h5. Collective. */
static lode_status_t record(lode_store_t *store, const lode_run_t *run,
                            const lode_export_plan_t *plan) {
    char group[NAME_BYTES], name[NAME_BYTES + 16];
    const int64_t offset = 0;
    group_name(group, plan->number);
    snprintf(name, sizeof name, "%s/widths", group);
    LODE_TRY(lode_store_dataset(store, name, LODE_TYPE_I64, 1, &plan->layers, false));
    LODE_TRY(lode_store_attribute_text(store, group, "variant", plan->entry->variant));
    LODE_TRY(lode_store_attribute_text(store, group, "path", plan->folder));
    LODE_TRY(lode_store_attribute_text(store, group, "layout", lode_export_plan_layout(plan)));
    LODE_TRY(lode_store_attribute_text(store, group, "digest", plan->digest));
    LODE_TRY(lode_store_attribute_i64(store, group, "intermediate_size", plan->width));
    /* A failed write sticks to the store and fails its commit. */
    if (run->comm->rank == 0)
        return lode_store_write(store, name, &offset, &plan->layers, plan->widths);
    return LODE_OK;
}

/* Whether the folder that the record's entry `number` names is what it says. */
static bool is_present(lode_store_t *store, int64_t number) {
    char group[NAME_BYTES], *path = NULL, *digest = NULL;
    group_name(group, number);
    const bool present =
        lode_store_get_attribute_text(store, group, "path", &path) == LODE_OK &&
        lode_store_get_attribute_text(store, group, "digest", &digest) == LODE_OK &&
        strlen(digest) == LODE_DIGEST_TEXT - 1 && lode_folder_is(path, digest);
    free(path);
    free(digest);
    return present;
}

bool lode_export_present(const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char *path;
    lode_store_t *store = NULL;
    if (lode_run_path(&path, run, LODE_STAGE_EXPORT) != LODE_OK)
        return false;
    bool present = lode_store_open(&store, &alone, path) == LODE_OK;
    for (int64_t i = 0; i < run->config->export_count && present; i++)
        present = is_present(store, i);
    lode_store_close(&store);
    free(path);
    return present;
}

/* --- one folder ----------------------------------------------------------------------------- */

/* Names of all files but the note: *files [*count] is the caller's, the names are not. */
static lode_status_t list_files(const char ***files, int64_t *count, const lode_writer_t *writer,
                                char *const *companions, int64_t companion_count) {
    const int64_t weights = lode_writer_file_count(writer);
    LODE_TRY(LODE_NEW(files, 1 + weights + companion_count, "names of files"));
    *count = 0;
    (*files)[(*count)++] = "config.json";
    for (int64_t i = 0; i < weights; i++)
        (*files)[(*count)++] = lode_writer_file_name(writer, i);
    for (int64_t i = 0; i < companion_count; i++)
        (*files)[(*count)++] = companions[i];
    return LODE_OK;
}

static lode_status_t write_config(const lode_export_plan_t *plan, const lode_run_t *run,
                                  const char *partial) {
    lode_buffer_t text = {0};
    char *path = NULL;
    lode_status_t status = lode_export_plan_config(plan, run, &text);
    if (status == LODE_OK)
        status = lode_path_join(&path, partial, "config.json");
    if (status == LODE_OK)
        status = lode_file_write_atomic(path, text.data, text.length);
    lode_buffer_free(&text);
    free(path);
    return status;
}

/* Creates the folder with all but the tensors' bytes. For one rank. */
static lode_status_t lay_out(const lode_export_plan_t *plan, const lode_run_t *run,
                             lode_writer_t *writer) {
    const char *source = lode_checkpoint_folder(run->checkpoint);
    char **companions, *partial = NULL;
    const char **files = NULL;
    int64_t companion_count, count;
    lode_buffer_t note = {0};
    lode_status_t status;
    LODE_TRY(lode_companion_list(&companions, &companion_count, source));
    LODE_GUARD(status, list_files(&files, &count, writer, companions, companion_count), done);
    LODE_GUARD(status, lode_export_plan_note(plan, run, files, count, &note), done);
    LODE_GUARD(status, lode_folder_begin(&partial, plan->folder, note.data), done);
    LODE_GUARD(status, lode_writer_lay_out(writer), abandon);
    LODE_GUARD(status, write_config(plan, run, partial), abandon);
    for (int64_t i = 0; i < companion_count; i++)
        LODE_GUARD(status, lode_companion_copy(source, partial, companions[i]), abandon);
    status = lode_writer_begin_marks(writer);
abandon:
    if (status != LODE_OK)
        lode_folder_abandon(plan->folder);
done:
    lode_buffer_free(&note);
    free(partial);
    free((void *)files);
    lode_companion_free(&companions, companion_count);
    return status;
}

static lode_status_t plan_writer(lode_writer_t **writer, const lode_export_plan_t *plan,
                                 lode_buffer_t *partial) {
    LODE_TRY(lode_buffer_printf(partial, "%s.partial", plan->folder));
    return lode_writer_create(writer, partial->data, plan->list, plan->count,
                              LODE_WRITER_SHARD_BYTES);
}

/* Goes on with the folder that an interrupted run left, or begins one. Collective. */
static lode_status_t begin_folder(const lode_export_plan_t *plan, const lode_run_t *run,
                                  lode_writer_t *writer, const char *partial) {
    lode_status_t status = LODE_OK;
    if (run->comm->rank == 0 &&
        (run->force || !lode_folder_is(partial, plan->digest) || !lode_writer_interrupted(writer)))
        status = lay_out(plan, run, writer);
    LODE_TRY(lode_comm_agree(run->comm, status));
    LODE_TRY(lode_comm_agree(run->comm, lode_writer_open_marks(writer)));
    int64_t done = 0;
    for (int64_t i = 0; i < plan->count; i++)
        done += lode_writer_done(writer, i);
    lode_run_say_resumed("export", done, plan->count, "tensors");
    return LODE_OK;
}

/* Records what is written, whatever has become of the rest; a failure's message stays. */
static lode_status_t end_writing(lode_writer_t *writer, lode_status_t status) {
    char message[LODE_MESSAGE_MAX];
    if (status == LODE_OK)
        return lode_writer_sync(writer);
    snprintf(message, sizeof message, "%s", lode_error_message());
    (void)!lode_writer_sync(writer);
    return lode_fail(status, "%s", message);
}

/* Gives the complete folder its name. For one rank. */
static lode_status_t finish_folder(const lode_export_plan_t *plan, const lode_writer_t *writer) {
    lode_status_t status = lode_writer_end_marks(writer);
    if (status == LODE_OK)
        status = lode_folder_commit(plan->folder);
    if (status != LODE_OK)
        lode_folder_abandon(plan->folder);
    return status;
}

/* Where it is interrupted or fails, the folder stays for the next run to go on with, unless that
 * would fail alike. Collective. */
static lode_status_t write_folder(const lode_export_plan_t *plan, lode_run_t *run,
                                  lode_store_t *compensate) {
    const bool first = run->comm->rank == 0;
    lode_buffer_t partial = {0};
    lode_writer_t *writer = NULL;
    lode_status_t status = lode_comm_agree(run->comm, plan_writer(&writer, plan, &partial));
    if (status == LODE_OK)
        status = begin_folder(plan, run, writer, partial.data);
    if (status == LODE_OK) {
        status = lode_export_tensors(writer, plan, run, compensate);
        status = lode_comm_agree(run->comm, end_writing(writer, status));
        if (first && status == LODE_ERR_NUMERIC)
            lode_folder_abandon(plan->folder);
    }
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, first ? finish_folder(plan, writer) : LODE_OK);
    lode_writer_destroy(&writer);
    lode_buffer_free(&partial);
    return status;
}

/* Plans, records and writes one entry. Collective. */
static lode_status_t export_entry(lode_run_t *run, int64_t number, const lode_variant_t *variants,
                                  int64_t count, lode_store_t *const inputs[2],
                                  lode_store_t *store) {
    lode_export_plan_t plan;
    lode_status_t status =
        lode_comm_agree(run->comm, lode_export_plan_create(&plan, run, number, variants, count,
                                                           inputs[0], inputs[1]));
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, record(store, run, &plan));
    int there = 0;
    if (status == LODE_OK) {
        if (run->comm->rank == 0)
            there = !run->force && lode_folder_is(plan.folder, plan.digest);
        status = lode_comm_broadcast(run->comm, &there, sizeof there, 0);
    }
    if (status == LODE_OK && !there)
        status = write_folder(&plan, run, inputs[1]);
    if (status == LODE_OK)
        lode_log_info("export: %s %s %s, %s, %lld channels a layer", plan.entry->variant,
                      there ? "is already in" : "written to", plan.folder,
                      lode_export_plan_layout(&plan), (long long)plan.width);
    lode_export_plan_free(&plan);
    return status;
}

/* --- the stage ------------------------------------------------------------------------------ */

/* Whether an exported variant has something in compensate.h5. */
static bool needs_compensate(const lode_config_t *config, const lode_variant_t *variants,
                             int64_t count) {
    for (int64_t e = 0; e < config->export_count; e++)
        for (int64_t i = 0; i < count; i++)
            if (strcmp(variants[i].name, config->exports[e].variant) == 0 &&
                variants[i].compensation != LODE_COMPENSATION_NONE)
                return true;
    return false;
}

lode_status_t lode_stage_export(lode_run_t *run) {
    lode_store_t *inputs[2] = {NULL, NULL}, *store = NULL; /* inputs: prune, compensate */
    lode_variant_t *variants = NULL;
    int64_t count = 0;
    lode_status_t status = run->comm->rank == 0
                               ? lode_export_check(run->config, run->point, run->model->name)
                               : LODE_OK;
    if (status == LODE_OK)
        status = lode_variants_list(&variants, &count, run->config);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_run_open(&inputs[0], run, LODE_STAGE_PRUNE);
    if (status == LODE_OK && needs_compensate(run->config, variants, count))
        status = lode_run_open(&inputs[1], run, LODE_STAGE_COMPENSATE);
    if (status == LODE_OK)
        status = lode_run_create(&store, run, LODE_STAGE_EXPORT);
    for (int64_t i = 0; i < run->config->export_count && status == LODE_OK; i++) {
        status = lode_comm_stop(run->comm, 0);
        if (status == LODE_OK)
            status = export_entry(run, i, variants, count, inputs, store);
    }
    if (store)
        status = lode_run_finish(&store, run, LODE_STAGE_EXPORT, status);
    lode_store_close(&inputs[1]);
    lode_store_close(&inputs[0]);
    lode_variants_free(&variants, count);
    return status;
}
