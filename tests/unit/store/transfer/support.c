// SPDX-License-Identifier: Apache-2.0
#include "support.h"
#include "store/transfer/access.h"
#include "store/transfer/source.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ts_dir_make(char dir[64])
{
    strcpy(dir, access("/dev/shm", W_OK) ? "/tmp/kl-copy-XXXXXX" : "/dev/shm/kl-copy-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    return remove(path);
}

void ts_dir_remove(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct kl_store *ts_open(const char *url, const struct kl_store_options *o)
{
    struct kl_store *s = NULL;
    struct kl_error err = {0};
    if (kl_store_open(url, o, &s, &err))
        fail_msg("open %s: %s", url, err.msg);
    return s;
}

struct txn_call {
    struct kl_txn txn;
    struct kl_access *a;
};

static struct txn_call *txn_now;

static void txn_done(struct kl_txn *t)
{
    struct txn_call *c = KL_CONTAINER_OF(t, struct txn_call, txn);
    kl_access_done(c->a, 0);
}

static void txn_submit(struct kl_access *a)
{
    int r = kl_store_submit(a->store, &txn_now->txn, &a->err);
    if (r)
        kl_access_done(a, r);
}

// The fence is open in the tests but for those of the fence itself: a refusal is their result.
static kl_rev run_txn(struct kl_store *s, struct kl_op *ops, int n)
{
    struct kl_access a;
    struct kl_error err = {0};
    struct txn_call c = {.txn = {.body = {.then = ops, .nthen = (size_t)n}, .cb = txn_done},
                         .a = &a};
    if (kl_access_open(&a, s, &err))
        fail_msg("%s", err.msg);
    txn_now = &c;
    int r = kl_access_call(&a, txn_submit, &err);
    kl_rev rev = r ? r : c.txn.code ? c.txn.code : c.txn.rev;
    kl_txn_fini(&c.txn);
    kl_access_close(&a);
    return rev;
}

kl_rev ts_put(struct kl_store *s, const char *key, const char *value, int64_t lease)
{
    struct kl_op op = {.kind = value ? KL_OP_PUT : KL_OP_DELETE, .key = kl_str(key)};
    if (value)
        op.value = kl_bytes_new(kl_str(value));
    op.lease = lease;
    kl_rev rev = run_txn(s, &op, 1);
    kl_bytes_unref(op.value);
    return rev;
}

kl_rev ts_put_many(struct kl_store *s, const char *const *keys, int n, const char *value)
{
    struct kl_op ops[16] = {{0}};
    struct kl_bytes *v = kl_bytes_new(kl_str(value));
    for (int i = 0; i < n; i++)
        ops[i] = (struct kl_op){.kind = KL_OP_PUT, .key = kl_str(keys[i]), .value = v};
    kl_rev rev = run_txn(s, ops, n);
    kl_bytes_unref(v);
    return rev;
}

void ts_fill(struct kl_store *s, int n, int times)
{
    enum { AT_ONCE = 16 };
    char keys[AT_ONCE][32], value[64];
    for (int t = 0; t < times; t++) {
        for (int i = 0; i < n; i += AT_ONCE) {
            struct kl_op ops[AT_ONCE] = {{0}};
            int k = 0;
            for (; k < AT_ONCE && i + k < n; k++) {
                snprintf(keys[k], sizeof(keys[k]), "/k/%06d", i + k);
                snprintf(value, sizeof(value), "value %d of %d", t, i + k);
                bool del = t == times - 1 && (i + k) % 7 == 0 && times > 1;
                ops[k].kind = del ? KL_OP_DELETE : KL_OP_PUT;
                ops[k].key = kl_str(keys[k]);
                ops[k].value = del ? NULL : kl_bytes_new(kl_str(value));
            }
            assert_true(run_txn(s, ops, k) > 0);
            for (int j = 0; j < k; j++)
                kl_bytes_unref(ops[j].value);
        }
    }
}

struct lease_call {
    struct kl_lease_req q;
    struct kl_access *a;
};

static struct lease_call *lease_now;

static void lease_done(struct kl_lease_req *q)
{
    struct lease_call *c = KL_CONTAINER_OF(q, struct lease_call, q);
    kl_access_done(c->a, 0);
}

static void lease_submit(struct kl_access *a)
{
    int r = kl_store_lease(a->store, &lease_now->q, &a->err);
    if (r)
        kl_access_done(a, r);
}

static void run_lease(struct kl_store *s, struct kl_lease_req *q)
{
    struct kl_access a;
    struct lease_call c = {.q = *q, .a = &a};
    c.q.cb = lease_done;
    assert_int_equal(kl_access_open(&a, s, NULL), 0);
    lease_now = &c;
    assert_int_equal(kl_access_call(&a, lease_submit, NULL), 0);
    kl_access_close(&a);
    *q = c.q;
}

void ts_lease(struct kl_store *s, int64_t id, int64_t ttl_s)
{
    struct kl_lease_req q = {
        .kind = KL_LEASE_GRANT, .id = id, .ttl_s = ttl_s, .alarm = ttl_s > KL_LEASE_MAX_TTL};
    run_lease(s, &q);
    assert_int_equal(q.code, 0);
}

int64_t ts_lease_left(struct kl_store *s, int64_t id)
{
    struct kl_lease_req q = {.kind = KL_LEASE_TTL, .id = id};
    run_lease(s, &q);
    return q.code ? -1 : q.remaining_ms;
}

struct compact_call {
    struct kl_compact_wait w;
    struct kl_access *a;
};

static struct compact_call *compact_now;

static void compact_done(struct kl_compact_wait *w)
{
    struct compact_call *c = KL_CONTAINER_OF(w, struct compact_call, w);
    kl_access_done(c->a, w->code);
}

static void compact_submit(struct kl_access *a)
{
    int r = kl_store_compact(a->store, &compact_now->w, &a->err);
    if (r)
        kl_access_done(a, r);
}

void ts_compact(struct kl_store *s, kl_rev rev)
{
    struct kl_access a;
    struct compact_call c = {.w = {.rev = rev, .physical = true, .cb = compact_done}, .a = &a};
    assert_int_equal(kl_access_open(&a, s, NULL), 0);
    compact_now = &c;
    assert_int_equal(kl_access_call(&a, compact_submit, NULL), 0);
    kl_access_close(&a);
}

kl_rev ts_rev(struct kl_store *s)
{
    struct kl_store_status st;
    kl_store_status(s, &st);
    return st.rev;
}

void ts_same(struct kl_store *a, struct kl_store *b)
{
    struct kl_access x, y;
    struct kl_view *v, *w;
    struct kl_iter i, j;
    assert_int_equal(kl_access_open(&x, a, NULL), 0);
    assert_int_equal(kl_access_open(&y, b, NULL), 0);
    assert_int_equal(kl_access_view(&x, &v, NULL), 0);
    assert_int_equal(kl_access_view(&y, &w, NULL), 0);
    kl_iter_init(&i, v, KL_STR("\0"), KL_RANGE_TO_LAST);
    kl_iter_init(&j, w, KL_STR("\0"), KL_RANGE_TO_LAST);
    assert_int_equal(i.left, j.left);
    for (struct kl_kv *p, *q; (p = kl_iter_next(&i));) {
        q = kl_iter_next(&j);
        assert_string_equal(p->key, q->key);
        if (!kl_str_eq(kl_kv_value(p), kl_kv_value(q)))
            fail_msg("%s: %.*s and %.*s", p->key, KL_PRI(kl_kv_value(p)), KL_PRI(kl_kv_value(q)));
        assert_int_equal(p->id, q->id);
        assert_int_equal(p->mod_rev, q->mod_rev);
        assert_int_equal(p->create_rev, q->create_rev);
        assert_int_equal(p->version, q->version);
        assert_int_equal(p->lease, q->lease);
    }
    kl_view_unref(v);
    kl_view_unref(w);
    kl_access_close(&x);
    kl_access_close(&y);
}
