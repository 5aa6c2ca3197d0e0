// SPDX-License-Identifier: Apache-2.0
// A resize in place (kuberuntime_manager.go, doPodResizeAction; allocation_manager.go): what a pod
// asks for otherwise than before is granted when the node has room for it. Then, in one step, the
// pod's group grows, its containers change one by one, and the group shrinks.
#include "kubelet/cgroup.h"
#include "kubelet/pod_config.h"
#include "kubelet/pods_int.h"
#include "object/json.h"
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_MS = 10 * 1000, UPDATE_TIMEOUT_MS = 120 * 1000, ARENA_BYTES = 1 << 20 };

struct resize {
    struct kl_job job;
    struct kl_pod *pod;
    char path[512];
    struct kl_cgroup_values want, set;
    char *ids[KL_PLAN_MAX];
    struct kl_cgroup_values limits[KL_PLAN_MAX]; // what each is to have
    int n, at;
    bool shrinks; // the last job
    struct kl_error err;
};

// ---- words

static void put_list(struct kl_buf *b, const struct kl_value *pod, enum kl_ctr_kind kind,
                     const char *name)
{
    const struct kl_value *list = kl_pod_containers(pod, kind);
    const struct kl_type *type = kl_type(KL_TYPE_core_v1_ResourceRequirements);
    if (!kl_len(list))
        return;
    kl_buf_printf(b, "\"%s\":[", name);
    for (KL_EACH(c, list)) {
        const struct kl_value *res = kl_get(c, KL_F_resources);
        kl_buf_puts(b, c == list->items ? KL_STR("{\"name\":") : KL_STR(",{\"name\":"));
        kl_json_write_string(b, kl_text_at(c, KL_F_name));
        kl_buf_puts(b, KL_STR(",\"resources\":"));
        if (res)
            kl_json_encode(b, type, res, KL_STR(""));
        else
            kl_buf_puts(b, KL_STR("{}"));
        kl_buf_putc(b, '}');
    }
    kl_buf_puts(b, KL_STR("],"));
}

// podResizeMessage
static void tell(struct kl_pod *p, const char *type, const char *reason, const char *what,
                 int64_t generation, const char *error)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    put_list(&b, kl_pod_root(p), KL_CTR_INIT, "initContainers");
    put_list(&b, kl_pod_root(p), KL_CTR_MAIN, "containers");
    kl_buf_printf(&b, "\"generation\":%lld", (long long)generation);
    if (*error) {
        kl_buf_puts(&b, KL_STR(",\"error\":"));
        kl_json_write_string(&b, kl_str(error));
    }
    kl_pod_event(p, type, reason, "%s: {%.*s}", what, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

// ---- what is granted

static int64_t generation_of(const struct kl_pod *p)
{
    return kl_int_at(kl_pod_root(p), 0, KL_F_metadata, KL_F_generation);
}

// Of the others: what was granted to them.
static void used_by_others(const struct kl_pod *p, int64_t *ret_milli, int64_t *ret_bytes)
{
    *ret_milli = *ret_bytes = 0;
    KL_MAP_EACH (&p->pods->by_uid, e) {
        const struct kl_pod *o = e->value;
        if (o == p || o->gone || o->life > KL_POD_TERMINATING || !o->object)
            continue;
        int64_t milli = o->milli, bytes = o->bytes;
        if (!o->admitted || milli < 0)
            kl_pod_cgroup_requests(kl_pod_root(o), &milli, &bytes);
        *ret_milli += milli;
        *ret_bytes += bytes;
    }
}

// What the node has no room for; NULL: it has, else p->resize.message says how much is missing.
static const char *lacks(struct kl_pod *p, int64_t milli, int64_t bytes)
{
    int64_t has[2], used[2], ephemeral;
    const int64_t asked[2] = {milli, bytes};
    static const char *const names[] = {"cpu", "memory"};
    kl_node_allocatable(p->k, &has[0], &has[1], &ephemeral);
    used_by_others(p, &used[0], &used[1]);
    for (int i = 0; i < 2; i++) {
        if (!asked[i] || used[i] + asked[i] <= has[i])
            continue;
        snprintf(p->resize.message, sizeof(p->resize.message),
                 "Node didn't have enough resource: %s, requested: %lld, used: %lld, "
                 "capacity: %lld",
                 names[i], (long long)asked[i], (long long)used[i], (long long)has[i]);
        return names[i];
    }
    return NULL;
}

const struct kl_value *kl_pod_granted(const struct kl_pod *p, const struct kl_value *container)
{
    const struct kl_value *was = NULL;
    if (p->granted)
        was = kl_pod_container(&p->granted->root, kl_text_at(container, KL_F_name), NULL);
    return was ? was : container;
}

static enum kl_ctr_resize needs(const struct kl_pod *p, const struct kl_value *container)
{
    return kl_ctr_resize(container, kl_rt_find(&p->rt, kl_text_at(container, KL_F_name)));
}

static bool any_needs(const struct kl_pod *p)
{
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(c, kl_pod_containers(kl_pod_root(p), kind)))
            if (needs(p, c) != KL_RESIZE_NONE)
                return true;
    return false;
}

static void begin_progress(struct kl_pod *p)
{
    p->resize.in_progress = true;
    p->resize.granted_generation = generation_of(p);
    p->resize.error[0] = 0;
    p->resize_retry_ms = 0;
    tell(p, "Normal", "ResizeStarted", "Pod resize started", p->resize.granted_generation, "");
}

void kl_pod_resize_check(struct kl_pod *p)
{
    struct kl_resize_state *z = &p->resize;
    const struct kl_value *root = kl_pod_root(p);
    int64_t milli, bytes;
    kl_pod_cgroup_requests(root, &milli, &bytes);
    if (!p->admitted) { // by the scheduler; but for what an earlier kubelet had to put off
        bool late = kl_condition_is(kl_path(root, KL_F_status, KL_F_conditions), "PodResizePending",
                                    "True");
        p->admitted = true;
        p->milli = late ? -1 : milli;
        p->bytes = late ? -1 : bytes;
    }
    bool asks = milli != p->milli || bytes != p->bytes;
    const char *what = asks ? lacks(p, milli, bytes) : NULL;
    if (what) {
        bool told = z->pending && z->generation == generation_of(p);
        z->pending = true;
        z->generation = generation_of(p);
        char head[64];
        snprintf(head, sizeof(head), "Pod resize OutOf%s", what);
        if (!told)
            tell(p, "Warning", "ResizeDeferred", head, z->generation, z->message);
        kl_pod_wake_in(p, RETRY_MS);
    } else {
        z->pending = false;
        if (p->granted != p->object) {
            kl_object_unref(p->granted);
            p->granted = kl_object_ref(p->object);
        }
        p->milli = milli;
        p->bytes = bytes;
        if (any_needs(p) && (!z->in_progress || z->granted_generation != generation_of(p)))
            begin_progress(p);
    }
    p->rt.resizes = !z->pending;
}

// ---- the step

static void end_step(struct resize *z)
{
    struct kl_pod *p = z->pod;
    struct kl_kubelet *k = p->k;
    if (z->err.code) {
        bool same = !strcmp(p->resize.error, z->err.msg);
        snprintf(p->resize.error, sizeof(p->resize.error), "%s", z->err.msg);
        if (!same && !k->stopping)
            tell(p, "Warning", "ResizeError", "Pod resize error", p->resize.granted_generation,
                 p->resize.error);
        p->resize_retry_ms = kl_timers_now_ms(k->timers) + RETRY_MS;
        kl_pod_wake_in(p, RETRY_MS);
    }
    for (int i = 0; i < z->n; i++)
        free(z->ids[i]);
    free(z);
    kl_pod_step_done(p);
    kl_kubelet_release(k);
}

static void set_group(struct kl_job *job)
{
    struct resize *z = KL_CONTAINER_OF(job, struct resize, job);
    kl_cgroup_set_pod(z->path, &z->set, &z->err);
}

static void next(struct resize *z);

static void group_set(struct kl_job *job)
{
    struct resize *z = KL_CONTAINER_OF(job, struct resize, job);
    if (!z->err.code)
        z->pod->cgroup = z->set;
    if (z->err.code || z->shrinks)
        end_step(z);
    else
        next(z);
}

static bool same_values(const struct kl_cgroup_values *a, const struct kl_cgroup_values *b)
{
    return a->cpu_shares == b->cpu_shares && a->cpu_quota_us == b->cpu_quota_us &&
           a->memory_limit_bytes == b->memory_limit_bytes;
}

static void give_group(struct resize *z, struct kl_cgroup_values v)
{
    z->set = v;
    z->job = (struct kl_job){.work = set_group, .done = group_set};
    kl_pool_submit(z->pod->k->pool, &z->job);
}

static void on_updated(void *arg, enum kl_grpc_code code, const void *reply,
                       const struct kl_error *err)
{
    struct resize *z = arg;
    struct kl_ctr *c = kl_rt_find_id(&z->pod->rt, kl_str(z->ids[z->at]));
    if (code && code != KL_GRPC_NOT_FOUND) {
        z->err = *err;
        z->err.code = KL_EINTERNAL;
        end_step(z);
        return;
    }
    if (c)
        c->limits = z->limits[z->at];
    z->at++;
    next(z);
}

static const struct kl_value *spec_of(const struct resize *z, const char *id)
{
    const struct kl_ctr *c = kl_rt_find_id(&z->pod->rt, kl_str(id));
    return c && !z->pod->k->stopping ? kl_pod_container(kl_pod_root(z->pod), kl_str(c->name), NULL)
                                     : NULL;
}

// The next container; behind the last, what the pod's group has too much.
static void next(struct resize *z)
{
    const struct kl_value *spec = NULL;
    while (z->at < z->n && !(spec = spec_of(z, z->ids[z->at])))
        z->at++;
    if (z->at == z->n) {
        z->shrinks = true;
        if (z->pod->k->stopping || same_values(&z->pod->cgroup, &z->want))
            end_step(z);
        else
            give_group(z, z->want);
        return;
    }
    struct kl_arena a;
    kl_arena_init(&a, ARENA_BYTES);
    struct kl_cri_update_container_resources_request req = {
        .container_id = kl_str(z->ids[z->at]), .linux_ = kl_container_resources(&a, z->pod, spec)};
    kl_cgroup_of_container(kl_pod_granted(z->pod, spec), &z->limits[z->at]);
    kl_cri_start(z->pod->k->cri, KL_CRI_UPDATE_CONTAINER_RESOURCES, &req, UPDATE_TIMEOUT_MS,
                 on_updated, z, NULL);
    kl_arena_fini(&a);
}

static int64_t larger(int64_t a, int64_t b) // -1: no limit
{
    return a < 0 || b < 0 ? -1 : a > b ? a : b;
}

static bool any_stopping(const struct kl_pod *p)
{
    for (const struct kl_ctr *c = p->rt.ctrs; c; c = c->next)
        if (c->stopping)
            return true;
    return false;
}

static void note_done(struct kl_pod *p)
{
    if (!p->resize.in_progress || any_stopping(p))
        return;
    p->resize.in_progress = false;
    p->resize.error[0] = 0;
    tell(p, "Normal", "ResizeCompleted", "Pod resize completed", p->resize.granted_generation, "");
}

void kl_pod_resize(struct kl_pod *p)
{
    const struct kl_value *root = kl_pod_root(p);
    struct kl_cgroup_values want;
    if (!p->rt.resizes || kl_timers_now_ms(p->k->timers) < p->resize_retry_ms)
        return;
    kl_cgroup_of_pod(root, &want);
    if (!any_needs(p) && same_values(&want, &p->cgroup)) {
        note_done(p);
        return;
    }
    struct resize *z = calloc(1, sizeof(*z));
    if (!z)
        return;
    z->pod = p;
    z->want = want;
    kl_cgroup_pod_path(z->path, sizeof(z->path), p->k->conf.cgroup_root, kl_pod_qos(root),
                       kl_str(p->uid));
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(c, kl_pod_containers(root, kind)))
            if (z->n < KL_PLAN_MAX && needs(p, c) == KL_RESIZE_UPDATE)
                z->ids[z->n++] =
                    kl_strdup(kl_str(kl_rt_find(&p->rt, kl_text_at(c, KL_F_name))->id));
    const struct kl_cgroup_values grown = {
        .cpu_shares = larger(p->cgroup.cpu_shares, want.cpu_shares),
        .cpu_quota_us = larger(p->cgroup.cpu_quota_us, want.cpu_quota_us),
        .cpu_period_us = want.cpu_period_us,
        .memory_limit_bytes = larger(p->cgroup.memory_limit_bytes, want.memory_limit_bytes)};
    if (any_stopping(p)) { // what restarts with less has what it had until then
        z->want = grown;
        if (!z->n && same_values(&grown, &p->cgroup)) {
            free(z);
            return;
        }
    }
    p->busy = true;
    kl_kubelet_hold(p->k);
    if (same_values(&grown, &p->cgroup))
        next(z);
    else
        give_group(z, grown);
}
