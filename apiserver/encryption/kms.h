// SPDX-License-Identifier: Apache-2.0
// A KMS v2 plug-in (KEP-3299) on a Unix socket. Each start of a server and each key of the plug-in
// gives a seed that the plug-in seals once; values are sealed with keys derived from it. Seeds that
// were opened are kept, so that the plug-in is asked once for each, not for each value: the caller
// waits for that one call (up to the configured time-out), which is the only place where a loop
// waits for another process.
#pragma once
#include "base/buf.h"
#include "base/err.h"

struct kl_kms;

// Connects when first used, in a thread of its own. The name is upstream's provider name.
int kl_kms_new(struct kl_str name, struct kl_str endpoint, int64_t timeout_ms, struct kl_kms **ret,
               struct kl_error *err);
struct kl_kms *kl_kms_ref(struct kl_kms *k);
void kl_kms_unref(struct kl_kms *k); // accepts NULL
bool kl_kms_is(const struct kl_kms *k, struct kl_str name, struct kl_str endpoint);

// Append to out: EncryptedObject, and what it holds. *ret_stale: sealed with another key of the
// plug-in than it has now. Blocking; any thread.
int kl_kms_seal(struct kl_kms *k, struct kl_str context, struct kl_str plain, struct kl_buf *out,
                struct kl_error *err);
int kl_kms_open(struct kl_kms *k, struct kl_str context, struct kl_str sealed, struct kl_buf *out,
                bool *ret_stale, struct kl_error *err);
// The last look at the plug-in's Status. Any thread.
int kl_kms_health(struct kl_kms *k, struct kl_error *err);
