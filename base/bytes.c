// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"
#include <stdlib.h>

struct kl_bytes *kl_bytes_alloc(size_t n)
{
    if (n > UINT32_MAX)
        return NULL;
    struct kl_bytes *b = malloc(sizeof(*b) + n);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->n = (uint32_t)n;
    b->p = (char *)(b + 1);
    return b;
}

struct outside {
    struct kl_bytes bytes;
    void (*release)(void *owner, size_t n);
    void *owner;
};

struct kl_bytes *kl_bytes_outside(const char *p, size_t n, void (*release)(void *owner, size_t n),
                                  void *owner)
{
    struct outside *o = n > UINT32_MAX ? NULL : malloc(sizeof(*o));
    if (!o)
        return NULL;
    o->bytes = (struct kl_bytes){.n = (uint32_t)n, .p = (char *)p};
    atomic_init(&o->bytes.refs, 1);
    o->release = release;
    o->owner = owner;
    return &o->bytes;
}

bool kl_bytes_is_outside(const struct kl_bytes *b)
{
    return b && b->p != (const char *)(b + 1);
}

void *kl_bytes_owner(const struct kl_bytes *b)
{
    return kl_bytes_is_outside(b) ? ((const struct outside *)b)->owner : NULL;
}

struct kl_bytes *kl_bytes_new(struct kl_str s)
{
    struct kl_bytes *b = kl_bytes_alloc(s.n);
    if (b && s.n)
        memcpy(b->p, s.p, s.n);
    return b;
}

struct kl_bytes *kl_bytes_from_buf(const struct kl_buf *b)
{
    return b->err ? NULL : kl_bytes_new(kl_buf_str(b));
}

struct kl_bytes *kl_bytes_ref(struct kl_bytes *b)
{
    if (b)
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void kl_bytes_unref(struct kl_bytes *b)
{
    // acq_rel rather than a fence before free: ThreadSanitizer does not model fences.
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (kl_bytes_is_outside(b)) {
        struct outside *o = (struct outside *)b;
        o->release(o->owner, b->n);
    }
    free(b);
}
