/* How fast training steps are, against SGEMM on the products of the same shapes in the same run.
 *
 *   train_speed [--model FOLDER] [--layers N] [--batch N] [--length N] [--micro-batch N]
 *               [--threads N] [--rounds N] [--clock wall|cpu] [--peer 1]
 *
 * Trains the model whose config.json FOLDER has (configs/quickstart/model; a file will do), or the
 * first N layers of it, from random weights on random tokens: `batch` sequences (16) of `length`
 * tokens (256) a step, in micro-batches of N tokens (2048), on N threads (1). A step is everything:
 * forward, backward, gradients of weights, their norm and clipping, AdamW.
 *
 * SGEMM multiplies matrices of the model's shapes with a micro-batch, as forward, backward and
 * gradients of weights do. It and the step take turns; a share is the median of those of the rounds
 * (5). The step counts as 6 operations a token and weight: those of all matrices that multiply
 * something, head included, embedding left out. So all that is no such product lowers the share:
 * attention's scores, whose operations are told beside it, norms, the loss, the update.
 *
 * --peer takes a step for every line that comes in, and tells seconds, loss and gradient norm: for
 * tests/bench/torch_train.py. The clock is the wall's, for a machine that does nothing else; "cpu"
 * is the time that the process computes, for one thread on a busy machine.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "common/outline.h"
#include "kernels/layer.h"
#include "testing/timing.h"
#include "training/trainer.h"

enum { MANY = 64, SHAPES = LODE_MATRICES + 1 };

typedef struct options {
    const char *model;
    int64_t layers, batch, length, micro_batch;
    int threads, rounds;
    bool peer;
} options_t;

typedef struct bench {
    const options_t *options;
    lode_outline_t outline;
    lode_comm_t comm;
    lode_layout_t layout;
    lode_parameters_t *parameters;
    lode_trainer_t *trainer;
    int32_t *ids; /* [batch · length] */
    int64_t step; /* done */
    /* Matrices that multiply something: extents, and how many there are of each. */
    int64_t out[SHAPES], in[SHAPES], count[SHAPES];
    float *weight, *x, *y; /* operands of SGEMM, as large as any */
} bench_t;

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void list_shapes(bench_t *bench) {
    const lode_architecture_t *a = &bench->outline.architecture;
    const lode_family_t *family = lode_family(a->model_type);
    for (int which = 0; which < LODE_MATRICES; which++) {
        const lode_role_t role = lode_matrix_role((lode_layer_matrix_t)which);
        if (!lode_family_has(a, role))
            continue;
        bench->out[which] = lode_family_extent(a, family->tensors[role].shape[0]);
        bench->in[which] = lode_family_extent(a, family->tensors[role].shape[1]);
        bench->count[which] = a->layers;
    }
    bench->out[LODE_MATRICES] = a->vocab;
    bench->in[LODE_MATRICES] = a->hidden;
    bench->count[LODE_MATRICES] = 1;
}

/* Weights that multiply something. */
static double weights(const bench_t *bench) {
    double sum = 0;
    for (int s = 0; s < SHAPES; s++)
        sum += (double)(bench->count[s] * bench->out[s] * bench->in[s]);
    return sum;
}

/* Tokens of a micro-batch, of whole sequences. */
static int64_t panel_tokens(const options_t *options) {
    const int64_t rows = most(1, options->micro_batch / options->length);
    return (rows < options->batch ? rows : options->batch) * options->length;
}

static void fill(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)((i * 7919) % 2001 - 1000) / 50000;
}

static lode_status_t make_operands(bench_t *bench) {
    int64_t matrix = 0, wide = 0;
    for (int s = 0; s < SHAPES; s++) {
        matrix = most(matrix, bench->out[s] * bench->in[s]);
        wide = most(wide, most(bench->out[s], bench->in[s]));
    }
    const int64_t panel = panel_tokens(bench->options) * wide;
    LODE_TRY(LODE_NEW(&bench->weight, matrix, "matrix"));
    LODE_TRY(LODE_NEW(&bench->x, panel, "operands"));
    LODE_TRY(LODE_NEW(&bench->y, panel, "operands"));
    fill(bench->weight, matrix);
    fill(bench->x, panel);
    fill(bench->y, panel);
    return LODE_OK;
}

static lode_status_t make_trainer(bench_t *bench) {
    const options_t *options = bench->options;
    const lode_architecture_t *a = &bench->outline.architecture;
    const lode_trainer_setting_t setting = {
        .length = options->length,
        .batch = options->batch,
        .micro_batch = options->micro_batch,
        .groups = 1,
        .rate = {.steps = 1 << 20, .most = 2e-3, .final = 1, .decay = LODE_DECAY_CONSTANT},
        .beta_1 = 0.9,
        .beta_2 = 0.95,
        .epsilon = 1e-8,
        .clip = 1,
        .decay = {[LODE_PARAMETER_MATRIX] = 0.1, [LODE_PARAMETER_EMBEDDING] = 0.1},
        .threads = options->threads,
        .memory = INT64_C(1) << 40};
    LODE_TRY(lode_trainer_layout(&bench->layout, a, &setting, 1, 0, 0));
    LODE_TRY(lode_parameters_create(&bench->parameters, a, &bench->layout));
    lode_parameters_initialise(bench->parameters, 1, 0.02, true);
    return lode_trainer_create(&bench->trainer, &bench->comm, &bench->layout, bench->parameters,
                               &setting);
}

static lode_status_t bench_create(bench_t *bench, const options_t *options) {
    *bench = (bench_t){.options = options, .comm = lode_comm_describe(MPI_COMM_SELF)};
    LODE_TRY(lode_outline_open(&bench->outline, options->model));
    if (options->layers > 0)
        LODE_TRY(lode_outline_set_layers(&bench->outline, options->layers));
    lode_set_threads(options->threads);
    list_shapes(bench);
    LODE_TRY(LODE_NEW(&bench->ids, options->batch * options->length, "tokens"));
    if (!options->peer)
        LODE_TRY(make_operands(bench));
    return make_trainer(bench);
}

static void bench_destroy(bench_t *bench) {
    lode_trainer_destroy(&bench->trainer);
    lode_parameters_destroy(&bench->parameters);
    lode_outline_close(&bench->outline);
    free(bench->ids);
    free(bench->weight);
    free(bench->x);
    free(bench->y);
}

/* --- what is timed ---------------------------------------------------------------------------- */

/* The products of a matrix with a micro-batch in one step: y = x·Wᵀ, dx = dy·W, dW += dyᵀ·x. */
static void multiply(bench_t *bench, int tokens, int out, int in) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, tokens, out, in, 1, bench->x, in,
                bench->weight, in, 0, bench->y, out);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, tokens, in, out, 1, bench->y, out,
                bench->weight, in, 0, bench->x, in);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, tokens, 1, bench->y, out,
                bench->x, in, 1, bench->weight, in);
}

/* Operations a second of SGEMM, the products of a layer and the head weighted as in the model. */
static double sgemm_rate(bench_t *bench) {
    const int64_t tokens = panel_tokens(bench->options);
    double took = 0;
    for (int s = 0; s < SHAPES; s++) {
        if (bench->count[s] == 0)
            continue;
        /* Values must not grow from round to round. */
        fill(bench->x, tokens * bench->in[s]);
        fill(bench->weight, bench->out[s] * bench->in[s]);
        const double begin = lode_test_seconds();
        multiply(bench, (int)tokens, (int)bench->out[s], (int)bench->in[s]);
        took += (double)bench->count[s] * (lode_test_seconds() - begin);
    }
    return 6 * weights(bench) * (double)tokens / took;
}

static lode_status_t step(bench_t *bench, double *took, lode_trainer_result_t *result) {
    const options_t *options = bench->options;
    const int64_t vocab = bench->outline.architecture.vocab;
    const uint64_t key = lode_random_key(1, "train speed", ++bench->step, 0);
    for (int64_t i = 0; i < options->batch * options->length; i++)
        bench->ids[i] = (int32_t)lode_random_below(key, (uint64_t)i, vocab);
    const double begin = lode_test_seconds();
    LODE_TRY(lode_trainer_step(bench->trainer, bench->step, bench->ids, result));
    *took = lode_test_seconds() - begin;
    return LODE_OK;
}

/* Operations of attention's scores a token, forward and backward, beside those that are counted. */
static double scores(const bench_t *bench) {
    const lode_architecture_t *a = &bench->outline.architecture;
    return (double)a->layers * (4 + 10) * (double)(a->heads * a->head_dim) *
           (double)(bench->options->length + 1) / 2;
}

static lode_status_t measure(bench_t *bench) {
    const options_t *options = bench->options;
    const double tokens = (double)(options->batch * options->length), n = weights(bench);
    double rate[MANY], took[MANY], share[MANY], forward[MANY], loss, error;
    lode_trainer_result_t result;
    for (int r = -1; r < options->rounds; r++) { /* the first touches all memory */
        const int at = r < 0 ? 0 : r;
        rate[at] = sgemm_rate(bench);
        LODE_TRY(step(bench, &took[at], &result));
        share[at] = 6 * n * tokens / took[at] / rate[at];
        const double begin = lode_test_seconds();
        LODE_TRY(lode_trainer_evaluate(bench->trainer, bench->ids, options->batch, &loss, &error));
        forward[at] = (lode_test_seconds() - begin) / took[at];
    }
    const double seconds_each = lode_test_median(took, options->rounds);
    printf("%s: %.1f M weights that multiply, steps of %lld x %lld tokens, %d threads\n",
           options->model, n / 1e6, (long long)options->batch, (long long)options->length,
           options->threads);
    printf("SGEMM %.1f GFLOP/s; step %.1f ms, %.1f tokens/s, forward alone %.1f %% of it\n",
           lode_test_median(rate, options->rounds) / 1e9, 1e3 * seconds_each, tokens / seconds_each,
           100 * lode_test_median(forward, options->rounds));
    printf("share of SGEMM %.3f at 6 operations a weight and token, %.3f with those of scores\n",
           lode_test_median(share, options->rounds),
           lode_test_median(share, options->rounds) * (1 + scores(bench) / (6 * n)));
    return LODE_OK;
}

static lode_status_t serve(bench_t *bench) {
    char line[MANY];
    while (fgets(line, sizeof line, stdin)) {
        lode_trainer_result_t result;
        double took;
        LODE_TRY(step(bench, &took, &result));
        printf("%.6f %.9g %.9g\n", took, result.loss, result.gradient_norm);
        fflush(stdout);
    }
    return LODE_OK;
}

/* --- the command line ------------------------------------------------------------------------- */

static bool read_option(options_t *options, const char *name, const char *value) {
    const struct {
        const char *name;
        int64_t *number;
    } numbers[] = {{"--layers", &options->layers},
                   {"--batch", &options->batch},
                   {"--length", &options->length},
                   {"--micro-batch", &options->micro_batch}};
    const int number = atoi(value);
    if (strcmp(name, "--clock") == 0)
        return lode_test_clock(value);
    if (strcmp(name, "--model") == 0)
        options->model = value;
    else if (strcmp(name, "--threads") == 0)
        options->threads = number;
    else if (strcmp(name, "--rounds") == 0)
        options->rounds = number < MANY ? number : MANY;
    else if (strcmp(name, "--peer") == 0)
        options->peer = number != 0;
    else {
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (strcmp(name, numbers[i].name) == 0) {
                *numbers[i].number = number;
                return number >= (i > 0);
            }
        return false;
    }
    return options->threads > 0 && options->rounds > 0;
}

int main(int argc, char **argv) {
    options_t options = {.model = "configs/quickstart/model",
                         .batch = 16,
                         .length = 256,
                         .micro_batch = 2048,
                         .threads = 1,
                         .rounds = 5};
    bench_t bench;
    int at = 1;
    while (at + 1 < argc && read_option(&options, argv[at], argv[at + 1]))
        at += 2;
    if (at < argc) {
        fprintf(stderr, "train_speed: cannot use %s; see the head of its source\n", argv[at]);
        return 2;
    }
    MPI_Init(&argc, &argv);
    lode_status_t status = bench_create(&bench, &options);
    if (status == LODE_OK)
        status = options.peer ? serve(&bench) : measure(&bench);
    if (status != LODE_OK)
        fprintf(stderr, "train_speed: %s\n", lode_error_message());
    bench_destroy(&bench);
    MPI_Finalize();
    return status != LODE_OK;
}
