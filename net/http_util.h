// SPDX-License-Identifier: Apache-2.0
// What the server and the client of HTTP share: headers as texts, the date, and how HTTP/1.x writes
// and reads a field.
#pragma once
#include "base/arena.h"
#include "net/http.h"
#include "net/outq.h"

enum { KL_HTTP_ARENA_BYTES = 64 * 1024 * 1024 }; // of a request, of an answer

void kl_http_date(char ret[32], int64_t unix_s); // RFC 9110 IMF-fixdate, NUL-terminated
bool kl_http_header_ok(
    const struct kl_http_header *h);         // a lower-case token, a value without CR, LF, NUL
bool kl_http_hop_header(struct kl_str name); // connection, transfer-encoding, keep-alive, ...
bool kl_http_list_has(struct kl_str list, struct kl_str token);

// "Content-Type: ...\r\n" of a name in lower case. Failure: of the queue, for good.
void kl_h1_put_header(struct kl_outq *q, struct kl_str name, struct kl_str value);

// A text that the parser hands on in pieces, in an arena.
struct kl_h1_text {
    char *p;
    size_t n, cap;
};
// KL_ENOMEM; also when it would have to take `max` bytes or more.
int kl_h1_text_add(struct kl_h1_text *t, struct kl_arena *a, size_t max, struct kl_str piece);
// Name and value of a header once both are whole: the name in lower case, the value trimmed; both
// texts begin anew. false: kl_http_header_ok refuses it (RFC 9110, 5.5).
bool kl_h1_take_header(struct kl_h1_text *name, struct kl_h1_text *value,
                       struct kl_http_header *ret);
