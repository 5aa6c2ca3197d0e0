// SPDX-License-Identifier: Apache-2.0
// The strategies of kinds that fill a file, for the table in strategy.c.
#pragma once
#include "apiserver/strategy.h"

int kl_pod_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_pod_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
int64_t kl_pod_grace(struct kl_req *r, const struct kl_value *pod);

int kl_service_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_service_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
int kl_service_release(struct kl_req *r, const struct kl_value *old);

int kl_daemon_set_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_daemon_set_prepare_update(struct kl_req *r, struct kl_value *draft,
                                 const struct kl_value *old);

int kl_claim_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
void kl_claim_check_access(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                           struct kl_field_errors *e);
int kl_taint_rule_prepare_update(struct kl_req *r, struct kl_value *draft,
                                 const struct kl_value *old);
