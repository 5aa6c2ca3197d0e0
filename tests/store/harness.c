// SPDX-License-Identifier: Apache-2.0
#include "harness.h"
#include "servers.h"
#include "base/clock.h"
#include "base/cond.h"
#include "store/backend.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_S = 120 };

uint64_t hs_rand(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * 0x2545f4914f6cdd1dull;
}

uint64_t hs_seed(void)
{
    const char *e = getenv("STORE_SEED");
    uint64_t seed = e ? strtoull(e, NULL, 10) : (uint64_t)kl_wall_ns() | 1;
    print_message("STORE_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

int hs_scale(int quick)
{
    const char *e = getenv("STORE_SCALE");
    return e ? quick * atoi(e) : quick;
}

// ---- stores ----

static const struct kl_backend_ops *const extra[] = {&hs_backend_shared, NULL};

static void open_stores(struct hs_store *hs)
{
    struct kl_error err = {0};
    if (kl_store_open(hs->url, &hs->o, &hs->s, &err))
        fail_msg("open %s: %s", hs->url, err.msg);
    hs->other = NULL;
    bool two = strcmp(hs->backend, "shared") == 0 || kl_str_ends(kl_str(hs->backend), KL_STR("2"));
    char url[sizeof(hs->url)];
    snprintf(url, sizeof(url), "%s", hs->url);
    if (hs->server)
        ts_url_node(hs->server, 1, hs->db, url, sizeof(url));
    if (two && kl_store_open(url, &hs->o, &hs->other, &err))
        fail_msg("open %s: %s", url, err.msg);
}

bool hs_is_sql(const char *backend)
{
    return kl_str_starts(kl_str(backend), KL_STR("postgres")) ||
           kl_str_starts(kl_str(backend), KL_STR("mysql"));
}

// The store makes the database.
static void use_server(struct hs_store *hs)
{
    hs->server = ts_shared(hs->backend[0] == 'p' ? TS_POSTGRES : TS_MARIADB);
    ts_fresh(hs->server, hs->db);
    ts_url(hs->server, hs->db, NULL, hs->url, sizeof(hs->url));
}

bool hs_is_remote(const char *backend)
{
    return kl_str_starts(kl_str(backend), KL_STR("etcd")) ||
           kl_str_starts(kl_str(backend), KL_STR("kinglet-etcd"));
}

static void use_remote(struct hs_store *hs)
{
    if (!es_start(&hs->remote, hs->backend[0] == 'k', hs->dir)) {
        fail_msg("no %s: tests/etcd/reference.sh builds the reference", hs->backend);
    }
    snprintf(hs->url, sizeof(hs->url), "etcd://127.0.0.1:%d", hs->remote.port);
}

static void drop_database(struct hs_store *hs)
{
    char sql[96];
    snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s%s", hs->db,
             hs->backend[0] == 'p' ? " WITH (FORCE)" : "");
    ts_sql(hs->server, NULL, sql, NULL, 0);
}

void hs_open(struct hs_store *hs, const char *backend, const struct kl_store_options *o)
{
    memset(hs, 0, sizeof(*hs));
    hs->backend = backend;
    if (o)
        hs->o = *o;
    hs->o.extra = extra;
    // Nearly every value lies in the value file then.
    const char *budget = getenv("STORE_BUDGET");
    if (budget && !hs->o.memory_budget)
        hs->o.memory_budget = atoll(budget);
    hs->o.spill_dir = "/tmp";
    const char *base = getenv("STORE_DIR");
    snprintf(hs->dir, sizeof(hs->dir), "%.32s/kl-store-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(hs->dir));
    if (hs_is_sql(backend))
        use_server(hs);
    else if (hs_is_remote(backend))
        use_remote(hs);
    else
        snprintf(hs->url, sizeof(hs->url), "%s://%s/state.db", backend, hs->dir);
    open_stores(hs);
}

void hs_stop(struct hs_store *hs)
{
    kl_store_stop(hs->other);
    kl_store_stop(hs->s);
    hs->s = hs->other = NULL;
}

void hs_reopen(struct hs_store *hs)
{
    hs_stop(hs);
    open_stores(hs);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void hs_remove(const char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void hs_close(struct hs_store *hs)
{
    hs_stop(hs);
    if (hs->server)
        drop_database(hs);
    es_stop(&hs->remote);
    hs_remove(hs->dir);
}

static int64_t clock_mono(void *arg)
{
    return atomic_load(&((struct hs_clock *)arg)->mono_ms);
}

static int64_t clock_wall(void *arg)
{
    return atomic_load(&((struct hs_clock *)arg)->wall_ms);
}

void hs_clock_init(struct hs_clock *c)
{
    c->clock = (struct kl_store_clock){clock_mono, clock_wall, c};
    atomic_store(&c->mono_ms, 1000000);
    atomic_store(&c->wall_ms, 1700000000000);
}

void hs_clock_add(struct hs_clock *c, int64_t ms)
{
    atomic_fetch_add(&c->mono_ms, ms);
    atomic_fetch_add(&c->wall_ms, ms);
}

// ---- blocking calls ----

struct call {
    struct kl_task task;
    struct hs_client *c;
    const char *what;
    atomic_bool ran; // on the client's loop; what it asked for may still be on its way
    void (*fn)(struct hs_client *c, void *arg);
    void *arg;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool done;
};

static void finish(struct call *k)
{
    pthread_mutex_lock(&k->mu);
    k->done = true;
    pthread_cond_signal(&k->cond);
    pthread_mutex_unlock(&k->mu);
}

// True after a second. Deadlines are counted in these, so that a machine that stands still for a
// minute takes one of them.
static bool wait_second(pthread_cond_t *cond, pthread_mutex_t *mu)
{
    struct timespec until = kl_cond_until(1000);
    return pthread_cond_timedwait(cond, mu, &until) == ETIMEDOUT;
}

static void tell_file(const char *task, const char *name)
{
    char path[300], text[400];
    snprintf(path, sizeof(path), "/proc/self/task/%s/%s", task, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    for (ssize_t i = 0; i < n; i++)
        text[i] = text[i] == '\n' ? ' ' : text[i];
    fprintf(stderr, " %s: %.*s;", name, (int)n, text);
}

// What every thread does, as the kernel sees it.
static void tell_threads(void)
{
    static const char *const files[] = {"comm", "wchan", "syscall", "schedstat", "stat"};
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        fprintf(stderr, "thread %s", e->d_name);
        for (size_t i = 0; i < KL_COUNT(files); i++)
            tell_file(e->d_name, files[i]);
        fputc('\n', stderr);
    }
    if (d)
        closedir(d);
}

static void tell_store(const char *name, struct kl_store *s)
{
    struct kl_store_status st;
    if (!s)
        return;
    kl_store_status(s, &st);
    fprintf(stderr,
            "%s: revision %lld, queued %lld, batches %lld, rows %lld, values %lld bytes, in the "
            "file %lld of %lld, error %d %s\n",
            name, (long long)st.rev, (long long)st.queued, (long long)st.batches,
            (long long)st.rows, (long long)st.value_bytes, (long long)st.file_value_bytes,
            (long long)st.file_bytes, st.last_error, st.last_error_text);
}

// A callback that never comes: where everybody is, also in the core dump.
_Noreturn static void give_up(struct call *k)
{
    struct kl_loop_stalls st;
    kl_loop_get_stalls(k->c->loop, &st);
    fprintf(
        stderr,
        "%s: no answer in %d s; it was %s by the loop %s, which has had %lld turns, the longest "
        "of %lld us\n",
        k->what, DEADLINE_S, atomic_load(&k->ran) ? "begun" : "not begun", kl_loop_name(k->c->loop),
        (long long)st.turns, (long long)st.max_us);
    tell_threads();
    tell_store("store", k->c->hs->s);
    tell_store("other store", k->c->hs->other);
    abort();
}

// Posts the call and waits until somebody finishes it.
static void start_and_wait(struct call *k, const char *what, void (*run)(struct kl_task *))
{
    int left = DEADLINE_S;
    pthread_mutex_init(&k->mu, NULL);
    kl_cond_init(&k->cond);
    k->what = what;
    atomic_store(&k->ran, false);
    k->done = false;
    k->task.run = run;
    kl_loop_post(k->c->loop, &k->task);
    pthread_mutex_lock(&k->mu);
    while (!k->done) {
        if (wait_second(&k->cond, &k->mu) && !k->done && --left < 0)
            give_up(k);
    }
    pthread_mutex_unlock(&k->mu);
    pthread_cond_destroy(&k->cond);
    pthread_mutex_destroy(&k->mu);
}

static struct call *begin_call(struct kl_task *t)
{
    struct call *k = KL_CONTAINER_OF(t, struct call, task);
    atomic_store(&k->ran, true);
    return k;
}

static void run_call(struct kl_task *t)
{
    struct call *k = begin_call(t);
    k->fn(k->c, k->arg);
    finish(k);
}

void hs_run(struct hs_client *c, void (*fn)(struct hs_client *, void *), void *arg)
{
    struct call k = {.c = c, .fn = fn, .arg = arg};
    start_and_wait(&k, "a call", run_call);
}

static void open_readers(struct hs_client *c, void *arg)
{
    if (kl_reader_new(c->hs->s, &c->reader, NULL))
        abort();
    c->other = NULL;
    if (c->hs->other && kl_reader_new(c->hs->other, &c->other, NULL))
        abort();
}

void hs_breathe(unsigned n)
{
    if (n % 16 == 0)
        poll(NULL, 0, 1);
}

void hs_client_open(struct hs_client *c, struct hs_store *hs)
{
    *c = (struct hs_client){.hs = hs};
    assert_int_equal(kl_loop_new("client", &c->loop, NULL), 0);
    assert_int_equal(kl_loop_start(c->loop, NULL), 0);
    hs_run(c, open_readers, NULL);
}

static void close_readers(struct hs_client *c, void *arg)
{
    kl_reader_close(c->reader);
    kl_reader_close(c->other);
    c->reader = c->other = NULL;
}

void hs_client_detach(struct hs_client *c)
{
    hs_run(c, close_readers, NULL);
}

void hs_client_close(struct hs_client *c)
{
    hs_client_detach(c);
    kl_loop_stop(c->loop);
    kl_loop_join(c->loop);
    kl_loop_unref(c->loop);
}

// ---- transactions ----

struct txn_call {
    struct call k;
    struct kl_txn txn;
    struct kl_reader_wait wait;
};

static void reached(struct kl_reader_wait *w)
{
    finish(&KL_CONTAINER_OF(w, struct txn_call, wait)->k);
}

// Written through the other store: wait until the one that is read has it.
static void txn_done(struct kl_txn *txn)
{
    struct txn_call *t = KL_CONTAINER_OF(txn, struct txn_call, txn);
    t->wait.cb = reached;
    t->wait.rev = txn->code ? 0 : txn->rev;
    kl_reader_wait_rev(t->k.c->reader, &t->wait);
}

static void run_txn(struct kl_task *task)
{
    struct txn_call *t = KL_CONTAINER_OF(begin_call(task), struct txn_call, k);
    struct hs_store *hs = t->k.c->hs;
    struct kl_store *s = hs->other && atomic_fetch_add(&hs->turn, 1) % 2 ? hs->other : hs->s;
    struct kl_error err;
    int r = kl_store_submit(s, &t->txn, &err);
    if (!r)
        return; // from here on it is the store's
    t->txn.code = r;
    t->txn.err = err;
    finish(&t->k);
}

int hs_txn(struct hs_client *c, struct kl_txn *txn)
{
    struct txn_call t = {.k.c = c, .txn = *txn};
    t.txn.cb = txn_done;
    start_and_wait(&t.k, "a transaction", run_txn);
    *txn = t.txn;
    return txn->code;
}

static kl_rev finish_txn(struct kl_txn *txn)
{
    kl_rev r = txn->code ? txn->code : txn->body.succeeded ? txn->rev : KL_ECONFLICT;
    kl_txn_fini(txn);
    return r;
}

static kl_rev run_op(struct hs_client *c, struct kl_op *op, kl_rev mod_rev)
{
    struct kl_compare cmp = {.key = op->key, .target = KL_COMPARE_MOD, .num = mod_rev};
    struct kl_txn txn = {
        .body = {.compares = &cmp, .ncompares = mod_rev >= 0, .then = op, .nthen = 1}};
    hs_txn(c, &txn);
    return finish_txn(&txn);
}

kl_rev hs_put_bytes(struct hs_client *c, struct kl_str key, struct kl_str value, kl_rev mod_rev)
{
    struct kl_bytes *b = kl_bytes_new(value);
    struct kl_op op = {.kind = KL_OP_PUT, .key = key, .value = b};
    kl_rev r = run_op(c, &op, mod_rev);
    kl_bytes_unref(b);
    return r;
}

kl_rev hs_put(struct hs_client *c, const char *key, const char *value, kl_rev mod_rev)
{
    return hs_put_bytes(c, kl_str(key), kl_str(value), mod_rev);
}

kl_rev hs_put_lease(struct hs_client *c, const char *key, const char *value, int64_t lease)
{
    struct kl_bytes *b = kl_bytes_new(kl_str(value));
    struct kl_op op = {.kind = KL_OP_PUT, .key = kl_str(key), .value = b, .lease = lease};
    kl_rev r = run_op(c, &op, -1);
    kl_bytes_unref(b);
    return r;
}

kl_rev hs_del(struct hs_client *c, const char *key, kl_rev mod_rev)
{
    struct kl_op op = {.kind = KL_OP_DELETE, .key = kl_str(key)};
    return run_op(c, &op, mod_rev);
}

// ---- reads ----

struct read_arg {
    const char *key, *end;
    struct kl_kv *kv;
    int64_t n;
    kl_rev rev;
};

static void do_get(struct hs_client *c, void *arg)
{
    struct read_arg *a = arg;
    a->kv = kl_kv_ref(kl_view_get(kl_reader_view(c->reader), kl_str(a->key)));
}

struct kl_kv *hs_get(struct hs_client *c, const char *key)
{
    struct read_arg a = {.key = key};
    hs_run(c, do_get, &a);
    return a.kv;
}

static void do_count(struct hs_client *c, void *arg)
{
    struct read_arg *a = arg;
    struct kl_str end = a->end && !a->end[0] ? KL_RANGE_TO_LAST : kl_str(a->end);
    a->rev = kl_view_rev(kl_reader_view(c->reader));
    a->n = a->key ? kl_view_count(kl_reader_view(c->reader), kl_str(a->key), end) : 0;
}

kl_rev hs_rev(struct hs_client *c)
{
    struct read_arg a = {0};
    hs_run(c, do_count, &a);
    return a.rev;
}

int64_t hs_count(struct hs_client *c, const char *key, const char *end)
{
    struct read_arg a = {.key = key, .end = end};
    hs_run(c, do_count, &a);
    return a.n;
}

// ---- the rest ----

struct other_call {
    struct call k;
    struct kl_compact_wait compact;
    struct kl_lease_req lease;
    struct kl_range_at range;
    struct kl_reader_wait wait;
    int code;
};

static void compact_done(struct kl_compact_wait *w)
{
    struct other_call *o = KL_CONTAINER_OF(w, struct other_call, compact);
    o->code = w->code;
    finish(&o->k);
}

static void run_compact(struct kl_task *t)
{
    struct other_call *o = KL_CONTAINER_OF(begin_call(t), struct other_call, k);
    o->compact.cb = compact_done;
    int r = kl_store_compact(o->k.c->hs->s, &o->compact, NULL);
    if (!r)
        return;
    o->code = r;
    finish(&o->k);
}

int hs_compact_logical(struct hs_client *c, kl_rev rev)
{
    struct other_call o = {.k.c = c, .compact = {.rev = rev}};
    start_and_wait(&o.k, "a compaction", run_compact);
    return o.code;
}

int hs_compact(struct hs_client *c, kl_rev rev)
{
    struct other_call o = {.k.c = c, .compact = {.rev = rev, .physical = true}};
    start_and_wait(&o.k, "a compaction", run_compact);
    return o.code;
}

static void lease_reached(struct kl_reader_wait *w)
{
    finish(&KL_CONTAINER_OF(w, struct other_call, wait)->k);
}

static void lease_done(struct kl_lease_req *q)
{
    struct other_call *o = KL_CONTAINER_OF(q, struct other_call, lease);
    o->wait.cb = lease_reached;
    o->wait.rev = q->code ? 0 : q->rev;
    kl_reader_wait_rev(o->k.c->reader, &o->wait);
}

static void run_lease(struct kl_task *t)
{
    struct other_call *o = KL_CONTAINER_OF(begin_call(t), struct other_call, k);
    o->lease.cb = lease_done;
    o->lease.loop = NULL;
    int r = kl_store_lease(o->k.c->hs->s, &o->lease, NULL);
    if (!r)
        return;
    o->lease.code = r;
    finish(&o->k);
}

int hs_lease(struct hs_client *c, struct kl_lease_req *q)
{
    struct other_call o = {.k.c = c, .lease = *q};
    start_and_wait(&o.k, "a lease", run_lease);
    *q = o.lease;
    return q->code;
}

static void range_done(struct kl_range_at *q)
{
    finish(&KL_CONTAINER_OF(q, struct other_call, range)->k);
}

static void run_range(struct kl_task *t)
{
    struct other_call *o = KL_CONTAINER_OF(begin_call(t), struct other_call, k);
    o->range.cb = range_done;
    o->range.loop = NULL;
    int r = kl_store_range_at(o->k.c->hs->s, &o->range, NULL);
    if (!r)
        return;
    o->range.code = r;
    finish(&o->k);
}

int hs_range_at(struct hs_client *c, struct kl_range_at *q)
{
    struct other_call o = {.k.c = c, .range = *q};
    start_and_wait(&o.k, "a range at an old revision", run_range);
    *q = o.range;
    return q->code;
}

// ---- a machine that stands still ----

static void *feel_pulse(void *arg)
{
    struct hs_pulse *p = arg;
    for (int64_t at = kl_mono_ms(), now; !atomic_load(&p->stop); at = now) {
        poll(NULL, 0, 20);
        now = kl_mono_ms();
        p->worst_ms = now - at - 20 > p->worst_ms ? now - at - 20 : p->worst_ms;
    }
    return NULL;
}

void hs_pulse_start(struct hs_pulse *p)
{
    p->worst_ms = 0;
    atomic_store(&p->stop, false);
    assert_int_equal(pthread_create(&p->thread, NULL, feel_pulse, p), 0);
}

int64_t hs_pulse_stop(struct hs_pulse *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    return p->worst_ms;
}

// ---- watches ----

static char *copy(struct kl_str s)
{
    char *p = malloc(s.n + 1);
    memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}

static void add_event(struct hs_watch *w, const struct kl_event *e)
{
    if (w->n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->ev = realloc(w->ev, w->cap * sizeof(*w->ev));
    }
    if (e->kv->mod_rev <= w->progress)
        w->early = true;
    w->ev[w->n++] = (struct hs_event){
        .key = copy(kl_kv_key(e->kv)),
        .value = e->kv->deleted ? NULL : copy(kl_kv_value(e->kv)),
        .prev = e->prev ? copy(kl_kv_value(e->prev)) : NULL,
        .rev = e->kv->mod_rev,
        .create_rev = e->kv->create_rev,
        .version = e->kv->version,
    };
}

static void take_events(struct hs_watch *w)
{
    struct kl_event ev[64];
    int n = 1;
    pthread_mutex_lock(&w->mu);
    while (!w->paused && n > 0) {
        n = kl_watch_next(&w->w, ev, w->batch && w->batch < 64 ? w->batch : 64);
        for (int i = 0; i < n; i++)
            add_event(w, &ev[i]);
        if (n < 0)
            w->code = n;
    }
    kl_rev rev;
    if (!w->paused && kl_watch_progress(&w->w, &rev)) {
        if (rev < w->progress)
            w->early = true;
        w->progress = rev;
    }
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

static void wake(struct kl_watch *kw)
{
    take_events(KL_CONTAINER_OF(kw, struct hs_watch, w));
}

struct watch_arg {
    struct hs_watch *w;
    const char *key, *end;
    kl_rev start_rev;
    int code;
};

static void do_start(struct hs_client *c, void *arg)
{
    struct watch_arg *a = arg;
    a->w->w.wake = wake;
    struct kl_str end = a->end && !a->end[0] ? KL_RANGE_TO_LAST : kl_str(a->end);
    a->code = kl_watch_start(&a->w->w, c->reader, kl_str(a->key), end, a->start_rev, NULL);
}

int hs_watch_start(struct hs_watch *w, struct hs_client *c, const char *key, const char *end,
                   kl_rev start_rev)
{
    if (!w->c) {
        pthread_mutex_init(&w->mu, NULL);
        kl_cond_init(&w->cond);
    }
    w->c = c;
    w->code = 0;
    struct watch_arg a = {w, key, end, start_rev, 0};
    hs_run(c, do_start, &a);
    return a.code;
}

static void do_take(struct hs_client *c, void *arg)
{
    take_events(arg);
}

void hs_watch_pause(struct hs_watch *w)
{
    pthread_mutex_lock(&w->mu);
    w->paused = true;
    pthread_mutex_unlock(&w->mu);
}

void hs_watch_go(struct hs_watch *w)
{
    pthread_mutex_lock(&w->mu);
    w->paused = false;
    pthread_mutex_unlock(&w->mu);
    hs_run(w->c, do_take, w);
}

void hs_watch_wait(struct hs_watch *w, size_t n)
{
    int left = DEADLINE_S;
    pthread_mutex_lock(&w->mu);
    while (w->n < n && !w->code && left >= 0)
        left -= wait_second(&w->cond, &w->mu);
    size_t have = w->n;
    int code = w->code;
    pthread_mutex_unlock(&w->mu);
    if (have < n && !code)
        fail_msg("watch of %.*s: %zu of %zu events after %d s, code %d", KL_PRI(w->w.key), have, n,
                 DEADLINE_S, code);
}

void hs_watch_wait_rev(struct hs_watch *w, kl_rev rev)
{
    int64_t until = kl_mono_ms() + DEADLINE_S * 1000;
    for (;;) {
        hs_run(w->c, do_take, w);
        pthread_mutex_lock(&w->mu);
        bool there = w->progress >= rev || w->code;
        pthread_mutex_unlock(&w->mu);
        if (there)
            return;
        if (kl_mono_ms() > until)
            fail_msg("watch of %.*s: no progress to %lld after %d s", KL_PRI(w->w.key),
                     (long long)rev, DEADLINE_S);
        sched_yield();
    }
}

static void do_stop(struct hs_client *c, void *arg)
{
    kl_watch_stop(&((struct hs_watch *)arg)->w);
}

void hs_watch_stop(struct hs_watch *w)
{
    hs_run(w->c, do_stop, w);
}

void hs_watch_fini(struct hs_watch *w)
{
    hs_watch_stop(w);
    for (size_t i = 0; i < w->n; i++) {
        free(w->ev[i].key);
        free(w->ev[i].value);
        free(w->ev[i].prev);
    }
    free(w->ev);
    pthread_mutex_destroy(&w->mu);
    pthread_cond_destroy(&w->cond);
}
