// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kubelet/pods_int.h"
#include "kubelet/server.h"
#include "net/http.h"

// One request to a container: /VERB/NAMESPACE/POD[/CONTAINER].
struct kl_route {
    struct kl_str verb, ns, pod, container, query;
};
// A value of the query, percent-decoded into the arena; p NULL when absent. Repeated names: the
// nth (0 is the first).
struct kl_str kl_query_value(struct kl_arena *a, struct kl_str query, const char *name, int nth);
bool kl_query_true(struct kl_arena *a, struct kl_str query, const char *name);
void kl_answer_text(struct kl_http_req *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void kl_serve_logs(struct kl_kubelet *k, struct kl_http_req *r, const struct kl_route *route);
// exec, attach and portForward
void kl_serve_stream(struct kl_kubelet *k, struct kl_http_req *r, const struct kl_route *route);
