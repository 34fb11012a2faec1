/* alter: a checkpoint with other weights.
 *
 *     test_alter FOLDER CHANGES
 *
 * Changes the bfloat16 tensors of FOLDER/model.safetensors in place. A line of CHANGES is
 *     TENSOR row I FACTOR | TENSOR column J FACTOR | TENSOR element I J FACTOR
 * and multiplies these weights by the factor, which must be 0 or a power of two, with any sign: so
 * nothing is rounded. None of Lodestone's code is used. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tensor {
    long begin; /* in the file */
    int64_t rows, columns;
} tensor_t;

/* The JSON before the data, and where these begin; NULL on failure. */
static json_t *read_header(FILE *file, long *data) {
    uint64_t size;
    json_t *header = NULL;
    if (fread(&size, sizeof size, 1, file) != 1 || size > 1 << 20)
        return NULL;
    char *text = malloc(size);
    if (text && fread(text, 1, size, file) == size)
        header = json_loadb(text, size, 0, NULL);
    free(text);
    *data = (long)(sizeof size + size);
    return header;
}

static int find(const json_t *header, long data, const char *name, tensor_t *tensor) {
    const char *dtype;
    json_int_t begin, end, rows, columns;
    if (json_unpack(json_object_get(header, name), "{s:s, s:[II], s:[II]}", "dtype", &dtype,
                    "data_offsets", &begin, &end, "shape", &rows, &columns) != 0 ||
        strcmp(dtype, "BF16") != 0) {
        fprintf(stderr, "test_alter: %s is no bfloat16 matrix of the file\n", name);
        return 1;
    }
    *tensor = (tensor_t){.begin = data + (long)begin, .rows = rows, .columns = columns};
    return 0;
}

static int scale(FILE *file, const tensor_t *tensor, int64_t row, int64_t column, float factor) {
    const long at = tensor->begin + 2 * (long)(row * tensor->columns + column);
    uint16_t half;
    uint32_t bits;
    float value;
    if (fseek(file, at, SEEK_SET) != 0 || fread(&half, sizeof half, 1, file) != 1)
        return 1;
    bits = (uint32_t)half << 16;
    memcpy(&value, &bits, sizeof value);
    value = factor == 0 ? 0 : value * factor;
    memcpy(&bits, &value, sizeof bits);
    half = (uint16_t)(bits >> 16);
    return fseek(file, at, SEEK_SET) != 0 || fwrite(&half, sizeof half, 1, file) != 1;
}

/* One line of the list. */
static int change(FILE *file, const json_t *header, long data, const char *line) {
    char name[200], kind[16];
    int64_t first, second = 0;
    float factor;
    tensor_t tensor;
    if (sscanf(line, "%199s %15s %" SCNd64, name, kind, &first) != 3)
        return 1;
    const int pair = strcmp(kind, "element") == 0, row = strcmp(kind, "row") == 0;
    if ((pair ? sscanf(line, "%*s %*s %*s %" SCNd64 " %f", &second, &factor) != 2
              : sscanf(line, "%*s %*s %*s %f", &factor) != 1) ||
        find(header, data, name, &tensor) != 0)
        return 1;
    const int64_t count = pair ? 1 : row ? tensor.columns : tensor.rows;
    int failed = 0;
    for (int64_t i = 0; i < count && !failed; i++)
        failed = pair  ? scale(file, &tensor, first, second, factor)
                 : row ? scale(file, &tensor, first, i, factor)
                       : scale(file, &tensor, i, first, factor);
    return failed;
}

int main(int argc, char **argv) {
    char path[4096], line[512];
    long data = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: test_alter FOLDER CHANGES\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", argv[1]);
    FILE *file = fopen(path, "r+b"), *changes = fopen(argv[2], "r");
    json_t *header = file ? read_header(file, &data) : NULL;
    int failed = !file || !changes || !header;
    while (!failed && fgets(line, sizeof line, changes))
        failed = change(file, header, data, line);
    json_decref(header);
    if (changes)
        fclose(changes);
    if (file && fclose(file) != 0)
        failed = 1;
    if (failed)
        fprintf(stderr, "test_alter: %s could not be changed as %s says\n", path, argv[2]);
    return failed;
}
