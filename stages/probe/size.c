#include "probe/size.h"

#include "probe/work.h"

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What probe/measure.c writes of a text and of the checks on it. */
static lode_status_t count_text(lode_probe_work_t *work, const lode_probe_text_t *text,
                                int64_t sequences, int which) {
    LODE_TRY(lode_store_dataset(work->store, text->name, LODE_TYPE_I64, 1, &sequences, false));
    LODE_TRY(lode_store_dataset(work->store, text->name, LODE_TYPE_F64, 1, &sequences, false));
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        const lode_probe_group_t *group = &work->group[i];
        const int64_t figures[] = {4, group->count}, rows[] = {group->count, sequences};
        if (group->count == 0 || group->text != which)
            continue;
        LODE_TRY(lode_store_dataset(work->store, group->path, LODE_TYPE_F64, 2, figures, false));
        LODE_TRY(lode_store_dataset(work->store, group->path, LODE_TYPE_F64, 2, rows, false));
    }
    return LODE_OK;
}

static double layers_of(const lode_probe_work_t *work, int which) {
    double layers = (double)work->L;
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        const lode_probe_group_t *group = &work->group[i];
        if (group->count == 0 || group->text != which)
            continue;
        /* Ablated layers lie evenly between the first and the last. */
        const double each = group->masks || !group->layer ? 1 : 0.5;
        layers += (double)group->count * each * (double)work->L;
    }
    return layers;
}

static lode_status_t measure(lode_probe_size_t *out, lode_probe_work_t *work, int64_t windows,
                             int64_t length) {
    const lode_config_probe_t *probe = &work->run->config->probe;
    const int64_t sequences[] = {windows, probe->sequences,
                                 min2(probe->halo_sequences, probe->sequences)};
    const int64_t lengths[] = {length, probe->max_length,
                               min2(probe->halo_max_length, probe->max_length)};
    LODE_TRY(lode_probe_candidates_list(work));
    lode_probe_texts_number(work);
    LODE_TRY(lode_probe_candidates_write(work));
    for (int i = 0; i < LODE_PROBE_TEXTS; i++) {
        out->variants[i] = work->text[i].variants;
        out->sequences[i] = sequences[i];
        out->length[i] = lengths[i];
        out->layers[i] = layers_of(work, i);
        if (out->variants[i] == 0)
            continue;
        work->text[i].text.sequences = sequences[i]; /* for lode_probe_held */
        LODE_TRY(count_text(work, &work->text[i], sequences[i], i));
    }
    out->size.memory = lode_probe_held(work);
    return LODE_OK;
}

lode_status_t lode_probe_measure_size(lode_probe_size_t *out, lode_run_t *run, int64_t windows,
                                      int64_t length) {
    lode_probe_work_t work = {.run = run};
    *out = (lode_probe_size_t){0};
    LODE_TRY(lode_store_tally_create(&work.store));
    const lode_status_t status = measure(out, &work, windows, length);
    out->size.file = lode_store_tally_end(&work.store);
    lode_probe_candidates_free(&work);
    lode_probe_texts_free(&work);
    return status;
}
