// SPDX-License-Identifier: Apache-2.0
// Fuzzing without clang: replays files (or all files of directories) and, with -n, tries that many
// random changes of each. The changes follow from the file and the seed alone, so a finding
// repeats. FUZZ=K in the environment makes K times as many.
//   fuzz_X [-n CHANGES] [-s SEED] PATH...
#include "fuzz.h"
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MAX (1 << 20)

static uint64_t random_state;
static size_t runs;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next_random() % n) : 0;
}

// An exact allocation for each run, so that a sanitizer sees every byte read too far.
static void run_once(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    runs++;
}

static size_t change(uint8_t *data, size_t n)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '-', '.', '9', 'e'};
    size_t at = below(n), len = below(n - at < 32 ? n - at + 1 : 32);
    switch (below(6)) {
    case 0:
        if (n)
            data[at] ^= (uint8_t)(1u << below(8));
        return n;
    case 1:
        if (n)
            data[at] = odd[below(sizeof(odd))];
        return n;
    case 2:
        memmove(data + at, data + at + len, n - at - len);
        return n - len;
    case 3: // doubles a run
        if (n + len > INPUT_MAX)
            return n;
        memmove(data + at + len, data + at, n - at);
        return n + len;
    case 4:
        if (n < INPUT_MAX) {
            memmove(data + at + 1, data + at, n - at);
            data[at] = (uint8_t)next_random();
            return n + 1;
        }
        return n;
    default:
        return at; // cuts the end off
    }
}

static void run_file(const char *path, size_t changes, uint64_t seed)
{
    static uint8_t original[INPUT_MAX], changed[INPUT_MAX + 64];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "cannot open %s\n", path);
        exit(1);
    }
    size_t n = fread(original, 1, sizeof(original), f);
    fclose(f);
    run_once(original, n);
    random_state = seed * 2654435761u + n + 1;
    for (size_t i = 0; i < n; i++)
        random_state = (random_state ^ original[i]) * 1099511628211u;
    random_state |= 1;
    for (size_t i = 0; i < changes; i++) {
        size_t len = n;
        memcpy(changed, original, n);
        for (size_t k = 1 + below(4); k > 0; k--)
            len = change(changed, len);
        run_once(changed, len);
    }
}

static void run_path(const char *path, size_t changes, uint64_t seed)
{
    struct stat st;
    DIR *dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!dir) {
        run_file(path, changes, seed);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char name[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        run_file(name, changes, seed);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    size_t changes = 0;
    const char *scale = getenv("FUZZ");
    size_t times = scale ? strtoull(scale, NULL, 10) : 1;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
            changes = strtoull(argv[++i], NULL, 10) * times;
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            run_path(argv[i], changes, seed);
    }
    printf("%zu runs\n", runs);
    return runs == 0;
}
