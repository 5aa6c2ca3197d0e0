// SPDX-License-Identifier: Apache-2.0
// A PodGroup that is to go stays until none of its pods runs any more (upstream:
// pkg/controller/scheduling/podgroupprotection). The admission plug-in PodGroupProtection gives new
// ones the finalizer that is taken off here.
#include "controllers/controllers_int.h"
#include "controllers/deletable.h"
#include "controllers/finalizer.h"
#include "controllers/pods.h"
#include <stdlib.h>

#define FINALIZER "scheduling.k8s.io/podgroup-protection"

struct protection {
    struct kl_reconciler *reconciler;
    struct kl_informer *groups, *pods;
    int pods_by_ns;
    struct kl_handler group_handler, pod_handler;
};

static const struct kl_resource *groups_res(void)
{
    return kl_res(KL_RES_scheduling_v1alpha2_podgroups);
}

static struct kl_str group_of(const struct kl_value *pod)
{
    return kl_text_at(pod, KL_F_spec, KL_F_schedulingGroup, KL_F_podGroupName);
}

static bool waits_for_us(const struct kl_value *group)
{
    return kl_meta_deleting(group) && kl_has_finalizer(group, FINALIZER);
}

static void decide(struct kl_plan *p)
{
    const struct protection *c = p->arg;
    struct kl_object *group = kl_informer_get_key(c->groups, p->key);
    size_t n = 0;
    if (!group || !waits_for_us(&group->root))
        return;
    struct kl_entry *const *pods =
        kl_informer_index(c->pods, c->pods_by_ns, kl_meta_namespace(&group->root), &n);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *pod = &pods[i]->object->root;
        if (!kl_pod_terminal(pod) && kl_str_eq(group_of(pod), kl_meta_name(&group->root)))
            return;
    }
    kl_plan_finalizer(p, groups_res(), group, FINALIZER, false);
}

// ---- what changed

static void on_group(struct kl_handler *h, struct kl_object *group)
{
    struct protection *c = h->arg;
    if (waits_for_us(&group->root))
        kl_reconciler_add_object(c->reconciler, &group->root);
}

static void on_group_update(struct kl_handler *h, struct kl_object *old, struct kl_object *group)
{
    (void)old;
    on_group(h, group);
}

static void add_group(struct protection *c, const struct kl_value *pod)
{
    struct kl_str name = group_of(pod);
    struct kl_object *group =
        name.n ? kl_informer_get(c->groups, kl_meta_namespace(pod), name) : NULL;
    if (group)
        kl_reconciler_add_object(c->reconciler, &group->root);
}

static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    if (kl_pod_terminal(&pod->root))
        add_group(h->arg, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    if (!kl_str_eq(kl_meta_uid(&old->root), kl_meta_uid(&pod->root)))
        add_group(h->arg, &old->root);
    on_pod(h, pod);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    add_group(h->arg, &pod->root);
}

// ---- life

static void stop(void *self)
{
    struct protection *c = self;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->groups)
        kl_informer_remove_handler(c->groups, &c->group_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct protection *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "podgroup-protection controller: out of memory");
    c->groups = kl_informers_get(env->informers, groups_res());
    c->pods = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_pods));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "podgroup-protection",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->groups || !c->pods || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->groups) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        (c->pods_by_ns = kl_informer_add_index(c->pods, kl_index_namespace)) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "podgroup-protection controller: out of memory");
    }
    c->group_handler = (struct kl_handler){.add = on_group, .update = on_group_update, .arg = c};
    c->pod_handler = (struct kl_handler){
        .add = on_pod, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->groups, &c->group_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct protection *)self)->reconciler);
}

// Served only with the gate GenericWorkload.
static bool is_wanted(const struct kl_controller_env *env)
{
    return kl_is_served_kind(env, groups_res());
}

const struct kl_controller kl_podgroup_protection_controller = {
    .name = "podgroup-protection",
    .user = "system:serviceaccount:kube-system:podgroup-protection-controller",
    .component = "podgroup-protection-controller",
    .is_wanted = is_wanted,
    .start = start,
    .stop = stop,
    .idle = idle,
};
