// SPDX-License-Identifier: Apache-2.0
// Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers, ControllerRevisions.
#include "object/json.h"
#include "object/selector.h"
#include "object/validate/pod_int.h"

static void show_selector(struct kl_v *c, const struct kl_value *selector, const char *why)
{
    kl_v_invalid_json(c, F(&c->spec, selector), kl_type(KL_TYPE_meta_v1_LabelSelector), selector,
                      false, why);
}

static bool is_empty_selector(const struct kl_value *s)
{
    return !kl_len(kl_get(s, KL_F_matchLabels)) && !kl_len(kl_get(s, KL_F_matchExpressions));
}

// Whether one requirement holds for labels; LabelSelectorAsSelector's errors are `bad`.
static bool requirement_holds(const struct kl_value *r, const struct kl_value *labels, bool *bad)
{
    struct kl_str op = kl_text(kl_get(r, KL_F_operator)), key = kl_text(kl_get(r, KL_F_key));
    const struct kl_value *values = kl_get(r, KL_F_values), *has = kl_map_value(labels, key);
    const char *msg[KL_V_MESSAGES];
    bool in = kl_str_eqz(op, "In"), not_in = kl_str_eqz(op, "NotIn");
    bool exists = kl_str_eqz(op, "Exists"), absent = kl_str_eqz(op, "DoesNotExist"), found = false;
    *bad |= !(in || not_in || exists || absent) || ((in || not_in) != (kl_len(values) != 0)) ||
            kl_v_messages(KL_V_QUALIFIED, key, msg);
    for (KL_EACH(v, values)) {
        *bad |= kl_v_messages(KL_V_LABEL_VALUE, kl_text(v), msg) != 0;
        found |= has && kl_str_eq(kl_text(v), kl_text(has));
    }
    return in ? found : not_in ? !found : exists ? has != NULL : !has;
}

bool kl_v_selects(const struct kl_value *selector, const struct kl_value *labels, bool *bad)
{
    const char *msg[KL_V_MESSAGES];
    bool match = selector != NULL;
    *bad = false;
    for (KL_MAP_EACH_KEY(kv, kl_get(selector, KL_F_matchLabels))) {
        const struct kl_value *has = kl_map_value(labels, kl_text(kv));
        *bad |= kl_v_messages(KL_V_QUALIFIED, kl_text(kv), msg) ||
                kl_v_messages(KL_V_LABEL_VALUE, kl_text(kv + 1), msg);
        match &= has && kl_str_eq(kl_text(has), kl_text(kv + 1));
    }
    for (KL_EACH(r, kl_get(selector, KL_F_matchExpressions)))
        match &= requirement_holds(r, labels, bad);
    return match;
}

void kl_v_no_match(struct kl_v *c, const struct kl_value *labels, const struct kl_vpath *p)
{
    kl_v_invalid_text(c, F(F(p, metadata), labels), kl_v_json(c, NULL, labels, false),
                      "`selector` does not match template `labels`");
}

static void always_restart(struct kl_v *c, const struct kl_value *template, const char *kind,
                           const struct kl_vpath *p)
{
    static const char *const always[] = {"Always", NULL};
    const struct kl_value *spec = kl_get(template, KL_F_spec);
    struct kl_str policy = kl_text(kl_get(spec, KL_F_restartPolicy));
    if (!kl_str_eqz(policy, "Always"))
        kl_v_unsupported(c, F(F(p, spec), restartPolicy), policy, always);
    if (kl_get(spec, KL_F_activeDeadlineSeconds))
        kl_v_forbidden(c, F(F(p, spec), activeDeadlineSeconds),
                       kl_v_text(c, "activeDeadlineSeconds in %s is not Supported", kind));
}

// Required, well formed, not empty.
static void check_selector(struct kl_v *c, const struct kl_value *selector, const char *kind)
{
    if (!selector) {
        kl_v_required(c, F(&c->spec, selector), "");
        return;
    }
    kl_v_selector(c, F(&c->spec, selector), selector);
    if (is_empty_selector(selector))
        show_selector(c, selector, kl_v_text(c, "empty selector is invalid for %s", kind));
}

// The selector and the template of Deployments and ReplicaSets.
static void check_selected_template(struct kl_v *c, const struct kl_value *spec)
{
    const struct kl_value *selector = kl_get(spec, KL_F_selector);
    const struct kl_value *template = kl_get(spec, KL_F_template);
    const struct kl_value *labels = kl_path(template, KL_F_metadata, KL_F_labels);
    const struct kl_vpath *p = F(&c->spec, template);
    bool bad, match = kl_v_selects(selector, labels, &bad);
    check_selector(c, selector, "deployment");
    if (bad) {
        show_selector(c, selector, "invalid label selector");
        return;
    }
    if (!match)
        kl_v_no_match(c, labels, p);
    kl_v_pod_template(c, template, p);
    always_restart(c, template, "ReplicaSet", p);
}

// ---- numbers or percents

static bool is_percent(const struct kl_value *v, int64_t *ret)
{
    const char *msg[KL_V_MESSAGES];
    struct kl_str s = kl_text(v);
    if (!kl_is(v, KL_STRING) || kl_v_messages(KL_V_PERCENT, s, msg))
        return false;
    s.n--;
    return kl_str_to_i64(s, ret);
}

int64_t kl_v_int_or_percent(const struct kl_value *v)
{
    int64_t n = 0;
    if (kl_is(v, KL_STRING))
        return is_percent(v, &n) ? n : kl_str_to_i64(kl_text(v), &n) ? n : 0;
    return kl_int_or(v, 0);
}

void kl_v_positive_or_percent(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    if (kl_is(v, KL_STRING))
        kl_v_format(c, p, kl_text(v), KL_V_PERCENT);
    else
        kl_v_nonnegative(c, p, kl_int_or(v, 0));
}

void kl_v_at_most_all(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    int64_t n;
    if (is_percent(v, &n) && n > 100)
        kl_v_invalid(c, p, v, "must not be greater than 100%");
}

// ---- counts in statuses

static void at_most(struct kl_v *c, kl_sym f, kl_sym than, const char *why)
{
    const struct kl_value *s = kl_get(c->now, KL_F_status);
    int64_t n = kl_int_or(kl_get(s, f), 0);
    if (n > kl_int_or(kl_get(s, than), 0))
        kl_v_invalid_int(c, FS(&c->status, f), n, why);
}

static void not_decremented(struct kl_v *c)
{
    const struct kl_value *now = kl_path(c->now, KL_F_status, KL_F_collisionCount);
    const struct kl_value *old = kl_path(c->old, KL_F_status, KL_F_collisionCount);
    if (old && kl_int_or(now, INT64_MIN) < kl_int_or(old, 0))
        kl_v_invalid_int(c, F(&c->status, collisionCount), kl_int_or(now, 0),
                         "cannot be decremented");
}

#define OVER "cannot be greater than status.replicas"

// ---- Deployments

static void check_rolling(struct kl_v *c, const struct kl_value *u, const struct kl_vpath *p)
{
    const struct kl_value *down = kl_get(u, KL_F_maxUnavailable), *up = kl_get(u, KL_F_maxSurge);
    kl_v_positive_or_percent(c, down, F(p, maxUnavailable));
    kl_v_positive_or_percent(c, up, F(p, maxSurge));
    if (!kl_v_int_or_percent(down) && !kl_v_int_or_percent(up))
        kl_v_invalid_text(c, F(p, maxUnavailable),
                          down ? kl_v_json(c, NULL, down, false) : KL_STR("0"),
                          "may not be 0 when `maxSurge` is 0");
    kl_v_at_most_all(c, down, F(p, maxUnavailable));
}

static void check_strategy(struct kl_v *c, const struct kl_value *s)
{
    static const char *const types[] = {"Recreate", "RollingUpdate", NULL};
    const struct kl_vpath *p = F(&c->spec, strategy);
    const struct kl_value *u = kl_get(s, KL_F_rollingUpdate);
    struct kl_str type = kl_text(kl_get(s, KL_F_type));
    if (kl_str_eqz(type, "RollingUpdate")) {
        if (u)
            check_rolling(c, u, F(p, rollingUpdate));
        else
            kl_v_required(c, F(p, rollingUpdate), "this should be defaulted and never be nil");
    } else if (!kl_str_eqz(type, "Recreate")) {
        kl_v_unsupported_text(
            c, p, kl_v_json(c, kl_type(KL_TYPE_apps_v1_DeploymentStrategy), s, true), types);
    } else if (u) {
        kl_v_forbidden(c, F(p, rollingUpdate),
                       "may not be specified when strategy `type` is 'Recreate'");
    }
}

static void check_deployment(struct kl_v *c)
{
    static const struct kl_rule rest[] = {R_NONNEG(minReadySeconds), R_NONNEG(revisionHistoryLimit),
                                          R_NONNEG(progressDeadlineSeconds), R_END};
    const struct kl_value *s = kl_v_spec(c), *deadline = kl_get(s, KL_F_progressDeadlineSeconds);
    kl_v_nonnegative(c, F(&c->spec, replicas), kl_int_at(s, 0, KL_F_replicas));
    check_selected_template(c, s);
    check_strategy(c, kl_get(s, KL_F_strategy));
    kl_v_walk(c, rest, s, &c->spec);
    if (deadline && kl_int_or(deadline, 0) <= kl_int_at(s, 0, KL_F_minReadySeconds))
        kl_v_invalid_int(c, F(&c->spec, progressDeadlineSeconds), kl_int_or(deadline, 0),
                         "must be greater than minReadySeconds");
}

static void create_deployment(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_deployment(c);
}

static void same_selector(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_selector);
    if (!kl_value_equal(now, kl_get(kl_v_old_spec(c), KL_F_selector)))
        show_selector(c, now, "field is immutable");
}

static void update_deployment(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_deployment(c);
    same_selector(c);
}

static void status_deployment(struct kl_v *c)
{
    static const struct kl_rule rules[] = {
        R_NONNEG(observedGeneration),  R_NONNEG(replicas),          R_NONNEG(updatedReplicas),
        R_NONNEG(readyReplicas),       R_NONNEG(availableReplicas), R_NONNEG(unavailableReplicas),
        R_NONNEG(terminatingReplicas), R_NONNEG(collisionCount),    R_END};
    kl_v_meta_update(c);
    kl_v_walk(c, rules, kl_get(c->now, KL_F_status), &c->status);
    at_most(c, KL_F_updatedReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_readyReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_readyReplicas, "cannot be greater than readyReplicas");
    not_decremented(c);
}

// ---- ReplicaSets and ReplicationControllers

static const struct kl_rule replica_counts[] = {R_NONNEG(replicas),
                                                R_NONNEG(fullyLabeledReplicas),
                                                R_NONNEG(readyReplicas),
                                                R_NONNEG(availableReplicas),
                                                R_NONNEG(observedGeneration),
                                                R_NONNEG(terminatingReplicas),
                                                R_END};

static void status_replicas(struct kl_v *c)
{
    kl_v_meta_update(c);
    kl_v_walk(c, replica_counts, kl_get(c->now, KL_F_status), &c->status);
    at_most(c, KL_F_fullyLabeledReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_readyReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_readyReplicas, "cannot be greater than readyReplicas");
}

static void check_replica_set(struct kl_v *c)
{
    static const struct kl_rule head[] = {R_NONNEG(replicas), R_NONNEG(minReadySeconds), R_END};
    kl_v_walk(c, head, kl_v_spec(c), &c->spec);
    check_selected_template(c, kl_v_spec(c));
}

static void create_replica_set(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_replica_set(c);
}

static void update_replica_set(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_replica_set(c);
    same_selector(c);
}

static void check_controller(struct kl_v *c)
{
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *template = kl_get(s, KL_F_template);
    const struct kl_value *replicas = kl_get(s, KL_F_replicas);
    const struct kl_value *labels = kl_path(template, KL_F_metadata, KL_F_labels);
    const struct kl_vpath *p = F(&c->spec, template);
    bool match = true;
    kl_v_nonnegative(c, F(&c->spec, minReadySeconds), kl_int_at(s, 0, KL_F_minReadySeconds));
    if (!kl_len(selector))
        kl_v_required(c, F(&c->spec, selector), "");
    if (!replicas)
        kl_v_required(c, F(&c->spec, replicas), "");
    else
        kl_v_nonnegative(c, F(&c->spec, replicas), kl_int_or(replicas, 0));
    if (!template) {
        kl_v_required(c, p, "");
        return;
    }
    for (KL_MAP_EACH_KEY(kv, selector)) {
        const struct kl_value *has = kl_map_value(labels, kl_text(kv));
        match &= has && kl_str_eq(kl_text(has), kl_text(kv + 1));
    }
    if (!match)
        kl_v_no_match(c, labels, p);
    kl_v_pod_template(c, template, p);
    always_restart(c, template, "ReplicationController", p);
}

static void create_controller(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LONG_NAME);
    check_controller(c);
}

static void update_controller(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_controller(c);
}

// ---- StatefulSets

static void check_stateful_strategy(struct kl_v *c, const struct kl_value *s)
{
    const struct kl_vpath *p = F(&c->spec, updateStrategy), *rp = F(p, rollingUpdate);
    const struct kl_value *u = kl_get(s, KL_F_rollingUpdate);
    const struct kl_value *max = kl_get(u, KL_F_maxUnavailable);
    struct kl_str type = kl_text(kl_get(s, KL_F_type));
    if (!type.n) {
        kl_v_required(c, p, "");
    } else if (kl_str_eqz(type, "OnDelete")) {
        if (u)
            kl_v_invalid_json(c, rp, kl_type(KL_TYPE_apps_v1_RollingUpdateStatefulSetStrategy), u,
                              true, "only allowed for updateStrategy 'RollingUpdate'");
    } else if (!kl_str_eqz(type, "RollingUpdate")) {
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_apps_v1_StatefulSetUpdateStrategy), s, true,
                          "must be 'RollingUpdate' or 'OnDelete'");
    } else if (u) {
        kl_v_nonnegative(c, F(rp, partition), kl_int_at(u, 0, KL_F_partition));
        if (!max)
            return;
        kl_v_positive_or_percent(c, max, F(rp, maxUnavailable));
        if (!kl_v_int_or_percent(max))
            kl_v_invalid(c, F(rp, maxUnavailable), max, "cannot be 0");
        kl_v_at_most_all(c, max, F(rp, maxUnavailable));
    }
}

// The template as the controller fills it in: the claims' volumes stand for those of their name,
// host name and subdomain are its own. In the arena only when there are claims.
static struct kl_value filled_template(struct kl_v *c, const struct kl_value *spec)
{
    struct kl_arena *a = c->f->arena;
    struct kl_value t = *kl_get(spec, KL_F_template), list = kl_new_array();
    const struct kl_value *claims = kl_get(spec, KL_F_volumeClaimTemplates);
    struct kl_value *s = kl_edit(a, &t, KL_F_spec, KL_STRUCT);
    const struct kl_value *volumes = kl_get(s, KL_F_volumes);
    kl_unset(a, s, KL_F_subdomain);
    kl_unset(a, s, KL_F_hostname);
    for (size_t i = 0; i < kl_len(claims); i++) {
        struct kl_value v = kl_new_struct(), pvc = kl_new_struct();
        struct kl_str name = kl_meta_name(kl_at(claims, i));
        bool before = false; // claims of one name make one volume
        for (size_t k = 0; k < i; k++)
            before |= kl_str_eq(kl_meta_name(kl_at(claims, k)), name);
        if (before)
            continue;
        kl_set(a, &pvc, KL_F_claimName, kl_string(name));
        kl_set(a, &v, KL_F_name, kl_string(name));
        kl_set(a, &v, KL_F_persistentVolumeClaim, pvc);
        kl_append(a, &list, v);
    }
    for (KL_EACH(v, volumes)) {
        bool replaced = false;
        for (KL_EACH(claim, claims))
            replaced |= kl_str_eq(kl_meta_name(claim), kl_text(kl_get(v, KL_F_name)));
        if (!replaced)
            kl_append(a, &list, *v);
    }
    if (kl_len(claims))
        kl_set(a, s, KL_F_volumes, list);
    return t;
}

static void check_stateful_template(struct kl_v *c, const struct kl_value *spec)
{
    const struct kl_value *template = kl_get(spec, KL_F_template);
    const struct kl_value *meta = kl_get(template, KL_F_metadata),
                          *ps = kl_get(template, KL_F_spec);
    const struct kl_vpath *p = F(&c->spec, template);
    struct kl_value filled;
    if (kl_len(kl_get(spec, KL_F_volumeClaimTemplates)) || kl_get(ps, KL_F_hostname) ||
        kl_get(ps, KL_F_subdomain)) {
        filled = filled_template(c, spec);
        template = &filled;
    }
    kl_v_pod_template(c, template, p);
    kl_v_labels(c, F(p, labels), kl_get(meta, KL_F_labels));
    kl_v_annotations(c, F(p, annotations), kl_get(meta, KL_F_annotations));
    kl_v_pod_annotations(c, kl_get(meta, KL_F_annotations), ps, F(p, annotations));
}

static void check_stateful_set(struct kl_v *c)
{
    static const char *const kept[] = {"Retain", "Delete", NULL};
    static const struct kl_rule retention[] = {R_ANY_ENUM(whenDeleted, kept),
                                               R_ANY_ENUM(whenScaled, kept), R_END};
    static const struct kl_rule counts[] = {R_NONNEG(replicas), R_NONNEG(minReadySeconds), R_END};
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *template = kl_get(s, KL_F_template);
    const struct kl_value *labels = kl_path(template, KL_F_metadata, KL_F_labels);
    const struct kl_value *policy = kl_get(s, KL_F_persistentVolumeClaimRetentionPolicy);
    struct kl_str management = kl_text(kl_get(s, KL_F_podManagementPolicy));
    size_t i = 0;
    if (!management.n)
        kl_v_required(c, F(&c->spec, podManagementPolicy), "");
    else if (!kl_str_eqz(management, "OrderedReady") && !kl_str_eqz(management, "Parallel"))
        kl_v_invalid_str(c, F(&c->spec, podManagementPolicy), management,
                         "must be 'OrderedReady' or 'Parallel'");
    check_stateful_strategy(c, kl_get(s, KL_F_updateStrategy));
    if (policy)
        kl_v_walk(c, retention, policy, F(&c->spec, persistentVolumeClaimRetentionPolicy));
    if (!c->old)
        for (KL_EACH(claim, kl_get(s, KL_F_volumeClaimTemplates)))
            kl_v_claim_spec(c, kl_get(claim, KL_F_spec),
                            F(I(F(&c->spec, volumeClaimTemplates), i++), spec), false);
    kl_v_walk(c, counts, s, &c->spec);
    kl_v_nonnegative(c, N(&c->spec, "ordinals.start"), kl_int_at(s, 0, KL_F_ordinals, KL_F_start));
    struct kl_str service = kl_text(kl_get(s, KL_F_serviceName));
    if (!c->old && service.n)
        kl_v_format(c, F(&c->spec, serviceName), service, KL_V_LABEL);
    bool bad, match = kl_v_selects(selector, labels, &bad);
    check_selector(c, selector, "statefulset");
    if (bad) {
        show_selector(c, selector, "");
    } else {
        if (!match)
            kl_v_no_match(c, labels, F(&c->spec, template));
        check_stateful_template(c, s);
    }
    always_restart(c, template, "StatefulSet", F(&c->spec, template));
}

static void create_stateful_set(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LABEL);
    check_stateful_set(c);
}

static void update_stateful_set(struct kl_v *c)
{
    static const kl_sym open[] = {KL_F_replicas,
                                  KL_F_template,
                                  KL_F_updateStrategy,
                                  KL_F_minReadySeconds,
                                  KL_F_ordinals,
                                  KL_F_revisionHistoryLimit,
                                  KL_F_persistentVolumeClaimRetentionPolicy};
    const struct kl_type *t = kl_type(KL_TYPE_apps_v1_StatefulSetSpec);
    kl_v_meta_update(c);
    check_stateful_set(c);
    for (uint16_t i = 0; i < t->nfields; i++) {
        kl_sym f = t->fields[i].sym;
        bool may = false;
        for (size_t k = 0; k < KL_COUNT(open); k++)
            may |= open[k] == f;
        if (may || kl_value_equal(kl_get(kl_v_spec(c), f), kl_get(kl_v_old_spec(c), f)))
            continue;
        kl_v_forbidden(c, &c->spec,
                       "updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                       "'template', 'updateStrategy', 'revisionHistoryLimit', "
                       "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
                       "forbidden");
        return;
    }
}

static void status_stateful_set(struct kl_v *c)
{
    static const struct kl_rule rules[] = {
        R_NONNEG(replicas),          R_NONNEG(readyReplicas),
        R_NONNEG(currentReplicas),   R_NONNEG(updatedReplicas),
        R_NONNEG(availableReplicas), R_NONNEG(observedGeneration),
        R_NONNEG(collisionCount),    R_END};
    kl_v_walk(c, rules, kl_get(c->now, KL_F_status), &c->status);
    at_most(c, KL_F_readyReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_currentReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_updatedReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_replicas, OVER);
    at_most(c, KL_F_availableReplicas, KL_F_readyReplicas,
            "cannot be greater than status.readyReplicas");
    kl_v_meta_update(c);
    not_decremented(c);
}

// ---- DaemonSets

static void check_daemon_rolling(struct kl_v *c, const struct kl_value *u, const struct kl_vpath *p)
{
    const struct kl_value *down = kl_get(u, KL_F_maxUnavailable), *up = kl_get(u, KL_F_maxSurge);
    bool has_down = kl_v_int_or_percent(down), has_up = kl_v_int_or_percent(up);
    kl_v_positive_or_percent(c, down, F(p, maxUnavailable));
    kl_v_positive_or_percent(c, up, F(p, maxSurge));
    kl_v_at_most_all(c, down, F(p, maxUnavailable));
    kl_v_at_most_all(c, up, F(p, maxSurge));
    if (has_down && has_up)
        kl_v_invalid(c, F(p, maxSurge), up, "may not be set when maxUnavailable is non-zero");
    else if (!has_down && !has_up)
        kl_v_required(c, F(p, maxUnavailable), "cannot be 0 when maxSurge is 0");
}

static void check_daemon_set(struct kl_v *c)
{
    static const char *const types[] = {"RollingUpdate", "OnDelete", NULL};
    const struct kl_value *s = kl_v_spec(c), *selector = kl_get(s, KL_F_selector);
    const struct kl_value *template = kl_get(s, KL_F_template);
    const struct kl_value *labels = kl_path(template, KL_F_metadata, KL_F_labels);
    const struct kl_value *strategy = kl_get(s, KL_F_updateStrategy);
    const struct kl_value *u = kl_get(strategy, KL_F_rollingUpdate);
    struct kl_str type = kl_text(kl_get(strategy, KL_F_type));
    const struct kl_vpath *p = F(&c->spec, template), *sp = F(&c->spec, updateStrategy);
    bool bad, match = kl_v_selects(selector, labels, &bad);
    kl_v_selector(c, F(&c->spec, selector), selector);
    if (!bad && !match)
        kl_v_no_match(c, labels, p);
    if (selector && is_empty_selector(selector))
        show_selector(c, selector, "empty selector is invalid for daemonset");
    kl_v_pod_template(c, template, p);
    always_restart(c, template, "DaemonSet", p);
    kl_v_nonnegative(c, F(&c->spec, minReadySeconds), kl_int_at(s, 0, KL_F_minReadySeconds));
    if (kl_str_eqz(type, "RollingUpdate")) {
        if (u)
            check_daemon_rolling(c, u, F(sp, rollingUpdate));
        else
            kl_v_required(c, F(sp, rollingUpdate), "");
    } else if (!kl_str_eqz(type, "OnDelete")) {
        kl_v_unsupported_text(
            c, sp, kl_v_json(c, kl_type(KL_TYPE_apps_v1_DaemonSetUpdateStrategy), strategy, true),
            types);
    }
    kl_v_nonnegative(c, F(&c->spec, revisionHistoryLimit),
                     kl_int_at(s, 0, KL_F_revisionHistoryLimit));
}

static void create_daemon_set(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_daemon_set(c);
}

static void update_daemon_set(struct kl_v *c)
{
    kl_v_meta_update(c);
    same_selector(c);
    check_daemon_set(c);
}

static void status_daemon_set(struct kl_v *c)
{
    static const struct kl_rule rules[] = {
        R_NONNEG(currentNumberScheduled), R_NONNEG(numberMisscheduled),
        R_NONNEG(desiredNumberScheduled), R_NONNEG(numberReady),
        R_NONNEG(observedGeneration),     R_NONNEG(updatedNumberScheduled),
        R_NONNEG(numberAvailable),        R_NONNEG(numberUnavailable),
        R_NONNEG(collisionCount),         R_END};
    kl_v_meta_update(c);
    kl_v_walk(c, rules, kl_get(c->now, KL_F_status), &c->status);
    not_decremented(c);
}

// ---- ControllerRevisions

static void check_revision(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    kl_v_nonnegative(c, F(NULL, revision), kl_int_at(c->now, 0, KL_F_revision));
}

static void create_revision(struct kl_v *c)
{
    struct kl_str data = kl_text(kl_get(c->now, KL_F_data));
    check_revision(c);
    if (!data.n || kl_str_eqz(data, "null"))
        kl_v_required(c, F(NULL, data), "data is mandatory");
    else if (data.p[0] != '{')
        kl_v_required(c, F(NULL, data), "data must be a valid JSON object");
}

static void update_revision(struct kl_v *c)
{
    const struct kl_value *now = kl_get(c->now, KL_F_data);
    kl_v_meta_update(c);
    check_revision(c);
    if (!kl_value_equal(now, kl_get(c->old, KL_F_data)))
        kl_v_invalid_text(c, F(NULL, data), now ? kl_text(now) : KL_STR("null"),
                          "field is immutable");
}

const struct kl_v_kind kl_v_workloads[] = {
    {KL_RES_apps_v1_deployments, create_deployment, update_deployment, status_deployment, NULL,
     NULL},
    {KL_RES_apps_v1_replicasets, create_replica_set, update_replica_set, status_replicas, NULL,
     NULL},
    {KL_RES_apps_v1_statefulsets, create_stateful_set, update_stateful_set, status_stateful_set,
     NULL, NULL},
    {KL_RES_apps_v1_daemonsets, create_daemon_set, update_daemon_set, status_daemon_set, NULL,
     NULL},
    {KL_RES_apps_v1_controllerrevisions, create_revision, update_revision, NULL, NULL, NULL},
    {KL_RES_core_v1_replicationcontrollers, create_controller, update_controller, status_replicas,
     NULL, NULL},
    {0},
};
