#include "kernels/attention.h"

#include <omp.h>

#include "base/error.h"
#include "kernels/lanes.h"
#include "kernels/linear.h"

/* Rows of a block: query tokens times the query heads that share a key/value head. Keys that it
 * sees are taken in spans, so that the scores at hand stay in the second-level cache. */
enum { BLOCK_ROWS = 384, BLOCK_MIN_TOKENS = 16, SPAN = 384 };

/* Where a block of many tokens ends, its later tokens see keys that its earlier ones do not; spans
 * are so short there that few scores are computed in vain. */
enum { SPAN_DIAGONAL = 128 };

/* What one thread works with, for one key/value head: the queries that share it, packed as rows
 * (token, head within the group), and the keys that any of them sees. */
typedef struct block {
    int64_t kv_head;
    int64_t group;           /* query heads per key/value head */
    int64_t first, count;    /* query tokens of this block */
    int64_t first_key, keys; /* tokens that they see */
    int64_t rows;            /* count·group */
    lode_real_t *q;          /* [rows, head_dim], scaled */
    lode_real_t *o;          /* [rows, head_dim] sums of values, or the gradient of q */
    lode_real_t *d_o;        /* [rows, head_dim] */
    lode_real_t *scores;     /* [rows, SPAN]: scores, then their exponentials */
    lode_real_t *d_scores;   /* [rows, SPAN] */
    lode_real_t *slope;      /* [rows, SPAN] derivative of the soft cap, where there is one */
    lode_real_t *most;       /* [rows] the largest score so far */
    double *sum;             /* [rows] of exponentials so far; or dO·O of the softmax's gradient */
} block_t;

/* Some of the keys that a block sees. */
typedef struct span {
    int64_t key, keys; /* [key, key + keys) */
    int64_t row;       /* rows before this one see none of them */
} span_t;

static int64_t block_tokens(const lode_attention_shape_t *shape) {
    int64_t tokens = BLOCK_ROWS / (shape->heads / shape->kv_heads);
    return tokens < BLOCK_MIN_TOKENS ? BLOCK_MIN_TOKENS : tokens;
}

static int64_t block_count(const lode_attention_shape_t *shape, int64_t tokens) {
    return (tokens + block_tokens(shape) - 1) / block_tokens(shape);
}

/* Rows of the largest block. */
static int64_t most_rows(const lode_attention_shape_t *shape, int64_t tokens) {
    const int64_t block = block_tokens(shape);
    return (block < tokens ? block : tokens) * (shape->heads / shape->kv_heads);
}

/* Threads that share the backward of a key/value head, each with sums of its own. */
static int64_t slices_for(const lode_attention_shape_t *shape, int64_t tokens, int64_t threads) {
    const int64_t slices = (threads + shape->kv_heads - 1) / shape->kv_heads;
    const int64_t blocks = block_count(shape, tokens);
    return slices < blocks ? slices : blocks > 0 ? blocks : 1;
}

/* Reals that a thread needs. */
static int64_t block_reals(const lode_attention_shape_t *shape, int64_t tokens) {
    const int64_t keys = SPAN < tokens ? SPAN : tokens, panels = shape->cap > 0 ? 3 : 2;
    const int64_t row = 3 * shape->head_dim + panels * keys + 1 + 2;
    return most_rows(shape, tokens) * row + 1; /* doubles count as two, and may need alignment */
}

int64_t lode_attention_workspace(const lode_attention_shape_t *shape, int64_t tokens, int threads) {
    const int64_t sums = shape->kv_heads * (slices_for(shape, tokens, threads) - 1);
    return threads * block_reals(shape, tokens) + sums * 2 * tokens * shape->head_dim;
}

static block_t block_in(const lode_attention_shape_t *shape, int64_t tokens,
                        lode_real_t *workspace) {
    const int64_t rows = most_rows(shape, tokens), panel = rows * (SPAN < tokens ? SPAN : tokens);
    block_t block = {.group = shape->heads / shape->kv_heads};
    uintptr_t start = (uintptr_t)(workspace + omp_get_thread_num() * block_reals(shape, tokens));
    start = (start + sizeof(double) - 1) / sizeof(double) * sizeof(double);
    block.sum = (double *)start;
    block.q = (lode_real_t *)(block.sum + rows);
    block.o = block.q + rows * shape->head_dim;
    block.d_o = block.o + rows * shape->head_dim;
    block.most = block.d_o + rows * shape->head_dim;
    block.scores = block.most + rows;
    block.d_scores = block.scores + panel;
    block.slope = shape->cap > 0 ? block.d_scores + panel : NULL;
    return block;
}

/* Sets the block to query tokens [first, first + count) and the keys that they see. */
static void block_set(const lode_attention_shape_t *shape, block_t *block, int64_t tokens,
                      int64_t kv_head, int64_t index) {
    const int64_t step = block_tokens(shape), window = shape->window, first = index * step;
    block->kv_head = kv_head;
    block->first = first;
    block->count = tokens - first < step ? tokens - first : step;
    block->rows = block->count * block->group;
    block->first_key = window > 0 && first >= window ? first - window + 1 : 0;
    block->keys = first + block->count - block->first_key;
}

/* The span after this one, {.keys = 0} being before the first; false where there is none. */
static bool next_span(const block_t *block, span_t *span) {
    const int64_t key = span->keys > 0 ? span->key + span->keys : block->first_key;
    const int64_t end = block->first_key + block->keys;
    const bool stepped = block->count > SPAN_DIAGONAL; /* in the diagonal */
    const int64_t even_end = stepped ? block->first : end;
    if (key >= end)
        return false;
    *span = (span_t){.key = key};
    if (key < even_end) {
        /* spans of about one length, none of them a few keys */
        const int64_t all = even_end - block->first_key, spans = (all + SPAN - 1) / SPAN;
        const int64_t length = ((all + spans - 1) / spans + 15) / 16 * 16;
        span->keys = even_end - key < length ? even_end - key : length;
    } else {
        span->keys = end - key < SPAN_DIAGONAL ? end - key : SPAN_DIAGONAL;
        span->row = (key - block->first) * block->group;
    }
    return true;
}

/* packed[(t, g)] = scale · source[first + t, head·group + g] */
static void pack(const lode_attention_shape_t *shape, const block_t *block,
                 const lode_real_t *source, lode_real_t scale, lode_real_t *packed) {
    const int64_t width = block->group * shape->head_dim;
    for (int64_t t = 0; t < block->count; t++) {
        const lode_real_t *from =
            source +
            ((block->first + t) * shape->heads + block->kv_head * block->group) * shape->head_dim;
        for (int64_t i = 0; i < width; i++)
            packed[t * width + i] = scale * from[i];
    }
}

static void unpack(const lode_attention_shape_t *shape, const block_t *block,
                   const lode_real_t *packed, lode_real_t *target) {
    const int64_t width = block->group * shape->head_dim;
    for (int64_t t = 0; t < block->count; t++)
        memcpy(target + ((block->first + t) * shape->heads + block->kv_head * block->group) *
                            shape->head_dim,
               packed + t * width, (size_t)width * sizeof *packed);
}

/* Where a row's two numbers are in `softmax`. */
static int64_t softmax_place(const lode_attention_shape_t *shape, const block_t *block,
                             int64_t row) {
    const int64_t token = block->first + row / block->group;
    const int64_t head = block->kv_head * block->group + row % block->group;
    return 2 * (token * shape->heads + head);
}

static void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k,
                 const lode_real_t *a, int64_t lda, const lode_real_t *b, int64_t ldb,
                 lode_real_t beta, lode_real_t *c, int64_t ldc) {
    lode_cblas_gemm(CblasRowMajor, ta, tb, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb,
                    beta, c, (int)ldc);
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

/* Computes the scores of the span's keys. */
static void block_scores(const lode_attention_shape_t *shape, const block_t *block,
                         const span_t *span, const lode_real_t *k) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim, keys = span->keys;
    const int64_t rows = block->rows - span->row;
    gemm(CblasNoTrans, CblasTrans, rows, keys, dim, block->q + span->row * dim, dim,
         k + span->key * stride + block->kv_head * dim, stride, 0, block->scores, keys);
    if (shape->cap > 0)
        cap_scores(block->scores, rows * keys, shape->cap, block->slope);
}

/* Which of the span's keys a row sees: [from, end), counted from the span's first. */
static void row_sees(const lode_attention_shape_t *shape, const block_t *block, const span_t *span,
                     int64_t row, int64_t *from, int64_t *end) {
    const int64_t token = block->first + row / block->group, window = shape->window;
    const int64_t last = token + 1 - span->key, first = window > 0 ? last - window : 0;
    *end = last < span->keys ? last : span->keys;
    *from = first > 0 ? first : 0;
    *from = *from < *end ? *from : *end;
}

/* Turns a row's scores into exponentials, relative to the largest so far, and brings what was
 * summed before in line with it (Milakov & Gimelshein 2018). */
static void fold_row(const lode_attention_shape_t *shape, block_t *block, const span_t *span,
                     int64_t row, bool begun) {
    lode_real_t *scores = block->scores + (row - span->row) * span->keys;
    int64_t from, end;
    row_sees(shape, block, span, row, &from, &end);
    if (from < end) {
        const lode_real_t most = lode_lanes_most(scores + from, end - from);
        const lode_real_t before = block->most[row];
        if (!(most <= before)) { /* so that a NaN stays */
            const lode_real_t scale = lode_exp_nonpositive(before - most);
            block->most[row] = most;
            block->sum[row] *= (double)scale;
            for (int64_t i = 0; begun && i < shape->head_dim; i++)
                block->o[row * shape->head_dim + i] *= scale;
        }
        block->sum[row] += lode_lanes_exponentials(scores + from, end - from, block->most[row]);
    }
    memset(scores, 0, (size_t)from * sizeof *scores);
    memset(scores + end, 0, (size_t)(span->keys - end) * sizeof *scores);
}

static void block_forward(const lode_attention_shape_t *shape, block_t *block, const lode_real_t *q,
                          const lode_real_t *k, const lode_real_t *v, lode_real_t *o,
                          lode_real_t *softmax) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    pack(shape, block, q, (lode_real_t)shape->scale, block->q);
    for (int64_t row = 0; row < block->rows; row++) {
        block->most[row] = -(lode_real_t)INFINITY;
        block->sum[row] = 0;
    }
    bool begun = false;
    for (span_t span = {0}; next_span(block, &span); begun = true) {
        block_scores(shape, block, &span, k);
        for (int64_t row = span.row; row < block->rows; row++)
            fold_row(shape, block, &span, row, begun);
        gemm(CblasNoTrans, CblasNoTrans, block->rows - span.row, dim, span.keys, block->scores,
             span.keys, v + span.key * stride + block->kv_head * dim, stride, begun,
             block->o + span.row * dim, dim);
    }
    for (int64_t row = 0; row < block->rows; row++) {
        const lode_real_t inverse = (lode_real_t)(1 / block->sum[row]);
        lode_real_t *kept = softmax + softmax_place(shape, block, row);
        kept[0] = block->most[row];
        kept[1] = inverse;
        for (int64_t i = 0; i < dim; i++)
            block->o[row * dim + i] *= inverse;
    }
    unpack(shape, block, block->o, o);
}

void lode_attention_forward(const lode_attention_shape_t *shape, int64_t tokens,
                            const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                            lode_real_t *o, lode_real_t *softmax, lode_real_t *workspace) {
    const int64_t blocks = block_count(shape, tokens);
    lode_blas_serial_begin();
    /* The longest first; no block has a part in another's result. */
#pragma omp parallel for schedule(dynamic)
    for (int64_t work = 0; work < blocks * shape->kv_heads; work++) {
        block_t block = block_in(shape, tokens, workspace);
        block_set(shape, &block, tokens, work % shape->kv_heads,
                  blocks - 1 - work / shape->kv_heads);
        block_forward(shape, &block, q, k, v, o, softmax);
    }
    lode_blas_serial_end();
}

/* --- backward ------------------------------------------------------------------------------- */

/* Where the gradients of a key/value head are summed. */
typedef struct sums {
    lode_real_t *dk, *dv; /* of key 0 */
    int64_t stride;       /* from one key to the next */
} sums_t;

/* Packs what the block's gradients need. d_o is divided by the sum of the row's exponentials, so
 * that these need not be; block->sum gets dO·O of that. */
static void block_pack(const lode_attention_shape_t *shape, block_t *block, const lode_real_t *q,
                       const lode_real_t *o, const lode_real_t *d_o, const lode_real_t *softmax) {
    const int64_t dim = shape->head_dim;
    pack(shape, block, q, (lode_real_t)shape->scale, block->q);
    pack(shape, block, o, 1, block->o);
    pack(shape, block, d_o, 1, block->d_o);
    for (int64_t row = 0; row < block->rows; row++) {
        const lode_real_t *kept = softmax + softmax_place(shape, block, row);
        const lode_real_t inverse = kept[1];
        block->most[row] = kept[0];
        for (int64_t i = 0; i < dim; i++)
            block->d_o[row * dim + i] *= inverse;
        double dot = 0;
        for (int64_t i = 0; i < dim; i++)
            dot += (double)block->d_o[row * dim + i] * (double)block->o[row * dim + i];
        block->sum[row] = dot;
    }
}

/* Turns a row's scores into exponentials and their gradients dP into those of the scores:
 * dS = P ⊙ (dP − Σ_i dO_i O_i), where Σ_j P_j dP_j = dO·O; then through the soft cap. */
static void row_backward(const lode_attention_shape_t *shape, const block_t *block,
                         const span_t *span, int64_t row) {
    const int64_t place = (row - span->row) * span->keys;
    lode_real_t *p = block->scores + place, *dp = block->d_scores + place;
    const lode_real_t most = block->most[row], mean = (lode_real_t)block->sum[row];
    int64_t from, end;
    row_sees(shape, block, span, row, &from, &end);
    for (int64_t i = from; i < end; i++) {
        p[i] = lode_exp_nonpositive(p[i] - most);
        dp[i] = p[i] * (dp[i] - mean);
    }
    for (int64_t i = from; shape->cap > 0 && i < end; i++)
        dp[i] *= block->slope[place + i];
    memset(p, 0, (size_t)from * sizeof *p);
    memset(p + end, 0, (size_t)(span->keys - end) * sizeof *p);
    memset(dp, 0, (size_t)from * sizeof *dp);
    memset(dp + end, 0, (size_t)(span->keys - end) * sizeof *dp);
}

/* Adds what the block's queries give dk and dv, and sets their dq. */
static void block_backward(const lode_attention_shape_t *shape, block_t *block,
                           const lode_real_t *k, const lode_real_t *v, lode_real_t *dq,
                           const sums_t *sums) {
    const int64_t dim = shape->head_dim, stride = shape->kv_heads * dim;
    const lode_real_t scale = (lode_real_t)shape->scale;
    bool begun = false;
    for (span_t span = {0}; next_span(block, &span); begun = true) {
        const int64_t rows = block->rows - span.row, keys = span.keys;
        const int64_t offset = span.key * stride + block->kv_head * dim;
        const lode_real_t *d_o = block->d_o + span.row * dim, *q = block->q + span.row * dim;
        block_scores(shape, block, &span, k);
        gemm(CblasNoTrans, CblasTrans, rows, keys, dim, d_o, dim, v + offset, stride, 0,
             block->d_scores, keys);
        for (int64_t row = span.row; row < block->rows; row++)
            row_backward(shape, block, &span, row);
        gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block->scores, keys, d_o, dim, 1,
             sums->dv + span.key * sums->stride, sums->stride);
        gemm(CblasTrans, CblasNoTrans, keys, dim, rows, block->d_scores, keys, q, dim, 1,
             sums->dk + span.key * sums->stride, sums->stride);
        gemm(CblasNoTrans, CblasNoTrans, rows, dim, keys, block->d_scores, keys, k + offset, stride,
             begun, block->o + span.row * dim, dim);
    }
    for (int64_t i = 0; i < block->rows * dim; i++)
        block->o[i] *= scale;
    unpack(shape, block, block->o, dq);
}

/* The sums of a slice of a key/value head: the gradients themselves for the first one. */
static sums_t sums_of(const lode_attention_shape_t *shape, int64_t tokens, int64_t kv_head,
                      int64_t slice, lode_real_t *dk, lode_real_t *dv, lode_real_t *others) {
    const int64_t dim = shape->head_dim;
    if (slice == 0)
        return (sums_t){dk + kv_head * dim, dv + kv_head * dim, shape->kv_heads * dim};
    lode_real_t *own = others + ((slice - 1) * shape->kv_heads + kv_head) * 2 * tokens * dim;
    return (sums_t){own, own + tokens * dim, dim};
}

/* Adds up the slices of a token, in their order. */
static void add_slices(const lode_attention_shape_t *shape, int64_t tokens, int64_t slices,
                       int64_t token, lode_real_t *dk, lode_real_t *dv, lode_real_t *others) {
    const int64_t dim = shape->head_dim;
    for (int64_t slice = 1; slice < slices; slice++)
        for (int64_t kv_head = 0; kv_head < shape->kv_heads; kv_head++) {
            const sums_t to = sums_of(shape, tokens, kv_head, 0, dk, dv, others);
            const sums_t from = sums_of(shape, tokens, kv_head, slice, dk, dv, others);
            for (int64_t i = 0; i < dim; i++) {
                to.dk[token * to.stride + i] += from.dk[token * dim + i];
                to.dv[token * to.stride + i] += from.dv[token * dim + i];
            }
        }
}

void lode_attention_backward(const lode_attention_shape_t *shape, int64_t tokens,
                             const lode_real_t *q, const lode_real_t *k, const lode_real_t *v,
                             const lode_real_t *o, const lode_real_t *softmax,
                             const lode_real_t *d_o, lode_real_t *dq, lode_real_t *dk,
                             lode_real_t *dv, lode_real_t *workspace) {
    const int64_t stride = shape->kv_heads * shape->head_dim, threads = omp_get_max_threads();
    const int64_t blocks = block_count(shape, tokens), slices = slices_for(shape, tokens, threads);
    lode_real_t *others = workspace + threads * block_reals(shape, tokens);
    memset(dk, 0, (size_t)(tokens * stride) * sizeof *dk);
    memset(dv, 0, (size_t)(tokens * stride) * sizeof *dv);
    memset(others, 0, (size_t)((slices - 1) * 2 * tokens * stride) * sizeof *others);
    lode_blas_serial_begin();
#pragma omp parallel for schedule(dynamic)
    for (int64_t work = 0; work < slices * shape->kv_heads; work++) {
        const int64_t kv_head = work % shape->kv_heads, slice = work / shape->kv_heads;
        const sums_t sums = sums_of(shape, tokens, kv_head, slice, dk, dv, others);
        block_t block = block_in(shape, tokens, workspace);
        for (int64_t index = slice; index < blocks; index += slices) {
            block_set(shape, &block, tokens, kv_head, index);
            block_pack(shape, &block, q, o, d_o, softmax);
            block_backward(shape, &block, k, v, dq, &sums);
        }
    }
    if (slices > 1) {
#pragma omp parallel for schedule(static)
        for (int64_t token = 0; token < tokens; token++)
            add_slices(shape, tokens, slices, token, dk, dv, others);
    }
    lode_blas_serial_end();
}
