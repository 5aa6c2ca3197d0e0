// SPDX-License-Identifier: Apache-2.0
// The cluster's identity: its CAs, the key of ServiceAccount tokens and the cluster's id. The first
// server of a datastore makes them and puts them there, sealed with the token, as one key; every
// other server of that datastore takes them from there, or from another server when it joins over
// HTTPS. On disk they are the files of apiserver/pki.h.
#pragma once
#include "apiserver/pki.h"
#include "base/buf.h"

struct kl_store;
struct kl_kine_record;

#define KL_IDENTITY_KEY "/bootstrap/kinglet"
#define KL_IDENTITY_MAX_BYTES ((size_t)512 << 10)

// As kl_pki_open, with what the datastore knows: adopts the identity that is there, or stores its
// own. `s` NULL: the datastore is nobody else's (memory://) or not open yet. Blocking; not on a
// loop. KL_EUNAUTHORIZED: the token is not the cluster's; KL_ECONFLICT: the data directory is of
// another cluster.
int kl_identity_open(const struct kl_pki_options *o, struct kl_store *s, struct kl_pki **ret,
                     struct kl_error *err);

// The same for a datastore that no other server opens: when there is no identity in it yet,
// *ret_publish says so, and kl_identity_publish can follow while the server begins to serve
// (deriving a key takes longer than all the rest of a start). Blocking; any thread but a loop's.
int kl_identity_open_alone(const struct kl_pki_options *o, struct kl_store *s, struct kl_pki **ret,
                           bool *ret_publish, struct kl_error *err);
// Whether the token opens what a kine datastore has, before it is taken over (store/store.h's
// take_over_check, with the kl_pki_options): KL_EUNAUTHORIZED as above. Nothing is changed.
int kl_identity_check_kine(void *pki_options, const struct kl_kine_record *v, size_t n,
                           struct kl_error *err);
int kl_identity_publish(const char *data_dir, const struct kl_pki *p, struct kl_store *s,
                        struct kl_error *err);

// The identity of a data directory as one run of bytes, never logged: "name length\n" and the
// bytes, for each file. KL_ENOTFOUND: there is none.
int kl_identity_pack(const char *data_dir, struct kl_buf *out, struct kl_error *err);
// The same of one that is open; what went wrong is in out.
void kl_identity_write(const struct kl_pki *p, struct kl_buf *out);
// Puts it into a data directory, all or nothing, mode 0600. What is there and the same stays;
// KL_ECONFLICT when it is another, unless `replace`. KL_ECORRUPT.
int kl_identity_place(const char *data_dir, struct kl_str packed, bool replace,
                      struct kl_error *err);
