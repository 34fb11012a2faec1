#include "kernels/rope.h"

static bool turns(const lode_rotary_t *rotary) {
    return rotary && rotary->kind != LODE_ROTARY_NONE;
}

void lode_rope_fill(const lode_rotary_t *rotary, int64_t length, int64_t positions,
                    lode_real_t *cosines, lode_real_t *sines) {
    const int64_t half = rotary->dims / 2;
    double frequency[LODE_ROTARY_MAX_FREQUENCIES], factor;
    lode_rotary_frequencies(rotary, length, frequency, &factor);
    for (int64_t i = 0; i < half; i++)
        for (int64_t p = 0; p < positions; p++) {
            cosines[p * half + i] = (lode_real_t)(factor * cos((double)p * frequency[i]));
            sines[p * half + i] = (lode_real_t)(factor * sin((double)p * frequency[i]));
        }
}

/* Lengths that tables are made for: that of the longest sequence, and the one from where on the
 * frequencies depend on it, where that makes a difference. */
static int64_t table_lengths(const lode_rotary_t *rotary, int64_t longest,
                             int64_t length[LODE_ROPE_TABLES]) {
    if (!turns(rotary) || longest < 1)
        return 0;
    length[0] = longest;
    length[1] = rotary->original_positions;
    return length[1] < longest && lode_rotary_differs(rotary, length[0], length[1]) ? 2 : 1;
}

int64_t lode_rope_memory(const lode_rotary_t *rotary, int64_t longest) {
    int64_t length[LODE_ROPE_TABLES], reals = 0;
    const int64_t tables = table_lengths(rotary, longest, length);
    for (int64_t i = 0; i < tables; i++)
        reals += length[i] * rotary->dims;
    return reals;
}

lode_rope_t lode_rope_outline(const lode_rotary_t *rotary, int64_t longest) {
    int64_t length[LODE_ROPE_TABLES];
    return (lode_rope_t){.rotary = turns(rotary) ? rotary : NULL,
                         .tables = table_lengths(rotary, longest, length)};
}

lode_rope_t lode_rope_create(const lode_rotary_t *rotary, int64_t longest, lode_real_t *memory) {
    int64_t length[LODE_ROPE_TABLES];
    lode_rope_t rope = {.tables = table_lengths(rotary, longest, length)};
    rope.rotary = turns(rotary) ? rotary : NULL;
    for (int64_t i = 0; i < rope.tables; i++) {
        const int64_t reals = length[i] * (rotary->dims / 2);
        lode_rope_fill(rotary, length[i], length[i], memory, memory + reals);
        rope.table[i] =
            (lode_rope_table_t){.length = length[i], .cosines = memory, .sines = memory + reals};
        memory += 2 * reals;
    }
    return rope;
}

int64_t lode_rope_workspace(const lode_rope_t *rope, int64_t longest) {
    /* Lengths without a table exist where every length has frequencies of its own. */
    return rope->tables == 2 ? longest * rope->rotary->dims : 0;
}

static void turn(int64_t tokens, int64_t heads, int64_t head_dim, int64_t dims, bool inverse,
                 const lode_rope_table_t *table, lode_real_t *x) {
    const int64_t half = dims / 2;
    const lode_real_t direction = inverse ? -1 : 1;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const lode_real_t *c = table->cosines + t * half, *s = table->sines + t * half;
        for (int64_t h = 0; h < heads; h++) {
            lode_real_t *low = x + (t * heads + h) * head_dim, *high = low + half;
            for (int64_t i = 0; i < half; i++) {
                const lode_real_t a = low[i], b = high[i], by = direction * s[i];
                low[i] = a * c[i] - b * by;
                high[i] = b * c[i] + a * by;
            }
        }
    }
}

void lode_rope_turn(const lode_rope_t *rope, int64_t tokens, int64_t heads, int64_t kv_heads,
                    int64_t head_dim, bool inverse, lode_real_t *q, lode_real_t *k,
                    lode_real_t *workspace) {
    if (!rope->rotary || tokens == 0)
        return;
    const int64_t dims = rope->rotary->dims, reals = tokens * (dims / 2);
    const lode_rope_table_t *table = NULL;
    for (int64_t i = 0; i < rope->tables && !table; i++)
        if (tokens <= rope->table[i].length &&
            !lode_rotary_differs(rope->rotary, tokens, rope->table[i].length))
            table = &rope->table[i];
    const lode_rope_table_t own = {
        .length = tokens, .cosines = workspace, .sines = workspace + reals};
    if (!table) {
        lode_rope_fill(rope->rotary, tokens, tokens, workspace, workspace + reals);
        table = &own;
    }
    turn(tokens, heads, head_dim, dims, inverse, table, q);
    turn(tokens, kv_heads, head_dim, dims, inverse, table, k);
}
