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

/* The place of a text in a list that NULL ends, −1 where it is not there. */
static int place_of(const char *const *list, const char *text) {
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], text) == 0)
            return i;
    return -1;
}

/* What follows "super-weight:"; the factor of a scaled one is not part of the method. */
static bool parse_experiment(lode_report_variant_t *variant, const char *name, const char *what) {
    static const char *const plain[] = {"prune", "restore", "others-tensor", "others-global", NULL};
    const char *scale = "scale-";
    size_t length = strlen(name);
    const int place = place_of(plain, what);
    variant->kind = LODE_KIND_EXPERIMENT;
    variant->order = place < 0 ? 92 : place < 2 ? 90 + place : 91 + place;
    if (place < 0) {
        char *end;
        if (strncmp(what, scale, strlen(scale)) != 0)
            return false;
        variant->factor = strtod(what + strlen(scale), &end);
        if (end == what + strlen(scale) || *end || !isfinite(variant->factor))
            return false;
        length = (size_t)(what - name) + strlen(scale) - 1;
    }
    return copy_part(variant->method, name, length);
}

/* Whether a text is a granularity, followed by nothing or by "-…"; *rest is what follows. */
static bool skip_granularity(const char *text, const char **rest) {
    static const char *const kinds[] = {"tensor", "channel", "group-", "block-", NULL};
    for (int i = 0; kinds[i]; i++) {
        const size_t length = strlen(kinds[i]);
        if (strncmp(text, kinds[i], length) != 0)
            continue;
        const size_t digits = i < 2 ? 0 : strspn(text + length, "0123456789");
        *rest = text + length + digits;
        return (i < 2 || digits > 0) && (**rest == '\0' || **rest == '-');
    }
    return false;
}

/* "int4-group-128-clip-a8-token": the quantizer, bits, granularity and options. */
static bool parse_quantization(lode_report_variant_t *variant, const char *text) {
    static const char *const activations[] = {
        "token", "tensor", "token-held", "tensor-held", "token-smooth", "tensor-smooth", NULL};
    static const char *const clip = "-clip", *const inputs = "-a8-";
    const size_t quantizer = strncmp(text, "int", 3) == 0 ? 3 : strncmp(text, "lp", 2) == 0 ? 2 : 0;
    const size_t digits = strspn(text + quantizer, "0123456789");
    const char *dash = text + quantizer + digits, *rest;
    if (quantizer == 0 || digits == 0 || digits > 2 || *dash != '-' ||
        !skip_granularity(dash + 1, &rest))
        return false;
    if (strncmp(rest, clip, strlen(clip)) == 0)
        rest += strlen(clip);
    if (strncmp(rest, inputs, strlen(inputs)) == 0 &&
        place_of(activations, rest + strlen(inputs)) >= 0)
        rest += strlen(rest);
    if (*rest || !copy_part(variant->quantization, text, strlen(text)))
        return false;
    variant->bits = atoi(text + quantizer);
    variant->kind = LODE_KIND_QUANTIZED;
    snprintf(variant->scheme, sizeof variant->scheme, "%.*s%.*s", (int)quantizer, text,
             (int)(sizeof variant->scheme - 8), dash);
    return variant->bits > 0;
}

/* Takes "[<pruned>:]<quantization>[:<protection>]" apart. */
static bool parse_quantized(lode_report_variant_t *variant, const char *name) {
    static const char *const protections[] = {"super-weight", "supernode", "both", NULL};
    char parts[3][LODE_REPORT_NAME];
    int count = 0;
    for (const char *cursor = name;; cursor++) {
        const size_t length = strcspn(cursor, ":");
        if (count == 3 || !copy_part(parts[count++], cursor, length))
            return false;
        cursor += length;
        if (*cursor == '\0')
            break;
    }
    const int at = count > 1 && strchr(parts[0], '@') != NULL;
    if (at >= count || count - at > 2 || !parse_quantization(variant, parts[at]))
        return false;
    const int place = count - at == 2 ? place_of(protections, parts[at + 1]) : -1;
    if (count - at == 2 && place < 0)
        return false;
    if (place >= 0)
        snprintf(variant->protection, sizeof variant->protection, "%s", protections[place]);
    variant->order = 100 + place;
    if (at == 0)
        return copy_part(variant->method, parts[0], strlen(parts[0]));
    const bool known = parse_pruned(variant, parts[0]);
    variant->kind = LODE_KIND_QUANTIZED;
    snprintf(variant->base, sizeof variant->base, "%s", parts[0]);
    return known;
}

/* --- both --------------------------------------------------------------------------------- */

static bool parse(lode_report_variant_t *variant, const char *name) {
    static const char *const experiment = "super-weight:";
    if (strncmp(name, experiment, strlen(experiment)) == 0)
        return parse_experiment(variant, name, name + strlen(experiment));
    if (strchr(name, ':') || !strchr(name, '@'))
        return parse_quantized(variant, name);
    return parse_pruned(variant, name);
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
    if (strcmp(name, "dense") == 0) {
        snprintf(variant->method, sizeof variant->method, "dense");
        variant->order = 0;
        variant->kind = LODE_KIND_DENSE;
    } else if (!parse(variant, name)) {
        *variant = plain_variant();
        snprintf(variant->method, sizeof variant->method, "%s", name);
        variant->sparsity = NAN;
    }
    variant->name = copy;
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
