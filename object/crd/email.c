// SPDX-License-Identifier: Apache-2.0
// One mail address as net/mail.ParseAddress takes it: RFC 5322 with UTF-8, a display name before
// an address in angle brackets, comments between. Groups are not taken.
#include "object/crd/crd_int.h"
#include "object/names.h"
#include <ctype.h>

struct reader {
    const char *p, *end;
};

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
        r->p++;
}

static bool take(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static bool is_visible(unsigned char c)
{
    return c >= 0x80 || (c > 0x20 && c < 0x7f);
}

static bool is_atom_byte(unsigned char c)
{
    return is_visible(c) && !strchr("()<>[]:;@\\,\"", c);
}

static bool read_atom(struct reader *r, bool permissive)
{
    const char *from = r->p;
    while (r->p < r->end && is_atom_byte((unsigned char)*r->p))
        r->p++;
    struct kl_str s = {from, (size_t)(r->p - from)};
    if (!s.n)
        return false;
    for (size_t i = 1; i < s.n && !permissive; i++)
        if (s.p[i] == '.' && s.p[i - 1] == '.')
            return false;
    return permissive || (s.p[0] != '.' && s.p[s.n - 1] != '.');
}

// Behind the opening quote; *ret_empty when nothing is between the two.
static bool read_quoted(struct reader *r, bool *ret_empty)
{
    const char *from = ++r->p;
    for (; r->p < r->end; r->p++) {
        unsigned char c = (unsigned char)*r->p;
        if (c == '"') {
            *ret_empty = r->p == from;
            r->p++;
            return true;
        }
        if (c == '\\') {
            if (++r->p == r->end)
                return false;
            c = (unsigned char)*r->p;
        }
        if (!is_visible(c) && c != ' ' && c != '\t')
            return false;
    }
    return false;
}

static bool skip_comment(struct reader *r)
{
    int depth = 1;
    for (r->p++; r->p < r->end && depth; r->p++) {
        if (*r->p == '\\' && r->p + 1 < r->end)
            r->p++;
        else
            depth += *r->p == '(' ? 1 : *r->p == ')' ? -1 : 0;
    }
    return depth == 0;
}

// White space and comments.
static bool skip_all(struct reader *r)
{
    skip_space(r);
    while (r->p < r->end && *r->p == '(') {
        if (!skip_comment(r))
            return false;
        skip_space(r);
    }
    return true;
}

static bool read_literal(struct reader *r)
{
    const char *from = ++r->p;
    while (r->p < r->end && *r->p != ']') {
        if (!is_visible((unsigned char)*r->p) || *r->p == '[' || *r->p == '\\')
            return false;
        r->p++;
    }
    return r->p > from && take(r, ']');
}

static bool read_spec(struct reader *at)
{
    struct reader r = *at;
    bool empty = false;
    skip_space(&r);
    if (r.p == r.end)
        return false;
    if (*r.p == '"' ? !read_quoted(&r, &empty) || empty : !read_atom(&r, false))
        return false;
    if (!take(&r, '@'))
        return false;
    skip_space(&r);
    if (r.p == r.end)
        return false;
    if (*r.p == '[' ? !read_literal(&r) : !read_atom(&r, false))
        return false;
    *at = r;
    return true;
}

static bool read_phrase(struct reader *r)
{
    size_t words = 0;
    bool empty;
    for (;; words++) {
        struct reader before = *r;
        if (words && !skip_all(r))
            return false;
        skip_space(r);
        bool word = r->p < r->end && (*r->p == '"' ? read_quoted(r, &empty) : read_atom(r, true));
        if (!word) {
            if (!words)
                return false;
            *r = r->p < r->end && *r->p == '<' ? *r : before;
            return true;
        }
    }
}

bool crd_is_email(struct kl_str s)
{
    struct reader r = {s.p, s.p + s.n};
    if (!kl_utf8_valid(s))
        return false;
    skip_space(&r);
    if (r.p == r.end)
        return false;
    if (!read_spec(&r)) {
        if (*r.p != '<' && !read_phrase(&r))
            return false;
        skip_space(&r);
        if (!take(&r, '<') || !read_spec(&r) || !take(&r, '>'))
            return false;
    }
    return skip_all(&r) && r.p == r.end;
}

bool kl_name_is_mail(struct kl_str s)
{
    return crd_is_email(s);
}
