// SPDX-License-Identifier: Apache-2.0
// The subresource `proxy` of pods, services and nodes: a request goes on to a program there, and
// what it answers comes back, both as streams. Upgrades are joined byte by byte.
#pragma once
#include "apiserver/server_int.h"

bool kl_is_proxy(const struct kl_req_info *i);
// The path behind `proxy`, as the options object has it: "" or with a slash in front. p is NULL:
// out of memory.
struct kl_str kl_proxy_path(struct kl_req *r);
// Ends the request. `options` as admitted: PodProxyOptions, ServiceProxyOptions, NodeProxyOptions.
void kl_proxy_run(struct kl_api_call *c, const struct kl_value *options);
// Where a node's kubelet listens: a literal address, by --kubelet-preferred-address-types (part of
// the node), and its port. Negative: r->fail is set.
int kl_node_kubelet(struct kl_req *r, const struct kl_value *node, struct kl_str *ret_address,
                    int *ret_port);
