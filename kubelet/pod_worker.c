// SPDX-License-Identifier: Apache-2.0
// One pod's worker: looks at what is, asks pod_core.h what to do, and does one step at a time.
//
//   LIVE ──deleted, finished, or made to end──▶ TERMINATING ──all stopped──▶ TERMINATED
//     ──volumes and cgroup given back──▶ RELEASED ──deleted at the API server──▶ REMOVING ──▶ freed
#include "kubelet/pods_int.h"
#include "kubelet/probes.h"
#include "kubelet/volumes.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    DEFAULT_GRACE_S = 30,
    MAX_GRACE_S = 30 * 86400, // timers and the call's time-out bear it
    PREPARE_RETRY_MIN_MS = 500,
    PREPARE_RETRY_MAX_MS = 122000, // as upstream's volume operations
    STATUS_RETRY_MS = 1000,
    STATUS_ARENA_BYTES = 32 * 1024 * 1024,
};

struct kl_ctr_mem *kl_pod_mem(struct kl_pod *p, struct kl_str name)
{
    for (struct kl_ctr_mem *m = p->mem; m; m = m->next)
        if (kl_str_eqz(name, m->name))
            return m;
    struct kl_ctr_mem *m = calloc(1, sizeof(*m));
    if (!m)
        abort();
    m->name = kl_strdup(name);
    m->next = p->mem;
    p->mem = m;
    return m;
}

void kl_mem_reason(struct kl_ctr_mem *m, const char *reason, struct kl_str message)
{
    free(m->reason);
    free(m->message);
    m->reason = reason ? kl_strdup(kl_str(reason)) : NULL;
    m->message = reason ? kl_strdup(message) : NULL;
}

void kl_pod_wake_in(struct kl_pod *p, int64_t delay_ms)
{
    int64_t at = kl_timers_now_ms(p->k->timers) + (delay_ms > 0 ? delay_ms : 0);
    if (!kl_timer_is_set(&p->wake) || at < p->wake.at_ms)
        kl_timer_set(p->k->timers, &p->wake, at);
}

void kl_pod_step_done(struct kl_pod *p)
{
    p->busy = false;
    p->dirty = false;
    kl_pod_sync(p);
}

bool kl_pod_wants_end(const struct kl_pod *p)
{
    const struct kl_value *root = kl_pod_root(p);
    struct kl_str phase = kl_text_at(root, KL_F_status, KL_F_phase);
    return p->gone || p->life > KL_POD_LIVE || p->phase || (root && kl_meta_deleting(root)) ||
           kl_str_eqz(phase, "Failed") || kl_str_eqz(phase, "Succeeded");
}

void kl_pod_force_end(struct kl_pod *p, const char *phase, const char *reason, const char *message)
{
    if (p->phase)
        return;
    p->phase = phase;
    p->reason = reason;
    p->message = kl_strdup(kl_str(message));
    kl_pod_wake_in(p, 0);
}

// ---- status

struct status_call {
    struct kl_call call;
    struct kl_pod *pod;
    struct kl_arena a;
};

static void end_status_call(struct status_call *sc)
{
    struct kl_kubelet *k = sc->pod->k;
    kl_call_fini(&sc->call);
    kl_arena_fini(&sc->a);
    free(sc);
    kl_kubelet_release(k);
}

static void on_status_written(struct kl_call *call)
{
    struct status_call *sc = call->arg;
    struct kl_pod *p = sc->pod;
    int code = call->err.code;
    p->status_sending = false;
    if (code == KL_ENOTFOUND || code == KL_ECONFLICT) {
        // Deleted meanwhile, or another pod has its name now: nobody to tell.
    } else if (code) {
        kl_log(KL_LOG_WARN, "kubelet", "status of pod %s not written: %s", p->full, call->err.msg);
        p->status_stale = true;
        kl_timer_after(p->k->timers, &p->status_retry, STATUS_RETRY_MS);
    }
    bool again = p->status_stale && !code;
    end_status_call(sc);
    if (again)
        kl_pod_status_push(p);
    if (!p->k->stopping)
        kl_pod_sync(p);
}

static void send_status(struct kl_pod *p, const struct kl_value *old)
{
    struct status_call *sc = calloc(1, sizeof(*sc));
    if (!sc)
        return;
    kl_arena_init(&sc->a, STATUS_ARENA_BYTES);
    sc->pod = p;
    sc->call = (struct kl_call){.verb = KL_VERB_PATCH,
                                .res = kl_res(KL_RES_core_v1_pods),
                                .sub = "status",
                                .ns = kl_str(p->ns),
                                .name = kl_str(p->name),
                                .patch_type = KL_PATCH_STRATEGIC,
                                .done_cb = on_status_written,
                                .arg = sc};
    kl_kubelet_hold(p->k);
    if (kl_pod_status_patch(&sc->a, kl_str(p->uid), old, p->status, &sc->call.patch)) {
        p->status_stale = true;
        end_status_call(sc);
        return;
    }
    p->status_sending = true;
    p->status_stale = false;
    kl_client_start(p->k->client, &sc->call);
}

static const struct kl_value *known_status(const struct kl_pod *p)
{
    return p->status ? &p->status->root : kl_get(kl_pod_root(p), KL_F_status);
}

// Builds what the status is now. NULL when out of memory.
static struct kl_object *build_status(struct kl_pod *p)
{
    struct kl_arena a;
    struct kl_value draft;
    struct kl_object *now = NULL;
    kl_arena_init(&a, STATUS_ARENA_BYTES);
    struct kl_status_input in = {.pod = kl_pod_root(p),
                                 .rt = &p->rt,
                                 .mem = p->mem,
                                 .old = known_status(p),
                                 .resize = &p->resize,
                                 .now_us = kl_timers_wall_us(p->k->timers),
                                 .host_ip = kl_str(p->k->conf.node_ip),
                                 .terminal = p->life > KL_POD_LIVE,
                                 .finished = p->life >= KL_POD_TERMINATED,
                                 .phase = p->phase,
                                 .reason = p->reason,
                                 .message = p->message};
    if (!kl_pod_status_build(&a, &in, &draft))
        now = kl_object_freeze(kl_pod_status_type(), &draft);
    kl_arena_fini(&a);
    return now;
}

void kl_pod_status_push(struct kl_pod *p)
{
    if (!p->object || p->gone || p->k->stopping)
        return;
    struct kl_object *now = build_status(p);
    if (!now)
        return;
    const struct kl_value *old = known_status(p);
    if (!p->status_stale && kl_value_equal(old, &now->root)) {
        kl_object_unref(now);
        return;
    }
    struct kl_object *before = p->status;
    p->status = now;
    p->status_stale = true;
    if (!p->status_sending && !kl_timer_is_set(&p->status_retry))
        send_status(p, old);
    kl_object_unref(before);
}

// ---- the end of a pod

int64_t kl_pod_grace_ms(const struct kl_pod *p)
{
    const struct kl_value *root = kl_pod_root(p);
    const struct kl_value *v = kl_path(root, KL_F_metadata, KL_F_deletionGracePeriodSeconds);
    if (!v)
        v = kl_path(root, KL_F_spec, KL_F_terminationGracePeriodSeconds);
    int64_t s = kl_int_or(v, DEFAULT_GRACE_S);
    s = s < MAX_GRACE_S ? s : MAX_GRACE_S;
    return (s > 1 ? s : 1) * 1000; // "no matter what, we always supply a grace period of 1"
}

static bool any_running(const struct kl_pod *p)
{
    for (const struct kl_ctr *c = p->rt.ctrs; c; c = c->next)
        if (c->stopping || c->state == KL_CTR_RUNNING || c->state == KL_CTR_UNKNOWN)
            return true;
    return false;
}

static void begin_end(struct kl_pod *p)
{
    kl_log(KL_LOG_DEBUG, "kubelet", "pod %s terminates", p->full);
    p->life = KL_POD_TERMINATING;
    p->grace_ms = -1;
    if (p->pull)
        kl_cri_cancel(p->pull);
    kl_hooks_cancel(p); // a postStart that would hold the end up
}

static void sync_terminating(struct kl_pod *p)
{
    int64_t now = kl_timers_now_ms(p->k->timers), grace = kl_pod_grace_ms(p);
    bool shorter = p->grace_ms >= 0 && grace < p->grace_ms;
    if (p->grace_ms < 0 || shorter) {
        p->grace_ms = grace;
        p->stop_at_ms = now + grace;
    }
    // A grace period cut short reaches those that were told the longer one.
    for (struct kl_ctr *c = p->rt.ctrs; shorter && c; c = c->next)
        if (c->stopping)
            kl_pod_stop_ctr(p, c, p->stop_at_ms - now, NULL);
    struct kl_ctr *stops[KL_PLAN_MAX];
    int n = kl_pod_next_stops(kl_pod_root(p), &p->rt, stops, KL_PLAN_MAX);
    for (int i = 0; i < n; i++) {
        char msg[300];
        snprintf(msg, sizeof(msg), "Stopping container %s", stops[i]->name);
        kl_pod_stop_ctr(p, stops[i], p->stop_at_ms > now ? p->stop_at_ms - now : 0, msg);
    }
    if (any_running(p) || p->describing)
        return;
    for (const struct kl_sandbox *s = p->rt.sandboxes; s; s = s->next)
        if (s->ready) {
            kl_pod_stop_sandboxes(p);
            return;
        }
    p->life = KL_POD_TERMINATED;
    kl_pod_sync(p);
}

static void on_deleted(struct kl_call *call)
{
    struct status_call *sc = call->arg;
    struct kl_pod *p = sc->pod;
    if (call->err.code && call->err.code != KL_ENOTFOUND && call->err.code != KL_ECONFLICT) {
        kl_log(KL_LOG_WARN, "kubelet", "pod %s not deleted: %s", p->full, call->err.msg);
        p->delete_sent = false;
        kl_pod_wake_in(p, STATUS_RETRY_MS);
    }
    p->status_sending = false;
    end_status_call(sc);
}

static void send_delete(struct kl_pod *p)
{
    struct status_call *sc = calloc(1, sizeof(*sc));
    if (!sc)
        return;
    kl_arena_init(&sc->a, 4096);
    sc->pod = p;
    sc->call = (struct kl_call){.verb = KL_VERB_DELETE,
                                .res = kl_res(KL_RES_core_v1_pods),
                                .ns = kl_str(p->ns),
                                .name = kl_str(p->name),
                                .precondition_uid = kl_str(p->uid),
                                .grace_seconds = 0,
                                .done_cb = on_deleted,
                                .arg = sc};
    p->delete_sent = p->status_sending = true;
    kl_kubelet_hold(p->k);
    kl_client_start(p->k->client, &sc->call);
}

static void sync_released(struct kl_pod *p)
{
    if (p->gone) {
        p->life = KL_POD_REMOVING;
        kl_pod_remove_runtime(p);
        return;
    }
    if (kl_meta_deleting(&p->object->root) && !p->delete_sent && !p->status_sending &&
        !p->status_stale)
        send_delete(p);
}

static void sync_removing(struct kl_pod *p)
{
    if (p->status_sending || p->describing || p->stops || p->hooks || any_running(p)) {
        kl_pod_wake_in(p, 200);
        return;
    }
    kl_pod_unlink(p);
}

// ---- a living pod

static bool past_deadline(struct kl_pod *p)
{
    const struct kl_value *d = kl_path(kl_pod_root(p), KL_F_spec, KL_F_activeDeadlineSeconds);
    int64_t start = kl_int_at(known_status(p), 0, KL_F_startTime);
    if (!d || !start)
        return false;
    int64_t left_ms = (start + kl_int_or(d, 0) * 1000000 - kl_timers_wall_us(p->k->timers)) / 1000;
    if (left_ms > 0) {
        kl_pod_wake_in(p, left_ms);
        return false;
    }
    kl_pod_event(p, "Normal", "DeadlineExceeded",
                 "Pod was active on the node longer than the specified deadline");
    kl_pod_force_end(p, "Failed", "DeadlineExceeded",
                     "Pod was active on the node longer than the specified deadline");
    return true;
}

// The newest ended instance still holds its container back?
static bool crash_looping(struct kl_pod *p, const struct kl_value *spec)
{
    struct kl_str name = kl_text_at(spec, KL_F_name);
    struct kl_ctr_mem *m = kl_pod_mem(p, name);
    const struct kl_ctr *c = kl_rt_find(&p->rt, name);
    while (c && (!kl_str_eqz(name, c->name) || c->state != KL_CTR_EXITED))
        c = c->next;
    if (!c)
        return false;
    int64_t now = kl_kubelet_now_ms(p->k), until, ended = c->finished_ns / 1000000;
    if (!kl_backoff_holds(&m->crash, ended, now, &until)) {
        kl_backoff_next(&m->crash, ended, now);
        return false;
    }
    char msg[600];
    int64_t s = m->crash.value_ms / 1000;
    if (s >= 60)
        snprintf(msg, sizeof(msg), "back-off %lldm%llds restarting failed container=%s pod=%s",
                 (long long)s / 60, (long long)s % 60, m->name, p->full);
    else
        snprintf(msg, sizeof(msg), "back-off %llds restarting failed container=%s pod=%s",
                 (long long)s, m->name, p->full);
    if (!m->reason || strcmp(m->reason, "CrashLoopBackOff") || strcmp(m->message, msg))
        kl_ctr_event(p, name, "Warning", "BackOff",
                     "Back-off restarting failed container %s in pod %s", m->name, p->full);
    kl_mem_reason(m, "CrashLoopBackOff", kl_str(msg));
    kl_pod_wake_in(p, until - now + 1);
    return true;
}

static bool pull_held_back(struct kl_pod *p, const struct kl_value *spec)
{
    struct kl_ctr_mem *m = kl_pod_mem(p, kl_text_at(spec, KL_F_name));
    int64_t now = kl_kubelet_now_ms(p->k), until;
    if (!m->pull_error || !kl_backoff_holds(&m->pull, m->pull.updated_ms, now, &until))
        return false;
    char msg[1400];
    snprintf(msg, sizeof(msg), "Back-off pulling image \"%.*s\"",
             KL_PRI(kl_text_at(spec, KL_F_image)));
    if (!m->reason || strcmp(m->reason, "ImagePullBackOff")) {
        kl_ctr_event(p, kl_text_at(spec, KL_F_name), "Normal", "BackOff", "%s", msg);
        kl_ctr_event(p, kl_text_at(spec, KL_F_name), "Warning", "Failed",
                     "Error: ImagePullBackOff");
    }
    snprintf(msg + strlen(msg), sizeof(msg) - strlen(msg), ": %s", m->pull_error);
    kl_mem_reason(m, "ImagePullBackOff", kl_str(msg));
    kl_pod_wake_in(p, until - now + 1);
    return true;
}

static void start_next(struct kl_pod *p, const struct kl_pod_plan *plan)
{
    for (int i = 0; i < plan->nstart; i++) {
        const struct kl_value *spec =
            kl_at(kl_pod_containers(kl_pod_root(p), plan->start[i].kind), plan->start[i].index);
        const struct kl_ctr *c = kl_rt_find(&p->rt, kl_text_at(spec, KL_F_name));
        if (c && (c->stopping || c->state == KL_CTR_RUNNING))
            continue; // its end wakes us
        if (crash_looping(p, spec) || pull_held_back(p, spec))
            continue;
        kl_pod_start_ctr(p, plan->start[i].kind, plan->start[i].index);
        return;
    }
}

static bool ready_sandbox(const struct kl_pod *p)
{
    for (const struct kl_sandbox *s = p->rt.sandboxes; s; s = s->next)
        if (s->ready)
            return true;
    return false;
}

static void sync_live(struct kl_pod *p)
{
    struct kl_pod_plan plan;
    if (p->describing || past_deadline(p))
        return; // what is not known yet is not acted on
    kl_pod_resize_check(p);
    kl_pod_compute(kl_pod_root(p), &p->rt, &plan);
    if (plan.kill_pod && !plan.create_sandbox) {
        begin_end(p);
        kl_pod_status_push(p);
        kl_pod_sync(p);
        return;
    }
    if (!p->prepared) {
        kl_pod_status_push(p);
        kl_pod_prepare(p);
        return;
    }
    if (plan.create_sandbox) {
        if (!kl_runtime_network_ready(p->k->runtime) &&
            !kl_true_at(kl_pod_root(p), KL_F_spec, KL_F_hostNetwork)) {
            kl_pod_status_push(p);
            return; // its readiness wakes us
        }
        if (p->rt.sandboxes)
            kl_pod_event(p, "Normal", "SandboxChanged",
                         "Pod sandbox changed, it will be killed and re-created.");
        if (any_running(p)) {
            for (struct kl_ctr *c = p->rt.ctrs; c; c = c->next)
                if (!c->stopping && (c->state == KL_CTR_RUNNING || c->state == KL_CTR_UNKNOWN))
                    kl_pod_stop_ctr(p, c, kl_pod_grace_ms(p), NULL);
        } else if (ready_sandbox(p)) {
            kl_pod_stop_sandboxes(p);
        } else {
            kl_pod_create_sandbox(p, plan.sandbox_attempt);
        }
        kl_pod_status_push(p);
        return;
    }
    for (int i = 0; i < plan.nkill; i++)
        kl_pod_stop_ctr(p, plan.kill[i].ctr, kl_pod_grace_ms(p), plan.kill[i].message);
    start_next(p, &plan);
    if (!p->busy)
        kl_pod_resize(p);
    if (!p->busy) {
        kl_pod_gc_ctrs(p);
        kl_pod_gc_sandboxes(p);
    }
    kl_pod_status_push(p);
}

void kl_pod_sync(struct kl_pod *p)
{
    if (p->k->stopping)
        return;
    if (p->life == KL_POD_LIVE && kl_pod_wants_end(p) && p->pods->ready)
        begin_end(p);
    if (p->busy) {
        p->dirty = true;
        return;
    }
    // Until both sides are known it cannot be said what is missing or too much.
    if (!p->pods->ready || (!p->object && !p->gone) || !kl_runtime_is_up(p->k->runtime))
        return;
    kl_probes_adopt(p->k->probes, p);
    switch (p->life) {
    case KL_POD_LIVE:
        sync_live(p);
        break;
    case KL_POD_TERMINATING:
        kl_pod_status_push(p);
        sync_terminating(p);
        break;
    case KL_POD_TERMINATED:
        kl_pod_release(p);
        break;
    case KL_POD_RELEASED:
        kl_pod_status_push(p);
        sync_released(p);
        break;
    case KL_POD_REMOVING:
        sync_removing(p);
        break;
    }
}
