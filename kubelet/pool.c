// SPDX-License-Identifier: Apache-2.0
#include "kubelet/pool.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { MAX_THREADS = 8 };

struct kl_pool {
    struct kl_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct kl_job *first, **end;
    bool stop;
    int nthreads, pending;
    pthread_t threads[MAX_THREADS];
};

static void finish_job(struct kl_task *t)
{
    struct kl_job *job = KL_CONTAINER_OF(t, struct kl_job, task);
    struct kl_pool *p = job->pool;
    job->done(job); // may free the job
    p->pending--;
}

static void *run_thread(void *arg)
{
    struct kl_pool *p = arg;
    pthread_setname_np(pthread_self(), "kubelet-work");
    for (;;) {
        pthread_mutex_lock(&p->lock);
        while (!p->first && !p->stop)
            pthread_cond_wait(&p->more, &p->lock);
        struct kl_job *job = p->first;
        if (job && !(p->first = job->next))
            p->end = &p->first;
        pthread_mutex_unlock(&p->lock);
        if (!job)
            return NULL;
        job->work(job);
        job->task.run = finish_job;
        kl_loop_post(p->loop, &job->task);
    }
}

int kl_pool_new(struct kl_loop *loop, int nthreads, struct kl_pool **ret, struct kl_error *err)
{
    struct kl_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    p->loop = loop;
    p->end = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    // Signals are for the process's main thread.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    while (p->nthreads < nthreads && p->nthreads < MAX_THREADS) {
        int e = pthread_create(&p->threads[p->nthreads], &attr, run_thread, p);
        if (e && !p->nthreads) {
            pthread_attr_destroy(&attr);
            pthread_sigmask(SIG_SETMASK, &old, NULL);
            kl_pool_free(p);
            return kl_error_errno(err, e, "starting a worker thread");
        }
        if (e)
            break;
        p->nthreads++;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    *ret = p;
    return 0;
}

void kl_pool_submit(struct kl_pool *p, struct kl_job *job)
{
    job->pool = p;
    job->next = NULL;
    p->pending++;
    pthread_mutex_lock(&p->lock);
    *p->end = job;
    p->end = &job->next;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

int kl_pool_pending(const struct kl_pool *p)
{
    return p->pending;
}

void kl_pool_free(struct kl_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
