// SPDX-License-Identifier: Apache-2.0
#include "apiserver/admission/config.h"
#include "apiserver/admission/metrics.h"
#include "apiserver/aggregate/aggregate.h"
#include "apiserver/allocate/allocate.h"
#include "apiserver/allocate/repair.h"
#include "apiserver/audit/audit.h"
#include "apiserver/auth/auth.h"
#include "apiserver/auth/revoke.h"
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"
#include "apiserver/bootstrap.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/deadline.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/metrics.h"
#include "apiserver/pki.h"
#include "apiserver/roster.h"
#include "apiserver/served.h"
#include "apiserver/series.h"
#include "apiserver/server_int.h"
#include "apiserver/trace/trace.h"
#include "apiserver/webhook.h"
#include "base/clock.h"
#include "base/log.h"
#include "watchcache/filter.h"
#include <stdlib.h>

enum { STOP_DEADLINE_MS = 2000 };

struct kl_api_loop *kl_api_loop_of(struct kl_apiserver *srv, const struct kl_loop *loop)
{
    for (int i = 0; i < srv->nloops; i++)
        if (srv->loops[i].loop == loop)
            return &srv->loops[i];
    return NULL;
}

struct kl_object *kl_api_object(struct kl_api_loop *al, struct kl_arena *a, uint16_t res,
                                struct kl_str ns, struct kl_str name)
{
    struct kl_error err;
    struct kl_str key = kl_object_key(a, kl_res(res), ns, name);
    struct kl_kv *kv = key.p ? kl_view_get(kl_reader_view(al->reader), key) : NULL;
    return kv ? kl_cache_object(kv, kl_res(res), &err) : NULL;
}

// ---- what each loop does first and last, on its own thread

struct loop_task {
    struct kl_task task;
    struct kl_api_loop *al;
    void (*after)(struct kl_apiserver *s);
    atomic_int *left;
};

static void last_loop_ready(struct kl_apiserver *s);

static void loop_begin(struct kl_task *t)
{
    struct loop_task *x = KL_CONTAINER_OF(t, struct loop_task, task);
    struct kl_apiserver *s = x->al->srv;
    struct kl_error err = {0};
    if (kl_reader_new(s->o.store, &x->al->reader, &err)) {
        kl_log(KL_LOG_ERROR, "apiserver", "cannot read the store: %s", err.msg);
        abort();
    }
    if (kl_crds_start(x->al, &err)) {
        kl_log(KL_LOG_ERROR, "apiserver", "cannot follow definitions: %s", err.msg);
        abort();
    }
    kl_hooks_loop_begin(x->al);
    if (s->tracer && x->al == &s->loops[0] && kl_tracer_start(s->tracer, x->al->loop, &err))
        kl_log(KL_LOG_ERROR, "apiserver", "nothing is traced: %s", err.msg);
    bool last = atomic_fetch_sub(x->left, 1) == 1;
    if (last)
        free(x->left);
    free(x);
    if (last)
        last_loop_ready(s);
}

void kl_api_loop_leave(struct kl_api_loop *al)
{
    if (--al->calls || !al->ending)
        return;
    kl_loop_post(al->loop, al->ending);
    al->ending = NULL;
}

static void loop_end(struct kl_task *t)
{
    struct loop_task *x = KL_CONTAINER_OF(t, struct loop_task, task);
    struct kl_apiserver *s = x->al->srv;
    struct kl_api_loop *al = x->al;
    kl_webhook_loop_stop(al);
    if (al->calls) { // their connections are gone, their transactions may not be
        al->ending = t;
        return;
    }
    if (al->timer_ready)
        uv_close((uv_handle_t *)&al->stream_timer, NULL);
    kl_bytes_unref(al->heads);
    al->heads = NULL;
    kl_deadline_loop_fini(al);
    if (al->http)
        kl_http_client_close(al->http);
    kl_tls_ctx_unref(al->proxy_tls);
    al->proxy_tls = NULL;
    kl_aggregate_loop_fini(al);
    kl_fair_loop_fini(al);
    kl_hooks_loop_fini(al);
    kl_ask_loop_fini(al);
    kl_revoke_loop_fini(al);
    if (al == &s->loops[0])
        kl_authn_watch(s, NULL);
    kl_authn_loop_fini(al);
    kl_authz_loop_fini(al);
    kl_conversions_fini(al);
    kl_crds_stop(al);
    if (al->reader)
        kl_reader_close(al->reader);
    al->reader = NULL;
    bool last = atomic_fetch_sub(x->left, 1) == 1;
    void (*after)(struct kl_apiserver *) = x->after;
    if (last)
        free(x->left);
    free(x);
    if (last)
        after(s);
}

static int on_every_loop(struct kl_apiserver *s, void (*run)(struct kl_task *),
                         void (*after)(struct kl_apiserver *))
{
    atomic_int *left = malloc(sizeof *left);
    if (!left)
        return KL_ENOMEM;
    atomic_init(left, s->nloops);
    for (int i = 0; i < s->nloops; i++) {
        struct loop_task *x = calloc(1, sizeof *x);
        if (!x)
            return KL_ENOMEM; // at start-up: fatal
        x->task.run = run;
        x->al = &s->loops[i];
        x->after = after;
        x->left = left;
        kl_loop_post(s->loops[i].loop, &x->task);
    }
    return 0;
}

// ---- ready

static void on_bootstrapped(void *arg)
{
    struct kl_apiserver *s = arg;
    if (atomic_load(&s->stopping)) // the port may be gone
        return;
    atomic_store(&s->ready, true);
    kl_log(KL_LOG_INFO, "apiserver", "ready port=%d after_ms=%lld", kl_apiserver_port(s),
           (long long)(kl_mono_ms() - s->started_ms));
    if (s->o.roster)
        kl_roster_start(s->o.roster, s);
    kl_aggregate_start(s->aggregate);
    s->repair = kl_repair_start(s);
    if (s->ready_cb)
        s->ready_cb(s->ready_arg);
}

static void begin_bootstrap(struct kl_task *t)
{
    struct kl_apiserver *s = KL_CONTAINER_OF(t, struct kl_apiserver, boot_task);
    struct kl_error err = {0};
    if (atomic_load(&s->stopping)) // before the last loop could read: nobody would stop these
        return;
    if (kl_crd_controller_start(s, &err)) {
        kl_log(KL_LOG_ERROR, "apiserver", "%s", err.msg);
        abort();
    }
    kl_authn_watch(s, s->loops[0].loop);
    kl_fair_start(s->fair);
    if (s->o.encryption)
        kl_encryption_start(s->o.encryption, s);
    kl_bootstrap_start(s, on_bootstrapped, s);
}

static int listen_https(struct kl_apiserver *s, struct kl_error *err)
{
    struct kl_http_server_opts h = {.loops = s->o.loops,
                                    .nloops = s->o.nloops,
                                    .address = s->o.bind_address,
                                    .port = s->o.port,
                                    .tls = s->tls,
                                    .handler = kl_http_handle,
                                    .arg = s};
    return kl_http_server_start(&h, &s->http, err);
}

// Every loop can read now: requests may come.
static void last_loop_ready(struct kl_apiserver *s)
{
    s->boot_task.run = begin_bootstrap;
    kl_loop_post(s->loops[0].loop, &s->boot_task);
}

static struct kl_tls_server_opts serving_tls(const struct kl_pki *p)
{
    return (struct kl_tls_server_opts){
        .cert.pem = p->serving_cert, .key.pem = p->serving_key, .client_ca.pem = p->client_ca};
}

static struct kl_tls_client_opts kubelet_tls(const struct kl_pki *p)
{
    return (struct kl_tls_client_opts){.ca.pem = p->server_ca,
                                       .cert.pem = p->apiserver_client_cert,
                                       .key.pem = p->apiserver_client_key,
                                       .insecure_skip_verify = !p->server_ca.n,
                                       .no_http2 = true};
}

// MakeInsecureTransport: for a log whose reader said insecureSkipTLSVerifyBackend.
static struct kl_tls_client_opts kubelet_tls_unverified(const struct kl_pki *p)
{
    struct kl_tls_client_opts o = kubelet_tls(p);
    o.ca.pem = KL_STR("");
    o.insecure_skip_verify = true;
    return o;
}

int kl_apiserver_renew(struct kl_apiserver *s, const struct kl_pki *fresh, struct kl_error *err)
{
    struct kl_tls_server_opts t = serving_tls(fresh);
    struct kl_tls_client_opts k = kubelet_tls(fresh), u = kubelet_tls_unverified(fresh);
    int rc = kl_tls_ctx_reload_server(s->tls, &t, err);
    if (!rc)
        rc = kl_tls_ctx_reload_client(s->kubelet_tls, &k, err);
    return rc ? rc : kl_tls_ctx_reload_client(s->kubelet_tls_unverified, &u, err);
}

int kl_apiserver_start(const struct kl_apiserver_options *o, struct kl_apiserver **ret,
                       struct kl_error *err)
{
    const struct kl_pki *p = o->pki;
    struct kl_apiserver *s = calloc(1, sizeof *s);
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->o = *o;
    if (!s->o.settings)
        s->o.settings = &kl_api_settings_default;
    s->started_ms = kl_mono_ms();
    kl_crd_openapi_init(s);
    if (o->nloops + o->nclient_loops > KL_MAX_API_LOOPS) {
        free(s);
        return kl_error_set(err, KL_EINVALID, "more than %d loops", KL_MAX_API_LOOPS);
    }
    for (int i = 0; i < o->nloops + o->nclient_loops; i++)
        s->loops[s->nloops++] = (struct kl_api_loop){
            .srv = s, .loop = i < o->nloops ? o->loops[i] : o->client_loops[i - o->nloops]};
    struct kl_tls_server_opts t = serving_tls(p);
    struct kl_tls_client_opts k = kubelet_tls(p), u = kubelet_tls_unverified(p);
    kl_gate_set_default(&s->gates);
    int rc = kl_gate_set_parse(&s->gates, s->o.settings->feature_gates, err);
    if (!rc)
        rc = kl_served_new(s->o.settings, &s->gates, &s->served, err);
    struct kl_port_range node_ports;
    if (!rc && (rc = kl_port_range_parse(s->o.settings->service_node_port_range, &node_ports, err)))
        kl_error_wrap(err, "service-node-port-range");
    if (!rc)
        rc = kl_admit_select(s->o.settings->enable_admission_plugins,
                             s->o.settings->disable_admission_plugins, &s->admission, err);
    if (!rc)
        rc = kl_admit_config_new(s->o.settings->admission_control_config_file, s->admission,
                                 &s->admit_config, err);
    if (!rc)
        rc = kl_tls_server_new(&t, &s->tls, err);
    if (!rc)
        rc = kl_tls_client_new(&k, &s->kubelet_tls, err);
    if (!rc)
        rc = kl_tls_client_new(&u, &s->kubelet_tls_unverified, err);
    if (!rc && !(s->authn = kl_authn_new(p, s->o.settings, err)))
        rc = err->code ? err->code : KL_ENOMEM;
    const struct kl_fair_options fo = {.max_inflight = s->o.settings->max_requests_inflight,
                                       .max_mutating_inflight =
                                           s->o.settings->max_mutating_requests_inflight,
                                       .off = !s->o.settings->priority_and_fairness};
    if (!rc)
        rc = kl_audit_new(s->o.settings, &s->audit, err);
    if (!rc)
        rc = kl_tracer_new(s->o.settings->tracing_config_file, &s->tracer, err);
    if (!rc && !(s->fair = kl_fair_new(s, &fo)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!rc && kl_conversion_metrics_new(&s->conversion_metrics))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!rc)
        rc = kl_aggregate_new(s, &s->aggregate, err);
    if (!rc)
        rc = listen_https(s, err);
    if (rc) {
        kl_apiserver_free(s);
        return rc;
    }
    // Requests that come before the readers are there wait in the loops behind these tasks.
    if (on_every_loop(s, loop_begin, NULL)) {
        kl_apiserver_free(s);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    *ret = s;
    return 0;
}

void kl_apiserver_on_ready(struct kl_apiserver *s, void (*cb)(void *arg), void *arg)
{
    s->ready_cb = cb;
    s->ready_arg = arg;
}

int kl_apiserver_port(const struct kl_apiserver *s)
{
    return kl_http_server_port(s->http);
}

bool kl_apiserver_ready(const struct kl_apiserver *s)
{
    return atomic_load(&((struct kl_apiserver *)s)->ready);
}

// ---- stop

static void all_ended(struct kl_apiserver *s)
{
    s->stop_done(s->stop_arg);
}

static void on_http_stopped(void *arg)
{
    struct kl_apiserver *s = arg;
    s->http = NULL;
    on_every_loop(s, loop_end, all_ended);
}

static void close_watches(struct kl_task *t)
{
    struct loop_task *x = KL_CONTAINER_OF(t, struct loop_task, task);
    kl_watch_close_all(x->al);
    kl_ask_stop(x->al);
    kl_webhook_loop_stop(x->al); // what waits for one is told
    struct kl_apiserver *s = x->al->srv;
    if (x->al == &s->loops[0]) {
        kl_roster_stop(s->o.roster);
        kl_fair_stop(s->fair);
        kl_aggregate_stop(s->aggregate);
        kl_repair_stop(s->repair);
        kl_encryption_stop(s->o.encryption);
        kl_crd_controller_stop(s);
        kl_tracer_stop(s->tracer);
    }
    if (atomic_fetch_sub(x->left, 1) == 1)
        free(x->left);
    free(x);
}

void kl_apiserver_stop(struct kl_apiserver *s, void (*done)(void *arg), void *arg)
{
    s->stop_done = done;
    s->stop_arg = arg;
    atomic_store(&s->stopping, true);
    on_every_loop(s, close_watches, NULL);
    kl_http_server_stop(s->http, STOP_DEADLINE_MS, on_http_stopped, s);
}

void kl_apiserver_free(struct kl_apiserver *s)
{
    if (!s)
        return;
    kl_tls_ctx_unref(s->tls);
    kl_tls_ctx_unref(s->kubelet_tls);
    kl_tls_ctx_unref(s->kubelet_tls_unverified);
    kl_authn_free(s->authn);
    kl_served_free(s->served);
    for (int i = 0; i < s->nloops; i++)
        kl_series_free(s->loops[i].series);
    for (int i = 0; i < s->nloops; i++)
        kl_admit_metrics_free(s->loops[i].admit_metrics);
    kl_conversion_metrics_free(s->conversion_metrics);
    kl_fair_free(s->fair);
    kl_admit_config_free(s->admit_config);
    kl_aggregate_free(s->aggregate);
    kl_repair_free(s->repair);
    kl_audit_free(s->audit);
    kl_tracer_free(s->tracer);
    free(s);
}
