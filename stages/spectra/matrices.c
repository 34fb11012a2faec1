#include "spectra/matrices.h"

#include <stdlib.h>

#include "base/memory.h"
#include "linalg/gram.h"
#include "linalg/packed.h"
#include "linalg/spectrum.h"
#include "score/weights.h"

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* --- q --------------------------------------------------------------------------------------- */

typedef struct q {
    lode_store_t *store;
    int64_t layer, tokens, m;
    double *mean; /* [m] over tokens */
} q_t;

/* Reads q of some tokens and channels less the channels' means. */
static lode_status_t read_q(void *context, int64_t first_row, int64_t rows, int64_t first_column,
                            int64_t columns, void *out) {
    const q_t *q = context;
    const int64_t offset[] = {first_row, q->layer, first_column}, count[] = {rows, 1, columns};
    double *values = out;
    LODE_TRY(lode_store_read(q->store, "/redundancy/q", offset, count, LODE_TYPE_F64, values));
    for (int64_t t = 0; t < rows; t++)
        for (int64_t j = 0; j < columns; j++)
            values[t * columns + j] -= q->mean[first_column + j];
    return LODE_OK;
}

/* Means of columns [first, first + count) over all tokens. Doubles add up equal floats exactly, so
 * that nothing is left of a channel that never varies when its mean is taken off. */
static lode_status_t mean_columns(q_t *q, int64_t first, int64_t count, double *sum, double *rows) {
    for (int64_t token = 0; token < q->tokens; token += LODE_GRAM_CHUNK) {
        const int64_t tokens = min2(LODE_GRAM_CHUNK, q->tokens - token);
        LODE_TRY(read_q(q, token, tokens, first, count, rows)); /* the means are still 0 */
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t j = 0; j < count; j++)
                sum[j] += rows[t * count + j];
    }
    for (int64_t j = 0; j < count; j++)
        q->mean[first + j] = sum[j] / (double)q->tokens;
    return LODE_OK;
}

/* Every rank takes the means of its share of the channels. */
static lode_status_t take_means(q_t *q, const lode_comm_t *comm) {
    const int64_t first = q->m * comm->rank / comm->size;
    const int64_t count = q->m * (comm->rank + 1) / comm->size - first;
    double *sum = NULL;
    int m;
    lode_status_t status = lode_narrow(&m, q->m, "channels");
    if (status == LODE_OK)
        status = LODE_NEW(&sum, (1 + LODE_GRAM_CHUNK) * count, "means of q");
    if (status == LODE_OK && count > 0)
        status = mean_columns(q, first, count, sum, sum + count);
    free(sum);
    LODE_TRY(lode_comm_agree(comm, status));
    MPI_Allreduce(MPI_IN_PLACE, q->mean, m, MPI_DOUBLE, MPI_SUM, comm->comm);
    return lode_comm_agree(comm, lode_comm_received(comm, "the means of q"));
}

lode_status_t lode_spectra_tokens_of_q(lode_store_t *accumulate, int64_t layers, int64_t m,
                                       int64_t *tokens) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES];
    LODE_TRY(lode_store_shape(accumulate, "/redundancy/q", &axes, shape));
    if (axes != 3 || shape[0] < 1 || shape[1] != layers || shape[2] != m)
        return lode_fail(LODE_ERR_SHAPE, "/redundancy/q: is not [tokens, %lld, %lld]",
                         (long long)layers, (long long)m);
    *tokens = shape[0];
    return LODE_OK;
}

lode_status_t lode_spectra_of_q(lode_matrix_t *matrix, lode_store_t *accumulate, int64_t tokens,
                                int64_t layer) {
    const lode_comm_t *comm = lode_grid_comm(matrix->grid);
    q_t q = {.store = accumulate, .layer = layer, .tokens = tokens, .m = matrix->rows};
    lode_status_t status = lode_comm_agree(comm, LODE_NEW(&q.mean, q.m, "means of q"));
    if (status == LODE_OK)
        status = take_means(&q, comm);
    if (status == LODE_OK) {
        const lode_gram_source_t source = {
            .context = &q, .rows = q.tokens, .columns = q.m, .type = LODE_TYPE_F64, .read = read_q};
        lode_matrix_set(matrix, 0);
        status = lode_gram_add(matrix, &source);
    }
    if (status == LODE_OK)
        status = lode_matrix_symmetrise(matrix, false);
    free(q.mean);
    return status == LODE_OK ? lode_spectrum_correlation(matrix) : status;
}

static lode_status_t fill_q(void *context, int64_t first_row, int64_t rows, double *panel) {
    const q_t *q = context;
    const int64_t offset[] = {first_row, q->layer, 0}, count[] = {rows, 1, q->m};
    return lode_store_read(q->store, "/redundancy/q", offset, count, LODE_TYPE_F64, panel);
}

lode_status_t lode_spectra_factor_of_q(lode_matrix_t *factor, lode_store_t *accumulate,
                                       int64_t layer) {
    q_t q = {.store = accumulate, .layer = layer, .m = factor->columns};
    LODE_TRY(lode_matrix_from_rows(factor, LODE_MATRIX_ALL_RANKS, fill_q, &q));
    return lode_spectrum_standardise(factor);
}

/* --- u --------------------------------------------------------------------------------------- */

/* Variances below this share of the second moment are rounding: of float32, or of the sums. */
static const double RESOLUTION_F32 = 1e-6, RESOLUTION_F64 = 1e-13;

static lode_status_t read_means(lode_store_t *moments, lode_store_t *calibrate, int64_t layer,
                                int64_t m, double *mean, lode_type_t *type) {
    const int64_t offset[] = {layer, 0}, count[] = {1, m};
    LODE_TRY(lode_store_type(moments, "/second_moment", type));
    return lode_store_read(calibrate, "/activation_mean", offset, count, LODE_TYPE_F64, mean);
}

lode_status_t lode_spectra_of_u(lode_matrix_t *matrix, lode_store_t *moments,
                                lode_store_t *calibrate, int64_t layer) {
    double *mean = NULL;
    lode_type_t type;
    lode_status_t status = LODE_NEW(&mean, matrix->rows, "means of u");
    if (status == LODE_OK)
        status = read_means(moments, calibrate, layer, matrix->rows, mean, &type);
    status = lode_comm_agree(lode_grid_comm(matrix->grid), status);
    if (status == LODE_OK)
        status = lode_packed_read(matrix, moments, "/second_moment", layer);
    if (status == LODE_OK)
        status = lode_spectrum_centre(matrix, mean,
                                      type == LODE_TYPE_F32 ? RESOLUTION_F32 : RESOLUTION_F64);
    free(mean);
    return status == LODE_OK ? lode_spectrum_correlation(matrix) : status;
}

/* --- write vectors --------------------------------------------------------------------------- */

typedef struct writers {
    const lode_comm_t *comm;
    int owner; /* the rank that has the layer's weights */
    lode_layer_weights_t weights;
    int64_t m, first_row;
    double *rows; /* [LODE_GRAM_CHUNK, m] of down_proj, from first_row on, on every rank */
} writers_t;

static lode_status_t widen_rows(const writers_t *writers, int64_t first_row, int64_t rows,
                                double *out) {
    return lode_weights_panel(out, &writers->weights.down, first_row, rows, "down_proj");
}

/* The owner hands a chunk of rows to all. */
static lode_status_t share_rows(void *context, int64_t first_row, int64_t rows) {
    writers_t *writers = context;
    lode_status_t status = LODE_OK;
    if (writers->comm->rank == writers->owner)
        status = widen_rows(writers, first_row, rows, writers->rows);
    LODE_TRY(lode_comm_agree(writers->comm, status));
    writers->first_row = first_row;
    return lode_comm_broadcast(writers->comm, writers->rows,
                               (size_t)(rows * writers->m) * sizeof *writers->rows, writers->owner);
}

static lode_status_t read_rows(void *context, int64_t first_row, int64_t rows, int64_t first_column,
                               int64_t columns, void *out) {
    const writers_t *writers = context;
    double *values = out;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            values[i * columns + j] =
                writers->rows[(first_row - writers->first_row + i) * writers->m + first_column + j];
    return LODE_OK;
}

static bool owns(const lode_run_t *run, int64_t layer) {
    return lode_run_owns_layers(run) && run->layout.first_layer <= layer &&
           layer < run->layout.layer_end;
}

/* Finds the rank that has the layer's weights, and there finds the weights. Collective. */
static lode_status_t open_weights(writers_t *writers, const lode_run_t *run, int64_t layer) {
    const int mine = owns(run, layer) ? run->comm->rank : -1;
    MPI_Allreduce(&mine, &writers->owner, 1, MPI_INT, MPI_MAX, run->comm->comm);
    LODE_ASSERT(writers->owner >= 0);
    lode_status_t status = LODE_OK;
    if (run->comm->rank == writers->owner)
        status = lode_checkpoint_layer(run->checkpoint, layer, &writers->weights);
    if (status == LODE_OK && run->comm->rank == writers->owner)
        status = lode_weights_check(&writers->weights.down, run->architecture.hidden, writers->m,
                                    "down_proj");
    return lode_comm_agree(run->comm, status);
}

lode_status_t lode_spectra_of_write(lode_matrix_t *matrix, const lode_run_t *run, int64_t layer) {
    const int64_t m = run->architecture.intermediate, d = run->architecture.hidden;
    writers_t writers = {.comm = run->comm, .m = m};
    LODE_TRY(open_weights(&writers, run, layer));
    lode_status_t status = LODE_NEW_RAW(&writers.rows, LODE_GRAM_CHUNK * m, "rows of down_proj");
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK) {
        const lode_gram_source_t source = {.context = &writers,
                                           .rows = d,
                                           .columns = m,
                                           .type = LODE_TYPE_F64,
                                           .prepare = share_rows,
                                           .read = read_rows};
        lode_matrix_set(matrix, 0);
        status = lode_gram_add(matrix, &source);
    }
    if (status == LODE_OK)
        status = lode_matrix_symmetrise(matrix, false);
    free(writers.rows);
    return status;
}

static lode_status_t fill_rows(void *context, int64_t first_row, int64_t rows, double *panel) {
    return widen_rows(context, first_row, rows, panel);
}

lode_status_t lode_spectra_factor_of_write(lode_matrix_t *factor, const lode_run_t *run,
                                           int64_t layer) {
    writers_t writers = {.comm = run->comm, .m = run->architecture.intermediate};
    LODE_TRY(open_weights(&writers, run, layer));
    return lode_matrix_from_rows(factor, writers.owner, fill_rows, &writers);
}
