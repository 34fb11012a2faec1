/* stages/export/sink: the bytes of a tensor on their way into its file, in blocks of a few
 * megabytes. Everything here is Local. */
#ifndef LODE_STAGES_EXPORT_SINK_H
#define LODE_STAGES_EXPORT_SINK_H

#include "model/writer.h"

enum { LODE_EXPORT_BLOCK_BYTES = 4 << 20 };

typedef struct lode_export_sink {
    lode_writer_t *writer; /* of the tensor in hand, and the tensor's index in its list */
    int64_t index;
    int64_t offset;       /* in the tensor, of the block's first byte */
    unsigned char *block; /* [room], `used` of them waiting to be written */
    size_t used, room;
} lode_export_sink_t;

/* Makes room for a block in which `row` bytes may be taken at once, or more. The sink is for
 * lode_export_sink_free, also on failure. Errors: LODE_ERR_MEMORY. */
LODE_MUST_USE lode_status_t lode_export_sink_create(lode_export_sink_t *sink, int64_t row);
void lode_export_sink_free(lode_export_sink_t *sink);

/* Turns to the next tensor; the one before must be flushed, or given up. */
void lode_export_sink_begin(lode_export_sink_t *sink, lode_writer_t *writer, int64_t index);

/* *place is where the next `bytes` bytes of the tensor go, for the caller to fill before the next
 * call. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_export_sink_take(lode_export_sink_t *sink, int64_t bytes,
                                                  unsigned char **place);

/* Appends zeros, or bytes[size]. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_export_sink_zeros(lode_export_sink_t *sink, int64_t size);
LODE_MUST_USE lode_status_t lode_export_sink_copy(lode_export_sink_t *sink, const void *bytes,
                                                  int64_t size);

/* Writes what waits. Errors: LODE_ERR_IO. */
LODE_MUST_USE lode_status_t lode_export_sink_flush(lode_export_sink_t *sink);

#endif
