// SPDX-License-Identifier: Apache-2.0
// The gRPC server: whole calls through our own HTTP/2 client, and streams frame by frame on a raw
// socket, where the test decides what arrives when.
#include "net/grpc_server.h"
#include "net_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BIG = 3 << 20, TICKS = 3000 };

struct env {
    struct kl_loop *loop;
    struct kl_http_server *http;
    struct kl_http_client *client;
    struct kl_grpc_server *grpc;
    int port;
    struct event stopped, opened, closed, held;
    struct kl_grpc_rpc *holding; // the call of /t.S/Hold, referenced
    char seen[256];              // what Hold was told, in order
    int late_rc;                 // of sending after the close
};

static struct env *env_of(struct kl_grpc_rpc *c)
{
    return kl_grpc_rpc_arg(c);
}

// ---- the methods

static void echo(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, msg.n);
    kl_grpc_out_put(&o, msg.p, msg.n);
    kl_grpc_rpc_reply(c, &o);
}

static void bad(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_grpc_rpc_finish(c, KL_GRPC_NOT_FOUND, "100% caf\xc3\xa9\n");
    kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL); // only the first counts
    assert_int_equal(kl_grpc_rpc_send_str(c, KL_STR("late")), KL_ECANCELED);
}

static void hang(struct kl_grpc_rpc *c, struct kl_str msg)
{
}

// Shared bytes between own ones.
static void mixed(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct kl_bytes *big = kl_bytes_alloc(100000);
    memset(big->p, 'b', 100000);
    struct kl_grpc_out o;
    kl_grpc_out_init(&o, 0);
    for (int i = 0; i < 20; i++) {
        kl_grpc_out_put(&o, "<", 1);
        kl_grpc_out_bytes(&o, big, 1, 99999);
        kl_grpc_out_bytes(&o, big, 0, 3);
        kl_grpc_out_put(&o, ">", 1);
    }
    kl_bytes_unref(big);
    kl_grpc_rpc_reply(c, &o);
}

struct pulling {
    struct env *env;
    size_t at;
    // Every second time there is nothing, until a task of the loop says that there is.
    struct kl_grpc_rpc *waits;
    bool empty;
    struct kl_task task;
};

static int pull_some(void *arg, struct kl_http_chunk *chunks, int max)
{
    struct pulling *p = arg;
    struct kl_grpc_out o;
    kl_grpc_out_init_piece(&o, 30000);
    for (int i = 0; i < 3 && p->at < BIG; i++) {
        size_t n = BIG - p->at < 9999 ? BIG - p->at : 9999;
        char *to = kl_grpc_out_room(&o, n);
        for (size_t k = 0; k < n; k++)
            to[k] = (char)((p->at + k) * 31 >> 4);
        kl_grpc_out_wrote(&o, n);
        p->at += n;
    }
    return kl_grpc_out_take(&o, chunks, max);
}

static void pull_again(struct kl_task *t)
{
    struct pulling *p = KL_CONTAINER_OF(t, struct pulling, task);
    kl_grpc_rpc_pull_on(p->waits);
}

static int pull_when_there(void *arg, struct kl_http_chunk *chunks, int max)
{
    struct pulling *p = arg;
    p->empty = !p->empty;
    if (!p->empty)
        return pull_some(arg, chunks, max);
    p->task.run = pull_again;
    kl_loop_post(kl_grpc_rpc_loop(p->waits), &p->task);
    return 0;
}

static void pull_done(void *arg)
{
    struct pulling *p = arg;
    event_add(&p->env->held, 1);
    free(p);
}

static void pulled_late(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct pulling *p = malloc(sizeof(*p));
    *p = (struct pulling){.env = env_of(c), .waits = c};
    assert_int_equal(kl_grpc_rpc_reply_pull(c, BIG, pull_when_there, pull_done, p), 0);
}

static void pulled(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct pulling *p = malloc(sizeof(*p));
    *p = (struct pulling){.env = env_of(c)};
    assert_int_equal(kl_grpc_rpc_reply_pull(c, BIG, pull_some, pull_done, p), 0);
}

// A source that has more than it said.
static void pulled_too_much(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct pulling *p = malloc(sizeof(*p));
    *p = (struct pulling){.env = env_of(c)};
    kl_grpc_rpc_reply_pull(c, 1000, pull_some, pull_done, p);
}

static void pulled_huge(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct pulling *p = malloc(sizeof(*p));
    *p = (struct pulling){.env = env_of(c)};
    assert_int_equal(kl_grpc_rpc_reply_pull(c, (size_t)INT32_MAX + 1, pull_some, pull_done, p),
                     KL_ETOOLARGE);
}

static void tick(struct kl_grpc_rpc *c)
{
    uintptr_t n = (uintptr_t)kl_grpc_rpc_data(c);
    char text[1000] = {0};
    for (int i = 0; i < 50 && n < TICKS; i++, n++) {
        snprintf(text, sizeof(text), "%d", (int)n);
        assert_int_equal(kl_grpc_rpc_send_str(c, (struct kl_str){text, sizeof(text)}), 0);
    }
    kl_grpc_rpc_set_data(c, (void *)n);
    if (n < TICKS)
        kl_grpc_rpc_want_send(c);
    else
        kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
}

static void ticks(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_grpc_rpc_want_send(c);
}

static void on_open(struct kl_grpc_rpc *c)
{
    event_add(&env_of(c)->opened, 1);
}

static void on_close(struct kl_grpc_rpc *c)
{
    assert_true(kl_grpc_rpc_closed(c));
    event_add(&env_of(c)->closed, 1);
}

static void stream_message(struct kl_grpc_rpc *c, struct kl_str msg)
{
    kl_grpc_rpc_send_str(c, msg);
}

static void stream_end(struct kl_grpc_rpc *c)
{
    kl_grpc_rpc_send_str(c, KL_STR("bye"));
    kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
}

static void hold_message(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct env *env = env_of(c);
    size_t n = strlen(env->seen);
    snprintf(env->seen + n, sizeof(env->seen) - n, "%.*s,", KL_PRI(msg));
    if (!env->holding)
        env->holding = kl_grpc_rpc_ref(c);
    kl_grpc_rpc_hold(c, true);
    event_add(&env->held, 1);
}

static const struct kl_grpc_method methods[] = {
    {.path = "/t.S/Echo", .message = echo, .open = on_open, .close = on_close},
    {.path = "/t.S/Bad", .message = bad},
    {.path = "/t.S/Hang", .message = hang, .open = on_open, .close = on_close},
    {.path = "/t.S/Mixed", .message = mixed},
    {.path = "/t.S/Pulled", .message = pulled},
    {.path = "/t.S/PulledLate", .message = pulled_late},
    {.path = "/t.S/PulledTooMuch", .message = pulled_too_much},
    {.path = "/t.S/PulledHuge", .message = pulled_huge},
    {.path = "/t.S/Ticks", .message = ticks, .ready = tick},
    {.path = "/t.S/Stream",
     .client_stream = true,
     .open = on_open,
     .message = stream_message,
     .half_close = stream_end,
     .close = on_close},
    {.path = "/t.S/Hold",
     .client_stream = true,
     .message = hold_message,
     .half_close = stream_end,
     .close = on_close},
    {.path = NULL},
};
static const struct kl_grpc_method *const tables[] = {methods, NULL};

// ---- the server and a client

static void handle(void *arg, struct kl_http_req *r)
{
    struct env *env = arg;
    if (kl_grpc_is(r))
        kl_grpc_serve(env->grpc, r);
    else
        kl_http_respond(r, 415, NULL, 0, KL_STR(""));
}

static void start_client(void *arg)
{
    struct env *env = arg;
    struct kl_http_client_opts o = {.loop = env->loop};
    assert_int_equal(kl_http_client_new(&o, &env->client, NULL), 0);
}

static void stop_client(void *arg)
{
    struct env *env = arg;
    kl_http_client_close(env->client);
}

static void on_stopped(void *arg)
{
    struct env *env = arg;
    event_add(&env->stopped, 1);
}

static void env_start(struct env *env)
{
    *env = (struct env){
        .stopped = EVENT_INIT, .opened = EVENT_INIT, .closed = EVENT_INIT, .held = EVENT_INIT};
    assert_int_equal(kl_loop_new("grpc", &env->loop, NULL), 0);
    assert_int_equal(kl_loop_start(env->loop, NULL), 0);
    struct kl_grpc_server_opts g = {.methods = tables, .arg = env, .max_message_bytes = 2 << 20};
    assert_int_equal(kl_grpc_server_new(&g, &env->grpc, NULL), 0);
    struct kl_http_server_opts o = {
        .loops = &env->loop, .nloops = 1, .address = "127.0.0.1", .handler = handle, .arg = env};
    assert_int_equal(kl_http_server_start(&o, &env->http, NULL), 0);
    env->port = kl_http_server_port(env->http);
    on_loop(env->loop, start_client, env);
}

static void env_stop(struct env *env)
{
    on_loop(env->loop, stop_client, env);
    kl_http_server_stop(env->http, 0, on_stopped, env);
    event_wait(&env->stopped, 1);
    kl_loop_stop(env->loop);
    kl_loop_unref(env->loop);
    kl_grpc_server_free(env->grpc);
}

struct ask {
    struct env *env;
    const char *path, *header, *value, *method;
    struct kl_bytes *body;
    struct kl_http_call *call;
    struct event done;
    int http_status, end_status;
    char status[16], message[512];
    struct kl_buf got;
    size_t pause_at;
};

static void ask_headers(void *arg, struct kl_http_call *call, int status,
                        const struct kl_http_header *h, size_t nh)
{
    struct ask *a = arg;
    a->http_status = status;
    for (size_t i = 0; i < nh; i++) {
        if (kl_str_eqz(h[i].name, "grpc-status"))
            snprintf(a->status, sizeof(a->status), "%.*s", KL_PRI(h[i].value));
        if (kl_str_eqz(h[i].name, "grpc-message"))
            snprintf(a->message, sizeof(a->message), "%.*s", KL_PRI(h[i].value));
    }
}

static void ask_data(void *arg, struct kl_http_call *call, struct kl_str data)
{
    struct ask *a = arg;
    kl_buf_puts(&a->got, data);
}

static void ask_end(void *arg, struct kl_http_call *call, int status, const struct kl_error *err)
{
    struct ask *a = arg;
    struct kl_str s = kl_http_call_trailer(call, KL_STR("grpc-status"));
    struct kl_str m = kl_http_call_trailer(call, KL_STR("grpc-message"));
    if (s.p)
        snprintf(a->status, sizeof(a->status), "%.*s", KL_PRI(s));
    if (m.p)
        snprintf(a->message, sizeof(a->message), "%.*s", KL_PRI(m));
    a->end_status = status;
    a->call = NULL;
    event_add(&a->done, 1);
}

static const struct kl_http_call_cbs ask_cbs = {
    .on_headers = ask_headers, .on_data = ask_data, .on_end = ask_end};

static void start_ask(void *arg)
{
    struct ask *a = arg;
    struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/grpc+proto"),
                                 {kl_str(a->header), kl_str(a->value)}};
    struct kl_http_call_spec spec = {
        .host = "127.0.0.1",
        .port = a->env->port,
        .proto = KL_HTTP_2,
        .method = kl_str(a->method ? a->method : "POST"),
        .target = kl_str(a->path),
        .headers = h,
        .nheaders = a->header ? 2 : 1,
        .body = a->body,
    };
    struct kl_error err;
    if (kl_http_call_start(a->env->client, &spec, &ask_cbs, a, &a->call, &err))
        fail_msg("%s", err.msg);
}

static void put_frame(struct kl_buf *b, int flag, size_t n, const char *p)
{
    unsigned char head[] = {(unsigned char)flag, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                            (unsigned char)(n >> 8), (unsigned char)n};
    kl_buf_append(b, head, 5);
    if (p)
        kl_buf_append(b, p, n);
}

static struct kl_bytes *frames(const char *const *messages)
{
    struct kl_buf b;
    kl_buf_init(&b, 8 << 20);
    for (; *messages; messages++)
        put_frame(&b, 0, strlen(*messages), *messages);
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out;
}

static void ask(struct env *env, struct ask *a)
{
    a->env = env;
    a->done = (struct event)EVENT_INIT;
    kl_buf_init(&a->got, 16 << 20);
    on_loop(env->loop, start_ask, a);
    event_wait(&a->done, 1);
    kl_bytes_unref(a->body);
}

static struct kl_bytes *one(const char *message)
{
    return frames((const char *const[]){message, NULL});
}

// ---- tests

static void test_calls(void **state)
{
    static const struct {
        const char *path, *header, *value, *status, *message;
    } cases[] = {
        {"/t.S/Echo", NULL, NULL, "0", ""},
        {"/t.S/Echo", "grpc-encoding", "identity", "0", ""},
        {"/t.S/Echo", "grpc-timeout", "10S", "0", ""},
        {"/t.S/Bad", NULL, NULL, "5", "100%25 caf%C3%A9%0A"},
        {"/t.S/Nothing", NULL, NULL, "12", "unknown method Nothing for service t.S"},
        {"/t.X/Echo", NULL, NULL, "12", "unknown service t.X"},
        {"/t.SX/Echo", NULL, NULL, "12", "unknown service t.SX"},
        {"/Echo", NULL, NULL, "12", "malformed method name: \"/Echo\""},
        {"/t.S/Echo", "grpc-encoding", "gzip", "12",
         "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
        {"/t.S/Echo", "grpc-timeout", "1x", "13", "malformed grpc-timeout"},
        {"/t.S/Hang", "grpc-timeout", "20m", "4", "context deadline exceeded"},
        {"/t.S/Hang", "grpc-timeout", "20000000n", "4", "context deadline exceeded"},
    };
    struct env env;
    env_start(&env);
    for (size_t i = 0; i < KL_COUNT(cases); i++) {
        struct ask a = {.path = cases[i].path,
                        .header = cases[i].header,
                        .value = cases[i].value,
                        .body = one("payload")};
        ask(&env, &a);
        if (a.http_status != 200 || strcmp(a.status, cases[i].status) ||
            strcmp(a.message, cases[i].message))
            fail_msg("case %zu %s: HTTP %d, status %s, message %s", i, cases[i].path, a.http_status,
                     a.status, a.message);
        struct kl_str got = kl_buf_str(&a.got);
        if (!strcmp(cases[i].status, "0")) {
            assert_int_equal(got.n, 12);
            assert_memory_equal(got.p, "\0\0\0\0\7payload", 12);
        } else {
            assert_int_equal(got.n, 0);
        }
        kl_buf_fini(&a.got);
    }
    event_wait(&env.closed, event_get(&env.opened));
    assert_int_equal(event_get(&env.opened), event_get(&env.closed));
    env_stop(&env);
}

static struct kl_bytes *odd_body(int which)
{
    static char big[(2 << 20) + 1];
    struct kl_buf b;
    kl_buf_init(&b, 8 << 20);
    switch (which) {
    case 0: // nothing at all
        break;
    case 1: // half a message
        put_frame(&b, 0, 10, NULL);
        kl_buf_append(&b, "abc", 3);
        break;
    case 2:
        put_frame(&b, 1, 3, "abc");
        break;
    case 3:
        put_frame(&b, 0, sizeof(big), big);
        break;
    case 4: // as big as allowed
        put_frame(&b, 0, sizeof(big) - 1, big);
        break;
    default:
        put_frame(&b, 0, 3, "abc");
        put_frame(&b, 0, 3, "def");
    }
    struct kl_bytes *out = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    return out ? out : kl_bytes_alloc(0);
}

static void test_odd_messages(void **state)
{
    static const struct {
        const char *status, *message;
    } want[] = {
        {"13", "unexpected EOF"},
        {"13", "unexpected EOF"},
        {"13", "grpc: compressed flag set with identity or empty encoding"},
        {"8", "grpc: received message larger than max (2097153 vs. 2097152)"},
        {"0", ""},
    };
    struct env env;
    env_start(&env);
    for (int i = 0; i < (int)KL_COUNT(want); i++) {
        struct ask a = {.path = "/t.S/Echo", .body = odd_body(i)};
        ask(&env, &a);
        if (strcmp(a.status, want[i].status) || strcmp(a.message, want[i].message))
            fail_msg("case %d: status %s, message %s", i, a.status, a.message);
        kl_buf_fini(&a.got);
    }
    struct ask two = {.path = "/t.S/Hang", .body = odd_body(5)};
    ask(&env, &two);
    assert_string_equal(two.status, "13");
    assert_non_null(strstr(two.message, "multiple request messages"));
    kl_buf_fini(&two.got);
    struct ask get = {.path = "/t.S/Echo", .method = "GET"};
    ask(&env, &get);
    assert_int_equal(get.http_status, 405);
    kl_buf_fini(&get.got);
    env_stop(&env);
}

static void test_many_messages_at_once(void **state)
{
    struct env env;
    env_start(&env);
    struct ask a = {.path = "/t.S/Stream",
                    .body = frames((const char *const[]){"a", "", "ccc", NULL})};
    ask(&env, &a);
    assert_string_equal(a.status, "0");
    assert_int_equal(a.got.n, 4 * 5 + 1 + 0 + 3 + 3);
    assert_memory_equal(a.got.p, "\0\0\0\0\1a\0\0\0\0\0\0\0\0\0\3ccc\0\0\0\0\3bye", 27);
    kl_buf_fini(&a.got);
    event_wait(&env.closed, 1);
    env_stop(&env);
}

static void check_pulled(struct env *env, const char *path)
{
    struct ask a = {.path = path, .body = one("")};
    ask(env, &a);
    assert_string_equal(a.status, "0");
    assert_int_equal(a.got.n, BIG + 5);
    assert_memory_equal(a.got.p, "\0\0\x30\0\0", 5);
    for (size_t i = 0; i < BIG; i++)
        if (a.got.p[5 + i] != (char)(i * 31 >> 4))
            fail_msg("byte %zu is %d", i, a.got.p[5 + i]);
    kl_buf_fini(&a.got);
}

// What the server counted of the calls so far.
static void check_counts(struct env *env)
{
    struct kl_buf b;
    kl_buf_init(&b, 1 << 20);
    kl_grpc_server_write_metrics(env->grpc, &b);
    kl_buf_putc(&b, 0);
    static const char *const series[] = {
        "grpc_server_started_total{grpc_method=\"Pulled\",grpc_service=\"t.S\",grpc_type=\"unary\"}"
        " 1\n",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Pulled\",grpc_service=\"t.S\","
        "grpc_type=\"unary\"} 1\n",
        "grpc_server_handled_total{grpc_code=\"ResourceExhausted\",grpc_method=\"PulledHuge\","
        "grpc_service=\"t.S\",grpc_type=\"unary\"} 1\n",
        "grpc_server_msg_received_total{grpc_method=\"Mixed\",grpc_service=\"t.S\","
        "grpc_type=\"unary\"} 1\n",
        "grpc_type=\"server_stream\"",
        "grpc_type=\"bidi_stream\""};
    for (size_t i = 0; i < KL_COUNT(series); i++)
        if (!strstr(b.p, series[i]))
            fail_msg("%s is not in %s", series[i], b.p);
    kl_buf_fini(&b);
}

static void test_big_answers(void **state)
{
    struct env env;
    env_start(&env);
    check_pulled(&env, "/t.S/Pulled");
    event_wait(&env.held, 1);
    check_pulled(&env, "/t.S/PulledLate");
    event_wait(&env.held, 2);
    struct ask m = {.path = "/t.S/Mixed", .body = one("")};
    ask(&env, &m);
    assert_string_equal(m.status, "0");
    assert_int_equal(m.got.n, 5 + 20 * (2 + 99999 + 3));
    assert_int_equal(m.got.p[5], '<');
    assert_int_equal(m.got.p[m.got.n - 1], '>');
    kl_buf_fini(&m.got);
    struct ask bad_one = {.path = "/t.S/PulledTooMuch", .body = one("")};
    ask(&env, &bad_one); // cut off, never a wrong answer
    assert_int_not_equal(bad_one.end_status, 0);
    kl_buf_fini(&bad_one.got);
    event_wait(&env.held, 3);
    struct ask huge = {.path = "/t.S/PulledHuge", .body = one("")};
    ask(&env, &huge);
    assert_string_equal(huge.status, "8");
    assert_string_equal(huge.message,
                        "grpc: trying to send message larger than max (2147483648 vs. 2147483647)");
    kl_buf_fini(&huge.got);
    event_wait(&env.held, 4);
    check_counts(&env);
    struct ask t = {.path = "/t.S/Ticks", .body = one("")};
    ask(&env, &t);
    assert_string_equal(t.status, "0");
    assert_int_equal(t.got.n, TICKS * 1005);
    for (int i = 0; i < TICKS; i++)
        assert_int_equal(atoi(t.got.p + (size_t)i * 1005 + 5), i);
    kl_buf_fini(&t.got);
    env_stop(&env);
}

// ---- frame by frame

static void put_literal(struct kl_buf *b, const char *name, const char *value)
{
    kl_buf_putc(b, 0); // without indexing, not Huffman-coded
    kl_buf_putc(b, (char)strlen(name));
    kl_buf_append(b, name, strlen(name));
    kl_buf_putc(b, (char)strlen(value));
    kl_buf_append(b, value, strlen(value));
}

static void send_frame(int fd, int type, int flags, uint32_t id, const void *p, size_t n)
{
    unsigned char head[9] = {(unsigned char)(n >> 16),
                             (unsigned char)(n >> 8),
                             (unsigned char)n,
                             (unsigned char)type,
                             (unsigned char)flags,
                             0,
                             0,
                             (unsigned char)(id >> 8),
                             (unsigned char)id};
    raw_send(fd, head, 9);
    if (n)
        raw_send(fd, p, n);
}

static int h2_open(struct env *env, const char *path)
{
    struct kl_buf b;
    int fd = raw_connect(env->port);
    raw_puts(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    send_frame(fd, 4, 0, 0, NULL, 0);
    kl_buf_init(&b, 4096);
    put_literal(&b, ":method", "POST");
    put_literal(&b, ":scheme", "http");
    put_literal(&b, ":authority", "x");
    put_literal(&b, ":path", path);
    put_literal(&b, "content-type", "application/grpc");
    send_frame(fd, 1, 4, 1, b.p, b.n);
    kl_buf_fini(&b);
    return fd;
}

static void read_exactly(int fd, unsigned char *p, size_t n)
{
    while (n) {
        ssize_t got = read(fd, p, n);
        if (got <= 0)
            fail_msg("the connection ended");
        p += got;
        n -= (size_t)got;
    }
}

// The next DATA frame's payload, NUL-terminated; 0 for the HEADERS frame that ends the stream.
static size_t next_data(int fd, char *buf, size_t cap)
{
    unsigned char head[9], skip[20000];
    for (;;) {
        read_exactly(fd, head, 9);
        size_t n = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        assert_true(n < sizeof(skip) && n < cap);
        read_exactly(fd, skip, n);
        if (head[3] == 1 && head[4] & 1)
            return 0;
        if (head[3] != 0 || !n)
            continue;
        memcpy(buf, skip, n);
        buf[n] = 0;
        return n;
    }
}

static void test_both_directions(void **state)
{
    char buf[20000];
    struct env env;
    env_start(&env);
    int fd = h2_open(&env, "/t.S/Stream");
    event_wait(&env.opened, 1);
    for (int i = 0; i < 3; i++) { // each answered before the next is sent; prefix and message apart
        send_frame(fd, 0, 0, 1, "\0\0", 2);
        send_frame(fd, 0, 0, 1, "\0\0\2h", 4);
        send_frame(fd, 0, 0, 1, "i", 1);
        assert_int_equal(next_data(fd, buf, sizeof(buf)), 7);
        assert_memory_equal(buf, "\0\0\0\0\2hi", 7);
    }
    assert_int_equal(event_get(&env.closed), 0);
    send_frame(fd, 0, 1, 1, NULL, 0);
    assert_int_equal(next_data(fd, buf, sizeof(buf)), 8);
    assert_memory_equal(buf + 5, "bye", 3);
    assert_int_equal(next_data(fd, buf, sizeof(buf)), 0);
    event_wait(&env.closed, 1);
    close(fd);
    env_stop(&env);
}

static void release(void *arg)
{
    struct env *env = arg;
    kl_grpc_rpc_hold(env->holding, false);
}

static void answer_late(void *arg)
{
    struct env *env = arg;
    struct kl_grpc_rpc *c = env->holding;
    assert_true(kl_grpc_rpc_closed(c));
    env->late_rc = kl_grpc_rpc_send_str(c, KL_STR("nobody"));
    kl_grpc_rpc_want_send(c);
    kl_grpc_rpc_hold(c, false);
    kl_grpc_rpc_finish(c, KL_GRPC_OK, NULL);
    kl_grpc_rpc_unref(c);
}

static void test_hold_and_cancel(void **state)
{
    struct env env;
    env_start(&env);
    int fd = h2_open(&env, "/t.S/Hold");
    send_frame(fd, 0, 0, 1, "\0\0\0\0\1a\0\0\0\0\1b\0\0\0\0\1c\0\0", 20);
    event_wait(&env.held, 1);
    assert_string_equal(env.seen, "a,");
    on_loop(env.loop, release, &env);
    event_wait(&env.held, 2);
    assert_string_equal(env.seen, "a,b,");
    on_loop(env.loop, release, &env);
    event_wait(&env.held, 3);
    on_loop(env.loop, release, &env); // half a prefix is left
    send_frame(fd, 0, 0, 1, "\0\0\1d", 4);
    event_wait(&env.held, 4);
    assert_string_equal(env.seen, "a,b,c,d,");
    send_frame(fd, 3, 0, 1, "\0\0\0\10", 4); // RST_STREAM(CANCEL)
    event_wait(&env.closed, 1);
    on_loop(env.loop, answer_late, &env);
    assert_int_equal(env.late_rc, KL_ECANCELED);
    close(fd);
    env_stop(&env);
    assert_int_equal(event_get(&env.closed), 1);
}

static void test_server_stops(void **state)
{
    struct env env;
    env_start(&env);
    int fd = h2_open(&env, "/t.S/Stream");
    event_wait(&env.opened, 1);
    env_stop(&env); // closes what is open
    assert_int_equal(event_get(&env.closed), 1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_odd_messages),
        cmocka_unit_test(test_many_messages_at_once),
        cmocka_unit_test(test_big_answers),
        cmocka_unit_test(test_both_directions),
        cmocka_unit_test(test_hold_and_cancel),
        cmocka_unit_test(test_server_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
