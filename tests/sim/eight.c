// SPDX-License-Identifier: Apache-2.0
// Figure 8 of the Raft paper as a schedule of cut connections for five voters, over and over:
// chance alone hardly ever meets it. A leader that counted the copies of an older term's entry
// would commit entry x below, and E would take it back.
//
//   1  A leads, and only B gets its newest entries, up to x.
//   2  The others elect E, which is cut off before anybody has an entry of its term.
//   3  One of A and B is elected, W; O is the other one, and D the one of the rest that did not get
//      anything yet: it is cut off.
//   4  O says that it has x, and is cut off from W before it gets more. The last one of the rest,
//   C,
//      gets all that W has.
//   5  x is committed, or not for a while: E, D and O are alone together, and E can be elected.
#include "sim.h"
#include <string.h>

enum { VOTERS = 5, STEP_US = 4000000, PAUSE_US = 1500000 };
enum { WHOLE, APART, ALONE, COUNTED, COMMITS, BACK };

static struct kl_raft_node *node_of(struct sim *s, int place)
{
    struct sim_server *v = &s->server[place];
    return v->used && v->up && v->r.node && v->r.node->started ? v->r.node : NULL;
}

static bool leads(struct sim *s, int place)
{
    struct kl_raft_node *n = node_of(s, place);
    return n && raft_state(&n->raft) == RAFT_LEADER && !n->restarting;
}

// Whoever leads in the newest term, later than `after`; -1: nobody.
static int find_leader(struct sim *s, uint64_t after)
{
    int found = -1;
    for (int i = 0; i < VOTERS; i++) {
        if (leads(s, i) && node_of(s, i)->meta.term > after) {
            after = node_of(s, i)->meta.term;
            found = i;
        }
    }
    return found;
}

// The connection breaks, and what was on its way is lost.
static void cut(struct sim *s, int a, int b)
{
    s->cut[a][b] = s->cut[b][a] = true;
    for (size_t i = 0; i < s->nheap; i++) {
        struct sim_event *e = &s->heap[i];
        bool between = e->kind == SIM_MESSAGE && ((e->server == a && e->from == s->server[b].id) ||
                                                  (e->server == b && e->from == s->server[a].id));
        if (between)
            e->run = 0; // of nobody
    }
}

static void split(struct sim *s, unsigned side)
{
    memset(s->cut, 0, sizeof(s->cut));
    for (int i = 0; i < VOTERS; i++) {
        for (int k = 0; k < i; k++) {
            if ((side >> i & 1) != (side >> k & 1))
                cut(s, i, k);
        }
    }
}

static void enter(struct sim *s, int step, int64_t us)
{
    static const char *const names[] = {"whole", "apart", "alone", "counted", "commits", "back"};
    sim_trace(s, -1, names[step], (uint64_t)s->eight.step, s->eight.x, s->committed);
    s->eight.step = step;
    s->eight.until = s->now + us;
}

static void begin(struct sim *s)
{
    struct sim_eight *g = &s->eight;
    int leader = find_leader(s, 0);
    if (leader < 0 || !s->server[leader].r.node->ready || s->now < g->until)
        return;
    g->a = leader;
    g->b = (leader + 1 + (int)sim_random(s, VOTERS - 1)) % VOTERS;
    g->index = kl_raft_table_last(node_of(s, leader));
    g->term = node_of(s, leader)->meta.term;
    split(s, 1u << g->a | 1u << g->b);
    enter(s, APART, STEP_US);
}

static void apart(struct sim *s)
{
    struct sim_eight *g = &s->eight;
    int e = find_leader(s, g->term);
    if (e < 0 || e == g->a || e == g->b)
        return;
    g->e = e;
    g->x = kl_raft_table_last(node_of(s, g->b));
    split(s, 1u << e);
    enter(s, g->x > g->index ? ALONE : BACK, g->x > g->index ? STEP_US : 0);
}

static void alone(struct sim *s)
{
    struct sim_eight *g = &s->eight;
    struct kl_raft_node *e = node_of(s, g->e);
    int w = find_leader(s, e ? e->meta.term : 0);
    if (!e || (w != g->a && w != g->b))
        return;
    g->w = w;
    g->o = w == g->a ? g->b : g->a;
    g->d = g->c = -1;
    for (int i = 0; i < VOTERS; i++) {
        if (i == g->a || i == g->b || i == g->e)
            continue;
        g->d = g->d < 0 ? i : g->d;
        g->c = i;
    }
    cut(s, g->w, g->d);
    cut(s, g->o, g->d);
    cut(s, g->c, g->d);
    enter(s, COUNTED, STEP_US / 4);
}

static void counted(struct sim *s)
{
    struct sim_eight *g = &s->eight;
    if (!leads(s, g->w))
        return;
    struct kl_raft_peer *p = kl_raft_node_peer(node_of(s, g->w), s->server[g->o].id);
    if (!p || p->match < g->x)
        return;
    cut(s, g->w, g->o);
    cut(s, g->c, g->o);
    enter(s, COMMITS, STEP_US / 4);
}

// After each event.
void sim_eight(struct sim *s)
{
    struct sim_eight *g = &s->eight;
    bool over = s->now >= g->until;
    int step = g->step;
    switch (g->step) {
    case WHOLE:
        begin(s);
        return;
    case APART:
        apart(s);
        break;
    case ALONE:
        alone(s);
        break;
    case COUNTED:
        counted(s);
        break;
    case COMMITS:
        if (over || s->committed >= g->x) {
            split(s, 1u << g->w | 1u << g->c);
            enter(s, BACK, PAUSE_US);
        }
        return;
    case BACK:
    default:
        break;
    }
    if (over && g->step == step) {
        memset(s->cut, 0, sizeof(s->cut));
        enter(s, WHOLE, PAUSE_US / 2);
    }
}
