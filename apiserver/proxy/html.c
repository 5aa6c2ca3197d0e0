// SPDX-License-Identifier: Apache-2.0
// The tokenizer of golang.org/x/net/html as a machine that is given one byte after another: a step
// either takes the byte or leaves it for the state it goes to. A byte that may begin a tag is held
// until it is known; what is held at the end of a page is let go, but an unfinished tag is dropped.
#include "apiserver/proxy/html_int.h"
#include <stdlib.h>

enum state {
    TEXT,
    LESS,  // "<"
    CLOSE, // "</"
    TAG_NAME,
    TAG_GAP,
    TAG_KEY,
    TAG_AFTER_KEY,
    TAG_VALUE,
    TAG_QUOTED,
    TAG_BARE,
    BANG,      // "<!"
    BANG_DASH, // "<!-"
    COMMENT,
    COMMENT_BANG,
    ANGLE, // until ">"
    RAW,   // of elements whose text has no tags: until their end
    RAW_LESS,
    RAW_END,   // "</" and a part of the name; `back` when it is not the end
    TWICE_END, // the same, where the end leads from SCRIPT's inner part to its outer one
    SCRIPT,
    SCRIPT_LESS,
    SCRIPT_BANG,
    SCRIPT_BANG_DASH,
    ONCE, // within "<!--" of a script
    ONCE_DASH,
    ONCE_DASHES,
    ONCE_LESS,
    TWICE_BEGIN, // within that, "<script"
    TWICE,
    TWICE_DASH,
    TWICE_DASHES,
    TWICE_LESS,
    THROUGH, // nothing is looked at any more
};

void kl_html_init(struct kl_html *h, const struct kl_link_rule *rule)
{
    *h = (struct kl_html){.rule = rule, .state = TEXT};
    kl_buf_init(&h->held, KL_HTML_TAG_MAX);
    kl_arena_init(&h->arena, 32 << 20);
}

void kl_html_fini(struct kl_html *h)
{
    kl_buf_fini(&h->held);
    kl_arena_fini(&h->arena);
    free(h->attrs);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f';
}

static bool ends_name(char c)
{
    return is_space(c) || c == '/' || c == '>';
}

static bool let_go(struct kl_html *h, struct kl_buf *out, enum state to)
{
    kl_buf_puts(out, kl_buf_str(&h->held));
    kl_buf_clear(&h->held);
    h->state = to;
    return false;
}

static bool hold(struct kl_html *h, struct kl_buf *out, char c, enum state to)
{
    if (kl_buf_putc(&h->held, c))
        return let_go(h, out, THROUGH);
    h->state = (int)to;
    return true;
}

static bool put(struct kl_html *h, struct kl_buf *out, char c, enum state to)
{
    kl_buf_putc(out, c);
    h->state = (int)to;
    return true;
}

static bool leave(struct kl_html *h, enum state to)
{
    h->state = (int)to;
    return false;
}

// ---- tags

static bool begin_tag(struct kl_html *h, struct kl_buf *out, char c, bool is_end)
{
    h->is_end = is_end;
    h->nattrs = 0;
    return hold(h, out, c, TAG_NAME);
}

// Elements whose text is not looked into.
static const char *raw_name(struct kl_str tag)
{
    static const char *const names[] = {"iframe", "noembed", "noframes", "noscript", "plaintext",
                                        "script", "style",   "textarea", "title",    "xmp"};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_ieq(tag, kl_str(names[i])))
            return names[i];
    return NULL;
}

static bool end_tag(struct kl_html *h, struct kl_buf *out)
{
    enum state to = TEXT;
    if (!hold(h, out, '>', TAG_GAP))
        return false;
    if (h->is_end)
        return let_go(h, out, TEXT), true;
    h->raw_tag = raw_name((struct kl_str){h->held.p + 1, h->name_end - 1});
    if (h->raw_tag)
        to = kl_str_eqz(kl_str(h->raw_tag), "script")      ? SCRIPT
             : kl_str_eqz(kl_str(h->raw_tag), "plaintext") ? THROUGH
                                                           : RAW;
    kl_html_put_tag(h, out);
    kl_buf_clear(&h->held);
    h->state = (int)to;
    return true;
}

static bool end_attr(struct kl_html *h)
{
    if (h->is_end || h->now.key == h->now.key_end)
        return true;
    if (h->nattrs == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 16;
        struct kl_html_attr *a = realloc(h->attrs, cap * sizeof *a);
        if (!a)
            return false;
        h->attrs = a;
        h->cap = cap;
    }
    h->attrs[h->nattrs++] = h->now;
    return true;
}

static bool end_key(struct kl_html *h)
{
    h->now.key_end = h->now.value = h->now.value_end = (uint32_t)h->held.n;
    return leave(h, TAG_AFTER_KEY);
}

static bool step_tag(struct kl_html *h, struct kl_buf *out, char c)
{
    uint32_t at = (uint32_t)h->held.n;
    switch ((enum state)h->state) {
    case TAG_NAME:
        if (!ends_name(c))
            return hold(h, out, c, TAG_NAME);
        h->name_end = at;
        return leave(h, TAG_GAP);
    case TAG_GAP:
        if (is_space(c))
            return hold(h, out, c, TAG_GAP);
        if (c == '>')
            return end_tag(h, out);
        h->now.key = at;
        return leave(h, TAG_KEY);
    case TAG_KEY:
        // An equals sign that comes first is part of the name.
        return ends_name(c) || (c == '=' && at != h->now.key) ? end_key(h)
                                                              : hold(h, out, c, TAG_KEY);
    case TAG_AFTER_KEY:
        if (is_space(c))
            return hold(h, out, c, TAG_AFTER_KEY);
        if (c == '=')
            return hold(h, out, c, TAG_VALUE);
        if (!end_attr(h))
            return let_go(h, out, THROUGH);
        return c == '/' ? hold(h, out, c, TAG_GAP) : leave(h, TAG_GAP);
    case TAG_VALUE:
        if (is_space(c))
            return hold(h, out, c, TAG_VALUE);
        if (c == '>')
            return end_attr(h) ? leave(h, TAG_GAP) : let_go(h, out, THROUGH);
        h->quote = c;
        h->now.value = at + (c == '"' || c == '\'');
        return hold(h, out, c, c == '"' || c == '\'' ? TAG_QUOTED : TAG_BARE);
    case TAG_QUOTED:
    case TAG_BARE:
    default:
        if (h->state == TAG_QUOTED ? c != h->quote : !is_space(c) && c != '>')
            return hold(h, out, c, (enum state)h->state);
        h->now.value_end = at;
        if (!end_attr(h))
            return let_go(h, out, THROUGH);
        return c == '>' && h->state == TAG_BARE ? leave(h, TAG_GAP) : hold(h, out, c, TAG_GAP);
    }
}

// ---- text

static bool step_text(struct kl_html *h, struct kl_buf *out, char c)
{
    switch ((enum state)h->state) {
    case TEXT:
        return c == '<' ? hold(h, out, c, LESS) : put(h, out, c, TEXT);
    case LESS:
        if (is_letter(c))
            return begin_tag(h, out, c, false);
        if (c == '/')
            return hold(h, out, c, CLOSE);
        return let_go(h, out,
                      c == '!'   ? BANG
                      : c == '?' ? ANGLE
                                 : TEXT),
               c == '!' && put(h, out, c, BANG);
    case CLOSE:
        if (is_letter(c))
            return begin_tag(h, out, c, true);
        return let_go(h, out, ANGLE);
    case BANG:
        return c == '-' ? put(h, out, c, BANG_DASH) : leave(h, ANGLE);
    case BANG_DASH:
        h->dashes = 0;
        h->beginning = true;
        return c == '-' ? put(h, out, c, COMMENT) : leave(h, ANGLE);
    case COMMENT:
        if (c == '-') {
            h->dashes++;
            return put(h, out, c, COMMENT);
        }
        if (c == '>' && (h->dashes >= 2 || h->beginning))
            return put(h, out, c, TEXT);
        if (c == '!' && h->dashes >= 2)
            return put(h, out, c, COMMENT_BANG);
        h->dashes = 0;
        h->beginning = false;
        return put(h, out, c, COMMENT);
    case COMMENT_BANG:
        h->dashes = c == '-';
        h->beginning = false;
        return put(h, out, c, c == '>' ? TEXT : COMMENT);
    case ANGLE:
        return put(h, out, c, c == '>' ? TEXT : ANGLE);
    default:
        return put(h, out, c, THROUGH);
    }
}

// ---- elements whose text is raw

static bool look_for_end(struct kl_html *h, struct kl_buf *out, char c, enum state look,
                         enum state back)
{
    h->matched = 0;
    h->back = (int)back;
    return hold(h, out, c, look);
}

static bool step_end(struct kl_html *h, struct kl_buf *out, char c)
{
    char want = h->raw_tag[h->matched];
    if (want ? c != want && c != want - 32 : !ends_name(c))
        return let_go(h, out, (enum state)h->back);
    if (want) {
        h->matched++;
        return hold(h, out, c, (enum state)h->state);
    }
    if (h->state == TWICE_END) {
        let_go(h, out, ONCE);
        return put(h, out, c, ONCE);
    }
    h->is_end = true;
    h->nattrs = 0;
    return leave(h, TAG_NAME);
}

static bool step_raw(struct kl_html *h, struct kl_buf *out, char c)
{
    switch ((enum state)h->state) {
    case RAW:
        return c == '<' ? hold(h, out, c, RAW_LESS) : put(h, out, c, RAW);
    case RAW_LESS:
        return c == '/' ? look_for_end(h, out, c, RAW_END, RAW) : let_go(h, out, RAW);
    case SCRIPT:
        return c == '<' ? hold(h, out, c, SCRIPT_LESS) : put(h, out, c, SCRIPT);
    case SCRIPT_LESS:
        if (c == '/')
            return look_for_end(h, out, c, RAW_END, SCRIPT);
        let_go(h, out, SCRIPT);
        return c == '!' && put(h, out, c, SCRIPT_BANG);
    case SCRIPT_BANG:
        return c == '-' ? put(h, out, c, SCRIPT_BANG_DASH) : leave(h, SCRIPT);
    case SCRIPT_BANG_DASH:
        return c == '-' ? put(h, out, c, ONCE_DASHES) : leave(h, SCRIPT);
    default:
        return step_end(h, out, c);
    }
}

// Within "<!--" of a script.
static bool step_once(struct kl_html *h, struct kl_buf *out, char c)
{
    enum state now = (enum state)h->state;
    switch (now) {
    case ONCE:
    case ONCE_DASH:
    case ONCE_DASHES:
        if (c == '<')
            return hold(h, out, c, ONCE_LESS);
        if (c == '-')
            return put(h, out, c, now == ONCE ? ONCE_DASH : ONCE_DASHES);
        return put(h, out, c, c == '>' && now == ONCE_DASHES ? SCRIPT : ONCE);
    case ONCE_LESS:
        if (c == '/')
            return look_for_end(h, out, c, RAW_END, ONCE);
        h->matched = 0;
        return let_go(h, out, is_letter(c) ? TWICE_BEGIN : SCRIPT);
    default: // TWICE_BEGIN
        if (h->matched == 6)
            return ends_name(c) ? put(h, out, c, TWICE) : leave(h, ONCE);
        if (c != "script"[h->matched] && c != "SCRIPT"[h->matched])
            return leave(h, ONCE);
        h->matched++;
        return put(h, out, c, TWICE_BEGIN);
    }
}

static bool step_twice(struct kl_html *h, struct kl_buf *out, char c)
{
    enum state now = (enum state)h->state;
    if (now == TWICE_LESS)
        return c == '/' ? look_for_end(h, out, c, TWICE_END, TWICE) : leave(h, TWICE);
    if (c == '<')
        return put(h, out, c, TWICE_LESS);
    if (c == '-')
        return put(h, out, c, now == TWICE ? TWICE_DASH : TWICE_DASHES);
    return put(h, out, c, c == '>' && now == TWICE_DASHES ? SCRIPT : TWICE);
}

static bool step(struct kl_html *h, struct kl_buf *out, char c)
{
    if (h->state >= TAG_NAME && h->state <= TAG_BARE)
        return step_tag(h, out, c);
    if (h->state >= RAW && h->state <= SCRIPT_BANG_DASH)
        return step_raw(h, out, c);
    if (h->state >= ONCE && h->state <= TWICE_BEGIN)
        return step_once(h, out, c);
    if (h->state >= TWICE && h->state <= TWICE_LESS)
        return step_twice(h, out, c);
    return step_text(h, out, c);
}

// How much of it can change no state.
static size_t run_of(const struct kl_html *h, struct kl_str s)
{
    ptrdiff_t at = -1;
    switch ((enum state)h->state) {
    case THROUGH:
        return s.n;
    case TEXT:
    case RAW:
    case SCRIPT:
        at = kl_str_chr(s, '<');
        break;
    case ANGLE:
        at = kl_str_chr(s, '>');
        break;
    default:
        return 0;
    }
    return at < 0 ? s.n : (size_t)at;
}

void kl_html_feed(struct kl_html *h, struct kl_str data, struct kl_buf *out)
{
    while (data.n) {
        size_t n = run_of(h, data);
        kl_buf_append(out, data.p, n);
        data = kl_str_from(data, n);
        if (data.n && step(h, out, data.p[0]))
            data = kl_str_from(data, 1);
    }
}

void kl_html_end(struct kl_html *h, struct kl_buf *out)
{
    if (h->state < TAG_NAME || h->state > TAG_BARE)
        let_go(h, out, THROUGH);
}
