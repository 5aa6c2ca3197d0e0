// SPDX-License-Identifier: Apache-2.0
// metadata.managedFields: who owns which fields of an object, kept by every write, and server-side
// apply, which goes by it (apimachinery's util/managedfields over structured-merge-diff's updater).
//
// An entry's FieldsV1 is read only when a write touches what the entry may own, and written only
// when it changed; a write that changes nothing leaves the entries byte for byte.
#pragma once
#include "object/apply/fieldset.h"
#include "object/resource.h"

enum { KL_MANAGERS_UPDATE_MAX = 10 }; // more updaters than these share "ancient-changes"

// What a request says about the write. All texts are borrowed for the call.
struct kl_managed_env {
    struct kl_arena *arena;
    const struct kl_resource *res; // in the version of the request
    struct kl_str manager;         // "" counts as "unknown"
    struct kl_str subresource;     // "": the object itself
    // The object's type, apiVersion and kind where a subresource has its own (Scale); else NULL:
    // those of res.
    const struct kl_type *type;
    const char *api_version;
    // Paths that this endpoint resets and so nobody can own through it: "status", "spec
    // metadata.labels". NULL: none.
    const char *reset;
    int64_t now_us;
    // Between versions of a custom resource that only a webhook converts: an untyped root without
    // managedFields. KL_EAGAIN: not now; all gives up with it, and the caller begins again later.
    // NULL: their fields count as the same.
    int (*convert)(void *arg, const struct kl_resource *from, const struct kl_resource *to,
                   const struct kl_value *in, struct kl_value *ret, struct kl_error *err);
    void *convert_arg;
};

// The entries after a create, an update or a patch. `live` is what was (NULL: nothing, a create),
// `now` what the client wants, both canonical roots in the version of the request (now's
// with the empty lists that were sent: kl_draft_as_sent). `sent` is the
// metadata.managedFields that came with `now`, as it came: it counts; an empty list or one empty
// entry forgets all, anything that cannot be read is as if it were not there; through a subresource
// only those of `live` count. An object that has none and is not new gets none. *ret is an array
// for metadata.managedFields or null. Its texts are the arena's or belong to live or sent.
// KL_ENOMEM, KL_EAGAIN of env->convert, or another code with a message: the caller leaves the
// entries out then, as upstream.
int kl_managed_update(const struct kl_managed_env *env, const struct kl_value *live,
                      const struct kl_value *now, const struct kl_value *sent, struct kl_value *ret,
                      struct kl_error *err);

// One field that somebody else owns.
struct kl_apply_conflict {
    struct kl_str manager; // as messages show it: "a" using apps/v1
    struct kl_str path;    // .spec.replicas
};

struct kl_apply_result {
    bool changed;            // false: the object is as the applied configuration wants it
    struct kl_value object;  // changed: untyped, without managedFields
    struct kl_value entries; // for metadata.managedFields: array or null
    struct kl_str message;   // of conflicts
    struct kl_apply_conflict *conflicts;
    size_t nconflicts;
};

// Server-side apply of an untyped configuration. `live` is a typed canonical root (NULL: there is
// no object yet). KL_ECONFLICT: others own what the configuration changes (ret->message,
// conflicts). KL_EBADREQUEST: 400 with the message; KL_EINVALID: upstream's plain error, 500.
int kl_managed_apply(const struct kl_managed_env *env, const struct kl_value *live,
                     const struct kl_value *config, bool force, struct kl_apply_result *ret,
                     struct kl_error *err);

// 0, or upstream's word on entries that cannot be kept ("apiVersion must not be empty").
int kl_managed_check(struct kl_arena *a, const struct kl_value *entries, struct kl_error *err);
// Whether the two lists differ in nothing but times.
bool kl_managed_same_but_times(const struct kl_value *a, const struct kl_value *b);

// ---- scale: the owners of spec.replicas seen through autoscaling/v1 Scale and back.
// Entries for the Scale of an object with these entries.
int kl_managed_to_scale(struct kl_arena *a, const struct kl_resource *res,
                        const struct kl_value *entries, struct kl_value *ret, struct kl_error *err);
// The object's entries once its Scale has these; res: the version that new entries are of.
int kl_managed_from_scale(struct kl_arena *a, const struct kl_resource *res,
                          const struct kl_value *entries, const struct kl_value *scale,
                          struct kl_value *ret, struct kl_error *err);
