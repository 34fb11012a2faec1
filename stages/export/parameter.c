#include "export/work.h"

/* Positions [count of set flags] as I32. */
static lode_status_t put_positions(lode_export_work_t *work, const uint8_t *flags, int64_t extent) {
    for (int32_t i = 0; i < extent; i++)
        if (flags[i])
            LODE_TRY(lode_export_sink_copy(&work->sink, &i, sizeof i));
    return LODE_OK;
}

static lode_status_t put_held(lode_export_work_t *work, const lode_codec_t *codec, bool values) {
    for (int64_t i = 0; i < codec->held_count; i++) {
        const lode_held_t *held = &codec->held[i];
        const int32_t place[] = {held->row, held->col};
        LODE_TRY(values ? lode_export_sink_copy(&work->sink, &held->value, sizeof held->value)
                        : lode_export_sink_copy(&work->sink, place, sizeof place));
    }
    return LODE_OK;
}

/* Codes [out, in], some rows at a time. */
static lode_status_t put_codes(lode_export_work_t *work, const lode_weight_t *weight) {
    const int64_t in = weight->in;
    const int64_t step = in > 0 && in < LODE_EXPORT_BLOCK_BYTES ? LODE_EXPORT_BLOCK_BYTES / in : 1;
    for (int64_t row = 0; in > 0 && row < weight->out; row += step) {
        const int64_t rows = weight->out - row < step ? weight->out - row : step;
        unsigned char *place;
        LODE_TRY(lode_export_sink_take(&work->sink, rows * in, &place));
        lode_codec_integers(weight, row, rows, 0, in, place);
    }
    return LODE_OK;
}

static lode_status_t put_parameter(lode_export_work_t *work, const lode_export_beside_t *beside,
                                   const lode_weight_t *weight) {
    const lode_codec_t *codec = weight->codec;
    lode_export_sink_t *sink = &work->sink;
    const int64_t blocks = lode_codec_blocks(codec, weight->out, weight->in);
    switch (beside->parameter) {
    case LODE_EXPORT_SCALE:
        return lode_export_sink_copy(sink, codec->scale, blocks * (int64_t)sizeof *codec->scale);
    case LODE_EXPORT_MINIMUM:
        return lode_export_sink_copy(sink, codec->minimum,
                                     blocks * (int64_t)sizeof *codec->minimum);
    case LODE_EXPORT_ROW_BITS:
        return lode_export_sink_copy(sink, codec->row_bits, weight->out);
    case LODE_EXPORT_COLUMN_BITS:
        return lode_export_sink_copy(sink, codec->col_bits, weight->in);
    case LODE_EXPORT_KEPT_ROWS:
        return put_positions(work, codec->keep_row, weight->out);
    case LODE_EXPORT_KEPT_COLUMNS:
        return put_positions(work, codec->keep_col, weight->in);
    case LODE_EXPORT_HELD:
    case LODE_EXPORT_HELD_VALUES:
        return put_held(work, codec, beside->parameter == LODE_EXPORT_HELD_VALUES);
    case LODE_EXPORT_CODES:
        return put_codes(work, weight);
    case LODE_EXPORT_PARAMETER_COUNT:
        break;
    }
    return LODE_OK;
}

lode_status_t lode_export_put_parameter(lode_export_work_t *work,
                                        const lode_export_beside_t *beside) {
    lode_layer_t layer;
    LODE_TRY(lode_export_layer(&layer, work, beside->layer));
    const lode_status_t status =
        put_parameter(work, beside, lode_layer_matrix(&layer, beside->matrix));
    lode_checkpoint_release_layer(work->run->checkpoint, beside->layer);
    return status;
}
