#include "text/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/bpe_encode.h"
#include "text/field.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

enum { MOST_SPECIAL = 64 };

/* Special tokens on one side of the text, in order. */
typedef struct side {
    int32_t ids[MOST_SPECIAL];
    int count;
} side_t;

struct lode_tokenizer {
    char *name;
    lode_normalizer_t *normalizer;
    lode_pretokenizer_t *pretokenizer;
    lode_bpe_t *bpe;
    lode_added_t *added;
    bool has_template;
    side_t before, behind;
    int32_t vocab_size;
};

/* --- the post-processor --------------------------------------------------------------------- */

static lode_status_t append_special(side_t *side, const json_t *specials, const char *token,
                                    const char *where) {
    json_t *entry, *ids;
    char part[640];
    snprintf(part, sizeof part, "%.500s: special token \"%.100s\"", where, token);
    LODE_TRY(lode_field_get(&entry, specials, token, JSON_OBJECT, where));
    LODE_TRY(lode_field_get(&ids, entry, "ids", JSON_ARRAY, part));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        if (side->count == MOST_SPECIAL)
            return lode_fail(LODE_ERR_UNSUPPORTED, "%s: more than %d special tokens", where,
                             MOST_SPECIAL);
        LODE_TRY(lode_field_id(&side->ids[side->count++], json_array_get(ids, i), token, part));
    }
    return LODE_OK;
}

/* One piece of a template, a special token or the place of the text. */
static lode_status_t parse_piece(side_t *before, side_t *behind, bool *seen, const json_t *piece,
                                 const json_t *specials, const char *where) {
    const char *id;
    const json_t *special = json_object_get(piece, "SpecialToken");
    const json_t *sequence = json_object_get(piece, "Sequence");
    if (!special == !sequence)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: every piece of \"single\" must be a SpecialToken or a Sequence",
                         where);
    LODE_TRY(lode_field_expect(special ? special : sequence, JSON_OBJECT, "a piece", where));
    LODE_TRY(lode_field_string(&id, NULL, special ? special : sequence, "id", where));
    if (special)
        return append_special(*seen ? behind : before, specials, id, where);
    if (strcmp(id, "A") != 0 || *seen)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: \"single\" must have the text, \"A\", once and no other", where);
    *seen = true;
    return LODE_OK;
}

static lode_status_t parse_template(lode_tokenizer_t *tokenizer, const json_t *json,
                                    const char *where) {
    json_t *single, *specials;
    if (tokenizer->has_template)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: more than one TemplateProcessing", where);
    tokenizer->has_template = true;
    LODE_TRY(lode_field_get(&single, json, "single", JSON_ARRAY, where));
    LODE_TRY(lode_field_get(&specials, json, "special_tokens", JSON_OBJECT, where));
    bool seen = false;
    for (size_t i = 0; i < json_array_size(single); i++)
        LODE_TRY(parse_piece(&tokenizer->before, &tokenizer->behind, &seen,
                             json_array_get(single, i), specials, where));
    if (!seen)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: \"single\" must have the text, \"A\", once and no other", where);
    return LODE_OK;
}

static lode_status_t parse_processor(lode_tokenizer_t *tokenizer, const json_t *json, int depth,
                                     const char *where) {
    const char *type;
    LODE_TRY(lode_field_expect(json, JSON_OBJECT, "it", where));
    LODE_TRY(lode_field_string(&type, NULL, json, "type", where));
    if (strcmp(type, "TemplateProcessing") == 0)
        return parse_template(tokenizer, json, where);
    if (strcmp(type, "ByteLevel") == 0)
        return LODE_OK; /* trims offsets, which nobody asks for */
    if (strcmp(type, "Sequence") != 0)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: type \"%.100s\" is not implemented", where,
                         type);
    if (depth == MOST_SPECIAL)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: sequences nested too deep", where);
    json_t *list;
    LODE_TRY(lode_field_get(&list, json, "processors", JSON_ARRAY, where));
    for (size_t i = 0; i < json_array_size(list); i++)
        LODE_TRY(parse_processor(tokenizer, json_array_get(list, i), depth + 1, where));
    return LODE_OK;
}

/* Special tokens must be tokens: an id beyond the vocabulary would be read out of the embedding. */
static lode_status_t check_specials(const lode_tokenizer_t *tokenizer, const side_t *side,
                                    const char *where) {
    for (int i = 0; i < side->count; i++)
        if (!lode_added_token(tokenizer->added, side->ids[i]) &&
            !lode_bpe_token(tokenizer->bpe, side->ids[i]))
            return lode_fail(LODE_ERR_FORMAT, "%s: no token has the id %d", where, side->ids[i]);
    return LODE_OK;
}

/* --- the file ------------------------------------------------------------------------------- */

static lode_status_t parse_parts(lode_tokenizer_t *tokenizer, const json_t *json,
                                 const char *name) {
    json_t *version, *model, *post;
    char where[512];
    snprintf(where, sizeof where, "%.490s: post_processor", name);
    LODE_TRY(lode_field_expect(json, JSON_OBJECT, "the file", name));
    LODE_TRY(lode_field_find(&version, json, "version", JSON_STRING, name));
    if (version && strcmp(json_string_value(version), "1.0") != 0)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: version \"%.100s\" is not implemented", name,
                         json_string_value(version));
    LODE_TRY(lode_field_get(&model, json, "model", JSON_OBJECT, name));
    LODE_TRY(
        lode_normalizer_parse(&tokenizer->normalizer, json_object_get(json, "normalizer"), name));
    LODE_TRY(lode_pretokenizer_parse(&tokenizer->pretokenizer,
                                     json_object_get(json, "pre_tokenizer"), name));
    LODE_TRY(lode_bpe_parse(&tokenizer->bpe, model,
                            lode_pretokenizer_byte_level(tokenizer->pretokenizer), name));
    LODE_TRY(lode_added_parse(&tokenizer->added, json_object_get(json, "added_tokens"),
                              tokenizer->bpe, tokenizer->normalizer, name));
    LODE_TRY(lode_field_find(&post, json, "post_processor", JSON_OBJECT, name));
    if (post)
        LODE_TRY(parse_processor(tokenizer, post, 0, where));
    LODE_TRY(check_specials(tokenizer, &tokenizer->before, where));
    LODE_TRY(check_specials(tokenizer, &tokenizer->behind, where));
    int32_t own = lode_bpe_size(tokenizer->bpe), added = lode_added_size(tokenizer->added);
    tokenizer->vocab_size = own > added ? own : added;
    return lode_strdup(&tokenizer->name, name);
}

lode_status_t lode_tokenizer_parse(lode_tokenizer_t **out, const char *json, size_t size,
                                   const char *name) {
    *out = NULL;
    json_error_t problem;
    LODE_TRY(lode_utf8_check_start(json, size, name));
    json_t *root = json_loadb(json, size, JSON_ALLOW_NUL, &problem);
    if (!root)
        return lode_fail(LODE_ERR_FORMAT, "%s: is not JSON: %s (line %d, column %d)", name,
                         problem.text, problem.line, problem.column);
    lode_tokenizer_t *tokenizer = NULL;
    lode_status_t status = LODE_NEW(&tokenizer, 1, "tokenizer");
    if (status == LODE_OK)
        status = parse_parts(tokenizer, root, name);
    json_decref(root);
    if (status != LODE_OK)
        lode_tokenizer_destroy(&tokenizer);
    *out = tokenizer;
    return status;
}

lode_status_t lode_tokenizer_load(lode_tokenizer_t **out, const char *path) {
    *out = NULL;
    char *json = NULL;
    size_t size = 0;
    LODE_TRY(lode_file_read(&json, &size, path));
    lode_status_t status = lode_tokenizer_parse(out, json, size, path);
    free(json);
    return status;
}

void lode_tokenizer_destroy(lode_tokenizer_t **tokenizer) {
    if (!*tokenizer)
        return;
    lode_normalizer_destroy(&(*tokenizer)->normalizer);
    lode_pretokenizer_destroy(&(*tokenizer)->pretokenizer);
    lode_bpe_destroy(&(*tokenizer)->bpe);
    lode_added_destroy(&(*tokenizer)->added);
    free((*tokenizer)->name);
    free(*tokenizer);
    *tokenizer = NULL;
}

/* --- encoding ------------------------------------------------------------------------------- */

struct lode_encoder {
    const lode_tokenizer_t *tokenizer;
    lode_bpe_encoder_t *bpe;
    lode_buffer_t text;             /* a stretch, normalized, and pieces that were rewritten */
    lode_buffer_t stretch, scratch; /* for the normalizer */
    bool joined;                    /* the next part goes on where this one ends */
};

static lode_status_t normalize(lode_encoder_t *encoder, const char *text, size_t length,
                               bool continued) {
    encoder->stretch.length = 0;
    LODE_TRY(lode_buffer_append(&encoder->stretch, text, length));
    LODE_TRY(lode_normalizer_apply(encoder->tokenizer->normalizer, &encoder->stretch,
                                   &encoder->scratch, continued));
    return lode_buffer_append(&encoder->text, encoder->stretch.data, encoder->stretch.length);
}

/* A stretch of the text between added tokens: normalize, look for the tokens that are found in
 * normalized text only, cut and encode what is between those. `raw` is a stretch of `text`. */
static lode_status_t encode_stretch(lode_encoder_t *encoder, const char *text, lode_stretch_t raw) {
    const lode_tokenizer_t *tokenizer = encoder->tokenizer;
    encoder->text.length = 0;
    LODE_TRY(normalize(encoder, text + raw.start, raw.own, raw.continued));
    const size_t own = encoder->text.length;
    if (raw.own < raw.length)
        LODE_TRY(normalize(encoder, text + raw.start + raw.own, raw.length - raw.own, true));
    const size_t size = encoder->text.length;
    lode_added_walk_t walk = {.added = tokenizer->added, .set = LODE_ADDED_NORMALIZED};
    while (lode_added_walk_next(&walk, encoder->text.data, size)) {
        if (raw.own < raw.length && walk.start >= own)
            break;
        if (walk.id >= 0) {
            LODE_TRY(lode_bpe_append(encoder->bpe, walk.id));
            encoder->joined &= walk.end != own || raw.own == raw.length;
            continue;
        }
        const lode_stretch_t stretch = {.start = walk.start,
                                        .length = walk.end - walk.start,
                                        .own = (walk.end < own ? walk.end : own) - walk.start,
                                        .first = raw.first && walk.start == 0,
                                        .continued = raw.continued && walk.start == 0,
                                        .open = raw.open && walk.end == size};
        LODE_TRY(lode_pretokenizer_run(tokenizer->pretokenizer, &encoder->text, stretch,
                                       encoder->bpe, &encoder->joined));
    }
    return LODE_OK;
}

static lode_status_t append_side(lode_encoder_t *encoder, const side_t *side, bool add_special) {
    for (int i = 0; add_special && i < side->count; i++)
        LODE_TRY(lode_bpe_append(encoder->bpe, side->ids[i]));
    return LODE_OK;
}

static lode_status_t encode(lode_encoder_t *encoder, const lode_text_part_t *part,
                            bool add_special) {
    const lode_tokenizer_t *tokenizer = encoder->tokenizer;
    const bool ends = part->last && part->visible == part->length;
    LODE_TRY(lode_utf8_check(part->text, part->visible, "text to tokenise"));
    LODE_TRY(append_side(encoder, &tokenizer->before, add_special && part->first));
    lode_added_walk_t walk = {.added = tokenizer->added, .set = LODE_ADDED_RAW};
    while (lode_added_walk_next(&walk, part->text, part->visible)) {
        if (walk.start >= part->length)
            break;
        if (walk.id >= 0) {
            LODE_TRY(lode_bpe_append(encoder->bpe, walk.id));
            encoder->joined &= walk.end != part->length || ends;
            continue;
        }
        const size_t own = walk.end < part->length ? walk.end : part->length;
        const lode_stretch_t stretch = {.start = walk.start,
                                        .length = walk.end - walk.start,
                                        .own = own - walk.start,
                                        .first = part->first && walk.start == 0,
                                        .continued = !part->first && walk.start == 0,
                                        .open = walk.end == part->visible && !part->last &&
                                                own < walk.end};
        LODE_TRY(encode_stretch(encoder, part->text, stretch));
    }
    return append_side(encoder, &tokenizer->behind, add_special && ends);
}

lode_status_t lode_encoder_create(lode_encoder_t **encoder, const lode_tokenizer_t *tokenizer,
                                  size_t expected) {
    *encoder = NULL;
    lode_encoder_t *made = NULL;
    LODE_TRY(LODE_NEW(&made, 1, "encoder"));
    made->tokenizer = tokenizer;
    lode_status_t status = lode_bpe_encoder_create(&made->bpe, tokenizer->bpe, expected);
    if (status != LODE_OK)
        lode_encoder_destroy(&made);
    *encoder = made;
    return status;
}

void lode_encoder_destroy(lode_encoder_t **encoder) {
    if (!*encoder)
        return;
    lode_bpe_encoder_destroy(&(*encoder)->bpe);
    lode_buffer_free(&(*encoder)->text);
    lode_buffer_free(&(*encoder)->stretch);
    lode_buffer_free(&(*encoder)->scratch);
    free(*encoder);
    *encoder = NULL;
}

lode_status_t lode_encoder_encode(lode_encoder_t *encoder, const lode_text_part_t *part,
                                  bool add_special, const int32_t **ids, int64_t *count,
                                  bool *joined) {
    *ids = NULL;
    *count = 0;
    *joined = false;
    lode_bpe_clear(encoder->bpe);
    encoder->joined = true;
    lode_status_t status = encode(encoder, part, add_special);
    if (status != LODE_OK)
        return lode_fail_context(status, "%s", encoder->tokenizer->name);
    *ids = lode_bpe_ids(encoder->bpe, count);
    *joined = encoder->joined;
    return LODE_OK;
}

lode_status_t lode_tokenizer_encode(const lode_tokenizer_t *tokenizer, const char *text,
                                    size_t length, bool add_special, int32_t **ids,
                                    int64_t *count) {
    const lode_text_part_t all = {
        .text = text, .length = length, .visible = length, .first = true, .last = true};
    lode_encoder_t *encoder;
    const int32_t *made;
    bool joined;
    *ids = NULL;
    *count = 0;
    LODE_TRY(lode_encoder_create(&encoder, tokenizer, length));
    lode_status_t status = lode_encoder_encode(encoder, &all, add_special, &made, count, &joined);
    if (status == LODE_OK && *count > 0)
        status = LODE_NEW_RAW(ids, *count, "token ids");
    if (status == LODE_OK && *count > 0)
        memcpy(*ids, made, (size_t)*count * sizeof **ids);
    else
        *count = 0;
    lode_encoder_destroy(&encoder);
    return status;
}

/* --- parts ---------------------------------------------------------------------------------- */

enum {
    CUT_REACH = 64 << 10, /* how far a cut is looked for */
    CUT_TRIES = 64,       /* and how many places are tried */
    CUT_BEFORE = 512,     /* bytes before a place that it is tried on */
    CUT_BEHIND = 256      /* bytes behind it that are visible */
};

static bool is_ascii(char c) {
    return (unsigned char)c < 0x80;
}

/* The byte that a character is before or behind a cut, in normalized text; −1 where it is none. */
static lode_status_t normal_byte(lode_encoder_t *encoder, int *byte, char c, bool last) {
    encoder->text.length = 0;
    LODE_TRY(normalize(encoder, &c, 1, true));
    const size_t length = encoder->text.length;
    *byte = length ? (unsigned char)encoder->text.data[last ? length - 1 : 0] : -1;
    return LODE_OK;
}

/* Whether added tokens and normal forms of text[0 … length) are the same on both sides of offset
 * `at` whether it is cut there or not. */
static lode_status_t is_place(lode_encoder_t *encoder, bool *place, const char *text, size_t length,
                              size_t at) {
    const lode_added_t *added = encoder->tokenizer->added;
    *place = false;
    if (at == 0 || at >= length || !is_ascii(text[at - 1]) || !is_ascii(text[at]))
        return LODE_OK;
    const char left = text[at - 1], right = text[at];
    if (at + 1 < length && !is_ascii(text[at + 1]))
        return LODE_OK;
    if (lode_utf8_is_space((uint32_t)left) && lode_utf8_is_space((uint32_t)right))
        return LODE_OK;
    int before, behind;
    LODE_TRY(normal_byte(encoder, &before, left, true));
    LODE_TRY(normal_byte(encoder, &behind, right, false));
    *place = before >= 0 && behind >= 0 &&
             lode_added_divides(added, LODE_ADDED_RAW, (unsigned char)left, (unsigned char)right) &&
             lode_added_divides(added, LODE_ADDED_NORMALIZED, (unsigned char)before,
                                (unsigned char)behind);
    return LODE_OK;
}

/* The first place at or behind `from`; `length` where there is none within reach. */
static lode_status_t next_place(lode_encoder_t *encoder, size_t *place, const char *text,
                                size_t length, size_t from) {
    const size_t most = length - from < CUT_REACH ? length : from + CUT_REACH;
    bool found = false;
    for (*place = from; *place < most; ++*place) {
        LODE_TRY(is_place(encoder, &found, text, length, *place));
        if (found)
            return LODE_OK;
    }
    *place = length;
    return LODE_OK;
}

/* Whether a piece ends at `at` when the text is read from `start`, a place before. */
static lode_status_t try_cut(lode_encoder_t *encoder, bool *holds, const char *text, size_t length,
                             size_t start, size_t at, size_t visible) {
    const lode_text_part_t part = {.text = text + start,
                                   .length = at - start,
                                   .visible = visible - start,
                                   .first = start == 0,
                                   .last = visible == length};
    const int32_t *ids;
    int64_t count;
    lode_status_t status = lode_encoder_encode(encoder, &part, false, &ids, &count, holds);
    if (status == LODE_ERR_MEMORY)
        return status;
    *holds &= status == LODE_OK; /* the encoding itself will tell what is wrong */
    return LODE_OK;
}

static lode_status_t find_cut(lode_encoder_t *encoder, bool *found, const char *text, size_t length,
                              size_t from, size_t *cut, size_t *visible) {
    size_t start = 0, at = from;
    if (from > CUT_BEFORE)
        LODE_TRY(next_place(encoder, &start, text, length, from - CUT_BEFORE));
    if (start >= at)
        at = start + 1;
    if (at >= length)
        return LODE_OK;
    for (int tries = 0; tries < CUT_TRIES && !*found; tries++) {
        LODE_TRY(next_place(encoder, &at, text, length, at));
        if (at >= length || at - from >= CUT_REACH)
            return LODE_OK;
        size_t end = length;
        if (length - at > CUT_BEHIND)
            LODE_TRY(next_place(encoder, &end, text, length, at + CUT_BEHIND));
        LODE_TRY(try_cut(encoder, found, text, length, start, at, end));
        if (*found) {
            *cut = at;
            *visible = end;
        }
        at++;
    }
    return LODE_OK;
}

lode_status_t lode_tokenizer_find_cut(const lode_tokenizer_t *tokenizer, bool *found,
                                      const char *text, size_t length, size_t from, size_t *cut,
                                      size_t *visible) {
    lode_encoder_t *encoder;
    *found = false;
    if (!lode_normalizer_divisible(tokenizer->normalizer) ||
        !lode_pretokenizer_divisible(tokenizer->pretokenizer))
        return LODE_OK;
    LODE_TRY(lode_encoder_create(&encoder, tokenizer, 0));
    lode_status_t status = find_cut(encoder, found, text, length, from, cut, visible);
    lode_encoder_destroy(&encoder);
    return status;
}

/* --- what is asked of it -------------------------------------------------------------------- */

int32_t lode_tokenizer_vocab_size(const lode_tokenizer_t *tokenizer) {
    return tokenizer->vocab_size;
}

bool lode_tokenizer_adds_bos(const lode_tokenizer_t *tokenizer) {
    return tokenizer->before.count > 0;
}

bool lode_tokenizer_bos(const lode_tokenizer_t *tokenizer, int32_t *id) {
    *id = lode_tokenizer_adds_bos(tokenizer) ? tokenizer->before.ids[0] : -1;
    return *id >= 0;
}

lode_status_t lode_tokenizer_token(const lode_tokenizer_t *tokenizer, int32_t id,
                                   const char **text) {
    *text = lode_added_token(tokenizer->added, id);
    if (!*text)
        *text = lode_bpe_token(tokenizer->bpe, id);
    if (*text)
        return LODE_OK;
    *text = "";
    return lode_fail(LODE_ERR_INPUT, "%s: no token has the id %d", tokenizer->name, id);
}
