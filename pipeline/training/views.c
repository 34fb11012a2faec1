#include "training/views.h"

#include <stdlib.h>

#include "base/memory.h"

/* The place of a weight's gradient: that of the weight itself among the weights. */
static lode_real_t *place_of(const lode_parameters_t *parameters, lode_real_t *gradient,
                             const lode_tensor_t *weight) {
    return weight->data ? gradient + ((const float *)weight->data - parameters->weights) : NULL;
}

static lode_gradient_t matrix_of(const lode_parameters_t *parameters, lode_real_t *gradient,
                                 const lode_tensor_t *weight, const lode_tensor_t *bias) {
    return (lode_gradient_t){.data = place_of(parameters, gradient, weight),
                             .pitch = weight->pitch,
                             .transposed = weight->transposed,
                             .bias = bias ? place_of(parameters, gradient, bias) : NULL};
}

static lode_status_t view_layer(lode_layer_gradient_t *view, const lode_parameters_t *parameters,
                                int64_t layer, lode_real_t *gradient) {
    lode_layer_weights_t w;
    LODE_TRY(lode_checkpoint_layer(parameters->checkpoint, layer, &w));
    const struct {
        lode_layer_matrix_t matrix;
        const lode_tensor_t *weight, *bias;
    } matrices[LODE_MATRICES] = {
        {LODE_MATRIX_Q, &w.q, &w.q_bias},          {LODE_MATRIX_K, &w.k, &w.k_bias},
        {LODE_MATRIX_V, &w.v, &w.v_bias},          {LODE_MATRIX_O, &w.o, &w.o_bias},
        {LODE_MATRIX_UP, &w.up, &w.up_bias},       {LODE_MATRIX_GATE, &w.gate, &w.gate_bias},
        {LODE_MATRIX_DOWN, &w.down, &w.down_bias},
    };
    for (int i = 0; i < LODE_MATRICES; i++)
        view->matrix[matrices[i].matrix] =
            matrix_of(parameters, gradient, matrices[i].weight, matrices[i].bias);
    view->attention_norm = place_of(parameters, gradient, &w.attention_norm);
    view->attention_norm_bias = place_of(parameters, gradient, &w.attention_norm_bias);
    view->attention_post_norm = place_of(parameters, gradient, &w.attention_post_norm);
    view->ffn_norm = place_of(parameters, gradient, &w.ffn_norm);
    view->ffn_norm_bias = place_of(parameters, gradient, &w.ffn_norm_bias);
    view->ffn_post_norm = place_of(parameters, gradient, &w.ffn_post_norm);
    view->q_norm = place_of(parameters, gradient, &w.q_norm);
    view->k_norm = place_of(parameters, gradient, &w.k_norm);
    return LODE_OK;
}

/* Embedding and positions, final norm and head. */
static lode_status_t view_ends(lode_stack_gradient_t *view, const lode_parameters_t *parameters,
                               lode_real_t *gradient) {
    lode_checkpoint_t *checkpoint = parameters->checkpoint;
    lode_tensor_t embedding, positions, head, norm, bias;
    if (parameters->embedding) {
        LODE_TRY(lode_checkpoint_embedding(checkpoint, &embedding));
        LODE_TRY(lode_checkpoint_positions(checkpoint, &positions));
        view->embedding = matrix_of(parameters, gradient, &embedding, NULL);
        view->positions = matrix_of(parameters, gradient, &positions, NULL);
    }
    if (!parameters->head)
        return LODE_OK;
    LODE_TRY(lode_checkpoint_head(checkpoint, &head));
    LODE_TRY(lode_checkpoint_final_norm(checkpoint, &norm));
    LODE_TRY(lode_checkpoint_final_norm_bias(checkpoint, &bias));
    view->head = matrix_of(parameters, gradient, &head, NULL);
    view->final_norm = place_of(parameters, gradient, &norm);
    view->final_norm_bias = place_of(parameters, gradient, &bias);
    if (parameters->gradients > parameters->elements)
        view->head.data = gradient + parameters->elements;
    return LODE_OK;
}

lode_status_t lode_gradient_view_create(lode_stack_gradient_t *view,
                                        const lode_parameters_t *parameters,
                                        lode_real_t *gradient) {
    *view = (lode_stack_gradient_t){0};
    lode_status_t status = LODE_NEW(&view->layer, parameters->layers, "gradients");
    for (int64_t i = 0; i < parameters->layers && status == LODE_OK; i++)
        status = view_layer(&view->layer[i], parameters, parameters->first_layer + i, gradient);
    if (status == LODE_OK)
        status = view_ends(view, parameters, gradient);
    if (status != LODE_OK)
        lode_gradient_view_free(view);
    return status;
}

void lode_gradient_view_free(lode_stack_gradient_t *view) {
    free(view->layer);
    *view = (lode_stack_gradient_t){0};
}
