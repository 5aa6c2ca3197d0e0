// SPDX-License-Identifier: Apache-2.0
// The parts of SPDY: header blocks (spdy_frame.c), the session (spdy.c), streams (spdy_stream.c).
#pragma once
#include "base/arena.h"
#include "net/spdy.h"
#include <zlib.h>

enum { KL_SPDY_DICTIONARY_BYTES = 1423 };
extern const char kl_spdy_dictionary[KL_SPDY_DICTIONARY_BYTES + 1];

enum {
    KL_SPDY_SYN_STREAM = 1,
    KL_SPDY_SYN_REPLY = 2,
    KL_SPDY_RST_STREAM = 3,
    KL_SPDY_SETTINGS = 4,
    KL_SPDY_PING = 6,
    KL_SPDY_GOAWAY = 7,
    KL_SPDY_HEADERS = 8,
    KL_SPDY_WINDOW_UPDATE = 9,

    KL_SPDY_FLAG_FIN = 1,
    KL_SPDY_RST_PROTOCOL_ERROR = 1,
    KL_SPDY_RST_INVALID_STREAM = 2,
    KL_SPDY_RST_REFUSED_STREAM = 3,
    KL_SPDY_RST_CANCEL = 5,

    KL_SPDY_MAX_DATA = 32 * 1024, // of a frame we send
    KL_SPDY_BACKLOG = 256 * 1024, // unread bytes of a stream; then the session stops reading
};

struct kl_spdy_zip {
    z_stream deflate, inflate;
    bool deflate_open, inflate_open;
};
int kl_spdy_zip_init(struct kl_spdy_zip *z);
void kl_spdy_zip_fini(struct kl_spdy_zip *z);
// Appends a compressed header block; names are written in lower case.
int kl_spdy_pack(struct kl_spdy_zip *z, const struct kl_http_header *h, size_t nh,
                 struct kl_buf *out);
// Decompresses a header block into the arena. KL_EPROTO, KL_ELIMIT, KL_ENOMEM; the compression
// state is then lost and the session must end.
int kl_spdy_unpack(struct kl_spdy_zip *z, struct kl_str in, size_t max, struct kl_arena *a,
                   struct kl_http_header **ret, size_t *ret_n);

struct kl_spdy_stream {
    struct kl_duplex d;
    struct kl_spdy *s;
    struct kl_spdy_stream *prev, *next;
    uint32_t id;
    bool ours, replied, local_fin, remote_fin, fin_waits, linked, discard, blocking, task_queued,
        destroyed, delivering;
    struct kl_buf backlog; // read, not delivered
    struct kl_buf waiting; // written before the reply: spdystream drops what comes earlier
    uint64_t unacked;      // delivered since our last WINDOW_UPDATE
    kl_spdy_reply_cb on_reply;
    void *reply_arg;
    struct kl_task task;
};

struct kl_spdy {
    struct kl_duplex *d;
    struct kl_loop *loop;
    bool client, closing, gone, freed, timer_open;
    int refs; // its owner until freed, streams, the duplex, the timer
    uint32_t max_streams, max_header, window;
    const struct kl_spdy_cbs *cbs;
    void *arg;
    struct kl_spdy_zip zip;
    struct kl_spdy_stream *streams;
    uint32_t nstreams, next_id, last_peer_id, ping_id;
    int blocked; // streams whose backlog is full
    int status;
    unsigned char head[8];
    unsigned head_n;
    bool in_payload;
    uint32_t left;         // of the frame's payload
    struct kl_buf payload; // of a control frame
    uv_timer_t timer;
    struct kl_task task;
};

void kl_spdy_unref(struct kl_spdy *s);
void kl_spdy_update_reading(struct kl_spdy *s);
int kl_spdy_control(struct kl_spdy *s, int type, int flags, struct kl_str payload);
int kl_spdy_control_id(struct kl_spdy *s, int type, uint32_t id, uint32_t value);
static inline uint32_t kl_spdy_u32(const void *at)
{
    const unsigned char *p = at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void kl_spdy_put32(void *at, uint32_t v)
{
    unsigned char *p = at;
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

// spdy_stream.c
struct kl_spdy_stream *kl_spdy_stream_new(struct kl_spdy *s, uint32_t id, bool ours);
struct kl_spdy_stream *kl_spdy_stream_find(struct kl_spdy *s, uint32_t id);
void kl_spdy_stream_data(struct kl_spdy_stream *st, struct kl_str data);
void kl_spdy_stream_fin(struct kl_spdy_stream *st);
void kl_spdy_stream_replied(struct kl_spdy_stream *st, const struct kl_http_header *h, size_t nh);
void kl_spdy_stream_end(struct kl_spdy_stream *st, int status); // reset, or the session's end
