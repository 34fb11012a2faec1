#include "plan/machine.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/measure.h"
#include "kernels/linear.h"

/* Where nobody has measured them: shares of SGEMM's rate that passes reach on shapes of a billion
 * parameters and more, float64 beside float32, elements a second and thread, bytes a second. */
static const double FORWARD_SHARE = 0.88, BACKWARD_SHARE = 0.85, HEAD_SHARE = 0.88,
                    TRAINING_SHARE = 0.85, DOUBLE_SHARE = 0.5;
static const double VECTOR_RATE = 4e8, DISK_RATE = 5e8, OPTIMIZER_RATE = 5e9;

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static lode_machine_t ordinary(int64_t threads, double sgemm) {
    return (lode_machine_t){.threads = threads,
                            .timed = (double)threads,
                            .sgemm = sgemm,
                            .forward = sgemm * FORWARD_SHARE,
                            .backward = sgemm * BACKWARD_SHARE,
                            .head = sgemm * HEAD_SHARE,
                            .head_backward = sgemm * HEAD_SHARE,
                            .training = sgemm * TRAINING_SHARE,
                            .optimizer = OPTIMIZER_RATE * (double)threads,
                            .dgemm = sgemm * DOUBLE_SHARE,
                            .vector = VECTOR_RATE * (double)threads,
                            .disk = DISK_RATE};
}

/* --- from a file ----------------------------------------------------------------------------- */

/* Far beyond any machine, and yet safe to compute with. */
static const double LEAST_RATE = 1e-6, MOST_RATE = 1e9;

static lode_status_t number(double *out, json_t *root, const char *key, const char *path) {
    json_t *value = json_object_get(root, key);
    if (json_is_number(value) && json_number_value(value) >= LEAST_RATE &&
        json_number_value(value) <= MOST_RATE) {
        *out = json_number_value(value);
        return LODE_OK;
    }
    return lode_fail(
        LODE_ERR_FORMAT,
        "%s: \"%s\" is missing or no number from 1e-6 to 1e9; --machine takes what lode bench "
        "--output wrote",
        path, key);
}

/* The same of a key that files of older versions lack: the rate then stays as it is. */
static lode_status_t number_if_any(double *out, json_t *root, const char *key, const char *path,
                                   double scale) {
    double value = 0;
    if (!json_object_get(root, key))
        return LODE_OK;
    LODE_TRY(number(&value, root, key, path));
    *out = value * scale;
    return LODE_OK;
}

static lode_status_t decode(lode_machine_t *machine, json_t *root, const char *path,
                            int64_t threads) {
    double measured = 0, sgemm = 0;
    LODE_TRY(number(&measured, root, "threads", path));
    LODE_TRY(number(&sgemm, root, "sgemm_gflops", path));
    /* Rates of other threads are taken to be in proportion. */
    const double scale = 1e9 * (double)threads / measured;
    *machine = ordinary(threads, scale * sgemm);
    machine->timed = measured;
    const struct {
        const char *key;
        double *rate;
    } rates[] = {{"forward_gflops", &machine->forward},
                 {"backward_gflops", &machine->backward},
                 {"head_gflops", &machine->head},
                 {"head_backward_gflops", &machine->head_backward}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        LODE_TRY(number(rates[i].rate, root, rates[i].key, path));
        *rates[i].rate *= scale;
    }
    machine->training = 3 / (1 / machine->forward + 2 / machine->backward);
    LODE_TRY(number_if_any(&machine->training, root, "training_gflops", path, scale));
    LODE_TRY(number_if_any(&machine->optimizer, root, "optimizer_gbs", path, scale));
    snprintf(machine->source, sizeof machine->source, "%s", path);
    return LODE_OK;
}

lode_status_t lode_machine_read(lode_machine_t *machine, const char *path, int64_t threads) {
    char *text;
    size_t size;
    json_error_t error;
    LODE_TRY(lode_file_read(&text, &size, path));
    json_t *root = json_loadb(text, size, 0, &error);
    free(text);
    if (!json_is_object(root)) {
        json_decref(root);
        return lode_fail(
            LODE_ERR_FORMAT,
            "%s: is not JSON (line %d); --machine takes what lode bench --output wrote", path,
            error.line);
    }
    const lode_status_t status = decode(machine, root, path, threads);
    json_decref(root);
    return status;
}

/* --- here and now ---------------------------------------------------------------------------- */

typedef struct product {
    int64_t tokens, out, in;
    lode_real_t *x, *y;
    float *weight;
} product_t;

static lode_status_t product_create(product_t *product) {
    LODE_TRY(LODE_NEW(&product->x, product->tokens * product->in, "products to time"));
    LODE_TRY(LODE_NEW(&product->y, product->tokens * product->out, "products to time"));
    LODE_TRY(LODE_NEW(&product->weight, product->out * product->in, "products to time"));
    for (int64_t i = 0; i < product->out * product->in; i++)
        product->weight[i] = (float)(i % 61 - 30) / 512;
    for (int64_t i = 0; i < product->tokens * product->in; i++)
        product->x[i] = (lode_real_t)(i % 53 - 26) / 32;
    return LODE_OK;
}

static void product_free(product_t *product) {
    free(product->x);
    free(product->y);
    free(product->weight);
}

/* One thread's processor time, so that others' work on this machine does not count. Several wait
 * for each other, which takes time and perhaps no processor. */
static double seconds_of(int64_t threads) {
    struct timespec now;
    clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Operations a second: the median of what fits `seconds`. */
static double product_rate(const product_t *product, double seconds, int64_t threads) {
    enum { MOST = 64 };
    double took[MOST];
    int count = 0;
    const lode_tensor_t tensor =
        lode_tensor_matrix(product->weight, LODE_DTYPE_F32, product->out, product->in);
    const lode_weight_t weight = lode_weight_of(&tensor);
    lode_linear_forward(&weight, product->tokens, product->x, false, product->y, NULL);
    for (const double start = lode_time(); count < MOST;) {
        const double began = seconds_of(threads);
        lode_linear_forward(&weight, product->tokens, product->x, false, product->y, NULL);
        took[count++] = seconds_of(threads) - began;
        if (lode_time() - start > seconds)
            break;
    }
    for (int i = 1; i < count; i++) /* few, so sorted by insertion */
        for (int j = i; j > 0 && took[j] < took[j - 1]; j--) {
            const double swap = took[j];
            took[j] = took[j - 1];
            took[j - 1] = swap;
        }
    return 2.0 * (double)(product->tokens * product->out * product->in) / took[count / 2];
}

/* Operations a second, or bytes, of one kind of item. */
static void take_rate(double *rate, const lode_item_t *items, int64_t count,
                      lode_item_kind_t kind) {
    const lode_item_t *item = lode_measure_find(items, count, kind, NULL);
    if (item && item->slowest > 0)
        *rate = (item->flops > 0 ? item->flops : item->bytes) / item->slowest;
}

/* A layer and the head as they are computed, with all that is no product. */
static lode_status_t measure_layer(lode_machine_t *machine, const lode_outline_t *outline,
                                   int64_t tokens, int64_t length) {
    const lode_comm_t alone = lode_comm_alone();
    lode_sample_t sample;
    lode_item_t *items = NULL;
    int64_t count = 0, passes = 0;
    int rounds;
    lode_status_t status =
        lode_sample_create(&sample, outline, tokens, length, 1, (int)machine->threads);
    if (status == LODE_OK)
        status = lode_measure_list(&items, &count, &sample);
    for (int64_t i = 0; i < count && status == LODE_OK; i++)
        if (items[i].kind == LODE_ITEM_FORWARD || items[i].kind == LODE_ITEM_BACKWARD ||
            items[i].kind == LODE_ITEM_HEAD || items[i].kind == LODE_ITEM_HEAD_BACKWARD ||
            items[i].kind == LODE_ITEM_TRAINING || items[i].kind == LODE_ITEM_OPTIMIZER)
            items[passes++] = items[i];
    if (status == LODE_OK)
        status = lode_measure_run(&alone, items, passes, &sample, 0.7, &rounds);
    if (status == LODE_OK) {
        take_rate(&machine->forward, items, passes, LODE_ITEM_FORWARD);
        take_rate(&machine->backward, items, passes, LODE_ITEM_BACKWARD);
        take_rate(&machine->training, items, passes, LODE_ITEM_TRAINING);
        take_rate(&machine->optimizer, items, passes, LODE_ITEM_OPTIMIZER);
        take_rate(&machine->head, items, passes, LODE_ITEM_HEAD);
        take_rate(&machine->head_backward, items, passes, LODE_ITEM_HEAD_BACKWARD);
    }
    free(items);
    lode_sample_free(&sample);
    return status;
}

lode_status_t lode_machine_measure(lode_machine_t *machine, const lode_architecture_t *architecture,
                                   lode_dtype_t dtype, int64_t micro_batch, int64_t length,
                                   int64_t threads) {
    /* The matrices that most of the work is with, cut where they would take longer than that. */
    enum { MOST_TOKENS = 512, MOST_EXTENT = 4096, MOST_WORDS = 4096 };
    enum { NARROW = 1024, NARROW_CHANNELS = 8192 };
    const int64_t d = min2(architecture->hidden, MOST_EXTENT);
    const int64_t m = min2(architecture->intermediate, MOST_EXTENT);
    const int64_t tokens = min2(micro_batch, MOST_TOKENS);
    product_t up = {.tokens = tokens, .out = m, .in = d},
              down = {.tokens = tokens, .out = d, .in = m};
    lode_set_threads((int)threads);
    lode_status_t status = product_create(&up);
    if (status == LODE_OK)
        status = product_create(&down);
    if (status == LODE_OK) {
        const double up_rate = product_rate(&up, 0.4, threads),
                     down_rate = product_rate(&down, 0.3, threads);
        *machine = ordinary(threads, 3 / (2 / up_rate + 1 / down_rate)); /* gate and up are alike */
        machine->measured = true;
    }
    product_free(&up);
    product_free(&down);
    if (status == LODE_OK && architecture->hidden <= NARROW &&
        architecture->intermediate <= NARROW_CHANNELS) {
        lode_outline_t outline = {.architecture = *architecture, .dtype = dtype};
        outline.architecture.vocab = min2(architecture->vocab, MOST_WORDS);
        status = measure_layer(machine, &outline, tokens, min2(length, tokens));
    }
    return status;
}
