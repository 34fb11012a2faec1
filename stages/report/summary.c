#include <string.h>

#include "report/result.h"

lode_status_t lode_report_csv_field(lode_buffer_t *out, const char *text) {
    if (!strpbrk(text, ",\"\r\n"))
        return lode_buffer_append(out, text, strlen(text));
    LODE_TRY(lode_buffer_append(out, "\"", 1));
    for (; *text; text++) {
        LODE_TRY(lode_buffer_append(out, text, 1));
        if (*text == '"')
            LODE_TRY(lode_buffer_append(out, text, 1));
    }
    return lode_buffer_append(out, "\"", 1);
}

static lode_status_t add_row(lode_buffer_t *out, const lode_report_case_t *item,
                             const lode_report_figure_t *figure) {
    const lode_report_variant_t *variant = &figure->variant;
    LODE_TRY(lode_report_csv_field(out, item->model));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, variant->name));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, variant->method));
    LODE_TRY(lode_buffer_printf(out, ",%.17g,", variant->sparsity));
    LODE_TRY(lode_report_csv_field(out, variant->allocation));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, variant->compensation));
    LODE_TRY(lode_buffer_printf(out, ",%s,", figure->metric));
    LODE_TRY(lode_report_csv_field(out, figure->dataset));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, figure->protocol));
    LODE_TRY(lode_buffer_printf(out, ",%.17g,%.17g,%lld,", figure->value, figure->standard_error,
                                (long long)figure->count));
    LODE_TRY(lode_report_csv_field(out, variant->core));
    LODE_TRY(lode_buffer_append(out, ",", 1));
    LODE_TRY(lode_report_csv_field(out, item->point));
    LODE_TRY(lode_buffer_printf(out, ",%s,%s,", variant->quantization, variant->protection));
    if (variant->bytes >= 0)
        LODE_TRY(lode_buffer_printf(out, "%lld", (long long)variant->bytes));
    return lode_buffer_append(out, "\n", 1);
}

lode_status_t lode_report_csv(const lode_report_case_t *cases, int64_t count, lode_buffer_t *out) {
    LODE_TRY(lode_buffer_printf(out, "model,variant,method,sparsity,allocation,compensation,metric,"
                                     "dataset,protocol,value,stderr,count,core,point,"
                                     "quantization,protection,bytes\n"));
    for (int64_t i = 0; i < count; i++)
        for (int64_t figure = 0; figure < cases[i].figure_count; figure++)
            LODE_TRY(add_row(out, &cases[i], &cases[i].figures[figure]));
    return LODE_OK;
}
