// SPDX-License-Identifier: Apache-2.0
// WebSocket (RFC 6455) over a duplex, as server and as client. Used on the duplex's loop only.
#pragma once
#include "net/duplex.h"
#include "net/http.h"
#include "net/http_client.h"

struct kl_ws;

enum kl_ws_op {
    KL_WS_TEXT = 1,
    KL_WS_BINARY = 2,
};

struct kl_ws_cbs {
    // A whole message; borrowed until it returns. Text is checked to be UTF-8.
    void (*on_message)(void *arg, enum kl_ws_op op, struct kl_str data);
    void (*on_drain)(void *arg); // may be NULL; see KL_DUPLEX_HIGH
    // Once, last, never from inside start or send. `code` is the peer's close code (1005: none
    // given), 1006 when the connection broke, 1002/1007/1009 when it was closed here for a bad,
    // non-UTF-8 or too big message.
    void (*on_close)(void *arg, int code, struct kl_str reason);
};

struct kl_ws_opts {
    size_t max_message_bytes; // [1 MiB]
    uint32_t
        ping_interval_ms; // [0: none] a ping on that interval; no pong by the next: closed 1006
};

// The index in `protocols` of the first one that the client offers in Sec-WebSocket-Protocol and
// that is among them (the client's order counts, as in apimachinery's httpstream); -1 when none.
int kl_ws_choose_protocol(const struct kl_http_req *r, const struct kl_str *protocols, size_t n);
// A WebSocket handshake: GET, Upgrade: websocket, version 13 and a key.
bool kl_ws_is_upgrade(const struct kl_http_req *r);
// Answers 101 and makes the server's side. `protocol` may be empty. KL_EBADREQUEST: not a good
// handshake (nothing was answered). h: further headers of the 101.
int kl_ws_accept(struct kl_http_req *r, struct kl_str protocol, const struct kl_http_header *h,
                 size_t nh, const struct kl_ws_opts *o, struct kl_ws **ret, struct kl_error *err);

// Over any duplex, after the handshake; takes the duplex (not started).
int kl_ws_new(struct kl_duplex *d, bool client, const struct kl_ws_opts *o, struct kl_ws **ret,
              struct kl_error *err);
void kl_ws_start(struct kl_ws *ws, const struct kl_ws_cbs *cbs, void *arg);

// The client's handshake and connection. cb comes exactly once, later: with the ws (not started)
// and the protocol the server chose, or with status < 0 (http_status then holds the answer's, or 0;
// the body's first 4 KiB stand in err). spec: host, port, tls, target, headers are used.
typedef void (*kl_ws_dial_cb)(void *arg, int status, struct kl_ws *ws, struct kl_str protocol,
                              int http_status, const struct kl_error *err);
int kl_ws_dial(struct kl_http_client *c, const struct kl_http_call_spec *spec,
               const struct kl_str *protocols, size_t nprotocols, const struct kl_ws_opts *o,
               kl_ws_dial_cb cb, void *arg, struct kl_error *err);

// One message of two parts (head may be empty: a channel byte, say), copied, or by reference.
// KL_ELIMIT over KL_DUPLEX_MAX pending, KL_ECANCELED after close.
int kl_ws_send(struct kl_ws *ws, enum kl_ws_op op, struct kl_str head, struct kl_str data);
int kl_ws_send_bytes(struct kl_ws *ws, enum kl_ws_op op, struct kl_bytes *b);
int kl_ws_ping(struct kl_ws *ws, struct kl_str payload); // ≤ 125 bytes
size_t kl_ws_pending(const struct kl_ws *ws);
bool kl_ws_full(const struct kl_ws *ws); // wait for on_drain
void kl_ws_pause(struct kl_ws *ws);      // stops on_message; the peer is slowed down
void kl_ws_resume(struct kl_ws *ws);
// Sends a close frame after what is queued, waits up to 5 s for the peer's, then closes; on_close
// follows. More calls do nothing.
void kl_ws_close(struct kl_ws *ws, int code, struct kl_str reason);
// The owner is done: no callback comes any more; closes at once when it is still open; frees.
// Needed once in every case; callable from callbacks.
void kl_ws_free(struct kl_ws *ws);
