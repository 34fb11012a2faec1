/* The pipeline's times by the simulated clock: equal stages, published models, variants. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "comm/partition.h"
#include "testing/compare.h"
#include "testing/data.h"
#include "transformer/layout.h"
#include "transformer/simulate.h"

enum { MAX_STAGES = 9, MAX_BATCHES = 64 };
static const int stage_counts[] = {1, 2, 3, 4, 5, 8};
enum { COUNTS = sizeof stage_counts / sizeof *stage_counts };

typedef struct pipeline {
    double forward[MAX_STAGES], backward[MAX_STAGES];
    int stages;
} pipeline_t;

static pipeline_t equal_stages(int stages, double forward, double backward) {
    pipeline_t pipeline = {.stages = stages};
    for (int s = 0; s < stages; s++) {
        pipeline.forward[s] = forward;
        pipeline.backward[s] = backward;
    }
    return pipeline;
}

static lode_simulated_t time_of(const pipeline_t *pipeline, int64_t batches, bool backward,
                                double message) {
    lode_simulated_t simulated;
    double busy[MAX_STAGES];
    LODE_ASSERT_OK(
        lode_simulate(&simulated, busy,
                      &(lode_simulation_t){.stages = pipeline->stages,
                                           .batches = batches,
                                           .variants = 1,
                                           .forward = pipeline->forward,
                                           .backward = backward ? pipeline->backward : NULL,
                                           .message = message}));
    for (int s = 0; s < pipeline->stages; s++) {
        const double own = pipeline->forward[s] + (backward ? pipeline->backward[s] : 0);
        assert_true(fabs(busy[s] - (double)batches * own) <= 1e-12 * busy[s]);
    }
    return simulated;
}

/* What no order of work can undercut: a stage waits for the first forward of those before it, and
 * they for its last backward. */
static double least_time(const pipeline_t *pipeline, int64_t batches, bool backward,
                         double message) {
    double least = 0, before = 0, through = 0;
    for (int s = 0; s < pipeline->stages; s++) {
        const double own = pipeline->forward[s] + (backward ? pipeline->backward[s] : 0);
        least = fmax(least, before + (double)batches * own);
        before += own + message * (backward ? 2 : 1);
        through += own + (s > 0 ? message * (backward ? 2 : 1) : 0);
    }
    return batches > 0 ? fmax(least, through) : 0;
}

static double dearest(const pipeline_t *pipeline, bool backward) {
    double most = 0;
    for (int s = 0; s < pipeline->stages; s++)
        most = fmax(most, pipeline->forward[s] + (backward ? pipeline->backward[s] : 0));
    return most;
}

/* Whole durations are exact in double, so efficiency is M/(M + P − 1) to the bit. */
static void exact(void **state) {
    (void)state;
    const double costs[][2] = {{1, 1}, {3, 5}, {5, 3}, {7, 2}, {1, 9}};
    for (size_t c = 0; c < sizeof costs / sizeof *costs; c++)
        for (int stages = 1; stages <= MAX_STAGES; stages++)
            for (int64_t batches = 0; batches <= MAX_BATCHES; batches++)
                for (int backward = 0; backward < 2; backward++) {
                    const pipeline_t pipeline = equal_stages(stages, costs[c][0], costs[c][1]);
                    const lode_simulated_t got = time_of(&pipeline, batches, backward, 0);
                    const double each = costs[c][0] + (backward ? costs[c][1] : 0);
                    const double ideal = lode_simulate_ideal(stages, batches, each);
                    assert_true(got.makespan == ideal);
                    assert_true(got.busy == (double)batches * each);
                    const double bubble = batches > 0 ? (stages - 1) * each / ideal : 0;
                    assert_true(fabs(got.bubble - bubble) < 1e-15);
                }
}

/* By hand, two stages: forwards take 2, backwards 3, messages 1.
 * Stage 0: F0 0–2, F1 2–4, B0 9–12, F2 12–14, B1 14–17, B2 21–24.
 * Stage 1: F0 3–5, B0 5–8, F1 8–10, B1 10–13, F2 15–17, B2 17–20. */
static void by_hand(void **state) {
    (void)state;
    const pipeline_t pipeline = equal_stages(2, 2, 3);
    assert_true(time_of(&pipeline, 1, true, 1).makespan == 12);
    assert_true(time_of(&pipeline, 2, true, 1).makespan == 17);
    assert_true(time_of(&pipeline, 3, true, 1).makespan == 24);
    assert_true(time_of(&pipeline, 3, false, 1).makespan == 9);
}

/* A slow second stage: the first one's forwards wait for buffers, four messages ahead at most.
 * Nothing is lost by that. A slow link: one message at a time. */
static void buffers(void **state) {
    (void)state;
    const pipeline_t slow = {.stages = 2, .forward = {1, 10}, .backward = {1, 10}};
    assert_true(time_of(&slow, 20, false, 0).makespan == 1 + 20 * 10);
    assert_true(time_of(&slow, 20, true, 0).makespan == 2 + 20 * 20);
    const pipeline_t quick = equal_stages(2, 1, 1);
    assert_true(time_of(&quick, 20, false, 10).makespan == 1 + 20 * 10 + 1);
}

/* Messages that take up to a hundredth of a stage's share. */
static void equal_with_messages(void **state) {
    (void)state;
    const double costs[][2] = {{1, 1}, {1, 2}, {2, 1}, {1, 2.5}}, messages[] = {0, 0.001, 0.01};
    for (size_t c = 0; c < sizeof costs / sizeof *costs; c++)
        for (int p = 0; p < COUNTS; p++)
            for (int64_t batches = 1; batches <= MAX_BATCHES; batches++)
                for (int backward = 0; backward < 2; backward++)
                    for (size_t m = 0; m < sizeof messages / sizeof *messages; m++) {
                        const pipeline_t pipeline =
                            equal_stages(stage_counts[p], costs[c][0], costs[c][1]);
                        const double each = dearest(&pipeline, backward);
                        const double message = messages[m] * each;
                        const double got = time_of(&pipeline, batches, backward, message).makespan;
                        const double ideal = lode_simulate_ideal(stage_counts[p], batches, each);
                        const double least = least_time(&pipeline, batches, backward, message);
                        assert_true(got >= least * (1 - 1e-12));
                        assert_true(got >= ideal * (1 - 1e-12) && got <= 1.05 * ideal);
                    }
}

/* Stages of any costs: never under the bound, never above alike stages of the dearest forward and
 * the dearest backward. */
static void unequal(void **state) {
    (void)state;
    unsigned random = 1;
    for (int draw = 0; draw < 400; draw++) {
        pipeline_t pipeline = {.stages = 1 + draw % MAX_STAGES};
        double forward = 0, backward = 0;
        for (int s = 0; s < pipeline.stages; s++) {
            pipeline.forward[s] = 1 + (random = random * 1103515245u + 12345u) / 65536 % 20;
            pipeline.backward[s] = 1 + (random = random * 1103515245u + 12345u) / 65536 % 20;
            forward = fmax(forward, pipeline.forward[s]);
            backward = fmax(backward, pipeline.backward[s]);
        }
        const int64_t batches = 1 + draw % 23;
        for (int both = 0; both < 2; both++) {
            const double message = draw % 3 ? 0 : 1;
            const double got = time_of(&pipeline, batches, both, message).makespan;
            assert_true(got >= least_time(&pipeline, batches, both, message));
            if (message == 0)
                assert_true(got <= lode_simulate_ideal(pipeline.stages, batches,
                                                       forward + (both ? backward : 0)));
        }
    }
}

/* Variants that share what lies below: later stages alone work on them. Two stages, forwards of 2:
 * 0 and 2 on stage 0, all four on stage 1, each of which costs 3, 1, 3, 1. */
static void variants(void **state) {
    (void)state;
    const double forward[] = {2, 3, 0, 1};
    const int first_stage[] = {0, 1};
    lode_simulation_t simulation = {
        .stages = 2, .batches = 2, .variants = 2, .forward = forward, .first_stage = first_stage};
    lode_simulated_t got;
    double busy[2];
    LODE_ASSERT_OK(lode_simulate(&got, busy, &simulation));
    assert_true(got.makespan == 2 + 3 + 1 + 3 + 1 && busy[0] == 4 && busy[1] == 8);
    simulation.batches = 100;
    LODE_ASSERT_OK(lode_simulate(&got, busy, &simulation));
    assert_true(got.makespan == 2 + 400 && got.busy == 400);
    simulation.first_stage = NULL; /* messages for all: nothing changes but the waiting */
    LODE_ASSERT_OK(lode_simulate(&got, NULL, &simulation));
    assert_true(got.makespan == 2 + 400);
}

static void many(void **state) {
    (void)state;
    double each[80];
    for (int s = 0; s < 80; s++)
        each[s] = 1;
    lode_simulated_t got;
    LODE_ASSERT_OK(lode_simulate(
        &got, NULL,
        &(lode_simulation_t){
            .stages = 80, .batches = 10000, .variants = 1, .forward = each, .backward = each}));
    assert_true(got.makespan == (10000 + 79) * 2);
}

/* --- published models ----------------------------------------------------------------------- */

enum { LENGTH = 2048, MAX_PARTS = 128 };
static const double rate = 1e12;   /* flops a rank makes a second */
static const double network = 2e9; /* bytes a second between two of them */

typedef enum work { FORWARD, KEPT, RECOMPUTED } work_t;

/* Seconds of each layer and, last, of the head, whose gradient its forward includes. The backward
 * of attention has five products for the forward's two, that of the first layer ends at its
 * channels. */
typedef struct parts {
    int64_t count;
    double forward[MAX_PARTS], backward[MAX_PARTS], both[MAX_PARTS];
} parts_t;

static void parts_of(parts_t *parts, const lode_architecture_t *architecture, work_t kind) {
    const double tokens = LENGTH / rate;
    const double down = 2.0 * (double)(architecture->hidden * architecture->intermediate);
    *parts = (parts_t){.count = architecture->layers + 1};
    for (int64_t l = 0; l < architecture->layers; l++) {
        const double forward = (double)lode_architecture_layer_flops(architecture, l, LENGTH);
        const double attention =
            forward - (double)lode_architecture_layer_flops(architecture, l, 0);
        const double again = kind == RECOMPUTED ? forward - down : 0;
        parts->forward[l] = tokens * forward;
        if (kind != FORWARD)
            parts->backward[l] = tokens * (again + (l > 0 ? forward + 1.5 * attention : down));
    }
    parts->forward[parts->count - 1] =
        tokens * (kind == FORWARD ? 1 : 2) * (double)lode_architecture_head_flops(architecture);
    for (int64_t i = 0; i < parts->count; i++)
        parts->both[i] = parts->forward[i] + parts->backward[i];
}

/* The ranks' times as lode_layout_create divides the model. */
static pipeline_t laid_out(const lode_architecture_t *architecture, const parts_t *parts,
                           int stages) {
    pipeline_t pipeline = {.stages = stages};
    for (int s = 0; s < stages; s++) {
        lode_layout_t layout;
        LODE_ASSERT_OK(lode_layout_create(&layout, architecture, LENGTH, stages, s, 1));
        assert_int_equal(layout.stages, stages);
        const int64_t end = layout.layer_end + (layout.head ? 1 : 0);
        for (int64_t i = layout.first_layer; i < end; i++) {
            pipeline.forward[s] += parts->forward[i];
            pipeline.backward[s] += parts->backward[i];
        }
    }
    return pipeline;
}

/* The dearest stage of the best contiguous division. */
static double best_share(const parts_t *parts, int stages) {
    int64_t first[MAX_STAGES + 1];
    double most = 0;
    LODE_ASSERT_OK(lode_partition_contiguous(parts->both, parts->count, stages, first));
    for (int s = 0; s < stages; s++) {
        double sum = 0;
        for (int64_t i = first[s]; i < first[s + 1]; i++)
            sum += parts->both[i];
        most = fmax(most, sum);
    }
    return most;
}

static void check_division(const char *name, const lode_architecture_t *architecture, int stages,
                           work_t kind) {
    static const char *const kinds[] = {"forward", "kept", "recomputed"};
    static parts_t parts;
    parts_of(&parts, architecture, kind);
    const pipeline_t pipeline = laid_out(architecture, &parts, stages);
    const bool backward = kind != FORWARD;
    const double message = LENGTH * (double)architecture->hidden * 4 / network;
    const double share = best_share(&parts, stages);
    double sum = 0, worst = 0;
    for (int64_t i = 0; i < parts.count; i++)
        sum += parts.both[i];
    for (int64_t batches = 1; batches <= MAX_BATCHES; batches++) {
        const double got = time_of(&pipeline, batches, backward, message).makespan;
        const double ideal = lode_simulate_ideal(stages, batches, share);
        assert_true(got >= least_time(&pipeline, batches, backward, message) * (1 - 1e-12));
        worst = fmax(worst, got / ideal);
    }
    printf("%-22s %-10s P=%d: %.3f of (M + P - 1)/M times the balanced share at most, which is "
           "%.3f of an equal division\n",
           name, kinds[kind], stages, worst, share * stages / sum);
    assert_true(worst <= 1.05);
}

static void check_model(const char *name) {
    char relative[80], *text;
    size_t size;
    lode_architecture_t architecture;
    snprintf(relative, sizeof relative, "configs/%s.json", name);
    const char *path = lode_test_data(relative);
    assert_non_null(path);
    LODE_ASSERT_OK(lode_file_read(&text, &size, path));
    LODE_ASSERT_OK(lode_architecture_parse(&architecture, text, size, name));
    assert_true(architecture.layers < MAX_PARTS);
    for (int p = 0; p < COUNTS; p++)
        for (work_t kind = FORWARD; kind <= RECOMPUTED; kind++)
            check_division(name, &architecture, stage_counts[p], kind);
    free(text);
}

static void published_models(void **state) {
    (void)state;
    if (!lode_test_data("configs/llama3_1_8b.json"))
        skip();
    check_model("tinyllama_1b_chat_v1.0");
    check_model("llama3_1_8b");
    check_model("llama3_1_70b");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact),   cmocka_unit_test(by_hand),
        cmocka_unit_test(buffers), cmocka_unit_test(equal_with_messages),
        cmocka_unit_test(unequal), cmocka_unit_test(variants),
        cmocka_unit_test(many),    cmocka_unit_test(published_models),
    };
    return cmocka_run_group_tests_name("simulate", tests, NULL, NULL);
}
