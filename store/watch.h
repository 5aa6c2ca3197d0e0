// SPDX-License-Identifier: Apache-2.0
// A watch: a range and a cursor over the ordered log, pulled on its reader's loop. It holds a
// revision, never a reference to what it has not read: a slow one costs nothing and is never
// dropped; it reads from the event ring, then from the back end's history, and fails with
// KL_ECOMPACTED only when what it needs was compacted away.
#pragma once
#include "store/view.h"

#define KL_WATCH_PENDING 24

enum kl_watch_state {
    KL_WATCH_STOPPED,
    KL_WATCH_SYNCED,  // has seen all up to the reader's revision but for pending[]
    KL_WATCH_SCAN,    // catching up from the ring
    KL_WATCH_HISTORY, // catching up from the back end
    KL_WATCH_FAILED,
};

// Embedded by the caller, zeroed. Only `wake` and `arg` are the caller's.
struct kl_watch {
    // On the reader's loop, never inside a call to this interface: there may be something to read
    // (or kl_watch_next fails now). Comes once until kl_watch_next has returned 0.
    void (*wake)(struct kl_watch *w);
    void *arg;

    // The store's.
    enum kl_watch_state state;
    int code;
    struct kl_reader *reader;
    char *key_mem;
    struct kl_str key, end;
    kl_rev start_rev;
    kl_rev cursor; // all ids up to here were delivered or do not match
    uint32_t sub;  // of those with that id only up to here; UINT32_MAX: all
    kl_rev pending[KL_WATCH_PENDING];
    int npending;
    bool awake, in_ready, waiting;
    struct kl_watch *ready_next, **ready_pprev;
    struct kl_watch *bucket_next, **bucket_pprev;
    struct kl_watch *hist_next, **hist_pprev;
    struct kl_watch_bucket *bucket;
    struct kl_hist_page *page;
    uint32_t page_at;
};

// Starts to watch [key, end) from start_rev on; 0 means all after the reader's newest view; a
// future one is allowed. KL_ECOMPACTED when start_rev is below the compaction (the revision
// compacted to is itself still watchable). `wake` comes when there is something to read.
int kl_watch_start(struct kl_watch *w, struct kl_reader *r, struct kl_str key, struct kl_str end,
                   kl_rev start_rev, struct kl_error *err);
void kl_watch_stop(struct kl_watch *w); // no wake afterwards; harmless when it is stopped

// Takes up to max events in order, exactly once each. Returns how many; 0 means none now: wake will
// come. KL_ECOMPACTED: over; relist. Events are borrowed until the next call for this watch or
// until control returns to the loop: keep what you need by kl_kv_ref. The events of one
// transaction are split only when there are more than max of them.
int kl_watch_next(struct kl_watch *w, struct kl_event *ret_events, int max);

// True when every event up to *ret_rev was taken: a bookmark with this revision is exact.
bool kl_watch_progress(const struct kl_watch *w, kl_rev *ret_rev);
