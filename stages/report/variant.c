#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/choices.h"
#include "report/result.h"
#include "score/mask.h"

static bool copy_part(char *part, const char *begin, size_t length) {
    if (length == 0 || length >= LODE_REPORT_NAME)
        return false;
    memcpy(part, begin, length);
    part[length] = '\0';
    return true;
}

/* The core that a method protects of its own. */
static void default_core(lode_report_variant_t *variant) {
    const lode_choice_t *method = lode_choice_find(lode_method_choices, variant->method);
    lode_core_t core = LODE_CORE_NONE;
    if (method) {
        core = lode_mask_core((lode_method_t)method->value, LODE_CORE_DEFAULT);
        variant->order = 1 + method->value;
    }
    snprintf(variant->core, sizeof variant->core, "%s", lode_core_name(core));
}

/* Takes what follows the sparsity apart; false where it is in no known form. */
static bool parse_options(lode_report_variant_t *variant, const char *options) {
    const char *cursor = options;
    snprintf(variant->options, sizeof variant->options, "%s", options);
    while (*cursor) {
        char kind = *cursor++;
        size_t length = strcspn(cursor, "~+");
        char part[LODE_REPORT_NAME];
        if ((kind != '~' && kind != '+') || !copy_part(part, cursor, length))
            return false;
        char *into = kind == '~'                                       ? variant->core
                     : lode_choice_find(lode_allocation_choices, part) ? variant->allocation
                                                                       : variant->compensation;
        snprintf(into, LODE_REPORT_NAME, "%s", part);
        cursor += length;
    }
    return true;
}

static bool parse(lode_report_variant_t *variant, const char *name) {
    const char *at = strchr(name, '@');
    if (!at || !copy_part(variant->method, name, (size_t)(at - name)))
        return false;
    default_core(variant);
    char *end;
    variant->sparsity = strtod(at + 1, &end);
    return end != at + 1 && isfinite(variant->sparsity) && parse_options(variant, end);
}

lode_status_t lode_report_variant_parse(lode_report_variant_t *variant, const char *name) {
    *variant = (lode_report_variant_t){
        .core = "none", .allocation = "uniform", .compensation = "none", .order = 99};
    LODE_TRY(lode_strdup(&variant->name, name));
    if (strcmp(name, "dense") == 0) {
        snprintf(variant->method, sizeof variant->method, "dense");
        variant->order = 0;
    } else if (!parse(variant, name)) {
        snprintf(variant->method, sizeof variant->method, "%s", name);
        variant->sparsity = NAN;
    }
    return LODE_OK;
}
