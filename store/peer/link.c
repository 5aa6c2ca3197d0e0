// SPDX-License-Identifier: Apache-2.0
// One connection between two servers: greeted, then frames (dial.c begins it). Silence is death:
// both sides say that they are alive when they have nothing else to say.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include <stdlib.h>

// ---- saying

static void say(struct kl_peer_link *l, const void *frame, size_t n)
{
    kl_outq_append(kl_conn_queue(l->conn), frame, n); // a failure breaks the connection
    kl_conn_flush_soon(l->conn);
}

static void say_hello(struct kl_peer_link *l)
{
    unsigned char f[KL_FRAME_CONTROL_MAX];
    struct kl_hello h = {.version = KL_FRAME_VERSION,
                         .version_min = KL_FRAME_VERSION_MIN,
                         .kind = l->fetch ? KL_HELLO_STREAM : KL_HELLO_MESSAGES,
                         .from = l->p->id,
                         .to = l->peer_id,
                         .cluster = l->p->cluster_id,
                         .boot = l->p->boot,
                         .name = l->fetch ? kl_peer_fetch_name(l->fetch) : KL_STR("")};
    say(l, f, kl_hello_encode(&h, f));
}

static void say_welcome(struct kl_peer_link *l, uint16_t version, int code, const char *why)
{
    unsigned char f[KL_FRAME_CONTROL_MAX];
    struct kl_welcome w = {.version = version,
                           .code = (int16_t)code,
                           .cluster = l->p->cluster_id,
                           .boot = l->p->boot,
                           .text = kl_str(why)};
    say(l, f, kl_welcome_encode(&w, f));
}

void kl_peer_link_flush(struct kl_peer_link *l)
{
    if (l->conn && l->greeted && !l->closed)
        kl_conn_flush_soon(l->conn);
}

// ---- ending

void kl_peer_link_free(struct kl_peer_link *l)
{
    if (l->conn || l->resolving)
        return;
    struct kl_peers *p = l->p;
    free(l);
    kl_peers_unref(p);
}

void kl_peer_link_close(struct kl_peer_link *l)
{
    if (l->closed)
        return;
    l->closed = true;
    if (l->kind == KL_LINK_ACCEPTED)
        l->p->greeting--;
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    kl_peer_flow_end(l->flow);
    l->flow = NULL;
    kl_peer_serve_gone(l);
    kl_peer_fetch_end(l, KL_ECANCELED, KL_STR("canceled"));
    kl_peer_message_free(l->message);
    kl_peer_chunk_free(l->chunk);
    l->message = NULL;
    l->chunk = NULL;
    if (l->resolving)
        uv_cancel((uv_req_t *)&l->lookup);
    if (l->conn)
        kl_conn_close(l->conn); // on_free comes later
    else
        kl_peer_link_free(l);
}

// Closes and tells whose it is.
static void lose(struct kl_peer_link *l, const struct kl_error *err)
{
    struct kl_peer *e = l->peer;
    if (l->closed)
        return;
    atomic_fetch_add_explicit(&l->p->refs, 1, memory_order_relaxed);
    struct kl_peers *p = l->p;
    switch (l->kind) {
    case KL_LINK_ACCEPTED:
        kl_log(KL_LOG_DEBUG, "peers", "not accepted: %s", err->msg);
        break;
    case KL_LINK_OUT:
    case KL_LINK_IN:
        if (e)
            kl_peer_link_lost(e, l, err);
        break;
    case KL_LINK_FETCH:
        kl_peer_fetch_end(l, err->code, kl_str(err->msg));
        break;
    case KL_LINK_SERVE:
        break;
    }
    kl_peer_link_close(l);
    kl_peers_unref(p);
}

void kl_peer_link_break(struct kl_peer_link *l, int code, const char *fmt, ...)
{
    struct kl_error err;
    va_list ap;
    va_start(ap, fmt);
    kl_error_vset(&err, code, fmt, ap);
    va_end(ap);
    lose(l, &err);
}

void kl_peer_link_pause(struct kl_peer_link *l, int reason, bool on)
{
    int now = on ? l->paused | reason : l->paused & ~reason;
    if (l->closed || now == l->paused)
        return;
    if (l->paused && !now)
        l->heard_ms = kl_peers_now(l->p); // what was said meanwhile still waits
    l->paused = now;
    kl_conn_pause(l->conn, now != 0);
}

// ---- the greeting

static void drop_refused(struct kl_peer_link *l, int code, const char *why)
{
    kl_log(KL_LOG_DEBUG, "peers", "refused peer=%016llx: %s", (unsigned long long)l->peer_id, why);
    say_welcome(l, 0, code, why);
    kl_conn_drain(l->conn);
}

// Whether another living server with this id is connected. One that has just been started again
// may come before its end was noticed.
static bool is_second(struct kl_peer *e, uint64_t boot)
{
    return e->in && e->in->boot != boot &&
           kl_peers_now(e->p) - e->in->heard_ms < 2 * KL_PEER_ALIVE_EVERY_MS;
}

static int check_hello(struct kl_peer_link *l, const struct kl_hello *h, struct kl_peer **ret_e,
                       struct kl_error *err)
{
    struct kl_peers *p = l->p;
    uint64_t cert_id = 0;
    l->peer_id = h->from;
    l->boot = h->boot;
    if (h->version < KL_FRAME_VERSION_MIN || h->version_min > KL_FRAME_VERSION)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "it speaks versions %d to %d of the peers' protocol, we %d to %d",
                            h->version_min, h->version, KL_FRAME_VERSION_MIN, KL_FRAME_VERSION);
    if (!p->plain && !p->unnamed) {
        if (kl_peer_cert_id(kl_conn_ssl(l->conn), &cert_id, err))
            return err->code;
        if (cert_id != h->from)
            return kl_error_set(err, KL_EUNAUTHORIZED,
                                "it says to be %016llx, but its certificate is of %016llx",
                                (unsigned long long)h->from, (unsigned long long)cert_id);
    }
    if (h->to != p->id)
        return kl_error_set(err, KL_EINVALID, "this is server %016llx, not %016llx",
                            (unsigned long long)p->id, (unsigned long long)h->to);
    if (h->from == p->id)
        return kl_error_set(err, KL_EEXISTS, "two servers have the id %016llx: %s",
                            (unsigned long long)p->id,
                            h->boot == p->boot ? "it dialled itself" : "another one is running");
    if (p->cluster_id && h->cluster && p->cluster_id != h->cluster)
        return kl_error_set(err, KL_EFORBIDDEN, "it is of cluster %016llx, we are of %016llx",
                            (unsigned long long)h->cluster, (unsigned long long)p->cluster_id);
    if (!(*ret_e = kl_peer_find(p, h->from)))
        return kl_error_set(err, KL_ENOTFOUND, "server %016llx is no member",
                            (unsigned long long)h->from);
    if (h->kind == KL_HELLO_MESSAGES && is_second(*ret_e, h->boot))
        return kl_error_set(err, KL_EEXISTS,
                            "two servers have the id %016llx: another one is "
                            "connected",
                            (unsigned long long)h->from);
    return 0;
}

static uint16_t common_version(const struct kl_hello *h)
{
    return h->version < KL_FRAME_VERSION ? h->version : KL_FRAME_VERSION;
}

static void begin_messages(struct kl_peer_link *l, struct kl_peer *e, const struct kl_hello *h)
{
    struct kl_peer_link *old = e->in;
    if (!(l->flow = kl_peer_flow_new(l))) {
        kl_peer_link_break(l, KL_ENOMEM, "out of memory");
        return;
    }
    l->kind = KL_LINK_IN;
    l->p->greeting--;
    if (old) // it has given up the session that the old one was of
        kl_peer_link_break(old, KL_EIO, "it connected anew");
    l->peer = e;
    l->greeted = true;
    e->in = l;
    say_welcome(l, common_version(h), 0, "");
    // Messages may come only after the handlers know of the session.
    kl_peer_link_pause(l, KL_LINK_PAUSE_SESSION, true);
    kl_peer_dial_soon(e);
    kl_peer_link_up(e);
}

static void begin_stream(struct kl_peer_link *l, const struct kl_hello *h)
{
    struct kl_error err;
    int rc = kl_peer_serve_start(l, h->name, &err);
    if (rc) {
        drop_refused(l, rc, err.msg);
        return;
    }
    l->kind = KL_LINK_SERVE;
    l->p->greeting--;
    l->greeted = true;
    say_welcome(l, common_version(h), 0, "");
}

static int got_hello(struct kl_peer_link *l, struct kl_str body)
{
    struct kl_hello h;
    struct kl_peer *e = NULL;
    struct kl_error err;
    if (kl_hello_decode(body, &h))
        return KL_EPROTO;
    if (check_hello(l, &h, &e, &err))
        drop_refused(l, err.code, err.msg);
    else if (h.kind == KL_HELLO_MESSAGES)
        begin_messages(l, e, &h);
    else
        begin_stream(l, &h);
    return 0;
}

static int got_welcome(struct kl_peer_link *l, struct kl_str body)
{
    struct kl_welcome w;
    if (kl_welcome_decode(body, &w))
        return KL_EPROTO;
    if (w.code) {
        kl_peer_link_break(l, w.code, "refused: %.*s", KL_PRI(w.text));
        return 0;
    }
    if (w.version < KL_FRAME_VERSION_MIN || w.version > KL_FRAME_VERSION)
        return KL_EPROTO;
    l->greeted = true;
    l->boot = w.boot;
    if (l->kind == KL_LINK_OUT)
        kl_peer_link_up(l->peer);
    return 0;
}

// ---- frames

static bool is_expected(const struct kl_peer_link *l, struct kl_frame_head h)
{
    switch ((enum kl_frame_type)h.type) {
    case KL_FRAME_HELLO:
        return l->kind == KL_LINK_ACCEPTED && h.n <= sizeof l->control;
    case KL_FRAME_WELCOME:
        return !l->greeted && (l->kind == KL_LINK_OUT || l->kind == KL_LINK_FETCH) &&
               h.n <= sizeof l->control;
    case KL_FRAME_ALIVE:
        return l->greeted && h.n == 0;
    case KL_FRAME_MESSAGE:
        return l->kind == KL_LINK_IN && h.channel < KL_PEER_CHANNELS && h.n <= KL_PEER_MAX_MESSAGE;
    case KL_FRAME_DATA:
        return l->kind == KL_LINK_FETCH && l->greeted && h.n && h.n <= KL_FRAME_DATA_MAX;
    case KL_FRAME_END:
        return l->kind == KL_LINK_FETCH && l->greeted && h.n <= sizeof l->control;
    }
    return false;
}

static int frame_begins(void *arg, struct kl_frame_head h, char **ret_room)
{
    struct kl_peer_link *l = arg;
    if (!is_expected(l, h))
        return KL_EPROTO;
    if (h.type == KL_FRAME_MESSAGE)
        return (l->message = kl_peer_message_new(l->peer_id, h.n, ret_room)) ? 0 : KL_ENOMEM;
    if (h.type == KL_FRAME_DATA)
        return (l->chunk = kl_peer_chunk_new(h.n, ret_room)) ? 0 : KL_ENOMEM;
    *ret_room = l->control;
    return 0;
}

static int frame_ends(void *arg, struct kl_frame_head h)
{
    struct kl_peer_link *l = arg;
    struct kl_str body = {l->control, h.n}, text;
    struct kl_peer_message *m = l->message;
    struct kl_peer_chunk *c = l->chunk;
    int rc = 0, code;
    switch ((enum kl_frame_type)h.type) {
    case KL_FRAME_HELLO:
        rc = got_hello(l, body);
        if (!rc && l->kind == KL_LINK_ACCEPTED)
            rc = KL_ECANCELED; // refused: nothing more is read
        break;
    case KL_FRAME_WELCOME:
        rc = got_welcome(l, body);
        break;
    case KL_FRAME_ALIVE:
        break;
    case KL_FRAME_MESSAGE:
        l->message = NULL;
        kl_peer_deliver(l, h.channel, m);
        break;
    case KL_FRAME_DATA:
        l->chunk = NULL;
        kl_peer_fetch_data(l, c);
        break;
    case KL_FRAME_END:
        if (!(rc = kl_end_decode(body, &code, &text))) {
            kl_peer_fetch_end(l, code, text);
            kl_peer_link_close(l);
        }
        break;
    }
    return rc ? rc : l->closed ? KL_ECANCELED : 0;
}

static const struct kl_frame_ops frame_ops = {frame_begins, frame_ends};

// ---- the connection's events

static void on_open(void *arg)
{
    struct kl_peer_link *l = arg;
    struct kl_error err;
    uint64_t cert_id;
    l->heard_ms = kl_peers_now(l->p);
    if (l->kind == KL_LINK_ACCEPTED)
        return;
    if (!l->p->plain && !l->p->unnamed) {
        int rc = kl_peer_cert_id(kl_conn_ssl(l->conn), &cert_id, &err);
        if (!rc && cert_id != l->peer_id)
            rc = kl_error_set(&err, KL_EUNAUTHORIZED,
                              "the server there is %016llx by its certificate",
                              (unsigned long long)cert_id);
        if (rc) {
            lose(l, &err);
            return;
        }
    }
    say_hello(l);
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_peer_link *l = arg;
    l->heard_ms = kl_peers_now(l->p);
    int rc = kl_frame_feed(&l->reader, data, &frame_ops, l);
    if (rc && rc != KL_ECANCELED)
        kl_peer_link_break(l, rc, rc == KL_EPROTO ? "it does not speak the peers' protocol" : "%s",
                           kl_err_text(rc));
}

static void on_eof(void *arg)
{
    kl_peer_link_break(arg, KL_EIO, "it closed the connection");
}

static void on_fill(void *arg)
{
    struct kl_peer_link *l = arg;
    if (!l->greeted)
        return;
    if (l->kind == KL_LINK_OUT)
        kl_peer_fill(l->peer, l);
    else if (l->kind == KL_LINK_SERVE)
        kl_peer_serve_fill(l);
}

static void on_deadline(void *arg)
{
    struct kl_peer_link *l = arg;
    uint64_t now = kl_peers_now(l->p), late = now - l->checked_ms - KL_PEER_ALIVE_EVERY_MS;
    // A process that was stopped for a while has heard nothing in that time.
    if (late > KL_PEER_ALIVE_EVERY_MS && late < now) {
        l->heard_ms += late;
        l->began_ms += late;
    }
    l->checked_ms = now;
    if (!l->greeted && now - l->began_ms >= KL_PEER_GREETING_MS) {
        kl_peer_link_break(l, KL_ETIMEOUT, "no answer for %d ms", KL_PEER_GREETING_MS);
        return;
    }
    if (l->greeted && !l->paused && now - l->heard_ms >= KL_PEER_DEAD_MS) {
        kl_peer_link_break(l, KL_ETIMEOUT, "silent for %d ms", KL_PEER_DEAD_MS);
        return;
    }
    // While bytes wait for the socket the other side hears enough or is not reading.
    if (l->greeted && !kl_conn_queue(l->conn)->bytes) {
        unsigned char f[KL_FRAME_HEAD];
        kl_frame_put_head(f, (struct kl_frame_head){0, KL_FRAME_ALIVE, 0});
        say(l, f, sizeof f);
    }
    kl_conn_set_deadline(l->conn, now + KL_PEER_ALIVE_EVERY_MS);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    struct kl_peer_link *l = arg;
    struct kl_error e = *err;
    e.code = status;
    lose(l, &e);
    kl_peer_link_close(l);
}

static void on_free(void *arg)
{
    struct kl_peer_link *l = arg;
    l->conn = NULL;
    if (!l->closed) // it drained
        kl_peer_link_close(l);
    else
        kl_peer_link_free(l);
}

const struct kl_conn_ops kl_peer_conn_ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = on_fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};
