// SPDX-License-Identifier: Apache-2.0
// The strategies of kinds that fill a file, for the table in strategy.c.
#pragma once
#include "apiserver/strategy.h"

int kl_pod_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_pod_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
void kl_pod_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                     struct kl_field_errors *e);
int64_t kl_pod_grace(struct kl_req *r, const struct kl_value *pod);
// A PodTemplateSpec at a field path.
void kl_validate_pod_template(struct kl_req *r, const struct kl_value *t, const char *path,
                              struct kl_field_errors *e);

int kl_service_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_service_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
void kl_service_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                         struct kl_field_errors *e);
int kl_service_release(struct kl_req *r, const struct kl_value *old);
void kl_config_map_validate(struct kl_req *r, const struct kl_value *now,
                            const struct kl_value *old, struct kl_field_errors *e);
void kl_secret_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                        struct kl_field_errors *e);
void kl_deployment_validate(struct kl_req *r, const struct kl_value *now,
                            const struct kl_value *old, struct kl_field_errors *e);
void kl_workload_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                          struct kl_field_errors *e);
void kl_job_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                     struct kl_field_errors *e);
