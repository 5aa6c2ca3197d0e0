// SPDX-License-Identifier: Apache-2.0
// What probes and hooks share: a handler's command, port and HTTP request.
#pragma once
#include "kubelet/pods_int.h"
#include "net/http_client.h"

void kl_handler_command(struct kl_arena *a, const struct kl_value *exec, struct kl_str **ret_cmd,
                        size_t *ret_n);
// A number, or the name of one of the container's ports. KL_EINVALID.
int kl_handler_port(const struct kl_value *port, const struct kl_value *container,
                    struct kl_error *err);
// The pod's address; "" when it has none.
struct kl_str kl_handler_host(struct kl_pod *p);
// Sends the request of an httpGet action. cb as kl_http_fetch's, without the
// body, however long that is; on failure no callback.
int kl_handler_http(struct kl_pod *p, const struct kl_value *http, struct kl_str container,
                    uint32_t timeout_ms, kl_http_fetch_cb cb, void *arg,
                    struct kl_http_call **ret_or_null, struct kl_error *err);
