#include <math.h>
#include <stdlib.h>

#include "audit/work.h"
#include "base/memory.h"
#include "score/weights.h"

/* What survives has its sign and at least so much of its magnitude. */
static const double surviving = 0.5;

lode_status_t lode_audit_superweights_create(const lode_audit_t *audit,
                                             const lode_audit_item_t *item) {
    static const struct {
        const char *name;
        lode_type_t type;
    } columns[] = {
        {"superweights/layer", LODE_TYPE_I32},    {"superweights/row", LODE_TYPE_I32},
        {"superweights/channel", LODE_TYPE_I32},  {"superweights/value", LODE_TYPE_F64},
        {"superweights/original", LODE_TYPE_F64}, {"superweights/survives", LODE_TYPE_U8}};
    char path[LODE_AUDIT_PATH];
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        lode_audit_path(item, columns[i].name, path);
        LODE_TRY(lode_store_dataset(audit->store, path, columns[i].type, 1, &audit->superweights,
                                    false));
    }
    return LODE_OK;
}

/* The weight of a version's down projection at the original's coordinates, 0 where the channel is
 * gone; kept [n] and line [n] are room. */
static lode_status_t look_up(double *value, const lode_audit_t *audit, lode_audit_item_t *item,
                             int32_t layer, int32_t row, int32_t channel, int32_t *kept,
                             double *line) {
    lode_audit_version_t *version = &item->version;
    const int64_t n = version->run.architecture.intermediate;
    const int64_t offset[] = {layer, 0}, count[] = {1, n};
    char path[LODE_AUDIT_PATH];
    lode_layer_weights_t weights;
    *value = 0;
    lode_audit_path(item, "kept", path);
    LODE_TRY(lode_store_read(audit->store, path, offset, count, LODE_TYPE_I32, kept));
    LODE_TRY(lode_checkpoint_layer(version->checkpoint, layer, &weights));
    const lode_status_t status = lode_weights_row(line, &weights.down, row, "down_proj");
    for (int64_t i = 0; i < n && status == LODE_OK; i++)
        if (kept[i] == channel)
            *value = line[i];
    return status;
}

/* What superweight.h5 says, and the answers. */
typedef struct table {
    int32_t *layer, *row, *channel;
    double *original, *value;
    uint8_t *survives;
    int32_t *kept;
    double *line;
} table_t;

static void table_free(table_t *table) {
    free(table->layer);
    free(table->row);
    free(table->channel);
    free(table->original);
    free(table->value);
    free(table->survives);
    free(table->kept);
    free(table->line);
}

static lode_status_t table_read(table_t *table, const lode_audit_t *audit, int64_t n) {
    lode_store_t *store = audit->superweight;
    LODE_TRY(lode_store_read_all(store, "/weights/layer", LODE_TYPE_I32, &table->layer, NULL));
    LODE_TRY(lode_store_read_all(store, "/weights/row", LODE_TYPE_I32, &table->row, NULL));
    LODE_TRY(lode_store_read_all(store, "/weights/channel", LODE_TYPE_I32, &table->channel, NULL));
    LODE_TRY(lode_store_read_all(store, "/weights/value", LODE_TYPE_F64, &table->original, NULL));
    LODE_TRY(LODE_NEW(&table->value, audit->superweights, "super weights"));
    LODE_TRY(LODE_NEW(&table->survives, audit->superweights, "super weights"));
    LODE_TRY(LODE_NEW(&table->kept, n, "super weights"));
    return LODE_NEW(&table->line, n, "super weights");
}

static lode_status_t table_write(const table_t *table, const lode_audit_t *audit,
                                 const lode_audit_item_t *item) {
    const struct {
        const char *name;
        const void *data;
    } columns[] = {
        {"superweights/layer", table->layer},       {"superweights/row", table->row},
        {"superweights/channel", table->channel},   {"superweights/value", table->value},
        {"superweights/original", table->original}, {"superweights/survives", table->survives}};
    const int64_t offset = 0;
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char path[LODE_AUDIT_PATH];
        lode_audit_path(item, columns[i].name, path);
        LODE_TRY(
            lode_store_write(audit->store, path, &offset, &audit->superweights, columns[i].data));
    }
    return LODE_OK;
}

lode_status_t lode_audit_superweights(const lode_audit_t *audit, lode_audit_item_t *item) {
    table_t table = {0};
    if (audit->superweights == 0)
        return LODE_OK;
    lode_status_t status = table_read(&table, audit, item->version.run.architecture.intermediate);
    for (int64_t i = 0; i < audit->superweights && status == LODE_OK; i++) {
        status = look_up(&table.value[i], audit, item, table.layer[i], table.row[i],
                         table.channel[i], table.kept, table.line);
        table.survives[i] = table.value[i] * table.original[i] > 0 &&
                            fabs(table.value[i]) >= surviving * fabs(table.original[i]);
    }
    if (status == LODE_OK)
        status = table_write(&table, audit, item);
    table_free(&table);
    return status;
}
