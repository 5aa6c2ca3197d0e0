// SPDX-License-Identifier: Apache-2.0
// Pods: QoS class, grace, and what their subresources may change.
#include "apiserver/strategy_int.h"
#include "object/quota/amounts.h"
#include <stdlib.h>

// ---- AppArmor: annotations of old become fields (applyAppArmorVersionSkew)

#define APPARMOR_CONTAINER "container.apparmor.security.beta.kubernetes.io/"
enum { PROFILE_NAME_MAX = 4095 };

// What the annotation means; false: no valid field can be made of it.
static bool profile_of(struct kl_arena *a, struct kl_str s, struct kl_value *ret)
{
    struct kl_str local = KL_STR("localhost/");
    *ret = kl_new_struct();
    if (kl_str_eqz(s, "unconfined"))
        return !kl_set(a, ret, KL_F_type, kl_stringz("Unconfined"));
    if (kl_str_eqz(s, "runtime/default"))
        return !kl_set(a, ret, KL_F_type, kl_stringz("RuntimeDefault"));
    if (!kl_str_starts(s, local))
        return false;
    s = kl_str_from(s, local.n);
    return s.n && s.n <= PROFILE_NAME_MAX && kl_str_eq(kl_str_trim(s), s) &&
           !kl_set(a, ret, KL_F_type, kl_stringz("Localhost")) &&
           !kl_set(a, ret, KL_F_localhostProfile, kl_string(s));
}

static bool same_profile(const struct kl_value *a, const struct kl_value *b)
{
    return b && kl_str_eq(kl_text(kl_get(a, KL_F_type)), kl_text(kl_get(b, KL_F_type))) &&
           kl_value_equal(kl_get(a, KL_F_localhostProfile), kl_get(b, KL_F_localhostProfile));
}

// The annotations of containers, in the order of their keys: there may be many of both.
struct noted {
    const struct kl_value **keys;
    size_t n;
};

static int compare_noted(const void *a, const void *b)
{
    return kl_str_cmp(kl_text(*(const struct kl_value *const *)a),
                      kl_text(*(const struct kl_value *const *)b));
}

static int gather_noted(struct kl_arena *a, const struct kl_value *annotations, struct noted *ret)
{
    size_t n = 0;
    for (KL_MAP_EACH_KEY(kv, annotations))
        n += kl_str_starts(kl_text(kv), KL_STR(APPARMOR_CONTAINER));
    *ret = (struct noted){0};
    if (!n)
        return 0;
    if (!(ret->keys = kl_arena_alloc(a, n * sizeof *ret->keys)))
        return KL_ENOMEM;
    for (KL_MAP_EACH_KEY(kv, annotations))
        if (kl_str_starts(kl_text(kv), KL_STR(APPARMOR_CONTAINER)))
            ret->keys[ret->n++] = kv;
    qsort(ret->keys, n, sizeof *ret->keys, compare_noted);
    return 0;
}

static int take_profile(struct kl_req *r, struct kl_value *draft, const struct noted *noted,
                        kl_sym list, size_t i)
{
    struct kl_arena *a = r->arena;
    const struct kl_value *c = kl_at(kl_path(draft, KL_F_spec, list), i);
    const struct kl_value *whole =
        kl_path(draft, KL_F_spec, KL_F_securityContext, KL_F_appArmorProfile);
    struct kl_str key =
        kl_arena_printf(a, APPARMOR_CONTAINER "%.*s", KL_PRI(kl_text(kl_get(c, KL_F_name))));
    const struct kl_value wanted = kl_string(key), *p = &wanted, **at_key;
    at_key = bsearch(&p, noted->keys, noted->n, sizeof *noted->keys, compare_noted);
    const struct kl_value *text = at_key ? *at_key + 1 : NULL;
    struct kl_value profile;
    if (!text || kl_path(c, KL_F_securityContext, KL_F_appArmorProfile))
        return 0;
    bool good = profile_of(a, kl_text(text), &profile);
    if (good && same_profile(&profile, whole))
        return 0;
    kl_req_warn(r, kl_arena_printf(a,
                                   "metadata.annotations[%.*s]: deprecated since v1.30; use the "
                                   "\"appArmorProfile\" field instead",
                                   KL_PRI(key)));
    if (!good)
        return 0;
    struct kl_value *at =
        kl_edit_at(a, kl_edit(a, kl_edit(a, draft, KL_F_spec, KL_STRUCT), list, KL_ARRAY), i);
    struct kl_value *sc = at ? kl_edit(a, at, KL_F_securityContext, KL_STRUCT) : NULL;
    return sc ? kl_set(a, sc, KL_F_appArmorProfile, profile) : KL_ENOMEM;
}

static int take_profiles(struct kl_req *r, struct kl_value *draft)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers, KL_F_ephemeralContainers};
    struct noted noted;
    if (gather_noted(r->arena, kl_meta_annotations(draft), &noted))
        return kl_fail_oom(r), KL_ENOMEM;
    if (!noted.n || kl_str_eqz(kl_text_at(draft, KL_F_spec, KL_F_os, KL_F_name), "windows"))
        return 0;
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (size_t i = 0; i < kl_len(kl_path(draft, KL_F_spec, lists[l])); i++)
            if (take_profile(r, draft, &noted, lists[l], i))
                return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

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
    int rc = take_profiles(r, draft);
    return rc ? rc : kl_set(a, draft, KL_F_status, st);
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
