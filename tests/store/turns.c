// SPDX-License-Identifier: Apache-2.0
// Writes of very many rows: one revision, seen whole or not at all, in order, and no turn of a loop
// handles more rows than a turn's worth of them.   store-turns BACKEND
#include "harness.h"
#include "store/store_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 20000, TXN_KEYS = 1000, LEASED = 3000 };

static const char *backend;
static struct hs_store hs;
static struct hs_client c, watcher;

static int setup(void **state)
{
    hs_open(&hs, backend, NULL);
    hs_client_open(&c, &hs);
    hs_client_open(&watcher, &hs);
    return 0;
}

static int teardown(void **state)
{
    hs_client_close(&watcher);
    hs_client_close(&c);
    hs_close(&hs);
    return 0;
}

static int keys(void)
{
    return hs_scale(KEYS);
}

static void make_key(char buf[32], int i)
{
    snprintf(buf, 32, "/registry/x/%06d", i);
}

static void fill(int n, int64_t lease)
{
    static char name[TXN_KEYS][32];
    struct kl_op *ops = calloc(TXN_KEYS, sizeof(*ops));
    for (int at = 0; at < n; at += TXN_KEYS) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = TXN_KEYS}};
        for (int i = 0; i < TXN_KEYS; i++) {
            make_key(name[i], at + i);
            ops[i] = (struct kl_op){.kind = KL_OP_PUT,
                                    .key = kl_str(name[i]),
                                    .value = kl_bytes_new(kl_str(name[i])),
                                    .lease = at + i < LEASED ? lease : 0};
        }
        assert_int_equal(hs_txn(&c, &txn), 0);
        kl_txn_fini(&txn);
        for (int i = 0; i < TXN_KEYS; i++)
            kl_bytes_unref(ops[i].value);
    }
    free(ops);
}

static int64_t grant(void)
{
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .ttl_s = 3600};
    assert_int_equal(hs_lease(&c, &q), 0);
    return q.id;
}

static void check_turns(void)
{
    struct kl_store_status st;
    kl_store_status(hs.s, &st);
    print_message("longest turn: %lld rows\n", (long long)st.longest_turn);
    assert_true(st.longest_turn > 0);
    // One slice, what is freed a node at a time beside it, and a batch that is not many.
    assert_in_range(st.longest_turn, 1, KL_TURN_ROWS + KL_BIG_ROWS + 2 * KL_RING_CHUNK);
}

// ---- who looks on ----

struct onlooker {
    pthread_t thread;
    atomic_bool stop;
    int n;
    int64_t torn, looks;
};

static void look(struct hs_client *cl, void *arg)
{
    struct onlooker *o = arg;
    struct kl_view *v = kl_reader_view(cl->reader);
    int64_t n = kl_view_count(v, KL_STR("/registry/x/"), KL_STR("/registry/x0"));
    o->torn += n != o->n && n > 1;
    o->looks++;
}

static void *look_on(void *arg)
{
    struct onlooker *o = arg;
    unsigned looks = 0;
    do {
        hs_run(&watcher, look, o);
        hs_breathe(++looks);
    } while (!atomic_load(&o->stop));
    return NULL;
}

// ---- one after the other, without waiting ----

struct asked {
    struct kl_txn txn[3];
    struct kl_op op[3];
    int left, order[3], norder;
    pthread_mutex_t mu;
    pthread_cond_t cond;
};

static struct asked *asked;
static struct kl_store *asks; // whom

static void on_answer(struct kl_txn *t)
{
    pthread_mutex_lock(&asked->mu);
    asked->order[asked->norder++] = (int)(t - asked->txn);
    asked->left--;
    pthread_cond_signal(&asked->cond);
    pthread_mutex_unlock(&asked->mu);
}

static void submit_all(struct hs_client *cl, void *arg)
{
    for (int i = 0; i < 3; i++) {
        struct kl_error err;
        asked->txn[i] =
            (struct kl_txn){.body = {.then = &asked->op[i], .nthen = 1}, .cb = on_answer};
        if (kl_store_submit(asks, &asked->txn[i], &err))
            fail_msg("%s", err.msg);
    }
}

static void ask(bool count_only)
{
    struct kl_str from = KL_STR("/registry/x/"), end = KL_STR("/registry/x0");
    asked = calloc(1, sizeof(*asked));
    pthread_mutex_init(&asked->mu, NULL);
    pthread_cond_init(&asked->cond, NULL);
    asked->op[0] =
        (struct kl_op){.kind = KL_OP_DELETE, .key = from, .end = end, .count_only = count_only};
    asked->op[1] = (struct kl_op){.kind = KL_OP_GET, .key = from, .end = end};
    asked->op[2] = (struct kl_op){.kind = KL_OP_PUT,
                                  .key = KL_STR("/registry/x/000007"),
                                  .value = kl_bytes_new(KL_STR("again"))};
    asked->left = 3;
    hs_run(&c, submit_all, NULL);
    pthread_mutex_lock(&asked->mu);
    while (asked->left)
        pthread_cond_wait(&asked->cond, &asked->mu);
    pthread_mutex_unlock(&asked->mu);
}

static void drop_asked(void)
{
    for (int i = 0; i < 3; i++)
        kl_txn_fini(&asked->txn[i]);
    kl_bytes_unref(asked->op[2].value);
    pthread_mutex_destroy(&asked->mu);
    pthread_cond_destroy(&asked->cond);
    free(asked);
}

static void check_answers(int n, bool count_only)
{
    const struct kl_txn *t = asked->txn;
    const struct kl_op *op = asked->op;
    for (int i = 0; i < 3; i++)
        assert_int_equal(t[i].code, 0);
    assert_int_equal(op[0].count, n);
    assert_int_equal(op[0].nkvs, count_only && !kl_store_is_shared(hs.s) ? 0 : op[0].nkvs);
    for (size_t i = 0; i < op[0].nkvs; i++) {
        char key[32];
        make_key(key, (int)i);
        assert_string_equal(op[0].kvs[i]->key, key);
        assert_true(kl_str_eqz(kl_kv_value(op[0].kvs[i]), key));
    }
    if (!count_only)
        assert_int_equal(op[0].nkvs, n);
    assert_null(op[2].prev);
    assert_int_equal(op[2].kv->version, 1);
    assert_true(t[2].rev > t[0].rev);
    if (!kl_store_is_shared(hs.s)) { // there a read waits for a head, and may come last
        assert_int_equal(t[2].rev, t[0].rev + 1);
        assert_int_equal(op[1].count, 0);
        assert_int_equal(t[1].rev, t[0].rev);
    }
}

static void check_events(const struct hs_watch *w, int n, kl_rev rev)
{
    for (int i = 0; i < n; i++) {
        const struct hs_event *e = &w->ev[i];
        char key[32];
        make_key(key, i);
        if (strcmp(e->key, key) != 0 || e->value || e->rev != rev || !e->prev ||
            strcmp(e->prev, key) != 0)
            fail_msg("event %d: %s %s at %lld before %s, not the deletion of %s at %lld", i, e->key,
                     e->value ? e->value : "deleted", (long long)e->rev, e->prev ? e->prev : "-",
                     key, (long long)rev);
    }
    assert_string_equal(w->ev[n].value, "again");
}

static void delete_all(bool count_only)
{
    int n = keys();
    int64_t lease = grant();
    struct hs_watch w = {.batch = 100};
    struct onlooker o = {.n = n};
    fill(n, lease);
    kl_rev before = hs_rev(&c);
    // Every reader has the keys before one looks on.
    hs_watch_start(&w, &watcher, "/registry/x/", "/registry/x0", before + 1);
    hs_watch_wait_rev(&w, before);
    assert_int_equal(pthread_create(&o.thread, NULL, look_on, &o), 0);
    ask(count_only);
    check_answers(n, count_only);
    hs_watch_wait(&w, (size_t)n + 1);
    hs_watch_wait_rev(&w, asked->txn[2].rev);
    // By now both stores have it, whoever was asked.
    struct kl_lease_req q = {.kind = KL_LEASE_TTL, .id = lease, .want_keys = true};
    assert_int_equal(hs_lease(&c, &q), 0);
    assert_int_equal(q.n, 0);
    kl_lease_req_fini(&q);
    atomic_store(&o.stop, true);
    pthread_join(o.thread, NULL);
    assert_int_equal(o.torn, 0);
    assert_true(o.looks > 0);
    check_events(&w, n, asked->txn[0].rev);
    assert_false(w.early);
    hs_watch_stop(&w);
    hs_watch_fini(&w);
    drop_asked();
    // The lease ends with what hangs on it: nothing any more.
    assert_int_equal(hs_count(&c, "/registry/x/", "/registry/x0"), 1);
    q = (struct kl_lease_req){.kind = KL_LEASE_REVOKE, .id = lease};
    assert_int_equal(hs_lease(&c, &q), 0);
    assert_int_equal(hs_count(&c, "/registry/x/", "/registry/x0"), 1);
    check_turns();
}

static void delete_range(void **state)
{
    asks = hs.s;
    delete_all(false);
}

static void delete_range_counted(void **state)
{
    asks = hs.s;
    delete_all(true);
}

// A fence among very many rows is seen by every store.
static void with_a_fence(void **state)
{
    fill(3 * TXN_KEYS, 0);
    struct kl_op ops[] = {
        {.kind = KL_OP_DELETE, .key = KL_STR("/registry/x/"), .end = KL_STR("/registry/x0")},
        {.kind = KL_OP_PUT, .key = KL_STR(KL_FENCE_KEY), .value = kl_bytes_new(KL_STR("moved"))}};
    struct kl_op open = {.kind = KL_OP_DELETE, .key = KL_STR(KL_FENCE_KEY)};
    struct kl_txn txn = {.body = {.then = ops, .nthen = 2}};
    assert_int_equal(hs_txn(&c, &txn), 0);
    kl_txn_fini(&txn);
    kl_bytes_unref(ops[1].value);
    for (int i = 0; i < 2; i++) // through both
        assert_int_equal(hs_put(&c, "/registry/y", "", -1), KL_EUNAVAILABLE);
    txn = (struct kl_txn){.body = {.then = &open, .nthen = 1}};
    assert_int_equal(hs_txn(&c, &txn), 0);
    kl_txn_fini(&txn);
    kl_rev rev;
    while ((rev = hs_put(&c, "/registry/y", "", -1)) == KL_EUNAVAILABLE)
        sched_yield(); // who has not seen yet that it is gone
    assert_true(rev > 0);
}

// What the other store on the same log deletes comes as an outside batch.
static void delete_outside(void **state)
{
    asks = hs.other ? hs.other : hs.s;
    delete_all(false);
}

// Two ranges, a key between them and what was read before: in one transaction, nested.
static void in_a_transaction(void **state)
{
    int n = keys();
    char mid[32];
    fill(n, 0);
    make_key(mid, n / 2);
    struct kl_op inner[] = {
        {.kind = KL_OP_DELETE, .key = kl_str(mid), .end = KL_STR("/registry/x0")},
        {.kind = KL_OP_PUT, .key = KL_STR("/registry/y"), .value = kl_bytes_new(KL_STR("y"))}};
    struct kl_txn_body body = {.then = inner, .nthen = 2};
    struct kl_op ops[] = {
        {.kind = KL_OP_GET, .key = KL_STR("/registry/x/"), .end = KL_STR("/registry/x0")},
        {.kind = KL_OP_DELETE, .key = KL_STR("/registry/x/"), .end = kl_str(mid)},
        {.kind = KL_OP_TXN, .txn = &body},
        {.kind = KL_OP_GET, .key = KL_STR("/registry/"), .end = KL_STR("/registry0")},
    };
    struct kl_txn txn = {.body = {.then = ops, .nthen = 4}};
    assert_int_equal(hs_txn(&c, &txn), 0);
    assert_int_equal(ops[0].count, n);
    assert_int_equal(ops[0].nkvs, n);
    for (int i = 0; i < n; i++) {
        char key[32];
        make_key(key, i);
        assert_string_equal(ops[0].kvs[i]->key, key);
    }
    assert_int_equal(ops[1].count, n / 2);
    assert_int_equal(inner[0].count, n - n / 2);
    assert_int_equal(ops[3].count, 1);
    assert_int_equal(ops[3].kvs[0]->mod_rev, txn.rev);
    kl_bytes_unref(inner[1].value);
    kl_txn_fini(&txn);
    assert_int_equal(hs_count(&c, "/registry/", "/registry0"), 1);
    check_turns();
}

// Compares of all keys, that hold and that fail at the last one, of the transaction and of a nested
// one; and what it reads.
static void compares(void **state)
{
    int n = keys();
    char last[32];
    fill(n, 0);
    make_key(last, n - 1);
    const struct kl_str from = KL_STR("/registry/x/"), end = KL_STR("/registry/x0");
    for (int broken = 0; broken < 2; broken++) {
        if (broken)
            assert_true(hs_put(&c, last, "another", -1) > 0); // its second version
        const struct kl_compare once = {
            .key = from, .end = end, .target = KL_COMPARE_VERSION, .num = 1};
        const struct kl_compare there = {
            .key = from, .end = end, .target = KL_COMPARE_VERSION, .result = KL_COMPARE_GT};
        struct kl_bytes *value = kl_bytes_new(KL_STR("v"));
        struct kl_op yes = {.kind = KL_OP_PUT, .key = KL_STR("/registry/a"), .value = value},
                     no = {.kind = KL_OP_PUT, .key = KL_STR("/registry/b"), .value = value};
        struct kl_txn_body inner = {
            .compares = &once, .ncompares = 1, .then = &yes, .nthen = 1, .els = &no, .nels = 1};
        struct kl_op ops[] = {{.kind = KL_OP_TXN, .txn = &inner},
                              {.kind = KL_OP_GET, .key = from, .end = end}};
        struct kl_txn txn = {
            .body = {.compares = &there, .ncompares = 1, .then = ops, .nthen = KL_COUNT(ops)}};
        for (int i = 0; i < 2; i++) { // through both
            assert_int_equal(hs_txn(&c, &txn), 0);
            assert_true(txn.body.succeeded);
            assert_int_equal(inner.succeeded, !broken);
            assert_int_equal(ops[1].nkvs, n);
            for (int k = 0; k < n; k++) {
                char key[32];
                make_key(key, k);
                assert_string_equal(ops[1].kvs[k]->key, key);
            }
            assert_non_null(broken ? no.kv : yes.kv);
            kl_txn_fini(&txn);
            txn = (struct kl_txn){.body = txn.body};
        }
        kl_bytes_unref(value);
    }
    assert_int_equal(hs_count(&c, "/registry/", "/registry/x/"), 2); // of both sides
    check_turns();
}

int main(int argc, char **argv)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(delete_range),     CASE(delete_range_counted),
        CASE(in_a_transaction), CASE(with_a_fence),
        CASE(compares),
        CASE(delete_outside), // of two stores
    };
    backend = argc > 1 ? argv[1] : "memory";
    bool two = strcmp(backend, "shared") == 0 || backend[strlen(backend) - 1] == '2';
    return two ? cmocka_run_group_tests_name("turns", tests, NULL, NULL)
               : _cmocka_run_group_tests("turns", tests, KL_COUNT(tests) - 1, NULL, NULL);
}
