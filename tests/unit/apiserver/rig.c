// SPDX-License-Identifier: Apache-2.0
#include "rig.h"
#include "base/cond.h"
#include "watchcache/cache.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

enum { WAIT_S = 120 };

static void wait_event(struct rig *g, const char *what)
{
    pthread_mutex_lock(&g->mu);
    // Counted in seconds that were waited: a machine that stands still for a minute takes one.
    for (int left = WAIT_S; !g->events && left >= 0;) {
        struct timespec until = kl_cond_until(1000);
        left -= pthread_cond_timedwait(&g->event, &g->mu, &until) == ETIMEDOUT;
    }
    bool came = g->events > 0;
    g->events -= came;
    pthread_mutex_unlock(&g->mu);
    if (!came)
        fail_msg("%s did not come in %d s", what, WAIT_S);
}

static void on_event(void *arg)
{
    struct rig *g = arg;
    pthread_mutex_lock(&g->mu);
    g->events++;
    pthread_cond_signal(&g->event);
    pthread_mutex_unlock(&g->mu);
}

void rig_start(struct rig *g, int nloops)
{
    rig_start_with(g, nloops, NULL);
}

void rig_start_with(struct rig *g, int nloops, const struct kl_api_settings *settings)
{
    struct kl_error err = {0};
    static const char *const sans[] = {NULL};
    struct kl_pki_options po = {.data_dir = g->dir,
                                .node_name = "n",
                                .sans = sans,
                                .service_ip = "10.43.0.1",
                                .cluster_domain = "cluster.local"};
    struct kl_store_options so = {.hooks = &kl_cache_hooks};
    *g = (struct rig){.nloops = nloops, .dir = "/tmp/kinglet-rig-XXXXXX"};
    pthread_mutex_init(&g->mu, NULL);
    kl_cond_init(&g->event);
    assert_non_null(mkdtemp(g->dir));
    if (kl_pki_open(&po, &g->pki, &err) || kl_store_open("memory://", &so, &g->store, &err))
        fail_msg("set-up: %s", err.msg);
    for (int i = 0; i < nloops; i++)
        assert_int_equal(kl_loop_new("api", &g->loops[i], &err), 0);
    assert_int_equal(kl_loop_new("client", &g->client_loop, &err), 0);
    struct kl_apiserver_options o = {.store = g->store,
                                     .loops = g->loops,
                                     .nloops = nloops,
                                     .client_loops = &g->client_loop,
                                     .nclient_loops = 1,
                                     .bind_address = "127.0.0.1",
                                     .advertise_address = "192.0.2.7",
                                     .service_cidr = "10.43.0.0/24",
                                     .cluster_domain = "cluster.local",
                                     .version = "test",
                                     .pki = g->pki,
                                     .settings = settings,
                                     .anonymous = true};
    if (kl_apiserver_start(&o, &g->srv, &err))
        fail_msg("start: %s", err.msg);
    kl_apiserver_on_ready(g->srv, on_event, g);
    g->port = kl_apiserver_port(g->srv);
    for (int i = 0; i < nloops; i++)
        assert_int_equal(kl_loop_start(g->loops[i], &err), 0);
    assert_int_equal(kl_loop_start(g->client_loop, &err), 0);
    wait_event(g, "ready");
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

void rig_stop(struct rig *g)
{
    kl_apiserver_stop(g->srv, on_event, g);
    wait_event(g, "the end");
    for (int i = 0; i < g->nloops; i++) {
        kl_loop_stop(g->loops[i]);
        kl_loop_join(g->loops[i]);
    }
    kl_loop_stop(g->client_loop);
    kl_loop_join(g->client_loop);
    for (int i = 0; i < g->nloops; i++)
        kl_loop_unref(g->loops[i]);
    kl_loop_unref(g->client_loop);
    kl_apiserver_free(g->srv);
    kl_store_stop(g->store);
    kl_pki_free(g->pki);
    pthread_cond_destroy(&g->event);
    pthread_mutex_destroy(&g->mu);
    nftw(g->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// ---- the client

void rig_use_admin(struct rig *g, SSL *ssl)
{
    const struct kl_pki *p = g->pki;
    BIO *b = BIO_new_mem_buf(p->admin_cert.p, (int)p->admin_cert.n);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    b = BIO_new_mem_buf(p->admin_key.p, (int)p->admin_key.n);
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
    BIO_free(b);
    SSL_use_certificate(ssl, x);
    SSL_use_PrivateKey(ssl, k);
    X509_free(x);
    EVP_PKEY_free(k);
}

// Takes the chunks of a chunked body together, in place.
static size_t dechunk(char *body, size_t n)
{
    char *from = body, *to = body, *end = body + n;
    while (from < end) {
        char *line = from;
        size_t len = strtoul(line, &from, 16);
        if (from == line || from + 2 > end || !len || (size_t)(end - from) < len + 2)
            break;
        memmove(to, from + 2, len);
        to += len;
        from += 2 + len + 2;
    }
    *to = 0;
    return (size_t)(to - body);
}

static void parse_answer(char *text, size_t n, struct rig_answer *ret)
{
    char *body = memmem(text, n, "\r\n\r\n", 4);
    if (!body || sscanf(text, "HTTP/1.1 %d", &ret->status) != 1)
        return;
    *body = 0;
    body += 4;
    ret->head = text;
    ret->body = body;
    ret->body_n = n - (size_t)(body - text);
    if (strcasestr(text, "transfer-encoding: chunked"))
        ret->body_n = dechunk(body, ret->body_n);
}

void rig_request(struct rig *g, const char *method, const char *path, const char *headers,
                 const char *body, size_t body_n, struct rig_answer *ret)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)g->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    size_t cap = 1 << 16, n = 0;
    char *text = malloc(cap), req[8192];
    int len = snprintf(req, sizeof req,
                       "%s %s HTTP/1.1\r\nhost: h\r\nconnection: close\r\n%s%scontent-length: "
                       "%zu\r\n\r\n",
                       method, path, headers ? headers : "",
                       body_n && !(headers && strcasestr(headers, "content-type:"))
                           ? "content-type: application/json\r\n"
                           : "",
                       body_n);
    *ret = (struct rig_answer){0};
    rig_use_admin(g, ssl);
    if (!connect(fd, (struct sockaddr *)&to, sizeof to) && SSL_set_fd(ssl, fd) == 1 &&
        SSL_connect(ssl) == 1 && SSL_write(ssl, req, len) == len &&
        (!body_n || SSL_write(ssl, body, (int)body_n) == (int)body_n))
        for (int got; (got = SSL_read(ssl, text + n, (int)(cap - 1 - n))) > 0;) {
            n += (size_t)got;
            if (cap - n < 4096)
                text = realloc(text, cap *= 2);
        }
    text[n] = 0;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    parse_answer(text, n, ret);
    if (!ret->head)
        free(text);
}

void rig_answer_fini(struct rig_answer *a)
{
    free(a->head);
    *a = (struct rig_answer){0};
}

const char *rig_member(const struct rig_answer *a, const char *member, char *buf, size_t n)
{
    char want[128];
    snprintf(want, sizeof want, "\"%s\":\"", member);
    const char *p = a->body ? strstr(a->body, want) : NULL;
    p = p ? p + strlen(want) : "\"";
    snprintf(buf, n, "%.*s", (int)strcspn(p, "\""), p);
    return buf;
}

// ---- rows

static void put_in(char *out, size_t cap, const char *text, const char *value)
{
    size_t n = 0;
    for (; text && *text && n + 1 < cap; text++)
        if (text[0] == '$' && text[1] == '1') {
            n += (size_t)snprintf(out + n, cap - n, "%s", value);
            text++;
        } else {
            out[n++] = *text;
        }
    out[n < cap ? n : cap - 1] = 0;
}

static bool has(const struct rig_answer *a, const char *part)
{
    return (a->head && strcasestr(a->head, part)) || (a->body && strstr(a->body, part));
}

static bool has_all(const struct rig_answer *a, const struct rig_row *r, const char *saved)
{
    for (size_t k = 0; k < KL_COUNT(r->has) && r->has[k]; k++) {
        char part[2048];
        put_in(part, sizeof part, r->has[k], saved);
        bool no = part[0] == '!';
        if (has(a, part + no) == no)
            return false;
    }
    return a->status == r->status;
}

void rig_rows(struct rig *g, const struct rig_row *rows, size_t n)
{
    char saved[1024] = "", path[2048], body[8192];
    for (size_t i = 0; i < n; i++) {
        const struct rig_row *r = &rows[i];
        struct rig_answer a;
        put_in(path, sizeof path, r->path, saved);
        put_in(body, sizeof body, r->body, saved);
        rig_request(g, r->method, path, r->headers, body, strlen(body), &a);
        // A watch's time may be over before anything was said, on a machine that stands still.
        for (int k = 0; k < 10 && strstr(path, "timeoutSeconds=") && !has_all(&a, r, saved); k++) {
            rig_answer_fini(&a);
            rig_request(g, r->method, path, r->headers, body, strlen(body), &a);
        }
        if (a.status != r->status)
            fail_msg("row %zu: %s %s\n%s\n: %d, not %d\n%s", i, r->method, path, body, a.status,
                     r->status, a.body ? a.body : "no answer");
        for (size_t k = 0; k < KL_COUNT(r->has) && r->has[k]; k++) {
            char part[2048];
            put_in(part, sizeof part, r->has[k], saved);
            bool no = part[0] == '!';
            if (has(&a, part + no) == no)
                fail_msg("row %zu: %s %s\n%s\n: %s%s\nin\n%s\n\n%s", i, r->method, path, body,
                         no ? "there is " : "there is no ", part + no, a.head, a.body);
        }
        if (r->save)
            rig_member(&a, r->save, saved, sizeof saved);
        rig_answer_fini(&a);
    }
}
