// SPDX-License-Identifier: Apache-2.0
// HTTP/1.x on a server connection: between http_h1.c (in) and http_h1_out.c (out).
#pragma once
#include "net/http_int.h"
#include <http_parser.h>

//            first byte       headers        body end, answer sent
//   IDLE ----------> HEADERS -------> ACTIVE -------------------> IDLE or drained
//                                        \-- answer sent --> DISCARD (rest of the body) --> IDLE
enum kl_h1_state { KL_H1_IDLE, KL_H1_HEADERS, KL_H1_ACTIVE, KL_H1_DISCARD };

struct kl_h1 {
    http_parser parser;
    struct kl_http_conn *conn;
    enum kl_h1_state state;
    struct kl_http_req *req; // in HEADERS and ACTIVE
    struct kl_h1_text url, field, value;
    size_t head_bytes;
    bool in_value, msg_complete, keep_alive, close_after, chunked, continue_sent;
    int error_status; // why the parser was stopped by a callback
    const char *error_text;
    size_t discarded;
    struct kl_buf stash; // bytes behind the request that is being worked on
    size_t stash_off;
    struct kl_duplex *tunnel;
};

void kl_h1_next(struct kl_h1 *h);           // the answer is out: the next request, or the end
void kl_h1_update_reading(struct kl_h1 *h); // stop or go on reading; the body's deadline
void kl_h1_fill(void *arg);                 // conn op
extern const struct kl_http_proto_ops kl_h1_proto_ops;
