// SPDX-License-Identifier: Apache-2.0
// Time, chance, the network and what goes wrong.
#include "sim.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALM_S = 90 }; // after all is mended, a cluster must be one again

uint64_t sim_random(struct sim *s, uint64_t n)
{
    uint64_t z = (s->rng += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return n ? z % n : z;
}

bool sim_chance(struct sim *s, int of_1000)
{
    return (int)sim_random(s, 1000) < of_1000;
}

// ---- what happened ----

static void print_line(const struct sim_line *l)
{
    printf("%9.3f ms  %d  %s %llu %llu %llu\n", (double)l->at / 1000, l->server, l->what,
           (unsigned long long)l->a, (unsigned long long)l->b, (unsigned long long)l->c);
}

void sim_trace(struct sim *s, int server, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    struct sim_line *l = &s->trace[s->ntrace++ % SIM_TRACE];
    *l = (struct sim_line){s->now, what, server, a, b, c};
    if (s->o.verbose)
        print_line(l);
}

void sim_break(struct sim *s, const char *what, const char *fmt, ...)
{
    va_list ap;
    if (s->broken)
        return;
    s->broken = what;
    va_start(ap, fmt);
    vsnprintf(s->detail, sizeof(s->detail), fmt, ap);
    va_end(ap);
}

void sim_print(const struct sim *s)
{
    uint64_t from = s->ntrace > SIM_TRACE ? s->ntrace - SIM_TRACE : 0;
    for (uint64_t i = from; !s->o.verbose && i < s->ntrace; i++)
        print_line(&s->trace[i % SIM_TRACE]);
    printf("seed %llu, at %.3f ms: %s: %s\n", (unsigned long long)s->o.seed, (double)s->now / 1000,
           s->broken ? s->broken : "ok", s->detail);
}

// ---- events ----

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

void sim_post(struct sim *s, int64_t after_us, struct sim_event e)
{
    if (s->nheap == s->cap_heap) {
        s->cap_heap = s->cap_heap ? s->cap_heap * 2 : 256;
        s->heap = realloc(s->heap, s->cap_heap * sizeof(*s->heap));
    }
    e.at = s->now + after_us;
    e.order = s->order++;
    size_t i = s->nheap++;
    for (; i && is_before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static struct sim_event take_first(struct sim *s)
{
    struct sim_event first = s->heap[0], last = s->heap[--s->nheap];
    size_t i = 0, k;
    while ((k = 2 * i + 1) < s->nheap) {
        if (k + 1 < s->nheap && is_before(&s->heap[k + 1], &s->heap[k]))
            k++;
        if (!is_before(&s->heap[k], &last))
            break;
        s->heap[i] = s->heap[k];
        i = k;
    }
    if (s->nheap)
        s->heap[i] = last;
    return first;
}

// ---- the network ----

static void deliver(struct sim *s, int from, int to, enum kl_peer_channel c, struct kl_bytes *msg,
                    bool late)
{
    int64_t d = s->net_us + (int64_t)sim_random(s, (uint64_t)s->net_jitter_us + 1);
    if (late) // a connection that hung, or an old one beside a new one
        d += (int64_t)sim_random(s, 3000000);
    else if (!s->reorder && s->now + d < s->arrives[from][to])
        d = s->arrives[from][to] - s->now; // in order, as on one connection
    if (!late)
        s->arrives[from][to] = s->now + d;
    sim_post(s, d,
             (struct sim_event){.kind = SIM_MESSAGE,
                                .server = to,
                                .from = s->server[from].id,
                                .run = s->server[to].run,
                                .channel = c,
                                .msg = kl_bytes_ref(msg)});
}

int sim_send(struct sim *s, struct sim_server *from, uint64_t to, enum kl_peer_channel c,
             struct kl_bytes *msg)
{
    struct sim_server *v = sim_server_by_id(s, to);
    if (!v || !from->up || from->dying)
        return KL_EUNAVAILABLE;
    bool cut = s->cut[from->place][v->place] || !v->up;
    if (cut && sim_chance(s, 500))
        return KL_EUNAVAILABLE; // known to be so
    bool lost = !s->calm && sim_chance(s, s->drop);
    bool late = !s->calm && ((cut && sim_chance(s, 300)) || sim_chance(s, s->late));
    if ((cut || lost) && !late)
        return 0;
    deliver(s, from->place, v->place, c, msg, late);
    if (!s->calm && sim_chance(s, s->twice))
        deliver(s, from->place, v->place, c, msg, true);
    return 0;
}

// ---- what goes wrong ----

static void clear_cuts(struct sim *s)
{
    memset(s->cut, 0, sizeof(s->cut));
}

static void cut_some(struct sim *s)
{
    clear_cuts(s);
    switch (sim_random(s, 4)) {
    case 0: { // two sides
        uint64_t side = sim_random(s, 1 << SIM_SERVERS);
        for (int i = 0; i < SIM_SERVERS; i++) {
            for (int k = 0; k < SIM_SERVERS; k++)
                s->cut[i][k] = (side >> i & 1) != (side >> k & 1);
        }
        break;
    }
    case 1: { // one server alone; often the one that leads
        struct sim_server *l = sim_server_leader(s);
        int x = l && sim_chance(s, 700) ? l->place : (int)sim_random(s, SIM_SERVERS);
        for (int i = 0; i < SIM_SERVERS; i++)
            s->cut[x][i] = s->cut[i][x] = i != x;
        break;
    }
    case 2: { // one way
        int x = (int)sim_random(s, SIM_SERVERS);
        bool out = sim_chance(s, 500);
        for (int i = 0; i < SIM_SERVERS; i++)
            s->cut[out ? x : i][out ? i : x] = i != x && sim_chance(s, 700);
        break;
    }
    default: // here and there
        for (int i = 0; i < SIM_SERVERS; i++) {
            for (int k = 0; k < SIM_SERVERS; k++)
                s->cut[i][k] = i != k && sim_chance(s, 300);
        }
        break;
    }
    sim_trace(s, -1, "cut", 0, 0, 0);
}

static struct sim_server *pick(struct sim *s)
{
    struct sim_server *l = sim_server_leader(s);
    if (l && sim_chance(s, 400))
        return l;
    struct sim_server *v = &s->server[sim_random(s, SIM_SERVERS)];
    return v->used && v->up ? v : NULL;
}

static void fault(struct sim *s)
{
    struct sim_server *v = pick(s);
    uint64_t what = sim_random(s, 100);
    if (what < 25) {
        cut_some(s);
    } else if (what < 40) {
        clear_cuts(s);
        sim_trace(s, -1, "heal", 0, 0, 0);
    } else if (what < 45) { // all at once
        for (int i = 0; i < SIM_SERVERS; i++) {
            if (s->server[i].up)
                sim_server_crash(&s->server[i], true);
        }
    } else if (!v) {
        return;
    } else if (what < 60) {
        sim_server_crash(v, sim_chance(s, 600));
    } else if (what < 75) { // in the middle of a write
        v->disk.die_at = v->disk.calls + 1 + (long)sim_random(s, 40);
        sim_trace(s, v->place, "dies soon", (uint64_t)v->disk.die_at, 0, 0);
    } else if (what < 80) {
        v->disk.fail_at = v->disk.calls + 1 + (long)sim_random(s, 60);
        v->disk.fail_all = sim_chance(s, 500);
        sim_trace(s, v->place, "I/O error soon", (uint64_t)v->disk.fail_at, 0, 0);
    } else if (what < 85) {
        v->disk.room = v->disk.room < 0 ? (int64_t)sim_random(s, 100000) : -1;
        sim_trace(s, v->place, "room", (uint64_t)v->disk.room, 0, 0);
    } else { // stopped for a while: SIGSTOP, a virtual machine that moves
        v->paused = s->now + (int64_t)sim_random(s, 3000000);
        sim_trace(s, v->place, "paused until ms", (uint64_t)v->paused / 1000, 0, 0);
    }
}

static int64_t pick_us(struct sim *s, int64_t low, int64_t high)
{
    int64_t a = low + (int64_t)sim_random(s, (uint64_t)(high - low));
    return sim_chance(s, 500) ? low + (a - low) / 10 : a;
}

static void make_weather(struct sim *s)
{
    s->net_us = pick_us(s, 50, 20000);
    s->net_jitter_us = pick_us(s, 10, 30000);
    s->disk_us = pick_us(s, 50, 40000);
    s->disk_jitter_us = pick_us(s, 10, 60000);
    s->db_us = pick_us(s, 50, 50000);
    s->fault_us = pick_us(s, 50000, 1500000);
    s->client_us = pick_us(s, 10000, 150000);
    s->drop = sim_chance(s, 500) ? (int)sim_random(s, 200) : 0;
    s->late = sim_chance(s, 500) ? (int)sim_random(s, 60) : 0;
    s->twice = sim_chance(s, 300) ? (int)sim_random(s, 60) : 0;
    s->reorder = sim_chance(s, 300);
    s->members = sim_chance(s, 400);
    s->snapshots = sim_chance(s, 600);
    s->voters = sim_chance(s, 100) ? 1 : sim_chance(s, 600) ? 3 : 5;
    s->eight.on = s->o.without == SIM_GATE || (s->voters == 5 && sim_chance(s, 200));
    if (s->eight.on) { // it matters where the disk is slower than the network
        s->voters = 5;
        s->members = false;
        s->net_us = 50;
        s->net_jitter_us = 2000;
        s->disk_us = 10000;
        s->disk_jitter_us = 300000;
        s->drop = s->late = s->twice = 0;
    }
}

// ---- a run ----

// Everything is mended: in the end it is one cluster with one state, and takes a write.
static void calm_down(struct sim *s)
{
    s->calm = true;
    s->calm_floor = s->floor;
    clear_cuts(s);
    sim_trace(s, -1, "calm", 0, 0, 0);
    for (int i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *v = &s->server[i];
        v->disk.room = -1;
        v->disk.die_at = v->disk.fail_at = 0;
        v->paused = 0;
    }
}

static bool is_one(struct sim *s)
{
    struct sim_server *l = sim_server_leader(s);
    size_t n;
    if (!l || l->r.rev < s->floor || l->r.inflight)
        return false;
    const struct kl_raft_node_member *m = kl_raft_node_members(l->r.node, &n);
    for (size_t i = 0; i < n; i++) {
        struct sim_server *v = sim_server_by_id(s, m[i].id);
        if (m[i].role == RAFT_SPARE)
            continue;
        if (!v || !v->up || v->r.rev != l->r.rev || v->r.chain != l->r.chain)
            return false;
    }
    return true;
}

static void step(struct sim *s)
{
    struct sim_event e = take_first(s);
    struct sim_server *v = e.server >= 0 ? &s->server[e.server] : NULL;
    s->now = e.at;
    s->steps++;
    if (e.kind == SIM_FAULT) {
        if (s->calm)
            return;
        fault(s);
        sim_post(s, (int64_t)sim_random(s, (uint64_t)s->fault_us * 2) + 1, e);
    } else if (e.kind == SIM_CHANGE) {
        struct sim_server *l = sim_server_leader(s);
        if (s->calm)
            return;
        if (l && l->paused <= s->now)
            sim_change(l);
        sim_post(s, (int64_t)sim_random(s, 1500000) + 1, e);
    } else if (e.kind == SIM_BOOT) {
        if (!v->up && v->used && e.run == v->run)
            sim_server_boot(v);
    } else if (v->up && e.run == v->run && v->paused > s->now && !s->calm) {
        sim_post(s, v->paused - s->now, e); // in the same order
        return;
    } else if (v->up && e.run == v->run) {
        sim_server_event(v, &e);
    }
    kl_bytes_unref(e.msg);
    if (s->eight.on && !s->calm)
        sim_eight(s);
}

struct sim *sim_run(const struct sim_options *o)
{
    struct sim *s = calloc(1, sizeof(*s));
    bool one = false;
    s->o = *o;
    s->dir[0] = 'd';
    s->rng = o->seed * 0x2545f4914f6cdd1dull + 1;
    s->next_id = 1;
    s->floor = 1;
    make_weather(s);
    for (int i = 0; i < s->voters; i++)
        sim_server_prepare(s, i, false);
    if (sim_server_bootstrap(s, s->voters))
        sim_break(s, "bootstrap", "the disks cannot be prepared");
    for (int i = 0; i < s->voters; i++)
        sim_server_boot(&s->server[i]);
    if (!s->eight.on)
        sim_post(s, s->fault_us + 1000000, (struct sim_event){.kind = SIM_FAULT, .server = -1});
    if (s->members || s->voters == 1)
        sim_post(s, 1000000, (struct sim_event){.kind = SIM_CHANGE, .server = -1});
    int64_t end = (int64_t)o->seconds * 1000000;
    while (!s->broken && s->now < end && s->nheap)
        step(s);
    if (!s->broken)
        calm_down(s);
    for (end = s->now + CALM_S * 1000000ll; !s->broken && !one && s->now < end && s->nheap;) {
        step(s);
        one = s->steps % 16 == 0 && s->floor > s->calm_floor && is_one(s);
    }
    if (!s->broken && !one)
        sim_break(s, "progress", "%d s after everything was mended it is not one cluster again",
                  CALM_S);
    return s;
}

void sim_free(struct sim *s)
{
    for (int i = 0; i < SIM_SERVERS; i++)
        sim_server_free(&s->server[i]);
    for (size_t i = 0; i < s->nheap; i++)
        kl_bytes_unref(s->heap[i].msg);
    free(s->heap);
    free(s->seen);
    free(s);
}
