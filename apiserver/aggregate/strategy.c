// SPDX-License-Identifier: Apache-2.0
#include "apiserver/aggregate/aggregate.h"
#include "base/clock.h"

// kube-aggregator's strategy: what this server has itself is available at once.
int kl_apiservice_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value c = kl_new_struct(), list = kl_new_array();
    if (kl_path(draft, KL_F_spec, KL_F_service))
        return 0;
    kl_set(a, &c, KL_F_type, kl_stringz("Available"));
    kl_set(a, &c, KL_F_status, kl_stringz("True"));
    kl_set(a, &c, KL_F_lastTransitionTime, kl_time(kl_wall_ms() / 1000 * 1000000));
    kl_set(a, &c, KL_F_reason, kl_stringz("Local"));
    kl_set(a, &c, KL_F_message, kl_stringz("Local APIServices are always available"));
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    if (!st || kl_append(a, &list, c) || kl_set(a, st, KL_F_conditions, list))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}
