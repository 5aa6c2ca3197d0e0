// SPDX-License-Identifier: Apache-2.0
#include "apiserver/proxy/link.h"
#include "base/buf.h"
#include <arpa/inet.h>

// Where a text stands: what needs no escape there beside letters, digits and "-_.~".
static const char of_path[] = "$&+,/:;=@", of_host[] = "!$&'()*+,;=:[]<>\"",
                  of_user[] = "$&+,;=", of_fragment[] = "$&+,/:;=?@!()*";

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_in(char c, const char *set)
{
    return c && strchr(set, c);
}

static bool is_plain(char c, const char *set)
{
    return is_alnum(c) || is_in(c, "-_.~") || is_in(c, set);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static struct kl_str take(struct kl_arena *a, struct kl_buf *b)
{
    struct kl_str s = b->err ? (struct kl_str){0} : kl_arena_dup(a, kl_buf_str(b));
    kl_buf_fini(b);
    return s;
}

static void put_escaped(struct kl_buf *b, struct kl_str s, const char *set)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (is_plain((char)c, set)) {
            kl_buf_putc(b, (char)c);
            continue;
        }
        kl_buf_putc(b, '%');
        kl_buf_putc(b, digits[c >> 4]);
        kl_buf_putc(b, digits[c & 15]);
    }
}

static struct kl_str escaped(struct kl_arena *a, struct kl_str s, const char *set)
{
    struct kl_buf b;
    kl_buf_init(&b, 3 * s.n + 1);
    put_escaped(&b, s, set);
    return take(a, &b);
}

struct kl_str kl_path_escape(struct kl_arena *a, struct kl_str path)
{
    return kl_str_eqz(path, "*") ? path : escaped(a, path, of_path);
}

// NULL or what is wrong with it. In a host only what is beyond ASCII is written so, and "%25".
static const char *unescape(struct kl_arena *a, struct kl_str s, bool host, struct kl_str *ret)
{
    size_t escapes = 0, n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%') {
            if (i + 2 >= s.n || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0 ||
                (host && hex_digit(s.p[i + 1]) < 8 && memcmp(s.p + i, "%25", 3) != 0)) {
                size_t left = s.n - i < 3 ? s.n - i : 3;
                const char *why =
                    kl_arena_printf(a, "invalid URL escape \"%.*s\"", (int)left, s.p + i).p;
                return why ? why : "out of memory";
            }
            escapes++;
            i += 2;
        } else if (host && (unsigned char)s.p[i] < 0x80 && !is_plain(s.p[i], of_host)) {
            const char *why = kl_arena_printf(a, "invalid character \"%c\" in host name", s.p[i]).p;
            return why ? why : "out of memory";
        }
    }
    *ret = s;
    if (!escapes)
        return NULL;
    char *p = kl_arena_alloc(a, s.n);
    if (!p)
        return "out of memory";
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            p[n++] = s.p[i];
            continue;
        }
        p[n++] = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
        i += 2;
    }
    *ret = (struct kl_str){p, n};
    return NULL;
}

// ---- the authority

static ptrdiff_t last_of(struct kl_str s, char c)
{
    for (size_t i = s.n; i > 0; i--)
        if (s.p[i - 1] == c)
            return (ptrdiff_t)i - 1;
    return -1;
}

static ptrdiff_t find(struct kl_str s, const char *what)
{
    const char *at = s.n ? memmem(s.p, s.n, what, strlen(what)) : NULL;
    return at ? at - s.p : -1;
}

static bool is_port(struct kl_str s)
{
    if (s.n && s.p[0] != ':')
        return false;
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return true;
}

static const char *bad_port(struct kl_arena *a, struct kl_str port)
{
    const char *why = kl_arena_printf(a, "invalid port \"%.*s\" after host", KL_PRI(port)).p;
    return why ? why : "out of memory";
}

// netip.ParseAddr of what stands in brackets.
static bool is_ip6(struct kl_str s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ip;
    ptrdiff_t zone = kl_str_chr(s, '%');
    if (zone >= 0 && (size_t)zone + 1 == s.n)
        return false;
    size_t n = zone >= 0 ? (size_t)zone : s.n;
    if (n >= sizeof text || memchr(s.p, 0, n))
        return false;
    memcpy(text, s.p, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &ip) == 1;
}

// The zone of an address may be written with any escape of what a host may hold, and of a space.
static const char *unescape_zone(struct kl_arena *a, struct kl_str s, struct kl_str *ret)
{
    const char *why = unescape(a, s, false, ret);
    for (size_t i = 0; !why && i < s.n; i++) {
        if (s.p[i] != '%') {
            if ((unsigned char)s.p[i] < 0x80 && !is_plain(s.p[i], of_host))
                return "invalid character in host name";
            continue;
        }
        char c = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
        if (c != '%' && c != ' ' && !is_plain(c, of_host))
            return "invalid URL escape";
        i += 2;
    }
    return why;
}

static const char *parse_ip6(struct kl_arena *a, struct kl_str host, struct kl_str *ret)
{
    ptrdiff_t close = last_of(host, ']');
    struct kl_str ip, zone = KL_STR(""), plain_port;
    const char *why;
    if (close < 0)
        return "missing ']' in host";
    struct kl_str port = kl_str_from(host, (size_t)close + 1);
    if (!is_port(port))
        return bad_port(a, port);
    if ((why = unescape(a, port, true, &plain_port)))
        return why;
    struct kl_str name = {host.p + 1, (size_t)close - 1};
    ptrdiff_t at = find(name, "%25");
    if (at >= 0 && (why = unescape_zone(a, kl_str_from(name, (size_t)at), &zone)))
        return why;
    if (at >= 0)
        name.n = (size_t)at;
    if ((why = unescape(a, name, true, &ip)))
        return why;
    struct kl_str whole =
        kl_arena_printf(a, "[%.*s%.*s]%.*s", KL_PRI(ip), KL_PRI(zone), KL_PRI(plain_port));
    if (!whole.p)
        return "out of memory";
    if (!is_ip6((struct kl_str){whole.p + 1, ip.n + zone.n}))
        return "invalid host";
    *ret = whole;
    return NULL;
}

static const char *parse_host(struct kl_arena *a, struct kl_str scheme, struct kl_str host,
                              struct kl_str *ret)
{
    ptrdiff_t open = last_of(host, '['), first = kl_str_chr(host, ':'), colon = first;
    if (open > 0)
        return "invalid IP-literal";
    if (open == 0)
        return parse_ip6(a, host, ret);
    // Several hosts with ports are let pass where the scheme may be a database's.
    if (!kl_str_eqz(scheme, "http") && !kl_str_eqz(scheme, "https"))
        colon = last_of(host, ':');
    if (colon >= 0 && !is_port(kl_str_from(host, (size_t)colon)))
        return bad_port(a, kl_str_from(host, (size_t)colon));
    return unescape(a, host, true, ret);
}

static const char *parse_authority(struct kl_arena *a, struct kl_str s, struct kl_link *u)
{
    ptrdiff_t at = last_of(s, '@');
    const char *why =
        parse_host(a, u->scheme, at < 0 ? s : kl_str_from(s, (size_t)at + 1), &u->host);
    if (why || at < 0)
        return why;
    struct kl_str user = {s.p, (size_t)at};
    for (size_t i = 0; i < user.n; i++)
        if (!is_alnum(user.p[i]) && !is_in(user.p[i], "-._:~!$&'()*+,;=%@"))
            return "net/url: invalid userinfo";
    ptrdiff_t colon = kl_str_chr(user, ':');
    u->has_user = true;
    u->has_password = colon >= 0;
    if (colon >= 0 &&
        (why = unescape(a, kl_str_from(user, (size_t)colon + 1), false, &u->password)))
        return why;
    if (colon >= 0)
        user.n = (size_t)colon;
    return unescape(a, user, false, &u->user);
}

// ---- the whole

// NULL or what is wrong; *rest is what follows the colon.
static const char *cut_scheme(struct kl_arena *a, struct kl_str *rest, struct kl_str *ret)
{
    struct kl_str s = *rest;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (i && ((c >= '0' && c <= '9') || is_in(c, "+-."))))
            continue;
        if (c != ':')
            return NULL;
        if (!i)
            return "missing protocol scheme";
        char *p = kl_arena_alloc(a, i);
        if (!p)
            return "out of memory";
        for (size_t k = 0; k < i; k++)
            p[k] = s.p[k] >= 'A' && s.p[k] <= 'Z' ? (char)(s.p[k] + 32) : s.p[k];
        *ret = (struct kl_str){p, i};
        *rest = kl_str_from(s, i + 1);
        return NULL;
    }
    return NULL;
}

static void cut_query(struct kl_str *rest, struct kl_link *u)
{
    ptrdiff_t mark = kl_str_chr(*rest, '?');
    if (mark < 0)
        return;
    u->force_query = (size_t)mark + 1 == rest->n;
    u->query = kl_str_from(*rest, (size_t)mark + 1);
    rest->n = (size_t)mark;
}

// Text that is decoded, with how it was written where that is not how it would be.
static const char *set_text(struct kl_arena *a, struct kl_str s, const char *set,
                            struct kl_str *ret, struct kl_str *ret_raw)
{
    const char *why = unescape(a, s, false, ret);
    if (why)
        return why;
    struct kl_str usual = escaped(a, *ret, set);
    if (!usual.p)
        return "out of memory";
    *ret_raw = kl_str_eq(usual, s) ? KL_STR("") : s;
    return NULL;
}

const char *kl_link_parse(struct kl_arena *a, struct kl_str s, struct kl_link *ret)
{
    struct kl_link u = {0};
    const char *why;
    ptrdiff_t hash = kl_str_chr(s, '#');
    struct kl_str rest = s, fragment = KL_STR("");
    if (hash >= 0) {
        rest.n = (size_t)hash;
        fragment = kl_str_from(s, (size_t)hash + 1);
    }
    for (size_t i = 0; i < rest.n; i++)
        if ((unsigned char)rest.p[i] < ' ' || rest.p[i] == 0x7f)
            return "net/url: invalid control character in URL";
    if (kl_str_eqz(rest, "*")) {
        u.path = rest;
    } else {
        if ((why = cut_scheme(a, &rest, &u.scheme)))
            return why;
        cut_query(&rest, &u);
        bool rooted = kl_str_starts(rest, KL_STR("/"));
        if (!rooted && u.scheme.n) {
            u.opaque = rest;
            rest = KL_STR("");
        } else if (!rooted) {
            ptrdiff_t slash = kl_str_chr(rest, '/'), colon = kl_str_chr(rest, ':');
            if (colon >= 0 && (slash < 0 || colon < slash))
                return "first path segment in URL cannot contain colon";
        } else if ((u.scheme.n || !kl_str_starts(rest, KL_STR("///"))) &&
                   kl_str_starts(rest, KL_STR("//"))) {
            struct kl_str authority = kl_str_from(rest, 2);
            ptrdiff_t slash = kl_str_chr(authority, '/');
            rest = slash < 0 ? KL_STR("") : kl_str_from(authority, (size_t)slash);
            if (slash >= 0)
                authority.n = (size_t)slash;
            if ((why = parse_authority(a, authority, &u)))
                return why;
        } else {
            u.omit_host = u.scheme.n > 0;
        }
        if ((why = set_text(a, rest, of_path, &u.path, &u.raw_path)))
            return why;
    }
    if (fragment.n && (why = set_text(a, fragment, of_fragment, &u.fragment, &u.raw_fragment)))
        return why;
    *ret = u;
    return NULL;
}

// ---- writing

// EscapedPath, EscapedFragment: the hint where it still says the same and may stand there.
static void put_hinted(struct kl_arena *a, struct kl_buf *b, struct kl_str s, struct kl_str raw,
                       const char *set)
{
    struct kl_str plain;
    bool valid = raw.n > 0;
    for (size_t i = 0; valid && i < raw.n; i++)
        valid = is_plain(raw.p[i], set) || is_in(raw.p[i], "!$&'()*+,;=:@[]%");
    if (valid && !unescape(a, raw, false, &plain) && kl_str_eq(plain, s))
        kl_buf_puts(b, raw);
    else
        put_escaped(b, s, set);
}

static void put_authority(struct kl_buf *b, const struct kl_link *u)
{
    if (!u->scheme.n && !u->host.n && !u->has_user)
        return;
    if (u->omit_host && !u->host.n && !u->has_user)
        return;
    if (u->host.n || u->path.n || u->has_user)
        kl_buf_puts(b, KL_STR("//"));
    if (u->has_user) {
        put_escaped(b, u->user, of_user);
        if (u->has_password)
            kl_buf_putc(b, ':');
        put_escaped(b, u->password, of_user);
        kl_buf_putc(b, '@');
    }
    put_escaped(b, u->host, of_host);
}

static void put_path(struct kl_arena *a, struct kl_buf *b, const struct kl_link *u)
{
    struct kl_buf path;
    kl_buf_init(&path, 3 * (u->path.n + u->raw_path.n) + 1);
    if (kl_str_eqz(u->path, "*") && !u->raw_path.n)
        kl_buf_putc(&path, '*');
    else
        put_hinted(a, &path, u->path, u->raw_path, of_path);
    struct kl_str text = kl_buf_str(&path);
    if (text.n && text.p[0] != '/' && u->host.n)
        kl_buf_putc(b, '/');
    ptrdiff_t slash = kl_str_chr(text, '/'), colon = kl_str_chr(text, ':');
    if (!b->n && colon >= 0 && (slash < 0 || colon < slash)) // else it would be a scheme
        kl_buf_puts(b, KL_STR("./"));
    kl_buf_puts(b, text);
    b->err = b->err ? b->err : path.err;
    kl_buf_fini(&path);
}

struct kl_str kl_link_text(struct kl_arena *a, const struct kl_link *u)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 << 20);
    kl_buf_puts(&b, u->scheme);
    if (u->scheme.n)
        kl_buf_putc(&b, ':');
    if (u->opaque.n) {
        kl_buf_puts(&b, u->opaque);
    } else {
        put_authority(&b, u);
        put_path(a, &b, u);
    }
    if (u->force_query || u->query.n) {
        kl_buf_putc(&b, '?');
        kl_buf_puts(&b, u->query);
    }
    if (u->fragment.n) {
        kl_buf_putc(&b, '#');
        put_hinted(a, &b, u->fragment, u->raw_fragment, of_fragment);
    }
    return take(a, &b);
}

// ---- paths

struct kl_str kl_path_join(struct kl_arena *a, struct kl_str x, struct kl_str y)
{
    struct kl_buf b;
    struct kl_str whole = y, part;
    bool both = x.n && y.n;
    if (!x.n && !y.n)
        return KL_STR("");
    if (both)
        whole = kl_arena_printf(a, "%.*s/%.*s", KL_PRI(x), KL_PRI(y));
    else if (x.n)
        whole = x;
    if (!whole.p)
        return whole;
    bool rooted = whole.p[0] == '/';
    size_t floor = rooted; // what ".." cannot take away
    kl_buf_init(&b, whole.n + 2);
    if (rooted)
        kl_buf_putc(&b, '/');
    while (kl_str_split(&whole, '/', &part)) {
        if (!part.n || kl_str_eqz(part, "."))
            continue;
        if (kl_str_eqz(part, "..") && b.n > floor) {
            while (b.n > floor && b.p[b.n - 1] != '/')
                b.n--;
            if (b.n > floor)
                b.n--;
            continue;
        }
        if (kl_str_eqz(part, "..") && rooted)
            continue;
        if (b.n > rooted)
            kl_buf_putc(&b, '/');
        kl_buf_puts(&b, part);
        if (kl_str_eqz(part, ".."))
            floor = b.n;
    }
    if (!b.n)
        kl_buf_putc(&b, '.');
    return take(a, &b);
}

// ---- rewriting

struct kl_str kl_link_rewrite(struct kl_arena *a, const struct kl_link_rule *r, struct kl_link *u)
{
    bool other = u->host.n && !kl_str_eq(u->host, r->source) && !kl_str_eq(u->host, r->asked);
    if (other || !kl_str_starts(u->path, KL_STR("/")))
        return kl_link_text(a, u);
    if (!kl_str_eq(u->host, r->asked))
        u->scheme = u->host = KL_STR("");
    if (kl_str_starts(u->path, r->prepend))
        return kl_link_text(a, u);
    bool slash = kl_str_ends(u->path, KL_STR("/"));
    struct kl_str path = kl_path_join(a, r->prepend, u->path);
    if (path.p && slash)
        path = kl_arena_printf(a, "%.*s/", KL_PRI(path));
    if (!path.p)
        return path;
    u->path = path;
    return kl_link_text(a, u);
}
