// SPDX-License-Identifier: Apache-2.0
// PodGroupWorkloadExists and JobValidation: what must be true of other objects when a PodGroup is
// made and when a Job's parallelism changes. They do nothing while GenericWorkload is off.
#include "apiserver/admission/plugins_int.h"
#include "object/gates.h"

static bool has_gate(const struct kl_admit *ad, const char *name)
{
    return kl_gate_named_on(&ad->r->srv->gates, name);
}

int kl_pod_group_workload_validate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_scheduling_v1alpha2_podgroups) || !has_gate(ad, "GenericWorkload"))
        return 0;
    const struct kl_value *ref =
        kl_path(ad->object, KL_F_spec, KL_F_podGroupTemplateRef, KL_F_workload);
    struct kl_str name = kl_text(kl_get(ref, KL_F_workloadName)),
                  template = kl_text(kl_get(ref, KL_F_podGroupTemplateName));
    if (!ref)
        return 0;
    struct kl_object *w = kl_admit_find(ad->r, KL_RES_scheduling_v1alpha2_workloads, ad->ns, name);
    if (!w)
        return kl_admit_forbid(ad, "PodGroup rejected: Workload \"%.*s\" not found", KL_PRI(name));
    if (kl_meta_deleting(&w->root))
        return kl_admit_forbid(ad, "PodGroup rejected: Workload \"%.*s\" is being deleted",
                               KL_PRI(name));
    for (KL_EACH(t, kl_path(&w->root, KL_F_spec, KL_F_podGroupTemplates)))
        if (kl_str_eq(kl_text(kl_get(t, KL_F_name)), template))
            return 0;
    return kl_admit_forbid(
        ad, "PodGroup rejected: PodGroupTemplate \"%.*s\" not found in Workload \"%.*s\"",
        KL_PRI(template), KL_PRI(name));
}

static bool is_controlled_by(const struct kl_value *o, struct kl_str uid)
{
    for (KL_EACH(ref, kl_path(o, KL_F_metadata, KL_F_ownerReferences)))
        if (kl_is_true(kl_get(ref, KL_F_controller)))
            return kl_str_eq(kl_text(kl_get(ref, KL_F_uid)), uid);
    return false;
}

static int refuse_gang(struct kl_admit *ad, const struct kl_object *group)
{
    if (!group || !kl_path(&group->root, KL_F_spec, KL_F_schedulingPolicy, KL_F_gang))
        return 0;
    return kl_admit_forbid(
        ad, "cannot change parallelism for a Job referencing gang-scheduled PodGroup \"%.*s\"",
        KL_PRI(kl_meta_name(&group->root)));
}

int kl_job_validate(struct kl_admit *ad)
{
    static const uint16_t groups = KL_RES_scheduling_v1alpha2_podgroups;
    const struct kl_value *now = kl_path(ad->object, KL_F_spec, KL_F_parallelism),
                          *was = kl_path(ad->old, KL_F_spec, KL_F_parallelism);
    struct kl_admit_walk w;
    struct kl_object *group;
    int rc = 0;
    if (!kl_admit_is(ad, KL_RES_batch_v1_jobs) ||
        (!now == !was && kl_int_or(now, 0) == kl_int_or(was, 0)) ||
        (!has_gate(ad, "GenericWorkload") && !has_gate(ad, "WorkloadWithJob")))
        return 0;
    const struct kl_value *name = kl_path(ad->old, KL_F_spec, KL_F_template, KL_F_spec,
                                          KL_F_schedulingGroup, KL_F_podGroupName);
    if (name)
        return refuse_gang(ad, kl_admit_find(ad->r, groups, ad->ns, kl_text(name)));
    if (kl_admit_walk_init(&w, ad->r, groups, ad->ns))
        return KL_ENOMEM;
    while (!rc && (group = kl_admit_next(&w)))
        if (is_controlled_by(&group->root, kl_meta_uid(ad->old)))
            rc = refuse_gang(ad, group);
    return rc;
}
