// SPDX-License-Identifier: Apache-2.0
#include "controllers/controllers_int.h"
#include <stdlib.h>

static const struct kl_controller *const table[] = {
    &kl_serviceaccount_controller,
    &kl_root_ca_controller,
    &kl_replicaset_controller,
    &kl_replication_controller,
    &kl_deployment_controller,
    &kl_namespace_controller,
    &kl_garbage_controller,
    &kl_node_controller,
    &kl_taint_eviction_controller,
    &kl_pod_gc_controller,
    &kl_resourcequota_controller,
    &kl_service_cidr_controller,
    &kl_cronjob_controller,
    &kl_disruption_controller,
    &kl_csr_approving_controller,
    &kl_csr_signing_controller,
    &kl_csr_cleaner_controller,
    &kl_pvc_protection_controller,
    &kl_pv_protection_controller,
    &kl_policy_status_controller,
    &kl_svm_controller,
    &kl_endpointslice_controller,
    &kl_job_controller,
    &kl_job_ttl_controller,
    &kl_podgroup_protection_controller,
};

#define INFORMER_USER "system:kube-controller-manager"

struct running {
    const struct kl_controller *def;
    void *self;
    struct kl_client *client;
    struct kl_recorder *recorder;
};

struct kl_controllers {
    struct kl_timers *timers;
    bool own_timers;
    struct kl_arena arena;
    struct kl_client *client; // the informers'
    struct kl_informers *informers;
    struct running running[KL_COUNT(table)];
    size_t n;
};

static bool is_disabled(const char *list, const char *name)
{
    struct kl_str rest = kl_str(list), part;
    while (kl_str_split(&rest, ',', &part)) {
        if (kl_str_eqz(kl_str_trim(part), name))
            return true;
    }
    return false;
}

// "namespace" is also "namespace-controller", as upstream calls it today.
static bool is_name(struct kl_str text, const char *name)
{
    struct kl_str suffix = KL_STR("-controller"), n = kl_str(name);
    if (kl_str_ends(text, suffix) && !kl_str_ends(n, suffix))
        text.n -= suffix.n;
    return kl_str_eq(text, n);
}

bool kl_controllers_runs(const char *list, const char *name)
{
    struct kl_str rest = kl_str(list), part;
    bool star = false;
    if (!list)
        return true;
    while (kl_str_split(&rest, ',', &part)) {
        part = kl_str_trim(part);
        if (is_name(part, name))
            return true;
        if (part.n && part.p[0] == '-' && is_name(kl_str_from(part, 1), name))
            return false;
        star = star || kl_str_eqz(part, "*");
    }
    return star;
}

int kl_controllers_check(const char *list, struct kl_error *err)
{
    struct kl_str rest = kl_str(list), part;
    while (list && kl_str_split(&rest, ',', &part)) {
        part = kl_str_trim(part);
        struct kl_str name = part.n && part.p[0] == '-' ? kl_str_from(part, 1) : part;
        bool known = !part.n || kl_str_eqz(part, "*");
        for (size_t i = 0; i < KL_COUNT(table); i++)
            known = known || is_name(name, table[i]->name);
        if (!known)
            return kl_error_set(err, KL_EINVALID,
                                "\"%.*s\" is not in the list of known controllers", KL_PRI(name));
    }
    return 0;
}

static int start_one(struct kl_controllers *c, const struct kl_controllers_options *o,
                     const struct kl_controller *def, struct kl_str root_ca, struct kl_error *err)
{
    struct running *r = &c->running[c->n];
    struct kl_controller_env env = {
        .timers = c->timers,
        .informers = c->informers,
        .lister = c->client,
        .root_ca_pem = root_ca,
        .signing = o->signing,
        .serves = o->serves,
        .serves_arg = o->arg,
    };
    if (def->is_wanted && !def->is_wanted(&env))
        return 0;
    r->def = def;
    r->client = o->client_for(o->arg, def->user);
    if (!r->client)
        return kl_error_set(err, KL_EUNAVAILABLE, "no client for %s", def->user);
    c->n++;
    r->recorder = kl_recorder_new(r->client, c->timers, kl_str(def->component), KL_STR(""));
    if (!r->recorder)
        return kl_error_set(err, KL_ENOMEM, "controller %s: out of memory", def->name);
    env.client = r->client;
    env.recorder = r->recorder;
    return def->start(&env, &r->self, err);
}

int kl_controllers_start(const struct kl_controllers_options *o, struct kl_controllers **ret,
                         struct kl_error *err)
{
    struct kl_controllers *c = calloc(1, sizeof(*c));
    if (!c)
        return kl_error_set(err, KL_ENOMEM, "controllers: out of memory");
    kl_arena_init(&c->arena, 1 << 20);
    c->timers = o->timers;
    c->own_timers = !o->timers;
    int rc = c->own_timers ? kl_timers_new(o->loop, &c->timers, err) : 0;
    struct kl_str root_ca = kl_arena_dup(&c->arena, o->root_ca_pem);
    if (rc == 0) {
        c->client = o->client_for(o->arg, INFORMER_USER);
        if (!c->client)
            rc = kl_error_set(err, KL_EUNAVAILABLE, "no client for %s", INFORMER_USER);
        else if (!(c->informers = kl_informers_new(c->client, c->timers)) || !root_ca.p)
            rc = kl_error_set(err, KL_ENOMEM, "controllers: out of memory");
    }
    for (size_t i = 0; rc == 0 && i < KL_COUNT(table); i++) {
        if (table[i] == &kl_svm_controller && !o->storage_migration)
            continue;
        if (!is_disabled(o->disable, table[i]->name) &&
            kl_controllers_runs(o->only, table[i]->name))
            rc = start_one(c, o, table[i], root_ca, err);
    }
    if (rc == 0 && kl_informers_start(c->informers) < 0)
        rc = kl_error_set(err, KL_ENOMEM, "controllers: out of memory");
    if (rc < 0) {
        kl_controllers_stop(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void kl_controllers_stop(struct kl_controllers *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        if (c->running[i].self)
            c->running[i].def->stop(c->running[i].self);
    }
    kl_informers_free(c->informers);
    for (size_t i = 0; i < c->n; i++) {
        kl_recorder_free(c->running[i].recorder);
        kl_client_free(c->running[i].client);
    }
    kl_client_free(c->client);
    if (c->own_timers)
        kl_timers_free(c->timers);
    kl_arena_fini(&c->arena);
    free(c);
}

bool kl_controllers_idle(const struct kl_controllers *c)
{
    if (!kl_informers_synced(c->informers))
        return false;
    for (size_t i = 0; i < c->n; i++) {
        const struct running *r = &c->running[i];
        if ((r->self && !r->def->idle(r->self)) || kl_recorder_queued(r->recorder))
            return false;
    }
    return true;
}
