// SPDX-License-Identifier: Apache-2.0
// What the files about resource.k8s.io share.
#pragma once
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/pod_int.h"

enum {                       // of resource.k8s.io's types
    KL_DEVICE_LIST_MAX = 32, // selectors, requests, constraints, configurations, results
    KL_DEVICE_DATA_MAX = 10 * 1024,
};

// validateSlice: false, and said, when there are more than `max`.
bool kl_v_few(struct kl_v *c, const struct kl_value *list, size_t max, const struct kl_vpath *p);
// validateSet's second half: items (strings, or the field `key` of structs) that stood before.
void kl_v_no_twins(struct kl_v *c, const struct kl_value *list, kl_sym key,
                   const struct kl_vpath *p);
void kl_v_device_selectors(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p);
void kl_v_device_env_end(struct kl_v *c); // after the last selector
// DeviceConfiguration: the struct that has `opaque`; of a stored one the size counts no more.
void kl_v_device_config(struct kl_v *c, const struct kl_value *v, bool stored,
                        const struct kl_vpath *p);
// A RawExtension that must be an object.
void kl_v_raw_object(struct kl_v *c, const struct kl_value *v, bool stored,
                     const struct kl_vpath *p);
void kl_v_pool_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p);
void kl_v_device_taint(struct kl_v *c, const struct kl_value *taint, struct kl_str old_effect,
                       const struct kl_vpath *p);
void kl_v_device_toleration(struct kl_v *c, const struct kl_value *t, const struct kl_vpath *p);
// bindingConditions and bindingFailureConditions of v
void kl_v_device_binding(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p);
void kl_v_qualified_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p);
void kl_v_device_uuid(struct kl_v *c, struct kl_str s, const struct kl_vpath *p);
