/* Checkpoint folders: synthetic ones, sound and broken, and the trained ones of the data folder. */
#include "testing/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "testing/checkpoint.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "testing/temporary.h"

static const lode_architecture_t small = {
    .layers = 3,
    .hidden = 16,
    .intermediate = 40,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 6,
    .vocab = 30,
    .max_positions = 64,
    .norm_eps = 1e-5,
    .rotary.theta = 10000.0,
    .bos = 1,
    .eos = 2,
};

static const char *write_small(lode_dtype_t dtype, int shards, bool tied) {
    const char *folder = lode_test_temporary();
    lode_architecture_t architecture = small;
    architecture.tied = tied;
    LODE_ASSERT_OK(lode_test_write_checkpoint(folder, &architecture, dtype, shards, 7));
    return folder;
}

/* A folder with config.json of `small` and a list of tensors to spoil. */
static const char *list_small(lode_test_tensor_t **tensors, int64_t *count) {
    const char *folder = lode_test_temporary();
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    LODE_ASSERT_OK(lode_test_list_tensors(tensors, count, &small, LODE_DTYPE_F32));
    return folder;
}

static lode_test_tensor_t *pick(lode_test_tensor_t *tensors, int64_t count, const char *name) {
    for (int64_t i = 0; i < count; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return &tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Writes the list as model.safetensors, frees it, and expects the folder to be refused. */
static void refuse_list(const char *folder, lode_test_tensor_t *tensors, int64_t count,
                        lode_status_t status, const char *part) {
    lode_checkpoint_t *checkpoint = (lode_checkpoint_t *)&count; /* must be overwritten */
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "model.safetensors", tensors, count, 7));
    free(tensors);
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, folder), status, part);
    assert_null(checkpoint);
    assert_non_null(strstr(lode_error_message(), folder));
}

static void refuse_folder(const char *folder, lode_status_t status, const char *part) {
    lode_checkpoint_t *checkpoint;
    LODE_ASSERT_FAILS(lode_checkpoint_open(&checkpoint, folder), status, part);
    assert_null(checkpoint);
    assert_non_null(strstr(lode_error_message(), folder));
}

static lode_tensor_info_t find_info(const lode_checkpoint_t *checkpoint, const char *name) {
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        if (strcmp(info.name, name) == 0)
            return info;
    }
    fail_msg("no tensor %s", name);
    return (lode_tensor_info_t){0};
}

static void check_tensor(lode_tensor_t tensor, lode_dtype_t dtype, int64_t rows, int64_t columns) {
    assert_non_null(tensor.data);
    assert_int_equal(tensor.dtype, dtype);
    assert_int_equal(tensor.rank, columns ? 2 : 1);
    assert_int_equal(tensor.shape[0], rows);
    assert_int_equal(tensor.shape[1], columns);
}

static void check_layer(lode_checkpoint_t *checkpoint, int64_t layer, lode_dtype_t dtype) {
    lode_layer_weights_t w;
    const lode_architecture_t *a = lode_checkpoint_architecture(checkpoint);
    int64_t d = a->hidden, m = a->intermediate, q = a->heads * a->head_dim;
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, layer, &w));
    check_tensor(w.attention_norm, dtype, d, 0);
    check_tensor(w.q, dtype, q, d);
    check_tensor(w.k, dtype, a->kv_heads * a->head_dim, d);
    check_tensor(w.v, dtype, a->kv_heads * a->head_dim, d);
    check_tensor(w.o, dtype, d, q);
    check_tensor(w.ffn_norm, dtype, d, 0);
    check_tensor(w.gate, dtype, m, d);
    check_tensor(w.up, dtype, m, d);
    check_tensor(w.down, dtype, d, m);
}

/* --- sound checkpoints ---------------------------------------------------------------------- */

static void reads_every_dtype_and_sharding(void **state) {
    (void)state;
    static const lode_dtype_t dtypes[] = {LODE_DTYPE_F32, LODE_DTYPE_F16, LODE_DTYPE_BF16};
    for (int i = 0; i < 12; i++) {
        lode_dtype_t dtype = dtypes[i % 3];
        bool tied = i / 3 % 2 != 0;
        int shards = i < 6 ? 1 : 4;
        lode_checkpoint_t *checkpoint;
        lode_tensor_t embedding, norm, head;
        LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, write_small(dtype, shards, tied)));
        assert_int_equal(lode_checkpoint_tensor_count(checkpoint), 29 + !tied);
        assert_int_equal(lode_checkpoint_file_count(checkpoint), shards == 1 ? 2 : 6);
        for (int64_t layer = 0; layer < 3; layer++)
            check_layer(checkpoint, layer, dtype);
        LODE_ASSERT_OK(lode_checkpoint_embedding(checkpoint, &embedding));
        LODE_ASSERT_OK(lode_checkpoint_final_norm(checkpoint, &norm));
        LODE_ASSERT_OK(lode_checkpoint_head(checkpoint, &head));
        check_tensor(embedding, dtype, 30, 16);
        check_tensor(norm, dtype, 16, 0);
        check_tensor(head, dtype, 30, 16);
        assert_int_equal(head.data == embedding.data, tied);
        int64_t bytes = lode_architecture_parameters(lode_checkpoint_architecture(checkpoint)) *
                        (int64_t)lode_dtype_size(dtype);
        assert_int_equal(lode_checkpoint_bytes_mapped_ever(checkpoint), bytes);
        lode_checkpoint_close(&checkpoint);
        assert_null(checkpoint);
    }
}

/* The same tensors, whatever file they lie in and whatever they are called. */
static void gives_the_same_bytes_from_any_sharding(void **state) {
    (void)state;
    lode_checkpoint_t *one, *many;
    lode_layer_weights_t a, b;
    LODE_ASSERT_OK(lode_checkpoint_open(&one, write_small(LODE_DTYPE_F16, 1, false)));
    LODE_ASSERT_OK(lode_checkpoint_open(&many, write_small(LODE_DTYPE_F16, 5, false)));
    for (int64_t layer = 0; layer < 3; layer++) {
        LODE_ASSERT_OK(lode_checkpoint_layer(one, layer, &a));
        LODE_ASSERT_OK(lode_checkpoint_layer(many, layer, &b));
        assert_memory_equal(a.down.data, b.down.data, 2 * 16 * 40);
        assert_memory_equal(a.q.data, b.q.data, 2 * 24 * 16);
        assert_memory_not_equal(a.gate.data, a.up.data, 2 * 40 * 16);
        assert_memory_not_equal(a.k.data, a.v.data, 2 * 12 * 16);
    }
    assert_int_equal(lode_checkpoint_tensor_count(one), lode_checkpoint_tensor_count(many));
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(one); i++) {
        lode_tensor_info_t x = lode_checkpoint_tensor_info(one, i);
        lode_tensor_info_t y = lode_checkpoint_tensor_info(many, i);
        assert_string_equal(x.name, y.name);
        assert_int_equal(x.owner, y.owner);
    }
    lode_checkpoint_close(&one);
    lode_checkpoint_close(&many);
}

static void maps_only_what_is_asked_for(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    lode_layer_weights_t weights;
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, write_small(LODE_DTYPE_BF16, 3, false)));
    assert_int_equal(lode_checkpoint_bytes_mapped_ever(checkpoint), 0);
    int64_t layer_bytes = 2 * lode_architecture_layer_parameters(&small);
    LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, 1, &weights));
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), layer_bytes);
    int64_t touched = 0;
    for (int64_t i = 0; i < lode_checkpoint_tensor_count(checkpoint); i++) {
        lode_tensor_info_t info = lode_checkpoint_tensor_info(checkpoint, i);
        assert_int_equal(info.mapped_ever, info.owner == 1);
        touched += info.mapped_ever ? info.bytes : 0;
    }
    assert_int_equal(touched, layer_bytes);
    lode_checkpoint_release_layer(checkpoint, 1);
    lode_checkpoint_release_layer(checkpoint, 1);
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), 0);
    check_layer(checkpoint, 1, LODE_DTYPE_BF16);
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), layer_bytes);
    assert_int_equal(lode_checkpoint_bytes_mapped_ever(checkpoint), layer_bytes);
    LODE_ASSERT_FAILS(lode_checkpoint_layer(checkpoint, 3, &weights), LODE_ERR_INTERNAL, "layer 3");
    LODE_ASSERT_FAILS(lode_checkpoint_layer(checkpoint, -1, &weights), LODE_ERR_INTERNAL,
                      "layer -1");
    assert_null(weights.q.data);
    lode_checkpoint_close(&checkpoint);
}

static void describes_tensors_and_files(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    const char *path, *folder = write_small(LODE_DTYPE_F32, 2, false);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    static const char *const names[] = {"config.json", "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    assert_int_equal(lode_checkpoint_file_count(checkpoint), 4);
    for (int i = 0; i < 4; i++) {
        path = lode_checkpoint_file_path(checkpoint, i);
        assert_memory_equal(path, folder, strlen(folder));
        assert_string_equal(path + strlen(folder) + 1, names[i]);
        assert_int_equal(access(path, R_OK), 0);
    }
    lode_tensor_info_t info = find_info(checkpoint, "model.layers.2.mlp.down_proj.weight");
    assert_int_equal(info.owner, 2);
    assert_string_equal(info.dtype, "F32");
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.shape[0], 16);
    assert_int_equal(info.shape[1], 40);
    assert_int_equal(info.bytes, 4 * 16 * 40);
    assert_string_equal(info.file, lode_checkpoint_file_path(checkpoint, 3));
    assert_int_equal(find_info(checkpoint, "model.embed_tokens.weight").owner,
                     LODE_OWNER_EMBEDDING);
    assert_int_equal(find_info(checkpoint, "model.norm.weight").owner, LODE_OWNER_FINAL_NORM);
    assert_int_equal(find_info(checkpoint, "lm_head.weight").owner, LODE_OWNER_HEAD);
    LODE_ASSERT_FAILS(lode_checkpoint_tokenizer(checkpoint, &path), LODE_ERR_INPUT,
                      "has no tokenizer.json");
    LODE_ASSERT_OK(lode_test_write_text(folder, "tokenizer.model", ""));
    LODE_ASSERT_FAILS(lode_checkpoint_tokenizer(checkpoint, &path), LODE_ERR_INPUT,
                      "save_pretrained");
    lode_checkpoint_close(&checkpoint);
    LODE_ASSERT_OK(lode_test_write_text(folder, "tokenizer.json", "{}"));
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    LODE_ASSERT_OK(lode_checkpoint_tokenizer(checkpoint, &path));
    assert_string_equal(path + strlen(folder), "/tokenizer.json");
    lode_checkpoint_close(&checkpoint);
}

static void tolerates_names_without_the_prefix(void **state) {
    (void)state;
    lode_test_tensor_t *tensors;
    int64_t count;
    lode_checkpoint_t *checkpoint;
    const char *folder = list_small(&tensors, &count);
    for (int64_t i = 0; i < count; i++)
        if (strncmp(tensors[i].name, "model.", 6) == 0)
            memmove(tensors[i].name, tensors[i].name + 6, strlen(tensors[i].name + 6) + 1);
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "model.safetensors", tensors, count, 7));
    free(tensors);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    assert_int_equal(find_info(checkpoint, "layers.2.mlp.up_proj.weight").owner, 2);
    check_layer(checkpoint, 2, LODE_DTYPE_F32);
    lode_checkpoint_close(&checkpoint);
}

/* Buffers of old exports and layers beyond the config; a head of its own is one too many for a tied
 * model, which is found where it is asked for. */
static void ignores_unused_tensors(void **state) {
    (void)state;
    lode_test_tensor_t *tensors;
    int64_t count;
    lode_checkpoint_t *checkpoint;
    const char *folder = list_small(&tensors, &count);
    lode_architecture_t tied = small;
    tied.tied = true;
    LODE_ASSERT_OK(lode_test_write_config(folder, &tied));
    tensors[count++] =
        (lode_test_tensor_t){.name = "model.layers.0.self_attn.rotary_emb.inv_freq", "I64", 1, {3}};
    tensors[count++] =
        (lode_test_tensor_t){.name = "model.layers.3.mlp.up_proj.weight", "F32", 2, {40, 16}};
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "model.safetensors", tensors, count, 7));
    free(tensors);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    lode_tensor_info_t info = find_info(checkpoint, "model.layers.0.self_attn.rotary_emb.inv_freq");
    assert_int_equal(info.owner, LODE_OWNER_UNUSED);
    assert_string_equal(info.dtype, "I64");
    assert_int_equal(find_info(checkpoint, "model.layers.3.mlp.up_proj.weight").owner,
                     LODE_OWNER_UNUSED);
    assert_int_equal(find_info(checkpoint, "lm_head.weight").owner, LODE_OWNER_UNUSED);
    lode_tensor_t head;
    LODE_ASSERT_FAILS(lode_checkpoint_head(checkpoint, &head), LODE_ERR_FORMAT,
                      "tensor \"lm_head.weight\" is not the \"model.embed_tokens.weight\" that "
                      "config.json makes the head; say \"tie_word_embeddings\": false");
    assert_null(head.data);
    lode_checkpoint_close(&checkpoint);
}

/* A tied matrix that is saved under the head's name alone. */
static void takes_a_tied_head_for_the_embedding(void **state) {
    (void)state;
    lode_test_tensor_t *tensors;
    int64_t count;
    lode_checkpoint_t *checkpoint;
    lode_tensor_t embedding, head;
    const char *folder = list_small(&tensors, &count);
    lode_architecture_t tied = small;
    tied.tied = true;
    LODE_ASSERT_OK(lode_test_write_config(folder, &tied));
    snprintf(pick(tensors, count, "model.embed_tokens.weight")->name, sizeof tensors[0].name,
             "something.else");
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "model.safetensors", tensors, count, 7));
    free(tensors);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    assert_int_equal(find_info(checkpoint, "lm_head.weight").owner, LODE_OWNER_EMBEDDING);
    LODE_ASSERT_OK(lode_checkpoint_embedding(checkpoint, &embedding));
    LODE_ASSERT_OK(lode_checkpoint_head(checkpoint, &head));
    assert_ptr_equal(head.data, embedding.data);
    assert_int_equal(head.shape[0], small.vocab);
    lode_checkpoint_close(&checkpoint);
}

/* --- broken checkpoints --------------------------------------------------------------------- */

static void names_what_a_folder_lacks(void **state) {
    (void)state;
    const char *folder = lode_test_temporary();
    char path[1024];
    snprintf(path, sizeof path, "%s/none", folder);
    refuse_folder(path, LODE_ERR_INPUT, "there is no such folder");
    refuse_folder(folder, LODE_ERR_INPUT, "config.json");
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    refuse_folder(folder, LODE_ERR_INPUT, "has neither model.safetensors nor");
    LODE_ASSERT_OK(lode_test_write_text(folder, "model.safetensors", "short"));
    refuse_folder(folder, LODE_ERR_FORMAT, "model.safetensors: has 5 bytes");
    LODE_ASSERT_OK(lode_test_write_text(folder, "config.json", "{\"model_type\":\"gpt9\"}"));
    refuse_folder(folder, LODE_ERR_UNSUPPORTED, "config.json: \"model_type\" is \"gpt9\"");
}

static void names_a_missing_tensor(void **state) {
    (void)state;
    static const char *const names[] = {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.2.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.2.mlp.down_proj.weight",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lode_test_tensor_t *tensors;
        int64_t count;
        char part[256];
        const char *folder = list_small(&tensors, &count);
        snprintf(pick(tensors, count, names[i])->name, sizeof tensors[0].name, "something.else");
        snprintf(part, sizeof part, "model.safetensors: has no tensor \"%s\"", names[i]);
        refuse_list(folder, tensors, count, LODE_ERR_FORMAT, part);
        bool head = strcmp(names[i], "lm_head.weight") == 0;
        assert_int_equal(strstr(lode_error_message(), "\"tie_word_embeddings\": true") != NULL,
                         head);
    }
}

static void says_that_weights_are_packed(void **state) {
    (void)state;
    static const char *const names[] = {"model.layers.1.self_attn.o_proj.qweight",
                                        "model.layers.2.mlp.down_proj.weight_packed"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lode_test_tensor_t *tensors;
        int64_t count;
        char whole[256];
        const char *folder = list_small(&tensors, &count);
        snprintf(whole, sizeof whole, "%.*sweight", (int)(strrchr(names[i], '.') + 1 - names[i]),
                 names[i]);
        snprintf(pick(tensors, count, whole)->name, sizeof tensors[0].name, "%s", names[i]);
        refuse_list(folder, tensors, count, LODE_ERR_UNSUPPORTED, "packed into integers");
        assert_non_null(strstr(lode_error_message(), whole));
    }
}

static void names_a_wrong_shape(void **state) {
    (void)state;
    lode_test_tensor_t *tensors;
    int64_t count;
    const char *folder = list_small(&tensors, &count);
    pick(tensors, count, "model.layers.1.mlp.gate_proj.weight")->shape[0] = 41;
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "tensor \"model.layers.1.mlp.gate_proj.weight\" has shape [41, 16], config.json "
                "makes it [40, 16]");
    folder = list_small(&tensors, &count);
    pick(tensors, count, "model.layers.2.mlp.up_proj.weight")->shape[1] = 17;
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "has shape [40, 17], config.json makes it [40, 16]");
    folder = list_small(&tensors, &count);
    lode_test_tensor_t *down = pick(tensors, count, "model.layers.0.mlp.down_proj.weight");
    down->shape[0] = 40; /* transposed */
    down->shape[1] = 16;
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "has shape [40, 16], config.json makes it "
                "[16, 40]");
    folder = list_small(&tensors, &count);
    lode_test_tensor_t *norm = pick(tensors, count, "model.norm.weight");
    norm->rank = 2;
    norm->shape[1] = 1;
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "has shape [16, 1], config.json makes it "
                "[16]");
    folder = list_small(&tensors, &count);
    pick(tensors, count, "lm_head.weight")->rank = 1;
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "has shape [30], config.json makes it "
                "[30, 16]");
}

static void names_a_wrong_dtype(void **state) {
    (void)state;
    lode_test_tensor_t *tensors;
    int64_t count;
    const char *folder = list_small(&tensors, &count);
    pick(tensors, count, "model.layers.1.self_attn.k_proj.weight")->dtype = "I8";
    refuse_list(folder, tensors, count, LODE_ERR_SHAPE,
                "tensor \"model.layers.1.self_attn.k_proj.weight\" has dtype I8; supported: F32, "
                "F16, BF16");
}

static void remove_file(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
}

static void names_missing_shards(void **state) {
    (void)state;
    const char *folder = write_small(LODE_DTYPE_F32, 7, false);
    remove_file(folder, "model-00003-of-00007.safetensors");
    refuse_folder(folder, LODE_ERR_INPUT,
                  "index.json: 1 of its 7 shards are not in the folder: "
                  "\"model-00003-of-00007.safetensors\";");
    for (int i = 4; i < 8; i++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-00007.safetensors", i);
        remove_file(folder, name);
    }
    refuse_folder(folder, LODE_ERR_INPUT, "\"model-00006-of-00007.safetensors\" …;");
}

static void refuses_an_index_that_leads_elsewhere(void **state) {
    (void)state;
    static const struct {
        const char *index, *part;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"../a.safetensors\"}}", "\"../a.safetensors\" is no plain name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "\"/etc/passwd\" is no plain name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "\"..\" is no plain name"},
        {"{\"weight_map\":{\"a\":\"\"}}", "\"\" is no plain name"},
        {"{\"weight_map\":{\"a\":3}}", "\"weight_map\" must map"},
        {"{\"weight_map\":{\"a\":\"\\u001b\"}}", "\"weight_map\" must map"},
        {"{\"weight_map\":{}}", "\"weight_map\" is missing, empty or no object"},
        {"{\"weight_map\":[\"a\"]}", "\"weight_map\" is missing, empty or no object"},
        {"{}", "\"weight_map\" is missing, empty or no object"},
        {"{\"weight_map\"", "index.json: line 1"},
        {"[]", "index.json: must be a JSON object"},
    };
    const char *folder = lode_test_temporary();
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        LODE_ASSERT_OK(
            lode_test_write_text(folder, "model.safetensors.index.json", cases[i].index));
        refuse_folder(folder, LODE_ERR_FORMAT, cases[i].part);
    }
}

/* Shards a and b: the index swaps two tensors, then both files hold the same one. */
static void refuses_an_index_of_other_shards(void **state) {
    (void)state;
    static const lode_test_tensor_t tensors[] = {{"x", "F32", 1, {4}}, {"y", "F32", 1, {4}}};
    const char *folder = lode_test_temporary();
    LODE_ASSERT_OK(lode_test_write_config(folder, &small));
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "a.safetensors", tensors, 1, 7));
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "b.safetensors", tensors + 1, 1, 7));
    LODE_ASSERT_OK(
        lode_test_write_text(folder, "model.safetensors.index.json",
                             "{\"weight_map\":{\"y\":\"a.safetensors\",\"x\":\"b.safetensors\"}}"));
    refuse_folder(folder, LODE_ERR_FORMAT, "tensor \"y\" is not in ");
    LODE_ASSERT_OK(
        lode_test_write_text(folder, "model.safetensors.index.json",
                             "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}}"));
    refuse_folder(folder, LODE_ERR_FORMAT,
                  "index.json: has no tensor \"model.embed_tokens.weight\"");
    LODE_ASSERT_OK(lode_test_write_safetensors(folder, "b.safetensors", tensors, 2, 7));
    refuse_folder(folder, LODE_ERR_FORMAT, "a.safetensors: holds tensor \"x\", and so does ");
    LODE_ASSERT_OK(lode_test_write_text(folder, "b.safetensors", "nonsense, not safetensors"));
    refuse_folder(folder, LODE_ERR_FORMAT, "b.safetensors: the length field");
}

static void prefers_the_single_file(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    const char *folder = write_small(LODE_DTYPE_F32, 1, false);
    LODE_ASSERT_OK(lode_test_write_text(folder, "model.safetensors.index.json", "nonsense"));
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    assert_int_equal(lode_checkpoint_file_count(checkpoint), 2);
    lode_checkpoint_close(&checkpoint);
}

/* A weight file cut while the run has it open: the layer fails as a whole. */
static void maps_no_part_of_a_layer(void **state) {
    (void)state;
    lode_checkpoint_t *checkpoint;
    lode_layer_weights_t weights;
    const char *folder = write_small(LODE_DTYPE_F32, 5, false);
    LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
    lode_tensor_info_t first = find_info(checkpoint, "model.layers.0.input_layernorm.weight");
    lode_tensor_info_t last = find_info(checkpoint, "model.layers.0.mlp.down_proj.weight");
    assert_string_not_equal(first.file, last.file);
    assert_int_equal(truncate(last.file, 10), 0);
    LODE_ASSERT_FAILS(lode_checkpoint_layer(checkpoint, 0, &weights), LODE_ERR_IO, last.file);
    assert_null(weights.attention_norm.data);
    assert_int_equal(lode_checkpoint_bytes_mapped(checkpoint), 0);
    assert_true(lode_checkpoint_bytes_mapped_ever(checkpoint) > 0);
    lode_checkpoint_close(&checkpoint);
}

/* --- trained checkpoints -------------------------------------------------------------------- */

static float first_element(lode_tensor_t tensor) {
    uint32_t bits = 0;
    float value;
    if (tensor.dtype == LODE_DTYPE_F32)
        memcpy(&bits, tensor.data, 4);
    else
        memcpy((char *)&bits + 2, tensor.data, 2); /* bfloat16 is the upper half */
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* First elements of three tensors as the files' bytes have them, read without this library. */
static void reads_trained_checkpoints(void **state) {
    (void)state;
    static const struct {
        const char *folder;
        int64_t layers, hidden, intermediate, vocab, parameters;
        bool tied;
        lode_dtype_t dtype;
        float embedding, last_down, head;
    } cases[] = {
        {"models/stories260k", 5, 64, 172, 512, 260032, true, LODE_DTYPE_F32, -0.294748783f,
         -0.0479126498f, -0.294748783f},
        {"models/babyllama105", 5, 128, 352, 105, 936448, true, LODE_DTYPE_F32, 0.0435857587f,
         -0.00820749626f, 0.0435857587f},
        {"models/books3m", 6, 192, 576, 2048, 3369408, false, LODE_DTYPE_BF16, -0.0255126953f,
         0.102050781f, -0.28125f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path, *folder = lode_test_data(cases[i].folder);
        if (!folder)
            skip();
        lode_checkpoint_t *checkpoint;
        LODE_ASSERT_OK(lode_checkpoint_open(&checkpoint, folder));
        const lode_architecture_t *a = lode_checkpoint_architecture(checkpoint);
        assert_int_equal(a->layers, cases[i].layers);
        assert_int_equal(a->hidden, cases[i].hidden);
        assert_int_equal(a->intermediate, cases[i].intermediate);
        assert_int_equal(a->vocab, cases[i].vocab);
        assert_int_equal(a->tied, cases[i].tied);
        assert_int_equal(lode_architecture_parameters(a), cases[i].parameters);
        for (int64_t layer = 0; layer < a->layers; layer++)
            check_layer(checkpoint, layer, cases[i].dtype);
        lode_layer_weights_t last;
        lode_tensor_t embedding, norm, head;
        LODE_ASSERT_OK(lode_checkpoint_layer(checkpoint, a->layers - 1, &last));
        LODE_ASSERT_OK(lode_checkpoint_embedding(checkpoint, &embedding));
        LODE_ASSERT_OK(lode_checkpoint_final_norm(checkpoint, &norm));
        LODE_ASSERT_OK(lode_checkpoint_head(checkpoint, &head));
        assert_true(first_element(embedding) == cases[i].embedding);
        assert_true(first_element(last.down) == cases[i].last_down);
        assert_true(first_element(head) == cases[i].head);
        assert_int_equal(lode_checkpoint_bytes_mapped_ever(checkpoint),
                         cases[i].parameters * (int64_t)lode_dtype_size(cases[i].dtype));
        LODE_ASSERT_OK(lode_checkpoint_tokenizer(checkpoint, &path));
        lode_checkpoint_close(&checkpoint);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_dtype_and_sharding),
        cmocka_unit_test(gives_the_same_bytes_from_any_sharding),
        cmocka_unit_test(maps_only_what_is_asked_for),
        cmocka_unit_test(describes_tensors_and_files),
        cmocka_unit_test(tolerates_names_without_the_prefix),
        cmocka_unit_test(ignores_unused_tensors),
        cmocka_unit_test(takes_a_tied_head_for_the_embedding),
        cmocka_unit_test(names_what_a_folder_lacks),
        cmocka_unit_test(names_a_missing_tensor),
        cmocka_unit_test(says_that_weights_are_packed),
        cmocka_unit_test(names_a_wrong_shape),
        cmocka_unit_test(names_a_wrong_dtype),
        cmocka_unit_test(names_missing_shards),
        cmocka_unit_test(refuses_an_index_that_leads_elsewhere),
        cmocka_unit_test(refuses_an_index_of_other_shards),
        cmocka_unit_test(prefers_the_single_file),
        cmocka_unit_test(maps_no_part_of_a_layer),
        cmocka_unit_test(reads_trained_checkpoints),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
