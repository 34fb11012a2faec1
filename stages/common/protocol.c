#include "common/protocol.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

lode_status_t lode_windows_create(lode_windows_t *windows, lode_protocol_t protocol, int64_t length,
                                  const int32_t *ids, int64_t count, int32_t bos) {
    *windows = (lode_windows_t){.windows = count / length};
    windows->first_scored = protocol == LODE_PROTOCOL_LLAMA_CPP ? length / 2 : 0;
    windows->per_window = length - 1 - windows->first_scored;
    if (windows->per_window < 1)
        return lode_fail(LODE_ERR_CONFIG,
                         "protocol %s scores no token of a window of %lld; use a longer length",
                         lode_protocol_name(protocol), (long long)length);
    const int64_t tokens = windows->windows * length;
    lode_status_t status = LODE_NEW(&windows->offsets, windows->windows + 1, "windows");
    if (status == LODE_OK)
        status = LODE_NEW_RAW(&windows->ids, 2 * tokens, "windows");
    if (status != LODE_OK) {
        lode_windows_free(windows);
        return status;
    }
    windows->target = windows->ids + tokens;
    memcpy(windows->ids, ids, (size_t)tokens * sizeof *ids);
    for (int64_t w = 0; w <= windows->windows; w++)
        windows->offsets[w] = w * length;
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t position = t % length;
        const bool scored = position >= windows->first_scored && position + 1 < length;
        windows->target[t] = scored ? ids[t + 1] : -1;
        if (position == 0 && bos >= 0 && protocol == LODE_PROTOCOL_LLAMA_CPP)
            windows->ids[t] = bos;
    }
    windows->text = (lode_text_t){.sequences = windows->windows,
                                  .offsets = windows->offsets,
                                  .ids = windows->ids,
                                  .target = windows->target};
    return LODE_OK;
}

void lode_windows_free(lode_windows_t *windows) {
    free(windows->offsets);
    free(windows->ids);
    *windows = (lode_windows_t){0};
}

void lode_windows_value(lode_protocol_t protocol, const double *nll, int64_t windows,
                        int64_t per_window, double *value, double *standard_error) {
    const int64_t targets = windows * per_window;
    double sum = 0, means = 0;
    for (int64_t w = 0; w < windows; w++) {
        double window = 0;
        for (int64_t t = 0; t < per_window; t++)
            window += nll[w * per_window + t];
        sum += window;
        means += window / (double)per_window;
    }
    const double mean = sum / (double)targets;
    double squares = 0;
    for (int64_t t = 0; t < targets; t++)
        squares += (nll[t] - mean) * (nll[t] - mean);
    *value = exp(protocol == LODE_PROTOCOL_GPTQ ? means / (double)windows : mean);
    const double variance = squares / (double)(targets - 1); /* 0/0, NaN, for one target */
    *standard_error = *value * sqrt(variance / (double)targets);
}
