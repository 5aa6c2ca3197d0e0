// SPDX-License-Identifier: Apache-2.0
// The request: what was asked, by whom; its life.
#include "net/http_int.h"
#include <arpa/inet.h>
#include <openssl/x509.h>
#include <stdlib.h>

struct kl_http_req *kl_http_req_new(struct kl_http_conn *c, const struct kl_http_proto_ops *ops,
                                    int version)
{
    struct kl_http_worker *w = c->worker;
    struct kl_http_req *r = w->free_reqs;
    struct kl_arena arena;
    if (r) {
        w->free_reqs = r->next;
        w->nfree--;
        arena = r->arena;
    } else {
        r = malloc(sizeof(*r));
        if (!r)
            return NULL;
        kl_arena_init(&arena, KL_HTTP_ARENA_BYTES);
    }
    *r = (struct kl_http_req){
        .conn = c,
        .ops = ops,
        .refs = 1,
        .version = version,
        .arena = arena,
        .content_length = -1,
        .out_length = -1,
        .scheme = kl_http_conn_tls(c) ? KL_STR("https") : KL_STR("http"),
    };
    kl_buf_init(&r->body, SIZE_MAX / 2);
    kl_http_conn_ref(c);
    r->next = c->reqs;
    if (c->reqs)
        c->reqs->prev = r;
    c->reqs = r;
    c->nreqs++;
    atomic_fetch_add_explicit(&w->nstreams, 1, memory_order_relaxed);
    return r;
}

static void free_req(struct kl_http_req *r)
{
    struct kl_http_conn *c = r->conn;
    struct kl_http_worker *w = c->worker;
    kl_http_body_fini(r);
    kl_http_resp_fini(r);
    if (w->nfree < KL_HTTP_FREE_REQS) {
        kl_arena_reset(&r->arena);
        r->next = w->free_reqs;
        w->free_reqs = r;
        w->nfree++;
    } else {
        kl_arena_fini(&r->arena);
        free(r);
    }
    kl_http_conn_unref(c);
}

struct kl_http_req *kl_http_req_ref(struct kl_http_req *r)
{
    r->refs++;
    return r;
}

void kl_http_req_unref(struct kl_http_req *r)
{
    if (r && --r->refs == 0)
        free_req(r);
}

void kl_http_req_close(struct kl_http_req *r, int status)
{
    if (r->closed)
        return;
    r->closed = true;
    struct kl_http_conn *c = r->conn;
    if (r->prev)
        r->prev->next = r->next;
    else
        c->reqs = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->prev = r->next = NULL;
    c->nreqs--;
    atomic_fetch_sub_explicit(&c->worker->nstreams, 1, memory_order_relaxed);
    kl_http_body_fail(r, status ? status : KL_ECANCELED);
    kl_http_resp_end_source(r);
    if (r->on_close) {
        kl_http_close_cb cb = r->on_close;
        r->on_close = NULL;
        cb(r->on_close_arg, r, status);
    }
    kl_http_req_unref(r);
}

int kl_http_req_add_header(struct kl_http_req *r, struct kl_str name, struct kl_str value)
{
    const struct kl_http_limits *lim = kl_http_conn_limits(r->conn);
    r->header_bytes += name.n + value.n + 32;
    if (r->header_bytes > lim->max_header_bytes || r->nheaders >= lim->max_header_count) {
        r->headers_too_big = true;
        return 0;
    }
    if (r->nheaders == r->cap_headers) {
        size_t cap = r->cap_headers ? r->cap_headers * 2 : 16;
        struct kl_http_header *h = kl_arena_alloc(&r->arena, cap * sizeof(*h));
        if (!h)
            return KL_ENOMEM;
        if (r->nheaders)
            memcpy(h, r->headers, r->nheaders * sizeof(*h));
        r->headers = h;
        r->cap_headers = cap;
    }
    r->headers[r->nheaders++] = (struct kl_http_header){name, value};
    return 0;
}

void kl_http_req_set_target(struct kl_http_req *r, struct kl_str t)
{
    r->target = t;
    // RFC 9112 3.2.2: a server must take the absolute form, its authority wins over Host.
    if (t.n && t.p[0] != '/') {
        static const struct kl_str schemes[] = {KL_STR_INIT("http://"), KL_STR_INIT("https://")};
        for (size_t i = 0; i < KL_COUNT(schemes); i++) {
            if (t.n >= schemes[i].n && kl_str_ieq((struct kl_str){t.p, schemes[i].n}, schemes[i])) {
                t = kl_str_from(t, schemes[i].n);
                size_t end = 0;
                while (end < t.n && t.p[end] != '/' && t.p[end] != '?')
                    end++;
                r->authority = (struct kl_str){t.p, end};
                t = kl_str_from(t, end);
                break;
            }
        }
    }
    ptrdiff_t q = kl_str_chr(t, '?');
    r->path = q < 0 ? t : (struct kl_str){t.p, (size_t)q};
    r->query = q < 0 ? KL_STR("") : kl_str_from(t, (size_t)q + 1);
    if (!r->path.n)
        r->path = KL_STR("/");
}

int kl_http_req_headers_done(struct kl_http_req *r)
{
    struct kl_str s = kl_http_header(r, KL_STR("content-length"));
    if (s.p && !kl_str_to_i64(s, &r->content_length))
        return KL_EBADREQUEST;
    if (r->content_length < -1)
        return KL_EBADREQUEST;
    r->expects_continue =
        r->version != 10 && kl_http_header_has_token(r, KL_STR("expect"), KL_STR("100-continue"));
    return 0;
}

struct kl_str kl_http_method(const struct kl_http_req *r)
{
    return r->method;
}

struct kl_str kl_http_target(const struct kl_http_req *r)
{
    return r->target;
}

struct kl_str kl_http_path(const struct kl_http_req *r)
{
    return r->path;
}

struct kl_str kl_http_query(const struct kl_http_req *r)
{
    return r->query;
}

struct kl_str kl_http_authority(const struct kl_http_req *r)
{
    return r->authority;
}

struct kl_str kl_http_scheme(const struct kl_http_req *r)
{
    return r->scheme;
}

int kl_http_version(const struct kl_http_req *r)
{
    return r->version;
}

struct kl_str kl_http_header(const struct kl_http_req *r, struct kl_str name)
{
    for (size_t i = 0; i < r->nheaders; i++)
        if (kl_str_eq(r->headers[i].name, name))
            return r->headers[i].value;
    return (struct kl_str){NULL, 0};
}

const struct kl_http_header *kl_http_headers(const struct kl_http_req *r, size_t *ret_n)
{
    *ret_n = r->nheaders;
    return r->headers;
}

bool kl_http_header_has_token(const struct kl_http_req *r, struct kl_str name, struct kl_str token)
{
    for (size_t i = 0; i < r->nheaders; i++)
        if (kl_str_eq(r->headers[i].name, name) && kl_http_list_has(r->headers[i].value, token))
            return true;
    return false;
}

bool kl_http_has_body(const struct kl_http_req *r)
{
    return r->body_present;
}

int64_t kl_http_content_length(const struct kl_http_req *r)
{
    return r->content_length;
}

bool kl_http_is_upgrade(const struct kl_http_req *r)
{
    return r->version == 11 && r->upgrade;
}

struct kl_loop *kl_http_loop(const struct kl_http_req *r)
{
    return r->conn->worker->loop;
}

const struct sockaddr *kl_http_peer_addr(const struct kl_http_req *r)
{
    return (const struct sockaddr *)&r->conn->peer;
}

int64_t kl_http_peer_uid(const struct kl_http_req *r)
{
    return r->conn->peer_uid;
}

struct kl_str kl_http_peer_ip(struct kl_http_req *r)
{
    char buf[INET6_ADDRSTRLEN] = "";
    if (r->peer_ip.p)
        return r->peer_ip;
    const struct sockaddr_storage *ss = &r->conn->peer;
    if (ss->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)ss)->sin_addr, buf, sizeof(buf));
    } else if (ss->ss_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)ss)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a))
            inet_ntop(AF_INET, a->s6_addr + 12, buf, sizeof(buf));
        else
            inet_ntop(AF_INET6, a, buf, sizeof(buf));
    }
    struct kl_str s = kl_arena_dup(&r->arena, kl_str(buf));
    if (!s.p)
        return KL_STR("");
    return r->peer_ip = s;
}

X509 *kl_http_peer_cert(const struct kl_http_req *r, bool *ret_verified, const char **ret_reason)
{
    const struct kl_http_conn *c = r->conn;
    *ret_verified = false;
    if (!c->cert)
        return NULL;
    long verdict = c->cert_verify;
    // The handshake may be long ago, or a resumption of an older one.
    if (verdict == X509_V_OK && X509_cmp_current_time(X509_get0_notAfter(c->cert)) <= 0)
        verdict = X509_V_ERR_CERT_HAS_EXPIRED;
    *ret_verified = verdict == X509_V_OK;
    if (verdict != X509_V_OK && ret_reason)
        *ret_reason = X509_verify_cert_error_string(verdict);
    return c->cert;
}

struct kl_arena *kl_http_req_arena(struct kl_http_req *r)
{
    return &r->arena;
}

void kl_http_req_set_data(struct kl_http_req *r, void *data)
{
    r->data = data;
}

void *kl_http_req_data(const struct kl_http_req *r)
{
    return r->data;
}

void kl_http_conn_set_data(struct kl_http_req *r, void *data, void (*free_fn)(void *))
{
    struct kl_http_conn *c = r->conn;
    if (c->data && c->data_free)
        c->data_free(c->data);
    c->data = data;
    c->data_free = free_fn;
}

void *kl_http_conn_data(const struct kl_http_req *r)
{
    return r->conn->data;
}

uint64_t kl_http_conn_id(const struct kl_http_req *r)
{
    return r->conn->id;
}

void kl_http_req_on_close(struct kl_http_req *r, kl_http_close_cb cb, void *arg)
{
    r->on_close = cb;
    r->on_close_arg = arg;
}
