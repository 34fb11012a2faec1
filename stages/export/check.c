#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/folder.h"
#include "export/export.h"
#include "export/plan.h"

enum { NAME_BYTES = 64, SHOWN_VARIANTS = 6 };

/* --- which variants ------------------------------------------------------------------------- */

/* Names the nearest variant, or else the first ones. */
static lode_status_t fail_variant(const lode_config_t *config, int64_t number,
                                  const lode_variant_t *variants, int64_t count) {
    const char **names;
    char key[NAME_BYTES];
    lode_buffer_t advice = {0};
    snprintf(key, sizeof key, "export.[%lld].variant", (long long)number);
    LODE_TRY(LODE_NEW(&names, count + 1, "names of variants"));
    names[0] = "dense";
    for (int64_t i = 0; i < count; i++)
        names[i + 1] = variants[i].name;
    const char *name = config->exports[number].variant;
    const char *near = lode_config_nearest(name, names, count + 1);
    lode_status_t status = near ? lode_buffer_printf(&advice, "did you mean \"%s\"?", near)
                                : lode_buffer_printf(&advice, "its variants are dense");
    for (int64_t i = 0; !near && i < count && i < SHOWN_VARIANTS && status == LODE_OK; i++)
        status = lode_buffer_printf(&advice, ", %s", variants[i].name);
    if (!near && count > SHOWN_VARIANTS && status == LODE_OK)
        status = lode_buffer_printf(&advice, " …");
    if (status == LODE_OK)
        status = lode_fail(LODE_ERR_CONFIG, "%s: %s: the experiment has no variant \"%.100s\"; %s",
                           lode_config_where(config, key), key, name, advice.data);
    lode_buffer_free(&advice);
    free((void *)names);
    return status;
}

/* Refuses what happens only while a model runs: no folder can hold it. */
static lode_status_t check_runs(const lode_config_t *config, int64_t number,
                                const lode_variant_t *variant, const lode_variant_t *variants) {
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "export.[%lld].variant", (long long)number);
    const char *where = lode_config_where(config, key);
    if (variant->experiment && variant->what == LODE_EXPERIMENT_RESTORE)
        return lode_fail(LODE_ERR_UNSUPPORTED,
                         "%s: %s: %s puts activations back while the model runs, which no folder "
                         "can hold; export super-weight:prune",
                         where, key, variant->name);
    if (!variant->quantized || variant->activations == LODE_INPUTS_NONE)
        return LODE_OK;
    lode_buffer_t name = {0};
    lode_variant_t other = *variant;
    other.activations = LODE_INPUTS_NONE;
    lode_status_t status =
        lode_variants_name(&name, &other, other.base < 0 ? NULL : variants[other.base].name);
    if (status == LODE_OK)
        status = lode_fail(LODE_ERR_UNSUPPORTED,
                           "%s: %s: %s quantizes activations while the model runs, which no folder "
                           "can hold; export %s, with \"none\" in quantize.activations",
                           where, key, variant->name, name.data);
    lode_buffer_free(&name);
    return status;
}

/* Whether the experiment has what an entry exports, and a folder can hold it. */
static lode_status_t check_variant(const lode_config_t *config, int64_t number,
                                   const lode_variant_t *variants, int64_t count) {
    const lode_config_export_t *entry = &config->exports[number];
    const lode_variant_t *variant = lode_variants_find(variants, count, entry->variant);
    char key[NAME_BYTES];
    if (!variant && strcmp(entry->variant, "dense") != 0)
        return fail_variant(config, number, variants, count);
    snprintf(key, sizeof key, "export.[%lld].codes", (long long)number);
    if (entry->codes && !(variant && variant->quantized))
        return lode_fail(LODE_ERR_CONFIG,
                         "%s: %s: %s is not quantized and has no codes; leave the key out",
                         lode_config_where(config, key), key, entry->variant);
    return variant ? check_runs(config, number, variant, variants) : LODE_OK;
}

/* --- where it goes --------------------------------------------------------------------------- */

/* The path without empty and "." components and a slash at the end; the caller's. */
static lode_status_t tidy(char **out, const char *path) {
    LODE_TRY(lode_strdup(out, path));
    char *end = *out;
    for (const char *next = path; *next;) {
        const size_t length = strcspn(next, "/");
        const bool skipped = length == 0 || (length == 1 && *next == '.');
        if (!skipped) {
            if (end != *out || *path == '/')
                *end++ = '/';
            memcpy(end, next, length);
            end += length;
        }
        next += length + (next[length] == '/');
    }
    *end = '\0';
    return LODE_OK;
}

/* Whether `inner` is the folder `outer` or lies in it. */
static bool lies_in(const char *inner, const char *outer) {
    const size_t length = strlen(outer);
    return strncmp(inner, outer, length) == 0 && (inner[length] == '\0' || inner[length] == '/');
}

/* A folder in another's would keep that from ever being replaced, and the names that a folder has
 * on its way are not for others. */
static lode_status_t check_path(const lode_config_t *config, int64_t number) {
    static const char *const endings[] = {".partial", ".replaced"};
    char key[NAME_BYTES], *path = NULL, *other = NULL;
    lode_status_t status = tidy(&path, config->exports[number].path);
    snprintf(key, sizeof key, "export.[%lld].path", (long long)number);
    const char *where = lode_config_where(config, key);
    for (int i = 0; i < 2 && status == LODE_OK; i++) {
        const size_t length = strlen(path), ending = strlen(endings[i]);
        if (length >= ending && strcmp(path + length - ending, endings[i]) == 0)
            status = lode_fail(LODE_ERR_CONFIG,
                               "%s: %s: \"%s\" ends in %s, as unfinished folders do; choose "
                               "another name",
                               where, key, config->exports[number].path, endings[i]);
    }
    for (int64_t i = 0; i < number && status == LODE_OK; i++) {
        status = tidy(&other, config->exports[i].path);
        if (status == LODE_OK && (lies_in(path, other) || lies_in(other, path)))
            status = lode_fail(LODE_ERR_CONFIG,
                               "%s: %s: \"%s\" and \"%s\" are the same folder, or one lies in the "
                               "other; give each export a folder of its own",
                               where, key, config->exports[i].path, config->exports[number].path);
        free(other);
        other = NULL;
    }
    free(path);
    return status;
}

/* Whether the folders of an entry can be written. */
static lode_status_t check_folders(const lode_config_t *config, int64_t number, const char *point,
                                   const char *only) {
    for (int64_t m = 0; m < lode_config_model_total(config); m++) {
        const lode_config_model_t *model = lode_config_model_at(config, m);
        char *folder;
        if (!lode_config_selects(config, only, model) || lode_config_is_scratch(config, model))
            continue;
        LODE_TRY(
            lode_export_folder(&folder, config, point, model->name, config->exports[number].path));
        lode_status_t status = LODE_OK;
        for (int64_t i = 0; i < lode_config_model_total(config) && status == LODE_OK; i++)
            status = lode_export_check_source(config, number, folder,
                                              lode_config_model_at(config, i)->path);
        if (status == LODE_OK)
            status = lode_folder_check(folder);
        free(folder);
        LODE_TRY(status);
    }
    return LODE_OK;
}

lode_status_t lode_export_check(const lode_config_t *config, const char *point, const char *model) {
    lode_variant_t *variants;
    int64_t count;
    if (config->export_count == 0)
        return LODE_OK;
    for (int64_t i = 0; i < config->export_count; i++)
        LODE_TRY(check_path(config, i));
    LODE_TRY(lode_variants_list(&variants, &count, config));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < config->export_count && status == LODE_OK; i++)
        status = check_variant(config, i, variants, count);
    lode_variants_free(&variants, count);
    for (int64_t i = 0; i < config->export_count && status == LODE_OK; i++)
        status = check_folders(config, i, point, model);
    return status;
}
