// SPDX-License-Identifier: Apache-2.0
// What the files of the HTTPS transport share: targets, bodies, answers. Pure.
#pragma once
#include "base/buf.h"
#include "client/client.h"
#include "client/https.h"

struct kl_url {
    bool tls;
    char host[256]; // without brackets
    int port;
    struct kl_str path; // "" or "/prefix", without a slash at the end; of the URL
};
int kl_url_parse(struct kl_str url, struct kl_url *ret, struct kl_error *err);

// The request of a call: method, target ("/api/v1/...?query") and body with its content type.
void kl_https_target(struct kl_buf *out, struct kl_str prefix, const struct kl_call *call);
void kl_https_watch_target(struct kl_buf *out, struct kl_str prefix, const struct kl_watch_call *w,
                           int timeout_s);
const char *kl_https_method(const struct kl_call *call);
// Appends the body; *ret_type is NULL when there is none. Negative kl_err.
int kl_https_body(struct kl_buf *out, const struct kl_call *call, bool json_only,
                  const char **ret_type, struct kl_error *err);
bool kl_https_has_protobuf(const struct kl_resource *res);

// Fills the call's results from an answer. `text` must live as long as call->memory.
void kl_https_answer(struct kl_call *call, int status, struct kl_str content_type,
                     struct kl_str text);
// An object of this type from an answer or a frame, frozen. Negative kl_err.
int kl_https_object(struct kl_arena *a, const struct kl_type *type, struct kl_str text,
                    struct kl_object **ret, struct kl_error *err);
// What a Status says: a kl_err and its message. 0 for a Status of success.
int kl_https_status(struct kl_arena *a, struct kl_str text, int http_status, struct kl_error *err);

// One frame of a watch: 1 and what it holds, 0 when the buffer has no whole one, negative kl_err.
struct kl_frame {
    enum kl_event_type type;
    bool is_error; // `object` is a Status
    struct kl_str object;
    size_t bytes; // of the buffer
};
int kl_https_frame(struct kl_arena *a, bool protobuf, struct kl_str buffered, struct kl_frame *ret,
                   struct kl_error *err);
#define KL_FRAME_MAX ((size_t)16 << 20)
