// SPDX-License-Identifier: Apache-2.0
// A page on its way through the proxy: in one piece and in pieces it comes out the same, and once
// more through the proxy its tags still are tags. Its text is tried as a link too: what is printed
// of one is read as the same. The first byte is the length of the pieces.
#include "apiserver/proxy/html.h"
#include "fuzz.h"

enum { PAGE_MAX = 1 << 20 };

static const struct kl_link_rule rule = {
    .prepend = KL_STR_INIT("/api/v1/namespaces/n/pods/p:80/proxy"),
    .source = KL_STR_INIT("10.0.0.1:80"),
    .asked = KL_STR_INIT("api.example:6443"),
};

static void rewrite(struct kl_str page, size_t piece, struct kl_buf *out)
{
    struct kl_html h;
    kl_html_init(&h, &rule);
    for (size_t at = 0; at < page.n; at += piece) {
        size_t n = page.n - at < piece ? page.n - at : piece;
        kl_html_feed(&h, (struct kl_str){page.p + at, n}, out);
    }
    kl_html_end(&h, out);
    FUZZ_CHECK(!out->err, "%d", out->err);
    kl_html_fini(&h);
}

static void try_page(struct kl_str page, size_t piece)
{
    struct kl_buf whole, parts;
    kl_buf_init(&whole, 64 * PAGE_MAX);
    kl_buf_init(&parts, 64 * PAGE_MAX);
    rewrite(page, page.n + 1, &whole);
    rewrite(page, piece, &parts);
    FUZZ_CHECK(kl_str_eq(kl_buf_str(&whole), kl_buf_str(&parts)), "pieces of %zu", piece);
    kl_buf_clear(&parts);
    rewrite(kl_buf_str(&whole), piece, &parts);
    kl_buf_fini(&whole);
    kl_buf_fini(&parts);
}

static void try_link(struct kl_str text)
{
    struct kl_arena a;
    struct kl_link u, again;
    kl_arena_init(&a, 32 << 20);
    if (!kl_link_parse(&a, text, &u)) {
        struct kl_str printed = kl_link_text(&a, &u);
        // Go prints such a path as it is, and reads the beginning as a host: "/%2Fb\xff".
        bool as_host = !u.host.n && !u.has_user && kl_str_starts(u.path, KL_STR("//"));
        FUZZ_CHECK(printed.p, "out of memory");
        if (!as_host && !kl_link_parse(&a, printed, &again))
            FUZZ_CHECK(kl_str_eq(printed, kl_link_text(&a, &again)), "%.*s", KL_PRI(printed));
        FUZZ_CHECK(kl_link_rewrite(&a, &rule, &u).p, "%.*s", KL_PRI(printed));
    }
    kl_arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > PAGE_MAX)
        return 0;
    struct kl_str page = {(const char *)data + 1, size - 1};
    try_page(page, 1 + data[0] % 16);
    try_link(page);
    return 0;
}
