// SPDX-License-Identifier: Apache-2.0
// Removes finished Jobs when their spec.ttlSecondsAfterFinished has passed (upstream:
// pkg/controller/ttlafterfinished).
#include "controllers/controllers_int.h"
#include "controllers/job.h"
#include <stdlib.h>

struct ttl {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *jobs;
    struct kl_handler handler;
};

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

static bool needs_removal(const struct kl_value *job)
{
    return kl_path(job, KL_F_spec, KL_F_ttlSecondsAfterFinished) && !kl_meta_deleting(job) &&
           kl_job_finished(job);
}

static int64_t left_us(const struct kl_value *job, int64_t now_us)
{
    const struct kl_value *conditions = kl_path(job, KL_F_status, KL_F_conditions);
    const char *type = kl_condition_is(conditions, "Complete", "True") ? "Complete" : "Failed";
    const struct kl_value *end = kl_condition_find(conditions, type);
    return kl_int_or(kl_get(end, KL_F_lastTransitionTime), now_us) +
           kl_int_at(job, 0, KL_F_spec, KL_F_ttlSecondsAfterFinished) * 1000000 - now_us;
}

// Its TTL may have been made longer meanwhile: the server's copy counts.
static void after_get(struct kl_plan *p)
{
    const struct ttl *c = p->arg;
    const struct kl_object *fresh = p->actions->call.object;
    if (p->err.code || p->actions->call.err.code || !fresh || !needs_removal(&fresh->root))
        return;
    int64_t left = left_us(&fresh->root, kl_timers_wall_us(c->env.timers));
    if (left > 0) {
        kl_plan_requeue(p, (left + 999) / 1000);
        return;
    }
    struct kl_action *a = kl_plan_call(p, KL_VERB_DELETE, jobs_res(), NULL,
                                       kl_meta_namespace(&fresh->root), kl_meta_name(&fresh->root));
    if (!a)
        return;
    a->call.propagation = KL_PROPAGATE_FOREGROUND;
    a->call.precondition_uid = kl_meta_uid(&fresh->root);
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void decide(struct kl_plan *p)
{
    const struct ttl *c = p->arg;
    struct kl_object *job = kl_informer_get_key(c->jobs, p->key);
    if (!job || !needs_removal(&job->root))
        return;
    int64_t left = left_us(&job->root, kl_timers_wall_us(c->env.timers));
    if (left > 0) {
        kl_plan_requeue(p, (left + 999) / 1000);
        return;
    }
    if (!kl_plan_hold(p, job))
        return;
    struct kl_action *a = kl_plan_call(p, KL_VERB_GET, jobs_res(), NULL,
                                       kl_meta_namespace(&job->root), kl_meta_name(&job->root));
    if (!a)
        return;
    a->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
    p->then = after_get;
}

static void on_job(struct kl_handler *h, struct kl_object *job)
{
    struct ttl *c = h->arg;
    if (needs_removal(&job->root))
        kl_reconciler_add_object(c->reconciler, &job->root);
}

static void on_job_update(struct kl_handler *h, struct kl_object *old, struct kl_object *job)
{
    (void)old;
    on_job(h, job);
}

static void stop(void *self)
{
    struct ttl *c = self;
    if (c->jobs)
        kl_informer_remove_handler(c->jobs, &c->handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct ttl *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "ttl-after-finished controller: out of memory");
    c->env = *env;
    c->jobs = kl_informers_get(env->informers, jobs_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "ttl-after-finished",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->jobs || !c->reconciler || kl_reconciler_needs(c->reconciler, c->jobs) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "ttl-after-finished controller: out of memory");
    }
    c->handler = (struct kl_handler){.add = on_job, .update = on_job_update, .arg = c};
    kl_informer_add_handler(c->jobs, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct ttl *)self)->reconciler);
}

const struct kl_controller kl_job_ttl_controller = {
    .name = "ttl-after-finished",
    .user = "system:serviceaccount:kube-system:ttl-after-finished-controller",
    .component = "ttl-after-finished-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
