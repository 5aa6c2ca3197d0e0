// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/fence.h"
#include "store/wait.h"
#include <stdio.h>

static const struct kl_str key = KL_STR_INIT(KL_FENCE_KEY);

// The fence as it is: a reference, or NULL.
static int find(struct kl_store *s, struct kl_kv **ret_kv, struct kl_error *err)
{
    struct kl_op get = {.kind = KL_OP_GET, .key = key};
    struct kl_txn txn = {.body = {.then = &get, .nthen = 1}};
    int r = kl_store_run_txn(s, &txn, 0, err);
    *ret_kv = r ? NULL : kl_kv_ref(get.kv);
    kl_txn_fini(&txn);
    return r;
}

// What is left of a fence that is not there: nothing depends on it.
static void revoke_lease(struct kl_store *s, int64_t lease)
{
    struct kl_lease_req q = {.kind = KL_LEASE_REVOKE, .id = lease};
    if (lease)
        kl_store_run_lease(s, &q, NULL);
    kl_lease_req_fini(&q);
}

static int put(struct kl_store *s, struct kl_compare when, const char *why, int64_t lease,
               bool *ret_done, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_bytes *value = kl_bytes_new(kl_str(why));
    if (!value)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_op op = {.kind = KL_OP_PUT, .key = key, .value = value, .lease = lease};
    struct kl_txn txn = {.body = {.compares = &when, .ncompares = 1, .then = &op, .nthen = 1}};
    int r = kl_store_run_txn(s, &txn, 0, err);
    *ret_done = txn.body.succeeded;
    *ret_rev = txn.rev;
    kl_txn_fini(&txn);
    kl_bytes_unref(value);
    return r;
}

int kl_fence_take(struct kl_store *s, int64_t ms, const char *why, kl_rev *ret_rev,
                  struct kl_error *err)
{
    struct kl_lease_req q = {.kind = KL_LEASE_GRANT, .ttl_s = (ms + 999) / 1000};
    int r = kl_store_run_lease(s, &q, err);
    int64_t lease = q.id;
    bool done = false;
    kl_lease_req_fini(&q);
    if (r)
        return r;
    r = put(s, (struct kl_compare){.key = key, .target = KL_COMPARE_CREATE}, why, lease, &done,
            ret_rev, err);
    if (!r && !done)
        r = kl_error_set(err, KL_EUNAVAILABLE, "the datastore is being moved by somebody else");
    if (r && r != KL_EMAYBE)
        revoke_lease(s, lease);
    return r;
}

int kl_fence_renew(struct kl_store *s, kl_rev rev, struct kl_error *err)
{
    struct kl_kv *kv;
    int r = find(s, &kv, err);
    if (r)
        return r;
    struct kl_lease_req q = {.kind = KL_LEASE_KEEPALIVE};
    q.id = kv && kv->mod_rev == rev ? kv->lease : 0;
    r = q.id ? kl_store_run_lease(s, &q, err) : KL_ENOTFOUND;
    kl_lease_req_fini(&q);
    kl_kv_unref(kv);
    return r == KL_ENOTFOUND ? kl_error_set(err, KL_ECONFLICT, "the fence has ended") : r;
}

// Whether an earlier call of keep did it, whose answer was lost.
static int was_kept(struct kl_store *s, kl_rev rev, const char *why, bool *ret_yes,
                    struct kl_error *err)
{
    struct kl_buf text;
    kl_rev mod = 0;
    kl_buf_init(&text, 64 << 10);
    int r = kl_store_run_get(s, key, 0, &text, &mod, err);
    *ret_yes = !r && mod == rev + 1 && kl_str_eqz(kl_buf_str(&text), why);
    kl_buf_fini(&text);
    return r;
}

int kl_fence_keep(struct kl_store *s, kl_rev rev, const char *why, struct kl_error *err)
{
    kl_rev at = 0;
    bool done = false;
    int r = put(s, (struct kl_compare){.key = key, .target = KL_COMPARE_MOD, .num = rev}, why, 0,
                &done, &at, err);
    if (!r && !done)
        r = was_kept(s, rev, why, &done, err);
    if (!r && !done)
        r = kl_error_set(err, KL_ECONFLICT, "the fence has ended");
    return r;
}

int kl_fence_lift(struct kl_store *s, kl_rev rev, struct kl_error *err)
{
    struct kl_op del = {.kind = KL_OP_DELETE, .key = key};
    struct kl_compare when = {.key = key,
                              .target = KL_COMPARE_MOD,
                              .result = rev ? KL_COMPARE_EQ : KL_COMPARE_GT,
                              .num = rev};
    struct kl_txn txn = {.body = {.compares = &when, .ncompares = 1, .then = &del, .nthen = 1}};
    int r = kl_store_run_txn(s, &txn, 0, err);
    bool done = txn.body.succeeded;
    int64_t lease = !r && del.prev ? del.prev->lease : 0;
    kl_txn_fini(&txn);
    if (!r && !done)
        r = kl_error_set(err, KL_ENOTFOUND, "the datastore is not held off from writes");
    revoke_lease(s, lease);
    return r;
}

int kl_fence_reason(struct kl_access *a, char *ret, size_t n, struct kl_error *err)
{
    struct kl_view *v;
    ret[0] = 0;
    int r = kl_access_view(a, &v, err);
    if (r)
        return r;
    struct kl_kv *kv = kl_view_get(v, key);
    if (kv)
        snprintf(ret, n, "%.*s", KL_PRI(kl_kv_value(kv)));
    kl_view_unref(v);
    return 0;
}
