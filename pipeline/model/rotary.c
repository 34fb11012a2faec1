#include "model/rotary.h"

#include <math.h>

#include "base/error.h"

static const double pi = 3.14159265358979323846;

/* θ^(−2i/dims), i < dims/2. */
static void plain(double *frequencies, int64_t dims, double theta) {
    for (int64_t i = 0; i < dims / 2; i++)
        frequencies[i] = pow(theta, -2.0 * (double)i / (double)dims);
}

static void dynamic(const lode_rotary_t *rotary, int64_t length, double *frequencies) {
    const double original = (double)rotary->original_positions;
    const double reached = length > rotary->original_positions ? (double)length : original;
    const double growth = rotary->factor * reached / original - (rotary->factor - 1);
    const double dims = (double)rotary->dims;
    /* Two dimensions have the single frequency 1, whatever the base. */
    const double theta =
        rotary->dims > 2 ? rotary->theta * pow(growth, dims / (dims - 2)) : rotary->theta;
    plain(frequencies, rotary->dims, theta);
}

static void llama3(const lode_rotary_t *rotary, double *frequencies) {
    const double original = (double)rotary->original_positions;
    const double low = rotary->low_frequency, high = rotary->high_frequency;
    plain(frequencies, rotary->dims, rotary->theta);
    for (int64_t i = 0; i < rotary->dims / 2; i++) {
        const double turns = original * frequencies[i] / (2 * pi);
        const double smooth = (turns - low) / (high - low);
        if (turns < low)
            frequencies[i] /= rotary->factor;
        else if (turns <= high)
            frequencies[i] *= (1 - smooth) / rotary->factor + smooth;
    }
}

/* The dimension, counted in frequencies, that turns `turns` times in the original length. */
static double yarn_dimension(const lode_rotary_t *rotary, double turns) {
    const double original = (double)rotary->original_positions;
    return (double)rotary->dims * log(original / (turns * 2 * pi)) / (2 * log(rotary->theta));
}

static void yarn(const lode_rotary_t *rotary, double *frequencies) {
    double low = yarn_dimension(rotary, rotary->beta_fast);
    double high = yarn_dimension(rotary, rotary->beta_slow);
    if (rotary->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)rotary->dims - 1);
    if (low == high)
        high += 0.001; /* as transformers avoids the division by zero */
    plain(frequencies, rotary->dims, rotary->theta);
    for (int64_t i = 0; i < rotary->dims / 2; i++) {
        const double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
        frequencies[i] *= ramp / rotary->factor + (1 - ramp);
    }
}

static void longrope(const lode_rotary_t *rotary, int64_t length, double *frequencies) {
    const double *divisors =
        length > rotary->original_positions ? rotary->long_factor : rotary->short_factor;
    plain(frequencies, rotary->dims, rotary->theta);
    for (int64_t i = 0; i < rotary->dims / 2; i++)
        frequencies[i] /= divisors[i];
}

void lode_rotary_frequencies(const lode_rotary_t *rotary, int64_t length, double *frequencies,
                             double *attention_factor) {
    LODE_ASSERT(rotary->dims % 2 == 0 && rotary->dims <= 2 * LODE_ROTARY_MAX_FREQUENCIES);
    switch (rotary->kind) {
    case LODE_ROTARY_DYNAMIC:
        dynamic(rotary, length, frequencies);
        break;
    case LODE_ROTARY_LLAMA3:
        llama3(rotary, frequencies);
        break;
    case LODE_ROTARY_YARN:
        yarn(rotary, frequencies);
        break;
    case LODE_ROTARY_LONGROPE:
        longrope(rotary, length, frequencies);
        break;
    default:
        plain(frequencies, rotary->dims, rotary->theta);
        if (rotary->kind == LODE_ROTARY_LINEAR)
            for (int64_t i = 0; i < rotary->dims / 2; i++)
                frequencies[i] /= rotary->factor;
    }
    if (attention_factor)
        *attention_factor = rotary->attention_factor;
}

bool lode_rotary_differs(const lode_rotary_t *rotary, int64_t one, int64_t other) {
    const int64_t original = rotary->original_positions;
    if (rotary->kind == LODE_ROTARY_LONGROPE)
        return (one > original) != (other > original);
    if (rotary->kind != LODE_ROTARY_DYNAMIC)
        return false;
    return one != other && (one > original || other > original);
}

const char *lode_rotary_name(lode_rotary_kind_t kind) {
    static const char *const names[LODE_ROTARY_KINDS] = {
        [LODE_ROTARY_NONE] = "none",         [LODE_ROTARY_DEFAULT] = "default",
        [LODE_ROTARY_LINEAR] = "linear",     [LODE_ROTARY_DYNAMIC] = "dynamic",
        [LODE_ROTARY_LLAMA3] = "llama3",     [LODE_ROTARY_YARN] = "yarn",
        [LODE_ROTARY_LONGROPE] = "longrope",
    };
    LODE_ASSERT((unsigned)kind < LODE_ROTARY_KINDS);
    return names[kind];
}
