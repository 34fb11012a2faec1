#include "testing/hdf5_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

hid_t lode_h5_open(const char *path) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
}

bool lode_h5_exists(hid_t file, const char *path) {
    /* H5Lexists needs every group above the last name to exist: ask for each in turn */
    char part[4 * LODE_H5_NAME];
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return false;
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        if (H5Lexists(file, part, H5P_DEFAULT) <= 0)
            return false;
    }
    return true;
}

/* Shape of a dataspace into the array; false where it has too many axes. */
static bool read_shape(lode_h5_array_t *array, hid_t space) {
    hsize_t extent[LODE_H5_AXES];
    array->axes = H5Sget_simple_extent_ndims(space);
    if (array->axes < 0 || array->axes > LODE_H5_AXES ||
        H5Sget_simple_extent_dims(space, extent, NULL) < 0)
        return false;
    array->count = 1;
    for (int i = 0; i < LODE_H5_AXES; i++) {
        array->extent[i] = i < array->axes ? (int64_t)extent[i] : 1;
        array->count *= array->extent[i];
    }
    return true;
}

/* Elements of `set`, which it also allocates. */
static bool read_elements(lode_h5_array_t *array, hid_t set, lode_h5_type_t type) {
    const hid_t types[] = {H5T_NATIVE_DOUBLE, H5T_NATIVE_FLOAT, H5T_NATIVE_INT32, H5T_NATIVE_INT64,
                           H5T_NATIVE_UINT8};
    if (array->count == 0)
        return true;
    void *data = calloc((size_t)array->count, H5Tget_size(types[type]));
    if (!data)
        return false;
    switch (type) {
    case LODE_H5_F64:
        array->f64 = data;
        break;
    case LODE_H5_F32:
        array->f32 = data;
        break;
    case LODE_H5_I32:
        array->i32 = data;
        break;
    case LODE_H5_I64:
        array->i64 = data;
        break;
    case LODE_H5_U8:
        array->u8 = data;
        break;
    }
    return H5Dread(set, types[type], H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
}

bool lode_h5_read(lode_h5_array_t *array, hid_t file, const char *path, lode_h5_type_t type) {
    *array = (lode_h5_array_t){0};
    if (!lode_h5_exists(file, path))
        return false;
    const hid_t set = H5Dopen2(file, path, H5P_DEFAULT);
    if (set < 0)
        return false;
    const hid_t space = H5Dget_space(set);
    const bool read = read_shape(array, space) && read_elements(array, set, type);
    H5Sclose(space);
    H5Dclose(set);
    if (!read)
        lode_h5_free(array);
    return read;
}

void lode_h5_free(lode_h5_array_t *array) {
    free(array->f64);
    free(array->f32);
    free(array->i32);
    free(array->i64);
    free(array->u8);
    *array = (lode_h5_array_t){0};
}

int64_t lode_h5_members(hid_t file, const char *path) {
    H5G_info_t info;
    if (!lode_h5_exists(file, path) || H5Gget_info_by_name(file, path, &info, H5P_DEFAULT) < 0)
        return 0;
    return (int64_t)info.nlinks;
}

bool lode_h5_member(hid_t file, const char *path, int64_t index, char name[LODE_H5_NAME]) {
    const ssize_t length = H5Lget_name_by_idx(file, path, H5_INDEX_NAME, H5_ITER_INC,
                                              (hsize_t)index, name, LODE_H5_NAME, H5P_DEFAULT);
    return length > 0 && length < LODE_H5_NAME;
}

static hid_t open_attribute(hid_t file, const char *path, const char *attribute) {
    if (H5Aexists_by_name(file, path, attribute, H5P_DEFAULT) <= 0)
        return -1;
    return H5Aopen_by_name(file, path, attribute, H5P_DEFAULT, H5P_DEFAULT);
}

bool lode_h5_number(hid_t file, const char *path, const char *attribute, double *value) {
    const hid_t handle = open_attribute(file, path, attribute);
    const bool read = handle >= 0 && H5Aread(handle, H5T_NATIVE_DOUBLE, value) >= 0;
    if (handle >= 0)
        H5Aclose(handle);
    return read;
}

static bool read_text(hid_t handle, hid_t type, char text[LODE_H5_NAME]) {
    const size_t size = H5Tget_size(type);
    text[0] = '\0';
    if (H5Tis_variable_str(type) > 0) {
        char *value = NULL;
        if (H5Aread(handle, type, &value) < 0 || !value)
            return false;
        snprintf(text, LODE_H5_NAME, "%s", value);
        H5free_memory(value);
        return true;
    }
    if (H5Tget_class(type) != H5T_STRING || size >= LODE_H5_NAME)
        return false;
    text[size] = '\0';
    return H5Aread(handle, type, text) >= 0;
}

bool lode_h5_text(hid_t file, const char *path, const char *attribute, char text[LODE_H5_NAME]) {
    const hid_t handle = open_attribute(file, path, attribute);
    if (handle < 0)
        return false;
    const hid_t type = H5Aget_type(handle);
    const bool read = read_text(handle, type, text);
    H5Tclose(type);
    H5Aclose(handle);
    return read;
}
