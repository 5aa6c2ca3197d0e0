// SPDX-License-Identifier: Apache-2.0
// Which versions of built-in resources a server serves: the default, as changed by
// --runtime-config.
#pragma once
#include "apiserver/server_int.h"

// settings->runtime_config: NULL-ended entries WHAT=BOOL: api/all, api/ga, api/beta, api/alpha,
// GROUP/VERSION, GROUP/VERSION/RESOURCE, the later the stronger. *ret is NULL when nothing was
// asked for. KL_EINVALID in upstream's words.
int kl_served_new(const struct kl_api_settings *settings, const struct kl_gate_set *gates,
                  struct kl_served **ret, struct kl_error *err);
void kl_served_free(struct kl_served *s); // accepts NULL

// A row of kl_resources; custom resources are always served.
bool kl_is_served(const struct kl_apiserver *s, const struct kl_resource *r);
// The i-th version of a group that is served, preferred first; NULL: no more.
const char *kl_served_version(const struct kl_apiserver *s, const struct kl_group *g, size_t i);
// Whether that is one of them.
bool kl_serves_version(const struct kl_apiserver *s, struct kl_str group, struct kl_str version);
// A number that differs where what is served does; 0: the default.
uint64_t kl_served_stamp(const struct kl_apiserver *s);
// After kl_req_info_parse: what the path names, if it is served here. s->served is set.
void kl_served_fix(struct kl_req *r);
