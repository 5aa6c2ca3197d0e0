// SPDX-License-Identifier: Apache-2.0
// The table of pods: fed by the API server's list and watch on one side, by the runtime's list and
// events on the other.
#include "kubelet/pods_int.h"
#include "kubelet/volumes.h"
#include "kubelet/probes.h"
#include <stdio.h>
#include <stdlib.h>

// With events the list is only a safety net; without them it is how exits are seen.
enum { RELIST_WITH_EVENTS_MS = 60000, RELIST_POLL_MS = 1000 };

static void on_wake(struct kl_timer *t)
{
    kl_pod_sync(KL_CONTAINER_OF(t, struct kl_pod, wake));
}

static void on_status_retry(struct kl_timer *t)
{
    kl_pod_status_push(KL_CONTAINER_OF(t, struct kl_pod, status_retry));
}

static struct kl_pod *new_pod(struct kl_pods *ps, struct kl_str uid, struct kl_str ns,
                              struct kl_str name)
{
    struct kl_pod *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    p->pods = ps;
    p->k = ps->k;
    p->uid = kl_strdup(uid);
    p->ns = kl_strdup(ns);
    p->name = kl_strdup(name);
    p->full = kl_asprintf("%s_%s(%s)", p->name, p->ns, p->uid);
    p->grace_ms = -1;
    p->wake.cb = on_wake;
    p->status_retry.cb = on_status_retry;
    p->first_seen_ms = kl_kubelet_now_ms(ps->k);
    if (kl_map_set(&ps->by_uid, uid, p, NULL))
        abort();
    return p;
}

void kl_pod_unlink(struct kl_pod *p)
{
    kl_map_del(&p->pods->by_uid, kl_str(p->uid));
    kl_timer_cancel(p->k->timers, &p->wake);
    kl_timer_cancel(p->k->timers, &p->status_retry);
    kl_probes_forget(p->k->probes, p);
    kl_volumes_free(p->volumes);
    kl_rt_fini(&p->rt);
    for (struct kl_ctr_mem *m; (m = p->mem);) {
        p->mem = m->next;
        free(m->name);
        free(m->pull_error);
        free(m->reason);
        free(m->message);
        free(m);
    }
    kl_object_unref(p->object);
    kl_object_unref(p->granted);
    kl_object_unref(p->status);
    free(p->uid);
    free(p->ns);
    free(p->name);
    free(p->full);
    free(p->message);
    free(p);
}

void kl_pod_dir(const struct kl_pod *p, struct kl_path *ret)
{
    kl_path_set(ret, "%s/%s", p->k->conf.pods_dir, p->uid);
}

void kl_pod_log_dir(const struct kl_pod *p, struct kl_path *ret)
{
    kl_path_set(ret, "%s/%s_%s_%s", p->k->conf.logs_dir, p->ns, p->name, p->uid);
}

static void tell_event(struct kl_pod *p, struct kl_str field_path, const char *type,
                       const char *reason, const char *fmt, va_list ap)
{
    if (!p->k->recorder || !p->object)
        return;
    struct kl_object_ref ref = kl_ref_of(kl_res(KL_RES_core_v1_pods), &p->object->root);
    ref.field_path = field_path;
    char msg[1024];
    vsnprintf(msg, sizeof(msg), fmt, ap);
    char *clean = kl_text_clean(kl_str(msg)); // commands print what they like
    struct kl_str text = kl_str(clean);
    if (text.n > sizeof(msg) - 1) // it grew, and is cut between characters
        for (text.n = sizeof(msg) - 1; ((unsigned char)text.p[text.n] & 0xc0) == 0x80;)
            text.n--;
    kl_recorder_event(p->k->recorder, &ref, type, reason, text);
    free(clean);
}

void kl_pod_event(struct kl_pod *p, const char *type, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell_event(p, KL_STR(""), type, reason, fmt, ap);
    va_end(ap);
}

void kl_ctr_event(struct kl_pod *p, struct kl_str container, const char *type, const char *reason,
                  const char *fmt, ...)
{
    static const char *const lists[] = {"initContainers", "containers", "ephemeralContainers"};
    enum kl_ctr_kind kind = KL_CTR_MAIN;
    kl_pod_container(kl_pod_root(p), container, &kind);
    char path[160];
    snprintf(path, sizeof(path), "spec.%s{%.*s}", lists[kind], KL_PRI(container));
    va_list ap;
    va_start(ap, fmt);
    tell_event(p, kl_str(path), type, reason, fmt, ap);
    va_end(ap);
}

struct kl_pod *kl_pods_by_name(struct kl_pods *ps, struct kl_str ns, struct kl_str name)
{
    struct kl_pod *found = NULL;
    KL_MAP_EACH (&ps->by_uid, e) {
        struct kl_pod *p = e->value;
        if (kl_str_eqz(ns, p->ns) && kl_str_eqz(name, p->name) && (!found || !p->gone))
            found = p;
    }
    return found;
}

int kl_pods_running(const struct kl_pods *ps)
{
    int n = 0;
    KL_MAP_EACH (&ps->by_uid, e) {
        n += ((struct kl_pod *)e->value)->life < KL_POD_TERMINATED;
    }
    return n;
}

void kl_pods_sync_all(struct kl_pods *ps)
{
    // A sync may remove its pod, nothing adds one meanwhile.
    KL_MAP_EACH (&ps->by_uid, e) {
        kl_pod_sync(e->value);
    }
}

// ---- what the API server says

static void on_pod(struct kl_pods *ps, struct kl_object *o)
{
    struct kl_str uid = kl_meta_uid(&o->root);
    struct kl_pod *p = kl_map_get(&ps->by_uid, uid);
    if (!p)
        p = new_pod(ps, uid, kl_meta_namespace(&o->root), kl_meta_name(&o->root));
    kl_object_unref(p->object);
    p->object = kl_object_ref(o);
    p->gone = false;
    if (p->volumes)
        kl_volumes_pod_changed(p->volumes);
    kl_pod_sync(p);
}

static void pod_added(struct kl_handler *h, struct kl_object *o)
{
    on_pod(h->arg, o);
}

static void pod_updated(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    on_pod(h->arg, o);
}

static void pod_removed(struct kl_handler *h, struct kl_object *last)
{
    struct kl_pods *ps = h->arg;
    struct kl_pod *p = kl_map_get(&ps->by_uid, kl_meta_uid(&last->root));
    if (!p)
        return;
    p->gone = true;
    kl_pod_sync(p);
}

static void pods_synced(struct kl_handler *h)
{
    struct kl_pods *ps = h->arg;
    ps->synced = true;
    // What only the runtime knows was deleted while we were away.
    KL_MAP_EACH (&ps->by_uid, e) {
        struct kl_pod *p = e->value;
        p->gone = p->gone || !p->object;
    }
    // Before anything is started: what is made later is not swept.
    if (ps->listed && !ps->sweeping) {
        ps->sweeping = true;
        kl_pods_sweep_orphans(ps);
    }
    kl_pods_sync_all(ps);
}

// ---- what the runtime says

struct listing {
    struct kl_pods *ps;
    int left;
    int64_t started_ns;
    bool failed;
};

static void finish_listing(struct listing *l)
{
    if (--l->left)
        return;
    struct kl_pods *ps = l->ps;
    bool failed = l->failed;
    free(l);
    ps->listing = false;
    if (!failed) {
        ps->listed = true;
        if (ps->synced)
            pods_synced(&ps->handler);
    }
    kl_timer_after(ps->k->timers, &ps->relist,
                   failed                                  ? 1000
                   : kl_runtime_has_events(ps->k->runtime) ? RELIST_WITH_EVENTS_MS
                                                           : RELIST_POLL_MS);
    kl_kubelet_release(ps->k);
}

static struct kl_pod *pod_of_labels(struct kl_pods *ps, const struct kl_proto_kv *labels, size_t n)
{
    struct kl_str uid = kl_proto_map_get(labels, n, KL_STR("io.kubernetes.pod.uid"));
    if (!uid.n)
        return NULL; // not made by a kubelet
    struct kl_pod *p = kl_map_get(&ps->by_uid, uid);
    if (!p) {
        p = new_pod(ps, uid, kl_proto_map_get(labels, n, KL_STR("io.kubernetes.pod.namespace")),
                    kl_proto_map_get(labels, n, KL_STR("io.kubernetes.pod.name")));
        p->gone = ps->synced;
    }
    return p;
}

static void on_containers(void *arg, enum kl_grpc_code code, const void *reply,
                          const struct kl_error *err);

// Sandboxes that somebody else removed: asked for by name, they are found missing.
static void ask_about_unlisted(struct listing *l, const struct kl_cri_list_pod_sandbox_response *r)
{
    KL_MAP_EACH (&l->ps->by_uid, e) {
        struct kl_pod *p = e->value;
        for (const struct kl_sandbox *s = p->rt.sandboxes; s && !p->busy; s = s->next) {
            bool listed = s->created_ns >= l->started_ns;
            for (size_t i = 0; i < r->n_items && !listed; i++)
                listed = kl_str_eqz(r->items[i].id, s->id);
            if (!listed)
                kl_pod_describe_sandbox(p, s->id);
        }
    }
}

static void on_sandboxes(void *arg, enum kl_grpc_code code, const void *reply,
                         const struct kl_error *err)
{
    struct listing *l = arg;
    const struct kl_cri_list_pod_sandbox_response *r = reply;
    if (code) {
        l->failed = true;
        finish_listing(l);
        return;
    }
    for (size_t i = 0; i < r->n_items; i++) {
        const struct kl_cri_pod_sandbox *s = &r->items[i];
        struct kl_pod *p = pod_of_labels(l->ps, s->labels, s->n_labels);
        if (!p)
            continue;
        struct kl_sandbox *have = p->rt.sandboxes;
        while (have && !kl_str_eqz(s->id, have->id))
            have = have->next;
        bool ready = s->state == KL_CRI_POD_SANDBOX_STATE_SANDBOX_READY;
        if (!have) {
            have = calloc(1, sizeof(*have));
            if (!have)
                abort();
            have->id = kl_strdup(s->id);
            have->attempt = s->metadata ? s->metadata->attempt : 0;
            have->created_ns = s->created_at;
            have->ready = ready;
            kl_rt_add_sandbox(&p->rt, have);
            kl_pod_describe_sandbox(p, have->id);
        } else if (have->ready != ready) {
            kl_pod_describe_sandbox(p, have->id);
        }
    }
    ask_about_unlisted(l, r);
    // The containers come after the sandboxes, so that a pod's sandbox is known first.
    struct kl_cri_list_containers_request req = {0};
    kl_cri_start(l->ps->k->cri, KL_CRI_LIST_CONTAINERS, &req, 60000, on_containers, l, NULL);
}

static bool is_listed(const struct kl_cri_list_containers_response *r, const char *id)
{
    for (size_t i = 0; i < r->n_containers; i++)
        if (kl_str_eqz(r->containers[i].id, id))
            return true;
    return false;
}

// Containers that are not listed and are older than the question have been removed.
static void drop_unlisted(struct listing *l, const struct kl_cri_list_containers_response *r)
{
    KL_MAP_EACH (&l->ps->by_uid, e) {
        struct kl_pod *p = e->value;
        for (struct kl_ctr **at = &p->rt.ctrs; *at;) {
            struct kl_ctr *c = *at;
            if (c->created_ns >= l->started_ns || c->stopping || is_listed(r, c->id)) {
                at = &c->next;
                continue;
            }
            kl_probes_ctr_ended(p->k->probes, c);
            *at = c->next;
            kl_ctr_free(c);
            kl_pod_wake_in(p, 0);
        }
    }
}

static void on_containers(void *arg, enum kl_grpc_code code, const void *reply,
                          const struct kl_error *err)
{
    struct listing *l = arg;
    const struct kl_cri_list_containers_response *r = reply;
    l->failed = code != 0;
    for (size_t i = 0; !code && i < r->n_containers; i++) {
        const struct kl_cri_container *c = &r->containers[i];
        struct kl_pod *p = pod_of_labels(l->ps, c->labels, c->n_labels);
        if (!p)
            continue;
        struct kl_ctr *have = kl_rt_find_id(&p->rt, c->id);
        if (!have) {
            char *id = kl_strdup(c->id);
            kl_pod_describe_ctr(p, id);
            free(id);
        } else if ((int)have->state != c->state) {
            kl_pod_describe_ctr(p, have->id);
        }
        if (have && !have->sandbox_id) // an adopted one's: its status does not say
            have->sandbox_id = kl_strdup(c->pod_sandbox_id);
    }
    if (!code)
        drop_unlisted(l, r);
    finish_listing(l);
}

static void list_runtime(struct kl_pods *ps)
{
    if (ps->listing || !kl_runtime_is_up(ps->k->runtime) || ps->k->stopping)
        return;
    struct listing *l = calloc(1, sizeof(*l));
    if (!l)
        return;
    *l = (struct listing){
        .ps = ps, .left = 1, .started_ns = kl_timers_wall_us(ps->k->timers) * 1000};
    ps->listing = true;
    kl_kubelet_hold(ps->k);
    struct kl_cri_list_pod_sandbox_request req = {0};
    kl_cri_start(ps->k->cri, KL_CRI_LIST_POD_SANDBOX, &req, 60000, on_sandboxes, l, NULL);
}

static void on_relist(struct kl_timer *t)
{
    list_runtime(KL_CONTAINER_OF(t, struct kl_pods, relist));
}

void kl_pods_runtime_up(struct kl_pods *ps)
{
    list_runtime(ps);
}

void kl_pods_task_event(struct kl_pods *ps, enum kl_cri_task_event event, struct kl_str id)
{
    KL_MAP_EACH (&ps->by_uid, e) {
        struct kl_pod *p = e->value;
        struct kl_ctr *c = kl_rt_find_id(&p->rt, id);
        if (c && event == KL_TASK_OOM)
            c->oom = true;
        else if (c)
            kl_pod_describe_exit(p, c->id);
        for (struct kl_sandbox *s = p->rt.sandboxes; s && event == KL_TASK_EXIT; s = s->next)
            if (kl_str_eqz(id, s->id) && s->ready)
                kl_pod_describe_sandbox(p, s->id);
    }
}

int kl_pods_new(struct kl_kubelet *k, struct kl_pods **ret, struct kl_error *err)
{
    struct kl_pods *ps = calloc(1, sizeof(*ps));
    if (!ps)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    ps->k = k;
    kl_map_init(&ps->by_uid);
    ps->relist.cb = on_relist;
    ps->handler = (struct kl_handler){.add = pod_added,
                                      .update = pod_updated,
                                      .remove = pod_removed,
                                      .synced = pods_synced,
                                      .arg = ps};
    kl_informer_add_handler(k->pod_informer, &ps->handler);
    *ret = ps;
    return 0;
}

void kl_pods_stop(struct kl_pods *ps)
{
    KL_MAP_EACH (&ps->by_uid, e) {
        kl_hooks_cancel(e->value);
    }
}

void kl_pods_free(struct kl_pods *ps)
{
    if (!ps)
        return;
    kl_timer_cancel(ps->k->timers, &ps->relist);
    KL_MAP_EACH (&ps->by_uid, e) {
        kl_pod_unlink(e->value);
    }
    kl_map_fini(&ps->by_uid);
    free(ps);
}
