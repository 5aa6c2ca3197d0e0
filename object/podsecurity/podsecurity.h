// SPDX-License-Identifier: Apache-2.0
// The Pod Security Standards as upstream evaluates them (pod-security-admission 1.36): what a
// namespace's labels ask for and what of it a pod breaks, in upstream's words. Pure: any loop.
#pragma once
#include "object/value.h"

enum kl_ps_level { KL_PS_PRIVILEGED, KL_PS_BASELINE, KL_PS_RESTRICTED };

#define KL_PS_LATEST UINT32_MAX

struct kl_ps_policy {
    enum kl_ps_level level;
    uint32_t minor; // v1.minor, or KL_PS_LATEST
};

struct kl_ps_policies {
    struct kl_ps_policy enforce, audit, warn;
};

// A label that cannot be read: key and value refer to the labels, why is constant.
struct kl_ps_bad_label {
    struct kl_str key, value;
    const char *why;
};
enum { KL_PS_LABELS = 6 };

// PolicyToEvaluate. `defaults` NULL: privileged:latest is the default of all three. Returns how
// many labels are bad; the policies hold nevertheless (a bad level to enforce is restricted).
size_t kl_ps_policies_of(const struct kl_value *labels, const struct kl_ps_policies *defaults,
                         struct kl_ps_policies *ret, struct kl_ps_bad_label ret_bad[KL_PS_LABELS]);
// "restricted"; "latest" or "v1.x". NULL: *ret is set; else what is wrong (then it is restricted,
// the latest).
const char *kl_ps_parse_level(struct kl_str s, enum kl_ps_level *ret);
const char *kl_ps_parse_version(struct kl_str s, uint32_t *ret_minor);

static inline bool kl_ps_same(struct kl_ps_policy a, struct kl_ps_policy b)
{
    return a.level == b.level && a.minor == b.minor;
}
// Functionally the same: what is privileged has no versions.
static inline bool kl_ps_equivalent(struct kl_ps_policy a, struct kl_ps_policy b)
{
    return kl_ps_same(a, b) || (!a.level && !b.level);
}

// "restricted:latest", "baseline:v1.24"; at most KL_PS_TEXT bytes with the NUL.
#define KL_PS_TEXT 32
const char *kl_ps_text(struct kl_ps_policy p, char ret[KL_PS_TEXT]);

// What of a pod (template) breaks the policy: `meta` and `spec` may be drafts. `reasons` is the
// short form, `details` says which containers and values; both are empty when nothing does. All
// memory is the arena's. KL_ENOMEM.
struct kl_ps_verdict {
    bool allowed;
    struct kl_str reasons, details;
};
int kl_ps_check(struct kl_arena *a, struct kl_ps_policy policy, const struct kl_value *meta,
                const struct kl_value *spec, struct kl_ps_verdict *ret);
