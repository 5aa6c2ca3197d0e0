// SPDX-License-Identifier: Apache-2.0
#include "net_test.h"
#include "base/cond.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_S = 60 };

void event_add(struct event *e, long n)
{
    pthread_mutex_lock(&e->lock);
    e->n += n;
    pthread_cond_broadcast(&e->cond);
    pthread_mutex_unlock(&e->lock);
}

long event_get(struct event *e)
{
    pthread_mutex_lock(&e->lock);
    long n = e->n;
    pthread_mutex_unlock(&e->lock);
    return n;
}

void event_wait_at(struct event *e, long n, const char *file, int line)
{
    pthread_mutex_lock(&e->lock);
    // Counted in seconds that were waited: a machine that stands still for a minute takes one.
    for (int left = WAIT_S; e->n < n && left >= 0;) {
        struct timespec until = kl_cond_until(1000);
        left -= pthread_cond_clockwait(&e->cond, &e->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT;
    }
    long got = e->n;
    pthread_mutex_unlock(&e->lock);
    if (got < n) {
        print_error("waited %d s for %ld, got %ld\n", WAIT_S, n, got);
        _fail(file, line);
    }
}

struct call_on {
    struct kl_task task;
    void (*fn)(void *);
    void *arg;
    struct event done;
};

static void run_call(struct kl_task *t)
{
    struct call_on *c = (struct call_on *)t;
    c->fn(c->arg);
    event_add(&c->done, 1);
}

void on_loop(struct kl_loop *l, void (*fn)(void *arg), void *arg)
{
    struct call_on c = {.task.run = run_call, .fn = fn, .arg = arg, .done = EVENT_INIT};
    kl_loop_post(l, &c.task);
    event_wait(&c.done, 1);
}

// ---- Raw sockets

int raw_connect(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval tv = {.tv_sec = WAIT_S};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

void raw_send(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

void raw_puts(int fd, const char *s)
{
    raw_send(fd, s, strlen(s));
}

size_t raw_read_until(int fd, char *buf, size_t cap, const char *needle)
{
    size_t n = 0;
    buf[0] = 0;
    while (n + 1 < cap && !(needle && memmem(buf, n, needle, strlen(needle)))) {
        ssize_t r = recv(fd, buf + n, cap - 1 - n, 0);
        if (r < 0 && errno == ECONNRESET)
            break;
        if (r < 0)
            fail_msg("recv: %s, got %s", strerror(errno), buf);
        if (r == 0)
            break;
        n += (size_t)r;
        buf[n] = 0;
    }
    return n;
}

bool raw_at_end(int fd)
{
    char c;
    ssize_t r = recv(fd, &c, 1, 0);
    return r == 0 || (r < 0 && errno == ECONNRESET);
}

int count_of(const char *hay, const char *needle)
{
    int n = 0;
    for (const char *p = hay; (p = strstr(p, needle)); p += strlen(needle))
        n++;
    return n;
}

// ---- Certificates

static char *pem_text(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    char *s = strndup(p, (size_t)n);
    BIO_free(b);
    return s;
}

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX c;
    X509V3_set_ctx(&c, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

struct pems make_cert(const char *cn, const char *const *orgs, const struct pems *signer)
{
    EVP_PKEY *key = EVP_EC_gen("P-256"), *ca_key = key;
    X509 *x = X509_new(), *ca = x;
    static atomic_int serial = 1;
    if (signer) {
        BIO *b = BIO_new_mem_buf(signer->cert, -1), *k = BIO_new_mem_buf(signer->key, -1);
        ca = PEM_read_bio_X509(b, NULL, NULL, NULL);
        ca_key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
        BIO_free(b);
        BIO_free(k);
    }
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    for (; orgs && *orgs; orgs++)
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)*orgs, -1, -1,
                                   0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(ca));
    if (signer)
        add_ext(x, ca, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1");
    else
        add_ext(x, ca, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(x, ca_key, EVP_sha256()) > 0);
    BIO *b = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, x);
    PEM_write_bio_PrivateKey(k, key, NULL, NULL, 0, NULL, NULL);
    struct pems p = {pem_text(b), pem_text(k)};
    if (signer) {
        X509_free(ca);
        EVP_PKEY_free(ca_key);
    }
    X509_free(x);
    EVP_PKEY_free(key);
    return p;
}

void free_pems(struct pems *p)
{
    free(p->cert);
    free(p->key);
    *p = (struct pems){0};
}

struct kl_tls_pem pem_of(const char *s)
{
    return (struct kl_tls_pem){.pem = kl_str(s)};
}

// ---- The server

struct list {
    struct kl_bytes *slice;
    int left;
    int fail_at;
    atomic_llong *count;
};

static int pull_list(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct list *l = arg;
    int n = 0;
    if (l->fail_at && l->left <= l->fail_at)
        return KL_EIO;
    while (n < max && l->left > 0 && n < 32) {
        chunks[n++] = (struct kl_http_chunk){kl_bytes_ref(l->slice), 0, l->slice->n};
        l->left--;
        if (l->count)
            atomic_fetch_add(l->count, l->slice->n);
    }
    *ret_end = l->left == 0;
    return n;
}

static void close_list(void *arg)
{
    struct list *l = arg;
    kl_bytes_unref(l->slice);
    free(l);
}

static const struct kl_http_source list_source = {pull_list, close_list};

static struct list *new_list(int n, atomic_llong *count)
{
    struct list *l = calloc(1, sizeof(*l));
    l->slice = kl_bytes_alloc(2048);
    for (unsigned i = 0; i < 2048; i++)
        l->slice->p[i] = (char)('a' + i % 26);
    l->left = n;
    l->count = count;
    return l;
}

static int pull_watch(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end)
{
    struct fixture *f = arg;
    int n = 0;
    for (; n < max && f->watch_left > 0; n++, f->watch_left--)
        chunks[n] = (struct kl_http_chunk){kl_bytes_new(KL_STR("event\n")), 0, 6};
    *ret_end = f->watch_left < 0;
    return n;
}

static void close_watch(void *arg)
{
    struct fixture *f = arg;
    f->watch = NULL;
}

static const struct kl_http_source watch_source = {pull_watch, close_watch};

static void fire(void *arg)
{
    struct fixture *f = arg;
    if (f->watch)
        kl_http_resume(f->watch);
}

struct fire_arg {
    struct fixture *f;
    int n;
};

static void fire_n(void *arg)
{
    struct fire_arg *a = arg;
    a->f->watch_left = a->n < 0 ? -1 : a->f->watch_left + a->n;
    fire(a->f);
}

void fixture_fire_watch(struct fixture *f, int n)
{
    struct fire_arg a = {f, n};
    on_loop(f->loops[0], fire_n, &a);
}

static void answer_echo(void *arg, struct kl_http_req *r, int status, struct kl_str body)
{
    struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/octet-stream")};
    if (status == KL_ETOOLARGE)
        kl_http_respond(r, 413, h, 1, KL_STR("too large"));
    else if (status == 0)
        kl_http_respond(r, 200, h, 1, body);
}

static void on_piece(void *arg, struct kl_http_req *r, int status, struct kl_str data, bool end)
{
    size_t *n = kl_http_req_data(r);
    char text[64];
    if (status < 0)
        return;
    *n += data.n;
    kl_http_body_consumed(r, data.n);
    if (end) {
        snprintf(text, sizeof(text), "%zu bytes", *n);
        kl_http_respond(r, 200, NULL, 0, kl_str(text));
    }
}

static void tunnel_data(void *arg, struct kl_str data)
{
    struct kl_duplex *d = *(struct kl_duplex **)arg;
    if (kl_duplex_write(d, data) == 0 && kl_duplex_full(d))
        kl_duplex_pause(d);
}

static void tunnel_eof(void *arg)
{
    kl_duplex_shutdown(*(struct kl_duplex **)arg);
}

static void tunnel_drain(void *arg)
{
    kl_duplex_resume(*(struct kl_duplex **)arg);
}

static void tunnel_close(void *arg, int status)
{
    kl_duplex_close(*(struct kl_duplex **)arg);
    free(arg);
}

static const struct kl_duplex_cbs tunnel_cbs = {tunnel_data, tunnel_eof, tunnel_drain,
                                                tunnel_close};

static void answer_tunnel(struct kl_http_req *r)
{
    struct kl_duplex **d = malloc(sizeof(*d));
    struct kl_error err;
    if (kl_http_upgrade(r, KL_STR("test"), NULL, 0, d, &err)) {
        free(d);
        kl_http_respond(r, 400, NULL, 0, kl_str(err.msg));
    } else {
        kl_duplex_start(*d, &tunnel_cbs, d);
    }
}

static void answer_cert(struct kl_http_req *r)
{
    bool ok;
    const char *why = "";
    struct kl_str cn = KL_STR(""), *orgs = NULL, text;
    size_t n = 0;
    X509 *x = kl_http_peer_cert(r, &ok, &why);
    if (x)
        kl_tls_cert_user(x, kl_http_req_arena(r), &cn, &orgs, &n);
    text =
        kl_arena_printf(kl_http_req_arena(r), "cert=%d ok=%d cn=%.*s orgs=%zu first=%.*s",
                        x != NULL, ok, KL_PRI(cn), n, n ? (int)orgs[0].n : 0, n ? orgs[0].p : "");
    kl_http_respond(r, 200, NULL, 0, text);
}

static void on_close(void *arg, struct kl_http_req *r, int status)
{
    struct fixture *f = arg;
    if (kl_str_eqz(kl_http_path(r), "/stream-echo"))
        free(kl_http_req_data(r));
    atomic_store(&f->last_status, status);
    event_add(&f->closed, 1);
}

static void handle(void *arg, struct kl_http_req *r)
{
    struct fixture *f = arg;
    struct kl_str path = kl_http_path(r);
    static const struct kl_http_header text[] = {KL_HTTP_HEADER("content-type", "text/plain")};
    int64_t n = 0;
    kl_http_req_on_close(r, on_close, f);
    if (kl_str_eqz(path, "/hello")) {
        kl_http_respond(r, 200, text, 1, KL_STR("hello\n"));
    } else if (kl_str_eqz(path, "/echo")) {
        kl_http_read_body(r, KL_HTTP_MAX_BODY, answer_echo, f);
    } else if (kl_str_eqz(path, "/stream-echo")) {
        kl_http_req_set_data(r, calloc(1, sizeof(size_t)));
        if (kl_str_eqz(kl_http_query(r), "patient"))
            kl_http_body_patient(r);
        kl_http_read_stream(r, on_piece, f);
        event_add(&f->watch_started, 1);
    } else if (kl_str_eqz(path, "/list")) {
        kl_str_to_i64(kl_http_query(r), &n);
        kl_http_respond_stream(r, 200, text, 1, &list_source, new_list((int)n, NULL));
    } else if (kl_str_eqz(path, "/endless")) {
        kl_http_respond_stream(r, 200, text, 1, &list_source, new_list(1 << 20, &f->pulled_bytes));
    } else if (kl_str_eqz(path, "/fail-midway")) {
        struct list *l = new_list(100, NULL);
        l->fail_at = 50;
        kl_http_respond_stream(r, 200, text, 1, &list_source, l);
    } else if (kl_str_eqz(path, "/watch")) {
        f->watch = r;
        kl_http_respond_stream(r, 200, text, 1, &watch_source, f);
        event_add(&f->watch_started, 1);
    } else if (kl_str_eqz(path, "/trailers")) {
        struct kl_http_header t = KL_HTTP_HEADER("x-sum", "42");
        kl_http_respond_stream(r, 200, text, 1, &list_source, new_list(3, NULL));
        assert_int_equal(kl_http_set_trailers(r, &t, 1), 0);
    } else if (kl_str_eqz(path, "/interim")) {
        struct kl_http_header h = KL_HTTP_HEADER("link", "</x>");
        kl_http_respond_interim(r, 103, &h, 1);
        kl_http_respond(r, 200, text, 1, KL_STR("after\n"));
    } else if (kl_str_eqz(path, "/conn-id")) {
        struct kl_str id =
            kl_arena_printf(kl_http_req_arena(r), "%llu", (unsigned long long)kl_http_conn_id(r));
        kl_http_respond(r, 200, NULL, 0, id);
    } else if (kl_str_eqz(path, "/cert")) {
        answer_cert(r);
    } else if (kl_str_eqz(path, "/abort")) {
        kl_http_abort(r);
    } else if (kl_str_eqz(path, "/tunnel")) {
        answer_tunnel(r);
    } else if (!kl_str_eqz(path, "/hang")) {
        kl_http_respond(r, 404, text, 1, KL_STR("404 page not found\n"));
    } else {
        event_add(&f->watch_started, 1);
    }
}

void fixture_start(struct fixture *f, int nloops, bool tls, const struct kl_http_server_opts *base)
{
    struct kl_error err = {0};
    static const char *const orgs[] = {"system:masters", "second", NULL};
    struct kl_http_server_opts o = {0};
    *f = (struct fixture){
        .nloops = nloops, .closed = EVENT_INIT, .watch_started = EVENT_INIT, .stopped = EVENT_INIT};
    if (base)
        o = *base;
    for (int i = 0; i < nloops; i++)
        assert_int_equal(kl_loop_new(i ? "net1" : "net0", &f->loops[i], &err), 0);
    if (tls) {
        f->ca = make_cert("test-ca", NULL, NULL);
        f->server_cert = make_cert("server", NULL, &f->ca);
        f->client_cert = make_cert("alice", orgs, &f->ca);
        struct kl_tls_server_opts so = {.cert = pem_of(f->server_cert.cert),
                                        .key = pem_of(f->server_cert.key),
                                        .client_ca = pem_of(f->ca.cert)};
        struct kl_tls_client_opts co = {.ca = pem_of(f->ca.cert)};
        if (kl_tls_server_new(&so, &f->tls, &err))
            fail_msg("%s", err.msg);
        if (kl_tls_client_new(&co, &f->client_tls, &err))
            fail_msg("%s", err.msg);
        co.cert = pem_of(f->client_cert.cert);
        co.key = pem_of(f->client_cert.key);
        if (kl_tls_client_new(&co, &f->client_tls_cert, &err))
            fail_msg("%s", err.msg);
    }
    o.loops = f->loops;
    o.nloops = nloops;
    o.address = o.unix_path ? NULL : "127.0.0.1";
    o.tls = f->tls;
    o.handler = handle;
    o.arg = f;
    if (kl_http_server_start(&o, &f->server, &err))
        fail_msg("%s", err.msg);
    f->port = kl_http_server_port(f->server);
    for (int i = 0; i < nloops; i++)
        assert_int_equal(kl_loop_start(f->loops[i], &err), 0);
}

static void on_stopped(void *arg)
{
    struct fixture *f = arg;
    event_add(&f->stopped, 1);
}

void fixture_stop(struct fixture *f)
{
    if (f->server)
        kl_http_server_stop(f->server, 100, on_stopped, f);
    event_wait(&f->stopped, 1);
    for (int i = 0; i < f->nloops; i++)
        kl_loop_stop(f->loops[i]);
    for (int i = 0; i < f->nloops; i++)
        kl_loop_unref(f->loops[i]);
    kl_tls_ctx_unref(f->tls);
    kl_tls_ctx_unref(f->client_tls);
    kl_tls_ctx_unref(f->client_tls_cert);
    free_pems(&f->ca);
    free_pems(&f->server_cert);
    free_pems(&f->client_cert);
}

// ---- The client's callbacks

static void reply_headers(void *arg, struct kl_http_call *call, int status,
                          const struct kl_http_header *h, size_t nh)
{
    struct reply *r = arg;
    r->status = status;
    r->version = kl_http_call_version(call);
}

static void take_some(struct reply *r, struct kl_http_call *call, struct kl_str *data)
{
    struct kl_loop_stalls loop;
    kl_loop_get_stalls(kl_loop_current(), &loop);
    assert_int_not_equal(r->turn, loop.turns);
    if (data->n <= r->take)
        return;
    r->turn = loop.turns;
    assert_int_equal(kl_http_call_put_back(call, kl_str_from(*data, r->take)), 0);
    data->n = r->take;
}

static void reply_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct reply *r = arg;
    size_t before = r->pause_every ? r->body_n / r->pause_every : 0;
    assert_false(r->paused);
    if (r->take)
        take_some(r, call, &data);
    r->body = realloc(r->body, r->body_n + data.n + 1);
    memcpy(r->body + r->body_n, data.p, data.n);
    r->body_n += data.n;
    r->body[r->body_n] = 0;
    if (r->pause_every && r->body_n / r->pause_every > before) {
        r->paused = true;
        r->turn = -1; // whoever resumes it may do so in this turn
        kl_http_call_pause(call);
        event_add(&r->done, 1);
    }
    if (r->cancel_in_data)
        kl_http_call_cancel(call);
}

static void reply_upgrade(void *arg, struct kl_http_call *call, struct kl_duplex *d)
{
    struct reply *r = arg;
    r->tunnel = d;
}

static void reply_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct reply *r = arg;
    struct kl_str t = kl_http_call_trailer(call, KL_STR("x-sum"));
    snprintf(r->trailer, sizeof(r->trailer), "%.*s", KL_PRI(t));
    snprintf(r->err, sizeof(r->err), "%s", err ? err->msg : "");
    r->end_status = status;
    r->call = NULL;
    event_add(&r->done, 1000000);
}

const struct kl_http_call_cbs reply_cbs = {reply_headers, reply_data, reply_upgrade, reply_end};

void reply_free(struct reply *r)
{
    free(r->body);
}
