// SPDX-License-Identifier: Apache-2.0
// The API server's insides that its own files share.
#pragma once
#include "apiserver/apiserver.h"
#include "apiserver/encode.h"
#include "apiserver/info.h"
#include "apiserver/request.h"
#include "apiserver/settings.h"
#include "base/map.h"
#include "base/metrics.h"
#include "net/http.h"
#include "net/http_client.h"
#include "object/gates.h"
#include "watchcache/cache.h"

#define KL_MAX_ARENA_BYTES ((size_t)64 << 20)
#define KL_MAX_API_LOOPS 16
#define KL_MAX_API_ENDPOINTS 32

struct kl_admit_config;
struct kl_admit_metrics;
struct kl_audit;
struct kl_aggregate;
struct kl_aggregate_loop;
struct kl_served;
struct kl_series_table;
struct kl_authz_cache;
struct kl_deadlines;
struct kl_authn_cache;
struct kl_fair;
struct kl_openapi_source;
struct kl_repair;
struct kl_tracer;
struct kl_watch_stream;
struct kl_webhook_loop;
struct kl_hooks;

// What each loop has for itself: everything here is touched by that loop only.
struct kl_api_loop {
    struct kl_apiserver *srv;
    struct kl_loop *loop;
    struct kl_reader *reader;
    struct kl_authz_cache *authz;
    struct kl_authn_cache *authn;
    struct kl_ask_loop *asks;            // webhook calls of both; made on first use
    struct kl_revocations *revoked;      // auth/revoke.c
    struct kl_http_client *http;         // to kubelets; made on first use
    struct kl_tls_ctx *proxy_tls;        // proxy/locate.c; made on first use
    struct kl_aggregate_loop *aggregate; // aggregate/remote.c; made on first use
    struct kl_webhook_loop *webhooks;    // webhook.c; made on first use
    struct kl_hooks *hooks;              // admission/hooks.c: policies and webhooks
    struct kl_watch_stream *streams;     // open watches, for bookmarks and time-outs
    struct kl_deadlines *deadlines;      // deadline.c; made on first use
    struct kl_crds *crds;                // crd/crd.h
    struct kl_conversions *conversions;  // crd/convert.h; made on first use
    struct kl_oa_texts *texts;           // openapi/texts.c, while documents are written
    uv_timer_t stream_timer;
    struct kl_bytes *heads; // watch.c: what stands before events in protobuf, many in one block
    uint32_t heads_used;
    bool timer_ready;
    _Atomic(struct kl_series_table *) series;         // series.h; made on first use
    _Atomic(struct kl_admit_metrics *) admit_metrics; // admission/metrics.h; made on first use
    atomic_int inflight[2]; // requests being answered that change nothing; that do
    int calls;              // requests that are not over: their memory is at the loop
    struct kl_task *ending; // what waits for the last of them
    int64_t event_lease, event_lease_until_ms; // lease.c
    int event_lease_keys;
    uint64_t id_state[2]; // of Audit-Id headers
};

// What the checks of /livez, /readyz and /healthz have said (health.c).
#define KL_HEALTH_CHECKS 48
#define KL_HEALTH_KINDS 3
struct kl_health_seen {
    atomic_uint ok, bad;
    atomic_bool last;
};

struct kl_api_endpoint {
    char ip[46];
    int port;
};

struct kl_apiserver {
    struct kl_apiserver_options o;                          // o.settings is never NULL
    struct kl_api_endpoint endpoints[KL_MAX_API_ENDPOINTS]; // of all servers; loops[0] (roster.c)
    size_t nendpoints;
    bool endpoints_busy, endpoints_again, flow_control_busy; // bootstrap.c
    struct kl_http_server *http;
    struct kl_tls_ctx *tls;
    struct kl_tls_ctx *kubelet_tls;            // client side, to kubelets
    struct kl_tls_ctx *kubelet_tls_unverified; // the same, whatever certificate they show
    struct kl_api_loop loops[KL_MAX_API_LOOPS];
    int nloops;
    atomic_bool ready; // bootstrap objects are written
    atomic_bool stopping;
    struct kl_health_seen health[KL_HEALTH_CHECKS][KL_HEALTH_KINDS];
    atomic_uint deprecated; // deprecated.c: which were asked for
    void (*ready_cb)(void *arg);
    void *ready_arg;
    void (*stop_done)(void *arg);
    void *stop_arg;
    struct kl_task boot_task;
    struct kl_crd_controller *crd_controller;         // crd/crd.h; loops[0]
    struct kl_conversion_metrics *conversion_metrics; // crd/convert.h
    int64_t started_ms;
    struct kl_gate_set gates;
    struct kl_served *served;                // NULL: what is served by default (served.h)
    struct kl_fair *fair;                    // fairness/fairness.h
    struct kl_audit *audit;                  // audit/audit.h; NULL: off
    struct kl_tracer *tracer;                // trace/trace.h; NULL: off
    struct kl_authn *authn;                  // token signer and verifiers
    struct kl_aggregate *aggregate;          // aggregate/aggregate.h
    atomic_bool taken_over;                  // kl_aggregate_takes
    struct kl_repair *repair;                // allocate/repair.h
    const struct kl_openapi_source *openapi; // openapi/openapi.h; NULL: no custom resources
    uint64_t admission;                      // the plug-ins that run: kl_admit_set
    struct kl_admit_config *admit_config;    // admission/config.h
};

// The part of the server that belongs to the current thread's loop; NULL on a foreign thread.
struct kl_api_loop *kl_api_loop_of(struct kl_apiserver *srv, const struct kl_loop *loop);

// The object of a built-in resource (KL_RES_...) in the loop's view, borrowed from it; NULL: there
// is none. The arena gets the key.
struct kl_object *kl_api_object(struct kl_api_loop *al, struct kl_arena *a, uint16_t res,
                                struct kl_str ns, struct kl_str name);

// A request begins and is over. The loop's end waits for the last one.
static inline void kl_api_loop_enter(struct kl_api_loop *al)
{
    al->calls++;
}
void kl_api_loop_leave(struct kl_api_loop *al);

static inline struct kl_view *kl_req_view(const struct kl_req *r)
{
    return kl_reader_view(r->al->reader);
}

// ---- pipeline.c: authentication was done. First authorisation and whether the target exists
// (negative: r->fail is set); then everything but LIST, WATCH and streams, whose ways differ by
// transport.
int kl_pipeline_check(struct kl_req *r);
void kl_pipeline_dispatch(struct kl_req *r);

// ---- http.c: a request that came over HTTP.
struct kl_api_call {
    struct kl_req req;
    struct kl_http_req *hr; // referenced until the request is done
    int bad_opts;           // what the query's options were refused with, and why
    struct kl_fail opts_fail;
    struct kl_spec spec;
    int64_t limit_ms; // how long it may take; 0: as long as it likes (deadline.h)
    uint64_t due_ms;
    struct kl_api_call *due_next, **due_pprev; // NULL: in no list
    uint32_t due_at;                           // its place in the heap, from 1; 0: not there
};
static inline struct kl_api_call *kl_api_call_of(struct kl_req *r)
{
    return KL_CONTAINER_OF(r, struct kl_api_call, req);
}
// The server's handler.
void kl_http_handle(void *arg, struct kl_http_req *hr);
#define KL_WARNINGS_SHOWN 90 // there are clients that read no answer of more than 100 headers
// Headers that every answer has; at most KL_COMMON_HEADERS.
#define KL_COMMON_HEADERS (4 + KL_WARNINGS_SHOWN)
size_t kl_http_common_headers(const struct kl_req *r, struct kl_http_header *ret);
// Everything was answered: lets go of the request.
void kl_api_call_release(struct kl_api_call *c);
// Answers with the finished request's result. A `done` callback.
void kl_http_answer(struct kl_req *r);
// Answers text; for what is no resource.
void kl_http_answer_text(struct kl_req *r, int status, const char *content_type,
                         struct kl_str text);

// ---- list.c, watch.c: own the request from here on and end it.
void kl_list_run(struct kl_api_call *c);
// Answers with what was gathered; takes over the gather's references.
void kl_list_answer(struct kl_api_call *c, struct kl_gather *g);
void kl_watch_run(struct kl_api_call *c);
// For a pull that fails: lets go of the n chunks it has filled. Returns code.
static inline int kl_chunks_drop(struct kl_http_chunk *chunks, int n, int code)
{
    for (int i = 0; i < n; i++)
        kl_bytes_unref(chunks[i].bytes);
    return code;
}
// Closes all watches of the loop: the server stops.
void kl_watch_close_all(struct kl_api_loop *al);
// log, exec, attach, portforward, proxy (connect.c).
bool kl_is_connect(const struct kl_req_info *i);
// Paths that are no resources: discovery, health, metrics, openapi. Ends the request.
void kl_nonresource_run(struct kl_api_call *c);

// The revision that a LIST or WATCH may be served from. 0, or negative with r->fail set: too large
// a resourceVersion and the like. *ret_rev is 0 when none was asked for.
int kl_req_rv(struct kl_req *r, struct kl_str text, kl_rev *ret_rev);
// ListOptions that upstream refuses (validateListOptions). Negative: r->fail set.
int kl_list_options_check(struct kl_req *r, bool watch);

// ---- registry
void kl_registry_get(struct kl_req *r);
void kl_registry_create(struct kl_req *r);
void kl_registry_update(struct kl_req *r);
void kl_registry_patch(struct kl_req *r);
void kl_registry_delete(struct kl_req *r);
void kl_registry_delete_collection(struct kl_req *r);
// Subresources with code of their own (scale, binding, token, finalize, eviction, ...): false when
// the generic path is to handle it (status).
bool kl_subresource_run(struct kl_req *r);
// Kinds without storage (access reviews, ...): false when there is no such.
bool kl_virtual_run(struct kl_req *r);

// ---- codec.c
// Decodes r->body (or takes r->body_object) against a type; checks apiVersion and kind when they
// are given. Fills r->warnings or fails by r->opts.field_validation.
int kl_body_decode(struct kl_req *r, const struct kl_type *type, const struct kl_resource *expect,
                   struct kl_value *ret, struct kl_error *err);
// The result as one canonical value in the version that was asked for. KL_RESULT_KV and _OBJECT.
int kl_req_result_root(struct kl_req *r, const struct kl_type **ret_type,
                       const struct kl_value **ret_root, struct kl_error *err);
