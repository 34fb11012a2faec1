#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "superweight/work.h"

/* --- without what was found ------------------------------------------------------------------ */

static int by_place(const void *a, const void *b) {
    const lode_held_t *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->col > y->col) - (x->col < y->col);
}

/* Lists the super weights of a layer behind `first` in both arrays; returns how many. */
static int64_t list_layer(const lode_superweight_work_t *work, int64_t layer, int64_t first,
                          lode_superweight_edits_t *edits) {
    int64_t count = 0;
    for (int64_t i = 0; i < work->count; i++) {
        const lode_superweight_t *found = &work->found[i];
        if (found->layer != layer)
            continue;
        edits->restore[first + count++] =
            (lode_held_t){.row = found->row, .col = found->channel, .value = found->value};
    }
    if (count > 1)
        qsort(edits->restore + first, (size_t)count, sizeof *edits->restore, by_place);
    for (int64_t i = first; i < first + count; i++)
        edits->held[i] = (lode_held_t){.row = edits->restore[i].row, .col = edits->restore[i].col};
    return count;
}

lode_status_t lode_superweight_edit(const lode_superweight_work_t *work, lode_stack_t *stack,
                                    bool restored, lode_superweight_edits_t *edits) {
    if (!stack)
        return LODE_OK;
    lode_superweight_edits_t made = {0};
    lode_status_t status = LODE_NEW(&made.held, work->count, "super weights");
    if (status == LODE_OK)
        status = LODE_NEW(&made.restore, work->count, "super weights");
    if (status == LODE_OK)
        status = LODE_NEW(&made.codec, stack->count, "super weights");
    int64_t first = 0;
    for (int64_t l = 0; l < stack->count && status == LODE_OK; l++) {
        const int64_t count = list_layer(work, stack->first_layer + l, first, &made);
        made.codec[l] = (lode_codec_t){
            .held = made.held + first, .held_count = count, .dtype = stack->whole[l].down.dtype};
        lode_layer_edit_t edit = {.codec[LODE_MATRIX_DOWN] = &made.codec[l]};
        if (restored) {
            edit.restore = made.restore + first;
            edit.restore_count = count;
        }
        lode_stack_edit(stack, l, count > 0 ? &edit : NULL);
        first += count;
    }
    lode_superweight_edits_free(status == LODE_OK ? edits : &made);
    if (status == LODE_OK)
        *edits = made;
    return status;
}

void lode_superweight_edits_free(lode_superweight_edits_t *edits) {
    free(edits->held);
    free(edits->restore);
    free(edits->codec);
    *edits = (lode_superweight_edits_t){0};
}

lode_status_t lode_superweight_pass(const lode_superweight_work_t *work, lode_stack_t *stack,
                                    const lode_batches_t *batches, bool head, int64_t other,
                                    const lode_observer_t *observer) {
    const int64_t tokens = batches->text->offsets[batches->text->sequences];
    const lode_pass_t pass = {
        .stage = "superweight",
        .comm = work->run->comm,
        .layout = &work->run->layout,
        .stack = stack,
        .batches = batches,
        .variants = 1,
        .head_batches = head ? batches->count : 0,
        .budget =
            lode_run_budget(work->run, stack, other + tokens * (int64_t)(2 * sizeof(int32_t))),
        .scratch = work->run->folder,
        .observer = *observer};
    return lode_pass_run(&pass);
}

/* --- looking --------------------------------------------------------------------------------- */

typedef struct search {
    lode_superweight_work_t *work;
    lode_batches_t batches;
    lode_stack_t *stack;
    lode_superweight_edits_t edits;
    lode_spike_layer_t *seen; /* [prompts, L] of the pass in hand: this rank's, and 0 */
    lode_real_t *y, *row;     /* [longest micro-batch, d], [m] */
    lode_real_t *workspace;   /* of the product */
    int64_t reals;            /* in these three */
} search_t;

/* What one prompt shows at one layer, from u [tokens, m] and y [tokens, d]. */
static lode_status_t look(search_t *search, const lode_weight_t *down, int64_t tokens,
                          const lode_real_t *u, const lode_real_t *y, lode_spike_layer_t *seen) {
    const int64_t m = down->in, d = down->out;
    seen->input = lode_spike_of(u, tokens, m);
    seen->output = lode_spike_of(y, tokens, d);
    LODE_TRY(lode_spike_scale(&seen->input_scale, u, tokens, m, seen->output.token));
    LODE_TRY(lode_spike_scale(&seen->output_scale, y, tokens, d, seen->output.token));
    seen->channel = -1;
    if (m == 0)
        return LODE_OK;
    const lode_real_t *at = u + seen->output.token * m;
    lode_codec_read(down, seen->output.index, 1, 0, m, search->row);
    seen->channel = (int32_t)lode_spike_channel(at, search->row, m);
    seen->activation = (double)at[seen->channel];
    seen->weight = (double)search->row[seen->channel];
    return LODE_OK;
}

static lode_status_t on_ffn(void *context, const lode_batch_t *batch, int64_t layer,
                            const lode_real_t *h, const lode_real_t *u) {
    search_t *search = context;
    const lode_superweight_work_t *work = search->work;
    const lode_weight_t *down = &search->stack->layer[layer - search->stack->first_layer].down;
    (void)h;
    lode_linear_forward(down, batch->tokens, u, false, search->y, search->workspace);
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        LODE_TRY(look(search, down, batch->sequences.offsets[s + 1] - first, u + first * down->in,
                      search->y + first * down->out,
                      &search->seen[(batch->first_sequence + s) * work->L + layer]));
    }
    return LODE_OK;
}

static lode_status_t prepare(search_t *search) {
    lode_superweight_work_t *work = search->work;
    const lode_run_t *run = work->run;
    const int64_t prompts = work->prompts.text.sequences;
    LODE_TRY(lode_batches_create(&search->batches, &work->prompts.text, run->config->micro_batch));
    LODE_TRY(LODE_NEW(&search->seen, prompts * work->L, "activation traces"));
    if (run->layout.replica < 0)
        return LODE_OK;
    LODE_TRY(lode_stack_create(&search->stack, run->checkpoint, &run->layout,
                               search->batches.max_tokens, search->batches.longest,
                               (int)run->config->threads));
    const lode_codec_t some = {0}; /* a weight with a codec is not read in place */
    int64_t workspace = 0;
    for (int64_t l = 0; l < search->stack->count; l++) {
        lode_weight_t coded = search->stack->layer[l].down;
        coded.codec = &some;
        const int64_t needed = lode_linear_workspace(&coded);
        workspace = needed > workspace ? needed : workspace;
    }
    search->reals = search->batches.max_tokens * work->d + work->m + workspace;
    LODE_TRY(LODE_NEW_RAW(&search->y, search->batches.max_tokens * work->d, "layer outputs"));
    LODE_TRY(LODE_NEW_RAW(&search->row, work->m, "a row of a matrix"));
    return LODE_NEW_RAW(&search->workspace, workspace, "work space");
}

static void search_free(search_t *search) {
    lode_stack_destroy(&search->stack);
    lode_superweight_edits_free(&search->edits);
    lode_batches_destroy(&search->batches);
    free(search->seen);
    free(search->y);
    free(search->row);
    free(search->workspace);
}

/* Adds the pass in hand to the traces. Each prompt and layer was seen by one rank, and is 0 bytes
 * on the others. Collective. */
static lode_status_t add_trace(search_t *search) {
    lode_superweight_work_t *work = search->work;
    const int64_t places = work->prompts.text.sequences * work->L;
    const int64_t passes = work->count + 1;
    int bytes;
    lode_status_t status =
        lode_narrow(&bytes, places * (int64_t)sizeof *search->seen, "activation traces");
    if (status == LODE_OK)
        status =
            lode_resize(&work->trace, passes * places, sizeof *work->trace, "activation traces");
    LODE_TRY(lode_comm_agree(work->run->comm, status));
    MPI_Allreduce(MPI_IN_PLACE, search->seen, bytes, MPI_BYTE, MPI_BOR, work->run->comm->comm);
    memcpy(work->trace + work->count * places, search->seen, (size_t)bytes);
    memset(search->seen, 0, (size_t)bytes);
    return LODE_OK;
}

/* Takes the next super weight from the last trace; *more: there was one. Local, the same on all
 * ranks. */
static lode_status_t take_next(lode_superweight_work_t *work, bool *more) {
    const lode_config_superweight_t *config = &work->run->config->superweight;
    const lode_spike_limits_t limits = {.relative = config->rule == LODE_SPIKE_RELATIVE,
                                        .ratio = config->ratio,
                                        .absolute = config->absolute,
                                        .product = config->product};
    const int64_t prompts = work->prompts.text.sequences;
    const lode_spike_layer_t *last = work->trace + work->count * prompts * work->L;
    lode_spike_place_t place;
    *more = lode_spike_choose(&place, last, prompts, work->L, &limits);
    work->limit_reached = *more && work->count == config->limit;
    if (!*more || work->limit_reached) {
        *more = false;
        return LODE_OK;
    }
    LODE_TRY(lode_resize(&work->found, work->count + 1, sizeof *work->found, "super weights"));
    const lode_spike_layer_t *seen = &last[place.prompt * work->L + place.layer];
    work->found[work->count] = (lode_superweight_t){.layer = (int32_t)place.layer,
                                                    .row = seen->output.index,
                                                    .channel = seen->channel,
                                                    .value = (float)seen->weight,
                                                    .iteration = (int32_t)work->count,
                                                    .prompt = (int32_t)place.prompt,
                                                    .seen = *seen};
    work->count++;
    return LODE_OK;
}

static void say_found(const lode_superweight_work_t *work) {
    const lode_superweight_t *found = &work->found[work->count - 1];
    lode_log_info("superweight: layer %d, down_proj [%d, %d] = %.4g is a super weight: %.4g at "
                  "token %d becomes %.4g, %.0f times the rest there",
                  (int)found->layer, (int)found->row, (int)found->channel, (double)found->value,
                  found->seen.activation, (int)found->seen.output.token, found->seen.output.value,
                  lode_spike_ratio(found->seen.output.value, found->seen.output_scale));
}

lode_status_t lode_superweight_search(lode_superweight_work_t *work) {
    const lode_comm_t *comm = work->run->comm;
    search_t search = {.work = work};
    const lode_observer_t observer = {.context = &search, .ffn_forward = on_ffn};
    lode_status_t status = lode_comm_agree(comm, prepare(&search));
    for (bool more = true; status == LODE_OK && more;) {
        const int64_t other = search.reals * (int64_t)sizeof(lode_real_t);
        status =
            lode_superweight_pass(work, search.stack, &search.batches, false, other, &observer);
        if (status == LODE_OK)
            status = add_trace(&search);
        if (status == LODE_OK)
            status = lode_comm_agree(comm, take_next(work, &more));
        if (status != LODE_OK || !more)
            break;
        say_found(work);
        status =
            lode_comm_agree(comm, lode_superweight_edit(work, search.stack, false, &search.edits));
    }
    search_free(&search);
    return status;
}
