// SPDX-License-Identifier: Apache-2.0
// What must stay small under load. T15: writes hardly wait while a long history is compacted, in
// steps of some milliseconds. T16: the write-ahead log and the file are bounded while somebody
// reads history for ever.
//   store-bounded sqlite|postgres|mysql [TEST]
// STORE_SCALE lengthens, STORE_STRICT=1 asks for the figures that a machine of its own must reach.
#include "harness.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/metrics.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUBMITTERS = 256, KEYS = 2000, VALUE = 1024, LATENCIES = 1 << 20 };

static const char *backend = "sqlite";

// ---- a load ----

struct submitter {
    struct kl_txn txn;
    struct kl_op op;
    struct load *load;
    int64_t started_ns;
    char key[24];
};

struct load {
    struct hs_client c;
    struct kl_bytes *value;
    struct submitter sub[SUBMITTERS];
    int open;     // submitters at work
    int64_t left; // writes; < 0: until stopped
    atomic_bool stop;
    atomic_llong writes;
    uint64_t seed;
    int32_t *us; // how long each took
    size_t n;
    atomic_bool idle;
};

static void submit(struct submitter *u);

static void done(struct kl_txn *txn)
{
    struct submitter *u = KL_CONTAINER_OF(txn, struct submitter, txn);
    struct load *l = u->load;
    if (txn->code)
        fail_msg("write %s: %s", u->key, txn->err.msg);
    if (l->n < LATENCIES)
        l->us[l->n++] = (int32_t)((kl_mono_ns() - u->started_ns) / 1000);
    atomic_fetch_add(&l->writes, 1);
    kl_txn_fini(txn);
    submit(u);
}

static void submit(struct submitter *u)
{
    struct load *l = u->load;
    if (!l->left || atomic_load(&l->stop)) {
        if (!--l->open)
            atomic_store(&l->idle, true);
        return;
    }
    l->left -= l->left > 0;
    snprintf(u->key, sizeof(u->key), "w/%06d", (int)(hs_rand(&l->seed) % KEYS));
    u->op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(u->key), .value = l->value};
    u->txn = (struct kl_txn){.body = {.then = &u->op, .nthen = 1}, .cb = done};
    u->started_ns = kl_mono_ns();
    assert_int_equal(kl_store_submit(l->c.hs->s, &u->txn, NULL), 0);
}

struct order {
    struct load *l;
    int submitters;
    int64_t writes;
};

static void begin(struct hs_client *c, void *arg)
{
    struct order *o = arg;
    struct load *l = o->l;
    l->n = 0;
    l->left = o->writes;
    l->open = o->submitters;
    atomic_store(&l->stop, false);
    atomic_store(&l->idle, false);
    for (int i = 0; i < o->submitters; i++) {
        l->sub[i].load = l;
        submit(&l->sub[i]);
    }
}

// writes < 0: until end_load.
static void begin_load(struct load *l, int submitters, int64_t writes)
{
    struct order o = {l, submitters, writes};
    hs_run(&l->c, begin, &o);
}

static void end_load(struct load *l, bool stop)
{
    atomic_store(&l->stop, stop);
    int64_t until = kl_mono_ms() + 240000;
    while (!atomic_load(&l->idle)) {
        assert_true(kl_mono_ms() < until);
        poll(NULL, 0, 2);
    }
}

static int cmp_us(const void *a, const void *b)
{
    return (*(const int32_t *)a > *(const int32_t *)b) -
           (*(const int32_t *)a < *(const int32_t *)b);
}

static int32_t percentile(struct load *l, double p)
{
    assert_true(l->n > 0);
    qsort(l->us, l->n, sizeof(*l->us), cmp_us);
    return l->us[(size_t)((double)(l->n - 1) * p)];
}

static void open_load(struct load *l, struct hs_store *hs)
{
    char *v = malloc(VALUE);
    memset(v, 'v', VALUE);
    hs_client_open(&l->c, hs);
    l->value = kl_bytes_new((struct kl_str){v, VALUE});
    l->us = malloc(LATENCIES * sizeof(*l->us));
    l->seed = 88172645463325252u;
    free(v);
}

static void close_load(struct load *l)
{
    hs_client_close(&l->c);
    kl_bytes_unref(l->value);
    free(l->us);
}

// ---- T15 ----

// Steps of compaction so far: how many, and how many took at most so many milliseconds.
static void read_steps(int64_t *ret_all, int64_t *ret_quick, double quick_ms)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 << 20);
    kl_metrics_write(&b);
    kl_buf_putc(&b, 0);
    *ret_all = *ret_quick = 0;
    for (char *p = b.p; p && *p; p = strchr(p, '\n'), p += p != NULL) {
        double le;
        long long n;
        const char *name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
        if (strncmp(p, name, strlen(name)) != 0)
            continue;
        p += strlen(name);
        if (sscanf(p, "_bucket{le=\"%lf\"} %lld", &le, &n) == 2 && le <= quick_ms)
            *ret_quick = n;
        if (sscanf(p, "_count %lld", &n) == 1)
            *ret_all = n;
    }
    kl_buf_fini(&b);
}

// What this process has written to files and used of the processors, which nobody else's load
// changes.
struct spent {
    double bytes, cpu_us;
};

static struct spent spent_now(void)
{
    struct rusage u;
    char line[64];
    double bytes = 0;
    FILE *f = fopen("/proc/self/io", "r");
    while (f && fgets(line, sizeof(line), f))
        sscanf(line, "wchar: %lf", &bytes);
    if (f)
        fclose(f);
    getrusage(RUSAGE_SELF, &u);
    return (struct spent){bytes, (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
                                     (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)};
}

// Between two moments, for each of n.
static struct spent spent_each(struct spent from, struct spent to, double n)
{
    return (struct spent){(to.bytes - from.bytes) / n, (to.cpu_us - from.cpu_us) / n};
}

struct drain {
    struct kl_compact_wait w;
    atomic_bool done;
};

static void drained(struct kl_compact_wait *w)
{
    atomic_store(&KL_CONTAINER_OF(w, struct drain, w)->done, true);
}

static void start_drain(struct hs_client *c, void *arg)
{
    struct drain *d = arg;
    d->w.cb = drained;
    d->w.physical = true;
    assert_int_equal(kl_store_compact(c->hs->s, &d->w, NULL), 0);
}

static void compaction_pause(void **state)
{
    struct hs_store hs;
    struct load l = {0};
    bool strict = getenv("STORE_STRICT") != NULL;
    int64_t revs = (int64_t)hs_scale(200) * 1024; // KiB each: 200 MB
    hs_open(&hs, backend, NULL);
    open_load(&l, &hs);
    int64_t t = kl_mono_ms();
    struct spent s0 = spent_now();
    begin_load(&l, SUBMITTERS, revs);
    end_load(&l, false);
    struct spent filled = spent_each(s0, spent_now(), (double)revs);
    double fill_rate = (double)revs / ((double)(kl_mono_ms() - t) / 1000);
    print_message("%lld revisions written, %.0f/s: %.1f us of CPU, %.0f bytes each\n",
                  (long long)revs, fill_rate, filled.cpu_us, filled.bytes);
    // A few writers, as fast as they are answered: before, and while the history goes.
    s0 = spent_now();
    begin_load(&l, 8, -1);
    poll(NULL, 0, 3000);
    end_load(&l, true);
    struct spent write = spent_each(s0, spent_now(), (double)l.n);
    int32_t before_us = percentile(&l, 0.99), before_mean = percentile(&l, 0.5);
    size_t before_n = l.n;
    struct drain d = {.w.rev = hs_rev(&l.c)};
    int64_t all0, quick0, all, quick;
    double quick_ms = strict ? 4 : 8;
    read_steps(&all0, &quick0, quick_ms);
    s0 = spent_now();
    begin_load(&l, 8, -1);
    t = kl_mono_ms();
    hs_run(&l.c, start_drain, &d);
    while (!atomic_load(&d.done)) {
        assert_true(kl_mono_ms() - t < 240000);
        poll(NULL, 0, 2);
    }
    int64_t took_ms = kl_mono_ms() - t;
    end_load(&l, true);
    struct spent s1 = spent_now();
    assert_int_equal(d.w.code, 0);
    read_steps(&all, &quick, quick_ms);
    // What the writes meanwhile took, as they did before, is not compaction's.
    struct spent gone = spent_each(s0, s1, (double)revs);
    gone.bytes -= write.bytes * (double)l.n / (double)revs;
    gone.cpu_us -= write.cpu_us * (double)l.n / (double)revs;
    int32_t us = percentile(&l, 0.99), mean = percentile(&l, 0.5);
    double rate = (double)revs / ((double)took_ms / 1000);
    double share = (double)(quick - quick0) / (double)(all - all0);
    print_message("compaction: %.0f revisions/s in %lld steps, %.1f %% of them <= %.0f ms;"
                  " %.1f us of CPU, %.0f bytes each\n",
                  rate, (long long)(all - all0), 100 * share, quick_ms, gone.cpu_us, gone.bytes);
    print_message("writes: median %d us, p99 %d us of %zu; meanwhile %d us, %d us of %zu\n",
                  before_mean, before_us, before_n, mean, us, l.n);
    assert_true(all > all0);
    // Times are judged on a machine of its own only; elsewhere it is what compaction takes, beside
    // what writing the same took.
    if (strict) {
        assert_true(share > 0.99);
        assert_true(rate > 50000);
        assert_true(us < before_us * 6 / 5);
    }
    if (strcmp(backend, "sqlite") == 0) { // the others' work is done elsewhere
        assert_true(gone.cpu_us < filled.cpu_us * (strict ? 1 : 5));
        assert_true(gone.bytes < (strict ? 4096 : 4 * 4096));
    }
    close_load(&l);
    hs_close(&hs);
}

// ---- T16 ----

static int64_t file_bytes(const struct hs_store *hs, const char *suffix)
{
    char path[160];
    struct stat st;
    snprintf(path, sizeof(path), "%s/state.db%s", hs->dir, suffix);
    return stat(path, &st) ? 0 : (int64_t)st.st_size;
}

struct reading {
    struct hs_store *hs;
    atomic_bool stop;
    atomic_long rows, passes;
};

// All of the history that there is, again and again, from the file.
static void *read_history(void *arg)
{
    struct reading *r = arg;
    struct hs_client c;
    hs_client_open(&c, r->hs);
    while (!atomic_load(&r->stop)) {
        struct kl_store_status st;
        struct hs_watch w = {0};
        kl_store_status(r->hs->s, &st);
        kl_rev head = hs_rev(&c);
        if (hs_watch_start(&w, &c, "w/", "w0", st.compact_rev > 1 ? st.compact_rev + 1 : 2))
            continue; // compacted meanwhile
        hs_watch_wait_rev(&w, head);
        r->rows += (long)w.n;
        r->passes++;
        hs_watch_fini(&w);
    }
    hs_client_close(&c);
    return NULL;
}

static void log_and_file(void **state)
{
    enum { KEEP = 20000, EVERY = 10000 };
    struct hs_store hs;
    struct load l = {0};
    struct kl_store_options o = {.ring_bytes = 1};
    hs_open(&hs, "sqlite", &o);
    open_load(&l, &hs);
    struct reading r = {.hs = &hs};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, read_history, &r), 0);
    int64_t writes = hs_scale(90000); // 500 a second for 3 minutes
    int64_t wal = 0, file = 0, compacted = 0;
    begin_load(&l, 32, writes);
    while (!atomic_load(&l.idle)) {
        int64_t now = file_bytes(&hs, "-wal"), n = atomic_load(&l.writes);
        wal = now > wal ? now : wal;
        now = file_bytes(&hs, "");
        file = now > file ? now : file;
        if (n - compacted >= KEEP + EVERY) {
            compacted = n - KEEP;
            assert_int_equal(hs_compact_logical(&l.c, 1 + compacted), 0);
        }
        poll(NULL, 0, 1);
    }
    for (int64_t until = kl_mono_ms() + 240000; atomic_load(&r.passes) <= 3; poll(NULL, 0, 2))
        assert_true(kl_mono_ms() < until);
    atomic_store(&r.stop, true);
    pthread_join(t, NULL);
    // Live rows, what history is kept, each with its share of pages and index; twice that.
    int64_t kept = (int64_t)(KEYS + KEEP + EVERY) * (VALUE + 100), most = 2 * kept;
    print_message("%lld writes of 1 KiB, history read %ld times (%ld rows): log at most %lld KiB,"
                  " file %lld KiB of %lld KiB\n",
                  (long long)writes, r.passes, r.rows, (long long)(wal >> 10),
                  (long long)(file >> 10), (long long)(most >> 10));
    assert_true(wal > 0 && wal <= 64 << 20);
    assert_true(file <= most);
    close_load(&l);
    hs_close(&hs);
}

int main(int argc, char **argv)
{
    backend = argc > 1 ? argv[1] : "sqlite";
    const struct CMUnitTest tests[] = {cmocka_unit_test(compaction_pause),
                                       cmocka_unit_test(log_and_file)};
    cmocka_set_message_output(CM_OUTPUT_STDOUT);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    // The file is SQLite's.
    return _cmocka_run_group_tests(backend, tests, strcmp(backend, "sqlite") ? 1 : 2, NULL, NULL);
}
