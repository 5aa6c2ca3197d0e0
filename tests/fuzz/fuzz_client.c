// SPDX-License-Identifier: Apache-2.0
// What a server answers to the HTTP client. The first byte says what was asked: 1 and 2 a GET over
// HTTP/1.1 and HTTP/2, u an upgrade, g a gRPC call, s a gRPC stream. Every call ends exactly once,
// whatever comes, and a tunnel with the connection.
#include "base/loop.h"
#include "base/str.h"
#include "fuzz.h"
#include "net/grpc.h"
#include "net/http_client.h"
#include "net/http_int.h"
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TURNS = 12, MAX_TURNS = 5000000, MAX_ANSWER = 100000 };

static struct state {
    struct kl_loop *loop;
    uv_idle_t idle;
    struct kl_task task;
    struct sockaddr_un at;
    int listener, fd;
    const uint8_t *data;
    size_t size;
    uint8_t what;
    struct kl_http_client *http;
    struct kl_grpc *grpc;
    struct kl_duplex *tunnel;
    int turns, ended, tunnels, closed;
    bool sent;
} s;

// ---- calls

static void on_headers(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t n)
{
    (void)arg;
    FUZZ_CHECK(status >= 100 && status < 1000, "status %d", status);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(kl_http_header_ok(&h[i]), "header %.*s", KL_PRI(h[i].name));
    kl_http_call_pause(call);
    kl_http_call_resume(call);
}

static void on_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    (void)arg;
    int status = kl_http_call_status(call);
    FUZZ_CHECK(status >= 200 && status != 204 && status != 304, "data of %d", status);
    FUZZ_CHECK(!s.ended && data.p, "data behind the end");
}

static void on_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    (void)arg;
    FUZZ_CHECK(!status || (err && err->msg[0]), "%d without words", status);
    FUZZ_CHECK(status || kl_http_call_status(call), "no status");
    s.ended++;
}

static void tunnel_data(void *arg, struct kl_str data)
{
    (void)arg;
    kl_duplex_write(s.tunnel, data);
}

static void tunnel_eof(void *arg)
{
    (void)arg;
    kl_duplex_shutdown(s.tunnel);
}

static void tunnel_close(void *arg, int status)
{
    (void)arg, (void)status;
    s.closed++;
    kl_duplex_close(s.tunnel);
}

static const struct kl_duplex_cbs tunnel_cbs = {tunnel_data, tunnel_eof, NULL, tunnel_close};

static void on_upgrade(void *arg, struct kl_http_call *call, struct kl_duplex *d)
{
    (void)arg;
    FUZZ_CHECK(s.what == 'u' && kl_http_call_status(call) == 101, "an upgrade nobody asked for");
    s.tunnels++;
    s.tunnel = d;
    kl_duplex_start(d, &tunnel_cbs, NULL);
}

static const struct kl_http_call_cbs cbs = {on_headers, on_data, on_upgrade, on_end};

static void on_message(void *arg, struct kl_grpc_call *call, struct kl_str message)
{
    (void)arg, (void)call;
    FUZZ_CHECK(message.n <= MAX_ANSWER, "%zu bytes", message.n);
}

static void on_done(void *arg, enum kl_grpc_code code, struct kl_str reply,
                    const struct kl_error *err)
{
    (void)arg;
    FUZZ_CHECK(code == KL_GRPC_OK ? reply.n <= MAX_ANSWER : err && err->msg[0], "code %d",
               (int)code);
    s.ended++;
}

static void ask_grpc(void)
{
    struct kl_grpc_call *call;
    struct kl_error err = {0};
    struct kl_grpc_opts o = {
        .loop = s.loop, .target = s.at.sun_path, .max_message_bytes = MAX_ANSWER};
    FUZZ_CHECK(!kl_grpc_new(&o, &s.grpc, &err), "%s", err.msg);
    int rc = s.what == 'g' ? kl_grpc_unary(s.grpc, "/a.B/C", NULL, 0, on_done, NULL, &call, &err)
                           : kl_grpc_stream(s.grpc, "/a.B/C", NULL, 0, on_message, on_done, NULL,
                                            &call, &err);
    FUZZ_CHECK(!rc, "%s", err.msg);
}

static void ask_http(void)
{
    static const struct kl_http_header upgrade[] = {
        {KL_STR_INIT("connection"), KL_STR_INIT("Upgrade")},
        {KL_STR_INIT("upgrade"), KL_STR_INIT("SPDY/3.1")}};
    struct kl_http_call *call;
    struct kl_error err = {0};
    struct kl_http_client_opts o = {.loop = s.loop};
    struct kl_http_call_spec spec = {.host = "x",
                                     .unix_path = s.at.sun_path,
                                     .proto = s.what == '2' ? KL_HTTP_2 : KL_HTTP_1,
                                     .target = KL_STR("/a"),
                                     .headers = upgrade,
                                     .nheaders = s.what == 'u' ? KL_COUNT(upgrade) : 0,
                                     .upgrade = s.what == 'u'};
    FUZZ_CHECK(!kl_http_client_new(&o, &s.http, &err), "%s", err.msg);
    FUZZ_CHECK(!kl_http_call_start(s.http, &spec, &cbs, NULL, &call, &err), "%s", err.msg);
}

// ---- the server

static void send_some(size_t n)
{
    n = n < s.size ? n : s.size;
    if (n)
        FUZZ_CHECK(send(s.fd, s.data, n, MSG_NOSIGNAL | MSG_DONTWAIT) > -2, "send");
    s.data += n;
    s.size -= n;
}

static void hang_up(void)
{
    close(s.fd);
    s.fd = -1;
    s.sent = true;
}

static void turn(uv_idle_t *h)
{
    char sink[4096];
    s.turns++;
    FUZZ_CHECK(s.turns < MAX_TURNS, "the call does not end");
    // A broken connection may be tried again: then nobody is there.
    int fd = accept4(s.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0 && (s.fd >= 0 || s.sent)) {
        close(fd);
    } else if (fd >= 0) {
        s.fd = fd;
        s.turns = 0;
        send_some(s.size / 2); // pieces end anywhere
    }
    if (s.fd >= 0) {
        while (recv(s.fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
        if (s.turns == 2)
            send_some(s.size);
        if (s.turns == TURNS)
            hang_up();
        return;
    }
    if (!s.sent || !s.ended || s.tunnels != s.closed)
        return;
    if (s.http)
        kl_http_client_close(s.http);
    if (s.grpc)
        kl_grpc_close(s.grpc);
    s.http = NULL;
    s.grpc = NULL;
    if (s.turns > TURNS + 6) // what was closed is gone
        uv_stop(h->loop);
}

static void begin(struct kl_task *t)
{
    (void)t;
    if (s.what == 'g' || s.what == 's')
        ask_grpc();
    else
        ask_http();
}

static void start(void)
{
    struct kl_error err = {0};
    FUZZ_CHECK(!kl_loop_new("fuzz", &s.loop, &err), "%s", err.msg);
    uv_idle_init(kl_loop_uv(s.loop), &s.idle);
    s.at.sun_family = AF_UNIX;
    snprintf(s.at.sun_path, sizeof(s.at.sun_path), "/tmp/fuzz-client-%d.sock", (int)getpid());
    unlink(s.at.sun_path);
    s.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(s.listener >= 0 && !bind(s.listener, (struct sockaddr *)&s.at, sizeof(s.at)) &&
                   !listen(s.listener, 8),
               "%s", s.at.sun_path);
}

static void remove_socket(void)
{
    unlink(s.at.sun_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!s.loop) {
        start();
        atexit(remove_socket);
    }
    if (!size)
        return 0;
    s.what = data[0];
    s.data = data + 1;
    s.size = size - 1;
    s.turns = s.ended = s.tunnels = s.closed = 0;
    s.sent = false;
    s.fd = -1;
    s.task.run = begin;
    uv_idle_start(&s.idle, turn);
    kl_loop_post(s.loop, &s.task);
    kl_loop_run(s.loop);
    uv_idle_stop(&s.idle);
    FUZZ_CHECK(s.ended == 1, "ended %d times", s.ended);
    return 0;
}
