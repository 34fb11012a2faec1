#include "common/variants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "score/mask.h"

static const char experiment_prefix[] = "super-weight:", scale_prefix[] = "scale-",
                  clip_suffix[] = "-clip", inputs_prefix[] = "-a8-";
static const char *const quantizer_names[] = {
    [LODE_QUANTIZER_RTN] = "int", [LODE_QUANTIZER_LP] = "lp"};
enum {
    QUANTIZERS = sizeof quantizer_names / sizeof *quantizer_names,
    LEAST_BITS = 2,
    MOST_BITS = 8
};

/* --- names ---------------------------------------------------------------------------------- */

/* The shortest digits that read back exactly. */
static void shortest(char text[32], double value) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
}

static lode_status_t name_experiment(lode_buffer_t *name, const lode_variant_t *variant) {
    char factor[32];
    if (variant->what != LODE_EXPERIMENT_SCALE)
        return lode_buffer_printf(name, "%s%s", experiment_prefix,
                                  lode_experiment_name(variant->what));
    shortest(factor, variant->factor);
    return lode_buffer_printf(name, "%s%s%s", experiment_prefix, scale_prefix, factor);
}

lode_status_t lode_variants_name(lode_buffer_t *name, const lode_variant_t *variant,
                                 const char *base) {
    char granularity[LODE_GRANULARITY_NAME];
    if (variant->experiment)
        return name_experiment(name, variant);
    lode_granularity_name(granularity, variant->granularity);
    LODE_TRY(lode_buffer_printf(name, "%s%s%s%d-%s%s", base ? base : "", base ? ":" : "",
                                quantizer_names[variant->quantizer], variant->bits, granularity,
                                variant->clip == LODE_CLIP_SEARCHED ? clip_suffix : ""));
    if (variant->activations != LODE_INPUTS_NONE)
        LODE_TRY(lode_buffer_printf(name, "%s%s", inputs_prefix,
                                    lode_activations_quantized_name(variant->activations)));
    if (variant->protection != LODE_PROTECT_NONE)
        LODE_TRY(lode_buffer_printf(name, ":%s", lode_protection_name(variant->protection)));
    return LODE_OK;
}

static bool parse_experiment(lode_variant_t *variant, const char *text) {
    char factor[32];
    char *end;
    variant->experiment = true;
    for (const lode_choice_t *choice = lode_experiment_choices; choice->name; choice++) {
        variant->what = (lode_experiment_t)choice->value;
        if (variant->what != LODE_EXPERIMENT_SCALE && strcmp(choice->name, text) == 0)
            return true;
    }
    if (strncmp(text, scale_prefix, strlen(scale_prefix)) != 0)
        return false;
    text += strlen(scale_prefix);
    variant->what = LODE_EXPERIMENT_SCALE;
    variant->factor = strtod(text, &end);
    shortest(factor, variant->factor);
    return end != text && strcmp(factor, text) == 0;
}

/* "int4-group-128-clip-a8-token", without base and protection; `text` is changed. */
static bool parse_quantizer(lode_variant_t *variant, char *text) {
    int method = 0;
    while (method < QUANTIZERS &&
           strncmp(text, quantizer_names[method], strlen(quantizer_names[method])) != 0)
        method++;
    if (method == QUANTIZERS)
        return false;
    const char *bits = text + strlen(quantizer_names[method]);
    if (bits[0] < '0' + LEAST_BITS || bits[0] > '0' + MOST_BITS || bits[1] != '-')
        return false;
    variant->quantizer = (lode_quantizer_t)method;
    variant->bits = bits[0] - '0';
    char *inputs = strstr(text, inputs_prefix);
    if (inputs) {
        const lode_choice_t *choice =
            lode_choice_find(lode_activations_quantized_choices, inputs + strlen(inputs_prefix));
        if (!choice || choice->value == LODE_INPUTS_NONE)
            return false;
        variant->activations = (lode_activations_quantized_t)choice->value;
        *inputs = '\0';
    }
    const size_t length = strlen(text), suffix = strlen(clip_suffix);
    if (length > suffix && strcmp(text + length - suffix, clip_suffix) == 0) {
        variant->clip = LODE_CLIP_SEARCHED;
        text[length - suffix] = '\0';
    }
    variant->quantized = true;
    return lode_granularity_parse(&variant->granularity, bits + 2);
}

/* Where the last part of a name begins, after its ':'. */
static const char *last_part(const char *name, size_t length) {
    while (length > 0 && name[length - 1] != ':')
        length--;
    return name + length;
}

bool lode_variants_parse(lode_variant_t *variant, size_t *base_length, const char *name) {
    char text[128];
    size_t length = strlen(name);
    *variant = (lode_variant_t){.base = -1};
    *base_length = 0;
    if (strncmp(name, experiment_prefix, strlen(experiment_prefix)) == 0)
        return parse_experiment(variant, name + strlen(experiment_prefix));
    const char *part = last_part(name, length);
    const lode_choice_t *protection = lode_choice_find(lode_protection_choices, part);
    if (protection && part > name) {
        if (protection->value == LODE_PROTECT_NONE)
            return false;
        variant->protection = (lode_protection_t)protection->value;
        length = (size_t)(part - name) - 1;
        part = last_part(name, length);
    }
    const size_t size = length - (size_t)(part - name);
    if (size >= sizeof text)
        return false;
    memcpy(text, part, size);
    text[size] = '\0';
    *base_length = part > name ? (size_t)(part - name) - 1 : 0;
    return (part == name || *base_length > 0) && parse_quantizer(variant, text);
}

/* --- lists ---------------------------------------------------------------------------------- */

/* A list being made. */
typedef struct list {
    lode_variant_t *variants;
    int64_t count;
    const lode_config_t *config;
} list_t;

const lode_variant_t *lode_variants_find(const lode_variant_t *variants, int64_t count,
                                         const char *name) {
    for (int64_t i = 0; i < count; i++)
        if (strcmp(variants[i].name, name) == 0)
            return &variants[i];
    return NULL;
}

double lode_variants_sparsity(const lode_variant_t *variants, int64_t index) {
    const lode_variant_t *variant = &variants[index];
    if (variant->base >= 0)
        variant = &variants[variant->base];
    return variant->pruned ? variant->sparsity : 0;
}

/* Adds a variant unless one of its name is there. */
static lode_status_t add(list_t *list, lode_variant_t variant) {
    lode_buffer_t name = {0};
    lode_status_t status;
    if (variant.pruned)
        status = lode_variant_name(&name, variant.method, variant.sparsity, variant.core,
                                   variant.allocation, variant.compensation);
    else
        status = lode_variants_name(&name, &variant,
                                    variant.base < 0 ? NULL : list->variants[variant.base].name);
    if (status != LODE_OK || lode_variants_find(list->variants, list->count, name.data)) {
        lode_buffer_free(&name);
        return status;
    }
    variant.name = name.data; /* handed over */
    list->variants[list->count++] = variant;
    return LODE_OK;
}

/* Adds a pruned variant with every compensation of the experiment. */
static lode_status_t add_compensations(list_t *list, lode_variant_t variant) {
    const lode_config_prune_t *prune = &list->config->prune;
    if (variant.core == lode_mask_core(variant.method, LODE_CORE_DEFAULT))
        variant.core = LODE_CORE_DEFAULT;
    for (int64_t i = 0; i < prune->compensation_count; i++) {
        variant.compensation = prune->compensation[i];
        LODE_TRY(add(list, variant));
    }
    return LODE_OK;
}

static int64_t most_pruned(const lode_config_prune_t *prune) {
    return prune->method_count * prune->sparsity_count * prune->core_count *
           prune->allocation_count * prune->compensation_count;
}

static lode_status_t list_pruned(list_t *list) {
    const lode_config_prune_t *prune = &list->config->prune;
    for (int64_t m = 0; m < prune->method_count; m++)
        for (int64_t s = 0; s < prune->sparsity_count; s++)
            for (int64_t c = 0; c < prune->core_count; c++)
                for (int64_t a = 0; a < prune->allocation_count; a++)
                    LODE_TRY(
                        add_compensations(list, (lode_variant_t){.pruned = true,
                                                                 .method = prune->methods[m],
                                                                 .sparsity = prune->sparsity[s],
                                                                 .core = prune->cores[c],
                                                                 .allocation = prune->allocation[a],
                                                                 .base = -1}));
    return LODE_OK;
}

static lode_status_t list_experiments(list_t *list) {
    const lode_config_superweight_t *superweight = &list->config->superweight;
    for (int64_t e = 0; e < superweight->experiment_count; e++) {
        lode_variant_t variant = {
            .experiment = true, .what = superweight->experiments[e], .base = -1};
        const bool scales = variant.what == LODE_EXPERIMENT_SCALE;
        for (int64_t s = 0; s < (scales ? superweight->scale_count : 1); s++) {
            variant.factor = scales ? superweight->scales[s] : 0;
            LODE_TRY(add(list, variant));
        }
    }
    return LODE_OK;
}

/* Quantized variants of one base, method, number of bits and granularity. */
static lode_status_t add_quantized(list_t *list, lode_variant_t variant) {
    const lode_config_quantize_t *quantize = &list->config->quantize;
    for (int64_t c = 0; c < quantize->clip_count; c++)
        for (int64_t a = 0; a < quantize->activation_count; a++)
            for (int64_t p = 0; p < quantize->protection_count; p++) {
                variant.clip = quantize->clip[c];
                variant.activations = quantize->activations[a];
                variant.protection = quantize->protection[p];
                LODE_TRY(add(list, variant));
            }
    return LODE_OK;
}

static lode_status_t list_quantized(list_t *list, int64_t base) {
    const lode_config_quantize_t *quantize = &list->config->quantize;
    for (int64_t m = 0; m < quantize->method_count; m++)
        for (int64_t b = 0; b < quantize->bit_count; b++)
            for (int64_t g = 0; g < quantize->granularity_count; g++) {
                lode_variant_t variant = {.quantized = true,
                                          .quantizer = quantize->methods[m],
                                          .bits = (int)quantize->bits[b],
                                          .granularity = quantize->granularity[g],
                                          .base = base};
                if (variant.quantizer == LODE_QUANTIZER_LP &&
                    quantize->tensors == LODE_QUANTIZED_FFN)
                    variant.granularity = (lode_granularity_t){.kind = LODE_GRANULARITY_CHANNEL};
                LODE_TRY(add_quantized(list, variant));
            }
    return LODE_OK;
}

static int64_t most_quantized(const lode_config_quantize_t *quantize) {
    return quantize->method_count * quantize->bit_count * quantize->granularity_count *
           quantize->clip_count * quantize->activation_count * quantize->protection_count;
}

static lode_status_t list_all(list_t *list) {
    LODE_TRY(list_pruned(list));
    const int64_t pruned = list->config->quantize.pruned ? list->count : 0;
    LODE_TRY(list_experiments(list));
    LODE_TRY(list_quantized(list, -1));
    for (int64_t base = 0; base < pruned; base++)
        LODE_TRY(list_quantized(list, base));
    return LODE_OK;
}

/* Hands a list over that was made with `status`. */
static lode_status_t give(list_t *list, lode_status_t status, lode_variant_t **variants,
                          int64_t *count) {
    if (status != LODE_OK)
        lode_variants_free(&list->variants, list->count);
    *variants = list->variants;
    *count = status == LODE_OK ? list->count : 0;
    return status;
}

lode_status_t lode_variants_pruned(lode_variant_t **variants, int64_t *count,
                                   const lode_config_t *config) {
    list_t list = {.config = config};
    lode_status_t status = LODE_NEW(&list.variants, most_pruned(&config->prune), "variants");
    if (status == LODE_OK)
        status = list_pruned(&list);
    return give(&list, status, variants, count);
}

lode_status_t lode_variants_list(lode_variant_t **variants, int64_t *count,
                                 const lode_config_t *config) {
    list_t list = {.config = config};
    const int64_t pruned = most_pruned(&config->prune);
    const int64_t most =
        pruned + config->superweight.experiment_count * (1 + config->superweight.scale_count) +
        (1 + (config->quantize.pruned ? pruned : 0)) * most_quantized(&config->quantize);
    lode_status_t status = LODE_NEW(&list.variants, most, "variants");
    if (status == LODE_OK)
        status = list_all(&list);
    return give(&list, status, variants, count);
}

void lode_variants_free(lode_variant_t **variants, int64_t count) {
    for (int64_t i = 0; *variants && i < count; i++)
        free((*variants)[i].name);
    free(*variants);
    *variants = NULL;
}
