// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/revoke.h"
#include "apiserver/server_int.h"
#include <stdlib.h>

enum { EVENTS = 16 };

struct kl_revocations {
    struct kl_api_loop *al;
    struct kl_watch watch; // wakes the loop so that what is open ends without a request
    bool watching;
    kl_rev rev;                   // the maps are right for this revision
    struct kl_map serials, users; // value: time in seconds, plus one
    struct kl_revocable *open;
};

// kind/SECONDS/NAME; the newest counts.
static void take_key(struct kl_revocations *v, struct kl_str key)
{
    struct kl_str rest = kl_str_from(key, sizeof KL_REVOKED_PREFIX - 1), kind, time;
    int64_t at;
    if (!kl_str_split(&rest, '/', &kind) || !kl_str_split(&rest, '/', &time) || !rest.p ||
        !rest.n || !kl_str_to_i64(time, &at) || at < 0)
        return;
    rest = kl_revoked_name(kind, rest);
    struct kl_map *m = kl_str_eqz(kind, "serial") ? &v->serials
                       : kl_str_eqz(kind, "user") ? &v->users
                                                  : NULL;
    if (m && (int64_t)(uintptr_t)kl_map_get(m, rest) <= at)
        kl_map_set(m, rest, (void *)(uintptr_t)(at + 1), NULL);
}

static void read_all(struct kl_revocations *v, struct kl_view *view)
{
    const struct kl_str prefix = KL_STR(KL_REVOKED_PREFIX);
    char end[sizeof KL_REVOKED_PREFIX];
    struct kl_iter it;
    kl_map_fini(&v->serials);
    kl_map_fini(&v->users);
    kl_map_init(&v->serials);
    kl_map_init(&v->users);
    kl_iter_init(&it, view, prefix, kl_prefix_end(prefix, end));
    for (struct kl_kv *kv; (kv = kl_iter_next(&it));)
        take_key(v, kl_kv_key(kv));
}

static void begin_watch(struct kl_revocations *v);

// The view has moved on. Mostly nothing of it is ours, which the watch can tell.
static void refresh(struct kl_revocations *v, kl_rev rev)
{
    struct kl_event ev[EVENTS];
    kl_rev seen;
    bool changed = !v->watching || !v->rev;
    int n = 0;
    while (v->watching && (n = kl_watch_next(&v->watch, ev, EVENTS)) > 0)
        changed = true;
    if (n < 0) {
        v->watching = false;
        changed = true;
    }
    bool told = v->watching && kl_watch_progress(&v->watch, &seen) && seen >= rev;
    if (changed || !told)
        read_all(v, kl_reader_view(v->al->reader));
    v->rev = rev;
    if (!v->watching)
        begin_watch(v);
}

static bool is_in(const struct kl_revocations *v, const struct kl_user *u)
{
    while (u->by)
        u = u->by;
    if (*u->serial && kl_map_get(&v->serials, kl_str(u->serial)))
        return true;
    int64_t at = (int64_t)(uintptr_t)kl_map_get(&v->users, u->name);
    return at && (!u->issued_s || u->issued_s < at); // at is a second later than it was
}

// ---- what is open

static void end_open(struct kl_revocations *v)
{
    bool again = true;
    while (again) { // one may take out others
        again = false;
        for (struct kl_revocable *r = v->open; r; r = r->next)
            if (r->user && is_in(v, r->user)) {
                kl_user_unref(r->user);
                r->user = NULL; // asked once
                r->end(r);
                again = true;
                break;
            }
    }
}

static void on_change(struct kl_watch *w)
{
    struct kl_revocations *v = w->arg;
    refresh(v, kl_view_rev(kl_reader_view(v->al->reader)));
    if (v->serials.n || v->users.n)
        end_open(v);
}

static void begin_watch(struct kl_revocations *v)
{
    const struct kl_str prefix = KL_STR(KL_REVOKED_PREFIX);
    char end[sizeof KL_REVOKED_PREFIX];
    struct kl_error err;
    kl_watch_stop(&v->watch);
    v->watch = (struct kl_watch){.wake = on_change, .arg = v};
    v->watching =
        !kl_watch_start(&v->watch, v->al->reader, prefix, kl_prefix_end(prefix, end), 0, &err);
}

static struct kl_revocations *revocations_of(struct kl_api_loop *al)
{
    struct kl_revocations *v = al->revoked;
    if (v || !(v = calloc(1, sizeof *v)))
        return v;
    v->al = al;
    kl_map_init(&v->serials);
    kl_map_init(&v->users);
    return al->revoked = v;
}

bool kl_revoked(struct kl_api_loop *al, const struct kl_user *u)
{
    struct kl_revocations *v = al->revoked ? al->revoked : revocations_of(al);
    if (!v)
        return true; // no memory: nobody is let in unseen
    kl_rev rev = kl_view_rev(kl_reader_view(al->reader));
    if (rev != v->rev)
        refresh(v, rev);
    return (v->serials.n || v->users.n) && is_in(v, u);
}

void kl_revocable_add(struct kl_api_loop *al, struct kl_revocable *r, struct kl_user *u,
                      void (*end)(struct kl_revocable *r))
{
    struct kl_revocations *v = revocations_of(al);
    r->pprev = NULL;
    if (!v)
        return;
    r->user = kl_user_ref(u);
    r->end = end;
    if ((r->next = v->open))
        r->next->pprev = &r->next;
    r->pprev = &v->open;
    v->open = r;
}

void kl_revocable_remove(struct kl_revocable *r)
{
    if (!r->pprev)
        return;
    if ((*r->pprev = r->next))
        r->next->pprev = r->pprev;
    r->pprev = NULL;
    kl_user_unref(r->user);
    r->user = NULL;
}

void kl_revoke_loop_fini(struct kl_api_loop *al)
{
    struct kl_revocations *v = al->revoked;
    if (!v)
        return;
    while (v->open)
        kl_revocable_remove(v->open);
    kl_watch_stop(&v->watch);
    kl_map_fini(&v->serials);
    kl_map_fini(&v->users);
    free(v);
    al->revoked = NULL;
}
