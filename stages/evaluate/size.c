#include "evaluate/size.h"

#include <stdio.h>

#include "common/edits.h"
#include "kernels/real.h"

enum { PATH_BYTES = 64 };

static lode_status_t count_perplexity(lode_store_t *store, int64_t entry, int64_t variant,
                                      int64_t targets) {
    /* as evaluate/perplexity.c has them */
    static const char *const reals[] = {"value", "stderr"}, *const integers[] = {"length",
                                                                                 "windows",
                                                                                 "targets", "bos"};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/perplexity/%lld/%lld", (long long)entry, (long long)variant);
    LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 1, &targets, false));
    LODE_TRY(lode_store_attribute_text(store, path, "digest", "0123456789abcdef0123456789abcdef"));
    LODE_TRY(lode_store_attribute_text(store, path, "protocol", "gptq"));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        LODE_TRY(lode_store_attribute_f64(store, path, reals[i], 0));
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        LODE_TRY(lode_store_attribute_i64(store, path, integers[i], 0));
    return LODE_OK;
}

static lode_status_t count_task(lode_store_t *store, int64_t entry, int64_t variants,
                                const int64_t shape[2]) {
    char path[PATH_BYTES];
    for (int i = 0; i < 3; i++) { /* gold, characters, tokens */
        snprintf(path, sizeof path, "/task_items/%lld/%d", (long long)entry, i);
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_I32, i == 0 ? 1 : 2, shape, false));
    }
    for (int64_t v = 0; v < variants; v++) {
        snprintf(path, sizeof path, "/tasks/%lld/%lld", (long long)entry, (long long)v);
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_F64, 2, shape, true));
        LODE_TRY(lode_store_dataset(store, path, LODE_TYPE_U8, 2, shape, true));
        for (int i = 0; i < 12; i++) /* digest, figures and their errors */
            LODE_TRY(lode_store_attribute_f64(store, path, "figure", 0));
    }
    return LODE_OK;
}

static lode_status_t count_all(lode_store_t *store, const lode_run_t *run,
                               const lode_evaluate_extents_t *extents, int64_t pruned) {
    const lode_config_evaluate_t *evaluate = &run->config->evaluate;
    for (int64_t i = 0; i < evaluate->perplexity_count; i++) {
        const int64_t variants = evaluate->perplexity[i].pruned ? 1 + pruned : 1;
        for (int64_t v = 0; v < variants; v++)
            LODE_TRY(count_perplexity(store, i, v, extents->targets[i]));
    }
    for (int64_t i = 0; i < evaluate->task_count; i++) {
        const int64_t shape[] = {extents->items[i], extents->width[i]};
        LODE_TRY(count_task(store, i, evaluate->tasks[i].pruned ? 1 + pruned : 1, shape));
    }
    return LODE_OK;
}

lode_status_t lode_evaluate_size(lode_stage_size_t *size, const lode_run_t *run,
                                 const lode_evaluate_extents_t *extents, int64_t layers) {
    lode_variant_t *variants;
    int64_t count;
    lode_store_t *store = NULL;
    *size = (lode_stage_size_t){0};
    LODE_TRY(lode_variants_list(&variants, &count, run->config));
    size->memory = lode_edits_plan(variants, count, layers, run->architecture.intermediate,
                                   run->architecture.hidden);
    lode_status_t status = lode_store_tally_create(&store);
    if (status == LODE_OK)
        status = count_all(store, run, extents, count);
    size->file = lode_store_tally_end(&store);
    lode_variants_free(&variants, count);
    return status;
}

lode_status_t lode_evaluate_tally(lode_store_t *store, const lode_run_t *run,
                                  const lode_evaluate_extents_t *extents) {
    return count_all(store, run, extents, 0);
}
