#include "score/control.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "comm/context.h"
#include "score/concentration.h"
#include "score/halo.h"
#include "score/resample.h"
#include "score/weights.h"

static const char down_name[] = "down_proj";

/* --- random channels ------------------------------------------------------------------------ */

lode_status_t lode_control_sample(int32_t *sample, bool *enough, int64_t count, int64_t channels,
                                  const int32_t *core, int64_t core_size, const int32_t *halo,
                                  int64_t halo_size, uint64_t key) {
    int32_t *others = NULL;
    int64_t *chosen = NULL, left = 0;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW(&others, channels, "channels to draw from"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&chosen, count, "random channels"), done);
    for (int64_t i = 0; i < core_size; i++)
        others[core[i]] = 1;
    for (int64_t i = 0; i < halo_size; i++)
        others[halo[i]] = 1;
    for (int32_t j = 0; j < channels; j++) /* left ≤ j: nothing is overwritten before it is read */
        if (!others[j])
            others[left++] = j;
    *enough = count <= left;
    if (*enough) {
        lode_random_sample(key, chosen, count, left);
        for (int64_t i = 0; i < count; i++)
            sample[i] = others[chosen[i]];
    }
done:
    free(others);
    free(chosen);
    return status;
}

/* --- means and their intervals -------------------------------------------------------------- */

/* How often each channel is in each draw of a group, [draws, count], the caller's. */
static lode_status_t draw_group(double **times, int64_t count, const char *purpose,
                                lode_control_t control) {
    LODE_TRY(LODE_NEW_RAW(times, control.draws * count, "bootstrap draws"));
    for (int64_t i = 0; i < control.draws; i++)
        lode_resample_times(*times + i * count, count,
                            lode_random_key(control.seed, purpose, control.layer, i));
    return LODE_OK;
}

lode_status_t lode_control_channels(lode_control_mean_t *mean, const double *values, int64_t count,
                                    const char *purpose, lode_control_t control) {
    *mean = (lode_control_mean_t){NAN, {NAN, NAN}};
    if (count == 0)
        return LODE_OK;
    double *times = NULL, *figures = NULL, sum = 0;
    lode_status_t status;
    LODE_GUARD(status, draw_group(&times, count, purpose, control), done);
    LODE_GUARD(status, LODE_NEW(&figures, control.draws, "bootstrap draws"), done);
    for (int64_t j = 0; j < count; j++)
        sum += values[j];
    mean->mean = sum / (double)count;
    for (int64_t i = 0; i < control.draws; i++) {
        for (int64_t j = 0; j < count; j++)
            figures[i] += times[i * count + j] * values[j];
        figures[i] /= (double)count;
    }
    lode_resample_interval(mean->interval, figures, control.draws, control.level);
done:
    free(times);
    free(figures);
    return status;
}

/* product[draws, columns] = left[draws, rows] · pairs[rows, columns]. */
static lode_status_t weigh(double *product, const double *left, const double *pairs, int64_t draws,
                           int64_t rows, int64_t columns) {
    int m, n, k;
    LODE_TRY(lode_narrow(&m, draws, "bootstrap draws"));
    LODE_TRY(lode_narrow(&n, columns, "channels"));
    LODE_TRY(lode_narrow(&k, rows, "channels"));
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0, left, k, pairs, n, 0.0,
                product, n);
    return LODE_OK;
}

/* Pairs within one group, whose rows and columns are the same channels, or between two. */
typedef struct pairing {
    const double *pairs;                    /* [rows, columns] */
    const double *row_times, *column_times; /* [draws, rows], [draws, columns] */
    int64_t rows, columns;
    bool within; /* a channel with itself is no pair; its place in `pairs` is 0 */
} pairing_t;

/* The mean of every draw: Σ_ij w_i·v_j·pair_ij over the number of pairs that the draw has. */
static lode_status_t pair_figures(double *figures, double *product, const pairing_t *p,
                                  int64_t draws) {
    LODE_TRY(weigh(product, p->row_times, p->pairs, draws, p->rows, p->columns));
    for (int64_t i = 0; i < draws; i++) {
        const double *v = p->column_times + i * p->columns;
        double sum = 0, count = (double)p->rows * (double)p->columns;
        for (int64_t j = 0; j < p->columns; j++) {
            sum += product[i * p->columns + j] * v[j];
            count -= p->within ? v[j] * v[j] : 0;
        }
        figures[i] = count > 0 ? sum / count : NAN;
    }
    return LODE_OK;
}

static double pair_mean(const pairing_t *p) {
    double sum = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        double row = 0; /* short sums: one over millions of pairs loses digits */
        for (int64_t j = 0; j < p->columns; j++)
            row += p->pairs[i * p->columns + j];
        sum += row;
    }
    return sum / ((double)p->rows * (double)(p->columns - p->within));
}

static lode_status_t summarise_pairs(lode_control_mean_t *mean, const pairing_t *pairing,
                                     lode_control_t control) {
    double *figures = NULL, *product = NULL;
    lode_status_t status;
    LODE_GUARD(status, LODE_NEW_RAW(&figures, control.draws, "bootstrap draws"), done);
    LODE_GUARD(status, LODE_NEW_RAW(&product, control.draws * pairing->columns, "pairs of draws"),
               done);
    LODE_GUARD(status, pair_figures(figures, product, pairing, control.draws), done);
    mean->mean = pair_mean(pairing);
    lode_resample_interval(mean->interval, figures, control.draws, control.level);
done:
    free(figures);
    free(product);
    return status;
}

lode_status_t lode_control_within(lode_control_mean_t *mean, const double *pairs, int64_t count,
                                  const char *purpose, lode_control_t control) {
    *mean = (lode_control_mean_t){NAN, {NAN, NAN}};
    if (count < 2)
        return LODE_OK;
    double *times = NULL;
    lode_status_t status = draw_group(&times, count, purpose, control);
    const pairing_t pairing = {pairs, times, times, count, count, true};
    if (status == LODE_OK)
        status = summarise_pairs(mean, &pairing, control);
    free(times);
    return status;
}

lode_status_t lode_control_between(lode_control_mean_t *mean, const double *pairs, int64_t rows,
                                   int64_t columns, const char *row_purpose,
                                   const char *column_purpose, lode_control_t control) {
    *mean = (lode_control_mean_t){NAN, {NAN, NAN}};
    if (rows == 0 || columns == 0)
        return LODE_OK;
    double *row_times = NULL, *column_times = NULL;
    lode_status_t status = draw_group(&row_times, rows, row_purpose, control);
    if (status == LODE_OK)
        status = draw_group(&column_times, columns, column_purpose, control);
    const pairing_t pairing = {pairs, row_times, column_times, rows, columns, false};
    if (status == LODE_OK)
        status = summarise_pairs(mean, &pairing, control);
    free(row_times);
    free(column_times);
    return status;
}

/* --- written dimensions --------------------------------------------------------------------- */

static const char written_name[] = "what a set of channels writes";

lode_status_t lode_control_dimensions(double *dimensions, const lode_tensor_t *down,
                                      const int32_t *set, int64_t count) {
    const int64_t hidden = down->shape[0];
    double *written;
    LODE_TRY(LODE_NEW_RAW(&written, hidden, written_name));
    lode_status_t status = lode_halo_written(written, down, set, count);
    if (status == LODE_OK)
        status = lode_concentration_effective(dimensions, written, hidden, written_name);
    free(written);
    return status;
}

enum { SETS = 256 }; /* at once: bounds the working memory, and down is read once for all of them */

/* Working memory of a block of random sets. */
typedef struct sets {
    int64_t *chosen;   /* [sets, count] channels */
    double *magnitude; /* [channels] absolute values of a row of down */
    double *written;   /* [sets, hidden] */
} sets_t;

static lode_status_t sets_allocate(sets_t *sets, const lode_tensor_t *down, int64_t block,
                                   int64_t count) {
    LODE_TRY(LODE_NEW_RAW(&sets->chosen, block * count, "random sets"));
    LODE_TRY(LODE_NEW_RAW(&sets->magnitude, down->shape[1], "row of down_proj"));
    return LODE_NEW_RAW(&sets->written, block * down->shape[0], written_name);
}

/* What sets[first … first + block) write. */
static lode_status_t write_sets(sets_t *sets, lode_weights_reader_t *down, int64_t first,
                                int64_t block, int64_t count, lode_control_t control) {
    const int64_t hidden = down->tensor->shape[0], channels = down->tensor->shape[1];
    for (int64_t i = 0; i < block; i++)
        lode_random_sample(lode_random_key(control.seed, "control set", control.layer, first + i),
                           sets->chosen + i * count, count, channels);
    for (int64_t h = 0; h < hidden; h++) {
        const double *row;
        LODE_TRY(lode_weights_at(down, h, &row));
        for (int64_t j = 0; j < channels; j++)
            sets->magnitude[j] = fabs(row[j]);
        for (int64_t i = 0; i < block; i++) {
            const int64_t *chosen = sets->chosen + i * count;
            double sum = 0;
            for (int64_t n = 0; n < count; n++)
                sum += sets->magnitude[chosen[n]];
            sets->written[i * hidden + h] = sum;
        }
    }
    return LODE_OK;
}

lode_status_t lode_control_random_dimensions(double *dimensions, const lode_tensor_t *down,
                                             int64_t count, lode_control_t control) {
    const int64_t hidden = down->shape[0], channels = down->shape[1];
    LODE_ASSERT(1 <= count && count <= channels);
    const int64_t most = control.draws < SETS ? control.draws : SETS;
    sets_t sets = {0};
    lode_weights_reader_t reader;
    lode_status_t status;
    LODE_GUARD(status, lode_weights_open(&reader, down, hidden, channels, down_name), done);
    LODE_GUARD(status, sets_allocate(&sets, down, most, count), done);
    for (int64_t first = 0; first < control.draws; first += most) {
        const int64_t block = control.draws - first < most ? control.draws - first : most;
        LODE_GUARD(status, write_sets(&sets, &reader, first, block, count, control), done);
        for (int64_t i = 0; i < block; i++)
            LODE_GUARD(status,
                       lode_concentration_effective(
                           &dimensions[first + i], sets.written + i * hidden, hidden, written_name),
                       done);
    }
done:
    free(sets.chosen);
    free(sets.magnitude);
    lode_weights_close(&reader);
    free(sets.written);
    return status;
}
