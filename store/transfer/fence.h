// SPDX-License-Identifier: Apache-2.0
// The fence around a store that is being moved (KL_FENCE_KEY): taken before the last of it is
// copied, renewed meanwhile, kept for good when the copy is whole. A tool that dies renews no more,
// and the store takes writes again. It is known by its revision. Everything blocks.
#pragma once
#include "store/transfer/access.h"

// No writes from *ret_rev on, until `ms` after the last renewal. `why` is what whoever is refused
// is told. KL_EUNAVAILABLE: there is one, and why. KL_EMAYBE: there may be one, and it ends.
int kl_fence_take(struct kl_store *s, int64_t ms, const char *why, kl_rev *ret_rev,
                  struct kl_error *err);
// KL_ECONFLICT: it has ended.
int kl_fence_renew(struct kl_store *s, kl_rev rev, struct kl_error *err);
// It does not end any more, and is at rev + 1: nothing else was written since it was taken. May be
// called again when nobody knows what became of it. KL_ECONFLICT: it had ended.
int kl_fence_keep(struct kl_store *s, kl_rev rev, const char *why, struct kl_error *err);
// rev 0: whoever's. KL_ENOTFOUND: there is none (of that revision).
int kl_fence_lift(struct kl_store *s, kl_rev rev, struct kl_error *err);
// Why the store takes no writes, or "".
int kl_fence_reason(struct kl_access *a, char *ret, size_t n, struct kl_error *err);
