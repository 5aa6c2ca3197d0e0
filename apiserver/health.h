// SPDX-License-Identifier: Apache-2.0
// /livez, /readyz and /healthz: checks by upstream's names, ?verbose, ?exclude=NAME, /livez/NAME.
#pragma once
#include "apiserver/server_int.h"

void kl_health_run(struct kl_api_call *c); // ends the request
// Appends the paths of the checks, each on a line of its own.
void kl_health_paths(const struct kl_apiserver *s, struct kl_buf *b);
// What they have said so far: kubernetes_healthcheck and kubernetes_healthchecks_total.
void kl_health_metrics(struct kl_apiserver *s, struct kl_buf *b);
