// SPDX-License-Identifier: Apache-2.0
// Warnings of what makes pods: of the template, mostly, and on update only when the generation has
// changed.
#include "object/validate/warn_int.h"

enum { COMPLETIONS_MAX = 100000, PARALLELISM_MAX = 10000 };

void kl_warn_host_name(struct kl_v *c, const char *what)
{
    const char *list[KL_V_MESSAGES];
    size_t n = kl_v_messages(KL_V_LABEL, kl_meta_name(c->now), list);
    const char *all = n ? list[0] : NULL;
    for (size_t i = 1; i < n; i++)
        all = kl_v_text(c, "%s %s", all, list[i]);
    if (n)
        kl_warn(c, F(&c->meta, name),
                "this is used in %s, which can result in surprising behavior; a DNS label is "
                "recommended: [%s]",
                what, all);
}

static void warn_name(struct kl_v *c)
{
    kl_warn_host_name(c, "Pod names and hostnames");
}

static void warn_template_of(struct kl_v *c, const struct kl_value *root)
{
    const struct kl_value *template = kl_path(root, KL_F_spec, KL_F_template);
    if (template)
        kl_warn_pod(c, template, F(&c->spec, template));
}

static void warn_template(struct kl_v *c)
{
    warn_template_of(c, c->now);
}

static void warn_bumped(struct kl_v *c, bool bumped)
{
    if (bumped)
        warn_template(c);
}

static void warn_named(struct kl_v *c)
{
    warn_name(c);
    warn_template(c);
}

const struct kl_warn_kind kl_warn_deployments = {.create = warn_named, .update = warn_bumped};
const struct kl_warn_kind kl_warn_replica_sets = {.create = warn_named, .update = warn_bumped};

// Upstream has old and new the wrong way round here: what was is warned of.
static void warn_controller(struct kl_v *c, bool bumped)
{
    if (bumped)
        warn_template_of(c, c->old);
}

const struct kl_warn_kind kl_warn_controllers = {.create = warn_named, .update = warn_controller};

// ---- daemon sets: their own count of templates

static void warn_daemons(struct kl_v *c, bool bumped)
{
    if (bumped && !kl_value_equal(kl_get(kl_v_spec(c), KL_F_template),
                                  kl_get(kl_v_old_spec(c), KL_F_template)))
        warn_template(c);
}

const struct kl_warn_kind kl_warn_daemon_sets = {.create = warn_template, .update = warn_daemons};

// ---- stateful sets

static void warn_set(struct kl_v *c, const char *under)
{
    const struct kl_vpath *p = F(&c->spec, volumeClaimTemplates);
    const struct kl_value *limit = kl_get(kl_v_spec(c), KL_F_revisionHistoryLimit);
    size_t i = 0;
    for (KL_EACH(x, kl_get(kl_v_spec(c), KL_F_volumeClaimTemplates))) {
        const struct kl_vpath *at = I(p, i++);
        kl_warn_claim_spec(c, kl_get(x, KL_F_spec), under ? N(at, under) : at);
    }
    if (kl_int_or(limit, 0) < 0)
        kl_warn(c, F(&c->spec, revisionHistoryLimit),
                "a negative value retains all historical revisions; a value >= 0 is recommended");
}

static void warn_new_set(struct kl_v *c)
{
    warn_template(c);
    warn_set(c, NULL);
}

static void warn_changed_set(struct kl_v *c, bool bumped)
{
    warn_bumped(c, bumped);
    warn_set(c, "Spec");
}

const struct kl_warn_kind kl_warn_stateful_sets = {.create = warn_new_set,
                                                   .update = warn_changed_set};

// ---- jobs

static void warn_job_spec(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    if (kl_v_is(spec, KL_F_completionMode, "Indexed") &&
        kl_int_at(spec, 0, KL_F_completions) > COMPLETIONS_MAX &&
        kl_int_at(spec, 0, KL_F_parallelism) > PARALLELISM_MAX)
        kl_warn(c, p,
                "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism "
                "higher than 10^4, Kubernetes might not be able to track completedIndexes when a "
                "big number of indexes fail");
    kl_warn_pod(c, kl_get(spec, KL_F_template), F(p, template));
}

static void warn_new_job(struct kl_v *c)
{
    warn_name(c);
    warn_job_spec(c, kl_v_spec(c), &c->spec);
}

static void warn_job(struct kl_v *c, bool bumped)
{
    if (bumped)
        warn_job_spec(c, kl_v_spec(c), &c->spec);
}

const struct kl_warn_kind kl_warn_jobs = {.create = warn_new_job, .update = warn_job};

static void warn_job_template(struct kl_v *c)
{
    warn_job_spec(c, kl_path(c->now, KL_F_spec, KL_F_jobTemplate, KL_F_spec),
                  F(F(&c->spec, jobTemplate), spec));
}

static void warn_new_cron_job(struct kl_v *c)
{
    warn_name(c);
    warn_job_template(c);
}

static void warn_cron_job(struct kl_v *c, bool bumped)
{
    struct kl_str schedule = kl_text(kl_get(kl_v_spec(c), KL_F_schedule));
    if (bumped)
        warn_job_template(c);
    if (schedule.n && memmem(schedule.p, schedule.n, "TZ", 2))
        kl_warn(c, NULL,
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
                "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more "
                "details");
}

const struct kl_warn_kind kl_warn_cron_jobs = {.create = warn_new_cron_job,
                                               .update = warn_cron_job};

// ---- templates by themselves

static void warn_alone(struct kl_v *c)
{
    kl_warn_pod(c, kl_get(c->now, KL_F_template), F(NULL, template));
}

static void warn_alone_bumped(struct kl_v *c, bool bumped)
{
    if (bumped)
        warn_alone(c);
}

const struct kl_warn_kind kl_warn_templates = {.create = warn_alone, .update = warn_alone_bumped};
