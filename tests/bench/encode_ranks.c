/* encode_ranks: many texts through one tokenizer, on all ranks.
 *
 *   mpirun -n P encode_ranks tokenizer.json texts [rounds]
 *
 * `texts` as for encode_texts. Prints the SHA-256 of all ids, −1 behind those of each text, which
 * is that of encode_texts and the same for every P, and the seconds of each round: from texts on
 * rank 0 to ids on rank 0.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "tokenize/crew.h"

/* The texts of a file, in its bytes. */
static lode_status_t split(lode_span_t **texts, int64_t *count, const char *data, size_t size) {
    *texts = NULL;
    *count = 0;
    for (int pass = 0; pass < 2; pass++) {
        int64_t found = 0;
        uint64_t length;
        for (size_t at = 0; at < size; at += sizeof length + length) {
            if (size - at < sizeof length)
                return lode_fail(LODE_ERR_FORMAT, "the texts are cut off");
            memcpy(&length, data + at, sizeof length);
            if (length > size - at - sizeof length)
                return lode_fail(LODE_ERR_FORMAT, "the texts are cut off");
            if (pass == 1)
                (*texts)[found] = (lode_span_t){data + at + sizeof length, length};
            found++;
        }
        *count = found;
        if (pass == 0)
            LODE_TRY(LODE_NEW(texts, found, "texts"));
    }
    return LODE_OK;
}

static lode_status_t print_digest(const lode_ids_t *ids) {
    const int32_t end = -1;
    lode_buffer_t stream = {0};
    char digest[LODE_SHA256_TEXT];
    lode_status_t status = LODE_OK;
    for (int64_t s = 0; s < ids->sequences && status == LODE_OK; s++) {
        status = lode_buffer_append(&stream, ids->id + ids->offset[s],
                                    (size_t)(ids->offset[s + 1] - ids->offset[s]) * sizeof end);
        if (status == LODE_OK)
            status = lode_buffer_append(&stream, &end, sizeof end);
    }
    if (status == LODE_OK)
        status = lode_sha256_text(digest, stream.data, stream.length);
    if (status == LODE_OK)
        printf("ids = %lld\ndigest = %s\n", (long long)ids->count, digest);
    lode_buffer_free(&stream);
    return status;
}

/* On rank 0, the others serving. */
static lode_status_t run(const lode_crew_t *crew, const char *path, int rounds) {
    char *data = NULL;
    size_t size = 0;
    lode_span_t *texts = NULL;
    int64_t count;
    lode_status_t status = lode_file_read(&data, &size, path);
    if (status == LODE_OK)
        status = split(&texts, &count, data, size);
    for (int i = 0; i < rounds && status == LODE_OK; i++) {
        lode_ids_t ids = {0};
        const double start = MPI_Wtime();
        status = lode_crew_encode(crew, &ids, texts, count, false, NULL);
        const double seconds = MPI_Wtime() - start;
        if (status == LODE_OK && i == 0)
            status = print_digest(&ids);
        if (status == LODE_OK)
            printf("seconds = %.4f (%.1f MB/s on %d ranks)\n", seconds,
                   (double)size / seconds / 1e6, crew->comm->size);
        lode_ids_free(&ids);
    }
    free(texts);
    free(data);
    return status;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    const lode_comm_t world = lode_comm_describe(MPI_COMM_WORLD);
    lode_tokenizer_t *tokenizer = NULL;
    lode_status_t status =
        argc < 3 ? lode_fail(LODE_ERR_USAGE, "usage: encode_ranks tokenizer.json texts [rounds]")
                 : lode_tokenizer_load(&tokenizer, argv[1]);
    status = lode_comm_agree(&world, status);
    const lode_crew_t crew = {.comm = &world, .tokenizer = tokenizer};
    if (status == LODE_OK && world.rank == 0) {
        status = run(&crew, argv[2], argc > 3 ? atoi(argv[3]) : 1);
        lode_crew_dismiss(&crew);
    } else if (status == LODE_OK) {
        lode_crew_serve(&crew);
    }
    if (status != LODE_OK && world.rank == 0)
        lode_error_print(lode_error_message());
    lode_tokenizer_destroy(&tokenizer);
    MPI_Finalize();
    return status == LODE_OK ? 0 : 1;
}
