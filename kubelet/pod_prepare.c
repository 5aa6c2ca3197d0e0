// SPDX-License-Identifier: Apache-2.0
// What a pod needs before its sandbox: directories, cgroup, volumes.
#include "kubelet/cgroup.h"
#include "kubelet/pods_int.h"
#include "kubelet/volumes.h"
#include <stdlib.h>

enum { RETRY_MIN_MS = 500, RETRY_MAX_MS = 122000 };

struct prepare {
    struct kl_job job;
    struct kl_pod *pod;
    struct kl_path dir, logs;
    char cgroup[512];
    struct kl_cgroup_values values;
    struct kl_error err;
    int status;
};

static void make_dirs(struct kl_job *job)
{
    struct prepare *s = KL_CONTAINER_OF(job, struct prepare, job);
    s->status = kl_fs_mkdirs(s->dir.s, 0750, &s->err);
    if (!s->status)
        s->status = kl_fs_mkdirs(s->logs.s, 0755, &s->err);
    if (!s->status)
        s->status = kl_cgroup_make_pod(s->cgroup, &s->values, &s->err);
}

static void retry_later(struct kl_pod *p, const char *reason, const struct kl_error *err)
{
    int64_t delay = RETRY_MIN_MS;
    for (int i = 0; i < p->prepare_fails && delay < RETRY_MAX_MS; i++)
        delay *= 2;
    p->prepare_fails++;
    kl_pod_event(p, "Warning", reason, "%s", err->msg);
    p->busy = false;
    kl_pod_wake_in(p, p->dirty ? 0 : delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS);
    p->dirty = false;
}

static void volumes_ready(void *arg, const struct kl_error *err)
{
    struct kl_pod *p = arg;
    struct kl_kubelet *k = p->k;
    if (err) {
        retry_later(p, "FailedMount", err);
    } else {
        p->prepared = true;
        p->prepare_fails = 0;
        kl_pod_step_done(p);
    }
    kl_kubelet_release(k);
}

static void dirs_made(struct kl_job *job)
{
    struct prepare *s = KL_CONTAINER_OF(job, struct prepare, job);
    struct kl_pod *p = s->pod;
    struct kl_kubelet *k = p->k;
    if (s->status) {
        retry_later(p, "FailedCreatePodContainer", &s->err);
        kl_kubelet_release(k);
    } else {
        if (!p->volumes)
            p->volumes = kl_volumes_new(p);
        p->cgroup = s->values;
        kl_volumes_setup(p->volumes, volumes_ready, p);
    }
    free(s);
}

void kl_pod_prepare(struct kl_pod *p)
{
    struct prepare *s = calloc(1, sizeof(*s));
    if (!s)
        abort();
    p->busy = true;
    s->pod = p;
    s->job.work = make_dirs;
    s->job.done = dirs_made;
    kl_pod_dir(p, &s->dir);
    kl_pod_log_dir(p, &s->logs);
    const struct kl_value *root = kl_pod_root(p);
    kl_cgroup_pod_path(s->cgroup, sizeof(s->cgroup), p->k->conf.cgroup_root, kl_pod_qos(root),
                       kl_str(p->uid));
    kl_cgroup_of_pod(root, &s->values);
    kl_kubelet_hold(p->k);
    kl_pool_submit(p->k->pool, &s->job);
}
