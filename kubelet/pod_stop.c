// SPDX-License-Identifier: Apache-2.0
// Stopping and removing: containers, sandboxes, and what else a pod holds.
#include "kubelet/cgroup.h"
#include "kubelet/log_rotate.h"
#include "kubelet/pods_int.h"
#include "kubelet/probes.h"
#include "kubelet/volumes.h"
#include <stdio.h>
#include <stdlib.h>

// Nobody is killed without a word (minimumGracePeriodInSeconds).
enum { MIN_GRACE_MS = 2000, STOP_SLACK_MS = 120000, RETRY_MS = 1000 };

struct stop {
    struct kl_pod *pod;
    char *id;
    int64_t deadline_ms;
};

static void on_stopped(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct stop *s = arg;
    struct kl_pod *p = s->pod;
    struct kl_kubelet *k = p->k;
    struct kl_ctr *c = kl_rt_find_id(&p->rt, kl_str(s->id));
    p->stops--;
    if (c && !k->stopping) {
        c->stopping = false;
        if (code && code != KL_GRPC_NOT_FOUND) {
            kl_log(KL_LOG_WARN, "kubelet", "stopping container %s of pod %s: %s", c->name, p->full,
                   err->msg);
            kl_pod_wake_in(p, RETRY_MS);
        }
        kl_pod_describe_exit(p, s->id);
    }
    free(s->id);
    free(s);
    kl_kubelet_release(k);
}

static void send_stop(struct stop *s)
{
    int64_t left = s->deadline_ms - kl_timers_now_ms(s->pod->k->timers);
    if (left < MIN_GRACE_MS)
        left = MIN_GRACE_MS;
    struct kl_cri_stop_container_request req = {.container_id = kl_str(s->id),
                                                .timeout = (left + 999) / 1000};
    kl_cri_start(s->pod->k->cri, KL_CRI_STOP_CONTAINER, &req, (uint32_t)(left + STOP_SLACK_MS),
                 on_stopped, s, NULL);
}

static void after_hook(void *arg, const struct kl_error *err)
{
    struct stop *s = arg;
    struct kl_ctr *c = kl_rt_find_id(&s->pod->rt, kl_str(s->id));
    if (err && c && !s->pod->k->stopping)
        kl_ctr_event(s->pod, kl_str(c->name), "Warning", "FailedPreStopHook", "PreStopHook failed");
    send_stop(s);
}

void kl_pod_stop_ctr(struct kl_pod *p, struct kl_ctr *c, int64_t grace_ms, const char *message)
{
    struct stop *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    const struct kl_value *spec = kl_pod_container(kl_pod_root(p), kl_str(c->name), NULL);
    const struct kl_value *hook = kl_path(spec, KL_F_lifecycle, KL_F_preStop);
    bool first = !c->stopping;
    s->pod = p;
    s->id = kl_strdup(kl_str(c->id));
    s->deadline_ms = kl_timers_now_ms(p->k->timers) + (grace_ms > 0 ? grace_ms : 0);
    c->stopping = true;
    p->stops++;
    kl_kubelet_hold(p->k);
    if (message)
        kl_ctr_event(p, kl_str(c->name), "Normal", "Killing", "%s", message);
    if (hook && first && grace_ms > 0 && c->state == KL_CTR_RUNNING)
        kl_hook_run(p, hook, c, grace_ms, after_hook, s);
    else
        send_stop(s); // beside a preStop that still runs, when the grace period was cut short
}

// ---- sandboxes, one after the other

static void stop_next_sandbox(struct kl_pod *p);

static void on_sandbox_stopped(void *arg, enum kl_grpc_code code, const void *reply,
                               const struct kl_error *err)
{
    struct kl_pod *p = arg;
    struct kl_kubelet *k = p->k;
    if (code && code != KL_GRPC_NOT_FOUND) {
        if (!k->stopping) {
            kl_log(KL_LOG_WARN, "kubelet", "stopping the sandbox of pod %s: %s", p->full, err->msg);
            kl_pod_event(p, "Warning", "FailedKillPod", "error killing pod: %s", err->msg);
        }
        p->busy = false;
        kl_pod_wake_in(p, RETRY_MS);
        kl_kubelet_release(k);
        return;
    }
    for (struct kl_sandbox *s = p->rt.sandboxes; s; s = s->next)
        if (s->ready) {
            s->ready = false; // the one that was asked for
            break;
        }
    stop_next_sandbox(p);
    kl_kubelet_release(k);
}

static void stop_next_sandbox(struct kl_pod *p)
{
    for (struct kl_sandbox *s = p->rt.sandboxes; s; s = s->next) {
        if (!s->ready)
            continue;
        struct kl_cri_stop_pod_sandbox_request req = {.pod_sandbox_id = kl_str(s->id)};
        kl_kubelet_hold(p->k);
        kl_cri_start(p->k->cri, KL_CRI_STOP_POD_SANDBOX, &req, 240000, on_sandbox_stopped, p, NULL);
        return;
    }
    kl_pod_step_done(p);
}

void kl_pod_stop_sandboxes(struct kl_pod *p)
{
    p->busy = true;
    stop_next_sandbox(p);
}

// ---- removal

struct cleaning {
    struct kl_job job;
    struct kl_pod *pod;
    struct kl_path a, b;
    const char *cgroup_root;
    char uid[64];
    struct kl_error err;
    int status;
};

static void remove_dirs(struct kl_job *job)
{
    struct cleaning *c = KL_CONTAINER_OF(job, struct cleaning, job);
    kl_fs_remove_tree(c->a.s, NULL);
    if (!kl_fs_unmount_below(c->b.s, &c->err))
        kl_fs_remove_tree(c->b.s, &c->err);
}

static void dirs_removed(struct kl_job *job)
{
    struct cleaning *c = KL_CONTAINER_OF(job, struct cleaning, job);
    struct kl_kubelet *k = c->pod->k;
    kl_pod_step_done(c->pod);
    free(c);
    kl_kubelet_release(k);
}

static void remove_next_sandbox(struct kl_pod *p);

static void on_sandbox_removed(void *arg, enum kl_grpc_code code, const void *reply,
                               const struct kl_error *err)
{
    struct kl_pod *p = arg;
    struct kl_kubelet *k = p->k;
    struct kl_sandbox *s = p->rt.sandboxes;
    if (code && code != KL_GRPC_NOT_FOUND) {
        p->busy = false;
        p->life = KL_POD_RELEASED; // comes back here
        if (!k->stopping)
            kl_pod_wake_in(p, RETRY_MS);
    } else {
        p->rt.sandboxes = s->next;
        kl_sandbox_free(s);
        remove_next_sandbox(p);
    }
    kl_kubelet_release(k);
}

static void remove_next_sandbox(struct kl_pod *p)
{
    if (p->rt.sandboxes) {
        struct kl_cri_remove_pod_sandbox_request req = {.pod_sandbox_id =
                                                            kl_str(p->rt.sandboxes->id)};
        kl_kubelet_hold(p->k);
        kl_cri_start(p->k->cri, KL_CRI_REMOVE_POD_SANDBOX, &req, 120000, on_sandbox_removed, p,
                     NULL);
        return;
    }
    struct cleaning *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->pod = p;
    c->job.work = remove_dirs;
    c->job.done = dirs_removed;
    kl_pod_log_dir(p, &c->a);
    kl_pod_dir(p, &c->b);
    kl_kubelet_hold(p->k);
    kl_pool_submit(p->k->pool, &c->job);
}

void kl_pod_remove_runtime(struct kl_pod *p)
{
    p->busy = true;
    remove_next_sandbox(p);
}

// ---- volumes and the cgroup

static void remove_cgroup(struct kl_job *job)
{
    struct cleaning *c = KL_CONTAINER_OF(job, struct cleaning, job);
    // Of a pod that only the runtime knows the class is not known: all three are looked at.
    c->status = kl_cgroup_remove_pod(c->cgroup_root, kl_str(c->uid), &c->err);
}

static void cgroup_removed(struct kl_job *job)
{
    struct cleaning *c = KL_CONTAINER_OF(job, struct cleaning, job);
    struct kl_pod *p = c->pod;
    struct kl_kubelet *k = p->k;
    if (c->status)
        kl_log(KL_LOG_WARN, "kubelet", "pod %s: %s", p->full, c->err.msg);
    p->life = KL_POD_RELEASED;
    free(c);
    kl_pod_step_done(p);
    kl_kubelet_release(k);
}

static void volumes_gone(void *arg, const struct kl_error *err)
{
    struct kl_pod *p = arg;
    struct kl_kubelet *k = p->k;
    if (err) {
        kl_log(KL_LOG_WARN, "kubelet", "volumes of pod %s: %s", p->full, err->msg);
        p->busy = false;
        kl_pod_wake_in(p, RETRY_MS);
        kl_kubelet_release(k);
        return;
    }
    kl_volumes_free(p->volumes);
    p->volumes = NULL;
    struct cleaning *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->pod = p;
    c->job.work = remove_cgroup;
    c->job.done = cgroup_removed;
    c->cgroup_root = k->conf.cgroup_root;
    snprintf(c->uid, sizeof(c->uid), "%s", p->uid);
    kl_pool_submit(k->pool, &c->job);
}

void kl_pod_release(struct kl_pod *p)
{
    p->busy = true;
    kl_kubelet_hold(p->k);
    if (!p->volumes)
        p->volumes = kl_volumes_new(p);
    kl_volumes_teardown(p->volumes, volumes_gone, p);
}

// ---- dead sandboxes and containers: the newest of each container's name and one before it stay

static void on_ctr_removed(void *arg, enum kl_grpc_code code, const void *reply,
                           const struct kl_error *err)
{
    kl_kubelet_release(arg);
}

// Sandboxes that a later one has replaced and that hold no container (evictSandboxes): one whose
// making was broken off keeps an address and a network namespace.
void kl_pod_gc_sandboxes(struct kl_pod *p)
{
    for (const struct kl_ctr *c = p->rt.ctrs; c; c = c->next)
        if (!c->sandbox_id)
            return; // not known yet
    for (struct kl_sandbox **at = p->rt.sandboxes ? &p->rt.sandboxes->next : NULL; at && *at;) {
        struct kl_sandbox *s = *at;
        bool used = s->ready || !s->described;
        for (const struct kl_ctr *c = p->rt.ctrs; c && !used; c = c->next)
            used = !strcmp(c->sandbox_id, s->id);
        if (used) {
            at = &s->next;
            continue;
        }
        struct kl_cri_remove_pod_sandbox_request req = {.pod_sandbox_id = kl_str(s->id)};
        kl_kubelet_hold(p->k);
        kl_cri_start(p->k->cri, KL_CRI_REMOVE_POD_SANDBOX, &req, 120000, on_ctr_removed, p->k,
                     NULL);
        *at = s->next;
        kl_sandbox_free(s);
    }
}

struct log_removal {
    struct kl_job job;
    struct kl_kubelet *k;
    char *path;
};

// The log and what was rotated away from it.
static void remove_logs(struct kl_job *job)
{
    kl_logs_remove(KL_CONTAINER_OF(job, struct log_removal, job)->path);
}

static void logs_removed(struct kl_job *job)
{
    struct log_removal *l = KL_CONTAINER_OF(job, struct log_removal, job);
    kl_kubelet_release(l->k);
    free(l->path);
    free(l);
}

static void begin_log_removal(struct kl_kubelet *k, const char *path)
{
    struct log_removal *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    *l = (struct log_removal){
        {.work = remove_logs, .done = logs_removed}, k, kl_strdup(kl_str(path))};
    kl_kubelet_hold(k);
    kl_pool_submit(k->pool, &l->job);
}

void kl_pod_gc_ctrs(struct kl_pod *p)
{
    for (struct kl_ctr **at = &p->rt.ctrs; *at;) {
        struct kl_ctr *c = *at;
        int newer = 0;
        for (const struct kl_ctr *o = p->rt.ctrs; o != c; o = o->next)
            newer += !strcmp(o->name, c->name);
        if (newer < 2 || c->state == KL_CTR_RUNNING || c->stopping) {
            at = &c->next;
            continue;
        }
        struct kl_cri_remove_container_request req = {.container_id = kl_str(c->id)};
        kl_kubelet_hold(p->k);
        kl_cri_start(p->k->cri, KL_CRI_REMOVE_CONTAINER, &req, 120000, on_ctr_removed, p->k, NULL);
        if (c->log_path)
            begin_log_removal(p->k, c->log_path);
        *at = c->next;
        kl_ctr_free(c);
    }
}
