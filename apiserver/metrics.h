// SPDX-License-Identifier: Apache-2.0
// The server's own series on /metrics, under upstream's names where those exist.
#pragma once
#include "apiserver/request.h"

// A request begins: what it is, is known. It is over in kl_api_metrics_leave.
void kl_api_metrics_enter(struct kl_req *r);
void kl_api_metrics_leave(struct kl_req *r);
void kl_api_metrics_request(struct kl_req *r, int http); // it was answered
// With so many bytes.
void kl_api_metrics_answer(struct kl_req *r, int http, int64_t bytes);
// Appends what is read at the moment of the scrape: series.h, loops, connections, the process.
void kl_api_metrics_write(struct kl_req *r, struct kl_buf *out);
// Text for people: where time (the loops') and memory go.
void kl_api_profile_write(struct kl_req *r, struct kl_buf *out);
