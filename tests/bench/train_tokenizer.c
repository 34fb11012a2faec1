/* train_tokenizer: a BPE tokenizer of a corpus, for comparison with another implementation.
 *
 *   train_tokenizer corpus vocabulary tokenizer.json [--format NAME] [--coverage X] [--alphabet N]
 *                   [--least N] [--sample BYTES] [--seed N]
 *
 * What is not given is as in an experiment; the format is "lines". Prints, as `key = value`, how
 * much there was, and the seconds that reading the file and training took.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "text/bpe_train.h"

typedef struct options {
    const char *corpus, *output;
    lode_corpus_format_t format;
    lode_bpe_setting_t setting;
} options_t;

static bool parse_format(lode_corpus_format_t *format, const char *name) {
    static const char *const names[] = {"lines", "text", "wikitext", "jsonl"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            *format = (lode_corpus_format_t)i;
            return true;
        }
    }
    return false;
}

static bool parse_options(options_t *options, int argc, char **argv) {
    if (argc < 4 || argc % 2 != 0)
        return false;
    *options = (options_t){.corpus = argv[1],
                           .output = argv[3],
                           .format = LODE_CORPUS_LINES,
                           .setting = lode_bpe_setting(atoll(argv[2]), 0, 0)};
    for (int i = 4; i < argc; i += 2) {
        lode_bpe_setting_t *setting = &options->setting;
        if (strcmp(argv[i], "--format") == 0 && parse_format(&options->format, argv[i + 1]))
            continue;
        else if (strcmp(argv[i], "--coverage") == 0)
            setting->coverage = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--alphabet") == 0)
            setting->alphabet = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--least") == 0)
            setting->least = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--sample") == 0)
            setting->sample = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            setting->seed = atoll(argv[i + 1]);
        else
            return false;
    }
    return true;
}

static lode_status_t train(const options_t *options) {
    lode_corpus_t *corpus = NULL;
    lode_bpe_trained_t *trained = NULL;
    lode_buffer_t json = {0};
    lode_status_t status;
    const double start = lode_time();
    LODE_GUARD(status,
               lode_corpus_read(&corpus, options->corpus, options->format, LODE_CORPUS_ROWS, NULL),
               done);
    const double read = lode_time();
    LODE_GUARD(status, lode_bpe_train(&trained, corpus, options->setting, options->corpus), done);
    const double end = lode_time();
    const lode_bpe_size_t size = lode_bpe_trained_size(trained);
    LODE_GUARD(status, lode_bpe_trained_write(trained, &json), done);
    LODE_GUARD(status, lode_file_write_atomic(options->output, json.data, json.length), done);
    printf("bytes = %lld\nlines = %lld\nwords = %lld\nalphabet = %lld\nmerges = %lld\n"
           "seconds_reading = %.3f\nseconds_training = %.3f\n",
           (long long)size.bytes, (long long)size.lines, (long long)size.words,
           (long long)size.alphabet, (long long)size.merges, read - start, end - read);
done:
    lode_buffer_free(&json);
    lode_bpe_trained_destroy(&trained);
    lode_corpus_destroy(&corpus);
    return status;
}

int main(int argc, char **argv) {
    options_t options;
    if (!parse_options(&options, argc, argv)) {
        fprintf(stderr, "usage: train_tokenizer corpus vocabulary tokenizer.json [--format NAME] "
                        "[--coverage X] [--alphabet N] [--least N] [--sample BYTES] [--seed N]\n");
        return 2;
    }
    const lode_status_t status = train(&options);
    if (status != LODE_OK)
        lode_error_print(lode_error_message());
    return status;
}
