// SPDX-License-Identifier: Apache-2.0
#include "object/quota/quota_int.h"
#include "base/buf.h"

enum { TEXT_MAX_BYTES = 1 << 20 };

int kl_quota_names_add(struct kl_arena *a, struct kl_quota_names *l, struct kl_str s)
{
    size_t at = 0;
    while (at < l->n && kl_str_cmp(l->v[at], s) < 0)
        at++;
    if (at < l->n && kl_str_eq(l->v[at], s))
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct kl_str *v = kl_arena_alloc(a, cap * sizeof *v);
        if (!v)
            return KL_ENOMEM;
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    memmove(l->v + at + 1, l->v + at, (l->n - at) * sizeof *l->v);
    l->v[at] = s;
    l->n++;
    return 0;
}

struct kl_str kl_quota_names_joined(struct kl_arena *a, const struct kl_quota_names *l)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < l->n; i++)
        kl_buf_printf(&b, "%s%.*s", i ? "," : "", KL_PRI(l->v[i]));
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s.p ? s : KL_STR("");
}
