// SPDX-License-Identifier: Apache-2.0
// What the server and the client of HTTP/2 share: between nghttp2's types and ours.
#pragma once
#include "net/conn_int.h"
#include <nghttp2/nghttp2.h>

// As long as the buffer has its reference.
static inline struct kl_str kl_h2_str(nghttp2_rcbuf *b)
{
    nghttp2_vec v = nghttp2_rcbuf_get_buf(b);
    return (struct kl_str){(const char *)v.base, v.len};
}

// Borrows both.
static inline nghttp2_nv kl_h2_nv(struct kl_str name, struct kl_str value)
{
    return (nghttp2_nv){(uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n,
                        NGHTTP2_NV_FLAG_NONE};
}

// nghttp2's send callback on a connection that is open: a copy waits for the socket.
static inline ssize_t kl_h2_send(struct kl_conn *c, const uint8_t *p, size_t n)
{
    struct kl_outq *q = kl_conn_out(c);
    if (q->bytes >= KL_CONN_OUT_HIGH)
        return NGHTTP2_ERR_WOULDBLOCK;
    return kl_outq_append(q, p, n) ? NGHTTP2_ERR_CALLBACK_FAILURE : (ssize_t)n;
}
