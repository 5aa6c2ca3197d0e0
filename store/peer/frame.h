// SPDX-License-Identifier: Apache-2.0
// What goes over a connection between two servers: frames of a head and a body, all numbers in
// network order. The first frame of the dialling side is HELLO, the first of the other WELCOME;
// both begin with what every version understands. Pure: knows bytes, not sockets.
//
//   head: length of the body u32, type u8, channel u8, 0 u16
#pragma once
#include "base/str.h"

enum {
    KL_FRAME_HEAD = 8,
    KL_FRAME_CONTROL_MAX = 2048,   // body of HELLO, WELCOME, END
    KL_FRAME_DATA_MAX = 64 * 1024, // body of DATA
    KL_FRAME_VERSION = 1,          // of the protocol
    KL_FRAME_VERSION_MIN = 1,      // the oldest we speak
};

enum kl_frame_type {
    KL_FRAME_HELLO = 1,
    KL_FRAME_WELCOME,
    KL_FRAME_ALIVE,   // no body; both sides, so that silence means death
    KL_FRAME_MESSAGE, // of a channel; from who dialled
    KL_FRAME_DATA,    // a piece of a stream; from who was dialled
    KL_FRAME_END,     // of a stream: how it ended
};

struct kl_frame_head {
    uint32_t n;
    uint8_t type, channel;
};
void kl_frame_put_head(unsigned char p[KL_FRAME_HEAD], struct kl_frame_head h);

// Cuts a stream of bytes into frames. begin sees each head first: it gives room for h.n bytes, or
// refuses with a negative kl_err. end comes when they are all there (at once when there are none).
struct kl_frame_ops {
    int (*begin)(void *arg, struct kl_frame_head h, char **ret_room);
    int (*end)(void *arg, struct kl_frame_head h);
};
struct kl_frame_reader {
    unsigned char head[KL_FRAME_HEAD];
    uint32_t head_n, body_n; // how much of each is there
    struct kl_frame_head h;
    char *room;
};
// Not 0: what begin or end returned, or KL_EPROTO; the reader must not be fed again.
int kl_frame_feed(struct kl_frame_reader *r, struct kl_str data, const struct kl_frame_ops *ops,
                  void *arg);

enum kl_hello_kind { KL_HELLO_MESSAGES, KL_HELLO_STREAM };

struct kl_hello {
    uint16_t version, version_min;
    uint8_t kind;
    uint64_t from, to;  // server ids
    uint64_t cluster;   // 0: not known
    uint64_t boot;      // random at each start: two of one id are told apart
    struct kl_str name; // of the stream; borrowed
};
struct kl_welcome {
    uint16_t version; // the one that both speak
    int16_t code;     // 0, or the kl_err why not
    uint64_t cluster, boot;
    struct kl_str text; // why not; borrowed
};

// Encoders write head and body and return the number of bytes; a text that is too long is cut.
size_t kl_hello_encode(const struct kl_hello *h, unsigned char p[static KL_FRAME_CONTROL_MAX]);
size_t kl_welcome_encode(const struct kl_welcome *w, unsigned char p[static KL_FRAME_CONTROL_MAX]);
size_t kl_end_encode(int code, struct kl_str text, unsigned char p[static KL_FRAME_CONTROL_MAX]);
// Decoders of a body: KL_EPROTO when it is none of ours, or cut off. More bytes at the end are
// fine: a later version's.
int kl_hello_decode(struct kl_str body, struct kl_hello *ret);
int kl_welcome_decode(struct kl_str body, struct kl_welcome *ret);
int kl_end_decode(struct kl_str body, int *ret_code, struct kl_str *ret_text);
