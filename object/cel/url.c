// SPDX-License-Identifier: Apache-2.0
// URLs as Go's net/url reads them.
#include "object/cel/url_int.h"
#include "base/buf.h"

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool is_in(char c, const char *set)
{
    return c && strchr(set, c);
}

// The text that is wrong with a percent escape, or NULL.
static const char *escape_error(struct kl_arena *a, struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' &&
            (i + 2 >= s.n || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0)) {
            struct kl_str bad = {s.p + i, s.n - i > 3 ? 3 : s.n - i};
            struct kl_str q = cel_quote(a, bad);
            return kl_arena_printf(a, "invalid URL escape %.*s", KL_PRI(q)).p;
        }
    return NULL;
}

static bool is_port(struct kl_str s)
{
    if (!s.n)
        return true;
    if (s.p[0] != ':')
        return false;
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return true;
}

static const char *host_error(struct kl_arena *a, struct kl_str host)
{
    const char *bad;
    struct kl_str port = KL_STR("");
    ptrdiff_t close = -1, colon = -1;
    for (size_t i = 0; i < host.n; i++) {
        close = host.p[i] == ']' ? (ptrdiff_t)i : close;
        colon = host.p[i] == ':' ? (ptrdiff_t)i : colon;
    }
    if (host.n && host.p[0] == '[') {
        if (close < 0)
            return "missing ']' in host";
        port = kl_str_from(host, (size_t)close + 1);
    } else if (colon >= 0) {
        port = kl_str_from(host, (size_t)colon);
    }
    if (!is_port(port))
        return kl_arena_printf(a, "invalid port %.*s after host", KL_PRI(cel_quote(a, port))).p;
    if ((bad = escape_error(a, host)))
        return bad;
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        if (c == '%') {
            if (hex_digit(host.p[i + 1]) < 8 && !(host.p[i + 1] == '2' && host.p[i + 2] == '5'))
                return kl_arena_printf(a, "invalid URL escape \"%.3s\"", host.p + i).p;
            i += 2;
        } else if ((unsigned char)c < 0x80 && !is_alnum(c) && !is_in(c, "-_.~!$&'()*+,;=:[]<>\"")) {
            struct kl_str q = cel_quote(a, (struct kl_str){&host.p[i], 1});
            return kl_arena_printf(a, "invalid character %.*s in host name", KL_PRI(q)).p;
        }
    }
    return NULL;
}

static const char *authority_error(struct kl_arena *a, struct kl_str authority, struct kl_str *host)
{
    ptrdiff_t at = -1;
    for (size_t i = 0; i < authority.n; i++)
        if (authority.p[i] == '@')
            at = (ptrdiff_t)i;
    *host = at < 0 ? authority : kl_str_from(authority, (size_t)at + 1);
    const char *bad = host_error(a, *host);
    if (bad)
        return bad;
    struct kl_str user = {authority.p, at < 0 ? 0 : (size_t)at};
    for (size_t i = 0; i < user.n; i++)
        if (!is_alnum(user.p[i]) && !is_in(user.p[i], "-._:~!$&'()*+,;=%@"))
            return "net/url: invalid userinfo";
    return escape_error(a, user);
}

struct parsed {
    struct kl_str scheme, authority, host, path, query, opaque;
    bool has_authority, has_query;
};

// The scheme and what follows its colon. NULL or what is wrong.
static const char *scheme_of(struct kl_str s, struct kl_str *ret_scheme, struct kl_str *ret_rest)
{
    *ret_scheme = KL_STR("");
    *ret_rest = s;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            continue;
        if ((c >= '0' && c <= '9') || is_in(c, "+-.")) {
            if (!i)
                return NULL;
            continue;
        }
        if (c != ':')
            return NULL;
        if (!i)
            return "missing protocol scheme";
        *ret_scheme = (struct kl_str){s.p, i};
        *ret_rest = kl_str_from(s, i + 1);
        return NULL;
    }
    return NULL;
}

static const char *parse(struct kl_arena *a, struct kl_str s, bool via_request, struct parsed *u)
{
    struct kl_str rest;
    *u = (struct parsed){0};
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return "net/url: invalid control character in URL";
    if (!s.n && via_request)
        return "empty url";
    u->path = s;
    if (kl_str_eqz(s, "*"))
        return NULL;
    const char *bad = scheme_of(s, &u->scheme, &rest);
    if (bad)
        return bad;
    ptrdiff_t question = kl_str_chr(rest, '?');
    if (question >= 0) {
        u->has_query = true;
        u->query = kl_str_from(rest, (size_t)question + 1);
        rest.n = (size_t)question;
    }
    u->path = rest;
    if (!kl_str_starts(rest, KL_STR("/"))) {
        if (u->scheme.n) {
            u->opaque = rest;
            u->path = KL_STR("");
            return NULL;
        }
        if (via_request)
            return "invalid URI for request";
        ptrdiff_t slash = kl_str_chr(rest, '/'), colon = kl_str_chr(rest, ':');
        if (colon >= 0 && (slash < 0 || colon < slash))
            return "first path segment in URL cannot contain colon";
    }
    if ((u->scheme.n || (!via_request && !kl_str_starts(rest, KL_STR("///")))) &&
        kl_str_starts(rest, KL_STR("//"))) {
        struct kl_str authority = kl_str_from(rest, 2);
        ptrdiff_t slash = kl_str_chr(authority, '/');
        u->path = slash < 0 ? KL_STR("") : kl_str_from(authority, (size_t)slash);
        if (slash >= 0)
            authority.n = (size_t)slash;
        u->has_authority = true;
        u->authority = authority;
        if ((bad = authority_error(a, authority, &u->host)))
            return bad;
    }
    return escape_error(a, u->path);
}

static struct kl_str decoded(struct kl_arena *a, struct kl_str s, bool plus)
{
    char *p = kl_arena_alloc(a, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n; i++) {
        if (s.p[i] == '%') {
            p[n++] = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
            i += 2;
        } else {
            p[n++] = plus && s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return p ? (struct kl_str){p, n} : KL_STR("");
}

static struct kl_str escaped_path(struct kl_arena *a, struct kl_str path)
{
    bool valid = true;
    for (size_t i = 0; i < path.n; i++)
        valid &= is_alnum(path.p[i]) || is_in(path.p[i], "-_.~!$&'()*+,;=:@[]%/");
    if (valid)
        return path;
    struct kl_str plain = decoded(a, path, false);
    struct kl_buf out;
    kl_buf_init(&out, 16 << 20);
    for (size_t i = 0; i < plain.n; i++)
        if (is_alnum(plain.p[i]) || is_in(plain.p[i], "-_.~$&+,/:;=@"))
            kl_buf_putc(&out, plain.p[i]);
        else
            kl_buf_printf(&out, "%%%02X", (unsigned char)plain.p[i]);
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&out));
    kl_buf_fini(&out);
    return text.p ? text : KL_STR("");
}

const char *cel_url_parse(struct kl_arena *a, struct kl_str s, struct cel_url *ret)
{
    struct parsed u;
    struct kl_str shown = s, fragment = KL_STR("");
    const char *bad = parse(a, s, true, &u);
    if (!bad && ret) {
        ptrdiff_t hash = kl_str_chr(s, '#');
        if (hash >= 0) {
            fragment = kl_str_from(s, (size_t)hash);
            s.n = (size_t)hash;
        }
        shown = s;
        bad = parse(a, s, false, &u);
    }
    if (bad) {
        struct kl_str q = cel_quote(a, shown);
        return kl_arena_printf(a, "parse %.*s: %s", KL_PRI(q), bad).p;
    }
    if (!ret)
        return NULL;
    char *scheme = kl_arena_alloc(a, u.scheme.n + 1);
    if (!scheme)
        return "out of memory";
    for (size_t i = 0; i < u.scheme.n; i++)
        scheme[i] = u.scheme.p[i] >= 'A' && u.scheme.p[i] <= 'Z' ? (char)(u.scheme.p[i] | 32)
                                                                 : u.scheme.p[i];
    *ret = (struct cel_url){.text = s,
                            .scheme = {scheme, u.scheme.n},
                            .host = u.has_authority ? decoded(a, u.host, false) : KL_STR(""),
                            .path = escaped_path(a, u.path),
                            .query = u.query.p ? u.query : KL_STR("")};
    ret->whole = kl_arena_printf(
        a, "%.*s%s%.*s%s%.*s%.*s%s%.*s%.*s", KL_PRI(ret->scheme), u.scheme.n ? ":" : "",
        KL_PRI(u.opaque), u.has_authority ? "//" : "", KL_PRI(u.authority), KL_PRI(ret->path),
        u.has_query ? "?" : "", KL_PRI(ret->query), KL_PRI(fragment));
    return ret->whole.p ? NULL : "out of memory";
}
