// SPDX-License-Identifier: Apache-2.0
// Client and server against each other: HTTP/1.1, HTTP/2, TLS, client certificates, flow control.
#include "net_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum mode { H1, H2, TLS_H1, TLS_H2, NMODES };

struct client {
    struct fixture f;
    struct kl_loop *loop;
    struct kl_http_client *c;
    struct kl_http_client_opts opts;
};

static void make_client(void *arg)
{
    struct client *cl = arg;
    cl->opts.loop = cl->loop;
    kl_http_client_new(&cl->opts, &cl->c, NULL);
}

static void start(struct client *cl, bool tls, const struct kl_http_server_opts *so)
{
    struct kl_error err;
    fixture_start(&cl->f, 2, tls, so);
    assert_int_equal(kl_loop_new("client", &cl->loop, &err), 0);
    assert_int_equal(kl_loop_start(cl->loop, &err), 0);
    on_loop(cl->loop, make_client, cl);
}

static void close_client(void *arg)
{
    struct client *cl = arg;
    kl_http_client_close(cl->c);
    cl->c = NULL;
}

static void stop(struct client *cl)
{
    on_loop(cl->loop, close_client, cl);
    fixture_stop(&cl->f);
    kl_loop_stop(cl->loop);
    kl_loop_unref(cl->loop);
}

struct start_call {
    struct client *cl;
    struct kl_http_call_spec spec;
    struct reply *r;
    int rc;
    struct kl_error err;
};

static void run_start(void *arg)
{
    struct start_call *s = arg;
    s->rc = kl_http_call_start(s->cl->c, &s->spec, &reply_cbs, s->r, &s->r->call, &s->err);
}

static struct kl_http_call_spec make_spec(struct client *cl, enum mode m, const char *target)
{
    struct kl_http_call_spec spec = {.host = m >= TLS_H1 ? "localhost" : "127.0.0.1",
                                     .port = cl->f.port,
                                     .target = kl_str(target)};
    spec.tls = m >= TLS_H1 ? cl->f.client_tls : NULL;
    spec.proto = m == H1 || m == TLS_H1 ? KL_HTTP_1 : m == H2 ? KL_HTTP_2 : KL_HTTP_AUTO;
    return spec;
}

static void send_spec(struct client *cl, struct kl_http_call_spec spec, struct reply *r)
{
    struct start_call s = {.cl = cl, .spec = spec, .r = r};
    r->done = (struct event)EVENT_INIT;
    r->f = &cl->f;
    on_loop(cl->loop, run_start, &s);
    if (s.rc)
        fail_msg("%s", s.err.msg);
}

static void get(struct client *cl, enum mode m, const char *target, struct reply *r)
{
    send_spec(cl, make_spec(cl, m, target), r);
}

static void await(struct reply *r)
{
    event_wait(&r->done, 1000000);
}

static void test_basics(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        struct reply r = {0};
        get(&cl, m, "/hello?x=y", &r);
        await(&r);
        if (r.end_status)
            fail_msg("mode %d: %s", m, r.err);
        assert_int_equal(r.status, 200);
        assert_int_equal(r.version, m == H2 || m == TLS_H2 ? 20 : 11);
        assert_string_equal(r.body, "hello\n");
        reply_free(&r);
        r = (struct reply){0};
        get(&cl, m, "/list?5000", &r);
        await(&r);
        assert_int_equal(r.end_status, 0);
        assert_int_equal(r.body_n, 5000 * 2048);
        for (size_t i = 0; i < r.body_n; i++)
            if (r.body[i] != (char)('a' + i % 2048 % 26))
                fail_msg("mode %d: byte %zu is wrong", m, i);
        reply_free(&r);
        r = (struct reply){0};
        struct kl_http_call_spec spec = make_spec(&cl, m, "/echo");
        struct kl_bytes *b = kl_bytes_alloc(2 * 1024 * 1024);
        for (uint32_t i = 0; i < b->n; i++)
            b->p[i] = (char)(i * 7 + i / 1000);
        spec.method = KL_STR("POST");
        spec.body = b;
        send_spec(&cl, spec, &r);
        await(&r);
        assert_int_equal(r.end_status, 0);
        assert_int_equal(r.body_n, b->n);
        assert_memory_equal(r.body, b->p, b->n);
        kl_bytes_unref(b);
        reply_free(&r);
        r = (struct reply){0};
        get(&cl, m, "/trailers", &r);
        await(&r);
        assert_int_equal(r.body_n, 3 * 2048);
        assert_string_equal(r.trailer, "42");
        reply_free(&r);
        r = (struct reply){0};
        get(&cl, m, "/interim", &r);
        await(&r);
        assert_int_equal(r.status, 200);
        assert_string_equal(r.body, "after\n");
        reply_free(&r);
        r = (struct reply){0};
        spec = make_spec(&cl, m, "/hello");
        spec.method = KL_STR("HEAD");
        send_spec(&cl, spec, &r);
        await(&r);
        assert_int_equal(r.end_status, 0);
        assert_int_equal(r.body_n, 0);
        reply_free(&r);
        event_wait(&cl.f.closed, 6);
        stop(&cl);
    }
}

enum { UPLOAD_BYTES = 3000000, UPLOAD_PIECE = 70000, UPLOAD_AHEAD = 4 * UPLOAD_PIECE };

struct upload {
    struct reply r;
    struct client *cl;
    struct kl_http_call_spec spec;
    size_t given, told;
    int rc;
};

static char upload_byte(size_t i)
{
    return (char)(i * 7 + i / 1000);
}

static void give_more(struct upload *u)
{
    while (u->given < UPLOAD_BYTES && u->given - u->told < UPLOAD_AHEAD) {
        size_t left = UPLOAD_BYTES - u->given;
        struct kl_bytes *b = kl_bytes_alloc((uint32_t)(left < UPLOAD_PIECE ? left : UPLOAD_PIECE));
        for (uint32_t i = 0; i < b->n; i++)
            b->p[i] = upload_byte(u->given + i);
        u->given += b->n;
        u->rc |= kl_http_call_send(u->r.call, b, u->given == UPLOAD_BYTES);
    }
}

static void upload_sent(void *arg, struct kl_http_call *call, size_t n)
{
    struct upload *u = KL_CONTAINER_OF(arg, struct upload, r);
    (void)call;
    u->told += n;
    give_more(u);
}

static void run_upload(void *arg)
{
    static struct kl_http_call_cbs cbs;
    struct upload *u = arg;
    cbs = reply_cbs;
    cbs.on_sent = upload_sent;
    u->r.done = (struct event)EVENT_INIT;
    u->r.f = &u->cl->f;
    u->rc = kl_http_call_start(u->cl->c, &u->spec, &cbs, &u->r, &u->r.call, NULL);
    if (!u->rc)
        give_more(u);
}

// A body that is given piece by piece, as what was given leaves; with its length and without.
static void test_upload(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        for (int known = 0; known < 2; known++) {
            struct upload u = {.cl = &cl, .spec = make_spec(&cl, m, "/echo")};
            u.spec.method = KL_STR("PUT");
            u.spec.stream_body = true;
            u.spec.body_length = known ? UPLOAD_BYTES : 0;
            on_loop(cl.loop, run_upload, &u);
            await(&u.r);
            assert_int_equal(u.rc, 0);
            if (u.r.end_status)
                fail_msg("mode %d: %s", m, u.r.err);
            assert_int_equal(u.r.body_n, UPLOAD_BYTES);
            for (size_t i = 0; i < u.r.body_n; i++)
                if (u.r.body[i] != upload_byte(i))
                    fail_msg("mode %d: byte %zu is wrong", m, i);
            reply_free(&u.r);
        }
        event_wait(&cl.f.closed, 2);
        stop(&cl);
    }
}

static void test_body_limit(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        struct kl_bytes *b = kl_bytes_alloc(KL_HTTP_MAX_BODY + 1);
        memset(b->p, 'x', b->n);
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, m, "/echo");
        spec.method = KL_STR("POST");
        spec.body = b;
        send_spec(&cl, spec, &r);
        await(&r);
        if (r.status != 413)
            fail_msg("mode %d: status %d %s", m, r.status, r.err);
        assert_string_equal(r.body, "too large");
        reply_free(&r);
        r = (struct reply){0};
        spec.target = KL_STR("/stream-echo");
        send_spec(&cl, spec, &r);
        await(&r);
        assert_int_equal(r.status, 200);
        assert_string_equal(r.body, "3145729 bytes");
        reply_free(&r);
        kl_bytes_unref(b);
        stop(&cl);
    }
}

// Many at once share one connection up to the server's 250 streams; more open another one.
static void run_many(int n, int max_conns)
{
    struct client cl = {0};
    start(&cl, true, NULL);
    struct reply *r = calloc((size_t)n, sizeof(*r));
    for (int i = 0; i < n; i++)
        get(&cl, TLS_H2, i % 3 ? "/list?7" : "/conn-id", &r[i]);
    for (int i = 0; i < n; i++) {
        await(&r[i]);
        assert_int_equal(r[i].end_status, 0);
        if (i % 3)
            assert_int_equal(r[i].body_n, 7 * 2048);
        else if (max_conns == 1)
            assert_string_equal(r[i].body, r[0].body);
        assert_int_equal(r[i].version, 20);
    }
    struct kl_http_server_stats st;
    kl_http_server_get_stats(cl.f.server, &st);
    assert_int_equal(st.requests, n);
    assert_true(st.accepted <= max_conns);
    for (int i = 0; i < n; i++)
        reply_free(&r[i]);
    free(r);
    stop(&cl);
}

static void test_many_streams(void **state)
{
    run_many(200, 1);
    run_many(700, 3);
}

static void test_reuse(void **state)
{
    struct client cl = {.opts = {.max_conns_per_target = 2}};
    start(&cl, false, NULL);
    struct reply r[20] = {0};
    for (int i = 0; i < 20; i++)
        get(&cl, H1, "/conn-id", &r[i]);
    for (int i = 0; i < 20; i++) {
        await(&r[i]);
        assert_int_equal(r[i].status, 200);
        reply_free(&r[i]);
    }
    struct kl_http_server_stats st;
    kl_http_server_get_stats(cl.f.server, &st);
    assert_true(st.accepted <= 2);
    stop(&cl);
}

// Kept connections that the server closes meanwhile are replaced without the caller's notice.
static void test_server_closes_idle(void **state)
{
    struct client cl = {0};
    struct kl_http_server_opts so = {.idle_timeout_ms = 30};
    start(&cl, true, &so);
    for (int i = 0; i < 30; i++) {
        struct reply r = {0};
        get(&cl, i % 2 ? TLS_H1 : TLS_H2, "/hello", &r);
        await(&r);
        if (r.end_status)
            fail_msg("round %d: %s", i, r.err);
        reply_free(&r);
        if (i % 4 == 0) { // wait until the server has let go
            struct kl_http_server_stats st;
            for (int k = 0; k < 60000; k++) {
                kl_http_server_get_stats(cl.f.server, &st);
                if (st.connections == 0)
                    break;
                struct timespec ms = {0, 1000000};
                nanosleep(&ms, NULL);
            }
            assert_int_equal(st.connections, 0);
        }
    }
    stop(&cl);
}

static void drop_tls(void *arg)
{
    struct client *cl = arg;
    kl_http_client_drop_tls(cl->c, cl->f.client_tls);
}

// Kept connections of one context go, others' stay.
static void test_drop_tls(void **state)
{
    struct client cl = {0};
    struct kl_http_server_stats st;
    start(&cl, true, NULL);
    for (int i = 0; i < 4; i++) {
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, i % 2 ? TLS_H1 : TLS_H2, "/hello");
        if (i >= 2)
            spec.tls = cl.f.client_tls_cert;
        send_spec(&cl, spec, &r);
        await(&r);
        assert_int_equal(r.status, 200);
        reply_free(&r);
    }
    kl_http_server_get_stats(cl.f.server, &st);
    assert_int_equal(st.connections, 4);
    on_loop(cl.loop, drop_tls, &cl);
    for (int k = 0; k < 60000 && st.connections > 2; k++) {
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
        kl_http_server_get_stats(cl.f.server, &st);
    }
    assert_int_equal(st.connections, 2);
    struct reply r = {0};
    struct kl_http_call_spec spec = make_spec(&cl, TLS_H1, "/cert");
    spec.tls = cl.f.client_tls_cert;
    send_spec(&cl, spec, &r);
    await(&r);
    assert_int_equal(r.status, 200);
    kl_http_server_get_stats(cl.f.server, &st);
    assert_int_equal(st.accepted, 4); // it was there
    reply_free(&r);
    stop(&cl);
}

static void test_client_certificates(void **state)
{
    struct client cl = {0};
    start(&cl, true, NULL);
    for (int i = 0; i < 4; i++) {
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, i % 2 ? TLS_H1 : TLS_H2, "/cert");
        if (i >= 2)
            spec.tls = cl.f.client_tls_cert;
        send_spec(&cl, spec, &r);
        await(&r);
        if (r.end_status)
            fail_msg("%s", r.err);
        assert_string_equal(r.body, i < 2 ? "cert=0 ok=0 cn= orgs=0 first="
                                          : "cert=1 ok=1 cn=alice orgs=2 first=system:masters");
        reply_free(&r);
    }
    // One of another CA: the handshake succeeds, the server is told.
    struct pems other = make_cert("other-ca", NULL, NULL);
    struct pems mallory = make_cert("mallory", NULL, &other);
    struct kl_tls_client_opts co = {
        .ca = pem_of(cl.f.ca.cert), .cert = pem_of(mallory.cert), .key = pem_of(mallory.key)};
    struct kl_tls_ctx *tls;
    assert_int_equal(kl_tls_client_new(&co, &tls, NULL), 0);
    struct reply r = {0};
    struct kl_http_call_spec spec = make_spec(&cl, TLS_H2, "/cert");
    spec.tls = tls;
    send_spec(&cl, spec, &r);
    await(&r);
    assert_string_equal(r.body, "cert=1 ok=0 cn=mallory orgs=0 first=");
    reply_free(&r);
    kl_tls_ctx_unref(tls);
    // A client that trusts another CA refuses the server, and so does one that wants another name.
    for (int i = 0; i < 2; i++) {
        co = (struct kl_tls_client_opts){.ca = pem_of(i ? cl.f.ca.cert : other.cert),
                                         .server_name = i ? "example.com" : NULL};
        assert_int_equal(kl_tls_client_new(&co, &tls, NULL), 0);
        r = (struct reply){0};
        spec.tls = tls;
        send_spec(&cl, spec, &r);
        await(&r);
        assert_int_equal(r.end_status, KL_EUNAUTHORIZED);
        static const char *const why[] = {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "tls: failed to verify certificate: x509: certificate is valid for localhost, not "
            "example.com"};
        if (!strstr(r.err, why[i])) // in Go's words
            fail_msg("%s: %s", r.err, why[i]);
        reply_free(&r);
        kl_tls_ctx_unref(tls);
    }
    // After a reload new connections see the new certificate.
    struct pems renewed = make_cert("renewed", NULL, &other);
    struct kl_tls_server_opts so = {.cert = pem_of(renewed.cert), .key = pem_of(renewed.key)};
    struct kl_error err;
    so.key = pem_of(mallory.key);
    assert_int_equal(kl_tls_ctx_reload_server(cl.f.tls, &so, &err), KL_EINVALID);
    so.key = pem_of(renewed.key);
    assert_int_equal(kl_tls_ctx_reload_server(cl.f.tls, &so, &err), 0);
    co = (struct kl_tls_client_opts){.ca = pem_of(other.cert)};
    assert_int_equal(kl_tls_client_new(&co, &tls, NULL), 0);
    r = (struct reply){0};
    spec.tls = tls;
    send_spec(&cl, spec, &r);
    await(&r);
    assert_int_equal(r.end_status, 0);
    reply_free(&r);
    kl_tls_ctx_unref(tls);
    free_pems(&other);
    free_pems(&mallory);
    free_pems(&renewed);
    stop(&cl);
}

static void cancel_call(void *arg)
{
    struct reply *r = arg;
    kl_http_call_cancel(r->call);
    assert_int_equal(r->end_status, KL_ECANCELED); // on_end came before it returned
}

static void test_cancel(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        struct reply r = {0};
        get(&cl, m, "/hang", &r);
        event_wait(&cl.f.watch_started, 1);
        on_loop(cl.loop, cancel_call, &r);
        event_wait(&cl.f.closed, 1);
        assert_int_equal(atomic_load(&cl.f.last_status), KL_ECANCELED);
        struct reply in_data = {.cancel_in_data = true};
        get(&cl, m, "/endless", &in_data);
        await(&in_data);
        assert_int_equal(in_data.end_status, KL_ECANCELED);
        event_wait(&cl.f.closed, 2);
        struct reply timed = {0};
        struct kl_http_call_spec spec = make_spec(&cl, m, "/hang");
        spec.timeout_ms = 50;
        send_spec(&cl, spec, &timed);
        await(&timed);
        assert_int_equal(timed.end_status, KL_ETIMEOUT);
        assert_string_equal(timed.err, "context deadline exceeded");
        struct reply aborted = {0};
        get(&cl, m, "/abort", &aborted);
        await(&aborted);
        assert_int_equal(aborted.end_status, KL_EIO);
        struct reply cut = {0};
        get(&cl, m, "/fail-midway", &cut);
        await(&cut);
        assert_int_equal(cut.end_status, KL_EIO);
        struct reply fine = {0};
        get(&cl, m, "/hello", &fine);
        await(&fine);
        assert_int_equal(fine.end_status, 0);
        reply_free(&r);
        reply_free(&in_data);
        reply_free(&cut);
        reply_free(&fine);
        stop(&cl);
    }
}

static void resume_call(void *arg)
{
    struct reply *r = arg;
    r->paused = false;
    if (r->call)
        kl_http_call_resume(r->call);
}

static void test_pause(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        struct reply r = {.pause_every = 500 * 1000};
        get(&cl, m, "/list?4000", &r);
        for (long i = 1; i <= 4000 * 2048 / (500 * 1000) && event_get(&r.done) < 1000000; i++) {
            event_wait(&r.done, i);
            on_loop(cl.loop, resume_call, &r);
        }
        while (event_get(&r.done) < 1000000) {
            on_loop(cl.loop, resume_call, &r);
            struct timespec ms = {0, 1000000};
            nanosleep(&ms, NULL);
        }
        assert_int_equal(r.end_status, 0);
        assert_int_equal(r.body_n, 4000 * 2048);
        reply_free(&r);
        // Paused for good: the server stops pulling.
        struct reply stuck = {.pause_every = 1};
        get(&cl, m, "/endless", &stuck);
        event_wait(&stuck.done, 1);
        long long before = -1, now;
        for (int i = 0; i < 200 && (now = atomic_load(&cl.f.pulled_bytes)) != before; i++) {
            before = now;
            struct timespec wait = {0, 30000000};
            nanosleep(&wait, NULL);
        }
        if (atomic_load(&cl.f.pulled_bytes) > 24 * 1024 * 1024)
            fail_msg("mode %d: pulled %lld bytes", m, (long long)atomic_load(&cl.f.pulled_bytes));
        on_loop(cl.loop, cancel_call, &stuck);
        reply_free(&stuck);
        stop(&cl);
    }
}

// What is put back comes again, once and in order, in a later turn; pauses hold meanwhile.
static void test_put_back(void **state)
{
    struct client cl = {0};
    for (enum mode m = H1; m < NMODES; m++) {
        start(&cl, m >= TLS_H1, NULL);
        struct reply whole = {0}, r = {.take = 5000, .turn = -1, .pause_every = 300 * 1000};
        get(&cl, m, "/list?500", &whole);
        await(&whole);
        get(&cl, m, "/list?500", &r);
        for (long i = 1; i <= 500 * 2048 / (300 * 1000); i++) {
            event_wait(&r.done, i);
            on_loop(cl.loop, resume_call, &r);
        }
        await(&r);
        assert_int_equal(r.end_status, 0);
        assert_int_equal(r.body_n, whole.body_n);
        assert_memory_equal(r.body, whole.body, r.body_n);
        // Ended while something is put back.
        struct reply cut = {.take = 1, .turn = -1, .pause_every = 3};
        get(&cl, m, "/list?500", &cut);
        event_wait(&cut.done, 1);
        on_loop(cl.loop, cancel_call, &cut);
        await(&cut);
        assert_int_equal(cut.end_status, KL_ECANCELED);
        reply_free(&whole);
        reply_free(&r);
        reply_free(&cut);
        stop(&cl);
    }
}

// A stream whose reader stands still is reset after the progress time-out; the others go on.
static void test_stalled_stream(void **state)
{
    struct client cl = {0};
    struct kl_http_server_opts so = {.progress_timeout_ms = 300};
    start(&cl, false, &so);
    struct reply stuck = {.pause_every = 1}, watch = {0};
    get(&cl, H2, "/watch", &watch);
    event_wait(&cl.f.watch_started, 1);
    get(&cl, H2, "/endless", &stuck);
    event_wait(&stuck.done, 1);
    event_wait(&cl.f.closed, 1);
    assert_int_equal(atomic_load(&cl.f.last_status), KL_ETIMEOUT);
    fixture_fire_watch(&cl.f, -1);
    await(&watch); // an idle watch is no stalled reader
    assert_int_equal(watch.end_status, 0);
    on_loop(cl.loop, resume_call, &stuck);
    event_wait(&cl.f.closed, 2);
    reply_free(&stuck);
    reply_free(&watch);
    stop(&cl);
}

static void test_no_server(void **state)
{
    struct client cl = {0};
    start(&cl, false, NULL);
    struct reply r = {0};
    struct kl_http_call_spec spec = make_spec(&cl, H1, "/");
    spec.port = 1;
    send_spec(&cl, spec, &r);
    await(&r);
    assert_int_equal(r.end_status, KL_EUNAVAILABLE);
    assert_non_null(strstr(r.err, "dial tcp 127.0.0.1:1: connect: "));
    assert_non_null(strstr(r.err, "refused"));
    spec.unix_path = "/nonexistent/kl.sock";
    struct reply u = {0};
    send_spec(&cl, spec, &u);
    await(&u);
    assert_int_equal(u.end_status, KL_EUNAVAILABLE);
    // HTTP/1.1 only server, HTTP/2 wanted
    stop(&cl);
}

static void test_unix_socket(void **state)
{
    char dir[] = "/tmp/kl-net-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    struct client cl = {0};
    struct kl_http_server_opts so = {.unix_path = path};
    start(&cl, false, &so);
    for (int i = 0; i < 2; i++) {
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, i ? H2 : H1, "/hello");
        spec.unix_path = path;
        send_spec(&cl, spec, &r);
        await(&r);
        if (r.end_status)
            fail_msg("%s", r.err);
        assert_string_equal(r.body, "hello\n");
        reply_free(&r);
    }
    stop(&cl);
    assert_int_equal(access(path, F_OK), -1);
    rmdir(dir);
}

// ---- Answers that a server of our own would not give

static int listen_at(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

// Takes one call, says that and hangs up.
static void answer_with(int listener, const char *text)
{
    char request[4096];
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    raw_read_until(fd, request, sizeof(request), "\r\n\r\n");
    raw_puts(fd, text);
    close(fd);
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// 1xx, 204 and 304 have no body, whatever length they name; as Go's net/http reads them.
static void test_bodiless(void **state)
{
    static const struct {
        const char *method, *text;
        int status;
        const char *body; // NULL: the call fails
    } rows[] = {
        {"GET", "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n" OK, 200, "ok"},
        {"GET", "HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n\r\n" OK, 200, "ok"},
        {"GET", "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nno", 0, NULL},
        {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nno", 204, ""},
        {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 200\r\n\r\n", 304, ""},
        {"GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, ""},
        {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", 200, ""},
    };
    char dir[] = "/tmp/kl-net-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    int listener = listen_at(path);
    struct client cl = {0};
    start(&cl, false, NULL);
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, H1, "/");
        spec.method = kl_str(rows[i].method);
        spec.unix_path = path;
        send_spec(&cl, spec, &r);
        answer_with(listener, rows[i].text);
        await(&r);
        if (r.status != rows[i].status || !r.end_status != !!rows[i].body ||
            strcmp(r.body ? r.body : "", rows[i].body ? rows[i].body : "") != 0)
            fail_msg("row %zu: status %d, %d %s, body '%s'", i, r.status, r.end_status, r.err,
                     r.body ? r.body : "");
        reply_free(&r);
    }
    stop(&cl);
    close(listener);
    unlink(path);
    rmdir(dir);
}

// ---- A tunnel through the client, spliced to a second one

struct pipe_end {
    struct kl_duplex *d;
    struct event got, gone;
    uint64_t bytes;
    int status;
};

static void pipe_data(void *arg, struct kl_str data)
{
    struct pipe_end *p = arg;
    for (size_t i = 0; i < data.n; i++)
        assert_int_equal((unsigned char)data.p[i], (unsigned char)((p->bytes + i) % 251));
    p->bytes += data.n;
    event_add(&p->got, (long)data.n);
}

static void pipe_eof(void *arg)
{
    struct pipe_end *p = arg;
    event_add(&p->gone, 1);
}

static void pipe_close(void *arg, int status)
{
    struct pipe_end *p = arg;
    p->status = status;
    kl_duplex_close(p->d);
    event_add(&p->gone, 100);
}

static const struct kl_duplex_cbs pipe_cbs = {pipe_data, pipe_eof, NULL, pipe_close};

static void start_pipe(void *arg)
{
    struct pipe_end *p = arg;
    kl_duplex_start(p->d, &pipe_cbs, p);
}

struct write_arg {
    struct pipe_end *p;
    uint64_t from;
    size_t n;
    int rc;
};

static void write_pipe(void *arg)
{
    struct write_arg *w = arg;
    struct kl_bytes *b = kl_bytes_alloc(w->n);
    for (size_t i = 0; i < w->n; i++)
        b->p[i] = (char)((w->from + i) % 251);
    w->rc = kl_duplex_write_bytes(w->p->d, b, 0, b->n);
    kl_bytes_unref(b);
}

static void shut_pipe(void *arg)
{
    struct pipe_end *p = arg;
    kl_duplex_shutdown(p->d);
}

static void test_upgrade(void **state)
{
    static const struct kl_http_header up[] = {KL_HTTP_HEADER("connection", "Upgrade"),
                                               KL_HTTP_HEADER("upgrade", "test")};
    struct client cl = {0};
    for (int tls = 0; tls < 2; tls++) {
        start(&cl, tls, NULL);
        struct reply r = {0};
        struct kl_http_call_spec spec = make_spec(&cl, tls ? TLS_H2 : H1, "/tunnel");
        spec.upgrade = true;
        spec.headers = up;
        spec.nheaders = 2;
        send_spec(&cl, spec, &r);
        await(&r);
        if (r.end_status)
            fail_msg("%s", r.err);
        assert_int_equal(r.status, 101);
        assert_non_null(r.tunnel);
        struct pipe_end p = {.d = r.tunnel, .got = EVENT_INIT, .gone = EVENT_INIT};
        on_loop(cl.loop, start_pipe, &p);
        uint64_t sent = 0;
        for (int i = 0; i < 50; i++) {
            struct write_arg w = {&p, sent, 100000, 0};
            on_loop(cl.loop, write_pipe, &w);
            assert_int_equal(w.rc, 0);
            sent += w.n;
            event_wait(&p.got, (long)sent - 300000 > 0 ? (long)sent - 300000 : 0);
        }
        event_wait(&p.got, (long)sent);
        on_loop(cl.loop, shut_pipe, &p);
        event_wait(&p.gone, 101); // the echo ends its side too: eof, then on_close(0)
        assert_int_equal(p.status, 0);
        event_wait(&cl.f.closed, 1);
        // refused: an ordinary answer
        struct reply no = {0};
        spec.target = KL_STR("/none");
        send_spec(&cl, spec, &no);
        await(&no);
        assert_int_equal(no.status, 404);
        assert_null(no.tunnel);
        reply_free(&no);
        stop(&cl);
    }
}

struct splice_arg {
    struct client *cl;
    struct kl_duplex *a, *b;
    int fd;
    struct event done;
    uint64_t ab, ba;
    int status;
};

static void on_spliced(void *arg, int status, uint64_t ab, uint64_t ba)
{
    struct splice_arg *s = arg;
    s->ab = ab;
    s->ba = ba;
    s->status = status;
    event_add(&s->done, 1);
}

static void start_splice(void *arg)
{
    struct splice_arg *s = arg;
    assert_int_equal(kl_duplex_open_fd(s->cl->loop, s->fd, &s->a, NULL), 0);
    assert_int_equal(kl_duplex_dial(s->cl->loop, "127.0.0.1", s->cl->f.port, &s->b, NULL), 0);
    assert_non_null(kl_splice_start(s->a, s->b, on_spliced, s));
}

static void test_splice(void **state)
{
    static char buf[8 * 1024 * 1024];
    struct client cl = {0};
    int fds[2];
    start(&cl, false, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    struct splice_arg s = {.cl = &cl, .fd = fds[1], .done = EVENT_INIT};
    on_loop(cl.loop, start_splice, &s);
    raw_puts(fds[0], "GET /list?3000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    size_t n = raw_read_until(fds[0], buf, sizeof(buf), NULL);
    assert_true(n > 3000 * 2048);
    shutdown(fds[0], SHUT_WR);
    event_wait(&s.done, 1);
    assert_int_equal(s.status, 0);
    assert_int_equal(s.ba, n);
    assert_int_equal(s.ab,
                     strlen("GET /list?3000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    close(fds[0]);
    stop(&cl);
}

static void test_close_with_calls(void **state)
{
    struct client cl = {0};
    start(&cl, true, NULL);
    struct reply r[8] = {0};
    for (int i = 0; i < 8; i++)
        get(&cl, i % 2 ? TLS_H1 : TLS_H2, "/hang", &r[i]);
    event_wait(&cl.f.watch_started, 4);
    on_loop(cl.loop, close_client, &cl);
    for (int i = 0; i < 8; i++) {
        await(&r[i]);
        assert_int_equal(r[i].end_status, KL_ECANCELED);
    }
    on_loop(cl.loop, make_client, &cl);
    stop(&cl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),     cmocka_unit_test(test_upload),
        cmocka_unit_test(test_body_limit), cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_reuse),      cmocka_unit_test(test_server_closes_idle),
        cmocka_unit_test(test_drop_tls),   cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_cancel),     cmocka_unit_test(test_pause),
        cmocka_unit_test(test_put_back),   cmocka_unit_test(test_stalled_stream),
        cmocka_unit_test(test_no_server),  cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_bodiless),   cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_splice),     cmocka_unit_test(test_close_with_calls),
    };
    if (getenv("KL_TEST_FILTER"))
        cmocka_set_test_filter(getenv("KL_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
