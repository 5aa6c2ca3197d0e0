// SPDX-License-Identifier: Apache-2.0
// EventRateLimit: how many events the server, a namespace, a user or a source may write.
#include "apiserver/admission/config.h"
#include "apiserver/admission/event_limits.h"
#include "apiserver/admission/plugins_int.h"
#include "base/clock.h"

// Source and object, one after the other.
static struct kl_str source_key(struct kl_arena *a, const struct kl_value *event)
{
    static const kl_sym parts[][2] = {
        {KL_F_source, KL_F_component},          {KL_F_source, KL_F_host},
        {KL_F_involvedObject, KL_F_kind},       {KL_F_involvedObject, KL_F_namespace},
        {KL_F_involvedObject, KL_F_name},       {KL_F_involvedObject, KL_F_uid},
        {KL_F_involvedObject, KL_F_apiVersion},
    };
    size_t n = 0;
    for (size_t i = 0; i < KL_COUNT(parts); i++)
        n += kl_text_at(event, parts[i][0], parts[i][1]).n;
    char *p = kl_arena_alloc(a, n + 1);
    struct kl_str key = {p, 0};
    for (size_t i = 0; p && i < KL_COUNT(parts); i++) {
        struct kl_str s = kl_text_at(event, parts[i][0], parts[i][1]);
        if (s.n)
            memcpy(p + key.n, s.p, s.n);
        key.n += s.n;
    }
    return key;
}

int kl_events_validate(struct kl_admit *ad)
{
    struct kl_req *r = ad->r;
    struct kl_event_limits *l = r->srv->admit_config->events;
    if (!kl_admit_of(ad, KL_RES_core_v1_events) || ad->sub.n || ad->dry_run)
        return 0;
    struct kl_str why,
        keys[KL_EVENT_LIMIT_TYPES] = {[KL_EVENT_LIMIT_SERVER] = KL_STR(""),
                                      [KL_EVENT_LIMIT_NAMESPACE] = ad->ns,
                                      [KL_EVENT_LIMIT_USER] = r->user->name,
                                      [KL_EVENT_LIMIT_SOURCE] = source_key(r->arena, ad->object)};
    if (!keys[KL_EVENT_LIMIT_SOURCE].p)
        return kl_admit_oom(ad);
    if (kl_event_limits_take(l, keys, (int64_t)kl_mono_ns(), r->arena, &why))
        return 0;
    if (!why.p)
        return kl_admit_oom(ad);
    kl_fail_set(r, 429, "TooManyRequests", "%.*s", KL_PRI(why));
    return KL_ETOOMANY;
}
