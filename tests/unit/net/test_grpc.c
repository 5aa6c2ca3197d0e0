// SPDX-License-Identifier: Apache-2.0
// The gRPC client against a server made of our own HTTP/2, over a Unix socket.
#include "net/grpc.h"
#include "net/grpc_server.h"
#include "net_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct env {
    struct kl_loop *loop;
    struct kl_http_server *server;
    struct kl_grpc_server *rpcs;
    struct kl_grpc *g;
    char dir[32], path[64];
    struct event stopped, seen;
    char timeout_header[32];
};

struct result {
    struct env *env;
    struct event done, messages;
    struct kl_grpc_call *call;
    enum kl_grpc_code code;
    int err_code;
    char reply[256], err[512], list[256];
    size_t reply_n;
    bool pause_first;
    const char *method, *request;
    size_t request_n;
    uint32_t timeout_ms;
    bool stream;
    int rc;
};

// ---- The server: the method decides

struct answer {
    struct kl_bytes *body;
    int copies;
};

static int pull(void *arg, struct kl_http_chunk *c, int max, bool *ret_end)
{
    struct answer *a = arg;
    int n = 0;
    while (n < max && a->copies > 0) {
        c[n++] = (struct kl_http_chunk){kl_bytes_ref(a->body), 0, a->body->n};
        a->copies--;
    }
    *ret_end = true;
    return n;
}

static void done_pulling(void *arg)
{
    struct answer *a = arg;
    kl_bytes_unref(a->body);
    free(a);
}

static const struct kl_http_source source = {pull, done_pulling};

static struct kl_bytes *frame(struct kl_str s, char flag, uint32_t n)
{
    struct kl_bytes *b = kl_bytes_alloc(5 + s.n);
    b->p[0] = flag;
    b->p[1] = (char)(n >> 24);
    b->p[2] = (char)(n >> 16);
    b->p[3] = (char)(n >> 8);
    b->p[4] = (char)n;
    memcpy(b->p + 5, s.p, s.n);
    return b;
}

static void answer(struct kl_http_req *r, struct kl_bytes *body, int copies, const char *status,
                   const char *message)
{
    static const struct kl_http_header h[] = {KL_HTTP_HEADER("content-type", "application/grpc")};
    struct kl_http_header t[] = {{KL_STR("grpc-status"), kl_str(status)},
                                 {KL_STR("grpc-message"), kl_str(message)}};
    struct answer *a = malloc(sizeof(*a));
    *a = (struct answer){body, copies};
    kl_http_respond_stream(r, 200, h, 1, &source, a);
    if (status)
        assert_int_equal(kl_http_set_trailers(r, t, 2), 0);
}

static void on_body(void *arg, struct kl_http_req *r, int status, struct kl_str body)
{
    struct env *env = arg;
    struct kl_str m = kl_http_path(r);
    if (status)
        return;
    snprintf(env->timeout_header, sizeof(env->timeout_header), "%.*s",
             KL_PRI(kl_http_header(r, KL_STR("grpc-timeout"))));
    assert_true(kl_str_eqz(kl_http_header(r, KL_STR("te")), "trailers"));
    struct kl_str msg = kl_str_from(body, 5);
    if (kl_str_eqz(m, "/t/Echo")) {
        answer(r, frame(msg, 0, (uint32_t)msg.n), 1, "0", "");
    } else if (kl_str_eqz(m, "/t/Many")) {
        answer(r, frame(msg, 0, (uint32_t)msg.n), 5, "0", "");
    } else if (kl_str_eqz(m, "/t/NotFound")) {
        answer(r, NULL, 0, "5", "container %22x%22: caf%C3%A9 not found%");
    } else if (kl_str_eqz(m, "/t/TrailersOnly")) {
        struct kl_http_header h[] = {KL_HTTP_HEADER("grpc-status", "12"),
                                     KL_HTTP_HEADER("grpc-message", "unknown method X")};
        kl_http_respond(r, 200, h, 2, KL_STR(""));
    } else if (kl_str_eqz(m, "/t/NoReply")) {
        answer(r, NULL, 0, "0", "");
    } else if (kl_str_eqz(m, "/t/NoStatus")) {
        answer(r, frame(msg, 0, (uint32_t)msg.n), 1, NULL, NULL);
    } else if (kl_str_eqz(m, "/t/Compressed")) {
        answer(r, frame(msg, 1, (uint32_t)msg.n), 1, "0", "");
    } else if (kl_str_eqz(m, "/t/Huge")) {
        answer(r, frame(msg, 0, 0x7fffffff), 1, "0", "");
    } else if (kl_str_eqz(m, "/t/Http")) {
        kl_http_respond(r, 503, NULL, 0, KL_STR("busy"));
    } else if (kl_str_eqz(m, "/t/Abort")) {
        kl_http_abort(r);
    } else {
        event_add(&env->seen, 1); // hangs
    }
}

// Of the bidirectional test: every message comes back; "stop" ends with a status of the server's.
static void echo_message(struct kl_grpc_rpc *c, struct kl_str msg)
{
    if (kl_str_eqz(msg, "stop"))
        kl_grpc_rpc_finish(c, KL_GRPC_ABORTED, "as asked");
    else
        kl_grpc_rpc_send_str(c, msg);
}

static void echo_half_close(struct kl_grpc_rpc *c)
{
    kl_grpc_rpc_send_str(c, KL_STR("bye"));
    kl_grpc_rpc_finish(c, KL_GRPC_OK, "");
}

static const struct kl_grpc_method echo_methods[] = {
    {.path = "/b/Echo",
     .client_stream = true,
     .message = echo_message,
     .half_close = echo_half_close},
    {0},
};
static const struct kl_grpc_method *const method_tables[] = {echo_methods, NULL};

static void handle(void *arg, struct kl_http_req *r)
{
    struct env *env = arg;
    if (kl_str_starts(kl_http_path(r), KL_STR("/b/"))) {
        kl_grpc_serve(env->rpcs, r);
        return;
    }
    kl_http_read_body(r, 1 << 20, on_body, arg);
}

static void start_server(struct env *env)
{
    struct kl_error err;
    struct kl_http_server_opts o = {
        .loops = &env->loop, .nloops = 1, .unix_path = env->path, .handler = handle, .arg = env};
    if (kl_http_server_start(&o, &env->server, &err))
        fail_msg("%s", err.msg);
}

static void make_channel(void *arg)
{
    struct env *env = arg;
    char target[80];
    snprintf(target, sizeof(target), "unix://%s", env->path);
    struct kl_grpc_opts o = {.loop = env->loop, .target = target, .max_message_bytes = 100000};
    assert_int_equal(kl_grpc_new(&o, &env->g, NULL), 0);
}

static void env_start(struct env *env)
{
    *env = (struct env){.stopped = EVENT_INIT, .seen = EVENT_INIT};
    strcpy(env->dir, "/tmp/kl-grpc-XXXXXX");
    assert_non_null(mkdtemp(env->dir));
    snprintf(env->path, sizeof(env->path), "%s/s", env->dir);
    assert_int_equal(kl_loop_new("grpc", &env->loop, NULL), 0);
    assert_int_equal(kl_loop_start(env->loop, NULL), 0);
    on_loop(env->loop, make_channel, env);
}

static void on_stopped(void *arg)
{
    struct env *env = arg;
    event_add(&env->stopped, 1);
}

static void close_channel(void *arg)
{
    struct env *env = arg;
    kl_grpc_close(env->g);
}

static void env_stop(struct env *env)
{
    on_loop(env->loop, close_channel, env);
    if (env->server) {
        kl_http_server_stop(env->server, 0, on_stopped, env);
        event_wait(&env->stopped, 1);
    }
    kl_loop_stop(env->loop);
    kl_loop_unref(env->loop);
    rmdir(env->dir);
}

static void on_done(void *arg, enum kl_grpc_code code, struct kl_str reply,
                    const struct kl_error *err)
{
    struct result *r = arg;
    r->code = code;
    r->reply_n = reply.n;
    snprintf(r->reply, sizeof(r->reply), "%.*s", (int)(reply.n < 200 ? reply.n : 200), reply.p);
    snprintf(r->err, sizeof(r->err), "%.500s", err ? err->msg : "");
    r->err_code = err ? err->code : 0;
    r->call = NULL;
    event_add(&r->done, 1);
}

static void on_message(void *arg, struct kl_grpc_call *call, struct kl_str m)
{
    struct result *r = arg;
    size_t n = strlen(r->list);
    snprintf(r->list + n, sizeof(r->list) - n, "%.*s,", KL_PRI(m));
    if (r->pause_first) {
        r->pause_first = false;
        kl_grpc_pause(call);
    }
    event_add(&r->messages, 1);
}

static void run_call(void *arg)
{
    struct result *r = arg;
    struct kl_bytes *b =
        r->request ? kl_bytes_new((struct kl_str){r->request, r->request_n}) : NULL;
    r->rc = r->stream
                ? kl_grpc_stream(r->env->g, r->method, b, r->timeout_ms, on_message, on_done, r,
                                 &r->call, NULL)
                : kl_grpc_unary(r->env->g, r->method, b, r->timeout_ms, on_done, r, &r->call, NULL);
    kl_bytes_unref(b);
}

static struct result call(struct env *env, const char *method, const char *request)
{
    struct result r = {.env = env,
                       .done = EVENT_INIT,
                       .messages = EVENT_INIT,
                       .method = method,
                       .request = request,
                       .request_n = request ? strlen(request) : 0};
    on_loop(env->loop, run_call, &r);
    assert_int_equal(r.rc, 0);
    event_wait(&r.done, 1);
    return r;
}

static void test_unary(void **state)
{
    static const struct {
        const char *method;
        enum kl_grpc_code code;
        int err;
        const char *text;
    } cases[] = {
        {"/t/Echo", KL_GRPC_OK, 0, ""},
        {"/t/NotFound", KL_GRPC_NOT_FOUND, KL_ENOTFOUND,
         "rpc error: code = NotFound desc = container \"x\": caf\xc3\xa9 not found%"},
        {"/t/TrailersOnly", KL_GRPC_UNIMPLEMENTED, KL_EUNSUPPORTED,
         "rpc error: code = Unimplemented desc = unknown method X"},
        {"/t/NoReply", KL_GRPC_INTERNAL, KL_EINTERNAL, "received no response message"},
        {"/t/NoStatus", KL_GRPC_INTERNAL, KL_EINTERNAL, "without sending trailers"},
        {"/t/Compressed", KL_GRPC_INTERNAL, KL_EINTERNAL, "compressed flag"},
        {"/t/Huge", KL_GRPC_RESOURCE_EXHAUSTED, KL_ELIMIT,
         "received message larger than max (2147483647 vs. 100000)"},
        {"/t/Many", KL_GRPC_INTERNAL, KL_EINTERNAL, "cardinality violation"},
        {"/t/Http", KL_GRPC_UNAVAILABLE, KL_EUNAVAILABLE, "503 (Service Unavailable)"},
        {"/t/Abort", KL_GRPC_UNAVAILABLE, KL_EUNAVAILABLE, "stream error"},
        {"/t/Echo", KL_GRPC_OK, 0, ""},
    };
    struct env env;
    env_start(&env);
    start_server(&env);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct result r = call(&env, cases[i].method, "payload");
        if (r.code != cases[i].code || r.err_code != cases[i].err || !strstr(r.err, cases[i].text))
            fail_msg("%s: code %d, err %d %s", cases[i].method, r.code, r.err_code, r.err);
        assert_string_equal(r.reply, r.code ? "" : "payload");
    }
    struct result empty = call(&env, "/t/Echo", NULL);
    assert_int_equal(empty.code, KL_GRPC_OK);
    assert_int_equal(empty.reply_n, 0);
    env_stop(&env);
}

static void resume(void *arg)
{
    struct result *r = arg;
    kl_grpc_resume(r->call);
}

static void test_stream(void **state)
{
    struct env env;
    env_start(&env);
    start_server(&env);
    struct result r = {.env = &env,
                       .done = EVENT_INIT,
                       .messages = EVENT_INIT,
                       .stream = true,
                       .method = "/t/Many",
                       .request = "ev",
                       .request_n = 2,
                       .pause_first = true};
    on_loop(env.loop, run_call, &r);
    event_wait(&r.messages, 1);
    assert_string_equal(r.list, "ev,");
    assert_int_equal(event_get(&r.done), 0);
    on_loop(env.loop, resume, &r);
    event_wait(&r.done, 1);
    assert_int_equal(r.code, KL_GRPC_OK);
    assert_string_equal(r.list, "ev,ev,ev,ev,ev,");
    env_stop(&env);
}

static void cancel(void *arg)
{
    struct result *r = arg;
    kl_grpc_cancel(r->call);
    assert_int_equal(event_get(&r->done), 1); // before it returned
}

static void test_deadline_and_cancel(void **state)
{
    struct env env;
    env_start(&env);
    start_server(&env);
    struct result first = {
        .env = &env, .done = EVENT_INIT, .messages = EVENT_INIT, .method = "/t/Echo"};
    on_loop(env.loop, run_call, &first); // so that there is a connection
    event_wait(&first.done, 1);
    struct result r = {.env = &env,
                       .done = EVENT_INIT,
                       .messages = EVENT_INIT,
                       .method = "/t/Hang",
                       .timeout_ms = 600};
    on_loop(env.loop, run_call, &r);
    event_wait(&r.done, 1);
    assert_int_equal(r.code, KL_GRPC_DEADLINE_EXCEEDED);
    assert_string_equal(r.err,
                        "rpc error: code = DeadlineExceeded desc = context deadline exceeded");
    assert_string_equal(env.timeout_header, "600m");
    struct result c = {.env = &env,
                       .done = EVENT_INIT,
                       .messages = EVENT_INIT,
                       .stream = true,
                       .method = "/t/Hang"};
    on_loop(env.loop, run_call, &c);
    event_wait(&env.seen, 2);
    on_loop(env.loop, cancel, &c);
    assert_int_equal(c.code, KL_GRPC_CANCELED);
    // closing the channel ends what is open
    struct result o = {
        .env = &env, .done = EVENT_INIT, .messages = EVENT_INIT, .method = "/t/Hang"};
    on_loop(env.loop, run_call, &o);
    env_stop(&env);
    assert_int_equal(event_get(&o.done), 1);
    assert_int_equal(o.code, KL_GRPC_CANCELED);
}

static void reset_backoff(void *arg)
{
    struct env *env = arg;
    kl_grpc_reset_backoff(env->g);
}

static void test_back_off(void **state)
{
    struct env env;
    env_start(&env);
    struct result r = call(&env, "/t/Echo", "x");
    assert_int_equal(r.code, KL_GRPC_UNAVAILABLE);
    assert_non_null(strstr(r.err, "dial unix "));
    assert_non_null(strstr(r.err, "No such file"));
    start_server(&env);
    r = call(&env, "/t/Echo", "x"); // still backing off: fails at once
    assert_int_equal(r.code, KL_GRPC_UNAVAILABLE);
    on_loop(env.loop, reset_backoff, &env);
    r = call(&env, "/t/Echo", "x");
    assert_int_equal(r.code, KL_GRPC_OK);
    // the server goes and comes back
    kl_http_server_stop(env.server, 0, on_stopped, &env);
    event_wait(&env.stopped, 1);
    r = call(&env, "/t/Echo", "x");
    assert_int_equal(r.code, KL_GRPC_UNAVAILABLE);
    start_server(&env);
    on_loop(env.loop, reset_backoff, &env);
    r = call(&env, "/t/Echo", "x");
    assert_int_equal(r.code, KL_GRPC_OK);
    env.stopped.n = 0;
    env_stop(&env);
}

// ---- Both ways

static void say(struct result *r, const char *text)
{
    struct kl_bytes *b = kl_bytes_new(kl_str(text));
    assert_int_equal(kl_grpc_send(r->call, b), 0);
    kl_bytes_unref(b);
}

// Before there is a connection.
static void start_bidi(void *arg)
{
    struct result *r = arg;
    assert_int_equal(kl_grpc_bidi(r->env->g, r->method, on_message, on_done, r, &r->call, NULL), 0);
    say(r, "one");
    say(r, "two");
}

static void say_three(void *arg)
{
    say(arg, "three");
}

static void hang_up(void *arg)
{
    struct result *r = arg;
    assert_int_equal(kl_grpc_close_send(r->call), 0);
    assert_int_equal(kl_grpc_send(r->call, NULL), KL_EINVALID);
}

static void say_stop(void *arg)
{
    say(arg, "stop");
}

// Before anybody can answer, that there is no such method.
static void too_much(void *arg)
{
    struct result *r = arg;
    start_bidi(arg);
    struct kl_bytes *b = kl_bytes_alloc(1 << 20);
    memset(b->p, 'x', b->n);
    int rc = 0, n = 0;
    while (!(rc = kl_grpc_send(r->call, b)))
        n++;
    assert_int_equal(rc, KL_ETOOMANY);
    assert_int_equal(n, 7); // and the first two, and the frames
    kl_bytes_unref(b);
    kl_grpc_cancel(r->call);
}

static void test_bidi(void **state)
{
    struct env env;
    env_start(&env);
    struct kl_grpc_server_opts o = {.methods = method_tables};
    assert_int_equal(kl_grpc_server_new(&o, &env.rpcs, NULL), 0);
    start_server(&env);
    struct result r = {
        .env = &env, .done = EVENT_INIT, .messages = EVENT_INIT, .method = "/b/Echo"};
    on_loop(env.loop, start_bidi, &r);
    event_wait(&r.messages, 2);
    on_loop(env.loop, say_three, &r);
    event_wait(&r.messages, 3);
    assert_int_equal(event_get(&r.done), 0);
    on_loop(env.loop, hang_up, &r);
    event_wait(&r.done, 1);
    assert_int_equal(r.code, KL_GRPC_OK);
    assert_string_equal(r.list, "one,two,three,bye,");

    struct result s = {
        .env = &env, .done = EVENT_INIT, .messages = EVENT_INIT, .method = "/b/Echo"};
    on_loop(env.loop, start_bidi, &s);
    on_loop(env.loop, say_stop, &s);
    event_wait(&s.done, 1);
    assert_int_equal(s.code, KL_GRPC_ABORTED);
    assert_string_equal(s.list, "one,two,");

    struct result t = {
        .env = &env, .done = EVENT_INIT, .messages = EVENT_INIT, .method = "/b/Hang"};
    on_loop(env.loop, too_much, &t);
    event_wait(&t.done, 1);
    assert_int_equal(t.code, KL_GRPC_CANCELED);
    env_stop(&env);
    kl_grpc_server_free(env.rpcs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_bidi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
