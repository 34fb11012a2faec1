#include "export/write.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/folder.h"
#include "export/tensors.h"
#include "model/companion.h"

/* One for each set of files that the folder has. */
typedef struct writers {
    int count;
    lode_writer_t *of[LODE_EXPORT_SETS];
} writers_t;

/* --- beginning a folder ---------------------------------------------------------------------- */

/* An index of one shard is for loaders that would take the file of parameters for weights. */
static lode_status_t plan_writers(writers_t *writers, const lode_export_plan_t *plan,
                                  lode_buffer_t *partial) {
    const bool several = plan->count[LODE_EXPORT_PARAMETERS] > 0;
    const lode_writer_set_t sets[LODE_EXPORT_SETS] = {
        [LODE_EXPORT_WEIGHTS] = {.stem = "model",
                                 .shard_bytes = LODE_WRITER_SHARD_BYTES,
                                 .indexed = several},
        [LODE_EXPORT_PARAMETERS] = {.stem = "quantization",
                                    .shard_bytes = LODE_WRITER_SHARD_BYTES}};
    LODE_TRY(lode_buffer_printf(partial, "%s.partial", plan->folder));
    for (int set = 0; set < (several ? LODE_EXPORT_SETS : LODE_EXPORT_PARAMETERS); set++) {
        LODE_TRY(lode_writer_create_set(&writers->of[set], partial->data, &sets[set],
                                        plan->list[set], plan->count[set]));
        writers->count++;
    }
    return LODE_OK;
}

/* Names of all files but the note: *files [*count] is the caller's, the names are not. */
static lode_status_t list_files(const char ***files, int64_t *count, const writers_t *writers,
                                char *const *companions, int64_t companion_count) {
    int64_t most = 1 + companion_count;
    for (int set = 0; set < writers->count; set++)
        most += lode_writer_file_count(writers->of[set]);
    LODE_TRY(LODE_NEW(files, most, "names of files"));
    *count = 0;
    (*files)[(*count)++] = "config.json";
    for (int set = 0; set < writers->count; set++)
        for (int64_t i = 0; i < lode_writer_file_count(writers->of[set]); i++)
            (*files)[(*count)++] = lode_writer_file_name(writers->of[set], i);
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
                             writers_t *writers) {
    const char *source = lode_checkpoint_folder(run->checkpoint);
    char **companions, *partial = NULL;
    const char **files = NULL;
    int64_t companion_count, count;
    lode_buffer_t note = {0};
    lode_status_t status;
    LODE_TRY(lode_companion_list(&companions, &companion_count, source));
    LODE_GUARD(status, list_files(&files, &count, writers, companions, companion_count), done);
    LODE_GUARD(status, lode_export_plan_note(plan, run, files, count, &note), done);
    LODE_GUARD(status, lode_folder_begin(&partial, plan->folder, note.data), done);
    for (int set = 0; set < writers->count; set++)
        LODE_GUARD(status, lode_writer_lay_out(writers->of[set]), abandon);
    LODE_GUARD(status, write_config(plan, run, partial), abandon);
    for (int64_t i = 0; i < companion_count; i++)
        LODE_GUARD(status, lode_companion_copy(source, partial, companions[i]), abandon);
    for (int set = 0; set < writers->count && status == LODE_OK; set++)
        status = lode_writer_begin_marks(writers->of[set]);
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

/* Whether an interrupted run has left a folder that can be gone on with. */
static bool is_begun(const writers_t *writers, const char *partial, const char *digest) {
    bool begun = lode_folder_is(partial, digest);
    for (int set = 0; set < writers->count && begun; set++)
        begun = lode_writer_interrupted(writers->of[set]);
    return begun;
}

static lode_status_t open_marks(writers_t *writers) {
    for (int set = 0; set < writers->count; set++)
        LODE_TRY(lode_writer_open_marks(writers->of[set]));
    return LODE_OK;
}

/* Goes on with the folder that an interrupted run left, or begins one. Collective. */
static lode_status_t begin_folder(const lode_export_plan_t *plan, const lode_run_t *run,
                                  writers_t *writers, const char *partial) {
    lode_status_t status = LODE_OK;
    int64_t done = 0, all = 0;
    if (run->comm->rank == 0 && (run->force || !is_begun(writers, partial, plan->digest)))
        status = lay_out(plan, run, writers);
    LODE_TRY(lode_comm_agree(run->comm, status));
    LODE_TRY(lode_comm_agree(run->comm, open_marks(writers)));
    for (int set = 0; set < writers->count; set++)
        for (int64_t i = 0; i < plan->count[set]; i++) {
            done += lode_writer_done(writers->of[set], i);
            all++;
        }
    lode_run_say_resumed("export", done, all, "tensors");
    return LODE_OK;
}

/* --- writing it ------------------------------------------------------------------------------ */

/* Syncs all sets, whatever becomes of one; the first failure counts. */
static lode_status_t sync_all(writers_t *writers) {
    lode_status_t status = LODE_OK;
    for (int set = 0; set < writers->count; set++) {
        const lode_status_t own = lode_writer_sync(writers->of[set]);
        status = status == LODE_OK ? own : status;
    }
    return status;
}

/* Records what is written, whatever has become of the rest; a failure's message stays. */
static lode_status_t end_writing(writers_t *writers, lode_status_t status) {
    char message[LODE_MESSAGE_MAX];
    if (status == LODE_OK)
        return sync_all(writers);
    snprintf(message, sizeof message, "%s", lode_error_message());
    (void)!sync_all(writers);
    return lode_fail(status, "%s", message);
}

/* Gives the complete folder its name. For one rank. */
static lode_status_t finish_folder(const lode_export_plan_t *plan, const writers_t *writers) {
    lode_status_t status = LODE_OK;
    for (int set = 0; set < writers->count && status == LODE_OK; set++)
        status = lode_writer_end_marks(writers->of[set]);
    if (status == LODE_OK)
        status = lode_folder_commit(plan->folder);
    if (status != LODE_OK)
        lode_folder_abandon(plan->folder);
    return status;
}

lode_status_t lode_export_write(const lode_export_plan_t *plan, lode_run_t *run,
                                const lode_export_inputs_t *inputs) {
    const bool first = run->comm->rank == 0;
    lode_buffer_t partial = {0};
    writers_t writers = {0};
    lode_status_t status = lode_comm_agree(run->comm, plan_writers(&writers, plan, &partial));
    if (status == LODE_OK)
        status = begin_folder(plan, run, &writers, partial.data);
    if (status == LODE_OK) {
        status = lode_export_tensors(writers.of, plan, run, inputs);
        status = lode_comm_agree(run->comm, end_writing(&writers, status));
        if (first && status == LODE_ERR_NUMERIC)
            lode_folder_abandon(plan->folder);
    }
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, first ? finish_folder(plan, &writers) : LODE_OK);
    for (int set = 0; set < writers.count; set++)
        lode_writer_destroy(&writers.of[set]);
    lode_buffer_free(&partial);
    return status;
}
