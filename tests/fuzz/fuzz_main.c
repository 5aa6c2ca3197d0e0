// SPDX-License-Identifier: Apache-2.0
// Fuzzing without clang: replays files (or all files of directories) and, with -n, tries that many
// random changes of each. The changes follow from the file and the seed alone, so a finding
// repeats. FUZZ=K in the environment makes K times as many. With -g that many inputs altogether,
// led by what they reach (fuzz_guide.c); tests/fuzz/long runs all targets so.
//   fuzz_X [-n CHANGES] [-s SEED] PATH...
//   fuzz_X -g INPUTS [-s SEED] [-k DIRECTORY] PATH...
#include "fuzz_int.h"
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t random_state;
static size_t runs;

uint64_t fuzz_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

size_t fuzz_below(size_t n)
{
    return n ? (size_t)(fuzz_random() % n) : 0;
}

void fuzz_seed(uint64_t seed)
{
    random_state = (seed + 1) * 0x9E3779B97F4A7C15u | 1;
}

// An exact allocation for each run, so that a sanitizer sees every byte read too far.
void fuzz_run_once(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    runs++;
}

size_t fuzz_change(uint8_t *data, size_t n)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '-', '.', '9', 'e'};
    size_t at = fuzz_below(n), len = fuzz_below(n - at < 32 ? n - at + 1 : 32);
    switch (fuzz_below(6)) {
    case 0:
        if (n)
            data[at] ^= (uint8_t)(1u << fuzz_below(8));
        return n;
    case 1:
        if (n)
            data[at] = odd[fuzz_below(sizeof(odd))];
        return n;
    case 2:
        memmove(data + at, data + at + len, n - at - len);
        return n - len;
    case 3: // doubles a run
        if (n + len > FUZZ_INPUT_MAX)
            return n;
        memmove(data + at + len, data + at, n - at);
        return n + len;
    case 4:
        if (n < FUZZ_INPUT_MAX) {
            memmove(data + at + 1, data + at, n - at);
            data[at] = (uint8_t)fuzz_random();
            return n + 1;
        }
        return n;
    default:
        return at; // cuts the end off
    }
}

static void read_file(const char *path, void (*each)(void *arg, const uint8_t *data, size_t n),
                      void *arg)
{
    static uint8_t original[FUZZ_INPUT_MAX];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "cannot open %s\n", path);
        exit(1);
    }
    size_t n = fread(original, 1, sizeof(original), f);
    fclose(f);
    each(arg, original, n);
}

void fuzz_read(const char *path, void (*each)(void *arg, const uint8_t *data, size_t n), void *arg)
{
    struct stat st;
    DIR *dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!dir) {
        read_file(path, each, arg);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        char name[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        read_file(name, each, arg);
    }
    closedir(dir);
}

struct blind {
    size_t changes;
    uint64_t seed;
};

static void try_changes(void *arg, const uint8_t *original, size_t n)
{
    static uint8_t changed[FUZZ_INPUT_MAX + 64];
    const struct blind *b = arg;
    fuzz_run_once(original, n);
    random_state = b->seed * 2654435761u + n + 1;
    for (size_t i = 0; i < n; i++)
        random_state = (random_state ^ original[i]) * 1099511628211u;
    random_state |= 1;
    for (size_t i = 0; i < b->changes; i++) {
        size_t len = n;
        memcpy(changed, original, n);
        for (size_t k = 1 + fuzz_below(4); k > 0; k--)
            len = fuzz_change(changed, len);
        fuzz_run_once(changed, len);
    }
}

int main(int argc, char **argv)
{
    const char *scale = getenv("FUZZ"), *keep = NULL;
    size_t times = scale ? strtoull(scale, NULL, 10) : 1;
    struct blind b = {.seed = 1};
    uint64_t guided = 0;
    int npaths = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
            b.changes = strtoull(argv[++i], NULL, 10) * times;
        else if (strcmp(argv[i], "-g") == 0 && i + 1 < argc)
            guided = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            b.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "-k") == 0 && i + 1 < argc)
            keep = argv[++i];
        else
            argv[npaths++] = argv[i];
    }
    if (guided) {
        fuzz_guided(guided, b.seed, keep, argv, npaths);
        return 0;
    }
    for (int i = 0; i < npaths; i++)
        fuzz_read(argv[i], try_changes, &b);
    printf("%zu runs\n", runs);
    return runs == 0;
}
