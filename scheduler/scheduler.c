// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/rand.h"
#include "client/informer.h"
#include "client/recorder.h"
#include "object/json.h"
#include "object/timestamp.h"
#include "scheduler/queue.h"
#include "scheduler/schedule.h"
#include <stdlib.h>

enum {
    SLICE = 64,         // pods tried in one turn of the loop
    SLICE_MS = 4,       // or as long as this
    MAX_BINDING = 256,  // bindings on their way
    MESSAGE_MAX = 1024, // of an Event; upstream cuts there as well
};

// A call about one pod: its binding, or the condition that says why there is none.
struct job {
    struct kl_call call;
    struct kl_scheduler *s; // NULL: the scheduler is gone
    struct job *next;
    struct kl_queued *pod;    // binding: taken from the queue
    struct kl_object *object; // the pod, one reference
    struct kl_object *body;
    struct kl_arena arena;
    struct kl_str node;
};

struct kl_scheduler {
    struct kl_client *client;
    struct kl_timers *timers;
    bool own_timers;
    char *name;
    struct kl_informers *informers;
    struct kl_informer *pods, *nodes;
    struct kl_handler pod_handler, node_handler;
    struct kl_recorder *recorder;
    struct kl_queue *queue;
    struct kl_cache cache;
    struct kl_timer turn;
    struct kl_arena arena; // of one decision
    struct job *jobs;
    size_t binding;
    int unsynced;
    int percentage_of_nodes;
    size_t next_start;
    uint64_t random;
    int64_t scheduled, attempts;
};

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

static void wake(void *arg)
{
    struct kl_scheduler *s = arg;
    if (s->unsynced == 0 && s->binding < MAX_BINDING && !kl_timer_is_set(&s->turn))
        kl_timer_after(s->timers, &s->turn, 0);
}

// ---- calls

static struct job *new_job(struct kl_scheduler *s, struct kl_object *pod)
{
    struct job *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    kl_arena_init(&j->arena, 1 << 20);
    j->s = s;
    j->object = kl_object_ref(pod);
    j->call.res = pods_res();
    j->call.ns = kl_meta_namespace(&pod->root);
    j->call.name = kl_meta_name(&pod->root);
    j->call.arg = j;
    j->next = s->jobs;
    s->jobs = j;
    return j;
}

static void end_job(struct job *j)
{
    if (j->s) {
        struct job **at = &j->s->jobs;
        while (*at != j)
            at = &(*at)->next;
        *at = j->next;
    }
    kl_call_fini(&j->call);
    kl_object_unref(j->body);
    kl_object_unref(j->object);
    kl_arena_fini(&j->arena);
    free(j);
}

static void on_status_patched(struct kl_call *call)
{
    struct job *j = call->arg;
    if (call->err.code && call->err.code != KL_ENOTFOUND && call->err.code != KL_ECANCELED)
        kl_log(KL_LOG_WARN, "scheduler", "pod condition not written pod=%.*s/%.*s error=\"%s\"",
               KL_PRI(call->ns), KL_PRI(call->name), call->err.msg);
    end_job(j);
}

static struct kl_str condition_patch(struct job *j, const char *reason, struct kl_str message,
                                     const struct kl_value *was, int64_t now_us)
{
    char since[KL_TIME_TEXT];
    bool same = was && kl_str_eq(kl_text(kl_get(was, KL_F_status)), KL_STR("False"));
    kl_time_text(same ? kl_int_or(kl_get(was, KL_F_lastTransitionTime), now_us) : now_us, since);
    struct kl_buf b;
    kl_buf_init(&b, 256 << 10);
    kl_buf_puts(&b, KL_STR("{\"status\":{\"conditions\":[{\"type\":\"PodScheduled\","
                           "\"status\":\"False\",\"lastProbeTime\":null,"));
    kl_buf_printf(&b, "\"lastTransitionTime\":\"%s\",\"observedGeneration\":%lld,", since,
                  (long long)kl_int_at(&j->object->root, 0, KL_F_metadata, KL_F_generation));
    kl_buf_printf(&b, "\"reason\":\"%s\",\"message\":", reason);
    kl_json_write_string(&b, message);
    kl_buf_puts(&b, KL_STR("}]}}"));
    struct kl_str patch = {0};
    if (!b.err)
        patch = kl_arena_dup(&j->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return patch;
}

static void write_condition(struct kl_scheduler *s, struct kl_object *pod, const char *reason,
                            struct kl_str message)
{
    const struct kl_value *was =
        kl_condition_find(kl_path(&pod->root, KL_F_status, KL_F_conditions), "PodScheduled");
    if (was && kl_str_eq(kl_text(kl_get(was, KL_F_status)), KL_STR("False")) &&
        kl_str_eqz(kl_text(kl_get(was, KL_F_reason)), reason) &&
        kl_str_eq(kl_text(kl_get(was, KL_F_message)), message))
        return;
    struct job *j = new_job(s, pod);
    if (!j)
        return;
    j->call.verb = KL_VERB_PATCH;
    j->call.sub = "status";
    j->call.patch_type = KL_PATCH_STRATEGIC;
    j->call.patch = condition_patch(j, reason, message, was, kl_timers_wall_us(s->timers));
    j->call.done_cb = on_status_patched;
    if (!j->call.patch.n) {
        end_job(j);
        return;
    }
    kl_client_start(s->client, &j->call);
}

static void tell(struct kl_scheduler *s, struct kl_object *pod, const char *type,
                 const char *reason, struct kl_str message)
{
    struct kl_object_ref ref = kl_ref_of(pods_res(), &pod->root);
    kl_recorder_event(s->recorder, &ref, type, reason, message);
}

// Puts the pod back and says why, unless it is gone or has got a node meanwhile.
static void fail(struct kl_scheduler *s, struct kl_queued *p, uint32_t rejected_by,
                 struct kl_str message)
{
    struct kl_object *now = kl_informer_get(s->pods, p->info->ns, p->info->name);
    if (!now || !kl_str_eq(kl_meta_uid(&now->root), p->info->uid) ||
        kl_text_at(&now->root, KL_F_spec, KL_F_nodeName).n) {
        kl_queue_bound(s->queue, p);
        return;
    }
    kl_object_ref(now);
    kl_queue_fail(s->queue, p, rejected_by);
    // The pod as it is now, which may have changed since it was taken.
    kl_queue_set(s->queue, now, kl_len(kl_path(&now->root, KL_F_spec, KL_F_schedulingGates)) != 0);
    struct kl_str shown = message;
    if (shown.n > MESSAGE_MAX)
        shown = kl_arena_printf(&s->arena, "%.*s ...", MESSAGE_MAX - 4, message.p);
    tell(s, now, "Warning", "FailedScheduling", shown);
    write_condition(s, now, rejected_by ? "Unschedulable" : "SchedulerError", message);
    kl_object_unref(now);
}

static void on_bound(struct kl_call *call)
{
    struct job *j = call->arg;
    struct kl_scheduler *s = j->s;
    if (!s) {
        end_job(j);
        return;
    }
    s->binding--;
    if (call->err.code == 0) {
        struct kl_str text = kl_arena_printf(&j->arena, "Successfully assigned %.*s/%.*s to %.*s",
                                             KL_PRI(call->ns), KL_PRI(call->name), KL_PRI(j->node));
        s->scheduled++;
        tell(s, j->object, "Normal", "Scheduled", text);
        kl_queue_bound(s->queue, j->pod);
    } else {
        kl_log(KL_LOG_WARN, "scheduler", "binding failed pod=%.*s/%.*s node=%.*s error=\"%s\"",
               KL_PRI(call->ns), KL_PRI(call->name), KL_PRI(j->node), call->err.msg);
        kl_cache_forget(&s->cache, kl_meta_uid(&j->object->root));
        kl_arena_reset(&s->arena);
        fail(s, j->pod, 0, kl_arena_printf(&s->arena, "binding rejected: %s", call->err.msg));
        kl_queue_move(s->queue, ~0u); // the place it was to take is free again
    }
    end_job(j);
    wake(s);
}

static int start_binding(struct kl_scheduler *s, struct kl_queued *p, struct kl_node_info *node)
{
    struct job *j = new_job(s, p->info->object);
    if (!j)
        return KL_ENOMEM;
    struct kl_arena *a = &j->arena;
    struct kl_value root = kl_new_struct(), meta = kl_new_struct(), target = kl_new_struct();
    j->node = kl_arena_dup(a, node->name);
    kl_set_str(a, &meta, KL_F_name, p->info->name);
    kl_set_str(a, &meta, KL_F_namespace, p->info->ns);
    kl_set_str(a, &meta, KL_F_uid, p->info->uid);
    kl_set_z(a, &target, KL_F_kind, "Node");
    kl_set_str(a, &target, KL_F_name, j->node);
    kl_set(a, &root, KL_F_metadata, meta);
    kl_set(a, &root, KL_F_target, target);
    const struct kl_subresource *sub = kl_resource_sub(pods_res(), KL_STR("binding"));
    j->body = kl_object_freeze(sub->type, &root);
    struct kl_pod_info *assumed = j->body ? kl_pod_info_new(p->info->object) : NULL;
    if (!j->node.p || !assumed || kl_cache_assume(&s->cache, assumed, node) < 0) {
        kl_pod_info_free(assumed);
        end_job(j);
        return KL_ENOMEM;
    }
    j->pod = p;
    j->call.verb = KL_VERB_CREATE;
    j->call.sub = "binding";
    j->call.body = j->body;
    j->call.done_cb = on_bound;
    s->binding++;
    kl_client_start(s->client, &j->call);
    return 0;
}

// ---- the loop

static void try_one(struct kl_scheduler *s, struct kl_queued *p)
{
    struct kl_schedule_result r;
    struct kl_schedule_opts o = {
        .percentage_of_nodes = s->percentage_of_nodes,
        .next_start = &s->next_start,
        .random = &s->random,
    };
    kl_arena_reset(&s->arena);
    s->attempts++;
    int rc = kl_schedule(&s->arena, &s->cache, p->info, &o, &r);
    if (rc == 0 && !r.node) {
        fail(s, p, r.rejected_by, r.message);
        return;
    }
    if (rc == 0)
        rc = start_binding(s, p, r.node);
    if (rc < 0)
        kl_queue_fail(s->queue, p, 0);
}

static void on_turn(struct kl_timer *t)
{
    struct kl_scheduler *s = KL_CONTAINER_OF(t, struct kl_scheduler, turn);
    int64_t until = kl_timers_now_ms(s->timers) + SLICE_MS;
    for (int i = 0; i < SLICE && s->binding < MAX_BINDING; i++) {
        struct kl_queued *p = kl_queue_take(s->queue);
        if (!p)
            return;
        try_one(s, p);
        if (kl_timers_now_ms(s->timers) > until)
            break;
    }
    if (kl_queue_count(s->queue).active)
        wake(s);
}

// ---- events

static bool is_ours(const struct kl_scheduler *s, const struct kl_value *pod)
{
    return kl_str_eqz(kl_text_at(pod, KL_F_spec, KL_F_schedulerName), s->name);
}

static void show_pod(struct kl_scheduler *s, struct kl_object *pod)
{
    const struct kl_value *root = &pod->root;
    int rc = 0;
    if (kl_text_at(root, KL_F_spec, KL_F_nodeName).n) {
        kl_queue_remove(s->queue, kl_meta_uid(root));
        rc = kl_cache_set_pod(&s->cache, pod);
    } else if (!is_ours(s, root)) {
        return;
    } else if (kl_meta_deleting(root)) {
        kl_queue_remove(s->queue, kl_meta_uid(root));
    } else {
        rc = kl_queue_set(s->queue, pod,
                          kl_len(kl_path(root, KL_F_spec, KL_F_schedulingGates)) != 0);
    }
    if (rc < 0)
        kl_log(KL_LOG_ERROR, "scheduler", "out of memory pod=%.*s", KL_PRI(kl_meta_name(root)));
}

static void on_pod_add(struct kl_handler *h, struct kl_object *pod)
{
    show_pod(h->arg, pod);
}

static void drop_pod(struct kl_scheduler *s, const struct kl_value *pod)
{
    struct kl_str uid = kl_meta_uid(pod);
    kl_queue_remove(s->queue, uid);
    if (kl_cache_remove_pod(&s->cache, uid))
        kl_queue_move(s->queue, 1u << KL_PLUGIN_RESOURCES | 1u << KL_PLUGIN_NODE_PORTS);
}

static bool needs_less(const struct kl_value *was, const struct kl_value *is)
{
    return !kl_value_equal(kl_path(was, KL_F_spec, KL_F_containers),
                           kl_path(is, KL_F_spec, KL_F_containers));
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    struct kl_scheduler *s = h->arg;
    if (!kl_str_eq(kl_meta_uid(&old->root), kl_meta_uid(&pod->root)))
        drop_pod(s, &old->root);
    show_pod(s, pod);
    if (kl_text_at(&old->root, KL_F_spec, KL_F_nodeName).n && needs_less(&old->root, &pod->root))
        kl_queue_move(s->queue, 1u << KL_PLUGIN_RESOURCES);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    drop_pod(h->arg, &pod->root);
}

static void set_node(struct kl_scheduler *s, struct kl_object *node)
{
    if (kl_cache_set_node(&s->cache, node) < 0)
        kl_log(KL_LOG_ERROR, "scheduler", "out of memory node=%.*s",
               KL_PRI(kl_meta_name(&node->root)));
}

static void on_node_add(struct kl_handler *h, struct kl_object *node)
{
    struct kl_scheduler *s = h->arg;
    set_node(s, node);
    kl_queue_move(s->queue, ~0u);
}

// Which plugins' verdicts a change of the node can turn; heartbeats turn none.
static void on_node_update(struct kl_handler *h, struct kl_object *old, struct kl_object *node)
{
    struct kl_scheduler *s = h->arg;
    const struct kl_value *was = &old->root, *is = &node->root;
    uint32_t plugins = 0;
    if (!kl_value_equal(kl_path(was, KL_F_status, KL_F_allocatable),
                        kl_path(is, KL_F_status, KL_F_allocatable)))
        plugins |= 1u << KL_PLUGIN_RESOURCES;
    if (!kl_value_equal(kl_meta_labels(was), kl_meta_labels(is)))
        plugins |= 1u << KL_PLUGIN_NODE_AFFINITY;
    if (!kl_value_equal(kl_path(was, KL_F_spec, KL_F_taints), kl_path(is, KL_F_spec, KL_F_taints)))
        plugins |= 1u << KL_PLUGIN_TAINTS;
    if (kl_true_at(was, KL_F_spec, KL_F_unschedulable) !=
        kl_true_at(is, KL_F_spec, KL_F_unschedulable))
        plugins |= 1u << KL_PLUGIN_NODE_UNSCHEDULABLE;
    set_node(s, node);
    if (plugins) // a node may have been kept from a later verdict by an earlier one
        kl_queue_move(s->queue, ~0u);
}

static void on_node_remove(struct kl_handler *h, struct kl_object *node)
{
    struct kl_scheduler *s = h->arg;
    kl_cache_remove_node(&s->cache, kl_meta_name(&node->root));
}

static void on_synced(struct kl_handler *h)
{
    struct kl_scheduler *s = h->arg;
    s->unsynced--;
    wake(s);
}

// ---- life

int kl_scheduler_start(struct kl_loop *loop, struct kl_client *client,
                       const struct kl_scheduler_options *o, struct kl_scheduler **ret,
                       struct kl_error *err)
{
    struct kl_scheduler *s = calloc(1, sizeof(*s));
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "scheduler: out of memory");
    kl_arena_init(&s->arena, (size_t)64 << 20);
    kl_cache_init(&s->cache);
    s->client = client;
    s->timers = o->timers;
    s->own_timers = !o->timers;
    s->percentage_of_nodes = o->percentage_of_nodes;
    s->random = o->seed ? o->seed : kl_rand_u64();
    s->turn.cb = on_turn;
    int rc = s->own_timers ? kl_timers_new(loop, &s->timers, err) : 0;
    if (rc < 0) {
        kl_arena_fini(&s->arena);
        free(s);
        return rc;
    }
    s->name = strdup(o->scheduler_name ? o->scheduler_name : "default-scheduler");
    s->informers = kl_informers_new(client, s->timers);
    s->queue = kl_queue_new(s->timers, wake, s);
    s->recorder = s->name ? kl_recorder_new(client, s->timers, kl_str(s->name), KL_STR("")) : NULL;
    if (s->informers) {
        // Pods that have ended use nothing; not even their objects are kept.
        s->pods = kl_informers_get_selected(s->informers, pods_res(),
                                            KL_STR("status.phase!=Succeeded,status.phase!=Failed"));
        s->nodes = kl_informers_get(s->informers, kl_res(KL_RES_core_v1_nodes));
    }
    if (!s->queue || !s->recorder || !s->pods || !s->nodes) {
        kl_scheduler_stop(s);
        return kl_error_set(err, KL_ENOMEM, "scheduler: out of memory");
    }
    s->unsynced = 2;
    s->pod_handler = (struct kl_handler){.add = on_pod_add,
                                         .update = on_pod_update,
                                         .remove = on_pod_remove,
                                         .synced = on_synced,
                                         .arg = s};
    s->node_handler = (struct kl_handler){.add = on_node_add,
                                          .update = on_node_update,
                                          .remove = on_node_remove,
                                          .synced = on_synced,
                                          .arg = s};
    kl_informer_add_handler(s->pods, &s->pod_handler);
    kl_informer_add_handler(s->nodes, &s->node_handler);
    if (kl_informers_start(s->informers) < 0) {
        kl_scheduler_stop(s);
        return kl_error_set(err, KL_ENOMEM, "scheduler: out of memory");
    }
    *ret = s;
    return 0;
}

void kl_scheduler_stop(struct kl_scheduler *s)
{
    if (!s)
        return;
    kl_timer_cancel(s->timers, &s->turn);
    kl_informers_free(s->informers);
    kl_recorder_free(s->recorder);
    for (struct job *j = s->jobs, *next; j; j = next) {
        next = j->next;
        j->s = NULL; // ends when its call does
        kl_client_cancel(s->client, &j->call);
    }
    kl_queue_free(s->queue);
    kl_cache_fini(&s->cache);
    kl_arena_fini(&s->arena);
    if (s->own_timers)
        kl_timers_free(s->timers);
    free(s->name);
    free(s);
}

void kl_scheduler_get_stats(const struct kl_scheduler *s, struct kl_scheduler_stats *ret)
{
    struct kl_queue_counts c = kl_queue_count(s->queue);
    *ret = (struct kl_scheduler_stats){
        .nodes = s->cache.n,
        .active = c.active,
        .backoff = c.backoff,
        .unschedulable = c.unschedulable,
        .binding = s->binding,
        .scheduled = s->scheduled,
        .attempts = s->attempts,
    };
}

bool kl_scheduler_idle(const struct kl_scheduler *s)
{
    return s->unsynced == 0 && kl_queue_count(s->queue).active == 0 && !s->jobs &&
           kl_recorder_queued(s->recorder) == 0;
}
