// SPDX-License-Identifier: Apache-2.0
// etcd's Watch service: many watches on one stream, served in turn, a response each, so that none
// waits for another's backlog; nothing is read from the store before the connection takes it.
// Oracle: etcd 3.6's server/etcdserver/api/v3rpc/watch.go and storage/mvcc/watchable_store.go.
//
//   create ─► created ─► events, progress ─┬─ cancel by the client ─► cancelled
//                                          └─ compacted ─► cancelled with compact_revision
#include "store/etcd/cluster_int.h"
#include "store/etcd/watch_int.h"
#include "base/clock.h"
#include "base/rand.h"
#include "net/proto.h"
#include <stdlib.h>
#include <string.h>

#define NO_LEADER_TEXT "etcdserver: no leader"
#define STOPPED_TEXT "etcdserver: server stopped"
#define COMPACTED_TEXT "etcdserver: mvcc: required revision has been compacted"

static struct kl_str id_key(const int64_t *id)
{
    return (struct kl_str){(const char *)id, sizeof *id};
}

static kl_rev newest(struct kl_etcd_stream *st)
{
    return kl_view_rev(kl_reader_view(st->wl->l->reader));
}

// ---- responses without events

void kl_etcd_watch_tell(struct kl_etcd_stream *st, int64_t id, kl_rev rev, int what,
                        kl_rev compact_rev, const char *reason)
{
    struct kl_etcd_response_header h = kl_etcd_header(st->wl->l->etcd, rev);
    struct kl_etcd_watch_response r = {.header = &h,
                                       .watch_id = id,
                                       .created = what & KL_ETCD_WATCH_CREATED,
                                       .canceled = what & KL_ETCD_WATCH_CANCELED,
                                       .compact_revision = compact_rev,
                                       .cancel_reason = kl_str(reason ? reason : "")};
    kl_etcd_send(st->rpc, &kl_etcd_watch_response_desc, &r);
}

static void refuse(struct kl_etcd_stream *st, const char *reason)
{
    kl_etcd_watch_tell(st, -1, newest(st), KL_ETCD_WATCH_CREATED | KL_ETCD_WATCH_CANCELED, 0,
                       reason);
}

// ---- the ready list

static void enter_ready(struct kl_etcd_watch *w)
{
    struct kl_etcd_stream *st = w->stream;
    if (w->pprev)
        return;
    w->next = NULL;
    w->pprev = st->ready_tail;
    *st->ready_tail = w;
    st->ready_tail = &w->next;
    kl_grpc_rpc_want_send(st->rpc);
}

static void leave_ready(struct kl_etcd_watch *w)
{
    struct kl_etcd_stream *st = w->stream;
    if (!w->pprev)
        return;
    *w->pprev = w->next;
    if (w->next)
        w->next->pprev = w->pprev;
    else
        st->ready_tail = w->pprev;
    w->pprev = NULL;
}

static void on_wake(struct kl_watch *k)
{
    enter_ready(KL_CONTAINER_OF(k, struct kl_etcd_watch, w));
}

// ---- progress

// The revision up to which w has been told everything; false while there is something on its way,
// or before its start.
static bool progress_of(const struct kl_etcd_watch *w, kl_rev *ret_rev)
{
    return !w->part && !w->pprev && kl_watch_progress(&w->w, ret_rev) && *ret_rev >= w->start_rev;
}

// etcd answers a progress request only when all watches of the stream are synced, and forgets it
// otherwise; here it waits until they are.
static void try_progress(struct kl_etcd_stream *st)
{
    kl_rev rev = 0, at;
    if (!st->progress_wanted || st->ready)
        return;
    KL_MAP_EACH (&st->watches, e) {
        const struct kl_etcd_watch *w = e->value;
        if (w->compacted)
            continue;
        if (w->start_rev > st->progress_rev) {
            st->progress_wanted = false; // as etcd: not before that revision
            return;
        }
        if (!progress_of(w, &at))
            return;
        rev = rev && rev < at ? rev : at;
    }
    if (rev && rev < st->progress_rev) {
        // What was newest when it was asked for is about to be shown to the watches.
        if (!st->wl->retrying)
            kl_loop_post(st->wl->l->loop, &st->wl->retry);
        st->wl->retrying = true;
        return;
    }
    st->progress_wanted = false;
    if (rev)
        kl_etcd_watch_tell(st, -1, rev, 0, 0, NULL);
}

static void run_retry(struct kl_task *t)
{
    struct kl_etcd_watch_loop *wl = KL_CONTAINER_OF(t, struct kl_etcd_watch_loop, retry);
    wl->retrying = false;
    for (struct kl_etcd_stream *st = wl->streams; st; st = st->next)
        try_progress(st);
    if (!wl->open_timers && !wl->retrying)
        free(wl);
}

// To each watch that asked for it and heard nothing since the last time.
static void notify_progress(struct kl_etcd_stream *st)
{
    kl_rev rev;
    if (kl_grpc_rpc_queued(st->rpc) > KL_ETCD_WATCH_QUEUE_MAX)
        return;
    KL_MAP_EACH (&st->watches, e) {
        struct kl_etcd_watch *w = e->value;
        if (!w->progress_notify || w->compacted)
            continue;
        if (w->quiet && progress_of(w, &rev))
            kl_etcd_watch_tell(st, w->id, rev, 0, 0, NULL);
        w->quiet = true;
    }
}

// With jitter, as etcd, so that streams that began together are not told together.
static int64_t next_tick(const struct kl_etcd_stream *st)
{
    int64_t every = st->wl->l->etcd->o.watch_progress_ms;
    return kl_mono_ms() + every + (int64_t)(kl_rand_u64() % (uint64_t)(every / 10 + 1));
}

static void on_timer(uv_timer_t *t)
{
    struct kl_etcd_watch_loop *wl = t->data;
    int64_t now = kl_mono_ms();
    bool any = false;
    for (struct kl_etcd_stream *st = wl->streams; st; st = st->next) {
        any |= st->notifies;
        if (!st->notifies || now < st->tick_at_ms)
            continue;
        st->tick_at_ms = next_tick(st);
        notify_progress(st);
    }
    if (!any) {
        uv_timer_stop(t);
        wl->timer_on = false;
    }
}

static void want_notifications(struct kl_etcd_stream *st)
{
    struct kl_etcd_watch_loop *wl = st->wl;
    uint64_t step = (uint64_t)wl->l->etcd->o.watch_progress_ms / 20 + 1;
    if (!st->notifies)
        st->tick_at_ms = next_tick(st);
    st->notifies = true;
    if (!wl->timer_on)
        uv_timer_start(&wl->timer, on_timer, step, step);
    wl->timer_on = true;
}

// ---- requests

static void free_watch(struct kl_etcd_watch *w)
{
    kl_watch_stop(&w->w);
    leave_ready(w);
    if (w->part)
        kl_etcd_events_fini(w->part);
    free(w->part);
    free(w);
}

static void create_watch(struct kl_etcd_stream *st, const struct kl_etcd_watch_create_request *q)
{
    struct kl_str key = q->key.n ? q->key : (struct kl_str){"\0", 1};
    bool to_last = q->range_end.n == 1 && q->range_end.p[0] == 0;
    if (q->start_revision < 0) {
        refuse(st, COMPACTED_TEXT);
        return;
    }
    if (q->range_end.n && !to_last && kl_str_cmp(key, q->range_end) >= 0) {
        refuse(st, "mvcc: watcher range is empty");
        return;
    }
    int64_t id = q->watch_id;
    if (id && kl_map_get(&st->watches, id_key(&id))) {
        refuse(st, "mvcc: duplicate watch ID provided on the WatchStream");
        return;
    }
    if (st->watches.n >= KL_ETCD_WATCHES_MAX) {
        refuse(st, "etcdserver: too many requests");
        return;
    }
    if (!id) {
        while (kl_map_get(&st->watches, id_key(&st->next_id)))
            st->next_id++;
        id = st->next_id++;
    }
    struct kl_etcd_watch *w = calloc(1, sizeof *w);
    if (!w || kl_map_set(&st->watches, id_key(&id), w, NULL)) {
        free(w);
        kl_etcd_fail(st->rpc, KL_ENOMEM, NULL);
        return;
    }
    w->stream = st;
    w->id = id;
    w->start_rev = q->start_revision;
    w->take = KL_ETCD_WATCH_TAKE / 4;
    w->progress_notify = q->progress_notify;
    w->prev_kv = q->prev_kv;
    w->fragment = q->fragment;
    w->quiet = true;
    for (size_t i = 0; i < q->n_filters; i++) {
        w->no_put |= q->filters[i] == KL_ETCD_WATCH_CREATE_REQUEST_FILTER_TYPE_NOPUT;
        w->no_delete |= q->filters[i] == KL_ETCD_WATCH_CREATE_REQUEST_FILTER_TYPE_NODELETE;
    }
    w->w.wake = on_wake;
    struct kl_error err = {0};
    const struct kl_view *v = kl_reader_view(st->wl->l->reader);
    kl_rev start = q->start_revision ? q->start_revision : kl_view_rev(v) + 1;
    int rc = kl_watch_start(&w->w, st->wl->l->reader, key, q->range_end, start, &err);
    if (rc && rc != KL_ECOMPACTED) {
        kl_etcd_fail(st->rpc, rc, &err);
        return;
    }
    kl_etcd_watch_tell(st, id, kl_view_rev(v), KL_ETCD_WATCH_CREATED, 0, NULL);
    if (rc) {
        w->compacted = true;
        kl_etcd_watch_tell(st, id, 0, KL_ETCD_WATCH_CANCELED, kl_view_compact_rev(v), NULL);
    } else if (w->progress_notify) {
        want_notifications(st);
    }
}

static void cancel_watch(struct kl_etcd_stream *st, int64_t id)
{
    struct kl_etcd_watch *w = kl_map_del(&st->watches, id_key(&id));
    if (!w)
        return; // etcd says nothing either
    free_watch(w);
    kl_etcd_watch_tell(st, id, newest(st), KL_ETCD_WATCH_CANCELED, 0, NULL);
    try_progress(st);
}

// ---- streams that end when the cluster has no leader (api/v3rpc/interceptor.go)

static bool has_leader(struct kl_etcd *e)
{
    kl_etcd_cluster_refresh(e);
    return atomic_load(&e->leader) != 0;
}

static void look_for_leader(uv_timer_t *t)
{
    struct kl_etcd_watch_loop *wl = t->data;
    bool any = false;
    wl->leaderless = has_leader(wl->l->etcd) ? 0 : wl->leaderless + 1;
    for (struct kl_etcd_stream *st = wl->streams; st; st = st->next) {
        any |= st->needs_leader;
        if (st->needs_leader && wl->leaderless >= KL_ETCD_LEADER_LOOKS)
            kl_etcd_fail_grpc(st->rpc, KL_GRPC_UNAVAILABLE, NO_LEADER_TEXT);
    }
    if (!any)
        uv_timer_stop(t);
}

static void require_leader(struct kl_etcd_stream *st)
{
    struct kl_etcd_watch_loop *wl = st->wl;
    st->needs_leader = true;
    if (!has_leader(wl->l->etcd)) {
        kl_etcd_fail_grpc(st->rpc, KL_GRPC_UNAVAILABLE, NO_LEADER_TEXT);
    } else if (atomic_load(&wl->l->etcd->raft_applied) && // a lone member always has one
               !uv_is_active((uv_handle_t *)&wl->leader_timer)) {
        wl->leaderless = 0;
        uv_timer_start(&wl->leader_timer, look_for_leader, KL_ETCD_LEADER_LOOK_MS,
                       KL_ETCD_LEADER_LOOK_MS);
    }
}

// ---- the stream

static void on_open(struct kl_grpc_rpc *c)
{
    struct kl_etcd_loop *l = kl_etcd_loop_of(c);
    if (!l)
        return;
    if (atomic_load(&l->etcd->stopping)) {
        kl_etcd_fail_grpc(c, KL_GRPC_UNAVAILABLE, STOPPED_TEXT);
        return;
    }
    struct kl_etcd_watch_loop *wl = l->watch;
    if (!wl) {
        wl = calloc(1, sizeof *wl);
        if (!wl) {
            kl_etcd_fail(c, KL_ENOMEM, NULL);
            return;
        }
        wl->l = l;
        wl->timer.data = wl->leader_timer.data = wl;
        wl->open_timers = 2;
        wl->retry.run = run_retry;
        uv_timer_init(kl_loop_uv(l->loop), &wl->timer);
        uv_timer_init(kl_loop_uv(l->loop), &wl->leader_timer);
        kl_arena_init(&wl->arena, KL_ETCD_WATCH_REQUEST_BYTES);
        l->watch = wl;
    }
    struct kl_etcd_stream *st = calloc(1, sizeof *st);
    if (!st) {
        kl_etcd_fail(c, KL_ENOMEM, NULL);
        return;
    }
    st->rpc = c;
    st->wl = wl;
    st->ready_tail = &st->ready;
    kl_map_init(&st->watches);
    st->next = wl->streams;
    st->pprev = &wl->streams;
    if (st->next)
        st->next->pprev = &st->next;
    wl->streams = st;
    kl_grpc_rpc_set_data(c, st);
    if (kl_str_eqz(kl_http_header(kl_grpc_rpc_http(c), KL_STR("hasleader")), "true"))
        require_leader(st);
}

static void on_message(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_etcd_stream *st = kl_grpc_rpc_data(c);
    if (!st)
        return;
    void *decoded;
    struct kl_error err = {0};
    struct kl_arena *a = &st->wl->arena; // a stream lives long: the call's own would only grow
    kl_arena_reset(a);
    if (kl_proto_decode(a, &kl_etcd_watch_request_desc, msg, &decoded, &err)) {
        kl_etcd_fail_grpc(c, KL_GRPC_INTERNAL,
                          kl_arena_printf(kl_grpc_rpc_arena(c),
                                          "grpc: error unmarshalling request: proto: %s", err.msg)
                              .p);
        return;
    }
    const struct kl_etcd_watch_request *q = decoded;
    if (q->create_request) {
        create_watch(st, q->create_request);
    } else if (q->cancel_request) {
        cancel_watch(st, q->cancel_request->watch_id);
    } else if (q->progress_request) {
        st->progress_wanted = true;
        st->progress_rev = newest(st);
        try_progress(st);
    }
    if (!st->held && kl_grpc_rpc_queued(c) > KL_ETCD_WATCH_QUEUE_MAX) {
        st->held = true;
        kl_grpc_rpc_hold(c, true);
        kl_grpc_rpc_want_send(c);
    }
}

static void on_ready(struct kl_grpc_rpc *c)
{
    struct kl_etcd_stream *st = kl_grpc_rpc_data(c);
    if (!st)
        return;
    if (st->held) {
        st->held = false;
        kl_grpc_rpc_hold(c, false);
    }
    while (st->ready && kl_grpc_rpc_queued(c) < KL_ETCD_WATCH_QUANTUM && !kl_grpc_rpc_closed(c)) {
        struct kl_etcd_watch *w = st->ready;
        leave_ready(w);
        if (kl_etcd_watch_serve(w))
            enter_ready(w); // behind the others
    }
    if (st->ready)
        kl_grpc_rpc_want_send(c);
    try_progress(st);
}

static void on_close(struct kl_grpc_rpc *c)
{
    struct kl_etcd_stream *st = kl_grpc_rpc_data(c);
    if (!st)
        return;
    KL_MAP_EACH (&st->watches, e)
        free_watch(e->value);
    kl_map_fini(&st->watches);
    *st->pprev = st->next;
    if (st->next)
        st->next->pprev = st->pprev;
    free(st);
}

const struct kl_grpc_method kl_etcd_watch_methods[] = {
    {.path = "/etcdserverpb.Watch/Watch",
     .client_stream = true,
     .open = on_open,
     .message = on_message,
     .ready = on_ready,
     .close = on_close},
    {0},
};

static void on_timer_closed(uv_handle_t *h)
{
    struct kl_etcd_watch_loop *wl = h->data;
    wl->open_timers--;
    if (!wl->open_timers && !wl->retrying)
        free(wl);
}

void kl_etcd_watch_loop_end(struct kl_etcd_loop *l)
{
    struct kl_etcd_watch_loop *wl = l->watch;
    for (struct kl_etcd_stream *st = wl ? wl->streams : NULL; st; st = st->next)
        kl_etcd_fail_grpc(st->rpc, KL_GRPC_UNAVAILABLE, STOPPED_TEXT);
}

// Its streams have closed.
void kl_etcd_watch_loop_close(struct kl_etcd_loop *l)
{
    struct kl_etcd_watch_loop *wl = l->watch;
    if (!wl)
        return;
    l->watch = NULL;
    kl_etcd_event_slots_clear(wl);
    kl_etcd_events_fini(&wl->scratch);
    kl_arena_fini(&wl->arena);
    uv_close((uv_handle_t *)&wl->timer, on_timer_closed);
    uv_close((uv_handle_t *)&wl->leader_timer, on_timer_closed);
}
