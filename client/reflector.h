// SPDX-License-Identifier: Apache-2.0
// Follows one resource: lists it, watches it, lists anew when the server has forgotten where we
// were, waits with growing, jittered pauses when the server fails. What it sees goes to a sink.
//
// The list is streamed as a watch (sendInitialEvents); a server that does not know that is asked
// for a plain list. One loop.
#pragma once
#include "client/client.h"
#include "client/timers.h"

struct kl_reflector;

// begin, upserts, end: a whole list; what was not upserted since begin exists no more. begin may
// come again before an end (the list broke off). Afterwards upsert and remove as things change.
// Objects are borrowed.
struct kl_reflector_sink {
    void (*begin)(void *arg);
    void (*upsert)(void *arg, struct kl_object *object);
    void (*remove)(void *arg, struct kl_object *last); // its last state
    void (*end)(void *arg);
    void *arg;
};

struct kl_reflector_opts {
    struct kl_client *client;
    struct kl_timers *timers;
    const struct kl_resource *res;
    struct kl_str ns, label_selector, field_selector; // copied
    struct kl_reflector_sink sink;
};

// Starts at once; the sink is called later. NULL when memory ran out.
struct kl_reflector *kl_reflector_new(const struct kl_reflector_opts *o);
// No call to the sink after it returns. Accepts NULL.
void kl_reflector_free(struct kl_reflector *r);
bool kl_reflector_synced(const struct kl_reflector *r); // one whole list has been seen
