// SPDX-License-Identifier: Apache-2.0
#include "cli/online.h"
#include "cli/admin.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    FENCE_MS = 15000, // without a renewal
    RENEW_MS = 3000,
    AGAIN_MS = 250,
    ANSWER_MAX = 1 << 20,
};

static int not_understood(struct kl_error *err)
{
    return kl_error_set(err, KL_EPROTO, "the server's answer is not understood");
}

// False when it was woken to stop.
static bool wait_ms(struct kl_online *on, int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&on->mu);
    while (!on->stop && !pthread_cond_timedwait(&on->wake, &on->mu, &t))
        ;
    bool stop = on->stop;
    pthread_mutex_unlock(&on->mu);
    return !stop;
}

void kl_online_init(struct kl_online *on, const char *data_dir, const char *to)
{
    pthread_condattr_t attr;
    *on = (struct kl_online){.data_dir = data_dir};
    snprintf(on->to, sizeof(on->to), "%s", to);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&on->mu, NULL);
    pthread_cond_init(&on->wake, &attr);
    pthread_condattr_destroy(&attr);
}

static void stop_renewing(struct kl_online *on)
{
    if (!on->renewing)
        return;
    pthread_mutex_lock(&on->mu);
    on->stop = true;
    pthread_cond_signal(&on->wake);
    pthread_mutex_unlock(&on->mu);
    pthread_join(on->renewer, NULL);
    on->renewing = on->stop = false;
}

void kl_online_fini(struct kl_online *on)
{
    stop_renewing(on);
    pthread_mutex_destroy(&on->mu);
    pthread_cond_destroy(&on->wake);
}

// ---- the fence ----

static int call(const struct kl_online *on, const char *method, const char *query, const char *why,
                kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_buf b, target;
    kl_buf_init(&b, ANSWER_MAX);
    kl_buf_init(&target, 4096);
    kl_buf_printf(&target, "/v1/fence?%s", query);
    if (why) {
        kl_buf_puts(&target, KL_STR("&why="));
        kl_admin_escape(&target, why);
        kl_admin_escape(&target, on->to);
    }
    kl_buf_putc(&target, 0);
    int r = target.err ? kl_error_set(err, KL_ENOMEM, "out of memory")
                       : kl_admin_call(on->data_dir, method, target.p, &b, err);
    if (!r && !kl_admin_number(&b, "rev", ret_rev))
        r = not_understood(err);
    kl_buf_fini(&b);
    kl_buf_fini(&target);
    return r;
}

static int call_known(const struct kl_online *on, const char *method, const char *why,
                      struct kl_error *err)
{
    char query[64];
    kl_rev rev;
    snprintf(query, sizeof(query), "rev=%lld", (long long)on->fence_rev);
    return call(on, method, query, why, &rev, err);
}

// When it cannot be renewed the fence ends, and keeping it says so.
static void *renew(void *arg)
{
    struct kl_online *on = arg;
    while (wait_ms(on, RENEW_MS))
        call_known(on, "PUT", NULL, NULL);
    return NULL;
}

static int take_fence(void *arg, kl_rev *ret_rev, struct kl_error *err)
{
    struct kl_online *on = arg;
    char query[64];
    snprintf(query, sizeof(query), "ms=%d", FENCE_MS);
    int r = call(on, "POST", query, "it is being moved to ", ret_rev, err);
    if (r)
        return r;
    on->fence_rev = *ret_rev;
    on->renewing = !pthread_create(&on->renewer, NULL, renew, on);
    return on->renewing ? 0 : kl_error_set(err, KL_EUNAVAILABLE, "no thread for it");
}

int kl_online_keep(struct kl_online *on, struct kl_error *err)
{
    int r = 0;
    stop_renewing(on);
    // For as long as the fence may still stand: a server that is gone may come back.
    for (int i = 0; i < FENCE_MS / AGAIN_MS; i++) {
        r = call_known(on, "PUT", "it was moved to ", err);
        if (!r || r == KL_ECONFLICT)
            break;
        wait_ms(on, AGAIN_MS);
    }
    if (r == KL_ECONFLICT)
        return kl_error_set(err, KL_ETIMEOUT,
                            "the server took writes again before the copy was whole (since "
                            "revision %lld): run it again with --force",
                            (long long)on->fence_rev);
    struct kl_error was = *err;
    return r ? kl_error_set(err, r,
                            "the copy is whole, but whether the server still holds off writes is "
                            "not known (%.300s): when it runs, run this again with --force",
                            was.msg)
             : 0;
}

void kl_online_lift(struct kl_online *on)
{
    stop_renewing(on);
    if (on->fence_rev)
        call_known(on, "DELETE", NULL, NULL);
}

// ---- the rest of the server ----

static int identify(void *arg, uint64_t *ret_id, kl_rev *ret_rev, struct kl_error *err)
{
    const struct kl_online *on = arg;
    struct kl_buf b;
    char id[32] = "", backend[32] = "";
    kl_buf_init(&b, ANSWER_MAX);
    int r = kl_admin_call(on->data_dir, "GET", "/v1/status", &b, err);
    if (!r && (!kl_admin_text(&b, "clusterId", id, sizeof(id)) ||
               !kl_admin_text(&b, "backend", backend, sizeof(backend)) ||
               !kl_admin_number(&b, "revision", ret_rev)))
        r = not_understood(err);
    if (!r && !strcmp(backend, "etcd"))
        r = kl_error_set(err, KL_EUNSUPPORTED,
                         "the server's datastore is an etcd, whose other clients cannot be held "
                         "off: stop them all, and copy it with --from");
    *ret_id = strtoull(id, NULL, 16);
    kl_buf_fini(&b);
    return r;
}

static int open_rows(void *arg, const struct kl_source_from *from, struct kl_source **ret_s,
                     struct kl_error *err)
{
    return kl_admin_source(((struct kl_online *)arg)->data_dir, from, ret_s, err);
}

struct kl_store_copy_origin kl_online_origin(struct kl_online *on)
{
    return (struct kl_store_copy_origin){on, identify, open_rows, take_fence};
}

int kl_online_digest(struct kl_online *on, char ret[65], struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, ANSWER_MAX);
    int r = kl_admin_call(on->data_dir, "GET", "/v1/digest", &b, err);
    if (!r && !kl_admin_text(&b, "digest", ret, 65))
        r = not_understood(err);
    kl_buf_fini(&b);
    return r;
}
