#include "bench/bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/measure.h"
#include "common/version.h"
#include "model/describe.h"
#include "model/json_text.h"

static const double ENOUGH_SECONDS = 10; /* of measuring, where three rounds take less */

enum { HOST_BYTES = 256 };

typedef struct bench {
    const lode_bench_request_t *request;
    const lode_comm_t *comm;
    lode_outline_t outline;
    lode_sample_t sample;
    lode_item_t *items;
    int64_t count;
    int rounds; /* that were timed */
    lode_buffer_t table;
    json_t *json;
} bench_t;

/* --- figures -------------------------------------------------------------------------------- */

/* What became of the measurements: seconds and operations of one token. */
typedef struct cost {
    double seconds, flops;
} cost_t;

static cost_t scaled(cost_t cost, double factor) {
    return (cost_t){cost.seconds * factor, cost.flops * factor};
}

static cost_t added(cost_t a, cost_t b) {
    return (cost_t){a.seconds + b.seconds, a.flops + b.flops};
}

static double giga(cost_t cost) {
    return cost.seconds > 0 ? cost.flops / cost.seconds / 1e9 : 0;
}

/* Of one token, by the slowest rank or as the mean over ranks. */
static cost_t cost_of(const bench_t *bench, lode_item_kind_t kind, bool mean) {
    const lode_item_t *item = lode_measure_find(bench->items, bench->count, kind, NULL);
    if (!item)
        return (cost_t){0};
    return (cost_t){(mean ? item->mean : item->slowest) / item->tokens, item->flops / item->tokens};
}

/* Products of a layer by BLAS alone, or as the layer computes them. */
static cost_t products(const bench_t *bench, lode_item_kind_t kind, bool mean) {
    cost_t sum = {0};
    for (int s = 0; s < LODE_SAMPLE_SHAPES; s++) {
        const lode_sample_shape_t *shape = &bench->sample.shape[s];
        const lode_item_t *item = lode_measure_find(bench->items, bench->count, kind, shape);
        const cost_t one = {(mean ? item->mean : item->slowest) / item->tokens,
                            item->flops / item->tokens};
        sum = added(sum, scaled(one, shape->count));
    }
    return sum;
}

typedef enum pass {
    FORWARD,
    BACKWARD,
    BOTH,
    RECOMPUTED,
    TRAINING,
    HEAD,
    HEAD_BACKWARD,
    PERPLEXITY,
    ACCUMULATE,
    STEP,
    PASSES
} pass_t;

static const struct {
    const char *name, *key;
    bool whole; /* of the model, not of a layer */
} pass_names[PASSES] = {
    [FORWARD] = {"forward", "forward_gflops", false},
    [BACKWARD] = {"backward", "backward_gflops", false},
    [BOTH] = {"forward and backward", "both_gflops", false},
    [RECOMPUTED] = {"the same, recomputed", "recomputed_gflops", false},
    [TRAINING] = {"training", "training_gflops", false},
    [HEAD] = {"head and loss", "head_gflops", true},
    [HEAD_BACKWARD] = {"head, loss, gradient", "head_backward_gflops", true},
    [PERPLEXITY] = {"perplexity", "perplexity_gflops", true},
    [ACCUMULATE] = {"accumulate", "accumulate_gflops", true},
    [STEP] = {"training step", "step_gflops", true},
};

/* A layer's cost is that of the sample divided by its layers; the model's is that of its layers and
 * its head, for accumulate with the channel sums. In a step of training, the gradient of the head's
 * weights is as fast as the rest of the head, and all parameters are updated once a micro-batch. */
static cost_t step_cost(const bench_t *bench, cost_t layers, bool mean) {
    const double updated = (double)lode_architecture_parameters(&bench->outline.architecture) /
                           (double)bench->sample.tokens;
    const cost_t head = scaled(cost_of(bench, LODE_ITEM_HEAD_BACKWARD, mean), 1.5);
    return added(added(layers, head), scaled(cost_of(bench, LODE_ITEM_OPTIMIZER, mean), updated));
}

static cost_t pass_cost(const bench_t *bench, pass_t pass, bool mean) {
    const double share = 1 / (double)bench->sample.layers;
    const double layers = (double)bench->outline.architecture.layers;
    const cost_t forward = scaled(cost_of(bench, LODE_ITEM_FORWARD, mean), share);
    const cost_t backward = scaled(cost_of(bench, LODE_ITEM_BACKWARD, mean), share);
    const cost_t head = cost_of(bench, LODE_ITEM_HEAD, mean);
    const cost_t head_backward = cost_of(bench, LODE_ITEM_HEAD_BACKWARD, mean);
    const cost_t sums = cost_of(bench, LODE_ITEM_STATISTICS, mean);
    const cost_t training = scaled(cost_of(bench, LODE_ITEM_TRAINING, mean), share);
    switch (pass) {
    case FORWARD:
        return forward;
    case BACKWARD:
        return backward;
    case BOTH:
        return added(forward, backward);
    case RECOMPUTED:
        return scaled(cost_of(bench, LODE_ITEM_RECOMPUTED, mean), share);
    case TRAINING:
        return training;
    case HEAD:
        return head;
    case HEAD_BACKWARD:
        return head_backward;
    case PERPLEXITY:
        return added(scaled(forward, layers), head);
    case ACCUMULATE:
        return added(scaled(added(added(forward, backward), sums), layers), head_backward);
    case STEP:
        return step_cost(bench, scaled(training, layers), mean);
    case PASSES:
        break;
    }
    return (cost_t){0};
}

/* --- the report ----------------------------------------------------------------------------- */

/* Lines and members that could not be made for want of memory are noticed at the end. */
static lode_status_t report_shapes(bench_t *bench) {
    json_t *list = json_array();
    LODE_TRY(lode_buffer_printf(&bench->table, "\n%-22s %8s %8s %10s %10s %10s %10s\n",
                                "linear layers", "out", "in", "SGEMM", "forward", "backward",
                                "gradient"));
    for (int s = 0; s < LODE_SAMPLE_SHAPES; s++) {
        const lode_sample_shape_t *shape = &bench->sample.shape[s];
        static const lode_item_kind_t kinds[] = {LODE_ITEM_SGEMM, LODE_ITEM_LINEAR,
                                                 LODE_ITEM_LINEAR_BACKWARD,
                                                 LODE_ITEM_LINEAR_GRADIENT};
        double rate[4];
        for (int k = 0; k < 4; k++) {
            const lode_item_t *item =
                lode_measure_find(bench->items, bench->count, kinds[k], shape);
            rate[k] = item->flops / item->slowest / 1e9;
        }
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:i, s:f, s:f, s:f, s:f}", "name", shape->name, "out",
                            (json_int_t)shape->weight->out, "in", (json_int_t)shape->weight->in,
                            "count", shape->count, "sgemm_gflops", rate[0], "forward_gflops",
                            rate[1], "backward_gflops", rate[2], "gradient_gflops", rate[3]));
        LODE_TRY(lode_buffer_printf(&bench->table,
                                    "%-22s %8lld %8lld %10.1f %10.1f %10.1f %10.1f\n", shape->name,
                                    (long long)shape->weight->out, (long long)shape->weight->in,
                                    rate[0], rate[1], rate[2], rate[3]));
    }
    json_object_set_new(bench->json, "shapes", list);
    return LODE_OK;
}

static lode_status_t report_passes(bench_t *bench) {
    const double sgemm = giga(products(bench, LODE_ITEM_SGEMM, false));
    json_t *list = json_array(), *mean = json_object();
    json_object_set_new(bench->json, "sgemm_gflops", json_real(sgemm));
    json_object_set_new(mean, "sgemm_gflops",
                        json_real(giga(products(bench, LODE_ITEM_SGEMM, true))));
    LODE_TRY(
        lode_buffer_printf(&bench->table, "%-30s %12.1f GFLOP/s\n", "SGEMM, all products", sgemm));
    LODE_TRY(lode_buffer_printf(&bench->table, "\n%-30s %12s %12s %10s %10s\n", "passes",
                                "us a token", "tokens/s", "GFLOP/s", "of SGEMM"));
    for (pass_t pass = 0; pass < PASSES; pass++) {
        const cost_t cost = pass_cost(bench, pass, false);
        char name[64];
        snprintf(name, sizeof name, "%s%s", pass_names[pass].name,
                 pass_names[pass].whole ? pass < PERPLEXITY ? "" : ", whole model" : ", a layer");
        json_object_set_new(bench->json, pass_names[pass].key, json_real(giga(cost)));
        json_object_set_new(mean, pass_names[pass].key,
                            json_real(giga(pass_cost(bench, pass, true))));
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "name",
                                              pass_names[pass].name, "seconds_per_token",
                                              cost.seconds, "tokens_per_second", 1 / cost.seconds,
                                              "gflops", giga(cost), "share_of_sgemm",
                                              giga(cost) / sgemm, "flops_per_token", cost.flops));
        LODE_TRY(lode_buffer_printf(&bench->table, "%-30s %12.2f %12.1f %10.1f %9.1f%%\n", name,
                                    1e6 * cost.seconds, 1 / cost.seconds, giga(cost),
                                    100 * giga(cost) / sgemm));
    }
    json_object_set_new(bench->json, "passes", list);
    json_object_set_new(bench->json, "mean", mean);
    return LODE_OK;
}

/* One kernel of a layer; those with `part` false are counted in others, or are of no layer. */
static lode_status_t report_kernel(bench_t *bench, json_t *list, const char *name, double seconds,
                                   double flops, double bytes, double whole, bool part) {
    const double share = whole > 0 && part ? seconds / whole : 0;
    json_t *entry = json_pack("{s:s, s:f}", "name", name, "seconds_per_token", seconds);
    if (flops + bytes > 0 && seconds > 0)
        json_object_set_new(entry, flops > 0 ? "gflops" : "gbs",
                            json_real((flops > 0 ? flops : bytes) / seconds / 1e9));
    if (part)
        json_object_set_new(entry, "share", json_real(share));
    json_array_append_new(list, entry);
    LODE_TRY(lode_buffer_printf(&bench->table, "%-30s %12.2f", name, 1e6 * seconds));
    if (flops + bytes > 0 && seconds > 0)
        LODE_TRY(lode_buffer_printf(&bench->table, " %10.1f %s",
                                    (flops > 0 ? flops : bytes) / seconds / 1e9,
                                    flops > 0 ? "GFLOP/s" : "GB/s   "));
    else
        LODE_TRY(lode_buffer_printf(&bench->table, " %18s", ""));
    return part ? lode_buffer_printf(&bench->table, " %9.1f%%\n", 100 * share)
                : lode_buffer_printf(&bench->table, "\n");
}

/* Kernels of the forward and the backward of a layer, and what is left of these. */
static lode_status_t report_kernels(bench_t *bench) {
    static const struct {
        lode_item_kind_t kind;
        bool part;
    } kernels[] = {
        {LODE_ITEM_ATTENTION, true},
        {LODE_ITEM_ATTENTION_BACKWARD, true},
        {LODE_ITEM_NORMS, true},
        {LODE_ITEM_NORMS_BACKWARD, true},
        {LODE_ITEM_ROPE, true},
        {LODE_ITEM_ACTIVATION, true},
        {LODE_ITEM_ACTIVATION_BACKWARD, true},
        {LODE_ITEM_STATISTICS, false},
        {LODE_ITEM_CONVERSION, false},
    };
    json_t *list = json_array();
    const double whole = pass_cost(bench, BOTH, false).seconds;
    const cost_t linear[] = {products(bench, LODE_ITEM_LINEAR, false),
                             products(bench, LODE_ITEM_LINEAR_BACKWARD, false)};
    double rest = whole;
    lode_status_t status = lode_buffer_printf(&bench->table, "\n%-30s %12s %18s %10s\n",
                                              "kernels, a layer", "us a token", "rate", "of both");
    for (int i = 0; i < 2 && status == LODE_OK; i++) {
        rest -= linear[i].seconds;
        status = report_kernel(bench, list, i == 0 ? "linear forward" : "linear backward",
                               linear[i].seconds, linear[i].flops, 0, whole, true);
    }
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels && status == LODE_OK; k++) {
        const lode_item_t *item =
            lode_measure_find(bench->items, bench->count, kernels[k].kind, NULL);
        if (!item)
            continue;
        const double seconds = item->slowest / item->tokens;
        rest -= kernels[k].part ? seconds : 0;
        status = report_kernel(bench, list, item->name, seconds, item->flops / item->tokens,
                               item->bytes / item->tokens, whole, kernels[k].part);
    }
    const cost_t gradients = products(bench, LODE_ITEM_LINEAR_GRADIENT, false);
    if (status == LODE_OK)
        status = report_kernel(bench, list, "weight gradients", gradients.seconds, gradients.flops,
                               0, whole, false);
    if (status == LODE_OK)
        status = report_kernel(bench, list, "residuals and the rest", rest > 0 ? rest : 0, 0, 0,
                               whole, true);
    const double other = 1 - (linear[0].seconds + linear[1].seconds) / whole;
    json_object_set_new(bench->json, "kernels", list);
    json_object_set_new(bench->json, "non_gemm_share", json_real(other));
    LODE_TRY(status);
    return lode_buffer_printf(&bench->table, "%-30s %42.1f%%\n", "all but linear layers",
                              100 * other);
}

/* What a step of training does with every parameter once. */
static lode_status_t report_optimizer(bench_t *bench) {
    const lode_item_t *item =
        lode_measure_find(bench->items, bench->count, LODE_ITEM_OPTIMIZER, NULL);
    const double rate = item->bytes / item->slowest / 1e9;
    json_object_set_new(bench->json, "optimizer_gbs", json_real(rate));
    return lode_buffer_printf(&bench->table, "%-30s %12.2f %10.1f GB/s\n",
                              "optimizer, a million elements", 1e12 * item->slowest / item->tokens,
                              rate);
}

/* "model name" of the first processor, "" where the system does not tell. */
static void find_processor(char text[HOST_BYTES]) {
    static const char key[] = "model name";
    char line[HOST_BYTES];
    text[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !*text && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) == 0 && value)
            snprintf(text, HOST_BYTES, "%s", value + 1 + strspn(value + 1, " "));
    }
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = '\0';
}

static lode_status_t report_head(bench_t *bench) {
    const lode_architecture_t *a = &bench->outline.architecture;
    const lode_bench_request_t *request = bench->request;
    char host[HOST_BYTES] = "", processor[HOST_BYTES], description[LODE_DESCRIPTION_BYTES];
    gethostname(host, sizeof host - 1);
    find_processor(processor);
    lode_architecture_describe(description, a);
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    bench->json = json_pack(
        "{s:s, s:{s:s, s:s, s:I, s:s}, s:{s:s, s:s, s:I, s:I, s:I, s:I}, s:i, s:i, s:I, s:I, s:s,"
        " s:I, s:i}",
        "lodestone", lode_version(), "machine", "host", host, "processor", processor, "cpus",
        (json_int_t)cpus, "blas", lode_blas_description(), "model", "config", bench->outline.config,
        "model_type", lode_model_type_name(a->model_type), "hidden", (json_int_t)a->hidden,
        "intermediate", (json_int_t)a->intermediate, "vocab", (json_int_t)a->vocab, "parameters",
        (json_int_t)lode_architecture_parameters(a), "ranks", bench->comm->size, "threads",
        request->threads, "tokens", (json_int_t)bench->sample.tokens, "length",
        (json_int_t)bench->sample.length, "dtype", lode_dtype_name(bench->sample.dtype), "layers",
        (json_int_t)bench->sample.layers, "repetitions", bench->rounds);
    if (!bench->json)
        return lode_fail(LODE_ERR_MEMORY, "no memory for the report, or %s is not UTF-8",
                         bench->outline.config);
    return lode_buffer_printf(
        &bench->table,
        "%s: %s, %.3g M parameters\n%s; %d %s of %d %s, %lld tokens in sequences of %lld, %s "
        "weights, %lld of %lld layers, the median of %d\n",
        bench->outline.config, description, (double)lode_architecture_parameters(a) / 1e6,
        processor, bench->comm->size, bench->comm->size == 1 ? "rank" : "ranks", request->threads,
        request->threads == 1 ? "thread" : "threads", (long long)bench->sample.tokens,
        (long long)bench->sample.length, lode_dtype_name(bench->sample.dtype),
        (long long)bench->sample.layers, (long long)a->layers, bench->rounds);
}

static lode_status_t report(bench_t *bench) {
    const char *output = bench->request->output;
    LODE_TRY(report_head(bench));
    LODE_TRY(report_shapes(bench));
    LODE_TRY(report_passes(bench));
    LODE_TRY(report_kernels(bench));
    LODE_TRY(report_optimizer(bench));
    fputs(bench->table.data, stdout);
    if (!output)
        return LODE_OK;
    char *text = lode_json_text_dump(bench->json);
    if (!text)
        return lode_fail(LODE_ERR_MEMORY, "no memory for %s", output);
    const lode_status_t status = lode_file_write_atomic(output, text, strlen(text));
    free(text);
    return status;
}

/* --- the command ---------------------------------------------------------------------------- */

/* A file that cannot be written is better known before the measurements. */
static lode_status_t check_output(const char *output) {
    if (!output)
        return LODE_OK;
    char *folder;
    LODE_TRY(lode_strdup(&folder, output));
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    const bool sound = access(slash ? folder : ".", W_OK) == 0;
    const int error = errno;
    free(folder);
    return sound ? LODE_OK
                 : lode_fail(LODE_ERR_IO, "--output %s: its folder cannot be written to: %s",
                             output, strerror(error));
}

static lode_status_t prepare(bench_t *bench) {
    const lode_bench_request_t *request = bench->request;
    LODE_TRY(check_output(request->output));
    LODE_TRY(lode_outline_open(&bench->outline, request->model));
    const lode_architecture_t *a = &bench->outline.architecture;
    if (request->dtype)
        bench->outline.dtype = *request->dtype;
    if (request->length > a->max_positions)
        return lode_fail(LODE_ERR_USAGE, "--length %lld: %s has %lld positions; give at most these",
                         (long long)request->length, bench->outline.config,
                         (long long)a->max_positions);
    int64_t length = request->length > 0 ? request->length : a->max_positions;
    length = length < request->tokens ? length : request->tokens;
    lode_set_threads(request->threads);
    return lode_sample_create(&bench->sample, &bench->outline, request->tokens, length,
                              request->layers < a->layers ? request->layers : a->layers,
                              request->threads);
}

lode_status_t lode_bench(const lode_comm_t *comm, const lode_bench_request_t *request) {
    bench_t bench = {.request = request, .comm = comm};
    lode_status_t status = prepare(&bench);
    if (status == LODE_OK)
        status = lode_measure_list(&bench.items, &bench.count, &bench.sample);
    status = lode_comm_agree(comm, status);
    if (status == LODE_OK)
        status = lode_measure_run(comm, bench.items, bench.count, &bench.sample, ENOUGH_SECONDS,
                                  &bench.rounds);
    if (status == LODE_OK)
        status = lode_comm_agree(comm, comm->rank == 0 ? report(&bench) : LODE_OK);
    json_decref(bench.json);
    lode_buffer_free(&bench.table);
    free(bench.items);
    lode_sample_free(&bench.sample);
    lode_outline_close(&bench.outline);
    return status;
}
