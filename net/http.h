// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 and HTTP/2 server on one port, plain or TLS, over several loops. HTTP/2 by ALPN, and by
// prior knowledge on plain connections.
//
// A handler is called on the connection's loop when a request's headers are complete. It answers
// now or later, on that loop, with exactly one of kl_http_respond, kl_http_respond_bytes,
// kl_http_respond_stream, kl_http_upgrade or kl_http_abort. Before that it may read the body; a
// body that nobody reads is thrown away.
//
// A request lives until its on_close callback (exactly once: the answer was handed to the socket
// completely, or the client went away, or the server closed it) has returned and all references of
// kl_http_req_ref are gone. After on_close a referenced request's memory (headers, arena, body) is
// still good, and the functions that answer do nothing and return KL_ECANCELED.
#pragma once
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "net/duplex.h"
#include "net/tls.h"
#include <sys/socket.h>

struct kl_http_server;
struct kl_http_req;

// Names of response headers are in lower case; HTTP/1.1 sends them as Content-Type etc. The server
// adds date, content-length, transfer-encoding and connection itself.
struct kl_http_header {
    struct kl_str name, value;
};
#define KL_HTTP_HEADER(name, value)                                                                \
    {                                                                                              \
        KL_STR_INIT(name), KL_STR_INIT(value)                                                      \
    }

typedef void (*kl_http_handler)(void *arg, struct kl_http_req *req);

// 0 in any limit means the default in brackets. kl_http_server_opts_init is not needed: a struct
// set to zero is good but for loops, nloops, port and handler.
struct kl_http_server_opts {
    struct kl_loop **loops; // requests run here; the listening socket is on loops[0]
    int nloops;
    const char
        *address; // NULL or "": every address, IPv6 and IPv4 ("::", dual stack); else literal
    int port;     // 0: the kernel's choice, see kl_http_server_port
    const char *unix_path;  // instead of address and port: a Unix socket (mode 0600), made anew
    struct kl_tls_ctx *tls; // NULL: plain. Referenced.
    kl_http_handler handler;
    void *arg;

    uint32_t max_header_bytes;    // [1 MiB] sum of names and values + 32 each → 431
    uint32_t max_header_count;    // [1000] → 431
    uint32_t max_streams;         // [250] concurrent per HTTP/2 connection
    uint32_t max_connections;     // [16384] more wait in the backlog
    uint32_t header_timeout_ms;   // [32000] from first byte (or accept) to complete headers
    uint32_t idle_timeout_ms;     // [180000] keep-alive without requests
    uint32_t progress_timeout_ms; // [30000] a peer that takes nothing of what waits for it, or
                                  // sends nothing of a body that is being read, is closed
    uint32_t max_resets_per_s; // [33] streams that an HTTP/2 client gives up, after 30 s' worth of
                               // them at once → GOAWAY (CVE-2023-44487)
    bool no_http2;
    // HTTP/2 fields as grpc-go's server takes them: unchecked, so that an :authority of
    // "http://host:port" passes, which older etcd clients send. For handlers that pass nothing on.
    bool lenient_http2;
};

// Binds and listens at once (SO_REUSEADDR, never SO_REUSEPORT): KL_EEXISTS "address already in use"
// when another server is there. Any thread; loops may be started before or after.
int kl_http_server_start(const struct kl_http_server_opts *o, struct kl_http_server **ret,
                         struct kl_error *err);
int kl_http_server_port(const struct kl_http_server *s);
// Any thread, once: stops accepting, sends GOAWAY or Connection: close, lets what is in flight end
// for up to deadline_ms, then closes everything. `done` runs on loops[0] when nothing of the server
// is left on any loop; the loops must run until then. The server is freed after `done` returns.
void kl_http_server_stop(struct kl_http_server *s, uint32_t deadline_ms, void (*done)(void *arg),
                         void *arg);
struct kl_http_server_stats {
    int64_t connections, requests_in_flight; // now
    int64_t accepted, requests;              // ever
};
void kl_http_server_get_stats(const struct kl_http_server *s, struct kl_http_server_stats *ret);

// ---- The request. Strings live as long as the request.
struct kl_str kl_http_method(const struct kl_http_req *r);
struct kl_str kl_http_target(const struct kl_http_req *r);    // as sent: path and query
struct kl_str kl_http_path(const struct kl_http_req *r);      // raw (not percent-decoded), no query
struct kl_str kl_http_query(const struct kl_http_req *r);     // without '?', raw; "" when none
struct kl_str kl_http_authority(const struct kl_http_req *r); // :authority or Host
struct kl_str kl_http_scheme(const struct kl_http_req *r);    // "https" or "http"
int kl_http_version(const struct kl_http_req *r);             // 10, 11 or 20
// First header of the name (lower case); p is NULL when absent. Others: kl_http_headers. Names are
// in lower case whatever was sent; several Cookie fields of HTTP/2 stay apart.
struct kl_str kl_http_header(const struct kl_http_req *r, struct kl_str name);
const struct kl_http_header *kl_http_headers(const struct kl_http_req *r, size_t *ret_n);
bool kl_http_has_body(const struct kl_http_req *r);          // Content-Length > 0, chunked, or open
int64_t kl_http_content_length(const struct kl_http_req *r); // -1: not given
// The header lists the token (comma separated, case-insensitive), as in Connection: Upgrade.
bool kl_http_header_has_token(const struct kl_http_req *r, struct kl_str name, struct kl_str token);
bool kl_http_is_upgrade(const struct kl_http_req *r); // HTTP/1.1 Connection: Upgrade with Upgrade:
struct kl_loop *kl_http_loop(const struct kl_http_req *r);
const struct sockaddr *kl_http_peer_addr(const struct kl_http_req *r); // AF_UNSPEC once unknown
int64_t kl_http_peer_uid(const struct kl_http_req *r); // of a Unix socket's other end, else -1
struct kl_str kl_http_peer_ip(struct kl_http_req *r);  // "10.0.0.1"; v4-mapped shown as IPv4
// The client's certificate (borrowed) or NULL. *ret_verified: its chain leads to the client CA and
// is valid for client authentication; else *ret_reason (may be NULL) says why not.
X509 *kl_http_peer_cert(const struct kl_http_req *r, bool *ret_verified, const char **ret_reason);
// Memory freed with the request (bound: 64 MiB).
struct kl_arena *kl_http_req_arena(struct kl_http_req *r);
// A pointer of the handler's, and one kept with the connection (a cached identity), freed with it.
void kl_http_req_set_data(struct kl_http_req *r, void *data);
void *kl_http_req_data(const struct kl_http_req *r);
void kl_http_conn_set_data(struct kl_http_req *r, void *data, void (*free_fn)(void *));
void *kl_http_conn_data(const struct kl_http_req *r);
uint64_t kl_http_conn_id(const struct kl_http_req *r); // unique within the server

struct kl_http_req *kl_http_req_ref(struct kl_http_req *r); // loop only
void kl_http_req_unref(struct kl_http_req *r);
// status: 0 the answer was handed over completely; KL_ECANCELED the client went away or reset the
// stream; KL_ETIMEOUT no progress; KL_EUNAVAILABLE the server was stopped; KL_EPROTO bad framing.
// One per request; NULL takes it away.
typedef void (*kl_http_close_cb)(void *arg, struct kl_http_req *r, int status);
void kl_http_req_on_close(struct kl_http_req *r, kl_http_close_cb cb, void *arg);

// ---- The body: one of the two, once. Sends 100-continue when the client waits for it.
// The whole body in one piece, which lives as long as the request. cb comes exactly once, later:
// KL_ETOOLARGE over max_bytes (answer it with 413 yourself; the rest is discarded), KL_ECANCELED,
// KL_ETIMEOUT, KL_EPROTO, KL_ENOMEM.
typedef void (*kl_http_body_cb)(void *arg, struct kl_http_req *r, int status, struct kl_str body);
void kl_http_read_body(struct kl_http_req *r, size_t max_bytes, kl_http_body_cb cb, void *arg);
#define KL_HTTP_MAX_BODY ((size_t)3 * 1024 * 1024) // kube-apiserver's limit for resources
// Piece by piece: status 0 with data; `end` with the last (data may be empty). A negative status is
// the last call. At most 256 KiB come before kl_http_body_consumed gives credit back.
typedef void (*kl_http_data_cb)(void *arg, struct kl_http_req *r, int status, struct kl_str data,
                                bool end);
void kl_http_read_stream(struct kl_http_req *r, kl_http_data_cb cb, void *arg);
void kl_http_body_consumed(struct kl_http_req *r, size_t n);
// The body is a stream of messages: a client that says nothing for long is not closed for it.
void kl_http_body_patient(struct kl_http_req *r);

// ---- The answer. Headers are borrowed for the call. 0, KL_ECANCELED (closed), KL_EEXISTS (already
// answered) or KL_ENOMEM. HEAD requests, 204 and 304 send no body, whatever is given.
int kl_http_respond(struct kl_http_req *r, int status, const struct kl_http_header *h, size_t nh,
                    struct kl_str body); // copied
int kl_http_respond_bytes(struct kl_http_req *r, int status, const struct kl_http_header *h,
                          size_t nh, struct kl_bytes *body); // takes a reference of its own
// A slice of shared bytes. pull hands over the reference it puts here.
struct kl_http_chunk {
    struct kl_bytes *bytes;
    uint32_t off, n;
};
struct kl_http_source {
    // Hands out up to max (≥ 16) slices and returns their number. 0 without *ret_end means: wait;
    // call kl_http_resume when there is more. *ret_end: these were the last (0 is allowed).
    // Negative kl_err: the answer is cut off (reset, or closed without the last chunk). Called only
    // when the connection takes more: at most 256 KiB ahead of the socket per stream plus what one
    // call returns, so keep one call's slices to about 64 KiB unless they are shared anyway.
    int (*pull)(void *arg, struct kl_http_chunk *chunks, int max, bool *ret_end);
    // Exactly once, after the last pull: END was sent, or the request closed. May be NULL. Comes
    // before the request's on_close. Never when kl_http_respond_stream itself failed.
    void (*close)(void *arg);
};
// content-length among the headers is honoured (what is pulled must then add up); without it
// HTTP/1.1 uses chunked. Headers are sent at once, even if the source waits.
int kl_http_respond_stream(struct kl_http_req *r, int status, const struct kl_http_header *h,
                           size_t nh, const struct kl_http_source *src, void *arg);
// The source has more, or has ended. Cheap, any number of times; on the request's loop. The pull
// comes later in the same loop iteration.
void kl_http_resume(struct kl_http_req *r);
// Trailers to send after the body of kl_http_respond_stream; copied; before the end was pulled.
int kl_http_set_trailers(struct kl_http_req *r, const struct kl_http_header *h, size_t nh);
// 1xx (103) or 100 now.
int kl_http_respond_interim(struct kl_http_req *r, int status, const struct kl_http_header *h,
                            size_t nh);
// An answer has begun, or none can be given any more.
bool kl_http_is_answered(const struct kl_http_req *r);
// No answer: resets the stream, closes an HTTP/1.1 connection. on_close comes with KL_ECANCELED.
void kl_http_abort(struct kl_http_req *r);
// Before the answer: closes the connection after it (GOAWAY on HTTP/2).
void kl_http_close_after(struct kl_http_req *r);
// Sends 101 with these headers (Upgrade and Connection: Upgrade are added from `protocol`) and
// gives the raw connection, with bytes that came early. HTTP/1.1 only (KL_EUNSUPPORTED otherwise).
// The request's on_close comes when the duplex has closed.
int kl_http_upgrade(struct kl_http_req *r, struct kl_str protocol, const struct kl_http_header *h,
                    size_t nh, struct kl_duplex **ret, struct kl_error *err);

const char *kl_http_status_text(int status); // "Not Found"; "" when unknown
