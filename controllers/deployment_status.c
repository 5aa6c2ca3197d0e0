// SPDX-License-Identifier: Apache-2.0
// The status of a Deployment and its progress (upstream: sync.go calculateStatus, progress.go).
#include "controllers/deployment.h"

static void set_count(struct kl_arena *a, struct kl_value *status, kl_sym field, int64_t n)
{
    if (n)
        kl_set_int(a, status, field, n);
}

static int64_t whole_seconds(int64_t us)
{
    return us / 1000000 * 1000000;
}

void kl_deployment_condition(struct kl_arena *a, const struct kl_deployment_view *v,
                             struct kl_value *conditions, const char *type, const char *status,
                             const char *reason, struct kl_str message)
{
    const struct kl_value *was = kl_condition_find(conditions, type);
    bool same_status = was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), status);
    if (same_status && kl_str_eqz(kl_text(kl_get(was, KL_F_reason)), reason))
        return;
    int64_t now = whole_seconds(v->now_us);
    struct kl_value c = kl_new_struct();
    kl_set_z(a, &c, KL_F_type, type);
    kl_set_z(a, &c, KL_F_status, status);
    kl_set(a, &c, KL_F_lastUpdateTime, kl_time(now));
    kl_set(a, &c, KL_F_lastTransitionTime,
           kl_time(same_status ? kl_int_or(kl_get(was, KL_F_lastTransitionTime), now) : now));
    if (*reason)
        kl_set_z(a, &c, KL_F_reason, reason);
    if (message.n)
        kl_set_str(a, &c, KL_F_message, message);
    kl_condition_drop(a, conditions, type);
    kl_append(a, conditions, c);
}

static struct kl_value count_replicas(struct kl_arena *a, const struct kl_deployment_view *v)
{
    const struct kl_rs *fresh = v->fresh;
    int64_t actual = 0, ready = 0, terminating = 0, available = kl_deployment_available(v);
    for (size_t i = 0; i <= v->nold; i++) {
        const struct kl_rs *rs = i < v->nold ? v->old[i] : fresh;
        if (!rs)
            continue;
        actual += rs->actual;
        ready += rs->ready;
        terminating = terminating < 0 || rs->terminating < 0 ? -1 : terminating + rs->terminating;
    }
    int64_t missing = kl_deployment_total(v) - available;
    struct kl_value status = kl_new_struct();
    set_count(a, &status, KL_F_observedGeneration,
              kl_int_at(v->d, 0, KL_F_metadata, KL_F_generation));
    set_count(a, &status, KL_F_replicas, actual);
    set_count(a, &status, KL_F_updatedReplicas, fresh ? fresh->actual : 0);
    set_count(a, &status, KL_F_readyReplicas, ready);
    set_count(a, &status, KL_F_availableReplicas, available);
    set_count(a, &status, KL_F_unavailableReplicas, missing > 0 ? missing : 0);
    if (terminating >= 0)
        kl_set_int(a, &status, KL_F_terminatingReplicas, terminating);
    const struct kl_value *collisions = kl_path(v->d, KL_F_status, KL_F_collisionCount);
    if (collisions)
        kl_set(a, &status, KL_F_collisionCount, *collisions);
    return status;
}

static bool is_progressing(const struct kl_deployment_view *v, const struct kl_value *status)
{
    const struct kl_value *was = kl_get(v->d, KL_F_status);
    int64_t updated = kl_int_or(kl_get(status, KL_F_updatedReplicas), 0);
    int64_t was_updated = kl_int_or(kl_get(was, KL_F_updatedReplicas), 0);
    int64_t old = kl_int_or(kl_get(status, KL_F_replicas), 0) - updated;
    int64_t was_old = kl_int_or(kl_get(was, KL_F_replicas), 0) - was_updated;
    return updated > was_updated || old < was_old ||
           kl_int_or(kl_get(status, KL_F_readyReplicas), 0) >
               kl_int_or(kl_get(was, KL_F_readyReplicas), 0) ||
           kl_int_or(kl_get(status, KL_F_availableReplicas), 0) >
               kl_int_or(kl_get(was, KL_F_availableReplicas), 0);
}

static bool has_reason(const struct kl_value *condition, const char *reason)
{
    return condition && kl_str_eqz(kl_text(kl_get(condition, KL_F_reason)), reason);
}

static bool is_timed_out(const struct kl_deployment_view *v, const struct kl_value *current)
{
    if (!current || has_reason(current, "NewReplicaSetAvailable"))
        return false;
    if (has_reason(current, "ProgressDeadlineExceeded"))
        return true;
    int64_t from = kl_int_or(kl_get(current, KL_F_lastUpdateTime), 0);
    return from + v->deadline_s * 1000000 < v->now_us;
}

static struct kl_str progress_text(struct kl_arena *a, const struct kl_deployment_view *v,
                                   const char *what)
{
    struct kl_str name = v->fresh ? v->fresh->name : kl_meta_name(v->d);
    return kl_arena_printf(a, "%s \"%.*s\" %s", v->fresh ? "ReplicaSet" : "Deployment",
                           KL_PRI(name), what);
}

static void judge_progress(struct kl_arena *a, const struct kl_deployment_view *v,
                           const struct kl_value *status, struct kl_value *conditions)
{
    // `current` is of v->conditions, which stays as it is while `conditions` changes.
    const struct kl_value *current = kl_condition_find(&v->conditions, "Progressing");
    if (v->deadline_s < 0) {
        kl_condition_drop(a, conditions, "Progressing");
        return;
    }
    if (has_reason(current, "NewReplicaSetAvailable") &&
        kl_int_or(kl_get(status, KL_F_replicas), 0) ==
            kl_int_or(kl_get(status, KL_F_updatedReplicas), 0))
        return;
    if (kl_deployment_complete(v, status)) {
        kl_deployment_condition(a, v, conditions, "Progressing", "True", "NewReplicaSetAvailable",
                                progress_text(a, v, "has successfully progressed."));
    } else if (is_progressing(v, status)) {
        int64_t since = 0;
        if (current && kl_str_eqz(kl_text(kl_get(current, KL_F_status)), "True"))
            since = kl_int_or(kl_get(current, KL_F_lastTransitionTime), 0);
        // Dropped first, so that the update time changes though status and reason may not.
        kl_condition_drop(a, conditions, "Progressing");
        kl_deployment_condition(a, v, conditions, "Progressing", "True", "ReplicaSetUpdated",
                                progress_text(a, v, "is progressing."));
        size_t last = kl_len(conditions);
        struct kl_value *c = since && last ? kl_edit_at(a, conditions, last - 1) : NULL;
        if (c)
            kl_set(a, c, KL_F_lastTransitionTime, kl_time(since));
    } else if (is_timed_out(v, current)) {
        kl_deployment_condition(a, v, conditions, "Progressing", "False",
                                "ProgressDeadlineExceeded",
                                progress_text(a, v, "has timed out progressing."));
    }
}

// The failure of a ReplicaSet (of the new one first) becomes the Deployment's.
static void pass_on_failure(struct kl_arena *a, const struct kl_deployment_view *v,
                            struct kl_value *conditions)
{
    const struct kl_value *failure = NULL;
    for (size_t i = 0; i <= v->nold && !failure; i++) {
        const struct kl_rs *rs = i == 0 ? v->fresh : v->old[i - 1];
        if (rs && rs->was)
            failure =
                kl_condition_find(kl_path(rs->was, KL_F_status, KL_F_conditions), "ReplicaFailure");
    }
    if (!failure) {
        kl_condition_drop(a, conditions, "ReplicaFailure");
        return;
    }
    struct kl_str status = kl_arena_dup(a, kl_text(kl_get(failure, KL_F_status)));
    struct kl_str reason = kl_arena_dup(a, kl_text(kl_get(failure, KL_F_reason)));
    if (status.p && reason.p)
        kl_deployment_condition(a, v, conditions, "ReplicaFailure", status.p, reason.p,
                                kl_text(kl_get(failure, KL_F_message)));
}

// Looks again when the deadline of a rollout that stands still has passed.
static void wait_for_deadline(struct kl_plan *p, const struct kl_deployment_view *v,
                              const struct kl_value *status)
{
    const struct kl_value *current = kl_condition_find(&v->conditions, "Progressing");
    if (v->deadline_s < 0 || !current || kl_deployment_complete(v, status) ||
        has_reason(current, "ProgressDeadlineExceeded"))
        return;
    int64_t at = kl_int_or(kl_get(current, KL_F_lastUpdateTime), 0) + v->deadline_s * 1000000;
    int64_t after_ms = (at - v->now_us) / 1000;
    kl_plan_requeue(p, (after_ms > 0 ? after_ms : 0) + 1000);
}

static void write_if_changed(struct kl_plan *p, struct kl_deployment_view *v,
                             struct kl_value status)
{
    struct kl_arena *a = &p->arena;
    if (kl_value_equal(&status, kl_get(v->d, KL_F_status)) &&
        kl_value_equal(&v->annotations, kl_meta_annotations(v->d)))
        return;
    struct kl_value draft = *v->d;
    draft.owned = 0;
    kl_set(a, &draft, KL_F_status, status);
    struct kl_value *meta = kl_edit(a, &draft, KL_F_metadata, KL_STRUCT);
    if (meta)
        kl_set(a, meta, KL_F_annotations, v->annotations);
    kl_plan_next_group(p);
    kl_plan_write(p, KL_VERB_UPDATE, kl_res(KL_RES_apps_v1_deployments), "status", &draft);
}

void kl_deployment_plan_status(struct kl_plan *p, struct kl_deployment_view *v, bool progress)
{
    struct kl_arena *a = &p->arena;
    struct kl_value status = count_replicas(a, v), conditions;
    if (kl_copy(a, &v->conditions, &conditions) < 0) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    if (kl_deployment_available(v) >= v->replicas - v->unavailable)
        kl_deployment_condition(a, v, &conditions, "Available", "True", "MinimumReplicasAvailable",
                                KL_STR("Deployment has minimum availability."));
    else
        kl_deployment_condition(a, v, &conditions, "Available", "False",
                                "MinimumReplicasUnavailable",
                                KL_STR("Deployment does not have minimum availability."));
    if (progress) {
        judge_progress(a, v, &status, &conditions);
        pass_on_failure(a, v, &conditions);
    }
    kl_set(a, &status, KL_F_conditions, conditions);
    if (progress)
        wait_for_deadline(p, v, &status);
    write_if_changed(p, v, status);
}

void kl_deployment_plan_conditions(struct kl_plan *p, struct kl_deployment_view *v,
                                   int64_t collision_count)
{
    struct kl_arena *a = &p->arena;
    const struct kl_value *was = kl_get(v->d, KL_F_status);
    struct kl_value status = was ? *was : kl_new_struct();
    status.owned = 0;
    kl_set(a, &status, KL_F_conditions, v->conditions);
    if (collision_count >= 0)
        kl_set_int(a, &status, KL_F_collisionCount, collision_count);
    write_if_changed(p, v, status);
}
