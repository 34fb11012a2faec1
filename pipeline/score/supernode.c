#include "score/supernode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "score/concentration.h"
#include "score/order.h"

static const char loss_proxy_name[] = "loss proxy";

int64_t lode_supernode_size(double core_fraction, int64_t channels) {
    int64_t core_size = (int64_t)floor(core_fraction * (double)channels);
    return core_size > 1 ? core_size : 1;
}

lode_status_t lode_supernode_select(int32_t *core, int64_t core_size, const double *loss_proxy,
                                    int64_t channels) {
    for (int64_t j = 0; j < channels; j++)
        if (loss_proxy[j] < 0)
            return lode_fail(LODE_ERR_NUMERIC,
                             "loss proxy of channel %lld is %g; it cannot be negative",
                             (long long)j, loss_proxy[j]);
    return lode_order_top(core, core_size, loss_proxy, channels, loss_proxy_name);
}

lode_status_t lode_supernode_mass(double *mass, const int32_t *core, int64_t core_size,
                                  const double *loss_proxy, int64_t channels) {
    double in_core = 0, total = 0;
    *mass = NAN;
    LODE_TRY(lode_order_check(loss_proxy, channels, loss_proxy_name));
    for (int64_t j = 0; j < channels; j++)
        total += loss_proxy[j];
    for (int64_t i = 0; i < core_size; i++)
        in_core += loss_proxy[core[i]];
    if (!isfinite(total))
        return lode_fail(LODE_ERR_NUMERIC, "loss proxy: the sum over channels overflows");
    if (total > 0)
        *mass = in_core / total;
    return LODE_OK;
}

/* What the draws of one bootstrap share. */
typedef struct bootstrap {
    const double *sums;
    int64_t sequences, stride, channels, core_size;
    int64_t *times;     /* [sequences] how often each was drawn */
    double *loss_proxy; /* [channels] of the current draw, up to a factor */
    int32_t *core;      /* [core_size] of the current draw */
    int32_t *full_core; /* [core_size] of all sequences */
    double *mass;       /* [draws], those that have a core */
    double *jaccard;    /* [draws] */
    int64_t draws_taken;
} bootstrap_t;

/* Adds up the sequences, each as often as it was drawn, in their order, and finds the core. */
static lode_status_t bootstrap_core(bootstrap_t *b, int32_t *core, double *mass) {
    memset(b->loss_proxy, 0, (size_t)b->channels * sizeof *b->loss_proxy);
    for (int64_t s = 0; s < b->sequences; s++) {
        double times = (double)b->times[s];
        for (int64_t j = 0; times > 0 && j < b->channels; j++)
            b->loss_proxy[j] += times * b->sums[s * b->stride + j];
    }
    LODE_TRY(lode_supernode_select(core, b->core_size, b->loss_proxy, b->channels));
    return lode_supernode_mass(mass, core, b->core_size, b->loss_proxy, b->channels);
}

static lode_status_t bootstrap_draw(bootstrap_t *b, uint64_t key) {
    double mass, jaccard;
    memset(b->times, 0, (size_t)b->sequences * sizeof *b->times);
    for (int64_t s = 0; s < b->sequences; s++)
        b->times[lode_random_below(key, (uint64_t)s, b->sequences)]++;
    LODE_TRY(bootstrap_core(b, b->core, &mass));
    if (isnan(mass))
        return LODE_OK;
    LODE_TRY(lode_concentration_jaccard(&jaccard, b->core, b->core_size, b->full_core, b->core_size,
                                        b->channels));
    b->mass[b->draws_taken] = mass;
    b->jaccard[b->draws_taken] = jaccard;
    b->draws_taken++;
    return LODE_OK;
}

static int compare_doubles(const void *left, const void *right) {
    double a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

/* Percentile of sorted values, linear between neighbours. */
static double percentile(const double *sorted, int64_t count, double fraction) {
    double position = fraction * (double)(count - 1);
    int64_t below = (int64_t)floor(position);
    int64_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (position - (double)below) * (sorted[above] - sorted[below]);
}

static void bootstrap_summarise(lode_stability_t *stability, bootstrap_t *b, double level) {
    int64_t count = b->draws_taken;
    if (count == 0)
        return;
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += b->jaccard[i];
    stability->jaccard = sum / (double)count;
    qsort(b->mass, (size_t)count, sizeof *b->mass, compare_doubles);
    qsort(b->jaccard, (size_t)count, sizeof *b->jaccard, compare_doubles);
    double tail = 0.5 * (1 - level);
    stability->mass_low = percentile(b->mass, count, tail);
    stability->mass_high = percentile(b->mass, count, 1 - tail);
    stability->jaccard_low = percentile(b->jaccard, count, tail);
}

static lode_status_t bootstrap_allocate(bootstrap_t *b, int64_t draws) {
    LODE_TRY(LODE_NEW(&b->times, b->sequences, "bootstrap sequences"));
    LODE_TRY(LODE_NEW(&b->loss_proxy, b->channels, "bootstrap loss proxy"));
    LODE_TRY(LODE_NEW(&b->core, b->core_size, "bootstrap core"));
    LODE_TRY(LODE_NEW(&b->full_core, b->core_size, "bootstrap core"));
    LODE_TRY(LODE_NEW(&b->mass, draws, "bootstrap draws"));
    return LODE_NEW(&b->jaccard, draws, "bootstrap draws");
}

static void bootstrap_free(bootstrap_t *b) {
    free(b->times);
    free(b->loss_proxy);
    free(b->core);
    free(b->full_core);
    free(b->mass);
    free(b->jaccard);
}

lode_status_t lode_supernode_bootstrap(lode_stability_t *stability, const double *sums,
                                       int64_t sequences, int64_t stride, int64_t channels,
                                       int64_t core_size, int64_t draws, double level, int64_t seed,
                                       int64_t layer) {
    LODE_ASSERT(sequences > 0 && stride >= channels && draws > 0 && 0 < level && level < 1);
    *stability = (lode_stability_t){NAN, NAN, NAN, NAN, NAN};
    bootstrap_t b = {.sums = sums,
                     .sequences = sequences,
                     .stride = stride,
                     .channels = channels,
                     .core_size = core_size};
    lode_status_t status;
    LODE_GUARD(status, bootstrap_allocate(&b, draws), done);
    for (int64_t s = 0; s < sequences; s++) {
        b.times[s] = 1;
        LODE_GUARD(status, lode_order_check(sums + s * stride, channels, loss_proxy_name), done);
    }
    LODE_GUARD(status, bootstrap_core(&b, b.full_core, &stability->mass), done);
    for (int64_t i = 0; i < draws; i++)
        LODE_GUARD(status, bootstrap_draw(&b, lode_random_key(seed, "bootstrap", layer, i)), done);
    bootstrap_summarise(stability, &b, level);
done:
    bootstrap_free(&b);
    return status;
}
