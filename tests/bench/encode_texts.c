/* encode_texts: many texts through one tokenizer, for comparison with another implementation.
 *
 *   encode_texts tokenizer.json texts [--special] [--repeat N] [--ids FILE]
 *
 * `texts` is a file of texts, each behind its length in bytes as a little-endian 64-bit integer.
 * Prints, as `key = value`, how many texts, bytes and ids there are, the SHA-256 of all ids
 * (little- endian int32, −1 behind those of each text), and the seconds that encoding took, N
 * times, on one thread. --special adds the post-processor's tokens, --ids writes the ids to a file.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "testing/timing.h"
#include "text/tokenizer.h"

typedef struct options {
    const char *tokenizer, *texts, *ids;
    bool special;
    int repeat;
} options_t;

static bool parse_options(options_t *options, int argc, char **argv) {
    *options = (options_t){.repeat = 1};
    if (argc < 3)
        return false;
    options->tokenizer = argv[1];
    options->texts = argv[2];
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--special") == 0)
            options->special = true;
        else if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc)
            options->repeat = atoi(argv[++i]);
        else if (strcmp(argv[i], "--ids") == 0 && i + 1 < argc)
            options->ids = argv[++i];
        else
            return false;
    }
    return options->repeat > 0;
}

/* Encodes all texts; keeps the ids where `kept` is not NULL. */
static lode_status_t encode_each(lode_encoder_t *encoder, const char *data, size_t size,
                                 bool special, lode_buffer_t *kept, int64_t totals[3]) {
    const int32_t end = -1;
    memset(totals, 0, 3 * sizeof *totals);
    for (size_t at = 0; at < size;) {
        uint64_t length;
        if (size - at < sizeof length)
            return lode_fail(LODE_ERR_FORMAT, "the texts are cut off");
        memcpy(&length, data + at, sizeof length);
        at += sizeof length;
        if (length > size - at)
            return lode_fail(LODE_ERR_FORMAT, "the texts are cut off");
        const lode_text_part_t text = {
            .text = data + at, .length = length, .visible = length, .first = true, .last = true};
        const int32_t *ids;
        int64_t count;
        bool joined;
        LODE_TRY(lode_encoder_encode(encoder, &text, special, &ids, &count, &joined));
        if (kept && count)
            LODE_TRY(lode_buffer_append(kept, ids, (size_t)count * sizeof *ids));
        if (kept)
            LODE_TRY(lode_buffer_append(kept, &end, sizeof end));
        at += (size_t)length;
        totals[0]++;
        totals[1] += (int64_t)length;
        totals[2] += count;
    }
    return LODE_OK;
}

/* With an encoder that knows no words yet. */
static lode_status_t encode_all(const lode_tokenizer_t *tokenizer, const char *data, size_t size,
                                bool special, lode_buffer_t *kept, int64_t totals[3]) {
    lode_encoder_t *encoder;
    LODE_TRY(lode_encoder_create(&encoder, tokenizer, size));
    lode_status_t status = encode_each(encoder, data, size, special, kept, totals);
    lode_encoder_destroy(&encoder);
    return status;
}

static lode_status_t write_ids(const char *path, const lode_buffer_t *ids) {
    FILE *file = fopen(path, "wb");
    if (!file)
        return lode_fail(LODE_ERR_IO, "%s: cannot be created", path);
    bool written = ids->length == 0 || fwrite(ids->data, ids->length, 1, file) == 1;
    written &= fclose(file) == 0;
    return written ? LODE_OK : lode_fail(LODE_ERR_IO, "%s: write failed", path);
}

static lode_status_t run(const options_t *options, const lode_tokenizer_t *tokenizer,
                         const char *data, size_t size, lode_buffer_t *ids) {
    int64_t totals[3];
    char digest[LODE_SHA256_TEXT];
    LODE_TRY(encode_all(tokenizer, data, size, options->special, ids, totals));
    LODE_TRY(lode_sha256_text(digest, ids->data, ids->length));
    printf("texts = %lld\nbytes = %lld\nids = %lld\ndigest = %s\nseconds =", (long long)totals[0],
           (long long)totals[1], (long long)totals[2], digest);
    for (int i = 0; i < options->repeat; i++) {
        const double start = lode_test_seconds();
        LODE_TRY(encode_all(tokenizer, data, size, options->special, NULL, totals));
        printf(" %.6f", lode_test_seconds() - start);
    }
    printf("\n");
    return options->ids ? write_ids(options->ids, ids) : LODE_OK;
}

int main(int argc, char **argv) {
    options_t options;
    if (!parse_options(&options, argc, argv)) {
        fprintf(stderr, "usage: encode_texts tokenizer.json texts [--special] [--repeat N] "
                        "[--ids FILE]\n");
        return 2;
    }
    lode_test_clock("cpu"); /* which other work on the machine disturbs least */
    lode_tokenizer_t *tokenizer = NULL;
    lode_buffer_t ids = {0};
    char *data = NULL;
    size_t size = 0;
    lode_status_t status = lode_tokenizer_load(&tokenizer, options.tokenizer);
    if (status == LODE_OK)
        status = lode_file_read(&data, &size, options.texts);
    if (status == LODE_OK)
        status = run(&options, tokenizer, data, size, &ids);
    lode_buffer_free(&ids);
    free(data);
    lode_tokenizer_destroy(&tokenizer);
    if (status != LODE_OK)
        lode_error_print(lode_error_message());
    return status == LODE_OK ? 0 : 1;
}
