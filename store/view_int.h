// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "store/backend.h"
#include "store/index_int.h"
#include "store/ring_int.h"
#include "store/store_int.h"
#include "store/view.h"
#include "base/map.h"

enum { KL_HIST_HELD_BYTES = 16 << 20 };

struct kl_view {
    atomic_uint refs;
    kl_rev rev, compact_rev;
    struct kl_node *root;
    struct kl_ring *ring;
    uint32_t last_n; // events of the ring's last chunk that belong to this view
    int64_t written; // bytes written since start: what holding an older view keeps alive
};

// Watches whose range lies under one prefix, found by hashing an event's key.
struct kl_watch_bucket {
    struct kl_watch *watches;
    struct kl_str name; // in mem
    char mem[];
};

// A page of history, shared by the watches of one loop that wait for the same part.
struct kl_hist_page {
    unsigned refs; // the reader's loop only
    size_t bytes;
    struct kl_rows_req q;
    struct kl_read read; // in the core's queue of reads
    struct kl_task task; // back to the reader's loop
    struct kl_reader *reader;
    struct kl_hist_page *next;
};

struct kl_reader {
    struct kl_store *store;
    struct kl_loop *loop;
    struct kl_reader *next, **pprev; // in the store's list, under its readers' mutex
    _Atomic(struct kl_view *) slot;  // newer than `view`, or NULL
    atomic_bool posted;
    atomic_int interested; // watches and waits: wake the loop for each view
    int64_t posted_ms;     // the committer's
    struct kl_task task;
    bool closed;

    // The loop's own.
    struct kl_view *view; // newest taken
    struct kl_view **retired;
    size_t nretired, cap_retired;
    bool deferred;
    struct kl_task defer;
    struct kl_view *seen;  // what the watches are shown:
    kl_rev shown;          // up to this id
    kl_rev shown_rev;      // all of the transactions up to this revision
    struct kl_map buckets; // prefix -> struct kl_watch_bucket *
    struct kl_watch *others;
    struct kl_watch *ready;
    struct kl_watch **ready_tail;
    struct kl_watch *hist_waiting;
    struct kl_hist_page *pages; // being read
    struct kl_hist_page *retired_pages;
    size_t held_bytes; // of pages that watches hold
    struct kl_reader_wait *waits;
    int nwatches, npages;
};

// watch.c: shows the watches what happened between r->seen and the newest view.
void kl_reader_dispatch(struct kl_reader *r);
void kl_reader_wake_ready(struct kl_reader *r);
// view.c
void kl_reader_defer(struct kl_reader *r);                     // wake_ready after this callback
bool kl_reader_retire(struct kl_reader *r, struct kl_view *v); // unref after this callback
void kl_reader_again(struct kl_reader *r);                     // in the loop's next iteration
void kl_reader_free(struct kl_reader *r);
// history.c: pages of the back end's history for watches.
void kl_hist_want(struct kl_watch *w); // asks for the page at w's cursor; w->page and a wake follow
void kl_hist_forget(struct kl_watch *w); // no longer waiting
void kl_hist_drop(struct kl_watch *w);   // lets go of w->page after this callback
void kl_hist_free(struct kl_hist_page *p);
void kl_watch_ready(struct kl_watch *w);         // wake it
kl_rev kl_watch_after(const struct kl_watch *w); // all with this id and below are done with
void kl_watch_fail(struct kl_watch *w, int code);
