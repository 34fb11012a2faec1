/* Checkpoints of every family: the tensors of each role, as views of what the files hold. The cases
 * of tests/golden/families.py are read as transformers wrote them. */
#include "testing/cmocka_all.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/temporary.h"

/* Where a role's first element lies in the tensor of a file, and how far its neighbours are. */
typedef struct place {
    lode_role_t role;
    const char *name; /* # for the layer */
    int64_t begin, row, column;
    int64_t rows, columns; /* columns 0: a vector */
} place_t;

static const void *element(const lode_tensor_t *tensor, int64_t i, int64_t j) {
    const int64_t at = tensor->transposed ? j * tensor->pitch + i
                                          : i * tensor->pitch + (tensor->rank == 2 ? j : 0);
    return (const char *)tensor->data +
           (size_t)(tensor->rank == 1 ? i : at) * lode_dtype_size(tensor->dtype);
}

/* The bytes of a tensor by its name in the files. */
static const char *find_bytes(lode_checkpoint_t *checkpoint, const char *pattern, int64_t layer) {
    char name[128];
    const char *mark = strchr(pattern, '#');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(pattern, "#"), pattern);
    if (mark)
        snprintf(name + strlen(name), sizeof name - strlen(name), "%" PRId64 "%s", layer, mark + 1);
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const void *bytes;
        if (strcmp(lode_checkpoint_tensor_info(checkpoint, i).name, name) != 0)
            continue;
        LODE_ASSERT_OK(lode_checkpoint_tensor_bytes(checkpoint, i, &bytes));
        return bytes;
    }
    fail_msg("there is no tensor %s", name);
    return NULL;
}

static void check_place(lode_checkpoint_t *checkpoint, const lode_tensor_t *tensor,
                        const place_t *place, int64_t layer) {
    const char *bytes = find_bytes(checkpoint, place->name, layer);
    const size_t size = lode_dtype_size(tensor->dtype);
    const int64_t columns = place->columns ? place->columns : 1;
    assert_non_null(tensor->data);
    assert_int_equal(tensor->rank, place->columns ? 2 : 1);
    assert_int_equal(tensor->shape[0], place->rows);
    assert_int_equal(tensor->shape[1], place->columns);
    for (int64_t i = 0; i < place->rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            const int64_t at = place->begin + i * place->row + j * place->column;
            assert_memory_equal(element(tensor, i, j), bytes + (size_t)at * size, size);
        }
    }
}

/* All roles of all layers: those listed are where they are said to be, the others absent. */
static void check_layers(lode_checkpoint_t *checkpoint, const place_t *places, int64_t count) {
    const lode_architecture_t *a = lode_checkpoint_architecture(checkpoint);
    for (int64_t layer = 0; layer < a->layers; layer++) {
        lode_layer_weights_t weights;
        bool listed[LODE_LAYER_ROLES] = {false};
        LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, layer, &weights));
        for (int64_t i = 0; i < count; i++) {
            check_place(checkpoint, lode_layer_weights_role(&weights, places[i].role), &places[i],
                        layer);
            listed[places[i].role] = true;
        }
        for (int role = 0; role < LODE_LAYER_ROLES; role++) {
            assert_int_equal(listed[role], lode_family_has(a, (lode_role_t)role));
            if (!listed[role])
                assert_null(lode_layer_weights_role(&weights, (lode_role_t)role)->data);
        }
        lode_checkpoint_release_layer(checkpoint, layer);
    }
}

/* The parts of each used tensor cover it in order, and all tensors are used but for `unused`. */
static void check_parts(const lode_checkpoint_t *checkpoint, int64_t unused) {
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        const int64_t extent = info.shape[info.transposed ? 1 : 0];
        int64_t covered = 0;
        for (int p = 0; p < info.part_count; p++) {
            assert_int_equal(info.parts[p].begin, covered);
            covered += info.parts[p].count;
        }
        if (info.part_count > 0)
            assert_int_equal(covered, extent);
        assert_int_equal(info.role, info.part_count ? info.parts[0].role : LODE_ROLE_COUNT);
        assert_int_equal(info.owner == LODE_OWNER_UNUSED, info.part_count == 0);
        unused -= info.part_count == 0;
    }
    assert_int_equal(unused, 0);
}

/* A whole matrix [rows, columns], stored as it is; a vector. */
#define WHOLE(role, name, rows, columns)                                                           \
    { role, name, 0, columns, 1, rows, columns }
#define VECTOR(role, name, count)                                                                  \
    { role, name, 0, 1, 0, count, 0 }
#define ATTENTION(q, kv, d)                                                                        \
    WHOLE(LODE_ROLE_Q, "model.layers.#.self_attn.q_proj.weight", q, d),                            \
        WHOLE(LODE_ROLE_K, "model.layers.#.self_attn.k_proj.weight", kv, d),                       \
        WHOLE(LODE_ROLE_V, "model.layers.#.self_attn.v_proj.weight", kv, d),                       \
        WHOLE(LODE_ROLE_O, "model.layers.#.self_attn.o_proj.weight", d, q)
#define ATTENTION_BIASES(q, kv)                                                                    \
    VECTOR(LODE_ROLE_Q_BIAS, "model.layers.#.self_attn.q_proj.bias", q),                           \
        VECTOR(LODE_ROLE_K_BIAS, "model.layers.#.self_attn.k_proj.bias", kv),                      \
        VECTOR(LODE_ROLE_V_BIAS, "model.layers.#.self_attn.v_proj.bias", kv)
#define OUTPUT_BIAS(d) VECTOR(LODE_ROLE_O_BIAS, "model.layers.#.self_attn.o_proj.bias", d)
#define FFN(m, d)                                                                                  \
    WHOLE(LODE_ROLE_GATE, "model.layers.#.mlp.gate_proj.weight", m, d),                            \
        WHOLE(LODE_ROLE_UP, "model.layers.#.mlp.up_proj.weight", m, d),                            \
        WHOLE(LODE_ROLE_DOWN, "model.layers.#.mlp.down_proj.weight", d, m)
#define PRE_NORMS(d)                                                                               \
    VECTOR(LODE_ROLE_ATTENTION_NORM, "model.layers.#.input_layernorm.weight", d),                  \
        VECTOR(LODE_ROLE_FFN_NORM, "model.layers.#.post_attention_layernorm.weight", d)

static const place_t llama[] = {PRE_NORMS(24), ATTENTION(32, 16, 24), FFN(36, 24)};
static const place_t llama_bias[] = {
    PRE_NORMS(24),
    ATTENTION(24, 12, 24),
    ATTENTION_BIASES(24, 12),
    OUTPUT_BIAS(24),
    FFN(36, 24),
    VECTOR(LODE_ROLE_GATE_BIAS, "model.layers.#.mlp.gate_proj.bias", 36),
    VECTOR(LODE_ROLE_UP_BIAS, "model.layers.#.mlp.up_proj.bias", 36),
    VECTOR(LODE_ROLE_DOWN_BIAS, "model.layers.#.mlp.down_proj.bias", 24),
};
static const place_t mistral[] = {PRE_NORMS(24), ATTENTION(24, 12, 24), FFN(36, 24)};
static const place_t qwen2[] = {PRE_NORMS(24), ATTENTION(24, 12, 24), ATTENTION_BIASES(24, 12),
                                FFN(36, 24)};
static const place_t qwen3[] = {
    PRE_NORMS(24),
    ATTENTION(40, 20, 24),
    ATTENTION_BIASES(40, 20),
    OUTPUT_BIAS(24),
    FFN(36, 24),
    VECTOR(LODE_ROLE_Q_NORM, "model.layers.#.self_attn.q_norm.weight", 10),
    VECTOR(LODE_ROLE_K_NORM, "model.layers.#.self_attn.k_norm.weight", 10),
};
static const place_t olmo[] = {ATTENTION(24, 12, 24), FFN(36, 24)};
static const place_t olmo2[] = {
    ATTENTION(24, 12, 24),
    FFN(36, 24),
    VECTOR(LODE_ROLE_Q_NORM, "model.layers.#.self_attn.q_norm.weight", 24),
    VECTOR(LODE_ROLE_K_NORM, "model.layers.#.self_attn.k_norm.weight", 12),
    VECTOR(LODE_ROLE_ATTENTION_POST_NORM, "model.layers.#.post_attention_layernorm.weight", 24),
    VECTOR(LODE_ROLE_FFN_POST_NORM, "model.layers.#.post_feedforward_layernorm.weight", 24),
};
static const place_t gemma2[] = {
    ATTENTION(48, 16, 24),
    FFN(36, 24),
    VECTOR(LODE_ROLE_ATTENTION_NORM, "model.layers.#.input_layernorm.weight", 24),
    VECTOR(LODE_ROLE_ATTENTION_POST_NORM, "model.layers.#.post_attention_layernorm.weight", 24),
    VECTOR(LODE_ROLE_FFN_NORM, "model.layers.#.pre_feedforward_layernorm.weight", 24),
    VECTOR(LODE_ROLE_FFN_POST_NORM, "model.layers.#.post_feedforward_layernorm.weight", 24),
};
static const place_t phi3[] = {
    PRE_NORMS(24),
    {LODE_ROLE_Q, "model.layers.#.self_attn.qkv_proj.weight", 0, 24, 1, 24, 24},
    {LODE_ROLE_K, "model.layers.#.self_attn.qkv_proj.weight", 24 * 24, 24, 1, 12, 24},
    {LODE_ROLE_V, "model.layers.#.self_attn.qkv_proj.weight", 36 * 24, 24, 1, 12, 24},
    WHOLE(LODE_ROLE_O, "model.layers.#.self_attn.o_proj.weight", 24, 24),
    {LODE_ROLE_GATE, "model.layers.#.mlp.gate_up_proj.weight", 0, 24, 1, 36, 24},
    {LODE_ROLE_UP, "model.layers.#.mlp.gate_up_proj.weight", 36 * 24, 24, 1, 36, 24},
    WHOLE(LODE_ROLE_DOWN, "model.layers.#.mlp.down_proj.weight", 24, 36),
};
#define GPT2(prefix, d, m)                                                                         \
    VECTOR(LODE_ROLE_ATTENTION_NORM, prefix "h.#.ln_1.weight", d),                                 \
        VECTOR(LODE_ROLE_ATTENTION_NORM_BIAS, prefix "h.#.ln_1.bias", d),                          \
        VECTOR(LODE_ROLE_FFN_NORM, prefix "h.#.ln_2.weight", d),                                   \
        VECTOR(LODE_ROLE_FFN_NORM_BIAS, prefix "h.#.ln_2.bias", d),                                \
        {LODE_ROLE_Q, prefix "h.#.attn.c_attn.weight", 0, 1, 3 * d, d, d},                         \
        {LODE_ROLE_K, prefix "h.#.attn.c_attn.weight", d, 1, 3 * d, d, d},                         \
        {LODE_ROLE_V, prefix "h.#.attn.c_attn.weight", 2 * d, 1, 3 * d, d, d},                     \
        {LODE_ROLE_O, prefix "h.#.attn.c_proj.weight", 0, 1, d, d, d},                             \
        {LODE_ROLE_Q_BIAS, prefix "h.#.attn.c_attn.bias", 0, 1, 0, d, 0},                          \
        {LODE_ROLE_K_BIAS, prefix "h.#.attn.c_attn.bias", d, 1, 0, d, 0},                          \
        {LODE_ROLE_V_BIAS, prefix "h.#.attn.c_attn.bias", 2 * d, 1, 0, d, 0},                      \
        VECTOR(LODE_ROLE_O_BIAS, prefix "h.#.attn.c_proj.bias", d),                                \
        {LODE_ROLE_UP, prefix "h.#.mlp.c_fc.weight", 0, 1, m, m, d},                               \
        {LODE_ROLE_DOWN, prefix "h.#.mlp.c_proj.weight", 0, 1, d, d, m},                           \
        VECTOR(LODE_ROLE_UP_BIAS, prefix "h.#.mlp.c_fc.bias", m),                                  \
        VECTOR(LODE_ROLE_DOWN_BIAS, prefix "h.#.mlp.c_proj.bias", d)
static const place_t gpt2[] = {GPT2("transformer.", 24, 40)};

#define LIST(places) places, sizeof places / sizeof places[0]

static const struct {
    const char *name;
    const place_t *places;
    int64_t count;
    const char *embedding, *positions, *norm, *norm_bias; /* NULL where there is none */
    bool tied;
} cases[] = {
    {"llama", LIST(llama), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, false},
    {"llama3", LIST(llama), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, false},
    {"llama-bias", LIST(llama_bias), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL,
     false},
    {"llama-tied", LIST(llama), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, true},
    {"llama-sharded", LIST(llama), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL,
     false},
    {"mistral", LIST(mistral), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, false},
    {"qwen2", LIST(qwen2), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, true},
    {"qwen2-window", LIST(qwen2), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL,
     false},
    {"qwen3", LIST(qwen3), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, true},
    {"olmo", LIST(olmo), "model.embed_tokens.weight", NULL, NULL, NULL, true},
    {"olmo2", LIST(olmo2), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, false},
    {"gemma2", LIST(gemma2), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, true},
    {"phi3", LIST(phi3), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL, false},
    {"phi3-longrope", LIST(phi3), "model.embed_tokens.weight", NULL, "model.norm.weight", NULL,
     false},
    {"gpt2", LIST(gpt2), "transformer.wte.weight", "transformer.wpe.weight",
     "transformer.ln_f.weight", "transformer.ln_f.bias", true},
};

static void check_single(lode_checkpoint_t *checkpoint, const lode_tensor_t *tensor,
                         const char *name, int64_t rows, int64_t columns) {
    if (!name) {
        assert_null(tensor->data);
        return;
    }
    const place_t place = {LODE_ROLE_COUNT, name, 0, columns ? columns : 1, 1, rows, columns};
    check_place(checkpoint, tensor, &place, 0);
}

static void reads_what_transformers_wrote(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char folder[128];
        lode_checkpoint_t *checkpoint;
        lode_tensor_t embedding, positions, norm, bias, head;
        snprintf(folder, sizeof folder, "tests/golden/families/%s", cases[i].name);
        LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
        check_layers(checkpoint, cases[i].places, cases[i].count);
        LODE_ASSERT_OK(lode_checkpoint_embedding(checkpoint, &embedding));
        LODE_ASSERT_OK(lode_checkpoint_positions(checkpoint, &positions));
        LODE_ASSERT_OK(lode_checkpoint_final_norm(checkpoint, &norm));
        LODE_ASSERT_OK(lode_checkpoint_final_norm_bias(checkpoint, &bias));
        LODE_ASSERT_OK(lode_checkpoint_head(checkpoint, &head));
        check_single(checkpoint, &embedding, cases[i].embedding, 288, 24);
        check_single(checkpoint, &positions, cases[i].positions, 64, 24);
        check_single(checkpoint, &norm, cases[i].norm, 24, 0);
        check_single(checkpoint, &bias, cases[i].norm_bias, 24, 0);
        check_single(checkpoint, &head, cases[i].tied ? cases[i].embedding : "lm_head.weight", 288,
                     24);
        check_parts(checkpoint, 0);
        lode_checkpoint_close(&checkpoint);
    }
}

/* --- other ways in which checkpoints come --------------------------------------------------- */

enum { GPT2_D = 8, GPT2_M = 32, GPT2_P = 6, GPT2_V = 12 };

static const lode_test_tensor_t gpt2_hub[] = {
    {"wte.weight", "F32", 2, {GPT2_V, GPT2_D}},
    {"wpe.weight", "F32", 2, {GPT2_P, GPT2_D}},
    {"h.0.ln_1.weight", "F32", 1, {GPT2_D}},
    {"h.0.ln_1.bias", "F32", 1, {GPT2_D}},
    {"h.0.attn.bias", "U8", 2, {GPT2_P, GPT2_P}},
    {"h.0.attn.masked_bias", "F32", 1, {1}},
    {"h.0.attn.c_attn.weight", "F32", 2, {GPT2_D, 3 * GPT2_D}},
    {"h.0.attn.c_attn.bias", "F32", 1, {3 * GPT2_D}},
    {"h.0.attn.c_proj.weight", "BF16", 2, {GPT2_D, GPT2_D}},
    {"h.0.attn.c_proj.bias", "F32", 1, {GPT2_D}},
    {"h.0.ln_2.weight", "F32", 1, {GPT2_D}},
    {"h.0.ln_2.bias", "F32", 1, {GPT2_D}},
    {"h.0.mlp.c_fc.weight", "F16", 2, {GPT2_D, GPT2_M}},
    {"h.0.mlp.c_fc.bias", "F32", 1, {GPT2_M}},
    {"h.0.mlp.c_proj.weight", "F32", 2, {GPT2_M, GPT2_D}},
    {"h.0.mlp.c_proj.bias", "F32", 1, {GPT2_D}},
    {"ln_f.weight", "F32", 1, {GPT2_D}},
    {"ln_f.bias", "F32", 1, {GPT2_D}},
    {"lm_head.weight", "F32", 2, {GPT2_V, GPT2_D}},
};
enum { GPT2_COUNT = sizeof gpt2_hub / sizeof gpt2_hub[0] };

/* A folder of gpt2_hub with the tensor `name` changed in its second extent by `more`. */
static const char *write_gpt2(const char *name, int64_t more) {
    const char *folder = lode_test_temporary();
    lode_test_tensor_t tensors[GPT2_COUNT];
    memcpy(tensors, gpt2_hub, sizeof tensors);
    for (int i = 0; i < GPT2_COUNT; i++)
        if (strcmp(tensors[i].name, name) == 0)
            tensors[i].shape[tensors[i].rank - 1] += more;
    LODE_ASSERT_OK(lode_test_write_text(
        folder, "config.json",
        "{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":8,\"n_head\":2,\"vocab_size\":12,"
        "\"n_positions\":6}"));
    LODE_ASSERT_OK(
        lode_test_write_safetensors(folder, "model.safetensors", tensors, GPT2_COUNT, 3));
    return folder;
}

/* Makes the bytes of one tensor those of another. */
static void copy_tensor(const char *folder, const char *from, const char *to) {
    char path[1024];
    lode_safetensors_t *file;
    const void *bytes;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    LODE_ASSERT_OK(lode_safetensors_open(&file, path));
    const int64_t source = lode_safetensors_find(file, from);
    const int64_t begin = lode_safetensors_entry(file, lode_safetensors_find(file, to))->begin;
    const lode_safetensors_entry_t *entry = lode_safetensors_entry(file, source);
    const size_t size = (size_t)(entry->end - entry->begin);
    LODE_ASSERT_OK(lode_safetensors_map_bytes(file, source, &bytes));
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)begin, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
    lode_safetensors_close(&file);
}

/* As on the hub: no prefix, masks among the tensors, the head once more. */
static void reads_gpt2_as_it_is_published(void **state) {
    (void)state;
    static const place_t places[] = {GPT2("", GPT2_D, GPT2_M)};
    lode_checkpoint_t *checkpoint;
    lode_tensor_t head;
    const char *folder = write_gpt2("", 0);
    copy_tensor(folder, "wte.weight", "lm_head.weight");
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    check_layers(checkpoint, LIST(places));
    LODE_ASSERT_OK(lode_checkpoint_head(checkpoint, &head));
    check_single(checkpoint, &head, "wte.weight", GPT2_V, GPT2_D);
    check_parts(checkpoint, 3);
    lode_checkpoint_close(&checkpoint);
}

static void refuses_a_tied_head_of_its_own(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    lode_tensor_t head;
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, write_gpt2("", 0)));
    for (int i = 0; i < 2; i++)
        LODE_ASSERT_FAILS(lode_checkpoint_head(checkpoint, &head), LODE_ERR_FORMAT,
                          "tensor \"lm_head.weight\" is not the \"wte.weight\"");
    lode_checkpoint_close(&checkpoint);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, write_gpt2("lm_head.weight", 1)));
    LODE_ASSERT_FAILS(lode_checkpoint_head(checkpoint, &head), LODE_ERR_FORMAT,
                      "\"tie_word_embeddings\": false");
    lode_checkpoint_close(&checkpoint);
}

static void refuses_wrong_shapes_of_fused_tensors(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, write_gpt2("h.0.attn.c_attn.weight", 8)),
                      LODE_ERR_SHAPE,
                      "tensor \"h.0.attn.c_attn.weight\" has shape [8, 32], config.json makes it "
                      "[8, 24]");
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, write_gpt2("h.0.attn.c_attn.bias", -8)),
                      LODE_ERR_SHAPE, "has shape [16], config.json makes it [24]");
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, write_gpt2("h.0.mlp.c_fc.weight", 1)),
                      LODE_ERR_SHAPE, "has shape [8, 33], config.json makes it [8, 32]");
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, write_gpt2("wpe.weight", 1)),
                      LODE_ERR_SHAPE, "has shape [6, 9], config.json makes it [6, 8]");
}

/* A rank's layer touches no bytes of others, fused or not, and counts a fused tensor once. */
static void maps_each_tensor_once(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    lode_layer_weights_t weights;
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, "tests/golden/families/phi3"));
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, 1, &weights));
    /* BF16 matrices, F32 norms */
    const int64_t bytes = 2 * (48 * 24 + 24 * 24 + 3 * 36 * 24) + 4 * 2 * 24;
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), bytes);
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        const lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        assert_int_equal(info.mapped_ever, info.owner == 1);
    }
    lode_checkpoint_release_layer(checkpoint, 1);
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), 0);
    assert_int_equal(lode_checkpoint_bytes_mapped_ever(checkpoint), bytes);
    lode_checkpoint_close(&checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_transformers_wrote),
        cmocka_unit_test(reads_gpt2_as_it_is_published),
        cmocka_unit_test(refuses_a_tied_head_of_its_own),
        cmocka_unit_test(refuses_wrong_shapes_of_fused_tensors),
        cmocka_unit_test(maps_each_tensor_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
