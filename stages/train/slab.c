#include "train/slab.h"

int lode_train_slabs(lode_train_slab_t slabs[LODE_TRAIN_SLABS], int64_t columns, int64_t first,
                     int64_t end) {
    int count = 0;
    while (first < end) {
        const int64_t row = first / columns, column = first % columns;
        const int64_t whole = (end - first) / columns;
        lode_train_slab_t *slab = &slabs[count++];
        if (column == 0 && whole > 0) {
            *slab = (lode_train_slab_t){{row, 0}, {whole, columns}};
            first += whole * columns;
            continue;
        }
        const int64_t line_end = (row + 1) * columns;
        const int64_t stop = end < line_end ? end : line_end;
        *slab = (lode_train_slab_t){{row, column}, {1, stop - first}};
        first = stop;
    }
    return count;
}
