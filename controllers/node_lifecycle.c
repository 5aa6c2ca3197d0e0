// SPDX-License-Identifier: Apache-2.0
// Watches over nodes (upstream: pkg/controller/nodelifecycle): calls them Unknown when they are
// silent for too long, taints them as their conditions say, marks the pods of lost nodes not ready.
//
// Upstream looks at every node every five seconds. Here a node is looked at when it changes and
// when its grace ends; a renewed lease only moves that end.
#include "base/buf.h"
#include "controllers/controllers_int.h"
#include "controllers/node_health.h"
#include "controllers/pods.h"
#include "object/json.h"
#include <stdlib.h>

enum { WORKERS = 8 };

struct nodes {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *nodes, *leases, *pods;
    int pods_by_node;
    struct kl_handler node_handler, lease_handler, pod_handler;
    struct kl_map health; // name → kl_node_health
    struct kl_map zones;  // "region\nzone" → kl_zone
    bool all_down;
};

struct look {
    struct kl_action *status;
    struct kl_object *node;
    bool was_ready;
};

static const struct kl_resource *nodes_res(void)
{
    return kl_res(KL_RES_core_v1_nodes);
}

// ---- zones

static struct kl_zone *zone_of(struct nodes *c, const struct kl_value *node)
{
    const struct kl_value *labels = kl_meta_labels(node);
    struct kl_str region = kl_text(kl_map_value(labels, KL_STR("topology.kubernetes.io/region")));
    struct kl_str zone = kl_text(kl_map_value(labels, KL_STR("topology.kubernetes.io/zone")));
    char key[140];
    if (region.n + zone.n + 1 > sizeof(key))
        return NULL;
    memcpy(key, region.p, region.n);
    key[region.n] = '\n';
    memcpy(key + region.n + 1, zone.p, zone.n);
    struct kl_str k = {key, region.n + zone.n + 1};
    struct kl_zone *z = kl_map_get(&c->zones, k);
    if (!z) {
        z = calloc(1, sizeof(*z));
        if (!z || kl_map_set(&c->zones, k, z, NULL) < 0) {
            free(z);
            return NULL;
        }
    }
    return z;
}

static void look_at_all(struct nodes *c)
{
    KL_MAP_EACH (&c->health, e)
        kl_reconciler_add(c->reconciler, e->key);
}

// When not one node of any zone is ready, we are probably cut off ourselves: nobody is evicted.
static void judge_all(struct nodes *c)
{
    bool any = false, all_down = true;
    KL_MAP_EACH (&c->zones, e) {
        const struct kl_zone *z = e->value;
        if (z->ready + z->not_ready == 0)
            continue;
        any = true;
        all_down = all_down && kl_zone_judge(z) == KL_ZONE_FULL;
    }
    all_down = any && all_down;
    if (all_down == c->all_down)
        return;
    if (c->all_down) {
        // Back in touch: everyone gets a new grace before being judged.
        KL_MAP_EACH (&c->health, e)
            ((struct kl_node_health *)e->value)->probe_ms = kl_timers_now_ms(c->env.timers);
    }
    c->all_down = all_down;
    look_at_all(c);
}

static void count_node(struct nodes *c, struct kl_node_health *h, const struct kl_value *node)
{
    bool excluded =
        kl_map_value(kl_meta_labels(node), KL_STR("node.kubernetes.io/exclude-disruption")) != NULL;
    kl_health_count(h, excluded ? NULL : zone_of(c, node),
                    kl_str_eqz(kl_node_ready_status(node), "True"),
                    kl_timers_now_ms(c->env.timers));
    judge_all(c);
}

// ---- pods of a lost node

static void on_pod_marked(struct kl_action *a)
{
    if (!a->skipped && a->call.err.code == 0)
        kl_plan_event(a->plan, kl_res(KL_RES_core_v1_pods), a->arg, "Warning", "NodeNotReady",
                      "Node is not ready");
}

static void plan_pods_not_ready(struct kl_plan *p, struct nodes *c, struct kl_str node)
{
    struct kl_arena *a = &p->arena;
    size_t n;
    struct kl_entry *const *pods = kl_informer_index(c->pods, c->pods_by_node, node, &n);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *pod = &pods[i]->object->root;
        if (!kl_pod_ready(pod))
            continue;
        kl_plan_hold(p, pods[i]->object);
        struct kl_value draft = kl_object_draft(pods[i]->object);
        struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
        struct kl_value *list = status ? kl_edit(a, status, KL_F_conditions, KL_ARRAY) : NULL;
        const struct kl_value *was = kl_condition_find(list, "Ready");
        if (!was)
            continue;
        struct kl_value ready = *was;
        ready.owned = 0;
        kl_set_z(a, &ready, KL_F_status, "False");
        kl_set(a, &ready, KL_F_lastTransitionTime,
               kl_time(kl_timers_wall_us(c->env.timers) / 1000000 * 1000000));
        kl_condition_put(a, list, ready);
        struct kl_action *act =
            kl_plan_write(p, KL_VERB_UPDATE, kl_res(KL_RES_core_v1_pods), "status", &draft);
        if (!act)
            return;
        act->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        act->done_cb = on_pod_marked;
        act->arg = (void *)pod;
    }
}

// ---- taints and labels, in one patch

static bool put_labels(struct kl_buf *b, const struct kl_value *node)
{
    static const char *const pairs[][2] = {
        {"kubernetes.io/os", "beta.kubernetes.io/os"},
        {"kubernetes.io/arch", "beta.kubernetes.io/arch"},
    };
    const struct kl_value *labels = kl_meta_labels(node);
    bool any = false;
    for (size_t i = 0; i < KL_COUNT(pairs); i++) {
        const struct kl_value *first = kl_map_value(labels, kl_str(pairs[i][0]));
        const struct kl_value *second = kl_map_value(labels, kl_str(pairs[i][1]));
        if (!first || (second && kl_str_eq(kl_text(first), kl_text(second))))
            continue;
        kl_buf_puts(b, any ? KL_STR(",") : KL_STR(",\"labels\":{"));
        kl_json_write_string(b, kl_str(pairs[i][1]));
        kl_buf_putc(b, ':');
        kl_json_write_string(b, kl_text(first));
        any = true;
    }
    if (any)
        kl_buf_putc(b, '}');
    return any;
}

static void plan_node_patch(struct kl_plan *p, const struct kl_value *node,
                            const struct kl_taint_change *change)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    struct kl_str rv = kl_meta_rv(node);
    kl_buf_printf(&b, "{\"metadata\":{\"resourceVersion\":\"%.*s\"", KL_PRI(rv));
    bool any = put_labels(&b, node);
    kl_buf_putc(&b, '}');
    if (change->changed) {
        const struct kl_field *spec = kl_type_field(nodes_res()->type, KL_F_spec);
        const struct kl_type *list = kl_type_field(spec->type, KL_F_taints)->type;
        kl_buf_puts(&b, KL_STR(",\"spec\":{\"taints\":["));
        for (size_t i = 0; i < kl_len(&change->taints); i++) {
            if (i)
                kl_buf_putc(&b, ',');
            kl_json_encode(&b, list->elem, kl_at(&change->taints, i), KL_STR(""));
        }
        kl_buf_puts(&b, KL_STR("]}"));
    }
    kl_buf_putc(&b, '}');
    if ((any || change->changed) && !b.err) {
        struct kl_action *a = kl_plan_call(p, KL_VERB_PATCH, nodes_res(), NULL,
                                           (struct kl_str){"", 0}, kl_meta_name(node));
        if (a) {
            a->call.patch_type = KL_PATCH_MERGE;
            a->call.patch = kl_arena_dup(&p->arena, kl_buf_str(&b));
            a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        }
    }
    kl_buf_fini(&b);
}

static void plan_taints(struct kl_plan *p)
{
    struct nodes *c = p->arg;
    struct look *l = p->state;
    struct kl_node_health *h = kl_map_get(&c->health, p->key);
    if (p->err.code || !h)
        return;
    const struct kl_object *written = l->status ? l->status->call.object : NULL;
    const struct kl_value *node = written ? &written->root : &l->node->root;
    int64_t now_us = kl_timers_wall_us(c->env.timers), now_ms = kl_timers_now_ms(c->env.timers);
    count_node(c, h, node);
    if (written && l->was_ready)
        kl_plan_event(p, nodes_res(), node, "Normal", "NodeNotReady",
                      "Node %.*s status is now: NodeNotReady", KL_PRI(p->key));
    int64_t at = kl_health_taint_at(h, c->all_down);
    struct kl_taint_change change;
    kl_node_taints(&p->arena, node, false, c->all_down, now_us, &change);
    if (change.wants_no_execute && !c->all_down) {
        if (at <= now_ms) {
            if (h->zone)
                kl_zone_tainted(h->zone, now_ms);
            kl_node_taints(&p->arena, node, true, false, now_us, &change);
        } else if (at != INT64_MAX) {
            kl_plan_requeue(p, at - now_ms);
        } else {
            kl_plan_requeue(p, KL_NODE_MONITOR_MS);
        }
    }
    plan_node_patch(p, node, &change);
    if (kl_str_eqz(kl_node_ready_status(node), "Unknown"))
        plan_pods_not_ready(p, c, p->key);
}

static void decide(struct kl_plan *p)
{
    struct nodes *c = p->arg;
    struct look *l = KL_ARENA_NEW(&p->arena, struct look);
    struct kl_object *node = kl_plan_hold(p, kl_informer_get_key(c->nodes, p->key));
    struct kl_node_health *h = kl_map_get(&c->health, p->key);
    if (!l || !node || !h)
        return;
    struct kl_object *lease = kl_informer_get(c->leases, KL_STR("kube-node-lease"), p->key);
    int64_t now_ms = kl_timers_now_ms(c->env.timers), now_us = kl_timers_wall_us(c->env.timers);
    p->state = l;
    l->node = node;
    l->was_ready = kl_str_eqz(kl_node_ready_status(&node->root), "True");
    if (!h->registered) {
        h->registered = true;
        kl_plan_event(p, nodes_res(), &node->root, "Normal", "RegisteredNode",
                      "Node %.*s event: Registered Node %.*s in Controller", KL_PRI(p->key),
                      KL_PRI(p->key));
    }
    kl_health_observe(h, &node->root, lease ? &lease->root : NULL, now_ms, now_us);
    int64_t left_ms = kl_health_left_ms(h, now_ms);
    struct kl_value draft;
    if (left_ms > 0) {
        kl_plan_requeue(p, left_ms);
    } else {
        kl_plan_requeue(p, KL_NODE_MONITOR_MS);
        if (kl_health_mark_lost(&p->arena, &node->root, now_us, &draft))
            l->status = kl_plan_write(p, KL_VERB_UPDATE, nodes_res(), "status", &draft);
    }
    if (l->status)
        p->then = plan_taints;
    else
        plan_taints(p);
}

// ---- the shell

static void add_health(struct nodes *c, const struct kl_value *node)
{
    struct kl_str uid = kl_meta_uid(node);
    struct kl_node_health *h = calloc(1, sizeof(*h) + uid.n);
    if (!h || kl_map_set(&c->health, kl_meta_name(node), h, NULL) < 0) {
        free(h);
        return; // looked at again with its next change
    }
    memcpy(h + 1, uid.p, uid.n);
    h->uid = (struct kl_str){(char *)(h + 1), uid.n};
}

static void drop_health(struct nodes *c, struct kl_str name)
{
    struct kl_node_health *h = kl_map_del(&c->health, name);
    if (!h)
        return;
    kl_health_count(h, NULL, true, 0);
    free(h);
    judge_all(c);
}

static void on_node_add(struct kl_handler *h, struct kl_object *node)
{
    struct nodes *c = h->arg;
    if (!kl_map_get(&c->health, kl_meta_name(&node->root)))
        add_health(c, &node->root);
    kl_reconciler_add_object(c->reconciler, &node->root);
}

static void on_node_update(struct kl_handler *h, struct kl_object *old, struct kl_object *node)
{
    struct nodes *c = h->arg;
    struct kl_node_health *health = kl_map_get(&c->health, kl_meta_name(&node->root));
    if (health && !kl_str_eq(health->uid, kl_meta_uid(&node->root)))
        drop_health(c, kl_meta_name(&node->root));
    on_node_add(h, node);
}

static void on_node_remove(struct kl_handler *h, struct kl_object *node)
{
    struct nodes *c = h->arg;
    struct kl_object_ref about = kl_ref_of(nodes_res(), &node->root);
    kl_recorder_eventf(c->env.recorder, &about, "Normal", "RemovingNode",
                       "Node %.*s event: Removing Node %.*s from Controller", KL_PRI(about.name),
                       KL_PRI(about.name));
    drop_health(c, about.name);
}

// The commonest event of a cluster at rest: it only moves the end of the node's grace. A node that
// was lost is looked at; its kubelet will say that it is ready.
static void on_lease(struct kl_handler *h, struct kl_object *lease)
{
    struct nodes *c = h->arg;
    const struct kl_value *root = &lease->root;
    if (!kl_str_eqz(kl_meta_namespace(root), "kube-node-lease"))
        return;
    struct kl_node_health *health = kl_map_get(&c->health, kl_meta_name(root));
    int64_t renew = kl_int_at(root, 0, KL_F_spec, KL_F_renewTime);
    if (!health || !health->probe_ms || renew <= health->renew_us)
        return;
    health->renew_us = renew;
    health->probe_ms = kl_timers_now_ms(c->env.timers);
}

static void on_lease_update(struct kl_handler *h, struct kl_object *old, struct kl_object *lease)
{
    on_lease(h, lease);
}

// A pod that came to a lost node, or was called ready again by a late status.
static void on_pod(struct kl_handler *h, struct kl_object *pod)
{
    struct nodes *c = h->arg;
    struct kl_str name = kl_text_at(&pod->root, KL_F_spec, KL_F_nodeName);
    struct kl_object *node =
        name.n ? kl_informer_get(c->nodes, (struct kl_str){"", 0}, name) : NULL;
    if (node && kl_str_eqz(kl_node_ready_status(&node->root), "Unknown") &&
        kl_pod_ready(&pod->root))
        kl_reconciler_add(c->reconciler, name);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    on_pod(h, pod);
}

static void stop(void *self)
{
    struct nodes *c = self;
    if (c->nodes)
        kl_informer_remove_handler(c->nodes, &c->node_handler);
    if (c->leases)
        kl_informer_remove_handler(c->leases, &c->lease_handler);
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    kl_reconciler_free(c->reconciler);
    KL_MAP_EACH (&c->health, e)
        free(e->value);
    KL_MAP_EACH (&c->zones, e)
        free(e->value);
    kl_map_fini(&c->health);
    kl_map_fini(&c->zones);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct nodes *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "node life cycle controller: out of memory");
    c->env = *env;
    kl_map_init(&c->health);
    kl_map_init(&c->zones);
    c->nodes = kl_informers_get(env->informers, nodes_res());
    c->leases = kl_informers_get(env->informers, kl_res(KL_RES_coordination_v1_leases));
    c->pods = kl_informers_get(env->informers, kl_res(KL_RES_core_v1_pods));
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = "node-lifecycle",
        .client = env->client,
        .timers = env->timers,
        .recorder = env->recorder,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    if (!c->nodes || !c->leases || !c->pods || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->nodes) < 0 ||
        kl_reconciler_needs(c->reconciler, c->leases) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "node life cycle controller: out of memory");
    }
    c->pods_by_node = kl_informer_add_index(c->pods, kl_index_node_name);
    c->node_handler = (struct kl_handler){
        .add = on_node_add, .update = on_node_update, .remove = on_node_remove, .arg = c};
    c->lease_handler = (struct kl_handler){.add = on_lease, .update = on_lease_update, .arg = c};
    c->pod_handler = (struct kl_handler){.add = on_pod, .update = on_pod_update, .arg = c};
    kl_informer_add_handler(c->nodes, &c->node_handler);
    kl_informer_add_handler(c->leases, &c->lease_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct nodes *)self)->reconciler);
}

const struct kl_controller kl_node_controller = {
    .name = "node-lifecycle",
    .user = "system:serviceaccount:kube-system:node-controller",
    .component = "node-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
