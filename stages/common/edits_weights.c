/* Single weights of superweight.h5: super weights, and the other outliers of its experiments. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/edits_internal.h"

static lode_status_t fail_weight(const lode_edits_t *edits, const char *group, int64_t index) {
    return lode_fail(LODE_ERR_FORMAT,
                     "%s of superweight.h5 in %s: number %lld is no weight of this model, or is "
                     "there twice; run the stage superweight again (--force)",
                     group, edits->run->folder, (long long)index);
}

/* Reads one of the parallel arrays of a group, which must have as many elements as those before. */
static lode_status_t read_array(const lode_edits_t *edits, const char *group, const char *name,
                                lode_type_t type, void *out, int64_t *count) {
    char path[LODE_EDITS_PATH];
    int64_t elements;
    snprintf(path, sizeof path, "%s/%s", group, name);
    LODE_TRY(lode_store_read_all(edits->superweight, path, type, out, &elements));
    if (*count >= 0 && *count != elements)
        return lode_fail(LODE_ERR_SHAPE,
                         "%s of superweight.h5 in %s does not have as many elements as the others "
                         "of its group; run the stage superweight again (--force)",
                         path, edits->run->folder);
    *count = elements;
    return LODE_OK;
}

/* --- super weights --------------------------------------------------------------------------- */

static int compare_super(const void *a, const void *b) {
    const lode_edits_super_t *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

/* Sorts them, and proves each to be a weight of the model. */
static lode_status_t check_supers(lode_edits_t *edits) {
    const int64_t all = edits->run->architecture.layers;
    if (edits->supers > 0)
        qsort(edits->super, (size_t)edits->supers, sizeof *edits->super, compare_super);
    for (int64_t i = 0; i < edits->supers; i++) {
        const lode_edits_super_t *s = &edits->super[i];
        const bool inside = s->layer >= 0 && s->layer < all && s->row >= 0 && s->row < edits->d &&
                            s->channel >= 0 && s->channel < edits->m && isfinite(s->value);
        if (!inside || (i > 0 && compare_super(s - 1, s) == 0))
            return fail_weight(edits, "/weights", i);
    }
    return LODE_OK;
}

static lode_status_t read_supers(lode_edits_t *edits) {
    static const char *const names[] = {"layer", "row", "channel"};
    int32_t *place[3] = {NULL, NULL, NULL};
    double *value = NULL;
    int64_t count = -1;
    lode_status_t status = LODE_OK;
    for (int i = 0; i < 3 && status == LODE_OK; i++)
        status = read_array(edits, "/weights", names[i], LODE_TYPE_I32, &place[i], &count);
    if (status == LODE_OK)
        status = read_array(edits, "/weights", "value", LODE_TYPE_F64, &value, &count);
    if (status == LODE_OK)
        status = LODE_EDITS_NEW(edits, &edits->super, count);
    if (status == LODE_OK) {
        edits->supers = count;
        for (int64_t i = 0; i < count; i++)
            edits->super[i] = (lode_edits_super_t){.layer = place[0][i],
                                                   .row = place[1][i],
                                                   .channel = place[2][i],
                                                   .value = (float)value[i]};
        status = check_supers(edits);
    }
    for (int i = 0; i < 3; i++)
        free(place[i]);
    free(value);
    return status;
}

/* Whether each super weight's channel is kept in each mask, also in layers of other ranks. */
static lode_status_t read_alive(lode_edits_t *edits) {
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->alive, edits->masks * edits->supers));
    for (int64_t v = 0; v < edits->count; v++) {
        char path[LODE_EDITS_PATH];
        snprintf(path, sizeof path, "/keep/%s", edits->variants[v].name);
        for (int64_t i = 0; i < edits->supers && edits->mask[v] >= 0; i++) {
            const int64_t offset[] = {edits->super[i].layer, edits->super[i].channel};
            const int64_t one[] = {1, 1};
            LODE_TRY(lode_store_read(edits->prune, path, offset, one, LODE_TYPE_U8,
                                     edits->alive + edits->mask[v] * edits->supers + i));
        }
    }
    return LODE_OK;
}

/* Room for what is asked for of each layer. */
static lode_status_t make_room(lode_edits_t *edits) {
    int64_t next = 0;
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->first, edits->layers + 1));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->held, edits->supers));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->restore, edits->supers));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->held_down, edits->supers));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->held_hidden, edits->layers * edits->supers));
    for (int64_t l = 0; l <= edits->layers; l++) {
        while (next < edits->supers && edits->super[next].layer < edits->first_layer + l)
            next++;
        edits->first[l] = next;
    }
    return LODE_OK;
}

/* --- outliers -------------------------------------------------------------------------------- */

typedef struct outlier {
    int32_t layer, matrix, row, col;
} outlier_t;

static int compare_outliers(const void *a, const void *b) {
    const int32_t *x = (const int32_t *)a, *y = (const int32_t *)b; /* four of each, in order */
    for (int i = 0; i < 4; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

/* Reads a group's places as a sorted list, the caller's. */
static lode_status_t read_list(lode_edits_t *edits, const char *group, outlier_t **list,
                               int64_t *count) {
    static const char *const names[] = {"layer", "matrix", "row", "col"};
    *list = NULL;
    *count = -1;
    for (int i = 0; i < 4; i++) {
        int32_t *values = NULL;
        lode_status_t status = read_array(edits, group, names[i], LODE_TYPE_I32, &values, count);
        if (status == LODE_OK && i == 0)
            status = LODE_NEW(list, *count, "outliers");
        for (int64_t k = 0; k < *count && status == LODE_OK; k++) {
            int32_t *fields[] = {&(*list)[k].layer, &(*list)[k].matrix, &(*list)[k].row,
                                 &(*list)[k].col};
            *fields[i] = values[k];
        }
        free(values);
        LODE_TRY(status);
    }
    if (*count > 0)
        qsort(*list, (size_t)*count, sizeof **list, compare_outliers);
    return LODE_OK;
}

/* Takes this rank's of a sorted list over. */
static lode_status_t take_outliers(lode_edits_t *edits, lode_edits_outliers_t *outliers,
                                   const char *group, const outlier_t *list, int64_t count) {
    int64_t begin = 0, taken = 0;
    while (begin < count && list[begin].layer < edits->first_layer)
        begin++;
    while (begin + taken < count && list[begin + taken].layer < edits->first_layer + edits->layers)
        taken++;
    LODE_TRY(LODE_EDITS_NEW(edits, &outliers->held, taken));
    LODE_TRY(LODE_EDITS_NEW(edits, &outliers->start, edits->layers * LODE_MATRICES + 1));
    for (int64_t i = 0; i < taken; i++) {
        const outlier_t *o = &list[begin + i];
        const bool named = o->matrix >= 0 && o->matrix < LODE_MATRICES;
        const lode_edits_matrix_t *matrix =
            named ? &edits->matrix[o->layer - edits->first_layer][o->matrix] : NULL;
        if (!named || o->row < 0 || o->row >= matrix->out || o->col < 0 || o->col >= matrix->in ||
            (i > 0 && compare_outliers(o - 1, o) == 0))
            return fail_weight(edits, group, begin + i);
        outliers->held[i] = (lode_held_t){.row = o->row, .col = o->col};
        outliers->start[(o->layer - edits->first_layer) * LODE_MATRICES + o->matrix + 1]++;
    }
    for (int64_t k = 0; k < edits->layers * LODE_MATRICES; k++)
        outliers->start[k + 1] += outliers->start[k];
    return LODE_OK;
}

static lode_status_t read_outliers(lode_edits_t *edits, lode_edits_outliers_t *outliers,
                                   const char *group) {
    outlier_t *list;
    int64_t count;
    if (outliers->start)
        return LODE_OK;
    lode_status_t status = read_list(edits, group, &list, &count);
    if (status == LODE_OK)
        status = take_outliers(edits, outliers, group, list, count);
    free(list);
    return status;
}

/* --- all of it ------------------------------------------------------------------------------- */

lode_status_t lode_edits_read_weights(lode_edits_t *edits) {
    LODE_TRY(read_supers(edits));
    LODE_TRY(make_room(edits));
    if (edits->masks > 0)
        LODE_TRY(read_alive(edits));
    for (int64_t v = 0; v < edits->count; v++) {
        const lode_variant_t *variant = &edits->variants[v];
        if (variant->experiment && variant->what == LODE_EXPERIMENT_OTHERS_TENSOR)
            LODE_TRY(read_outliers(edits, &edits->tensor, "/others/tensor"));
        if (variant->experiment && variant->what == LODE_EXPERIMENT_OTHERS_GLOBAL)
            LODE_TRY(read_outliers(edits, &edits->global, "/others/global"));
    }
    return LODE_OK;
}

static void edit_outliers(lode_edits_t *edits, const lode_edits_outliers_t *outliers, int64_t l,
                          lode_layer_edit_t *edit) {
    for (int which = 0; which < LODE_MATRICES; which++) {
        const int64_t *start = outliers->start + l * LODE_MATRICES + which;
        lode_codec_t *codec = &edits->layer[l].codec[which];
        if (start[1] == start[0])
            continue;
        *codec = (lode_codec_t){.held = outliers->held + start[0],
                                .held_count = start[1] - start[0],
                                .dtype = edits->matrix[l][which].dtype};
        edit->codec[which] = codec;
    }
}

static void edit_supers(lode_edits_t *edits, const lode_variant_t *variant, int64_t l,
                        lode_layer_edit_t *edit) {
    const int64_t begin = edits->first[l], count = edits->first[l + 1] - begin;
    lode_codec_t *codec = &edits->layer[l].codec[LODE_MATRIX_DOWN];
    const bool scales = variant->what == LODE_EXPERIMENT_SCALE;
    if (count == 0)
        return;
    for (int64_t i = begin; i < begin + count; i++) {
        const lode_edits_super_t *s = &edits->super[i];
        const float value = scales ? (float)((double)s->value * variant->factor) : 0;
        edits->held[i] = (lode_held_t){.row = s->row, .col = s->channel, .value = value};
        edits->restore[i] = (lode_held_t){.row = s->row, .col = s->channel, .value = s->value};
    }
    *codec = (lode_codec_t){.held = edits->held + begin,
                            .held_count = count,
                            .dtype = edits->matrix[l][LODE_MATRIX_DOWN].dtype};
    edit->codec[LODE_MATRIX_DOWN] = codec;
    if (variant->what == LODE_EXPERIMENT_RESTORE) {
        edit->restore = edits->restore + begin;
        edit->restore_count = count;
    }
}

void lode_edits_of_experiment(lode_edits_t *edits, const lode_variant_t *variant, int64_t l,
                              lode_layer_edit_t *edit) {
    switch (variant->what) {
    case LODE_EXPERIMENT_OTHERS_TENSOR:
        edit_outliers(edits, &edits->tensor, l, edit);
        break;
    case LODE_EXPERIMENT_OTHERS_GLOBAL:
        edit_outliers(edits, &edits->global, l, edit);
        break;
    default:
        edit_supers(edits, variant, l, edit);
    }
}
