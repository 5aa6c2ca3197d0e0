// SPDX-License-Identifier: Apache-2.0
// A request's way through its level: classified, let in, parked or refused, and out again.
//
//                    ┌─ refused: 429
//   enter ─ classify ┤                        client gone, 15 s over
//                    ├─ RUNS ──────────────┐   ┌── WAITS ── LEFT
//                    └─ WAITS ─ its turn ──┴─ leave ── LEFT (final seats linger)
#include "apiserver/fairness/fairness_int.h"
#include "base/clock.h"
#include <stdlib.h>

enum {
    WAIT_MS = 15000,     // of a request that may take as long as it likes
    WAIT_MAX_MS = 60000, // a quarter of others' time, up to this
    LINGER_TICK_MS = 5,
    WAIT_TICK_MS = 250,
    RETRY_S = 1, // of the limits in flight
};

static struct kl_fair_loop *loop_of(struct kl_fair *f, const struct kl_api_loop *al)
{
    return &f->loops[al - f->s->loops];
}

static const double bounds[KL_FAIR_BUCKETS] = {0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5,
                                               1, 2,     5,    10,   15,  30,  60};
static const double seat_bounds[KL_FAIR_BUCKETS] = {1,   2,   4,   10,  1e9, 1e9, 1e9,
                                                    1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9};

static void observe(struct kl_fair_histogram *h, const double *b, double v)
{
    int i = 0;
    while (i < KL_FAIR_BUCKETS && v > b[i])
        i++;
    h->n[i]++;
    h->sum += v;
}

// ---- classification

static void clear_cache(struct kl_fair_loop *fl)
{
    for (size_t i = 0; fl->cache && i < KL_FAIR_CACHE; i++)
        kl_user_unref(fl->cache[i].user);
    free(fl->cache);
    fl->cache = NULL;
}

static void renew(struct kl_fair *f, struct kl_fair_loop *fl)
{
    clear_cache(fl);
    kl_fair_config_unref(f, fl->config);
    fl->config = kl_fair_config_now(f);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

// Of all that a schema looks at but the user, who is compared. The hash of strings is keyed, so
// that nobody can aim at another's.
static uint64_t key_of(const struct kl_req_info *i)
{
    uint64_t h = mix(1, (uint64_t)i->op);
    if (!i->is_resource)
        return mix(mix(h, kl_str_hash(i->path)), kl_str_hash(i->verb));
    if (i->res && !i->res->custom) // a custom row's address becomes another's when it has gone
        h = mix(h, (uint64_t)(uintptr_t)i->res);
    else
        h = mix(mix(h, kl_str_hash(i->group)), kl_str_hash(i->plural));
    if (i->sub.n)
        h = mix(h, kl_str_hash(i->sub));
    return i->ns.n ? mix(h, kl_str_hash(i->ns)) : h;
}

static void classify(struct kl_fair_loop *fl, const struct kl_req *r, struct kl_fair_entry *ret)
{
    const struct kl_req_info *i = &r->info;
    struct kl_flow_digest d = {.user = r->user,
                               .is_resource = i->is_resource,
                               .verb = i->verb,
                               .group = i->group,
                               .plural = i->plural,
                               .sub = i->sub,
                               .ns = i->ns,
                               .path = i->path};
    const struct kl_fair_config *c = fl->config;
    const struct kl_fair_flow *flow = NULL;
    for (size_t k = 0; k < c->nflows && !flow; k++)
        if (kl_flow_matches(c->flows[k].rules, &d))
            flow = &c->flows[k];
    for (size_t k = 0; k < c->nflows && !flow; k++)
        if (kl_str_eqz(c->flows[k].name, "catch-all"))
            flow = &c->flows[k];
    struct kl_str by = flow->by == KL_FLOW_BY_USER        ? r->user->name
                       : flow->by == KL_FLOW_BY_NAMESPACE ? i->ns
                                                          : KL_STR("");
    ret->flow = flow;
    ret->hash = kl_flow_hash(flow->name.p, flow->name.n, by.p, by.n);
}

static void look_up(struct kl_fair_loop *fl, const struct kl_req *r, struct kl_fair_entry *ret)
{
    uint64_t key = key_of(&r->info);
    if (!fl->cache && !(fl->cache = calloc(KL_FAIR_CACHE, sizeof *fl->cache))) {
        classify(fl, r, ret);
        return;
    }
    size_t at = (size_t)(mix(key, (uint64_t)(uintptr_t)r->user) >> 20) & (KL_FAIR_CACHE - 1);
    struct kl_fair_entry *e = &fl->cache[at];
    if (e->user != r->user || e->key != key) {
        classify(fl, r, e);
        kl_user_unref(e->user);
        e->user = kl_user_ref(r->user);
        e->key = key;
    }
    *ret = *e;
}

// ---- the level's books; its mutex is held

static void enlist(struct kl_fair_level *l, struct kl_fair_ticket *t)
{
    t->lprev = NULL;
    t->lnext = l->tickets;
    if (t->lnext)
        t->lnext->lprev = t;
    l->tickets = t;
}

static void delist(struct kl_fair_level *l, struct kl_fair_ticket *t)
{
    *(t->lprev ? &t->lprev->lnext : &l->tickets) = t->lnext;
    if (t->lnext)
        t->lnext->lprev = t->lprev;
}

static void note_run(struct kl_fair_ticket *t)
{
    struct kl_fair_stats *st = t->flow->stats;
    t->dispatched = true;
    st->dispatched++;
    st->executing++;
    st->seats += kl_fq_seats(&t->item);
    observe(&st->waited[1], bounds, (double)(t->item.started_ns - t->item.arrived_ns) / 1e9);
}

static void note_wait(struct kl_fair_ticket *t, int d)
{
    struct kl_fair_stats *st = t->flow->stats;
    st->waiting += d;
    st->waiting_seats += d * (int64_t)kl_fq_seats(&t->item);
}

void kl_fair_wake_locked(struct kl_fair_level *l)
{
    for (struct kl_fq_item *it; (it = kl_fq_ready(&l->q));) {
        struct kl_fair_ticket *t = KL_CONTAINER_OF(it, struct kl_fair_ticket, item);
        note_wait(t, -1);
        note_run(t);
        kl_loop_post(t->call->req.al->loop, &t->task);
    }
}

static void note_refused(struct kl_fair_ticket *t, enum kl_fair_reason why)
{
    struct kl_fair_stats *st = t->flow->stats;
    st->rejected[why]++;
    observe(&st->waited[0], bounds, (double)(kl_mono_ns() - t->item.arrived_ns) / 1e9);
    kl_drops_note(&t->flow->level->drops, kl_wall_ms() / 1000);
}

// ---- the loop's timer: what waits too long, what lingers no more

static void refuse(struct kl_fair_ticket *t);

static void unpark(struct kl_fair_loop *fl, struct kl_fair_ticket *t)
{
    *(t->prev ? &t->prev->next : &fl->parked) = t->next;
    if (t->next)
        t->next->prev = t->prev;
    atomic_fetch_sub_explicit(&fl->fair->waiting[t->mutating], 1, memory_order_relaxed);
    kl_http_req_on_close(t->call->hr, NULL, NULL);
}

// True: it was still in its queue. False: its turn has come, the task is on its way.
static bool leave_queue(struct kl_fair_ticket *t)
{
    struct kl_fair_level *l = t->flow->level;
    pthread_mutex_lock(&l->mu);
    bool waited = !t->dispatched;
    if (waited) {
        kl_fqs_cancel(&l->q, &t->item, kl_mono_ns());
        note_wait(t, -1);
        note_refused(t, KL_FAIR_TIME_OUT);
        delist(l, t);
        kl_fair_wake_locked(l);
    }
    pthread_mutex_unlock(&l->mu);
    return waited;
}

static void end_linger(struct kl_fair *f, struct kl_fair_lingering *g)
{
    struct kl_fair_level *l = g->level;
    pthread_mutex_lock(&l->mu);
    g->stats->seats -= g->linger.seats;
    kl_fqs_linger_end(&l->q, &g->linger, kl_mono_ns());
    kl_fair_wake_locked(l);
    pthread_mutex_unlock(&l->mu);
    kl_fair_config_unref(f, g->config);
    free(g);
}

static void arm(struct kl_fair_loop *fl);

static void on_timer(uv_timer_t *h)
{
    struct kl_fair_loop *fl = h->data;
    int64_t ms = kl_mono_ms(), ns = kl_mono_ns();
    for (struct kl_fair_lingering **at = &fl->lingering, *g; (g = *at);) {
        if (g->until_ns > ns) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        end_linger(fl->fair, g);
    }
    for (struct kl_fair_ticket *t = fl->parked, *next; t; t = next) {
        next = t->next;
        if (t->until_ms > ms || !leave_queue(t))
            continue;
        unpark(fl, t);
        refuse(t);
    }
    arm(fl);
}

static void arm(struct kl_fair_loop *fl)
{
    if (!fl->parked && !fl->lingering)
        return;
    uint64_t in = fl->lingering ? LINGER_TICK_MS : WAIT_TICK_MS;
    if (uv_is_active((uv_handle_t *)&fl->timer) && uv_timer_get_due_in(&fl->timer) <= in)
        return;
    uv_timer_start(&fl->timer, on_timer, in, 0);
}

static void make_timer(struct kl_fair_loop *fl, struct kl_api_loop *al)
{
    if (fl->timer_ready)
        return;
    uv_timer_init(kl_loop_uv(al->loop), &fl->timer);
    uv_unref((uv_handle_t *)&fl->timer);
    fl->timer.data = fl;
    fl->timer_ready = true;
}

// ---- out

static void answer_busy(struct kl_api_call *c, int retry_after_s)
{
    c->req.fail.retry_after_s = retry_after_s;
    kl_http_answer_text(&c->req, 429, "text/plain; charset=utf-8",
                        KL_STR("Too many requests, please try again later.\n"));
}

static void refuse(struct kl_fair_ticket *t)
{
    struct kl_fair_level *l = t->flow->level;
    t->state = KL_TICKET_REFUSED;
    pthread_mutex_lock(&l->mu);
    int after = (int)l->drops.retry_after;
    pthread_mutex_unlock(&l->mu);
    answer_busy(t->call, after);
}

static void linger(struct kl_fair_ticket *t, const struct kl_fq_linger *l)
{
    struct kl_fair *f = t->call->req.srv->fair;
    struct kl_fair_loop *fl = loop_of(f, t->call->req.al);
    struct kl_fair_lingering *g = malloc(sizeof *g);
    if (!g) {
        struct kl_fq_linger now = *l;
        pthread_mutex_lock(&t->flow->level->mu);
        t->flow->stats->seats -= now.seats;
        kl_fqs_linger_end(&t->flow->level->q, &now, kl_mono_ns());
        kl_fair_wake_locked(t->flow->level);
        pthread_mutex_unlock(&t->flow->level->mu);
        kl_fair_config_unref(f, t->config);
        return;
    }
    *g = (struct kl_fair_lingering){.linger = *l,
                                    .level = t->flow->level,
                                    .config = t->config,
                                    .stats = t->flow->stats,
                                    .until_ns = kl_mono_ns() + t->item.latency_ns,
                                    .next = fl->lingering};
    fl->lingering = g;
    make_timer(fl, t->call->req.al);
    arm(fl);
}

static void finish(struct kl_fair_ticket *t)
{
    struct kl_fair *f = t->call->req.srv->fair;
    struct kl_fair_level *l = t->flow->level;
    struct kl_fair_stats *st = t->flow->stats;
    struct kl_fq_linger rest;
    int64_t now = kl_mono_ns();
    t->state = KL_TICKET_LEFT;
    pthread_mutex_lock(&l->mu);
    st->executing--;
    observe(&st->executed[t->mutating], bounds, (double)(now - t->item.started_ns) / 1e9);
    bool stays = kl_fqs_finish(&l->q, &t->item, &rest, now);
    if (!stays)
        st->seats -= kl_fq_seats(&t->item);
    delist(l, t);
    kl_fair_wake_locked(l);
    pthread_mutex_unlock(&l->mu);
    atomic_fetch_sub_explicit(&f->executing[t->mutating], 1, memory_order_relaxed);
    if (stays)
        linger(t, &rest);
    else
        kl_fair_config_unref(f, t->config);
}

void kl_fair_leave(struct kl_req *r)
{
    struct kl_fair_ticket *t = r->ticket;
    struct kl_fair *f = r->srv->fair;
    if (r->inflight) {
        atomic_fetch_sub_explicit(&f->inflight[r->inflight - 1], 1, memory_order_relaxed);
        r->inflight = 0;
    }
    if (!t)
        return;
    if (t->state == KL_TICKET_RUNS) {
        finish(t);
    } else if (t->state == KL_TICKET_REFUSED) {
        t->state = KL_TICKET_LEFT;
        kl_fair_config_unref(f, t->config);
    }
}

// ---- in

static void run(struct kl_fair_ticket *t)
{
    t->state = KL_TICKET_RUNS;
    atomic_fetch_add_explicit(&t->call->req.srv->fair->executing[t->mutating], 1,
                              memory_order_relaxed);
}

static void on_turn(struct kl_task *task)
{
    struct kl_fair_ticket *t = KL_CONTAINER_OF(task, struct kl_fair_ticket, task);
    struct kl_fair *f = t->call->req.srv->fair;
    bool gone = t->state == KL_TICKET_LEFT;
    run(t);
    if (gone) {
        kl_api_call_release(t->call);
        return;
    }
    unpark(loop_of(f, t->call->req.al), t);
    t->go_on(t->call);
}

// The client went away while its request waited.
static void on_gone(void *arg, struct kl_http_req *hr, int status)
{
    struct kl_fair_ticket *t = arg;
    struct kl_fair *f = t->call->req.srv->fair;
    (void)hr, (void)status;
    unpark(loop_of(f, t->call->req.al), t);
    if (leave_queue(t)) {
        t->state = KL_TICKET_REFUSED;
        kl_api_call_release(t->call);
    } else {
        t->state = KL_TICKET_LEFT; // on_turn lets go of it
    }
}

static void park(struct kl_fair_loop *fl, struct kl_fair_ticket *t)
{
    struct kl_api_call *c = t->call;
    t->state = KL_TICKET_WAITS;
    int64_t most_ms = c->limit_ms ? c->limit_ms / 4 : WAIT_MS;
    t->until_ms = kl_mono_ms() + (most_ms < WAIT_MAX_MS ? most_ms : WAIT_MAX_MS);
    t->prev = NULL;
    t->next = fl->parked;
    if (t->next)
        t->next->prev = t;
    fl->parked = t;
    atomic_fetch_add_explicit(&fl->fair->waiting[t->mutating], 1, memory_order_relaxed);
    make_timer(fl, c->req.al);
    arm(fl);
    kl_http_req_on_close(c->hr, on_gone, t);
}

static bool is_mutating(const struct kl_req_info *i)
{
    if (!i->is_resource)
        return !kl_str_eqz(i->verb, "get") && !kl_str_eqz(i->verb, "head") &&
               !kl_str_eqz(i->verb, "options");
    return i->op != KL_VERB_GET && i->op != KL_VERB_LIST && i->op != KL_VERB_WATCH;
}

// The limits of a server without priorities.
static bool enter_plain(struct kl_fair *f, struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    bool mutating = is_mutating(&r->info);
    int max = mutating ? f->o.max_mutating_inflight : f->o.max_inflight;
    if (max <= 0 || r->user->masters || (r->info.is_resource && r->info.op == KL_VERB_WATCH))
        return true;
    if (atomic_fetch_add_explicit(&f->inflight[mutating], 1, memory_order_relaxed) < max) {
        r->inflight = mutating ? 2 : 1;
        return true;
    }
    atomic_fetch_sub_explicit(&f->inflight[mutating], 1, memory_order_relaxed);
    answer_busy(c, RETRY_S);
    return false;
}

bool kl_fair_enter(struct kl_api_call *c, void (*go_on)(struct kl_api_call *c))
{
    struct kl_req *r = &c->req;
    struct kl_fair *f = r->srv->fair;
    struct kl_fair_entry e;
    bool watch = r->info.is_resource && r->info.op == KL_VERB_WATCH;
    if (!f || (!watch && kl_is_long_running(&r->info))) // neither limited nor counted
        return true;
    if (f->o.off)
        return enter_plain(f, c);
    struct kl_fair_loop *fl = loop_of(f, r->al);
    if (!fl->config ||
        fl->config->generation != atomic_load_explicit(&f->generation, memory_order_acquire))
        renew(f, fl);
    struct kl_fair_ticket *t = KL_ARENA_NEW(r->arena, struct kl_fair_ticket);
    if (!t) {
        kl_fail_oom(r);
        kl_req_fail(r);
        return false;
    }
    look_up(fl, r, &e);
    t->call = c;
    t->asked = c->req.info;
    t->user = c->req.user;
    t->flow = e.flow;
    t->config = kl_fair_config_ref(fl->config);
    t->go_on = go_on;
    t->mutating = is_mutating(&r->info);
    t->task.run = on_turn;
    r->ticket = t;
    struct kl_fair_level *l = e.flow->level;
    kl_fair_estimate(f, r, atomic_load_explicit(&l->max_seats, memory_order_relaxed), &t->item);
    pthread_mutex_lock(&l->mu);
    observe(&t->flow->stats->estimated, seat_bounds, kl_fq_seats(&t->item));
    enum kl_fq_verdict v = kl_fqs_start(&l->q, &t->item, e.hash, kl_mono_ns());
    if (v == KL_FQ_RUN || v == KL_FQ_WAIT)
        enlist(l, t);
    if (v == KL_FQ_RUN)
        note_run(t);
    else if (v == KL_FQ_WAIT)
        note_wait(t, 1);
    else
        note_refused(t, v == KL_FQ_QUEUE_FULL ? KL_FAIR_QUEUE_FULL : KL_FAIR_CONCURRENCY_LIMIT);
    kl_fair_wake_locked(l);
    // Parked before anybody can tell that its turn has come: the task runs on this loop, later.
    pthread_mutex_unlock(&l->mu);
    if (v == KL_FQ_RUN) {
        run(t);
        return true;
    }
    if (v == KL_FQ_WAIT)
        park(fl, t);
    else
        refuse(t);
    return false;
}

void kl_fair_uids(const struct kl_req *r, struct kl_str *ret_schema, struct kl_str *ret_level)
{
    const struct kl_fair_ticket *t = r->ticket;
    if (!t || t->state == KL_TICKET_LEFT) {
        *ret_schema = *ret_level = KL_STR("");
        return;
    }
    *ret_schema = t->flow->uid;
    *ret_level = kl_str(t->flow->level_uid);
}

void kl_fair_loop_fini(struct kl_api_loop *al)
{
    struct kl_fair *f = al->srv->fair;
    if (!f)
        return;
    struct kl_fair_loop *fl = loop_of(f, al);
    while (fl->lingering) {
        struct kl_fair_lingering *g = fl->lingering;
        fl->lingering = g->next;
        end_linger(f, g);
    }
    clear_cache(fl);
    kl_fair_config_unref(f, fl->config);
    fl->config = NULL;
    if (fl->timer_ready)
        uv_close((uv_handle_t *)&fl->timer, NULL);
    fl->timer_ready = false;
}
