// SPDX-License-Identifier: Apache-2.0
// Three servers on one log, of which one evaluates: what is submitted to the others goes there and
// comes back whole, once, and readable, whatever happens to connections and leaders.
#include "fake_peers.h"
#include "harness.h"
#include "base/clock.h"
#include "store/store_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = FP_NODES };

struct cluster {
    char name[32], url[48];
    struct fp_net *net;
    struct hs_clock clock;
    struct hs_store hs[N];
    struct hs_client c[N];
};

static const struct kl_backend_ops *const extra[] = {&hs_backend_shared, NULL};
static atomic_int clusters, freed;

static void free_attached(void *p)
{
    atomic_fetch_add(&freed, 1);
    free(p);
}

static const struct kl_kv_hooks hooks = {{free_attached}};

static void lead(struct cluster *k, int i, uint64_t leader)
{
    hs_shared_lead(k->name, kl_peers_id(fp_node(k->net, i)), leader);
}

static void elect(struct cluster *k, int leader)
{
    for (int i = 0; i < N; i++)
        lead(k, i, (uint64_t)leader + 1);
}

static void open_node(struct cluster *k, int i, bool virtual_time)
{
    struct kl_error err;
    k->hs[i] = (struct hs_store){.backend = "shared"};
    k->hs[i].o = (struct kl_store_options){.extra = extra,
                                           .hooks = &hooks,
                                           .peers = fp_node(k->net, i),
                                           .clock = virtual_time ? &k->clock.clock : NULL};
    if (kl_store_open(k->url, &k->hs[i].o, &k->hs[i].s, &err))
        fail_msg("%s", err.msg);
    hs_client_open(&k->c[i], &k->hs[i]);
}

static struct cluster *start(bool virtual_time)
{
    struct cluster *k = calloc(1, sizeof(*k));
    snprintf(k->name, sizeof(k->name), "forward-%d", atomic_fetch_add(&clusters, 1));
    snprintf(k->url, sizeof(k->url), "shared://%s", k->name);
    hs_clock_init(&k->clock);
    k->net = fp_new();
    for (int i = 0; i < N; i++)
        open_node(k, i, virtual_time);
    return k;
}

static void stop(struct cluster *k)
{
    for (int i = 0; i < N; i++) {
        hs_client_close(&k->c[i]);
        kl_store_stop(k->hs[i].s);
    }
    fp_free(k->net);
    free(k);
}

static struct kl_op put(const char *key, struct kl_bytes *v)
{
    return (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(key), .value = v};
}

static struct kl_op get(const char *key, const char *end)
{
    return (struct kl_op){.kind = KL_OP_GET, .key = kl_str(key), .end = kl_str(end)};
}

static struct kl_op del(const char *key, const char *end)
{
    return (struct kl_op){.kind = KL_OP_DELETE, .key = kl_str(key), .end = kl_str(end)};
}

// ---- results ----

static void same_results(void **state)
{
    struct cluster *k = start(false);
    elect(k, 0);
    struct hs_client *c = &k->c[1];
    assert_int_equal(hs_put(c, "a", "1", 0), 2);
    assert_int_equal(hs_put(c, "a", "2", 0), KL_ECONFLICT);
    assert_int_equal(hs_put(c, "a", "2", 2), 3);
    assert_int_equal(hs_del(c, "a", 2), KL_ECONFLICT);
    assert_int_equal(hs_del(&k->c[2], "a", 3), 4);
    struct kl_store_status st[N];
    for (int i = 0; i < N; i++)
        kl_store_status(k->hs[i].s, &st[i]);
    assert_int_equal(st[1].txns + st[2].txns, 0); // of their own batches
    // Others may have applied the last one before who evaluated it has.
    for (int64_t until = kl_mono_ms() + 120000; st[0].txns < 3; sched_yield()) {
        if (kl_mono_ms() > until)
            fail_msg("the leader has evaluated %lld, not 3", (long long)st[0].txns);
        kl_store_status(k->hs[0].s, &st[0]);
    }

    struct kl_bytes *v = kl_bytes_new(KL_STR("v")), *w = kl_bytes_new(KL_STR("w"));
    struct kl_op in[] = {put("n/3", w), get("n/", "n0"), del("n/1", "")};
    struct kl_op no[] = {put("n/9", w)};
    struct kl_compare cmp = {.key = KL_STR("n/2"), .target = KL_COMPARE_VERSION, .num = 0};
    struct kl_txn_body nested = {
        .compares = &cmp, .ncompares = 1, .then = in, .nthen = 3, .els = no, .nels = 1};
    // Compares see the state before: n/2 is not there yet.
    struct kl_op ops[] = {put("n/1", v),
                          put("n/2", v),
                          {.kind = KL_OP_TXN, .txn = &nested},
                          get("n/1", ""),
                          get("n/", "n0")};
    struct kl_txn txn = {.body = {.then = ops, .nthen = 5}};
    // etcd: n/1 is put and deleted by one transaction.
    assert_int_equal(hs_txn(c, &txn), KL_EBADREQUEST);
    in[2] = del("n/8", "n/9");
    if (hs_txn(c, &txn))
        fail_msg("%s", txn.err.msg);
    assert_int_equal(txn.rev, 7);
    assert_true(txn.body.succeeded && nested.succeeded);
    assert_non_null(ops[0].kv);
    assert_null(ops[0].prev);
    assert_int_equal(ops[0].kv->mod_rev, 7);
    assert_int_equal(ops[0].kv->create_rev, 7);
    assert_int_equal(in[0].kv->id, 7);
    assert_int_equal(in[1].nkvs, 3); // its own writes before it
    assert_int_equal(in[2].count, 0);
    assert_ptr_equal(ops[3].kv, ops[0].kv);
    assert_int_equal(ops[4].count, 3);
    assert_null(no[0].kv);
    kl_txn_fini(&txn);
    // Deletion of a range, with what was there.
    struct kl_op range[] = {del("n/", "n/3"), put("n/3", v), get("n/", "n0")};
    txn = (struct kl_txn){.body = {.then = range, .nthen = 3}};
    assert_int_equal(hs_txn(c, &txn), 0);
    assert_int_equal(range[0].nkvs, 2);
    assert_true(kl_str_eqz(kl_kv_key(range[0].kvs[1]), "n/2"));
    assert_int_equal(range[0].kvs[1]->mod_rev, 7);
    assert_int_equal(range[1].prev->mod_rev, 7);
    assert_int_equal(range[1].kv->version, 2);
    assert_int_equal(range[2].nkvs, 1);
    kl_txn_fini(&txn);
    // What fails there, and what writes nothing.
    struct kl_op keep = {.kind = KL_OP_PUT, .key = KL_STR("none"), .ignore_value = true};
    txn = (struct kl_txn){.body = {.then = &keep, .nthen = 1}};
    assert_int_equal(hs_txn(c, &txn), KL_EBADREQUEST);
    assert_string_equal(txn.err.msg, "etcdserver: key not found");
    struct kl_compare exists = {.key = KL_STR("n/3"), .target = KL_COMPARE_MOD, .num = 1};
    struct kl_op then = put("n/3", w), els[] = {get("n/3", ""), get("n/", "n0")};
    txn = (struct kl_txn){
        .body = {
            .compares = &exists, .ncompares = 1, .then = &then, .nthen = 1, .els = els, .nels = 2}};
    assert_int_equal(hs_txn(c, &txn), 0);
    assert_false(txn.body.succeeded);
    assert_int_equal(els[0].kv->version, 2);
    assert_int_equal(els[1].nkvs, 1);
    assert_int_equal(txn.rev, hs_rev(c));
    kl_txn_fini(&txn);
    struct kl_str big = {calloc(1, 1500000), 1500000};
    kl_rev rev = hs_put_bytes(c, KL_STR("big"), big, 0);
    assert_true(rev > 0);
    struct kl_kv *kv = hs_get(c, "big");
    assert_int_equal(kl_kv_value(kv).n, big.n);
    kl_kv_unref(kv);
    free((void *)big.p);
    // Compaction there counts here.
    assert_int_equal(hs_compact_logical(c, rev), 0);
    assert_int_equal(hs_compact_logical(c, rev), KL_ECOMPACTED);
    assert_int_equal(hs_compact_logical(c, rev + 1), KL_EFUTUREREV);
    kl_store_status(k->hs[1].s, &st[1]);
    assert_int_equal(st[1].compact_rev, rev);
    kl_bytes_unref(v);
    kl_bytes_unref(w);
    stop(k);
}

enum { MANY = 5000, MANY_TXN = 1000 };

static void put_range(struct hs_client *c, int from, int end)
{
    static char name[MANY_TXN][16];
    struct kl_op *ops = calloc(MANY_TXN, sizeof(*ops));
    for (int at = from; at < end; at += MANY_TXN) {
        struct kl_txn txn = {.body = {.then = ops, .nthen = MANY_TXN}};
        for (int i = 0; i < MANY_TXN; i++) {
            snprintf(name[i], sizeof(name[i]), "m/%05d", at + i);
            ops[i] = put(name[i], kl_bytes_new(kl_str(name[i])));
        }
        assert_int_equal(hs_txn(c, &txn), 0);
        kl_txn_fini(&txn);
        for (int i = 0; i < MANY_TXN; i++)
            kl_bytes_unref(ops[i].value);
    }
    free(ops);
}

// A transaction of very many rows: its batch is taken in turns on all servers but the one that
// evaluated it, and its results are made meanwhile where it was sent.
static void many_rows(void **state)
{
    struct cluster *k = start(false);
    elect(k, 0);
    struct hs_client *c = &k->c[1];
    for (int at = 0; at < MANY; at += MANY_TXN) {
        put_range(c, at, at + MANY_TXN);
        for (int i = 0; i < N; i++) // none takes several in one turn, as they are not many
            assert_true(hs_put(&k->c[i], "seen", "x", -1) > 0);
    }
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct kl_op in[] = {del("m/02500", "m0"), put("n", v), get("m/", "m0")};
    struct kl_txn_body nested = {.then = in, .nthen = 3};
    struct kl_op ops[] = {get("m/00001", ""), put("l", v),
                          del("m/00001", ""), del("m/", "m/02500"),
                          get("m/", "m0"),    {.kind = KL_OP_TXN, .txn = &nested},
                          del("m/", "m0")};
    ops[4].limit = 10; // a range is read in one piece
    struct kl_txn txn = {.body = {.then = ops, .nthen = KL_COUNT(ops)}};
    if (hs_txn(c, &txn))
        fail_msg("%s", txn.err.msg);
    assert_non_null(ops[0].kv);
    assert_ptr_equal(ops[2].prev, ops[0].kv);
    assert_int_equal(ops[3].count, 2499);
    assert_int_equal(ops[3].nkvs, 2499);
    assert_string_equal(ops[3].kvs[0]->key, "m/00000");
    assert_string_equal(ops[3].kvs[1]->key, "m/00002");
    assert_int_equal(ops[4].count, 2500);
    assert_int_equal(ops[4].nkvs, 10);
    assert_string_equal(ops[4].kvs[0]->key, "m/02500");
    assert_int_equal(in[0].nkvs, 2500);
    for (int i = 0; i < 2500; i++) {
        char key[16];
        snprintf(key, sizeof(key), "m/%05d", 2500 + i);
        assert_string_equal(in[0].kvs[i]->key, key);
        assert_true(kl_str_eqz(kl_kv_value(in[0].kvs[i]), key));
    }
    assert_int_equal(in[1].kv->mod_rev, txn.rev);
    assert_int_equal(in[2].count, 0);
    assert_int_equal(ops[6].count, 0);
    kl_txn_fini(&txn);
    kl_bytes_unref(v);
    for (int i = 0; i < N; i++) {
        struct kl_store_status st;
        assert_true(hs_put(&k->c[i], "after", "x", -1) > 0); // so it has seen what was before
        assert_int_equal(hs_count(&k->c[i], "m/", "m0"), 0);
        kl_store_status(k->hs[i].s, &st);
        // A turn's worth, and a batch that is not many.
        assert_in_range(st.longest_turn, 1, KL_TURN_ROWS + KL_BIG_ROWS + 2 * KL_RING_CHUNK);
    }
    stop(k);
}

// What hangs on an operation hangs on the version that comes back.
static void attachments_come_back(void **state)
{
    struct cluster *k = start(false);
    elect(k, 2);
    atomic_store(&freed, 0);
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct kl_op op = put("x", v);
    void *hung = op.attach[0] = strdup("decoded");
    struct kl_txn txn = {.body = {.then = &op, .nthen = 1}};
    assert_int_equal(hs_txn(&k->c[0], &txn), 0);
    assert_null(op.attach[0]);
    assert_ptr_equal(kl_kv_attached(op.kv, 0), hung);
    struct kl_kv *kv = hs_get(&k->c[0], "x");
    assert_ptr_equal(kv, op.kv);
    kl_kv_unref(kv);
    kl_txn_fini(&txn);
    kl_bytes_unref(v);
    stop(k);
    assert_int_equal(atomic_load(&freed), 1);
}

// ---- leases ----

static void wait_gone(struct hs_client *c, const char *key)
{
    int64_t until = kl_mono_ms() + 120000;
    for (;;) {
        struct kl_kv *kv = hs_get(c, key);
        kl_kv_unref(kv);
        if (!kv)
            return;
        if (kl_mono_ms() > until)
            fail_msg("%s is still there", key);
        sched_yield();
    }
}

static void leases(void **state)
{
    struct cluster *k = start(true);
    elect(k, 0);
    struct hs_client *c = &k->c[1];
    struct kl_lease_req g = {.kind = KL_LEASE_GRANT, .ttl_s = 100};
    assert_int_equal(hs_lease(c, &g), 0);
    assert_true(g.id > 0);
    assert_int_equal(g.ttl_s, 100);
    struct kl_lease_req named = {.kind = KL_LEASE_GRANT, .ttl_s = 100, .id = g.id};
    assert_int_equal(hs_lease(&k->c[2], &named), KL_EEXISTS);
    assert_string_equal(named.err.msg, "etcdserver: lease already exists");
    assert_int_equal(hs_put_lease(c, "l", "v", g.id + 1), KL_ENOTFOUND);
    kl_rev put_rev = hs_put_lease(c, "l", "v", g.id);
    assert_true(put_rev > 0);
    hs_clock_add(&k->clock, 30000);
    struct kl_lease_req t = {.kind = KL_LEASE_TTL, .id = g.id, .want_keys = true};
    assert_int_equal(hs_lease(c, &t), 0);
    assert_int_equal(t.remaining_ms, 70000);
    assert_int_equal(t.n, 1);
    kl_lease_req_fini(&t);
    struct kl_lease_req a = {.kind = KL_LEASE_KEEPALIVE, .id = g.id};
    assert_int_equal(hs_lease(c, &a), 0);
    assert_int_equal(a.ttl_s, 100);
    assert_int_equal(a.remaining_ms, 100000);
    // Renewed in the leader's memory only, and all the same the next leader keeps the promise.
    struct kl_store_status before, after;
    kl_store_status(k->hs[0].s, &before);
    hs_clock_add(&k->clock, 20000);
    assert_int_equal(hs_lease(c, &a), 0);
    kl_store_status(k->hs[0].s, &after);
    assert_int_equal(after.batches, before.batches);
    elect(k, 2);
    assert_int_equal(hs_lease(c, &t), 0); // it has taken over when it answers
    kl_lease_req_fini(&t);
    hs_clock_add(&k->clock, 99000);
    assert_int_equal(hs_lease(c, &t), 0);
    // Stored was 100 s and 60 more from the renewal at 30 s: what the next one promised at 50 s the
    // new leader does not know, but that it was no more than that, nor than the TTL from when it
    // took over.
    assert_int_equal(t.remaining_ms, 1000);
    kl_lease_req_fini(&t);
    // Taken over late it is what is stored: 41 s more than was promised. (etcd gives the whole TTL
    // and an election timeout from then on: lessor.Promote.)
    elect(k, 1);
    assert_int_equal(hs_lease(c, &t), 0);
    assert_int_equal(t.remaining_ms, 41000);
    kl_lease_req_fini(&t);
    struct kl_kv *kv = hs_get(c, "l");
    assert_non_null(kv);
    kl_kv_unref(kv);
    hs_clock_add(&k->clock, 41001);
    wait_gone(c, "l");
    assert_int_equal(hs_lease(c, &a), KL_ENOTFOUND);
    assert_string_equal(a.err.msg, "etcdserver: requested lease not found");
    assert_int_equal(hs_lease(&k->c[2], &t), KL_ENOTFOUND);
    // Revoked from afar, with more keys than one batch takes.
    g = (struct kl_lease_req){.kind = KL_LEASE_GRANT, .ttl_s = 100, .id = 77};
    assert_int_equal(hs_lease(c, &g), 0);
    for (int i = 0; i < 700; i++) {
        char key[16];
        snprintf(key, sizeof(key), "r/%d", i);
        assert_true(hs_put_lease(&k->c[i % N], key, "v", 77) > 0);
    }
    struct kl_lease_req r = {.kind = KL_LEASE_REVOKE, .id = 77};
    assert_int_equal(hs_lease(c, &r), 0);
    assert_int_equal(hs_count(c, "r/", "r0"), 0);
    assert_int_equal(hs_lease(c, &r), KL_ENOTFOUND);
    for (int i = 0; i < N; i++) {
        struct kl_op read = get("r/0", ""); // with a head that is confirmed: it has caught up
        struct kl_txn txn = {.body = {.then = &read, .nthen = 1}};
        assert_int_equal(hs_txn(&k->c[i], &txn), 0);
        assert_null(read.kv);
        kl_store_status(k->hs[i].s, &after);
        assert_int_equal(after.leases, 0);
    }
    stop(k);
}

// ---- nobody to ask ----

struct late {
    struct kl_txn txn;
    struct kl_op op;
    atomic_bool done;
};

static void late_cb(struct kl_txn *t)
{
    atomic_store(&KL_CONTAINER_OF(t, struct late, txn)->done, true);
}

static void submit_late(struct hs_client *c, void *arg)
{
    struct late *l = arg;
    l->txn = (struct kl_txn){.body = {.then = &l->op, .nthen = 1}, .cb = late_cb};
    assert_int_equal(kl_store_submit(c->hs->s, &l->txn, NULL), 0);
}

static void wait_late(struct cluster *k, struct late *l, int64_t step_ms)
{
    int64_t until = kl_mono_ms() + 120000;
    while (!atomic_load(&l->done)) {
        if (kl_mono_ms() > until)
            fail_msg("no answer");
        if (step_ms) {
            int64_t t = kl_mono_ms() + 20;
            while (kl_mono_ms() < t)
                sched_yield();
            hs_clock_add(&k->clock, step_ms);
        }
        sched_yield();
    }
}

static void deadlines(void **state)
{
    struct cluster *k = start(true);
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct late w = {.op = put("d", v)}, r = {.op = get("d", "")}, cut = {.op = put("e", v)};
    hs_run(&k->c[1], submit_late, &w);
    hs_run(&k->c[1], submit_late, &r);
    int64_t began = atomic_load(&k->clock.mono_ms);
    wait_late(k, &w, 500);
    wait_late(k, &r, 500);
    assert_int_equal(w.txn.code, KL_EUNAVAILABLE);
    assert_string_equal(w.txn.err.msg, "etcdserver: no leader");
    assert_int_equal(r.txn.code, KL_EUNAVAILABLE);
    assert_string_equal(r.txn.err.msg, "etcdserver: no leader");
    assert_true(atomic_load(&k->clock.mono_ms) - began >= 7000);
    // There is a leader, but no way to it; a read needs none.
    elect(k, 0);
    fp_cut(k->net, 0, 1);
    atomic_store(&r.done, false);
    hs_run(&k->c[1], submit_late, &r);
    wait_late(k, &r, 0);
    assert_int_equal(r.txn.code, 0);
    kl_txn_fini(&r.txn);
    hs_run(&k->c[1], submit_late, &cut);
    wait_late(k, &cut, 500);
    assert_int_equal(cut.txn.code, KL_EUNAVAILABLE); // it never left
    assert_string_equal(cut.txn.err.msg, "etcdserver: request timed out");
    // It waits for whoever comes.
    atomic_store(&cut.done, false);
    hs_run(&k->c[1], submit_late, &cut);
    lead(k, 1, KL_LEADER_NONE);
    fp_join(k->net, 0, 1);
    assert_false(atomic_load(&cut.done));
    lead(k, 1, 1);
    wait_late(k, &cut, 0);
    assert_int_equal(cut.txn.code, 0);
    kl_txn_fini(&cut.txn);
    // Sent, and nobody answers: the only case in which nobody can know.
    fp_lose(k->net, 1000);
    atomic_store(&w.done, false);
    hs_run(&k->c[1], submit_late, &w);
    wait_late(k, &w, 500);
    assert_int_equal(w.txn.code, KL_EMAYBE);
    assert_string_equal(w.txn.err.msg, "etcdserver: request timed out");
    fp_lose(k->net, 0);
    kl_bytes_unref(v);
    stop(k);
}

// While the batch of many rows that has its results is taken in turns, a transaction is answered
// without them, or a state is installed instead: at moments that are left to chance.
static void many_rows_in_doubt(void **state)
{
    struct cluster *k = start(true);
    uint64_t seed = hs_seed();
    elect(k, 0);
    for (int round = 0; round < hs_scale(9); round++) {
        struct late l = {.op = del("m/", "m0")};
        put_range(&k->c[0], 0, MANY);
        hs_run(&k->c[1], submit_late, &l);
        for (uint64_t n = hs_rand(&seed) % 4000; n && !atomic_load(&l.done); n--)
            sched_yield();
        switch (round % 3) {
        case 0:
            hs_clock_add(&k->clock, 8000); // it is late
            break;
        case 1:
            hs_shared_hold(k->name, kl_peers_id(fp_node(k->net, 1)));
            hs_shared_jump(k->name, kl_peers_id(fp_node(k->net, 1)));
            break;
        default:
            elect(k, 1); // it may be evaluated where it came from
        }
        wait_late(k, &l, 200);
        if (l.txn.code == 0) {
            assert_int_equal(l.op.count, l.op.nkvs);
            assert_int_equal(hs_count(&k->c[1], "m/", "m0"), 0);
        } else if (l.txn.code != KL_EMAYBE && l.txn.code != KL_EUNAVAILABLE) {
            fail_msg("%d: %s", l.txn.code, l.txn.err.msg);
        }
        kl_txn_fini(&l.txn);
        elect(k, 0);
        struct kl_op op = del("m/", "m0");
        struct kl_txn rest = {.body = {.then = &op, .nthen = 1}};
        assert_int_equal(hs_txn(&k->c[0], &rest), 0);
        kl_txn_fini(&rest);
    }
    stop(k);
}

// ---- a state that is installed instead of the log ----

static void hold(struct cluster *k, int i)
{
    hs_shared_hold(k->name, kl_peers_id(fp_node(k->net, i)));
}

static void jump(struct cluster *k, int i)
{
    hs_shared_jump(k->name, kl_peers_id(fp_node(k->net, i)));
}

static void wait_key(struct hs_client *c, const char *key)
{
    int64_t until = kl_mono_ms() + 120000;
    struct kl_kv *kv;
    for (; !(kv = hs_get(c, key)); sched_yield()) {
        if (kl_mono_ms() > until)
            fail_msg("%s does not come", key);
    }
    kl_kv_unref(kv);
}

static int64_t version_of(struct hs_client *c, const char *key)
{
    struct kl_kv *kv = hs_get(c, key);
    int64_t version = kv ? kv->version : 0;
    kl_kv_unref(kv);
    return version;
}

// What a server asked for is in a snapshot that it installs: the results are gone, and nobody else
// may remember that it ran.
static void jumps(void **state)
{
    struct cluster *k = start(true);
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    struct late w = {.op = put("j", v)};
    elect(k, 0);
    assert_true(hs_put(&k->c[1], "first", "v", 0) > 0);
    hold(k, 1);
    hs_run(&k->c[1], submit_late, &w);
    wait_key(&k->c[0], "j");
    assert_false(atomic_load(&w.done));
    assert_int_equal(version_of(&k->c[1], "j"), 0);
    jump(k, 1);
    wait_late(k, &w, 500);
    assert_int_equal(w.txn.code, KL_EMAYBE);
    assert_string_equal(w.txn.err.msg, "etcdserver: request timed out");
    assert_int_equal(version_of(&k->c[1], "j"), 1);
    // The one that evaluates now jumped over it too: it cannot know that this one ran.
    struct late x = {.op = put("k", v)};
    hold(k, 1);
    hold(k, 2);
    hs_run(&k->c[1], submit_late, &x);
    wait_key(&k->c[0], "k");
    jump(k, 2);
    elect(k, 2);
    jump(k, 1);
    wait_late(k, &x, 500);
    assert_int_equal(x.txn.code, KL_EMAYBE);
    assert_int_equal(version_of(&k->c[1], "k"), 1);
    // What is sent afterwards is as ever, and so is what was never sent.
    struct late y = {.op = put("l", v)};
    lead(k, 1, KL_LEADER_NONE);
    hs_run(&k->c[1], submit_late, &y);
    jump(k, 1);
    lead(k, 1, 3);
    wait_late(k, &y, 0);
    assert_int_equal(y.txn.code, 0);
    kl_txn_fini(&y.txn);
    assert_int_equal(version_of(&k->c[1], "l"), 1);
    assert_int_equal(hs_put(&k->c[1], "m", "v", 0), 6);
    for (int i = 0; i < N; i++) {
        wait_key(&k->c[i], "m");
        assert_int_equal(version_of(&k->c[i], "j"), 1);
        assert_int_equal(version_of(&k->c[i], "k"), 1);
    }
    kl_bytes_unref(v);
    stop(k);
}

// ---- exactly once ----

// On threads of their own, where cmocka cannot jump from.
#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: " #cond ": ", __FILE__, __LINE__);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct writer {
    pthread_t thread;
    struct cluster *k;
    int node, ops, unknown;
    uint64_t rand;
    bool jumps;
};

struct once {
    struct kl_txn txn;
    struct kl_op op[3];
    struct kl_compare cmp;
    char key[64], dir[48], end[48];
    struct kl_kv *seen; // in the callback
    kl_rev view_rev;
    struct kl_reader *reader;
    atomic_bool done;
};

static void once_cb(struct kl_txn *t)
{
    struct once *o = KL_CONTAINER_OF(t, struct once, txn);
    const struct kl_view *v = kl_reader_view(o->reader);
    o->seen = kl_kv_ref(kl_view_get(v, kl_str(o->key)));
    o->view_rev = kl_view_rev(v);
    atomic_store(&o->done, true);
}

static void submit_once(struct hs_client *c, void *arg)
{
    struct once *o = arg;
    o->reader = c->reader;
    o->txn.cb = once_cb;
    CHECK(!kl_store_submit(c->hs->s, &o->txn, NULL), "%s", o->key);
}

// Creates a key of its own, counts the directory in the same transaction, and reads elsewhere.
static void write_once(struct writer *w, struct kl_bytes *v, int i)
{
    struct once o = {0};
    struct hs_client *c = &w->k->c[w->node];
    snprintf(o.dir, sizeof(o.dir), "w/%p/", (void *)w);
    snprintf(o.end, sizeof(o.end), "w/%p0", (void *)w);
    snprintf(o.key, sizeof(o.key), "%s%05d", o.dir, i);
    bool blind = i % 3 == 0; // without a compare a second time would count
    o.cmp = (struct kl_compare){.key = kl_str(o.key), .target = KL_COMPARE_VERSION};
    o.op[0] = put(o.key, v);
    o.op[1] = get(o.dir, o.end);
    o.txn = (struct kl_txn){
        .body = {.compares = &o.cmp, .ncompares = !blind, .then = o.op, .nthen = 2}};
    hs_run(c, submit_once, &o);
    int64_t until = kl_mono_ms() + 120000;
    while (!atomic_load(&o.done)) {
        CHECK(kl_mono_ms() < until, "%s: no answer", o.key);
        sched_yield();
    }
    if (o.txn.code == KL_EMAYBE || o.txn.code == KL_EUNAVAILABLE) {
        w->unknown++;
        kl_kv_unref(o.seen);
        return;
    }
    CHECK(!o.txn.code, "%s: %d %s", o.key, o.txn.code, o.txn.err.msg);
    CHECK(o.txn.body.succeeded, "%s ran twice", o.key);
    CHECK(o.view_rev >= o.txn.rev, "%lld %lld", (long long)o.view_rev, (long long)o.txn.rev);
    CHECK(o.seen, "%s cannot be read", o.key); // at once
    CHECK(o.seen->version == 1, "%s: version %lld", o.key, (long long)o.seen->version);
    CHECK(o.seen->mod_rev == o.txn.rev, "%s: %lld, answered %lld", o.key,
          (long long)o.seen->mod_rev, (long long)o.txn.rev);
    // After a jump the same version is another one in memory.
    CHECK(o.op[0].kv && (o.op[0].kv == o.seen || w->jumps) && !o.op[0].prev, "%s: %lld", o.key,
          (long long)(o.op[0].kv ? o.op[0].kv->mod_rev : 0));
    CHECK(kl_str_eqz(kl_kv_key(o.op[1].kvs[o.op[1].nkvs - 1]), o.key), "%s", o.key);
    CHECK(w->unknown || o.op[1].count == i + 1, "%s: %lld", o.key, (long long)o.op[1].count);
    kl_kv_unref(o.seen);
    kl_rev rev = o.txn.rev;
    kl_txn_fini(&o.txn);
    // Linearizable elsewhere, through a transaction that reads.
    struct kl_op read = get(o.key, "");
    struct kl_txn txn = {.body = {.then = &read, .nthen = 1}};
    int r = hs_txn(&w->k->c[(w->node + 1 + i % 2) % N], &txn);
    if (!r) {
        CHECK(read.kv, "%s is not there", o.key);
        CHECK(read.kv->mod_rev == rev, "%s: %lld", o.key, (long long)read.kv->mod_rev);
    }
    kl_txn_fini(&txn);
}

static void *run_writer(void *arg)
{
    struct writer *w = arg;
    struct kl_bytes *v = kl_bytes_new(KL_STR("value"));
    for (int i = 0; i < w->ops; i++)
        write_once(w, v, i);
    kl_bytes_unref(v);
    return NULL;
}

struct chaos {
    struct cluster *k;
    atomic_bool stop;
    pthread_t thread;
    uint64_t rand;
    int rounds;
    bool jumps;
};

static void pause_ms(int64_t ms)
{
    int64_t until = kl_mono_ms() + ms;
    while (kl_mono_ms() < until)
        sched_yield();
}

// Cuts connections and changes who leads, also so that two believe it at the same time.
static void *run_chaos(void *arg)
{
    struct chaos *h = arg;
    struct cluster *k = h->k;
    while (!atomic_load(&h->stop)) {
        int a = (int)(hs_rand(&h->rand) % N), b = (a + 1 + (int)(hs_rand(&h->rand) % 2)) % N;
        switch (hs_rand(&h->rand) % 4) {
        case 0:
            fp_cut(k->net, a, b);
            pause_ms((int64_t)(hs_rand(&h->rand) % 20));
            fp_join(k->net, a, b);
            break;
        case 1: // like an election
            for (int i = 0; i < N; i++)
                lead(k, i, KL_LEADER_NONE);
            pause_ms((int64_t)(hs_rand(&h->rand) % 10));
            elect(k, a);
            break;
        case 2: // the old one does not know yet
            for (int i = 0; i < N; i++) {
                lead(k, (a + i) % N, (uint64_t)a + 1);
                pause_ms((int64_t)(hs_rand(&h->rand) % 5));
            }
            break;
        default: // everybody for himself, as when only the database can be reached
            fp_cut(k->net, a, b);
            lead(k, a, (uint64_t)a + 1);
            pause_ms((int64_t)(hs_rand(&h->rand) % 10));
            fp_join(k->net, a, b);
            elect(k, b);
        }
        if (h->jumps) {
            int c = (int)(hs_rand(&h->rand) % N);
            hold(k, c);
            pause_ms((int64_t)(hs_rand(&h->rand) % 10));
            jump(k, c);
        } else {
            pause_ms((int64_t)(hs_rand(&h->rand) % 15));
        }
        h->rounds++;
    }
    return NULL;
}

static void run_once(bool jumps)
{
    struct cluster *k = start(false);
    uint64_t seed = hs_seed();
    elect(k, 0);
    struct chaos h = {.k = k, .rand = seed, .jumps = jumps};
    enum { W = 2 * N };
    struct writer w[W];
    int ops = hs_scale(jumps ? 400 : 150);
    struct hs_pulse pulse;
    hs_pulse_start(&pulse);
    assert_int_equal(pthread_create(&h.thread, NULL, run_chaos, &h), 0);
    for (int i = 0; i < W; i++) {
        w[i] = (struct writer){.k = k, .node = i % N, .ops = ops, .rand = seed + i, .jumps = jumps};
        assert_int_equal(pthread_create(&w[i].thread, NULL, run_writer, &w[i]), 0);
    }
    int unknown = 0;
    for (int i = 0; i < W; i++) {
        pthread_join(w[i].thread, NULL);
        unknown += w[i].unknown;
    }
    atomic_store(&h.stop, true);
    pthread_join(h.thread, NULL);
    int64_t still_ms = hs_pulse_stop(&pulse);
    elect(k, 0);
    // Every event once, on every server.
    kl_rev rev = hs_put(&k->c[1], "end", "", -1);
    assert_true(rev > 0);
    for (int i = 0; i < N; i++) {
        struct hs_watch watch = {0};
        hs_watch_start(&watch, &k->c[i], "w/", "w0", 1);
        hs_watch_wait_rev(&watch, rev);
        assert_true(watch.n + (size_t)unknown >= (size_t)(W * ops));
        assert_true(watch.n <= (size_t)(W * ops));
        for (size_t e = 0; e < watch.n; e++)
            assert_int_equal(watch.ev[e].version, 1);
        hs_watch_fini(&watch);
    }
    printf("%d rounds, %d unknown; stood still for %lld ms\n", h.rounds, unknown,
           (long long)still_ms);
    assert_true(jumps || !unknown || still_ms > HS_PULSE_STILL_MS); // nobody was away for so long
    stop(k);
}

static void exactly_once(void **state)
{
    run_once(false);
}

// Once or, where a state was installed over it, nobody knows; never twice.
static void at_most_once(void **state)
{
    run_once(true);
}

// Messages get lost without a word: silence is noticed, and nothing runs twice.
static void silent_losses(void **state)
{
    struct cluster *k = start(false);
    elect(k, 0);
    fp_lose(k->net, 100);
    enum { W = N };
    struct writer w[W];
    struct hs_pulse pulse;
    int unknown = 0;
    hs_pulse_start(&pulse);
    for (int i = 0; i < W; i++) {
        w[i] = (struct writer){.k = k, .node = i, .ops = hs_scale(12)};
        assert_int_equal(pthread_create(&w[i].thread, NULL, run_writer, &w[i]), 0);
    }
    for (int i = 0; i < W; i++) {
        pthread_join(w[i].thread, NULL);
        unknown += w[i].unknown;
    }
    if (hs_pulse_stop(&pulse) <= HS_PULSE_STILL_MS)
        assert_int_equal(unknown, 0);
    fp_lose(k->net, 0);
    stop(k);
}

// Stopped in the middle: everything is answered.
static void stop_in_between(void **state)
{
    struct cluster *k = start(false);
    elect(k, 0);
    struct kl_bytes *v = kl_bytes_new(KL_STR("v"));
    enum { M = 500 };
    struct late *l = calloc(M, sizeof(*l));
    for (int i = 0; i < M; i++) {
        l[i].op = put("s", v);
        hs_run(&k->c[1 + i % 2], submit_late, &l[i]);
    }
    for (int i = 0; i < N; i++)
        hs_client_detach(&k->c[i]);
    for (int i = 0; i < N; i++) {
        kl_store_stop(k->hs[i].s);
        k->hs[i].s = NULL;
    }
    for (int i = 0; i < M; i++) {
        wait_late(k, &l[i], 0);
        int code = l[i].txn.code;
        assert_true(code == 0 || code == KL_ECANCELED || code == KL_EMAYBE);
        kl_txn_fini(&l[i].txn);
    }
    free(l);
    kl_bytes_unref(v);
    stop(k);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_results),
        cmocka_unit_test(attachments_come_back),
        cmocka_unit_test(leases),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(jumps),
        cmocka_unit_test(at_most_once),
        cmocka_unit_test(exactly_once),
        cmocka_unit_test(silent_losses),
        cmocka_unit_test(stop_in_between),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(many_rows_in_doubt),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
