#include "synthesize/synthesize.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "common/outline.h"
#include "common/version.h"
#include "kernels/linear.h"
#include "model/companion.h"
#include "model/describe.h"
#include "model/json_text.h"
#include "model/inventory.h"
#include "synthesize/tokens.h"
#include "synthesize/weights.h"

enum { PIECE_ELEMENTS = 1 << 22, SLACK_BYTES = 1 << 20 };

static const char tokenizer_name[] = "tokenizer.json";
/* What belongs to a tokenizer; the first is needed, the others come along where they are. */
static const char *const tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json",
                                              "special_tokens_map.json"};
enum { TOKENIZER_FILES = sizeof tokenizer_files / sizeof *tokenizer_files };

typedef struct work {
    const lode_synthesize_request_t *request;
    lode_outline_t outline;
    lode_inventory_t inventory;
    lode_writer_t *writer;
    char *config, *tokenizer; /* texts; tokenizer NULL where it is copied, or there is none */
    bool copied[TOKENIZER_FILES];
    char *partial; /* folder */
} work_t;

/* --- what is to be written ------------------------------------------------------------------ */

static lode_status_t prepare_outline(work_t *work) {
    const lode_synthesize_request_t *request = work->request;
    LODE_TRY(lode_outline_open(&work->outline, request->model));
    if (request->layers > 0)
        LODE_TRY(lode_outline_set_layers(&work->outline, request->layers));
    LODE_TRY(lode_outline_set_dtype(&work->outline,
                                    request->dtype ? *request->dtype : work->outline.dtype));
    work->config = lode_json_text_dump(work->outline.json);
    return work->config ? LODE_OK : lode_fail(LODE_ERR_MEMORY, "no memory for config.json");
}

/* The tokenizer of the model's folder, else one of bytes, else none. */
static lode_status_t prepare_tokenizer(work_t *work) {
    for (int i = 0; work->outline.folder && i < TOKENIZER_FILES; i++) {
        char *path;
        LODE_TRY(lode_path_join(&path, work->outline.folder, tokenizer_files[i]));
        work->copied[i] = (i == 0 || work->copied[0]) && lode_file_exists(path);
        free(path);
    }
    if (work->copied[0])
        return LODE_OK;
    LODE_TRY(lode_tokens_by_byte(&work->tokenizer, &work->outline.architecture));
    if (!work->tokenizer)
        lode_log_warning("%s: a vocabulary of %lld has no room for a tokenizer of bytes; put a "
                         "tokenizer.json beside it",
                         work->outline.config, (long long)work->outline.architecture.vocab);
    return LODE_OK;
}

/* Free space of the nearest folder above that exists. */
static lode_status_t check_space(const work_t *work) {
    struct statvfs info;
    char *path;
    LODE_TRY(lode_strdup(&path, work->request->folder));
    while (statvfs(path, &info) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) {
            snprintf(path, strlen(path) + 1, "%s", slash ? "/" : ".");
            if (statvfs(path, &info) == 0)
                break;
            free(path);
            return LODE_OK; /* creating the folder will say what is wrong */
        }
        *slash = '\0';
    }
    free(path);
    const double needed = (double)work->inventory.bytes + SLACK_BYTES;
    const double there = (double)info.f_bavail * (double)info.f_frsize;
    if (needed <= there)
        return LODE_OK;
    return lode_fail(LODE_ERR_IO,
                     "%s: needs %.2f GB and its disk has %.2f GB free; free some space, choose "
                     "another disk, or fewer --layers",
                     work->request->folder, needed / 1e9, there / 1e9);
}

/* Space for the partial folder is needed beside a folder that will be replaced. */
static lode_status_t prepare(work_t *work) {
    lode_buffer_t partial = {0};
    LODE_TRY(prepare_outline(work));
    LODE_TRY(prepare_tokenizer(work));
    LODE_TRY(lode_folder_check(work->request->folder));
    LODE_TRY(
        lode_inventory_create(&work->inventory, &work->outline.architecture, work->outline.dtype));
    LODE_TRY(check_space(work));
    LODE_TRY(lode_buffer_printf(&partial, "%s.partial", work->request->folder));
    const lode_status_t status =
        lode_writer_create(&work->writer, partial.data, work->inventory.list, work->inventory.count,
                           work->request->shard_bytes);
    lode_buffer_free(&partial);
    return status;
}

/* --- writing -------------------------------------------------------------------------------- */

/* lodestone.json: how the folder was made, and all other files in it. */
static char *make_note(const work_t *work) {
    json_t *files = json_array();
    json_array_append_new(files, json_string("config.json"));
    for (int64_t i = 0; i < lode_writer_file_count(work->writer); i++)
        json_array_append_new(files, json_string(lode_writer_file_name(work->writer, i)));
    for (int i = 0; i < TOKENIZER_FILES; i++)
        if (work->copied[i])
            json_array_append_new(files, json_string(tokenizer_files[i]));
    if (work->tokenizer)
        json_array_append_new(files, json_string(tokenizer_name));
    json_t *note =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "lodestone", lode_version(), "commit",
                  lode_commit(), "weights", "random", "seed", (json_int_t)work->request->seed,
                  "dtype", lode_dtype_name(work->outline.dtype), "files", files);
    char *text = note ? json_dumps(note, JSON_INDENT(1)) : NULL;
    json_decref(note);
    return text;
}

static lode_status_t write_text(const work_t *work, const char *name, const char *text) {
    char *path;
    LODE_TRY(lode_path_join(&path, work->partial, name));
    const lode_status_t status = lode_file_write_atomic(path, text, strlen(text));
    free(path);
    return status;
}

static lode_status_t write_tensors(const work_t *work) {
    const lode_inventory_t *inventory = &work->inventory;
    const int64_t size = (int64_t)lode_dtype_size(work->outline.dtype);
    lode_progress_t progress;
    char *piece;
    lode_status_t status = LODE_OK;
    LODE_TRY(LODE_NEW_RAW(&piece, PIECE_ELEMENTS * size, "weights"));
    lode_progress_start(&progress, "synthesize", "tensor", inventory->count);
    for (int64_t i = 0; i < inventory->count && status == LODE_OK; i++) {
        const lode_writer_tensor_t *tensor = &inventory->list[i];
        const int64_t elements = tensor->bytes / size;
        const lode_random_weights_t weights = lode_random_weights(
            &work->outline.architecture, inventory->roles[i], work->request->seed, tensor->name);
        for (int64_t first = 0; first < elements && status == LODE_OK; first += PIECE_ELEMENTS) {
            const int64_t left = elements - first;
            const int64_t count = left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
            lode_random_weights_fill(&weights, work->outline.dtype, first, count, piece);
            status =
                lode_writer_write(work->writer, i, first * size, piece, (size_t)(count * size));
        }
        lode_progress_add(&progress, 1, 0);
    }
    lode_progress_end(&progress);
    free(piece);
    return status;
}

static lode_status_t write_all(work_t *work) {
    LODE_TRY(lode_writer_lay_out(work->writer));
    LODE_TRY(write_text(work, "config.json", work->config));
    for (int i = 0; i < TOKENIZER_FILES; i++)
        if (work->copied[i])
            LODE_TRY(lode_companion_copy(work->outline.folder, work->partial, tokenizer_files[i]));
    if (work->tokenizer)
        LODE_TRY(write_text(work, tokenizer_name, work->tokenizer));
    LODE_TRY(write_tensors(work));
    LODE_TRY(lode_writer_sync(work->writer));
    return lode_folder_commit(work->request->folder);
}

static lode_status_t write_folder(work_t *work) {
    const char *folder = work->request->folder;
    char *note = make_note(work);
    if (!note)
        return lode_fail(LODE_ERR_MEMORY, "no memory for %s", lode_folder_note);
    lode_status_t status = lode_folder_begin(&work->partial, folder, note);
    free(note);
    LODE_TRY(status);
    status = write_all(work);
    if (status != LODE_OK)
        lode_folder_abandon(folder);
    return status;
}

lode_status_t lode_synthesize(const lode_synthesize_request_t *request) {
    work_t work = {.request = request};
    lode_set_threads(request->threads);
    lode_status_t status = prepare(&work);
    if (status == LODE_OK)
        status = write_folder(&work);
    if (status == LODE_OK) {
        char description[LODE_DESCRIPTION_BYTES];
        lode_architecture_describe(description, &work.outline.architecture);
        printf("%s: %s, %lld layers, %s, %.2f GB in %lld files, random weights of seed %lld%s\n",
               request->folder, description, (long long)work.outline.architecture.layers,
               lode_dtype_name(work.outline.dtype), (double)work.inventory.bytes / 1e9,
               (long long)lode_writer_file_count(work.writer), (long long)request->seed,
               work.tokenizer ? ", a tokenizer of bytes" : "");
    }
    lode_writer_destroy(&work.writer);
    lode_inventory_free(&work.inventory);
    lode_outline_close(&work.outline);
    free(work.config);
    free(work.tokenizer);
    free(work.partial);
    return status;
}
