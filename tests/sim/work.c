// SPDX-License-Identifier: Apache-2.0
// What clients and operators do. The store is one register whose value is its revision: a batch
// raises it, a read returns it. With one order of all batches (check.c) a history is linearizable
// when nothing that begins after an answer is older than that answer.
#include "sim.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_read {
    struct kl_head_req q;
    struct sim_read *next;
    struct sim_server *v;
    kl_rev floor;
};

// ---- writes ----

static struct kl_batch *make_batch(struct sim_server *v, uint64_t op)
{
    struct sim *s = v->sim;
    struct kl_batch *b = kl_batch_new();
    size_t n = 1 + sim_random(s, 3);
    char key[32], value[600];
    memset(value, 'v', sizeof(value));
    b->base_rev = v->r.rev;
    b->origin = v->id;
    b->seq = op;
    b->full = v->full; // as a deletion would be
    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "%08llx/%zu", (unsigned long long)op, i);
        struct kl_bytes *bytes = kl_bytes_new((struct kl_str){value, sim_random(s, 600)});
        struct kl_kv *kv = kl_kv_new(kl_str(key), bytes);
        kl_bytes_unref(bytes);
        kv->id = kv->mod_rev = kv->create_rev = b->base_rev + 1 + (kl_rev)i;
        kv->version = 1;
        kl_batch_add_row(b, kv);
    }
    b->last_rev = b->base_rev + (kl_rev)n;
    return b;
}

// As the core does: one batch at a time, on the server that says it leads and may evaluate.
void sim_client(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct kl_raft_node_state st;
    kl_raft_node_state(v->r.node, &st);
    if (!st.ready || v->batch || s->nops + 1 >= SIM_OPS || (s->calm && s->floor > s->calm_floor))
        return;
    v->op = ++s->nops;
    s->op[v->op] = (struct sim_op){.floor = s->floor};
    v->batch = make_batch(v, v->op);
    kl_raft_propose(&v->r.sq, v->batch);
}

void sim_acked(struct sim_server *v, const struct kl_batch *b)
{
    struct sim *s = v->sim;
    struct sim_op *op = &s->op[v->op];
    if (b->last_rev <= op->floor)
        sim_break(s, "linearizability",
                  "a write was stored as revision %lld after %lld had been answered",
                  (long long)b->last_rev, (long long)op->floor);
    op->done = true;
    s->acked++;
    if (b->last_rev > s->floor)
        s->floor = b->last_rev;
    sim_trace(s, v->place, "acked", v->op, (uint64_t)b->last_rev, v->r.applied);
    kl_batch_free(v->batch);
    v->batch = NULL;
}

void sim_failed(struct sim_server *v, struct kl_batch *b, int code)
{
    struct sim *s = v->sim;
    struct sim_op *op = &s->op[v->op];
    op->failed = code != KL_EMAYBE;
    v->full = code == KL_ENOSPC;
    sim_trace(s, v->place, "failed", v->op, (uint64_t)-code, 0);
    if (op->failed && op->applied)
        sim_break(s, "a batch that was said not to be stored is",
                  "batch %llu was applied, and its server says error %d", (unsigned long long)v->op,
                  code);
    kl_batch_free(v->batch);
    v->batch = NULL;
}

// ---- reads ----

static void unlink_read(struct sim_read *rd)
{
    struct sim_read **p = &rd->v->reads_open;
    while (*p != rd)
        p = &(*p)->next;
    *p = rd->next;
}

static void read_done(struct kl_head_req *q)
{
    struct sim_read *rd = KL_CONTAINER_OF(q, struct sim_read, q);
    struct sim *s = rd->v->sim;
    if (!q->code) {
        s->reads++;
        if (q->rev < rd->floor)
            sim_break(s, "a stale read",
                      "server %llu answered revision %lld; %lld had been answered before it was "
                      "asked",
                      (unsigned long long)rd->v->id, (long long)q->rev, (long long)rd->floor);
        if (q->rev > s->floor)
            s->floor = q->rev;
    }
    unlink_read(rd);
    free(rd);
}

void sim_reader(struct sim_server *v)
{
    struct sim *s = v->sim;
    struct kl_raft_node_state st;
    struct sim_read *rd = calloc(1, sizeof(*rd));
    rd->q.done = read_done;
    rd->v = v;
    rd->floor = s->floor;
    rd->next = v->reads_open;
    v->reads_open = rd;
    kl_raft_node_state(v->r.node, &st);
    if (s->o.without == SIM_ROUND && st.ready) {
        rd->q.rev = v->r.rev;
        read_done(&rd->q);
        return;
    }
    kl_raft_confirm_head(&v->r.sq, &rd->q);
}

void sim_drop_reads(struct sim_server *v)
{
    for (struct sim_read *rd; (rd = v->reads_open);) {
        v->reads_open = rd->next;
        free(rd);
    }
}

// ---- members ----

static void change_done(struct kl_raft_node_change *c, int code)
{
    struct sim_server *v = KL_CONTAINER_OF(c->node->env.arg, struct sim_server, r);
    struct sim *s = v->sim;
    sim_trace(s, v->place, code ? "change failed" : "changed", c->op, c->id, (uint64_t)-code);
    s->changes += !code;
    struct sim_server *o = sim_server_by_id(s, c->id);
    if (!code && c->op == KL_RAFT_NODE_REMOVE && o)
        o->retired = true;
    if (v->change == c)
        v->change = NULL;
    free(c);
}

static int role_of(struct sim_server *v, uint64_t id, size_t *ret_voters, size_t *ret_n)
{
    int role = -1;
    const struct kl_raft_node_member *m = kl_raft_node_members(v->r.node, ret_n);
    *ret_voters = 0;
    for (size_t i = 0; i < *ret_n; i++) {
        role = m[i].id == id ? m[i].role : role;
        *ret_voters += m[i].role == RAFT_VOTER;
    }
    return role;
}

// A place for a new server: never used, or whose server the cluster has removed.
static struct sim_server *find_place(struct sim_server *v)
{
    struct sim *s = v->sim;
    size_t n, voters;
    for (int i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *o = &s->server[i];
        if (!o->used)
            return o;
        if (o != v && o->retired && role_of(v, o->id, &voters, &n) < 0)
            return o;
    }
    return NULL;
}

void sim_change(struct sim_server *v)
{
    struct sim *s = v->sim;
    size_t n, voters;
    struct sim_server *o = &s->server[sim_random(s, SIM_SERVERS)];
    int role = o->used ? role_of(v, o->id, &voters, &n) : (role_of(v, 0, &voters, &n), -1);
    if (v->change)
        return;
    struct kl_raft_node_change *c = calloc(1, sizeof(*c));
    c->cb = change_done;
    c->id = o->id;
    if (role < 0) {
        o = find_place(v);
        if (!o || n >= 5) {
            free(c);
            return;
        }
        if (o->up)
            sim_server_crash(o, false);
        sim_server_prepare(s, (int)(o - s->server), true);
        sim_post(s, 100000,
                 (struct sim_event){.kind = SIM_BOOT, .server = o->place, .run = o->run});
        c->op = KL_RAFT_NODE_ADD;
        c->id = o->id;
    } else if (role == RAFT_SPARE || (role == RAFT_STANDBY && sim_chance(s, 800))) {
        c->op = KL_RAFT_NODE_ROLE;
        c->role = role == RAFT_SPARE ? RAFT_STANDBY : RAFT_VOTER;
    } else if (role == RAFT_STANDBY) {
        c->op = KL_RAFT_NODE_REMOVE;
    } else if (o == v || sim_chance(s, 200)) { // a leader hands over before it goes
        c->op = KL_RAFT_NODE_TRANSFER;
        c->id = o == v ? 0 : o->id;
    } else if (voters > 1) {
        c->op = sim_chance(s, 500) ? KL_RAFT_NODE_REMOVE : KL_RAFT_NODE_ROLE;
        c->role = RAFT_STANDBY;
    } else {
        free(c);
        return;
    }
    v->change = c;
    sim_trace(s, v->place, "changes", c->op, c->id, (uint64_t)c->role);
    enum kl_raft_node_op op = c->op;
    uint64_t id = c->id;
    int e = kl_raft_node_change(v->r.node, c);
    if (e) {
        sim_trace(s, v->place, "change refused", op, id, (uint64_t)-e);
        if (v->change == c)
            v->change = NULL;
        free(c);
    }
}
