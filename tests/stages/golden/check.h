/* check: what the parts of check_golden share. It compares one model's results with the float64
 * reference (tests/golden/README.md). Each part takes one kind of result, prints a line for every
 * comparison with its worst error, and counts it. Everything here is Local. */
#ifndef LODE_TESTS_CHECK_H
#define LODE_TESTS_CHECK_H

#include <jansson.h>

#include "testing/compare.h"
#include "testing/hdf5_read.h"
#include "testing/margin.h"

/* What float32 arithmetic may cost against float64. */
#define LODE_CHECK_LOGITS 1e-4      /* absolute, times the largest |logit| where that is above 1 */
#define LODE_CHECK_STATISTIC 1e-4   /* relative: sums of squares of float32 activations */
#define LODE_CHECK_SIGNIFICANT 1e-6 /* of a layer's largest: what lies below is rounding */
#define LODE_CHECK_WEIGHTS 1e-9     /* relative: from the weights alone, summed in float64 */
#define LODE_CHECK_PERPLEXITY 5e-4  /* relative */
#define LODE_CHECK_MEAN 1e-5 /* of the root of the mean square, which a mean may be far below */
/* Between two runs on different numbers of ranks: what ScaLAPACK computed, what was rounded to
 * float32 after that, and perplexities of what was. */
#define LODE_CHECK_RANKS 1e-10
#define LODE_CHECK_RANKS_SINGLE 1e-6
/* Redundancy is r²/2 of a small correlation r; float32 statistics move it by about 1e-7. */
#define LODE_CHECK_REDUNDANCY 1e-4       /* relative … */
#define LODE_CHECK_REDUNDANCY_FLOOR 1e-6 /* … plus absolute */
/* Percentiles of redrawn figures of ranks or counts: near ties may fall differently in a draw. */
#define LODE_CHECK_INTERVAL 1e-3 /* absolute */
/* In that form redundancies are of the size of a float's rounding. */
#define LODE_CHECK_NODELENS 2e-8 /* absolute */

typedef struct lode_check {
    hid_t golden;       /* the reference's HDF5 file … */
    json_t *figures;    /* … and its JSON */
    hid_t structure;    /* the reference of structure.py, or −1 */
    const char *folder; /* <results>/<name>/<model> */
    const char *loss;   /* "mean" or "sum" */
    const char *only;   /* the one perplexity entry to check, or NULL for all */
    const char *ranks;  /* the folder of the same run on other ranks, or NULL */
    bool compensated;   /* compare what needs distributed matrices; else leave it out, and find all
                           the rest that the reference has */
    hid_t file;         /* the stage file that is being compared, −1 between stages */
    int64_t layers, channels;
    bool classes;                /* the reference's classes and masks belong to this loss */
    uint8_t *core_differs;       /* [L,m]: in one core only, inside the margin */
    uint8_t *layer_differs;      /* [L]: and so nothing that is built on the core compares */
    uint8_t *protection_differs; /* [L,m]: P differs, as ranks do inside the margin */
    int passed, failed, skipped;
} lode_check_t;

/* Prints and counts one comparison: passed, failed for a reason, or not comparable. */
void lode_check_pass(lode_check_t *check, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lode_check_fail(lode_check_t *check, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lode_check_skip(lode_check_t *check, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lode_check_comparison(lode_check_t *check, const char *name, lode_comparison_t result);

/* Opens <folder>/<stage>.h5 as check->file; a failure where it cannot be read. */
bool lode_check_open(lode_check_t *check, const char *stage);
void lode_check_close(lode_check_t *check);

/* Reads a dataset of the stage file; a failure where it is absent or not [extents…]. `extents` are
 * 1 to LODE_H5_AXES numbers that end with −1. */
bool lode_check_got(lode_check_t *check, lode_h5_array_t *got, const char *path,
                    lode_h5_type_t type, const int64_t *extents);

/* Compares an attribute of the stage file with a number that must be equal. */
void lode_check_number(lode_check_t *check, const char *path, const char *attribute, double want);

/* [rows,columns] of the stage file against the reference's: within `relative` where the reference
 * is above LODE_CHECK_SIGNIFICANT of its row's largest, within that much of the largest elsewhere.
 * Where excused[rows,columns] (or NULL) is nonzero, the element need only be finite. Does nothing
 * where the reference has no `want_path`. */
void lode_check_rows(lode_check_t *check, const char *got_path, const char *want_path,
                     double relative, const uint8_t *excused);

/* Where the reference keeps a variant's mask: "scar-prot@0.5~none" → "keep/scar-prot~none/0.5". */
void lode_check_mask_path(char path[2 * LODE_H5_NAME], const char *variant);

/* The parts, in the order in which they must be called. */
void lode_check_tokens(lode_check_t *check);
void lode_check_statistics(lode_check_t *check);
void lode_check_classes(lode_check_t *check);
void lode_check_structure(lode_check_t *check); /* where there is check->structure */
void lode_check_pruning(lode_check_t *check);
void lode_check_perplexities(lode_check_t *check);
void lode_check_ranks(lode_check_t *check);

#endif
