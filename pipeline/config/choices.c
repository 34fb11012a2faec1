#include "config/choices.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

const lode_choice_t lode_method_choices[] = {
    {"scar-lp", LODE_METHOD_SCAR_LP},
    {"scar-prot", LODE_METHOD_SCAR_PROT},
    {"scar-conn", LODE_METHOD_SCAR_CONN},
    {"lp", LODE_METHOD_LP},
    {"wanda-channel", LODE_METHOD_WANDA_CHANNEL},
    {"magnitude", LODE_METHOD_MAGNITUDE},
    {"activation", LODE_METHOD_ACTIVATION},
    {"taylor", LODE_METHOD_TAYLOR},
    {"entropy", LODE_METHOD_ENTROPY},
    {"random", LODE_METHOD_RANDOM},
    {"sparsegpt-channel", LODE_METHOD_SPARSEGPT_CHANNEL},
    {"flap", LODE_METHOD_FLAP},
    {"entropy-square", LODE_METHOD_ENTROPY_SQUARE},
    {"entropy-softmax", LODE_METHOD_ENTROPY_SOFTMAX},
    {"entropy-reversed", LODE_METHOD_ENTROPY_REVERSED},
    {"magnitude-reversed", LODE_METHOD_MAGNITUDE_REVERSED},
    {NULL, 0},
};

const lode_choice_t lode_core_choices[] = {
    {"default", LODE_CORE_DEFAULT}, {"lp", LODE_CORE_LP},     {"activation", LODE_CORE_ACTIVATION},
    {"random", LODE_CORE_RANDOM},   {"none", LODE_CORE_NONE}, {NULL, 0},
};

const lode_choice_t lode_allocation_choices[] = {
    {"uniform", LODE_ALLOCATION_UNIFORM},
    {"global", LODE_ALLOCATION_GLOBAL},
    {NULL, 0},
};

const lode_choice_t lode_compensation_choices[] = {
    {"none", LODE_COMPENSATION_NONE},
    {"bias", LODE_COMPENSATION_BIAS},
    {"least-squares", LODE_COMPENSATION_LEAST_SQUARES},
    {"sequential", LODE_COMPENSATION_SEQUENTIAL},
    {NULL, 0},
};

const lode_choice_t lode_select_choices[] = {
    {"first", LODE_SELECT_FIRST},
    {"random", LODE_SELECT_RANDOM},
    {NULL, 0},
};

const lode_choice_t lode_packing_choices[] = {
    {"none", LODE_PACKING_NONE},
    {"packed", LODE_PACKING_PACKED},
    {NULL, 0},
};

const lode_choice_t lode_padding_choices[] = {
    {"none", LODE_PADDING_NONE},
    {"eos", LODE_PADDING_EOS},
    {NULL, 0},
};

const lode_choice_t lode_loss_choices[] = {
    {"mean", LODE_LOSS_MEAN},
    {"sum", LODE_LOSS_SUM},
    {NULL, 0},
};

const lode_choice_t lode_protocol_choices[] = {
    {"gptq", LODE_PROTOCOL_GPTQ},
    {"llama.cpp", LODE_PROTOCOL_LLAMA_CPP},
    {"lm-eval", LODE_PROTOCOL_LM_EVAL},
    {"nodelens", LODE_PROTOCOL_NODELENS},
    {NULL, 0},
};

const lode_choice_t lode_bos_choices[] = {
    {"auto", LODE_BOS_AUTO},
    {"always", LODE_BOS_ALWAYS},
    {"never", LODE_BOS_NEVER},
    {NULL, 0},
};

const lode_choice_t lode_corpus_format_choices[] = {
    {"lines", LODE_CORPUS_LINES},
    {"text", LODE_CORPUS_TEXT},
    {"wikitext", LODE_CORPUS_WIKITEXT},
    {"jsonl", LODE_CORPUS_JSONL},
    {NULL, 0},
};

const lode_choice_t lode_second_moment_choices[] = {
    {"auto", LODE_SECOND_MOMENT_AUTO},
    {"float32", LODE_SECOND_MOMENT_FLOAT32},
    {"float64", LODE_SECOND_MOMENT_FLOAT64},
    {NULL, 0},
};

const lode_choice_t lode_correlation_choices[] = {
    {"scale-free", LODE_CORRELATION_SCALE_FREE},
    {"nodelens", LODE_CORRELATION_NODELENS},
    {NULL, 0},
};

const lode_choice_t lode_spectrum_choices[] = {
    {"q", LODE_SPECTRUM_Q},
    {"u", LODE_SPECTRUM_U},
    {"write", LODE_SPECTRUM_WRITE},
    {NULL, 0},
};

const lode_choice_t lode_probe_check_choices[] = {
    {"dose-response", LODE_PROBE_DOSE_RESPONSE},
    {"random-cores", LODE_PROBE_RANDOM_CORES},
    {"score-core", LODE_PROBE_SCORE_CORE},
    {"ablation", LODE_PROBE_ABLATION},
    {"halo-ablation", LODE_PROBE_HALO_ABLATION},
    {"mean-replacement", LODE_PROBE_MEAN_REPLACEMENT},
    {NULL, 0},
};

const lode_choice_t lode_export_layout_choices[] = {
    {"auto", LODE_EXPORT_AUTO},
    {"sliced", LODE_EXPORT_SLICED},
    {"padded", LODE_EXPORT_PADDED},
    {NULL, 0},
};

const lode_choice_t lode_spike_rule_choices[] = {
    {"relative", LODE_SPIKE_RELATIVE},
    {"absolute", LODE_SPIKE_ABSOLUTE},
    {NULL, 0},
};

const lode_choice_t lode_experiment_choices[] = {
    {"prune", LODE_EXPERIMENT_PRUNE},
    {"restore", LODE_EXPERIMENT_RESTORE},
    {"scale", LODE_EXPERIMENT_SCALE},
    {"others-tensor", LODE_EXPERIMENT_OTHERS_TENSOR},
    {"others-global", LODE_EXPERIMENT_OTHERS_GLOBAL},
    {NULL, 0},
};

const lode_choice_t lode_quantizer_choices[] = {
    {"rtn", LODE_QUANTIZER_RTN},
    {"lp", LODE_QUANTIZER_LP},
    {NULL, 0},
};

const lode_choice_t lode_protection_choices[] = {
    {"none", LODE_PROTECT_NONE},
    {"super-weight", LODE_PROTECT_SUPER_WEIGHT},
    {"supernode", LODE_PROTECT_SUPERNODE},
    {"both", LODE_PROTECT_BOTH},
    {NULL, 0},
};

const lode_choice_t lode_clip_choices[] = {
    {"none", LODE_CLIP_NONE},
    {"searched", LODE_CLIP_SEARCHED},
    {NULL, 0},
};

const lode_choice_t lode_activations_quantized_choices[] = {
    {"none", LODE_INPUTS_NONE},
    {"token", LODE_INPUTS_TOKEN},
    {"tensor", LODE_INPUTS_TENSOR},
    {"token-held", LODE_INPUTS_TOKEN_HELD},
    {"tensor-held", LODE_INPUTS_TENSOR_HELD},
    {"token-smooth", LODE_INPUTS_TOKEN_SMOOTH},
    {"tensor-smooth", LODE_INPUTS_TENSOR_SMOOTH},
    {NULL, 0},
};

const lode_choice_t lode_quantized_tensors_choices[] = {
    {"all", LODE_QUANTIZED_ALL},
    {"ffn", LODE_QUANTIZED_FFN},
    {NULL, 0},
};

const lode_choice_t lode_train_from_choices[] = {
    {"checkpoint", LODE_TRAIN_CHECKPOINT},
    {"scratch", LODE_TRAIN_SCRATCH},
    {NULL, 0},
};

const lode_choice_t lode_train_decay_choices[] = {
    {"cosine", LODE_DECAY_COSINE},
    {"linear", LODE_DECAY_LINEAR},
    {"constant", LODE_DECAY_CONSTANT},
    {NULL, 0},
};

const lode_choice_t lode_train_dtype_choices[] = {
    {"bf16", LODE_TRAIN_BF16},
    {"f32", LODE_TRAIN_F32},
    {NULL, 0},
};

const lode_choice_t lode_entropy_form_choices[] = {
    {"absolute", LODE_ENTROPY_ABSOLUTE},
    {"square", LODE_ENTROPY_SQUARE},
    {"softmax", LODE_ENTROPY_SOFTMAX},
    {NULL, 0},
};

const lode_choice_t lode_entropy_schedule_choices[] = {
    {"constant", LODE_SCHEDULE_CONSTANT},
    {"linear", LODE_SCHEDULE_LINEAR},
    {"cosine", LODE_SCHEDULE_COSINE},
    {NULL, 0},
};

const lode_choice_t *lode_choice_find(const lode_choice_t *choices, const char *name) {
    for (; choices->name; choices++)
        if (strcmp(choices->name, name) == 0)
            return choices;
    return NULL;
}

static const char *choice_name(const lode_choice_t *choices, int value) {
    for (; choices->name; choices++)
        if (choices->value == value)
            return choices->name;
    LODE_ASSERT(!"a value of its enum");
    return "";
}

const char *lode_method_name(lode_method_t method) {
    return choice_name(lode_method_choices, (int)method);
}

const char *lode_core_name(lode_core_t core) {
    return choice_name(lode_core_choices, (int)core);
}

const char *lode_allocation_name(lode_allocation_t allocation) {
    return choice_name(lode_allocation_choices, (int)allocation);
}

const char *lode_compensation_name(lode_compensation_t compensation) {
    return choice_name(lode_compensation_choices, (int)compensation);
}

const char *lode_select_name(lode_select_t select) {
    return choice_name(lode_select_choices, (int)select);
}

const char *lode_packing_name(lode_packing_t packing) {
    return choice_name(lode_packing_choices, (int)packing);
}

const char *lode_loss_name(lode_loss_t loss) {
    return choice_name(lode_loss_choices, (int)loss);
}

const char *lode_protocol_name(lode_protocol_t protocol) {
    return choice_name(lode_protocol_choices, (int)protocol);
}

const char *lode_bos_name(lode_bos_t bos) {
    return choice_name(lode_bos_choices, (int)bos);
}

const char *lode_corpus_format_name(lode_corpus_format_t format) {
    return choice_name(lode_corpus_format_choices, (int)format);
}

const char *lode_correlation_name(lode_correlation_t correlation) {
    return choice_name(lode_correlation_choices, (int)correlation);
}

const char *lode_spectrum_name(lode_spectrum_t spectrum) {
    return choice_name(lode_spectrum_choices, (int)spectrum);
}

const char *lode_probe_check_name(lode_probe_check_t check) {
    return choice_name(lode_probe_check_choices, (int)check);
}

const char *lode_export_layout_name(lode_export_layout_t layout) {
    return choice_name(lode_export_layout_choices, (int)layout);
}

const char *lode_experiment_name(lode_experiment_t experiment) {
    return choice_name(lode_experiment_choices, (int)experiment);
}

const char *lode_quantizer_name(lode_quantizer_t quantizer) {
    return choice_name(lode_quantizer_choices, (int)quantizer);
}

const char *lode_protection_name(lode_protection_t protection) {
    return choice_name(lode_protection_choices, (int)protection);
}

const char *lode_clip_name(lode_clip_t clip) {
    return choice_name(lode_clip_choices, (int)clip);
}

const char *lode_activations_quantized_name(lode_activations_quantized_t activations) {
    return choice_name(lode_activations_quantized_choices, (int)activations);
}

const char *lode_train_from_name(lode_train_from_t from) {
    return choice_name(lode_train_from_choices, (int)from);
}

const char *lode_train_decay_name(lode_train_decay_t decay) {
    return choice_name(lode_train_decay_choices, (int)decay);
}

const char *lode_train_dtype_name(lode_train_dtype_t dtype) {
    return choice_name(lode_train_dtype_choices, (int)dtype);
}

const char *lode_entropy_form_name(lode_entropy_form_t form) {
    return choice_name(lode_entropy_form_choices, (int)form);
}

const char *lode_entropy_schedule_name(lode_entropy_schedule_t schedule) {
    return choice_name(lode_entropy_schedule_choices, (int)schedule);
}

/* --- granularities ---------------------------------------------------------------------- */

/* The kinds that have no size come first, as in the enum. */
static const char *const granularity_kinds[] = {"tensor", "channel", "group-", "block-"};

static bool has_size(lode_granularity_kind_t kind) {
    return kind == LODE_GRANULARITY_GROUP || kind == LODE_GRANULARITY_BLOCK;
}

void lode_granularity_name(char name[LODE_GRANULARITY_NAME], lode_granularity_t granularity) {
    if (has_size(granularity.kind))
        snprintf(name, LODE_GRANULARITY_NAME, "%s%lld", granularity_kinds[granularity.kind],
                 (long long)granularity.size);
    else
        snprintf(name, LODE_GRANULARITY_NAME, "%s", granularity_kinds[granularity.kind]);
}

/* N without sign, spaces or leading zeros, so that every granularity has one spelling. */
static bool parse_size(int64_t *size, lode_granularity_kind_t kind, const char *text) {
    const size_t digits = strspn(text, "0123456789");
    const int64_t most =
        kind == LODE_GRANULARITY_BLOCK ? LODE_GRANULARITY_MOST_BLOCK : LODE_GRANULARITY_MOST_GROUP;
    if (digits == 0 || digits > 9 || text[digits] != '\0' || text[0] == '0')
        return false;
    *size = strtoll(text, NULL, 10);
    return *size >= LODE_GRANULARITY_LEAST && *size <= most;
}

bool lode_granularity_parse(lode_granularity_t *out, const char *text) {
    for (int k = LODE_GRANULARITY_TENSOR; k <= LODE_GRANULARITY_BLOCK; k++) {
        lode_granularity_t found = {.kind = (lode_granularity_kind_t)k};
        const char *kind = granularity_kinds[k];
        const bool sized = has_size(found.kind);
        if (sized ? strncmp(text, kind, strlen(kind)) != 0 : strcmp(text, kind) != 0)
            continue;
        if (sized && !parse_size(&found.size, found.kind, text + strlen(kind)))
            return false;
        *out = found;
        return true;
    }
    return false;
}

bool lode_granularity_equal(lode_granularity_t a, lode_granularity_t b) {
    return a.kind == b.kind && a.size == b.size;
}

bool lode_activations_quantized_held(lode_activations_quantized_t activations) {
    return activations == LODE_INPUTS_TOKEN_HELD || activations == LODE_INPUTS_TENSOR_HELD;
}

bool lode_activations_quantized_smooth(lode_activations_quantized_t activations) {
    return activations == LODE_INPUTS_TOKEN_SMOOTH || activations == LODE_INPUTS_TENSOR_SMOOTH;
}

bool lode_activations_quantized_tensor(lode_activations_quantized_t activations) {
    return activations == LODE_INPUTS_TENSOR || activations == LODE_INPUTS_TENSOR_HELD ||
           activations == LODE_INPUTS_TENSOR_SMOOTH;
}

bool lode_protects_super_weight(lode_protection_t protection) {
    return protection == LODE_PROTECT_SUPER_WEIGHT || protection == LODE_PROTECT_BOTH;
}

bool lode_protects_supernode(lode_protection_t protection) {
    return protection == LODE_PROTECT_SUPERNODE || protection == LODE_PROTECT_BOTH;
}
