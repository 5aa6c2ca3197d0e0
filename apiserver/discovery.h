// SPDX-License-Identifier: Apache-2.0
// What the server serves: /api, /apis (plain and aggregated).
#pragma once
#include "apiserver/server_int.h"

// The release of Kubernetes whose API this is.
#define KL_K8S_MAJOR "1"
#define KL_K8S_MINOR "36"
#define KL_K8S_VERSION "v1.36.3"

// Ends the request.
void kl_discovery_run(struct kl_api_call *c);
// Appends the paths of all groups and their versions, each on a line of its own, in no order.
void kl_discovery_paths(struct kl_req *r, struct kl_buf *b);
