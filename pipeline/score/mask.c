#include "score/mask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "score/order.h"

int64_t lode_mask_removed(double sparsity, int64_t channels) {
    return (int64_t)floor(sparsity * (double)channels);
}

lode_core_t lode_mask_core(lode_method_t method, lode_core_t core) {
    if (core != LODE_CORE_DEFAULT)
        return core;
    bool scar = method == LODE_METHOD_SCAR_LP || method == LODE_METHOD_SCAR_PROT ||
                method == LODE_METHOD_SCAR_CONN;
    return scar ? LODE_CORE_LP : LODE_CORE_NONE;
}

static lode_status_t protect_top(uint8_t *is_protected, int64_t channels, int64_t core_size,
                                 const double *values, const char *what) {
    int32_t *core;
    LODE_TRY(LODE_NEW_RAW(&core, core_size, "protected channels"));
    lode_status_t status = lode_order_top(core, core_size, values, channels, what);
    for (int64_t i = 0; status == LODE_OK && i < core_size; i++)
        is_protected[core[i]] = 1;
    free(core);
    return status;
}

static lode_status_t protect_random(uint8_t *is_protected, int64_t channels, int64_t core_size,
                                    int64_t seed, int64_t layer) {
    int64_t *core;
    LODE_TRY(LODE_NEW_RAW(&core, core_size, "protected channels"));
    lode_random_sample(lode_random_key(seed, "random core", layer, 0), core, core_size, channels);
    for (int64_t i = 0; i < core_size; i++)
        is_protected[core[i]] = 1;
    free(core);
    return LODE_OK;
}

lode_status_t lode_mask_protect(uint8_t *is_protected, int64_t channels, lode_core_t core,
                                int64_t core_size, const double *loss_proxy,
                                const double *activation_power, int64_t seed, int64_t layer) {
    LODE_ASSERT(core != LODE_CORE_DEFAULT && 0 <= core_size && core_size <= channels);
    memset(is_protected, 0, (size_t)channels);
    switch (core) {
    case LODE_CORE_LP:
        return protect_top(is_protected, channels, core_size, loss_proxy, "loss proxy");
    case LODE_CORE_ACTIVATION:
        return protect_top(is_protected, channels, core_size, activation_power, "activation power");
    case LODE_CORE_RANDOM:
        return protect_random(is_protected, channels, core_size, seed, layer);
    default:
        return LODE_OK;
    }
}

static lode_status_t check_sparsity(double sparsity) {
    if (sparsity >= 0 && sparsity < 1)
        return LODE_OK;
    return lode_fail(LODE_ERR_CONFIG, "prune.sparsity is %g; choose a value in (0, 1)", sparsity);
}

lode_status_t lode_mask_uniform(uint8_t *keep, const double *score, const uint8_t *is_protected,
                                int64_t channels, double sparsity, int64_t layer) {
    LODE_TRY(check_sparsity(sparsity));
    int64_t wanted = lode_mask_removed(sparsity, channels), removed = 0;
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, channels, "channels by score"));
    lode_status_t status = lode_order_ascending(order, score, channels, "score");
    memset(keep, 1, (size_t)channels);
    for (int64_t i = 0; status == LODE_OK && i < channels && removed < wanted; i++)
        if (!is_protected || !is_protected[order[i]]) {
            keep[order[i]] = 0;
            removed++;
        }
    free(order);
    if (status != LODE_OK)
        return lode_fail_context(status, "layer %lld", (long long)layer);
    if (removed < wanted)
        return lode_fail(LODE_ERR_CONFIG,
                         "prune.sparsity %g removes %lld of the %lld channels of layer %lld, but "
                         "only %lld are not protected; lower prune.sparsity or "
                         "classify.core_fraction, or choose another of prune.cores",
                         sparsity, (long long)wanted, (long long)channels, (long long)layer,
                         (long long)removed);
    return LODE_OK;
}

lode_status_t lode_mask_normalise(double *normal, const double *score, int64_t channels) {
    LODE_TRY(lode_order_check(score, channels, "score"));
    double base = 0, sum = 0;
    for (int64_t j = 0; j < channels; j++)
        base = fmin(base, score[j]);
    for (int64_t j = 0; j < channels; j++) {
        normal[j] = score[j] - base;
        sum += normal[j];
    }
    double mean = sum / (double)channels;
    if (!isfinite(mean))
        return lode_fail(LODE_ERR_NUMERIC, "score: the sum over channels overflows");
    for (int64_t j = 0; j < channels; j++)
        normal[j] = mean > 0 ? normal[j] / mean : 0;
    return LODE_OK;
}

/* Removes in ascending order until `wanted` are gone; returns how many are. `left` [layers] counts
 * what each layer still has and starts at `channels`. */
static int64_t remove_lowest(uint8_t *keep, int64_t *left, const int32_t *order,
                             const uint8_t *is_protected, int64_t layers, int64_t channels,
                             int64_t floor_size, int64_t wanted) {
    int64_t removed = 0;
    for (int64_t i = 0; i < layers * channels && removed < wanted; i++) {
        int64_t layer = order[i] / channels;
        if ((is_protected && is_protected[order[i]]) || left[layer] <= floor_size)
            continue;
        keep[order[i]] = 0;
        left[layer]--;
        removed++;
    }
    return removed;
}

lode_status_t lode_mask_global(uint8_t *keep, const double *score, const uint8_t *is_protected,
                               int64_t layers, int64_t channels, double sparsity,
                               double floor_fraction) {
    LODE_TRY(check_sparsity(sparsity));
    int64_t total = layers * channels;
    int64_t wanted = layers * lode_mask_removed(sparsity, channels), removed = 0;
    int64_t floor_size = (int64_t)floor(floor_fraction * (double)channels);
    floor_size = floor_size > 1 ? floor_size : 1;
    double *normal = NULL;
    int32_t *order = NULL;
    int64_t *left = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&normal, total, "normalised scores"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&order, total, "channels by score"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&left, layers, "channels left"), done);
    for (int64_t l = 0; l < layers; l++) {
        left[l] = channels;
        status = lode_mask_normalise(normal + l * channels, score + l * channels, channels);
        LODE_GUARD(status, lode_fail_context(status, "layer %lld", (long long)l), done);
    }
    LODE_GUARD(status, lode_order_ascending(order, normal, total, "normalised score"), done);
    memset(keep, 1, (size_t)total);
    removed = remove_lowest(keep, left, order, is_protected, layers, channels, floor_size, wanted);
    if (removed < wanted)
        status = lode_fail(LODE_ERR_CONFIG,
                           "prune.sparsity %g removes %lld channels, but only %lld may go with "
                           "global allocation (protected ones stay, and %lld of every layer); "
                           "lower prune.sparsity, prune.floor or classify.core_fraction",
                           sparsity, (long long)wanted, (long long)removed, (long long)floor_size);
done:
    free(normal);
    free(order);
    free(left);
    return status;
}

lode_status_t lode_variant_name(lode_buffer_t *name, lode_method_t method, double sparsity,
                                lode_core_t core, lode_allocation_t allocation,
                                lode_compensation_t compensation) {
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, sparsity);
        if (strtod(text, NULL) == sparsity)
            break;
    }
    LODE_TRY(lode_buffer_printf(name, "%s@%s", lode_method_name(method), text));
    if (core != LODE_CORE_DEFAULT)
        LODE_TRY(lode_buffer_printf(name, "~%s", lode_core_name(core)));
    if (allocation != LODE_ALLOCATION_UNIFORM)
        LODE_TRY(lode_buffer_printf(name, "+%s", lode_allocation_name(allocation)));
    if (compensation != LODE_COMPENSATION_NONE)
        LODE_TRY(lode_buffer_printf(name, "+%s", lode_compensation_name(compensation)));
    return LODE_OK;
}
