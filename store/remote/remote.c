// SPDX-License-Identifier: Apache-2.0
#include "store/remote/remote_int.h"
#include "store/store.h"
#include "net/tls.h"
#include "base/clock.h"
#include <pthread.h>
#include <stdlib.h>

enum { OPEN_MS = 2000, OPEN_MORE_MS = 3500 };

// ---- up ----

static void run_stuck(struct kl_task *t);

static void retry_soon(struct kl_backend *b)
{
    b->stuck_task.run = run_stuck;
    kl_loop_post(kl_core_loop(b->core), &b->stuck_task);
}

static void add_stuck(struct kl_backend *b, struct kl_remote_up *u)
{
    u->task.next = NULL;
    *b->stuck_end = &u->task;
    b->stuck_end = &u->task.next;
}

static void run_stuck(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, stuck_task);
    while (b->stuck) {
        struct kl_remote_up *u = KL_CONTAINER_OF(b->stuck, struct kl_remote_up, task);
        struct kl_task *next = b->stuck->next;
        if (u->apply(u)) {
            retry_soon(b); // the others have their turn
            return;
        }
        b->stuck = next;
    }
    b->stuck_end = &b->stuck;
}

static void run_up(struct kl_task *t)
{
    struct kl_remote_up *u = KL_CONTAINER_OF(t, struct kl_remote_up, task);
    struct kl_backend *b = u->b;
    if (b->stuck) {
        add_stuck(b, u);
    } else if (u->apply(u)) {
        add_stuck(b, u);
        retry_soon(b);
    }
}

void kl_remote_post(struct kl_backend *b, struct kl_remote_up *u)
{
    u->b = b;
    u->task.run = run_up;
    kl_loop_post(kl_core_loop(b->core), &u->task);
}

// ---- time, while something waits for it ----

static void on_timer(uv_timer_t *t)
{
    struct kl_backend *b = t->data;
    int64_t now = kl_mono_ms();
    kl_remote_calls_tick(b, now);
    kl_remote_feed_tick(b, now);
    kl_remote_write_tick(b, now);
    kl_remote_rows_tick(b, now);
    kl_remote_lease_run(b);
    if (!kl_remote_needs_time(b))
        uv_timer_stop(t);
}

void kl_remote_wake(struct kl_backend *b)
{
    if (b->timer_open && !uv_is_active((uv_handle_t *)&b->timer))
        uv_timer_start(&b->timer, on_timer, KL_REMOTE_TICK_MS, KL_REMOTE_TICK_MS);
}

// ---- asked by a thread that may block ----

struct ask {
    struct kl_backend *b;
    struct kl_task task;
    struct kl_remote_call call;
    struct kl_remote_state *st;
    bool done;
    int code;
    struct kl_error err;
};

static void end_ask(struct ask *a)
{
    pthread_mutex_lock(&a->b->mu);
    a->done = true;
    pthread_cond_broadcast(&a->b->answered);
    pthread_mutex_unlock(&a->b->mu);
}

static int wait_ask(struct ask *a, void (*run)(struct kl_task *), struct kl_error *err)
{
    a->task.run = run;
    kl_loop_post(a->b->loop, &a->task);
    pthread_mutex_lock(&a->b->mu);
    while (!a->done)
        pthread_cond_wait(&a->b->answered, &a->b->mu);
    pthread_mutex_unlock(&a->b->mu);
    if (a->code && err)
        *err = a->err;
    return a->code;
}

static void on_hello(struct kl_remote_call *c)
{
    struct ask *a = KL_CONTAINER_OF(c, struct ask, call);
    const struct kl_etcd_range_response *r = c->reply;
    if (c->code)
        a->code = kl_remote_explain(c, &a->err);
    else if (!r->header || !r->header->cluster_id)
        a->code =
            kl_error_set(&a->err, KL_EUNSUPPORTED, "datastore %s: this is no etcd v3", a->b->name);
    else
        a->b->cluster_id = r->header->cluster_id;
    kl_remote_call_fini(c);
    end_ask(a);
}

static void run_hello(struct kl_task *t)
{
    struct ask *a = KL_CONTAINER_OF(t, struct ask, task);
    struct kl_backend *b = a->b;
    struct kl_etcd_range_request rq = {.key = KL_RANGE_TO_LAST, .count_only = true};
    uv_timer_init(kl_loop_uv(b->loop), &b->timer);
    b->timer.data = b;
    b->timer_open = true;
    a->call = (struct kl_remote_call){
        .done = on_hello,
        .retry = true,
        .deadline_ms = kl_mono_ms() + OPEN_MS + (int64_t)(b->ntargets - 1) * OPEN_MORE_MS,
        .request = kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_call(b, &a->call, KL_ETCD_RANGE);
}

static void on_loaded(struct kl_backend *b, struct kl_remote_state *st, int code,
                      const struct kl_error *err)
{
    struct ask *a = b->asking;
    a->st = st;
    a->code = code;
    if (code)
        a->err = *err;
    end_ask(a);
}

static void run_load(struct kl_task *t)
{
    struct ask *a = KL_CONTAINER_OF(t, struct ask, task);
    a->b->asking = a;
    kl_remote_load(a->b, on_loaded);
}

// ---- life ----

static void run_close(struct kl_task *t)
{
    struct ask *a = KL_CONTAINER_OF(t, struct ask, task);
    struct kl_backend *b = a->b;
    b->closing = true;
    kl_remote_feed_stop(b);
    kl_remote_rows_stop(b);
    kl_grpc_close(b->grpc);
    b->grpc = NULL;
    kl_remote_calls_cancel(b);
    kl_remote_lease_stop(b);
    if (b->timer_open)
        uv_close((uv_handle_t *)&b->timer, NULL);
    b->timer_open = false;
    end_ask(a);
}

static void free_backend(struct kl_backend *b)
{
    for (int i = 0; i < b->ntargets; i++)
        free(b->targets[i]);
    kl_tls_ctx_unref(b->tls);
    kl_arena_fini(&b->arena);
    pthread_cond_destroy(&b->answered);
    pthread_mutex_destroy(&b->mu);
    free(b);
}

static void end_network(struct kl_backend *b)
{
    struct ask a = {.b = b};
    if (!b->loop)
        return;
    wait_ask(&a, run_close, NULL);
    kl_loop_stop(b->loop);
    kl_loop_join(b->loop);
    kl_loop_unref(b->loop);
}

static int open_remote(struct kl_store *core, struct kl_str rest, bool is_unix,
                       struct kl_backend **ret_b, struct kl_error *err)
{
    struct kl_backend *b = calloc(1, sizeof(*b));
    if (!b)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    b->core = core;
    b->held_end = &b->held;
    b->stuck_end = &b->stuck;
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->answered, NULL);
    kl_arena_init(&b->arena, 0);
    kl_remote_new_fence(b);
    int r = kl_remote_parse(b, rest, is_unix, err);
    if (!r)
        r = kl_loop_new("kl-etcd", &b->loop, err);
    if (!r && (r = kl_loop_start(b->loop, err))) {
        kl_loop_unref(b->loop);
        b->loop = NULL;
    }
    if (!r) {
        struct ask a = {.b = b};
        r = wait_ask(&a, run_hello, err);
    }
    if (r) {
        end_network(b);
        free_backend(b);
        return r;
    }
    *ret_b = b;
    return 0;
}

static int open_tcp(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                    struct kl_error *err)
{
    return open_remote(core, rest, false, ret_b, err);
}

static int open_unix(struct kl_store *core, struct kl_str rest, struct kl_backend **ret_b,
                     struct kl_error *err)
{
    return open_remote(core, rest, true, ret_b, err);
}

static int load_remote(struct kl_backend *b, struct kl_loaded *l, struct kl_error *err)
{
    struct ask a = {.b = b};
    int r = wait_ask(&a, run_load, err);
    if (r)
        return r;
    r = kl_remote_state_give(a.st, l);
    b->cluster_id = l->cluster_id;
    b->seen = l->rev;
    kl_remote_state_free(a.st);
    return r ? kl_error_set(err, r, "out of memory") : 0;
}

static void run_start(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, start_task);
    kl_remote_feed_start(b, b->seen);
}

static void start_remote(struct kl_backend *b)
{
    b->start_task.run = run_start;
    kl_loop_post(b->loop, &b->start_task);
}

static void run_free(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, free_task);
    while (b->stuck) {
        struct kl_remote_up *u = KL_CONTAINER_OF(b->stuck, struct kl_remote_up, task);
        b->stuck = b->stuck->next;
        u->apply(u);
    }
    free_backend(b);
}

// What was posted to the core's loop runs before run_free does.
static void close_remote(struct kl_backend *b)
{
    end_network(b);
    b->closed = true;
    b->free_task.run = run_free;
    kl_loop_post(kl_core_loop(b->core), &b->free_task);
}

// ---- what is the remote's own business ----

static void run_step(struct kl_task *t)
{
    struct kl_step_req *q = KL_CONTAINER_OF(t, struct kl_step_req, task);
    q->done(q);
}

static void compact_step(struct kl_backend *b, struct kl_step_req *q)
{
    q->through = q->until;
    q->task.run = run_step;
    kl_loop_defer(kl_core_loop(b->core), &q->task);
}

static void get_sizes(struct kl_backend *b, struct kl_backend_sizes *ret)
{
}

extern const struct kl_backend_ops kl_backend_etcd, kl_backend_etcd_unix;

#define REMOTE_OPS(name, open_)                                                                    \
    {                                                                                              \
        .scheme = name, .one_txn = true, .open = open_, .load = load_remote,                       \
        .start = start_remote, .propose = kl_remote_propose, .confirm_head = kl_remote_head,       \
        .lease = kl_remote_lease, .read_rows = kl_remote_read_rows,                                \
        .read_range = kl_remote_read_range, .compact_step = compact_step, .sizes = get_sizes,      \
        .close = close_remote,                                                                     \
    }

const struct kl_backend_ops kl_backend_etcd = REMOTE_OPS("etcd", open_tcp);
const struct kl_backend_ops kl_backend_etcd_unix = REMOTE_OPS("etcd+unix", open_unix);
