/* What a trainer takes, and how ranks are laid out for it. */
#include "training/trainer_state.h"

int64_t lode_trainer_rows(const lode_trainer_setting_t *setting) {
    return min2(max2(setting->micro_batch / setting->length, 1), setting->batch);
}

int64_t lode_trainer_micro_batches(const lode_trainer_setting_t *setting) {
    const int64_t rows = lode_trainer_rows(setting);
    return (setting->batch + rows - 1) / rows;
}

static int64_t power_of_two_below(int64_t limit) {
    int64_t power = 1;
    while (2 * power <= limit)
        power *= 2;
    return power;
}

int64_t lode_trainer_own_bytes(const lode_architecture_t *architecture,
                               const lode_trainer_setting_t *setting, int64_t gradients,
                               int64_t shard, int64_t buffers, int64_t buffer) {
    const int64_t d = architecture->hidden, m = architecture->intermediate;
    const int64_t tokens = setting->batch * setting->length;
    const bool pull = setting->entropy_weight > 0 && gradients > 0;
    return (int64_t)sizeof(float) *
               (buffers * gradients + 2 * shard + buffer + (pull ? d * m : 0)) +
           (int64_t)sizeof(double) * (tokens + 3 * m) + 2 * (int64_t)sizeof(int32_t) * tokens;
}

lode_status_t lode_trainer_memory(const lode_architecture_t *architecture,
                                  const lode_layout_t *layout,
                                  const lode_trainer_setting_t *setting, int64_t *bytes) {
    const int64_t replicas = layout->replicas, rows = lode_trainer_rows(setting);
    int64_t elements, gradients;
    LODE_TRY(lode_parameters_size(architecture, layout, &elements, &gradients));
    const int64_t shard = min2(
        (elements + replicas - 1) / replicas + (replicas > 1 ? LODE_BLOCK_ELEMENTS : 0), elements);
    *bytes = (int64_t)sizeof(float) * elements +
             lode_trainer_own_bytes(architecture, setting, gradients, shard,
                                    lode_group_sum_buffers(setting->groups / replicas),
                                    elements > 0 ? lode_reduce_buffer((int)replicas) : 0) +
             lode_stack_memory(architecture, layout, LODE_DTYPE_F32, rows * setting->length,
                               setting->length, setting->threads);
    return LODE_OK;
}

/* Whether every rank can train with so many replicas. All replicas need the same. */
static lode_status_t fits(bool *out, const lode_architecture_t *architecture,
                          const lode_trainer_setting_t *setting, int size, int64_t replicas) {
    lode_layout_t layout = {.stages = 1};
    *out = true;
    for (int s = 0; s < layout.stages && *out; s++) {
        lode_pass_memory_t pass;
        int64_t bytes;
        LODE_TRY(lode_layout_create(&layout, architecture, setting->length, size, s, replicas));
        const lode_pass_size_t shape = {.architecture = architecture,
                                        .layout = &layout,
                                        .tokens = lode_trainer_rows(setting) * setting->length,
                                        .batches = lode_trainer_micro_batches(setting),
                                        .variants = 1,
                                        .backward = true};
        LODE_TRY(lode_pass_memory(&shape, &pass));
        LODE_TRY(lode_trainer_memory(architecture, &layout, setting, &bytes));
        *out = bytes + (setting->scratch ? pass.least : pass.inputs) <= setting->memory;
    }
    return LODE_OK;
}

/* The most replicas that fit, else the fewest that leave no rank without a part. */
static lode_status_t choose_replicas(int64_t *out, const lode_architecture_t *architecture,
                                     const lode_trainer_setting_t *setting, int size) {
    const int64_t parts = architecture->layers + 1;
    const int64_t most = min2(power_of_two_below(size), setting->groups);
    bool fit = false;
    for (int64_t replicas = most; replicas > 0 && !fit; replicas /= 2) {
        LODE_TRY(fits(&fit, architecture, setting, size, replicas));
        *out = replicas;
    }
    if (fit)
        return LODE_OK;
    for (*out = 1; *out * parts < size && *out < most;)
        *out *= 2;
    return LODE_OK;
}

lode_status_t lode_trainer_layout(lode_layout_t *layout, const lode_architecture_t *architecture,
                                  const lode_trainer_setting_t *setting, int size, int rank,
                                  int64_t replicas) {
    if (replicas > 0 && ((replicas & (replicas - 1)) != 0 || replicas > setting->groups))
        return lode_fail(LODE_ERR_CONFIG,
                         "replicas = %lld: training takes a power of two, at most train.groups = "
                         "%lld, so that its numbers do not depend on the ranks; lower it, raise "
                         "train.groups, or leave it out to have it chosen",
                         (long long)replicas, (long long)setting->groups);
    if (replicas == 0)
        LODE_TRY(choose_replicas(&replicas, architecture, setting, size));
    return lode_layout_create(layout, architecture, setting->length, size, rank, replicas);
}
