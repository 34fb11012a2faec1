#include "score/supernode.h"

#include <math.h>

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
