// SPDX-License-Identifier: Apache-2.0
// What the files of warnings share. They see an object as validation does: struct kl_v, whose
// findings they leave alone.
#pragma once
#include "object/validate/pod_int.h"
#include "object/validate/warn.h"

// Adds "path: text", or the text alone where there is no path.
void kl_warn(struct kl_v *c, const struct kl_vpath *p, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// No more can be said: what goes on looking may stop.
static inline bool kl_warn_full(const struct kl_v *c)
{
    return c->warnings->n >= KL_WARNINGS_MAX;
}
// GetNodeLabelDeprecatedMessage: NULL when the label is as good as any.
const char *kl_warn_node_label(struct kl_str key);
// GetWarningsForNodeSelectorTerm
void kl_warn_node_term(struct kl_v *c, const struct kl_value *term, bool check_values,
                       const struct kl_vpath *p);
// A quantity of bytes that is no whole number; v may be NULL.
void kl_warn_fraction(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
// GetWarningsForPersistentVolumeClaimSpec
void kl_warn_claim_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p);

// "metadata.name: this is used in WHAT, ..." when it is no DNS label
void kl_warn_host_name(struct kl_v *c, const char *what);

// warn_pod.c: a template's p is its own path, a pod's NULL
void kl_warn_pod(struct kl_v *c, const struct kl_value *pod, const struct kl_vpath *p);
// warn_volumes.c
void kl_warn_volumes(struct kl_v *c, const struct kl_value *volumes, const struct kl_vpath *p);

// ---- kinds: warn.c has the table
struct kl_warn_kind {
    void (*both)(struct kl_v *c); // what is said on create and on update, where these are NULL:
    void (*create)(struct kl_v *c);
    void (*update)(struct kl_v *c, bool bumped);
    void (*status)(struct kl_v *c);
};
extern const struct kl_warn_kind kl_warn_pods, kl_warn_templates, kl_warn_controllers,
    kl_warn_deployments, kl_warn_replica_sets, kl_warn_stateful_sets, kl_warn_daemon_sets,
    kl_warn_jobs, kl_warn_cron_jobs; // warn_pod.c, warn_workloads.c
extern const struct kl_warn_kind kl_warn_nodes, kl_warn_secrets, kl_warn_accounts, kl_warn_volume,
    kl_warn_claims, kl_warn_storage_classes, kl_warn_capacities, kl_warn_csi_drivers,
    kl_warn_runtime_classes, kl_warn_static_names, kl_warn_device_slices; // warn_kinds.c
extern const struct kl_warn_kind kl_warn_services, kl_warn_endpoints, kl_warn_endpoint_slices,
    kl_warn_ingresses, kl_warn_policies; // warn_network.c
