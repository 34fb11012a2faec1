#include "transformer/schedule.h"

static int64_t warmup(int stages, int stage, int64_t items) {
    const int64_t ahead = stages - 1 - stage;
    return ahead < items ? ahead : items;
}

lode_operation_t lode_schedule_operation(int stages, int stage, int64_t items, bool backward,
                                         int64_t step) {
    if (!backward)
        return (lode_operation_t){.item = step};
    const int64_t ahead = warmup(stages, stage, items);
    if (step < ahead)
        return (lode_operation_t){.item = step};
    const int64_t pair = (step - ahead) / 2; /* forward ahead + pair, backward pair */
    if (ahead + pair < items)
        return (step - ahead) % 2 == 0 ? (lode_operation_t){.item = ahead + pair}
                                       : (lode_operation_t){.backward = true, .item = pair};
    return (lode_operation_t){.backward = true, .item = step - items};
}

int64_t lode_schedule_in_flight(int stages, int stage, int64_t items, bool backward) {
    if (!backward)
        return 1;
    const int64_t most = warmup(stages, stage, items) + 1;
    return most < items ? most : items > 0 ? items : 1;
}
