// SPDX-License-Identifier: Apache-2.0
// Rolls Deployments out through ReplicaSets (upstream: pkg/controller/deployment).
// The shell: from informers to a view, from events to keys. The decision is in deployment_sync.c.
#include "controllers/controllers_int.h"
#include "controllers/deployment.h"
#include "controllers/pods.h"
#include "object/selector.h"
#include <stdlib.h>

enum { WORKERS = 5, MAX_RETRIES = 15 };

struct deployments {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *deployments, *rs, *pods;
    int by_ns, rs_by_owner, rs_orphans, pods_by_owner;
    struct kl_handler handler, rs_handler, pod_handler;
};

static const struct kl_resource *d_res(void)
{
    return kl_res(KL_RES_apps_v1_deployments);
}

static const struct kl_resource *rs_res(void)
{
    return kl_res(KL_RES_apps_v1_replicasets);
}

static bool has_running_pods(struct deployments *c, const struct kl_value *rs)
{
    size_t n;
    struct kl_entry *const *pods =
        kl_informer_index(c->pods, c->pods_by_owner, kl_meta_uid(rs), &n);
    for (size_t i = 0; i < n; i++) {
        if (!kl_pod_terminal(&pods[i]->object->root))
            return true;
    }
    return false;
}

static void look_at(struct deployments *c, struct kl_plan *p, const struct kl_selector *selector,
                    struct kl_deployment_view *v)
{
    struct kl_arena *a = &p->arena;
    size_t nowned, nfree;
    struct kl_entry *const *owned =
        kl_informer_index(c->rs, c->rs_by_owner, kl_meta_uid(v->d), &nowned);
    struct kl_entry *const *orphans =
        kl_informer_index(c->rs, c->rs_orphans, kl_meta_namespace(v->d), &nfree);
    struct kl_rs *list = kl_arena_alloc(a, (nowned + 1) * sizeof(*list));
    v->rs = kl_arena_alloc(a, (nowned + 1) * sizeof(*v->rs));
    v->strays = kl_arena_alloc(a, (nowned + 1) * sizeof(*v->strays));
    v->orphans = kl_arena_alloc(a, (nfree + 1) * sizeof(*v->orphans));
    if (!list || !v->rs || !v->strays || !v->orphans) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    bool deleting = kl_meta_deleting(v->d);
    for (size_t i = 0; i < nowned; i++) {
        kl_plan_hold(p, owned[i]->object);
        const struct kl_value *root = &owned[i]->object->root;
        if (!kl_selector_matches(selector, kl_meta_labels(root))) {
            if (!deleting)
                v->strays[v->nstrays++] = root;
            continue;
        }
        kl_rs_init(&list[v->nrs], root);
        list[v->nrs].running = has_running_pods(c, root);
        v->rs[v->nrs] = &list[v->nrs];
        v->nrs++;
    }
    for (size_t i = 0; i < nfree && !deleting; i++) {
        const struct kl_value *root = &orphans[i]->object->root;
        if (kl_meta_deleting(root) || !kl_selector_matches(selector, kl_meta_labels(root)))
            continue;
        kl_plan_hold(p, orphans[i]->object);
        v->orphans[v->norphans++] = root;
    }
}

static void decide(struct kl_plan *p)
{
    struct deployments *c = p->arg;
    struct kl_object *d = kl_plan_hold(p, kl_informer_get_key(c->deployments, p->key));
    struct kl_deployment_view *v = d ? KL_ARENA_NEW(&p->arena, struct kl_deployment_view) : NULL;
    struct kl_selector selector;
    if (!v || kl_label_selector_from(&p->arena, kl_path(&d->root, KL_F_spec, KL_F_selector),
                                     &selector, &p->err) < 0)
        return;
    if (selector.n == 0) {
        kl_plan_event(p, d_res(), &d->root, "Warning", "SelectingAll",
                      "This deployment is selecting all pods. A non-empty selector is required.");
        return;
    }
    v->d = &d->root;
    v->now_us = kl_timers_wall_us(c->env.timers);
    look_at(c, p, &selector, v);
    if (!p->err.code)
        kl_deployment_decide(p, v);
}

static void ended(struct kl_plan *p)
{
    const struct kl_deployment_view *v = p->state;
    if (v && v->forget_error)
        p->err.code = 0;
}

static void on_deployment(struct kl_handler *h, struct kl_object *d)
{
    struct deployments *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &d->root);
}

static void on_deployment_update(struct kl_handler *h, struct kl_object *old, struct kl_object *d)
{
    on_deployment(h, d);
}

static struct kl_object *owner_of(struct deployments *c, const struct kl_value *rs)
{
    const struct kl_value *ref = kl_meta_controller(rs);
    if (!ref || !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), d_res()->kind))
        return NULL;
    struct kl_object *d =
        kl_informer_get(c->deployments, kl_meta_namespace(rs), kl_text(kl_get(ref, KL_F_name)));
    return d && kl_str_eq(kl_meta_uid(&d->root), kl_text(kl_get(ref, KL_F_uid))) ? d : NULL;
}

static void tell_owner(struct deployments *c, const struct kl_value *rs)
{
    struct kl_object *d = owner_of(c, rs);
    if (d)
        kl_reconciler_add_object(c->reconciler, &d->root);
}

static void offer_orphan(struct deployments *c, const struct kl_value *rs)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->deployments, c->by_ns, kl_meta_namespace(rs), &n);
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *d = &list[i]->object->root;
        struct kl_selector selector;
        kl_arena_reset(&a);
        if (kl_label_selector_from(&a, kl_path(d, KL_F_spec, KL_F_selector), &selector, NULL) ==
                0 &&
            selector.n && kl_selector_matches(&selector, kl_meta_labels(rs)))
            kl_reconciler_add_object(c->reconciler, d);
    }
    kl_arena_fini(&a);
}

static void on_rs_add(struct kl_handler *h, struct kl_object *rs)
{
    struct deployments *c = h->arg;
    if (kl_meta_controller(&rs->root))
        tell_owner(c, &rs->root);
    else if (!kl_meta_deleting(&rs->root))
        offer_orphan(c, &rs->root);
}

static void on_rs_update(struct kl_handler *h, struct kl_object *old, struct kl_object *rs)
{
    struct deployments *c = h->arg;
    const struct kl_value *was = &old->root, *now = &rs->root;
    bool moved = !kl_value_equal(kl_meta_controller(was), kl_meta_controller(now));
    if (moved)
        tell_owner(c, was);
    if (kl_meta_controller(now))
        tell_owner(c, now);
    else if (moved || !kl_value_equal(kl_meta_labels(was), kl_meta_labels(now)))
        offer_orphan(c, now);
}

static void on_rs_remove(struct kl_handler *h, struct kl_object *rs)
{
    tell_owner(h->arg, &rs->root);
}

// A Recreate waits for the last old pod.
static void on_pod_gone(struct deployments *c, const struct kl_value *pod)
{
    const struct kl_value *ref = kl_meta_controller(pod);
    if (!ref || !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), rs_res()->kind))
        return;
    struct kl_object *rs =
        kl_informer_get(c->rs, kl_meta_namespace(pod), kl_text(kl_get(ref, KL_F_name)));
    if (!rs || !kl_str_eq(kl_meta_uid(&rs->root), kl_text(kl_get(ref, KL_F_uid))))
        return;
    struct kl_object *d = owner_of(c, &rs->root);
    if (d && kl_str_eqz(kl_text_at(&d->root, KL_F_spec, KL_F_strategy, KL_F_type), "Recreate"))
        kl_reconciler_add_object(c->reconciler, &d->root);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    on_pod_gone(h->arg, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    if (!kl_pod_terminal(&old->root) && kl_pod_terminal(&pod->root))
        on_pod_gone(h->arg, &pod->root);
}

static void stop(void *self)
{
    struct deployments *c = self;
    if (c->deployments)
        kl_informer_remove_handler(c->deployments, &c->handler);
    if (c->rs)
        kl_informer_remove_handler(c->rs, &c->rs_handler);
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct deployments *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "deployment controller: out of memory");
    c->env = *env;
    c->deployments = kl_informers_get(env->informers, d_res());
    c->rs = kl_informers_get(env->informers, rs_res());
    c->pods = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_pods));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "deployment",
        .client = env->client,
        .timers = env->timers,
        .recorder = env->recorder,
        .workers = WORKERS,
        .max_retries = MAX_RETRIES,
        .decide = decide,
        .ended = ended,
        .arg = c,
    });
    if (!c->deployments || !c->rs || !c->pods || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->deployments) < 0 ||
        kl_reconciler_needs(c->reconciler, c->rs) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "deployment controller: out of memory");
    }
    c->by_ns = kl_informer_add_index(c->deployments, kl_index_namespace);
    c->rs_by_owner = kl_informer_add_index(c->rs, kl_index_controller_uid);
    c->rs_orphans = kl_informer_add_index(c->rs, kl_index_orphans);
    c->pods_by_owner = kl_informer_add_index(c->pods, kl_index_controller_uid);
    c->handler = (struct kl_handler){
        .add = on_deployment, .update = on_deployment_update, .remove = on_deployment, .arg = c};
    c->rs_handler = (struct kl_handler){
        .add = on_rs_add, .update = on_rs_update, .remove = on_rs_remove, .arg = c};
    c->pod_handler =
        (struct kl_handler){.update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->deployments, &c->handler);
    kl_informer_add_handler(c->rs, &c->rs_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct deployments *)self)->reconciler);
}

const struct kl_controller kl_deployment_controller = {
    .name = "deployment",
    .user = "system:serviceaccount:kube-system:deployment-controller",
    .component = "deployment-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
