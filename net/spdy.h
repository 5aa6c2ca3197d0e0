// SPDX-License-Identifier: Apache-2.0
// SPDY/3.1 framing over a duplex: the streams of exec, attach and port-forward as containerd's CRI
// streaming server and older kubectl speak them (k8s.io/apimachinery httpstream/spdy,
// moby/spdystream). Client and server role. One loop. Streams are duplexes.
#pragma once
#include "net/duplex.h"
#include "net/http.h"

struct kl_spdy;

struct kl_spdy_cbs {
    // Server role (and pushed streams are refused in the client role): the peer opened a stream.
    // The callee owns it and calls kl_spdy_reply or kl_duplex_close (a reset). Headers are
    // borrowed.
    void (*on_stream)(void *arg, struct kl_duplex *stream, const struct kl_http_header *h,
                      size_t nh);
    // Once, last: 0 after GOAWAY or kl_spdy_close, else KL_EIO, KL_EEOF, KL_EPROTO. Every stream
    // got its on_close before.
    void (*on_close)(void *arg, int status);
};

struct kl_spdy_opts {
    uint32_t max_streams;      // [1000]
    uint32_t max_header_bytes; // [64 KiB]
    uint32_t initial_window;   // [64 KiB, the protocol's] what we announce per stream
    uint32_t ping_interval_ms; // [0: none] upstream's clients ping every 5 s
};

// Takes the duplex (not started) and starts it.
int kl_spdy_new(struct kl_duplex *d, bool client, const struct kl_spdy_opts *o,
                const struct kl_spdy_cbs *cbs, void *arg, struct kl_spdy **ret,
                struct kl_error *err);
// Opens a stream with these headers (streamType: stdin, port, requestID ... any case, sent as
// they are but in lower case). Data may be written at once. on_reply (may be NULL) comes at most
// once, with the SYN_REPLY. A refused stream is on_close with KL_ECANCELED.
typedef void (*kl_spdy_reply_cb)(void *arg, struct kl_duplex *stream,
                                 const struct kl_http_header *h, size_t nh);
int kl_spdy_open(struct kl_spdy *s, const struct kl_http_header *h, size_t nh,
                 kl_spdy_reply_cb on_reply, void *arg, struct kl_duplex **ret,
                 struct kl_error *err);
int kl_spdy_reply(struct kl_duplex *stream, const struct kl_http_header *h, size_t nh);
uint32_t kl_spdy_stream_id(const struct kl_duplex *stream);
void kl_spdy_ping(struct kl_spdy *s);
// Closing a stream (kl_duplex_close) before both sides ended sends RST_STREAM(CANCEL).
// Closes the session: GOAWAY after what is queued, streams get on_close(0), then on_close(0).
void kl_spdy_close(struct kl_spdy *s);
// The owner is done: no session callback comes any more; closes when open. Needed once.
void kl_spdy_free(struct kl_spdy *s);
