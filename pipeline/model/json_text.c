#include "model/json_text.h"

#include <stdlib.h>

#include "text/utf8.h"

static bool is_control(char c) {
    return (unsigned char)c < 0x20 || c == 0x7f;
}

bool lode_json_text_has_control(const char *text) {
    for (; *text; text++)
        if (is_control(*text))
            return true;
    return false;
}

lode_status_t lode_json_text_object(json_t **out, const char *bytes, size_t size,
                                    const char *name) {
    json_error_t error;
    *out = NULL;
    LODE_TRY(lode_utf8_check_start(bytes, size, name));
    *out = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    if (!*out) {
        /* The parser's message quotes the document, whatever it holds. */
        for (char *c = error.text; *c; c++)
            if (is_control(*c))
                *c = '?';
        return lode_fail(LODE_ERR_FORMAT, "%s: line %d, column %d: %s", name, error.line,
                         error.column, error.text);
    }
    if (!json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return lode_fail(LODE_ERR_FORMAT, "%s: must be a JSON object, {…}", name);
    }
    return LODE_OK;
}

char *lode_json_text_dump(const json_t *root) {
    char *text = NULL;
    bool equal = false;
    for (size_t digits = 6; digits <= 17 && !equal; digits++) {
        free(text);
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, 0, NULL) : NULL;
        equal = back && json_equal(back, root);
        json_decref(back);
    }
    return text;
}
