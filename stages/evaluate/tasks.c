#include "evaluate/tasks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "evaluate/requests.h"
#include "score/answer.h"

enum { PATH_BYTES = LODE_EVALUATE_PATH };

/* The task in hand. */
typedef struct data {
    lode_evaluate_set_t set; /* first: see lode_evaluate_losses_t */
    const lode_config_task_t *entry;
    lode_requests_t requests;
    int32_t *characters; /* [items, width] */
    double *sums;        /* [sequences] log-likelihoods of some sequences */
    uint8_t *flags;      /* [sequences] whether these were greedy */
    int table;           /* part of the tables */
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
    LODE_TRY(LODE_NEW(&data->sums, requests->text.sequences, "answers"));
    LODE_TRY(LODE_NEW(&data->flags, requests->text.sequences, "answers"));
    lode_requests_spread(requests, requests->characters, -1, data->characters);
    LODE_TRY(lode_evaluate_set_create(&data->set, work, "/tasks", data->entry->name,
                                      data->entry->pruned, &requests->text));
    for (int64_t v = 0; v < data->set.variants; v++)
        LODE_TRY(extend_digest(&data->set.items[v], requests));
    return LODE_OK;
}

static void warn_of_length(const data_t *data) {
    const lode_requests_t *requests = &data->requests;
    if (requests->truncated > 0)
        lode_log_warning("%s: %lld of %lld requests are longer than the model's %lld positions; "
                         "their contexts are cut from the left",
                         data->entry->name, (long long)requests->truncated,
                         (long long)requests->count,
                         (long long)data->set.work->run->architecture.max_positions);
}

/* What sequences give, in the scratch file. */
static void scratch_path(const data_t *data, const char *what, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, "%s/%s/%s", data->set.work->group, what, data->entry->name);
}

static void greedy_path(const data_t *data, int64_t variant, char path[PATH_BYTES]) {
    lode_evaluate_path(data->set.work, "/task_greedy", data->entry->name, variant, path);
}

/* A dataset of /task_items, written by rank 0. */
static lode_status_t put_items(const data_t *data, const char *part, int axes,
                               const int32_t *values) {
    const lode_evaluate_work_t *work = data->set.work;
    const int64_t shape[2] = {data->requests.items, data->requests.width};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/task_items/%s/%s", work->group, data->entry->name, part);
    return lode_store_put(work->store, path, LODE_TYPE_I32, axes, shape, values);
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
    const lode_evaluate_work_t *work = data->set.work;
    const int64_t table[] = {data->requests.items, data->requests.width};
    const int64_t rows[] = {data->set.variants, data->set.sequences};
    char path[PATH_BYTES];
    for (int64_t v = 0; v < data->set.variants; v++) {
        const lode_reuse_item_t *item = &data->set.items[v];
        greedy_path(data, v, path);
        LODE_TRY(lode_store_dataset(work->store, item->path, LODE_TYPE_F64, 2, table, true));
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_U8, 2, table, true));
        LODE_TRY(lode_store_attribute_text(work->store, item->path, "digest", item->digest));
    }
    scratch_path(data, "sums", path);
    LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F64, 2, rows, false));
    scratch_path(data, "greedy", path);
    LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_U8, 2, rows, false));
    return describe_items(data);
}

/* --- computing ------------------------------------------------------------------------------ */

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    data_t *data = context;
    const lode_requests_t *requests = &data->requests;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        double sum = 0;
        bool all = true;
        for (int64_t t = batch->sequences.offsets[s]; t < batch->sequences.offsets[s + 1]; t++)
            if (requests->target[batch->first_token + t] >= 0) {
                sum += nll[t];
                all = all && greedy[t] != 0;
            }
        data->sums[s] = 0 - sum;
        data->flags[s] = all ? 1 : 0;
    }
    const int64_t offset[] = {data->set.selected[variant], batch->first_sequence};
    const int64_t count[] = {1, batch->sequences.count};
    char path[PATH_BYTES];
    scratch_path(data, "sums", path);
    LODE_TRY(lode_store_write(data->set.losses, path, offset, count, data->sums));
    scratch_path(data, "greedy", path);
    LODE_TRY(lode_store_write(data->set.losses, path, offset, count, data->flags));
    return lode_evaluate_set_mark(&data->set, variant, batch);
}

/* Reads what the sequences of a variant gave. */
static lode_status_t read_sequences(const data_t *data, int64_t variant) {
    const int64_t offset[] = {variant, 0}, count[] = {1, data->set.sequences};
    char path[PATH_BYTES];
    scratch_path(data, "sums", path);
    LODE_TRY(lode_store_read(data->set.losses, path, offset, count, LODE_TYPE_F64, data->sums));
    scratch_path(data, "greedy", path);
    return lode_store_read(data->set.losses, path, offset, count, LODE_TYPE_U8, data->flags);
}

/* The table of one variant, by rank 0. */
static lode_status_t write_table(const data_t *data, int64_t variant, double *sums,
                                 uint8_t *flags) {
    const lode_requests_t *requests = &data->requests;
    const int64_t shape[2] = {requests->items, requests->width}, offset[2] = {0};
    lode_store_t *store = data->set.work->store;
    char path[PATH_BYTES];
    LODE_TRY(read_sequences(data, variant));
    for (int64_t i = 0; i < requests->items; i++) {
        const int64_t first = requests->first[i], count = requests->first[i + 1] - first;
        for (int64_t r = 0; r < requests->width; r++) {
            const int64_t place = i * requests->width + r;
            sums[place] = r < count ? data->sums[requests->sequence[first + r]] : NAN;
            flags[place] = r < count && data->flags[requests->sequence[first + r]] != 0;
        }
    }
    greedy_path(data, variant, path);
    LODE_TRY(lode_store_write(store, data->set.items[variant].path, offset, shape, sums));
    LODE_TRY(lode_store_write(store, path, offset, shape, flags));
    return lode_store_mark(store, data->table, variant, 1);
}

static lode_status_t write_tables(const data_t *data) {
    const int64_t cells = data->requests.items * data->requests.width;
    double *sums;
    uint8_t *flags = NULL;
    lode_status_t status = LODE_NEW(&sums, cells, "answers");
    if (status == LODE_OK)
        status = LODE_NEW(&flags, cells, "answers");
    for (int64_t v = 0; v < data->set.computed && status == LODE_OK; v++)
        status = write_table(data, data->set.selected[v], sums, flags);
    free(sums);
    free(flags);
    return status;
}

static lode_status_t compute(data_t *data) {
    const lode_evaluate_work_t *work = data->set.work;
    const lode_comm_t *comm = work->run->comm;
    const lode_requests_t *requests = &data->requests;
    const lode_reuse_kind_t kind = {.group = "/tasks",
                                    .beside = "/task_greedy",
                                    .axes = 2,
                                    .shape = {requests->items, requests->width}};
    const int64_t answers =
        data->set.sequences * (int64_t)(sizeof *data->sums + sizeof *data->flags);
    LODE_TRY(lode_evaluate_set_take(&data->set, &kind, data->table, 1));
    LODE_TRY(
        lode_evaluate_set_run(&data->set, lode_requests_memory(requests) + answers, on_losses));
    LODE_TRY(lode_store_synchronise(work->scratch));
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

/* Sets up task `index`. *data is for close_task, also on failure. Collective. */
static lode_status_t open_task(data_t *data, lode_evaluate_work_t *work, int64_t index) {
    const lode_config_evaluate_t *evaluate = &work->run->config->evaluate;
    *data = (data_t){.entry = &evaluate->tasks[index],
                     .table = work->first_part + (int)(evaluate->perplexity_count + index)};
    const lode_status_t status = lode_comm_agree(work->run->comm, prepare(data, work));
    data->set.losses = work->scratch;
    data->set.part = work->first_scratch_part + (int)index;
    return status;
}

static void close_task(data_t *data) {
    lode_evaluate_set_free(&data->set);
    lode_requests_free(&data->requests);
    free(data->characters);
    free(data->sums);
    free(data->flags);
}

lode_status_t lode_evaluate_task_create(lode_evaluate_work_t *work, int64_t index) {
    data_t data;
    lode_status_t status = open_task(&data, work, index);
    if (status == LODE_OK)
        status = create_datasets(&data);
    work->parts[data.table - work->first_part] = (lode_part_t){data.entry->name, data.set.variants};
    work->scratch_parts[index] =
        (lode_part_t){data.entry->name, data.set.variants * data.set.sequences};
    close_task(&data);
    return status;
}

lode_status_t lode_evaluate_task(lode_evaluate_work_t *work, int64_t index) {
    data_t data;
    lode_status_t status = open_task(&data, work, index);
    if (status == LODE_OK) {
        warn_of_length(&data);
        status = compute(&data);
    }
    if (status == LODE_OK)
        status = lode_store_synchronise(work->store);
    for (int64_t v = 0; status == LODE_OK && v < data.set.variants; v++)
        status = write_values(&data, v);
    close_task(&data);
    return status;
}
