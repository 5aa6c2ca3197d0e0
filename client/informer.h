// SPDX-License-Identifier: Apache-2.0
// The local, indexed copy of one resource, kept by a reflector and shared by several consumers.
// Objects are held by reference: with the in-process transport they are the server's own.
//
// Reads may lag behind the server, never run backwards. Handlers run in the order of the events,
// after the store has changed; they may read any informer but not free this one. One loop.
#pragma once
#include "client/reflector.h"

struct kl_informer;
struct kl_informers;

// One stored object. Borrowed; valid until the loop turns.
struct kl_entry {
    struct kl_object *object;
    struct kl_str key; // "namespace/name", or "name" of cluster-scoped ones
};

// An index maps an object to at most one value; "" (n == 0) leaves it out.
typedef struct kl_str (*kl_index_fn)(const struct kl_value *root);
#define KL_INFORMER_MAX_INDEXES 4
struct kl_str kl_index_namespace(const struct kl_value *root);
struct kl_str kl_index_controller_uid(const struct kl_value *root); // of the controlling owner
struct kl_str kl_index_node_name(const struct kl_value *root);      // pods: spec.nodeName

// Embedded in the consumer. Any callback may be NULL. Objects are borrowed.
struct kl_handler {
    void (*add)(struct kl_handler *h, struct kl_object *object);
    void (*update)(struct kl_handler *h, struct kl_object *old, struct kl_object *object);
    void (*remove)(struct kl_handler *h, struct kl_object *last);
    void (*synced)(struct kl_handler *h); // once, when the first whole list is there
    void *arg;
    struct kl_handler *next; // the informer's
    bool told;
};

// The informers of one client. Each resource is watched once however often it is asked for; the
// first asker's selectors count, so ask with selectors only for an informer nobody shares.
struct kl_informers *kl_informers_new(struct kl_client *client, struct kl_timers *timers);
void kl_informers_free(struct kl_informers *set); // accepts NULL
// The informer of all objects of a resource; started by kl_informers_start. NULL: out of memory.
struct kl_informer *kl_informers_get(struct kl_informers *set, const struct kl_resource *res);
// One with a field selector (the kubelet's pods of its own node). Copied.
struct kl_informer *kl_informers_get_selected(struct kl_informers *set,
                                              const struct kl_resource *res,
                                              struct kl_str field_selector);
int kl_informers_start(struct kl_informers *set); // those not yet started; KL_ENOMEM
bool kl_informers_synced(const struct kl_informers *set);

// Before start. The number of the index (the same function twice gives the same number), or
// KL_ELIMIT.
int kl_informer_add_index(struct kl_informer *inf, kl_index_fn fn);
// Before or after start: what is stored already is told as adds at once.
void kl_informer_add_handler(struct kl_informer *inf, struct kl_handler *h);
void kl_informer_remove_handler(struct kl_informer *inf, struct kl_handler *h);
bool kl_informer_synced(const struct kl_informer *inf);

// Reads. NULL when there is none. ns is empty for cluster-scoped objects.
struct kl_object *kl_informer_get(const struct kl_informer *inf, struct kl_str ns,
                                  struct kl_str name);
struct kl_object *kl_informer_get_key(const struct kl_informer *inf, struct kl_str key);
// The objects with this value in an index, in no order.
struct kl_entry *const *kl_informer_index(const struct kl_informer *inf, int index,
                                          struct kl_str value, size_t *ret_n);
// All: start with *it = 0; NULL at the end. The store must not change meanwhile.
struct kl_entry *kl_informer_next(const struct kl_informer *inf, size_t *it);
size_t kl_informer_len(const struct kl_informer *inf);

// "ns/name" into the arena, and back without copying.
struct kl_str kl_key_of(struct kl_arena *a, const struct kl_value *root);
void kl_key_split(struct kl_str key, struct kl_str *ret_ns, struct kl_str *ret_name);
