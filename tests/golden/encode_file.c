/* encode_file: ids of whole files, for comparison with another implementation.
 *
 *   encode_file tokenizer.json text          encodes the file as one text, without special tokens,
 *                                            and writes its ids to stdout as little-endian int32
 *   encode_file tokenizer.json texts --nul   encodes texts that are separated by NUL bytes, and
 *                                            writes −1 behind the ids of each
 *
 * The time that encoding took is written to stderr. It is no part of the build:
 *
 *   cc -O3 -march=native -D_GNU_SOURCE -Ipipeline tests/golden/encode_file.c \
 *      $(find pipeline/text -name '*.c') pipeline/base/{error,file,log,memory}.c \
 *      -ljansson -lpcre2-8 -lutf8proc -lxxhash -o encode_file
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "text/tokenizer.h"

static lode_status_t encode_range(const lode_tokenizer_t *tokenizer, const char *text,
                                  size_t length, bool mark, double *seconds) {
    int32_t *ids, end = -1;
    int64_t count;
    double start = lode_time();
    LODE_TRY(lode_tokenizer_encode(tokenizer, text, length, false, &ids, &count));
    *seconds += lode_time() - start;
    bool written = fwrite(ids, sizeof *ids, (size_t)count, stdout) == (size_t)count;
    if (mark)
        written &= fwrite(&end, sizeof end, 1, stdout) == 1;
    free(ids);
    return written ? LODE_OK : lode_fail(LODE_ERR_IO, "stdout: write failed");
}

static lode_status_t encode_texts(const lode_tokenizer_t *tokenizer, const char *data, size_t size,
                                  bool separated) {
    double seconds = 0;
    if (!separated)
        LODE_TRY(encode_range(tokenizer, data, size, false, &seconds));
    for (size_t start = 0; separated && start < size;) {
        const char *end = memchr(data + start, '\0', size - start);
        size_t length = end ? (size_t)(end - data) - start : size - start;
        LODE_TRY(encode_range(tokenizer, data + start, length, true, &seconds));
        start += length + 1;
    }
    fprintf(stderr, "bytes = %zu\nseconds = %.4f\n", size, seconds);
    return LODE_OK;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: encode_file tokenizer.json text [--nul]\n");
        return 2;
    }
    lode_tokenizer_t *tokenizer = NULL;
    char *data = NULL;
    size_t size = 0;
    lode_status_t status = lode_tokenizer_load(&tokenizer, argv[1]);
    if (status == LODE_OK)
        status = lode_file_read(&data, &size, argv[2]);
    if (status == LODE_OK)
        status = encode_texts(tokenizer, data, size, argc > 3 && strcmp(argv[3], "--nul") == 0);
    free(data);
    lode_tokenizer_destroy(&tokenizer);
    if (status != LODE_OK)
        lode_error_print(lode_error_message());
    return status == LODE_OK ? 0 : 1;
}
