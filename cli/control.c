// SPDX-License-Identifier: Apache-2.0
#include "cli/control.h"
#include "base/log.h"
#include "base/rand.h"
#include "client/leader.h"
#include "controllers/controllers.h"
#include "object/gates.h"
#include "scheduler/scheduler.h"
#include <stdio.h>
#include <stdlib.h>

// One that runs while it leads.
struct part {
    struct kl_control *control;
    const char *name; // of its Lease
    void (*start)(struct kl_control *c);
    void (*stop)(struct kl_control *c);
    struct kl_client *client; // of the election
    struct kl_leader *leader;
};

struct kl_control {
    struct kl_control_options o;
    struct kl_timers *timers;
    struct part parts[2];
    struct kl_controllers *controllers;
    struct kl_scheduler *scheduler;
    struct kl_client *scheduler_client;
    int left; // parts that still use something
    void (*done)(void *arg);
    void *done_arg;
};

static struct kl_client *controller_client(void *arg, const char *user)
{
    struct kl_control *c = arg;
    return c->o.client_for(c->o.arg, user, "kube-controller-manager");
}

static bool controllers_serves(void *arg, const struct kl_resource *res)
{
    struct kl_control *c = arg;
    return c->o.serves(c->o.arg, res);
}

static void start_controllers(struct kl_control *c)
{
    struct kl_error err = {0};
    struct kl_gate_set gates;
    kl_gate_set_default(&gates);
    if (kl_gate_set_parse(&gates, c->o.feature_gates, &err)) // the API server has refused them too
        kl_log(KL_LOG_ERROR, "server", "controllers: %s", err.msg);
    struct kl_controllers_options o = {.loop = c->o.loop,
                                       .client_for = controller_client,
                                       .serves = controllers_serves,
                                       .arg = c,
                                       .root_ca_pem = c->o.root_ca_pem,
                                       .signing = &c->o.signing,
                                       .storage_migration =
                                           kl_gate_named_on(&gates, "StorageVersionMigrator"),
                                       .disable = c->o.disable,
                                       .only = c->o.only};
    if (kl_controllers_start(&o, &c->controllers, &err))
        kl_log(KL_LOG_ERROR, "server", "controllers: %s", err.msg);
}

static void stop_controllers(struct kl_control *c)
{
    kl_controllers_stop(c->controllers);
    c->controllers = NULL;
}

static void start_scheduler(struct kl_control *c)
{
    struct kl_error err = {0};
    struct kl_scheduler_options o = {0};
    c->scheduler_client = c->o.client_for(c->o.arg, "system:kube-scheduler", "kube-scheduler");
    if (!c->scheduler_client ||
        kl_scheduler_start(c->o.loop, c->scheduler_client, &o, &c->scheduler, &err))
        kl_log(KL_LOG_ERROR, "server", "scheduler: %s", err.msg);
}

static void stop_scheduler(struct kl_control *c)
{
    kl_scheduler_stop(c->scheduler);
    kl_client_free(c->scheduler_client);
    c->scheduler = NULL;
    c->scheduler_client = NULL;
}

static void started_leading(void *arg)
{
    struct part *p = arg;
    kl_log(KL_LOG_INFO, "server", "leads lease=%s", p->name);
    p->start(p->control);
}

static void stopped_leading(void *arg)
{
    struct part *p = arg;
    kl_log(KL_LOG_WARN, "server", "leads no more lease=%s", p->name);
    p->stop(p->control);
}

static void part_gone(void *arg)
{
    struct part *p = arg;
    struct kl_control *c = p->control;
    kl_client_free(p->client);
    p->client = NULL;
    if (--c->left)
        return;
    kl_timers_free(c->timers);
    c->done(c->done_arg);
    free(c);
}

static void start_part(struct kl_control *c, struct part *p)
{
    char user[64], identity[320], uuid[37];
    if (!c->o.elect) {
        p->start(c);
        return;
    }
    kl_uuid(uuid);
    snprintf(identity, sizeof identity, "%.250s_%s", c->o.identity, uuid);
    snprintf(user, sizeof user, "system:%s", p->name);
    struct kl_leader_opts o = {.timers = c->timers,
                               .ns = KL_STR("kube-system"),
                               .name = kl_str(p->name),
                               .identity = kl_str(identity),
                               .started_cb = started_leading,
                               .stopped_cb = stopped_leading,
                               .freed_cb = part_gone,
                               .arg = p};
    o.client = p->client = c->o.client_for(c->o.arg, user, "leader-election");
    if (!o.client || !(p->leader = kl_leader_new(&o)))
        kl_log(KL_LOG_ERROR, "server", "no election for lease=%s", p->name);
}

struct kl_control *kl_control_start(const struct kl_control_options *o)
{
    struct kl_error err = {0};
    struct kl_control *c = calloc(1, sizeof *c);
    if (!c || kl_timers_new(o->loop, &c->timers, &err)) {
        kl_log(KL_LOG_ERROR, "server", "controllers and scheduler: out of memory");
        free(c);
        return NULL;
    }
    c->o = *o;
    c->parts[0] = (struct part){
        .name = "kube-controller-manager", .start = start_controllers, .stop = stop_controllers};
    c->parts[1] =
        (struct part){.name = "kube-scheduler", .start = start_scheduler, .stop = stop_scheduler};
    c->parts[0].control = c->parts[1].control = c;
    if (o->controllers)
        start_part(c, &c->parts[0]);
    if (o->scheduler)
        start_part(c, &c->parts[1]);
    return c;
}

void kl_control_stop(struct kl_control *c, void (*done)(void *arg), void *arg)
{
    if (!c) {
        done(arg);
        return;
    }
    c->done = done;
    c->done_arg = arg;
    c->left = (int)KL_COUNT(c->parts);
    for (size_t i = KL_COUNT(c->parts); i--;) {
        struct part *p = &c->parts[i];
        p->stop(c);
        if (p->leader)
            kl_leader_free(p->leader);
        else
            part_gone(p);
    }
}
