// SPDX-License-Identifier: Apache-2.0
// The parts of `kinglet server` that are clients of its API: how they reach it, begin and end.
#include "apiserver/pki.h"
#include "base/log.h"
#include "cli/machine.h"
#include "cli/server_int.h"
#include "client/https.h"
#include <string.h>

const char *kl_server_local_host(const struct kl_server *s)
{
    const char *h = s->o.bind_address;
    return !h || !*h || !strcmp(h, "0.0.0.0") || !strcmp(h, "::") ? "127.0.0.1" : h;
}

// The same user over either transport: by name within the process, by certificate over HTTPS.
static struct kl_client *make_client(struct kl_server *s, struct kl_loop *loop, const char *user,
                                     const char *const *groups, const char *agent)
{
    if (strcmp(s->o.transport, "https"))
        return kl_apiserver_client(s->api, loop, user, groups, agent);
    struct kl_error err = {0};
    struct kl_arena a;
    struct kl_client *c = NULL;
    kl_arena_init(&a, 1 << 20);
    struct kl_https_options o = {.loop = loop, .ca = s->pki->server_ca, .user_agent = agent};
    o.server =
        kl_arena_printf(&a, "https://%s:%d", kl_server_local_host(s), kl_apiserver_port(s->api));
    if (kl_pki_client_cert(s->pki, &a, user, groups, &o.cert, &o.key, &err) ||
        kl_https_client_new(&o, &c, &err))
        kl_log(KL_LOG_ERROR, "server", "client user=%s: %s", user, err.msg);
    kl_arena_fini(&a);
    return c;
}

static struct kl_client *client_for(void *arg, const char *user, const char *agent)
{
    struct kl_server *s = arg;
    static const char *const account_groups[] = {"system:serviceaccounts",
                                                 "system:serviceaccounts:kube-system", NULL};
    bool account = kl_str_starts(kl_str(user), KL_STR("system:serviceaccount:"));
    return make_client(s, s->controllers_loop, user, account ? account_groups : NULL, agent);
}

static bool serves(void *arg, const struct kl_resource *res)
{
    const struct kl_server *s = arg;
    return kl_apiserver_serves(s->api, res);
}

static void run_controllers(struct kl_task *t)
{
    struct kl_server *s = KL_CONTAINER_OF(t, struct kl_server, start_controllers);
    struct kl_control_options o = {.loop = s->controllers_loop,
                                   .controllers = !s->o.disable_controllers,
                                   .scheduler = !s->o.disable_scheduler,
                                   .elect = kl_store_is_shared(s->store),
                                   .identity = s->o.node_name,
                                   .client_for = client_for,
                                   .serves = serves,
                                   .arg = s,
                                   .root_ca_pem = s->pki->server_ca,
                                   .signing = {.client_ca = s->pki->client_ca,
                                               .client_ca_key = s->pki->client_ca_key,
                                               .server_ca = s->pki->server_ca,
                                               .server_ca_key = s->pki->server_ca_key},
                                   .disable = s->o.disable,
                                   .feature_gates = s->o.settings.feature_gates};
    s->control = kl_control_start(&o);
}

static void run_kubelet(struct kl_task *t)
{
    struct kl_server *s = KL_CONTAINER_OF(t, struct kl_server, start_kubelet);
    static const char *const groups[] = {"system:nodes", NULL};
    struct kl_error err = {0};
    struct kl_arena *a = &s->arena;
    s->kubelet_client =
        make_client(s, s->kubelet_loop, kl_arena_printf(a, "system:node:%s", s->o.node_name).p,
                    groups, "kubelet");
    struct kl_kubelet_options o = {.client = s->kubelet_client,
                                   .node_name = s->o.node_name,
                                   .data_dir = s->o.data_dir,
                                   .node_ip = s->o.node_ip,
                                   .pod_cidr = kl_first_node_cidr(a, s->o.cluster_cidr),
                                   .cluster_cidr = s->o.cluster_cidr,
                                   .cluster_dns = s->o.cluster_dns,
                                   .cluster_domain = s->o.cluster_domain,
                                   .runtime_endpoint = s->o.runtime_endpoint,
                                   .bridge_name = s->o.bridge_name,
                                   .cgroup_root = s->o.cgroup_root,
                                   .port = s->o.kubelet_port,
                                   .max_pods = s->o.max_pods,
                                   .tls = s->kubelet_tls,
                                   .allowed_user = "system:apiserver",
                                   .allowed_group = "system:masters",
                                   .node_labels = s->o.node_label.n ? s->o.node_label.v : NULL,
                                   .node_taints = s->o.node_taint.n ? s->o.node_taint.v : NULL};
    if (!s->kubelet_client || kl_kubelet_start(&o, &s->kubelet, &err))
        kl_log(KL_LOG_ERROR, "server", "kubelet: %s", err.msg);
}

// ---- the end

static void kubelet_gone(void *arg)
{
    struct kl_server *s = arg;
    kl_client_free(s->kubelet_client);
    s->kubelet_client = NULL;
    kl_loop_post(s->loops[0], &s->step);
}

static void end_kubelet(struct kl_task *t)
{
    struct kl_server *s = KL_CONTAINER_OF(t, struct kl_server, stop_kubelet);
    if (s->kubelet)
        kl_kubelet_stop(s->kubelet, kubelet_gone, s);
    else
        kubelet_gone(s);
}

static void controllers_gone(void *arg)
{
    struct kl_server *s = arg;
    kl_loop_post(s->loops[0], &s->step);
}

static void end_controllers(struct kl_task *t)
{
    struct kl_server *s = KL_CONTAINER_OF(t, struct kl_server, stop_controllers);
    kl_control_stop(s->control, controllers_gone, s);
}

static void stop_step(struct kl_task *t)
{
    struct kl_server *s = KL_CONTAINER_OF(t, struct kl_server, step);
    switch (s->steps++) {
    case 0:
        if (s->kubelet_loop) {
            kl_loop_post(s->kubelet_loop, &s->stop_kubelet);
            return;
        }
        s->steps++; // fall through
    case 1:
        if (s->controllers_loop) {
            kl_loop_post(s->controllers_loop, &s->stop_controllers);
            return;
        }
        s->steps++; // fall through
    default:
        s->parts_gone(s);
    }
}

// ---- their loops

int kl_server_parts_new(struct kl_server *s, struct kl_error *err)
{
    int rc = 0;
    s->start_controllers.run = run_controllers;
    s->start_kubelet.run = run_kubelet;
    s->stop_controllers.run = end_controllers;
    s->stop_kubelet.run = end_kubelet;
    s->step.run = stop_step;
    if (!(s->o.disable_controllers && s->o.disable_scheduler))
        rc = kl_loop_new("controllers", &s->controllers_loop, err);
    if (!rc && !s->o.disable_agent)
        rc = kl_loop_new("kubelet", &s->kubelet_loop, err);
    return rc;
}

int kl_server_parts_run_loops(struct kl_server *s, struct kl_error *err)
{
    int rc = 0;
    if (s->controllers_loop)
        rc = kl_loop_start(s->controllers_loop, err);
    if (!rc && s->kubelet_loop)
        rc = kl_loop_start(s->kubelet_loop, err);
    return rc;
}

void kl_server_parts_start(struct kl_server *s)
{
    if (s->controllers_loop)
        kl_loop_post(s->controllers_loop, &s->start_controllers);
    if (s->kubelet_loop)
        kl_loop_post(s->kubelet_loop, &s->start_kubelet);
}

void kl_server_parts_stop(struct kl_server *s, void (*gone)(struct kl_server *s))
{
    s->parts_gone = gone;
    stop_step(&s->step);
}

void kl_server_parts_stop_loops(struct kl_server *s)
{
    if (s->controllers_loop)
        kl_loop_stop(s->controllers_loop);
    if (s->kubelet_loop)
        kl_loop_stop(s->kubelet_loop);
}

void kl_server_parts_free(struct kl_server *s)
{
    kl_loop_unref(s->controllers_loop);
    kl_loop_unref(s->kubelet_loop);
}
