// SPDX-License-Identifier: Apache-2.0
// The Node object: registered once, its status computed often and written when it changed or every
// five minutes; the events that go with it. The lease is node_lease.c.
#include "client/helpers.h"
#include "client/recorder.h"
#include "kubelet/cgroup.h"
#include "kubelet/node_int.h"
#include "kubelet/pods_int.h"
#include "kubelet/server.h"
#include "object/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    REPORT_MS = 5 * 60 * 1000,
    RETRY_MS = 500,
    WARM_UP_MS = 10 * 1000,
    TEXT_BYTES = 1024 * 1024,
    EVICT_MEMORY_BYTES = 100 * 1024 * 1024,
    EVICT_DISK_PERCENT = 5,
};

void kl_node_allocatable(const struct kl_kubelet *k, int64_t *ret_milli, int64_t *ret_bytes,
                         int64_t *ret_ephemeral)
{
    const struct kl_node_info *i = &k->node->info;
    *ret_milli = (int64_t)i->cpus * 1000;
    *ret_bytes = i->memory_bytes > EVICT_MEMORY_BYTES ? i->memory_bytes - EVICT_MEMORY_BYTES : 0;
    *ret_ephemeral = i->fs_bytes / 100 * (100 - EVICT_DISK_PERCENT);
}

bool kl_node_registered(const struct kl_node *n)
{
    return n->registered;
}

static const struct kl_value *node_root(const struct kl_node *n)
{
    struct kl_object *o =
        kl_informer_get(n->k->node_informer, KL_STR(""), kl_str(n->k->conf.node_name));
    return o ? &o->root : NULL;
}

struct kl_str kl_node_uid(const struct kl_node *n)
{
    return kl_meta_uid(node_root(n));
}

static void tell(struct kl_node *n, const char *reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void tell(struct kl_node *n, const char *reason, const char *fmt, ...)
{
    struct kl_object_ref ref = {.api_version = KL_STR("v1"),
                                .kind = KL_STR("Node"),
                                .name = kl_str(n->k->conf.node_name),
                                .uid = kl_str(n->k->conf.node_name)};
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    kl_recorder_event(n->k->recorder, &ref, "Normal", reason, kl_str(msg));
}

// ---- conditions

static void set_condition(struct kl_node *n, enum kl_node_condition which, bool status,
                          const char *reason, const char *message)
{
    struct kl_node_cond *c = &n->conditions[which];
    int64_t now = kl_timers_wall_us(n->k->timers) / 1000000;
    if (c->since_s == 0 || c->status != status) {
        c->since_s = now;
        n->changed = true;
    }
    if (strcmp(c->reason, reason) || strcmp(c->message, message))
        n->changed = true;
    c->status = status;
    snprintf(c->reason, sizeof(c->reason), "%s", reason);
    snprintf(c->message, sizeof(c->message), "%s", message);
}

static void compute_conditions(struct kl_node *n)
{
    struct kl_node_pressure p;
    const struct kl_node_info *i = &n->info;
    kl_node_pressure_read(&p, n->k->conf.data);
    bool memory = p.memory_available_bytes < EVICT_MEMORY_BYTES;
    bool disk = p.fs_available_bytes < i->fs_bytes / 100 * EVICT_DISK_PERCENT ||
                (i->fs_inodes && p.fs_free_inodes < i->fs_inodes / 100 * EVICT_DISK_PERCENT);
    bool pids = p.max_pids && p.pids > p.max_pids / 100 * 95;
    set_condition(n, KL_NODE_MEMORY, memory,
                  memory ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
                  memory ? "kubelet has insufficient memory available"
                         : "kubelet has sufficient memory available");
    set_condition(n, KL_NODE_DISK, disk,
                  disk ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                  disk ? "kubelet has disk pressure" : "kubelet has no disk pressure");
    set_condition(
        n, KL_NODE_PID, pids, pids ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
        pids ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available");
    const char *why = n->k->runtime ? kl_runtime_problem(n->k->runtime)
                                    : "container runtime status check may not have completed yet";
    char msg[1100];
    if (why && !kl_runtime_is_up(n->k->runtime))
        snprintf(msg, sizeof(msg), "container runtime is down: %s", why);
    else
        snprintf(msg, sizeof(msg), "%s", why ? why : "kubelet is posting ready status");
    set_condition(n, KL_NODE_READY, !why, why ? "KubeletNotReady" : "KubeletReady", msg);
}

static void tell_changes(struct kl_node *n)
{
    static const struct {
        const char *on, *off;
    } reasons[] = {{"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
                   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
                   {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
                   {"NodeReady", "NodeNotReady"}};
    for (int i = 0; i < KL_NODE_CONDITIONS; i++) {
        struct kl_node_cond *c = &n->conditions[i];
        int now = c->status ? 2 : 1;
        // NotReady is told only when it was Ready before.
        if (c->told != now && (i != KL_NODE_READY || c->status || c->told)) {
            const char *reason = c->status ? reasons[i].on : reasons[i].off;
            tell(n, reason, "Node %s status is now: %s", n->k->conf.node_name, reason);
        }
        c->told = now;
    }
}

// What a Node that is there already says: transitions keep their times.
static void adopt_conditions(struct kl_node *n, const struct kl_value *root)
{
    const struct kl_value *list = kl_path(root, KL_F_status, KL_F_conditions);
    for (int i = 0; i < KL_NODE_CONDITIONS; i++) {
        const struct kl_value *c = kl_condition_find(list, kl_node_condition_names[i]);
        if (!c)
            continue;
        n->conditions[i].status = kl_str_eqz(kl_text_at(c, KL_F_status), "True");
        n->conditions[i].since_s = kl_int_at(c, 0, KL_F_lastTransitionTime) / 1000000;
        n->conditions[i].told = n->conditions[i].status ? 2 : 1;
    }
    n->was_ready = n->conditions[KL_NODE_READY].status;
}

// What somebody else has written over our conditions is written anew: the node lifecycle controller
// says Unknown of a node whose lease was late (kubelet_node_status.go, tryUpdateNodeStatus).
static void compare_conditions(struct kl_node *n, const struct kl_value *root)
{
    const struct kl_value *list = kl_path(root, KL_F_status, KL_F_conditions);
    uint64_t rv = 0;
    // A copy older than our last write says nothing.
    if (!kl_str_to_u64(kl_meta_rv(root), &rv) || rv < n->written_rv)
        return;
    for (int i = 0; i < KL_NODE_CONDITIONS; i++) {
        struct kl_node_cond *c = &n->conditions[i];
        const struct kl_value *seen = kl_condition_find(list, kl_node_condition_names[i]);
        bool same = kl_str_eqz(kl_text_at(seen, KL_F_status), c->status ? "True" : "False");
        n->changed |= !same || !kl_str_eqz(kl_text_at(seen, KL_F_reason), c->reason) ||
                      !kl_str_eqz(kl_text_at(seen, KL_F_message), c->message);
        if (same)
            continue;
        c->since_s = kl_timers_wall_us(n->k->timers) / 1000000;
        c->told = c->status ? 1 : 2;
    }
}

const char *const kl_node_condition_names[] = {"MemoryPressure", "DiskPressure", "PIDPressure",
                                               "Ready"};

// ---- writing

struct node_call {
    struct kl_call call;
    struct kl_node *n;
    struct kl_arena a;
};

static void end_call(struct node_call *nc)
{
    struct kl_kubelet *k = nc->n->k;
    nc->n->writing = false;
    kl_object_unref(nc->call.body);
    kl_call_fini(&nc->call);
    kl_arena_fini(&nc->a);
    free(nc);
    kl_kubelet_release(k);
}

static struct node_call *new_call(struct kl_node *n, enum kl_verb verb)
{
    struct node_call *nc = calloc(1, sizeof(*nc));
    if (!nc)
        abort();
    kl_arena_init(&nc->a, 16 * 1024 * 1024);
    nc->n = n;
    nc->call.verb = verb;
    nc->call.res = kl_res(KL_RES_core_v1_nodes);
    nc->call.name = kl_str(n->k->conf.node_name);
    nc->call.arg = nc;
    n->writing = true;
    kl_kubelet_hold(n->k);
    return nc;
}

static void on_status_written(struct kl_call *call)
{
    struct node_call *nc = call->arg;
    struct kl_node *n = nc->n;
    struct kl_kubelet *k = n->k;
    if (call->err.code) {
        kl_log(KL_LOG_WARN, "kubelet", "node status not written: %s", call->err.msg);
        n->changed = true;
        if (call->err.code == KL_ENOTFOUND)
            n->registered = false; // deleted: registered anew
        if (!k->stopping)
            kl_timer_after(k->timers, &n->timer, RETRY_MS);
    } else {
        n->written_ms = kl_timers_now_ms(k->timers);
        if (call->object)
            kl_str_to_u64(kl_meta_rv(&call->object->root), &n->written_rv);
        if (!k->stopping)
            tell_changes(n);
        if (!k->ready_told && n->conditions[KL_NODE_READY].status) {
            k->ready_told = true;
            if (k->on_ready)
                k->on_ready(k->ready_arg);
        }
    }
    end_call(nc);
}

static void write_status(struct kl_node *n)
{
    struct node_call *nc = new_call(n, KL_VERB_PATCH);
    struct kl_buf b;
    kl_buf_init(&b, TEXT_BYTES);
    kl_buf_puts(&b, KL_STR("{\"status\":"));
    kl_node_status_json(n, &b);
    kl_buf_putc(&b, '}');
    nc->call.patch = kl_arena_dup(&nc->a, kl_buf_str(&b));
    nc->call.sub = "status";
    nc->call.patch_type = KL_PATCH_STRATEGIC;
    nc->call.done_cb = on_status_written;
    kl_buf_fini(&b);
    n->changed = false;
    kl_client_start(n->k->client, &nc->call);
}

static void on_registered(struct kl_call *call)
{
    struct node_call *nc = call->arg;
    struct kl_node *n = nc->n;
    struct kl_kubelet *k = n->k;
    if (call->err.code && call->err.code != KL_EEXISTS) {
        kl_log(KL_LOG_WARN, "kubelet", "node %s not registered: %s", k->conf.node_name,
               call->err.msg);
    } else {
        n->registered = n->changed = true;
        kl_log(KL_LOG_INFO, "kubelet", "node %s registered", k->conf.node_name);
    }
    if (!k->stopping)
        kl_timer_after(k->timers, &n->timer, n->registered ? 0 : RETRY_MS);
    end_call(nc);
}

static void create_node(struct kl_node *n)
{
    struct node_call *nc = new_call(n, KL_VERB_CREATE);
    struct kl_buf b;
    struct kl_error err = {0};
    struct kl_value draft;
    kl_buf_init(&b, TEXT_BYTES);
    kl_node_json(n, &b);
    struct kl_str text = kl_arena_dup(&nc->a, kl_buf_str(&b));
    kl_buf_fini(&b);
    nc->call.done_cb = on_registered;
    if (kl_json_decode(&nc->a, nc->call.res->type, text, NULL, &draft, &err) ||
        !(nc->call.body = kl_object_freeze(nc->call.res->type, &draft))) {
        kl_log(KL_LOG_ERROR, "kubelet", "node object: %s", err.msg);
        kl_timer_after(n->k->timers, &n->timer, 10000);
        end_call(nc);
        return;
    }
    kl_client_start(n->k->client, &nc->call);
}

static void on_labels_written(struct kl_call *call)
{
    struct node_call *nc = call->arg;
    struct kl_kubelet *k = nc->n->k;
    if (call->err.code)
        kl_log(KL_LOG_WARN, "kubelet", "node labels not written: %s", call->err.msg);
    if (!k->stopping)
        kl_timer_after(k->timers, &nc->n->timer, 0);
    end_call(nc);
}

// A Node of an earlier start: labels that are ours are put right.
static void adopt_node(struct kl_node *n, const struct kl_value *root)
{
    n->registered = n->changed = true;
    adopt_conditions(n, root);
    struct node_call *nc = new_call(n, KL_VERB_PATCH);
    struct kl_buf b;
    kl_buf_init(&b, TEXT_BYTES);
    kl_buf_puts(&b, KL_STR("{\"metadata\":{\"labels\":"));
    kl_node_labels_json(n, &b);
    kl_buf_puts(&b, KL_STR("}}"));
    nc->call.patch = kl_arena_dup(&nc->a, kl_buf_str(&b));
    nc->call.patch_type = KL_PATCH_MERGE;
    nc->call.done_cb = on_labels_written;
    kl_buf_fini(&b);
    kl_client_start(n->k->client, &nc->call);
}

// ---- the clock of it

// The lowest that the QoS groups are set to follows the pods.
struct qos_job {
    struct kl_job job;
    struct kl_kubelet *k;
    int64_t burstable, allocatable;
};

static void set_qos(struct kl_job *job)
{
    struct qos_job *q = KL_CONTAINER_OF(job, struct qos_job, job);
    kl_cgroup_set_qos(q->k->conf.cgroup_root, q->burstable, q->allocatable);
}

static void qos_set(struct kl_job *job)
{
    struct qos_job *q = KL_CONTAINER_OF(job, struct qos_job, job);
    kl_kubelet_release(q->k);
    free(q);
}

static void refresh_qos(struct kl_node *n)
{
    int64_t burstable = 0, milli, bytes, ephemeral;
    size_t it = 0;
    for (struct kl_entry *e; (e = kl_informer_next(n->k->pod_informer, &it));)
        if (kl_pod_qos(&e->object->root) == KL_QOS_BURSTABLE) {
            kl_pod_cgroup_requests(&e->object->root, &milli, &bytes);
            burstable += milli;
        }
    if (burstable == n->burstable_milli)
        return;
    n->burstable_milli = burstable;
    struct qos_job *q = calloc(1, sizeof(*q));
    if (!q)
        return;
    kl_node_allocatable(n->k, &milli, &bytes, &ephemeral);
    *q = (struct qos_job){{.work = set_qos, .done = qos_set}, n->k, burstable, milli};
    kl_kubelet_hold(n->k);
    kl_pool_submit(n->k->pool, &q->job);
}

// A Node that was Ready is not said NotReady because its kubelet has just been restarted: the
// runtime gets a few seconds to answer.
static bool is_warming_up(struct kl_node *n)
{
    struct kl_kubelet *k = n->k;
    int64_t left = n->begun_ms + WARM_UP_MS - kl_timers_now_ms(k->timers);
    n->seen_ready = n->seen_ready || (k->runtime && !kl_runtime_problem(k->runtime));
    if (!n->was_ready || n->seen_ready || left <= 0)
        return false;
    kl_timer_after(k->timers, &n->timer, left); // the runtime's answer comes before
    return true;
}

static void on_timer(struct kl_timer *t)
{
    struct kl_node *n = KL_CONTAINER_OF(t, struct kl_node, timer);
    struct kl_kubelet *k = n->k;
    if (k->stopping)
        return;
    kl_timer_after(k->timers, &n->timer, k->conf.status_interval_ms);
    if (n->writing || !kl_informer_synced(k->node_informer))
        return;
    const struct kl_value *root = node_root(n);
    if (!n->registered) {
        if (root)
            adopt_node(n, root);
        else
            create_node(n);
        return;
    }
    if (is_warming_up(n))
        return;
    compute_conditions(n);
    if (root && n->written_ms)
        compare_conditions(n, root);
    refresh_qos(n);
    struct kl_str images = kl_images_status_json(k->images);
    uint64_t hash = kl_str_hash(images);
    n->changed = n->changed || hash != n->images_hash;
    n->images_hash = hash;
    if (n->changed || kl_timers_now_ms(k->timers) - n->written_ms >= REPORT_MS)
        write_status(n);
}

void kl_node_refresh(struct kl_node *n)
{
    if (n && !n->k->stopping)
        kl_timer_after(n->k->timers, &n->timer, 0);
}

// ---- the pod network that was given to the node

struct cni_job {
    struct kl_job job;
    struct kl_kubelet *k;
    struct kl_kubelet_conf conf; // a view: only pod_cidr is its own
    char *cidr;
    struct kl_error err;
    int status;
};

static void write_cni(struct kl_job *job)
{
    struct cni_job *j = KL_CONTAINER_OF(job, struct cni_job, job);
    j->status = kl_cni_write(&j->conf, &j->err);
    if (!j->status)
        j->status = kl_cni_masquerade(&j->conf, &j->err);
}

static void cni_written(struct kl_job *job)
{
    struct cni_job *j = KL_CONTAINER_OF(job, struct cni_job, job);
    struct kl_kubelet *k = j->k;
    if (j->status)
        kl_log(KL_LOG_ERROR, "kubelet", "pod network %s: %s", j->cidr, j->err.msg);
    free(k->conf.pod_cidr);
    k->conf.pod_cidr = j->cidr;
    free(j);
    kl_kubelet_release(k);
}

static void follow_cidr(struct kl_node *n, const struct kl_value *root)
{
    struct kl_kubelet *k = n->k;
    struct kl_str cidr = kl_text_at(root, KL_F_spec, KL_F_podCIDR);
    if (!cidr.n || k->conf.pod_cidr_given || !k->conf.own_containerd ||
        kl_str_eqz(cidr, k->conf.pod_cidr))
        return;
    struct cni_job *j = calloc(1, sizeof(*j));
    if (!j)
        return;
    j->k = k;
    j->cidr = kl_strdup(cidr);
    j->conf = k->conf;
    j->conf.pod_cidr = j->cidr;
    j->job.work = write_cni;
    j->job.done = cni_written;
    kl_kubelet_hold(k);
    kl_pool_submit(k->pool, &j->job);
}

static void node_seen(struct kl_handler *h, struct kl_object *o)
{
    follow_cidr(h->arg, &o->root);
    kl_lease_node_seen(h->arg);
}

static void node_updated(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    follow_cidr(h->arg, &o->root);
}

static void node_removed(struct kl_handler *h, struct kl_object *last)
{
    struct kl_node *n = h->arg;
    n->registered = false;
    kl_node_refresh(n);
}

static void node_synced(struct kl_handler *h)
{
    kl_node_refresh(h->arg);
}

int kl_node_new(struct kl_kubelet *k, struct kl_node **ret, struct kl_error *err)
{
    struct kl_node *n = calloc(1, sizeof(*n));
    if (!n)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    n->k = k;
    n->timer.cb = on_timer;
    n->burstable_milli = -1;
    n->begun_ms = kl_timers_now_ms(k->timers);
    kl_node_info_read(&n->info, k->conf.data); // the file system that its pressure is of
    n->handler = (struct kl_handler){.add = node_seen,
                                     .update = node_updated,
                                     .remove = node_removed,
                                     .synced = node_synced,
                                     .arg = n};
    kl_informer_add_handler(k->node_informer, &n->handler);
    kl_lease_init(n);
    tell(n, "Starting", "Starting kubelet.");
    *ret = n;
    return 0;
}

void kl_node_free(struct kl_node *n)
{
    if (!n)
        return;
    kl_timer_cancel(n->k->timers, &n->timer);
    kl_lease_fini(n);
    free(n);
}
