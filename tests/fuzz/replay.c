/* Runs a fuzz target without a fuzzer, so that every build tests it:
 *
 *   replay FOLDER [MUTATIONS]   each file of the folder, its beginnings, and mutations of it
 *   replay FILE                 that input alone
 *
 * The mutations are the same in every run. The input in hand lies in fuzz.input in the working
 * directory, where it stays after a crash. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SEEDS_MAX = 64,
    BEGINNINGS = 400, /* of a seed, spread evenly where it is longer */
    MUTATIONS = 3000, /* of a seed, unless told */
    EDITS_MAX = 6,    /* in one mutation */
    GROWTH = 4096     /* bytes that edits may add to a seed */
};

typedef struct seed {
    char *data;
    size_t size;
} seed_t;

typedef struct replay {
    int file; /* fuzz.input */
    int64_t inputs;
    int64_t mutations, beginnings;
    uint64_t random;
    seed_t seed[SEEDS_MAX];
    int seeds;
} replay_t;

/* splitmix64 (Steele, Lea, Flood 2014); below `limit`, which is not 0. */
static size_t draw(replay_t *replay, size_t limit) {
    uint64_t z = (replay->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (size_t)((z ^ (z >> 31)) % limit);
}

/* The input goes to the target in an allocation of its own size, so that a checker sees the first
 * byte read beyond it. */
static void run(replay_t *replay, const char *data, size_t size) {
    char *exact = malloc(size ? size : 1);
    if (!exact || ftruncate(replay->file, (off_t)size) != 0 ||
        pwrite(replay->file, data, size, 0) != (ssize_t)size) {
        perror("fuzz.input");
        exit(1);
    }
    memcpy(exact, data, size);
    if (LLVMFuzzerTestOneInput((const uint8_t *)exact, size) != 0) {
        fprintf(stderr, "the target refuses the input in fuzz.input\n");
        exit(1);
    }
    free(exact);
    replay->inputs++;
}

/* --- mutations ------------------------------------------------------------------------------ */

/* Bytes that mean something to JSON, libconfig, UTF-8 or binary lengths. */
static const char telling[] = "\0\xff\x7f\x80\xc0\xed\xf4{}[]()\"\\:;,=@#/.-+019eEnt \n\t";

/* data[at, at + length) gives way to `with`; the buffer has room. */
static size_t put(char *data, size_t size, size_t at, size_t length, const char *with,
                  size_t with_length) {
    memmove(data + at + with_length, data + at + length, size - at - length);
    memcpy(data + at, with, with_length);
    return size - length + with_length;
}

static size_t edit(replay_t *replay, char *data, size_t size) {
    const size_t at = draw(replay, size + 1), left = size - at;
    const size_t span = draw(replay, (left < 32 ? left : 32) + 1);
    const char byte = telling[draw(replay, sizeof telling - 1)];
    const seed_t *other = &replay->seed[draw(replay, (size_t)replay->seeds)];
    char copy[64];
    switch (draw(replay, 6)) {
    case 0: /* one bit */
        if (left > 0)
            data[at] = (char)(data[at] ^ (1 << draw(replay, 8)));
        return size;
    case 1:
        return put(data, size, at, left > 0, &byte, 1);
    case 2:
        return put(data, size, at, 0, &byte, 1);
    case 3:
        return put(data, size, at, span, "", 0);
    case 4: /* a stretch, once more */
        memcpy(copy, data + at, span);
        return put(data, size, at, 0, copy, span);
    default: { /* a stretch of another seed */
        const size_t from = draw(replay, other->size + 1), most = other->size - from;
        const size_t length = draw(replay, (most < 64 ? most : 64) + 1);
        return put(data, size, at, span, other->data + from, length);
    }
    }
}

static void run_seed(replay_t *replay, const seed_t *seed) {
    char *data = malloc(seed->size + GROWTH);
    if (!data) {
        fprintf(stderr, "no memory for mutations\n");
        exit(1);
    }
    run(replay, seed->data, seed->size);
    const size_t step = seed->size / (size_t)replay->beginnings + 1;
    for (size_t size = 0; size < seed->size; size += step)
        run(replay, seed->data, size);
    for (int64_t i = 0; i < replay->mutations; i++) {
        size_t size = seed->size;
        memcpy(data, seed->data, size);
        for (size_t edits = 1 + draw(replay, EDITS_MAX); edits > 0; edits--)
            size = edit(replay, data, size);
        run(replay, data, size);
    }
    free(data);
}

/* --- seeds ---------------------------------------------------------------------------------- */

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void add_seed(replay_t *replay, const char *path) {
    seed_t *seed = &replay->seed[replay->seeds++];
    if (lode_file_read(&seed->data, &seed->size, path) != LODE_OK) {
        fprintf(stderr, "%s\n", lode_error_message());
        exit(1);
    }
}

/* In the order of their names, so that mutations are the same everywhere. */
static void read_folder(replay_t *replay, const char *folder) {
    struct dirent **entries;
    const int count = scandir(folder, &entries, is_visible, alphasort);
    for (int i = 0; i < count; i++) {
        char *path;
        if (replay->seeds < SEEDS_MAX &&
            lode_path_join(&path, folder, entries[i]->d_name) == LODE_OK) {
            add_seed(replay, path);
            free(path);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv) {
    static replay_t replay = {.random = 1, .mutations = MUTATIONS, .beginnings = BEGINNINGS};
    struct stat info;
    if (argc < 2 || argc > 3 || stat(argv[1], &info) != 0) {
        fprintf(stderr, "usage: %s FOLDER [MUTATIONS] | FILE\n", argv[0]);
        return 2;
    }
    if (argc == 3) { /* for targets that are slow */
        replay.mutations = atoll(argv[2]);
        replay.beginnings = 1 + replay.mutations / 8;
    }
    const bool folder = S_ISDIR(info.st_mode);
    if (folder)
        read_folder(&replay, argv[1]);
    else
        add_seed(&replay, argv[1]);
    if (replay.seeds == 0) {
        fprintf(stderr, "%s: has no inputs\n", argv[1]);
        return 1;
    }
    replay.file = open("fuzz.input", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    for (int i = 0; i < replay.seeds; i++) {
        if (folder)
            run_seed(&replay, &replay.seed[i]);
        else
            run(&replay, replay.seed[i].data, replay.seed[i].size);
    }
    for (int i = 0; i < replay.seeds; i++)
        free(replay.seed[i].data);
    close(replay.file);
    unlink("fuzz.input");
    printf("%lld inputs\n", (long long)replay.inputs);
    return 0;
}
