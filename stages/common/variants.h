/* stages/common/variants: the variants of a model that an experiment asks for.
 *
 * First the pruned ones, which the stages prune and compensate work on; then what is done with
 * super weights; then the quantized ones, of the dense model and, where they are asked for, of the
 * pruned ones. Each has a name, under which it stands in every file of results:
 *   scar-prot@0.5+bias                       pruned, as lode_variant_name() has it
 *   super-weight:scale-1.5                   an experiment
 *   scar-prot@0.5:int4-group-128-clip:both   quantized: of which pruned variant, the method with
 *                                            its bits, granularity, clipping, 8-bit inputs
 *                                            ("-a8-token-held"), protection
 * Everything here is Local.
 */
#ifndef LODE_STAGES_COMMON_VARIANTS_H
#define LODE_STAGES_COMMON_VARIANTS_H

#include "config/config.h"

/* One variant; the name is its own. It is pruned, an experiment, or quantized, one of the three. */
typedef struct lode_variant {
    char *name;

    bool pruned;
    lode_method_t method;
    double sparsity;
    lode_core_t core; /* as asked for; lode_mask_core() resolves DEFAULT */
    lode_allocation_t allocation;
    lode_compensation_t compensation;

    bool experiment;
    lode_experiment_t what;
    double factor; /* of super weights, LODE_EXPERIMENT_SCALE */

    bool quantized;
    lode_quantizer_t quantizer;
    int bits;
    lode_granularity_t granularity;
    lode_clip_t clip;
    lode_activations_quantized_t activations;
    lode_protection_t protection;
    int64_t base; /* place in the list of the pruned variant that it starts from, −1: the dense
                   * model; −1 of variants that are not quantized */
} lode_variant_t;

/* The pruned variants of an experiment in the order of its lists, without doubles: a core that is
 * the method's own anyway is named as the default. Release with lode_variants_free. Errors:
 * LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_variants_pruned(lode_variant_t **variants, int64_t *count,
                                                 const lode_config_t *config);

/* All variants of an experiment, the pruned ones first and in the same places; the last key is
 * fastest, of quantized ones in the order base, method, bits, granularity, clip, activations,
 * protection. What has no effect makes no variant of its own: method lp with quantize.tensors =
 * "ffn" reads no granularity, and is named as with "channel". Release with lode_variants_free.
 * Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_variants_list(lode_variant_t **variants, int64_t *count,
                                               const lode_config_t *config);
void lode_variants_free(lode_variant_t **variants, int64_t count);

/* The one of variants [count] that is called `name`, NULL where there is none. */
const lode_variant_t *lode_variants_find(const lode_variant_t *variants, int64_t count,
                                         const char *name);

/* Share of its channels that variants[index] or what it starts from has lost, 0 for none. */
double lode_variants_sparsity(const lode_variant_t *variants, int64_t index);

/* Appends the name of an experiment or of a quantized variant, whose base, if it has any, is called
 * `base`. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_variants_name(lode_buffer_t *name, const lode_variant_t *variant,
                                               const char *base);

/* Reads the name of an experiment or of a quantized variant into what it says, and where the name
 * of the variant that it starts from ends: *base_length is 0 for the dense model. False where it is
 * neither of both, as for pruned variants. *variant gets no name, and base −1. */
bool lode_variants_parse(lode_variant_t *variant, size_t *base_length, const char *name);

#endif
