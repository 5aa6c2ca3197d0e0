// SPDX-License-Identifier: Apache-2.0
// SPDY: header blocks, then a client's and a server's session over a socket pair.
#include "net/spdy_int.h"
#include "net_test.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_header_blocks(void **state)
{
    struct kl_spdy_zip a, b;
    assert_int_equal(
        adler32(adler32(0, NULL, 0), (const Bytef *)kl_spdy_dictionary, KL_SPDY_DICTIONARY_BYTES),
        0xe3c6a7c2); // the dictionary's id in every SPDY/3 stream
    assert_int_equal(kl_spdy_zip_init(&a), 0);
    assert_int_equal(kl_spdy_zip_init(&b), 0);
    for (int i = 0; i < 50; i++) {
        char v[32];
        struct kl_buf out;
        struct kl_arena arena;
        struct kl_http_header *got;
        size_t n;
        snprintf(v, sizeof(v), "value-%d", i);
        struct kl_http_header h[] = {KL_HTTP_HEADER("streamType", "stdin"),
                                     {KL_STR("X-Number"), kl_str(v)},
                                     KL_HTTP_HEADER("multi", "one\0two"),
                                     KL_HTTP_HEADER("empty", "")};
        kl_buf_init(&out, 4096);
        kl_arena_init(&arena, 0);
        assert_int_equal(kl_spdy_pack(&a, h, 4, &out), 0);
        assert_int_equal(kl_spdy_unpack(&b, kl_buf_str(&out), 4096, &arena, &got, &n), 0);
        assert_true(i == 0 || out.n < 60); // the state is kept
        assert_int_equal(n, 5);
        assert_true(kl_str_eqz(got[0].name, "streamtype") && kl_str_eqz(got[0].value, "stdin"));
        assert_true(kl_str_eqz(got[1].name, "x-number") && kl_str_eqz(got[1].value, v));
        assert_true(kl_str_eqz(got[2].value, "one") && kl_str_eqz(got[3].value, "two"));
        assert_true(kl_str_eqz(got[4].name, "empty") && got[4].value.n == 0);
        kl_arena_fini(&arena);
        kl_buf_fini(&out);
    }
    kl_spdy_zip_fini(&a);
    kl_spdy_zip_fini(&b);
}

// A small block that unpacks to much: refused at the bound.
static void test_bomb(void **state)
{
    struct kl_spdy_zip a, b;
    struct kl_buf out;
    struct kl_arena arena;
    struct kl_http_header *got, h;
    size_t n;
    char *zeros = calloc(1, 500000);
    memset(zeros, 'a', 500000);
    h = (struct kl_http_header){KL_STR("bomb"), {zeros, 500000}};
    kl_buf_init(&out, 100000);
    kl_arena_init(&arena, 0);
    kl_spdy_zip_init(&a);
    kl_spdy_zip_init(&b);
    assert_int_equal(kl_spdy_pack(&a, &h, 1, &out), 0);
    assert_true(out.n < 10000);
    assert_int_equal(kl_spdy_unpack(&b, kl_buf_str(&out), 65536, &arena, &got, &n), KL_ELIMIT);
    kl_spdy_zip_fini(&a);
    kl_spdy_zip_fini(&b);
    kl_arena_fini(&arena);
    kl_buf_fini(&out);
    free(zeros);
}

// ---- Two sessions

struct stream {
    struct kl_duplex *d;
    struct env *env;
    char type[32];
    bool echo, refuse, pause_first;
    struct event got, eof, closed, replied;
    int status;
};

struct env {
    struct kl_loop *loop;
    struct kl_spdy *c, *s;
    int raw; // instead of the client's end
    struct stream cs[4], ss[4];
    int accepted;
    struct event c_closed, s_closed;
    int c_status, s_status;
};

static void st_data(void *arg, struct kl_str data)
{
    struct stream *st = arg;
    if (st->echo) {
        kl_duplex_write(st->d, data);
        if (kl_duplex_full(st->d))
            kl_duplex_pause(st->d);
    }
    if (st->pause_first) {
        st->pause_first = false;
        kl_duplex_pause(st->d);
    }
    event_add(&st->got, (long)data.n);
}

static void st_eof(void *arg)
{
    struct stream *st = arg;
    if (st->echo)
        kl_duplex_shutdown(st->d);
    event_add(&st->eof, 1);
}

static void st_drain(void *arg)
{
    struct stream *st = arg;
    if (st->echo)
        kl_duplex_resume(st->d);
}

static void st_close(void *arg, int status)
{
    struct stream *st = arg;
    st->status = status;
    kl_duplex_close(st->d);
    st->d = NULL;
    event_add(&st->closed, 1);
}

static const struct kl_duplex_cbs st_cbs = {st_data, st_eof, st_drain, st_close};

static void on_stream(void *arg, struct kl_duplex *d, const struct kl_http_header *h, size_t nh)
{
    struct env *env = arg;
    struct stream *st = &env->ss[env->accepted++];
    st->d = d;
    for (size_t i = 0; i < nh; i++)
        if (kl_str_eqz(h[i].name, "streamtype"))
            snprintf(st->type, sizeof(st->type), "%.*s", KL_PRI(h[i].value));
    kl_duplex_start(d, &st_cbs, st);
    if (st->refuse)
        kl_duplex_close(d);
    else
        assert_int_equal(kl_spdy_reply(d, NULL, 0), 0);
}

static void c_close(void *arg, int status)
{
    struct env *env = arg;
    env->c_status = status;
    event_add(&env->c_closed, 1);
}

static void s_close(void *arg, int status)
{
    struct env *env = arg;
    env->s_status = status;
    event_add(&env->s_closed, 1);
}

static const struct kl_spdy_cbs c_cbs = {on_stream, c_close}, s_cbs = {on_stream, s_close};

static void make_sessions(void *arg)
{
    struct env *env = arg;
    int fds[2];
    struct kl_duplex *d;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(kl_duplex_open_fd(env->loop, fds[1], &d, NULL), 0);
    assert_int_equal(kl_spdy_new(d, false, NULL, &s_cbs, env, &env->s, NULL), 0);
    if (env->raw) {
        env->raw = fds[0];
        return;
    }
    struct kl_spdy_opts o = {.ping_interval_ms = 5};
    assert_int_equal(kl_duplex_open_fd(env->loop, fds[0], &d, NULL), 0);
    assert_int_equal(kl_spdy_new(d, true, &o, &c_cbs, env, &env->c, NULL), 0);
}

static void env_start(struct env *env, bool raw)
{
    *env = (struct env){.raw = raw, .c_closed = EVENT_INIT, .s_closed = EVENT_INIT};
    for (int i = 0; i < 4; i++) {
        env->cs[i] = (struct stream){.env = env,
                                     .got = EVENT_INIT,
                                     .eof = EVENT_INIT,
                                     .closed = EVENT_INIT,
                                     .replied = EVENT_INIT};
        env->ss[i] = env->cs[i];
        env->ss[i].echo = true;
    }
    assert_int_equal(kl_loop_new("spdy", &env->loop, NULL), 0);
    assert_int_equal(kl_loop_start(env->loop, NULL), 0);
}

static void free_sessions(void *arg)
{
    struct env *env = arg;
    kl_spdy_free(env->c);
    kl_spdy_free(env->s);
}

static void one_turn(void *arg)
{
}

static void env_stop(struct env *env)
{
    on_loop(env->loop, free_sessions, env);
    if (env->raw)
        close(env->raw);
    for (int i = 0; i < 5; i++)
        on_loop(env->loop, one_turn, NULL);
    // the drain of the last frames ends within the linger time
    struct timespec wait = {0, 700000000};
    nanosleep(&wait, NULL);
    kl_loop_stop(env->loop);
    kl_loop_unref(env->loop);
}

static void on_reply(void *arg, struct kl_duplex *d, const struct kl_http_header *h, size_t nh)
{
    struct stream *st = arg;
    event_add(&st->replied, 1);
}

static void open_streams(void *arg)
{
    static const char *const types[] = {"error", "stdin", "stdout", "resize"};
    struct env *env = arg;
    for (int i = 0; i < 4; i++) {
        struct stream *st = &env->cs[i];
        struct kl_http_header h = {KL_STR("streamType"), kl_str(types[i])};
        assert_int_equal(kl_spdy_open(env->c, &h, 1, on_reply, st, &st->d, NULL), 0);
        assert_int_equal(kl_spdy_stream_id(st->d), 1 + 2 * i);
        kl_duplex_start(st->d, &st_cbs, st);
        // before the reply: kept until it is there
        assert_int_equal(kl_duplex_write(st->d, KL_STR("early")), 0);
    }
}

static void write_much(void *arg)
{
    struct stream *st = arg;
    struct kl_bytes *b = kl_bytes_alloc(100000);
    memset(b->p, 'w', b->n);
    assert_int_equal(kl_duplex_write_bytes(st->d, b, 0, b->n), 0);
    kl_bytes_unref(b);
}

static void shut(void *arg)
{
    struct stream *st = arg;
    kl_duplex_shutdown(st->d);
}

static void reset_stream(void *arg)
{
    struct stream *st = arg;
    kl_duplex_close(st->d);
}

static void close_session(void *arg)
{
    kl_spdy_close(arg);
}

static void test_streams(void **state)
{
    struct env env;
    env_start(&env, false);
    env.ss[3].refuse = true;
    on_loop(env.loop, make_sessions, &env);
    on_loop(env.loop, open_streams, &env);
    for (int i = 0; i < 3; i++) {
        event_wait(&env.cs[i].replied, 1);
        event_wait(&env.cs[i].got, 5); // echoed
    }
    assert_string_equal(env.ss[1].type, "stdin");
    event_wait(&env.cs[3].closed, 1);
    assert_int_equal(env.cs[3].status, KL_ECANCELED);
    for (long i = 1; i <= 30; i++) {
        on_loop(env.loop, write_much, &env.cs[1]);
        event_wait(&env.cs[1].got, 5 + (i - 3 > 0 ? i - 3 : 0) * 100000);
    }
    event_wait(&env.cs[1].got, 5 + 30 * 100000);
    on_loop(env.loop, shut, &env.cs[1]); // half-close: the other half follows
    event_wait(&env.cs[1].eof, 1);
    event_wait(&env.cs[1].closed, 1);
    event_wait(&env.ss[1].closed, 1);
    assert_int_equal(env.cs[1].status, 0);
    assert_int_equal(env.ss[1].status, 0);
    on_loop(env.loop, reset_stream, &env.cs[0]);
    event_wait(&env.ss[0].closed, 1);
    assert_int_equal(env.ss[0].status, KL_ECANCELED);
    event_wait(&env.cs[0].closed, 1);
    on_loop(env.loop, close_session, env.c); // the rest ends with the session
    event_wait(&env.cs[2].closed, 1);
    event_wait(&env.ss[2].closed, 1);
    event_wait(&env.c_closed, 1);
    event_wait(&env.s_closed, 1);
    assert_int_equal(env.c_status, 0);
    assert_int_equal(env.s_status, 0);
    env_stop(&env);
}

static void resume_stream(void *arg)
{
    struct stream *st = arg;
    kl_duplex_resume(st->d);
}

static void try_write(void *arg)
{
    struct stream *st = arg;
    static char block[60000];
    st->status = kl_duplex_write(st->d, (struct kl_str){block, sizeof(block)});
}

// A reader that stands still: bounded at both ends, and nothing is lost.
static void test_back_pressure(void **state)
{
    struct env env;
    env_start(&env, false);
    env.ss[1].echo = false;
    env.ss[1].pause_first = true;
    on_loop(env.loop, make_sessions, &env);
    on_loop(env.loop, open_streams, &env);
    event_wait(&env.ss[1].got, 5);
    long sent = 5;
    bool full = false;
    for (int i = 0; i < 200 && !full; i++) {
        on_loop(env.loop, try_write, &env.cs[1]);
        full = env.cs[1].status != 0;
        sent += full ? 0 : 60000;
    }
    assert_true(full);
    assert_int_equal(env.cs[1].status, KL_ELIMIT);
    assert_true(sent < 4 * 1024 * 1024);
    on_loop(env.loop, resume_stream, &env.ss[1]);
    event_wait(&env.ss[1].got, sent);
    env_stop(&env);
}

static void test_garbage(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
        {"\x80\x02\0\1\0\0\0\0", 8},                            // SPDY/2
        {"\x80\3\0\1\0\0\0\4abcd", 12},                         // SYN_STREAM too short
        {"\x80\3\0\1\0\0\0\x10\0\0\0\1\0\0\0\0\0\0zzzzzz", 24}, // bad zlib
        {"\x80\3\0\1\1\xff\xff\xff", 8},                        // too long
        {"\0\0\0\0\0\0\0\1x", 9},                               // data on stream 0
        {"\x80\3\0\6\0\0\0\1x", 9},                             // PING of a bad size
        {"\x80\3\0\3\0\0\0\1x", 9},                             // RST of a bad size
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct env env;
        env_start(&env, true);
        on_loop(env.loop, make_sessions, &env);
        raw_send(env.raw, "\x80\3\0\x6f\0\0\0\2xx", 10);     // unknown: ignored
        raw_send(env.raw, "\x80\3\0\6\0\0\0\4\0\0\0\1", 12); // a ping is answered
        raw_send(env.raw, bad[i].p, bad[i].n);
        char buf[64];
        size_t n = 0;
        while (n < 28) {
            ssize_t r = recv(env.raw, buf + n, sizeof(buf) - n, 0);
            assert_true(r > 0);
            n += (size_t)r;
        }
        assert_memory_equal(buf, "\x80\3\0\6\0\0\0\4\0\0\0\1", 12);
        assert_memory_equal(buf + 12, "\x80\3\0\7", 4); // GOAWAY
        close(env.raw);
        env.raw = 0;
        event_wait(&env.s_closed, 1);
        assert_int_equal(env.s_status, KL_EPROTO);
        env.raw = 0;
        on_loop(env.loop, free_sessions, &env);
        kl_loop_stop(env.loop);
        kl_loop_unref(env.loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_blocks), cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_streams),       cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
