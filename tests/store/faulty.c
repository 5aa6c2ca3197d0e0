// SPDX-License-Identifier: Apache-2.0
// faulty+URL: what is acknowledged is there, what failed is not, what may be there is there or not,
// and every event is delivered once, whatever the back end refuses in between.
#include "harness.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *backend;

static void open_faulty(struct hs_store *hs, struct hs_client *c, const char *faults)
{
    assert_int_equal(setenv("KINGLET_FAULT", faults, 1), 0);
    hs_open(hs, backend, NULL);
    hs_client_open(c, hs);
}

static void close_faulty(struct hs_store *hs, struct hs_client *c)
{
    hs_client_close(c);
    hs_close(hs);
}

static void model(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    char faults[128], key[16], value[16];
    uint64_t r = hs_seed();
    snprintf(faults, sizeof(faults), "seed:%llu,eio:40,conflict:100,maybe:40,slow:50:2,head:200",
             (unsigned long long)(r >> 1));
    open_faulty(&hs, &c, faults);
    enum { KEYS = 20 };
    int have[KEYS], maybe[KEYS], failed = 0, unsure = 0;
    for (int i = 0; i < KEYS; i++)
        have[i] = maybe[i] = -1;
    struct hs_watch w = {0};
    assert_int_equal(hs_watch_start(&w, &c, "m/", "m0", 0), 0);
    int n = hs_scale(600);
    for (int i = 0; i < n; i++) {
        int k = (int)(hs_rand(&r) % KEYS);
        snprintf(key, sizeof(key), "m/%d", k);
        snprintf(value, sizeof(value), "%d", i);
        kl_rev rev = hs_put(&c, key, value, -1);
        failed += rev == KL_EIO;
        unsure += rev == KL_EMAYBE;
        if (rev == KL_EMAYBE)
            maybe[k] = i;
        else if (rev != KL_EIO)
            have[k] = i;
        if (rev < 0) {
            assert_true(rev == KL_EMAYBE || rev == KL_EIO);
            continue;
        }
        maybe[k] = -1;
        struct kl_op op = {.kind = KL_OP_GET, .key = kl_str(key)}; // with a head that may fail
        struct kl_txn txn = {.body = {.then = &op, .nthen = 1}};
        assert_int_equal(hs_txn(&c, &txn), 0);
        assert_true(kl_str_eqz(kl_kv_value(op.kv), value));
        assert_int_equal(op.kv->mod_rev, rev);
        kl_txn_fini(&txn);
    }
    assert_true(failed > 0 && unsure > 0);
    kl_rev rev;
    do
        rev = hs_put(&c, "m/end", "", -1);
    while (rev < 0);
    hs_watch_wait_rev(&w, rev);
    kl_rev last = 0;
    for (size_t i = 0; i < w.n; i++) {
        assert_int_equal(w.ev[i].rev, last ? last + 1 : w.ev[i].rev);
        last = w.ev[i].rev;
    }
    assert_int_equal(last, rev);
    for (int k = 0; k < KEYS; k++) {
        snprintf(key, sizeof(key), "m/%d", k);
        struct kl_kv *kv = hs_get(&c, key);
        int64_t is = -1;
        assert_true(!kv || kl_str_to_i64(kl_kv_value(kv), &is));
        // Of several that may be there the newest that is.
        if (is != have[k] && !(maybe[k] >= 0 && is > have[k] && is <= maybe[k]))
            fail_msg("%s: %d, neither %d nor %d", key, (int)is, have[k], maybe[k]);
        kl_kv_unref(kv);
    }
    hs_watch_fini(&w);
    close_faulty(&hs, &c);
}

static void one_read(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    open_faulty(&hs, &c, "read:@2");
    kl_rev rev = hs_put(&c, "a", "1", -1);
    hs_put(&c, "a", "2", -1);
    for (int i = 1; i <= 3; i++) {
        struct kl_range_at q = {.key = KL_STR("a"), .rev = rev};
        assert_int_equal(hs_range_at(&c, &q), i == 2 ? KL_EIO : 0);
        if (i != 2)
            assert_int_equal(q.nkvs, 1);
        kl_range_at_fini(&q);
    }
    close_faulty(&hs, &c);
}

// A deletion of very many rows of which nobody knows: it was stored, and comes from outside.
static void many_rows(void **state)
{
    enum { TXNS = 3, KEYS = 1000 };
    static char name[KEYS][16];
    struct hs_store hs;
    struct hs_client c;
    struct kl_op *ops = calloc(KEYS, sizeof(*ops)), del = {.kind = KL_OP_DELETE};
    open_faulty(&hs, &c, "maybe:@4");
    for (int at = 0; at < TXNS * KEYS; at += KEYS) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = KEYS}};
        for (int i = 0; i < KEYS; i++) {
            snprintf(name[i], sizeof(name[i]), "m/%05d", at + i);
            ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(name[i])};
        }
        assert_int_equal(hs_txn(&c, &txn), 0);
        kl_txn_fini(&txn);
    }
    free(ops);
    del.key = KL_STR("m/");
    del.end = KL_STR("m0");
    struct kl_txn txn = {.body = {.then = &del, .nthen = 1}};
    assert_int_equal(hs_txn(&c, &txn), KL_EMAYBE);
    kl_txn_fini(&txn);
    kl_rev rev = hs_put(&c, "after", "", -1);
    assert_true(rev > 0);
    assert_int_equal(hs_count(&c, "m/", "m0"), 0);
    close_faulty(&hs, &c);
}

// ---- the queue is bounded by bytes ----

struct big {
    struct kl_txn txn;
    struct kl_op op;
    char key[16];
    atomic_int *answers;
};

struct all {
    struct big *b;
    int n, taken, refused;
    int64_t answered; // by the store, when the last one was submitted
};

static void big_cb(struct kl_txn *t)
{
    struct big *b = KL_CONTAINER_OF(t, struct big, txn);
    assert_int_equal(t->code, 0);
    kl_txn_fini(t);
    atomic_fetch_add(b->answers, 1);
}

static void submit_big(struct hs_client *c, void *arg)
{
    struct all *a = arg;
    struct kl_error err;
    for (int i = 0; i < a->n; i++) {
        int r = kl_store_submit(c->hs->s, &a->b[i].txn, &err);
        assert_true(r == 0 || r == KL_ETOOMANY);
        if (r)
            assert_string_equal(err.msg, "etcdserver: too many requests");
        a->taken += !r;
        a->refused += r != 0;
    }
    struct kl_store_status st;
    kl_store_status(c->hs->s, &st);
    a->answered = st.txns;
}

static void bounded_queue(void **state)
{
    struct hs_store hs;
    struct hs_client c;
    enum { N = 1000, SIZE = 1 << 20, ROOM = 64 };
    open_faulty(&hs, &c, "slow:1000:100");
    struct kl_bytes *v = kl_bytes_alloc(SIZE);
    memset(v->p, 'v', SIZE);
    atomic_int answers = 0;
    struct all a = {.b = calloc(N, sizeof(*a.b)), .n = N};
    for (int i = 0; i < N; i++) {
        snprintf(a.b[i].key, sizeof(a.b[i].key), "b/%d", i);
        a.b[i].op = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(a.b[i].key), .value = v};
        a.b[i].txn = (struct kl_txn){.body = {.then = &a.b[i].op, .nthen = 1}, .cb = big_cb};
        a.b[i].answers = &answers;
    }
    hs_run(&c, submit_big, &a);
    assert_true(a.taken >= ROOM - 1); // keys take room, too
    assert_true(a.taken <= ROOM + a.answered);
    assert_true(a.refused > 0);
    int64_t until = kl_mono_ms() + 120000;
    while (atomic_load(&answers) < a.taken && kl_mono_ms() < until)
        sched_yield();
    assert_int_equal(atomic_load(&answers), a.taken);
    assert_int_equal(hs_count(&c, "b/", "b0"), a.taken);
    assert_true(hs_put(&c, "b/after", "x", -1) > 0); // there is room again
    kl_bytes_unref(v);
    free(a.b);
    close_faulty(&hs, &c);
}

static void wrong_faults(void **state)
{
    const struct {
        const char *url, *say;
    } cases[] = {
        {"faulty+memory://?fault=seed", "a number is needed"},
        {"faulty+memory://?x=1&fault=eio:10,what:3", "no fault is called what"},
        {"faulty+memory://?fault=slow:3", "slow:P:MS"},
        {"faulty+bogus://", "no such kind of datastore"},
    };
    unsetenv("KINGLET_FAULT");
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct kl_store *s = NULL;
        struct kl_error err = {0};
        assert_true(kl_store_open(cases[i].url, NULL, &s, &err) < 0);
        if (!strstr(err.msg, cases[i].say))
            fail_msg("%s: '%s'", cases[i].url, err.msg);
    }
}

int main(int argc, char **argv)
{
    backend = argc > 1 ? argv[1] : "faulty+memory";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model),        cmocka_unit_test(one_read),
        cmocka_unit_test(many_rows),    cmocka_unit_test(bounded_queue),
        cmocka_unit_test(wrong_faults),
    };
    return cmocka_run_group_tests_name(backend, tests, NULL, NULL);
}
