#include "export/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "common/folder.h"
#include "export/write.h"

enum { NAME_BYTES = 64 };

/* --- the record ----------------------------------------------------------------------------- */

static void group_name(char name[NAME_BYTES], int64_t number) {
    snprintf(name, NAME_BYTES, "/exports/%lld", (long long)number);
}

/* Writes what the plan says into export.h5. Collective. */
static lode_status_t record(lode_store_t *store, const lode_run_t *run,
                            const lode_export_plan_t *plan) {
    char group[NAME_BYTES], name[NAME_BYTES + 16];
    const int64_t offset = 0;
    group_name(group, plan->number);
    snprintf(name, sizeof name, "%s/widths", group);
    LODE_TRY(lode_store_dataset(store, name, LODE_TYPE_I64, 1, &plan->layers, false));
    LODE_TRY(lode_store_attribute_text(store, group, "variant", plan->entry->variant));
    LODE_TRY(lode_store_attribute_text(store, group, "path", plan->folder));
    LODE_TRY(lode_store_attribute_text(store, group, "layout", lode_export_plan_layout(plan)));
    LODE_TRY(lode_store_attribute_text(store, group, "digest", plan->digest));
    LODE_TRY(lode_store_attribute_i64(store, group, "intermediate_size", plan->width));
    /* A failed write sticks to the store and fails its commit. */
    if (run->comm->rank == 0)
        return lode_store_write(store, name, &offset, &plan->layers, plan->widths);
    return LODE_OK;
}

/* Whether the folder that the record's entry `number` names is what it says. */
static bool is_present(lode_store_t *store, int64_t number) {
    char group[NAME_BYTES], *path = NULL, *digest = NULL;
    group_name(group, number);
    const bool present =
        lode_store_get_attribute_text(store, group, "path", &path) == LODE_OK &&
        lode_store_get_attribute_text(store, group, "digest", &digest) == LODE_OK &&
        strlen(digest) == LODE_DIGEST_TEXT - 1 && lode_folder_is(path, digest);
    free(path);
    free(digest);
    return present;
}

bool lode_export_present(const lode_run_t *run) {
    const lode_comm_t alone = lode_comm_describe(MPI_COMM_SELF);
    char *path;
    lode_store_t *store = NULL;
    if (lode_run_path(&path, run, LODE_STAGE_EXPORT) != LODE_OK)
        return false;
    bool present = lode_store_open(&store, &alone, path) == LODE_OK;
    for (int64_t i = 0; i < run->config->export_count && present; i++)
        present = is_present(store, i);
    lode_store_close(&store);
    free(path);
    return present;
}

/* --- the stage ------------------------------------------------------------------------------ */

/* Records and writes what is planned. Collective. */
static lode_status_t export_plan(lode_run_t *run, const lode_export_plan_t *plan,
                                 const lode_export_inputs_t *inputs, lode_store_t *store) {
    int there = 0;
    LODE_TRY(lode_comm_agree(run->comm, record(store, run, plan)));
    if (run->comm->rank == 0)
        there = !run->force && lode_folder_is(plan->folder, plan->digest);
    LODE_TRY(lode_comm_broadcast(run->comm, &there, sizeof there, 0));
    if (!there)
        LODE_TRY(lode_export_write(plan, run, inputs));
    lode_log_info("export: %s %s %s, %s, %lld channels a layer", plan->entry->variant,
                  there ? "is already in" : "written to", plan->folder,
                  lode_export_plan_layout(plan), (long long)plan->width);
    return LODE_OK;
}

/* Plans one entry and does it. Collective. */
static lode_status_t export_entry(lode_run_t *run, int64_t number,
                                  const lode_export_inputs_t *inputs, lode_store_t *store) {
    lode_export_plan_t plan;
    lode_export_coding_t *codings;
    LODE_TRY(lode_export_codings(&codings, run, inputs->edits, inputs->entry[number]));
    lode_status_t status =
        lode_comm_agree(run->comm, lode_export_plan_create(&plan, run, number, inputs, codings));
    if (status == LODE_OK)
        status = export_plan(run, &plan, inputs, store);
    lode_export_plan_free(&plan);
    free(codings);
    return status;
}

lode_status_t lode_stage_export(lode_run_t *run) {
    lode_export_inputs_t inputs = {0};
    lode_store_t *store = NULL;
    lode_status_t status = run->comm->rank == 0
                               ? lode_export_check(run->config, run->point, run->model->name)
                               : LODE_OK;
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = lode_export_inputs_open(&inputs, run);
    if (status == LODE_OK)
        status = lode_run_create(&store, run, LODE_STAGE_EXPORT);
    for (int64_t i = 0; i < run->config->export_count && status == LODE_OK; i++) {
        status = lode_comm_stop(run->comm, 0);
        if (status == LODE_OK)
            status = export_entry(run, i, &inputs, store);
    }
    if (store)
        status = lode_run_finish(&store, run, LODE_STAGE_EXPORT, status);
    lode_export_inputs_close(&inputs);
    return status;
}
