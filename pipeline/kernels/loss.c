#include "kernels/loss.h"

enum { CHUNK_ELEMENTS = 1 << 24, CHUNK_MIN = 32, CHUNK_MAX = 512 };

int64_t lode_loss_chunk(int64_t vocab) {
    int64_t chunk = CHUNK_ELEMENTS / vocab / 16 * 16;
    return chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
}

int64_t lode_loss_workspace(const lode_weight_t *head) {
    return lode_loss_chunk(head->out) * head->out + lode_linear_workspace(head);
}

/* Loss of one row; with `gradient`, z becomes weight · (softmax(z) − onehot(target)). */
static double row_loss(lode_real_t *z, int64_t vocab, int32_t target, double weight,
                       bool gradient) {
    if (target < 0) {
        if (gradient)
            memset(z, 0, (size_t)vocab * sizeof *z);
        return 0;
    }
    lode_real_t most = z[0];
    for (int64_t j = 1; j < vocab; j++)
        most = z[j] > most ? z[j] : most;
    const lode_real_t z_target = z[target];
    double sum = 0;
    if (!gradient) {
        for (int64_t j = 0; j < vocab; j++)
            sum += (double)lode_exp_nonpositive(z[j] - most);
    } else {
        for (int64_t j = 0; j < vocab; j++) {
            z[j] = lode_exp_nonpositive(z[j] - most);
            sum += (double)z[j];
        }
        const lode_real_t scale = (lode_real_t)(weight / sum);
        for (int64_t j = 0; j < vocab; j++)
            z[j] *= scale;
        z[target] -= (lode_real_t)weight;
    }
    return log(sum) + ((double)most - (double)z_target);
}

void lode_loss_run(const lode_weight_t *head, int64_t rows, const lode_real_t *h,
                   const int32_t *target, const double *weight, double *nll, lode_real_t *dh,
                   lode_logits_callback_t callback, void *context, lode_real_t *workspace) {
    const int64_t vocab = head->out, d = head->in, chunk = lode_loss_chunk(vocab);
    lode_real_t *logits = workspace, *rest = workspace + chunk * vocab;
    for (int64_t first = 0; first < rows; first += chunk) {
        const int64_t count = rows - first < chunk ? rows - first : chunk;
        lode_linear_forward(head, count, h + first * d, false, logits, rest);
        if (callback)
            callback(context, first, count, logits);
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < count; r++)
            nll[first + r] = row_loss(logits + r * vocab, vocab, target[first + r],
                                      dh ? weight[first + r] : 0, dh != NULL);
        if (dh)
            lode_linear_backward(head, count, logits, false, dh + first * d, rest);
    }
}
