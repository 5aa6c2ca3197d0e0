// SPDX-License-Identifier: Apache-2.0
// Views and readers. The committer exchanges a new view into each reader's slot; the reader's loop
// exchanges it out. What a loop has lent to its callbacks is retired, not freed, until they have
// returned.
#include "store/view_int.h"
#include "store/store_int.h"
#include <assert.h>
#include <stdlib.h>

enum { IDLE_REFRESH_MS = 1000 }; // a loop without watches lets go of old views this often

struct kl_view *kl_view_ref(struct kl_view *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void kl_view_unref(struct kl_view *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    kl_node_unref(v->root);
    kl_ring_unref(v->ring);
    free(v);
}

kl_rev kl_view_rev(const struct kl_view *v)
{
    return v->rev;
}

kl_rev kl_view_compact_rev(const struct kl_view *v)
{
    return v->compact_rev;
}

struct kl_kv *kl_view_get(const struct kl_view *v, struct kl_str key)
{
    return kl_node_get(v->root, key);
}

int64_t kl_view_count(const struct kl_view *v, struct kl_str key, struct kl_str end)
{
    int64_t first, n;
    kl_node_range(v->root, key, end, &first, &n);
    return n;
}

void kl_iter_init(struct kl_iter *it, const struct kl_view *v, struct kl_str key, struct kl_str end)
{
    kl_iter_init_node(it, v->root, key, end);
}

// ---- the loop's side ----

static void free_retired(struct kl_reader *r)
{
    for (size_t i = 0; i < r->nretired; i++)
        kl_view_unref(r->retired[i]);
    r->nretired = 0;
    while (r->retired_pages) {
        struct kl_hist_page *p = r->retired_pages;
        r->retired_pages = p->next;
        kl_hist_free(p);
    }
}

static void run_deferred(struct kl_task *t)
{
    struct kl_reader *r = KL_CONTAINER_OF(t, struct kl_reader, defer);
    r->deferred = false;
    free_retired(r);
    if (r->closed) {
        if (!atomic_load_explicit(&r->posted, memory_order_acquire) && !r->npages)
            kl_reader_free(r);
        return;
    }
    kl_reader_wake_ready(r);
}

void kl_reader_defer(struct kl_reader *r)
{
    if (!r->deferred) {
        r->deferred = true;
        kl_loop_defer(r->loop, &r->defer);
    }
}

// Keeps v until control has returned to the loop. Without memory the view stays as it is: newer
// ones are taken at the next call.
bool kl_reader_retire(struct kl_reader *r, struct kl_view *v)
{
    if (r->nretired == r->cap_retired) {
        size_t cap = r->cap_retired ? r->cap_retired * 2 : 4;
        struct kl_view **p = realloc(r->retired, cap * sizeof(*p));
        if (!p)
            return false;
        r->retired = p;
        r->cap_retired = cap;
    }
    r->retired[r->nretired++] = v;
    kl_reader_defer(r);
    return true;
}

struct kl_view *kl_reader_view(struct kl_reader *r)
{
    assert(kl_loop_is_current(r->loop));
    if (!atomic_load(&r->slot)) // in one order with `interested`: kl_store_publish
        return r->view;
    if (!kl_reader_retire(r, r->view))
        return r->view;
    r->view = atomic_exchange(&r->slot, NULL); // only this loop empties it
    return r->view;
}

struct kl_store *kl_reader_store(struct kl_reader *r)
{
    return r->store;
}

static void run_waits(struct kl_reader *r)
{
    struct kl_reader_wait **p = &r->waits;
    while (*p) {
        struct kl_reader_wait *w = *p;
        if (w->rev > r->view->rev) {
            p = &w->next;
            continue;
        }
        kl_reader_wait_cancel(w);
        w->cb(w);
        p = &r->waits; // the callback may have changed the list
    }
}

static void run_reader(struct kl_task *t)
{
    struct kl_reader *r = KL_CONTAINER_OF(t, struct kl_reader, task);
    atomic_store(&r->posted, false);
    kl_reader_defer(r);
    if (r->closed)
        return;
    kl_reader_view(r);
    kl_reader_dispatch(r);
    if (r->shown >= r->view->rev)
        run_waits(r);
    // Newer still, or without memory to lend it: again, when what is lent has come back.
    bool more = r->view != r->seen || r->shown < r->seen->rev || atomic_load(&r->slot);
    if (more && !atomic_exchange(&r->posted, true))
        kl_loop_post(r->loop, &r->task);
}

void kl_reader_again(struct kl_reader *r)
{
    if (!atomic_exchange(&r->posted, true))
        kl_loop_post(r->loop, &r->task);
}

void kl_reader_wait_rev(struct kl_reader *r, struct kl_reader_wait *w)
{
    w->pprev = NULL;
    atomic_fetch_add(&r->interested, 1); // before the look, so that no view slips through unseen
    if (kl_reader_view(r)->rev >= w->rev) {
        atomic_fetch_sub(&r->interested, 1);
        w->cb(w);
        return;
    }
    w->next = r->waits;
    w->pprev = &r->waits;
    if (w->next)
        w->next->pprev = &w->next;
    r->waits = w;
    w->interested = &r->interested;
}

void kl_reader_wait_cancel(struct kl_reader_wait *w)
{
    if (!w->pprev)
        return;
    *w->pprev = w->next;
    if (w->next)
        w->next->pprev = w->pprev;
    w->pprev = NULL;
    atomic_fetch_sub(w->interested, 1);
}

int kl_reader_new(struct kl_store *s, struct kl_reader **ret_r, struct kl_error *err)
{
    struct kl_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return kl_error_set(err, KL_ENOMEM, "store reader: out of memory");
    r->store = s;
    r->loop = kl_loop_current();
    assert(r->loop);
    r->task.run = run_reader;
    r->defer.run = run_deferred;
    r->ready_tail = &r->ready;
    kl_map_init(&r->buckets);
    kl_store_add_reader(s, r);
    r->seen = kl_view_ref(r->view);
    r->shown = r->shown_rev = r->seen->rev;
    *ret_r = r;
    return 0;
}

void kl_reader_free(struct kl_reader *r)
{
    kl_view_unref(atomic_exchange(&r->slot, NULL));
    kl_view_unref(r->view);
    kl_view_unref(r->seen);
    free_retired(r);
    free(r->retired);
    KL_MAP_EACH (&r->buckets, e)
        free(e->value);
    kl_map_fini(&r->buckets);
    free(r);
}

void kl_reader_close(struct kl_reader *r)
{
    if (!r)
        return;
    assert(r->nwatches == 0 && !r->waits);
    kl_store_remove_reader(r->store, r); // nobody posts after this
    r->closed = true;
    kl_reader_defer(r);
}

// ---- the committer's side ----

// Every reader has the view before anybody is told of what is in it.
void kl_store_publish(struct kl_store *s, struct kl_view *v)
{
    int64_t now = kl_store_mono_ms(s);
    pthread_mutex_lock(&s->readers_mu);
    struct kl_view *old = s->view;
    s->view = v;
    for (struct kl_reader *r = s->readers; r; r = r->next)
        kl_view_unref(atomic_exchange(&r->slot, kl_view_ref(v)));
    for (struct kl_reader *r = s->readers; r; r = r->next) {
        if (atomic_load(&r->interested) == 0 && now - r->posted_ms < IDLE_REFRESH_MS)
            continue;
        if (!atomic_exchange(&r->posted, true)) {
            r->posted_ms = now;
            kl_loop_post(r->loop, &r->task);
        }
    }
    pthread_mutex_unlock(&s->readers_mu);
    kl_view_unref(old);
}

void kl_store_add_reader(struct kl_store *s, struct kl_reader *r)
{
    pthread_mutex_lock(&s->readers_mu);
    r->view = kl_view_ref(s->view);
    r->next = s->readers;
    r->pprev = &s->readers;
    if (r->next)
        r->next->pprev = &r->next;
    s->readers = r;
    s->nreaders++;
    pthread_mutex_unlock(&s->readers_mu);
}

void kl_store_remove_reader(struct kl_store *s, struct kl_reader *r)
{
    pthread_mutex_lock(&s->readers_mu);
    *r->pprev = r->next;
    if (r->next)
        r->next->pprev = r->pprev;
    s->nreaders--;
    pthread_mutex_unlock(&s->readers_mu);
}
