#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "probe/work.h"
#include "score/mask.h"
#include "score/probe.h"

static const double BOOTSTRAP_LEVEL = 0.95;

/* --- running --------------------------------------------------------------------------------- */

/* The group that a variant of the text in hand belongs to; NULL for the unchanged model. */
static const lode_probe_group_t *group_of(const lode_probe_work_t *work, int64_t variant) {
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        const lode_probe_group_t *group = &work->group[i];
        if (group->count > 0 && group->text == work->in_hand && variant >= group->first &&
            variant < group->first + group->count)
            return group;
    }
    return NULL;
}

static lode_status_t on_edit(void *context, int64_t variant, int64_t layer,
                             lode_layer_edit_t *edit) {
    lode_probe_work_t *work = context;
    const lode_probe_group_t *group = group_of(work, variant);
    if (group)
        lode_probe_candidate_edit(work, group, variant - group->first, layer, edit);
    return LODE_OK;
}

static void scratch_path(char path[LODE_PROBE_PATH], const lode_probe_text_t *text,
                         const char *what) {
    snprintf(path, LODE_PROBE_PATH, "/%s/%s", text->name, what);
}

lode_status_t lode_probe_measure_begin(lode_probe_work_t *work) {
    lode_part_t parts[LODE_PROBE_TEXTS];
    char path[LODE_PROBE_PATH];
    LODE_TRY(lode_run_create_scratch(&work->scratch, work->run, LODE_STAGE_PROBE));
    for (int i = 0; i < LODE_PROBE_TEXTS; i++) {
        const lode_probe_text_t *text = &work->text[i];
        const int64_t shape[] = {text->variants, text->text.sequences};
        parts[i] = (lode_part_t){text->name, shape[0] * shape[1]};
        scratch_path(path, text, "mean");
        LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F64, 2, shape, false));
        scratch_path(path, text, "variance");
        LODE_TRY(lode_store_dataset(work->scratch, path, LODE_TYPE_F64, 2, shape, false));
    }
    return lode_store_resume(work->scratch, parts, LODE_PROBE_TEXTS);
}

/* Writes a variant's figures of a micro-batch's sequences, and marks them. */
static lode_status_t keep_figures(const lode_probe_work_t *work, int64_t variant,
                                  const lode_batch_t *batch) {
    const lode_probe_text_t *text = &work->text[work->in_hand];
    const int64_t offset[] = {variant, batch->first_sequence};
    const int64_t count[] = {1, batch->sequences.count};
    const int64_t place = variant * text->text.sequences + batch->first_sequence;
    char path[LODE_PROBE_PATH];
    scratch_path(path, text, "mean");
    LODE_TRY(lode_store_write(work->scratch, path, offset, count, text->mean + place));
    scratch_path(path, text, "variance");
    LODE_TRY(lode_store_write(work->scratch, path, offset, count, text->variance + place));
    return lode_store_mark(work->scratch, work->in_hand, place, batch->sequences.count);
}

static bool is_done(void *context, const lode_batch_t *batch) {
    const lode_probe_work_t *work = context;
    const lode_probe_text_t *text = &work->text[work->in_hand];
    for (int64_t v = 0; v < text->variants; v++)
        if (!lode_store_done(work->scratch, work->in_hand,
                             v * text->text.sequences + batch->first_sequence,
                             batch->sequences.count))
            return false;
    return true;
}

/* Brings what all ranks have found, in this run or an interrupted one, to rank 0. Collective. */
static lode_status_t gather_figures(const lode_probe_work_t *work) {
    const lode_probe_text_t *text = &work->text[work->in_hand];
    const int64_t offset[] = {0, 0}, count[] = {text->variants, text->text.sequences};
    char path[LODE_PROBE_PATH];
    lode_status_t status = LODE_OK;
    LODE_TRY(lode_store_synchronise(work->scratch));
    if (work->run->comm->rank == 0) {
        scratch_path(path, text, "mean");
        status = lode_store_read(work->scratch, path, offset, count, LODE_TYPE_F64, text->mean);
        scratch_path(path, text, "variance");
        if (status == LODE_OK)
            status =
                lode_store_read(work->scratch, path, offset, count, LODE_TYPE_F64, text->variance);
    }
    return lode_comm_agree(work->run->comm, status);
}

static lode_status_t on_losses(void *context, int64_t variant, const lode_batch_t *batch,
                               const double *nll, const uint8_t *greedy) {
    (void)greedy;
    lode_probe_work_t *work = context;
    lode_probe_text_t *text = &work->text[work->in_hand];
    const int32_t *target = text->text.target + batch->first_token;
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t place = variant * text->text.sequences + batch->first_sequence + s;
        int64_t scored = 0;
        for (int64_t t = batch->sequences.offsets[s]; t < batch->sequences.offsets[s + 1]; t++)
            if (target[t] >= 0)
                work->scored[scored++] = nll[t];
        lode_probe_moments(&text->mean[place], &text->variance[place], work->scored, scored);
    }
    return keep_figures(work, variant, batch);
}

/* A candidate of a single layer is the unchanged model below it. */
static void fill_sharing(const lode_probe_work_t *work, int64_t variants, int64_t *parent,
                         int64_t *start) {
    for (int64_t v = 0; v < variants; v++) {
        const lode_probe_group_t *group = group_of(work, v);
        start[v] = group ? lode_probe_candidate_start(group, v - group->first) : 0;
        parent[v] = start[v] > 0 ? 0 : -1;
    }
}

int64_t lode_probe_held(const lode_probe_work_t *work) {
    int64_t bytes = work->owned * work->m * (int64_t)sizeof(int32_t);
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        const lode_probe_group_t *group = &work->group[i];
        bytes += group->masks ? group->count * work->owned * work->m : 0;
        bytes += group->count * (group->width + group->columns) * (int64_t)sizeof(int32_t);
        bytes += group->set_count * (work->L * work->core_size * (int64_t)sizeof(int32_t) +
                                     work->owned * work->d * (int64_t)sizeof(lode_real_t));
    }
    for (int i = 0; i < LODE_PROBE_TEXTS; i++)
        bytes += work->text[i].variants * work->text[i].text.sequences *
                 (int64_t)(2 * sizeof(double) + 2 * sizeof(int64_t));
    return bytes;
}

static lode_status_t run_text(lode_probe_work_t *work) {
    lode_probe_text_t *text = &work->text[work->in_hand];
    int64_t longest = 0, *parent = NULL;
    for (int64_t s = 0; s < text->text.sequences; s++)
        longest = text->targets[s] > longest ? text->targets[s] : longest;
    lode_status_t status = LODE_NEW(&work->scored, longest, "losses of a sequence");
    if (status == LODE_OK)
        status = LODE_NEW(&parent, 2 * text->variants, "order of candidates");
    status = lode_comm_agree(work->run->comm, status);
    if (status == LODE_OK) {
        /* Masks differ from the first layer on, but for equal ones, which the evaluator finds. */
        const bool masks = work->in_hand == LODE_PROBE_TEXT_PERPLEXITY;
        const lode_evaluation_t evaluation = {.stage = "probe",
                                              .text = &text->text,
                                              .variants = text->variants,
                                              .parent = masks ? NULL : parent,
                                              .start = masks ? NULL : parent + text->variants,
                                              .other = lode_probe_held(work),
                                              .context = work,
                                              .edit = on_edit,
                                              .losses = on_losses,
                                              .done = is_done};
        fill_sharing(work, text->variants, parent, parent + text->variants);
        status = lode_evaluation_run(work->run, &evaluation);
    }
    free(parent);
    free(work->scored);
    work->scored = NULL;
    return status;
}

/* --- figures --------------------------------------------------------------------------------- */

/* The figures of a group's candidates, [count] each. */
typedef struct figures {
    double *perplexity, *perplexity_stderr, *delta, *delta_stderr;
} figures_t;

/* Perplexity by the unit of the text's protocol, of losses in a row of [sequences]. */
static void perplexity_of(const lode_probe_text_t *text, int64_t row, double *perplexity,
                          double *standard_error) {
    lode_probe_figures(perplexity, standard_error, text->mean + row, text->variance + row,
                       text->targets, text->text.sequences);
    if (text->per_unit == 1)
        return;
    const double error = *standard_error / *perplexity;
    *perplexity = exp(text->per_unit * log(*perplexity));
    *standard_error = *perplexity * text->per_unit * error;
}

/* By rank 0, which alone has the losses. */
static lode_status_t work_out(figures_t *figures, const lode_probe_work_t *work,
                              const lode_probe_group_t *group) {
    const lode_probe_text_t *text = &work->text[group->text];
    const int64_t n = group->count, sequences = text->text.sequences;
    LODE_TRY(LODE_NEW(&figures->perplexity, 4 * n, "figures of candidates"));
    figures->perplexity_stderr = figures->perplexity + n;
    figures->delta = figures->perplexity_stderr + n;
    figures->delta_stderr = figures->delta + n;
    for (int64_t c = 0; c < n && work->run->comm->rank == 0; c++) {
        const int64_t row = (group->first + c) * sequences;
        perplexity_of(text, row, &figures->perplexity[c], &figures->perplexity_stderr[c]);
        lode_probe_difference(&figures->delta[c], &figures->delta_stderr[c], text->mean + row,
                              text->mean, text->targets, sequences);
    }
    return LODE_OK;
}

static lode_status_t write_figures(lode_probe_work_t *work, const lode_probe_group_t *group,
                                   const figures_t *figures) {
    const lode_probe_text_t *text = &work->text[group->text];
    const int64_t n = group->count, rows[] = {n, text->text.sequences};
    LODE_TRY(
        lode_probe_put(work, group->path, "perplexity", LODE_TYPE_F64, 1, &n, figures->perplexity));
    LODE_TRY(lode_probe_put(work, group->path, "perplexity_stderr", LODE_TYPE_F64, 1, &n,
                            figures->perplexity_stderr));
    LODE_TRY(lode_probe_put(work, group->path, "delta_nll", LODE_TYPE_F64, 1, &n, figures->delta));
    LODE_TRY(lode_probe_put(work, group->path, "delta_nll_stderr", LODE_TYPE_F64, 1, &n,
                            figures->delta_stderr));
    return lode_probe_put(work, group->path, "sequence_nll", LODE_TYPE_F64, 2, rows,
                          text->mean + group->first * text->text.sequences);
}

/* --- rank correlations ----------------------------------------------------------------------- */

enum { CORRELATIONS = 4 };
static const char *const correlation_names[CORRELATIONS] = {
    "loss_proxy", "activation_power", "absolute_loss_proxy", "absolute_activation_power"};

typedef struct correlations {
    int32_t *layer, *channels;      /* [probed] */
    double *rho[CORRELATIONS];      /* [probed] */
    double *interval[CORRELATIONS]; /* [probed, 2] */
    double *absolute;               /* [channels of a layer] |ΔNLL| */
} correlations_t;

static lode_status_t correlations_allocate(correlations_t *all, int64_t probed, int64_t each) {
    LODE_TRY(LODE_NEW(&all->layer, 2 * probed, "rank correlations"));
    all->channels = all->layer + probed;
    LODE_TRY(LODE_NEW(&all->absolute, each, "rank correlations"));
    for (int i = 0; i < CORRELATIONS; i++) {
        LODE_TRY(LODE_NEW(&all->rho[i], 3 * probed, "rank correlations"));
        all->interval[i] = all->rho[i] + probed;
    }
    return LODE_OK;
}

static void correlations_free(correlations_t *all) {
    free(all->layer);
    free(all->absolute);
    for (int i = 0; i < CORRELATIONS; i++)
        free(all->rho[i]);
}

static lode_status_t correlate_layer(correlations_t *all, const lode_probe_work_t *work,
                                     const lode_probe_group_t *group, const double *delta,
                                     int64_t probed) {
    const lode_config_t *config = work->run->config;
    const int64_t each = group->count / work->probed, first = probed * each;
    const lode_probe_stream_t stream = {.seed = config->seed, .layer = group->layer[first]};
    all->layer[probed] = group->layer[first];
    all->channels[probed] = (int32_t)each;
    for (int64_t i = 0; i < each; i++)
        all->absolute[i] = fabs(delta[first + i]);
    for (int i = 0; i < CORRELATIONS; i++) {
        const double *with = lode_probe_reals(group, correlation_names[i % 2]) + first;
        LODE_TRY(lode_probe_spearman(&all->rho[i][probed], &all->interval[i][2 * probed],
                                     i < 2 ? delta + first : all->absolute, with, each,
                                     config->classify.controls.draws, BOOTSTRAP_LEVEL, stream));
    }
    lode_log_info("probe: layer %d: Spearman of the change in loss with the loss proxy %.3f "
                  "[%.3f, %.3f], with activation power %.3f [%.3f, %.3f], %lld channels",
                  (int)all->layer[probed], all->rho[0][probed], all->interval[0][2 * probed],
                  all->interval[0][2 * probed + 1], all->rho[1][probed],
                  all->interval[1][2 * probed], all->interval[1][2 * probed + 1], (long long)each);
    return LODE_OK;
}

static lode_status_t write_correlations(lode_probe_work_t *work, const correlations_t *all) {
    static const char path[] = "/ablation/spearman";
    const int64_t probed = work->probed, pairs[] = {probed, 2};
    LODE_TRY(lode_probe_put(work, path, "layer", LODE_TYPE_I32, 1, &probed, all->layer));
    LODE_TRY(lode_probe_put(work, path, "channels", LODE_TYPE_I32, 1, &probed, all->channels));
    for (int i = 0; i < CORRELATIONS; i++) {
        char name[LODE_PROBE_PATH];
        snprintf(name, sizeof name, "%s_interval", correlation_names[i]);
        LODE_TRY(lode_probe_put(work, path, correlation_names[i], LODE_TYPE_F64, 1, &probed,
                                all->rho[i]));
        LODE_TRY(lode_probe_put(work, path, name, LODE_TYPE_F64, 2, pairs, all->interval[i]));
    }
    return LODE_OK;
}

static lode_status_t correlate(lode_probe_work_t *work, const lode_probe_group_t *group,
                               const double *delta) {
    correlations_t all = {0};
    lode_status_t status = correlations_allocate(&all, work->probed, group->count / work->probed);
    for (int64_t p = 0; p < work->probed && status == LODE_OK && work->run->comm->rank == 0; p++)
        status = correlate_layer(&all, work, group, delta, p);
    status = lode_comm_agree(work->run->comm, status);
    if (status == LODE_OK)
        status = write_correlations(work, &all);
    correlations_free(&all);
    return status;
}

/* --- a text ---------------------------------------------------------------------------------- */

static lode_status_t write_text(lode_probe_work_t *work, const lode_probe_text_t *text) {
    const int64_t sequences = text->text.sequences;
    char path[LODE_PROBE_PATH];
    double perplexity = NAN, standard_error = NAN;
    int64_t targets = 0;
    snprintf(path, sizeof path, "/texts/%s", text->name);
    for (int64_t s = 0; s < sequences; s++)
        targets += text->targets[s];
    if (work->run->comm->rank == 0)
        perplexity_of(text, 0, &perplexity, &standard_error);
    LODE_TRY(lode_probe_put(work, path, "targets", LODE_TYPE_I64, 1, &sequences, text->targets));
    LODE_TRY(lode_probe_put(work, path, "dense_nll", LODE_TYPE_F64, 1, &sequences, text->mean));
    LODE_TRY(lode_store_attribute_text(work->store, path, "source", text->source));
    LODE_TRY(lode_store_attribute_text(work->store, path, "protocol", text->protocol));
    LODE_TRY(lode_store_attribute_i64(work->store, path, "length", text->length));
    LODE_TRY(lode_store_attribute_i64(work->store, path, "sequences", sequences));
    LODE_TRY(lode_store_attribute_i64(work->store, path, "targets", targets));
    LODE_TRY(lode_store_attribute_f64(work->store, path, "nll", log(perplexity) / text->per_unit));
    LODE_TRY(lode_store_attribute_f64(work->store, path, "perplexity", perplexity));
    lode_log_info("probe: perplexity of the unchanged model is %.4f ± %.4f (%s, %s, %lld)",
                  perplexity, standard_error, text->source, text->protocol,
                  (long long)text->length);
    return lode_store_attribute_f64(work->store, path, "stderr", standard_error);
}

static lode_status_t finish_group(lode_probe_work_t *work, const lode_probe_group_t *group) {
    figures_t figures = {0};
    lode_status_t status = lode_comm_agree(work->run->comm, work_out(&figures, work, group));
    if (status == LODE_OK)
        status = write_figures(work, group, &figures);
    if (status == LODE_OK && group->check == LODE_PROBE_ABLATION)
        status = correlate(work, group, figures.delta);
    if (status == LODE_OK)
        lode_log_info("probe: %s: %lld candidates", lode_probe_check_name(group->check),
                      (long long)group->count);
    free(figures.perplexity);
    return status;
}

lode_status_t lode_probe_measure(lode_probe_work_t *work, int which) {
    lode_probe_text_t *text = &work->text[which];
    work->in_hand = which;
    LODE_TRY(run_text(work));
    LODE_TRY(gather_figures(work));
    LODE_TRY(write_text(work, text));
    for (int i = 0; i < LODE_PROBE_CHECKS; i++)
        if (work->group[i].count > 0 && work->group[i].text == which)
            LODE_TRY(finish_group(work, &work->group[i]));
    return LODE_OK;
}
