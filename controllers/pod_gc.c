// SPDX-License-Identifier: Apache-2.0
// Removes pods that nobody else will (upstream: pkg/controller/podgc): those of nodes that no
// longer exist, deleted ones that never got a node or whose node is out of service, and the oldest
// of too many that have ended.
#include "controllers/controllers_int.h"
#include "base/map.h"
#include "controllers/pods.h"
#include "object/timestamp.h"
#include <stdlib.h>

enum {
    PERIOD_MS = 20 * 1000,
    QUARANTINE_MS = 40 * 1000, // a node must be missing for so long
    TERMINATED_MAX = 12500,    // --terminated-pod-gc-threshold
    AT_ONCE = 100,             // deletions in one group
};
#define KEY "all"

struct pod_gc {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *pods, *nodes;
    int pods_by_node;
    struct kl_map missing; // node name → struct absence
};

struct absence {
    int64_t since_ms;
    uint32_t round;
};

struct round {
    struct kl_action **node_gets;
    size_t ngets, planned;
};

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

static void plan_removal(struct kl_plan *p, struct kl_object *pod, bool node_gone)
{
    struct pod_gc *c = p->arg;
    struct round *r = p->state;
    const struct kl_value *root = &pod->root;
    char now[KL_TIME_TEXT];
    kl_plan_hold(p, pod);
    if (r->planned++ % AT_ONCE == 0)
        kl_plan_next_group(p);
    // A pod that never ended by itself has failed; it must not be taken for still running.
    if (node_gone || !kl_pod_terminal(root)) {
        kl_time_text(kl_timers_wall_us(c->env.timers), now);
        struct kl_str condition = KL_STR("");
        if (node_gone)
            condition = kl_arena_printf(
                &p->arena,
                "\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":"
                "\"DeletionByPodGC\",\"message\":\"PodGC: node no longer exists\","
                "\"lastProbeTime\":null,\"lastTransitionTime\":\"%s\"}]",
                now);
        struct kl_action *mark = kl_plan_call(p, KL_VERB_PATCH, pods_res(), "status",
                                              kl_meta_namespace(root), kl_meta_name(root));
        if (!mark)
            return;
        mark->call.patch_type = KL_PATCH_STRATEGIC;
        mark->call.patch =
            kl_arena_printf(&p->arena, "{\"metadata\":{\"uid\":\"%.*s\"},\"status\":{%.*s%s%s}}",
                            KL_PRI(kl_meta_uid(root)), KL_PRI(condition),
                            condition.n && !kl_pod_terminal(root) ? "," : "",
                            kl_pod_terminal(root) ? "" : "\"phase\":\"Failed\"");
        mark->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        kl_plan_next_group(p);
    }
    struct kl_action *del = kl_plan_call(p, KL_VERB_DELETE, pods_res(), NULL,
                                         kl_meta_namespace(root), kl_meta_name(root));
    if (!del)
        return;
    del->call.grace_seconds = 0;
    del->call.precondition_uid = kl_meta_uid(root);
    del->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

// ---- what is to go

static int oldest_first(const void *pa, const void *pb)
{
    const struct kl_object *a = *(struct kl_object *const *)pa;
    const struct kl_object *b = *(struct kl_object *const *)pb;
    bool ea = kl_str_eqz(kl_text_at(&a->root, KL_F_status, KL_F_reason), "Evicted");
    bool eb = kl_str_eqz(kl_text_at(&b->root, KL_F_status, KL_F_reason), "Evicted");
    if (ea != eb)
        return ea ? -1 : 1;
    int64_t ta = kl_int_at(&a->root, 0, KL_F_metadata, KL_F_creationTimestamp);
    int64_t tb = kl_int_at(&b->root, 0, KL_F_metadata, KL_F_creationTimestamp);
    return ta != tb ? (ta < tb ? -1 : 1)
                    : kl_str_cmp(kl_meta_name(&a->root), kl_meta_name(&b->root));
}

static bool is_out_of_service(const struct kl_value *node)
{
    if (kl_condition_is(kl_path(node, KL_F_status, KL_F_conditions), "Ready", "True"))
        return false;
    for (KL_EACH(t, kl_path(node, KL_F_spec, KL_F_taints))) {
        if (kl_str_eqz(kl_text(kl_get(t, KL_F_key)), "node.kubernetes.io/out-of-service"))
            return true;
    }
    return false;
}

static void sweep_terminated(struct kl_plan *p, struct pod_gc *c, size_t n)
{
    if (n <= TERMINATED_MAX)
        return;
    struct kl_object **list = kl_arena_alloc(&p->arena, n * sizeof(struct kl_object *));
    size_t count = 0, it = 0;
    struct kl_entry *e;
    while (list && count < n && (e = kl_informer_next(c->pods, &it))) {
        if (kl_pod_terminal(&e->object->root))
            list[count++] = e->object;
    }
    if (count)
        qsort(list, count, sizeof(struct kl_object *), oldest_first);
    for (size_t i = 0; i + TERMINATED_MAX < count; i++)
        plan_removal(p, list[i], false);
}

// Notes a node that a pod names and that is not there; true when it has been so for long enough.
static bool is_missing_for_long(struct pod_gc *c, struct kl_str node, int64_t now_ms)
{
    struct absence *a = kl_map_get(&c->missing, node);
    if (!a) {
        a = calloc(1, sizeof(*a));
        if (!a || kl_map_set(&c->missing, node, a, NULL) < 0) {
            free(a);
            return false;
        }
        a->since_ms = now_ms;
    }
    a->round = 1;
    return now_ms - a->since_ms >= QUARANTINE_MS;
}

static void forget_returned(struct pod_gc *c)
{
    KL_MAP_EACH (&c->missing, e) {
        struct absence *a = e->value;
        if (a->round) {
            a->round = 0;
            continue;
        }
        kl_map_del(&c->missing, e->key);
        free(a);
    }
}

static void after_node_gets(struct kl_plan *p)
{
    struct pod_gc *c = p->arg;
    struct round *r = p->state;
    for (size_t i = 0; i < r->ngets; i++) {
        if (r->node_gets[i]->call.err.code != KL_ENOTFOUND)
            continue;
        size_t n;
        struct kl_entry *const *pods =
            kl_informer_index(c->pods, c->pods_by_node, r->node_gets[i]->call.name, &n);
        for (size_t k = 0; k < n; k++)
            plan_removal(p, pods[k]->object, true);
    }
}

static void plan_node_get(struct kl_plan *p, struct round *r, struct kl_str node)
{
    for (size_t i = 0; i < r->ngets; i++) {
        if (kl_str_eq(r->node_gets[i]->call.name, node))
            return;
    }
    if (r->ngets == AT_ONCE)
        return; // the others in the next round
    struct kl_action *get = kl_plan_call(p, KL_VERB_GET, kl_res(KL_RES_core_v1_nodes), NULL,
                                         (struct kl_str){"", 0}, kl_arena_dup(&p->arena, node));
    if (!get)
        return;
    get->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    r->node_gets[r->ngets++] = get;
    p->then = after_node_gets;
}

static void decide(struct kl_plan *p)
{
    struct pod_gc *c = p->arg;
    struct round *r = KL_ARENA_NEW(&p->arena, struct round);
    kl_plan_requeue(p, PERIOD_MS);
    if (!r)
        return;
    p->state = r;
    r->node_gets = kl_arena_zalloc(&p->arena, AT_ONCE * sizeof(*r->node_gets));
    int64_t now_ms = kl_timers_now_ms(c->env.timers);
    size_t it = 0, terminated = 0;
    struct kl_entry *e;
    while (r->node_gets && (e = kl_informer_next(c->pods, &it))) {
        const struct kl_value *pod = &e->object->root;
        struct kl_str name = kl_text_at(pod, KL_F_spec, KL_F_nodeName);
        struct kl_object *node =
            name.n ? kl_informer_get(c->nodes, (struct kl_str){"", 0}, name) : NULL;
        terminated += kl_pod_terminal(pod);
        if (!name.n && kl_meta_deleting(pod))
            plan_removal(p, e->object, false);
        else if (node && kl_meta_deleting(pod) && is_out_of_service(&node->root))
            plan_removal(p, e->object, false);
        else if (name.n && !node && is_missing_for_long(c, name, now_ms))
            plan_node_get(p, r, name);
    }
    sweep_terminated(p, c, terminated);
    forget_returned(c);
}

static void stop(void *self)
{
    struct pod_gc *c = self;
    kl_reconciler_free(c->reconciler);
    KL_MAP_EACH (&c->missing, e)
        free(e->value);
    kl_map_fini(&c->missing);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct pod_gc *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "pod garbage collector: out of memory");
    c->env = *env;
    kl_map_init(&c->missing);
    c->pods = kl_informers_get(env->informers, pods_res());
    c->nodes = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_nodes));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "pod-garbage-collector",
        .client = env->client,
        .timers = env->timers,
        .workers = 1,
        .decide = decide,
        .arg = c,
    });
    if (!c->pods || !c->nodes || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        kl_reconciler_needs(c->reconciler, c->nodes) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "pod garbage collector: out of memory");
    }
    c->pods_by_node = kl_informer_add_index(c->pods, kl_index_node_name);
    kl_reconciler_start(c->reconciler);
    kl_reconciler_add(c->reconciler, KL_STR(KEY));
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct pod_gc *)self)->reconciler);
}

const struct kl_controller kl_pod_gc_controller = {
    .name = "pod-garbage-collector",
    .user = "system:serviceaccount:kube-system:pod-garbage-collector",
    .component = "pod-garbage-collector",
    .start = start,
    .stop = stop,
    .idle = idle,
};
