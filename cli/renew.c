// SPDX-License-Identifier: Apache-2.0
#include "cli/renew.h"
#include "base/clock.h"
#include "base/log.h"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

// The wall clock may be set meanwhile: it is looked at this often. A failure is tried again then.
enum { LOOK_S = 3600, RETRY_S = 300 };

struct kl_renew {
    struct kl_renew_options o;
    int64_t due_s;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t change;
    bool stopping;
};

// Certificates of another CA are for a start: who trusts the old one would be locked out.
static bool same_authorities(const struct kl_pki *a, const struct kl_pki *b)
{
    return kl_str_eq(a->server_ca, b->server_ca) && kl_str_eq(a->client_ca, b->client_ca) &&
           kl_str_eq(a->peer_ca, b->peer_ca);
}

static int renew(struct kl_renew *r, struct kl_error *err)
{
    struct kl_pki *fresh;
    int rc = kl_pki_open(&r->o.pki, &fresh, err);
    if (rc)
        return rc;
    if (!same_authorities(fresh, r->o.pki_now))
        rc = kl_error_set(err, KL_ECONFLICT, "another CA lies in %s/server/tls: restart for it",
                          r->o.pki.data_dir);
    if (!rc)
        rc = r->o.apply(r->o.arg, fresh, err);
    if (!rc)
        r->due_s = fresh->renew_s;
    kl_pki_free(fresh);
    return rc;
}

static void *run_renew(void *arg)
{
    struct kl_renew *r = arg;
    int64_t not_before = 0;
    pthread_mutex_lock(&r->mu);
    while (!r->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t now = until.tv_sec, due = r->due_s > not_before ? r->due_s : not_before;
        if (now >= due) {
            struct kl_error err = {0};
            pthread_mutex_unlock(&r->mu);
            if (renew(r, &err)) {
                kl_log(KL_LOG_ERROR, "server", "certificates are not renewed: %s", err.msg);
                not_before = now + RETRY_S;
            } else {
                kl_log(KL_LOG_INFO, "server", "certificates renewed next_in_days=%lld",
                       (long long)((r->due_s - now) / (24 * 3600)));
            }
            pthread_mutex_lock(&r->mu);
            continue;
        }
        until.tv_sec += due - now < LOOK_S ? due - now : LOOK_S;
        pthread_cond_timedwait(&r->change, &r->mu, &until);
    }
    pthread_mutex_unlock(&r->mu);
    return NULL;
}

int kl_renew_start(const struct kl_renew_options *o, struct kl_renew **ret, struct kl_error *err)
{
    struct kl_renew *r = calloc(1, sizeof *r);
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    r->o = *o;
    r->o.pki.token = NULL; // what is stored stays
    r->due_s = o->pki_now->renew_s;
    pthread_mutex_init(&r->mu, NULL);
    pthread_cond_init(&r->change, NULL);
    int e = pthread_create(&r->thread, NULL, run_renew, r);
    if (e) {
        pthread_cond_destroy(&r->change);
        pthread_mutex_destroy(&r->mu);
        free(r);
        return kl_error_errno(err, e, "thread");
    }
    *ret = r;
    return 0;
}

void kl_renew_stop(struct kl_renew *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mu);
    r->stopping = true;
    pthread_cond_signal(&r->change);
    pthread_mutex_unlock(&r->mu);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->mu);
    free(r);
}
