// SPDX-License-Identifier: Apache-2.0
// A WebSocket on a duplex: messages, pings and the closing handshake.
//
//   OPEN -- kl_ws_close --> CLOSING (our close frame is out) -- theirs, or 5 s --> CLOSED
//   OPEN -- their close frame, or an error of theirs (ours is sent back) ------> CLOSED
#include "base/rand.h"
#include "net/ws_int.h"
#include <stdlib.h>

enum { CLOSE_WAIT_MS = 5000 };
enum ws_state { WS_OPEN, WS_CLOSING, WS_CLOSED };

struct kl_ws {
    struct kl_duplex *d;
    struct kl_ws_reader reader;
    const struct kl_ws_cbs *cbs;
    void *arg;
    enum ws_state state;
    bool started, freed, duplex_gone, timer_open, paused, pong_due, in_feed, task_queued;
    uint32_t ping_ms;
    int code; // to report
    char reason[128];
    size_t reason_n;
    struct kl_buf rest; // bytes that came while paused
    uv_timer_t timer;
    struct kl_task task;
};

static void maybe_free(struct kl_ws *ws)
{
    if (!ws->freed || !ws->duplex_gone || ws->timer_open || ws->in_feed || ws->task_queued)
        return;
    kl_ws_reader_fini(&ws->reader);
    kl_buf_fini(&ws->rest);
    free(ws);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct kl_ws *ws = h->data;
    ws->timer_open = false;
    maybe_free(ws);
}

static void close_timer(struct kl_ws *ws)
{
    if (ws->timer_open && !uv_is_closing((uv_handle_t *)&ws->timer))
        uv_close((uv_handle_t *)&ws->timer, on_timer_closed);
}

// ---- Sending

static int send_frame(struct kl_ws *ws, int op, struct kl_str head, struct kl_str data,
                      struct kl_bytes *bytes)
{
    unsigned char h[14], mask[4];
    if (ws->duplex_gone)
        return KL_ECANCELED;
    if (kl_duplex_pending(ws->d) > KL_DUPLEX_MAX)
        return KL_ELIMIT;
    bool client = ws->reader.client;
    if (client)
        kl_rand_bytes(mask, sizeof(mask));
    size_t n = kl_ws_put_header(h, op, (uint64_t)head.n + data.n, client ? mask : NULL);
    if (!client) {
        int rc = kl_duplex_write(ws->d, (struct kl_str){(char *)h, n});
        if (!rc)
            rc = kl_duplex_write(ws->d, head);
        if (rc)
            return rc;
        return bytes ? kl_duplex_write_bytes(ws->d, bytes, 0, bytes->n)
                     : kl_duplex_write(ws->d, data);
    }
    struct kl_bytes *all = kl_bytes_alloc(n + head.n + data.n);
    if (!all)
        return KL_ENOMEM;
    memcpy(all->p, h, n);
    if (head.n)
        memcpy(all->p + n, head.p, head.n);
    if (data.n)
        memcpy(all->p + n + head.n, data.p, data.n);
    kl_ws_mask(all->p + n, head.n + data.n, mask, 0);
    int rc = kl_duplex_write_bytes(ws->d, all, 0, all->n);
    kl_bytes_unref(all);
    return rc;
}

int kl_ws_send(struct kl_ws *ws, enum kl_ws_op op, struct kl_str head, struct kl_str data)
{
    return ws->state == WS_OPEN ? send_frame(ws, op, head, data, NULL) : KL_ECANCELED;
}

int kl_ws_send_bytes(struct kl_ws *ws, enum kl_ws_op op, struct kl_bytes *b)
{
    return ws->state == WS_OPEN ? send_frame(ws, op, KL_STR(""), kl_bytes_str(b), b) : KL_ECANCELED;
}

int kl_ws_ping(struct kl_ws *ws, struct kl_str payload)
{
    if (payload.n > 125)
        return KL_EINVALID;
    return ws->state == WS_OPEN ? send_frame(ws, KL_WS_PING, KL_STR(""), payload, NULL)
                                : KL_ECANCELED;
}

size_t kl_ws_pending(const struct kl_ws *ws)
{
    return ws->duplex_gone ? 0 : kl_duplex_pending(ws->d);
}

bool kl_ws_full(const struct kl_ws *ws)
{
    return kl_ws_pending(ws) >= KL_DUPLEX_HIGH;
}

static void send_close(struct kl_ws *ws, int code, struct kl_str reason)
{
    char head[2] = {(char)(code >> 8), (char)code};
    if (reason.n > 123)
        reason.n = 123;
    if (code == 1005 || code == 1006) // never sent
        send_frame(ws, KL_WS_CLOSE, KL_STR(""), KL_STR(""), NULL);
    else
        send_frame(ws, KL_WS_CLOSE, (struct kl_str){head, 2}, reason, NULL);
}

// ---- Closing

static void set_reason(struct kl_ws *ws, int code, struct kl_str reason)
{
    ws->code = code;
    ws->reason_n = reason.n < sizeof(ws->reason) ? reason.n : sizeof(ws->reason);
    if (ws->reason_n)
        memcpy(ws->reason, reason.p, ws->reason_n);
}

static void finish(struct kl_ws *ws)
{
    ws->state = WS_CLOSED;
    close_timer(ws);
    kl_duplex_resume(ws->d);
    kl_duplex_close_drain(ws->d);
}

static void fail(struct kl_ws *ws, int code, const char *why)
{
    if (ws->state == WS_CLOSED)
        return;
    if (ws->state == WS_OPEN)
        send_close(ws, code, kl_str(why));
    set_reason(ws, code, kl_str(why));
    finish(ws);
}

static bool good_close_code(int code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static void on_close_frame(struct kl_ws *ws, struct kl_str p)
{
    int code = p.n >= 2 ? (unsigned char)p.p[0] << 8 | (unsigned char)p.p[1] : 1005;
    struct kl_str reason = kl_str_from(p, 2);
    if (p.n == 1 || (p.n >= 2 && !good_close_code(code))) {
        fail(ws, 1002, "bad close frame");
        return;
    }
    if (!kl_utf8_valid(reason)) {
        fail(ws, 1007, "bad close frame");
        return;
    }
    if (ws->state == WS_OPEN)
        send_close(ws, code, KL_STR(""));
    set_reason(ws, code, reason);
    finish(ws);
}

static void on_control(void *arg, int op, struct kl_str data)
{
    struct kl_ws *ws = arg;
    if (ws->freed || ws->state == WS_CLOSED)
        return;
    if (op == KL_WS_CLOSE) {
        ws->reader.stopped = true;
        on_close_frame(ws, data);
    } else if (op == KL_WS_PING && ws->state == WS_OPEN) {
        // A peer that pings and never reads gets no more than the queue's bound.
        if (!kl_ws_full(ws))
            send_frame(ws, KL_WS_PONG, KL_STR(""), data, NULL);
    } else if (op == KL_WS_PONG) {
        ws->pong_due = false;
    }
}

static void on_message(void *arg, enum kl_ws_op op, struct kl_str data)
{
    struct kl_ws *ws = arg;
    if (ws->freed || ws->state != WS_OPEN)
        return;
    ws->cbs->on_message(ws->arg, op, data);
    if (ws->paused || ws->freed)
        ws->reader.stopped = true;
}

static const struct kl_ws_reader_cbs reader_cbs = {on_message, on_control};

static const char *why(int code)
{
    return code == 1009 ? "message too big" : code == 1007 ? "invalid UTF-8" : "protocol error";
}

// Feeds what is there; what a pause leaves over is kept.
static void feed(struct kl_ws *ws, struct kl_str data)
{
    int bad;
    if (ws->state == WS_CLOSED || ws->freed)
        return;
    ws->in_feed = true;
    size_t used = kl_ws_reader_feed(&ws->reader, data, &reader_cbs, ws, &bad);
    ws->in_feed = false;
    if (ws->freed) {
        maybe_free(ws);
        return;
    }
    if (bad)
        fail(ws, bad, why(bad));
    else if (used < data.n && ws->state != WS_CLOSED &&
             kl_buf_append(&ws->rest, data.p + used, data.n - used))
        fail(ws, 1011, "out of memory");
}

// ---- The duplex

static void on_data(void *arg, struct kl_str data)
{
    struct kl_ws *ws = arg;
    if (ws->rest.n) { // more before the pause took effect, or before the task has run
        if (kl_buf_append(&ws->rest, data.p, data.n))
            fail(ws, 1011, "out of memory");
        return;
    }
    feed(ws, data);
}

static void on_eof(void *arg)
{
    struct kl_ws *ws = arg;
    if (ws->state == WS_CLOSED)
        return;
    if (ws->code == 0)
        set_reason(ws, 1006, KL_STR("unexpected EOF"));
    finish(ws);
}

static void on_drain(void *arg)
{
    struct kl_ws *ws = arg;
    if (ws->state == WS_OPEN && !ws->freed && ws->cbs->on_drain)
        ws->cbs->on_drain(ws->arg);
}

static void on_duplex_close(void *arg, int status)
{
    struct kl_ws *ws = arg;
    if (ws->code == 0)
        set_reason(ws, 1006, kl_str(status ? kl_err_text(status) : ""));
    ws->state = WS_CLOSED;
    close_timer(ws);
    kl_duplex_close(ws->d);
    ws->in_feed = true; // holds the memory over the callback
    if (!ws->freed)
        ws->cbs->on_close(ws->arg, ws->code, (struct kl_str){ws->reason, ws->reason_n});
    ws->in_feed = false;
    ws->duplex_gone = true;
    maybe_free(ws);
}

static const struct kl_duplex_cbs duplex_cbs = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_close = on_duplex_close,
};

static void run_task(struct kl_task *t)
{
    struct kl_ws *ws = KL_CONTAINER_OF(t, struct kl_ws, task);
    ws->task_queued = false;
    if (ws->freed) {
        maybe_free(ws);
        return;
    }
    if (ws->paused || ws->state == WS_CLOSED)
        return;
    struct kl_buf rest = ws->rest;
    kl_buf_init(&ws->rest, rest.max);
    ws->reader.stopped = false;
    ws->task_queued = true; // holds the memory
    feed(ws, kl_buf_str(&rest));
    ws->task_queued = false;
    kl_buf_fini(&rest);
    if (!ws->freed && !ws->paused && ws->state != WS_CLOSED)
        kl_duplex_resume(ws->d);
    maybe_free(ws);
}

void kl_ws_pause(struct kl_ws *ws)
{
    ws->paused = true;
    if (ws->state != WS_CLOSED)
        kl_duplex_pause(ws->d);
}

void kl_ws_resume(struct kl_ws *ws)
{
    if (!ws->paused)
        return;
    ws->paused = false;
    if (ws->state == WS_CLOSED || ws->task_queued)
        return;
    ws->task_queued = true;
    ws->task.run = run_task;
    kl_loop_defer(kl_duplex_loop(ws->d), &ws->task);
}

static void on_timer(uv_timer_t *t)
{
    struct kl_ws *ws = t->data;
    if (ws->state == WS_CLOSING || ws->pong_due) {
        if (ws->code == 0)
            set_reason(ws, 1006, KL_STR("no answer"));
        ws->state = WS_CLOSED;
        close_timer(ws);
        kl_duplex_close(ws->d);
    } else {
        ws->pong_due = true;
        kl_ws_ping(ws, KL_STR(""));
    }
}

void kl_ws_close(struct kl_ws *ws, int code, struct kl_str reason)
{
    if (ws->state != WS_OPEN)
        return;
    send_close(ws, code, reason);
    ws->state = WS_CLOSING;
    if (ws->paused) { // their close frame must come through
        ws->paused = false;
        if (!ws->task_queued) {
            ws->task_queued = true;
            ws->task.run = run_task;
            kl_loop_defer(kl_duplex_loop(ws->d), &ws->task);
        }
    }
    uv_timer_start(&ws->timer, on_timer, CLOSE_WAIT_MS, 0);
}

int kl_ws_new(struct kl_duplex *d, bool client, const struct kl_ws_opts *o, struct kl_ws **ret,
              struct kl_error *err)
{
    struct kl_ws *ws = calloc(1, sizeof(*ws));
    if (!ws) {
        kl_duplex_close(d);
        return kl_error_set(err, KL_ENOMEM, "WebSocket: out of memory");
    }
    size_t max = o && o->max_message_bytes ? o->max_message_bytes : 1024 * 1024;
    kl_ws_reader_init(&ws->reader, client, max);
    kl_buf_init(&ws->rest, 2 * KL_DUPLEX_MAX);
    ws->d = d;
    ws->ping_ms = o ? o->ping_interval_ms : 0;
    uv_timer_init(kl_loop_uv(kl_duplex_loop(d)), &ws->timer);
    ws->timer.data = ws;
    ws->timer_open = true;
    *ret = ws;
    return 0;
}

void kl_ws_start(struct kl_ws *ws, const struct kl_ws_cbs *cbs, void *arg)
{
    ws->cbs = cbs;
    ws->arg = arg;
    ws->started = true;
    if (ws->ping_ms)
        uv_timer_start(&ws->timer, on_timer, ws->ping_ms, ws->ping_ms);
    kl_duplex_start(ws->d, &duplex_cbs, ws);
}

void kl_ws_free(struct kl_ws *ws)
{
    if (!ws || ws->freed)
        return;
    ws->freed = true;
    ws->reader.stopped = true;
    close_timer(ws);
    if (!ws->duplex_gone) {
        // One that is closing still gets its last frames out.
        if (ws->state != WS_CLOSED)
            kl_duplex_close(ws->d);
        ws->state = WS_CLOSED;
        if (!ws->started)
            ws->duplex_gone = true; // no on_close comes for it
    }
    maybe_free(ws);
}
