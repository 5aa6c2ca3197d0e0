// SPDX-License-Identifier: Apache-2.0
// How long admission takes and what comes of it, by upstream's names and labels. Plug-ins and
// phases have their places in a table of the loop, without locks; what goes by the names of
// webhooks and policies is looked up under a lock of the loop, 2,048 series at most.
#pragma once
#include "apiserver/admission/admission.h"
#include "base/buf.h"

struct kl_admit_metrics;
void kl_admit_metrics_free(struct kl_admit_metrics *m); // accepts NULL; no loop runs any more

// ---- on the request's loop. Nothing happens when memory is short.
// A phase ended, and one plug-in of it (row of kl_plugins).
void kl_admit_count_phase(struct kl_admit *ad, bool validating, bool rejected, int64_t took_ns);
void kl_admit_count_plugin(struct kl_admit *ad, size_t row, bool validating, bool rejected,
                           int64_t took_ns);

enum kl_hook_end {
    KL_HOOK_ANSWERED,   // it allowed, or refused with `code`
    KL_HOOK_FAILED,     // it could not be asked, or its answer was none
    KL_HOOK_INTERNAL,   // what it allowed could not be done
    KL_HOOK_FAILED_OPEN // as FAILED, and nobody minds
};
void kl_admit_count_hook(struct kl_admit *ad, struct kl_str name, bool validating,
                         enum kl_hook_end end, bool rejected, int code, int64_t took_ns);
// matchConditions of a webhook or a policy: how many were in error, and whether it was left out.
void kl_admit_count_conditions(struct kl_admit *ad, struct kl_str name, bool policy,
                               bool validating, size_t nerrors, bool excluded, int64_t took_ns);
// One validation that was not met, or in error (its message says of what kind), and what was done:
// "allow", "deny", "audit", "warn".
void kl_admit_count_check(struct kl_admit *ad, struct kl_str policy, struct kl_str binding,
                          struct kl_str message, const char *action, int64_t took_ns);
// One mutation; empty message: it was done.
void kl_admit_count_mutation(struct kl_admit *ad, struct kl_str policy, struct kl_str binding,
                             struct kl_str message, int64_t took_ns);

// ---- any loop
void kl_admit_metrics_write(struct kl_apiserver *s, struct kl_buf *out);
