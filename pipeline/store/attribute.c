#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"

/* Variable-length UTF-8, which h5py and others read as plain text. */
static hid_t text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        type = H5I_INVALID_HID;
    }
    return type;
}

/* Writes one scalar; every rank passes the same bytes. Collective. */
static lode_status_t set_attribute(lode_store_t *store, const char *object, const char *name,
                                   hid_t file_type, hid_t memory_type, const void *value) {
    hid_t handle = H5Oopen(store->file, lode_store_relative(object), H5P_DEFAULT);
    hid_t space = H5Screate(H5S_SCALAR), attribute = H5I_INVALID_HID;
    herr_t failed = -1;
    if (handle >= 0 && space >= 0) {
        htri_t exists = H5Aexists(handle, name);
        if (exists == 0 || (exists > 0 && H5Adelete(handle, name) >= 0))
            attribute = H5Acreate2(handle, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    }
    if (attribute >= 0)
        failed = H5Awrite(attribute, memory_type, value);
    lode_status_t status = LODE_OK;
    if (failed < 0 || lode_fault(LODE_FAULT_WRITE))
        status = lode_fail(LODE_ERR_IO, "%s: attribute \"%s\" of \"%s\" cannot be written: %s",
                           store->partial, name, object, lode_store_reason());
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    if (handle >= 0)
        H5Oclose(handle);
    return lode_comm_agree(&store->comm, status);
}

lode_status_t lode_store_attribute_f64(lode_store_t *store, const char *object, const char *name,
                                       double value) {
    LODE_TRY(lode_comm_broadcast(&store->comm, &value, sizeof value, 0));
    return set_attribute(store, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

lode_status_t lode_store_attribute_i64(lode_store_t *store, const char *object, const char *name,
                                       int64_t value) {
    LODE_TRY(lode_comm_broadcast(&store->comm, &value, sizeof value, 0));
    return set_attribute(store, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

lode_status_t lode_store_attribute_text(lode_store_t *store, const char *object, const char *name,
                                        const char *value) {
    char *text = NULL;
    size_t length = 0;
    lode_status_t status = LODE_OK;
    if (store->comm.rank == 0) {
        status = lode_strdup(&text, value ? value : "");
        length = text ? strlen(text) : 0;
    }
    status = lode_comm_share(&store->comm, &text, &length, 0, status);
    if (status == LODE_OK) {
        const char *pointer = text;
        hid_t type = text_type();
        status = set_attribute(store, object, name, type, type, &pointer);
        H5Tclose(type);
    }
    free(text);
    return status;
}

static lode_status_t create_group(lode_store_t *store, const char *name) {
    hid_t group = H5Gcreate2(store->file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0)
        return lode_fail(LODE_ERR_IO, "%s: group \"%s\" cannot be created: %s", store->partial,
                         name, lode_store_reason());
    H5Gclose(group);
    return LODE_OK;
}

lode_status_t lode_store_provenance(lode_store_t *store, const lode_provenance_t *provenance) {
    const struct {
        const char *name, *value;
    } texts[] = {
        {"experiment", provenance->experiment},
        {"experiment_sha256", provenance->experiment_sha256},
        {"stage", provenance->stage},
        {"fingerprint", provenance->fingerprint},
        {"inputs", provenance->inputs},
        {"version", provenance->version},
        {"commit", provenance->commit},
        {"libraries", provenance->libraries},
        {"host", provenance->host},
        {"start", provenance->start},
        {"end", provenance->end},
    };
    LODE_TRY(lode_comm_agree(&store->comm, create_group(store, "provenance")));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        LODE_TRY(lode_store_attribute_text(store, "/provenance", texts[i].name, texts[i].value));
    LODE_TRY(lode_store_attribute_i64(store, "/provenance", "sealed", 1)); /* by the commit */
    LODE_TRY(lode_store_attribute_i64(store, "/provenance", "ranks", provenance->ranks));
    LODE_TRY(lode_store_attribute_i64(store, "/provenance", "threads", provenance->threads));
    return lode_store_attribute_i64(store, "/provenance", "peak_private_bytes",
                                    provenance->peak_private_bytes);
}

bool lode_store_has_attribute(lode_store_t *store, const char *object, const char *name) {
    bool found = lode_store_has(store, object) &&
                 H5Aexists_by_name(store->file, lode_store_relative(object), name, H5P_DEFAULT) > 0;
    H5Eclear2(H5E_DEFAULT);
    return found;
}

/* Opens a scalar attribute of the wanted class. */
static lode_status_t open_attribute(lode_store_t *store, const char *object, const char *name,
                                    H5T_class_t class, hid_t *attribute) {
    if (!lode_store_has_attribute(store, object, name))
        return lode_fail(LODE_ERR_INPUT,
                         "%s: \"%s\" has no attribute \"%s\"; another version wrote the file: run "
                         "its stage again (--force)",
                         store->path, object, name);
    *attribute =
        H5Aopen_by_name(store->file, lode_store_relative(object), name, H5P_DEFAULT, H5P_DEFAULT);
    bool good = *attribute >= 0;
    if (good) {
        hid_t type = H5Aget_type(*attribute), space = H5Aget_space(*attribute);
        good = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1;
        H5Tclose(type);
        H5Sclose(space);
        if (!good)
            H5Aclose(*attribute);
    }
    H5Eclear2(H5E_DEFAULT);
    if (!good)
        return lode_fail(LODE_ERR_FORMAT, "%s: attribute \"%s\" of \"%s\" is not one %s",
                         store->path, name, object,
                         class == H5T_STRING  ? "text"
                         : class == H5T_FLOAT ? "float"
                                              : "integer");
    return LODE_OK;
}

/* Reads and closes; *value is set only on success. */
static lode_status_t read_number(lode_store_t *store, hid_t attribute, hid_t memory_type,
                                 const char *name, void *value) {
    int64_t bytes = 0; /* both kinds of number have eight */
    herr_t failed = lode_fault(LODE_FAULT_READ) ? -1 : H5Aread(attribute, memory_type, &bytes);
    H5Aclose(attribute);
    if (failed < 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: attribute \"%s\" cannot be read: %s", store->path,
                         name, lode_store_reason());
    memcpy(value, &bytes, sizeof bytes);
    return LODE_OK;
}

lode_status_t lode_store_get_attribute_f64(lode_store_t *store, const char *object,
                                           const char *name, double *value) {
    hid_t attribute;
    LODE_TRY(open_attribute(store, object, name, H5T_FLOAT, &attribute));
    return read_number(store, attribute, H5T_NATIVE_DOUBLE, name, value);
}

lode_status_t lode_store_get_attribute_i64(lode_store_t *store, const char *object,
                                           const char *name, int64_t *value) {
    hid_t attribute;
    LODE_TRY(open_attribute(store, object, name, H5T_INTEGER, &attribute));
    return read_number(store, attribute, H5T_NATIVE_INT64, name, value);
}

lode_status_t lode_store_get_attribute_text(lode_store_t *store, const char *object,
                                            const char *name, char **value) {
    hid_t attribute;
    LODE_TRY(open_attribute(store, object, name, H5T_STRING, &attribute));
    hid_t type = H5Aget_type(attribute);
    bool variable = H5Tis_variable_str(type) > 0;
    char *text = NULL;
    lode_status_t status = LODE_OK;
    if (variable) {
        hid_t space = H5Aget_space(attribute);
        char *borrowed = NULL;
        if (lode_fault(LODE_FAULT_READ) || H5Aread(attribute, type, &borrowed) < 0)
            status = lode_fail(LODE_ERR_FORMAT, "%s: attribute \"%s\" cannot be read: %s",
                               store->path, name, lode_store_reason());
        else
            status = lode_strdup(&text, borrowed ? borrowed : "");
        if (borrowed)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, &borrowed);
        H5Sclose(space);
    } else {
        status = lode_alloc(&text, (int64_t)H5Tget_size(type) + 1, 1, name);
        if (status == LODE_OK && H5Aread(attribute, type, text) < 0)
            status = lode_fail(LODE_ERR_FORMAT, "%s: attribute \"%s\" cannot be read: %s",
                               store->path, name, lode_store_reason());
    }
    H5Tclose(type);
    H5Aclose(attribute);
    if (status != LODE_OK) {
        free(text);
        return status;
    }
    *value = text;
    return LODE_OK;
}
