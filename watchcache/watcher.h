// SPDX-License-Identifier: Apache-2.0
// A typed, filtered watch as Kubernetes sees it: ADDED, MODIFIED, DELETED by what the filter saw
// before and after, the initial list first when it is asked for, exact bookmarks. Pulled, on its
// reader's loop; it holds what it reads now and nothing else.
#pragma once
#include "object/watch_event.h"
#include "watchcache/filter.h"

// An event handed out. kv is set when the cached forms of kl_cache_* are this event's; else only
// object (an object that left the filter).
struct kl_watcher_event {
    enum kl_event_type type;
    struct kl_kv *kv;
    struct kl_object *object; // ADDED, MODIFIED, DELETED: the object at its storage version
    kl_rev rev;               // of the event or bookmark
    bool initial_end;         // bookmark: carries k8s.io/initial-events-end
};

struct kl_watcher;

struct kl_watcher_options {
    struct kl_filter filter;
    kl_rev since;     // deliver what is after it; 0: from now, or with `initial` from the list
    bool initial;     // the list first, as ADDED events
    bool initial_end; // then a bookmark that says so
    void (*wake)(struct kl_watcher *w, void *arg); // there is something to pull; on the loop, later
    // Has versions (borrowed) converted that are not ready (kl_cache_is_ready): the next event's
    // and what is known to come behind it. 1: kl_watcher_converted comes; 0: they are ready;
    // negative: err says why not. Only for kinds that a webhook converts.
    int (*convert)(void *arg, struct kl_kv **kvs, size_t n, struct kl_error *err);
    void *arg;
};

// The filter's strings and selectors must outlive the watcher. KL_ECOMPACTED, KL_ENOMEM.
int kl_watcher_start(struct kl_reader *r, const struct kl_watcher_options *o,
                     struct kl_watcher **ret, struct kl_error *err);
void kl_watcher_stop(struct kl_watcher *w); // frees it; accepts NULL

// The next event: 1, or 0 when there is none now (wake comes), or KL_ECOMPACTED and others: over.
// The event is borrowed until the next call or until control returns to the loop.
int kl_watcher_next(struct kl_watcher *w, struct kl_watcher_event *ret, struct kl_error *err);
// What `convert` began is over. Negative: the next pull ends with err. Pull again then.
void kl_watcher_converted(struct kl_watcher *w, int code, const struct kl_error *err);
// True when a bookmark with *ret_rev would be exact now: everything up to it was handed out.
bool kl_watcher_progress(struct kl_watcher *w, kl_rev *ret_rev);
