// SPDX-License-Identifier: Apache-2.0
// The asking side (store/forward.h). What was asked for is the transaction itself, in one of the
// lists; nothing is allocated for it but the message that carries it.
#include "store/forward_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include "base/rand.h"
#include "store/peer/peers.h"
#include <stdlib.h>

enum {
    DEADLINE_MS = 7000, // etcd's: 5 s and two elections
    SILENCE_MS = 2000,
    RETRY_MS = 50,
    TICK_MS = 100,
    MESSAGE_BYTES = 1 << 20, // soft
};

// ---- who evaluates ----

bool kl_store_leads(const struct kl_store *s)
{
    return !s->forward || s->ops->leader(s->backend) == 0;
}

void kl_forward_clear(struct kl_txn *t)
{
    t->confirmed = t->again = t->matched = t->replayed = t->read_here = t->jumped = false;
    t->where = KL_FORWARD_NONE;
    t->attempt = 0;
    t->server = t->seq = 0;
    t->deadline_ms = t->sent_ms = 0;
    t->await_rev = 0;
}

static bool is_read(const struct kl_store *s, const struct kl_txn *t)
{
    return t->internal == KL_WORK_TXN && s->ops->confirm_head &&
           (t->read_here || !kl_txn_writes(&t->body));
}

static void wait_here(struct kl_forward *f, struct kl_txn *t, int64_t not_before_ms)
{
    int64_t now = kl_store_mono_ms(f->store);
    if (!t->deadline_ms)
        t->deadline_ms = now + DEADLINE_MS;
    t->sent_ms = not_before_ms ? now + not_before_ms : 0;
    kl_forward_enter(f, t, KL_FORWARD_WAITING);
    if (!f->tick_ms) {
        f->tick_ms = now + TICK_MS;
        kl_store_arm_timer(f->store);
    }
}

static void answer(struct kl_forward *f, struct kl_txn *t, int code, const char *text)
{
    kl_forward_leave(f, t);
    kl_txn_reset(t);
    t->code = kl_error_set(&t->err, code, "%s", text);
    kl_commit_answer(f->store, t);
}

static void answer_maybe(struct kl_forward *f, struct kl_txn *t)
{
    answer(f, t, KL_EMAYBE, "etcdserver: request timed out");
}

bool kl_forward_takes(struct kl_store *s, struct kl_txn *t)
{
    struct kl_forward *f = s->forward;
    if (t->matched) {
        kl_commit_answer(s, t);
        return true;
    }
    if (!f || t->internal == KL_WORK_HEAD)
        return false;
    if (t->jumped && t->again) {
        answer_maybe(f, t);
        return true;
    }
    uint64_t leader = s->ops->leader(s->backend);
    bool another = t->server && t->server != f->id; // another server's
    if (leader && (another || !kl_txn_is_asked(t))) {
        answer(f, t, KL_EAGAIN, "this server is not the leader");
        return true;
    }
    if (leader && s->o.read_only && t->internal != KL_WORK_COMPACT && kl_fence_refuses(s, t)) {
        kl_commit_answer(s, t); // it may not leave either
        return true;
    }
    if (leader && (leader == KL_LEADER_NONE || !is_read(s, t))) {
        wait_here(f, t, 0);
        return true;
    }
    // Also what was sent once: its sender may have evaluated it itself since then.
    int seen = t->server ? kl_forward_seen(f, t->server, t->seq) : 0;
    if (!seen || (seen == KL_EMAYBE && !t->again))
        return false;
    if (seen == 1 && another) {
        t->code = 0;
        t->matched = true;
        kl_commit_answer(s, t);
    } else {
        answer_maybe(f, t);
    }
    return true;
}

void kl_forward_elsewhere(struct kl_store *s, struct kl_txn *t)
{
    kl_txn_reset(t);
    t->read_here = t->confirmed = false;
    wait_here(s->forward, t, 0);
}

void kl_forward_unconfirmed(struct kl_store *s, struct kl_txn *t)
{
    struct kl_forward *f = s->forward;
    if (t->matched) { // meanwhile, with its results
        kl_commit_answer(s, t);
        return;
    }
    kl_txn_reset(t);
    if (t->server && t->server != f->id)
        answer(f, t, KL_EAGAIN, "the datastore's head cannot be confirmed");
    else
        wait_here(f, t, RETRY_MS);
}

// ---- lost and confirmed ----

static void lose(struct kl_forward *f)
{
    f->losses++;
    kl_forward_move_all(f, KL_FORWARD_SENT, KL_FORWARD_LOST);
}

// Everything that was in the log when this was asked has come up: what was not found is not there.
static void confirmed(struct kl_txn *c)
{
    struct kl_forward *f = KL_CONTAINER_OF(c, struct kl_forward, confirm);
    f->confirming = false;
    bool good = !c->code && f->losses == f->confirm_losses;
    if (c->code) // again with a tick
        f->confirm_after_ms = kl_store_mono_ms(f->store) + RETRY_MS;
    for (struct kl_txn *t; (t = f->lists[KL_FORWARD_CONFIRMING].first);) {
        t->again = true;
        t->sent_ms = 0;
        if (good && t->jumped)
            answer_maybe(f, t);
        else
            kl_forward_enter(f, t, good ? KL_FORWARD_WAITING : KL_FORWARD_LOST);
    }
    kl_forward_run(f->store);
}

static void confirm_lost(struct kl_forward *f)
{
    struct kl_store *s = f->store;
    if (!f->lists[KL_FORWARD_LOST].first || f->confirming ||
        kl_store_mono_ms(s) < f->confirm_after_ms)
        return;
    kl_forward_move_all(f, KL_FORWARD_LOST, KL_FORWARD_CONFIRMING);
    f->confirming = true;
    f->confirm_losses = f->losses;
    f->confirm =
        (struct kl_txn){.cb = confirmed, .loop = s->loop, .store = s, .internal = KL_WORK_HEAD};
    if (!s->ops->confirm_head) { // what was stored has come up already
        confirmed(&f->confirm);
        return;
    }
    atomic_fetch_add_explicit(&s->queued, 1, memory_order_relaxed);
    kl_commit_confirm(s, &f->confirm);
}

// ---- sending ----

static void fill_ask(const struct kl_txn *t, struct kl_wire_ask *a)
{
    *a = (struct kl_wire_ask){.seq = t->seq, .attempt = t->attempt + 1, .again = t->again};
    if (t->internal == KL_WORK_TXN) {
        a->kind = KL_WIRE_TXN;
        a->body = t->body;
    } else if (t->internal == KL_WORK_COMPACT) {
        a->kind = KL_WIRE_COMPACT;
        a->id = kl_compact_asked(t);
    } else {
        kl_lease_fill_ask(t, a);
    }
}

// Up to a message's worth of those that wait, from `first` on. *ret_n says how many.
static struct kl_bytes *make_message(struct kl_forward *f, size_t *ret_n)
{
    size_t bytes = KL_WIRE_HEAD, n = 0, room = KL_FORWARD_WINDOW - f->nsent;
    int64_t now = kl_store_mono_ms(f->store);
    struct kl_wire_ask a;
    for (struct kl_txn *t = f->lists[KL_FORWARD_WAITING].first;
         t && n < room && bytes < MESSAGE_BYTES; t = t->next, n++) {
        if (now < t->sent_ms || kl_forward_number(f, t))
            break;
        fill_ask(t, &a);
        size_t more = kl_wire_ask_size(&a);
        if (n && bytes + more > KL_PEER_MAX_MESSAGE)
            break;
        bytes += more;
    }
    struct kl_bytes *msg = n ? kl_bytes_alloc(bytes) : NULL;
    if (!msg)
        return NULL;
    kl_wire_put_head(msg->p, KL_WIRE_ASK);
    char *p = msg->p + KL_WIRE_HEAD;
    struct kl_txn *t = f->lists[KL_FORWARD_WAITING].first;
    for (size_t i = 0; i < n; i++, t = t->next) {
        fill_ask(t, &a);
        p = kl_wire_put_ask(p, &a);
    }
    *ret_n = n;
    return msg;
}

static void send_waiting(struct kl_forward *f)
{
    int64_t now = kl_store_mono_ms(f->store);
    for (;;) {
        size_t n = 0;
        struct kl_bytes *msg = make_message(f, &n);
        int r = msg ? kl_peers_send(f->peers, f->target, KL_PEER_FORWARD, msg) : KL_ENOMEM;
        kl_bytes_unref(msg);
        if (r)
            return; // again with the next tick, or when the connection is back
        for (struct kl_txn *t; n-- && (t = f->lists[KL_FORWARD_WAITING].first);) {
            t->attempt++;
            t->sent_ms = now;
            kl_forward_enter(f, t, KL_FORWARD_SENT);
        }
    }
}

// What waits and can be evaluated here goes to the queue.
static void take_home(struct kl_forward *f)
{
    struct kl_store *s = f->store;
    int64_t now = kl_store_mono_ms(s);
    bool any = false;
    for (struct kl_txn *t = f->lists[KL_FORWARD_WAITING].first, *next; t; t = next) {
        next = t->next;
        if ((f->target && !is_read(s, t)) || now < t->sent_ms)
            continue;
        kl_forward_leave(f, t);
        kl_queue_push(&s->queue, t);
        any = true;
    }
    if (any)
        kl_commit_pump(s);
}

void kl_forward_run(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    if (!f || s->stopping)
        return;
    uint64_t leader = s->ops->leader(s->backend);
    if (leader != f->target) {
        lose(f);
        f->target = leader;
    }
    if (leader == KL_LEADER_NONE)
        return;
    if (f->lists[KL_FORWARD_WAITING].first)
        take_home(f);
    if (leader && !(f->peers && kl_peers_connected(f->peers, leader)))
        return;
    confirm_lost(f);
    if (leader && f->lists[KL_FORWARD_WAITING].first)
        send_waiting(f);
}

// ---- what comes back ----

static void deliver(struct kl_forward *f, struct kl_txn *t)
{
    struct kl_store *s = f->store;
    kl_forward_leave(f, t);
    if (!t->read_here) {
        kl_commit_answer(s, t);
        return;
    }
    kl_forward_forget(s, t); // that one is not in the log: the next time it is a new one
    t->again = t->jumped = false;
    t->confirmed = true;
    kl_queue_push(&s->queue, t);
    kl_commit_pump(s);
}

static void take_answer(struct kl_forward *f, uint64_t from, const struct kl_wire_answer *a)
{
    struct kl_txn *t = kl_forward_mine(f, a->seq);
    if (!t || t->attempt != a->attempt || from != f->target || t->where != KL_FORWARD_SENT)
        return;
    if (t->jumped && a->outcome == KL_WIRE_IN_LOG) { // seen by now, or never
        kl_forward_enter(f, t, KL_FORWARD_LOST);
        kl_forward_run(f->store);
        return;
    }
    if (t->jumped && t->again) { // what came of an earlier sending is not in this answer
        answer_maybe(f, t);
        return;
    }
    switch (a->outcome) {
    case KL_WIRE_RETRY:
        t->jumped = false;
        wait_here(f, t, RETRY_MS);
        return;
    case KL_WIRE_READS:
        if (t->internal != KL_WORK_TXN)
            return;
        t->read_here = true;
        break;
    case KL_WIRE_LEASE:
        if (t->internal != KL_WORK_LEASE)
            return;
        kl_lease_take_answer(t, a->ttl_ms, a->left_ms);
        t->code = 0;
        break;
    case KL_WIRE_ERROR:
        if (a->code == KL_EMAYBE) { // the log will tell
            kl_forward_enter(f, t, KL_FORWARD_LOST);
            return;
        }
        t->code = kl_error_set(&t->err, a->code, "%.*s", KL_PRI(a->text));
        break;
    default: // in the log: it comes up from there
        return;
    }
    t->rev = t->await_rev = a->rev;
    kl_forward_enter(f, t, KL_FORWARD_READY);
    if (f->store->view->rev >= a->rev)
        deliver(f, t);
}

static void take_answers(struct kl_forward *f, uint64_t from, struct kl_str items)
{
    struct kl_str item;
    struct kl_wire_answer a;
    while (kl_wire_next(&items, &item) == 1) {
        if (!kl_wire_get_answer(item, &a))
            take_answer(f, from, &a);
    }
}

static void message(void *arg, uint64_t from, struct kl_str msg)
{
    struct kl_forward *f = arg;
    enum kl_wire_what what;
    struct kl_str items;
    if (from == f->id || kl_wire_open(msg, &what, &items)) {
        kl_log(KL_LOG_WARN, "store", "a message that cannot be read peer=%016llx",
               (unsigned long long)from);
        return;
    }
    if (what == KL_WIRE_ASK)
        kl_forward_asked(f, from, items);
    else
        take_answers(f, from, items);
}

static void state(void *arg, uint64_t id, bool connected)
{
    struct kl_forward *f = arg;
    if (id != f->target)
        return;
    if (!connected)
        lose(f);
    kl_forward_run(f->store);
}

// ---- in the log ----

static void matched(struct kl_forward *f, struct kl_txn *t, const struct kl_forwarded *e,
                    const struct kl_batch *b)
{
    t->row_at = e->row_at;
    t->row_n = e->row_n;
    t->rev = kl_batch_rev_at(b, e->row_at + e->row_n);
    t->matched = true;
    t->replayed = false;
    if (t->where == KL_FORWARD_NONE)
        return; // in a queue of the core, or in a batch that will fail: answered from there
    kl_forward_leave(f, t);
    kl_commit_answer(f->store, t);
}

static void deliver_ready(struct kl_forward *f)
{
    for (struct kl_txn *t = f->lists[KL_FORWARD_READY].first, *next; t; t = next) {
        next = t->next;
        if (t->await_rev <= f->store->view->rev)
            deliver(f, t);
    }
}

void kl_forward_jumped(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    for (size_t i = 0; f && i < f->cap_mine; i++) {
        struct kl_txn *t = f->mine[i];
        if (!t || t->matched || t->where == KL_FORWARD_READY)
            continue;
        t->jumped = t->jumped || t->again || t->where == KL_FORWARD_SENT ||
                    t->where == KL_FORWARD_LOST || t->where == KL_FORWARD_CONFIRMING;
        if (t->jumped && t->where == KL_FORWARD_WAITING)
            answer_maybe(f, t);
    }
    if (f)
        deliver_ready(f);
}

void kl_forward_applied(struct kl_store *s, const struct kl_batch *b, bool own)
{
    struct kl_forward *f = s->forward;
    if (!f)
        return;
    for (size_t i = 0; i < b->nforwarded; i++) {
        kl_forward_note(f, &b->forwarded[i]);
        struct kl_txn *t = own ? NULL : kl_forward_find(s, &b->forwarded[i]);
        if (t)
            matched(f, t, &b->forwarded[i], b);
    }
    deliver_ready(f);
}

// ---- time ----

int64_t kl_forward_next_ms(const struct kl_store *s)
{
    return s->forward && s->forward->tick_ms ? s->forward->tick_ms : INT64_MAX;
}

static void time_out(struct kl_forward *f, struct kl_txn *t)
{
    if (t->attempt)
        answer_maybe(f, t);
    else
        answer(f, t, KL_EUNAVAILABLE,
               f->target == KL_LEADER_NONE ? "etcdserver: no leader"
                                           : "etcdserver: request timed out");
}

void kl_forward_tick(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    int64_t now = kl_store_mono_ms(s);
    if (!f || !f->tick_ms || now < f->tick_ms)
        return;
    bool any = false;
    for (int l = KL_FORWARD_WAITING; l < KL_FORWARD_LISTS; l++) {
        for (struct kl_txn *t = f->lists[l].first, *next; t; t = next) {
            next = t->next;
            if (now >= t->deadline_ms)
                time_out(f, t);
            else if (l == KL_FORWARD_SENT && now - t->sent_ms >= SILENCE_MS)
                kl_forward_enter(f, t, KL_FORWARD_LOST);
        }
        any = any || f->lists[l].first;
    }
    f->tick_ms = any ? now + TICK_MS : 0;
    kl_forward_run(s);
}

// ---- life ----

int kl_forward_open(struct kl_store *s, struct kl_error *err)
{
    if (!s->ops->leader)
        return 0;
    struct kl_forward *f = calloc(1, sizeof(*f));
    if (!f)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    f->store = s;
    f->peers = s->o.peers;
    f->id = f->peers ? kl_peers_id(f->peers) : 0;
    f->seq = kl_rand_u64() >> 2; // an earlier run's are still remembered
    f->target = KL_LEADER_NONE;
    for (int l = 0; l < KL_FORWARD_LISTS; l++)
        f->lists[l].end = &f->lists[l].first;
    s->forward = f;
    return 0;
}

void kl_forward_start(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    if (f && f->peers)
        kl_peers_handle(f->peers, KL_PEER_FORWARD,
                        &(struct kl_peer_handler){
                            .loop = s->loop, .message = message, .state = state, .arg = f});
}

void kl_forward_detach(struct kl_store *s)
{
    if (s->forward && s->forward->peers)
        kl_peers_handle(s->forward->peers, KL_PEER_FORWARD, NULL);
}

void kl_forward_cancel(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    for (int l = KL_FORWARD_WAITING; f && l < KL_FORWARD_LISTS; l++) {
        for (struct kl_txn *t; (t = f->lists[l].first);)
            answer(f, t, t->attempt ? KL_EMAYBE : KL_ECANCELED, "the store is stopping");
    }
}

void kl_forward_free(struct kl_store *s)
{
    struct kl_forward *f = s->forward;
    if (!f)
        return;
    kl_forward_serve_fini(f);
    free(f->mine);
    free(f);
    s->forward = NULL;
}
