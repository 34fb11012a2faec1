#include "text/utf8.h"

#include <string.h>

int lode_utf8_decode(const char *bytes, size_t size, uint32_t *code_point) {
    unsigned char lead = (unsigned char)bytes[0];
    if (lead < 0x80) {
        *code_point = lead;
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) /* a continuation, an overlong lead, or beyond Unicode */
        return 0;
    int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (size < (size_t)length)
        return 0;
    uint32_t value = lead & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        unsigned char next = (unsigned char)bytes[i];
        if ((next & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (next & 0x3F);
    }
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < smallest[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code_point = value;
    return length;
}

int lode_utf8_encode(uint32_t code_point, char bytes[4]) {
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        return 1;
    }
    int length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    bytes[0] = (char)((0xF00u >> length & 0xFF) | code_point);
    return length;
}

/* Length of the run of ASCII at the start, eight bytes at a time: most text is nothing else. */
static size_t ascii_run(const char *bytes, size_t size) {
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        if (word & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < size && (unsigned char)bytes[i] < 0x80)
        i++;
    return i;
}

lode_status_t lode_utf8_check(const char *bytes, size_t size, const char *name) {
    size_t i = 0;
    while (i < size) {
        i += ascii_run(bytes + i, size - i);
        if (i == size)
            break;
        uint32_t code_point;
        int length = lode_utf8_decode(bytes + i, size - i, &code_point);
        if (length == 0)
            return lode_fail(LODE_ERR_FORMAT,
                             "%s: the byte 0x%02X at offset %zu is not valid UTF-8; convert the "
                             "text to UTF-8",
                             name, (unsigned)(unsigned char)bytes[i], i);
        i += (size_t)length;
    }
    return LODE_OK;
}

lode_status_t lode_utf8_check_start(const char *bytes, size_t size, const char *name) {
    if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
        return lode_fail(LODE_ERR_FORMAT,
                         "%s: begins with a byte order mark; save it as UTF-8 without one", name);
    return LODE_OK;
}

int64_t lode_utf8_count(const char *bytes, size_t size) {
    int64_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    return count;
}

bool lode_utf8_is_space(uint32_t code_point) {
    if (code_point < 0x80)
        return code_point == ' ' || (code_point >= 0x09 && code_point <= 0x0D);
    return code_point == 0x85 || code_point == 0xA0 || code_point == 0x1680 ||
           (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
           code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
           code_point == 0x3000;
}

bool lode_utf8_is_blank(const char *bytes, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t code_point = 0;
        int length = lode_utf8_decode(bytes + i, size - i, &code_point);
        bool separator = code_point >= 0x1C && code_point <= 0x1F;
        if (length == 0 || !(separator || lode_utf8_is_space(code_point)))
            return false;
        i += (size_t)length;
    }
    return true;
}
