// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "net/tls.h"

// A connection object in accept or connect state, without a BIO. `host` (client) is the name
// dialled, used when the context has no server_name of its own. `no_http2` leaves h2 out of the
// client's ALPN.
int kl_tls_ssl_new(struct kl_tls_ctx *c, const char *host, bool no_http2, SSL **ret,
                   struct kl_error *err);
