#include "text/bpe_train.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/bpe_pairs.h"
#include "text/bpe_words.h"
#include "text/field.h"
#include "text/utf8.h"

enum { CODE_POINTS = 0x110000, SPACE_MARK = 0x2581 /* ▁ */ };

struct lode_bpe_trained {
    lode_buffer_t texts; /* of all tokens, each with its NUL */
    size_t *starts;      /* [setting.vocabulary] */
    lode_bpe_merge_t *merges;
    lode_bpe_size_t size;
};

/* The file but for the vocabulary and the merges. */
static const char FRAME[] =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": ["
    "{\"id\": 0, \"content\": \"<unk>\", \"single_word\": false, \"lstrip\": false,"
    " \"rstrip\": false, \"normalized\": false, \"special\": true},"
    "{\"id\": 1, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": false,"
    " \"rstrip\": false, \"normalized\": false, \"special\": true},"
    "{\"id\": 2, \"content\": \"</s>\", \"single_word\": false, \"lstrip\": false,"
    " \"rstrip\": false, \"normalized\": false, \"special\": true}],"
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
    "{\"type\": \"Prepend\", \"prepend\": \"▁\"},"
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}]},"
    "\"pre_tokenizer\": null,"
    "\"post_processor\": {\"type\": \"TemplateProcessing\","
    "\"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}},"
    "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}],"
    "\"pair\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}},"
    "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
    "{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 1}},"
    "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}],"
    "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}},"
    "\"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \"▁\"}, \"content\": \" \"},"
    "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
    "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"
    "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\","
    "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": true,"
    "\"byte_fallback\": true, \"vocab\": {}, \"merges\": []}}";

lode_bpe_setting_t lode_bpe_setting(int64_t vocabulary, int64_t sample, int64_t seed) {
    const int64_t room = vocabulary - LODE_BPE_RESERVED;
    return (lode_bpe_setting_t){.vocabulary = vocabulary,
                                .coverage = 0.9995,
                                .alphabet = room > 2 ? room / 2 : 1,
                                .least = 2,
                                .sample = sample,
                                .seed = seed};
}

/* --- tokens --------------------------------------------------------------------------------- */

static lode_status_t add_token(lode_bpe_trained_t *trained, const char *text) {
    trained->starts[trained->size.tokens] = trained->texts.length;
    LODE_TRY(lode_buffer_append(&trained->texts, text, strlen(text) + 1));
    trained->size.tokens++;
    return LODE_OK;
}

static lode_status_t add_reserved(lode_bpe_trained_t *trained) {
    static const char *const specials[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < 3; i++)
        LODE_TRY(add_token(trained, specials[i]));
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        LODE_TRY(add_token(trained, text));
    }
    return LODE_OK;
}

const char *lode_bpe_trained_token(const lode_bpe_trained_t *trained, int64_t id) {
    LODE_ASSERT(id >= 0 && id < trained->size.tokens);
    return trained->texts.data + trained->starts[id];
}

/* --- the alphabet --------------------------------------------------------------------------- */

typedef struct character {
    uint32_t code_point;
    int64_t count;
} character_t;

static bool is_control(uint32_t code_point) {
    return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0);
}

/* The space mark before all others. */
static int by_count(const void *a, const void *b) {
    const character_t *x = a, *y = b;
    if ((x->code_point == SPACE_MARK) != (y->code_point == SPACE_MARK))
        return x->code_point == SPACE_MARK ? -1 : 1;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->code_point < y->code_point ? -1 : 1;
}

static int by_code_point(const void *a, const void *b) {
    const character_t *x = a, *y = b;
    return (x->code_point > y->code_point) - (x->code_point < y->code_point);
}

/* counts [CODE_POINTS] of the characters of all words. */
static void count_characters(int64_t *counts, const lode_bpe_words_t *words) {
    for (int64_t i = 0; i < lode_bpe_words_count(words); i++) {
        const char *text;
        size_t length;
        uint32_t code_point;
        const int64_t count = lode_bpe_words_word(words, i, &text, &length);
        for (size_t at = 0; at < length;) {
            at += (size_t)lode_utf8_decode(text + at, length - at, &code_point);
            counts[code_point] += count;
        }
    }
}

/* Puts the alphabet at the beginning of list [total]; returns how many characters it has. */
static int64_t choose_alphabet(character_t *list, int64_t total, lode_bpe_setting_t setting) {
    double all = 0, covered = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < total; i++)
        all += (double)list[i].count;
    qsort(list, (size_t)total, sizeof *list, by_count);
    while (kept < total && (kept == 0 || covered < setting.coverage * all) &&
           (setting.alphabet == 0 || kept < setting.alphabet))
        covered += (double)list[kept++].count;
    qsort(list, (size_t)kept, sizeof *list, by_code_point);
    return kept;
}

/* Adds the alphabet's tokens and enters their ids into id_of [CODE_POINTS], which is 0 elsewhere.
 */
static lode_status_t add_alphabet(lode_bpe_trained_t *trained, int32_t *id_of, character_t *list,
                                  int64_t total, lode_bpe_setting_t setting) {
    const int64_t kept = choose_alphabet(list, total, setting);
    if (LODE_BPE_RESERVED + kept > setting.vocabulary)
        return lode_fail(LODE_ERR_CONFIG,
                         "train.tokenizer.vocabulary = %lld has no room for the %lld characters of "
                         "the alphabet beside %d other tokens; raise it to %lld at least",
                         (long long)setting.vocabulary, (long long)kept, LODE_BPE_RESERVED,
                         (long long)(LODE_BPE_RESERVED + kept));
    for (int64_t i = 0; i < kept; i++) {
        char text[5] = "";
        lode_utf8_encode(list[i].code_point, text);
        id_of[list[i].code_point] = (int32_t)trained->size.tokens;
        LODE_TRY(add_token(trained, text));
    }
    trained->size.alphabet = kept;
    return LODE_OK;
}

static lode_status_t make_alphabet(lode_bpe_trained_t *trained, int32_t *id_of,
                                   const lode_bpe_words_t *words, lode_bpe_setting_t setting) {
    int64_t *counts = NULL, total = 0;
    character_t *list = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&counts, CODE_POINTS, "characters"), done);
    count_characters(counts, words);
    for (uint32_t c = 0; c < CODE_POINTS; c++)
        total += c == SPACE_MARK || (counts[c] > 0 && !is_control(c));
    LODE_GUARD(status, LODE_NEW(&list, total, "characters"), done);
    total = 0;
    for (uint32_t c = 0; c < CODE_POINTS; c++)
        if (c == SPACE_MARK || (counts[c] > 0 && !is_control(c)))
            list[total++] = (character_t){c, counts[c]};
    lode_memory_sample();
    status = add_alphabet(trained, id_of, list, total, setting);
done:
    free(counts);
    free(list);
    return status;
}

/* --- words as tokens ------------------------------------------------------------------------ */

/* The text as tokens. A token of several characters has its id where it begins, the complement of
 * that where it ends, and INSIDE between, so that its neighbours on both sides are found. */
typedef struct place {
    int32_t token; /* BOUNDARY in front of every word and behind the last */
    int32_t word;
} place_t;

enum { BOUNDARY = 0 /* <unk>, which no text is spelt with */, INSIDE = INT32_MIN };

typedef struct trainer {
    lode_bpe_trained_t *trained;
    place_t *places;
    int64_t place_count;
    int64_t *counts; /* [word_capacity] of the words, how often each stands in the text */
    int64_t word_count, word_capacity;
    int32_t *lengths; /* [setting.vocabulary] of the tokens, in characters */
    lode_bpe_pairs_t *pairs;
} trainer_t;

/* Room for all words with a boundary behind each and one in front. */
static lode_status_t make_places(trainer_t *trainer, const lode_bpe_words_t *words) {
    int64_t most = 1;
    for (int64_t i = 0; i < lode_bpe_words_count(words); i++) {
        const char *text;
        size_t length;
        (void)lode_bpe_words_word(words, i, &text, &length);
        most += lode_utf8_count(text, length) + 1;
    }
    if (most > INT32_MAX)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "a tokenizer cannot be trained on %lld characters of distinct words, %d "
                         "at most; set train.tokenizer.sample",
                         (long long)most, INT32_MAX);
    return LODE_NEW_RAW(&trainer->places, most, "text");
}

static void add_place(trainer_t *trainer, int32_t token) {
    trainer->places[trainer->place_count++] =
        (place_t){.token = token, .word = (int32_t)trainer->word_count};
}

/* Ends the word of the places from `start` on, which stands in the text `count` times, if there is
 * a pair in it. A word is here also a part of one between characters that are not in the alphabet.
 */
static lode_status_t end_word(trainer_t *trainer, int64_t start, int64_t count) {
    if (trainer->place_count - start < 2) {
        trainer->place_count = start;
        return LODE_OK;
    }
    if (trainer->word_count == trainer->word_capacity) {
        const int64_t capacity = trainer->word_capacity ? 2 * trainer->word_capacity : 4096;
        LODE_TRY(lode_resize(&trainer->counts, capacity, sizeof *trainer->counts, "words"));
        trainer->word_capacity = capacity;
    }
    trainer->counts[trainer->word_count] = count;
    add_place(trainer, BOUNDARY);
    trainer->word_count++;
    return LODE_OK;
}

static lode_status_t spell_word(trainer_t *trainer, const int32_t *id_of, const char *text,
                                size_t length, int64_t count) {
    int64_t start = trainer->place_count;
    for (size_t at = 0; at < length;) {
        uint32_t code_point;
        at += (size_t)lode_utf8_decode(text + at, length - at, &code_point);
        if (id_of[code_point] != 0) {
            add_place(trainer, id_of[code_point]);
            continue;
        }
        LODE_TRY(end_word(trainer, start, count));
        start = trainer->place_count;
    }
    return end_word(trainer, start, count);
}

static lode_status_t spell_words(trainer_t *trainer, const lode_bpe_words_t *words,
                                 lode_bpe_setting_t setting) {
    int32_t *id_of = NULL;
    LODE_TRY(LODE_NEW(&id_of, CODE_POINTS, "characters"));
    lode_status_t status = make_alphabet(trainer->trained, id_of, words, setting);
    if (status == LODE_OK)
        status = make_places(trainer, words);
    if (status == LODE_OK)
        add_place(trainer, BOUNDARY);
    for (int64_t i = 0; i < lode_bpe_words_count(words) && status == LODE_OK; i++) {
        const char *text;
        size_t length;
        const int64_t count = lode_bpe_words_word(words, i, &text, &length);
        status = spell_word(trainer, id_of, text, length, count);
    }
    free(id_of);
    return status;
}

/* --- merges --------------------------------------------------------------------------------- */

static lode_status_t count_pairs(trainer_t *trainer, lode_bpe_setting_t setting) {
    const place_t *places = trainer->places;
    LODE_TRY(lode_bpe_pairs_create(&trainer->pairs, setting.vocabulary, setting.least));
    for (int64_t at = 0; at + 1 < trainer->place_count; at++)
        if (places[at].token != BOUNDARY && places[at + 1].token != BOUNDARY)
            LODE_TRY(lode_bpe_pairs_add(trainer->pairs, places[at].token, places[at + 1].token,
                                        (int32_t)at, trainer->counts[places[at].word]));
    return lode_bpe_pairs_settle(trainer->pairs, (int32_t)trainer->trained->size.tokens);
}

/* Puts the token `into` where a pair stands, if it still stands there; what is merged already
 * stands on the left of what is not yet. */
static lode_status_t merge_at(trainer_t *trainer, int32_t first, const lode_bpe_pair_t *pair,
                              int32_t into) {
    place_t *places = trainer->places;
    lode_bpe_pairs_t *pairs = trainer->pairs;
    const int32_t *lengths = trainer->lengths;
    const int32_t second = first + lengths[pair->left], behind = second + lengths[pair->right];
    if (places[first].token != pair->left || places[second].token != pair->right)
        return LODE_OK;
    const int64_t count = trainer->counts[places[first].word];
    const int32_t end = places[first - 1].token, before = end < 0 ? ~end : end;
    const int32_t next = places[behind].token;
    if (before != BOUNDARY) {
        lode_bpe_pairs_remove(pairs, before, pair->left, count);
        LODE_TRY(lode_bpe_pairs_add(pairs, before, into, first - lengths[before], count));
    }
    if (next != BOUNDARY) {
        lode_bpe_pairs_remove(pairs, pair->right, next, count);
        LODE_TRY(lode_bpe_pairs_add(pairs, into, next, first, count));
    }
    places[second - 1].token = places[second].token = INSIDE;
    places[first].token = into;
    places[behind - 1].token = ~into;
    return LODE_OK;
}

static lode_status_t merge_pair(trainer_t *trainer, const lode_bpe_pair_t *pair) {
    lode_bpe_trained_t *trained = trainer->trained;
    const int32_t into = (int32_t)trained->size.tokens;
    lode_buffer_t text = {0}; /* apart, because the tokens' texts may move */
    lode_status_t status =
        lode_buffer_printf(&text, "%s%s", lode_bpe_trained_token(trained, pair->left),
                           lode_bpe_trained_token(trained, pair->right));
    if (status == LODE_OK)
        status = add_token(trained, text.data);
    lode_buffer_free(&text);
    LODE_TRY(status);
    trainer->lengths[into] = trainer->lengths[pair->left] + trainer->lengths[pair->right];
    trained->merges[trained->size.merges++] =
        (lode_bpe_merge_t){.left = pair->left, .right = pair->right, .count = pair->count};
    for (int32_t i = 0; i < pair->place_count; i++)
        LODE_TRY(merge_at(trainer, pair->places[i], pair, into));
    return lode_bpe_pairs_settle(trainer->pairs, into + 1);
}

static lode_status_t merge_pairs(trainer_t *trainer, lode_bpe_setting_t setting, const char *name) {
    lode_bpe_trained_t *trained = trainer->trained;
    LODE_TRY(LODE_NEW_RAW(&trainer->lengths, setting.vocabulary, "tokens"));
    for (int64_t id = 0; id < trained->size.tokens; id++)
        trainer->lengths[id] = 1;
    LODE_TRY(count_pairs(trainer, setting));
    while (trained->size.tokens < setting.vocabulary) {
        lode_bpe_pair_t pair;
        if (!lode_bpe_pairs_take(trainer->pairs, &pair))
            return lode_fail(
                LODE_ERR_INPUT,
                "%s: has enough pairs for a vocabulary of %lld tokens, not of %lld (a pair "
                "counts if it stands in %lld places or more); %s or "
                "lower train.tokenizer.vocabulary",
                name, (long long)trained->size.tokens, (long long)setting.vocabulary,
                (long long)setting.least,
                setting.sample > 0 ? "raise train.tokenizer.sample, train on more text"
                                   : "train on more text");
        const lode_status_t status = merge_pair(trainer, &pair);
        free(pair.places);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* --- training ------------------------------------------------------------------------------- */

/* The words are let go when they are spelt, before there is most to hold. */
static lode_status_t train_on(lode_bpe_trained_t *trained, lode_bpe_words_t **words,
                              lode_bpe_setting_t setting, const char *name) {
    trainer_t trainer = {.trained = trained};
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&trained->starts, setting.vocabulary, "tokens"), done);
    LODE_GUARD(status, LODE_NEW(&trained->merges, setting.vocabulary, "merges"), done);
    LODE_GUARD(status, add_reserved(trained), done);
    LODE_GUARD(status, spell_words(&trainer, *words, setting), done);
    lode_bpe_words_destroy(words);
    status = merge_pairs(&trainer, setting, name);
    lode_memory_sample();
done:
    free(trainer.places);
    free(trainer.counts);
    free(trainer.lengths);
    lode_bpe_pairs_destroy(&trainer.pairs);
    return status;
}

/* The file's frame, the caller's to release. */
static lode_status_t load_frame(json_t **frame) {
    json_error_t problem;
    *frame = json_loads(FRAME, 0, &problem);
    return *frame ? LODE_OK : lode_fail(LODE_ERR_MEMORY, "no memory for a tokenizer");
}

static lode_status_t read_words(lode_bpe_words_t **words, const lode_corpus_t *corpus,
                                lode_bpe_setting_t setting, const char *name) {
    json_t *frame;
    lode_normalizer_t *normalizer = NULL;
    *words = NULL;
    LODE_TRY(load_frame(&frame));
    lode_status_t status =
        lode_normalizer_parse(&normalizer, json_object_get(frame, "normalizer"), "tokenizer");
    json_decref(frame);
    if (status == LODE_OK)
        status = lode_bpe_words_read(words, corpus, normalizer, setting.sample, setting.seed, name);
    lode_normalizer_destroy(&normalizer);
    return status;
}

static lode_status_t check_setting(lode_bpe_setting_t setting) {
    if (setting.vocabulary > LODE_BPE_RESERVED && setting.vocabulary <= LODE_TOKEN_ID_LIMIT)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG,
                     "train.tokenizer.vocabulary = %lld must lie above %d, for the bytes and three "
                     "special tokens, and not above %d",
                     (long long)setting.vocabulary, LODE_BPE_RESERVED, LODE_TOKEN_ID_LIMIT);
}

lode_status_t lode_bpe_train(lode_bpe_trained_t **trained, const lode_corpus_t *corpus,
                             lode_bpe_setting_t setting, const char *name) {
    *trained = NULL;
    lode_bpe_words_t *words;
    lode_bpe_trained_t *made = NULL;
    LODE_TRY(check_setting(setting));
    LODE_TRY(read_words(&words, corpus, setting, name));
    lode_status_t status = LODE_NEW(&made, 1, "tokenizer");
    if (status == LODE_OK) {
        made->size.bytes = lode_bpe_words_bytes(words);
        made->size.lines = lode_bpe_words_lines(words);
        made->size.words = lode_bpe_words_count(words);
        status = train_on(made, &words, setting, name);
    }
    lode_bpe_words_destroy(&words);
    if (status != LODE_OK)
        lode_bpe_trained_destroy(&made);
    *trained = made;
    return status;
}

int64_t lode_bpe_train_memory(const char *head, size_t length, int64_t bytes, int64_t vocabulary) {
    enum { EACH = 22, TOKEN = 200 }; /* bytes by character of distinct words, by token: measured */
    const int64_t characters = CODE_POINTS * (int64_t)(sizeof(int32_t) + sizeof(int64_t));
    double distinct = (double)lode_bpe_words_distinct(head, length);
    const double half = (double)lode_bpe_words_distinct(head, length / 2);
    if (half > 0 && distinct > half && bytes > (int64_t)length)
        distinct *= pow((double)bytes / (double)length, fmin(1, log2(distinct / half)));
    return characters + EACH * (int64_t)fmin(distinct, 2 * (double)bytes) + TOKEN * vocabulary;
}

void lode_bpe_trained_destroy(lode_bpe_trained_t **trained) {
    if (!*trained)
        return;
    lode_buffer_free(&(*trained)->texts);
    free((*trained)->starts);
    free((*trained)->merges);
    free(*trained);
    *trained = NULL;
}

lode_bpe_size_t lode_bpe_trained_size(const lode_bpe_trained_t *trained) {
    return trained->size;
}

lode_bpe_merge_t lode_bpe_trained_merge(const lode_bpe_trained_t *trained, int64_t i) {
    LODE_ASSERT(i >= 0 && i < trained->size.merges);
    return trained->merges[i];
}

/* --- the file ------------------------------------------------------------------------------- */

/* Fills "vocab" and "merges" in; false where memory is short, or where two tokens have one text,
 * which only a bug can cause. */
static bool fill_model(json_t *model, const lode_bpe_trained_t *trained) {
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    const lode_bpe_size_t size = trained->size;
    for (int64_t id = 0; id < size.tokens; id++)
        if (json_object_set_new(vocab, lode_bpe_trained_token(trained, id), json_integer(id)) != 0)
            return false;
    LODE_ASSERT((int64_t)json_object_size(vocab) == size.tokens);
    for (int64_t i = 0; i < size.merges; i++) {
        const lode_bpe_merge_t merge = trained->merges[i];
        if (json_array_append_new(merges,
                                  json_sprintf("%s %s", lode_bpe_trained_token(trained, merge.left),
                                               lode_bpe_trained_token(trained, merge.right))) != 0)
            return false;
    }
    return true;
}

lode_status_t lode_bpe_trained_write(const lode_bpe_trained_t *trained, lode_buffer_t *json) {
    json_t *frame;
    LODE_TRY(load_frame(&frame));
    char *text = fill_model(json_object_get(frame, "model"), trained)
                     ? json_dumps(frame, JSON_INDENT(1))
                     : NULL;
    json_decref(frame);
    const lode_status_t status = text ? lode_buffer_append(json, text, strlen(text))
                                      : lode_fail(LODE_ERR_MEMORY, "no memory for a tokenizer");
    free(text);
    return status;
}
