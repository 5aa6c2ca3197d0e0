// SPDX-License-Identifier: Apache-2.0
// Streams: every byte in order, errors of either side, breaks, and back-pressure.
#include "base/clock.h"
#include "peer_test.h"
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { A = 0xa1, B = 0xb2, CLUSTER = 77, MIB = 1 << 20 };

struct server {
    atomic_long written, running, failed;
    atomic_bool hold; // does not end
};

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i * 31 + (i >> 12));
}

// "bytes N": so many; "fail N": so many and then an error; "endless".
static int serve(void *arg, uint64_t from, struct kl_str name, struct kl_peer_out *out,
                 struct kl_error *err)
{
    struct server *s = arg;
    unsigned char p[100000];
    struct kl_str rest = name, what;
    int64_t total = INT64_MAX;
    size_t at = 0;
    int rc = 0;
    atomic_fetch_add(&s->running, 1);
    assert_int_equal(from, A);
    kl_str_split(&rest, ' ', &what);
    if (rest.p)
        assert_true(kl_str_to_i64(rest, &total));
    while (!rc && (int64_t)at < total) {
        size_t n = 1 + at % sizeof p;
        if ((int64_t)(at + n) > total)
            n = (size_t)total - at;
        for (size_t i = 0; i < n; i++)
            p[i] = byte_at(at + i);
        rc = kl_peer_out_write(out, p, n);
        at += n;
        atomic_store(&s->written, (long)at);
    }
    if (rc)
        atomic_fetch_add(&s->failed, 1);
    else if (kl_str_eqz(what, "fail"))
        rc = kl_error_set(err, KL_ECORRUPT, "the disk is on fire");
    atomic_fetch_sub(&s->running, 1);
    return rc;
}

struct sink {
    size_t n, stop_at;
    bool wrong;
    struct server *slow_for; // looks how far ahead the writer is
    long ahead;
};

static int take(void *arg, const void *data, size_t n)
{
    struct sink *k = arg;
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++)
        k->wrong = k->wrong || p[i] != byte_at(k->n + i);
    k->n += n;
    if (k->slow_for && k->n < 20 * MIB) {
        struct timespec t = {0, 500 * 1000};
        nanosleep(&t, NULL);
        long ahead = atomic_load(&k->slow_for->written) - (long)k->n;
        k->ahead = ahead > k->ahead ? ahead : k->ahead;
    }
    return k->stop_at && k->n >= k->stop_at ? KL_ENOSPC : 0;
}

static void pair_open(struct node *a, struct node *b, struct server *s, const struct ca *ca)
{
    node_open(a, A, ca, A, CLUSTER);
    node_open(b, B, ca, B, CLUSTER);
    kl_peers_serve(b->peers, serve, s);
    node_join(a, b);
}

static void test_bytes(void **state)
{
    struct node a, b;
    struct server s = {0};
    struct ca ca;
    ca_init(&ca);
    pair_open(&a, &b, &s, &ca);
    static const char *const names[] = {"bytes 0", "bytes 1", "bytes 65536", "bytes 65537",
                                        "bytes 50000000"};
    static const size_t sizes[] = {0, 1, 65536, 65537, 50000000};
    for (int i = 0; i < 5; i++) {
        struct sink k = {0};
        struct kl_error err = {0};
        int rc = kl_peers_fetch(a.peers, B, names[i], take, &k, &err);
        if (rc)
            fail_msg("%s: %s", names[i], err.msg);
        assert_int_equal(k.n, sizes[i]);
        assert_false(k.wrong);
    }
    // A message does not wait behind a stream, and neither disturbs the other.
    assert_int_equal(a.downs + b.downs, 0);
    node_close(&a);
    node_close(&b);
    ca_fini(&ca);
}

static void test_errors(void **state)
{
    struct node a, b;
    struct server s = {0};
    struct kl_error err = {0};
    struct sink k = {0};
    pair_open(&a, &b, &s, NULL);
    assert_int_equal(kl_peers_fetch(a.peers, B, "fail 100000", take, &k, &err), KL_ECORRUPT);
    assert_non_null(strstr(err.msg, "the disk is on fire"));
    assert_int_equal(k.n, 100000);
    // The sink's own error, and the server hears of it.
    k = (struct sink){.stop_at = 3 * MIB};
    assert_int_equal(kl_peers_fetch(a.peers, B, "endless", take, &k, &err), KL_ENOSPC);
    for (int i = 0; i < 12000 && atomic_load(&s.running); i++) {
        struct timespec t = {0, 10 * 1000 * 1000};
        nanosleep(&t, NULL);
    }
    assert_int_equal(atomic_load(&s.running), 0);
    assert_int_equal(atomic_load(&s.failed), 1);
    // Nobody there, nobody serving.
    assert_int_equal(kl_peers_fetch(a.peers, 99, "bytes 1", take, &k, &err), KL_ENOTFOUND);
    kl_peers_serve(b.peers, NULL, NULL);
    assert_int_equal(kl_peers_fetch(a.peers, B, "bytes 1", take, &k, &err), KL_EUNSUPPORTED);
    assert_non_null(strstr(err.msg, "nothing is served here"));
    node_close(&a);
    node_close(&b);
}

static void test_pressure(void **state)
{
    struct node a, b;
    struct server s = {0};
    struct kl_error err = {0};
    struct sink k = {.slow_for = &s};
    pair_open(&a, &b, &s, NULL);
    assert_int_equal(kl_peers_fetch(a.peers, B, "bytes 40000000", take, &k, &err), 0);
    assert_int_equal(k.n, 40000000);
    assert_false(k.wrong);
    // 1 MiB on each side, and what the sockets hold.
    assert_true(k.ahead > 0 && k.ahead < 16 * MIB);
    node_close(&a);
    node_close(&b);
}

struct asking {
    struct node *a;
    struct sink k;
    int rc;
    pthread_t thread;
};

static void *ask(void *arg)
{
    struct asking *q = arg;
    struct kl_error err = {0};
    q->rc = kl_peers_fetch(q->a->peers, B, "endless", take, &q->k, &err);
    return NULL;
}

static void start_asking(struct asking *q, struct node *a, struct server *s)
{
    *q = (struct asking){.a = a};
    assert_int_equal(pthread_create(&q->thread, NULL, ask, q), 0);
    for (int i = 0; i < 12000 && atomic_load(&s->written) < MIB; i++) {
        struct timespec t = {0, 10 * 1000 * 1000};
        nanosleep(&t, NULL);
    }
    assert_true(atomic_load(&s->written) >= MIB);
}

// Broken underway, closed by either side, the server taken away: both ends return.
static void test_ends(void **state)
{
    for (int way = 0; way < 4; way++) {
        struct node a, b;
        struct server s = {0};
        struct asking q;
        node_open(&a, A, NULL, 0, CLUSTER);
        node_open(&b, B, NULL, 0, CLUSTER);
        struct proxy *x = proxy_open(port_of(kl_peers_address(b.peers)));
        kl_peers_serve(b.peers, serve, &s);
        kl_peers_set(a.peers, B, proxy_address(x));
        kl_peers_set(b.peers, A, kl_peers_address(a.peers));
        node_wait(&a, is_up, 1, "is_up");
        start_asking(&q, &a, &s);
        if (way == 0)
            proxy_cut(x);
        else if (way == 1)
            kl_peers_serve(b.peers, NULL, NULL);
        else
            node_close(way == 2 ? &a : &b);
        pthread_join(q.thread, NULL);
        assert_true(way == 2 ? q.rc == KL_ECANCELED : q.rc == KL_EIO);
        assert_false(q.k.wrong);
        if (way == 1)
            assert_int_equal(atomic_load(&s.running), 0);
        if (way != 2)
            node_close(&a);
        if (way != 3)
            node_close(&b);
        assert_int_equal(atomic_load(&s.running), 0);
        proxy_close(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_pressure),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
