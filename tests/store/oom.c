// SPDX-License-Identifier: Apache-2.0
// Memory runs out: the nth allocation of the store's and its readers' threads fails, for every n;
// then the same inside SQLite. A request succeeds entirely or fails entirely; no event is lost; and
// with the sanitizers, nothing leaks. Linked with --wrap, so that only the product's allocations
// count; the tests' own call the real functions.
#include "harness.h"
#include "base/log.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long left;   // allocations until the one that fails; 0: none does
static atomic_bool failed; // it came
static atomic_bool in_sqlite;
static pthread_t main_thread;

static bool fails(bool sqlite)
{
    if (atomic_load(&left) == 0 || sqlite != atomic_load(&in_sqlite) ||
        pthread_equal(pthread_self(), main_thread) || atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails(false) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(false) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails(false) ? NULL : __real_realloc(p, n);
}

static sqlite3_mem_methods plain;

static void *sq_malloc(int n)
{
    return fails(true) ? NULL : plain.xMalloc(n);
}

static void *sq_realloc(void *p, int n)
{
    return fails(true) ? NULL : plain.xRealloc(p, n);
}

// ---- the scenario ----

enum { KEYS = 100, MAX_LOG = 400 };

struct run {
    struct hs_store hs;
    struct hs_client c;
    int value[KEYS]; // of /o/NN; -1: absent
    bool unsure[KEYS];
    int unsure_value[KEYS];
    struct {
        int key, value;
        kl_rev rev;
    } log[MAX_LOG]; // acknowledged writes after the watch began
    int nlog, maybes;
    long n;
};

static void name_key(char *buf, int k)
{
    snprintf(buf, 16, "/o/%03d", k);
}

static bool check_code(struct run *r, int64_t code, const char *what)
{
    if (code >= 0)
        return true;
    if (code != KL_ENOMEM && code != KL_EMAYBE)
        fail_msg("allocation %ld fails, %s: %s", r->n, what, kl_err_text((int)code));
    return false;
}

static void check_key(struct run *r, int k, const char *when)
{
    char key[16];
    name_key(key, k);
    struct kl_kv *kv = hs_get(&r->c, key);
    int have = kv ? atoi(kl_kv_value(kv).p) : -1;
    kl_kv_unref(kv);
    if (have == r->value[k])
        return;
    if (!r->unsure[k] || have != r->unsure_value[k])
        fail_msg("allocation %ld fails, %s: %s is %d, acknowledged %d", r->n, when, key, have,
                 r->value[k]);
}

// A transaction that puts `value` into `nput` keys from k on and deletes `ndel` after them, as a
// range.
static void write_keys(struct run *r, int k, int nput, int ndel, int value, const char *what)
{
    struct kl_op op[8];
    char key[8][16], end[16], text[3000];
    memset(text, '.', sizeof(text));
    text[snprintf(text, 16, "%d", value)] = ' ';
    struct kl_bytes *v = kl_bytes_new((struct kl_str){text, sizeof(text)});
    for (int i = 0; i < nput; i++) {
        name_key(key[i], k + i);
        op[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key[i]), .value = v};
    }
    if (ndel) {
        name_key(key[nput], k + nput);
        name_key(end, k + nput + ndel);
        op[nput] =
            (struct kl_op){.kind = KL_OP_DELETE, .key = kl_str(key[nput]), .end = kl_str(end)};
    }
    struct kl_txn txn = {.body = {.then = op, .nthen = (size_t)(nput + !!ndel)}};
    int code = hs_txn(&r->c, &txn);
    bool done = check_code(r, code, what);
    for (int i = 0; i < nput + ndel; i++) {
        int new = i < nput ? value : -1;
        bool change = i < nput || r->value[k + i] >= 0;
        if (done && change) {
            r->log[r->nlog].key = k + i;
            r->log[r->nlog].value = new;
            r->log[r->nlog++].rev = txn.rev;
        }
        if (done) {
            r->value[k + i] = new;
            r->unsure[k + i] = false;
        } else if (code == KL_EMAYBE) {
            r->unsure[k + i] = true;
            r->unsure_value[k + i] = new;
            r->maybes++;
        }
        check_key(r, k + i, what);
    }
    kl_txn_fini(&txn);
    kl_bytes_unref(v);
}

static void do_leases(struct run *r)
{
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 1000};
    if (!check_code(r, hs_lease(&r->c, &g), "grant"))
        return;
    hs_put(&r->c, "/x/seen", "", -1); // shared: through both
    hs_put(&r->c, "/x/seen", "", -1);
    kl_rev put = hs_put_lease(&r->c, "/x/leased", "v", g.id);
    check_code(r, put, "put with a lease");
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    check_code(r, hs_lease(&r->c, &k), "keep-alive");
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.id, .want_keys = true};
    if (check_code(r, hs_lease(&r->c, &t), "time to live") && put != KL_EMAYBE)
        assert_int_equal(t.n, put > 0);
    kl_lease_req_fini(&t);
    struct kl_lease_req l = {.kind = KL_LEASE_LIST};
    if (check_code(r, hs_lease(&r->c, &l), "list of leases"))
        assert_true(l.n >= 1);
    kl_lease_req_fini(&l);
    struct kl_lease_req v = {.kind = KL_LEASE_REVOKE, .id = g.id};
    bool gone = check_code(r, hs_lease(&r->c, &v), "revocation");
    if (v.code != KL_EMAYBE && put != KL_EMAYBE)
        assert_int_equal(hs_count(&r->c, "/x/leased", NULL), put > 0 && !gone);
}

static void old_state(struct run *r, kl_rev rev)
{
    struct kl_range_at q = {
        .key = KL_STR("/o/"), .end = KL_STR("/o0"), .rev = rev, .limit = 10, .want_count = true};
    if (check_code(r, hs_range_at(&r->c, &q), "range at a revision")) {
        assert_int_equal(q.nkvs, 10);
        assert_int_equal(q.count, KEYS);
    }
    kl_range_at_fini(&q);
}

// What happened after `from`: from the back end's history, as the ring is small.
static void watch_from(struct run *r, kl_rev from, const char *what)
{
    struct hs_watch w = {0};
    int code = hs_watch_start(&w, &r->c, "/o/", "/o0", from + 1);
    if (check_code(r, code, what) && r->nlog) {
        hs_watch_wait(&w, (size_t)r->nlog);
        if (w.code)
            check_code(r, w.code, what);
        for (size_t i = 0; !w.code && !r->maybes && i < w.n; i++) {
            char key[16];
            name_key(key, r->log[i].key);
            assert_string_equal(w.ev[i].key, key);
            assert_int_equal(w.ev[i].rev, r->log[i].rev);
        }
    }
    if (!code)
        hs_watch_fini(&w);
}

static void scenario(struct run *r, kl_rev start)
{
    write_keys(r, 0, 1, 0, 1, "update");
    write_keys(r, 40, 3, 4, 2, "transaction of many");
    write_keys(r, 41, 1, 0, 3, "another");
    hs_compact_logical(&r->c, start - 20);
    old_state(r, start);
    watch_from(r, start, "watch from history");
    write_keys(r, 0, 0, 40, -1, "deletion of a range");
    do_leases(r);
    for (int i = 0; i < 40; i += 4)
        write_keys(r, i, 4, 0, 100 + i, "creation");
    watch_from(r, start, "watch again");
}

// True when an allocation failed.
static bool run_once(const char *backend, long n, bool sqlite)
{
    struct kl_store_options o = {.ring_bytes = 4096};
    struct run *r = calloc(1, sizeof(*r));
    r->n = n;
    hs_open(&r->hs, backend, &o);
    hs_client_open(&r->c, &r->hs);
    for (int k = 0; k < KEYS; k++) {
        char key[16];
        name_key(key, k);
        assert_true(hs_put(&r->c, key, "0 ", 0) > 0);
    }
    kl_rev start = hs_rev(&r->c);
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &r->c, "/o/", "/o0", 0), 0);
    atomic_store(&failed, false);
    atomic_store(&in_sqlite, sqlite);
    atomic_store(&left, n);
    scenario(r, start);
    atomic_store(&left, 0);
    write_keys(r, 99, 1, 0, 99, "afterwards");
    // Every acknowledged write came, in order, or the watch said that it cannot go on.
    hs_watch_wait(&w, (size_t)r->nlog);
    check_code(r, w.code, "watch");
    for (size_t i = 0; !r->maybes && i < w.n; i++) {
        assert_int_equal(w.ev[i].rev, r->log[i].rev);
        assert_int_equal(w.ev[i].value ? atoi(w.ev[i].value) : -1, r->log[i].value);
    }
    hs_watch_fini(&w);
    for (int k = 0; k < KEYS; k++)
        check_key(r, k, "at the end");
    if (strcmp(backend, "sqlite") == 0) {
        hs_client_close(&r->c);
        hs_reopen(&r->hs);
        hs_client_open(&r->c, &r->hs);
        for (int k = 0; k < KEYS; k++)
            check_key(r, k, "after a restart");
    }
    hs_client_close(&r->c);
    hs_close(&r->hs);
    free(r);
    return atomic_load(&failed);
}

// Every nth with STORE_SCALE=10; a sample that moves with the seed otherwise.
static void sweep(const char *backend, bool sqlite, int quick_stride)
{
    uint64_t seed = hs_seed();
    int stride = hs_scale(1) >= 10 ? 1 : quick_stride;
    long n = 1 + (long)(hs_rand(&seed) % (unsigned)stride), runs = 0;
    for (; run_once(backend, n, sqlite); n += stride)
        runs++;
    print_message("%s: about %ld allocations, %ld failed in turn\n", backend, n, runs);
    assert_true(runs * stride > 50);
}

static void sweep_memory(void **state)
{
    sweep("memory", false, 3);
}

static void sweep_sqlite(void **state)
{
    sweep("sqlite", false, 5);
}

static void sweep_shared(void **state)
{
    sweep("shared", false, 5);
}

// A deletion of very many rows, which the store that is watched takes from outside, in turns.
static bool run_many(long n)
{
    enum { TXNS = 3, TXN_KEYS = 1000 };
    static char name[TXN_KEYS][16];
    static struct kl_op ops[TXN_KEYS];
    struct run r = {.n = n};
    hs_open(&r.hs, "shared", NULL);
    hs_client_open(&r.c, &r.hs);
    for (int at = 0; at < TXNS * TXN_KEYS; at += TXN_KEYS) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = TXN_KEYS}};
        for (int i = 0; i < TXN_KEYS; i++) {
            snprintf(name[i], sizeof(name[i]), "m/%05d", at + i);
            ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(name[i])};
        }
        assert_int_equal(hs_txn(&r.c, &txn), 0);
        kl_txn_fini(&txn);
    }
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &r.c, "m/", "m0", 0), 0);
    atomic_store(&failed, false);
    atomic_store(&in_sqlite, false);
    bool gone = false;
    for (int i = 0; !gone; i++) {
        struct kl_op del = {.kind = KL_OP_DELETE, .key = KL_STR("m/"), .end = KL_STR("m0")};
        struct kl_txn txn = {.body = {.then = &del, .nthen = 1}};
        atomic_store(&left, i ? 0 : n);
        gone = check_code(&r, hs_txn(&r.c, &txn), "deletion of very many");
        if (gone)
            assert_int_equal(del.count, TXNS * TXN_KEYS);
        kl_txn_fini(&txn);
    }
    atomic_store(&left, 0);
    hs_watch_wait(&w, TXNS * TXN_KEYS);
    check_code(&r, w.code, "watch");
    for (int i = 0; !w.code && i < TXNS * TXN_KEYS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "m/%05d", i);
        assert_string_equal(w.ev[i].key, key);
        assert_null(w.ev[i].value);
    }
    hs_watch_fini(&w);
    for (int i = 0; i < 2; i++) // through both
        assert_true(hs_put(&r.c, "after", "", -1) > 0);
    assert_int_equal(hs_count(&r.c, "m/", "m0"), 0);
    hs_client_close(&r.c);
    hs_close(&r.hs);
    return atomic_load(&failed);
}

static void sweep_many(void **state)
{
    uint64_t seed = hs_seed();
    int stride = hs_scale(1) >= 10 ? 20 : 150;
    long n = 1 + (long)(hs_rand(&seed) % (unsigned)stride), runs = 0;
    for (; run_many(n); n += stride)
        runs++;
    print_message("%ld allocations failed in turn\n", runs);
    assert_true(runs > 5);
}

static void sweep_inside_sqlite(void **state)
{
    sweep("sqlite", true, 41);
}

int main(int argc, char **argv)
{
    main_thread = pthread_self();
    kl_log_setup(getenv("STORE_LOG") ? KL_LOG_WARN : KL_LOG_NONE, false); // each fault logs a line
    if (access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm", 0);
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain);
    sqlite3_mem_methods m = plain;
    m.xMalloc = sq_malloc;
    m.xRealloc = sq_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &m);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sweep_memory),        cmocka_unit_test(sweep_sqlite),
        cmocka_unit_test(sweep_shared),        cmocka_unit_test(sweep_many),
        cmocka_unit_test(sweep_inside_sqlite),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
