#include "model/describe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/family.h"

/* Adds one peculiarity to the list. */
__attribute__((format(printf, 2, 3))) static void add(char *text, const char *format, ...) {
    const bool first = !strchr(text, '(');
    size_t used = strlen(text);
    snprintf(text + used, LODE_DESCRIPTION_BYTES - used, "%s", first ? " (" : ", ");
    used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, LODE_DESCRIPTION_BYTES - used, format, arguments);
    va_end(arguments);
}

static void add_norms(char *text, const lode_architecture_t *a) {
    if (a->norm == LODE_NORM_LAYER)
        add(text, "%s", lode_family_has(a, LODE_ROLE_FINAL_NORM) ? "LayerNorm" : "bare LayerNorm");
    if (a->attention_post_norm)
        add(text, "norms %s attention and FFN", a->attention_norm ? "around" : "after");
    if (a->qk_norm != LODE_QK_NORM_NONE)
        add(text, "norms of queries and keys");
}

static void add_attention(char *text, const lode_architecture_t *a) {
    int64_t windowed = 0;
    for (int64_t l = 0; l < a->layers; l++)
        windowed += lode_architecture_window(a, l) > 0;
    if (windowed > 0)
        add(text, "window %" PRId64 " in %" PRId64 " of %" PRId64 " layers", a->window, windowed,
            a->layers);
    if (a->clip_qkv > 0)
        add(text, "clip_qkv %g", a->clip_qkv);
    if (a->attention_cap > 0)
        add(text, "scores capped at %g", a->attention_cap);
    if (a->logit_cap > 0)
        add(text, "logits capped at %g", a->logit_cap);
}

static void add_positions(char *text, const lode_architecture_t *a) {
    if (a->learned_positions)
        add(text, "learned positions");
    if (a->rotary.kind > LODE_ROTARY_DEFAULT)
        add(text, "%s positions × %g", lode_rotary_name(a->rotary.kind), a->rotary.factor);
    if (a->rotary.kind != LODE_ROTARY_NONE && a->rotary.dims != a->head_dim)
        add(text, "%" PRId64 " of %" PRId64 " elements of a head turned", a->rotary.dims,
            a->head_dim);
}

void lode_architecture_describe(char text[LODE_DESCRIPTION_BYTES],
                                const lode_architecture_t *architecture) {
    static const char *const activations[LODE_ACTIVATIONS] = {"silu", "gelu_tanh", "gelu", "relu"};
    const lode_architecture_t *a = architecture;
    snprintf(text, LODE_DESCRIPTION_BYTES, "%s", lode_model_type_name(a->model_type));
    if (a->activation != LODE_ACTIVATION_SILU)
        add(text, "%s", activations[a->activation]);
    if (!a->gated)
        add(text, "no gate");
    if (a->attention_bias || a->output_bias || a->ffn_bias)
        add(text, "biases");
    add_norms(text, a);
    add_attention(text, a);
    add_positions(text, a);
    if (strchr(text, '(')) {
        const size_t used = strlen(text);
        snprintf(text + used, LODE_DESCRIPTION_BYTES - used, ")");
    }
}
