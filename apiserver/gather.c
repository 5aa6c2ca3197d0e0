// SPDX-License-Identifier: Apache-2.0
#include "apiserver/gather.h"
#include "apiserver/crd/convert.h"
#include "apiserver/deadline.h"
#include "base/clock.h"
#include <stdlib.h>

enum {
    HISTORY_PAGE = 1000,
    WINDOW = 500,
    LINE = 64,        // of the processor's cache
    OBJECT_LINES = 6, // of an object, up to the metadata's members
};

// Objects that only a webhook converts are looked at by windows: what of one is not converted is
// asked for in one call.
struct kl_gather_window {
    struct kl_conversion conversion;
    struct kl_gather *g;
    void (*then)(struct kl_gather *g);
    struct kl_kv *kvs[WINDOW]; // borrowed from the view
    size_t n, at, max;
};

static void finish(struct kl_gather *g, int code)
{
    kl_view_unref(g->view);
    g->view = NULL;
    kl_range_at_fini(&g->at);
    g->done(g, code);
}

static void out_of_memory(struct kl_gather *g)
{
    kl_fail_oom(g->r);
    finish(g, KL_ENOMEM);
}

// ---- collecting

static int add(struct kl_gather *g, struct kl_kv *kv)
{
    struct kl_error err; // a KiB: not to be cleared each time
    err.code = 0, err.msg[0] = 0;
    struct kl_req *r = g->r;
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        struct kl_kv **p = realloc(g->kvs, cap * sizeof *p);
        if (!p)
            return kl_fail_oom(r), KL_ENOMEM;
        g->kvs = p;
        g->cap = cap;
    }
    struct kl_bytes *b = g->want_json       ? kl_cache_json(kv, r->info.res, &err)
                         : g->want_protobuf ? kl_cache_protobuf(kv, r->info.res, &err)
                                            : NULL;
    if ((g->want_json || g->want_protobuf) && !b)
        return kl_fail_err(r, &err), err.code;
    if (b)
        g->encoded_bytes += b->n;
    g->kvs[g->n++] = kl_kv_ref(kv);
    return 0;
}

// 1: it is in the answer; 0: not; negative: failed.
static int wanted(struct kl_gather *g, struct kl_kv *kv)
{
    if (kl_filter_is_open(&g->filter))
        return 1;
    struct kl_error err;
    err.code = 0, err.msg[0] = 0;
    struct kl_object *o = kl_cache_object(kv, g->r->info.res, &err);
    if (!o)
        return kl_fail_err(g->r, &err), err.code;
    return kl_filter_matches(&g->filter, o);
}

// Negative: r->fail is set. An answer cut short without a token would look complete.
static int page_full(struct kl_gather *g, int64_t left)
{
    struct kl_str last = kl_kv_key(g->kvs[g->n - 1]);
    // The key after the last one: its name and the NUL byte that stands behind every key.
    struct kl_str start = {last.p + g->prefix.n, last.n - g->prefix.n + 1};
    g->next = kl_continue_make(g->r->arena, g->rev, start);
    if (!g->next.p)
        return kl_fail_oom(g->r), KL_ENOMEM;
    if (kl_filter_is_open(&g->filter))
        g->remaining = left;
    return 0;
}

// ---- what a webhook converts

static void on_converted(struct kl_conversion *c, int code, const struct kl_error *err)
{
    struct kl_gather_window *w = KL_CONTAINER_OF(c, struct kl_gather_window, conversion);
    if (code) {
        kl_conversion_fail(w->g->r, err);
        finish(w->g, code);
    } else {
        w->then(w->g);
    }
}

// 0: they are there. 1: `then` comes. Negative: r->fail is set.
static int convert(struct kl_gather *g, struct kl_kv **kvs, size_t n,
                   void (*then)(struct kl_gather *g))
{
    struct kl_gather_window *w = g->window;
    struct kl_error err = {0};
    w->conversion = (struct kl_conversion){.done = on_converted, .r = g->r};
    w->then = then;
    int rc = kl_convert_versions(g->r->al, g->r->info.res, kvs, n, &w->conversion, &err);
    if (rc < 0)
        kl_conversion_fail(g->r, &err);
    return rc;
}

static int make_window(struct kl_gather *g)
{
    const struct kl_resource *res = g->r->info.res;
    int64_t limit = g->r->opts.limit;
    if (g->window || !res->custom || !res->custom->family->webhook)
        return 0;
    if (!(g->window = KL_ARENA_NEW(g->r->arena, struct kl_gather_window)))
        return kl_fail_oom(g->r), KL_ENOMEM;
    g->window->g = g;
    g->window->max = limit > 0 && limit < WINDOW ? (size_t)limit + 1 : WINDOW;
    return 0;
}

static void slice(struct kl_gather *g);

static void *peek(struct kl_kv *kv, int slot)
{
    return atomic_load_explicit(&kv->attach[slot], memory_order_acquire);
}

// The memory of many versions at once, a step of the way at a time: where the labels of one lie is
// known when its object has come, and that when its version has. Looked at one by one they would
// keep a large list waiting five times an item.
static void prefetch(const struct kl_gather *g)
{
    int slot = g->want_json ? KL_CACHE_JSON : KL_CACHE_PROTOBUF, n = g->nahead;
    bool encoded = g->want_json || g->want_protobuf, open = kl_filter_is_open(&g->filter);
    const struct kl_value *labels[KL_GATHER_AHEAD];
    for (int i = 0; i < n; i++) {
        __builtin_prefetch(g->ahead[i]);
        __builtin_prefetch(g->ahead[i]->attach);
    }
    for (int i = 0; i < n; i++) {
        const char *o = open ? NULL : peek(g->ahead[i], KL_CACHE_OBJECT);
        if (encoded)
            __builtin_prefetch(peek(g->ahead[i], slot));
        for (int line = 0; o && line < OBJECT_LINES; line++)
            __builtin_prefetch(o + line * LINE);
    }
    for (int i = 0; !open && i < n; i++) {
        const struct kl_object *o = peek(g->ahead[i], KL_CACHE_OBJECT);
        labels[i] = o ? kl_meta_labels(&o->root) : NULL;
        if (kl_len(labels[i]))
            __builtin_prefetch(labels[i]->items);
    }
    for (int i = 0; !open && i < n; i++)
        if (kl_len(labels[i]))
            __builtin_prefetch(labels[i]->items->s);
}

static struct kl_kv *walk(struct kl_gather *g)
{
    int64_t limit = g->r->opts.limit, want = KL_GATHER_AHEAD;
    struct kl_kv *kv;
    if (g->at_ahead == g->nahead) {
        if (limit > 0 && limit + 1 - (int64_t)g->n < want)
            want = limit + 1 - (int64_t)g->n;
        for (g->nahead = g->at_ahead = 0; g->nahead < want && (kv = kl_iter_next(&g->it));)
            g->ahead[g->nahead++] = kv;
        prefetch(g);
    }
    return g->at_ahead < g->nahead ? g->ahead[g->at_ahead++] : NULL;
}

// The next version of the view. 1, 0 at the end, or the gather goes on later or is over.
enum { LATER = 2 };
static int next_version(struct kl_gather *g, struct kl_kv **ret)
{
    struct kl_gather_window *w = g->window;
    if (!w)
        return (*ret = walk(g)) != NULL;
    if (w->at == w->n) {
        w->at = w->n = 0;
        while (w->n < w->max && (w->kvs[w->n] = kl_iter_next(&g->it)))
            w->n++;
        int rc = convert(g, w->kvs, w->n, slice);
        if (rc < 0)
            finish(g, rc);
        if (rc)
            return LATER;
    }
    if (w->at == w->n)
        return 0;
    *ret = w->kvs[w->at++];
    return 1;
}

static void slice(struct kl_gather *g)
{
    int64_t until = kl_mono_ns() + KL_GATHER_SLICE_US * 1000;
    int64_t limit = g->r->opts.limit;
    struct kl_kv *kv;
    int more;
    if (kl_deadline_passed(g->r)) {
        finish(g, KL_ECANCELED);
        return;
    }
    for (unsigned i = 1; (more = next_version(g, &kv)); i++) {
        if (more == LATER)
            return;
        // What comes next need not match: upstream sees only that the list is not at its end.
        bool full = limit > 0 && (int64_t)g->n == limit;
        int rc = full ? 0 : wanted(g, kv);
        if (full) {
            int64_t ahead = g->window ? (int64_t)(g->window->n - g->window->at)
                                      : (int64_t)(g->nahead - g->at_ahead);
            rc = page_full(g, g->it.left + ahead + 1);
            kl_store_hold_view(g->r->srv->o.store, g->view);
            finish(g, rc);
            return;
        }
        if (rc > 0)
            rc = add(g, kv);
        if (rc < 0) {
            finish(g, rc);
            return;
        }
        if (i % 32 == 0 && kl_mono_ns() > until) {
            kl_loop_post(g->r->al->loop, &g->task); // the next turn: I/O comes first
            return;
        }
    }
    finish(g, 0);
}

static void run_slice(struct kl_task *t)
{
    slice(KL_CONTAINER_OF(t, struct kl_gather, task));
}

static void walk_view(struct kl_gather *g, struct kl_view *v) // takes the reference
{
    g->view = v;
    g->rev = kl_view_rev(v);
    if (make_window(g)) {
        finish(g, KL_ENOMEM);
        return;
    }
    g->task.run = run_slice;
    kl_iter_init(&g->it, v, g->from, g->end);
    if (kl_loop_is_late(g->r->al->loop)) // many came at once
        kl_loop_post(g->r->al->loop, &g->task);
    else
        slice(g);
}

// ---- revisions that no view in memory has: from history, in pages

static void expired(struct kl_gather *g)
{
    struct kl_req *r = g->r;
    if (r->opts.cont.n)
        kl_fail_set(r, 410, "Expired",
                    "The provided continue parameter is too old to display a consistent list "
                    "result. You can start a new list without the continue parameter.");
    else
        kl_fail_set(r, 410, "Expired", "The resourceVersion for the provided list is too old.");
    finish(g, KL_EEXPIRED);
}

static void ask_history(struct kl_gather *g);

static void take_history(struct kl_gather *g);

static void on_history(struct kl_range_at *q)
{
    struct kl_gather *g = KL_CONTAINER_OF(q, struct kl_gather, at);
    if (kl_deadline_passed(g->r)) {
        finish(g, KL_ECANCELED);
        return;
    }
    if (q->code == KL_ECOMPACTED) {
        expired(g);
        return;
    }
    if (q->code) {
        kl_fail_err(g->r, &q->err);
        finish(g, q->code);
        return;
    }
    int rc = make_window(g);
    if (!rc && g->window)
        rc = convert(g, q->kvs, q->nkvs, take_history);
    if (rc < 0)
        finish(g, rc);
    else if (!rc)
        take_history(g);
}

static void take_history(struct kl_gather *g)
{
    struct kl_range_at *q = &g->at;
    int64_t limit = g->r->opts.limit;
    for (size_t i = 0; i < q->nkvs; i++) {
        if (limit > 0 && (int64_t)g->n == limit) {
            finish(g, page_full(g, q->want_count ? q->count - (int64_t)i : -1));
            return;
        }
        int rc = wanted(g, q->kvs[i]);
        if (rc > 0)
            rc = add(g, q->kvs[i]);
        if (rc < 0) {
            finish(g, rc);
            return;
        }
    }
    if (!q->more || !q->nkvs) {
        finish(g, 0);
        return;
    }
    struct kl_str last = kl_kv_key(q->kvs[q->nkvs - 1]);
    char *p = kl_arena_alloc(g->r->arena, last.n + 1);
    if (!p) {
        out_of_memory(g);
        return;
    }
    memcpy(p, last.p, last.n);
    p[last.n] = 0;
    g->from = (struct kl_str){p, last.n + 1};
    kl_range_at_fini(q);
    ask_history(g);
}

// What a page of the answer takes, where all that comes is in it or a webhook is asked for each.
static int64_t history_page(const struct kl_gather *g)
{
    int64_t limit = g->r->opts.limit;
    const struct kl_custom *custom = g->r->info.res->custom;
    bool few = kl_filter_is_open(&g->filter) || (custom && custom->family->webhook);
    return few && limit > 0 && limit < HISTORY_PAGE ? limit + 1 : HISTORY_PAGE;
}

static void ask_history(struct kl_gather *g)
{
    struct kl_error err = {0};
    g->at =
        (struct kl_range_at){.key = g->from,
                             .end = g->end,
                             .rev = g->exact,
                             .limit = history_page(g),
                             .want_count = g->r->opts.limit > 0 && kl_filter_is_open(&g->filter),
                             .cb = on_history};
    g->rev = g->exact;
    if (kl_store_range_at(g->r->srv->o.store, &g->at, &err)) {
        if (err.code == KL_ECOMPACTED) {
            expired(g);
            return;
        }
        kl_fail_err(g->r, &err);
        finish(g, err.code);
    }
}

// ---- the beginning

static void begin_walk(struct kl_gather *g)
{
    struct kl_error err = {0};
    struct kl_view *v;
    if (!g->exact) {
        walk_view(g, kl_view_ref(kl_req_view(g->r)));
        return;
    }
    int rc = kl_store_view_at(g->r->al->reader, g->exact, &v, &err);
    if (!rc)
        walk_view(g, v);
    else if (rc == KL_EAGAIN)
        ask_history(g);
    else if (rc == KL_ECOMPACTED)
        expired(g);
    else {
        kl_fail_err(g->r, &err);
        finish(g, rc);
    }
}

static void on_newer(struct kl_newer *n, int code)
{
    struct kl_gather *g = KL_CONTAINER_OF(n, struct kl_gather, newer);
    if (code)
        finish(g, code);
    else
        begin_walk(g);
}

static void go_on(void *arg, int code)
{
    struct kl_gather *g = arg;
    if (code)
        finish(g, code);
    else
        kl_gather_start(g);
}

void kl_gather_start(struct kl_gather *g)
{
    struct kl_req *r = g->r;
    struct kl_req_opts *o = &r->opts;
    kl_rev rv = 0;
    if (!o->resource_version.n && !o->cont.n && kl_req_confirm(r, go_on, g))
        return;
    g->remaining = -1;
    if (kl_str_eqz(o->resource_version, "0"))
        o->limit = 0; // upstream's watch cache does not look at it then
    if (kl_req_rv(r, o->resource_version, &rv)) {
        finish(g, KL_EBADREQUEST);
        return;
    }
    g->filter = (struct kl_filter){.res = r->info.res,
                                   .ns = r->info.ns,
                                   .name = o->name_from_fields,
                                   .labels = &o->labels,
                                   .fields = &o->fields};
    g->prefix = kl_filter_prefix(r->arena, &g->filter);
    char *mem = kl_arena_alloc(r->arena, g->prefix.n + 1);
    if (!g->prefix.p || !mem) {
        out_of_memory(g);
        return;
    }
    g->from = g->prefix;
    if (g->prefix.p[g->prefix.n - 1] == '/')
        g->end = kl_prefix_end(g->prefix, mem);
    if (o->cont.n) {
        struct kl_str start;
        if (kl_continue_parse(r, o->cont, &g->exact, &start)) {
            finish(g, KL_EBADREQUEST);
            return;
        }
        if (g->exact < 0)
            g->exact = 0; // upstream's "inconsistent continue": the newest, from there on
        // Behind the prefix, which a list of many ends with a slash.
        char *p = kl_arena_alloc(r->arena, g->prefix.n + start.n);
        if (!p) {
            out_of_memory(g);
            return;
        }
        memcpy(p, g->prefix.p, g->prefix.n);
        memcpy(p + g->prefix.n, start.p, start.n);
        g->from = (struct kl_str){p, g->prefix.n + start.n};
    } else if (rv && (o->rv_match == KL_RV_MATCH_EXACT ||
                      (o->rv_match == KL_RV_MATCH_UNSET && o->limit > 0 &&
                       !o->name_from_fields.n))) { // one by its name: not a list for upstream
        g->exact = rv;
    }
    g->newer = (struct kl_newer){.r = r, .rev = g->exact ? g->exact : rv, .done = on_newer};
    int rc = kl_newer_wait(&g->newer);
    if (rc < 0)
        finish(g, rc);
    if (rc)
        return;
    begin_walk(g);
}

void kl_gather_fini(struct kl_gather *g)
{
    for (size_t i = 0; i < g->n; i++)
        kl_kv_unref(g->kvs[i]);
    free(g->kvs);
    g->kvs = NULL;
    g->n = g->cap = 0;
}
