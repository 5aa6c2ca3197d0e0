// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "net/ws.h"

enum {
    KL_WS_CONT = 0,
    KL_WS_CLOSE = 8,
    KL_WS_PING = 9,
    KL_WS_PONG = 10,
};

// ---- The frame reader: bytes in, messages out. No I/O.
struct kl_ws_reader {
    bool client; // our role: a client's frames come unmasked, a server's masked
    size_t max_message;
    unsigned char head[14];
    unsigned head_n;
    bool in_payload, fin, stopped;
    int op;         // of the frame
    int message_op; // of the fragmented message, 0: none
    uint64_t left, frame_n;
    unsigned char mask[4];
    struct kl_buf message; // max_message bytes at most
    unsigned char control[125];
    unsigned control_n;
};

struct kl_ws_reader_cbs {
    void (*message)(void *arg, enum kl_ws_op op, struct kl_str data);
    void (*control)(void *arg, int op, struct kl_str data); // close, ping, pong
};

void kl_ws_reader_init(struct kl_ws_reader *r, bool client, size_t max_message);
void kl_ws_reader_fini(struct kl_ws_reader *r);
// Reads frames until the data or `stopped` (set by a callback) ends it. Returns the bytes used;
// *ret_close: 0, or the close code for what is wrong (1002, 1007, 1009); then it must not go on.
size_t kl_ws_reader_feed(struct kl_ws_reader *r, struct kl_str data,
                         const struct kl_ws_reader_cbs *cbs, void *arg, int *ret_close);
// Writes a frame header (at most 14 bytes) with mask (NULL: none); returns its length.
size_t kl_ws_put_header(unsigned char *p, int op, uint64_t n, const unsigned char *mask);
void kl_ws_mask(char *p, size_t n, const unsigned char mask[4], uint64_t offset);
void kl_ws_accept_key(struct kl_str key, char ret[32]); // Sec-WebSocket-Accept, NUL-terminated
