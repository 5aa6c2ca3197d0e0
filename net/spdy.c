// SPDX-License-Identifier: Apache-2.0
// A SPDY/3.1 session: frames in and out, and its end.
#include "net/spdy_int.h"
#include <stdlib.h>

enum { HEADER_SLACK = 16 }; // of a control frame beside its header block

void kl_spdy_unref(struct kl_spdy *s)
{
    if (--s->refs)
        return;
    kl_spdy_zip_fini(&s->zip);
    kl_buf_fini(&s->payload);
    free(s);
}

void kl_spdy_update_reading(struct kl_spdy *s)
{
    if (s->gone || s->closing)
        return;
    if (s->blocked)
        kl_duplex_pause(s->d);
    else
        kl_duplex_resume(s->d);
}

// ---- Out

int kl_spdy_control(struct kl_spdy *s, int type, int flags, struct kl_str payload)
{
    char head[8];
    if (s->gone || s->closing)
        return KL_ECANCELED;
    if (kl_duplex_pending(s->d) + payload.n + sizeof(head) > KL_DUPLEX_MAX)
        return KL_ELIMIT;
    kl_spdy_put32(head, 0x80030000u | (uint32_t)type);
    kl_spdy_put32(head + 4, (uint32_t)payload.n);
    head[4] = (char)flags;
    int rc = kl_duplex_write(s->d, (struct kl_str){head, sizeof(head)});
    return rc ? rc : kl_duplex_write(s->d, payload);
}

int kl_spdy_control_id(struct kl_spdy *s, int type, uint32_t id, uint32_t value)
{
    char p[8];
    kl_spdy_put32(p, id);
    kl_spdy_put32(p + 4, value);
    return kl_spdy_control(s, type, 0, (struct kl_str){p, sizeof(p)});
}

static int send_headers(struct kl_spdy *s, int type, uint32_t id, const struct kl_http_header *h,
                        size_t nh)
{
    struct kl_buf b;
    char fixed[10] = {0};
    kl_buf_init(&b, 2 * 1024 * 1024);
    kl_spdy_put32(fixed, id);
    kl_buf_append(&b, fixed, type == KL_SPDY_SYN_STREAM ? 10 : 4);
    int rc = b.err ? b.err : kl_spdy_pack(&s->zip, h, nh, &b);
    if (!rc)
        rc = kl_spdy_control(s, type, 0, kl_buf_str(&b));
    kl_buf_fini(&b);
    return rc;
}

int kl_spdy_open(struct kl_spdy *s, const struct kl_http_header *h, size_t nh,
                 kl_spdy_reply_cb on_reply, void *arg, struct kl_duplex **ret, struct kl_error *err)
{
    if (s->gone || s->closing || s->next_id > 0x7ffffffd)
        return kl_error_set(err, KL_ECANCELED, "spdy: the session is closed");
    if (s->nstreams >= s->max_streams)
        return kl_error_set(err, KL_ELIMIT, "spdy: too many streams");
    if (kl_duplex_pending(s->d) > KL_DUPLEX_HIGH)
        return kl_error_set(err, KL_ELIMIT, "spdy: the peer does not read");
    struct kl_spdy_stream *st = kl_spdy_stream_new(s, s->next_id, true);
    if (!st)
        return kl_error_set(err, KL_ENOMEM, "spdy: out of memory");
    st->on_reply = on_reply;
    st->reply_arg = arg;
    s->next_id += 2;
    int rc = send_headers(s, KL_SPDY_SYN_STREAM, st->id, h, nh);
    if (rc) { // the compression states have parted: the session is lost
        kl_spdy_stream_end(st, rc);
        kl_duplex_close(&st->d);
        kl_spdy_close(s);
        return kl_error_set(err, rc, "spdy: cannot open a stream: %s", kl_err_text(rc));
    }
    *ret = &st->d;
    return 0;
}

int kl_spdy_reply(struct kl_duplex *stream, const struct kl_http_header *h, size_t nh)
{
    struct kl_spdy_stream *st = (struct kl_spdy_stream *)stream;
    if (st->d.closed || st->replied || st->ours)
        return KL_ECANCELED;
    int rc = send_headers(st->s, KL_SPDY_SYN_REPLY, st->id, h, nh);
    if (!rc)
        kl_spdy_stream_replied(st, NULL, 0);
    return rc;
}

void kl_spdy_ping(struct kl_spdy *s)
{
    char id[4];
    kl_spdy_put32(id, s->ping_id);
    s->ping_id += 2;
    kl_spdy_control(s, KL_SPDY_PING, 0, (struct kl_str){id, 4});
}

// ---- The end

static void on_timer_closed(uv_handle_t *h)
{
    kl_spdy_unref(h->data);
}

static void run_told(struct kl_task *t)
{
    struct kl_spdy *s = KL_CONTAINER_OF(t, struct kl_spdy, task);
    if (!s->freed)
        s->cbs->on_close(s->arg, s->status);
    kl_spdy_unref(s);
}

// Streams first; their on_close comes by deferred tasks, and ours is queued behind them.
static void end_streams(struct kl_spdy *s, int status)
{
    while (s->streams)
        kl_spdy_stream_end(s->streams, status);
}

static void close_with(struct kl_spdy *s, int status, uint32_t goaway_status)
{
    if (s->closing || s->gone)
        return;
    s->status = status;
    kl_spdy_control_id(s, KL_SPDY_GOAWAY, s->last_peer_id, goaway_status);
    s->closing = true;
    end_streams(s, status);
    kl_duplex_close_drain(s->d);
}

static void on_duplex_close(void *arg, int status)
{
    struct kl_spdy *s = arg;
    if (!s->closing)
        s->status = status ? status : KL_EEOF;
    s->gone = true;
    end_streams(s, s->status);
    kl_duplex_close(s->d);
    if (s->timer_open) {
        s->timer_open = false;
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    }
    s->task.run = run_told;
    kl_loop_defer(s->loop, &s->task); // the duplex's reference goes with it
}

void kl_spdy_close(struct kl_spdy *s)
{
    close_with(s, 0, 0);
}

void kl_spdy_free(struct kl_spdy *s)
{
    if (!s || s->freed)
        return;
    s->freed = true;
    close_with(s, 0, 0);
    kl_spdy_unref(s);
}

// ---- In

static int on_syn_stream(struct kl_spdy *s, int flags, struct kl_str p)
{
    struct kl_arena a;
    struct kl_http_header *h;
    size_t nh;
    if (p.n < 10)
        return KL_EPROTO;
    uint32_t id = kl_spdy_u32(p.p) & 0x7fffffff;
    kl_arena_init(&a, 16 * 1024 * 1024);
    int rc = kl_spdy_unpack(&s->zip, kl_str_from(p, 10), s->max_header, &a, &h, &nh);
    bool parity = (id & 1) == (s->client ? 0 : 1);
    if (!rc && (!parity || !id || id <= s->last_peer_id)) {
        rc = KL_EPROTO;
    } else if (!rc && (s->client || s->nstreams >= s->max_streams)) {
        s->last_peer_id = id;
        kl_spdy_control_id(s, KL_SPDY_RST_STREAM, id, KL_SPDY_RST_REFUSED_STREAM);
    } else if (!rc) {
        s->last_peer_id = id;
        struct kl_spdy_stream *st = kl_spdy_stream_new(s, id, false);
        if (!st) {
            rc = KL_ENOMEM;
        } else {
            if (flags & KL_SPDY_FLAG_FIN)
                st->remote_fin = true;
            s->cbs->on_stream(s->arg, &st->d, h, nh);
        }
    }
    kl_arena_fini(&a);
    return rc;
}

static int on_reply(struct kl_spdy *s, int type, int flags, struct kl_str p)
{
    struct kl_arena a;
    struct kl_http_header *h;
    size_t nh;
    if (p.n < 4)
        return KL_EPROTO;
    kl_arena_init(&a, 16 * 1024 * 1024);
    // Unpacked even for streams that are gone: the state goes on.
    int rc = kl_spdy_unpack(&s->zip, kl_str_from(p, 4), s->max_header, &a, &h, &nh);
    struct kl_spdy_stream *st = kl_spdy_stream_find(s, kl_spdy_u32(p.p) & 0x7fffffff);
    if (!rc && st && st->ours && type == KL_SPDY_SYN_REPLY) {
        uint32_t id = st->id;
        kl_spdy_stream_replied(st, h, nh);
        st = kl_spdy_stream_find(s, id); // the callback may have closed it
    }
    if (!rc && st && flags & KL_SPDY_FLAG_FIN)
        kl_spdy_stream_fin(st);
    kl_arena_fini(&a);
    return rc;
}

static int on_rst(struct kl_spdy *s, struct kl_str p)
{
    if (p.n != 8)
        return KL_EPROTO;
    struct kl_spdy_stream *st = kl_spdy_stream_find(s, kl_spdy_u32(p.p) & 0x7fffffff);
    if (st)
        kl_spdy_stream_end(st, KL_ECANCELED);
    return 0;
}

static int on_ping(struct kl_spdy *s, struct kl_str p)
{
    if (p.n != 4)
        return KL_EPROTO;
    bool mine = (kl_spdy_u32(p.p) & 1) == (s->client ? 1 : 0);
    // A peer that pings and never reads gets no more than the queue's bound.
    if (!mine)
        kl_spdy_control(s, KL_SPDY_PING, 0, p);
    return 0;
}

static int on_control(struct kl_spdy *s, int type, int flags, struct kl_str p)
{
    switch (type) {
    case KL_SPDY_SYN_STREAM:
        return on_syn_stream(s, flags, p);
    case KL_SPDY_SYN_REPLY:
    case KL_SPDY_HEADERS:
        return on_reply(s, type, flags, p);
    case KL_SPDY_RST_STREAM:
        return on_rst(s, p);
    case KL_SPDY_PING:
        return on_ping(s, p);
    case KL_SPDY_GOAWAY:
        if (p.n != 8)
            return KL_EPROTO;
        close_with(s, 0, 0);
        return 0;
    case KL_SPDY_WINDOW_UPDATE:
        // Not obeyed: spdystream, the only peer there is, neither sends nor obeys it, and a sender
        // that waited for it would stand still after 64 KiB. The connection holds our writes back.
        return p.n == 8 ? 0 : KL_EPROTO;
    case KL_SPDY_SETTINGS:
    default:
        return 0; // unknown control frames are ignored (SPDY/3 2.2.1)
    }
}

static int begin_frame(struct kl_spdy *s)
{
    s->left = kl_spdy_u32(s->head + 4) & 0xffffff;
    s->in_payload = true;
    kl_buf_clear(&s->payload);
    if (!(s->head[0] & 0x80))
        return (kl_spdy_u32(s->head) & 0x7fffffff) ? 0 : KL_EPROTO;
    if ((kl_spdy_u32(s->head) >> 16) != 0x8003)
        return KL_EPROTO; // another version
    return s->left > s->max_header + HEADER_SLACK ? KL_ELIMIT : 0;
}

// One step over the input: a header, a part of a payload, or the end of a frame.
static int feed_payload(struct kl_spdy *s, struct kl_str *in)
{
    size_t n = in->n < s->left ? in->n : s->left;
    struct kl_str part = {in->p, n};
    *in = kl_str_from(*in, n);
    s->left -= (uint32_t)n;
    bool control = s->head[0] & 0x80, end = s->left == 0;
    int flags = s->head[4];
    if (control) {
        if (kl_buf_append(&s->payload, part.p, part.n))
            return KL_ENOMEM;
        if (!end)
            return 0;
        s->in_payload = false;
        s->head_n = 0;
        return on_control(s, (int)(kl_spdy_u32(s->head) & 0xffff), flags, kl_buf_str(&s->payload));
    }
    uint32_t id = kl_spdy_u32(s->head);
    if (end) {
        s->in_payload = false;
        s->head_n = 0;
    }
    struct kl_spdy_stream *st = kl_spdy_stream_find(s, id);
    if (st && part.n) {
        kl_spdy_stream_data(st, part);
        st = kl_spdy_stream_find(s, id);
    }
    if (st && end && flags & KL_SPDY_FLAG_FIN)
        kl_spdy_stream_fin(st);
    return 0;
}

static void on_data(void *arg, struct kl_str in)
{
    struct kl_spdy *s = arg;
    int rc = 0;
    s->refs++;
    while (!rc && !s->closing && !s->gone && (in.n || (s->in_payload && !s->left))) {
        if (s->in_payload) {
            rc = feed_payload(s, &in);
            continue;
        }
        size_t n = sizeof(s->head) - s->head_n;
        n = in.n < n ? in.n : n;
        memcpy(s->head + s->head_n, in.p, n);
        s->head_n += (unsigned)n;
        in = kl_str_from(in, n);
        if (s->head_n == sizeof(s->head))
            rc = begin_frame(s);
    }
    if (rc)
        close_with(s, KL_EPROTO, 1);
    kl_spdy_unref(s);
}

static void on_eof(void *arg)
{
    struct kl_spdy *s = arg;
    close_with(s, KL_EEOF, 0);
}

static void on_drain(void *arg)
{
    struct kl_spdy *s = arg;
    for (struct kl_spdy_stream *st = s->streams, *next; st; st = next) {
        next = st->next;
        kl_duplex_drained(&st->d);
        if (next && !next->linked)
            break; // the list has changed; the next drain goes on
    }
}

static const struct kl_duplex_cbs duplex_cbs = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_close = on_duplex_close,
};

static void on_timer(uv_timer_t *t)
{
    kl_spdy_ping(t->data);
}

int kl_spdy_new(struct kl_duplex *d, bool client, const struct kl_spdy_opts *o,
                const struct kl_spdy_cbs *cbs, void *arg, struct kl_spdy **ret,
                struct kl_error *err)
{
    struct kl_spdy *s = calloc(1, sizeof(*s));
    if (!s || kl_spdy_zip_init(&s->zip)) {
        if (s)
            kl_spdy_zip_fini(&s->zip);
        free(s);
        kl_duplex_close(d);
        return kl_error_set(err, KL_ENOMEM, "spdy: out of memory");
    }
    s->d = d;
    s->loop = kl_duplex_loop(d);
    s->client = client;
    s->refs = 2; // the owner and the duplex
    s->max_streams = o && o->max_streams ? o->max_streams : 1000;
    s->max_header = o && o->max_header_bytes ? o->max_header_bytes : 64 * 1024;
    s->window = o && o->initial_window ? o->initial_window : 64 * 1024;
    s->cbs = cbs;
    s->arg = arg;
    s->next_id = s->ping_id = client ? 1 : 2;
    kl_buf_init(&s->payload, s->max_header + HEADER_SLACK);
    kl_duplex_start(d, &duplex_cbs, s);
    if (o && o->ping_interval_ms) {
        uv_timer_init(kl_loop_uv(s->loop), &s->timer);
        s->timer.data = s;
        s->timer_open = true;
        s->refs++;
        uv_timer_start(&s->timer, on_timer, o->ping_interval_ms, o->ping_interval_ms);
    }
    if (s->window != 64 * 1024) { // SETTINGS_INITIAL_WINDOW_SIZE
        char p[12];
        kl_spdy_put32(p, 1);
        kl_spdy_put32(p + 4, 7);
        kl_spdy_put32(p + 8, s->window);
        kl_spdy_control(s, KL_SPDY_SETTINGS, 0, (struct kl_str){p, sizeof(p)});
    }
    *ret = s;
    return 0;
}
