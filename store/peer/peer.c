// SPDX-License-Identifier: Apache-2.0
// One other server: dialled with back-off until it answers; what is sent to it while the session is
// up waits in a queue that the dialled connection empties.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 2000,
    STRANGER_MS = 15000, // that it takes to learn of a new server at most
    STEADY_MS = 3000,    // a session that lasted so long starts again without back-off
    DIAL_SOON_MS = 10,
};

static void dial(struct kl_peer *e);

// ---- the queue

static void empty_queue(struct kl_peer_queue *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        kl_bytes_unref(q->v[(q->head + i) & (q->cap - 1)].bytes);
    free(q->v);
    *q = (struct kl_peer_queue){0};
}

static int grow_queue(struct kl_peer_queue *q)
{
    struct kl_peer_queue n = {
        .cap = q->cap ? 2 * q->cap : 16, .count = q->count, .bytes = q->bytes};
    if (!(n.v = malloc(n.cap * sizeof *n.v)))
        return KL_ENOMEM;
    for (uint32_t i = 0; i < q->count; i++)
        n.v[i] = q->v[(q->head + i) & (q->cap - 1)];
    free(q->v);
    *q = n;
    return 0;
}

static int push_message(struct kl_peer_queue *q, struct kl_bytes *b, uint8_t channel)
{
    size_t cost = (size_t)b->n + KL_PEER_MESSAGE_COST;
    if (b->n > KL_PEER_MAX_MESSAGE)
        return KL_ETOOLARGE;
    if (q->bytes + cost > KL_PEER_MAX_QUEUE)
        return KL_ETOOMANY;
    if (q->count == q->cap && grow_queue(q))
        return KL_ENOMEM;
    uint32_t at = (q->head + q->count++) & (q->cap - 1);
    q->v[at].bytes = kl_bytes_ref(b);
    q->v[at].channel = channel;
    q->bytes += cost;
    return 0;
}

int kl_peers_send(struct kl_peers *p, uint64_t to, enum kl_peer_channel c, struct kl_bytes *msg)
{
    int rc = KL_EUNAVAILABLE;
    pthread_mutex_lock(&p->lock);
    struct kl_peer *e = kl_peer_find(p, to);
    if (e && e->up)
        rc = push_message(&e->queue, msg, (uint8_t)c);
    if (!rc && !e->flush_posted) {
        e->flush_posted = true;
        kl_loop_post(p->loop, &e->flush);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

bool kl_peers_connected(const struct kl_peers *p, uint64_t id)
{
    struct kl_peers *q = (struct kl_peers *)p; // the lock is not part of what is const
    pthread_mutex_lock(&q->lock);
    const struct kl_peer *e = kl_peer_find(q, id);
    bool up = e && e->up;
    pthread_mutex_unlock(&q->lock);
    return up;
}

static void run_flush(struct kl_task *t)
{
    struct kl_peer *e = KL_CONTAINER_OF(t, struct kl_peer, flush);
    pthread_mutex_lock(&e->p->lock);
    e->flush_posted = false;
    pthread_mutex_unlock(&e->p->lock);
    if (e->removed)
        kl_peer_free(e);
    else if (e->out)
        kl_peer_link_flush(e->out);
}

// The socket takes more: heads are copied into the connection's blocks, bodies go by reference.
void kl_peer_fill(struct kl_peer *e, struct kl_peer_link *l)
{
    struct kl_outq *out = kl_conn_queue(l->conn);
    struct kl_peer_queue *q = &e->queue;
    pthread_mutex_lock(&e->p->lock);
    while (e->up && q->count && out->bytes < KL_CONN_OUT_HIGH) {
        struct kl_bytes *b = q->v[q->head].bytes;
        unsigned char head[KL_FRAME_HEAD];
        kl_frame_put_head(head,
                          (struct kl_frame_head){b->n, KL_FRAME_MESSAGE, q->v[q->head].channel});
        q->head = (q->head + 1) & (q->cap - 1);
        q->count--;
        q->bytes -= (size_t)b->n + KL_PEER_MESSAGE_COST;
        // A failure stays in the queue of the connection, which breaks it.
        if (kl_outq_append(out, head, sizeof head))
            kl_bytes_unref(b);
        else
            kl_outq_take(out, b, 0, b->n);
    }
    pthread_mutex_unlock(&e->p->lock);
}

// ---- the session

static void session_down(struct kl_peer *e)
{
    if (!e->up)
        return;
    pthread_mutex_lock(&e->p->lock);
    e->up = false;
    empty_queue(&e->queue);
    kl_peer_tell_down(e);
    pthread_mutex_unlock(&e->p->lock);
    if (kl_peers_now(e->p) - e->up_since_ms >= STEADY_MS)
        e->backoff_ms = 0;
}

void kl_peer_link_up(struct kl_peer *e)
{
    if (e->up || !e->out || !e->out->greeted || !e->in)
        return;
    pthread_mutex_lock(&e->p->lock);
    int rc = kl_peer_tell_up(e);
    e->up = !rc;
    pthread_mutex_unlock(&e->p->lock);
    if (rc) {
        kl_peer_link_break(e->out, rc, "out of memory");
        return;
    }
    e->up_since_ms = kl_peers_now(e->p);
    e->complaint[0] = 0;
    kl_log(KL_LOG_INFO, "peers", "connected peer=%016llx address=%s", (unsigned long long)e->id,
           e->address);
    kl_peer_link_pause(e->in, KL_LINK_PAUSE_SESSION, false);
}

// The same complaint is made once, however often it is tried.
static void complain(struct kl_peer *e, const struct kl_error *err)
{
    enum { KEPT = sizeof e->complaint - 1 };
    if (!err || e->p->closing)
        return;
    bool again = !strncmp(e->complaint, err->msg, KEPT);
    // Servers that start together learn of each other one after the other; later it is news.
    bool stranger = err->code == KL_ENOTFOUND;
    uint64_t now = kl_peers_now(e->p);
    if (again && !(stranger && e->stranger_since_ms && now - e->stranger_since_ms >= STRANGER_MS))
        return;
    e->stranger_since_ms = stranger && !again ? now : 0;
    snprintf(e->complaint, sizeof e->complaint, "%.*s", (int)KEPT, err->msg);
    kl_log(stranger && !again ? KL_LOG_DEBUG : KL_LOG_WARN, "peers",
           "not connected peer=%016llx address=%s: %s", (unsigned long long)e->id, e->address,
           err->msg);
}

static void on_retry(uv_timer_t *t)
{
    dial(t->data);
}

static void dial_in(struct kl_peer *e, uint64_t ms)
{
    if (!e->removed && !e->p->closing)
        uv_timer_start(&e->retry, on_retry, ms, 0);
}

static void dial_later(struct kl_peer *e)
{
    uint32_t b = e->backoff_ms ? 2 * e->backoff_ms : BACKOFF_MIN_MS;
    e->backoff_ms = b < BACKOFF_MAX_MS ? b : BACKOFF_MAX_MS;
    // Half of it is chance: servers that lost each other do not dial in step.
    dial_in(e, e->backoff_ms / 2 + kl_rand_u64() % (e->backoff_ms / 2 + 1));
}

void kl_peer_dial_soon(struct kl_peer *e)
{
    if (!e->out && uv_timer_get_due_in(&e->retry) > DIAL_SOON_MS)
        dial_in(e, DIAL_SOON_MS);
}

static void dial(struct kl_peer *e)
{
    struct kl_error err;
    if (e->out || e->removed || e->p->closing)
        return;
    if (kl_peer_link_dial(e->p, KL_LINK_OUT, e->id, e->address, e->attempt++, &e->out, &err)) {
        e->out = NULL;
        complain(e, &err);
        dial_later(e);
        return;
    }
    e->out->peer = e;
}

void kl_peer_link_lost(struct kl_peer *e, struct kl_peer_link *l, const struct kl_error *err)
{
    bool was_up = e->up;
    if (e->out == l)
        e->out = NULL;
    else if (e->in == l)
        e->in = NULL;
    session_down(e);
    if (was_up || l->kind == KL_LINK_OUT)
        complain(e, err);
    if (was_up) { // what was on its way in the other direction may be lost as well: say so
        struct kl_peer_link *other = e->out ? e->out : e->in;
        e->out = e->in = NULL;
        if (other)
            kl_peer_link_close(other);
    }
    if (!e->out && !uv_is_active((uv_handle_t *)&e->retry))
        dial_later(e);
}

// ---- life

static void retry_closed(uv_handle_t *h)
{
    struct kl_peer *e = h->data;
    struct kl_peers *p = e->p;
    free(e);
    kl_peers_unref(p);
}

void kl_peer_free(struct kl_peer *e)
{
    e->removed = true;
    session_down(e);
    struct kl_peer_link *links[] = {e->out, e->in};
    e->out = e->in = NULL;
    for (int i = 0; i < 2; i++)
        if (links[i])
            kl_peer_link_close(links[i]);
    pthread_mutex_lock(&e->p->lock);
    bool wait = e->flush_posted; // comes back here
    pthread_mutex_unlock(&e->p->lock);
    if (wait || uv_is_closing((uv_handle_t *)&e->retry))
        return;
    uv_close((uv_handle_t *)&e->retry, retry_closed);
}

int kl_peer_new(struct kl_peers *p, uint64_t id, struct kl_peer **ret)
{
    struct kl_peer *e = calloc(1, sizeof *e);
    if (!e)
        return KL_ENOMEM;
    e->p = p;
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    e->id = id;
    e->flush.run = run_flush;
    uv_timer_init(kl_loop_uv(p->loop), &e->retry);
    e->retry.data = e;
    *ret = e;
    return 0;
}

void kl_peer_set_address(struct kl_peer *e, const char *address)
{
    if (!strcmp(e->address, address))
        return;
    snprintf(e->address, sizeof e->address, "%s", address);
    e->attempt = e->backoff_ms = 0;
    // A connection that works goes on; one that is being tried is for the old address.
    if (e->out && !e->out->greeted) {
        struct kl_peer_link *l = e->out;
        e->out = NULL;
        kl_peer_link_close(l);
    }
    if (!e->out)
        dial_in(e, 0);
}
