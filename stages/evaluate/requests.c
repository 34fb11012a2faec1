#include "evaluate/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A request as the tokenize file has it. */
typedef struct raw {
    const int32_t *id; /* [length] what is kept of context and continuation */
    int64_t length;
    int32_t scored;  /* of these, the last ones */
    int64_t request; /* its number */
} raw_t;

/* What is read and not kept. */
typedef struct input {
    int64_t *offsets;
    int32_t *ids, *context;
    int64_t id_count, offset_count, context_count, gold_count, character_count;
} input_t;

static lode_status_t read_part(lode_store_t *tokenize, const char *name, const char *part,
                               lode_type_t type, void *out, int64_t *count) {
    char path[512];
    snprintf(path, sizeof path, "/tasks/%s/%s", name, part);
    return lode_store_read_all(tokenize, path, type, out, count);
}

/* Whether the arrays fit each other; what the file's writer guarantees is not looked at again. */
static bool consistent(const lode_requests_t *requests, const input_t *input) {
    const int64_t count = requests->count;
    bool sound = requests->items > 0 && count > 0 && input->offset_count == count + 1 &&
                 input->gold_count == requests->items && input->character_count == count &&
                 requests->first[0] == 0 && requests->first[requests->items] == count &&
                 input->offsets[0] == 0 && input->offsets[count] == input->id_count;
    for (int64_t i = 0; sound && i < requests->items; i++)
        sound = requests->first[i] < requests->first[i + 1] && requests->gold[i] >= 0 &&
                requests->gold[i] < requests->first[i + 1] - requests->first[i];
    for (int64_t r = 0; sound && r < count; r++)
        sound = input->offsets[r] < input->offsets[r + 1] && input->context[r] >= 1 &&
                input->context[r] < input->offsets[r + 1] - input->offsets[r];
    return sound;
}

static lode_status_t read_input(lode_requests_t *requests, input_t *input, lode_store_t *tokenize,
                                const char *name) {
    LODE_TRY(read_part(tokenize, name, "ids", LODE_TYPE_I32, &input->ids, &input->id_count));
    LODE_TRY(
        read_part(tokenize, name, "offsets", LODE_TYPE_I64, &input->offsets, &input->offset_count));
    LODE_TRY(read_part(tokenize, name, "context", LODE_TYPE_I32, &input->context,
                       &input->context_count));
    LODE_TRY(read_part(tokenize, name, "first", LODE_TYPE_I64, &requests->first, &requests->items));
    LODE_TRY(read_part(tokenize, name, "gold", LODE_TYPE_I32, &requests->gold, &input->gold_count));
    LODE_TRY(read_part(tokenize, name, "characters", LODE_TYPE_I32, &requests->characters,
                       &input->character_count));
    requests->items--;
    requests->count = input->context_count;
    if (!consistent(requests, input))
        return lode_fail(LODE_ERR_FORMAT,
                         "tokenize.h5: /tasks/%s: its parts do not fit each other; run the stage "
                         "tokenize again",
                         name);
    for (int64_t i = 0; i < requests->items; i++) {
        const int64_t width = requests->first[i + 1] - requests->first[i];
        requests->width = width > requests->width ? width : requests->width;
    }
    return LODE_OK;
}

/* Cuts the requests to the model's positions. */
static lode_status_t cut(raw_t *raw, lode_requests_t *requests, const input_t *input,
                         const char *name, int64_t positions) {
    LODE_TRY(LODE_NEW(&requests->tokens, requests->count, "requests"));
    for (int64_t i = 0; i < requests->items; i++)
        for (int64_t r = requests->first[i]; r < requests->first[i + 1]; r++) {
            const int64_t length = input->offsets[r + 1] - input->offsets[r];
            const int64_t scored = length - input->context[r];
            const int64_t kept = length > positions + 1 ? positions + 1 : length;
            if (scored > positions)
                return lode_fail(LODE_ERR_INPUT,
                                 "evaluate.tasks \"%s\": the continuation of item %lld, request "
                                 "%lld has %lld tokens, the model has %lld positions; take the "
                                 "item out of the task's file",
                                 name, (long long)i, (long long)(r - requests->first[i]),
                                 (long long)scored, (long long)positions);
            requests->tokens[r] = (int32_t)scored;
            requests->truncated += kept < length;
            raw[r] = (raw_t){.id = input->ids + input->offsets[r + 1] - kept,
                             .length = kept,
                             .scored = (int32_t)scored,
                             .request = r};
        }
    return LODE_OK;
}

/* By what is computed alone: the longest first. */
static int compare_computed(const raw_t *a, const raw_t *b) {
    if (a->length != b->length)
        return a->length > b->length ? -1 : 1;
    const int ids = memcmp(a->id, b->id, (size_t)a->length * sizeof *a->id);
    return ids != 0 ? ids : (a->scored > b->scored) - (a->scored < b->scored);
}

static int compare_raw(const void *left, const void *right) {
    const raw_t *a = left, *b = right;
    const int computed = compare_computed(a, b);
    return computed != 0 ? computed : (a->request > b->request) - (a->request < b->request);
}

/* Sequences and targets of the sorted requests. */
static lode_status_t build(lode_requests_t *requests, const raw_t *raw) {
    int64_t sequences = 0, tokens = 0;
    for (int64_t r = 0; r < requests->count; r++)
        if (r == 0 || compare_computed(&raw[r - 1], &raw[r]) != 0) {
            sequences++;
            tokens += raw[r].length - 1;
        }
    LODE_TRY(LODE_NEW(&requests->sequence, requests->count, "requests"));
    LODE_TRY(LODE_NEW(&requests->offsets, sequences + 1, "requests"));
    LODE_TRY(LODE_NEW_RAW(&requests->ids, tokens, "requests"));
    LODE_TRY(LODE_NEW_RAW(&requests->target, tokens, "requests"));
    int64_t s = -1;
    for (int64_t r = 0; r < requests->count; r++) {
        if (r == 0 || compare_computed(&raw[r - 1], &raw[r]) != 0) {
            const int64_t begin = requests->offsets[++s], length = raw[r].length - 1;
            memcpy(requests->ids + begin, raw[r].id, (size_t)length * sizeof *raw[r].id);
            for (int64_t t = 0; t < length; t++)
                requests->target[begin + t] = t < length - raw[r].scored ? -1 : raw[r].id[t + 1];
            requests->offsets[s + 1] = begin + length;
        }
        requests->sequence[raw[r].request] = s;
    }
    requests->text = (lode_text_t){.sequences = sequences,
                                   .offsets = requests->offsets,
                                   .ids = requests->ids,
                                   .target = requests->target};
    return LODE_OK;
}

lode_status_t lode_requests_read(lode_requests_t *requests, lode_store_t *tokenize,
                                 const char *name, int64_t positions) {
    input_t input = {0};
    raw_t *raw = NULL;
    *requests = (lode_requests_t){0};
    lode_status_t status = read_input(requests, &input, tokenize, name);
    if (status == LODE_OK)
        status = LODE_NEW(&raw, requests->count, "requests");
    if (status == LODE_OK)
        status = cut(raw, requests, &input, name, positions);
    if (status == LODE_OK) {
        qsort(raw, (size_t)requests->count, sizeof *raw, compare_raw);
        status = build(requests, raw);
    }
    free(raw);
    free(input.ids);
    free(input.offsets);
    free(input.context);
    if (status != LODE_OK)
        lode_requests_free(requests);
    return status;
}

void lode_requests_free(lode_requests_t *requests) {
    free(requests->first);
    free(requests->gold);
    free(requests->characters);
    free(requests->tokens);
    free(requests->sequence);
    free(requests->offsets);
    free(requests->ids);
    free(requests->target);
    *requests = (lode_requests_t){0};
}

void lode_requests_hash(const lode_requests_t *requests, lode_hash_t *hash) {
    const int64_t numbers[] = {requests->items, requests->count, requests->width};
    lode_hash_add(hash, numbers, sizeof numbers);
    lode_hash_add(hash, requests->first, (size_t)(requests->items + 1) * sizeof *requests->first);
    lode_hash_add(hash, requests->sequence, (size_t)requests->count * sizeof *requests->sequence);
}

int64_t lode_requests_memory(const lode_requests_t *requests) {
    const int64_t tokens = requests->offsets[requests->text.sequences];
    return tokens * (int64_t)(2 * sizeof(int32_t)) +
           requests->count * (int64_t)(sizeof(int64_t) + 2 * sizeof(int32_t)) +
           requests->items * (int64_t)(sizeof(int64_t) + sizeof(int32_t));
}

void lode_requests_spread(const lode_requests_t *requests, const int32_t *values, int32_t missing,
                          int32_t *table) {
    for (int64_t i = 0; i < requests->items; i++) {
        const int64_t first = requests->first[i], count = requests->first[i + 1] - first;
        for (int64_t r = 0; r < requests->width; r++)
            table[i * requests->width + r] = r < count ? values[first + r] : missing;
    }
}
