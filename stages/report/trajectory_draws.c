#include "report/trajectory_draws.h"

#include <stdlib.h>

#include "score/resample.h"
#include "score/trajectory.h"

enum { DRAWS = 200 };
#define LEVEL 0.95

/* What all draws of all checkpoints may cost, in additions, about a minute and a half; and what
 * ranking a value costs, measured. */
#define MOST_WORK 1e11
static const double RANKED = 30;

const double lode_trajectory_fractions[LODE_TRAJECTORY_FRACTIONS] = {0.005, 0.01, 0.02, 0.05};

/* Sets how many draws there are: all of them, or none where they would take too long. */
static void plan_draws(lode_trajectory_t *trajectory, const lode_trajectory_source_t *sources) {
    double work = 0;
    for (int64_t i = 0; i < trajectory->count; i++)
        if (sources[i].sums && sources[i].sequences > 1)
            work += RANKED + (double)sources[i].sequences;
    work *= (double)trajectory->layers * (double)trajectory->channels * DRAWS;
    trajectory->draws = work > 0 && work <= MOST_WORK ? DRAWS : 0;
}

/* Whether a checkpoint has draws, and whether they are paired with the last one's. */
static bool is_drawn(const lode_trajectory_t *trajectory, const lode_trajectory_source_t *source) {
    return trajectory->draws > 0 && source->sums && source->sequences > 1;
}

static bool is_paired(const lode_trajectory_t *trajectory, const lode_trajectory_source_t *source,
                      const lode_trajectory_source_t *last) {
    return is_drawn(trajectory, source) && is_drawn(trajectory, last) &&
           source->sequences == last->sequences;
}

static lode_status_t bounds_place(lode_trajectory_t *trajectory,
                                  lode_trajectory_checkpoint_t *checkpoint,
                                  lode_trajectory_figure_t figure) {
    LODE_TRY(lode_shelf_new(&trajectory->shelf, &checkpoint->low[figure], trajectory->layers));
    return lode_shelf_new(&trajectory->shelf, &checkpoint->high[figure], trajectory->layers);
}

static lode_status_t bounds_places(lode_trajectory_t *trajectory,
                                   const lode_trajectory_source_t *source,
                                   const lode_trajectory_source_t *last) {
    if (!is_drawn(trajectory, source))
        return LODE_OK;
    for (int f = 0; f < LODE_TRAJECTORY_FRACTIONS; f++)
        LODE_TRY(bounds_place(trajectory, source->checkpoint, LODE_TRAJECTORY_MASS_HALF + f));
    if (!is_paired(trajectory, source, last))
        return LODE_OK;
    LODE_TRY(bounds_place(trajectory, source->checkpoint, LODE_TRAJECTORY_OVERLAP));
    return bounds_place(trajectory, source->checkpoint, LODE_TRAJECTORY_CORRELATION);
}

/* Arrays of the draws of one layer of one checkpoint. */
static lode_status_t draws_create(lode_trajectory_draws_t *draws,
                                  const lode_trajectory_t *trajectory, int64_t core_size) {
    static const char what[] = "bootstrap draws";
    *draws = (lode_trajectory_draws_t){.count = trajectory->draws,
                                       .core_size = core_size,
                                       .fractions = lode_trajectory_fractions,
                                       .fraction_count = LODE_TRAJECTORY_FRACTIONS};
    LODE_TRY(LODE_NEW_RAW(&draws->cores, draws->count * core_size, what));
    LODE_TRY(LODE_NEW_RAW(&draws->ranks, draws->count * trajectory->channels, what));
    return LODE_NEW_RAW(&draws->masses, draws->count * LODE_TRAJECTORY_FRACTIONS, what);
}

static void draws_free(lode_trajectory_draws_t *draws) {
    free(draws->cores);
    free(draws->ranks);
    free(draws->masses);
}

static lode_status_t draw(const lode_trajectory_draws_t *draws, const lode_trajectory_t *trajectory,
                          const lode_trajectory_source_t *source, int64_t layer, int64_t seed) {
    const int64_t m = trajectory->channels;
    const lode_trajectory_sums_t sums = {.channels = m,
                                         .sequences = source->sequences,
                                         .stride = trajectory->layers * m,
                                         .sums = source->sums + layer * m};
    return lode_fail_context(lode_trajectory_draw(draws, &sums, seed, layer), "%s",
                             source->checkpoint->item->folder);
}

/* The interval of a figure; figures [DRAWS] are sorted. */
static void set_bounds(lode_trajectory_checkpoint_t *checkpoint, lode_trajectory_figure_t figure,
                       int64_t layer, double *figures) {
    double bounds[2];
    lode_resample_interval(bounds, figures, DRAWS, LEVEL);
    checkpoint->low[figure][layer] = bounds[0];
    checkpoint->high[figure][layer] = bounds[1];
}

/* The intervals of one layer; lasts are the last checkpoint's draws where both are paired, else
 * NULL. Sorts what it reads of `draws`, but not what others are compared with. */
static lode_status_t set_layer(const lode_trajectory_t *trajectory,
                               lode_trajectory_checkpoint_t *checkpoint, int64_t layer,
                               const lode_trajectory_draws_t *draws,
                               const lode_trajectory_draws_t *lasts) {
    double figures[DRAWS];
    for (int f = 0; f < LODE_TRAJECTORY_FRACTIONS; f++)
        set_bounds(checkpoint, LODE_TRAJECTORY_MASS_HALF + f, layer, draws->masses + f * DRAWS);
    if (!lasts)
        return LODE_OK;
    LODE_TRY(lode_trajectory_overlaps(figures, DRAWS, draws->cores, draws->core_size, lasts->cores,
                                      lasts->core_size, trajectory->channels));
    set_bounds(checkpoint, LODE_TRAJECTORY_OVERLAP, layer, figures);
    lode_trajectory_correlations(figures, DRAWS, draws->ranks, lasts->ranks, trajectory->channels);
    set_bounds(checkpoint, LODE_TRAJECTORY_CORRELATION, layer, figures);
    return LODE_OK;
}

/* All layers of one checkpoint after those of the last, layer by layer, so that no more than two
 * sets of draws are there at a time. */
static lode_status_t set_intervals(const lode_trajectory_t *trajectory,
                                   const lode_trajectory_source_t *sources, int64_t seed,
                                   const lode_trajectory_draws_t *draws,
                                   const lode_trajectory_draws_t *lasts) {
    const lode_trajectory_source_t *last = &sources[trajectory->last];
    for (int64_t l = 0; l < trajectory->layers; l++) {
        if (is_drawn(trajectory, last)) {
            LODE_TRY(draw(lasts, trajectory, last, l, seed));
            LODE_TRY(set_layer(trajectory, last->checkpoint, l, lasts, lasts));
        }
        for (int64_t i = 0; i < trajectory->count; i++) {
            const lode_trajectory_source_t *source = &sources[i];
            lode_trajectory_draws_t own = *draws;
            own.core_size = source->core_size;
            if (i == trajectory->last || !is_drawn(trajectory, source))
                continue;
            LODE_TRY(draw(&own, trajectory, source, l, seed));
            LODE_TRY(set_layer(trajectory, source->checkpoint, l, &own,
                               is_paired(trajectory, source, last) ? lasts : NULL));
        }
    }
    return LODE_OK;
}

lode_status_t lode_trajectory_intervals(lode_trajectory_t *trajectory,
                                        const lode_trajectory_source_t *sources, int64_t seed) {
    const lode_trajectory_source_t *last = &sources[trajectory->last];
    lode_trajectory_draws_t draws = {0}, lasts = {0};
    int64_t core_size = 1;
    plan_draws(trajectory, sources);
    if (trajectory->draws == 0)
        return LODE_OK;
    for (int64_t i = 0; i < trajectory->count; i++) {
        LODE_TRY(bounds_places(trajectory, &sources[i], last));
        core_size = sources[i].core_size > core_size ? sources[i].core_size : core_size;
    }
    lode_status_t status = draws_create(&draws, trajectory, core_size);
    if (status == LODE_OK)
        status = draws_create(&lasts, trajectory, last->core_size > 0 ? last->core_size : 1);
    if (status == LODE_OK)
        status = set_intervals(trajectory, sources, seed, &draws, &lasts);
    draws_free(&lasts);
    draws_free(&draws);
    return status;
}
