// SPDX-License-Identifier: Apache-2.0
// gRPC client (HTTP/2; unary, server-streaming, bidirectional) over a Unix socket, plain TCP or
// TLS: for CRI, and for a remote etcd.
// Message bytes are the caller's business. One loop. Connects when first used; after a failure it
// connects again with gRPC's back-off (1 s × 1.6, jitter 20 %, at most 3 s as the kubelet's CRI
// client).
#pragma once
#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"

struct kl_tls_ctx;
struct kl_grpc;      // a channel
struct kl_grpc_call; // valid until its done callback

// grpc/codes. The codes of a call are these, not kl_err.
enum kl_grpc_code {
    KL_GRPC_OK = 0,
    KL_GRPC_CANCELED = 1,
    KL_GRPC_UNKNOWN = 2,
    KL_GRPC_INVALID_ARGUMENT = 3,
    KL_GRPC_DEADLINE_EXCEEDED = 4,
    KL_GRPC_NOT_FOUND = 5,
    KL_GRPC_ALREADY_EXISTS = 6,
    KL_GRPC_PERMISSION_DENIED = 7,
    KL_GRPC_RESOURCE_EXHAUSTED = 8,
    KL_GRPC_FAILED_PRECONDITION = 9,
    KL_GRPC_ABORTED = 10,
    KL_GRPC_OUT_OF_RANGE = 11,
    KL_GRPC_UNIMPLEMENTED = 12,
    KL_GRPC_INTERNAL = 13,
    KL_GRPC_UNAVAILABLE = 14,
    KL_GRPC_DATA_LOSS = 15,
    KL_GRPC_UNAUTHENTICATED = 16,
};

struct kl_grpc_opts {
    struct kl_loop *loop;
    const char
        *target; // "unix:///run/containerd/containerd.sock", "/run/...sock", "127.0.0.1:2379"
    size_t max_message_bytes;    // [16 MiB] received (the kubelet's CRI limit)
    uint32_t connect_timeout_ms; // [3000]
    uint32_t ping_after_ms;      // [never] silence on a connection in use, before it is asked
    struct kl_tls_ctx *tls;      // NULL: plain. Referenced.
};

int kl_grpc_new(const struct kl_grpc_opts *o, struct kl_grpc **ret, struct kl_error *err);
// Ends every call with KL_GRPC_CANCELED before it returns.
void kl_grpc_close(struct kl_grpc *g);
// The back-off is forgotten: the next call connects at once (containerd was just started).
void kl_grpc_reset_backoff(struct kl_grpc *g);

// done: exactly once, later. code 0 and the reply's bytes, or a code and the server's message.
// err's code is the kl_err nearest to the gRPC code, its msg "rpc error: code = NotFound desc =
// ..." as Go prints it; err is NULL with KL_GRPC_OK. reply is borrowed.
typedef void (*kl_grpc_done_cb)(void *arg, enum kl_grpc_code code, struct kl_str reply,
                                const struct kl_error *err);
// method: "/runtime.v1.RuntimeService/Version". request: one encoded message, referenced; NULL: an
// empty one. timeout_ms 0: none. While the channel is in back-off a call fails at once with
// UNAVAILABLE and the last connection error. KL_ENOMEM, KL_EINVALID: no callback.
int kl_grpc_unary(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                  uint32_t timeout_ms, kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret,
                  struct kl_error *err);
// Server-streaming: on_message for each reply (borrowed), then done with an empty reply.
typedef void (*kl_grpc_message_cb)(void *arg, struct kl_grpc_call *call, struct kl_str message);
int kl_grpc_stream(struct kl_grpc *g, const char *method, struct kl_bytes *request,
                   uint32_t timeout_ms, kl_grpc_message_cb on_message, kl_grpc_done_cb done,
                   void *arg, struct kl_grpc_call **ret, struct kl_error *err);
// Bidirectional: as a server stream, but what is asked comes with kl_grpc_send, from then on and in
// order, also before the connection stands. message: referenced; NULL: an empty one. KL_ETOOMANY:
// 8 MiB wait already; KL_EINVALID: the call has ended, or kl_grpc_close_send was called; KL_ENOMEM.
int kl_grpc_bidi(struct kl_grpc *g, const char *method, kl_grpc_message_cb on_message,
                 kl_grpc_done_cb done, void *arg, struct kl_grpc_call **ret, struct kl_error *err);
int kl_grpc_send(struct kl_grpc_call *call, struct kl_bytes *message);
int kl_grpc_close_send(struct kl_grpc_call *call);
// In done: whether the server may have seen the request. False when no connection could be made.
bool kl_grpc_was_sent(const struct kl_grpc_call *call);
void kl_grpc_cancel(struct kl_grpc_call *call); // done(CANCELED) comes before it returns
void kl_grpc_pause(struct kl_grpc_call *call);  // no on_message until resumed
void kl_grpc_resume(struct kl_grpc_call *call);

const char *kl_grpc_code_name(int code); // "NotFound"; "Code(42)" is spelt "Unknown"
int kl_grpc_to_err(int code);            // the nearest kl_err; 0 for OK
