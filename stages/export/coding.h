/* stages/export/coding: how the matrices of a variant are coded, as far as every rank must know it,
 * and the parameters that are written beside the weights.
 *
 * All positions and extents are of the matrix [out, in] as the variant computes with it: of a
 * pruned model's kept channels, without the padding of a padded layout, not transposed.
 */
#ifndef LODE_STAGES_EXPORT_CODING_H
#define LODE_STAGES_EXPORT_CODING_H

#include "common/edits.h"
#include "model/writer.h"

/* What is beside a quantized matrix, in this order; the name ends in what stands here. */
typedef enum lode_export_parameter {
    LODE_EXPORT_SCALE,        /* ".scale" F32 [blocks]; weight = scale·code + minimum */
    LODE_EXPORT_MINIMUM,      /* ".minimum" F32 [blocks] */
    LODE_EXPORT_ROW_BITS,     /* ".row_bits" U8 [out]; 16: as in the source */
    LODE_EXPORT_COLUMN_BITS,  /* ".column_bits" U8 [in] */
    LODE_EXPORT_KEPT_ROWS,    /* ".kept_rows" I32 [n], rows that are as in the source */
    LODE_EXPORT_KEPT_COLUMNS, /* ".kept_columns" I32 [n] */
    LODE_EXPORT_HELD,         /* ".held" I32 [n, 2], row and column of single weights */
    LODE_EXPORT_HELD_VALUES,  /* ".held_values" F32 [n] */
    LODE_EXPORT_CODES,        /* ".codes" U8 [out, in], 0 where a weight has none; if asked for */
    LODE_EXPORT_PARAMETER_COUNT,
} lode_export_parameter_t;

/* What is known of a matrix's codec; all 0 where it has none. */
typedef struct lode_export_coding {
    int64_t coded;                   /* 1: it has one */
    int64_t rounded;                 /* 1: its weights are quantized, not just some of them held */
    int64_t rows, columns;           /* out and in */
    int64_t blocks;                  /* with parameters of their own */
    int64_t row_bits, column_bits;   /* 1: each row, or column, has bits of its own */
    int64_t kept_rows, kept_columns; /* how many */
    int64_t held;
} lode_export_coding_t;

/* Fills codings [layers, LODE_MATRICES] of variant `variant` of the edits, those of all ranks'
 * layers; −1 is the model as it is. *codings is the caller's, on all ranks, NULL on failure.
 * Errors: LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_export_codings(lode_export_coding_t **codings,
                                                const lode_run_t *run, lode_edits_t *edits,
                                                int64_t variant);

/* The tensor of a parameter: its type, extents and bytes; false where the matrix has none such.
 * item->name is left. Local. */
bool lode_export_parameter_describe(lode_writer_tensor_t *item, const lode_export_coding_t *coding,
                                    lode_export_parameter_t parameter, bool codes);

/* ".scale" …; Local. */
const char *lode_export_parameter_suffix(lode_export_parameter_t parameter);

#endif
