// SPDX-License-Identifier: Apache-2.0
// Watches and their dispatcher, all on the reader's loop.
//
//   start ─┬─ start_rev above what was seen ──────────────► SYNCED ◄── end of the ring ── SCAN
//          ├─ in the ring ─────────────────────────────────────────────────────────────►  ▲ │
//          └─ older ► HISTORY ── cursor within the ring ───────────────────────────────────┘ │
//                       ▲   │                                                                │
//                       │   └─ compacted ► FAILED          fell out of the ring ─────────────┘
//
// A synced watch costs nothing until an event matches: its cursor is the reader's. The dispatcher
// finds the matching ones by hashing the key's directories and notes the event's id in pending[].
#include "store/view_int.h"
#include "store/store_int.h"
#include <assert.h>
#include <stdlib.h>

enum { SCAN_BUDGET = 8192, DIR_MIN = 3, DIR_MAX = 4 };

// ---- buckets ----

// The directory of `key` that ends with its nth slash, or an empty string.
static struct kl_str key_dir(struct kl_str key, int nth)
{
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] == '/' && --nth == 0)
            return (struct kl_str){key.p, i + 1};
    }
    return (struct kl_str){NULL, 0};
}

static bool range_in_dir(struct kl_str dir, struct kl_str end)
{
    // The end is in the directory, or its first byte behind: "/a/b/" ends at "/a/b0".
    if (kl_str_starts(end, dir))
        return true;
    return end.n == dir.n && memcmp(end.p, dir.p, dir.n - 1) == 0 && end.p[end.n - 1] == '/' + 1;
}

// Where a watch is registered: its one key, the deepest directory around its range, or nothing.
static struct kl_str bucket_name(struct kl_str key, struct kl_str end)
{
    if (!end.n)
        return key;
    for (int nth = DIR_MAX; nth >= DIR_MIN; nth--) {
        struct kl_str dir = key_dir(key, nth);
        if (dir.n && range_in_dir(dir, end))
            return dir;
    }
    return (struct kl_str){NULL, 0};
}

static int enter_bucket(struct kl_watch *w)
{
    struct kl_reader *r = w->reader;
    struct kl_str name = bucket_name(w->key, w->end);
    struct kl_watch **list = &r->others;
    if (name.n) {
        struct kl_watch_bucket *b = kl_map_get(&r->buckets, name);
        if (!b) {
            b = calloc(1, sizeof(*b) + name.n);
            if (!b || kl_map_set(&r->buckets, name, b, NULL)) {
                free(b);
                return KL_ENOMEM;
            }
            memcpy(b->mem, name.p, name.n);
            b->name = (struct kl_str){b->mem, name.n};
        }
        w->bucket = b;
        list = &b->watches;
    }
    w->bucket_next = *list;
    w->bucket_pprev = list;
    if (w->bucket_next)
        w->bucket_next->bucket_pprev = &w->bucket_next;
    *list = w;
    return 0;
}

static void leave_bucket(struct kl_watch *w)
{
    *w->bucket_pprev = w->bucket_next;
    if (w->bucket_next)
        w->bucket_next->bucket_pprev = w->bucket_pprev;
    if (w->bucket && !w->bucket->watches) {
        kl_map_del(&w->reader->buckets, w->bucket->name);
        free(w->bucket);
    }
    w->bucket = NULL;
}

// ---- the ready list ----

static void leave_ready(struct kl_watch *w)
{
    if (!w->in_ready)
        return;
    w->in_ready = false;
    *w->ready_pprev = w->ready_next;
    if (w->ready_next)
        w->ready_next->ready_pprev = w->ready_pprev;
    else
        w->reader->ready_tail = w->ready_pprev;
}

void kl_watch_ready(struct kl_watch *w)
{
    struct kl_reader *r = w->reader;
    if (w->awake || w->in_ready)
        return;
    w->in_ready = true;
    w->ready_next = NULL;
    w->ready_pprev = r->ready_tail;
    *r->ready_tail = w;
    r->ready_tail = &w->ready_next;
    kl_reader_defer(r);
}

void kl_reader_wake_ready(struct kl_reader *r)
{
    // Those that come while this runs have deferred again and wait for the next turn.
    struct kl_watch *last =
        r->ready ? KL_CONTAINER_OF(r->ready_tail, struct kl_watch, ready_next) : NULL;
    for (bool more = last != NULL; more && r->ready;) {
        struct kl_watch *w = r->ready;
        more = w != last;
        leave_ready(w);
        w->awake = true;
        w->wake(w); // may stop any watch, also `last`: then the list just runs empty
        if (more && r->ready && kl_loop_is_late(r->loop)) { // others are waiting on this loop
            kl_reader_again(r);
            break;
        }
    }
}

void kl_watch_fail(struct kl_watch *w, int code)
{
    w->state = KL_WATCH_FAILED;
    w->code = code;
    w->npending = 0;
    kl_watch_ready(w);
}

// ---- dispatch ----

// Everything up to `rev` is done with.
static void set_cursor(struct kl_watch *w, kl_rev rev)
{
    w->cursor = rev;
    w->sub = UINT32_MAX;
}

// Up to kv, which may be one of several rows with its id.
static void pass_row(struct kl_watch *w, const struct kl_kv *kv)
{
    w->cursor = kv->id;
    w->sub = kv->more ? kv->sub : UINT32_MAX;
}

static void go_back(struct kl_watch *w, kl_rev rev)
{
    if (w->cursor < rev)
        set_cursor(w, rev);
}

kl_rev kl_watch_after(const struct kl_watch *w)
{
    return w->sub == UINT32_MAX ? w->cursor : w->cursor - 1;
}

static bool watch_wants(const struct kl_watch *w, const struct kl_kv *kv)
{
    bool new = kv->id > w->cursor || (kv->id == w->cursor && kv->sub > w->sub);
    return new && kv->mod_rev >= w->start_rev &&kl_range_has(w->key, w->end, kl_kv_key(kv));
}

static void offer_event(struct kl_watch *list, const struct kl_kv *kv)
{
    for (struct kl_watch *w = list; w; w = w->bucket_next) {
        if (w->state != KL_WATCH_SYNCED || !watch_wants(w, kv))
            continue;
        if (w->npending && w->pending[w->npending - 1] == kv->id)
            continue; // stands for all with that id
        if (w->npending == KL_WATCH_PENDING) {
            go_back(w, w->pending[0] - 1);
            w->npending = 0;
            w->state = KL_WATCH_SCAN;
        } else {
            w->pending[w->npending++] = kv->id;
        }
        kl_watch_ready(w);
    }
}

static void offer_bucket(struct kl_reader *r, struct kl_str name, const struct kl_kv *kv)
{
    const struct kl_watch_bucket *b = kl_map_get(&r->buckets, name);
    if (b)
        offer_event(b->watches, kv);
}

static void dispatch_event(struct kl_reader *r, const struct kl_kv *kv)
{
    struct kl_str key = kl_kv_key(kv), dir = {NULL, 0};
    if (r->buckets.n) {
        for (int nth = DIR_MIN; nth <= DIR_MAX; nth++) {
            struct kl_str d = key_dir(key, nth);
            if (!d.n)
                break;
            dir = d;
            offer_bucket(r, dir, kv);
        }
        if (dir.n != key.n)
            offer_bucket(r, key, kv);
    }
    if (r->others)
        offer_event(r->others, kv);
}

// The loop was away for longer than the ring is: synced watches go on from where they were.
static void unsync_list(struct kl_watch *list, kl_rev seen)
{
    for (struct kl_watch *w = list; w; w = w->bucket_next) {
        if (w->state != KL_WATCH_SYNCED)
            continue;
        go_back(w, w->npending ? w->pending[0] - 1 : seen);
        w->npending = 0;
        w->state = KL_WATCH_SCAN;
        kl_watch_ready(w);
    }
}

// Some of the events between what was shown and v; whether that was all.
static bool show_events(struct kl_reader *r, const struct kl_view *v)
{
    struct kl_ring_at at;
    kl_ring_seek(&at, v->ring, v->last_n, r->shown);
    size_t n = 0;
    const struct kl_event *e = NULL;
    // Rows that share an id are not torn apart.
    for (bool within = false; (n < KL_TURN_ROWS || within) && (e = kl_ring_next(&at)); n++) {
        dispatch_event(r, e->kv);
        r->shown = e->kv->id;
        if (kl_kv_ends_txn(e->kv))
            r->shown_rev = e->kv->mod_rev;
        within = e->kv->more;
    }
    kl_store_note_turn(r->store, n);
    return !e;
}

void kl_reader_dispatch(struct kl_reader *r)
{
    struct kl_view *v = r->view, *seen = r->seen;
    if (v == seen && r->shown == v->rev)
        return;
    if (v != seen && !kl_reader_retire(r, seen))
        return; // no memory: run_reader tries again
    if (v != seen)
        r->seen = kl_view_ref(v);
    if (r->nwatches && v->ring->floor_id > r->shown) {
        KL_MAP_EACH (&r->buckets, e)
            unsync_list(((struct kl_watch_bucket *)e->value)->watches, r->shown);
        unsync_list(r->others, r->shown);
    } else if (r->nwatches && !show_events(r, v)) {
        return; // run_reader goes on in the next iteration
    }
    r->shown = r->shown_rev = v->rev;
}

// ---- the watch ----

int kl_watch_start(struct kl_watch *w, struct kl_reader *r, struct kl_str key, struct kl_str end,
                   kl_rev start_rev, struct kl_error *err)
{
    assert(w->state == KL_WATCH_STOPPED || w->state == KL_WATCH_FAILED);
    atomic_fetch_add(&r->interested, 1);
    const struct kl_view *v = kl_reader_view(r);
    int code = KL_ENOMEM;
    if (start_rev && start_rev < v->compact_rev) {
        code = KL_ECOMPACTED;
        goto fail;
    }
    w->key_mem = malloc(key.n + end.n + 1);
    if (!w->key_mem)
        goto fail;
    memcpy(w->key_mem, key.p, key.n);
    if (end.n)
        memcpy(w->key_mem + key.n, end.p, end.n);
    w->key = (struct kl_str){w->key_mem, key.n};
    w->end = (struct kl_str){w->key_mem + key.n, end.n};
    w->reader = r;
    w->start_rev = start_rev ? start_rev : v->rev + 1;
    set_cursor(w, -1); // by revision from start_rev
    w->code = w->npending = 0;
    w->awake = w->in_ready = w->waiting = false;
    w->page = NULL;
    w->bucket = NULL;
    if (enter_bucket(w)) {
        free(w->key_mem);
        w->key_mem = NULL;
        goto fail;
    }
    // Without watches nobody woke this loop for new views: begin with the newest. From now on each
    // one is announced.
    if (!r->nwatches && r->seen != r->view && kl_reader_retire(r, r->seen))
        r->seen = kl_view_ref(r->view);
    if (!r->nwatches)
        r->shown = r->shown_rev = r->seen->rev;
    w->state = w->start_rev > r->seen->rev ? KL_WATCH_SYNCED : KL_WATCH_SCAN;
    r->nwatches++;
    kl_store_count_watch(r->store, 1);
    if (w->state == KL_WATCH_SCAN)
        kl_watch_ready(w);
    return 0;
fail:
    atomic_fetch_sub(&r->interested, 1);
    if (code == KL_ECOMPACTED)
        return kl_error_set(err, code, "%s: revision %lld, compacted to %lld", kl_err_text(code),
                            (long long)start_rev, (long long)v->compact_rev);
    return kl_error_set(err, code, "watch: out of memory");
}

void kl_watch_stop(struct kl_watch *w)
{
    struct kl_reader *r = w->reader;
    if (w->state == KL_WATCH_STOPPED || !r)
        return;
    kl_hist_forget(w);
    kl_hist_drop(w);
    leave_ready(w);
    leave_bucket(w);
    free(w->key_mem);
    w->key_mem = NULL;
    w->state = KL_WATCH_STOPPED;
    w->reader = NULL;
    r->nwatches--;
    atomic_fetch_sub(&r->interested, 1);
    kl_store_count_watch(r->store, -1);
}

// The last transaction among n events goes back when more of it (next) is still to come, unless it
// is all there is.
static int keep_whole(const struct kl_event *evs, int n, const struct kl_kv *next)
{
    int keep = n;
    if (next)
        while (keep && evs[keep - 1].kv->mod_rev == next->mod_rev)
            keep--;
    return keep ? keep : n;
}

static int next_pending(struct kl_watch *w, struct kl_event *evs, int max)
{
    const struct kl_view *v = w->reader->seen;
    if (v->ring->floor_id >= w->pending[0]) {
        go_back(w, w->pending[0] - 1);
        w->npending = 0;
        w->state = KL_WATCH_SCAN;
        return 0;
    }
    int n = 0, done = 0;
    const struct kl_kv *next = NULL;
    for (int i = 0; i < w->npending && !next; i++) {
        struct kl_ring_at at;
        kl_ring_seek(&at, v->ring, v->last_n, w->pending[i] - 1);
        for (const struct kl_event *e;
             !next && (e = kl_ring_next(&at)) && e->kv->id == w->pending[i];) {
            if (!watch_wants(w, e->kv))
                continue;
            if (n == max)
                next = e->kv;
            else
                evs[n++] = *e;
        }
    }
    n = keep_whole(evs, n, next);
    const struct kl_kv *last = evs[n - 1].kv;
    pass_row(w, last);
    // A part of those with the last id: it stays, to be come back to.
    bool part = next && next->id == last->id;
    while (done < w->npending && w->pending[done] < last->id + !part)
        done++;
    w->npending -= done;
    memmove(w->pending, w->pending + done, (size_t)w->npending * sizeof(w->pending[0]));
    return n;
}

static int next_scan(struct kl_watch *w, struct kl_event *evs, int max)
{
    const struct kl_view *v = w->reader->seen;
    struct kl_ring_at at;
    kl_rev after = kl_watch_after(w);
    if (w->cursor < 0 ? v->ring->floor_rev >= w->start_rev : v->ring->floor_id > after) {
        w->state = KL_WATCH_HISTORY;
        return 0;
    }
    if (w->cursor < 0)
        kl_ring_seek_rev(&at, v->ring, v->last_n, w->start_rev);
    else
        kl_ring_seek(&at, v->ring, v->last_n, after);
    int n = 0;
    const struct kl_kv *last = NULL;
    const struct kl_event *e = NULL;
    bool whole = true; // the budget ends between transactions
    for (int budget = SCAN_BUDGET; (budget > 0 || !whole) && (e = kl_ring_next(&at)); budget--) {
        whole = kl_kv_ends_txn(e->kv);
        if (watch_wants(w, e->kv)) {
            if (n == max)
                break;
            evs[n++] = *e;
        }
        last = e->kv;
    }
    if (!e) {
        w->state = KL_WATCH_SYNCED;
        set_cursor(w, w->cursor > v->rev ? w->cursor : v->rev);
        return n;
    }
    int keep = n == max ? keep_whole(evs, n, e->kv) : n;
    if (keep < n)
        last = evs[keep - 1].kv;
    if (last)
        pass_row(w, last);
    return keep;
}

static int next_history(struct kl_watch *w, struct kl_event *evs, int max)
{
    const struct kl_rows_req *q = &w->page->q;
    const struct kl_kv *next = NULL;
    int n = 0;
    const struct kl_kv *last = NULL;
    for (; w->page_at < q->nrows; w->page_at++) {
        const struct kl_event *e = &q->rows[w->page_at];
        if (watch_wants(w, e->kv)) {
            if (n == max) {
                next = e->kv;
                break;
            }
            evs[n++] = *e;
        }
        last = e->kv;
    }
    int keep = keep_whole(evs, n, next);
    if (keep < n) {
        last = evs[keep - 1].kv;
        while (q->rows[w->page_at - 1].kv != last)
            w->page_at--;
    }
    if (last)
        pass_row(w, last);
    if (w->page_at == q->nrows) {
        if (q->through > w->cursor)
            set_cursor(w, q->through);
        kl_hist_drop(w);
        w->state = KL_WATCH_SCAN;
    } else if (w->reader->held_bytes > KL_HIST_HELD_BYTES) {
        kl_hist_drop(w); // read again when the slow one comes back
    }
    return keep;
}

int kl_watch_next(struct kl_watch *w, struct kl_event *evs, int max)
{
    assert(max > 0);
    int n = 0;
    for (;;) {
        if (w->state == KL_WATCH_FAILED)
            return w->code;
        if (w->state == KL_WATCH_SYNCED) {
            if (!w->npending)
                break;
            n = next_pending(w, evs, max);
        } else if (w->state == KL_WATCH_SCAN) {
            n = next_scan(w, evs, max);
            if (!n && w->state == KL_WATCH_SCAN) { // nothing in a whole budget: others first
                w->awake = false;
                kl_watch_ready(w);
                return 0;
            }
        } else if (w->page) {
            n = next_history(w, evs, max);
        } else {
            if (!w->waiting)
                kl_hist_want(w);
            if (w->state != KL_WATCH_FAILED)
                break;
        }
        if (n)
            return n;
    }
    w->awake = false;
    return 0;
}

bool kl_watch_progress(const struct kl_watch *w, kl_rev *ret_rev)
{
    if (w->state != KL_WATCH_SYNCED || w->npending)
        return false;
    *ret_rev = w->cursor > w->reader->shown_rev ? w->cursor : w->reader->shown_rev;
    return true;
}
