// SPDX-License-Identifier: Apache-2.0
// Compressed answers, as apiserver's responsewriters give them: to who takes gzip, from 128 KiB on,
// never to peers on the loopback, where bytes cost less than compressing them.
#pragma once
#include "apiserver/server_int.h"

enum { KL_GZIP_MIN_BYTES = 128 << 10 };

// Whether this client may be given gzip.
bool kl_gzip_wanted(struct kl_http_req *hr);
// kl_http_respond_stream, compressed when the client takes it and there is enough. What `src` gives
// first is asked for at once to know. Takes over the answer as that does: when it fails, `close` is
// not called. At most KL_GZIP_MAX_HEADERS headers.
enum { KL_GZIP_MAX_HEADERS = KL_COMMON_HEADERS + 16 };
int kl_gzip_respond(struct kl_api_call *c, int status, const struct kl_http_header *h, size_t nh,
                    const struct kl_http_source *src, void *arg);
// The same for a body that is there (of status 200): a compressed one (a new reference) and
// further headers, or `body` itself with another reference.
struct kl_bytes *kl_gzip_body(struct kl_http_req *hr, struct kl_bytes *body,
                              struct kl_http_header *h, size_t *nh, size_t max);
