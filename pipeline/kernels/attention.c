#include "kernels/attention.h"

#include <omp.h>

#include "base/error.h"
#include "kernels/linear.h"

/* Rows of a block: query tokens times the query heads that share a key/value head. Enough for
 * GEMM to be efficient, little enough that the scores of a long text stay a narrow panel. */
enum { BLOCK_ROWS = 256, BLOCK_MIN_TOKENS = 16 };

/* What one thread works with, for one key/value head: the queries that share it, packed as rows
 * (token, head within the group). */
typedef struct block {
    int64_t group;         /* query heads per key/value head */
    int64_t first, count;  /* query tokens of this block */
    int64_t rows, keys;    /* count·group, first + count */
    lode_real_t *q;        /* [rows, head_dim], scaled by 1/√head_dim */
    lode_real_t *scores;   /* [rows, keys]: scores, then probabilities */
    lode_real_t *o;        /* [rows, head_dim] */
    lode_real_t *d_o;      /* [rows, head_dim] */
    lode_real_t *d_scores; /* [rows, keys] */
} block_t;

static int64_t block_tokens(const lode_attention_shape_t *shape) {
    int64_t tokens = BLOCK_ROWS / (shape->heads / shape->kv_heads);
    return tokens < BLOCK_MIN_TOKENS ? BLOCK_MIN_TOKENS : tokens;
}

int64_t lode_attention_workspace(const lode_attention_shape_t *shape, int64_t tokens) {
    int64_t block = block_tokens(shape);
    int64_t rows = (block < tokens ? block : tokens) * (shape->heads / shape->kv_heads);
    return rows * (3 * shape->head_dim + 2 * tokens);
}

static block_t block_in(const lode_attention_shape_t *shape, int64_t tokens,
                        lode_real_t *workspace) {
    block_t block = {.group = shape->heads / shape->kv_heads};
    int64_t most = block_tokens(shape);
    int64_t rows = (most < tokens ? most : tokens) * block.group;
    block.q = workspace;
    block.o = block.q + rows * shape->head_dim;
    block.d_o = block.o + rows * shape->head_dim;
    block.scores = block.d_o + rows * shape->head_dim;
    block.d_scores = block.scores + rows * tokens;
    return block;
}

/* packed[(t, g)] = scale · source[first + t, head·group + g] */
static void pack(const lode_attention_shape_t *shape, const block_t *block, int64_t kv_head,
                 const lode_real_t *source, lode_real_t scale, lode_real_t *packed) {
    const int64_t width = block->group * shape->head_dim;
    for (int64_t t = 0; t < block->count; t++) {
        const lode_real_t *from =
            source + ((block->first + t) * shape->heads + kv_head * block->group) * shape->head_dim;
        for (int64_t i = 0; i < width; i++)
            packed[t * width + i] = scale * from[i];
    }
}

static void unpack(const lode_attention_shape_t *shape, const block_t *block, int64_t kv_head,
                   const lode_real_t *packed, lode_real_t *target) {
    const int64_t width = block->group * shape->head_dim;
    for (int64_t t = 0; t < block->count; t++)
        memcpy(target +
                   ((block->first + t) * shape->heads + kv_head * block->group) * shape->head_dim,
               packed + t * width, (size_t)width * sizeof *packed);
}

static void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k,
                 const lode_real_t *a, int64_t lda, const lode_real_t *b, int64_t ldb,
                 lode_real_t beta, lode_real_t *c, int64_t ldc) {
    lode_cblas_gemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb,
                    beta, c, (int)ldc);
}

/* Softmax over the keys that the row's token may see; the others get probability 0. */
static void causal_softmax(lode_real_t *row, int64_t visible, int64_t keys) {
    lode_real_t most = row[0];
    for (int64_t i = 1; i < visible; i++)
        most = row[i] > most ? row[i] : most;
    for (int64_t i = 0; i < visible; i++)
        row[i] = lode_exp_nonpositive(row[i] - most);
    double sum = 0;
    for (int64_t i = 0; i < visible; i++)
        sum += (double)row[i];
    const lode_real_t scale = (lode_real_t)(1.0 / sum);
    for (int64_t i = 0; i < visible; i++)
        row[i] *= scale;
    for (int64_t i = visible; i < keys; i++)
        row[i] = 0;
}

/* Sets the block to query tokens [first, first + count) and computes its probabilities. */
static void block_probabilities(const lode_attention_shape_t *shape, block_t *block, int64_t first,
                                int64_t count, int64_t kv_head, const lode_real_t *q,
                                const lode_real_t *k) {
    block->first = first;
    block->count = count;
    block->rows = count * block->group;
    block->keys = first + count;
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    pack(shape, block, kv_head, q, (lode_real_t)(1.0 / sqrt((double)dim)), block->q);
    gemm(CblasNoTrans, CblasTrans, block->rows, block->keys, dim, block->q, dim, k + kv_head * dim,
         stride, 0, block->scores, block->keys);
    for (int64_t row = 0; row < block->rows; row++)
        causal_softmax(block->scores + row * block->keys, first + row / block->group + 1,
                       block->keys);
}

void lode_attention_forward(const lode_attention_shape_t *shape, int64_t tokens,
                            const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                            lode_real_t *o, lode_real_t *workspace) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    const int64_t step = block_tokens(shape), each = lode_attention_workspace(shape, tokens);
    lode_blas_serial_begin();
#pragma omp parallel for schedule(static)
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        block_t block = block_in(shape, tokens, workspace + omp_get_thread_num() * each);
        for (int64_t first = 0; first < tokens; first += step) {
            int64_t count = tokens - first < step ? tokens - first : step;
            block_probabilities(shape, &block, first, count, kv_head, q, k);
            gemm(CblasNoTrans, CblasNoTrans, block.rows, dim, block.keys, block.scores, block.keys,
                 v + kv_head * dim, stride, 0, block.o, dim);
            unpack(shape, &block, kv_head, block.o, o);
        }
    }
    lode_blas_serial_end();
}

/* dS = P ⊙ (dP − Σ_i dO_i O_i): the gradient of a softmax row, where Σ_j P_j dP_j = dO·O. */
static void softmax_backward(const lode_attention_shape_t *shape, const block_t *block) {
    const int64_t dim = shape->head_dim;
    for (int64_t row = 0; row < block->rows; row++) {
        double dot = 0;
        for (int64_t i = 0; i < dim; i++)
            dot += (double)block->d_o[row * dim + i] * (double)block->o[row * dim + i];
        const lode_real_t mean = (lode_real_t)dot;
        const lode_real_t *p = block->scores + row * block->keys;
        lode_real_t *dp = block->d_scores + row * block->keys;
        for (int64_t i = 0; i < block->keys; i++)
            dp[i] = p[i] * (dp[i] - mean);
    }
}

void lode_attention_backward(const lode_attention_shape_t *shape, int64_t tokens,
                             const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                             const lode_real_t *o, const lode_real_t *d_o, lode_real_t *dq,
                             lode_real_t *dk, lode_real_t *dv, lode_real_t *workspace) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    const int64_t step = block_tokens(shape), each = lode_attention_workspace(shape, tokens);
    const lode_real_t scale = (lode_real_t)(1.0 / sqrt((double)dim));
    memset(dk, 0, (size_t)(tokens * stride) * sizeof *dk);
    memset(dv, 0, (size_t)(tokens * stride) * sizeof *dv);
    lode_blas_serial_begin();
#pragma omp parallel for schedule(static)
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        block_t block = block_in(shape, tokens, workspace + omp_get_thread_num() * each);
        const int64_t offset = kv_head * dim;
        for (int64_t first = 0; first < tokens; first += step) {
            int64_t count = tokens - first < step ? tokens - first : step;
            block_probabilities(shape, &block, first, count, kv_head, q, k);
            const int64_t rows = block.rows, keys = block.keys;
            pack(shape, &block, kv_head, o, 1, block.o);
            pack(shape, &block, kv_head, d_o, 1, block.d_o);
            gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block.scores, keys, block.d_o, dim, 1,
                 dv + offset, stride);
            gemm(CblasNoTrans, CblasTrans, rows, keys, dim, block.d_o, dim, v + offset, stride, 0,
                 block.d_scores, keys);
            softmax_backward(shape, &block);
            gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block.d_scores, keys, block.q, dim, 1,
                 dk + offset, stride);
            gemm(CblasNoTrans, CblasNoTrans, rows, dim, keys, block.d_scores, keys, k + offset,
                 stride, 0, block.o, dim);
            for (int64_t i = 0; i < rows * dim; i++)
                block.o[i] *= scale;
            unpack(shape, &block, kv_head, block.o, dq);
        }
    }
    lode_blas_serial_end();
}
