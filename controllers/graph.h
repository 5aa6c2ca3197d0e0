// SPDX-License-Identifier: Apache-2.0
// The garbage collector's graph: who owns whom. One small node for each object of the cluster, made
// from its metadata only. Pure: objects in, changes of the graph out as calls of two functions.
#pragma once
#include "base/map.h"
#include "client/helpers.h"

struct kl_gc_node;

struct kl_gc_owner {
    struct kl_gc_node *node;
    bool block;     // blockOwnerDeletion
    bool misplaced; // the owner with this uid is in another namespace, or of another kind or name
};

struct kl_gc_node {
    const struct kl_resource *res; // NULL: of a kind that is not served
    struct kl_str uid, ns, name;   // in the node's own memory
    char *api_version, *kind;      // of an unknown kind, else NULL
    struct kl_gc_owner *owners;
    struct kl_gc_node **dependents; // who names this node as an owner
    uint32_t nowners, ndependents, dependents_cap;
    uint32_t generation;
    bool virtual;             // only named by dependents, not seen itself (or no more)
    bool gone;                // virtual, and known not to exist
    bool deleting;            // has a deletionTimestamp
    bool deleting_dependents; // and the finalizer foregroundDeletion
};

struct kl_gc_graph {
    struct kl_map nodes; // uid → kl_gc_node
    // Look at this node: may it be collected, or can it go on with its own deletion?
    void (*attempt)(void *arg, struct kl_gc_node *n);
    // Take this owner out of its dependents' references, then let it go (finalizer "orphan").
    void (*orphan)(void *arg, struct kl_gc_node *n);
    // A reference that cannot be right: the owner is not in the dependent's namespace.
    void (*misplaced)(void *arg, struct kl_gc_node *dependent, const struct kl_value *reference);
    // The row of a kind that no table has; NULL: there are none such.
    const struct kl_resource *(*kind)(void *arg, struct kl_str group, struct kl_str version,
                                      struct kl_str kind);
    void *arg;
};

void kl_gc_init(struct kl_gc_graph *g);
void kl_gc_fini(struct kl_gc_graph *g);
// Seen: added or changed. KL_ENOMEM.
int kl_gc_upsert(struct kl_gc_graph *g, const struct kl_resource *res, const struct kl_value *root,
                 uint32_t generation);
// Seen to be gone, or found not to exist.
void kl_gc_remove(struct kl_gc_graph *g, struct kl_str uid);
// Owners of kinds that were not served may be looked up again: they are of this row now.
void kl_gc_serve(struct kl_gc_graph *g, const struct kl_resource *res);
// A list has ended: real nodes of the resource of an older generation are gone.
void kl_gc_sweep(struct kl_gc_graph *g, const struct kl_resource *res, uint32_t generation);
struct kl_gc_node *kl_gc_find(const struct kl_gc_graph *g, struct kl_str uid);
// Whether a dependent keeps this owner's foreground deletion waiting.
bool kl_gc_blocks(const struct kl_gc_node *dependent, const struct kl_gc_node *owner);
