// SPDX-License-Identifier: Apache-2.0
// Starts the Job of each CronJob when its time has come (upstream: pkg/controller/cronjob).
//
// A sync first looks: at Jobs beyond the history's limits, which go, and at what status.active and
// the informers do not agree on. Then it knows which Jobs run, and decides whether one is due; the
// status is written once, last. A Job's name is made of the minute it was due in, so that no minute
// gets two.
#include "controllers/controllers_int.h"
#include "controllers/cronjob.h"
#include "controllers/pods.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MANY = 100 }; // missed times worth an event
#define SCHEDULED_AT "batch.kubernetes.io/cronjob-scheduled-timestamp"

struct cronjobs {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *cronjobs, *jobs;
    int jobs_by_owner;
    struct kl_handler cronjob_handler, job_handler;
};

// One sync. Everything is the plan's arena's or held by the plan.
struct sync {
    const struct kl_value *root;
    const struct kl_value **jobs; // that it owns
    size_t n;
    struct kl_value active; // status.active to be
    const struct kl_value *last_success;
    int64_t last_schedule; // seconds; KL_CRONJOB_NONE
    bool changed;          // the status
    int64_t now_ms, due;
    struct kl_action *fresh; // the CronJob as it is now
    struct kl_str job_name;
    struct kl_action *create, *existing;
};
static const struct kl_resource *cronjobs_res(void)
{
    return kl_res(KL_RES_batch_v1_cronjobs);
}

static const struct kl_resource *jobs_res(void)
{
    return kl_res(KL_RES_batch_v1_jobs);
}

// "Complete" or "Failed"; NULL: it runs.
static const char *finished(const struct kl_value *job)
{
    const struct kl_value *list = kl_path(job, KL_F_status, KL_F_conditions);
    return kl_condition_is(list, "Complete", "True") ? "Complete"
           : kl_condition_is(list, "Failed", "True") ? "Failed"
                                                     : NULL;
}

// ---- status.active

static const struct kl_value *find_active(const struct kl_value *list, kl_sym field,
                                          struct kl_str text)
{
    for (KL_EACH(ref, list))
        if (kl_str_eq(kl_text(kl_get(ref, field)), text))
            return ref;
    return NULL;
}

static void drop_active(struct kl_plan *p, struct sync *s, struct kl_str uid)
{
    struct kl_value left = kl_new_array();
    for (KL_EACH(ref, &s->active))
        if (!kl_str_eq(kl_text(kl_get(ref, KL_F_uid)), uid) && kl_append(&p->arena, &left, *ref))
            kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    s->active = left;
    s->changed = true;
}

static void add_active(struct kl_plan *p, struct sync *s, const struct kl_value *job)
{
    struct kl_arena *a = &p->arena;
    struct kl_value ref = kl_new_struct();
    kl_set_z(a, &ref, KL_F_kind, jobs_res()->kind);
    kl_set_str(a, &ref, KL_F_namespace, kl_meta_namespace(job));
    kl_set_str(a, &ref, KL_F_name, kl_meta_name(job));
    kl_set_str(a, &ref, KL_F_uid, kl_meta_uid(job));
    kl_set_z(a, &ref, KL_F_apiVersion, jobs_res()->api_version);
    kl_set_str(a, &ref, KL_F_resourceVersion, kl_meta_rv(job));
    if (kl_append(a, &s->active, ref))
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    s->changed = true;
}

// ---- the status, once and last

static void write_status(struct kl_plan *p)
{
    struct sync *s = p->state;
    struct kl_arena *a = &p->arena;
    if (!s->changed)
        return;
    struct kl_value draft = *s->root;
    draft.owned = 0;
    struct kl_value *st = kl_edit(a, &draft, KL_F_status, KL_STRUCT);
    if (!st) {
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
        return;
    }
    if (kl_len(&s->active))
        kl_set(a, st, KL_F_active, s->active);
    else
        kl_unset(a, st, KL_F_active);
    if (s->last_schedule != KL_CRONJOB_NONE)
        kl_set(a, st, KL_F_lastScheduleTime, kl_time(s->last_schedule * 1000000));
    if (s->last_success)
        kl_set(a, st, KL_F_lastSuccessfulTime, *s->last_success);
    kl_plan_write(p, KL_VERB_UPDATE, cronjobs_res(), "status", &draft);
}

static void after_create(struct kl_plan *p);

// A Job of this minute is there: ours, whose status was not written, or somebody else's.
static void after_existing(struct kl_plan *p)
{
    struct sync *s = p->state;
    const struct kl_object *job = s->existing->call.object;
    if (!p->err.code && job && kl_controlled_by(&job->root, kl_meta_uid(s->root)) &&
        !find_active(&s->active, KL_F_uid, kl_meta_uid(&job->root))) {
        add_active(p, s, &job->root);
        s->last_schedule = s->due;
    }
    write_status(p);
}

static void on_created(struct kl_action *x)
{
    struct kl_plan *p = x->plan;
    struct sync *s = p->state;
    if (x->skipped)
        return;
    if (!x->call.err.code && x->call.object)
        kl_plan_event(p, cronjobs_res(), s->root, "Normal", "SuccessfulCreate", "Created job %.*s",
                      KL_PRI(kl_meta_name(&x->call.object->root)));
    else if (x->call.err.code != KL_EEXISTS && !kl_is_namespace_terminating(&x->call.err))
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "FailedCreate",
                      "Error creating job: %s", x->call.err.msg);
}

static void after_create(struct kl_plan *p)
{
    struct sync *s = p->state;
    if (s->create->call.err.code == KL_EEXISTS) {
        s->existing =
            kl_plan_call(p, KL_VERB_GET, jobs_res(), NULL, kl_meta_namespace(s->root), s->job_name);
        if (s->existing)
            p->then = after_existing;
        return;
    }
    if (!p->err.code && s->create->call.object) {
        add_active(p, s, &s->create->call.object->root);
        s->last_schedule = s->due;
    }
    write_status(p);
}

// ---- a Job

static struct kl_str due_text(struct kl_plan *p, const struct sync *s)
{
    struct kl_zone *z;
    if (kl_zone_load(kl_text_at(s->root, KL_F_spec, KL_F_timeZone), &z, &p->err))
        return KL_STR("");
    struct kl_civil c = kl_zone_civil(z, s->due);
    int off = kl_zone_offset(z, s->due) / 60, east = off < 0 ? -off : off;
    kl_zone_free(z);
    struct kl_str zone =
        off ? kl_arena_printf(&p->arena, "%c%02d:%02d", off < 0 ? '-' : '+', east / 60, east % 60)
            : KL_STR("Z");
    return kl_arena_printf(&p->arena, "%04d-%02d-%02dT%02d:%02d:%02d%.*s", (int)c.year, c.month,
                           c.day, c.hour, c.minute, c.second, KL_PRI(zone));
}

static void plan_job(struct kl_plan *p, struct sync *s)
{
    struct kl_arena *a = &p->arena;
    const struct kl_value *from = kl_path(s->root, KL_F_spec, KL_F_jobTemplate);
    const struct kl_value *labels = kl_path(from, KL_F_metadata, KL_F_labels);
    const struct kl_value *notes = kl_path(from, KL_F_metadata, KL_F_annotations);
    struct kl_value job = kl_new_struct(), owners = kl_new_array();
    kl_set_z(a, &job, KL_F_apiVersion, jobs_res()->api_version);
    kl_set_z(a, &job, KL_F_kind, jobs_res()->kind);
    struct kl_value *meta = kl_edit(a, &job, KL_F_metadata, KL_STRUCT);
    struct kl_str due = due_text(p, s);
    if (p->err.code || !meta)
        return;
    kl_set_str(a, meta, KL_F_name, s->job_name);
    kl_set_str(a, meta, KL_F_namespace, kl_meta_namespace(s->root));
    if (labels)
        kl_set(a, meta, KL_F_labels, *labels);
    if (notes)
        kl_set(a, meta, KL_F_annotations, *notes);
    kl_set_annotation(a, &job, SCHEDULED_AT, due);
    kl_append(a, &owners, kl_owner_ref(a, cronjobs_res(), s->root, true, true));
    kl_set(a, meta, KL_F_ownerReferences, owners);
    kl_set(a, &job, KL_F_spec, *kl_get(from, KL_F_spec));
    kl_plan_next_group(p);
    s->create = kl_plan_write(p, KL_VERB_CREATE, jobs_res(), NULL, &job);
    if (!s->create)
        return;
    s->create->ok_errors = KL_OK_ERROR(KL_EEXISTS);
    s->create->done_cb = on_created;
    p->then = after_create;
}

static void on_deleted(struct kl_action *x)
{
    struct kl_plan *p = x->plan;
    struct sync *s = p->state;
    const struct kl_value *ref = x->arg; // the Job, or what status.active says of it
    bool is_job = kl_get(ref, KL_F_metadata) != NULL;
    struct kl_str name = is_job ? kl_meta_name(ref) : kl_text(kl_get(ref, KL_F_name));
    if (x->skipped)
        return;
    if (x->call.err.code) {
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "FailedDelete", "Deleted job: %s",
                      x->call.err.msg);
        return;
    }
    drop_active(p, s, is_job ? kl_meta_uid(ref) : kl_text(kl_get(ref, KL_F_uid)));
    kl_plan_event(p, cronjobs_res(), s->root, "Normal", "SuccessfulDelete", "Deleted job %.*s",
                  KL_PRI(name));
}

static void plan_delete(struct kl_plan *p, const struct kl_value *what, struct kl_str ns,
                        struct kl_str name, bool must)
{
    struct kl_action *x = kl_plan_call(p, KL_VERB_DELETE, jobs_res(), NULL, ns, name);
    if (!x)
        return;
    x->call.propagation = KL_PROPAGATE_BACKGROUND;
    x->done_cb = on_deleted;
    x->arg = (void *)what;
    if (!must) // it is looked at again with the next change
        x->ok_errors = ~0u;
}

// ---- is one due

static void no_schedule(struct kl_plan *p, const struct sync *s, const char *why)
{
    struct kl_str text = kl_text_at(s->root, KL_F_spec, KL_F_schedule);
    kl_plan_event(p, cronjobs_res(), s->root, "Warning", "UnparseableSchedule",
                  "unparseable schedule: \"%.*s\" : %s", KL_PRI(text), why);
}

// Whether its time is known, and not past; what is not due is looked at again in time.
static bool is_due(struct kl_plan *p, struct sync *s, const struct kl_cron *cron)
{
    int64_t missed, earliest, now = s->now_ms / 1000;
    struct kl_error err = {0};
    if (kl_cronjob_recent(s->root, s->last_schedule, cron, now, true, &s->due, &missed, &earliest,
                          &err)) {
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "InvalidSchedule",
                      "invalid schedule: %.*s : %s",
                      KL_PRI(kl_text_at(s->root, KL_F_spec, KL_F_schedule)), err.msg);
        return false;
    }
    int64_t again_ms = kl_cronjob_next_ms(s->root, s->last_schedule, cron, s->now_ms);
    if (again_ms >= 0)
        kl_plan_requeue(p, again_ms);
    if (s->due == KL_CRONJOB_NONE)
        return false;
    if (missed > MANY)
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "TooManyMissedTimes",
                      "too many missed start times. Set or decrease "
                      ".spec.startingDeadlineSeconds or check clock skew");
    const struct kl_value *deadline = kl_path(s->root, KL_F_spec, KL_F_startingDeadlineSeconds);
    if (deadline && (s->due + kl_int_or(deadline, 0)) * 1000 < s->now_ms) {
        char text[64];
        time_t t = (time_t)s->due;
        struct tm tm;
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&t, &tm));
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "MissSchedule",
                      "Missed scheduled time to start a job: %s", text);
        return false;
    }
    s->job_name = kl_arena_printf(&p->arena, "%.*s-%lld", KL_PRI(kl_meta_name(s->root)),
                                  (long long)(s->due / 60));
    return !find_active(&s->active, KL_F_name, s->job_name) && s->last_schedule != s->due;
}

static void start_job(struct kl_plan *p, struct sync *s)
{
    struct kl_str policy = kl_text_at(s->root, KL_F_spec, KL_F_concurrencyPolicy);
    if (kl_str_eqz(policy, "Forbid") && kl_len(&s->active)) {
        kl_plan_event(p, cronjobs_res(), s->root, "Normal", "JobAlreadyActive",
                      "Not starting job because prior execution is running and concurrency policy "
                      "is Forbid");
        return;
    }
    if (kl_str_eqz(policy, "Replace")) {
        kl_plan_next_group(p);
        for (KL_EACH(ref, &s->active))
            plan_delete(p, ref, kl_meta_namespace(s->root), kl_text(kl_get(ref, KL_F_name)), true);
    }
    plan_job(p, s);
}

static void schedule(struct kl_plan *p, struct sync *s)
{
    struct kl_str text = kl_text_at(s->root, KL_F_spec, KL_F_schedule);
    struct kl_str zone = kl_text_at(s->root, KL_F_spec, KL_F_timeZone);
    struct kl_error err = {0};
    struct kl_zone *z;
    struct kl_cron cron;
    if (zone.n && kl_zone_load(zone, &z, &err)) {
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "UnknownTimeZone",
                      "invalid timeZone: \"%.*s\": %s", KL_PRI(zone), err.msg);
        return;
    }
    if (zone.n)
        kl_zone_free(z);
    if (kl_true_at(s->root, KL_F_spec, KL_F_suspend))
        return;
    if (kl_cronjob_has_zone(text))
        kl_plan_event(p, cronjobs_res(), s->root, "Warning", "UnsupportedSchedule",
                      "CRON_TZ or TZ used in schedule \"%.*s\" is not officially supported, see "
                      "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for "
                      "more details",
                      KL_PRI(text));
    if (kl_cronjob_schedule(&p->arena, s->root, &cron, &err)) {
        no_schedule(p, s, err.msg);
        return;
    }
    if (is_due(p, s, &cron))
        start_job(p, s);
    kl_cron_fini(&cron);
}

// ---- which Jobs run

static void note_finished(struct kl_plan *p, struct sync *s, const struct kl_value *job,
                          const char *condition)
{
    const struct kl_value *at = kl_path(job, KL_F_status, KL_F_completionTime);
    if (find_active(&s->active, KL_F_uid, kl_meta_uid(job))) {
        drop_active(p, s, kl_meta_uid(job));
        kl_plan_event(p, cronjobs_res(), s->root, "Normal", "SawCompletedJob",
                      "Saw completed job: %.*s, condition: %s", KL_PRI(kl_meta_name(job)),
                      condition);
    }
    if (at && strcmp(condition, "Complete") == 0 &&
        (!s->last_success || kl_int_or(at, 0) > kl_int_or(s->last_success, 0))) {
        s->last_success = at;
        s->changed = true;
    }
}

static void after_look(struct kl_plan *p)
{
    struct sync *s = p->state;
    if (p->err.code)
        return;
    struct kl_object *fresh = s->fresh ? s->fresh->call.object : NULL;
    const struct kl_value *now_active =
        fresh && kl_str_eq(kl_meta_uid(&fresh->root), kl_meta_uid(s->root))
            ? kl_path(&fresh->root, KL_F_status, KL_F_active)
            : NULL;
    for (size_t i = 0; i < s->n; i++) {
        const struct kl_value *job = s->jobs[i];
        const char *condition = finished(job);
        if (condition) {
            note_finished(p, s, job, condition);
            continue;
        }
        if (find_active(&s->active, KL_F_uid, kl_meta_uid(job)))
            continue;
        const struct kl_value *ref = find_active(now_active, KL_F_uid, kl_meta_uid(job));
        if (ref)
            kl_append(&p->arena, &s->active, *ref); // the informer is behind
        else
            kl_plan_event(p, cronjobs_res(), s->root, "Warning", "UnexpectedJob",
                          "Saw a job that the controller did not create or forgot: %.*s",
                          KL_PRI(kl_meta_name(job)));
    }
    if (!kl_meta_deleting(s->root))
        schedule(p, s);
    if (!p->then)
        write_status(p);
}

static void on_missing(struct kl_action *x)
{
    struct kl_plan *p = x->plan;
    struct sync *s = p->state;
    const struct kl_value *ref = x->arg;
    if (x->skipped || x->call.err.code != KL_ENOTFOUND)
        return;
    kl_plan_event(p, cronjobs_res(), s->root, "Normal", "MissingJob",
                  "Active job went missing: %.*s", KL_PRI(kl_text(kl_get(ref, KL_F_name))));
    drop_active(p, s, kl_text(kl_get(ref, KL_F_uid)));
}

static bool owns(const struct sync *s, struct kl_str uid)
{
    for (size_t i = 0; i < s->n; i++)
        if (kl_str_eq(kl_meta_uid(s->jobs[i]), uid))
            return true;
    return false;
}

static int by_start(const void *x, const void *y)
{
    const struct kl_value *a = *(const struct kl_value *const *)x;
    const struct kl_value *b = *(const struct kl_value *const *)y;
    int64_t at = kl_int_at(a, INT64_MAX, KL_F_status, KL_F_startTime);
    int64_t bt = kl_int_at(b, INT64_MAX, KL_F_status, KL_F_startTime);
    return at != bt ? (at > bt) - (at < bt) : kl_str_cmp(kl_meta_name(a), kl_meta_name(b));
}

// Those that ended like this, beyond the limit, the oldest first.
static void plan_cleanup(struct kl_plan *p, struct sync *s, const char *condition, kl_sym field)
{
    const struct kl_value *limit = kl_path(s->root, KL_F_spec, field);
    const struct kl_value **done = kl_arena_alloc(&p->arena, (s->n + 1) * sizeof *done);
    size_t n = 0;
    if (!limit || !done)
        return;
    for (size_t i = 0; i < s->n; i++) {
        const char *is = finished(s->jobs[i]);
        if (is && strcmp(is, condition) == 0)
            done[n++] = s->jobs[i];
    }
    if ((int64_t)n <= kl_int_or(limit, 0))
        return;
    qsort(done, n, sizeof *done, by_start);
    for (size_t i = 0; i < n - (size_t)kl_int_or(limit, 0); i++)
        if (!kl_meta_deleting(done[i]))
            plan_delete(p, done[i], kl_meta_namespace(done[i]), kl_meta_name(done[i]), false);
}

static void plan_look(struct kl_plan *p, struct sync *s)
{
    bool unknown = false;
    plan_cleanup(p, s, "Complete", KL_F_successfulJobsHistoryLimit);
    plan_cleanup(p, s, "Failed", KL_F_failedJobsHistoryLimit);
    for (size_t i = 0; i < s->n; i++)
        unknown |=
            !finished(s->jobs[i]) && !find_active(&s->active, KL_F_uid, kl_meta_uid(s->jobs[i]));
    if (unknown) {
        s->fresh = kl_plan_call(p, KL_VERB_GET, cronjobs_res(), NULL, kl_meta_namespace(s->root),
                                kl_meta_name(s->root));
    }
    for (KL_EACH(ref, &s->active)) {
        if (owns(s, kl_text(kl_get(ref, KL_F_uid))))
            continue;
        struct kl_action *x =
            kl_plan_call(p, KL_VERB_GET, jobs_res(), NULL, kl_meta_namespace(s->root),
                         kl_text(kl_get(ref, KL_F_name)));
        if (!x)
            return;
        x->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
        x->done_cb = on_missing;
        x->arg = (void *)ref;
    }
    if (p->actions)
        p->then = after_look;
    else
        after_look(p);
}

static void decide(struct kl_plan *p)
{
    struct cronjobs *c = p->arg;
    struct kl_object *o = kl_plan_hold(p, kl_informer_get_key(c->cronjobs, p->key));
    struct sync *s = o ? KL_ARENA_NEW(&p->arena, struct sync) : NULL;
    if (!s)
        return;
    p->state = s;
    s->root = &o->root;
    s->now_ms = kl_timers_wall_us(c->env.timers) / 1000;
    const struct kl_value *st = kl_get(s->root, KL_F_status);
    const struct kl_value *last = kl_get(st, KL_F_lastScheduleTime);
    s->last_schedule = last ? kl_int_or(last, 0) / 1000000 : KL_CRONJOB_NONE;
    s->last_success = kl_get(st, KL_F_lastSuccessfulTime);
    s->active = kl_new_array();
    for (KL_EACH(ref, kl_get(st, KL_F_active)))
        kl_append(&p->arena, &s->active, *ref);
    size_t n;
    struct kl_entry *const *owned =
        kl_informer_index(c->jobs, c->jobs_by_owner, kl_meta_uid(s->root), &n);
    s->jobs = kl_arena_alloc(&p->arena, (n + 1) * sizeof *s->jobs);
    for (size_t i = 0; s->jobs && i < n; i++)
        s->jobs[s->n++] = &kl_plan_hold(p, owned[i]->object)->root;
    if (!s->jobs || kl_len(&s->active) != kl_len(kl_get(st, KL_F_active)))
        kl_error_set(&p->err, KL_ENOMEM, "out of memory");
    else
        plan_look(p, s);
}

// ---- what changed

static void on_cronjob(struct kl_handler *h, struct kl_object *o)
{
    struct cronjobs *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &o->root);
}

// A new schedule begins with its next time.
static void on_cronjob_update(struct kl_handler *h, struct kl_object *old, struct kl_object *o)
{
    static const kl_sym fields[] = {KL_F_schedule, KL_F_timeZone};
    struct cronjobs *c = h->arg;
    bool moved = false;
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        moved |= !kl_value_equal(kl_path(&old->root, KL_F_spec, fields[i]),
                                 kl_path(&o->root, KL_F_spec, fields[i]));
    if (!moved) {
        on_cronjob(h, o);
        return;
    }
    struct kl_arena a;
    struct kl_cron cron;
    const struct kl_value *last = kl_path(&o->root, KL_F_status, KL_F_lastScheduleTime);
    kl_arena_init(&a, 1 << 16);
    struct kl_str key = kl_key_of(&a, &o->root);
    if (!kl_cronjob_schedule(&a, &o->root, &cron, NULL)) {
        int64_t ms =
            kl_cronjob_next_ms(&o->root, last ? kl_int_or(last, 0) / 1000000 : KL_CRONJOB_NONE,
                               &cron, kl_timers_wall_us(c->env.timers) / 1000);
        if (key.p && ms >= 0)
            kl_reconciler_add_after(c->reconciler, key, ms);
        kl_cron_fini(&cron);
    } else {
        struct kl_object_ref about = kl_ref_of(cronjobs_res(), &o->root);
        kl_recorder_eventf(c->env.recorder, &about, "Warning", "UnParseableCronJobSchedule",
                           "unparseable schedule for cronjob: %.*s",
                           KL_PRI(kl_text_at(&o->root, KL_F_spec, KL_F_schedule)));
    }
    kl_arena_fini(&a);
}

static void tell_owner(struct cronjobs *c, const struct kl_value *job)
{
    const struct kl_value *ref = kl_meta_controller(job);
    if (!ref || !kl_str_eqz(kl_text(kl_get(ref, KL_F_kind)), cronjobs_res()->kind))
        return;
    struct kl_object *o =
        kl_informer_get(c->cronjobs, kl_meta_namespace(job), kl_text(kl_get(ref, KL_F_name)));
    if (o && kl_str_eq(kl_meta_uid(&o->root), kl_text(kl_get(ref, KL_F_uid))))
        kl_reconciler_add_object(c->reconciler, &o->root);
}

static void on_job(struct kl_handler *h, struct kl_object *job)
{
    tell_owner(h->arg, &job->root);
}

static void on_job_update(struct kl_handler *h, struct kl_object *old, struct kl_object *job)
{
    if (!kl_value_equal(kl_meta_controller(&old->root), kl_meta_controller(&job->root)))
        tell_owner(h->arg, &old->root);
    on_job(h, job);
}

static void stop(void *self)
{
    struct cronjobs *c = self;
    if (c->jobs)
        kl_informer_remove_handler(c->jobs, &c->job_handler);
    if (c->cronjobs)
        kl_informer_remove_handler(c->cronjobs, &c->cronjob_handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct cronjobs *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "cronjob controller: out of memory");
    c->env = *env;
    c->cronjobs = kl_informers_get(env->informers, cronjobs_res());
    c->jobs = kl_informers_get(env->informers, jobs_res());
    c->reconciler = kl_reconciler_new(&(struct kl_reconciler_opts){.name = "cronjob",
                                                                   .client = env->client,
                                                                   .timers = env->timers,
                                                                   .recorder = env->recorder,
                                                                   .decide = decide,
                                                                   .arg = c});
    if (!c->cronjobs || !c->jobs || !c->reconciler ||
        kl_reconciler_needs(c->reconciler, c->cronjobs) < 0 ||
        kl_reconciler_needs(c->reconciler, c->jobs) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "cronjob controller: out of memory");
    }
    c->jobs_by_owner = kl_informer_add_index(c->jobs, kl_index_controller_uid);
    c->cronjob_handler =
        (struct kl_handler){.add = on_cronjob, .update = on_cronjob_update, .arg = c};
    c->job_handler =
        (struct kl_handler){.add = on_job, .update = on_job_update, .remove = on_job, .arg = c};
    kl_informer_add_handler(c->cronjobs, &c->cronjob_handler);
    kl_informer_add_handler(c->jobs, &c->job_handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct cronjobs *)self)->reconciler);
}

const struct kl_controller kl_cronjob_controller = {
    .name = "cronjob",
    .user = "system:serviceaccount:kube-system:cronjob-controller",
    .component = "cronjob-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
