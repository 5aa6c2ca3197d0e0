// SPDX-License-Identifier: Apache-2.0
// Typed forms of what the store holds. A key's version is decoded once, encoded once for each
// format, and the results hang off the version itself, shared by every reader on every loop.
#pragma once
#include "object/resource.h"
#include "object/value.h"
#include "store/store.h"

// Give these to kl_store_open.
extern const struct kl_kv_hooks kl_cache_hooks;

// Opens values that are stored sealed (encryption at rest): the `arg` of the hooks of a store that
// has such. Without it a sealed value is an error.
#define KL_CACHE_SEALED "k8s:enc:"
struct kl_cache_opener {
    // The plain form of a version's value, one reference; NULL fills err. Any thread.
    struct kl_bytes *(*open)(const struct kl_cache_opener *o, const struct kl_kv *kv,
                             const struct kl_resource *res, struct kl_error *err);
};

// Slots of a version's attachments.
enum kl_cache_slot {
    KL_CACHE_OBJECT,   // struct kl_object *
    KL_CACHE_JSON,     // struct kl_bytes *
    KL_CACHE_PROTOBUF, // struct kl_bytes *
    KL_CACHE_OWN,      // struct kl_cache_own *
};

// What frees itself: the first member of what hangs in the slot KL_CACHE_OWN. Versions of custom
// objects have their forms there, one for each type they were looked at in; versions of
// definitions what the API server reads out of them.
struct kl_cache_own {
    void (*free)(struct kl_cache_own *own);
    atomic_size_t bytes; // in memory; what is added once it hangs goes through kl_kv_grow too
};

// The object of a version: stored form decoded (protobuf envelope or JSON, whichever is there) at
// the resource's storage version, defaults applied, metadata.resourceVersion set to the version's
// mod_rev. Borrowed from the version. NULL fills err: KL_ECORRUPT names the key, or KL_ENOMEM.
// `res` is any row of the resource.
// Custom resources: the object in the version of `res`, by its schema as it is now. KL_EAGAIN: only
// a webhook can convert it (kl_cache_attach_object). Lasts only while the family of `res` is held.
// Definitions of custom resources are large and rarely read: they do not stay with their version.
// Such an object, and that of a version whose schema changed again and again, is borrowed until
// control returns to the loop; what a webhook made always stays.
// Any thread.
struct kl_object *kl_cache_object(struct kl_kv *kv, const struct kl_resource *res,
                                  struct kl_error *err);

// Whether the functions of this header can answer for the version: false when a webhook has yet to
// convert it to the version of `res`. O(1) but for reading the head of what is stored.
bool kl_cache_is_ready(struct kl_kv *kv, const struct kl_resource *res);
// A custom object as it is stored: in the version that it says, *ret_row; borrowed from the
// version.
struct kl_object *kl_cache_as_stored(struct kl_kv *kv, const struct kl_resource *res,
                                     const struct kl_resource **ret_row, struct kl_error *err);

// Its encodings, borrowed from the version.
// JSON begins with a comma: ",{\"metadata\":...}", so that a list is a row of slices; from byte 1
// on it is a list item, from byte 2 on what follows an object's kind and apiVersion.
struct kl_bytes *kl_cache_json(struct kl_kv *kv, const struct kl_resource *res,
                               struct kl_error *err);
struct kl_bytes *kl_cache_protobuf(struct kl_kv *kv, const struct kl_resource *res,
                                   struct kl_error *err);

// A deletion is a version without a value: this hangs the object that was deleted onto it, with the
// deletion's revision as resourceVersion, so that the functions above answer for it too.
// KL_ECORRUPT when what was before it is not known any more.
int kl_cache_bury(const struct kl_event *e, const struct kl_resource *res, struct kl_error *err);

// A copy of an object with another metadata.resourceVersion (0: none). One reference.
struct kl_object *kl_object_with_rv(const struct kl_object *o, kl_rev rev);

// Hangs an object (one reference is taken over) that was just written as this version. Its
// resourceVersion must be the version's.
void kl_cache_attach_object(struct kl_kv *kv, struct kl_object *o);

// Whether the object of a version stays with it, so that what is borrowed from it lasts.
bool kl_cache_stays(const struct kl_resource *res);

// The stored form of a canonical object without resourceVersion: upstream's envelope or JSON. A
// custom one is converted to its storage version (NULL when only a webhook can, or no memory).
struct kl_bytes *kl_cache_encode_stored(const struct kl_resource *storage,
                                        const struct kl_object *o);
