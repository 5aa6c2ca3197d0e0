// SPDX-License-Identifier: Apache-2.0
//
//   CANDIDATE: every retry_ms  GET ─▶ decide ─▶ CREATE or UPDATE ─▶ LEADER
//   LEADER:    every retry_ms  GET ─▶ UPDATE renewTime; after renew_ms without success ─▶ CANDIDATE
//
// Clocks of servers are not compared: a Lease has run out when it has not changed for its duration
// by the watcher's own clock.
#include "client/leader.h"
#include "base/log.h"
#include "base/rand.h"
#include "client/helpers.h"
#include <stdlib.h>

enum { LEASE_MS = 15000, RENEW_MS = 10000, RETRY_MS = 2000 };

struct kl_leader {
    struct kl_leader_opts o;
    struct kl_arena memory, draft;
    struct kl_timer timer;
    struct kl_call call;
    struct kl_object *lease; // as last seen
    struct kl_object *body;
    int64_t observed_ms, renewed_ms;
    bool busy, leads, freed;
};

static const struct kl_resource *leases(void)
{
    return kl_res(KL_RES_coordination_v1_leases);
}

enum kl_leader_move kl_leader_decide(const struct kl_leader_view *v)
{
    if (!v->lease)
        return KL_LEADER_CREATE;
    struct kl_str holder = kl_text_at(v->lease, KL_F_spec, KL_F_holderIdentity);
    if (kl_str_eq(holder, v->identity))
        return KL_LEADER_RENEW;
    int64_t s = kl_int_at(v->lease, 0, KL_F_spec, KL_F_leaseDurationSeconds);
    return !holder.n || v->observed_ms + s * 1000 <= v->now_ms ? KL_LEADER_TAKE : KL_LEADER_WAIT;
}

static void destroy(struct kl_leader *l)
{
    struct kl_leader_opts o = l->o;
    kl_object_unref(l->lease);
    kl_object_unref(l->body);
    kl_arena_fini(&l->memory);
    kl_arena_fini(&l->draft);
    free(l);
    if (o.freed_cb)
        o.freed_cb(o.arg);
}

static void next_try(struct kl_leader *l)
{
    // client-go's jitter of 1.2 keeps candidates from meeting each time
    int64_t jitter = (int64_t)(kl_rand_u64() % (uint64_t)(l->o.retry_ms / 5 + 1));
    kl_timer_after(l->o.timers, &l->timer, l->o.retry_ms + (l->leads ? 0 : jitter));
}

static void judge(struct kl_leader *l)
{
    int64_t now = kl_timers_now_ms(l->o.timers);
    if (l->leads && now - l->renewed_ms >= l->o.renew_ms) {
        l->leads = false;
        kl_log(KL_LOG_WARN, "leader", "lost lease=%.*s", KL_PRI(l->o.name));
        l->o.stopped_cb(l->o.arg);
    }
}

static void observe(struct kl_leader *l, struct kl_object *lease)
{
    int64_t now = kl_timers_now_ms(l->o.timers);
    if (!l->lease || !lease ||
        !kl_value_equal(kl_get(&l->lease->root, KL_F_spec), kl_get(&lease->root, KL_F_spec)))
        l->observed_ms = now;
    kl_object_ref(lease);
    kl_object_unref(l->lease);
    l->lease = lease;
}

// The Lease as this candidate wants it; `release` leaves it to whoever comes.
static struct kl_object *make_lease(struct kl_leader *l, bool take, bool release)
{
    struct kl_arena *a = &l->draft;
    kl_arena_reset(a);
    struct kl_value root = l->lease ? kl_object_draft(l->lease) : kl_new_struct();
    struct kl_value *meta = kl_edit(a, &root, KL_F_metadata, KL_STRUCT);
    if (!meta)
        return NULL;
    kl_set_str(a, meta, KL_F_name, l->o.name);
    kl_set_str(a, meta, KL_F_namespace, l->o.ns);
    struct kl_value *spec = kl_edit(a, &root, KL_F_spec, KL_STRUCT);
    if (!spec)
        return NULL;
    int64_t now_us = kl_timers_wall_us(l->o.timers);
    int64_t changes = kl_int_or(kl_get(spec, KL_F_leaseTransitions), 0);
    kl_set_str(a, spec, KL_F_holderIdentity, release ? KL_STR("") : l->o.identity);
    kl_set_int(a, spec, KL_F_leaseDurationSeconds, release ? 1 : l->o.lease_ms / 1000);
    kl_set(a, spec, KL_F_renewTime, kl_time(now_us));
    if (take) {
        kl_set(a, spec, KL_F_acquireTime, kl_time(now_us));
        if (l->lease)
            kl_set_int(a, spec, KL_F_leaseTransitions, changes + 1);
    }
    return kl_object_freeze(leases()->type, &root);
}

static void send_call(struct kl_leader *l, enum kl_verb verb, struct kl_object *body,
                      void (*done_cb)(struct kl_call *))
{
    kl_object_unref(l->body);
    l->body = body;
    l->call = (struct kl_call){
        .verb = verb,
        .res = leases(),
        .ns = l->o.ns,
        .name = l->o.name,
        .body = body,
        .timeout_ms = (int)l->o.renew_ms / 2,
        .done_cb = done_cb,
        .arg = l,
    };
    l->busy = true;
    kl_client_start(l->o.client, &l->call);
}

static void on_released(struct kl_call *call)
{
    kl_call_fini(call);
    destroy(call->arg);
}

// Ends what was freed while a call was under way: gives the Lease up first, if it is ours.
static void end(struct kl_leader *l)
{
    struct kl_object *body = l->leads && l->lease ? make_lease(l, false, true) : NULL;
    l->leads = false;
    if (body)
        send_call(l, KL_VERB_UPDATE, body, on_released);
    else
        destroy(l);
}

static void on_written(struct kl_call *call)
{
    struct kl_leader *l = call->arg;
    l->busy = false;
    if (call->err.code == 0) {
        observe(l, call->object);
        l->renewed_ms = kl_timers_now_ms(l->o.timers);
    } else {
        kl_log(KL_LOG_DEBUG, "leader", "not written lease=%.*s error=\"%s\"", KL_PRI(l->o.name),
               call->err.msg);
    }
    bool won = call->err.code == 0 && !l->leads;
    kl_call_fini(call);
    if (l->freed) {
        l->leads |= won;
        end(l);
        return;
    }
    judge(l);
    next_try(l);
    if (won) {
        l->leads = true;
        kl_log(KL_LOG_INFO, "leader", "leading lease=%.*s identity=%.*s", KL_PRI(l->o.name),
               KL_PRI(l->o.identity));
        l->o.started_cb(l->o.arg);
    }
}

static void on_read(struct kl_call *call)
{
    struct kl_leader *l = call->arg;
    l->busy = false;
    bool known = call->err.code == 0 || call->err.code == KL_ENOTFOUND;
    if (known)
        observe(l, call->err.code ? NULL : call->object);
    kl_call_fini(call);
    if (l->freed) {
        end(l);
        return;
    }
    enum kl_leader_move move = KL_LEADER_WAIT;
    if (known)
        move = kl_leader_decide(&(struct kl_leader_view){
            .lease = l->lease ? &l->lease->root : NULL,
            .identity = l->o.identity,
            .observed_ms = l->observed_ms,
            .now_ms = kl_timers_now_ms(l->o.timers),
        });
    struct kl_object *body =
        move == KL_LEADER_WAIT ? NULL : make_lease(l, move != KL_LEADER_RENEW, false);
    if (!body) {
        judge(l);
        next_try(l);
        return;
    }
    send_call(l, move == KL_LEADER_CREATE ? KL_VERB_CREATE : KL_VERB_UPDATE, body, on_written);
}

static void on_timer(struct kl_timer *t)
{
    struct kl_leader *l = KL_CONTAINER_OF(t, struct kl_leader, timer);
    send_call(l, KL_VERB_GET, NULL, on_read);
}

struct kl_leader *kl_leader_new(const struct kl_leader_opts *o)
{
    struct kl_leader *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    kl_arena_init(&l->memory, 4096);
    kl_arena_init(&l->draft, 1 << 20);
    l->o = *o;
    l->o.ns = kl_arena_dup(&l->memory, o->ns);
    l->o.name = kl_arena_dup(&l->memory, o->name);
    l->o.identity = kl_arena_dup(&l->memory, o->identity);
    l->o.lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS;
    l->o.renew_ms = o->renew_ms ? o->renew_ms : RENEW_MS;
    l->o.retry_ms = o->retry_ms ? o->retry_ms : RETRY_MS;
    l->timer.cb = on_timer;
    if (!l->o.ns.p || !l->o.name.p || !l->o.identity.p) {
        l->o.freed_cb = NULL;
        destroy(l);
        return NULL;
    }
    kl_timer_after(o->timers, &l->timer, 0);
    return l;
}

void kl_leader_free(struct kl_leader *l)
{
    if (!l)
        return;
    l->freed = true;
    kl_timer_cancel(l->o.timers, &l->timer);
    if (!l->busy)
        end(l);
}

bool kl_leader_leads(const struct kl_leader *l)
{
    return l->leads;
}
