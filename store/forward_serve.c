// SPDX-License-Identifier: Apache-2.0
// The evaluating side (store/forward.h): another server's transaction joins the queue like one of
// our own, and is looked for in what is in the log when it was sent before.
#include "store/forward_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include "store/peer/peers.h"
#include <stdlib.h>

struct kl_forward_work {
    struct kl_txn txn;
    struct kl_lease_req lease;
    struct kl_compact_wait compact;
    struct kl_forward *forward;
    struct kl_forward_work *next, **pprev;
    uint64_t from, seq;
    uint32_t attempt;
    enum kl_wire_kind kind;
    void *mem; // of the body
};

// ---- servers ----

static struct kl_forward_peer *find_peer(const struct kl_forward *f, uint64_t id)
{
    for (int i = 0; i < KL_FORWARD_SERVERS; i++) {
        if (f->peer[i].id == id)
            return (struct kl_forward_peer *)&f->peer[i];
    }
    return NULL;
}

// In the place of the one that was silent for longest when there are too many.
static struct kl_forward_peer *use_peer(struct kl_forward *f, uint64_t id)
{
    struct kl_forward_peer *p = find_peer(f, id);
    for (int i = 0; !p && i < KL_FORWARD_SERVERS; i++)
        p = f->peer[i].id ? NULL : &f->peer[i];
    for (int i = 0; !p && i < KL_FORWARD_SERVERS; i++)
        p = !p || f->peer[i].used < p->used ? &f->peer[i] : p;
    if (p->id != id) {
        free(p->seen);
        kl_buf_fini(&p->out);
        *p = (struct kl_forward_peer){.id = id};
        kl_buf_init(&p->out, KL_PEER_MAX_MESSAGE);
    }
    p->used = ++f->clock;
    return p;
}

// ---- what is in the log ----

void kl_forward_note(struct kl_forward *f, const struct kl_forwarded *e)
{
    struct kl_forward_peer *p = use_peer(f, e->server);
    if (!p->seen && !(p->seen = calloc(KL_FORWARD_SEEN, sizeof(*p->seen)))) {
        f->blind = true;
        return;
    }
    p->seen[e->seq % KL_FORWARD_SEEN] = e->seq;
}

int kl_forward_seen(const struct kl_forward *f, uint64_t server, uint64_t seq)
{
    const struct kl_forward_peer *p = find_peer(f, server);
    if (p && p->seen && p->seen[seq % KL_FORWARD_SEEN] == seq)
        return 1;
    return f->blind ? KL_EMAYBE : 0;
}

// ---- answers: those of one iteration travel together ----

static void run_flush(struct kl_task *t)
{
    struct kl_forward *f = KL_CONTAINER_OF(t, struct kl_forward, flush);
    f->flushing = false;
    for (int i = 0; i < KL_FORWARD_SERVERS; i++) {
        struct kl_forward_peer *p = &f->peer[i];
        if (!p->out.n)
            continue;
        struct kl_bytes *msg = kl_bytes_from_buf(&p->out);
        if (msg) // what is lost here is asked for again
            kl_peers_send(f->peers, p->id, KL_PEER_FORWARD, msg);
        kl_bytes_unref(msg);
        kl_buf_clear(&p->out);
    }
}

static void send_answer(struct kl_forward *f, uint64_t to, struct kl_wire_answer *a)
{
    a->rev = f->store->view->rev;
    kl_wire_put_answer(&use_peer(f, to)->out, a);
    if (!f->flushing) {
        f->flushing = true;
        f->flush.run = run_flush;
        kl_loop_defer(f->store->loop, &f->flush);
    }
}

static void free_work(struct kl_forward_work *w)
{
    if (w->pprev) {
        *w->pprev = w->next;
        if (w->next)
            w->next->pprev = w->pprev;
    }
    kl_txn_fini(&w->txn);
    kl_lease_req_fini(&w->lease);
    kl_wire_drop_body(&w->txn.body);
    free(w->mem);
    free(w);
}

static void finish_work(struct kl_forward_work *w, struct kl_wire_answer a, int code,
                        const struct kl_error *err)
{
    a.seq = w->seq;
    a.attempt = w->attempt;
    if (code == KL_EAGAIN || code == KL_ECANCELED) {
        a.outcome = KL_WIRE_RETRY; // it was not evaluated
    } else if (code) {
        a.outcome = KL_WIRE_ERROR;
        a.code = code;
        a.text = kl_str(err->msg[0] ? err->msg : kl_err_text(code));
    }
    send_answer(w->forward, w->from, &a);
    free_work(w);
}

static void txn_done(struct kl_txn *t)
{
    struct kl_forward_work *w = KL_CONTAINER_OF(t, struct kl_forward_work, txn);
    struct kl_wire_answer a = {.outcome = t->row_n || t->matched ? KL_WIRE_IN_LOG : KL_WIRE_READS};
    finish_work(w, a, t->code, &t->err);
}

static void lease_done(struct kl_lease_req *q)
{
    struct kl_forward_work *w = KL_CONTAINER_OF(q, struct kl_forward_work, lease);
    bool logged = q->kind == KL_LEASE_GRANT || q->kind == KL_LEASE_REVOKE;
    struct kl_wire_answer a = {.outcome = logged ? KL_WIRE_IN_LOG : KL_WIRE_LEASE,
                               .ttl_ms = q->ttl_s * 1000,
                               .left_ms = q->remaining_ms};
    finish_work(w, a, q->code, &q->err);
}

static void compact_done(struct kl_compact_wait *c)
{
    struct kl_forward_work *w = KL_CONTAINER_OF(c, struct kl_forward_work, compact);
    finish_work(w, (struct kl_wire_answer){.outcome = KL_WIRE_IN_LOG}, c->code, &c->err);
}

// ---- questions ----

static bool under_way(struct kl_forward *f, uint64_t from, const struct kl_wire_ask *a)
{
    for (struct kl_forward_work *w = f->works; w; w = w->next) {
        if (w->from == from && w->seq == a->seq) {
            w->attempt = a->attempt; // its answer is this one's
            return true;
        }
    }
    return false;
}

static void start_txn(struct kl_forward_work *w, const struct kl_wire_ask *a)
{
    struct kl_store *s = w->forward->store;
    struct kl_txn *t = &w->txn;
    size_t bytes;
    t->cb = txn_done;
    t->loop = s->loop;
    t->store = s;
    t->internal = KL_WORK_TXN;
    t->server = w->from;
    t->seq = w->seq;
    t->again = a->again;
    int r = kl_txn_check(t, &s->keys, &bytes, &t->err);
    if (!r)
        r = kl_commit_admit(s, t, bytes, &t->err);
    if (r) {
        t->code = r;
        txn_done(t);
        return;
    }
    kl_commit_enqueue(s, t);
}

static void start_lease(struct kl_forward_work *w, const struct kl_wire_ask *a)
{
    static const enum kl_lease_kind kinds[KL_WIRE_KINDS] = {
        [KL_WIRE_GRANT] = KL_LEASE_GRANT,
        [KL_WIRE_KEEPALIVE] = KL_LEASE_KEEPALIVE,
        [KL_WIRE_REVOKE] = KL_LEASE_REVOKE,
        [KL_WIRE_LEASE_TTL] = KL_LEASE_TTL,
    };
    struct kl_store *s = w->forward->store;
    w->lease = (struct kl_lease_req){.kind = kinds[a->kind],
                                     .id = a->id,
                                     .ttl_s = a->num,
                                     .alarm = true, // it was looked at there
                                     .cb = lease_done,
                                     .loop = s->loop,
                                     .store = s,
                                     .server = w->from,
                                     .seq = w->seq,
                                     .again = a->again};
    kl_lease_start(s, &w->lease);
}

static void start_compact(struct kl_forward_work *w, const struct kl_wire_ask *a)
{
    struct kl_store *s = w->forward->store;
    w->compact = (struct kl_compact_wait){.rev = a->id,
                                          .cb = compact_done,
                                          .loop = s->loop,
                                          .store = s,
                                          .server = w->from,
                                          .seq = w->seq,
                                          .again = a->again};
    kl_compact_start(s, &w->compact);
}

static void take_ask(struct kl_forward *f, uint64_t from, struct kl_str item)
{
    struct kl_wire_ask a;
    void *mem = NULL;
    struct kl_store *s = f->store;
    int r = kl_wire_get_ask(item, &a, &mem);
    if (r == KL_EPROTO) {
        kl_log(KL_LOG_WARN, "store", "a transaction that cannot be read peer=%016llx",
               (unsigned long long)from);
        return;
    }
    if (r)
        return; // without memory: asked for again
    struct kl_forward_work *w = NULL;
    if (!kl_store_leads(s) || s->stopping) {
        struct kl_wire_answer no = {.seq = a.seq, .attempt = a.attempt, .outcome = KL_WIRE_RETRY};
        send_answer(f, from, &no);
    } else if (!(a.again && under_way(f, from, &a))) {
        w = calloc(1, sizeof(*w));
    }
    if (!w) {
        kl_wire_drop_body(&a.body);
        free(mem);
        return;
    }
    w->forward = f;
    w->from = from;
    w->seq = a.seq;
    w->attempt = a.attempt;
    w->kind = a.kind;
    w->txn.body = a.body;
    w->mem = mem;
    w->next = f->works;
    w->pprev = &f->works;
    if (w->next)
        w->next->pprev = &w->next;
    f->works = w;
    if (a.kind == KL_WIRE_TXN)
        start_txn(w, &a);
    else if (a.kind == KL_WIRE_COMPACT)
        start_compact(w, &a);
    else
        start_lease(w, &a);
}

void kl_forward_asked(struct kl_forward *f, uint64_t from, struct kl_str items)
{
    struct kl_str item;
    int r;
    while ((r = kl_wire_next(&items, &item)) == 1)
        take_ask(f, from, item);
}

void kl_forward_serve_fini(struct kl_forward *f)
{
    for (int i = 0; i < KL_FORWARD_SERVERS; i++) {
        free(f->peer[i].seen);
        if (f->peer[i].id)
            kl_buf_fini(&f->peer[i].out);
    }
}
