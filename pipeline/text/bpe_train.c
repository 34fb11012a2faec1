#include "text/bpe_train.h"

#include <jansson.h>
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
    status = add_alphabet(trained, id_of, list, total, setting);
done:
    free(counts);
    free(list);
    return status;
}

/* --- words as tokens ------------------------------------------------------------------------ */

/* A word, or a part of one between characters that are not in the alphabet. */
typedef struct spelt {
    int64_t start, length; /* of the symbols */
    int64_t count;
} spelt_t;

typedef struct trainer {
    lode_bpe_trained_t *trained;
    int32_t *symbols; /* [capacity] token ids, word by word */
    int64_t symbol_count, capacity;
    spelt_t *words; /* [word_capacity] */
    int64_t word_count, word_capacity;
    lode_bpe_pairs_t *pairs;
} trainer_t;

/* Ends the word of the symbols from `start` on, if there is a pair in it. */
static lode_status_t end_word(trainer_t *trainer, int64_t start, int64_t count) {
    const int64_t length = trainer->symbol_count - start;
    if (length < 2) {
        trainer->symbol_count = start;
        return LODE_OK;
    }
    if (trainer->word_count == trainer->word_capacity) {
        const int64_t capacity = trainer->word_capacity ? 2 * trainer->word_capacity : 4096;
        LODE_TRY(lode_resize(&trainer->words, capacity, sizeof *trainer->words, "words"));
        trainer->word_capacity = capacity;
    }
    if (trainer->word_count == INT32_MAX)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "a tokenizer cannot be trained on more than %d distinct words; set "
                         "train.tokenizer.sample",
                         INT32_MAX);
    trainer->words[trainer->word_count++] = (spelt_t){start, length, count};
    return LODE_OK;
}

static lode_status_t spell_word(trainer_t *trainer, const int32_t *id_of, const char *text,
                                size_t length, int64_t count) {
    int64_t start = trainer->symbol_count;
    for (size_t at = 0; at < length;) {
        uint32_t code_point;
        at += (size_t)lode_utf8_decode(text + at, length - at, &code_point);
        if (id_of[code_point] == 0) {
            LODE_TRY(end_word(trainer, start, count));
            start = trainer->symbol_count;
            continue;
        }
        if (trainer->symbol_count == trainer->capacity) {
            const int64_t capacity = trainer->capacity ? 2 * trainer->capacity : 1 << 16;
            LODE_TRY(lode_resize(&trainer->symbols, capacity, sizeof *trainer->symbols, "symbols"));
            trainer->capacity = capacity;
        }
        trainer->symbols[trainer->symbol_count++] = id_of[code_point];
    }
    return end_word(trainer, start, count);
}

static lode_status_t spell_words(trainer_t *trainer, const lode_bpe_words_t *words,
                                 lode_bpe_setting_t setting) {
    int32_t *id_of = NULL;
    LODE_TRY(LODE_NEW(&id_of, CODE_POINTS, "characters"));
    lode_status_t status = make_alphabet(trainer->trained, id_of, words, setting);
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

static lode_status_t count_pairs(trainer_t *trainer) {
    LODE_TRY(lode_bpe_pairs_create(&trainer->pairs));
    for (int64_t i = 0; i < trainer->word_count; i++) {
        const spelt_t word = trainer->words[i];
        const int32_t *symbol = trainer->symbols + word.start;
        for (int64_t at = 0; at + 1 < word.length; at++)
            LODE_TRY(lode_bpe_pairs_add(trainer->pairs, symbol[at], symbol[at + 1], (int32_t)i,
                                        word.count));
    }
    return lode_bpe_pairs_settle(trainer->pairs);
}

/* Puts the token `into` wherever a word has the pair; what is merged stands on the left already
 * when the next place is looked at. */
static lode_status_t merge_word(trainer_t *trainer, int32_t index, const lode_bpe_pair_t *pair,
                                int32_t into) {
    spelt_t *word = &trainer->words[index];
    lode_bpe_pairs_t *pairs = trainer->pairs;
    int32_t *symbol = trainer->symbols + word->start;
    int64_t kept = 0;
    for (int64_t at = 0; at < word->length; at++) {
        if (symbol[at] != pair->left || at + 1 == word->length || symbol[at + 1] != pair->right) {
            symbol[kept++] = symbol[at];
            continue;
        }
        if (kept > 0) {
            lode_bpe_pairs_remove(pairs, symbol[kept - 1], pair->left, word->count);
            LODE_TRY(lode_bpe_pairs_add(pairs, symbol[kept - 1], into, index, word->count));
        }
        if (at + 2 < word->length) {
            lode_bpe_pairs_remove(pairs, pair->right, symbol[at + 2], word->count);
            LODE_TRY(lode_bpe_pairs_add(pairs, into, symbol[at + 2], index, word->count));
        }
        symbol[kept++] = into;
        at++;
    }
    word->length = kept;
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
    trained->merges[trained->size.merges++] =
        (lode_bpe_merge_t){.left = pair->left, .right = pair->right, .count = pair->count};
    for (int64_t i = 0; i < pair->word_count; i++)
        LODE_TRY(merge_word(trainer, pair->words[i], pair, into));
    return lode_bpe_pairs_settle(trainer->pairs);
}

static lode_status_t merge_pairs(trainer_t *trainer, lode_bpe_setting_t setting, const char *name) {
    lode_bpe_trained_t *trained = trainer->trained;
    LODE_TRY(count_pairs(trainer));
    while (trained->size.tokens < setting.vocabulary) {
        lode_bpe_pair_t pair = {0};
        if (!lode_bpe_pairs_take(trainer->pairs, &pair) || pair.count < setting.least) {
            free(pair.words);
            return lode_fail(
                LODE_ERR_INPUT,
                "%s: has enough pairs for a vocabulary of %lld tokens, not of %lld (a pair "
                "counts if it stands in %lld places or more); %s or "
                "lower train.tokenizer.vocabulary",
                name, (long long)trained->size.tokens, (long long)setting.vocabulary,
                (long long)setting.least,
                setting.sample > 0 ? "raise train.tokenizer.sample, train on more text"
                                   : "train on more text");
        }
        const lode_status_t status = merge_pair(trainer, &pair);
        free(pair.words);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* --- training ------------------------------------------------------------------------------- */

static lode_status_t train_on(lode_bpe_trained_t *trained, const lode_bpe_words_t *words,
                              lode_bpe_setting_t setting, const char *name) {
    trainer_t trainer = {.trained = trained};
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&trained->starts, setting.vocabulary, "tokens"), done);
    LODE_GUARD(status, LODE_NEW(&trained->merges, setting.vocabulary, "merges"), done);
    LODE_GUARD(status, add_reserved(trained), done);
    LODE_GUARD(status, spell_words(&trainer, words, setting), done);
    status = merge_pairs(&trainer, setting, name);
done:
    free(trainer.symbols);
    free(trainer.words);
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
        status = train_on(made, words, setting, name);
    }
    lode_bpe_words_destroy(&words);
    if (status != LODE_OK)
        lode_bpe_trained_destroy(&made);
    *trained = made;
    return status;
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
