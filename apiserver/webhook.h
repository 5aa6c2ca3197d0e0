// SPDX-License-Identifier: Apache-2.0
// HTTPS calls to programs that objects name by a clientConfig: admission webhooks and conversion
// webhooks. One POST of JSON, one answer, with limits on time and size. Everything belongs to one
// loop.
#pragma once
#include "apiserver/server_int.h"

struct kl_kubeconfig;
struct kl_webhook;
struct kl_webhook_call;
struct kl_span;

enum {
    KL_WEBHOOK_MAX_ANSWER = 8 << 20, // a review's patch may be as large as an object, in base64
    KL_WEBHOOK_MAX_FLYING = 1000,    // calls of one loop at a time; further ones fail at once
};

// Where and how, for as long as the configuration is. `client_config` is admissionregistration's or
// a CRD's WebhookClientConfig (typed): url, or service, and caBundle. A service is looked up in the
// loop's view at each call: a ready address of its EndpointSlices (this process need not be where
// cluster addresses lead anywhere), or the name of an ExternalName; the certificate must be for
// SERVICE.NAMESPACE.svc. KL_EINVALID with a message when it cannot be used.
int kl_webhook_new(struct kl_api_loop *al, const struct kl_value *client_config,
                   struct kl_webhook **ret, struct kl_error *err);
// As one of these users, found by the host and port that is called: "HOST:PORT", "*.DOMAIN:PORT",
// both without the port when it is 443, "*", the current context's; NULL: as nobody.
int kl_webhook_new_as(struct kl_api_loop *al, const struct kl_value *client_config,
                      const struct kl_kubeconfig *users, struct kl_webhook **ret,
                      struct kl_error *err);
void kl_webhook_free(struct kl_webhook *w); // accepts NULL; calls in flight go on

// POSTs the body (referenced by the call); the query says timeout=Ns when `timeout_query`, as
// upstream does for admission. The answer comes once, later, never from within: `status` is the
// HTTP status with the body (borrowed), or negative; then `err` has the words of Go's client:
// `Post "https://...": dial tcp 10.0.0.1:443: connect: connection refused`. A negative return has
// no callback.
typedef void (*kl_webhook_cb)(void *arg, int status, struct kl_str body,
                              const struct kl_error *err);
int kl_webhook_post(struct kl_webhook *w, struct kl_bytes *body, uint32_t timeout_ms,
                    bool timeout_query, kl_webhook_cb cb, void *arg,
                    struct kl_webhook_call **ret_or_null, struct kl_error *err);
// The same for a request that may be traced (trace/trace.h): the call is a span under `parent`.
int kl_webhook_post_for(struct kl_req *r, struct kl_span *parent, struct kl_webhook *w,
                        struct kl_bytes *body, uint32_t timeout_ms, bool timeout_query,
                        kl_webhook_cb cb, void *arg, struct kl_webhook_call **ret_or_null,
                        struct kl_error *err);
void kl_webhook_cancel(struct kl_webhook_call *c); // no callback any more
// What client-go says of an HTTP status that is no success, or NULL for 200 to 206.
struct kl_str kl_webhook_status_text(struct kl_arena *a, int status, struct kl_str body);

// The loop ends: calls in flight end with KL_ECANCELED; then what is left is freed.
void kl_webhook_loop_stop(struct kl_api_loop *al);
