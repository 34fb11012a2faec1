#include "common/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* One array, by name. */
typedef struct array {
    char name[64];
    int64_t width;
} array_t;

struct lode_spool {
    const lode_comm_t *comm;
    lode_store_t *store;
    int64_t tokens, rows;
    float *panel; /* [rows, LODE_SPOOL_PANEL] */
    array_t *arrays;
    int64_t array_count, array_room;
};

int64_t lode_spool_memory(int64_t rows) {
    return rows * LODE_SPOOL_PANEL * (int64_t)sizeof(float);
}

static int64_t panels_of(int64_t width) {
    return (width + LODE_SPOOL_PANEL - 1) / LODE_SPOOL_PANEL;
}

int64_t lode_spool_bytes(int64_t tokens, int64_t width) {
    return tokens * panels_of(width) * LODE_SPOOL_PANEL * (int64_t)sizeof(float);
}

static int64_t min2(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Local. */
static void release(lode_spool_t **spool) {
    if (!*spool)
        return;
    free((*spool)->panel);
    free((*spool)->arrays);
    free(*spool);
    *spool = NULL;
}

static lode_status_t allocate(lode_spool_t **out, char **path, const lode_run_t *run,
                              const char *name, int64_t tokens, int64_t rows) {
    char file[64];
    snprintf(file, sizeof file, "%s-scratch.h5", name);
    LODE_TRY(LODE_NEW(out, 1, "scratch file"));
    (*out)->comm = run->comm;
    (*out)->tokens = tokens;
    (*out)->rows = rows;
    LODE_TRY(LODE_NEW_RAW(&(*out)->panel, rows * LODE_SPOOL_PANEL, "scratch file"));
    return lode_path_join(path, run->folder, file);
}

lode_status_t lode_spool_create(lode_spool_t **out, const lode_run_t *run, const char *name,
                                int64_t tokens, int64_t rows) {
    char *path = NULL;
    *out = NULL;
    lode_status_t status =
        lode_comm_agree(run->comm, allocate(out, &path, run, name, tokens, rows));
    if (status == LODE_OK)
        status = lode_store_create(&(*out)->store, run->comm, path);
    free(path);
    if (status != LODE_OK)
        release(out);
    return status;
}

static lode_status_t remember(lode_spool_t *spool, const char *name, int64_t width) {
    if (spool->array_count == spool->array_room) {
        const int64_t room = spool->array_room ? 2 * spool->array_room : 16;
        LODE_TRY(lode_resize(&spool->arrays, room, sizeof *spool->arrays, "scratch arrays"));
        spool->array_room = room;
    }
    array_t *entry = &spool->arrays[spool->array_count++];
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->width = width;
    return LODE_OK;
}

lode_status_t lode_spool_add(lode_spool_t *spool, const char *array, int64_t width) {
    const int64_t shape[] = {panels_of(width), spool->tokens, LODE_SPOOL_PANEL};
    LODE_TRY(lode_store_dataset(spool->store, array, LODE_TYPE_F32, 3, shape, false));
    return lode_comm_agree(spool->comm, remember(spool, array, width));
}

static int64_t width_of(const lode_spool_t *spool, const char *array) {
    for (int64_t i = 0; i < spool->array_count; i++)
        if (strcmp(spool->arrays[i].name, array) == 0)
            return spool->arrays[i].width;
    LODE_ASSERT(!"a scratch array of this name");
    return 0;
}

lode_status_t lode_spool_write(lode_spool_t *spool, const char *array, int64_t first, int64_t rows,
                               const lode_real_t *x) {
    const int64_t width = width_of(spool, array);
    LODE_ASSERT(rows <= spool->rows);
    for (int64_t p = 0; p < panels_of(width); p++) {
        const int64_t column = p * LODE_SPOOL_PANEL;
        const int64_t columns = min2(LODE_SPOOL_PANEL, width - column);
        const int64_t offset[] = {p, first, 0}, count[] = {1, rows, LODE_SPOOL_PANEL};
        if (columns < LODE_SPOOL_PANEL)
            memset(spool->panel, 0, (size_t)(rows * LODE_SPOOL_PANEL) * sizeof *spool->panel);
        for (int64_t t = 0; t < rows; t++)
            for (int64_t j = 0; j < columns; j++)
                spool->panel[t * LODE_SPOOL_PANEL + j] = (float)x[t * width + column + j];
        LODE_TRY(lode_store_write(spool->store, array, offset, count, spool->panel));
    }
    return LODE_OK;
}

lode_status_t lode_spool_synchronise(lode_spool_t *spool) {
    return lode_store_synchronise(spool->store);
}

lode_status_t lode_spool_read(lode_spool_t *spool, const char *array, int64_t first, int64_t rows,
                              lode_real_t *x) {
    const int64_t width = width_of(spool, array);
    LODE_ASSERT(rows <= spool->rows);
    for (int64_t p = 0; p < panels_of(width); p++) {
        const int64_t column = p * LODE_SPOOL_PANEL;
        const int64_t columns = min2(LODE_SPOOL_PANEL, width - column);
        const int64_t offset[] = {p, first, 0}, count[] = {1, rows, LODE_SPOOL_PANEL};
        LODE_TRY(lode_store_read(spool->store, array, offset, count, LODE_TYPE_F32, spool->panel));
        for (int64_t t = 0; t < rows; t++)
            for (int64_t j = 0; j < columns; j++)
                x[t * width + column + j] = (lode_real_t)spool->panel[t * LODE_SPOOL_PANEL + j];
    }
    return LODE_OK;
}

/* Columns of one panel; straight into place where they are the whole of what was asked for. */
static lode_status_t read_panel(lode_spool_t *spool, const char *array, int64_t first, int64_t rows,
                                int64_t column, int64_t columns, int64_t stride, float *x) {
    const int64_t p = column / LODE_SPOOL_PANEL, inside = column % LODE_SPOOL_PANEL;
    if (columns == stride) {
        const int64_t offset[] = {p, first, inside}, count[] = {1, rows, columns};
        return lode_store_read(spool->store, array, offset, count, LODE_TYPE_F32, x);
    }
    for (int64_t t = 0; t < rows; t += spool->rows) {
        const int64_t some = min2(spool->rows, rows - t);
        const int64_t offset[] = {p, first + t, inside}, count[] = {1, some, columns};
        LODE_TRY(lode_store_read(spool->store, array, offset, count, LODE_TYPE_F32, spool->panel));
        for (int64_t i = 0; i < some; i++)
            memcpy(x + (t + i) * stride, spool->panel + i * columns, (size_t)columns * sizeof *x);
    }
    return LODE_OK;
}

lode_status_t lode_spool_read_columns(lode_spool_t *spool, const char *array, int64_t first,
                                      int64_t rows, int64_t column, int64_t columns, float *x) {
    for (int64_t done = 0; done < columns;) {
        const int64_t next = column + done;
        const int64_t some = min2(columns - done, LODE_SPOOL_PANEL - next % LODE_SPOOL_PANEL);
        LODE_TRY(read_panel(spool, array, first, rows, next, some, columns, x + done));
        done += some;
    }
    return LODE_OK;
}

void lode_spool_destroy(lode_spool_t **spool) {
    if (!*spool)
        return;
    lode_store_abandon(&(*spool)->store);
    release(spool);
}
