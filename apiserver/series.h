// SPDX-License-Identifier: Apache-2.0
// Counters and histograms by upstream's labels of a request (verb, group, version, resource, ...).
// Each loop counts in a table of its own, without locks; a scrape adds them up.
#pragma once
#include "apiserver/request.h"
#include "base/buf.h"

struct kl_series;
struct kl_series_table;
struct kl_apiserver;

enum kl_etcd_op { KL_ETCD_CREATE, KL_ETCD_UPDATE, KL_ETCD_DELETE, KL_ETCD_OPS };

void kl_series_free(struct kl_series_table *t); // accepts NULL; no loop runs any more

// ---- on the request's loop. Nothing happens when memory or the table is full.
// A request was answered with this status and so many bytes (-1: not known). took_us -1: its time
// says nothing.
void kl_series_request(struct kl_req *r, int http, int64_t took_us, int64_t bytes);
void kl_series_long_running(struct kl_req *r, int n); // +1 begins, -1 is over
void kl_series_event(struct kl_req *r);               // one was sent to a watch
// A watch got the bookmark that ends its initial events.
void kl_series_watch_list(struct kl_req *r);
void kl_series_etcd(struct kl_req *r, const struct kl_resource *res, enum kl_etcd_op op,
                    int64_t took_us);

// The labels verb and scope of a request.
struct kl_str kl_series_verb(const struct kl_req *r);
struct kl_str kl_series_scope(const struct kl_req_info *i);

// ---- any loop
void kl_series_write(struct kl_apiserver *s, struct kl_buf *out);
