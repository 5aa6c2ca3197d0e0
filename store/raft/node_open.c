// SPDX-License-Identifier: Apache-2.0
// Opening a server's log, starting libraft on it, and starting it anew.
#include "store/raft/node_int.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    kl_raft_node_fsm_init(n);
    int rv = raft_init(&n->raft, &n->io, &n->fsm, n->o.id, n->address);
    if (rv)
        return kl_error_set(err, kl_raft_code(rv), "raft: %s", raft_strerror(rv));
    raft_set_election_timeout(&n->raft, n->o.election_ms);
    raft_set_heartbeat_timeout(&n->raft, n->o.heartbeat_ms);
    raft_set_snapshot_threshold(&n->raft, KL_RAFT_SNAPSHOT_NEVER);
    raft_set_snapshot_trailing(&n->raft, KL_RAFT_TRAILING_MIN);
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

// ---- starting libraft anew ----

static void raft_closed(struct raft *r)
{
}

// libraft is closed; whoever waits in it was told.
void kl_raft_node_close_raft(struct kl_raft_node *n)
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

void kl_raft_node_start_anew(struct kl_raft_node *n)
{
    struct kl_error err;
    uint64_t from = n->restart_from;
    kl_log(KL_LOG_WARN, "raft", "starting anew from the log");
    kl_raft_node_close_raft(n);
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
