#include "tokenize/pair.h"

#include <string.h>

#include "text/utf8.h"

size_t lode_pair_context_length(const char *context, size_t length) {
    while (length > 0) {
        size_t last = length - 1;
        while (last > 0 && ((unsigned char)context[last] & 0xC0) == 0x80)
            last--;
        if (!lode_utf8_is_blank(context + last, length - last))
            break;
        length = last;
    }
    return length;
}

bool lode_pair_special(const lode_pair_rule_t *rule, const char *text, size_t length, bool alone) {
    const size_t prefix = strlen(rule->prefix_text);
    if (alone || rule->bos != LODE_BOS_AUTO)
        return false;
    return prefix == 0 || length < prefix || memcmp(text, rule->prefix_text, prefix) != 0;
}

lode_status_t lode_pair_append(const lode_pair_rule_t *rule, lode_ids_t *ids, int64_t context,
                               const int32_t *whole, int64_t count, int32_t *of_context) {
    int32_t first = -1;
    if (context > 0 && rule->bos == LODE_BOS_ALWAYS)
        first = rule->bos_id;
    if (context == 0) {
        if (rule->prefix < 0)
            return lode_fail(LODE_ERR_INPUT, "has no context, and the model has neither BOS nor "
                                             "EOS to begin with; give it a context");
        first = rule->prefix;
        context = count > 0 && whole[0] == first;
    }
    if (context >= count)
        return lode_fail(LODE_ERR_INPUT,
                         "has no token to score: its continuation is empty or becomes part of the "
                         "context's last token; let it begin with a space");
    const bool before = first >= 0 && whole[0] != first;
    if (before)
        LODE_TRY(lode_ids_append(ids, &first, 1));
    LODE_TRY(lode_ids_append(ids, whole, count));
    *of_context = (int32_t)(context + before);
    return lode_ids_cut(ids);
}
