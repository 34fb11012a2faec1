#include "score/channel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/entropy.h"
#include "score/order.h"
#include "score/weights.h"

unsigned lode_score_needs(lode_method_t method) {
    switch (method) {
    case LODE_METHOD_SCAR_LP:
    case LODE_METHOD_LP:
        return LODE_NEEDS_LOSS_PROXY;
    case LODE_METHOD_SCAR_PROT:
        return LODE_NEEDS_LOSS_PROXY | LODE_NEEDS_PROTECTION;
    case LODE_METHOD_SCAR_CONN:
        return LODE_NEEDS_LOSS_PROXY | LODE_NEEDS_CONNECTIVITY | LODE_NEEDS_PROTECTION;
    case LODE_METHOD_WANDA_CHANNEL:
        return LODE_NEEDS_INPUT_POWER | LODE_NEEDS_DOWN | LODE_NEEDS_GATE_UP;
    case LODE_METHOD_MAGNITUDE:
    case LODE_METHOD_MAGNITUDE_REVERSED:
        return LODE_NEEDS_DOWN | LODE_NEEDS_GATE_UP;
    case LODE_METHOD_ACTIVATION:
        return LODE_NEEDS_ACTIVATION_POWER;
    case LODE_METHOD_TAYLOR:
        return LODE_NEEDS_TAYLOR;
    case LODE_METHOD_ENTROPY:
    case LODE_METHOD_ENTROPY_SQUARE:
    case LODE_METHOD_ENTROPY_SOFTMAX:
    case LODE_METHOD_ENTROPY_REVERSED:
        return LODE_NEEDS_DOWN;
    case LODE_METHOD_SPARSEGPT_CHANNEL:
        return LODE_NEEDS_INVERSE_MOMENTS | LODE_NEEDS_DOWN | LODE_NEEDS_GATE_UP;
    case LODE_METHOD_FLAP:
        return LODE_NEEDS_ACTIVATION_POWER | LODE_NEEDS_ACTIVATION_MEAN | LODE_NEEDS_DOWN;
    case LODE_METHOD_RANDOM:
        return 0;
    }
    return 0;
}

static const char gate_name[] = "gate_proj", up_name[] = "up_proj", down_name[] = "down_proj";

static lode_status_t check_array(const double *values, int64_t count, const char *what) {
    if (!values)
        return lode_fail(LODE_ERR_INTERNAL, "%s is missing among the inputs of a score", what);
    return lode_order_check(values, count, what);
}

/* Diagonals of inverses of positive definite matrices are positive. */
static lode_status_t check_inverse(const double *values, int64_t count, const char *what) {
    LODE_TRY(check_array(values, count, what));
    for (int64_t i = 0; i < count; i++)
        if (!(values[i] > 0))
            return lode_fail(LODE_ERR_NUMERIC,
                             "%s has %g on its diagonal at %lld; it must be "
                             "positive",
                             what, values[i], (long long)i);
    return LODE_OK;
}

/* Square roots of mean powers: the norms of an input's columns. */
static lode_status_t input_norms(double *norms, const double *power, int64_t count,
                                 const char *what) {
    for (int64_t i = 0; i < count; i++) {
        if (power[i] < 0)
            return lode_fail(LODE_ERR_NUMERIC, "%s of channel %lld is %g; it cannot be negative",
                             what, (long long)i, power[i]);
        norms[i] = sqrt(power[i]);
    }
    return LODE_OK;
}

static lode_status_t check_inputs(const lode_score_inputs_t *in, unsigned needs) {
    if (needs & LODE_NEEDS_LOSS_PROXY)
        LODE_TRY(check_array(in->loss_proxy, in->m, "loss proxy"));
    if (needs & LODE_NEEDS_ACTIVATION_POWER)
        LODE_TRY(check_array(in->activation_power, in->m, "activation power"));
    if (needs & LODE_NEEDS_TAYLOR)
        LODE_TRY(check_array(in->taylor, in->m, "Taylor statistic"));
    if (needs & LODE_NEEDS_CONNECTIVITY)
        LODE_TRY(check_array(in->connectivity, in->m, "connectivity"));
    if (needs & LODE_NEEDS_PROTECTION)
        LODE_TRY(check_array(in->protection, in->m, "protection"));
    if (needs & LODE_NEEDS_INPUT_POWER) {
        LODE_TRY(check_array(in->input_power_mean, in->d, "input power"));
        LODE_TRY(check_array(in->u_power_mean, in->m, "activation power"));
    }
    if (needs & LODE_NEEDS_ACTIVATION_MEAN)
        LODE_TRY(check_array(in->activation_mean, in->m, "activation mean"));
    if (needs & LODE_NEEDS_INVERSE_MOMENTS) {
        LODE_TRY(check_inverse(in->inverse_input, in->d, "inverse second moment of the input"));
        LODE_TRY(check_inverse(in->inverse_u, in->m, "inverse second moment of u"));
    }
    if (needs & LODE_NEEDS_DOWN)
        LODE_TRY(lode_weights_check(&in->down, in->d, in->m, down_name));
    if ((needs & LODE_NEEDS_GATE_UP) && in->gate.data)
        LODE_TRY(lode_weights_check(&in->gate, in->m, in->d, gate_name));
    if (needs & LODE_NEEDS_GATE_UP)
        LODE_TRY(lode_weights_check(&in->up, in->m, in->d, up_name));
    return LODE_OK;
}

/* What a row of gate or up adds to its channel's score. */
typedef double (*row_term_t)(const double *row, const double *input, int64_t hidden);

/* Its norm; there is no input. */
static double norm_of(const double *row, const double *input, int64_t hidden) {
    double squares = 0;
    (void)input;
    for (int64_t i = 0; i < hidden; i++)
        squares += row[i] * row[i];
    return sqrt(squares);
}

/* Σ_i |W[j,i]|·norms[i]. */
static double wanda_of(const double *row, const double *norms, int64_t hidden) {
    double sum = 0;
    for (int64_t i = 0; i < hidden; i++)
        sum += fabs(row[i]) * norms[i];
    return sum;
}

/* Σ_i W[j,i]²/inverse[i]. */
static double saliency_of(const double *row, const double *inverse, int64_t hidden) {
    double sum = 0;
    for (int64_t i = 0; i < hidden; i++)
        sum += row[i] * row[i] / inverse[i];
    return sum;
}

static lode_status_t add_rows(double *score, const lode_tensor_t *tensor, row_term_t term,
                              const double *input, const char *what) {
    const int64_t channels = tensor->shape[0], hidden = tensor->shape[1];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, tensor, channels, hidden, what);
    for (int64_t j = 0; j < channels && status == LODE_OK; j++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, j, &row), done);
        score[j] += term(row, input, hidden);
    }
done:
    lode_weights_close(&reader);
    return status;
}

/* The terms of the rows of gate, where there is one, and of up. */
static lode_status_t add_gate_and_up(double *score, const lode_score_inputs_t *in, row_term_t term,
                                     const double *input) {
    if (in->gate.data)
        LODE_TRY(add_rows(score, &in->gate, term, input, gate_name));
    return add_rows(score, &in->up, term, input, up_name);
}

/* Per column of down: Σ_i |W[i,j]|, or Σ_i W[i,j]² where `squared`. */
static lode_status_t column_sums(double *sums, const lode_score_inputs_t *in, bool squared) {
    lode_weights_reader_t down;
    lode_status_t status = lode_weights_open(&down, &in->down, in->d, in->m, down_name);
    memset(sums, 0, (size_t)in->m * sizeof *sums);
    for (int64_t i = 0; i < in->d && status == LODE_OK; i++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&down, i, &row), done);
        for (int64_t j = 0; j < in->m; j++)
            sums[j] += squared ? row[j] * row[j] : fabs(row[j]);
    }
done:
    lode_weights_close(&down);
    return status;
}

/* Working memory of the scores that read weights. */
typedef struct scratch {
    double *sums;  /* [m] column sums */
    double *norms; /* [max(m, d)] norms of a projection's inputs */
} scratch_t;

static lode_status_t score_magnitude(double *score, const lode_score_inputs_t *in,
                                     scratch_t *scratch) {
    LODE_TRY(add_gate_and_up(score, in, norm_of, NULL));
    LODE_TRY(column_sums(scratch->sums, in, true));
    for (int64_t j = 0; j < in->m; j++)
        score[j] += sqrt(scratch->sums[j]);
    return LODE_OK;
}

static lode_status_t score_wanda(double *score, const lode_score_inputs_t *in, scratch_t *scratch) {
    LODE_TRY(input_norms(scratch->norms, in->input_power_mean, in->d, "input power"));
    LODE_TRY(add_gate_and_up(score, in, wanda_of, scratch->norms));
    LODE_TRY(input_norms(scratch->norms, in->u_power_mean, in->m, "activation power"));
    LODE_TRY(column_sums(scratch->sums, in, false));
    for (int64_t j = 0; j < in->m; j++)
        score[j] += scratch->sums[j] * scratch->norms[j];
    return LODE_OK;
}

static lode_status_t score_sparsegpt(double *score, const lode_score_inputs_t *in,
                                     scratch_t *scratch) {
    LODE_TRY(add_gate_and_up(score, in, saliency_of, in->inverse_input));
    LODE_TRY(column_sums(scratch->sums, in, true));
    for (int64_t j = 0; j < in->m; j++)
        score[j] += scratch->sums[j] / in->inverse_u[j];
    return LODE_OK;
}

/* The variance is never negative; where u hardly varies, rounding may say so. */
static lode_status_t score_flap(double *score, const lode_score_inputs_t *in, scratch_t *scratch) {
    LODE_TRY(column_sums(scratch->sums, in, true));
    for (int64_t j = 0; j < in->m; j++) {
        const double mean = in->activation_mean[j];
        score[j] = fmax(in->activation_power[j] - mean * mean, 0) * scratch->sums[j];
    }
    return LODE_OK;
}

static void turn(double *score, int64_t count) {
    for (int64_t j = 0; j < count; j++)
        score[j] = -score[j];
}

/* −H_j: what writes alike to all dimensions goes first; reversed, what writes to few. */
static lode_status_t score_entropy(double *score, lode_method_t method,
                                   const lode_score_inputs_t *in) {
    const lode_entropy_form_t form = method == LODE_METHOD_ENTROPY_SQUARE ? LODE_ENTROPY_SQUARE
                                     : method == LODE_METHOD_ENTROPY_SOFTMAX
                                         ? LODE_ENTROPY_SOFTMAX
                                         : LODE_ENTROPY_ABSOLUTE;
    LODE_TRY(lode_entropy_tensor(score, &in->down, form, down_name));
    if (method != LODE_METHOD_ENTROPY_REVERSED)
        turn(score, in->m);
    return LODE_OK;
}

static lode_status_t score_from_weights(double *score, lode_method_t method,
                                        const lode_score_inputs_t *in) {
    scratch_t scratch = {0};
    int64_t longest = in->m > in->d ? in->m : in->d;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&scratch.sums, in->m, "column sums of down_proj"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&scratch.norms, longest, "input norms"), done);
    memset(score, 0, (size_t)in->m * sizeof *score);
    if (method == LODE_METHOD_MAGNITUDE || method == LODE_METHOD_MAGNITUDE_REVERSED)
        status = score_magnitude(score, in, &scratch);
    else if (method == LODE_METHOD_WANDA_CHANNEL)
        status = score_wanda(score, in, &scratch);
    else if (method == LODE_METHOD_SPARSEGPT_CHANNEL)
        status = score_sparsegpt(score, in, &scratch);
    else if (method == LODE_METHOD_FLAP)
        status = score_flap(score, in, &scratch);
    else
        status = score_entropy(score, method, in);
    if (status == LODE_OK && method == LODE_METHOD_MAGNITUDE_REVERSED)
        turn(score, in->m);
done:
    free(scratch.sums);
    free(scratch.norms);
    return status;
}

static void score_from_statistics(double *score, lode_method_t method,
                                  const lode_score_inputs_t *in) {
    uint64_t key = lode_random_key(in->seed, "random score", in->layer, 0);
    for (int64_t j = 0; j < in->m; j++)
        switch (method) {
        case LODE_METHOD_SCAR_PROT:
            score[j] = in->loss_proxy[j] * in->protection[j];
            break;
        case LODE_METHOD_SCAR_CONN:
            score[j] = in->loss_proxy[j] *
                       ((1 - in->connectivity[j]) + in->connectivity[j] * in->protection[j]);
            break;
        case LODE_METHOD_ACTIVATION:
            score[j] = in->activation_power[j];
            break;
        case LODE_METHOD_TAYLOR:
            score[j] = in->taylor[j];
            break;
        case LODE_METHOD_RANDOM:
            score[j] = lode_random_uniform(key, (uint64_t)j);
            break;
        default: /* scar-lp, lp */
            score[j] = in->loss_proxy[j];
        }
}

lode_status_t lode_score_channels(double *score, lode_method_t method,
                                  const lode_score_inputs_t *inputs) {
    unsigned needs = lode_score_needs(method);
    LODE_TRY(check_inputs(inputs, needs));
    if (needs & LODE_NEEDS_DOWN)
        LODE_TRY(score_from_weights(score, method, inputs));
    else
        score_from_statistics(score, method, inputs);
    return lode_order_check(score, inputs->m, lode_method_name(method));
}
