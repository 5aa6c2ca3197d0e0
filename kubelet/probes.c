// SPDX-License-Identifier: Apache-2.0
// pkg/kubelet/prober: one worker for each probe of each running container.
#include "kubelet/probes.h"
#include "kubelet/handler.h"
#include "kubelet/pods_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TIMEOUT_S = 86400 };

struct prober {
    struct kl_probes *set;
    struct prober *next;
    struct kl_pod *pod;
    char *id; // of the container
    enum kl_probe_kind kind;
    struct kl_timer timer;
    int successes, failures;
    bool asking, dead;
    struct tcp *tcp;
    struct kl_arena a;
};

struct kl_probes {
    struct kl_kubelet *k;
    struct prober *all;
};

static const char *const kind_names[] = {"Startup", "Liveness", "Readiness"};
static const kl_sym kind_fields[] = {KL_F_startupProbe, KL_F_livenessProbe, KL_F_readinessProbe};

struct kl_probes *kl_probes_new(struct kl_kubelet *k)
{
    struct kl_probes *ps = calloc(1, sizeof(*ps));
    if (ps)
        ps->k = k;
    return ps;
}

static void free_prober(struct prober *w)
{
    for (struct prober **at = &w->set->all; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    kl_timer_cancel(w->set->k->timers, &w->timer);
    kl_arena_fini(&w->a);
    free(w->id);
    free(w);
}

// One that is asking ends when its answer is there.
static void end_prober(struct prober *w)
{
    w->dead = true;
    if (!w->asking) // else its answer, or its time-out, frees it
        free_prober(w);
}

void kl_probes_free(struct kl_probes *ps)
{
    if (!ps)
        return;
    while (ps->all)
        free_prober(ps->all);
    free(ps);
}

static const struct kl_value *spec_of(const struct prober *w, struct kl_ctr **ret_ctr,
                                      const struct kl_value **ret_container)
{
    struct kl_ctr *c = kl_rt_find_id(&w->pod->rt, kl_str(w->id));
    *ret_ctr = c;
    *ret_container = c ? kl_pod_container(kl_pod_root(w->pod), kl_str(c->name), NULL) : NULL;
    return kl_get(*ret_container, kind_fields[w->kind]);
}

static void next_in(struct prober *w, const struct kl_value *probe)
{
    int64_t period = kl_int_at(probe, 10, KL_F_periodSeconds);
    kl_timer_after(w->set->k->timers, &w->timer, (period > 0 ? period : 10) * 1000);
}

// UNKNOWN: it could not be asked. That says nothing of the container and is not counted.
enum answer { FAILED, SUCCEEDED, UNKNOWN };

static void note(struct prober *w, enum answer answer, const char *output)
{
    bool ok = answer == SUCCEEDED;
    struct kl_ctr *c = NULL;
    struct kl_kubelet *k = w->set->k;
    // The pod of a dead one may have been freed.
    const struct kl_value *container, *probe = w->dead ? NULL : spec_of(w, &c, &container);
    w->asking = false;
    kl_arena_reset(&w->a);
    if (!probe || k->stopping) {
        free_prober(w);
        kl_kubelet_release(k);
        return;
    }
    if (answer == UNKNOWN) {
        kl_ctr_event(w->pod, kl_str(c->name), "Warning", "Unhealthy",
                     "%s probe errored and resulted in unknown state: %s", kind_names[w->kind],
                     output);
        next_in(w, probe);
        kl_kubelet_release(k);
        return;
    }
    w->successes = ok ? w->successes + 1 : 0;
    w->failures = ok ? 0 : w->failures + 1;
    if (!ok)
        kl_ctr_event(w->pod, kl_str(c->name), "Warning", "Unhealthy", "%s probe failed: %s",
                     kind_names[w->kind], output);
    int64_t need_ok = kl_int_at(probe, 1, KL_F_successThreshold);
    int64_t need_bad = kl_int_at(probe, 3, KL_F_failureThreshold);
    uint8_t now = c->probe[w->kind];
    if (ok && w->successes >= need_ok)
        now = KL_PROBE_SUCCESS;
    else if (!ok && w->failures >= need_bad)
        now = KL_PROBE_FAILURE;
    bool changed = now != c->probe[w->kind];
    c->probe[w->kind] = now;
    struct kl_pod *p = w->pod;
    bool stop = (w->kind == KL_PROBE_STARTUP && now != KL_PROBE_UNKNOWN) ||
                (w->kind == KL_PROBE_LIVENESS && now == KL_PROBE_FAILURE);
    if (stop)
        free_prober(w); // the container's next instance begins anew
    else
        next_in(w, probe);
    if (changed)
        kl_pod_wake_in(p, 0);
    kl_kubelet_release(k);
}

static void on_exec(void *arg, enum kl_grpc_code code, const void *reply,
                    const struct kl_error *err)
{
    struct prober *w = arg;
    const struct kl_cri_exec_sync_response *r = reply;
    char out[1024] = "";
    if (code == KL_GRPC_DEADLINE_EXCEEDED)
        snprintf(out, sizeof(out), "command timed out");
    else if (code)
        snprintf(out, sizeof(out), "%s", err->msg);
    else
        snprintf(out, sizeof(out), "%.*s%.*s", KL_PRI(r->stdout), KL_PRI(r->stderr));
    note(w,
         code && code != KL_GRPC_DEADLINE_EXCEEDED ? UNKNOWN
         : !code && r->exit_code == 0              ? SUCCEEDED
                                                   : FAILED,
         out);
}

static void on_http(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    char out[1100];
    if (status < 0)
        snprintf(out, sizeof(out), "%s", err->msg);
    else
        snprintf(out, sizeof(out), "HTTP probe failed with statuscode: %d", status);
    note(arg, status >= 200 && status < 400 ? SUCCEEDED : FAILED, out);
}

// ---- tcp

struct tcp {
    uv_tcp_t tcp;
    uv_connect_t req;
    struct prober *prober; // NULL: its time was up
};

static void free_tcp(uv_handle_t *h)
{
    free(KL_CONTAINER_OF(h, struct tcp, tcp));
}

static void finish_tcp(struct prober *w, bool ok, const char *out)
{
    struct tcp *t = w->tcp;
    w->tcp = NULL;
    t->prober = NULL;
    kl_timer_cancel(w->set->k->timers, &w->timer);
    uv_close((uv_handle_t *)&t->tcp, free_tcp);
    note(w, ok ? SUCCEEDED : FAILED, out);
}

static void on_connect(uv_connect_t *req, int status)
{
    struct tcp *t = KL_CONTAINER_OF(req, struct tcp, req);
    if (t->prober)
        finish_tcp(t->prober, status == 0, status ? uv_strerror(status) : "");
}

static int connect_tcp(struct prober *w, const char *host, int port, struct kl_error *err)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    if (uv_ip4_addr(host, port, &addr.v4) && uv_ip6_addr(host, port, &addr.v6))
        return kl_error_set(err, KL_EINVALID, "dial tcp: no such host: %s", host);
    struct tcp *t = calloc(1, sizeof(*t));
    if (!t)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    uv_tcp_init(kl_loop_uv(w->set->k->loop), &t->tcp);
    int e = uv_tcp_connect(&t->req, &t->tcp, &addr.sa, on_connect);
    if (e) {
        uv_close((uv_handle_t *)&t->tcp, free_tcp);
        return kl_error_set(err, KL_EIO, "dial tcp: %s", uv_strerror(e));
    }
    t->prober = w;
    w->tcp = t;
    return 0;
}

static void ask(struct prober *w);

static void on_timer(struct kl_timer *t)
{
    struct prober *w = KL_CONTAINER_OF(t, struct prober, timer);
    if (!w->asking)
        ask(w);
    else if (w->tcp)
        finish_tcp(w, false, "dial tcp: i/o timeout");
}

static void ask_handler(struct prober *w, const struct kl_value *probe,
                        const struct kl_value *container, uint32_t timeout_ms)
{
    struct kl_error err = {0};
    struct kl_kubelet *k = w->set->k;
    const struct kl_value *exec = kl_get(probe, KL_F_exec), *http = kl_get(probe, KL_F_httpGet);
    const struct kl_value *tcp = kl_get(probe, KL_F_tcpSocket);
    if (exec) {
        struct kl_cri_exec_sync_request req = {.container_id = kl_str(w->id),
                                               .timeout = timeout_ms / 1000};
        kl_handler_command(&w->a, exec, &req.cmd, &req.n_cmd);
        kl_cri_start(k->cri, KL_CRI_EXEC_SYNC, &req, timeout_ms + 2000, on_exec, w, NULL);
    } else if (http) {
        if (kl_handler_http(w->pod, http, kl_text_at(container, KL_F_name), timeout_ms, on_http, w,
                            NULL, &err))
            note(w, UNKNOWN, err.msg);
    } else if (tcp) {
        int port = kl_handler_port(kl_get(tcp, KL_F_port), container, &err);
        struct kl_str host = kl_text_at(tcp, KL_F_host);
        host = kl_arena_dup(&w->a, host.n ? host : kl_handler_host(w->pod));
        if (port < 0 || connect_tcp(w, host.p, port, &err)) {
            note(w, UNKNOWN, err.msg);
            return;
        }
        kl_timer_after(k->timers, &w->timer, timeout_ms);
    } else {
        note(w, UNKNOWN, "missing probe handler");
    }
}

static void ask(struct prober *w)
{
    struct kl_ctr *c;
    const struct kl_value *container, *probe = spec_of(w, &c, &container);
    struct kl_kubelet *k = w->set->k;
    if (!probe || c->state != KL_CTR_RUNNING || k->stopping) {
        free_prober(w);
        return;
    }
    // Until it has started, only the startup probe is asked.
    if (w->kind != KL_PROBE_STARTUP && !kl_ctr_started(container, c)) {
        kl_timer_after(k->timers, &w->timer, 500);
        return;
    }
    int64_t timeout = kl_int_at(probe, 1, KL_F_timeoutSeconds);
    timeout = timeout < MAX_TIMEOUT_S ? timeout : MAX_TIMEOUT_S;
    w->asking = true;
    kl_kubelet_hold(k);
    ask_handler(w, probe, container, (uint32_t)(timeout > 0 ? timeout : 1) * 1000);
}

void kl_probes_adopt(struct kl_probes *ps, struct kl_pod *p)
{
    for (struct kl_ctr *c = p->rt.ctrs; c && p->object; c = c->next) {
        if (!c->adopted)
            continue;
        c->adopted = false;
        if (c->state != KL_CTR_RUNNING)
            continue;
        kl_ctr_adopt_probes(kl_get(kl_pod_root(p), KL_F_status), c);
        kl_probes_ctr_running(ps, p, c); // at the first try the Pod may not have been known
    }
}

void kl_probes_ctr_running(struct kl_probes *ps, struct kl_pod *p, struct kl_ctr *c)
{
    const struct kl_value *container = kl_pod_container(kl_pod_root(p), kl_str(c->name), NULL);
    for (int kind = 0; kind < KL_PROBE_KINDS; kind++) {
        const struct kl_value *probe = kl_get(container, kind_fields[kind]);
        struct prober *w = ps->all;
        while (w && (w->kind != kind || strcmp(w->id, c->id) || w->dead))
            w = w->next;
        if (!probe || w || (kind == KL_PROBE_STARTUP && c->probe[kind]))
            continue;
        w = calloc(1, sizeof(*w));
        if (!w)
            return;
        *w =
            (struct prober){.set = ps, .next = ps->all, .pod = p, .kind = (enum kl_probe_kind)kind};
        w->id = kl_strdup(kl_str(c->id));
        w->timer.cb = on_timer;
        kl_arena_init(&w->a, 1024 * 1024);
        ps->all = w;
        int64_t begin = c->started_ns / 1000000 +
                        kl_int_at(probe, 0, KL_F_initialDelaySeconds) * 1000 -
                        kl_kubelet_now_ms(ps->k);
        kl_timer_after(ps->k->timers, &w->timer, begin > 0 ? begin : 0);
    }
}

void kl_probes_ctr_ended(struct kl_probes *ps, const struct kl_ctr *c)
{
    for (struct prober *w = ps->all, *next; w; w = next) {
        next = w->next;
        if (!strcmp(w->id, c->id))
            end_prober(w);
    }
}

void kl_probes_forget(struct kl_probes *ps, const struct kl_pod *p)
{
    for (struct prober *w = ps->all, *next; w; w = next) {
        next = w->next;
        if (w->pod == p)
            end_prober(w);
    }
}
