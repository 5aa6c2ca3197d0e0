// SPDX-License-Identifier: Apache-2.0
// HTTPS calls to programs outside: admission and conversion webhooks (clientConfig of url or
// service, caBundle), token and authorisation webhooks (a kubeconfig's cluster and user). One POST
// of JSON, one answer of JSON, with limits on both time and size. All on one loop.
#pragma once
#include "apiserver/server_int.h"

struct kl_webhook;
struct kl_webhook_call;

enum {
    KL_WEBHOOK_MAX_ANSWER = 5 << 20, // an AdmissionReview may have a patch as large as the object
    KL_WEBHOOK_MAX_FLYING = 1000,    // calls of one loop at a time; more fail at once
};

// Where and how, kept as long as the configuration is: connections are kept with it. One reference.
// From admissionregistration's and CRDs' clientConfig (a typed value). KL_EINVALID with a message.
int kl_webhook_from_config(struct kl_api_loop *al, const struct kl_value *client_config,
                           struct kl_webhook **ret, struct kl_error *err);
struct kl_webhook_opts {
    const char *url; // https:// (http:// is for tests)
    struct kl_tls_pem ca, cert, key;
    const char *server_name; // SNI and the name checked; NULL: the host
    bool insecure_skip_verify;
    const char *bearer_token;                // NULL: none
    const char *basic_user, *basic_password; // NULL: none
};
int kl_webhook_new(struct kl_api_loop *al, const struct kl_webhook_opts *o, struct kl_webhook **ret,
                   struct kl_error *err);
struct kl_webhook *kl_webhook_ref(struct kl_webhook *w);
void kl_webhook_unref(struct kl_webhook *w); // accepts NULL; calls in flight go on

// What Go's client shows: https://SERVICE.NAMESPACE.svc:PORT/path for a service.
struct kl_str kl_webhook_url(const struct kl_webhook *w);

// POSTs the body (referenced by the call). The answer comes once, later, never from within:
// `status` is the HTTP status with the body (borrowed), or a negative code, with `err` in the words
// of Go's client: `Post "https://...": dial tcp 10.0.0.1:443: connect: connection refused`,
// `... context deadline exceeded`. A negative return: no callback.
typedef void (*kl_webhook_cb)(void *arg, int status, struct kl_str body,
                              const struct kl_error *err);
int kl_webhook_post(struct kl_webhook *w, struct kl_bytes *body, uint32_t timeout_ms,
                    kl_webhook_cb cb, void *arg, struct kl_webhook_call **ret_or_null,
                    struct kl_error *err);
void kl_webhook_cancel(struct kl_webhook_call *c); // no callback any more
void kl_webhook_loop_fini(struct kl_api_loop *al); // the loop ends
