// SPDX-License-Identifier: Apache-2.0
// What is wrong with the expressions of ValidatingAdmissionPolicies, in their status (upstream:
// pkg/controller/validatingadmissionpolicystatus). Each generation is looked at once.
#include "controllers/controllers_int.h"
#include "object/cel/typecheck.h"
#include <stdlib.h>

enum { CHECK_BYTES = 256 << 20 };

struct statuses {
    struct kl_controller_env env;
    struct kl_reconciler *reconciler;
    struct kl_informer *policies;
    struct kl_handler handler;
};

static const struct kl_resource *policies_res(void)
{
    return kl_res(KL_RES_admissionregistration_v1_validatingadmissionpolicies);
}

// The draft with the status of its generation; the warnings' text is copied into the plan.
static int set_status(struct kl_plan *p, struct kl_value *draft, const struct kl_value *warnings,
                      int64_t generation)
{
    struct kl_arena *a = &p->arena;
    struct kl_value list, checking = kl_new_struct();
    if (kl_copy(a, warnings, &list) ||
        (list.n && kl_set(a, &checking, KL_F_expressionWarnings, list)))
        return KL_ENOMEM;
    struct kl_value *st = kl_edit(a, draft, KL_F_status, KL_STRUCT);
    return !st || kl_set(a, st, KL_F_typeChecking, checking) ||
                   kl_set(a, st, KL_F_observedGeneration, kl_int(generation))
               ? KL_ENOMEM
               : 0;
}

static void decide(struct kl_plan *p)
{
    const struct statuses *c = p->arg;
    struct kl_object *policy = kl_informer_get_key(c->policies, p->key);
    struct kl_value warnings;
    struct kl_arena a;
    if (!policy)
        return;
    int64_t generation = kl_int_at(&policy->root, 0, KL_F_metadata, KL_F_generation);
    if (generation <= kl_int_at(&policy->root, 0, KL_F_status, KL_F_observedGeneration))
        return;
    kl_arena_init(&a, CHECK_BYTES);
    uint32_t stamp = (uint32_t)(kl_timers_wall_us(c->env.timers) % 1000000 * 1000);
    struct kl_value draft = kl_object_draft(kl_plan_hold(p, policy));
    int rc = kl_policy_typecheck(&a, &policy->root, stamp, &warnings);
    if (!rc)
        rc = set_status(p, &draft, &warnings, generation);
    kl_arena_fini(&a);
    if (rc) {
        kl_error_set(&p->err, rc, "out of memory");
        return;
    }
    struct kl_action *w = kl_plan_write(p, KL_VERB_UPDATE, policies_res(), "status", &draft);
    if (w)
        w->ok_errors = KL_OK_ERROR(KL_ENOTFOUND);
}

static void on_add(struct kl_handler *h, struct kl_object *policy)
{
    struct statuses *c = h->arg;
    kl_reconciler_add_object(c->reconciler, &policy->root);
}

static void on_update(struct kl_handler *h, struct kl_object *old, struct kl_object *policy)
{
    (void)old;
    on_add(h, policy);
}

static void stop(void *self)
{
    struct statuses *c = self;
    if (c->policies)
        kl_informer_remove_handler(c->policies, &c->handler);
    kl_reconciler_free(c->reconciler);
    free(c);
}

static int start(const struct kl_controller_env *env, void **ret, struct kl_error *err)
{
    struct statuses *c = calloc(1, sizeof *c);
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "policy status controller: out of memory");
    c->env = *env;
    c->policies = kl_informers_get(env->informers, policies_res());
    c->reconciler =
        kl_reconciler_new(&(struct kl_reconciler_opts){.name = "validatingadmissionpolicy-status",
                                                       .client = env->client,
                                                       .timers = env->timers,
                                                       .recorder = env->recorder,
                                                       .decide = decide,
                                                       .arg = c});
    if (!c->policies || !c->reconciler || kl_reconciler_needs(c->reconciler, c->policies) < 0) {
        stop(c);
        return kl_error_set(err, KL_ENOMEM, "policy status controller: out of memory");
    }
    c->handler = (struct kl_handler){.add = on_add, .update = on_update, .arg = c};
    kl_informer_add_handler(c->policies, &c->handler);
    kl_reconciler_start(c->reconciler);
    *ret = c;
    return 0;
}

static bool idle(const void *self)
{
    return kl_reconciler_idle(((const struct statuses *)self)->reconciler);
}

const struct kl_controller kl_policy_status_controller = {
    .name = "validatingadmissionpolicy-status-controller",
    .user = "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller",
    .component = "validatingadmissionpolicy-status-controller",
    .start = start,
    .stop = stop,
    .idle = idle,
};
