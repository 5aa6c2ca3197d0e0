// SPDX-License-Identifier: Apache-2.0
// The transport of client.h over HTTPS (or plain HTTP for tests), on net/http_client.h. Objects go
// as protobuf where their kind has it, else as JSON.
#pragma once
#include "client/client.h"

struct kl_https_options {
    struct kl_loop *loop;
    struct kl_str server; // "https://10.0.0.1:6443", perhaps with a path; copied
    // PEM in memory; empty: none. Copied.
    struct kl_str ca, cert, key;
    const char *server_name; // checked instead of the host; NULL: the host
    bool insecure_skip_verify;
    struct kl_str bearer_token; // empty: none. Copied
    const char *user_agent;     // NULL: "kinglet"; copied
    bool json_only;             // never protobuf
};

// KL_EINVALID for a bad URL or bad PEM, KL_ENOMEM. Free with kl_client_free, on the loop, when no
// call and no watch is under way.
int kl_https_client_new(const struct kl_https_options *o, struct kl_client **ret,
                        struct kl_error *err);
// As a context of a kubeconfig file says (NULL: its current one): server, CA, client certificate or
// token, inline or in files beside it. KL_ENOTFOUND, KL_EINVALID, KL_EUNSUPPORTED (exec plugins).
int kl_client_from_kubeconfig(struct kl_loop *loop, const char *path, const char *context,
                              const char *user_agent, struct kl_client **ret, struct kl_error *err);
// A new certificate and key for the connections made from now on (rotation). KL_EINVALID.
int kl_https_client_set_cert(struct kl_client *c, struct kl_str cert, struct kl_str key,
                             struct kl_error *err);
