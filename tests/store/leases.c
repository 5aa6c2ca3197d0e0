// SPDX-License-Identifier: Apache-2.0
// Leases and clocks on each back end: no clock that jumps, stops or leaps ends a lease early or
// keeps it, a restart does not either, and very many that end together are no burden on writers.
// Arguments: the back end.
#include "harness.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOUR_MS = 3600000, LATE_MS = 20000 };

static const char *backend;

static bool keeps(void)
{
    return strcmp(backend, "memory") != 0;
}

static void reopen(struct hs_store *hs, struct hs_client *c)
{
    if (!keeps())
        return;
    hs_client_close(c);
    hs_reopen(hs);
    hs_client_open(c, hs);
}

// Rounds through the core's loop and its timer, whose clock is the tests'.
static void turn(struct hs_client *c)
{
    for (int64_t until = kl_mono_ms() + 60; kl_mono_ms() < until;) {
        struct kl_lease_req l = {.kind = KL_LEASE_LIST};
        hs_lease(c, &l);
        kl_lease_req_fini(&l);
    }
}

// ---- clocks ----

struct fix {
    struct hs_store hs;
    struct hs_client c;
    struct hs_clock clock;
    int n;
};

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    hs_clock_init(&f->clock);
    struct kl_store_options o = {.clock = &f->clock.clock};
    hs_open(&f->hs, backend, &o);
    hs_client_open(&f->c, &f->hs);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    hs_client_close(&f->c);
    hs_close(&f->hs);
    free(f);
    return 0;
}

// A key on a lease of its own.
static int64_t grant(struct hs_client *c, int64_t ttl_s, const char *key)
{
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = ttl_s};
    assert_int_equal(hs_lease(c, &g), 0);
    assert_true(hs_put_lease(c, key, "v", g.id) > 0);
    return g.id;
}

static int64_t remaining(struct hs_client *c, int64_t id)
{
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = id};
    int r = hs_lease(c, &t);
    return r ? r : t.remaining_ms;
}

static bool is_there(struct hs_client *c, const char *key)
{
    struct kl_kv *kv = hs_get(c, key);
    kl_kv_unref(kv);
    return kv;
}

static void expect_gone(struct hs_client *c, const char *key)
{
    int64_t since = kl_mono_ms();
    while (is_there(c, key)) {
        if (kl_mono_ms() - since > LATE_MS)
            fail_msg("%s is there %d ms after its end", key, LATE_MS);
        usleep(1000);
    }
}

static void expect_there(struct hs_client *c, const char *key)
{
    turn(c);
    if (!is_there(c, key))
        fail_msg("%s went early", key);
}

// The wall clock does what it likes: a lease of a running server ends by the other one.
static void wall_jumps(void **state)
{
    static const int64_t jumps[] = {HOUR_MS, -HOUR_MS, 1000, -1000, 24ll * 365 * HOUR_MS};
    struct fix *f = *state;
    for (size_t i = 0; i < KL_COUNT(jumps); i++) {
        int64_t id = grant(&f->c, 100, "j/a");
        kl_rev before = hs_rev(&f->c);
        atomic_fetch_add(&f->clock.wall_ms, jumps[i]);
        expect_there(&f->c, "j/a");
        assert_int_equal(remaining(&f->c, id), 100000);
        assert_int_equal(hs_put(&f->c, "j/other", "v", -1), before + 1);
        hs_clock_add(&f->clock, 60000);
        atomic_fetch_sub(&f->clock.wall_ms, jumps[i] / 2); // and somewhere else
        struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = id};
        assert_int_equal(hs_lease(&f->c, &k), 0);
        hs_clock_add(&f->clock, 99999);
        expect_there(&f->c, "j/a");
        hs_clock_add(&f->clock, 1);
        expect_gone(&f->c, "j/a");
        assert_int_equal(remaining(&f->c, id), KL_ENOTFOUND);
    }
}

static void frozen_clocks(void **state)
{
    struct fix *f = *state;
    grant(&f->c, 100, "f/wall");
    atomic_fetch_add(&f->clock.mono_ms, 99999); // the wall clock stands still
    expect_there(&f->c, "f/wall");
    atomic_fetch_add(&f->clock.mono_ms, 1);
    expect_gone(&f->c, "f/wall");
    int64_t id = grant(&f->c, 100, "f/mono");
    for (int i = 0; i < 5; i++) { // the other one does
        atomic_fetch_add(&f->clock.wall_ms, 60000);
        expect_there(&f->c, "f/mono");
        assert_int_equal(remaining(&f->c, id), 100000);
        assert_true(hs_put(&f->c, "f/other", "v", -1) > 0);
    }
}

// A jump while the server is down can only shorten, and the lease is never longer than its TTL.
static void jumps_while_down(void **state)
{
    struct fix *f = *state;
    if (!keeps())
        return;
    int64_t id = grant(&f->c, 100, "d/a");
    hs_clock_add(&f->clock, 30000);
    reopen(&f->hs, &f->c);
    assert_int_equal(remaining(&f->c, id), 70000);
    hs_client_close(&f->c);
    hs_stop(&f->hs);
    atomic_fetch_sub(&f->clock.wall_ms, HOUR_MS);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
    assert_int_equal(remaining(&f->c, id), 100000);
    hs_clock_add(&f->clock, 99999);
    expect_there(&f->c, "d/a");
    hs_clock_add(&f->clock, 1);
    expect_gone(&f->c, "d/a");
    grant(&f->c, 100, "d/b");
    hs_client_close(&f->c);
    hs_stop(&f->hs);
    atomic_fetch_add(&f->clock.wall_ms, HOUR_MS);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
    expect_gone(&f->c, "d/b");
}

// Another store that opens the same database, for a moment or for long, knows of the renewals what
// is stored: it ends nothing that is kept alive, and a lease that it renews is not ended here.
static void two_keepers(void **state)
{
    enum { TTL_S = 6 };
    struct hs_store a;
    struct hs_client ca, cb;
    struct kl_error err;
    if (strcmp(backend, "postgres") != 0 && strcmp(backend, "mysql") != 0)
        return;
    hs_open(&a, backend, NULL);
    hs_client_open(&ca, &a);
    int64_t here = grant(&ca, TTL_S, "k/here"), there = grant(&ca, TTL_S, "k/there");
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = here};
    assert_int_equal(hs_lease(&ca, &k), 0); // from now on in memory alone
    struct hs_store b = {.backend = a.backend};
    if (kl_store_open(a.url, &b.o, &b.s, &err))
        fail_msg("%s", err.msg);
    hs_client_open(&cb, &b);
    for (int64_t since = kl_mono_ms(); kl_mono_ms() - since < (TTL_S + 3) * 1000; usleep(300000)) {
        k = (struct kl_lease_req){.kind = KL_LEASE_KEEPALIVE, .id = here};
        assert_int_equal(hs_lease(&ca, &k), 0);
        k = (struct kl_lease_req){.kind = KL_LEASE_KEEPALIVE, .id = there};
        assert_int_equal(hs_lease(&cb, &k), 0);
        assert_true(k.ttl_s == TTL_S && k.remaining_ms <= TTL_S * 1000);
        assert_true(is_there(&ca, "k/here") && is_there(&ca, "k/there"));
    }
    hs_client_close(&cb);
    kl_store_stop(b.s);
    hs_client_close(&ca);
    hs_close(&a);
}

// By the machine's own clock, and the database's: leases of 4 to 7 s, and a restart among them.
static void real_time(void **state)
{
    enum { LEASES = 4, SHORTEST_S = 4 };
    struct hs_store hs;
    struct hs_client c;
    char key[16];
    int64_t granted[LEASES], ended[LEASES] = {0}, most = 0;
    int left = LEASES;
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    for (int i = 0; i < LEASES; i++) {
        granted[i] = kl_mono_ms();
        snprintf(key, sizeof(key), "r/%d", i);
        grant(&c, i + SHORTEST_S, key);
    }
    for (bool again = true; left; usleep(1000)) {
        for (int i = 0; i < LEASES; i++) {
            snprintf(key, sizeof(key), "r/%d", i);
            if (ended[i] || is_there(&c, key))
                continue;
            ended[i] = kl_mono_ms();
            left--;
            int64_t late = ended[i] - granted[i] - (i + SHORTEST_S) * 1000;
            if (late < 0 || late > LATE_MS)
                fail_msg("a lease of %d s ended %lld ms after its time", i + SHORTEST_S,
                         (long long)late);
            most = late > most ? late : most;
        }
        if (again && left < LEASES)
            reopen(&hs, &c);
        again = again && left == LEASES;
    }
    print_message("at most %lld ms late\n", (long long)most);
    hs_client_close(&c);
    hs_close(&hs);
}

// ---- very many ----

struct granting {
    struct kl_lease_req q;
    struct kl_txn txn;
    struct kl_op op;
    char key[24];
    struct storm *storm;
};

struct storm {
    struct granting *g;
    int n, ttl_s, failed;
    atomic_int left;
};

static void storm_put(struct kl_txn *txn)
{
    struct granting *g = KL_CONTAINER_OF(txn, struct granting, txn);
    g->storm->failed += txn->code != 0;
    kl_txn_fini(txn);
    atomic_fetch_sub(&g->storm->left, 1);
}

static void storm_granted(struct kl_lease_req *q)
{
    struct granting *g = KL_CONTAINER_OF(q, struct granting, q);
    g->op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(g->key), .lease = q->id};
    g->txn = (struct kl_txn){.body = {.then = &g->op, .nthen = 1}, .cb = storm_put};
    assert_int_equal(q->code, 0);
    assert_int_equal(kl_store_submit(q->store, &g->txn, NULL), 0);
}

static void start_storm(struct hs_client *c, void *arg)
{
    struct storm *s = arg;
    atomic_store(&s->left, s->n);
    for (int i = 0; i < s->n; i++) {
        struct granting *g = &s->g[i];
        g->storm = s;
        snprintf(g->key, sizeof(g->key), "s/%06d", i);
        // Deadlines spread over ten seconds.
        g->q = (struct kl_lease_req){
            .kind = KL_LEASE_GRANT, .ttl_s = s->ttl_s + i % 10, .cb = storm_granted};
        assert_int_equal(kl_store_lease(c->hs->s, &g->q, NULL), 0);
    }
}

static int64_t count_leases(struct hs_store *hs)
{
    struct kl_store_status st;
    kl_store_status(hs->s, &st);
    return st.leases;
}

static void wait_leases(struct hs_store *hs, int64_t n)
{
    for (int64_t until = kl_mono_ms() + 120000; count_leases(hs) > n; sched_yield())
        assert_true(kl_mono_ms() < until);
}

// Half of them end; a restart; the rest end when they must, and not a millisecond earlier. What
// others write meanwhile waits for few deletions.
static void lease_storm(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    struct hs_clock clock;
    hs_clock_init(&clock);
    struct storm s = {.n = hs_scale(20000), .ttl_s = 1000};
    // All are asked for at once: at a larger size more than the queue takes by itself.
    struct kl_store_options o = {.clock = &clock.clock, .max_queue = 65536 + (size_t)s.n};
    hs_open(&hs, backend, &o);
    hs_client_open(&c, &hs);
    s.g = calloc((size_t)s.n, sizeof(*s.g));
    hs_run(&c, start_storm, &s);
    for (int64_t until = kl_mono_ms() + 120000; atomic_load(&s.left); usleep(1000))
        assert_true(kl_mono_ms() < until);
    assert_int_equal(s.failed, 0);
    assert_int_equal(count_leases(&hs), s.n);
    assert_int_equal(hs_count(&c, "s/", "s0"), s.n);
    hs_clock_add(&clock, 990000);
    reopen(&hs, &c);
    assert_int_equal(count_leases(&hs), s.n);
    hs_clock_add(&clock, 14500); // 1,004.5 s: those of 1,000 to 1,004 s
    int64_t worst_us = 0, sum_us = 0;
    int writes = 0;
    struct kl_store_status st, st0;
    kl_store_status(hs.s, &st0);
    int64_t most_queued = 0;
    do {
        int64_t start = kl_mono_ns();
        assert_true(hs_put(&c, "other", "v", -1) > 0);
        int64_t us = (kl_mono_ns() - start) / 1000;
        worst_us = us > worst_us ? us : worst_us;
        sum_us += us;
        writes++;
        kl_store_status(hs.s, &st);
        most_queued = st.queued > most_queued ? st.queued : most_queued;
    } while (st.leases > s.n / 2 && writes < 1000000);
    print_message("%d writes while %d leases ended: mean %lld us, worst %lld us, %lld queued\n",
                  writes, s.n / 2, (long long)(sum_us / writes), (long long)worst_us,
                  (long long)most_queued);
    assert_true(most_queued <= 501); // KL_LEASE_BATCH_KEYS and the write: however many have ended
    // In the middle of the next ones.
    hs_clock_add(&clock, 2000);
    wait_leases(&hs, s.n / 2 - s.n / 100);
    reopen(&hs, &c);
    wait_leases(&hs, s.n * 3 / 10);
    for (int i = 0; i < 20; i++) { // 1,006.5 s: the rest stays
        turn(&c);
        assert_int_equal(count_leases(&hs), s.n * 3 / 10);
    }
    assert_int_equal(hs_count(&c, "s/", "s0"), s.n * 3 / 10);
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = s.g[9].q.id, .want_keys = true};
    assert_int_equal(hs_lease(&c, &t), 0);
    assert_int_equal(t.remaining_ms, 1009000 - 1006500);
    assert_int_equal(t.n, 1);
    kl_lease_req_fini(&t);
    hs_clock_add(&clock, 2500);
    wait_leases(&hs, 0);
    assert_int_equal(hs_count(&c, "s/", "s0"), 0);
    hs_client_close(&c);
    hs_close(&hs);
    free(s.g);
}

int main(int argc, char **argv)
{
    kl_log_setup(KL_LOG_ERROR, false);
    backend = argc > 1 ? argv[1] : "memory";
    if (!hs_is_sql(backend) && access("/dev/shm", W_OK) == 0)
        setenv("STORE_DIR", "/dev/shm", 0);
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(wall_jumps),
        CASE(frozen_clocks),
        CASE(jumps_while_down),
        cmocka_unit_test(real_time),
        cmocka_unit_test(two_keepers),
        cmocka_unit_test(lease_storm),
    };
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name(backend, tests, NULL, NULL);
}
