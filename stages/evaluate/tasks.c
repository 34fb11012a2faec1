#include "evaluate/tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "evaluate/requests.h"
#include "score/answer.h"

enum { PATH_BYTES = 1024 };

/* The task in hand. */
typedef struct data {
    lode_evaluate_set_t set; /* first: it is the context of lode_evaluate_set_edit */
    const lode_config_task_t *entry;
    lode_requests_t requests;
    int32_t *characters; /* [items, width] */
    double *result;      /* [2, computed, sequences] log-likelihoods, then whether greedy, of what
                            this rank has computed; 0 elsewhere */
} data_t;

/* --- preparing ------------------------------------------------------------------------------ */

/* The digest of a table depends on which sequence is whose, too. */
static lode_status_t extend_digest(lode_reuse_item_t *item, const lode_requests_t *requests) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add_text(hash, item->digest);
    lode_requests_hash(requests, hash);
    lode_hash_text(hash, item->digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

static lode_status_t prepare(data_t *data, lode_evaluate_work_t *work) {
    lode_requests_t *requests = &data->requests;
    const int64_t positions = work->run->architecture.max_positions;
    LODE_TRY(lode_requests_read(requests, work->tokenize, data->entry->name, positions));
    LODE_TRY(LODE_NEW(&data->characters, requests->items * requests->width, "requests"));
    lode_requests_spread(requests, requests->characters, -1, data->characters);
    if (requests->truncated > 0)
        lode_log_warning("%s: %lld of %lld requests are longer than the model's %lld positions; "
                         "their contexts are cut from the left",
                         data->entry->name, (long long)requests->truncated,
                         (long long)requests->count, (long long)positions);
    LODE_TRY(lode_evaluate_set_create(&data->set, work, "/tasks", data->entry->name,
                                      data->entry->pruned, &requests->text));
    for (int64_t v = 0; v < data->set.variants; v++)
        LODE_TRY(extend_digest(&data->set.items[v], requests));
    return LODE_OK;
}

static void greedy_path(const data_t *data, int64_t variant, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, "/task_greedy/%s/%s", data->entry->name,
             lode_evaluate_variant_name(data->set.work, variant));
}

/* A dataset of /task_items, written by rank 0. */
static lode_status_t put_items(const data_t *data, const char *part, int axes,
                               const int32_t *values) {
    const lode_evaluate_work_t *work = data->set.work;
    const int64_t shape[2] = {data->requests.items, data->requests.width}, offset[2] = {0};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/task_items/%s/%s", data->entry->name, part);
    LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_I32, axes, shape, false));
    /* A failed write sticks to the store and fails its commit on all ranks. */
    if (work->run->comm->rank == 0 &&
        lode_store_write(work->store, path, offset, shape, values) != LODE_OK)
        lode_log_warning("%s could not be written", path);
    return LODE_OK;
}

static lode_status_t describe_items(const data_t *data) {
    const lode_requests_t *requests = &data->requests;
    int32_t *tokens;
    lode_status_t status =
        lode_comm_agree(data->set.work->run->comm,
                        LODE_NEW(&tokens, requests->items * requests->width, "requests"));
    if (status == LODE_OK) {
        lode_requests_spread(requests, requests->tokens, -1, tokens);
        status = put_items(data, "gold", 1, requests->gold);
    }
    if (status == LODE_OK)
        status = put_items(data, "characters", 2, data->characters);
    if (status == LODE_OK)
        status = put_items(data, "tokens", 2, tokens);
    free(tokens);
    return status;
}

static lode_status_t create_datasets(const data_t *data) {
    lode_store_t *store = data->set.work->store;
    const lode_reuse_kind_t kind = {.group = "/tasks",
                                    .beside = "/task_greedy",
                                    .axes = 2,
                                    .shape = {data->requests.items, data->requests.width}};
    for (int64_t v = 0; v < data->set.variants; v++) {
        const lode_reuse_item_t *item = &data->set.items[v];
        char path[PATH_BYTES];
        greedy_path(data, v, path);
        LODE_TRY(lode_store_dataset(store, item->path, LODE_TYPE_F64, 2, kind.shape, true));
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_U8, 2, kind.shape, true));
        LODE_TRY(lode_store_attribute_text(store, item->path, "digest", item->digest));
    }
    LODE_TRY(describe_items(data));
    return lode_reuse_take(store, data->set.work->run, &kind, data->set.items, data->set.variants);
}

/* --- computing ------------------------------------------------------------------------------ */

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    data_t *data = context;
    const lode_requests_t *requests = &data->requests;
    const int64_t sequences = requests->text.sequences;
    double *sums = data->result + variant * sequences + batch->first_sequence;
    double *flags = sums + data->set.computed * sequences;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        double sum = 0;
        bool all = true;
        for (int64_t t = batch->sequences.offsets[s]; t < batch->sequences.offsets[s + 1]; t++)
            if (requests->target[batch->first_token + t] >= 0) {
                sum += nll[t];
                all = all && greedy[t] != 0;
            }
        sums[s] = 0 - sum;
        flags[s] = all ? 1 : 0;
    }
    return LODE_OK;
}

/* The table of one computed variant, by rank 0. */
static lode_status_t write_table(const data_t *data, int64_t computed, double *sums,
                                 uint8_t *flags) {
    const lode_requests_t *requests = &data->requests;
    const int64_t shape[2] = {requests->items, requests->width}, offset[2] = {0};
    const int64_t sequences = requests->text.sequences;
    const double *result = data->result + computed * sequences;
    const double *greedy = result + data->set.computed * sequences;
    const int64_t variant = data->set.selected[computed];
    char path[PATH_BYTES];
    for (int64_t i = 0; i < requests->items; i++) {
        const int64_t first = requests->first[i], count = requests->first[i + 1] - first;
        for (int64_t r = 0; r < requests->width; r++) {
            const int64_t place = i * requests->width + r;
            sums[place] = r < count ? result[requests->sequence[first + r]] : NAN;
            flags[place] = r < count && greedy[requests->sequence[first + r]] != 0;
        }
    }
    greedy_path(data, variant, path);
    LODE_TRY(lode_store_write(data->set.work->store, data->set.items[variant].path, offset, shape,
                              sums));
    return lode_store_write(data->set.work->store, path, offset, shape, flags);
}

static lode_status_t write_tables(const data_t *data) {
    const int64_t cells = data->requests.items * data->requests.width;
    double *sums;
    uint8_t *flags = NULL;
    lode_status_t status = LODE_NEW(&sums, cells, "answers");
    if (status == LODE_OK)
        status = LODE_NEW(&flags, cells, "answers");
    for (int64_t v = 0; v < data->set.computed && status == LODE_OK; v++)
        status = write_table(data, v, sums, flags);
    free(sums);
    free(flags);
    return status;
}

static lode_status_t run_variants(data_t *data) {
    const lode_evaluate_work_t *work = data->set.work;
    const lode_comm_t *comm = work->run->comm;
    lode_status_t status = lode_evaluate_set_select(&data->set);
    const int64_t numbers = 2 * data->set.computed * data->requests.text.sequences;
    if (status == LODE_OK)
        status = LODE_NEW(&data->result, numbers, "answers");
    LODE_TRY(lode_comm_agree(comm, status));
    const lode_evaluation_t evaluation = {.stage = "evaluate",
                                          .text = &data->requests.text,
                                          .variants = data->set.computed,
                                          .parent = data->set.parent,
                                          .start = data->set.start,
                                          .other = lode_edits_memory(work->edits) +
                                                   lode_requests_memory(&data->requests) +
                                                   numbers * (int64_t)sizeof(double),
                                          .context = data,
                                          .edit = lode_evaluate_set_edit,
                                          .losses = on_losses};
    LODE_TRY(lode_evaluation_run(work->run, &evaluation));
    LODE_TRY(lode_comm_collect(comm, data->result, numbers, 0));
    return lode_comm_agree(comm, comm->rank == 0 ? write_tables(data) : LODE_OK);
}

/* --- figures -------------------------------------------------------------------------------- */

typedef struct figures {
    double acc, acc_stderr, acc_norm, acc_norm_stderr, perplexity, perplexity_stderr, chance;
} figures_t;

static lode_status_t read_figures(const data_t *data, int64_t variant, figures_t *figures) {
    const lode_requests_t *requests = &data->requests;
    lode_store_t *store = data->set.work->store;
    double *sums = NULL, *right = NULL;
    uint8_t *greedy = NULL;
    char path[PATH_BYTES];
    lode_status_t status;
    greedy_path(data, variant, path);
    LODE_GUARD(
        status,
        lode_store_read_all(store, data->set.items[variant].path, LODE_TYPE_F64, &sums, NULL),
        done);
    LODE_GUARD(status, lode_store_read_all(store, path, LODE_TYPE_U8, &greedy, NULL), done);
    LODE_GUARD(status, LODE_NEW(&right, requests->items, "answers"), done);
    const lode_answers_t answers = {.items = requests->items,
                                    .width = requests->width,
                                    .log_likelihood = sums,
                                    .greedy = greedy,
                                    .gold = requests->gold,
                                    .characters = data->characters};
    lode_answers_right(&answers, false, right);
    lode_answers_mean(right, requests->items, &figures->acc, &figures->acc_stderr);
    lode_answers_right(&answers, true, right);
    lode_answers_mean(right, requests->items, &figures->acc_norm, &figures->acc_norm_stderr);
    lode_answers_perplexity(&answers, &figures->perplexity, &figures->perplexity_stderr);
    figures->chance = lode_answers_chance(&answers);
done:
    free(sums);
    free(greedy);
    free(right);
    return status;
}

static lode_status_t write_figures(const data_t *data, const char *path, const figures_t *figures) {
    lode_store_t *store = data->set.work->store;
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"acc", figures->acc},
                   {"acc_stderr", figures->acc_stderr},
                   {"acc_norm", figures->acc_norm},
                   {"acc_norm_stderr", figures->acc_norm_stderr},
                   {"chance", figures->chance},
                   {"perplexity", figures->perplexity},
                   {"perplexity_stderr", figures->perplexity_stderr}};
    const size_t all = sizeof numbers / sizeof *numbers;
    for (size_t i = 0; i < (data->requests.width == 1 ? all : all - 2); i++)
        LODE_TRY(lode_store_attribute_f64(store, path, numbers[i].name, numbers[i].value));
    LODE_TRY(lode_store_attribute_i64(store, path, "items", data->requests.items));
    LODE_TRY(lode_store_attribute_i64(store, path, "shots", data->entry->shots));
    LODE_TRY(lode_store_attribute_i64(store, path, "truncated", data->requests.truncated));
    return lode_store_attribute_text(store, path, "bos", lode_bos_name(data->entry->bos));
}

/* Attributes of a variant's answers, computed by rank 0 from what was written. */
static lode_status_t write_values(const data_t *data, int64_t variant) {
    const lode_evaluate_work_t *work = data->set.work;
    const char *name = data->entry->name, *variant_name = lode_evaluate_variant_name(work, variant);
    figures_t figures = {0};
    lode_status_t status = LODE_OK;
    if (work->run->comm->rank == 0)
        status = read_figures(data, variant, &figures);
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    LODE_TRY(write_figures(data, data->set.items[variant].path, &figures));
    if (data->requests.width == 1)
        lode_log_info("%s: accuracy of %s is %.4f ± %.4f, perplexity %.4f", name, variant_name,
                      figures.acc, figures.acc_stderr, figures.perplexity);
    else
        lode_log_info("%s: accuracy of %s is %.4f ± %.4f, normalised %.4f ± %.4f", name,
                      variant_name, figures.acc, figures.acc_stderr, figures.acc_norm,
                      figures.acc_norm_stderr);
    return LODE_OK;
}

/* --- a task --------------------------------------------------------------------------------- */

static lode_status_t evaluate_task(lode_evaluate_work_t *work, const lode_config_task_t *entry) {
    data_t data = {.entry = entry};
    lode_status_t status = lode_comm_agree(work->run->comm, prepare(&data, work));
    if (status == LODE_OK)
        status = create_datasets(&data);
    if (status == LODE_OK)
        status = run_variants(&data);
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    for (int64_t v = 0; status == LODE_OK && v < data.set.variants; v++)
        status = write_values(&data, v);
    lode_evaluate_set_free(&data.set);
    lode_requests_free(&data.requests);
    free(data.characters);
    free(data.result);
    return status;
}

lode_status_t lode_evaluate_tasks(lode_evaluate_work_t *work) {
    const lode_config_evaluate_t *evaluate = &work->run->config->evaluate;
    for (int64_t i = 0; i < evaluate->task_count; i++)
        LODE_TRY(evaluate_task(work, &evaluate->tasks[i]));
    return LODE_OK;
}
