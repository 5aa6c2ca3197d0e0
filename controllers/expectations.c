// SPDX-License-Identifier: Apache-2.0
#include "controllers/expectations.h"
#include <stdlib.h>

struct expected {
    int creations;
    struct kl_map deletions; // uids
    int64_t since_ms;
};

void kl_expectations_init(struct kl_expectations *e)
{
    kl_map_init(&e->map);
}

static void free_expected(struct expected *x)
{
    kl_map_fini(&x->deletions);
    free(x);
}

void kl_expectations_fini(struct kl_expectations *e)
{
    KL_MAP_EACH (&e->map, m)
        free_expected(m->value);
    kl_map_fini(&e->map);
}

// NULL when memory ran out: nothing is expected then, and the worst is one pod too many for a
// while.
static struct expected *find_or_make(struct kl_expectations *e, struct kl_str owner, int64_t now_ms)
{
    struct expected *x = kl_map_get(&e->map, owner);
    if (!x) {
        x = calloc(1, sizeof(*x));
        if (!x)
            return NULL;
        kl_map_init(&x->deletions);
        if (kl_map_set(&e->map, owner, x, NULL) < 0) {
            free(x);
            return NULL;
        }
    }
    x->since_ms = now_ms;
    return x;
}

void kl_expect_creations(struct kl_expectations *e, struct kl_str owner, int n, int64_t now_ms)
{
    struct expected *x = find_or_make(e, owner, now_ms);
    if (!x)
        return;
    x->creations = n;
    kl_map_fini(&x->deletions);
    kl_map_init(&x->deletions);
}

void kl_expect_deletion(struct kl_expectations *e, struct kl_str owner, struct kl_str uid,
                        bool fresh, int64_t now_ms)
{
    struct expected *x = find_or_make(e, owner, now_ms);
    if (!x)
        return;
    if (fresh) {
        x->creations = 0;
        kl_map_fini(&x->deletions);
        kl_map_init(&x->deletions);
    }
    kl_map_set(&x->deletions, uid, x, NULL);
}

void kl_expectations_created(struct kl_expectations *e, struct kl_str owner)
{
    struct expected *x = kl_map_get(&e->map, owner);
    if (x && x->creations > 0)
        x->creations--;
}

void kl_expectations_deleted(struct kl_expectations *e, struct kl_str owner, struct kl_str uid)
{
    struct expected *x = kl_map_get(&e->map, owner);
    if (x)
        kl_map_del(&x->deletions, uid);
}

void kl_expectations_drop(struct kl_expectations *e, struct kl_str owner)
{
    struct expected *x = kl_map_del(&e->map, owner);
    if (x)
        free_expected(x);
}

bool kl_expectations_met(const struct kl_expectations *e, struct kl_str owner, int64_t now_ms)
{
    const struct expected *x = kl_map_get(&e->map, owner);
    return !x || (x->creations <= 0 && x->deletions.n == 0) ||
           now_ms - x->since_ms > KL_EXPECTATIONS_MS;
}
