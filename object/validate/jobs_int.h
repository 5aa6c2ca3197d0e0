// SPDX-License-Identifier: Apache-2.0
// What the files about Jobs share.
#pragma once
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/validate_int.h"

// job_spec.c
bool kl_v_job_is_indexed(const struct kl_value *spec);
// One part of a list of indexes, "3-5" or "0": its ends, or what is wrong.
const char *kl_v_job_interval(struct kl_v *c, struct kl_str s, int64_t completions, int64_t *x,
                              int64_t *y);
// A whole list such as "0,3-5", all below `completions`: how many there are, or what is wrong.
const char *kl_v_job_indexes(struct kl_v *c, struct kl_str s, int64_t completions,
                             int64_t *ret_total);
void kl_v_job_spec(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p);

// job_status.c
bool kl_v_job_condition(const struct kl_value *root, const char *type, const char *status);
void kl_v_job_status(struct kl_v *c);
