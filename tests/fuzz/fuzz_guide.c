// SPDX-License-Identifier: Apache-2.0
// Fuzzing led by coverage, with GCC: -fsanitize-coverage=trace-pc calls us at every edge, trace-cmp
// at every comparison. An input that takes an edge, or takes it about twice as often as any before,
// joins the pool of those that are changed. What comparisons wanted to see is put into inputs.
#include "fuzz_int.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// None of this may be traced or checked itself.
#define QUIET                                                                                      \
    __attribute__((no_sanitize_coverage, no_sanitize("address"), no_sanitize("undefined")))

enum {
    EDGES_LOG = 17,
    EDGES = 1 << EDGES_LOG,
    POOL_MAX = 1 << 15,
    WORDS = 1 << 10,
    WORD_MAX = 24,
    STALLED_S = 60,
};
#define POOL_BYTES_MAX ((size_t)256 << 20)

struct entry {
    uint8_t *data;
    uint32_t n;
    uint32_t us; // it took
};

struct word {
    uint8_t n;
    uint8_t data[WORD_MAX];
};

static __thread bool watching; // only the thread that feeds: others come and go as they like
static __thread uint32_t last;
static struct edge {
    uint8_t hits; // of this run
    uint8_t seen; // classes of counts in any, as bits
} edges[EDGES];
static uint32_t touched[EDGES];
static uint32_t ntouched;
static uint8_t classes[256];
static size_t nedges;
static struct word words[WORDS];
static uint32_t nwords;

static struct entry pool[POOL_MAX];
static size_t npool, pool_bytes;
static const uint8_t *current;
static size_t current_n;
static volatile uint64_t done;

// ---- what the compiler calls

void __sanitizer_cov_trace_pc(void);
QUIET void __sanitizer_cov_trace_pc(void)
{
    if (!watching)
        return;
    uint32_t pc =
        (uint32_t)((uintptr_t)__builtin_return_address(0) - (uintptr_t)&__sanitizer_cov_trace_pc) *
        0x9E3779B1u;
    uint32_t at = (pc ^ last) >> (32 - EDGES_LOG);
    last = pc >> 1;
    uint8_t n = edges[at].hits;
    if (!n)
        touched[ntouched++] = at;
    edges[at].hits = (uint8_t)(n + (n < 255));
}

static QUIET void want(const void *p, size_t n)
{
    struct word *w = &words[nwords++ % WORDS];
    w->n = (uint8_t)(n < WORD_MAX ? n : WORD_MAX);
    for (size_t i = 0; i < w->n; i++)
        w->data[i] = ((const uint8_t *)p)[i];
}

// Small numbers are found without help.
static QUIET void want_number(uint64_t v, size_t n)
{
    if (watching && v > 255 && n > 1 && ~v)
        want(&v, n);
}

#define TRACE(name, type, a, b, n)                                                                 \
    void name(type a, type b);                                                                     \
    QUIET void name(type a, type b)                                                                \
    {                                                                                              \
        if (a != b)                                                                                \
            want_number(b, n);                                                                     \
    }                                                                                              \
    struct allow_semicolon
#define TRACE_CONST(name, type, a, b, n)                                                           \
    void name(type a, type b);                                                                     \
    QUIET void name(type a, type b)                                                                \
    {                                                                                              \
        if (a != b)                                                                                \
            want_number(a, n);                                                                     \
    }                                                                                              \
    struct allow_semicolon
TRACE(__sanitizer_cov_trace_cmp1, uint8_t, a, b, 1);
TRACE(__sanitizer_cov_trace_cmp2, uint16_t, a, b, 2);
TRACE(__sanitizer_cov_trace_cmp4, uint32_t, a, b, 4);
TRACE(__sanitizer_cov_trace_cmp8, uint64_t, a, b, 8);
TRACE_CONST(__sanitizer_cov_trace_const_cmp1, uint8_t, a, b, 1);
TRACE_CONST(__sanitizer_cov_trace_const_cmp2, uint16_t, a, b, 2);
TRACE_CONST(__sanitizer_cov_trace_const_cmp4, uint32_t, a, b, 4);
TRACE_CONST(__sanitizer_cov_trace_const_cmp8, uint64_t, a, b, 8);

void __sanitizer_cov_trace_cmpf(float a, float b);
QUIET void __sanitizer_cov_trace_cmpf(float a, float b)
{
    (void)a, (void)b;
}

void __sanitizer_cov_trace_cmpd(double a, double b);
QUIET void __sanitizer_cov_trace_cmpd(double a, double b)
{
    (void)a, (void)b;
}

void __sanitizer_cov_trace_switch(uint64_t v, void *list);
QUIET void __sanitizer_cov_trace_switch(uint64_t v, void *list)
{
    const uint64_t *cases = list;             // how many, of how many bits, and they
    if (watching && cases[0] && cases[1] > 8) // one of them, another each time
        want_number(cases[2 + (nwords ^ v) % cases[0]], cases[1] / 8);
}

// AddressSanitizer's memcmp calls it: names that the input did not have.
__attribute__((visibility("default"))) void
__sanitizer_weak_hook_memcmp(void *pc, const void *a, const void *b, size_t n, int result);
QUIET void __sanitizer_weak_hook_memcmp(void *pc, const void *a, const void *b, size_t n,
                                        int result)
{
    (void)pc;
    if (watching && result && n > 1 && n < WORD_MAX)
        want(fuzz_random() & 1 ? a : b, n);
}

// ---- findings

static QUIET void save_current(void)
{
    static bool once;
    char name[64];
    uint64_t sum = 14695981039346656037u;
    watching = false;
    if (once || !current)
        return;
    once = true;
    for (size_t i = 0; i < current_n; i++)
        sum = (sum ^ current[i]) * 1099511628211u;
    int n = snprintf(name, sizeof(name), "finding-%016llx", (unsigned long long)sum);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (n < 0 || fd < 0 || write(fd, current, current_n) != (ssize_t)current_n)
        return;
    close(fd);
    fprintf(stderr, "the input is in %s, after %llu others\n", name, (unsigned long long)done);
}

static void on_abort(int sig)
{
    save_current();
    signal(sig, SIG_DFL);
    raise(sig);
}

// Once a second: an input that does not end is a finding too.
static void on_tick(int sig)
{
    static uint64_t before;
    static int still;
    (void)sig;
    still = done == before ? still + 1 : 0;
    before = done;
    if (still > STALLED_S) {
        fprintf(stderr, "an input takes more than %d s\n", STALLED_S);
        abort();
    }
    alarm(1);
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

// ---- the pool

static uint8_t class_of(uint8_t n)
{
    return n < 4     ? (uint8_t)(1u << (n - 1))
           : n < 8   ? 8
           : n < 16  ? 16
           : n < 32  ? 32
           : n < 128 ? 64
                     : 128;
}

// Whether the run reached something new; forgets the run.
static QUIET bool is_new(void)
{
    bool found = false;
    for (uint32_t i = 0; i < ntouched; i++) {
        struct edge *e = &edges[touched[i]];
        uint8_t class = classes[e->hits];
        e->hits = 0;
        if (e->seen & class)
            continue;
        nedges += !e->seen;
        e->seen |= class;
        found = true;
    }
    ntouched = 0;
    return found;
}

static uint64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

static uint32_t run(const uint8_t *data, size_t n)
{
    uint64_t began = now_us();
    current = data;
    current_n = n;
    last = 0;
    watching = true;
    fuzz_run_once(data, n);
    watching = false;
    current = NULL;
    done++;
    return (uint32_t)(now_us() - began);
}

static void add(const uint8_t *data, size_t n, uint32_t us)
{
    // Full: somebody goes, whoever it is.
    size_t at = npool < POOL_MAX && pool_bytes + n < POOL_BYTES_MAX ? npool++ : fuzz_below(npool);
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, data, n);
    pool_bytes += n - pool[at].n;
    free(pool[at].data);
    pool[at] = (struct entry){copy, (uint32_t)n, us};
}

static void seed(void *arg, const uint8_t *data, size_t n)
{
    size_t *longest = arg;
    uint32_t us = run(data, n);
    is_new();
    add(data, n, us);
    if (n > *longest)
        *longest = n;
}

// The quicker of two, and the newer ones more often.
static const struct entry *choose(void)
{
    size_t recent = npool / 8 + 1;
    size_t a = fuzz_below(4) ? fuzz_below(npool) : npool - 1 - fuzz_below(recent);
    size_t b = fuzz_below(npool);
    return pool[a].us <= pool[b].us * 2 ? &pool[a] : &pool[b];
}

// ---- changes

static size_t insert(uint8_t *data, size_t n, size_t most, const uint8_t *p, size_t len)
{
    size_t at = fuzz_below(n + 1);
    if (n + len > most)
        return n;
    memmove(data + at + len, data + at, n - at);
    memcpy(data + at, p, len);
    return n + len;
}

static size_t overwrite(uint8_t *data, size_t n, const uint8_t *p, size_t len)
{
    if (len <= n)
        memcpy(data + fuzz_below(n - len + 1), p, len);
    return n;
}

static size_t put_word(uint8_t *data, size_t n, size_t most)
{
    struct word w = words[fuzz_below(nwords < WORDS ? nwords : WORDS)];
    if (fuzz_below(2)) // the other byte order
        for (size_t i = 0; w.n <= 8 && i < w.n / 2u; i++) {
            uint8_t x = w.data[i];
            w.data[i] = w.data[w.n - 1 - i];
            w.data[w.n - 1 - i] = x;
        }
    return fuzz_below(2) ? overwrite(data, n, w.data, w.n) : insert(data, n, most, w.data, w.n);
}

static size_t cross(uint8_t *data, size_t n, size_t most)
{
    const struct entry *e = &pool[fuzz_below(npool)];
    size_t at = fuzz_below(e->n), len = 1 + fuzz_below(e->n - at);
    if (!e->n)
        return n;
    if (fuzz_below(4) == 0) { // its end behind our beginning
        size_t keep = fuzz_below(n + 1);
        if (keep + e->n - at > most)
            return n;
        memcpy(data + keep, e->data + at, e->n - at);
        return keep + e->n - at;
    }
    return fuzz_below(2) ? overwrite(data, n, e->data + at, len)
                         : insert(data, n, most, e->data + at, len);
}

static size_t change_number(uint8_t *data, size_t n)
{
    static const int64_t odd[] = {0,      1,       -1,      127,       128,       255,
                                  256,    32767,   32768,   65535,     65536,     INT32_MAX,
                                  -65536, 1 << 24, 1 << 20, INT64_MAX, INT64_MIN, UINT32_MAX};
    int64_t v = odd[fuzz_below(sizeof(odd) / sizeof(*odd))];
    return overwrite(data, n, (const uint8_t *)&v, (size_t)1 << fuzz_below(4));
}

static size_t change(uint8_t *data, size_t n, size_t most)
{
    switch (fuzz_below(8)) {
    case 0:
    case 1:
        return cross(data, n, most);
    case 2:
        return nwords ? put_word(data, n, most) : n;
    case 3:
        return change_number(data, n);
    default:
        n = fuzz_change(data, n);
        return n < most ? n : most;
    }
}

static void keep_input(const char *dir, const char *what, const uint8_t *data, size_t n)
{
    char name[512];
    snprintf(name, sizeof(name), "%s/%s", dir, what);
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(data, 1, n, f) != n)
        fprintf(stderr, "cannot write %s\n", name);
    if (f)
        fclose(f);
}

// What an input costs by itself: others may have had the processor meanwhile.
static uint64_t cost_us(const uint8_t *data, size_t n)
{
    uint64_t began = clock_us(CLOCK_THREAD_CPUTIME_ID);
    run(data, n);
    is_new();
    return clock_us(CLOCK_THREAD_CPUTIME_ID) - began;
}

void fuzz_guided(uint64_t inputs, uint64_t random_seed, const char *keep, char *const *paths,
                 int npaths)
{
    static uint8_t data[FUZZ_INPUT_MAX + 64];
    size_t longest = 2048;
    uint64_t began = now_us(), slowest = 0, shown = began;
    for (int n = 1; n < 256; n++)
        classes[n] = class_of((uint8_t)n);
    fuzz_seed(random_seed);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(save_current);
    signal(SIGABRT, on_abort);
    signal(SIGALRM, on_tick);
    alarm(1);
    for (int i = 0; i < npaths; i++)
        fuzz_read(paths[i], seed, &longest);
    if (!npool)
        add((const uint8_t *)"", 0, 0);
    size_t most = longest * 2 < FUZZ_INPUT_MAX ? longest * 2 : FUZZ_INPUT_MAX, seeds = npool;
    while (done < inputs) {
        const struct entry *e = choose();
        size_t n = e->n;
        memcpy(data, e->data, n);
        for (size_t k = (size_t)1 << fuzz_below(4); k > 0; k--)
            n = change(data, n, most);
        uint32_t us = run(data, n);
        if (is_new()) {
            char name[32];
            snprintf(name, sizeof(name), "%06zu", npool);
            add(data, n, us);
            if (keep)
                keep_input(keep, name, data, n);
        }
        uint64_t cost = us > slowest ? cost_us(data, n) : 0;
        if (cost > slowest) {
            slowest = cost;
            if (keep)
                keep_input(keep, "slowest", data, n);
        }
        if (!(done & 1023) && now_us() - shown > 30000000) {
            shown = now_us();
            fprintf(stderr, "%llu inputs, %zu edges, %zu kept, %.0f/s\n", (unsigned long long)done,
                    nedges, npool - seeds, (double)done * 1e6 / (double)(shown - began));
        }
    }
    alarm(0);
    printf("%llu inputs in %.0f s, %zu edges, %zu kept, slowest %.1f ms\n",
           (unsigned long long)done, (double)(now_us() - began) / 1e6, nedges, npool - seeds,
           (double)slowest / 1e3);
    for (size_t i = 0; i < npool; i++)
        free(pool[i].data);
}
