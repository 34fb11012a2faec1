#include "score/halo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "score/order.h"
#include "score/weights.h"

static const char down_name[] = "down_proj";

lode_status_t lode_halo_written(double *written, const lode_tensor_t *down, const int32_t *set,
                                int64_t count) {
    int64_t hidden = down->shape[0], channels = down->shape[1];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, down, hidden, channels, down_name);
    for (int64_t h = 0; h < hidden && status == LODE_OK; h++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, h, &row), done);
        written[h] = 0;
        for (int64_t i = 0; i < count; i++)
            written[h] += fabs(row[set[i]]);
    }
done:
    lode_weights_close(&reader);
    return status;
}

lode_status_t lode_halo_support(int32_t *support, int64_t support_size, const lode_tensor_t *down,
                                const int32_t *core, int64_t core_size) {
    int64_t hidden = down->shape[0];
    if (support_size < 1 || support_size >= hidden)
        return lode_fail(LODE_ERR_CONFIG,
                         "classify.write_support is %lld, but the hidden size is %lld; choose "
                         "1 … %lld (with every dimension in it, connectivity is 1 everywhere)",
                         (long long)support_size, (long long)hidden, (long long)hidden - 1);
    double *written;
    LODE_TRY(LODE_NEW_RAW(&written, hidden, "what the core writes"));
    lode_status_t status = lode_halo_written(written, down, core, core_size);
    if (status == LODE_OK)
        status = lode_order_top(support, support_size, written, hidden, "what the core writes");
    free(written);
    return status;
}

/* Adds the absolute values of all rows to `whole`, and of those in the support to `inside`. */
static lode_status_t add_write_sums(double *inside, double *whole, lode_weights_reader_t *down,
                                    const uint8_t *in_support) {
    int64_t hidden = down->tensor->shape[0], channels = down->tensor->shape[1];
    for (int64_t h = 0; h < hidden; h++) {
        const double *row;
        LODE_TRY(lode_weights_at(down, h, &row));
        for (int64_t j = 0; j < channels; j++)
            whole[j] += fabs(row[j]);
        for (int64_t j = 0; in_support[h] && j < channels; j++)
            inside[j] += fabs(row[j]);
    }
    return LODE_OK;
}

lode_status_t lode_halo_connectivity(double *connectivity, const lode_tensor_t *down,
                                     const int32_t *support, int64_t support_size) {
    int64_t hidden = down->shape[0], channels = down->shape[1];
    uint8_t *in_support = NULL;
    double *whole = NULL;
    lode_weights_reader_t reader;
    lode_status_t status;
    LODE_GUARD(status, lode_weights_open(&reader, down, hidden, channels, down_name), done);
    LODE_GUARD(status, LODE_NEW(&in_support, hidden, "write support"), done);
    LODE_GUARD(status, LODE_NEW(&whole, channels, "column sums of down_proj"), done);
    for (int64_t i = 0; i < support_size; i++)
        in_support[support[i]] = 1;
    memset(connectivity, 0, (size_t)channels * sizeof *connectivity);
    LODE_GUARD(status, add_write_sums(connectivity, whole, &reader, in_support), done);
    for (int64_t j = 0; j < channels; j++)
        connectivity[j] = whole[j] > 0 ? connectivity[j] / whole[j] : 0;
done:
    free(in_support);
    free(whole);
    lode_weights_close(&reader);
    return status;
}

/* Adds each row's absolute values to `whole`, and those of the support to `inside`. */
static lode_status_t add_read_sums(double *inside, double *whole, const lode_tensor_t *tensor,
                                   const int32_t *support, int64_t support_size, const char *what) {
    const int64_t channels = tensor->shape[0], hidden = tensor->shape[1];
    lode_weights_reader_t reader;
    lode_status_t status = lode_weights_open(&reader, tensor, channels, hidden, what);
    for (int64_t j = 0; j < channels && status == LODE_OK; j++) {
        const double *row;
        LODE_GUARD(status, lode_weights_at(&reader, j, &row), done);
        for (int64_t i = 0; i < hidden; i++)
            whole[j] += fabs(row[i]);
        for (int64_t i = 0; i < support_size; i++)
            inside[j] += fabs(row[support[i]]);
    }
done:
    lode_weights_close(&reader);
    return status;
}

lode_status_t lode_halo_read_connectivity(double *connectivity, const lode_tensor_t *gate,
                                          const lode_tensor_t *up, const int32_t *support,
                                          int64_t support_size) {
    const int64_t channels = up->shape[0], hidden = up->shape[1];
    if (gate->data)
        LODE_TRY(lode_weights_check(gate, channels, hidden, "gate_proj"));
    LODE_TRY(lode_weights_check(up, channels, hidden, "up_proj"));
    double *whole;
    LODE_TRY(LODE_NEW(&whole, channels, "row sums of gate_proj and up_proj"));
    lode_status_t status = LODE_OK;
    memset(connectivity, 0, (size_t)channels * sizeof *connectivity);
    if (gate->data)
        status = add_read_sums(connectivity, whole, gate, support, support_size, "gate_proj");
    if (status == LODE_OK)
        status = add_read_sums(connectivity, whole, up, support, support_size, "up_proj");
    for (int64_t j = 0; j < channels && status == LODE_OK; j++)
        connectivity[j] = whole[j] > 0 ? connectivity[j] / whole[j] : 0;
    free(whole);
    return status;
}

int64_t lode_halo_size(double halo_fraction, int64_t channels, int64_t core_size) {
    int64_t others = channels - core_size;
    if (others <= 0)
        return 0;
    int64_t halo_size = (int64_t)floor(halo_fraction * (double)others);
    return halo_size > 1 ? halo_size : 1;
}

lode_status_t lode_halo_select(int32_t *halo, int64_t halo_size, const double *connectivity,
                               int64_t channels, const int32_t *core, int64_t core_size) {
    LODE_ASSERT(0 <= halo_size && halo_size <= channels - core_size);
    int32_t *order = NULL;
    uint8_t *in_core = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&order, channels, "channels by connectivity"), done);
    LODE_GUARD(status, LODE_NEW(&in_core, channels, "marks of the core"), done);
    LODE_GUARD(status, lode_order_top(order, channels, connectivity, channels, "connectivity"),
               done);
    for (int64_t i = 0; i < core_size; i++)
        in_core[core[i]] = 1;
    for (int64_t i = 0, taken = 0; taken < halo_size; i++)
        if (!in_core[order[i]])
            halo[taken++] = order[i];
done:
    free(order);
    free(in_core);
    return status;
}

lode_status_t lode_halo_protection(double *protection, int64_t channels, const int32_t *halo,
                                   const double *redundancy, int64_t halo_size, double floor,
                                   double power) {
    for (int64_t j = 0; j < channels; j++)
        protection[j] = 1;
    if (halo_size < 2)
        return lode_order_check(redundancy, halo_size, "redundancy to the core");
    int32_t *order;
    LODE_TRY(LODE_NEW_RAW(&order, halo_size, "halo by redundancy"));
    lode_status_t status =
        lode_order_ascending(order, redundancy, halo_size, "redundancy to the core");
    for (int64_t i = 0; status == LODE_OK && i < halo_size; i++) {
        double rank = (double)i / (double)(halo_size - 1);
        protection[halo[order[i]]] = floor + (1 - floor) * (1 - pow(rank, power));
    }
    free(order);
    return status;
}
