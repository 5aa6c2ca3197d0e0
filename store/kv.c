// SPDX-License-Identifier: Apache-2.0
#include "store/backend.h"
#include <stdlib.h>

struct kl_kv *kl_kv_new(struct kl_str key, struct kl_bytes *value)
{
    if (key.n >= UINT32_MAX)
        return NULL;
    struct kl_kv *kv = malloc(sizeof(*kv) + key.n + 1);
    if (!kv)
        return NULL;
    memset(kv, 0, sizeof(*kv));
    atomic_init(&kv->refs, 1);
    kv->key_len = (uint32_t)key.n;
    if (key.n)
        memcpy(kv->key, key.p, key.n);
    kv->key[key.n] = 0;
    kv->value = kl_bytes_ref(value);
    return kv;
}

void kl_home_unref(struct kl_home *h)
{
    if (h && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1)
        free(h);
}

static void count(struct kl_kv *kv, long long sign)
{
    if (kv->value && !kl_bytes_is_outside(kv->value))
        atomic_fetch_add_explicit(&kv->home->values, sign * (long long)kv->value->n,
                                  memory_order_relaxed);
}

static void count_attached(const struct kl_kv *kv, long long n)
{
    if (kv->home && n)
        atomic_fetch_add_explicit(&kv->home->attached, n, memory_order_relaxed);
}

static long long size_of(const struct kl_kv *kv, int slot, const void *p)
{
    return kv->hooks && kv->hooks->size[slot] ? (long long)kv->hooks->size[slot](p) : 0;
}

void kl_kv_grow(const struct kl_kv *kv, ptrdiff_t n)
{
    count_attached(kv, (long long)n);
}

void kl_kv_charge(struct kl_kv *kv, struct kl_home *home)
{
    kv->home = home;
    atomic_fetch_add_explicit(&home->refs, 1, memory_order_relaxed);
    count(kv, 1);
}

struct kl_kv *kl_kv_ref(struct kl_kv *kv)
{
    if (kv)
        atomic_fetch_add_explicit(&kv->refs, 1, memory_order_relaxed);
    return kv;
}

void kl_kv_unref(struct kl_kv *kv)
{
    if (!kv || atomic_fetch_sub_explicit(&kv->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < KL_KV_ATTACH; i++) {
        void *p = atomic_load_explicit(&kv->attach[i], memory_order_relaxed);
        if (p && kv->hooks && kv->hooks->free[i]) {
            count_attached(kv, -size_of(kv, i, p));
            kv->hooks->free[i](p);
        }
    }
    if (kv->home) {
        count(kv, -1);
        kl_home_unref(kv->home);
    }
    kl_bytes_unref(kv->value);
    free(kv);
}

void *kl_kv_attach(struct kl_kv *kv, int slot, void *p)
{
    void *there = NULL;
    long long size = size_of(kv, slot, p); // once it hangs there others may let it grow
    if (atomic_compare_exchange_strong_explicit(&kv->attach[slot], &there, p, memory_order_acq_rel,
                                                memory_order_acquire)) {
        count_attached(kv, size);
        return p;
    }
    return there;
}

struct kl_str kl_prefix_end(struct kl_str prefix, char *buf)
{
    size_t n = prefix.n;
    while (n && (unsigned char)prefix.p[n - 1] == 0xff)
        n--;
    if (!n) {
        buf[0] = 0;
        return (struct kl_str){buf, 1};
    }
    memcpy(buf, prefix.p, n);
    buf[n - 1]++;
    return (struct kl_str){buf, n};
}

bool kl_range_has(struct kl_str key, struct kl_str end, struct kl_str k)
{
    if (!end.n)
        return kl_str_eq(key, k);
    if (kl_str_cmp(k, key) < 0)
        return false;
    return (end.n == 1 && end.p[0] == 0) || kl_str_cmp(k, end) < 0;
}
