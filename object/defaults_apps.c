// SPDX-License-Identifier: Apache-2.0
// apps, batch and autoscaling.
#include "object/defaults_int.h"
#include <limits.h>

// ---- apps

static void rolling_update(struct kl_default_node *strategy, struct kl_value max_unavailable,
                           struct kl_value max_surge)
{
    kl_default_string(strategy, KL_F_type, "RollingUpdate");
    if (!kl_default_is(strategy, KL_F_type, "RollingUpdate"))
        return;
    struct kl_default_node rolling = kl_default_in(strategy, KL_F_rollingUpdate, KL_STRUCT);
    kl_default_ptr(&rolling, KL_F_maxUnavailable, max_unavailable);
    kl_default_ptr(&rolling, KL_F_maxSurge, max_surge);
}

void kl_default_deployment(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node strategy = kl_default_in(&spec, KL_F_strategy, KL_STRUCT);
    kl_default_ptr(&spec, KL_F_replicas, kl_int(1));
    rolling_update(&strategy, kl_stringz("25%"), kl_stringz("25%"));
    kl_default_ptr(&spec, KL_F_revisionHistoryLimit, kl_int(10));
    kl_default_ptr(&spec, KL_F_progressDeadlineSeconds, kl_int(600));
}

void kl_default_daemon_set(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node strategy = kl_default_in(&spec, KL_F_updateStrategy, KL_STRUCT);
    rolling_update(&strategy, kl_int(1), kl_int(0));
    kl_default_ptr(&spec, KL_F_revisionHistoryLimit, kl_int(10));
}

static void claim_templates(struct kl_default_node *spec)
{
    struct kl_default_node list = kl_default_in(spec, KL_F_volumeClaimTemplates, KL_ARRAY);
    for (size_t i = 0; i < kl_len(list.v); i++) {
        struct kl_default_node claim = kl_default_at(&list, i);
        if (!kl_default_is(&claim, KL_F_apiVersion, "v1"))
            kl_default_set(&claim, KL_F_apiVersion, kl_stringz("v1"));
        if (!kl_default_is(&claim, KL_F_kind, "PersistentVolumeClaim"))
            kl_default_set(&claim, KL_F_kind, kl_stringz("PersistentVolumeClaim"));
    }
}

void kl_default_stateful_set(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node strategy = kl_default_in(&spec, KL_F_updateStrategy, KL_STRUCT);
    kl_default_string(&spec, KL_F_podManagementPolicy, "OrderedReady");
    if (kl_default_text(&strategy, KL_F_type).n == 0) {
        kl_default_set(&strategy, KL_F_type, kl_stringz("RollingUpdate"));
        kl_default_ptr(&strategy, KL_F_rollingUpdate, kl_new_struct());
    }
    struct kl_default_node rolling = kl_default_in(&strategy, KL_F_rollingUpdate, KL_STRUCT);
    if (rolling.v && kl_default_is(&strategy, KL_F_type, "RollingUpdate"))
        kl_default_ptr(&rolling, KL_F_partition, kl_int(0));
    struct kl_default_node retention =
        kl_default_in(&spec, KL_F_persistentVolumeClaimRetentionPolicy, KL_STRUCT);
    kl_default_string(&retention, KL_F_whenDeleted, "Retain");
    kl_default_string(&retention, KL_F_whenScaled, "Retain");
    kl_default_ptr(&spec, KL_F_replicas, kl_int(1));
    kl_default_ptr(&spec, KL_F_revisionHistoryLimit, kl_int(10));
    claim_templates(&spec);
}

void kl_default_replica_set(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    kl_default_ptr(&spec, KL_F_replicas, kl_int(1));
}

// ---- batch

void kl_default_job(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node meta = kl_default_in(n, KL_F_metadata, KL_STRUCT);
    if (!kl_default_has(&spec, KL_F_completions) && !kl_default_has(&spec, KL_F_parallelism))
        kl_default_set(&spec, KL_F_completions, kl_int(1));
    kl_default_ptr(&spec, KL_F_parallelism, kl_int(1));
    kl_default_ptr(&spec, KL_F_backoffLimit,
                   kl_int(kl_default_has(&spec, KL_F_backoffLimitPerIndex) ? INT32_MAX : 6));
    const struct kl_value *labels = kl_path(spec.v, KL_F_template, KL_F_metadata, KL_F_labels);
    if (labels && kl_len(kl_get(meta.v, KL_F_labels)) == 0)
        kl_default_set(&meta, KL_F_labels, *labels);
    kl_default_ptr(&spec, KL_F_completionMode, kl_stringz("NonIndexed"));
    kl_default_ptr(&spec, KL_F_suspend, kl_bool(false));
    kl_default_ptr(&spec, KL_F_podReplacementPolicy,
                   kl_default_has(&spec, KL_F_podFailurePolicy)
                       ? kl_stringz("Failed")
                       : kl_stringz("TerminatingOrFailed"));
    kl_default_ptr(&spec, KL_F_manualSelector, kl_bool(false));
}

void kl_default_cron_job(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    kl_default_string(&spec, KL_F_concurrencyPolicy, "Allow");
    kl_default_ptr(&spec, KL_F_suspend, kl_bool(false));
    kl_default_ptr(&spec, KL_F_successfulJobsHistoryLimit, kl_int(3));
    kl_default_ptr(&spec, KL_F_failedJobsHistoryLimit, kl_int(1));
}

void kl_default_condition_pattern(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_status, "True");
}

// ---- autoscaling

void kl_default_autoscaler_v1(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    kl_default_ptr(&spec, KL_F_minReplicas, kl_int(1));
    // other metrics live in an annotation of this version; without any there is one for the CPU
    if (!kl_map_value(kl_meta_annotations(n->v), KL_STR("autoscaling.alpha.kubernetes.io/metrics")))
        kl_default_ptr(&spec, KL_F_targetCPUUtilizationPercentage, kl_int(80));
}

static void cpu_metric(struct kl_default_node *spec)
{
    struct kl_arena *a = spec->ctx->arena;
    struct kl_value target = kl_new_struct(), resource = kl_new_struct();
    struct kl_value metric = kl_new_struct(), metrics = kl_new_array();
    int r = kl_set(a, &target, KL_F_type, kl_stringz("Utilization"));
    r = r ? r : kl_set(a, &target, KL_F_averageUtilization, kl_int(80));
    r = r ? r : kl_set(a, &resource, KL_F_name, kl_stringz("cpu"));
    r = r ? r : kl_set(a, &resource, KL_F_target, target);
    r = r ? r : kl_set(a, &metric, KL_F_type, kl_stringz("Resource"));
    r = r ? r : kl_set(a, &metric, KL_F_resource, resource);
    r = r ? r : kl_append(a, &metrics, metric);
    if (r)
        spec->ctx->err = r;
    else
        kl_default_set(spec, KL_F_metrics, metrics);
}

struct scaling_policy {
    const char *type;
    int value;
};

static void scaling_rules(struct kl_default_node *behavior, kl_sym which,
                          const struct scaling_policy *policies, size_t n)
{
    struct kl_arena *a = behavior->ctx->arena;
    struct kl_default_node rules = kl_default_in(behavior, which, KL_STRUCT);
    kl_default_ptr(&rules, KL_F_selectPolicy, kl_stringz("Max"));
    if (kl_default_has(&rules, KL_F_policies))
        return;
    struct kl_value list = kl_new_array();
    for (size_t i = 0; i < n; i++) {
        struct kl_value policy = kl_new_struct();
        if (kl_set(a, &policy, KL_F_type, kl_stringz(policies[i].type)) ||
            kl_set(a, &policy, KL_F_value, kl_int(policies[i].value)) ||
            kl_set(a, &policy, KL_F_periodSeconds, kl_int(15)) || kl_append(a, &list, policy)) {
            behavior->ctx->err = KL_ENOMEM;
            return;
        }
    }
    kl_default_set(&rules, KL_F_policies, list);
}

void kl_default_autoscaler(struct kl_default_node *n)
{
    static const struct scaling_policy up[] = {{"Pods", 4}, {"Percent", 100}};
    static const struct scaling_policy down[] = {{"Percent", 100}};
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    kl_default_ptr(&spec, KL_F_minReplicas, kl_int(1));
    if (kl_len(kl_get(spec.v, KL_F_metrics)) == 0)
        cpu_metric(&spec);
    struct kl_default_node behavior = kl_default_in(&spec, KL_F_behavior, KL_STRUCT);
    if (!behavior.v)
        return;
    struct kl_default_node scale_up = kl_default_in(&behavior, KL_F_scaleUp, KL_STRUCT);
    kl_default_ptr(&scale_up, KL_F_stabilizationWindowSeconds, kl_int(0));
    scaling_rules(&behavior, KL_F_scaleUp, up, KL_COUNT(up));
    scaling_rules(&behavior, KL_F_scaleDown, down, KL_COUNT(down));
}
