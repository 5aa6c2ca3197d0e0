// SPDX-License-Identifier: Apache-2.0
// Control groups of pods, on version 1 (one tree for each controller) and version 2: the layout,
// the numbers and the oom_score_adj of the upstream kubelet with the cgroupfs driver.
#pragma once
#include "base/err.h"
#include "object/value.h"
#include <sys/types.h>

enum kl_qos { KL_QOS_GUARANTEED, KL_QOS_BURSTABLE, KL_QOS_BESTEFFORT };
enum kl_qos kl_pod_qos(const struct kl_value *pod);
const char *kl_qos_name(enum kl_qos q); // "Guaranteed" ...

// A container's or pod's figures; -1: no limit.
struct kl_cgroup_values {
    int64_t cpu_shares;   // 2..262144
    int64_t cpu_quota_us; // per cpu_period_us
    int64_t cpu_period_us;
    int64_t memory_limit_bytes;
};
int64_t kl_cpu_shares(int64_t milli_cpu);
int64_t kl_cpu_quota(int64_t milli_cpu, int64_t period_us); // -1: no limit
int64_t kl_cpu_weight(int64_t shares);                      // version 2's cpu.weight
// Requests and limits of one container (spec value).
void kl_cgroup_of_container(const struct kl_value *container, struct kl_cgroup_values *ret);
// Of the whole pod: sums of containers, or the largest init container; limits only when all have.
void kl_cgroup_of_pod(const struct kl_value *pod, struct kl_cgroup_values *ret);
int kl_oom_score_adj(const struct kl_value *pod, const struct kl_value *container,
                     int64_t node_memory_bytes);

// Milli-CPU and bytes that a pod asks for (largest init container, sidecars and overhead counted).
void kl_pod_cgroup_requests(const struct kl_value *pod, int64_t *ret_milli, int64_t *ret_bytes);

// "ROOT/kubepods/burstable/podUID" into buf; dashes of the uid stay, as cgroupfs has them.
void kl_cgroup_pod_path(char *buf, size_t n, const char *root, enum kl_qos qos, struct kl_str uid);

// Blocking. Makes the pod's group in every hierarchy that has limits, and sets them.
int kl_cgroup_make_pod(const char *path, const struct kl_cgroup_values *v, struct kl_error *err);
// Sets those of a group that is there, which may have others. A limit of memory below what is used
// is refused: the kernel would kill for it.
int kl_cgroup_set_pod(const char *path, const struct kl_cgroup_values *v, struct kl_error *err);
// The same by the pod's uid, whatever its class.
int kl_cgroup_remove_pod(const char *root, struct kl_str uid, struct kl_error *err);
// Kills what is left in it and removes it everywhere. 0 when nothing is left.
int kl_cgroup_remove(const char *path, struct kl_error *err);
// Makes the group and moves the process there, where that is possible; else does nothing.
void kl_cgroup_join(const char *path, pid_t pid);
// The groups of QoS classes: their shares follow the sum of their pods' requests.
void kl_cgroup_set_qos(const char *root, int64_t burstable_milli, int64_t allocatable_milli);
// Removes groups in which nobody is: the parents of pods, which other kubelets may share.
void kl_cgroup_prune(const char *path);
