// SPDX-License-Identifier: Apache-2.0
// WebSocket: frames alone, then both ends over a real connection.
#include "net/ws_int.h"
#include "net_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// ---- Frames

struct seen {
    char text[4096];
    int messages, controls;
    size_t last_n;
    bool stop;
    struct kl_ws_reader *r;
};

static void on_msg(void *arg, enum kl_ws_op op, struct kl_str data)
{
    struct seen *s = arg;
    s->messages++;
    s->last_n = data.n;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof(s->text) - n, "%c:%.*s;", op == KL_WS_TEXT ? 't' : 'b',
             (int)(data.n < 100 ? data.n : 100), data.p);
    if (s->stop)
        s->r->stopped = true;
}

static void on_ctl(void *arg, int op, struct kl_str data)
{
    struct seen *s = arg;
    s->controls++;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof(s->text) - n, "%d:%.*s;", op, KL_PRI(data));
}

static const struct kl_ws_reader_cbs seen_cbs = {on_msg, on_ctl};

static size_t put(char *p, int b0, bool mask, const char *data, size_t n)
{
    static const unsigned char key[4] = {1, 2, 3, 4};
    size_t h = kl_ws_put_header((unsigned char *)p, b0 & 15, n, mask ? key : NULL);
    p[0] = (char)b0;
    memcpy(p + h, data, n);
    if (mask)
        kl_ws_mask(p + h, n, key, 0);
    return h + n;
}

static int feed(struct seen *s, const char *p, size_t n, size_t step, bool client)
{
    struct kl_ws_reader r;
    int bad = 0;
    kl_ws_reader_init(&r, client, 70000);
    *s = (struct seen){.r = &r};
    for (size_t at = 0; at < n && !bad; at += step) {
        size_t k = n - at < step ? n - at : step;
        assert_true(kl_ws_reader_feed(&r, (struct kl_str){p + at, k}, &seen_cbs, s, &bad) == k ||
                    bad);
    }
    kl_ws_reader_fini(&r);
    return bad;
}

static void test_accept_key(void **state)
{
    char got[32];
    kl_ws_accept_key(KL_STR("dGhlIHNhbXBsZSBub25jZQ=="), got); // RFC 6455 1.3
    assert_string_equal(got, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void test_frames(void **state)
{
    static char in[300000], big[66000];
    struct seen s;
    memset(big, 'z', sizeof(big));
    for (int mask = 0; mask < 2; mask++) {
        size_t n = 0;
        n += put(in + n, 0x81, mask, "hello", 5);
        n += put(in + n, 0x02, mask, "ab", 2); // fragments with a ping between
        n += put(in + n, 0x89, mask, "p", 1);
        n += put(in + n, 0x00, mask, "", 0);
        n += put(in + n, 0x80, mask, "cd", 2);
        n += put(in + n, 0x82, mask, big, 126);
        n += put(in + n, 0x82, mask, big, sizeof(big));
        n += put(in + n, 0x88, mask,
                 "\x03\xe8"
                 "bye",
                 5);
        for (size_t step = 1; step <= n; step = step < 5 ? step + 1 : step * 3) {
            assert_int_equal(feed(&s, in, n, step, !mask), 0);
            assert_int_equal(s.messages, 4);
            assert_int_equal(s.controls, 2);
            assert_int_equal(s.last_n, sizeof(big));
            assert_memory_equal(s.text, "t:hello;9:p;b:abcd;b:zzz", 24);
        }
    }
}

static void test_bad_frames(void **state)
{
    static char big[70001];
    static const struct {
        int b0;
        const char *data;
        size_t n;
        bool mask;
        int want;
    } cases[] = {
        {0x81, "ok", 2, true, 0},
        {0x81, "unmasked", 8, false, 1002},
        {0xc1, "rsv", 3, true, 1002},
        {0x83, "opcode 3", 8, true, 1002},
        {0x8b, "opcode 11", 9, true, 1002},
        {0x09, "fragmented ping", 15, true, 1002},
        {0x80, "continues nothing", 17, true, 1002},
        {0x81, "\xff\xfe", 2, true, 1007},
        {0x82, "\xff\xfe", 2, true, 0},
        {0x82, big, 70000, true, 0},
        {0x82, big, 70001, true, 1009},
        {0x89, big, 126, true, 1002},
    };
    static char in[80000];
    struct seen s;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = put(in, cases[i].b0, cases[i].mask, cases[i].data, cases[i].n);
        int got = feed(&s, in, n, n, false);
        if (got != cases[i].want)
            fail_msg("case %zu: got %d, want %d", i, got, cases[i].want);
    }
    // a length that is not the shortest, and one of 64 bits
    assert_int_equal(feed(&s, "\x82\xfe\0\5mask", 8, 8, false), 1002);
    assert_int_equal(feed(&s, "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 14, false),
                     1002);
    // a message within a message
    size_t n = put(in, 0x01, true, "a", 1);
    n += put(in + n, 0x81, true, "b", 1);
    assert_int_equal(feed(&s, in, n, n, false), 1002);
}

static void test_mask(void **state)
{
    static const unsigned char key[4] = {0xde, 0xad, 0xbe, 0xef};
    for (size_t n = 0; n < 40; n++) {
        for (uint64_t off = 0; off < 5; off++) {
            char a[40] = {0};
            kl_ws_mask(a, n, key, off);
            for (size_t i = 0; i < n; i++)
                assert_int_equal((unsigned char)a[i], key[(i + off) & 3]);
        }
    }
}

// ---- Both ends

struct end {
    struct env *env;
    struct kl_ws *ws;
    struct event got, closed;
    int messages, code, dial_status, http_status;
    size_t bytes;
    char last[256], reason[128], protocol[64], err[256];
    bool echo, pause_first, flood;
};

struct env {
    struct kl_loop *loop;
    struct kl_http_server *server;
    struct kl_http_client *client;
    struct end s, c; // server's and client's
    struct event stopped, accepted;
    size_t max;
};

static void flood(struct end *e)
{
    static char block[32 * 1024];
    while (!kl_ws_full(e->ws))
        if (kl_ws_send(e->ws, KL_WS_BINARY, KL_STR("\1"), (struct kl_str){block, sizeof(block)}))
            break;
}

static void end_message(void *arg, enum kl_ws_op op, struct kl_str data)
{
    struct end *e = arg;
    e->messages++;
    e->bytes += data.n;
    snprintf(e->last, sizeof(e->last), "%.*s", (int)(data.n < 255 ? data.n : 255), data.p);
    if (e->echo)
        assert_int_equal(kl_ws_send(e->ws, op, KL_STR(""), data), 0);
    if (e->pause_first) {
        e->pause_first = false;
        kl_ws_pause(e->ws);
    }
    event_add(&e->got, 1);
}

static void end_drain(void *arg)
{
    struct end *e = arg;
    if (e->flood)
        flood(e);
}

static void end_close(void *arg, int code, struct kl_str reason)
{
    struct end *e = arg;
    e->code = code;
    snprintf(e->reason, sizeof(e->reason), "%.*s", KL_PRI(reason));
    kl_ws_free(e->ws);
    e->ws = NULL;
    event_add(&e->closed, 1);
}

static const struct kl_ws_cbs end_cbs = {end_message, end_drain, end_close};

static void handle(void *arg, struct kl_http_req *r)
{
    static const struct kl_str protocols[] = {KL_STR_INIT("v5.channel.k8s.io"),
                                              KL_STR_INIT("v4.channel.k8s.io")};
    struct env *env = arg;
    struct kl_error err;
    struct kl_ws_opts o = {.max_message_bytes = env->max};
    int p = kl_ws_choose_protocol(r, protocols, 2);
    if (kl_ws_accept(r, p < 0 ? KL_STR("") : protocols[p], NULL, 0, &o, &env->s.ws, &err)) {
        kl_http_respond(r, 400, NULL, 0, kl_str(err.msg));
        return;
    }
    kl_ws_start(env->s.ws, &end_cbs, &env->s);
    event_add(&env->accepted, 1);
}

static void make_client(void *arg)
{
    struct env *env = arg;
    struct kl_http_client_opts o = {.loop = env->loop};
    kl_http_client_new(&o, &env->client, NULL);
}

static void env_start(struct env *env)
{
    struct kl_error err;
    *env = (struct env){.stopped = EVENT_INIT, .accepted = EVENT_INIT, .max = 200000};
    env->s = (struct end){.env = env, .got = EVENT_INIT, .closed = EVENT_INIT, .echo = true};
    env->c = (struct end){.env = env, .got = EVENT_INIT, .closed = EVENT_INIT};
    assert_int_equal(kl_loop_new("ws", &env->loop, &err), 0);
    struct kl_http_server_opts o = {
        .loops = &env->loop, .nloops = 1, .address = "::1", .handler = handle, .arg = env};
    if (kl_http_server_start(&o, &env->server, &err)) {
        o.address = "127.0.0.1"; // no IPv6 here
        assert_int_equal(kl_http_server_start(&o, &env->server, &err), 0);
    }
    assert_int_equal(kl_loop_start(env->loop, &err), 0);
    on_loop(env->loop, make_client, env);
}

static void on_stopped(void *arg)
{
    struct env *env = arg;
    event_add(&env->stopped, 1);
}

static void close_client(void *arg)
{
    struct env *env = arg;
    kl_http_client_close(env->client);
    kl_ws_free(env->c.ws);
    kl_ws_free(env->s.ws);
    env->c.ws = env->s.ws = NULL;
}

static void env_stop(struct env *env)
{
    on_loop(env->loop, close_client, env);
    kl_http_server_stop(env->server, 0, on_stopped, env);
    event_wait(&env->stopped, 1);
    kl_loop_stop(env->loop);
    kl_loop_unref(env->loop);
}

static void on_dialed(void *arg, int status, struct kl_ws *ws, struct kl_str protocol,
                      int http_status, const struct kl_error *err)
{
    struct end *e = arg;
    e->ws = ws;
    e->dial_status = status;
    e->http_status = http_status;
    snprintf(e->protocol, sizeof(e->protocol), "%.*s", KL_PRI(protocol));
    snprintf(e->err, sizeof(e->err), "%.200s", err ? err->msg : "");
    if (ws)
        kl_ws_start(ws, &end_cbs, e);
    event_add(&e->got, 1);
}

static void dial(void *arg)
{
    static const struct kl_str mine[] = {KL_STR_INIT("v9"), KL_STR_INIT("v4.channel.k8s.io"),
                                         KL_STR_INIT("v5.channel.k8s.io")};
    struct env *env = arg;
    struct kl_http_call_spec spec = {
        .host = "localhost", .port = kl_http_server_port(env->server), .target = KL_STR("/exec")};
    struct kl_ws_opts o = {.max_message_bytes = 40 * 1024 * 1024};
    assert_int_equal(kl_ws_dial(env->client, &spec, mine, 3, &o, on_dialed, &env->c, NULL), 0);
}

static void connect_ws(struct env *env)
{
    on_loop(env->loop, dial, env);
    event_wait(&env->c.got, 1);
    if (env->c.dial_status)
        fail_msg("%s", env->c.err);
    event_wait(&env->accepted, 1);
}

static void send_hello(void *arg)
{
    struct env *env = arg;
    assert_int_equal(kl_ws_send(env->c.ws, KL_WS_TEXT, KL_STR("he"), KL_STR("llo")), 0);
    assert_int_equal(kl_ws_ping(env->c.ws, KL_STR("x")), 0);
}

static void close_c(void *arg)
{
    struct env *env = arg;
    kl_ws_close(env->c.ws, 1000, KL_STR("done"));
    assert_int_equal(kl_ws_send(env->c.ws, KL_WS_TEXT, KL_STR(""), KL_STR("late")), KL_ECANCELED);
}

static void test_echo_and_close(void **state)
{
    struct env env;
    env_start(&env);
    connect_ws(&env);
    assert_string_equal(env.c.protocol, "v4.channel.k8s.io"); // the client's order
    on_loop(env.loop, send_hello, &env);
    event_wait(&env.c.got, 2);
    assert_string_equal(env.c.last, "hello");
    on_loop(env.loop, close_c, &env);
    event_wait(&env.s.closed, 1);
    event_wait(&env.c.closed, 1);
    assert_int_equal(env.s.code, 1000);
    assert_string_equal(env.s.reason, "done");
    assert_int_equal(env.c.code, 1000);
    env_stop(&env);
}

static void send_too_big(void *arg)
{
    struct env *env = arg;
    struct kl_bytes *b = kl_bytes_alloc(env->max + 1);
    memset(b->p, 0, b->n);
    assert_int_equal(kl_ws_send_bytes(env->c.ws, KL_WS_BINARY, b), 0);
    kl_bytes_unref(b);
}

static void test_too_big(void **state)
{
    struct env env;
    env_start(&env);
    connect_ws(&env);
    on_loop(env.loop, send_too_big, &env);
    event_wait(&env.s.closed, 1);
    event_wait(&env.c.closed, 1);
    assert_int_equal(env.s.code, 1009);
    assert_int_equal(env.c.code, 1009);
    env_stop(&env);
}

static void start_flood(void *arg)
{
    struct env *env = arg;
    env->s.echo = false;
    env->s.flood = true;
    env->c.pause_first = true;
    flood(&env->s);
}

static void resume_c(void *arg)
{
    struct env *env = arg;
    kl_ws_resume(env->c.ws);
}

static void drop_s(void *arg)
{
    struct env *env = arg;
    env->s.flood = false;
    kl_ws_free(env->s.ws);
    env->s.ws = NULL;
}

static void one_turn(void *arg)
{
}

// The reader stands still: the writer is held back at its bound. Then everything arrives.
static void test_back_pressure(void **state)
{
    struct env env;
    env_start(&env);
    connect_ws(&env);
    on_loop(env.loop, start_flood, &env);
    event_wait(&env.c.got, 2); // one message, then paused
    for (int i = 0; i < 50; i++)
        on_loop(env.loop, one_turn, &env); // turns of the loop
    assert_int_equal(event_get(&env.c.got), 2);
    on_loop(env.loop, resume_c, &env);
    event_wait(&env.c.got, 300); // 10 MB, many times the bound
    on_loop(env.loop, drop_s, &env);
    event_wait(&env.c.closed, 1);
    assert_int_equal(env.c.code, 1006);
    env_stop(&env);
}

static void dial_plain(void *arg)
{
    struct env *env = arg;
    struct kl_http_call_spec spec = {.host = "localhost", .port = 1, .target = KL_STR("/")};
    assert_int_equal(kl_ws_dial(env->client, &spec, NULL, 0, NULL, on_dialed, &env->c, NULL), 0);
}

static void test_refused(void **state)
{
    struct env env;
    env_start(&env);
    on_loop(env.loop, dial_plain, &env);
    event_wait(&env.c.got, 1);
    assert_int_equal(env.c.dial_status, KL_EUNAVAILABLE);
    assert_int_equal(env.c.http_status, 0);
    env_stop(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_key),     cmocka_unit_test(test_frames),
        cmocka_unit_test(test_bad_frames),     cmocka_unit_test(test_mask),
        cmocka_unit_test(test_echo_and_close), cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_back_pressure),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
