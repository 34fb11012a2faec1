#include "comm/partition.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

/* Dynamic programme over (parts so far, items so far): worst[p][i] is the cheapest possible dearest
 * run when the first i items form p runs. Layers number in the hundreds, so cubic time is nothing.
 */
lode_status_t lode_partition_contiguous(const double *cost, int64_t count, int parts,
                                        int64_t *first) {
    LODE_ASSERT(parts >= 1 && count >= parts);
    double *prefix, *worst = NULL;
    int64_t *cut = NULL;
    const int64_t row = count + 1;
    lode_status_t status;
    LODE_TRY(LODE_NEW(&prefix, row, "partition"));
    LODE_GUARD(status, LODE_NEW(&worst, row * (parts + 1), "partition"), done);
    LODE_GUARD(status, LODE_NEW(&cut, row * (parts + 1), "partition"), done);
    for (int64_t i = 0; i < count; i++)
        prefix[i + 1] = prefix[i] + cost[i];
    for (int64_t i = 1; i < row; i++)
        worst[i] = INFINITY; /* no runs hold no items */
    for (int p = 1; p <= parts; p++) {
        for (int64_t i = 0; i < row; i++) {
            double best = INFINITY;
            for (int64_t j = p - 1; j < i; j++) {
                double run = prefix[i] - prefix[j], before = worst[(p - 1) * row + j];
                double dearest = run > before ? run : before;
                if (dearest <= best) {
                    best = dearest;
                    cut[p * row + i] = j;
                }
            }
            worst[p * row + i] = best;
        }
    }
    first[parts] = count;
    for (int p = parts; p > 0; p--)
        first[p - 1] = cut[p * row + first[p]];
done:
    free(prefix);
    free(worst);
    free(cut);
    return status;
}
