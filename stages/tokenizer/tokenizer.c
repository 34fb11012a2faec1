#include "tokenizer/tokenizer.h"

lode_status_t lode_stage_tokenizer(lode_run_t *run) {
    return lode_fail(LODE_ERR_UNSUPPORTED, "model %s: this version has no stage tokenizer",
                     run->model->name);
}
