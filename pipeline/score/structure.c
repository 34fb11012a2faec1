#include "score/structure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/concentration.h"
#include "score/order.h"
#include "score/resample.h"
#include "score/supernode.h"

static const char loss_proxy_name[] = "loss proxy";
static const char power_name[] = "activation power";

enum { GATE = 2, NORMS }; /* down, up, gate: the order of the figures */

const char *lode_structure_name(int figure) {
    static const char *const names[] = {
#define STRUCTURE_NAME(figure, name) name,
        LODE_STRUCTURE_LIST(STRUCTURE_NAME)
#undef STRUCTURE_NAME
    };
    LODE_ASSERT(0 <= figure && figure < LODE_STRUCTURE_COUNT);
    return names[figure];
}

/* One of the two statistics, of all sequences or of a draw, and what is found in it. */
typedef struct ranking {
    double *values;      /* [channels] */
    int32_t *descending; /* [channels]; the first core_size are its core */
    double *ranks;       /* [channels] */
} ranking_t;

typedef struct work {
    const lode_structure_inputs_t *in;
    ranking_t proxy, power;
    double *norm_ranks[NORMS]; /* [channels] each */
    int32_t *core;             /* [core_size] of all sequences */
    double *times;             /* [sequences] how often each was drawn */
    double *draws;             /* [LODE_STRUCTURE_COUNT + 1, draws] figures, then stability */
} work_t;

static lode_status_t ranking_allocate(ranking_t *ranking, int64_t channels) {
    LODE_TRY(LODE_NEW_RAW(&ranking->values, channels, "structure of a layer"));
    LODE_TRY(LODE_NEW_RAW(&ranking->descending, channels, "structure of a layer"));
    return LODE_NEW_RAW(&ranking->ranks, channels, "structure of a layer");
}

static void ranking_free(ranking_t *ranking) {
    free(ranking->values);
    free(ranking->descending);
    free(ranking->ranks);
}

static lode_status_t work_allocate(work_t *work) {
    const lode_structure_inputs_t *in = work->in;
    LODE_TRY(ranking_allocate(&work->proxy, in->channels));
    LODE_TRY(ranking_allocate(&work->power, in->channels));
    for (int i = 0; i < NORMS; i++)
        LODE_TRY(LODE_NEW_RAW(&work->norm_ranks[i], in->channels, "ranks of norms"));
    LODE_TRY(LODE_NEW_RAW(&work->core, in->core_size, "core"));
    LODE_TRY(LODE_NEW_RAW(&work->times, in->sequences, "bootstrap sequences"));
    return LODE_NEW_RAW(&work->draws, (LODE_STRUCTURE_COUNT + 1) * in->draws, "bootstrap draws");
}

static void work_free(work_t *work) {
    ranking_free(&work->proxy);
    ranking_free(&work->power);
    for (int i = 0; i < NORMS; i++)
        free(work->norm_ranks[i]);
    free(work->core);
    free(work->times);
    free(work->draws);
}

static lode_status_t refuse_negative(const double *values, int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (values[i] < 0)
            return lode_fail(LODE_ERR_NUMERIC, "%s of channel %lld is %g; it cannot be negative",
                             what, (long long)i, values[i]);
    return LODE_OK;
}

/* Everything that is read, once, so that the draws need not look again. */
static lode_status_t check_inputs(const lode_structure_inputs_t *in) {
    LODE_TRY(refuse_negative(in->loss_proxy, in->channels, loss_proxy_name));
    LODE_TRY(refuse_negative(in->activation_power, in->channels, power_name));
    for (int64_t s = 0; s < in->sequences; s++) {
        const double *proxy = in->loss_proxy_sums + s * in->stride;
        const double *power = in->activation_power_sums + s * in->stride;
        LODE_TRY(lode_order_check(proxy, in->channels, loss_proxy_name));
        LODE_TRY(lode_order_check(power, in->channels, power_name));
        LODE_TRY(refuse_negative(proxy, in->channels, loss_proxy_name));
        LODE_TRY(refuse_negative(power, in->channels, power_name));
    }
    return LODE_OK;
}

static lode_status_t order_channels(ranking_t *ranking, int64_t channels, const char *what) {
    LODE_TRY(lode_order_top(ranking->descending, channels, ranking->values, channels, what));
    lode_order_ranks_of(ranking->ranks, ranking->descending, ranking->values, channels);
    return LODE_OK;
}

/* All figures of the values at hand. */
static lode_status_t measure(work_t *work, double figure[LODE_STRUCTURE_COUNT]) {
    const lode_structure_inputs_t *in = work->in;
    const int64_t m = in->channels, k = in->core_size;
    LODE_TRY(order_channels(&work->proxy, m, loss_proxy_name));
    LODE_TRY(order_channels(&work->power, m, power_name));
    const int32_t *core = work->proxy.descending;
    double jaccard;
    LODE_TRY(
        lode_supernode_mass(&figure[LODE_STRUCTURE_CORE_MASS], core, k, work->proxy.values, m));
    LODE_TRY(lode_concentration_effective(&figure[LODE_STRUCTURE_EFFECTIVE_NUMBER],
                                          work->proxy.values, m, loss_proxy_name));
    LODE_TRY(lode_concentration_jaccard(&jaccard, core, k, work->power.descending, k, m));
    figure[LODE_STRUCTURE_GINI] = lode_concentration_gini_of(work->proxy.values, core, m);
    figure[LODE_STRUCTURE_SPEARMAN_ACTIVATION] =
        lode_concentration_rank_correlation(work->proxy.ranks, work->power.ranks, m);
    for (int i = 0; i < NORMS; i++)
        figure[LODE_STRUCTURE_SPEARMAN_DOWN_NORM + i] =
            i == GATE && !in->gate_norm
                ? NAN
                : lode_concentration_rank_correlation(work->proxy.ranks, work->norm_ranks[i], m);
    figure[LODE_STRUCTURE_JACCARD_ACTIVATION] = jaccard;
    figure[LODE_STRUCTURE_OVERLAP_ACTIVATION] = 2 * jaccard / (1 + jaccard); /* |A| = |B| */
    return LODE_OK;
}

/* Adds up the sequences, each as often as it was drawn, in their order. */
static void add_sequences(double *values, const work_t *work, const double *sums) {
    const int64_t m = work->in->channels;
    memset(values, 0, (size_t)m * sizeof *values);
    for (int64_t s = 0; s < work->in->sequences; s++) {
        const double times = work->times[s];
        const double *row = sums + s * work->in->stride;
        for (int64_t j = 0; times > 0 && j < m; j++)
            values[j] += times * row[j];
    }
}

static lode_status_t draw(work_t *work, int64_t number) {
    const lode_structure_inputs_t *in = work->in;
    double figure[LODE_STRUCTURE_COUNT], stability;
    lode_resample_times(work->times, in->sequences,
                        lode_random_key(in->seed, "bootstrap", in->layer, number));
    add_sequences(work->proxy.values, work, in->loss_proxy_sums);
    add_sequences(work->power.values, work, in->activation_power_sums);
    LODE_TRY(measure(work, figure));
    LODE_TRY(lode_concentration_jaccard(&stability, work->proxy.descending, in->core_size,
                                        work->core, in->core_size, in->channels));
    const bool empty = isnan(figure[LODE_STRUCTURE_CORE_MASS]);
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++)
        work->draws[i * in->draws + number] = empty ? NAN : figure[i];
    work->draws[LODE_STRUCTURE_COUNT * in->draws + number] = empty ? NAN : stability;
    return LODE_OK;
}

static void summarise(lode_structure_t *structure, work_t *work) {
    const int64_t draws = work->in->draws;
    double *stability = work->draws + LODE_STRUCTURE_COUNT * draws, sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < draws; i++)
        if (!isnan(stability[i])) {
            sum += stability[i];
            count++;
        }
    structure->stability = count > 0 ? sum / (double)count : NAN;
    lode_resample_interval(structure->stability_interval, stability, draws, work->in->level);
    for (int i = 0; i < LODE_STRUCTURE_COUNT; i++)
        lode_resample_interval(structure->interval[i], work->draws + i * draws, draws,
                               work->in->level);
}

lode_status_t lode_structure_measure(lode_structure_t *structure,
                                     const lode_structure_inputs_t *inputs) {
    const int64_t m = inputs->channels, k = inputs->core_size;
    LODE_ASSERT(1 <= k && k <= m && inputs->sequences > 0 && inputs->stride >= m);
    LODE_ASSERT(inputs->draws > 0);
    const double *norms[NORMS] = {inputs->down_norm, inputs->up_norm, inputs->gate_norm};
    static const char *const norm_names[NORMS] = {"norm of the down column", "norm of the up row",
                                                  "norm of the gate row"};
    work_t work = {.in = inputs};
    lode_status_t status;
    LODE_GUARD(status, work_allocate(&work), done);
    LODE_GUARD(status, check_inputs(inputs), done);
    for (int i = 0; i < NORMS; i++)
        if (norms[i])
            LODE_GUARD(status, lode_order_ranks(work.norm_ranks[i], norms[i], m, norm_names[i]),
                       done);
    memcpy(work.proxy.values, inputs->loss_proxy, (size_t)m * sizeof(double));
    memcpy(work.power.values, inputs->activation_power, (size_t)m * sizeof(double));
    LODE_GUARD(status, measure(&work, structure->figure), done);
    memcpy(work.core, work.proxy.descending, (size_t)k * sizeof *work.core);
    for (int64_t i = 0; i < inputs->draws; i++)
        LODE_GUARD(status, draw(&work, i), done);
    summarise(structure, &work);
done:
    work_free(&work);
    return status;
}
