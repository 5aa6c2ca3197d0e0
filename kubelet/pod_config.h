// SPDX-License-Identifier: Apache-2.0
// From a pod's spec to CRI's messages (pkg/kubelet/kuberuntime: generatePodSandboxConfig,
// generateContainerConfig). All memory is the arena's or the pod's.
#pragma once
#include "kubelet/pods_int.h"

// *ret_missing_dns: the policy wants the cluster's DNS and there is none.
int kl_sandbox_config(struct kl_arena *a, struct kl_pod *p, uint32_t attempt,
                      struct kl_cri_pod_sandbox_config **ret, bool *ret_missing_dns,
                      struct kl_error *err);

struct kl_container_inputs {
    const struct kl_value *container;
    enum kl_ctr_kind kind;
    uint32_t attempt;
    struct kl_str image_ref;        // what the runtime knows it by
    int64_t image_uid;              // -1: not a number or not known
    struct kl_str image_user;       // a name
    struct kl_str termination_log;  // host path of the file
    struct kl_str hosts_file;       // host path, "" for none
    const struct kl_path *subpaths; // by volumeMount: the prepared host path, "" when not used
};
// What the runtime is to hold it to; NULL: no memory.
struct kl_cri_linux_container_resources *
kl_container_resources(struct kl_arena *a, struct kl_pod *p, const struct kl_value *container);
// KL_EINVALID: what CreateContainerConfigError says.
int kl_container_config(struct kl_arena *a, struct kl_pod *p, const struct kl_container_inputs *in,
                        struct kl_cri_container_config **ret, struct kl_error *err);

// What both say. Namespaces of a pod's spec, and a user's or group's id, NULL when it is negative
// (not given); NULL also: out of memory.
struct kl_cri_namespace_option *kl_pod_namespaces(struct kl_arena *a, const struct kl_value *spec);
struct kl_cri_int64_value *kl_cri_id(struct kl_arena *a, int64_t id);

struct kl_str kl_pod_hostname(const struct kl_value *pod);
// The text of the pod's /etc/hosts; `host` is the node's own file (hostNetwork).
struct kl_str kl_hosts_file(struct kl_arena *a, const struct kl_value *pod, struct kl_str ip,
                            struct kl_str domain, struct kl_str host);
// nameserver, search and options of a resolv.conf.
void kl_resolv_conf_parse(struct kl_arena *a, struct kl_str text, struct kl_cri_dns_config *ret);
void kl_dns_for_pod(struct kl_arena *a, const struct kl_value *pod, struct kl_str cluster_dns,
                    struct kl_str cluster_domain, struct kl_str host_resolv_conf,
                    struct kl_cri_dns_config *ret, bool *ret_missing_dns);
