#include "testing/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* --- values --------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform with mean 0 and variance 1. */
static double next_value(uint64_t *state) {
    double unit = (double)(next_random(state) >> 11) * 0x1p-53;
    return (unit - 0.5) * sqrt(12.0);
}

/* Bits of the nearest number with `mantissa` explicit bits and smallest normal exponent `lowest`;
 * the values written here are far from overflow. */
static uint16_t round_to(double value, int mantissa, int lowest) {
    if (value == 0)
        return 0;
    int exponent = ilogb(value);
    if (exponent < lowest)
        exponent = lowest;
    long units = lrint(ldexp(fabs(value), mantissa - exponent));
    long bits = ((long)(exponent - lowest) << mantissa) + units;
    return (uint16_t)(bits | (value < 0 ? 0x8000 : 0));
}

static void encode(unsigned char *bytes, double value, const char *dtype) {
    float single = (float)value;
    uint16_t half = dtype[0] == 'B' ? round_to(value, 7, -126) : round_to(value, 10, -14);
    if (strcmp(dtype, "F32") == 0)
        memcpy(bytes, &single, sizeof single);
    else
        memcpy(bytes, &half, sizeof half);
}

static int64_t dtype_bytes(const char *dtype) {
    if (strcmp(dtype, "I64") == 0)
        return 8;
    if (strcmp(dtype, "F32") == 0 || strcmp(dtype, "I32") == 0)
        return 4;
    return strcmp(dtype, "F16") == 0 || strcmp(dtype, "BF16") == 0 ? 2 : 1;
}

static int64_t element_count(const lode_test_tensor_t *tensor) {
    return tensor->rank == 1 ? tensor->shape[0] : tensor->shape[0] * tensor->shape[1];
}

static lode_status_t append_values(lode_buffer_t *file, const lode_test_tensor_t *tensor,
                                   uint64_t seed) {
    bool real = strchr(tensor->dtype, 'F') != NULL;
    int64_t size = dtype_bytes(tensor->dtype);
    uint64_t state = seed;
    for (const char *c = tensor->name; *c; c++)
        state = (state ^ (unsigned char)*c) * 0x100000001b3u;
    double scale = tensor->rank == 1 ? 0.1 : 1.0 / sqrt((double)tensor->shape[1]);
    double centre = tensor->rank == 1 ? 1.0 : 0.0;
    for (int64_t i = 0; i < element_count(tensor); i++) {
        unsigned char bytes[8] = {0};
        if (real)
            encode(bytes, centre + scale * next_value(&state), tensor->dtype);
        LODE_TRY(lode_buffer_append(file, bytes, (size_t)size));
    }
    return LODE_OK;
}

/* --- files ---------------------------------------------------------------------------------- */

static lode_status_t write_file(const char *folder, const char *name, const void *bytes,
                                size_t size) {
    char *path;
    LODE_TRY(lode_path_join(&path, folder, name));
    lode_status_t status = lode_file_write_atomic(path, bytes, size);
    free(path);
    return status;
}

lode_status_t lode_test_write_text(const char *folder, const char *name, const char *text) {
    return write_file(folder, name, text, strlen(text));
}

static lode_status_t append_header(lode_buffer_t *json, const lode_test_tensor_t *tensors,
                                   int64_t count) {
    int64_t offset = 0;
    LODE_TRY(lode_buffer_printf(json, "{\"__metadata__\":{\"format\":\"pt\"}"));
    for (int64_t i = 0; i < count; i++) {
        const lode_test_tensor_t *tensor = &tensors[i];
        int64_t end = offset + element_count(tensor) * dtype_bytes(tensor->dtype);
        LODE_TRY(lode_buffer_printf(json, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRId64,
                                    tensor->name, tensor->dtype, tensor->shape[0]));
        if (tensor->rank == 2)
            LODE_TRY(lode_buffer_printf(json, ",%" PRId64, tensor->shape[1]));
        LODE_TRY(
            lode_buffer_printf(json, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", offset, end));
        offset = end;
    }
    return lode_buffer_printf(json, "}");
}

lode_status_t lode_test_write_safetensors(const char *folder, const char *name,
                                          const lode_test_tensor_t *tensors, int64_t count,
                                          uint64_t seed) {
    lode_buffer_t json = {0}, file = {0};
    lode_status_t status;
    LODE_GUARD(status, append_header(&json, tensors, count), done);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)json.length >> (8 * i));
    LODE_GUARD(status, lode_buffer_append(&file, length, sizeof length), done);
    LODE_GUARD(status, lode_buffer_append(&file, json.data, json.length), done);
    for (int64_t i = 0; i < count; i++)
        LODE_GUARD(status, append_values(&file, &tensors[i], seed), done);
    status = write_file(folder, name, file.data, file.length);
done:
    lode_buffer_free(&json);
    lode_buffer_free(&file);
    return status;
}

lode_status_t lode_test_write_config(const char *folder, const lode_architecture_t *architecture) {
    const lode_architecture_t *a = architecture;
    lode_buffer_t json = {0};
    lode_status_t status = lode_buffer_printf(
        &json,
        "{\n \"architectures\": [\"LlamaForCausalLM\"],\n \"model_type\": \"llama\",\n"
        " \"hidden_act\": \"silu\",\n \"num_hidden_layers\": %" PRId64 ",\n"
        " \"hidden_size\": %" PRId64 ",\n \"intermediate_size\": %" PRId64 ",\n"
        " \"num_attention_heads\": %" PRId64 ",\n \"num_key_value_heads\": %" PRId64 ",\n"
        " \"head_dim\": %" PRId64 ",\n \"vocab_size\": %" PRId64 ",\n"
        " \"max_position_embeddings\": %" PRId64 ",\n \"rms_norm_eps\": %.17g,\n"
        " \"rope_theta\": %.17g,\n \"tie_word_embeddings\": %s",
        a->layers, a->hidden, a->intermediate, a->heads, a->kv_heads, a->head_dim, a->vocab,
        a->max_positions, a->norm_eps, a->rotary.theta, a->tied ? "true" : "false");
    const char *keys[2] = {"bos_token_id", "eos_token_id"};
    int32_t ids[2] = {a->bos, a->eos};
    for (int i = 0; status == LODE_OK && i < 2; i++)
        status = ids[i] < 0 ? lode_buffer_printf(&json, ",\n \"%s\": null", keys[i])
                            : lode_buffer_printf(&json, ",\n \"%s\": %" PRId32, keys[i], ids[i]);
    if (status == LODE_OK)
        status = lode_buffer_printf(&json, "\n}\n");
    if (status == LODE_OK)
        status = write_file(folder, "config.json", json.data, json.length);
    lode_buffer_free(&json);
    return status;
}

/* --- the list of tensors -------------------------------------------------------------------- */

/* Appends a tensor, a vector where `columns` is 0; `layer` < 0 for tensors outside the layers. */
static void add(lode_test_tensor_t **next, const char *dtype, int64_t layer, const char *name,
                int64_t rows, int64_t columns) {
    lode_test_tensor_t *tensor = (*next)++;
    if (layer < 0)
        snprintf(tensor->name, sizeof tensor->name, "%s", name);
    else
        snprintf(tensor->name, sizeof tensor->name, "model.layers.%" PRId64 ".%s", layer, name);
    tensor->dtype = dtype;
    tensor->rank = columns ? 2 : 1;
    tensor->shape[0] = rows;
    tensor->shape[1] = columns;
}

/* The names are spelled out here once more, so that the reader's tables are tested. */
lode_status_t lode_test_list_tensors(lode_test_tensor_t **tensors, int64_t *count,
                                     const lode_architecture_t *architecture, lode_dtype_t dtype) {
    const lode_architecture_t *a = architecture;
    const char *type = lode_dtype_name(dtype);
    int64_t d = a->hidden, m = a->intermediate;
    int64_t query = a->heads * a->head_dim, key_value = a->kv_heads * a->head_dim;
    LODE_TRY(LODE_NEW(tensors, 9 * a->layers + 7, "test tensors"));
    lode_test_tensor_t *next = *tensors;
    add(&next, type, -1, "model.embed_tokens.weight", a->vocab, d);
    for (int64_t l = 0; l < a->layers; l++) {
        add(&next, type, l, "input_layernorm.weight", d, 0);
        add(&next, type, l, "self_attn.q_proj.weight", query, d);
        add(&next, type, l, "self_attn.k_proj.weight", key_value, d);
        add(&next, type, l, "self_attn.v_proj.weight", key_value, d);
        add(&next, type, l, "self_attn.o_proj.weight", d, query);
        add(&next, type, l, "post_attention_layernorm.weight", d, 0);
        add(&next, type, l, "mlp.gate_proj.weight", m, d);
        add(&next, type, l, "mlp.up_proj.weight", m, d);
        add(&next, type, l, "mlp.down_proj.weight", d, m);
    }
    add(&next, type, -1, "model.norm.weight", d, 0);
    if (!a->tied)
        add(&next, type, -1, "lm_head.weight", a->vocab, d);
    *count = next - *tensors;
    return LODE_OK;
}

/* Writes shard `shard` of `shards`, which takes a contiguous part of the list, and its part of the
 * index. */
static lode_status_t write_shard(const char *folder, const lode_test_tensor_t *tensors,
                                 int64_t count, int shard, int shards, uint64_t seed,
                                 lode_buffer_t *index) {
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard + 1, shards);
    int64_t first = count * shard / shards, end = count * (shard + 1) / shards;
    for (int64_t i = first; i < end; i++)
        LODE_TRY(
            lode_buffer_printf(index, "%s  \"%s\": \"%s\"", i ? ",\n" : "", tensors[i].name, name));
    return lode_test_write_safetensors(folder, name, tensors + first, end - first, seed);
}

static lode_status_t write_sharded(const char *folder, const lode_test_tensor_t *tensors,
                                   int64_t count, int shards, uint64_t seed) {
    lode_buffer_t index = {0};
    lode_status_t status;
    LODE_GUARD(status, lode_buffer_printf(&index, "{\n \"metadata\": {},\n \"weight_map\": {\n"),
               done);
    for (int shard = 0; shard < shards; shard++)
        LODE_GUARD(status, write_shard(folder, tensors, count, shard, shards, seed, &index), done);
    LODE_GUARD(status, lode_buffer_printf(&index, "\n }\n}\n"), done);
    status = write_file(folder, "model.safetensors.index.json", index.data, index.length);
done:
    lode_buffer_free(&index);
    return status;
}

lode_status_t lode_test_write_checkpoint(const char *folder,
                                         const lode_architecture_t *architecture,
                                         lode_dtype_t dtype, int shards, uint64_t seed) {
    lode_test_tensor_t *tensors;
    int64_t count;
    LODE_TRY(lode_test_write_config(folder, architecture));
    LODE_TRY(lode_test_list_tensors(&tensors, &count, architecture, dtype));
    lode_status_t status;
    if (shards <= 1)
        status = lode_test_write_safetensors(folder, "model.safetensors", tensors, count, seed);
    else
        status = write_sharded(folder, tensors, count, shards, seed);
    free(tensors);
    return status;
}
