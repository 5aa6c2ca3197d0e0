// SPDX-License-Identifier: Apache-2.0
// What is configured, per loop: the objects of admissionregistration.k8s.io, each compiled when it
// is first looked at and kept until it changes. And the order of a request's way through them.
#include "apiserver/admission/hooks_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/apply/managed.h"
#include "watchcache/filter.h"
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS = 32, UNIT_BYTES = 64 << 20 };

static const uint16_t rows[KL_UNITS] = {
    [KL_UNIT_MAP] = KL_RES_admissionregistration_v1_mutatingadmissionpolicies,
    [KL_UNIT_MAP_BINDING] = KL_RES_admissionregistration_v1_mutatingadmissionpolicybindings,
    [KL_UNIT_MUTATING_WEBHOOKS] = KL_RES_admissionregistration_v1_mutatingwebhookconfigurations,
    [KL_UNIT_VAP] = KL_RES_admissionregistration_v1_validatingadmissionpolicies,
    [KL_UNIT_VAP_BINDING] = KL_RES_admissionregistration_v1_validatingadmissionpolicybindings,
    [KL_UNIT_VALIDATING_WEBHOOKS] = KL_RES_admissionregistration_v1_validatingwebhookconfigurations,
};

struct kl_hooks {
    struct kl_watch watch[2]; // of what mutates, of what validates
    bool watching;
    kl_rev rev;             // the set is right for this revision
    bool dirty;             // it has to be built anew
    bool known;             // it was built once
    bool told;              // that something cannot be read
    struct kl_hookset *set; // NULL: nothing is configured
};

// ---- units

static void unit_unref(struct kl_unit *u)
{
    if (!u || --u->refs)
        return;
    for (size_t i = 0; i < u->nhooks; i++) {
        for (size_t k = 0; k < u->hooks[i].nconditions; k++)
            kl_expr_fini(&u->hooks[i].conditions[k]);
        kl_webhook_free(u->hooks[i].client);
    }
    kl_policy_free(u);
    kl_exprs_fini(&u->exprs);
    kl_kv_unref(u->kv);
    kl_arena_fini(&u->arena);
    free(u);
}

static struct kl_unit *unit_new(enum kl_unit_kind kind, struct kl_kv *kv, struct kl_error *err)
{
    struct kl_object *o = kl_cache_object(kv, kl_res(rows[kind]), err);
    struct kl_unit *u = o ? calloc(1, sizeof *u) : NULL;
    if (!u)
        return NULL;
    *u = (struct kl_unit){.refs = 1, .kind = kind, .kv = kl_kv_ref(kv), .object = o};
    u->name = kl_meta_name(&o->root);
    kl_arena_init(&u->arena, UNIT_BYTES);
    if (kind == KL_UNIT_MAP_BINDING || kind == KL_UNIT_VAP_BINDING)
        u->policy_name = kl_text_at(&o->root, KL_F_spec, KL_F_policyName);
    return u;
}

static int prepare_hook(struct kl_unit *u, const struct kl_value *spec, struct kl_hook *h)
{
    static const char *const boolean[] = {"bool", NULL};
    const struct kl_value *list = kl_get(spec, KL_F_matchConditions);
    struct kl_str effects = kl_text(kl_get(spec, KL_F_sideEffects));
    *h =
        (struct kl_hook){.spec = spec, .config = u->name, .name = kl_text(kl_get(spec, KL_F_name))};
    kl_match_init(&h->match, &u->arena, spec, kl_get(spec, KL_F_rules));
    h->ignore = kl_str_eqz(kl_text(kl_get(spec, KL_F_failurePolicy)), "Ignore");
    h->if_needed = kl_str_eqz(kl_text(kl_get(spec, KL_F_reinvocationPolicy)), "IfNeeded");
    h->dry_run = kl_str_eqz(effects, "None") || kl_str_eqz(effects, "NoneOnDryRun");
    h->timeout_ms = (uint32_t)kl_int_or(kl_get(spec, KL_F_timeoutSeconds), 10) * 1000;
    for (KL_EACH(v, kl_get(spec, KL_F_admissionReviewVersions)))
        if (!h->review)
            h->review = kl_str_eqz(kl_text(v), "v1")        ? 1
                        : kl_str_eqz(kl_text(v), "v1beta1") ? 2
                                                            : 0;
    if (kl_len(list) &&
        !(h->conditions = kl_arena_zalloc(&u->arena, kl_len(list) * sizeof *h->conditions)))
        return KL_ENOMEM;
    for (KL_EACH(c, list)) {
        int rc = kl_expr_compile(&u->exprs, KL_ENV_FULL, kl_text(kl_get(c, KL_F_name)),
                                 kl_text(kl_get(c, KL_F_expression)), boolean,
                                 &h->conditions[h->nconditions]);
        if (rc)
            return rc;
        h->nconditions++;
    }
    return 0;
}

static int prepare_webhooks(struct kl_unit *u)
{
    const struct kl_value *list = kl_get(&u->object->root, KL_F_webhooks);
    int rc = kl_exprs_init(&u->exprs, &u->arena, false, false, NULL);
    if (rc || !kl_len(list))
        return rc;
    if (!(u->hooks = kl_arena_zalloc(&u->arena, kl_len(list) * sizeof *u->hooks)))
        return KL_ENOMEM;
    for (KL_EACH(spec, list))
        if ((rc = prepare_hook(u, spec, &u->hooks[u->nhooks++])))
            return rc;
    return 0;
}

// ---- sets

void kl_hookset_unref(struct kl_hookset *s)
{
    if (!s || --s->refs)
        return;
    for (int k = 0; k < KL_UNITS; k++) {
        for (size_t i = 0; i < s->n[k]; i++)
            unit_unref(s->units[k][i]);
        free(s->units[k]);
    }
    free(s);
}

static struct kl_unit *find_unit(const struct kl_hookset *s, enum kl_unit_kind kind,
                                 const struct kl_kv *kv)
{
    for (size_t i = 0; s && i < s->n[kind]; i++)
        if (s->units[kind][i]->kv == kv ||
            (s->units[kind][i]->kv->mod_rev == kv->mod_rev &&
             kl_str_eq(kl_kv_key(s->units[kind][i]->kv), kl_kv_key(kv))))
            return s->units[kind][i];
    return NULL;
}

// The object as it was when last it could be read; NULL: it never could.
static struct kl_unit *find_last(const struct kl_hookset *s, enum kl_unit_kind kind,
                                 const struct kl_kv *kv)
{
    for (size_t i = 0; s && i < s->n[kind]; i++)
        if (kl_str_eq(kl_kv_key(s->units[kind][i]->kv), kl_kv_key(kv)))
            return s->units[kind][i];
    return NULL;
}

static int add_unit(struct kl_hookset *s, enum kl_unit_kind kind, struct kl_unit *u)
{
    if (!(s->n[kind] & (s->n[kind] - 1))) { // a power of two: full
        size_t cap = s->n[kind] ? 2 * s->n[kind] : 1;
        struct kl_unit **grown = realloc(s->units[kind], cap * sizeof(struct kl_unit *));
        if (!grown)
            return KL_ENOMEM;
        s->units[kind] = grown;
    }
    s->units[kind][s->n[kind]++] = u;
    return 0;
}

// What cannot be read counts as it was before; upstream's informers keep what they have, too.
static int add_kind(struct kl_hookset *s, const struct kl_hooks *h, enum kl_unit_kind kind,
                    const struct kl_view *view, struct kl_error *err)
{
    char buf[160], end[160];
    int n = snprintf(buf, sizeof buf, "%s/", kl_res(rows[kind])->etcd_prefix);
    struct kl_str prefix = {buf, (size_t)n};
    struct kl_iter it;
    struct kl_kv *kv;
    kl_iter_init(&it, view, prefix, kl_prefix_end(prefix, end));
    while ((kv = kl_iter_next(&it))) {
        struct kl_error why = {0};
        struct kl_unit *u = find_unit(h->set, kind, kv);
        if (u) {
            u->refs++;
        } else if ((u = unit_new(kind, kv, &why))) {
            bool webhooks =
                kind == KL_UNIT_MUTATING_WEBHOOKS || kind == KL_UNIT_VALIDATING_WEBHOOKS;
            if (webhooks && prepare_webhooks(u)) {
                unit_unref(u);
                return KL_ENOMEM;
            }
        } else if (why.code && why.code != KL_ENOMEM) {
            *err = why;
            if (!h->known)
                return why.code;
            if (!(u = find_last(h->set, kind, kv)))
                continue;
            u->refs++;
        }
        if (!u || add_unit(s, kind, u)) {
            unit_unref(u);
            return KL_ENOMEM;
        }
    }
    return 0;
}

// The set of a view. When it cannot be made (memory; an object that cannot be read, and none was
// made before) it is tried again with the next request. err says what could not be read.
static int rebuild(struct kl_hooks *h, const struct kl_view *view, struct kl_error *err)
{
    struct kl_hookset *s = calloc(1, sizeof *s);
    size_t n = 0;
    int rc = s ? 0 : KL_ENOMEM;
    if (s)
        s->refs = 1;
    for (int k = 0; k < KL_UNITS && !rc; k++) {
        rc = add_kind(s, h, k, view, err);
        n += s->n[k];
    }
    if (rc || !n) {
        kl_hookset_unref(s);
        s = NULL;
    }
    if (rc)
        return rc;
    kl_hookset_unref(h->set);
    h->set = s;
    h->known = true;
    h->dirty = false;
    return 0;
}

// ---- the loop's

static void on_changed(struct kl_watch *w)
{
    // What there is to read is read by the next write.
}

// The three kinds that mutate stand side by side in the store, as do those that validate:
// policies, their bindings, webhooks.
static void watch(struct kl_api_loop *al, struct kl_hooks *h)
{
    static const enum kl_unit_kind from[2] = {KL_UNIT_MAP, KL_UNIT_VAP};
    static const enum kl_unit_kind to[2] = {KL_UNIT_MUTATING_WEBHOOKS, KL_UNIT_VALIDATING_WEBHOOKS};
    struct kl_error err;
    h->watching = true;
    for (int i = 0; i < 2; i++) {
        char a[160], b[160];
        int n = snprintf(a, sizeof a, "%s/", kl_res(rows[from[i]])->etcd_prefix);
        int m = snprintf(b, sizeof b, "%s0", kl_res(rows[to[i]])->etcd_prefix);
        kl_watch_stop(&h->watch[i]);
        h->watch[i] = (struct kl_watch){.wake = on_changed};
        h->watching &= !kl_watch_start(&h->watch[i], al->reader, (struct kl_str){a, (size_t)n},
                                       (struct kl_str){b, (size_t)m}, 0, &err);
    }
    h->dirty = true;
}

static bool see_changes(struct kl_hooks *h, kl_rev rev)
{
    bool exact = true;
    for (int i = 0; i < 2 && h->watching; i++) {
        struct kl_event ev[EVENTS];
        kl_rev seen;
        int n;
        while ((n = kl_watch_next(&h->watch[i], ev, EVENTS)) > 0)
            h->dirty = true;
        if (n < 0)
            h->watching = false; // compacted: begins anew with the next request
        exact = exact && kl_watch_progress(&h->watch[i], &seen) && seen >= rev;
    }
    return exact && h->watching;
}

int kl_hooks_of(struct kl_api_loop *al, struct kl_hookset **ret)
{
    struct kl_hooks *h = al->hooks;
    const struct kl_view *view = kl_reader_view(al->reader);
    kl_rev rev = kl_view_rev(view);
    *ret = NULL;
    if (h && h->rev == rev) {
        *ret = h->set;
        return 0;
    }
    if (!h && !(h = al->hooks = calloc(1, sizeof *h)))
        return KL_ENOMEM;
    if (!h->watching)
        watch(al, h);
    // While the watches are behind the view, they cannot say that nothing has changed.
    bool exact = see_changes(h, rev);
    struct kl_error err = {0};
    bool anew = !exact || h->dirty;
    int rc = anew ? rebuild(h, view, &err) : 0;
    if ((rc || err.code) && !h->told)
        kl_log(KL_LOG_ERROR, "admission", "%s, what is configured cannot be read: %s",
               rc ? "writes are refused" : "what was configured before stays in force",
               err.code ? err.msg : "out of memory");
    if (anew)
        h->told = rc || err.code;
    if (rc) {
        h->dirty = true;
        h->rev = 0;
        return rc;
    }
    h->rev = rev;
    *ret = h->set;
    return 0;
}

void kl_hooks_loop_begin(struct kl_api_loop *al)
{
    struct kl_hookset *ignored;
    kl_hooks_of(al, &ignored); // what goes wrong is said to those who write
}

void kl_hooks_loop_fini(struct kl_api_loop *al)
{
    struct kl_hooks *h = al->hooks;
    if (!h)
        return;
    for (int i = 0; i < 2; i++)
        kl_watch_stop(&h->watch[i]);
    kl_hookset_unref(h->set);
    free(h);
    al->hooks = NULL;
}

// ---- a request's way

static struct kl_hook_run *run_new(struct kl_admit *ad, struct kl_hookset *s)
{
    struct kl_hook_run *run = KL_ARENA_NEW(ad->r->arena, struct kl_hook_run);
    if (!run) {
        kl_fail_oom(ad->r);
        return NULL;
    }
    run->ad = ad;
    run->arena = ad->r->arena;
    run->set = s;
    s->refs++;
    return run;
}

// Owners that a hook has made unreadable are put back as they were
// (fieldmanager.NewManagedFieldsValidatingAdmissionController).
static int mend_owners(struct kl_hook_run *run)
{
    struct kl_req *r = run->ad->r;
    struct kl_error err = {0};
    const struct kl_value *now = kl_path(run->ad->draft, KL_F_metadata, KL_F_managedFields);
    if (!run->ad->draft || kl_value_equal(now, &run->owners) ||
        !kl_managed_check(run->arena, now, &err))
        return 0;
    struct kl_value *m = kl_edit(run->arena, run->ad->draft, KL_F_metadata, KL_STRUCT);
    if (!m ||
        (run->owners.kind == KL_NULL ? kl_unset(run->arena, m, KL_F_managedFields)
                                     : kl_set(run->arena, m, KL_F_managedFields, run->owners)))
        return kl_fail_oom(r), KL_ENOMEM;
    kl_req_warn(r, kl_arena_printf(r->arena,
                                   ".metadata.managedFields was in an invalid state after "
                                   "admission; this could be caused by an outdated mutating "
                                   "admission controller; please fix your requests: %s",
                                   err.msg));
    return 0;
}

static int run_end(struct kl_hook_run *run, int rc)
{
    if (!rc && !run->validating)
        rc = mend_owners(run);
    rc = kl_admit_end(run->ad, run->validating, rc);
    kl_shown_drop(run);
    kl_object_unref(run->left);
    run->left = NULL;
    kl_hookset_unref(run->set);
    return rc;
}

// What plug-ins have made of the object since the hooks saw it last means that all that want to are
// asked again.
static int note_plugin_changes(struct kl_hook_run *run)
{
    struct kl_object *now = kl_object_freeze(run->ad->type, run->ad->draft);
    if (!now)
        return kl_fail_oom(run->ad->r), KL_ENOMEM;
    if (run->left && !kl_value_equal(&now->root, &run->left->root)) {
        for (size_t i = 0; i < run->nhook_state; i++)
            if (run->hook_state[i] & KL_INVOKED)
                run->hook_state[i] = KL_REQUIRED;
        for (size_t i = 0; i < run->npolicy_state; i++)
            if (run->policy_state[i] & KL_INVOKED)
                run->policy_state[i] = KL_REQUIRED;
    }
    kl_object_unref(now);
    return 0;
}

// The first pass is over: is there to be a second? 1: it has begun.
static int begin_again(struct kl_hook_run *run)
{
    struct kl_admit *ad = run->ad;
    int rc;
    if (run->reinvoke || !run->again || !ad->draft)
        return 0;
    if (!(run->left = kl_object_freeze(ad->type, ad->draft)))
        return kl_fail_oom(ad->r), KL_ENOMEM;
    run->reinvoke = true;
    run->unit = run->hook = run->index = 0;
    if ((rc = kl_plugins_mutate(ad, false)))
        return rc;
    kl_shown_drop(run);
    rc = note_plugin_changes(run);
    return rc ? rc : 1;
}

// The webhooks of a pass have been asked, one way or the other.
static int count_asked(struct kl_hook_run *run, int rc)
{
    if (rc != KL_ADMIT_WAIT && run->asked_ns) {
        kl_admit_count_stage(
            run->ad, run->validating ? KL_STAGE_VALIDATING_WEBHOOKS : KL_STAGE_MUTATING_WEBHOOKS,
            run->validating, rc < 0, run->asked_ns);
        run->asked_ns = 0;
    }
    return rc;
}

static int run_stages(struct kl_hook_run *run, enum kl_admit_stage policies,
                      enum kl_admit_stage webhooks)
{
    struct kl_admit *ad = run->ad;
    int rc = 0;
    if (kl_admit_is_on(ad, policies)) {
        int64_t began = kl_mono_ns();
        rc = run->validating ? kl_policies_validate(run) : kl_policies_mutate(run);
        kl_admit_count_stage(ad, policies, run->validating, rc < 0, began);
    }
    if (rc || !kl_admit_is_on(ad, webhooks))
        return rc;
    run->asked_ns = kl_mono_ns();
    return count_asked(run, run->validating ? kl_webhooks_validate(run) : kl_webhooks_mutate(run));
}

static int run_mutating(struct kl_hook_run *run)
{
    return run_stages(run, KL_STAGE_MAP, KL_STAGE_MUTATING_WEBHOOKS);
}

static int mutate_on(struct kl_hook_run *run, int rc)
{
    while (!rc) {
        rc = begin_again(run);
        if (rc != 1)
            return rc ? rc : kl_plugins_mutate(run->ad, true);
        rc = run_mutating(run);
    }
    return rc;
}

void kl_hooks_resume(struct kl_hook_run *run, int rc)
{
    struct kl_admit *ad = run->ad;
    if (count_asked(run, rc) == KL_ADMIT_WAIT)
        return;
    if (run->validating)
        rc = rc ? rc : kl_plugins_validate(ad, true);
    else if ((rc = mutate_on(run, rc)) == KL_ADMIT_WAIT)
        return;
    rc = run_end(run, rc);
    ad->done(ad, rc);
}

int kl_hooks_mutate(struct kl_admit *ad, struct kl_hookset *s)
{
    size_t n = 0;
    struct kl_hook_run *run = run_new(ad, s);
    if (!run)
        return KL_ENOMEM;
    for (size_t i = 0; i < s->n[KL_UNIT_MUTATING_WEBHOOKS]; i++)
        n += s->units[KL_UNIT_MUTATING_WEBHOOKS][i]->nhooks;
    run->nhook_state = n;
    const struct kl_value *owners = kl_path(ad->draft, KL_F_metadata, KL_F_managedFields);
    run->owners = owners ? *owners : kl_null();
    if (!(run->hook_state = kl_arena_zalloc(run->arena, n + 1)))
        return kl_fail_oom(ad->r), run_end(run, KL_ENOMEM);
    int rc = run_mutating(run);
    if (!rc)
        rc = mutate_on(run, 0);
    return rc == KL_ADMIT_WAIT ? rc : run_end(run, rc);
}

static void validate_prepared(void *arg);

static int run_validating(struct kl_hook_run *run)
{
    int rc = kl_shown_prepare(run, validate_prepared);
    return rc ? rc : run_stages(run, KL_STAGE_VAP, KL_STAGE_VALIDATING_WEBHOOKS);
}

static void validate_prepared(void *arg)
{
    struct kl_hook_run *run = arg;
    kl_hooks_resume(run, run_validating(run));
}

int kl_hooks_validate(struct kl_admit *ad, struct kl_hookset *s)
{
    struct kl_hook_run *run = run_new(ad, s);
    if (!run)
        return KL_ENOMEM;
    run->validating = true;
    int rc = run_validating(run);
    if (!rc)
        rc = kl_plugins_validate(ad, true);
    return rc == KL_ADMIT_WAIT ? rc : run_end(run, rc);
}
