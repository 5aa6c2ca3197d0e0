// SPDX-License-Identifier: Apache-2.0
// What must hold after every step.
#include "sim.h"
#include "store/raft/sum.h"
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

// ---- every entry that ever was ----

struct sim_seen {
    uint64_t index, term; // index 0: free
    uint64_t prev;        // the term of the entry before it, 0: not known
    uint64_t sum;         // of what is in it, 0: not known
};

static struct sim_seen *find_seen(struct sim *s, uint64_t index, uint64_t term)
{
    if (s->nseen * 2 >= s->cap_seen) {
        size_t cap = s->cap_seen, n = cap ? cap * 2 : 1024;
        struct sim_seen *old = s->seen;
        s->seen = calloc(n, sizeof(*s->seen));
        s->cap_seen = n;
        s->nseen = 0;
        for (size_t i = 0; i < cap; i++) {
            if (old[i].index)
                *find_seen(s, old[i].index, old[i].term) = old[i];
        }
        free(old);
    }
    size_t at = (index * 0x9e3779b97f4a7c15ull + term * 0xbf58476d1ce4e5b9ull) >> 20;
    for (;; at++) {
        struct sim_seen *p = &s->seen[at & (s->cap_seen - 1)];
        if (p->index == index && p->term == term)
            return p;
        if (!p->index) {
            *p = (struct sim_seen){.index = index, .term = term};
            s->nseen++;
            return p;
        }
    }
}

// Log matching: who has this entry has this one before it, and the same in it.
static void see_prev(struct sim_server *v, uint64_t index, uint64_t term, uint64_t prev)
{
    struct sim_seen *p = find_seen(v->sim, index, term);
    if (p->prev && prev && p->prev != prev)
        sim_break(v->sim, "log matching",
                  "before entry %llu of term %llu server %llu has term %llu, another one %llu",
                  (ull)index, (ull)term, (ull)v->id, (ull)prev, (ull)p->prev);
    p->prev = prev ? prev : p->prev;
}

void sim_check_entry(struct sim_server *v, uint64_t index, uint64_t term, const void *p, size_t n)
{
    struct sim_seen *e = find_seen(v->sim, index, term);
    uint64_t sum = kl_sum64(index, p, n) | 1;
    if (e->sum && e->sum != sum)
        sim_break(v->sim, "log matching", "entry %llu of term %llu is not the same everywhere",
                  (ull)index, (ull)term);
    e->sum = sum;
}

// ---- what is committed ----

static void see_committed(struct sim_server *v, uint64_t index, uint64_t term, uint64_t by_term)
{
    struct sim *s = v->sim;
    if (index >= SIM_INDEXES || !term)
        return;
    if (s->at[index].term && s->at[index].term != term)
        sim_break(s, "state machine safety",
                  "server %llu applies entry %llu of term %llu; it was committed with term %llu",
                  (ull)v->id, (ull)index, (ull)term, (ull)s->at[index].term);
    if (s->at[index].term)
        return;
    s->at[index].term = term;
    s->at[index].by_term = by_term;
    if (index > s->committed)
        s->committed = index;
}

// Leader completeness: what was committed in an earlier term is in its log.
static void check_leader(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct kl_raft_node *n = v->r.node;
    uint64_t term = n->meta.term;
    if (term >= SIM_TERMS)
        return;
    if (s->leader[term] && s->leader[term] != v->id)
        sim_break(s, "election safety", "servers %llu and %llu both lead in term %llu",
                  (ull)s->leader[term], (ull)v->id, (ull)term);
    if (s->leader[term] == v->id)
        return;
    s->leader[term] = v->id;
    s->elections++;
    sim_trace(s, v->place, "leads: term, last entry, committed", term, kl_raft_table_last(n),
              s->committed);
    for (uint64_t i = 1; i <= s->committed; i++) {
        if (!s->at[i].term || s->at[i].by_term >= term || i < n->first)
            continue;
        if (kl_raft_table_term(n, i) != s->at[i].term) {
            sim_break(s, "leader completeness",
                      "server %llu leads in term %llu without entry %llu of term %llu, which was "
                      "committed in term %llu",
                      (ull)v->id, (ull)term, (ull)i, (ull)s->at[i].term, (ull)s->at[i].by_term);
            return;
        }
    }
}

static void check_log(struct sim_server *v)
{
    struct kl_raft_node *n = v->r.node;
    for (size_t i = 0; i < n->nslots; i++) {
        uint64_t index = n->first + i, term = n->slot[i].term;
        if (index >= v->first && index < v->first + v->nlog && v->log[index - v->first] == term)
            continue;
        see_prev(v, index, term, kl_raft_table_term(n, index - 1));
    }
    if (v->cap_log < n->nslots) {
        v->cap_log = n->cap_slots;
        v->log = realloc(v->log, v->cap_log * sizeof(*v->log));
    }
    for (size_t i = 0; i < n->nslots; i++)
        v->log[i] = n->slot[i].term;
    v->nlog = n->nslots;
    v->first = n->first;
}

void sim_check(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct kl_raft_node *n = v->r.node;
    uint64_t before = v->term;
    if (!n->started)
        return;
    if (n->meta.term < v->term || (n->meta.term == v->term && v->vote && n->meta.vote != v->vote))
        sim_break(s, "term and vote", "server %llu had term %llu and vote %llu, now %llu and %llu",
                  (ull)v->id, (ull)v->term, (ull)v->vote, (ull)n->meta.term, (ull)n->meta.vote);
    v->term = n->meta.term;
    v->vote = n->meta.vote;
    check_log(v);
    for (uint64_t i = raft_last_applied(&n->raft); i >= n->first && i < SIM_INDEXES; i--) {
        uint64_t term = kl_raft_table_term(n, i);
        if (s->at[i].term && s->at[i].term == term && i < s->committed)
            break;
        see_committed(v, i, term, n->meta.term);
    }
    int role = raft_state(&n->raft);
    if (role == RAFT_LEADER && !n->restarting && (v->role != role || before != v->term))
        check_leader(v);
    v->role = role;
}

void sim_check_boot(struct sim_server *v)
{
    struct kl_raft_node *n = v->r.node;
    if (n->meta.term < v->term || (n->meta.term == v->term && v->vote && n->meta.vote != v->vote))
        sim_break(v->sim, "term and vote over a crash",
                  "server %llu had term %llu and vote %llu, now %llu and %llu", (ull)v->id,
                  (ull)v->term, (ull)v->vote, (ull)n->meta.term, (ull)n->meta.vote);
    const struct kl_raft_found *f = kl_raft_node_found(n);
    for (size_t i = 0; i < f->nentries; i++) {
        const struct kl_raft_entry *e = &f->entries[i];
        sim_check_entry(v, e->index, e->term, e->p, e->n);
    }
}

// ---- messages ----

void sim_check_sent(struct sim_server *v, uint64_t to, struct kl_str msg)
{
    struct raft_message m;
    if (!v->up || v->dying || kl_raft_decode(msg, &m))
        return;
    const struct raft_append_entries *a = &m.append_entries;
    uint64_t by =
        m.type == RAFT_IO_APPEND_ENTRIES || m.type == RAFT_IO_INSTALL_SNAPSHOT ? a->term : 0;
    if (by && by < SIM_TERMS && v->sim->leader[by] && v->sim->leader[by] != v->id)
        sim_break(v->sim, "election safety",
                  "servers %llu and %llu both speak as leader of term %llu",
                  (ull)v->sim->leader[by], (ull)v->id, (ull)by);
    for (unsigned i = 0; m.type == RAFT_IO_APPEND_ENTRIES && i < a->n_entries; i++) {
        uint64_t index = a->prev_log_index + 1 + i;
        sim_check_entry(v, index, a->entries[i].term, a->entries[i].buf.base,
                        a->entries[i].buf.len);
        see_prev(v, index, a->entries[i].term, i ? a->entries[i - 1].term : a->prev_log_term);
    }
    kl_raft_message_fini(&m);
}

// ---- the state machine ----

// The same entry, the same state.
void sim_check_applied(struct sim_server *v, uint64_t index, uint64_t term)
{
    struct sim *s = v->sim;
    see_committed(v, index, term, v->r.node->meta.term);
    if (index >= SIM_INDEXES)
        return;
    if (s->at[index].applied && (s->at[index].chain != v->r.chain || s->at[index].rev != v->r.rev))
        sim_break(s, "state machine safety",
                  "after entry %llu server %llu is at revision %lld and chain %llx, another one at "
                  "%lld and %llx",
                  (ull)index, (ull)v->id, (long long)v->r.rev, (ull)v->r.chain,
                  (long long)s->at[index].rev, (ull)s->at[index].chain);
    s->skipped += v->r.applied != index;
    s->at[index].applied = true;
    s->at[index].chain = v->r.chain;
    s->at[index].rev = v->r.rev;
}

void sim_check_batch(struct sim_server *v, const struct kl_batch *b)
{
    struct sim *s = v->sim;
    uint64_t op = strtoull(b->rows[0].kv->key, NULL, 16);
    if (!op || op > s->nops || b->last_rev >= SIM_OPS)
        return;
    uint64_t *at = &s->op_of_rev[b->last_rev];
    if (*at && *at != op)
        sim_break(s, "state machine safety", "revision %lld is batch %llu and batch %llu",
                  (long long)b->last_rev, (ull)*at, (ull)op);
    if (s->op[op].failed)
        sim_break(s, "a batch that was said not to be stored is",
                  "server %llu applies batch %llu as revision %lld", (ull)v->id, (ull)op,
                  (long long)b->last_rev);
    if (s->op[op].applied && !*at)
        sim_break(s, "a batch is stored twice", "batch %llu, again as revision %lld", (ull)op,
                  (long long)b->last_rev);
    *at = op;
    s->op[op].applied = true;
}
