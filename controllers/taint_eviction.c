// SPDX-License-Identifier: Apache-2.0
// Deletes pods from nodes with NoExecute taints that they do not tolerate (any longer)
// (upstream: pkg/controller/tainteviction).
#include "controllers/controllers_int.h"
#include "base/map.h"
#include "object/timestamp.h"
#include <stdlib.h>

enum { WORKERS = 8 };

// A pod that is to go.
struct doomed {
    int64_t since_ms, at_ms;
};

struct evictions {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *pods, *nodes;
    int pods_by_node;
    struct kl_handler pod_handler, node_handler;
    struct kl_map doomed; // pod key → struct doomed
};

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

// ---- tolerations

static bool tolerates(const struct kl_value *t, const struct kl_value *taint)
{
    struct kl_str effect = kl_text(kl_get(t, KL_F_effect)), key = kl_text(kl_get(t, KL_F_key));
    struct kl_str op = kl_text(kl_get(t, KL_F_operator));
    if (effect.n && !kl_str_eq(effect, kl_text(kl_get(taint, KL_F_effect))))
        return false;
    if (key.n && !kl_str_eq(key, kl_text(kl_get(taint, KL_F_key))))
        return false;
    if (kl_str_eqz(op, "Exists"))
        return true;
    return (!op.n || kl_str_eqz(op, "Equal")) &&
           kl_str_eq(kl_text(kl_get(t, KL_F_value)), kl_text(kl_get(taint, KL_F_value)));
}

// How long the pod may stay with these taints: -1 for ever, 0 not at all. Of the tolerations in use
// (the first that fits each taint) the shortest time counts.
static int64_t stay_ms(const struct kl_value *tolerations, const struct kl_value *taints,
                       bool *ret_tainted)
{
    int64_t min_s = INT64_MAX;
    *ret_tainted = false;
    for (KL_EACH(taint, taints)) {
        if (!kl_str_eqz(kl_text(kl_get(taint, KL_F_effect)), "NoExecute"))
            continue;
        *ret_tainted = true;
        const struct kl_value *used = NULL;
        for (KL_EACH(t, tolerations)) {
            if (!used && tolerates(t, taint))
                used = t;
        }
        if (!used)
            return 0;
        const struct kl_value *seconds = kl_get(used, KL_F_tolerationSeconds);
        if (seconds && kl_int_or(seconds, 0) < min_s)
            min_s = kl_int_or(seconds, 0) > 0 ? kl_int_or(seconds, 0) : 0;
    }
    return min_s == INT64_MAX ? -1 : min_s * 1000;
}

// ---- the decision

static void pardon(struct kl_plan *p, struct evictions *c, const struct kl_value *pod)
{
    struct doomed *d = kl_map_del(&c->doomed, p->key);
    free(d);
    if (d && pod)
        kl_plan_event(p, pods_res(), pod, "Normal", "TaintManagerEviction",
                      "Cancelling deletion of Pod %.*s", KL_PRI(p->key));
}

static void forget(struct kl_action *a)
{
    struct evictions *c = a->plan->arg;
    if (!a->skipped && (a->call.err.code == 0 || a->call.err.code == KL_ENOTFOUND))
        free(kl_map_del(&c->doomed, a->plan->key));
}

static void plan_eviction(struct kl_plan *p, struct evictions *c, const struct kl_value *pod)
{
    char now[KL_TIME_TEXT];
    kl_time_text(kl_timers_wall_us(c->env.timers), now);
    kl_plan_event(p, pods_res(), pod, "Normal", "TaintManagerEviction",
                  "Marking for deletion Pod %.*s", KL_PRI(p->key));
    struct kl_action *mark = kl_plan_call(p, KL_VERB_PATCH, pods_res(), "status",
                                          kl_meta_namespace(pod), kl_meta_name(pod));
    if (!mark)
        return;
    mark->call.patch_type = KL_PATCH_STRATEGIC;
    mark->call.patch = kl_arena_printf(
        &p->arena,
        "{\"metadata\":{\"uid\":\"%.*s\"},\"status\":{\"conditions\":[{\"type\":"
        "\"DisruptionTarget\",\"status\":\"True\",\"reason\":\"DeletionByTaintManager\","
        "\"message\":\"Taint manager: deleting due to NoExecute taint\",\"lastProbeTime\":null,"
        "\"lastTransitionTime\":\"%s\",\"observedGeneration\":%lld}]}}",
        KL_PRI(kl_meta_uid(pod)), now,
        (long long)kl_int_at(pod, 0, KL_F_metadata, KL_F_generation));
    mark->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    kl_plan_next_group(p);
    struct kl_action *del = kl_plan_call(p, KL_VERB_DELETE, pods_res(), NULL,
                                         kl_meta_namespace(pod), kl_meta_name(pod));
    if (!del)
        return;
    del->call.precondition_uid = kl_meta_uid(pod);
    del->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    del->done_cb = forget;
}

static void decide(struct kl_plan *p)
{
    struct evictions *c = p->arg;
    struct kl_object *pod = kl_plan_hold(p, kl_informer_get_key(c->pods, p->key));
    if (!pod || kl_meta_deleting(&pod->root)) {
        free(kl_map_del(&c->doomed, p->key));
        return;
    }
    const struct kl_value *root = &pod->root;
    struct kl_str name = kl_text_at(root, KL_F_spec, KL_F_nodeName);
    struct kl_object *node =
        name.n ? kl_informer_get(c->nodes, (struct kl_str){"", 0}, name) : NULL;
    if (!node)
        return; // the pod garbage collector's
    bool tainted;
    int64_t ms = stay_ms(kl_path(root, KL_F_spec, KL_F_tolerations),
                         kl_path(&node->root, KL_F_spec, KL_F_taints), &tainted);
    if (!tainted || ms < 0) {
        pardon(p, c, root);
        return;
    }
    int64_t now = kl_timers_now_ms(c->env.timers);
    struct doomed *d = kl_map_get(&c->doomed, p->key);
    if (!d) {
        d = calloc(1, sizeof(*d));
        if (!d || kl_map_set(&c->doomed, p->key, d, NULL) < 0) {
            free(d);
            kl_error_set(&p->err, KL_ENOMEM, "out of memory");
            return;
        }
        d->since_ms = now;
        d->at_ms = INT64_MAX;
    }
    // From when the first such taint was seen; a later one never gives more time.
    if (d->since_ms + ms < d->at_ms)
        d->at_ms = d->since_ms + ms;
    if (d->at_ms > now)
        kl_plan_requeue(p, d->at_ms - now);
    else
        plan_eviction(p, c, root);
}

// ---- the shell

static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    struct evictions *c = h->arg;
    struct kl_str name = kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName);
    struct kl_object *node =
        name.n ? kl_informer_get(c->nodes, (struct kl_str){"", 0}, name) : NULL;
    if (node && kl_len(kl_path(&node->root, KL_F_spec, KL_F_taints)))
        kl_reconciler_add_object(c->reconciler, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    const struct kl_value *was = kl_get(&old->root, KL_F_spec), *is = kl_get(&pod->root, KL_F_spec);
    if (!kl_str_eq(kl_text(kl_get(was, KL_F_nodeName)), kl_text(kl_get(is, KL_F_nodeName))) ||
        !kl_value_equal(kl_get(was, KL_F_tolerations), kl_get(is, KL_F_tolerations)))
        on_pod(h, pod);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    struct evictions *c = h->arg;
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str key = kl_key_of(&a, &pod->root);
    if (key.p)
        free(kl_map_del(&c->doomed, key));
    kl_arena_fini(&a);
}

static void look_at_pods(struct evictions *c, struct kl_str node)
{
    size_t n;
    struct kl_entry *const *pods = kl_informer_index(c->pods, c->pods_by_node, node, &n);
    for (size_t i = 0; i < n; i++)
        kl_reconciler_add(c->reconciler, pods[i]->key);
}

static void on_node_add(struct kl_handler *h, struct kl_object *node)
{
    if (kl_len(kl_path(&node->root, KL_F_spec, KL_F_taints)))
        look_at_pods(h->arg, kl_meta_name(&node->root));
}

static void on_node_update(struct kl_handler *h, struct kl_object *old, struct kl_object *node)
{
    if (!kl_value_equal(kl_path(&old->root, KL_F_spec, KL_F_taints),
                        kl_path(&node->root, KL_F_spec, KL_F_taints)))
        look_at_pods(h->arg, kl_meta_name(&node->root));
}

static void stop(void *self)
{
    struct evictions *c = self;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->nodes)
        kl_informer_remove_handler(c->nodes, &c->node_handler);
    kl_reconciler_free(c->reconciler);
    KL_MAP_EACH (&c->doomed, e)
        free(e->value);
    kl_map_fini(&c->doomed);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct evictions *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "taint eviction controller: out of memory");
    c->env = *env;
    kl_map_init(&c->doomed);
    c->pods = kl_informers_get(env->informers, pods_res());
    c->nodes = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_nodes));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "taint-eviction",
        .client = env->client,
        .timers = env->timers,
        .recorder = env->recorder,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    if (!c->pods || !c->nodes || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        kl_reconciler_needs(c->reconciler, c->nodes) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "taint eviction controller: out of memory");
    }
    c->pods_by_node = kl_informer_add_index(c->pods, kl_index_node_name);
    c->pod_handler = (struct kl_handler){
        .add = on_pod, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    c->node_handler = (struct kl_handler){.add = on_node_add, .update = on_node_update, .arg = c};
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_informer_add_handler(c->nodes, &c->node_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct evictions *)self)->reconciler);
}

// Upstream runs it with the node controller's role.
const struct kl_controller kl_taint_eviction_controller = {
    .name = "taint-eviction",
    .user = "system:serviceaccount:kube-system:node-controller",
    .component = "taint-eviction-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
