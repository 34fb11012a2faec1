#include "config/choices.h"

#include <stddef.h>
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
