// SPDX-License-Identifier: Apache-2.0
// The keys of a range at an old revision, read from the back end's history page by page, so that a
// list of any length costs one page of about 4 MiB. On one loop.
#pragma once
#include "store/store.h"

// Embedded, zeroed; `came` and `arg` are the caller's.
struct kl_etcd_pages {
    void (*came)(
        struct kl_etcd_pages *p); // the page, or q.code, is in q; once for each start, next
    void *arg;
    struct kl_range_at q;
    bool busy; // a page is on its way: no fini before it came

    struct kl_store *store;
    struct kl_str end;
    kl_rev rev;
    int64_t left; // of the limit that is left; 0: there is none
    char *from;   // where the next page begins
};

// key and end live until fini. limit 0: all. want_count: of the whole range, with the first page.
int kl_etcd_pages_start(struct kl_etcd_pages *p, struct kl_store *s, struct kl_str key,
                        struct kl_str end, kl_rev rev, int64_t limit, bool want_count,
                        struct kl_error *err);
bool kl_etcd_pages_more(const struct kl_etcd_pages *p); // after a page that came without a code
// Lets go of the page and asks for the next one.
int kl_etcd_pages_next(struct kl_etcd_pages *p, struct kl_error *err);
void kl_etcd_pages_fini(struct kl_etcd_pages *p);
