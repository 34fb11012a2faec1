/* The entropy of outgoing weights in the loss. */
#include <string.h>

#include "score/entropy.h"
#include "training/trainer_state.h"

/* Mean entropy of a layer, whose H_j stay in trainer->h. */
static double layer_entropy(lode_trainer_t *trainer, const lode_tensor_t *down) {
    double sum = 0;
    lode_entropy_columns(down->data, down->shape[0], down->shape[1], down->pitch, down->transposed,
                         trainer->setting.entropy_form, trainer->h, trainer->workspace);
    for (int64_t j = 0; j < down->shape[1]; j++)
        sum += trainer->h[j];
    return sum / (double)down->shape[1];
}

/* Adds `scale` times the gradient of the entropies in trainer->h, within the own shard. */
static void pull_layer(lode_trainer_t *trainer, const lode_parameter_t *parameter,
                       const lode_tensor_t *down, double scale, float *gradient) {
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const int64_t first = max2(own.begin, parameter->offset);
    const int64_t end = min2(own.end, parameter->offset + parameter->elements);
    memset(trainer->pull, 0, (size_t)parameter->elements * sizeof *trainer->pull);
    lode_entropy_gradient(down->data, down->shape[0], down->shape[1], down->pitch, down->transposed,
                          trainer->setting.entropy_form, trainer->h, trainer->workspace, scale,
                          trainer->pull);
    lode_reduce_add(gradient + first, trainer->pull + (first - parameter->offset), end - first);
}

lode_status_t lode_trainer_entropies(lode_trainer_t *trainer, bool all, double scale,
                                     float *gradient) {
    const lode_trainer_moments_t own = lode_trainer_moments(trainer);
    const lode_parameters_t *parameters = trainer->parameters;
    for (int64_t p = 0; p < parameters->count; p++) {
        const lode_parameter_t *parameter = &parameters->list[p];
        const bool leads = parameter->offset >= own.begin && parameter->offset < own.end;
        const bool shares =
            parameter->offset < own.end && parameter->offset + parameter->elements > own.begin;
        const bool pulls = shares && gradient && scale != 0;
        lode_layer_weights_t weights;
        if (parameter->role != LODE_ROLE_DOWN || !(all || trainer->chosen[parameter->layer]) ||
            !(leads || pulls))
            continue;
        LODE_TRY(lode_checkpoint_layer(parameters->checkpoint, parameter->layer, &weights));
        const double mean = layer_entropy(trainer, &weights.down);
        if (leads)
            trainer->entropy[parameter->layer] = mean;
        if (pulls)
            pull_layer(trainer, parameter, &weights.down, scale, gradient);
    }
    return LODE_OK;
}

lode_status_t lode_trainer_entropy(lode_trainer_t *trainer, double *mean) {
    const int64_t layers = trainer->layout->layers;
    memset(trainer->entropy, 0, (size_t)layers * sizeof *mean);
    LODE_TRY(lode_comm_agree(trainer->comm, lode_trainer_entropies(trainer, true, 0, NULL)));
    MPI_Allreduce(trainer->entropy, mean, (int)layers, MPI_DOUBLE, MPI_SUM, trainer->comm->comm);
    return LODE_OK;
}
