// SPDX-License-Identifier: Apache-2.0
// What discovery and OpenAPI, on any loop, show of the servers that available.c asks.
#include "apiserver/aggregate/aggregate_int.h"
#include <stdlib.h>

// ---- for discovery

static int by_priority(const void *a, const void *b)
{
    const struct kl_aggregate_item *x = *(struct kl_aggregate_item *const *)a;
    const struct kl_aggregate_item *y = *(struct kl_aggregate_item *const *)b;
    if (x->group_priority != y->group_priority)
        return x->group_priority > y->group_priority ? -1 : 1;
    int c = strcmp(x->group, y->group);
    if (c)
        return c;
    if (x->version_priority != y->version_priority)
        return x->version_priority > y->version_priority ? -1 : 1;
    return strcmp(x->version, y->version);
}

size_t kl_aggregate_groups(struct kl_req *r, struct kl_aggregate_group **ret)
{
    struct kl_aggregate *g = r->srv->aggregate;
    struct kl_aggregate_item *sorted[KL_AGGREGATE_MAX];
    size_t n = 0, groups = 0;
    *ret = NULL;
    if (!g || !g->nitems)
        return 0;
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->nitems; i++)
        if (g->items[i]->group[0])
            sorted[n++] = g->items[i];
    qsort(sorted, n, sizeof *sorted, by_priority);
    struct kl_aggregate_group *list = kl_arena_zalloc(r->arena, (n + 1) * sizeof *list);
    struct kl_aggregate_version *versions = kl_arena_zalloc(r->arena, (n + 1) * sizeof *versions);
    for (size_t i = 0; list && versions && i < n; i++) {
        struct kl_aggregate_item *x = sorted[i];
        if (!i || strcmp(x->group, sorted[i - 1]->group))
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

struct ranked {
    struct kl_remote_doc *doc;
    int64_t priority; // of the group: the highest of its versions
    const char *name;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->priority != y->priority ? (x->priority > y->priority ? -1 : 1)
                                      : strcmp(x->name, y->name);
}

static int64_t priority_of(const struct kl_aggregate *g, const char *group)
{
    int64_t found = INT64_MIN;
    for (size_t i = 0; i < g->nitems; i++)
        if (!strcmp(g->items[i]->group, group) && g->items[i]->group_priority > found)
            found = g->items[i]->group_priority;
    return found;
}

size_t kl_aggregate_documents(struct kl_req *r, struct kl_remote_doc ***ret)
{
    struct kl_aggregate *g = r->srv->aggregate;
    struct ranked sorted[KL_AGGREGATE_MAX];
    size_t n = 0;
    *ret = NULL;
    if (!g || !g->nitems)
        return 0;
    uv_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->nitems; i++)
        if (g->items[i]->document)
            sorted[n++] = (struct ranked){g->items[i]->document, priority_of(g, g->items[i]->group),
                                          g->items[i]->name};
    qsort(sorted, n, sizeof *sorted, by_rank);
    *ret = kl_arena_zalloc(r->arena, (n + 1) * sizeof **ret);
    n = *ret ? n : 0;
    for (size_t i = 0; i < n; i++)
        (*ret)[i] = kl_remote_doc_ref(sorted[i].doc);
    uv_mutex_unlock(&g->lock);
    return n;
}
