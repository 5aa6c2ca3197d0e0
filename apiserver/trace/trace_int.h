// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/self.h"
#include "apiserver/trace/trace.h"
#include "base/buf.h"
#include "net/grpc.h"
#include <pthread.h>

enum kl_trace_scope { KL_SCOPE_HTTP, KL_SCOPE_SPANS, KL_SCOPE_FILTERS, KL_SCOPES };
enum kl_span_kind {
    KL_SPAN_INTERNAL = 1,
    KL_SPAN_SERVER = 2,
    KL_SPAN_CLIENT = 3
}; // as on the wire

struct kl_trace_attr {
    struct kl_trace_attr *next;
    const char *key; // a constant
    struct kl_str text;
    int64_t number;
    bool is_number;
};
struct kl_trace_event {
    struct kl_trace_event *next;
    const char *name; // a constant
    uint64_t at_ns;   // uv_hrtime
    struct kl_trace_attr *attrs;
};

struct kl_span {
    struct kl_trace *trace;
    struct kl_span *parent; // NULL: the request's own
    struct kl_span *next;   // of the trace's, as they were made
    unsigned char id[8];
    enum kl_trace_scope scope;
    enum kl_span_kind kind;
    struct kl_str name;
    uint64_t began_ns, ended_ns; // uv_hrtime; 0: open
    struct kl_trace_attr *attrs, **last_attr;
    struct kl_trace_event *events, **last_event;
    bool failed;
    struct kl_str why;
};

struct kl_trace {
    struct kl_tracer *tracer;
    struct kl_arena *arena;
    struct kl_span root, *current;
    struct kl_span **last;
    int n;
    bool sampled;
    unsigned char id[16];
    bool has_parent, has_link; // what came with the request: either, or neither
    unsigned char remote_trace[16], remote_span[8];
    bool remote_sampled;
    struct kl_str state, baggage;
    int64_t wall_minus_mono_ns;
    int http;
    int64_t bytes, read;
};

// ---- config.c, pure
struct kl_trace_config {
    char *target;   // of net/grpc.h; owned
    uint64_t below; // of 2^63: trace ids that are sampled without a parent
    bool all;
};
// A TracingConfiguration, YAML or JSON.
int kl_trace_config_parse(struct kl_str text, struct kl_trace_config *ret, struct kl_error *err);
// A traceparent header; false: it is not one.
bool kl_traceparent_parse(struct kl_str s, unsigned char trace[16], unsigned char span[8],
                          bool *ret_sampled);

// ---- encode.c
// The span's message, without tag and length.
void kl_span_encode(struct kl_buf *b, const struct kl_span *s);
// An ExportTraceServiceRequest of n such messages.
struct kl_bytes *kl_trace_request(const char *instance, struct kl_bytes *const *spans,
                                  const unsigned char *scopes, size_t n);

// ---- export.c
struct kl_tracer {
    struct kl_trace_config config;
    char instance[KL_SELF_ID_SIZE];
    int64_t every_ms; // a batch waits that long for being full
    struct kl_loop *loop;
    struct kl_grpc *grpc;
    uv_timer_t timer;
    bool timer_ready, flying, away, stopped; // the loop's
    struct kl_task wake;
    pthread_mutex_t mu;
    bool waking;
    struct kl_bytes *queue[KL_TRACE_QUEUE]; // a ring
    unsigned char scopes[KL_TRACE_QUEUE];
    size_t first, n;
    atomic_llong sent, dropped;
    size_t in_flight; // spans of the call
};
void kl_tracer_put(struct kl_tracer *t, const struct kl_span *s); // any thread
