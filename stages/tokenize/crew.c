#include "tokenize/crew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum {
    ROUND = 16 << 20,  /* bytes that a rank takes at a time: what encoding needs goes with it */
    ALONE = 128 << 10, /* bytes that rank 0 encodes faster than it deals them out */
    WHOLE = 32 << 10,  /* a text is not cut nearer than this to its ends */
    TAG = 7
};

typedef enum order { ORDER_DISMISS, ORDER_ENCODE, ORDER_ENCODE_SPECIAL } order_t;

/* --- dealing out ---------------------------------------------------------------------------- */

/* Where a rank's share of the texts begins: at byte `offset` of text `text`. */
typedef struct place {
    int64_t text;
    size_t offset;  /* 0, or a cut */
    size_t visible; /* of a cut: how far the share before must see, else 0 */
} place_t;

/* What a rank is told of its share; the texts' lengths and bytes follow. */
typedef struct share {
    int64_t first;     /* number of its first text */
    int64_t count;     /* texts, cut ones included */
    int64_t bytes;     /* of all of them, and what is visible behind the last */
    int64_t visible;   /* behind the last */
    int32_t continued; /* an earlier share has the beginning of the first */
    int32_t cut;       /* a later share has the end of the last */
    int32_t ended;     /* what is visible goes to the end of the last */
    int32_t order;     /* order_t */
} share_t;

/* Where the share that should begin at byte `target` of all texts does begin: near the ends of a
 * text at an end of it, else where it can be cut, else behind it. `text` begins at byte `start`. */
static lode_status_t choose_place(place_t *place, const lode_crew_t *crew, const lode_span_t *texts,
                                  int64_t text, int64_t start, int64_t target, bool cut) {
    const size_t offset = (size_t)(target - start), length = texts[text].length;
    *place = (place_t){.text = offset < length / 2 ? text : text + 1};
    if (!cut || offset < WHOLE || length - offset < WHOLE)
        return LODE_OK;
    bool found;
    LODE_TRY(lode_tokenizer_find_cut(crew->tokenizer, &found, texts[text].text, length, offset,
                                     &place->offset, &place->visible));
    place->text = found ? text : text + 1;
    return LODE_OK;
}

/* Places [shares + 1]: the shares are of equal length as far as texts can be cut. */
static lode_status_t choose_places(place_t *places, int64_t shares, const lode_crew_t *crew,
                                   const lode_span_t *texts, int64_t count, bool cut) {
    int64_t total = 0, start = 0, text = 0;
    for (int64_t i = 0; i < count; i++)
        total += (int64_t)texts[i].length;
    places[0] = (place_t){0};
    places[shares] = (place_t){.text = count};
    for (int64_t r = 1; r < shares; r++) {
        const int64_t target = total / shares * r + total % shares * r / shares;
        while (text + 1 < count && start + (int64_t)texts[text].length <= target)
            start += (int64_t)texts[text++].length;
        LODE_TRY(choose_place(&places[r], crew, texts, text, start, target, cut));
        const place_t *before = &places[r - 1];
        if (places[r].text < before->text ||
            (places[r].text == before->text && places[r].offset < before->offset))
            places[r] = *before; /* an empty share */
    }
    return LODE_OK;
}

static share_t make_share(const place_t *from, const place_t *to, const lode_span_t *texts) {
    share_t share = {.first = from->text,
                     .count = to->text - from->text + (to->offset > 0),
                     .continued = from->offset > 0,
                     .cut = to->offset > 0};
    if (from->text == to->text && from->offset == to->offset)
        return (share_t){.first = from->text};
    for (int64_t i = 0; i < share.count; i++)
        share.bytes += (int64_t)texts[share.first + i].length;
    share.bytes -= (int64_t)from->offset;
    if (share.cut) {
        share.bytes -= (int64_t)(texts[to->text].length - to->visible);
        share.visible = (int64_t)(to->visible - to->offset);
        share.ended = to->visible == texts[to->text].length;
    }
    return share;
}

/* --- a rank's share ------------------------------------------------------------------------- */

typedef struct work {
    share_t share;
    int64_t *lengths; /* [share.count] bytes of each text, without what is only visible */
    char *bytes;      /* [share.bytes] */
    lode_ids_t ids;
    bool joined;    /* the next share's ids follow on from these */
    int64_t failed; /* the text at fault, −1 where there is none */
} work_t;

static lode_status_t make_room(work_t *work) {
    LODE_TRY(LODE_NEW(&work->lengths, work->share.count, "texts to encode"));
    return LODE_NEW_RAW(&work->bytes, work->share.bytes + 1, "texts to encode");
}

static void free_work(work_t *work) {
    free(work->lengths);
    free(work->bytes);
    lode_ids_free(&work->ids);
}

/* Copies a share out of the texts. */
static void pack(work_t *work, const place_t *from, const lode_span_t *texts) {
    const share_t *share = &work->share;
    int64_t at = 0;
    for (int64_t i = 0; i < share->count; i++) {
        const lode_span_t *text = &texts[share->first + i];
        const size_t skipped = i == 0 ? from->offset : 0;
        int64_t bytes = (int64_t)(text->length - skipped);
        if (bytes > share->bytes - at)
            bytes = share->bytes - at; /* the last one, cut */
        if (bytes > 0)
            memcpy(work->bytes + at, text->text + skipped, (size_t)bytes);
        at += bytes;
        work->lengths[i] = bytes - (share->cut && i == share->count - 1 ? share->visible : 0);
    }
}

static lode_status_t encode_texts(work_t *work, lode_encoder_t *encoder, bool add_special) {
    const share_t *share = &work->share;
    const char *text = work->bytes;
    for (int64_t i = 0; i < share->count; i++) {
        const bool cut = share->cut && i == share->count - 1;
        const lode_text_part_t part = {.text = text,
                                       .length = (size_t)work->lengths[i],
                                       .visible =
                                           (size_t)(work->lengths[i] + (cut ? share->visible : 0)),
                                       .first = !(share->continued && i == 0),
                                       .last = !cut || share->ended};
        const int32_t *id;
        int64_t count;
        bool joined;
        lode_status_t status =
            lode_encoder_encode(encoder, &part, add_special, &id, &count, &joined);
        if (status == LODE_OK)
            status = lode_ids_append(&work->ids, id, count);
        if (status == LODE_OK)
            status = lode_ids_cut(&work->ids);
        if (status != LODE_OK) {
            work->failed = share->first + i;
            return status;
        }
        work->joined &= !cut || joined;
        text += work->lengths[i];
    }
    return LODE_OK;
}

static lode_status_t encode_share(work_t *work, const lode_crew_t *crew, bool add_special) {
    lode_encoder_t *encoder;
    LODE_TRY(lode_encoder_create(&encoder, crew->tokenizer, (size_t)work->share.bytes));
    lode_status_t status = encode_texts(work, encoder, add_special);
    lode_encoder_destroy(&encoder);
    return status;
}

/* --- between ranks -------------------------------------------------------------------------- */

/* Messages longer than MPI can count go in pieces. */
static void transfer(const lode_comm_t *comm, void *data, int64_t bytes, int peer, bool sends) {
    const int64_t piece = 1 << 30;
    for (int64_t done = 0; done < bytes; done += piece) {
        const int count = (int)(bytes - done < piece ? bytes - done : piece);
        char *at = (char *)data + done;
        if (sends)
            MPI_Send(at, count, MPI_BYTE, peer, TAG, comm->comm);
        else
            MPI_Recv(at, count, MPI_BYTE, peer, TAG, comm->comm, MPI_STATUS_IGNORE);
    }
}

static void send_to(const lode_comm_t *comm, const void *data, int64_t bytes, int peer) {
    transfer(comm, (void *)(uintptr_t)data, bytes, peer, true);
}

static void receive_from(const lode_comm_t *comm, void *data, int64_t bytes, int peer) {
    transfer(comm, data, bytes, peer, false);
}

/* How a share went; its ids follow where rank 0 says so. */
typedef struct outcome {
    int64_t failed, sequences, count;
    int32_t status, joined;
    char message[LODE_MESSAGE_MAX];
} outcome_t;

static void describe(outcome_t *outcome, const work_t *work, lode_status_t status) {
    *outcome = (outcome_t){.failed = work->failed,
                           .sequences = work->ids.sequences,
                           .count = work->ids.count,
                           .status = (int32_t)status,
                           .joined = work->joined};
    if (status != LODE_OK)
        snprintf(outcome->message, sizeof outcome->message, "%s", lode_error_message());
}

/* One share on a rank other than 0: says whether there is room, takes the texts, encodes them, says
 * how it went, and hands the ids over. */
static void serve_share(const lode_crew_t *crew, work_t *work, bool add_special) {
    const lode_comm_t *comm = crew->comm;
    outcome_t outcome;
    int32_t wanted;
    lode_status_t status = make_room(work);
    const int32_t ready = status == LODE_OK;
    send_to(comm, &ready, sizeof ready, 0);
    if (ready) {
        receive_from(comm, work->lengths, work->share.count * (int64_t)sizeof *work->lengths, 0);
        receive_from(comm, work->bytes, work->share.bytes, 0);
        status = lode_comm_received(comm, "texts to encode");
        if (status == LODE_OK)
            status = encode_share(work, crew, add_special);
    }
    describe(&outcome, work, status);
    send_to(comm, &outcome, sizeof outcome, 0);
    receive_from(comm, &wanted, sizeof wanted, 0);
    if (!wanted)
        return;
    send_to(comm, work->ids.offset, (work->ids.sequences + 1) * (int64_t)sizeof *work->ids.offset,
            0);
    send_to(comm, work->ids.id, work->ids.count * (int64_t)sizeof *work->ids.id, 0);
}

void lode_crew_serve(const lode_crew_t *crew) {
    for (;;) {
        work_t work = {.joined = true, .failed = -1};
        receive_from(crew->comm, &work.share, sizeof work.share, 0);
        if (work.share.order == ORDER_DISMISS)
            break;
        serve_share(crew, &work, work.share.order == ORDER_ENCODE_SPECIAL);
        free_work(&work);
    }
}

void lode_crew_dismiss(const lode_crew_t *crew) {
    const share_t dismissal = {.order = ORDER_DISMISS};
    for (int r = 1; r < crew->comm->size; r++)
        send_to(crew->comm, &dismissal, sizeof dismissal, r);
}

/* --- rank 0 --------------------------------------------------------------------------------- */

/* Sends the others their shares, each packed into memory of its own, which is not needed then. */
static lode_status_t deal_out(const lode_crew_t *crew, const place_t *places, const share_t *shares,
                              const lode_span_t *texts) {
    const lode_comm_t *comm = crew->comm;
    lode_status_t packed = LODE_OK;
    for (int r = 1; r < comm->size; r++) {
        work_t work = {.share = shares[r]};
        int32_t ready;
        if (shares[r].count == 0)
            continue;
        if (packed == LODE_OK)
            packed = make_room(&work);
        if (packed != LODE_OK) { /* the others get nothing to do either */
            work.share.count = 0;
            work.share.bytes = 0;
        } else {
            pack(&work, &places[r], texts);
        }
        send_to(comm, &work.share, sizeof work.share, r);
        receive_from(comm, &ready, sizeof ready, r);
        if (ready) {
            send_to(comm, work.lengths, work.share.count * (int64_t)sizeof *work.lengths, r);
            send_to(comm, work.bytes, work.share.bytes, r);
        }
        free_work(&work);
    }
    return packed;
}

/* Appends a share's ids: a sequence for every text that ends in it. */
static lode_status_t append_share(lode_ids_t *ids, const work_t *work) {
    for (int64_t s = 0; s < work->ids.sequences; s++) {
        const int64_t *offset = work->ids.offset + s;
        LODE_TRY(lode_ids_append(ids, work->ids.id + offset[0], offset[1] - offset[0]));
        if (!(work->share.cut && s == work->ids.sequences - 1))
            LODE_TRY(lode_ids_cut(ids));
    }
    return LODE_OK;
}

/* Takes a rank's outcome, and its ids where all is well so far: `local` is the status up to now.
 * The outcome's failure is recorded, with the text at fault. */
static lode_status_t take_ids(lode_ids_t *ids, const lode_crew_t *crew, const share_t *share,
                              int peer, lode_status_t local, bool *joined, int64_t *failed) {
    const lode_comm_t *comm = crew->comm;
    work_t work = {.share = *share};
    outcome_t outcome;
    receive_from(comm, &outcome, sizeof outcome, peer);
    lode_status_t status = local;
    if (status == LODE_OK && outcome.status != LODE_OK) {
        *failed = outcome.failed;
        status = lode_fail((lode_status_t)outcome.status, "%s", outcome.message);
    }
    if (status == LODE_OK)
        status = LODE_NEW_RAW(&work.ids.id, outcome.count, "token ids");
    if (status == LODE_OK)
        status = LODE_NEW_RAW(&work.ids.offset, outcome.sequences + 1, "token ids");
    const int32_t wanted = status == LODE_OK;
    send_to(comm, &wanted, sizeof wanted, peer);
    if (wanted) {
        work.ids.sequences = outcome.sequences;
        work.ids.count = outcome.count;
        *joined &= outcome.joined != 0;
        receive_from(comm, work.ids.offset,
                     (outcome.sequences + 1) * (int64_t)sizeof *work.ids.offset, peer);
        receive_from(comm, work.ids.id, outcome.count * (int64_t)sizeof *work.ids.id, peer);
        status = lode_comm_received(comm, "token ids");
        if (status == LODE_OK)
            status = append_share(ids, &work);
    }
    free_work(&work);
    return status;
}

/* Encodes a share for each rank. Where *joined comes back false the ids are not to be used. */
static lode_status_t encode_round(const lode_crew_t *crew, lode_ids_t *ids, const place_t *places,
                                  share_t *shares, const lode_span_t *texts, order_t order,
                                  bool *joined, int64_t *failed) {
    const int size = crew->comm->size;
    for (int r = 0; r < size; r++) {
        shares[r] = make_share(&places[r], &places[r + 1], texts);
        shares[r].order = order;
    }
    lode_status_t dealt = deal_out(crew, places, shares, texts);
    work_t own = {.share = shares[0], .joined = true, .failed = -1};
    lode_status_t status = dealt == LODE_OK ? make_room(&own) : dealt;
    if (status == LODE_OK && own.share.count > 0) {
        pack(&own, &places[0], texts);
        status = encode_share(&own, crew, order == ORDER_ENCODE_SPECIAL);
    }
    if (status == LODE_OK)
        status = append_share(ids, &own);
    *failed = own.failed;
    *joined &= own.joined;
    free_work(&own);
    for (int r = 1; r < size; r++)
        if (shares[r].count > 0)
            status = take_ids(ids, crew, &shares[r], r, status, joined, failed);
    return status;
}

static lode_status_t encode_alone(const lode_crew_t *crew, lode_ids_t *ids,
                                  const lode_span_t *texts, int64_t count, int64_t bytes,
                                  bool add_special, int64_t *failed) {
    lode_encoder_t *encoder;
    LODE_TRY(lode_encoder_create(&encoder, crew->tokenizer, (size_t)bytes));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; i < count; i++) {
        const lode_text_part_t part = {.text = texts[i].text,
                                       .length = texts[i].length,
                                       .visible = texts[i].length,
                                       .first = true,
                                       .last = true};
        const int32_t *id;
        int64_t length;
        bool joined;
        *failed = i;
        LODE_GUARD(status, lode_encoder_encode(encoder, &part, add_special, &id, &length, &joined),
                   done);
        LODE_GUARD(status, lode_ids_append(ids, id, length), done);
        LODE_GUARD(status, lode_ids_cut(ids), done);
    }
    *failed = -1;
done:
    lode_encoder_destroy(&encoder);
    return status;
}

/* Encodes all shares, [rounds · ranks] between places, round after round. */
static lode_status_t encode_rounds(const lode_crew_t *crew, lode_ids_t *ids, const place_t *places,
                                   int64_t rounds, const lode_span_t *texts, order_t order,
                                   bool *joined, int64_t *failed) {
    const int size = crew->comm->size;
    share_t *shares;
    LODE_TRY(LODE_NEW(&shares, size, "shares of texts"));
    lode_status_t status = LODE_OK;
    *joined = true;
    for (int64_t i = 0; i < rounds && *joined && status == LODE_OK; i++)
        status = encode_round(crew, ids, places + i * size, shares, texts, order, joined, failed);
    free(shares);
    return status;
}

static int64_t round_bytes(const lode_crew_t *crew) {
    return crew->round > 0 ? crew->round : ROUND;
}

/* Makes the ids what they were. */
static void take_back(lode_ids_t *ids, int64_t sequences, int64_t count) {
    ids->sequences = sequences;
    ids->count = count;
}

/* Encodes with everybody, first with long texts cut, then, where a cut did not hold, without. */
static lode_status_t encode_together(const lode_crew_t *crew, lode_ids_t *ids,
                                     const lode_span_t *texts, int64_t count, int64_t bytes,
                                     bool add_special, int64_t *failed) {
    const order_t order = add_special ? ORDER_ENCODE_SPECIAL : ORDER_ENCODE;
    const int64_t rounds = 1 + (bytes - 1) / (round_bytes(crew) * crew->comm->size);
    const int64_t shares = rounds * crew->comm->size, sequences = ids->sequences, had = ids->count;
    place_t *places;
    LODE_TRY(LODE_NEW(&places, shares + 1, "shares of texts"));
    lode_status_t status = LODE_OK;
    bool joined = false;
    for (int cut = 1; cut >= 0 && !joined && status == LODE_OK; cut--) {
        take_back(ids, sequences, had);
        status = choose_places(places, shares, crew, texts, count, cut == 1);
        if (status == LODE_OK)
            status = encode_rounds(crew, ids, places, rounds, texts, order, &joined, failed);
    }
    if (status != LODE_OK)
        take_back(ids, sequences, had);
    free(places);
    return status;
}

lode_status_t lode_crew_encode(const lode_crew_t *crew, lode_ids_t *ids, const lode_span_t *texts,
                               int64_t count, bool add_special, int64_t *failed) {
    int64_t bytes = 0, at_fault = -1;
    for (int64_t i = 0; i < count; i++)
        bytes += (int64_t)texts[i].length;
    const bool alone = bytes < ALONE || (crew->comm->size == 1 && bytes <= round_bytes(crew));
    lode_status_t status =
        alone ? encode_alone(crew, ids, texts, count, bytes, add_special, &at_fault)
              : encode_together(crew, ids, texts, count, bytes, add_special, &at_fault);
    if (failed)
        *failed = at_fault;
    return status;
}
