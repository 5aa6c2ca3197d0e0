// SPDX-License-Identifier: Apache-2.0
// The custom kinds that are served, for controllers that look after every kind: follows the
// CustomResourceDefinitions and makes a row for each, in the version that its group prefers, with a
// type that has metadata only. Rows live as long as the set, so that what refers to one that has
// gone (plans under way, the garbage collector's absent owners) finds its name; a definition that
// comes back as it was gets its row again. There are at most KL_KINDS_MAX of them: what comes then
// is not looked after, and the log says so. One loop.
#pragma once
#include "client/reflector.h"

enum { KL_KINDS_MAX = 16384 };

struct kl_kinds;

struct kl_kinds_opts {
    struct kl_client *client;
    struct kl_timers *timers;
    // A kind is served from now on, or no more. May be NULL.
    void (*changed)(void *arg, const struct kl_resource *res, bool served);
    // All kinds that there were at the start have been told. May be NULL.
    void (*synced)(void *arg);
    void *arg;
};

struct kl_kinds *kl_kinds_new(const struct kl_kinds_opts *o); // NULL: no memory
void kl_kinds_free(struct kl_kinds *k);                       // accepts NULL
bool kl_kinds_synced(const struct kl_kinds *k);
// The next served row after *it (start with 0); NULL at the end.
const struct kl_resource *kl_kinds_next(const struct kl_kinds *k, size_t *it);
// The row of a kind that is served in this version too; NULL: none.
const struct kl_resource *kl_kinds_find(const struct kl_kinds *k, struct kl_str group,
                                        struct kl_str version, struct kl_str kind);
static inline bool kl_kind_is_custom(const struct kl_resource *res)
{
    return res < kl_resources || res >= kl_resources + kl_nresources;
}
