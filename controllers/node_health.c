// SPDX-License-Identifier: Apache-2.0
#include "controllers/node_health.h"

#define NOT_READY "node.kubernetes.io/not-ready"
#define UNREACHABLE "node.kubernetes.io/unreachable"

// ---- zones

enum kl_zone_state kl_zone_judge(const struct kl_zone *z)
{
    int64_t all = z->ready + z->not_ready;
    if (z->ready == 0 && z->not_ready > 0)
        return KL_ZONE_FULL;
    if (z->not_ready > 2 && z->not_ready * 100 >= all * KL_UNHEALTHY_PERCENT)
        return KL_ZONE_PARTIAL;
    return KL_ZONE_NORMAL;
}

int64_t kl_zone_taint_at(const struct kl_zone *z, bool all_down)
{
    if (all_down)
        return INT64_MAX;
    if (kl_zone_judge(z) == KL_ZONE_PARTIAL && z->ready + z->not_ready <= KL_LARGE_ZONE)
        return INT64_MAX; // a small zone that is mostly gone: better wait than empty the rest
    return z->next_taint_ms;
}

void kl_zone_tainted(struct kl_zone *z, int64_t now_ms)
{
    z->next_taint_ms =
        now_ms + (kl_zone_judge(z) == KL_ZONE_PARTIAL ? KL_EVICTION_SLOW_MS : KL_EVICTION_MS);
}

int64_t kl_health_taint_at(const struct kl_node_health *h, bool all_down)
{
    int64_t zone = h->zone ? kl_zone_taint_at(h->zone, all_down) : 0;
    int64_t own = h->not_ready_ms + KL_NODE_MONITOR_MS;
    return zone > own ? zone : own;
}

void kl_health_count(struct kl_node_health *h, struct kl_zone *zone, bool ready, int64_t now_ms)
{
    if (ready)
        h->not_ready_ms = 0;
    else if (!h->not_ready_ms)
        h->not_ready_ms = now_ms;
    if (h->counted) {
        h->zone->ready -= h->ready;
        h->zone->not_ready -= !h->ready;
    }
    h->counted = zone != NULL;
    h->zone = zone;
    h->ready = ready;
    if (zone) {
        zone->ready += ready;
        zone->not_ready += !ready;
    }
}

// ---- signs of life

static const struct kl_value *ready_condition(const struct kl_value *node)
{
    return kl_condition_find(kl_path(node, KL_F_status, KL_F_conditions), "Ready");
}

struct kl_str kl_node_ready_status(const struct kl_value *node)
{
    return kl_text(kl_get(ready_condition(node), KL_F_status));
}

void kl_health_observe(struct kl_node_health *h, const struct kl_value *node,
                       const struct kl_value *lease, int64_t now_ms, int64_t now_us)
{
    const struct kl_value *ready = ready_condition(node);
    int64_t heartbeat = kl_int_or(kl_get(ready, KL_F_lastHeartbeatTime), 0);
    int64_t renew = kl_int_at(lease, 0, KL_F_spec, KL_F_renewTime);
    if (!h->probe_ms) {
        // Never posted a status: its grace counts from when it was made.
        int64_t created = kl_int_at(node, now_us, KL_F_metadata, KL_F_creationTimestamp);
        int64_t age_ms = (now_us - created) / 1000;
        h->probe_ms = now_ms - (ready || age_ms < 0 ? 0 : age_ms);
    } else if (ready && (!h->has_ready_condition || heartbeat != h->heartbeat_us)) {
        h->probe_ms = now_ms;
    }
    h->has_ready_condition = ready != NULL;
    h->heartbeat_us = heartbeat;
    if (renew > h->renew_us) {
        h->renew_us = renew;
        h->probe_ms = now_ms;
    }
}

int64_t kl_health_left_ms(const struct kl_node_health *h, int64_t now_ms)
{
    int64_t grace = h->has_ready_condition ? KL_NODE_GRACE_MS : KL_NODE_STARTUP_GRACE_MS;
    return h->probe_ms + grace - now_ms + 1;
}

bool kl_health_mark_lost(struct kl_arena *a, const struct kl_value *node, int64_t now_us,
                         struct kl_value *ret_draft)
{
    static const char *const types[] = {"Ready", "MemoryPressure", "DiskPressure", "PIDPressure"};
    struct kl_value draft = *node;
    draft.owned = 0;
    struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = status ? kl_edit(a, status, KL_F_conditions, KL_ARRAY) : NULL;
    bool changed = false;
    for (size_t i = 0; list && i < KL_COUNT(types); i++) {
        const struct kl_value *was = kl_condition_find(list, types[i]);
        if (was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), "Unknown"))
            continue;
        struct kl_value c = was ? *was : kl_new_struct();
        c.owned = 0;
        kl_set_z(a, &c, KL_F_type, types[i]);
        kl_set_z(a, &c, KL_F_status, "Unknown");
        if (!was)
            kl_set(a, &c, KL_F_lastHeartbeatTime,
                   kl_time(kl_int_at(node, now_us, KL_F_metadata, KL_F_creationTimestamp)));
        kl_set(a, &c, KL_F_lastTransitionTime, kl_time(now_us / 1000000 * 1000000));
        kl_set_z(a, &c, KL_F_reason, was ? "NodeStatusUnknown" : "NodeStatusNeverUpdated");
        kl_set_z(a, &c, KL_F_message,
                 was ? "Kubelet stopped posting node status."
                     : "Kubelet never posted node status.");
        kl_condition_put(a, list, c);
        changed = true;
    }
    *ret_draft = draft;
    return changed;
}

// ---- taints

static const struct {
    const char *condition, *status, *taint;
} no_schedule[] = {
    {"Ready", "False", NOT_READY},
    {"Ready", "Unknown", UNREACHABLE},
    {"MemoryPressure", "True", "node.kubernetes.io/memory-pressure"},
    {"DiskPressure", "True", "node.kubernetes.io/disk-pressure"},
    {"NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"},
    {"PIDPressure", "True", "node.kubernetes.io/pid-pressure"},
};
#define UNSCHEDULABLE "node.kubernetes.io/unschedulable"

static bool is_taint(const struct kl_value *taint, const char *key, const char *effect)
{
    return kl_str_eqz(kl_text(kl_get(taint, KL_F_key)), key) &&
           kl_str_eqz(kl_text(kl_get(taint, KL_F_effect)), effect);
}

static void set_taint(struct kl_arena *a, struct kl_taint_change *c, const char *key,
                      const char *effect, bool wanted, int64_t now_us)
{
    for (size_t i = 0; i < kl_len(&c->taints); i++) {
        if (!is_taint(kl_at(&c->taints, i), key, effect))
            continue;
        if (!wanted) {
            kl_remove_at(a, &c->taints, i);
            c->changed = true;
        }
        return;
    }
    if (!wanted)
        return;
    struct kl_value taint = kl_new_struct();
    kl_set_z(a, &taint, KL_F_key, key);
    kl_set_z(a, &taint, KL_F_effect, effect);
    kl_set(a, &taint, KL_F_timeAdded, kl_time(now_us / 1000000 * 1000000));
    kl_append(a, &c->taints, taint);
    c->changed = true;
}

static bool has_taint(const struct kl_value *taints, const char *key, const char *effect)
{
    for (KL_EACH(t, taints)) {
        if (is_taint(t, key, effect))
            return true;
    }
    return false;
}

void kl_node_taints(struct kl_arena *a, const struct kl_value *node, bool may_evict, bool all_down,
                    int64_t now_us, struct kl_taint_change *ret)
{
    const struct kl_value *was = kl_path(node, KL_F_spec, KL_F_taints);
    const struct kl_value *conditions = kl_path(node, KL_F_status, KL_F_conditions);
    *ret = (struct kl_taint_change){.taints = was ? *was : kl_new_array()};
    ret->taints.owned = 0;
    for (size_t i = 0; i < KL_COUNT(no_schedule); i++)
        set_taint(a, ret, no_schedule[i].taint, "NoSchedule",
                  kl_condition_is(conditions, no_schedule[i].condition, no_schedule[i].status),
                  now_us);
    set_taint(a, ret, UNSCHEDULABLE, "NoSchedule", kl_true_at(node, KL_F_spec, KL_F_unschedulable),
              now_us);

    struct kl_str ready = kl_node_ready_status(node);
    const char *wanted = kl_str_eqz(ready, "False")     ? NOT_READY
                         : kl_str_eqz(ready, "Unknown") ? UNREACHABLE
                                                        : NULL;
    const char *other = wanted && strcmp(wanted, NOT_READY) == 0 ? UNREACHABLE : NOT_READY;
    bool has = wanted && has_taint(was, wanted, "NoExecute");
    bool has_other = has_taint(was, other, "NoExecute");
    if (!ready.n)
        return; // not a word from it yet
    if (!wanted || all_down) {
        set_taint(a, ret, NOT_READY, "NoExecute", false, now_us);
        set_taint(a, ret, UNREACHABLE, "NoExecute", false, now_us);
        ret->wants_no_execute = wanted != NULL;
        return;
    }
    if (!has && !has_other && !may_evict) {
        ret->wants_no_execute = true;
        return;
    }
    // One is changed for the other at once: the node is given up already.
    set_taint(a, ret, wanted, "NoExecute", true, now_us);
    set_taint(a, ret, other, "NoExecute", false, now_us);
}
