#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "superweight/search.h"

/* --- without what was found ------------------------------------------------------------------ */

static int by_place(const void *a, const void *b) {
    const lode_held_t *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->col > y->col) - (x->col < y->col);
}

/* Lists the super weights of a layer behind `first` in both arrays; returns how many. */
static int64_t list_layer(const lode_superweight_list_t *list, int64_t layer, int64_t first,
                          lode_superweight_edits_t *edits) {
    int64_t count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const lode_superweight_t *found = &list->found[i];
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

lode_status_t lode_superweight_edit(const lode_superweight_list_t *list, lode_stack_t *stack,
                                    bool restored, lode_superweight_edits_t *edits) {
    if (!stack)
        return LODE_OK;
    lode_superweight_edits_t made = {0};
    lode_status_t status = LODE_NEW(&made.held, list->count, "super weights");
    if (status == LODE_OK)
        status = LODE_NEW(&made.restore, list->count, "super weights");
    if (status == LODE_OK)
        status = LODE_NEW(&made.codec, stack->count, "super weights");
    int64_t first = 0;
    for (int64_t l = 0; l < stack->count && status == LODE_OK; l++) {
        const int64_t count = list_layer(list, stack->first_layer + l, first, &made);
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

/* --- looking --------------------------------------------------------------------------------- */

typedef struct search {
    lode_superweight_list_t *list;
    lode_run_t *run;
    const char *stage;
    const lode_text_t *prompts;
    int64_t L; /* layers */
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
    const lode_weight_t *down = &search->stack->layer[layer - search->stack->first_layer].down;
    (void)h;
    lode_linear_forward(down, batch->tokens, u, false, search->y, search->workspace);
    for (int64_t s = 0; s < batch->sequences.count; s++) {
        const int64_t first = batch->sequences.offsets[s];
        LODE_TRY(look(search, down, batch->sequences.offsets[s + 1] - first, u + first * down->in,
                      search->y + first * down->out,
                      &search->seen[(batch->first_sequence + s) * search->L + layer]));
    }
    return LODE_OK;
}

static lode_status_t prepare(search_t *search) {
    const lode_run_t *run = search->run;
    const int64_t d = run->architecture.hidden, m = run->architecture.intermediate;
    const int64_t prompts = search->prompts->sequences;
    LODE_TRY(lode_batches_create(&search->batches, search->prompts, run->config->micro_batch));
    LODE_TRY(LODE_NEW(&search->seen, prompts * search->L, "activation traces"));
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
    search->reals = search->batches.max_tokens * d + m + workspace;
    LODE_TRY(LODE_NEW_RAW(&search->y, search->batches.max_tokens * d, "layer outputs"));
    LODE_TRY(LODE_NEW_RAW(&search->row, m, "a row of a matrix"));
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
    lode_superweight_list_t *list = search->list;
    const lode_comm_t *comm = search->run->comm;
    const int64_t places = search->prompts->sequences * search->L, passes = list->count + 1;
    int bytes;
    lode_status_t status =
        lode_narrow(&bytes, places * (int64_t)sizeof *search->seen, "activation traces");
    if (status == LODE_OK)
        status =
            lode_resize(&list->trace, passes * places, sizeof *list->trace, "activation traces");
    LODE_TRY(lode_comm_agree(comm, status));
    MPI_Allreduce(MPI_IN_PLACE, search->seen, bytes, MPI_BYTE, MPI_BOR, comm->comm);
    memcpy(list->trace + list->count * places, search->seen, (size_t)bytes);
    memset(search->seen, 0, (size_t)bytes);
    return LODE_OK;
}

/* Takes the next super weight from the last trace; *more: there was one. Local, the same on all
 * ranks. */
static lode_status_t take_next(const search_t *search, bool *more) {
    lode_superweight_list_t *list = search->list;
    const lode_config_superweight_t *config = &search->run->config->superweight;
    const lode_spike_limits_t limits = {.relative = config->rule == LODE_SPIKE_RELATIVE,
                                        .ratio = config->ratio,
                                        .absolute = config->absolute,
                                        .product = config->product};
    const int64_t prompts = search->prompts->sequences;
    const lode_spike_layer_t *last = list->trace + list->count * prompts * search->L;
    lode_spike_place_t place;
    *more = lode_spike_choose(&place, last, prompts, search->L, &limits);
    list->limit_reached = *more && list->count == config->limit;
    if (!*more || list->limit_reached) {
        *more = false;
        return LODE_OK;
    }
    LODE_TRY(lode_resize(&list->found, list->count + 1, sizeof *list->found, "super weights"));
    const lode_spike_layer_t *seen = &last[place.prompt * search->L + place.layer];
    list->found[list->count] = (lode_superweight_t){.layer = (int32_t)place.layer,
                                                    .row = seen->output.index,
                                                    .channel = seen->channel,
                                                    .value = (float)seen->weight,
                                                    .iteration = (int32_t)list->count,
                                                    .prompt = (int32_t)place.prompt,
                                                    .seen = *seen};
    list->count++;
    return LODE_OK;
}

static void say_found(const search_t *search) {
    const lode_superweight_t *found = &search->list->found[search->list->count - 1];
    lode_log_info("%s: layer %d, down_proj [%d, %d] = %.4g is a super weight: %.4g at token %d "
                  "becomes %.4g, %.0f times the rest there",
                  search->stage, (int)found->layer, (int)found->row, (int)found->channel,
                  (double)found->value, found->seen.activation, (int)found->seen.output.token,
                  found->seen.output.value,
                  lode_spike_ratio(found->seen.output.value, found->seen.output_scale));
}

static void say_limit(const search_t *search) {
    lode_log_warning("%s: there are more than superweight.limit = %lld; raise it, or "
                     "superweight.ratio",
                     search->stage, (long long)search->run->config->superweight.limit);
}

/* One pass of the prompts through the stack as it is by now. Collective. */
static lode_status_t run_pass(search_t *search) {
    lode_run_t *run = search->run;
    const int64_t tokens = search->prompts->offsets[search->prompts->sequences];
    const int64_t other =
        search->reals * (int64_t)sizeof(lode_real_t) + tokens * (int64_t)(2 * sizeof(int32_t));
    const lode_pass_t pass = {.stage = search->stage,
                              .comm = run->comm,
                              .layout = &run->layout,
                              .stack = search->stack,
                              .batches = &search->batches,
                              .variants = 1,
                              .budget = lode_run_budget(run, search->stack, other),
                              .scratch = run->folder,
                              .observer = {.context = search, .ffn_forward = on_ffn}};
    return lode_pass_run(&pass);
}

lode_status_t lode_superweight_search(lode_superweight_list_t *list, lode_run_t *run,
                                      const char *stage, const lode_text_t *prompts) {
    const lode_comm_t *comm = run->comm;
    search_t search = {.list = list,
                       .run = run,
                       .stage = stage,
                       .prompts = prompts,
                       .L = run->architecture.layers};
    lode_status_t status = lode_comm_agree(comm, prepare(&search));
    for (bool more = true; status == LODE_OK && more;) {
        status = run_pass(&search);
        if (status == LODE_OK)
            status = add_trace(&search);
        if (status == LODE_OK)
            status = lode_comm_agree(comm, take_next(&search, &more));
        if (status != LODE_OK || !more)
            break;
        say_found(&search);
        status =
            lode_comm_agree(comm, lode_superweight_edit(list, search.stack, false, &search.edits));
    }
    if (list->limit_reached)
        say_limit(&search);
    search_free(&search);
    return status;
}

void lode_superweight_list_free(lode_superweight_list_t *list) {
    free(list->found);
    free(list->trace);
    *list = (lode_superweight_list_t){0};
}

int64_t lode_superweight_search_memory(const lode_run_t *run, int64_t prompts, int64_t longest) {
    const lode_architecture_t *a = &run->architecture;
    const int64_t passes = run->config->superweight.limit + 1;
    return passes * prompts * a->layers * (int64_t)sizeof(lode_spike_layer_t) +
           longest * a->hidden * (int64_t)sizeof(lode_real_t);
}
