// SPDX-License-Identifier: Apache-2.0
// Admission: what else may change or refuse a write (or a CONNECT) before it happens, in upstream's
// order: mutating (plug-ins, MutatingAdmissionPolicy, MutatingAdmissionWebhook; once more when a
// hook changed something), then the registry's own preparation and validation, then validating
// (plug-ins, ValidatingAdmissionPolicy, ValidatingAdmissionWebhook, ResourceQuota).
//
// A plug-in is a row in plugins.c and one or two synchronous functions, mostly in a file
// plugin_NAME.c:
//
//     {"Priority", .mutate = priority, .validate = check_priority,
//      .operations = KL_ADMIT_CREATE | KL_ADMIT_UPDATE, .default_on = true},
//
// (.last: behind policies and webhooks; ResourceQuota and AlwaysDeny.) Rows stand in upstream's
// order (kubeapiserver/options/plugins.go). A function looks at what it is asked about (resource,
// subresource), answers 0 to allow, or a negative code with r->fail filled. It may be called
// several times for one request: when a lost race runs the write again, and when a hook changed the
// object after it. What it reads of other objects (kl_req_view) must be copied before it goes into
// the draft.
//
// Policies and webhooks come from objects in the store (policy*.c, hook*.c). Webhooks go over the
// network, so that a phase may have to wait: KL_ADMIT_WAIT. Where none is configured it is one
// branch and never waits.
#pragma once
#include "apiserver/server_int.h"

enum kl_admit_op {
    KL_ADMIT_CREATE = 1 << 0,
    KL_ADMIT_UPDATE = 1 << 1,
    KL_ADMIT_DELETE = 1 << 2,
    KL_ADMIT_CONNECT = 1 << 3,
};

enum { KL_ADMIT_WAIT = 1 }; // `done` comes later

// admission.Attributes: one write on its way through the chain. Lives in the request's arena or in
// what does.
struct kl_admit {
    struct kl_req *r; // user, options, warnings, audit annotations; r->fail on refusal
    enum kl_admit_op op;
    const struct kl_resource *res; // as requested; with `sub` it is upstream's GetResource
    struct kl_str sub;             // "", "status", "scale", "eviction", "binding", "exec", ...
    struct kl_str ns, name; // as requested: the name of a create may be empty or to be generated
    bool dry_run;

    // What is written: the object, or what was sent to a subresource (Scale, Eviction, Binding,
    // TokenRequest, PodExecOptions). Both sides are in the version of `row` (the storage version);
    // row is NULL for kinds of subresources, which have one version.
    const struct kl_resource *row;
    const struct kl_type *type;
    const char *api_version, *kind;
    struct kl_value *draft;        // mutating phase: may be changed. NULL: DELETE, or validating
    const struct kl_value *object; // as it is now; canonical when validating; NULL: DELETE
    const struct kl_value *old;    // canonical; NULL: CREATE, CONNECT

    // Called once after KL_ADMIT_WAIT, on the request's loop. rc as the functions below.
    void (*done)(struct kl_admit *ad, int rc);

    void (*then)(struct kl_admit *ad); // kl_admit_run's
    bool may_wait;                     // a plug-in's mutate may answer KL_ADMIT_WAIT (below)
    int64_t began_ns;                  // the phase
};

// Whether this is about objects of a resource themselves, not of a subresource.
static inline bool kl_admit_is(const struct kl_admit *ad, uint16_t res_index)
{
    return !ad->sub.n && ad->row && ad->row->index == res_index;
}

// The phases: 0, negative (r->fail is set), or KL_ADMIT_WAIT.
int kl_admit_mutate(struct kl_admit *ad);   // ad->draft may change
int kl_admit_validate(struct kl_admit *ad); // of ad->object
// Both phases one after the other, for what is not stored by the write machine (bindings, reviews,
// streams): fills object from draft; `then` runs once all allowed it, maybe at once; on refusal the
// request fails.
void kl_admit_run(struct kl_admit *ad, void (*then)(struct kl_admit *ad));
// Fills what follows from the request: res, sub, ns, name, dry_run, and the form of stored objects.
void kl_admit_init(struct kl_admit *ad, struct kl_req *r, enum kl_admit_op op);
// CONNECT: kl_connect_run once the options of the stream or proxy are admitted.
void kl_admit_connect(struct kl_api_call *c);
// The form of a kind of its own, of the subresource that was asked for or of the resource
// (reviews).
void kl_admit_own_kind(struct kl_admit *ad, const struct kl_type *type, const char *api_version,
                       const char *kind);

// Whether the resource is what configures admission: policies, bindings, webhooks.
bool kl_admit_is_configuration(const struct kl_resource *res);
// The loop begins, its reader is there: what is configured is read, so that it holds when later it
// cannot be. And it ends.
void kl_hooks_loop_begin(struct kl_api_loop *al);
void kl_hooks_loop_fini(struct kl_api_loop *al);

// ---- which plug-ins run
typedef uint64_t kl_admit_set; // a bit for each row of the table
// By --enable-admission-plugins and --disable-admission-plugins (lists that end with NULL; NULL:
// none given). KL_EINVALID with upstream's words for names that are unknown or in both.
int kl_admit_select(const char *const *enable, const char *const *disable, kl_admit_set *ret_set,
                    struct kl_error *err);

// ---- for plug-ins
// After a mutate that answered KL_ADMIT_WAIT: the phase begins again, and nobody may wait in it any
// more; rc negative (r->fail is set): it ends.
void kl_admit_resume(struct kl_admit *ad, int rc);
// An object of the loop's view, borrowed for the call; NULL: there is none.
struct kl_object *kl_admit_find(struct kl_req *r, uint16_t res, struct kl_str ns,
                                struct kl_str name);
// The name that refusals give: as requested, else the object's, else what it is to be generated of.
struct kl_str kl_admit_name(const struct kl_admit *ad);
// admission.NewForbidden: `pods "x" is forbidden: why`. KL_EFORBIDDEN.
int kl_admit_forbid(struct kl_admit *ad, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
