#include "config/schema.h"

#include <math.h>
#include <string.h>
#include <threads.h>

#include "config/config.h"
#include "config/keys.h"
#include "config/value.h"

/* The fields of LODE_KEY_CHOICE are written as int. */
_Static_assert(
    sizeof(lode_method_t) == sizeof(int) && sizeof(lode_core_t) == sizeof(int) &&
        sizeof(lode_allocation_t) == sizeof(int) && sizeof(lode_compensation_t) == sizeof(int) &&
        sizeof(lode_select_t) == sizeof(int) && sizeof(lode_packing_t) == sizeof(int) &&
        sizeof(lode_padding_t) == sizeof(int) && sizeof(lode_loss_t) == sizeof(int) &&
        sizeof(lode_protocol_t) == sizeof(int) && sizeof(lode_corpus_format_t) == sizeof(int) &&
        sizeof(lode_second_moment_t) == sizeof(int) && sizeof(lode_correlation_t) == sizeof(int) &&
        sizeof(lode_spectrum_t) == sizeof(int) && sizeof(lode_probe_check_t) == sizeof(int) &&
        sizeof(lode_export_layout_t) == sizeof(int) && sizeof(lode_bos_t) == sizeof(int) &&
        sizeof(lode_spike_rule_t) == sizeof(int) && sizeof(lode_experiment_t) == sizeof(int) &&
        sizeof(lode_quantizer_t) == sizeof(int) && sizeof(lode_protection_t) == sizeof(int) &&
        sizeof(lode_clip_t) == sizeof(int) && sizeof(lode_activations_quantized_t) == sizeof(int) &&
        sizeof(lode_quantized_tensors_t) == sizeof(int) &&
        sizeof(lode_train_from_t) == sizeof(int) && sizeof(lode_train_decay_t) == sizeof(int) &&
        sizeof(lode_train_dtype_t) == sizeof(int) && sizeof(lode_entropy_form_t) == sizeof(int) &&
        sizeof(lode_entropy_schedule_t) == sizeof(int),
    "enums of choices are as wide as int");

static const lode_keys_t *const groups[] = {
    &lode_keys_general, &lode_keys_calibration, &lode_keys_classify, &lode_keys_superweight,
    &lode_keys_prune,   &lode_keys_quantize,    &lode_keys_evaluate, &lode_keys_probe,
    &lode_keys_train,   &lode_keys_folders,     &lode_keys_sweep,
};
enum { GROUPS = sizeof groups / sizeof *groups, MOST_KEYS = 256, NEAR_MAX = 64 };

/* All groups' rows, one after the other. */
static lode_key_t table[MOST_KEYS];
static int64_t table_count;
static once_flag joined = ONCE_FLAG_INIT;

static void join_groups(void) {
    for (int i = 0; i < GROUPS; i++) {
        LODE_ASSERT(table_count + groups[i]->count <= MOST_KEYS);
        memcpy(table + table_count, groups[i]->rows, (size_t)groups[i]->count * sizeof *table);
        table_count += groups[i]->count;
    }
}

const lode_key_t *lode_schema(int64_t *count) {
    call_once(&joined, join_groups);
    *count = table_count;
    return table;
}

const lode_key_t *lode_schema_find(const char *path) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++)
        if (strcmp(keys[i].path, path) == 0)
            return &keys[i];
    return NULL;
}

const lode_key_t *lode_schema_owner(const lode_key_t *key) {
    const char *mark = strstr(key->path, ".[].");
    if (!mark)
        return NULL;
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    size_t length = (size_t)(mark - key->path);
    for (int64_t i = 0; i < count; i++)
        if (strlen(keys[i].path) == length && memcmp(keys[i].path, key->path, length) == 0)
            return &keys[i];
    return NULL;
}

const char *lode_schema_local_path(const lode_key_t *key) {
    const char *mark = strstr(key->path, ".[].");
    return mark ? mark + strlen(".[].") : key->path;
}

/* The part of `path` below the group, NULL where it is not part of it. */
static const char *below(const char *path, const char *group) {
    size_t length = strlen(group);
    if (length == 0)
        return path;
    return strncmp(path, group, length) == 0 && path[length] == '.' ? path + length + 1 : NULL;
}

bool lode_schema_is_group(const char *path) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    for (int64_t i = 0; i < count; i++)
        if (below(keys[i].path, path))
            return true;
    return false;
}

/* In the order of their bits. */
static const char *const stages[] = {"tokenizer",  "tokenize", "train",      "calibrate",
                                     "accumulate", "moments",  "classify",   "superweight",
                                     "spectra",    "prune",    "compensate", "quantize",
                                     "evaluate",   "probe",    "export",     "audit"};
enum { STAGES = sizeof stages / sizeof *stages };

unsigned lode_schema_stage(const char *name) {
    for (unsigned i = 0; i < STAGES; i++)
        if (strcmp(stages[i], name) == 0)
            return 1u << i;
    return 0;
}

lode_status_t lode_schema_stages_text(lode_buffer_t *text) {
    for (int i = 0; i < STAGES; i++) {
        const char *separator = i == 0 ? "" : i + 1 < STAGES ? ", " : " and ";
        LODE_TRY(lode_buffer_printf(text, "%s%s", separator, stages[i]));
    }
    return LODE_OK;
}

static size_t smallest(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Damerau's distance: insertions, deletions, substitutions and swaps of neighbours that turn
 * a[a_length] into b[b_length]; NEAR_MAX where either is too long to be a key. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][NEAR_MAX + 1]; /* the row before last, the last one, this one */
    if (a_length >= NEAR_MAX || b_length >= NEAR_MAX)
        return NEAR_MAX;
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = smallest(last[j] + 1, row[j - 1] + 1, change);
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return row[b_length];
}

/* How many edits still make a typing error of a word. */
static size_t near_limit(const char *name) {
    return 1 + strlen(name) / 4;
}

const char *lode_schema_near_choice(const lode_choice_t *choices, const char *name) {
    const char *nearest = NULL;
    size_t least = near_limit(name) + 1;
    for (; choices->name; choices++) {
        size_t edits = edit_distance(name, strlen(name), choices->name, strlen(choices->name));
        if (edits < least) {
            least = edits;
            nearest = choices->name;
        }
    }
    return nearest;
}

const char *lode_config_nearest(const char *name, const char *const *names, int64_t count) {
    const char *nearest = NULL;
    size_t least = near_limit(name) + 1;
    for (int64_t i = 0; i < count; i++) {
        size_t edits = edit_distance(name, strlen(name), names[i], strlen(names[i]));
        if (edits < least) {
            least = edits;
            nearest = names[i];
        }
    }
    return nearest;
}

/* Appends every key of the group once. */
static lode_status_t append_group(lode_buffer_t *text, const char *group) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    const char *previous = "";
    size_t previous_length = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *key = below(keys[i].path, group);
        size_t length = key ? strcspn(key, ".") : 0;
        if (length == 0 ||
            (length == previous_length && memcmp(key, previous, previous_length) == 0))
            continue;
        LODE_TRY(
            lode_buffer_printf(text, "%s%.*s", previous_length > 0 ? ", " : "", (int)length, key));
        previous = key;
        previous_length = length;
    }
    return LODE_OK;
}

lode_status_t lode_schema_suggest(lode_buffer_t *text, const char *group, const char *name) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    const char *nearest = NULL;
    size_t nearest_length = 0, least = near_limit(name) + 1;
    for (int64_t i = 0; i < count; i++) {
        const char *key = below(keys[i].path, group);
        size_t length = key ? strcspn(key, ".") : 0;
        size_t edits = key ? edit_distance(name, strlen(name), key, length) : NEAR_MAX;
        if (edits < least) {
            least = edits;
            nearest = key;
            nearest_length = length;
        }
    }
    if (nearest)
        return lode_buffer_printf(text, "did you mean \"%.*s\"?", (int)nearest_length, nearest);
    for (int64_t i = 0; i < count; i++) {
        const char *dot = strrchr(keys[i].path, '.');
        if (dot && strcmp(dot + 1, name) == 0)
            return lode_buffer_printf(text, "did you mean \"%s\"?", keys[i].path);
    }
    LODE_TRY(lode_buffer_printf(text, "the keys here are "));
    return append_group(text, group);
}

/* Appends a bound as short as it can be written. */
static lode_status_t append_bound(lode_buffer_t *text, double bound) {
    return lode_buffer_printf(text, "%.15g", bound);
}

lode_status_t lode_schema_range_text(const lode_key_t *key, lode_buffer_t *text) {
    if (key->type != LODE_KEY_INTEGER && key->type != LODE_KEY_REAL && key->type != LODE_KEY_BYTES)
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text, key->low_open ? "above " : "at least "));
    LODE_TRY(append_bound(text, key->low));
    if (isinf(key->high))
        return LODE_OK;
    LODE_TRY(lode_buffer_printf(text, key->high_open ? " and below " : " and at most "));
    return append_bound(text, key->high);
}

lode_status_t lode_schema_choices_text(const lode_choice_t *choices, lode_buffer_t *text) {
    const char *separator = "";
    for (; choices->name; choices++) {
        LODE_TRY(lode_buffer_printf(text, "%s%s", separator, choices->name));
        separator = ", ";
    }
    return LODE_OK;
}

lode_status_t lode_schema_type_text(const lode_key_t *key, lode_buffer_t *text) {
    static const char *const one[] = {
        [LODE_KEY_INTEGER] = "integer",
        [LODE_KEY_REAL] = "number",
        [LODE_KEY_BOOLEAN] = "true or false",
        [LODE_KEY_TEXT] = "string",
        [LODE_KEY_NAME] = "name",
        [LODE_KEY_PATH] = "path",
        [LODE_KEY_BYTES] = "size",
        [LODE_KEY_CHOICE] = "choice",
        [LODE_KEY_GRANULARITY] = "string",
        [LODE_KEY_GROUPS] = "list of groups",
        [LODE_KEY_VALUES] = "value",
    };
    return lode_buffer_printf(text, key->list ? "list of %ss" : "%s", one[key->type]);
}

void lode_schema_path(char *schema_path, size_t size, const char *path) {
    size_t length = 0;
    for (; *path && length + 1 < size; path++) {
        schema_path[length++] = *path;
        if (*path == '[')
            path += strspn(path + 1, "0123456789");
    }
    schema_path[length] = '\0';
}

/* One row of the documentation. */
static lode_status_t describe_key(const lode_key_t *key, lode_buffer_t *text) {
    LODE_TRY(lode_buffer_printf(text, "| `%s` | ", key->path));
    LODE_TRY(lode_schema_type_text(key, text));
    if (key->fallback)
        LODE_TRY(lode_buffer_printf(text, " | `%s` | ", key->fallback));
    else
        LODE_TRY(lode_buffer_printf(text, " | required | "));
    if (key->choices)
        LODE_TRY(lode_schema_choices_text(key->choices, text));
    if (key->type == LODE_KEY_GRANULARITY)
        LODE_TRY(lode_buffer_printf(text,
                                    "tensor, channel, group-N (N at least %d), block-N (N "
                                    "from %d to %d)",
                                    (int)LODE_GRANULARITY_LEAST, (int)LODE_GRANULARITY_LEAST,
                                    (int)LODE_GRANULARITY_MOST_BLOCK));
    LODE_TRY(lode_schema_range_text(key, text));
    return lode_buffer_printf(text, " | %s |\n", key->meaning);
}

lode_status_t lode_config_describe(lode_buffer_t *text) {
    int64_t count;
    const lode_key_t *keys = lode_schema(&count);
    LODE_TRY(lode_buffer_printf(text, "| key | type | default | range | meaning |\n"
                                      "|---|---|---|---|---|\n"));
    for (int64_t i = 0; i < count; i++)
        LODE_TRY(describe_key(&keys[i], text));
    return LODE_OK;
}
