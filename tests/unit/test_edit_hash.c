/* Digests of edits: every content of an edit changes them, where it lies in memory does not, and
 * what changes nothing is the same as nothing. */
#include "testing/cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "common/edit_hash.h"
#include "testing/compare.h"

enum { D = 8, M = 12, LONG = D * M };

static const lode_architecture_t architecture = {.gated = true,
                                                 .layers = 2,
                                                 .hidden = D,
                                                 .intermediate = M,
                                                 .heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = 4,
                                                 .vocab = 9,
                                                 .max_positions = 16};

static void digest_of(char digest[LODE_DIGEST_TEXT], const lode_layer_edit_t *edit) {
    lode_hash_t *hash;
    LODE_ASSERT_OK(lode_hash_create(&hash));
    lode_edit_hash(hash, edit, &architecture, 1);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
}

static bool same(const lode_layer_edit_t *a, const lode_layer_edit_t *b) {
    char left[LODE_DIGEST_TEXT], right[LODE_DIGEST_TEXT];
    digest_of(left, a);
    digest_of(right, b);
    return strcmp(left, right) == 0;
}

/* An edit that has something of everything, in memory of its own. */
typedef struct full {
    float scale[LONG], minimum[LONG], smooth[LONG];
    uint8_t keep_row[LONG], keep_col[LONG], bits[LONG];
    lode_held_t held[2];
    lode_held_t restore[2];
    int32_t channels[M], held_channels[2];
    lode_codec_t codec, mixed;
    lode_input_codec_t input;
    lode_layer_edit_t edit;
} full_t;

static full_t *make(void) {
    full_t *f = calloc(1, sizeof *f);
    for (int i = 0; i < LONG; i++) {
        f->scale[i] = (float)i;
        f->smooth[i] = 1 + (float)i;
        f->bits[i] = 4;
    }
    for (int i = 0; i < 2; i++) {
        f->held[i] = (lode_held_t){i, 1, 2};
        f->restore[i] = (lode_held_t){i, 1, 2};
        f->held_channels[i] = i;
    }
    for (int i = 0; i < M; i++)
        f->channels[i] = i;
    f->codec = (lode_codec_t){.bits = 4,
                              .granularity = {LODE_GRANULARITY_GROUP, 4},
                              .scale = f->scale,
                              .minimum = f->minimum,
                              .keep_row = f->keep_row,
                              .keep_col = f->keep_col,
                              .held = f->held,
                              .held_count = 2,
                              .smooth = f->smooth,
                              .dtype = LODE_DTYPE_BF16};
    f->mixed = f->codec;
    f->mixed.col_bits = f->bits;
    f->input = (lode_input_codec_t){
        .bits = 8, .held = f->held_channels, .held_count = 2, .smooth = f->smooth};
    f->edit = (lode_layer_edit_t){
        .channels = f->channels, .count = M - 1, .restore = f->restore, .restore_count = 2};
    f->edit.codec[LODE_MATRIX_K] = &f->codec;
    f->edit.codec[LODE_MATRIX_DOWN] = &f->mixed;
    f->edit.input[LODE_INPUT_DOWN] = &f->input;
    return f;
}

/* Changes one thing; returns false once there is nothing more. */
static bool change(full_t *f, int what) {
    static const lode_layer_edit_t none;
    switch (what) {
    case 0:
        return f->codec.bits = 5, true;
    case 1:
        return f->codec.granularity.kind = LODE_GRANULARITY_BLOCK, true;
    case 2:
        return f->codec.granularity.size = 2, true;
    case 3:
        return f->scale[4 * 2 - 1] = -1, true; /* of the last block of k, [4, 8] */
    case 4:
        return f->minimum[0] = 1, true;
    case 5:
        return f->keep_row[3] = 1, true;
    case 6:
        return f->keep_col[7] = 1, true;
    case 7:
        return f->codec.keep_row = NULL, true;
    case 8:
        return f->held[1].value = 3, true;
    case 9:
        return f->codec.held_count = 1, true;
    case 10:
        return f->smooth[7] = 0.5F, true;
    case 11:
        return f->codec.dtype = LODE_DTYPE_F16, true;
    case 12:
        return f->bits[M - 2] = 16, true; /* of the last column of down as used */
    case 13:
        return f->mixed.row_bits = f->bits, f->mixed.col_bits = NULL, true;
    case 14:
        return f->input.bits = 7, true;
    case 15:
        return f->input.tensor = true, true;
    case 16:
        return f->held_channels[1] = 5, true;
    case 17:
        return f->input.smooth = NULL, true;
    case 18:
        return f->restore[1].value = 3, true;
    case 19:
        return f->edit.restore_count = 1, true;
    case 20:
        return f->channels[M - 2] = M - 1, true;
    case 21:
        return f->edit.codec[LODE_MATRIX_V] = &f->codec, f->edit.codec[LODE_MATRIX_K] = NULL, true;
    case 22:
        return f->edit.input[LODE_INPUT_FFN] = &f->input, f->edit.input[LODE_INPUT_DOWN] = NULL,
               true;
    case 23:
        return f->edit = none, true;
    default:
        return false;
    }
}

static void test_contents(void **state) {
    (void)state;
    full_t *plain = make(), *other = make();
    assert_true(same(&plain->edit, &other->edit));
    int what = 0;
    for (bool more = true; more; what++) {
        free(other);
        other = make();
        more = change(other, what);
        if (more && same(&plain->edit, &other->edit))
            fail_msg("change %d is not seen", what);
    }
    assert_int_equal(what, 25);
    free(plain);
    free(other);
}

static void test_nothing(void **state) {
    (void)state;
    const lode_codec_t codec = {.dtype = LODE_DTYPE_BF16};
    const lode_input_codec_t input = {.tensor = true};
    lode_layer_edit_t edit = {.codec = {&codec}, .input = {&input}};
    assert_true(same(&edit, &(lode_layer_edit_t){0}));
    lode_layer_t layer;
    lode_stack_outline(&layer, &architecture, 0, LODE_DTYPE_F32);
    lode_layer_edit(&layer, &edit);
    assert_true(!layer.q.codec && !layer.input[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_contents),
                                       cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
