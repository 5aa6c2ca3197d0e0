// SPDX-License-Identifier: Apache-2.0
// TLS contexts for servers and clients: TLS 1.2 and later, ALPN, optional client certificates, live
// replacement of the certificate. A context is thread-safe and reference-counted; every server,
// client and connection that uses it holds a reference.
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include <openssl/ssl.h>
#include <stdbool.h>

struct kl_tls_ctx;

// PEM given in memory (n > 0) or by a file name (not NULL); memory wins. Borrowed for the call.
struct kl_tls_pem {
    struct kl_str pem;
    const char *file;
};

struct kl_tls_server_opts {
    struct kl_tls_pem cert; // leaf first, then intermediates
    struct kl_tls_pem key;
    // With a client CA a client certificate is asked for but not required, and the handshake goes
    // on with an untrusted one, as kube-apiserver does (tls.RequestClientCert); whether it was
    // trusted stands in kl_http_peer_cert(). Several CAs may be concatenated.
    struct kl_tls_pem client_ca;
    bool require_client; // one of client_ca is required in the handshake (etcd's client-cert-auth)
    bool mutual;         // as require_client, and TLS 1.3: between our own servers
    bool no_http2;       // offer only http/1.1 in ALPN
};

struct kl_tls_client_opts {
    struct kl_tls_pem ca;        // empty: the system's roots
    struct kl_tls_pem cert, key; // optional client certificate
    const char *server_name;     // SNI and the name checked; NULL: the host that is dialled
    bool insecure_skip_verify;   // --insecure-skip-tls-verify
    bool mutual;                 // TLS 1.3; the caller checks who it is, here only the CA
    bool no_http2;
};

// KL_EINVALID with OpenSSL's reason when PEM, key or their match is bad; KL_ENOTFOUND and others
// for unreadable files.
int kl_tls_server_new(const struct kl_tls_server_opts *o, struct kl_tls_ctx **ret,
                      struct kl_error *err);
int kl_tls_client_new(const struct kl_tls_client_opts *o, struct kl_tls_ctx **ret,
                      struct kl_error *err);
struct kl_tls_ctx *kl_tls_ctx_ref(struct kl_tls_ctx *c);
void kl_tls_ctx_unref(struct kl_tls_ctx *c);

// Replaces what the context was made from; connections made before keep the old. On failure the
// old stays. Any thread. The new options are of the same kind (server or client) as the old.
int kl_tls_ctx_reload_server(struct kl_tls_ctx *c, const struct kl_tls_server_opts *o,
                             struct kl_error *err);
int kl_tls_ctx_reload_client(struct kl_tls_ctx *c, const struct kl_tls_client_opts *o,
                             struct kl_error *err);

// The subject of a certificate as Kubernetes reads users from it (CommonNameUserConversion): the
// last CN, and every O in order. Strings live in the arena. KL_EINVALID without a CN, KL_ENOMEM.
int kl_tls_cert_user(X509 *cert, struct kl_arena *a, struct kl_str *ret_cn,
                     struct kl_str **ret_orgs, size_t *ret_norgs);

// The reason of the newest OpenSSL error of this thread as a message; empties the error queue.
int kl_tls_error(struct kl_error *err, int code, const char *what);
