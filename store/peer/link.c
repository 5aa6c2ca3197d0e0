// SPDX-License-Identifier: Apache-2.0
// One connection between two servers: dialled or accepted, greeted, then frames. Silence is death:
// both sides say that they are alive when they have nothing else to say.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct kl_conn_ops conn_ops;

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

static void free_link(struct kl_peer_link *l)
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
        free_link(l);
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
    if (!p->plain) {
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
    if (!l->p->plain) {
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
        free_link(l);
}

static const struct kl_conn_ops conn_ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_eof = on_eof,
    .on_fill = on_fill,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};

// ---- beginning

static struct kl_peer_link *make_link(struct kl_peers *p, enum kl_peer_link_kind kind)
{
    struct kl_peer_link *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    l->p = p;
    l->kind = kind;
    l->prev = &p->links;
    l->next = p->links;
    if (l->next)
        l->next->prev = &l->next;
    p->links = l;
    l->began_ms = l->heard_ms = l->checked_ms = kl_peers_now(p);
    if (kind == KL_LINK_ACCEPTED)
        p->greeting++;
    return l;
}

int kl_peer_link_accept(struct kl_peers *p, int fd, struct kl_error *err)
{
    struct kl_peer_link *l = make_link(p, KL_LINK_ACCEPTED);
    if (!l) {
        close(fd);
        return kl_error_set(err, KL_ENOMEM, "accept: out of memory");
    }
    int rc = kl_conn_accept(p->loop, fd, p->server_tls, 0, &conn_ops, l, &l->conn, err);
    if (rc) {
        l->conn = NULL;
        kl_peer_link_close(l);
        return rc;
    }
    kl_conn_set_deadline(l->conn, l->began_ms + KL_PEER_ALIVE_EVERY_MS);
    return 0;
}

static int connect_to(struct kl_peer_link *l, const struct sockaddr *sa, socklen_t n,
                      struct kl_error *err)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
    if (l->p->plain && !(sa->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127))
        return kl_error_set(err, KL_EFORBIDDEN, "without TLS only addresses of this machine");
    int rc = kl_conn_connect(l->p->loop, sa, n, l->p->client_tls, NULL, true, 0, &conn_ops, l,
                             &l->conn, err);
    if (rc) {
        l->conn = NULL;
        return rc;
    }
    kl_conn_set_deadline(l->conn, kl_peers_now(l->p) + KL_PEER_ALIVE_EVERY_MS);
    return 0;
}

// The address number `attempt` of the name, counted round.
static const struct addrinfo *pick(const struct addrinfo *all, uintptr_t attempt)
{
    uintptr_t n = 0;
    for (const struct addrinfo *a = all; a; a = a->ai_next)
        n++;
    const struct addrinfo *a = all;
    for (uintptr_t i = n ? attempt % n : 0; i; i--)
        a = a->ai_next;
    return a;
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *all)
{
    struct kl_peer_link *l = KL_CONTAINER_OF(r, struct kl_peer_link, lookup);
    struct kl_error err;
    l->resolving = false;
    if (l->closed) {
        uv_freeaddrinfo(all);
        free_link(l);
        return;
    }
    const struct addrinfo *a = pick(all, (uintptr_t)r->data);
    int rc = a ? connect_to(l, a->ai_addr, a->ai_addrlen, &err)
               : kl_error_set(&err, KL_EUNAVAILABLE, "no address: %s",
                              status ? uv_strerror(status) : "no such host");
    uv_freeaddrinfo(all);
    if (rc)
        lose(l, &err);
}

// "host:port", "[::1]:port".
static int split_address(const char *address, char *host, size_t n, const char **ret_port,
                         struct kl_error *err)
{
    const char *colon = strrchr(address, ':'), *from = address, *to = colon;
    int64_t port;
    if (colon && *from == '[' && colon[-1] == ']') {
        from++;
        to--;
    }
    if (!colon || to == from || (size_t)(to - from) >= n ||
        !kl_str_to_i64(kl_str(colon + 1), &port) || port < 1 || port > 65535)
        return kl_error_set(err, KL_EINVALID, "%s is no host:port", address);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    *ret_port = colon + 1;
    return 0;
}

// An address is tried at once, a name is looked up first; either way through the same call, which
// does not block for an address.
int kl_peer_link_dial(struct kl_peers *p, enum kl_peer_link_kind kind, uint64_t id,
                      const char *address, uint32_t attempt, struct kl_peer_link **ret,
                      struct kl_error *err)
{
    char host[KL_PEER_MAX_ADDRESS];
    const char *port = NULL;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = split_address(address, host, sizeof host, &port, err);
    if (rc)
        return rc;
    struct kl_peer_link *l = make_link(p, kind);
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "dial %s: out of memory", address);
    l->peer_id = id;
    int64_t number = 0;
    kl_str_to_i64(kl_str(port), &number);
    in.sin_port = in6.sin6_port = htons((uint16_t)number);
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        rc = connect_to(l, (const struct sockaddr *)&in, sizeof in, err);
    } else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        rc = connect_to(l, (const struct sockaddr *)&in6, sizeof in6, err);
    } else {
        l->lookup.data = (void *)(uintptr_t)attempt;
        int r = uv_getaddrinfo(kl_loop_uv(p->loop), &l->lookup, on_resolved, host, port, &hints);
        l->resolving = r == 0;
        if (r)
            rc = kl_error_set(err, KL_EUNAVAILABLE, "dial %s: %s", address, uv_strerror(r));
    }
    if (rc) {
        kl_peer_link_close(l);
        return rc;
    }
    *ret = l;
    return 0;
}
