// SPDX-License-Identifier: Apache-2.0
// The kubelet's HTTPS server: logs, exec, attach and port-forward for the API server's proxy.
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct kl_kubelet;
struct kl_kubelet_server;

// Without a certificate *ret is NULL: no server.
int kl_kubelet_server_new(struct kl_kubelet *k, struct kl_kubelet_server **ret,
                          struct kl_error *err);
void kl_kubelet_server_stop(struct kl_kubelet_server *s);
bool kl_kubelet_server_stopped(const struct kl_kubelet_server *s); // NULL: true
void kl_kubelet_server_free(struct kl_kubelet_server *s);          // accepts NULL
int kl_kubelet_server_port(const struct kl_kubelet_server *s);     // 0 for NULL
