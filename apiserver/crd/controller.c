// SPDX-License-Identifier: Apache-2.0
// The controllers of apiextensions-apiserver: names and conditions of definitions, and their end.
// Every server runs them on its first loop; what two of them write at the same time is the same,
// and the slower one meets a conflict.
//
//   definition ─┬─ names, conditions ─▶ status
//               └─ deleted: Terminating ─▶ instances deleted ─▶ none left ─▶ finalizer removed
#include "apiserver/crd/crd.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/reconciler.h"
#include "store/view.h"
#include "watchcache/filter.h"
#include <stdlib.h>

enum { WORKERS = 16, NAMESPACES_MAX = 1024, POLL_MS = 300, SLOW_POLL_MS = 5000, PATIENCE_S = 60 };

#define FINALIZER "customresourcecleanup.apiextensions.k8s.io"

struct kl_crd_controller {
    struct kl_apiserver *srv;
    struct kl_api_loop *al;
    struct kl_client *client;
    struct kl_timers *timers;
    struct kl_reconciler *reconciler;
    struct attempt *running; // whose names are as good as taken
};

// One plan's state.
struct attempt {
    struct kl_value crd; // draft
    struct kl_action *write;
    struct kl_custom_family *family; // of the instances that go
    struct attempt *next, **pprev;
    int64_t now_us;
};

static const struct kl_resource *definitions(void)
{
    return kl_res(KL_RES_apiextensions_v1_customresourcedefinitions);
}

static struct kl_str group_of(struct kl_str name)
{
    ptrdiff_t dot = kl_str_chr(name, '.');
    return dot < 0 ? KL_STR("") : kl_str_from(name, (size_t)dot + 1);
}

static void plan_status(struct kl_plan *p, struct attempt *x)
{
    x->write = kl_plan_write(p, KL_VERB_UPDATE, definitions(), "status", &x->crd);
    if (x->write) // changed or gone meanwhile: it comes again
        x->write->ok_errors = KL_OK_ERROR(KL_ENOTFOUND) | KL_OK_ERROR(KL_ECONFLICT);
}

// ---- names and conditions

static int collect_names(struct kl_crd_controller *c, struct kl_str group, struct kl_crd_names *n)
{
    const struct kl_crd *crd;
    struct kl_kv *kv;
    int rc = 0;
    for (size_t it = 0; !rc && kl_crds_next(c->al, &it, &kv, &crd);)
        if (crd->plain && kl_str_eqz(group, crd->plain->rows[0].group))
            rc = kl_crd_names_add(n, &crd->plain->rows[0]);
    for (struct attempt *x = c->running; x && !rc; x = x->next)
        if (kl_str_eq(group, kl_text_at(&x->crd, KL_F_spec, KL_F_group)))
            rc = kl_crd_names_take(n, kl_path(&x->crd, KL_F_status, KL_F_acceptedNames));
    return rc;
}

static void decide_names(struct kl_plan *p, struct attempt *x)
{
    struct kl_crd_controller *c = p->arg;
    struct kl_crd_names names;
    kl_crd_names_init(&names);
    int rc = collect_names(c, group_of(p->key), &names);
    if (!rc)
        rc = kl_crd_conditions(&p->arena, &x->crd, &names, x->now_us);
    kl_crd_names_fini(&names);
    if (rc < 0) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    if (!rc)
        return;
    plan_status(p, x);
}

// ---- the end of a definition

static int64_t count(struct kl_crd_controller *c, const struct attempt *x)
{
    struct kl_filter f = {.res = x->family->storage};
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str prefix = kl_filter_prefix(&a, &f);
    char *mem = prefix.p ? kl_arena_alloc(&a, prefix.n + 1) : NULL;
    int64_t n =
        mem ? kl_view_count(kl_reader_view(c->al->reader), prefix, kl_prefix_end(prefix, mem)) : -1;
    kl_arena_fini(&a);
    return n;
}

static void end_definition(struct kl_plan *p, struct attempt *x, const char *reason,
                           const char *message)
{
    struct kl_arena *a = &p->arena;
    struct kl_value kept = kl_new_array();
    kl_crd_set_condition(a, &x->crd, "Terminating", false, reason, kl_str(message), x->now_us);
    for (KL_EACH(f, kl_path(&x->crd, KL_F_metadata, KL_F_finalizers)))
        if (!kl_str_eqz(kl_text(f), FINALIZER))
            kl_append(a, &kept, *f);
    struct kl_value *m = kl_edit(a, &x->crd, KL_F_metadata, KL_STRUCT);
    if (!m || kl_set(a, m, KL_F_finalizers, kept)) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    kl_plan_next_group(p);
    plan_status(p, x);
}

static void after_deletes(struct kl_plan *p)
{
    struct kl_crd_controller *c = p->arg;
    struct attempt *x = p->state;
    int64_t since = x->now_us - kl_int_at(&x->crd, 0, KL_F_metadata, KL_F_deletionTimestamp);
    bool slow = since > PATIENCE_S * 1000000;
    int changed = 0;
    if (p->err.code) {
        struct kl_str why =
            kl_arena_printf(&p->arena, "could not issue all deletes: %s", p->err.msg);
        changed = kl_crd_set_condition(&p->arena, &x->crd, "Terminating", true,
                                       "InstanceDeletionFailed", why, x->now_us);
    } else if (!count(c, x)) {
        end_definition(p, x, "InstanceDeletionCompleted", "removed all instances");
        return;
    } else {
        kl_plan_requeue(p, slow ? SLOW_POLL_MS : POLL_MS);
        if (slow)
            changed = kl_crd_set_condition(
                &p->arena, &x->crd, "Terminating", true, "InstanceDeletionCheck",
                KL_STR("could not confirm zero CustomResources remaining: context deadline "
                       "exceeded"),
                x->now_us);
    }
    if (changed > 0) {
        kl_plan_next_group(p);
        plan_status(p, x);
    }
}

// A deletion of all for each namespace that has any, as there is none over namespaces.
static void plan_deletes(struct kl_plan *p, struct attempt *x)
{
    struct kl_crd_controller *c = p->arg;
    const struct kl_resource *res = x->family->storage;
    struct kl_filter f = {.res = res};
    struct kl_str prefix = kl_filter_prefix(&p->arena, &f), last = {NULL, 0};
    char *mem = prefix.p ? kl_arena_alloc(&p->arena, prefix.n + 1) : NULL;
    struct kl_iter it;
    struct kl_kv *kv;
    size_t n = 0;
    if (!mem)
        return;
    kl_iter_init(&it, kl_reader_view(c->al->reader), prefix, kl_prefix_end(prefix, mem));
    while ((kv = kl_iter_next(&it)) && n < NAMESPACES_MAX) {
        struct kl_str rest = kl_str_from(kl_kv_key(kv), prefix.n), ns = KL_STR("");
        if (res->namespaced)
            kl_str_split(&rest, '/', &ns);
        if (last.p && kl_str_eq(ns, last))
            continue;
        last = kl_arena_dup(&p->arena, ns);
        if (!kl_plan_call(p, KL_VERB_DELETECOLLECTION, res, NULL, last, KL_STR("")) || !last.p)
            return;
        n++;
    }
    p->then = after_deletes;
}

static bool overlaps_builtin(const struct kl_value *crd)
{
    struct kl_str group = kl_text_at(crd, KL_F_spec, KL_F_group);
    struct kl_str plural = kl_text_at(crd, KL_F_spec, KL_F_names, KL_F_plural);
    return (kl_str_eqz(group, "apiregistration.k8s.io") && kl_str_eqz(plural, "apiservices")) ||
           (kl_str_eqz(group, "apiextensions.k8s.io") &&
            kl_str_eqz(plural, "customresourcedefinitions"));
}

static void after_mark(struct kl_plan *p)
{
    struct kl_crd_controller *c = p->arg;
    struct attempt *x = p->state;
    struct kl_error err = {0};
    struct kl_kv *kv;
    if (p->err.code || (x->write && !x->write->call.object))
        return;
    if (x->write) // the newest version is what is written next
        x->crd = kl_object_draft(x->write->call.object);
    if (overlaps_builtin(&x->crd)) {
        end_definition(p, x, "OverlappingBuiltInResource",
                       "instances overlap with built-in resources in storage");
        return;
    }
    if (!kl_crd_condition_is_true(&x->crd, "Established")) {
        end_definition(p, x, "NeverEstablished", "resource was never established");
        return;
    }
    const struct kl_crd *crd = kl_crds_get(c->al, p->key, &kv);
    if (!crd)
        return;
    x->family = kl_crd_compiled(crd, kv, &err);
    if (!x->family)
        kl_error_set(&p->err, KL_EINTERNAL, "could not list instances: %s", err.msg);
    else if (!count(c, x))
        end_definition(p, x, "InstanceDeletionCompleted", "removed all instances");
    else
        plan_deletes(p, x);
}

static void decide_end(struct kl_plan *p, struct attempt *x)
{
    bool ours = false;
    for (KL_EACH(f, kl_path(&x->crd, KL_F_metadata, KL_F_finalizers)))
        ours |= kl_str_eqz(kl_text(f), FINALIZER);
    if (!ours)
        return;
    p->then = after_mark;
    if (kl_crd_set_condition(&p->arena, &x->crd, "Terminating", true, "InstanceDeletionInProgress",
                             KL_STR("CustomResource deletion is in progress"), x->now_us) > 0)
        plan_status(p, x);
}

// ---- the queue

static void enlist(struct kl_crd_controller *c, struct attempt *x)
{
    x->next = c->running;
    x->pprev = &c->running;
    if (x->next)
        x->next->pprev = &x->next;
    c->running = x;
}

static void delist(struct attempt *x)
{
    *x->pprev = x->next;
    if (x->next)
        x->next->pprev = x->pprev;
    kl_custom_family_unref(x->family);
    x->family = NULL;
}

// A name may have become free: others of the group that wait for one try again.
static void look_at_others(struct kl_crd_controller *c, struct kl_str name)
{
    struct kl_str group = group_of(name), others[64];
    const struct kl_crd *crd;
    struct kl_kv *kv;
    size_t n = 0;
    for (size_t it = 0; n < KL_COUNT(others) && kl_crds_next(c->al, &it, &kv, &crd);) {
        struct kl_str other = kl_str_from(kl_kv_key(kv), sizeof KL_CRD_PREFIX - 1);
        if (!crd->accepted && kl_str_eq(group_of(other), group) && !kl_str_eq(other, name))
            others[n++] = other;
    }
    for (size_t i = 0; i < n; i++)
        kl_reconciler_add(c->reconciler, others[i]);
}

static void decide(struct kl_plan *p)
{
    struct kl_crd_controller *c = p->arg;
    struct kl_error err = {0};
    struct kl_kv *kv;
    const struct kl_crd *crd = kl_crds_get(c->al, p->key, &kv);
    if (!crd) {
        look_at_others(c, p->key);
        return;
    }
    struct kl_object *o = kl_cache_object(kv, definitions(), &err);
    struct attempt *x = o ? KL_ARENA_NEW(&p->arena, struct attempt) : NULL;
    if (!x) {
        kl_error_set(&p->err, KL_ENOMEM, "%s", o ? "out of memory" : err.msg);
        return;
    }
    kl_plan_hold(p, o);
    p->state = x;
    x->crd = kl_object_draft(o);
    x->now_us = kl_wall_ms() / 1000 * 1000000;
    enlist(c, x);
    if (kl_meta_deleting(&o->root))
        decide_end(p, x);
    else
        decide_names(p, x);
}

static void ended(struct kl_plan *p)
{
    struct attempt *x = p->state;
    if (!x)
        return;
    delist(x);
    if (p->err.code)
        kl_log(KL_LOG_WARN, "crd", "definition=%.*s: %s", KL_PRI(p->key), p->err.msg);
    else if (x->write && x->write->call.object && kl_meta_deleting(&x->crd) == false)
        look_at_others(p->arg, p->key);
}

void kl_crd_controller_look(struct kl_crd_controller *c, struct kl_str name)
{
    kl_reconciler_add(c->reconciler, name);
}

int kl_crd_controller_start(struct kl_apiserver *s, struct kl_error *err)
{
    static const char *const groups[] = {"system:masters", NULL};
    struct kl_crd_controller *c = calloc(1, sizeof *c);
    const struct kl_crd *crd;
    struct kl_kv *kv;
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->srv = s;
    c->al = &s->loops[0];
    s->crd_controller = c;
    c->client = kl_apiserver_client(s, c->al->loop, "system:apiserver", groups, "kube-apiserver");
    if (!c->client || kl_timers_new(c->al->loop, &c->timers, err))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "crd",
                                                                   .client = c->client,
                                                                   .timers = c->timers,
                                                                   .workers = WORKERS,
                                                                   .decide = decide,
                                                                   .ended = ended,
                                                                   .arg = c});
    if (!c->reconciler)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (size_t it = 0; kl_crds_next(c->al, &it, &kv, &crd);)
        kl_crd_controller_look(c, kl_str_from(kl_kv_key(kv), sizeof KL_CRD_PREFIX - 1));
    kl_reconciler_start(c->reconciler);
    return 0;
}

void kl_crd_controller_stop(struct kl_apiserver *s)
{
    struct kl_crd_controller *c = s->crd_controller;
    if (!c)
        return;
    s->crd_controller = NULL;
    while (c->running) // plans that are cut off do not end
        delist(c->running);
    kl_reconciler_free(c->reconciler);
    kl_timers_free(c->timers);
    kl_client_free(c->client);
    free(c);
}
