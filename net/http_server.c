// SPDX-License-Identifier: Apache-2.0
// The server's connections: from an accepted socket to its protocol, and their end.
#include "net/http_server.h"
#include <openssl/x509.h>
#include <stdlib.h>
#include <unistd.h>

static const char preface[24] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const struct kl_http_limits *kl_http_conn_limits(const struct kl_http_conn *c)
{
    return &c->worker->server->limits;
}

bool kl_http_conn_tls(const struct kl_http_conn *c)
{
    return c->worker->server->tls != NULL;
}

struct kl_str kl_http_worker_date(struct kl_http_worker *w)
{
    uint64_t now = uv_now(kl_loop_uv(w->loop));
    if (now >= w->date_until_ms) {
        int64_t ms = kl_wall_ms();
        kl_http_date(w->date, ms / 1000);
        w->date_until_ms = now + (uint64_t)(1000 - ms % 1000);
    }
    return kl_str(w->date);
}

void kl_http_conn_ref(struct kl_http_conn *c)
{
    c->refs++;
}

void kl_http_conn_unref(struct kl_http_conn *c)
{
    struct kl_http_worker *w = c->worker;
    if (--c->refs)
        return;
    if (c->data && c->data_free)
        c->data_free(c->data);
    X509_free(c->cert);
    free(c);
    w->nlive--;
    kl_http_worker_check_gone(w);
}

static void close_requests(struct kl_http_conn *c, int status)
{
    kl_h1_forget(c);
    while (c->reqs)
        kl_http_req_close(c->reqs, status);
}

void kl_http_conn_close(struct kl_http_conn *c, int status)
{
    struct kl_conn *k = c->c;
    if (!k)
        return;
    if (c->tunnel) { // the duplex owns the socket: for it the connection breaks
        k->ops->on_broken(k->arg, status, NULL);
        return;
    }
    c->c = NULL;
    kl_http_conn_ref(c);
    kl_conn_close(k);
    close_requests(c, status);
    kl_http_conn_unref(c);
}

static void run_close(struct kl_task *t)
{
    struct kl_http_conn *c = KL_CONTAINER_OF(t, struct kl_http_conn, close_task);
    c->close_queued = false;
    kl_http_conn_close(c, c->close_status);
    kl_http_conn_unref(c);
}

void kl_http_conn_close_soon(struct kl_http_conn *c, int status)
{
    if (c->close_queued || !c->c)
        return;
    c->close_queued = true;
    c->close_status = status;
    c->close_task.run = run_close;
    kl_http_conn_ref(c);
    kl_loop_defer(c->worker->loop, &c->close_task);
}

void kl_http_conn_drain(struct kl_http_conn *c)
{
    kl_http_conn_ref(c);
    close_requests(c, KL_ECANCELED);
    if (c->c)
        kl_conn_drain(c->c);
    kl_http_conn_unref(c);
}

void kl_http_conn_gone(struct kl_http_conn *c)
{
    struct kl_http_worker *w = c->worker;
    c->c = NULL;
    close_requests(c, KL_ECANCELED);
    kl_h1_free(c);
    kl_h2_free(c);
    if (c->prev)
        c->prev->next = c->next;
    else
        w->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    kl_http_worker_conn_left(w);
    kl_http_conn_unref(c);
}

void kl_http_dispatch(struct kl_http_req *r)
{
    struct kl_http_worker *w = r->conn->worker;
    atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
    if (r->headers_too_big) {
        static const struct kl_http_header h[] = {
            KL_HTTP_HEADER("content-type", "text/plain; charset=utf-8")};
        r->close_after = true;
        kl_http_respond(r, 431, h, 1, KL_STR("431 Request Header Fields Too Large"));
        return;
    }
    w->server->handler(w->server->arg, r);
}

// ---- A connection whose protocol is not known yet

static int become(struct kl_http_conn *c, bool h2)
{
    int rc = h2 ? kl_h2_new(c) : kl_h1_new(c);
    if (rc)
        kl_http_conn_close(c, rc);
    return rc;
}

static void on_open(void *arg)
{
    struct kl_http_conn *c = arg;
    SSL *ssl = c->c->ssl;
    if (!ssl)
        return;
    c->cert = SSL_get1_peer_certificate(ssl);
    c->cert_verify = SSL_get_verify_result(ssl);
    become(c, kl_conn_is_h2(c->c));
}

static void on_read(void *arg, struct kl_str data)
{
    struct kl_http_conn *c = arg;
    size_t take = sizeof(preface) - c->sniff_n;
    take = data.n < take ? data.n : take;
    memcpy(c->sniff + c->sniff_n, data.p, take);
    c->sniff_n += take;
    bool same = !kl_http_conn_limits(c)->no_http2 && memcmp(c->sniff, preface, c->sniff_n) == 0;
    if (same && c->sniff_n < sizeof(preface))
        return;
    if (become(c, same))
        return;
    struct kl_conn *k = c->c;
    k->ops->on_read(c, (struct kl_str){c->sniff, c->sniff_n});
    if (c->c && k->ops == (same ? &kl_h2_conn_ops : &kl_h1_conn_ops) && take < data.n)
        k->ops->on_read(c, kl_str_from(data, take));
}

static void on_eof(void *arg)
{
    kl_http_conn_close(arg, KL_ECANCELED);
}

static void on_deadline(void *arg)
{
    kl_http_conn_close(arg, KL_ETIMEOUT);
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    kl_http_conn_close(arg, KL_ECANCELED);
}

static void on_free(void *arg)
{
    kl_http_conn_gone(arg);
}

static const struct kl_conn_ops sniff_ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_eof = on_eof,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = on_free,
};

void kl_http_adopt(struct kl_http_worker *w, int fd, const struct sockaddr_storage *peer)
{
    struct kl_http_server *s = w->server;
    struct kl_http_conn *c = w->stopping ? NULL : calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        kl_http_worker_conn_left(w);
        return;
    }
    c->worker = w;
    c->refs = 1;
    c->peer = *peer;
    struct ucred cred;
    socklen_t n = sizeof(cred);
    bool local = peer->ss_family == AF_UNIX;
    c->peer_uid = local && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) ? cred.uid : -1;
    c->id = (uint64_t)atomic_fetch_add_explicit(&s->next_conn_id, 1, memory_order_relaxed);
    if (kl_conn_accept(w->loop, fd, s->tls, s->limits.progress_timeout_ms, &sniff_ops, c, &c->c,
                       NULL)) {
        free(c);
        kl_http_worker_conn_left(w);
        return;
    }
    c->next = w->conns;
    if (w->conns)
        w->conns->prev = c;
    w->conns = c;
    w->nlive++;
    kl_conn_set_deadline(c->c, kl_conn_now(c->c) + s->limits.header_timeout_ms);
}
