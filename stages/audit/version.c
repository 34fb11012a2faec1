#include "audit/version.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/audit.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "common/folder.h"
#include "export/plan.h"

enum { KEY_BYTES = 64 };

static const char remedy[] = "an audit compares versions of one model; name a folder that is one, "
                             "or the model that this one is a version of with the key \"model\"";

bool lode_audit_applies(const lode_config_folder_t *entry, const char *model) {
    return *entry->model == '\0' || strcmp(entry->model, model) == 0;
}

const char *lode_audit_kept_name(lode_audit_kept_t known) {
    static const char *const names[] = {"index", "lodestone.json", "similarity"};
    return names[known];
}

/* "exp.cfg:12: audit.folders.[0].path" before the message. */
static lode_status_t in_entry(const lode_config_t *config, int64_t number, lode_status_t status) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "audit.folders.[%lld].path", (long long)number);
    return lode_fail_context(status, "%s: %s", lode_config_where(config, key), key);
}

/* --- where it is ----------------------------------------------------------------------------- */

/* Whether two paths are the same but for slashes at their ends. */
static bool same_path(const char *a, const char *b) {
    size_t first = strlen(a), second = strlen(b);
    while (first > 1 && a[first - 1] == '/')
        first--;
    while (second > 1 && b[second - 1] == '/')
        second--;
    return first == second && memcmp(a, b, first) == 0;
}

/* The folder of an entry, the caller's: what the experiment itself exports to the same path has a
 * folder for each model and point. *exported tells whether it does. */
static lode_status_t find_folder(char **folder, bool *exported, const lode_config_t *config,
                                 const char *point, const char *model, int64_t number) {
    const char *path = config->audit.folders[number].path;
    *exported = false;
    for (int64_t i = 0; i < config->export_count; i++)
        *exported |= same_path(config->exports[i].path, path);
    return *exported ? lode_export_folder(folder, config, point, model, path)
                     : lode_strdup(folder, path);
}

/* --- its architecture ------------------------------------------------------------------------ */

/* Packed weights are not weights to compare; the reader of config.json would refuse them too, but
 * cannot know what they are wanted for. */
static lode_status_t refuse_packed(const char *folder) {
    char *path;
    LODE_TRY(lode_path_join(&path, folder, "config.json"));
    json_t *root = json_load_file(path, 0, NULL);
    const json_t *packed = json_object_get(root, "quantization_config");
    const char *method = json_string_value(json_object_get(packed, "quant_method"));
    lode_status_t status = LODE_OK;
    if (json_object_size(packed) > 0)
        status = lode_fail(LODE_ERR_UNSUPPORTED,
                           "%s: its weights are packed (\"quantization_config\", %.60s), and only "
                           "F32, F16 and BF16 weights can be audited; dequantize the model, save "
                           "that, and name its folder",
                           path, method ? method : "no \"quant_method\"");
    json_decref(root);
    free(path);
    return status;
}

static lode_status_t check_sizes(const char *folder, const char *model,
                                 const lode_architecture_t *original,
                                 const lode_architecture_t *version) {
    const struct {
        const char *what;
        int64_t wanted, found;
    } sizes[] = {{"layers", original->layers, version->layers},
                 {"hidden size", original->hidden, version->hidden},
                 {"query heads", original->heads, version->heads},
                 {"key/value heads", original->kv_heads, version->kv_heads},
                 {"head size", original->head_dim, version->head_dim},
                 {"vocabulary", original->vocab, version->vocab}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].wanted != sizes[i].found)
            return lode_fail(LODE_ERR_SHAPE, "%s: %s %lld, but %lld in model %s; %s", folder,
                             sizes[i].what, (long long)sizes[i].found, (long long)sizes[i].wanted,
                             model, remedy);
    if (version->intermediate <= original->intermediate)
        return LODE_OK;
    return lode_fail(LODE_ERR_SHAPE,
                     "%s: %lld channels a layer, but %lld in model %s; a version may have lost "
                     "channels, not gained any: %s",
                     folder, (long long)version->intermediate, (long long)original->intermediate,
                     model, remedy);
}

static lode_status_t check_architecture(const char *folder, const char *model,
                                        const lode_architecture_t *original,
                                        const lode_architecture_t *version) {
    const struct {
        const char *what;
        int wanted, found;
    } kinds[] = {{"gate", original->gated, version->gated},
                 {"activation", (int)original->activation, (int)version->activation},
                 {"kind of norms", (int)original->norm, (int)version->norm},
                 {"norms of queries and keys", (int)original->qk_norm, (int)version->qk_norm},
                 {"learned positions", original->learned_positions, version->learned_positions}};
    if (original->model_type != version->model_type)
        return lode_fail(LODE_ERR_SHAPE, "%s: a model of the type %s, but %s is of the type %s; %s",
                         folder, lode_model_type_name(version->model_type), model,
                         lode_model_type_name(original->model_type), remedy);
    LODE_TRY(check_sizes(folder, model, original, version));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].wanted != kinds[i].found)
            return lode_fail(LODE_ERR_SHAPE,
                             "%s: its config.json and that of model %s differ in: "
                             "%s; %s",
                             folder, model, kinds[i].what, remedy);
    return LODE_OK;
}

/* Opens a folder that must be a version of the original. Local. */
static lode_status_t open_folder(lode_checkpoint_t **checkpoint, const char *folder,
                                 const char *model, const lode_architecture_t *original) {
    *checkpoint = NULL;
    LODE_TRY(refuse_packed(folder));
    LODE_TRY(lode_checkpoint_open(checkpoint, folder));
    const lode_status_t status =
        check_architecture(folder, model, original, lode_checkpoint_architecture(*checkpoint));
    if (status != LODE_OK)
        lode_checkpoint_close(checkpoint);
    return status;
}

/* --- lodestone.json -------------------------------------------------------------------------- */

static lode_status_t broken_note(const char *path, const char *what) {
    return lode_fail(LODE_ERR_FORMAT,
                     "%s: %s; export the folder again, or delete this file to have channels "
                     "matched by their weights",
                     path, what);
}

/* The kept channels of one layer; kept [n] out. */
static lode_status_t read_layer(int32_t *kept, const json_t *channels, int64_t n, int64_t m,
                                const char *path) {
    const int64_t count = (int64_t)json_array_size(channels);
    json_int_t last = -1;
    if (!json_is_array(channels) || count > n)
        return broken_note(path, "\"kept\" has more channels than the weights");
    for (int64_t i = 0; i < n; i++) {
        const json_t *value = i < count ? json_array_get(channels, (size_t)i) : NULL;
        kept[i] = -1;
        if (!value)
            continue;
        if (!json_is_integer(value) || json_integer_value(value) <= last ||
            json_integer_value(value) >= m)
            return broken_note(path, "\"kept\" does not name ascending channels of the model");
        last = json_integer_value(value);
        kept[i] = (int32_t)last;
    }
    return LODE_OK;
}

/* Whether the note is about channels of the model of this digest. */
static bool note_counts(const json_t *note, const char *digest) {
    const char *source = json_string_value(json_object_get(note, "source"));
    return source && strcmp(source, digest) == 0 && json_object_get(note, "kept");
}

/* Reads the note of a folder where there is one of this model: *found, kept [L, n]. By rank 0. */
static lode_status_t read_note(const lode_audit_version_t *version, const lode_run_t *run,
                               int *found) {
    const int64_t L = run->architecture.layers, n = version->run.architecture.intermediate;
    char *path;
    *found = 0;
    LODE_TRY(lode_path_join(&path, version->folder, lode_folder_note));
    lode_status_t status = LODE_OK;
    if (lode_file_exists(path)) {
        json_t *note = json_load_file(path, 0, NULL);
        const json_t *kept = json_object_get(note, "kept");
        if (!json_is_object(note))
            status = broken_note(path, "no JSON object");
        else if (note_counts(note, run->model_digest)) {
            *found = 1;
            if ((int64_t)json_array_size(kept) != L)
                status = broken_note(path, "\"kept\" does not have the model's layers");
            for (int64_t l = 0; l < L && status == LODE_OK; l++)
                status = read_layer(version->kept + l * n, json_array_get(kept, (size_t)l), n,
                                    run->architecture.intermediate, path);
        }
        json_decref(note);
    }
    free(path);
    return status;
}

/* Finds out how channels are known. Collective. */
static lode_status_t find_kept(lode_audit_version_t *version, const lode_run_t *run) {
    const lode_comm_t *comm = run->comm;
    const int64_t n = version->run.architecture.intermediate;
    const int64_t count = run->architecture.layers * n;
    int found = 0;
    LODE_TRY(lode_comm_agree(comm, LODE_NEW(&version->kept, count, "kept channels")));
    LODE_TRY(lode_comm_agree(comm, comm->rank == 0 ? read_note(version, run, &found) : LODE_OK));
    LODE_TRY(lode_comm_broadcast(comm, &found, sizeof found, 0));
    version->known = found                                 ? LODE_AUDIT_NOTE
                     : n == run->architecture.intermediate ? LODE_AUDIT_INDEX
                                                           : LODE_AUDIT_SIMILARITY;
    if (found)
        return lode_comm_broadcast(comm, version->kept, (size_t)count * sizeof *version->kept, 0);
    free(version->kept);
    version->kept = NULL;
    return LODE_OK;
}

/* --- all of it ------------------------------------------------------------------------------- */

lode_status_t lode_audit_version_open(lode_audit_version_t *version) {
    const lode_config_t *config = version->run.config;
    const lode_run_t run = version->run;
    lode_status_t status =
        open_folder(&version->checkpoint, version->folder, run.model->name, &run.architecture);
    if (status == LODE_OK)
        version->run.checkpoint = version->checkpoint;
    if (status != LODE_OK)
        status = in_entry(config, version->number, status);
    return lode_comm_agree(run.comm, status);
}

void lode_audit_version_close(lode_audit_version_t *version) {
    lode_checkpoint_close(&version->checkpoint);
    version->run.checkpoint = NULL;
}

/* The rank-local part: leaves the checkpoint open. */
static lode_status_t describe(lode_audit_version_t *version, const lode_run_t *run) {
    bool exported;
    LODE_TRY(find_folder(&version->folder, &exported, run->config, run->point, run->model->name,
                         version->number));
    LODE_TRY(
        open_folder(&version->checkpoint, version->folder, run->model->name, &run->architecture));
    return lode_fail_context(lode_run_view(&version->run, run, version->checkpoint), "%s",
                             version->folder);
}

lode_status_t lode_audit_version_create(lode_audit_version_t *version, const lode_run_t *run,
                                        int64_t number) {
    *version =
        (lode_audit_version_t){.entry = &run->config->audit.folders[number], .number = number};
    lode_status_t status = lode_comm_agree(run->comm, describe(version, run));
    if (status == LODE_OK)
        status = find_kept(version, run);
    lode_audit_version_close(version);
    return status == LODE_OK ? LODE_OK : in_entry(run->config, number, status);
}

void lode_audit_version_free(lode_audit_version_t *version) {
    lode_audit_version_close(version);
    free(version->folder);
    free(version->kept);
    *version = (lode_audit_version_t){0};
}

/* --- fingerprints ---------------------------------------------------------------------------- */

/* Adds a version's contents. Collective. */
static lode_status_t hash_version(lode_hash_t *hash, lode_audit_version_t *version, lode_run_t *run,
                                  lode_inputs_t *inputs) {
    char digest[LODE_DIGEST_TEXT], *note = NULL;
    int noted = 0;
    LODE_TRY(lode_inputs_model(digest, inputs, &version->run));
    lode_hash_add_text(hash, version->entry->name);
    lode_hash_add_text(hash, digest);
    lode_status_t status = lode_buffer_printf(&run->inputs, "%s  %s\n", digest, version->folder);
    if (status == LODE_OK)
        status = lode_path_join(&note, version->folder, lode_folder_note);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        noted = lode_file_exists(note);
        status = lode_comm_broadcast(run->comm, &noted, sizeof noted, 0);
    }
    if (status == LODE_OK && noted)
        status = lode_inputs_file(digest, inputs, run->comm, note);
    lode_hash_add_text(hash, noted ? digest : "");
    free(note);
    return status;
}

lode_status_t lode_audit_hash(lode_hash_t *hash, lode_run_t *run, lode_inputs_t *inputs) {
    const lode_config_audit_t *audit = &run->config->audit;
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < audit->folder_count && status == LODE_OK; i++) {
        lode_audit_version_t version;
        if (!lode_audit_applies(&audit->folders[i], run->model->name))
            continue;
        status = lode_audit_version_create(&version, run, i);
        if (status == LODE_OK)
            status = lode_audit_version_open(&version);
        if (status == LODE_OK)
            status = hash_version(hash, &version, run, inputs);
        lode_audit_version_free(&version);
    }
    return status;
}

lode_status_t lode_audit_check(const lode_config_t *config, const char *point, const char *model,
                               const lode_architecture_t *architecture) {
    for (int64_t i = 0; i < config->audit.folder_count; i++) {
        char *folder;
        bool exported;
        lode_checkpoint_t *checkpoint = NULL;
        if (!lode_audit_applies(&config->audit.folders[i], model))
            continue;
        lode_status_t status = find_folder(&folder, &exported, config, point, model, i);
        if (status == LODE_OK && !(exported && !lode_file_exists(folder)))
            status = open_folder(&checkpoint, folder, model, architecture);
        if (status == LODE_OK && checkpoint)
            status = lode_fail_context(
                lode_config_check_model(config,
                                        lode_checkpoint_architecture(checkpoint)->max_positions,
                                        architecture->hidden, model),
                "%s", folder);
        lode_checkpoint_close(&checkpoint);
        free(folder);
        if (status != LODE_OK)
            return in_entry(config, i, status);
    }
    return LODE_OK;
}
