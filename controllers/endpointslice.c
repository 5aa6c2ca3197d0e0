// SPDX-License-Identifier: Apache-2.0
// Keeps the EndpointSlices of Services that select pods (upstream: pkg/controller/endpointslice).
// Who sends traffic to a Service, the API server for webhooks among them, finds its pods by them.
#include "controllers/endpointslice.h"
#include "controllers/controllers_int.h"
#include "controllers/expectations.h"
#include "controllers/pods.h"
#include "object/selector.h"
#include <stdlib.h>

enum { WORKERS = 5, MAX_RETRIES = 15, FOREIGN_CHANGE_MS = 1000 };

struct slices {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *services, *pods, *nodes, *slices;
    int services_by_ns, pods_by_ns, slices_by_service;
    struct kl_handler service_handler, pod_handler, slice_handler;
    struct kl_expectations expectations; // what was made or removed, by Service
    struct kl_map written; // slice → its generation after our write, until it is seen
};

static const struct kl_resource *services_res(void)
{
    return kl_res(KL_RES_core_v1_services);
}

static int64_t generation_of(const struct kl_value *root)
{
    return kl_int_at(root, 0, KL_F_metadata, KL_F_generation);
}

static struct kl_str label(const struct kl_value *root, const char *key)
{
    return kl_text(kl_map_value(kl_meta_labels(root), kl_str(key)));
}

// Names of Services: of all namespaces, so who asks looks at the namespace too.
static struct kl_str index_service(const struct kl_value *slice)
{
    return kl_str_eqz(label(slice, KL_SLICE_MANAGER_LABEL), KL_SLICE_MANAGER)
               ? label(slice, KL_SLICE_SERVICE_LABEL)
               : (struct kl_str){"", 0};
}

static struct kl_str service_key(struct kl_arena *a, const struct kl_value *slice)
{
    return kl_arena_printf(a, "%.*s/%.*s", KL_PRI(kl_meta_namespace(slice)),
                           KL_PRI(label(slice, KL_SLICE_SERVICE_LABEL)));
}

// ---- what was written and is not seen yet

static void forget_written(struct slices *c, struct kl_str key)
{
    int64_t *generation = kl_map_del(&c->written, key);
    free(generation);
}

static void note_written(struct slices *c, struct kl_arena *a, const struct kl_value *slice)
{
    struct kl_str key = kl_key_of(a, slice);
    const struct kl_object *seen = key.p ? kl_informer_get_key(c->slices, key) : NULL;
    if (!seen || generation_of(&seen->root) >= generation_of(slice))
        return;
    int64_t *generation = malloc(sizeof *generation);
    void *old = NULL;
    if (!generation)
        return; // at worst a write that conflicts
    *generation = generation_of(slice);
    if (kl_map_set(&c->written, key, generation, &old) < 0)
        old = generation;
    free(old);
}

static bool is_stale(const struct slices *c, struct kl_str key, const struct kl_value *slice)
{
    const int64_t *generation = kl_map_get(&c->written, key);
    return generation && generation_of(slice) < *generation;
}

static void note_failure(struct kl_action *a)
{
    struct kl_plan *p = a->plan;
    if (a->skipped || !p->err.code || strcmp(p->err.msg, a->call.err.msg) != 0)
        return; // another's counts
    if (a->call.verb != KL_VERB_CREATE)
        kl_error_wrap(&p->err, "failed to %s %.*s EndpointSlice for Service %.*s",
                      a->call.verb == KL_VERB_DELETE ? "delete" : "update", KL_PRI(a->call.name),
                      KL_PRI(p->key));
    else if (kl_is_namespace_terminating(&a->call.err))
        p->err.code = 0;
    else
        kl_error_wrap(&p->err, "failed to create EndpointSlice for Service %.*s", KL_PRI(p->key));
}

static void on_written(struct kl_action *a)
{
    struct kl_plan *p = a->plan;
    struct slices *c = p->arg;
    bool done = !a->skipped && a->call.err.code == 0;
    if (done && a->call.verb == KL_VERB_UPDATE && a->call.object)
        note_written(c, &p->arena, &a->call.object->root);
    if (done)
        return;
    if (a->call.verb == KL_VERB_DELETE)
        kl_expectations_deleted(&c->expectations, p->key, kl_meta_uid(a->arg));
    if (a->call.verb == KL_VERB_CREATE)
        kl_expectations_created(&c->expectations, p->key);
    note_failure(a);
}

static void tell_failure(struct kl_plan *p)
{
    const struct kl_slices_view *v = p->state;
    if (!p->err.code && v->lost.n)
        kl_error_set(&p->err, KL_ENOTFOUND, "%.*s", KL_PRI(v->lost));
    if (p->err.code)
        kl_plan_event(p, services_res(), v->service, "Warning", "FailedToUpdateEndpointSlices",
                      "Error updating Endpoint Slices for Service %.*s: %s", KL_PRI(p->key),
                      p->err.msg);
}

// ---- a sync

static bool look_at_pods(struct slices *c, struct kl_plan *p, struct kl_slices_view *v)
{
    struct kl_selector selector;
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->pods, c->pods_by_ns, kl_meta_namespace(v->service), &n);
    struct kl_slice_pod *pods = kl_arena_alloc(&p->arena, (n + 1) * sizeof *pods);
    if (!pods || kl_label_selector_from_map(
                     &p->arena, kl_path(v->service, KL_F_spec, KL_F_selector), &selector) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct kl_object *pod = list[i]->object;
        if (!kl_selector_matches(&selector, kl_meta_labels(&pod->root)))
            continue;
        struct kl_str node_name = kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName);
        struct kl_object *node = kl_informer_get(c->nodes, KL_STR(""), node_name);
        if (!kl_plan_hold(p, pod) || (node && !kl_plan_hold(p, node)))
            return false;
        pods[v->npods++] = (struct kl_slice_pod){
            .pod = &pod->root,
            .zone = node ? label(&node->root, "topology.kubernetes.io/zone") : KL_STR(""),
            .no_node = !node,
        };
    }
    v->pods = pods;
    return true;
}

// False also when a write of ours is not seen yet; the event of it brings the Service again.
static bool look_at_slices(struct slices *c, struct kl_plan *p, struct kl_slices_view *v)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->slices, c->slices_by_service, kl_meta_name(v->service), &n);
    v->slices = kl_arena_alloc(&p->arena, (n + 1) * sizeof *v->slices);
    if (!v->slices)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct kl_object *slice = list[i]->object;
        if (!kl_str_eq(kl_meta_namespace(&slice->root), kl_meta_namespace(v->service)) ||
            kl_meta_deleting(&slice->root))
            continue;
        if (is_stale(c, list[i]->key, &slice->root) || !kl_plan_hold(p, slice))
            return false;
        v->slices[v->nslices++] = &slice->root;
    }
    return true;
}

static void expect(struct slices *c, const struct kl_plan *p)
{
    int64_t now = kl_timers_now_ms(c->env.timers);
    int made = 0;
    for (const struct kl_action *a = p->actions; a; a = a->next)
        made += a->call.verb == KL_VERB_CREATE;
    kl_expect_creations(&c->expectations, p->key, made, now);
    for (const struct kl_action *a = p->actions; a; a = a->next)
        if (a->call.verb == KL_VERB_DELETE)
            kl_expect_deletion(&c->expectations, p->key, kl_meta_uid(a->arg), false, now);
}

static void decide(struct kl_plan *p)
{
    struct slices *c = p->arg;
    struct kl_object *service = kl_informer_get_key(c->services, p->key);
    if (!service) {
        kl_expectations_drop(&c->expectations, p->key);
        return;
    }
    const struct kl_value *spec = kl_get(&service->root, KL_F_spec);
    if (kl_str_eqz(kl_text(kl_get(spec, KL_F_type)), "ExternalName") ||
        !kl_len(kl_get(spec, KL_F_selector)) ||
        !kl_expectations_met(&c->expectations, p->key, kl_timers_now_ms(c->env.timers)))
        return;
    struct kl_slices_view *v = KL_ARENA_NEW(&p->arena, struct kl_slices_view);
    if (!v || !kl_plan_hold(p, service))
        return;
    v->service = &service->root;
    v->written_cb = on_written;
    if (!look_at_slices(c, p, v) || !look_at_pods(c, p, v))
        return;
    kl_endpointslice_decide(p, v);
    if (p->err.code)
        return;
    if (p->actions)
        expect(c, p);
    p->state = v;
    p->then = tell_failure;
}

// ---- what changed

static void on_service(struct kl_handler *h, struct kl_object *service)
{
    struct slices *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &service->root);
}

static void on_service_update(struct kl_handler *h, struct kl_object *old,
                              struct kl_object *service)
{
    (void)old;
    on_service(h, service);
}

// Every Service that selects these labels.
static void tell_services(struct slices *c, const struct kl_value *pod)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->services, c->services_by_ns, kl_meta_namespace(pod), &n);
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *wanted = kl_path(&list[i]->object->root, KL_F_spec, KL_F_selector);
        struct kl_selector selector;
        kl_arena_reset(&a);
        if (kl_len(wanted) && kl_label_selector_from_map(&a, wanted, &selector) == 0 &&
            kl_selector_matches(&selector, kl_meta_labels(pod)))
            kl_reconciler_add(c->reconciler, list[i]->key);
    }
    kl_arena_fini(&a);
}

static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    tell_services(h->arg, &pod->root);
}

static bool same_at(const struct kl_value *a, const struct kl_value *b, kl_sym part, kl_sym field)
{
    return kl_value_equal(kl_path(a, part, field), kl_path(b, part, field));
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    const struct kl_value *was = &old->root, *now = &pod->root;
    bool relabeled = !kl_value_equal(kl_meta_labels(was), kl_meta_labels(now));
    bool changed = relabeled || kl_pod_ready(was) != kl_pod_ready(now) ||
                   kl_pod_terminal(was) != kl_pod_terminal(now) ||
                   !same_at(was, now, KL_F_metadata, KL_F_deletionTimestamp) ||
                   !same_at(was, now, KL_F_status, KL_F_podIPs) ||
                   !same_at(was, now, KL_F_spec, KL_F_hostname) ||
                   !same_at(was, now, KL_F_spec, KL_F_subdomain);
    if (changed)
        tell_services(h->arg, now);
    if (relabeled)
        tell_services(h->arg, was);
}

enum seen { SEEN_ADDED, SEEN_CHANGED, SEEN_REMOVED };

// What was waited for brings the Service at once; what others did to its slices, after a while.
static void note_slice(struct slices *c, const struct kl_value *slice, enum seen seen)
{
    if (!index_service(slice).n)
        return;
    struct kl_arena a;
    kl_arena_init(&a, 1 << 16);
    struct kl_str service = service_key(&a, slice), key = kl_key_of(&a, slice);
    int64_t now = kl_timers_now_ms(c->env.timers);
    if (service.p && key.p) {
        const int64_t *generation = kl_map_get(&c->written, key);
        bool waited = generation || !kl_expectations_met(&c->expectations, service, now);
        if (generation && (seen == SEEN_REMOVED || generation_of(slice) >= *generation))
            forget_written(c, key);
        if (seen == SEEN_ADDED)
            kl_expectations_created(&c->expectations, service);
        if (seen == SEEN_REMOVED)
            kl_expectations_deleted(&c->expectations, service, kl_meta_uid(slice));
        kl_reconciler_add_after(c->reconciler, service, waited ? 0 : FOREIGN_CHANGE_MS);
    }
    kl_arena_fini(&a);
}

static void on_slice(struct kl_handler *h, struct kl_object *slice)
{
    note_slice(h->arg, &slice->root, SEEN_ADDED);
}

static void on_slice_update(struct kl_handler *h, struct kl_object *old, struct kl_object *slice)
{
    if (!kl_str_eq(index_service(&old->root), index_service(&slice->root)))
        note_slice(h->arg, &old->root, SEEN_CHANGED);
    note_slice(h->arg, &slice->root, SEEN_CHANGED);
}

static void on_slice_remove(struct kl_handler *h, struct kl_object *slice)
{
    note_slice(h->arg, &slice->root, SEEN_REMOVED);
}

static void stop(void *self)
{
    struct slices *c = self;
    if (c->services)
        kl_informer_remove_handler(c->services, &c->service_handler);
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->slices)
        kl_informer_remove_handler(c->slices, &c->slice_handler);
    kl_reconciler_free(c->reconciler);
    kl_expectations_fini(&c->expectations);
    KL_MAP_EACH (&c->written, m)
        free(m->value);
    kl_map_fini(&c->written);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct slices *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "endpointslice controller: out of memory");
    c->env = *env;
    kl_expectations_init(&c->expectations);
    kl_map_init(&c->written);
    c->services = kl_informers_get(env->informers, services_res());
    c->pods = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_pods));
    c->nodes = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_nodes));
    c->slices = kl_informers_get(env->informers, kl_res(KL_RES_discovery_v1_endpointslices));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "endpointslice",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .workers = WORKERS,
                                                                   .max_retries = MAX_RETRIES,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->services || !c->pods || !c->nodes || !c->slices || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->services) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        kl_reconciler_needs(c->reconciler, c->nodes) < 0 ||
        kl_reconciler_needs(c->reconciler, c->slices) < 0 ||
        (c->services_by_ns = kl_informer_add_index(c->services, kl_index_namespace)) < 0 ||
        (c->pods_by_ns = kl_informer_add_index(c->pods, kl_index_namespace)) < 0 ||
        (c->slices_by_service = kl_informer_add_index(c->slices, index_service)) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "endpointslice controller: out of memory");
    }
    c->service_handler = (struct kl_handler){
        .add = on_service, .update = on_service_update, .remove = on_service, .arg = c};
    c->pod_handler =
        (struct kl_handler){.add = on_pod, .update = on_pod_update, .remove = on_pod, .arg = c};
    c->slice_handler = (struct kl_handler){
        .add = on_slice, .update = on_slice_update, .remove = on_slice_remove, .arg = c};
    kl_informer_add_handler(c->services, &c->service_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_informer_add_handler(c->slices, &c->slice_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct slices *)self)->reconciler);
}

const struct kl_controller kl_endpointslice_controller = {
    .name = "endpointslice",
    .user = "system:serviceaccount:kube-system:endpointslice-controller",
    .component = "endpoint-slice-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
