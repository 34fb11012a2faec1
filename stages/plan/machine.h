/* stages/plan/machine: how fast one rank computes. Everything here is Local. */
#ifndef LODE_STAGES_PLAN_MACHINE_H
#define LODE_STAGES_PLAN_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"
#include "model/tensor.h"

/* Rates of a rank with the experiment's threads; operations count as executed. */
typedef struct lode_machine {
    bool measured;    /* here and now, for about a second; else read from a file */
    char source[256]; /* the file */
    int64_t threads;  /* that the rates are for */
    double timed;     /* threads that were timed; the rates of others are in proportion */
    /* operations a second */
    double sgemm;               /* float32 products of the model's shapes */
    double forward, backward;   /* a layer forward; its backward alone */
    double head, head_backward; /* head and loss; the same with the gradient */
    double training;            /* a layer forward and back with the gradients of its weights */
    double optimizer;           /* bytes a second of AdamW, 28 a parameter */
    double dgemm;               /* float64 products */
    double vector;              /* elements a second of everything else: sums, norms, conversions */
    double disk;                /* bytes a second */
} lode_machine_t;

/* Reads what lode bench wrote, for `threads` threads a rank. Errors: LODE_ERR_INPUT,
 * LODE_ERR_FORMAT, naming the key that is missing or wrong. */
LODE_MUST_USE lode_status_t lode_machine_read(lode_machine_t *machine, const char *path,
                                              int64_t threads);

/* Times products of the model's shapes with `threads` threads. Of a narrow model, whose products
 * are too small to be most of the work, also a layer and the head with weights of `dtype`, on
 * sequences of `length` tokens. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_machine_measure(lode_machine_t *machine,
                                                 const lode_architecture_t *architecture,
                                                 lode_dtype_t dtype, int64_t micro_batch,
                                                 int64_t length, int64_t threads);

#endif
