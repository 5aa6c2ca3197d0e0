// SPDX-License-Identifier: Apache-2.0
// Pods: QoS class, grace, and what their subresources may change.
#include "apiserver/strategy_int.h"
#include "object/quota/amounts.h"

int kl_pod_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value st = kl_new_struct();
    // A negative grace meant "as short as possible" once; it is written as what it does.
    if (kl_int_at(draft, 0, KL_F_spec, KL_F_terminationGracePeriodSeconds) < 0)
        kl_set(a, kl_edit(a, draft, KL_F_spec, KL_STRUCT), KL_F_terminationGracePeriodSeconds,
               kl_int(1));
    kl_set(a, &st, KL_F_phase, kl_stringz("Pending"));
    kl_set(a, &st, KL_F_qosClass, kl_stringz(kl_pod_qos_class(draft)));
    if (kl_len(kl_path(draft, KL_F_spec, KL_F_schedulingGates))) {
        struct kl_value c = kl_new_struct(), list = kl_new_array();
        kl_set(a, &c, KL_F_type, kl_stringz("PodScheduled"));
        kl_set(a, &c, KL_F_status, kl_stringz("False"));
        kl_set(a, &c, KL_F_reason, kl_stringz("SchedulingGated"));
        kl_set(a, &c, KL_F_message,
               kl_stringz("Scheduling is blocked due to non-empty scheduling gates"));
        kl_append(a, &list, c);
        kl_set(a, &st, KL_F_conditions, list);
    }
    return kl_set(a, draft, KL_F_status, st);
}

static const struct kl_value *container_named(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(c, list))
        if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
            return c;
    return NULL;
}

// dropNonEphemeralContainerUpdates, dropNonResizeUpdates: these subresources change one thing and
// leave the rest of the pod as it is.
static int take_part(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    struct kl_value sent = *draft;
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    static const kl_sym open[] = {KL_F_resources, KL_F_resizePolicy};
    *draft = *old;
    draft->owned = 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    if (kl_str_eqz(r->info.sub, "ephemeralcontainers")) {
        const struct kl_value *v = kl_path(&sent, KL_F_spec, KL_F_ephemeralContainers);
        int rc = v ? kl_set(a, spec, KL_F_ephemeralContainers, *v)
                   : kl_unset(a, spec, KL_F_ephemeralContainers);
        return rc ? (kl_fail_oom(r), rc) : 0;
    }
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (size_t i = 0; i < kl_len(kl_get(spec, lists[l])); i++) {
            const struct kl_value *c = kl_at(kl_get(spec, lists[l]), i);
            const struct kl_value *from =
                container_named(kl_path(&sent, KL_F_spec, lists[l]), kl_text(kl_get(c, KL_F_name)));
            for (size_t k = 0; from && k < KL_COUNT(open); k++) {
                const struct kl_value *v = kl_get(from, open[k]);
                struct kl_value *to = kl_edit_at(a, kl_edit(a, spec, lists[l], KL_ARRAY), i);
                if (v ? kl_set(a, to, open[k], *v) : kl_unset(a, to, open[k]))
                    return kl_fail_oom(r), KL_ENOMEM;
            }
        }
    return 0;
}

int kl_pod_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    bool part = kl_str_eqz(r->info.sub, "ephemeralcontainers") || kl_str_eqz(r->info.sub, "resize");
    return part ? take_part(r, draft, old) : 0;
}

int64_t kl_pod_grace(struct kl_req *r, const struct kl_value *pod)
{
    int64_t period = r->opts.grace_seconds;
    struct kl_str phase = kl_text_at(pod, KL_F_status, KL_F_phase);
    if (period < 0)
        period = kl_int_at(pod, 0, KL_F_spec, KL_F_terminationGracePeriodSeconds);
    if (!kl_text_at(pod, KL_F_spec, KL_F_nodeName).n || kl_str_eqz(phase, "Succeeded") ||
        kl_str_eqz(phase, "Failed"))
        return 0;
    return period < 0 ? 1 : period;
}
