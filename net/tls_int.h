// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "net/tls.h"
#include <openssl/x509_vfy.h>

// A connection object in accept or connect state, without a BIO. `host` (client) is the name
// dialled, used when the context has no server_name of its own. `no_http2` leaves h2 out of the
// client's ALPN.
int kl_tls_ssl_new(struct kl_tls_ctx *c, const char *host, bool no_http2, SSL **ret,
                   struct kl_error *err);
// OpenSSL's question about a server's certificate: believes what OpenSSL does, and leaves in its
// list of errors what Go would say. Then, after a handshake that failed: what it was, and empties
// the list. False: it was something else.
int kl_tls_why(int ok, X509_STORE_CTX *store);
bool kl_tls_said_why(char *out, size_t room);
