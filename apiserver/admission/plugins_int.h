// SPDX-License-Identifier: Apache-2.0
// The built-in plug-ins that have files of their own, and what they share. Their rows are in
// plugins.c.
#pragma once
#include "apiserver/admission/admission.h"
#include "watchcache/filter.h"

typedef int kl_plugin_fn(struct kl_admit *ad);

// ---- plugin_walk.c: the objects of a resource in a namespace ("": all), as the loop's view has
// them. Each is borrowed until the next.
struct kl_admit_walk {
    const struct kl_resource *res;
    struct kl_iter it;
};
// KL_ENOMEM: r->fail is set.
int kl_admit_walk_init(struct kl_admit_walk *w, struct kl_req *r, uint16_t res, struct kl_str ns);
struct kl_object *kl_admit_next(struct kl_admit_walk *w); // NULL: no more
// Of cluster-scoped classes with this annotation "true" the newest, by name among equals; NULL:
// none.
struct kl_object *kl_admit_default_class(struct kl_req *r, uint16_t res, const char *annotation);

// Out of memory in a plug-in.
static inline int kl_admit_oom(struct kl_admit *ad)
{
    kl_fail_oom(ad->r);
    return KL_ENOMEM;
}
// An error that is no APIStatus.
static inline int kl_admit_fail_plainly(struct kl_admit *ad, struct kl_str why)
{
    kl_fail_set(ad->r, 500, "", "%.*s", KL_PRI(why));
    return KL_EINTERNAL;
}
// Whether it is about the resource or one of its subresources.
static inline bool kl_admit_of(const struct kl_admit *ad, uint16_t res_index)
{
    const struct kl_resource *r = kl_res(res_index);
    return !strcmp(ad->res->plural, r->plural) && !strcmp(ad->res->group, r->group);
}
static inline bool kl_admit_sub(const struct kl_admit *ad, const char *sub)
{
    return kl_str_eqz(ad->sub, sub);
}
// The pod is a copy of one that a node runs by itself.
static inline bool kl_admit_mirror(const struct kl_value *pod)
{
    return kl_map_value(kl_meta_annotations(pod), KL_STR("kubernetes.io/config.mirror"));
}

// Whether a pod's spec refers to any Secret (VisitPodSecretNames).
bool kl_pod_refers_secret(const struct kl_value *spec);
// util/tolerations: whether `ss` tolerates all that `t` does; both lists without what is redundant,
// copied.
bool kl_toleration_covers(const struct kl_value *ss, const struct kl_value *t);
int kl_tolerations_merge(struct kl_arena *a, const struct kl_value *first,
                         const struct kl_value *second, struct kl_value *ret);

// ---- the plug-ins
kl_plugin_fn kl_namespace_lifecycle_mutate, kl_namespace_exists_validate; // plugin_namespace.c
kl_plugin_fn kl_namespace_provision_mutate;
kl_plugin_fn kl_owners_validate;                                     // plugin_owners.c
kl_plugin_fn kl_events_validate;                                     // plugin_events.c
kl_plugin_fn kl_images_validate;                                     // plugin_images.c
kl_plugin_fn kl_limit_ranger_mutate, kl_limit_ranger_validate;       // plugin_limits.c
kl_plugin_fn kl_service_account_mutate, kl_service_account_validate; // plugin_serviceaccount.c
kl_plugin_fn kl_node_restriction_mutate;                             // plugin_node.c
kl_plugin_fn kl_pod_security_validate;                               // plugin_podsecurity.c
kl_plugin_fn kl_default_tolerations_mutate, kl_extended_toleration_mutate; // plugin_pods.c
kl_plugin_fn kl_always_pull_mutate, kl_always_pull_validate, kl_anti_affinity_validate;
kl_plugin_fn kl_node_selector_mutate, kl_node_selector_validate; // plugin_placement.c
kl_plugin_fn kl_toleration_restriction_mutate, kl_toleration_restriction_validate;
kl_plugin_fn kl_priority_mutate, kl_priority_validate;           // plugin_priority.c
kl_plugin_fn kl_runtime_class_mutate, kl_runtime_class_validate; // plugin_runtimeclass.c
kl_plugin_fn kl_certificate_approval_validate;                   // plugin_certificates.c
kl_plugin_fn kl_certificate_signing_validate, kl_certificate_subject_validate;
kl_plugin_fn kl_trust_bundle_validate;
kl_plugin_fn kl_default_ingress_class_mutate; // plugin_classes.c
kl_plugin_fn kl_default_storage_class_mutate, kl_claim_resize_validate;
kl_plugin_fn kl_topology_labels_mutate, kl_pod_resize_validate; // plugin_scheduled.c
kl_plugin_fn kl_declared_features_validate;
kl_plugin_fn kl_resource_quota_validate;                      // plugin_quota.c
kl_plugin_fn kl_pod_group_workload_validate, kl_job_validate; // plugin_podgroups.c
