// SPDX-License-Identifier: Apache-2.0
// Conversion for a request that waits for one version.
#include "apiserver/crd/convert.h"

void kl_conversion_fail(struct kl_req *r, const struct kl_error *err)
{
    if (err->code == KL_ENOMEM)
        kl_fail_oom(r);
    else
        kl_fail_set(r, 500, "", "%s", err->msg);
}

struct req_wait {
    struct kl_conversion c;
    struct kl_req *r;
    void (*then)(void *arg, int code);
    void *arg;
    int code;
    struct kl_task task;
};

static void go_on(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct req_wait *w = KL_CONTAINER_OF(c, struct req_wait, c);
    if (code)
        kl_conversion_fail(w->r, err);
    w->then(w->arg, code);
}

static void fail_now(struct kl_task *t)
{
    struct req_wait *w = KL_CONTAINER_OF(t, struct req_wait, task);
    w->then(w->arg, w->code);
}

bool kl_req_convert(struct kl_req *r, const struct kl_resource *res, struct kl_kv *kv,
                    void (*then)(void *arg, int code), void *arg)
{
    struct kl_error err = {0};
    if (!res->custom || kl_cache_is_ready(kv, res))
        return false;
    struct req_wait *w = KL_ARENA_NEW(r->arena, struct req_wait);
    if (!w)
        return false; // who reads it says that there is no memory
    *w = (struct req_wait){.c = {.done = go_on, .r = r}, .r = r, .then = then, .arg = arg};
    int rc = kl_convert_versions(r->al, res, &kv, 1, &w->c, &err);
    if (!rc)
        return false;
    if (rc < 0) {
        kl_conversion_fail(r, &err);
        w->code = rc;
        w->task.run = fail_now;
        kl_loop_post(r->al->loop, &w->task);
    }
    return true;
}
