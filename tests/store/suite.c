// SPDX-License-Identifier: Apache-2.0
// What every back end must do: the same cases on each, named by the first argument.
#include "suite.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *suite_backend;

static int setup(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));
    hs_open(&f->hs, suite_backend, NULL);
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

static void assert_kv(struct hs_client *c, const char *key, const char *value, kl_rev create,
                      kl_rev mod, int64_t version)
{
    struct kl_kv *kv = hs_get(c, key);
    assert_non_null(kv);
    assert_string_equal(kl_kv_key(kv).p, key);
    assert_int_equal(kl_kv_value(kv).n, strlen(value));
    assert_memory_equal(kl_kv_value(kv).p, value, strlen(value));
    assert_int_equal(kv->create_rev, create);
    assert_int_equal(kv->mod_rev, mod);
    assert_int_equal(kv->version, version);
    kl_kv_unref(kv);
}

static void create_update_delete(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    kl_rev base = hs_rev(c);
    assert_int_equal(base, 1);
    assert_int_equal(hs_put(c, "/registry/pods/a/x", "1", 0), base + 1);
    assert_int_equal(hs_put(c, "/registry/pods/a/x", "2", 0), KL_ECONFLICT); // exists
    assert_int_equal(hs_put(c, "/registry/pods/a/x", "2", base), KL_ECONFLICT);
    assert_int_equal(hs_put(c, "/registry/pods/a/x", "2", base + 1), base + 2);
    assert_kv(c, "/registry/pods/a/x", "2", base + 1, base + 2, 2);
    assert_int_equal(hs_del(c, "/registry/pods/a/x", base + 1), KL_ECONFLICT);
    assert_int_equal(hs_del(c, "/registry/pods/a/x", base + 2), base + 3);
    assert_null(hs_get(c, "/registry/pods/a/x"));
    assert_int_equal(hs_del(c, "/registry/pods/a/x", -1),
                     base + 3); // nothing to delete: no revision
    assert_int_equal(hs_put(c, "/registry/pods/a/x", "3", 0), base + 4);
    assert_kv(c, "/registry/pods/a/x", "3", base + 4, base + 4, 1);
    assert_int_equal(hs_rev(c), base + 4); // failed compares took none
}

static void compare_targets(void **state)
{
    struct fix *f = *state;
    kl_rev r1 = hs_put(&f->c, "k", "bb", -1), r2 = hs_put(&f->c, "k", "cc", -1);
    static const struct {
        enum kl_compare_target target;
        const char *key;
        int64_t have; // -1: create revision, -2: mod revision
    } nums[] = {{KL_COMPARE_VERSION, "k", 2}, {KL_COMPARE_CREATE, "k", -1},
                {KL_COMPARE_MOD, "k", -2},    {KL_COMPARE_LEASE, "k", 0},
                {KL_COMPARE_VERSION, "n", 0}, {KL_COMPARE_CREATE, "n", 0},
                {KL_COMPARE_MOD, "n", 0},     {KL_COMPARE_LEASE, "n", 0}};
    for (size_t i = 0; i < KL_COUNT(nums); i++) {
        int64_t have = nums[i].have == -1 ? r1 : nums[i].have == -2 ? r2 : nums[i].have;
        for (int64_t d = -1; d <= 1; d++) {
            bool want[] = {d == 0, have > have + d, have < have + d, d != 0};
            for (int res = KL_COMPARE_EQ; res <= KL_COMPARE_NE; res++) {
                struct kl_compare cmp = {.key = kl_str(nums[i].key),
                                         .target = nums[i].target,
                                         .result = res,
                                         .num = have + d};
                struct kl_txn txn = {.body = {.compares = &cmp, .ncompares = 1}};
                assert_int_equal(hs_txn(&f->c, &txn), 0);
                if (txn.body.succeeded != want[res])
                    fail_msg("key %s target %d result %d: have %lld, compared with %lld: %d",
                             nums[i].key, nums[i].target, res, (long long)have,
                             (long long)(have + d), txn.body.succeeded);
                assert_int_equal(txn.rev, r2);
            }
        }
    }
    static const struct {
        const char *key, *value;
        enum kl_compare_result result;
        bool want;
    } values[] = {{"k", "cc", KL_COMPARE_EQ, true}, {"k", "cd", KL_COMPARE_LT, true},
                  {"k", "c", KL_COMPARE_GT, true},  {"k", "cc", KL_COMPARE_NE, false},
                  {"n", "", KL_COMPARE_EQ, false},  {"n", "x", KL_COMPARE_NE, false}};
    for (size_t i = 0; i < KL_COUNT(values); i++) {
        struct kl_compare cmp = {.key = kl_str(values[i].key),
                                 .target = KL_COMPARE_VALUE,
                                 .result = values[i].result,
                                 .value = kl_str(values[i].value)};
        struct kl_txn txn = {.body = {.compares = &cmp, .ncompares = 1}};
        assert_int_equal(hs_txn(&f->c, &txn), 0);
        assert_int_equal(txn.body.succeeded, values[i].want);
    }
}

// A range compare must hold for each key; else-gets bring back what is there in the same trip.
// What a transaction of n writes takes: etcd itself gives all of them one revision.
static kl_rev revs_of(int n)
{
    return on("etcd") || on("etcd2") ? 1 : n;
}

static void compare_range_and_else(void **state)
{
    struct fix *f = *state;
    hs_put(&f->c, "r/a", "1", -1);
    kl_rev last = hs_put(&f->c, "r/b", "2", -1);
    struct kl_compare cmp = {.key = KL_STR("r/"),
                             .end = KL_STR("r0"),
                             .target = KL_COMPARE_MOD,
                             .result = KL_COMPARE_LT,
                             .num = last};
    struct kl_op then = {.kind = KL_OP_DELETE, .key = KL_STR("r/"), .end = KL_STR("r0")};
    struct kl_op els[] = {{.kind = KL_OP_GET, .key = KL_STR("r/b")},
                          {.kind = KL_OP_GET, .key = KL_STR("r/"), .end = KL_STR("r0"), .limit = 1},
                          {.kind = KL_OP_GET, .key = KL_STR("r/c")}};
    struct kl_txn txn = {
        .body = {
            .compares = &cmp, .ncompares = 1, .then = &then, .nthen = 1, .els = els, .nels = 3}};
    assert_int_equal(hs_txn(&f->c, &txn), 0);
    assert_false(txn.body.succeeded);
    assert_int_equal(els[0].kv->mod_rev, last);
    assert_int_equal(els[1].nkvs, 1);
    assert_int_equal(els[1].count, 2);
    assert_string_equal(els[1].kvs[0]->key, "r/a");
    assert_null(els[2].kv);
    kl_txn_fini(&txn);
    cmp.num = last + 1;
    assert_int_equal(hs_txn(&f->c, &txn), 0);
    assert_true(txn.body.succeeded);
    assert_int_equal(then.count, 2);
    assert_int_equal(txn.rev, last + revs_of(2));
    assert_string_equal(then.kvs[1]->key, "r/b");
    kl_txn_fini(&txn);
    assert_int_equal(hs_count(&f->c, "r/", "r0"), 0);
}

static void txn_of_many(void **state)
{
    struct fix *f = *state;
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    kl_rev old = hs_put(&f->c, "m/old", "o", -1);
    struct kl_op inner_op = {.kind = KL_OP_PUT, .key = KL_STR("m/n"), .value = v};
    struct kl_compare inner_cmp = {.key = KL_STR("m/b"), .target = KL_COMPARE_VERSION, .num = 0};
    struct kl_txn_body inner = {
        .compares = &inner_cmp, .ncompares = 1, .then = &inner_op, .nthen = 1};
    struct kl_op ops[] = {{.kind = KL_OP_PUT, .key = KL_STR("m/a"), .value = v},
                          {.kind = KL_OP_PUT, .key = KL_STR("m/b"), .value = v},
                          {.kind = KL_OP_GET, .key = KL_STR("m/b")},
                          {.kind = KL_OP_DELETE, .key = KL_STR("m/old")},
                          {.kind = KL_OP_TXN, .txn = &inner},
                          {.kind = KL_OP_GET, .key = KL_STR("m/"), .end = KL_STR("m0")}};
    struct kl_txn txn = {.body = {.then = ops, .nthen = KL_COUNT(ops)}};
    assert_int_equal(hs_txn(&f->c, &txn), 0);
    // Nested compares see the state before the transaction, as etcd's do.
    assert_true(inner.succeeded);
    assert_int_equal(txn.rev, old + revs_of(4));
    assert_int_equal(ops[0].kv->mod_rev, txn.rev);
    assert_int_equal(ops[0].kv->create_rev, txn.rev);
    assert_int_equal(ops[2].kv->mod_rev, txn.rev);
    assert_int_equal(ops[5].count, 3);
    kl_txn_fini(&txn);
    assert_kv(&f->c, "m/n", "v", old + revs_of(4), old + revs_of(4), 1);

    struct kl_op dup[] = {{.kind = KL_OP_PUT, .key = KL_STR("d"), .value = v},
                          {.kind = KL_OP_PUT, .key = KL_STR("d"), .value = v}};
    struct kl_txn bad = {.body = {.then = dup, .nthen = 2}};
    assert_int_equal(hs_txn(&f->c, &bad), KL_EBADREQUEST);
    assert_string_equal(bad.err.msg, "etcdserver: duplicate key given in txn request");
    dup[1] = (struct kl_op){.kind = KL_OP_DELETE, .key = KL_STR("a"), .end = KL_STR("e")};
    assert_int_equal(hs_txn(&f->c, &bad), KL_EBADREQUEST);
    dup[1] = (struct kl_op){.kind = KL_OP_PUT};
    assert_int_equal(hs_txn(&f->c, &bad), KL_EBADREQUEST);
    assert_string_equal(bad.err.msg, "etcdserver: key is not provided");
    struct kl_bytes *big = kl_bytes_alloc(KL_TXN_MAX_BYTES + 1);
    dup[0].value = big;
    bad.body.nthen = 1;
    assert_int_equal(hs_txn(&f->c, &bad), KL_ETOOLARGE);
    assert_int_equal(hs_rev(&f->c), old + revs_of(4));
    kl_bytes_unref(big);
    kl_bytes_unref(v);
}

static void odd_keys(void **state)
{
    struct fix *f = *state;
    static const struct kl_str keys[] = {
        KL_STR_INIT("a\0b"), KL_STR_INIT("a\0"), KL_STR_INIT("a"),   KL_STR_INIT("A"),
        KL_STR_INIT("a "),   KL_STR_INIT("12"),  KL_STR_INIT("012"), KL_STR_INIT("\xff\xfe"),
        KL_STR_INIT("\xc3"), KL_STR_INIT("%_'"), KL_STR_INIT("1e3"),
    };
    for (size_t i = 0; i < KL_COUNT(keys); i++)
        assert_true(hs_put_bytes(&f->c, keys[i], keys[i], 0) > 0);
    char longest[2048];
    memset(longest, 'k', sizeof(longest));
    struct kl_str big = {calloc(1, 1500000), 1500000};
    assert_true(hs_put_bytes(&f->c, (struct kl_str){longest, sizeof(longest)}, big, 0) > 0);
    free((void *)big.p);
    if (!on("memory") && !on("shared")) {
        hs_client_close(&f->c);
        hs_reopen(&f->hs);
        hs_client_open(&f->c, &f->hs);
    }
    assert_int_equal(hs_count(&f->c, "\x01", ""), KL_COUNT(keys) + 1);
    for (size_t i = 0; i < KL_COUNT(keys); i++)
        assert_int_equal(hs_put_bytes(&f->c, keys[i], KL_STR("x"), 0), KL_ECONFLICT);
}

static void watch_basic(void **state)
{
    struct fix *f = *state;
    struct hs_watch w = {0}, one = {0}, all = {0}, from = {0};
    kl_rev base = hs_rev(&f->c);
    assert_int_equal(hs_watch_start(&w, &f->c, "/registry/pods/", "/registry/pods0", 0), 0);
    assert_int_equal(hs_watch_start(&one, &f->c, "/registry/pods/a/y", NULL, base + 1), 0);
    assert_int_equal(hs_watch_start(&all, &f->c, "\x01", "", base + 1), 0);
    hs_put(&f->c, "/registry/pods/a/x", "1", 0);
    hs_put(&f->c, "/registry/nodes/n", "n", 0);
    hs_put(&f->c, "/registry/pods/a/x", "2", -1);
    hs_put(&f->c, "/registry/pods/a/y", "y", -1);
    hs_del(&f->c, "/registry/pods/a/x", -1);
    hs_watch_wait(&w, 4);
    hs_watch_wait(&one, 1);
    hs_watch_wait(&all, 5);
    hs_watch_wait_rev(&w, base + 5);
    hs_watch_wait_rev(&one, base + 5);
    assert_int_equal(w.n, 4);
    assert_int_equal(one.n, 1);
    assert_int_equal(w.ev[0].rev, base + 1);
    assert_null(w.ev[0].prev);
    assert_int_equal(w.ev[0].version, 1);
    assert_string_equal(w.ev[1].value, "2");
    assert_string_equal(w.ev[1].prev, "1");
    assert_null(w.ev[3].value);
    assert_string_equal(w.ev[3].prev, "2");
    assert_int_equal(w.ev[3].rev, base + 5);
    assert_string_equal(one.ev[0].key, "/registry/pods/a/y");
    // From the middle: the same events again.
    assert_int_equal(hs_watch_start(&from, &f->c, "/registry/pods/", "/registry/pods0", base + 3),
                     0);
    hs_watch_wait(&from, 3);
    hs_watch_wait_rev(&from, base + 5);
    assert_int_equal(from.n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(from.ev[i].rev, base + 3 + i);
    hs_watch_fini(&w);
    hs_watch_fini(&one);
    hs_watch_fini(&all);
    hs_watch_fini(&from);
}

// etcd #15271, #20221: no event below the asked revision, whatever comes before it.
static void watch_future(void **state)
{
    struct fix *f = *state;
    struct hs_watch w = {0};
    kl_rev base = hs_rev(&f->c);
    assert_int_equal(hs_watch_start(&w, &f->c, "f/", "f0", base + 50), 0);
    for (int i = 1; i <= 60; i++)
        assert_int_equal(hs_put(&f->c, "f/k", "v", -1), base + i);
    hs_watch_wait(&w, 11);
    hs_watch_wait_rev(&w, base + 60);
    assert_int_equal(w.n, 11);
    assert_int_equal(w.ev[0].rev, base + 50);
    hs_watch_fini(&w);
}

// A transaction's events are not split by a small page; and come whole from history too.
static void watch_txn_whole(void **state)
{
    struct fix *f = *state;
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct kl_op ops[5];
    char keys[5][16];
    struct hs_watch w = {.batch = 7}, from = {.batch = 7};
    kl_rev base = hs_rev(&f->c);
    hs_watch_start(&w, &f->c, "t/", "t0", 0);
    for (int n = 0; n < 20; n++) {
        for (int i = 0; i < 5; i++) {
            snprintf(keys[i], sizeof(keys[i]), "t/%d", i);
            ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(keys[i]), .value = v};
        }
        struct kl_txn txn = {.body = {.then = ops, .nthen = 5}};
        assert_int_equal(hs_txn(&f->c, &txn), 0);
        assert_int_equal(txn.rev, base + revs_of(5) * (n + 1));
        kl_txn_fini(&txn);
    }
    kl_bytes_unref(v);
    hs_watch_wait(&w, 100);
    // etcd: a watch from a transaction's own revision sees all of it.
    hs_watch_start(&from, &f->c, "t/", "t0", base + revs_of(5) * 2);
    hs_watch_wait(&from, 95);
    hs_watch_wait_rev(&from, base + revs_of(5) * 20);
    assert_int_equal(from.n, 95);
    for (int i = 0; i < 95; i++) {
        assert_int_equal(from.ev[i].rev, base + revs_of(5) * (2 + i / 5));
        assert_string_equal(from.ev[i].key, w.ev[i + 5].key);
    }
    hs_watch_fini(&w);
    hs_watch_fini(&from);
}

// ---- many writers: revisions without gaps, in order, every event once ----

enum { WRITERS = 4, KEYS = 20 };

struct writer {
    struct fix *f;
    int id, ops;
    uint64_t seed;
    kl_rev *revs;
    int n;
    pthread_t thread;
};

static void *run_writer(void *arg)
{
    struct writer *w = arg;
    struct hs_client c;
    hs_client_open(&c, &w->f->hs);
    for (int i = 0; i < w->ops; i++) {
        char key[64], value[32];
        uint64_t r = hs_rand(&w->seed);
        snprintf(key, sizeof(key), "/registry/things/ns%d/k%d", (int)(r % 3), (int)(r >> 8) % KEYS);
        snprintf(value, sizeof(value), "%d-%d", w->id, i);
        kl_rev rev;
        if ((r >> 32) % 10 < 3)
            rev = hs_put(&c, key, value, 0); // often fails
        else if ((r >> 32) % 10 < 5)
            rev = hs_del(&c, key, -1);
        else
            rev = hs_put(&c, key, value, -1);
        if (rev != KL_ECONFLICT && rev < 0)
            fail_msg("writer %d op %d: %lld", w->id, i, (long long)rev);
        w->revs[w->n++] = rev;
    }
    hs_client_close(&c);
    return NULL;
}

static int cmp_rev(const void *a, const void *b)
{
    kl_rev x = *(const kl_rev *)a, y = *(const kl_rev *)b;
    return (x > y) - (x < y);
}

static void many_writers(void **state)
{
    struct fix *f = *state;
    struct writer w[WRITERS];
    struct hs_watch all = {0}, ns = {.batch = 3}, resumed = {.batch = 5};
    kl_rev base = hs_rev(&f->c);
    int ops = hs_scale(400);
    uint64_t seed = hs_seed();
    hs_watch_start(&all, &f->c, "/registry/things/", "/registry/things0", base + 1);
    hs_watch_start(&ns, &f->c, "/registry/things/ns1/", "/registry/things/ns10", base + 1);
    hs_watch_start(&resumed, &f->c, "/registry/", "/registry0", base + 1);
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.f = f, .id = i, .ops = ops, .seed = seed + (uint64_t)i * 77 + 1};
        w[i].revs = calloc((size_t)ops, sizeof(kl_rev));
        pthread_create(&w[i].thread, NULL, run_writer, &w[i]);
    }
    // Disconnects and resumes from where it was, again and again.
    uint64_t r = seed;
    for (int i = 0; i < 100; i++) {
        hs_watch_stop(&resumed);
        kl_rev next = resumed.n ? resumed.ev[resumed.n - 1].rev : base;
        assert_int_equal(hs_watch_start(&resumed, &f->c, "/registry/", "/registry0", next + 1), 0);
        if (hs_rand(&r) % 2)
            hs_watch_wait_rev(&resumed, next);
    }
    size_t n = 0;
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    kl_rev head = hs_rev(&f->c);
    kl_rev *revs = calloc((size_t)ops * WRITERS, sizeof(kl_rev));
    for (int i = 0; i < WRITERS; i++) {
        for (int k = 0; k < w[i].n; k++) {
            if (w[i].revs[k] > 0)
                revs[n++] = w[i].revs[k];
        }
        free(w[i].revs);
    }
    qsort(revs, n, sizeof(*revs), cmp_rev);
    // A deletion of nothing reports the revision there was, so some appear twice; none is missing.
    kl_rev want = base;
    for (size_t i = 0; i < n; i++) {
        if (revs[i] > want)
            assert_int_equal(revs[i], ++want);
    }
    assert_int_equal(want, head);
    free(revs);
    hs_watch_wait_rev(&all, head);
    hs_watch_wait_rev(&ns, head);
    hs_watch_wait_rev(&resumed, head);
    assert_int_equal(all.n, head - base);
    assert_int_equal(resumed.n, all.n);
    size_t in_ns = 0;
    for (size_t i = 0; i < all.n; i++) {
        assert_int_equal(all.ev[i].rev, base + 1 + (kl_rev)i);
        assert_int_equal(resumed.ev[i].rev, all.ev[i].rev);
        if (strncmp(all.ev[i].key, "/registry/things/ns1/", 21) == 0) {
            assert_true(in_ns < ns.n);
            assert_int_equal(ns.ev[in_ns++].rev, all.ev[i].rev);
        }
    }
    assert_int_equal(in_ns, ns.n);
    assert_false(all.early || ns.early || resumed.early);
    hs_watch_fini(&all);
    hs_watch_fini(&ns);
    hs_watch_fini(&resumed);
}

// ---- compaction ----

static void compact_rules(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    kl_rev base = hs_rev(c);
    struct hs_watch w = {0};
    hs_put(c, "c/a", "1", -1); // +1
    hs_put(c, "c/a", "2", -1); // +2
    hs_put(c, "c/b", "1", -1); // +3
    hs_del(c, "c/b", -1);      // +4
    hs_put(c, "c/a", "3", -1); // +5
    assert_int_equal(hs_compact(c, base + 9), KL_EFUTUREREV);
    assert_int_equal(hs_compact(c, base + 4), 0);
    assert_int_equal(hs_compact(c, base + 4), KL_ECOMPACTED);
    assert_int_equal(hs_compact(c, base + 2), KL_ECOMPACTED);
    assert_int_equal(hs_watch_start(&w, c, "c/", "c0", base + 3), KL_ECOMPACTED);
    // etcd #19179: the deletion at exactly the compacted revision is still seen.
    assert_int_equal(hs_watch_start(&w, c, "c/", "c0", base + 4), 0);
    hs_watch_wait(&w, 2);
    assert_int_equal(w.ev[0].rev, base + 4);
    assert_null(w.ev[0].value);
    assert_int_equal(w.ev[1].rev, base + 5);
    assert_string_equal(w.ev[1].prev, "2"); // the version that the live one replaced is kept
    hs_watch_fini(&w);
    struct kl_range_at q = {.key = KL_STR("c/"), .end = KL_STR("c0"), .rev = base + 3};
    assert_int_equal(hs_range_at(c, &q), KL_ECOMPACTED);
    q = (struct kl_range_at){.key = KL_STR("c/"), .end = KL_STR("c0"), .rev = base + 4};
    assert_int_equal(hs_range_at(c, &q), 0);
    assert_int_equal(q.nkvs, 1);
    assert_string_equal(kl_kv_value(q.kvs[0]).p ? "there" : "", "there");
    assert_memory_equal(kl_kv_value(q.kvs[0]).p, "2", 1);
    kl_range_at_fini(&q);
    // The next compaction takes what the last one had to keep.
    hs_put(c, "c/z", "1", -1);
    assert_int_equal(hs_compact(c, base + 6), 0);
    assert_kv(c, "c/a", "3", base + 1, base + 5, 3);
    struct kl_store_status st;
    kl_store_status(f->hs.s, &st);
    assert_int_equal(st.compact_rev, base + 6);
    assert_int_equal(st.physical_rev, base + 6);
}

// A watch that is behind while compaction goes on gets each event or is told; never a hole.
static void compact_races(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    uint64_t r = hs_seed();
    int rounds = hs_scale(hs_is_sql(f->hs.backend) ? 100 : 500);
    for (int i = 0; i < rounds; i++) {
        struct hs_watch w = {.batch = 1 + (int)(hs_rand(&r) % 5)};
        kl_rev base = hs_rev(c);
        for (int k = 0; k < 12; k++) {
            if (hs_rand(&r) % 3)
                hs_put(c, "cr/k", "v", -1);
            else
                hs_del(c, "cr/k", -1);
        }
        kl_rev head = hs_rev(c);
        if (head == base)
            continue;
        kl_rev from = base + 1 + (kl_rev)(hs_rand(&r) % (uint64_t)(head - base));
        kl_rev at = base + 1 + (kl_rev)(hs_rand(&r) % (uint64_t)(head - base));
        bool before = hs_rand(&r) % 2;
        int code = before ? hs_watch_start(&w, c, "cr/", "cr0", from) : 0;
        assert_int_equal(hs_compact(c, at), 0);
        if (!before)
            code = hs_watch_start(&w, c, "cr/", "cr0", from);
        if (code || w.code) {
            assert_int_equal(code ? code : w.code, KL_ECOMPACTED);
            assert_true(from < at);
        } else {
            hs_watch_wait_rev(&w, head);
            assert_int_equal(w.n, head - from + 1);
            for (size_t k = 0; k < w.n; k++)
                assert_int_equal(w.ev[k].rev, from + (kl_rev)k);
        }
        if (!code)
            hs_watch_fini(&w);
    }
}

// ---- transactions that are refused ----

// etcd's checkIntervals: a key is put once, and not deleted by the transaction that puts it; the
// two branches of a nested one exclude each other.
static void duplicate_keys(void **state)
{
    struct fix *f = *state;
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct kl_op put_a = {.kind = KL_OP_PUT, .key = KL_STR("a"), .value = v};
    struct kl_op put_b = {.kind = KL_OP_PUT, .key = KL_STR("b"), .value = v};
    struct kl_op del_a = {.kind = KL_OP_DELETE, .key = KL_STR("a")};
    struct kl_op del_ac = {.kind = KL_OP_DELETE, .key = KL_STR("a"), .end = KL_STR("c")};
    struct kl_op del_all = {.kind = KL_OP_DELETE, .key = KL_STR("a"), .end = KL_RANGE_TO_LAST};
    struct kl_txn_body both = {.then = &put_a, .nthen = 1, .els = &put_a, .nels = 1};
    struct kl_txn_body one = {.then = &put_a, .nthen = 1}, other = {.els = &put_a, .nels = 1};
    struct kl_txn_body dels = {.els = &del_ac, .nels = 1};
#define NESTED(b)                                                                                  \
    {                                                                                              \
        .kind = KL_OP_TXN, .txn = (b)                                                              \
    }
    struct kl_op t_both = NESTED(&both), t_one = NESTED(&one), t_other = NESTED(&other),
                 t_dels = NESTED(&dels);
#undef NESTED
    const struct {
        struct kl_op ops[3];
        int n;
        bool refused;
    } cases[] = {
        {{put_a, put_b}, 2, false},  {{put_a, put_b, put_a}, 3, true},
        {{put_a, del_a}, 2, true},   {{del_ac, put_b}, 2, true},
        {{del_a, put_b}, 2, false},  {{del_all, put_b}, 2, false}, // as etcd has it
        {{t_both}, 1, false},        {{t_both, put_a}, 2, true},
        {{t_one, t_other}, 2, true}, {{t_other, t_one}, 2, true},
        {{t_one, put_b}, 2, false},  {{t_one, del_ac}, 2, true},
        {{t_dels, put_b}, 2, true},  {{t_dels, t_one}, 2, true},
        {{t_one, t_dels}, 2, false}, // a later sibling's deletions are not looked at
    };
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        for (int side = 0; side < 2; side++) {
            struct kl_op ops[3];
            memcpy(ops, cases[i].ops, sizeof(ops));
            struct kl_txn txn = {.body = {.then = ops, .nthen = (size_t)cases[i].n}};
            if (side)
                txn.body = (struct kl_txn_body){.els = ops, .nels = (size_t)cases[i].n};
            int code = hs_txn(&f->c, &txn);
            if (code != (cases[i].refused ? KL_EBADREQUEST : 0))
                fail_msg("case %zu: %d %s", i, code, txn.err.msg);
            if (code)
                assert_string_equal(txn.err.msg, "etcdserver: duplicate key given in txn request");
            kl_txn_fini(&txn);
        }
    }
    kl_bytes_unref(v);
}

// ---- old revisions against a model ----

enum { MODEL_KEYS = 12, MODEL_REVS = 400 };

struct model {
    int value[MODEL_KEYS]; // -1: absent
    kl_rev mod[MODEL_KEYS], create[MODEL_KEYS];
    int64_t version[MODEL_KEYS];
};

static void model_key(char *buf, size_t n, int k)
{
    snprintf(buf, n, "/registry/m/%c/k%02d", k % 2 ? 'a' : 'b', k);
}

static void check_kvs(const struct model *m, struct kl_kv *const *kvs, size_t n, kl_rev rev)
{
    size_t at = 0;
    for (int ns = 1; ns >= 0; ns--) { // a before b
        for (int k = ns; k < MODEL_KEYS; k += 2) {
            char key[64], value[32];
            if (m->value[k] < 0)
                continue;
            model_key(key, sizeof(key), k);
            snprintf(value, sizeof(value), "%d", m->value[k]);
            if (at >= n)
                fail_msg("rev %lld: %s is missing", (long long)rev, key);
            assert_string_equal(kvs[at]->key, key);
            assert_int_equal(kvs[at]->mod_rev, m->mod[k]);
            assert_int_equal(kvs[at]->create_rev, m->create[k]);
            assert_int_equal(kvs[at]->version, m->version[k]);
            assert_int_equal(kl_kv_value(kvs[at]).n, strlen(value));
            assert_memory_equal(kl_kv_value(kvs[at]).p, value, strlen(value));
            at++;
        }
    }
    assert_int_equal(at, n);
}

static void model_step(struct hs_client *c, struct model *m, uint64_t *r, int i)
{
    int k = (int)(hs_rand(r) % MODEL_KEYS);
    char key[64], value[32];
    model_key(key, sizeof(key), k);
    snprintf(value, sizeof(value), "%d", i);
    uint64_t what = hs_rand(r) % 10;
    kl_rev rev, cond = what % 2 ? m->mod[k] * (m->value[k] >= 0) : -1;
    if (what < 3) {
        rev = hs_del(c, key, cond);
        assert_true(rev > 0);
        m->value[k] = -1;
        return;
    }
    rev = hs_put(c, key, value, what == 9 ? 1 << 30 : cond);
    if (what == 9) {
        assert_int_equal(rev, KL_ECONFLICT);
        return;
    }
    assert_true(rev > 0);
    m->version[k] = m->value[k] < 0 ? 1 : m->version[k] + 1;
    m->create[k] = m->value[k] < 0 ? rev : m->create[k];
    m->mod[k] = rev;
    m->value[k] = i;
}

struct view_at {
    kl_rev rev;
    int code;
    const struct model *m;
};

static void check_held(struct hs_client *c, void *arg)
{
    struct view_at *a = arg;
    struct kl_view *v;
    a->code = kl_store_view_at(c->reader, a->rev, &v, NULL);
    if (a->code)
        return;
    struct kl_kv *kvs[MODEL_KEYS];
    struct kl_iter it;
    size_t n = 0;
    kl_iter_init(&it, v, KL_STR("/registry/m/"), KL_STR("/registry/m0"));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));)
        kvs[n++] = kv;
    assert_int_equal(n, kl_view_count(v, KL_STR("/registry/m/"), KL_STR("/registry/m0")));
    check_kvs(a->m, kvs, n, a->rev);
    kl_view_unref(v);
}

static void hold(struct hs_client *c, void *arg)
{
    kl_store_hold_view(c->hs->s, kl_reader_view(c->reader));
}

static void old_revisions(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    uint64_t r = hs_seed();
    kl_rev base = hs_rev(c), last_held = 0;
    struct model *at = calloc(MODEL_REVS + 8, sizeof(*at)), m;
    memset(&m, 0, sizeof(m));
    for (int k = 0; k < MODEL_KEYS; k++)
        m.value[k] = -1;
    at[0] = m;
    for (int i = 0; hs_rev(c) - base < MODEL_REVS; i++) {
        model_step(c, &m, &r, i);
        at[hs_rev(c) - base] = m;
        if (i % 50 == 49) {
            hs_run(c, hold, NULL);
            last_held = hs_rev(c);
        }
    }
    kl_rev compacted = base + MODEL_REVS / 3;
    assert_int_equal(hs_compact(c, compacted), 0);
    struct view_at held = {.rev = last_held, .m = &at[last_held - base]};
    hs_run(c, check_held, &held);
    assert_int_equal(held.code, 0);
    held.rev = hs_rev(c) + 1;
    hs_run(c, check_held, &held);
    assert_int_equal(held.code, KL_EFUTUREREV);
    held.rev = compacted - 1;
    hs_run(c, check_held, &held);
    assert_int_equal(held.code, KL_ECOMPACTED);
    for (int pass = 0; pass < 2; pass++) {
        for (kl_rev rev = base; rev <= base + MODEL_REVS; rev += 7) {
            struct kl_range_at q = {.key = KL_STR("/registry/m/"),
                                    .end = KL_STR("/registry/m0"),
                                    .rev = rev,
                                    .want_count = true};
            int code = hs_range_at(c, &q);
            assert_int_equal(code, rev < compacted ? KL_ECOMPACTED : 0);
            if (!code) {
                check_kvs(&at[rev - base], q.kvs, q.nkvs, rev);
                struct kl_range_at p = {.key = KL_STR("/registry/m/"),
                                        .end = KL_STR("/registry/m0"),
                                        .rev = rev,
                                        .limit = 3,
                                        .want_count = true};
                assert_int_equal(hs_range_at(c, &p), 0);
                assert_int_equal(p.count, q.nkvs);
                assert_int_equal(p.nkvs, q.nkvs < 3 ? q.nkvs : 3);
                assert_int_equal(p.more, q.nkvs > 3);
                kl_range_at_fini(&p);
            }
            kl_range_at_fini(&q);
        }
        // The second time after a restart, where the ring is empty and all is read from the disk.
        if (!on("sqlite"))
            break;
        hs_client_close(c);
        hs_reopen(&f->hs);
        hs_client_open(c, &f->hs);
        assert_int_equal(hs_rev(c), base + MODEL_REVS);
        struct hs_watch w = {0};
        hs_watch_start(&w, c, "/registry/m/", "/registry/m0", compacted);
        hs_watch_wait_rev(&w, base + MODEL_REVS);
        assert_int_equal(w.n, base + MODEL_REVS - compacted + 1);
        for (size_t i = 0; i < w.n; i++)
            assert_int_equal(w.ev[i].rev, compacted + (kl_rev)i);
        hs_watch_fini(&w);
    }
    free(at);
}

// The log is set back and goes on far ahead: what was lost is gone, nobody misses that, and no
// revision is used again.
static void set_back(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    if (!on("shared"))
        return; // the others' own tests set theirs back
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 100, .id = 5}, lost = g;
    assert_int_equal(hs_lease(c, &g), 0); // a batch
    hs_put_lease(c, "kept", "1", 5);
    hs_put(c, "changed", "1", -1);
    lost.id = 6;
    assert_int_equal(hs_lease(c, &lost), 0);
    hs_put(c, "changed", "2", -1);
    kl_rev before = hs_put(c, "lost", "1", -1), after = before + 1000000;
    hs_run(c, hold, NULL);
    struct hs_watch synced = {0}, slow = {0}, next = {0};
    hs_watch_start(&synced, c, "a", "", 0);
    hs_watch_start(&slow, c, "changed", NULL, 1);
    hs_watch_wait(&slow, 2);
    hs_watch_pause(&slow);
    hs_shared_set_back(f->hs.url + strlen("shared://"), 3, after);
    assert_int_equal(hs_rev(c), after);
    assert_null(hs_get(c, "lost"));
    struct kl_kv *kv = hs_get(c, "changed");
    assert_true(kl_str_eqz(kl_kv_value(kv), "1"));
    kl_kv_unref(kv);
    hs_watch_wait(&synced, 1); // fails
    assert_int_equal(synced.code, KL_ECOMPACTED);
    struct view_at held = {.rev = before};
    hs_run(c, check_held, &held);
    assert_int_equal(held.code, KL_ECOMPACTED);
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = 5, .want_keys = true};
    assert_int_equal(hs_lease(c, &t), 0);
    assert_int_equal(t.n, 1);
    kl_lease_req_fini(&t);
    t.id = 6;
    assert_int_equal(hs_lease(c, &t), KL_ENOTFOUND);
    hs_watch_start(&next, c, "changed", NULL, 0);
    assert_int_equal(hs_put(c, "changed", "3", -1), after + 1);
    assert_int_equal(hs_put(c, "changed", "4", after + 1), after + 2);
    hs_watch_go(&slow);
    hs_watch_wait(&slow, 3);
    assert_int_equal(slow.code, KL_ECOMPACTED);
    hs_watch_wait(&next, 2);
    assert_int_equal(next.ev[0].rev, after + 1);
    assert_string_equal(next.ev[0].prev, "1");
    struct kl_lease_req v = {.kind = KL_LEASE_REVOKE, .id = 5};
    assert_int_equal(hs_lease(c, &v), 0);
    assert_null(hs_get(c, "kept"));
    hs_watch_fini(&synced);
    hs_watch_fini(&slow);
    hs_watch_fini(&next);
}

// ---- slow watchers and a small ring ----

// Old states of big values come in pages that memory can hold.
static void old_big_values(void **state)
{
    struct fix *f = *state;
    struct hs_client *c = &f->c;
    enum { N = 12, SIZE = 1000000 };
    char *big = calloc(1, SIZE), key[16];
    kl_rev rev = 0;
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "big/%02d", i);
        rev = hs_put_bytes(c, kl_str(key), (struct kl_str){big, SIZE}, 0);
        assert_true(rev > 0);
    }
    free(big);
    hs_put(c, "big/00", "new", -1);
    struct kl_str from = KL_STR("big/");
    int pages = 0, n = 0;
    for (bool more = true; more; pages++) {
        struct kl_range_at q = {.key = from, .end = KL_STR("big0"), .rev = rev, .want_count = true};
        assert_int_equal(hs_range_at(c, &q), 0);
        assert_int_equal(q.count, N - n);
        assert_true(q.nkvs > 0);
        for (size_t i = 0; i < q.nkvs; i++) {
            snprintf(key, sizeof(key), "big/%02d", n++);
            assert_true(kl_str_eqz(kl_kv_key(q.kvs[i]), key));
            assert_int_equal(kl_kv_value(q.kvs[i]).n, SIZE);
        }
        from = (struct kl_str){key, strlen(key) + 1}; // with its NUL
        more = q.more;
        kl_range_at_fini(&q);
    }
    assert_int_equal(n, N);
    if (on("sqlite")) // elsewhere the values are in memory already
        assert_int_equal(pages, 3);
}

static void slow_watcher(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    struct kl_store_options o = {.ring_bytes = 64 << 10};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    struct hs_watch slow = {.batch = 3}, fast = {0};
    kl_rev base = hs_rev(&c);
    hs_watch_start(&slow, &c, "s/", "s0", 0);
    hs_watch_start(&fast, &c, "s/", "s0", 0);
    hs_watch_pause(&slow);
    struct kl_str value = {calloc(1, 1000), 1000};
    int n = hs_scale(2000);
    for (int i = 0; i < n; i++)
        assert_int_equal(hs_put_bytes(&c, KL_STR("s/k"), value, -1), base + 1 + i);
    free((void *)value.p);
    hs_watch_wait(&fast, (size_t)n);
    struct kl_store_status st;
    kl_store_status(hs.s, &st);
    assert_true(st.ring_bytes < 1 << 20); // far from the 2 MB that were written
    assert_int_equal(slow.n < 64, 1);
    hs_watch_go(&slow);
    hs_watch_wait_rev(&slow, base + n);
    assert_int_equal(slow.n, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(slow.ev[i].rev, base + 1 + i);
    // Compacted away while it was not looking: told so, as etcd does.
    hs_watch_pause(&slow);
    for (int i = 0; i < 600; i++)
        hs_put_bytes(&c, KL_STR("s/k"), KL_STR("small value that fills the ring with many events"),
                     -1);
    assert_int_equal(hs_compact(&c, hs_rev(&c)), 0);
    hs_watch_go(&slow);
    hs_watch_wait(&slow, (size_t)n + 600); // all of them, or the failure
    assert_true(slow.code == KL_ECOMPACTED || slow.n == (size_t)n + 600);
    hs_watch_fini(&slow);
    hs_watch_fini(&fast);
    hs_client_close(&c);
    hs_close(&hs);
}

static void restart_keeps(void **state)
{
    struct fix *f = *state;
    if (!on("sqlite"))
        return; // the others end with their process, by what they are
    kl_rev rev = 0;
    for (int i = 0; i < 300; i++) {
        char key[32];
        snprintf(key, sizeof(key), "k/%03d", i);
        rev = hs_put(&f->c, key, key, -1);
        if (i % 3 == 0)
            rev = hs_del(&f->c, key, -1);
    }
    struct kl_store_status before, after;
    kl_store_status(f->hs.s, &before);
    hs_client_close(&f->c);
    hs_reopen(&f->hs);
    hs_client_open(&f->c, &f->hs);
    kl_store_status(f->hs.s, &after);
    assert_int_equal(after.rev, rev);
    assert_int_equal(after.keys, 200);
    assert_int_equal(after.cluster_id, before.cluster_id);
    assert_int_equal(after.member_id, before.member_id);
    assert_int_equal(hs_count(&f->c, "k/", "k0"), 200);
    assert_kv(&f->c, "k/299", "k/299", rev, rev, 1);
    assert_int_equal(hs_put(&f->c, "k/299", "n", rev), rev + 1);
}

// Every minute: what is both older than five and further back than compact_keep_revs.
static void auto_compact(void **state)
{
    struct hs_clock clock;
    struct hs_store hs;
    struct hs_client c;
    struct kl_store_status st;
    hs_clock_init(&clock);
    struct kl_store_options o = {
        .clock = &clock.clock, .auto_compact = true, .compact_keep_revs = 50};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    kl_rev old = 0;
    for (int i = 0; i < 100; i++)
        old = hs_put(&c, "auto", "v", -1);
    // A minute at a time, as the policy samples the head; nothing may go before five have passed.
    int64_t until = kl_mono_ms() + 120000;
    for (int minute = 0; minute < 5; minute++) {
        int64_t t = kl_mono_ms() + 40;
        while (kl_mono_ms() < t)
            sched_yield();
        kl_store_status(hs.s, &st);
        assert_int_equal(st.compact_rev, 0);
        hs_clock_add(&clock, 60000);
    }
    do {
        int64_t t = kl_mono_ms() + 40;
        while (kl_mono_ms() < t)
            sched_yield();
        hs_clock_add(&clock, 60000);
        kl_store_status(hs.s, &st);
    } while (st.compact_rev != old - 50 && kl_mono_ms() < until);
    assert_int_equal(st.compact_rev, old - 50);
    while (st.physical_rev != old - 50 && kl_mono_ms() < until)
        kl_store_status(hs.s, &st);
    assert_int_equal(st.physical_rev, old - 50);
    hs_client_close(&c);
    hs_close(&hs);
}

// Freed pages go back to the disk in steps, and the WAL stays small.
static void space_back(void **state)
{
    struct fix *f = *state;
    struct kl_store_status st;
    if (!on("sqlite"))
        return;
    struct kl_str value = {calloc(1, 64 << 10), 64 << 10};
    for (int i = 0; i < 500; i++) {
        assert_true(hs_put_bytes(&f->c, KL_STR("space"), value, -1) > 0);
        kl_store_status(f->hs.s, &st);
        assert_true(st.wal_bytes <= 64 << 20);
    }
    free((void *)value.p);
    kl_rev rev = hs_del(&f->c, "space", -1);
    assert_int_equal(hs_compact(&f->c, rev), 0);
    int64_t until = kl_mono_ms() + 120000;
    do
        kl_store_status(f->hs.s, &st);
    while (st.db_bytes > 4 << 20 && kl_mono_ms() < until);
    assert_true(st.db_bytes <= 4 << 20);
    assert_true(st.db_used_bytes < 1 << 20);
}

// What hangs on a transaction's operation hangs on the new version, once; or is given back.
static atomic_int freed;

static void free_attached(void *p)
{
    atomic_fetch_add(&freed, 1);
    free(p);
}

static const struct kl_kv_hooks hooks = {{free_attached, free_attached}};

static void attachments(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    struct kl_store_options o = {.hooks = &hooks};
    hs_open(&hs, suite_backend, &o);
    hs_client_open(&c, &hs);
    atomic_store(&freed, 0);
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct kl_compare cmp = {.key = KL_STR("a"), .target = KL_COMPARE_MOD, .num = 0};
    struct kl_op op = {.kind = KL_OP_PUT, .key = KL_STR("a"), .value = v, .attach = {strdup("x")}};
    void *hung = op.attach[0];
    struct kl_txn txn = {.body = {.compares = &cmp, .ncompares = 1, .then = &op, .nthen = 1}};
    assert_int_equal(hs_txn(&c, &txn), 0);
    assert_true(txn.body.succeeded);
    assert_null(op.attach[0]);
    assert_ptr_equal(kl_kv_attached(op.kv, 0), hung);
    char *other = strdup("y");
    assert_ptr_equal(kl_kv_attach(op.kv, 0, other), hung); // somebody was quicker
    assert_ptr_equal(kl_kv_attach(op.kv, 1, other), other);
    kl_txn_fini(&txn);
    op.attach[0] = hung = strdup("z");
    assert_int_equal(hs_txn(&c, &txn), 0);
    assert_false(txn.body.succeeded);
    assert_ptr_equal(op.attach[0], hung); // still ours
    free(hung);
    kl_txn_fini(&txn);
    kl_bytes_unref(v);
    hs_client_close(&c);
    assert_int_equal(atomic_load(&freed), 0);
    hs_close(&hs);
    assert_int_equal(atomic_load(&freed), 2);
}

// Submitted and then stopped: each is answered, durable or cancelled, never lost.
struct stop_txn {
    struct kl_txn txn;
    struct kl_op op;
    atomic_int *answers, *stored;
    char key[16];
};

static void stop_cb(struct kl_txn *txn)
{
    struct stop_txn *t = KL_CONTAINER_OF(txn, struct stop_txn, txn);
    assert_true(txn->code == 0 || txn->code == KL_ECANCELED);
    if (!txn->code)
        atomic_fetch_add(t->stored, 1);
    atomic_fetch_add(t->answers, 1);
    kl_txn_fini(txn);
}

struct stop_all {
    struct stop_txn *t;
    int n;
};

static void submit_all(struct hs_client *c, void *arg)
{
    struct stop_all *a = arg;
    for (int i = 0; i < a->n; i++)
        assert_int_equal(kl_store_submit(c->hs->s, &a->t[i].txn, NULL), 0);
}

static void stop_answers_all(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    enum { N = 2000 };
    atomic_int answers = 0, stored = 0;
    struct stop_txn *t = calloc(N, sizeof(*t));
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    hs_open(&hs, suite_backend, NULL);
    hs_client_open(&c, &hs);
    for (int i = 0; i < N; i++) {
        snprintf(t[i].key, sizeof(t[i].key), "s/%d", i);
        t[i].op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(t[i].key), .value = v};
        t[i].txn = (struct kl_txn){.body = {.then = &t[i].op, .nthen = 1}, .cb = stop_cb};
        t[i].answers = &answers;
        t[i].stored = &stored;
    }
    hs_run(&c, submit_all, &(struct stop_all){t, N});
    hs_client_detach(&c);
    hs_stop(&hs);
    int64_t until = kl_mono_ms() + 120000;
    while (atomic_load(&answers) < N && kl_mono_ms() < until)
        sched_yield();
    assert_int_equal(atomic_load(&answers), N);
    hs_client_close(&c);
    if (on("sqlite")) { // what was acknowledged is there, and nothing else
        struct kl_error err;
        assert_int_equal(kl_store_open(hs.url, NULL, &hs.s, &err), 0);
        struct kl_store_status st;
        kl_store_status(hs.s, &st);
        assert_int_equal(st.keys, atomic_load(&stored));
    }
    kl_bytes_unref(v);
    hs_close(&hs);
    free(t);
}

int main(int argc, char **argv)
{
    suite_backend = argc > 1 ? argv[1] : "memory";
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(create_update_delete),
        CASE(compare_targets),
        CASE(compare_range_and_else),
        CASE(txn_of_many),
        CASE(odd_keys),
        CASE(watch_basic),
        CASE(watch_future),
        CASE(watch_txn_whole),
        CASE(many_writers),
        CASE(compact_rules),
        CASE(compact_races),
        CASE(lease_life),
        CASE(alarms),
        cmocka_unit_test(lease_expiry),
        cmocka_unit_test(lease_renewal),
        cmocka_unit_test(lease_kept_by_another),
        CASE(duplicate_keys),
        CASE(old_revisions),
        CASE(old_big_values),
        CASE(set_back),
        cmocka_unit_test(slow_watcher),
        CASE(restart_keeps),
        cmocka_unit_test(attachments),
        cmocka_unit_test(stop_answers_all),
        cmocka_unit_test(auto_compact),
        CASE(space_back),
    };
    if (hs_is_remote(suite_backend) && !es_is_there(suite_backend[0] == 'k'))
        return 77; // meson: skipped
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name(suite_backend, tests, NULL, NULL);
}
