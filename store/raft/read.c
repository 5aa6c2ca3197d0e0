// SPDX-License-Identifier: Apache-2.0
// Linearizable reads without the log and without a clock (store.md 4.8): the leader remembers what
// it has applied, then asks the voters in which term they are; when a majority is still in its own,
// nobody else led when the reader came. A follower asks its leader and waits until it has applied
// as much. One round serves all that wait; who comes later gets the next one.
#include "store/raft/raft_int.h"
#include "store/raft/coding.h"
#include "store/raft/wire.h"
#include <stdlib.h>

enum { ASK_TERM = 1, TERM = 2, ASK_INDEX = 3, INDEX = 4, BYTES = 26 };

static void send_read(struct kl_raft *r, uint64_t to, uint8_t kind, uint64_t seq, uint64_t a,
                      uint64_t b)
{
    uint8_t p[BYTES] = {KL_RAFT_WIRE_VERSION, kind};
    kl_put_u64(p + 2, seq);
    kl_put_u64(p + 10, a);
    kl_put_u64(p + 18, b);
    struct kl_bytes *m = r->peers ? kl_bytes_new((struct kl_str){(const char *)p, BYTES}) : NULL;
    if (m)
        kl_peers_send(r->peers, to, KL_PEER_READ, m);
    kl_bytes_unref(m);
}

static void run_head_done(struct kl_task *t)
{
    struct kl_head_req *q = KL_CONTAINER_OF(t, struct kl_head_req, task);
    q->done(q);
}

// The link is the task's while the request waits here.
static void push(struct kl_head_req ***end, struct kl_head_req *q)
{
    q->task.next = NULL;
    **end = q;
    *end = (struct kl_head_req **)(void *)&q->task.next;
}

static struct kl_head_req *pop(struct kl_head_req **list, struct kl_head_req ***end)
{
    struct kl_head_req *q = *list;
    if (!q)
        return NULL;
    *list = (struct kl_head_req *)(void *)q->task.next;
    if (!*list)
        *end = list;
    return q;
}

static void finish(struct kl_raft *r, struct kl_head_req *q, int code)
{
    q->code = code;
    q->rev = r->rev;
    q->task.run = run_head_done;
    kl_loop_defer(kl_core_loop(r->core), &q->task);
}

static void begin_round(struct kl_raft *r);

static void end_round(struct kl_raft *r, int code, uint64_t index)
{
    r->ask.active = false;
    for (size_t i = 0; i < r->naskers; i++)
        send_read(r, r->asker[i].from, INDEX, r->asker[i].seq, code ? 0 : index + 1, 0);
    r->naskers = 0;
    for (struct kl_head_req *q; (q = pop(&r->heads, &r->heads_end));) {
        if (code || r->applied >= index)
            finish(r, q, code);
        else
            push(&r->behind_end, q);
    }
    if (!code && index > r->behind_index)
        r->behind_index = index;
    begin_round(r);
}

// ---- a round ----

static void ask(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    size_t n;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    kl_raft_node_state(r->node, &st);
    r->ask.sent_ms = kl_raft_now();
    if (st.ready) {
        r->ask.term = st.term;
        for (size_t i = 0; i < n; i++) {
            if (m[i].role == RAFT_VOTER && m[i].id != r->id)
                send_read(r, m[i].id, ASK_TERM, r->ask.seq, st.term, 0);
        }
    } else if (st.leader && st.leader != r->id) {
        r->ask.term = 0;
        send_read(r, st.leader, ASK_INDEX, r->ask.seq, 0, 0);
    } else {
        r->ask.sent_ms = 0; // as soon as there is a leader
    }
}

static bool has_majority(struct kl_raft *r)
{
    size_t n, voters = 0, yes = 0;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    for (size_t i = 0; i < n; i++) {
        if (m[i].role != RAFT_VOTER)
            continue;
        voters++;
        yes += m[i].id == r->id;
        for (size_t k = 0; k < r->ask.nyes; k++)
            yes += m[i].id != r->id && r->ask.yes[k] == m[i].id;
    }
    return yes > voters / 2;
}

static void check_round(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    kl_raft_node_state(r->node, &st);
    if (st.ready && r->ask.term == st.term && has_majority(r))
        end_round(r, 0, r->ask.index);
}

// Another one in each run: what answers a question of the run before is no answer to this one's.
static uint64_t next_seq(struct kl_raft *r)
{
    return r->nonce + ++r->ask_seq;
}

static void begin_round(struct kl_raft *r)
{
    if (r->ask.active || (!r->next && !r->naskers_next))
        return;
    r->heads = r->next;
    r->heads_end = r->next ? r->next_end : &r->heads;
    r->next = NULL;
    r->next_end = &r->next;
    memcpy(r->asker, r->asker_next, sizeof(r->asker));
    r->naskers = r->naskers_next;
    r->naskers_next = 0;
    // All that this server answered for is applied here, or about to be.
    r->ask = (struct kl_raft_asked){
        .seq = next_seq(r),
        .index = kl_raft_take_last(r),
        .until_ms = kl_raft_now() + KL_RAFT_HEAD_MS,
        .active = true,
    };
    ask(r);
    check_round(r);
}

void kl_raft_confirm_head(struct kl_backend *b, struct kl_head_req *q)
{
    struct kl_raft *r = kl_raft_of(b);
    q->backend = b;
    push(&r->next_end, q);
    begin_round(r);
}

void kl_raft_read_poll(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    if (r->behind && r->applied >= r->behind_index) {
        for (struct kl_head_req *q; (q = pop(&r->behind, &r->behind_end));)
            finish(r, q, 0);
    }
    if (!r->ask.active || !r->started)
        return;
    kl_raft_node_state(r->node, &st);
    int64_t now = kl_raft_now();
    if (now >= r->ask.until_ms) {
        end_round(r, KL_EUNAVAILABLE, 0);
        return;
    }
    bool other = st.ready ? r->ask.term != st.term : r->ask.term != 0;
    if (!other && now - r->ask.sent_ms < KL_RAFT_ASK_MS)
        return;
    if (other) { // another term: what it answered counts for nothing
        r->ask.nyes = 0;
        r->ask.seq = next_seq(r);
        r->ask.index = kl_raft_take_last(r);
        // Who asked this server must ask the one that leads now.
        for (size_t i = 0; !st.ready && i < r->naskers; i++)
            send_read(r, r->asker[i].from, INDEX, r->asker[i].seq, 0, 0);
        r->naskers = st.ready ? r->naskers : 0;
    }
    ask(r);
    check_round(r);
}

// ---- messages ----

static void take_term(struct kl_raft *r, uint64_t from, uint64_t seq, uint64_t term)
{
    if (!r->ask.active || seq != r->ask.seq || term != r->ask.term ||
        r->ask.nyes == KL_RAFT_MEMBERS_MAX)
        return;
    for (size_t i = 0; i < r->ask.nyes; i++) {
        if (r->ask.yes[i] == from)
            return;
    }
    r->ask.yes[r->ask.nyes++] = from;
    check_round(r);
}

static void take_question(struct kl_raft *r, uint64_t from, uint64_t seq)
{
    struct kl_raft_node_state st;
    kl_raft_node_state(r->node, &st);
    if (!st.ready || r->naskers_next == KL_RAFT_MEMBERS_MAX) {
        send_read(r, from, INDEX, seq, 0, 0);
        return;
    }
    r->asker_next[r->naskers_next].from = from;
    r->asker_next[r->naskers_next++].seq = seq;
    begin_round(r);
}

void kl_raft_read_message(void *arg, uint64_t from, struct kl_str s)
{
    struct kl_raft *r = arg;
    struct kl_raft_node_state st;
    if (r->closing || s.n != BYTES || s.p[0] != KL_RAFT_WIRE_VERSION)
        return;
    uint64_t seq = kl_get_u64(s.p + 2), a = kl_get_u64(s.p + 10);
    switch (s.p[1]) {
    case ASK_TERM:
        kl_raft_node_state(r->node, &st);
        send_read(r, from, TERM, seq, st.term, 0);
        break;
    case TERM:
        take_term(r, from, seq, a);
        break;
    case ASK_INDEX:
        take_question(r, from, seq);
        break;
    case INDEX: // 0: not the leader; asked again soon, of whoever it is then
        if (!r->ask.active || seq != r->ask.seq || r->ask.term)
            break;
        if (a)
            end_round(r, 0, a - 1);
        else
            r->ask.sent_ms = kl_raft_now() - KL_RAFT_ASK_MS + KL_RAFT_AGAIN_MS;
        break;
    default:
        break;
    }
}
