// SPDX-License-Identifier: Apache-2.0
// What discovery and OpenAPI, on any loop, show of the servers that available.c asks.
#include "apiserver/aggregate/aggregate_int.h"
#include "object/custom.h"
#include <stdlib.h>

struct ranked {
    struct kl_aggregate_item *item;
    int64_t priority; // of the group: the highest of its versions
};

static int by_group(const struct ranked *x, const struct ranked *y)
{
    return x->priority != y->priority ? (x->priority > y->priority ? -1 : 1)
                                      : strcmp(x->item->group, y->item->group);
}

// apiregistration's SortedByGroupAndVersion.
static int by_version(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int c = by_group(x, y);
    if (c)
        return c;
    if (x->item->version_priority != y->item->version_priority)
        return x->item->version_priority > y->item->version_priority ? -1 : 1;
    return -kl_version_compare(x->item->version, y->item->version);
}

// The aggregator's sortByPriority, which compares versions of a group by the objects' names.
static int by_name(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->priority != y->priority ? (x->priority > y->priority ? -1 : 1)
                                      : strcmp(x->item->name, y->item->name);
}

// Under the lock.
static size_t rank(const struct kl_aggregate *g, struct ranked *ret,
                   int (*order)(const void *a, const void *b))
{
    size_t n = 0;
    for (size_t i = 0; i < g->nitems; i++)
        if (g->items[i]->version[0]) // it was seen
            ret[n++] = (struct ranked){g->items[i], g->items[i]->group_priority};
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            if (ret[k].item->group_priority > ret[i].priority &&
                !strcmp(ret[k].item->group, ret[i].item->group))
                ret[i].priority = ret[k].item->group_priority;
    qsort(ret, n, sizeof *ret, order);
    return n;
}

// ---- for discovery

size_t kl_aggregate_groups(struct kl_req *r, struct kl_aggregate_group **ret)
{
    struct kl_aggregate *g = r->srv->aggregate;
    struct ranked sorted[KL_AGGREGATE_MAX];
    size_t n, groups = 0;
    *ret = NULL;
    if (!g || !g->nitems)
        return 0;
    uv_mutex_lock(&g->lock);
    n = rank(g, sorted, by_version);
    struct kl_aggregate_group *list = kl_arena_zalloc(r->arena, (n + 1) * sizeof *list);
    struct kl_aggregate_version *versions = kl_arena_zalloc(r->arena, (n + 1) * sizeof *versions);
    for (size_t i = 0; list && versions && i < n; i++) {
        struct kl_aggregate_item *x = sorted[i].item;
        if (!i || by_group(&sorted[i], &sorted[i - 1]))
            list[groups++] = (struct kl_aggregate_group){
                .name = kl_arena_dup(r->arena, kl_str(x->group)).p, .versions = &versions[i]};
        versions[i] =
            (struct kl_aggregate_version){.version = kl_arena_dup(r->arena, kl_str(x->version)).p,
                                          .current = x->current,
                                          .resources = kl_bytes_ref(x->resources),
                                          .openapi = kl_bytes_ref(x->openapi)};
        list[groups - 1].nversions++;
    }
    uv_mutex_unlock(&g->lock);
    *ret = list;
    return groups;
}

void kl_aggregate_groups_done(struct kl_aggregate_group *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < list[i].nversions; k++) {
            kl_bytes_unref(list[i].versions[k].resources);
            kl_bytes_unref(list[i].versions[k].openapi);
        }
}

// ---- for OpenAPI

struct kl_upgraded *kl_aggregate_upgraded(struct kl_apiserver *s, struct kl_str group,
                                          struct kl_str version)
{
    struct kl_aggregate *g = s->aggregate;
    struct kl_upgraded *found = NULL;
    if (!g || !g->nitems)
        return NULL;
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->nitems && !found; i++)
        if (kl_str_eqz(group, g->items[i]->group) && kl_str_eqz(version, g->items[i]->version))
            found = kl_upgraded_ref(g->items[i]->upgraded);
    uv_mutex_unlock(&g->lock);
    return found;
}

size_t kl_aggregate_documents(struct kl_req *r, struct kl_remote_doc ***ret)
{
    struct kl_aggregate *g = r->srv->aggregate;
    struct ranked sorted[KL_AGGREGATE_MAX];
    size_t n, found = 0;
    *ret = NULL;
    if (!g || !g->nitems)
        return 0;
    uv_mutex_lock(&g->lock);
    n = rank(g, sorted, by_name);
    *ret = kl_arena_zalloc(r->arena, (n + 1) * sizeof **ret);
    for (size_t i = 0; *ret && i < n; i++)
        if (sorted[i].item->document)
            (*ret)[found++] = kl_remote_doc_ref(sorted[i].item->document);
    uv_mutex_unlock(&g->lock);
    return found;
}
