// SPDX-License-Identifier: Apache-2.0
// Start and stop: makes the parts in order, and takes them down when nothing of theirs is under
// way.
#include "kubelet/kubelet.h"
#include "client/recorder.h"
#include "kubelet/cgroup.h"
#include "kubelet/log_rotate.h"
#include "kubelet/objcache.h"
#include "kubelet/pods_int.h"
#include "kubelet/probes.h"
#include "kubelet/server.h"
#include "net/http_client.h"
#include <stdlib.h>

enum { WORKERS = 3, STOP_POLL_MS = 20 };

struct setup {
    struct kl_job job;
    struct kl_kubelet *k;
    struct kl_error err;
    int status;
};

static void finish_stop(struct kl_kubelet *k);

void kl_kubelet_release(struct kl_kubelet *k)
{
    k->outstanding--;
}

// ---- what blocks at the start

static void prepare_node(struct kl_job *job)
{
    struct setup *s = KL_CONTAINER_OF(job, struct setup, job);
    const struct kl_kubelet_conf *c = &s->k->conf;
    struct kl_error err;
    s->status = kl_fs_mkdirs(c->pods_dir, 0750, &s->err);
    if (!s->status)
        s->status = kl_fs_mkdirs(c->logs_dir, 0755, &s->err);
    if (!s->status && c->own_containerd)
        s->status = kl_cni_write(c, &s->err);
    if (!s->status && c->own_containerd)
        s->status = kl_containerd_write_config(c, &s->err);
    if (c->own_containerd && kl_cni_masquerade(c, &err))
        kl_log(KL_LOG_WARN, "kubelet", "pods cannot reach beyond the cluster: %s", err.msg);
}

static void retry_setup(struct kl_timer *t);

static void node_prepared(struct kl_job *job)
{
    struct setup *s = KL_CONTAINER_OF(job, struct setup, job);
    struct kl_kubelet *k = s->k;
    struct kl_error err;
    if (s->status)
        kl_log(KL_LOG_ERROR, "kubelet", "%s", s->err.msg);
    if (!k->stopping && !s->status) {
        if (k->conf.own_containerd && kl_containerd_new(k, &k->containerd, &err))
            kl_log(KL_LOG_ERROR, "kubelet", "%s", err.msg);
        if (kl_runtime_new(k, &k->runtime, &err))
            kl_log(KL_LOG_ERROR, "kubelet", "%s", err.msg);
    } else if (!k->stopping) {
        k->finish_timer.cb = retry_setup;
        kl_timer_after(k->timers, &k->finish_timer, 5000);
    }
    free(s);
    kl_kubelet_release(k);
}

static void begin_setup(struct kl_kubelet *k)
{
    struct setup *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    s->k = k;
    s->job.work = prepare_node;
    s->job.done = node_prepared;
    kl_kubelet_hold(k);
    kl_pool_submit(k->pool, &s->job);
}

static void retry_setup(struct kl_timer *t)
{
    begin_setup(KL_CONTAINER_OF(t, struct kl_kubelet, finish_timer));
}

// ---- start

static int make_parts(struct kl_kubelet *k, struct kl_error *err)
{
    struct kl_http_client_opts ho = {.loop = k->loop, .max_idle_per_target = 1};
    int r = kl_timers_new(k->loop, &k->timers, err);
    if (r || (r = kl_pool_new(k->loop, WORKERS, &k->pool, err)) ||
        (r = kl_cri_new(k->loop, k->conf.endpoint, &k->cri, err)) ||
        (r = kl_http_client_new(&ho, &k->http, err)))
        return r;
    k->recorder =
        kl_recorder_new(k->client, k->timers, KL_STR("kubelet"), kl_str(k->conf.node_name));
    k->informers = kl_informers_new(k->client, k->timers);
    k->cache = kl_object_cache_new(k->client, k->timers);
    k->probes = kl_probes_new(k);
    if (!k->recorder || !k->informers || !k->cache || !k->probes)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    char *mine = kl_asprintf("spec.nodeName=%s", k->conf.node_name);
    char *self = kl_asprintf("metadata.name=%s", k->conf.node_name);
    k->pod_informer =
        kl_informers_get_selected(k->informers, kl_res(KL_RES_core_v1_pods), kl_str(mine));
    k->node_informer =
        kl_informers_get_selected(k->informers, kl_res(KL_RES_core_v1_nodes), kl_str(self));
    k->service_informer = kl_informers_get(k->informers, kl_res(KL_RES_core_v1_services));
    free(mine);
    free(self);
    if (!k->pod_informer || !k->node_informer || !k->service_informer)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if ((r = kl_images_new(k, &k->images, err)) || (r = kl_pods_new(k, &k->pods, err)) ||
        (r = kl_node_new(k, &k->node, err)) || (r = kl_kubelet_server_new(k, &k->server, err)))
        return r;
    k->log_rotate = kl_log_rotate_new(k);
    r = kl_informers_start(k->informers);
    return r ? kl_error_set(err, r, "out of memory") : 0;
}

static void start_on_loop(struct kl_task *t)
{
    struct kl_kubelet *k = KL_CONTAINER_OF(t, struct kl_kubelet, start_task);
    struct kl_error err;
    if (k->stopping)
        return;
    if (make_parts(k, &err)) {
        kl_log(KL_LOG_ERROR, "kubelet", "not started: %s", err.msg);
        return;
    }
    begin_setup(k);
}

int kl_kubelet_start(const struct kl_kubelet_options *o, struct kl_kubelet **ret,
                     struct kl_error *err)
{
    if (!o->node_name || !*o->node_name || !o->client)
        return kl_error_set(err, KL_EINVALID, "the kubelet needs a node name and a client");
    struct kl_kubelet *k = calloc(1, sizeof(*k));
    if (!k)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int r = kl_kubelet_conf_init(&k->conf, o, err);
    if (r) {
        free(k);
        return r;
    }
    if (o->port >= 0 && o->tls)
        k->tls = kl_tls_ctx_ref(o->tls);
    k->client = o->client;
    k->loop = o->client->loop;
    k->on_ready = o->on_ready;
    k->ready_arg = o->arg;
    k->start_task.run = start_on_loop;
    *ret = k;
    kl_loop_post(k->loop, &k->start_task);
    return 0;
}

// ---- stop

static void free_parts(struct kl_kubelet *k)
{
    kl_kubelet_server_free(k->server);
    kl_log_rotate_free(k->log_rotate);
    kl_node_free(k->node);
    kl_pods_free(k->pods);
    kl_probes_free(k->probes);
    kl_images_free(k->images);
    kl_runtime_free(k->runtime);
    kl_containerd_free(k->containerd);
    kl_object_cache_free(k->cache);
    kl_informers_free(k->informers);
    kl_recorder_free(k->recorder);
    if (k->http)
        kl_http_client_close(k->http);
    kl_cri_free(k->cri);
    kl_pool_free(k->pool);
    kl_timers_free(k->timers);
    kl_tls_ctx_unref(k->tls);
    kl_kubelet_conf_fini(&k->conf);
}

static void free_last(struct kl_task *t)
{
    struct kl_kubelet *k = KL_CONTAINER_OF(t, struct kl_kubelet, finish_task);
    free_parts(k);
    if (k->stop_done)
        k->stop_done(k->stop_arg);
    free(k);
}

static void on_finish_timer(struct kl_timer *t)
{
    finish_stop(KL_CONTAINER_OF(t, struct kl_kubelet, finish_timer));
}

static void finish_stop(struct kl_kubelet *k)
{
    bool busy = k->outstanding > 0 || (k->pool && kl_pool_pending(k->pool) > 0) ||
                !kl_kubelet_server_stopped(k->server);
    if (busy) {
        k->finish_timer.cb = on_finish_timer;
        kl_timer_after(k->timers, &k->finish_timer, STOP_POLL_MS);
        return;
    }
    k->finish_task.run = free_last;
    kl_loop_defer(k->loop, &k->finish_task);
}

static void stop_on_loop(struct kl_task *t)
{
    struct kl_kubelet *k = KL_CONTAINER_OF(t, struct kl_kubelet, stop_task);
    k->stopping = true;
    if (k->pods)
        kl_pods_stop(k->pods);
    if (k->server)
        kl_kubelet_server_stop(k->server);
    if (k->http) {
        kl_http_client_close(k->http); // its calls end before this returns
        k->http = NULL;
    }
    if (k->cri)
        kl_cri_close(k->cri);
    finish_stop(k);
}

void kl_kubelet_stop(struct kl_kubelet *k, void (*done)(void *arg), void *arg)
{
    k->stop_done = done;
    k->stop_arg = arg;
    k->stop_task.run = stop_on_loop;
    kl_loop_post(k->loop, &k->stop_task);
}
