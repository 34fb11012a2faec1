/* Texts encoded by all ranks: the ids are those of one rank, for long texts that are cut among the
 * ranks, for texts whose cuts do not hold, and for many short ones; a text that cannot be encoded
 * gives the same error for every number of ranks, and the crew goes on to the next. */
#include <jansson.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "testing/check.h"
#include "testing/tokenizer_json.h"
#include "tokenize/crew.h"

enum { COPIES = 8, SHORT_TEXTS = 5000 };

static lode_comm_t world;

/* --- texts ---------------------------------------------------------------------------------- */

typedef struct texts {
    lode_buffer_t bytes;
    lode_span_t span[SHORT_TEXTS + 8];
    int64_t count;
} texts_t;

static void add(texts_t *texts, const char *text, size_t length) {
    texts->span[texts->count++] = (lode_span_t){text, length};
}

/* One text of some hundred KB, empty ones and short ones before and behind it. */
static void make_texts(texts_t *texts) {
    char *data;
    size_t size;
    LODE_REQUIRE(lode_file_read(&data, &size, "configs/quickstart/text/calibration.txt") ==
                 LODE_OK);
    for (int i = 0; i < COPIES; i++) /* each starts elsewhere, so that no two parts are alike */
        LODE_REQUIRE(lode_buffer_append(&texts->bytes, data + 64 * i, size - 64 * (size_t)i) ==
                     LODE_OK);
    free(data);
    const char *all = texts->bytes.data;
    size_t at = 0;
    add(texts, all, 0);
    add(texts, all, 300);
    add(texts, all, texts->bytes.length);
    add(texts, all, 0);
    for (int i = 0; i < SHORT_TEXTS && at + 200 < texts->bytes.length; i++) {
        size_t length = (size_t)(i * 37 % 90);
        while (((unsigned char)all[at] & 0xC0) == 0x80)
            at++;
        while (((unsigned char)all[at + length] & 0xC0) == 0x80)
            length++;
        add(texts, all + at, length);
        at += length;
    }
}

/* --- encoding ------------------------------------------------------------------------------- */

/* What one rank makes of the texts. */
static void encode_here(lode_ids_t *ids, const lode_tokenizer_t *tokenizer, const texts_t *texts,
                        bool add_special) {
    for (int64_t i = 0; i < texts->count; i++) {
        int32_t *id;
        int64_t count;
        LODE_REQUIRE(lode_tokenizer_encode(tokenizer, texts->span[i].text, texts->span[i].length,
                                           add_special, &id, &count) == LODE_OK);
        LODE_REQUIRE(lode_ids_append(ids, id, count) == LODE_OK);
        LODE_REQUIRE(lode_ids_cut(ids) == LODE_OK);
        free(id);
    }
}

static void check_equal(const lode_ids_t *got, const lode_ids_t *want) {
    LODE_CHECK(got->count == want->count && got->sequences == want->sequences);
    if (got->count != want->count || got->sequences != want->sequences)
        return;
    LODE_CHECK(memcmp(got->id, want->id, (size_t)want->count * sizeof *want->id) == 0);
    LODE_CHECK(memcmp(got->offset, want->offset,
                      (size_t)(want->sequences + 1) * sizeof *want->offset) == 0);
}

static void check_rounds(const lode_tokenizer_t *tokenizer, const texts_t *texts, int64_t round) {
    const lode_crew_t crew = {.comm = &world, .tokenizer = tokenizer, .round = round};
    if (world.rank > 0) {
        lode_crew_serve(&crew);
        return;
    }
    for (int special = 0; special < 2; special++) {
        lode_ids_t want = {0}, got = {0};
        encode_here(&want, tokenizer, texts, special == 1);
        LODE_CHECK(lode_crew_encode(&crew, &got, texts->span, texts->count, special == 1, NULL) ==
                   LODE_OK);
        check_equal(&got, &want);
        /* What was there stays. */
        LODE_CHECK(lode_crew_encode(&crew, &got, texts->span + 1, 1, special == 1, NULL) ==
                   LODE_OK);
        LODE_CHECK(got.sequences == want.sequences + 1 &&
                   got.offset[want.sequences] == want.count && got.count > want.count);
        lode_ids_free(&want);
        lode_ids_free(&got);
    }
    lode_crew_dismiss(&crew);
}

/* At once, and in many rounds. */
static void check_tokenizer(const lode_tokenizer_t *tokenizer, const texts_t *texts) {
    check_rounds(tokenizer, texts, 0);
    check_rounds(tokenizer, texts, 50000);
}

/* A token before each sequence, empty ones too. */
static void check_put_before(void) {
    static const int32_t first[] = {5, 6, 7}, want[] = {1, 5, 6, 7, 1, 1, 5};
    static const int64_t offsets[] = {0, 4, 5, 7};
    lode_ids_t ids = {0};
    LODE_CHECK(lode_ids_append(&ids, first, 3) == LODE_OK && lode_ids_cut(&ids) == LODE_OK);
    LODE_CHECK(lode_ids_cut(&ids) == LODE_OK);
    LODE_CHECK(lode_ids_append(&ids, first, 1) == LODE_OK && lode_ids_cut(&ids) == LODE_OK);
    LODE_CHECK(lode_ids_put_before(&ids, 1) == LODE_OK);
    LODE_CHECK(ids.count == 7 && memcmp(ids.id, want, sizeof want) == 0);
    LODE_CHECK(ids.sequences == 3 && memcmp(ids.offset, offsets, sizeof offsets) == 0);
    lode_ids_free(&ids);
}

/* --- tokenizers ----------------------------------------------------------------------------- */

static lode_tokenizer_t *parse(json_t *json) {
    char *bytes = json_dumps(json, 0);
    lode_tokenizer_t *tokenizer;
    LODE_REQUIRE(lode_tokenizer_parse(&tokenizer, bytes, strlen(bytes), "my.json") == LODE_OK);
    free(bytes);
    json_decref(json);
    return tokenizer;
}

/* Cut after every 61 characters: cuts are found, and few of them hold. */
static json_t *make_counted(const json_t *vectors) {
    json_t *json = lode_test_tokenizer(vectors, "bytes", NULL, NULL);
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s, s:b, s:b}]}", "type",
                                  "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                                  "[^\\p{Nd}]{61}", "behavior", "Isolated", "type", "ByteLevel",
                                  "add_prefix_space", 0, "use_regex", 0));
    return json;
}

/* Without "!" in its vocabulary, and without an unknown token in it. */
static json_t *make_ignorant(const json_t *vectors) {
    json_t *model =
        json_pack("{s:b, s:s, s:{s:n}}", "byte_fallback", 0, "unk_token", "<none>", "vocab", "!");
    json_t *json = lode_test_tokenizer(vectors, "characters", NULL, model);
    json_decref(model);
    return json;
}

/* One piece from end to end: places to cut it are found and none of them holds, though the text
 * that should be cut is the last one. */
static void check_uncut(const json_t *vectors) {
    json_t *members = json_pack("{s:n}", "normalizer");
    lode_tokenizer_t *tokenizer = parse(lode_test_tokenizer(vectors, "characters", members, NULL));
    texts_t *texts = calloc(1, sizeof *texts);
    LODE_REQUIRE(texts);
    for (int i = 0; i < 20000; i++)
        LODE_REQUIRE(lode_buffer_append(&texts->bytes, "theotherrain", 12) == LODE_OK);
    add(texts, texts->bytes.data, 7);
    add(texts, texts->bytes.data, texts->bytes.length);
    check_tokenizer(tokenizer, texts);
    json_decref(members);
    lode_tokenizer_destroy(&tokenizer);
    lode_buffer_free(&texts->bytes);
    free(texts);
}

/* Texts 1000 and 4000 cannot be encoded. */
static void check_failure(const json_t *vectors) {
    lode_tokenizer_t *tokenizer = parse(make_ignorant(vectors));
    const lode_crew_t crew = {.comm = &world, .tokenizer = tokenizer};
    static const char plain[] = "the other rain in spain stays mainly on the plain";
    lode_span_t texts[SHORT_TEXTS];
    for (int i = 0; i < SHORT_TEXTS; i++)
        texts[i] = (lode_span_t){plain, sizeof plain - 1};
    lode_status_t status = LODE_OK;
    if (world.rank == 0) {
        lode_ids_t ids = {0};
        int64_t failed;
        texts[1000] = (lode_span_t){"the !", 5};
        texts[4000] = (lode_span_t){"the ! in spain", 14};
        status = lode_crew_encode(&crew, &ids, texts, SHORT_TEXTS, false, &failed);
        LODE_CHECK(status == LODE_ERR_FORMAT && failed == 1000);
        LODE_CHECK(strstr(lode_error_message(), "my.json: the text has \"!\""));
        lode_ids_free(&ids);
        LODE_CHECK(lode_crew_encode(&crew, &ids, texts, 1000, false, &failed) == LODE_OK);
        LODE_CHECK(ids.sequences == 1000 && failed == -1);
        lode_ids_free(&ids);
        lode_crew_dismiss(&crew);
    } else {
        lode_crew_serve(&crew);
        LODE_CHECK(status == LODE_OK);
    }
    LODE_CHECK(lode_comm_agree(&world, status) == LODE_ERR_FORMAT);
    lode_tokenizer_destroy(&tokenizer);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    world = lode_comm_describe(MPI_COMM_WORLD);
    texts_t *texts = calloc(1, sizeof *texts);
    json_t *vectors = json_load_file("tests/golden/tokenizer_vectors.json", 0, NULL);
    LODE_REQUIRE(texts && vectors);
    make_texts(texts);
    check_put_before();
    lode_tokenizer_t *tokenizers[3];
    LODE_REQUIRE(lode_tokenizer_load(&tokenizers[0], "configs/quickstart/model/tokenizer.json") ==
                 LODE_OK);
    tokenizers[1] = parse(lode_test_tokenizer(vectors, "bytes", NULL, NULL));
    tokenizers[2] = parse(make_counted(vectors));
    for (int i = 0; i < 3; i++) {
        check_tokenizer(tokenizers[i], texts);
        lode_tokenizer_destroy(&tokenizers[i]);
    }
    check_uncut(vectors);
    check_failure(vectors);
    json_decref(vectors);
    lode_buffer_free(&texts->bytes);
    free(texts);
    int result = lode_check_result();
    MPI_Finalize();
    return result;
}
