// SPDX-License-Identifier: Apache-2.0
// A server's events and what follows on each.
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kl_raft_node_fail(struct kl_raft_node *n, const struct kl_error *err)
{
    if (n->failed)
        return;
    n->failed = true;
    n->env.fatal(n->env.arg, err);
}

// ---- after an event ----

static void barrier_done(struct raft_barrier *req, int status)
{
    struct kl_raft_node *n = req->data;
    if (n->barrier == req)
        n->barrier = NULL;
    free(req);
    if (!status && raft_state(&n->raft) == RAFT_LEADER)
        n->ready = true;
}

// The first thing that a leader writes, before any message can reach libraft again.
static void begin_leading(struct kl_raft_node *n)
{
    for (size_t i = 0; i < n->npeers; i++)
        n->peer[i] = (struct kl_raft_peer){.id = n->peer[i].id};
    if (n->meta.vote != n->o.id) { // by being the only voter, in a term that was another's
        kl_raft_node_restart(n, UINT64_MAX);
        return;
    }
    struct raft_barrier *req = calloc(1, sizeof(*req));
    if (req) {
        req->data = n;
        n->barrier = req;
        if (!raft_barrier(&n->raft, req, barrier_done))
            return;
        n->barrier = NULL;
        free(req);
    }
    kl_raft_node_restart(n, UINT64_MAX);
}

static void look(struct kl_raft_node *n)
{
    int role = raft_state(&n->raft);
    if (role == RAFT_LEADER && n->role != RAFT_LEADER) {
        n->role = role;
        begin_leading(n);
        role = raft_state(&n->raft);
    }
    n->role = role;
    if (role != RAFT_LEADER)
        n->ready = false;
    raft_id leader = 0;
    const char *address;
    if (role == RAFT_LEADER)
        leader = n->ready ? n->o.id : 0;
    else if (role == RAFT_FOLLOWER)
        raft_leader(&n->raft, &leader, &address);
    n->leader = leader;
    if (n->meta.muted && kl_raft_table_term(n, raft_last_applied(&n->raft)) == n->meta.term &&
        n->leader) {
        // It has an entry of this term's leader, and so all that was committed before.
        struct kl_raft_meta m = n->meta;
        struct kl_error err;
        m.muted = false;
        if (!m.vote) // it may have voted in this term and forgotten it: for nobody else
            m.vote = n->leader;
        if (kl_raft_log_set_meta(n->log, &m, &err))
            kl_raft_node_fail(n, &err);
        else
            n->meta = m;
        kl_log(KL_LOG_INFO, "raft", "caught up: votes again");
    }
    if (n->since_snapshot > (int64_t)n->o.snapshot_bytes)
        raft_set_snapshot_threshold(&n->raft, 1); // with the next entry that is applied
    if ((role == RAFT_UNAVAILABLE || n->unapplied) && !n->stopping && !n->failed)
        kl_raft_node_restart(n, UINT64_MAX); // out of memory somewhere
    if (n->ready && !n->soon) {
        n->soon = true;
        n->env.soon(n->env.arg);
    }
}

void kl_raft_node_soon(struct kl_raft_node *n)
{
    n->soon = false;
    if (n->stopping || n->failed || !n->running)
        return;
    if (n->restarting)
        kl_raft_node_event(n);
    else if (n->ready && raft_state(&n->raft) == RAFT_LEADER)
        kl_raft_net_notice(n);
}

// ---- starting libraft anew ----

void kl_raft_node_restart(struct kl_raft_node *n, uint64_t from)
{
    if (!n->restarting)
        n->restart_from = from;
    n->restarting = true;
    if (!n->soon) {
        n->soon = true;
        n->env.soon(n->env.arg);
    }
}

static void drop_install(struct kl_raft_node *n)
{
    if (n->has_install || n->fetching)
        kl_raft_message_fini(&n->install);
    n->has_install = n->fetching = false;
    memset(&n->install, 0, sizeof(n->install));
}

// libraft is closed; whoever waits in it was told.
// ---- events ----

static bool deliver_install(struct kl_raft_node *n)
{
    if (!n->has_install)
        return false;
    struct raft_message m = n->install;
    char address[24];
    n->has_install = false;
    memset(&n->install, 0, sizeof(n->install));
    snprintf(address, sizeof(address), "%016llx", (unsigned long long)n->fetching_from);
    m.server_id = n->fetching_from;
    m.server_address = address;
    n->incoming = m.install_snapshot.last_index;
    n->recv_cb(&n->io, &m);
    return true;
}

static bool next_event(struct kl_raft_node *n)
{
    if (n->restarting) {
        if (!n->working)
            kl_raft_node_start_anew(n);
        return !n->restarting;
    }
    if (n->writing || n->held)
        return false;
    struct kl_raft_inmsg *m = n->in;
    if (deliver_install(n))
        return true;
    if (m) {
        n->in = m->next;
        if (!n->in)
            n->in_end = &n->in;
        n->in_n--;
        n->in_bytes -= m->n;
        kl_raft_net_deliver(n, m->from, (struct kl_str){m->p, m->n});
        free(m);
        return true;
    }
    if (n->tick_due) {
        n->tick_due = false;
        // Who may not vote does not ask for votes.
        if (!n->meta.muted || raft_state(&n->raft) == RAFT_LEADER)
            n->tick_cb(&n->io);
        return true;
    }
    return kl_raft_node_start_proposal(n);
}

static void finish_stop(struct kl_raft_node *n)
{
    if (!n->stopping || n->working || !n->stopped)
        return;
    kl_raft_node_close_raft(n);
    kl_raft_node_fail_proposals(n);
    drop_install(n);
    void (*stopped)(void *) = n->stopped;
    n->stopped = NULL;
    stopped(n->stopped_arg);
}

void kl_raft_node_event(struct kl_raft_node *n)
{
    if (n->busy)
        return;
    n->busy = true;
    for (;;) {
        if (n->started && !n->failed && !n->stopping) {
            look(n);
            kl_raft_net_flush(n);
            n->m.changed(n->m.arg);
        }
        if (n->stopping || n->failed || !n->started || !next_event(n))
            break;
    }
    n->busy = false;
    finish_stop(n);
}

void kl_raft_node_tick(struct kl_raft_node *n)
{
    n->tick_due = true;
    kl_raft_node_event(n);
}

void kl_raft_node_message(struct kl_raft_node *n, uint64_t from, struct kl_str msg)
{
    if (n->stopping || n->failed || !n->started || n->in_n >= KL_RAFT_INBOX_MAX ||
        n->in_bytes + msg.n > KL_RAFT_INBOX_BYTES)
        return;
    if (!n->in && !n->writing && !n->held && !n->busy && !n->restarting && !n->has_install) {
        n->busy = true;
        kl_raft_net_deliver(n, from, msg);
        n->busy = false;
        kl_raft_node_event(n);
        return;
    }
    struct kl_raft_inmsg *m = malloc(sizeof(*m) + msg.n);
    if (!m)
        return;
    m->next = NULL;
    m->from = from;
    m->n = msg.n;
    memcpy(m->p, msg.p, msg.n);
    *n->in_end = m;
    n->in_end = &m->next;
    n->in_n++;
    n->in_bytes += msg.n;
    kl_raft_node_event(n);
}

void kl_raft_node_hold(struct kl_raft_node *n, bool hold)
{
    bool opens = n->held && !hold;
    n->held = hold;
    if (opens)
        kl_raft_node_event(n);
}

void kl_raft_node_fetched(struct kl_raft_node *n, int code, const struct kl_raft_manifest *m)
{
    struct raft_install_snapshot *a = &n->install.install_snapshot;
    if (!n->fetching)
        return;
    if (code || a->term < n->meta.term || m->index < a->last_index) {
        drop_install(n); // the leader sends it again
        kl_raft_node_event(n);
        return;
    }
    // The state that came is the newer one: the log begins behind it.
    struct raft_configuration c;
    if (kl_raft_conf_decode(m->conf, m->nconf, &c)) {
        drop_install(n);
        return;
    }
    raft_configuration_close(&a->conf);
    a->conf = c;
    a->conf_index = m->conf_index;
    a->last_index = m->index;
    a->last_term = m->term;
    n->fetching = false;
    n->has_install = true;
    kl_raft_node_event(n);
}

void kl_raft_node_state(const struct kl_raft_node *n, struct kl_raft_node_state *ret)
{
    *ret = (struct kl_raft_node_state){
        .role = n->role,
        .ready = n->ready,
        .leader = n->leader,
        .term = n->meta.term,
        .last_index = kl_raft_table_last(n),
        .first_index = n->first,
        .applied = n->started ? raft_last_applied((struct raft *)&n->raft) : 0,
        .log_bytes = n->log_bytes,
        .muted = n->meta.muted,
    };
}

// ---- the end ----

void kl_raft_node_stop(struct kl_raft_node *n, void (*stopped)(void *arg), void *arg)
{
    n->stopped = stopped;
    n->stopped_arg = arg;
    n->stopping = true;
    if (!n->busy)
        finish_stop(n);
}
