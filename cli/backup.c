// SPDX-License-Identifier: Apache-2.0
#include "cli/backup.h"
#include "base/log.h"
#include "object/cron.h"
#include "store/transfer/snapshot.h"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

// The wall clock may be set meanwhile: it is looked at this often.
enum { LOOK_S = 20 };

struct kl_backup {
    struct kl_backup_options o;
    struct kl_cron cron;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t change;
    bool stopping;
};

static void take_snapshot(const struct kl_backup_options *o)
{
    struct kl_snapshot_info info;
    struct kl_error err = {0};
    int gone = 0;
    if (kl_snapshot_save(o->store, o->dir, o->name, o->node, &info, &err)) {
        kl_log(KL_LOG_ERROR, "backup", "snapshot failed: %s", err.msg);
        return;
    }
    kl_log(KL_LOG_INFO, "backup", "snapshot name=%s rev=%lld bytes=%lld", info.name,
           (long long)info.rev, (long long)info.bytes);
    if (o->retention > 0 && kl_snapshot_prune(o->dir, o->name, o->retention, &gone, &err))
        kl_log(KL_LOG_ERROR, "backup", "old snapshots: %s", err.msg);
}

static void *run_backup(void *arg)
{
    struct kl_backup *b = arg;
    time_t seen = time(NULL), due = kl_cron_next(&b->cron, seen);
    pthread_mutex_lock(&b->mu);
    while (!b->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        time_t now = until.tv_sec;
        if (now < seen) // set back: what is due now is due later than then
            due = kl_cron_next(&b->cron, now);
        seen = now;
        if (due >= 0 && now >= due) {
            pthread_mutex_unlock(&b->mu);
            take_snapshot(&b->o);
            pthread_mutex_lock(&b->mu);
            due = kl_cron_next(&b->cron, time(NULL)); // what was missed is not made up for
            continue;
        }
        until.tv_sec += due >= 0 && due - now < LOOK_S ? due - now : LOOK_S;
        until.tv_nsec = 0;
        pthread_cond_timedwait(&b->change, &b->mu, &until);
    }
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

int kl_backup_start(const struct kl_backup_options *o, struct kl_backup **ret_b,
                    struct kl_error *err)
{
    struct kl_backup *b = calloc(1, sizeof(*b));
    if (!b)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    b->o = *o;
    int r = kl_cron_parse(kl_str(o->cron), &b->cron, err);
    if (r)
        kl_error_wrap(err, "schedule \"%s\"", o->cron);
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->change, NULL);
    if (!r && pthread_create(&b->thread, NULL, run_backup, b))
        r = kl_error_set(err, KL_ETOOMANY, "no thread for scheduled snapshots");
    if (r) {
        pthread_mutex_destroy(&b->mu);
        pthread_cond_destroy(&b->change);
        kl_cron_fini(&b->cron);
        free(b);
        return r;
    }
    *ret_b = b;
    return 0;
}

void kl_backup_stop(struct kl_backup *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->mu);
    b->stopping = true;
    pthread_cond_signal(&b->change);
    pthread_mutex_unlock(&b->mu);
    pthread_join(b->thread, NULL);
    pthread_mutex_destroy(&b->mu);
    pthread_cond_destroy(&b->change);
    kl_cron_fini(&b->cron);
    free(b);
}
