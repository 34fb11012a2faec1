#include "config/series.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"

enum { MOST_DIGITS = 18, KEY_MAX = 64 };

/* One folder of a series. */
typedef struct member {
    char *name;
    int64_t step;
} member_t;

typedef struct members {
    member_t *list; /* [count] */
    int64_t count, room;
} members_t;

/* --- names ------------------------------------------------------------------------------ */

static const char digits[] = "0123456789";

/* The number that the text begins with, if it is one and short enough. */
static bool take_number(int64_t *number, const char *text) {
    const size_t length = strspn(text, digits);
    if (length == 0 || length > MOST_DIGITS)
        return false;
    *number = strtoll(text, NULL, 10);
    return true;
}

bool lode_series_step(int64_t *step, const char *name) {
    static const char word[] = "step";
    for (const char *at = name; *at; at++) {
        if (strncasecmp(at, word, strlen(word)) != 0)
            continue;
        const char *number = at + strlen(word);
        if (take_number(step, number + (*number && strchr("-_=", *number) ? 1 : 0)))
            return true;
    }
    const char *last = NULL;
    for (const char *at = name; *at; at++)
        if (strchr(digits, *at) && (at == name || !strchr(digits, at[-1])))
            last = at;
    return last && take_number(step, last);
}

static bool has_ending(const char *name, const char *ending) {
    const size_t length = strlen(name), tail = strlen(ending);
    return length >= tail && strcmp(name + length - tail, ending) == 0;
}

/* Whether it is a folder, and none that is hidden or still being written. */
static bool is_member(const char *folder, const char *name) {
    struct stat info;
    char *path;
    if (name[0] == '.' || has_ending(name, ".partial") || has_ending(name, ".replaced") ||
        lode_path_join(&path, folder, name) != LODE_OK)
        return false;
    const bool is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    free(path);
    return is_folder;
}

/* --- folders ---------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    const member_t *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void free_members(members_t *members) {
    for (int64_t i = 0; i < members->count; i++)
        free(members->list[i].name);
    free(members->list);
    *members = (members_t){0};
}

static lode_status_t add_member(members_t *members, const char *name, int64_t step) {
    if (members->count == members->room) {
        const int64_t room = members->room ? 2 * members->room : 16;
        LODE_TRY(lode_resize(&members->list, room, sizeof *members->list, "models of a series"));
        members->room = room;
    }
    member_t *member = &members->list[members->count];
    LODE_TRY(lode_strdup(&member->name, name));
    member->step = step;
    members->count++;
    return LODE_OK;
}

static lode_status_t list_members(members_t *members, const lode_value_t *steps, const char *key) {
    const char *folder = steps->text;
    DIR *directory = opendir(folder);
    if (!directory)
        return lode_value_fail(steps, key,
                               "%s: cannot be listed: %s; name the folder that has the "
                               "folders of all steps",
                               folder, strerror(errno));
    lode_status_t status = LODE_OK;
    for (struct dirent *entry; status == LODE_OK && (entry = readdir(directory));) {
        int64_t step;
        if (lode_series_step(&step, entry->d_name) && is_member(folder, entry->d_name))
            status = add_member(members, entry->d_name, step);
    }
    closedir(directory);
    LODE_TRY(status);
    if (members->count == 0)
        return lode_value_fail(steps, key,
                               "%s: has no folder with a step in its name, like step-001000; name "
                               "the folder above those of the steps",
                               folder);
    qsort(members->list, (size_t)members->count, sizeof *members->list, compare);
    for (int64_t i = 1; i < members->count; i++)
        if (members->list[i].step == members->list[i - 1].step)
            return lode_value_fail(
                steps, key,
                "%s: %s and %s are both of step %lld; list the folders as models "
                "of their own, with the keys series and step",
                folder, members->list[i - 1].name, members->list[i].name,
                (long long)members->list[i].step);
    return LODE_OK;
}

/* --- values ----------------------------------------------------------------------------- */

static lode_status_t set_text(lode_value_t *element, const lode_value_t *place, const char *key,
                              const char *text) {
    lode_value_t value = {.kind = LODE_VALUE_TEXT, .file = place->file, .line = place->line};
    LODE_TRY(lode_strdup(&value.text, text));
    return lode_value_set(element, key, &value);
}

/* The model of one folder of the series. */
static lode_status_t make_element(lode_value_t *element, const lode_value_t *name,
                                  const lode_value_t *steps, const member_t *member) {
    *element = (lode_value_t){.kind = LODE_VALUE_GROUP, .file = steps->file, .line = steps->line};
    lode_value_t step = {.kind = LODE_VALUE_INTEGER,
                         .file = steps->file,
                         .line = steps->line,
                         .integer = member->step};
    lode_buffer_t text = {0};
    char *path = NULL;
    lode_status_t status = lode_buffer_printf(&text, "%s-%s", name->text, member->name);
    if (status == LODE_OK)
        status = set_text(element, name, "name", text.data);
    if (status == LODE_OK)
        status = lode_path_join(&path, steps->text, member->name);
    if (status == LODE_OK)
        status = set_text(element, steps, "path", path);
    if (status == LODE_OK)
        status = set_text(element, name, "series", name->text);
    if (status == LODE_OK)
        status = lode_value_set(element, "step", &step);
    lode_buffer_free(&text);
    free(path);
    return status;
}

/* The key steps of an element, where it and the name are texts and no other key is there that would
 * contradict it; else NULL. */
static const lode_value_t *steps_of(const lode_value_t *element) {
    if (element->kind != LODE_VALUE_GROUP || element->count != 2)
        return NULL;
    const lode_value_t *name = lode_value_find(element, "name");
    const lode_value_t *steps = lode_value_find(element, "steps");
    const bool texts = name && steps && name->kind == LODE_VALUE_TEXT && *name->text &&
                       steps->kind == LODE_VALUE_TEXT && *steps->text;
    return texts ? steps : NULL;
}

/* Puts elements in place of number `index` of the list; they are taken over. */
static lode_status_t replace(lode_value_t *list, int64_t index, lode_value_t *elements,
                             int64_t count) {
    const int64_t behind = list->count - index - 1;
    lode_value_t *children;
    LODE_TRY(LODE_NEW(&children, list->count - 1 + count, "models"));
    memcpy(children, list->children, (size_t)index * sizeof *children);
    memcpy(children + index, elements, (size_t)count * sizeof *children);
    if (behind > 0)
        memcpy(children + index + count, list->children + index + 1,
               (size_t)behind * sizeof *children);
    lode_value_free(&list->children[index]);
    free(list->children);
    list->children = children;
    list->count += count - 1;
    return LODE_OK;
}

/* number: of the element as the text has it; next: out, index behind what takes its place. */
static lode_status_t resolve_element(lode_value_t *list, int64_t index, int64_t number,
                                     int64_t *next) {
    const lode_value_t *element = &list->children[index], *steps = steps_of(element);
    *next = index + 1;
    if (!steps)
        return LODE_OK;
    char key[KEY_MAX];
    snprintf(key, sizeof key, "models.[%lld].steps", (long long)number);
    members_t members = {0};
    lode_value_t *elements = NULL;
    int64_t made = 0;
    lode_status_t status;
    LODE_GUARD(status, list_members(&members, steps, key), done);
    LODE_GUARD(status, LODE_NEW(&elements, members.count, "models of a series"), done);
    while (made < members.count && status == LODE_OK) {
        status = make_element(&elements[made], lode_value_find(element, "name"), steps,
                              &members.list[made]);
        made++;
    }
    if (status == LODE_OK)
        status = replace(list, index, elements, made);
    if (status == LODE_OK) {
        *next = index + made;
        made = 0;
    }
done:
    for (int64_t i = 0; i < made; i++)
        lode_value_free(&elements[i]);
    free(elements);
    free_members(&members);
    return status;
}

lode_status_t lode_series_resolve(lode_value_t *root, bool *found) {
    lode_value_t *list = lode_value_find(root, "models");
    *found = false;
    if (!list || list->kind != LODE_VALUE_LIST)
        return LODE_OK;
    for (int64_t i = 0, number = 0, next; i < list->count; i = next, number++) {
        *found = *found || steps_of(&list->children[i]);
        LODE_TRY(resolve_element(list, i, number, &next));
    }
    return LODE_OK;
}
