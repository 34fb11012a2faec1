#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"
#include "base/lookup.h"
#include "text/field.h"

struct lode_vocab {
    char *texts;       /* every token with a NUL behind it, in order of the file */
    size_t *starts;    /* [size] into texts, NONE where no token has the id */
    size_t *lengths;   /* [size] bytes */
    lode_lookup_t ids; /* by hashes of the tokens */
    int32_t size, count;
    size_t longest;
};

static const size_t NONE = SIZE_MAX;

/* Finds how much room the object needs, and checks every id on the way. */
static lode_status_t measure(lode_vocab_t *vocab, size_t *bytes, const json_t *object,
                             const char *where) {
    *bytes = 0;
    void *iterator = json_object_iter((json_t *)(uintptr_t)object);
    for (; iterator; iterator = json_object_iter_next((json_t *)(uintptr_t)object, iterator)) {
        const char *token = json_object_iter_key(iterator);
        int32_t id;
        LODE_TRY(lode_field_id(&id, json_object_iter_value(iterator), token, where));
        size_t length = strlen(token);
        *bytes += length + 1;
        if (length > vocab->longest)
            vocab->longest = length;
        if (id >= vocab->size)
            vocab->size = id + 1;
    }
    size_t count = json_object_size(object);
    if (count == 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: the vocabulary is empty", where);
    if (count > LODE_TOKEN_ID_LIMIT)
        return lode_fail(LODE_ERR_FORMAT, "%s: more than %d tokens", where, LODE_TOKEN_ID_LIMIT);
    vocab->count = (int32_t)count;
    return LODE_OK;
}

static lode_status_t allocate(lode_vocab_t *vocab, size_t bytes) {
    LODE_TRY(lode_lookup_reserve(&vocab->ids, vocab->count, "vocabulary"));
    LODE_TRY(LODE_NEW_RAW(&vocab->texts, (int64_t)bytes, "vocabulary"));
    LODE_TRY(LODE_NEW_RAW(&vocab->lengths, vocab->size, "vocabulary"));
    LODE_TRY(LODE_NEW_RAW(&vocab->starts, vocab->size, "vocabulary"));
    for (int32_t id = 0; id < vocab->size; id++)
        vocab->starts[id] = NONE;
    return LODE_OK;
}

static lode_status_t fill(lode_vocab_t *vocab, const json_t *object, const char *where) {
    size_t used = 0;
    void *iterator = json_object_iter((json_t *)(uintptr_t)object);
    for (; iterator; iterator = json_object_iter_next((json_t *)(uintptr_t)object, iterator)) {
        const char *token = json_object_iter_key(iterator);
        size_t length = strlen(token);
        int32_t id = (int32_t)json_integer_value(json_object_iter_value(iterator));
        if (vocab->starts[id] != NONE)
            return lode_fail(LODE_ERR_FORMAT, "%s: \"%.100s\" and \"%.100s\" have the same id %d",
                             where, vocab->texts + vocab->starts[id], token, id);
        memcpy(vocab->texts + used, token, length + 1);
        vocab->starts[id] = used;
        vocab->lengths[id] = length;
        used += length + 1;
        LODE_TRY(lode_lookup_add(&vocab->ids, XXH3_64bits(token, length), id, "vocabulary"));
    }
    return LODE_OK;
}

lode_status_t lode_vocab_parse(lode_vocab_t **out, const json_t *object, const char *where) {
    *out = NULL;
    LODE_TRY(lode_field_expect(object, JSON_OBJECT, "the vocabulary", where));
    lode_vocab_t *vocab = NULL;
    LODE_TRY(LODE_NEW(&vocab, 1, "vocabulary"));
    size_t bytes;
    lode_status_t status = measure(vocab, &bytes, object, where);
    if (status == LODE_OK)
        status = allocate(vocab, bytes);
    if (status == LODE_OK)
        status = fill(vocab, object, where);
    if (status != LODE_OK)
        lode_vocab_destroy(&vocab);
    *out = vocab;
    return status;
}

void lode_vocab_destroy(lode_vocab_t **vocab) {
    if (!*vocab)
        return;
    free((*vocab)->texts);
    free((*vocab)->starts);
    free((*vocab)->lengths);
    lode_lookup_free(&(*vocab)->ids);
    free(*vocab);
    *vocab = NULL;
}

int32_t lode_vocab_find(const lode_vocab_t *vocab, const char *token, size_t length) {
    const uint64_t hash = XXH3_64bits(token, length);
    uint64_t at = lode_lookup_home(&vocab->ids, hash);
    for (int64_t id; (id = lode_lookup_next(&vocab->ids, hash, &at)) >= 0;)
        if (vocab->lengths[id] == length &&
            memcmp(vocab->texts + vocab->starts[id], token, length) == 0)
            return (int32_t)id;
    return -1;
}

const char *lode_vocab_token(const lode_vocab_t *vocab, int32_t id, size_t *length) {
    if (id < 0 || id >= vocab->size || vocab->starts[id] == NONE)
        return NULL;
    if (length)
        *length = vocab->lengths[id];
    return vocab->texts + vocab->starts[id];
}

int32_t lode_vocab_size(const lode_vocab_t *vocab) {
    return vocab->size;
}

int32_t lode_vocab_count(const lode_vocab_t *vocab) {
    return vocab->count;
}

size_t lode_vocab_longest(const lode_vocab_t *vocab) {
    return vocab->longest;
}
