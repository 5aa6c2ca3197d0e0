// SPDX-License-Identifier: Apache-2.0
// A tag written anew, its links changed.
#include "apiserver/proxy/html_int.h"

// Which attributes of which elements are links (proxy/transport.go, atomsToAttrs).
enum { MAX_LINKS = 4 };
static const struct {
    const char *tag, *attrs[MAX_LINKS];
} links[] = {
    {"a", {"href"}},
    {"applet", {"codebase"}},
    {"area", {"href"}},
    {"audio", {"src"}},
    {"base", {"href"}},
    {"blockquote", {"cite"}},
    {"body", {"background"}},
    {"button", {"formaction"}},
    {"command", {"icon"}},
    {"del", {"cite"}},
    {"embed", {"src"}},
    {"form", {"action"}},
    {"frame", {"longdesc", "src"}},
    {"head", {"profile"}},
    {"html", {"manifest"}},
    {"iframe", {"longdesc", "src"}},
    {"img", {"longdesc", "src", "usemap"}},
    {"input", {"src", "usemap", "formaction"}},
    {"ins", {"cite"}},
    {"link", {"href"}},
    {"object", {"classid", "codebase", "data", "usemap"}},
    {"q", {"cite"}},
    {"script", {"src"}},
    {"source", {"src"}},
    {"video", {"poster", "src"}},
};

// Those of the element; NULL: it has none.
static const char *const *links_of(struct kl_str tag)
{
    for (size_t i = 0; i < KL_COUNT(links); i++)
        if (kl_str_eqz(tag, links[i].tag))
            return links[i].attrs;
    return NULL;
}

static bool is_link(const char *const *of, struct kl_str attr)
{
    for (size_t k = 0; of && k < MAX_LINKS && of[k]; k++)
        if (kl_str_eqz(attr, of[k]))
            return true;
    return false;
}

static struct kl_str make_lower(struct kl_html *h, uint32_t from, uint32_t to)
{
    char *p = h->held.p;
    for (uint32_t i = from; i < to; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + 32);
    return (struct kl_str){p + from, to - from};
}

static void put_value(struct kl_html *h, bool link, struct kl_str raw, struct kl_buf *out)
{
    struct kl_buf b;
    struct kl_link u;
    kl_buf_init(&b, 2 * KL_HTML_TAG_MAX);
    kl_html_unescape(raw, &b);
    struct kl_str value = kl_buf_str(&b), changed;
    if (link && !kl_link_parse(&h->arena, value, &u)) {
        changed = kl_link_rewrite(&h->arena, h->rule, &u);
        if (changed.p)
            value = changed;
    }
    kl_html_escape(value, out);
    out->err = out->err ? out->err : b.err;
    kl_buf_fini(&b);
    kl_arena_reset(&h->arena);
}

void kl_html_put_tag(struct kl_html *h, struct kl_buf *out)
{
    struct kl_str tag = make_lower(h, 1, h->name_end);
    const char *const *of = links_of(tag);
    size_t n = h->held.n;
    bool closed = n >= 2 && h->held.p[n - 2] == '/' &&
                  (!h->nattrs || n - 1 != h->attrs[h->nattrs - 1].value_end);
    kl_buf_putc(out, '<');
    kl_buf_puts(out, tag);
    for (size_t i = 0; i < h->nattrs; i++) {
        const struct kl_html_attr *at = &h->attrs[i];
        struct kl_str key = make_lower(h, at->key, at->key_end);
        kl_buf_putc(out, ' ');
        kl_buf_puts(out, key);
        kl_buf_puts(out, KL_STR("=\""));
        put_value(h, is_link(of, key),
                  (struct kl_str){h->held.p + at->value, at->value_end - at->value}, out);
        kl_buf_putc(out, '"');
    }
    kl_buf_puts(out, closed ? KL_STR("/>") : KL_STR(">"));
}
