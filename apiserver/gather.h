// SPDX-License-Identifier: Apache-2.0
// Finds the objects a LIST answers: from the newest view, one at a given revision, or the back
// end's history; a page at a time when there is a limit. Works in slices so that a large list never
// holds the loop for long.
#pragma once
#include "apiserver/newer.h"
#include "watchcache/filter.h"

enum { KL_GATHER_SLICE_US = 2000, KL_GATHER_AHEAD = 32 };

struct kl_gather {
    struct kl_req *r;
    // What every found version should have ready: its JSON, its protobuf, or only its object.
    bool want_json, want_protobuf;
    // Called exactly once, maybe from within kl_gather_start: 0, or negative with r->fail set.
    void (*done)(struct kl_gather *g, int code);
    void *arg;

    // found: referenced, released by kl_gather_fini
    struct kl_kv **kvs;
    size_t n, cap;
    size_t encoded_bytes; // of the wanted encodings
    kl_rev rev;
    struct kl_str next; // continue token, empty at the end
    int64_t remaining;  // remainingItemCount, -1: not known

    // its own
    struct kl_filter filter;
    struct kl_str prefix, end, from;
    struct kl_view *view;
    struct kl_iter it;
    struct kl_kv *ahead[KL_GATHER_AHEAD]; // of the view: what the walk has already reached
    int nahead, at_ahead;
    struct kl_range_at at;
    struct kl_gather_window *window; // of a kind that a webhook converts
    struct kl_newer newer;
    struct kl_task task;
    kl_rev exact;
};

// The token of what goes on at `start`, which is relative to the prefix. p is NULL: no memory.
struct kl_str kl_continue_make(struct kl_arena *a, kl_rev rev, struct kl_str start);
// A continue token's revision (negative: the newest) and where to go on, relative to the prefix of
// what is listed and never above it. Negative: r->fail is set.
int kl_continue_parse(struct kl_req *r, struct kl_str token, kl_rev *ret_rev,
                      struct kl_str *ret_start);
void kl_gather_start(struct kl_gather *g);
void kl_gather_fini(struct kl_gather *g);
