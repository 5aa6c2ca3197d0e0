// SPDX-License-Identifier: Apache-2.0
// HTTP/2 on a server connection: between http_h2.c (in, the connection) and http_h2_out.c
// (answers).
#pragma once
#include "net/http_h2_util.h"
#include "net/http_int.h"

enum { KL_H2_LINGER_MS = 500 }; // for the rest of a body after the answer

struct kl_h2 {
    nghttp2_session *session;
    struct kl_http_conn *conn;
    int64_t reset_tokens;
    uint64_t reset_at_ms;
    bool goaway;
    // Of the current read: WINDOW_UPDATE, and any other frame. When only the first came last.
    bool saw_window, saw_other;
    uint64_t window_at_ms;
};

static inline uint64_t kl_h2_now(const struct kl_h2 *h)
{
    return kl_conn_now(h->conn->c);
}

static inline uint64_t kl_h2_progress_ms(const struct kl_h2 *h)
{
    return kl_http_conn_limits(h->conn)->progress_timeout_ms;
}

// The open request of a stream. After the connection was closed by a callback the pointers that
// nghttp2 keeps are stale: nothing is looked up any more.
static inline struct kl_http_req *kl_h2_req(const struct kl_h2 *h, int32_t id)
{
    return h->conn->c ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
}

void kl_h2_set_out_callbacks(nghttp2_session_callbacks *cbs);
