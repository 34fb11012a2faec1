#include "score/answer.h"

#include <math.h>

int64_t lode_answers_requests(const lode_answers_t *answers, int64_t item) {
    const int32_t *characters = answers->characters + item * answers->width;
    int64_t count = 0;
    while (count < answers->width && characters[count] >= 0)
        count++;
    return count;
}

bool lode_answers_single(const lode_answers_t *answers) {
    for (int64_t i = 0; i < answers->items; i++)
        if (lode_answers_requests(answers, i) != 1)
            return false;
    return true;
}

/* The request that an item is answered with. A continuation of no characters divides by zero, as it
 * does in lm_eval: its log-likelihood below 0 then counts as −∞. */
static int64_t answer(const lode_answers_t *answers, int64_t item, bool normalised) {
    const double *log_likelihood = answers->log_likelihood + item * answers->width;
    const int32_t *characters = answers->characters + item * answers->width;
    const int64_t count = lode_answers_requests(answers, item);
    int64_t best = 0;
    double most = 0;
    for (int64_t r = 0; r < count; r++) {
        const double value =
            normalised ? log_likelihood[r] / (double)characters[r] : log_likelihood[r];
        if (r == 0 || value > most) {
            best = r;
            most = value;
        }
    }
    return best;
}

void lode_answers_right(const lode_answers_t *answers, bool normalised, double *right) {
    for (int64_t i = 0; i < answers->items; i++) {
        if (lode_answers_requests(answers, i) == 1)
            right[i] = answers->greedy[i * answers->width] ? 1 : 0;
        else
            right[i] = answer(answers, i, normalised) == answers->gold[i] ? 1 : 0;
    }
}

double lode_answers_chance(const lode_answers_t *answers) {
    double sum = 0;
    for (int64_t i = 0; i < answers->items; i++) {
        const int64_t requests = lode_answers_requests(answers, i);
        if (requests < 2)
            return NAN;
        sum += 1.0 / (double)requests;
    }
    return sum / (double)answers->items;
}

void lode_answers_mean(const double *values, int64_t count, double *mean, double *standard_error) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i];
    *mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *standard_error = count < 2 ? NAN : sqrt(squares / (double)(count - 1)) / sqrt((double)count);
}

void lode_answers_perplexity(const lode_answers_t *answers, double *value, double *standard_error) {
    double sum = 0, squares = 0;
    const double count = (double)answers->items;
    for (int64_t i = 0; i < answers->items; i++)
        sum += answers->log_likelihood[i * answers->width];
    const double mean = sum / count;
    for (int64_t i = 0; i < answers->items; i++) {
        const double away = answers->log_likelihood[i * answers->width] - mean;
        squares += away * away;
    }
    *value = exp(-mean);
    *standard_error = answers->items < 2 ? NAN : *value * sqrt(squares / (count - 1)) / sqrt(count);
}

void lode_answers_compare(lode_paired_t *result, const double *a, const double *b, int64_t items,
                          double quantile) {
    int64_t only_a = 0, only_b = 0;
    for (int64_t i = 0; i < items; i++) {
        only_a += a[i] > b[i];
        only_b += b[i] > a[i];
    }
    const double n = (double)items, mean = (double)(only_a - only_b) / n;
    const double squares = (double)(only_a + only_b) - n * mean * mean;
    *result =
        (lode_paired_t){.difference = mean,
                        .standard_error = items < 2 ? NAN : sqrt(fmax(0, squares) / (n - 1) / n),
                        .p = lode_answers_mcnemar(only_a, only_b)};
    result->low = mean - quantile * result->standard_error;
    result->high = mean + quantile * result->standard_error;
}

double lode_answers_mcnemar(int64_t only_a, int64_t only_b) {
    const int64_t fewer = only_a < only_b ? only_a : only_b, all = only_a + only_b;
    const double whole = lgamma((double)all + 1) - (double)all * log(2);
    double tail = 0;
    for (int64_t i = 0; i <= fewer; i++)
        tail += exp(whole - lgamma((double)i + 1) - lgamma((double)(all - i) + 1));
    return fmin(1, 2 * tail);
}
