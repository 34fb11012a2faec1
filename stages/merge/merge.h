/* stages/merge: joins the statistics of several results of one model as if they had been one run.
 *
 * Writes into a folder
 *   tokenize.h5    /calibration/{ids,offsets}, the parts' sequences one after the other
 *   calibrate.h5, accumulate.h5   every dataset that a run over those sequences would write: values
 *                  by sequence are copied, totals summed anew in the order of the sequences; logits
 *                  and q are those of the first sequences, as many as the parts' experiments keep
 *   moments.h5     where all parts have it: means over tokens, weighted by the parts' tokens
 * with the fingerprints of that run, so that an experiment whose calibration.merged names the
 * folder above takes them for its own. All but moments.h5 has the run's bits wherever a sequence's
 * values do not depend on those it shares a micro-batch with, which is what the tests find with
 * OpenBLAS; at worst the last bits differ, as with another micro_batch. moments.h5 agrees to
 * rounding.
 */
#ifndef LODE_STAGES_MERGE_H
#define LODE_STAGES_MERGE_H

#include "comm/context.h"

/* Joins the results in parts[count], count ≥ 2, in this order into `output`, which is created where
 * it is missing. Nothing under its final name is incomplete after a failure.
 * Errors: LODE_ERR_INPUT where a part lacks a file, or parts differ in what decides their
 * statistics (named in the message), LODE_ERR_USAGE where a folder is named twice, LODE_ERR_BUSY,
 * LODE_ERR_IO, LODE_ERR_MEMORY. Collective. */
LODE_MUST_USE lode_status_t lode_merge(const lode_comm_t *comm, const char *const *parts,
                                       int64_t count, const char *output);

#endif
