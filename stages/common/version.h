/* stages/common/version: which Lodestone this is. Everything here is Local. */
#ifndef LODE_STAGES_COMMON_VERSION_H
#define LODE_STAGES_COMMON_VERSION_H

/* "0.1.0" */
const char *lode_version(void);

/* The commit the binary was built from, "unknown" outside a repository. */
const char *lode_commit(void);

/* Raised by whoever changes what a stage computes or stores: results of another revision are not
 * taken for complete. A new commit or version alone does not void results. */
enum { LODE_RESULTS_REVISION = 6 };

#endif
