#include "common/edit_hash.h"

/* An array with its name and length before it; nothing where there is none. */
static void add_array(lode_hash_t *hash, const char *name, const void *array, int64_t count,
                      size_t size) {
    if (!array)
        return;
    lode_hash_add_text(hash, name);
    lode_hash_add(hash, &count, sizeof count);
    lode_hash_add(hash, array, (size_t)count * size);
}

static void add_number(lode_hash_t *hash, int64_t number) {
    lode_hash_add(hash, &number, sizeof number);
}

static void add_codec(lode_hash_t *hash, const char *matrix, const lode_weight_t *weight) {
    const lode_codec_t *codec = weight->codec;
    if (!codec)
        return;
    const bool mixed = codec->row_bits || codec->col_bits;
    const int64_t blocks = lode_codec_blocks(codec, weight->out, weight->in);
    lode_hash_add_text(hash, matrix);
    lode_hash_add_text(hash, lode_dtype_name(codec->dtype));
    add_number(hash, mixed ? 0 : codec->bits);
    add_number(hash, mixed ? 0 : (int64_t)codec->granularity.kind);
    add_number(hash, mixed ? 0 : codec->granularity.size);
    if (blocks > 0) {
        add_array(hash, "scale", codec->scale, blocks, sizeof *codec->scale);
        add_array(hash, "minimum", codec->minimum, blocks, sizeof *codec->minimum);
    }
    add_array(hash, "row bits", codec->row_bits, weight->out, 1);
    add_array(hash, "column bits", codec->col_bits, weight->in, 1);
    add_array(hash, "kept rows", codec->keep_row, weight->out, 1);
    add_array(hash, "kept columns", codec->keep_col, weight->in, 1);
    add_array(hash, "held", codec->held, codec->held_count, sizeof *codec->held);
    add_array(hash, "smooth", codec->smooth, weight->in, sizeof *codec->smooth);
}

static void add_input(lode_hash_t *hash, lode_input_t which, const lode_input_codec_t *codec,
                      int64_t width) {
    if (!codec)
        return;
    lode_hash_add_text(hash, "input");
    lode_hash_add_text(hash, lode_input_name(which));
    add_number(hash, codec->bits);
    add_number(hash, codec->tensor);
    add_array(hash, "held", codec->held, codec->held_count, sizeof *codec->held);
    add_array(hash, "smooth", codec->smooth, width, sizeof *codec->smooth);
}

/* What of the feed-forward block is changed. */
static void add_block(lode_hash_t *hash, const lode_layer_edit_t *edit, int64_t d) {
    lode_hash_add_text(hash, edit->channels ? "kept" : "all");
    if (edit->channels) {
        lode_hash_add(hash, &edit->count, sizeof edit->count);
        lode_hash_add(hash, edit->channels, (size_t)edit->count * sizeof *edit->channels);
    }
    lode_hash_add_text(hash, edit->down.data ? lode_dtype_name(edit->down.dtype) : "as it is");
    if (edit->down.data) {
        const int64_t elements = edit->down.shape[0] * edit->down.shape[1];
        lode_hash_add(hash, edit->down.shape, 2 * sizeof *edit->down.shape);
        lode_hash_add(hash, edit->down.data, (size_t)elements * lode_dtype_size(edit->down.dtype));
    }
    lode_hash_add_text(hash, edit->bias ? "bias" : "none");
    if (edit->bias)
        lode_hash_add(hash, edit->bias, (size_t)d * sizeof *edit->bias);
}

void lode_edit_hash(lode_hash_t *hash, const lode_layer_edit_t *edit,
                    const lode_architecture_t *architecture, int64_t index) {
    lode_layer_t layer;
    lode_stack_outline(&layer, architecture, index, LODE_DTYPE_F32);
    lode_layer_edit(&layer, edit);
    add_block(hash, edit, architecture->hidden);
    for (int i = 0; i < LODE_MATRICES; i++)
        add_codec(hash, lode_matrix_name((lode_layer_matrix_t)i),
                  lode_layer_matrix(&layer, (lode_layer_matrix_t)i));
    const int64_t width[LODE_INPUTS] = {[LODE_INPUT_ATTENTION] = layer.d,
                                        [LODE_INPUT_OUTPUT] = layer.o.in,
                                        [LODE_INPUT_FFN] = layer.d,
                                        [LODE_INPUT_DOWN] = layer.m};
    for (int i = 0; i < LODE_INPUTS; i++)
        add_input(hash, (lode_input_t)i, layer.input[i], width[i]);
    if (layer.restore_count > 0)
        add_array(hash, "restored", layer.restore, layer.restore_count, sizeof *layer.restore);
}
