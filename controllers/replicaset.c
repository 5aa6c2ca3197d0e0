// SPDX-License-Identifier: Apache-2.0
// Keeps the wanted number of pods of each ReplicaSet and, as a second controller, of each
// ReplicationController (upstream: pkg/controller/replicaset, which pkg/controller/replication
// adapts).
//
// A sync has three parts: adopt orphans and release strays; create or delete pods, unless the
// informers have not yet shown what the last sync did; write the status from what was seen.
#include "controllers/claim.h"
#include "controllers/controllers_int.h"
#include "controllers/expectations.h"
#include "controllers/pods.h"
#include "controllers/replicaset.h"
#include "object/selector.h"
#include <stdlib.h>

enum { WORKERS = 5, BURST = 500 };

struct replicasets {
    struct kl_controller_env env;
    const struct kl_resource *res; // whose pods these are
    struct kl_reconciler *reconciler;
    struct kl_informer *rs, *pods;
    int rs_by_owner, rs_by_ns, pods_by_owner, pods_orphans;
    struct kl_handler rs_handler, pod_handler;
    struct kl_expectations expectations;
};

// ---- the decision

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

static void on_pod_created(struct kl_action *a)
{
    struct kl_plan *p = a->plan;
    struct kl_replicaset_view *v = p->state;
    if (!a->skipped && a->call.err.code == 0) {
        struct kl_str name =
            a->call.object ? kl_meta_name(&a->call.object->root) : (struct kl_str){"", 0};
        kl_plan_event(p, v->res, v->rs, "Normal", "SuccessfulCreate", "Created pod: %.*s",
                      KL_PRI(name));
        return;
    }
    // The informer will not show this one.
    kl_expectations_created(v->expectations, p->key);
    if (a->skipped)
        return;
    if (kl_is_namespace_terminating(&a->call.err)) {
        if (p->err.code && strcmp(p->err.msg, a->call.err.msg) == 0)
            p->err.code = 0;
        return;
    }
    kl_plan_event(p, v->res, v->rs, "Warning", "FailedCreate", "Error creating: %s",
                  a->call.err.msg);
}

static void plan_creations(struct kl_plan *p, struct kl_replicaset_view *v, int n)
{
    const struct kl_value *pod_template = kl_path(v->rs, KL_F_spec, KL_F_template);
    struct kl_value pod = kl_pod_from_template(&p->arena, pod_template, v->res, v->rs);
    kl_expect_creations(v->expectations, p->key, n, v->now_ms);
    // Slow start: 1, 2, 4 ... at a time, so that a quota is not asked 500 times in vain. The object
    // is the same for all; the server names each.
    struct kl_object *body = kl_object_freeze(pods_res()->type, &pod);
    for (int batch = 1, left = n; left > 0 && body; batch *= 2) {
        kl_plan_next_group(p);
        for (int i = 0; i < batch && left > 0; i++, left--) {
            struct kl_action *a = kl_plan_call(p, KL_VERB_CREATE, pods_res(), NULL,
                                               kl_meta_namespace(v->rs), (struct kl_str){"", 0});
            if (!a)
                break;
            a->call.body = kl_object_ref(body);
            a->done_cb = on_pod_created;
        }
    }
    kl_object_unref(body);
}

static void on_pod_deleted(struct kl_action *a)
{
    struct kl_plan *p = a->plan;
    struct kl_replicaset_view *v = p->state;
    const struct kl_value *pod = a->arg;
    if (!a->skipped && a->call.err.code == 0) {
        struct kl_str name = kl_meta_name(pod);
        kl_plan_event(p, v->res, v->rs, "Normal", "SuccessfulDelete", "Deleted pod: %.*s",
                      KL_PRI(name));
        return;
    }
    kl_expectations_deleted(v->expectations, p->key, kl_meta_uid(pod));
    if (!a->skipped && a->call.err.code != KL_ENOTFOUND)
        kl_plan_event(p, v->res, v->rs, "Warning", "FailedDelete", "Error deleting: %s",
                      a->call.err.msg);
}

static void plan_deletions(struct kl_plan *p, struct kl_replicaset_view *v, int n)
{
    if ((size_t)n < v->nactive &&
        kl_pods_sort_for_deletion(v->active, v->rank, v->nactive, v->now_us) < 0) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    kl_plan_next_group(p);
    for (int i = 0; i < n; i++) {
        const struct kl_value *pod = v->active[i];
        struct kl_action *a = kl_plan_call(p, KL_VERB_DELETE, pods_res(), NULL,
                                           kl_meta_namespace(pod), kl_meta_name(pod));
        if (!a)
            return;
        a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        a->done_cb = on_pod_deleted;
        a->arg = (void *)pod;
        kl_expect_deletion(v->expectations, p->key, kl_meta_uid(pod), i == 0, v->now_ms);
    }
}

static bool labels_include(const struct kl_value *labels, const struct kl_value *wanted)
{
    for (KL_MAP_EACH_KEY(k, wanted)) {
        const struct kl_value *have = kl_map_value(labels, kl_text(k));
        if (!have || !kl_str_eq(kl_text(have), kl_text(k + 1)))
            return false;
    }
    return true;
}

static void set_failure(struct kl_plan *p, const struct kl_replicaset_view *v,
                        struct kl_value *status)
{
    struct kl_arena *a = &p->arena;
    const struct kl_value *was =
        kl_condition_find(kl_path(v->rs, KL_F_status, KL_F_conditions), "ReplicaFailure");
    if (!p->err.code == !was)
        return;
    struct kl_value *conditions = kl_edit(a, status, KL_F_conditions, KL_ARRAY);
    if (!conditions)
        return;
    if (was) {
        kl_condition_drop(a, conditions, "ReplicaFailure");
        return;
    }
    struct kl_value c = kl_new_struct();
    kl_set_z(a, &c, KL_F_type, "ReplicaFailure");
    kl_set_z(a, &c, KL_F_status, "True");
    kl_set(a, &c, KL_F_lastTransitionTime, kl_time(v->now_us / 1000000 * 1000000));
    int64_t diff = (int64_t)v->nactive - v->replicas;
    if (diff)
        kl_set_z(a, &c, KL_F_reason, diff < 0 ? "FailedCreate" : "FailedDelete");
    kl_set_str(a, &c, KL_F_message, kl_arena_dup(a, kl_str(p->err.msg)));
    kl_append(a, conditions, c);
}

static bool counts_terminating(const struct kl_resource *res)
{
    return res == kl_res(KL_RES_apps_v1_replicasets);
}

static void plan_status(struct kl_plan *p)
{
    struct kl_replicaset_view *v = p->state;
    struct kl_arena *a = &p->arena;
    const struct kl_value *wanted =
        kl_path(v->rs, KL_F_spec, KL_F_template, KL_F_metadata, KL_F_labels);
    const struct kl_value *old = kl_get(v->rs, KL_F_status);
    int64_t generation = kl_int_at(v->rs, 0, KL_F_metadata, KL_F_generation);
    int64_t min_ready_s = kl_int_at(v->rs, 0, KL_F_spec, KL_F_minReadySeconds);
    int64_t labeled = 0, ready = 0, available = 0, next_us = INT64_MAX;
    for (size_t i = 0; i < v->nactive; i++) {
        const struct kl_value *pod = v->active[i];
        labeled += labels_include(kl_meta_labels(pod), wanted);
        if (!kl_pod_ready(pod))
            continue;
        ready++;
        if (kl_pod_available(pod, min_ready_s, v->now_us)) {
            available++;
        } else if (kl_pod_ready_since_us(pod)) {
            int64_t at = kl_pod_ready_since_us(pod) + min_ready_s * 1000000;
            next_us = at < next_us ? at : next_us;
        }
    }
    if (min_ready_s > 0 && ready != available)
        kl_plan_requeue(p, next_us == INT64_MAX ? min_ready_s * 1000
                                                : (next_us - v->now_us + 999) / 1000);
    struct kl_value draft = *v->rs;
    draft.owned = 0;
    struct kl_value *status = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (!status)
        return;
    kl_set_int(a, status, KL_F_replicas, (int64_t)v->nactive);
    kl_set_int(a, status, KL_F_fullyLabeledReplicas, labeled);
    kl_set_int(a, status, KL_F_readyReplicas, ready);
    kl_set_int(a, status, KL_F_availableReplicas, available);
    int64_t terminating = counts_terminating(v->res) ? (int64_t)v->nterminating : -1;
    if (terminating >= 0)
        kl_set_int(a, status, KL_F_terminatingReplicas, terminating);
    set_failure(p, v, status);
    if (kl_int_or(kl_get(old, KL_F_replicas), 0) == (int64_t)v->nactive &&
        kl_int_or(kl_get(old, KL_F_fullyLabeledReplicas), 0) == labeled &&
        kl_int_or(kl_get(old, KL_F_readyReplicas), 0) == ready &&
        kl_int_or(kl_get(old, KL_F_availableReplicas), 0) == available &&
        kl_int_or(kl_get(old, KL_F_terminatingReplicas), -1) == terminating &&
        kl_int_or(kl_get(old, KL_F_observedGeneration), 0) == generation &&
        !p->err.code == !kl_condition_find(kl_get(old, KL_F_conditions), "ReplicaFailure"))
        return;
    kl_set_int(a, status, KL_F_observedGeneration, generation);
    kl_plan_write(p, KL_VERB_UPDATE, v->res, "status", &draft);
}

void kl_replicaset_manage(struct kl_plan *p)
{
    struct kl_replicaset_view *v = p->state;
    if (p->err.code)
        return; // a claim failed: what is ours is not known
    p->then = plan_status;
    if (!kl_expectations_met(v->expectations, p->key, v->now_ms) || kl_meta_deleting(v->rs))
        return;
    int64_t diff = (int64_t)v->nactive - v->replicas;
    if (diff < 0)
        plan_creations(p, v, diff < -BURST ? BURST : (int)-diff);
    else if (diff > 0)
        plan_deletions(p, v, diff > BURST ? BURST : (int)diff);
}

// ---- claiming

static void on_adopted(struct kl_action *a)
{
    struct kl_replicaset_view *v = a->plan->state;
    if (!a->skipped && a->call.err.code == 0 && v->nactive < v->active_cap)
        v->active[v->nactive++] = a->arg;
}

static struct kl_claim claim_of(const struct kl_replicaset_view *v)
{
    return (struct kl_claim){.owner_res = v->res, .owner = v->rs, .res = pods_res()};
}

static void plan_adoptions(struct kl_plan *p)
{
    struct kl_replicaset_view *v = p->state;
    struct kl_claim c = claim_of(v);
    p->then = kl_replicaset_manage;
    if (!kl_claim_may_adopt(p, &c, v->recheck))
        return;
    for (size_t i = 0; i < v->norphans; i++) {
        struct kl_action *a = kl_claim_adopt(p, &c, v->orphans[i]);
        if (!a)
            return;
        a->done_cb = on_adopted;
        a->arg = (void *)v->orphans[i];
    }
}

void kl_replicaset_decide(struct kl_plan *p, struct kl_replicaset_view *v)
{
    struct kl_claim c = claim_of(v);
    p->state = v;
    for (size_t i = 0; i < v->nstrays; i++)
        kl_claim_release(p, &c, v->strays[i]);
    if (v->norphans) {
        kl_plan_next_group(p);
        v->recheck = kl_claim_recheck(p, &c);
        p->then = plan_adoptions;
    } else if (p->actions) {
        p->then = kl_replicaset_manage;
    } else {
        kl_replicaset_manage(p);
    }
}

// ---- the shell: from informers to a view, from events to keys

// A ReplicationController's is a map.
static int selector_of(struct kl_arena *a, const struct replicasets *c, const struct kl_value *rs,
                       struct kl_selector *ret, struct kl_error *err)
{
    const struct kl_value *selector = kl_path(rs, KL_F_spec, KL_F_selector);
    if (c->res == kl_res(KL_RES_apps_v1_replicasets))
        return kl_label_selector_from(a, selector, ret, err);
    int rc = kl_label_selector_from_map(a, selector, ret);
    return rc < 0 ? kl_error_set(err, rc, "%s", kl_err_text(rc)) : 0;
}

static bool look_at(struct replicasets *c, struct kl_plan *p, struct kl_object *rs,
                    struct kl_replicaset_view *v)
{
    struct kl_arena *a = &p->arena;
    struct kl_selector selector;
    if (selector_of(a, c, &rs->root, &selector, &p->err) < 0)
        return false;
    size_t nowned, nfree;
    struct kl_entry *const *owned =
        kl_informer_index(c->pods, c->pods_by_owner, kl_meta_uid(&rs->root), &nowned);
    struct kl_entry *const *orphans =
        kl_informer_index(c->pods, c->pods_orphans, kl_meta_namespace(&rs->root), &nfree);
    v->active_cap = nowned + nfree;
    size_t bytes = (v->active_cap + 1) * sizeof(struct kl_value *);
    v->active = kl_arena_alloc(a, bytes);
    v->strays = kl_arena_alloc(a, bytes);
    v->orphans = kl_arena_alloc(a, bytes);
    v->rank = kl_arena_zalloc(a, (v->active_cap + 1) * sizeof(int));
    if (!v->active || !v->strays || !v->orphans || !v->rank)
        return false;
    for (size_t i = 0; i < nowned; i++) {
        const struct kl_value *pod = &owned[i]->object->root;
        if (!kl_selector_matches(&selector, kl_meta_labels(pod))) {
            if (kl_pod_active(pod) && !kl_meta_deleting(&rs->root)) {
                kl_plan_hold(p, owned[i]->object);
                v->strays[v->nstrays++] = pod;
            }
            continue;
        }
        v->nterminating += kl_pod_terminating(pod);
        if (!kl_pod_active(pod))
            continue;
        kl_plan_hold(p, owned[i]->object);
        v->active[v->nactive++] = pod;
    }
    for (size_t i = 0; i < nfree && !kl_meta_deleting(&rs->root); i++) {
        const struct kl_value *pod = &orphans[i]->object->root;
        if (!kl_pod_active(pod) || !kl_selector_matches(&selector, kl_meta_labels(pod)))
            continue;
        kl_plan_hold(p, orphans[i]->object);
        v->orphans[v->norphans++] = pod;
    }
    return p->err.code == 0;
}

// How many active pods of all ReplicaSets of the same owner share each pod's node.
static void rank_by_node(struct replicasets *c, const struct kl_value *rs,
                         struct kl_replicaset_view *v)
{
    const struct kl_value *owner = kl_meta_controller(rs);
    if (!owner || (int64_t)v->nactive <= v->replicas)
        return;
    size_t nsets;
    struct kl_entry *const *sets =
        kl_informer_index(c->rs, c->rs_by_owner, kl_text(kl_get(owner, KL_F_uid)), &nsets);
    for (size_t s = 0; s < nsets; s++) {
        size_t n;
        struct kl_entry *const *pods =
            kl_informer_index(c->pods, c->pods_by_owner, kl_meta_uid(&sets[s]->object->root), &n);
        for (size_t i = 0; i < n; i++) {
            const struct kl_value *other = &pods[i]->object->root;
            if (!kl_pod_active(other))
                continue;
            struct kl_str node = kl_text_at(other, KL_F_spec, KL_F_nodeName);
            for (size_t k = 0; k < v->nactive; k++)
                v->rank[k] += kl_str_eq(kl_text_at(v->active[k], KL_F_spec, KL_F_nodeName), node);
        }
    }
}

static void decide(struct kl_plan *p)
{
    struct replicasets *c = p->arg;
    struct kl_object *rs = kl_plan_hold(p, kl_informer_get_key(c->rs, p->key));
    if (!rs) {
        kl_expectations_drop(&c->expectations, p->key);
        return;
    }
    struct kl_replicaset_view *v = KL_ARENA_NEW(&p->arena, struct kl_replicaset_view);
    if (!v)
        return;
    v->res = c->res;
    v->rs = &rs->root;
    v->replicas = kl_int_at(&rs->root, 1, KL_F_spec, KL_F_replicas);
    v->expectations = &c->expectations;
    v->now_us = kl_timers_wall_us(c->env.timers);
    v->now_ms = kl_timers_now_ms(c->env.timers);
    if (!look_at(c, p, rs, v))
        return;
    rank_by_node(c, &rs->root, v);
    kl_replicaset_decide(p, v);
}

static void on_rs(struct kl_handler *h, struct kl_object *rs)
{
    struct replicasets *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &rs->root);
}

static void drop_expectations(struct replicasets *c, const struct kl_value *rs)
{
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str key = kl_key_of(&a, rs);
    if (key.p)
        kl_expectations_drop(&c->expectations, key);
    kl_arena_fini(&a);
}

static void on_rs_update(struct kl_handler *h, struct kl_object *old, struct kl_object *rs)
{
    if (!kl_str_eq(kl_meta_uid(&old->root), kl_meta_uid(&rs->root)))
        drop_expectations(h->arg, &old->root);
    on_rs(h, rs);
}

static void on_rs_remove(struct kl_handler *h, struct kl_object *rs)
{
    drop_expectations(h->arg, &rs->root);
    on_rs(h, rs);
}

// The ReplicaSet that a pod's controller reference means, or NULL.
static struct kl_object *owner_of(struct replicasets *c, const struct kl_value *pod)
{
    const struct kl_value *ref = kl_meta_controller(pod);
    if (!ref || !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), c->res->kind))
        return NULL;
    struct kl_object *rs =
        kl_informer_get(c->rs, kl_meta_namespace(pod), kl_text(kl_get(ref, KL_F_name)));
    if (!rs || !kl_str_eq(kl_meta_uid(&rs->root), kl_text(kl_get(ref, KL_F_uid))))
        return NULL;
    return rs;
}

enum seen { SEEN_CHANGED, SEEN_CREATED, SEEN_DELETED };

static void tell_owner(struct replicasets *c, const struct kl_value *pod, enum seen seen)
{
    struct kl_object *rs = owner_of(c, pod);
    if (!rs)
        return;
    struct kl_arena a;
    kl_arena_init(&a, 4096);
    struct kl_str key = kl_key_of(&a, &rs->root);
    if (key.p) {
        if (seen == SEEN_CREATED)
            kl_expectations_created(&c->expectations, key);
        if (seen == SEEN_DELETED)
            kl_expectations_deleted(&c->expectations, key, kl_meta_uid(pod));
        kl_reconciler_add(c->reconciler, key);
    }
    kl_arena_fini(&a);
}

// Wakes every ReplicaSet that could adopt the pod.
static void offer_orphan(struct replicasets *c, const struct kl_value *pod)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->rs, c->rs_by_ns, kl_meta_namespace(pod), &n);
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *rs = &list[i]->object->root;
        struct kl_selector selector;
        kl_arena_reset(&a);
        if (selector_of(&a, c, rs, &selector, NULL) == 0 && selector.n &&
            kl_selector_matches(&selector, kl_meta_labels(pod)))
            kl_reconciler_add_object(c->reconciler, rs);
    }
    kl_arena_fini(&a);
}

static void on_pod_add(struct kl_handler *h, struct kl_object *pod)
{
    struct replicasets *c = h->arg;
    if (kl_meta_deleting(&pod->root))
        tell_owner(c, &pod->root, SEEN_DELETED);
    else if (kl_meta_controller(&pod->root))
        tell_owner(c, &pod->root, SEEN_CREATED);
    else
        offer_orphan(c, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    struct replicasets *c = h->arg;
    const struct kl_value *was = &old->root, *now = &pod->root;
    bool relabeled = !kl_value_equal(kl_meta_labels(was), kl_meta_labels(now));
    if (kl_meta_deleting(now)) {
        tell_owner(c, now, SEEN_DELETED);
        if (relabeled)
            tell_owner(c, was, SEEN_DELETED);
        return;
    }
    bool moved = !kl_value_equal(kl_meta_controller(was), kl_meta_controller(now));
    if (moved)
        tell_owner(c, was, SEEN_CHANGED);
    if (kl_meta_controller(now))
        tell_owner(c, now, SEEN_CHANGED);
    else if (relabeled || moved)
        offer_orphan(c, now);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    tell_owner(h->arg, &pod->root, SEEN_DELETED);
}

static void stop(void *self)
{
    struct replicasets *c = self;
    if (!c)
        return;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->rs)
        kl_informer_remove_handler(c->rs, &c->rs_handler);
    kl_reconciler_free(c->reconciler);
    kl_expectations_fini(&c->expectations);
    free(c);
}

static int start(const struct kl_controller_env *env, const struct kl_resource *res,
                 const char *name, void **ret, struct kl_error *err)
{
    struct replicasets *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "%s controller: out of memory", name);
    c->env = *env;
    c->res = res;
    kl_expectations_init(&c->expectations);
    c->rs = kl_informers_get(env->informers, res);
    c->pods = kl_informers_get(env->informers, pods_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){
        .name = name,
        .client = env->client,
        .timers = env->timers,
        .recorder = env->recorder,
        .workers = WORKERS,
        .decide = decide,
        .arg = c,
    });
    if (!c->rs || !c->pods || !c->reconciler || kl_reconciler_needs(c->reconciler, c->rs) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "%s controller: out of memory", name);
    }
    c->rs_by_owner = kl_informer_add_index(c->rs, kl_index_controller_uid);
    c->rs_by_ns = kl_informer_add_index(c->rs, kl_index_namespace);
    c->pods_by_owner = kl_informer_add_index(c->pods, kl_index_controller_uid);
    c->pods_orphans = kl_informer_add_index(c->pods, kl_index_orphans);
    c->rs_handler =
        (struct kl_handler){.add = on_rs, .update = on_rs_update, .remove = on_rs_remove, .arg = c};
    c->pod_handler = (struct kl_handler){
        .add = on_pod_add, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->rs, &c->rs_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct replicasets *)self)->reconciler);
}

static int start_replicasets(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, kl_res(KL_RES_apps_v1_replicasets), "replicaset", ret, err);
}

static int start_replications(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    return start(env, kl_res(KL_RES_core_v1_replicationcontrollers), "replicationcontroller", ret,
                 err);
}

const struct kl_controller kl_replicaset_controller = {
    .name = "replicaset",
    .user = "system:serviceaccount:kube-system:replicaset-controller",
    .component = "replicaset-controller",
    .start = start_replicasets,
    .stop = stop,
    .idle = idle,
};

const struct kl_controller kl_replication_controller = {
    .name = "replicationcontroller",
    .user = "system:serviceaccount:kube-system:replication-controller",
    .component = "replication-controller",
    .start = start_replications,
    .stop = stop,
    .idle = idle,
};
