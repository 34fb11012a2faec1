#include "kernels/loss.h"

#include "base/error.h"
#include "kernels/lanes.h"

/* A chunk converts and packs the whole head, so that it should have many rows. */
enum { CHUNK_ELEMENTS = 1 << 26, CHUNK_MIN = 32, CHUNK_MAX = 1024 };

int64_t lode_loss_chunk(int64_t vocab) {
    int64_t chunk = CHUNK_ELEMENTS / vocab / 16 * 16;
    return chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
}

int64_t lode_loss_workspace(const lode_weight_t *head) {
    return lode_loss_chunk(head->out) * head->out + lode_linear_workspace(head);
}

/* Σ exp(z_j − most), where the exponentials themselves are not needed; in the order of
 * lode_lanes_total. */
static double sum_exponentials(const lode_real_t *z, int64_t count, lode_real_t most) {
    double lanes[LODE_LANES] = {0};
    int64_t i = 0;
    for (; i + LODE_LANES <= count; i += LODE_LANES)
        for (int j = 0; j < LODE_LANES; j++)
            lanes[j] += (double)lode_exp_nonpositive(z[i + j] - most);
    for (; i < count; i++)
        lanes[0] += (double)lode_exp_nonpositive(z[i] - most);
    return lode_lanes_sum(lanes);
}

/* Turns z into weight · (softmax(z) − onehot(target)), times the derivative of the soft cap. */
static void row_gradient(lode_real_t *z, int64_t vocab, int32_t target, double weight, double cap,
                         lode_real_t most, double sum) {
    const lode_real_t scale = (lode_real_t)(weight / sum);
    if (cap == 0) { /* z holds the exponentials already */
        for (int64_t j = 0; j < vocab; j++)
            z[j] *= scale;
        z[target] -= (lode_real_t)weight;
        return;
    }
    const lode_real_t inverse = (lode_real_t)(1 / cap), at_target = z[target] * inverse;
    for (int64_t j = 0; j < vocab; j++) {
        const lode_real_t t = z[j] * inverse;
        z[j] = scale * lode_exp_nonpositive(z[j] - most) * (1 - t * t);
    }
    z[target] -= (lode_real_t)weight * (1 - at_target * at_target);
}

/* Whether no logit is larger than the target's, and none before it as large. */
static uint8_t is_greedy(const lode_real_t *z, int32_t target, lode_real_t most) {
    if (z[target] != most)
        return 0;
    for (int32_t j = 0; j < target; j++)
        if (z[j] == most)
            return 0;
    return 1;
}

/* Loss of one row of logits z, which becomes its gradient where there is one. */
static void row_loss(const lode_head_loss_t *loss, int64_t row, lode_real_t *z) {
    const int64_t vocab = loss->head->out;
    const int32_t target = loss->target[row];
    if (loss->greedy)
        loss->greedy[row] = 0;
    if (target < 0) {
        if (loss->dh)
            memset(z, 0, (size_t)vocab * sizeof *z);
        loss->nll[row] = 0;
        return;
    }
    const lode_real_t most = lode_lanes_most(z, vocab), z_target = z[target];
    if (loss->greedy)
        loss->greedy[row] = is_greedy(z, target, most);
    const double sum = loss->dh && loss->cap == 0 ? lode_lanes_exponentials(z, vocab, most)
                                                  : sum_exponentials(z, vocab, most);
    if (loss->dh)
        row_gradient(z, vocab, target, loss->weight[row], loss->cap, most, sum);
    loss->nll[row] = log(sum) + ((double)most - (double)z_target);
}

static void cap_row(lode_real_t *z, int64_t vocab, double cap) {
    const lode_real_t scale = (lode_real_t)cap;
    for (int64_t j = 0; j < vocab; j++)
        z[j] = scale * lode_tanh(z[j] / scale);
}

void lode_loss_run(const lode_head_loss_t *loss) {
    const lode_weight_t *head = loss->head;
    const int64_t vocab = head->out, d = head->in, chunk = lode_loss_chunk(vocab);
    lode_real_t *logits = loss->workspace, *rest = loss->workspace + chunk * vocab;
    LODE_ASSERT(loss->dh || !loss->gradient);
    for (int64_t first = 0; first < loss->rows; first += chunk) {
        const int64_t count = loss->rows - first < chunk ? loss->rows - first : chunk;
        lode_linear_forward(head, count, loss->h + first * d, false, logits, rest);
        if (loss->cap > 0) {
#pragma omp parallel for schedule(static)
            for (int64_t r = 0; r < count; r++)
                cap_row(logits + r * vocab, vocab, loss->cap);
        }
        if (loss->callback)
            loss->callback(loss->context, first, count, logits);
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < count; r++)
            row_loss(loss, first + r, logits + r * vocab);
        if (loss->gradient) /* first: dh may overwrite h */
            lode_linear_gradient(loss->gradient, vocab, d, count, loss->h + first * d, logits);
        if (loss->dh)
            lode_linear_backward(head, count, logits, false, loss->dh + first * d, rest);
    }
}
