#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "common/stacked.h"
#include "superweight/work.h"
#include "tokenize/superweight.h"

/* --- reading --------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The list as it lies in tokenize.h5, bytes of text. */
static lode_status_t read_list(lode_superweight_stopwords_t *stopwords, lode_store_t *tokenize) {
    uint8_t *bytes;
    int64_t count;
    LODE_TRY(lode_store_read_all(tokenize, "/superweight/stopwords/words", LODE_TYPE_U8, &bytes,
                                 &count));
    const lode_status_t status = LODE_NEW(&stopwords->list, count + 1, "stopwords");
    if (status == LODE_OK && count > 0)
        memcpy(stopwords->list, bytes, (size_t)count);
    free(bytes);
    return status;
}

lode_status_t lode_superweight_stopwords_read(lode_superweight_work_t *work) {
    lode_superweight_stopwords_t *stopwords = &work->stopwords;
    int64_t tokens, offsets;
    stopwords->wanted = lode_tokenize_has_stopwords(work->run->config);
    if (!stopwords->wanted)
        return LODE_OK;
    LODE_TRY(read_list(stopwords, work->tokenize));
    LODE_TRY(lode_store_read_all(work->tokenize, "/superweight/stopwords/ids", LODE_TYPE_I32,
                                 &stopwords->token, &tokens));
    LODE_TRY(lode_store_read_all(work->tokenize, "/superweight/stopwords/offsets", LODE_TYPE_I64,
                                 &stopwords->offset, &offsets));
    stopwords->words = offsets - 1;
    LODE_TRY(LODE_NEW(&stopwords->all, tokens, "stopwords"));
    memcpy(stopwords->all, stopwords->token, (size_t)tokens * sizeof *stopwords->all);
    qsort(stopwords->all, (size_t)tokens, sizeof *stopwords->all, by_id);
    for (int64_t i = 0; i < tokens; i++)
        if (i == 0 || stopwords->all[i] != stopwords->all[i - 1])
            stopwords->all[stopwords->all_count++] = stopwords->all[i];
    for (int i = 0; i < LODE_SUPERWEIGHT_MODELS; i++)
        LODE_TRY(LODE_NEW(&stopwords->mean[i], stopwords->words + 1, "probabilities"));
    return lode_superweight_text_read(&stopwords->texts, work->tokenize, "/superweight/texts");
}

void lode_superweight_stopwords_free(lode_superweight_stopwords_t *stopwords) {
    free(stopwords->list);
    free(stopwords->offset);
    free(stopwords->token);
    free(stopwords->all);
    for (int i = 0; i < LODE_SUPERWEIGHT_MODELS; i++)
        free(stopwords->mean[i]);
    lode_superweight_text_free(&stopwords->texts);
    *stopwords = (lode_superweight_stopwords_t){0};
}

/* --- measuring ------------------------------------------------------------------------------- */

typedef struct measure {
    const lode_superweight_stopwords_t *stopwords;
    const lode_superweight_list_t *list;
    int model; /* the one in hand, and what makes its stack */
    lode_superweight_edits_t edits;
    int64_t vocab, texts;
    double *sum; /* [texts, words + 1] over positions: this rank's, and 0 */
    double *row; /* [rows, words + 1] of the logits in hand */
    int64_t room;
    int64_t text; /* of the last position seen */
} measure_t;

/* Probabilities of one position: of each word, and of all tokens. */
static void take_row(const measure_t *measure, const lode_real_t *logits, double *out) {
    const lode_superweight_stopwords_t *stopwords = measure->stopwords;
    double largest = (double)logits[0], sum = 0;
    for (int64_t v = 1; v < measure->vocab; v++)
        largest = (double)logits[v] > largest ? (double)logits[v] : largest;
    for (int64_t v = 0; v < measure->vocab; v++)
        sum += exp((double)logits[v] - largest);
    for (int64_t w = 0; w < stopwords->words; w++) {
        out[w] = 0;
        for (int64_t i = stopwords->offset[w]; i < stopwords->offset[w + 1]; i++)
            out[w] += exp((double)logits[stopwords->token[i]] - largest) / sum;
    }
    out[stopwords->words] = 0;
    for (int64_t i = 0; i < stopwords->all_count; i++)
        out[stopwords->words] += exp((double)logits[stopwords->all[i]] - largest) / sum;
}

/* Rows in parallel, sums over them in their order. */
static lode_status_t on_logits(void *context, int64_t first_token, int64_t rows,
                               const lode_real_t *logits) {
    measure_t *measure = context;
    const int64_t width = measure->stopwords->words + 1;
    const int64_t *offsets = measure->stopwords->texts.text.offsets;
    if (rows > measure->room) {
        LODE_TRY(lode_resize(&measure->row, rows * width, sizeof *measure->row, "probabilities"));
        measure->room = rows;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        take_row(measure, logits + r * measure->vocab, measure->row + r * width);
    for (int64_t r = 0; r < rows; r++) {
        while (first_token + r < offsets[measure->text])
            measure->text--;
        while (first_token + r >= offsets[measure->text + 1])
            measure->text++;
        for (int64_t w = 0; w < width; w++)
            measure->sum[measure->text * width + w] += measure->row[r * width + w];
    }
    return LODE_OK;
}

/* mean [words + 1] out: over all positions. Each text was summed up by one rank; they are added in
 * their order. Collective. */
static lode_status_t reduce(const lode_comm_t *comm, measure_t *measure, double *mean) {
    const int64_t width = measure->stopwords->words + 1;
    const double positions = (double)measure->stopwords->texts.text.offsets[measure->texts];
    int count;
    LODE_TRY(lode_comm_agree(comm, lode_narrow(&count, measure->texts * width, "probabilities")));
    MPI_Allreduce(MPI_IN_PLACE, measure->sum, count, MPI_DOUBLE, MPI_SUM, comm->comm);
    for (int64_t w = 0; w < width; w++) {
        mean[w] = 0;
        for (int64_t s = 0; s < measure->texts; s++)
            mean[w] += measure->sum[s * width + w];
        mean[w] /= positions;
    }
    memset(measure->sum, 0, (size_t)count * sizeof *measure->sum);
    measure->text = 0;
    return LODE_OK;
}

/* Makes the stack the model in hand. */
static lode_status_t on_variant(void *context, int64_t variant, int64_t start,
                                lode_stack_t *stack) {
    measure_t *measure = context;
    (void)variant;
    (void)start;
    if (measure->model == LODE_SUPERWEIGHT_BEFORE)
        return LODE_OK;
    return lode_superweight_edit(measure->list, stack, measure->model == LODE_SUPERWEIGHT_RESTORED,
                                 &measure->edits);
}

/* One of the three models. Collective. */
static lode_status_t run_model(lode_superweight_work_t *work, measure_t *measure,
                               const lode_batches_t *batches, int model) {
    const int64_t width = work->stopwords.words + 1;
    const int64_t tokens = batches->text->offsets[batches->text->sequences];
    const int64_t other = (measure->texts + batches->max_tokens) * width * (int64_t)sizeof(double) +
                          tokens * (int64_t)(2 * sizeof(int32_t));
    const lode_pass_t pass = {
        .stage = "superweight",
        .batches = batches,
        .variants = 1,
        .head_batches = batches->count,
        .scratch = work->run->folder,
        .observer = {.context = measure, .variant = on_variant, .logits = on_logits}};
    measure->model = model;
    lode_status_t status = lode_stacked_pass(work->run, pass, other);
    lode_superweight_edits_free(&measure->edits);
    if (status == LODE_OK)
        status = reduce(work->run->comm, measure, work->stopwords.mean[model]);
    return status;
}

static void say(const lode_superweight_work_t *work) {
    const lode_superweight_stopwords_t *stopwords = &work->stopwords;
    lode_log_info("superweight: mean probability of all stopwords %.4f, %.4f without super "
                  "weights, %.4f with their activations put back",
                  stopwords->mean[LODE_SUPERWEIGHT_BEFORE][stopwords->words],
                  stopwords->mean[LODE_SUPERWEIGHT_AFTER][stopwords->words],
                  stopwords->mean[LODE_SUPERWEIGHT_RESTORED][stopwords->words]);
}

lode_status_t lode_superweight_stopwords_measure(lode_superweight_work_t *work) {
    const lode_run_t *run = work->run;
    lode_superweight_stopwords_t *stopwords = &work->stopwords;
    if (!stopwords->wanted)
        return LODE_OK;
    const int64_t width = stopwords->words + 1;
    lode_batches_t batches = {0};
    measure_t measure = {.stopwords = stopwords,
                         .list = &work->list,
                         .vocab = run->architecture.vocab,
                         .texts = stopwords->texts.text.sequences};
    lode_status_t status =
        lode_batches_create(&batches, &stopwords->texts.text, run->config->micro_batch);
    if (status == LODE_OK)
        status = LODE_NEW(&measure.sum, measure.texts * width, "probabilities");
    status = lode_comm_agree(run->comm, status);
    /* Without super weights all three are one. */
    const int models = work->list.count > 0 ? LODE_SUPERWEIGHT_MODELS : 1;
    for (int i = 0; i < models && status == LODE_OK; i++)
        status = run_model(work, &measure, &batches, i);
    for (int i = models; i < LODE_SUPERWEIGHT_MODELS && status == LODE_OK; i++)
        memcpy(stopwords->mean[i], stopwords->mean[LODE_SUPERWEIGHT_BEFORE],
               (size_t)width * sizeof(double));
    if (status == LODE_OK)
        say(work);
    lode_batches_destroy(&batches);
    free(measure.sum);
    free(measure.row);
    return status;
}
