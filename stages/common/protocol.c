#include "common/protocol.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

/* --- windows -------------------------------------------------------------------------------- */

/* Position p of a window shows token first + p of the ids, position 0 something else where it is
 * replaced; for p in [scored, end) the token after that is a target. */
typedef struct window {
    int64_t first, tokens, scored, end;
    int32_t replaced; /* −1: it is not */
} window_t;

/* Cuts [begin, begin + tokens) into disjoint windows. Returns their number; `out` may be NULL. */
static int64_t cut_disjoint(window_t *out, lode_protocol_t protocol, int64_t length, int64_t begin,
                            int64_t tokens, int32_t bos) {
    const bool llama = protocol == LODE_PROTOCOL_LLAMA_CPP;
    const int64_t rest = tokens % length, whole = tokens / length;
    const int64_t count = whole + (protocol == LODE_PROTOCOL_NODELENS && rest >= 2);
    for (int64_t w = 0; out && w < count; w++) {
        const int64_t shown = w < whole ? length : rest;
        out[w] = (window_t){.first = begin + w * length,
                            .tokens = shown,
                            .scored = llama ? length / 2 : 0,
                            .end = shown - 1,
                            .replaced = llama ? bos : -1};
    }
    return count;
}

/* The same for the windows of a rolling log-likelihood: every token is a target. */
static int64_t cut_rolling(window_t *out, int64_t length, int64_t begin, int64_t tokens,
                           int32_t prefix) {
    int64_t count = 0;
    for (int64_t done = 0; done < tokens; count++) {
        const int64_t targets = tokens - done < length ? tokens - done : length;
        const int64_t shown = count == 0 ? targets : length;
        done += targets;
        if (out)
            out[count] = (window_t){.first = begin + done - 1 - shown,
                                    .tokens = shown,
                                    .scored = shown - targets,
                                    .end = shown,
                                    .replaced = count == 0 ? prefix : -1};
    }
    return count;
}

static int64_t cut_all(window_t *out, lode_protocol_t protocol, int64_t length,
                       const lode_documents_t *documents) {
    int64_t count = 0;
    for (int64_t d = 0; d < documents->count; d++) {
        const int64_t begin = documents->offsets[d], tokens = documents->offsets[d + 1] - begin;
        window_t *next = out ? out + count : NULL;
        count += protocol == LODE_PROTOCOL_LM_EVAL
                     ? cut_rolling(next, length, begin, tokens, documents->prefix)
                     : cut_disjoint(next, protocol, length, begin, tokens, documents->bos);
    }
    return count;
}

/* Where windows begin, and the numbers of their first targets. */
static void count_tokens(lode_windows_t *windows, const window_t *cut) {
    for (int64_t w = 0; w < windows->windows; w++) {
        windows->offsets[w + 1] = windows->offsets[w] + cut[w].tokens;
        windows->first_target[w + 1] = windows->first_target[w] + cut[w].end - cut[w].scored;
    }
    windows->targets = windows->first_target[windows->windows];
}

static void fill(lode_windows_t *windows, const window_t *cut, const int32_t *source) {
    for (int64_t w = 0; w < windows->windows; w++) {
        int32_t *ids = windows->ids + windows->offsets[w];
        int32_t *target = windows->target + windows->offsets[w];
        for (int64_t p = 0; p < cut[w].tokens; p++) {
            const bool scored = p >= cut[w].scored && p < cut[w].end;
            /* a prefix stands before the first of all ids */
            ids[p] = p == 0 && cut[w].replaced >= 0 ? cut[w].replaced : source[cut[w].first + p];
            target[p] = scored ? source[cut[w].first + p + 1] : -1;
        }
    }
    windows->text = (lode_text_t){.sequences = windows->windows,
                                  .offsets = windows->offsets,
                                  .ids = windows->ids,
                                  .target = windows->target};
}

lode_status_t lode_windows_create(lode_windows_t *windows, lode_protocol_t protocol, int64_t length,
                                  const lode_documents_t *documents) {
    *windows = (lode_windows_t){
        .protocol = protocol, .words = documents->words, .bytes = documents->bytes};
    if (protocol == LODE_PROTOCOL_LLAMA_CPP && length / 2 >= length - 1)
        return lode_fail(LODE_ERR_CONFIG,
                         "protocol %s scores no token of a window of %lld; use a longer length",
                         lode_protocol_name(protocol), (long long)length);
    LODE_ASSERT(protocol != LODE_PROTOCOL_LM_EVAL || documents->prefix >= 0);
    windows->windows = cut_all(NULL, protocol, length, documents);
    const int64_t count = windows->windows;
    window_t *cut = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&cut, count, "windows"), done);
    LODE_GUARD(status, LODE_NEW(&windows->offsets, 2 * (count + 1), "windows"), done);
    windows->first_target = windows->offsets + count + 1;
    cut_all(cut, protocol, length, documents);
    count_tokens(windows, cut);
    const int64_t tokens = windows->offsets[count];
    LODE_GUARD(status, LODE_NEW_RAW(&windows->ids, 2 * tokens, "windows"), done);
    windows->target = windows->ids + tokens;
    fill(windows, cut, documents->ids);
done:
    free(cut);
    if (status != LODE_OK)
        lode_windows_free(windows);
    return status;
}

void lode_windows_free(lode_windows_t *windows) {
    free(windows->offsets);
    free(windows->ids);
    *windows = (lode_windows_t){0};
}

/* --- figures -------------------------------------------------------------------------------- */

/* exp(loss · tokens per unit), the loss being the mean of a token, `error` its standard error. */
static lode_estimate_t exponential(double loss, double error, double per_unit) {
    const double value = exp(loss * per_unit);
    return (lode_estimate_t){value, value * per_unit * error};
}

lode_perplexity_t lode_windows_value(const lode_windows_t *windows, const double *nll) {
    const int64_t *first = windows->first_target, targets = windows->targets;
    double sum = 0, means = 0, squares = 0;
    for (int64_t w = 0; w < windows->windows; w++) {
        double window = 0;
        for (int64_t t = first[w]; t < first[w + 1]; t++)
            window += nll[t];
        sum += window;
        means += window / (double)(first[w + 1] - first[w]);
    }
    const double mean = sum / (double)targets;
    for (int64_t t = 0; t < targets; t++)
        squares += (nll[t] - mean) * (nll[t] - mean);
    const double variance = squares / (double)(targets - 1); /* 0/0, NaN, for one target */
    const double error = sqrt(variance / (double)targets);
    const bool by_windows = windows->protocol == LODE_PROTOCOL_GPTQ;
    lode_perplexity_t out = {
        .token = exponential(by_windows ? means / (double)windows->windows : mean, error, 1)};
    out.value = out.token;
    if (windows->protocol != LODE_PROTOCOL_LM_EVAL)
        return out;
    const double per_word = (double)targets / (double)windows->words;
    const double per_byte = (double)targets / (double)windows->bytes, bit = log(2);
    out.value = exponential(mean, error, per_word);
    out.byte_perplexity = exponential(mean, error, per_byte);
    out.bits_per_byte = (lode_estimate_t){mean * per_byte / bit, error * per_byte / bit};
    return out;
}
