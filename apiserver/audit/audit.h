// SPDX-License-Identifier: Apache-2.0
// Audit (audit.k8s.io/v1): a policy says how much of which request is noted; events go to a log and
// to a webhook, as upstream's to the field. Without a policy there is no struct kl_audit, and each
// hook below is one test of a pointer in the request.
//
// Events are encoded on the request's loop and handed to threads of the sinks through queues of
// bounded number and size. What happens when a queue is full is its mode's: batch drops the event
// (and counts it), blocking waits for room, blocking-strict too, and refuses requests whose first
// event cannot be written at all.
#pragma once
#include "apiserver/server_int.h"
#include "apiserver/settings.h"

struct kl_audit;

// By the --audit-* settings; *ret is NULL when they ask for none. Reads the policy. KL_EINVALID.
int kl_audit_new(const struct kl_api_settings *o, struct kl_audit **ret, struct kl_error *err);
void kl_audit_free(struct kl_audit *a); // writes what is queued; accepts NULL

// The request has a user (or none: it is refused, 401 or 400) and what it asks is known: the policy
// decides whether r->audit is made, and RequestReceived is written. `hr` NULL: it came from within
// the process. False: it must be refused with 500 (blocking-strict).
bool kl_audit_begin(struct kl_req *r, struct kl_http_req *hr);

// The rest does nothing without r->audit.
void kl_audit_impersonated(struct kl_req *r); // r->user is whom it acts for
void kl_audit_decided(struct kl_req *r, bool allowed, struct kl_str reason);
// The HTTP status is known; of a long-running request ResponseStarted is written.
void kl_audit_status(struct kl_req *r, int http);
// The result is in r (kl_http_answer), before it is encoded.
void kl_audit_result(struct kl_req *r);
// The answer is this list. Its items are noted one by one as they are streamed, so that a large
// list costs no long turn here; `json`: the item's text, where it is at hand. `end`, before g is
// released: items that nobody took, or that go above 32 MiB, are not noted, and the annotation
// audit.k8s.io/truncated says so.
struct kl_gather;
void kl_audit_list_begin(struct kl_req *r, const struct kl_gather *g);
void kl_audit_list_item(struct kl_req *r, struct kl_kv *kv, struct kl_str json);
void kl_audit_list_end(struct kl_req *r, const struct kl_gather *g);
// The request's id, for the Audit-Id header: the event's, the client's own, or a new one.
struct kl_str kl_audit_id(struct kl_req *r);
// It is over: ResponseComplete.
void kl_audit_end(struct kl_req *r);

// apiserver_audit_* in Prometheus' text format. Any thread.
void kl_audit_metrics(struct kl_audit *a, struct kl_buf *b);
