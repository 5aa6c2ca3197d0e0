// SPDX-License-Identifier: Apache-2.0
// Leases, on every back end.
#include "suite.h"
#include "base/clock.h"
#include "store/backend.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

void lease_life(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 3600};
    assert_int_equal(hs_lease(c, &g), 0);
    assert_true(g.id > 0);
    assert_int_equal(hs_put_lease(c, "l/none", "v", g.id + 1), KL_ENOTFOUND);
    if (f->hs.other) {
        hs_put(c, "l/x", "", -1); // the other store has seen the grant by now
        hs_put(c, "l/x", "", -1);
    }
    kl_rev rev = hs_put_lease(c, "l/a", "v", g.id);
    assert_true(rev > 0);
    hs_put_lease(c, "l/b", "v", g.id);
    hs_put(c, "l/c", "v", -1);
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.id, .want_keys = true};
    assert_int_equal(hs_lease(c, &t), 0);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.ttl_s, 3600);
    assert_true(t.remaining_ms > 3000000 && t.remaining_ms <= 3600000);
    kl_lease_req_fini(&t);
    hs_put(c, "l/b", "free", -1); // no longer on the lease
    struct kl_lease_req again = {.kind = KL_LEASE_GRANT, .ttl_s = 5, .id = g.id};
    assert_int_equal(hs_lease(c, &again), KL_EEXISTS);
    struct kl_lease_req list = {.kind = KL_LEASE_LIST};
    assert_int_equal(hs_lease(c, &list), 0);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.ids[0], g.id);
    kl_lease_req_fini(&list);
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    assert_int_equal(hs_lease(c, &k), 0);
    struct kl_lease_req v = {.kind = KL_LEASE_REVOKE, .id = g.id};
    assert_int_equal(hs_lease(c, &v), 0);
    assert_null(hs_get(c, "l/a"));
    assert_int_equal(hs_count(c, "l/", "l0"), f->hs.other ? 3 : 2);
    assert_int_equal(hs_lease(c, &v), KL_ENOTFOUND);
    assert_int_equal(hs_lease(c, &k), KL_ENOTFOUND);
    struct kl_lease_req big = {.kind = KL_LEASE_GRANT, .ttl_s = KL_LEASE_MAX_TTL + 1};
    assert_int_equal(hs_lease(c, &big), KL_EINVALID);
}

// What is written now both stores see, when there are two.
static void meet(struct hs_client *c)
{
    assert_true(hs_put(c, "met", "", -1) > 0);
    assert_true(hs_put(c, "met", "", -1) > 0);
}

// An alarm is kept as a lease is, but only who asks for alarms finds it; it has no revision.
void alarms(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    if (hs_is_remote(suite_backend)) {
        assert_false(kl_store_keeps_alarms(f->hs.s));
        return;
    }
    const int64_t id = -7;
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT,
                             .alarm = true,
                             .id = id,
                             .ttl_s = KL_LEASE_MAX_TTL + KL_ALARM_CORRUPT};
    assert_int_equal(kl_store_alarms(f->hs.s), 0);
    meet(c);
    kl_rev rev = hs_rev(c);
    assert_int_equal(hs_lease(c, &g), 0);
    assert_int_equal(hs_rev(c), rev);
    meet(c);
    assert_int_equal(kl_store_alarms(f->hs.s), 1u << KL_ALARM_CORRUPT);
    assert_int_equal(hs_lease(c, &g), KL_EEXISTS);
    struct kl_lease_req list = {.kind = KL_LEASE_LIST};
    assert_int_equal(hs_lease(c, &list), 0);
    assert_int_equal(list.n, 0);
    kl_lease_req_fini(&list);
    const enum kl_lease_kind hidden[] = {KL_LEASE_REVOKE, KL_LEASE_KEEPALIVE, KL_LEASE_TTL};
    for (size_t i = 0; i < KL_COUNT(hidden); i++) {
        struct kl_lease_req q = {.kind = hidden[i], .id = id};
        assert_int_equal(hs_lease(c, &q), KL_ENOTFOUND);
    }
    assert_int_equal(hs_put_lease(c, "l/a", "v", id), KL_ENOTFOUND);
    if (!on("memory") && !on("shared")) {
        hs_client_close(c);
        hs_reopen(&f->hs);
        hs_client_open(c, &f->hs);
        assert_int_equal(kl_store_alarms(f->hs.s), 1u << KL_ALARM_CORRUPT);
    }
    list = (struct kl_lease_req){.kind = KL_LEASE_LIST, .alarm = true};
    assert_int_equal(hs_lease(c, &list), 0);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.ids[0], id);
    assert_int_equal(list.ttls_ms[0], (KL_LEASE_MAX_TTL + KL_ALARM_CORRUPT) * 1000);
    kl_lease_req_fini(&list);
    struct kl_lease_req v = {.kind = KL_LEASE_REVOKE, .alarm = true, .id = id};
    assert_int_equal(hs_lease(c, &v), 0);
    meet(c);
    assert_int_equal(kl_store_alarms(f->hs.s), 0);
    assert_int_equal(hs_lease(c, &v), KL_ENOTFOUND);
}

static void wait_gone(struct hs_client *c, const char *key)
{
    int64_t until = kl_mono_ms() + 120000;
    for (struct kl_kv *kv; (kv = hs_get(c, key)); sched_yield()) {
        kl_kv_unref(kv);
        if (kl_mono_ms() > until)
            fail_msg("%s is still there", key);
    }
}

void lease_expiry(void **state)
{
    if (hs_is_remote(suite_backend))
        skip(); // another program's clock: tests/store/remote.c
    struct hs_clock clock;
    struct hs_store hs;
    struct hs_client c;
    hs_clock_init(&clock);
    struct kl_store_options o = {.clock = &clock.clock};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    struct kl_lease_req a = {.kind = KL_LEASE_GRANT, .ttl_s = 100},
                        b = {.kind = KL_LEASE_GRANT, .ttl_s = 1000};
    assert_int_equal(hs_lease(&c, &a), 0);
    assert_int_equal(hs_lease(&c, &b), 0);
    hs_put(&c, "e/x", "", -1); // through both stores: all have seen the grants
    hs_put(&c, "e/y", "", -1);
    char key[32];
    int n = 1200; // more than one transaction of deletions
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "e/a%d", i);
        assert_true(hs_put_lease(&c, key, "v", a.id) > 0);
    }
    assert_true(hs_put_lease(&c, "e/b", "v", b.id) > 0);
    hs_clock_add(&clock, 99000);
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = a.id};
    assert_int_equal(hs_lease(&c, &k), 0);
    hs_clock_add(&clock, 99000); // 198 s: only the keep-alive saves it
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = a.id};
    assert_int_equal(hs_lease(&c, &t), 0);
    assert_int_equal(t.remaining_ms, 1000);
    assert_int_equal(hs_count(&c, "e/a", "e/b"), n);
    hs_clock_add(&clock, 1001);
    wait_gone(&c, "e/a0");
    snprintf(key, sizeof(key), "e/a%d", n - 1);
    wait_gone(&c, key);
    int64_t until = kl_mono_ms() + 120000;
    while (hs_count(&c, "e/a", "e/b") && kl_mono_ms() < until)
        sched_yield();
    assert_int_equal(hs_count(&c, "e/a", "e/b"), 0);
    assert_int_equal(hs_count(&c, "e/b", NULL), 1);
    if (on("sqlite")) {
        // The deadline is absolute: a restart neither forgets nor extends it. A wall clock that
        // jumped back while we were down cannot lengthen it either.
        hs_client_close(&c);
        hs_clock_add(&clock, 500000);
        hs_reopen(&hs);
        hs_client_open(&c, &hs);
        t.id = b.id;
        assert_int_equal(hs_lease(&c, &t), 0);
        assert_int_equal(t.remaining_ms, 1000000 - 99000 - 99000 - 1001 - 500000);
        hs_client_close(&c);
        atomic_fetch_sub(&clock.wall_ms, 5000000);
        hs_reopen(&hs);
        hs_client_open(&c, &hs);
        assert_int_equal(hs_lease(&c, &t), 0);
        assert_int_equal(t.remaining_ms, 1000000);
        hs_clock_add(&clock, 1000001);
        wait_gone(&c, "e/b");
    }
    hs_client_close(&c);
    hs_close(&hs);
}

// Renewals need no batch each, an expired lease takes none, and a restart gives no less than what
// was promised and no more than the TTL.
void lease_renewal(void **state)
{
    if (hs_is_remote(suite_backend))
        skip();
    struct hs_clock clock;
    struct hs_store hs;
    struct hs_client c;
    struct kl_store_status st;
    hs_clock_init(&clock);
    struct kl_store_options o = {.clock = &clock.clock};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 10};
    assert_int_equal(hs_lease(&c, &g), 0);
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    kl_store_status(hs.s, &st);
    int64_t before = st.batches;
    for (int i = 0; i < 200; i++) { // ten minutes
        hs_clock_add(&clock, 3000);
        assert_int_equal(hs_lease(&c, &k), 0);
        assert_int_equal(k.remaining_ms, 10000);
    }
    kl_store_status(hs.s, &st);
    // Two servers of one database that do not reach each other tell each renewal by the log, from
    // the moment on at which they know of each other.
    bool told = kl_str_ends(kl_str(suite_backend), KL_STR("2"));
    assert_in_range(st.batches - before, 8, told ? 210 : 12);
    // The next batch takes along what would be written soon.
    hs_put(&c, "x", "", -1);
    if (on("sqlite")) {
        hs_client_close(&c);
        hs_clock_add(&clock, 9000); // a second is left of the promise
        hs_reopen(&hs);
        hs_client_open(&c, &hs);
        struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.id};
        assert_int_equal(hs_lease(&c, &t), 0);
        assert_in_range(t.remaining_ms, 1000, 10000);
        hs_clock_add(&clock, t.remaining_ms - 1);
        assert_int_equal(hs_lease(&c, &k), 0);
        assert_int_equal(k.remaining_ms, 10000);
    }
    hs_put_lease(&c, "gone", "v", g.id);
    hs_clock_add(&clock, 10000);
    assert_int_equal(hs_lease(&c, &k), KL_ENOTFOUND);
    assert_string_equal(k.err.msg, "etcdserver: requested lease not found");
    wait_gone(&c, "gone");
    hs_client_close(&c);
    hs_close(&hs);
}

struct stall {
    struct kl_task task;
    atomic_bool in, go, out;
};

static void run_stall(struct kl_task *t)
{
    struct stall *st = KL_CONTAINER_OF(t, struct stall, task);
    atomic_store(&st->in, true);
    while (!atomic_load(&st->go))
        poll(NULL, 0, 1);
    atomic_store(&st->out, true);
}

// A server that stood still believes that a lease has ended, which another one keeps alive. Its
// expiry is refused, as the log has moved on, and must not be tried again on what it learns.
void lease_kept_by_another(void **state)
{
    struct hs_clock clock;
    struct hs_store hs;
    struct hs_client c;
    if (!on("shared"))
        return;
    hs_clock_init(&clock);
    struct kl_store_options o = {.clock = &clock.clock};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 10}, k, t;
    assert_int_equal(hs_lease(&c, &g), 0);
    for (int i = 0; i < 4; i++) // both have seen it then
        assert_true(hs_put(&c, "x", "", -1) > 0);
    assert_true(hs_put_lease(&c, "kept", "v", g.id) > 0);
    struct stall st = {.task.run = run_stall};
    kl_loop_post(kl_core_loop(hs.other), &st.task);
    while (!atomic_load(&st.in))
        poll(NULL, 0, 1);
    hs_clock_add(&clock, 9000);
    k = (struct kl_lease_req){.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    assert_int_equal(hs_lease(&c, &k), 0);
    hs_clock_add(&clock, 2000);
    poll(NULL, 0, 50); // its timer is overdue
    atomic_store(&st.go, true);
    while (!atomic_load(&st.out))
        poll(NULL, 0, 1);
    for (int i = 0; i < 4; i++) // and has caught up
        assert_true(hs_put(&c, "x", "", -1) > 0);
    poll(NULL, 0, 100);
    assert_true(hs_put(&c, "x", "", -1) > 0);
    t = (struct kl_lease_req){.kind = KL_LEASE_TTL, .id = g.id};
    assert_int_equal(hs_lease(&c, &t), 0);
    assert_int_equal(t.remaining_ms, 8000);
    struct kl_kv *kv = hs_get(&c, "kept");
    assert_non_null(kv);
    kl_kv_unref(kv);
    hs_client_close(&c);
    hs_close(&hs);
}
