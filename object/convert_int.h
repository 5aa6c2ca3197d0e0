// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/value.h"

// HorizontalPodAutoscalers: what autoscaling/v1 has no fields for travels in annotations.
int kl_convert_hpa_to_v2(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err);
int kl_convert_hpa_to_v1(struct kl_arena *a, const struct kl_value *in, struct kl_value *ret,
                         struct kl_error *err);
// resource.k8s.io: between v1beta1 and the later versions, which are alike. KL_ENOMEM.
int kl_convert_devices(struct kl_arena *a, const char *kind, bool to_v1beta1,
                       const struct kl_value *in, struct kl_value *ret);
