// SPDX-License-Identifier: Apache-2.0
// The links of a page, changed as it comes so that they lead through the proxy: what
// apimachinery's proxy.Transport does with golang.org/x/net/html, byte for byte, but as a stream.
// Tags that begin an element are written anew; all else goes on as it came.
#pragma once
#include "apiserver/proxy/link.h"
#include "base/buf.h"

// A tag that is longer ends the rewriting: the rest of the page goes on as it is.
enum { KL_HTML_TAG_MAX = 1 << 20 };

struct kl_html_attr {
    uint32_t key, key_end, value, value_end; // in the tag
};

struct kl_html {
    const struct kl_link_rule *rule;
    struct kl_arena arena; // of one attribute
    int state, back;
    struct kl_buf held; // from "<" until it is known what it begins
    bool is_end, beginning;
    char quote;
    unsigned dashes, matched;
    const char *raw_tag; // whose end is looked for
    uint32_t name_end;
    struct kl_html_attr now, *attrs;
    size_t nattrs, cap;
};

void kl_html_init(struct kl_html *h, const struct kl_link_rule *rule); // borrowed
void kl_html_fini(struct kl_html *h);
// Appends to out, which has an error when it ran out of memory.
void kl_html_feed(struct kl_html *h, struct kl_str data, struct kl_buf *out);
// The page has ended: what was held.
void kl_html_end(struct kl_html *h, struct kl_buf *out);
