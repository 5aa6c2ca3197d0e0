// SPDX-License-Identifier: Apache-2.0
// What the server serves: /api, /apis (plain and aggregated, v2 and v2beta1).
#pragma once
#include "apiserver/server_int.h"

// The release of Kubernetes whose API this is.
#define KL_K8S_MAJOR "1"
#define KL_K8S_MINOR "36"
#define KL_K8S_VERSION "v1.36.3"

// Ends the request.
void kl_discovery_run(struct kl_api_call *c);
