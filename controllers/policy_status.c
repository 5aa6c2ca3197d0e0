// SPDX-License-Identifier: Apache-2.0
// What is wrong with the expressions of ValidatingAdmissionPolicies, in their status (upstream:
// pkg/controller/validatingadmissionpolicystatus). Each generation is looked at once. Definitions
// of custom kinds that it matches are fetched before and kept for that look alone; the one of its
// parameters, of which only the kind is known, is looked for among all.
#include "controllers/controllers_int.h"
#include "object/cel/typecheck.h"
#include <stdlib.h>

enum { CHECK_BYTES = 256 << 20, FETCHES_MAX = 4, BUSY_MS = 200, PAGE = 16 };

// The definitions for one look at a policy, one after the other.
struct fetch {
    struct statuses *c; // NULL: it stopped
    struct fetch *next;
    struct kl_arena arena;
    struct kl_str key; // the policy
    int64_t generation;
    struct kl_str *names;
    size_t n, at;
    bool has_param; // of this kind; its definition was not found yet
    struct kl_str group, kind, cont;
    struct kl_call call;
    bool ready;
    const struct kl_value *roots[KL_POLICY_CUSTOM_MAX + 1];
    struct kl_object *objects[KL_POLICY_CUSTOM_MAX + 1];
    size_t nobjects;
};

struct statuses {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *policies;
    struct kl_handler handler;
    struct fetch *fetches;
    size_t nfetches;
};

static const struct kl_resource *policies_res(void)
{
    return kl_res(KL_RES_admissionregistration_v1_validatingadmissionpolicies);
}

// The draft with the status of its generation; the warnings' text is copied into the plan.
static int set_status(struct kl_plan *p, struct kl_value *draft, const struct kl_value *warnings,
                      int64_t generation)
{
    struct kl_arena *a = &p->arena;
    struct kl_value list, checking = kl_new_struct();
    if (kl_copy(a, warnings, &list) ||
        (list.n && kl_set(a, &checking, KL_F_expressionWarnings, list)))
        return KL_ENOMEM;
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    return !st || kl_set(a, st, KL_F_typeChecking, checking) ||
                   kl_set(a, st, KL_F_observedGeneration, kl_int(generation))
               ? KL_ENOMEM
               : 0;
}

// ---- definitions

static void free_fetch(struct fetch *f)
{
    for (size_t i = 0; i < f->nobjects; i++)
        kl_object_unref(f->objects[i]);
    kl_arena_fini(&f->arena);
    free(f);
}

static struct fetch **find_fetch(struct statuses *c, struct kl_str key)
{
    struct fetch **at = &c->fetches;
    while (*at && !kl_str_eq((*at)->key, key))
        at = &(*at)->next;
    return at;
}

// What was fetched for it is of no use any more; what is under way ends later.
static void drop_fetch(struct statuses *c, struct kl_str key)
{
    struct fetch **at = find_fetch(c, key), *f = *at;
    if (!f || !f->ready)
        return;
    *at = f->next;
    c->nfetches--;
    free_fetch(f);
}

static void take(struct fetch *f, struct kl_object *definition)
{
    f->objects[f->nobjects] = kl_object_ref(definition);
    f->roots[f->nobjects] = &f->objects[f->nobjects]->root;
    f->nobjects++;
    if (f->has_param && kl_policy_is_param(&definition->root, f->group, f->kind))
        f->has_param = false;
}

static void on_listed(struct kl_call *call);
static void fetch_next(struct fetch *f);

static void on_page(struct kl_call *call)
{
    struct fetch *f = call->arg;
    f->cont = kl_arena_dup(&f->arena, call->list_continue);
    for (size_t i = 0; i < call->n_items && f->has_param; i++)
        if (kl_policy_is_param(&call->items[i]->root, f->group, f->kind))
            take(f, call->items[i]);
    if (call->err.code || !f->cont.n)
        f->has_param = false; // it is a kind that nobody knows
    kl_call_fini(call);
    if (f->c)
        fetch_next(f);
    else
        free_fetch(f);
}

static void fetch_next(struct fetch *f)
{
    struct kl_str selector = {NULL, 0};
    bool by_name = f->at < f->n;
    if (by_name)
        selector = kl_arena_printf(&f->arena, "metadata.name=%.*s", KL_PRI(f->names[f->at]));
    if (by_name ? !selector.p : !f->has_param) { // no memory for it, or all have been asked for
        f->ready = true;
        kl_reconciler_add(f->c->reconciler, f->key);
        return;
    }
    f->at++;
    f->call = (struct kl_call){.verb = KL_VERB_LIST,
                               .res = kl_res(KL_RES_apiextensions_v1_customresourcedefinitions),
                               .field_selector = selector,
                               .cont = f->cont,
                               .limit = by_name ? 1 : PAGE,
                               .done_cb = by_name ? on_listed : on_page,
                               .arg = f};
    kl_client_start(f->c->env.lister, &f->call);
}

static void on_listed(struct kl_call *call)
{
    struct fetch *f = call->arg;
    if (!call->err.code && call->n_items == 1) // else it is a kind that nobody knows
        take(f, call->items[0]);
    kl_call_fini(call);
    if (f->c)
        fetch_next(f);
    else
        free_fetch(f);
}

// 1: what the policy needs is there, in *ret (NULL: it needs nothing). 0: later.
static int definitions_of(struct statuses *c, struct kl_plan *p, const struct kl_value *policy,
                          int64_t generation, struct fetch **ret)
{
    struct fetch *f = *find_fetch(c, p->key);
    struct kl_str *names, group, kind;
    size_t n;
    *ret = f;
    if (f && !f->ready)
        return 0;
    if (f && f->generation == generation)
        return 1;
    drop_fetch(c, p->key);
    *ret = NULL;
    if (kl_policy_customs(&p->arena, policy, &names, &n))
        return KL_ENOMEM;
    bool has_param = kl_policy_param(policy, &group, &kind);
    if (!n && !has_param)
        return 1;
    if (c->nfetches == FETCHES_MAX) {
        kl_plan_requeue(p, BUSY_MS);
        return 0;
    }
    if (!(f = calloc(1, sizeof *f)))
        return KL_ENOMEM;
    kl_arena_init(&f->arena, 1 << 20);
    f->c = c;
    f->generation = generation;
    f->key = kl_arena_dup(&f->arena, p->key);
    f->has_param = has_param;
    if (has_param) {
        f->group = kl_arena_dup(&f->arena, group);
        f->kind = kl_arena_dup(&f->arena, kind);
    }
    f->names = kl_arena_alloc(&f->arena, (n + 1) * sizeof *f->names);
    for (size_t i = 0; f->names && i < n; i++)
        f->names[f->n++] = kl_arena_dup(&f->arena, names[i]);
    if (!f->key.p || !f->names || (n && !f->names[n - 1].p) || (has_param && !f->kind.p)) {
        free_fetch(f);
        return KL_ENOMEM;
    }
    f->next = c->fetches;
    c->fetches = f;
    c->nfetches++;
    fetch_next(f);
    return 0;
}

// ---- policies

static void decide(struct kl_plan *p)
{
    struct statuses *c = p->arg;
    struct fetch *f = NULL;
    struct kl_object *policy = kl_informer_get_key(c->policies, p->key);
    struct kl_value warnings;
    struct kl_arena a;
    if (!policy) {
        drop_fetch(c, p->key);
        return;
    }
    int64_t generation = kl_int_at(&policy->root, 0, KL_F_metadata, KL_F_generation);
    if (generation <= kl_int_at(&policy->root, 0, KL_F_status, KL_F_observedGeneration)) {
        drop_fetch(c, p->key);
        return;
    }
    int there = definitions_of(c, p, &policy->root, generation, &f);
    if (there <= 0) {
        if (there)
            kl_error_set(&p->err, there, "out of memory");
        return;
    }
    kl_arena_init(&a, CHECK_BYTES);
    uint32_t stamp = (uint32_t)(kl_timers_wall_us(c->env.timers) % 1000000 * 1000);
    struct kl_value draft = kl_object_draft(kl_plan_hold(p, policy));
    int rc = kl_policy_typecheck(&a, &policy->root, f ? f->roots : NULL, f ? f->nobjects : 0, stamp,
                                 &warnings);
    if (!rc)
        rc = set_status(p, &draft, &warnings, generation);
    kl_arena_fini(&a);
    drop_fetch(c, p->key);
    if (rc) {
        kl_error_set(&p->err, rc, "out of memory");
        return;
    }
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, policies_res(), "status", &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void on_add(struct kl_handler *h, struct kl_object *policy)
{
    struct statuses *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &policy->root);
}

static void on_update(struct kl_handler *h, struct kl_object *old, struct kl_object *policy)
{
    (void)old;
    on_add(h, policy);
}

static void stop(void *self)
{
    struct statuses *c = self;
    if (c->policies)
        kl_informer_remove_handler(c->policies, &c->handler);
    kl_reconciler_free(c->reconciler);
    for (struct fetch *f = c->fetches, *next; f; f = next) {
        next = f->next;
        f->c = NULL;
        if (f->ready)
            free_fetch(f);
        else
            kl_client_cancel(c->env.lister, &f->call); // on_listed comes later
    }
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct statuses *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "policy status controller: out of memory");
    c->env = *env;
    c->policies = kl_informers_get(env->informers, policies_res());
    c->reconciler =
        kl_reconciler_new(&(struct kl_reconciler_opts){.name = "validatingadmissionpolicy-status",
                                                       .client = env->client,
                                                       .timers = env->timers,
                                                       .recorder = env->recorder,
                                                       .decide = decide,
                                                       .arg = c});
    if (!c->policies || !c->reconciler || kl_reconciler_needs(c->reconciler, c->policies) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "policy status controller: out of memory");
    }
    c->handler = (struct kl_handler){.add = on_add, .update = on_update, .arg = c};
    kl_informer_add_handler(c->policies, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    const struct statuses *c = self;
    return !c->fetches && kl_reconciler_idle(c->reconciler);
}

const struct kl_controller kl_policy_status_controller = {
    .name = "validatingadmissionpolicy-status-controller",
    .user = "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller",
    .component = "validatingadmissionpolicy-status-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
