// SPDX-License-Identifier: Apache-2.0
// How controllers, the scheduler and the kubelet speak to an API server. One interface, two
// transports: HTTPS (client/https.h) and in the same process (made by apiserver/inprocess.h,
// objects by reference). Callers cannot tell which one they have.
//
// Everything here belongs to one loop: calls are made on it and callbacks come on it. A call that
// was started gets its done_cb exactly once, later, never from within the function that started it.
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "object/resource.h"
#include "object/value.h"
#include "object/watch_event.h"

struct kl_client;
struct kl_call;
struct kl_watch_call;

enum kl_patch_type {
    KL_PATCH_NONE,
    KL_PATCH_JSON,
    KL_PATCH_MERGE,
    KL_PATCH_STRATEGIC,
    KL_PATCH_APPLY
};
enum kl_propagation {
    KL_PROPAGATE_DEFAULT,
    KL_PROPAGATE_ORPHAN,
    KL_PROPAGATE_BACKGROUND,
    KL_PROPAGATE_FOREGROUND
};

// One request. Embedded by the caller, zeroed, filled, then given to kl_client_start; everything it
// points to must stay until done_cb. The results belong to the call until kl_call_fini.
struct kl_call {
    // what is asked
    enum kl_verb verb; // GET LIST CREATE UPDATE PATCH DELETE DELETECOLLECTION
    const struct kl_resource *res;
    const char *sub;        // subresource or NULL
    struct kl_str ns, name; // ns empty: cluster scope or all namespaces
    struct kl_object *body; // CREATE, UPDATE (also of subresources): borrowed until done_cb
    struct kl_str patch;    // PATCH: JSON text
    enum kl_patch_type patch_type;
    struct kl_str label_selector, field_selector, resource_version, cont;
    int64_t limit;
    struct kl_str precondition_uid, precondition_rv; // DELETE
    int64_t grace_seconds;                           // DELETE: -1 = the object's own
    enum kl_propagation propagation;
    bool dry_run;
    int timeout_ms; // 0: 30 s
    void (*done_cb)(struct kl_call *call);
    void *arg;

    // what came back: err.code is 0 or a kl_err (KL_ENOTFOUND, KL_ECONFLICT, KL_EEXISTS, ...)
    struct kl_error err;
    int http_status;
    int retry_after_s; // of a 429 or 503
    struct kl_object
        *object; // GET CREATE UPDATE PATCH DELETE (a Status or the object): one reference
    struct kl_object **items; // LIST: n_items references in a malloc'ed array
    size_t n_items;
    struct kl_str list_rv, list_continue; // LIST; memory of the call

    // the transport's
    void *transport;
    struct kl_arena *memory;
};

// One watch. event_cb gets each event in order (object borrowed; for a bookmark it carries only
// metadata.resourceVersion and the initial-events-end annotation). After end_cb nothing more comes;
// err.code is KL_EEXPIRED when the caller must list anew, 0 at a normal end (time-out).
struct kl_watch_call {
    const struct kl_resource *res;
    struct kl_str ns, label_selector, field_selector;
    struct kl_str resource_version; // start after it; with send_initial_events may be empty
    bool send_initial_events;       // streams the list first, then a bookmark annotated
                                    // k8s.io/initial-events-end: "true"
    void (*event_cb)(struct kl_watch_call *w, enum kl_event_type type, struct kl_object *object);
    void (*end_cb)(struct kl_watch_call *w);
    void *arg;
    struct kl_error err;
    void *transport;
};

// A byte stream of a subresource (log) for callers that need it is not part of this interface.
struct kl_client_ops {
    void (*start)(struct kl_client *c, struct kl_call *call);
    void (*cancel)(struct kl_client *c, struct kl_call *call); // done_cb comes with KL_ECANCELED
    void (*watch)(struct kl_client *c, struct kl_watch_call *w);
    void (*watch_stop)(struct kl_client *c, struct kl_watch_call *w); // no callback after return
    void (*free)(struct kl_client *c);
};

// A client acts as one user (a ServiceAccount, system:kube-scheduler, system:node:NAME): its calls
// go through the same authorisation as everyone's.
struct kl_client {
    const struct kl_client_ops *ops;
    struct kl_loop *loop;
    const char *user_agent; // field manager: the part before the first '/'
};

static inline void kl_client_start(struct kl_client *c, struct kl_call *call)
{
    c->ops->start(c, call);
}
static inline void kl_client_cancel(struct kl_client *c, struct kl_call *call)
{
    c->ops->cancel(c, call);
}
static inline void kl_client_watch(struct kl_client *c, struct kl_watch_call *w)
{
    c->ops->watch(c, w);
}
static inline void kl_client_watch_stop(struct kl_client *c, struct kl_watch_call *w)
{
    c->ops->watch_stop(c, w);
}
static inline void kl_client_free(struct kl_client *c)
{
    if (c)
        c->ops->free(c);
}
// Releases a finished call's results; the call may be used again after it is zeroed.
void kl_call_fini(struct kl_call *call);
