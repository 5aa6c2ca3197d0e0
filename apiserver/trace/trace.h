// SPDX-License-Identifier: Apache-2.0
// Traces as OpenTelemetry has them: what a request did, as spans with upstream's names and
// attributes, sent to a collector by OTLP over gRPC (--tracing-config-file). Without that file
// there is no tracer, r->trace is NULL, and every hook below is one test of a pointer.
//
// Spans live in their request's arena and on its loop. When the request is over they are encoded
// and put into a queue of KL_TRACE_QUEUE, from which loops[0] sends batches; what does not fit, or
// meets no collector, is dropped and counted. A caller's traceparent counts when the caller is in
// system:masters or system:monitoring; others begin a trace of their own that links to theirs.
#pragma once
#include "apiserver/request.h"
#include "base/buf.h"
#include "net/http.h"

struct kl_tracer;
struct kl_trace;
struct kl_span;

enum {
    KL_TRACE_QUEUE = 2048, // spans, and as many at most in a batch as:
    KL_TRACE_BATCH = 512,
    KL_TRACE_SPANS = 128, // of a request; further ones are not made
    KL_TRACE_HEADERS = 3,
};

// Reads the TracingConfiguration; `file` NULL: *ret is NULL. Any thread. KL_EINVALID with
// upstream's words.
int kl_tracer_new(const char *file, struct kl_tracer **ret, struct kl_error *err);
// On the loop that sends; the rest may be used before.
int kl_tracer_start(struct kl_tracer *t, struct kl_loop *loop, struct kl_error *err);
void kl_tracer_stop(struct kl_tracer *t); // there; sends no more. Accepts NULL
void kl_tracer_free(struct kl_tracer *t); // no loop runs any more; accepts NULL
// What became of spans so far, in the text of /metrics.
void kl_tracer_metrics(struct kl_tracer *t, struct kl_buf *b);

// ---- a request. Who asks is known: makes r->trace.
void kl_trace_begin(struct kl_req *r, struct kl_http_req *hr);
// A filter that everything from now on is within: "audit", "priorityandfairness", "authorization".
void kl_trace_filter(struct kl_req *r, const char *name);
// The handler: "Create", "List", ... with upstream's trace fields.
void kl_trace_handler(struct kl_req *r);
void kl_trace_answer(struct kl_req *r, int http, int64_t bytes); // bytes -1: not known
void kl_trace_end(struct kl_req *r); // all spans that are open end; r->trace is NULL then

// ---- spans. All accept NULL, which is what they are when the request is not sampled.
// A child of the innermost open span, and the innermost until it ends.
struct kl_span *kl_span_begin_traced(struct kl_req *r, const char *name);
static inline struct kl_span *kl_span_begin(struct kl_req *r, const char *name)
{
    return r->trace ? kl_span_begin_traced(r, name) : NULL;
}
// A child that others run beside. `parent` NULL: of the innermost.
struct kl_span *kl_span_beside(struct kl_req *r, struct kl_span *parent, const char *name);
// A call of another server by HTTP, within parent; its headers are to go with it.
struct kl_span *kl_span_client(struct kl_req *r, struct kl_span *parent, struct kl_str method,
                               struct kl_str url);
void kl_span_text_traced(struct kl_span *s, const char *key, struct kl_str value);
static inline void kl_span_text(struct kl_span *s, const char *key, struct kl_str value) // copied
{
    if (s)
        kl_span_text_traced(s, key, value);
}
void kl_span_number_traced(struct kl_span *s, const char *key, int64_t value);
static inline void kl_span_number(struct kl_span *s, const char *key, int64_t value)
{
    if (s)
        kl_span_number_traced(s, key, value);
}
void kl_span_event(struct kl_span *s, const char *name);
void kl_span_event_number(struct kl_span *s, const char *name, const char *key, int64_t value);
void kl_span_fail(struct kl_span *s, struct kl_str why); // copied
void kl_span_end_traced(struct kl_span *s);
static inline void kl_span_end(struct kl_span *s)
{
    if (s)
        kl_span_end_traced(s);
}
// The innermost, for events; NULL when nothing is traced.
struct kl_span *kl_span_current(const struct kl_req *r);
// traceparent, tracestate and baggage for a call to others, within `s` (NULL: the innermost).
// Returns how many of KL_TRACE_HEADERS there are; in the arena.
size_t kl_trace_headers(struct kl_req *r, const struct kl_span *s, struct kl_http_header *h);
