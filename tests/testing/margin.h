/* testing/margin: equality of selections up to what rounding can decide.
 *
 * A selection (the core, the halo, a mask) is made by sorting scores. Scores computed in float32
 * arithmetic differ from the reference's by some relative error ε; two channels whose reference
 * scores are closer than 2ε may then change places, and no others may. These rules accept exactly
 * that: wherever a selection differs from the reference's, the reference scores that decide must
 * lie within `tolerance` of each other, relative to the larger one. Scores under a millionth of
 * the largest count as that millionth, since rounding is relative to sums of that size.
 *
 * Indices out of range or repeated, unequal lengths and scores that are not finite fail whatever
 * the tolerance. Everything here is Local.
 */
#ifndef LODE_TESTING_MARGIN_H
#define LODE_TESTING_MARGIN_H

#include <stdbool.h>
#include <stdint.h>

typedef struct lode_margin {
    bool equal;      /* equal up to the margin */
    int64_t swapped; /* positions (of a list) or channels (of a mask) that differ */
    double worst;    /* largest relative gap among them, 0 if none, ∞ where nothing excuses one */
    char text[256];  /* what to print on failure: name, channel, scores */
} lode_margin_t;

/* What decides a selection in the reference. */
typedef struct lode_margin_scores {
    const double *scores;    /* [m] of the reference */
    int64_t m;               /* channels */
    const uint8_t *excluded; /* [m] nonzero: never selected, never removed; NULL: none */
    const uint8_t *excused;  /* [m] nonzero: score known to differ, may go anywhere; NULL: none */
    double tolerance;        /* relative */
} lode_margin_scores_t;

/* An ordered selection of the largest scores, got[got_count] against want[want_count], indices of
 * channels. Position by position the two channels' scores lie within the margin; a channel that
 * was dropped lies within it of the best one that the reference leaves out, and a channel that was
 * added of the last one that the reference takes. `excused` is not looked at. */
lode_margin_t lode_margin_list(const char *name, const int32_t *got, int64_t got_count,
                               const int32_t *want, int64_t want_count,
                               const lode_margin_scores_t *decided);

/* A mask that removes the smallest scores, got[got_count] against want[m], 1 = kept. The counts
 * agree; a channel removed here only lies within the margin of the largest score that the
 * reference removes, a channel kept here only of the smallest that it keeps. Each excused channel
 * can move that boundary by one place in the reference's order, and does so for the check. */
lode_margin_t lode_margin_mask(const char *name, const uint8_t *got, int64_t got_count,
                               const uint8_t *want, const lode_margin_scores_t *decided);

#endif
