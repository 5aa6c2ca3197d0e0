// SPDX-License-Identifier: Apache-2.0
// Messages out and in, and what is put right on the way (store/raft/node.h).
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include "base/log.h"
#include <stdlib.h>
#include <string.h>

int kl_raft_net_later(struct kl_raft_node *n, struct kl_raft_sent s)
{
    struct kl_raft_sent *p = malloc(sizeof(*p));
    if (!p)
        return RAFT_NOMEM;
    *p = s;
    p->next = NULL;
    *n->sent_end = p;
    n->sent_end = &p->next;
    return 0;
}

// libraft looks at a request after send returned, so callbacks come after the event.
void kl_raft_net_flush(struct kl_raft_node *n)
{
    for (struct kl_raft_sent *p; (p = n->sent);) {
        n->sent = p->next;
        if (!n->sent)
            n->sent_end = &n->sent;
        struct kl_raft_sent s = *p;
        free(p);
        if (s.cb)
            s.cb(s.req, n->stopping ? RAFT_CANCELED : s.status);
        if (!s.get_cb)
            continue;
        struct raft_snapshot *snap = raft_calloc(1, sizeof(*snap));
        const struct kl_raft_manifest *m = &n->manifest;
        int rv = !snap ? RAFT_NOMEM : n->stopping ? RAFT_CANCELED : !m->index ? RAFT_NOTFOUND : 0;
        if (!rv) {
            snap->bufs = raft_calloc(1, sizeof(*snap->bufs));
            rv = snap->bufs ? 0 : RAFT_NOMEM;
        }
        if (!rv) {
            snap->index = m->index;
            snap->term = m->term;
            snap->configuration_index = m->conf_index;
            snap->n_bufs = 1;
            snap->bufs->len = m->ndata;
            snap->bufs->base = raft_malloc(m->ndata + 1);
            rv = !snap->bufs->base || kl_raft_conf_decode(m->conf, m->nconf, &snap->configuration)
                     ? RAFT_NOMEM
                     : 0;
        }
        if (rv) {
            if (snap && snap->bufs)
                raft_free(snap->bufs->base);
            if (snap)
                raft_free(snap->bufs);
            raft_free(snap);
            s.get_cb(s.get, NULL, rv);
        } else {
            memcpy(snap->bufs->base, m->data, m->ndata);
            s.get_cb(s.get, snap, 0);
        }
    }
}

// ---- out ----

static int send_message(struct kl_raft_node *n, uint64_t to, const struct raft_message *m)
{
    struct kl_bytes *b = kl_raft_encode(m);
    if (!b)
        return RAFT_NOMEM;
    int r = n->env.send(n->env.arg, to, b);
    kl_bytes_unref(b);
    return r ? RAFT_NOCONNECTION : 0;
}

// A change of the configuration is on the leader's disk before anybody else has it: of two servers
// the one that it demotes would otherwise be alone with it after the leader's crash, may not be
// elected, and would vote for nobody whose log is shorter.
static unsigned count_sendable(const struct kl_raft_node *n, const struct raft_append_entries *a)
{
    unsigned k = 0;
    while (k < a->n_entries &&
           (a->entries[k].type != RAFT_CHANGE || a->prev_log_index + 1 + k <= n->durable))
        k++;
    return k;
}

// What libraft wants to send in one message may be the whole log: it goes in pieces that a
// follower takes one after the other, and no more of them than it is worth to lose.
static int send_entries(struct kl_raft_node *n, const struct raft_message *m)
{
    unsigned sendable = count_sendable(n, &m->append_entries);
    struct kl_raft_peer *peer = kl_raft_node_peer(n, m->server_id);
    const struct raft_append_entries *a = &m->append_entries;
    struct raft_message piece = *m;
    struct raft_append_entries *p = &piece.append_entries;
    unsigned at = 0;
    size_t total = 0;
    int64_t now = n->env.now_ms(n->env.arg);
    if (!peer)
        return RAFT_NOMEM;
    for (unsigned i = 0; i < sendable; i++)
        total += a->entries[i].buf.len;
    uint64_t end = a->prev_log_index + sendable;
    bool again = total > KL_RAFT_WIRE_CHUNK / 32 && peer->sent_prev == a->prev_log_index &&
                 end <= peer->sent_end && now - peer->sent_ms < KL_RAFT_RESEND_MS;
    total = 0;
    do {
        size_t bytes = 0;
        unsigned k = at;
        while (!again && k < sendable && (k == at || bytes < KL_RAFT_WIRE_CHUNK))
            bytes += a->entries[k++].buf.len;
        p->entries = k > at ? a->entries + at : NULL;
        p->n_entries = k - at;
        p->leader_commit = a->leader_commit < p->prev_log_index + p->n_entries
                               ? a->leader_commit
                               : p->prev_log_index + p->n_entries;
        int rv = send_message(n, m->server_id, &piece);
        if (rv)
            return rv;
        if (p->leader_commit > peer->told)
            peer->told = p->leader_commit;
        p->prev_log_index += k - at;
        p->prev_log_term = k > at ? a->entries[k - 1].term : p->prev_log_term;
        at = k;
        total += bytes;
    } while (!again && at < sendable && total < KL_RAFT_WIRE_BURST);
    if (!again && sendable) {
        peer->sent_prev = a->prev_log_index;
        peer->sent_end = end;
        peer->sent_ms = now;
    }
    return 0;
}

static bool is_voter(const struct kl_raft_node *n)
{
    for (size_t i = 0; i < n->nmembers; i++) {
        if (n->member[i].id == n->o.id)
            return n->member[i].role == RAFT_VOTER;
    }
    return false;
}

// A server votes whatever its own configuration says (Raft 4.2.2): the first of two voters may have
// crashed before the second one knew that it is one. libraft does not, so its answer is amended.
static bool may_vote(struct kl_raft_node *n, uint64_t to)
{
    const struct raft_request_vote *v = n->asked;
    uint64_t last = kl_raft_table_last(n), term = kl_raft_table_term(n, last);
    const char *address;
    raft_id leader;
    if (is_voter(n)) // libraft knows
        return false;
    if (!v || v->candidate_id != to || n->meta.muted || raft_state(&n->raft) != RAFT_FOLLOWER)
        return false;
    raft_leader(&n->raft, &leader, &address);
    if ((leader && !v->disrupt_leader) || v->last_log_term < term ||
        (v->last_log_term == term && v->last_log_index < last))
        return false;
    if (v->pre_vote)
        return v->term >= n->meta.term;
    return v->term == n->meta.term && (!n->meta.vote || n->meta.vote == to) &&
           !n->io.set_vote(&n->io, to) && !n->failed;
}

int kl_raft_net_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
                     raft_io_send_cb cb)
{
    struct kl_raft_node *n = io->impl;
    struct raft_message copy;
    int rv;
    if (m->type == RAFT_IO_APPEND_ENTRIES) {
        rv = send_entries(n, m);
    } else if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT && !m->append_entries_result.rejected) {
        copy = *m;
        if (n->incoming > n->verified)
            n->verified = n->incoming;
        if (copy.append_entries_result.last_log_index > n->verified)
            copy.append_entries_result.last_log_index = n->verified;
        rv = send_message(n, m->server_id, &copy);
    } else if (m->type == RAFT_IO_REQUEST_VOTE_RESULT && !m->request_vote_result.vote_granted) {
        copy = *m;
        copy.request_vote_result.vote_granted = may_vote(n, m->server_id);
        // libraft hides a newer term from a pre-vote: the one with the longest log would never ask
        // in a term that counts.
        if (!copy.request_vote_result.vote_granted && n->asked && n->asked->pre_vote &&
            n->meta.term > n->asked->term)
            copy.request_vote_result.term = n->meta.term;
        rv = send_message(n, m->server_id, &copy);
    } else {
        rv = send_message(n, m->server_id, m);
    }
    // Never an error for what has no connection: libraft 0.15 frees an AppendEntries' entries twice
    // when their answer cannot be sent.
    rv = kl_raft_net_later(n, (struct kl_raft_sent){.req = req, .cb = cb, .status = rv});
    return m->type == RAFT_IO_APPEND_ENTRIES_RESULT ? 0 : rv; // out of memory: the request is lost
}

// Followers apply what they know to be committed; libraft tells them with the next entry or the
// next heartbeat, 100 ms later. This is a heartbeat that comes at once.
void kl_raft_net_notice(struct kl_raft_node *n)
{
    uint64_t applied = raft_last_applied(&n->raft);
    for (size_t i = 0; i < n->nmembers; i++) {
        struct kl_raft_peer *p = NULL;
        for (size_t k = 0; k < n->npeers; k++)
            p = n->peer[k].id == n->member[i].id ? &n->peer[k] : p;
        uint64_t c = p && p->match < applied ? p->match : applied;
        if (!p || p->id == n->o.id || c <= p->told || !kl_raft_table_term(n, c))
            continue;
        struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};
        m.append_entries = (struct raft_append_entries){
            .term = n->meta.term,
            .prev_log_index = c,
            .prev_log_term = kl_raft_table_term(n, c),
            .leader_commit = c,
        };
        if (!send_message(n, p->id, &m))
            p->told = c;
    }
}

// ---- in ----

// Whether the leader's entries replace some of ours that hold a configuration. libraft cannot give
// up one that it took from the log at its start, nor find an older one that a snapshot holds.
static uint64_t find_conf_conflict(struct kl_raft_node *n, const struct raft_append_entries *a)
{
    for (unsigned i = 0; i < a->n_entries; i++) {
        uint64_t index = a->prev_log_index + 1 + i;
        uint64_t term = index >= n->first ? kl_raft_table_term(n, index) : 0;
        if (!term)
            continue;
        if (term != a->entries[i].term)
            return n->nconf && n->conf[n->nconf - 1].index >= index ? index : 0;
    }
    return 0;
}

// What lies below our log is in our snapshot, and committed. libraft, which takes what it has no
// term of for missing, would append it once more behind the end.
static void cut_below(struct kl_raft_node *n, struct raft_append_entries *a)
{
    uint64_t have = n->manifest.index;
    if (!have || a->prev_log_index + 1 >= n->first)
        return;
    uint64_t cut = have - a->prev_log_index;
    if (cut >= a->n_entries) {
        struct raft_message drop = {.type = RAFT_IO_APPEND_ENTRIES, .append_entries = *a};
        kl_raft_message_fini(&drop);
        a->entries = NULL;
        a->n_entries = 0;
    } else {
        a->n_entries -= (unsigned)cut;
        memmove(a->entries, a->entries + cut, a->n_entries * sizeof(*a->entries));
    }
    a->prev_log_index = have;
    a->prev_log_term = n->manifest.term;
}

// Returns false when the message must not reach libraft.
static bool filter_append(struct kl_raft_node *n, struct raft_message *m)
{
    struct raft_append_entries *a = &m->append_entries;
    if (a->term < n->meta.term)
        return true; // is refused
    n->heard_ms = n->env.now_ms(n->env.arg);
    cut_below(n, a);
    n->incoming = a->prev_log_index + a->n_entries;
    uint64_t conflict = find_conf_conflict(n, a);
    if (!conflict)
        return true;
    if (conflict <= raft_last_applied(&n->raft)) {
        struct kl_error err;
        kl_error_set(&err, KL_ECORRUPT,
                     "raft: the leader %016llx has another entry %llu than this server, which "
                     "applied it",
                     (unsigned long long)m->server_id, (unsigned long long)conflict);
        kl_raft_node_fail(n, &err);
        return false;
    }
    kl_raft_node_restart(n, conflict);
    return false;
}

static bool filter_vote(struct kl_raft_node *n, struct raft_request_vote *v)
{
    if (n->meta.muted)
        return false;
    // Only a voter's libraft ever gives its leader up.
    if (!is_voter(n) && n->env.now_ms(n->env.arg) - n->heard_ms >= n->o.election_ms)
        v->disrupt_leader = true;
    // Also when it is the one that leadership is handed to: libraft would vote twice.
    return v->pre_vote || v->term != n->meta.term || !n->meta.vote ||
           n->meta.vote == v->candidate_id;
}

static bool filter_install(struct kl_raft_node *n, uint64_t from, struct raft_message *m)
{
    if (m->install_snapshot.term < n->meta.term)
        return true; // is refused
    if (n->fetching || n->has_install || n->writing)
        return false; // comes again
    n->fetching = true;
    n->fetching_from = from;
    n->install = *m;
    n->m.fetch(n->m.arg, from);
    m->type = 0; // taken
    return false;
}

static void note_result(struct kl_raft_node *n, uint64_t from,
                        const struct raft_append_entries_result *a)
{
    struct kl_raft_peer *p = a->term == n->meta.term ? kl_raft_node_peer(n, from) : NULL;
    if (!p)
        return;
    p->sent_ms = INT64_MIN / 2; // it lives
    if (!a->rejected && a->last_log_index > p->match && a->last_log_index <= kl_raft_table_last(n))
        p->match = a->last_log_index;
}

void kl_raft_net_deliver(struct kl_raft_node *n, uint64_t from, struct kl_str s)
{
    struct raft_message m;
    char address[24];
    if (s.n >= 2 && (uint8_t)s.p[1] >= KL_RAFT_WIRE_OWN) {
        n->m.message(n->m.arg, from, s);
        return;
    }
    int r = kl_raft_decode(s, &m);
    if (r) {
        kl_log(KL_LOG_WARN, "raft", "message from=%016llx: %s", (unsigned long long)from,
               kl_err_text(r));
        return;
    }
    snprintf(address, sizeof(address), "%016llx", (unsigned long long)from);
    m.server_id = from;
    m.server_address = address;
    bool pass = true;
    n->incoming = 0;
    if (m.type == RAFT_IO_APPEND_ENTRIES)
        pass = filter_append(n, &m);
    else if (m.type == RAFT_IO_REQUEST_VOTE)
        pass = filter_vote(n, &m.request_vote);
    else if (m.type == RAFT_IO_TIMEOUT_NOW)
        pass = !n->meta.muted;
    else if (m.type == RAFT_IO_INSTALL_SNAPSHOT)
        pass = filter_install(n, from, &m);
    else if (m.type == RAFT_IO_APPEND_ENTRIES_RESULT)
        note_result(n, from, &m.append_entries_result);
    n->asked = m.type == RAFT_IO_REQUEST_VOTE ? &m.request_vote : NULL;
    if (pass)
        n->recv_cb(&n->io, &m);
    else
        kl_raft_message_fini(&m);
    n->asked = NULL;
}
