// SPDX-License-Identifier: Apache-2.0
#include "cli/alone.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/pki.h"
#include "base/log.h"
#include "cli/control.h"
#include "cli/trim.h"
#include "cli/version.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LOOPS_MAX = 8, OPEN_FILES = 65536 };

struct kl_alone {
    struct kl_alone_options o;
    struct kl_apiserver *api;
    struct kl_loop *loops[LOOPS_MAX], *control_loop;
    int nloops;
    struct kl_control *control;
    struct kl_task start_control, stop_control, control_gone;
    uv_signal_t signals[2];
    bool stopping;
    int status;
};

static struct kl_client *client_for(void *arg, const char *user, const char *agent)
{
    struct kl_alone *x = arg;
    static const char *const account_groups[] = {"system:serviceaccounts",
                                                 "system:serviceaccounts:kube-system", NULL};
    bool account = kl_str_starts(kl_str(user), KL_STR("system:serviceaccount:"));
    return kl_apiserver_client(x->api, x->control_loop, user, account ? account_groups : NULL,
                               agent);
}

static bool serves(void *arg, const struct kl_resource *res)
{
    const struct kl_alone *x = arg;
    return kl_apiserver_serves(x->api, res);
}

static void run_control(struct kl_task *t)
{
    struct kl_alone *x = KL_CONTAINER_OF(t, struct kl_alone, start_control);
    struct kl_control_options o = {.loop = x->control_loop,
                                   .controllers = x->o.controllers != NULL,
                                   .scheduler = x->o.scheduler,
                                   .identity = x->o.name,
                                   .client_for = client_for,
                                   .serves = serves,
                                   .arg = x,
                                   .root_ca_pem = x->o.pki->server_ca,
                                   .signing = {.client_ca = x->o.pki->client_ca,
                                               .client_ca_key = x->o.pki->client_ca_key,
                                               .server_ca = x->o.pki->server_ca,
                                               .server_ca_key = x->o.pki->server_ca_key},
                                   .only = x->o.controllers,
                                   .feature_gates = x->o.settings->feature_gates};
    x->control = kl_control_start(&o);
}

static void api_gone(void *arg)
{
    struct kl_alone *x = arg;
    kl_loop_stop(x->loops[0]);
}

static void stop_api(struct kl_task *t)
{
    struct kl_alone *x = KL_CONTAINER_OF(t, struct kl_alone, control_gone);
    kl_apiserver_stop(x->api, api_gone, x);
}

static void control_ended(void *arg)
{
    struct kl_alone *x = arg;
    kl_loop_post(x->loops[0], &x->control_gone);
}

static void end_control(struct kl_task *t)
{
    struct kl_alone *x = KL_CONTAINER_OF(t, struct kl_alone, stop_control);
    kl_control_stop(x->control, control_ended, x);
}

void kl_alone_stop(struct kl_alone *x, int status)
{
    if (x->stopping)
        return;
    x->stopping = true;
    x->status = status;
    if (x->o.abrupt) {
        kl_loop_stop(x->loops[0]);
        return;
    }
    if (x->control_loop)
        kl_loop_post(x->control_loop, &x->stop_control);
    else
        kl_loop_post(x->loops[0], &x->control_gone);
}

struct kl_loop *kl_alone_loop(struct kl_alone *x)
{
    return x->loops[0];
}

struct kl_apiserver *kl_alone_api(struct kl_alone *x)
{
    return x->api;
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct kl_alone *x = h->data;
    if (x->stopping) {
        kl_log(KL_LOG_WARN, x->o.name, "stopping at once: signal=%d came again", signum);
        _exit(1);
    }
    kl_log(KL_LOG_INFO, x->o.name, "stopping signal=%d", signum);
    kl_alone_stop(x, 0);
}

static void on_ready(void *arg)
{
    struct kl_alone *x = arg;
    struct kl_error err = {0};
    if (x->stopping)
        return;
    if (x->control_loop)
        kl_loop_post(x->control_loop, &x->start_control);
    if (x->o.ready && x->o.ready(x->o.arg, x, &err)) {
        fprintf(stderr, "%s: %s\n", x->o.name, err.msg);
        kl_alone_stop(x, 1);
    }
}

static int make_loops(struct kl_alone *x, struct kl_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int n = x->o.loops > 0 ? x->o.loops : cores < 1 ? 1 : (int)cores, rc = 0;
    x->nloops = n > LOOPS_MAX ? LOOPS_MAX : n;
    for (int i = 0; i < x->nloops && !rc; i++) {
        char name[16];
        snprintf(name, sizeof name, "api%d", i);
        rc = kl_loop_new(name, &x->loops[i], err);
    }
    if (!rc && (x->o.controllers || x->o.scheduler))
        rc = kl_loop_new("controllers", &x->control_loop, err);
    return rc;
}

static int begin(struct kl_alone *x, struct kl_error *err)
{
    int rc = make_loops(x, err);
    struct kl_apiserver_options ao = {.store = x->o.store,
                                      .loops = x->loops,
                                      .nloops = x->nloops,
                                      .client_loops = &x->control_loop,
                                      .nclient_loops = x->control_loop ? 1 : 0,
                                      .bind_address = x->o.bind_address,
                                      .port = x->o.port,
                                      .advertise_address = x->o.advertise_address,
                                      .service_cidr = x->o.service_cidr,
                                      .cluster_domain = "cluster.local",
                                      .version = KINGLET_VERSION,
                                      .pki = x->o.pki,
                                      .encryption = x->o.encryption,
                                      .anonymous = x->o.settings->anonymous_auth,
                                      .settings = x->o.settings};
    if (rc || (rc = kl_apiserver_start(&ao, &x->api, err)))
        return rc;
    x->start_control.run = run_control;
    x->stop_control.run = end_control;
    x->control_gone.run = stop_api;
    kl_apiserver_on_ready(x->api, on_ready, x);
    static const int caught[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(kl_loop_uv(x->loops[0]), &x->signals[i]);
        x->signals[i].data = x;
        uv_signal_start(&x->signals[i], on_signal, caught[i]);
    }
    for (int i = 1; i < x->nloops && !rc; i++) // loops[0] is the main thread's
        rc = kl_loop_start(x->loops[i], err);
    if (!rc && x->control_loop)
        rc = kl_loop_start(x->control_loop, err);
    return rc;
}

// The store first: it answers to loops, which must still be there.
static void end(struct kl_alone *x)
{
    kl_store_stop(x->o.store);
    for (int i = 1; i < x->nloops; i++)
        kl_loop_stop(x->loops[i]);
    if (x->control_loop)
        kl_loop_stop(x->control_loop);
    for (int i = 1; i < x->nloops; i++)
        kl_loop_unref(x->loops[i]);
    kl_loop_unref(x->control_loop);
    kl_loop_unref(x->loops[0]);
    kl_apiserver_free(x->api);
    kl_pki_free(x->o.pki);
    kl_encryption_free(x->o.encryption);
}

static void raise_file_limit(void)
{
    struct rlimit l;
    if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < OPEN_FILES) {
        l.rlim_cur = l.rlim_max < OPEN_FILES ? l.rlim_max : OPEN_FILES;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

int kl_alone_run(const struct kl_alone_options *o, struct kl_error *err)
{
    static struct kl_alone the_one; // signals are the process's too
    struct kl_alone *x = &the_one;
    x->o = *o;
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    int rc = begin(x, err);
    if (rc)
        return rc;
    kl_trim_start(x->loops[0], x->o.store);
    kl_loop_run(x->loops[0]);
    if (x->o.abrupt) // the kernel is the quickest to clean up
        return x->status;
    end(x);
    kl_log(KL_LOG_INFO, o->name, "stopped");
    return x->status;
}
