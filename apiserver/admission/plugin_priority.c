// SPDX-License-Identifier: Apache-2.0
// Priority: a pod's class becomes a number; one class is the default at most.
#include "apiserver/admission/plugins_int.h"

static int find_default(struct kl_admit *ad, struct kl_object **ret)
{
    struct kl_admit_walk w;
    struct kl_object *o;
    *ret = NULL;
    if (kl_admit_walk_init(&w, ad->r, KL_RES_scheduling_v1_priorityclasses, KL_STR("")))
        return KL_ENOMEM;
    while ((o = kl_admit_next(&w)))
        if (kl_is_true(kl_get(&o->root, KL_F_globalDefault)) &&
            (!*ret || kl_int_at(&o->root, 0, KL_F_value) < kl_int_at(&(*ret)->root, 0, KL_F_value)))
            *ret = o;
    return 0;
}

// What only creation sets an update cannot leave out.
static int keep(struct kl_admit *ad)
{
    static const kl_sym fields[] = {KL_F_priority, KL_F_preemptionPolicy};
    struct kl_arena *a = ad->r->arena;
    const struct kl_value *old = kl_get(ad->old, KL_F_spec);
    for (size_t i = 0; i < KL_COUNT(fields); i++) {
        const struct kl_value *was = kl_get(old, fields[i]);
        struct kl_value copy;
        if (!was || kl_path(ad->draft, KL_F_spec, fields[i]))
            continue;
        struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
        if (!spec || kl_copy(a, was, &copy) || kl_set(a, spec, fields[i], copy))
            return kl_admit_oom(ad);
    }
    return 0;
}

int kl_priority_mutate(struct kl_admit *ad)
{
    struct kl_arena *a = ad->r->arena;
    struct kl_object *class;
    if (!kl_admit_is(ad, KL_RES_core_v1_pods))
        return 0;
    if (ad->op == KL_ADMIT_UPDATE)
        return keep(ad);
    struct kl_value *spec = kl_edit(a, ad->draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_admit_oom(ad);
    struct kl_str name = kl_text(kl_get(spec, KL_F_priorityClassName));
    if (name.n) {
        class = kl_admit_find(ad->r, KL_RES_scheduling_v1_priorityclasses, KL_STR(""), name);
        if (!class)
            return kl_admit_forbid(ad, "no PriorityClass with name %.*s was found", KL_PRI(name));
    } else if (find_default(ad, &class)) {
        return KL_ENOMEM;
    }
    int64_t value = class ? kl_int_at(&class->root, 0, KL_F_value) : 0;
    const struct kl_value *given = kl_get(spec, KL_F_priority);
    if (kl_is(given, KL_INT) && given->i != value)
        return kl_admit_forbid(ad,
                               "the integer value of priority (%lld) must not be provided in pod "
                               "spec; priority admission controller computed %lld from the given "
                               "PriorityClass name",
                               (long long)given->i, (long long)value);
    struct kl_str policy = class ? kl_text(kl_get(&class->root, KL_F_preemptionPolicy))
                                 : KL_STR("PreemptLowerPriority");
    struct kl_str wanted = kl_text(kl_get(spec, KL_F_preemptionPolicy));
    if (policy.n && wanted.n && !kl_str_eq(policy, wanted))
        return kl_admit_forbid(ad,
                               "the string value of PreemptionPolicy (%.*s) must not be provided "
                               "in pod spec; priority admission controller computed %.*s from the "
                               "given PriorityClass name",
                               KL_PRI(wanted), KL_PRI(policy));
    if (class && !name.n)
        name = kl_arena_dup(a, kl_meta_name(&class->root));
    policy = kl_arena_dup(a, policy);
    if (!policy.p || kl_set(a, spec, KL_F_priority, kl_int(value)) ||
        (name.n && kl_set(a, spec, KL_F_priorityClassName, kl_string(name))) ||
        (policy.n && kl_set(a, spec, KL_F_preemptionPolicy, kl_string(policy))))
        return kl_admit_oom(ad);
    return 0;
}

int kl_priority_validate(struct kl_admit *ad)
{
    struct kl_object *other;
    if (!kl_admit_is(ad, KL_RES_scheduling_v1_priorityclasses) ||
        !kl_is_true(kl_get(ad->object, KL_F_globalDefault)))
        return 0;
    if (find_default(ad, &other))
        return KL_ENOMEM;
    struct kl_str name = other ? kl_meta_name(&other->root) : KL_STR("");
    if (!other || (ad->op == KL_ADMIT_UPDATE && kl_str_eq(name, kl_meta_name(ad->object))))
        return 0;
    return kl_admit_forbid(
        ad, "PriorityClass %.*s is already marked as default. Only one default can exist",
        KL_PRI(name));
}
