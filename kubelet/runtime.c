// SPDX-License-Identifier: Apache-2.0
// Whether the container runtime can be used: asked until it answers, then the pause image is
// imported and its events are followed; the end of the events is the first sign of its death.
#include "kubelet/pods_int.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    PROBE_FAST_MS = 50, // while it starts
    PROBE_SLOW_MS = 1000,
    FAST_PROBES = 100,
    STATUS_MS = 30000,    // NetworkReady is looked at again
    STATUS_FAST_MS = 250, // as long as the network is not ready
};

struct kl_runtime {
    struct kl_kubelet *k;
    enum kl_runtime_state state;
    bool network_ready, events, asking, imported, importing;
    int probes;
    char version[128];
    struct kl_error problem;
    struct kl_timer timer;
    struct kl_job import;
    struct kl_error import_err;
    int import_status;
};

static void probe(struct kl_runtime *r);

bool kl_runtime_is_up(const struct kl_runtime *r)
{
    return r && r->state == KL_RUNTIME_UP;
}

bool kl_runtime_network_ready(const struct kl_runtime *r)
{
    return r->network_ready;
}

bool kl_runtime_has_events(const struct kl_runtime *r)
{
    return r->events;
}

const char *kl_runtime_version(const struct kl_runtime *r)
{
    return r->version;
}

const char *kl_runtime_problem(const struct kl_runtime *r)
{
    if (kl_runtime_is_up(r))
        return r->network_ready ? NULL : r->problem.msg;
    const char *c = kl_containerd_problem(r->k->containerd);
    return c                 ? c
           : r->problem.code ? r->problem.msg
                             : "container runtime status check may not have "
                               "completed yet";
}

static void go_down(struct kl_runtime *r)
{
    bool was = r->state == KL_RUNTIME_UP;
    r->state = KL_RUNTIME_DOWN;
    r->probes = 0;
    r->events = false;
    if (r->k->stopping)
        return;
    if (was)
        kl_log(KL_LOG_ERROR, "kubelet", "the container runtime is down: %s", r->problem.msg);
    kl_cri_reconnect(r->k->cri);
    kl_timer_after(r->k->timers, &r->timer, PROBE_FAST_MS);
    if (was)
        kl_node_refresh(r->k->node);
}

void kl_runtime_failed(struct kl_runtime *r)
{
    if (r && r->state == KL_RUNTIME_UP)
        go_down(r);
}

static void on_event(void *arg, enum kl_cri_task_event event, struct kl_str id)
{
    struct kl_runtime *r = arg;
    kl_pods_task_event(r->k->pods, event, id);
}

static void on_events_end(void *arg, const struct kl_error *err)
{
    struct kl_runtime *r = arg;
    r->events = false;
    if (r->k->stopping)
        return;
    if (err)
        r->problem = *err;
    if (r->state == KL_RUNTIME_UP && !(err && err->code == KL_EUNSUPPORTED))
        go_down(r);
}

static void go_up(struct kl_runtime *r)
{
    struct kl_cri_events e = {on_event, on_events_end, r};
    r->state = KL_RUNTIME_UP;
    r->problem.code = 0;
    r->events = kl_cri_watch_events(r->k->cri, &e, NULL) == 0;
    kl_log(KL_LOG_INFO, "kubelet", "container runtime is up: %s", r->version);
    kl_images_runtime_up(r->k->images);
    kl_pods_runtime_up(r->k->pods);
    kl_node_refresh(r->k->node);
}

static void retry(struct kl_runtime *r, const struct kl_error *err)
{
    if (err)
        r->problem = *err;
    kl_cri_reconnect(r->k->cri);
    kl_timer_after(r->k->timers, &r->timer,
                   ++r->probes < FAST_PROBES ? PROBE_FAST_MS : PROBE_SLOW_MS);
}

static void import_pause(struct kl_job *job)
{
    struct kl_runtime *r = KL_CONTAINER_OF(job, struct kl_runtime, import);
    r->import_status = kl_images_import_pause(&r->k->conf, &r->import_err);
}

static void pause_imported(struct kl_job *job)
{
    struct kl_runtime *r = KL_CONTAINER_OF(job, struct kl_runtime, import);
    struct kl_kubelet *k = r->k;
    r->importing = false;
    r->imported = r->import_status == 0;
    if (!r->imported)
        kl_log(KL_LOG_ERROR, "kubelet", "the pause image: %s", r->import_err.msg);
    if (!k->stopping) {
        if (r->imported)
            probe(r);
        else
            retry(r, &r->import_err);
    }
    kl_kubelet_release(k);
}

static void on_image(void *arg, enum kl_grpc_code code, const void *reply,
                     const struct kl_error *err)
{
    struct kl_runtime *r = arg;
    const struct kl_cri_image_status_response *s = reply;
    struct kl_kubelet *k = r->k;
    r->asking = false;
    if (k->stopping) {
    } else if (code) {
        retry(r, err);
    } else if (s->image) {
        r->imported = true;
        go_up(r);
    } else if (!r->imported) {
        r->importing = true;
        r->import.work = import_pause;
        r->import.done = pause_imported;
        kl_kubelet_hold(k);
        kl_pool_submit(k->pool, &r->import);
    } else {
        retry(r, NULL); // imported, and not yet seen by the runtime's cache
    }
    kl_kubelet_release(k);
}

static void note_network(struct kl_runtime *r, const struct kl_cri_runtime_status *s)
{
    bool was = r->network_ready;
    r->network_ready = true;
    for (size_t i = 0; s && i < s->n_conditions; i++) {
        const struct kl_cri_runtime_condition *c = &s->conditions[i];
        if (!kl_str_eqz(c->type, "NetworkReady"))
            continue;
        r->network_ready = c->status;
        if (!c->status)
            kl_error_set(&r->problem, KL_EUNAVAILABLE,
                         "container runtime network not ready: NetworkReady=false reason:%.*s "
                         "message:%.*s",
                         KL_PRI(c->reason), KL_PRI(c->message));
    }
    if (was == r->network_ready)
        return;
    kl_node_refresh(r->k->node);
    if (r->state == KL_RUNTIME_UP && r->network_ready)
        kl_pods_sync_all(r->k->pods); // those that waited for it
}

static void on_status(void *arg, enum kl_grpc_code code, const void *reply,
                      const struct kl_error *err)
{
    struct kl_runtime *r = arg;
    const struct kl_cri_status_response *s = reply;
    struct kl_kubelet *k = r->k;
    r->asking = false;
    if (!k->stopping && code) {
        r->problem = *err;
        if (r->state == KL_RUNTIME_UP)
            go_down(r);
        else
            retry(r, err);
    } else if (!k->stopping) {
        note_network(r, s->status);
        if (r->state == KL_RUNTIME_UP) {
            kl_timer_after(k->timers, &r->timer, r->network_ready ? STATUS_MS : STATUS_FAST_MS);
        } else {
            struct kl_cri_image_spec spec = {.image = KL_STR(KL_PAUSE_IMAGE)};
            struct kl_cri_image_status_request req = {.image = &spec};
            kl_timer_after(k->timers, &r->timer, STATUS_FAST_MS);
            r->asking = true;
            kl_kubelet_hold(k);
            kl_cri_start(k->cri, KL_CRI_IMAGE_STATUS, &req, 10000, on_image, r, NULL);
        }
    }
    kl_kubelet_release(k);
}

static void on_version(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct kl_runtime *r = arg;
    const struct kl_cri_version_response *v = reply;
    struct kl_kubelet *k = r->k;
    r->asking = false;
    if (!k->stopping && code) {
        retry(r, err);
    } else if (!k->stopping) {
        snprintf(r->version, sizeof(r->version), "%.*s://%.*s", KL_PRI(v->runtime_name),
                 KL_PRI(v->runtime_version));
        r->asking = true;
        kl_kubelet_hold(k);
        struct kl_cri_status_request req = {0};
        kl_cri_start(k->cri, KL_CRI_STATUS, &req, 10000, on_status, r, NULL);
    }
    kl_kubelet_release(k);
}

static void probe(struct kl_runtime *r)
{
    if (r->asking || r->importing || r->k->stopping)
        return;
    r->asking = true;
    kl_kubelet_hold(r->k);
    if (r->state == KL_RUNTIME_UP) {
        struct kl_cri_status_request req = {0};
        kl_cri_start(r->k->cri, KL_CRI_STATUS, &req, 10000, on_status, r, NULL);
        return;
    }
    r->state = KL_RUNTIME_STARTING;
    struct kl_cri_version_request req = {.version = KL_STR("v1")};
    kl_cri_start(r->k->cri, KL_CRI_VERSION, &req, 2000, on_version, r, NULL);
}

static void on_timer(struct kl_timer *t)
{
    probe(KL_CONTAINER_OF(t, struct kl_runtime, timer));
}

int kl_runtime_new(struct kl_kubelet *k, struct kl_runtime **ret, struct kl_error *err)
{
    struct kl_runtime *r = calloc(1, sizeof(*r));
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    r->k = k;
    r->timer.cb = on_timer;
    *ret = r;
    kl_timer_after(k->timers, &r->timer, 0);
    return 0;
}

void kl_runtime_free(struct kl_runtime *r)
{
    if (!r)
        return;
    kl_timer_cancel(r->k->timers, &r->timer);
    free(r);
}
