/* stages/audit/version: a folder that is another version of the experiment's model.
 *
 * It must be of the model's architecture: the same family, layers, hidden size, heads, vocabulary;
 * its weights may be of any type that Lodestone reads, it may have biases in its feed-forward
 * blocks, a head of its own, and fewer channels, the same number in every layer. Which channels
 * these are is known in one of three ways (lode_audit_kept_t).
 */
#ifndef LODE_STAGES_AUDIT_VERSION_H
#define LODE_STAGES_AUDIT_VERSION_H

#include "common/inputs.h"
#include "common/run.h"

/* How channels of a version are known to be channels of the original. */
typedef enum lode_audit_kept {
    LODE_AUDIT_INDEX,      /* it has as many: they are at their places */
    LODE_AUDIT_NOTE,       /* its lodestone.json says which were kept of this very model */
    LODE_AUDIT_SIMILARITY, /* by what they read (score/match.h) */
} lode_audit_kept_t;

/* Channels that are matched by similarity must be at least this similar, each of them: pairs that
 * have nothing to do with each other have 0 ± 1/√(2d), and 8-bit rounding leaves 0.999, 4-bit
 * rounding 0.99, half of all weights zeroed 0.9. */
#define LODE_AUDIT_SIMILAR 0.5

typedef struct lode_audit_version {
    const lode_config_folder_t *entry;
    int64_t number;                /* of the entry in audit.folders */
    char *folder;                  /* its path */
    lode_checkpoint_t *checkpoint; /* NULL while it is closed */
    lode_run_t run; /* the run with this checkpoint (lode_run_view), or its architecture and layout
                       alone while that is closed */
    lode_audit_kept_t known;
    int32_t *kept; /* [L, n] of LODE_AUDIT_NOTE: the original's channel, −1 for padding */
} lode_audit_version_t;

/* Whether an entry is a version of the model called `model`. Local. */
bool lode_audit_applies(const lode_config_folder_t *entry, const char *model);

/* "index", "lodestone.json", "similarity". Local. */
const char *lode_audit_kept_name(lode_audit_kept_t known);

/* Describes entry `number` of audit.folders, and leaves it closed. *version is for
 * lode_audit_version_free, also on failure. Errors: those of lode_checkpoint_open and
 * lode_run_view, LODE_ERR_UNSUPPORTED (packed weights), LODE_ERR_SHAPE (another architecture),
 * LODE_ERR_FORMAT (a broken lodestone.json); all name the key and the folder. Collective. */
LODE_MUST_USE lode_status_t lode_audit_version_create(lode_audit_version_t *version,
                                                      const lode_run_t *run, int64_t number);
void lode_audit_version_free(lode_audit_version_t *version); /* leaves {0}. Local. */

/* Opens its checkpoint again, and closes it. Errors: as above. Collective; Local. */
LODE_MUST_USE lode_status_t lode_audit_version_open(lode_audit_version_t *version);
void lode_audit_version_close(lode_audit_version_t *version);

/* Adds the contents of all folders of the run's model to the fingerprint of the stage: names,
 * config.json, all weights, lodestone.json; run->inputs gets a line for each. Errors: as above.
 * Collective. */
LODE_MUST_USE lode_status_t lode_audit_hash(lode_hash_t *hash, lode_run_t *run,
                                            lode_inputs_t *inputs);

#endif
