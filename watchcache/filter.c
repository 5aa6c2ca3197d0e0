// SPDX-License-Identifier: Apache-2.0
#include "watchcache/filter.h"

struct kl_str kl_object_key(struct kl_arena *a, const struct kl_resource *res, struct kl_str ns,
                            struct kl_str name)
{
    size_t np = strlen(res->etcd_prefix), n = np + 1 + (res->namespaced ? ns.n + 1 : 0) + name.n;
    char *p = kl_arena_alloc(a, n + 1);
    if (!p)
        return (struct kl_str){NULL, 0};
    char *at = p;
    memcpy(at, res->etcd_prefix, np);
    at += np;
    *at++ = '/';
    if (res->namespaced) {
        memcpy(at, ns.p, ns.n);
        at += ns.n;
        *at++ = '/';
    }
    memcpy(at, name.p, name.n);
    at[name.n] = 0;
    return (struct kl_str){p, n};
}

struct kl_str kl_filter_prefix(struct kl_arena *a, const struct kl_filter *f)
{
    if (f->name.n && (f->ns.n || !f->res->namespaced))
        return kl_object_key(a, f->res, f->ns, f->name);
    if (f->res->namespaced && f->ns.n)
        return kl_arena_printf(a, "%s/%.*s/", f->res->etcd_prefix, KL_PRI(f->ns));
    return kl_arena_printf(a, "%s/", f->res->etcd_prefix);
}

bool kl_filter_matches(const struct kl_filter *f, const struct kl_object *o)
{
    if (f->labels && (f->labels->n || f->labels->nothing) &&
        !kl_selector_matches(f->labels, kl_meta_labels(&o->root)))
        return false;
    return !f->fields || !f->fields->n || kl_field_selector_matches(f->res, f->fields, &o->root);
}
