// SPDX-License-Identifier: Apache-2.0
// The identity of a K3s cluster in a datastore that was K3s': its CAs and the key of ServiceAccount
// tokens, which it keeps under /bootstrap/, sealed with its token.
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "store/store.h"

// Appends what is there as an identity (apiserver/identity.h) without what K3s has none of: peers'
// CA and the cluster's id. Nothing when there is none. `token` is a whole one or its secret. When
// it was not `given`, but is only what the data directory has, one that does not fit is as good as
// none. KL_EUNAUTHORIZED: a given one is not K3s'.
int kl_k3s_open(const struct kl_kine_record *v, size_t n, struct kl_str token, bool given,
                struct kl_buf *out, struct kl_error *err);
// The same of what a store has, and the log says what was adopted. Blocking; not on a loop.
int kl_k3s_identity(struct kl_store *s, struct kl_str token, bool given, struct kl_buf *out,
                    struct kl_error *err);
