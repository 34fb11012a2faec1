#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "probe/work.h"

/* The first `sequences` of the ids, cut at `length` tokens; every next token is a target. */
static lode_status_t cut_text(lode_probe_text_t *text, const int32_t *ids, const int64_t *offsets,
                              int64_t sequences) {
    LODE_TRY(LODE_NEW(&text->offsets, sequences + 1, "offsets of texts"));
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t whole = offsets[s + 1] - offsets[s];
        text->offsets[s + 1] = text->offsets[s] + (whole < text->length ? whole : text->length);
    }
    LODE_TRY(LODE_NEW(&text->ids, text->offsets[sequences], "texts"));
    LODE_TRY(LODE_NEW(&text->target, text->offsets[sequences], "texts"));
    LODE_TRY(LODE_NEW(&text->targets, sequences, "texts"));
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t first = text->offsets[s], tokens = text->offsets[s + 1] - first;
        memcpy(text->ids + first, ids + offsets[s], (size_t)tokens * sizeof *ids);
        for (int64_t t = 0; t < tokens; t++)
            text->target[first + t] = t + 1 < tokens ? text->ids[first + t + 1] : -1;
        text->targets[s] = tokens - 1;
    }
    text->text = (lode_text_t){
        .sequences = sequences, .offsets = text->offsets, .ids = text->ids, .target = text->target};
    return LODE_OK;
}

static lode_status_t read_sequences(lode_probe_work_t *work, lode_probe_text_t *text,
                                    int64_t sequences) {
    const bool own = *work->run->config->probe.corpus != '\0';
    int32_t *ids = NULL;
    int64_t *offsets = NULL, count = 0;
    text->source = own ? "corpus" : "calibration";
    text->protocol = "texts";
    lode_status_t status;
    LODE_GUARD(status,
               lode_store_read_all(work->tokenize, own ? "/probe/ids" : "/calibration/ids",
                                   LODE_TYPE_I32, &ids, NULL),
               done);
    LODE_GUARD(status,
               lode_store_read_all(work->tokenize, own ? "/probe/offsets" : "/calibration/offsets",
                                   LODE_TYPE_I64, &offsets, &count),
               done);
    status = cut_text(text, ids, offsets, sequences < count - 1 ? sequences : count - 1);
done:
    free(ids);
    free(offsets);
    return status;
}

static lode_status_t read_windows(lode_probe_work_t *work, lode_probe_text_t *text) {
    const lode_config_perplexity_t *entry;
    int32_t bos;
    LODE_TRY(lode_probe_perplexity(&entry, work->run->config));
    text->source = entry->name;
    text->protocol = lode_protocol_name(entry->protocol);
    text->length = entry->length;
    LODE_TRY(lode_evaluation_windows(&text->windows, &bos, work->tokenize, entry));
    text->text = text->windows.text;
    if (entry->protocol == LODE_PROTOCOL_LM_EVAL)
        text->per_unit = (double)text->windows.targets / (double)text->windows.words;
    LODE_TRY(LODE_NEW(&text->targets, text->text.sequences, "texts"));
    for (int64_t s = 0; s < text->text.sequences; s++)
        text->targets[s] = text->windows.first_target[s + 1] - text->windows.first_target[s];
    return LODE_OK;
}

void lode_probe_texts_number(lode_probe_work_t *work) {
    work->text[LODE_PROBE_TEXT_PERPLEXITY].name = "perplexity";
    work->text[LODE_PROBE_TEXT_ABLATION].name = "ablation";
    work->text[LODE_PROBE_TEXT_HALO].name = "halo";
    for (int i = 0; i < LODE_PROBE_CHECKS; i++) {
        lode_probe_group_t *group = &work->group[i];
        lode_probe_text_t *text = &work->text[group->text];
        if (group->count == 0)
            continue;
        if (text->variants == 0)
            text->variants = 1;
        group->first = text->variants;
        text->variants += group->count;
    }
}

static lode_status_t read_texts(lode_probe_work_t *work) {
    const lode_config_probe_t *probe = &work->run->config->probe;
    lode_probe_text_t *windows = &work->text[LODE_PROBE_TEXT_PERPLEXITY],
                      *ablation = &work->text[LODE_PROBE_TEXT_ABLATION],
                      *halo = &work->text[LODE_PROBE_TEXT_HALO];
    ablation->length = probe->max_length;
    halo->length =
        probe->halo_max_length < probe->max_length ? probe->halo_max_length : probe->max_length;
    if (windows->variants > 0)
        LODE_TRY(read_windows(work, windows));
    if (ablation->variants > 0)
        LODE_TRY(read_sequences(work, ablation, probe->sequences));
    if (halo->variants > 0)
        LODE_TRY(read_sequences(work, halo,
                                probe->halo_sequences < probe->sequences ? probe->halo_sequences
                                                                         : probe->sequences));
    for (int i = 0; i < LODE_PROBE_TEXTS; i++) {
        lode_probe_text_t *text = &work->text[i];
        const int64_t each = text->variants * text->text.sequences;
        text->per_unit = text->per_unit > 0 ? text->per_unit : 1;
        LODE_TRY(LODE_NEW(&text->mean, 2 * each, "losses of sequences"));
        text->variance = text->mean + each;
    }
    return LODE_OK;
}

lode_status_t lode_probe_texts_read(lode_probe_work_t *work) {
    lode_probe_texts_number(work);
    return lode_comm_agree(work->run->comm, read_texts(work));
}

void lode_probe_texts_free(lode_probe_work_t *work) {
    for (int i = 0; i < LODE_PROBE_TEXTS; i++) {
        lode_probe_text_t *text = &work->text[i];
        lode_windows_free(&text->windows);
        free(text->offsets);
        free(text->ids);
        free(text->target);
        free(text->targets);
        free(text->mean);
    }
}
