// SPDX-License-Identifier: Apache-2.0
// Links, paths and pages as a proxy changes them, held to what upstream's code made of the same
// (proxy_vectors/).
#include "apiserver/proxy/rewrite.h"
#include "base/err.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *vectors;

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

// Undoes \xHH in place.
static struct kl_str plain(char *s)
{
    size_t n = 0;
    for (char *p = s; *p; p++) {
        if (*p != '\\') {
            s[n++] = *p;
            continue;
        }
        s[n++] = (char)(hex(p[2]) << 4 | hex(p[3]));
        p += 3;
    }
    return (struct kl_str){s, n};
}

static struct kl_str field(char **line)
{
    char *s = *line, *end = s + strcspn(s, "\t\n");
    *line = *end ? end + 1 : end;
    *end = 0;
    return plain(s);
}

static struct kl_str move_link(struct kl_arena *a, const struct kl_link_rule *rule,
                               struct kl_str from)
{
    struct kl_link u;
    return kl_link_parse(a, from, &u) ? KL_STR("!") : kl_link_rewrite(a, rule, &u);
}

// In pieces of so many bytes.
static void move_page(const struct kl_link_rule *rule, struct kl_str from, size_t piece,
                      struct kl_buf *out)
{
    struct kl_html h;
    kl_html_init(&h, rule);
    for (size_t at = 0; at < from.n; at += piece)
        kl_html_feed(&h, (struct kl_str){from.p + at, from.n - at < piece ? from.n - at : piece},
                     out);
    kl_html_end(&h, out);
    kl_html_fini(&h);
}

static void want(unsigned line, struct kl_str from, struct kl_str got, struct kl_str want_text)
{
    if (!kl_str_eq(got, want_text))
        fail_msg("line %u: \"%.*s\"\n got  \"%.*s\"\n want \"%.*s\"", line, KL_PRI(from),
                 KL_PRI(got), KL_PRI(want_text));
}

static void test_vectors(void **state)
{
    static const size_t pieces[] = {1, 2, 3, 7, 4096};
    FILE *f = fopen(vectors, "re");
    char *text = NULL;
    size_t size = 0;
    unsigned line = 0, links = 0, pages = 0;
    assert_non_null(f);
    while (getline(&text, &size, f) > 0) {
        struct kl_link_rule rule;
        struct kl_arena a;
        char *at = text;
        line++;
        kl_arena_init(&a, 1 << 20);
        rule.prepend = field(&at);
        rule.source = field(&at);
        rule.asked = field(&at);
        bool page = kl_str_eqz(field(&at), "P");
        struct kl_str from = field(&at), to = field(&at);
        if (!page) {
            links++;
            want(line, from, move_link(&a, &rule, from), to);
        }
        for (size_t i = 0; page && i < KL_COUNT(pieces); i++) {
            struct kl_buf out;
            pages++;
            kl_buf_init(&out, 1 << 20);
            move_page(&rule, from, pieces[i], &out);
            want(line, from, kl_buf_str(&out), to);
            kl_buf_fini(&out);
        }
        kl_arena_fini(&a);
    }
    free(text);
    fclose(f);
    assert_true(links > 500 && pages > 500);
}

static void test_join(void **state)
{
    static const char *const cases[][3] = {
        {"", "", ""},
        {"a", "b", "a/b"},
        {"/a", "", "/a"},
        {"", "/a/", "/a"},
        {"/", "", "/"},
        {"/a/../../b", "", "/b"},
        {"a/../..", "", ".."},
        {"..", "../b", "../../b"},
        {"/a//b/./c", "d", "/a/b/c/d"},
        {"a", "..", "."},
        {"/a", "../..", "/"},
    };
    struct kl_arena a;
    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; i < KL_COUNT(cases); i++)
        want((unsigned)i, kl_str(cases[i][0]),
             kl_path_join(&a, kl_str(cases[i][0]), kl_str(cases[i][1])), kl_str(cases[i][2]));
    want(0, KL_STR("escape"), kl_path_escape(&a, KL_STR("/a b/\xc3\xa9?#%!'()*$&+,:;=@[]")),
         KL_STR("/a%20b/%C3%A9%3F%23%25%21%27%28%29%2A$&+,:;=@%5B%5D"));
    kl_arena_fini(&a);
}

static const struct kl_link_rule own = {
    .prepend = KL_STR_INIT("/proxy"), .source = KL_STR_INIT("10.0.0.1"), .asked = KL_STR_INIT("x")};

// A tag that is too long ends it; all goes on as it is.
static void test_long_tag(void **state)
{
    struct kl_html h;
    struct kl_buf out, in;
    kl_buf_init(&out, 8 << 20);
    kl_buf_init(&in, 8 << 20);
    kl_buf_puts(&in, KL_STR("<A HREF=/1><a title=\""));
    for (int i = 0; i < KL_HTML_TAG_MAX; i++)
        kl_buf_putc(&in, '>');
    kl_buf_puts(&in, KL_STR("\"><A HREF=/2>"));
    kl_html_init(&h, &own);
    kl_html_feed(&h, kl_buf_str(&in), &out);
    kl_html_end(&h, &out);
    kl_html_fini(&h);
    struct kl_str got = kl_buf_str(&out);
    assert_true(kl_str_starts(got, KL_STR("<a href=\"/proxy/1\"><a title=\">>>")));
    assert_true(kl_str_ends(got, KL_STR(">>\"><A HREF=/2>")));
    assert_int_equal(out.n, in.n + strlen("<a href=\"/proxy/1\">") - strlen("<A HREF=/1>"));
    kl_buf_fini(&out);
    kl_buf_fini(&in);
}

// As many links in one tag as there is room for: none is left as it was.
static void test_many_links(void **state)
{
    enum { LINKS = (KL_HTML_TAG_MAX - 16) / 8 };
    struct kl_html h;
    struct kl_buf out, in;
    kl_buf_init(&out, 16 << 20);
    kl_buf_init(&in, KL_HTML_TAG_MAX);
    kl_buf_puts(&in, KL_STR("<a"));
    for (int i = 0; i < LINKS; i++)
        kl_buf_puts(&in, KL_STR(" href=/x"));
    kl_buf_putc(&in, '>');
    kl_html_init(&h, &own);
    kl_html_feed(&h, kl_buf_str(&in), &out);
    kl_html_end(&h, &out);
    kl_html_fini(&h);
    assert_int_equal(out.n, strlen("<a>") + LINKS * strlen(" href=\"/proxy/x\""));
    kl_buf_fini(&out);
    kl_buf_fini(&in);
}

static void pack(enum kl_coding coding, struct kl_str s, struct kl_buf *out)
{
    z_stream z = {0};
    int window = coding == KL_CODING_GZIP ? 31 : -15;
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    kl_buf_reserve(out, 1 << 20);
    z.next_in = (Bytef *)(uintptr_t)s.p;
    z.avail_in = (uInt)s.n;
    z.next_out = (Bytef *)out->p + out->n;
    z.avail_out = 1 << 20;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->n += (1 << 20) - z.avail_out;
    deflateEnd(&z);
}

static void unpack(enum kl_coding coding, struct kl_str s, struct kl_buf *out)
{
    z_stream z = {0};
    assert_int_equal(inflateInit2(&z, coding == KL_CODING_GZIP ? 31 : -15), Z_OK);
    kl_buf_reserve(out, 4 << 20);
    z.next_in = (Bytef *)(uintptr_t)s.p;
    z.avail_in = (uInt)s.n;
    z.next_out = (Bytef *)out->p;
    z.avail_out = 4 << 20;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    out->n = (4 << 20) - z.avail_out;
    assert_int_equal(z.avail_in, 0);
    inflateEnd(&z);
}

// How it ended.
static int rewrite(enum kl_coding coding, struct kl_str in, size_t piece, struct kl_buf *out)
{
    struct kl_rewrite x;
    int rc = kl_rewrite_init(&x, coding, &own);
    assert_int_equal(rc, 0);
    for (size_t at = 0; !rc && at < in.n; at += piece) {
        struct kl_str data = {in.p + at, in.n - at < piece ? in.n - at : piece};
        while (!rc && data.n)
            rc = kl_rewrite_feed(&x, &data, out);
    }
    if (!rc)
        rc = kl_rewrite_end(&x, out);
    kl_rewrite_fini(&x);
    return rc;
}

static void test_packed(void **state)
{
    struct kl_buf page, seen, packed, out, text;
    kl_buf_init(&page, 4 << 20);
    kl_buf_init(&seen, 4 << 20);
    for (int i = 0; i < 5000; i++) {
        kl_buf_printf(&page, "<a href='/%d'>%d</a>\n", i * 7919, i);
        kl_buf_printf(&seen, "<a href=\"/proxy/%d\">%d</a>\n", i * 7919, i);
    }
    for (enum kl_coding c = KL_CODING_GZIP; c <= KL_CODING_DEFLATE; c++) {
        for (size_t piece = 1; piece < 1000000; piece = piece * 41 + 1) {
            kl_buf_init(&packed, 4 << 20);
            kl_buf_init(&out, 4 << 20);
            kl_buf_init(&text, 8 << 20);
            pack(c, kl_buf_str(&page), &packed);
            assert_int_equal(rewrite(c, kl_buf_str(&packed), piece, &out), 0);
            unpack(c, kl_buf_str(&out), &text);
            assert_true(kl_str_eq(kl_buf_str(&text), kl_buf_str(&seen)));
            struct kl_str half = {packed.p, packed.n / 2};
            assert_int_equal(rewrite(c, half, piece, &out), KL_EPROTO);
            packed.p[packed.n / 2] ^= 0x55;
            if (c == KL_CODING_GZIP) // the other has no sum
                assert_int_equal(rewrite(c, kl_buf_str(&packed), piece, &out), KL_EPROTO);
            kl_buf_fini(&packed);
            kl_buf_fini(&out);
            kl_buf_fini(&text);
        }
    }
    // Two streams, one behind the other; and none.
    kl_buf_init(&packed, 4 << 20);
    kl_buf_init(&out, 4 << 20);
    kl_buf_init(&text, 8 << 20);
    pack(KL_CODING_GZIP, KL_STR("<a hr"), &packed);
    pack(KL_CODING_GZIP, KL_STR("ef=/x>"), &packed);
    assert_int_equal(rewrite(KL_CODING_GZIP, kl_buf_str(&packed), 5, &out), 0);
    unpack(KL_CODING_GZIP, kl_buf_str(&out), &text);
    want(0, KL_STR("two streams"), kl_buf_str(&text), KL_STR("<a href=\"/proxy/x\">"));
    kl_buf_clear(&out);
    assert_int_equal(rewrite(KL_CODING_GZIP, KL_STR(""), 5, &out), 0);
    assert_int_equal(out.n, 0);
    kl_buf_fini(&packed);
    kl_buf_fini(&out);
    kl_buf_fini(&text);
    kl_buf_fini(&page);
    kl_buf_fini(&seen);
}

// What is packed a thousand to one is unpacked a little at a time, and so are streams of nothing.
static void test_bomb(void **state)
{
    enum { PAGE = 8 << 20 };
    struct kl_buf page, packed, out;
    kl_buf_init(&page, PAGE);
    kl_buf_init(&out, 8 << 20);
    for (size_t i = 0; i < PAGE; i++)
        kl_buf_putc(&page, 'x');
    for (int empty = 0; empty < 2; empty++) {
        struct kl_rewrite x;
        kl_buf_init(&packed, 4 << 20);
        if (empty)
            for (int i = 0; i < 1000; i++)
                pack(KL_CODING_GZIP, KL_STR(""), &packed);
        else
            pack(KL_CODING_GZIP, kl_buf_str(&page), &packed);
        assert_int_equal(kl_rewrite_init(&x, KL_CODING_GZIP, &own), 0);
        struct kl_str data = kl_buf_str(&packed);
        size_t turns = 0, before = 0;
        for (; data.n; turns++) {
            assert_int_equal(kl_rewrite_feed(&x, &data, &out), 0);
            assert_true(x.out.total_in - before <= KL_REWRITE_TURN + (64 << 10));
            before = x.out.total_in;
        }
        assert_int_equal(before, empty ? 0 : PAGE);
        assert_true(turns >= (empty ? 3 : PAGE / (KL_REWRITE_TURN + (64 << 10))));
        assert_int_equal(kl_rewrite_end(&x, &out), 0);
        kl_rewrite_fini(&x);
        kl_buf_fini(&packed);
    }
    kl_buf_fini(&out);
    kl_buf_fini(&page);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_join),
        cmocka_unit_test(test_long_tag), cmocka_unit_test(test_many_links),
        cmocka_unit_test(test_packed),   cmocka_unit_test(test_bomb),
    };
    vectors = argc > 1 ? argv[1] : "proxy_vectors.txt";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
