/* The backward of whole layers against central finite differences, in double precision, for what
 * each model family's layer is made of, and for more at once than any of them has. */
#include "testing/cmocka_all.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layer.h"
#include "testing/compare.h"

/* --- helpers -------------------------------------------------------------------------------- */

static uint64_t random_state = 1;

static double random_unit(void) { /* uniform in [−1, 1) */
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(random_state >> 11) / 4503599627370496.0 - 1.0;
}

static void *owned[512];
static int owned_count = 0;

static double *doubles(int64_t count) {
    assert_in_range(owned_count, 0, 511);
    double *memory = calloc((size_t)count + 1, sizeof *memory);
    assert_non_null(memory);
    owned[owned_count++] = memory;
    return memory;
}

static double *random_array(int64_t count, double scale, double centre) {
    double *array = doubles(count);
    for (int64_t i = 0; i < count; i++)
        array[i] = centre + scale * random_unit();
    return array;
}

static int release(void **state) {
    (void)state;
    while (owned_count > 0)
        free(owned[--owned_count]);
    return 0;
}

static double dot(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* --- layers --------------------------------------------------------------------------------- */

enum { D = 12, M = 20, HEADS = 4, GROUPS = 2, DIM = 6 };
enum { QUERY = HEADS * DIM, KEY = GROUPS * DIM };

/* What a layer is made of beside its matrices; zeros are the plainest thing. */
typedef struct recipe {
    const char *name;
    lode_norm_kind_t norm, post, qk; /* NONE where there is none */
    bool norm_offset;                /* of all but those of queries and keys */
    bool qk_whole;                   /* the norm of queries and keys is over all heads */
    bool norm_bias, qkv_bias, output_bias, ffn_bias, edit_bias;
    lode_activation_t activation;
    bool ungated, transposed;
    double clip, cap;
    int64_t window;
    int64_t unturned; /* dimensions of a head */
    lode_rotary_kind_t rotary;
    int64_t channels; /* kept, 0: all; −1: none at all */
} recipe_t;

static const recipe_t recipes[] = {
    {.name = "llama", .norm = LODE_NORM_RMS, .rotary = LODE_ROTARY_DEFAULT},
    {.name = "llama with biases",
     .norm = LODE_NORM_RMS,
     .rotary = LODE_ROTARY_LLAMA3,
     .qkv_bias = true,
     .output_bias = true,
     .ffn_bias = true,
     .channels = 7},
    {.name = "mistral", .norm = LODE_NORM_RMS, .rotary = LODE_ROTARY_DEFAULT, .window = 3},
    {.name = "qwen2",
     .norm = LODE_NORM_RMS,
     .rotary = LODE_ROTARY_YARN,
     .qkv_bias = true,
     .window = 4},
    {.name = "qwen3", .norm = LODE_NORM_RMS, .qk = LODE_NORM_RMS, .rotary = LODE_ROTARY_DEFAULT},
    {.name = "olmo", .norm = LODE_NORM_LAYER, .clip = 0.6, .rotary = LODE_ROTARY_DEFAULT},
    {.name = "olmo2",
     .post = LODE_NORM_RMS,
     .qk = LODE_NORM_RMS,
     .qk_whole = true,
     .rotary = LODE_ROTARY_DEFAULT},
    {.name = "gemma2",
     .norm = LODE_NORM_RMS,
     .post = LODE_NORM_RMS,
     .norm_offset = true,
     .activation = LODE_ACTIVATION_GELU_TANH,
     .cap = 0.8,
     .window = 3,
     .rotary = LODE_ROTARY_DEFAULT},
    {.name = "phi3",
     .norm = LODE_NORM_RMS,
     .rotary = LODE_ROTARY_LONGROPE,
     .unturned = 2,
     .window = 5},
    {.name = "gpt2",
     .norm = LODE_NORM_LAYER,
     .norm_bias = true,
     .qkv_bias = true,
     .output_bias = true,
     .ffn_bias = true,
     .activation = LODE_ACTIVATION_GELU_TANH,
     .ungated = true,
     .transposed = true,
     .channels = 9},
    {.name = "everything",
     .norm = LODE_NORM_LAYER,
     .post = LODE_NORM_LAYER,
     .qk = LODE_NORM_LAYER,
     .norm_bias = true,
     .qkv_bias = true,
     .output_bias = true,
     .ffn_bias = true,
     .edit_bias = true,
     .activation = LODE_ACTIVATION_GELU,
     .transposed = true,
     .clip = 0.9,
     .cap = 0.7,
     .window = 2,
     .unturned = 4,
     .rotary = LODE_ROTARY_DYNAMIC,
     .channels = 5},
    {.name = "no channels", .norm = LODE_NORM_RMS, .rotary = LODE_ROTARY_DEFAULT, .channels = -1},
    {.name = "no channels, post-norms and a bias",
     .post = LODE_NORM_RMS,
     .edit_bias = true,
     .ungated = true,
     .channels = -1},
};

static lode_rotary_t rotary_of(const recipe_t *recipe) {
    lode_rotary_t rotary = {.kind = recipe->rotary,
                            .dims = DIM - recipe->unturned,
                            .theta = 100,
                            .factor = 2,
                            .low_frequency = 1,
                            .high_frequency = 4,
                            .beta_fast = 32,
                            .beta_slow = 1,
                            .truncate = true,
                            .original_positions = 6, /* some sequences are longer */
                            .attention_factor = recipe->rotary > LODE_ROTARY_LLAMA3 ? 1.2 : 1};
    for (int i = 0; i < DIM; i++) {
        rotary.short_factor[i] = 1 + 0.1 * i;
        rotary.long_factor[i] = 1.5 + i;
    }
    return rotary;
}

/* Matrices lie in float, which the checkpoints have. */
static lode_weight_t weight_of(const recipe_t *recipe, int64_t rows, int64_t cols, bool bias) {
    const int64_t lines = recipe->transposed ? cols : rows;
    lode_tensor_t tensor = {.rank = 2, .shape = {rows, cols}, .transposed = recipe->transposed};
    tensor.pitch = (recipe->transposed ? rows : cols) + 3;
    float *data = (float *)doubles(lines * tensor.pitch);
    for (int64_t i = 0; i < lines * tensor.pitch; i++)
        data[i] = (float)(0.5 * random_unit());
    tensor.data = data;
    lode_weight_t weight = lode_weight_of(&tensor);
    weight.bias = bias ? random_array(rows, 0.5, 0) : NULL;
    return weight;
}

static lode_norm_t norm_of(lode_norm_kind_t kind, int64_t width, bool bias) {
    return (lode_norm_t){.kind = kind,
                         .width = width,
                         .eps = 1e-5,
                         .weight = random_array(width, 0.4, 1),
                         .bias = bias ? random_array(width, 0.4, 0) : NULL};
}

static void select_channels(lode_layer_t *layer, int64_t count) {
    int32_t *kept = (int32_t *)doubles(M);
    layer->m = count;
    for (int32_t i = 0; i < count; i++)
        kept[i] = 2 * i + 1;
    layer->gate.row_index = layer->up.row_index = layer->down.col_index = kept;
    layer->gate.out = layer->up.out = layer->down.in = count;
}

static lode_layer_t layer_of(const recipe_t *recipe, const lode_rotary_t *rotary, int64_t longest) {
    const int64_t qk = recipe->qk_whole ? 0 : DIM;
    lode_layer_t layer = {
        .d = D,
        .m = M,
        .attention = {HEADS, GROUPS, DIM, .scale = 0.5, .cap = recipe->cap,
                      .window = recipe->window},
        .attention_norm = norm_of(recipe->norm, D, recipe->norm_bias),
        .attention_post_norm = norm_of(recipe->post, D, recipe->norm_bias),
        .ffn_norm = norm_of(recipe->norm, D, recipe->norm_bias),
        .ffn_post_norm = norm_of(recipe->post, D, recipe->norm_bias),
        .q_norm = norm_of(recipe->qk, qk ? qk : QUERY, recipe->norm_bias),
        .k_norm = norm_of(recipe->qk, qk ? qk : KEY, recipe->norm_bias),
        .clip = recipe->clip,
        .q = weight_of(recipe, QUERY, D, recipe->qkv_bias),
        .k = weight_of(recipe, KEY, D, recipe->qkv_bias),
        .v = weight_of(recipe, KEY, D, recipe->qkv_bias),
        .o = weight_of(recipe, D, QUERY, recipe->output_bias),
        .activation = recipe->activation,
        .up = weight_of(recipe, M, D, recipe->ffn_bias),
        .down = weight_of(recipe, D, M, recipe->ffn_bias),
        .bias = recipe->edit_bias ? random_array(D, 0.5, 0) : NULL,
    };
    if (!recipe->ungated)
        layer.gate = weight_of(recipe, M, D, recipe->ffn_bias);
    if (recipe->channels != 0)
        select_channels(&layer, recipe->channels > 0 ? recipe->channels : 0);
    lode_norm_t *norms[] = {&layer.attention_norm, &layer.attention_post_norm, &layer.ffn_norm,
                            &layer.ffn_post_norm};
    for (int i = 0; i < 4; i++)
        norms[i]->offset = recipe->norm_offset;
    layer.rope = lode_rope_create(rotary, longest, doubles(lode_rope_memory(rotary, longest)));
    return layer;
}

/* --- finite differences --------------------------------------------------------------------- */

typedef struct layer_case {
    lode_layer_t layer;
    lode_sequences_t sequences;
    lode_activations_t act;
    int64_t tokens;
    double *x, *y, *again, *c, *u, *workspace; /* c: the functional is Σ c·y */
} layer_case_t;

static layer_case_t case_of(const recipe_t *recipe, const lode_rotary_t *rotary,
                            const int64_t *offsets, int64_t count) {
    layer_case_t l = {.sequences = {count, offsets}, .tokens = offsets[count]};
    const int64_t tokens = l.tokens;
    int64_t longest = 0;
    for (int64_t s = 0; s < count; s++)
        longest = offsets[s + 1] - offsets[s] > longest ? offsets[s + 1] - offsets[s] : longest;
    l.layer = layer_of(recipe, rotary, longest);
    l.x = random_array(tokens * D, 1, 0.1);
    l.y = doubles(tokens * D);
    l.again = doubles(tokens * D);
    l.c = random_array(tokens * D, 1, 0);
    l.u = doubles(tokens * M);
    l.workspace = doubles(lode_layer_workspace(&l.layer, tokens, longest, 1));
    l.act.x = l.x;
    lode_activations_place(&l.act, &l.layer, tokens,
                           doubles(tokens * lode_activations_per_token(&l.layer)));
    return l;
}

static double of_x(void *context) {
    layer_case_t *l = context;
    lode_layer_forward(&l->layer, &l->sequences, &l->act, l->y, l->workspace, NULL, NULL);
    return dot(l->y, l->c, l->tokens * D);
}

/* From u on, with the rest as it is. */
static double of_u(void *context) {
    layer_case_t *l = context;
    lode_layer_finish(&l->layer, &l->sequences, &l->act, l->u, l->again, l->workspace);
    return dot(l->again, l->c, l->tokens * D);
}

static void check_gradient(const char *recipe, const char *name, double (*functional)(void *),
                           void *context, double *x, const double *gradient, int64_t count) {
    double scale = 0;
    char label[128];
    snprintf(label, sizeof label, "%s: %s", recipe, name);
    for (int64_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(gradient[i]));
    assert_true(scale > 1e-8); /* a gradient of zeros would check nothing */
    for (int64_t i = 0; i < count; i += 1 + count / 90) {
        const double saved = x[i], h = 1e-6;
        x[i] = saved + h;
        const double up = functional(context);
        x[i] = saved - h;
        const double down = functional(context);
        x[i] = saved;
        const double numeric = (up - down) / (2 * h);
        LODE_ASSERT_CLOSE(
            lode_compare_f64(label, &gradient[i], 1, &numeric, 1, 1e-6 * scale, 1e-6));
    }
}

/* The forward again without y leaves the very activations that the backward needs. */
static void forward_again(layer_case_t *l) {
    const int64_t reals = l->tokens * lode_activations_per_token(&l->layer);
    double *kept = doubles(reals), *start = l->act.q; /* the first of all */
    memcpy(kept, start, (size_t)reals * sizeof *kept);
    memset(start, 0, (size_t)reals * sizeof *start);
    lode_layer_forward(&l->layer, &l->sequences, &l->act, NULL, l->workspace, NULL, NULL);
    assert_memory_equal(kept, start, (size_t)reals * sizeof *kept);
}

static void check_layer(const recipe_t *recipe, const int64_t *offsets, int64_t count) {
    const lode_rotary_t rotary = rotary_of(recipe);
    layer_case_t l = case_of(recipe, &rotary, offsets, count);
    const int64_t channels = l.tokens * l.layer.m;
    const double *h, *u, *du;
    double *dx = doubles(l.tokens * D), *kept_du = doubles(channels);
    lode_layer_forward(&l.layer, &l.sequences, &l.act, l.y, l.workspace, &h, &u);
    memcpy(l.u, u, (size_t)channels * sizeof *u);
    lode_layer_finish(&l.layer, &l.sequences, &l.act, l.u, l.again, l.workspace);
    assert_memory_equal(l.y, l.again, (size_t)(l.tokens * D) * sizeof *l.y);
    forward_again(&l);
    memcpy(dx, l.c, (size_t)(l.tokens * D) * sizeof *dx);
    lode_layer_backward_ffn(&l.layer, &l.sequences, &l.act, dx, l.workspace, NULL, &u, &du);
    assert_memory_equal(l.u, u, (size_t)channels * sizeof *u);
    memcpy(kept_du, du, (size_t)channels * sizeof *du);
    lode_layer_backward_rest(&l.layer, &l.sequences, &l.act, dx, l.workspace, NULL);
    if (channels > 0)
        check_gradient(recipe->name, "du", of_u, &l, l.u, kept_du, channels);
    check_gradient(recipe->name, "dx", of_x, &l, l.x, dx, l.tokens * D);
    release(NULL);
}

static void layers(void **state) {
    (void)state;
    const int64_t several[] = {0, 5, 6, 15}, single[] = {0, 1};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        check_layer(&recipes[i], several, 3);
        check_layer(&recipes[i], single, 1);
    }
}

/* --- weights -------------------------------------------------------------------------------- */

/* A weight or a vector of a layer, and its gradient. */
typedef struct parameter {
    char name[40];
    const lode_weight_t *weight; /* NULL: a vector */
    double *vector;              /* [count] */
    int64_t count;
    lode_gradient_t gradient; /* a vector's is in its data alone */
} parameter_t;

enum { PARAMETERS = 2 * LODE_MATRICES + 8, GRADIENT_GAP = 2 };

typedef struct parameters {
    parameter_t list[PARAMETERS];
    int count;
    lode_layer_gradient_t gradient;
} parameters_t;

/* The tests may change what a layer only reads. */
static double *writable(const double *vector) {
    double *same;
    memcpy(&same, &vector, sizeof same);
    return same;
}

static void add_vector(parameters_t *all, const char *name, const double *vector, int64_t count,
                       double **place) {
    if (!vector)
        return;
    parameter_t *parameter = &all->list[all->count++];
    snprintf(parameter->name, sizeof parameter->name, "%s", name);
    parameter->vector = writable(vector);
    parameter->count = count;
    parameter->gradient.data = *place = random_array(count, 1, 0);
}

static void add_matrix(parameters_t *all, lode_layer_matrix_t which, const lode_weight_t *weight) {
    char name[40];
    if (!weight->data)
        return;
    parameter_t *parameter = &all->list[all->count++];
    lode_gradient_t *gradient = &all->gradient.matrix[which];
    snprintf(parameter->name, sizeof parameter->name, "%s", lode_matrix_name(which));
    parameter->weight = weight;
    gradient->transposed = weight->transposed;
    gradient->pitch = (weight->transposed ? weight->rows : weight->cols) + GRADIENT_GAP;
    gradient->data =
        random_array((weight->transposed ? weight->cols : weight->rows) * gradient->pitch, 1, 0);
    parameter->gradient = *gradient;
    snprintf(name, sizeof name, "%s bias", lode_matrix_name(which));
    add_vector(all, name, weight->bias, weight->rows, &gradient->bias);
}

/* Every weight of a layer; their gradients start at random values. */
static parameters_t parameters_of(lode_layer_t *layer) {
    parameters_t all = {.count = 0};
    lode_layer_gradient_t *g = &all.gradient;
    const struct {
        const char *name;
        const lode_norm_t *norm;
        double **weight, **bias;
    } norms[] = {
        {"attention norm", &layer->attention_norm, &g->attention_norm, &g->attention_norm_bias},
        {"attention post norm", &layer->attention_post_norm, &g->attention_post_norm, NULL},
        {"ffn norm", &layer->ffn_norm, &g->ffn_norm, &g->ffn_norm_bias},
        {"ffn post norm", &layer->ffn_post_norm, &g->ffn_post_norm, NULL},
        {"q norm", &layer->q_norm, &g->q_norm, NULL},
        {"k norm", &layer->k_norm, &g->k_norm, NULL},
    };
    for (int i = 0; i < LODE_MATRICES; i++)
        add_matrix(&all, (lode_layer_matrix_t)i, lode_layer_matrix(layer, (lode_layer_matrix_t)i));
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s bias", norms[i].name);
        if (norms[i].norm->kind == LODE_NORM_NONE)
            continue;
        add_vector(&all, norms[i].name, norms[i].norm->weight, norms[i].norm->width,
                   norms[i].weight);
        if (norms[i].bias)
            add_vector(&all, name, norms[i].norm->bias, norms[i].norm->width, norms[i].bias);
    }
    return all;
}

static int64_t gradient_reals(const parameter_t *parameter) {
    const lode_weight_t *w = parameter->weight;
    return w ? (w->transposed ? w->cols : w->rows) * parameter->gradient.pitch : parameter->count;
}

/* Moves element i of a parameter by about `step`; returns by how much, as floats allow. */
static double move(const parameter_t *parameter, int64_t i, double step) {
    const lode_weight_t *w = parameter->weight;
    if (!w) {
        parameter->vector[i] += step;
        return step;
    }
    const int64_t row = i / w->cols, col = i % w->cols;
    float *data =
        (float *)(uintptr_t)w->data + (w->transposed ? col * w->pitch + row : row * w->pitch + col);
    const float before = *data;
    *data = before + (float)step;
    return (double)*data - (double)before;
}

static double gradient_at(const parameter_t *parameter, const double *values, int64_t i) {
    const lode_weight_t *w = parameter->weight;
    const int64_t pitch = parameter->gradient.pitch;
    if (!w)
        return values[i];
    const int64_t row = i / w->cols, col = i % w->cols;
    return values[w->transposed ? col * pitch + row : row * pitch + col];
}

/* What the backward added to a parameter's gradient against differences of the functional. */
static void check_parameter(layer_case_t *l, const recipe_t *recipe, const parameter_t *parameter,
                            const double *before) {
    /* The softmax does not see what all keys have in common, unless they are turned. */
    const bool nothing =
        recipe->rotary == LODE_ROTARY_NONE && strcmp(parameter->name, "k bias") == 0;
    const int64_t count =
        parameter->weight ? parameter->weight->rows * parameter->weight->cols : parameter->count;
    char label[128];
    double scale = 0;
    snprintf(label, sizeof label, "%s: %s", recipe->name, parameter->name);
    for (int64_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(gradient_at(parameter, parameter->gradient.data, i) -
                                 gradient_at(parameter, before, i)));
    if ((scale < 1e-8) != nothing)
        fail_msg("%s: the largest is %g", label, scale);
    scale += nothing;
    for (int64_t i = 0; i < count; i += 1 + count / 60) {
        const double added =
            gradient_at(parameter, parameter->gradient.data, i) - gradient_at(parameter, before, i);
        const double h = 2e-5, upwards = move(parameter, i, h), up = of_x(l);
        const double downwards = move(parameter, i, -2 * h), down = of_x(l);
        move(parameter, i, -(upwards + downwards)); /* exactly back */
        const double numeric = (up - down) / -downwards;
        LODE_ASSERT_CLOSE(lode_compare_f64(label, &added, 1, &numeric, 1, 2e-6 * scale, 1e-6));
    }
    /* What lies between the lines is not touched. */
    const int64_t pitch = parameter->gradient.pitch;
    for (int64_t i = 0; parameter->weight && i < gradient_reals(parameter); i++)
        if (i % pitch >= pitch - GRADIENT_GAP)
            assert_true(parameter->gradient.data[i] == before[i]);
}

/* Adds the gradients of Σ c·y; returns dx. */
static double *backward(layer_case_t *l, const lode_layer_gradient_t *gradient) {
    const double *u, *du;
    double *dx = doubles(l->tokens * D);
    of_x(l);
    memcpy(dx, l->c, (size_t)(l->tokens * D) * sizeof *dx);
    lode_layer_backward_ffn(&l->layer, &l->sequences, &l->act, dx, l->workspace, gradient, &u, &du);
    lode_layer_backward_rest(&l->layer, &l->sequences, &l->act, dx, l->workspace, gradient);
    return dx;
}

static void check_weights(const recipe_t *recipe, const int64_t *offsets, int64_t count) {
    const lode_rotary_t rotary = rotary_of(recipe);
    layer_case_t l = case_of(recipe, &rotary, offsets, count);
    parameters_t all = parameters_of(&l.layer);
    double *before[PARAMETERS];
    for (int i = 0; i < all.count; i++) {
        const int64_t reals = gradient_reals(&all.list[i]);
        before[i] = doubles(reals);
        memcpy(before[i], all.list[i].gradient.data, (size_t)reals * sizeof(double));
    }
    const double *plain = backward(&l, NULL), *dx = backward(&l, &all.gradient);
    assert_memory_equal(plain, dx, (size_t)(l.tokens * D) * sizeof *dx);
    for (int i = 0; i < all.count; i++)
        check_parameter(&l, recipe, &all.list[i], before[i]);
    release(NULL);
}

static void weights(void **state) {
    (void)state;
    const int64_t several[] = {0, 5, 6, 15}, single[] = {0, 2};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        recipe_t recipe = recipes[i];
        if (recipe.channels < 0)
            continue;
        recipe.channels = 0;
        check_weights(&recipe, several, 3);
        check_weights(&recipe, single, 1);
    }
}

/* Gradients of two micro-batches add up, and those that are not wanted are left out. */
static void accumulation(void **state) {
    (void)state;
    const int64_t offsets[] = {0, 4, 9};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        recipe_t recipe = recipes[i];
        if (recipe.channels < 0)
            continue;
        recipe.channels = 0;
        const lode_rotary_t rotary = rotary_of(&recipe);
        layer_case_t l = case_of(&recipe, &rotary, offsets, 2);
        parameters_t sum = parameters_of(&l.layer), first = parameters_of(&l.layer),
                     second = parameters_of(&l.layer);
        for (int p = 0; p < sum.count; p++) {
            const size_t bytes = (size_t)gradient_reals(&sum.list[p]) * sizeof(double);
            memset(sum.list[p].gradient.data, 0, bytes);
            memset(first.list[p].gradient.data, 0, bytes);
            memset(second.list[p].gradient.data, 0, bytes);
        }
        backward(&l, &sum.gradient);
        backward(&l, &first.gradient);
        const lode_layer_gradient_t none = {0};
        backward(&l, &none);
        memcpy(l.x, random_array(l.tokens * D, 1, 0.1), (size_t)(l.tokens * D) * sizeof *l.x);
        memcpy(l.c, random_array(l.tokens * D, 1, 0), (size_t)(l.tokens * D) * sizeof *l.c);
        backward(&l, &sum.gradient);
        backward(&l, &second.gradient);
        for (int p = 0; p < sum.count; p++) {
            const int64_t reals = gradient_reals(&sum.list[p]);
            double *want = first.list[p].gradient.data;
            for (int64_t j = 0; j < reals; j++)
                want[j] += second.list[p].gradient.data[j];
            LODE_ASSERT_CLOSE(lode_compare_f64(sum.list[p].name, sum.list[p].gradient.data, reals,
                                               want, reals, 1e-12, 1e-12));
        }
        release(NULL);
    }
}

/* --- neighbours ------------------------------------------------------------------------------ */

/* A sequence sees nothing of those beside it in the micro-batch, also where what it turns by
 * depends on its length. */
static void sequences(void **state) {
    (void)state;
    static const int64_t together[] = {0, 5, 14, 21}, alone[] = {0, 9};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        const lode_rotary_t rotary = rotary_of(&recipes[i]);
        layer_case_t l = case_of(&recipes[i], &rotary, together, 3);
        of_x(&l);
        double want[9 * D];
        memcpy(want, l.y + 5 * D, sizeof want);
        memmove(l.x, l.x + 5 * D, sizeof want);
        l.sequences = (lode_sequences_t){1, alone};
        l.tokens = 9;
        of_x(&l);
        LODE_ASSERT_CLOSE(lode_compare_f64(recipes[i].name, l.y, 9 * D, want, 9 * D, 1e-13, 1e-12));
        release(NULL);
    }
}

/* Only what a layer needs is kept: nothing more than a Llama's for one without post-norms. */
static void sizes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        const recipe_t *recipe = &recipes[i];
        const lode_rotary_t rotary = rotary_of(recipe);
        const lode_layer_t layer = layer_of(recipe, &rotary, 9);
        int64_t want = 2 * QUERY + 2 * KEY + D + (recipe->ungated ? 1 : 2) * layer.m + 2 +
                       2 * layer.attention.heads;
        want += recipe->post == LODE_NORM_NONE ? 0 : 2 * (D + 1);
        assert_int_equal(lode_activations_per_token(&layer), want);
        release(NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(layers, release),
        cmocka_unit_test_teardown(weights, release),
        cmocka_unit_test_teardown(accumulation, release),
        cmocka_unit_test_teardown(sequences, release),
        cmocka_unit_test_teardown(sizes, release),
    };
    lode_set_threads(1);
    return cmocka_run_group_tests_name("layer gradients", tests, NULL, NULL);
}
