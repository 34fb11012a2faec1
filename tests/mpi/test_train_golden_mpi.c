/* Ten steps of training small models against PyTorch's in float64 (tests/golden/train.py): losses,
 * gradient norms, entropies, and every tensor after every step, with the layers on one rank or on
 * several and the micro-batches shared by replicas. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "comm/context.h"
#include "kernels/linear.h"
#include "model/checkpoint.h"
#include "testing/check.h"
#include "testing/data.h"
#include "testing/hdf5_read.h"
#include "testing/temporary.h"
#include "training/trainer.h"

#define REFERENCE "tests/golden/train.h5"
enum { CASES_LEAST = 15, FIGURES = 3, PATH_BYTES = 512 };

/* Largest relative error of a curve, and of a tensor's norm and projections by its norm. What
 * float32 costs PyTorch itself is at most a fifth of that. */
static const double tolerance = 1e-5;

static lode_comm_t world;

/* --- the reference ---------------------------------------------------------------------------- */

typedef struct reference {
    const char *name;
    char folder[LODE_H5_NAME];
    lode_h5_array_t ids, layers, names; /* names: bytes, one a line */
    lode_h5_array_t loss, gradient_norm, entropy, learning_rate, entropy_weight; /* [steps] */
    lode_h5_array_t weights; /* [steps, tensors, FIGURES] */
    lode_trainer_setting_t setting;
} reference_t;

static double number(hid_t file, const char *name, const char *attribute) {
    double value = NAN;
    LODE_REQUIRE(lode_h5_number(file, name, attribute, &value));
    return value;
}

static int choice(hid_t file, const char *name, const char *attribute,
                  const lode_choice_t *choices) {
    char text[LODE_H5_NAME];
    LODE_REQUIRE(lode_h5_text(file, name, attribute, text));
    const lode_choice_t *found = lode_choice_find(choices, text);
    LODE_REQUIRE(found != NULL);
    return found->value;
}

static void read_setting(reference_t *reference, hid_t file) {
    const char *name = reference->name;
    lode_trainer_setting_t *setting = &reference->setting;
    *setting = (lode_trainer_setting_t){
        .length = (int64_t)number(file, name, "length"),
        .batch = (int64_t)number(file, name, "batch"),
        .groups = 2,
        .rate = {.steps = (int64_t)number(file, name, "steps"),
                 .warmup = (int64_t)number(file, name, "warmup"),
                 .most = number(file, name, "learning_rate"),
                 .final = number(file, name, "final"),
                 .decay =
                     (lode_train_decay_t)choice(file, name, "decay", lode_train_decay_choices)},
        .beta_1 = number(file, name, "beta1"),
        .beta_2 = number(file, name, "beta2"),
        .epsilon = number(file, name, "epsilon"),
        .clip = number(file, name, "clip"),
        .decay = {[LODE_PARAMETER_MATRIX] = number(file, name, "matrices"),
                  [LODE_PARAMETER_EMBEDDING] = number(file, name, "embeddings"),
                  [LODE_PARAMETER_VECTOR] = number(file, name, "vectors")},
        .entropy_weight = number(file, name, "weight"),
        .entropy_form = (lode_entropy_form_t)choice(file, name, "form", lode_entropy_form_choices),
        .entropy_schedule =
            (lode_entropy_schedule_t)choice(file, name, "schedule", lode_entropy_schedule_choices),
        .entropy_layers = reference->layers.i64,
        .entropy_layer_count = reference->layers.count,
        .threads = 1,
        .memory = INT64_C(1) << 30};
    setting->micro_batch = 2 * setting->length + 1;
    LODE_CHECK(lode_trainer_micro_batches(setting) == 4);
}

static void read_array(lode_h5_array_t *array, hid_t file, const char *name, const char *dataset,
                       lode_h5_type_t type) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/%s/%s", name, dataset);
    LODE_REQUIRE(lode_h5_read(array, file, path, type));
}

static void reference_read(reference_t *reference, hid_t file, const char *name) {
    *reference = (reference_t){.name = name};
    LODE_REQUIRE(lode_h5_text(file, name, "folder", reference->folder));
    read_array(&reference->ids, file, name, "ids", LODE_H5_I32);
    read_array(&reference->layers, file, name, "layers", LODE_H5_I64);
    read_array(&reference->names, file, name, "names", LODE_H5_U8);
    read_array(&reference->loss, file, name, "loss", LODE_H5_F64);
    read_array(&reference->gradient_norm, file, name, "gradient_norm", LODE_H5_F64);
    read_array(&reference->entropy, file, name, "entropy", LODE_H5_F64);
    read_array(&reference->learning_rate, file, name, "learning_rate", LODE_H5_F64);
    read_array(&reference->entropy_weight, file, name, "entropy_weight", LODE_H5_F64);
    read_array(&reference->weights, file, name, "weights", LODE_H5_F64);
    read_setting(reference, file);
}

static void reference_free(reference_t *reference) {
    lode_h5_array_t *arrays[] = {
        &reference->ids,           &reference->layers,         &reference->names,
        &reference->loss,          &reference->gradient_norm,  &reference->entropy,
        &reference->learning_rate, &reference->entropy_weight, &reference->weights};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lode_h5_free(arrays[i]);
}

/* The number of a tensor in the reference, −1 where it has none of that name. */
static int64_t find_tensor(const reference_t *reference, const char *name) {
    const size_t length = strlen(name);
    const char *line = (const char *)reference->names.u8, *end = line + reference->names.count;
    for (int64_t i = 0; line < end; i++) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        LODE_REQUIRE(next != NULL);
        if ((size_t)(next - line) == length && memcmp(line, name, length) == 0)
            return i;
        line = next + 1;
    }
    return -1;
}

/* --- comparison ------------------------------------------------------------------------------- */

typedef struct comparison {
    double curves, weights; /* largest errors */
    int64_t tensors;        /* that were compared in the last step, copies left out */
} comparison_t;

/* Takes the larger of `worst` and an error, which may be NaN. */
static void raise_to(double *worst, double error) {
    if (!(error <= *worst))
        *worst = isfinite(error) ? error : INFINITY;
}

/* One figure of a step; NaN where the reference has that. */
static void compare_figure(comparison_t *comparison, double got, double want) {
    if (isnan(want))
        LODE_CHECK(isnan(got));
    else
        raise_to(&comparison->curves, want == 0 ? fabs(got) : fabs(got - want) / fabs(want));
}

static void compare_curves(comparison_t *comparison, const reference_t *reference, int64_t step,
                           const lode_trainer_result_t *result) {
    const int64_t at = step - 1;
    compare_figure(comparison, result->loss, reference->loss.f64[at]);
    compare_figure(comparison, result->gradient_norm, reference->gradient_norm.f64[at]);
    compare_figure(comparison, result->learning_rate, reference->learning_rate.f64[at]);
    compare_figure(comparison, result->entropy_weight, reference->entropy_weight.f64[at]);
    compare_figure(comparison, result->entropy, reference->entropy.f64[at]);
}

/* The norm of a tensor and its two projections against the reference's. */
static void compare_tensor(comparison_t *comparison, const float *w, int64_t count,
                           const double want[FIGURES]) {
    double got[FIGURES] = {0};
    for (int64_t i = 0; i < count; i++) {
        got[0] += (double)w[i] * (double)w[i];
        got[1] += (double)w[i] * cos((double)(i + 1));
        got[2] += (double)w[i] * sin(1.7 * (double)(i + 1));
    }
    got[0] = sqrt(got[0]);
    for (int f = 0; f < FIGURES; f++)
        raise_to(&comparison->weights, fabs(got[f] - want[f]) / want[0]);
}

static void compare_weights(comparison_t *comparison, const reference_t *reference, int64_t step,
                            const lode_parameters_t *parameters) {
    const int64_t tensors = reference->weights.extent[1];
    comparison->tensors = 0;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        int64_t number = find_tensor(reference, parameter->name);
        LODE_REQUIRE(number >= 0);
        comparison->tensors += parameter->counted;
        compare_tensor(comparison, parameters->weights + parameter->offset, parameter->elements,
                       reference->weights.f64 + ((step - 1) * tensors + number) * FIGURES);
    }
}

/* --- running ---------------------------------------------------------------------------------- */

static void train(const reference_t *reference, lode_checkpoint_t *checkpoint,
                  const lode_layout_t *layout, comparison_t *comparison) {
    const lode_trainer_setting_t *setting = &reference->setting;
    const int64_t block = setting->batch * setting->length;
    lode_parameters_t *parameters;
    lode_trainer_t *trainer;
    LODE_REQUIRE(lode_parameters_create(&parameters, lode_checkpoint_architecture(checkpoint),
                                        layout) == LODE_OK);
    LODE_REQUIRE(lode_parameters_load(parameters, checkpoint) == LODE_OK);
    LODE_REQUIRE(lode_trainer_create(&trainer, &world, layout, parameters, setting) == LODE_OK);
    for (int64_t step = 1; step <= setting->rate.steps; step++) {
        lode_trainer_result_t result = {0};
        LODE_REQUIRE(lode_trainer_step(trainer, step, reference->ids.i32 + (step - 1) * block,
                                       &result) == LODE_OK);
        compare_curves(comparison, reference, step, &result);
        compare_weights(comparison, reference, step, parameters);
    }
    lode_trainer_destroy(&trainer);
    lode_parameters_destroy(&parameters);
}

/* Gathers what all ranks saw, checks it and shows it. */
static void check_case(const reference_t *reference, const lode_layout_t *layout,
                       comparison_t *comparison) {
    int64_t tensors = layout->replica == 0 ? comparison->tensors : 0;
    MPI_Allreduce(MPI_IN_PLACE, &comparison->curves, 1, MPI_DOUBLE, MPI_MAX, world.comm);
    MPI_Allreduce(MPI_IN_PLACE, &comparison->weights, 1, MPI_DOUBLE, MPI_MAX, world.comm);
    MPI_Allreduce(MPI_IN_PLACE, &tensors, 1, MPI_INT64_T, MPI_SUM, world.comm);
    if (world.rank == 0)
        printf("%-20s %d replicas of %d stages: curves %.1e, weights %.1e\n", reference->name,
               layout->replicas, layout->stages, comparison->curves, comparison->weights);
    LODE_CHECK(comparison->curves <= tolerance);
    LODE_CHECK(comparison->weights <= tolerance);
    LODE_CHECK(tensors == reference->weights.extent[1]);
}

static void test_case(hid_t file, const char *name) {
    reference_t reference;
    lode_checkpoint_t *checkpoint;
    lode_layout_t layout;
    comparison_t comparison = {0};
    reference_read(&reference, file, name);
    const bool data = strncmp(reference.folder, "models/", 7) == 0;
    const char *folder = data ? lode_test_data(reference.folder) : reference.folder;
    if (folder) {
        LODE_REQUIRE(lode_checkpoint_open(&checkpoint, folder) == LODE_OK);
        LODE_REQUIRE(lode_trainer_layout(&layout, lode_checkpoint_architecture(checkpoint),
                                         &reference.setting, world.size, world.rank, 0) == LODE_OK);
        train(&reference, checkpoint, &layout, &comparison);
        check_case(&reference, &layout, &comparison);
        lode_checkpoint_close(&checkpoint);
    } else if (world.rank == 0) {
        printf("%-20s left out: the data folder has no %s\n", name, reference.folder);
    }
    reference_free(&reference);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_set_threads(1);
    const hid_t file = lode_h5_open(REFERENCE);
    LODE_REQUIRE(file >= 0);
    const int64_t cases = lode_h5_members(file, "/");
    LODE_CHECK(cases >= CASES_LEAST);
    for (int64_t i = 0; i < cases; i++) {
        char name[LODE_H5_NAME];
        LODE_REQUIRE(lode_h5_member(file, "/", i, name));
        test_case(file, name);
    }
    H5Fclose(file);
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
