// SPDX-License-Identifier: Apache-2.0
// LimitRanger: LimitRanges give defaults to new pods and bound pods and claims. The rules are
// object/quota/limits.
#include "apiserver/admission/plugins_int.h"
#include "object/quota/limits.h"

static bool applies(const struct kl_admit *ad)
{
    if (ad->old && kl_meta_deleting(ad->old))
        return false;
    if (kl_admit_of(ad, KL_RES_core_v1_pods) && ad->op == KL_ADMIT_UPDATE)
        return kl_admit_sub(ad, "resize");
    return kl_admit_is(ad, KL_RES_core_v1_pods) ||
           kl_admit_is(ad, KL_RES_core_v1_persistentvolumeclaims);
}

int kl_limit_ranger_mutate(struct kl_admit *ad)
{
    struct kl_admit_walk w;
    struct kl_object *range;
    if (!kl_admit_of(ad, KL_RES_core_v1_pods) || !applies(ad))
        return 0;
    if (kl_admit_walk_init(&w, ad->r, KL_RES_core_v1_limitranges, ad->ns))
        return KL_ENOMEM;
    while ((range = kl_admit_next(&w)))
        if (kl_limits_fill(ad->r->arena, &range->root, ad->draft))
            return kl_admit_oom(ad);
    return 0;
}

int kl_limit_ranger_validate(struct kl_admit *ad)
{
    struct kl_admit_walk w;
    struct kl_object *range;
    struct kl_str why;
    if (!applies(ad))
        return 0;
    bool pod = kl_admit_of(ad, KL_RES_core_v1_pods);
    if (kl_admit_walk_init(&w, ad->r, KL_RES_core_v1_limitranges, ad->ns))
        return KL_ENOMEM;
    while ((range = kl_admit_next(&w))) {
        if ((pod ? kl_limits_check_pod : kl_limits_check_claim)(ad->r->arena, &range->root,
                                                                ad->object, &why))
            return kl_admit_oom(ad);
        if (why.n)
            return kl_admit_forbid(ad, "%.*s", KL_PRI(why));
    }
    return 0;
}
