/* Training a model that is split over ranks and replicas: weights, moments, losses and norms have
 * the bits that one rank computes alone, for every layout and after being taken up again; the
 * gradient is that of the loss, and the loss falls. Each rank trains alone first, on MPI_COMM_SELF.
 */
#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/stop.h"
#include "kernels/linear.h"
#include "testing/check.h"
#include "training/reduce.h"
#include "training/trainer.h"

#define FAMILIES "tests/golden/families"

/* Eight micro-batches of two sequences, the last one of one, in four groups. */
enum { STEPS = 4, LENGTH = 9, BATCH = 15, MICRO_BATCH = 18, GROUPS = 4, MOST_LAYERS = 8 };

static lode_comm_t world;

typedef struct run {
    const char *family; /* NULL: `wide` */
    bool scratch;       /* from random weights, not those of the checkpoint */
    double clip, entropy_weight;
    bool one_layer; /* of the entropies' */
    int64_t from;   /* the step at which weights and moments move to another trainer, 0: none */
    bool few;       /* of few ranks alone: what it adds does not depend on many */
} run_t;

/* A model whose tensors are cut into several blocks each, which replicas share out. */
static const lode_architecture_t wide = {
    .model_type = LODE_MODEL_LLAMA,
    .gated = true,
    .layers = 2,
    .hidden = 64,
    .intermediate = 1500,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 16,
    .vocab = 2500,
    .max_positions = 64,
    .norm = LODE_NORM_RMS,
    .norm_eps = 1e-5,
    .attention_norm = true,
    .ffn_norm = true,
    .attention_scale = 0.25,
    .embedding_scale = 1,
    .rotary = {.kind = LODE_ROTARY_DEFAULT, .dims = 16, .theta = 1e4},
    .tied = true,
    .bos = 1,
    .eos = 2};

/* A trainer and what it needs. */
typedef struct trained {
    lode_comm_t comm;
    lode_layout_t layout;
    lode_checkpoint_t *checkpoint;
    lode_parameters_t *parameters;
    lode_trainer_t *trainer;
    lode_trainer_result_t result[STEPS];
    double entropy[MOST_LAYERS];
    double loss, standard_error; /* of an evaluation afterwards */
} trained_t;

static void make_ids(int32_t *ids, int64_t step, int64_t vocab) {
    const uint64_t key = lode_random_key(11, "ids", step % 2, 0);
    for (int64_t t = 0; t < (int64_t)BATCH * LENGTH; t++)
        ids[t] = (int32_t)lode_random_below(key, (uint64_t)t, vocab < 40 ? vocab : 40);
}

static lode_trainer_setting_t setting_of(const run_t *run) {
    static const int64_t layers[] = {1};
    return (lode_trainer_setting_t){
        .length = LENGTH,
        .batch = BATCH,
        .micro_batch = MICRO_BATCH,
        .groups = GROUPS,
        .rate = {.steps = STEPS, .warmup = 2, .most = 5e-3, .final = 0.1},
        .beta_1 = 0.9,
        .beta_2 = 0.95,
        .epsilon = 1e-8,
        .clip = run->clip,
        .decay = {0.1, 0.05, 0},
        .entropy_weight = run->entropy_weight,
        .entropy_form = LODE_ENTROPY_ABSOLUTE,
        .entropy_schedule = LODE_SCHEDULE_LINEAR,
        .entropy_layers = layers,
        .entropy_layer_count = run->one_layer ? 1 : 0,
        .threads = 1,
        .memory = INT64_C(1) << 28};
}

static void trained_open(trained_t *trained, const run_t *run, const lode_comm_t *comm,
                         int64_t replicas) {
    char folder[400];
    const lode_architecture_t *architecture = &wide;
    *trained = (trained_t){.comm = *comm};
    if (run->family) {
        snprintf(folder, sizeof folder, FAMILIES "/%s", run->family);
        LODE_REQUIRE(lode_checkpoint_open(&trained->checkpoint, folder) == LODE_OK);
        architecture = lode_checkpoint_architecture(trained->checkpoint);
    }
    LODE_REQUIRE(architecture->layers <= MOST_LAYERS);
    const lode_trainer_setting_t setting = setting_of(run);
    LODE_REQUIRE(lode_trainer_layout(&trained->layout, architecture, &setting, comm->size,
                                     comm->rank, replicas) == LODE_OK);
    LODE_REQUIRE(lode_parameters_create(&trained->parameters, architecture, &trained->layout) ==
                 LODE_OK);
    if (run->scratch)
        lode_parameters_initialise(trained->parameters, 3, 0.05, true);
    else
        LODE_REQUIRE(lode_parameters_load(trained->parameters, trained->checkpoint) == LODE_OK);
}

static void start(trained_t *trained, const lode_trainer_setting_t *setting) {
    LODE_REQUIRE(lode_trainer_create(&trained->trainer, &trained->comm, &trained->layout,
                                     trained->parameters, setting) == LODE_OK);
}

/* Goes on with a new trainer, which gets nothing but the moments of the old. */
static void move(trained_t *trained, const lode_trainer_setting_t *setting) {
    const lode_trainer_moments_t old = lode_trainer_moments(trained->trainer);
    const int64_t count = old.end - old.begin;
    float *first, *second;
    LODE_REQUIRE(LODE_NEW(&first, count, "moments") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&second, count, "moments") == LODE_OK);
    if (count > 0) {
        memcpy(first, old.first, (size_t)count * sizeof *first);
        memcpy(second, old.second, (size_t)count * sizeof *second);
    }
    lode_trainer_destroy(&trained->trainer);
    start(trained, setting);
    const lode_trainer_moments_t new = lode_trainer_moments(trained->trainer);
    LODE_REQUIRE(new.begin == old.begin &&new.end == old.end);
    if (count > 0) {
        memcpy(new.first, first, (size_t)count * sizeof *first);
        memcpy(new.second, second, (size_t)count * sizeof *second);
    }
    free(first);
    free(second);
}

static void train(trained_t *trained, const run_t *run, const lode_comm_t *comm, int64_t replicas) {
    int32_t ids[BATCH * LENGTH];
    trained_open(trained, run, comm, replicas);
    const lode_trainer_setting_t setting = setting_of(run);
    const int64_t vocab = trained->parameters->architecture->vocab;
    start(trained, &setting);
    for (int64_t step = 1; step <= STEPS; step++) {
        if (step == run->from)
            move(trained, &setting);
        make_ids(ids, step, vocab);
        LODE_REQUIRE(lode_trainer_step(trained->trainer, step, ids, &trained->result[step - 1]) ==
                     LODE_OK);
    }
    make_ids(ids, 0, vocab);
    LODE_CHECK(lode_trainer_evaluate(trained->trainer, ids, BATCH - 2, &trained->loss,
                                     &trained->standard_error) == LODE_OK);
    LODE_CHECK(lode_trainer_entropy(trained->trainer, trained->entropy) == LODE_OK);
}

static void trained_close(trained_t *trained) {
    lode_trainer_destroy(&trained->trainer);
    lode_parameters_destroy(&trained->parameters);
    lode_checkpoint_close(&trained->checkpoint);
}

/* --- comparing -------------------------------------------------------------------------------- */

/* The same tensor of a rank that has all. */
static const lode_parameter_t *twin_of(const lode_parameters_t *whole, const lode_parameter_t *p) {
    for (int64_t i = 0; i < whole->count; i++)
        if (whole->list[i].index == p->index)
            return &whole->list[i];
    LODE_REQUIRE(!"a tensor that the model does not have");
    return NULL;
}

static void compare(const trained_t *got, const trained_t *want) {
    const lode_trainer_moments_t own = lode_trainer_moments(got->trainer);
    const lode_trainer_moments_t all = lode_trainer_moments(want->trainer);
    int64_t owned = 0, counted = 0;
    LODE_CHECK(memcmp(got->result, want->result, sizeof got->result) == 0);
    LODE_CHECK(memcmp(got->entropy, want->entropy, sizeof got->entropy) == 0);
    LODE_CHECK(got->loss == want->loss && got->standard_error == want->standard_error);
    for (int64_t i = 0; i < got->parameters->count; i++) {
        const lode_parameter_t *p = &got->parameters->list[i];
        const lode_parameter_t *twin = twin_of(want->parameters, p);
        const int64_t first = p->offset > own.begin ? p->offset : own.begin;
        const int64_t end = p->offset + p->elements < own.end ? p->offset + p->elements : own.end;
        LODE_CHECK(p->elements == twin->elements);
        LODE_CHECK(memcmp(got->parameters->weights + p->offset,
                          want->parameters->weights + twin->offset,
                          (size_t)p->elements * sizeof(float)) == 0);
        if (first >= end)
            continue;
        const int64_t there = twin->offset + (first - p->offset);
        const size_t bytes = (size_t)(end - first) * sizeof(float);
        LODE_CHECK(memcmp(own.first + (first - own.begin), all.first + there, bytes) == 0);
        LODE_CHECK(memcmp(own.second + (first - own.begin), all.second + there, bytes) == 0);
        owned += p->counted ? end - first : 0;
    }
    /* Every element's moments are one rank's. */
    MPI_Allreduce(MPI_IN_PLACE, &owned, 1, MPI_INT64_T, MPI_SUM, world.comm);
    for (int64_t i = 0; i < want->parameters->count; i++)
        counted += want->parameters->list[i].elements;
    LODE_CHECK(owned == counted);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void check_substance(const trained_t *alone, const run_t *run) {
    const lode_trainer_result_t *result = alone->result;
    for (int s = 0; s < STEPS; s++) {
        LODE_CHECK(isfinite(result[s].loss) && result[s].loss > 0);
        LODE_CHECK(isfinite(result[s].gradient_norm) && result[s].gradient_norm > 1e-3);
        LODE_CHECK(isnan(result[s].entropy) == (run->entropy_weight == 0));
    }
    LODE_CHECK(result[STEPS - 1].loss < result[0].loss); /* of nearly the same text */
    LODE_CHECK(alone->loss > 0 && alone->standard_error > 0 && alone->standard_error < alone->loss);
    LODE_CHECK(result[STEPS - 1].entropy_weight == run->entropy_weight);
}

static void test_layouts(const run_t *run) {
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    trained_t alone, again, together;
    run_t moved = *run;
    moved.from = 3;
    train(&alone, run, &self, 0);
    check_substance(&alone, run);
    for (int replicas = 1; replicas <= GROUPS && replicas <= world.size; replicas *= 2) {
        train(&together, run, &world, replicas);
        LODE_CHECK(together.layout.replicas == replicas);
        compare(&together, &alone);
        trained_close(&together);
    }
    train(&again, &moved, &world, 0);
    compare(&again, &alone);
    trained_close(&again);
    trained_close(&alone);
}

/* The whole loss of weights w + along · gradient. */
static double loss_at(const run_t *run, const float *gradient, double along, float *out) {
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    lode_trainer_setting_t setting = setting_of(run);
    lode_trainer_result_t result;
    int32_t ids[BATCH * LENGTH];
    trained_t trained;
    trained_open(&trained, run, &self, 1);
    lode_parameters_t *parameters = trained.parameters;
    for (int64_t i = 0; gradient && i < parameters->elements; i++)
        parameters->weights[i] =
            (float)((double)parameters->weights[i] + along * (double)gradient[i]);
    setting.clip = setting.beta_1 = 0; /* the first moment is then the gradient */
    start(&trained, &setting);
    make_ids(ids, 1, parameters->architecture->vocab);
    LODE_REQUIRE(lode_trainer_step(trained.trainer, 3, ids, &result) == LODE_OK);
    if (out)
        memcpy(out, lode_trainer_moments(trained.trainer).first,
               (size_t)parameters->elements * sizeof *out);
    trained_close(&trained);
    return result.loss + (setting.entropy_weight > 0 ? result.entropy_weight * result.entropy : 0);
}

/* The loss changes along its gradient as its norm says. */
static void test_gradient(const run_t *run) {
    const lode_comm_t self = lode_comm_describe(MPI_COMM_SELF);
    trained_t trained;
    float *gradient;
    double square = 0;
    trained_open(&trained, run, &self, 1);
    const int64_t elements = trained.parameters->elements;
    trained_close(&trained);
    LODE_REQUIRE(LODE_NEW(&gradient, elements, "gradient") == LODE_OK);
    (void)loss_at(run, NULL, 0, gradient);
    for (int64_t i = 0; i < elements; i++)
        square += (double)gradient[i] * (double)gradient[i];
    const double along = 2e-3 / square;
    const double change =
        loss_at(run, gradient, along, NULL) - loss_at(run, gradient, -along, NULL);
    LODE_CHECK(fabs(change / (2 * along) / square - 1) < 0.01);
    free(gradient);
}

/* A failure of one rank is everybody's, and a stop does not break a step. */
static void test_failures(void) {
    const run_t run = {.family = "llama", .clip = 1};
    lode_trainer_setting_t setting = setting_of(&run);
    lode_trainer_result_t result;
    int32_t ids[BATCH * LENGTH];
    trained_t trained;
    trained_open(&trained, &run, &world, 0);
    setting.groups = 16;
    LODE_CHECK(lode_trainer_create(&trained.trainer, &world, &trained.layout, trained.parameters,
                                   &setting) == LODE_ERR_CONFIG);
    LODE_CHECK(trained.trainer == NULL && strstr(lode_error_message(), "train.groups = 16"));
    setting = setting_of(&run);
    start(&trained, &setting);
    make_ids(ids, 1, trained.parameters->architecture->vocab);
    ids[3] = (int32_t)trained.parameters->architecture->vocab;
    LODE_CHECK(lode_trainer_step(trained.trainer, 1, ids, &result) == LODE_ERR_FORMAT);
    make_ids(ids, 1, trained.parameters->architecture->vocab);
    if (world.rank == 0 && trained.parameters->elements > 0)
        trained.parameters->weights[0] = NAN;
    ids[0] = 0;
    LODE_CHECK(lode_trainer_step(trained.trainer, 1, ids, &result) == LODE_ERR_NUMERIC);
    LODE_CHECK(strstr(lode_error_message(), "step 1") != NULL);
    LODE_CHECK(strstr(lode_error_message(), "lower train.learning_rate") != NULL);
    LODE_CHECK(strstr(lode_error_message(), "checkpoint") == NULL);
    if (world.rank == 0 && trained.parameters->elements > 0)
        trained.parameters->weights[0] = 0;
    if (world.rank == world.size - 1)
        lode_stop_after(1e-9);
    LODE_CHECK(lode_trainer_step(trained.trainer, 1, ids, &result) == LODE_OK);
    lode_stop_after(0);
    trained_close(&trained);
}

/* A gradient whose squares have no place in the second moment would make steps of 0. */
static void test_too_large(void) {
    const run_t run = {.family = "llama", .entropy_weight = 1e30};
    const lode_trainer_setting_t setting = setting_of(&run);
    lode_trainer_result_t result;
    int32_t ids[BATCH * LENGTH];
    trained_t trained;
    trained_open(&trained, &run, &world, 0);
    start(&trained, &setting);
    make_ids(ids, 1, trained.parameters->architecture->vocab);
    LODE_CHECK(lode_trainer_step(trained.trainer, 1, ids, &result) == LODE_ERR_NUMERIC);
    LODE_CHECK(strstr(lode_error_message(), "step 1") != NULL);
    LODE_CHECK(strstr(lode_error_message(), "or train.entropy.weight") != NULL);
    trained_close(&trained);
}

static float number_of(int rank, int64_t i) {
    return (float)(lode_random_uniform((uint64_t)rank, (uint64_t)i) - 0.5) * (float)(1 + rank);
}

/* Shards longer than what travels at once. */
static void test_pieces(void) {
    enum { ELEMENTS = 2500000 };
    const int size = world.size;
    int64_t begin[9] = {0};
    float *gradient, *buffer;
    if (size > 8 || (size & (size - 1)) != 0)
        return;
    for (int r = 1; r <= size; r++) /* the first replica has most */
        begin[r] = r == size ? ELEMENTS : ELEMENTS / 2 + r * (ELEMENTS / 2 / size / 2);
    LODE_REQUIRE(LODE_NEW(&gradient, ELEMENTS, "gradient") == LODE_OK);
    LODE_REQUIRE(LODE_NEW(&buffer, lode_reduce_buffer(size), "buffer") == LODE_OK);
    for (int64_t i = 0; i < ELEMENTS; i++)
        gradient[i] = number_of(world.rank, i);
    lode_reduce_shards(&world, begin, gradient, buffer);
    lode_gather_shards(&world, begin, gradient);
    for (int64_t i = 0; i < ELEMENTS; i += 99991) {
        float sums[8];
        for (int r = 0; r < size; r++)
            sums[r] = number_of(r, i);
        for (int apart = 1; apart < size; apart *= 2)
            for (int r = 0; r < size; r += 2 * apart)
                sums[r] += sums[r + apart];
        LODE_CHECK(gradient[i] == sums[0]);
    }
    free(gradient);
    free(buffer);
}

/* Runs out of memory on one rank at each of its allocations in turn, while a trainer is made and
 * does a step; and what one rank receives is lost. */
static void test_faults(void) {
    const run_t run = {.family = "llama-tied", .clip = 1, .entropy_weight = 1};
    const lode_trainer_setting_t setting = setting_of(&run);
    lode_trainer_result_t result;
    int32_t ids[BATCH * LENGTH];
    char fault[64];
    int failed = 0;
    lode_status_t status = LODE_ERR_MEMORY;
    for (int call = 1; status == LODE_ERR_MEMORY; call++) {
        trained_t trained;
        trained_open(&trained, &run, &world, 0);
        make_ids(ids, 1, trained.parameters->architecture->vocab);
        snprintf(fault, sizeof fault, "allocation:rank=%d:call=%d", world.size / 2, call);
        LODE_REQUIRE(lode_fault_arm(fault, world.rank) == LODE_OK);
        status = lode_trainer_create(&trained.trainer, &world, &trained.layout, trained.parameters,
                                     &setting);
        LODE_CHECK((status == LODE_OK) == (trained.trainer != NULL));
        if (status == LODE_OK)
            status = lode_trainer_step(trained.trainer, 1, ids, &result);
        LODE_REQUIRE(lode_fault_arm("", world.rank) == LODE_OK);
        failed += status != LODE_OK;
        trained_close(&trained);
        int least = (int)status, most = (int)status;
        MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_INT, MPI_MIN, world.comm);
        MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT, MPI_MAX, world.comm);
        LODE_REQUIRE(least == most);
    }
    LODE_CHECK(status == LODE_OK && failed >= 20);
    trained_t trained;
    trained_open(&trained, &run, &world, 0);
    start(&trained, &setting);
    LODE_REQUIRE(lode_fault_arm("receive:rank=0:from=1", world.rank) == LODE_OK);
    LODE_CHECK(lode_trainer_step(trained.trainer, 1, ids, &result) == LODE_ERR_COMM);
    LODE_REQUIRE(lode_fault_arm("", world.rank) == LODE_OK);
    trained_close(&trained);
}

/* Whether `size` ranks that are to form so many replicas (0: as they like) form `expected` ones of
 * so many stages; expected 0: they are refused. */
static bool forms(const lode_trainer_setting_t *setting, int size, int64_t replicas, int expected,
                  int stages) {
    lode_layout_t layout;
    const lode_status_t status = lode_trainer_layout(&layout, &wide, setting, size, 0, replicas);
    if (expected == 0)
        return status == LODE_ERR_CONFIG;
    return status == LODE_OK && layout.replicas == expected && layout.stages == stages;
}

static void test_replicas(void) {
    const run_t run = {.clip = 1};
    lode_trainer_setting_t setting = setting_of(&run);
    lode_layout_t layout;
    LODE_CHECK(forms(&setting, 8, 3, 0, 0)); /* no power of two */
    LODE_CHECK(forms(&setting, 8, 8, 0, 0)); /* more than groups */
    LODE_CHECK(forms(&setting, 8, 2, 2, 3));
    LODE_CHECK(forms(&setting, 16, 0, 4, 3));
    LODE_CHECK(forms(&setting, 7, 0, 4, 1));
    LODE_CHECK(forms(&setting, 3, 0, 2, 1));
    setting.groups = 1;
    LODE_CHECK(forms(&setting, 16, 0, 1, 3));
    setting.groups = GROUPS;
    /* What four whole models leave no room for activations in, two halves do. */
    LODE_REQUIRE(lode_trainer_layout(&layout, &wide, &setting, 4, 0, 4) == LODE_OK);
    LODE_REQUIRE(lode_trainer_memory(&wide, &layout, &setting, &setting.memory) == LODE_OK);
    LODE_CHECK(forms(&setting, 4, 0, 2, 2));
    setting.memory = 1 << 10; /* nothing fits, which whoever creates the trainer is told */
    LODE_CHECK(forms(&setting, 4, 0, 2, 2));
    LODE_CHECK(forms(&setting, 3, 0, 1, 3));
}

int main(int argc, char **argv) {
    static const run_t runs[] = {
        {.family = "llama", .clip = 1, .entropy_weight = 0.3, .one_layer = true},
        {.family = "llama-tied", .scratch = true, .clip = 0.1},
        {.family = "phi3", .scratch = true, .clip = 1, .few = true},
        {.family = "gpt2", .clip = 0.5, .entropy_weight = 0.2},
        {.family = "gemma2", .entropy_weight = 0.5, .few = true},
        {.family = "olmo2", .scratch = true, .clip = 1, .few = true},
        {.family = "llama-bias", .clip = 0, .few = true},
        {.family = NULL, .scratch = true, .clip = 1, .entropy_weight = 0.2},
    };
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    lode_set_threads(1);
    test_replicas();
    test_pieces();
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        if (runs[i].few && world.size > 3)
            continue;
        test_layouts(&runs[i]);
        if (world.size > 1)
            continue;
        run_t pulled = runs[i]; /* so far that the entropy's share is most of the gradient */
        pulled.entropy_weight *= 1000;
        test_gradient(&pulled);
    }
    test_failures();
    test_too_large();
    if (world.size <= 3)
        test_faults();
    const int result = lode_check_result();
    MPI_Finalize();
    return result;
}
