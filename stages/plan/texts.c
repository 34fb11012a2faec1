#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "common/evaluation.h"
#include "evaluate/requests.h"
#include "plan/forecast.h"
#include "plan/internal.h"
#include "text/bpe_train.h"
#include "text/corpus.h"
#include "text/gzip.h"
#include "text/task.h"
#include "tokenize/work.h"

/* Bytes of text to a token, where nobody has counted: English by a vocabulary of 32,000 or more
 * has 3.8 (WikiText-2) to 4.6. */
static const double BYTES_PER_TOKEN = 3.8;

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t tokens_of(size_t bytes) {
    return (int64_t)((double)bytes / BYTES_PER_TOKEN) + 1;
}

/* --- sequences ------------------------------------------------------------------------------- */

/* Sequences of the given lengths, or `length` each, the last one `last`, where `lengths` is NULL.
 */
static lode_status_t set_sequences(lode_forecast_text_t *text, int64_t sequences,
                                   const int64_t *lengths, int64_t length, int64_t last) {
    double squares = 0;
    free(text->offsets);
    text->offsets = NULL;
    LODE_TRY(LODE_NEW(&text->offsets, sequences + 1, "sequences"));
    text->sequences = sequences;
    text->longest = 0;
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t tokens = lengths ? lengths[s] : s + 1 < sequences ? length : last;
        text->offsets[s + 1] = text->offsets[s] + tokens;
        text->longest = max2(text->longest, tokens);
        squares += (double)tokens * (double)tokens;
    }
    text->tokens = text->offsets[sequences];
    text->context = text->tokens > 0 ? squares / (double)text->tokens : 0;
    return LODE_OK;
}

static lode_status_t copy_sequences(lode_forecast_text_t *text, const lode_text_t *from) {
    int64_t *lengths;
    LODE_TRY(LODE_NEW(&lengths, from->sequences, "sequences"));
    for (int64_t s = 0; s < from->sequences; s++)
        lengths[s] = from->offsets[s + 1] - from->offsets[s];
    const lode_status_t status = set_sequences(text, from->sequences, lengths, 0, 0);
    free(lengths);
    return status;
}

static lode_status_t cut(lode_forecast_text_t *text, int64_t micro_batch) {
    text->text = (lode_text_t){.sequences = text->sequences, .offsets = text->offsets};
    return lode_batches_create(&text->batches, &text->text, micro_batch);
}

lode_status_t lode_forecast_even(lode_forecast_text_t *text, int64_t sequences, int64_t length,
                                 int64_t micro_batch) {
    *text = (lode_forecast_text_t){0};
    LODE_TRY(set_sequences(text, sequences, NULL, length, length));
    return cut(text, micro_batch);
}

lode_status_t lode_forecast_first(lode_forecast_text_t *text, const lode_forecast_text_t *from,
                                  int64_t sequences, int64_t micro_batch) {
    const lode_text_t first = {.sequences = min2(sequences, from->sequences),
                               .offsets = from->offsets};
    *text = (lode_forecast_text_t){.name = from->name, .known = from->known};
    LODE_TRY(copy_sequences(text, &first));
    return cut(text, micro_batch);
}

int64_t lode_forecast_ids(const lode_forecast_texts_t *texts) {
    int64_t ids =
        texts->calibration.ids + texts->probe_ids + texts->prompts.tokens + texts->stopwords.tokens;
    for (int64_t i = 0; i < texts->count; i++)
        ids += texts->evaluation[i].ids;
    return ids;
}

/* --- calibration ----------------------------------------------------------------------------- */

/* Lengths that the texts of the corpus cannot exceed: a token stands for a byte at least, and most
 * texts gain a BOS. */
static lode_status_t bound_by_corpus(lode_forecast_text_t *text, int64_t most, int64_t length,
                                     const lode_corpus_t *corpus) {
    const int64_t sequences = min2(most, lode_corpus_count(corpus));
    int64_t *lengths;
    LODE_TRY(LODE_NEW(&lengths, sequences, "sequences"));
    for (int64_t s = 0; s < sequences; s++) {
        const char *start;
        size_t bytes;
        lode_corpus_text(corpus, s, &start, &bytes);
        lengths[s] = min2(length, (int64_t)bytes + 1);
    }
    const lode_status_t status = set_sequences(text, sequences, lengths, 0, 0);
    free(lengths);
    return status;
}

static lode_status_t bound_calibration(lode_forecast_text_t *text, const lode_run_t *run) {
    const lode_config_calibration_t *calibration = &run->config->calibration;
    const int64_t length = calibration->max_length;
    lode_corpus_t *corpus;
    text->known = LODE_KNOWN_BOUND;
    LODE_TRY(set_sequences(text, calibration->sequences, NULL, length, length));
    if (!lode_file_exists(calibration->corpus) ||
        lode_corpus_read(&corpus, calibration->corpus, calibration->format, LODE_CORPUS_ROWS,
                         calibration->field) != LODE_OK)
        return LODE_OK;
    lode_status_t status = LODE_OK;
    if (calibration->packing == LODE_PACKING_NONE && calibration->select == LODE_SELECT_FIRST)
        status = bound_by_corpus(text, calibration->sequences, length, corpus);
    lode_corpus_destroy(&corpus);
    return status;
}

/* Takes the sequences of a tokenize file that fits the experiment; whether it did is in
 * text->known. */
static lode_status_t count_calibration(lode_forecast_text_t *text, lode_store_t *tokenize,
                                       const lode_run_t *run) {
    const lode_config_calibration_t *calibration = &run->config->calibration;
    int64_t *offsets, count;
    if (lode_store_read_all(tokenize, "/calibration/offsets", LODE_TYPE_I64, &offsets, &count) !=
        LODE_OK)
        return LODE_OK;
    const lode_text_t read = {.sequences = count - 1, .offsets = offsets};
    bool fits = count > 1 && (count - 1 <= calibration->sequences || *calibration->merged);
    for (int64_t s = 0; s + 1 < count && fits; s++)
        fits = offsets[s + 1] - offsets[s] >= 2 &&
               offsets[s + 1] - offsets[s] <= calibration->max_length;
    lode_status_t status = LODE_OK;
    if (fits) {
        status = copy_sequences(text, &read);
        text->known = LODE_KNOWN_EXACTLY;
    }
    free(offsets);
    return status;
}

/* --- evaluation ------------------------------------------------------------------------------ */

/* Windows over so many tokens, as common/protocol cuts them. */
static lode_status_t set_windows(lode_forecast_text_t *text, const lode_config_perplexity_t *entry,
                                 int64_t tokens) {
    const int64_t length = entry->length, whole = tokens / length, rest = tokens % length;
    const bool disjoint =
        entry->protocol == LODE_PROTOCOL_GPTQ || entry->protocol == LODE_PROTOCOL_LLAMA_CPP;
    const int64_t windows = disjoint ? whole : whole + (rest > 0);
    LODE_TRY(set_sequences(text, windows, NULL, length, disjoint || rest == 0 ? length : rest));
    text->ids = tokens;
    text->targets = entry->protocol == LODE_PROTOCOL_GPTQ ? windows * (length - 1)
                    : entry->protocol == LODE_PROTOCOL_LLAMA_CPP
                        ? windows * (length - 1 - length / 2)
                        : tokens;
    return LODE_OK;
}

static lode_status_t guess_perplexity(lode_forecast_text_t *text,
                                      const lode_config_perplexity_t *entry, bool standard) {
    lode_corpus_t *corpus;
    const char *start;
    size_t bytes = 0;
    text->known = LODE_KNOWN_GUESS;
    if (lode_file_exists(entry->corpus) &&
        lode_corpus_read(&corpus, entry->corpus, entry->format, LODE_CORPUS_JOINED, entry->field) ==
            LODE_OK) {
        lode_corpus_text(corpus, 0, &start, &bytes);
        lode_corpus_destroy(&corpus);
        return set_windows(text, entry, tokens_of(bytes));
    }
    return set_windows(text, entry, standard ? LODE_FORECAST_WIKITEXT : entry->length);
}

static lode_status_t count_perplexity(lode_forecast_text_t *text, lode_store_t *tokenize,
                                      const lode_config_perplexity_t *entry) {
    lode_windows_t windows;
    int32_t bos;
    char path[512];
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    snprintf(path, sizeof path, "/perplexity/%s/ids", entry->name);
    if (lode_store_shape(tokenize, path, &axes, shape) != LODE_OK ||
        lode_evaluation_windows(&windows, &bos, tokenize, entry) != LODE_OK)
        return LODE_OK;
    const lode_status_t status = copy_sequences(text, &windows.text);
    text->targets = windows.targets;
    text->ids = shape[0];
    text->known = LODE_KNOWN_EXACTLY;
    lode_windows_free(&windows);
    return status;
}

/* Lengths of the requests, by the bytes of their contexts and continuations; examples before them
 * are taken to be like the item. */
static lode_status_t guess_requests(lode_forecast_text_t *text, const lode_task_t *task,
                                    int64_t shots, int64_t positions) {
    int64_t count = 0, *lengths, next = 0;
    text->items = lode_task_items(task);
    text->width = lode_task_widest(task);
    for (int64_t i = 0; i < text->items; i++)
        count += lode_task_requests(task, i);
    LODE_TRY(LODE_NEW(&lengths, count, "requests"));
    for (int64_t i = 0; i < text->items; i++)
        for (int64_t r = 0; r < lode_task_requests(task, i); r++) {
            const char *start;
            size_t context, continuation;
            lode_task_context(task, i, r, &start, &context);
            lode_task_continuation(task, i, r, &start, &continuation);
            const int64_t tokens = tokens_of((context + continuation) * (size_t)(1 + shots));
            text->targets += tokens_of(continuation);
            text->ids += tokens;
            lengths[next++] = min2(positions, tokens);
        }
    const lode_status_t status = set_sequences(text, count, lengths, 0, 0);
    free(lengths);
    return status;
}

static lode_status_t guess_task(lode_forecast_text_t *text, const lode_config_task_t *entry,
                                int64_t positions) {
    lode_task_t *task;
    text->known = LODE_KNOWN_GUESS;
    if (!lode_file_exists(entry->path) ||
        lode_task_read(&task, entry->path, entry->limit) != LODE_OK)
        return set_sequences(text, 0, NULL, 0, 0);
    const lode_status_t status = guess_requests(text, task, entry->shots, positions);
    lode_task_destroy(&task);
    return status;
}

static lode_status_t count_task(lode_forecast_text_t *text, lode_store_t *tokenize,
                                const lode_config_task_t *entry, int64_t positions) {
    lode_requests_t requests;
    if (lode_requests_read(&requests, tokenize, entry->name, positions) != LODE_OK)
        return LODE_OK;
    const lode_status_t status = copy_sequences(text, &requests.text);
    text->items = requests.items;
    text->width = requests.width;
    text->ids = 0;
    for (int64_t r = 0; r < requests.count; r++)
        text->ids += text->offsets[requests.sequence[r] + 1] - text->offsets[requests.sequence[r]];
    text->known = LODE_KNOWN_EXACTLY;
    lode_requests_free(&requests);
    return status;
}

/* --- super weights --------------------------------------------------------------------------- */

static lode_status_t guess_prompts(lode_forecast_text_t *text, const lode_run_t *run) {
    const lode_config_superweight_t *superweight = &run->config->superweight;
    int64_t *lengths;
    text->known = LODE_KNOWN_GUESS;
    LODE_TRY(LODE_NEW(&lengths, superweight->prompt_count, "prompts"));
    for (int64_t i = 0; i < superweight->prompt_count; i++)
        lengths[i] =
            min2(run->architecture.max_positions, 1 + tokens_of(strlen(superweight->prompts[i])));
    const lode_status_t status = set_sequences(text, superweight->prompt_count, lengths, 0, 0);
    free(lengths);
    return status;
}

static lode_status_t bound_stopwords(lode_forecast_text_t *text, const lode_run_t *run) {
    const lode_config_superweight_t *superweight = &run->config->superweight;
    const int64_t length = superweight->max_length;
    lode_corpus_t *corpus;
    text->known = LODE_KNOWN_BOUND;
    if (!lode_file_exists(superweight->corpus) ||
        lode_corpus_read(&corpus, superweight->corpus, superweight->format, LODE_CORPUS_ROWS,
                         superweight->field) != LODE_OK)
        return set_sequences(text, superweight->sequences, NULL, length, length);
    const lode_status_t status = bound_by_corpus(text, superweight->sequences, length, corpus);
    lode_corpus_destroy(&corpus);
    return status;
}

/* Lines of a file that say something, 0 where there is none. */
static int64_t count_words(const char *path) {
    char *data;
    size_t size;
    int64_t words = 0;
    if (!lode_file_exists(path) || lode_gzip_file(&data, &size, path) != LODE_OK)
        return 0;
    for (const char *line = data; *line;) {
        const size_t length = strcspn(line, "\n");
        words += strspn(line, " \t\r") < length;
        line += length + (line[length] == '\n');
    }
    free(data);
    return words;
}

static lode_status_t superweight_texts(lode_forecast_texts_t *texts, const lode_run_t *run) {
    const lode_config_superweight_t *superweight = &run->config->superweight;
    const bool wanted = superweight->prompt_count > 0;
    const bool words = wanted && *superweight->stopwords && *superweight->corpus;
    LODE_TRY(wanted ? guess_prompts(&texts->prompts, run)
                    : set_sequences(&texts->prompts, 0, NULL, 0, 0));
    LODE_TRY(words ? bound_stopwords(&texts->stopwords, run)
                   : set_sequences(&texts->stopwords, 0, NULL, 0, 0));
    texts->prompts.name = "prompts";
    texts->stopwords.name = "stopwords";
    texts->stopwords.targets = texts->stopwords.tokens; /* logits of every position */
    texts->words = words ? count_words(superweight->stopwords) : 0;
    LODE_TRY(cut(&texts->prompts, run->config->micro_batch));
    return cut(&texts->stopwords, run->config->micro_batch);
}

/* --- training -------------------------------------------------------------------------------- */

/* Bytes of a text, by the size of its file; of one that is compressed, whatever its name, as its
 * last four bytes say, which is the size of the last part modulo 2³²; where that cannot be all,
 * three times the file's. */
static int64_t text_size(const char *path) {
    FILE *file = fopen(path, "rb");
    unsigned char first[2] = {0}, last[4] = {0};
    int64_t bytes = 0;
    if (!file)
        return 0;
    const bool packed = fread(first, 1, 2, file) == 2 && first[0] == 0x1f && first[1] == 0x8b;
    if (packed && fseek(file, -4, SEEK_END) == 0 && fread(last, 1, 4, file) == 4) {
        bytes = (int64_t)((uint32_t)last[3] << 24 | (uint32_t)last[2] << 16 |
                          (uint32_t)last[1] << 8 | last[0]);
        if (bytes + bytes / 64 + 1024 < (int64_t)ftell(file))
            bytes = 3 * (int64_t)ftell(file);
    } else if (fseek(file, 0, SEEK_END) == 0) {
        bytes = (int64_t)ftell(file);
    }
    fclose(file);
    return bytes;
}

/* Blocks by the size of the texts: tokens of a small vocabulary are shorter, by its logarithm. */
static void guess_training(lode_forecast_texts_t *texts, const lode_run_t *run) {
    const lode_config_train_t *train = &run->config->train;
    const int64_t vocabulary =
        train->tokenizer.vocabulary > 0 ? train->tokenizer.vocabulary : run->architecture.vocab;
    const double each = fmax(1, BYTES_PER_TOKEN * fmin(1, log((double)vocabulary) / log(32000)));
    const double held_out = (double)text_size(train->validation.corpus) / each;
    texts->train_known = LODE_KNOWN_GUESS;
    texts->train_blocks =
        max2(1, (int64_t)((double)texts->train_bytes / each / (double)train->length));
    texts->validation_blocks = *train->validation.corpus
                                   ? min2(train->validation.sequences,
                                          max2(1, (int64_t)(held_out / (double)train->length)))
                                   : 0;
}

/* Takes those of a tokenize file. */
static void count_training(lode_forecast_texts_t *texts, const lode_run_t *run,
                           lode_store_t *tokenize) {
    int64_t length = 0, blocks = 0, held_out = 0;
    if (lode_store_get_attribute_i64(tokenize, "/", "train_length", &length) != LODE_OK ||
        lode_store_get_attribute_i64(tokenize, "/", "train_sequences", &blocks) != LODE_OK ||
        lode_store_get_attribute_i64(tokenize, "/", "validation_sequences", &held_out) != LODE_OK ||
        length != run->config->train.length || blocks < 1)
        return;
    texts->train_known = LODE_KNOWN_EXACTLY;
    texts->train_blocks = blocks;
    texts->validation_blocks = held_out;
}

/* By the beginning of the text; of one that cannot be read, by nothing. */
static int64_t tokenizer_bytes(const lode_config_train_t *train, int64_t bytes) {
    enum { HEAD = 1 << 20 };
    const int64_t sample = train->tokenizer.sample;
    char *head = NULL;
    size_t length = 0;
    if (train->tokenizer.vocabulary <= 0 ||
        lode_gzip_head(&head, &length, train->corpus, HEAD) != LODE_OK)
        return 0;
    const int64_t memory = lode_bpe_train_memory(
        head, length, sample > 0 ? min2(sample, bytes) : bytes, train->tokenizer.vocabulary);
    free(head);
    return memory;
}

static void training_texts(lode_forecast_texts_t *texts, const lode_run_t *run,
                           lode_store_t *tokenize) {
    if (!lode_config_is_trained(run->config, run->model))
        return;
    texts->train_bytes = text_size(run->config->train.corpus);
    texts->tokenizer_bytes = tokenizer_bytes(&run->config->train, texts->train_bytes);
    guess_training(texts, run);
    if (tokenize)
        count_training(texts, run, tokenize);
}

/* --- all of them ----------------------------------------------------------------------------- */

static lode_status_t one_text(lode_forecast_texts_t *texts, int64_t i, const lode_run_t *run,
                              lode_store_t *tokenize, bool standard) {
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    const int64_t perplexities = evaluate->perplexity_count;
    lode_forecast_text_t *text = &texts->evaluation[i];
    if (i < perplexities) {
        const lode_config_perplexity_t *entry = &evaluate->perplexity[i];
        text->name = entry->name;
        LODE_TRY(guess_perplexity(text, entry, standard));
        if (tokenize)
            LODE_TRY(count_perplexity(text, tokenize, entry));
    } else {
        const lode_config_task_t *entry = &evaluate->tasks[i - perplexities];
        text->name = entry->name;
        LODE_TRY(guess_task(text, entry, run->architecture.max_positions));
        if (tokenize)
            LODE_TRY(count_task(text, tokenize, entry, run->architecture.max_positions));
    }
    return cut(text, run->config->micro_batch);
}

static void keep_tokens(lode_forecast_texts_t *texts, const lode_config_redundancy_t *redundancy) {
    const lode_forecast_text_t *text = &texts->calibration;
    for (int64_t s = 0; s < min2(redundancy->sequences, text->sequences); s++)
        texts->kept_tokens += min2(text->offsets[s + 1] - text->offsets[s], redundancy->max_length);
}

/* Those of a model that nothing but train runs on. */
static lode_status_t no_texts(lode_forecast_texts_t *texts) {
    lode_forecast_text_t *of[] = {&texts->calibration, &texts->prompts, &texts->stopwords};
    for (int i = 0; i < 3; i++) {
        LODE_TRY(set_sequences(of[i], 0, NULL, 0, 0));
        LODE_TRY(cut(of[i], 1));
    }
    return LODE_OK;
}

static lode_status_t all_texts(lode_forecast_texts_t *texts, const lode_run_t *run,
                               lode_store_t *tokenize, bool standard) {
    const lode_config_t *config = run->config;
    training_texts(texts, run, tokenize);
    if (lode_config_is_scratch(config, run->model))
        return no_texts(texts);
    LODE_TRY(bound_calibration(&texts->calibration, run));
    if (tokenize)
        LODE_TRY(count_calibration(&texts->calibration, tokenize, run));
    texts->calibration.name = "calibration";
    texts->calibration.ids = texts->calibration.tokens;
    LODE_TRY(cut(&texts->calibration, config->micro_batch));
    keep_tokens(texts, &config->classify.redundancy);
    texts->count = config->evaluate.perplexity_count + config->evaluate.task_count;
    LODE_TRY(LODE_NEW(&texts->evaluation, texts->count, "texts"));
    for (int64_t i = 0; i < texts->count; i++)
        LODE_TRY(one_text(texts, i, run, tokenize, standard));
    if (lode_tokenize_has_probe(config))
        texts->probe_ids = config->probe.sequences * config->probe.max_length;
    return superweight_texts(texts, run);
}

lode_status_t lode_forecast_texts(lode_forecast_texts_t *texts, const lode_run_t *run,
                                  bool standard) {
    char *path;
    lode_store_t *tokenize = NULL;
    *texts = (lode_forecast_texts_t){0};
    LODE_TRY(lode_run_path(&path, run, LODE_STAGE_TOKENIZE));
    if (lode_file_exists(path) && lode_store_open(&tokenize, run->comm, path) != LODE_OK)
        tokenize = NULL; /* it will be made anew */
    free(path);
    const lode_status_t status = all_texts(texts, run, tokenize, standard);
    lode_store_close(&tokenize);
    return status;
}

void lode_forecast_text_free(lode_forecast_text_t *text) {
    lode_batches_destroy(&text->batches);
    free(text->offsets);
}

void lode_forecast_texts_free(lode_forecast_texts_t *texts) {
    lode_forecast_text_free(&texts->calibration);
    lode_forecast_text_free(&texts->prompts);
    lode_forecast_text_free(&texts->stopwords);
    for (int64_t i = 0; texts->evaluation && i < texts->count; i++)
        lode_forecast_text_free(&texts->evaluation[i]);
    free(texts->evaluation);
    *texts = (lode_forecast_texts_t){0};
}
