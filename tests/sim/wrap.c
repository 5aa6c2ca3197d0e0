// SPDX-License-Identifier: Apache-2.0
// What the linker puts in the place of the product's functions.
#include "sim.h"

int64_t __wrap_kl_raft_now(void);
void __wrap_kl_raft_fatal(struct kl_raft *r, const struct kl_error *err);
void __wrap_kl_raft_write_post(struct kl_raft *r, struct kl_raft_write *w);
int __wrap_kl_raft_write_now(struct kl_raft *r, struct kl_raft_write *w, struct kl_error *err);
int __wrap_kl_raft_mark_reseed(struct kl_raft *r);
int __wrap_kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c,
                         struct kl_bytes *msg);
struct kl_loop *__wrap_kl_core_loop(struct kl_store *c);
void __wrap_kl_loop_defer(struct kl_loop *l, struct kl_task *t);
int __wrap_kl_core_applied(struct kl_store *c, struct kl_batch *b);
void __wrap_kl_core_failed(struct kl_store *c, struct kl_batch *b, int code);
int __wrap_raft_barrier(struct raft *r, struct raft_barrier *req, raft_barrier_cb cb);
int __real_raft_barrier(struct raft *r, struct raft_barrier *req, raft_barrier_cb cb);

int64_t __wrap_kl_raft_now(void)
{
    return sim_running->now / 1000;
}

void __wrap_kl_raft_fatal(struct kl_raft *r, const struct kl_error *err)
{
    sim_server_fatal(r, err);
}

void __wrap_kl_raft_write_post(struct kl_raft *r, struct kl_raft_write *w)
{
    atomic_fetch_add(&r->lag, w->bytes);
    sim_server_write(KL_CONTAINER_OF(r, struct sim_server, r), w);
}

int __wrap_kl_raft_write_now(struct kl_raft *r, struct kl_raft_write *w, struct kl_error *err)
{
    sim_server_write_now(KL_CONTAINER_OF(r, struct sim_server, r), w);
    return 0;
}

int __wrap_kl_raft_mark_reseed(struct kl_raft *r)
{
    return 0;
}

int __wrap_kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c,
                         struct kl_bytes *msg)
{
    struct sim_server *v = (struct sim_server *)p;
    return sim_send(v->sim, v, to, c, msg);
}

struct kl_loop *__wrap_kl_core_loop(struct kl_store *c)
{
    return (struct kl_loop *)KL_CONTAINER_OF(c, struct sim_server, core);
}

void __wrap_kl_loop_defer(struct kl_loop *l, struct kl_task *t)
{
    struct sim_server *v = (struct sim_server *)l;
    t->next = NULL;
    *v->deferred_end = t;
    v->deferred_end = &t->next;
}

int __wrap_kl_core_applied(struct kl_store *c, struct kl_batch *b)
{
    struct sim_server *v = KL_CONTAINER_OF(c, struct sim_server, core);
    bool own = b == v->batch;
    if (!own && !v->sim->calm && sim_chance(v->sim, 1))
        return KL_ENOMEM;
    sim_check_batch(v, b);
    if (own)
        sim_acked(v, b);
    else
        kl_batch_free(b);
    return 0;
}

void __wrap_kl_core_failed(struct kl_store *c, struct kl_batch *b, int code)
{
    sim_failed(KL_CONTAINER_OF(c, struct sim_server, core), b, code);
}

int __wrap_raft_barrier(struct raft *r, struct raft_barrier *req, raft_barrier_cb cb)
{
    if (!sim_running || sim_running->o.without != SIM_BARRIER)
        return __real_raft_barrier(r, req, cb);
    cb(req, 0);
    return 0;
}
