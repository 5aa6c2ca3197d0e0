// SPDX-License-Identifier: Apache-2.0
// A queue that every loop fills and loops[0] empties: a batch when one is full, or every five
// seconds, one call at a time (the SDK's batch span processor).
#include "apiserver/trace/trace_int.h"
#include "apiserver/pki_int.h"
#include "base/log.h"
#include <stdlib.h>

#define EXPORT "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define MAX_SPAN ((size_t)1 << 20)
enum { EVERY_MS = 5000, TIMEOUT_MS = 10000 };

static void send_batch(struct kl_tracer *t);

static void on_wake(struct kl_task *task)
{
    struct kl_tracer *t = KL_CONTAINER_OF(task, struct kl_tracer, wake);
    pthread_mutex_lock(&t->mu);
    t->waking = false;
    pthread_mutex_unlock(&t->mu);
    send_batch(t);
}

void kl_tracer_put(struct kl_tracer *t, const struct kl_span *s)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_SPAN);
    kl_span_encode(&b, s);
    struct kl_bytes *bytes = b.err ? NULL : kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    bool wake = false;
    pthread_mutex_lock(&t->mu);
    if (bytes && t->n < KL_TRACE_QUEUE) {
        size_t at = (t->first + t->n++) % KL_TRACE_QUEUE;
        t->queue[at] = bytes;
        t->scopes[at] = (unsigned char)s->scope;
        bytes = NULL;
        wake = t->n >= KL_TRACE_BATCH && t->loop && !t->waking && !t->stopped;
        t->waking |= wake;
    } else {
        atomic_fetch_add_explicit(&t->dropped, 1, memory_order_relaxed);
    }
    if (wake) // with the lock: the loop's end takes it too
        kl_loop_post(t->loop, &t->wake);
    pthread_mutex_unlock(&t->mu);
    kl_bytes_unref(bytes);
}

static void on_exported(void *arg, enum kl_grpc_code code, struct kl_str reply,
                        const struct kl_error *err)
{
    struct kl_tracer *t = arg;
    (void)reply;
    t->flying = false;
    atomic_fetch_add_explicit(code ? &t->dropped : &t->sent, (long long)t->in_flight,
                              memory_order_relaxed);
    if (code && !t->away && code != KL_GRPC_CANCELED)
        kl_log(KL_LOG_WARN, "trace", "collector=%s spans are dropped: %s", t->config.target,
               err->msg);
    else if (!code && t->away)
        kl_log(KL_LOG_INFO, "trace", "collector=%s takes spans again", t->config.target);
    t->away = code != KL_GRPC_OK;
    pthread_mutex_lock(&t->mu);
    bool more = t->n >= KL_TRACE_BATCH;
    pthread_mutex_unlock(&t->mu);
    if (more && !code && !t->stopped)
        send_batch(t);
}

static size_t take(struct kl_tracer *t, struct kl_bytes **spans, unsigned char *scopes)
{
    size_t n = 0;
    pthread_mutex_lock(&t->mu);
    for (; n < KL_TRACE_BATCH && t->n; n++, t->n--) {
        spans[n] = t->queue[t->first];
        scopes[n] = t->scopes[t->first];
        t->first = (t->first + 1) % KL_TRACE_QUEUE;
    }
    pthread_mutex_unlock(&t->mu);
    return n;
}

static void send_batch(struct kl_tracer *t)
{
    struct kl_bytes *spans[KL_TRACE_BATCH];
    unsigned char scopes[KL_TRACE_BATCH];
    struct kl_grpc_call *call;
    struct kl_error err;
    if (t->flying || t->stopped)
        return;
    size_t n = take(t, spans, scopes);
    struct kl_bytes *body = n ? kl_trace_request(t->instance, spans, scopes, n) : NULL;
    for (size_t i = 0; i < n; i++)
        kl_bytes_unref(spans[i]);
    if (!n)
        return;
    t->in_flight = n;
    if (body && !kl_grpc_unary(t->grpc, EXPORT, body, TIMEOUT_MS, on_exported, t, &call, &err))
        t->flying = true;
    else
        atomic_fetch_add_explicit(&t->dropped, (long long)n, memory_order_relaxed);
    kl_bytes_unref(body);
}

static void on_timer(uv_timer_t *timer)
{
    send_batch(timer->data);
}

// ---- life

int kl_tracer_new(const char *file, struct kl_tracer **ret, struct kl_error *err)
{
    struct kl_arena a;
    struct kl_str text;
    *ret = NULL;
    if (!file || !*file)
        return 0;
    struct kl_tracer *t = calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->mu, NULL)) {
        free(t);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    t->every_ms = EVERY_MS;
    t->wake.run = on_wake;
    kl_self_id(t->instance);
    kl_arena_init(&a, (size_t)1 << 20);
    int rc = kl_file_read(&a, file, &text, err);
    if (!rc && !text.p)
        rc = kl_error_set(err, KL_ENOTFOUND, "tracing-config-file %s does not exist", file);
    else if (!rc && (rc = kl_trace_config_parse(text, &t->config, err)))
        kl_error_wrap(err, "failed to read tracing config");
    kl_arena_fini(&a);
    if (rc)
        kl_tracer_free(t);
    else
        *ret = t;
    return rc;
}

int kl_tracer_start(struct kl_tracer *t, struct kl_loop *loop, struct kl_error *err)
{
    const struct kl_grpc_opts o = {.loop = loop, .target = t->config.target};
    int rc = kl_grpc_new(&o, &t->grpc, err);
    if (rc)
        return kl_error_wrap(err, "tracing");
    if (uv_timer_init(kl_loop_uv(loop), &t->timer))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    t->timer.data = t;
    t->timer_ready = true;
    uv_unref((uv_handle_t *)&t->timer);
    uv_timer_start(&t->timer, on_timer, (uint64_t)t->every_ms, (uint64_t)t->every_ms);
    pthread_mutex_lock(&t->mu);
    t->loop = loop;
    pthread_mutex_unlock(&t->mu);
    return 0;
}

void kl_tracer_stop(struct kl_tracer *t)
{
    if (!t || t->stopped)
        return;
    pthread_mutex_lock(&t->mu);
    t->stopped = true;
    pthread_mutex_unlock(&t->mu);
    if (t->timer_ready)
        uv_close((uv_handle_t *)&t->timer, NULL);
    if (t->grpc)
        kl_grpc_close(t->grpc);
    t->grpc = NULL;
}

void kl_tracer_free(struct kl_tracer *t)
{
    if (!t)
        return;
    while (t->n--)
        kl_bytes_unref(t->queue[t->first++ % KL_TRACE_QUEUE]);
    pthread_mutex_destroy(&t->mu);
    free(t->config.target);
    free(t);
}

void kl_tracer_metrics(struct kl_tracer *t, struct kl_buf *b)
{
    if (!t)
        return;
    kl_buf_printf(b,
                  "# HELP kinglet_trace_spans_total Spans of traces, by what became of them.\n"
                  "# TYPE kinglet_trace_spans_total counter\n"
                  "kinglet_trace_spans_total{result=\"sent\"} %lld\n"
                  "kinglet_trace_spans_total{result=\"dropped\"} %lld\n",
                  atomic_load_explicit(&t->sent, memory_order_relaxed),
                  atomic_load_explicit(&t->dropped, memory_order_relaxed));
}
