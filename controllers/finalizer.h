// SPDX-License-Identifier: Apache-2.0
// Names in metadata.finalizers, which keep an object until their controllers have done their part.
#pragma once
#include "client/plan.h"

bool kl_has_finalizer(const struct kl_value *root, const char *finalizer);
// Writes the object, which the plan then holds, with or without this one; it may be gone already.
// NULL: p->err is set.
struct kl_action *kl_plan_finalizer(struct kl_plan *p, const struct kl_resource *res,
                                    struct kl_object *o, const char *finalizer, bool with);
