// SPDX-License-Identifier: Apache-2.0
// Where a proxied request goes.
#pragma once
#include "apiserver/proxy/proxy.h"

struct kl_proxy_target {
    struct kl_str host;      // a literal address, with a NUL behind it
    struct kl_str authority; // as in a URL: "10.0.0.1:80", "[fd00::1]:80", "10.0.0.1"
    int port;
    struct kl_tls_ctx *tls; // borrowed from the loop or the server; NULL: plain
};

// ResourceLocation of the three kinds. Negative: r->fail is set.
int kl_proxy_locate(struct kl_req *r, struct kl_proxy_target *ret);
