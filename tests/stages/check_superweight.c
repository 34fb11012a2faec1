/* Checks what superweight.h5 says of a model against plainer computations:
 *
 *   check_superweight MODEL FOLDER FRACTION COUNT
 *
 * FOLDER has the stages' files of the model MODEL. The other weights, COUNT of the model and
 * FRACTION of each matrix, are those of sorting whole matrices. The texts of the stopword
 * probabilities are those of the calibration, whose logits calibrate.h5 has kept, so that the
 * probabilities are means over a softmax of these. Exit status: 0 passed, 1 failed. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "kernels/layer.h"
#include "kernels/weight.h"
#include "model/checkpoint.h"
#include "score/outlier.h"
#include "store/store.h"
#include "testing/check.h"

static lode_comm_t self;

static lode_store_t *open_store(const char *folder, const char *name) {
    char *path;
    lode_store_t *store;
    LODE_REQUIRE(lode_path_join(&path, folder, name) == LODE_OK);
    LODE_REQUIRE(lode_store_open(&store, &self, path) == LODE_OK);
    free(path);
    return store;
}

static void *read_all(lode_store_t *store, const char *name, lode_type_t type, int64_t *count) {
    void *data;
    LODE_REQUIRE(lode_store_read_all(store, name, type, &data, count) == LODE_OK);
    return data;
}

/* --- other weights -------------------------------------------------------------------------- */

static int by_magnitude(const void *a, const void *b) {
    const lode_outlier_t *x = a, *y = b;
    const float u = fabsf(x->value), v = fabsf(y->value);
    if (u != v)
        return u > v ? -1 : 1;
    const int64_t p =
        (((int64_t)x->layer * LODE_MATRICES + x->matrix) << 40) + ((int64_t)x->row << 20) + x->col;
    const int64_t q =
        (((int64_t)y->layer * LODE_MATRICES + y->matrix) << 40) + ((int64_t)y->row << 20) + y->col;
    return p < q ? -1 : p > q;
}

/* All weights of a matrix, the largest first; super weights count as 0. */
static lode_outlier_t *sorted_matrix(const lode_tensor_t *tensor, int layer, int matrix,
                                     lode_store_t *store, int64_t *count) {
    const lode_weight_t weight = lode_weight_of(tensor);
    int64_t found;
    int32_t *layers = read_all(store, "/weights/layer", LODE_TYPE_I32, &found);
    int32_t *rows = read_all(store, "/weights/row", LODE_TYPE_I32, NULL);
    int32_t *channels = read_all(store, "/weights/channel", LODE_TYPE_I32, NULL);
    float *line = malloc((size_t)weight.in * sizeof *line);
    *count = weight.out * weight.in;
    lode_outlier_t *all = malloc((size_t)*count * sizeof *all);
    LODE_REQUIRE(line && all);
    for (int64_t i = 0; i < weight.out; i++) {
        lode_weight_row(&weight, i, 0, weight.in, line);
        for (int64_t j = 0; j < weight.in; j++)
            all[i * weight.in + j] =
                (lode_outlier_t){layer, matrix, (int32_t)i, (int32_t)j, line[j]};
    }
    for (int64_t n = 0; n < found && matrix == LODE_MATRIX_DOWN; n++)
        if (layers[n] == layer)
            all[rows[n] * weight.in + channels[n]].value = 0;
    qsort(all, (size_t)*count, sizeof *all, by_magnitude);
    free(layers);
    free(rows);
    free(channels);
    free(line);
    return all;
}

/* Compares weights [count] with a group of the file. */
static void check_group(lode_store_t *store, const char *group, lode_outlier_t *want,
                        int64_t want_count) {
    static const char *const names[] = {"layer", "matrix", "row", "col"};
    int32_t *got[4];
    char path[64];
    int64_t count;
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", group, names[i]);
        got[i] = read_all(store, path, LODE_TYPE_I32, &count);
        LODE_CHECK(count == want_count);
    }
    snprintf(path, sizeof path, "%s/value", group);
    double *value = read_all(store, path, LODE_TYPE_F64, &count);
    LODE_REQUIRE(count == want_count && count > 0);
    lode_outliers_sort(want, want_count);
    for (int64_t i = 0; i < count; i++)
        LODE_CHECK(got[0][i] == want[i].layer && got[1][i] == want[i].matrix &&
                   got[2][i] == want[i].row && got[3][i] == want[i].col &&
                   value[i] == (double)want[i].value);
    for (int i = 0; i < 4; i++)
        free(got[i]);
    free(value);
}

static void check_others(lode_store_t *store, const char *model, double fraction, int64_t most) {
    lode_checkpoint_t *checkpoint;
    lode_outlier_t *tensor = NULL, *global = NULL;
    int64_t tensors = 0, globals = 0;
    LODE_REQUIRE(lode_checkpoint_open(&checkpoint, model) == LODE_OK);
    const int64_t layers = lode_checkpoint_architecture(checkpoint)->layers;
    for (int l = 0; l < layers; l++)
        for (int i = 0; i < LODE_MATRICES; i++) {
            lode_layer_weights_t weights;
            int64_t count;
            LODE_REQUIRE(lode_checkpoint_layer(checkpoint, l, &weights) == LODE_OK);
            lode_outlier_t *all = sorted_matrix(
                lode_layer_weights_role(&weights, lode_matrix_role((lode_layer_matrix_t)i)), l, i,
                store, &count);
            const int64_t share = (int64_t)(fraction * (double)count);
            tensor = realloc(tensor, (size_t)(tensors + share) * sizeof *tensor);
            global = realloc(global, (size_t)(globals + most) * sizeof *global);
            LODE_REQUIRE(tensor && global && most <= count);
            memcpy(tensor + tensors, all, (size_t)share * sizeof *all);
            memcpy(global + globals, all, (size_t)most * sizeof *all);
            tensors += share;
            globals += most;
            free(all);
        }
    qsort(global, (size_t)globals, sizeof *global, by_magnitude);
    check_group(store, "/others/tensor", tensor, tensors);
    check_group(store, "/others/global", global, most);
    free(tensor);
    free(global);
    lode_checkpoint_close(&checkpoint);
}

/* --- stopwords ------------------------------------------------------------------------------ */

/* mean [vocab] of the softmax of logits [rows, vocab]. */
static double *mean_probability(lode_store_t *calibrate, int64_t *vocab) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    LODE_REQUIRE(lode_store_shape(calibrate, "/logits", &axes, shape) == LODE_OK && axes == 2);
    double *logits = read_all(calibrate, "/logits", LODE_TYPE_F64, NULL);
    *vocab = shape[1];
    double *mean = calloc((size_t)shape[1], sizeof *mean);
    LODE_REQUIRE(mean);
    for (int64_t r = 0; r < shape[0]; r++) {
        double sum = 0;
        for (int64_t v = 0; v < shape[1]; v++)
            sum += exp(logits[r * shape[1] + v]);
        for (int64_t v = 0; v < shape[1]; v++)
            mean[v] += exp(logits[r * shape[1] + v]) / sum / (double)shape[0];
    }
    free(logits);
    return mean;
}

static void check_stopwords(lode_store_t *store, lode_store_t *tokenize, lode_store_t *calibrate) {
    int64_t vocab, words, tokens, texts, offsets;
    int32_t *token = read_all(tokenize, "/superweight/stopwords/ids", LODE_TYPE_I32, &tokens);
    int64_t *offset = read_all(tokenize, "/superweight/stopwords/offsets", LODE_TYPE_I64, &offsets);
    int32_t *text = read_all(tokenize, "/superweight/texts/ids", LODE_TYPE_I32, &texts);
    int32_t *calibration = read_all(tokenize, "/calibration/ids", LODE_TYPE_I32, &words);
    LODE_REQUIRE(texts == words && memcmp(text, calibration, (size_t)texts * sizeof *text) == 0);
    double *got = read_all(store, "/stopwords/before", LODE_TYPE_F64, &words);
    double *after = read_all(store, "/stopwords/after", LODE_TYPE_F64, NULL);
    double *mean = mean_probability(calibrate, &vocab), all = 0, got_all = -1, moved = 0;
    LODE_REQUIRE(words == offsets - 1 && words > 0);
    for (int64_t w = 0; w < words; w++) {
        double want = 0;
        for (int64_t i = offset[w]; i < offset[w + 1]; i++)
            want += mean[token[i]];
        LODE_CHECK(fabs(got[w] - want) <= 1e-12);
        moved += fabs(after[w] - got[w]);
    }
    for (int64_t i = 0; i < tokens; i++) {
        all += mean[token[i]];
        mean[token[i]] = 0; /* a token of two words counts once */
    }
    LODE_CHECK(lode_store_get_attribute_f64(store, "/stopwords", "before_all", &got_all) ==
               LODE_OK);
    LODE_CHECK(fabs(got_all - all) <= 1e-12 && all > 0.05);
    LODE_CHECK(moved > 1e-3); /* super weights are gone there */
    free(token);
    free(offset);
    free(text);
    free(calibration);
    free(got);
    free(after);
    free(mean);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    LODE_REQUIRE(argc == 5);
    self = lode_comm_describe(MPI_COMM_SELF);
    lode_store_t *store = open_store(argv[2], "superweight.h5");
    lode_store_t *tokenize = open_store(argv[2], "tokenize.h5");
    lode_store_t *calibrate = open_store(argv[2], "calibrate.h5");
    check_others(store, argv[1], atof(argv[3]), atoll(argv[4]));
    check_stopwords(store, tokenize, calibrate);
    lode_store_close(&calibrate);
    lode_store_close(&tokenize);
    lode_store_close(&store);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
