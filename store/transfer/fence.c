// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/fence.h"
#include <stdio.h>

static const struct kl_str key = KL_STR_INIT(KL_FENCE_KEY);

// The fence as it is: a reference, or NULL.
static int find(struct kl_access *a, struct kl_kv **ret_kv, struct kl_error *err)
{
    struct kl_op get = {.kind = KL_OP_GET, .key = key};
    struct kl_access_txn c = {.txn.body = {.then = &get, .nthen = 1}};
    int r = kl_access_txn(a, &c, err);
    *ret_kv = r ? NULL : kl_kv_ref(get.kv);
    kl_txn_fini(&c.txn);
    return r;
}

// What is left of a fence that is not there: nothing depends on it.
static void revoke_lease(struct kl_access *a, int64_t lease)
{
    struct kl_access_lease_call c = {.q = {.kind = KL_LEASE_REVOKE, .id = lease}};
    if (lease)
        kl_access_lease(a, &c, NULL);
    kl_lease_req_fini(&c.q);
}

static int put(struct kl_access *a, struct kl_compare when, const char *why, int64_t lease,
               bool *ret_done, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_bytes *value = kl_bytes_new(kl_str(why));
    if (!value)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_op op = {.kind = KL_OP_PUT, .key = key, .value = value, .lease = lease};
    struct kl_access_txn c = {
        .txn.body = {.compares = &when, .ncompares = 1, .then = &op, .nthen = 1}};
    int r = kl_access_txn(a, &c, err);
    *ret_done = c.txn.body.succeeded;
    *ret_rev = c.txn.rev;
    kl_txn_fini(&c.txn);
    kl_bytes_unref(value);
    return r;
}

int kl_fence_take(struct kl_access *a, int64_t ms, const char *why, kl_rev *ret_rev,
                  struct kl_error *err)
{
    struct kl_access_lease_call c = {.q = {.kind = KL_LEASE_GRANT, .ttl_s = (ms + 999) / 1000}};
    int r = kl_access_lease(a, &c, err);
    int64_t lease = c.q.id;
    bool done = false;
    kl_lease_req_fini(&c.q);
    if (r)
        return r;
    r = put(a, (struct kl_compare){.key = key, .target = KL_COMPARE_CREATE}, why, lease, &done,
            ret_rev, err);
    if (!r && !done)
        r = kl_error_set(err, KL_EUNAVAILABLE, "the datastore is being moved by somebody else");
    if (r && r != KL_EMAYBE)
        revoke_lease(a, lease);
    return r;
}

int kl_fence_renew(struct kl_access *a, kl_rev rev, struct kl_error *err)
{
    struct kl_kv *kv;
    int r = find(a, &kv, err);
    if (r)
        return r;
    struct kl_access_lease_call c = {.q.kind = KL_LEASE_KEEPALIVE};
    c.q.id = kv && kv->mod_rev == rev ? kv->lease : 0;
    r = c.q.id ? kl_access_lease(a, &c, err) : KL_ENOTFOUND;
    kl_lease_req_fini(&c.q);
    kl_kv_unref(kv);
    return r == KL_ENOTFOUND ? kl_error_set(err, KL_ECONFLICT, "the fence has ended") : r;
}

// Whether an earlier call of keep did it, whose answer was lost.
static int was_kept(struct kl_access *a, kl_rev rev, const char *why, bool *ret_yes,
                    struct kl_error *err)
{
    struct kl_kv *kv;
    char text[512];
    int r = find(a, &kv, err);
    *ret_yes = !r && kv && !kv->lease && kv->mod_rev == rev + 1 && kv->version == 2;
    kl_kv_unref(kv);
    if (*ret_yes)
        r = kl_fence_reason(a, text, sizeof(text), err);
    *ret_yes = *ret_yes && kl_str_eqz(kl_str(text), why);
    return r;
}

int kl_fence_keep(struct kl_access *a, kl_rev rev, const char *why, struct kl_error *err)
{
    kl_rev at = 0;
    bool done = false;
    int r = put(a, (struct kl_compare){.key = key, .target = KL_COMPARE_MOD, .num = rev}, why, 0,
                &done, &at, err);
    if (!r && !done)
        r = was_kept(a, rev, why, &done, err);
    if (!r && !done)
        r = kl_error_set(err, KL_ECONFLICT, "the fence has ended");
    return r;
}

int kl_fence_lift(struct kl_access *a, kl_rev rev, struct kl_error *err)
{
    struct kl_op del = {.kind = KL_OP_DELETE, .key = key};
    struct kl_compare when = {.key = key,
                              .target = KL_COMPARE_MOD,
                              .result = rev ? KL_COMPARE_EQ : KL_COMPARE_GT,
                              .num = rev};
    struct kl_access_txn c = {
        .txn.body = {.compares = &when, .ncompares = 1, .then = &del, .nthen = 1}};
    int r = kl_access_txn(a, &c, err);
    bool done = c.txn.body.succeeded;
    int64_t lease = !r && del.prev ? del.prev->lease : 0;
    kl_txn_fini(&c.txn);
    if (!r && !done)
        r = kl_error_set(err, KL_ENOTFOUND, "the datastore is not held off from writes");
    revoke_lease(a, lease);
    return r;
}

int kl_fence_reason(struct kl_access *a, char *ret, size_t n, struct kl_error *err)
{
    struct kl_view *v;
    struct kl_bytes *value = NULL;
    ret[0] = 0;
    int r = kl_access_view(a, &v, err);
    if (r)
        return r;
    struct kl_kv *kv = kl_view_get(v, key);
    if (kv && !(r = kl_access_value(a, kv, &value, err)))
        snprintf(ret, n, "%.*s", KL_PRI(kl_bytes_str(value)));
    kl_bytes_unref(value);
    kl_view_unref(v);
    return r;
}
