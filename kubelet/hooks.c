// SPDX-License-Identifier: Apache-2.0
// Lifecycle handlers (postStart, preStop): exec, httpGet, sleep. tcpSocket is accepted and fails,
// as upstream.
#include "kubelet/handler.h"
#include "kubelet/pods_int.h"
#include <stdio.h>
#include <stdlib.h>

struct kl_hook {
    struct kl_kubelet *k;
    struct kl_pod *pod;
    struct kl_hook *next;
    struct kl_cri_call *exec; // one of these two, or the timer is set
    struct kl_http_call *http;
    void (*cb)(void *arg, const struct kl_error *err);
    void *arg;
    struct kl_timer timer;
    struct kl_arena a;
};

static void end_hook(struct kl_hook *h, const struct kl_error *err)
{
    struct kl_kubelet *k = h->k;
    kl_timer_cancel(k->timers, &h->timer);
    for (struct kl_hook **at = &h->pod->hooks; *at; at = &(*at)->next)
        if (*at == h) {
            *at = h->next;
            break;
        }
    h->cb(h->arg, err);
    kl_arena_fini(&h->a);
    free(h);
    kl_kubelet_release(k);
}

static void on_timer(struct kl_timer *t)
{
    struct kl_hook *h = KL_CONTAINER_OF(t, struct kl_hook, timer);
    if (h->exec)
        kl_cri_cancel(h->exec);
    else if (h->http)
        kl_http_call_cancel(h->http);
    else
        end_hook(h, NULL);
}

static void on_exec(void *arg, enum kl_grpc_code code, const void *reply,
                    const struct kl_error *err)
{
    const struct kl_cri_exec_sync_response *r = reply;
    struct kl_error bad;
    ((struct kl_hook *)arg)->exec = NULL;
    if (!code && r->exit_code != 0) {
        kl_error_set(&bad, KL_EINTERNAL, "command exited with %d: %.*s", r->exit_code,
                     r->stdout.n > 300 ? 300 : (int)r->stdout.n, r->stdout.p);
        err = &bad;
    }
    end_hook(arg, err);
}

static void on_http(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    ((struct kl_hook *)arg)->http = NULL;
    end_hook(arg, status < 0 ? err : NULL);
}

void kl_hook_run(struct kl_pod *p, const struct kl_value *handler, const struct kl_ctr *c,
                 int64_t timeout_ms, void (*cb)(void *arg, const struct kl_error *err), void *arg)
{
    struct kl_hook *h = calloc(1, sizeof(*h));
    if (!h)
        abort();
    h->k = p->k;
    h->pod = p;
    h->next = p->hooks;
    p->hooks = h;
    h->cb = cb;
    h->arg = arg;
    h->timer.cb = on_timer;
    kl_arena_init(&h->a, 1024 * 1024);
    kl_kubelet_hold(p->k);
    const struct kl_value *exec = kl_get(handler, KL_F_exec);
    const struct kl_value *http = kl_get(handler, KL_F_httpGet);
    const struct kl_value *sleep = kl_get(handler, KL_F_sleep);
    struct kl_error err;
    if (exec) {
        struct kl_cri_exec_sync_request req = {.container_id = kl_str(c->id),
                                               .timeout = (timeout_ms + 999) / 1000};
        kl_handler_command(&h->a, exec, &req.cmd, &req.n_cmd);
        kl_cri_start(p->k->cri, KL_CRI_EXEC_SYNC, &req, (uint32_t)timeout_ms + 2000, on_exec, h,
                     &h->exec);
    } else if (http) {
        if (kl_handler_http(p, http, kl_str(c->name), (uint32_t)timeout_ms, on_http, h, &h->http,
                            &err)) {
            kl_timer_after(p->k->timers, &h->timer, 0);
            kl_log(KL_LOG_WARN, "kubelet", "hook of %s: %s", p->full, err.msg);
        }
    } else {
        int64_t s = kl_int_at(sleep, 0, KL_F_seconds);
        kl_timer_after(p->k->timers, &h->timer, s < timeout_ms / 1000 ? s * 1000 : timeout_ms);
    }
}

void kl_hooks_cancel(struct kl_pod *p)
{
    for (struct kl_hook *h = p->hooks; h; h = h->next)
        kl_timer_after(p->k->timers, &h->timer, 0); // later: callbacks may be the caller's
}
