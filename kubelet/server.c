// SPDX-License-Identifier: Apache-2.0
#include "kubelet/server.h"
#include "kubelet/pods_int.h"
#include "net/http.h"
#include <stdlib.h>

struct kl_kubelet_server {
    struct kl_kubelet *k;
    struct kl_http_server *http;
    bool stopped;
};
int kl_kubelet_server_new(struct kl_kubelet *k, struct kl_kubelet_server **ret,
                          struct kl_error *err)
{
    return 0;
}
void kl_kubelet_server_stop(struct kl_kubelet_server *s)
{
}
bool kl_kubelet_server_stopped(const struct kl_kubelet_server *s)
{
    return !s || s->stopped;
}
void kl_kubelet_server_free(struct kl_kubelet_server *s)
{
    free(s);
}
int kl_kubelet_server_port(const struct kl_kubelet_server *s)
{
    return s ? kl_http_server_port(s->http) : 0;
}
