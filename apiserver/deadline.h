// SPDX-License-Identifier: Apache-2.0
// How long a request may take (upstream's filters WithRequestDeadline and
// WithTimeoutForNonLongRunningRequests): --request-timeout, or less where the parameter `timeout`
// says so. What has no answer by then is answered 504; what comes of it later is nobody's. An
// answer that has begun goes on. On the request's loop.
#pragma once
#include "apiserver/server_int.h"

// Reads `timeout` and begins to count. Negative: r->fail is set (400).
int kl_deadline_enter(struct kl_api_call *c);
void kl_deadline_leave(struct kl_api_call *c);
void kl_deadline_loop_fini(struct kl_api_loop *al);
