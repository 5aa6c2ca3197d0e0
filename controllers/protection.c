// SPDX-License-Identifier: Apache-2.0
// A claim that a pod uses, and a volume that a claim is bound to, stay until that has ended
// (upstream: pkg/controller/volume/{pvcprotection,pvprotection}). The admission plug-in
// StorageObjectInUseProtection gives new ones their finalizer; here older ones get it, and lose it
// when they are to be deleted and nobody uses them.
#include "base/map.h"
#include "controllers/controllers_int.h"
#include "controllers/finalizer.h"
#include "controllers/pods.h"
#include <stdlib.h>

#define PVC_FINALIZER "kubernetes.io/pvc-protection"
#define PV_FINALIZER "kubernetes.io/pv-protection"

struct protection {
    struct kl_reconciler *reconciler;
    struct kl_informer *objects, *pods; // pods: NULL for volumes
    int pods_by_ns;
    struct kl_map users; // claim → how many pods with a node name it (a size_t)
    struct kl_handler object_handler, pod_handler;
};

static const struct kl_resource *pvc_res(void)
{
    return kl_res(KL_RES_core_v1_persistentvolumeclaims);
}

static const struct kl_resource *pv_res(void)
{
    return kl_res(KL_RES_core_v1_persistentvolumes);
}

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

// The claim that a volume of a pod means: by name, or made for it as POD-VOLUME.
static struct kl_str claim_of(struct kl_arena *a, const struct kl_value *pod,
                              const struct kl_value *volume)
{
    if (kl_get(volume, KL_F_ephemeral))
        return kl_arena_printf(a, "%.*s-%.*s", KL_PRI(kl_meta_name(pod)),
                               KL_PRI(kl_text(kl_get(volume, KL_F_name))));
    return kl_text_at(volume, KL_F_persistentVolumeClaim, KL_F_claimName);
}

// Nothing of it runs any more; it may stay for a finalizer that waits for its claim to go.
static bool is_shut_down(const struct kl_value *pod)
{
    return kl_meta_deleting(pod) &&
           !kl_int_at(pod, -1, KL_F_metadata, KL_F_deletionGracePeriodSeconds);
}

// A pod that has no node yet will not be started with a claim that goes.
static bool uses(struct kl_arena *a, const struct kl_value *pod, const struct kl_value *claim)
{
    if (!kl_text_at(pod, KL_F_spec, KL_F_nodeName).n ||
        !kl_str_eq(kl_meta_namespace(pod), kl_meta_namespace(claim)))
        return false;
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes)))
        if (kl_str_eq(claim_of(a, pod, v), kl_meta_name(claim)) &&
            (!kl_get(v, KL_F_ephemeral) ||
             (!is_shut_down(pod) && kl_controlled_by(claim, kl_meta_uid(pod)))))
            return true;
    return false;
}

// ---- decisions

// The informer may not show the newest pods: one look at those that there are.
static void after_list(struct kl_plan *p)
{
    struct kl_action *list = p->actions;
    struct kl_object *claim = p->state;
    if (p->err.code)
        return;
    for (size_t i = 0; i < list->call.n_items; i++)
        if (uses(&p->arena, &list->call.items[i]->root, &claim->root))
            return;
    kl_plan_finalizer(p, pvc_res(), claim, PVC_FINALIZER, false);
}

static void decide_claim(struct kl_plan *p)
{
    const struct protection *c = p->arg;
    struct kl_object *claim = kl_plan_hold(p, kl_informer_get_key(c->objects, p->key));
    if (!claim)
        return;
    bool has = kl_has_finalizer(&claim->root, PVC_FINALIZER);
    if (!kl_meta_deleting(&claim->root)) {
        if (!has)
            kl_plan_finalizer(p, pvc_res(), claim, PVC_FINALIZER, true);
        return;
    }
    if (!has)
        return;
    size_t n = 0;
    struct kl_entry *const *list = NULL;
    if (kl_map_get(&c->users, p->key))
        list = kl_informer_index(c->pods, c->pods_by_ns, kl_meta_namespace(&claim->root), &n);
    for (size_t i = 0; i < n; i++)
        if (uses(&p->arena, &list[i]->object->root, &claim->root))
            return;
    p->state = claim;
    if (kl_plan_call(p, KL_VERB_LIST, pods_res(), NULL, kl_meta_namespace(&claim->root),
                     (struct kl_str){"", 0}))
        p->then = after_list;
}

static void decide_volume(struct kl_plan *p)
{
    const struct protection *c = p->arg;
    struct kl_object *pv = kl_informer_get_key(c->objects, p->key);
    if (!pv)
        return;
    bool has = kl_has_finalizer(&pv->root, PV_FINALIZER), deleting = kl_meta_deleting(&pv->root);
    bool bound = kl_str_eqz(kl_text_at(&pv->root, KL_F_status, KL_F_phase), "Bound");
    if (deleting == has && !(deleting && bound))
        kl_plan_finalizer(p, pv_res(), pv, PV_FINALIZER, !deleting);
}

// ---- what changed

static void on_object(struct kl_handler *h, struct kl_object *o)
{
    struct protection *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &o->root);
}

static void on_object_update(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    (void)old;
    on_object(h, o);
}

// Without memory for the count a claim seems unused; the list of the pods there are is asked
// anyway.
static void count_user(struct protection *c, struct kl_str key, bool more)
{
    size_t *n = kl_map_get(&c->users, key);
    if (!n && more) {
        n = calloc(1, sizeof *n);
        if (n && kl_map_set(&c->users, key, n, NULL) < 0) {
            free(n);
            n = NULL;
        }
    }
    if (!n)
        return;
    *n += more ? 1 : -(size_t)1;
    if (!*n) {
        kl_map_del(&c->users, key);
        free(n);
    }
}

static void count_claims(struct protection *c, const struct kl_value *pod, bool more)
{
    struct kl_str ns = kl_meta_namespace(pod);
    struct kl_arena a;
    if (!kl_text_at(pod, KL_F_spec, KL_F_nodeName).n)
        return;
    kl_arena_init(&a, 1 << 20);
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes))) {
        struct kl_str name = claim_of(&a, pod, v);
        struct kl_str key = kl_arena_printf(&a, "%.*s/%.*s", KL_PRI(ns), KL_PRI(name));
        if (name.n && key.p)
            count_user(c, key, more);
    }
    kl_arena_fini(&a);
}

static void add_claims(struct protection *c, const struct kl_value *pod)
{
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (KL_EACH(v, kl_path(pod, KL_F_spec, KL_F_volumes))) {
        struct kl_str name = claim_of(&a, pod, v);
        struct kl_object *claim =
            name.n ? kl_informer_get(c->objects, kl_meta_namespace(pod), name) : NULL;
        if (claim)
            kl_reconciler_add_object(c->reconciler, &claim->root);
    }
    kl_arena_fini(&a);
}

// A pod that runs frees no claim.
static void look_at_pod(struct kl_handler *h, struct kl_object *pod)
{
    if (kl_pod_terminal(&pod->root) || is_shut_down(&pod->root) ||
        !kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName).n)
        add_claims(h->arg, &pod->root);
}

static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    count_claims(h->arg, &pod->root, true);
    look_at_pod(h, pod);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    count_claims(h->arg, &pod->root, true);
    count_claims(h->arg, &old->root, false);
    if (!kl_str_eq(kl_meta_uid(&old->root), kl_meta_uid(&pod->root)))
        add_claims(h->arg, &old->root);
    look_at_pod(h, pod);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    count_claims(h->arg, &pod->root, false);
    add_claims(h->arg, &pod->root);
}

static void stop(void *self)
{
    struct protection *c = self;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->objects)
        kl_informer_remove_handler(c->objects, &c->object_handler);
    kl_reconciler_free(c->reconciler);
    KL_MAP_EACH (&c->users, m)
        free(m->value);
    kl_map_fini(&c->users);
    free(c);
}

static int start(const struct kl_controller_env *env, const char *name,
                 const struct kl_resource *res, void (*decide)(struct kl_plan *p), bool with_pods,
                 void **ret, struct kl_error *err)
{
    struct protection *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "%s controller: out of memory", name);
    kl_map_init(&c->users);
    c->objects = kl_informers_get(env->informers, res);
    c->pods = with_pods ? kl_informers_get(env->informers, pods_res()) : NULL;
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = name,
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->objects || (with_pods && !c->pods) || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->objects) < 0 ||
        (with_pods && (kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
                       (c->pods_by_ns = kl_informer_add_index(c->pods, kl_index_namespace)) < 0))) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "%s controller: out of memory", name);
    }
    c->object_handler = (struct kl_handler){.add = on_object, .update = on_object_update, .arg = c};
    c->pod_handler = (struct kl_handler){
        .add = on_pod, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->objects, &c->object_handler);
    if (c->pods)
        kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static int start_claims(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, "persistentvolumeclaim-protection", pvc_res(), decide_claim, true, ret, err);
}

static int start_volumes(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, "persistentvolume-protection", pv_res(), decide_volume, false, ret, err);
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct protection *)self)->reconciler);
}

const struct kl_controller kl_pvc_protection_controller = {
    .name = "persistentvolumeclaim-protection",
    .user = "system:serviceaccount:kube-system:pvc-protection-controller",
    .component = "pvc-protection-controller",
    .start = start_claims,
    .stop = stop,
    .idle = idle,
};

const struct kl_controller kl_pv_protection_controller = {
    .name = "persistentvolume-protection",
    .user = "system:serviceaccount:kube-system:pv-protection-controller",
    .component = "pv-protection-controller",
    .start = start_volumes,
    .stop = stop,
    .idle = idle,
};
