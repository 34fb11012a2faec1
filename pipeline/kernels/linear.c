#include "kernels/linear.h"

#include <omp.h>
#include <stdbool.h>

#include "base/error.h"
#include "kernels/coding.h"

/* Elements of a converted block: 16 MiB of float, so that it stays in the last-level cache between
 * conversion and packing where it can. A call of BLAS packs the other operand anew, so that a block
 * is wide first of all (many rows of the product's result) and only as deep (places of its sums) as
 * it must be for the result to be gone through seldom. DEPTH is twice the depth that OpenBLAS takes
 * at once. */
enum { BLOCK_ELEMENTS = 1 << 22, DEPTH = 640 };

/* Lines [line, line + lines) × places [place, place + places) of the matrix as used into block
 * [lines, places]: either way lines are read along memory, and BLAS does the transposing. */
static void convert_block(lode_real_t *block, const lode_weight_t *weight, int64_t line,
                          int64_t lines, int64_t place, int64_t places) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < lines; i++)
        lode_coding_line(weight, line + i, place, places, block + i * places);
    lode_coding_hold(weight, line, lines, place, places, block);
}

/* Whether BLAS can read the stored matrix as it is. */
static bool readable_in_place(const lode_weight_t *weight) {
    return sizeof(lode_real_t) == sizeof(float) && weight->dtype == LODE_DTYPE_F32 &&
           !weight->row_index && !weight->col_index && !weight->codec &&
           (uintptr_t)weight->data % sizeof(float) == 0;
}

/* A block: `width` results and `depth` places of their sums. */
typedef struct block {
    int64_t width, depth;
} block_t;

/* Blocks of a product with `width` × `depth` weights. */
static block_t block_of(int64_t width, int64_t depth) {
    block_t block = {.width = BLOCK_ELEMENTS / (depth < DEPTH ? depth : DEPTH) / 64 * 64};
    if (block.width > width)
        block.width = width;
    block.depth = BLOCK_ELEMENTS / block.width / DEPTH * DEPTH;
    if (block.depth > depth || block.depth == 0) /* 0: narrow and not deep */
        block.depth = depth;
    return block;
}

int64_t lode_linear_workspace(const lode_weight_t *weight) {
    if (readable_in_place(weight))
        return 0;
    const int64_t whole = weight->out * weight->in;
    return whole < BLOCK_ELEMENTS ? whole : BLOCK_ELEMENTS;
}

/* C[m,n] (row stride ldc) = op(A)·op(B), or added to it, with k places in its sums */
static void product(CBLAS_TRANSPOSE of_a, CBLAS_TRANSPOSE of_b, int64_t m, int64_t n, int64_t k,
                    const lode_real_t *a, int64_t lda, const lode_real_t *b, int64_t ldb,
                    bool accumulate, lode_real_t *c, int64_t ldc) {
    LODE_ASSERT(m <= INT32_MAX && n <= INT32_MAX && k <= INT32_MAX && lda <= INT32_MAX &&
                ldb <= INT32_MAX && ldc <= INT32_MAX);
    lode_cblas_gemm(CblasRowMajor, of_a, of_b, (int)m, (int)n, (int)k, 1, a, (int)lda, b, (int)ldb,
                    accumulate ? 1 : 0, c, (int)ldc);
}

/* C[m,n] (row stride ldc) = A[m,k]·op(B), or added to it */
static void gemm(CBLAS_TRANSPOSE transpose, int64_t m, int64_t n, int64_t k, const lode_real_t *a,
                 int64_t lda, const lode_real_t *b, int64_t ldb, bool accumulate, lode_real_t *c,
                 int64_t ldc) {
    product(CblasNoTrans, transpose, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
}

/* y = 0 or as it is, for products that are empty sums. */
static void zero_unless(bool accumulate, lode_real_t *y, int64_t count) {
    if (!accumulate)
        memset(y, 0, (size_t)count * sizeof *y);
}

/* A matrix as one direction uses it: C[tokens, results] = A[tokens, places]·op(W), where each sum
 * goes over `places`. */
typedef struct direction {
    int64_t results, places;
    bool upright; /* a stored line is of one result, and BLAS must turn it */
} direction_t;

static direction_t direction_of(const lode_weight_t *weight, bool backward) {
    return (direction_t){.results = backward ? weight->in : weight->out,
                         .places = backward ? weight->out : weight->in,
                         .upright = weight->transposed == backward};
}

/* A product with a matrix that must be converted: blocks of its results, and in each of them blocks
 * of places, whose products add up in the result as BLAS itself adds those of its own blocks. */
static void multiply_converted(const lode_weight_t *weight, direction_t way, int64_t tokens,
                               const lode_real_t *a, bool accumulate, lode_real_t *c,
                               lode_real_t *workspace) {
    const block_t block = block_of(way.results, way.places);
    const CBLAS_TRANSPOSE transpose = way.upright ? CblasTrans : CblasNoTrans;
    for (int64_t result = 0; result < way.results; result += block.width) {
        const int64_t left = way.results - result, width = left < block.width ? left : block.width;
        for (int64_t place = 0; place < way.places; place += block.depth) {
            const int64_t rest = way.places - place,
                          depth = rest < block.depth ? rest : block.depth;
            if (way.upright)
                convert_block(workspace, weight, result, width, place, depth);
            else
                convert_block(workspace, weight, place, depth, result, width);
            gemm(transpose, tokens, width, depth, a + place, way.places, workspace,
                 way.upright ? depth : width, accumulate || place > 0, c + result, way.results);
        }
    }
}

static void multiply(const lode_weight_t *weight, bool backward, int64_t tokens,
                     const lode_real_t *a, bool accumulate, lode_real_t *c,
                     lode_real_t *workspace) {
    const direction_t way = direction_of(weight, backward);
    if (tokens == 0 || way.results == 0)
        return;
    if (way.places == 0) /* BLAS need not touch C where its sums are empty */
        zero_unless(accumulate, c, tokens * way.results);
    else if (readable_in_place(weight))
        gemm(way.upright ? CblasTrans : CblasNoTrans, tokens, way.results, way.places, a,
             way.places, (const lode_real_t *)weight->data, weight->pitch, accumulate, c,
             way.results);
    else
        multiply_converted(weight, way, tokens, a, accumulate, c, workspace);
}

static void add_bias(const lode_weight_t *weight, int64_t tokens, lode_real_t *y) {
    const int64_t out = weight->out;
    const int32_t *index = weight->row_index;
    if (!weight->bias)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < out; i++)
            y[t * out + i] += weight->bias[index ? index[i] : i];
}

void lode_linear_forward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *x,
                         bool accumulate, lode_real_t *y, lode_real_t *workspace) {
    multiply(weight, false, tokens, x, accumulate, y, workspace);
    add_bias(weight, tokens, y);
}

void lode_linear_backward(const lode_weight_t *weight, int64_t tokens, const lode_real_t *dy,
                          bool accumulate, lode_real_t *dx, lode_real_t *workspace) {
    multiply(weight, true, tokens, dy, accumulate, dx, workspace);
}

/* Columns whose sums over the tokens one thread holds at once; and tokens of one product: no more
 * than BLAS sums at once, since it divides longer sums in a way that depends on its threads. */
enum { COLUMNS = 32, TOKENS = 256 };

static void bias_gradient(int64_t out, int64_t tokens, const lode_real_t *dy, lode_real_t *bias) {
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < out; first += COLUMNS) {
        const int64_t count = out - first < COLUMNS ? out - first : COLUMNS;
        double sum[COLUMNS] = {0};
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t i = 0; i < count; i++)
                sum[i] += (double)dy[t * out + first + i];
        for (int64_t i = 0; i < count; i++)
            bias[first + i] = (lode_real_t)((double)bias[first + i] + sum[i]);
    }
}

void lode_linear_gradient(const lode_gradient_t *gradient, int64_t out, int64_t in, int64_t tokens,
                          const lode_real_t *x, const lode_real_t *dy) {
    if (gradient->bias)
        bias_gradient(out, tokens, dy, gradient->bias);
    if (!gradient->data || out == 0 || in == 0)
        return;
    for (int64_t first = 0; first < tokens; first += TOKENS) {
        const int64_t count = tokens - first < TOKENS ? tokens - first : TOKENS;
        const lode_real_t *x_part = x + first * in, *dy_part = dy + first * out;
        if (gradient->transposed)
            product(CblasTrans, CblasNoTrans, in, out, count, x_part, in, dy_part, out, true,
                    gradient->data, gradient->pitch);
        else
            product(CblasTrans, CblasNoTrans, out, in, count, dy_part, out, x_part, in, true,
                    gradient->data, gradient->pitch);
    }
}

static int blas_threads = 1;

static void set_blas_threads(int threads) {
#ifdef LODE_HAVE_OPENBLAS
    openblas_set_num_threads(threads);
    omp_set_num_threads(blas_threads); /* some builds of it set OpenMP's number too */
#else
    (void)threads; /* other libraries follow OpenMP's setting */
#endif
}

void lode_set_threads(int threads) {
    blas_threads = threads;
    omp_set_num_threads(threads);
    set_blas_threads(threads);
}

const char *lode_blas_description(void) {
#ifdef LODE_HAVE_OPENBLAS
    return openblas_get_config();
#else
    return "unknown";
#endif
}

void lode_blas_serial_begin(void) {
    if (blas_threads > 1)
        set_blas_threads(1);
}

void lode_blas_serial_end(void) {
    if (blas_threads > 1)
        set_blas_threads(blas_threads);
}
