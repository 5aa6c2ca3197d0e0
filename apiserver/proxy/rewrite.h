// SPDX-License-Identifier: Apache-2.0
// The body of an answer on its way through a proxy, when it is a page: unpacked, its links changed,
// packed again as it was. What is held is one tag and what zlib needs.
#pragma once
#include "apiserver/proxy/html.h"
#include <zlib.h>

enum { KL_REWRITE_TURN = 256 << 10 }; // of unpacked text; at most a little more comes out at once

enum kl_coding { KL_CODING_NONE, KL_CODING_GZIP, KL_CODING_DEFLATE };

struct kl_rewrite {
    struct kl_html html;
    enum kl_coding coding;
    struct kl_buf plain; // between the two
    z_stream in, out;
    bool began, ended; // of what is unpacked: it has bytes; one stream is over
};

// False: the coding is none that can be read; the body goes on as it is.
bool kl_rewrite_coding(struct kl_str content_encoding, enum kl_coding *ret);
// 0 or KL_ENOMEM. The rule is borrowed.
int kl_rewrite_init(struct kl_rewrite *x, enum kl_coding coding, const struct kl_link_rule *rule);
void kl_rewrite_fini(struct kl_rewrite *x);
// Takes from *data and appends to out. What is left in *data, since it is packed so well that the
// rest would keep the loop, is to be given again in a later turn. KL_EPROTO: it is not packed as it
// says; KL_ENOMEM.
int kl_rewrite_feed(struct kl_rewrite *x, struct kl_str *data, struct kl_buf *out);
int kl_rewrite_end(struct kl_rewrite *x, struct kl_buf *out);
