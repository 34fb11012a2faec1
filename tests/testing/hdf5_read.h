/* testing/hdf5_read: whole datasets out of any HDF5 file, through the plain C API and nothing of
 * Lodestone's, so that a check of our files does not trust our reader. Local. */
#ifndef LODE_TESTING_HDF5_READ_H
#define LODE_TESTING_HDF5_READ_H

#include <stdbool.h>
#include <stdint.h>

#include <hdf5.h>

enum { LODE_H5_AXES = 4, LODE_H5_NAME = 256 };

/* A dataset in memory; exactly one of the pointers is set, or none where it is empty. */
typedef struct lode_h5_array {
    int axes;
    int64_t extent[LODE_H5_AXES]; /* 1 beyond `axes` */
    int64_t count;                /* product of the extents */
    double *f64;
    float *f32;
    int32_t *i32;
    int64_t *i64;
    uint8_t *u8;
} lode_h5_array_t;

typedef enum lode_h5_type {
    LODE_H5_F64,
    LODE_H5_F32,
    LODE_H5_I32,
    LODE_H5_I64,
    LODE_H5_U8,
} lode_h5_type_t;

/* Opens a file to read, without HDF5's own messages; negative where that fails. */
hid_t lode_h5_open(const char *path);

/* Reads a dataset, converted to `type`; release it with lode_h5_free(). False where the file has no
 * such dataset, where it has more than LODE_H5_AXES axes, or where reading fails. */
bool lode_h5_read(lode_h5_array_t *array, hid_t file, const char *path, lode_h5_type_t type);
void lode_h5_free(lode_h5_array_t *array); /* leaves {0} */

bool lode_h5_exists(hid_t file, const char *path);

/* Members of a group in the order of their names; 0 where there is no such group. */
int64_t lode_h5_members(hid_t file, const char *path);
/* Name of member `index`; false where it does not fit. */
bool lode_h5_member(hid_t file, const char *path, int64_t index, char name[LODE_H5_NAME]);

/* Attributes of an object; false where absent or of another kind. */
bool lode_h5_number(hid_t file, const char *path, const char *attribute, double *value);
bool lode_h5_text(hid_t file, const char *path, const char *attribute, char text[LODE_H5_NAME]);

#endif
