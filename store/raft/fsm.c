// SPDX-License-Identifier: Apache-2.0
// What every server does with the entries, in the same order and with the same outcome.
#include "store/raft/raft_int.h"
#include "store/view_int.h"
#include "base/fault.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

void kl_raft_fsm_diverged(struct kl_raft *r, const char *how, uint64_t index)
{
    struct kl_error err;
    kl_raft_mark_reseed(r);
    kl_error_set(&err, KL_ECORRUPT,
                 "raft: this server's state is not the others' at entry %llu (%s): it stops "
                 "serving and fetches the state anew when it starts",
                 (unsigned long long)index, how);
    kl_raft_fatal(r, &err);
}

static int damaged_entry(struct kl_raft *r, uint64_t index, int code)
{
    struct kl_error err;
    kl_error_set(&err, code, "raft: entry %llu %s", (unsigned long long)index,
                 code == KL_EUNSUPPORTED ? "was written by a newer kinglet" : "is damaged");
    kl_raft_fatal(r, &err);
    return code;
}

// ---- one batch ----

// What each row replaces, from the index; the leader said what it replaced there.
// Whether the newest row for this key before row `i` of the batch deletes it.
static bool deleted_before(const struct kl_batch *b, size_t i)
{
    struct kl_str key = kl_kv_key(b->rows[i].kv);
    while (i--)
        if (kl_str_eq(kl_kv_key(b->rows[i].kv), key))
            return b->rows[i].kv->deleted;
    return false;
}

static bool find_prev(struct kl_raft *r, struct kl_batch *b, const kl_rev *prev_ids)
{
    const struct kl_node *root = r->core->view->root;
    for (size_t i = 0; i < b->nrows; i++) {
        struct kl_row *row = &b->rows[i];
        struct kl_kv *prev = NULL;
        if (prev_ids[i] > b->base_rev + (kl_rev)i)
            return false;
        if (prev_ids[i] > b->base_rev)
            prev = b->rows[prev_ids[i] - b->base_rev - 1].kv;
        else
            prev = kl_node_get((struct kl_node *)root, kl_kv_key(row->kv));
        if (prev && !prev_ids[i] && deleted_before(b, i))
            prev = NULL;
        if ((prev ? prev->id : 0) != prev_ids[i] ||
            (prev && !kl_str_eq(kl_kv_key(prev), kl_kv_key(row->kv))))
            return false;
        row->prev = kl_kv_ref(prev);
    }
    return true;
}

static uint64_t next_state(uint64_t state, const struct kl_batch *b)
{
    for (size_t i = 0; i < b->nrows; i++)
        state += kl_raft_kv_hash(b->rows[i].kv) - kl_raft_kv_hash(b->rows[i].prev);
    return state;
}

static int apply_batch(struct kl_raft *r, uint64_t index, uint64_t term,
                       const struct kl_raft_part *part, struct kl_str body)
{
    struct kl_raft_batch_head h;
    int e = kl_raft_head_decode(body, &h);
    if (e)
        return damaged_entry(r, index, e);
    bool own = r->inflight && part->origin == r->nonce && part->seq == r->inflight_seq;
    if (h.cluster_id != r->cluster_id) {
        struct kl_error err;
        kl_error_set(&err, KL_ECONFLICT, "raft: entry %llu is of another cluster",
                     (unsigned long long)index);
        kl_raft_fatal(r, &err);
        return KL_ECONFLICT;
    }
    if (h.base_rev > r->rev) { // whoever evaluated it had applied what this server never did
        kl_raft_fsm_diverged(r, "the revision", index);
        return KL_ECORRUPT;
    }
    if (h.base_rev != r->rev || h.prev_chain != r->chain) {
        // Evaluated on a state that the log had left: it counts for nobody.
        if (own)
            r->lost = r->refused = true;
        return 0;
    }
    if (h.prev_state != r->state) {
        kl_raft_fsm_diverged(r, "the hash of keys and values", index);
        return KL_ECORRUPT;
    }
    struct kl_batch *b = r->inflight;
    if (!own) {
        kl_rev *prev_ids = NULL;
        e = kl_raft_batch_decode(body, &b, &prev_ids);
        if (e == KL_ENOMEM)
            return e;
        if (e)
            return damaged_entry(r, index, e);
        bool same = find_prev(r, b, prev_ids);
        free(prev_ids);
        if (!same) {
            kl_batch_free(b);
            kl_raft_fsm_diverged(r, "what a row replaces", index);
            return KL_ECORRUPT;
        }
        b->origin = part->origin;
        b->seq = part->seq;
    }
    struct kl_raft_write *w = kl_raft_write_new(r, b, index, term);
    if (!w) {
        if (!own)
            kl_batch_free(b);
        return KL_ENOMEM;
    }
    r->chain = w->chain = kl_raft_chain(r->chain, body);
    r->state = w->state = next_state(r->state, b);
    if (w->conf.base)
        r->conf_index = w->conf_index;
    kl_fault_crash("raft.apply");
    kl_raft_write_post(r, w); // before whatever the core asks the database
    if (!own)
        return kl_raft_take(r, b, index, term);
    r->rev = b->last_rev;
    r->applied = index;
    r->applied_term = term;
    kl_raft_propose_applied(r);
    kl_core_applied(r->core, b);
    return 0;
}

// ---- addresses ----

int kl_raft_set_address(struct kl_raft *r, uint64_t id, struct kl_str address)
{
    size_t i = 0;
    while (i < r->naddresses && r->address[i].id != id)
        i++;
    if (!address.n) {
        if (i < r->naddresses)
            r->address[i] = r->address[--r->naddresses];
    } else if (i < KL_RAFT_MEMBERS_MAX && address.n <= KL_RAFT_ADDRESS_MAX) {
        r->address[i].id = id;
        memcpy(r->address[i].address, address.p, address.n);
        r->address[i].address[address.n] = 0;
        r->naddresses += i == r->naddresses;
    } else {
        return KL_ELIMIT;
    }
    char z[KL_RAFT_ADDRESS_MAX + 1];
    memcpy(z, address.p, address.n);
    z[address.n] = 0;
    return r->peers && id != r->id ? kl_peers_set(r->peers, id, address.n ? z : NULL) : 0;
}

static int apply_peer(struct kl_raft *r, uint64_t index, uint64_t term, struct kl_str body)
{
    struct kl_raft_peer_entry p;
    int e = kl_raft_peer_decode(body, &p);
    if (e)
        return damaged_entry(r, index, e);
    struct kl_raft_write *w = kl_raft_write_new(r, NULL, index, term);
    if (!w)
        return KL_ENOMEM;
    w->peer = p.id;
    memcpy(w->address, p.address.p, p.address.n);
    w->chain = r->chain;
    w->state = r->state;
    r->applied = index;
    r->applied_term = term;
    if (w->conf.base)
        r->conf_index = w->conf_index;
    kl_raft_write_post(r, w);
    kl_raft_set_address(r, p.id, p.address);
    kl_raft_save_peers(r);
    return 0;
}

// ---- entries ----

static int add_part(struct kl_raft *r, const struct kl_raft_part *p, bool *ret_whole)
{
    if (p->part == 0) {
        kl_buf_clear(&r->parts);
        r->parts_origin = p->origin;
        r->parts_seq = p->seq;
        r->parts_next = 0;
    }
    *ret_whole = false;
    // What a leader that was deposed in between left behind.
    if (p->part != r->parts_next || p->origin != r->parts_origin || p->seq != r->parts_seq) {
        kl_buf_clear(&r->parts);
        r->parts_next = 0;
        r->parts_seq = 0;
        return 0;
    }
    if (kl_buf_puts(&r->parts, p->body)) {
        r->parts.err = 0;
        return KL_ENOMEM;
    }
    r->parts_next++;
    *ret_whole = p->part + 1 == p->parts;
    return 0;
}

int kl_raft_fsm_apply(void *arg, uint64_t index, uint64_t term, const void *p, size_t n)
{
    struct kl_raft *r = arg;
    return kl_raft_take_busy(r) ? kl_raft_take_later(r, index, term, p, n)
                                : kl_raft_fsm_one(r, index, term, p, n);
}

int kl_raft_fsm_one(struct kl_raft *r, uint64_t index, uint64_t term, const void *p, size_t n)
{
    struct kl_raft_part part;
    if (index <= r->applied)
        return 0; // it is in the database, with what followed
    int e = kl_raft_part_decode(p, n, &part);
    if (e)
        return damaged_entry(r, index, e);
    if (part.kind == KL_RAFT_PEER)
        return apply_peer(r, index, term, part.body);
    if (part.parts == 1)
        return apply_batch(r, index, term, &part, part.body);
    bool whole;
    e = add_part(r, &part, &whole);
    if (e || !whole)
        return e;
    e = apply_batch(r, index, term, &part, kl_buf_str(&r->parts));
    if (e == KL_ENOMEM && !r->untaken) {
        r->parts.n -= part.body.n; // the last part comes again
        r->parts_next--;
        return e;
    }
    kl_buf_fini(&r->parts); // a big one is rare
    kl_buf_init(&r->parts, KL_RAFT_BODY_MAX);
    r->parts_next = 0;
    return e;
}

// ---- before the start: what is committed for certain, and libraft may not apply ----

static int replay_entry(struct kl_raft *r, const struct kl_raft_entry *en, struct kl_error *err)
{
    struct kl_raft_part part;
    int e = kl_raft_part_decode(en->p, en->n, &part);
    if (e)
        return kl_error_set(err, e, "raft: entry %llu is damaged or newer than this kinglet",
                            (unsigned long long)en->index);
    struct kl_str body = part.body;
    bool whole = true;
    if (part.kind == KL_RAFT_BATCH && part.parts > 1) {
        e = add_part(r, &part, &whole);
        body = kl_buf_str(&r->parts);
    }
    if (e || !whole)
        return e ? kl_error_set(err, e, "out of memory") : 0;
    struct kl_batch *b = NULL;
    kl_rev *prev_ids = NULL;
    struct kl_raft_peer_entry peer = {0};
    struct kl_raft_batch_head h = {0};
    if (part.kind == KL_RAFT_PEER) {
        e = kl_raft_peer_decode(body, &peer);
    } else {
        e = kl_raft_head_decode(body, &h);
        if (!e && (h.base_rev != r->rev || h.prev_chain != r->chain))
            return 0;
        if (!e)
            e = kl_raft_batch_decode(body, &b, &prev_ids);
    }
    if (e)
        return kl_error_set(err, e, "raft: entry %llu: %s", (unsigned long long)en->index,
                            kl_err_text(e));
    // The database has what the rows replace.
    for (size_t i = 0; !e && b && i < b->nrows; i++) {
        struct kl_kv *kv = NULL;
        if (prev_ids[i] > b->base_rev)
            kv = kl_kv_ref(b->rows[prev_ids[i] - b->base_rev - 1].kv);
        else if (prev_ids[i]) {
            struct kl_rows_req q = {.after_id = prev_ids[i] - 1, .max_rows = 1, .max_bytes = 1};
            kl_sq_read_rows(&r->sq, &q);
            if (!q.code && q.nrows) {
                kv = kl_kv_ref(q.rows[0].kv);
                kl_kv_unref(q.rows[0].kv);
                kl_kv_unref(q.rows[0].prev);
            }
            free(q.rows);
            if (!kv || kv->id != prev_ids[i])
                e = kl_error_set(err, KL_ECORRUPT, "datastore %s is damaged: row %lld is missing",
                                 r->sq.path, (long long)prev_ids[i]);
        }
        b->rows[i].prev = kv;
    }
    free(prev_ids);
    if (!e && b && h.prev_state != r->state)
        e = kl_error_set(err, KL_ECORRUPT,
                         "datastore %s is damaged: its keys and values are not what the log says "
                         "at entry %llu",
                         r->sq.path, (unsigned long long)en->index);
    struct kl_raft_write *w = e ? NULL : kl_raft_write_new(r, b, en->index, en->term);
    if (!e && !w)
        e = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!e) {
        w->chain = b ? kl_raft_chain(r->chain, body) : r->chain;
        w->state = b ? next_state(r->state, b) : r->state;
        w->peer = peer.id;
        if (peer.id) {
            memcpy(w->address, peer.address.p, peer.address.n);
            kl_raft_set_address(r, peer.id, peer.address);
        }
        e = kl_raft_write_now(r, w, err);
        kl_fault_crash("raft.replayed");
    }
    if (!e) {
        r->chain = w->chain;
        r->state = w->state;
        r->applied = en->index;
        r->applied_term = en->term;
        r->conf_index = w->conf.base ? w->conf_index : r->conf_index;
        r->rev = b ? b->last_rev : r->rev;
    }
    kl_raft_write_free(w);
    kl_batch_free(b);
    return e;
}

int kl_raft_fsm_replay(struct kl_raft *r, uint64_t last, struct kl_error *err)
{
    const struct kl_raft_found *f = kl_raft_node_found(r->node);
    int e = 0;
    for (size_t i = 0; !e && i < f->nentries; i++) {
        const struct kl_raft_entry *en = &f->entries[i];
        if (en->type == RAFT_COMMAND && en->index > r->applied && en->index <= last)
            e = replay_entry(r, en, err);
    }
    kl_buf_clear(&r->parts);
    r->parts_next = 0;
    return e;
}

// ---- snapshots ----

bool kl_raft_fsm_may_snapshot(void *arg, uint64_t index)
{
    struct kl_raft *r = arg;
    return r->parts_next == 0 && r->applied == index;
}

// On SQLite's thread, behind every write that was posted before.
int kl_raft_fsm_save(void *arg, uint64_t index)
{
    struct kl_raft *r = arg;
    if (r->writes)
        return KL_ENOSPC;
    kl_fault_crash("raft.save");
    return kl_sq_checkpoint(&r->sq, false) ? KL_EIO : 0;
}

struct park {
    struct kl_task task;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool parked, go;
};

static void run_park(struct kl_task *t)
{
    struct park *p = KL_CONTAINER_OF(t, struct park, task);
    pthread_mutex_lock(&p->mu);
    p->parked = true;
    pthread_cond_broadcast(&p->cond);
    while (!p->go)
        pthread_cond_wait(&p->cond, &p->mu);
    p->parked = false;
    pthread_cond_broadcast(&p->cond);
    pthread_mutex_unlock(&p->mu);
}

static int reload(void *arg, struct kl_loaded *l)
{
    struct kl_error err;
    int e = kl_raft_state_load(arg, l, &err);
    if (e)
        kl_log(KL_LOG_ERROR, "raft", "%s", err.msg);
    l->continues = true;
    return e;
}

// The state that was fetched is in its place: the core takes it while SQLite's thread stands by.
static int take_installed(struct kl_raft *r)
{
    struct park p = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    const struct kl_raft_saved *s = &r->installed;
    p.task.run = run_park;
    kl_loop_post(r->sq.loop, &p.task);
    pthread_mutex_lock(&p.mu);
    while (!p.parked)
        pthread_cond_wait(&p.cond, &p.mu);
    pthread_mutex_unlock(&p.mu);
    r->state = s->state;
    int e = kl_core_reset(r->core, reload, r);
    pthread_mutex_lock(&p.mu);
    p.go = true;
    pthread_cond_broadcast(&p.cond);
    while (p.parked)
        pthread_cond_wait(&p.cond, &p.mu);
    pthread_mutex_unlock(&p.mu);
    if (e)
        return e;
    kl_raft_take_jumped(r, s->index);
    r->applied = s->index;
    r->applied_term = s->term;
    r->chain = s->chain;
    r->rev = s->rev;
    r->conf_index = s->conf_index;
    kl_log(KL_LOG_INFO, "raft", "took the leader's state: entry=%llu revision=%lld",
           (unsigned long long)s->index, (long long)s->rev);
    kl_raft_propose_jumped(r, s->index, s->rev);
    return 0;
}

int kl_raft_fsm_restored(void *arg, uint64_t index)
{
    struct kl_raft *r = arg;
    if (!r->has_installed)
        return 0;
    r->has_installed = false;
    int e = take_installed(r);
    kl_raft_saved_fini(&r->installed);
    if (e) {
        struct kl_error err;
        kl_error_set(&err, e, "raft: the leader's state cannot be loaded: %s", kl_err_text(e));
        kl_raft_fatal(r, &err);
    }
    return e;
}
