// SPDX-License-Identifier: Apache-2.0
#include "kubelet/pod_core.h"
#include "object/json.h"
#include <stdio.h>
#include <stdlib.h>

struct kl_ctr *kl_rt_find(const struct kl_pod_rt *rt, struct kl_str name)
{
    for (struct kl_ctr *c = rt->ctrs; c; c = c->next)
        if (kl_str_eqz(name, c->name))
            return c;
    return NULL;
}

struct kl_ctr *kl_rt_find_id(const struct kl_pod_rt *rt, struct kl_str id)
{
    for (struct kl_ctr *c = rt->ctrs; c; c = c->next)
        if (kl_str_eqz(id, c->id))
            return c;
    return NULL;
}

void kl_rt_add_ctr(struct kl_pod_rt *rt, struct kl_ctr *c)
{
    struct kl_ctr **at = &rt->ctrs;
    while (*at && (*at)->created_ns > c->created_ns)
        at = &(*at)->next;
    c->next = *at;
    *at = c;
}

void kl_rt_add_sandbox(struct kl_pod_rt *rt, struct kl_sandbox *s)
{
    struct kl_sandbox **at = &rt->sandboxes;
    while (*at && (*at)->created_ns > s->created_ns)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
}

void kl_ctr_free(struct kl_ctr *c)
{
    if (!c)
        return;
    char *strings[] = {c->id,       c->name,   c->sandbox_id, c->image,
                       c->image_id, c->reason, c->message,    c->log_path};
    for (size_t i = 0; i < KL_COUNT(strings); i++)
        free(strings[i]);
    free(c);
}

void kl_sandbox_free(struct kl_sandbox *s)
{
    if (s)
        free(s->id);
    free(s);
}

void kl_rt_fini(struct kl_pod_rt *rt)
{
    for (struct kl_ctr *c; (c = rt->ctrs);) {
        rt->ctrs = c->next;
        kl_ctr_free(c);
    }
    for (struct kl_sandbox *s; (s = rt->sandboxes);) {
        rt->sandboxes = s->next;
        kl_sandbox_free(s);
    }
}

bool kl_backoff_holds(const struct kl_backoff *b, int64_t since_ms, int64_t now_ms,
                      int64_t *ret_until)
{
    if (!b->value_ms || since_ms - b->updated_ms > 2 * KL_BACKOFF_MAX_MS ||
        now_ms - since_ms >= b->value_ms)
        return false;
    if (ret_until)
        *ret_until = since_ms + b->value_ms;
    return true;
}

void kl_backoff_next(struct kl_backoff *b, int64_t event_ms, int64_t now_ms)
{
    if (!b->value_ms || event_ms - b->updated_ms > 2 * KL_BACKOFF_MAX_MS)
        b->value_ms = KL_BACKOFF_BASE_MS;
    else
        b->value_ms = b->value_ms * 2 < KL_BACKOFF_MAX_MS ? b->value_ms * 2 : KL_BACKOFF_MAX_MS;
    b->updated_ms = now_ms;
}

const struct kl_value *kl_pod_containers(const struct kl_value *pod, enum kl_ctr_kind kind)
{
    static const kl_sym fields[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};
    return kl_path(pod, KL_F_spec, fields[kind]);
}

const struct kl_value *kl_pod_container(const struct kl_value *pod, struct kl_str name,
                                        enum kl_ctr_kind *ret_kind)
{
    for (int kind = KL_CTR_INIT; kind <= KL_CTR_EPHEMERAL; kind++)
        for (KL_EACH(c, kl_pod_containers(pod, kind)))
            if (kl_str_eq(kl_text_at(c, KL_F_name), name)) {
                if (ret_kind)
                    *ret_kind = kind;
                return c;
            }
    return NULL;
}

bool kl_ctr_is_sidecar(const struct kl_value *c)
{
    return kl_str_eqz(kl_text_at(c, KL_F_restartPolicy), "Always");
}

static struct kl_str pod_policy(const struct kl_value *pod)
{
    struct kl_str p = kl_text_at(pod, KL_F_spec, KL_F_restartPolicy);
    return p.n ? p : KL_STR("Always");
}

static bool rule_matches(const struct kl_value *rule, int exit_code)
{
    const struct kl_value *codes = kl_get(rule, KL_F_exitCodes);
    bool in = false;
    for (KL_EACH(v, kl_get(codes, KL_F_values)))
        in = in || kl_int_or(v, -1) == exit_code;
    struct kl_str op = kl_text_at(codes, KL_F_operator);
    return kl_str_eqz(op, "In") ? in : kl_str_eqz(op, "NotIn") && !in;
}

bool kl_ctr_restarts(const struct kl_value *pod, const struct kl_value *c, int exit_code)
{
    struct kl_str policy = kl_text_at(c, KL_F_restartPolicy);
    if (policy.n) {
        for (KL_EACH(rule, kl_get(c, KL_F_restartPolicyRules)))
            if (rule_matches(rule, exit_code))
                return true;
    } else {
        policy = pod_policy(pod);
    }
    return kl_str_eqz(policy, "Always") || (kl_str_eqz(policy, "OnFailure") && exit_code != 0);
}

uint32_t kl_ctr_hash(const struct kl_value *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 1024 * 1024);
    kl_buf_puts(&b, KL_STR("{\"image\":"));
    kl_json_write_string(&b, kl_text_at(c, KL_F_image));
    kl_buf_puts(&b, KL_STR(",\"name\":"));
    kl_json_write_string(&b, kl_text_at(c, KL_F_name));
    kl_buf_putc(&b, '}');
    uint32_t h = 2166136261u; // FNV-1a
    for (size_t i = 0; i < b.n; i++)
        h = (h ^ (uint8_t)b.p[i]) * 16777619u;
    kl_buf_fini(&b);
    return h;
}

static bool restarts_on_resize(const struct kl_value *container, const char *resource)
{
    for (KL_EACH(x, kl_get(container, KL_F_resizePolicy)))
        if (kl_str_eqz(kl_text_at(x, KL_F_resourceName), resource))
            return kl_str_eqz(kl_text_at(x, KL_F_restartPolicy), "RestartContainer");
    return false;
}

enum kl_ctr_resize kl_ctr_resize(const struct kl_value *container, const struct kl_ctr *c)
{
    struct kl_cgroup_values want;
    if (!c || c->state != KL_CTR_RUNNING || c->stopping || !c->has_limits)
        return KL_RESIZE_NONE;
    kl_cgroup_of_container(container, &want);
    bool cpu =
        want.cpu_shares != c->limits.cpu_shares || want.cpu_quota_us != c->limits.cpu_quota_us;
    bool memory = want.memory_limit_bytes != c->limits.memory_limit_bytes;
    if ((cpu && restarts_on_resize(container, "cpu")) ||
        (memory && restarts_on_resize(container, "memory")))
        return KL_RESIZE_RESTART;
    return cpu || memory ? KL_RESIZE_UPDATE : KL_RESIZE_NONE;
}

void kl_ctr_adopt_probes(const struct kl_value *status, struct kl_ctr *c)
{
    static const kl_sym lists[] = {KL_F_containerStatuses, KL_F_initContainerStatuses};
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (KL_EACH(s, kl_get(status, lists[i]))) {
            struct kl_str id = kl_text_at(s, KL_F_containerID);
            ptrdiff_t colon = kl_str_chr(id, ':'); // "containerd://ID"
            if (colon < 0 || !kl_str_eqz(kl_str_from(id, (size_t)colon + 3), c->id))
                continue;
            if (kl_true_at(s, KL_F_started) && !c->probe[KL_PROBE_STARTUP])
                c->probe[KL_PROBE_STARTUP] = KL_PROBE_SUCCESS;
            if (kl_true_at(s, KL_F_ready) && !c->probe[KL_PROBE_READINESS])
                c->probe[KL_PROBE_READINESS] = KL_PROBE_SUCCESS;
        }
}

bool kl_ctr_started(const struct kl_value *container, const struct kl_ctr *c)
{
    if (!c || c->state != KL_CTR_RUNNING || !c->post_start_done)
        return false;
    return !kl_get(container, KL_F_startupProbe) || c->probe[KL_PROBE_STARTUP] == KL_PROBE_SUCCESS;
}

bool kl_ctr_ready(const struct kl_value *container, const struct kl_ctr *c)
{
    if (!kl_ctr_started(container, c))
        return false;
    return !kl_get(container, KL_F_readinessProbe) ||
           c->probe[KL_PROBE_READINESS] == KL_PROBE_SUCCESS;
}

bool kl_pod_needs_sandbox(const struct kl_value *pod, const struct kl_pod_rt *rt,
                          uint32_t *ret_attempt)
{
    const struct kl_sandbox *newest = rt->sandboxes;
    *ret_attempt = newest ? newest->attempt + 1 : 0;
    if (!newest)
        return true;
    int ready = 0;
    for (const struct kl_sandbox *s = newest; s; s = s->next)
        ready += s->ready;
    bool host = kl_true_at(pod, KL_F_spec, KL_F_hostNetwork);
    if (ready > 1 || !newest->ready || newest->host_network != host ||
        (!host && newest->described && !newest->ips[0][0]))
        return true;
    *ret_attempt = newest->attempt;
    return false;
}

static void plan_start(struct kl_pod_plan *p, enum kl_ctr_kind kind, size_t index)
{
    if (p->nstart == KL_PLAN_MAX)
        return;
    for (int i = 0; i < p->nstart; i++)
        if (p->start[i].kind == kind && p->start[i].index == index)
            return;
    p->start[p->nstart].kind = kind;
    p->start[p->nstart++].index = (uint16_t)index;
}

static void plan_kill(struct kl_pod_plan *p, struct kl_ctr *c, const char *fmt, struct kl_str name)
{
    if (p->nkill == KL_PLAN_MAX || c->stopping)
        return;
    snprintf(p->kill[p->nkill].message, sizeof(p->kill[0].message), fmt, KL_PRI(name));
    p->kill[p->nkill++].ctr = c;
}

static bool restarts_on_failure(const struct kl_value *pod)
{
    return !kl_str_eqz(pod_policy(pod), "Never");
}

// No container of this name runs; is it to be started (again)?
static bool should_start(const struct kl_value *pod, const struct kl_value *container,
                         const struct kl_ctr *c)
{
    if (!c || c->state == KL_CTR_CREATED || c->state == KL_CTR_UNKNOWN)
        return true;
    return c->state == KL_CTR_EXITED && kl_ctr_restarts(pod, container, c->exit_code);
}

static void plan_new_sandbox(const struct kl_value *pod, const struct kl_pod_rt *rt,
                             struct kl_pod_plan *p)
{
    const struct kl_value *mains = kl_pod_containers(pod, KL_CTR_MAIN);
    if (!restarts_on_failure(pod) && p->sandbox_attempt != 0 && rt->ctrs) {
        p->create_sandbox = false;
        return;
    }
    bool any_main = false;
    int to_start = 0;
    for (KL_EACH(m, mains)) {
        const struct kl_ctr *c = kl_rt_find(rt, kl_text_at(m, KL_F_name));
        any_main = any_main || c;
        struct kl_str policy = kl_text_at(m, KL_F_restartPolicy);
        if (!policy.n)
            policy = pod_policy(pod);
        if (kl_str_eqz(policy, "OnFailure") && c && c->state == KL_CTR_EXITED && !c->exit_code)
            continue;
        to_start++;
        if (!kl_len(kl_pod_containers(pod, KL_CTR_INIT)))
            plan_start(p, KL_CTR_MAIN, (size_t)(m - mains->items));
    }
    if (!to_start && any_main) {
        p->create_sandbox = false;
        return;
    }
    if (kl_len(kl_pod_containers(pod, KL_CTR_INIT)))
        plan_start(p, KL_CTR_INIT, 0);
}

// The resize of a container that it does not survive (or of none).
static bool resizes_anew(const struct kl_pod_rt *rt, const struct kl_value *container,
                         const struct kl_ctr *c)
{
    return rt->resizes && kl_ctr_resize(container, c) == KL_RESIZE_RESTART;
}

// One init container, looked at from the last to the first. Returns true when the pod is to end.
static bool plan_init(const struct kl_value *pod, const struct kl_pod_rt *rt,
                      const struct kl_value *container, size_t i, size_t last, struct kl_ctr *c,
                      bool was_initialized, bool *initialized, struct kl_pod_plan *p)
{
    bool sidecar = kl_ctr_is_sidecar(container);
    struct kl_str name = kl_text_at(container, KL_F_name);
    switch (c->state) {
    case KL_CTR_CREATED:
        plan_start(p, KL_CTR_INIT, i);
        return false;
    case KL_CTR_RUNNING:
        if (!sidecar || !c->post_start_done)
            return false;
        if (kl_get(container, KL_F_startupProbe) &&
            c->probe[KL_PROBE_STARTUP] != KL_PROBE_SUCCESS) {
            if (c->probe[KL_PROBE_STARTUP] == KL_PROBE_FAILURE) {
                plan_kill(p, c, "Init container %.*s failed startup probe", name);
                plan_start(p, KL_CTR_INIT, i);
            }
            return false;
        }
        if (i == last)
            *initialized = true;
        else if (!was_initialized)
            plan_start(p, KL_CTR_INIT, i + 1);
        if (c->has_hash && c->hash != kl_ctr_hash(container)) {
            plan_kill(p, c, "Init container %.*s definition changed", name);
            plan_start(p, KL_CTR_INIT, i);
        } else if (c->probe[KL_PROBE_LIVENESS] == KL_PROBE_FAILURE) {
            plan_kill(p, c, "Init container %.*s failed liveness probe", name);
            plan_start(p, KL_CTR_INIT, i);
        } else if (resizes_anew(rt, container, c)) {
            plan_kill(p, c, "Container %.*s resize requires restart", name);
            plan_start(p, KL_CTR_INIT, i);
        }
        return false;
    case KL_CTR_EXITED:
        if (sidecar) {
            plan_start(p, KL_CTR_INIT, i);
        } else if (c->exit_code != 0) {
            if (!kl_ctr_restarts(pod, container, c->exit_code))
                return true;
            plan_start(p, KL_CTR_INIT, i);
        } else if (i == last) {
            *initialized = true;
        } else {
            plan_start(p, KL_CTR_INIT, i + 1);
        }
        return false;
    default:
        if (!sidecar && !restarts_on_failure(pod))
            return true;
        plan_kill(p, c, "Init container is in \"unknown\" state, try killing it before restart%.*s",
                  KL_STR(""));
        plan_start(p, KL_CTR_INIT, i);
        return false;
    }
}

// Whether every init container has done its part; fills in what is to be started.
static bool plan_inits(const struct kl_value *pod, const struct kl_pod_rt *rt,
                       struct kl_pod_plan *p)
{
    const struct kl_value *inits = kl_pod_containers(pod, KL_CTR_INIT);
    size_t n = kl_len(inits);
    if (!n)
        return true;
    bool initialized = false;
    for (KL_EACH(m, kl_pod_containers(pod, KL_CTR_MAIN))) {
        const struct kl_ctr *c = kl_rt_find(rt, kl_text_at(m, KL_F_name));
        initialized =
            initialized || (c && (c->state == KL_CTR_CREATED || c->state == KL_CTR_RUNNING));
    }
    bool was = initialized;
    int first = p->nstart;
    for (size_t i = n; i-- > 0;) {
        const struct kl_value *container = kl_at(inits, i);
        struct kl_ctr *c = kl_rt_find(rt, kl_text_at(container, KL_F_name));
        bool sidecar = kl_ctr_is_sidecar(container);
        if (!c) {
            if (was && sidecar)
                plan_start(p, KL_CTR_INIT, i);
            continue;
        }
        if (was && !sidecar)
            continue;
        if (plan_init(pod, rt, container, i, n - 1, c, was, &initialized, p)) {
            p->kill_pod = true;
            p->nstart = first;
            return false;
        }
        was = true; // those before it have been initialised
    }
    if (!was)
        plan_start(p, KL_CTR_INIT, 0);
    for (int a = first, b = p->nstart - 1; a < b; a++, b--) {
        __typeof__(p->start[0]) t = p->start[a];
        p->start[a] = p->start[b];
        p->start[b] = t;
    }
    return initialized;
}

void kl_pod_compute(const struct kl_value *pod, const struct kl_pod_rt *rt, struct kl_pod_plan *p)
{
    memset(p, 0, offsetof(struct kl_pod_plan, start));
    p->nstart = p->nkill = 0;
    if (kl_pod_needs_sandbox(pod, rt, &p->sandbox_attempt)) {
        p->kill_pod = p->create_sandbox = true;
        plan_new_sandbox(pod, rt, p);
        return;
    }
    const struct kl_value *eph = kl_pod_containers(pod, KL_CTR_EPHEMERAL);
    for (KL_EACH(e, eph))
        if (!kl_rt_find(rt, kl_text_at(e, KL_F_name)))
            plan_start(p, KL_CTR_EPHEMERAL, (size_t)(e - eph->items));
    if (!plan_inits(pod, rt, p) || p->kill_pod)
        return;
    const struct kl_value *mains = kl_pod_containers(pod, KL_CTR_MAIN);
    int keep = 0, start = 0;
    for (KL_EACH(m, mains)) {
        struct kl_str name = kl_text_at(m, KL_F_name);
        struct kl_ctr *c = kl_rt_find(rt, name);
        size_t i = (size_t)(m - mains->items);
        if (!c || c->state != KL_CTR_RUNNING) {
            if (!should_start(pod, m, c))
                continue;
            plan_start(p, KL_CTR_MAIN, i);
            start++;
            if (c && c->state == KL_CTR_UNKNOWN)
                plan_kill(p, c,
                          "Container is in \"unknown\" state, try killing it before restart%.*s",
                          KL_STR(""));
            continue;
        }
        struct kl_str own = kl_text_at(m, KL_F_restartPolicy);
        bool again = own.n ? !kl_str_eqz(own, "Never") : restarts_on_failure(pod);
        const char *why;
        if (c->has_hash && c->hash != kl_ctr_hash(m)) {
            again = true;
            why = "Container %.*s definition changed, will be restarted";
        } else if (c->probe[KL_PROBE_LIVENESS] == KL_PROBE_FAILURE) {
            why = again ? "Container %.*s failed liveness probe, will be restarted"
                        : "Container %.*s failed liveness probe";
        } else if (c->probe[KL_PROBE_STARTUP] == KL_PROBE_FAILURE) {
            why = again ? "Container %.*s failed startup probe, will be restarted"
                        : "Container %.*s failed startup probe";
        } else if (resizes_anew(rt, m, c)) {
            again = true;
            why = "Container %.*s resize requires restart";
        } else {
            keep++;
            continue;
        }
        if (again) {
            plan_start(p, KL_CTR_MAIN, i);
            start++;
        }
        plan_kill(p, c, why, name);
    }
    if (!keep && !start) {
        p->kill_pod = true;
        p->nstart = 0;
    }
}

int kl_pod_next_stops(const struct kl_value *pod, const struct kl_pod_rt *rt, struct kl_ctr **ret,
                      int max)
{
    int n = 0;
    bool others = false; // something that stops before sidecars still runs
    for (struct kl_ctr *c = rt->ctrs; c; c = c->next) {
        if (c->state != KL_CTR_RUNNING && c->state != KL_CTR_UNKNOWN)
            continue;
        enum kl_ctr_kind kind = KL_CTR_MAIN;
        const struct kl_value *spec = kl_pod_container(pod, kl_str(c->name), &kind);
        if (spec && kind == KL_CTR_INIT && kl_ctr_is_sidecar(spec))
            continue;
        others = true;
        if (n < max && !c->stopping)
            ret[n++] = c;
    }
    if (others)
        return n;
    const struct kl_value *inits = kl_pod_containers(pod, KL_CTR_INIT);
    for (size_t i = kl_len(inits); i-- > 0;) {
        struct kl_str name = kl_text_at(kl_at(inits, i), KL_F_name);
        bool found = false;
        for (struct kl_ctr *c = rt->ctrs; c; c = c->next) {
            if (!kl_str_eqz(name, c->name) ||
                (c->state != KL_CTR_RUNNING && c->state != KL_CTR_UNKNOWN))
                continue;
            found = true;
            if (n < max && !c->stopping)
                ret[n++] = c;
        }
        if (found)
            return n;
    }
    return n;
}
