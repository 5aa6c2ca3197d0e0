// SPDX-License-Identifier: Apache-2.0
// The volumes of one pod: made before its first container, kept up to date, given back at its end.
// They lie in DATA/agent/pods/UID/volumes/kubernetes.io~KIND/NAME.
#pragma once
#include "kubelet/fsutil.h"
#include "object/value.h"

struct kl_pod;
struct kl_volumes;

// Makes everything. cb comes once, later: NULL, or the first error as FailedMount says it.
// The handle is the pod's (p->volumes); a failed set-up can be tried again with kl_volumes_setup.
struct kl_volumes *kl_volumes_new(struct kl_pod *p);
void kl_volumes_setup(struct kl_volumes *v, void (*cb)(void *arg, const struct kl_error *err),
                      void *arg);
void kl_volumes_pod_changed(struct kl_volumes *v); // labels or annotations, for the downward API
// Unmounts and removes; cb as above. Safe when nothing or only part was made.
void kl_volumes_teardown(struct kl_volumes *v, void (*cb)(void *arg, const struct kl_error *err),
                         void *arg);
void kl_volumes_free(struct kl_volumes *v); // ends watching; leaves what is mounted. Accepts NULL
// Whether containers may only read it, whatever their volumeMounts say.
bool kl_volume_is_read_only(const struct kl_value *pod, struct kl_str name);
// The host's path of a volume of the pod's spec; false when there is no such volume.
bool kl_volumes_path(const struct kl_volumes *v, struct kl_str name, struct kl_path *ret);
// For what is no volume but needs the same objects: ConfigMaps and Secrets of the environment.
// The object or NULL; valid once the set-up has been answered.
struct kl_object *kl_volumes_object(const struct kl_volumes *v, bool secret, struct kl_str name);
