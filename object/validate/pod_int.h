// SPDX-License-Identifier: Apache-2.0
// What the files about pods and their templates share.
#pragma once
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/validate_int.h"

struct kl_pod_ctx {
    const struct kl_value *meta; // of a pod; NULL in a template
    const struct kl_value *spec;
    const struct kl_value *grace; // terminationGracePeriodSeconds, may be NULL
    struct kl_str restart, os;
    bool is_pod, host_users, has_os;
    uint32_t *bad; // indexes of volumes that are no good: mounts do not find them
    size_t nbad;
};

typedef void kl_container_fn(struct kl_v *c, const struct kl_value *container,
                             const struct kl_vpath *p, void *arg);
// VisitContainersWithPath: init, regular, ephemeral.
void kl_v_visit_containers(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                           kl_container_fn *fn, void *arg);

// pod_spec.c
void kl_v_pod_spec(struct kl_v *c, struct kl_pod_ctx *x, const struct kl_vpath *p);
void kl_v_pod_annotations(struct kl_v *c, const struct kl_value *annotations,
                          const struct kl_value *spec, const struct kl_vpath *p);
void kl_v_profile_annotations(struct kl_v *c, const struct kl_value *annotations,
                              const struct kl_value *spec, const struct kl_vpath *p);
void kl_v_preemption(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_overhead(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
// ValidatePodTemplateSpec
void kl_v_pod_template(struct kl_v *c, const struct kl_value *template, const struct kl_vpath *p);

// pod_volumes.c
void kl_v_volumes(struct kl_v *c, struct kl_pod_ctx *x, const struct kl_vpath *p);
const struct kl_value *kl_v_volume(const struct kl_pod_ctx *x, struct kl_str name); // a good one
void kl_v_claim_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                     bool allow_bad_group);
void kl_v_access_modes(struct kl_v *c, const struct kl_value *modes, const struct kl_vpath *p);
void kl_v_iscsi(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p, bool of_pv);
void kl_v_driver_name(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_volume_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p,
                      bool in_line);                      // volume.c
void kl_v_balancer_status(struct kl_v *c, bool any_type); // service.c
// One source of a PersistentVolume or a pod's volume: their shared rules by member.
const struct kl_rule *kl_v_volume_rules(kl_sym member);
void kl_v_file_mode(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_key_to_path(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);

// volume_projected.c
void kl_v_downward(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_projected(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_signer_name(struct kl_v *c, const struct kl_vpath *p, struct kl_str name);

// pod_containers.c
void kl_v_containers(struct kl_v *c, const struct kl_vpath *p);
void kl_v_init_containers(struct kl_v *c, const struct kl_vpath *p);
void kl_v_ephemeral_containers(struct kl_v *c, const struct kl_vpath *p);
void kl_v_container_image(struct kl_v *c, const struct kl_value *container,
                          const struct kl_vpath *p);
void kl_v_pull_policy(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
bool kl_v_claim_name(const struct kl_value *spec, struct kl_str name);
void kl_v_claim_missing(struct kl_v *c, const struct kl_vpath *p, struct kl_str name,
                        const struct kl_value *spec);
void kl_v_field_ref(struct kl_v *c, const struct kl_value *v, const char *const *allowed,
                    const struct kl_vpath *p);
void kl_v_resource_ref(struct kl_v *c, const struct kl_value *v, bool volume,
                       const struct kl_vpath *p);

// pod_probes.c: lifecycle and probes of a container
void kl_v_lifecycle(struct kl_v *c, const struct kl_value *ctr, const struct kl_vpath *p);

// pod_resize.c: what the subresource changes, behind the rules of all pods
void kl_v_pod_resize(struct kl_v *c);

// pod_security.c
void kl_v_pod_security(struct kl_v *c, const struct kl_value *sc, const struct kl_value *spec,
                       const struct kl_vpath *p);
void kl_v_security_context(struct kl_v *c, const struct kl_value *sc, const struct kl_vpath *p);
void kl_v_windows(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p);

// pod_affinity.c
void kl_v_affinity(struct kl_v *c, const struct kl_value *affinity, const struct kl_vpath *p);
void kl_v_node_selector(struct kl_v *c, const struct kl_value *selector, const struct kl_vpath *p);
void kl_v_node_affinity_change(struct kl_v *c, const struct kl_value *now,
                               const struct kl_value *old, const struct kl_vpath *p);
void kl_v_tolerations(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p);
void kl_v_spread(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p);
void kl_v_taint_effect(struct kl_v *c, struct kl_str effect, bool allow_empty,
                       const struct kl_vpath *p);

// resources.c
void kl_v_quantity(struct kl_v *c, struct kl_str resource, const struct kl_value *q,
                   const struct kl_vpath *p);
void kl_v_positive_quantity(struct kl_v *c, const struct kl_value *q, const struct kl_vpath *p);
int kl_v_compare(const struct kl_value *a, const struct kl_value *b); // quantities; NULL is 0
void kl_v_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p);
void kl_v_container_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p);
void kl_v_quota_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p);
bool kl_v_is_quota_resource(struct kl_str name);
bool kl_v_overcommits(struct kl_str name);
bool kl_v_is_native(struct kl_str name);
bool kl_v_is_extended(struct kl_str name);
bool kl_v_is_huge(struct kl_str name);
void kl_v_requirements(struct kl_v *c, const struct kl_value *resources,
                       const struct kl_value *spec, bool of_pod, const struct kl_vpath *p);
void kl_v_pod_resources(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p);

// workloads.c
// LabelSelectorAsSelector and Matches; `bad` when no selector can be made of it.
bool kl_v_selects(const struct kl_value *selector, const struct kl_value *labels, bool *bad);
void kl_v_no_match(struct kl_v *c, const struct kl_value *labels, const struct kl_vpath *p);
int64_t kl_v_int_or_percent(const struct kl_value *v);
void kl_v_positive_or_percent(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_at_most_all(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
