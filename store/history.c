// SPDX-License-Identifier: Apache-2.0
// Pages of the back end's history for watches that are behind the ring. Watches of one loop that
// stand at the same place share a page.
#include "store/view_int.h"
#include "store/store_int.h"
#include <stdlib.h>

enum { PAGE_ROWS = 500, PAGE_BYTES = 1 << 20 };

void kl_hist_free(struct kl_hist_page *p)
{
    for (size_t i = 0; i < p->q.nrows; i++) {
        kl_kv_unref(p->q.rows[i].kv);
        kl_kv_unref(p->q.rows[i].prev);
    }
    free(p->q.rows);
    free(p);
}

static void unref_page(struct kl_reader *r, struct kl_hist_page *p)
{
    if (--p->refs)
        return;
    r->held_bytes -= p->bytes;
    p->next = r->retired_pages; // its events are lent until the callback has returned
    r->retired_pages = p;
    kl_reader_defer(r);
}

void kl_hist_drop(struct kl_watch *w)
{
    if (w->page)
        unref_page(w->reader, w->page);
    w->page = NULL;
}

void kl_hist_forget(struct kl_watch *w)
{
    if (!w->waiting)
        return;
    w->waiting = false;
    *w->hist_pprev = w->hist_next;
    if (w->hist_next)
        w->hist_next->hist_pprev = w->hist_pprev;
}

static bool page_fits(const struct kl_hist_page *p, const struct kl_watch *w)
{
    if (w->cursor < 0)
        return p->q.min_rev == w->start_rev;
    return !p->q.min_rev && p->q.after_id == kl_watch_after(w);
}

static void take_page(struct kl_watch *w, struct kl_hist_page *p, kl_rev compact_rev)
{
    kl_hist_forget(w);
    kl_rev next_rev = w->cursor < 0 ? w->start_rev : kl_watch_after(w) + 1;
    if (p->q.code) {
        kl_watch_fail(w, p->q.code);
    } else if (next_rev < compact_rev) {
        kl_watch_fail(w, KL_ECOMPACTED);
    } else {
        w->page = p;
        w->page_at = 0;
        p->refs++;
        kl_watch_ready(w);
    }
}

// On the reader's loop.
static void page_arrived(struct kl_task *t)
{
    struct kl_hist_page *p = KL_CONTAINER_OF(t, struct kl_hist_page, task);
    struct kl_reader *r = p->reader;
    struct kl_hist_page **at = &r->pages;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    r->npages--;
    for (size_t i = 0; i < p->q.nrows; i++)
        p->bytes += kl_kv_value(p->q.rows[i].kv).n +
                    (p->q.rows[i].prev ? kl_kv_value(p->q.rows[i].prev).n : 0) + 512;
    r->held_bytes += p->bytes;
    p->refs = 1;
    if (!r->closed) {
        // Published before any row was removed, so a hole in this page is seen here.
        kl_rev compact_rev = kl_reader_view(r)->compact_rev;
        for (struct kl_watch *w = r->hist_waiting, *next; w; w = next) {
            next = w->hist_next;
            if (page_fits(p, w))
                take_page(w, p, compact_rev);
        }
    }
    unref_page(r, p);
}

static void cut_page(struct kl_rows_req *q, size_t n)
{
    while (q->nrows > n) {
        struct kl_event *e = &q->rows[--q->nrows];
        kl_kv_unref(e->kv);
        kl_kv_unref(e->prev);
    }
}

// The back end may have stored what is not published yet: nobody may hear of that. And a page that
// is full ends with a whole transaction (the last row's id is its revision), unless it is all of
// one.
static void trim_page(struct kl_rows_req *q, kl_rev published)
{
    size_t n = q->nrows;
    while (n && q->rows[n - 1].kv->mod_rev > published)
        n--;
    if (q->through > published)
        q->through = published;
    cut_page(q, n);
    if (!n || q->rows[n - 1].kv->id != q->through || q->rows[n - 1].kv->mod_rev == q->through)
        return;
    kl_rev part = q->rows[n - 1].kv->mod_rev;
    while (n && q->rows[n - 1].kv->mod_rev == part)
        n--;
    if (n) {
        cut_page(q, n);
        q->through = q->rows[n - 1].kv->id;
    }
}

// On the core's loop.
static void rows_done(struct kl_rows_req *q)
{
    struct kl_hist_page *p = KL_CONTAINER_OF(q, struct kl_hist_page, q);
    struct kl_loop *loop = p->reader->loop;
    if (!q->code)
        trim_page(q, p->reader->store->view->rev);
    kl_store_read_done(p->reader->store);
    kl_loop_post(loop, &p->task);
}

static void start_read(struct kl_read *rd, struct kl_store *s)
{
    struct kl_hist_page *p = KL_CONTAINER_OF(rd, struct kl_hist_page, read);
    if (s->stopping) {
        p->q.code = KL_ECANCELED;
        rows_done(&p->q);
    } else {
        s->ops->read_rows(s->backend, &p->q);
    }
}

void kl_hist_want(struct kl_watch *w)
{
    struct kl_reader *r = w->reader;
    struct kl_hist_page *p = r->pages;
    while (p && !page_fits(p, w))
        p = p->next;
    if (!p) {
        p = calloc(1, sizeof(*p));
        if (!p) {
            kl_watch_fail(w, KL_ENOMEM);
            return;
        }
        p->reader = r;
        p->task.run = page_arrived;
        p->read.start = start_read;
        p->q.done = rows_done;
        p->q.after_id = w->cursor < 0 ? 0 : kl_watch_after(w);
        p->q.min_rev = w->cursor < 0 ? w->start_rev : 0;
        p->q.max_rows = PAGE_ROWS;
        p->q.max_bytes = PAGE_BYTES;
        p->next = r->pages;
        r->pages = p;
        r->npages++;
        kl_store_read(r->store, &p->read);
    }
    w->waiting = true;
    w->hist_next = r->hist_waiting;
    w->hist_pprev = &r->hist_waiting;
    if (w->hist_next)
        w->hist_next->hist_pprev = &w->hist_next;
    r->hist_waiting = w;
}
