#include "train/train.h"

lode_status_t lode_stage_train(lode_run_t *run) {
    return lode_fail(LODE_ERR_UNSUPPORTED, "model %s: this version has no stage train",
                     run->model->name);
}

bool lode_train_present(const lode_run_t *run) {
    (void)run;
    return false;
}
