// SPDX-License-Identifier: Apache-2.0
// What --admission-control-config-file says: AdmissionConfiguration with a section for each plug-in
// that has any, inline or in a file of its own; or one of the two old files that are a plug-in's
// own. Read once at the start, immutable, shared by all loops (but for the events' buckets, which
// have a lock). Without a file everything is as upstream has it by default.
#pragma once
#include "apiserver/admission/admission.h"
#include "object/podsecurity/podsecurity.h"
#include "object/quota/quota.h"

struct kl_event_limits;
struct kl_kubeconfig;
struct kl_remote;

struct kl_admit_names {
    const struct kl_str *v;
    size_t n;
};
bool kl_admit_listed(const struct kl_admit_names *l, struct kl_str name);

struct kl_admit_config {
    struct kl_arena arena;
    struct { // PodSecurity
        struct kl_ps_policies defaults;
        struct kl_admit_names users, namespaces, classes; // exempt
    } pods;
    struct { // ResourceQuota
        const struct kl_quota_limited *v;
        size_t n;
    } limited;
    // PodTolerationRestriction: typed lists, NULL: none are said
    const struct kl_value *default_tolerations, *allowed_tolerations;
    const struct kl_value *node_selectors; // PodNodeSelector: a map by namespace
    struct kl_event_limits *events;        // EventRateLimit
    struct {                               // ImagePolicyWebhook
        struct kl_remote *to;
        int64_t allow_ms, deny_ms; // how long an answer holds; 0: not at all
        int backoff_ms;            // of the queries (auth/ask.h)
        bool default_allow;
    } images;
    struct kl_kubeconfig *mutating, *validating; // as whom webhooks are called
};

// For the plug-ins that are on. KL_EINVALID and the like with upstream's words:
// `couldn't init admission plugin "PodSecurity": ...`.
int kl_admit_config_new(const char *file, kl_admit_set on, struct kl_admit_config **ret,
                        struct kl_error *err);
void kl_admit_config_free(struct kl_admit_config *c); // accepts NULL
