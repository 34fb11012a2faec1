/* Fuzzes experiment text: whatever parses must write itself as text that parses to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const lode_config_t *config) {
    lode_buffer_t first = {0}, second = {0};
    lode_config_t *again = NULL;
    LODE_ASSERT(lode_config_text(config, &first) == LODE_OK);
    LODE_ASSERT(lode_config_parse(&again, first.data, first.length, "again") == LODE_OK);
    LODE_ASSERT(lode_config_text(again, &second) == LODE_OK);
    LODE_ASSERT(strcmp(first.data, second.data) == 0);
    lode_config_destroy(&again);
    lode_buffer_free(&first);
    lode_buffer_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lode_config_t *config = NULL;
    if (lode_config_parse(&config, (const char *)data, size, "fuzz") != LODE_OK)
        return 0;
    check_round_trip(config);
    lode_config_point_t *points = NULL;
    int64_t count = 0;
    if (config->sweep_count < 3 && lode_config_expand(config, &points, &count) == LODE_OK)
        LODE_ASSERT(count >= 1);
    lode_config_points_destroy(&points, count);
    lode_config_destroy(&config);
    return 0;
}
