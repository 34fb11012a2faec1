/* report/retention: what audit.h5 says of folders of a model that somebody has compressed. Local.
 *
 * audit.csv has, for each folder of each model, a row for each layer and then, for each figure of
 * the folder (or once where it has none), a row over all layers, whose `layer` is "all":
 *   model, folder, layer,
 *   core_zeroed, core_changed, core_removed  shares of the core's channels (stages/audit/audit.h)
 *   weight_error_core, weight_error_halo, weight_error_rest, weight_error_attention
 *                                            ‖Ŵ − W‖ / ‖W‖
 *   zero_core, zero_halo, zero_rest, zero_attention  shares of weights that are 0
 *   core_mass, core_mass_original            share of the loss proxy on the original core, measured
 *                                            again in the folder, and in the original
 *   core_overlap                             share of the core that is core again
 *   proxy_correlation                        Spearman's, of the two loss proxies
 *   superweights, superweights_surviving     of the original in this layer
 *   metric, dataset, protocol, value, stderr, count  as in summary.csv
 *   value_original, point, path
 *   superweights_detected, superweights_new  of the original's those that a search of the folder
 *                                            finds, too; what else it finds in this layer
 * Over all layers, shares and errors are means of the layers. What is not known is empty.
 */
#ifndef LODE_REPORT_RETENTION_H
#define LODE_REPORT_RETENTION_H

#include "report/result.h"
#include "report/shelf.h"

typedef enum lode_retention_measure {
    LODE_RETENTION_ZEROED,
    LODE_RETENTION_CHANGED,
    LODE_RETENTION_REMOVED,
    LODE_RETENTION_ERROR_CORE,
    LODE_RETENTION_ERROR_HALO,
    LODE_RETENTION_ERROR_REST,
    LODE_RETENTION_ERROR_ATTENTION,
    LODE_RETENTION_ZERO_CORE,
    LODE_RETENTION_ZERO_HALO,
    LODE_RETENTION_ZERO_REST,
    LODE_RETENTION_ZERO_ATTENTION,
    LODE_RETENTION_MASS,
    LODE_RETENTION_OVERLAP,
    LODE_RETENTION_CORRELATION,
    LODE_RETENTION_MEASURES,
} lode_retention_measure_t;

/* One figure of a folder: a perplexity of a text, or an accuracy. */
typedef struct lode_retention_figure {
    const char *metric; /* "perplexity", "acc", "acc_norm"; static */
    char *dataset, *protocol;
    int64_t length, count; /* count: targets, or items */
    double value, standard_error;
} lode_retention_figure_t;

/* A folder, or the original; what the file does not say is NULL. */
typedef struct lode_retention_folder {
    char *name, *path;
    char *known; /* how its channels are known to be the original's: "index", "similarity" … */
    double *measure[LODE_RETENTION_MEASURES]; /* [layers] each; the shelf's */
    double mean[LODE_RETENTION_MEASURES];     /* over layers, NaN where not known */
    lode_retention_figure_t *figures;
    int64_t figure_count;
    int64_t weight_count;                  /* super weights of the original; −1 where not known */
    int32_t *weight_layer, *survives;      /* [weight_count] */
    int32_t *detected;                     /* [weight_count] found again; NULL where not known */
    int64_t search_count;                  /* room for what a search finds in the folder */
    int32_t *found_layer, *found_original; /* [search_count], −1 behind the last; −1: a new one */
} lode_retention_folder_t;

/* audit.h5 of a case; its arrays are the shelf's. */
typedef struct lode_retention {
    lode_shelf_t shelf;
    int64_t layers; /* −1 where no folder has any figure of layers */
    lode_retention_folder_t original;
    lode_retention_folder_t *folders;
    int64_t count;
} lode_retention_t;

/* Reads the file; *retention is the caller's, on failure too. What it does not say of the original
 * is taken from the case's figures of the dense model. */
LODE_MUST_USE lode_status_t lode_retention_read(lode_retention_t *retention, lode_store_t *store,
                                                const lode_report_case_t *item);
void lode_retention_free(lode_retention_t *retention);

/* The figure of a folder that may stand beside `like`, NULL where it has none. */
const lode_retention_figure_t *lode_retention_find(const lode_retention_folder_t *folder,
                                                   const lode_retention_figure_t *like);

/* What has become of super weights. */
typedef struct lode_retention_weights {
    int64_t all, surviving;  /* of the original, and those whose value is kept */
    int64_t detected, fresh; /* found again in the folder, and found there alone */
} lode_retention_weights_t;

/* Counts them in a layer, or with −1 in all; `searched` says whether the last two are known. */
lode_retention_weights_t lode_retention_weights(const lode_retention_folder_t *folder,
                                                int64_t layer);
bool lode_retention_searched(const lode_retention_folder_t *folder);

/* Appends the case's rows to item->audit. */
LODE_MUST_USE lode_status_t lode_retention_rows(lode_report_case_t *item,
                                                const lode_retention_t *retention);

/* audit.csv of all cases. */
LODE_MUST_USE lode_status_t lode_retention_csv(const lode_report_case_t *cases, int64_t count,
                                               lode_buffer_t *out);

#endif
