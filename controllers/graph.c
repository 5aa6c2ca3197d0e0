// SPDX-License-Identifier: Apache-2.0
#include "controllers/graph.h"
#include "controllers/finalizer.h"
#include <stdlib.h>

void kl_gc_init(struct kl_gc_graph *g)
{
    memset(g, 0, sizeof(*g));
    kl_map_init(&g->nodes);
}

static void free_node(struct kl_gc_node *n)
{
    free(n->api_version);
    free(n->kind);
    free(n->owners);
    free(n->dependents);
    free(n);
}

void kl_gc_fini(struct kl_gc_graph *g)
{
    KL_MAP_EACH (&g->nodes, e)
        free_node(e->value);
    kl_map_fini(&g->nodes);
}

struct kl_gc_node *kl_gc_find(const struct kl_gc_graph *g, struct kl_str uid)
{
    return kl_map_get(&g->nodes, uid);
}

static struct kl_str put_text(char **at, struct kl_str s)
{
    struct kl_str copy = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static struct kl_gc_node *new_node(struct kl_gc_graph *g, const struct kl_resource *res,
                                   struct kl_str uid, struct kl_str ns, struct kl_str name)
{
    struct kl_gc_node *n = calloc(1, sizeof(*n) + uid.n + ns.n + name.n);
    if (!n)
        return NULL;
    char *text = (char *)(n + 1);
    n->res = res;
    n->uid = put_text(&text, uid);
    n->ns = put_text(&text, ns);
    n->name = put_text(&text, name);
    if (kl_map_set(&g->nodes, n->uid, n, NULL) < 0) {
        free(n);
        return NULL;
    }
    return n;
}

// ---- edges

static int add_dependent(struct kl_gc_node *owner, struct kl_gc_node *dependent)
{
    for (uint32_t i = 0; i < owner->ndependents; i++) {
        if (owner->dependents[i] == dependent)
            return 0;
    }
    if (owner->ndependents == owner->dependents_cap) {
        uint32_t cap = owner->dependents_cap ? owner->dependents_cap * 2 : 4;
        struct kl_gc_node **list = realloc(owner->dependents, cap * sizeof(struct kl_gc_node *));
        if (!list)
            return KL_ENOMEM;
        owner->dependents = list;
        owner->dependents_cap = cap;
    }
    owner->dependents[owner->ndependents++] = dependent;
    return 0;
}

// A virtual owner goes with its last dependent.
static void remove_dependent(struct kl_gc_graph *g, struct kl_gc_node *owner,
                             const struct kl_gc_node *dependent)
{
    for (uint32_t i = 0; i < owner->ndependents; i++) {
        if (owner->dependents[i] == dependent) {
            owner->dependents[i] = owner->dependents[--owner->ndependents];
            break;
        }
    }
    if (owner->virtual && owner->ndependents == 0) {
        kl_map_del(&g->nodes, owner->uid);
        free_node(owner);
    }
}

// The same owner may be named twice; it is worked on at its first place only.
static bool is_repeated(const struct kl_gc_owner *owners, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++) {
        if (owners[k].node == owners[i].node)
            return true;
    }
    return false;
}

static bool is_among(const struct kl_gc_owner *owners, uint32_t n, const struct kl_gc_node *node)
{
    for (uint32_t i = 0; i < n; i++) {
        if (owners[i].node == node)
            return true;
    }
    return false;
}

bool kl_gc_blocks(const struct kl_gc_node *dependent, const struct kl_gc_node *owner)
{
    for (uint32_t i = 0; i < dependent->nowners; i++) {
        if (dependent->owners[i].node == owner && dependent->owners[i].block)
            return true;
    }
    return false;
}

static const struct kl_resource *find_kind(const struct kl_gc_graph *g, struct kl_str version,
                                           struct kl_str kind)
{
    struct kl_str group = {"", 0};
    ptrdiff_t slash = kl_str_chr(version, '/');
    if (slash >= 0) {
        group = (struct kl_str){version.p, (size_t)slash};
        version = kl_str_from(version, (size_t)slash + 1);
    }
    const struct kl_resource *res = kl_resource_by_kind(group, version, kind);
    return res || !g->kind ? res : g->kind(g->arg, group, version, kind);
}

static const struct kl_resource *resource_of(const struct kl_gc_graph *g,
                                             const struct kl_value *reference)
{
    return find_kind(g, kl_text(kl_get(reference, KL_F_apiVersion)),
                     kl_text(kl_get(reference, KL_F_kind)));
}

void kl_gc_serve(struct kl_gc_graph *g, const struct kl_resource *res)
{
    KL_MAP_EACH (&g->nodes, e) {
        struct kl_gc_node *n = e->value;
        if (n->res || !n->kind || !n->api_version ||
            find_kind(g, kl_str(n->api_version), kl_str(n->kind)) != res)
            continue;
        n->res = res;
        if (!res->namespaced)
            n->ns.n = 0;
        g->attempt(g->arg, n);
    }
}

// The same stored object may be named by another version of its kind.
static bool is_same_resource(const struct kl_resource *a, const struct kl_resource *b)
{
    return a == b || (a && b && a->etcd_prefix && b->etcd_prefix &&
                      strcmp(a->etcd_prefix, b->etcd_prefix) == 0);
}

// The node that a reference means: a virtual one when it has not been seen.
static struct kl_gc_node *owner_node(struct kl_gc_graph *g, const struct kl_gc_node *dependent,
                                     const struct kl_value *reference)
{
    struct kl_str uid = kl_text(kl_get(reference, KL_F_uid));
    struct kl_gc_node *n = kl_gc_find(g, uid);
    if (n)
        return n;
    const struct kl_resource *res = resource_of(g, reference);
    struct kl_str ns = res && !res->namespaced ? (struct kl_str){"", 0} : dependent->ns;
    n = new_node(g, res, uid, ns, kl_text(kl_get(reference, KL_F_name)));
    if (!n)
        return NULL;
    n->virtual = true;
    if (!res) {
        struct kl_str version = kl_text(kl_get(reference, KL_F_apiVersion));
        struct kl_str kind = kl_text(kl_get(reference, KL_F_kind));
        n->api_version = strndup(version.p, version.n);
        n->kind = strndup(kind.p, kind.n);
    }
    return n;
}

static bool is_misplaced(const struct kl_gc_graph *g, const struct kl_gc_node *dependent,
                         const struct kl_gc_node *owner, const struct kl_value *reference)
{
    if (owner->virtual)
        return false; // nobody knows yet
    const struct kl_resource *res = resource_of(g, reference);
    if (res && !is_same_resource(res, owner->res))
        return true;
    return (owner->ns.n && !kl_str_eq(owner->ns, dependent->ns)) ||
           !kl_str_eq(owner->name, kl_text(kl_get(reference, KL_F_name)));
}

// Replaces the edges of n by those of its references. Owners that are no longer named, or no longer
// held up, and wait for their dependents are looked at again.
static int set_owners(struct kl_gc_graph *g, struct kl_gc_node *n, const struct kl_value *refs)
{
    uint32_t count = (uint32_t)kl_len(refs), was_count = n->nowners;
    struct kl_gc_owner *was = n->owners, *now = count ? calloc(count, sizeof(*now)) : NULL;
    if (count && !now)
        return KL_ENOMEM;
    uint32_t i = 0;
    for (KL_EACH(ref, refs)) {
        struct kl_gc_node *owner = owner_node(g, n, ref);
        if (!owner || add_dependent(owner, n) < 0) {
            free(now);
            return KL_ENOMEM;
        }
        now[i].node = owner;
        now[i].block = kl_is_true(kl_get(ref, KL_F_blockOwnerDeletion));
        now[i].misplaced = is_misplaced(g, n, owner, ref);
        i++;
    }
    n->owners = now;
    n->nowners = count;
    i = 0;
    for (KL_EACH(ref, refs)) {
        if (!is_among(was, was_count, now[i].node)) {
            if (now[i].misplaced) {
                g->misplaced(g->arg, n, ref);
                g->attempt(g->arg, n);
            }
            if (now[i].node->virtual)
                g->attempt(g->arg, now[i].node->gone ? n : now[i].node); // is it there at all?
        }
        i++;
    }
    for (uint32_t k = 0; k < was_count; k++) {
        struct kl_gc_node *owner = was[k].node;
        if (is_repeated(was, k))
            continue;
        if (owner->deleting_dependents && !kl_gc_blocks(n, owner))
            g->attempt(g->arg, owner);
        if (!is_among(now, count, owner))
            remove_dependent(g, owner, n);
    }
    free(was);
    return 0;
}

// ---- objects

static void notice_deletion(struct kl_gc_graph *g, struct kl_gc_node *n,
                            const struct kl_value *root)
{
    n->deleting = kl_meta_deleting(root);
    if (!n->deleting)
        return;
    if (kl_has_finalizer(root, "orphan")) {
        g->orphan(g->arg, n);
        return;
    }
    bool foreground = kl_has_finalizer(root, "foregroundDeletion");
    if (foreground && !n->deleting_dependents) {
        n->deleting_dependents = true;
        for (uint32_t i = 0; i < n->ndependents; i++)
            g->attempt(g->arg, n->dependents[i]);
        g->attempt(g->arg, n);
    }
    n->deleting_dependents = foreground;
}

// A virtual node turns out to be real, perhaps elsewhere than its dependents believed.
static struct kl_gc_node *observe(struct kl_gc_graph *g, struct kl_gc_node *v,
                                  const struct kl_resource *res, const struct kl_value *root)
{
    bool as_believed = is_same_resource(v->res, res) && kl_str_eq(v->ns, kl_meta_namespace(root)) &&
                       kl_str_eq(v->name, kl_meta_name(root));
    v->virtual = v->gone = false;
    if (as_believed) {
        v->res = res;
        return v;
    }
    kl_map_del(&g->nodes, v->uid);
    struct kl_gc_node *n =
        new_node(g, res, kl_meta_uid(root), kl_meta_namespace(root), kl_meta_name(root));
    if (!n) {
        kl_map_set(&g->nodes, v->uid, v, NULL);
        v->virtual = true;
        return NULL;
    }
    n->dependents = v->dependents;
    n->ndependents = v->ndependents;
    n->dependents_cap = v->dependents_cap;
    v->dependents = NULL;
    for (uint32_t i = 0; i < n->ndependents; i++) {
        struct kl_gc_node *d = n->dependents[i];
        for (uint32_t k = 0; k < d->nowners; k++) {
            if (d->owners[k].node != v)
                continue;
            d->owners[k].node = n;
            // Dependents in the owner's own namespace named it wrongly in another way; the live
            // look at their references decides.
            d->owners[k].misplaced = n->ns.n && !kl_str_eq(n->ns, d->ns);
        }
        g->attempt(g->arg, d);
    }
    free_node(v);
    return n;
}

int kl_gc_upsert(struct kl_gc_graph *g, const struct kl_resource *res, const struct kl_value *root,
                 uint32_t generation)
{
    struct kl_str uid = kl_meta_uid(root);
    struct kl_gc_node *n = kl_gc_find(g, uid);
    if (!n)
        n = new_node(g, res, uid, kl_meta_namespace(root), kl_meta_name(root));
    else if (n->virtual)
        n = observe(g, n, res, root);
    if (!n)
        return KL_ENOMEM;
    n->generation = generation;
    int rc = set_owners(g, n, kl_path(root, KL_F_metadata, KL_F_ownerReferences));
    notice_deletion(g, n, root);
    return rc;
}

void kl_gc_remove(struct kl_gc_graph *g, struct kl_str uid)
{
    struct kl_gc_node *n = kl_gc_find(g, uid);
    if (!n)
        return;
    struct kl_gc_owner *owners = n->owners;
    uint32_t nowners = n->nowners;
    n->owners = NULL;
    n->nowners = 0;
    n->deleting = n->deleting_dependents = false;
    n->virtual = n->gone = true;
    for (uint32_t i = 0; i < nowners; i++) {
        struct kl_gc_node *owner = owners[i].node;
        if (is_repeated(owners, i))
            continue;
        if (owner->deleting_dependents)
            g->attempt(g->arg, owner);
        if (owner != n)
            remove_dependent(g, owner, n);
    }
    free(owners);
    for (uint32_t i = 0; i < n->ndependents; i++)
        g->attempt(g->arg, n->dependents[i]);
    // With dependents it stays, known to be gone, until the last of them goes.
    if (n->ndependents == 0) {
        kl_map_del(&g->nodes, n->uid);
        free_node(n);
    }
}

void kl_gc_sweep(struct kl_gc_graph *g, const struct kl_resource *res, uint32_t generation)
{
    // Removing one may drop others, so they are looked for one after another from the start of
    // a list of uids taken before.
    size_t n = 0, cap = g->nodes.n;
    struct kl_str *gone = cap ? calloc(cap, sizeof(*gone)) : NULL;
    if (!gone)
        return;
    KL_MAP_EACH (&g->nodes, e) {
        struct kl_gc_node *node = e->value;
        if (node->res == res && !node->virtual && node->generation != generation)
            gone[n++] = node->uid;
    }
    for (size_t i = 0; i < n; i++)
        kl_gc_remove(g, gone[i]);
    free(gone);
}
