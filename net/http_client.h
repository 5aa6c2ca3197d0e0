// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 and HTTP/2 client on one loop, with a pool of kept connections per target. Plain or TLS,
// TCP or Unix socket. HTTP/2 by ALPN, or by prior knowledge.
//
// kl_http_call starts a call and returns at once: when it fails no callback comes; when it succeeds
// on_end comes exactly once, later, and is the last. Everything on the client's loop.
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "net/duplex.h"
#include "net/http.h"
#include "net/tls.h"

struct kl_http_client;
struct kl_http_call;

enum kl_http_proto {
    KL_HTTP_AUTO, // ALPN on TLS; HTTP/1.1 on plain
    KL_HTTP_1,    // HTTP/1.1 only
    KL_HTTP_2,    // HTTP/2 only (prior knowledge on plain)
};

struct kl_http_client_opts {
    struct kl_loop *loop;
    uint32_t max_conns_per_target; // [0: no limit] HTTP/1.1; more calls wait in order
    uint32_t
        max_idle_per_target;     // [25] kept HTTP/1.1 connections (client-go's MaxIdleConnsPerHost)
    uint32_t idle_timeout_ms;    // [90000]
    uint32_t connect_timeout_ms; // [30000] name, TCP and TLS together
    uint32_t ping_after_ms;      // [30000] HTTP/2 PING on a silent connection in use; closed when
                                 // no answer comes within 15 s (client-go's read idle time-out)
};

int kl_http_client_new(const struct kl_http_client_opts *o, struct kl_http_client **ret,
                       struct kl_error *err);
// Cancels every call (their on_end comes with KL_ECANCELED before this returns), closes every
// connection; the memory follows within the next loop iterations. Tunnels live on.
void kl_http_client_close(struct kl_http_client *c);
// Drops kept connections (a new certificate); calls in flight go on.
void kl_http_client_drop_idle(struct kl_http_client *c);
// Likewise those that were made with this context.
void kl_http_client_drop_tls(struct kl_http_client *c, const struct kl_tls_ctx *tls);

// All is borrowed for the call of kl_http_call_start, but body (referenced) and tls (referenced).
struct kl_http_call_spec {
    const char *host; // name or literal address, IPv6 without brackets
    int port;
    const char *unix_path;  // instead of host and port; host is then only the Host header
    struct kl_tls_ctx *tls; // NULL: plain
    enum kl_http_proto proto;
    struct kl_str method;                 // "GET" when empty
    struct kl_str target;                 // "/path?query"
    const struct kl_http_header *headers; // lower case; host and content-length are added
    size_t nheaders;
    struct kl_bytes *body;      // NULL: none
    struct kl_str body_str;     // instead of body; copied
    uint32_t timeout_ms;        // to the end of the whole call; 0: none
    uint32_t header_timeout_ms; // to the response's headers; 0: none
    bool upgrade;     // see on_upgrade; HTTP/1.1 is used. The caller gives Upgrade and Connection.
    bool stream_body; // the body goes on with kl_http_call_send; such a call is sent once
    uint64_t body_length; // of a streamed body; 0: not known (HTTP/1.1 sends it in chunks)
};

struct kl_http_call_cbs {
    // Final headers (1xx are skipped). Borrowed; names in lower case.
    void (*on_headers)(void *arg, struct kl_http_call *call, int status,
                       const struct kl_http_header *h, size_t nh);
    void (*on_data)(void *arg, struct kl_http_call *call, struct kl_str data); // borrowed
    // 101: the connection is the caller's (not started); comes after on_headers, before on_end(0).
    // NULL when the call is not an upgrade.
    void (*on_upgrade)(void *arg, struct kl_http_call *call, struct kl_duplex *d);
    // status 0: the answer is complete. KL_ECANCELED, KL_ETIMEOUT, KL_EUNAVAILABLE (could not
    // connect; the request was not sent), KL_EIO (broken underway), KL_EPROTO, KL_EUNAUTHORIZED
    // (the server's certificate was not accepted). The call is gone when it returns.
    void (*on_end)(void *arg, struct kl_http_call *call, int status, const struct kl_error *err);
    // So many bytes of what kl_http_call_send took are on their way. May be NULL.
    void (*on_sent)(void *arg, struct kl_http_call *call, size_t n);
};

int kl_http_call_start(struct kl_http_client *c, const struct kl_http_call_spec *spec,
                       const struct kl_http_call_cbs *cbs, void *arg, struct kl_http_call **ret,
                       struct kl_error *err);
// More of a body with stream_body: takes the reference, NULL for none; `end` says that this was
// all. KL_ETOOMANY: 8 MiB wait for the server already; KL_EINVALID: it has ended; KL_ENOMEM.
#define KL_HTTP_STREAM_MAX (8u << 20)
int kl_http_call_send(struct kl_http_call *call, struct kl_bytes *data, bool end);
// Ends the call: on_end(KL_ECANCELED) comes before it returns.
void kl_http_call_cancel(struct kl_http_call *call);
// Stops on_data; the server is slowed down by flow control. Resumed data comes later.
void kl_http_call_pause(struct kl_http_call *call);
void kl_http_call_resume(struct kl_http_call *call);
// In on_data: its end, which comes again in a later turn of the loop, before anything else does.
// For what costs much time; the server is slowed down meanwhile. KL_ENOMEM.
int kl_http_call_put_back(struct kl_http_call *call, struct kl_str data);
struct kl_str kl_http_call_header(const struct kl_http_call *call, struct kl_str name);
struct kl_str kl_http_call_trailer(const struct kl_http_call *call,
                                   struct kl_str name); // in on_end
// All of them, in the order they came; borrowed.
const struct kl_http_header *kl_http_call_trailers(const struct kl_http_call *call, size_t *ret_n);
int kl_http_call_version(const struct kl_http_call *call); // 11 or 20, from on_headers on
int kl_http_call_status(const struct kl_http_call *call);

// The whole answer in one piece, for small ones: cb exactly once, later, with the HTTP status (or a
// negative kl_err), the body (borrowed), and err set when negative. Over max_bytes: KL_ETOOLARGE.
typedef void (*kl_http_fetch_cb)(void *arg, int status, struct kl_str body,
                                 const struct kl_error *err);
int kl_http_fetch(struct kl_http_client *c, const struct kl_http_call_spec *spec, size_t max_bytes,
                  kl_http_fetch_cb cb, void *arg, struct kl_http_call **ret_or_null,
                  struct kl_error *err);
