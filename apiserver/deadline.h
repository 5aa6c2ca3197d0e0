// SPDX-License-Identifier: Apache-2.0
// How long a request may take (upstream's filters WithRequestDeadline and
// WithTimeoutForNonLongRunningRequests): --request-timeout, or less where the parameter `timeout`
// says so. What has no answer by then is answered 504; what comes of it later is nobody's. An
// answer that has begun goes on. A list stops reading then, a webhook is waited for a second longer
// at most, and what has not gone to the datastore by then is not written. On the request's loop.
#pragma once
#include "apiserver/server_int.h"

// Reads `timeout` and begins to count. Negative: r->fail is set (400).
int kl_deadline_enter(struct kl_api_call *c);
void kl_deadline_leave(struct kl_api_call *c);
// How long the request has until then; INT64_MAX: as long as it takes, 0: it is over.
int64_t kl_deadline_left_ms(const struct kl_req *r);
// True: it is over, and r->fail says so for whoever still wants to know.
bool kl_deadline_passed(struct kl_req *r);
void kl_deadline_loop_fini(struct kl_api_loop *al);
