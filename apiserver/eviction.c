// SPDX-License-Identifier: Apache-2.0
// The eviction subresource of pods: a deletion that a PodDisruptionBudget may refuse. The budget's
// count goes down in the transaction that deletes the pod, so that no two evictions share a place.
#include "apiserver/info.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/strategy.h"
#include "base/clock.h"
#include "client/helpers.h"
#include "watchcache/filter.h"

enum { DISRUPTED_PODS_MAX = 2000, CONFLICTS_MAX = 64, RETRY_S = 10 };

static const struct kl_resource *budgets(void)
{
    return kl_res(KL_RES_policy_v1_poddisruptionbudgets);
}

// Pods that disturb nobody any more, or not yet (canIgnorePDB).
static bool is_exempt(const struct kl_value *pod)
{
    struct kl_str phase = kl_text_at(pod, KL_F_status, KL_F_phase);
    return kl_str_eqz(phase, "Succeeded") || kl_str_eqz(phase, "Failed") ||
           kl_str_eqz(phase, "Pending") || kl_meta_deleting(pod);
}

static bool is_ready(const struct kl_value *pod)
{
    for (KL_EACH(c, kl_path(pod, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Ready"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

static bool covers(struct kl_req *r, const struct kl_value *budget, const struct kl_value *pod)
{
    struct kl_selector s;
    struct kl_error err = {0};
    const struct kl_value *sel = kl_path(budget, KL_F_spec, KL_F_selector);
    return !kl_label_selector_from(r->arena, sel, &s, &err) &&
           kl_selector_matches(&s, kl_meta_labels(pod));
}

// The budgets of a pod: how many, and the first one (borrowed from the view).
static int find_budgets(struct kl_req *r, const struct kl_value *pod, struct kl_kv **ret_kv)
{
    struct kl_error err = {0};
    struct kl_filter f = {.res = budgets(), .ns = r->info.ns};
    struct kl_str prefix = kl_filter_prefix(r->arena, &f);
    char *mem = prefix.p ? kl_arena_alloc(r->arena, prefix.n + 1) : NULL;
    struct kl_iter it;
    struct kl_kv *kv;
    int n = 0;
    if (!mem)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_iter_init(&it, kl_req_view(r), prefix, kl_prefix_end(prefix, mem));
    while ((kv = kl_iter_next(&it))) {
        struct kl_object *b = kl_cache_object(kv, f.res, &err);
        if (!b)
            return kl_fail_err(r, &err), err.code;
        if (covers(r, &b->root, pod) && !n++)
            *ret_kv = kv;
    }
    return n;
}

static int too_many(struct kl_req *r, int retry_s, struct kl_str cause)
{
    kl_fail_set(r, 429, "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.");
    r->fail.retry_after_s = retry_s;
    if ((r->fail.causes = KL_ARENA_NEW(r->arena, struct kl_cause))) {
        r->fail.ncauses = 1;
        r->fail.causes[0] =
            (struct kl_cause){.reason = KL_STR("DisruptionBudget"), .message = cause};
    }
    return KL_ETOOMANY;
}

static int on_conflict(struct kl_write *w)
{
    if (++w->tries < CONFLICTS_MAX)
        return 0;
    kl_fail_set(w->r, 504, "Timeout", "couldn't update PodDisruptionBudget due to conflicts");
    w->r->fail.retry_after_s = RETRY_S;
    return KL_ETIMEOUT;
}

// One disruption less, and this pod noted as its reason, with the write.
static int take_place(struct kl_write *w, struct kl_kv *kv, const struct kl_object *budget)
{
    struct kl_req *r = w->r;
    struct kl_arena *a = r->arena;
    struct kl_value draft = kl_object_draft(budget);
    int64_t allowed = kl_int_at(&draft, 0, KL_F_status, KL_F_disruptionsAllowed);
    kl_unset(a, kl_edit(a, &draft, KL_F_metadata, KL_STRUCT), KL_F_resourceVersion);
    struct kl_value *st = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (kl_set(a, st, KL_F_disruptionsAllowed, kl_int(allowed - 1)) ||
        kl_map_set_value(a, kl_edit(a, st, KL_F_disruptedPods, KL_MAP), r->info.name,
                         kl_time(kl_wall_ms() / 1000 * 1000000)))
        return kl_fail_oom(r), KL_ENOMEM;
    struct kl_object *o = kl_object_freeze(budget->type, &draft);
    struct kl_bytes *b =
        o ? kl_encryption_encode(r->srv->o.encryption, budgets(), kl_kv_key(kv), o, NULL, NULL)
          : NULL;
    kl_object_unref(o);
    if (!b)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_keep_bytes(r, b);
    kl_write_put_too(w, kl_arena_dup(a, kl_kv_key(kv)), kv->mod_rev, b);
    w->extra_failed = on_conflict;
    return 0;
}

static int ask_budget(struct kl_write *w, const struct kl_value *pod)
{
    struct kl_req *r = w->r;
    struct kl_kv *kv = NULL;
    struct kl_error err = {0};
    int n = find_budgets(r, pod, &kv);
    if (n <= 0)
        return n;
    if (n > 1) {
        kl_fail_set(r, 500, "",
                    "This pod has more than one PodDisruptionBudget, which the eviction "
                    "subresource does not support.");
        return KL_EINTERNAL;
    }
    struct kl_object *b = kl_cache_object(kv, budgets(), &err);
    const struct kl_value *st = kl_get(&b->root, KL_F_status);
    struct kl_str name = kl_meta_name(&b->root);
    int64_t healthy = kl_int_at(st, 0, KL_F_currentHealthy);
    int64_t desired = kl_int_at(st, 0, KL_F_desiredHealthy);
    int64_t allowed = kl_int_at(st, 0, KL_F_disruptionsAllowed);
    if (!is_ready(pod) &&
        (kl_str_eqz(kl_text_at(&b->root, KL_F_spec, KL_F_unhealthyPodEvictionPolicy),
                    "AlwaysAllow") ||
         (healthy >= desired && desired > 0)))
        return 0; // it does not count as healthy: nothing is taken from the budget
    if (kl_int_at(st, 0, KL_F_observedGeneration) <
        kl_int_at(&b->root, 0, KL_F_metadata, KL_F_generation))
        return too_many(
            r, RETRY_S,
            kl_arena_printf(r->arena,
                            "The disruption budget %.*s is still being processed by the server.",
                            KL_PRI(name)));
    if (allowed < 0 || kl_len(kl_get(st, KL_F_disruptedPods)) > DISRUPTED_PODS_MAX) {
        kl_fail_set(r, 403, "Forbidden", "poddisruptionbudget.policy \"%.*s\" is forbidden: %s",
                    KL_PRI(name),
                    allowed < 0 ? "pdb disruptions allowed is negative"
                                : "DisruptedPods map too big - too many evictions not confirmed "
                                  "by PDB controller");
        return KL_EFORBIDDEN;
    }
    if (!allowed)
        return too_many(
            r, 0,
            kl_arena_printf(
                r->arena,
                "The disruption budget %.*s needs %lld healthy pods and has %lld currently",
                KL_PRI(name), (long long)desired, (long long)healthy));
    return r->opts.dry_run ? 0 : take_place(w, kv, b);
}

// Says in a pod that stops by and by why it does; Jobs may not count it as a failure then.
static int say_why(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value c = kl_new_struct();
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    struct kl_value *list = kl_edit(a, st, KL_F_conditions, KL_ARRAY);
    const struct kl_value *was = kl_condition_find(list, "DisruptionTarget");
    int64_t since = kl_wall_ms() / 1000 * 1000000;
    if (was && kl_str_eqz(kl_text(kl_get(was, KL_F_status)), "True"))
        since = kl_int_or(kl_get(was, KL_F_lastTransitionTime), since);
    int rc = kl_set(a, &c, KL_F_type, kl_stringz("DisruptionTarget"));
    rc |= kl_set(a, &c, KL_F_status, kl_stringz("True"));
    rc |= kl_set(a, &c, KL_F_lastTransitionTime, kl_time(since));
    rc |= kl_set(a, &c, KL_F_reason, kl_stringz("EvictionByEvictionAPI"));
    rc |= kl_set(a, &c, KL_F_message, kl_stringz("Eviction API: evicting"));
    if (!list || rc)
        return kl_fail_oom(r), KL_ENOMEM;
    kl_condition_put(a, list, c);
    return KL_WRITE_PUT;
}

static int transform_evict(struct kl_write *w, struct kl_object *stored, struct kl_value *draft)
{
    int rc = stored && !is_exempt(&stored->root) ? ask_budget(w, &stored->root) : 0;
    rc = rc ? rc : kl_delete_transform(w, stored, draft);
    return rc == KL_WRITE_PUT ? say_why(w->r, draft) : rc;
}

static void finish_evict(struct kl_write *w, struct kl_object *now)
{
    (void)now;
    kl_req_ok_success(w->r, 201);
}

struct eviction {
    struct kl_write w;
    struct kl_admit ad;
    struct kl_value sent;
};

static void admitted(struct kl_admit *ad)
{
    struct eviction *e = KL_CONTAINER_OF(ad, struct eviction, ad);
    struct kl_req *r = ad->r;
    struct kl_str key = kl_object_key(r->arena, r->info.res, r->info.ns, r->info.name);
    if (kl_req_delete_options(r, kl_get(&e->sent, KL_F_deleteOptions)) || !key.p) {
        if (!r->fail.http)
            kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    // What deletes the pod was admitted as an eviction.
    e->w = (struct kl_write){.r = r,
                             .res = r->info.res,
                             .key = key,
                             .transform = transform_evict,
                             .finish = finish_evict};
    kl_write_start(&e->w);
}

void kl_eviction_run(struct kl_req *r)
{
    struct kl_error err = {0};
    struct eviction *e = KL_ARENA_NEW(r->arena, struct eviction);
    if (!e) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return;
    }
    if (kl_body_decode(r, r->info.subres->type, r->info.res, &e->sent, &err)) {
        kl_fail_err(r, &err);
        kl_req_fail(r);
        return;
    }
    if (kl_meta_take_namespace(r, &e->sent)) {
        kl_req_fail(r);
        return;
    }
    if (!kl_str_eq(kl_meta_name(&e->sent), r->info.name)) {
        kl_fail_bad(r, "name in URL does not match name in Eviction object");
        kl_req_fail(r);
        return;
    }
    kl_admit_init(&e->ad, r, KL_ADMIT_CREATE);
    kl_admit_own_kind(&e->ad, r->info.subres->type, "policy/v1", "Eviction");
    e->ad.draft = &e->sent;
    kl_admit_run(&e->ad, admitted);
}
