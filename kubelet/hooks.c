// SPDX-License-Identifier: Apache-2.0
// Lifecycle handlers (postStart, preStop): exec, httpGet, sleep. tcpSocket is accepted and fails,
// as upstream.
#include "kubelet/handler.h"
#include "kubelet/pods_int.h"
#include <stdio.h>
#include <stdlib.h>

struct hook {
    struct kl_kubelet *k;
    void (*cb)(void *arg, const struct kl_error *err);
    void *arg;
    struct kl_timer timer;
    struct kl_arena a;
};

static void end_hook(struct hook *h, const struct kl_error *err)
{
    struct kl_kubelet *k = h->k;
    h->cb(h->arg, err);
    kl_arena_fini(&h->a);
    free(h);
    kl_kubelet_release(k);
}

static void on_timer(struct kl_timer *t)
{
    end_hook(KL_CONTAINER_OF(t, struct hook, timer), NULL);
}

static void on_exec(void *arg, enum kl_grpc_code code, const void *reply,
                    const struct kl_error *err)
{
    const struct kl_cri_exec_sync_response *r = reply;
    struct kl_error bad;
    if (!code && r->exit_code != 0) {
        kl_error_set(&bad, KL_EINTERNAL, "command exited with %d: %.*s", r->exit_code,
                     r->stdout.n > 300 ? 300 : (int)r->stdout.n, r->stdout.p);
        err = &bad;
    }
    end_hook(arg, err);
}

static void on_http(void *arg, int status, struct kl_str body, const struct kl_error *err)
{
    end_hook(arg, status < 0 ? err : NULL);
}

void kl_hook_run(struct kl_pod *p, const struct kl_value *handler, const struct kl_ctr *c,
                 int64_t timeout_ms, void (*cb)(void *arg, const struct kl_error *err), void *arg)
{
    struct hook *h = calloc(1, sizeof(*h));
    if (!h)
        abort();
    h->k = p->k;
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
                     NULL);
    } else if (http) {
        if (kl_handler_http(p, http, kl_str(c->name), (uint32_t)timeout_ms, on_http, h, &err)) {
            kl_timer_after(p->k->timers, &h->timer, 0);
            kl_log(KL_LOG_WARN, "kubelet", "hook of %s: %s", p->full, err.msg);
        }
    } else {
        int64_t ms = kl_int_at(sleep, 0, KL_F_seconds) * 1000;
        kl_timer_after(p->k->timers, &h->timer, ms < timeout_ms ? ms : timeout_ms);
    }
}
