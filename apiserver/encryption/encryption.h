// SPDX-License-Identifier: Apache-2.0
// Encryption at rest. What the store holds of certain resources is sealed, in upstream's form
// (k8s:enc:PROVIDER:v1:KEY:...), so that data moves between upstream and here. Values are opened
// where a version is decoded (watchcache/cache.h) and sealed where a write is encoded
// (kl_encryption_encode): above is plain text, below ciphertext.
//
// What is sealed and with which keys is said either by a file as upstream's
// --encryption-provider-config, or by the cluster itself (`kinglet secrets-encrypt`): then keys and
// state are one record in the datastore, sealed with the token as the cluster's identity is, and
// every server follows it. Nobody can get an order of steps wrong: the record and the values are in
// one log, so that who sees a value has seen its key; and a write that a server sealed (or left
// plain) by an older record is refused by the store, since its transaction compares the record's
// revision, and is done again. Objects that exist are rewritten in the background; any server goes
// on with it after a crash, because a value says itself which key it is sealed with.
#pragma once
#include "object/value.h"
#include "store/store.h"
#include "watchcache/cache.h"

struct kl_encryption;
struct kl_apiserver;

#define KL_ENCRYPTION_KEY "/bootstrap/kinglet-encryption"

struct kl_encryption_options {
    const char *file; // EncryptionConfiguration; NULL: the cluster's record decides
    bool reload;      // the file is looked at again every second
};
// Reads the file, when there is one. Blocking; before loops.
int kl_encryption_new(const struct kl_encryption_options *o, struct kl_encryption **ret,
                      struct kl_error *err);
// For kl_store_options; they live as long as e, which must outlive all versions that are decoded.
const struct kl_kv_hooks *kl_encryption_hooks(struct kl_encryption *e);
// Reads the cluster's record, when it is the one that decides: the secret is that of the cluster's
// token (copied). Blocking, not on a loop; before requests. KL_EUNAUTHORIZED: another token.
int kl_encryption_open(struct kl_encryption *e, struct kl_store *s, struct kl_str secret,
                       struct kl_error *err);
// On loops[0] of a server that runs: follows file or record, rewrites. `stop` there too, before the
// loop's reader closes.
void kl_encryption_start(struct kl_encryption *e, struct kl_apiserver *s);
void kl_encryption_stop(struct kl_encryption *e);
void kl_encryption_free(struct kl_encryption *e); // wipes the keys; accepts NULL

// The stored form of an object at this key: encoded, and sealed where it is to be. `e` NULL: only
// encoded. *ret_guard (may be NULL): the record's revision that the write must compare
// (KL_ENCRYPTION_KEY), -1 when none. Any thread.
struct kl_bytes *kl_encryption_encode(struct kl_encryption *e, const struct kl_resource *storage,
                                      struct kl_str key, const struct kl_object *o,
                                      kl_rev *ret_guard, struct kl_error *err);
// Whether the stored version holds just this, sealed as it would be now: a write of it is none.
bool kl_encryption_same(struct kl_encryption *e, const struct kl_resource *storage,
                        const struct kl_kv *stored, const struct kl_object *o,
                        const struct kl_bytes *now);
// A guard did not hold: the record is newer. Takes it from the view. On a loop.
void kl_encryption_refresh(struct kl_encryption *e, const struct kl_view *v);

// /healthz/kms-providers: false with what is wrong. Any thread.
bool kl_encryption_healthy(struct kl_encryption *e, char why[256]);
bool kl_encryption_has_kms(struct kl_encryption *e);

// ---- kinglet secrets-encrypt; blocking, not on a loop
enum kl_encryption_command {
    KL_ENCRYPTION_STATUS,
    KL_ENCRYPTION_ENABLE,
    KL_ENCRYPTION_DISABLE,
    KL_ENCRYPTION_ROTATE,
};
// Does it, and appends the state as one JSON object. KL_EUNSUPPORTED: a file decides.
int kl_encryption_command(struct kl_encryption *e, enum kl_encryption_command c, struct kl_buf *out,
                          struct kl_error *err);
