#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "classify/work.h"
#include "score/control.h"
#include "score/halo.h"

enum { PATH_MAX_BYTES = 128 };

/* The groups whose channels are drawn again. */
static const char halo_draws[] = "bootstrap halo";
static const char random_draws[] = "bootstrap random channels";
static const char random_halo_draws[] = "bootstrap random halo";

static const char *const mean_names[] = {
    "halo_to_core",
    "random_to_core",
    "halo_to_random_core",
    "random_halo_to_random_core",
    "halo_halo",
    "non_non",
    "halo_non",
};

/* What the controls of one layer need beside the layer itself. */
typedef struct controls {
    const lode_classify_t *work;
    lode_control_t bootstrap;
    lode_redundancy_t redundancy;
    int32_t *random;                    /* [random_size] channels outside core and halo */
    int32_t *random_core, *random_halo; /* [core_size], [halo_size] */
    bool has_random, has_random_core;   /* whether enough channels were left to draw from */
    int32_t *support;                   /* [support_size] of the random core */
    double *connectivity;               /* [m] with that */
    double *to_core;                    /* [max(halo_size, random_size)] */
    double *pairs;                      /* [halo_size, max(halo_size, random_size)], or more */
} controls_t;

static int64_t max2(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static lode_status_t controls_allocate(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    const int64_t longest = max2(work->halo_size, work->random_size);
    LODE_TRY(LODE_NEW(&controls->random, work->random_size, "random channels"));
    LODE_TRY(LODE_NEW(&controls->random_core, work->core_size, "random core"));
    LODE_TRY(LODE_NEW(&controls->random_halo, work->halo_size, "halo of the random core"));
    LODE_TRY(LODE_NEW(&controls->support, work->support_size, "write support"));
    LODE_TRY(LODE_NEW(&controls->connectivity, work->m, "connectivity"));
    LODE_TRY(LODE_NEW(&controls->to_core, longest, "redundancies"));
    return LODE_NEW_RAW(&controls->pairs, longest * longest, "redundancies of pairs");
}

static void controls_free(controls_t *controls) {
    free(controls->random);
    free(controls->random_core);
    free(controls->random_halo);
    free(controls->support);
    free(controls->connectivity);
    free(controls->to_core);
    free(controls->pairs);
}

/* --- datasets ------------------------------------------------------------------------------- */

static lode_status_t create_means(const lode_classify_t *work) {
    const int64_t L = work->run->architecture.layers, interval[] = {L, 2};
    char path[PATH_MAX_BYTES];
    for (size_t i = 0; i < sizeof mean_names / sizeof *mean_names; i++) {
        snprintf(path, sizeof path, "/controls/%s", mean_names[i]);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 1, &L, true));
        snprintf(path, sizeof path, "/controls/%s_interval", mean_names[i]);
        LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_F64, 2, interval, true));
    }
    return LODE_OK;
}

lode_status_t lode_classify_controls_create(const lode_classify_t *work) {
    const lode_config_controls_t *controls = &work->run->config->classify.controls;
    const int64_t L = work->run->architecture.layers, random[] = {L, work->random_size};
    const int64_t core[] = {L, work->core_size}, halo[] = {L, work->halo_size};
    const int64_t sets[] = {L, controls->draws};
    lode_store_t *store = work->store;
    if (controls->nodelens) {
        LODE_TRY(lode_store_dataset(store, "/controls/redundancy_to_core_nodelens", LODE_TYPE_F64,
                                    2, halo, true));
        LODE_TRY(lode_store_dataset(store, "/controls/redundancy_to_core_scale_free", LODE_TYPE_F64,
                                    2, halo, true));
    }
    if (controls->channels == 0)
        return LODE_OK;
    LODE_TRY(create_means(work));
    LODE_TRY(lode_store_dataset(store, "/controls/random", LODE_TYPE_I32, 2, random, true));
    LODE_TRY(lode_store_dataset(store, "/controls/random_redundancy_to_core", LODE_TYPE_F64, 2,
                                random, true));
    LODE_TRY(lode_store_dataset(store, "/controls/random_core", LODE_TYPE_I32, 2, core, true));
    LODE_TRY(lode_store_dataset(store, "/controls/random_halo", LODE_TYPE_I32, 2, halo, true));
    LODE_TRY(
        lode_store_dataset(store, "/controls/write_dimensions_core", LODE_TYPE_F64, 1, &L, true));
    return lode_store_dataset(store, "/controls/write_dimensions_random", LODE_TYPE_F64, 2, sets,
                              true);
}

/* --- one layer ------------------------------------------------------------------------------ */

static lode_status_t write_mean(const controls_t *controls, const char *name,
                                const lode_control_mean_t *mean) {
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "/controls/%s", name);
    LODE_TRY(lode_classify_write(controls->work, path, 1, &mean->mean));
    snprintf(path, sizeof path, "/controls/%s_interval", name);
    return lode_classify_write(controls->work, path, 2, mean->interval);
}

/* Draws random channels and a random core, neither from core or halo: so that no channel is held
 * against itself, and nothing random is a supernode. */
static lode_status_t draw_channels(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    const int64_t seed = work->run->config->seed;
    LODE_TRY(lode_control_sample(controls->random, &controls->has_random, work->random_size,
                                 work->m, work->core, work->core_size, work->halo, work->halo_size,
                                 lode_random_key(seed, "control channels", work->layer, 0)));
    LODE_TRY(lode_control_sample(controls->random_core, &controls->has_random_core, work->core_size,
                                 work->m, work->core, work->core_size, work->halo, work->halo_size,
                                 lode_random_key(seed, "control core", work->layer, 0)));
    LODE_TRY(lode_classify_write(work, "/controls/random", work->random_size, controls->random));
    if (!controls->has_random_core)
        return LODE_OK;
    return lode_classify_write(work, "/controls/random_core", work->core_size,
                               controls->random_core);
}

/* The mean redundancy of some channels to a core. The redundancies stay in controls->to_core. */
static lode_status_t compare_with_core(controls_t *controls, const char *name, const int32_t *core,
                                       const int32_t *channels, int64_t count,
                                       const char *purpose) {
    lode_control_mean_t mean;
    LODE_TRY(lode_redundancy_to_core(controls->to_core, lode_classify_q(controls->work), core,
                                     controls->work->core_size, channels, count,
                                     controls->redundancy));
    LODE_TRY(lode_control_channels(&mean, controls->to_core, count, purpose, controls->bootstrap));
    return write_mean(controls, name, &mean);
}

static lode_status_t compare_cores(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    lode_control_mean_t mean;
    LODE_TRY(lode_control_channels(&mean, work->redundancy, work->halo_size, halo_draws,
                                   controls->bootstrap));
    LODE_TRY(write_mean(controls, "halo_to_core", &mean));
    LODE_TRY(compare_with_core(controls, "random_to_core", work->core, controls->random,
                               work->random_size, random_draws));
    return lode_classify_write(work, "/controls/random_redundancy_to_core", work->random_size,
                               controls->to_core);
}

/* The halo against a random core, and against what the same rule finds around that. */
static lode_status_t compare_random_core(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    if (!controls->has_random_core)
        return LODE_OK;
    LODE_TRY(compare_with_core(controls, "halo_to_random_core", controls->random_core, work->halo,
                               work->halo_size, halo_draws));
    LODE_TRY(lode_halo_support(controls->support, work->support_size, &work->weights.down,
                               controls->random_core, work->core_size));
    LODE_TRY(lode_halo_connectivity(controls->connectivity, &work->weights.down, controls->support,
                                    work->support_size));
    LODE_TRY(lode_halo_select(controls->random_halo, work->halo_size, controls->connectivity,
                              work->m, controls->random_core, work->core_size));
    LODE_TRY(
        lode_classify_write(work, "/controls/random_halo", work->halo_size, controls->random_halo));
    return compare_with_core(controls, "random_halo_to_random_core", controls->random_core,
                             controls->random_halo, work->halo_size, random_halo_draws);
}

static lode_status_t compare_pairs(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    const int64_t h = work->halo_size, n = work->random_size;
    const lode_q_t q = lode_classify_q(work);
    lode_control_mean_t mean;
    LODE_TRY(lode_redundancy_pairs(controls->pairs, q, work->halo, h, work->halo, h,
                                   controls->redundancy));
    LODE_TRY(lode_control_within(&mean, controls->pairs, h, halo_draws, controls->bootstrap));
    LODE_TRY(write_mean(controls, "halo_halo", &mean));
    LODE_TRY(lode_redundancy_pairs(controls->pairs, q, controls->random, n, controls->random, n,
                                   controls->redundancy));
    LODE_TRY(lode_control_within(&mean, controls->pairs, n, random_draws, controls->bootstrap));
    LODE_TRY(write_mean(controls, "non_non", &mean));
    LODE_TRY(lode_redundancy_pairs(controls->pairs, q, work->halo, h, controls->random, n,
                                   controls->redundancy));
    LODE_TRY(lode_control_between(&mean, controls->pairs, h, n, halo_draws, random_draws,
                                  controls->bootstrap));
    return write_mean(controls, "halo_non", &mean);
}

/* How many dimensions the core writes, and how many sets of its size do by chance. */
static lode_status_t compare_dimensions(controls_t *controls) {
    const lode_classify_t *work = controls->work;
    const int64_t draws = controls->bootstrap.draws;
    double dimensions, *random;
    LODE_TRY(
        lode_control_dimensions(&dimensions, &work->weights.down, work->core, work->core_size));
    LODE_TRY(lode_classify_write(work, "/controls/write_dimensions_core", 1, &dimensions));
    LODE_TRY(LODE_NEW(&random, draws, "dimensions of random sets"));
    lode_status_t status = lode_control_random_dimensions(random, &work->weights.down,
                                                          work->core_size, controls->bootstrap);
    if (status == LODE_OK)
        status = lode_classify_write(work, "/controls/write_dimensions_random", draws, random);
    free(random);
    return status;
}

/* Redundancy to the core in both forms, whichever of them protects. */
static lode_status_t compare_forms(controls_t *controls) {
    static const struct {
        lode_correlation_t form;
        const char *path;
    } forms[] = {{LODE_CORRELATION_SCALE_FREE, "/controls/redundancy_to_core_scale_free"},
                 {LODE_CORRELATION_NODELENS, "/controls/redundancy_to_core_nodelens"}};
    const lode_classify_t *work = controls->work;
    lode_redundancy_t options = controls->redundancy;
    for (int i = 0; i < 2; i++) {
        options.correlation = forms[i].form;
        LODE_TRY(lode_redundancy_to_core(controls->to_core, lode_classify_q(work), work->core,
                                         work->core_size, work->halo, work->halo_size, options));
        LODE_TRY(lode_classify_write(work, forms[i].path, work->halo_size, controls->to_core));
    }
    return LODE_OK;
}

static lode_status_t compare_all(controls_t *controls) {
    LODE_TRY(draw_channels(controls));
    LODE_TRY(compare_cores(controls));
    LODE_TRY(compare_random_core(controls));
    LODE_TRY(compare_pairs(controls));
    return compare_dimensions(controls);
}

lode_status_t lode_classify_controls(const lode_classify_t *work) {
    const lode_config_t *config = work->run->config;
    controls_t controls = {.work = work,
                           .bootstrap = {.draws = config->classify.controls.draws,
                                         .level = LODE_CLASSIFY_LEVEL,
                                         .seed = config->seed,
                                         .layer = work->layer},
                           .redundancy = lode_classify_redundancy(work)};
    lode_status_t status = controls_allocate(&controls);
    if (status == LODE_OK && config->classify.controls.nodelens)
        status = compare_forms(&controls);
    if (status == LODE_OK && config->classify.controls.channels > 0)
        status = compare_all(&controls);
    controls_free(&controls);
    return status;
}
