#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "probe/work.h"
#include "score/halo.h"
#include "score/mask.h"
#include "score/order.h"
#include "score/probe.h"
#include "score/supernode.h"

/* --- columns --------------------------------------------------------------------------------- */

static const lode_probe_column_t *column(const lode_probe_group_t *group, const char *name) {
    for (int64_t i = 0; i < group->columns; i++)
        if (strcmp(group->column[i].name, name) == 0)
            return &group->column[i];
    LODE_ASSERT(!"a column of that name");
    return NULL;
}

int32_t *lode_probe_integers(const lode_probe_group_t *group, const char *name) {
    return column(group, name)->i32;
}

double *lode_probe_reals(const lode_probe_group_t *group, const char *name) {
    return column(group, name)->f64;
}

/* Adds columns of integers, or of reals, by name; the list ends with NULL. */
static lode_status_t add_columns(lode_probe_group_t *group, bool real, const char *const *names) {
    for (; *names; names++) {
        LODE_ASSERT(group->columns < LODE_PROBE_COLUMNS);
        lode_probe_column_t *added = &group->column[group->columns++];
        added->name = *names;
        if (real)
            LODE_TRY(LODE_NEW(&added->f64, group->count, "candidates"));
        else
            LODE_TRY(LODE_NEW(&added->i32, group->count, "candidates"));
    }
    return LODE_OK;
}

/* --- what is asked for ----------------------------------------------------------------------- */

static lode_status_t add_masks(lode_probe_work_t *work, lode_probe_group_t *group) {
    group->masks = true;
    return LODE_NEW(&group->keep, group->count * work->owned * work->m, "masks of candidates");
}

static lode_status_t list_dose_response(lode_probe_work_t *work, lode_probe_group_t *group) {
    const lode_config_probe_t *probe = &work->run->config->probe;
    static const char *const names[] = {"draw", "core_removed", NULL}, *const rates[] = {"rate",
                                                                                         NULL};
    group->path = "/dose_response";
    group->count = probe->rate_count * probe->draws;
    LODE_TRY(add_columns(group, false, names));
    LODE_TRY(add_columns(group, true, rates));
    for (int64_t c = 0; c < group->count; c++) {
        const double rate = probe->rates[c / probe->draws];
        lode_probe_reals(group, "rate")[c] = rate;
        lode_probe_integers(group, "draw")[c] = (int32_t)(c % probe->draws);
        lode_probe_integers(group, "core_removed")[c] =
            (int32_t)lode_probe_core_removed(rate, work->core_size);
    }
    return add_masks(work, group);
}

static lode_status_t list_random_cores(lode_probe_work_t *work, lode_probe_group_t *group) {
    static const char *const names[] = {"core", "draw", NULL};
    group->path = "/random_cores";
    group->count = 2 + work->run->config->probe.random_cores;
    LODE_TRY(add_columns(group, false, names));
    for (int64_t c = 0; c < group->count; c++) {
        lode_probe_integers(group, "core")[c] = c == 0   ? LODE_PROBE_LP_CORE
                                                : c == 1 ? LODE_PROBE_NO_CORE
                                                         : LODE_PROBE_RANDOM_CORE;
        lode_probe_integers(group, "draw")[c] = c < 2 ? -1 : (int32_t)(c - 2);
    }
    return add_masks(work, group);
}

static lode_status_t list_score_core(lode_probe_work_t *work, lode_probe_group_t *group) {
    static const char *const names[] = {"score", "core", NULL};
    const int32_t cores[] = {LODE_PROBE_LP_CORE, LODE_PROBE_ACTIVATION_CORE, LODE_PROBE_NO_CORE};
    group->path = "/score_core";
    group->count = 6;
    LODE_TRY(add_columns(group, false, names));
    for (int64_t c = 0; c < group->count; c++) {
        lode_probe_integers(group, "score")[c] =
            c < 3 ? LODE_PROBE_BY_LP : LODE_PROBE_BY_ACTIVATION;
        lode_probe_integers(group, "core")[c] = cores[c % 3];
    }
    return add_masks(work, group);
}

static lode_status_t list_ablation(lode_probe_work_t *work, lode_probe_group_t *group) {
    static const char *const names[] = {"layer", "channel", "bin", NULL};
    static const char *const figures[] = {"loss_proxy", "activation_power", NULL};
    const int64_t channels = work->run->config->probe.channels;
    group->path = "/ablation";
    group->text = LODE_PROBE_TEXT_ABLATION;
    group->count = work->probed * (channels < work->m ? channels : work->m);
    group->width = 1;
    LODE_TRY(add_columns(group, false, names));
    LODE_TRY(add_columns(group, true, figures));
    group->layer = lode_probe_integers(group, "layer");
    return LODE_NEW(&group->removed, group->count, "ablated channels");
}

static lode_status_t list_halo_ablation(lode_probe_work_t *work, lode_probe_group_t *group) {
    static const char *const names[] = {"layer", "kind", "draw", NULL};
    const int64_t draws = work->run->config->probe.random_cores, each = 3 + 2 * draws;
    group->path = "/halo_ablation";
    group->text = LODE_PROBE_TEXT_HALO;
    group->count = work->probed * each;
    group->width = work->core_size + work->matched;
    LODE_TRY(add_columns(group, false, names));
    group->layer = lode_probe_integers(group, "layer");
    for (int64_t c = 0; c < group->count; c++) {
        const int64_t place = c % each, drawn = place - 3;
        const int32_t fixed[] = {LODE_PROBE_SET_HALO, LODE_PROBE_SET_CORE,
                                 LODE_PROBE_SET_CORE_HALO};
        lode_probe_integers(group, "kind")[c] = place < 3       ? fixed[place]
                                                : drawn < draws ? LODE_PROBE_SET_MATCHED
                                                                : LODE_PROBE_SET_CORE_MATCHED;
        lode_probe_integers(group, "draw")[c] = place < 3 ? -1 : (int32_t)(drawn % draws);
    }
    LODE_TRY(LODE_NEW(&group->removed, group->count * group->width, "ablated channels"));
    for (int64_t i = 0; i < group->count * group->width; i++)
        group->removed[i] = -1;
    return LODE_OK;
}

static lode_status_t list_mean_replacement(lode_probe_work_t *work, lode_probe_group_t *group) {
    static const char *const names[] = {"layer", "kind", "draw", "set", "replacement", NULL};
    const int64_t step = work->run->config->probe.layer_step;
    group->path = "/mean_replacement";
    group->text = LODE_PROBE_TEXT_ABLATION;
    group->set_count = 2 + work->run->config->probe.random_cores;
    const int64_t each = 2 * group->set_count;
    group->count = (work->probed + 1) * each;
    LODE_TRY(add_columns(group, false, names));
    group->layer = lode_probe_integers(group, "layer");
    group->set = lode_probe_integers(group, "set");
    group->replacement = lode_probe_integers(group, "replacement");
    for (int64_t c = 0; c < group->count; c++) {
        const int64_t probed = c / each, set = c % each / 2;
        group->layer[c] = probed < work->probed ? (int32_t)(probed * step) : -1;
        group->set[c] = (int32_t)set;
        group->replacement[c] = c % 2 == 0 ? LODE_PROBE_BY_ZERO : LODE_PROBE_BY_MEAN;
        lode_probe_integers(group, "kind")[c] = (int32_t)(set < 2 ? set : 2);
        lode_probe_integers(group, "draw")[c] = set < 2 ? -1 : (int32_t)(set - 2);
    }
    LODE_TRY(LODE_NEW(&group->sets, group->set_count * work->L * work->core_size, "sets"));
    return LODE_NEW(&group->bias, group->set_count * work->owned * work->d, "mean outputs");
}

static lode_status_t list_candidates(lode_probe_work_t *work) {
    typedef lode_status_t (*list_t)(lode_probe_work_t *, lode_probe_group_t *);
    static const list_t lists[LODE_PROBE_CHECKS] = {
        [LODE_PROBE_DOSE_RESPONSE] = list_dose_response,
        [LODE_PROBE_RANDOM_CORES] = list_random_cores,
        [LODE_PROBE_SCORE_CORE] = list_score_core,
        [LODE_PROBE_ABLATION] = list_ablation,
        [LODE_PROBE_HALO_ABLATION] = list_halo_ablation,
        [LODE_PROBE_MEAN_REPLACEMENT] = list_mean_replacement,
    };
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        work->group[i].check = (lode_probe_check_t)i;
        if (lode_probe_wants(work->run->config, (lode_probe_check_t)i))
            LODE_TRY(lists[i](work, &work->group[i]));
    }
    return LODE_OK;
}

/* --- drawing --------------------------------------------------------------------------------- */

static lode_status_t set_sizes(lode_probe_work_t *work) {
    const lode_run_t *run = work->run;
    const lode_config_t *config = run->config;
    const int64_t step = config->probe.layer_step;
    work->L = run->architecture.layers;
    work->m = run->architecture.intermediate;
    work->d = run->architecture.hidden;
    work->first_layer = run->layout.first_layer;
    work->owned = run->layout.layer_end - run->layout.first_layer;
    work->core_size = lode_supernode_size(config->classify.core_fraction, work->m);
    work->halo_size = lode_halo_size(config->classify.halo_fraction, work->m, work->core_size);
    work->matched = work->core_size < work->halo_size ? work->core_size : work->halo_size;
    work->probed = (work->L + step - 1) / step;
    work->removed = lode_mask_removed(config->probe.sparsity, work->m);
    if (work->removed > work->m - work->core_size)
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: probe.sparsity: %g removes %lld of a layer's %lld channels, but %lld "
                         "are a core to keep; lower it or classify.core_fraction",
                         lode_config_where(config, "probe.sparsity"), config->probe.sparsity,
                         (long long)work->removed, (long long)work->m, (long long)work->core_size);
    LODE_TRY(LODE_NEW(&work->loss_proxy, 2 * work->m, "statistics of channels"));
    work->activation_power = work->loss_proxy + work->m;
    LODE_TRY(LODE_NEW(&work->core, 2 * work->core_size + work->halo_size, "core and halo"));
    work->activation_core = work->core + work->core_size;
    work->halo = work->activation_core + work->core_size;
    LODE_TRY(LODE_NEW(&work->role, 2 * work->m, "roles of channels"));
    work->mask = work->role + work->m;
    return LODE_NEW(&work->kept, work->owned * work->m, "kept channels");
}

static lode_status_t read_row(lode_store_t *store, const char *name, int64_t layer, int64_t width,
                              lode_type_t type, void *row) {
    const int64_t offset[] = {layer, 0}, count[] = {1, width};
    return lode_store_read(store, name, offset, count, type, row);
}

/* Fills the buffers with a layer's rows. */
static lode_status_t read_layer(lode_probe_work_t *work, int64_t layer) {
    const int64_t m = work->m;
    LODE_TRY(read_row(work->accumulate, "/loss_proxy", layer, m, LODE_TYPE_F64, work->loss_proxy));
    LODE_TRY(read_row(work->calibrate, "/activation_power", layer, m, LODE_TYPE_F64,
                      work->activation_power));
    LODE_TRY(read_row(work->classify, "/core", layer, work->core_size, LODE_TYPE_I32, work->core));
    LODE_TRY(read_row(work->classify, "/halo", layer, work->halo_size, LODE_TYPE_I32, work->halo));
    return lode_order_top(work->activation_core, work->core_size, work->activation_power, m,
                          "activation power");
}

lode_status_t lode_probe_candidates_list(lode_probe_work_t *work) {
    LODE_TRY(set_sizes(work));
    return list_candidates(work);
}

/* Before anything is drawn, or passes through the model; there the rest is counted too. */
static lode_status_t check_memory(const lode_probe_work_t *work) {
    const int64_t held = lode_probe_held(work), memory = work->run->config->memory;
    if (held <= memory)
        return LODE_OK;
    return lode_fail(LODE_ERR_MEMORY,
                     "the candidates of probe.checks take %.0f MB on rank %d, and memory is %.0f "
                     "MB; raise memory, use more ranks, or set fewer probe.draws, probe.rates or "
                     "probe.channels",
                     (double)held / 1e6, work->run->comm->rank, (double)memory / 1e6);
}

lode_status_t lode_probe_candidates_draw(lode_probe_work_t *work) {
    LODE_TRY(lode_probe_candidates_list(work));
    LODE_TRY(check_memory(work));
    for (int64_t l = 0; l < work->L; l++) {
        LODE_TRY(read_layer(work, l));
        for (int i = 0; i < LODE_PROBE_CHECKS; i++)
            if (work->group[i].count > 0)
                LODE_TRY(lode_probe_draw_layer(work, &work->group[i], l));
    }
    return LODE_OK;
}

void lode_probe_candidates_free(lode_probe_work_t *work) {
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        lode_probe_group_t *group = &work->group[i];
        for (int64_t c = 0; c < group->columns; c++) {
            free(group->column[c].i32);
            free(group->column[c].f64);
        }
        free(group->keep);
        free(group->removed);
        free(group->sets);
        free(group->bias);
    }
    free(work->loss_proxy);
    free(work->core);
    free(work->role);
    free(work->kept);
}

/* --- editing --------------------------------------------------------------------------------- */

int64_t lode_probe_candidate_start(const lode_probe_group_t *group, int64_t candidate) {
    return group->masks || group->layer[candidate] < 0 ? 0 : group->layer[candidate];
}

/* Leaves in work->mask what a candidate keeps of a layer that it changes. */
static void mark_removed(lode_probe_work_t *work, const lode_probe_group_t *group,
                         int64_t candidate, int64_t layer) {
    const int64_t width = group->sets ? work->core_size : group->width;
    const int32_t *removed = group->sets
                                 ? group->sets + (group->set[candidate] * work->L + layer) * width
                                 : group->removed + candidate * width;
    memset(work->mask, 1, (size_t)work->m);
    for (int64_t i = 0; i < width && removed[i] >= 0; i++)
        work->mask[removed[i]] = 0;
}

void lode_probe_candidate_edit(lode_probe_work_t *work, const lode_probe_group_t *group,
                               int64_t candidate, int64_t layer, lode_layer_edit_t *edit) {
    const int64_t own = layer - work->first_layer;
    const uint8_t *keep = work->mask;
    if (group->masks)
        keep = group->keep + (candidate * work->owned + own) * work->m;
    else if (group->layer[candidate] >= 0 && group->layer[candidate] != layer)
        return;
    else
        mark_removed(work, group, candidate, layer);
    if (group->sets && group->replacement[candidate] == LODE_PROBE_BY_MEAN)
        edit->bias = group->bias + (group->set[candidate] * work->owned + own) * work->d;
    int32_t *kept = work->kept + own * work->m;
    for (int32_t j = 0; j < work->m; j++)
        if (keep[j])
            kept[edit->count++] = j;
    edit->channels = kept;
}

/* --- writing --------------------------------------------------------------------------------- */

static lode_status_t write_names(lode_probe_work_t *work, const lode_probe_group_t *group,
                                 const char *column_name) {
    static const char cores[] = "lp,activation,none,random";
    const bool halo = group->check == LODE_PROBE_HALO_ABLATION;
    const char *names = NULL;
    if (strcmp(column_name, "core") == 0)
        names = cores;
    else if (strcmp(column_name, "score") == 0)
        names = "lp,activation";
    else if (strcmp(column_name, "replacement") == 0)
        names = "zero,mean";
    else if (strcmp(column_name, "kind") == 0)
        names = halo ? "halo,matched,core,core+halo,core+matched" : "lp,activation,random";
    if (!names)
        return LODE_OK;
    char attribute[LODE_PROBE_PATH];
    snprintf(attribute, sizeof attribute, "%s_names", column_name);
    return lode_store_attribute_text(work->store, group->path, attribute, names);
}

/* Every rank writes its own layers of the masks. */
static lode_status_t put_masks(lode_probe_work_t *work, const lode_probe_group_t *group) {
    const int64_t shape[] = {group->count, work->L, work->m};
    const int64_t offset[] = {0, work->first_layer, 0},
                  count[] = {group->count, work->owned, work->m};
    char path[LODE_PROBE_PATH];
    snprintf(path, sizeof path, "%s/keep", group->path);
    LODE_TRY(lode_store_dataset(work->store, path, LODE_TYPE_U8, 3, shape, false));
    if (!lode_run_owns_layers(work->run) || work->owned == 0)
        return LODE_OK;
    if (lode_store_write(work->store, path, offset, count, group->keep) != LODE_OK)
        lode_log_warning("%s could not be written", path); /* the commit will fail, on all ranks */
    return LODE_OK;
}

/* Sizes that the candidates of a group share. */
static lode_status_t write_sizes(lode_probe_work_t *work, const lode_probe_group_t *group) {
    LODE_TRY(
        lode_store_attribute_text(work->store, group->path, "texts", work->text[group->text].name));
    if (group->check != LODE_PROBE_ABLATION)
        LODE_TRY(lode_store_attribute_i64(work->store, group->path, "core_size", work->core_size));
    if (group->check == LODE_PROBE_HALO_ABLATION)
        LODE_TRY(lode_store_attribute_i64(work->store, group->path, "count", work->matched));
    if (!group->masks)
        return LODE_OK;
    LODE_TRY(lode_store_attribute_f64(work->store, group->path, "sparsity",
                                      work->run->config->probe.sparsity));
    return lode_store_attribute_i64(work->store, group->path, "removed", work->removed);
}

static lode_status_t write_group(lode_probe_work_t *work, const lode_probe_group_t *group) {
    const int64_t removed[] = {group->count, group->width};
    const int64_t sets[] = {group->set_count, work->L, work->core_size};
    for (int64_t i = 0; i < group->columns; i++) {
        const lode_probe_column_t *c = &group->column[i];
        LODE_TRY(lode_probe_put(work, group->path, c->name, c->i32 ? LODE_TYPE_I32 : LODE_TYPE_F64,
                                1, &group->count, c->i32 ? (const void *)c->i32 : c->f64));
        LODE_TRY(write_names(work, group, c->name));
    }
    if (group->check == LODE_PROBE_HALO_ABLATION)
        LODE_TRY(lode_probe_put(work, group->path, "channels", LODE_TYPE_I32, 2, removed,
                                group->removed));
    if (group->sets)
        LODE_TRY(lode_probe_put(work, group->path, "sets", LODE_TYPE_I32, 3, sets, group->sets));
    if (group->masks)
        LODE_TRY(put_masks(work, group));
    return write_sizes(work, group);
}

lode_status_t lode_probe_candidates_write(lode_probe_work_t *work) {
    for (int i = 0; i < LODE_PROBE_CHECKS; i++)
        if (work->group[i].count > 0)
            LODE_TRY(write_group(work, &work->group[i]));
    return LODE_OK;
}
