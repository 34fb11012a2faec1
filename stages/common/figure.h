/* stages/common/figure: perplexities as results hold them.
 *
 * A dataset f64 [targets] of negative log-likelihoods in nats, in text order, has the attributes
 * value, stderr, protocol, length, windows, targets, bos (token id before the text, −1 for none);
 * those of the protocol lm-eval also words, bytes, and word_perplexity (the value),
 * byte_perplexity, bits_per_byte, token_perplexity with <each>_stderr (common/protocol.h).
 */
#ifndef LODE_STAGES_COMMON_FIGURE_H
#define LODE_STAGES_COMMON_FIGURE_H

#include "common/protocol.h"
#include "config/config.h"
#include "store/store.h"

/* Writes the attributes of the dataset `path` from the losses that it holds, and says what the
 * perplexity of `who` is. After lode_store_synchronise().
 *   windows, bos  in, of the text (lode_evaluation_windows)
 * Errors: LODE_ERR_IO, LODE_ERR_MEMORY. Collective; rank 0 reads. */
LODE_MUST_USE lode_status_t lode_figure_write(lode_store_t *store, const lode_comm_t *comm,
                                              const char *path,
                                              const lode_config_perplexity_t *entry,
                                              const lode_windows_t *windows, int32_t bos,
                                              const char *who);

#endif
