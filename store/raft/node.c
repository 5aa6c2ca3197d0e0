// SPDX-License-Identifier: Apache-2.0
// The server's life: start, events and what follows on each, stop.
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAILING_MIN = 16, SNAPSHOT_NEVER = 1 << 30 };

int kl_raft_code(int rv)
{
    switch (rv) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return KL_ENOMEM;
    case RAFT_NOTLEADER:
    case RAFT_LEADERSHIPLOST:
    case RAFT_SHUTDOWN:
    case RAFT_CANCELED:
        return KL_EUNAVAILABLE;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return KL_ENOTFOUND;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
        return KL_EEXISTS;
    case RAFT_BADROLE:
        return KL_EINVALID;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
        return KL_ECONFLICT;
    case RAFT_NOCONNECTION:
        return KL_ETIMEOUT;
    case RAFT_IOERR:
        return KL_EIO;
    case RAFT_NOSPACE:
        return KL_ENOSPC;
    default:
        return KL_EINTERNAL;
    }
}

void kl_raft_node_fail(struct kl_raft_node *n, const struct kl_error *err)
{
    if (n->failed)
        return;
    n->failed = true;
    n->env.fatal(n->env.arg, err);
}

// ---- the state machine as libraft sees it ----

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index = raft_last_applied(&n->raft) + 1;
    *result = NULL;
    int r = n->failed
                ? KL_EIO
                : n->m.apply(n->m.arg, index, kl_raft_table_term(n, index), buf->base, buf->len);
    n->unapplied = n->unapplied || r == KL_ENOMEM;
    return r == KL_ENOMEM ? RAFT_NOMEM : r ? RAFT_INVALID : 0;
}

// How many entries stay behind a snapshot, for followers that are a little late.
static unsigned count_trailing(const struct kl_raft_node *n, uint64_t index)
{
    size_t bytes = 0, k = 0;
    while (k < n->o.snapshot_entries && index - k >= n->first && k < index) {
        bytes += n->slot[index - k - n->first].bytes;
        if (bytes > n->o.snapshot_bytes / 2)
            break;
        k++;
    }
    return k < TRAILING_MIN ? TRAILING_MIN : (unsigned)k;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index = raft_last_applied(&n->raft);
    // libraft would put a configuration into it that is not committed.
    bool changing = n->nconf && n->conf[n->nconf - 1].index > index;
    if (changing || n->fetching || n->has_install || !n->m.may_snapshot(n->m.arg, index))
        return RAFT_BUSY;
    *bufs = raft_calloc(1, sizeof(**bufs));
    uint64_t *p = raft_malloc(sizeof(*p));
    if (!*bufs || !p) {
        raft_free(*bufs);
        raft_free(p);
        return RAFT_NOMEM;
    }
    *p = index;
    **bufs = (struct raft_buffer){p, sizeof(*p)};
    *n_bufs = 1;
    raft_set_snapshot_threshold(&n->raft, SNAPSHOT_NEVER);
    raft_set_snapshot_trailing(&n->raft, count_trailing(n, index));
    return 0;
}

static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct kl_raft_node *n = fsm->data;
    uint64_t index;
    memcpy(&index, (*bufs)->base, sizeof(index));
    return n->m.save(n->m.arg, index) ? RAFT_IOERR : 0;
}

static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    if (*bufs)
        raft_free((*bufs)->base);
    raft_free(*bufs);
    *bufs = NULL;
    *n_bufs = 0;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct kl_raft_node *n = fsm->data;
    int r = n->m.restored(n->m.arg, n->manifest.index);
    if (!r)
        raft_free(buf->base);
    return r == KL_ENOMEM ? RAFT_NOMEM : r ? RAFT_CORRUPT : 0;
}

// ---- opening ----

static int fill_table(struct kl_raft_node *n)
{
    struct kl_raft_found *f = &n->found;
    kl_raft_table_clear(n, f->first_index);
    int r = n->manifest.index
                ? kl_raft_table_conf(n, n->manifest.conf_index, n->manifest.conf, n->manifest.nconf)
                : 0;
    for (size_t i = 0; !r && i < f->nentries; i++) {
        const struct kl_raft_entry *e = &f->entries[i];
        // What stands before the snapshot's configuration is older than it.
        unsigned short type = e->type == RAFT_CHANGE && e->index <= n->manifest.index
                                  ? RAFT_BARRIER
                                  : (unsigned short)e->type;
        r = kl_raft_table_push(n, e->index, e->term, type, e->p, e->n);
    }
    n->durable = kl_raft_table_last(n);
    return r;
}

static int open_log(struct kl_raft_node *n, struct kl_error *err)
{
    int r = kl_raft_log_open(n->dir, n->fs, &n->log, &n->found, err);
    if (r)
        return r;
    raft_free(n->manifest.conf);
    raft_free(n->manifest.data);
    n->manifest = n->found.manifest;
    n->found.manifest = (struct kl_raft_manifest){0};
    n->meta = n->found.meta;
    r = fill_table(n);
    if (r)
        return kl_error_set(err, r, "raft log %s: %s", n->dir,
                            r == KL_ECORRUPT ? "a damaged configuration" : kl_err_text(r));
    if (!n->found.any || n->meta.server_id == n->o.id)
        return 0;
    return kl_error_set(err, KL_ECONFLICT, "raft log %s belongs to server %016llx, this is %016llx",
                        n->dir, (unsigned long long)n->meta.server_id, (unsigned long long)n->o.id);
}

int kl_raft_node_new(const char *dir, const struct kl_raft_fs *fs, const struct kl_raft_env *env,
                     const struct kl_raft_machine *m, const struct kl_raft_node_options *o,
                     struct kl_raft_node **ret_n, struct kl_error *err)
{
    struct kl_raft_node *n = calloc(1, sizeof(*n));
    if (!n || !(n->dir = strdup(dir))) {
        free(n);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    n->fs = fs;
    n->env = *env;
    n->m = *m;
    n->o = *o;
    n->in_end = &n->in;
    n->sent_end = &n->sent;
    n->proposals_end = &n->proposals;
    snprintf(n->address, sizeof(n->address), "%016llx", (unsigned long long)o->id);
    int r = open_log(n, err);
    if (r) {
        kl_raft_node_free(n);
        return r;
    }
    *ret_n = n;
    return 0;
}

const struct kl_raft_found *kl_raft_node_found(const struct kl_raft_node *n)
{
    return &n->found;
}

struct kl_raft_log *kl_raft_node_log(struct kl_raft_node *n)
{
    return n->log;
}

static int reopen_log(struct kl_raft_node *n, struct kl_error *err)
{
    kl_raft_log_close(n->log);
    n->log = NULL;
    kl_raft_found_fini(&n->found);
    return open_log(n, err);
}

int kl_raft_node_bootstrap(struct kl_raft_node *n, struct kl_error *err)
{
    struct raft_configuration c;
    struct raft_buffer b = {0};
    raft_configuration_init(&c);
    int rv = raft_configuration_add(&c, n->o.id, n->address, RAFT_VOTER);
    if (!rv)
        rv = raft_configuration_encode(&c, &b);
    raft_configuration_close(&c);
    if (rv)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    struct kl_raft_meta m = {.term = 1, .server_id = n->o.id};
    struct kl_raft_entry e = {1, 1, RAFT_CHANGE, b.base, b.len};
    // First the identity: a log without it is taken for a damaged one.
    int r = kl_raft_log_set_meta(n->log, &m, err);
    if (!r)
        r = kl_raft_log_append(n->log, &e, 1, err);
    raft_free(b.base);
    return r ? r : reopen_log(n, err);
}

int kl_raft_node_seed(struct kl_raft_node *n, const struct kl_raft_manifest *m, bool muted,
                      struct kl_error *err)
{
    struct kl_raft_meta meta = n->meta;
    meta.server_id = n->o.id;
    meta.muted = muted;
    if (m && meta.term < m->term) {
        meta.term = m->term;
        meta.vote = 0;
    }
    int r = kl_raft_log_set_meta(n->log, &meta, err);
    if (!r && m)
        r = kl_raft_log_put_snapshot(n->log, m, 0, err);
    return r ? r : reopen_log(n, err);
}

bool kl_raft_node_is_alone(const struct kl_raft_node *n)
{
    bool self = false;
    for (size_t i = 0; i < n->nmembers; i++) {
        if (n->member[i].role == RAFT_VOTER && n->member[i].id != n->o.id)
            return false;
        self = self || (n->member[i].role == RAFT_VOTER && n->member[i].id == n->o.id);
    }
    return self;
}

uint64_t kl_raft_node_snapshot(const struct kl_raft_node *n)
{
    return n->manifest.index;
}

static int start_raft(struct kl_raft_node *n, struct kl_error *err)
{
    memset(&n->raft, 0, sizeof(n->raft));
    kl_raft_disk_init(n);
    n->fsm = (struct raft_fsm){
        .version = 3,
        .data = n,
        .apply = fsm_apply,
        .snapshot = fsm_snapshot,
        .restore = fsm_restore,
        .snapshot_finalize = fsm_snapshot_finalize,
        .snapshot_async = fsm_snapshot_async,
    };
    int rv = raft_init(&n->raft, &n->io, &n->fsm, n->o.id, n->address);
    if (rv)
        return kl_error_set(err, kl_raft_code(rv), "raft: %s", raft_strerror(rv));
    raft_set_election_timeout(&n->raft, n->o.election_ms);
    raft_set_heartbeat_timeout(&n->raft, n->o.heartbeat_ms);
    raft_set_snapshot_threshold(&n->raft, SNAPSHOT_NEVER);
    raft_set_snapshot_trailing(&n->raft, TRAILING_MIN);
    raft_set_pre_vote(&n->raft, true);
    n->started = true;
    rv = raft_start(&n->raft);
    if (rv)
        return kl_error_set(err, kl_raft_code(rv), "raft log %s: %s", n->dir,
                            raft_errmsg(&n->raft));
    return 0;
}

int kl_raft_node_start(struct kl_raft_node *n, struct kl_error *err)
{
    n->busy = true; // what it applies must not start the next event
    int r = start_raft(n, err);
    n->busy = false;
    if (!r)
        kl_raft_node_event(n);
    return r;
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

static void fail_proposals(struct kl_raft_node *n)
{
    for (struct kl_raft_proposal *p; (p = n->proposals);) {
        n->proposals = p->next;
        if (!n->proposals)
            n->proposals_end = &n->proposals;
        for (size_t i = 0; i < p->nbufs; i++)
            raft_free(p->bufs[i].base);
        free(p->bufs);
        p->index = 0;
        p->cb(p, KL_EUNAVAILABLE);
    }
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

static void raft_closed(struct raft *r)
{
}

static void drop_install(struct kl_raft_node *n)
{
    if (n->has_install || n->fetching)
        kl_raft_message_fini(&n->install);
    n->has_install = n->fetching = false;
    memset(&n->install, 0, sizeof(n->install));
}

// libraft is closed; whoever waits in it was told.
static void close_raft(struct kl_raft_node *n)
{
    bool was_stopping = n->stopping;
    if (!n->started)
        return;
    n->stopping = true; // sends end as canceled
    raft_close(&n->raft, raft_closed);
    kl_raft_net_flush(n);
    if (n->close_cb)
        n->close_cb(&n->io);
    n->close_cb = NULL;
    n->started = n->running = n->ready = false;
    n->stopping = was_stopping;
    n->role = RAFT_UNAVAILABLE;
    n->leader = 0;
}

static void do_restart(struct kl_raft_node *n)
{
    struct kl_error err;
    uint64_t from = n->restart_from;
    kl_log(KL_LOG_WARN, "raft", "starting anew from the log");
    close_raft(n);
    n->restarting = n->unapplied = false;
    int r = 0;
    if (from != UINT64_MAX)
        r = kl_raft_log_truncate(n->log, from, &err);
    if (!r)
        r = reopen_log(n, &err);
    if (!r)
        r = start_raft(n, &err);
    if (r)
        kl_raft_node_fail(n, &err);
}

// ---- events ----

static void proposal_done(struct raft_apply *req, int status, void *result)
{
    struct kl_raft_proposal *p = req->data;
    p->cb(p, kl_raft_code(status));
}

static bool start_proposal(struct kl_raft_node *n)
{
    struct kl_raft_proposal *p = n->proposals;
    if (!p)
        return false;
    n->proposals = p->next;
    if (!n->proposals)
        n->proposals_end = &n->proposals;
    p->index = raft_last_index(&n->raft) + 1;
    p->term = n->meta.term;
    void (*cb)(struct kl_raft_proposal *, int) = p->cb;
    struct raft_buffer *bufs = p->bufs;
    size_t k = p->nbufs;
    p->bufs = NULL;
    int rv =
        n->ready ? raft_apply(&n->raft, &p->req, bufs, (unsigned)k, proposal_done) : RAFT_NOTLEADER;
    if (rv) {
        for (size_t i = 0; i < k; i++)
            raft_free(bufs[i].base);
        p->index = 0;
        cb(p, kl_raft_code(rv));
    }
    free(bufs);
    return true;
}

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
            do_restart(n);
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
    return start_proposal(n);
}

static void finish_stop(struct kl_raft_node *n)
{
    if (!n->stopping || n->working || !n->stopped)
        return;
    close_raft(n);
    fail_proposals(n);
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

void kl_raft_node_propose(struct kl_raft_node *n, struct kl_raft_proposal *p,
                          struct raft_buffer *bufs, size_t nbufs)
{
    p->node = n;
    p->bufs = bufs;
    p->nbufs = nbufs;
    p->next = NULL;
    p->req.data = p;
    *n->proposals_end = p;
    n->proposals_end = &p->next;
    if (n->stopping || n->failed)
        fail_proposals(n);
    else
        kl_raft_node_event(n);
}

// ---- changes ----

static void end_change(struct kl_raft_node_change *c, int code)
{
    if (c->node->change == c)
        c->node->change = NULL;
    c->cb(c, code);
}

static void changed(struct raft_change *req, int status)
{
    end_change(req->data, kl_raft_code(status));
}

static void transferred(struct raft_transfer *req)
{
    struct kl_raft_node_change *c = req->data;
    raft_id leader = 0;
    const char *address;
    raft_leader(&c->node->raft, &leader, &address);
    end_change(c, leader != c->node->o.id && (!c->id || leader == c->id) ? 0 : KL_ETIMEOUT);
}

int kl_raft_node_change(struct kl_raft_node *n, struct kl_raft_node_change *c)
{
    char address[24];
    int rv;
    if (!n->ready || n->stopping || n->restarting)
        return KL_EUNAVAILABLE;
    if (n->change || n->writing || n->busy)
        return KL_ECONFLICT;
    c->node = n;
    c->req.data = c->transfer.data = c;
    n->busy = true;
    snprintf(address, sizeof(address), "%016llx", (unsigned long long)c->id);
    switch (c->op) {
    case KL_RAFT_NODE_ADD:
        rv = raft_add(&n->raft, &c->req, c->id, address, changed);
        break;
    case KL_RAFT_NODE_ROLE:
        rv = raft_assign(&n->raft, &c->req, c->id, c->role, changed);
        break;
    case KL_RAFT_NODE_REMOVE:
        rv = raft_remove(&n->raft, &c->req, c->id, changed);
        break;
    case KL_RAFT_NODE_TRANSFER:
    default:
        rv = raft_transfer(&n->raft, &c->transfer, c->id, transferred);
        break;
    }
    if (!rv)
        n->change = c;
    n->busy = false;
    kl_raft_node_event(n);
    return kl_raft_code(rv);
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

void kl_raft_node_free(struct kl_raft_node *n)
{
    if (!n)
        return;
    kl_raft_table_clear(n, 1);
    for (struct kl_raft_inmsg *m; (m = n->in);) {
        n->in = m->next;
        free(m);
    }
    kl_raft_found_fini(&n->found);
    kl_raft_log_close(n->log);
    raft_free(n->manifest.conf);
    raft_free(n->manifest.data);
    free(n->slot);
    free(n->conf);
    free(n->member);
    free(n->peer);
    free(n->dir);
    free(n);
}
