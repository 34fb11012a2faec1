/* Pruned variants: masks of prune.h5, and what compensate.h5 has in place of removed channels. */
#include <stdio.h>
#include <stdlib.h>

#include "common/edits_internal.h"

static bool has_down(const lode_variant_t *variant) {
    return variant->compensation == LODE_COMPENSATION_LEAST_SQUARES ||
           variant->compensation == LODE_COMPENSATION_SEQUENTIAL;
}

static int64_t mask_bytes(const lode_edits_t *edits) {
    return (edits->m + 7) / 8;
}

/* Reads one layer's mask of one variant; keep [m] is room. */
static lode_status_t read_mask(lode_edits_t *edits, int64_t variant, int64_t l, uint8_t *keep) {
    const int64_t offset[] = {edits->first_layer + l, 0}, count[] = {1, edits->m};
    const int64_t place = edits->mask[variant] * edits->layers + l;
    uint8_t *bits = edits->keep + place * mask_bytes(edits);
    char path[LODE_EDITS_PATH];
    snprintf(path, sizeof path, "/keep/%s", edits->variants[variant].name);
    LODE_TRY(lode_store_read(edits->prune, path, offset, count, LODE_TYPE_U8, keep));
    for (int64_t j = 0; j < edits->m; j++) {
        bits[j / 8] |= (uint8_t)((keep[j] != 0) << j % 8);
        edits->kept[place] += keep[j] != 0;
    }
    return LODE_OK;
}

static lode_status_t read_masks(lode_edits_t *edits) {
    const int64_t masks = edits->masks * edits->layers;
    uint8_t *keep = NULL;
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->keep, masks * mask_bytes(edits)));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->kept, masks));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->channels, edits->layers * edits->m));
    LODE_TRY(LODE_NEW(&keep, edits->m, "masks"));
    lode_status_t status = LODE_OK;
    for (int64_t v = 0; v < edits->count; v++)
        for (int64_t l = 0; l < edits->layers && edits->mask[v] >= 0 && status == LODE_OK; l++)
            status = read_mask(edits, v, l, keep);
    free(keep);
    return status;
}

static lode_status_t map_down(lode_edits_t *edits, int64_t variant, int64_t l) {
    const int64_t place = edits->mask[variant] * edits->layers + l;
    const int64_t kept = edits->kept[place];
    char path[LODE_EDITS_PATH];
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    const void *data;
    snprintf(path, sizeof path, "/down/%s/%lld", edits->variants[variant].name,
             (long long)(edits->first_layer + l));
    LODE_TRY(lode_store_shape(edits->compensate, path, &axes, shape));
    if (axes != 2 || shape[0] != edits->d || shape[1] != kept)
        return lode_fail(LODE_ERR_SHAPE,
                         "%s of compensate.h5 in %s does not have the shape [%lld, %lld] that the "
                         "variant's mask asks for; run the stage compensate again (--force)",
                         path, edits->run->folder, (long long)edits->d, (long long)kept);
    LODE_TRY(lode_store_map(edits->compensate, path, LODE_TYPE_F32, &data, NULL));
    edits->down[place] = lode_tensor_matrix(data, LODE_DTYPE_F32, edits->d, kept);
    return LODE_OK;
}

static lode_status_t map_bias(lode_edits_t *edits, int64_t variant) {
    char path[LODE_EDITS_PATH];
    int64_t elements;
    const void *data;
    snprintf(path, sizeof path, "/bias/%s", edits->variants[variant].name);
    LODE_TRY(lode_store_map(edits->compensate, path, LODE_TYPE_F64, &data, &elements));
    if (elements != edits->run->architecture.layers * edits->d)
        return lode_fail(LODE_ERR_SHAPE,
                         "%s of compensate.h5 in %s is not of this model; run the stage compensate "
                         "again (--force)",
                         path, edits->run->folder);
    edits->stored[edits->mask[variant]] = data;
    return edits->bias ? LODE_OK : LODE_EDITS_NEW(edits, &edits->bias, edits->layers * edits->d);
}

static lode_status_t map_compensation(lode_edits_t *edits) {
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->down, edits->masks * edits->layers));
    LODE_TRY(LODE_EDITS_NEW(edits, &edits->stored, edits->masks));
    for (int64_t v = 0; v < edits->count; v++) {
        if (edits->mask[v] < 0)
            continue;
        if (edits->variants[v].compensation == LODE_COMPENSATION_BIAS)
            LODE_TRY(map_bias(edits, v));
        for (int64_t l = 0; l < edits->layers && has_down(&edits->variants[v]); l++)
            LODE_TRY(map_down(edits, v, l));
    }
    return LODE_OK;
}

lode_status_t lode_edits_read_pruned(lode_edits_t *edits) {
    LODE_TRY(read_masks(edits));
    return edits->compensate ? map_compensation(edits) : LODE_OK;
}

int64_t lode_edits_kept(const lode_edits_t *edits, int64_t variant, int64_t l) {
    return variant < 0 ? edits->m : edits->kept[edits->mask[variant] * edits->layers + l];
}

void lode_edits_of_pruned(lode_edits_t *edits, int64_t variant, int64_t l,
                          lode_layer_edit_t *edit) {
    const int64_t mask = edits->mask[variant], place = mask * edits->layers + l;
    const uint8_t *bits = edits->keep + place * mask_bytes(edits);
    int32_t *next = edits->channels + l * edits->m;
    edit->channels = next;
    edit->count = edits->kept[place];
    for (int32_t j = 0; j < edits->m; j++)
        if (bits[j / 8] >> j % 8 & 1)
            *next++ = j;
    if (edits->down)
        edit->down = edits->down[place];
    if (edits->stored && edits->stored[mask]) {
        const double *stored = edits->stored[mask] + (edits->first_layer + l) * edits->d;
        lode_real_t *bias = edits->bias + l * edits->d;
        for (int64_t i = 0; i < edits->d; i++)
            bias[i] = (lode_real_t)stored[i];
        edit->bias = bias;
    }
}
