#include "testing/random_text.h"

#include <string.h>

#include "base/random.h"
#include "text/utf8.h"

static const char *const WORDS[] = {"the",
                                    "There",
                                    "don't",
                                    "I'LL",
                                    "we've",
                                    "'s",
                                    "rain",
                                    "a",
                                    "spain's",
                                    "\xC3\xA9t\xC3\xA9",
                                    "na\xC3\xAFve",
                                    "Stra\xC3\x9F\x65",
                                    "x_1",
                                    "fooBar",
                                    "HTTPServer",
                                    "e.g.",
                                    "https://example.org/a?b=c&d#e",
                                    "if(x<=10){return;}",
                                    "\t\tint *p = &q[0];",
                                    "--",
                                    "...",
                                    "\"quoted\"",
                                    "(1)",
                                    "3.14159",
                                    "1,000,000",
                                    "0x1F",
                                    "\\ud83d",
                                    "\\u0000",
                                    "\\n",
                                    "co-operate"};

static const char *const SPECIALS[] = {"<s>",
                                       "</s>",
                                       "<unk>",
                                       "<|endoftext|>",
                                       "<|begin_of_text|>",
                                       "<|end_of_text|>",
                                       "<|eot_id|>",
                                       "<|im_start|>",
                                       "<|im_end|>",
                                       "<|padding|>",
                                       "|||IP_ADDRESS|||",
                                       "<0x41>",
                                       "[INST]",
                                       "<|start_header_id|>",
                                       "<pad>",
                                       "\xE2\x96\x81"};

/* First and last code point of blocks without gaps. */
static const uint32_t BLOCKS[][2] = {
    {0x20, 0x7E},       {0xA0, 0xFF},       {0x100, 0x24F},    {0x250, 0x2AF},   {0x3A3, 0x3FF},
    {0x400, 0x52F},     {0x5D0, 0x5EA},     {0x620, 0x65F},    {0x660, 0x6FF},   {0x904, 0x94D},
    {0xE01, 0xE3A},     {0x1100, 0x11FF},   {0x1E00, 0x1EFF},  {0x2000, 0x2064}, {0x2100, 0x218B},
    {0x2190, 0x23FA},   {0x2460, 0x24FF},   {0x2500, 0x2B73},  {0x3041, 0x3096}, {0x30A1, 0x30FE},
    {0x4E00, 0x9FD5},   {0xAC00, 0xD7A3},   {0xE000, 0xF8FF},  {0xFB00, 0xFB06}, {0xFF01, 0xFFBE},
    {0x1D400, 0x1D454}, {0x1F300, 0x1F6D2}, {0xE0020, 0xE007F}};

static const uint32_t SPACES[] = {0x20,   0x20,   0x20, 0x0A, 0x0A, 0x09,   0x0D,   0xA0,
                                  0x3000, 0x2028, 0x85, 0x0B, 0x0C, 0x200B, 0x180E, 0x1C};

static const uint32_t MARKS[] = {0x300, 0x301,  0x308,  0x323,  0x327, 0x345,
                                 0x338, 0x1161, 0x11A8, 0x3099, 0x5B0, 0x64B};

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

typedef struct maker {
    lode_buffer_t *text;
    uint64_t key, counter;
} maker_t;

static int64_t below(maker_t *maker, int64_t bound) {
    return lode_random_below(maker->key, maker->counter++, bound);
}

static lode_status_t put(const maker_t *maker, uint32_t point) {
    char bytes[4];
    return lode_buffer_append(maker->text, bytes, (size_t)lode_utf8_encode(point, bytes));
}

static lode_status_t put_text(const maker_t *maker, const char *text) {
    return lode_buffer_append(maker->text, text, strlen(text));
}

static lode_status_t put_words(maker_t *maker) {
    static const char *const gaps[] = {" ", " ", " ", "", "\n", ", "};
    for (int64_t left = 1 + below(maker, 6); left > 0; left--) {
        LODE_TRY(put_text(maker, WORDS[below(maker, COUNT(WORDS))]));
        LODE_TRY(put_text(maker, gaps[below(maker, COUNT(gaps))]));
    }
    return LODE_OK;
}

static lode_status_t put_block(maker_t *maker) {
    const uint32_t *block = BLOCKS[below(maker, COUNT(BLOCKS))];
    for (int64_t left = 1 + below(maker, 8); left > 0; left--)
        LODE_TRY(put(maker, block[0] + (uint32_t)below(maker, block[1] - block[0] + 1)));
    return LODE_OK;
}

static lode_status_t put_spaces(maker_t *maker) {
    static const int64_t longest[] = {2, 5, 40};
    const int64_t most = longest[below(maker, 3)];
    const bool mixed = below(maker, 2) == 1;
    uint32_t space = SPACES[below(maker, COUNT(SPACES))];
    for (int64_t left = 1 + below(maker, most); left > 0; left--) {
        LODE_TRY(put(maker, space));
        if (mixed)
            space = SPACES[below(maker, COUNT(SPACES))];
    }
    return LODE_OK;
}

static lode_status_t put_special(maker_t *maker) {
    const char *special = SPECIALS[below(maker, COUNT(SPECIALS))];
    const bool whole = below(maker, 4) > 0;
    size_t length = strlen(special);
    if (!whole && (unsigned char)special[0] < 0x80)
        length = 1 + (size_t)below(maker, (int64_t)length);
    return lode_buffer_append(maker->text, special, length);
}

static lode_status_t put_marks(maker_t *maker) {
    static const uint32_t letters[] = {'a', 'e', 'i', 'o', 'u', 'A', 'n', 0xAC00, 0x1100, 0x5D0};
    LODE_TRY(put(maker, letters[below(maker, COUNT(letters))]));
    for (int64_t left = 1 + below(maker, 6); left > 0; left--)
        LODE_TRY(put(maker, MARKS[below(maker, COUNT(MARKS))]));
    return LODE_OK;
}

static lode_status_t put_emoji(maker_t *maker) {
    switch (below(maker, 4)) {
    case 0: /* people, joined */
        for (int64_t left = below(maker, 3); left > 0; left--) {
            LODE_TRY(put(maker, 0x1F466 + (uint32_t)below(maker, 4)));
            LODE_TRY(put(maker, 0x200D));
        }
        return put(maker, 0x1F468);
    case 1: /* a tone of skin */
        LODE_TRY(put(maker, 0x1F44A + (uint32_t)below(maker, 6)));
        return put(maker, 0x1F3FB + (uint32_t)below(maker, 5));
    case 2: /* a flag */
        LODE_TRY(put(maker, 0x1F1E6 + (uint32_t)below(maker, 26)));
        return put(maker, 0x1F1E6 + (uint32_t)below(maker, 26));
    default: /* a keycap */
        LODE_TRY(put(maker, '0' + (uint32_t)below(maker, 10)));
        LODE_TRY(put(maker, 0xFE0F));
        return put(maker, 0x20E3);
    }
}

static lode_status_t put_control(maker_t *maker) {
    for (int64_t left = 1 + below(maker, 3); left > 0; left--) {
        const uint32_t control = (uint32_t)below(maker, 64);
        LODE_TRY(put(maker, control < 32 ? control : 0x60 + control)); /* 0 … 1F, 80 … 9F */
    }
    return LODE_OK;
}

static lode_status_t put_number(maker_t *maker) {
    for (int64_t left = 1 + below(maker, 12); left > 0; left--)
        LODE_TRY(put(maker, '0' + (uint32_t)below(maker, 10)));
    return LODE_OK;
}

lode_status_t lode_test_random_text(lode_buffer_t *text, int64_t index) {
    static const int64_t longest[] = {3, 12, 40};
    maker_t maker = {.text = text, .key = lode_random_key(2026, "random text", index, 0)};
    const int64_t most = longest[below(&maker, 3)];
    for (int64_t left = 1 + below(&maker, most); left > 0; left--) {
        const int64_t kind = below(&maker, 100);
        lode_status_t status = kind < 30   ? put_words(&maker)
                               : kind < 50 ? put_block(&maker)
                               : kind < 62 ? put_spaces(&maker)
                               : kind < 72 ? put_special(&maker)
                               : kind < 80 ? put_marks(&maker)
                               : kind < 87 ? put_emoji(&maker)
                               : kind < 92 ? put_control(&maker)
                                           : put_number(&maker);
        LODE_TRY(status);
    }
    return LODE_OK;
}

lode_status_t lode_test_long_text(lode_buffer_t *text, int kind, int64_t size) {
    maker_t maker = {.text = text, .key = lode_random_key(2026, "long text", kind, 0)};
    while (text->length < (size_t)size) {
        switch (kind) {
        case 0:
            LODE_TRY(put_text(&maker, WORDS[below(&maker, 8)]));
            break;
        case 1:
            LODE_TRY(put(&maker, 'a'));
            break;
        case 2:
            LODE_TRY(put(&maker, 0x4E00 + (uint32_t)below(&maker, 0x5000)));
            break;
        default:
            LODE_TRY(put(&maker, below(&maker, 9) ? ' ' : '\n'));
        }
    }
    return LODE_OK;
}
