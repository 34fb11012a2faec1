#include "kernels/attention.h"

#include <omp.h>

#include "base/error.h"
#include "kernels/lanes.h"
#include "kernels/linear.h"

/* Rows of a block: query tokens times the query heads that share a key/value head. Enough for
 * GEMM to be efficient, little enough that the scores of a long text stay a narrow panel. */
enum { BLOCK_ROWS = 256, BLOCK_MIN_TOKENS = 16 };

/* What one thread works with, for one key/value head: the queries that share it, packed as rows
 * (token, head within the group), and the keys that any of them sees. */
typedef struct block {
    int64_t group;           /* query heads per key/value head */
    int64_t first, count;    /* query tokens of this block */
    int64_t first_key, keys; /* tokens that they see */
    int64_t rows;            /* count·group */
    lode_real_t *q;          /* [rows, head_dim], scaled */
    lode_real_t *o;          /* [rows, head_dim] */
    lode_real_t *d_o;        /* [rows, head_dim] */
    lode_real_t *scores;     /* [rows, keys]: scores, then probabilities */
    lode_real_t *d_scores;   /* [rows, keys] */
    lode_real_t *slope;      /* [rows, keys] derivative of the soft cap, where there is one */
} block_t;

static int64_t block_tokens(const lode_attention_shape_t *shape) {
    int64_t tokens = BLOCK_ROWS / (shape->heads / shape->kv_heads);
    return tokens < BLOCK_MIN_TOKENS ? BLOCK_MIN_TOKENS : tokens;
}

/* Rows of the largest block, and keys that it may see. */
static int64_t most_rows(const lode_attention_shape_t *shape, int64_t tokens) {
    const int64_t block = block_tokens(shape);
    return (block < tokens ? block : tokens) * (shape->heads / shape->kv_heads);
}

static int64_t most_keys(const lode_attention_shape_t *shape, int64_t tokens) {
    const int64_t seen = block_tokens(shape) + shape->window - 1;
    return shape->window > 0 && seen < tokens ? seen : tokens;
}

int64_t lode_attention_workspace(const lode_attention_shape_t *shape, int64_t tokens) {
    const int64_t panels = shape->cap > 0 ? 3 : 2;
    return most_rows(shape, tokens) * (3 * shape->head_dim + panels * most_keys(shape, tokens));
}

static block_t block_in(const lode_attention_shape_t *shape, int64_t tokens,
                        lode_real_t *workspace) {
    const int64_t rows = most_rows(shape, tokens), panel = rows * most_keys(shape, tokens);
    block_t block = {.group = shape->heads / shape->kv_heads, .q = workspace};
    block.o = block.q + rows * shape->head_dim;
    block.d_o = block.o + rows * shape->head_dim;
    block.scores = block.d_o + rows * shape->head_dim;
    block.d_scores = block.scores + panel;
    block.slope = shape->cap > 0 ? block.d_scores + panel : NULL;
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

/* Softmax of a row of `keys` scores over [from, end), which its token sees; the others get
 * probability 0. */
static void masked_softmax(lode_real_t *row, int64_t from, int64_t end, int64_t keys) {
    lode_real_t *seen = row + from;
    const int64_t count = end - from;
    const lode_real_t most = lode_lanes_most(seen, count);
    for (int64_t i = 0; i < count; i++)
        seen[i] = lode_exp_nonpositive(seen[i] - most);
    const lode_real_t scale = (lode_real_t)(1.0 / lode_lanes_total(seen, count));
    for (int64_t i = 0; i < count; i++)
        seen[i] *= scale;
    memset(row, 0, (size_t)from * sizeof *row);
    memset(row + end, 0, (size_t)(keys - end) * sizeof *row);
}

/* s = c·tanh(s/c), and slope = 1 − tanh²(s/c). */
static void cap_scores(lode_real_t *scores, int64_t count, double cap, lode_real_t *slope) {
    const lode_real_t scale = (lode_real_t)cap;
    for (int64_t i = 0; i < count; i++) {
        const lode_real_t t = lode_tanh(scores[i] / scale);
        scores[i] = scale * t;
        slope[i] = 1 - t * t;
    }
}

/* Sets the block to query tokens [first, first + count) and the keys that they see. */
static void block_set(const lode_attention_shape_t *shape, block_t *block, int64_t tokens,
                      int64_t first) {
    const int64_t step = block_tokens(shape), window = shape->window;
    block->first = first;
    block->count = tokens - first < step ? tokens - first : step;
    block->rows = block->count * block->group;
    block->first_key = window > 0 && first >= window ? first - window + 1 : 0;
    block->keys = first + block->count - block->first_key;
}

/* Computes the block's probabilities. */
static void block_probabilities(const lode_attention_shape_t *shape, block_t *block,
                                int64_t kv_head, const lode_real_t *q, const lode_real_t *k) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim, keys = block->keys;
    pack(shape, block, kv_head, q, (lode_real_t)shape->scale, block->q);
    gemm(CblasNoTrans, CblasTrans, block->rows, keys, dim, block->q, dim,
         k + block->first_key * stride + kv_head * dim, stride, 0, block->scores, keys);
    if (shape->cap > 0)
        cap_scores(block->scores, block->rows * keys, shape->cap, block->slope);
    for (int64_t row = 0; row < block->rows; row++) {
        const int64_t end = block->first + row / block->group + 1 - block->first_key;
        const int64_t from = shape->window > 0 && end > shape->window ? end - shape->window : 0;
        masked_softmax(block->scores + row * keys, from, end, keys);
    }
}

void lode_attention_forward(const lode_attention_shape_t *shape, int64_t tokens,
                            const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                            lode_real_t *o, lode_real_t *workspace) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    const int64_t each = lode_attention_workspace(shape, tokens);
    lode_blas_serial_begin();
#pragma omp parallel for schedule(static)
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        block_t block = block_in(shape, tokens, workspace + omp_get_thread_num() * each);
        for (int64_t first = 0; first < tokens; first += block_tokens(shape)) {
            block_set(shape, &block, tokens, first);
            block_probabilities(shape, &block, kv_head, q, k);
            gemm(CblasNoTrans, CblasNoTrans, block.rows, dim, block.keys, block.scores, block.keys,
                 v + block.first_key * stride + kv_head * dim, stride, 0, block.o, dim);
            unpack(shape, &block, kv_head, block.o, o);
        }
    }
    lode_blas_serial_end();
}

/* dS = P ⊙ (dP − Σ_i dO_i O_i): the gradient of a softmax row, where Σ_j P_j dP_j = dO·O; then
 * through the soft cap. */
static void softmax_backward(const lode_attention_shape_t *shape, const block_t *block) {
    const int64_t dim = shape->head_dim, keys = block->keys;
    for (int64_t row = 0; row < block->rows; row++) {
        double dot = 0;
        for (int64_t i = 0; i < dim; i++)
            dot += (double)block->d_o[row * dim + i] * (double)block->o[row * dim + i];
        const lode_real_t mean = (lode_real_t)dot;
        const lode_real_t *p = block->scores + row * keys;
        lode_real_t *dp = block->d_scores + row * keys;
        for (int64_t i = 0; i < keys; i++)
            dp[i] = p[i] * (dp[i] - mean);
    }
    for (int64_t i = 0; shape->cap > 0 && i < block->rows * keys; i++)
        block->d_scores[i] *= block->slope[i];
}

/* Adds what the block's queries give dk and dv, and sets their dq. */
static void block_backward(const lode_attention_shape_t *shape, block_t *block, int64_t kv_head,
                           const lode_real_t *k, const lode_real_t *v, lode_real_t *dq,
                           lode_real_t *dk, lode_real_t *dv) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    const int64_t rows = block->rows, keys = block->keys;
    const int64_t offset = block->first_key * stride + kv_head * dim;
    const lode_real_t scale = (lode_real_t)shape->scale;
    gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block->scores, keys, block->d_o, dim, 1,
         dv + offset, stride);
    gemm(CblasNoTrans, CblasTrans, rows, keys, dim, block->d_o, dim, v + offset, stride, 0,
         block->d_scores, keys);
    softmax_backward(shape, block);
    gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block->d_scores, keys, block->q, dim, 1,
         dk + offset, stride);
    gemm(CblasNoTrans, CblasNoTrans, rows, dim, keys, block->d_scores, keys, k + offset, stride, 0,
         block->o, dim);
    for (int64_t i = 0; i < rows * dim; i++)
        block->o[i] *= scale;
    unpack(shape, block, kv_head, block->o, dq);
}

void lode_attention_backward(const lode_attention_shape_t *shape, int64_t tokens,
                             const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                             const lode_real_t *o, const lode_real_t *d_o, lode_real_t *dq,
                             lode_real_t *dk, lode_real_t *dv, lode_real_t *workspace) {
    const int64_t stride = shape->kv_heads * shape->head_dim;
    const int64_t each = lode_attention_workspace(shape, tokens);
    memset(dk, 0, (size_t)(tokens * stride) * sizeof *dk);
    memset(dv, 0, (size_t)(tokens * stride) * sizeof *dv);
    lode_blas_serial_begin();
#pragma omp parallel for schedule(static)
    for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
        block_t block = block_in(shape, tokens, workspace + omp_get_thread_num() * each);
        for (int64_t first = 0; first < tokens; first += block_tokens(shape)) {
            block_set(shape, &block, tokens, first);
            block_probabilities(shape, &block, kv_head, q, k);
            pack(shape, &block, kv_head, o, 1, block.o);
            pack(shape, &block, kv_head, d_o, 1, block.d_o);
            block_backward(shape, &block, kv_head, k, v, dq, dk, dv);
        }
    }
    lode_blas_serial_end();
}
