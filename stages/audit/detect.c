/* Super weights that a version has, by a search of its own. */
#include <math.h>
#include <stdlib.h>

#include "audit/work.h"
#include "base/log.h"
#include "base/memory.h"

/* Columns of /folders/<name>/detected. */
enum { LAYER, ROW, CHANNEL, ORIGINAL, PROMPT, TOKEN, INTEGERS };
enum { VALUE, INPUT, OUTPUT, RATIO_INPUT, RATIO_OUTPUT, NUMBERS };

static const char *const integer_names[INTEGERS] = {"detected/layer",   "detected/row",
                                                    "detected/channel", "detected/original",
                                                    "detected/prompt",  "detected/token"};
static const char *const number_names[NUMBERS] = {"detected/value", "detected/input",
                                                  "detected/output", "detected/ratio_input",
                                                  "detected/ratio_output"};
static const char again_name[] = "superweights/detected", more_name[] = "detected/limit_reached";

lode_status_t lode_audit_detect_create(const lode_audit_t *audit, const lode_audit_item_t *item) {
    const int64_t limit = audit->run->config->superweight.limit, one = 1;
    char path[LODE_AUDIT_PATH];
    lode_audit_path(item, again_name, path);
    LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_U8, 1, &audit->superweights, true));
    lode_audit_path(item, more_name, path);
    LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_U8, 1, &one, true));
    for (int i = 0; i < INTEGERS; i++) {
        lode_audit_path(item, integer_names[i], path);
        LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_I32, 1, &limit, true));
    }
    for (int i = 0; i < NUMBERS; i++) {
        lode_audit_path(item, number_names[i], path);
        LODE_TRY(lode_store_dataset(audit->store, path, LODE_TYPE_F64, 1, &limit, true));
    }
    return LODE_OK;
}

/* What was found, as it is written. */
typedef struct table {
    int32_t *integer[INTEGERS];     /* [limit] each, −1 behind the last */
    double *number[NUMBERS];        /* [limit] each, NaN behind the last */
    uint8_t *again;                 /* [super weights of the original] */
    int32_t *layer, *row, *channel; /* of the original's */
    int32_t *kept;                  /* [n] */
} table_t;

static void table_free(table_t *table) {
    free(table->integer[0]);
    free(table->number[0]);
    free(table->again);
    free(table->layer);
    free(table->row);
    free(table->channel);
    free(table->kept);
}

static lode_status_t table_create(table_t *table, const lode_audit_t *audit, int64_t n) {
    static const char what[] = "super weights";
    const int64_t limit = audit->run->config->superweight.limit;
    lode_store_t *store = audit->superweight;
    LODE_TRY(LODE_NEW_RAW(&table->integer[0], INTEGERS * limit, what));
    LODE_TRY(LODE_NEW_RAW(&table->number[0], NUMBERS * limit, what));
    for (int64_t i = 0; i < INTEGERS * limit; i++)
        table->integer[0][i] = -1;
    for (int64_t i = 0; i < NUMBERS * limit; i++)
        table->number[0][i] = NAN;
    for (int i = 1; i < INTEGERS; i++)
        table->integer[i] = table->integer[0] + i * limit;
    for (int i = 1; i < NUMBERS; i++)
        table->number[i] = table->number[0] + i * limit;
    LODE_TRY(LODE_NEW(&table->again, audit->superweights, what));
    LODE_TRY(LODE_NEW_RAW(&table->kept, n, what));
    LODE_TRY(lode_store_read_all(store, "/weights/layer", LODE_TYPE_I32, &table->layer, NULL));
    LODE_TRY(lode_store_read_all(store, "/weights/row", LODE_TYPE_I32, &table->row, NULL));
    return lode_store_read_all(store, "/weights/channel", LODE_TYPE_I32, &table->channel, NULL);
}

/* Enters a super weight of the version, with its channel as the original counts it. */
static lode_status_t enter(table_t *table, const lode_audit_t *audit, const lode_audit_item_t *item,
                           const lode_superweight_t *found, int64_t i) {
    const int64_t offset[] = {found->layer, 0};
    const int64_t count[] = {1, item->version.run.architecture.intermediate};
    const lode_spike_layer_t *seen = &found->seen;
    char path[LODE_AUDIT_PATH];
    lode_audit_path(item, "kept", path);
    LODE_TRY(lode_store_read(audit->store, path, offset, count, LODE_TYPE_I32, table->kept));
    const int32_t channel = table->kept[found->channel];
    table->integer[LAYER][i] = found->layer;
    table->integer[ROW][i] = found->row;
    table->integer[CHANNEL][i] = channel;
    table->integer[PROMPT][i] = found->prompt;
    table->integer[TOKEN][i] = seen->output.token;
    table->number[VALUE][i] = (double)found->value;
    table->number[INPUT][i] = seen->activation;
    table->number[OUTPUT][i] = seen->output.value;
    table->number[RATIO_INPUT][i] = lode_spike_ratio(seen->activation, seen->input_scale);
    table->number[RATIO_OUTPUT][i] = lode_spike_ratio(seen->output.value, seen->output_scale);
    for (int64_t w = 0; w < audit->superweights; w++)
        if (table->layer[w] == found->layer && table->row[w] == found->row &&
            table->channel[w] == channel) {
            table->integer[ORIGINAL][i] = (int32_t)w;
            table->again[w] = 1;
        }
    return LODE_OK;
}

static lode_status_t table_write(const table_t *table, const lode_audit_t *audit,
                                 const lode_audit_item_t *item, uint8_t more) {
    const int64_t limit = audit->run->config->superweight.limit, offset = 0, one = 1;
    char path[LODE_AUDIT_PATH];
    for (int i = 0; i < INTEGERS; i++) {
        lode_audit_path(item, integer_names[i], path);
        LODE_TRY(lode_store_write(audit->store, path, &offset, &limit, table->integer[i]));
    }
    for (int i = 0; i < NUMBERS; i++) {
        lode_audit_path(item, number_names[i], path);
        LODE_TRY(lode_store_write(audit->store, path, &offset, &limit, table->number[i]));
    }
    lode_audit_path(item, more_name, path);
    LODE_TRY(lode_store_write(audit->store, path, &offset, &one, &more));
    if (audit->superweights == 0)
        return LODE_OK;
    lode_audit_path(item, again_name, path);
    return lode_store_write(audit->store, path, &offset, &audit->superweights, table->again);
}

static void say(const table_t *table, const lode_audit_t *audit, const lode_audit_item_t *item,
                const lode_superweight_list_t *list) {
    int64_t again = 0, fresh = 0;
    for (int64_t w = 0; w < audit->superweights; w++)
        again += table->again[w];
    for (int64_t i = 0; i < list->count; i++)
        fresh += table->integer[ORIGINAL][i] < 0;
    lode_log_info("%s: %lld of the original's %lld super weights are found again, %lld new%s",
                  item->title, (long long)again, (long long)audit->superweights, (long long)fresh,
                  list->limit_reached ? " or more" : "");
}

/* By rank 0. */
static lode_status_t write_found(const lode_audit_t *audit, int64_t index,
                                 const lode_superweight_list_t *list) {
    const lode_audit_item_t *item = &audit->items[index];
    table_t table = {0};
    lode_status_t status = table_create(&table, audit, item->version.run.architecture.intermediate);
    for (int64_t i = 0; i < list->count && status == LODE_OK; i++)
        status = enter(&table, audit, item, &list->found[i], i);
    if (status == LODE_OK)
        status = table_write(&table, audit, item, list->limit_reached);
    if (status == LODE_OK)
        say(&table, audit, item, list);
    table_free(&table);
    return status == LODE_OK ? lode_store_mark(audit->store, audit->detected_part, index, 1)
                             : status;
}

lode_status_t lode_audit_detect(lode_audit_t *audit, int64_t index) {
    const lode_comm_t *comm = audit->run->comm;
    lode_audit_item_t *item = &audit->items[index];
    lode_superweight_list_t list = {0};
    if (lode_store_done(audit->store, audit->detected_part, index, 1))
        return LODE_OK;
    lode_status_t status =
        lode_superweight_search(&list, &item->version.run, item->title, &audit->prompts.text);
    if (status == LODE_OK)
        status =
            lode_comm_agree(comm, comm->rank == 0 ? write_found(audit, index, &list) : LODE_OK);
    lode_superweight_list_free(&list);
    return status;
}
