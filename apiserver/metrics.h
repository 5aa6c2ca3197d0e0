// SPDX-License-Identifier: Apache-2.0
// The server's own series on /metrics, under upstream's names where those exist.
#pragma once
#include "apiserver/request.h"

// Registers the series; once, at start.
void kl_api_metrics_init(struct kl_apiserver *s);
void kl_api_metrics_request(const struct kl_req *r, int http); // a request was answered
// Appends what is read at the moment of the scrape: loops, connections, the process.
void kl_api_metrics_write(struct kl_apiserver *s, struct kl_buf *out);
