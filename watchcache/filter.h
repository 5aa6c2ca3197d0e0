// SPDX-License-Identifier: Apache-2.0
// What part of a resource a LIST or WATCH wants, and the walk over it.
#pragma once
#include "object/selector.h"
#include "watchcache/cache.h"

// Selectors and strings are borrowed for as long as the filter is used.
struct kl_filter {
    const struct kl_resource *res; // the row that was asked for
    struct kl_str ns;              // empty: all
    struct kl_str name;            // not empty: only this one (and only when ns is given or the
                                   // resource is cluster-scoped)
    const struct kl_selector *labels, *fields; // NULL or n == 0: all
};

// "/registry/pods/ns/name", "/registry/pods/ns/", "/registry/pods/" in the arena; p NULL: no
// memory.
struct kl_str kl_filter_prefix(struct kl_arena *a, const struct kl_filter *f);
struct kl_str kl_object_key(struct kl_arena *a, const struct kl_resource *res, struct kl_str ns,
                            struct kl_str name);

static inline bool kl_filter_is_open(const struct kl_filter *f)
{
    return (!f->labels || (!f->labels->n && !f->labels->nothing)) && (!f->fields || !f->fields->n);
}
bool kl_filter_matches(const struct kl_filter *f, const struct kl_object *o);
