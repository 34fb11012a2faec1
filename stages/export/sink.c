#include "export/sink.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

lode_status_t lode_export_sink_create(lode_export_sink_t *sink, int64_t row) {
    const int64_t room = row > LODE_EXPORT_BLOCK_BYTES ? row : LODE_EXPORT_BLOCK_BYTES;
    *sink = (lode_export_sink_t){.room = (size_t)room};
    return LODE_NEW_RAW(&sink->block, room, "block to write");
}

void lode_export_sink_free(lode_export_sink_t *sink) {
    free(sink->block);
    *sink = (lode_export_sink_t){0};
}

void lode_export_sink_begin(lode_export_sink_t *sink, lode_writer_t *writer, int64_t index) {
    sink->writer = writer;
    sink->index = index;
    sink->offset = 0;
    sink->used = 0;
}

lode_status_t lode_export_sink_flush(lode_export_sink_t *sink) {
    if (sink->used == 0)
        return LODE_OK;
    LODE_TRY(lode_writer_write(sink->writer, sink->index, sink->offset, sink->block, sink->used));
    sink->offset += (int64_t)sink->used;
    sink->used = 0;
    return LODE_OK;
}

lode_status_t lode_export_sink_take(lode_export_sink_t *sink, int64_t bytes,
                                    unsigned char **place) {
    LODE_ASSERT(bytes >= 0 && (size_t)bytes <= sink->room);
    if ((size_t)bytes > sink->room - sink->used)
        LODE_TRY(lode_export_sink_flush(sink));
    *place = sink->block + sink->used;
    sink->used += (size_t)bytes;
    return LODE_OK;
}

lode_status_t lode_export_sink_zeros(lode_export_sink_t *sink, int64_t size) {
    while (size > 0) {
        unsigned char *place;
        const int64_t piece = size < LODE_EXPORT_BLOCK_BYTES ? size : LODE_EXPORT_BLOCK_BYTES;
        LODE_TRY(lode_export_sink_take(sink, piece, &place));
        memset(place, 0, (size_t)piece);
        size -= piece;
    }
    return LODE_OK;
}

lode_status_t lode_export_sink_copy(lode_export_sink_t *sink, const void *bytes, int64_t size) {
    for (int64_t done = 0; done < size;) {
        unsigned char *place;
        const int64_t left = size - done;
        const int64_t piece = left < LODE_EXPORT_BLOCK_BYTES ? left : LODE_EXPORT_BLOCK_BYTES;
        LODE_TRY(lode_export_sink_take(sink, piece, &place));
        memcpy(place, (const unsigned char *)bytes + done, (size_t)piece);
        done += piece;
    }
    return LODE_OK;
}
