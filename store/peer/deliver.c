// SPDX-License-Identifier: Apache-2.0
// From the peers' loop to the handlers' loops. A receiver is a registered handler; it lives as long
// as something is on its way to it.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include <stdlib.h>

struct kl_peer_receiver {
    atomic_uint refs;
    atomic_bool dead;
    pthread_mutex_t running; // held during callbacks: who takes the handler away waits for it
    struct kl_peer_handler h;
};

// What the handlers have not taken yet of one connection.
struct kl_peer_flow {
    atomic_uint refs;
    struct kl_peers *p; // a reference
    struct kl_peer_link *link;
    atomic_size_t bytes;
    atomic_bool full;
    bool resume_posted; // under lock
    struct kl_task resume;
};

struct kl_peer_message {
    struct kl_task task;
    struct kl_peer_receiver *to;
    struct kl_peer_flow *flow;
    uint64_t from;
    uint32_t n;
    char body[];
};

struct kl_peer_notice {
    struct kl_task task;
    struct kl_peer_receiver *to;
    uint64_t id;
    bool up;
};

static struct kl_peer_receiver *receiver_ref(struct kl_peer_receiver *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

static void receiver_unref(struct kl_peer_receiver *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&r->running);
    free(r);
}

// ---- flow

struct kl_peer_flow *kl_peer_flow_new(struct kl_peer_link *l)
{
    struct kl_peer_flow *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    atomic_init(&f->refs, 1);
    atomic_fetch_add_explicit(&l->p->refs, 1, memory_order_relaxed);
    f->p = l->p;
    f->link = l;
    return f;
}

static void flow_unref(struct kl_peer_flow *f)
{
    if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_peers_unref(f->p);
    free(f);
}

void kl_peer_flow_end(struct kl_peer_flow *f)
{
    if (!f)
        return;
    f->link = NULL;
    flow_unref(f);
}

static void run_resume(struct kl_task *t)
{
    struct kl_peer_flow *f = KL_CONTAINER_OF(t, struct kl_peer_flow, resume);
    pthread_mutex_lock(&f->p->lock);
    f->resume_posted = false;
    pthread_mutex_unlock(&f->p->lock);
    if (f->link && !atomic_load(&f->full)) // else it filled up again meanwhile
        kl_peer_link_pause(f->link, KL_LINK_PAUSE_FULL, false);
    flow_unref(f);
}

static void flow_add(struct kl_peer_flow *f, size_t n)
{
    size_t before = atomic_fetch_add(&f->bytes, n);
    if (before + n < KL_PEER_FLOW_HIGH || atomic_load(&f->full))
        return;
    kl_peer_link_pause(f->link, KL_LINK_PAUSE_FULL, true);
    atomic_store(&f->full, true);
    // The last one may have been taken in between.
    if (atomic_load(&f->bytes) < KL_PEER_FLOW_LOW && atomic_exchange(&f->full, false))
        kl_peer_link_pause(f->link, KL_LINK_PAUSE_FULL, false);
}

static void flow_sub(struct kl_peer_flow *f, size_t n)
{
    size_t left = atomic_fetch_sub(&f->bytes, n) - n;
    if (left >= KL_PEER_FLOW_LOW || !atomic_load(&f->full) || !atomic_exchange(&f->full, false))
        return;
    // Rare: only after the connection was stopped.
    pthread_mutex_lock(&f->p->lock);
    if (!f->p->refusing && !f->resume_posted) {
        f->resume_posted = true;
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
        f->resume.run = run_resume;
        kl_loop_post(f->p->loop, &f->resume);
    }
    pthread_mutex_unlock(&f->p->lock);
}

// ---- messages

struct kl_peer_message *kl_peer_message_new(uint64_t from, uint32_t n, char **ret_body)
{
    struct kl_peer_message *m = malloc(sizeof *m + n);
    if (!m)
        return NULL;
    m->to = NULL;
    m->flow = NULL;
    m->from = from;
    m->n = n;
    *ret_body = m->body;
    return m;
}

void kl_peer_message_free(struct kl_peer_message *m)
{
    if (!m)
        return;
    receiver_unref(m->to);
    free(m);
}

static void run_message(struct kl_task *t)
{
    struct kl_peer_message *m = KL_CONTAINER_OF(t, struct kl_peer_message, task);
    struct kl_peer_receiver *r = m->to;
    struct kl_peer_flow *f = m->flow;
    size_t n = m->n + sizeof *m;
    pthread_mutex_lock(&r->running);
    if (!atomic_load_explicit(&r->dead, memory_order_relaxed))
        r->h.message(r->h.arg, m->from, (struct kl_str){m->body, m->n});
    pthread_mutex_unlock(&r->running);
    kl_peer_message_free(m);
    flow_sub(f, n);
    flow_unref(f);
}

void kl_peer_deliver(struct kl_peer_link *l, uint8_t channel, struct kl_peer_message *m)
{
    struct kl_peers *p = l->p;
    pthread_mutex_lock(&p->lock);
    struct kl_peer_receiver *r = p->receivers[channel];
    if (r) {
        m->to = receiver_ref(r);
        m->flow = l->flow;
        atomic_fetch_add_explicit(&m->flow->refs, 1, memory_order_relaxed);
        m->task.run = run_message;
        flow_add(l->flow, m->n + sizeof *m);
        kl_loop_post(r->h.loop, &m->task);
        m = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    kl_peer_message_free(m);
}

// ---- changes of state

static void free_notice(struct kl_peer_notice *n)
{
    if (!n)
        return;
    receiver_unref(n->to);
    free(n);
}

static void run_notice(struct kl_task *t)
{
    struct kl_peer_notice *n = KL_CONTAINER_OF(t, struct kl_peer_notice, task);
    struct kl_peer_receiver *r = n->to;
    pthread_mutex_lock(&r->running);
    if (!atomic_load_explicit(&r->dead, memory_order_relaxed))
        r->h.state(r->h.arg, n->id, n->up);
    pthread_mutex_unlock(&r->running);
    free_notice(n);
}

static struct kl_peer_notice *make_notice(struct kl_peer_receiver *r, uint64_t id, bool up)
{
    struct kl_peer_notice *n = malloc(sizeof *n);
    if (n)
        *n = (struct kl_peer_notice){
            .task.run = run_notice, .to = receiver_ref(r), .id = id, .up = up};
    return n;
}

static void post_notice(struct kl_peer_notice *n)
{
    kl_loop_post(n->to->h.loop, &n->task);
}

static bool wants_state(const struct kl_peer_receiver *r)
{
    return r && r->h.state;
}

int kl_peer_tell_up(struct kl_peer *e)
{
    struct kl_peers *p = e->p;
    struct kl_peer_notice *up[KL_PEER_CHANNELS] = {0};
    bool ok = true;
    for (int c = 0; c < KL_PEER_CHANNELS && ok; c++) {
        if (!wants_state(p->receivers[c]))
            continue;
        up[c] = make_notice(p->receivers[c], e->id, true);
        e->down[c] = make_notice(p->receivers[c], e->id, false);
        ok = up[c] && e->down[c];
    }
    for (int c = 0; c < KL_PEER_CHANNELS; c++) {
        if (up[c] && ok) {
            post_notice(up[c]);
        } else if (!ok) {
            free_notice(up[c]);
            free_notice(e->down[c]);
            e->down[c] = NULL;
        }
    }
    return ok ? 0 : KL_ENOMEM;
}

void kl_peer_tell_down(struct kl_peer *e)
{
    for (int c = 0; c < KL_PEER_CHANNELS; c++) {
        if (e->down[c])
            post_notice(e->down[c]);
        e->down[c] = NULL;
    }
}

// A new handler learns who is there.
static void tell_new(struct kl_peers *p, enum kl_peer_channel c, struct kl_peer_receiver *r)
{
    for (struct kl_peer *e = p->peers; e; e = e->next) {
        free_notice(e->down[c]);
        e->down[c] = NULL;
        if (!e->up || !wants_state(r))
            continue;
        struct kl_peer_notice *up = make_notice(r, e->id, true);
        e->down[c] = up ? make_notice(r, e->id, false) : NULL;
        if (e->down[c]) {
            post_notice(up);
        } else {
            free_notice(up);
            kl_log(KL_LOG_ERROR, "peers", "out of memory for a handler of peer=%016llx",
                   (unsigned long long)e->id);
        }
    }
}

static void end_receiver(struct kl_peer_receiver *r)
{
    if (!r)
        return;
    if (kl_loop_is_current(r->h.loop)) {
        atomic_store_explicit(&r->dead, true, memory_order_relaxed);
    } else {
        pthread_mutex_lock(&r->running);
        atomic_store_explicit(&r->dead, true, memory_order_relaxed);
        pthread_mutex_unlock(&r->running);
    }
    receiver_unref(r);
}

static struct kl_peer_receiver *make_receiver(const struct kl_peer_handler *h)
{
    struct kl_peer_receiver *r = calloc(1, sizeof *r);
    if (!r) {
        kl_log(KL_LOG_ERROR, "peers", "out of memory for a handler");
        return NULL;
    }
    atomic_init(&r->refs, 1);
    pthread_mutex_init(&r->running, NULL);
    r->h = *h;
    return r;
}

void kl_peers_handle(struct kl_peers *p, enum kl_peer_channel c, const struct kl_peer_handler *h)
{
    struct kl_peer_receiver *r = h ? make_receiver(h) : NULL;
    pthread_mutex_lock(&p->lock);
    struct kl_peer_receiver *old = p->receivers[c];
    p->receivers[c] = r;
    tell_new(p, c, r);
    pthread_mutex_unlock(&p->lock);
    end_receiver(old);
}

void kl_peers_drop_receivers(struct kl_peers *p)
{
    for (int c = 0; c < KL_PEER_CHANNELS; c++)
        kl_peers_handle(p, (enum kl_peer_channel)c, NULL);
}
