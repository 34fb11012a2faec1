#include "common/edits.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

enum { NAME_MAX_BYTES = 512 };

struct lode_edits {
    const lode_run_t *run;
    const lode_variant_t *variants;
    int64_t count;
    int64_t first_layer, layers, m, d;
    lode_store_t *prune, *compensate;
    uint8_t *keep;         /* [count, layers, ⌈m/8⌉] bit j%8 of j/8: channel j is kept */
    int32_t *kept;         /* [count, layers] how many are */
    lode_tensor_t *down;   /* [count, layers], data NULL where it is the checkpoint's */
    const double **stored; /* [count] biases [L, d] as they lie in the file, NULL for none */
    /* Of each layer, what was asked for last: */
    int32_t *channels; /* [layers, m] */
    lode_real_t *bias; /* [layers, d]; NULL where no variant has biases */
};

static bool has_down(const lode_variant_t *variant) {
    return variant->compensation == LODE_COMPENSATION_LEAST_SQUARES ||
           variant->compensation == LODE_COMPENSATION_SEQUENTIAL;
}

/* --- prune.h5 ------------------------------------------------------------------------------- */

static int64_t mask_bytes(const lode_edits_t *edits) {
    return (edits->m + 7) / 8;
}

static lode_status_t read_masks(lode_edits_t *edits) {
    const int64_t m = edits->m, masks = edits->count * edits->layers;
    uint8_t *keep = NULL;
    lode_status_t status = LODE_OK;
    LODE_GUARD(status, LODE_NEW(&edits->keep, masks * mask_bytes(edits), "masks"), done);
    LODE_GUARD(status, LODE_NEW(&edits->kept, masks, "masks"), done);
    LODE_GUARD(status, LODE_NEW(&edits->channels, edits->layers * m, "masks"), done);
    LODE_GUARD(status, LODE_NEW(&keep, m, "masks"), done);
    for (int64_t i = 0; i < masks; i++) {
        const int64_t offset[] = {edits->first_layer + i % edits->layers, 0}, count[] = {1, m};
        uint8_t *bits = edits->keep + i * mask_bytes(edits);
        char path[NAME_MAX_BYTES];
        snprintf(path, sizeof path, "/keep/%s", edits->variants[i / edits->layers].name);
        LODE_GUARD(status, lode_store_read(edits->prune, path, offset, count, LODE_TYPE_U8, keep),
                   done);
        for (int64_t j = 0; j < m; j++) {
            bits[j / 8] |= (uint8_t)((keep[j] != 0) << j % 8);
            edits->kept[i] += keep[j] != 0;
        }
    }
done:
    free(keep);
    return status;
}

/* --- compensate.h5 -------------------------------------------------------------------------- */

static lode_status_t map_down(lode_edits_t *edits, int64_t variant, int64_t l) {
    const int64_t place = variant * edits->layers + l;
    const int64_t kept = edits->kept[place];
    char path[NAME_MAX_BYTES];
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
    char path[NAME_MAX_BYTES];
    int64_t elements;
    const void *data;
    snprintf(path, sizeof path, "/bias/%s", edits->variants[variant].name);
    LODE_TRY(lode_store_map(edits->compensate, path, LODE_TYPE_F64, &data, &elements));
    if (elements != edits->run->architecture.layers * edits->d)
        return lode_fail(LODE_ERR_SHAPE,
                         "%s of compensate.h5 in %s is not of this model; run the stage compensate "
                         "again (--force)",
                         path, edits->run->folder);
    edits->stored[variant] = data;
    if (edits->bias)
        return LODE_OK;
    return LODE_NEW(&edits->bias, edits->layers * edits->d, "biases");
}

static lode_status_t map_compensation(lode_edits_t *edits) {
    LODE_TRY(LODE_NEW(&edits->down, edits->count * edits->layers, "down projections"));
    LODE_TRY(LODE_NEW(&edits->stored, edits->count, "biases"));
    for (int64_t v = 0; v < edits->count; v++) {
        if (edits->variants[v].compensation == LODE_COMPENSATION_BIAS)
            LODE_TRY(map_bias(edits, v));
        for (int64_t l = 0; l < edits->layers && has_down(&edits->variants[v]); l++)
            LODE_TRY(map_down(edits, v, l));
    }
    return LODE_OK;
}

/* --- all of it ------------------------------------------------------------------------------ */

static bool is_compensated(const lode_edits_t *edits) {
    for (int64_t v = 0; v < edits->count; v++)
        if (edits->variants[v].compensation != LODE_COMPENSATION_NONE)
            return true;
    return false;
}

lode_status_t lode_edits_open(lode_edits_t **out, const lode_run_t *run,
                              const lode_variant_t *variants, int64_t count) {
    lode_status_t status = lode_comm_agree(run->comm, LODE_NEW(out, 1, "edits"));
    if (status != LODE_OK) {
        free(*out);
        *out = NULL;
        return status;
    }
    lode_edits_t *edits = *out;
    *edits = (lode_edits_t){.run = run,
                            .variants = variants,
                            .count = count,
                            .first_layer = run->layout.first_layer,
                            .layers = run->layout.layer_end - run->layout.first_layer,
                            .m = run->architecture.intermediate,
                            .d = run->architecture.hidden};
    const bool compensated = is_compensated(edits);
    status = lode_run_open(&edits->prune, run, LODE_STAGE_PRUNE);
    if (status == LODE_OK && compensated)
        status = lode_run_open(&edits->compensate, run, LODE_STAGE_COMPENSATE);
    if (status == LODE_OK) {
        lode_status_t local = read_masks(edits);
        if (local == LODE_OK && compensated)
            local = map_compensation(edits);
        status = lode_comm_agree(run->comm, local);
    }
    if (status != LODE_OK)
        lode_edits_close(out);
    return status;
}

void lode_edits_close(lode_edits_t **edits) {
    if (!*edits)
        return;
    lode_edits_t *e = *edits;
    lode_store_close(&e->compensate);
    lode_store_close(&e->prune);
    free(e->keep);
    free(e->kept);
    free(e->down);
    free(e->stored);
    free(e->channels);
    free(e->bias);
    free(e);
    *edits = NULL;
}

lode_layer_edit_t lode_edits_of(lode_edits_t *edits, int64_t variant, int64_t layer) {
    const int64_t l = layer - edits->first_layer, place = variant * edits->layers + l;
    const uint8_t *bits = edits->keep + place * mask_bytes(edits);
    lode_layer_edit_t edit = {.channels = edits->channels + l * edits->m,
                              .count = edits->kept[place]};
    int32_t *next = edits->channels + l * edits->m;
    for (int32_t j = 0; j < edits->m; j++)
        if (bits[j / 8] >> j % 8 & 1)
            *next++ = j;
    if (edits->down)
        edit.down = edits->down[place];
    if (edits->stored && edits->stored[variant]) {
        const double *stored = edits->stored[variant] + layer * edits->d;
        lode_real_t *bias = edits->bias + l * edits->d;
        for (int64_t i = 0; i < edits->d; i++)
            bias[i] = (lode_real_t)stored[i];
        edit.bias = bias;
    }
    return edit;
}

int64_t lode_edits_memory(const lode_edits_t *edits) {
    const int64_t masks = edits->count * edits->layers;
    return masks * (mask_bytes(edits) + (int64_t)sizeof *edits->kept) +
           (edits->down ? masks * (int64_t)sizeof *edits->down : 0) +
           edits->layers * (edits->m * (int64_t)sizeof *edits->channels +
                            (edits->bias ? edits->d * (int64_t)sizeof *edits->bias : 0));
}

int64_t lode_edits_plan(const lode_variant_t *variants, int64_t count, int64_t layers, int64_t m,
                        int64_t d) {
    const int64_t masks = count * layers;
    int64_t bytes = masks * m * (int64_t)sizeof(int32_t) + (masks + 1) * (int64_t)sizeof(int64_t);
    for (int64_t v = 0; v < count; v++)
        if (variants[v].compensation == LODE_COMPENSATION_BIAS)
            bytes += layers * d * (int64_t)sizeof(lode_real_t);
        else if (has_down(&variants[v]))
            bytes += layers * (int64_t)sizeof(lode_tensor_t);
    return bytes;
}
