// SPDX-License-Identifier: Apache-2.0
// Aggregated API servers: APIService objects that name a Service. Their groups are passed on, with
// the front proxy's certificate and headers that say who asks; whether they are available is looked
// at all the time and stands in their status. An APIService of a version that this server has
// itself, built-in or custom, takes that version over when it names a Service; controllers in this
// process go on with what is here.
#pragma once
#include "apiserver/aggregate/document.h"
#include "apiserver/aggregate/upgrade.h"
#include "apiserver/server_int.h"
#include "base/buf.h"

struct kl_aggregate;

// Any thread; started once the server is ready (on loops[0]), stopped there before the loops end.
int kl_aggregate_new(struct kl_apiserver *s, struct kl_aggregate **ret, struct kl_error *err);
void kl_aggregate_start(struct kl_aggregate *g);
void kl_aggregate_stop(struct kl_aggregate *g);
void kl_aggregate_free(struct kl_aggregate *g); // accepts NULL; the loops are over
// What a loop has of it; when the loop ends.
void kl_aggregate_loop_fini(struct kl_api_loop *al);

// The APIService of a group and version, when it names a Service; else NULL. Borrowed from the
// loop's view.
struct kl_object *kl_aggregate_find(struct kl_api_loop *al, struct kl_str group,
                                    struct kl_str version);
// Whether a version that this server has itself was taken over; as of the last look at the objects.
static inline bool kl_aggregate_takes(const struct kl_apiserver *s)
{
    return atomic_load_explicit(&s->taken_over, memory_order_relaxed);
}
// Passes the request on; it was authorised. Ends it.
void kl_aggregate_proxy(struct kl_api_call *c, struct kl_object *service);

// ---- for discovery. Groups and versions by falling priority, as the objects say.
struct kl_aggregate_version {
    const char *version; // "v1beta1"
    bool current;        // available when last looked at
    // Of the aggregated form: {...},{...}, what was there when it was last available.
    struct kl_bytes *resources; // referenced; NULL: never seen
    struct kl_bytes *openapi;   // the hash of its version 3 document; NULL: it has none
};
struct kl_aggregate_group {
    const char *name;
    struct kl_aggregate_version *versions;
    size_t nversions;
};
// In the arena, with references that kl_aggregate_groups_done gives back. 0: none.
size_t kl_aggregate_groups(struct kl_req *r, struct kl_aggregate_group **ret);
void kl_aggregate_groups_done(struct kl_aggregate_group *list, size_t n);

// ---- for OpenAPI: version 2 documents by falling priority, in the arena, each with a reference.
size_t kl_aggregate_documents(struct kl_req *r, struct kl_remote_doc ***ret);
// The version 3 document of a server that has none itself; a reference. NULL: it is another one.
struct kl_upgraded *kl_aggregate_upgraded(struct kl_apiserver *s, struct kl_str group,
                                          struct kl_str version);

// strategy.c: an APIService without a Service is available from the beginning.
int kl_apiservice_prepare_create(struct kl_req *r, struct kl_value *draft);
