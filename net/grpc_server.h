// SPDX-License-Identifier: Apache-2.0
// gRPC on the HTTP/2 server (net/http.h): unary calls and streams in either or both directions, by
// a table of methods. Answers, codes and messages are those of grpc-go. A call belongs to its
// request's loop; everything here runs there.
//
//   request's headers ─ open ─ message* ─ half_close ─ ... ─ kl_grpc_rpc_finish ─ close
//
// A call lives until `close` (exactly once, the last callback: the status was handed over, or the
// client went away, or the deadline passed) has returned and all references are gone. After close a
// referenced call's memory is still good and the functions that answer do nothing.
#pragma once
#include "base/arena.h"
#include "net/grpc.h"
#include "net/http.h"

struct kl_grpc_server;
struct kl_grpc_rpc;

// Zeroed callbacks are allowed but `message`.
struct kl_grpc_method {
    const char *path;   // "/etcdserverpb.KV/Range"
    bool client_stream; // else exactly one message is asked for: a second is an error
    void (*open)(struct kl_grpc_rpc *c);
    // A whole message, borrowed. A unary or server-streaming call gets its only one here and
    // answers now or later.
    void (*message)(struct kl_grpc_rpc *c, struct kl_str msg);
    void (*half_close)(struct kl_grpc_rpc *c); // client_stream: the client has said all
    // After kl_grpc_rpc_want_send: the connection takes more and nothing is queued. May send any
    // number of messages; about 64 KiB is a good amount. Comes again only when asked for again.
    void (*ready)(struct kl_grpc_rpc *c);
    void (*close)(struct kl_grpc_rpc *c);
};

// 0 means the default in brackets.
struct kl_grpc_server_opts {
    const struct kl_grpc_method *const *methods; // tables, each ended by a NULL path; NULL-ended
    void *arg;                                   // kl_grpc_rpc_arg
    size_t max_message_bytes;                    // [4 MiB] received
};

int kl_grpc_server_new(const struct kl_grpc_server_opts *o, struct kl_grpc_server **ret,
                       struct kl_error *err);
// grpc_server_{started,handled,msg_received,msg_sent}_total as go-grpc-middleware has them, and
// etcd_network_client_grpc_{received,sent}_bytes_total, in Prometheus' text format. Any thread.
void kl_grpc_server_write_metrics(const struct kl_grpc_server *s, struct kl_buf *out);
void kl_grpc_server_free(struct kl_grpc_server *s); // after the last request has closed
// True for requests that kl_grpc_serve is for: HTTP/2 with content-type application/grpc.
bool kl_grpc_is(const struct kl_http_req *r);
// From the HTTP handler. Takes over the request: its data, its body, its on_close.
void kl_grpc_serve(struct kl_grpc_server *s, struct kl_http_req *r);

void *kl_grpc_rpc_arg(const struct kl_grpc_rpc *c); // of the server
const struct kl_grpc_method *kl_grpc_rpc_method(const struct kl_grpc_rpc *c);
struct kl_http_req *kl_grpc_rpc_http(struct kl_grpc_rpc *c);
struct kl_loop *kl_grpc_rpc_loop(const struct kl_grpc_rpc *c);
struct kl_arena *kl_grpc_rpc_arena(struct kl_grpc_rpc *c); // freed with the call
void kl_grpc_rpc_set_data(struct kl_grpc_rpc *c, void *data);
void *kl_grpc_rpc_data(const struct kl_grpc_rpc *c);
struct kl_grpc_rpc *kl_grpc_rpc_ref(struct kl_grpc_rpc *c);
void kl_grpc_rpc_unref(struct kl_grpc_rpc *c);
bool kl_grpc_rpc_closed(const struct kl_grpc_rpc *c);
// While held no message comes, and flow control holds the client back.
void kl_grpc_rpc_hold(struct kl_grpc_rpc *c, bool hold);

// ---- A message on its way out: bytes of its own in blocks, and slices of shared bytes. On the
// stack; after a failure (out of memory) everything does nothing and the send fails the call.
struct kl_grpc_out {
    struct kl_http_chunk *chunks, few[6];
    uint32_t n, cap;
    struct kl_bytes *block; // the one being filled; chunks hold references of their own
    uint32_t used, from;    // of the block; where the chunk being filled began
    size_t bytes;
    bool failed;
};
void kl_grpc_out_init(struct kl_grpc_out *o, size_t expect_bytes); // a guess of its own bytes
void kl_grpc_out_fini(struct kl_grpc_out *o);
// For a pull of kl_grpc_rpc_reply_pull: without the frame's prefix, in blocks of block_bytes;
// kl_grpc_out_take hands the slices over and empties o: their number, or KL_ENOMEM.
void kl_grpc_out_init_piece(struct kl_grpc_out *o, size_t block_bytes);
int kl_grpc_out_take(struct kl_grpc_out *o, struct kl_http_chunk *chunks, int max);
// Room for n bytes, then say how many were written. NULL when it failed.
char *kl_grpc_out_room(struct kl_grpc_out *o, size_t n);
static inline void kl_grpc_out_wrote(struct kl_grpc_out *o, size_t n)
{
    o->used += (uint32_t)n;
    o->bytes += n;
}
void kl_grpc_out_put(struct kl_grpc_out *o, const void *p, size_t n);
// Shared bytes: by reference when they are many, else copied.
void kl_grpc_out_bytes(struct kl_grpc_out *o, struct kl_bytes *b, size_t off, size_t n);

// Queues one message. Empties `o`. 0, KL_ECANCELED (closed or finished), KL_ENOMEM (the call was
// failed). What is queued should stay little: see kl_grpc_rpc_want_send.
int kl_grpc_rpc_send(struct kl_grpc_rpc *c, struct kl_grpc_out *o);
int kl_grpc_rpc_send_str(struct kl_grpc_rpc *c, struct kl_str message); // copied
size_t kl_grpc_rpc_queued(const struct kl_grpc_rpc *c); // bytes not yet taken by the connection
void kl_grpc_rpc_want_send(struct kl_grpc_rpc *c);      // `ready` comes, later
// Whether a message of n bytes may be sent. If not the call was failed, as grpc-go fails it.
bool kl_grpc_rpc_fits(struct kl_grpc_rpc *c, size_t n);
// A message too big to be held: its length is told first, then `pull` hands out its slices, which
// must add up to it (see kl_http_source; a negative return resets the stream; after 0 it is asked
// again when kl_grpc_rpc_pull_on was called). `done` comes exactly once when it will be asked no
// more, also when this fails. Only as a call's first and only message; the call is finished with
// OK.
int kl_grpc_rpc_reply_pull(struct kl_grpc_rpc *c, size_t n,
                           int (*pull)(void *arg, struct kl_http_chunk *chunks, int max),
                           void (*done)(void *arg), void *arg);
void kl_grpc_rpc_pull_on(struct kl_grpc_rpc *c);
// The status, after everything queued. Only the first counts. message: UTF-8, copied.
void kl_grpc_rpc_finish(struct kl_grpc_rpc *c, enum kl_grpc_code code, const char *message);
// send and finish(OK).
void kl_grpc_rpc_reply(struct kl_grpc_rpc *c, struct kl_grpc_out *o);

// ---- Calls that do not come as gRPC (a JSON gateway): a front asks for them and takes what they
// send. The request's body and answer stay the front's, its on_close is the call's.
struct kl_grpc_front {
    // There is something to pull, the call has ended, or takes messages again. Any number of times,
    // also in the midst of a service's callback: the work is to be done later.
    void (*more)(void *arg);
    void (*close)(void *arg); // exactly once, the last callback: the request closed
};
// Begins a call of s's method `path`; grpc-timeout is heeded. NULL: out of memory, or there is no
// such method; then neither callback comes.
struct kl_grpc_rpc *kl_grpc_front_open(struct kl_grpc_server *s, struct kl_http_req *r,
                                       struct kl_str path, const struct kl_grpc_front *front,
                                       void *arg);
bool kl_grpc_front_takes(const struct kl_grpc_rpc *c); // a message now (kl_grpc_rpc_hold)
void kl_grpc_front_message(struct kl_grpc_rpc *c, struct kl_str msg);
void kl_grpc_front_half_close(struct kl_grpc_rpc *c);
// As a kl_http_source's pull: the messages with gRPC's prefixes. *ret_end: the status follows.
int kl_grpc_front_pull(struct kl_grpc_rpc *c, struct kl_http_chunk *chunks, int max, bool *ret_end);
// After *ret_end. The message lives as long as the request.
enum kl_grpc_code kl_grpc_front_status(const struct kl_grpc_rpc *c, struct kl_str *ret_message);
