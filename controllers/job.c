// SPDX-License-Identifier: Apache-2.0
// Runs Jobs (upstream: pkg/controller/job). Keys are "namespace/name" of Jobs, and of pods with a
// "!" before them: pods that still have a Job's finalizer and no Job that counts them.
#include "controllers/job.h"
#include "controllers/controllers_int.h"
#include "controllers/pods.h"
#include "object/selector.h"
#include <stdlib.h>

enum { WORKERS = 5, BATCH_MS = 1000, POD_MARK = '!' };

// What a Job's next sync must know and its status does not say.
struct memory {
    struct kl_str uid;
    char *uid_text;
    struct kl_job_backoff backoff;
    bool finished; // its end was written and is not seen yet
};

struct jobs {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *jobs, *pods;
    int jobs_by_ns, pods_by_owner, pods_orphans;
    struct kl_handler job_handler, pod_handler;
    struct kl_expectations expectations;
    struct kl_map memories; // key of the Job → struct memory
    struct kl_map released; // uid of a pod → itself: its finalizer was removed, which is to be seen
};

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

static const struct kl_resource *pods_res(void)
{
    return kl_res(KL_RES_core_v1_pods);
}

// ---- memory

static void forget(struct jobs *c, struct kl_str key)
{
    struct memory *m = kl_map_del(&c->memories, key);
    if (m)
        free(m->uid_text);
    free(m);
}

// Of this Job; what another of the same name has left is forgotten. NULL: no memory.
static struct memory *memory_of(struct jobs *c, struct kl_str key, struct kl_str uid, bool make)
{
    struct memory *m = kl_map_get(&c->memories, key);
    if (m && !kl_str_eq(m->uid, uid)) {
        forget(c, key);
        m = NULL;
    }
    if (m || !make)
        return m;
    m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->uid_text = malloc(uid.n + 1);
    if (!m->uid_text || kl_map_set(&c->memories, key, m, NULL) < 0) {
        free(m->uid_text);
        free(m);
        return NULL;
    }
    memcpy(m->uid_text, uid.p, uid.n);
    m->uid = (struct kl_str){m->uid_text, uid.n};
    return m;
}

static bool is_released(const struct kl_plan *p, struct kl_str uid)
{
    const struct jobs *c = p->arg;
    return kl_map_get(&c->released, uid) != NULL;
}

static void releasing(struct kl_plan *p, struct kl_str uid, bool begun)
{
    struct jobs *c = p->arg;
    if (begun)
        kl_map_set(&c->released, uid, c, NULL); // without memory it is at worst removed twice
    else
        kl_map_del(&c->released, uid);
}

// ---- a sync

static void counted(struct kl_plan *p, const struct kl_job_view *v)
{
    struct jobs *c = p->arg;
    struct memory *m = memory_of(c, p->key, kl_meta_uid(v->job), v->backoff.failures > 0);
    if (m)
        m->backoff = v->backoff;
}

static void finished(struct kl_plan *p, const struct kl_job_view *v)
{
    struct memory *m = memory_of(p->arg, p->key, kl_meta_uid(v->job), true);
    if (m)
        m->finished = true;
}

static bool is_others(const struct kl_value *job)
{
    struct kl_str by = kl_text_at(job, KL_F_spec, KL_F_managedBy);
    return by.n && !kl_str_eqz(by, "kubernetes.io/job-controller");
}

static bool look_at_pods(struct jobs *c, struct kl_plan *p, struct kl_job_view *v)
{
    struct kl_selector selector;
    if (kl_label_selector_from(&p->arena, kl_path(v->job, KL_F_spec, KL_F_selector), &selector,
                               &p->err) < 0)
        return false;
    size_t nowned, nfree;
    struct kl_entry *const *owned =
        kl_informer_index(c->pods, c->pods_by_owner, kl_meta_uid(v->job), &nowned);
    struct kl_entry *const *orphans =
        kl_informer_index(c->pods, c->pods_orphans, kl_meta_namespace(v->job), &nfree);
    size_t bytes = (nowned + nfree + 1) * sizeof(struct kl_value *);
    v->pods = kl_arena_alloc(&p->arena, bytes);
    v->strays = kl_arena_alloc(&p->arena, bytes);
    v->orphans = kl_arena_alloc(&p->arena, bytes);
    if (!v->pods || !v->strays || !v->orphans)
        return false;
    for (size_t i = 0; i < nowned; i++) {
        const struct kl_value *pod = &owned[i]->object->root;
        if (!kl_plan_hold(p, owned[i]->object))
            return false;
        if (kl_selector_matches(&selector, kl_meta_labels(pod)))
            v->pods[v->npods++] = pod;
        else if (!kl_meta_deleting(v->job))
            v->strays[v->nstrays++] = pod;
    }
    for (size_t i = 0; i < nfree && !kl_meta_deleting(v->job); i++) {
        const struct kl_value *pod = &orphans[i]->object->root;
        if (kl_meta_deleting(pod) || !kl_selector_matches(&selector, kl_meta_labels(pod)))
            continue;
        if (!kl_plan_hold(p, orphans[i]->object))
            return false;
        v->orphans[v->norphans++] = pod;
    }
    return true;
}

static void decide_job(struct kl_plan *p)
{
    struct jobs *c = p->arg;
    struct kl_object *job = kl_informer_get_key(c->jobs, p->key);
    if (!job) {
        kl_expectations_drop(&c->expectations, p->key);
        forget(c, p->key);
        return;
    }
    if (is_others(&job->root))
        return;
    if (kl_job_finished(&job->root)) {
        forget(c, p->key);
        return;
    }
    const struct memory *m = memory_of(c, p->key, kl_meta_uid(&job->root), false);
    struct kl_job_view *v = KL_ARENA_NEW(&p->arena, struct kl_job_view);
    if ((m && m->finished) || !v || !kl_plan_hold(p, job))
        return;
    v->job = &job->root;
    v->expectations = &c->expectations;
    v->expectations_met =
        kl_expectations_met(&c->expectations, p->key, kl_timers_now_ms(c->env.timers));
    v->is_released = is_released;
    v->releasing = releasing;
    v->counted = counted;
    v->finished = finished;
    if (m)
        v->backoff = m->backoff;
    v->now_us = kl_timers_wall_us(c->env.timers);
    v->now_ms = kl_timers_now_ms(c->env.timers);
    if (look_at_pods(c, p, v))
        kl_job_decide(p, v);
}

// ---- pods that no Job counts

// The Job that a pod's controller reference means, or NULL.
static struct kl_object *job_of(const struct jobs *c, const struct kl_value *pod)
{
    const struct kl_value *ref = kl_meta_controller(pod);
    if (!ref || !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), "Job"))
        return NULL;
    struct kl_object *job =
        kl_informer_get(c->jobs, kl_meta_namespace(pod), kl_text(kl_get(ref, KL_F_name)));
    if (!job || !kl_str_eq(kl_meta_uid(&job->root), kl_text(kl_get(ref, KL_F_uid))))
        return NULL;
    return job;
}

static bool is_abandoned(const struct jobs *c, const struct kl_value *pod)
{
    const struct kl_value *ref = kl_meta_controller(pod);
    if (!kl_job_tracks(pod))
        return false;
    if (ref && (!kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), "Job") ||
                !kl_str_eqz(kl_text(kl_get(ref, KL_F_apiVersion)), "batch/v1")))
        return false;
    const struct kl_object *job = job_of(c, pod);
    return !job || (!is_others(&job->root) && kl_job_finished(&job->root));
}

static void decide(struct kl_plan *p)
{
    struct jobs *c = p->arg;
    if (p->key.p[0] != POD_MARK) {
        decide_job(p);
        return;
    }
    struct kl_object *pod = kl_informer_get_key(c->pods, kl_str_from(p->key, 1));
    if (pod && is_abandoned(c, &pod->root) && kl_plan_hold(p, pod))
        kl_job_release(p, &pod->root);
}

static void add_pod(struct jobs *c, const struct kl_value *pod)
{
    struct kl_arena a;
    kl_arena_init(&a, 1 << 16);
    struct kl_str key = kl_key_of(&a, pod);
    if (key.p)
        key = kl_arena_printf(&a, "%c%.*s", POD_MARK, KL_PRI(key));
    if (key.p)
        kl_reconciler_add(c->reconciler, key);
    kl_arena_fini(&a);
}

// All that a Job which has ended or gone may have left.
static void add_left(struct jobs *c, const struct kl_value *job)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->pods, c->pods_by_owner, kl_meta_uid(job), &n);
    for (size_t i = 0; i < n; i++)
        if (is_abandoned(c, &list[i]->object->root))
            add_pod(c, &list[i]->object->root);
}

// ---- what changed

static void add_later(struct jobs *c, const struct kl_value *job)
{
    struct kl_arena a;
    kl_arena_init(&a, 1 << 16);
    struct kl_str key = kl_key_of(&a, job);
    if (key.p)
        kl_reconciler_add_after(c->reconciler, key, BATCH_MS);
    kl_arena_fini(&a);
}

static void on_job(struct kl_handler *h, struct kl_object *job)
{
    struct jobs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &job->root);
    if (kl_job_finished(&job->root))
        add_left(c, &job->root);
}

static void on_job_update(struct kl_handler *h, struct kl_object *old, struct kl_object *job)
{
    struct jobs *c = h->arg;
    int64_t was = kl_int_at(&old->root, 0, KL_F_metadata, KL_F_generation);
    int64_t now = kl_int_at(&job->root, 0, KL_F_metadata, KL_F_generation);
    if (kl_job_finished(&job->root) || was != now ||
        !kl_str_eq(kl_meta_uid(&old->root), kl_meta_uid(&job->root)))
        on_job(h, job);
    else
        add_later(c, &job->root);
}

static void on_job_remove(struct kl_handler *h, struct kl_object *job)
{
    struct jobs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &job->root);
    add_left(c, &job->root);
}

// Every Job that could adopt the pod.
static void offer_orphan(struct jobs *c, const struct kl_value *pod)
{
    size_t n;
    struct kl_entry *const *list =
        kl_informer_index(c->jobs, c->jobs_by_ns, kl_meta_namespace(pod), &n);
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        const struct kl_value *job = &list[i]->object->root;
        struct kl_selector selector;
        struct kl_error err = {0};
        kl_arena_reset(&a);
        if (kl_label_selector_from(&a, kl_path(job, KL_F_spec, KL_F_selector), &selector, &err) ==
                0 &&
            kl_selector_matches(&selector, kl_meta_labels(pod)))
            add_later(c, job);
    }
    kl_arena_fini(&a);
}

enum seen { SEEN_ADDED, SEEN_CHANGED, SEEN_DELETED, SEEN_REMOVED };

static void tell_job(struct jobs *c, const struct kl_value *pod, enum seen seen)
{
    struct kl_object *job = job_of(c, pod);
    if (seen == SEEN_REMOVED || !kl_job_tracks(pod))
        kl_map_del(&c->released, kl_meta_uid(pod));
    if (seen != SEEN_REMOVED && is_abandoned(c, pod))
        add_pod(c, pod);
    if (!job)
        return;
    struct kl_arena a;
    kl_arena_init(&a, 1 << 16);
    struct kl_str key = kl_key_of(&a, &job->root);
    if (key.p && seen == SEEN_ADDED)
        kl_expectations_created(&c->expectations, key);
    if (key.p && seen >= SEEN_DELETED)
        kl_expectations_deleted(&c->expectations, key, kl_meta_uid(pod));
    kl_arena_fini(&a);
    add_later(c, &job->root);
}

static void on_pod_add(struct kl_handler *h, struct kl_object *pod)
{
    struct jobs *c = h->arg;
    tell_job(c, &pod->root, kl_meta_deleting(&pod->root) ? SEEN_DELETED : SEEN_ADDED);
    if (!kl_meta_controller(&pod->root) && !kl_meta_deleting(&pod->root))
        offer_orphan(c, &pod->root);
}

static void on_pod_update(struct kl_handler *h, struct kl_object *old, struct kl_object *pod)
{
    struct jobs *c = h->arg;
    const struct kl_value *was = &old->root, *now = &pod->root;
    bool moved = !kl_value_equal(kl_meta_controller(was), kl_meta_controller(now));
    if (!moved && !kl_meta_controller(now) && !kl_job_tracks(now) &&
        kl_value_equal(kl_meta_labels(was), kl_meta_labels(now)))
        return;
    if (moved && !kl_meta_deleting(now) && job_of(c, was))
        add_later(c, &job_of(c, was)->root);
    tell_job(c, now, kl_meta_deleting(now) ? SEEN_DELETED : SEEN_CHANGED);
    if (!kl_meta_controller(now) && !kl_meta_deleting(now))
        offer_orphan(c, now);
}

static void on_pod_remove(struct kl_handler *h, struct kl_object *pod)
{
    tell_job(h->arg, &pod->root, SEEN_REMOVED);
}

static void stop(void *self)
{
    struct jobs *c = self;
    if (c->pods)
        kl_informer_remove_handler(c->pods, &c->pod_handler);
    if (c->jobs)
        kl_informer_remove_handler(c->jobs, &c->job_handler);
    kl_reconciler_free(c->reconciler);
    kl_expectations_fini(&c->expectations);
    KL_MAP_EACH (&c->memories, e) {
        struct memory *m = e->value;
        free(m->uid_text);
        free(m);
    }
    kl_map_fini(&c->memories);
    kl_map_fini(&c->released);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct jobs *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "job controller: out of memory");
    c->env = *env;
    kl_expectations_init(&c->expectations);
    kl_map_init(&c->memories);
    kl_map_init(&c->released);
    c->jobs = kl_informers_get(env->informers, jobs_res());
    c->pods = kl_informers_get(env->informers, pods_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "job",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .workers = WORKERS,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->jobs || !c->pods || !c->reconciler || kl_reconciler_needs(c->reconciler, c->jobs) < 0 ||
        kl_reconciler_needs(c->reconciler, c->pods) < 0 ||
        (c->jobs_by_ns = kl_informer_add_index(c->jobs, kl_index_namespace)) < 0 ||
        (c->pods_by_owner = kl_informer_add_index(c->pods, kl_index_controller_uid)) < 0 ||
        (c->pods_orphans = kl_informer_add_index(c->pods, kl_index_orphans)) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "job controller: out of memory");
    }
    c->job_handler = (struct kl_handler){
        .add = on_job, .update = on_job_update, .remove = on_job_remove, .arg = c};
    c->pod_handler = (struct kl_handler){
        .add = on_pod_add, .update = on_pod_update, .remove = on_pod_remove, .arg = c};
    kl_informer_add_handler(c->jobs, &c->job_handler);
    kl_informer_add_handler(c->pods, &c->pod_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct jobs *)self)->reconciler);
}

const struct kl_controller kl_job_controller = {
    .name = "job",
    .user = "system:serviceaccount:kube-system:job-controller",
    .component = "job-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
