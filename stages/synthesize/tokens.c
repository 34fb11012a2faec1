#include "synthesize/tokens.h"

#include <jansson.h>
#include <stdbool.h>

static const char bos_name[] = "<s>", eos_name[] = "</s>";

/* Whether a byte stands for itself in GPT-2's alphabet; the others are moved above U+0100 in their
 * order. */
static bool stands_for_itself(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* UTF-8 of the letter that a byte is written as; moved: how many before it were moved. */
static json_t *letter_of(int byte, int moved) {
    const int point = stands_for_itself(byte) ? byte : 0x100 + moved;
    if (point < 0x80)
        return json_stringn((const char[]){(char)point}, 1);
    return json_stringn((const char[]){(char)(0xc0 | point >> 6), (char)(0x80 | (point & 0x3f))},
                        2);
}

/* The bytes take the lowest ids that are left. */
static json_t *make_vocabulary(int32_t bos, int32_t eos) {
    json_t *vocabulary = json_object();
    int32_t id = 0;
    int moved = 0;
    if (bos >= 0)
        json_object_set_new(vocabulary, bos_name, json_integer(bos));
    if (eos >= 0 && eos != bos)
        json_object_set_new(vocabulary, eos_name, json_integer(eos));
    for (int byte = 0; byte < 256; byte++) {
        while (id == bos || id == eos)
            id++;
        json_t *letter = letter_of(byte, moved);
        json_object_set_new(vocabulary, json_string_value(letter), json_integer(id++));
        json_decref(letter);
        moved += !stands_for_itself(byte);
    }
    return vocabulary;
}

static void add_special(json_t *list, const char *name, int32_t id) {
    json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)id,
                                          "content", name, "single_word", 0, "lstrip", 0, "rstrip",
                                          0, "normalized", 0, "special", 1));
}

static json_t *byte_level(void) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 1);
}

/* Puts BOS before a text. */
static json_t *make_template(int32_t bos) {
    return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}],"
                     " s:{s:{s:s, s:[i], s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", bos_name,
                     "type_id", 0, "Sequence", "id", "A", "type_id", 0, "pair", "Sequence", "id",
                     "A", "type_id", 0, "Sequence", "id", "B", "type_id", 1, "special_tokens",
                     bos_name, "id", bos_name, "ids", (int)bos, "tokens", bos_name);
}

lode_status_t lode_tokens_by_byte(char **out, const lode_architecture_t *architecture) {
    const int32_t bos = architecture->bos, eos = architecture->eos;
    const int special = (bos >= 0) + (eos >= 0 && eos != bos);
    *out = NULL;
    if (architecture->vocab < 256 + special)
        return LODE_OK;
    json_t *added = json_array();
    if (bos >= 0)
        add_special(added, bos_name, bos);
    if (eos >= 0 && eos != bos)
        add_special(added, eos_name, eos);
    json_t *root = json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:b, s:b, s:o, s:[]}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        "pre_tokenizer", byte_level(), "post_processor",
        bos >= 0 ? make_template(bos) : json_null(), "decoder", byte_level(), "model", "type",
        "BPE", "dropout", "unk_token", "fuse_unk", 0, "byte_fallback", 0, "vocab",
        make_vocabulary(bos, eos), "merges");
    *out = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return *out ? LODE_OK : lode_fail(LODE_ERR_MEMORY, "no memory for tokenizer.json");
}
