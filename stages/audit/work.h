/* stages/audit/work: what the parts of the stage share. */
#ifndef LODE_STAGES_AUDIT_WORK_H
#define LODE_STAGES_AUDIT_WORK_H

#include "audit/version.h"
#include "evaluate/work.h"
#include "superweight/search.h"

enum { LODE_AUDIT_PATH = 512 };

/* One version, and what is measured on it. */
typedef struct lode_audit_item {
    lode_audit_version_t version;
    char *group;                   /* "/folders/<name>" */
    char *title;                   /* "audit of <name>", for progress lines */
    lode_evaluate_work_t evaluate; /* of its perplexities and tasks */
    int sequences_part;            /* of the scratch file: the loss proxy's sequences */
} lode_audit_item_t;

typedef struct lode_audit {
    lode_run_t *run;
    lode_store_t *tokenize, *accumulate, *classify, *evaluate; /* read */
    lode_store_t *superweight;     /* read; NULL without super weights */
    lode_store_t *store, *scratch; /* written; scratch NULL where nothing needs it */
    lode_audit_item_t *items;
    int64_t count;                      /* of them */
    lode_part_t *parts, *scratch_parts; /* of both stores */
    int part_count, scratch_part_count;
    int64_t sequences, tokens; /* of the calibration */
    int64_t core_size, halo_size;
    int64_t superweights;            /* found in the original */
    lode_superweight_text_t prompts; /* that they were found by */
    int detected_part;               /* of the store: the versions' own, a unit for each item */
} lode_audit_t;

/* Units of the store's part 0, one for each item and layer. */
enum { LODE_AUDIT_LAYERS_PART = 0 };

/* "/folders/<name>/<what>". Local. */
void lode_audit_path(const lode_audit_item_t *item, const char *what, char path[LODE_AUDIT_PATH]);

/* Writes one figure of a layer. Local. */
LODE_MUST_USE lode_status_t lode_audit_figure(const lode_audit_t *audit,
                                              const lode_audit_item_t *item, const char *what,
                                              int64_t layer, double value);

/* --- weights (audit/weights.c) --- */

/* Creates the datasets of what is compared. Collective. */
LODE_MUST_USE lode_status_t lode_audit_weights_create(const lode_audit_t *audit,
                                                      const lode_audit_item_t *item);

/* Compares this rank's layers that no run has compared yet; the version is open. Errors:
 * LODE_ERR_SHAPE where channels match none, LODE_ERR_NUMERIC, LODE_STOPPED. Local. */
LODE_MUST_USE lode_status_t lode_audit_weights(lode_audit_t *audit, int64_t index);

/* Private bytes. Local. */
int64_t lode_audit_weights_memory(const lode_run_t *run);

/* --- loss proxy (audit/proxy.c) --- */

/* Creates its datasets in both stores. Collective. */
LODE_MUST_USE lode_status_t lode_audit_proxy_create(const lode_audit_t *audit,
                                                    const lode_audit_item_t *item);

/* Measures the loss proxy in an open version whose layers have been compared, and compares it.
 * Collective. */
LODE_MUST_USE lode_status_t lode_audit_proxy(lode_audit_t *audit, lode_audit_item_t *item);

/* --- super weights (audit/superweights.c) --- */

LODE_MUST_USE lode_status_t lode_audit_superweights_create(const lode_audit_t *audit,
                                                           const lode_audit_item_t *item);

/* Looks them up in an open version whose layers have been compared. By rank 0. Local. */
LODE_MUST_USE lode_status_t lode_audit_superweights(const lode_audit_t *audit,
                                                    lode_audit_item_t *item);

/* --- super weights of its own (audit/detect.c) --- */

LODE_MUST_USE lode_status_t lode_audit_detect_create(const lode_audit_t *audit,
                                                     const lode_audit_item_t *item);

/* Looks for super weights in an open version whose layers have been compared, and says which of
 * them are the original's. Collective. */
LODE_MUST_USE lode_status_t lode_audit_detect(lode_audit_t *audit, int64_t index);

#endif
