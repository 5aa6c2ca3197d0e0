// SPDX-License-Identifier: Apache-2.0
// The parts of the HTTP server: worker (one per loop), connection, request; the two protocols
// (http_h1.c, http_h2.c) below one table of functions.
#pragma once
#include "net/conn_int.h"
#include "net/http_util.h"

struct kl_http_worker;
struct kl_http_conn;
struct kl_h1;
struct kl_h2;

enum {
    KL_HTTP_BODY_WINDOW = 256 * 1024, // request body ahead of its reader
    KL_HTTP_UNCLAIMED = 64 * 1024,    // the same while nobody reads it
    KL_HTTP_PULL_AHEAD = 256 * 1024,  // answer ahead of the socket, per stream
    KL_HTTP_PULL_CHUNKS = 64,         // slices of one pull
    KL_HTTP_FEW_CHUNKS = 4,           // slices that a request has room for itself: a watch's event
    KL_HTTP_FREE_REQS = 32,           // kept for reuse per worker
};

// What a request needs from its protocol. Never called once the request is closed.
struct kl_http_proto_ops {
    // Sends the head. length: of the body, -1 unknown. no_body: nothing follows (HEAD, 204, 304).
    int (*head)(struct kl_http_req *r, int status, const struct kl_http_header *h, size_t nh,
                int64_t length, bool no_body);
    int (*interim)(struct kl_http_req *r, int status, const struct kl_http_header *h, size_t nh);
    void (*resume)(struct kl_http_req *r);       // the answer has more to send
    void (*body_claimed)(struct kl_http_req *r); // somebody reads the body from now on
    void (*body_consumed)(struct kl_http_req *r, size_t n);
    void (*abort)(struct kl_http_req *r);
};

enum kl_http_body_mode { KL_BODY_UNCLAIMED, KL_BODY_WHOLE, KL_BODY_STREAM, KL_BODY_DISCARD };

struct kl_http_req {
    struct kl_http_conn *conn; // a reference
    const struct kl_http_proto_ops *ops;
    int refs;
    int version;
    bool closed;
    struct kl_http_req *prev, *next; // open requests of the connection; next also in the free list
    struct kl_arena arena;
    struct kl_str method, target, path, query, authority, scheme, peer_ip;
    struct kl_http_header *headers;
    size_t nheaders, cap_headers, header_bytes;
    bool headers_too_big, expects_continue, upgrade;
    int64_t content_length; // -1: not given
    void *data;
    kl_http_close_cb on_close;
    void *on_close_arg;

    // The body on its way in.
    enum kl_http_body_mode body_mode;
    bool body_present, body_eof, body_told, body_notify_queued, body_patient;
    struct kl_buf body; // whole: all of it; else what was not delivered yet
    size_t body_max, body_unconsumed;
    kl_http_body_cb whole_cb;
    kl_http_data_cb data_cb;
    void *body_arg;
    uint64_t body_at_ms; // last progress
    struct kl_task notify_task;

    // The answer on its way out.
    bool responded, no_body, src_end, src_waiting, src_closed, out_done, src_failed, close_after;
    const struct kl_http_source *src;
    void *src_arg;
    struct kl_http_chunk few[KL_HTTP_FEW_CHUNKS], *q; // q is `few` or twice KL_HTTP_PULL_CHUNKS
    uint32_t q_head, q_count;
    size_t q_bytes;
    int64_t out_length, out_sent; // out_length -1: not told
    struct kl_http_header *trailers;
    size_t ntrailers;
    uint64_t out_at_ms; // last progress

    int32_t stream_id; // HTTP/2
    bool reset_sent;
};

struct kl_http_conn {
    struct kl_http_worker *worker;
    struct kl_conn *c; // NULL once closed
    int refs;          // 1 of the transport, 1 of each request
    struct kl_http_conn *prev, *next;
    struct kl_http_req *reqs; // open ones
    int nreqs;
    struct sockaddr_storage peer;
    int64_t peer_uid; // of a Unix socket's other end; -1 otherwise
    X509 *cert;
    long cert_verify;
    void *data;
    void (*data_free)(void *);
    uint64_t id;
    bool tunnel;
    struct kl_h1 *h1;
    struct kl_h2 *h2;
    struct kl_task close_task;
    int close_status;
    bool close_queued;
    char sniff[24]; // of a plain connection until it is clear that it is HTTP/2
    size_t sniff_n;
};

struct kl_http_worker {
    struct kl_http_server *server;
    struct kl_loop *loop;
    struct kl_http_conn *conns;
    atomic_int nconns, nstreams; // nconns: sockets, those on their way included
    int nlive;                   // connection objects; requests may hold them longer than sockets
    atomic_llong requests;
    struct kl_http_req *free_reqs;
    int nfree;
    char date[32];
    uint64_t date_until_ms;
    bool stopping, timer_open, gone;
    uv_timer_t deadline;
    struct kl_task stop_task, gone_task;
};

struct kl_http_limits {
    uint32_t max_header_bytes, max_header_count, max_streams, max_connections, header_timeout_ms,
        idle_timeout_ms, progress_timeout_ms, max_resets_per_s;
    bool no_http2, lenient_http2;
};
const struct kl_http_limits *kl_http_conn_limits(const struct kl_http_conn *c);
bool kl_http_conn_tls(const struct kl_http_conn *c);
struct kl_str kl_http_worker_date(struct kl_http_worker *w);

// http_server.c: the connection
void kl_http_conn_ref(struct kl_http_conn *c);
void kl_http_conn_unref(struct kl_http_conn *c);
// Closes the socket now; every open request is closed with `status`. Idempotent.
void kl_http_conn_close(struct kl_http_conn *c, int status);
void kl_http_conn_close_soon(struct kl_http_conn *c, int status); // after the callbacks now running
// Closes open requests as canceled, writes what is queued, then closes.
void kl_http_conn_drain(struct kl_http_conn *c);
// The socket has gone (on_free of its ops, or the end of a tunnel).
void kl_http_conn_gone(struct kl_http_conn *c);
void kl_http_dispatch(struct kl_http_req *r); // calls the handler, or answers 431

// http_req.c
struct kl_http_req *kl_http_req_new(struct kl_http_conn *c, const struct kl_http_proto_ops *ops,
                                    int version); // NULL: out of memory
// The last the protocol does with it: tells everyone, drops the protocol's reference.
void kl_http_req_close(struct kl_http_req *r, int status);
// KL_ENOMEM; too many or too big headers only set headers_too_big. Strings are kept as they are.
int kl_http_req_add_header(struct kl_http_req *r, struct kl_str name, struct kl_str value);
// Splits target into path and query, absolute form included.
void kl_http_req_set_target(struct kl_http_req *r, struct kl_str target);
// Reads Content-Length, Expect, ... once the headers are complete. 0, or KL_EBADREQUEST.
int kl_http_req_headers_done(struct kl_http_req *r);

// http_body.c
void kl_http_body_data(struct kl_http_req *r, struct kl_str data);
void kl_http_body_end(struct kl_http_req *r);
void kl_http_body_fail(struct kl_http_req *r, int status); // tells the reader, if any, once
void kl_http_body_fini(struct kl_http_req *r);
// Bytes that neither were delivered nor consumed.
size_t kl_http_body_backlog(const struct kl_http_req *r);

// http_resp.c
// Pulls until `want` bytes are queued, or the source waits, ends or fails (negative).
int kl_http_resp_pull(struct kl_http_req *r, size_t want);
// Moves n bytes of the queue (n ≤ q_bytes) to `out`.
int kl_http_resp_move(struct kl_http_req *r, struct kl_outq *out, size_t n);
void kl_http_resp_end_source(struct kl_http_req *r); // calls close once
void kl_http_resp_fini(struct kl_http_req *r);
static inline bool kl_http_resp_complete(const struct kl_http_req *r)
{
    return r->responded && r->src_end && r->q_bytes == 0;
}

// http_h1.c, http_h2.c
int kl_h1_new(struct kl_http_conn *c);
void kl_h1_free(struct kl_http_conn *c);
void kl_h1_forget(struct kl_http_conn *c); // its request is being closed
void kl_h1_stop(struct kl_http_conn *c);   // graceful
int kl_h2_new(struct kl_http_conn *c);
void kl_h2_free(struct kl_http_conn *c);
void kl_h2_stop(struct kl_http_conn *c);
extern const struct kl_conn_ops kl_h1_conn_ops, kl_h2_conn_ops;
extern const struct kl_http_proto_ops kl_h2_proto_ops;
