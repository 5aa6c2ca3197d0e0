// SPDX-License-Identifier: Apache-2.0
// The mailbox is a stack that posters push with one compare-and-swap and the loop takes whole with
// one exchange, then turns round: order of posting is kept, no task is looked at by two threads,
// and only the poster that found it empty wakes the loop. Acquire and release only, so that
// ThreadSanitizer sees every edge. It is woken by an eventfd of its own: a loop that uv_async_send
// woke spins until that call is over, and where the poster has lost its core to the loop that was
// a fifth of the CPU time of a read that had to ask the database.
//
// One iteration:  timers, idle, PREPARE, [poll, I/O callbacks, mailbox], CHECK, closing callbacks
// Deferred tasks run in CHECK and PREPARE. What is left after PREPARE (too much for one turn) keeps
// an idle handle active, which makes libuv poll without blocking.
#include "base/loop.h"
#include "base/str.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MAIL_PER_TURN = 512,     // tasks before I/O gets its turn again
    LATE_US = 3000,          // and the time they may take together
    DEFERRED_PER_TURN = 4096 // the same for tasks that defer tasks that defer tasks
};

struct queue {
    struct kl_task *first, **end;
};

struct kl_loop {
    uv_loop_t uv;
    uv_poll_t wake;
    int wake_fd;
    uv_prepare_t before_poll;
    uv_check_t after_poll;
    uv_idle_t dont_block;
    _Atomic(struct kl_task *) inbox; // newest first
    atomic_int posting;              // threads inside kl_loop_post
    atomic_bool stop_asked;
    struct kl_task stop_task;
    struct queue mail, deferred; // the loop's own
    // Busy time of a turn: from where libuv last read the clock, which it does when the poll
    // returns and when an iteration begins. (UV_METRICS_IDLE_TIME would cost a second epoll_wait a
    // turn.)
    int64_t after_poll_us;
    atomic_llong over_5ms, over_25ms, over_100ms, max_us, turns;
    atomic_int cpu_clock; // of the thread that runs it; 0: none does
    pthread_t thread;
    bool joinable;
    char name[16];
};

static _Thread_local struct kl_loop *current_loop;

static void init_queue(struct queue *q)
{
    q->first = NULL;
    q->end = &q->first;
}

static void push_task(struct queue *q, struct kl_task *t)
{
    t->next = NULL;
    *q->end = t;
    q->end = &t->next;
}

static struct kl_task *pop_task(struct queue *q)
{
    struct kl_task *t = q->first;
    if (t) {
        q->first = t->next;
        if (!q->first)
            q->end = &q->first;
    }
    return t;
}

static void run_deferred(struct kl_loop *l)
{
    struct kl_task *t;
    for (int i = 0; i < DEFERRED_PER_TURN && (t = pop_task(&l->deferred)); i++)
        t->run(t);
}

static void take_mail(struct kl_loop *l)
{
    struct kl_task *t = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
    if (!t)
        return;
    struct kl_task *oldest = NULL, **end = &t->next;
    while (t) {
        struct kl_task *older = t->next;
        t->next = oldest;
        oldest = t;
        t = older;
    }
    *l->mail.end = oldest;
    l->mail.end = end;
}

// Tasks posted while these run have woken the loop again and are for the next turn.
static void run_mail(struct kl_loop *l)
{
    struct kl_task *t;
    uint64_t start_ns = uv_hrtime();
    for (int i = 0; i < MAIL_PER_TURN && (t = pop_task(&l->mail)); i++) {
        t->run(t);
        if (uv_hrtime() - start_ns > LATE_US * 1000)
            break;
    }
}

static void wake(struct kl_loop *l)
{
    while (eventfd_write(l->wake_fd, 1) && errno == EINTR)
        ;
}

static void wake_cb(uv_poll_t *h, int status, int events)
{
    struct kl_loop *l = h->data;
    eventfd_t n;
    eventfd_read(l->wake_fd, &n); // before the inbox: what comes later wakes again
    take_mail(l);
    run_mail(l);
}

static int64_t us_since_clock(const struct kl_loop *l)
{
    return (int64_t)(uv_hrtime() / 1000) - (int64_t)uv_now(&l->uv) * 1000;
}

static void raise_to(atomic_llong *v, long long to)
{
    if (to > atomic_load_explicit(v, memory_order_relaxed))
        atomic_store_explicit(v, to, memory_order_relaxed); // one writer: the loop
}

static void add_to(atomic_llong *v, long long d) // one writer: the loop
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + d,
                          memory_order_relaxed);
}

static void account_turn(struct kl_loop *l)
{
    long long us = l->after_poll_us + us_since_clock(l);
    l->after_poll_us = 0;
    add_to(&l->turns, 1);
    raise_to(&l->max_us, us);
    if (us > 5000)
        atomic_fetch_add_explicit(&l->over_5ms, 1, memory_order_relaxed);
    if (us > 25000)
        atomic_fetch_add_explicit(&l->over_25ms, 1, memory_order_relaxed);
    if (us > 100000)
        atomic_fetch_add_explicit(&l->over_100ms, 1, memory_order_relaxed);
}

static void idle_cb(uv_idle_t *h)
{
}

static void before_poll_cb(uv_prepare_t *h)
{
    struct kl_loop *l = h->data;
    run_mail(l); // what a full turn left
    run_deferred(l);
    if (l->mail.first || l->deferred.first)
        uv_idle_start(&l->dont_block, idle_cb);
    else
        uv_idle_stop(&l->dont_block);
    account_turn(l);
}

static void after_poll_cb(uv_check_t *h)
{
    struct kl_loop *l = h->data;
    run_deferred(l);
    l->after_poll_us = us_since_clock(l);
}

static void run_stop(struct kl_task *t)
{
    uv_stop(&KL_CONTAINER_OF(t, struct kl_loop, stop_task)->uv);
}

int kl_loop_new(const char *name, struct kl_loop **ret_loop, struct kl_error *err)
{
    struct kl_loop *l = calloc(1, sizeof(*l));
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "loop %s: %s", name, kl_err_text(KL_ENOMEM));
    snprintf(l->name, sizeof(l->name), "%s", name);
    init_queue(&l->mail);
    init_queue(&l->deferred);
    l->stop_task.run = run_stop;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = l->wake_fd < 0 ? -errno : uv_loop_init(&l->uv);
    if (r) {
        r = kl_error_errno(err, -r, "loop %s", name);
        goto no_loop;
    }
    l->uv.data = l;
    r = uv_poll_init(&l->uv, &l->wake, l->wake_fd);
    if (r) {
        uv_loop_close(&l->uv);
        r = kl_error_errno(err, -r, "loop %s", name);
        goto no_loop;
    }
    // libuv runs the handle started first last: ours see what other prepare handles deferred.
    uv_prepare_init(&l->uv, &l->before_poll);
    uv_check_init(&l->uv, &l->after_poll);
    uv_idle_init(&l->uv, &l->dont_block);
    l->wake.data = l->before_poll.data = l->after_poll.data = l->dont_block.data = l;
    uv_prepare_start(&l->before_poll, before_poll_cb);
    uv_check_start(&l->after_poll, after_poll_cb);
    uv_poll_start(&l->wake, UV_READABLE, wake_cb);
    *ret_loop = l;
    return 0;
no_loop:
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    free(l);
    return r;
}

void kl_loop_run(struct kl_loop *l)
{
    struct kl_loop *outer = current_loop;
    clockid_t clock;
    current_loop = l;
    if (!pthread_getcpuclockid(pthread_self(), &clock))
        atomic_store_explicit(&l->cpu_clock, clock, memory_order_relaxed);
    uv_update_time(&l->uv);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    atomic_store_explicit(&l->cpu_clock, 0, memory_order_relaxed);
    current_loop = outer;
}

static void *thread_main(void *arg)
{
    struct kl_loop *l = arg;
    pthread_setname_np(pthread_self(), l->name);
    kl_loop_run(l);
    return NULL;
}

int kl_loop_start(struct kl_loop *l, struct kl_error *err)
{
    assert(!l->joinable);
    int r = pthread_create(&l->thread, NULL, thread_main, l);
    if (r)
        return kl_error_errno(err, r, "loop %s: start thread", l->name);
    l->joinable = true;
    return 0;
}

void kl_loop_stop(struct kl_loop *l)
{
    if (!atomic_exchange_explicit(&l->stop_asked, true, memory_order_relaxed))
        kl_loop_post(l, &l->stop_task);
}

void kl_loop_join(struct kl_loop *l)
{
    if (l->joinable)
        pthread_join(l->thread, NULL);
    l->joinable = false;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static bool has_tasks(struct kl_loop *l)
{
    take_mail(l);
    return l->mail.first || l->deferred.first;
}

void kl_loop_unref(struct kl_loop *l)
{
    if (!l)
        return;
    kl_loop_join(l);
    // A poster may still be on its way out of kl_loop_post although its task has run.
    while (atomic_load_explicit(&l->posting, memory_order_acquire) > 0)
        sched_yield();
    // Every posted task runs, also one that came too late: its owner waits for it.
    struct kl_loop *outer = current_loop;
    current_loop = l;
    do {
        while (has_tasks(l)) {
            run_mail(l);
            run_deferred(l);
        }
        uv_walk(&l->uv, close_handle, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    } while (has_tasks(l) || uv_loop_close(&l->uv) == UV_EBUSY);
    current_loop = outer;
    close(l->wake_fd);
    free(l);
}

uv_loop_t *kl_loop_uv(struct kl_loop *l)
{
    return &l->uv;
}

const char *kl_loop_name(const struct kl_loop *l)
{
    return l->name;
}

bool kl_loop_is_late(const struct kl_loop *l)
{
    return us_since_clock(l) > LATE_US;
}

bool kl_loop_is_current(const struct kl_loop *l)
{
    return current_loop == l;
}

struct kl_loop *kl_loop_current(void)
{
    return current_loop;
}

void kl_loop_post(struct kl_loop *l, struct kl_task *t)
{
    atomic_fetch_add_explicit(&l->posting, 1, memory_order_relaxed);
    struct kl_task *newest = atomic_load_explicit(&l->inbox, memory_order_relaxed);
    do {
        t->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&l->inbox, &newest, t, memory_order_release,
                                                    memory_order_relaxed));
    // From here on t belongs to the loop. An inbox that was not empty has been announced already.
    if (!newest)
        wake(l);
    atomic_fetch_sub_explicit(&l->posting, 1, memory_order_release);
}

void kl_loop_defer(struct kl_loop *l, struct kl_task *t)
{
    assert(kl_loop_is_current(l));
    push_task(&l->deferred, t);
}

void kl_loop_get_stalls(const struct kl_loop *l, struct kl_loop_stalls *ret)
{
    ret->over_5ms = atomic_load_explicit(&l->over_5ms, memory_order_relaxed);
    ret->over_25ms = atomic_load_explicit(&l->over_25ms, memory_order_relaxed);
    ret->over_100ms = atomic_load_explicit(&l->over_100ms, memory_order_relaxed);
    ret->max_us = atomic_load_explicit(&l->max_us, memory_order_relaxed);
    ret->turns = atomic_load_explicit(&l->turns, memory_order_relaxed);
    ret->cpu_us = 0;
    struct timespec used;
    clockid_t clock = atomic_load_explicit(&l->cpu_clock, memory_order_relaxed);
    if (clock && !clock_gettime(clock, &used)) // fails when the thread is gone
        ret->cpu_us = (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}
