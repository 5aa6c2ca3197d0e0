// SPDX-License-Identifier: Apache-2.0
// ConfigMaps and Secrets that pods of this node refer to: each watched by name as long as somebody
// uses it, and shared (the node may read no others).
#pragma once
#include "client/client.h"
#include "client/timers.h"

struct kl_object_cache;
struct kl_object_use;

struct kl_object_cache *kl_object_cache_new(struct kl_client *client, struct kl_timers *timers);
void kl_object_cache_free(struct kl_object_cache *c); // all uses must be gone; accepts NULL

// changed comes when the object is known for the first time (or known to be absent) and whenever
// it changes; never from inside kl_object_use_new. NULL: out of memory.
struct kl_object_use *kl_object_use_new(struct kl_object_cache *c, bool secret, struct kl_str ns,
                                        struct kl_str name, void (*changed)(void *arg), void *arg);
void kl_object_use_free(struct kl_object_use *u);
bool kl_object_use_known(const struct kl_object_use *u);
struct kl_object *kl_object_use_get(const struct kl_object_use *u); // borrowed; NULL: absent
bool kl_object_use_is(const struct kl_object_use *u, bool secret, struct kl_str name);
