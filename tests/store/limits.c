// SPDX-License-Identifier: Apache-2.0
// Moments that a fast machine does not show, on a back end that stores when it is told to; and
// what must stay bounded: the WAL under writes with a reader of history that never ends, the WAL
// of a file that cannot be checkpointed, the writes of others while thousands of leases end.
#include "harness.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/backend.h"
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HIST_ROWS = 1800 };

// ---- gate://: memory://, but a proposed batch waits at the gate ----

extern const struct kl_backend_ops kl_backend_memory;

static struct {
    atomic_bool shut;
    struct kl_store *core;
    struct kl_backend *b;
    struct kl_batch *waiting; // the core's loop
    atomic_bool waits;
    struct kl_task open_task;
} gate;

static int gate_open(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                     struct kl_error *err)
{
    gate.core = core;
    gate.waiting = NULL;
    atomic_store(&gate.waits, false);
    int r = kl_backend_memory.open(core, rest, ret_b, err);
    gate.b = *ret_b;
    return r;
}

static void gate_propose(struct kl_backend *b, struct kl_batch *batch)
{
    if (!atomic_load(&gate.shut)) {
        kl_backend_memory.propose(b, batch);
        return;
    }
    gate.waiting = batch;
    atomic_store(&gate.waits, true);
}

static void run_open(struct kl_task *t)
{
    struct kl_batch *batch = gate.waiting;
    gate.waiting = NULL;
    atomic_store(&gate.waits, false);
    if (batch)
        kl_backend_memory.propose(gate.b, batch);
}

static void open_gate(void)
{
    atomic_store(&gate.shut, false);
    gate.open_task.run = run_open;
    kl_loop_post(kl_core_loop(gate.core), &gate.open_task);
}

static void wait_at_gate(void)
{
    for (int64_t until = kl_mono_ms() + 120000; !atomic_load(&gate.waits); sched_yield())
        assert_true(kl_mono_ms() < until);
}

// What waits is in the file already, as between SQLite's commit and the core's hearing of it.
static void gate_read_rows(struct kl_backend *b, struct kl_rows_req *q)
{
    kl_backend_memory.read_rows(b, q);
    struct kl_batch *batch = gate.waiting;
    if (!batch || q->code || q->through != batch->base_rev)
        return;
    q->rows = realloc(q->rows, (q->nrows + batch->nrows) * sizeof(*q->rows));
    for (size_t i = 0; i < batch->nrows; i++)
        q->rows[q->nrows++] = (struct kl_event){kl_kv_ref(batch->rows[i].kv), NULL};
    q->through = batch->last_rev;
}

static struct kl_backend_ops gate_ops;
static const struct kl_backend_ops *const gate_extra[] = {&gate_ops, NULL};

struct fix {
    struct hs_store hs;
    struct hs_client c;
    struct hs_clock clock;
};

static int setup_gate(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    gate_ops = kl_backend_memory;
    gate_ops.scheme = "gate";
    gate_ops.open = gate_open;
    gate_ops.propose = gate_propose;
    gate_ops.read_rows = gate_read_rows;
    hs_clock_init(&f->clock);
    struct kl_store_options o = {.clock = &f->clock.clock, .ring_bytes = 1};
    struct kl_error err;
    hs_open(&f->hs, "memory", &o);
    hs_stop(&f->hs);
    f->hs.o.extra = gate_extra;
    assert_int_equal(kl_store_open("gate://", &f->hs.o, &f->hs.s, &err), 0);
    hs_client_open(&f->c, &f->hs);
    *state = f;
    return 0;
}

static int teardown_gate(void **state)
{
    struct fix *f = *state;
    hs_client_close(&f->c);
    hs_close(&f->hs);
    free(f);
    return 0;
}

struct later {
    struct kl_lease_req q;
    atomic_bool done;
    struct fix *f;
};

static void later_done(struct kl_lease_req *q)
{
    atomic_store(&KL_CONTAINER_OF(q, struct later, q)->done, true);
}

static void do_later(struct hs_client *c, void *arg)
{
    struct later *l = arg;
    l->q.cb = later_done;
    assert_int_equal(kl_store_lease(c->hs->s, &l->q, NULL), 0);
}

static void wait_later(struct later *l)
{
    for (int64_t until = kl_mono_ms() + 120000; !atomic_load(&l->done); sched_yield())
        assert_true(kl_mono_ms() < until);
}

static void turn_core(struct hs_client *c)
{
    // Two rounds through the core's loop and its timer, whose clock is the tests'.
    for (int64_t until = kl_mono_ms() + 60; kl_mono_ms() < until;) {
        struct kl_lease_req l = {.kind = KL_LEASE_LIST};
        hs_lease(c, &l);
        kl_lease_req_fini(&l);
    }
}

// A keep-alive that is being written when the old deadline passes: it is acknowledged, so the lease
// lives on.
static void renewal_in_flight(void **state)
{
    struct fix *f = *state;
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 10};
    assert_int_equal(hs_lease(&f->c, &g), 0);
    assert_true(hs_put_lease(&f->c, "r/a", "v", g.id) > 0);
    hs_clock_add(&f->clock, 9000);
    atomic_store(&gate.shut, true);
    struct later k = {.q = {.kind = KL_LEASE_KEEPALIVE, .id = g.id}, .f = f};
    hs_run(&f->c, do_later, &k);
    wait_at_gate();
    hs_clock_add(&f->clock, 2000);
    turn_core(&f->c);
    open_gate();
    wait_later(&k);
    assert_int_equal(k.q.code, 0);
    turn_core(&f->c);
    assert_int_equal(hs_count(&f->c, "r/a", NULL), 1);
    hs_clock_add(&f->clock, 7999); // 9,999 after the keep-alive
    turn_core(&f->c);
    assert_int_equal(hs_count(&f->c, "r/a", NULL), 1);
    hs_clock_add(&f->clock, 1);
    for (int64_t until = kl_mono_ms() + 120000; hs_count(&f->c, "r/a", NULL); sched_yield())
        assert_true(kl_mono_ms() < until);
}

// The wall clock jumps by an hour while a grant is being written.
static void jump_in_flight(void **state)
{
    struct fix *f = *state;
    for (int dir = -1; dir <= 1; dir += 2) {
        atomic_store(&gate.shut, true);
        struct later g = {.q = {.kind = KL_LEASE_GRANT, .ttl_s = 100}, .f = f};
        hs_run(&f->c, do_later, &g);
        wait_at_gate();
        atomic_fetch_add(&f->clock.wall_ms, dir * 3600000);
        open_gate();
        wait_later(&g);
        assert_int_equal(g.q.code, 0);
        assert_int_equal(g.q.remaining_ms, 100000);
        struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.q.id};
        assert_int_equal(hs_lease(&f->c, &t), 0);
        assert_int_equal(t.remaining_ms, 100000);
    }
}

struct putting {
    struct kl_txn txn;
    struct kl_op op;
    atomic_bool done;
};

static void put_done(struct kl_txn *txn)
{
    atomic_store(&KL_CONTAINER_OF(txn, struct putting, txn)->done, true);
}

static void do_put(struct hs_client *c, void *arg)
{
    struct putting *p = arg;
    p->op = (struct kl_op){.kind = KL_OP_DELETE, .key = KL_STR("h/0")};
    p->txn = (struct kl_txn){.body = {.then = &p->op, .nthen = 1}, .cb = put_done};
    assert_int_equal(kl_store_submit(c->hs->s, &p->txn, NULL), 0);
}

// A watch that reads history finds a row that nobody was told of: it waits for its publication.
static void history_ahead(void **state)
{
    struct fix *f = *state;
    char key[32], *big = calloc(1, 2000);
    kl_rev first = 0;
    for (int i = 0; i < HIST_ROWS; i++) { // the last page begins below the ring
        snprintf(key, sizeof(key), "h/%d", i);
        kl_rev rev = hs_put_bytes(&f->c, kl_str(key), (struct kl_str){big, 2000}, -1);
        first = first ? first : rev;
    }
    free(big);
    atomic_store(&gate.shut, true);
    struct putting p = {.done = false};
    hs_run(&f->c, do_put, &p);
    wait_at_gate();
    kl_rev head = hs_rev(&f->c);
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &f->c, "h/", "h0", first), 0);
    hs_watch_wait(&w, HIST_ROWS);
    hs_watch_wait_rev(&w, head);
    turn_core(&f->c);
    assert_int_equal(w.n, HIST_ROWS);
    assert_int_equal(w.progress, head);
    assert_false(atomic_load(&p.done));
    open_gate();
    hs_watch_wait(&w, HIST_ROWS + 1);
    assert_int_equal(w.n, HIST_ROWS + 1);
    assert_int_equal(w.ev[HIST_ROWS].rev, head + 1);
    assert_null(w.ev[HIST_ROWS].value);
    hs_watch_fini(&w);
    for (int64_t until = kl_mono_ms() + 120000; !atomic_load(&p.done); sched_yield())
        assert_true(kl_mono_ms() < until);
    kl_txn_fini(&p.txn);
}

// ---- transactions in history ----

struct whole {
    struct kl_watch w;
    int events, split;
    atomic_int seen;
};

static void take_whole(struct kl_watch *kw)
{
    struct whole *w = KL_CONTAINER_OF(kw, struct whole, w);
    struct kl_event ev[64];
    for (int n; (n = kl_watch_next(kw, ev, 64)) > 0;) {
        w->events += n;
        w->split += ev[n - 1].kv->id != ev[n - 1].kv->mod_rev; // the last row has it as its id
    }
    atomic_store(&w->seen, w->events);
}

static void start_whole(struct hs_client *c, void *arg)
{
    struct whole *w = arg;
    w->w.wake = take_whole;
    assert_int_equal(kl_watch_start(&w->w, c->reader, KL_STR("t/"), KL_STR("t0"), 2, NULL), 0);
}

static void stop_whole(struct hs_client *c, void *arg)
{
    kl_watch_stop(&((struct whole *)arg)->w);
}

// A page of history ends where a transaction does.
static void whole_pages(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    enum { TXNS = 500, OPS = 3 };
    hs_open(&hs, "sqlite", NULL);
    hs_client_open(&c, &hs);
    for (int n = 0; n < TXNS; n++) {
        struct kl_op op[OPS];
        char key[OPS][16];
        for (int i = 0; i < OPS; i++) {
            snprintf(key[i], sizeof(key[i]), "t/%d", i);
            op[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key[i])};
        }
        struct kl_txn txn = {.body = {.then = op, .nthen = OPS}};
        assert_int_equal(hs_txn(&c, &txn), 0);
        kl_txn_fini(&txn);
    }
    hs_client_close(&c);
    hs_reopen(&hs); // the ring is empty: all of it comes from the file, 500 rows at a time
    hs_client_open(&c, &hs);
    struct whole w = {.events = 0};
    hs_run(&c, start_whole, &w);
    for (int64_t until = kl_mono_ms() + 120000; atomic_load(&w.seen) < TXNS * OPS; sched_yield())
        assert_true(kl_mono_ms() < until);
    hs_run(&c, stop_whole, &w);
    assert_int_equal(w.events, TXNS * OPS);
    assert_int_equal(w.split, 0);
    hs_client_close(&c);
    hs_close(&hs);
}

// ---- the WAL ----

static int64_t wal_size(const struct hs_store *hs)
{
    char path[160];
    struct stat st;
    snprintf(path, sizeof(path), "%s/state.db-wal", hs->dir);
    return stat(path, &st) ? 0 : (int64_t)st.st_size;
}

struct history_reader {
    struct hs_store *hs;
    atomic_bool stop;
    long rows;
};

// Reads all of history again and again, from the back end.
static void *read_history(void *arg)
{
    struct history_reader *h = arg;
    struct hs_client c;
    hs_client_open(&c, h->hs);
    while (!atomic_load(&h->stop)) {
        struct hs_watch w = {0};
        kl_rev head = hs_rev(&c);
        assert_int_equal(hs_watch_start(&w, &c, "w/", "w0", 2), 0);
        hs_watch_wait_rev(&w, head);
        hs_watch_stop(&w);
        h->rows += (long)w.n;
        hs_watch_fini(&w);
        struct kl_range_at q = {.key = KL_STR("w/"), .end = KL_STR("w0"), .rev = head / 2 + 1};
        assert_int_equal(hs_range_at(&c, &q), 0);
        kl_range_at_fini(&q);
    }
    hs_client_close(&c);
    return NULL;
}

static void wal_bound(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    struct kl_store_options o = {.ring_bytes = 1};
    hs_open(&hs, "sqlite", &o);
    hs_client_open(&c, &hs);
    struct kl_str value = {calloc(1, 128 << 10), 128 << 10};
    assert_true(hs_put(&c, "w/first", "", 0) > 0);
    struct history_reader h = {.hs = &hs};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, read_history, &h), 0);
    int64_t max = 0, written = 0;
    for (int i = 0, n = hs_scale(600); i < n; i++) {
        char key[32];
        snprintf(key, sizeof(key), "w/%d", i % 50);
        assert_true(hs_put_bytes(&c, kl_str(key), value, -1) > 0);
        written += (int64_t)value.n;
        int64_t now = wal_size(&hs);
        max = now > max ? now : max;
    }
    atomic_store(&h.stop, true);
    pthread_join(t, NULL);
    print_message("%lld MiB written, %ld rows read, WAL at most %lld KiB\n",
                  (long long)(written >> 20), h.rows, (long long)(max >> 10));
    assert_true(h.rows > 600);
    assert_true(written > (64 << 20));
    assert_true(max > 0 && max <= 16 << 20); // the promise is 64 MiB
    free((void *)value.p);
    hs_client_close(&c);
    hs_close(&hs);
}

// ---- the file of the database refuses writes, its WAL does not ----

static atomic_bool refuse_db;
static sqlite3_vfs *real_vfs;
static int (*real_write)(sqlite3_file *, const void *, int, sqlite3_int64);
static sqlite3_io_methods db_methods;

static int refusing_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    return atomic_load(&refuse_db) ? SQLITE_IOERR_WRITE : real_write(f, p, n, at);
}

static int refusing_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    int rc = real_vfs->xOpen(real_vfs, name, f, flags, out);
    if (rc || !(flags & SQLITE_OPEN_MAIN_DB))
        return rc;
    db_methods = *f->pMethods;
    real_write = db_methods.xWrite;
    db_methods.xWrite = refusing_write;
    f->pMethods = &db_methods;
    return rc;
}

static void install_vfs(void)
{
    static sqlite3_vfs vfs;
    sqlite3_initialize();
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.zName = "refusing";
    vfs.pNext = NULL;
    vfs.xOpen = refusing_open;
    sqlite3_vfs_register(&vfs, 1);
}

static void wal_without_checkpoints(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    hs_open(&hs, "sqlite", NULL);
    hs_client_open(&c, &hs);
    struct kl_str value = {calloc(1, 1 << 20), 1 << 20};
    atomic_store(&refuse_db, true);
    char key[32];
    kl_rev r = 1;
    int n = 0;
    for (; r > 0 && n < 200; n++) {
        snprintf(key, sizeof(key), "b/%d", n);
        r = hs_put_bytes(&c, kl_str(key), value, 0);
    }
    assert_int_equal(r, KL_EIO);
    n--;
    print_message("refused after %d MiB, WAL %lld MiB\n", n, (long long)(wal_size(&hs) >> 20));
    assert_true(n > 40);
    assert_true(wal_size(&hs) <= 68 << 20);
    assert_int_equal(hs_count(&c, "b/", "b0"), n);
    atomic_store(&refuse_db, false);
    assert_true(hs_put_bytes(&c, kl_str(key), value, 0) > 0); // by itself, when the disk is well
    free((void *)value.p);
    hs_client_close(&c);
    hs_reopen(&hs);
    hs_client_open(&c, &hs);
    assert_int_equal(hs_count(&c, "b/", "b0"), n + 1);
    hs_client_close(&c);
    hs_close(&hs);
}

int main(int argc, char **argv)
{
    kl_log_setup(KL_LOG_ERROR, false);
    if (access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm", 0);
    install_vfs();
#define GATE(f) cmocka_unit_test_setup_teardown(f, setup_gate, teardown_gate)
    const struct CMUnitTest tests[] = {
        GATE(renewal_in_flight),     GATE(jump_in_flight),
        GATE(history_ahead),         cmocka_unit_test(whole_pages),
        cmocka_unit_test(wal_bound), cmocka_unit_test(wal_without_checkpoints),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
