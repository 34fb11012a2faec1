#include "store/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"
#include "store/seal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are of little-endian bytes");

static herr_t take_attribute(hid_t object, const char *name, const H5A_info_t *info,
                             void *context) {
    (void)object;
    (void)info;
    lode_store_names_t *list = context;
    list->status = lode_store_names_add(list, name);
    return list->status != LODE_OK;
}

static lode_status_t hash_attribute(lode_hash_t *hash, lode_store_t *store, const char *object,
                                    const char *name) {
    hid_t attribute =
        H5Aopen_by_name(store->file, lode_store_relative(object), name, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = attribute < 0 ? H5I_INVALID_HID : H5Aget_type(attribute);
    H5T_class_t class = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Eclear2(H5E_DEFAULT);
    lode_hash_add_text(hash, name);
    if (class == H5T_STRING) {
        char *text = NULL;
        LODE_TRY(lode_store_get_attribute_text(store, object, name, &text));
        lode_hash_add_text(hash, text);
        free(text);
    } else if (class == H5T_FLOAT) {
        double value = 0;
        LODE_TRY(lode_store_get_attribute_f64(store, object, name, &value));
        lode_hash_add(hash, &value, sizeof value);
    } else {
        int64_t value = 0;
        LODE_TRY(lode_store_get_attribute_i64(store, object, name, &value));
        lode_hash_add(hash, &value, sizeof value);
    }
    return LODE_OK;
}

static lode_status_t hash_attributes(lode_hash_t *hash, lode_store_t *store, const char *object) {
    lode_store_names_t list = {0};
    herr_t failed = H5Aiterate_by_name(store->file, lode_store_relative(object), H5_INDEX_NAME,
                                       H5_ITER_INC, NULL, take_attribute, &list, H5P_DEFAULT);
    lode_status_t status = list.status;
    if (failed < 0 && status == LODE_OK)
        status = lode_fail(LODE_ERR_FORMAT, "%s: the attributes of \"%s\" cannot be listed: %s",
                           store->path, object, lode_store_reason());
    lode_store_names_sort(&list);
    for (int64_t i = 0; status == LODE_OK && i < list.count; i++)
        status = hash_attribute(hash, store, object, list.names[i]);
    lode_store_list_free(&list.names, list.count);
    return status;
}

/* Hashes a stretch of a contiguous view of the elements, which is read some rows of the outermost
 * axis at a time. A segment may end inside a row. */
typedef struct segments {
    lode_buffer_t digests;
    lode_hash_t *hash;
    int64_t left; /* bytes until the segment ends */
} segments_t;

static lode_status_t end_segment(segments_t *segments) {
    char digest[LODE_DIGEST_TEXT];
    lode_hash_text(segments->hash, digest);
    lode_hash_destroy(&segments->hash);
    LODE_TRY(lode_buffer_append(&segments->digests, digest, strlen(digest)));
    segments->left = LODE_SEAL_SEGMENT;
    return LODE_OK;
}

static lode_status_t add_bytes(segments_t *segments, const char *bytes, int64_t count) {
    while (count > 0) {
        const int64_t some = count < segments->left ? count : segments->left;
        if (!segments->hash)
            LODE_TRY(lode_hash_create(&segments->hash));
        lode_hash_add(segments->hash, bytes, (size_t)some);
        segments->left -= some;
        bytes += some;
        count -= some;
        if (segments->left == 0)
            LODE_TRY(end_segment(segments));
    }
    return LODE_OK;
}

/* Reads all elements; `row` is the bytes of one index of the outermost axis, above 0. */
static lode_status_t read_segments(segments_t *segments, lode_store_t *store,
                                   const lode_store_entry_t *entry, int64_t row) {
    int64_t offset[LODE_STORE_MAX_AXES] = {0}, count[LODE_STORE_MAX_AXES];
    int64_t rows = row < 1 << 22 ? (1 << 22) / row : 1;
    memcpy(count, entry->shape, sizeof count);
    if (rows > entry->shape[0])
        rows = entry->shape[0];
    char *bytes;
    LODE_TRY(lode_alloc_raw(&bytes, rows, (size_t)row, entry->name));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < entry->shape[0]; i += rows) {
        offset[0] = i;
        count[0] = entry->shape[0] - i < rows ? entry->shape[0] - i : rows;
        status = lode_store_transfer(store, entry, offset, count, entry->type, bytes, NULL);
        if (status == LODE_OK)
            status = add_bytes(segments, bytes, count[0] * row);
    }
    free(bytes);
    if (status == LODE_OK && segments->hash)
        status = end_segment(segments);
    return status;
}

/* The digests of the dataset's segments, from the seal, or as it would have them. */
static lode_status_t hash_elements(lode_hash_t *hash, lode_store_t *store, const lode_seal_t *seal,
                                   const lode_store_entry_t *entry) {
    segments_t segments = {.left = LODE_SEAL_SEGMENT};
    int64_t row = (int64_t)lode_type_size(entry->type), sealed;
    for (int axis = 1; axis < entry->axes; axis++)
        row *= entry->shape[axis];
    const int64_t bytes = row * entry->shape[0];
    if (bytes == 0)
        return LODE_OK;
    lode_status_t status = lode_seal_digests(&segments.digests, &sealed, seal, entry->name);
    if (status == LODE_OK && sealed != bytes) {
        segments.digests.length = 0;
        status = read_segments(&segments, store, entry, row);
    }
    if (status == LODE_OK)
        lode_hash_add(hash, segments.digests.data, segments.digests.length);
    lode_hash_destroy(&segments.hash);
    lode_buffer_free(&segments.digests);
    return status;
}

/* "f64[6,576]", or "group". */
static lode_status_t describe_object(lode_store_t *store, const char *path, bool is_dataset,
                                     lode_buffer_t *out) {
    if (!is_dataset)
        return lode_buffer_printf(out, "group");
    lode_store_entry_t *entry;
    LODE_TRY(lode_store_find(store, path, true, &entry));
    LODE_TRY(lode_buffer_printf(out, "%s", lode_type_name(entry->type)));
    for (int axis = 0; axis < entry->axes; axis++)
        LODE_TRY(
            lode_buffer_printf(out, "%c%lld", axis ? ',' : '[', (long long)entry->shape[axis]));
    return lode_buffer_printf(out, "]");
}

static lode_status_t digest_object(lode_store_t *store, const lode_seal_t *seal, const char *path,
                                   bool is_dataset, lode_buffer_t *listing) {
    lode_buffer_t kind = {0};
    lode_hash_t *hash = NULL;
    char digest[LODE_DIGEST_TEXT];
    lode_status_t status;
    LODE_GUARD(status, describe_object(store, path, is_dataset, &kind), done);
    LODE_GUARD(status, lode_hash_create(&hash), done);
    lode_hash_add_text(hash, path);
    lode_hash_add_text(hash, kind.data);
    if (is_dataset) {
        lode_store_entry_t *entry;
        LODE_GUARD(status, lode_store_find(store, path, true, &entry), done);
        LODE_GUARD(status, hash_elements(hash, store, seal, entry), done);
    }
    LODE_GUARD(status, hash_attributes(hash, store, path), done);
    lode_hash_text(hash, digest);
    status = lode_buffer_printf(listing, "%s  %s  %s\n", digest, kind.data, path);
done:
    lode_hash_destroy(&hash);
    lode_buffer_free(&kind);
    return status;
}

/* Depth first, names in byte order. Hard links that make a cycle end at the depth limit. */
static lode_status_t digest_tree(lode_store_t *store, const lode_seal_t *seal, const char *path,
                                 int depth, lode_buffer_t *listing) {
    if (depth > 16)
        return lode_fail(LODE_ERR_FORMAT, "%s: groups are nested more than 16 deep", store->path);
    H5O_info_t info;
    if (H5Oget_info_by_name(store->file, lode_store_relative(path), &info, H5P_DEFAULT) < 0)
        return lode_fail(LODE_ERR_FORMAT, "%s: \"%s\" cannot be opened: %s", store->path, path,
                         lode_store_reason());
    bool is_dataset = info.type == H5O_TYPE_DATASET;
    LODE_TRY(digest_object(store, seal, path, is_dataset, listing));
    if (is_dataset)
        return LODE_OK;
    char **names;
    int64_t count;
    LODE_TRY(lode_store_list(store, path, &names, &count));
    lode_status_t status = LODE_OK;
    for (int64_t i = 0; status == LODE_OK && i < count; i++) {
        lode_buffer_t child = {0};
        status = lode_buffer_printf(&child, "%s/%s", depth == 0 ? "" : path, names[i]);
        if (status == LODE_OK && strcmp(child.data, "/provenance") != 0)
            status = digest_tree(store, seal, child.data, depth + 1, listing);
        lode_buffer_free(&child);
    }
    lode_store_list_free(&names, count);
    return status;
}

lode_status_t lode_store_digest_lines(char digest[LODE_DIGEST_TEXT], const lode_buffer_t *lines) {
    lode_hash_t *hash;
    LODE_TRY(lode_hash_create(&hash));
    lode_hash_add(hash, lines->data, lines->length);
    lode_hash_text(hash, digest);
    lode_hash_destroy(&hash);
    return LODE_OK;
}

lode_status_t lode_store_digest_sealed(lode_store_t *store, char digest[LODE_DIGEST_TEXT],
                                       lode_buffer_t *listing) {
    lode_buffer_t lines = {0};
    lode_seal_t *seal;
    LODE_TRY(lode_seal_open(&seal, store->path));
    lode_status_t status = digest_tree(store, seal, "/", 0, &lines);
    lode_seal_close(&seal);
    if (status == LODE_OK)
        status = lode_store_digest_lines(digest, &lines);
    if (status == LODE_OK && listing)
        status = lode_buffer_append(listing, lines.data, lines.length);
    lode_buffer_free(&lines);
    return status;
}

lode_status_t lode_store_digest(const char *path, char digest[LODE_DIGEST_TEXT],
                                lode_buffer_t *listing) {
    const lode_comm_t alone = {.comm = MPI_COMM_SELF, .rank = 0, .size = 1};
    lode_store_t *store;
    LODE_TRY(lode_store_open(&store, &alone, path));
    lode_status_t status = lode_store_verify(store);
    if (status == LODE_OK)
        status = lode_store_digest_sealed(store, digest, listing);
    lode_store_close(&store);
    return status;
}
