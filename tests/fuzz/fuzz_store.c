/* Fuzz target: whatever datasets, groups, types and attributes an HDF5 file has, reading it as a
 * result file is refused or gives as many elements as it says.
 *
 * HDF5 itself does not survive every file. What it is given to read must therefore be checked
 * before it (store/seal.h), and the inputs of this target keep what HDF5 needs: the bytes of a seed
 * in the corpus decide about names, shapes, types and attributes, and the file is made of them. */
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "store/digest.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input, a byte at a time; zeros at its end. */
typedef struct input {
    const uint8_t *data;
    size_t left;
} input_t;

static unsigned take(input_t *input, unsigned limit) {
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->data++ % limit;
}

static hid_t take_type(input_t *input) {
    hid_t type;
    switch (take(input, 14)) {
    case 0:
        return H5Tcopy(H5T_IEEE_F64LE);
    case 1:
        return H5Tcopy(H5T_IEEE_F32LE);
    case 2:
        return H5Tcopy(H5T_STD_I32LE);
    case 3:
        return H5Tcopy(H5T_STD_I64LE);
    case 4:
        return H5Tcopy(H5T_STD_U8LE);
    case 5:
        return H5Tcopy(H5T_IEEE_F64BE);
    case 6:
        return H5Tcopy(H5T_STD_I16LE);
    case 7:
        return H5Tcopy(H5T_STD_U64LE);
    case 8:
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, 1 + take(input, 20));
        return type;
    case 9:
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        return type;
    case 10:
        type = H5Tcreate(H5T_COMPOUND, 12);
        H5Tinsert(type, "a", 0, H5T_IEEE_F64LE);
        H5Tinsert(type, "b", 8, H5T_STD_I32LE);
        return type;
    case 11:
        return H5Tvlen_create(H5T_IEEE_F64LE);
    case 12:
        type = H5Tcopy(H5T_IEEE_F32LE);
        H5Tset_size(type, 8); /* of 4 bytes' precision */
        return type;
    default:
        type = H5Tenum_create(H5T_STD_I32LE);
        H5Tenum_insert(type, "zero", &(int){0});
        return type;
    }
}

static hid_t take_space(input_t *input, int *axes) {
    hsize_t extents[12];
    *axes = (int)take(input, 12);
    if (*axes == 10)
        return H5Screate(H5S_NULL);
    if (*axes == 0)
        return H5Screate(H5S_SCALAR);
    for (int axis = 0; axis < *axes; axis++)
        extents[axis] = take(input, 4) == 3 ? (hsize_t)1 << take(input, 63) : take(input, 5);
    return H5Screate_simple(*axes, extents, NULL);
}

static void take_attribute(input_t *input, hid_t object) {
    static const char *const names[] = {"value", "tokens", "fingerprint", "sealed"};
    static const double zeros[64];
    int axes;
    const hid_t type = take_type(input), space = take_space(input, &axes);
    const hid_t attribute =
        H5Acreate2(object, names[take(input, 4)], type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && H5Sget_simple_extent_npoints(space) == 1 && take(input, 2))
        H5Awrite(attribute, type, zeros);
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    H5Tclose(type);
}

static void take_dataset(input_t *input, hid_t file, const char *name) {
    int axes;
    const hid_t type = take_type(input), space = take_space(input, &axes);
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[12];
    for (int axis = 0; axis < 12; axis++)
        chunk[axis] = 1 + take(input, 3);
    switch (take(input, 5)) {
    case 0:
        H5Pset_chunk(properties, axes, chunk);
        break;
    case 1:
        H5Pset_layout(properties, H5D_COMPACT);
        break;
    case 2:
        H5Pset_alloc_time(properties, H5D_ALLOC_TIME_LATE);
        break;
    case 3:
        H5Pset_external(properties, "missing", 0, H5F_UNLIMITED);
        break;
    default:
        break;
    }
    /* HDF5 would make the file as long as the dataset. */
    const hssize_t count = space < 0 ? 0 : H5Sget_simple_extent_npoints(space);
    if (count > 1 << 16 || count < 0)
        H5Pset_alloc_time(properties, H5D_ALLOC_TIME_INCR);
    const bool held = count <= 1 << 16 || H5Pget_layout(properties) == H5D_CHUNKED;
    const hid_t dataset =
        held ? H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT)
             : H5I_INVALID_HID;
    if (dataset >= 0) {
        take_attribute(input, dataset);
        H5Dclose(dataset);
    }
    H5Pclose(properties);
    if (space >= 0)
        H5Sclose(space);
    H5Tclose(type);
}

static const char *const names[] = {"a", "b", "g/c", "g/d/e", "provenance", "g", "l", "."};

static void make_file(input_t *input) {
    const hid_t file = H5Fcreate(scratch_path("store.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    require(file >= 0);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    while (input->left > 0) {
        const char *name = names[take(input, 8)], *other = names[take(input, 8)];
        hid_t group;
        switch (take(input, 7)) {
        case 0:
            group = H5Gcreate2(file, name, links, H5P_DEFAULT, H5P_DEFAULT);
            if (group >= 0) {
                take_attribute(input, group);
                H5Gclose(group);
            }
            break;
        case 1:
            H5Lcreate_soft(other, file, name, links, H5P_DEFAULT);
            break;
        case 2:
            H5Lcreate_hard(file, other, file, name, links, H5P_DEFAULT);
            break;
        case 3:
            H5Lcreate_external("missing.h5", other, file, name, links, H5P_DEFAULT);
            break;
        default:
            take_dataset(input, file, name);
            break;
        }
    }
    H5Pclose(links);
    H5Fclose(file);
}

static void read_object(lode_store_t *store, const char *name) {
    int axes;
    int64_t shape[LODE_STORE_MAX_AXES], elements, total = 1, number;
    lode_type_t type;
    double value;
    char *text = NULL;
    const void *mapped;
    void *values;
    (void)!lode_store_get_attribute_f64(store, name, "value", &value);
    (void)!lode_store_get_attribute_i64(store, name, "tokens", &number);
    if (lode_store_get_attribute_text(store, name, "fingerprint", &text) == LODE_OK)
        require(strlen(text) < 1 << 20);
    free(text);
    if (lode_store_shape(store, name, &axes, shape) != LODE_OK)
        return;
    require(lode_store_type(store, name, &type) == LODE_OK);
    require(axes >= 1 && axes <= LODE_STORE_MAX_AXES);
    for (int axis = 0; axis < axes; axis++) {
        require(shape[axis] >= 0);
        require(!__builtin_mul_overflow(total, shape[axis], &total));
    }
    if (total < 1 << 20 && lode_store_read_all(store, name, type, &values, &elements) == LODE_OK) {
        require(elements == total);
        free(values);
    }
    if (lode_store_map(store, name, type, &mapped, &elements) == LODE_OK) {
        require(elements == total);
        uint64_t sum = 0;
        for (int64_t i = 0; i < total * (int64_t)lode_type_size(type); i += 4096)
            sum += ((const uint8_t *)mapped)[i];
        require(sum < UINT64_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const lode_comm_t alone = lode_comm_alone();
    char digest[LODE_DIGEST_TEXT], **list;
    int64_t count;
    lode_store_t *store;
    input_t input = {.data = data, .left = size < 400 ? size : 400};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    make_file(&input);
    lode_store_fingerprint(scratch_path("store.h5"), digest);
    if (lode_store_open(&store, &alone, scratch_path("store.h5")) == LODE_OK) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            read_object(store, names[i]);
        if (lode_store_list(store, "g", &list, &count) == LODE_OK)
            lode_store_list_free(&list, count);
        lode_store_close(&store);
    }
    (void)!lode_store_digest(scratch_path("store.h5"), digest, NULL);
    require(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    return 0;
}
