/* Perplexities of the dense model and of the variants. */
#include "golden/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the reference keeps the figures of a protocol. */
typedef struct protocol {
    const char *name, *dense, *windows, *targets, *pruned;
} protocol_t;

static const protocol_t protocols[] = {
    {"gptq", "ppl_gptq_dense", "ppl_windows", "ppl_targets", "ppl_pruned"},
    {"llama.cpp", "ppl_llamacpp_dense", "ppl_llamacpp_chunks", "ppl_llamacpp_targets",
     "ppl_pruned_llamacpp"},
};

static double figure(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Whether our mask of a variant equals the reference's, bit for bit. */
static bool same_mask(const lode_check_t *check, hid_t prune, const char *variant) {
    char got_path[2 * LODE_H5_NAME], want_path[2 * LODE_H5_NAME];
    lode_h5_array_t got, want;
    snprintf(got_path, sizeof got_path, "/keep/%s", variant);
    lode_check_mask_path(want_path, variant);
    /* An unprotected LP ranking whose core is not among the removed half has scar-lp's mask, which
     * is how the older references store it. */
    if (strncmp(variant, "lp@", 3) == 0 && !lode_h5_exists(check->golden, want_path))
        snprintf(want_path, sizeof want_path, "keep/scar-lp/%s", variant + 3);
    const bool read_got = lode_h5_read(&got, prune, got_path, LODE_H5_U8);
    const bool read_want = lode_h5_read(&want, check->golden, want_path, LODE_H5_U8);
    const bool same = read_got && read_want && got.count == want.count &&
                      memcmp(got.u8, want.u8, (size_t)got.count) == 0;
    lode_h5_free(&got);
    lode_h5_free(&want);
    return same;
}

/* Under both protocols all windows have equally many targets, so the value is the exponential of
 * the mean over all of them. */
static void compare_losses(lode_check_t *check, const char *path, double value, double targets) {
    lode_h5_array_t nll;
    char name[3 * LODE_H5_NAME];
    const int64_t extents[] = {(int64_t)targets, -1};
    snprintf(name, sizeof name, "%s (mean of its losses)", path);
    if (!lode_check_got(check, &nll, path, LODE_H5_F64, extents))
        return;
    double sum = 0;
    for (int64_t t = 0; t < nll.count; t++)
        sum += nll.f64[t];
    const double again = exp(sum / (double)nll.count);
    lode_check_comparison(check, name, lode_compare_f64(name, &value, 1, &again, 1, 0, 1e-10));
    lode_h5_free(&nll);
}

static void compare_value(lode_check_t *check, const char *path, const protocol_t *protocol,
                          double want) {
    double value = NAN;
    const double targets = figure(check->figures, protocol->targets);
    if (!lode_h5_exists(check->file, path) || !lode_h5_number(check->file, path, "value", &value)) {
        lode_check_fail(check, path, "the results have no such perplexity");
        return;
    }
    const lode_comparison_t result =
        lode_compare_f64(path, &value, 1, &want, 1, 0, LODE_CHECK_PERPLEXITY);
    if (result.equal)
        lode_check_pass(check, path, "%.6f, reference %.6f (%.1e)", value, want,
                        fabs(value - want) / want);
    else
        lode_check_comparison(check, path, result);
    lode_check_number(check, path, "windows", figure(check->figures, protocol->windows));
    lode_check_number(check, path, "targets", targets);
    if (targets > 0)
        compare_losses(check, path, value, targets);
}

/* One compensated variant, under the name that it has in the results. */
static void compare_compensated(lode_check_t *check, const char *entry, const protocol_t *protocol,
                                hid_t prune, const char *variant, const json_t *value) {
    char path[4 * LODE_H5_NAME];
    snprintf(path, sizeof path, "/perplexity/%s/%s", entry, variant);
    if (lode_h5_exists(check->file, path) && !same_mask(check, prune, variant))
        lode_check_skip(check, path, "the mask differs from the reference's");
    else
        compare_value(check, path, protocol, json_number_value(value));
}

/* Everything compensated that the reference has a figure for: all of it must be there. */
static void compare_compensations(lode_check_t *check, const char *entry,
                                  const protocol_t *protocol, hid_t prune) {
    json_t *any = json_object_get(check->figures, "ppl_compensated"), *value;
    json_t *least_squares = json_object_get(check->figures, "ppl_least_squares");
    const char *key;
    char variant[LODE_H5_NAME];
    if (strcmp(protocol->name, "gptq") != 0)
        return;
    if (!any && !least_squares)
        lode_check_fail(check, entry, "the reference has no compensated perplexities");
    json_object_foreach(any, key, value) if (strcmp(key, "ridge") != 0)
        compare_compensated(check, entry, protocol, prune, key, value);
    json_object_foreach(least_squares, key, value) {
        snprintf(variant, sizeof variant, "%s+least-squares", key);
        if (strcmp(key, "ridge") != 0)
            compare_compensated(check, entry, protocol, prune, variant, value);
    }
}

/* Every variant of one entry that the reference has a figure for. */
static void compare_entry(lode_check_t *check, const char *entry, const protocol_t *protocol,
                          hid_t prune) {
    char path[4 * LODE_H5_NAME];
    const char *key;
    json_t *value;
    const json_t *length =
        json_object_get(json_object_get(check->figures, "parameters"), "eval_length");
    snprintf(path, sizeof path, "/perplexity/%s/dense", entry);
    if (length)
        lode_check_number(check, path, "length", json_number_value(length));
    compare_value(check, path, protocol, figure(check->figures, protocol->dense));
    if (!check->classes)
        return;
    json_object_foreach(json_object_get(check->figures, protocol->pruned), key, value) {
        char variant[LODE_H5_NAME];
        const bool unprotected = strncmp(key, "lp-unprotected@", 15) == 0;
        snprintf(variant, sizeof variant, "%s%s", unprotected ? "lp@" : "",
                 unprotected ? key + 15 : key);
        snprintf(path, sizeof path, "/perplexity/%s/%s", entry, variant);
        if (check->compensated ? !lode_h5_exists(check->file, path)
                               : strncmp(key, "sparsegpt-channel@", 18) == 0)
            continue;
        if (lode_h5_exists(check->file, path) && !same_mask(check, prune, variant))
            lode_check_skip(check, path, "the mask differs from the reference's");
        else
            compare_value(check, path, protocol, json_number_value(value));
    }
    if (check->compensated)
        compare_compensations(check, entry, protocol, prune);
}

static void compare_named(lode_check_t *check, const char *entry, hid_t prune) {
    char path[2 * LODE_H5_NAME], name[LODE_H5_NAME] = "";
    snprintf(path, sizeof path, "/perplexity/%s/dense", entry);
    if (!lode_h5_exists(check->file, path) || !lode_h5_text(check->file, path, "protocol", name)) {
        lode_check_fail(check, path, "absent, or without a protocol");
        return;
    }
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        if (strcmp(protocols[i].name, name) == 0) {
            compare_entry(check, entry, &protocols[i], prune);
            return;
        }
    }
    lode_check_skip(check, path, "the reference has no protocol \"%s\"", name);
}

void lode_check_perplexities(lode_check_t *check) {
    char path[4096], entry[LODE_H5_NAME];
    snprintf(path, sizeof path, "%s/prune.h5", check->folder);
    const hid_t prune = lode_h5_open(path);
    if (prune < 0) {
        lode_check_fail(check, path, "cannot be read");
        return;
    }
    if (lode_check_open(check, "evaluate")) {
        const int64_t entries = lode_h5_members(check->file, "/perplexity");
        if (check->only)
            compare_named(check, check->only, prune);
        else if (entries == 0)
            lode_check_fail(check, "/perplexity", "the results have no perplexities");
        for (int64_t i = 0; !check->only && i < entries; i++)
            if (lode_h5_member(check->file, "/perplexity", i, entry))
                compare_named(check, entry, prune);
        lode_check_close(check);
    }
    H5Fclose(prune);
}
