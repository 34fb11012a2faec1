/* pipeline/score against the goldens: from their statistics and the checkpoints' weights to core,
 * halo, connectivity, protection, scores and masks. */
#include "testing/cmocka_all.h"

#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "score/channel.h"
#include "score/concentration.h"
#include "score/halo.h"
#include "score/mask.h"
#include "score/supernode.h"
#include "score/weights.h"
#include "testing/compare.h"
#include "testing/data.h"

/* A model, its golden, and the parameters that the golden was made with. */
typedef struct model_case {
    const char *name;
    int64_t layers, m, d;
    double core_fraction;
    int64_t support_size;
} model_case_t;

static model_case_t stories260k = {"stories260k", 5, 172, 64, 0.05, 16};
static model_case_t babyllama105 = {"babyllama105", 5, 352, 128, 0.05, 16};
static model_case_t books3m = {"books3m", 6, 576, 192, 0.01, 12};

enum { MAX_D = 192, MAX_M = 576, MAX_LAYERS = 6, MAX_CORE = 32, MAX_HALO = 64 };

typedef struct golden {
    const model_case_t *model;
    hid_t file;
    hid_t fixture;
    lode_mapping_t checkpoint;
    json_t *header;
} golden_t;

static const char *in_data(const char *folder, const char *name, const char *suffix) {
    char relative[256];
    snprintf(relative, sizeof relative, "%s/%s%s", folder, name, suffix);
    const char *path = lode_test_data(relative);
    assert_non_null(path);
    return path;
}

static golden_t open_golden(const model_case_t *model) {
    golden_t golden = {.model = model};
    golden.file = H5Fopen(in_data("golden", model->name, ".h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(golden.file >= 0);
    golden.fixture = H5Fopen("tests/golden/input_power.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(golden.fixture >= 0);
    LODE_ASSERT_OK(
        lode_file_map(&golden.checkpoint, in_data("models", model->name, "/model.safetensors")));
    uint64_t length;
    memcpy(&length, golden.checkpoint.data, sizeof length);
    assert_true(length < golden.checkpoint.size - 8);
    golden.header = json_loadb((const char *)golden.checkpoint.data + 8, length, 0, NULL);
    assert_non_null(golden.header);
    return golden;
}

static void close_golden(golden_t *golden) {
    json_decref(golden->header);
    lode_file_unmap(&golden->checkpoint);
    H5Fclose(golden->fixture);
    H5Fclose(golden->file);
}

/* FFN weight `name` of a layer, in place in the mapped checkpoint. */
static lode_tensor_t ffn_weight(const golden_t *golden, int64_t layer, const char *name) {
    char key[128];
    snprintf(key, sizeof key, "model.layers.%d.mlp.%s.weight", (int)layer, name);
    const json_t *entry = json_object_get(golden->header, key);
    assert_non_null(entry);
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *begin = json_array_get(json_object_get(entry, "data_offsets"), 0);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint64_t length;
    memcpy(&length, golden->checkpoint.data, sizeof length);
    return lode_tensor_matrix(golden->checkpoint.data + 8 + length + json_integer_value(begin),
                              strcmp(dtype, "BF16") == 0 ? LODE_DTYPE_BF16 : LODE_DTYPE_F32,
                              json_integer_value(json_array_get(shape, 0)),
                              json_integer_value(json_array_get(shape, 1)));
}

/* Row `layer` of a dataset [layers, count]. */
static void read_layer(hid_t file, const char *name, int64_t layer, hid_t type, int64_t count,
                       void *out) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0)
        fail_msg("the golden has no %s", name);
    hid_t space = H5Dget_space(dataset);
    hsize_t shape[2], offset[2] = {(hsize_t)layer, 0}, extent[2] = {1, (hsize_t)count};
    assert_int_equal(H5Sget_simple_extent_ndims(space), 2);
    H5Sget_simple_extent_dims(space, shape, NULL);
    assert_int_equal(shape[1], count);
    assert_true(H5Sselect_hyperslab(space, H5S_SELECT_SET, offset, NULL, extent, NULL) >= 0);
    hid_t memory = H5Screate_simple(2, extent, NULL);
    assert_true(H5Dread(dataset, type, memory, space, H5P_DEFAULT, out) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
}

static void read_layer_f64(hid_t file, const char *name, int64_t layer, int64_t count,
                           double *out) {
    read_layer(file, name, layer, H5T_NATIVE_DOUBLE, count, out);
}

/* An integer attribute of a group of the fixture. */
static double fixture_count(const golden_t *golden, const char *name) {
    int64_t value;
    hid_t attribute =
        H5Aopen_by_name(golden->fixture, golden->model->name, name, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(attribute);
    return (double)value;
}

/* What we make of one layer. */
typedef struct layer {
    const model_case_t *model;
    int64_t index, core_size, halo_size;
    double loss_proxy[MAX_M], power[MAX_M], u_power[MAX_M], input_power[MAX_D];
    double connectivity[MAX_M], protection[MAX_M], taylor[MAX_M];
    double activation_mean[MAX_M], inverse_input[MAX_D], inverse_u[MAX_M];
    int32_t core[MAX_CORE], support[MAX_D], halo[MAX_HALO];
    uint8_t lp_core[MAX_M];
    lode_score_inputs_t inputs;
} layer_t;

/* The goldens hold no means and no inverses of second moments. These are of a plausible size: a
 * mean below the root of the power, an inverse as of a matrix that is nearly diagonal. */
static void make_moments(layer_t *layer) {
    for (int64_t j = 0; j < layer->model->m; j++) {
        layer->activation_mean[j] = 0.9 * sqrt(layer->power[j]) * sin((double)(j + layer->index));
        layer->inverse_u[j] = (2 + cos((double)j)) / layer->power[j];
    }
    for (int64_t i = 0; i < layer->model->d; i++)
        layer->inverse_input[i] = (2 + cos((double)i)) / layer->input_power[i];
}

static void read_statistics(const golden_t *golden, layer_t *layer) {
    const model_case_t *model = golden->model;
    read_layer_f64(golden->file, "loss_mean/loss_proxy", layer->index, model->m, layer->loss_proxy);
    read_layer_f64(golden->file, "loss_mean/activation_power", layer->index, model->m,
                   layer->power);
    char name[64];
    snprintf(name, sizeof name, "%s/input_power", model->name);
    read_layer_f64(golden->fixture, name, layer->index, model->d, layer->input_power);
    double sequences = fixture_count(golden, "sequences"), tokens = fixture_count(golden, "tokens");
    for (int64_t i = 0; i < model->d; i++)
        layer->input_power[i] /= sequences;
    for (int64_t j = 0; j < model->m; j++)
        layer->u_power[j] = layer->power[j] * (tokens / sequences);
    read_layer_f64(golden->file, "loss_mean/taylor", layer->index, model->m, layer->taylor);
    make_moments(layer);
}

static void classify(const golden_t *golden, layer_t *layer) {
    const model_case_t *model = golden->model;
    int64_t k = lode_supernode_size(model->core_fraction, model->m);
    int64_t h = lode_halo_size(0.10, model->m, k);
    assert_true(k <= MAX_CORE && h <= MAX_HALO);
    layer->core_size = k;
    layer->halo_size = h;
    lode_tensor_t down = ffn_weight(golden, layer->index, "down_proj");
    double redundancy[MAX_HALO];
    read_layer_f64(golden->file, "classify/redundancy_to_core", layer->index, h, redundancy);
    LODE_ASSERT_OK(lode_supernode_select(layer->core, k, layer->loss_proxy, model->m));
    LODE_ASSERT_OK(lode_halo_support(layer->support, model->support_size, &down, layer->core, k));
    LODE_ASSERT_OK(
        lode_halo_connectivity(layer->connectivity, &down, layer->support, model->support_size));
    LODE_ASSERT_OK(lode_halo_select(layer->halo, h, layer->connectivity, model->m, layer->core, k));
    LODE_ASSERT_OK(
        lode_halo_protection(layer->protection, model->m, layer->halo, redundancy, h, 0.2, 8));
    LODE_ASSERT_OK(lode_mask_protect(layer->lp_core, model->m, LODE_CORE_LP, k, layer->loss_proxy,
                                     layer->power, 0, layer->index));
}

static layer_t *make_layer(const golden_t *golden, int64_t index) {
    layer_t *layer = calloc(1, sizeof *layer);
    assert_non_null(layer);
    layer->model = golden->model;
    layer->index = index;
    read_statistics(golden, layer);
    classify(golden, layer);
    layer->inputs = (lode_score_inputs_t){.m = golden->model->m,
                                          .d = golden->model->d,
                                          .loss_proxy = layer->loss_proxy,
                                          .activation_power = layer->power,
                                          .taylor = layer->taylor,
                                          .activation_mean = layer->activation_mean,
                                          .inverse_input = layer->inverse_input,
                                          .inverse_u = layer->inverse_u,
                                          .connectivity = layer->connectivity,
                                          .protection = layer->protection,
                                          .input_power_mean = layer->input_power,
                                          .u_power_mean = layer->u_power,
                                          .gate = ffn_weight(golden, index, "gate_proj"),
                                          .up = ffn_weight(golden, index, "up_proj"),
                                          .down = ffn_weight(golden, index, "down_proj"),
                                          .layer = index};
    return layer;
}

static void check_classes(const golden_t *golden, const layer_t *layer) {
    const model_case_t *model = golden->model;
    int64_t index = layer->index, k = layer->core_size, h = layer->halo_size, m = model->m;
    int32_t indices[MAX_M];
    double values[MAX_M], mass;
    read_layer(golden->file, "classify/core", index, H5T_NATIVE_INT32, k, indices);
    LODE_ASSERT_CLOSE(lode_compare_i32("core", layer->core, k, indices, k));
    read_layer(golden->file, "classify/halo", index, H5T_NATIVE_INT32, h, indices);
    LODE_ASSERT_CLOSE(lode_compare_i32("halo", layer->halo, h, indices, h));
    read_layer_f64(golden->file, "classify/connectivity", index, m, values);
    LODE_ASSERT_CLOSE(
        lode_compare_f64("connectivity", layer->connectivity, m, values, m, 0, 1e-10));
    read_layer_f64(golden->file, "classify/protection", index, m, values);
    LODE_ASSERT_CLOSE(lode_compare_f64("protection", layer->protection, m, values, m, 0, 1e-10));
    hid_t dataset = H5Dopen2(golden->file, "classify/core_mass", H5P_DEFAULT);
    H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(dataset);
    LODE_ASSERT_OK(lode_supernode_mass(&mass, layer->core, k, layer->loss_proxy, m));
    LODE_ASSERT_CLOSE(lode_compare_f64("core mass", &mass, 1, values + index, 1, 0, 1e-10));
}

static void check_mask(const golden_t *golden, const layer_t *layer, const char *dataset,
                       const double *score, bool lp_core, double sparsity) {
    int64_t m = golden->model->m;
    uint8_t keep[MAX_M], want[MAX_M];
    LODE_ASSERT_OK(
        lode_mask_uniform(keep, score, lp_core ? layer->lp_core : NULL, m, sparsity, layer->index));
    read_layer(golden->file, dataset, layer->index, H5T_NATIVE_UINT8, m, want);
    for (int64_t j = 0; j < m; j++)
        if (keep[j] != want[j])
            fail_msg("%s: layer %d, channel %d is %d, expected %d", dataset, (int)layer->index,
                     (int)j, keep[j], want[j]);
}

static void check_method(const golden_t *golden, const layer_t *layer, lode_method_t method) {
    int64_t m = golden->model->m;
    double score[MAX_M], want[MAX_M];
    char name[64];
    bool lp_core = lode_mask_core(method, LODE_CORE_DEFAULT) == LODE_CORE_LP;
    LODE_ASSERT_OK(lode_score_channels(score, method, &layer->inputs));
    snprintf(name, sizeof name, "scores/%s", lode_method_name(method));
    read_layer_f64(golden->file, name, layer->index, m, want);
    LODE_ASSERT_CLOSE(lode_compare_f64(name, score, m, want, m, 0, 1e-10));
    snprintf(name, sizeof name, "keep/%s/0.25", lode_method_name(method));
    check_mask(golden, layer, name, score, lp_core, 0.25);
    snprintf(name, sizeof name, "keep/%s/0.5", lode_method_name(method));
    check_mask(golden, layer, name, score, lp_core, 0.5);
    if (method == LODE_METHOD_MAGNITUDE)
        check_mask(golden, layer, "keep/magnitude~lp/0.5", score, true, 0.5);
}

static void check_golden(void **state, bool classes, bool scores) {
    static const lode_method_t methods[] = {LODE_METHOD_SCAR_LP,   LODE_METHOD_SCAR_PROT,
                                            LODE_METHOD_SCAR_CONN, LODE_METHOD_WANDA_CHANNEL,
                                            LODE_METHOD_MAGNITUDE, LODE_METHOD_ACTIVATION,
                                            LODE_METHOD_ENTROPY};
    golden_t golden = open_golden(*state);
    for (int64_t index = 0; index < golden.model->layers; index++) {
        layer_t *layer = make_layer(&golden, index);
        if (classes)
            check_classes(&golden, layer);
        for (size_t i = 0; scores && i < sizeof methods / sizeof *methods; i++)
            check_method(&golden, layer, methods[i]);
        free(layer);
    }
    close_golden(&golden);
}

static void test_classes(void **state) {
    check_golden(state, true, false);
}

static void test_scores_and_masks(void **state) {
    check_golden(state, false, true);
}

/* flap and sparsegpt-channel element by element from their formulas, in long double. */
static void test_moment_scores(void **state) {
    golden_t golden = open_golden(*state);
    const int64_t m = golden.model->m, d = golden.model->d;
    double score[MAX_M], flap[MAX_M], saliency[MAX_M], gate[MAX_D], up[MAX_D], down[MAX_M];
    for (int64_t index = 0; index < golden.model->layers; index++) {
        layer_t *layer = make_layer(&golden, index);
        const lode_score_inputs_t *in = &layer->inputs;
        long double squares[MAX_M] = {0};
        for (int64_t i = 0; i < d; i++) {
            LODE_ASSERT_OK(lode_weights_row(down, &in->down, i, "down_proj"));
            for (int64_t j = 0; j < m; j++)
                squares[j] += (long double)down[j] * down[j];
        }
        for (int64_t j = 0; j < m; j++) {
            long double sum = squares[j] / in->inverse_u[j], mean = in->activation_mean[j];
            LODE_ASSERT_OK(lode_weights_row(gate, &in->gate, j, "gate_proj"));
            LODE_ASSERT_OK(lode_weights_row(up, &in->up, j, "up_proj"));
            for (int64_t i = 0; i < d; i++)
                sum += ((long double)gate[i] * gate[i] + (long double)up[i] * up[i]) /
                       in->inverse_input[i];
            saliency[j] = (double)sum;
            flap[j] = (double)((in->activation_power[j] - mean * mean) * squares[j]);
        }
        LODE_ASSERT_OK(lode_score_channels(score, LODE_METHOD_SPARSEGPT_CHANNEL, in));
        LODE_ASSERT_CLOSE(lode_compare_f64("sparsegpt-channel", score, m, saliency, m, 0, 1e-12));
        LODE_ASSERT_OK(lode_score_channels(score, LODE_METHOD_FLAP, in));
        LODE_ASSERT_CLOSE(lode_compare_f64("flap", score, m, flap, m, 0, 1e-12));
        free(layer);
    }
    close_golden(&golden);
}

/* Global allocation on real scores: the exact total, the floor, and every method accepted. */
static void test_global_allocation(void **state) {
    golden_t golden = open_golden(*state);
    int64_t layers = golden.model->layers, m = golden.model->m;
    static double score[MAX_LAYERS * MAX_M];
    static uint8_t keep[MAX_LAYERS * MAX_M];
    for (int method = 0; method < LODE_METHOD_COUNT; method++) {
        for (int64_t index = 0; index < layers; index++) {
            layer_t *layer = make_layer(&golden, index);
            LODE_ASSERT_OK(lode_score_channels(score + index * m, method, &layer->inputs));
            free(layer);
        }
        LODE_ASSERT_OK(lode_mask_global(keep, score, NULL, layers, m, 0.5, 0.1));
        int64_t removed = 0;
        for (int64_t index = 0; index < layers; index++) {
            int64_t left = 0;
            for (int64_t j = 0; j < m; j++)
                left += keep[index * m + j];
            assert_true(left >= (int64_t)(0.1 * (double)m));
            removed += m - left;
        }
        assert_int_equal(removed, layers * lode_mask_removed(0.5, m));
    }
    close_golden(&golden);
}

#define GOLDEN_TESTS(model)                                                                        \
    cmocka_unit_test_prestate(test_classes, &(model)),                                             \
        cmocka_unit_test_prestate(test_scores_and_masks, &(model)),                                \
        cmocka_unit_test_prestate(test_moment_scores, &(model)),                                   \
        cmocka_unit_test_prestate(test_global_allocation, &(model))

int main(void) {
    lode_test_require("golden/books3m.h5");
    lode_test_require("models/books3m/model.safetensors");
    const struct CMUnitTest tests[] = {GOLDEN_TESTS(stories260k), GOLDEN_TESTS(babyllama105),
                                       GOLDEN_TESTS(books3m)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
