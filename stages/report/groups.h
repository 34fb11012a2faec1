/* report/groups: a case's figures by what they measure: one metric of one dataset under one
 * protocol at one length. Local. */
#ifndef LODE_REPORT_GROUPS_H
#define LODE_REPORT_GROUPS_H

#include "report/result.h"

/* Figures [0, count) from `figures` on; borrowed from the case. */
typedef struct lode_report_group {
    const lode_report_figure_t *figures;
    int64_t count;
    const lode_report_figure_t *dense; /* NULL where it was not evaluated */
} lode_report_group_t;

/* The groups of a case, but for those that say in other units what another says; *groups, the
 * caller's, has *count. */
LODE_MUST_USE lode_status_t lode_report_groups(lode_report_group_t **groups, int64_t *count,
                                               const lode_report_case_t *item);

/* Whether a group is a perplexity of a text, by a protocol. */
bool lode_report_group_is_text(const lode_report_group_t *group);

/* The figure of a variant, NULL where there is none. */
const lode_report_figure_t *lode_report_group_find(const lode_report_group_t *group,
                                                   const char *variant);

/* "Perplexity on books, gptq at 256" for headings; without `axis` without the protocol. */
LODE_MUST_USE lode_status_t lode_report_group_title(lode_buffer_t *text,
                                                    const lode_report_group_t *group, bool axis);

/* Variants that any group has and `chosen` takes, in the order of figures: *names, the caller's,
 * has *count, which point into the case. `chosen` is given `context`. */
typedef bool lode_report_chooser_t(const lode_report_variant_t *variant, const void *context);
LODE_MUST_USE lode_status_t lode_report_group_variants(const lode_report_variant_t ***variants,
                                                       int64_t *count,
                                                       const lode_report_case_t *item,
                                                       lode_report_chooser_t *chosen,
                                                       const void *context);

/* Headings and cells of all groups, for a table with a row for each variant. */
LODE_MUST_USE lode_status_t lode_report_group_heads(lode_buffer_t *page,
                                                    const lode_report_group_t *groups,
                                                    int64_t count);
LODE_MUST_USE lode_status_t lode_report_group_cells(lode_buffer_t *page,
                                                    const lode_report_group_t *groups,
                                                    int64_t count, const char *variant);

#endif
