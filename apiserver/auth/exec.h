// SPDX-License-Identifier: Apache-2.0
// Credentials that a program makes: `exec` of a kubeconfig's user, as client-go's credential
// plug-ins (client.authentication.k8s.io/v1 and v1beta1). The program runs when credentials are
// wanted and none are there, when they have expired, and when a server has answered 401; who wants
// some meanwhile waits for the same run. It runs beside a thread of its own, for at most a minute
// and 1 MiB of output, its standard error is ours; no loop waits for it. What it says is logged
// nowhere.
#pragma once
#include "net/http_client.h"
#include "net/tls.h"
#include "object/value.h"

struct kl_exec; // counted by any thread
struct kl_exec_tls;

struct kl_exec_opts {
    struct kl_str user;          // its name, for messages
    const struct kl_value *conf; // the user's `exec`, untyped
    const char *kubeconfig;      // relative commands with a slash in them are beside this file
    // What provideClusterInfo tells.
    struct kl_str server, tls_server_name, ca, proxy_url;
    bool insecure_skip_verify, disable_compression;
    const struct kl_value *cluster_config; // the cluster's extension
};
// KL_EINVALID with clientcmd's words for a configuration that it refuses.
int kl_exec_new(const struct kl_exec_opts *o, struct kl_exec **ret, struct kl_error *err);
struct kl_exec *kl_exec_ref(struct kl_exec *x);
// The last one ends a program that still runs; not from a loop's callback that it waits for.
// Accepts NULL.
void kl_exec_unref(struct kl_exec *x);
// Whether the program is told which cluster it is for, so that it cannot be shared by several.
bool kl_exec_wants_cluster(const struct kl_value *conf);

// ---- exec_fetch.c: how a place is reached with such credentials. The certificate that the program
// gives takes the place of `cert` and `key`, which must be empty. Counted by any thread.
int kl_exec_tls_new(const struct kl_tls_client_opts *o, struct kl_exec_tls **ret,
                    struct kl_error *err);
struct kl_exec_tls *kl_exec_tls_ref(struct kl_exec_tls *t);
void kl_exec_tls_unref(struct kl_exec_tls *t); // accepts NULL

// kl_http_fetch with credentials: adds the authorization header, and takes its TLS of `tls` (NULL:
// plain). The spec is copied. A failure to get credentials is KL_EUNAVAILABLE in the callback:
// `getting credentials: exec: executable x failed with exit code 1`. All references are taken. On
// the client's loop; *ret until the callback, which never comes from within.
struct kl_exec_fetch;
int kl_exec_fetch(struct kl_exec *x, struct kl_exec_tls *tls, struct kl_http_client *client,
                  const struct kl_http_call_spec *spec, size_t max_bytes, kl_http_fetch_cb cb,
                  void *arg, struct kl_exec_fetch **ret_or_null, struct kl_error *err);
// The callback comes with KL_ECANCELED before this returns.
void kl_exec_fetch_cancel(struct kl_exec_fetch *f);
