#include "report/groups.h"

#include <stdlib.h>
#include <string.h>

#include "report/cells.h"

lode_status_t lode_report_groups(lode_report_group_t **groups, int64_t *count,
                                 const lode_report_case_t *item) {
    *count = 0;
    LODE_TRY(LODE_NEW(groups, item->figure_count + 1, "figures"));
    for (int64_t begin = 0, end; begin < item->figure_count; begin = end) {
        const lode_report_figure_t *first = &item->figures[begin];
        end = lode_report_axis_end(item, begin);
        if (lode_report_is_derived(first) || first->repeats)
            continue;
        lode_report_group_t *group = &(*groups)[(*count)++];
        *group = (lode_report_group_t){.figures = first, .count = end - begin};
        group->dense = lode_report_group_find(group, "dense");
    }
    return LODE_OK;
}

bool lode_report_group_is_text(const lode_report_group_t *group) {
    return group->figures[0].protocol[0] != '\0';
}

const lode_report_figure_t *lode_report_group_find(const lode_report_group_t *group,
                                                   const char *variant) {
    for (int64_t i = 0; i < group->count; i++)
        if (strcmp(group->figures[i].variant.name, variant) == 0)
            return &group->figures[i];
    return NULL;
}

lode_status_t lode_report_group_title(lode_buffer_t *text, const lode_report_group_t *group,
                                      bool axis) {
    const lode_report_figure_t *any = &group->figures[0];
    LODE_TRY(lode_buffer_printf(text, "%s on %s", lode_report_metric_title(any), any->dataset));
    if (!axis || !any->protocol[0])
        return LODE_OK;
    return lode_buffer_printf(text, ", %s at %lld", any->protocol, (long long)any->length);
}

lode_status_t lode_report_group_variants(const lode_report_variant_t ***variants, int64_t *count,
                                         const lode_report_case_t *item,
                                         lode_report_chooser_t *chosen, const void *context) {
    *count = 0;
    LODE_TRY(LODE_NEW(variants, item->figure_count + 1, "variants"));
    for (int64_t i = 0; i < item->figure_count; i++) {
        const lode_report_variant_t *variant = &item->figures[i].variant;
        bool fresh = chosen(variant, context);
        for (int64_t j = 0; fresh && j < *count; j++)
            fresh = strcmp((*variants)[j]->name, variant->name) != 0;
        if (fresh)
            (*variants)[(*count)++] = variant;
    }
    return LODE_OK;
}

lode_status_t lode_report_group_heads(lode_buffer_t *page, const lode_report_group_t *groups,
                                      int64_t count) {
    for (int64_t g = 0; g < count; g++) {
        lode_buffer_t head = {0};
        lode_status_t status = lode_buffer_printf(&head, "#");
        if (status == LODE_OK)
            status = lode_report_group_title(&head, &groups[g], true);
        if (status == LODE_OK)
            status = lode_cells_head(page, head.data);
        lode_buffer_free(&head);
        LODE_TRY(status);
    }
    return LODE_OK;
}

lode_status_t lode_report_group_cells(lode_buffer_t *page, const lode_report_group_t *groups,
                                      int64_t count, const char *variant) {
    for (int64_t g = 0; g < count; g++)
        LODE_TRY(
            lode_cells_figure(page, lode_report_group_find(&groups[g], variant), groups[g].dense));
    return LODE_OK;
}
