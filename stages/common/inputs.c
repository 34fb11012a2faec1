#include "common/inputs.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/prefix.h"
#include "store/lock.h"

struct lode_inputs {
    char *path;    /* of the file that remembers */
    json_t *known; /* path → [size, time modified, time changed, digest], a time as two numbers */
    json_t *found; /* what this run has added to it */
};

/* What the file says, or nothing where it cannot be read. */
static json_t *read_known(const char *path) {
    json_t *known = json_load_file(path, 0, NULL);
    if (json_is_object(known))
        return known;
    json_decref(known);
    return json_object();
}

lode_status_t lode_inputs_open(lode_inputs_t **out, const char *folder) {
    LODE_TRY(LODE_NEW(out, 1, "digests of inputs"));
    lode_status_t status = lode_path_join(&(*out)->path, folder, ".fingerprints.json");
    if (status != LODE_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    (*out)->known = read_known((*out)->path);
    (*out)->found = json_object();
    return LODE_OK;
}

/* Adds what was found to what the file has by now: runs of other models write it, too. */
static lode_status_t write_found(const lode_inputs_t *inputs) {
    lode_buffer_t path = {0};
    int lock = -1;
    LODE_TRY(lode_buffer_printf(&path, "%s.lock", inputs->path));
    lode_status_t status = lode_store_lock_wait(&lock, path.data, inputs->path, 10);
    lode_buffer_free(&path);
    LODE_TRY(status);
    json_t *known = read_known(inputs->path);
    json_object_update(known, inputs->found);
    char *text = json_dumps(known, JSON_INDENT(1) | JSON_SORT_KEYS);
    status = text ? lode_file_write_atomic(inputs->path, text, strlen(text))
                  : lode_fail(LODE_ERR_MEMORY, "no memory for digests of inputs");
    free(text);
    json_decref(known);
    lode_store_unlock(&lock);
    return status;
}

void lode_inputs_close(lode_inputs_t **inputs, const lode_comm_t *comm) {
    if (!*inputs)
        return;
    lode_inputs_t *i = *inputs;
    if (json_object_size(i->found) > 0 && comm->rank == 0) {
        char message[LODE_MESSAGE_MAX]; /* of what ended the run, if anything has */
        snprintf(message, sizeof message, "%s", lode_error_message());
        if (write_found(i) != LODE_OK) {
            lode_log_warning("inputs will be hashed again: %s", lode_error_message());
            (void)lode_fail(LODE_ERR_IO, "%s", message);
        }
    }
    json_decref(i->known);
    json_decref(i->found);
    free(i->path);
    free(i);
    *inputs = NULL;
}

/* --- memory of digests ---------------------------------------------------------------------- */

/* What a file is known by: its size, and the seconds and nanoseconds of its last modification and
 * of the last change to it or to what is said of it, which no copying program sets back. */
enum { MARKS = 5 };

static bool read_marks(json_int_t mark[MARKS], const char *path) {
    struct stat info;
    if (stat(path, &info) != 0)
        return false;
    mark[0] = info.st_size;
    mark[1] = info.st_mtim.tv_sec;
    mark[2] = info.st_mtim.tv_nsec;
    mark[3] = info.st_ctim.tv_sec;
    mark[4] = info.st_ctim.tv_nsec;
    return true;
}

/* The digest remembered under `key` if the file at `path` is as it was then. */
static bool recall(const lode_inputs_t *inputs, const char *key, const char *path,
                   char digest[LODE_DIGEST_TEXT]) {
    json_int_t known[MARKS], now[MARKS];
    const char *text;
    json_t *entry = json_object_get(inputs->known, key);
    if (!entry || !read_marks(now, path) ||
        json_unpack(entry, "[IIIIIs]", &known[0], &known[1], &known[2], &known[3], &known[4],
                    &text) != 0)
        return false;
    if (memcmp(known, now, sizeof now) != 0 || strlen(text) != LODE_DIGEST_TEXT - 1 ||
        strspn(text, "0123456789abcdef") != LODE_DIGEST_TEXT - 1)
        return false;
    memcpy(digest, text, LODE_DIGEST_TEXT);
    return true;
}

static void remember(lode_inputs_t *inputs, const char *key, const char *path, const char *digest) {
    json_int_t now[MARKS];
    if (!read_marks(now, path))
        return;
    json_t *entry = json_pack("[IIIIIs]", now[0], now[1], now[2], now[3], now[4], digest);
    json_object_set(inputs->known, key, entry);
    json_object_set_new(inputs->found, key, entry);
}

/* --- files ---------------------------------------------------------------------------------- */

lode_status_t lode_inputs_file(char digest[LODE_DIGEST_TEXT], lode_inputs_t *inputs,
                               const lode_comm_t *comm, const char *path) {
    lode_status_t status = LODE_OK;
    memset(digest, 0, LODE_DIGEST_TEXT);
    if (comm->rank == 0 && !recall(inputs, path, path, digest)) {
        lode_mapping_t mapping;
        status = lode_file_map(&mapping, path);
        if (status == LODE_OK) {
            status = lode_hash_bytes(digest, mapping.data, mapping.size);
            lode_file_unmap(&mapping);
        }
        if (status == LODE_OK)
            remember(inputs, path, path, digest);
    }
    LODE_TRY(lode_comm_agree(comm, status));
    return lode_comm_broadcast(comm, digest, LODE_DIGEST_TEXT, 0);
}

/* --- models --------------------------------------------------------------------------------- */

/* Adds a tensor, if it is there. A vector is one line; the lines of a matrix may be apart. Which
 * tensors there are, and which are stored transposed, config.json says, whose digest goes with this
 * one. */
static void hash_tensor(lode_hash_t *hash, const lode_tensor_t *tensor) {
    const bool matrix = tensor->rank == 2;
    const int64_t lines = matrix ? tensor->shape[tensor->transposed] : 1;
    const int64_t length = tensor->shape[matrix && !tensor->transposed];
    const size_t size = lode_dtype_size(tensor->dtype);
    if (!tensor->data)
        return;
    lode_hash_add_text(hash, lode_dtype_name(tensor->dtype));
    lode_hash_add(hash, tensor->shape, (size_t)tensor->rank * sizeof *tensor->shape);
    for (int64_t i = 0; i < lines; i++)
        lode_hash_add(hash, (const char *)tensor->data + (size_t)(i * tensor->pitch) * size,
                      (size_t)length * size);
}

static lode_status_t hash_layer(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                                int64_t layer) {
    lode_layer_weights_t w;
    lode_hash_t *hash;
    LODE_TRY(lode_checkpoint_layer(run->checkpoint, layer, &w));
    LODE_TRY(lode_hash_create(&hash));
    for (int role = 0; role < LODE_LAYER_ROLES; role++)
        hash_tensor(hash, lode_layer_weights_role(&w, (lode_role_t)role));
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

typedef lode_status_t (*map_tensor_t)(lode_checkpoint_t *checkpoint, lode_tensor_t *out);

/* Of one tensor, and of another that goes with it, where that is there. */
static lode_status_t hash_pair(char digest[LODE_DIGEST_TEXT], const lode_run_t *run,
                               map_tensor_t map, map_tensor_t map_other) {
    lode_tensor_t tensor, other = {0};
    lode_hash_t *hash;
    LODE_TRY(map(run->checkpoint, &tensor));
    if (map_other)
        LODE_TRY(map_other(run->checkpoint, &other));
    LODE_TRY(lode_hash_create(&hash));
    hash_tensor(hash, &tensor);
    hash_tensor(hash, &other);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

/* This rank's parts into their places of parts [L + 3]: the layers, embedding and positions, final
 * norm, head. */
static lode_status_t hash_parts(char (*parts)[LODE_DIGEST_TEXT], const lode_run_t *run) {
    const lode_layout_t *layout = &run->layout;
    const int64_t L = run->architecture.layers;
    if (layout->replica != 0)
        return LODE_OK;
    for (int64_t l = layout->first_layer; l < layout->layer_end; l++)
        LODE_TRY(hash_layer(parts[l], run, l));
    if (layout->embedding)
        LODE_TRY(hash_pair(parts[L], run, lode_checkpoint_embedding, lode_checkpoint_positions));
    if (layout->head) {
        LODE_TRY(hash_pair(parts[L + 1], run, lode_checkpoint_final_norm,
                           lode_checkpoint_final_norm_bias));
        LODE_TRY(hash_pair(parts[L + 2], run, lode_checkpoint_head, NULL));
    }
    return LODE_OK;
}

static lode_status_t hash_weights(char digest[LODE_DIGEST_TEXT], const lode_run_t *run) {
    const int64_t count = run->architecture.layers + 3;
    char(*parts)[LODE_DIGEST_TEXT];
    lode_status_t status = LODE_NEW(&parts, count, "digests of weights");
    if (status == LODE_OK)
        status = hash_parts(parts, run);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        /* Each part was set by one rank and is zero on the others. */
        MPI_Allreduce(MPI_IN_PLACE, parts, (int)(count * LODE_DIGEST_TEXT), MPI_UNSIGNED_CHAR,
                      MPI_MAX, run->comm->comm);
        status = lode_hash_bytes(digest, parts, (size_t)count * LODE_DIGEST_TEXT);
    }
    free(parts);
    return lode_comm_agree(run->comm, status);
}

/* The weights of all files that hold any are remembered as one: under the folder's name, checked
 * against each file. */
static lode_status_t weights_digest(char digest[LODE_DIGEST_TEXT], lode_inputs_t *inputs,
                                    const lode_run_t *run) {
    const int64_t files = lode_checkpoint_file_count(run->checkpoint);
    int known = 1;
    char first[LODE_DIGEST_TEXT] = "", key[4200];
    for (int64_t i = 0; i < files && known && run->comm->rank == 0; i++) {
        const char *path = lode_checkpoint_file_path(run->checkpoint, i);
        snprintf(key, sizeof key, "weights:%s", path);
        known = recall(inputs, key, path, digest);
        if (i == 0)
            memcpy(first, digest, sizeof first);
        known = known && memcmp(first, digest, sizeof first) == 0;
    }
    LODE_TRY(lode_comm_broadcast(run->comm, &known, sizeof known, 0));
    if (known)
        return lode_comm_broadcast(run->comm, digest, LODE_DIGEST_TEXT, 0);
    LODE_TRY(hash_weights(digest, run));
    for (int64_t i = 0; i < files; i++) {
        const char *path = lode_checkpoint_file_path(run->checkpoint, i);
        snprintf(key, sizeof key, "weights:%s", path);
        remember(inputs, key, path, digest);
    }
    return LODE_OK;
}

lode_status_t lode_inputs_model(char digest[LODE_DIGEST_TEXT], lode_inputs_t *inputs,
                                const lode_run_t *run) {
    char pair[2][LODE_DIGEST_TEXT], *path = NULL;
    lode_status_t status =
        lode_comm_agree(run->comm, lode_path_join(&path, run->model->path, "config.json"));
    if (status == LODE_OK)
        status = lode_inputs_file(pair[0], inputs, run->comm, path);
    free(path);
    LODE_TRY(status);
    if (run->checkpoint)
        LODE_TRY(weights_digest(pair[1], inputs, run));
    else
        memset(pair[1], 0, sizeof pair[1]);
    return lode_comm_agree(run->comm, lode_hash_bytes(digest, pair, sizeof pair));
}

/* --- runs ----------------------------------------------------------------------------------- */

static lode_status_t note_input(lode_run_t *run, const char *digest, const char *path) {
    return lode_buffer_printf(&run->inputs, "%s  %s\n", digest, path);
}

/* The files that make the ids: "" where there is none of its kind. */
typedef struct texts {
    const char **path;
    int64_t count;
    char *merged, *prefix; /* owned */
} texts_t;

/* Those of the stages that need weights, from `next` on. */
static lode_status_t list_measured(texts_t *texts, const lode_run_t *run, const char **next) {
    const lode_config_t *config = run->config;
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    LODE_TRY(lode_prefix_file(&texts->prefix, lode_checkpoint_folder(run->checkpoint)));
    if (*config->calibration.merged)
        LODE_TRY(
            lode_run_merged_path(&texts->merged, config, run->model->name, LODE_STAGE_TOKENIZE));
    *next++ = texts->merged ? texts->merged : config->calibration.corpus;
    *next++ = config->probe.corpus;
    *next++ = config->superweight.stopwords;
    *next++ = config->superweight.corpus;
    for (int64_t i = 0; i < evaluate->perplexity_count; i++)
        *next++ = evaluate->perplexity[i].corpus;
    for (int64_t i = 0; i < evaluate->task_count; i++)
        *next++ = evaluate->tasks[i].path;
    if (texts->prefix)
        *next++ = texts->prefix;
    texts->count = next - texts->path;
    return LODE_OK;
}

static lode_status_t list_texts(texts_t *texts, const lode_run_t *run) {
    const lode_config_t *config = run->config;
    const lode_config_evaluate_t *evaluate = &config->evaluate;
    LODE_TRY(
        LODE_NEW(&texts->path, 8 + evaluate->perplexity_count + evaluate->task_count, "texts"));
    const char **next = texts->path;
    if (!lode_stage_wanted_of(config, run->model, LODE_STAGE_TOKENIZER))
        *next++ = run->tokenizer; /* else the fingerprint of that stage stands for it */
    if (lode_config_is_trained(config, run->model)) {
        *next++ = config->train.corpus;
        *next++ = config->train.validation.corpus;
    }
    texts->count = next - texts->path;
    return run->checkpoint ? list_measured(texts, run, next) : LODE_OK;
}

lode_status_t lode_inputs_prepare(lode_run_t *run, lode_inputs_t *inputs) {
    char digest[LODE_DIGEST_TEXT];
    texts_t texts = {0};
    lode_hash_t *hash = NULL;
    lode_status_t local = list_texts(&texts, run);
    if (local == LODE_OK)
        local = lode_hash_create(&hash);
    lode_status_t status = lode_comm_agree(run->comm, local);
    if (status == LODE_OK)
        status = lode_inputs_model(run->model_digest, inputs, run);
    if (status == LODE_OK)
        local = note_input(run, run->model_digest, run->model->path);
    for (int64_t i = 0; i < texts.count && status == LODE_OK; i++) {
        if (*texts.path[i] == '\0')
            continue;
        status = lode_inputs_file(digest, inputs, run->comm, texts.path[i]);
        if (status == LODE_OK && local == LODE_OK) /* no rank leaves before the others */
            local = note_input(run, digest, texts.path[i]);
        lode_hash_add(hash, digest, sizeof digest);
    }
    if (hash)
        lode_hash_text(hash, run->text_digest);
    lode_hash_destroy(&hash);
    free(texts.path);
    free(texts.merged);
    free(texts.prefix);
    return status != LODE_OK ? status : lode_comm_agree(run->comm, local);
}
