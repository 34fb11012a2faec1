/* Corpus, tokenizer and truncation together: the calibration ids and the evaluation token counts of
 * the golden files. */
#include "testing/cmocka_all.h"

#include <hdf5.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testing/compare.h"
#include "testing/data.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

enum { SEQUENCES = 64, MAX_LENGTH = 256 };

typedef struct golden {
    const char *model, *calibration, *evaluation;
} golden_t;

static golden_t GOLDENS[] = {
    {"stories260k", "tinystories-calibration.txt", "tinystories-eval-small.txt"},
    {"babyllama105", "tinystories-calibration.txt", "tinystories-eval-small.txt"},
    {"books3m", "wiki.test.raw", "books-eval-small.txt"}};

/* The absolute path of a file of the data folder, in a buffer that two more calls leave alone. */
static const char *data_path(const char *folder, const char *name, const char *suffix) {
    char relative[256];
    snprintf(relative, sizeof relative, "%s/%s%s", folder, name, suffix);
    const char *path = lode_test_data(relative);
    if (!path)
        fail_msg("the data folder has no %s", relative);
    return path;
}

/* A dataset of int32 [*count], the caller's to free. */
static int32_t *read_i32(const char *path, const char *name, int64_t *count) {
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(set >= 0);
    hid_t space = H5Dget_space(set);
    *count = (int64_t)H5Sget_simple_extent_npoints(space);
    int32_t *data = malloc((size_t)*count * sizeof *data);
    assert_true(H5Dread(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    H5Fclose(file);
    return data;
}

static lode_tokenizer_t *load_tokenizer(const golden_t *golden) {
    lode_tokenizer_t *tokenizer;
    LODE_ASSERT_OK(
        lode_tokenizer_load(&tokenizer, data_path("models", golden->model, "/tokenizer.json")));
    return tokenizer;
}

/* One sequence a line with BOS, cut. */
static void test_calibration(void **state) {
    const golden_t *golden = *state;
    lode_tokenizer_t *tokenizer = load_tokenizer(golden);
    lode_corpus_t *corpus;
    LODE_ASSERT_OK(lode_corpus_read(&corpus, data_path("corpora", golden->calibration, ""),
                                    LODE_CORPUS_LINES, LODE_CORPUS_ROWS, NULL));
    static int32_t ids[SEQUENCES * MAX_LENGTH], lengths[SEQUENCES];
    int64_t used = 0;
    for (int64_t i = 0; i < SEQUENCES; i++) {
        const char *text;
        size_t length;
        int32_t *own;
        int64_t count;
        lode_corpus_text(corpus, i, &text, &length);
        LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text, length, true, &own, &count));
        lengths[i] = (int32_t)(count < MAX_LENGTH ? count : MAX_LENGTH);
        memcpy(ids + used, own, (size_t)lengths[i] * sizeof *ids);
        used += lengths[i];
        free(own);
    }
    int64_t count;
    const char *path = data_path("golden", golden->model, ".h5");
    int32_t *want = read_i32(path, "calibration/lengths", &count);
    LODE_ASSERT_CLOSE(lode_compare_i32("lengths", lengths, SEQUENCES, want, count));
    free(want);
    want = read_i32(path, "calibration/ids", &count);
    LODE_ASSERT_CLOSE(lode_compare_i32("ids", ids, used, want, count));
    free(want);
    lode_corpus_destroy(&corpus);
    lode_tokenizer_destroy(&tokenizer);
}

/* The evaluation text as one text with BOS. */
static void test_evaluation(void **state) {
    const golden_t *golden = *state;
    lode_tokenizer_t *tokenizer = load_tokenizer(golden);
    lode_corpus_t *corpus;
    const char *text;
    size_t length;
    int32_t *ids, bos;
    int64_t count;
    LODE_ASSERT_OK(lode_corpus_read(&corpus, data_path("corpora", golden->evaluation, ""),
                                    LODE_CORPUS_TEXT, LODE_CORPUS_JOINED, NULL));
    lode_corpus_text(corpus, 0, &text, &length);
    LODE_ASSERT_OK(lode_tokenizer_encode(tokenizer, text, length, true, &ids, &count));
    json_t *json = json_load_file(data_path("golden", golden->model, ".json"), 0, NULL);
    assert_int_equal(count, json_integer_value(json_object_get(json, "eval_tokens")));
    assert_true(lode_tokenizer_bos(tokenizer, &bos));
    assert_int_equal(ids[0], bos);
    json_decref(json);
    free(ids);
    lode_corpus_destroy(&corpus);
    lode_tokenizer_destroy(&tokenizer);
}

int main(void) {
    lode_test_require("golden");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_calibration, &GOLDENS[0]),
        cmocka_unit_test_prestate(test_calibration, &GOLDENS[1]),
        cmocka_unit_test_prestate(test_calibration, &GOLDENS[2]),
        cmocka_unit_test_prestate(test_evaluation, &GOLDENS[0]),
        cmocka_unit_test_prestate(test_evaluation, &GOLDENS[1]),
        cmocka_unit_test_prestate(test_evaluation, &GOLDENS[2]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
