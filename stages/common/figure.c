#include "common/figure.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

/* <name> and <name>_stderr. */
static lode_status_t write_estimate(lode_store_t *store, const char *path, const char *name,
                                    lode_estimate_t estimate) {
    char error[64];
    snprintf(error, sizeof error, "%s_stderr", name);
    LODE_TRY(lode_store_attribute_f64(store, path, name, estimate.value));
    return lode_store_attribute_f64(store, path, error, estimate.standard_error);
}

/* What only lm-eval has. */
static lode_status_t write_units(lode_store_t *store, const char *path,
                                 const lode_windows_t *windows,
                                 const lode_perplexity_t *perplexity) {
    LODE_TRY(lode_store_attribute_i64(store, path, "words", windows->words));
    LODE_TRY(lode_store_attribute_i64(store, path, "bytes", windows->bytes));
    LODE_TRY(write_estimate(store, path, "word_perplexity", perplexity->value));
    LODE_TRY(write_estimate(store, path, "byte_perplexity", perplexity->byte_perplexity));
    LODE_TRY(write_estimate(store, path, "bits_per_byte", perplexity->bits_per_byte));
    return write_estimate(store, path, "token_perplexity", perplexity->token);
}

static lode_status_t write_attributes(lode_store_t *store, const char *path,
                                      const lode_config_perplexity_t *entry,
                                      const lode_windows_t *windows, int32_t bos,
                                      const lode_perplexity_t *perplexity) {
    const char *protocol = lode_protocol_name(entry->protocol);
    LODE_TRY(lode_store_attribute_f64(store, path, "value", perplexity->value.value));
    LODE_TRY(lode_store_attribute_f64(store, path, "stderr", perplexity->value.standard_error));
    LODE_TRY(lode_store_attribute_text(store, path, "protocol", protocol));
    LODE_TRY(lode_store_attribute_i64(store, path, "length", entry->length));
    LODE_TRY(lode_store_attribute_i64(store, path, "windows", windows->windows));
    LODE_TRY(lode_store_attribute_i64(store, path, "targets", windows->targets));
    LODE_TRY(lode_store_attribute_i64(store, path, "bos", bos));
    return entry->protocol == LODE_PROTOCOL_LM_EVAL ? write_units(store, path, windows, perplexity)
                                                    : LODE_OK;
}

lode_status_t lode_figure_write(lode_store_t *store, const lode_comm_t *comm, const char *path,
                                const lode_config_perplexity_t *entry,
                                const lode_windows_t *windows, int32_t bos, const char *who) {
    lode_perplexity_t perplexity = {0};
    double *nll = NULL;
    lode_status_t status = LODE_OK;
    if (comm->rank == 0)
        status = lode_store_read_all(store, path, LODE_TYPE_F64, &nll, NULL);
    if (status == LODE_OK && nll)
        perplexity = lode_windows_value(windows, nll);
    free(nll);
    LODE_TRY(lode_comm_agree(comm, status));
    LODE_TRY(write_attributes(store, path, entry, windows, bos, &perplexity));
    lode_log_info("%s: %s of %s is %.4f ± %.4f (%s, %lld)", entry->name,
                  entry->protocol == LODE_PROTOCOL_LM_EVAL ? "word perplexity" : "perplexity", who,
                  perplexity.value.value, perplexity.value.standard_error,
                  lode_protocol_name(entry->protocol), (long long)entry->length);
    return LODE_OK;
}
