/* Tokens, first-sequence logits, channel statistics. */
#include "golden/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void compare_offsets(lode_check_t *check, const lode_h5_array_t *lengths) {
    const char *path = "/calibration/offsets";
    lode_h5_array_t got;
    const int64_t extents[] = {lengths->count + 1, -1};
    if (!lode_check_got(check, &got, path, LODE_H5_I64, extents))
        return;
    int64_t end = 0, bad = got.i64[0] != 0;
    for (int64_t s = 0; s < lengths->count; s++) {
        end += lengths->i32[s];
        bad += got.i64[s + 1] != end;
    }
    if (bad)
        lode_check_fail(check, path, "%lld sequences begin elsewhere", (long long)bad);
    else
        lode_check_pass(check, path, "%lld sequences", (long long)lengths->count);
    lode_h5_free(&got);
}

void lode_check_tokens(lode_check_t *check) {
    const char *path = "/calibration/ids";
    lode_h5_array_t ids, lengths, got;
    if (!lode_check_open(check, "tokenize"))
        return;
    if (lode_h5_read(&ids, check->golden, "calibration/ids", LODE_H5_I32)) {
        const int64_t extents[] = {ids.count, -1};
        if (lode_check_got(check, &got, path, LODE_H5_I32, extents)) {
            lode_check_comparison(check, path,
                                  lode_compare_i32(path, got.i32, got.count, ids.i32, ids.count));
            lode_h5_free(&got);
        }
        lode_h5_free(&ids);
    }
    if (lode_h5_read(&lengths, check->golden, "calibration/lengths", LODE_H5_I32)) {
        compare_offsets(check, &lengths);
        lode_h5_free(&lengths);
    }
    lode_check_close(check);
}

/* The reference may hold the first positions only; the results may hold more sequences. */
static void compare_logits(lode_check_t *check) {
    const char *path = "/logits";
    lode_h5_array_t want, got;
    if (!lode_h5_read(&want, check->golden, "logits_first_sequence", LODE_H5_F64))
        return;
    if (!lode_h5_read(&got, check->file, path, LODE_H5_F32)) {
        lode_check_fail(check, path, "the results have no logits (calibration.keep_logits = 1)");
    } else if (got.axes != 2 || got.extent[1] != want.extent[1] || got.extent[0] < want.extent[0]) {
        lode_check_fail(check, path, "wrong shape");
    } else {
        double scale = 1;
        for (int64_t i = 0; i < want.count; i++)
            scale = fmax(scale, fabs(want.f64[i]));
        const lode_comparison_t result = lode_compare_f32(path, got.f32, want.count, want.f64,
                                                          want.count, LODE_CHECK_LOGITS * scale, 0);
        if (result.equal)
            lode_check_pass(check, path, "worst error %.2e, largest logit %.3g",
                            result.worst * LODE_CHECK_LOGITS * scale, scale);
        else
            lode_check_comparison(check, path, result);
    }
    lode_h5_free(&got);
    lode_h5_free(&want);
}

/* The per-sequence sums add up to the mean, whatever float32 did to both. */
static void compare_sequences(lode_check_t *check, double tokens) {
    const char *path = "/sequences/loss_proxy";
    lode_h5_array_t parts, mean;
    const int64_t plane = check->layers * check->channels;
    const int64_t extents[] = {check->layers, check->channels, -1};
    if (!lode_check_got(check, &mean, "/loss_proxy", LODE_H5_F64, extents))
        return;
    if (!lode_h5_read(&parts, check->file, path, LODE_H5_F64) || parts.axes != 3 ||
        parts.extent[1] != check->layers || parts.extent[2] != check->channels) {
        lode_check_fail(check, path, "absent, or not [S,L,m]");
    } else {
        double *sum = calloc((size_t)plane, sizeof *sum);
        for (int64_t i = 0; sum && i < parts.count; i++)
            sum[i % plane] += parts.f64[i] / tokens;
        lode_check_comparison(
            check, path, lode_compare_f64(path, sum, sum ? plane : 0, mean.f64, plane, 0, 1e-12));
        free(sum);
    }
    lode_h5_free(&parts);
    lode_h5_free(&mean);
}

/* The means of u, where the reference has them. */
static void compare_means(lode_check_t *check) {
    lode_h5_array_t got, want, power;
    char path[] = "/activation_mean";
    const int64_t extents[] = {check->layers, check->channels, -1};
    if (!lode_h5_read(&want, check->golden, "activation_mean", LODE_H5_F64))
        return;
    const bool read =
        lode_h5_read(&power, check->golden, "loss_mean/activation_power", LODE_H5_F64);
    if (lode_check_got(check, &got, path, LODE_H5_F64, extents)) {
        for (int64_t i = 0; read && i < want.count && i < power.count; i++) {
            const double root = sqrt(power.f64[i]);
            got.f64[i] /= root > 0 ? root : 1;
            want.f64[i] /= root > 0 ? root : 1;
        }
        lode_check_comparison(
            check, path,
            lode_compare_f64(path, got.f64, got.count, want.f64, want.count, LODE_CHECK_MEAN, 0));
        lode_h5_free(&got);
    }
    lode_h5_free(&power);
    lode_h5_free(&want);
}

void lode_check_statistics(lode_check_t *check) {
    static const char *const names[] = {"loss_proxy", "activation_power", "taylor", "curvature"};
    const json_t *figure = json_object_get(check->figures, "tokens");
    const double tokens = figure ? json_number_value(figure) : NAN;
    char want[2 * LODE_H5_NAME], got[2 * LODE_H5_NAME];
    lode_h5_array_t lengths;
    double sequences = NAN;
    if (lode_h5_read(&lengths, check->golden, "calibration/lengths", LODE_H5_I32))
        sequences = (double)lengths.count;
    lode_h5_free(&lengths);
    if (lode_check_open(check, "calibrate")) {
        lode_check_number(check, "/", "tokens", tokens);
        lode_check_number(check, "/", "sequences", sequences);
        compare_logits(check);
        snprintf(want, sizeof want, "loss_%s/activation_power", check->loss);
        lode_check_rows(check, "/activation_power", want, LODE_CHECK_STATISTIC, NULL);
        compare_means(check);
        lode_check_rows(check, "/activation_max", "activation_max", LODE_CHECK_STATISTIC, NULL);
        lode_check_rows(check, "/input_power", "input_power", LODE_CHECK_STATISTIC, NULL);
        if (lode_h5_exists(check->file, "/padded")) {
            lode_check_rows(check, "/padded/u_power", "padded/u_power", LODE_CHECK_STATISTIC, NULL);
            lode_check_rows(check, "/padded/input_power", "padded/input_power",
                            LODE_CHECK_STATISTIC, NULL);
        }
        lode_check_close(check);
    }
    if (!lode_check_open(check, "accumulate"))
        return;
    lode_check_number(check, "/", "tokens", tokens);
    lode_check_number(check, "/", "sequences", sequences);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(want, sizeof want, "loss_%s/%s", check->loss, names[i]);
        snprintf(got, sizeof got, "/%s", names[i]);
        lode_check_rows(check, got, want, LODE_CHECK_STATISTIC, NULL);
    }
    compare_sequences(check, tokens);
    lode_check_close(check);
}
