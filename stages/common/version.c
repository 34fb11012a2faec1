#include "common/version.h"

#include "lode_commit.h"

const char *lode_version(void) {
    return LODE_VERSION;
}

const char *lode_commit(void) {
    return LODE_COMMIT;
}
