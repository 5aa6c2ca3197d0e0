// SPDX-License-Identifier: Apache-2.0
// Pods: the status that kubectl shows is computed from all container statuses.
#include "object/table_int.h"
#include "object/timestamp.h"
#include <stdio.h>

struct pod_state {
    struct kl_str reason;
    char room[64]; // for reasons with a number
    const char *prefix;
    int64_t restarts, last_restart_us;
    int64_t sidecar_restarts, last_sidecar_us;
    int64_t ready, total;
    bool initializing;
};

static const struct kl_value *state_of(const struct kl_value *status, kl_sym which)
{
    return kl_path(status, KL_F_state, which);
}

static struct kl_str container_text(const struct kl_value *status, kl_sym which, kl_sym field)
{
    return kl_text(kl_get(state_of(status, which), field));
}

// "Signal:9" or "ExitCode:1" of a container that ended without a reason.
static void numbered_reason(struct pod_state *s, const struct kl_value *terminated)
{
    int64_t signal = kl_int_or(kl_get(terminated, KL_F_signal), 0);
    int64_t code = kl_int_or(kl_get(terminated, KL_F_exitCode), 0);
    int n = signal ? snprintf(s->room, sizeof(s->room), "Signal:%lld", (long long)signal)
                   : snprintf(s->room, sizeof(s->room), "ExitCode:%lld", (long long)code);
    s->reason = (struct kl_str){s->room, (size_t)n};
}

static void terminated_reason(struct pod_state *s, const struct kl_value *terminated)
{
    s->reason = kl_text(kl_get(terminated, KL_F_reason));
    if (s->reason.n == 0)
        numbered_reason(s, terminated);
}

static int64_t finished_us(const struct kl_value *status)
{
    return kl_int_or(kl_path(status, KL_F_lastState, KL_F_terminated, KL_F_finishedAt),
                     KL_TIME_ZERO_US);
}

static bool restarts_always(const struct kl_value *container)
{
    return kl_text_is(kl_get(container, KL_F_restartPolicy), "Always");
}

static bool is_sidecar(const struct kl_value *init_containers, struct kl_str name)
{
    const struct kl_value *found = NULL;
    for (KL_EACH(container, init_containers))
        if (kl_str_eq(kl_text(kl_get(container, KL_F_name)), name))
            found = container; // the last of equal names counts
    return restarts_always(found);
}

// Init containers in order, up to the first that is not done.
static void init_containers(struct pod_state *s, const struct kl_value *pod)
{
    const struct kl_value *specs = kl_path(pod, KL_F_spec, KL_F_initContainers);
    const struct kl_value *statuses = kl_path(pod, KL_F_status, KL_F_initContainerStatuses);
    for (KL_EACH(container, specs))
        s->total += restarts_always(container);
    for (size_t i = 0; i < kl_len(statuses); i++) {
        const struct kl_value *status = &statuses->items[i];
        const struct kl_value *terminated = state_of(status, KL_F_terminated);
        int64_t restarts = kl_int_or(kl_get(status, KL_F_restartCount), 0);
        int64_t finished = finished_us(status);
        bool sidecar = is_sidecar(specs, kl_text(kl_get(status, KL_F_name)));
        s->restarts += restarts;
        if (finished > s->last_restart_us)
            s->last_restart_us = finished;
        if (sidecar) {
            s->sidecar_restarts += restarts;
            if (finished > s->last_sidecar_us)
                s->last_sidecar_us = finished;
        }
        if (terminated && kl_int_or(kl_get(terminated, KL_F_exitCode), 0) == 0)
            continue;
        if (sidecar && kl_is_true(kl_get(status, KL_F_started))) {
            s->ready += kl_is_true(kl_get(status, KL_F_ready));
            continue;
        }
        struct kl_str waiting = container_text(status, KL_F_waiting, KL_F_reason);
        s->prefix = "Init:";
        s->initializing = true;
        if (terminated) {
            terminated_reason(s, terminated);
        } else if (waiting.n && !kl_str_eq(waiting, KL_STR("PodInitializing"))) {
            s->reason = waiting;
        } else {
            int n = snprintf(s->room, sizeof(s->room), "%zu/%zu", i, kl_len(specs));
            s->reason = (struct kl_str){s->room, (size_t)n};
        }
        break;
    }
}

// Containers from the last to the first, so that the first one that says something wins.
static void containers(struct pod_state *s, const struct kl_value *pod)
{
    const struct kl_value *statuses = kl_path(pod, KL_F_status, KL_F_containerStatuses);
    const struct kl_value *ready = NULL;
    bool running = false;
    struct kl_str failure = KL_STR("");
    char failure_room[sizeof(s->room)];
    s->restarts = s->sidecar_restarts;
    s->last_restart_us = s->last_sidecar_us;
    for (size_t i = kl_len(statuses); i > 0; i--) {
        const struct kl_value *status = &statuses->items[i - 1];
        const struct kl_value *terminated = state_of(status, KL_F_terminated);
        struct kl_str waiting = container_text(status, KL_F_waiting, KL_F_reason);
        int64_t finished = finished_us(status);
        s->restarts += kl_int_or(kl_get(status, KL_F_restartCount), 0);
        if (finished > s->last_restart_us)
            s->last_restart_us = finished;
        if (waiting.n) {
            s->reason = waiting;
            s->prefix = "";
        } else if (terminated) {
            terminated_reason(s, terminated);
            s->prefix = "";
            if (kl_int_or(kl_get(terminated, KL_F_exitCode), 0)) {
                failure = s->reason;
                if (failure.p == s->room) { // the next reason may use the room again
                    memcpy(failure_room, s->room, failure.n);
                    failure.p = failure_room;
                }
            }
        } else if (kl_is_true(kl_get(status, KL_F_ready)) && state_of(status, KL_F_running)) {
            running = true;
            s->ready++;
        }
    }
    if (s->prefix[0] || !kl_str_eq(s->reason, KL_STR("Completed")))
        return;
    for (KL_EACH(condition, kl_path(pod, KL_F_status, KL_F_conditions)))
        if (kl_text_is(kl_get(condition, KL_F_type), "Ready") && kl_condition_is_true(condition))
            ready = condition;
    if (running && ready) {
        s->reason = KL_STR("Running");
    } else if (failure.n) {
        if (failure.p == failure_room) {
            memcpy(s->room, failure_room, failure.n);
            failure.p = s->room;
        }
        s->reason = failure;
    } else if (running) {
        s->reason = KL_STR("NotReady");
    }
}

static void pod_state(struct pod_state *s, const struct kl_value *pod)
{
    const struct kl_value *status = kl_get(pod, KL_F_status);
    const struct kl_value *conditions = kl_get(status, KL_F_conditions);
    struct kl_str phase = kl_text(kl_get(status, KL_F_phase));
    *s = (struct pod_state){.reason = phase,
                            .prefix = "",
                            .last_restart_us = KL_TIME_ZERO_US,
                            .last_sidecar_us = KL_TIME_ZERO_US,
                            .total = (int64_t)kl_len(kl_path(pod, KL_F_spec, KL_F_containers))};
    if (kl_text(kl_get(status, KL_F_reason)).n)
        s->reason = kl_text(kl_get(status, KL_F_reason));
    for (KL_EACH(condition, conditions))
        if (kl_text_is(kl_get(condition, KL_F_type), "PodScheduled") &&
            kl_text_is(kl_get(condition, KL_F_reason), "SchedulingGated"))
            s->reason = KL_STR("SchedulingGated");
    init_containers(s, pod);
    if (!s->initializing || kl_condition_is_true(kl_condition(conditions, "Initialized")))
        containers(s, pod);
    if (!kl_meta_deleting(pod))
        return;
    bool terminal = kl_str_eq(phase, KL_STR("Succeeded")) || kl_str_eq(phase, KL_STR("Failed"));
    if (kl_text_is(kl_get(status, KL_F_reason), "NodeLost")) {
        s->reason = KL_STR("Unknown");
        s->prefix = "";
    } else if (!terminal) {
        s->reason = KL_STR("Terminating");
        s->prefix = "";
    }
}

static void readiness_gates(struct kl_row *r)
{
    const struct kl_value *gates = kl_path(r->root, KL_F_spec, KL_F_readinessGates);
    const struct kl_value *conditions = kl_path(r->root, KL_F_status, KL_F_conditions);
    int64_t met = 0;
    kl_cell_begin(r);
    if (kl_len(gates) == 0) {
        kl_cell_puts(r, "<none>");
    } else {
        for (KL_EACH(gate, gates)) {
            struct kl_str type = kl_text(kl_get(gate, KL_F_conditionType));
            for (KL_EACH(condition, conditions)) {
                if (!kl_str_eq(kl_text(kl_get(condition, KL_F_type)), type))
                    continue;
                met += kl_condition_is_true(condition);
                break;
            }
        }
        kl_cell_put_int(r, met);
        kl_cell_puts(r, "/");
        kl_cell_put_int(r, (int64_t)kl_len(gates));
    }
    kl_cell_end(r);
}

void kl_print_pod(struct kl_row *r)
{
    const struct kl_value *status = kl_get(r->root, KL_F_status);
    const struct kl_value *phase = kl_get(status, KL_F_phase);
    struct pod_state s;
    pod_state(&s, r->root);
    if (kl_text_is(phase, "Succeeded"))
        r->conditions = "[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"Succeeded\","
                        "\"message\":\"The pod has completed successfully.\"}]";
    else if (kl_text_is(phase, "Failed"))
        r->conditions = "[{\"type\":\"Completed\",\"status\":\"True\",\"reason\":\"Failed\","
                        "\"message\":\"The pod failed.\"}]";
    kl_cell_name(r);
    kl_cell_begin(r);
    kl_cell_put_int(r, s.ready);
    kl_cell_puts(r, "/");
    kl_cell_put_int(r, s.total);
    kl_cell_end(r);
    kl_cell_begin(r);
    kl_cell_put(r, kl_str(s.prefix));
    kl_cell_put(r, s.reason);
    kl_cell_end(r);
    kl_cell_begin(r);
    kl_cell_put_int(r, s.restarts);
    if (s.restarts && s.last_restart_us != KL_TIME_ZERO_US) {
        struct kl_value last = kl_time(s.last_restart_us);
        kl_cell_puts(r, " (");
        kl_cell_put_since(r, &last);
        kl_cell_puts(r, " ago)");
    }
    kl_cell_end(r);
    kl_cell_age(r);
    kl_cell_nonempty(r, kl_get(kl_at(kl_get(status, KL_F_podIPs), 0), KL_F_ip), "<none>");
    kl_cell_nonempty(r, kl_path(r->root, KL_F_spec, KL_F_nodeName), "<none>");
    kl_cell_nonempty(r, kl_get(status, KL_F_nominatedNodeName), "<none>");
    readiness_gates(r);
}

void kl_print_pod_template(struct kl_row *r)
{
    const struct kl_value *template = kl_get(r->root, KL_F_template);
    kl_cell_name(r);
    kl_cell_containers(r, kl_path(template, KL_F_spec, KL_F_containers));
    kl_cell_map(r, kl_path(template, KL_F_metadata, KL_F_labels));
}

static void int_or_string(struct kl_row *r, const struct kl_value *v)
{
    kl_cell_begin(r);
    if (!v)
        kl_cell_puts(r, "N/A");
    else if (v->kind == KL_INT)
        kl_cell_put_int(r, v->i);
    else
        kl_cell_put(r, kl_text(v));
    kl_cell_end(r);
}

void kl_print_disruption_budget(struct kl_row *r)
{
    kl_cell_name(r);
    int_or_string(r, kl_path(r->root, KL_F_spec, KL_F_minAvailable));
    int_or_string(r, kl_path(r->root, KL_F_spec, KL_F_maxUnavailable));
    kl_cell_int(r, kl_int_at(r->root, 0, KL_F_status, KL_F_disruptionsAllowed));
    kl_cell_age(r);
}
