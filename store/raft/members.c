// SPDX-License-Identifier: Apache-2.0
// Changes of the membership: taken anywhere, done by the leader one after the other; and the rule
// that keeps the number of voters odd.
#include "store/raft/raft_int.h"
#include "store/raft/coding.h"
#include "store/raft/wire.h"
#include "store/store_int.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

enum {
    CHANGE = KL_RAFT_WIRE_OWN,
    RESULT,
    GONE, // "you were removed", while you are still listened to
    HEAD = 8,
    MAX_RUNNING = 64,
    PAIR_ELECTIONS = 10, // for the second of a pair
    PAIR_MIN_MS = 3000,
    GONE_MS = 2000, // for answers that are on their way
};

// A change that the leader does, in steps.
struct kl_raft_running {
    struct kl_raft_running *next;
    enum kl_raft_change_op op;
    uint64_t id;
    char address[KL_RAFT_ADDRESS_MAX + 1];
    uint64_t from, seq; // from 0: nobody asked
    int64_t until_ms;
    int step;
    bool waiting; // for a callback
    struct kl_raft_proposal prop;
    struct kl_raft *r;
};

static void advance(struct kl_raft *r);

static int role_of(struct kl_raft *r, uint64_t id)
{
    size_t n;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    for (size_t i = 0; i < n; i++) {
        if (m[i].id == id)
            return m[i].role;
    }
    return -1;
}

static size_t count_voters(struct kl_raft *r)
{
    size_t n, voters = 0;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    for (size_t i = 0; i < n; i++)
        voters += m[i].role == RAFT_VOTER;
    return voters;
}

static const char *address_of(struct kl_raft *r, uint64_t id)
{
    for (size_t i = 0; i < r->naddresses; i++) {
        if (r->address[i].id == id)
            return r->address[i].address;
    }
    return "";
}

// ---- answers ----

static void run_change_cb(struct kl_task *t)
{
    struct kl_raft_change *c = KL_CONTAINER_OF(t, struct kl_raft_change, task);
    c->cb(c);
}

// The first of this server's changes ends.
static void end_change(struct kl_raft *r, int code, const char *text)
{
    struct kl_raft_change *c = r->changes;
    r->changes = c->next;
    if (!r->changes)
        r->changes_end = &r->changes;
    r->changing = false;
    c->code = code ? kl_error_set(&c->err, code, "%s", text[0] ? text : kl_err_text(code)) : 0;
    c->task.run = run_change_cb;
    kl_loop_post(c->loop, &c->task);
}

// An answer to an earlier question is none to this one.
static void take_result(struct kl_raft *r, uint64_t from, uint64_t seq, int code, const char *text)
{
    if (!r->changing || !r->changes || from != r->change_to || seq != r->change_seq)
        return;
    if (code == KL_EAGAIN)
        r->changing = false; // by whoever leads now
    else
        end_change(r, code, text);
}

static void send_result(struct kl_raft *r, uint64_t to, char kind, uint64_t seq, int code,
                        const char *text)
{
    size_t n = strlen(text);
    struct kl_bytes *b = r->peers ? kl_bytes_alloc(HEAD + 12 + n) : NULL;
    if (!b)
        return;
    memset(b->p, 0, HEAD);
    b->p[0] = KL_RAFT_WIRE_VERSION;
    b->p[1] = kind;
    kl_put_u64(b->p + HEAD, seq);
    kl_put_u32(b->p + HEAD + 8, (uint32_t)code);
    memcpy(b->p + HEAD + 12, text, n);
    kl_peers_send(r->peers, to, KL_PEER_RAFT, b);
    kl_bytes_unref(b);
}

static void end_running(struct kl_raft *r, int code, const char *text)
{
    struct kl_raft_running *k = r->running;
    r->running = k->next;
    if (code)
        kl_log(KL_LOG_WARN, "raft", "change op=%d server=%016llx: %s", k->op,
               (unsigned long long)k->id, text);
    if (k->from == r->id) {
        take_result(r, r->id, k->seq, code, text);
    } else if (k->from) {
        send_result(r, k->from, RESULT, k->seq, code, text);
    }
    free(k);
}

// ---- steps ----

static void step_done(struct kl_raft *r, int code)
{
    struct kl_raft_running *k = r->running;
    if (!k)
        return;
    k->waiting = false;
    if (!code) {
        k->step++;
        return; // the next poll goes on
    }
    end_running(r, code == KL_EUNAVAILABLE ? KL_EAGAIN : code, kl_err_text(code));
}

static void node_changed(struct kl_raft_node_change *c, int code)
{
    step_done(KL_CONTAINER_OF(c, struct kl_raft, node_change), code);
}

static void node_change(struct kl_raft *r, enum kl_raft_node_op op, uint64_t id, int role)
{
    struct kl_raft_running *k = r->running;
    r->node_change =
        (struct kl_raft_node_change){.op = op, .id = id, .role = role, .cb = node_changed};
    k->waiting = true;
    int e = kl_raft_node_change(r->node, &r->node_change);
    if (!e)
        return;
    k->waiting = false;
    if (e == KL_EUNAVAILABLE)
        end_running(r, KL_EAGAIN, "this server does not lead any more");
    else if (e != KL_ECONFLICT) // something is being written: soon again
        end_running(r, e, kl_err_text(e));
}

static void peer_proposed(struct kl_raft_proposal *p, int code)
{
    struct kl_raft_running *k = KL_CONTAINER_OF(p, struct kl_raft_running, prop);
    struct kl_raft *r = k->r;
    if (r->running == k)
        step_done(r, code);
    else
        free(k);
}

static void propose_address(struct kl_raft *r, uint64_t id, const char *address)
{
    struct kl_raft_running *k = r->running;
    struct kl_raft_peer_entry e = {r->cluster_id, id, kl_str(address)};
    struct raft_buffer *v = malloc(sizeof(*v));
    if (!v || kl_raft_peer_encode(&e, r->nonce, 0, v)) {
        free(v);
        end_running(r, KL_ENOMEM, "out of memory");
        return;
    }
    k->prop = (struct kl_raft_proposal){.cb = peer_proposed};
    k->waiting = true;
    kl_raft_node_propose(r->node, &k->prop, v, 1);
}

static void done(struct kl_raft *r)
{
    end_running(r, 0, "");
}

static void step_add(struct kl_raft *r, struct kl_raft_running *k)
{
    int role = role_of(r, k->id);
#ifdef KL_RAFT_ALONE
    end_running(r, KL_EUNSUPPORTED,
                "the raft library of this build is not safe for more than one server");
    return;
#endif
    if (k->step == 0 && k->address[0] && strcmp(address_of(r, k->id), k->address) != 0)
        propose_address(r, k->id, k->address);
    else if (role < 0)
        node_change(r, KL_RAFT_NODE_ADD, k->id, 0);
    else if (role == RAFT_SPARE)
        node_change(r, KL_RAFT_NODE_ROLE, k->id, RAFT_STANDBY);
    else
        done(r);
}

// Nobody replicates to it any more, so that it would never learn why.
static void dismiss(struct kl_raft *r, uint64_t id)
{
    send_result(r, id, GONE, 0, 0, "");
    propose_address(r, id, "");
}

static void step_remove(struct kl_raft *r, struct kl_raft_running *k)
{
    int role = role_of(r, k->id);
    if (role == RAFT_VOTER && count_voters(r) == 1)
        end_running(r, KL_EINVALID, "it is the only voter");
    else if (k->id == r->id && role == RAFT_VOTER && k->step == 0)
        node_change(r, KL_RAFT_NODE_TRANSFER, 0, 0);
    else if (k->id == r->id && role == RAFT_VOTER)
        end_running(r, KL_EAGAIN, "another server leads now");
    else if (role >= 0)
        node_change(r, KL_RAFT_NODE_REMOVE, k->id, 0);
    else if (address_of(r, k->id)[0])
        dismiss(r, k->id);
    else if (k->step == 0)
        end_running(r, KL_ENOTFOUND, "no such server");
    else
        done(r);
}

static void step_role(struct kl_raft *r, struct kl_raft_running *k, int want)
{
    int role = role_of(r, k->id);
    if (role < 0)
        end_running(r, KL_ENOTFOUND, "no such server");
    else if (role == want)
        done(r);
    else if (want != RAFT_VOTER && count_voters(r) == 1)
        end_running(r, KL_EINVALID, "it is the only voter");
    else if (k->id == r->id && k->step == 0)
        node_change(r, KL_RAFT_NODE_TRANSFER, 0, 0);
    else if (k->id == r->id)
        end_running(r, KL_EAGAIN, "another server leads now");
    else
        node_change(r, KL_RAFT_NODE_ROLE, k->id, want);
}

static void advance(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    struct kl_raft_running *k = r->running;
    if (!k || k->waiting)
        return;
    kl_raft_node_state(r->node, &st);
    if (!st.ready) {
        if (kl_raft_now() >= k->until_ms || st.leader)
            end_running(r, KL_EAGAIN, "this server does not lead");
        return;
    }
    if (kl_raft_now() >= k->until_ms) {
        end_running(r, KL_ETIMEOUT, "the change did not come about in time");
        return;
    }
    switch (k->op) {
    case KL_RAFT_ADD:
        step_add(r, k);
        break;
    case KL_RAFT_REMOVE:
        step_remove(r, k);
        break;
    case KL_RAFT_PROMOTE:
        step_role(r, k, RAFT_VOTER);
        break;
    case KL_RAFT_DEMOTE:
        step_role(r, k, RAFT_STANDBY);
        break;
    case KL_RAFT_TRANSFER:
        if (k->step == 0 && k->id != r->id)
            node_change(r, KL_RAFT_NODE_TRANSFER, k->id, 0);
        else
            done(r);
        break;
    case KL_RAFT_ADDRESS:
    default:
        if (k->step == 0)
            propose_address(r, k->id, k->address);
        else
            done(r);
        break;
    }
}

static int run_here(struct kl_raft *r, enum kl_raft_change_op op, uint64_t id, const char *address,
                    uint64_t from, uint64_t seq)
{
    struct kl_raft_running **end = &r->running;
    size_t n = 0;
    for (; *end; end = &(*end)->next)
        n++;
    struct kl_raft_running *k = n < MAX_RUNNING ? calloc(1, sizeof(*k)) : NULL;
    if (!k)
        return KL_ENOMEM;
    k->op = op;
    k->id = id;
    snprintf(k->address, sizeof(k->address), "%s", address);
    k->from = from;
    k->seq = seq;
    k->until_ms = kl_raft_now() + KL_RAFT_CHANGE_MS;
    k->r = r;
    *end = k;
    return 0;
}

// ---- this server's changes ----

static void send_change(struct kl_raft *r, uint64_t leader, const struct kl_raft_change *c)
{
    size_t n = strlen(c->address);
    struct kl_bytes *b = r->peers ? kl_bytes_alloc(HEAD + 18 + n) : NULL;
    if (!b)
        return;
    memset(b->p, 0, HEAD);
    b->p[0] = KL_RAFT_WIRE_VERSION;
    b->p[1] = CHANGE;
    kl_put_u64(b->p + HEAD, r->change_seq);
    kl_put_u16(b->p + HEAD + 8, (uint16_t)c->op);
    kl_put_u64(b->p + HEAD + 10, c->id);
    memcpy(b->p + HEAD + 18, c->address, n);
    if (!kl_peers_send(r->peers, leader, KL_PEER_RAFT, b))
        r->changing = true;
    kl_bytes_unref(b);
}

static void start_change(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    struct kl_raft_change *c = r->changes;
    if (!c)
        return;
    if (kl_raft_now() >= c->until_ms) {
        end_change(r, r->changing ? KL_ETIMEOUT : KL_EUNAVAILABLE,
                   r->changing ? "the leader did not answer" : "there is no leader");
        return;
    }
    if (r->changing)
        return;
    kl_raft_node_state(r->node, &st);
    r->change_to = st.ready ? r->id : st.leader;
    // Another one in each run, and for each who is asked.
    r->change_seq = r->nonce + ++r->asked_changes;
    if (st.ready)
        r->changing = !run_here(r, c->op, c->id, c->address, r->id, r->change_seq);
    else if (st.leader && st.leader != r->id)
        send_change(r, st.leader, c);
}

static void add_change(struct kl_raft *r, struct kl_raft_change *c)
{
    c->next = NULL;
    c->until_ms = kl_raft_now() + KL_RAFT_CHANGE_MS;
    *r->changes_end = c;
    r->changes_end = &c->next;
}

static void run_change(struct kl_task *t)
{
    struct kl_raft_change *c = KL_CONTAINER_OF(t, struct kl_raft_change, task);
    struct kl_raft *r = kl_raft_of(c->store->backend);
    if (r->closing || c->store->stopping) {
        c->code = kl_error_set(&c->err, KL_ECANCELED, "the store is stopping");
        c->task.run = run_change_cb;
        kl_loop_post(c->loop, &c->task);
        return;
    }
    add_change(r, c);
    start_change(r);
    advance(r);
}

int kl_raft_change(struct kl_store *s, struct kl_raft_change *c, struct kl_error *err)
{
    if (s->ops != &kl_backend_raft)
        return kl_error_set(err, KL_EUNSUPPORTED, "the datastore has no members: it is %s://",
                            s->ops->scheme);
    if (!c->loop)
        c->loop = kl_loop_current();
    c->store = s;
    c->task.run = run_change;
    kl_loop_post(s->loop, &c->task);
    return 0;
}

// ---- messages ----

void kl_raft_member_message(void *arg, uint64_t from, struct kl_str s)
{
    struct kl_raft *r = arg;
    if (s.n < HEAD + 12 || s.p[0] != KL_RAFT_WIRE_VERSION)
        return;
    uint64_t seq = kl_get_u64(s.p + HEAD);
    if (s.p[1] == CHANGE && s.n >= HEAD + 18 && s.n <= HEAD + 18 + KL_RAFT_ADDRESS_MAX) {
        char address[KL_RAFT_ADDRESS_MAX + 1] = {0};
        memcpy(address, s.p + HEAD + 18, s.n - HEAD - 18);
        unsigned op = kl_get_u16(s.p + HEAD + 8);
        if (op <= KL_RAFT_ADDRESS)
            run_here(r, (enum kl_raft_change_op)op, kl_get_u64(s.p + HEAD + 10), address, from,
                     seq);
    } else if (s.p[1] == GONE && role_of(r, from) >= 0 && !r->gone_ms) {
        kl_log(KL_LOG_ERROR, "raft", "this server was removed from the cluster");
        r->gone_ms = kl_raft_now() + GONE_MS;
        if (r->changing && r->changes && r->changes->op == KL_RAFT_REMOVE &&
            r->changes->id == r->id)
            end_change(r, 0, "");
    } else if (s.p[1] == RESULT) {
        char text[256];
        int code = (int32_t)kl_get_u32(s.p + HEAD + 8);
        snprintf(text, sizeof(text), "%.*s", (int)(s.n - HEAD - 12), s.p + HEAD + 12);
        take_result(r, from, seq, code, text);
    }
}

// ---- the rule ----

static int64_t pair_ms(const struct kl_raft *r)
{
    int64_t ms = (int64_t)PAIR_ELECTIONS * KL_RAFT_HEARTBEATS * r->heartbeat_ms;
    return ms < PAIR_MIN_MS ? PAIR_MIN_MS : ms;
}

// Learners that have all but the newest entries.
static uint64_t find_learner(struct kl_raft *r, uint64_t last, uint64_t not_this, size_t *ret_n)
{
    size_t n;
    uint64_t found = 0;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    *ret_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (m[i].role != RAFT_STANDBY || m[i].match + KL_RAFT_CATCH_UP < last ||
            m[i].id == not_this)
            continue;
        found = found ? found : m[i].id;
        ++*ret_n;
    }
    return found;
}

static void follow_rule(struct kl_raft *r, int64_t now)
{
    struct kl_raft_node_state st;
    size_t n, ready, voters = count_voters(r);
    kl_raft_node_state(r->node, &st);
    uint64_t learner = find_learner(r, st.last_index, 0, &ready);
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    for (size_t i = 0; i < n; i++) {
        if (m[i].role == RAFT_SPARE) {
            run_here(r, KL_RAFT_ADD, m[i].id, "", 0, 0);
            return;
        }
    }
    if (voters % 2 && ready >= 2 && voters + 2 <= KL_RAFT_VOTERS_MAX) {
        r->promoted_first = learner;
        r->promoted_ms = now + pair_ms(r);
        run_here(r, KL_RAFT_PROMOTE, learner, "", 0, 0);
    } else if (voters % 2 == 0 && ready) { // the second of a pair
        run_here(r, KL_RAFT_PROMOTE, learner, "", 0, 0);
    } else if (voters % 2 == 0 && now >= r->promoted_ms) {
        // It does not catch up, or one was removed: an even number only makes a majority harder.
        uint64_t id = role_of(r, r->promoted_first) == RAFT_VOTER ? r->promoted_first : 0;
        for (size_t i = 0; !id && i < n; i++)
            id = m[i].role == RAFT_VOTER && m[i].id != r->id ? m[i].id : 0;
        if (id && id != r->id)
            run_here(r, KL_RAFT_DEMOTE, id, "", 0, 0);
        r->promoted_ms = now + pair_ms(r);
    }
}

// ---- what others see ----

static void update_status(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    size_t n;
    const struct kl_raft_node_member *m = kl_raft_node_members(r->node, &n);
    kl_raft_node_state(r->node, &st);
    uint64_t leader = st.ready ? r->id : st.leader;
    pthread_mutex_lock(&r->status_mu);
    r->status = (struct kl_raft_status){
        .id = r->id,
        .leader = leader,
        .term = st.term,
        .last_index = st.last_index,
        .first_index = st.first_index,
        .applied_index = st.applied,
        .log_bytes = st.log_bytes,
        .lag_bytes = atomic_load_explicit(&r->lag, memory_order_relaxed),
        .chain = r->chain,
        .state_hash = r->state,
        .nmembers = n < KL_RAFT_MEMBERS_MAX ? n : KL_RAFT_MEMBERS_MAX,
    };
    for (size_t i = 0; i < r->status.nmembers; i++) {
        struct kl_raft_member *k = &r->status.members[i];
        k->id = m[i].id;
        k->role = (enum kl_raft_role)m[i].role;
        k->match = m[i].match;
        k->self = m[i].id == r->id;
        k->leader = m[i].id == leader;
        k->connected = k->self || (r->peers && kl_peers_connected(r->peers, m[i].id));
        const char *a = k->self && r->peers ? kl_peers_address(r->peers) : address_of(r, m[i].id);
        snprintf(k->address, sizeof(k->address), "%s", a ? a : "");
    }
    pthread_mutex_unlock(&r->status_mu);
}

int kl_raft_status(struct kl_store *s, struct kl_raft_status *ret, struct kl_error *err)
{
    if (s->ops != &kl_backend_raft)
        return kl_error_set(err, KL_EUNSUPPORTED, "the datastore has no members: it is %s://",
                            s->ops->scheme);
    struct kl_raft *r = kl_raft_of(s->backend);
    pthread_mutex_lock(&r->status_mu);
    *ret = r->status;
    pthread_mutex_unlock(&r->status_mu);
    return 0;
}

static void run_address_cb(struct kl_raft_change *c)
{
    free(c);
}

// Its own address changed: the others are told.
static void tell_address(struct kl_raft *r, int64_t now)
{
    const char *mine = r->peers ? kl_peers_address(r->peers) : NULL;
    if (!mine || now < r->address_ms || role_of(r, r->id) < 0 ||
        strcmp(address_of(r, r->id), mine) == 0 || strlen(mine) > KL_RAFT_ADDRESS_MAX)
        return;
    struct kl_raft_change *c = calloc(1, sizeof(*c));
    r->address_ms = now + KL_RAFT_CHANGE_MS;
    if (!c)
        return;
    c->op = KL_RAFT_ADDRESS;
    c->id = r->id;
    snprintf(c->address, sizeof(c->address), "%s", mine);
    c->cb = run_address_cb;
    c->loop = kl_core_loop(r->core);
    add_change(r, c);
}

void kl_raft_members_poll(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    int64_t now = kl_raft_now();
    if (!r->started)
        return;
    kl_raft_node_state(r->node, &st);
    start_change(r);
    advance(r);
    update_status(r);
    if (r->gone_ms && now >= r->gone_ms) {
        struct kl_error err;
        kl_raft_mark_removed(r->dir);
        kl_raft_check_removed(r->dir, &err);
        kl_raft_fatal(r, &err);
    }
    if (now < r->rule_ms)
        return;
    r->rule_ms = now + KL_RAFT_RULE_MS;
    tell_address(r, now);
    if (!st.ready || !r->led)
        r->promoted_ms = now + pair_ms(r); // a new leader waits for the second of a pair
    r->led = st.ready;
    if (st.ready && !r->running)
        follow_rule(r, now);
    advance(r);
}

void kl_raft_members_close(struct kl_raft *r)
{
    while (r->changes)
        end_change(r, KL_ECANCELED, "the store is stopping");
    for (struct kl_raft_running *k; (k = r->running);) {
        r->running = k->next;
        free(k);
    }
}
