// SPDX-License-Identifier: Apache-2.0
// convertStatusToAPIStatus, getPhase and status/generate.go of pkg/kubelet.
#include "kubelet/pod_status.h"
#include "client/helpers.h"
#include "kubelet/cgroup.h"
#include "object/json.h"
#include <stdio.h>

const struct kl_type *kl_pod_status_type(void)
{
    return kl_type_by_name(KL_STR("io.k8s.api.core.v1.PodStatus"));
}

static int64_t whole_seconds(int64_t us)
{
    return us / 1000000 * 1000000;
}

static const struct kl_ctr_mem *find_mem(const struct kl_ctr_mem *m, struct kl_str name)
{
    while (m && !kl_str_eqz(name, m->name))
        m = m->next;
    return m;
}

static const struct kl_value *find_status(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(s, list))
        if (kl_str_eq(kl_text_at(s, KL_F_name), name))
            return s;
    return NULL;
}

static struct kl_value container_id(struct kl_arena *a, const struct kl_ctr *c)
{
    return kl_string(kl_arena_printf(a, "containerd://%s", c->id));
}

static struct kl_value terminated(struct kl_arena *a, const struct kl_ctr *c)
{
    struct kl_value v = kl_new_struct();
    kl_set_int(a, &v, KL_F_exitCode, c->exit_code);
    if (c->reason && *c->reason)
        kl_set_z(a, &v, KL_F_reason, c->reason);
    if (c->message && *c->message)
        kl_set_z(a, &v, KL_F_message, c->message);
    kl_set(a, &v, KL_F_startedAt, kl_time(whole_seconds(c->started_ns / 1000)));
    kl_set(a, &v, KL_F_finishedAt, kl_time(whole_seconds(c->finished_ns / 1000)));
    kl_set(a, &v, KL_F_containerID, container_id(a, c));
    return v;
}

// A container that ran once and of which nothing is known any more.
static struct kl_value lost(struct kl_arena *a, const char *message)
{
    struct kl_value v = kl_new_struct();
    kl_set_z(a, &v, KL_F_reason, "ContainerStatusUnknown");
    kl_set_z(a, &v, KL_F_message, message);
    kl_set_int(a, &v, KL_F_exitCode, 137);
    return v;
}

static struct kl_value one_state(struct kl_arena *a, kl_sym which, struct kl_value v)
{
    struct kl_value s = kl_new_struct();
    kl_set(a, &s, which, v);
    return s;
}

static struct kl_value waiting(struct kl_arena *a, const char *reason, const char *message)
{
    struct kl_value w = kl_new_struct();
    if (reason && *reason)
        kl_set_z(a, &w, KL_F_reason, reason);
    if (message && *message)
        kl_set_z(a, &w, KL_F_message, message);
    return one_state(a, KL_F_waiting, w);
}

static void put_mounts(struct kl_arena *a, struct kl_value *st, const struct kl_value *container)
{
    const struct kl_value *mounts = kl_get(container, KL_F_volumeMounts);
    if (!kl_len(mounts))
        return;
    struct kl_value *list = kl_edit(a, st, KL_F_volumeMounts, KL_ARRAY);
    for (KL_EACH(m, mounts)) {
        struct kl_value v = kl_new_struct();
        kl_set_str(a, &v, KL_F_name, kl_text_at(m, KL_F_name));
        kl_set_str(a, &v, KL_F_mountPath, kl_text_at(m, KL_F_mountPath));
        if (kl_true_at(m, KL_F_readOnly)) {
            kl_set(a, &v, KL_F_readOnly, kl_bool(true));
            kl_set_z(a, &v, KL_F_recursiveReadOnly, "Disabled");
        }
        kl_append(a, list, v);
    }
}

// What the container has: what its spec asks for, but for the time of a resize.
static void put_resources(struct kl_arena *a, struct kl_value *st, const struct kl_status_input *in,
                          const struct kl_value *container, const struct kl_ctr *c,
                          const struct kl_value *old)
{
    const struct kl_value *res = kl_get(container, KL_F_resources);
    const struct kl_value *has = res, *granted = kl_get(res, KL_F_requests);
    bool pending = in->resize && in->resize->pending;
    if (kl_ctr_resize(container, c) != KL_RESIZE_NONE && kl_get(old, KL_F_resources))
        has = kl_get(old, KL_F_resources);
    if (pending && old) {
        has = kl_get(old, KL_F_resources);
        granted = kl_get(old, KL_F_allocatedResources);
    }
    kl_set(a, st, KL_F_resources, has ? *has : kl_new_struct());
    if (granted)
        kl_set(a, st, KL_F_allocatedResources, *granted);
}

// The state of the newest instance, and of the one before it as lastState.
static void put_instances(struct kl_arena *a, struct kl_value *st, const struct kl_status_input *in,
                          const struct kl_value *container, struct kl_ctr *c,
                          const struct kl_value *old)
{
    kl_set_z(a, st, KL_F_containerID, container_id(a, c).s);
    kl_set_z(a, st, KL_F_image, c->image ? c->image : "");
    kl_set_z(a, st, KL_F_imageID, c->image_id ? c->image_id : "");
    kl_set_int(a, st, KL_F_restartCount, c->attempt);
    if (c->state == KL_CTR_RUNNING) {
        struct kl_value r = kl_new_struct();
        kl_set(a, &r, KL_F_startedAt, kl_time(whole_seconds(c->started_ns / 1000)));
        kl_set(a, st, KL_F_state, one_state(a, KL_F_running, r));
    } else if (c->state == KL_CTR_EXITED) {
        kl_set(a, st, KL_F_state, one_state(a, KL_F_terminated, terminated(a, c)));
    } else {
        kl_set(a, st, KL_F_state, waiting(a, NULL, NULL));
    }
    put_resources(a, st, in, container, c, old);
    for (struct kl_ctr *o = c->next; o; o = o->next)
        if (!strcmp(o->name, c->name)) {
            if (o->state == KL_CTR_EXITED)
                kl_set(a, st, KL_F_lastState, one_state(a, KL_F_terminated, terminated(a, o)));
            break;
        }
}

// No instance is in the runtime: what the last status said decides.
static void put_missing(struct kl_arena *a, struct kl_value *st, const struct kl_value *old)
{
    if (kl_path(old, KL_F_state, KL_F_terminated)) {
        kl_sym keep[] = {KL_F_state,       KL_F_lastState, KL_F_restartCount,
                         KL_F_containerID, KL_F_imageID,   KL_F_image};
        for (size_t i = 0; i < KL_COUNT(keep); i++)
            if (kl_get(old, keep[i]))
                kl_set(a, st, keep[i], *kl_get(old, keep[i]));
        return;
    }
    int64_t restarts = kl_int_at(old, 0, KL_F_restartCount);
    if (kl_get(old, KL_F_lastState))
        kl_set(a, st, KL_F_lastState, *kl_get(old, KL_F_lastState));
    if (kl_path(old, KL_F_state, KL_F_running)) {
        kl_set(a, st, KL_F_lastState,
               one_state(a, KL_F_terminated,
                         lost(a, "The container could not be located when the pod was deleted.  "
                                 "The container used to be Running")));
        restarts++;
    }
    kl_set_int(a, st, KL_F_restartCount, restarts);
}

// Why it waits, unless it will not be started again anyway.
static void put_reason(struct kl_arena *a, struct kl_value *st, const struct kl_status_input *in,
                       const struct kl_value *container, const struct kl_ctr *c)
{
    const struct kl_ctr_mem *m = find_mem(in->mem, kl_text_at(container, KL_F_name));
    if (!m || !m->reason || in->terminal || (c && c->state == KL_CTR_RUNNING) ||
        (c && c->state == KL_CTR_EXITED && !kl_ctr_restarts(in->pod, container, c->exit_code)))
        return;
    const struct kl_value *state = kl_get(st, KL_F_state);
    if (kl_get(state, KL_F_terminated)) {
        struct kl_value copy = *state;
        kl_set(a, st, KL_F_lastState, copy);
    }
    kl_set(a, st, KL_F_state, waiting(a, m->reason, m->message));
}

static struct kl_value container_status(struct kl_arena *a, const struct kl_status_input *in,
                                        const struct kl_value *container, enum kl_ctr_kind kind,
                                        const struct kl_value *old_list)
{
    struct kl_str name = kl_text_at(container, KL_F_name);
    struct kl_ctr *c = kl_rt_find(in->rt, name);
    const struct kl_value *old = find_status(old_list, name);
    bool has_init = kl_len(kl_pod_containers(in->pod, KL_CTR_INIT)) > 0;
    struct kl_value st = kl_new_struct();
    kl_set_str(a, &st, KL_F_name, name);
    kl_set_str(a, &st, KL_F_image, kl_text_at(container, KL_F_image));
    kl_set_z(a, &st, KL_F_imageID, "");
    kl_set_int(a, &st, KL_F_restartCount, 0);
    kl_set(a, &st, KL_F_state,
           waiting(a, has_init ? "PodInitializing" : "ContainerCreating", NULL));
    put_mounts(a, &st, container);
    if (c)
        put_instances(a, &st, in, container, c, old);
    else if (old)
        put_missing(a, &st, old);
    put_reason(a, &st, in, container, c);
    if (in->finished && kind == KL_CTR_MAIN && !kl_path(&st, KL_F_state, KL_F_terminated))
        kl_set(a, &st, KL_F_state,
               one_state(a, KL_F_terminated,
                         lost(a, "The container could not be located when the pod was "
                                 "terminated")));
    bool started = kl_ctr_started(container, c), ready = kl_ctr_ready(container, c);
    if (kind == KL_CTR_INIT && !kl_ctr_is_sidecar(container)) {
        const struct kl_value *t = kl_path(&st, KL_F_state, KL_F_terminated);
        ready = t && kl_int_at(t, 0, KL_F_exitCode) == 0;
    } else if (kind == KL_CTR_EPHEMERAL) {
        ready = started = false;
    }
    kl_set(a, &st, KL_F_ready, kl_bool(ready));
    if (kind != KL_CTR_EPHEMERAL)
        kl_set(a, &st, KL_F_started, kl_bool(started));
    return st;
}

// ---- the phase

struct tally {
    int pending_init, failed_init_final;
    int pending_sidecar, unknown, running, waiting, stopped, stopped_final, succeeded;
};

static bool exit_of(const struct kl_value *st, int64_t *ret_code, bool *ret_now)
{
    const struct kl_value *t = kl_path(st, KL_F_state, KL_F_terminated);
    *ret_now = t != NULL;
    if (!t && kl_path(st, KL_F_state, KL_F_waiting))
        t = kl_path(st, KL_F_lastState, KL_F_terminated);
    if (!t)
        return false;
    *ret_code = kl_int_at(t, 0, KL_F_exitCode);
    return true;
}

static void count_init(const struct kl_value *pod, const struct kl_value *c,
                       const struct kl_value *st, struct tally *n)
{
    int64_t code;
    bool now;
    bool running = kl_path(st, KL_F_state, KL_F_running) != NULL;
    bool exited = exit_of(st, &code, &now);
    if (kl_ctr_is_sidecar(c)) {
        if (running) {
            n->pending_sidecar += !kl_true_at(st, KL_F_started);
            n->running++;
        } else if (!st) {
            n->unknown++;
        } else if (!exited) {
            n->pending_sidecar++;
            n->waiting++;
        }
    } else if (!st || running || !exited) {
        n->pending_init++;
    } else if (code != 0 && !kl_ctr_restarts(pod, c, (int)code)) {
        n->failed_init_final++;
    }
}

static void count_main(const struct kl_value *pod, const struct kl_value *c,
                       const struct kl_value *st, struct tally *n)
{
    int64_t code;
    bool now;
    if (kl_path(st, KL_F_state, KL_F_running)) {
        n->running++;
    } else if (!st) {
        n->unknown++;
    } else if (exit_of(st, &code, &now)) {
        n->stopped++;
        n->stopped_final += !kl_ctr_restarts(pod, c, (int)code);
        n->succeeded += now && code == 0;
    } else {
        n->waiting++;
    }
}

static bool any_main_started(const struct kl_status_input *in)
{
    for (KL_EACH(m, kl_pod_containers(in->pod, KL_CTR_MAIN))) {
        const struct kl_ctr *c = kl_rt_find(in->rt, kl_text_at(m, KL_F_name));
        if (c && c->state != KL_CTR_CREATED)
            return true;
    }
    return false;
}

static const char *phase_of(const struct kl_status_input *in, const struct kl_value *st)
{
    struct tally n = {0};
    for (KL_EACH(c, kl_pod_containers(in->pod, KL_CTR_INIT)))
        count_init(in->pod, c,
                   find_status(kl_get(st, KL_F_initContainerStatuses), kl_text_at(c, KL_F_name)),
                   &n);
    for (KL_EACH(c, kl_pod_containers(in->pod, KL_CTR_MAIN)))
        count_main(in->pod, c,
                   find_status(kl_get(st, KL_F_containerStatuses), kl_text_at(c, KL_F_name)), &n);
    if (n.failed_init_final)
        return "Failed";
    if (n.pending_init || (n.pending_sidecar && !any_main_started(in)) || n.waiting)
        return "Pending";
    if (n.running && !n.unknown)
        return "Running";
    if (!n.running && n.stopped && !n.unknown) {
        if (!in->terminal && n.stopped != n.stopped_final)
            return "Running";
        return n.stopped == n.succeeded ? "Succeeded" : "Failed";
    }
    return "Pending";
}

// ---- conditions

static void add_condition(struct kl_arena *a, struct kl_value *list,
                          const struct kl_status_input *in, const char *type, bool is_true,
                          const char *reason, struct kl_str message)
{
    const struct kl_value *old = kl_condition_find(kl_get(in->old, KL_F_conditions), type);
    const char *status = is_true ? "True" : "False";
    struct kl_value c = kl_new_struct();
    kl_set_z(a, &c, KL_F_type, type);
    kl_set_int(a, &c, KL_F_observedGeneration,
               kl_int_at(in->pod, 0, KL_F_metadata, KL_F_generation));
    kl_set_z(a, &c, KL_F_status, status);
    const struct kl_value *since = kl_get(old, KL_F_lastTransitionTime);
    kl_set(a, &c, KL_F_lastTransitionTime,
           since && kl_str_eqz(kl_text_at(old, KL_F_status), status)
               ? *since
               : kl_time(whole_seconds(in->now_us)));
    if (reason)
        kl_set_z(a, &c, KL_F_reason, reason);
    if (message.n)
        kl_set_str(a, &c, KL_F_message, message);
    kl_append(a, list, c);
}

// "[a b", as Go begins to print a slice; "" when there is none.

static void add_name(struct kl_buf *b, struct kl_str name)
{
    kl_buf_putc(b, b->n ? ' ' : '[');
    kl_buf_puts(b, name);
}

static struct kl_str two_lists(struct kl_arena *a, struct kl_buf *unknown, const char *second_word,
                               struct kl_buf *second)
{
    struct kl_str s = {"", 0};
    if (unknown->n)
        s = kl_arena_printf(a, "containers with unknown status: %.*s]",
                            KL_PRI(kl_buf_str(unknown)));
    if (second->n)
        s = kl_arena_printf(a, "%.*s%scontainers with %s status: %.*s]", KL_PRI(s), s.n ? ", " : "",
                            second_word, KL_PRI(kl_buf_str(second)));
    return s;
}

struct verdict {
    bool ok;
    const char *reason;
    struct kl_str message;
};

static struct verdict initialized(struct kl_arena *a, const struct kl_status_input *in,
                                  const struct kl_value *st, const char *phase)
{
    struct kl_buf unknown, incomplete;
    kl_buf_init(&unknown, 65536);
    kl_buf_init(&incomplete, 65536);
    for (KL_EACH(c, kl_pod_containers(in->pod, KL_CTR_INIT))) {
        struct kl_str name = kl_text_at(c, KL_F_name);
        const struct kl_value *s = find_status(kl_get(st, KL_F_initContainerStatuses), name);
        if (!s)
            add_name(&unknown, name);
        else if (!kl_true_at(s, kl_ctr_is_sidecar(c) ? KL_F_started : KL_F_ready))
            add_name(&incomplete, name);
    }
    struct verdict v = {true, NULL, {"", 0}};
    if (!strcmp(phase, "Succeeded") && !unknown.n) {
        v.reason = "PodCompleted";
    } else if (!any_main_started(in)) {
        v.message = two_lists(a, &unknown, "incomplete", &incomplete);
        v.ok = !v.message.n ||
               kl_condition_is(kl_get(in->old, KL_F_conditions), "Initialized", "True");
        if (v.ok)
            v.message = KL_STR("");
        else
            v.reason = "ContainersNotInitialized";
    }
    kl_buf_fini(&unknown);
    kl_buf_fini(&incomplete);
    return v;
}

static struct verdict containers_ready(struct kl_arena *a, const struct kl_status_input *in,
                                       const struct kl_value *st, const char *phase)
{
    struct kl_buf unknown, unready;
    kl_buf_init(&unknown, 65536);
    kl_buf_init(&unready, 65536);
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_MAIN; kind++)
        for (KL_EACH(c, kl_pod_containers(in->pod, kind))) {
            if (kind == KL_CTR_INIT && !kl_ctr_is_sidecar(c))
                continue;
            struct kl_str name = kl_text_at(c, KL_F_name);
            const struct kl_value *s =
                find_status(kl_get(st, kind == KL_CTR_INIT ? KL_F_initContainerStatuses
                                                           : KL_F_containerStatuses),
                            name);
            if (!s)
                add_name(&unknown, name);
            else if (!kl_true_at(s, KL_F_ready))
                add_name(&unready, name);
        }
    struct verdict v = {true, NULL, {"", 0}};
    if (!strcmp(phase, "Failed") || (!strcmp(phase, "Succeeded") && !unknown.n)) {
        v.ok = false;
        v.reason = !strcmp(phase, "Failed") ? "PodFailed" : "PodCompleted";
    } else {
        v.message = two_lists(a, &unknown, "unready", &unready);
        v.ok = !v.message.n;
        v.reason = v.ok ? NULL : "ContainersNotReady";
    }
    kl_buf_fini(&unknown);
    kl_buf_fini(&unready);
    return v;
}

static struct verdict pod_ready(struct kl_arena *a, const struct kl_status_input *in,
                                struct verdict containers, const struct kl_value *conditions)
{
    if (!containers.ok)
        return containers;
    struct kl_str msg = {"", 0};
    for (KL_EACH(g, kl_path(in->pod, KL_F_spec, KL_F_readinessGates))) {
        struct kl_str type = kl_text_at(g, KL_F_conditionType);
        const struct kl_value *c = NULL;
        for (KL_EACH(x, conditions))
            if (kl_str_eq(kl_text_at(x, KL_F_type), type))
                c = x;
        if (!c)
            msg = kl_arena_printf(a,
                                  "%.*s%scorresponding condition of pod readiness gate \"%.*s\" "
                                  "does not exist.",
                                  KL_PRI(msg), msg.n ? ", " : "", KL_PRI(type));
        else if (!kl_str_eqz(kl_text_at(c, KL_F_status), "True"))
            msg = kl_arena_printf(a,
                                  "%.*s%sthe status of pod readiness gate \"%.*s\" is not "
                                  "\"True\", but %.*s",
                                  KL_PRI(msg), msg.n ? ", " : "", KL_PRI(type),
                                  KL_PRI(kl_text_at(c, KL_F_status)));
    }
    return msg.n ? (struct verdict){false, "ReadinessGatesNotReady", msg} : containers;
}

static bool is_ours(struct kl_str type)
{
    static const char *const ours[] = {"PodScheduled",
                                       "Ready",
                                       "Initialized",
                                       "ContainersReady",
                                       "PodReadyToStartContainers",
                                       "PodResizePending",
                                       "PodResizeInProgress"};
    for (size_t i = 0; i < KL_COUNT(ours); i++)
        if (kl_str_eqz(type, ours[i]))
            return true;
    return false;
}

// Those of a resize are there as long as they are true.
static void add_resize(struct kl_arena *a, struct kl_value *list, const struct kl_status_input *in)
{
    const struct kl_resize_state *z = in->resize;
    struct kl_value *c;
    if (z && z->pending) {
        add_condition(a, list, in, "PodResizePending", true, "Deferred", kl_str(z->message));
        if ((c = kl_edit_at(a, list, kl_len(list) - 1)))
            kl_set_int(a, c, KL_F_observedGeneration, z->generation);
    }
    if (z && z->in_progress) {
        add_condition(a, list, in, "PodResizeInProgress", true, *z->error ? "Error" : NULL,
                      kl_str(z->error));
        if ((c = kl_edit_at(a, list, kl_len(list) - 1)))
            kl_set_int(a, c, KL_F_observedGeneration, z->granted_generation);
    }
}

static void put_conditions(struct kl_arena *a, struct kl_value *st,
                           const struct kl_status_input *in, const char *phase)
{
    struct kl_value list = kl_new_array();
    uint32_t attempt;
    // Conditions of others stay as the API server has them.
    for (KL_EACH(c, kl_path(in->pod, KL_F_status, KL_F_conditions)))
        if (!is_ours(kl_text_at(c, KL_F_type)))
            kl_append(a, &list, *c);
    add_condition(a, &list, in, "PodReadyToStartContainers",
                  !kl_pod_needs_sandbox(in->pod, in->rt, &attempt), NULL, KL_STR(""));
    struct verdict init = initialized(a, in, st, phase);
    struct verdict ctrs = containers_ready(a, in, st, phase);
    struct verdict ready = pod_ready(a, in, ctrs, &list);
    add_condition(a, &list, in, "Initialized", init.ok, init.reason, init.message);
    add_condition(a, &list, in, "Ready", ready.ok, ready.reason, ready.message);
    add_condition(a, &list, in, "ContainersReady", ctrs.ok, ctrs.reason, ctrs.message);
    add_condition(a, &list, in, "PodScheduled", true, NULL, KL_STR(""));
    add_resize(a, &list, in);
    kl_set(a, st, KL_F_conditions, list);
}

static void put_addresses(struct kl_arena *a, struct kl_value *st, const struct kl_status_input *in)
{
    struct kl_str ips[2] = {{"", 0}, {"", 0}};
    bool host = kl_true_at(in->pod, KL_F_spec, KL_F_hostNetwork);
    if (host) {
        ips[0] = in->host_ip;
    } else if (in->rt->sandboxes && in->rt->sandboxes->ready) {
        ips[0] = kl_str(in->rt->sandboxes->ips[0]);
        ips[1] = kl_str(in->rt->sandboxes->ips[1]);
    } else {
        // A pod that has ended keeps showing the address it had.
        ips[0] = kl_text_at(in->old, KL_F_podIP);
    }
    kl_set_str(a, st, KL_F_hostIP, in->host_ip);
    struct kl_value item = kl_new_struct();
    if (in->host_ip.n) {
        kl_set_str(a, &item, KL_F_ip, in->host_ip);
        kl_append(a, kl_edit(a, st, KL_F_hostIPs, KL_ARRAY), item);
    }
    if (ips[0].n)
        kl_set_str(a, st, KL_F_podIP, ips[0]);
    for (size_t i = 0; i < KL_COUNT(ips); i++)
        if (ips[i].n) {
            item = kl_new_struct();
            kl_set_str(a, &item, KL_F_ip, ips[i]);
            kl_append(a, kl_edit(a, st, KL_F_podIPs, KL_ARRAY), item);
        }
}

int kl_pod_status_build(struct kl_arena *a, const struct kl_status_input *in,
                        struct kl_value *ret_status)
{
    static const struct {
        enum kl_ctr_kind kind;
        kl_sym field;
    } lists[] = {{KL_CTR_INIT, KL_F_initContainerStatuses},
                 {KL_CTR_MAIN, KL_F_containerStatuses},
                 {KL_CTR_EPHEMERAL, KL_F_ephemeralContainerStatuses}};
    struct kl_value st = kl_new_struct();
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (KL_EACH(c, kl_pod_containers(in->pod, lists[i].kind)))
            kl_append(a, kl_edit(a, &st, lists[i].field, KL_ARRAY),
                      container_status(a, in, c, lists[i].kind, kl_get(in->old, lists[i].field)));
    const char *phase = in->phase ? in->phase : phase_of(in, &st);
    struct kl_str api_phase = kl_text_at(in->pod, KL_F_status, KL_F_phase);
    struct kl_str old_phase = kl_text_at(in->old, KL_F_phase);
    // Terminal phases are never left.
    for (int i = 0; i < 2; i++) {
        struct kl_str p = i ? api_phase : old_phase;
        if (kl_str_eqz(p, "Failed") || kl_str_eqz(p, "Succeeded"))
            phase = kl_str_eqz(p, "Failed") ? "Failed" : "Succeeded";
    }
    kl_set_z(a, &st, KL_F_phase, phase);
    if (in->phase) {
        if (in->reason)
            kl_set_z(a, &st, KL_F_reason, in->reason);
        if (in->message)
            kl_set_z(a, &st, KL_F_message, in->message);
    } else if (kl_str_eqz(old_phase, phase)) {
        if (kl_get(in->old, KL_F_reason))
            kl_set(a, &st, KL_F_reason, *kl_get(in->old, KL_F_reason));
        if (kl_get(in->old, KL_F_message))
            kl_set(a, &st, KL_F_message, *kl_get(in->old, KL_F_message));
    }
    put_conditions(a, &st, in, phase);
    put_addresses(a, &st, in);
    const struct kl_value *start = kl_get(in->old, KL_F_startTime);
    if (!start)
        start = kl_path(in->pod, KL_F_status, KL_F_startTime);
    kl_set(a, &st, KL_F_startTime, start ? *start : kl_time(whole_seconds(in->now_us)));
    kl_set_z(a, &st, KL_F_qosClass, kl_qos_name(kl_pod_qos(in->pod)));
    kl_set_int(a, &st, KL_F_observedGeneration,
               kl_int_at(in->pod, 0, KL_F_metadata, KL_F_generation));
    // Fields that others write.
    static const kl_sym others[] = {KL_F_nominatedNodeName, KL_F_resize,
                                    KL_F_resourceClaimStatuses};
    for (size_t i = 0; i < KL_COUNT(others); i++) {
        const struct kl_value *v = kl_path(in->pod, KL_F_status, others[i]);
        if (v)
            kl_set(a, &st, others[i], *v);
    }
    *ret_status = st;
    return kl_get(ret_status, KL_F_qosClass) ? 0 : KL_ENOMEM;
}

// ---- the patch

// A strategic merge leaves members that are not named: what went away must be named as null.
static void name_gone(struct kl_arena *a, struct kl_value *map, struct kl_str key)
{
    if (!kl_map_value(map, key))
        kl_map_set_value(a, map, key, kl_null());
}

static void replace_whole(struct kl_arena *a, struct kl_value *status, struct kl_str key)
{
    if (!kl_map_value(status, key))
        return;
    struct kl_value directive = kl_new_map();
    kl_map_set_value(a, &directive, KL_STR("$patch"), kl_string(KL_STR("replace")));
    kl_append(a, kl_edit_map(a, status, key, KL_ARRAY), directive);
}

// Conditions that are no more are named, too.
static void name_gone_conditions(struct kl_arena *a, struct kl_value *list,
                                 const struct kl_value *old, const struct kl_value *now)
{
    static const char *const passing[] = {"PodResizePending", "PodResizeInProgress"};
    for (size_t i = 0; i < KL_COUNT(passing); i++) {
        if (!kl_condition_find(kl_get(old, KL_F_conditions), passing[i]) ||
            kl_condition_find(kl_get(now, KL_F_conditions), passing[i]))
            continue;
        struct kl_value gone = kl_new_map();
        kl_map_set_value(a, &gone, KL_STR("$patch"), kl_string(KL_STR("delete")));
        kl_map_set_value(a, &gone, KL_STR("type"), kl_string(kl_str(passing[i])));
        kl_append(a, list, gone);
    }
}

int kl_pod_status_patch(struct kl_arena *a, struct kl_str uid, const struct kl_value *old,
                        const struct kl_object *now, struct kl_str *ret_json)
{
    struct kl_value status, patch = kl_new_map(), meta = kl_new_map();
    int r = kl_untyped_from_typed(a, now->type, &now->root, &status);
    if (r)
        return r;
    struct kl_value *conditions = kl_edit_map(a, &status, KL_STR("conditions"), KL_ARRAY);
    for (size_t i = 0; i < kl_len(conditions); i++) {
        struct kl_value *c = kl_edit_at(a, conditions, i);
        if (!c || !is_ours(kl_text(kl_map_value(c, KL_STR("type")))))
            continue;
        name_gone(a, c, KL_STR("reason"));
        name_gone(a, c, KL_STR("message"));
    }
    if (conditions)
        name_gone_conditions(a, conditions, old, &now->root);
    name_gone(a, &status, KL_STR("reason"));
    name_gone(a, &status, KL_STR("message"));
    replace_whole(a, &status, KL_STR("podIPs"));
    replace_whole(a, &status, KL_STR("hostIPs"));
    kl_map_set_value(a, &meta, KL_STR("uid"), kl_string(uid));
    kl_map_set_value(a, &patch, KL_STR("metadata"), meta);
    kl_map_set_value(a, &patch, KL_STR("status"), status);
    struct kl_buf b;
    kl_buf_init(&b, 3 * 1024 * 1024);
    kl_json_write(&b, &patch);
    r = b.err;
    if (!r) {
        *ret_json = kl_arena_dup(a, kl_buf_str(&b));
        r = ret_json->p ? 0 : KL_ENOMEM;
    }
    kl_buf_fini(&b);
    return r;
}
