// SPDX-License-Identifier: Apache-2.0
// URLs and paths as Go's net/url and path packages read and write them: what is behind a proxy
// refers to itself by them, and answers are rewritten exactly as upstream does.
#pragma once
#include "base/arena.h"
#include "base/str.h"

// A URL in its parts. Texts are decoded but `query`; raw_path and raw_fragment are as they were
// written where that is not how they would be.
struct kl_link {
    struct kl_str scheme, opaque, user, password, host, path, raw_path, query, fragment,
        raw_fragment;
    bool has_user, has_password, force_query, omit_host;
};

// url.Parse. NULL, or why it is none ("out of memory" among others). In the arena, or part of s.
const char *kl_link_parse(struct kl_arena *a, struct kl_str s, struct kl_link *ret);
// URL.String(); p is NULL: out of memory.
struct kl_str kl_link_text(struct kl_arena *a, const struct kl_link *u);

// path.Join of two elements: cleaned, without empty ones. p is NULL: out of memory.
struct kl_str kl_path_join(struct kl_arena *a, struct kl_str x, struct kl_str y);
// A decoded path as it stands in a request (URL.EscapedPath without a hint).
struct kl_str kl_path_escape(struct kl_arena *a, struct kl_str path);

// How links of a page are changed so that they lead through the proxy (proxy/transport.go).
struct kl_link_rule {
    struct kl_str prepend; // path of the proxy, decoded: "/api/v1/namespaces/n/pods/p/proxy"
    struct kl_str source;  // host of the page: "10.0.0.1:80"
    struct kl_str asked;   // Host header of the request
};
// The URL's text as the client must see it (Transport.rewriteURL). Changes u.
struct kl_str kl_link_rewrite(struct kl_arena *a, const struct kl_link_rule *r, struct kl_link *u);
