// SPDX-License-Identifier: Apache-2.0
// Watch events on their way out. An event is encoded once for all watches of a loop and shared by
// reference; a response is a small head of its own and those shared bytes.
#include "store/etcd/watch_int.h"
#include "net/proto.h"
#include <stdlib.h>
#include <string.h>

// ---- encoding

enum {
    EVENT_TYPE = 1,
    EVENT_KV = 2,
    EVENT_PREV_KV = 3,
    RESPONSE_WATCH_ID = 2,
    RESPONSE_FRAGMENT = 7,
    RESPONSE_EVENTS = 11,
};

static struct kl_bytes *encode_event(const struct kl_kv *kv, const struct kl_kv *prev)
{
    size_t n = kl_proto_int_size(kv->deleted) + kl_etcd_kv_field_size(kv, false) +
               (prev ? kl_etcd_kv_field_size(prev, false) : 0);
    struct kl_bytes *b = kl_bytes_alloc(kl_proto_message_size(n));
    if (!b)
        return NULL;
    char *p = kl_proto_put_head(b->p, RESPONSE_EVENTS, n);
    p = kl_proto_put_int(p, EVENT_TYPE, kv->deleted);
    p = kl_etcd_put_whole_kv(p, EVENT_KV, kv);
    if (prev)
        kl_etcd_put_whole_kv(p, EVENT_PREV_KV, prev);
    return b;
}

void kl_etcd_event_slots_clear(struct kl_etcd_watch_loop *wl)
{
    for (size_t i = 0; i < KL_ETCD_EVENT_SLOTS; i++)
        kl_bytes_unref(wl->slots[i].bytes);
    memset(wl->slots, 0, sizeof wl->slots);
    wl->slot_bytes = 0;
}

// A reference.
static struct kl_bytes *event_bytes(struct kl_etcd_watch_loop *wl, const struct kl_kv *kv,
                                    const struct kl_kv *prev)
{
    size_t at = (((size_t)kv->id + kv->sub) * 2 + (prev != NULL)) % KL_ETCD_EVENT_SLOTS;
    struct kl_etcd_event_slot *s = &wl->slots[at];
    if (s->bytes && s->id == kv->id && s->sub == kv->sub && s->prev_kv == (prev != NULL))
        return kl_bytes_ref(s->bytes);
    struct kl_bytes *b = encode_event(kv, prev);
    if (!b || b->n > KL_ETCD_EVENT_SLOT_BYTES)
        return b;
    if (wl->slot_bytes + b->n > KL_ETCD_EVENT_SLOT_BYTES)
        kl_etcd_event_slots_clear(wl);
    if (s->bytes)
        wl->slot_bytes -= s->bytes->n;
    kl_bytes_unref(s->bytes);
    *s = (struct kl_etcd_event_slot){kv->id, kv->sub, prev != NULL, kl_bytes_ref(b)};
    wl->slot_bytes += b->n;
    return b;
}

// ---- lists of encoded events

void kl_etcd_events_clear(struct kl_etcd_events *ev)
{
    for (uint32_t i = 0; i < ev->n; i++)
        kl_bytes_unref(ev->v[i]);
    ev->n = 0;
    ev->bytes = 0;
}

void kl_etcd_events_fini(struct kl_etcd_events *ev)
{
    kl_etcd_events_clear(ev);
    free(ev->v);
    *ev = (struct kl_etcd_events){0};
}

static int add_bytes(struct kl_etcd_events *ev, struct kl_bytes *b)
{
    if (!b)
        return KL_ENOMEM;
    if (ev->n == ev->cap) {
        uint32_t cap = ev->cap ? ev->cap * 2 : 64;
        struct kl_bytes **v = realloc(ev->v, cap * sizeof *v);
        if (!v) {
            kl_bytes_unref(b);
            return KL_ENOMEM;
        }
        ev->v = v;
        ev->cap = cap;
    }
    ev->v[ev->n++] = b;
    ev->bytes += b->n;
    return 0;
}

static int add_event(struct kl_etcd_watch *w, struct kl_etcd_events *ev, const struct kl_event *e)
{
    struct kl_etcd_watch_loop *wl = w->stream->wl;
    ev->rev = e->kv->mod_rev;
    ev->whole = kl_kv_ends_txn(e->kv);
    if (e->kv->deleted ? w->no_delete : w->no_put)
        return 0;
    // etcd reads the previous version at mod_revision - 1, and only when the event is no creation.
    const struct kl_kv *prev = NULL;
    if (w->prev_kv && (e->kv->deleted || e->kv->create_rev != e->kv->mod_rev) &&
        e->kv->mod_rev > kl_view_compact_rev(kl_reader_view(wl->l->reader)))
        prev = e->prev;
    return add_bytes(ev, event_bytes(wl, e->kv, prev));
}

// ---- responses

static int send_events(struct kl_etcd_watch *w, const struct kl_etcd_events *ev, uint32_t from,
                       uint32_t to, bool fragment)
{
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, KL_ETCD_HEADER_MAX + 16);
    char *room = kl_grpc_out_room(&o, KL_ETCD_HEADER_MAX + 16), *p = room;
    if (p) {
        p = kl_etcd_put_header(w->stream->wl->l->etcd, p, ev->rev);
        p = kl_proto_put_int(p, RESPONSE_WATCH_ID, w->id);
        p = kl_proto_put_int(p, RESPONSE_FRAGMENT, fragment);
        kl_grpc_out_wrote(&o, (size_t)(p - room));
    }
    for (uint32_t i = from; i < to; i++)
        kl_grpc_out_bytes(&o, ev->v[i], 0, ev->v[i]->n);
    return kl_grpc_rpc_send(w->stream->rpc, &o);
}

// etcd's sendFragments: a fragment is smaller than the limit unless it is a single event.
static int send_response(struct kl_etcd_watch *w, struct kl_etcd_events *ev)
{
    int rc = 0;
    if (!ev->n)
        return 0;
    w->quiet = false;
    size_t limit = w->stream->wl->l->etcd->o.max_request_bytes + KL_ETCD_GRPC_OVERHEAD;
    uint32_t from = 0;
    size_t bytes = KL_ETCD_HEADER_MAX + 16;
    for (uint32_t i = 0; w->fragment && i < ev->n && !rc; i++) {
        if (i > from && bytes + ev->v[i]->n >= limit) {
            rc = send_events(w, ev, from, i, true);
            from = i;
            bytes = KL_ETCD_HEADER_MAX + 16;
        }
        bytes += ev->v[i]->n;
    }
    return rc ? rc : send_events(w, ev, from, ev->n, false);
}

// The events of a transaction stay together, whatever the rest of it takes. *ret_rest: a part of it
// cannot be read now.
static int take_rest(struct kl_etcd_watch *w, struct kl_etcd_events *ev, kl_rev rev,
                     struct kl_event *ret_next, bool *ret_rest)
{
    kl_rev at;
    for (;;) {
        int n = kl_watch_next(&w->w, ret_next, 1);
        if (n < 0)
            return n;
        if (n == 0) {
            *ret_rest = !kl_watch_progress(&w->w, &at);
            return 0;
        }
        if (ret_next->kv->mod_rev != rev)
            return 1;
        int rc = add_event(w, ev, ret_next);
        if (rc)
            return rc;
        if (kl_kv_ends_txn(ret_next->kv))
            return 0;
    }
}

static void keep_part(struct kl_etcd_watch *w, struct kl_etcd_events *ev)
{
    if (!ev->n)
        return;
    struct kl_etcd_events *part = calloc(1, sizeof *part);
    if (!part) {
        kl_etcd_fail(w->stream->rpc, KL_ENOMEM, NULL);
        return;
    }
    *part = *ev;
    *ev = (struct kl_etcd_events){0};
    w->part = part;
}

static bool fail_watch(struct kl_etcd_watch *w, int code)
{
    struct kl_etcd_stream *st = w->stream;
    if (code == KL_ECOMPACTED) {
        const struct kl_view *v = kl_reader_view(st->wl->l->reader);
        kl_watch_stop(&w->w);
        w->compacted = true;
        // Its header has no revision in etcd either.
        kl_etcd_watch_tell(st, w->id, 0, KL_ETCD_WATCH_CANCELED, kl_view_compact_rev(v), NULL);
    } else {
        kl_etcd_fail(st->rpc, code, NULL); // clients come back and go on where they were
    }
    return false;
}

bool kl_etcd_watch_serve(struct kl_etcd_watch *w)
{
    struct kl_etcd_events *ev = &w->stream->wl->scratch;
    struct kl_event taken[KL_ETCD_WATCH_TAKE], after;
    bool had_part = w->part != NULL, rest = false;
    kl_etcd_events_clear(ev);
    int n = 0, rc = 0;
    if (had_part) {
        free(ev->v);
        *ev = *w->part;
        free(w->part);
        w->part = NULL;
    }
    if (!had_part || ev->whole) {
        n = kl_watch_next(&w->w, taken, (int)w->take);
        for (int i = 0; i < n && rc >= 0; i++)
            rc = add_event(w, ev, &taken[i]);
    }
    if ((n > 0 || had_part) && n >= 0 && !rc && !ev->whole)
        rc = take_rest(w, ev, ev->rev, &after, &rest);
    if (n < 0 || rc < 0) {
        kl_etcd_events_clear(ev);
        return fail_watch(w, n < 0 ? n : rc);
    }
    if (n == 0 && !had_part)
        return false;
    if (rest) {
        keep_part(w, ev);
        return false;
    }
    if (ev->n) {
        uint32_t fit = (uint32_t)(KL_ETCD_WATCH_QUANTUM / (ev->bytes / ev->n + 1));
        w->take = fit < 1 ? 1 : fit > KL_ETCD_WATCH_TAKE ? KL_ETCD_WATCH_TAKE : fit;
    }
    if (send_response(w, ev))
        rc = 0; // closed: the stream is about to go
    kl_etcd_events_clear(ev);
    // The first event of the next transaction was taken too: it begins the next response.
    if (rc == 1 && !add_event(w, ev, &after))
        keep_part(w, ev);
    return true;
}
