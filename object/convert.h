// SPDX-License-Identifier: Apache-2.0
// Conversion between two versions of one kind (autoscaling v1 and v2, core and events.k8s.io
// Events, resource.k8s.io v1beta1 and later, custom resources).
#pragma once
#include "object/resource.h"
#include "object/value.h"

// Whether objects of the two rows differ in more than apiVersion.
bool kl_convert_needed(const struct kl_resource *from, const struct kl_resource *to);
int kl_convert(struct kl_arena *a, const struct kl_resource *from, const struct kl_resource *to,
               const struct kl_value *in, struct kl_value *ret, struct kl_error *err);
