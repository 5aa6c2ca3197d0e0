// SPDX-License-Identifier: Apache-2.0
// The server seen from raw sockets: HTTP/1.x, bad input, limits, slow and vanishing clients.
#include "net_test.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char buf[4 * 1024 * 1024];

static void test_keep_alive_and_pipelining(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), "hello\n");
    assert_non_null(strstr(buf, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(buf, "Content-Length: 6\r\n"));
    assert_non_null(strstr(buf, "Content-Type: text/plain\r\n"));
    assert_non_null(strstr(buf, "\r\nDate: "));
    // 300 at once, mixed with chunked answers; answers come in order
    char many[64 * 1024];
    size_t n = 0;
    for (int i = 0; i < 100; i++)
        n += (size_t)snprintf(many + n, sizeof(many) - n,
                              "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                              "GET /list?2 HTTP/1.1\r\nHost: x\r\n\r\n"
                              "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nno%03d",
                              i);
    n += (size_t)snprintf(many + n, sizeof(many) - n,
                          "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_send(fd, many, n);
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_int_equal(count_of(buf, "\r\n\r\nhello\n"), 100);
    assert_int_equal(count_of(buf, "Transfer-Encoding: chunked"), 100);
    char *at = buf;
    for (int i = 0; i < 100; i++) {
        char want[32];
        snprintf(want, sizeof(want), "\r\n\r\nno%03d", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
    assert_non_null(strstr(at, "HTTP/1.1 404 Not Found"));
    assert_non_null(strstr(at, "Connection: close"));
    close(fd);
    fixture_stop(&f);
}

static void test_byte_by_byte(void **state)
{
    static const char req[] = "POST /echo HTTP/1.1\r\nHost: x\r\nX-Long-Name: some  value \r\n"
                              "Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n"
                              "0\r\nTrailer: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port), on = 1;
    setsockopt(fd, IPPROTO_TCP, 1, &on, sizeof(on)); // TCP_NODELAY
    for (size_t i = 0; i + 1 < sizeof(req); i++)
        raw_send(fd, req + i, 1);
    raw_read_until(fd, buf, sizeof(buf), "hello\n");
    assert_non_null(strstr(buf, "\r\n\r\nabcde"));
    close(fd);
    fixture_stop(&f);
}

static void test_http10_and_head(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /list?3 HTTP/1.0\r\n\r\n");
    size_t n = raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_non_null(strstr(buf, "HTTP/1.0 200 OK"));
    assert_null(strstr(buf, "chunked"));
    assert_int_equal(n - (size_t)(strstr(buf, "\r\n\r\n") + 4 - buf), 3 * 2048);
    close(fd);
    fd = raw_connect(f.port);
    raw_puts(fd, "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n"
                 "Connection: close\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_int_equal(count_of(buf, "Content-Length: 6"), 2);
    assert_int_equal(count_of(buf, "hello\n"), 1);
    close(fd);
    fixture_stop(&f);
}

static void test_expect_continue(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                 "Content-Length: 4\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), "\r\n\r\n");
    assert_string_equal(buf, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_puts(fd, "body");
    raw_read_until(fd, buf, sizeof(buf), "body");
    assert_non_null(strstr(buf, "200 OK"));
    // Nobody reads it: no 100, and the connection ends since the client may or may not send it.
    raw_puts(fd, "POST /hello HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                 "Content-Length: 4\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_null(strstr(buf, "100 Continue"));
    assert_non_null(strstr(buf, "Connection: close"));
    close(fd);
    fixture_stop(&f);
}

static void send_zeros(int fd, size_t n)
{
    char zeros[64 * 1024] = {0};
    while (n > 0) {
        size_t k = n < sizeof(zeros) ? n : sizeof(zeros);
        if (send(fd, zeros, k, MSG_NOSIGNAL) < 0)
            return; // the server may have closed
        n -= k;
    }
}

static void test_body_limits(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    char head[128];
    size_t max = KL_HTTP_MAX_BODY;
    snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
             max);
    raw_puts(fd, head);
    send_zeros(fd, max);
    size_t n = raw_read_until(fd, buf, sizeof(buf), "\r\n\r\n");
    size_t have = n - (size_t)(strstr(buf, "\r\n\r\n") + 4 - buf);
    assert_non_null(strstr(buf, "200 OK"));
    while (have < max)
        have += (size_t)recv(fd, buf, sizeof(buf), 0);
    assert_int_equal(have, max);
    // one more byte, announced
    snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
             max + 1);
    raw_puts(fd, head);
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_non_null(strstr(buf, "413 Request Entity Too Large"));
    assert_non_null(strstr(buf, "Connection: close"));
    close(fd);
    // chunked, not announced
    fd = raw_connect(f.port);
    snprintf(head, sizeof(head),
             "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
             max + 1);
    raw_puts(fd, head);
    send_zeros(fd, max + 1);
    raw_read_until(fd, buf, sizeof(buf), "too large");
    assert_non_null(strstr(buf, "413 Request Entity Too Large"));
    close(fd);
    // streamed past the window: credit is given back
    fd = raw_connect(f.port);
    raw_puts(fd, "POST /stream-echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n");
    send_zeros(fd, 5000000);
    raw_read_until(fd, buf, sizeof(buf), "5000000 bytes");
    assert_non_null(strstr(buf, "5000000 bytes"));
    close(fd);
    fixture_stop(&f);
}

static void expect_answer(int port, const char *request, const char *want)
{
    int fd = raw_connect(port);
    raw_puts(fd, request);
    raw_read_until(fd, buf, sizeof(buf), NULL);
    if (!strstr(buf, want))
        fail_msg("to %.60s: want %s, got %s", request, want, buf);
    close(fd);
}

static void test_bad_requests(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    expect_answer(f.port, "GARBAGE\r\n\r\n", "400 Bad Request");
    expect_answer(f.port, "GET / HTTP/1.1\r\n\r\n",
                  "400 Bad Request: missing required Host header");
    expect_answer(f.port, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                  "400 Bad Request: too many Host headers");
    expect_answer(f.port, "GET / HTTP/3.0\r\nHost: a\r\n\r\n", "HTTP/1.1 ");
    expect_answer(f.port,
                  "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n",
                  "400 Bad Request");
    expect_answer(f.port, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400 Bad");
    expect_answer(f.port, "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", "400 Bad Request");
    expect_answer(f.port,
                  "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "zz\r\n",
                  "400 Bad Request");
    expect_answer(f.port, "\x16\x03\x01\x02", "400 Bad Request"); // a TLS hello
    fixture_stop(&f);
}

static void test_big_headers(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    char *big = malloc(2 * 1024 * 1024);
    for (int many = 0; many < 2; many++) {
        // one header of 1.1 MiB, then very many small ones
        size_t n = (size_t)sprintf(big, "GET /hello HTTP/1.1\r\nHost: x\r\n");
        if (many) {
            for (int i = 0; i < 1100; i++)
                n += (size_t)sprintf(big + n, "X-%d: y\r\n", i);
            n += (size_t)sprintf(big + n, "\r\n");
        } else {
            n += (size_t)sprintf(big + n, "X: ");
            memset(big + n, 'y', 1100 * 1024);
            n += 1100 * 1024;
            n += (size_t)sprintf(big + n, "\r\n\r\n");
        }
        int fd = raw_connect(f.port);
        if (send(fd, big, n, MSG_NOSIGNAL) < 0)
            print_message("the server closed early\n");
        raw_read_until(fd, buf, sizeof(buf), "Large");
        assert_non_null(strstr(buf, "431 Request Header Fields Too Large"));
        close(fd);
    }
    // 900 KiB is fine
    size_t n = (size_t)sprintf(big, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ");
    memset(big + n, 'y', 900 * 1024);
    n += 900 * 1024;
    n += (size_t)sprintf(big + n, "\r\n\r\n");
    int fd = raw_connect(f.port);
    raw_send(fd, big, n);
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_non_null(strstr(buf, "200 OK"));
    close(fd);
    free(big);
    fixture_stop(&f);
}

static void test_half_sent_requests(void **state)
{
    struct fixture f;
    struct kl_http_server_opts o = {
        .header_timeout_ms = 1500, .idle_timeout_ms = 1600, .progress_timeout_ms = 1550};
    fixture_start(&f, 1, false, &o);
    int idle = raw_connect(f.port);
    raw_puts(idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(idle, buf, sizeof(buf), "hello\n");
    int body = raw_connect(f.port);
    raw_puts(body, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    int silent = raw_connect(f.port), half = raw_connect(f.port), h2 = raw_connect(f.port);
    raw_puts(half, "GET /hello HTTP/1.1\r\nHos");
    raw_puts(h2, "PRI * HTTP/2.0\r\n\r\nSM\r\n");
    assert_true(raw_at_end(silent));
    assert_true(raw_at_end(half));
    assert_true(raw_at_end(body));
    assert_true(raw_at_end(idle));
    assert_true(raw_at_end(h2));
    event_wait(&f.closed, 2);
    assert_int_equal(atomic_load(&f.last_status) == KL_ETIMEOUT || event_get(&f.closed) == 2, 1);
    close(silent);
    close(half);
    close(body);
    close(idle);
    close(h2);
    fixture_stop(&f);
}

// A body that is a stream of messages may stand still for longer than another one that began later.
static void test_patience(void **state)
{
    struct fixture f;
    struct kl_http_server_opts o = {.progress_timeout_ms = 300};
    fixture_start(&f, 1, false, &o);
    int patient = raw_connect(f.port), other;
    raw_puts(patient,
             "POST /stream-echo?patient HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    event_wait(&f.watch_started, 1);
    other = raw_connect(f.port);
    raw_puts(other, "POST /stream-echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
    assert_true(raw_at_end(other));
    raw_puts(patient, "cd");
    raw_read_until(patient, buf, sizeof(buf), "\r\n\r\n");
    assert_non_null(strstr(buf, "200 OK"));
    close(patient);
    close(other);
    fixture_stop(&f);
}

static void test_slow_reader(void **state)
{
    struct fixture f;
    struct kl_http_server_opts o = {.progress_timeout_ms = 400};
    fixture_start(&f, 1, false, &o);
    // Asks for 2 GiB and reads nothing: the server pulls a bounded amount, then gives up.
    int fd = raw_connect(f.port), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    raw_puts(fd, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    event_wait(&f.closed, 1);
    assert_int_equal(atomic_load(&f.last_status), KL_ETIMEOUT);
    long long pulled = atomic_load(&f.pulled_bytes);
    if (pulled > 12 * 1024 * 1024) // kernel buffers and at most 1 MiB of ours
        fail_msg("pulled %lld bytes for a client that does not read", pulled);
    close(fd);
    fixture_stop(&f);
}

static void test_client_goes_away(void **state)
{
    struct fixture f;
    fixture_start(&f, 2, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n");
    event_wait(&f.watch_started, 1);
    close(fd);
    event_wait(&f.closed, 1);
    assert_int_equal(atomic_load(&f.last_status), KL_ECANCELED);
    // With more pipelined input than is read ahead the end is still noticed.
    fd = raw_connect(f.port);
    raw_puts(fd, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n");
    event_wait(&f.watch_started, 2);
    struct timeval tv = {.tv_usec = 200000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    send_zeros(fd, 100 * 1024);
    close(fd);
    event_wait(&f.closed, 2);
    assert_int_equal(atomic_load(&f.last_status), KL_ECANCELED);
    fixture_stop(&f);
}

static void test_watch_frames(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), "\r\n\r\n"); // the headers come before any event
    assert_non_null(strstr(buf, "Transfer-Encoding: chunked"));
    fixture_fire_watch(&f, 1);
    raw_read_until(fd, buf, sizeof(buf), "event\n\r\n");
    assert_string_equal(buf, "6\r\nevent\n\r\n");
    fixture_fire_watch(&f, 3); // one chunk for what came together
    raw_read_until(fd, buf, sizeof(buf), "event\nevent\nevent\n\r\n");
    assert_string_equal(buf, "12\r\nevent\nevent\nevent\n\r\n");
    fixture_fire_watch(&f, -1);
    raw_read_until(fd, buf, sizeof(buf), "0\r\n\r\n");
    event_wait(&f.closed, 1);
    assert_int_equal(atomic_load(&f.last_status), 0);
    // the connection lives on
    raw_puts(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), "hello\n");
    close(fd);
    fixture_stop(&f);
}

static void test_cut_off_and_abort(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /fail-midway HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_null(strstr(buf, "\r\n0\r\n")); // never looks complete
    close(fd);
    fd = raw_connect(f.port);
    raw_puts(fd, "GET /abort HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(raw_read_until(fd, buf, sizeof(buf), NULL), 0);
    close(fd);
    event_wait(&f.closed, 2);
    fixture_stop(&f);
}

static void test_upgrade(void **state)
{
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    // bytes right behind the request belong to the tunnel
    raw_puts(fd, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
                 "early");
    raw_read_until(fd, buf, sizeof(buf), "early");
    assert_non_null(strstr(buf, "101 Switching Protocols\r\nUpgrade: test\r\n"
                                "Connection: Upgrade\r\n\r\nearly"));
    raw_puts(fd, "more");
    raw_read_until(fd, buf, sizeof(buf), "more");
    assert_int_equal(event_get(&f.closed), 0);
    shutdown(fd, SHUT_WR);
    assert_true(raw_at_end(fd));
    event_wait(&f.closed, 1);
    close(fd);
    // not asked for: an ordinary request
    fd = raw_connect(f.port);
    raw_puts(fd, "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                 "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
                 "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_int_equal(count_of(buf, "hello\n"), 2);
    close(fd);
    fixture_stop(&f);
}

static void test_idle_connections(void **state)
{
    enum { N = 1000 };
    struct rlimit rl;
    struct fixture f;
    int fds[N];
    getrlimit(RLIMIT_NOFILE, &rl);
    if (rl.rlim_cur < 2 * N + 100) {
        rl.rlim_cur = rl.rlim_max < 2 * N + 100 ? rl.rlim_max : 2 * N + 100;
        setrlimit(RLIMIT_NOFILE, &rl);
        if (rl.rlim_cur < 2 * N + 100)
            skip();
    }
    fixture_start(&f, 2, false, NULL);
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(f.port);
        if (i % 2) {
            raw_puts(fds[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
            raw_read_until(fds[i], buf, sizeof(buf), "hello\n");
        }
    }
    struct kl_http_server_stats st;
    for (int i = 0; i < 60000; i++) { // what is connected may not be accepted yet
        kl_http_server_get_stats(f.server, &st);
        if (st.connections == N && !st.requests_in_flight)
            break;
        poll(NULL, 0, 1);
    }
    assert_int_equal(st.connections, N);
    assert_int_equal(st.requests, N / 2);
    assert_int_equal(st.requests_in_flight, 0);
    raw_puts(fds[N - 1], "GET /list?100 HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fds[N - 1], buf, sizeof(buf), "\r\n0\r\n\r\n");
    for (int i = 0; i < N; i++)
        close(fds[i]);
    fixture_stop(&f);
}

static void test_max_connections(void **state)
{
    struct fixture f;
    struct kl_http_server_opts o = {.max_connections = 2};
    fixture_start(&f, 2, false, &o);
    int a = raw_connect(f.port), b = raw_connect(f.port);
    raw_puts(a, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(a, buf, sizeof(buf), "hello\n");
    raw_puts(b, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(b, buf, sizeof(buf), "hello\n");
    int c = raw_connect(f.port); // in the backlog
    raw_puts(c, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    struct pollfd p = {.fd = c, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 150), 0);
    close(a);
    raw_read_until(c, buf, sizeof(buf), "hello\n");
    close(b);
    close(c);
    fixture_stop(&f);
}

static void test_address_in_use(void **state)
{
    struct fixture f;
    struct kl_error err;
    struct kl_http_server *second;
    fixture_start(&f, 1, false, NULL);
    struct kl_http_server_opts o = {
        .loops = f.loops, .nloops = 1, .address = "127.0.0.1", .port = f.port};
    assert_int_equal(kl_http_server_start(&o, &second, &err), KL_EEXISTS);
    assert_non_null(strstr(err.msg, "bind: address already in use"));
    o.address = "not-an-ip";
    assert_int_equal(kl_http_server_start(&o, &second, &err), KL_EINVALID);
    fixture_stop(&f);
}

static void answer_peer(void *arg, struct kl_http_req *r)
{
    kl_http_respond(r, 200, NULL, 0, kl_http_peer_ip(r));
}

static void count_stop(void *arg)
{
    event_add(arg, 1);
}

static void test_dual_stack(void **state)
{
    struct fixture f;
    struct kl_error err;
    struct kl_http_server *other;
    fixture_start(&f, 1, false, NULL);
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct kl_http_server_opts o = {
        .loops = f.loops, .nloops = 1, .handler = answer_peer, .arg = NULL};
    assert_int_equal(kl_http_server_start(&o, &other, &err), 0);
    int port = kl_http_server_port(other);
    int fd = raw_connect(port);
    raw_puts(fd, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), NULL);
    assert_non_null(strstr(buf, "\r\n\r\n127.0.0.1")); // not ::ffff:127.0.0.1
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    in6.sin6_port = htons((uint16_t)port);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&in6, sizeof(in6)) == 0) {
        raw_puts(fd, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        raw_read_until(fd, buf, sizeof(buf), NULL);
        assert_non_null(strstr(buf, "\r\n\r\n::1"));
    }
    if (fd >= 0)
        close(fd);
    struct event stopped = EVENT_INIT;
    kl_http_server_stop(other, 100, count_stop, &stopped);
    event_wait(&stopped, 1);
    fixture_stop(&f);
}

static void test_graceful_stop(void **state)
{
    struct fixture f;
    fixture_start(&f, 2, false, NULL);
    int idle = raw_connect(f.port), busy = raw_connect(f.port);
    raw_puts(idle, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(idle, buf, sizeof(buf), "hello\n");
    raw_puts(busy, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n");
    event_wait(&f.watch_started, 1);
    fixture_stop(&f); // the hanging request is cut off at the deadline
    assert_int_equal(atomic_load(&f.last_status), KL_EUNAVAILABLE);
    assert_true(raw_at_end(idle));
    assert_true(raw_at_end(busy));
    close(idle);
    close(busy);
}

// HTTP/2 frames by hand, right and wrong.
static const char h2_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void send_frame(int fd, int type, int flags, uint32_t id, const void *p, size_t n)
{
    unsigned char h[9] = {
        (unsigned char)(n >> 16),  (unsigned char)(n >> 8),  (unsigned char)n,
        (unsigned char)type,       (unsigned char)flags,     (unsigned char)(id >> 24),
        (unsigned char)(id >> 16), (unsigned char)(id >> 8), (unsigned char)id};
    if (send(fd, h, 9, MSG_NOSIGNAL) == 9 && n && send(fd, p, n, MSG_NOSIGNAL) < 0)
        return;
}

static void test_h2_garbage(void **state)
{
    static const struct {
        int type, flags;
        uint32_t id;
        size_t n;
    } bad[] = {
        {0, 0, 0, 10},       // DATA on stream 0
        {1, 4, 2, 5},        // HEADERS on an even stream
        {4, 0, 0, 5},        // SETTINGS of a bad size
        {6, 0, 0, 3},        // PING of a bad size
        {8, 0, 0, 4},        // WINDOW_UPDATE of 0
        {9, 4, 1, 3},        // CONTINUATION of nothing
        {0xee, 0, 0, 0},     // unknown: ignored
        {3, 0, 77, 4},       // RST_STREAM of an idle stream
        {1, 4, 1, 300},      // HEADERS full of garbage
        {0, 0, 1, 0xffffff}, // a frame far too long
    };
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    char junk[512];
    memset(junk, 0, sizeof(junk));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = raw_connect(f.port);
        raw_puts(fd, h2_preface);
        send_frame(fd, 4, 0, 0, NULL, 0);
        memset(junk, bad[i].type == 1 ? 0xff : 0, sizeof(junk));
        send_frame(fd, bad[i].type, bad[i].flags, bad[i].id, junk,
                   bad[i].n < sizeof(junk) ? bad[i].n : 0);
        shutdown(fd, SHUT_WR);
        size_t n = raw_read_until(fd, buf, sizeof(buf), NULL);
        assert_true(n >= 9); // SETTINGS at least
        if (bad[i].type < 10 && bad[i].n < sizeof(junk)) {
            bool goaway = false;
            for (size_t at = 0; at + 9 <= n;) {
                size_t len = (size_t)(unsigned char)buf[at] << 16 |
                             (size_t)(unsigned char)buf[at + 1] << 8 | (unsigned char)buf[at + 2];
                goaway |= buf[at + 3] == 7;
                at += 9 + len;
            }
            if (!goaway)
                fail_msg("bad frame %zu: no GOAWAY", i);
        }
        close(fd);
    }
    // the server is fine
    int fd = raw_connect(f.port);
    raw_puts(fd, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_read_until(fd, buf, sizeof(buf), "hello\n");
    close(fd);
    fixture_stop(&f);
}

// Whether the frames in buf have one of a type.
static bool has_frame(size_t n, int type)
{
    bool has = false;
    for (size_t at = 0; at + 9 <= n;) {
        has |= buf[at + 3] == type;
        at += 9 + ((size_t)(unsigned char)buf[at] << 16 | (size_t)(unsigned char)buf[at + 1] << 8 |
                   (unsigned char)buf[at + 2]);
    }
    return has;
}

// Answers that are complete before the request. A body of a known length may still come for a
// while; one without is reset at once.
static void test_h2_early_answer(void **state)
{
    // POST https /hello; content-length: 5
    static const char endless[] = "\x83\x87\x04\x06/hello\x01\x01h",
                      five[] = "\x83\x87\x04\x06/hello\x01\x01h\x0f\x0d\x01"
                               "5";
    struct fixture f;
    fixture_start(&f, 1, false, NULL);
    int fd = raw_connect(f.port);
    raw_puts(fd, h2_preface);
    send_frame(fd, 4, 0, 0, NULL, 0);
    uint32_t id = 1;
    size_t n;
    do { // a machine that stands still for that while is asked again
        send_frame(fd, 1, 4, id, five, sizeof five - 1);
        n = raw_read_until(fd, buf, sizeof(buf), "hello\n");
        send_frame(fd, 0, 1, id, "12345", 5);
        send_frame(fd, 6, 0, 0, "ping1234", 8);
        n += raw_read_until(fd, buf + n, sizeof(buf) - n, "ping1234");
        id += 2;
    } while (has_frame(n, 3) && id < 100);
    assert_false(has_frame(n, 3));
    send_frame(fd, 1, 4, id, endless, sizeof endless - 1);
    n = raw_read_until(fd, buf, sizeof(buf), "hello\n");
    send_frame(fd, 6, 0, 0, "ping4321", 8);
    n += raw_read_until(fd, buf + n, sizeof(buf) - n, "ping4321");
    assert_true(has_frame(n, 3));
    send_frame(fd, 1, 4, id + 2, five, sizeof five - 1);
    n = raw_read_until(fd, buf, sizeof(buf), "hello\n");
    while (!has_frame(n, 3)) { // after a while
        ssize_t more = recv(fd, buf + n, sizeof(buf) - n, 0);
        assert_true(more > 0);
        n += (size_t)more;
    }
    close(fd);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive_and_pipelining),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_http10_and_head),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_body_limits),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_big_headers),
        cmocka_unit_test(test_half_sent_requests),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_client_goes_away),
        cmocka_unit_test(test_watch_frames),
        cmocka_unit_test(test_cut_off_and_abort),
        cmocka_unit_test(test_upgrade),
        cmocka_unit_test(test_idle_connections),
        cmocka_unit_test(test_max_connections),
        cmocka_unit_test(test_address_in_use),
        cmocka_unit_test(test_dual_stack),
        cmocka_unit_test(test_graceful_stop),
        cmocka_unit_test(test_h2_garbage),
        cmocka_unit_test(test_h2_early_answer),
    };
    if (getenv("KL_TEST_FILTER"))
        cmocka_set_test_filter(getenv("KL_TEST_FILTER"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
