// SPDX-License-Identifier: Apache-2.0
// A container's environment and what is expanded from it. Pure (pkg/kubelet/kubelet_pods.go,
// makeEnvironmentVariables; third_party/forked/golang/expansion).
#pragma once
#include "base/arena.h"
#include "kubelet/cri_gen.h"
#include "object/value.h"

struct kl_env_source {
    const struct kl_value *pod, *container;
    struct kl_str pod_ip, pod_ips, host_ip, node_name;
    int64_t allocatable_milli_cpu, allocatable_bytes, allocatable_ephemeral_bytes;
    // A ConfigMap or Secret of the pod's namespace; NULL when there is none.
    const struct kl_value *(*object)(void *arg, bool secret, struct kl_str name);
    void *arg;
    const struct kl_cri_key_value *services; // KUBERNETES_SERVICE_HOST and so on
    size_t nservices;
};

// KL_EINVALID with the message of CreateContainerConfigError.
int kl_env_build(struct kl_arena *a, const struct kl_env_source *src, struct kl_cri_key_value **ret,
                 size_t *ret_n, struct kl_error *err);
// "$(NAME)" from the environment; "$$(NAME)" is "$(NAME)"; an unknown one stays as it is.
struct kl_str kl_env_expand(struct kl_arena *a, struct kl_str text,
                            const struct kl_cri_key_value *env, size_t n);
// Value of a fieldRef as the downward API gives it; p NULL: no such field.
struct kl_str kl_field_ref(struct kl_arena *a, const struct kl_env_source *src, struct kl_str path);
// Value of a resourceFieldRef ("limits.cpu"), divided and rounded up; p NULL: no such resource.
struct kl_str kl_resource_field_ref(struct kl_arena *a, const struct kl_env_source *src,
                                    const struct kl_value *ref);
// The variables of one Service, as Docker links named them.
void kl_env_of_service(struct kl_arena *a, const struct kl_value *service,
                       struct kl_cri_key_value **list, size_t *n, size_t *cap);
