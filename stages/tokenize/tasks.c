#include "tokenize/tasks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/prefix.h"
#include "text/task.h"
#include "tokenize/pair.h"

enum { CHUNK_BYTES = 8 << 20 }; /* of text that is encoded at a time, and one item more */

/* A text to encode. */
typedef struct job {
    size_t begin, length; /* in the chunk's text */
    bool special;
    int64_t item, request; /* that it is of */
    int64_t place;         /* among the jobs of its kind */
} job_t;

/* Jobs of a request; none for an empty context. */
typedef struct request {
    int64_t context, whole;
} request_t;

typedef struct work {
    const lode_crew_t *crew;
    const lode_config_task_t *entry;
    const lode_task_t *task;
    lode_pair_rule_t rule;
    int64_t seed, positions; /* of the model */
    lode_task_ids_t *out;
    /* the chunk in hand */
    lode_buffer_t text;
    job_t *job;         /* [2 · requests of the task] */
    request_t *request; /* [requests of the task] */
    lode_span_t *span;  /* [2 · requests of the task] */
    int64_t jobs, requests;
    lode_ids_t encoded[2]; /* without and with special tokens */
} work_t;

static lode_status_t fail_at(const work_t *work, lode_status_t status, int64_t item,
                             int64_t request) {
    return lode_fail_context(status, "%s: line %lld: request %lld", work->entry->path,
                             (long long)lode_task_line(work->task, item), (long long)request);
}

/* --- gathering texts ------------------------------------------------------------------------ */

/* Adds the job of the last `length` bytes of the chunk's text. */
static int64_t add_job(work_t *work, size_t length, bool alone, int64_t item, int64_t request) {
    const size_t begin = work->text.length - length;
    const bool special = lode_pair_special(&work->rule, work->text.data + begin, length, alone);
    work->job[work->jobs] = (job_t){
        .begin = begin, .length = length, .special = special, .item = item, .request = request};
    return work->jobs++;
}

/* Whether a request has the context of the one before it. */
static bool shares_context(const lode_task_t *task, int64_t item, int64_t request) {
    const char *text, *before;
    size_t length, before_length;
    if (request == 0)
        return false;
    lode_task_context(task, item, request, &text, &length);
    lode_task_context(task, item, request - 1, &before, &before_length);
    return length == before_length && memcmp(text, before, length) == 0;
}

static lode_status_t add_request(work_t *work, const lode_buffer_t *examples, int64_t item,
                                 int64_t request) {
    const char *context, *continuation;
    size_t context_length, length;
    lode_task_context(work->task, item, request, &context, &context_length);
    lode_task_continuation(work->task, item, request, &continuation, &length);
    const size_t begin = work->text.length;
    if (examples->length > 0)
        LODE_TRY(lode_buffer_append(&work->text, examples->data, examples->length));
    LODE_TRY(lode_buffer_append(&work->text, context, context_length));
    const size_t given = work->text.length - begin;
    request_t *jobs = &work->request[work->requests++];
    if (given == 0)
        jobs->context = -1;
    else if (shares_context(work->task, item, request))
        jobs->context = jobs[-1].context;
    else {
        const size_t kept = lode_pair_context_length(work->text.data + begin, given);
        jobs->context = add_job(work, given, false, item, request);
        work->job[jobs->context].length = kept;
    }
    LODE_TRY(lode_buffer_append(&work->text, continuation, length));
    jobs->whole = add_job(work, given + length, given == 0, item, request);
    return LODE_OK;
}

static lode_status_t add_item(work_t *work, int64_t item) {
    lode_buffer_t examples = {0};
    lode_status_t status =
        lode_task_examples(&examples, work->task, item, work->entry->shots, work->seed);
    for (int64_t r = 0; r < lode_task_requests(work->task, item) && status == LODE_OK; r++)
        status = add_request(work, &examples, item, r);
    lode_buffer_free(&examples);
    return status;
}

/* --- encoding ------------------------------------------------------------------------------- */

/* Encodes the jobs of one kind. */
static lode_status_t encode_jobs(work_t *work, bool special) {
    int64_t count = 0, failed;
    for (int64_t i = 0; i < work->jobs; i++)
        if (work->job[i].special == special) {
            work->span[count] = (lode_span_t){.text = work->text.data + work->job[i].begin,
                                              .length = work->job[i].length};
            work->job[i].place = count++;
        }
    if (count == 0)
        return LODE_OK;
    const lode_status_t status =
        lode_crew_encode(work->crew, &work->encoded[special], work->span, count, special, &failed);
    for (int64_t i = 0; status != LODE_OK && failed >= 0 && i < work->jobs; i++)
        if (work->job[i].special == special && work->job[i].place == failed)
            return fail_at(work, status, work->job[i].item, work->job[i].request);
    return status == LODE_OK ? LODE_OK : lode_fail_context(status, "%s", work->entry->path);
}

/* The ids of a job. */
static int64_t ids_of(const work_t *work, int64_t job, const int32_t **ids) {
    const lode_ids_t *encoded = &work->encoded[work->job[job].special];
    const int64_t *offset = encoded->offset + work->job[job].place;
    *ids = encoded->id + offset[0];
    return offset[1] - offset[0];
}

/* That the model can score the continuation of the last request at once, said before anything is
 * computed. Contexts are cut, continuations never. */
static lode_status_t check_length(const work_t *work, int64_t place) {
    const lode_ids_t *ids = &work->out->ids;
    const int64_t length = ids->offset[ids->sequences] - ids->offset[ids->sequences - 1];
    const int64_t scored = length - work->out->context[place];
    if (scored <= work->positions)
        return LODE_OK;
    return lode_fail(LODE_ERR_INPUT,
                     "its continuation has %lld tokens, the model has %lld positions; take the "
                     "item out of the file",
                     (long long)scored, (long long)work->positions);
}

/* Encodes the chunk's texts and appends its requests to the result. */
static lode_status_t flush(work_t *work) {
    LODE_TRY(encode_jobs(work, false));
    LODE_TRY(encode_jobs(work, true));
    for (int64_t r = 0; r < work->requests; r++) {
        const request_t *request = &work->request[r];
        const job_t *job = &work->job[request->whole];
        const int32_t *ids;
        const int64_t context = request->context < 0 ? 0 : ids_of(work, request->context, &ids);
        const int64_t count = ids_of(work, request->whole, &ids);
        const int64_t place = work->out->requests++;
        work->out->characters[place] =
            (int32_t)lode_task_characters(work->task, job->item, job->request);
        lode_status_t status = lode_pair_append(&work->rule, &work->out->ids, context, ids, count,
                                                &work->out->context[place]);
        if (status == LODE_OK)
            status = check_length(work, place);
        if (status != LODE_OK)
            return fail_at(work, status, job->item, job->request);
    }
    lode_buffer_free(&work->text);
    lode_ids_free(&work->encoded[0]);
    lode_ids_free(&work->encoded[1]);
    work->jobs = work->requests = 0;
    return LODE_OK;
}

static lode_status_t encode_items(work_t *work) {
    lode_task_ids_t *out = work->out;
    for (int64_t i = 0; i < out->items; i++) {
        LODE_TRY(add_item(work, i));
        out->gold[i] = lode_task_gold(work->task, i);
        out->first[i + 1] = out->first[i] + lode_task_requests(work->task, i);
        if (work->text.length >= CHUNK_BYTES || i + 1 == out->items)
            LODE_TRY(flush(work));
    }
    return LODE_OK;
}

/* --- a task --------------------------------------------------------------------------------- */

static lode_status_t find_rule(lode_pair_rule_t *rule, const lode_run_t *run,
                               const lode_config_task_t *entry, const lode_crew_t *crew) {
    *rule = (lode_pair_rule_t){.bos = entry->bos, .prefix_text = ""};
    LODE_TRY(lode_prefix_token(&rule->prefix, lode_checkpoint_folder(run->checkpoint),
                               crew->tokenizer, &run->architecture));
    if (!lode_tokenizer_bos(crew->tokenizer, &rule->bos_id))
        rule->bos_id = run->architecture.bos;
    return rule->prefix < 0
               ? LODE_OK
               : lode_tokenizer_token(crew->tokenizer, rule->prefix, &rule->prefix_text);
}

static lode_status_t make_room(work_t *work) {
    lode_task_ids_t *out = work->out;
    const int64_t items = lode_task_items(work->task), limit = work->entry->limit;
    int64_t requests = 0;
    out->items = limit > 0 && limit < items ? limit : items;
    for (int64_t i = 0; i < out->items; i++)
        requests += lode_task_requests(work->task, i);
    LODE_TRY(LODE_NEW(&out->first, out->items + 1, "requests"));
    LODE_TRY(LODE_NEW(&out->gold, out->items, "requests"));
    LODE_TRY(LODE_NEW(&out->context, requests, "requests"));
    LODE_TRY(LODE_NEW(&out->characters, requests, "requests"));
    LODE_TRY(LODE_NEW(&work->job, 2 * requests, "requests"));
    LODE_TRY(LODE_NEW(&work->span, 2 * requests, "requests"));
    return LODE_NEW(&work->request, requests, "requests");
}

lode_status_t lode_tokenize_task(lode_task_ids_t *out, const lode_run_t *run,
                                 const lode_config_task_t *entry, const lode_crew_t *crew) {
    lode_task_t *task;
    /* Examples are drawn from all items of the file. */
    LODE_TRY(lode_task_read(&task, entry->path, entry->shots > 0 ? 0 : entry->limit));
    work_t work = {.crew = crew,
                   .entry = entry,
                   .task = task,
                   .seed = run->config->seed,
                   .positions = run->architecture.max_positions,
                   .out = out};
    lode_status_t status = find_rule(&work.rule, run, entry, crew);
    if (status == LODE_OK)
        status = make_room(&work);
    if (status == LODE_OK)
        status = encode_items(&work);
    lode_buffer_free(&work.text);
    lode_ids_free(&work.encoded[0]);
    lode_ids_free(&work.encoded[1]);
    free(work.job);
    free(work.request);
    free(work.span);
    lode_task_destroy(&task);
    return status;
}

lode_status_t lode_tokenize_put_task(lode_store_t *store, const lode_run_t *run, const char *name,
                                     const lode_task_ids_t *task) {
    const struct {
        const char *name;
        lode_type_t type;
        int64_t count;
        const void *data;
    } parts[] = {
        {"ids", LODE_TYPE_I32, task->ids.count, task->ids.id},
        {"offsets", LODE_TYPE_I64, task->requests + 1, task->ids.offset},
        {"context", LODE_TYPE_I32, task->requests, task->context},
        {"first", LODE_TYPE_I64, task->items + 1, task->first},
        {"gold", LODE_TYPE_I32, task->items, task->gold},
        {"characters", LODE_TYPE_I32, task->requests, task->characters},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char path[512];
        snprintf(path, sizeof path, "/tasks/%s/%s", name, parts[i].name);
        LODE_TRY(lode_tokenize_put(store, run, path, parts[i].type, parts[i].count, parts[i].data));
    }
    return LODE_OK;
}

void lode_task_ids_free(lode_task_ids_t *task) {
    lode_ids_free(&task->ids);
    free(task->first);
    free(task->gold);
    free(task->context);
    free(task->characters);
    *task = (lode_task_ids_t){0};
}
