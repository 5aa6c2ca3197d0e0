// SPDX-License-Identifier: Apache-2.0
#include "scheduler/cache.h"
#include "object/quantity.h"
#include <stdlib.h>

void kl_cache_init(struct kl_cache *c)
{
    memset(c, 0, sizeof(*c));
    kl_map_init(&c->nodes);
    kl_map_init(&c->pods);
}

static void free_node(struct kl_node_info *n)
{
    kl_node_amounts_fini(&n->allocatable);
    kl_node_amounts_fini(&n->requested);
    kl_object_unref(n->node);
    free(n->pods);
    free(n);
}

void kl_cache_fini(struct kl_cache *c)
{
    KL_MAP_EACH (&c->pods, e)
        kl_pod_info_free(e->value);
    KL_MAP_EACH (&c->nodes, e)
        free_node(e->value);
    kl_map_fini(&c->pods);
    kl_map_fini(&c->nodes);
    free(c->list);
}

struct kl_node_info *kl_cache_node(const struct kl_cache *c, struct kl_str name)
{
    return kl_map_get(&c->nodes, name);
}

static struct kl_node_info *find_or_make(struct kl_cache *c, struct kl_str name)
{
    struct kl_node_info *n = kl_map_get(&c->nodes, name);
    if (n)
        return n;
    n = calloc(1, sizeof(*n) + name.n + 1);
    if (!n)
        return NULL;
    memcpy(n + 1, name.p, name.n);
    n->name = (struct kl_str){(char *)(n + 1), name.n};
    if (kl_map_set(&c->nodes, name, n, NULL) < 0) {
        free(n);
        return NULL;
    }
    return n;
}

// ---- nodes

static int list_node(struct kl_cache *c, struct kl_node_info *n)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        struct kl_node_info **list = realloc(c->list, cap * sizeof(struct kl_node_info *));
        if (!list)
            return KL_ENOMEM;
        c->list = list;
        c->cap = cap;
    }
    n->index = c->n;
    c->list[c->n++] = n;
    return 0;
}

static void unlist_node(struct kl_cache *c, struct kl_node_info *n)
{
    struct kl_node_info *last = c->list[--c->n];
    c->list[n->index] = last;
    last->index = n->index;
}

static void drop_if_unused(struct kl_cache *c, struct kl_node_info *n)
{
    if (n->node || n->npods)
        return;
    kl_map_del(&c->nodes, n->name);
    free_node(n);
}

int kl_cache_set_node(struct kl_cache *c, struct kl_object *node)
{
    const struct kl_value *root = &node->root;
    struct kl_node_info *n = find_or_make(c, kl_meta_name(root));
    if (!n)
        return KL_ENOMEM;
    const struct kl_value *allocatable = kl_path(root, KL_F_status, KL_F_allocatable);
    struct kl_amounts a = {0};
    if (kl_node_amounts_read(&a, allocatable) < 0 || (!n->node && list_node(c, n) < 0)) {
        kl_node_amounts_fini(&a);
        drop_if_unused(c, n);
        return KL_ENOMEM;
    }
    kl_node_amounts_fini(&n->allocatable);
    n->allocatable = a; // its names are the new object's
    n->max_pods = kl_quantity_value_of(kl_text(kl_map_value(allocatable, KL_STR("pods"))));
    n->unschedulable = kl_true_at(root, KL_F_spec, KL_F_unschedulable);
    n->tainted = kl_len(kl_path(root, KL_F_spec, KL_F_taints)) != 0;
    kl_object_ref(node);
    kl_object_unref(n->node);
    n->node = node;
    return 0;
}

void kl_cache_remove_node(struct kl_cache *c, struct kl_str name)
{
    struct kl_node_info *n = kl_map_get(&c->nodes, name);
    if (!n || !n->node)
        return;
    unlist_node(c, n);
    kl_node_amounts_fini(&n->allocatable);
    n->allocatable = (struct kl_amounts){0};
    kl_object_unref(n->node);
    n->node = NULL;
    drop_if_unused(c, n);
}

// ---- pods

static void sum_scalars(struct kl_node_info *n)
{
    // Rebuilt rather than changed, so that the names never outlive the pods they stand in.
    kl_node_amounts_fini(&n->requested);
    for (size_t i = 0; i < n->npods; i++) {
        const struct kl_amounts *r = &n->pods[i]->requests;
        for (uint32_t s = 0; s < r->nscalars; s++) {
            struct kl_str name = r->scalars[s].name;
            // Out of memory: the node looks emptier than it is; the kubelet checks again.
            kl_node_amounts_set(&n->requested, name,
                                kl_node_amounts_get(&n->requested, name) + r->scalars[s].n);
        }
    }
}

static void count_pod(struct kl_node_info *n, const struct kl_pod_info *p, int sign)
{
    n->requested.cpu_milli += sign * p->requests.cpu_milli;
    n->requested.memory += sign * p->requests.memory;
    n->requested.ephemeral += sign * p->requests.ephemeral;
    n->nonzero_cpu_milli += sign * p->nonzero_cpu_milli;
    n->nonzero_memory += sign * p->nonzero_memory;
    n->nports += (uint32_t)(sign * (int)p->nports);
    if (p->requests.nscalars)
        sum_scalars(n);
}

static int put_on_node(struct kl_node_info *n, struct kl_pod_info *p)
{
    if (n->npods == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 8;
        struct kl_pod_info **pods = realloc(n->pods, cap * sizeof(struct kl_pod_info *));
        if (!pods)
            return KL_ENOMEM;
        n->pods = pods;
        n->cap = cap;
    }
    p->node = n;
    p->node_pos = n->npods;
    n->pods[n->npods++] = p;
    count_pod(n, p, 1);
    return 0;
}

static void take_off_node(struct kl_cache *c, struct kl_pod_info *p)
{
    struct kl_node_info *n = p->node;
    struct kl_pod_info *last = n->pods[--n->npods];
    n->pods[p->node_pos] = last;
    last->node_pos = p->node_pos;
    p->node = NULL;
    count_pod(n, p, -1);
    drop_if_unused(c, n);
}

int kl_cache_assume(struct kl_cache *c, struct kl_pod_info *info, struct kl_node_info *node)
{
    kl_cache_remove_pod(c, info->uid);
    if (kl_map_set(&c->pods, info->uid, info, NULL) < 0)
        return KL_ENOMEM;
    if (put_on_node(node, info) < 0) {
        kl_map_del(&c->pods, info->uid);
        return KL_ENOMEM;
    }
    info->assumed = true;
    return 0;
}

int kl_cache_set_pod(struct kl_cache *c, struct kl_object *pod)
{
    struct kl_str name = kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName);
    struct kl_pod_info *p = kl_pod_info_new(pod);
    if (!p)
        return KL_ENOMEM;
    // Found first: removing the old one may drop a node that only pods name.
    kl_cache_remove_pod(c, p->uid);
    struct kl_node_info *n = find_or_make(c, name);
    if (!n || kl_map_set(&c->pods, p->uid, p, NULL) < 0) {
        if (n)
            drop_if_unused(c, n);
        kl_pod_info_free(p);
        return KL_ENOMEM;
    }
    if (put_on_node(n, p) < 0) {
        kl_map_del(&c->pods, p->uid);
        drop_if_unused(c, n);
        kl_pod_info_free(p);
        return KL_ENOMEM;
    }
    return 0;
}

bool kl_cache_remove_pod(struct kl_cache *c, struct kl_str uid)
{
    struct kl_pod_info *p = kl_map_del(&c->pods, uid);
    if (!p)
        return false;
    take_off_node(c, p);
    kl_pod_info_free(p);
    return true;
}

void kl_cache_forget(struct kl_cache *c, struct kl_str uid)
{
    const struct kl_pod_info *p = kl_map_get(&c->pods, uid);
    if (p && p->assumed)
        kl_cache_remove_pod(c, uid);
}

bool kl_cache_has_pod(const struct kl_cache *c, struct kl_str uid)
{
    return kl_map_get(&c->pods, uid) != NULL;
}
