/* score/answer: what the log-likelihoods of a task's requests come to.
 *
 * An item is right where the request of the largest log-likelihood is its gold one (acc), or the
 * request whose log-likelihood divided by the characters of its continuation is largest (acc_norm);
 * among equals the first wins. An item with a single request is right where every token of the
 * continuation has the largest logit of its place (LAMBADA; acc_norm is then the same).
 *
 * Accuracies, their standard errors and the perplexity are those of lm_eval 0.4.13: means over
 * items, √(Σ (x − mean)² / (n − 1)) / √n, and exp(−mean log-likelihood) of whole continuations.
 * lm_eval bootstraps the perplexity's standard error; here it is that of the mean times the
 * perplexity.
 *
 * Everything here is Local; sums run in the order of items.
 */
#ifndef LODE_SCORE_ANSWER_H
#define LODE_SCORE_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "score/paired.h"

/* Answers of one variant. Arrays are the caller's. */
typedef struct lode_answers {
    int64_t items, width;         /* width: requests of the item that has most */
    const double *log_likelihood; /* [items, width] nats; behind an item's last one not read */
    const uint8_t *greedy;        /* [items, width] 1 where every token is the likeliest */
    const int32_t *gold;          /* [items] */
    const int32_t *characters; /* [items, width] code points, ≥ 0; −1 behind the last request */
} lode_answers_t;

/* Requests of an item. */
int64_t lode_answers_requests(const lode_answers_t *answers, int64_t item);

/* Whether every item has a single request, so that there is a perplexity. */
bool lode_answers_single(const lode_answers_t *answers);

/* right [items] out: 1 where the item is right, else 0; by acc_norm where `normalised`. */
void lode_answers_right(const lode_answers_t *answers, bool normalised, double *right);

/* The accuracy of a model that draws its answers; NaN where any item has a single request. */
double lode_answers_chance(const lode_answers_t *answers);

/* Mean of values [count] and its standard error, NaN for one value. */
void lode_answers_mean(const double *values, int64_t count, double *mean, double *standard_error);

/* exp(−mean log-likelihood) over items with a single request, and its standard error. */
void lode_answers_perplexity(const lode_answers_t *answers, double *value, double *standard_error);

/* Compares two variants on the same items.
 *   result    out: difference is mean(a) − mean(b), positive where a is better; standard_error and
 *             interval are of the mean of the differences item by item; p is McNemar's exact one
 *   a, b      [items] in, of lode_answers_right
 *   quantile  of Student's t with items − 1 degrees of freedom, at the interval's level */
void lode_answers_compare(lode_paired_t *result, const double *a, const double *b, int64_t items,
                          double quantile);

/* McNemar's exact two-sided p: of `only_a` items that a alone has right and `only_b` that b alone
 * has, min(1, 2·P(X ≤ min)) with X binomial of only_a + only_b fair draws (McNemar, Psychometrika
 * 12 (1947) 153–157; exact form in Fay, Biostatistics 11 (2010) 373–374). */
double lode_answers_mcnemar(int64_t only_a, int64_t only_b);

#endif
