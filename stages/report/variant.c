#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/variants.h"
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

static bool parse_pruned(lode_report_variant_t *variant, const char *name) {
    const char *at = strchr(name, '@');
    variant->kind = LODE_KIND_PRUNED;
    if (!at || !copy_part(variant->method, name, (size_t)(at - name)))
        return false;
    default_core(variant);
    char *end;
    variant->sparsity = strtod(at + 1, &end);
    return end != at + 1 && isfinite(variant->sparsity) && parse_options(variant, end);
}

/* --- super weights and quantization ----------------------------------------------------- */

/* Experiments come after the pruned in lists, quantized variants after those. */
enum { FIRST_EXPERIMENT = 50, FIRST_PROTECTION = 100 };

/* The factor of a scaled super weight is not part of the method. */
static void take_experiment(lode_report_variant_t *variant, const lode_variant_t *parsed) {
    variant->kind = LODE_KIND_EXPERIMENT;
    variant->order = FIRST_EXPERIMENT + (int)parsed->what;
    if (parsed->what == LODE_EXPERIMENT_SCALE)
        variant->factor = parsed->factor;
    snprintf(variant->method, sizeof variant->method, "super-weight:%s",
             lode_experiment_name(parsed->what));
}

/* `text`: what follows the base in the name. */
static bool take_quantized(lode_report_variant_t *variant, const lode_variant_t *parsed,
                           const char *text) {
    const size_t bits = strcspn(text, "0123456789"); /* "int" or "lp" are before it */
    if (!copy_part(variant->quantization, text, strcspn(text, ":")))
        return false;
    memcpy(variant->scheme, variant->quantization, bits);
    snprintf(variant->scheme + bits, sizeof variant->scheme - bits, "%s",
             variant->quantization + bits + strcspn(variant->quantization + bits, "-"));
    snprintf(variant->protection, sizeof variant->protection, "%s",
             lode_protection_name(parsed->protection));
    variant->kind = LODE_KIND_QUANTIZED;
    variant->bits = parsed->bits;
    return true;
}

/* A quantized variant whose base, if it has any, is the first `length` bytes of its name. */
static bool parse_quantized(lode_report_variant_t *variant, const lode_variant_t *parsed,
                            size_t length) {
    const char *name = variant->name;
    variant->order = FIRST_PROTECTION + (int)parsed->protection;
    if (length == 0)
        return take_quantized(variant, parsed, name) &&
               copy_part(variant->method, name, strcspn(name, ":"));
    return copy_part(variant->base, name, length) && parse_pruned(variant, variant->base) &&
           take_quantized(variant, parsed, name + length + 1);
}

static bool parse(lode_report_variant_t *variant) {
    lode_variant_t parsed;
    size_t base;
    if (!lode_variants_parse(&parsed, &base, variant->name))
        return parse_pruned(variant, variant->name);
    if (parsed.quantized)
        return parse_quantized(variant, &parsed, base);
    take_experiment(variant, &parsed);
    return true;
}

static lode_report_variant_t plain_variant(void) {
    return (lode_report_variant_t){.core = "none",
                                   .allocation = "uniform",
                                   .compensation = "none",
                                   .quantization = "none",
                                   .protection = "none",
                                   .order = 199,
                                   .factor = NAN,
                                   .bytes = -1,
                                   .bits_per_weight = NAN};
}

lode_status_t lode_report_variant_parse(lode_report_variant_t *variant, const char *name) {
    char *copy;
    *variant = plain_variant();
    LODE_TRY(lode_strdup(&copy, name));
    variant->name = copy;
    if (strcmp(name, "dense") == 0) {
        snprintf(variant->method, sizeof variant->method, "dense");
        variant->order = 0;
        variant->kind = LODE_KIND_DENSE;
    } else if (!parse(variant)) {
        *variant = plain_variant();
        variant->name = copy;
        snprintf(variant->method, sizeof variant->method, "%s", name);
        variant->sparsity = NAN;
    }
    return LODE_OK;
}

bool lode_report_same_family(const lode_report_variant_t *a, const lode_report_variant_t *b) {
    return a->kind == b->kind && a->sparsity == b->sparsity && a->bits == b->bits;
}

void lode_report_family(char text[LODE_REPORT_FAMILY], const lode_report_variant_t *variant) {
    char removed[32] = "", bits[32] = "";
    const bool quantized = variant->kind == LODE_KIND_QUANTIZED;
    if (variant->sparsity > 0 || !quantized)
        snprintf(removed, sizeof removed, "%g %% removed", 100 * variant->sparsity);
    if (quantized)
        snprintf(bits, sizeof bits, "%d bits", variant->bits);
    if (variant->kind == LODE_KIND_EXPERIMENT)
        snprintf(removed, sizeof removed, "super weights changed");
    snprintf(text, LODE_REPORT_FAMILY, "%s%s%s", removed, *removed && *bits ? ", " : "", bits);
}
