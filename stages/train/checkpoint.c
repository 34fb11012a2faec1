#include "train/checkpoint.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/folder.h"
#include "common/outline.h"
#include "common/version.h"
#include "model/companion.h"
#include "model/json_text.h"
#include "model/writer.h"

enum { PIECE_ELEMENTS = 1 << 20 };
enum {
    HEADER_BYTES = 512, /* of a tensor's places in the headers and the index, at most */
    BLOCK_BYTES = 4096  /* that a file may leave empty */
};

static const char tokenizer_name[] = "tokenizer.json";

/* --- what all folders have in common --------------------------------------------------------- */

/* The source's config.json, its own text where it names the type already. */
static lode_status_t make_config(char **config, const char *model, lode_dtype_t dtype) {
    lode_outline_t outline;
    char *before = NULL, *after = NULL;
    size_t size;
    LODE_TRY(lode_outline_open(&outline, model));
    before = lode_json_text_dump(outline.json);
    lode_status_t status = lode_outline_set_dtype(&outline, dtype);
    if (status == LODE_OK)
        after = lode_json_text_dump(outline.json);
    if (status == LODE_OK && (!before || !after))
        status = lode_fail(LODE_ERR_MEMORY, "no memory for config.json");
    if (status == LODE_OK && strcmp(before, after) == 0) {
        status = lode_file_read(config, &size, outline.config);
    } else if (status == LODE_OK) {
        *config = after;
        after = NULL;
    }
    free(before);
    free(after);
    lode_outline_close(&outline);
    return status;
}

lode_status_t lode_train_folders_create(lode_train_folders_t *folders, const lode_run_t *run,
                                        const lode_layout_t *layout,
                                        const lode_inventory_t *inventory, const char *course,
                                        lode_dtype_t dtype) {
    *folders = (lode_train_folders_t){
        .run = run, .layout = layout, .inventory = inventory, .course = course, .dtype = dtype};
    return make_config(&folders->config, run->model->path, dtype);
}

void lode_train_folders_free(lode_train_folders_t *folders) {
    free(folders->config);
    *folders = (lode_train_folders_t){0};
}

lode_status_t lode_train_folder_path(char **path, const char *folder, int64_t step) {
    lode_buffer_t name = {0};
    lode_status_t status = lode_config_step_name(&name, step);
    if (status == LODE_OK)
        status = lode_path_join(path, folder, name.data);
    lode_buffer_free(&name);
    return status;
}

void lode_train_folder_find(char digest[LODE_DIGEST_TEXT], const lode_train_folders_t *folders,
                            int64_t step) {
    char *path, course[LODE_DIGEST_TEXT], dtype[LODE_DIGEST_TEXT];
    *digest = '\0';
    if (lode_train_folder_path(&path, folders->run->folder, step) != LODE_OK)
        return;
    lode_folder_text(course, path, "training");
    lode_folder_text(dtype, path, "dtype");
    lode_folder_text(digest, path, "digest");
    if (strcmp(course, folders->course) != 0 ||
        strcmp(dtype, lode_dtype_name(folders->dtype)) != 0 ||
        lode_folder_integer(path, "step") != step || !lode_folder_is(path, digest))
        *digest = '\0';
    free(path);
}

/* --- tensors --------------------------------------------------------------------------------- */

/* Whether this rank hashes and writes a parameter: one of those that have it does. */
static bool is_mine(const lode_layout_t *layout, const lode_parameter_t *parameter) {
    return parameter->counted && layout->replica >= 0 &&
           parameter->index % layout->replicas == layout->replica;
}

/* Rounds a piece of a parameter as it goes into the folder. */
static lode_status_t round_piece(void *out, const lode_train_folders_t *folders,
                                 const lode_parameters_t *parameters,
                                 const lode_parameter_t *parameter, int64_t first, int64_t count) {
    const float *values = parameters->weights + parameter->offset + first;
    const char *name = folders->inventory->list[parameter->index].name;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return lode_fail(LODE_ERR_NUMERIC, "tensor \"%s\": a weight is not finite", name);
    return lode_fail_context(lode_writer_round(out, folders->dtype, values, count), "tensor \"%s\"",
                             name);
}

/* Takes the rounded bytes of this rank's parameters, piece by piece. */
typedef struct sink {
    lode_hash_t *hash;                /* of the parameter in hand, or NULL */
    char (*digest)[LODE_DIGEST_TEXT]; /* with it: [tensors] */
    lode_writer_t *writer;            /* or NULL */
} sink_t;

static lode_status_t put_parameter(sink_t *sink, const lode_train_folders_t *folders,
                                   const lode_parameters_t *parameters,
                                   const lode_parameter_t *parameter, void *piece) {
    const int64_t size = (int64_t)lode_dtype_size(folders->dtype);
    lode_status_t status = LODE_OK;
    if (sink->digest)
        LODE_TRY(lode_hash_create(&sink->hash));
    for (int64_t first = 0; first < parameter->elements && status == LODE_OK;
         first += PIECE_ELEMENTS) {
        const int64_t left = parameter->elements - first;
        const int64_t count = left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
        status = round_piece(piece, folders, parameters, parameter, first, count);
        if (status == LODE_OK && sink->hash)
            lode_hash_add(sink->hash, piece, (size_t)(count * size));
        if (status == LODE_OK && sink->writer)
            status = lode_writer_write(sink->writer, parameter->index, first * size, piece,
                                       (size_t)(count * size));
    }
    if (sink->hash)
        lode_hash_text(sink->hash, sink->digest[parameter->index]);
    lode_hash_destroy(&sink->hash);
    return status;
}

static lode_status_t put_mine(sink_t *sink, const lode_train_folders_t *folders,
                              const lode_parameters_t *parameters) {
    void *piece;
    lode_status_t status = LODE_OK;
    LODE_TRY(lode_alloc_raw(&piece, PIECE_ELEMENTS, lode_dtype_size(folders->dtype),
                            "weights to write"));
    for (int64_t p = 0; p < parameters->count && status == LODE_OK; p++)
        if (is_mine(folders->layout, &parameters->list[p]))
            status = put_parameter(sink, folders, parameters, &parameters->list[p], piece);
    free(piece);
    return status;
}

/* Joins the digests of the tensors, in the order of the model. Local. */
static lode_status_t join_digests(char digest[LODE_DIGEST_TEXT],
                                  const lode_train_folders_t *folders,
                                  char (*digests)[LODE_DIGEST_TEXT]) {
    const lode_inventory_t *inventory = folders->inventory;
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add_text(hash, folders->config);
    for (int64_t i = 0; i < inventory->count; i++) {
        lode_hash_add_text(hash, inventory->list[i].name);
        lode_hash_add_text(hash, digests[i]);
    }
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

/* Collective. */
static lode_status_t digest_weights(char digest[LODE_DIGEST_TEXT],
                                    const lode_train_folders_t *folders,
                                    const lode_parameters_t *parameters) {
    const lode_comm_t *comm = folders->run->comm;
    const int64_t count = folders->inventory->count;
    sink_t sink = {0};
    int bytes = 0;
    lode_status_t status = lode_narrow(&bytes, count * LODE_DIGEST_TEXT, "tensors of the model");
    if (status == LODE_OK)
        status = LODE_NEW(&sink.digest, count, "digests of tensors");
    if (status == LODE_OK)
        status = put_mine(&sink, folders, parameters);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK) {
        /* Each was set by one rank and is zero on the others. */
        MPI_Allreduce(MPI_IN_PLACE, sink.digest, bytes, MPI_UNSIGNED_CHAR, MPI_MAX, comm->comm);
        status = lode_comm_agree(comm, join_digests(digest, folders, sink.digest));
    }
    free(sink.digest);
    return status;
}

/* --- what lies beside them ------------------------------------------------------------------- */

/* Companions of the source, but its tokenizer where another was trained. */
typedef struct companions {
    char **name; /* as listed */
    int64_t count;
    bool trained;
} companions_t;

static bool is_copied(const companions_t *companions, int64_t i) {
    return !companions->trained || strcmp(companions->name[i], tokenizer_name) != 0;
}

/* *companions is for free_companions. */
static lode_status_t list_companions(companions_t *companions, const lode_run_t *run) {
    *companions = (companions_t){.trained = run->config->train.tokenizer.vocabulary > 0};
    return lode_companion_list(&companions->name, &companions->count, run->model->path);
}

static void free_companions(companions_t *companions) {
    lode_companion_free(&companions->name, companions->count);
}

/* Adds the bytes that a file takes on the disk; of one that is not there, copying will say so. */
static lode_status_t add_file(int64_t *bytes, const char *folder, const char *name) {
    struct stat info;
    char *path;
    LODE_TRY(lode_path_join(&path, folder, name));
    if (stat(path, &info) == 0)
        *bytes += info.st_size + BLOCK_BYTES;
    free(path);
    return LODE_OK;
}

lode_status_t lode_train_folder_bytes(int64_t *bytes, const lode_train_folders_t *folders) {
    const lode_run_t *run = folders->run;
    companions_t companions;
    LODE_TRY(list_companions(&companions, run));
    *bytes = folders->inventory->bytes + folders->inventory->count * HEADER_BYTES +
             (int64_t)strlen(folders->config) + 3 * BLOCK_BYTES;
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < companions.count && status == LODE_OK; i++)
        if (is_copied(&companions, i))
            status = add_file(bytes, run->model->path, companions.name[i]);
    if (status == LODE_OK && companions.trained)
        status = add_file(bytes, run->folder, tokenizer_name);
    free_companions(&companions);
    return status;
}

/* lodestone.json: what the folder is, and all other files in it; the caller's. */
static lode_status_t make_note(char **text, const lode_train_folders_t *folders,
                               const lode_writer_t *writer, const companions_t *companions,
                               int64_t step, const char *digest) {
    const lode_run_t *run = folders->run;
    json_t *files = json_array();
    json_array_append_new(files, json_string("config.json"));
    for (int64_t i = 0; i < lode_writer_file_count(writer); i++)
        json_array_append_new(files, json_string(lode_writer_file_name(writer, i)));
    for (int64_t i = 0; i < companions->count; i++)
        if (is_copied(companions, i))
            json_array_append_new(files, json_string(companions->name[i]));
    if (companions->trained)
        json_array_append_new(files, json_string(tokenizer_name));
    json_t *note = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:o}", "lodestone",
                             lode_version(), "commit", lode_commit(), "series", run->model->name,
                             "step", (json_int_t)step, "dtype", lode_dtype_name(folders->dtype),
                             "training", folders->course, "digest", digest, "files", files);
    *text = note ? json_dumps(note, JSON_INDENT(1)) : NULL;
    json_decref(note);
    return *text ? LODE_OK : lode_fail(LODE_ERR_MEMORY, "no memory for %s", lode_folder_note);
}

static lode_status_t write_config(const lode_train_folders_t *folders, const char *partial) {
    char *path;
    LODE_TRY(lode_path_join(&path, partial, "config.json"));
    const lode_status_t status =
        lode_file_write_atomic(path, folders->config, strlen(folders->config));
    free(path);
    return status;
}

static lode_status_t copy_companions(const lode_run_t *run, const companions_t *companions,
                                     const char *partial) {
    for (int64_t i = 0; i < companions->count; i++)
        if (is_copied(companions, i))
            LODE_TRY(lode_companion_copy(run->model->path, partial, companions->name[i]));
    return companions->trained ? lode_companion_copy(run->folder, partial, tokenizer_name)
                               : LODE_OK;
}

/* --- the folder ------------------------------------------------------------------------------ */

/* Creates <path>.partial with all but the tensors' bytes. For one rank. */
static lode_status_t lay_out(const lode_train_folders_t *folders, lode_writer_t *writer,
                             const char *path, int64_t step, const char *digest) {
    const lode_run_t *run = folders->run;
    companions_t companions;
    char *note = NULL, *partial = NULL;
    lode_status_t status;
    LODE_TRY(list_companions(&companions, run));
    LODE_GUARD(status, make_note(&note, folders, writer, &companions, step, digest), done);
    LODE_GUARD(status, lode_folder_begin(&partial, path, note), done);
    status = lode_writer_lay_out(writer);
    if (status == LODE_OK)
        status = write_config(folders, partial);
    if (status == LODE_OK)
        status = copy_companions(run, &companions, partial);
    if (status != LODE_OK)
        lode_folder_abandon(path);
done:
    free(note);
    free(partial);
    free_companions(&companions);
    return status;
}

/* Fills the folder that is laid out, and gives it its name. Collective. */
static lode_status_t fill_folder(sink_t *sink, const lode_train_folders_t *folders,
                                 const lode_parameters_t *parameters, const char *path) {
    const lode_comm_t *comm = folders->run->comm;
    lode_status_t status = put_mine(sink, folders, parameters);
    if (status == LODE_OK)
        status = lode_writer_sync(sink->writer);
    status = lode_comm_agree(comm, status);
    if (comm->rank == 0 && status == LODE_OK)
        status = lode_folder_commit(path);
    if (comm->rank == 0 && status != LODE_OK)
        lode_folder_abandon(path);
    return lode_comm_agree(comm, status);
}

/* Collective. */
static lode_status_t write_folder(const lode_train_folders_t *folders,
                                  const lode_parameters_t *parameters, const char *path,
                                  int64_t step, const char *digest) {
    const lode_comm_t *comm = folders->run->comm;
    const lode_inventory_t *inventory = folders->inventory;
    lode_buffer_t partial = {0};
    sink_t sink = {0};
    lode_status_t status = lode_buffer_printf(&partial, "%s.partial", path);
    if (status == LODE_OK)
        status = lode_writer_create(&sink.writer, partial.data, inventory->list, inventory->count,
                                    LODE_WRITER_SHARD_BYTES);
    if (status == LODE_OK && comm->rank == 0)
        status = lay_out(folders, sink.writer, path, step, digest);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = fill_folder(&sink, folders, parameters, path);
    else if (comm->rank == 0 && sink.writer)
        lode_folder_abandon(path);
    lode_writer_destroy(&sink.writer);
    lode_buffer_free(&partial);
    return status;
}

/* Whether the folder of a step is there with this digest, and says of this training that it is. */
static bool is_there(const lode_train_folders_t *folders, int64_t step,
                     const char digest[LODE_DIGEST_TEXT]) {
    char found[LODE_DIGEST_TEXT];
    lode_train_folder_find(found, folders, step);
    return strcmp(found, digest) == 0;
}

lode_status_t lode_train_folder_write(char digest[LODE_DIGEST_TEXT], bool *written,
                                      const lode_train_folders_t *folders,
                                      const lode_parameters_t *parameters, int64_t step) {
    const lode_run_t *run = folders->run;
    char *path = NULL;
    int there = 0;
    lode_status_t status =
        lode_comm_agree(run->comm, lode_train_folder_path(&path, run->folder, step));
    if (status == LODE_OK)
        status = digest_weights(digest, folders, parameters);
    if (status == LODE_OK) {
        there = run->comm->rank == 0 && !run->force && is_there(folders, step, digest);
        status = lode_comm_broadcast(run->comm, &there, sizeof there, 0);
    }
    *written = !there;
    if (status == LODE_OK && !there)
        status = write_folder(folders, parameters, path, step, digest);
    free(path);
    return status;
}
