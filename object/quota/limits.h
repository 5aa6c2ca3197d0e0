// SPDX-License-Identifier: Apache-2.0
// LimitRanges: what containers get that say nothing, and what pods and claims may ask for
// (plugin/pkg/admission/limitranger). Pure: any loop.
#pragma once
#include "object/quota/amounts.h"

// Fills the containers' requests and limits of a pod's draft by the LimitRange (its root) and notes
// it in the annotation kubernetes.io/limit-ranger. What it takes from the LimitRange is copied.
// KL_ENOMEM.
int kl_limits_fill(struct kl_arena *a, const struct kl_value *limit_range, struct kl_value *pod);
// What the pod or the PersistentVolumeClaim breaks: "" or upstream's text, several in brackets.
// KL_ENOMEM.
int kl_limits_check_pod(struct kl_arena *a, const struct kl_value *limit_range,
                        const struct kl_value *pod, struct kl_str *ret_why);
int kl_limits_check_claim(struct kl_arena *a, const struct kl_value *limit_range,
                          const struct kl_value *claim, struct kl_str *ret_why);
