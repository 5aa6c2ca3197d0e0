// SPDX-License-Identifier: Apache-2.0
// Targets and their connections: opening, choosing, failing, closing.
#include "net/client_int.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

void kl_hc_target_free(struct kl_hc_target *t)
{
    kl_tls_ctx_unref(t->tls);
    free(t->host);
    free(t->unix_path);
    free(t);
}

void kl_hc_client_unref(struct kl_http_client *c)
{
    if (--c->refs)
        return;
    for (struct kl_hc_target *t = c->targets, *next; t; t = next) {
        next = t->next;
        kl_hc_target_free(t);
    }
    free(c);
}

static void free_conn(struct kl_hc_conn *hc)
{
    struct kl_http_client *c = hc->client;
    if (hc->session)
        nghttp2_session_del(hc->session);
    free(hc);
    kl_hc_client_unref(c);
}

void kl_hc_conn_freed(void *arg)
{
    free_conn(arg);
}

static void unlink_conn(struct kl_hc_conn *hc)
{
    struct kl_hc_target *t = hc->target;
    if (hc->gone)
        return;
    hc->gone = true;
    if (hc->prev)
        hc->prev->next = hc->next;
    else
        t->conns = hc->next;
    if (hc->next)
        hc->next->prev = hc->prev;
    t->nconns--;
    if (!hc->open)
        t->nconnecting--;
}

// The memory goes with the socket's (on_free), or with the end of the look-up.
void kl_hc_conn_close(struct kl_hc_conn *hc)
{
    unlink_conn(hc);
    if (hc->c) {
        kl_conn_close(hc->c);
    } else if (hc->lookup) {
        uv_cancel((uv_req_t *)&hc->gai);
        hc->freed_by_lookup = true;
    } else {
        free_conn(hc);
    }
}

void kl_hc_conn_fail(struct kl_hc_conn *hc, int status, const struct kl_error *err)
{
    struct kl_hc_target *t = hc->target;
    struct kl_http_client *c = t->client;
    struct kl_error copy;
    bool was_open = hc->open;
    if (hc->gone)
        return;
    if (err)
        copy = *err;
    else
        kl_error_set(&copy, status, "connection lost");
    copy.code = status;
    c->refs++;
    t->busy++;
    unlink_conn(hc);
    while (hc->calls) {
        struct kl_http_call *call = hc->calls;
        bool again = hc->reused && !call->retried && !call->got_headers && status == KL_EIO &&
                     !hc->h2 && !hc->got_bytes && !c->closed &&
                     (kl_str_eqz(call->method, "GET") || kl_str_eqz(call->method, "HEAD"));
        if (again) {
            // The server closed a kept connection just as it was used again.
            kl_hc_call_detach(call);
            kl_hc_call_requeue(call);
        } else {
            kl_hc_call_end(call, status, &copy);
        }
    }
    if (hc->c)
        kl_conn_close(hc->c);
    else if (!hc->lookup)
        free_conn(hc);
    else
        hc->freed_by_lookup = true;
    // Nobody can connect: everyone who waits learns why.
    if (!was_open)
        while (t->waiting)
            kl_hc_call_end(t->waiting, status, &copy);
    else if (!c->closed)
        kl_hc_dispatch(t);
    t->busy--;
    kl_hc_client_unref(c);
}

void kl_hc_conn_idle(struct kl_hc_conn *hc)
{
    const struct kl_http_client *c = hc->target->client;
    if (hc->ncalls == 0)
        kl_conn_set_deadline(hc->c, kl_conn_now(hc->c) + c->idle_ms);
}

// ---- Connecting

static void connect_next(struct kl_hc_conn *hc, const struct kl_error *last);

static void on_open(void *arg)
{
    struct kl_hc_conn *hc = arg;
    struct kl_hc_target *t = hc->target;
    hc->open = true;
    t->nconnecting--;
    hc->h2 = t->proto == KL_HTTP_2 || kl_conn_is_h2(hc->c);
    if (t->proto == KL_HTTP_2 && t->tls && !kl_conn_is_h2(hc->c)) {
        struct kl_error err;
        hc->open = false; // as if it could not connect
        t->nconnecting++;
        kl_error_set(&err, KL_EUNAVAILABLE, "the server does not speak HTTP/2");
        kl_hc_conn_fail(hc, KL_EUNAVAILABLE, &err);
        return;
    }
    t->known = true;
    t->is_h2 = hc->h2;
    hc->last_read_ms = kl_conn_now(hc->c);
    int rc = hc->h2 ? kl_hc_h2_start(hc) : kl_hc_h1_start(hc);
    if (rc) {
        kl_hc_conn_fail(hc, rc, NULL);
        return;
    }
    kl_hc_conn_idle(hc);
    kl_hc_dispatch(t);
}

static void on_read(void *arg, struct kl_str data)
{
}

static void on_eof(void *arg)
{
}

static void on_broken(void *arg, int status, const struct kl_error *err)
{
    struct kl_hc_conn *hc = arg;
    // A certificate that is not accepted will not be at the next address either.
    if (status != KL_EUNAVAILABLE || hc->next_addr >= hc->naddrs) {
        struct kl_error e = *err;
        const struct kl_hc_target *t = hc->target;
        if (t->unix_path)
            kl_error_wrap(&e, "dial unix %s", t->unix_path);
        else
            kl_error_wrap(&e, "dial tcp %s:%d", t->host, t->port);
        kl_hc_conn_fail(hc, status == KL_EIO ? KL_EUNAVAILABLE : status, &e);
        return;
    }
    struct kl_conn *old = hc->c;
    hc->c = NULL;
    static const struct kl_conn_ops none;
    kl_conn_set_ops(old, &none, NULL);
    kl_conn_close(old);
    connect_next(hc, err);
}

static void on_deadline(void *arg)
{
    struct kl_error err;
    kl_error_set(&err, KL_EUNAVAILABLE, "i/o timeout");
    on_broken(arg, KL_EUNAVAILABLE, &err);
}

static const struct kl_conn_ops connecting_ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_eof = on_eof,
    .on_deadline = on_deadline,
    .on_broken = on_broken,
    .on_free = kl_hc_conn_freed,
};

static void connect_next(struct kl_hc_conn *hc, const struct kl_error *last)
{
    struct kl_hc_target *t = hc->target;
    struct kl_error err;
    uint64_t now = uv_now(kl_loop_uv(t->client->loop));
    kl_error_set(&err, KL_EUNAVAILABLE, "%s", last ? last->msg : "no address");
    while (hc->next_addr < hc->naddrs && now < hc->connect_due) {
        int i = hc->next_addr++;
        int rc = kl_conn_connect(t->client->loop, (struct sockaddr *)&hc->addrs[i],
                                 hc->addr_lens[i], t->tls, t->host, t->proto == KL_HTTP_1,
                                 KL_HC_STALL_MS, &connecting_ops, hc, &hc->c, &err);
        if (!rc) {
            kl_conn_set_deadline(hc->c, hc->connect_due);
            return;
        }
        hc->c = NULL;
        if (rc != KL_EUNAVAILABLE)
            break; // TLS set-up, descriptors, memory
    }
    if (t->unix_path)
        kl_error_wrap(&err, "dial unix %s", t->unix_path);
    else if (!hc->naddrs)
        kl_error_wrap(&err, "dial tcp");
    else
        kl_error_wrap(&err, "dial tcp %s:%d", t->host, t->port);
    kl_hc_conn_fail(hc, KL_EUNAVAILABLE, &err);
}

static void add_addr(struct kl_hc_conn *hc, const void *sa, socklen_t n)
{
    if (hc->naddrs == KL_HC_MAX_ADDRS || n > sizeof(hc->addrs[0]))
        return;
    memcpy(&hc->addrs[hc->naddrs], sa, n);
    hc->addr_lens[hc->naddrs++] = n;
}

static bool add_literal(struct kl_hc_conn *hc, const char *host, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1)
        add_addr(hc, &in, sizeof(in));
    else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1)
        add_addr(hc, &in6, sizeof(in6));
    else
        return false;
    return true;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct kl_hc_conn *hc = KL_CONTAINER_OF(req, struct kl_hc_conn, gai);
    struct kl_error err;
    hc->lookup = false;
    if (hc->freed_by_lookup) {
        uv_freeaddrinfo(res);
        free_conn(hc);
        return;
    }
    for (struct addrinfo *a = res; a; a = a->ai_next)
        add_addr(hc, a->ai_addr, a->ai_addrlen);
    uv_freeaddrinfo(res);
    kl_error_set(&err, KL_EUNAVAILABLE, "lookup %s: %s", hc->target->host,
                 !status || status == UV_EAI_NONAME || status == UV_EAI_NODATA
                     ? "no such host"
                     : uv_strerror(status));
    connect_next(hc, &err);
}

static void resolve(struct kl_hc_conn *hc)
{
    struct kl_hc_target *t = hc->target;
    char port[16];
    if (t->unix_path) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        memcpy(un.sun_path, t->unix_path, strlen(t->unix_path) + 1); // length checked before
        add_addr(hc, &un, sizeof(un));
    } else if (strcmp(t->host, "localhost") == 0) {
        add_literal(hc, "127.0.0.1", t->port);
        add_literal(hc, "::1", t->port);
    } else if (!add_literal(hc, t->host, t->port)) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
        snprintf(port, sizeof(port), "%d", t->port);
        hc->lookup = true;
        if (uv_getaddrinfo(kl_loop_uv(t->client->loop), &hc->gai, on_resolved, t->host, port,
                           &hints) == 0)
            return;
        hc->lookup = false;
    }
    connect_next(hc, NULL);
}

static void open_conn(struct kl_hc_target *t)
{
    struct kl_http_client *c = t->client;
    struct kl_hc_conn *hc = calloc(1, sizeof(*hc));
    if (!hc) {
        struct kl_error err;
        kl_error_set(&err, KL_ENOMEM, "connection: out of memory");
        while (t->waiting)
            kl_hc_call_end(t->waiting, KL_ENOMEM, &err);
        return;
    }
    hc->client = c;
    hc->target = t;
    hc->next = t->conns;
    if (t->conns)
        t->conns->prev = hc;
    t->conns = hc;
    t->nconns++;
    t->nconnecting++;
    c->refs++;
    hc->connect_due = uv_now(kl_loop_uv(c->loop)) + c->connect_ms;
    resolve(hc);
}

// ---- Giving calls to connections

static struct kl_hc_conn *find_conn(struct kl_hc_target *t)
{
    for (struct kl_hc_conn *hc = t->conns; hc; hc = hc->next) {
        if (!hc->open || hc->draining || !hc->c || hc->c->state != KL_CONN_OPEN)
            continue;
        // A kept connection may be closed just as it is used again, and a stream is sent once.
        if (!hc->h2 && hc->reused && t->waiting->stream_body)
            continue;
        if (hc->h2 ? !hc->goaway && kl_hc_h2_has_room(hc) : hc->ncalls == 0)
            return hc;
    }
    return NULL;
}

static bool may_open(const struct kl_hc_target *t)
{
    const struct kl_http_client *c = t->client;
    bool h2 = t->proto == KL_HTTP_2 || (t->known && t->is_h2);
    // One at a time until it is known what the server speaks, and how many streams it takes.
    bool unknown = t->tls && t->proto == KL_HTTP_AUTO && !t->known;
    for (const struct kl_hc_conn *hc = t->conns; h2 && hc; hc = hc->next)
        if (hc->open && hc->h2 && !hc->settled && !hc->goaway && !hc->draining)
            return false;
    if (h2 || unknown)
        return t->nconnecting == 0;
    return t->nconnecting < t->nwaiting && (!c->max_conns || t->nconns < (int)c->max_conns);
}

void kl_hc_dispatch(struct kl_hc_target *t)
{
    struct kl_http_client *c = t->client;
    c->refs++;
    t->busy++;
    while (t->waiting && !c->closed) {
        struct kl_hc_conn *hc = find_conn(t);
        if (!hc) {
            if (!may_open(t))
                break;
            open_conn(t);
            continue;
        }
        struct kl_http_call *call = t->waiting;
        kl_hc_call_attach(call, hc);
        if (!hc->h2) {
            kl_hc_h1_send(hc, call);
        } else if (kl_hc_h2_send(hc, call)) {
            struct kl_error err;
            kl_error_set(&err, KL_EIO, "http2: request was refused");
            kl_hc_call_end(call, KL_EIO, &err);
        }
    }
    t->busy--;
    kl_hc_client_unref(c);
}
