// SPDX-License-Identifier: Apache-2.0
// States: LIST (walking a pinned view) → END (the initial-events-end bookmark is due) → FOLLOW.
#include "watchcache/watcher.h"
#include "watchcache/cache_int.h"
#include <stdlib.h>

// What does not match costs time without a caller to notice: after so many in a row the loop's
// other work comes first.
enum { EVENTS = 32, MISSES_MAX = 256, AHEAD_MAX = 500 };

enum watcher_state { WATCHER_LIST, WATCHER_END, WATCHER_FOLLOW };

struct kl_watcher {
    struct kl_watch watch;
    struct kl_watcher_options o;
    enum watcher_state state;
    struct kl_arena arena;
    struct kl_view *view; // LIST: referenced
    struct kl_iter it;
    kl_rev list_rev;
    struct kl_event events[EVENTS];
    int n, at;
    struct kl_event held;   // handed out last: referenced until the next call
    struct kl_object *gone; // the last event's object that left the filter
    int misses;             // since something was handed out or control went back
    struct kl_loop *loop;
    struct kl_task resume; // posted while `resuming`: then it frees what was stopped
    bool resuming, stopped;
    bool converting;         // events wait for a webhook
    bool unjudged;           // `held` was not looked at yet
    struct kl_kv *unlisted;  // LIST: likewise; borrowed from the view
    struct kl_error *failed; // what the conversion ended with; in the arena
};

static void wake_watch(struct kl_watch *w)
{
    struct kl_watcher *x = KL_CONTAINER_OF(w, struct kl_watcher, watch);
    x->o.wake(x, x->o.arg);
}

int kl_watcher_start(struct kl_reader *r, const struct kl_watcher_options *o,
                     struct kl_watcher **ret, struct kl_error *err)
{
    struct kl_watcher *w = calloc(1, sizeof *w);
    if (!w)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    w->o = *o;
    w->loop = kl_loop_current();
    w->watch.wake = wake_watch;
    kl_arena_init(&w->arena, 64 * 1024);
    struct kl_str prefix = kl_filter_prefix(&w->arena, &o->filter), end = KL_STR("");
    char *end_mem = kl_arena_alloc(&w->arena, prefix.n + 1);
    int rc = KL_ENOMEM;
    if (!prefix.p || !end_mem) {
        kl_error_set(err, rc, "out of memory");
        goto fail;
    }
    if (prefix.p[prefix.n - 1] == '/')
        end = kl_prefix_end(prefix, end_mem);
    struct kl_view *v = kl_reader_view(r);
    w->list_rev = kl_view_rev(v);
    w->state = o->initial ? WATCHER_LIST : o->initial_end ? WATCHER_END : WATCHER_FOLLOW;
    if (o->initial) {
        w->view = kl_view_ref(v);
        kl_iter_init(&w->it, v, prefix, end);
    }
    kl_rev from = o->initial || !o->since ? w->list_rev + 1 : o->since + 1;
    rc = kl_watch_start(&w->watch, r, prefix, end, from, err);
    if (rc)
        goto fail;
    *ret = w;
    return 0;
fail:
    kl_view_unref(w->view);
    kl_arena_fini(&w->arena);
    free(w);
    return rc;
}

static void drop_held(struct kl_watcher *w)
{
    kl_kv_unref(w->held.kv);
    kl_kv_unref(w->held.prev);
    w->held = (struct kl_event){0};
}

static void drop_events(struct kl_watcher *w)
{
    drop_held(w);
    for (; w->at < w->n; w->at++) {
        kl_kv_unref(w->events[w->at].kv);
        kl_kv_unref(w->events[w->at].prev);
    }
    w->n = w->at = 0;
}

void kl_watcher_stop(struct kl_watcher *w)
{
    if (!w)
        return;
    kl_watch_stop(&w->watch);
    drop_events(w);
    kl_object_unref(w->gone);
    kl_view_unref(w->view);
    kl_arena_fini(&w->arena);
    w->stopped = true;
    if (!w->resuming)
        free(w);
}

static void run_resume(struct kl_task *t)
{
    struct kl_watcher *w = KL_CONTAINER_OF(t, struct kl_watcher, resume);
    w->resuming = false;
    if (w->stopped)
        free(w);
    else
        w->o.wake(w, w->o.arg);
}

// Another version that is nothing to the filter: true when it was the last for this turn.
static bool missed(struct kl_watcher *w)
{
    if (++w->misses < MISSES_MAX)
        return false;
    w->misses = 0;
    if (!w->resuming) {
        w->resuming = true;
        w->resume.run = run_resume;
        kl_loop_post(w->loop, &w->resume);
    }
    return true;
}

// What one change of the log is to this filter: 1 with *ret, 0 when it is nothing.
static int judge_event(struct kl_watcher *w, const struct kl_event *e, struct kl_watcher_event *ret,
                       struct kl_error *err)
{
    const struct kl_filter *f = &w->o.filter;
    bool open = kl_filter_is_open(f), was = e->prev != NULL, is = !e->kv->deleted;
    struct kl_object *now = NULL, *before = NULL;
    if (!is && !was) // what went is not known any more: only a new list tells
        return kl_error_set(err, KL_ECOMPACTED, "too old resource version");
    if (is && !(now = kl_cache_object(e->kv, f->res, err)))
        return KL_ECORRUPT;
    if (is && !open)
        is = kl_filter_matches(f, now);
    if (was && !open) {
        if (!(before = kl_cache_object(e->prev, f->res, err)))
            return KL_ECORRUPT;
        was = kl_filter_matches(f, before);
    }
    if (!is && !was)
        return 0;
    *ret = (struct kl_watcher_event){.kv = e->kv, .object = now, .rev = e->kv->mod_rev};
    if (is) {
        ret->type = was ? KL_EVENT_MODIFIED : KL_EVENT_ADDED;
        return 1;
    }
    ret->type = KL_EVENT_DELETED;
    if (e->kv->deleted) {
        int rc = kl_cache_bury(e, f->res, err);
        if (rc)
            return rc;
        ret->object = kl_cache_object(e->kv, f->res, err);
        return ret->object ? 1 : KL_ECORRUPT;
    }
    kl_object_unref(w->gone);
    w->gone = kl_object_with_rv(before, e->kv->mod_rev);
    if (!w->gone)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    ret->kv = NULL;
    ret->object = w->gone;
    return 1;
}

enum { PAUSED = 2 }; // next_of_...: nothing now, more after the others' turn

// ---- what a webhook converts

static int ask(struct kl_watcher *w, struct kl_kv **kvs, size_t n, struct kl_error *err)
{
    if (!w->o.convert)
        return kl_error_set(err, KL_EINTERNAL, "%s: nobody converts it", kvs[0]->key);
    int rc = w->o.convert(w->o.arg, kvs, n, err);
    w->converting = rc > 0;
    return rc;
}

void kl_watcher_converted(struct kl_watcher *w, int code, const struct kl_error *err)
{
    w->converting = false;
    if (!code || w->failed || !(w->failed = kl_arena_alloc(&w->arena, sizeof *w->failed)))
        return; // without memory it is asked for again
    *w->failed = *err;
    w->failed->code = code;
}

// What an event needs of its versions.
static size_t needs(const struct kl_watcher *w, const struct kl_event *e, struct kl_kv *ret[2])
{
    const struct kl_resource *res = w->o.filter.res;
    size_t n = 0;
    if (!e->kv->deleted && !kl_cache_is_ready(e->kv, res))
        ret[n++] = e->kv;
    bool bury = e->kv->deleted && !kl_forms_have(e->kv, res);
    bool before = bury || !kl_filter_is_open(&w->o.filter); // is looked at
    if (before && e->prev && !kl_cache_is_ready(e->prev, res))
        ret[n++] = e->prev;
    return n;
}

// 0: the held event can be judged. 1: later. It and those behind it are asked for together.
static int prepare_event(struct kl_watcher *w, struct kl_error *err)
{
    struct kl_kv *kvs[2 * (EVENTS + 1)];
    const struct kl_resource *res = w->o.filter.res;
    if (!res->custom || !res->custom->family->webhook)
        return 0;
    size_t n = needs(w, &w->held, kvs);
    if (!n)
        return 0;
    for (int i = w->at; i < w->n; i++)
        n += needs(w, &w->events[i], kvs + n);
    return ask(w, kvs, n, err);
}

// The same for an object of the list.
static int prepare_listed(struct kl_watcher *w, struct kl_kv *kv, struct kl_error *err)
{
    const struct kl_resource *res = w->o.filter.res;
    struct kl_iter ahead = w->it;
    struct kl_kv *kvs[AHEAD_MAX];
    size_t n = 0;
    if (!res->custom || kl_cache_is_ready(kv, res))
        return 0;
    for (; kv && n < AHEAD_MAX; kv = kl_iter_next(&ahead))
        kvs[n++] = kv;
    return ask(w, kvs, n, err);
}

static struct kl_kv *next_listed(struct kl_watcher *w)
{
    struct kl_kv *kv = w->unlisted;
    w->unlisted = NULL;
    return kv ? kv : kl_iter_next(&w->it);
}

static int next_of_list(struct kl_watcher *w, struct kl_watcher_event *ret, struct kl_error *err)
{
    struct kl_kv *kv;
    while ((kv = next_listed(w))) {
        int rc = prepare_listed(w, kv, err);
        if (rc > 0)
            w->unlisted = kv;
        if (rc)
            return rc > 0 ? PAUSED : rc;
        struct kl_object *o = kl_cache_object(kv, w->o.filter.res, err);
        if (!o)
            return KL_ECORRUPT;
        if (!kl_filter_matches(&w->o.filter, o)) {
            if (missed(w))
                return PAUSED;
            continue;
        }
        *ret = (struct kl_watcher_event){
            .type = KL_EVENT_ADDED, .kv = kv, .object = o, .rev = kv->mod_rev};
        return 1;
    }
    kl_view_unref(w->view);
    w->view = NULL;
    w->state = w->o.initial_end ? WATCHER_END : WATCHER_FOLLOW;
    return 0;
}

static int next_of_log(struct kl_watcher *w, struct kl_watcher_event *ret, struct kl_error *err)
{
    for (;;) {
        if (w->unjudged)
            goto judge;
        if (w->at == w->n) {
            w->n = w->at = 0;
            int n = kl_watch_next(&w->watch, w->events, EVENTS);
            if (n <= 0)
                return n < 0 ? kl_error_set(err, n, "too old resource version") : 0;
            for (int i = 0; i < n; i++) {
                kl_kv_ref(w->events[i].kv);
                kl_kv_ref(w->events[i].prev);
            }
            w->n = n;
        }
        drop_held(w);
        w->held = w->events[w->at++];
    judge:;
        int rc = prepare_event(w, err);
        w->unjudged = rc > 0;
        if (rc)
            return rc > 0 ? PAUSED : rc;
        rc = judge_event(w, &w->held, ret, err);
        if (rc)
            return rc;
        if (missed(w))
            return PAUSED;
    }
}

int kl_watcher_next(struct kl_watcher *w, struct kl_watcher_event *ret, struct kl_error *err)
{
    int rc = 0;
    if (w->converting)
        return 0;
    if (w->failed) {
        *err = *w->failed;
        return err->code;
    }
    if (w->state == WATCHER_LIST)
        rc = next_of_list(w, ret, err);
    if (rc == PAUSED)
        return 0;
    if (rc) {
        w->misses = 0;
        return rc;
    }
    if (w->state == WATCHER_END) {
        w->state = WATCHER_FOLLOW;
        *ret = (struct kl_watcher_event){
            .type = KL_EVENT_BOOKMARK, .rev = w->list_rev, .initial_end = true};
        return 1;
    }
    rc = next_of_log(w, ret, err);
    if (rc == PAUSED)
        return 0;
    w->misses = 0;
    return rc;
}

bool kl_watcher_progress(struct kl_watcher *w, kl_rev *ret_rev)
{
    return w->state == WATCHER_FOLLOW && !w->unjudged && w->at == w->n &&
           kl_watch_progress(&w->watch, ret_rev);
}
