// SPDX-License-Identifier: Apache-2.0
// The watch of all keys: its revisions go up one by one, in the order in which they come.
//
//   IDLE ── next try ──► OPENING ── created ──► WATCHING
//    ▲ ▲                    │                      │
//    │ └── connection lost ─┴──────────────────────┤
//    └───── state is up ── RELOADING ◄── compacted, another cluster, set back
#include "store/remote/remote_int.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdlib.h>

enum { PROGRESS_MS = 100, OPEN_MS = 10000, SET_BACK_MS = 1000 };

// ---- revisions ----

static int apply_rev(struct kl_remote_up *u)
{
    struct kl_remote_rev *r = KL_CONTAINER_OF(u, struct kl_remote_rev, up);
    struct kl_backend *b = u->b;
    int rc = 0;
    if (r->fenced)
        kl_remote_new_fence(b);
    r->fenced = false;
    if (b->closed)
        kl_batch_free(r->batch);
    else
        rc =
            r->own ? kl_core_stored(b->core, r->own, r->batch) : kl_core_applied(b->core, r->batch);
    if (!rc)
        free(r);
    return rc;
}

struct kl_remote_rev *kl_remote_rev_new(struct kl_backend *b, kl_rev base_rev, kl_rev last_rev)
{
    struct kl_remote_rev *r = calloc(1, sizeof(*r));
    struct kl_batch *batch = kl_batch_new();
    if (!r || !batch) {
        free(r);
        kl_batch_free(batch);
        return NULL;
    }
    batch->base_rev = base_rev;
    batch->last_rev = last_rev;
    r->batch = batch;
    r->up.apply = apply_rev;
    return r;
}

static void free_rev(struct kl_remote_rev *r)
{
    if (r)
        kl_batch_free(r->batch);
    free(r);
}

void kl_remote_rev_post(struct kl_backend *b, struct kl_remote_rev *r)
{
    if (b->posted < r->batch->last_rev)
        b->posted = r->batch->last_rev;
    kl_remote_post(b, &r->up);
}

static void hold(struct kl_backend *b, struct kl_remote_rev *r)
{
    r->next = NULL;
    *b->held_end = r;
    b->held_end = &r->next;
    b->held_bytes += r->batch->bytes;
    b->seen = r->batch->last_rev;
}

static struct kl_remote_rev *pop_held(struct kl_backend *b)
{
    struct kl_remote_rev *r = b->held;
    b->held = r->next;
    if (!b->held)
        b->held_end = &b->held;
    b->held_bytes -= r->batch->bytes;
    return r;
}

static void drop_held(struct kl_backend *b)
{
    while (b->held)
        free_rev(pop_held(b));
    free_rev(b->part);
    b->part = NULL;
}

// ---- what may go up ----

static int apply_head(struct kl_remote_up *u)
{
    struct kl_backend *b = u->b;
    struct kl_head_req *q = b->head;
    b->head = NULL;
    q->done(q);
    return 0;
}

static void end_head(struct kl_backend *b, int code)
{
    b->head->code = code;
    b->head->rev = b->head_rev;
    b->head_until_ms = 0;
    b->head_up.apply = apply_head;
    kl_remote_post(b, &b->head_up);
}

static bool head_waits(const struct kl_backend *b)
{
    return b->head_until_ms != 0;
}

// Whether the oldest one that is held must wait for the outcome of what was written.
static bool must_wait(struct kl_backend *b)
{
    const struct kl_remote_write *w = b->write;
    return w && w->outcome == KL_REMOTE_OPEN && w->sent;
}

void kl_remote_feed_run(struct kl_backend *b)
{
    struct kl_error err;
    kl_remote_write_judge(b);
    while (b->held && !must_wait(b)) {
        struct kl_remote_write *w = b->write;
        bool stored = w && w->outcome == KL_REMOTE_STORED;
        kl_rev rev = b->held->batch->last_rev;
        if (stored && rev > w->rev) {
            kl_error_set(&err, KL_EMAYBE, "datastore %s: its watch left out revision %lld", b->name,
                         (long long)w->rev);
            kl_remote_write_fail(b, KL_EMAYBE, &err);
            stored = false;
        }
        struct kl_remote_rev *r = pop_held(b);
        if (stored && rev == w->rev) {
            r->own = w->batch;
            r->fenced = w->fenced;
            b->write = NULL;
            kl_bytes_unref(w->request);
            free(w);
        }
        kl_remote_rev_post(b, r);
    }
    struct kl_remote_write *w = b->write;
    if (w && !w->called && w->outcome == KL_REMOTE_LOST && b->seen >= w->rev && !b->held) {
        kl_error_set(&err, KL_ECONFLICT, "a key was changed meanwhile");
        kl_remote_write_fail(b, KL_ECONFLICT, &err);
    } else if (w && w->outcome == KL_REMOTE_REFUSED) {
        kl_remote_write_fail(b, w->code, &w->err);
    }
    if (head_waits(b) && b->head_rev && !b->held && b->seen >= b->head_rev)
        end_head(b, 0);
    kl_remote_lease_run(b);
    if (b->paused && b->watch && b->held_bytes < KL_REMOTE_HELD_BYTES / 2) {
        b->paused = false;
        kl_grpc_resume(b->watch);
    }
}

// ---- the watch ----

static void close_watch(struct kl_backend *b)
{
    struct kl_grpc_call *call = b->watch;
    b->watch = NULL;
    b->paused = false;
    free_rev(b->part);
    b->part = NULL;
    if (b->feed != KL_REMOTE_RELOADING)
        b->feed = KL_REMOTE_IDLE;
    if (call)
        kl_grpc_cancel(call);
}

static void try_later(struct kl_backend *b, const char *why)
{
    if (!b->feed_backoff_ms && !b->closing)
        kl_log(KL_LOG_WARN, "store", "datastore %s: %s", b->name, why);
    b->feed_backoff_ms = b->feed_backoff_ms ? b->feed_backoff_ms * 2 : KL_REMOTE_TICK_MS;
    if (b->feed_backoff_ms > KL_REMOTE_BACKOFF_MAX_MS)
        b->feed_backoff_ms = KL_REMOTE_BACKOFF_MAX_MS;
    b->feed_next_ms = kl_mono_ms() + b->feed_backoff_ms;
    kl_remote_wake(b);
}

static void lose_watch(struct kl_backend *b, const char *why)
{
    close_watch(b);
    try_later(b, why);
}

bool kl_remote_check_header(struct kl_remote_call *c, const struct kl_etcd_response_header *h)
{
    struct kl_backend *b = c->b;
    bool other = h->cluster_id != b->cluster_id;
    if (!other && h->revision >= c->seen)
        return true;
    if (!b->must_reload)
        kl_log(
            KL_LOG_ERROR, "store",
            other ? "datastore %s: it is another cluster's now, at revision %lld; seen so far: %lld"
                  : "datastore %s: it was set back to revision %lld; seen so far: %lld",
            b->name, (long long)h->revision, (long long)b->seen);
    b->must_reload = true;
    kl_remote_wake(b);
    return false;
}

static int add_event(struct kl_backend *b, const struct kl_etcd_event *e)
{
    kl_rev rev = e->kv->mod_revision;
    if (rev > KL_REMOTE_REV_MAX || (b->part && b->part->batch->last_rev != rev))
        return KL_EPROTO;
    if (!b->part && !(b->part = kl_remote_rev_new(b, b->seen, rev)))
        return KL_ENOMEM;
    struct kl_batch *batch = b->part->batch;
    struct kl_kv *kv;
    int rc = kl_remote_kv(e->kv, e->type == KL_ETCD_EVENT_EVENT_TYPE_DELETE, &kv);
    if (rc)
        return rc;
    kv->sub = (uint32_t)batch->nrows;
    if (batch->nrows)
        batch->rows[batch->nrows - 1].kv->more = true;
    return kl_batch_add_row(batch, kv);
}

static void end_part(struct kl_backend *b)
{
    if (b->part)
        hold(b, b->part);
    b->part = NULL;
}

static int take_events(struct kl_backend *b, const struct kl_etcd_watch_response *r)
{
    for (size_t i = 0; i < r->n_events; i++) {
        const struct kl_etcd_event *e = &r->events[i];
        if (!e->kv)
            return KL_EPROTO;
        kl_rev rev = e->kv->mod_revision;
        if (b->part && rev > b->part->batch->last_rev)
            end_part(b);
        if (rev <= b->seen) // again, after a new connection
            continue;
        int rc = add_event(b, e);
        if (rc)
            return rc;
    }
    if (!r->fragment)
        end_part(b);
    return 0;
}

static int take_progress(struct kl_backend *b, const struct kl_etcd_watch_response *r)
{
    if (!b->asked_progress || b->part)
        return 0;
    b->asked_progress = false;
    if (r->header->revision <= b->seen)
        return 0;
    if (r->header->revision > KL_REMOTE_REV_MAX)
        return KL_EPROTO;
    struct kl_remote_rev *rev = kl_remote_rev_new(b, r->header->revision, r->header->revision);
    if (!rev)
        return KL_ENOMEM;
    hold(b, rev);
    return 0;
}

// A linearizable answer, which a watch's is not: that the log is the one that was followed.
static void on_check(struct kl_remote_call *c)
{
    const struct kl_etcd_range_response *r = c->reply;
    if (!c->code && r->header)
        kl_remote_check_header(c, r->header);
    kl_remote_call_fini(c);
}

static void take_created(struct kl_backend *b)
{
    struct kl_etcd_range_request rq = {.key = KL_RANGE_TO_LAST, .count_only = true};
    if (b->feed_backoff_ms)
        kl_log(KL_LOG_INFO, "store", "datastore %s: connected again", b->name);
    b->feed = KL_REMOTE_WATCHING;
    b->feed_backoff_ms = 0;
    if (b->check_call.active)
        return;
    b->check_call =
        (struct kl_remote_call){.done = on_check,
                                .retry = true,
                                .request = kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_call(b, &b->check_call, KL_ETCD_RANGE);
}

static void take_canceled(struct kl_backend *b, const struct kl_etcd_watch_response *r)
{
    char why[256];
    if (r->compact_revision > 0) {
        kl_log(KL_LOG_WARN, "store", "datastore %s: compacted to %lld, seen so far: %lld", b->name,
               (long long)r->compact_revision, (long long)b->seen);
        b->must_reload = true;
        close_watch(b);
        kl_remote_wake(b);
        return;
    }
    snprintf(why, sizeof(why), "the watch was canceled: %.*s",
             (int)(r->cancel_reason.n < 200 ? r->cancel_reason.n : 200),
             r->cancel_reason.p ? r->cancel_reason.p : "");
    lose_watch(b, why);
}

static void on_message(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    struct kl_backend *b = arg;
    struct kl_etcd_watch_response *r;
    struct kl_error err;
    void *msg;
    if (call != b->watch)
        return;
    kl_arena_reset(&b->arena);
    int rc = kl_proto_decode(&b->arena, &kl_etcd_watch_response_desc, message, &msg, &err);
    if (rc) {
        lose_watch(b, err.msg);
        return;
    }
    r = msg;
    if (r->canceled)
        take_canceled(b, r);
    else if (r->created)
        take_created(b);
    else if (r->n_events)
        rc = take_events(b, r);
    else if (r->header && !r->fragment)
        rc = take_progress(b, r);
    if (rc)
        lose_watch(b, kl_err_text(rc));
    if (b->watch && !b->paused && b->held_bytes > KL_REMOTE_HELD_BYTES) {
        b->paused = true;
        kl_grpc_pause(b->watch);
    }
    kl_remote_feed_run(b);
}

static void on_done(void *arg, enum kl_grpc_code code, struct kl_str reply,
                    const struct kl_error *err)
{
    struct kl_backend *b = arg;
    if (!b->watch) // closed by us
        return;
    b->watch = NULL;
    kl_remote_channel_lost(b);
    lose_watch(b, err ? err->msg : "the watch ended");
}

static void send_watch(struct kl_backend *b, const struct kl_etcd_watch_request *rq)
{
    struct kl_bytes *bytes = kl_remote_encode(&kl_etcd_watch_request_desc, rq);
    int rc = bytes ? kl_grpc_send(b->watch, bytes) : KL_ENOMEM;
    if (rc && rc != KL_EINVALID) // then on_done is about to come
        lose_watch(b, kl_err_text(rc));
    kl_bytes_unref(bytes);
}

static void open_watch(struct kl_backend *b, int64_t now)
{
    struct kl_etcd_watch_create_request create = {.key = KL_RANGE_TO_LAST,
                                                  .range_end = KL_RANGE_TO_LAST,
                                                  .start_revision = b->seen + 1,
                                                  .fragment = true};
    struct kl_error err;
    int rc = kl_remote_channel_open(b, &err);
    if (!rc)
        rc = kl_grpc_bidi(b->grpc, kl_etcd_methods[KL_ETCD_WATCH].path, on_message, on_done, b,
                          &b->watch, &err);
    if (rc) {
        try_later(b, err.msg);
        return;
    }
    b->feed = KL_REMOTE_OPENING;
    b->feed_ms = now;
    b->asked_progress = false;
    send_watch(b, &(struct kl_etcd_watch_request){.create_request = &create});
}

// ---- everything anew ----

static int apply_state(struct kl_remote_up *u)
{
    struct kl_remote_state *st = KL_CONTAINER_OF(u, struct kl_remote_state, up);
    struct kl_backend *b = u->b;
    int rc = b->closed ? 0 : kl_core_reset(b->core, kl_remote_state_give, st);
    if (rc == KL_ENOMEM)
        return rc;
    if (rc)
        kl_log(KL_LOG_ERROR, "store", "datastore %s: %s", b->name, kl_err_text(rc));
    kl_remote_state_free(st);
    return 0;
}

static void reloaded(struct kl_backend *b, struct kl_remote_state *st, int code,
                     const struct kl_error *err)
{
    struct kl_error maybe;
    b->feed = KL_REMOTE_IDLE;
    if (b->closing) {
        kl_remote_state_free(st);
        return;
    }
    if (code) {
        try_later(b, err->msg);
        return;
    }
    if (st->rev < b->seen || st->rev < b->posted) {
        // Revisions never go back: watchers would wait for ever. Once it has gone on far enough
        // everything is read anew.
        if (!b->set_back)
            kl_log(KL_LOG_ERROR, "store",
                   "datastore %s: it is at revision %lld, below %lld that was seen: a backup must "
                   "be restored "
                   "with a higher revision (etcdutl snapshot restore --bump-revision); nothing is "
                   "served until then",
                   b->name, (long long)st->rev, (long long)b->posted);
        b->set_back = true;
        b->feed_next_ms = kl_mono_ms() + SET_BACK_MS;
        kl_remote_state_free(st);
        return;
    }
    drop_held(b);
    b->must_reload = b->set_back = false;
    b->cluster_id = st->cluster_id;
    b->seen = b->posted = st->rev;
    st->up.apply = apply_state;
    kl_remote_post(b, &st->up);
    if (b->write) {
        kl_error_set(&maybe, KL_EMAYBE, "datastore %s: it was set back", b->name);
        kl_remote_write_fail(
            b, b->write->sent && b->write->outcome != KL_REMOTE_LOST ? KL_EMAYBE : KL_ECONFLICT,
            &maybe);
    }
}

// ---- heads ----

static void on_head(struct kl_remote_call *c)
{
    struct kl_backend *b = c->b;
    const struct kl_etcd_range_response *r = c->reply;
    if (c->code || !r->header || !kl_remote_check_header(c, r->header)) {
        end_head(b, c->code ? kl_remote_error(c, NULL) : KL_EUNAVAILABLE);
    } else {
        b->head_rev = r->header->revision;
        kl_remote_feed_run(b);
    }
    kl_remote_call_fini(c);
}

static void run_head(struct kl_task *t)
{
    struct kl_backend *b = KL_CONTAINER_OF(t, struct kl_backend, head_task);
    struct kl_etcd_range_request rq = {.key = KL_RANGE_TO_LAST, .count_only = true};
    b->head_rev = 0;
    b->head_until_ms = kl_mono_ms() + KL_REMOTE_WAIT_MS;
    if (b->must_reload) {
        end_head(b, KL_EUNAVAILABLE);
        return;
    }
    b->head_call =
        (struct kl_remote_call){.done = on_head,
                                .retry = true,
                                .request = kl_remote_encode(&kl_etcd_range_request_desc, &rq)};
    kl_remote_wake(b);
    kl_remote_call(b, &b->head_call, KL_ETCD_RANGE);
}

void kl_remote_head(struct kl_backend *b, struct kl_head_req *q)
{
    b->head = q;
    b->head_task.run = run_head;
    kl_loop_post(b->loop, &b->head_task);
}

// ---- time ----

// Revisions that nobody's events bring: etcd says how far it is, when it is asked.
static void ask_progress(struct kl_backend *b, int64_t now)
{
    struct kl_etcd_watch_progress_request p = {0};
    const struct kl_remote_write *w = b->write;
    bool waits = (head_waits(b) && b->head_rev > b->seen) ||
                 (w && w->rev > b->seen && !w->called) || kl_remote_lease_rev(b) > b->seen;
    if (!waits) {
        b->asked_ms = now;
        return;
    }
    if (b->feed != KL_REMOTE_WATCHING || now - b->asked_ms < PROGRESS_MS)
        return;
    b->asked_ms = now;
    b->asked_progress = true;
    send_watch(b, &(struct kl_etcd_watch_request){.progress_request = &p});
}

void kl_remote_feed_tick(struct kl_backend *b, int64_t now)
{
    if (!b->started || b->closing)
        return;
    if (b->must_reload && b->feed != KL_REMOTE_RELOADING && now >= b->feed_next_ms) {
        close_watch(b);
        b->feed = KL_REMOTE_RELOADING;
        kl_remote_load(b, reloaded);
    } else if (!b->must_reload && b->feed == KL_REMOTE_IDLE && now >= b->feed_next_ms) {
        open_watch(b, now);
    } else if (b->feed == KL_REMOTE_OPENING && now - b->feed_ms > OPEN_MS) {
        kl_remote_channel_lost(b);
        lose_watch(b, "it does not answer the watch");
    }
    ask_progress(b, now);
    if (head_waits(b) && b->head_rev && now > b->head_until_ms)
        end_head(b, KL_EUNAVAILABLE);
}

static bool feed_needs_time(const struct kl_backend *b)
{
    return b->started && (b->feed != KL_REMOTE_WATCHING || b->must_reload);
}

bool kl_remote_needs_time(const struct kl_backend *b)
{
    return b->waiting || feed_needs_time(b) || head_waits(b) || b->write || b->rows ||
           b->lease_waits;
}

void kl_remote_feed_start(struct kl_backend *b, kl_rev seen)
{
    b->seen = b->posted = seen;
    b->started = true;
    open_watch(b, kl_mono_ms());
    kl_remote_wake(b);
}

void kl_remote_feed_stop(struct kl_backend *b)
{
    b->started = false;
    close_watch(b);
    drop_held(b);
}
