// SPDX-License-Identifier: Apache-2.0
// etcd:// where the remote is not as it should be: killed under writers, compacted past the watch,
// with leases that end there, with transactions of others that share one revision.
#include "harness.h"
#include "base/clock.h"
#include "base/err.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const char *backend;

struct fix {
    struct hs_store hs;
    struct hs_client c;
};

static int setup(void **state)
{
    static struct fix f;
    hs_open(&f.hs, backend, NULL);
    hs_client_open(&f.c, &f.hs);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fix *f = *state;
    hs_client_close(&f->c);
    hs_close(&f->hs);
    return 0;
}

// ---- kill -9 and restart under writers ----

enum { WRITERS = 4, KILLS = 3, KEYS = 400 };

struct writer {
    struct fix *f;
    int id, next;
    atomic_int acked, maybe;
    bool is_acked[KEYS];
    atomic_bool stop;
};

// Creates: one that was stored twice, or evaluated again although it was stored, is a conflict.
static void *write_keys(void *arg)
{
    struct writer *w = arg;
    struct hs_client c;
    hs_client_open(&c, &w->f->hs);
    for (; w->next < KEYS && !atomic_load(&w->stop); w->next++) {
        char key[32], value[32];
        snprintf(key, sizeof(key), "kill/%d/%04d", w->id, w->next);
        snprintf(value, sizeof(value), "%d-%d", w->id, w->next);
        kl_rev rev = hs_put(&c, key, value, 0);
        w->is_acked[w->next] = rev > 0;
        if (rev > 0)
            atomic_fetch_add(&w->acked, 1);
        else if (rev == KL_EMAYBE || rev == KL_EUNAVAILABLE)
            atomic_fetch_add(&w->maybe, 1);
        else
            fail_msg("%s: %lld", key, (long long)rev);
    }
    hs_client_close(&c);
    return NULL;
}

static int sum_acked(struct writer *w)
{
    int n = 0;
    for (int i = 0; i < WRITERS; i++)
        n += atomic_load(&w[i].acked);
    return n;
}

static void remote_killed(void **state)
{
    struct fix *f = *state;
    static struct writer w[WRITERS];
    pthread_t threads[WRITERS];
    struct hs_watch all = {0};
    memset(w, 0, sizeof(w));
    hs_watch_start(&all, &f->c, "kill/", "kill0", 0);
    for (int i = 0; i < WRITERS; i++) {
        w[i].f = f;
        w[i].id = i;
        pthread_create(&threads[i], NULL, write_keys, &w[i]);
    }
    for (int k = 0; k < KILLS; k++) {
        int have = sum_acked(w);
        int64_t until = kl_mono_ms() + 120000;
        while (sum_acked(w) < have + 100 && kl_mono_ms() < until)
            sched_yield();
        assert_true(sum_acked(w) >= have + 100);
        es_kill(&f->hs.remote);
        es_again(&f->hs.remote);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    int there = 0;
    for (int i = 0; i < WRITERS; i++) {
        for (int k = 0; k < w[i].next; k++) {
            char key[32];
            snprintf(key, sizeof(key), "kill/%d/%04d", i, k);
            bool is = hs_count(&f->c, key, NULL) == 1;
            there += is;
            if (w[i].is_acked[k] && !is)
                fail_msg("%s was acknowledged and is lost", key);
        }
    }
    // Every event once, and a key was never created twice.
    hs_watch_wait(&all, (size_t)there);
    assert_int_equal(all.n, there);
    for (size_t i = 1; i < all.n; i++)
        assert_true(all.ev[i].rev > all.ev[i - 1].rev);
    print_message("%d acknowledged, %d there\n", sum_acked(w), there);
    hs_watch_fini(&all);
}

// ---- leases ----

static void leases_end_there(void **state)
{
    struct fix *f = *state;
    enum { N = 150 }; // more than a watch takes at once: all at one revision
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 8};
    struct hs_watch w = {.batch = 7};
    assert_int_equal(hs_lease(&f->c, &g), 0);
    assert_true(g.id != 0 && g.ttl_s >= 2);
    char key[32];
    for (int i = 0; i < N; i++) {
        struct kl_lease_req keep = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
        snprintf(key, sizeof(key), "l/%03d", i);
        assert_true(hs_put_lease(&f->c, key, "v", g.id) > 0);
        if (i % 10 == 0)
            assert_int_equal(hs_lease(&f->c, &keep), 0);
    }
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.id, .want_keys = true};
    assert_int_equal(hs_lease(&f->c, &t), 0);
    assert_int_equal(t.n, N);
    kl_lease_req_fini(&t);
    struct kl_lease_req list = {.kind = KL_LEASE_LIST};
    assert_int_equal(hs_lease(&f->c, &list), 0);
    assert_int_equal(list.n, 1);
    assert_int_equal(list.ids[0], g.id);
    kl_lease_req_fini(&list);
    struct kl_lease_req k = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    assert_int_equal(hs_lease(&f->c, &k), 0);
    assert_true(k.remaining_ms > 0);
    kl_rev before = hs_rev(&f->c);
    hs_watch_start(&w, &f->c, "l/", "l0", before + 1);
    hs_watch_wait(&w, N); // it ends by itself
    assert_int_equal(w.n, N);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "l/%03d", i);
        assert_string_equal(w.ev[i].key, key);
        assert_null(w.ev[i].value);
        assert_int_equal(w.ev[i].rev, w.ev[0].rev);
    }
    assert_int_equal(hs_count(&f->c, "l/", "l0"), 0);
    // From the history: the same again, and cut in the same way.
    struct hs_watch again = {.batch = 7};
    hs_watch_fini(&w);
    hs_client_close(&f->c);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
    hs_watch_start(&again, &f->c, "l/", "l0", before + 1);
    hs_watch_wait(&again, N);
    assert_int_equal(again.n, N);
    hs_watch_fini(&again);
    assert_int_equal(hs_lease(&f->c, &k), KL_ENOTFOUND);
}

// ---- two stores, and one that is left behind ----

static void two_stores(void **state)
{
    struct fix *f = *state;
    struct hs_store b = {.backend = backend};
    struct hs_client bc;
    struct kl_error err;
    snprintf(b.url, sizeof(b.url), "%s", f->hs.url);
    if (kl_store_open(b.url, NULL, &b.s, &err))
        fail_msg("%s", err.msg);
    hs_client_open(&bc, &b);
    // Increments: each sees the other's, or loses its guard.
    kl_rev rev = hs_put(&f->c, "n", "0", 0);
    for (int i = 0; i < 100; i++) {
        kl_rev next = hs_put(i & 1 ? &f->c : &bc, "n", "x", rev);
        assert_true(next > rev);
        assert_int_equal(hs_put(i & 1 ? &bc : &f->c, "n", "y", rev), KL_ECONFLICT);
        rev = next;
    }
    hs_client_close(&bc);
    kl_store_stop(b.s);
}

// ---- the remote becomes another one ----

static void remove_data(struct fix *f)
{
    static const char *const names[] = {"remote", "remote.db", "remote.db-wal", "remote.db-shm"};
    char path[160];
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->hs.dir, names[i]);
        hs_remove(path);
    }
}

// It is below what was seen: nothing is written there until its revisions are higher; then all is
// read anew.
static void another_cluster(void **state)
{
    struct fix *f = *state;
    struct hs_watch w = {0};
    struct hs_store b = {.backend = backend};
    struct hs_client bc;
    struct kl_error err;
    for (int i = 0; i < 20; i++)
        assert_true(hs_put(&f->c, "old", "v", -1) > 0);
    kl_rev seen = hs_rev(&f->c);
    hs_watch_start(&w, &f->c, "x", "z", 0);
    es_kill(&f->hs.remote);
    remove_data(f);
    es_again(&f->hs.remote);
    kl_rev got;
    int64_t until = kl_mono_ms() + 120000;
    // What was on its way when the other one came may be stored there, and is not called unstored.
    while ((got = hs_put(&f->c, "maybe", "v", -1)) != KL_EUNAVAILABLE && kl_mono_ms() < until)
        assert_true(got == KL_EMAYBE);
    assert_int_equal(got, KL_EUNAVAILABLE);
    assert_int_equal(hs_put(&f->c, "early", "v", -1), KL_EUNAVAILABLE);

    snprintf(b.url, sizeof(b.url), "%s", f->hs.url);
    if (kl_store_open(b.url, NULL, &b.s, &err))
        fail_msg("%s", err.msg);
    hs_client_open(&bc, &b);
    assert_int_equal(hs_count(&bc, "early", NULL), 0);
    while (hs_rev(&bc) <= seen + 5)
        assert_true(hs_put(&bc, "new", "v", -1) > 0);
    while ((got = hs_put(&f->c, "late", "v", 0)) < 0 && kl_mono_ms() < until)
        assert_int_equal(got, KL_EUNAVAILABLE);
    assert_true(got > seen);
    assert_int_equal(hs_count(&f->c, "old", NULL), 0);
    assert_int_equal(hs_count(&f->c, "new", NULL), 1);
    hs_watch_wait(&w, 1); // it fails
    assert_int_equal(w.code, KL_ECOMPACTED);
    hs_watch_fini(&w);
    hs_client_close(&bc);
    kl_store_stop(b.s);
}

int main(int argc, char **argv)
{
    backend = argc > 1 ? argv[1] : "etcd";
    if (!es_is_there(backend[0] == 'k'))
        return 77;
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(remote_killed),
        CASE(leases_end_there),
        CASE(two_stores),
        CASE(another_cluster),
    };
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name(backend, tests, NULL, NULL);
}
