#include "text/added.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/lookup.h"
#include "text/field.h"
#include "text/utf8.h"

enum { LONGEST_TOKEN = 4096 }; /* bounds the search at one place of the text */

typedef struct token {
    char *content;
    int32_t id, order; /* order: in the file */
    bool single_word, lstrip, rstrip, normalized;
} token_t;

/* A trie whose edges are in a hash table: (node, byte) → node. Node 0 is the root. */
typedef struct trie {
    lode_lookup_t edges;
    int32_t *tokens; /* [nodes] index of the token that ends here, −1 */
    int32_t nodes;
    bool starts[256];                       /* whether any token starts with the byte */
    bool looks_left[256], looks_right[256]; /* and one that starts, ends so looks beyond itself */
    uint64_t neighbours[256][4]; /* bit b of row a: some token has the byte b behind the byte a */
} trie_t;

struct lode_added {
    token_t *tokens; /* [count] */
    int32_t count, size;
    trie_t tries[2]; /* by lode_added_set_t */
};

/* --- the trie ------------------------------------------------------------------------------- */

static uint64_t make_edge(int32_t node, char byte) {
    return (uint64_t)node << 8 | (unsigned char)byte;
}

static lode_status_t trie_allocate(trie_t *trie, uint64_t bytes) {
    LODE_TRY(lode_lookup_reserve(&trie->edges, (int64_t)bytes, "added tokens"));
    LODE_TRY(LODE_NEW_RAW(&trie->tokens, (int64_t)bytes + 1, "added tokens"));
    for (uint64_t i = 0; i <= bytes; i++)
        trie->tokens[i] = -1;
    trie->nodes = 1;
    return LODE_OK;
}

static void trie_free(trie_t *trie) {
    lode_lookup_free(&trie->edges);
    free(trie->tokens);
}

/* Adds a pattern; *twin is the token that has it already, −1 if none. */
static lode_status_t trie_add(trie_t *trie, int32_t *twin, const char *pattern, size_t length,
                              int32_t token) {
    int32_t node = 0;
    trie->starts[(unsigned char)pattern[0]] = true;
    for (size_t i = 0; i < length; i++) {
        const unsigned char byte = (unsigned char)pattern[i];
        if (i > 0)
            trie->neighbours[(unsigned char)pattern[i - 1]][byte / 64] |= UINT64_C(1) << byte % 64;
        const uint64_t edge = make_edge(node, pattern[i]);
        node = (int32_t)lode_lookup_find(&trie->edges, edge);
        if (node < 0) {
            node = trie->nodes++;
            LODE_TRY(lode_lookup_add(&trie->edges, edge, node, "added tokens"));
        }
    }
    *twin = trie->tokens[node];
    if (*twin < 0)
        trie->tokens[node] = token;
    return LODE_OK;
}

/* The longest token at text[at], −1 if none; *end is where it ends. */
static int32_t trie_match(const trie_t *trie, const char *text, size_t at, size_t length,
                          size_t *end) {
    int32_t node = 0, found = -1;
    for (size_t i = at; i < length; i++) {
        node = (int32_t)lode_lookup_find(&trie->edges, make_edge(node, text[i]));
        if (node < 0)
            break;
        if (trie->tokens[node] >= 0) {
            found = trie->tokens[node];
            *end = i + 1;
        }
    }
    return found;
}

/* --- parsing -------------------------------------------------------------------------------- */

static lode_status_t parse_token(lode_added_t *added, const json_t *json, const char *where) {
    const char *content;
    size_t length;
    LODE_TRY(lode_field_expect(json, JSON_OBJECT, "an entry", where));
    LODE_TRY(lode_field_string(&content, &length, json, "content", where));
    if (length == 0)
        return LODE_OK; /* the reference leaves these out */
    if (length > LONGEST_TOKEN)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: a token of %zu bytes; %d are implemented",
                         where, length, LONGEST_TOKEN);
    token_t *token = &added->tokens[added->count];
    token->order = added->count++;
    LODE_TRY(lode_field_id(&token->id, json_object_get(json, "id"), content, where));
    LODE_TRY(lode_field_bool(&token->single_word, json, "single_word", false, where));
    LODE_TRY(lode_field_bool(&token->lstrip, json, "lstrip", false, where));
    LODE_TRY(lode_field_bool(&token->rstrip, json, "rstrip", false, where));
    LODE_TRY(lode_field_bool(&token->normalized, json, "normalized", true, where));
    if (strlen(content) != length)
        return lode_fail(LODE_ERR_UNSUPPORTED, "%s: a token with a NUL character in it", where);
    return lode_strdup(&token->content, content);
}

static int by_content(const void *left, const void *right) {
    const token_t *a = left, *b = right;
    const int order = strcmp(a->content, b->content);
    return order ? order : (a->order > b->order) - (a->order < b->order);
}

static int by_order(const void *left, const void *right) {
    const token_t *a = left, *b = right;
    return (a->order > b->order) - (a->order < b->order);
}

/* A token that is there more than once has the place of its first entry and the flags of its last,
 * as in the reference. */
static lode_status_t drop_repeated(lode_added_t *added, const char *where) {
    int32_t kept = 0;
    const int32_t count = added->count;
    if (count < 2)
        return LODE_OK;
    qsort(added->tokens, (size_t)count, sizeof *added->tokens, by_content);
    for (int32_t i = 1; i < count; i++) {
        token_t *before = &added->tokens[kept], *token = &added->tokens[i];
        if (strcmp(before->content, token->content) != 0) {
            if (++kept != i) {
                added->tokens[kept] = *token;
                token->content = NULL;
            }
            continue;
        }
        if (before->id != token->id)
            return lode_fail(LODE_ERR_FORMAT, "%s: \"%.100s\" has the ids %d and %d", where,
                             token->content, before->id, token->id);
        token->order = before->order;
        free(before->content);
        *before = *token;
        token->content = NULL;
    }
    added->count = kept + 1;
    qsort(added->tokens, (size_t)added->count, sizeof *added->tokens, by_order);
    return LODE_OK;
}

/* The ids must be those that the vocabulary and the order of the tokens give. */
static lode_status_t check_ids(lode_added_t *added, const lode_bpe_t *bpe, const char *where) {
    int32_t next = lode_bpe_count(bpe);
    for (int32_t i = 0; i < added->count; i++) {
        const token_t *token = &added->tokens[i];
        const int32_t known = lode_bpe_find(bpe, token->content, strlen(token->content));
        const int32_t expected = known >= 0 ? known : next++;
        if (token->id != expected)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: \"%.100s\" has id %d where %d follows from the vocabulary; the "
                             "file contradicts itself",
                             where, token->content, token->id, expected);
        if (known < 0 && lode_bpe_token(bpe, token->id))
            return lode_fail(LODE_ERR_FORMAT, "%s: \"%.100s\" and \"%.100s\" have the same id %d",
                             where, token->content, lode_bpe_token(bpe, token->id), token->id);
        if (token->id >= added->size)
            added->size = token->id + 1;
    }
    return LODE_OK;
}

/* What is looked for: the content, normalized where the token asks for it. */
static lode_status_t make_pattern(lode_buffer_t *pattern, lode_buffer_t *spare,
                                  const token_t *token, const lode_normalizer_t *normalizer) {
    pattern->length = 0;
    LODE_TRY(lode_buffer_append(pattern, token->content, strlen(token->content)));
    return token->normalized ? lode_normalizer_apply(normalizer, pattern, spare, false) : LODE_OK;
}

static lode_status_t add_patterns(lode_added_t *added, const lode_normalizer_t *normalizer,
                                  lode_buffer_t *pattern, lode_buffer_t *spare, const char *where) {
    uint64_t bytes[2] = {0, 0};
    for (int32_t i = 0; i < added->count; i++) {
        LODE_TRY(make_pattern(pattern, spare, &added->tokens[i], normalizer));
        bytes[added->tokens[i].normalized] += pattern->length;
    }
    for (int set = 0; set < 2; set++) {
        if (bytes[set] >= INT32_MAX)
            return lode_fail(LODE_ERR_UNSUPPORTED, "%s: 2 GB of added tokens", where);
        LODE_TRY(trie_allocate(&added->tries[set], bytes[set]));
    }
    for (int32_t i = 0; i < added->count; i++) {
        const token_t *token = &added->tokens[i];
        LODE_TRY(make_pattern(pattern, spare, token, normalizer));
        if (pattern->length == 0)
            return lode_fail(LODE_ERR_UNSUPPORTED,
                             "%s: the normalizer leaves nothing of \"%.100s\"", where,
                             token->content);
        trie_t *trie = &added->tries[token->normalized];
        const unsigned char first = (unsigned char)pattern->data[0];
        const unsigned char last = (unsigned char)pattern->data[pattern->length - 1];
        trie->looks_left[first] |= token->single_word || token->lstrip;
        trie->looks_right[last] |= token->single_word || token->rstrip;
        int32_t twin;
        LODE_TRY(trie_add(trie, &twin, pattern->data, pattern->length, i));
        if (twin >= 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: \"%.100s\" and \"%.100s\" are found by the same text", where,
                             added->tokens[twin].content, token->content);
    }
    return LODE_OK;
}

static lode_status_t parse(lode_added_t *added, const json_t *json, const lode_bpe_t *bpe,
                           const lode_normalizer_t *normalizer, const char *where) {
    size_t count = 0;
    if (json && !json_is_null(json)) {
        LODE_TRY(lode_field_expect(json, JSON_ARRAY, "the list", where));
        count = json_array_size(json);
    }
    if (count > LODE_TOKEN_ID_LIMIT)
        return lode_fail(LODE_ERR_FORMAT, "%s: more than %d tokens", where, LODE_TOKEN_ID_LIMIT);
    LODE_TRY(LODE_NEW(&added->tokens, (int64_t)count, "added tokens"));
    for (size_t i = 0; i < count; i++)
        LODE_TRY(parse_token(added, json_array_get(json, i), where));
    LODE_TRY(drop_repeated(added, where));
    LODE_TRY(check_ids(added, bpe, where));
    lode_buffer_t pattern = {0}, spare = {0};
    lode_status_t status = add_patterns(added, normalizer, &pattern, &spare, where);
    lode_buffer_free(&pattern);
    lode_buffer_free(&spare);
    return status;
}

lode_status_t lode_added_parse(lode_added_t **out, const json_t *json, const lode_bpe_t *bpe,
                               const lode_normalizer_t *normalizer, const char *name) {
    *out = NULL;
    char where[512];
    snprintf(where, sizeof where, "%.490s: added_tokens", name);
    lode_added_t *added = NULL;
    LODE_TRY(LODE_NEW(&added, 1, "added tokens"));
    lode_status_t status = parse(added, json, bpe, normalizer, where);
    if (status != LODE_OK)
        lode_added_destroy(&added);
    *out = added;
    return status;
}

void lode_added_destroy(lode_added_t **added) {
    if (!*added)
        return;
    for (int32_t i = 0; i < (*added)->count; i++)
        free((*added)->tokens[i].content);
    free((*added)->tokens);
    trie_free(&(*added)->tries[0]);
    trie_free(&(*added)->tries[1]);
    free(*added);
    *added = NULL;
}

const char *lode_added_token(const lode_added_t *added, int32_t id) {
    for (int32_t i = 0; i < added->count; i++)
        if (added->tokens[i].id == id)
            return added->tokens[i].content;
    return NULL;
}

int32_t lode_added_size(const lode_added_t *added) {
    return added->size;
}

bool lode_added_divides(const lode_added_t *added, lode_added_set_t set, unsigned char left,
                        unsigned char right) {
    const trie_t *trie = &added->tries[set];
    return !trie->looks_right[left] && !trie->looks_left[right] &&
           !(trie->neighbours[left][right / 64] >> right % 64 & 1);
}

/* --- walking -------------------------------------------------------------------------------- */

/* Unicode's word characters (UTS 18, annex C): alphabetic, marks, decimal digits, connector
 * punctuation and the joiners. utf8proc knows categories only; letters, letter numbers and the
 * circled and squared letters, which are symbols, are what is alphabetic and no mark. */
static bool is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
               (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189);
    }
}

/* Where the character that ends at text[end] starts. */
static size_t step_back(const char *text, size_t end) {
    do
        end--;
    while (((unsigned char)text[end] & 0xC0) == 0x80);
    return end;
}

static uint32_t character(const char *text, size_t at, size_t length) {
    uint32_t c = 0;
    (void)lode_utf8_decode(text + at, length - at, &c);
    return c;
}

static bool stands_alone(const char *text, size_t start, size_t end, size_t length) {
    bool word_before = start > 0 && is_word(character(text, step_back(text, start), length));
    bool word_behind = end < length && is_word(character(text, end, length));
    return !word_before && !word_behind;
}

static void strip(const token_t *token, const char *text, size_t length, size_t done, size_t *start,
                  size_t *end) {
    while (token->lstrip && *start > done) {
        size_t before = step_back(text, *start);
        if (!lode_utf8_is_space(character(text, before, length)))
            break;
        *start = before;
    }
    while (token->rstrip && *end < length) {
        if (!lode_utf8_is_space(character(text, *end, length)))
            break;
        *end += lode_utf8_length(text[*end]);
    }
}

/* Looks for the next token; false if there is none. */
static bool find_token(lode_added_walk_t *walk, const char *text, size_t length) {
    const trie_t *trie = &walk->added->tries[walk->set];
    for (size_t at = walk->search; at < length; at++) {
        if (!trie->starts[(unsigned char)text[at]])
            continue;
        size_t end = at;
        int32_t index = trie_match(trie, text, at, length, &end);
        if (index < 0)
            continue;
        const token_t *token = &walk->added->tokens[index];
        walk->search = end;
        if (token->single_word && !stands_alone(text, at, end, length)) {
            at = end - 1;
            continue;
        }
        walk->pending_start = at;
        walk->pending_end = end;
        walk->pending_id = token->id;
        strip(token, text, length, walk->done, &walk->pending_start, &walk->pending_end);
        return true;
    }
    walk->search = length;
    return false;
}

bool lode_added_walk_next(lode_added_walk_t *walk, const char *text, size_t length) {
    if (!walk->pending)
        walk->pending = find_token(walk, text, length);
    size_t stop = walk->pending ? walk->pending_start : length;
    if (walk->done < stop) {
        walk->start = walk->done;
        walk->end = walk->done = stop;
        walk->id = -1;
        return true;
    }
    if (!walk->pending)
        return false;
    walk->pending = false;
    walk->start = walk->pending_start;
    walk->end = walk->done = walk->pending_end;
    walk->id = walk->pending_id;
    return true;
}
