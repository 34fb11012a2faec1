#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "superweight/work.h"

typedef struct others {
    lode_superweight_work_t *work;
    bool tensor, global;    /* what is asked for */
    lode_outliers_t matrix; /* of the matrix in hand */
    lode_outliers_t model;  /* of this rank's layers */
    lode_outlier_t *item;   /* [count] of this rank's matrices */
    int64_t count;
    lode_real_t *line; /* [longest line] */
} others_t;

static bool wants(const lode_config_t *config, lode_experiment_t what) {
    for (int64_t e = 0; e < config->superweight.experiment_count; e++)
        if (config->superweight.experiments[e] == what)
            return true;
    return false;
}

static bool is_super(const lode_superweight_work_t *work, const lode_outlier_t *weight) {
    for (int64_t i = 0; i < work->list.count && weight->matrix == LODE_MATRIX_DOWN; i++)
        if (work->list.found[i].layer == weight->layer && work->list.found[i].row == weight->row &&
            work->list.found[i].channel == weight->col)
            return true;
    return false;
}

/* The largest magnitude of a line, so that most lines are read only once; a NaN counts as large.
 * Magnitudes of floats are ordered as these integers are, which compilers make fast. */
static float reach(const lode_real_t *line, int64_t count) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &line[i], sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

static void offer_line(others_t *others, lode_outlier_t at, bool transposed, int64_t line,
                       int64_t count) {
    const float tensor = lode_outliers_least(&others->matrix);
    const float global = lode_outliers_least(&others->model);
    const float least = tensor < global ? tensor : global;
    if (reach(others->line, count) < least)
        return;
    for (int64_t i = 0; i < count; i++) {
        if (!(fabsf(others->line[i]) >= least))
            continue;
        at.row = (int32_t)(transposed ? i : line);
        at.col = (int32_t)(transposed ? line : i);
        at.value = others->line[i];
        if (is_super(others->work, &at))
            continue;
        lode_outliers_offer(&others->matrix, &at);
        lode_outliers_offer(&others->model, &at);
    }
}

/* Weights of a matrix that the rule for each matrix takes. */
static int64_t share(const others_t *others, const lode_weight_t *weight) {
    const lode_config_superweight_t *config = &others->work->run->config->superweight;
    const int64_t all = weight->rows * weight->cols;
    const int64_t count = (int64_t)floor(config->others_fraction * (double)all);
    const int64_t wanted = count > config->others_least ? count : config->others_least;
    return !others->tensor ? 0 : wanted < all ? wanted : all;
}

static lode_status_t add_matrix(others_t *others, int64_t layer, int which,
                                const lode_tensor_t *tensor) {
    const lode_weight_t weight = lode_weight_of(tensor);
    const int64_t lines = weight.transposed ? weight.in : weight.out;
    const int64_t places = weight.transposed ? weight.out : weight.in;
    const lode_outlier_t at = {.layer = (int32_t)layer, .matrix = which};
    LODE_TRY(lode_outliers_create(&others->matrix, share(others, &weight)));
    for (int64_t l = 0; l < lines; l++) {
        lode_weight_line(&weight, l, 0, places, others->line);
        offer_line(others, at, weight.transposed, l, places);
    }
    const int64_t count = others->matrix.count;
    lode_status_t status = LODE_OK;
    if (count > 0)
        status = lode_resize(&others->item, others->count + count, sizeof *others->item,
                             "largest weights");
    if (status == LODE_OK && count > 0)
        memcpy(others->item + others->count, others->matrix.item,
               (size_t)count * sizeof *others->item);
    others->count += status == LODE_OK ? count : 0;
    lode_outliers_free(&others->matrix);
    return status;
}

static lode_status_t add_layers(others_t *others) {
    const lode_run_t *run = others->work->run;
    const lode_architecture_t *a = &run->architecture;
    const int64_t query = a->heads * a->head_dim;
    int64_t longest = a->hidden > a->intermediate ? a->hidden : a->intermediate;
    longest = query > longest ? query : longest;
    LODE_TRY(LODE_NEW_RAW(&others->line, longest, "a line of a matrix"));
    for (int64_t l = run->layout.first_layer; l < run->layout.layer_end; l++) {
        lode_layer_weights_t weights;
        lode_status_t status = lode_checkpoint_layer(run->checkpoint, l, &weights);
        for (int which = 0; which < LODE_MATRICES && status == LODE_OK; which++) {
            const lode_tensor_t *tensor =
                lode_layer_weights_role(&weights, lode_matrix_role((lode_layer_matrix_t)which));
            if (tensor->data)
                status = add_matrix(others, l, which, tensor);
        }
        lode_checkpoint_release_layer(run->checkpoint, l);
        LODE_TRY(status);
    }
    return LODE_OK;
}

/* Gives rank 0 the weights [count] of all ranks. Collective. */
static lode_status_t gather(const lode_comm_t *comm, const lode_outlier_t *item, int64_t count,
                            lode_superweight_others_t *all) {
    int own = 0, total = 0, *counts = NULL, *first = NULL;
    lode_status_t status = lode_narrow(&own, count, "largest weights");
    if (status == LODE_OK)
        status = LODE_NEW(&counts, 2 * (int64_t)comm->size, "counts of largest weights");
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK) {
        first = counts + comm->size;
        MPI_Gather(&own, 1, MPI_INT, counts, 1, MPI_INT, 0, comm->comm);
        int64_t sum = 0;
        for (int r = 0; r < comm->size; r++) {
            first[r] = (int)sum;
            sum += counts[r];
        }
        status = lode_narrow(&total, sum, "largest weights");
        if (status == LODE_OK)
            status = LODE_NEW(&all->item, sum, "largest weights");
        status = lode_comm_agree(comm, status);
    }
    if (status == LODE_OK) {
        MPI_Datatype type;
        MPI_Type_contiguous((int)sizeof *item, MPI_BYTE, &type);
        MPI_Type_commit(&type);
        MPI_Gatherv(item, own, type, all->item, counts, first, type, 0, comm->comm);
        MPI_Type_free(&type);
        all->count = total;
    }
    free(counts);
    return status;
}

/* The largest of the ranks' largest, on rank 0. Local. */
static lode_status_t choose_global(lode_superweight_others_t *all, int64_t most) {
    lode_outliers_t kept;
    LODE_TRY(lode_outliers_create(&kept, most < all->count ? most : all->count));
    for (int64_t i = 0; i < all->count; i++)
        lode_outliers_offer(&kept, &all->item[i]);
    free(all->item);
    all->item = kept.item;
    all->count = kept.count;
    return LODE_OK;
}

lode_status_t lode_superweight_others_find(lode_superweight_work_t *work) {
    const lode_run_t *run = work->run;
    others_t others = {.work = work,
                       .tensor = wants(run->config, LODE_EXPERIMENT_OTHERS_TENSOR),
                       .global = wants(run->config, LODE_EXPERIMENT_OTHERS_GLOBAL)};
    if (!others.tensor && !others.global)
        return LODE_OK;
    const int64_t most = others.global ? run->config->superweight.others_count : 0;
    lode_status_t status = lode_outliers_create(&others.model, most);
    if (status == LODE_OK && lode_run_owns_layers(run))
        status = add_layers(&others);
    status = lode_comm_agree(run->comm, status);
    if (status == LODE_OK)
        status = gather(run->comm, others.item, others.count, &work->tensor);
    if (status == LODE_OK)
        status = gather(run->comm, others.model.item, others.model.count, &work->global);
    if (status == LODE_OK)
        status = lode_comm_agree(run->comm, choose_global(&work->global, most));
    lode_outliers_sort(work->tensor.item, work->tensor.count);
    lode_outliers_sort(work->global.item, work->global.count);
    free(others.item);
    free(others.line);
    lode_outliers_free(&others.model);
    return status;
}
