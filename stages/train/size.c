#include "train/train.h"
#include "train/work.h"

/* The file's bytes, and the state's. */
static lode_status_t count_files(lode_stage_size_t *size, int64_t *state,
                                 const lode_train_record_t *record,
                                 const lode_inventory_t *inventory) {
    lode_store_t *store;
    LODE_TRY(lode_store_tally_create(&store));
    const lode_status_t status = lode_train_record_datasets(store, record);
    size->file = lode_store_tally_end(&store);
    LODE_TRY(status);
    return lode_train_state_bytes(state, inventory, record);
}

static lode_status_t count_memory(int64_t *bytes, const lode_run_t *run,
                                  const lode_layout_t *layout, int64_t blocks) {
    lode_trainer_setting_t setting;
    lode_train_setting(&setting, run);
    LODE_TRY(lode_trainer_memory(&run->architecture, layout, &setting, bytes));
    *bytes += lode_train_other(run, blocks);
    return LODE_OK;
}

lode_status_t lode_train_size(lode_stage_size_t *size, int64_t *folders, lode_run_t *run,
                              const lode_layout_t *layout, int64_t blocks) {
    lode_inventory_t inventory = {0};
    lode_train_record_t record;
    const bool keep = run->config->train.keep_state;
    int64_t state = 0;
    *size = (lode_stage_size_t){0};
    *folders = 0;
    lode_status_t status = lode_train_record_create(&record, run->config, run->architecture.layers);
    if (status == LODE_OK)
        status =
            lode_inventory_create(&inventory, &run->architecture, lode_train_dtype(run->config));
    if (status == LODE_OK)
        status = count_files(size, &state, &record, &inventory);
    if (status == LODE_OK)
        status = count_memory(&size->memory, run, layout, blocks);
    size->scratch = keep ? state : 2 * state;
    *folders = record.checkpoints * inventory.bytes + (keep ? state : 0);
    lode_inventory_free(&inventory);
    lode_train_record_free(&record);
    return status;
}
