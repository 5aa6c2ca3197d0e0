// SPDX-License-Identifier: Apache-2.0
// scheduling.k8s.io: PodGroups and Workloads. Their rules are upstream's declarative ones: what an
// update leaves as it was is not looked at again.
#include "object/validate/validate_int.h"

enum { TEMPLATES_MAX = 8, CLAIMS_MAX = 4, TOPOLOGIES_MAX = 1, PRIORITY_MAX = 1000000000 };

// One struct as it is and as it was.
struct pair {
    const struct kl_value *now, *old; // old NULL: it was not there
    const struct kl_vpath *at;
    bool frozen; // its fields do not change once they are there
};

static bool is_on(const struct kl_v *c, const char *gate)
{
    return !c->f->gates || kl_gate_named_on(c->f->gates, gate);
}

static bool is_same(const struct pair *x, kl_sym field)
{
    const struct kl_value *now = kl_get(x->now, field), *old = kl_get(x->old, field);
    return x->old && (now == old || (now && old && kl_value_equal(now, old)));
}

static void refuse_change(struct kl_v *c, const struct kl_vpath *p)
{
    kl_v_invalid_text(c, p, KL_STR("null"), "field is immutable");
}

// Whether there is something to look into: a field that changed, may do so, and is there.
static const struct kl_value *changed(struct kl_v *c, const struct pair *x, kl_sym field,
                                      const char *gate)
{
    const struct kl_value *v = kl_get(x->now, field);
    if (is_same(x, field))
        return NULL;
    if (gate && !is_on(c, gate)) {
        // What was not in use before is dropped rather than refused (and may have come back as a
        // default, which is how upstream shows it, too).
        if (v && kl_get(x->old, field))
            kl_v_forbidden(c, FS(x->at, field), "");
        return NULL;
    }
    if (x->frozen && x->old) {
        refuse_change(c, FS(x->at, field));
        return NULL;
    }
    return v;
}

// Exactly one of the fields.
static void check_union(struct kl_v *c, const struct kl_value *v, const kl_sym *fields, size_t n,
                        const struct kl_vpath *p)
{
    const char *all = "", *set = "";
    size_t nset = 0;
    for (size_t i = 0; i < n; i++) {
        struct kl_str name = kl_sym_name(fields[i]);
        all = kl_v_text(c, "%s%s`%.*s`", all, i ? ", " : "", KL_PRI(name));
        if (kl_get(v, fields[i]))
            set = kl_v_text(c, "%s%s%.*s", set, nset++ ? ", " : "", KL_PRI(name));
    }
    if (!nset)
        kl_v_invalid_str(c, p, KL_STR(""), kl_v_text(c, "must specify one of: %s", all));
    else if (nset > 1)
        kl_v_invalid_str(c, p, kl_str(kl_v_text(c, "{%s}", set)),
                         kl_v_text(c, "must specify exactly one of: %s", all));
}

static void check_name(struct kl_v *c, const struct kl_value *v, kl_sym field,
                       enum kl_v_format format, const struct kl_vpath *p)
{
    struct kl_str s = kl_text(kl_get(v, field));
    if (!s.n)
        kl_v_required(c, FS(p, field), "");
    else
        kl_v_format(c, FS(p, field), s, format);
}

// Those whose key an earlier one has, shown whole.
static void check_unique(struct kl_v *c, const struct kl_value *list, const char *type_name,
                         const struct kl_vpath *p)
{
    for (size_t i = 1; i < kl_len(list); i++)
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)),
                          kl_text(kl_get(kl_at(list, i), KL_F_name)))) {
                const struct kl_type *t = kl_type_by_name(kl_str(type_name));
                kl_v_duplicate_text(c, I(p, i), kl_v_json(c, t, kl_at(list, i), false));
                break;
            }
}

// ---- what PodGroups and their templates have alike

static void check_policy(struct kl_v *c, const struct pair *x)
{
    static const kl_sym members[] = {KL_F_basic, KL_F_gang};
    const struct kl_vpath *p = F(x->at, schedulingPolicy);
    const struct kl_value *v = kl_v_or_empty(kl_get(x->now, KL_F_schedulingPolicy));
    const struct kl_value *gang = kl_get(v, KL_F_gang);
    if (is_same(x, KL_F_schedulingPolicy))
        return;
    if (x->frozen && x->old) {
        refuse_change(c, p);
        return;
    }
    check_union(c, v, members, KL_COUNT(members), p);
    if (!gang)
        return;
    int64_t count = kl_int_or(kl_get(gang, KL_F_minCount), 0);
    if (!count)
        kl_v_required(c, F(F(p, gang), minCount), "");
    else if (count < 1)
        kl_v_invalid_int(c, F(F(p, gang), minCount), count, "must be greater than or equal to 1");
}

static void check_constraints(struct kl_v *c, const struct pair *x)
{
    const struct kl_value *v =
        changed(c, x, KL_F_schedulingConstraints, "TopologyAwareWorkloadScheduling");
    const struct kl_value *list = kl_get(v, KL_F_topology);
    const struct kl_vpath *p = F(F(x->at, schedulingConstraints), topology);
    if (kl_len(list) > TOPOLOGIES_MAX)
        kl_v_too_many(c, p, kl_len(list), TOPOLOGIES_MAX);
    else
        for (size_t i = 0; i < kl_len(list); i++)
            check_name(c, kl_at(list, i), KL_F_key, KL_V_QUALIFIED, I(p, i));
}

static void check_claims(struct kl_v *c, const struct pair *x)
{
    static const kl_sym members[] = {KL_F_resourceClaimName, KL_F_resourceClaimTemplateName};
    const struct kl_value *list = kl_get(x->now, KL_F_resourceClaims);
    const struct kl_vpath *p = F(x->at, resourceClaims);
    if (is_same(x, KL_F_resourceClaims))
        return;
    if (x->old)
        refuse_change(c, p);
    if (kl_len(list) > CLAIMS_MAX)
        kl_v_too_many(c, p, kl_len(list), CLAIMS_MAX);
    if (x->old || kl_len(list) > CLAIMS_MAX)
        return;
    check_unique(c, list, "io.k8s.api.scheduling.v1alpha2.PodGroupResourceClaim", p);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *claim = kl_at(list, i);
        check_union(c, claim, members, KL_COUNT(members), I(p, i));
        check_name(c, claim, KL_F_name, KL_V_SHORT_NAME, I(p, i));
        for (size_t k = 0; k < KL_COUNT(members); k++)
            if (kl_get(claim, members[k]))
                kl_v_format(c, FS(I(p, i), members[k]), kl_text(kl_get(claim, members[k])),
                            KL_V_LONG_NAME);
    }
}

static void check_preemption(struct kl_v *c, const struct pair *x)
{
    static const char gate[] = "WorkloadAwarePreemption";
    static const char *const modes[] = {"Pod", "PodGroup", NULL};
    const struct kl_value *v = changed(c, x, KL_F_disruptionMode, gate);
    if (v && !kl_v_in(kl_text(v), modes))
        kl_v_unsupported(c, F(x->at, disruptionMode), kl_text(v), modes);
    v = changed(c, x, KL_F_priorityClassName, gate);
    if (v && kl_text(v).n)
        kl_v_format(c, F(x->at, priorityClassName), kl_text(v), KL_V_LONG_NAME);
    v = changed(c, x, KL_F_priority, gate);
    if (kl_int_or(v, 0) > PRIORITY_MAX)
        kl_v_invalid_int(c, F(x->at, priority), kl_int_or(v, 0),
                         kl_v_text(c, "must be less than or equal to %d", PRIORITY_MAX));
}

// ---- PodGroups

static void check_origin(struct kl_v *c, const struct pair *x)
{
    static const kl_sym members[] = {KL_F_workload};
    const struct kl_value *v = changed(c, x, KL_F_podGroupTemplateRef, NULL);
    const struct kl_value *w = kl_get(v, KL_F_workload);
    const struct kl_vpath *p = F(x->at, podGroupTemplateRef);
    if (v)
        check_union(c, v, members, KL_COUNT(members), p);
    if (!w)
        return;
    check_name(c, w, KL_F_workloadName, KL_V_LONG_NAME, F(p, workload));
    check_name(c, w, KL_F_podGroupTemplateName, KL_V_SHORT_NAME, F(p, workload));
}

static void check_group(struct kl_v *c)
{
    struct pair x = {kl_v_or_empty(kl_v_spec(c)), NULL, &c->spec, true};
    if (c->old)
        x.old = kl_v_or_empty(kl_v_old_spec(c));
    check_origin(c, &x);
    check_policy(c, &x);
    check_constraints(c, &x);
    check_claims(c, &x);
    check_preemption(c, &x);
}

static void create_group(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_group(c);
}

static void update_group(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_group(c);
}

static bool has_claim(const struct kl_v *c, struct kl_str name)
{
    for (KL_EACH(x, kl_get(kl_v_spec(c), KL_F_resourceClaims)))
        if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
            return true;
    return false;
}

static const struct kl_value *named(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(x, list))
        if (kl_str_eq(kl_text(kl_get(x, KL_F_name)), name))
            return x;
    return NULL;
}

static void check_claim_statuses(struct kl_v *c, const struct kl_vpath *p)
{
    struct pair x = {kl_get(c->now, KL_F_status), kl_v_or_empty(kl_get(c->old, KL_F_status))};
    const struct kl_value *list = kl_get(x.now, KL_F_resourceClaimStatuses);
    const struct kl_value *was = kl_get(x.old, KL_F_resourceClaimStatuses);
    if (is_same(&x, KL_F_resourceClaimStatuses))
        return;
    if (kl_len(list) > CLAIMS_MAX) {
        kl_v_too_many(c, p, kl_len(list), CLAIMS_MAX);
        return;
    }
    check_unique(c, list, "io.k8s.api.scheduling.v1alpha2.PodGroupResourceClaimStatus", p);
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *v = kl_at(list, i);
        struct pair y = {v, named(was, kl_text(kl_get(v, KL_F_name)))};
        if (kl_get(v, KL_F_resourceClaimName) && !is_same(&y, KL_F_resourceClaimName))
            kl_v_format(c, F(I(p, i), resourceClaimName),
                        kl_text(kl_get(v, KL_F_resourceClaimName)), KL_V_LONG_NAME);
    }
}

static void status_group(struct kl_v *c)
{
    const struct kl_value *status = kl_get(c->now, KL_F_status);
    const struct kl_value *list = kl_get(status, KL_F_resourceClaimStatuses);
    const struct kl_vpath *p = F(&c->status, resourceClaimStatuses);
    kl_v_meta_update(c);
    kl_v_conditions(c, F(&c->status, conditions), kl_get(status, KL_F_conditions));
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str name = kl_text(kl_get(kl_at(list, i), KL_F_name));
        if (!has_claim(c, name))
            kl_v_invalid_str(c, F(I(p, i), name), name,
                             "must match the name of an entry in `spec.resourceClaims`");
    }
    check_claim_statuses(c, p);
}

// ---- Workloads

static void check_template(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct pair x = {v, NULL, p, false};
    check_name(c, v, KL_F_name, KL_V_SHORT_NAME, p);
    check_policy(c, &x);
    check_constraints(c, &x);
    check_claims(c, &x);
    check_preemption(c, &x);
}

static void check_workload(struct kl_v *c)
{
    struct pair x = {kl_v_or_empty(kl_v_spec(c)), NULL, &c->spec, true};
    if (c->old)
        x.old = kl_v_or_empty(kl_v_old_spec(c));
    const struct kl_value *by = changed(c, &x, KL_F_controllerRef, NULL);
    const struct kl_value *list = kl_get(x.now, KL_F_podGroupTemplates);
    const struct kl_vpath *p = F(&c->spec, podGroupTemplates);
    if (by) {
        struct kl_str group = kl_text(kl_get(by, KL_F_apiGroup));
        if (group.n)
            kl_v_format(c, F(F(x.at, controllerRef), apiGroup), group, KL_V_LONG_NAME);
        check_name(c, by, KL_F_kind, KL_V_PATH_SEGMENT, F(x.at, controllerRef));
        check_name(c, by, KL_F_name, KL_V_PATH_SEGMENT, F(x.at, controllerRef));
    }
    if (is_same(&x, KL_F_podGroupTemplates))
        return;
    if (x.old)
        refuse_change(c, p);
    if (kl_len(list) > TEMPLATES_MAX)
        kl_v_too_many(c, p, kl_len(list), TEMPLATES_MAX);
    if (!kl_len(list))
        kl_v_required(c, p, "");
    if (x.old || kl_len(list) > TEMPLATES_MAX)
        return;
    check_unique(c, list, "io.k8s.api.scheduling.v1alpha2.PodGroupTemplate", p);
    for (size_t i = 0; i < kl_len(list); i++)
        check_template(c, kl_at(list, i), I(p, i));
}

static void create_workload(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_workload(c);
}

static void update_workload(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_workload(c);
}

const struct kl_v_kind kl_v_scheduling[] = {
    {KL_RES_scheduling_v1alpha2_podgroups, create_group, update_group, status_group, NULL, NULL},
    {KL_RES_scheduling_v1alpha2_workloads, create_workload, update_workload, NULL, NULL, NULL},
    {0},
};
