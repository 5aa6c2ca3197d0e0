// SPDX-License-Identifier: Apache-2.0
// raft_io's disk: everything but term and vote is written by jobs; the gate is shut until they end.
#include "store/raft/node_int.h"
#include "store/raft/wire.h"
#include <stdlib.h>
#include <string.h>

struct disk_job {
    struct kl_raft_job job;
    struct kl_raft_node *n;
    struct raft_io_append *append;
    struct kl_raft_entry *entries;
    size_t nentries;
    uint64_t from; // truncate
    struct raft_io_snapshot_put *put;
    struct kl_raft_manifest manifest;
    uint64_t trailing;
    struct raft_io_async_work *async;
    int rv;
    struct kl_error err;
};

static struct disk_job *new_job(struct raft_io *io)
{
    struct disk_job *j = calloc(1, sizeof(*j));
    if (j)
        j->n = io->impl;
    return j;
}

static void free_job(struct disk_job *j)
{
    free(j->entries);
    free(j);
}

static void run_job(struct disk_job *j, enum kl_raft_queue q, bool writes,
                    void (*work)(struct kl_raft_job *), void (*done)(struct kl_raft_job *))
{
    j->job.work = work;
    j->job.done = done;
    j->n->working++;
    j->n->writing += writes;
    j->n->env.run(j->n->env.arg, q, &j->job);
}

// Returns false when the log cannot be written any more: nobody must act on it.
static bool end_write(struct disk_job *j)
{
    j->n->working--;
    j->n->writing--;
    if (!j->rv)
        return true;
    kl_raft_node_fail(j->n, &j->err);
    return false;
}

// ---- entries ----

static void append_work(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    j->rv = kl_raft_log_append(j->n->log, j->entries, j->nentries, &j->err);
}

static void append_done(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    struct kl_raft_node *n = j->n;
    bool ok = end_write(j);
    if (ok)
        n->durable = j->entries[j->nentries - 1].index;
    if (ok || n->stopping)
        j->append->cb(j->append, ok ? 0 : RAFT_IOERR);
    free_job(j);
    kl_raft_node_event(n);
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct kl_raft_node *node = io->impl;
    struct disk_job *j = new_job(io);
    if (j)
        j->entries = calloc(n, sizeof(*j->entries));
    if (!j || !j->entries) {
        if (j)
            free_job(j);
        return RAFT_NOMEM;
    }
    uint64_t index = kl_raft_table_last(node) + 1;
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *e = &entries[i];
        j->entries[i] =
            (struct kl_raft_entry){index + i, e->term, e->type, e->buf.base, e->buf.len};
        if (kl_raft_table_push(node, index + i, e->term, e->type, e->buf.base, e->buf.len)) {
            kl_raft_table_cut(node, index);
            free_job(j);
            return RAFT_NOMEM;
        }
    }
    j->nentries = n;
    j->append = req;
    req->cb = cb;
    run_job(j, KL_RAFT_DISK, true, append_work, append_done);
    return 0;
}

static void truncate_work(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    j->rv = kl_raft_log_truncate(j->n->log, j->from, &j->err);
}

static void truncate_done(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    struct kl_raft_node *n = j->n;
    end_write(j);
    free_job(j);
    kl_raft_node_event(n);
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    struct kl_raft_node *n = io->impl;
    struct disk_job *j = new_job(io);
    if (!j)
        return RAFT_NOMEM;
    kl_raft_table_cut(n, index);
    j->from = index;
    run_job(j, KL_RAFT_DISK, true, truncate_work, truncate_done);
    return 0;
}

// ---- term and vote ----

static int set_meta(struct kl_raft_node *n, struct kl_raft_meta m)
{
    struct kl_error err;
    // A failure ends the server. Where it does not at once, libraft must go on: it leaves a
    // candidate half made when it cannot vote.
    if (n->failed)
        return 0;
    if (kl_raft_log_set_meta(n->log, &m, &err))
        kl_raft_node_fail(n, &err);
    else
        n->meta = m;
    return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct kl_raft_node *n = io->impl;
    struct kl_raft_meta m = n->meta;
    m.term = term;
    m.vote = 0;
    n->verified = 0;
    return set_meta(n, m);
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct kl_raft_node *n = io->impl;
    struct kl_raft_meta m = n->meta;
    m.vote = id;
    return set_meta(n, m);
}

// ---- snapshots ----

static void put_work(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    j->rv = kl_raft_log_put_snapshot(j->n->log, &j->manifest, j->trailing, &j->err);
}

static void finish_put(struct disk_job *j)
{
    struct kl_raft_node *n = j->n;
    if (end_write(j)) {
        raft_free(n->manifest.conf);
        raft_free(n->manifest.data);
        n->manifest = j->manifest;
        uint64_t keep = j->manifest.index > j->trailing ? j->manifest.index - j->trailing : 0;
        if (j->trailing) {
            kl_raft_table_drop(n, keep + 1);
            n->since_snapshot = 0;
        } else {
            kl_raft_table_clear(n, j->manifest.index + 1);
            kl_raft_table_conf(n, j->manifest.conf_index, j->manifest.conf, j->manifest.nconf);
        }
        j->put->cb(j->put, 0);
    } else {
        raft_free(j->manifest.conf);
        raft_free(j->manifest.data);
        if (n->stopping)
            j->put->cb(j->put, RAFT_IOERR);
    }
    free_job(j);
    kl_raft_node_event(n);
}

// An installed one: the log is gone, the state moves to its place, and only then is raft told.
static void install_work(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    j->rv = j->n->m.install(j->n->m.arg);
    if (j->rv)
        kl_error_set(&j->err, j->rv, "raft: the fetched state cannot take its place");
}

static void install_done(struct kl_raft_job *job)
{
    finish_put(KL_CONTAINER_OF(job, struct disk_job, job));
}

static void put_done(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    if (j->rv || j->trailing) {
        finish_put(j);
        return;
    }
    j->job.work = install_work;
    j->job.done = install_done;
    j->n->env.run(j->n->env.arg, KL_RAFT_STATE, &j->job);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *s, raft_io_snapshot_put_cb cb)
{
    struct disk_job *j = new_job(io);
    struct raft_buffer conf = {0};
    if (!j)
        return RAFT_NOMEM;
    j->manifest = (struct kl_raft_manifest){
        .index = s->index, .term = s->term, .conf_index = s->configuration_index};
    int rv = raft_configuration_encode(&s->configuration, &conf);
    size_t n = 0;
    for (unsigned i = 0; i < s->n_bufs; i++)
        n += s->bufs[i].len;
    j->manifest.data = raft_malloc(n + 1);
    if (rv || !j->manifest.data) {
        raft_free(conf.base);
        raft_free(j->manifest.data);
        free_job(j);
        return RAFT_NOMEM;
    }
    for (unsigned i = 0; i < s->n_bufs; i++) {
        memcpy((char *)j->manifest.data + j->manifest.ndata, s->bufs[i].base, s->bufs[i].len);
        j->manifest.ndata += s->bufs[i].len;
    }
    j->manifest.conf = conf.base;
    j->manifest.nconf = conf.len;
    j->trailing = trailing;
    j->put = req;
    req->cb = cb;
    run_job(j, KL_RAFT_DISK, true, put_work, put_done);
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    req->cb = cb;
    return kl_raft_net_later(io->impl, (struct kl_raft_sent){.get = req, .get_cb = cb});
}

static void async_work(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    j->rv = j->async->work(j->async);
}

static void async_done(struct kl_raft_job *job)
{
    struct disk_job *j = KL_CONTAINER_OF(job, struct disk_job, job);
    struct kl_raft_node *n = j->n;
    n->working--;
    j->async->cb(j->async, n->stopping && !j->rv ? RAFT_CANCELED : j->rv);
    free_job(j);
    kl_raft_node_event(n);
}

static int io_async_work(struct raft_io *io, struct raft_io_async_work *req,
                         raft_io_async_work_cb cb)
{
    struct kl_raft_node *n = io->impl;
    if (n->stopping) // a snapshot: whoever ran it may have ended already
        return RAFT_BUSY;
    struct disk_job *j = new_job(io);
    if (!j)
        return RAFT_NOMEM;
    req->cb = cb;
    j->async = req;
    run_job(j, KL_RAFT_STATE, false, async_work, async_done);
    return 0;
}

// ---- what is on the disk, read again ----

struct check_job {
    struct kl_raft_job job;
    struct kl_raft_node *n;
    struct kl_raft_log_check *c;
};

static void check_work(struct kl_raft_job *job)
{
    struct check_job *j = KL_CONTAINER_OF(job, struct check_job, job);
    j->c->code = kl_raft_log_check(j->n->log, &j->c->seq, &j->c->err);
}

static void check_done(struct kl_raft_job *job)
{
    struct check_job *j = KL_CONTAINER_OF(job, struct check_job, job);
    struct kl_raft_node *n = j->n;
    n->working--;
    j->c->busy = false;
    if (!n->stopping)
        j->c->cb(j->c);
    free(j);
    kl_raft_node_event(n);
}

void kl_raft_node_check_log(struct kl_raft_node *n, struct kl_raft_log_check *c)
{
    struct check_job *j = c->busy || n->restarting || n->stopping ? NULL : calloc(1, sizeof(*j));
    if (!j)
        return;
    j->n = n;
    j->c = c;
    j->job.work = check_work;
    j->job.done = check_done;
    c->busy = true;
    n->working++; // the log stays open
    n->env.run(n->env.arg, KL_RAFT_DISK, &j->job);
}

// ---- start ----

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    return 0;
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct kl_raft_node *n = io->impl;
    n->close_cb = cb;
    n->running = false;
}

static int give_snapshot(struct kl_raft_node *n, struct raft_snapshot **ret)
{
    const struct kl_raft_manifest *m = &n->manifest;
    struct raft_snapshot *s = raft_calloc(1, sizeof(*s));
    if (s)
        s->bufs = raft_calloc(1, sizeof(*s->bufs));
    if (!s || !s->bufs) {
        raft_free(s);
        return RAFT_NOMEM;
    }
    s->bufs->len = m->ndata;
    s->bufs->base = raft_malloc(m->ndata + 1);
    if (!s->bufs->base || kl_raft_conf_decode(m->conf, m->nconf, &s->configuration)) {
        raft_free(s->bufs->base);
        raft_free(s->bufs);
        raft_free(s);
        return RAFT_NOMEM;
    }
    memcpy(s->bufs->base, m->data, m->ndata);
    s->index = m->index;
    s->term = m->term;
    s->configuration_index = m->conf_index;
    s->n_bufs = 1;
    *ret = s;
    return 0;
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *voted_for,
                   struct raft_snapshot **snapshot, raft_index *start_index,
                   struct raft_entry *entries[], size_t *n_entries)
{
    struct kl_raft_node *n = io->impl;
    struct kl_raft_found *f = &n->found;
    // A lone voter is its own majority without an election: what it wrote before a crash and did
    // not sync may stand in a learner's log under the same term.
    if (kl_raft_node_is_alone(n)) {
        struct kl_raft_meta m = n->meta;
        m.term++;
        m.vote = n->o.id;
        if (set_meta(n, m))
            return RAFT_IOERR;
    }
    *term = n->meta.term;
    *voted_for = n->meta.vote;
    *snapshot = NULL;
    *start_index = f->first_index;
    *entries = NULL;
    *n_entries = 0;
    int rv = n->manifest.index ? give_snapshot(n, snapshot) : 0;
    if (rv)
        return rv;
    if (!f->nentries)
        return 0;
    struct raft_entry *v = raft_calloc(f->nentries, sizeof(*v));
    if (!v)
        return RAFT_NOMEM; // the process ends: it starts
    for (size_t i = 0; i < f->nentries; i++) {
        v[i].term = f->entries[i].term;
        v[i].type = f->entries[i].type;
        v[i].buf = (struct raft_buffer){f->entries[i].p, f->entries[i].n};
        f->entries[i].p = NULL; // libraft's
    }
    *entries = v;
    *n_entries = f->nentries;
    f->nentries = 0;
    return 0;
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct kl_raft_node *n = io->impl;
    n->tick_cb = tick;
    n->recv_cb = recv;
    n->running = true;
    return 0;
}

static int io_refuse(struct raft_io *io, const struct raft_configuration *conf)
{
    return RAFT_INVALID; // kl_raft_node_bootstrap and kl_raft_recover write the log themselves
}

static raft_time io_time(struct raft_io *io)
{
    struct kl_raft_node *n = io->impl;
    return (raft_time)n->env.now_ms(n->env.arg);
}

static int io_random(struct raft_io *io, int min, int max)
{
    struct kl_raft_node *n = io->impl;
    return min + (int)(n->env.random(n->env.arg) % (uint64_t)(max - min + 1));
}

void kl_raft_disk_init(struct kl_raft_node *n)
{
    n->io = (struct raft_io){
        .version = 2,
        .impl = n,
        .init = io_init,
        .close = io_close,
        .load = io_load,
        .start = io_start,
        .bootstrap = io_refuse,
        .recover = io_refuse,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = kl_raft_net_send,
        .append = io_append,
        .truncate = io_truncate,
        .snapshot_put = io_snapshot_put,
        .snapshot_get = io_snapshot_get,
        .time = io_time,
        .random = io_random,
        .async_work = io_async_work,
    };
}
