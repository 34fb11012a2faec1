/* report/superweights: the parts of the topic SUPER_WEIGHTS. Local. */
#ifndef LODE_REPORT_SUPERWEIGHTS_H
#define LODE_REPORT_SUPERWEIGHTS_H

#include "report/plot.h"
#include "report/result.h"
#include "report/shelf.h"

/* superweight.h5 of a case; `page` is the topic's. */
typedef struct lode_super_weights {
    lode_plot_t *plot;
    lode_report_case_t *item;
    lode_store_t *store;
    lode_shelf_t shelf;
    lode_buffer_t *page;
} lode_super_weights_t;

/* Published coordinates and which of them were found; nothing where none were given. */
LODE_MUST_USE lode_status_t lode_super_weights_known(lode_super_weights_t *source);

/* The experiments' figures beside the unchanged model's, and the curve over factors; nothing where
 * none were evaluated. */
LODE_MUST_USE lode_status_t lode_super_weights_effects(lode_super_weights_t *source);

/* Probabilities of the stopwords before and after; nothing where there are no words. */
LODE_MUST_USE lode_status_t lode_super_weights_stopwords(lode_super_weights_t *source);

#endif
